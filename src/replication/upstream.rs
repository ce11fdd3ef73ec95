//! The replica's side: the link to the primary, from connecting to streaming.
//!
//! The handshake is a list of lines expected from the primary, in order: the
//! commands after PING are sent at once and answered one by one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::bulk::{Bulk, Header};
use super::event::{Action, Epoch, Ms};
use super::failover::Phase;
use super::id::{OFFSET_MAX, ReplId};
use super::node::Node;
use super::stream::Stream;

/// Longest line of the handshake.
const LINE_MAX: usize = 4096;

/// Time between two attempts after one has failed.
const RETRY_MS: Ms = 1000;

/// Time between two acknowledgements.
const ACK_MS: Ms = 1000;

/// Silence of the primary after which what has been applied is acknowledged at
/// once. A primary that hands over its role has stopped writing and waits for
/// nothing else; Redis does not ask for it.
const SILENCE_MS: Ms = 50;

/// What a supervisor is told when the link is up: after a copy, and without one.
const COPIED: &str = "MASTER <-> REPLICA sync: Finished with success. Ready to accept connections in read-write mode.";
const RESUMED: &str =
    "MASTER <-> REPLICA sync: Partial Resynchronization accepted. Ready to accept connections in read-write mode.";

/// A line expected from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Pong,
    Auth,
    Port,
    Address,
    Capabilities,
    Psync,
    /// The line before the snapshot.
    Bulk,
}

/// How far the link has come (ROLE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be connected at this time.
    Connect {
        at: Ms,
    },
    Connecting,
    Handshake,
    /// The snapshot is expected, or comes in.
    Sync,
    /// The snapshot is being loaded.
    Loading,
    Connected,
}

/// See the module's description.
#[derive(Debug)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    pub epoch: Epoch,
    pub state: State,
    /// Clients' writes are still on their way into the stream.
    pub fenced: bool,
    expected: VecDeque<Expect>,
    line: BytesMut,
    pub bulk: Option<Bulk>,
    /// Identity of the snapshot that comes; `None` after SYNC.
    adopting: Option<(ReplId, u64)>,
    /// What came behind the snapshot, kept until it is loaded.
    behind: BytesMut,
    stream: Stream,
    /// The dataset is a state of `history.id` at the stream's offset.
    pub resumable: bool,
    /// The dataset came from this primary, or is a state of what it served.
    pub(super) synced: bool,
    /// It offers a copy from another history, which is no longer than what it
    /// served.
    younger: bool,
    /// The primary knows only SYNC: no acknowledgements.
    silent: bool,
    asked_failover: bool,
    /// The connection ended while the snapshot was being loaded.
    hung_up: Option<String>,
    pub heard_at: Ms,
    told_at: Ms,
    /// The offset last acknowledged.
    told: u64,
    /// Since when there is no link; `None` while there is one.
    pub down_since: Option<Ms>,
    /// There was a link once.
    pub was_up: bool,
    /// The next attempt is to restore a link that worked.
    restores: bool,
}

impl Upstream {
    /// A link that goes on at an offset, with so many databases.
    pub(super) fn new(
        host: String,
        port: u16,
        (offset, databases): (u64, u32),
        resumable: bool,
        fenced: bool,
        now: Ms,
    ) -> Upstream {
        Upstream {
            host,
            port,
            epoch: 0,
            state: State::Connect { at: now },
            fenced,
            expected: VecDeque::new(),
            line: BytesMut::new(),
            bulk: None,
            adopting: None,
            behind: BytesMut::new(),
            stream: Stream::new(offset, 0, databases),
            resumable,
            synced: false,
            younger: false,
            silent: false,
            asked_failover: false,
            hung_up: None,
            heard_at: now,
            told_at: now,
            told: 0,
            down_since: Some(now),
            was_up: false,
            restores: false,
        }
    }

    pub fn connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Is there a TCP connection, or one being made?
    fn linked(&self) -> bool {
        !matches!(self.state, State::Connect { .. })
    }

    /// ROLE's name of the state.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Connect { .. } => "connect",
            State::Connecting => "connecting",
            State::Handshake => "handshake",
            State::Sync | State::Loading => "sync",
            State::Connected => "connected",
        }
    }

    /// Offset of the last byte that was handed out to be applied.
    pub fn offset(&self) -> u64 {
        self.stream.offset()
    }

    /// Bytes received that are not part of `offset` yet.
    pub fn pending_bytes(&self) -> u64 {
        self.stream.pending() as u64
    }

    /// Goes on where the link to another primary has stopped.
    pub(super) fn adopt_position(&mut self, was: &Upstream) {
        self.stream = self.stream.anew(was.stream.offset(), was.stream.db());
        self.down_since = was.down_since.or(self.down_since);
        self.was_up = was.was_up;
    }

    /// Takes up a position that was saved with the dataset.
    pub(super) fn restore_position(&mut self, offset: u64, db: u32) {
        self.stream = self.stream.anew(offset, db);
    }

    pub fn db(&self) -> u32 {
        self.stream.db()
    }

    /// Should input be read? Not while a snapshot is being loaded.
    pub fn reads(&self) -> bool {
        self.state != State::Loading
    }

    /// INFO master_sync_*: expected length of the snapshot (0 if the primary does
    /// not know it, -1 before it has said anything of it) and bytes read.
    pub fn sync_progress(&self) -> Option<(i64, u64)> {
        let progress = |b: &Bulk| (b.length().map_or(0, |n| n as i64), b.received);
        matches!(self.state, State::Sync | State::Loading).then(|| self.bulk.as_ref().map_or((-1, 0), progress))
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend_from_slice(format!("${}\r\n", w.len()).as_bytes());
        out.extend_from_slice(w);
        out.extend_from_slice(b"\r\n");
    }
    out
}

impl Node {
    /// Runs with the link to the primary, if there is one.
    fn with_upstream(&mut self, epoch: Epoch, f: impl FnOnce(&mut Node, &mut Upstream)) {
        let Some(mut up) = self.upstream.take_if(|up| up.epoch == epoch && up.linked()) else { return };
        f(self, &mut up);
        // A role change while `f` ran has put another link, or none on purpose.
        if self.upstream.is_none() && !std::mem::take(&mut self.upstream_removed) {
            self.upstream = Some(up);
        }
    }

    pub(super) fn connect(&mut self) {
        let Some(up) = &mut self.upstream else { return };
        if !up.fenced {
            return;
        }
        self.next_epoch += 1;
        up.epoch = self.next_epoch;
        up.state = State::Connecting;
        up.heard_at = self.now;
        up.line.clear();
        up.bulk = None;
        up.hung_up = None;
        let (host, port) = (up.host.clone(), up.port);
        let verb = if std::mem::take(&mut up.restores) { "Reconnecting" } else { "Connecting" };
        self.notice(format!("{verb} to MASTER {host}:{port}"));
        self.act(Action::Connect { epoch: self.next_epoch, host, port });
        self.notice("MASTER <-> REPLICA sync started".into());
    }

    pub(super) fn on_connected(&mut self, epoch: Epoch) {
        self.with_upstream(epoch, |node, up| {
            if up.state != State::Connecting {
                return;
            }
            up.state = State::Handshake;
            up.heard_at = node.now;
            up.expected = VecDeque::from([Expect::Pong]);
            node.notice("Non blocking connect for SYNC fired the event.".into());
            node.tell(up, command(&[b"PING"]));
        });
    }

    fn tell(&mut self, up: &Upstream, bytes: Vec<u8>) {
        self.act(Action::Tell { epoch: up.epoch, bytes: bytes.into() });
    }

    pub(super) fn on_received(&mut self, epoch: Epoch, bytes: Bytes) {
        self.with_upstream(epoch, |node, up| {
            up.heard_at = node.now;
            match up.state {
                State::Handshake | State::Sync if up.bulk.is_none() => {
                    up.line.extend_from_slice(&bytes);
                    node.take_lines(up);
                }
                State::Sync => node.take_bulk(up, bytes),
                State::Loading => up.behind.extend_from_slice(&bytes),
                State::Connected => {
                    up.stream.receive(&bytes);
                    node.take_stream(up);
                }
                _ => {}
            }
        });
    }

    /// Handles the lines that have come, until something else than lines is
    /// expected.
    fn take_lines(&mut self, up: &mut Upstream) {
        while up.bulk.is_none() && matches!(up.state, State::Handshake | State::Sync) {
            let Some(len) = memchr::memchr(b'\n', &up.line) else {
                if up.line.len() > LINE_MAX {
                    self.fail(up, "the primary sent an endless line");
                }
                return;
            };
            let line = up.line.split_to(len + 1).freeze();
            let line = &line[..len];
            self.take_line(up, line.strip_suffix(b"\r").unwrap_or(line));
        }
        let rest = std::mem::take(&mut up.line).freeze();
        if rest.is_empty() {
            return;
        }
        match up.state {
            State::Sync => self.take_bulk(up, rest),
            State::Connected => {
                up.stream.receive(&rest);
                self.take_stream(up);
            }
            _ => {}
        }
    }

    fn take_line(&mut self, up: &mut Upstream, line: &[u8]) {
        // A primary that prepares a snapshot says so with empty lines; they are no
        // answer to anything.
        if line.is_empty() && up.expected.front() != Some(&Expect::Pong) {
            return;
        }
        let Some(expect) = up.expected.pop_front() else { return self.fail(up, "the primary sent a line too many") };
        let text = || String::from_utf8_lossy(line).into_owned();
        match expect {
            Expect::Pong => self.on_pong(up, line),
            Expect::Auth if line[0] == b'-' => {
                let reason = format!("Unable to AUTH to MASTER: {}", text());
                self.fail(up, &reason);
            }
            Expect::Port | Expect::Address | Expect::Capabilities if line[0] == b'-' => {
                self.notice(format!("(Non critical) Master does not understand REPLCONF {expect:?}: {}", text()));
                self.maybe_psync(up);
            }
            Expect::Auth | Expect::Port | Expect::Address | Expect::Capabilities => self.maybe_psync(up),
            Expect::Psync => self.on_psync_reply(up, line),
            Expect::Bulk => self.on_bulk_header(up, line),
        }
    }

    fn on_pong(&mut self, up: &mut Upstream, line: &[u8]) {
        let tolerated: [&[u8]; 3] = [b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted"];
        if !line.starts_with(b"+") && !tolerated.iter().any(|t| line.starts_with(t)) {
            let reason = format!("Error reply to PING from master: '{}'", String::from_utf8_lossy(line));
            return self.fail(up, &reason);
        }
        self.notice("Master replied to PING, replication can continue...".into());
        let mut out = Vec::new();
        let mut say = |expect: Expect, words: &[&[u8]]| {
            out.extend(command(words));
            up.expected.push_back(expect);
        };
        let p = &self.policy;
        match (p.masteruser.as_bytes(), p.masterauth.as_bytes()) {
            (_, b"") => {}
            (b"", pass) => say(Expect::Auth, &[b"AUTH", pass]),
            (user, pass) => say(Expect::Auth, &[b"AUTH", user, pass]),
        }
        say(Expect::Port, &[b"REPLCONF", b"listening-port", p.listening_port.to_string().as_bytes()]);
        if !p.announce_ip.is_empty() {
            say(Expect::Address, &[b"REPLCONF", b"ip-address", p.announce_ip.as_bytes()]);
        }
        say(Expect::Capabilities, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]);
        self.tell(up, out);
    }

    /// Sends PSYNC when all that went before is answered.
    fn maybe_psync(&mut self, up: &mut Upstream) {
        if !up.expected.is_empty() || up.state != State::Handshake {
            return;
        }
        let (id, next) = match up.resumable {
            true => (self.history.id.to_string(), (up.stream.offset() + 1).to_string()),
            false => ("?".into(), "-1".into()),
        };
        match up.resumable {
            true => self.notice(format!("Trying a partial resynchronization (request {id}:{next}).")),
            false => self.notice("Partial resynchronization not possible (no cached master)".into()),
        }
        let mut words: Vec<&[u8]> = vec![b"PSYNC", id.as_bytes(), next.as_bytes()];
        up.asked_failover = self.failover.phase == Phase::InProgress;
        if up.asked_failover {
            words.push(b"FAILOVER");
        }
        up.expected.push_back(Expect::Psync);
        self.tell(up, command(&words));
    }

    fn on_psync_reply(&mut self, up: &mut Upstream, line: &[u8]) {
        let text = String::from_utf8_lossy(line).into_owned();
        let accepted = line.starts_with(b"+FULLRESYNC") || line.starts_with(b"+CONTINUE");
        if up.asked_failover {
            up.asked_failover = false;
            match accepted {
                true => self.clear_failover(),
                false => {
                    self.act(Action::Disconnect { epoch: up.epoch });
                    self.abort_failover("Failover target rejected psync request");
                    return;
                }
            }
        }
        if line.starts_with(b"+FULLRESYNC") {
            self.on_full_resync(up, line);
        } else if line.starts_with(b"+CONTINUE") {
            self.on_continue(up, line);
        } else if line.starts_with(b"-NOMASTERLINK") || line.starts_with(b"-LOADING") {
            let reason = format!("Master is currently unable to PSYNC but should be in the future: {text}");
            self.fail(up, &reason);
        } else {
            self.notice(format!(
                "Master does not support PSYNC or is in error state (reply: {text}). Retrying with SYNC..."
            ));
            up.resumable = false;
            (up.adopting, up.silent) = (None, true);
            up.state = State::Sync;
            up.expected.push_back(Expect::Bulk);
            self.tell(up, b"SYNC\r\n".to_vec());
        }
    }

    fn on_full_resync(&mut self, up: &mut Upstream, line: &[u8]) {
        let mut words = line.split(|b| *b == b' ').skip(1);
        let id = words.next().and_then(ReplId::parse);
        let offset = words.next().and_then(crate::base::num::parse_u64).filter(|offset| *offset <= OFFSET_MAX);
        let (Some(id), Some(offset)) = (id, offset) else {
            return self.fail(up, "Master replied with wrong +FULLRESYNC syntax.");
        };
        self.notice(format!("Full resync from master: {id}:{offset}"));
        // What was followed before may still be resumed, until it is replaced.
        up.younger = up.synced && up.resumable && id != self.history.id && offset <= up.stream.offset();
        (up.adopting, up.silent) = (Some((id, offset)), false);
        up.state = State::Sync;
        up.expected.push_back(Expect::Bulk);
    }

    fn on_continue(&mut self, up: &mut Upstream, line: &[u8]) {
        if !up.resumable {
            return self.fail(up, "Master continues a stream that was not asked for");
        }
        self.notice("Successful partial resynchronization with master.".into());
        let named = line.split(|b| *b == b' ').nth(1);
        if let Some(id) = named.and_then(ReplId::parse)
            && id != self.history.id
        {
            self.history.branch(id, up.stream.offset());
            self.notice(format!("Master replication ID changed to {id}"));
            self.drop_all_replicas("the primary's replication id changed");
        }
        if !self.window.active {
            self.window.active = true;
            self.window.first = self.window.end + 1;
            self.act(Action::StartLog);
        }
        self.notice("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.".into());
        self.act(Action::Status(RESUMED));
        self.link_is_up(up);
    }

    fn link_is_up(&mut self, up: &mut Upstream) {
        up.state = State::Connected;
        up.synced = true;
        up.down_since = None;
        up.was_up = true;
        up.heard_at = self.now;
    }

    fn on_bulk_header(&mut self, up: &mut Upstream, line: &[u8]) {
        match Header::parse(line) {
            Header::KeepAlive => up.expected.push_front(Expect::Bulk),
            Header::Error(text) => self.fail(up, &format!("MASTER aborted replication with an error: {text}")),
            Header::Malformed(text) => self.fail(
                up,
                &format!("Bad protocol from MASTER, the first byte is not '$' (we received '{text}'), are you sure the host and port are right?"),
            ),
            Header::Begin(framing) => {
                let bulk = Bulk::new(framing);
                let length = bulk.length();
                match length {
                    Some(n) => self.notice(format!("MASTER <-> REPLICA sync: receiving {n} bytes from master")),
                    None => self.notice("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF".into()),
                }
                let refuse_empty = up.younger && self.policy.refuse_empty_primary;
                let same_history = up.adopting.is_some_and(|(id, _)| id == self.history.id);
                self.act(Action::BeginLoad { bytes: length, refuse_empty, same_history });
                up.bulk = Some(bulk);
                if length == Some(0) {
                    self.take_bulk(up, Bytes::new());
                }
            }
        }
    }

    fn take_bulk(&mut self, up: &mut Upstream, bytes: Bytes) {
        let Some(bulk) = &mut up.bulk else { return };
        let piece = bulk.receive(bytes);
        if !piece.payload.is_empty() {
            self.act(Action::Load(piece.payload));
        }
        if let Some(rest) = piece.rest {
            up.behind = BytesMut::from(&rest[..]);
            up.state = State::Loading;
            self.act(Action::EndLoad);
        }
    }

    /// The old data goes: replicas of this one have nothing to follow now.
    pub(super) fn on_replacing(&mut self) {
        self.drop_all_replicas("the dataset is replaced");
        if let Some(up) = &mut self.upstream {
            up.resumable = false;
        }
        if self.window.active {
            self.window.active = false;
            self.act(Action::FreeLog);
        }
    }

    pub(super) fn on_loaded(&mut self, db: u32) {
        let Some(epoch) = self.upstream.as_ref().filter(|u| u.state == State::Loading).map(|u| u.epoch) else { return };
        self.with_upstream(epoch, |node, up| {
            let (id, offset) = up.adopting.take().unwrap_or((ReplId::NONE, 0));
            node.drop_all_replicas("the dataset is replaced");
            node.history.adopt(id);
            node.window = super::history::Window { active: true, first: offset + 1, kept: offset + 1, end: offset };
            node.act(Action::ResetLog { end: offset });
            node.inflight.clear();
            up.stream = up.stream.anew(offset, db);
            node.applied_db = up.stream.db();
            up.resumable = !up.silent;
            up.bulk = None;
            node.notice("MASTER <-> REPLICA sync: Finished with success".into());
            node.act(Action::Status(COPIED));
            node.link_is_up(up);
            node.acknowledge(up, offset);
            let behind = std::mem::take(&mut up.behind);
            up.stream.receive(&behind);
            node.take_stream(up);
            if let (Some(reason), State::Connected) = (up.hung_up.take(), up.state) {
                node.lose(up, &reason);
            }
        });
    }

    pub(super) fn on_load_failed(&mut self, reason: &str) {
        let Some(up) = self.upstream.as_ref().filter(|u| matches!(u.state, State::Sync | State::Loading)) else {
            return;
        };
        let epoch = up.epoch;
        let reason = format!("Failed trying to load the MASTER synchronization DB: {reason}");
        self.with_upstream(epoch, |node, up| {
            up.bulk = None;
            node.fail(up, &reason);
        });
    }

    fn take_stream(&mut self, up: &mut Upstream) {
        loop {
            match up.stream.next_batch() {
                Ok(Some(batch)) => self.dispatch(up, batch),
                Ok(None) => return,
                Err(bad) => {
                    // What the primary has is in doubt: a copy of it is wanted, as in Redis.
                    up.resumable = false;
                    let text = format!("Protocol error from master at offset {}: {}", bad.offset, bad.what);
                    return self.fail(up, &text);
                }
            }
        }
    }

    fn dispatch(&mut self, up: &mut Upstream, batch: super::stream::Batch) {
        if batch.commands.is_empty() && self.inflight.is_empty() {
            if let Some(offset) = batch.ack {
                self.acknowledge(up, offset);
            }
            return self.relay(batch.bytes, batch.db);
        }
        self.inflight.push_back(super::node::Flight {
            end: batch.end,
            bytes: batch.bytes.clone(),
            db: batch.db,
            ack: batch.ack,
        });
        self.act(Action::Apply(batch));
    }

    fn acknowledge(&mut self, up: &mut Upstream, offset: u64) {
        if up.silent {
            return;
        }
        (up.told_at, up.told) = (self.now, offset);
        let on_disk = self.policy.append_only.then(|| self.fsynced.min(offset).to_string());
        let text = offset.to_string();
        let mut words: Vec<&[u8]> = vec![b"REPLCONF", b"ACK", text.as_bytes()];
        if let Some(on_disk) = &on_disk {
            words.extend([b"FACK".as_slice(), on_disk.as_bytes()]);
        }
        self.tell(up, command(&words));
    }

    pub(super) fn on_applied(&mut self, end: u64) {
        while self.inflight.front().is_some_and(|f| f.end <= end) {
            let Some(flight) = self.inflight.pop_front() else { return };
            if let (Some(offset), Some(epoch)) =
                (flight.ack, self.upstream.as_ref().filter(|u| u.connected()).map(|u| u.epoch))
            {
                self.with_upstream(epoch, |node, up| node.acknowledge(up, offset));
            }
            self.relay(flight.bytes, flight.db);
        }
        self.settle_role();
    }

    /// Applied bytes of the primary go into the backlog as they are.
    fn relay(&mut self, bytes: Bytes, db: u32) {
        self.applied_db = db;
        self.window.end += bytes.len() as u64;
        let oldest = (self.window.end + 1).saturating_sub(self.policy.backlog_bytes);
        self.window.first = self.window.first.max(oldest);
        self.act(Action::Relay(bytes));
    }

    /// Ends this attempt; another is made in a second.
    pub(super) fn fail(&mut self, up: &mut Upstream, reason: &str) {
        self.warning(reason.to_string());
        let epoch = up.epoch;
        self.act(Action::Disconnect { epoch });
        self.unlink(up, self.now + RETRY_MS);
    }

    fn unlink(&mut self, up: &mut Upstream, again_at: Ms) {
        if up.bulk.take().is_some() && up.state != State::Loading {
            self.act(Action::AbortLoad);
        }
        if up.state == State::Connected {
            up.down_since = Some(self.now);
            up.restores = true;
        }
        up.state = State::Connect { at: again_at };
        up.expected.clear();
        up.line.clear();
        up.stream.cut();
    }

    /// The connection has ended, or never came about.
    pub(super) fn on_lost(&mut self, epoch: Epoch, reason: &str) {
        self.with_upstream(epoch, |node, up| {
            // What is being loaded is complete; it has only no stream behind it.
            if up.state == State::Loading {
                up.hung_up = Some(reason.into());
                return;
            }
            node.lose(up, reason);
        });
        if let Some(up) = &self.upstream
            && up.state == (State::Connect { at: self.now })
        {
            self.connect();
        }
    }

    /// A link that worked is made again at once, another one in a second.
    fn lose(&mut self, up: &mut Upstream, reason: &str) {
        let again_at = if up.connected() {
            self.warning(format!("Connection with master lost: {reason}"));
            self.notice("Caching the disconnected master state.".into());
            self.now
        } else {
            self.warning(format!("Error condition on socket for SYNC: {reason}"));
            self.now + RETRY_MS
        };
        self.unlink(up, again_at);
    }

    pub(super) fn upstream_tick(&mut self) {
        let Some(up) = &self.upstream else { return };
        let (now, epoch) = (self.now, up.epoch);
        let quiet = now.saturating_sub(up.heard_at) > self.policy.timeout_ms;
        match up.state {
            State::Connect { at } if now >= at => self.connect(),
            State::Connect { .. } => {}
            State::Loading => self.with_upstream(epoch, |node, up| node.keep_primary_patient(up)),
            State::Connected if quiet => self.with_upstream(epoch, |node, up| {
                node.warning("MASTER timeout: no data nor PING received...".into());
                node.act(Action::Disconnect { epoch });
                node.unlink(up, node.now);
            }),
            State::Connected => self.with_upstream(epoch, |node, up| {
                let applied = node.window.end;
                let silent = up.told != applied && now.saturating_sub(up.heard_at) >= SILENCE_MS;
                if silent || now.saturating_sub(up.told_at) >= ACK_MS {
                    node.acknowledge(up, applied);
                }
            }),
            State::Connecting | State::Handshake if quiet => {
                self.with_upstream(epoch, |node, up| node.fail(up, "Timeout connecting to the MASTER..."));
            }
            State::Sync if quiet => self.with_upstream(epoch, |node, up| {
                node.fail(up, "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value.");
            }),
            _ => {}
        }
    }

    /// An empty line a second while there is no time for more.
    fn keep_primary_patient(&mut self, up: &mut Upstream) {
        if self.now.saturating_sub(up.told_at) >= ACK_MS {
            up.told_at = self.now;
            self.tell(up, b"\n".to_vec());
        }
    }
}
