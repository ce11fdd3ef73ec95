//! Primaries and replicas that say anything, to the state machine of replication.
//!
//! The machine's own side is honest: what it wants done is done and answered,
//! sooner or later.

use std::collections::VecDeque;

use bytes::Bytes;
use coreslot::base::rng::Rng as NodeRng;
use coreslot::config::Settings;
use coreslot::replication::event::{Action, Event, Moment, Psync};
use coreslot::replication::history::Window;
use coreslot::replication::id::ReplId;
use coreslot::replication::node::Node;
use coreslot::replication::peer::Peer;
use coreslot::replication::policy::Policy;

use super::bytes::mutated;
use super::fuzz;
use super::rng::Rng;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

const SAID: &[&[u8]] = &[
    b"+PONG\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-ERR unknown command\r\n",
    b"+OK\r\n+OK\r\n",
    b"+OK\r\n",
    b"\n",
    b"+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 10\r\n",
    b"+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 9223372036854775807\r\n",
    b"+FULLRESYNC x -1\r\n",
    b"+CONTINUE\r\n",
    b"+CONTINUE 0123456789abcdef0123456789abcdef01234567\r\n",
    b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
    b"$5\r\nREDIS",
    b"$0\r\n",
    b"$-1\r\n",
    b"$EOF:0123456789abcdef0123456789abcdef01234567\r\n",
    b"REDIS0123456789abcdef0123456789abcdef01234567",
    b"*1\r\n$4\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
    b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n",
    b"*1\r\n$5\r\nMULTI\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
];

/// What a primary says when all goes well, so that the stream is reached often.
const GREETING: &[u8] = b"+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 10\r\n$3\r\nabc";

/// A node with what surrounds it.
struct Host {
    node: Node,
    now: u64,
    window: Window,
    answers: VecDeque<Event>,
    epoch: Option<u64>,
    /// A snapshot comes in; all of it has come.
    loading: Option<bool>,
    applying: VecDeque<u64>,
    saving: bool,
    links: u64,
}

impl Host {
    fn new(seed: u64) -> Host {
        let node = Node::new(Policy::new(&Settings::default()), NodeRng::new(seed), 0);
        Host {
            node,
            now: 0,
            window: Window::default(),
            answers: VecDeque::new(),
            epoch: None,
            loading: None,
            applying: VecDeque::new(),
            saving: false,
            links: 0,
        }
    }

    fn tell(&mut self, event: Event) {
        let moment = Moment { now: self.now, window: self.window };
        for action in self.node.step(moment, event) {
            self.carry_out(action);
        }
        assert!(!self.window.active || self.window.first <= self.window.end + 1, "{:?}", self.window);
        self.node.role(self.window);
    }

    fn carry_out(&mut self, action: Action) {
        let end = self.window.end;
        let from = |end: u64| Window { active: true, first: end + 1, kept: end + 1, end };
        match action {
            Action::StartLog => self.window = from(end),
            Action::ResetLog { end } => self.window = from(end),
            Action::FreeLog => self.window.active = false,
            Action::Append(bytes) => self.window.end += bytes.len() as u64,
            Action::Relay(bytes) => self.window.end += bytes.len() as u64,
            Action::Fence => self.answers.push_back(Event::Fenced),
            Action::PauseWrites => self.answers.push_back(Event::Paused),
            Action::Connect { epoch, .. } => {
                assert!(self.epoch.is_none_or(|last| last < epoch));
                self.epoch = Some(epoch);
                self.answers.push_back(Event::Connected { epoch });
            }
            Action::Disconnect { epoch } => self.epoch = self.epoch.filter(|e| *e != epoch),
            Action::BeginLoad { .. } => assert_eq!(self.loading.replace(false), None, "two at once"),
            Action::Load(bytes) => assert_eq!((self.loading, bytes.is_empty()), (Some(false), false)),
            Action::EndLoad => assert_eq!(self.loading.replace(true), Some(false), "none has begun"),
            Action::AbortLoad => self.loading = None,
            Action::Apply(batch) => self.applying.push_back(batch.end),
            Action::StartSnapshot { .. } => assert!(!std::mem::replace(&mut self.saving, true), "two at once"),
            Action::AbortSnapshot => self.saving = false,
            _ => {}
        }
    }

    fn answer(&mut self, rng: &mut Rng) {
        if let Some(event) = self.answers.pop_front() {
            return self.tell(event);
        }
        if let Some(end) = self.applying.pop_front() {
            return self.tell(Event::Applied { end });
        }
        if self.loading == Some(true) {
            self.loading = None;
            self.tell(Event::Replacing);
            return self.tell(match rng.one_in(4) {
                true => Event::LoadFailed { reason: "damaged".into() },
                false => Event::Loaded { db: rng.below(20) as u32 },
            });
        }
        if self.saving {
            let cut = Event::SnapshotCut { offset: self.window.end };
            self.tell(cut);
            // The node may have given it up.
            if std::mem::take(&mut self.saving) {
                let failed = Event::SnapshotFailed { reason: "no space".into() };
                self.tell(if rng.one_in(3) { failed } else { Event::SnapshotDone });
            }
        }
    }

    /// Something that a replica says, or asks for.
    fn replica(&mut self, rng: &mut Rng) -> Event {
        let link = rng.below(self.links as usize + 1) as u64;
        let offset = match rng.below(4) {
            0 => u64::MAX >> rng.below(64),
            1 => self.window.end.wrapping_add(rng.below(3) as u64),
            _ => rng.below(40) as u64,
        };
        match rng.below(8) {
            0 | 1 => {
                self.links += 1;
                let id = rng.one_in(2).then(|| ReplId::parse(ID.as_bytes()).expect("an id"));
                let id = if rng.one_in(3) { Some(self.node.history.id) } else { id };
                let next = if rng.one_in(4) { -1 } else { offset as i64 };
                let mut peer = Peer::default();
                peer.capa.eof = rng.one_in(2);
                peer.capa.psync2 = rng.one_in(2);
                peer.rdb_only = rng.one_in(8);
                Event::Psync(Psync { link: self.links, peer, id, next, failover: rng.one_in(8) })
            }
            2 => {
                self.links += 1;
                Event::Sync { link: self.links, peer: Peer::default() }
            }
            3 => Event::Ack { link, offset, fsynced: rng.one_in(2).then_some(offset) },
            4 => Event::Alive { link },
            5 => Event::Gone { link },
            6 => Event::BulkSent { link },
            _ => Event::Sent { link, offset: offset.min(self.window.end) },
        }
    }

    fn something(&mut self, rng: &mut Rng) -> Event {
        match (rng.below(12), self.epoch) {
            (0, _) => Event::ReplicaOf { host: "h".into(), port: rng.below(3) as u16 },
            (1, _) => Event::NoOne,
            (2, _) => Event::Tick,
            (3, _) => Event::AskForAcks,
            (4, Some(epoch)) => Event::Lost { epoch, reason: "gone".into() },
            (5 | 6, _) => self.replica(rng),
            (7, Some(epoch)) => Event::Received { epoch, bytes: Bytes::from_static(GREETING) },
            (_, Some(epoch)) => Event::Received { epoch, bytes: mutated(rng, SAID).into() },
            (_, None) => Event::Tick,
        }
    }
}

/// Whatever the other side says, nothing panics, no two snapshots are taken or
/// loaded at once, and no byte is loaded that belongs to none.
#[test]
fn replication_peers() {
    fuzz(
        "replication peers",
        |rng| rng.next(),
        |seed| format!("{seed}"),
        |seed| {
            let mut rng = Rng::new(*seed);
            let mut host = Host::new(*seed);
            if rng.one_in(2) {
                host.tell(Event::ReplicaOf { host: "h".into(), port: 1 });
            }
            for _ in 0..10 + rng.below(60) {
                host.now += if rng.one_in(10) { rng.below(100_000) as u64 } else { rng.below(300) as u64 };
                if rng.one_in(2) {
                    host.answer(&mut rng);
                } else {
                    let event = host.something(&mut rng);
                    host.tell(event);
                }
            }
        },
    );
}
