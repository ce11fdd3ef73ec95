//! A file written from its beginning to its end, past the page cache.
//!
//! A snapshot is as large as the dataset and is not read again soon. By way of
//! the page cache it costs the kernel more CPU than all of its making (copying,
//! pages, writing back: PERF.md), and memory. Here aligned buffers go to the
//! device as they are. Blocking calls run on the executor's blocking thread;
//! one buffer is written while the next is filled.
//!
//! Where a file system has no direct I/O, or refuses it later, the same calls
//! go through the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use glommio::Task;

/// What every device takes: addresses, offsets and lengths are multiples.
const PAGE: usize = 4096;

/// Bytes written by one call.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes between two syncs with `rdb-save-incremental-fsync` where the page
/// cache is used, so that the last one does not have to wait for all of them.
const SYNC_BYTES: u64 = 16 << 20;

#[repr(align(4096))]
#[derive(Clone)]
struct Page(#[allow(dead_code, reason = "read through pointers")] [u8; PAGE]);

/// A buffer that a device can read.
struct Pages(Vec<Page>);

impl Pages {
    fn new() -> Pages {
        Pages(vec![Page([0; PAGE]); BUFFER_BYTES / PAGE])
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a page is its bytes, without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(&self.0[..])) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size_of_val(&self.0[..])) }
    }
}

/// What the blocking thread works on.
struct Target {
    file: File,
    direct: AtomicBool,
    incremental: bool,
    unsynced: AtomicU64,
}

impl Target {
    fn open(path: &Path, incremental: bool) -> io::Result<Target> {
        let open = |flags| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
        let (file, direct) = match open(libc::O_DIRECT) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => (open(0)?, false),
            opened => (opened?, true),
        };
        Ok(Target { file, direct: AtomicBool::new(direct), incremental, unsynced: AtomicU64::new(0) })
    }

    /// Goes on through the page cache.
    fn leave_direct(&self) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        // SAFETY: reads and changes flags of a descriptor that `self` owns.
        let done = unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_DIRECT) == 0
        };
        self.direct.store(false, Ordering::Relaxed);
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn write(&self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write_at(bytes, at) {
                // The kernel writes less than it was given when the disk is full.
                Ok(0) => return Err(io::Error::from_raw_os_error(libc::ENOSPC)),
                Ok(n) => {
                    bytes = &bytes[n..];
                    at += n as u64;
                    self.sync_some(n as u64)?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && self.direct.load(Ordering::Relaxed) => {
                    self.leave_direct()?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync_some(&self, written: u64) -> io::Result<()> {
        let unsynced = self.unsynced.load(Ordering::Relaxed) + written;
        let due = self.incremental && !self.direct.load(Ordering::Relaxed) && unsynced >= SYNC_BYTES;
        self.unsynced.store(if due { 0 } else { unsynced }, Ordering::Relaxed);
        if due { self.file.sync_data() } else { Ok(()) }
    }

    /// The last bytes, which fill no page.
    fn end(&self, rest: &[u8], at: u64) -> io::Result<()> {
        if self.direct.load(Ordering::Relaxed) {
            self.leave_direct()?;
        }
        self.write(rest, at)?;
        self.file.sync_data()
    }
}

/// See the module's description.
pub struct DirectFile {
    target: Arc<Target>,
    filling: Pages,
    filled: usize,
    /// Where `filling` goes.
    at: u64,
    under_way: Option<Task<(Pages, io::Result<()>)>>,
}

/// Runs something that blocks where it may.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(f).await
}

impl DirectFile {
    /// Creates the file, or empties it. `incremental`: `rdb-save-incremental-fsync`.
    pub async fn create(path: &Path, incremental: bool) -> io::Result<DirectFile> {
        let path = path.to_path_buf();
        let target = Arc::new(blocking(move || Target::open(&path, incremental)).await?);
        Ok(DirectFile { target, filling: Pages::new(), filled: 0, at: 0, under_way: None })
    }

    /// Takes the next bytes; errors may be those of bytes before.
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(BUFFER_BYTES - self.filled);
            self.filling.bytes_mut()[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
            if self.filled == BUFFER_BYTES {
                self.pass_on().await?;
            }
        }
        Ok(())
    }

    /// Lets the full buffer be written, once the one before has been.
    async fn pass_on(&mut self) -> io::Result<()> {
        let spare = self.settled().await?.unwrap_or_else(Pages::new);
        let full = std::mem::replace(&mut self.filling, spare);
        let (target, at) = (self.target.clone(), self.at);
        self.at += BUFFER_BYTES as u64;
        self.filled = 0;
        self.under_way = Some(glommio::spawn_local(blocking(move || {
            let result = target.write(full.bytes(), at);
            (full, result)
        })));
        Ok(())
    }

    /// Waits for the write under way; its buffer.
    async fn settled(&mut self) -> io::Result<Option<Pages>> {
        let Some(task) = self.under_way.take() else { return Ok(None) };
        let (pages, result) = task.await;
        result.map(|()| Some(pages))
    }

    /// Everything is on the disk afterwards.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.settled().await?;
        let (target, at) = (self.target.clone(), self.at);
        let rest = self.filling.bytes()[..self.filled].to_vec();
        self.filled = 0;
        blocking(move || target.end(&rest, at)).await
    }

    /// Nothing is written after this.
    pub async fn stop(&mut self) {
        let _ = self.settled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, parts: &[&[u8]]) -> Vec<u8> {
        let path = folder.join("file");
        let at = path.clone();
        let parts: Vec<Vec<u8>> = parts.iter().map(|p| p.to_vec()).collect();
        let run = glommio::LocalExecutorBuilder::default().spawn(|| async move {
            let mut file = DirectFile::create(&at, true).await.unwrap();
            for p in parts {
                file.write(&p).await.unwrap();
            }
            file.finish().await.unwrap();
        });
        run.unwrap().join().unwrap();
        std::fs::read(path).unwrap()
    }

    /// On the disk, and in memory, where older kernels have no direct I/O.
    #[test]
    fn files_of_every_length_hold_what_was_written() {
        for folder in [std::env::temp_dir(), "/dev/shm".into()] {
            let folder = folder.join(format!("coreslot-direct-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            for n in [0, 1, PAGE, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + PAGE, 3 * BUFFER_BYTES + 7] {
                let bytes: Vec<u8> = (0..n).map(|i| (i / 7) as u8).collect();
                let (a, b) = bytes.split_at(n / 3);
                assert!(written(&folder, &[a, b]) == bytes, "{n} bytes in {}", folder.display());
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_not_a_short_file() {
        let target = Target {
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            direct: AtomicBool::new(false),
            incremental: false,
            unsynced: AtomicU64::new(0),
        };
        assert_eq!(target.write(&[1; 100], 0).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
}
