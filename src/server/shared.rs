//! What all threads of the process share: configuration, the mesh, the order
//! of transactions, and counters of the process.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::msg::Msg;
use super::persistence::Persistence;
use super::tls::Tls;
use super::tx::Tx;
use crate::acl::Users;
use crate::base::memory;
use crate::base::slot::SLOTS;
use crate::config::Config;
use crate::journal::backlog::Backlog;
use crate::journal::lane::Lane;
use crate::reactor::mesh::Mesh;
use crate::store::db::Db;
use crate::store::object::Object;
use crate::transaction::sequencer::Sequencer;

/// What a core hands over to be freed away from its turn.
pub enum Garbage {
    Objects(Vec<Object>),
    Db(Box<Db>),
}

/// See the module's description.
pub struct Shared {
    pub cores: usize,
    pub config: Config,
    /// The data cores, and after them the service core.
    pub mesh: Arc<Mesh<Msg>>,
    /// Every core's way into the journal.
    pub lanes: Box<[Arc<Lane>]>,
    pub sequencer: Sequencer<Arc<Tx>>,
    /// Held while a CONFIG SET is prepared and made.
    pub config_change: Mutex<()>,
    /// The users as last changed; cores hold the table that they have taken.
    pub users: Mutex<Arc<Users>>,
    /// What encrypted connections are made with.
    pub tls: Mutex<Option<Arc<Tls>>>,
    pub run_id: String,
    pub started_ms: u64,
    pub port: AtomicUsize,
    /// The port of core 0's own endpoint, with `core-endpoints`.
    pub endpoint_base: AtomicUsize,
    /// Connected clients.
    pub clients: AtomicUsize,
    next_client: AtomicU64,
    next_tx: AtomicU64,
    next_watch: AtomicU64,
    /// The cores' rings, for waking one from another; -1 until it has started.
    pub ring_fds: Box<[std::sync::atomic::AtomicI32]>,
    /// Slots on the move.
    pub moving_slots: Box<[AtomicBool]>,
    /// Moves started.
    pub moves: AtomicUsize,
    pub saves: super::saving::Saves,
    pub garbage: mpsc::Sender<Garbage>,
    /// Values handed over and not yet freed (INFO lazyfree_pending_objects).
    pub garbage_pending: Arc<AtomicUsize>,
    pub garbage_freed: Arc<AtomicUsize>,
    pub stream_memory: StreamMemory,
    /// Whole databases among what is handed over.
    pub garbage_dbs: Arc<AtomicUsize>,
    pub persistence: Persistence,
    pub scripts: super::scripts::SharedScripts,
    /// What INFO tells scripts.
    pub told: super::commands::info::Told,
    /// All data cores have ended their last turn.
    pub cores_ended: AtomicBool,
    /// The process has been told to stop.
    pub stopping: AtomicBool,
    /// What the threads need for themselves is known: loading may begin.
    pub measured: AtomicBool,
    /// Connections of MIGRATE that wait for the next one.
    pub migrate_sockets: AtomicUsize,
    /// DEBUG PAUSE-CRON is on.
    pub cron_paused: AtomicBool,
    pub exit_code: AtomicUsize,
    /// DEBUG SLEEP: all cores stand still until this monotonic time.
    pub sleep_until_ns: AtomicU64,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS.
    pub scripts_may_all: AtomicBool,
    next_slow: AtomicU64,
    next_denial: AtomicU64,
    /// Clients that track keys, and keys tracked.
    pub tracking_clients: AtomicUsize,
    pub tracked_keys: AtomicUsize,
    /// Memory limits over all cores.
    pub rooms: super::room::Rooms,
    /// The most memory that was in use.
    pub peak_memory: AtomicUsize,
    /// Memory in use once the cores had started.
    pub startup_memory: AtomicUsize,
}

/// Bytes of memory in use at one time, and what of them does not count against
/// `maxmemory`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub used: usize,
    pub not_counted: usize,
}

impl Usage {
    /// With what turns out to be in use besides.
    pub fn with(self, more: isize) -> Usage {
        Usage { used: self.used.saturating_add_signed(more), ..self }
    }
}

/// Memory of the stream's on the service core that does not count against
/// `maxmemory`: evicting makes more of it. Bytes, as of the last round of the
/// merge or what a replica was sent since.
#[derive(Default)]
pub struct StreamMemory {
    /// What the merge holds.
    pub merging: AtomicUsize,
    /// Blocks of the backlog beyond its size, kept for replicas that lag, and what
    /// is on its way to one that has been closed.
    pub beyond_backlog: AtomicUsize,
    /// What was read from the disk and is being sent.
    pub sending: AtomicUsize,
}

impl StreamMemory {
    pub fn note_backlog(&self, backlog: Option<&Backlog>) {
        self.beyond_backlog.store(backlog.map_or(0, Backlog::not_counted), Ordering::Relaxed);
    }

    fn sum(&self) -> usize {
        [&self.merging, &self.beyond_backlog, &self.sending].iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

impl Shared {
    pub fn new(
        cores: usize,
        config: Config,
        (users, tls): (Users, Option<Tls>),
        mesh: Arc<Mesh<Msg>>,
        map: Vec<u16>,
        garbage: mpsc::Sender<Garbage>,
        (pending, freed, flushed): (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>),
    ) -> Shared {
        Shared {
            cores,
            config,
            mesh,
            lanes: (0..cores).map(|_| Arc::default()).collect(),
            sequencer: Sequencer::new(cores, map),
            config_change: Mutex::new(()),
            users: Mutex::new(Arc::new(users)),
            tls: Mutex::new(tls.map(Arc::new)),
            run_id: crate::base::rng::hex_id::<40>(),
            started_ms: crate::base::clock::now_ms(),
            port: AtomicUsize::new(0),
            endpoint_base: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            next_client: AtomicU64::new(1),
            next_tx: AtomicU64::new(1),
            next_watch: AtomicU64::new(1),
            ring_fds: (0..=cores).map(|_| std::sync::atomic::AtomicI32::new(-1)).collect(),
            moving_slots: (0..SLOTS).map(|_| AtomicBool::new(false)).collect(),
            moves: AtomicUsize::new(0),
            saves: super::saving::Saves::new(crate::base::clock::now_ms() / 1000),
            garbage,
            garbage_pending: pending,
            garbage_freed: freed,
            stream_memory: StreamMemory::default(),
            garbage_dbs: flushed,
            persistence: Persistence::default(),
            scripts: super::scripts::SharedScripts::default(),
            told: super::commands::info::Told::new(cores),
            cores_ended: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            exit_code: AtomicUsize::new(0),
            cron_paused: AtomicBool::new(false),
            migrate_sockets: AtomicUsize::new(0),
            measured: AtomicBool::new(false),
            sleep_until_ns: AtomicU64::new(0),
            scripts_may_all: AtomicBool::new(false),
            next_slow: AtomicU64::new(0),
            next_denial: AtomicU64::new(0),
            tracking_clients: AtomicUsize::new(0),
            tracked_keys: AtomicUsize::new(0),
            rooms: super::room::Rooms::new(cores),
            peak_memory: AtomicUsize::new(0),
            startup_memory: AtomicUsize::new(0),
        }
    }

    /// The service core's place in the mesh.
    pub fn service(&self) -> usize {
        self.cores
    }

    pub fn next_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    pub fn next_tx(&self) -> u64 {
        self.next_tx.fetch_add(1, Ordering::Relaxed)
    }

    pub fn next_watch(&self) -> u64 {
        self.next_watch.fetch_add(1, Ordering::Relaxed)
    }

    /// Entries of the slow log so far, and so the number of the next.
    pub fn slow_entries(&self) -> u64 {
        self.next_slow.load(Ordering::Relaxed)
    }

    /// Takes a number for an entry of the slow log.
    pub fn next_slow(&self) -> u64 {
        self.next_slow.fetch_add(1, Ordering::Relaxed)
    }

    /// Number of the next entry of the log of denials.
    pub fn next_denial(&self) -> u64 {
        self.next_denial.fetch_add(1, Ordering::Relaxed)
    }

    /// What encrypted connections are made with now.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The current users.
    pub fn users(&self) -> Arc<Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Memory that does not count against `maxmemory`: what is on its way to
    /// the append-only file and to replicas, from the cores' buffers on.
    pub fn not_counted(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|l| l.memory()).sum();
        lanes + self.stream_memory.sum() + self.persistence.aof.buffer_bytes.load(Ordering::Relaxed) as usize
    }

    /// What is in use now, with all that the calling thread has counted. Megabytes
    /// cease to be left out, just after they were freed, when a replica is closed.
    pub fn usage(&self) -> Usage {
        memory::settle();
        let before = self.not_counted();
        let used = memory::used();
        Usage { used, not_counted: before.max(self.not_counted()) }
    }

    /// Stops all cores for a while (DEBUG SLEEP).
    pub fn sleep(&self, until_ns: u64) {
        self.sleep_until_ns.fetch_max(until_ns, Ordering::SeqCst);
        (0..self.cores).for_each(|c| self.mesh.rouse(c));
    }

    /// Tells every core to stop, with the process's exit code.
    pub fn stop(&self, code: usize) {
        self.exit_code.store(code, Ordering::SeqCst);
        self.stopping.store(true, Ordering::SeqCst);
        for c in 0..=self.cores {
            self.mesh.rouse(c);
        }
    }
}
