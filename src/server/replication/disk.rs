//! The backlog's overflow on disk (`repl-backlog-disk-size`): what memory has
//! no room for goes to a ring of bytes in a file, so that a replica that was
//! away or slow goes on from there instead of taking a copy.
//!
//! One task writes; each replica's task reads for itself. The file has no name
//! and ends with the process. When it cannot be written the backlog goes on in
//! memory alone, until the directive is set anew.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use glommio::io::{BufferedFile, OpenOptions};
use glommio::timer::sleep;

use super::link::Link;
use crate::base::os::{os_reason, strerror};
use crate::journal::backlog::{Backlog, Found, Spill};
use crate::journal::block::Stretch;
use crate::observe::log;
use crate::server::service::Service;

/// Time between two looks for something to write, and at the settings.
const LOOK: Duration = Duration::from_millis(5);
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// Bytes of the stream that one send takes.
const CHUNK: usize = 256 << 10;

/// The file, if there is one.
#[derive(Default)]
pub(super) struct Disk {
    file: RefCell<Option<Rc<BufferedFile>>>,
    /// Size of the ring for which it was opened.
    size: Cell<u64>,
    /// The size with which it could not be written.
    failed: Cell<u64>,
}

/// What comes next for a replica.
pub(super) enum Piece {
    /// Bytes where they lie in the backlog, and the position after them.
    Kept(Stretch, u64),
    /// The same from the disk.
    Read(Vec<u8>, u64),
    Nothing,
    /// It is no longer kept.
    Lost,
}

impl Service {
    fn with_backlog<R>(&self, f: impl FnOnce(&mut Backlog) -> R) -> Option<R> {
        self.streams.borrow_mut().out.replication.as_mut().map(|r| f(&mut r.backlog))
    }

    /// The task that writes.
    pub(super) async fn spill_backlog(self: Rc<Self>) {
        loop {
            let file = self.arrange_disk().await;
            let Some(file) = file else {
                sleep(IDLE_LOOK).await;
                continue;
            };
            match self.with_backlog(Backlog::to_spill).flatten() {
                Some(spill) => self.spill(&file, spill).await,
                None => sleep(LOOK).await,
            }
        }
    }

    async fn spill(&self, file: &BufferedFile, spill: Spill) {
        let Spill { at, bytes, end, ring_id } = spill;
        let n = bytes.len();
        match file.write_at(bytes, at).await {
            Ok(written) if written == n => {
                self.with_backlog(|b| b.spilled(ring_id, end));
            }
            // The kernel writes less than it was given when the disk is full.
            Ok(_) => self.disk_failed(&strerror(libc::ENOSPC)),
            Err(e) => self.disk_failed(&strerror(e.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    /// A new backlog. What its disk is to have waits in memory until there is
    /// the file.
    pub(super) fn new_backlog(&self, end: u64) -> Backlog {
        let (size, on_disk) = {
            let r = &self.repl.settings.borrow().replication;
            (r.repl_backlog_size, r.repl_backlog_disk_size)
        };
        let mut backlog = Backlog::new(size, end);
        if on_disk > 0 && self.repl.disk.failed.get() != on_disk {
            backlog.use_disk(on_disk);
        }
        backlog
    }

    /// Opens or gives up the file, as the settings want it.
    async fn arrange_disk(&self) -> Option<Rc<BufferedFile>> {
        let disk = &self.repl.disk;
        let mut wanted = self.repl.settings.borrow().replication.repl_backlog_disk_size;
        if disk.failed.get() != wanted {
            disk.failed.set(0);
        }
        let used = self.with_backlog(|b| b.disk_size());
        if used.is_none() || disk.failed.get() != 0 {
            wanted = 0;
        }
        if disk.size.get() != wanted {
            disk.file.take();
            disk.size.set(wanted);
        }
        if wanted > 0 && disk.file.borrow().is_none() {
            match self.open_disk().await {
                Ok(file) => *disk.file.borrow_mut() = Some(Rc::new(file)),
                Err(e) => {
                    self.disk_failed(&os_reason(&e));
                    return None;
                }
            }
        }
        if used.is_some_and(|used| used != wanted) {
            self.with_backlog(|b| b.use_disk(wanted));
        }
        disk.file.borrow().clone()
    }

    /// A file whose name is gone at once: nothing is left of it when the
    /// process ends, however it does.
    async fn open_disk(&self) -> io::Result<BufferedFile> {
        let path = {
            let s = self.repl.settings.borrow();
            s.resolve(&format!("temp-repl-backlog-{}.bin", std::process::id()))
        };
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create(true).buffered_open(&path).await;
        let file = file.map_err(io::Error::from)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    fn disk_failed(&self, why: &str) {
        let disk = &self.repl.disk;
        disk.failed.set(self.repl.settings.borrow().replication.repl_backlog_disk_size);
        disk.file.take();
        disk.size.set(0);
        self.with_backlog(|b| b.use_disk(0));
        log::warning(format_args!(
            "The overflow of the replication backlog can't be kept on disk ({why}): the backlog goes on in memory alone"
        ));
    }

    /// The next piece of the stream for a replica.
    pub(super) async fn next_piece(&self, link: &Link) -> Piece {
        let Some(reader) = link.reader.get().filter(|_| link.is_fed()) else { return Piece::Nothing };
        let found = self.with_backlog(|b| {
            let from = b.position(reader)?;
            Some((
                from,
                b.ring_id(),
                match b.read(from, CHUNK) {
                    Found::End => Err(Piece::Nothing),
                    Found::Memory(piece) => {
                        let end = from + piece.len() as u64;
                        Err(Piece::Kept(piece, end))
                    }
                    Found::Gone => Err(Piece::Lost),
                    Found::Disk { at, len } => Ok((at, len)),
                },
            ))
        });
        match found.flatten() {
            None => Piece::Nothing,
            Some((_, _, Err(piece))) => piece,
            Some((from, ring, Ok((at, len)))) => self.read_disk(from, ring, at, len).await,
        }
    }

    async fn read_disk(&self, from: u64, ring: u64, at: u64, len: usize) -> Piece {
        let Some(file) = self.repl.disk.file.borrow().clone() else { return Piece::Lost };
        let read = file.read_at(at, len).await;
        // It may have been written over while it was read.
        let stands = self.with_backlog(|b| b.ring_id() == ring && b.first() <= from) == Some(true);
        match read {
            Ok(bytes) if stands && bytes.len() == len => {
                // Known to be on its way before it takes memory.
                self.shared.stream_memory.sending.fetch_add(len, Ordering::Relaxed);
                Piece::Read(bytes.to_vec(), from + len as u64)
            }
            _ => Piece::Lost,
        }
    }
}
