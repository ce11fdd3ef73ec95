//! Memory of the backlog: blocks that are written once, from front to back, and
//! read in place while more is written behind.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

/// See the module's description. Bytes that have been written do not change
/// before [`Block::clear`], which takes that nobody else has the block.
pub struct Block {
    memory: NonNull<[MaybeUninit<u8>]>,
    len: Cell<usize>,
}

impl Block {
    pub fn new(capacity: usize) -> Block {
        let memory = NonNull::from(Box::leak(Box::new_uninit_slice(capacity)));
        Block { memory, len: Cell::new(0) }
    }

    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn len(&self) -> usize {
        self.len.get()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    fn start(&self) -> *mut u8 {
        self.memory.as_ptr().cast()
    }

    /// What has been written.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the first `len` bytes have been written, and are not written
        // again while the block is shared.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// Appends what there is room for; how many bytes that were.
    pub fn append(&self, bytes: &[u8]) -> usize {
        let len = self.len();
        let n = bytes.len().min(self.capacity() - len);
        // SAFETY: the bytes from `len` to `capacity` are the block's own, and no
        // slice of them has been given out. A block stays on one thread.
        unsafe { self.start().add(len).copy_from_nonoverlapping(bytes.as_ptr(), n) };
        self.len.set(len + n);
        n
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.len.set(0);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: came from a box, and goes nowhere else.
        drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
    }
}

/// Some bytes of a block, which stays for as long as this is kept.
#[derive(Clone)]
pub struct Stretch {
    block: Rc<Block>,
    from: usize,
    to: usize,
}

impl Stretch {
    /// Up to `max` bytes of what has been written from `from` on.
    pub fn of(block: &Rc<Block>, from: usize, max: usize) -> Stretch {
        let from = from.min(block.len());
        Stretch { block: block.clone(), from, to: from + max.min(block.len() - from) }
    }
}

impl Deref for Stretch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.bytes()[self.from..self.to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_stays_while_more_is_written() {
        let block = Rc::new(Block::new(1000));
        assert_eq!(block.append(b"abc"), 3);
        let first = Stretch::of(&block, 1, 100);
        assert_eq!(block.append(&vec![b'x'; block.capacity()]), block.capacity() - 3);
        assert!(block.is_full() && block.append(b"y") == 0);
        assert_eq!(&first[..], b"bc");
        assert_eq!(&Stretch::of(&block, 2, 2)[..], b"cx");
        assert!(Stretch::of(&block, block.capacity() + 5, 10).is_empty());
        drop(first);
        let mut own = Rc::try_unwrap(block).ok().unwrap();
        own.clear();
        assert!(own.is_empty() && own.append(b"z") == 1 && own.bytes() == b"z");
    }
}
