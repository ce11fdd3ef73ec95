//! A replica's connection: one task reads, one writes.
//!
//! The writer sends, in this order: what the node wants said, a snapshot, the
//! stream from the replica's place in the backlog. It reads the stream where it
//! lies, so a replica that is slow costs nothing but the backlog's memory; the
//! node drops it when that becomes too much.

use std::cell::{Cell, RefCell};
use std::os::fd::{FromRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::net::TcpStream;

use super::clients::Former;
use super::disk::Piece;
use super::full::Sending;
use super::now_ms;
use crate::base::memory;
use crate::base::num::parse_i64;
use crate::base::os::os_reason;
use crate::command::spec::flag;
use crate::journal::backlog::ReaderId;
use crate::observe::log;
use crate::replication::event::{Event, LinkId, Psync};
use crate::replication::id::ReplId;
use crate::replication::peer::{Peer, Replconf};
use crate::resp::request::{self, Limits, Resume, Step};
use crate::server::depart::{Departed, Wish};
use crate::server::registry::registry;
use crate::server::service::Service;
use crate::server::service::bell::Bell;
use crate::session::tls::Session;

/// Bytes read at once; a replica says little.
pub(super) const READ: usize = 16 << 10;

/// Bytes of input that may wait for the end of a command.
const INPUT_MAX: usize = 64 << 10;

/// Flags of the commands that a replica must not send because they see or
/// change keys, or go into the stream.
const KEYSPACE: u32 = flag::READONLY | flag::WRITE | flag::MAY_REPLICATE;

/// See the module's description.
pub(super) struct Link {
    pub id: LinkId,
    pub fd: RawFd,
    pub peer: RefCell<Peer>,
    out: RefCell<Vec<u8>>,
    /// Its session, if it is encrypted.
    tls: Option<RefCell<Box<Session>>>,
    /// Rung when there is something new to write, or the link is to end.
    pub bell: Bell,
    feeding: Cell<bool>,
    pub reader: Cell<Option<ReaderId>>,
    /// Ends when `out` is written.
    closing: Cell<bool>,
    /// A write is under way.
    writing: Cell<bool>,
    gone: Cell<bool>,
    pub sent: Cell<u64>,
    pub former: Former,
    /// By [`now_ms`]: since when it is here, and when it was last heard.
    pub made_at: u64,
    pub heard_at: Cell<u64>,
    /// Bytes of input that wait for the end of a command.
    pub input: Cell<usize>,
    /// Name of the last command.
    pub said: RefCell<String>,
    /// A snapshot on its way.
    pub bulk: RefCell<Option<super::full::Bulk>>,
}

/// A second descriptor of the same socket, as a stream of its own.
pub(super) fn duplicate(fd: RawFd) -> std::io::Result<TcpStream> {
    // SAFETY: duplicates an open descriptor.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the duplicate belongs to the stream alone.
    Ok(unsafe { TcpStream::from_raw_fd(copy) })
}

/// Ends a connection in both directions; pending reads and writes return.
pub(super) fn hang_up(fd: RawFd) {
    // SAFETY: a plain call on a descriptor that its owner has not closed.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

impl Link {
    pub fn has_ended(&self) -> bool {
        self.closing.get() || self.gone.get()
    }

    /// Is the stream being sent?
    pub fn is_fed(&self) -> bool {
        self.feeding.get()
    }

    pub fn is_writing(&self) -> bool {
        self.writing.get()
    }

    /// Bytes that the node wants said and that are not sent.
    pub fn waiting_bytes(&self) -> usize {
        self.out.borrow().len()
    }

    fn end(&self) {
        self.closing.set(true);
        if self.writing.get() {
            hang_up(self.fd);
        }
        self.bell.ring();
    }
}

impl Service {
    /// A data core has handed over the connection of a replica.
    pub fn adopt_replica(self: Rc<Self>, d: Departed) {
        let (reader, writer) = match (duplicate(d.fd), duplicate(d.fd)) {
            (Ok(r), Ok(w)) => (r, w),
            (Err(e), _) | (_, Err(e)) => {
                log::warning(format_args!("Can't serve a replica: {}", os_reason(&e)));
                // SAFETY: the descriptor was handed over with the connection.
                unsafe { libc::close(d.fd) };
                return;
            }
        };
        let _ = writer.set_nodelay(!self.repl.settings.borrow().replication.repl_disable_tcp_nodelay);
        let link = Rc::new(Link {
            id: d.id,
            fd: d.fd,
            peer: RefCell::new(d.peer.clone()),
            out: RefCell::new(d.output),
            tls: d.tls.map(RefCell::new),
            bell: Bell::default(),
            feeding: Cell::new(false),
            reader: Cell::new(None),
            closing: Cell::new(false),
            writing: Cell::new(false),
            gone: Cell::new(false),
            sent: Cell::new(0),
            former: d.former,
            made_at: now_ms().saturating_sub(d.age_ms),
            heard_at: Cell::new(now_ms()),
            input: Cell::new(0),
            said: RefCell::new(if matches!(d.wish, Wish::Sync) { "sync" } else { "psync" }.to_owned()),
            bulk: RefCell::new(None),
        });
        self.repl.links.borrow_mut().insert(d.id, link.clone());
        // First of all: a task runs from where it is spawned, and one that finds
        // the connection reset would tell of its end before its beginning.
        self.replicate(match d.wish {
            Wish::Psync { id, next, failover } => {
                Event::Psync(Psync { link: d.id, peer: d.peer, id: ReplId::asked(&id), next, failover })
            }
            Wish::Sync => Event::Sync { link: d.id, peer: d.peer },
        });
        glommio::spawn_local(self.clone().write_to_replica(link.clone(), writer, d.sealed)).detach();
        glommio::spawn_local(self.hear_replica(link, reader, d.input)).detach();
    }

    pub(super) fn link(&self, id: LinkId) -> Option<Rc<Link>> {
        self.repl.links.borrow().get(&id).cloned()
    }

    pub(super) fn send_to_replica(&self, id: LinkId, bytes: &[u8]) {
        if let Some(link) = self.link(id) {
            link.out.borrow_mut().extend_from_slice(bytes);
            link.bell.ring();
        }
    }

    pub(super) fn close_replica(&self, id: LinkId, reason: &str) {
        if let Some(link) = self.link(id) {
            log::verbose(format_args!("Closing the connection of replica {}: {reason}", link.peer.borrow().name()));
            link.end();
            self.release_reader(&link);
        }
    }

    /// Gives a replica its place in the stream.
    pub(super) fn pin_replica(&self, id: LinkId, from: u64) {
        let Some(link) = self.link(id) else { return };
        if link.reader.get().is_none()
            && let Some(r) = &mut self.streams.borrow_mut().out.replication
        {
            link.reader.set(r.backlog.attach(from - 1));
        }
    }

    pub(super) fn feed_replica(&self, id: LinkId, from: u64) {
        self.pin_replica(id, from);
        let Some(link) = self.link(id) else { return };
        if link.reader.get().is_none() {
            log::warning(format_args!("The backlog no longer holds what replica {} needs", link.peer.borrow().name()));
            return link.end();
        }
        link.feeding.set(true);
        link.bell.ring();
    }

    async fn write_to_replica(self: Rc<Self>, link: Rc<Link>, mut socket: TcpStream, sealed: Vec<u8>) {
        // What was encrypted before the connection came here goes first.
        if socket.write_all(&sealed).await.is_err() {
            return self.bury(&link);
        }
        loop {
            let out = link.out.take();
            if !out.is_empty() {
                self.repl.count_net(0, out.len());
                if !write(&link, &mut socket, &out).await {
                    break;
                }
                continue;
            }
            if link.closing.get() {
                break;
            }
            if link.bulk.borrow().is_some() {
                match self.write_bulk(&link, &mut socket).await {
                    Sending::Went => continue,
                    Sending::Broken => break,
                    Sending::Idle => {}
                }
            } else {
                match self.next_piece(&link).await {
                    Piece::Nothing => {}
                    Piece::Kept(piece, end) => {
                        self.repl.count_net(0, piece.len());
                        if !write(&link, &mut socket, &piece).await {
                            break;
                        }
                        // The block that it lies in may be dropped now.
                        drop(piece);
                        self.sent_to_replica(&link, end);
                        continue;
                    }
                    Piece::Read(piece, end) => {
                        self.repl.count_net(0, piece.len());
                        let fine = write(&link, &mut socket, &piece).await;
                        let sent = piece.len();
                        drop(piece);
                        memory::settle();
                        self.shared.stream_memory.sending.fetch_sub(sent, Ordering::Relaxed);
                        if !fine {
                            break;
                        }
                        self.sent_to_replica(&link, end);
                        continue;
                    }
                    Piece::Lost => {
                        let name = link.peer.borrow().name();
                        log::warning(format_args!("The backlog no longer holds what replica {name} needs"));
                        break;
                    }
                }
            }
            future::or(link.bell.wait(), self.advanced.wait()).await;
        }
        self.bury(&link);
    }

    fn sent_to_replica(self: &Rc<Self>, link: &Link, end: u64) {
        if let (Some(reader), Some(r)) = (link.reader.get(), &mut self.streams.borrow_mut().out.replication) {
            r.backlog.advance(reader, end);
        }
        self.count_backlog();
        self.replicate(Event::Sent { link: link.id, offset: end });
    }

    /// Nothing of the stream is kept for this replica any more.
    fn release_reader(&self, link: &Link) {
        if let (Some(reader), Some(r)) = (link.reader.take(), &mut self.streams.borrow_mut().out.replication) {
            r.backlog.detach(reader);
        }
        self.count_backlog();
    }

    fn count_backlog(&self) {
        memory::settle();
        self.shared.stream_memory.note_backlog(self.streams.borrow().out.backlog());
    }

    /// The connection has ended, for whatever reason.
    fn bury(self: &Rc<Self>, link: &Link) {
        if link.gone.replace(true) {
            return;
        }
        hang_up(link.fd);
        link.bulk.borrow_mut().take();
        self.repl.bulk_sent.ring();
        self.release_reader(link);
        // What was on its way is gone, too.
        self.count_backlog();
        self.repl.links.borrow_mut().remove(&link.id);
        self.replicate(Event::Gone { link: link.id });
        // SAFETY: the tasks' streams are duplicates; this one is ours alone.
        unsafe { libc::close(link.fd) };
    }

    async fn hear_replica(self: Rc<Self>, link: Rc<Link>, mut socket: TcpStream, mut input: Vec<u8>) {
        let mut buffer = vec![0; READ];
        let mut resume = Resume::default();
        loop {
            if !self.take_input(&link, &mut input, &mut resume) {
                break;
            }
            link.input.set(input.len());
            match socket.read(&mut buffer).await {
                Ok(n) if n > 0 && !link.gone.get() => {
                    link.heard_at.set(now_ms());
                    match &link.tls {
                        None => input.extend_from_slice(&buffer[..n]),
                        Some(tls) => match tls.borrow_mut().open(&buffer[..n], &mut input) {
                            Ok(false) => {}
                            _ => break,
                        },
                    }
                }
                _ => break,
            }
        }
        if !link.gone.get() {
            link.end();
        }
    }

    /// Works off what a replica has said; false when it talks nonsense.
    fn take_input(self: &Rc<Self>, link: &Link, input: &mut Vec<u8>, resume: &mut Resume) -> bool {
        let limits = Limits { bulk_max: INPUT_MAX, unauthenticated: false };
        let mut at = 0;
        let fine = loop {
            // An empty line is no command: it shows that the replica lives.
            if input[at..].starts_with(b"\n") || input[at..].starts_with(b"\r\n") {
                at += if input[at] == b'\n' { 1 } else { 2 };
                self.replicate(Event::Alive { link: link.id });
                continue;
            }
            let mut args: Vec<&[u8]> = Vec::new();
            match request::read(&input[at..], &limits, resume, &mut args) {
                Step::Request(n) => {
                    at += n;
                    if !self.replica_says(link, &args) {
                        break false;
                    }
                }
                Step::Inline(n) => {
                    let words = std::mem::take(&mut resume.words);
                    let words: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
                    at += n;
                    if !self.replica_says(link, &words) {
                        break false;
                    }
                }
                Step::Partial => break true,
                Step::Malformed(_) => break false,
            }
        };
        input.drain(..at);
        fine && input.len() <= INPUT_MAX
    }

    /// False when it wants a reply, for which there is no room in the stream.
    fn replica_says(self: &Rc<Self>, link: &Link, args: &[&[u8]]) -> bool {
        let Some(name) = args.first() else { return true };
        if !name.eq_ignore_ascii_case(b"replconf") {
            let asks_again = name.eq_ignore_ascii_case(b"sync") || name.eq_ignore_ascii_case(b"psync");
            if !asks_again {
                let entry = registry().resolve(args);
                let name = entry.as_ref().map_or("<unknown>", |e| e.spec.name);
                let who = link.peer.borrow().name();
                log::warning(format_args!("Replica generated a reply to command '{name}', disconnecting it: {who}"));
                if entry.is_ok_and(|e| e.spec.is(KEYSPACE)) {
                    log::warning(format_args!(
                        "== CRITICAL == This master is sending an error to its replica: 'Replica can't interact with the keyspace' after processing the command '{name}'"
                    ));
                }
            }
            return asks_again;
        }
        if *link.said.borrow() != "replconf" {
            *link.said.borrow_mut() = "replconf".to_owned();
        }
        let said = link.peer.borrow_mut().replconf(args);
        if let Replconf::Ack { offset, fsynced } = said {
            self.replicate(Event::Ack { link: link.id, offset, fsynced });
        }
        true
    }
}

/// Writes everything; false when the connection has ended.
pub(super) async fn write(link: &Link, socket: &mut TcpStream, bytes: &[u8]) -> bool {
    link.writing.set(true);
    let fine = match &link.tls {
        None => socket.write_all(bytes).await.is_ok(),
        Some(tls) => {
            let mut sealed = Vec::with_capacity(bytes.len() + bytes.len() / 64 + 64);
            tls.borrow_mut().seal(bytes, &mut sealed);
            socket.write_all(&sealed).await.is_ok()
        }
    };
    link.writing.set(false);
    link.sent.set(link.sent.get() + bytes.len() as u64);
    fine && !link.gone.get()
}

/// The arguments of PSYNC, as a wish; the error's text if they are none.
pub fn parse_psync(args: &[&[u8]]) -> Result<Wish, &'static str> {
    let next = parse_i64(args[2]).ok_or("ERR value is not an integer or out of range")?;
    let failover = args.get(3).is_some_and(|a| a.eq_ignore_ascii_case(b"failover"));
    Ok(Wish::Psync { id: args[1].to_vec(), next, failover })
}
