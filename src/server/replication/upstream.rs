//! The connection to the primary.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

use super::link::{duplicate, hang_up};
use super::{connect, now_ms};
use crate::base::os::os_reason;
use crate::replication::event::{Epoch, Event};
use crate::server::role::Role;
use crate::server::service::Service;
use crate::server::service::bell::Bell;
use crate::session::tls::Session;

/// Bytes read at once.
pub(super) const READ: usize = 256 << 10;

/// Bytes of the stream that may wait to be applied; beyond, the primary waits.
const WAITING_MAX: usize = 32 << 20;

/// Why the link has ended when it was not its reading task that noticed.
const BROKEN: &str = "writing to the primary failed";

/// See the module's description.
pub struct Upstream {
    epoch: Epoch,
    fd: RawFd,
    /// Its client id, and since when it is there, by [`now_ms`].
    pub id: u64,
    pub made_at: u64,
    out: RefCell<Vec<u8>>,
    tls: Option<RefCell<Box<Session>>>,
    bell: Bell,
    /// The socket is shut down: both tasks end.
    ended: Cell<bool>,
    /// The node wants it no more, and is not to be told of its end.
    given_up: Cell<bool>,
}

impl Upstream {
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Bytes that wait to be sent.
    pub fn waiting_bytes(&self) -> usize {
        self.out.borrow().len()
    }
}

impl Service {
    pub(super) fn connect_to_primary(self: &Rc<Self>, epoch: Epoch, host: String, port: u16) {
        let (source, timeout) = {
            let s = self.repl.settings.borrow();
            let timeout = Duration::from_secs(s.replication.repl_timeout_s.into());
            (s.replication.bind_source_addr.clone(), timeout)
        };
        let service = self.clone();
        glommio::spawn_local(async move {
            let tls = service.shared.tls().and_then(|t| t.to_primary.clone());
            let made = connect::to_primary(&service.repl.attempts, epoch, (host, port), source, timeout, tls).await;
            let streams = made.and_then(|(fd, session)| match (duplicate(fd), duplicate(fd)) {
                (Ok(r), Ok(w)) => Ok((fd, session, r, w)),
                (Err(e), _) | (_, Err(e)) => Err(e),
            });
            match streams {
                Ok((fd, session, reader, writer)) => service.primary_is_connected(epoch, (fd, session), reader, writer),
                Err(e) => service.replicate(Event::Lost { epoch, reason: os_reason(&e) }),
            }
        })
        .detach();
    }

    fn primary_is_connected(
        self: Rc<Self>,
        epoch: Epoch,
        (fd, session): (RawFd, Option<Session>),
        reader: TcpStream,
        writer: TcpStream,
    ) {
        let up = Rc::new(Upstream {
            epoch,
            fd,
            id: self.shared.next_client(),
            made_at: now_ms(),
            out: RefCell::default(),
            tls: session.map(|s| RefCell::new(Box::new(s))),
            bell: Bell::default(),
            ended: Cell::new(false),
            given_up: Cell::new(false),
        });
        self.set_role(Role { primary: reader.peer_addr().ok(), ..self.repl.role.get() });
        // A connection that was given up while it was being made ends itself:
        // nothing comes of its event.
        *self.repl.upstream.borrow_mut() = Some(up.clone());
        // Before the tasks, which run from where they are spawned: they may find
        // that it has ended already.
        self.replicate(Event::Connected { epoch });
        let wanted = self.repl.node.borrow().upstream.as_ref().is_some_and(|u| u.epoch == epoch);
        if !wanted {
            self.disconnect_from_primary(epoch);
        }
        glommio::spawn_local(self.clone().write_to_primary(up.clone(), writer)).detach();
        glommio::spawn_local(self.hear_primary(up, reader)).detach();
    }

    fn upstream(&self, epoch: Epoch) -> Option<Rc<Upstream>> {
        self.repl.upstream.borrow().clone().filter(|up| up.epoch == epoch)
    }

    pub(super) fn tell_primary(&self, epoch: Epoch, bytes: &[u8]) {
        if let Some(up) = self.upstream(epoch) {
            up.out.borrow_mut().extend_from_slice(bytes);
            up.bell.ring();
        }
    }

    pub(super) fn disconnect_from_primary(&self, epoch: Epoch) {
        self.repl.attempts.give_up(epoch);
        if let Some(up) = self.upstream(epoch) {
            *self.repl.upstream.borrow_mut() = None;
            up.given_up.set(true);
            end(&up);
        }
    }

    async fn write_to_primary(self: Rc<Self>, up: Rc<Upstream>, mut socket: TcpStream) {
        while !up.ended.get() {
            let mut out = up.out.take();
            if let (Some(tls), false) = (&up.tls, out.is_empty()) {
                let mut sealed = Vec::new();
                tls.borrow_mut().seal(&out, &mut sealed);
                out = sealed;
            }
            if out.is_empty() {
                up.bell.wait().await;
            } else if socket.write_all(&out).await.is_err() {
                break;
            }
        }
        end(&up);
    }

    async fn hear_primary(self: Rc<Self>, up: Rc<Upstream>, mut socket: TcpStream) {
        let mut buffer = vec![0; READ];
        let reason = loop {
            while self.overfull() && !up.ended.get() {
                self.repl.applied.wait().await;
            }
            match socket.read(&mut buffer).await {
                Ok(0) => break "the primary has closed the connection".to_string(),
                Ok(n) if !up.ended.get() => {
                    self.repl.count_net(n, 0);
                    let bytes = match &up.tls {
                        None => Bytes::copy_from_slice(&buffer[..n]),
                        Some(tls) => {
                            let mut plain = Vec::with_capacity(n);
                            if let Err(e) = tls.borrow_mut().open(&buffer[..n], &mut plain) {
                                break format!("TLS: {e}");
                            }
                            plain.into()
                        }
                    };
                    if bytes.is_empty() {
                        continue;
                    }
                    self.replicate(Event::Received { epoch: up.epoch, bytes });
                }
                Ok(_) => break BROKEN.to_string(),
                Err(e) => break os_reason(&e),
            }
            if up.ended.get() {
                break BROKEN.to_string();
            }
        };
        end(&up);
        // SAFETY: the tasks' streams are duplicates; this one is ours alone.
        unsafe { libc::close(up.fd) };
        // Also when it was the writing task that found it broken.
        if !up.given_up.get() {
            if self.upstream(up.epoch).is_some() {
                *self.repl.upstream.borrow_mut() = None;
            }
            self.replicate(Event::Lost { epoch: up.epoch, reason });
        }
    }

    /// Must the primary wait until more is applied, or the snapshot loaded?
    fn overfull(&self) -> bool {
        let reads = self.repl.node.borrow().upstream.as_ref().is_none_or(|u| u.reads());
        !reads || self.repl.batch_bytes.get() > WAITING_MAX || self.load_is_behind()
    }
}

fn end(up: &Upstream) {
    if !up.ended.replace(true) {
        hang_up(up.fd);
    }
    up.bell.ring();
}
