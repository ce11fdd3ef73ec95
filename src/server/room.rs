//! Keeping the process within `maxmemory`.
//!
//! The allocator counts for the whole process, so every core knows at any time
//! whether the limit is passed: one load before each batch of commands. A core
//! that finds it passed makes room at once, among its own keys; keys are spread
//! over the cores by their hashes, so what is worst on one core is about what
//! is worst on all. Two things mend what that leaves:
//!
//! - Every core makes known how good its best candidate is. One that would have
//!   to evict much better keys than another core has asks that core instead
//!   ([`Desk::asked`]), as long as the limit is passed by little.
//! - A core without any key that may go asks one that has some. Only when no
//!   core has any, commands that need memory are refused.
//!
//! Clients' buffers have a limit of their own (`maxmemory-clients`): [`clients`].
//!
//! A command waits for the room that its own core makes, within the time that
//! `maxmemory-eviction-tenacity` allows; the rest is made in the background.
//!
//! Clients that track keys hear of evictions before they get the reply to the
//! command that made room necessary. Where another core has been asked, the
//! commands of such clients wait for its word ([`Core::held_for_room`]), which
//! comes behind the messages that it sent; those of all others do not.

mod clients;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::core::Core;
use super::msg::Msg;
use super::registry::Entry;
use crate::base::memory;
use crate::command::Fault;
use crate::command::effect::Class;
use crate::command::spec::flag;
use crate::config::{MaxmemoryPolicy, Settings};
use crate::observe::ticks;
use crate::session::conn::{Conn, ConnRef};
use crate::store::evict::{Order, Policy, Sampler};

/// Evictions between two looks at the clock.
const CLOCK_EVERY: usize = 16;

/// Time that eviction may take in the background of one turn, microseconds.
const BACKGROUND_US: u64 = 500;

/// Evictions, here or asked for, between two looks at what other cores have.
const COMPARE_EVERY: u32 = 8;

/// While the limit is passed by less than this share of it, a core may leave
/// eviction to another.
const SLACK_SHARE: usize = 64;

/// The same for waiting until values are freed elsewhere.
const FREEING_SHARE: usize = 16;

/// Bytes that one core asks another to free at a time.
const ASK_BYTES: usize = 16 * 1024;

/// Bytes below the limit up to which a core goes on that others have asked.
const AHEAD_BYTES: usize = 8 * 1024;

/// Milliseconds that commands wait for the word of a core at most: one that
/// runs something long does not answer.
const WORD_MS: u64 = 100;

const OOM: Fault = Fault::Text("OOM command not allowed when used memory > 'maxmemory'.");

/// What a core lets the others know.
#[derive(Default)]
#[repr(align(128))]
pub struct Desk {
    /// Keys that may go.
    candidates: AtomicUsize,
    /// The score of the best of them.
    best: AtomicU64,
    /// Bytes that other cores want it to free.
    asked: AtomicUsize,
    /// Bytes of its clients, while they are limited, and of the largest of them.
    clients: AtomicUsize,
    largest: AtomicUsize,
    /// It has been told to evict clients, and has not heard of it yet.
    hurried: AtomicBool,
    /// Odd from the beginning of a turn until its clients are counted.
    turn: AtomicU64,
    /// Bytes that telling of evictions took since the last tick, and between that
    /// and the one before. They leave with the turn, or a few later where they go to
    /// another core first; evicting more for them would not end.
    told: AtomicUsize,
    told_before: AtomicUsize,
}

/// The process's side.
pub struct Rooms {
    pub desks: Box<[Desk]>,
    /// Some core is closing clients.
    evicting: AtomicBool,
    /// Changes of their limit under way: which clients go is decided when all
    /// cores have counted theirs.
    changing: AtomicUsize,
    /// Since when the limit is passed, monotonic microseconds; 0 when it is not.
    exceeded_since_us: AtomicU64,
    exceeded_total_us: AtomicU64,
    /// Bytes that are as good as free, or will be a client's in a moment: of
    /// closed clients, until the ring lets them go; of large replies on their way
    /// from core to core.
    passing: AtomicUsize,
}

impl Rooms {
    pub fn new(cores: usize) -> Rooms {
        Rooms {
            desks: (0..cores).map(|_| Desk::default()).collect(),
            evicting: AtomicBool::new(false),
            changing: AtomicUsize::new(0),
            exceeded_since_us: AtomicU64::new(0),
            exceeded_total_us: AtomicU64::new(0),
            passing: AtomicUsize::new(0),
        }
    }

    /// Time over the limit, milliseconds: now, and in all.
    pub fn exceeded_ms(&self, now_us: u64) -> (u64, u64) {
        let since = self.exceeded_since_us.load(Ordering::Relaxed);
        let current = if since == 0 { 0 } else { now_us.saturating_sub(since) };
        (current / 1000, (self.exceeded_total_us.load(Ordering::Relaxed) + current) / 1000)
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.exceeded_total_us.store(0, Ordering::Relaxed);
    }

    fn exceeded(&self, now_us: u64) {
        let _ = self.exceeded_since_us.compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn within(&self, now_us: u64) {
        let since = self.exceeded_since_us.load(Ordering::Relaxed);
        if since != 0 && self.exceeded_since_us.compare_exchange(since, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.exceeded_total_us.fetch_add(now_us.saturating_sub(since), Ordering::Relaxed);
        }
    }
}

/// How an attempt to make room ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    /// Within the limit.
    #[default]
    Fine,
    /// There was no time for more: commands go on meanwhile.
    Working,
    /// The same, but others have to free something first.
    Waiting,
    /// There is nothing that may go.
    Full,
}

/// A core's side.
#[derive(Default)]
pub struct Room {
    /// Bytes that the process may use; 0 when nothing is to be kept.
    limit: usize,
    policy: Option<Policy>,
    sampler: Sampler,
    outcome: Outcome,
    key: Vec<u8>,
    evictions: u32,
    /// Stamp of the turn that last waited for memory being freed.
    waited: u64,
    /// The core that is asked to evict in the place of this one.
    lender: Option<usize>,
    /// Bytes that clients may use (`maxmemory-clients`); 0 for no limit.
    clients_limit: usize,
    clients: usize,
    /// Some client has grown.
    clients_grew: bool,
    /// Somebody has to be evicted unless what is being sent leaves first.
    clients_exceed: bool,
    counts: clients::Counts,
    word: Word,
}

/// What this core's tracking clients wait for.
#[derive(Default)]
struct Word {
    /// Number of the question, and when it was asked (Unix milliseconds), while
    /// another core is making room.
    awaited: Option<(u64, u64)>,
    asked: u64,
    /// Stamp of the turn in which the last word came: whoever waited for it goes
    /// on in this turn, whatever is lacking by then.
    came: u64,
    /// It did not come in time: until then (Unix milliseconds) nobody is asked.
    not_before_ms: u64,
    waiting: Vec<ConnRef>,
}

fn policy_of(s: &Settings) -> Option<Policy> {
    use MaxmemoryPolicy as P;
    let lfu = Order::Lfu { decay_minutes: s.lfu_decay_time_min };
    let (order, volatile) = match s.maxmemory_policy {
        P::Noeviction => return None,
        P::AllkeysLru => (Order::Lru, false),
        P::VolatileLru => (Order::Lru, true),
        P::AllkeysLfu => (lfu, false),
        P::VolatileLfu => (lfu, true),
        P::AllkeysRandom => (Order::Random, false),
        P::VolatileRandom => (Order::Random, true),
        P::VolatileTtl => (Order::Ttl, true),
    };
    // More would cost much and choose no better.
    const SAMPLES_MAX: u32 = 1024;
    Some(Policy { order, volatile, samples: s.maxmemory_samples.min(SAMPLES_MAX) as usize })
}

/// Microseconds that a command may wait for room. As Redis documents its
/// `maxmemory-eviction-tenacity`: half a millisecond at 10, 15% more for each
/// step above, no limit at 100.
fn budget_us(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50 * u64::from(tenacity),
        11..=99 => (500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

impl Core {
    /// Takes over what settings, role and pause say about memory.
    pub fn update_room(&mut self) {
        let s = &self.settings;
        let exempt = (self.role.replica && s.replication.replica_ignore_maxmemory) || self.pause.active;
        let limit = if exempt { 0 } else { usize::try_from(s.maxmemory).unwrap_or(usize::MAX) };
        let policy = policy_of(s);
        let room = &mut self.room;
        if room.policy != policy {
            room.sampler.clear();
        }
        if limit == 0 {
            room.outcome = Outcome::Fine;
        } else if limit < room.limit || room.limit == 0 {
            // Room is made at once, not with the next command.
            room.outcome = Outcome::Working;
            self.output_pool.clear();
            self.batch_pool.clear();
        }
        let room = &mut self.room;
        (room.limit, room.policy) = (limit, policy);
        let clients_limit = clients::limit(&self.settings);
        if clients_limit != std::mem::replace(&mut self.room.clients_limit, clients_limit) {
            self.recount_clients = true;
        }
    }

    /// Memory of a connection that is being closed, or of replies that are sent to
    /// another core: no key has to go for it. [`Core::count_passed`] must follow,
    /// on whatever core, when it is freed.
    pub fn count_passing(&self, bytes: usize) {
        self.shared.rooms.passing.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn count_passed(&self, bytes: usize) {
        self.shared.rooms.passing.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Before commands run: makes room if there is too little. Without a limit
    /// this is one branch.
    #[inline]
    pub fn keep_room(&mut self) {
        if self.room.limit != 0 {
            self.keep_limit();
        }
    }

    /// [`Core::keep_room`]; clients hear of what was evicted before they get the
    /// replies to what follows.
    #[inline]
    pub fn keep_room_and_tell(&mut self) {
        if self.room.limit != 0 {
            self.keep_limit();
            if self.tracker.pending() {
                self.telling(Core::send_invalidations);
            }
        }
    }

    /// Are commands refused that need memory?
    #[inline]
    pub fn out_of_memory(&self) -> bool {
        self.room.outcome == Outcome::Full
    }

    fn keep_limit(&mut self) {
        let over = self.over_by() > 0 || self.asked() > 0;
        if over || self.room.outcome != Outcome::Fine {
            let us = budget_us(self.settings.internals.maxmemory_eviction_tenacity);
            self.make_room(us);
        }
    }

    /// Before the turn's replies leave: the others know what this core uses,
    /// and whether it has keys that may go.
    #[inline]
    pub fn settle_memory(&mut self) {
        if self.room.limit != 0 {
            // What clients take is known before the memory is missed.
            self.show_clients();
            memory::settle();
            let n = self.room.policy.map_or(0, |p| p.candidates(&self.store));
            self.shared.rooms.desks[self.id].candidates.store(n, Ordering::Relaxed);
        }
    }

    /// Is memory limited, of keys or of clients? Then every turn counts it.
    #[inline]
    pub fn limits_memory(&self) -> bool {
        self.room.limit != 0 || self.room.clients_limit != 0
    }

    /// Is there room to be made in the background?
    #[inline]
    pub fn room_is_wanted(&self) -> bool {
        self.room.limit != 0 && (self.room.outcome == Outcome::Working || self.asked() > 0)
    }

    /// In the background: goes on making room, and lets the others know what
    /// could go here.
    pub fn room_in_background(&mut self) {
        if self.room_is_wanted() {
            self.make_room(BACKGROUND_US);
        }
    }

    /// Now and then: what others had to free first may be free by now, and where
    /// no commands come nobody else would look.
    pub fn look_for_room(&mut self) {
        if let Some((question, asked_ms)) = self.room.word.awaited
            && self.now >= asked_ms + WORD_MS
        {
            self.hear_of_room(question);
            self.room.word.not_before_ms = self.now + WORD_MS;
        }
        if self.room.limit != 0 && self.room.outcome == Outcome::Waiting {
            self.make_room(BACKGROUND_US);
        }
    }

    /// Now and then: the others learn what could go here.
    pub fn show_candidates(&mut self) {
        self.age_told();
        let Some(policy) = self.room.policy.filter(|_| self.room.limit != 0) else { return };
        let desk = &self.shared.rooms.desks[self.id];
        let near = memory::used_here() > self.room.limit / 8 * 7;
        if self.shared.cores > 1 && near {
            let best = self.room.sampler.best(&self.store, &policy, self.now, &mut self.rng);
            desk.best.store(best.unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// What was told before the last tick has left by now. Others see it twice
    /// rather than not at all meanwhile.
    fn age_told(&self) {
        let desk = &self.shared.rooms.desks[self.id];
        let told = desk.told.load(Ordering::Relaxed);
        desk.told_before.store(told, Ordering::Relaxed);
        desk.told.fetch_sub(told, Ordering::Relaxed);
    }

    /// Bytes over the limit. What is exempt is counted before memory is taken and
    /// after it is freed, by other threads and at any time: so it is looked at on
    /// both sides of what is in use.
    fn over_by(&self) -> usize {
        if memory::used_here() <= self.room.limit {
            return 0;
        }
        let before = self.exempt();
        let over = memory::used_here().saturating_sub(self.room.limit);
        over.saturating_sub(before.max(self.exempt()))
    }

    /// Bytes in use for which nothing is evicted. What waits to be written to the
    /// append-only file, or to be sent to replicas or clients that track keys:
    /// evicting makes more of it. And what is only passing through.
    fn exempt(&self) -> usize {
        let rooms = &self.shared.rooms;
        let told = |d: &Desk| d.told.load(Ordering::Relaxed) + d.told_before.load(Ordering::Relaxed);
        let told: usize = rooms.desks.iter().map(told).sum();
        self.shared.not_counted() + told + rooms.passing.load(Ordering::Relaxed)
    }

    /// Bytes of memory that a spare buffer may keep: little where memory is
    /// limited, because what is kept is not there for keys.
    #[inline]
    pub fn spare_max(&self, usual: usize) -> usize {
        const SPARE_LIMITED: usize = 16 * 1024;
        if self.room.limit == 0 { usual } else { usual.min(SPARE_LIMITED) }
    }

    fn asked(&self) -> usize {
        self.shared.rooms.desks[self.id].asked.load(Ordering::Relaxed)
    }

    /// Are values being freed away from the data path?
    fn freeing(&self) -> bool {
        self.shared.garbage_pending.load(Ordering::Relaxed) > 0 || self.store.has_garbage()
    }

    /// Is it enough to wait for what is being freed? Of a flushed database all
    /// is expected, of single values little.
    fn is_freed_elsewhere(&self, over: usize) -> bool {
        let flushed = self.shared.garbage_dbs.load(Ordering::Relaxed) > 0 || self.store.has_flushed();
        flushed || (over < self.room.limit / FREEING_SHARE && self.freeing())
    }

    #[cold]
    fn make_room(&mut self, budget_us: u64) {
        let start = ticks::ticks();
        let before = self.store.stats.evicted;
        let outcome = self.evict_until_fine(start, budget_us.saturating_mul(self.ticks_per_us));
        memory::settle();
        let now_us = self.stamp / 1000;
        if outcome == Outcome::Fine {
            self.room.counts = Default::default();
            self.shared.rooms.within(now_us);
        } else {
            self.shared.rooms.exceeded(now_us);
        }
        if outcome != self.room.outcome {
            self.room.outcome = outcome;
            self.update_gate();
        }
        if self.store.stats.evicted > before && self.settings.latency_monitor_threshold_ms > 0 {
            self.latency_event("eviction-cycle", ticks::to_us(ticks::ticks() - start) / 1000);
        }
    }

    fn evict_until_fine(&mut self, start: u64, budget: u64) -> Outcome {
        if self.over_by() > 0 && self.clients_go_first() {
            return Outcome::Waiting;
        }
        let mut n = 0;
        loop {
            let over = self.over_by();
            if over == 0 && (self.room.policy.is_none() || !self.asked_and_near()) {
                self.shared.rooms.desks[self.id].asked.store(0, Ordering::Relaxed);
                return Outcome::Fine;
            }
            let Some(policy) = self.room.policy else {
                return self.wait_for_freeing(start, budget);
            };
            if self.is_freed_elsewhere(over) || (over > 0 && self.counts_are_awaited()) {
                return Outcome::Waiting;
            }
            if self.shared.cores > 1 && self.leave_to_another(&policy, over) {
                return Outcome::Waiting;
            }
            if n % CLOCK_EVERY == CLOCK_EVERY - 1 && ticks::ticks() - start > budget {
                return Outcome::Working;
            }
            if budget == 0 && n > 0 {
                return Outcome::Working;
            }
            if !self.evict_one(&policy) {
                return self.nothing_here(&policy, start, budget);
            }
            // Or cores that evict at the same time would do so for the same
            // excess.
            if self.shared.cores > 1 {
                memory::settle();
            }
            n += 1;
        }
    }

    /// Nothing was found to evict: is there something elsewhere, or later?
    fn nothing_here(&mut self, policy: &Policy, start: u64, budget: u64) -> Outcome {
        let desks = &self.shared.rooms.desks;
        let own = policy.candidates(&self.store);
        desks[self.id].candidates.store(own, Ordering::Relaxed);
        desks[self.id].asked.store(0, Ordering::Relaxed);
        if self.over_by() == 0 {
            return Outcome::Fine;
        }
        let others = (0..desks.len()).filter(|i| *i != self.id);
        let most = others.max_by_key(|i| desks[*i].candidates.load(Ordering::Relaxed));
        let there = most.filter(|i| desks[*i].candidates.load(Ordering::Relaxed) > 0);
        match there {
            Some(core) => {
                self.ask(core);
                Outcome::Waiting
            }
            // Keys that cannot go now are under locks.
            None if own > 0 => Outcome::Waiting,
            None => self.wait_for_freeing(start, budget),
        }
    }

    /// No key can go. What is being freed is waited for, once a turn and no longer
    /// than evicting may take, as in Redis; then commands that need memory are
    /// refused.
    fn wait_for_freeing(&mut self, start: u64, budget: u64) -> Outcome {
        const STEP: Duration = Duration::from_micros(20);
        if self.store.has_garbage() {
            self.hand_over_garbage();
        }
        if std::mem::replace(&mut self.room.waited, self.stamp) != self.stamp {
            while self.over_by() > 0 && self.freeing() && ticks::ticks() - start < budget {
                std::thread::sleep(STEP);
            }
        }
        if self.over_by() > 0 { Outcome::Full } else { Outcome::Fine }
    }

    /// Does another core want room that is still needed? It is made a little
    /// ahead, so that a core that leaves eviction to this one need not ask for
    /// each key.
    fn asked_and_near(&self) -> bool {
        self.asked() > 0 && memory::used_here() + AHEAD_BYTES > self.room.limit + self.exempt()
    }

    /// Has another core much better candidates? Then it is asked.
    fn leave_to_another(&mut self, policy: &Policy, over: usize) -> bool {
        if self.asked() > 0 || over > self.room.limit / SLACK_SHARE {
            return false;
        }
        if self.room.evictions.is_multiple_of(COMPARE_EVERY) {
            self.room.lender = self.better_core(policy);
        }
        self.room.evictions = self.room.evictions.wrapping_add(1);
        if let Some(core) = self.room.lender {
            self.ask(core);
        }
        self.room.lender.is_some()
    }

    /// The core with much better candidates than this one, if there is one.
    fn better_core(&self, policy: &Policy) -> Option<usize> {
        let desks = &self.shared.rooms.desks;
        let score = |i: usize| desks[i].best.load(Ordering::Relaxed);
        let has = |i: &usize| desks[*i].candidates.load(Ordering::Relaxed) > 0;
        let best = (0..desks.len()).filter(|i| *i != self.id).filter(has).max_by_key(|i| score(*i))?;
        policy.clearly_better(score(best), score(self.id), self.now).then_some(best)
    }

    fn ask(&mut self, core: usize) {
        let desk = &self.shared.rooms.desks[core];
        desk.asked.store(self.over_by().max(ASK_BYTES), Ordering::Relaxed);
        self.wake_later(core);
        let word = &self.room.word;
        let late = word.came == self.stamp || self.now < word.not_before_ms;
        if self.tracker.has_clients() && word.awaited.is_none() && !late {
            self.ask_for_word(core);
        }
    }

    /// Clients that track keys go on when a core has made the room that it was
    /// asked for, as far as its time allows, and has told of it.
    #[cold]
    fn ask_for_word(&mut self, core: usize) {
        let (me, word) = (self.id, &mut self.room.word);
        word.asked += 1;
        let question = word.asked;
        word.awaited = Some((question, self.now));
        self.update_gate();
        let answer = move |core: &mut Core| {
            core.keep_room_and_tell();
            core.send(me, Msg::Call(Box::new(move |asker: &mut Core| asker.hear_of_room(question))));
        };
        self.send(core, Msg::Call(Box::new(answer)));
    }

    /// Another core has made what room it could.
    fn hear_of_room(&mut self, question: u64) {
        let word = &mut self.room.word;
        if word.awaited.is_none_or(|(q, _)| q != question) {
            return;
        }
        word.awaited = None;
        word.came = self.stamp;
        let waiting = std::mem::take(&mut word.waiting);
        self.update_gate();
        for place in waiting {
            if let Some(mut c) = self.take_conn(place) {
                self.mark_ready(&mut c);
                self.put_conn(c);
            }
        }
    }

    /// Is another core making room, which this core's clients may have to hear of?
    #[inline]
    pub fn room_is_awaited(&self) -> bool {
        self.room.word.awaited.is_some()
    }

    /// Must a connection wait until it has heard what another core evicts? If so
    /// it is listed.
    pub fn held_for_room(&mut self, conn: &Conn) -> bool {
        let hears = conn.tracking().is_some_and(|t| t.redirect.is_none());
        if !hears || !self.room_is_awaited() {
            return false;
        }
        if !self.room.word.waiting.contains(&conn.me) {
            self.room.word.waiting.push(conn.me);
        }
        true
    }

    /// Evicts the key that deserves it most; false when none was found.
    fn evict_one(&mut self, policy: &Policy) -> bool {
        let mut sampler = std::mem::take(&mut self.room.sampler);
        let locks = &self.locks;
        let locked = |db, hash| !locks.is_empty() && super::background::locked(locks, db, hash);
        let chosen = sampler.choose(&self.store, policy, self.now, &mut self.rng, locked);
        self.room.sampler = sampler;
        let Some(c) = chosen else { return false };
        let desk = &self.shared.rooms.desks[self.id];
        desk.best.store(c.score, Ordering::Relaxed);
        let timed = self.settings.latency_monitor_threshold_ms > 0;
        let start = if timed { ticks::ticks() } else { 0 };
        let mut key = std::mem::take(&mut self.room.key);
        let used = memory::used_here();
        if !self.store.evict(c.db, c.hash, &mut key) {
            self.hand_over_garbage();
        }
        let freed = used.saturating_sub(memory::used_here());
        let asked = self.shared.rooms.desks[self.id].asked.load(Ordering::Relaxed);
        if asked > 0 {
            self.shared.rooms.desks[self.id].asked.store(asked.saturating_sub(freed.max(1)), Ordering::Relaxed);
        }
        if timed {
            self.latency_event("eviction-del", ticks::to_us(ticks::ticks() - start) / 1000);
        }
        self.telling(|core| core.tell_evicted(c.db, &key));
        self.room.key = key;
        true
    }

    /// What somebody is told of changed keys, its memory not counted for now: nor
    /// is what was remembered of them, which becomes the message. The others see
    /// the memory once they see that it does not count.
    pub fn telling(&mut self, tell: impl FnOnce(&mut Core)) {
        if self.room.limit == 0 {
            return tell(self);
        }
        memory::withheld(|| {
            let (before, forgot) = (memory::counted_here(), self.tracker.forgot_bytes());
            tell(self);
            let forgot = self.tracker.forgot_bytes() - forgot;
            let told = (memory::counted_here() - before + forgot as isize).max(0);
            self.shared.rooms.desks[self.id].told.fetch_add(told as usize, Ordering::Relaxed);
        });
    }

    /// An eviction is a deletion like any other to all who hear of changes.
    fn tell_evicted(&mut self, db: usize, key: &[u8]) {
        if self.fx.wants_stream {
            let word: &[u8] = if self.settings.lazyfree_lazy_eviction { b"UNLINK" } else { b"DEL" };
            self.fx.rewrite(0, &[word, key]);
            self.journal_alone(db as u32);
        }
        if self.wants_events() {
            self.fx.wants_events = true;
            self.fx.event(Class::Evicted, "evicted", db, key);
            let events = std::mem::take(&mut self.fx.events);
            self.tell(&events);
        }
        self.fx.clear();
    }

    /// The refusal of a command for want of memory. Inside MULTI everything is
    /// refused that would be queued. `flags`: of the command and what it stands for.
    pub fn refused_by_memory(&self, conn: &Conn, entry: &Entry, flags: u32) -> Option<Fault> {
        if !self.out_of_memory() {
            return None;
        }
        let name = entry.spec.name;
        let queued = conn.in_multi() && !matches!(name, "exec" | "discard" | "quit" | "reset");
        (flags & flag::DENYOOM != 0 || queued).then_some(OOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_is_time() {
        assert_eq!([0, 5, 10].map(budget_us), [0, 250, 500]);
        assert_eq!(budget_us(11), 575);
        assert!(budget_us(99) > 100_000_000, "about two minutes");
        assert_eq!(budget_us(100), u64::MAX);
    }
}
