//! The end of the append-only file: writing there, flushing, and blocks
//! allocated ahead.
//!
//! Writing and flushing go one of two [`Way`]s. Handed to the kernel's workers,
//! they let the service core do other things meanwhile; but each hand-over wakes
//! a worker and then the executor, which goes through its three rings before it
//! sleeps and when it wakes (35 system calls a commit). Where it takes less than a
//! millisecond, the service core makes the calls itself; [`Pace`] says whether it
//! does. The flush of `everysec` is always a worker's. Neither way ever stops a
//! data core.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{BufferedFile, OpenOptions};

/// Bytes of one write, about. A worker's write wakes a thread of the kernel's and
/// then this one, which costs more than the writing of little. From 128 KiB on, the
/// kernel (6.18, ext4) takes as large pieces of its page cache at once, and
/// finding these costs 2 us of CPU per KiB; up to 96 KiB it is 0.24.
pub const WRITE_MAX: usize = 64 << 10;

/// Within this, what goes together is not taken apart again.
const AT_ONCE: usize = WRITE_MAX + WRITE_MAX / 2;

/// Bytes allocated ahead: as many as the file has, within these limits. They
/// spare each write the search for blocks (0.13 us per KiB instead of 0.21).
const AHEAD_MIN: u64 = 256 << 10;
const AHEAD_MAX: u64 = 4 << 20;

/// Writes, and under `always` commits, that take no longer than this on average
/// keep the service core. It bounds what its other tasks wait for one; and from
/// here on a hand-over is a small part of it.
const QUICK: Duration = Duration::from_millis(1);

/// Who writes and flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The service core itself, which does nothing else until it is done.
    Here,
    /// The kernel's workers.
    Worker,
}

/// How long writes or commits have taken: a moving average over about eight.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    average: Duration,
}

impl Default for Pace {
    /// Slow until proven quick.
    fn default() -> Pace {
        Pace { average: 2 * QUICK }
    }
}

impl Pace {
    pub fn note(&mut self, took: Duration) {
        self.average = (self.average * 7 + took) / 8;
    }

    pub fn way(self) -> Way {
        if self.average <= QUICK { Way::Here } else { Way::Worker }
    }
}

/// A file whose end is written. Errors are error numbers.
pub struct AppendFile {
    queued: BufferedFile,
    /// The same open file, for calls from any thread.
    direct: Arc<File>,
    /// Blocks have been asked for up to here, granted or not.
    reserved: Cell<u64>,
}

impl AppendFile {
    pub async fn open(path: &Path) -> io::Result<AppendFile> {
        let file = OpenOptions::new().read(true).write(true).create(true).buffered_open(path).await;
        let queued = file.map_err(io::Error::from)?;
        // SAFETY: the descriptor stays open for the time of this call.
        let direct = unsafe { BorrowedFd::borrow_raw(queued.as_raw_fd()) }.try_clone_to_owned()?;
        Ok(AppendFile { queued, direct: Arc::new(direct.into()), reserved: Cell::new(0) })
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.direct.metadata()?.len())
    }

    /// Writes all bytes at the end of the file, which is at `at`.
    pub async fn append(&self, at: u64, bytes: Vec<u8>, way: Way) -> Result<(), i32> {
        self.reserve(at, at + bytes.len() as u64, way).await;
        if bytes.len() <= AT_ONCE {
            return self.write(at, bytes, way).await;
        }
        let mut at = at;
        for part in bytes.chunks(WRITE_MAX) {
            self.write(at, part.to_vec(), way).await?;
            at += part.len() as u64;
        }
        Ok(())
    }

    async fn write(&self, at: u64, bytes: Vec<u8>, way: Way) -> Result<(), i32> {
        // The kernel writes less than it was given when the disk is full.
        if way == Way::Here {
            return self.direct.write_all_at(&bytes, at).map_err(|e| e.raw_os_error().unwrap_or(libc::ENOSPC));
        }
        let expected = bytes.len();
        match self.queued.write_at(bytes, at).await {
            Ok(n) if n == expected => Ok(()),
            Ok(_) => Err(libc::ENOSPC),
            Err(e) => Err(errno_of(&e)),
        }
    }

    /// Makes what has been written durable.
    pub async fn flush(&self, way: Way) -> Result<(), i32> {
        match way {
            Way::Here => self.direct.sync_data().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO)),
            Way::Worker => self.queued.fdatasync().await.map_err(|e| errno_of(&e)),
        }
    }

    /// Has blocks allocated for bytes from `at` to `end` and for some more,
    /// without making the file longer. What becomes of it does not matter: not
    /// every file system can, and on a full disk it is the write that decides.
    async fn reserve(&self, at: u64, end: u64, way: Way) {
        let from = self.reserved.get().max(at);
        if end <= from {
            return;
        }
        let upto = end + end.clamp(AHEAD_MIN, AHEAD_MAX);
        self.reserved.set(upto);
        let file = self.direct.clone();
        let allocate = move || {
            // SAFETY: gets only numbers; the file is open as long as `file` is.
            unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, from as i64, (upto - from) as i64) };
        };
        match way {
            Way::Here => allocate(),
            Way::Worker => glommio::executor().spawn_blocking(allocate).await,
        }
    }

    /// The file ends at `size` and will not grow: gives back what was allocated
    /// beyond, also by a process that had no time to.
    pub async fn trim(&self, size: u64) {
        self.reserved.set(size);
        let file = self.direct.clone();
        // If it fails, the blocks stay with the file.
        let _ = glommio::executor().spawn_blocking(move || file.set_len(size)).await;
    }
}

fn errno_of<T>(e: &GlommioError<T>) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_proves_quick_keeps_the_service_core() {
        let mut pace = Pace::default();
        assert_eq!(pace.way(), Way::Worker);
        (0..20).for_each(|_| pace.note(QUICK / 4));
        assert_eq!(pace.way(), Way::Here);
        pace.note(QUICK * 20);
        assert_eq!(pace.way(), Way::Worker, "one flush that hangs is enough");
        (0..100).for_each(|_| pace.note(QUICK / 4));
        assert_eq!(pace.way(), Way::Here);
        (0..100).for_each(|_| pace.note(QUICK * 2));
        assert_eq!(pace.way(), Way::Worker);
    }
}
