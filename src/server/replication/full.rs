//! Full synchronization, this server being the primary: a snapshot for replicas.
//!
//! The cut has an exact place in the stream. From there on every replica of
//! the snapshot is attached to the backlog, so that nothing it will need is
//! dropped while the snapshot goes out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use glommio::net::TcpStream;

use super::link::{Link, write};
use crate::base::{clock, memory, rng};
use crate::replication::event::{Event, LinkId, Target};
use crate::replication::peer::Wanted;
use crate::server::image::{DbImage, Want};
use crate::server::process;
use crate::server::service::Service;
use crate::snapshot::rdb::Version;
use crate::snapshot::rdb::frame::{About, Frame, Stream};

/// Bytes that one send takes.
const CHUNK: usize = 256 << 10;

/// The snapshot in progress.
#[derive(Default)]
pub(super) struct Full {
    /// Counts snapshots; a later one, or an abort, ends the earlier.
    generation: Cell<u64>,
    /// The file that replicas are to be sent.
    file: RefCell<Rc<Vec<Bytes>>>,
}

/// A snapshot on its way to one replica.
pub(super) struct Bulk {
    pieces: VecDeque<Bytes>,
    /// It comes from the file: the node hears when it is sent.
    file: bool,
}

impl Service {
    pub(super) fn snapshot_for_replicas(self: &Rc<Self>, target: Target, wanted: Wanted, links: Vec<LinkId>) {
        let generation = self.repl.full.generation.get() + 1;
        self.repl.full.generation.set(generation);
        glommio::spawn_local(self.clone().make_snapshot(generation, target, wanted, links)).detach();
    }

    pub(super) fn abort_snapshot_for_replicas(&self) {
        self.repl.full.generation.set(self.repl.full.generation.get() + 1);
    }

    fn is_current(&self, generation: u64) -> bool {
        self.repl.full.generation.get() == generation
    }

    async fn make_snapshot(self: Rc<Self>, generation: u64, target: Target, wanted: Wanted, links: Vec<LinkId>) {
        // The cores must publish before the cut.
        while !self.changes_are_made() {
            self.repl.roles.made.wait().await;
        }
        let keys = !(wanted.functions_only || wanted.nothing);
        let (images, offset) = self.cut(if keys { Want::Entries } else { Want::Nothing }).await;
        if !self.is_current(generation) {
            return;
        }
        links.iter().for_each(|link| self.pin_replica(*link, offset + 1));
        self.replicate(Event::SnapshotCut { offset });
        let file = Rc::new(self.compose(images, offset));
        match target {
            Target::Disk => *self.repl.full.file.borrow_mut() = file,
            Target::Sockets => self.send_to_sockets(generation, &file, &links).await,
        }
        if self.is_current(generation) {
            self.replicate(Event::SnapshotDone);
        }
    }

    /// The dataset at one place of the stream, and that place.
    async fn cut(self: &Rc<Self>, want: Want) -> (Vec<Vec<DbImage>>, u64) {
        let _held = self.hold_applying().await;
        let place = Rc::new(Cell::new(None));
        let id = self.next_cut();
        let relays = {
            let mut s = self.streams.borrow_mut();
            let noted = place.clone();
            s.out.at_cut(id, move |out| {
                if let Some(r) = &mut out.replication {
                    r.selected.forget();
                    noted.set(Some(r.backlog.end()));
                }
            });
            !s.running || s.out.replication.as_ref().is_none_or(|r| r.relays)
        };
        let images = self.image(id, want).await;
        if relays {
            self.streams.borrow_mut().out.forget_cut(id);
            return (images, self.stream_window().end);
        }
        self.streams.borrow_mut().hurried += 1;
        self.woken.ring();
        let offset = loop {
            match place.get() {
                Some(offset) => break offset,
                None => self.advanced.wait().await,
            }
        };
        self.streams.borrow_mut().hurried -= 1;
        (images, offset)
    }

    /// The file's bytes.
    fn compose(&self, images: Vec<Vec<DbImage>>, offset: u64) -> Vec<Bytes> {
        let settings = self.repl.settings.borrow();
        let mut frame = Frame::new(settings.persistence.rdbchecksum);
        let node = self.repl.node.borrow();
        let id = node.history.id.to_string();
        let db = if node.is_replica() { node.applied_db } else { 0 };
        let about = About {
            server_version: process::VERSION,
            made_unix_s: clock::now_ms() / 1000,
            used_memory: memory::used() as u64,
            replication: Some(Stream { db: u64::from(db), id: &id, offset }),
            aof_base: false,
        };
        let mut pieces = Vec::new();
        let mut head = Vec::new();
        frame.begin(&mut head, Version::V10, &about);
        pieces.push(Bytes::from(head));
        for db in 0..settings.databases as usize {
            let parts: Vec<&DbImage> = images.iter().flatten().filter(|i| i.db == db && i.keys > 0).collect();
            if parts.is_empty() {
                continue;
            }
            let mut select = Vec::new();
            let keys = parts.iter().map(|p| p.keys).sum();
            frame.select(&mut select, db, Some((keys, parts.iter().map(|p| p.volatile).sum())));
            pieces.push(Bytes::from(select));
            for part in parts {
                frame.records(&part.bytes);
                pieces.push(Bytes::copy_from_slice(&part.bytes));
            }
        }
        let mut tail = Vec::new();
        frame.end(&mut tail);
        pieces.push(Bytes::from(tail));
        pieces
    }

    async fn send_to_sockets(&self, generation: u64, file: &[Bytes], links: &[LinkId]) {
        let mark = rng::hex_id::<40>();
        for link in links.iter().filter_map(|id| self.link(*id)) {
            let mut pieces = VecDeque::from([Bytes::from(format!("$EOF:{mark}\r\n"))]);
            pieces.extend(file.iter().cloned());
            pieces.push_back(Bytes::from(mark.clone()));
            *link.bulk.borrow_mut() = Some(Bulk { pieces, file: false });
            link.bell.ring();
        }
        let under_way = || links.iter().filter_map(|id| self.link(*id)).any(|l| l.bulk.borrow().is_some());
        while self.is_current(generation) && under_way() {
            self.repl.bulk_sent.wait().await;
        }
    }

    pub(super) fn send_snapshot_file(&self, id: LinkId) {
        let Some(link) = self.link(id) else { return };
        let file = self.repl.full.file.borrow().clone();
        let length: usize = file.iter().map(Bytes::len).sum();
        let mut pieces = VecDeque::from([Bytes::from(format!("${length}\r\n"))]);
        pieces.extend(file.iter().cloned());
        *link.bulk.borrow_mut() = Some(Bulk { pieces, file: true });
        link.bell.ring();
    }

    /// Sends the next piece of a replica's snapshot; false when the connection
    /// has ended.
    pub(super) async fn write_bulk(self: &Rc<Self>, link: &Link, socket: &mut TcpStream) -> bool {
        let piece = {
            let mut bulk = link.bulk.borrow_mut();
            bulk.as_mut().and_then(|b| b.pieces.front_mut()).map(|p| p.split_to(p.len().min(CHUNK)))
        };
        if let Some(piece) = piece {
            let fine = write(link, socket, &piece).await;
            self.replicate(Event::BulkProgress { link: link.id });
            if !fine {
                return false;
            }
        }
        let finished = {
            let mut bulk = link.bulk.borrow_mut();
            let Some(b) = bulk.as_mut() else { return true };
            if b.pieces.front().is_some_and(Bytes::is_empty) {
                b.pieces.pop_front();
            }
            b.pieces.is_empty().then(|| bulk.take().is_some_and(|b| b.file))
        };
        if let Some(file) = finished {
            self.repl.bulk_sent.ring();
            if file {
                self.replicate(Event::BulkSent { link: link.id });
            }
        }
        true
    }
}
