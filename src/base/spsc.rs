//! A bounded ring between one sender and one receiver.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

#[repr(align(128))]
struct Padded<T>(T);

/// A queue of at most `N` messages. Only one thread at a time may push, and
/// only one may pop; whoever hands out the ends sees to that.
pub struct Queue<M, const N: usize> {
    /// Next position to read; written by the receiver only.
    head: Padded<AtomicUsize>,
    /// Next position to write; written by the sender only.
    tail: Padded<AtomicUsize>,
    cells: Box<[UnsafeCell<MaybeUninit<M>>]>,
}

// SAFETY: a cell is written by the one sender before `tail` passes it, and read
// by the one receiver before `head` passes it; never both at once.
unsafe impl<M: Send, const N: usize> Sync for Queue<M, N> {}

impl<M, const N: usize> Default for Queue<M, N> {
    fn default() -> Self {
        Queue::new()
    }
}

impl<M, const N: usize> Queue<M, N> {
    pub fn new() -> Queue<M, N> {
        let cells = (0..N).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Queue { head: Padded(AtomicUsize::new(0)), tail: Padded(AtomicUsize::new(0)), cells }
    }

    /// Gives the message back when the queue is full.
    pub fn push(&self, message: M) -> Result<(), M> {
        let tail = self.tail.0.load(Ordering::Relaxed);
        if tail - self.head.0.load(Ordering::Acquire) == N {
            return Err(message);
        }
        // SAFETY: the cell is free (see the impl of Sync).
        unsafe { (*self.cells[tail % N].get()).write(message) };
        self.tail.0.store(tail + 1, Ordering::Release);
        Ok(())
    }

    pub fn pop(&self) -> Option<M> {
        let head = self.head.0.load(Ordering::Relaxed);
        if head == self.tail.0.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the cell was written before `tail` passed it.
        let message = unsafe { (*self.cells[head % N].get()).assume_init_read() };
        self.head.0.store(head + 1, Ordering::Release);
        Some(message)
    }

    /// Messages in it, at least as the caller's end knows it.
    pub fn len(&self) -> usize {
        self.tail.0.load(Ordering::Acquire).saturating_sub(self.head.0.load(Ordering::Acquire))
    }

    pub fn is_empty(&self) -> bool {
        self.head.0.load(Ordering::Relaxed) == self.tail.0.load(Ordering::Acquire)
    }
}

impl<M, const N: usize> Drop for Queue<M, N> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
