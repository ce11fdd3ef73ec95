//! MIGRATE's half on the service core: a connection to the target, RESTORE for
//! every key, and what the target says to them.
//!
//! Requests and replies, their order and the error texts are those of
//! redis-server 7.0.15. A connection serves one MIGRATE; it is encrypted with
//! `tls-cluster yes`.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::net::TcpStream;
use glommio::timer::sleep;
use rustls::ClientConfig;

use super::Service;
use crate::base::clock;
use crate::resp::encode;
use crate::server::migrating::{Order, Payload};
use crate::server::tx::{Kind, Tx};
use crate::session::tls::Session;

/// Bytes of one write; each has the whole timeout.
const CHUNK: usize = 64 << 10;

/// Bytes of a line of the target's at most.
const LINE_MAX: usize = 64 << 10;

/// Nobody waits longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Where it went wrong, in Redis's words.
const CONNECTING: &str = "IOERR error or timeout connecting to the client";
const WRITING: &str = "IOERR error or timeout writing to target instance";
const READING: &str = "IOERR error or timeout reading to target instance";

/// What came of it: the places of the keys that the target has taken, and the
/// error's text.
#[derive(Default)]
struct Outcome {
    acked: Vec<usize>,
    error: Option<String>,
}

impl Service {
    /// Sends packed keys to their target.
    pub fn migrate(self: &Rc<Self>, tx: Arc<Tx>, payloads: Vec<Payload>) {
        let service = self.clone();
        glommio::spawn_local(async move {
            let Kind::Migrate(order) = &tx.kind else { return };
            let tls = service.shared.tls().and_then(|t| t.to_target.clone());
            let outcome = carry(order, &payloads, tls).await;
            let reply = outcome.error.map_or("+OK\r\n".to_string(), |text| format!("-{text}\r\n"));
            let home = tx.coordinator;
            service.call(home, move |core| core.migrated(tx, outcome.acked, reply.into_bytes()));
        })
        .detach();
    }
}

/// A step, unless it takes too long.
async fn within<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let too_long = async {
        sleep(limit).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(step, too_long).await
}

/// The target's addresses; a name is looked up on a thread of its own.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_string();
    let look_up = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
    glommio::executor().spawn_blocking(look_up).await
}

/// A connection to the target.
struct Link {
    stream: TcpStream,
    tls: Option<Box<Session>>,
}

impl Link {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes).await };
        let mut sealed = Vec::with_capacity(bytes.len() + 1024);
        tls.seal(bytes, &mut sealed);
        self.stream.write_all(&sealed).await
    }

    /// Appends what comes next; nothing of it may be meant for us.
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut more = [0; 4096];
        let n = match self.stream.read(&mut more).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => n,
        };
        match &mut self.tls {
            None => into.extend_from_slice(&more[..n]),
            Some(tls) => {
                let ended = tls.open(&more[..n], into).map_err(io::Error::other)?;
                if ended && into.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(())
    }

    /// Agrees on a session.
    async fn negotiate(&mut self) -> io::Result<()> {
        loop {
            self.write(&[]).await?;
            if self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
                return Ok(());
            }
            // A target speaks when it is spoken to: nothing plain comes yet.
            if let Err(e) = self.read(&mut Vec::new()).await {
                // It may be worth an alert.
                let _ = self.write(&[]).await;
                return Err(e);
            }
        }
    }
}

async fn connect_securely(order: &Order, addresses: &[SocketAddr], config: Arc<ClientConfig>) -> io::Result<Link> {
    let tls = Session::client(config, &order.host).map_err(io::Error::other)?;
    let mut link = Link { stream: connect(addresses).await?, tls: Some(Box::new(tls)) };
    link.negotiate().await?;
    Ok(link)
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}

/// All that is asked of the target, and the places of the keys asked about.
fn request(order: &Order, payloads: &[Payload]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut places) = (Vec::new(), Vec::new());
    if !order.login.is_empty() {
        let words: Vec<&[u8]> = [&b"AUTH"[..]].into_iter().chain(order.login.iter().map(|w| &w[..])).collect();
        encode::command(&mut out, &words);
    }
    encode::command(&mut out, &[b"SELECT", order.db.to_string().as_bytes()]);
    let now = clock::now_ms();
    for p in payloads {
        let ttl = match p.deadline_ms {
            None => 0,
            // It expires here.
            Some(at) if at < now => continue,
            Some(at) => (at - now).max(1),
        };
        let ttl = ttl.to_string();
        let mut words: Vec<&[u8]> = vec![b"RESTORE", &order.keys[p.place], ttl.as_bytes(), &p.dump];
        if order.replace {
            words.push(b"REPLACE");
        }
        encode::command(&mut out, &words);
        places.push(p.place);
    }
    (out, places)
}

async fn carry(order: &Order, payloads: &[Payload], tls: Option<Arc<ClientConfig>>) -> Outcome {
    let limit = Duration::from_millis(order.timeout_ms).min(TIMEOUT_MAX);
    let failed = |text: &str| Outcome { error: Some(text.into()), ..Outcome::default() };
    let Ok(addresses) = within(limit, resolve(&order.host, order.port)).await else { return failed(CONNECTING) };
    let mut link = match tls {
        None => match within(limit, connect(&addresses)).await {
            Ok(stream) => Link { stream, tls: None },
            Err(_) => return failed(WRITING),
        },
        Some(config) => match within(limit, connect_securely(order, &addresses, config)).await {
            Ok(link) => link,
            Err(_) => return failed(CONNECTING),
        },
    };
    let (bytes, places) = request(order, payloads);
    for chunk in bytes.chunks(CHUNK) {
        if within(limit, link.write(chunk)).await.is_err() {
            return failed(WRITING);
        }
    }
    drop(bytes);
    let mut lines = Lines { link, limit, buffer: Vec::new(), at: 0 };
    // The first error counts: that of the login, of SELECT, or of a key.
    let mut refused: Option<String> = None;
    for _ in 0..1 + usize::from(!order.login.is_empty()) {
        match lines.next().await {
            Ok(line) => refused = refused.or(complaint(&line)),
            Err(_) => return failed(READING),
        }
    }
    let mut outcome = Outcome::default();
    for place in places {
        let Ok(line) = lines.next().await else {
            outcome.error.get_or_insert(READING.into());
            return outcome;
        };
        match refused.clone().or(complaint(&line)) {
            None => outcome.acked.push(place),
            Some(text) => {
                outcome.error.get_or_insert(format!("ERR Target instance replied with error: {text}"));
            }
        }
    }
    outcome
}

/// The text of an error.
fn complaint(line: &[u8]) -> Option<String> {
    line.strip_prefix(b"-").map(|text| String::from_utf8_lossy(text).into_owned())
}

/// The target's replies, which are lines.
struct Lines {
    link: Link,
    limit: Duration,
    buffer: Vec<u8>,
    /// Read so far.
    at: usize,
}

impl Lines {
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(n) = memchr::memchr(b'\n', rest) {
                let line = rest[..n].strip_suffix(b"\r").unwrap_or(&rest[..n]).to_vec();
                self.at += n + 1;
                return Ok(line);
            }
            if rest.len() > LINE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            within(self.limit, self.link.read(&mut self.buffer)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_redis() {
        let order = Order {
            db: 3,
            replace: true,
            login: vec![b"p".to_vec()],
            keys: vec![b"a".to_vec(), b"b".to_vec()],
            ..Order::default()
        };
        let payload = |place, deadline_ms| Payload { place, deadline_ms, dump: b"x".to_vec() };
        let (bytes, places) = request(&order, &[payload(0, Some(1)), payload(1, None)]);
        assert_eq!(places, [1], "a key whose time has come stays");
        let want = "*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n\
                    *5\r\n$7\r\nRESTORE\r\n$1\r\nb\r\n$1\r\n0\r\n$1\r\nx\r\n$7\r\nREPLACE\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }
}
