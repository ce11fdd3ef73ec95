//! What wakes a member of the mesh that sleeps in its ring.
//!
//! A pair of connected sockets, not an eventfd: the kernel hands a ring's write
//! to a blocking eventfd to a worker thread (two context switches on the
//! sender's CPU), and a nonblocking one cannot be waited for by a read.
//! Sending on a socket is done at once in either case, by any kernel.

use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Bytes that a sleeper takes at once; each is one wake-up.
pub const READ_BYTES: usize = 64;

/// What is sent.
pub static ONE: u8 = 1;

/// Neither waits for room nor raises a signal: where there is no room, the
/// sleeper has been woken already.
pub const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Both ends stay open for the process's life.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    /// The sleeper reads here.
    pub sleeper: RawFd,
    /// Others write here.
    pub others: RawFd,
}

impl Wake {
    pub fn new() -> io::Result<Wake> {
        let (a, b) = UnixStream::pair()?;
        Ok(Wake { sleeper: a.into_raw_fd(), others: b.into_raw_fd() })
    }

    /// From any thread.
    pub fn rouse(self) {
        // SAFETY: sends one byte of a static on a descriptor that stays open.
        unsafe { libc::send(self.others, (&raw const ONE).cast(), 1, SEND_FLAGS) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_does_not_block() {
        let w = Wake::new().unwrap();
        (0..100_000).for_each(|_| w.rouse());
        let mut bytes = [0u8; READ_BYTES];
        // SAFETY: reads into a live local of this size.
        let n = unsafe { libc::read(w.sleeper, bytes.as_mut_ptr().cast(), READ_BYTES) };
        assert_eq!(n, READ_BYTES as isize);
    }
}
