//! Replication at work: the service core's side of both roles.
//!
//! [`Node`](crate::replication::node::Node) decides, this module does: it
//! gives the node its events and carries out its actions.
//!
//! | file | holds |
//! | --- | --- |
//! | `actions` | the node's actions, one by one |
//! | `link` | a replica's connection |
//! | `disk` | what the backlog keeps on disk |
//! | `clients` | these connections in CLIENT LIST and CLIENT KILL |
//! | `upstream` | the connection to the primary |
//! | `full`, `load` | a snapshot for replicas; the primary's snapshot |
//! | `hold` | the dataset standing still for a moment |
//! | `apply` | what the primary sends, on its way into the keyspace |
//! | `roles` | going from one role to the other: fences |
//! | `ask` | what clients ask: WAIT, ROLE, INFO, REPLICAOF, FAILOVER |

mod actions;
mod apply;
mod ask;
mod clients;
mod connect;
mod disk;
mod full;
mod hold;
mod link;
mod load;
mod receive;
mod roles;
mod upstream;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use glommio::timer::sleep;

use super::core::Core;
use super::role::Role;
use super::sampling::Rates;
use super::service::Service;
use super::service::bell::Bell;
use super::service::snapshot::{AtCut, Place};
use super::service::streams::{FOR_REPLICATION, Replication};
use crate::base::clock;
use crate::base::rng::{Rng, entropy};
use crate::config::Settings;
use crate::journal::marks::Marks;
use crate::journal::stream::Selected;
use crate::observe::log;
use crate::replication::event::{Event, LinkId, Moment, Ms};
use crate::replication::history::Window;
use crate::replication::id::{OFFSET_MAX, ReplId};
use crate::replication::node::Node;
use crate::replication::policy::Policy;
use crate::replication::stream::Batch;
use crate::snapshot::load::About;

pub use ask::{Asker, Described, Durable};
pub use clients::{Former, LinkInfo};
pub use link::parse_psync;

/// Time between two ticks of the node.
const TICK: Duration = Duration::from_millis(100);

/// Ticks between two looks at what the backlog has not needed.
const RELAX_TICKS: u64 = 10;

/// What the service core keeps of replication.
pub struct Repl {
    node: RefCell<Node>,
    settings: RefCell<Arc<Settings>>,
    /// Events that have come while another was being worked off.
    events: RefCell<VecDeque<Event>>,
    stepping: Cell<bool>,
    /// `master_repl_offset` while there is no backlog.
    end: Cell<u64>,
    links: RefCell<BTreeMap<LinkId, Rc<link::Link>>>,
    upstream: RefCell<Option<Rc<upstream::Upstream>>>,
    attempts: connect::Attempts,
    /// Batches of the primary that wait to be applied, and their bytes.
    batches: RefCell<VecDeque<Batch>>,
    batch_bytes: Cell<usize>,
    applied: Bell,
    /// Name of the last command of the primary's that was applied, `NULL` before.
    last_applied: RefCell<String>,
    disk: disk::Disk,
    arrived: Bell,
    asks: ask::Asks,
    roles: roles::Roles,
    full: full::Full,
    /// Rung when a replica has got more of its snapshot, or has gone.
    bulk_sent: Bell,
    held: hold::Held,
    load: load::Load,
    role: Cell<Role>,
    /// Bytes from the primary and to replicas, and how they come of late.
    net: Cell<[u64; 2]>,
    rates: RefCell<Rates>,
    /// What the dataset that was loaded said of its history.
    pub restored: RefCell<Option<Restored>>,
}

/// The place in a replication stream of which a dataset on disk is a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub id: ReplId,
    pub offset: u64,
    pub db: u32,
}

impl Restored {
    /// From a note in an append-only file: `REPL:<id>:<offset>:<db>`, and
    /// `:replica` if a replica wrote it.
    pub fn parse(note: &[u8]) -> Option<Restored> {
        let mut words = std::str::from_utf8(note).ok()?.strip_prefix("REPL:")?.split(':');
        let id = ReplId::parse(words.next()?.as_bytes())?;
        Restored { id, offset: words.next()?.parse().ok()?, db: words.next()?.parse().ok()? }.possible()
    }

    /// Is it one that a replica wrote?
    pub fn is_replicas(note: &[u8]) -> bool {
        note.ends_with(b":replica") && Restored::parse(note).is_some()
    }

    pub fn of(about: &About) -> Option<Restored> {
        let id = ReplId::parse(about.replication_id.as_ref()?.as_bytes())?;
        let db = about.replication_db.unwrap_or(0);
        Restored { id, offset: about.replication_offset?, db }.possible()
    }

    fn possible(self) -> Option<Restored> {
        (self.offset <= OFFSET_MAX).then_some(self)
    }
}

/// Milliseconds of the monotonic clock.
fn now_ms() -> Ms {
    clock::mono_ns() / 1_000_000
}

impl Repl {
    pub fn new(settings: Arc<Settings>) -> Repl {
        let policy = Policy::new(&settings);
        Repl {
            node: RefCell::new(Node::new(policy, Rng::new(entropy()), now_ms())),
            settings: RefCell::new(settings),
            events: RefCell::default(),
            stepping: Cell::new(false),
            end: Cell::new(0),
            links: RefCell::default(),
            upstream: RefCell::default(),
            attempts: connect::Attempts::default(),
            batches: RefCell::default(),
            batch_bytes: Cell::new(0),
            applied: Bell::default(),
            last_applied: RefCell::new("NULL".to_owned()),
            disk: disk::Disk::default(),
            arrived: Bell::default(),
            asks: ask::Asks::default(),
            roles: roles::Roles::default(),
            full: full::Full::default(),
            bulk_sent: Bell::default(),
            held: hold::Held::default(),
            load: load::Load::default(),
            role: Cell::new(Role::default()),
            net: Cell::default(),
            rates: RefCell::default(),
            restored: RefCell::default(),
        }
    }
}

impl Repl {
    /// Counts bytes that came from the primary, or went to a replica.
    fn count_net(&self, received: usize, sent: usize) {
        let [a, b] = self.net.get();
        self.net.set([a + received as u64, b + sent as u64]);
    }

    /// To be called every 100 ms: what has come and gone since.
    pub fn take_sample(&self) {
        let [received, sent] = self.net.get();
        self.rates.borrow_mut().add(now_ms(), [received, sent, 0, 0]);
    }

    /// The history's id, and the database selected in its stream.
    pub fn identity(&self) -> (ReplId, u32) {
        let node = self.node.borrow();
        (node.history.id, if node.is_replica() { node.applied_db } else { 0 })
    }

    /// Is the dataset a state of the history at the stream's end? On a replica
    /// not while something is being applied.
    pub fn stands_still(&self) -> bool {
        self.has_place() && !self.held.applying.get() && self.batches.borrow().is_empty()
    }

    /// Between two rounds of what is applied: is the dataset a state of the
    /// history?
    pub fn has_place(&self) -> bool {
        self.node.borrow().upstream.as_ref().is_none_or(|up| up.resumable && up.fenced)
    }

    pub fn is_replica(&self) -> bool {
        self.node.borrow().is_replica()
    }
}

impl Service {
    /// Starts replication's tasks.
    pub fn start_replication(self: &Rc<Self>) {
        glommio::spawn_local(self.clone().change_roles()).detach();
        glommio::spawn_local(self.clone().apply_batches()).detach();
        glommio::spawn_local(self.clone().tick_replication()).detach();
        glommio::spawn_local(self.clone().spill_backlog()).detach();
        let of = self.repl.settings.borrow().replication.replicaof.clone();
        if let Some((host, port)) = of {
            self.replicate(Event::ReplicaOf { host, port });
        }
    }

    /// The configuration says that this is a replica: from the first moment on no
    /// client may write, and nothing ends by this server's clock. What it loads is to
    /// be a place in its primary's history.
    pub async fn begin_as_replica(self: &Rc<Self>) {
        self.set_role(Role { replica: true, fenced: true, link_up: false, ..self.repl.role.get() });
        self.ask_all(|_| ()).await;
    }

    /// Takes up the history of the dataset that was loaded, before anything is
    /// written: replicas may go on with a primary that was started again, and a
    /// replica with its primary. On a primary the backlog begins here, so that
    /// the deletions of keys that have expired meanwhile stand in it.
    pub async fn restore_history(self: &Rc<Self>) {
        let Some(r) = self.repl.restored.take() else { return };
        let settings = self.repl.settings.borrow().clone();
        self.repl.end.set(r.offset);
        if settings.replication.replicaof.is_some() {
            log::notice(format_args!(
                "Before turning into a replica, using the data set's replication ID {} and offset {}: a partial synchronization may be possible.",
                r.id, r.offset
            ));
            self.repl.node.borrow_mut().restore_replica(r.id, r.offset, r.db);
            return;
        }
        self.repl.node.borrow_mut().restore_primary(r.id, r.offset);
        let backlog = self.new_backlog(r.offset);
        let log = Replication { written: Marks::new(r.offset), selected: Selected::default(), backlog, relays: false };
        self.streams.borrow_mut().out.replication = Some(log);
        self.keep_journal(FOR_REPLICATION).await;
        // Replicas that come back find these deletions in the backlog.
        let expired: u64 = self.ask_all(Core::expire_all).await.into_iter().sum();
        self.shared.persistence.last_load_expired.fetch_add(expired, Ordering::Relaxed);
        self.merged_past(clock::mono_ns()).await;
    }

    /// CONFIG RESETSTAT.
    pub fn reset_replication_stats(&self) {
        self.repl.node.borrow_mut().counters = Default::default();
        self.repl.net.set([0; 2]);
    }

    async fn tick_replication(self: Rc<Self>) {
        for tick in 1u64.. {
            self.follow_settings();
            self.excuse_idle_transfers();
            self.replicate(Event::Tick);
            if tick % RELAX_TICKS == 0
                && let Some(r) = &mut self.streams.borrow_mut().out.replication
            {
                r.backlog.relax();
            }
            self.shared.stream_memory.note_backlog(self.streams.borrow().out.backlog());
            self.tidy_snapshot_file();
            sleep(TICK).await;
        }
    }

    /// Takes over a changed configuration.
    pub fn follow_settings(&self) {
        let new = self.shared.config.settings();
        if Arc::ptr_eq(&new, &self.repl.settings.borrow()) {
            return;
        }
        let mut node = self.repl.node.borrow_mut();
        node.set_policy(Policy::new(&new));
        if let Some(r) = &mut self.streams.borrow_mut().out.replication {
            r.backlog.resize(new.replication.repl_backlog_size);
        }
        *self.repl.settings.borrow_mut() = new;
    }

    /// Notes the place of a cut in the stream, for a snapshot's header.
    pub fn note_place(&self) -> AtCut {
        let id = self.repl.node.borrow().history.id.to_string();
        Box::new(move |out| {
            let r = out.replication.as_ref().filter(|r| !r.relays)?;
            Some(Place { db: u64::from(r.selected.db().unwrap_or(0)), id, offset: r.backlog.end() })
        })
    }

    /// The same of what has been applied on a replica; only right while
    /// nothing is being applied.
    pub fn applied_place(&self) -> Option<Place> {
        let node = self.repl.node.borrow();
        node.upstream.as_ref().filter(|up| up.resumable && up.fenced)?;
        Some(Place { db: node.applied_db.into(), id: node.history.id.to_string(), offset: self.stream_window().end })
    }

    /// What the stream holds.
    pub fn stream_window(&self) -> Window {
        match &self.streams.borrow().out.replication {
            Some(r) => {
                let b = &r.backlog;
                Window { active: true, first: b.first() + 1, kept: b.kept() + 1, end: b.end() }
            }
            None => Window { end: self.repl.end.get(), ..Window::default() },
        }
    }

    /// Tells the node of an event and does what comes of it.
    pub fn replicate(self: &Rc<Self>, event: Event) {
        self.repl.events.borrow_mut().push_back(event);
        if self.repl.stepping.replace(true) {
            return;
        }
        loop {
            let next = self.repl.events.borrow_mut().pop_front();
            let Some(event) = next else { break };
            let at = Moment { now: now_ms(), window: self.stream_window() };
            let actions = self.repl.node.borrow_mut().step(at, event);
            actions.into_iter().for_each(|action| self.carry_out(action));
        }
        self.repl.stepping.set(false);
        self.publish_role();
    }

    /// Tells the cores when what replication means for their clients changed.
    pub fn publish_role(&self) {
        let node = self.repl.node.borrow();
        let mut role = self.repl.role.get();
        role.link_up = node.upstream.as_ref().is_none_or(|u| u.connected());
        role.good_replicas = node.good_replicas();
        self.set_role(role);
    }

    /// Takes effect on every core in one of its next turns.
    fn set_role(&self, role: Role) {
        let old = self.repl.role.replace(role);
        if old.replica != role.replica {
            log::set_role(log::Role::of_server(role.replica));
            // Logged when it fails: there is nobody to tell.
            let _ = crate::server::process::adjust_oom_score(&self.shared.config.settings(), role.replica);
        }
        if old != role {
            (0..self.shared.cores).for_each(|c| self.call(c, move |core| core.take_role(role)));
        }
    }
}
