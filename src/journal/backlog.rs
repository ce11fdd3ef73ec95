//! The latest part of the replication stream, kept for replicas that come
//! back, and for those that have not read it yet.
//!
//! Positions count the bytes of the stream from its beginning: the position of
//! a reader is the number of bytes it has. (Redis's offsets are these numbers;
//! its first byte's offset is the first position plus one.)
//!
//! The bytes lie in blocks. The oldest block is dropped once all of it is
//! older than the backlog's size and no attached reader still needs it, so a
//! reader that lags makes the backlog larger; who reads watches
//! [`Backlog::lag`] and drops readers that lag too far.

use std::collections::VecDeque;

/// Capacity of a block: a sixteenth of the backlog, within these bounds.
const BLOCK_MIN: usize = 16 << 10;
const BLOCK_MAX: usize = 1 << 20;

struct Block {
    /// Position of its first byte.
    start: u64,
    bytes: Vec<u8>,
}

/// A reader's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(usize);

/// See the module's description.
pub struct Backlog {
    size: u64,
    blocks: VecDeque<Block>,
    /// Position of the first byte kept.
    first: u64,
    /// Position after the last byte.
    end: u64,
    readers: Vec<Option<u64>>,
}

impl Backlog {
    /// An empty backlog of `size` bytes for the stream from position `end` on.
    pub fn new(size: u64, end: u64) -> Backlog {
        Backlog { size, blocks: VecDeque::new(), first: end, end, readers: Vec::new() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    /// The stream's length: `master_repl_offset`.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes kept (`repl_backlog_histlen`).
    pub fn len(&self) -> u64 {
        self.end - self.first
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.blocks.iter().map(|b| b.bytes.capacity()).sum()
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        let capacity = (self.size as usize / 16).clamp(BLOCK_MIN, BLOCK_MAX);
        while !bytes.is_empty() {
            if self.blocks.back().is_none_or(|b| b.bytes.len() == b.bytes.capacity()) {
                self.blocks.push_back(Block { start: self.end, bytes: Vec::with_capacity(capacity) });
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let n = bytes.len().min(block.bytes.capacity() - block.bytes.len());
            block.bytes.extend_from_slice(&bytes[..n]);
            self.end += n as u64;
            bytes = &bytes[n..];
        }
        self.trim();
    }

    /// Bytes from position `from` on, as many as lie together and at most
    /// `max`; empty at the end of the stream, `None` when they are not kept.
    pub fn read(&self, from: u64, max: usize) -> Option<&[u8]> {
        if from < self.first || from > self.end {
            return None;
        }
        let at = self.blocks.partition_point(|b| b.start + b.bytes.len() as u64 <= from);
        let Some(block) = self.blocks.get(at) else { return Some(&[]) };
        let rest = &block.bytes[(from - block.start) as usize..];
        Some(&rest[..rest.len().min(max)])
    }

    /// Registers a reader that has read up to `from`; `None` when what follows
    /// is not kept.
    pub fn attach(&mut self, from: u64) -> Option<ReaderId> {
        if from < self.first || from > self.end {
            return None;
        }
        let at = match self.readers.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.readers.push(None);
                self.readers.len() - 1
            }
        };
        self.readers[at] = Some(from);
        Some(ReaderId(at))
    }

    /// A reader has read up to `to`.
    pub fn advance(&mut self, reader: ReaderId, to: u64) {
        debug_assert!(to <= self.end);
        if let Some(position) = &mut self.readers[reader.0] {
            *position = to.max(*position);
        }
        self.trim();
    }

    pub fn detach(&mut self, reader: ReaderId) {
        self.readers[reader.0] = None;
        self.trim();
    }

    /// Bytes that a reader has not read yet.
    pub fn lag(&self, reader: ReaderId) -> u64 {
        self.readers[reader.0].map_or(0, |position| self.end - position)
    }

    /// Blocks that hold something a reader has not read yet.
    pub fn blocks_ahead(&self, reader: ReaderId) -> usize {
        let Some(position) = self.readers[reader.0] else { return 0 };
        self.blocks.len() - self.blocks.partition_point(|b| b.start + b.bytes.len() as u64 <= position)
    }

    /// Position of a reader.
    pub fn position(&self, reader: ReaderId) -> Option<u64> {
        self.readers[reader.0]
    }

    pub fn resize(&mut self, size: u64) {
        self.size = size;
        self.trim();
    }

    /// Begins anew at a position, with nothing kept. Readers are gone.
    pub fn restart(&mut self, end: u64) {
        *self = Backlog::new(self.size, end);
    }

    fn trim(&mut self) {
        let needed = self.readers.iter().flatten().copied().min().unwrap_or(self.end);
        let keep = self.end.saturating_sub(self.size).min(needed);
        while let Some(front) = self.blocks.front()
            && front.start + front.bytes.len() as u64 <= keep
        {
            self.first = front.start + front.bytes.len() as u64;
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(b: &Backlog, mut from: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match b.read(from, 1000)? {
                [] => return Some(out),
                part => {
                    out.extend_from_slice(part);
                    from += part.len() as u64;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_end_of_what_was_appended(
            pieces in proptest::collection::vec(0usize..40_000, 1..30),
            size in 1u64..100_000,
            start in 0u64..1_000_000,
            reads in proptest::collection::vec(any::<u32>(), 30),
        ) {
            let mut b = Backlog::new(size, start);
            let mut model: Vec<u8> = Vec::new();
            let reader = b.attach(start).unwrap();
            for (i, n) in pieces.iter().enumerate() {
                let piece: Vec<u8> = (0..*n).map(|k| (k + i) as u8).collect();
                b.append(&piece);
                model.extend_from_slice(&piece);
                prop_assert_eq!(b.end(), start + model.len() as u64);
                let position = b.position(reader).unwrap();
                prop_assert!(b.first() <= position, "the reader's bytes are kept");
                prop_assert_eq!(&all(&b, position).unwrap()[..], &model[(position - start) as usize..]);
                b.advance(reader, position + u64::from(reads[i]) % (b.lag(reader) + 1));
                prop_assert!(b.len() >= size.min(model.len() as u64));
            }
            b.detach(reader);
            prop_assert!(b.len() <= size + BLOCK_MAX as u64);
            prop_assert!(b.first() == 0 || all(&b, b.first() - 1).is_none());
            prop_assert!(b.attach(b.end() + 1).is_none());
            prop_assert_eq!(&all(&b, b.first()).unwrap()[..], &model[(b.first() - start) as usize..]);
        }
    }
}
