//! Connecting to the primary: on threads of its own, which may stand still for as
//! long as `repl-timeout` says, and end when nobody wants the connection any more.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use super::upstream::READ;
use crate::replication::event::Epoch;
use crate::server::service::bell::Bell;
use crate::session::tls::Session;

/// Attempts under way at most; one that is given up may still ask for a name. They
/// take threads that others need, too (`service::WORKERS`).
const ATTEMPTS_MAX: usize = 2;

/// How soon an attempt ends that is given up.
const SLICE: Duration = Duration::from_millis(20);

/// The attempts to connect.
#[derive(Default)]
pub struct Attempts {
    running: Cell<usize>,
    ended: Bell,
    /// The last one, and whether it is given up.
    last: RefCell<Option<(Epoch, Arc<AtomicBool>)>>,
}

impl Attempts {
    /// Begins an attempt, the only one that is wanted from now on.
    fn begin(&self, epoch: Epoch) -> Arc<AtomicBool> {
        let given_up = Arc::new(AtomicBool::new(false));
        if let Some((_, old)) = self.last.replace(Some((epoch, given_up.clone()))) {
            old.store(true, Ordering::Relaxed);
        }
        given_up
    }

    pub fn give_up(&self, epoch: Epoch) {
        if let Some((_, given_up)) = self.last.borrow().as_ref().filter(|(e, _)| *e == epoch) {
            given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// Makes a connection: its descriptor, and its session if it is to be encrypted.
pub async fn to_primary(
    attempts: &Attempts,
    epoch: Epoch,
    (host, port): (String, u16),
    source: String,
    timeout: Duration,
    tls: Option<Arc<ClientConfig>>,
) -> Result<(RawFd, Option<Session>)> {
    let given_up = attempts.begin(epoch);
    while attempts.running.get() >= ATTEMPTS_MAX {
        attempts.ended.wait().await;
    }
    attempts.running.set(attempts.running.get() + 1);
    let work = move || {
        let fd = connect(&host, port, &source, timeout, &given_up)?;
        let session = tls.map(|config| negotiate(fd, config, &host, timeout)).transpose();
        if session.is_err() {
            // SAFETY: the descriptor was made here and nobody else has it.
            unsafe { libc::close(fd) };
        }
        session.map(|s| (fd, s))
    };
    let made = glommio::executor().spawn_blocking(work).await;
    attempts.running.set(attempts.running.get() - 1);
    attempts.ended.ring();
    made
}

/// Connects, trying the host's addresses in turn.
fn connect(host: &str, port: u16, source: &str, timeout: Duration, given_up: &AtomicBool) -> Result<RawFd> {
    let mut last = Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match connect_to(address, source, timeout, given_up) {
            Ok(fd) => return Ok(fd),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, source: &str, timeout: Duration, given_up: &AtomicBool) -> Result<RawFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if !source.is_empty() {
        let local = (source, 0).to_socket_addrs()?.find(|a| a.is_ipv4() == address.is_ipv4());
        let local = local.ok_or_else(|| Error::other("bind-source-addr has no fitting address"))?;
        socket.bind(&local.into())?;
    }
    socket.set_nonblocking(true)?;
    if let Err(e) = socket.connect(&address.into())
        && e.raw_os_error() != Some(libc::EINPROGRESS)
    {
        return Err(e);
    }
    wait_until_connected(&socket, timeout, given_up)?;
    socket.set_nonblocking(false)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into_raw_fd())
}

fn wait_until_connected(socket: &Socket, timeout: Duration, given_up: &AtomicBool) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one entry, which lives as long as the call.
        match unsafe { libc::poll(&raw mut poll, 1, SLICE.as_millis() as i32) } {
            n if n < 0 && Error::last_os_error().kind() != ErrorKind::Interrupted => return Err(Error::last_os_error()),
            n if n > 0 => return socket.take_error()?.map_or(Ok(()), Err),
            _ if given_up.load(Ordering::Relaxed) => return Err(Error::other("the attempt was given up")),
            _ if begin.elapsed() >= timeout => return Err(ErrorKind::TimedOut.into()),
            _ => {}
        }
    }
}

/// Agrees on a session (`tls-replication`). Blocks like [`connect`].
fn negotiate(fd: RawFd, config: Arc<ClientConfig>, host: &str, limit: Duration) -> Result<Session> {
    // SAFETY: the descriptor stays the caller's: the stream is never dropped.
    let mut stream = ManuallyDrop::new(unsafe { std::net::TcpStream::from_raw_fd(fd) });
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut session = Session::client(config, host).map_err(Error::other)?;
    let (mut buffer, mut plain) = (vec![0; READ], Vec::new());
    loop {
        let mut out = Vec::new();
        session.seal(&[], &mut out);
        stream.write_all(&out)?;
        if !session.is_handshaking() {
            break;
        }
        let n = match stream.read(&mut buffer)? {
            0 => return Err(Error::other("the primary has closed the connection in the TLS handshake")),
            n => n,
        };
        // A primary speaks when it is spoken to: nothing plain comes yet.
        if let Err(e) = session.open(&buffer[..n], &mut plain) {
            let mut alert = Vec::new();
            session.seal(&[], &mut alert);
            let _ = stream.write_all(&alert);
            return Err(Error::other(format!("TLS: {e}")));
        }
    }
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_is_given_up_ends_soon() {
        // A listener whose queue is full answers nobody.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let port = listener.local_addr().unwrap().as_socket().unwrap().port();
        let free = AtomicBool::new(false);
        let short = Duration::from_millis(100);
        let full: Vec<_> = (0..3).map(|_| connect("127.0.0.1", port, "", short, &free)).collect();
        assert_eq!(full[2].as_ref().unwrap_err().kind(), ErrorKind::TimedOut);
        let begin = Instant::now();
        assert!(connect("127.0.0.1", port, "", Duration::from_secs(60), &AtomicBool::new(true)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(10));
        for fd in full.into_iter().flatten() {
            // SAFETY: made above, and known to nobody else.
            unsafe { libc::close(fd) };
        }
    }

    #[test]
    fn who_does_not_listen_is_an_error_at_once() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let fd = connect("127.0.0.1", port, "127.0.0.1", Duration::from_secs(5), &AtomicBool::new(false)).unwrap();
        // SAFETY: as above.
        unsafe { libc::close(fd) };
        drop(socket);
        let e = connect("127.0.0.1", port, "", Duration::from_secs(5), &AtomicBool::new(false)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
    }
}
