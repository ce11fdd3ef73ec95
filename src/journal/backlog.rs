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
//!
//! New memory is dear, so blocks that are dropped while somebody reads are kept
//! for what comes next, up to [`SPARE_BYTES`]; [`Backlog::relax`] lets go what
//! nobody has needed for a while. A block that is dropped while somebody still
//! sends it takes memory until that has ended: [`Backlog::lent`].
//!
//! With a disk ([`Backlog::use_disk`]) what is older than the backlog's size is
//! first written to a ring of bytes in a file: position `p` lies at `p` modulo
//! the ring's size. Readers that lag then read there, and pin nothing. Whoever
//! owns the file does the writing and reading, since that takes time:
//! [`Backlog::to_spill`], [`Backlog::spilled`] and [`Backlog::read`]. What a
//! reader still needs is not written over; then memory grows as it does without
//! a disk.
//!
//! Invariants: the ring holds `ring.first..ring.end`, the blocks hold
//! `kept..end`, and `ring.end >= kept`, so that both together hold
//! `first..end` without a gap.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

use super::block::{Block, Stretch};
use crate::base::memory::block_size;

/// Capacity of a block: a sixteenth of the backlog, within these bounds.
const BLOCK_MIN: usize = 16 << 10;
const BLOCK_MAX: usize = 1 << 20;

/// Bytes of dropped blocks that are kept for reuse at most: what a reader that
/// keeps up lags by now and then.
const SPARE_BYTES: usize = 16 << 20;

/// Bytes of one write to the ring at most.
const SPILL_MAX: usize = 1 << 20;

/// Bytes that may wait to be written to the ring; if the disk is slower than
/// the stream for longer, the ring begins anew behind them.
pub const SPILL_WAIT_MAX: u64 = 64 << 20;

/// Number of the next ring; none is used twice, whatever backlog it is for.
static NEXT_RING: AtomicU64 = AtomicU64::new(1);

/// What of the stream lies on disk.
struct Ring {
    size: u64,
    first: u64,
    end: u64,
}

/// Where the bytes after a position are.
pub enum Found {
    /// Here.
    Memory(Stretch),
    /// There are none yet: this is the end of the stream.
    End,
    /// In the file, so many bytes from this offset on. Once they are read they
    /// count only if [`Backlog::first`] has not passed the position meanwhile,
    /// and [`Backlog::ring_id`] is the same.
    Disk { at: u64, len: usize },
    /// Nowhere.
    Gone,
}

/// Bytes to be written to the ring.
#[derive(Debug, PartialEq, Eq)]
pub struct Spill {
    /// Where in the file.
    pub at: u64,
    pub bytes: Vec<u8>,
    /// The position after them, and the ring that they are for.
    pub end: u64,
    pub ring_id: u64,
}

/// A block in its place.
struct Placed {
    /// Position of its first byte.
    start: u64,
    block: Rc<Block>,
}

impl Placed {
    /// Position after its last byte.
    fn end(&self) -> u64 {
        self.start + self.block.len() as u64
    }
}

/// A reader's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(usize);

/// See the module's description.
pub struct Backlog {
    size: u64,
    blocks: VecDeque<Placed>,
    /// Blocks for reuse, of any capacity, the latest last; and how few there have
    /// been since [`Backlog::relax`].
    spares: Vec<Block>,
    spares_least: usize,
    /// Blocks that were dropped while they were being sent, one for each reader at
    /// most.
    lent: Vec<Weak<Block>>,
    /// Position of the first byte in the blocks.
    kept: u64,
    /// Capacity of all blocks.
    memory: usize,
    ring: Option<Ring>,
    ring_id: u64,
    /// Position after the last byte.
    end: u64,
    readers: Vec<Option<u64>>,
}

/// What it takes besides its bytes that a block is shared with those who send it.
fn shared_bytes() -> usize {
    block_size(size_of::<Block>() + 2 * size_of::<usize>())
}

impl Backlog {
    /// An empty backlog of `size` bytes for the stream from position `end` on.
    pub fn new(size: u64, end: u64) -> Backlog {
        let mut new = Backlog {
            size,
            blocks: VecDeque::new(),
            spares: Vec::new(),
            spares_least: 0,
            lent: Vec::new(),
            kept: end,
            memory: 0,
            ring: None,
            ring_id: 0,
            end,
            readers: Vec::new(),
        };
        // The first block is there at once: it counts as used, and the first
        // write to the stream is no growth.
        new.add_block();
        new
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Position of the first byte there is, in memory or on disk.
    pub fn first(&self) -> u64 {
        self.ring.as_ref().map_or(self.kept, |r| r.first.min(self.kept))
    }

    /// Position of the first byte in memory.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Bytes that only the disk has.
    pub fn on_disk(&self) -> u64 {
        self.kept - self.first()
    }

    /// The stream's length: `master_repl_offset`.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes kept (`repl_backlog_histlen`).
    pub fn len(&self) -> u64 {
        self.end - self.first()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held: the blocks and the list of them, which takes tens of
    /// kilobytes when a reader lags.
    pub fn memory(&self) -> usize {
        self.memory + self.list_bytes()
    }

    fn list_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Placed>()
            + self.blocks.len() * shared_bytes()
            + self.spares.capacity() * size_of::<Block>()
    }

    /// Bytes by which memory grows at most when so many are appended.
    pub fn growth(&self, bytes: usize) -> usize {
        let blocks = bytes / self.block_capacity() + 2;
        let list = if self.blocks.len() + blocks > self.blocks.capacity() { self.list_bytes() } else { 0 };
        bytes + self.block_capacity() + list + blocks * shared_bytes()
    }

    fn block_capacity(&self) -> usize {
        (self.size as usize / 16).clamp(BLOCK_MIN, BLOCK_MAX)
    }

    /// Bytes of memory beyond the backlog's size, for readers that lag.
    pub fn beyond(&self) -> usize {
        if self.is_read() { self.memory().saturating_sub(self.size as usize) } else { 0 }
    }

    /// Bytes of blocks that are no longer the backlog's and still being sent.
    pub fn lent(&self) -> usize {
        self.lent.iter().filter_map(Weak::upgrade).map(|b| b.capacity() + shared_bytes()).sum()
    }

    /// Bytes for which no key has to go: all beyond the backlog's size, whether
    /// readers that lag need it or blocks are just not smaller, and what is lent.
    pub fn not_counted(&self) -> usize {
        self.memory().saturating_sub(self.size as usize) + self.lent()
    }

    fn is_read(&self) -> bool {
        self.readers.iter().any(Option::is_some)
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.blocks.back().is_none_or(|b| b.block.is_full()) {
                self.add_block();
            }
            let Some(last) = self.blocks.back() else { return };
            let n = last.block.append(bytes);
            self.end += n as u64;
            bytes = &bytes[n..];
        }
        self.trim();
    }

    fn add_block(&mut self) {
        let block = self.spares.pop().unwrap_or_else(|| {
            let new = Block::new(self.block_capacity());
            self.memory += new.capacity();
            new
        });
        self.spares_least = self.spares_least.min(self.spares.len());
        self.blocks.push_back(Placed { start: self.end, block: Rc::new(block) });
    }

    fn spare_bytes(&self) -> usize {
        self.spares.iter().map(Block::capacity).sum()
    }

    /// Frees so many blocks for reuse, those first that were not used for longest.
    fn drop_spares(&mut self, n: usize) {
        for spare in self.spares.drain(..n) {
            self.memory -= spare.capacity();
        }
        self.spares_least = self.spares_least.min(self.spares.len());
    }

    /// A block has left the list.
    fn retire(&mut self, block: Rc<Block>) {
        let capacity = block.capacity();
        let keep = self.is_read() && self.spare_bytes() + capacity <= SPARE_BYTES;
        match Rc::try_unwrap(block) {
            Ok(mut own) if keep => {
                own.clear();
                self.spares.push(own);
            }
            Ok(_) => self.memory -= capacity,
            Err(shared) => {
                self.memory -= capacity;
                self.lent.retain(|b| b.strong_count() > 0);
                self.lent.push(Rc::downgrade(&shared));
            }
        }
    }

    /// Lets go what has not been needed since the last call; to be called now and
    /// then.
    pub fn relax(&mut self) {
        self.drop_spares(self.spares_least);
        self.spares_least = self.spares.len();
    }

    /// Bytes from position `from` on, as many as lie together and at most `max`.
    pub fn read(&self, from: u64, max: usize) -> Found {
        if from < self.first() || from > self.end {
            return Found::Gone;
        }
        if let Some(r) = self.ring.as_ref().filter(|_| from < self.kept) {
            let at = from % r.size;
            let len = (max as u64).min(self.kept - from).min(r.size - at) as usize;
            return Found::Disk { at, len };
        }
        let at = self.blocks.partition_point(|b| b.end() <= from);
        let Some(placed) = self.blocks.get(at) else { return Found::End };
        Found::Memory(Stretch::of(&placed.block, (from - placed.start) as usize, max))
    }

    /// Registers a reader that has read up to `from`; `None` when what follows
    /// is not kept.
    pub fn attach(&mut self, from: u64) -> Option<ReaderId> {
        if from < self.first() || from > self.end {
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
        // What it lagged behind is gone at once, whoever else reads, and the list
        // that has grown with it.
        self.drop_spares(self.spares.len());
        self.spares.shrink_to_fit();
        self.blocks.shrink_to(2 * self.blocks.len());
    }

    /// Bytes that a reader has not read yet.
    pub fn lag(&self, reader: ReaderId) -> u64 {
        self.readers[reader.0].map_or(0, |position| self.end - position)
    }

    /// Blocks that hold something a reader has not read yet.
    pub fn blocks_ahead(&self, reader: ReaderId) -> usize {
        let Some(position) = self.readers[reader.0] else { return 0 };
        self.blocks.len() - self.blocks.partition_point(|b| b.end() <= position)
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
        let lent = std::mem::take(&mut self.lent);
        *self = Backlog { lent, ..Backlog::new(self.size, end) };
    }

    /// Keeps up to `size` bytes that memory has no room for on disk from now
    /// on; 0: none. What the disk had is given up.
    pub fn use_disk(&mut self, size: u64) {
        self.ring_id = NEXT_RING.fetch_add(1, Ordering::Relaxed);
        self.ring = (size > 0).then_some(Ring { size, first: self.kept, end: self.kept });
        self.trim();
    }

    /// Size of the ring; 0: there is none.
    pub fn disk_size(&self) -> u64 {
        self.ring.as_ref().map_or(0, |r| r.size)
    }

    /// Counts rings: what was asked of an earlier one is void.
    pub fn ring_id(&self) -> u64 {
        self.ring_id
    }

    /// The next bytes to be written to the ring. What they overwrite is given
    /// up at once.
    pub fn to_spill(&mut self) -> Option<Spill> {
        let (old, needed) = (self.end.saturating_sub(self.size), self.needed());
        let ring = self.ring.as_mut()?;
        let placed = self.blocks.iter().find(|b| b.end() > ring.end)?;
        if placed.end() > old {
            return None;
        }
        let rest = &placed.block.bytes()[(ring.end - placed.start) as usize..];
        let at = ring.end % ring.size;
        let n = rest.len().min(SPILL_MAX).min((ring.size - at) as usize);
        let end = ring.end + n as u64;
        let first = end.saturating_sub(ring.size);
        if (ring.first..first).contains(&needed) {
            return None;
        }
        ring.first = ring.first.max(first);
        Some(Spill { at, bytes: rest[..n].to_vec(), end, ring_id: self.ring_id })
    }

    /// They are written.
    pub fn spilled(&mut self, ring_id: u64, end: u64) {
        if ring_id != self.ring_id {
            return;
        }
        if let Some(ring) = &mut self.ring {
            ring.end = ring.end.max(end);
        }
        self.trim();
    }

    /// Position of the reader that is furthest behind.
    fn needed(&self) -> u64 {
        self.readers.iter().flatten().copied().min().unwrap_or(self.end)
    }

    fn trim(&mut self) {
        let (old, needed) = (self.end.saturating_sub(self.size), self.needed());
        let keep = match &mut self.ring {
            None => old.min(needed),
            Some(ring) => {
                if old.saturating_sub(ring.end) > SPILL_WAIT_MAX && needed >= old {
                    // The disk is too slow.
                    self.ring_id = NEXT_RING.fetch_add(1, Ordering::Relaxed);
                    (ring.first, ring.end) = (old, old);
                }
                old.min(ring.end)
            }
        };
        while self.blocks.front().is_some_and(|b| !b.block.is_empty() && b.end() <= keep)
            && let Some(front) = self.blocks.pop_front()
        {
            self.kept = front.end();
            self.retire(front.block);
        }
        if let Some(ring) = &mut self.ring
            && ring.end < self.kept
        {
            (ring.first, ring.end) = (self.kept, self.kept);
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
            match b.read(from, 1000) {
                Found::Gone | Found::Disk { .. } => return None,
                Found::End => return Some(out),
                Found::Memory(part) => {
                    out.extend_from_slice(&part);
                    from += part.len() as u64;
                }
            }
        }
    }

    /// The same with a file of which this is the content.
    fn all_of(b: &Backlog, file: &[u8], mut from: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let part = match b.read(from, 1000) {
                Found::Gone => return None,
                Found::End => return Some(out),
                Found::Memory(part) => part.to_vec(),
                Found::Disk { at, len } => file[at as usize..at as usize + len].to_vec(),
            };
            out.extend_from_slice(&part);
            from += part.len() as u64;
        }
    }

    /// Once nobody reads nothing is beyond the size: a list of blocks that stayed
    /// as long as it had been made a server evict that was at its limit.
    #[test]
    fn a_reader_that_lagged_leaves_nothing_behind() {
        let mut b = Backlog::new(10 << 10, 0);
        let before = b.memory();
        let reader = b.attach(0).expect("at the end");
        (0..10_000).for_each(|_| b.append(&[0; 1000]));
        assert!(b.beyond() > 10_000_000 && b.list_bytes() > 8 << 10);
        b.detach(reader);
        assert_eq!(b.beyond(), 0);
        assert!(b.memory() < before + BLOCK_MIN + 1024, "{} of {before}", b.memory());
    }

    /// Blocks that only the slower of two readers needed were kept for reuse when
    /// it left, and counted as the replicas' memory for another second.
    #[test]
    fn a_reader_that_lagged_behind_others_leaves_nothing_either() {
        let mut b = Backlog::new(10 << 10, 0);
        let (slow, quick) = (b.attach(0).expect("at the end"), b.attach(0).expect("at the end"));
        (0..1000).for_each(|_| b.append(&[0; 1000]));
        b.advance(quick, b.end());
        assert!(b.memory() > 1_000_000);
        b.detach(slow);
        assert!(b.memory() < 4 * BLOCK_MIN, "{}", b.memory());
    }

    /// A replica was killed while a block was on its way to it: its memory was in
    /// use and nobody's, and keys went for it.
    #[test]
    fn what_is_still_being_sent_counts_until_it_is_gone() {
        let mut b = Backlog::new(10 << 10, 0);
        let reader = b.attach(0).expect("at the end");
        (0..100).for_each(|_| b.append(&[0; 1000]));
        let Found::Memory(sending) = b.read(0, 1 << 20) else { panic!("in memory") };
        b.detach(reader);
        assert_eq!((b.beyond(), b.lent()), (0, BLOCK_MIN + shared_bytes()));
        assert_eq!(b.memory() + b.lent() - b.not_counted(), 10 << 10);
        drop(sending);
        assert_eq!((b.lent(), b.memory() - b.not_counted()), (0, 10 << 10));
    }

    /// With a reader that keeps up, a full backlog takes no new memory, and gives
    /// back what it does not need.
    #[test]
    fn blocks_are_used_again() {
        let mut b = Backlog::new(1 << 20, 0);
        let reader = b.attach(0).expect("at the end");
        let write = |b: &mut Backlog, bytes: usize| {
            (0..bytes / 1000).for_each(|_| b.append(&[1; 1000]));
            b.advance(reader, b.end());
        };
        write(&mut b, 3 << 20);
        let (memory, places) = (b.memory(), |b: &Backlog| {
            let mut all: Vec<_> = b.blocks.iter().map(|p| p.block.bytes().as_ptr()).collect();
            all.extend(b.spares.iter().map(|s| s.bytes().as_ptr()));
            all.sort();
            all
        });
        let before = places(&b);
        for _ in 0..20 {
            write(&mut b, 1 << 20);
            b.relax();
        }
        assert!(b.memory() <= memory, "{} of {memory}", b.memory());
        assert!(places(&b).iter().all(|place| before.contains(place)));
        b.relax();
        b.relax();
        assert!(b.spares.is_empty());
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
                let blocks = b.blocks.iter().map(|x| x.block.capacity()).sum::<usize>() + b.spare_bytes();
                let lists = b.blocks.capacity() * size_of::<Placed>() + b.spares.capacity() * size_of::<Block>();
                prop_assert_eq!(b.memory(), blocks + lists + b.blocks.len() * shared_bytes());
                prop_assert!(b.spare_bytes() <= SPARE_BYTES);
                prop_assert!(b.memory() - b.spare_bytes() <= b.len() as usize + 2 * BLOCK_MAX);
                prop_assert_eq!(b.beyond(), b.memory().saturating_sub(size as usize));
            }
            b.detach(reader);
            prop_assert_eq!(b.beyond(), 0);
            prop_assert!(b.len() <= size + BLOCK_MAX as u64);
            prop_assert!(b.first() == 0 || all(&b, b.first() - 1).is_none());
            prop_assert!(b.attach(b.end() + 1).is_none());
            prop_assert_eq!(&all(&b, b.first()).unwrap()[..], &model[(b.first() - start) as usize..]);
        }

        /// With a disk that takes some of what it is to take: all of `first` to
        /// the end can be read, memory stays small, and the disk keeps as much
        /// as it can.
        #[test]
        fn the_disk_has_what_memory_has_no_room_for(
            pieces in proptest::collection::vec(0usize..60_000, 1..40),
            size in 1u64..60_000,
            ring in 1u64..300_000,
            start in 0u64..1_000_000,
            writes in proptest::collection::vec(0usize..6, 40),
        ) {
            let mut b = Backlog::new(size, start);
            b.use_disk(ring);
            let mut file = vec![0; ring as usize];
            let mut model: Vec<u8> = Vec::new();
            let reader = b.attach(start).unwrap();
            for (i, n) in pieces.iter().enumerate() {
                let lag = b.lag(reader);
                b.advance(reader, b.position(reader).unwrap() + lag * writes[i] as u64 / 8);
                let piece: Vec<u8> = (0..*n).map(|k| (k * 7 + i) as u8).collect();
                b.append(&piece);
                model.extend_from_slice(&piece);
                for _ in 0..writes[i] {
                    let Some(s) = b.to_spill() else { break };
                    file[s.at as usize..s.at as usize + s.bytes.len()].copy_from_slice(&s.bytes);
                    b.spilled(s.ring_id, s.end);
                }
                let first = b.first();
                prop_assert!(first <= b.position(reader).unwrap(), "what a reader needs is kept");
                prop_assert_eq!(&all_of(&b, &file, first).unwrap()[..], &model[(first - start) as usize..]);
            }
            b.detach(reader);
            while let Some(s) = b.to_spill() {
                file[s.at as usize..s.at as usize + s.bytes.len()].copy_from_slice(&s.bytes);
                b.spilled(s.ring_id, s.end);
            }
            prop_assert!(b.end() - b.kept() <= size + BLOCK_MAX as u64, "memory stays small");
            prop_assert!(b.on_disk() <= ring);
            prop_assert_eq!(b.len(), (b.end() - b.kept() + ring).min(model.len() as u64));
            prop_assert_eq!(&all_of(&b, &file, b.first()).unwrap()[..], &model[(b.first() - start) as usize..]);
        }
    }
}
