//! Full synchronization, this server being the primary: a snapshot for replicas.
//!
//! It is one of the ordinary snapshots ([`crate::server::service::snapshot`]):
//! nothing is held up but for the moment of the cut. The cut has an exact place
//! in the stream. From there on every replica of the snapshot is attached to
//! the backlog, so that nothing it will need is dropped while the snapshot goes
//! out.
//!
//! To sockets (`repl-diskless-sync yes`) all replicas that waited together get
//! the bytes as they are made, at the pace of the slowest: [`SocketSink`]. Or
//! the snapshot file is written first, and sent to each at its own pace.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future;
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::timer::sleep;

use super::link::{Link, write};
use crate::base::os::os_reason;
use crate::base::{clock, memory, rng};
use crate::observe::log;
use crate::replication::event::{Event, LinkId, Target};
use crate::replication::peer::Wanted;
use crate::server::image::Want;
use crate::server::process;
use crate::server::service::Service;
use crate::server::service::snapshot::{AtCut, Failure, Place, Wish};
use crate::snapshot::job::Job;
use crate::snapshot::rdb::Version;
use crate::snapshot::rdb::frame::{About, Frame, Stream};
use crate::snapshot::sink::{Later, Sink};
use crate::snapshot::writer::WRITE_BYTES;

/// Bytes that one send takes.
const CHUNK: usize = 256 << 10;

/// Bytes of the snapshot that wait for one replica's socket; beyond, the
/// snapshot is made no further.
const QUEUE_MAX: usize = 4 << 20;

/// Buffers that are kept to be filled again, and the capacity of the largest.
const SPARES: usize = 4;
const SPARE_MAX: usize = 1 << 20;

/// Bytes of pre-images that the cores have not got rid of at which the snapshot
/// does go on: replicas' queues then grow up to their limit of output, and
/// writing clients are not held up for a replica that does not read.
const PRESSURE: usize = 4 << 20;

/// How long a replica may be over its limit of output, since it may only not
/// have had its turn yet.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two looks at that, and for the right to make a snapshot.
const LOOK: Duration = Duration::from_millis(10);

/// The snapshot in progress.
#[derive(Default)]
pub(super) struct Full {
    /// Counts snapshots; a later one, or an abort, ends the earlier.
    generation: Cell<u64>,
    /// The server's snapshot under way is ours.
    running: Cell<bool>,
    /// What replicas are to be sent after it.
    ready: RefCell<Option<Ready>>,
    /// The snapshot file was written for replicas only.
    for_replicas: Cell<bool>,
}

/// A snapshot to be sent.
#[derive(Clone)]
enum Ready {
    File(Rc<BufferedFile>, u64),
    Bytes(Bytes),
}

/// A snapshot on its way to one replica.
#[derive(Default)]
pub(super) struct Bulk {
    pieces: VecDeque<Bytes>,
    /// Bytes of them.
    queued: usize,
    /// After them: a file, the place in it, and its size.
    file: Option<(Rc<BufferedFile>, u64, u64)>,
    /// Nothing will be added.
    complete: bool,
    /// Since when more is queued than the limit of output allows.
    over_since: Option<Instant>,
}

/// What sending a piece came to.
pub(super) enum Sending {
    Went,
    /// There is nothing to be sent at present.
    Idle,
    Broken,
}

impl Bulk {
    fn push(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Bytes that wait to be sent, but for those in the file.
    pub fn queued(&self) -> usize {
        self.queued
    }

    fn is_sent(&self) -> bool {
        self.complete && self.pieces.is_empty() && self.file.as_ref().is_none_or(|(_, at, size)| at >= size)
    }
}

impl super::Repl {
    /// Is the snapshot under way one for replicas?
    pub fn sends_snapshot(&self) -> bool {
        self.full.running.get()
    }
}

impl Service {
    pub(super) fn snapshot_for_replicas(self: &Rc<Self>, target: Target, wanted: Wanted, links: Vec<LinkId>) {
        let generation = self.repl.full.generation.get() + 1;
        self.repl.full.generation.set(generation);
        glommio::spawn_local(self.clone().make_snapshot(generation, target, wanted, links)).detach();
    }

    pub(super) fn abort_snapshot_for_replicas(&self) {
        let full = &self.repl.full;
        full.generation.set(full.generation.get() + 1);
        if full.running.get() {
            log::notice(format_args!("Diskless rdb transfer, last replica dropped, killing fork child."));
            self.abort_snapshot();
        }
    }

    fn is_current(&self, generation: u64) -> bool {
        self.repl.full.generation.get() == generation
    }

    async fn make_snapshot(self: Rc<Self>, generation: u64, target: Target, wanted: Wanted, links: Vec<LinkId>) {
        // The cores must publish before the cut.
        while !self.changes_are_made() {
            self.repl.roles.made.wait().await;
        }
        *self.repl.full.ready.borrow_mut() = None;
        let result = if wanted.functions_only || wanted.nothing {
            self.send_without_keys(target, wanted, &links).await
        } else {
            if !self.wait_for_right(generation).await {
                return;
            }
            self.repl.full.running.set(true);
            let result = match target {
                Target::Disk => self.snapshot_to_disk(links).await,
                Target::Sockets => self.snapshot_to_sockets(links).await,
            };
            self.repl.full.running.set(false);
            result
        };
        if self.is_current(generation) {
            self.replicate(match result {
                Ok(()) => Event::SnapshotDone,
                Err(e) => Event::SnapshotFailed { reason: e.to_string() },
            });
        }
    }

    /// Another snapshot may be under way. False when this one is not wanted
    /// any more.
    async fn wait_for_right(&self, generation: u64) -> bool {
        while !self.shared.saves.try_begin() {
            sleep(LOOK).await;
            if !self.is_current(generation) {
                return false;
            }
        }
        if !self.is_current(generation) {
            self.shared.saves.end();
            return false;
        }
        true
    }

    /// What is to be done at the cut, and once it has been made.
    fn wish_for(self: &Rc<Self>, links: Vec<LinkId>) -> Wish {
        Wish {
            at_cut: Some(self.begin_streams(links)),
            begun: Some(Box::new(|s, place| {
                let offset = place.map_or(s.stream_window().end, |p| p.offset);
                s.replicate(Event::SnapshotCut { offset });
            })),
            ..Wish::default()
        }
    }

    /// At the cut: the replicas' stream begins here, with a SELECT.
    fn begin_streams(self: &Rc<Self>, links: Vec<LinkId>) -> AtCut {
        let links: Vec<Rc<Link>> = links.iter().filter_map(|id| self.link(*id)).collect();
        let note = self.note_place();
        Box::new(move |out| {
            let r = out.replication.as_mut()?;
            if !r.relays {
                r.selected.forget();
            }
            let end = r.backlog.end();
            for link in links.iter().filter(|l| l.reader.get().is_none()) {
                link.reader.set(r.backlog.attach(end));
            }
            note(out)
        })
    }

    async fn snapshot_to_disk(self: &Rc<Self>, links: Vec<LinkId>) -> Result<(), Failure> {
        log::notice(format_args!("Background saving started by pid {}", std::process::id()));
        self.save_file(self.wish_for(links)).await?;
        log::notice(format_args!("Background saving terminated with success"));
        self.repl.full.for_replicas.set(true);
        let settings = self.shared.config.settings();
        let path = settings.resolve(&settings.persistence.dbfilename);
        let open = async || -> io::Result<Ready> {
            let file = BufferedFile::open(&path).await.map_err(io::Error::from)?;
            let size = file.file_size().await.map_err(io::Error::from)?;
            Ok(Ready::File(Rc::new(file), size))
        };
        *self.repl.full.ready.borrow_mut() = Some(open().await.map_err(Failure::Io)?);
        Ok(())
    }

    async fn snapshot_to_sockets(self: &Rc<Self>, links: Vec<LinkId>) -> Result<(), Failure> {
        let mut wish = self.wish_for(links.clone());
        wish.key_delay_us = self.repl.settings.borrow().persistence.rdb_key_save_delay_us.max(0) as u64;
        let saving = &self.shared.saves.saving;
        saving.store(true, Ordering::Relaxed);
        log::notice(format_args!("Background RDB transfer started by pid {}", std::process::id()));
        let result = self.snapshot(wish, async || Ok(SocketSink::begin(self, &links))).await;
        saving.store(false, Ordering::Release);
        match &result {
            Ok(_) => log::notice(format_args!("Background RDB transfer terminated with success")),
            Err(Failure::Aborted) => log::warning(format_args!("Background transfer terminated by signal")),
            Err(_) => log::warning(format_args!("Background transfer error")),
        }
        result.map(|_| ())
    }

    /// Only functions are wanted, or nothing at all: there is no need to look
    /// at the keyspace.
    async fn send_without_keys(
        self: &Rc<Self>,
        target: Target,
        wanted: Wanted,
        links: &[LinkId],
    ) -> Result<(), Failure> {
        let place = self.barrier_at_cut(links.to_vec()).await;
        let file = Bytes::from(self.compose_without_keys(wanted, place.as_ref()));
        if target == Target::Disk {
            *self.repl.full.ready.borrow_mut() = Some(Ready::Bytes(file));
            return Ok(());
        }
        let mut sink = SocketSink::begin(self, links);
        sink.send(file).await.map_err(Failure::Io)?;
        sink.end().map_err(Failure::Io)
    }

    /// A cut at which nothing is recorded.
    async fn barrier_at_cut(self: &Rc<Self>, links: Vec<LinkId>) -> Option<Place> {
        let _held = self.hold_applying().await;
        let place = Rc::new(RefCell::new(None));
        let mut wish = self.wish_for(links);
        let id = self.next_cut();
        if let Some(at_cut) = wish.at_cut.take() {
            let noted = place.clone();
            self.streams.borrow_mut().out.at_cut(id, move |out| *noted.borrow_mut() = at_cut(out));
        }
        self.image(id, Want::Nothing).await;
        self.merged_past(clock::mono_ns()).await;
        self.streams.borrow_mut().out.forget_cut(id);
        if place.borrow().is_none() {
            *place.borrow_mut() = self.applied_place();
        }
        let place = place.take();
        if let Some(begun) = wish.begun.take() {
            begun(self, place.as_ref());
        }
        place
    }

    fn compose_without_keys(&self, wanted: Wanted, place: Option<&Place>) -> Vec<u8> {
        let settings = self.repl.settings.borrow();
        let mut frame = Frame::new(settings.persistence.rdbchecksum);
        let about = About {
            server_version: process::REDIS_VERSION,
            made_unix_s: clock::now_ms() / 1000,
            used_memory: memory::used() as u64,
            replication: place.map(|p| Stream { db: p.db, id: &p.id, offset: p.offset }),
            aof_base: false,
        };
        let mut out = Vec::new();
        frame.begin(&mut out, Version::V10, &about);
        if wanted.functions_only {
            let libraries = self.shared.scripts.libraries.sources();
            libraries.iter().for_each(|source| frame.function(&mut out, source));
        }
        frame.end(&mut out);
        out
    }

    /// Sends a replica the snapshot that has been written, framed by its length.
    pub(super) fn send_snapshot_file(&self, id: LinkId) {
        let (Some(link), Some(ready)) = (self.link(id), self.repl.full.ready.borrow().clone()) else { return };
        let mut bulk = Bulk { complete: true, ..Bulk::default() };
        match ready {
            Ready::File(file, size) => {
                bulk.push(Bytes::from(format!("${size}\r\n")));
                bulk.file = Some((file, 0, size));
            }
            Ready::Bytes(bytes) => {
                bulk.push(Bytes::from(format!("${}\r\n", bytes.len())));
                bulk.push(bytes);
            }
        }
        *link.bulk.borrow_mut() = Some(bulk);
        link.bell.ring();
    }

    /// A file that was written only for replicas, by a server without
    /// persistence, is deleted when none needs it (`rdb-del-sync-files`).
    pub(super) fn tidy_snapshot_file(&self) {
        let full = &self.repl.full;
        let waits = {
            let node = self.repl.node.borrow();
            node.snapshot.is_some() || node.replicas.values().any(|r| !r.online())
        };
        if waits {
            return;
        }
        *full.ready.borrow_mut() = None;
        if !full.for_replicas.replace(false) {
            return;
        }
        let s = self.repl.settings.borrow();
        if s.persistence.rdb_del_sync_files && !s.persistence.appendonly && s.persistence.save.is_empty() {
            let name = &s.persistence.dbfilename;
            log::notice(format_args!(
                "Removing the RDB file {name} used to feed replicas in a persistence-less instance"
            ));
            let _ = std::fs::remove_file(s.resolve(name));
        }
    }

    /// Replicas whose socket has taken everything that there is do not stand
    /// still: it is the snapshot that takes its time.
    pub(super) fn excuse_idle_transfers(self: &Rc<Self>) {
        let idle = |l: &&Rc<Link>| l.bulk.borrow().as_ref().is_some_and(|b| b.queued == 0 && !b.complete);
        let links: Vec<LinkId> = self.repl.links.borrow().values().filter(idle).map(|l| l.id).collect();
        for link in links {
            self.replicate(Event::BulkProgress { link });
        }
    }

    /// Sends the next piece of a replica's snapshot.
    pub(super) async fn write_bulk(self: &Rc<Self>, link: &Link, socket: &mut TcpStream) -> Sending {
        match next_piece(link).await {
            Ok(Some(piece)) => {
                self.repl.count_net(0, piece.len());
                let fine = write(link, socket, &piece).await;
                if let Some(bulk) = link.bulk.borrow_mut().as_mut() {
                    bulk.queued = bulk.queued.saturating_sub(piece.len());
                }
                self.repl.bulk_sent.ring();
                self.replicate(Event::BulkProgress { link: link.id });
                if !fine {
                    return Sending::Broken;
                }
            }
            Ok(None) if !link.bulk.borrow().as_ref().is_some_and(Bulk::is_sent) => return Sending::Idle,
            Ok(None) => {}
            Err(e) => {
                log::warning(format_args!(
                    "Can't read the snapshot for replica {}: {}",
                    link.peer.borrow().name(),
                    os_reason(&e)
                ));
                return Sending::Broken;
            }
        }
        let sent = link.bulk.borrow_mut().take_if(|b| b.is_sent());
        if let Some(bulk) = sent {
            self.repl.bulk_sent.ring();
            drop(bulk);
            self.replicate(Event::BulkSent { link: link.id });
        }
        Sending::Went
    }
}

/// The next bytes for a replica's socket. They count as queued until written.
async fn next_piece(link: &Link) -> io::Result<Option<Bytes>> {
    let (file, at, len) = {
        let mut bulk = link.bulk.borrow_mut();
        let Some(b) = bulk.as_mut() else { return Ok(None) };
        while b.pieces.front().is_some_and(Bytes::is_empty) {
            b.pieces.pop_front();
        }
        if let Some(front) = b.pieces.front_mut() {
            let piece = front.split_to(front.len().min(CHUNK));
            if front.is_empty() {
                b.pieces.pop_front();
            }
            return Ok(Some(piece));
        }
        match &b.file {
            Some((file, at, size)) if at < size => (file.clone(), *at, (size - at).min(CHUNK as u64) as usize),
            _ => return Ok(None),
        }
    };
    let read = file.read_at(at, len).await.map_err(io::Error::from)?;
    if read.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if let Some((_, at, _)) = link.bulk.borrow_mut().as_mut().and_then(|b| b.file.as_mut()) {
        *at += read.len() as u64;
    }
    Ok(Some(Bytes::copy_from_slice(&read)))
}

/// The sockets of the replicas that get a snapshot as it is made.
struct SocketSink {
    service: Rc<Service>,
    links: Vec<Rc<Link>>,
    job: Option<std::sync::Arc<Job>>,
    mark: String,
    /// Buffers under way, and those that all sockets have taken.
    sent: VecDeque<Bytes>,
    spares: Vec<Vec<u8>>,
}

impl SocketSink {
    fn begin(service: &Rc<Service>, links: &[LinkId]) -> SocketSink {
        let mark = rng::hex_id::<40>();
        let links: Vec<Rc<Link>> = links.iter().filter_map(|id| service.link(*id)).collect();
        for link in &links {
            let mut bulk = Bulk::default();
            bulk.push(Bytes::from(format!("$EOF:{mark}\r\n")));
            *link.bulk.borrow_mut() = Some(bulk);
            link.bell.ring();
        }
        SocketSink {
            service: service.clone(),
            links,
            job: service.snapshot_job(),
            mark,
            sent: VecDeque::new(),
            spares: Vec::new(),
        }
    }

    /// Forgets those that have gone; it is an error if all have.
    fn still_there(&mut self) -> io::Result<()> {
        self.links.retain(|l| !l.has_ended() && l.bulk.borrow().is_some());
        if self.links.is_empty() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn queued(link: &Link) -> usize {
        link.bulk.borrow().as_ref().map_or(0, |b| b.queued)
    }

    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        loop {
            self.still_there()?;
            let slowest = self.links.iter().map(|l| SocketSink::queued(l)).max().unwrap_or(0);
            if slowest < QUEUE_MAX {
                break;
            }
            if self.job.as_ref().is_some_and(|j| j.unsent() > PRESSURE) && !self.over_limit() {
                break;
            }
            future::or(self.service.repl.bulk_sent.wait(), sleep(LOOK)).await;
        }
        for link in &self.links {
            if let Some(bulk) = link.bulk.borrow_mut().as_mut() {
                bulk.push(bytes.clone());
            }
            link.bell.ring();
        }
        self.still_there()
    }

    /// Sends a buffer, and puts one in its place that all replicas have taken.
    async fn send_buffer(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        while self.sent.front().is_some_and(Bytes::is_unique)
            && let Some(mut taken) = self.sent.pop_front()
        {
            // An empty one is taken apart without copying.
            taken.truncate(0);
            let buffer = Vec::from(taken);
            if self.spares.len() < SPARES && (WRITE_BYTES..=SPARE_MAX).contains(&buffer.capacity()) {
                self.spares.push(buffer);
            }
        }
        let bytes = Bytes::from(std::mem::replace(buffer, self.spares.pop().unwrap_or_default()));
        self.sent.push_back(bytes.clone());
        self.send(bytes).await
    }

    /// Does a replica leave more unread than `client-output-buffer-limit`
    /// allows? Those that have done so for a while are dropped.
    fn over_limit(&self) -> bool {
        let limit = self.service.repl.node.borrow().policy.output_hard_limit();
        let mut any = false;
        for link in &self.links {
            let queued = SocketSink::queued(link);
            let since = {
                let mut bulk = link.bulk.borrow_mut();
                let Some(b) = bulk.as_mut() else { continue };
                if queued as u64 <= limit {
                    b.over_since = None;
                    continue;
                }
                *b.over_since.get_or_insert_with(Instant::now)
            };
            any = true;
            if since.elapsed() >= PATIENCE {
                log::warning(format_args!(
                    "Client {} (replica) scheduled to be closed ASAP for overcoming of output buffer limits ({queued} bytes unsent).",
                    link.peer.borrow().name()
                ));
                self.service.close_replica(link.id, "it leaves too much of the snapshot unread");
            }
        }
        any
    }

    /// The end mark. Each replica goes on as soon as its socket has taken it.
    fn end(&mut self) -> io::Result<()> {
        self.still_there()?;
        log::notice(format_args!(
            "Diskless rdb transfer, done reading from pipe, {} replicas still up.",
            self.links.len()
        ));
        let mark = Bytes::from(std::mem::take(&mut self.mark));
        for link in &self.links {
            if let Some(bulk) = link.bulk.borrow_mut().as_mut() {
                bulk.push(mark.clone());
                bulk.complete = true;
            }
            link.bell.ring();
        }
        Ok(())
    }
}

impl Sink for SocketSink {
    fn write<'a>(&'a mut self, bytes: &'a mut Vec<u8>) -> Later<'a, io::Result<()>> {
        Box::pin(self.send_buffer(bytes))
    }

    fn finish(&mut self) -> Later<'_, io::Result<()>> {
        Box::pin(std::future::ready(self.end()))
    }

    /// What has been sent is no snapshot: the connections end.
    fn abort(&mut self) -> Later<'_, ()> {
        for link in &self.links {
            self.service.close_replica(link.id, "its snapshot was given up");
        }
        Box::pin(std::future::ready(()))
    }
}
