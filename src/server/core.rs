//! A data core: what it owns, and the stages of its turn.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::batch::Batch;
use super::blocking::Blocking;
use super::gather::Gathers;
use super::io::Arrival;
use super::mail::Mail;
use super::msg::Msg;
use super::mutation::{Mutation, broken};
use super::shared::Shared;
use super::slab::Slab;
use super::stats::CoreStats;
use super::tx::{Progress, Waiter};
use crate::acl::Users;
use crate::acl::log::Log;
use crate::base::clock;
use crate::base::rng::{Rng, entropy};
use crate::base::slot::SLOTS;
use crate::command::cx::{Options, Touch};
use crate::command::effect::{Effect, Event};
use crate::config::Settings;
use crate::journal::lane::Lane;
use crate::journal::writer::Writer;
use crate::reactor::buffers::Buffers;
use crate::reactor::mesh::Port;
use crate::reactor::ring::Ring;
use crate::reactor::turn::Stages;
use crate::reactor::wake;
use crate::replication::peer::Peer;
use crate::session::conn::ConnRef;
use crate::session::pubsub::{Audience, Subscribers};
use crate::session::watch::{Token, Watches};
use crate::store::Store;
use crate::transaction::locks::{Locks, Seq};

/// Messages that wait for room in one mesh queue before this core stops
/// reading its clients.
const OUTBOX_MAX: usize = 256;

/// One data core. Only its own thread touches it.
pub struct Core {
    pub id: usize,
    pub shared: Arc<Shared>,
    pub settings: Arc<Settings>,
    /// The users that this core knows, and what it has denied them.
    pub users: Arc<Users>,
    /// What encrypted connections are made with.
    pub tls: Option<Arc<super::tls::Tls>>,
    /// What the last of them carried.
    pub opened: Vec<u8>,
    pub denials: Log,
    /// The settings that handlers obey.
    pub options: Options,
    pub ring: Ring,
    pub buffers: Buffers,
    pub port: Port<Msg>,
    pub listeners: Vec<super::io::Listener>,
    pub accepting: bool,

    pub store: Box<Store>,
    /// This core's share of the snapshot under way.
    pub snapshot: Option<Box<super::saving::Share>>,
    /// The cut that holds everything until SAVE has ended.
    pub held_cut: Option<Arc<super::tx::Tx>>,
    /// A second keyspace, for the entries of gathered transactions.
    pub scratch: Option<Box<Store>>,
    pub conns: Slab,
    pub watches: Watches,
    /// `store` holds what a transaction has gathered, not what lies here.
    pub visiting: bool,
    /// Who listens on this core, and how many on all.
    pub subscribers: Subscribers,
    pub audience: Audience,
    pub monitors: super::monitor::Monitors,
    /// Keyspace events are to be published.
    pub notifying: bool,
    /// Where slots have taken watches.
    pub watches_sent: HashMap<Token, Vec<usize>, foldhash::fast::RandomState>,
    pub locks: Locks<Waiter>,
    /// The latest time of what stands in the lock queue, or stood there.
    pub lock_floor: u64,
    /// Transactions that hold locks here, with their places in the queue.
    pub held: HashMap<u64, Seq, foldhash::fast::RandomState>,
    /// Parts that came with this turn's inbox.
    pub fresh_parts: Vec<Seq>,
    /// Entries of the lock queue that may have become able to run; `pumping`
    /// while they are worked off.
    pub candidates: VecDeque<Seq>,
    pub pumping: bool,
    /// Transactions that this core coordinates.
    pub progress: HashMap<u64, Progress, foldhash::fast::RandomState>,
    /// Events of a gathered transaction, for their owners.
    pub gathering: Option<Vec<Event>>,
    pub gathers: Gathers,
    /// The number in the slow log that the command being accounted has already.
    pub slow_id: Option<u64>,
    /// Commands that wait for keys of this core, or of its connections.
    pub blocking: Blocking,
    /// Inside EXEC: nobody who waits is served before its end.
    pub in_unit: bool,

    /// This core's view of the slot map.
    pub map: Box<[u16]>,
    /// When each slot's route last changed, in `map_epoch`.
    pub slot_epoch: Box<[u32]>,
    pub map_epoch: u32,
    /// Requests whose slots were moved apart while they were on their way.
    pub stranded: Vec<super::msg::Parked>,
    /// Slots to be moved away, and to which core; and moves that are not over.
    pub moves_waiting: VecDeque<(u16, usize)>,
    pub moves_out: usize,
    /// None of those that wait could be started.
    pub moves_stalled: bool,
    /// Slot tables that arrived before this core granted their move.
    pub arrived: HashMap<u64, super::moves::Table, foldhash::fast::RandomState>,
    /// Commands executed per slot since the rebalancer last looked.
    pub slot_load: Box<[u32]>,

    /// The turn's stamp, monotonic nanoseconds, and the same in Unix time.
    pub stamp: u64,
    pub now: u64,
    pub touch: Touch,
    pub fx: Effect,
    /// What goes to the service core, while anyone reads the stream.
    pub journal: Writer,
    pub lane: Arc<Lane>,
    /// The running part is not the one that journals a command over everything.
    pub echo: bool,
    pub rng: Rng,
    pub stats: CoreStats,
    /// When the last command ended, in ticks.
    pub last_tick: u64,
    pub ticks_per_us: u64,
    /// Fast commands run since then, and which; they share the next reading.
    pub lent: u64,
    pub lent_to: usize,

    /// Messages of this turn to each core, and those it may not send yet.
    pub outbox: Vec<VecDeque<Msg>>,
    /// Requests forwarded to each core in this turn.
    pub batches: Vec<Option<Box<Batch>>>,
    pub batch_pool: Vec<Box<Batch>>,
    /// Bytes of a batch that is still worth keeping there.
    pub batch_kept: usize,
    /// Requests forwarded when the pool was last looked at.
    pub forwarded_before: u64,
    pub mail: Mail,
    /// Messages to itself.
    pub selfq: VecDeque<Msg>,
    /// Cores to wake at the end of the turn whatever is sent to them.
    pub wake: Vec<usize>,

    /// The ring brought something that asks for a turn.
    pub found: bool,
    /// What has come in this turn, and how much of it is worked off.
    pub arrivals: Vec<Arrival>,
    pub arrivals_done: usize,
    pub used_buffers: Vec<u16>,
    /// Connections with input that can be worked on.
    pub ready: VecDeque<u32>,
    /// Connections with output.
    pub dirty: Vec<u32>,
    /// Connections whose output waits for the disk, each with the stamp that
    /// must be durable; and the first of these stamps, as the lane has it.
    pub unsent: (VecDeque<(u64, u32, u32)>, u64),
    /// Connections whose receive ended for want of buffers.
    pub rearm: Vec<(u32, u32)>,
    /// Connections held back by CLIENT PAUSE.
    pub paused: Vec<u32>,
    pub pause: super::pause::Pause,
    /// Takes in a snapshot that is being loaded.
    pub intake: Option<Box<crate::snapshot::load::Intake>>,
    /// What the server is in replication.
    pub role: super::role::Role,
    /// On a writable replica: what clients wrote there with a deadline.
    pub local_deadlines: Option<Box<super::local_expiry::LocalDeadlines>>,
    /// Which commands are held up or refused, as a set of gates.
    pub gate: u8,
    /// What connections said of themselves with REPLCONF, by client.
    pub peers: HashMap<u64, Box<Peer>, foldhash::fast::RandomState>,
    /// Connections on their way to the service core, and what they asked.
    pub departing: HashMap<ConnRef, super::depart::Wish, foldhash::fast::RandomState>,
    /// Those that the ring has let go.
    pub departed: Vec<ConnRef>,
    /// A transaction's commands are running: nothing in it may wait.
    pub in_exec: bool,
    /// A part of a split command runs.
    pub in_share: bool,
    /// What clients cache of this core.
    pub tracker: super::tracking::Tracker,
    /// The memory limit on this core.
    pub room: super::room::Room,
    /// The limit of clients' memory has changed: they are counted anew.
    pub recount_clients: bool,
    /// A snapshot that is being loaded.
    pub incoming: Option<Box<super::loader::Incoming>>,
    /// Connections in WAIT.
    pub waiting: HashMap<ConnRef, u64, foldhash::fast::RandomState>,
    pub scripts: super::scripts::CoreScripts,
    pub defrag: super::defrag::Defrag,
    pub output_pool: Vec<Vec<u8>>,
    pub parse: super::serve::ParseSpace,

    pub next_cron_ms: u64,
    /// Listeners whose accepting failed; tried again at the next tick.
    pub accept_again: Vec<u32>,
    /// Cores are woken by messages between rings (measured better than
    /// sockets; PERF.md), unless the kernel refuses them.
    pub wake_by_ring: bool,
    pub deadline_armed: Option<u64>,
    pub wake_bytes: Box<[u8; wake::READ_BYTES]>,
    pub timespecs: Box<[io_uring::types::Timespec; 2]>,
    pub active_expire: bool,
    /// DEBUG PAUSE-CRON.
    pub cron_paused: bool,
    /// DEBUG REPLYBUFFER RESIZING 0: idle connections keep their buffers.
    pub keep_buffers: bool,
    /// Expiry ran out of its time and goes on in the next turn.
    pub expire_again: bool,
    /// Connection that the cron work looked at last.
    pub cron_cursor: usize,
    pub rates: super::sampling::Rates,
    pub survey: super::sampling::Survey,
    /// Bytes of output that the connection had which is being served.
    pub output_before: usize,
    pub next_rebalance_ms: u64,
    /// Markers still to come for slots that moved here.
    pub markers: HashMap<u16, super::moves::Awaited, foldhash::fast::RandomState>,
    pub stop: bool,
}

impl Core {
    /// Makes the core on its own thread.
    pub fn new(
        id: usize,
        shared: Arc<Shared>,
        ring: Ring,
        buffers: Buffers,
        listeners: Vec<super::io::Listener>,
    ) -> Core {
        let settings = shared.config.settings();
        let cores = shared.cores;
        let map: Box<[u16]> = shared.sequencer.map().iter().copied().collect();
        let databases = settings.databases as usize;
        let mut core = Core {
            id,
            options: super::options(&settings),
            settings,
            users: shared.users(),
            tls: shared.tls(),
            opened: Vec::new(),
            denials: Log::default(),
            ring,
            buffers,
            port: Port::new(shared.mesh.clone(), id),
            listeners,
            accepting: false,
            store: Box::new(Store::new(databases)),
            snapshot: None,
            held_cut: None,
            scratch: None,
            conns: Slab::default(),
            watches: Watches::default(),
            visiting: false,
            subscribers: Subscribers::default(),
            audience: Audience::default(),
            monitors: Default::default(),
            notifying: false,
            watches_sent: HashMap::default(),
            locks: Locks::default(),
            lock_floor: 0,
            held: HashMap::default(),
            fresh_parts: Vec::new(),
            candidates: VecDeque::new(),
            pumping: false,
            progress: HashMap::default(),
            gathering: None,
            gathers: Gathers::default(),
            blocking: Blocking::default(),
            in_unit: false,
            slow_id: None,
            in_share: false,
            map,
            slot_epoch: vec![0; SLOTS].into(),
            map_epoch: 0,
            stranded: Vec::new(),
            moves_waiting: VecDeque::new(),
            moves_out: 0,
            moves_stalled: false,
            arrived: HashMap::default(),
            slot_load: vec![0; if shared.cores > 1 { SLOTS } else { 0 }].into(),
            stamp: 0,
            now: clock::now_ms(),
            touch: Touch::Lru(0),
            fx: Effect::default(),
            journal: Writer::default(),
            lane: shared.lanes[id].clone(),
            echo: false,
            rng: Rng::new(entropy()),
            stats: CoreStats::new(),
            last_tick: 0,
            lent: 0,
            lent_to: 0,
            ticks_per_us: crate::observe::ticks::per_us() as u64,
            outbox: (0..=cores).map(|_| VecDeque::new()).collect(),
            batches: (0..=cores).map(|_| None).collect(),
            batch_pool: Vec::new(),
            batch_kept: super::exec::BATCH_KEPT_MIN,
            forwarded_before: 0,
            mail: Mail::default(),
            selfq: VecDeque::new(),
            wake: Vec::new(),
            found: false,
            arrivals: Vec::new(),
            arrivals_done: 0,
            used_buffers: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            unsent: (VecDeque::new(), 0),
            rearm: Vec::new(),
            paused: Vec::new(),
            pause: super::pause::Pause::default(),
            intake: None,
            role: super::role::Role::default(),
            gate: 0,
            peers: HashMap::default(),
            departing: HashMap::default(),
            departed: Vec::new(),
            in_exec: false,
            tracker: super::tracking::Tracker::default(),
            room: super::room::Room::default(),
            recount_clients: false,
            incoming: None,
            waiting: HashMap::default(),
            scripts: super::scripts::CoreScripts::default(),
            defrag: super::defrag::Defrag::default(),
            output_pool: Vec::new(),
            parse: super::serve::ParseSpace::default(),
            next_cron_ms: 0,
            accept_again: Vec::new(),
            wake_by_ring: true,
            deadline_armed: None,
            wake_bytes: Box::new([0; wake::READ_BYTES]),
            timespecs: Box::new([io_uring::types::Timespec::new(); 2]),
            active_expire: true,
            cron_paused: false,
            keep_buffers: false,
            expire_again: false,
            local_deadlines: None,
            cron_cursor: 0,
            rates: Default::default(),
            survey: Default::default(),
            output_before: 0,
            next_rebalance_ms: 0,
            markers: HashMap::default(),
            stop: false,
            shared,
        };
        // The first write of all must not need room for tables.
        core.store.db_mut(0);
        core.update_gate();
        core.arm_start();
        core.shared.ring_fds[id].store(core.ring.fd(), std::sync::atomic::Ordering::Relaxed);
        core
    }

    /// Does this core own the slot?
    #[inline]
    pub fn owns(&self, slot: u16) -> bool {
        self.map[slot as usize] as usize == self.id
    }

    /// Sends a message to a core, itself included.
    pub fn send(&mut self, to: usize, msg: Msg) {
        if to == self.id {
            self.selfq.push_back(msg);
        } else {
            self.outbox[to].push_back(msg);
        }
    }

    /// Wakes a core at the end of the turn.
    pub fn wake_later(&mut self, core: usize) {
        if !self.wake.contains(&core) {
            self.wake.push(core);
        }
    }

    /// Is some mesh queue, or the journal, so far behind that clients must wait?
    pub fn congested(&self) -> bool {
        self.outbox.iter().any(|o| o.len() > OUTBOX_MAX)
            || self.journal.congested(&self.lane)
            || self.snapshot_congested()
    }

    /// Is there anything to do without waiting for the kernel?
    fn runnable(&self) -> bool {
        self.has_own_work() || self.was_given_work()
    }

    /// What this core has left to itself; nobody else adds to it.
    fn has_own_work(&self) -> bool {
        self.expire_again
            || self.tracker.pending()
            || self.journal.pending()
            || self.may_start_moves()
            || !self.stranded.is_empty()
            || !self.scripts.waiting.is_empty()
            || !self.scripts.late.is_empty()
            || !self.scripts.arrived.is_empty()
            || !self.fresh_parts.is_empty()
            || !self.ready.is_empty()
            || !self.rearm.is_empty()
            || !self.selfq.is_empty()
            || self.mail.waits()
            || self.has_messages()
    }

    /// Has it anything to tell other cores?
    fn has_messages(&self) -> bool {
        !self.wake.is_empty() || self.outbox.iter().any(|o| !o.is_empty())
    }

    /// What other threads can give it at any time.
    fn was_given_work(&self) -> bool {
        self.port.has_mail()
            || self.shared.sequencer.has_mail(self.id)
            || self.may_release()
            || self.snapshot_runnable()
            || self.room_is_wanted()
            || self.clients_are_to_be_limited()
    }

    /// Has nothing come but word of replies that were sent whole? A turn would
    /// find nothing to do.
    fn idle(&self) -> bool {
        !self.found
            && !self.stop
            && self.arrivals.is_empty()
            && self.dirty.is_empty()
            && self.departed.is_empty()
            && !self.limits_memory()
            && !self.runnable()
    }

    /// Gives what is queued to the kernel and takes what it has, waiting for it
    /// where nothing else is to be done.
    fn enter(&mut self, mut block: bool) {
        if block {
            self.port.park();
            self.park_journal();
            crate::base::memory::settle();
            block = !self.was_given_work();
        }
        self.ring.enter(block);
        self.port.unpark();
        self.lane.unpark();
    }

    /// Looks for work without blocking for up to `core-spin-us`; whether there
    /// was some.
    fn spin(&mut self) -> bool {
        let until = clock::mono_ns() + u64::from(self.settings.core_spin_us) * 1000;
        loop {
            self.ring.enter(false);
            if self.ring.has_completions() || self.runnable() {
                return true;
            }
            let now = clock::mono_ns();
            self.keep_merge_going(now);
            if now >= until {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    fn set_touch(&mut self) {
        let o = &self.options;
        self.touch = if o.lfu_policy {
            Touch::Lfu {
                minutes: crate::store::clock::minutes(self.now),
                log_factor: o.lfu_log_factor,
                decay_minutes: o.lfu_decay_minutes,
            }
        } else {
            Touch::Lru(crate::store::clock::lru(self.now))
        };
    }

    /// Handles what other cores (and this one) said.
    pub fn handle(&mut self, msg: Msg) {
        match msg {
            Msg::Requests(batch) => self.run_batch(batch),
            Msg::Replies(batch) => self.take_replies(batch),
            Msg::Forward(parked) => self.run_or_park(*parked),
            Msg::Reply { conn, seq, reply } => self.deliver(conn, seq, &reply),
            Msg::Locked { tx, part, vote, cargo } => self.on_locked(tx, part, vote, cargo),
            Msg::Done { tx, part, reply, spent, journaled } => self.on_done(tx, part, reply, spent, journaled),
            Msg::Release { tx, part, cargo, events, reads, block } => {
                self.on_release(tx, part, cargo, (events, reads, block));
            }
            Msg::Refused(tx) => self.tell_refused(&tx),
            Msg::Again(again) => self.run_again(*again),
            Msg::Call(f) => f(self),
            Msg::Service(_) => debug_assert!(false, "a message for the service core"),
        }
    }

    fn handle_self(&mut self) {
        while let Some(m) = self.selfq.pop_front() {
            self.handle(m);
        }
    }
}

impl Stages for Core {
    fn reap(&mut self) {
        let mut block = !self.runnable();
        loop {
            if self.settings.core_spin_us == 0 || !self.spin() {
                self.enter(block);
            }
            self.collect();
            if !self.idle() {
                break;
            }
            block = true;
        }
        self.found = false;
        self.stats.turns += 1;
    }

    fn receive(&mut self) {
        self.mail.receive(&self.port);
    }

    fn stamp(&mut self, stamp_ns: u64) {
        self.stamp = stamp_ns;
        self.now = clock::unix_ms(stamp_ns);
        self.set_touch();
        if self.fx.wants_stream {
            self.journal.stamp(&self.lane, stamp_ns);
        }
    }

    fn order(&mut self) {
        if !broken(Mutation::NoHold) {
            self.place_inbox();
        }
    }

    fn run(&mut self) {
        self.begin_counting();
        self.grant_fresh();
        while let Some(m) = self.mail.take() {
            self.handle(m);
        }
        self.handle_self();
        if !self.stranded.is_empty() {
            self.rescue_stranded();
        }
        if !self.scripts.waiting.is_empty() {
            self.order_waiting_scripts();
        }
        self.serve_all();
        self.handle_self();
        if self.scripts.busy {
            self.refuse_waiting();
        }
        if broken(Mutation::NoHold) {
            self.place_inbox();
            self.grant_fresh();
        }
    }

    fn journal(&mut self) {
        if self.fx.wants_stream {
            self.publish_effects();
        }
    }

    fn flush(&mut self) {
        if !self.departed.is_empty() {
            self.finish_departures();
        }
        self.settle_memory();
        if self.tracker.pending() {
            self.telling(Core::send_invalidations);
        }
        // First, so that other cores work while the kernel sends what follows,
        // and nobody who reads a reply acts before this turn's messages.
        self.flush_mesh();
        self.flush_connections();
        // After those who are over their own limits have been cut off.
        self.limit_clients();
        if self.has_messages() {
            self.flush_mesh();
        }
    }

    fn background(&mut self) {
        self.sleep_along();
        self.background_work();
    }

    fn stopping(&self) -> bool {
        self.stop
    }
}
