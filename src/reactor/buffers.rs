//! The provided buffer ring: memory that the kernel fills by its own choice
//! when data arrives, so that idle connections need none.
//!
//! Invariant: a buffer is either offered to the kernel or held by this core
//! (between its completion and [`Buffers::give_back`]), never both.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The one buffer group of a core's ring.
pub const GROUP: u16 = 0;

/// Bytes of one buffer.
pub const SIZE: usize = 16 * 1024;

/// Number of buffers; a power of two. When they run out, the kernel ends the
/// multishot requests with ENOBUFS, and they are armed again after the turn.
pub const COUNT: u16 = 256;

/// See the module's description.
pub struct Buffers {
    ring: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

fn map(len: usize) -> io::Result<*mut u8> {
    // SAFETY: a fresh anonymous mapping.
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p.cast()) }
}

impl Buffers {
    /// Registers the buffers with the ring. They live until the process ends.
    pub fn register(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        let ring = map(COUNT as usize * size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let memory = map(COUNT as usize * SIZE)?;
        // SAFETY: the mapping is page-aligned, large enough, and never unmapped.
        unsafe { submitter.register_buf_ring_with_flags(ring as u64, COUNT, GROUP, 0)? };
        let mut b = Buffers { ring, memory, tail: 0 };
        for id in 0..COUNT {
            b.offer(id);
        }
        b.publish();
        Ok(b)
    }

    fn offer(&mut self, id: u16) {
        let at = (self.tail & (COUNT - 1)) as usize;
        // SAFETY: `at` is below COUNT; the kernel does not read the entry
        // before the tail moves past it.
        let entry = unsafe { &mut *self.ring.add(at) };
        entry.set_addr(self.memory as u64 + u64::from(id) * SIZE as u64);
        entry.set_len(SIZE as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail's address in the first entry, per the kernel's layout.
        let tail = unsafe { &*BufRingEntry::tail(self.ring).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `len` bytes of a buffer that a completion named. The borrow
    /// is not tied to `self`, because buffers are read while the core works:
    ///
    /// # Safety
    /// The slice must not be used after the buffer has been given back.
    #[inline]
    pub unsafe fn filled<'a>(&self, id: u16, len: usize) -> &'a [u8] {
        assert!(id < COUNT && len <= SIZE);
        // SAFETY: within the mapping; the kernel has finished writing.
        unsafe { std::slice::from_raw_parts(self.memory.add(id as usize * SIZE), len) }
    }

    /// Offers buffers to the kernel again.
    #[inline]
    pub fn give_back(&mut self, ids: impl Iterator<Item = u16>) {
        let before = self.tail;
        for id in ids {
            self.offer(id);
        }
        if self.tail != before {
            self.publish();
        }
    }
}
