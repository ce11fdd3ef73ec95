//! One server's replication: its history, its replicas, its primary.
//!
//! ```text
//! REPLICAOF h p:   primary --fence--> replica without link --> ... connected
//! REPLICAOF NO ONE: replica --all that was handed out is applied--> primary
//! ```
//!
//! [`Node::step`] is the only way in: an event with the time and what the
//! stream holds, and out come the actions it leads to. It reads no clock and no
//! socket; randomness comes from the generator that it was made with.
//!
//! The stream's bytes never pass through here: [`Action::Feed`] tells the
//! outside to send them by itself. On a replica they do, once, on their way to
//! be applied ([`Action::Apply`]) and then into the backlog ([`Action::Relay`]).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::event::{Action, Event, LinkId, Moment, Ms, Psync};
use super::failover::Failover;
use super::full::Snapshot;
use super::history::{History, Window};
use super::id::ReplId;
use super::policy::Policy;
use super::primary::Counters;
use super::replica::Replica;
use super::upstream::Upstream;
use super::wait::{Waiting, Waits};
use crate::base::rng::Rng;

/// Time between two rounds of what is due once a second.
const CRON_MS: Ms = 1000;

/// A batch of the primary's that is being applied.
#[derive(Clone, Debug)]
pub struct Flight {
    pub end: u64,
    pub bytes: Bytes,
    /// Database selected after it.
    pub db: u32,
    /// To be acknowledged with this offset when it is applied.
    pub ack: Option<u64>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Node {
    pub policy: Policy,
    pub history: History,
    pub replicas: BTreeMap<LinkId, Replica>,
    pub snapshot: Option<Snapshot>,
    pub upstream: Option<Upstream>,
    pub failover: Failover,
    pub counters: Counters,
    /// Replicas dropped for what they left unread.
    pub counters_output_closes: u64,
    pub(super) waits: Waits,
    /// Handed out to be applied, in order.
    pub(super) inflight: VecDeque<Flight>,
    /// To become primary once everything in flight is applied; and then to
    /// answer this PSYNC.
    promotion: Option<Option<Psync>>,
    /// On a replica: the database selected in the stream behind what is
    /// applied. A snapshot has to tell it (`repl-stream-db`), because a chained
    /// stream goes on without a SELECT.
    pub applied_db: u32,
    /// What this server has on disk of the stream, and up to which time.
    pub fsynced: u64,
    pub(super) durable_past: u64,
    pub(super) rng: Rng,
    pub(super) now: Ms,
    pub(super) window: Window,
    /// Position of a dataset loaded at the start, for the first primary.
    restored: Option<(u64, u32)>,
    pub(super) next_epoch: u64,
    pub(super) upstream_removed: bool,
    pub(super) no_replicas_since: Ms,
    pub(super) pinged_at: Ms,
    pub(super) good_told: Option<usize>,
    cron_at: Ms,
    out: Vec<Action>,
}

impl Node {
    pub fn new(policy: Policy, rng: Rng, now: Ms) -> Node {
        let mut rng = rng;
        Node {
            policy,
            history: History::new(&mut rng),
            replicas: BTreeMap::new(),
            snapshot: None,
            upstream: None,
            failover: Failover::default(),
            counters: Counters::default(),
            counters_output_closes: 0,
            waits: Waits::default(),
            inflight: VecDeque::new(),
            promotion: None,
            applied_db: 0,
            fsynced: 0,
            durable_past: 0,
            rng,
            now,
            window: Window::default(),
            restored: None,
            next_epoch: 0,
            upstream_removed: false,
            no_replicas_since: now,
            pinged_at: now,
            good_told: None,
            cron_at: now,
            out: Vec::new(),
        }
    }

    /// Goes on after a restart as a replica: the dataset was loaded as a state
    /// of history `id` at `offset`, with `db` selected in its stream.
    pub fn restore_replica(&mut self, id: ReplId, offset: u64, db: u32) {
        self.history.adopt(id);
        self.restored = Some((offset, db));
        self.applied_db = db;
    }

    /// Goes on after a restart as a primary: replicas that have the saved
    /// state, or less, may go on with ours.
    pub fn restore_primary(&mut self, id: ReplId, offset: u64) {
        self.history.adopt(id);
        self.history.promote(offset, &mut self.rng);
    }

    /// Obeys other settings from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.good_told = None;
    }

    /// Takes one event; returns what is to be done, in order.
    pub fn step(&mut self, at: Moment, event: Event) -> Vec<Action> {
        self.now = at.now;
        self.window = at.window;
        match event {
            Event::Tick => self.tick(),
            Event::Psync(psync) => self.on_psync(psync),
            Event::Sync { link, peer } => self.on_sync(link, peer),
            Event::Ack { link, offset, fsynced } => self.on_ack(link, offset, fsynced),
            Event::Alive { link } => self.on_alive(link),
            Event::Gone { link } => self.on_gone(link),
            Event::Sent { link, offset } => self.on_sent(link, offset),
            Event::BulkProgress { link } => self.on_progress(link),
            Event::BulkSent { link } => self.on_bulk_sent(link),
            Event::SnapshotCut { offset } => self.on_snapshot_cut(offset),
            Event::SnapshotDone => self.on_snapshot_done(),
            Event::SnapshotFailed { reason } => self.on_snapshot_failed(&reason),
            Event::ChangeId => self.history.begin_anew(&mut self.rng),
            Event::ReplicaOf { host, port } => self.become_replica(host, port),
            Event::NoOne => self.on_no_one(),
            Event::Fenced => self.on_fenced(),
            Event::Connected { epoch } => self.on_connected(epoch),
            Event::Received { epoch, bytes } => self.on_received(epoch, bytes),
            Event::Lost { epoch, reason } => self.on_lost(epoch, &reason),
            Event::Replacing => self.on_replacing(),
            Event::Loaded { db } => self.on_loaded(db),
            Event::LoadFailed { reason } => self.on_load_failed(&reason),
            Event::Applied { end } => self.on_applied(end),
            Event::Wait { ticket, offset, local, replicas, fsynced, deadline } => {
                self.on_wait(ticket, Waiting { offset, local, replicas, fsynced, deadline });
            }
            Event::Fsynced { offset, past } => self.on_fsynced(offset, past),
            Event::WaitCancelled { ticket } => {
                self.waits.all.remove(&ticket);
            }
            Event::AskForAcks => self.ask_for_acks(self.window.end),
            Event::Failover(order) => self.on_failover(order),
            Event::FailoverAbort => self.on_failover_abort(),
            Event::Paused => self.on_paused(),
        }
        std::mem::take(&mut self.out)
    }

    fn tick(&mut self) {
        self.settle_waits();
        self.failover_tick();
        self.upstream_tick();
        self.limit_output();
        self.start_snapshot();
        if self.now.saturating_sub(self.cron_at) >= CRON_MS {
            self.cron_at = self.now;
            self.primary_cron();
        }
    }

    fn on_sent(&mut self, link: LinkId, offset: u64) {
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.sent = replica.sent.max(offset);
            replica.progress_at = now;
        }
    }

    fn on_progress(&mut self, link: LinkId) {
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.progress_at = now;
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(super) fn notice(&mut self, text: String) {
        self.act(Action::Notice(text));
    }

    pub(super) fn warning(&mut self, text: String) {
        self.act(Action::Warning(text));
    }

    /// Puts bytes of our own into the stream; only a primary may.
    pub(super) fn append(&mut self, bytes: &'static [u8]) {
        if self.window.active && self.upstream.is_none() {
            self.window.end += bytes.len() as u64;
            self.act(Action::Append(bytes));
        }
    }

    /// What replicas can be given: on a replica, only what is applied.
    pub(super) fn stream_window(&self) -> Window {
        self.window
    }

    /// Offset of the dataset, including what is in flight.
    pub fn offset(&self) -> u64 {
        self.inflight.back().map_or(self.window.end, |f| f.end)
    }

    pub fn is_replica(&self) -> bool {
        self.upstream.is_some()
    }

    /// Has the dataset an identity that a replica could be given?
    pub(super) fn may_serve(&self) -> bool {
        self.upstream.as_ref().is_none_or(Upstream::connected)
    }

    /// Full synchronizations have to wait.
    pub(super) fn holds_full_syncs(&self) -> bool {
        !self.may_serve() || self.promotion.is_some()
    }

    pub(super) fn become_replica(&mut self, host: String, port: u16) {
        self.promotion = None;
        self.act(Action::Configure(Some((host.clone(), port))));
        let was = self.upstream.take();
        let (resumable, fenced) = match &was {
            Some(up) => (up.resumable, up.fenced),
            None => (true, false),
        };
        let restored = self.restored.take();
        if was.is_none() && restored.is_none() {
            self.start_backlog_for_demotion();
        }
        self.leave(was.as_ref());
        let mut up = Upstream::new(host, port, (self.offset(), self.policy.databases), resumable, fenced, self.now);
        // The link is made in the next tick, as Redis makes it in its cron;
        // before, REPLICAOF itself tries.
        up.epoch = self.next_epoch;
        if let Some(was) = &was {
            up.adopt_position(was);
        }
        if let Some((offset, db)) = restored {
            up.restore_position(offset, db);
            up.synced = true;
        }
        self.upstream = Some(up);
        self.waits.asked_at = None;
        match fenced {
            true => self.connect(),
            false => self.act(Action::Fence),
        }
    }

    /// A primary that becomes a replica offers its own history to the new
    /// primary; without a backlog it has none to offer.
    fn start_backlog_for_demotion(&mut self) {
        if !self.window.active {
            self.start_backlog();
        }
        self.notice("Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to synchronize with the new master with just a partial transfer.".into());
    }

    fn leave(&mut self, up: Option<&Upstream>) {
        let Some(up) = up else { return };
        if !matches!(up.state, super::upstream::State::Connect { .. }) {
            let epoch = up.epoch;
            self.act(Action::Disconnect { epoch });
        }
        if up.bulk.is_some() {
            self.act(Action::AbortLoad);
        }
    }

    /// No write of ours can come any more: the offset stands.
    fn on_fenced(&mut self) {
        let (offset, now) = (self.offset(), self.now);
        let Some(up) = &mut self.upstream else { return };
        if up.fenced {
            return;
        }
        let db = up.db();
        up.fenced = true;
        up.state = super::upstream::State::Connect { at: now };
        up.restore_position(offset, db);
        self.act(Action::RoleIsReplica);
        self.connect();
    }

    fn on_no_one(&mut self) {
        if self.upstream.is_none() {
            return self.act(Action::RoleIsPrimary);
        }
        self.promotion = Some(None);
        let up = self.upstream.take();
        self.leave(up.as_ref());
        if let Some(mut up) = up {
            up.state = super::upstream::State::Connect { at: Ms::MAX };
            up.bulk = None;
            self.upstream = Some(up);
        }
        self.settle_role();
    }

    /// PSYNC ... FAILOVER: this replica is to become primary. Whether the
    /// PSYNC can be answered now.
    pub(super) fn serve_failover_request(&mut self, psync: &Psync) -> bool {
        let text = if self.upstream.is_none() {
            "-ERR PSYNC FAILOVER can't be sent to a master.\r\n"
        } else if psync.id != Some(self.history.id) {
            "-ERR PSYNC FAILOVER replid must match my replid.\r\n"
        } else {
            self.warning(format!("Failover request received for replid {}.", self.history.id));
            let mut psync = psync.clone();
            psync.failover = false;
            self.on_no_one();
            match self.upstream.is_none() {
                true => return true,
                false => self.promotion = Some(Some(psync)),
            }
            return false;
        };
        self.act(Action::Send { link: psync.link, bytes: Bytes::from_static(text.as_bytes()) });
        self.act(Action::Close { link: psync.link, reason: "its failover request is refused".into() });
        false
    }

    /// Becomes primary if that is under way and nothing is in flight.
    pub(super) fn settle_role(&mut self) {
        if !self.inflight.is_empty() {
            return;
        }
        let Some(then) = self.promotion.take() else { return };
        self.become_primary();
        if let Some(psync) = then {
            self.on_psync(psync);
        }
    }

    pub(super) fn become_primary(&mut self) {
        let Some(up) = self.upstream.take() else {
            // Aborted out of the middle of the link's own work.
            self.upstream_removed = true;
            return self.finish_promotion();
        };
        self.leave(Some(&up));
        self.finish_promotion();
    }

    fn finish_promotion(&mut self) {
        self.act(Action::Configure(None));
        let offset = self.offset();
        self.history.promote(offset, &mut self.rng);
        self.drop_all_replicas("this server has become a primary");
        self.no_replicas_since = self.now;
        self.waits.asked_at = None;
        self.act(Action::ForceSelect);
        self.act(Action::Unfence);
        self.act(Action::RoleIsPrimary);
        self.notice("Discarding previously cached master state.".into());
        self.notice(format!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            self.history.id2,
            self.history.second_offset_shown(),
            self.history.id
        ));
    }
}
