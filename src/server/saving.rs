//! Snapshots, on the data cores: the cut, the reading in slices, the end.
//!
//! 1. The service core begins a snapshot ([`super::service::snapshot`]) and
//!    asks a data core to order its cut: a transaction that locks all cores
//!    for readers only, so that it stands at one place among all writes.
//! 2. Every core marks its keyspace ([`Core::cut_here`]) and reports. The
//!    coordinator puts the cut into the journal, tells the service core, and
//!    releases the locks.
//! 3. Every core reads on in the background ([`Core::snapshot_slice`]), in
//!    slices that leave most of the time to clients, and sends what it has
//!    recorded to the service core, as much as may be on the way.
//! 4. The service core ends it on all cores ([`Core::end_snapshot`]).
//!
//! Slots stay where they are from the cut to the end. A transaction that takes
//! collections away which are being read in steps waits until they have been.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::core::Core;
use super::msg::{Msg, Origin};
use super::service::shutdown::Order;
use super::tx::{Cargo, Kind, Part, Plan, Tx, whole};
use crate::base::slot::Key;
use crate::base::{clock, memory};
use crate::observe::ticks;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::session::conn::ConnRef;
use crate::snapshot::job::{IN_FLIGHT_MAX, Job, SPARES};
use crate::store::Store;
use crate::transaction::locks::Mode;

/// Time of one slice while clients are being served, and of one while they are
/// not.
const BUSY_SLICE_US: u64 = 60;
const IDLE_SLICE_US: u64 = 300;

/// A core serves clients if it ran a command within this time.
const BUSY_MS: u64 = 2;

/// Share of a busy core's time that slices take at most, percent.
const BUSY_SHARE: u64 = 12;

/// Bytes recorded and not yet on their way at which a core stops reading
/// clients: pre-images come faster than the writer takes them.
/// This much of small keyspaces and wherever memory is limited; of larger
/// ones this share, all cores together.
const BACKLOG_LEAST: usize = 16 << 20;
const BACKLOG_SHARE: usize = 32;

/// What all threads know of snapshots.
#[derive(Default)]
pub struct Saves {
    /// A snapshot is under way, for whomever.
    active: AtomicBool,
    /// One that goes to the snapshot file.
    pub saving: AtomicBool,
    /// From a cut to the end of its snapshot no slot moves. Changed inside the
    /// critical section of the order of transactions.
    pub slots_stay: AtomicBool,
    /// Unix seconds of the last success; 0 before.
    pub last_save_s: AtomicU64,
    pub last_failed: AtomicBool,
    /// One is to be made when nothing else is under way (BGSAVE SCHEDULE).
    pub scheduled: AtomicBool,
    /// Seconds that the last one took in the background; -1 before.
    pub last_took_s: AtomicI64,
    /// When the last and the current one began, Unix seconds.
    pub last_try_s: AtomicU64,
    pub started_s: AtomicU64,
    /// Files written.
    pub saves: AtomicU64,
    /// Changes that the last one holds.
    pub saved_changes: AtomicU64,
    /// Keys written of the current one, and all its keys.
    pub keys_done: AtomicU64,
    pub keys_total: AtomicU64,
    next_id: AtomicU64,
    /// A signal asks for the end.
    shutdown: Mutex<Option<Order>>,
    /// Until when replicas are waited for before the end, milliseconds of the
    /// monotonic clock; 0 while there is no end in sight.
    pub shutdown_at_ms: AtomicU64,
}

impl Saves {
    /// Asks the service core to end the process.
    pub fn ask_shutdown(&self, order: Order) {
        *self.shutdown.lock().unwrap_or_else(|e| e.into_inner()) = Some(order);
    }

    pub fn take_shutdown(&self) -> Option<Order> {
        self.shutdown.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    pub fn new(now_s: u64) -> Saves {
        Saves { last_save_s: AtomicU64::new(now_s), last_took_s: AtomicI64::new(-1), ..Saves::default() }
    }

    /// Takes the right to make the one snapshot that may be under way.
    pub fn try_begin(&self) -> bool {
        !self.active.swap(true, Ordering::AcqRel)
    }

    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.active.store(false, Ordering::Release);
    }

    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A core's part of the snapshot under way.
pub struct Share {
    job: Arc<Job>,
    /// The service core has been told that everything was sent.
    closed: bool,
    /// All slots are at a coordinator's.
    away: bool,
    /// While clients are served, no slice before this time.
    next_ns: u64,
    executed: u64,
    busy_until_ms: u64,
    backlog_max: usize,
    /// Parts of transactions that wait for collections to be read.
    waiting: Vec<(Arc<Tx>, usize)>,
}

impl Core {
    /// Orders the cut of a snapshot. Tried again until there is room.
    pub fn order_cut(&mut self, job: Arc<Job>) {
        let nobody = ConnRef { core: self.id as u32, index: u32::MAX, generation: 0 };
        let origin =
            Origin { conn: nobody, seq: 0, client: 0, db: 0, proto: Proto::Resp2, no_touch: true, tracked: false };
        let cores = self.shared.cores;
        let mode = if job.plan.hold { Mode::Exclusive } else { Mode::Shared };
        let ordered = self.submit_tx(origin, Kind::Cut(job.clone()), |_, _| {
            let mut plan = Plan::default();
            (0..cores).for_each(|c| plan.part(c).need = whole(mode));
            plan
        });
        if !ordered {
            self.send(self.id, Msg::Call(Box::new(move |core| core.order_cut(job))));
        }
    }

    /// The cut, on this core.
    pub fn cut_here(&mut self, job: &Arc<Job>) {
        if self.snapshot.is_some() {
            self.forget_snapshot();
        }
        self.store.begin_cut(job.id, Box::new(job.recorder(self.now)), job.lost.clone());
        let size = |db| self.store.db(db).map_or((0, 0), |d| (d.len() as u64, d.volatile() as u64));
        let sizes: Vec<(u64, u64)> = (0..self.store.databases()).map(size).collect();
        job.add_sizes(&sizes);
        job.changes.fetch_add(self.stats.dirty, Ordering::Relaxed);
        self.snapshot = Some(Box::new(Share {
            job: job.clone(),
            closed: false,
            away: false,
            next_ns: 0,
            executed: self.stats.executed,
            busy_until_ms: 0,
            backlog_max: self.backlog_max(),
            waiting: Vec::new(),
        }));
    }

    /// All cores have made the cut: its place in the stream is here.
    pub fn cut_made(&mut self, job: &Arc<Job>) {
        let journaled = self.fx.wants_stream;
        if journaled {
            self.journal.cut(job.id);
        }
        job.cut_ms.store(self.now, Ordering::Relaxed);
        *job.functions.lock().unwrap_or_else(|e| e.into_inner()) = self.shared.scripts.libraries.sources();
        let id = job.id;
        self.tell_service(move |s| s.cut_made(id, journaled));
    }

    /// Is there something to be read or sent for the snapshot?
    pub fn snapshot_runnable(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| !s.closed && !s.away && !s.job.has_failed() && s.job.has_room(self.id))
    }

    /// Have pre-images come faster than they could be sent?
    pub fn snapshot_congested(&self) -> bool {
        let max = self.snapshot.as_ref().map_or(BACKLOG_LEAST, |s| s.backlog_max);
        self.store.cut.as_ref().is_some_and(|c| c.backlog() > max)
    }

    /// What is gathered would be evicted for where memory is limited.
    fn backlog_max(&self) -> usize {
        let share = memory::used_here() / BACKLOG_SHARE / self.shared.cores;
        if self.settings.maxmemory > 0 { BACKLOG_LEAST } else { share.max(BACKLOG_LEAST) }
    }

    /// Reads on, unless it is the clients' turn.
    pub fn snapshot_slice(&mut self) {
        let Some(share) = &mut self.snapshot else { return };
        if share.job.has_failed() {
            self.store.end_cut(false);
            return self.let_waiting_go();
        }
        if share.closed && !self.store.cut.as_ref().is_some_and(|c| c.has_work()) {
            return;
        }
        let served = share.executed != self.stats.executed;
        if served {
            share.executed = self.stats.executed;
            share.busy_until_ms = self.now + BUSY_MS;
        }
        let busy = self.now < share.busy_until_ms;
        // In a turn without commands nobody is kept waiting for longer than a
        // slice of the shorter kind.
        if served && self.stamp < share.next_ns && share.waiting.is_empty() {
            return self.send_recorded();
        }
        let budget = (if busy { BUSY_SLICE_US } else { IDLE_SLICE_US }) * self.ticks_per_us;
        let start = ticks::ticks();
        let mut more = true;
        // What the writer takes belongs to pre-images first: clients wait for
        // them, and every one of them is a record that need not be read later.
        // But what is recorded can be sent only once reading has come to the end
        // of its chunk, or of the collection before it: while there is nothing
        // to be sent, reading must go on.
        let fits = |store: &Store| store.cut.as_ref().is_none_or(|c| !c.is_ready() || c.backlog() < IN_FLIGHT_MAX);
        while more && share.job.has_room(self.id) && fits(&self.store) {
            more = self.store.cut_step();
            if ticks::ticks() - start > budget {
                break;
            }
        }
        let spent_us = (ticks::ticks() - start) / self.ticks_per_us;
        share.next_ns = self.stamp + spent_us * 1000 * (100 - BUSY_SHARE) / BUSY_SHARE;
        let finished = !more && !share.away;
        if finished && let Some(c) = &mut self.store.cut {
            c.flush();
        }
        self.send_recorded();
        self.let_waiting_go();
        if finished {
            self.close_snapshot();
        }
    }

    /// Sends what has been recorded, as much as may be on the way.
    fn send_recorded(&mut self) {
        let (Some(share), Some(cut)) = (&self.snapshot, &mut self.store.cut) else { return };
        let job = share.job.clone();
        let mut chunks = Vec::new();
        while job.has_room(self.id)
            && let Some(c) = cut.take()
        {
            job.sent(self.id, c.bytes.len());
            chunks.push(c);
        }
        job.note_unsent(self.id, cut.backlog());
        while cut.spares() < SPARES
            && let Some(buffer) = job.take_spare(self.id)
        {
            cut.give_spare(buffer);
        }
        if !chunks.is_empty() {
            let (core, id) = (self.id, job.id);
            self.tell_service(move |s| s.take_chunks(id, core, chunks));
        }
    }

    /// Tells the service core that everything has been sent, if it has.
    fn close_snapshot(&mut self) {
        let Some(share) = &mut self.snapshot else { return };
        if share.closed || self.store.cut.as_ref().is_some_and(|c| c.has_work()) {
            return;
        }
        share.closed = true;
        let id = share.job.id;
        self.tell_service(move |s| s.core_closed(id));
    }

    /// This core has recorded something for others after it had closed.
    pub fn reopen_snapshot(&mut self) {
        let work = self.store.cut.as_ref().is_some_and(|c| c.has_work());
        if let Some(share) = &mut self.snapshot
            && share.closed
            && work
        {
            share.closed = false;
            share.job.reopen();
        }
    }

    /// Must a part wait before its entries are taken away? Collections that
    /// are read in steps must be read to their end first.
    pub fn wait_for_snapshot(&mut self, tx: &Arc<Tx>, at: usize) -> bool {
        if self.store.cut.is_none() || !self.takes_open(&tx.parts[at]) {
            return false;
        }
        let Some(share) = &mut self.snapshot else { return false };
        share.waiting.push((tx.clone(), at));
        true
    }

    fn takes_open(&mut self, part: &Part) -> bool {
        if part.need.wide.is_some() {
            return self.store.cut.as_ref().is_some_and(|c| c.has_open());
        }
        part.keys.iter().any(|(db, hash, key)| self.store.open_now(*db, &Key { bytes: key, hash: *hash }))
    }

    fn let_waiting_go(&mut self) {
        let waiting = self.snapshot.as_mut().map(|s| std::mem::take(&mut s.waiting)).unwrap_or_default();
        for (tx, at) in waiting {
            self.granted(tx, at);
        }
    }

    /// All slots leave for a coordinator, or are back.
    pub fn slots_away(&mut self, away: bool) {
        if let Some(share) = &mut self.snapshot {
            share.away = away;
        }
    }

    /// The snapshot is over: for this core, nothing is left of it.
    pub fn end_snapshot(&mut self, id: u64) {
        if self.snapshot.as_ref().is_some_and(|s| s.job.id == id) {
            self.forget_snapshot();
        }
    }

    fn forget_snapshot(&mut self) {
        let read = self.snapshot.as_ref().is_some_and(|s| s.closed && !s.job.has_failed());
        self.store.end_cut(read);
        self.let_waiting_go();
        self.snapshot = None;
    }

    /// Ends a transaction that held everything while a snapshot was made.
    pub fn release_all(&mut self, tx: Arc<Tx>) {
        for i in 0..tx.parts.len() {
            let release = Msg::Release {
                tx: tx.clone(),
                part: i,
                cargo: Cargo::Nothing,
                events: Vec::new(),
                reads: Vec::new(),
                block: None,
            };
            self.send(tx.parts[i].core, release);
        }
    }

    /// Lets go what SAVE held.
    pub fn release_held(&mut self) {
        if let Some(tx) = self.held_cut.take() {
            self.release_all(tx);
        }
    }

    /// Answers a connection of this core.
    pub fn answer(&mut self, conn: ConnRef, seq: u32, text: impl FnOnce(&mut Reply)) {
        let mut out = Vec::new();
        text(&mut Reply::new(&mut out, Proto::Resp2));
        self.finish_conn(conn, seq, &out);
    }

    /// Is the snapshot file to be written anew when FLUSHALL has emptied all?
    /// So it is in Redis when there are `save` points; a restart would bring
    /// back what was deleted.
    pub fn saves_flushes(&self) -> bool {
        !self.settings.persistence.save.is_empty() && !self.shared.persistence.loading.load(Ordering::Relaxed)
    }

    /// The reply to a FLUSHALL comes when the empty dataset is on disk, or
    /// could not be written.
    pub fn reply_when_saved(&mut self, conn: ConnRef, seq: u32, reply: Vec<u8>) {
        let home = conn.core as usize;
        self.tell_service(move |s| {
            s.save_flushed(move |s| s.call(home, move |core| core.finish_conn(conn, seq, &reply)));
        });
    }

    /// A snapshot that was scheduled is made as soon as nothing stands in its way.
    fn make_scheduled(&mut self) {
        let saves = &self.shared.saves;
        if saves.scheduled.load(Ordering::Relaxed) && self.may_save_by_itself() && saves.try_begin() {
            saves.scheduled.store(false, Ordering::Relaxed);
            self.tell_service(|s| s.save_in_background(None));
        }
    }

    /// Not soon after a failure.
    fn may_save_by_itself(&self) -> bool {
        let saves = &self.shared.saves;
        let since_s = (clock::now_ms() / 1000).saturating_sub(saves.last_try_s.load(Ordering::Relaxed));
        !saves.last_failed.load(Ordering::Relaxed) || since_s > RETRY_S
    }

    /// Core 0 looks whether a snapshot was scheduled, or a `save` point has been
    /// reached.
    pub fn look_at_save_points(&mut self) {
        // What is there while a file is loaded is not the dataset.
        if self.id != 0 || self.shared.persistence.loading.load(Ordering::Relaxed) {
            return;
        }
        self.make_scheduled();
        let saves = &self.shared.saves;
        let (points, now_s) = (&self.settings.persistence.save, clock::now_ms() / 1000);
        if points.is_empty() || saves.is_active() {
            return;
        }
        let since_s = now_s.saturating_sub(saves.last_save_s.load(Ordering::Relaxed));
        if !points.iter().any(|p| since_s > p.seconds.max(0) as u64) {
            return;
        }
        if !self.may_save_by_itself() {
            return;
        }
        let points = points.clone();
        self.gather_quietly(
            |core| core.stats.dirty,
            move |core, parts| {
                let saved = core.shared.saves.saved_changes.load(Ordering::Relaxed);
                let changes = parts.iter().sum::<u64>().saturating_sub(saved);
                let due =
                    points.iter().find(|p| changes >= p.changes.max(0) as u64 && since_s > p.seconds.max(0) as u64);
                if let Some(p) = due
                    && core.shared.saves.try_begin()
                {
                    crate::observe::log::notice(format_args!(
                        "{} changes in {} seconds. Saving...",
                        p.changes, p.seconds
                    ));
                    core.tell_service(|s| s.save_in_background(None));
                }
            },
        );
    }
}

/// Time between a failure and the next try by a `save` point.
const RETRY_S: u64 = 5;
