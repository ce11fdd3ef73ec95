//! The connection to the primary.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{IntoRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use super::link::{duplicate, hang_up};
use crate::replication::event::{Epoch, Event};
use crate::server::service::Service;
use crate::server::service::bell::Bell;

/// Bytes read at once.
const READ: usize = 256 << 10;

/// Bytes of the stream that may wait to be applied; beyond, the primary waits.
const WAITING_MAX: usize = 32 << 20;

/// See the module's description.
pub struct Upstream {
    epoch: Epoch,
    fd: RawFd,
    out: RefCell<Vec<u8>>,
    bell: Bell,
    ended: Cell<bool>,
}

impl Upstream {
    pub fn fd(&self) -> RawFd {
        self.fd
    }
}

/// Connects, trying the host's addresses in turn. Blocks: for a thread of its own.
fn connect(host: &str, port: u16, source: &str, timeout: Duration) -> std::io::Result<RawFd> {
    let mut last = std::io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match connect_to(address, source, timeout) {
            Ok(fd) => return Ok(fd),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, source: &str, timeout: Duration) -> std::io::Result<RawFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if !source.is_empty() {
        let local = (source, 0).to_socket_addrs()?.find(|a| a.is_ipv4() == address.is_ipv4());
        let local = local.ok_or_else(|| std::io::Error::other("bind-source-addr has no fitting address"))?;
        socket.bind(&local.into())?;
    }
    socket.connect_timeout(&address.into(), timeout)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into_raw_fd())
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
            let made = glommio::executor().spawn_blocking(move || connect(&host, port, &source, timeout)).await;
            let streams = made.and_then(|fd| match (duplicate(fd), duplicate(fd)) {
                (Ok(r), Ok(w)) => Ok((fd, r, w)),
                (Err(e), _) | (_, Err(e)) => Err(e),
            });
            match streams {
                Ok((fd, reader, writer)) => service.primary_is_connected(epoch, fd, reader, writer),
                Err(e) => service.replicate(Event::Lost { epoch, reason: e.to_string() }),
            }
        })
        .detach();
    }

    fn primary_is_connected(self: Rc<Self>, epoch: Epoch, fd: RawFd, reader: TcpStream, writer: TcpStream) {
        let up =
            Rc::new(Upstream { epoch, fd, out: RefCell::default(), bell: Bell::default(), ended: Cell::new(false) });
        // A connection that was given up while it was being made ends itself:
        // nothing comes of its event.
        *self.repl.upstream.borrow_mut() = Some(up.clone());
        glommio::spawn_local(self.clone().write_to_primary(up.clone(), writer)).detach();
        glommio::spawn_local(self.clone().hear_primary(up, reader)).detach();
        self.replicate(Event::Connected { epoch });
        let wanted = self.repl.node.borrow().upstream.as_ref().is_some_and(|u| u.epoch == epoch);
        if !wanted {
            self.disconnect_from_primary(epoch);
        }
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
        if let Some(up) = self.upstream(epoch) {
            *self.repl.upstream.borrow_mut() = None;
            end(&up);
        }
    }

    async fn write_to_primary(self: Rc<Self>, up: Rc<Upstream>, mut socket: TcpStream) {
        while !up.ended.get() {
            let out = up.out.take();
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
                    let bytes = Bytes::copy_from_slice(&buffer[..n]);
                    self.replicate(Event::Received { epoch: up.epoch, bytes });
                }
                Ok(_) => break String::new(),
                Err(e) => break e.to_string(),
            }
            if up.ended.get() {
                break String::new();
            }
        };
        let ended = up.ended.get();
        end(&up);
        // SAFETY: the tasks' streams are duplicates; this one is ours alone.
        unsafe { libc::close(up.fd) };
        if !ended {
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
