//! One simulated server: a `Node` with a log, a dataset, an applier and a disk.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use coreslot::base::rng::Rng;
use coreslot::replication::event::{Action, Event, Moment, Ms, Target};
use coreslot::replication::history::Window;
use coreslot::replication::id::ReplId;
use coreslot::replication::node::Node;
use coreslot::replication::peer::{Peer, Replconf};
use coreslot::replication::policy::Policy;
use coreslot::replication::stream::Batch;

use super::data::Data;
use super::wire;

/// What a server wants of the world.
#[derive(Debug)]
pub enum Wish {
    Connect {
        epoch: u64,
        port: u16,
    },
    /// Bytes to the primary, or to the replica on a link.
    Up {
        epoch: u64,
        bytes: Vec<u8>,
    },
    Down {
        link: u64,
        bytes: Vec<u8>,
    },
    CloseUp {
        epoch: u64,
    },
    CloseDown {
        link: u64,
    },
}

/// Something that takes time inside a server.
#[derive(Debug)]
pub enum Chore {
    Cut,
    Done,
    Applied,
    Load,
    Fenced,
    Paused,
}

/// A replica's place in the stream.
struct Feed {
    next: u64,
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Saved {
    pub data: Data,
    pub id: ReplId,
    pub offset: u64,
    pub db: u32,
}

pub struct Server {
    pub port: u16,
    pub node: Node,
    pub rng: Rng,
    pub data: Data,
    /// The bytes `window.first..=window.end`.
    log: Vec<u8>,
    pub window: Window,
    /// Database selected in the stream; `None` before the next SELECT.
    selected: Option<u32>,
    pub clock_offset: Ms,
    /// How much faster its clock goes than the world's, in thousandths.
    clock_drift: i64,
    pub is_primary: bool,
    fenced: bool,
    pub paused: bool,
    feeds: BTreeMap<u64, Feed>,
    /// Input of replicas' connections, and what they said of themselves.
    pub inputs: BTreeMap<u64, (Vec<u8>, Peer)>,
    snapshot: Option<(Target, Vec<u64>, Option<Vec<u8>>)>,
    applying: VecDeque<Batch>,
    loading: Option<Vec<u8>>,
    pub wishes: Vec<Wish>,
    pub chores: Vec<(Ms, Chore)>,
    pub saved: Option<Saved>,
    pub up: bool,
    pub trace: bool,
    backlog: usize,
}

/// Clocks are wrong by up to a fifth, in thousandths.
const DRIFT: usize = 200;

impl Server {
    pub fn new(port: u16, policy: Policy, seed: u64) -> Server {
        let mut rng = Rng::new(seed);
        let node_rng = Rng::new(rng.next_u64());
        let clock_offset = rng.below(1_000_000) as Ms;
        let clock_drift = rng.below(2 * DRIFT + 1) as i64 - DRIFT as i64;
        Server {
            port,
            backlog: policy.backlog_bytes as usize,
            node: Node::new(policy, node_rng, clock_offset),
            rng,
            data: Data::default(),
            log: Vec::new(),
            window: Window::default(),
            selected: None,
            clock_offset,
            clock_drift,
            is_primary: true,
            fenced: false,
            paused: false,
            feeds: BTreeMap::new(),
            inputs: BTreeMap::new(),
            snapshot: None,
            applying: VecDeque::new(),
            loading: None,
            wishes: Vec::new(),
            chores: Vec::new(),
            saved: None,
            up: true,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    /// The server's own clock at a time of the world.
    fn clock(&self, now: Ms) -> Ms {
        now.saturating_add_signed(now as i64 * self.clock_drift / 1000) + self.clock_offset
    }

    pub fn event(&mut self, now: Ms, event: Event) {
        let moment = Moment { now: self.clock(now), window: self.window };
        if self.trace && !matches!(event, Event::Tick | Event::Sent { .. }) {
            eprintln!("{now:6} {} <- {event:?}", self.port);
        }
        for action in self.node.step(moment, event) {
            self.carry_out(now, action);
        }
        self.pump(now);
    }

    /// A replica's connection is gone.
    pub fn forget(&mut self, link: u64) {
        self.feeds.remove(&link);
        self.inputs.remove(&link);
    }

    fn carry_out(&mut self, now: Ms, action: Action) {
        if self.trace && !matches!(action, Action::GoodReplicas(_)) {
            eprintln!("{now:6} {} -> {action:?}", self.port);
        }
        match action {
            Action::Send { link, bytes } => self.wishes.push(Wish::Down { link, bytes: bytes.to_vec() }),
            Action::Close { link, .. } => {
                self.forget(link);
                self.wishes.push(Wish::CloseDown { link });
            }
            Action::SendFile { link } => self.send_file(now, link),
            Action::Attach { .. } => {}
            Action::Feed { link, from } => {
                self.feeds.insert(link, Feed { next: from });
            }
            Action::StartSnapshot { target, links, .. } => {
                self.snapshot = Some((target, links, None));
                self.later(now, 50, Chore::Cut);
            }
            Action::AbortSnapshot => self.snapshot = None,
            Action::StartLog => {
                self.log.clear();
                self.window = Window {
                    active: true,
                    first: self.window.end + 1,
                    kept: self.window.end + 1,
                    end: self.window.end,
                };
                self.selected = None;
            }
            Action::FreeLog => {
                self.window.active = false;
                self.log.clear();
            }
            Action::ResetLog { end } => {
                self.log.clear();
                self.window = Window { active: true, first: end + 1, kept: end + 1, end };
                self.selected = None;
            }
            Action::Append(bytes) => self.append(bytes),
            Action::Relay(bytes) => self.append(&bytes),
            Action::ForceSelect => self.selected = None,
            Action::Fence => {
                self.fenced = true;
                self.later(now, 3, Chore::Fenced);
            }
            Action::Unfence => self.fenced = false,
            Action::PauseWrites => {
                self.paused = true;
                self.later(now, 3, Chore::Paused);
            }
            Action::ResumeWrites => self.paused = false,
            Action::Connect { epoch, port, .. } => self.wishes.push(Wish::Connect { epoch, port }),
            Action::Disconnect { epoch } => self.wishes.push(Wish::CloseUp { epoch }),
            Action::Tell { epoch, bytes } => self.wishes.push(Wish::Up { epoch, bytes: bytes.to_vec() }),
            Action::BeginLoad { .. } => self.loading = Some(Vec::new()),
            Action::Load(bytes) => self.loading.as_mut().expect("a load").extend_from_slice(&bytes),
            Action::EndLoad => self.later(now, 60, Chore::Load),
            Action::AbortLoad => self.loading = None,
            Action::Apply(batch) => {
                self.applying.push_back(batch);
                self.later(now, 4, Chore::Applied);
            }
            Action::RoleIsPrimary => self.is_primary = true,
            Action::RoleIsReplica => self.is_primary = false,
            Action::WaitDone { .. }
            | Action::GoodReplicas(_)
            | Action::Configure(_)
            | Action::Notice(_)
            | Action::Warning(_)
            | Action::Status(_) => {}
        }
    }

    fn later(&mut self, now: Ms, within: usize, chore: Chore) {
        let after = 1 + self.rng.below(within) as Ms;
        self.chores.push((now + after, chore));
    }

    fn append(&mut self, bytes: &[u8]) {
        self.window.end += bytes.len() as u64;
        if !self.window.active {
            return;
        }
        self.log.extend_from_slice(bytes);
        let pinned = self.feeds.values().map(|f| f.next).chain(self.node.pinned()).min().unwrap_or(u64::MAX);
        let floor = (self.window.end + 1).saturating_sub(self.backlog as u64).min(pinned);
        if floor > self.window.first {
            self.log.drain(..(floor - self.window.first) as usize);
            self.window.first = floor;
        }
    }

    /// Sends every fed replica a piece of what it lacks.
    fn pump(&mut self, now: Ms) {
        let links: Vec<u64> = self.feeds.keys().copied().collect();
        for link in links {
            let next = self.feeds[&link].next;
            let missing = (self.window.end + 1).saturating_sub(next) as usize;
            if missing == 0 {
                continue;
            }
            assert!(next >= self.window.first, "the log was trimmed under a replica");
            let from = (next - self.window.first) as usize;
            let len = (1 + self.rng.below(4000)).min(missing);
            let bytes = self.log[from..from + len].to_vec();
            self.wishes.push(Wish::Down { link, bytes });
            let sent = next + len as u64 - 1;
            self.feeds.get_mut(&link).expect("fed").next = sent + 1;
            self.event(now, Event::Sent { link, offset: sent });
        }
    }

    /// A client's writes: one command, or several as a transaction.
    pub fn write(&mut self, now: Ms, writes: &[(u32, String, u64)]) -> bool {
        if !self.up || !self.is_primary || self.fenced || self.paused {
            return false;
        }
        for (db, key, value) in writes {
            self.data.append(*db, key, *value);
        }
        if self.window.active {
            let mut out = Vec::new();
            if writes.len() > 1 {
                self.select(writes[0].0, &mut out);
                out.extend(wire::command(&["MULTI"]));
            }
            for (db, key, value) in writes {
                self.select(*db, &mut out);
                out.extend(wire::command(&["APPEND", key, &value.to_string()]));
            }
            if writes.len() > 1 {
                out.extend(wire::command(&["EXEC"]));
            }
            self.append(&out);
            self.pump(now);
        }
        true
    }

    fn select(&mut self, db: u32, out: &mut Vec<u8>) {
        if self.selected.replace(db) != Some(db) {
            out.extend(wire::command(&["SELECT", &db.to_string()]));
        }
    }

    pub fn chore(&mut self, now: Ms, chore: Chore) {
        match chore {
            Chore::Cut => self.cut(now),
            Chore::Done => self.snapshot_done(now),
            Chore::Applied => self.apply_one(now),
            Chore::Load => self.load(now),
            Chore::Fenced => self.event(now, Event::Fenced),
            Chore::Paused => self.event(now, Event::Paused),
        }
    }

    fn cut(&mut self, now: Ms) {
        let mut payload = format!("{}\n", self.node.applied_db).into_bytes();
        payload.extend(self.data.encode());
        let Some((_, _, image)) = &mut self.snapshot else { return };
        *image = Some(payload);
        self.selected = None;
        let offset = self.window.end;
        self.event(now, Event::SnapshotCut { offset });
        self.later(now, 80, Chore::Done);
    }

    fn snapshot_done(&mut self, now: Ms) {
        let Some((target, links, Some(image))) = &self.snapshot else { return };
        if *target == Target::Sockets {
            let mark: String = (0..40).map(|_| char::from(b'a' + (self.rng.next_u64() % 6) as u8)).collect();
            for link in links.clone() {
                let mut bytes = format!("$EOF:{mark}\r\n").into_bytes();
                bytes.extend_from_slice(image);
                bytes.extend_from_slice(mark.as_bytes());
                self.wishes.push(Wish::Down { link, bytes });
            }
            // Some replicas have got it before the snapshot is known to be done.
            let links = links.clone();
            let (early, late): (Vec<u64>, Vec<u64>) = links.into_iter().partition(|_| self.rng.below(2) == 0);
            early.into_iter().for_each(|link| self.event(now, Event::BulkSent { link }));
            self.event(now, Event::SnapshotDone);
            return late.into_iter().for_each(|link| self.event(now, Event::BulkSent { link }));
        }
        self.event(now, Event::SnapshotDone);
    }

    fn send_file(&mut self, now: Ms, link: u64) {
        let Some((_, _, Some(image))) = &self.snapshot else { panic!("no file to send") };
        let mut bytes = format!("${}\r\n", image.len()).into_bytes();
        bytes.extend_from_slice(image);
        self.wishes.push(Wish::Down { link, bytes });
        self.event(now, Event::BulkSent { link });
    }

    fn apply_one(&mut self, now: Ms) {
        let Some(batch) = self.applying.pop_front() else { return };
        for c in &batch.commands {
            let words: Vec<&str> = batch.args(c).map(|a| std::str::from_utf8(a).expect("text")).collect();
            let ["APPEND", key, value] = words[..] else { panic!("{words:?}") };
            self.data.append(c.db, key, value.parse().expect("a value"));
        }
        self.data.check_pairs();
        self.event(now, Event::Applied { end: batch.end });
    }

    fn load(&mut self, now: Ms) {
        if !self.applying.is_empty() {
            return self.later(now, 4, Chore::Load);
        }
        let Some(image) = self.loading.take() else { return };
        self.event(now, Event::Replacing);
        let line = image.iter().position(|b| *b == b'\n').expect("a first line");
        let db = std::str::from_utf8(&image[..line]).expect("text").parse().expect("a database");
        self.data = Data::decode(&image[line + 1..]);
        self.event(now, Event::Loaded { db });
    }

    /// A replica's connection brings bytes.
    pub fn hear_replica(&mut self, now: Ms, link: u64, bytes: &[u8]) {
        let Some((input, _)) = self.inputs.get_mut(&link) else { return };
        input.extend_from_slice(bytes);
        while let Some(words) = self.inputs.get_mut(&link).and_then(|(input, _)| wire::take(input)) {
            self.replica_says(now, link, &words);
        }
    }

    fn replica_says(&mut self, now: Ms, link: u64, words: &[String]) {
        let Some((_, peer)) = self.inputs.get_mut(&link) else { return };
        let Some(name) = words.first() else { return self.event(now, Event::Alive { link }) };
        let answer = |text: &str| Wish::Down { link, bytes: text.as_bytes().to_vec() };
        match name.to_ascii_uppercase().as_str() {
            "PING" => self.wishes.push(answer("+PONG\r\n")),
            "REPLCONF" => {
                let args: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
                match peer.replconf(&args) {
                    Replconf::Ok => self.wishes.push(answer("+OK\r\n")),
                    Replconf::Ack { offset, fsynced } => self.event(now, Event::Ack { link, offset, fsynced }),
                    Replconf::GetAck => {}
                    Replconf::Error(text) => self.wishes.push(answer(&format!("-{text}\r\n"))),
                }
            }
            "PSYNC" => {
                let psync = coreslot::replication::event::Psync {
                    link,
                    peer: peer.clone(),
                    id: ReplId::asked(words[1].as_bytes()),
                    next: words[2].parse().expect("an offset"),
                    failover: words.len() == 4,
                };
                self.event(now, Event::Psync(psync));
            }
            other => panic!("a replica said {other}"),
        }
    }

    pub fn hear_primary(&mut self, now: Ms, epoch: u64, bytes: Vec<u8>) {
        self.event(now, Event::Received { epoch, bytes: Bytes::from(bytes) });
    }

    /// Writes the state to disk, as BGSAVE would.
    pub fn save(&mut self) {
        if self.loading.is_some() || !self.node.upstream.as_ref().is_none_or(|u| u.resumable) {
            return;
        }
        // Without a backlog, nobody can be told what came after.
        self.saved = self.window.active.then(|| Saved {
            data: self.data.clone(),
            id: self.node.history.id,
            offset: self.window.end,
            db: self.node.applied_db,
        });
    }

    /// Comes back after a crash with what was saved.
    pub fn restart(&mut self, policy: Policy, seed: u64, replica_of: Option<u16>, now: Ms) {
        let saved = self.saved.clone();
        let mut fresh = Server::new(self.port, policy, seed);
        fresh.saved.clone_from(&saved);
        if let Some(s) = saved {
            fresh.data = s.data;
            fresh.window = Window { active: false, first: s.offset + 1, kept: s.offset + 1, end: s.offset };
            match replica_of {
                Some(_) => fresh.node.restore_replica(s.id, s.offset, s.db),
                None => {
                    fresh.node.restore_primary(s.id, s.offset);
                    fresh.window.active = true;
                }
            }
        }
        *self = fresh;
        if let Some(port) = replica_of {
            self.event(now, Event::ReplicaOf { host: "sim".into(), port });
        }
    }
}
