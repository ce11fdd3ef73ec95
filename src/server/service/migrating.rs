//! MIGRATE's half on the service core: a connection to the target, RESTORE for
//! every key, and what the target says to them.
//!
//! Requests and replies, their order and the error texts are those of
//! redis-server 7.0.15. So is the time that an idle connection is kept for the
//! next MIGRATE to the same target; it is then kept by its login, too, so that
//! nobody goes on as somebody else. It is encrypted with `tls-cluster yes`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

/// Connections kept, and for how long nobody may have used one.
const KEPT_MAX: usize = 64;
const KEPT: Duration = Duration::from_secs(10);

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

/// Whose connection it is: host, port, login, and whether it is encrypted.
type Name = (String, u16, Vec<Vec<u8>>, bool);

/// A connection that waits for the next MIGRATE.
struct Kept {
    link: Link,
    /// The database that is selected.
    db: i64,
    /// When it was put here, monotonic milliseconds.
    since_ms: u64,
}

/// Connections that are kept.
#[derive(Default)]
pub struct Targets(RefCell<HashMap<Name, Kept>>);

impl Service {
    fn take_target(&self, name: &Name) -> Option<(Link, i64)> {
        let kept = self.targets.0.borrow_mut().remove(name)?;
        self.count_targets();
        Some((kept.link, kept.db))
    }

    fn keep_target(self: &Rc<Self>, name: Name, link: Link, db: i64) {
        let mut kept = self.targets.0.borrow_mut();
        if kept.len() >= KEPT_MAX
            && let Some(oldest) = kept.iter().min_by_key(|(_, k)| k.since_ms).map(|(n, _)| n.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(name, Kept { link, db, since_ms: clock::mono_ns() / 1_000_000 });
        drop(kept);
        self.count_targets();
        let service = self.clone();
        glommio::spawn_local(async move {
            sleep(KEPT).await;
            let now_ms = clock::mono_ns() / 1_000_000;
            let fresh = |k: &Kept| now_ms.saturating_sub(k.since_ms) < KEPT.as_millis() as u64;
            service.targets.0.borrow_mut().retain(|_, k| fresh(k));
            service.count_targets();
        })
        .detach();
    }

    /// For INFO.
    fn count_targets(&self) {
        self.shared.migrate_sockets.store(self.targets.0.borrow().len(), Ordering::Relaxed);
    }

    /// Sends packed keys to their target.
    pub fn migrate(self: &Rc<Self>, tx: Arc<Tx>, payloads: Vec<Payload>) {
        let service = self.clone();
        glommio::spawn_local(async move {
            let Kind::Migrate(order) = &tx.kind else { return };
            let tls = service.shared.tls().and_then(|t| t.to_target.clone());
            let outcome = service.carry(order, &payloads, tls).await;
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

/// All that is asked of the target, and the places of the keys asked about. The
/// database is chosen unless it is that already.
fn request(order: &Order, payloads: &[Payload], select: bool) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut places) = (Vec::new(), Vec::new());
    if !order.login.is_empty() {
        let words: Vec<&[u8]> = [&b"AUTH"[..]].into_iter().chain(order.login.iter().map(|w| &w[..])).collect();
        encode::command(&mut out, &words);
    }
    if select {
        encode::command(&mut out, &[b"SELECT", order.db.to_string().as_bytes()]);
    }
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

impl Service {
    /// Over a connection that was kept, if there is one: the target may have
    /// closed it, and another attempt is made then.
    async fn carry(self: &Rc<Self>, order: &Order, payloads: &[Payload], tls: Option<Arc<ClientConfig>>) -> Outcome {
        let name = (order.host.clone(), order.port, order.login.clone(), tls.is_some());
        if let Some((link, db)) = self.take_target(&name)
            && let Some(outcome) = self.exchange(order, payloads, &name, (link, Some(db))).await
        {
            return outcome;
        }
        let limit = order_limit(order);
        let failed = |text: &str| Outcome { error: Some(text.into()), ..Outcome::default() };
        let Ok(addresses) = within(limit, resolve(&order.host, order.port)).await else { return failed(CONNECTING) };
        let link = match tls {
            None => match within(limit, connect(&addresses)).await {
                Ok(stream) => Link { stream, tls: None },
                Err(_) => return failed(WRITING),
            },
            Some(config) => match within(limit, connect_securely(order, &addresses, config)).await {
                Ok(link) => link,
                Err(_) => return failed(CONNECTING),
            },
        };
        self.exchange(order, payloads, &name, (link, None)).await.unwrap_or_default()
    }

    /// Asks, and hears what the target says; `None` if a connection that was
    /// kept, with this database selected, has turned out to be closed.
    async fn exchange(
        self: &Rc<Self>,
        order: &Order,
        payloads: &[Payload],
        name: &Name,
        (mut link, db): (Link, Option<i64>),
    ) -> Option<Outcome> {
        let limit = order_limit(order);
        let broken = |e: io::Error, text: &str| {
            let again = db.is_some() && e.kind() != io::ErrorKind::TimedOut;
            (!again).then(|| Outcome { error: Some(text.into()), ..Outcome::default() })
        };
        let select = db != Some(order.db);
        let (bytes, places) = request(order, payloads, select);
        for chunk in bytes.chunks(CHUNK) {
            if let Err(e) = within(limit, link.write(chunk)).await {
                return broken(e, WRITING);
            }
        }
        drop(bytes);
        let mut lines = Lines { link, limit, buffer: Vec::new(), at: 0 };
        // The first error counts: that of the login, of SELECT, or of a key.
        let mut refused: Option<String> = None;
        for _ in 0..usize::from(select) + usize::from(!order.login.is_empty()) {
            match lines.next().await {
                Ok(line) => refused = refused.or(complaint(&line)),
                Err(e) => return broken(e, READING),
            }
        }
        let mut outcome = Outcome::default();
        for (nth, place) in places.into_iter().enumerate() {
            let line = match lines.next().await {
                Ok(line) => line,
                Err(e) if nth == 0 && refused.is_none() => return broken(e, READING),
                Err(_) => {
                    outcome.error.get_or_insert(READING.into());
                    return Some(outcome);
                }
            };
            match refused.clone().or(complaint(&line)) {
                None => outcome.acked.push(place),
                Some(text) => {
                    outcome.error.get_or_insert(format!("ERR Target instance replied with error: {text}"));
                }
            }
        }
        // After an error it is not known what is selected.
        if refused.is_none() && lines.at == lines.buffer.len() {
            self.keep_target(name.clone(), lines.link, order.db);
        }
        Some(outcome)
    }
}

/// Time that each step may take.
fn order_limit(order: &Order) -> Duration {
    Duration::from_millis(order.timeout_ms).min(TIMEOUT_MAX)
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
        let (bytes, places) = request(&order, &[payload(0, Some(1)), payload(1, None)], true);
        assert_eq!(places, [1], "a key whose time has come stays");
        let want = "*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n\
                    *5\r\n$7\r\nRESTORE\r\n$1\r\nb\r\n$1\r\n0\r\n$1\r\nx\r\n$7\r\nREPLACE\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }
}
