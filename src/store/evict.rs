//! Which key goes when memory is short.
//!
//! LRU and LFU are approximated as in Redis: a few keys are drawn at random,
//! the worst of them enter a pool that outlives the draw, and the worst of the
//! pool goes. What differs:
//!
//! - A draw takes the keys of one random bucket, so it costs a handful of cache
//!   misses; and since the next buckets are known in advance, those are
//!   prefetched one stage per draw: table, bucket, entries.
//! - The pool knows keys by their hashes and copies nothing. A candidate that
//!   was used since it was drawn is dropped.
//! - Deadlines are indexed, so `volatile-ttl` is exact.
//!
//! Buckets are drawn by slot. Slots that hold far more keys than others (one
//! hot hash tag) are found by a survey now and then and drawn in proportion to
//! their sizes.
//!
//! Invariants: the pool is sorted, the best candidate last, and holds each key
//! at most once.

use super::clock;
use super::entry::Entry;
use super::{Store, buckets};
use crate::base::clock::UnixMs;
use crate::base::rng::Rng;
use crate::base::slot::{SLOT_SHIFT, SLOTS, slot_of_hash};

/// Candidates remembered between draws (Redis's `EVPOOL_SIZE`).
const POOL: usize = 16;

/// Draws that are prepared in advance: one per stage of prefetching.
const AHEAD: usize = 3;

/// Draws between two surveys of the slots' sizes.
const SURVEY_EVERY: u32 = 8192;

/// A slot is drawn by its size when it has so many times the mean.
const HEAVY: usize = 8;

/// Keys looked at, at most, for one that is wanted; where fewer have a deadline
/// the index of deadlines is asked instead.
const LOOKS: usize = 16;

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Lru,
    Lfu { decay_minutes: u32 },
    Ttl,
    Random,
}

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub order: Order,
    /// Only keys with a deadline go.
    pub volatile: bool,
    /// Keys per draw (`maxmemory-samples`).
    pub samples: usize,
}

impl Policy {
    /// How much an entry deserves to go; comparable over time and over cores.
    fn score(&self, e: &Entry, now: UnixMs) -> u64 {
        match self.order {
            Order::Lru => u64::MAX - clock::accessed(e.clock(), now),
            Order::Lfu { decay_minutes } => {
                let counter = clock::lfu_decayed(e.clock(), clock::minutes(now), decay_minutes);
                let unused = clock::minutes(now).wrapping_sub((e.clock() >> 8) as u16);
                u64::from(255 - counter) << 16 | u64::from(unused)
            }
            Order::Ttl => u64::MAX - e.deadline().unwrap_or(u64::MAX),
            Order::Random => 0,
        }
    }

    /// Is a key with score `a` so much better to go than one with `b` that it
    /// is worth asking another core for it?
    pub fn clearly_better(&self, a: u64, b: u64, now: UnixMs) -> bool {
        match self.order {
            // The idle time is more than a quarter longer, and some ticks.
            Order::Lru => {
                let idle = |score: u64| (now / clock::TICK_MS).saturating_sub(u64::MAX - score);
                idle(a) > idle(b) + idle(b) / 4 + 4
            }
            Order::Lfu { .. } => (a >> 16) > (b >> 16) + 1,
            Order::Ttl => a > b.saturating_add(100),
            // The score is the number of keys.
            Order::Random => a > b + b / 8 + 16,
        }
    }

    /// Keys of a store that may go.
    pub fn candidates(&self, store: &Store) -> usize {
        let of = |db: &super::db::Db| if self.volatile { db.volatile() } else { db.len() };
        (0..store.databases()).filter_map(|i| store.db(i)).map(of).sum()
    }
}

/// A key that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub db: usize,
    pub hash: u64,
    pub score: u64,
}

/// The best candidates so far: the best last, each key once.
#[derive(Default)]
struct Pool(Vec<Candidate>);

impl Pool {
    /// Would a candidate of this score stay?
    fn admits(&self, score: u64) -> bool {
        self.0.len() < POOL || score > self.0[0].score
    }

    /// Puts a candidate in, unless the pool is full of better ones.
    fn offer(&mut self, c: Candidate) {
        if let Some(i) = self.0.iter().position(|p| p.hash == c.hash && p.db == c.db) {
            self.0.remove(i);
        }
        if !self.admits(c.score) {
            return;
        }
        if self.0.len() == POOL {
            self.0.remove(0);
        }
        let at = self.0.partition_point(|p| p.score <= c.score);
        self.0.insert(at, c);
    }
}

/// A place where keys are drawn: the home bucket of a made-up hash.
#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    db: usize,
    hash: u64,
}

/// See the module's description.
#[derive(Default)]
pub struct Sampler {
    pool: Pool,
    ahead: [Option<Spot>; AHEAD],
    at: usize,
    /// Slots far above the mean, with the sums of their lengths up to each.
    heavy: Vec<(usize, u16, usize)>,
    heavy_len: usize,
    draws: u32,
    /// Keys that the last draw showed beyond those wanted: a bucket's, all.
    surplus: usize,
    /// Where the index of deadlines is read on.
    cursor: (usize, UnixMs, u64),
}

impl Sampler {
    /// Forgets all candidates: the policy has changed, or the keyspace.
    pub fn clear(&mut self) {
        *self = Sampler::default();
    }

    /// The key that is to go; none when nothing was found that may.
    pub fn choose(
        &mut self,
        store: &Store,
        policy: &Policy,
        now: UnixMs,
        rng: &mut Rng,
        locked: impl Fn(usize, u64) -> bool,
    ) -> Option<Candidate> {
        const ROUNDS: usize = 16;
        if policy.candidates(store) == 0 {
            return None;
        }
        for _ in 0..ROUNDS {
            let found = match policy.order {
                Order::Ttl => return nearest(store, locked),
                Order::Random => self.any(store, policy, rng),
                _ => {
                    self.draw(store, policy, now, rng);
                    self.pop(store, policy, now)
                }
            };
            if let Some(c) = found
                && !locked(c.db, c.hash)
            {
                return Some(c);
            }
        }
        None
    }

    /// The best score at hand, without taking anything.
    pub fn best(&mut self, store: &Store, policy: &Policy, now: UnixMs, rng: &mut Rng) -> Option<u64> {
        if policy.candidates(store) == 0 {
            return None;
        }
        match policy.order {
            Order::Ttl => nearest(store, |_, _| false).map(|c| c.score),
            Order::Random => Some(policy.candidates(store) as u64),
            _ => {
                self.draw(store, policy, now, rng);
                let best = self.pop(store, policy, now)?;
                self.pool.offer(best);
                Some(best.score)
            }
        }
    }

    /// Takes the best candidate that is still what it was.
    fn pop(&mut self, store: &Store, policy: &Policy, now: UnixMs) -> Option<Candidate> {
        while let Some(c) = self.pool.0.pop() {
            let Some(e) = store.find_hashed(c.db, c.hash) else { continue };
            let used = policy.score(e, now) < c.score;
            let stays = policy.volatile && e.deadline().is_none();
            if !(used || stays) {
                return Some(c);
            }
        }
        None
    }

    /// Draws keys into the pool, on average as many as `maxmemory-samples`.
    fn draw(&mut self, store: &Store, policy: &Policy, now: UnixMs, rng: &mut Rng) {
        if self.surplus >= policy.samples {
            self.surplus -= policy.samples;
            return;
        }
        let wanted = policy.samples - std::mem::take(&mut self.surplus);
        let mut pool = std::mem::take(&mut self.pool);
        let shown = self.sample(store, &Policy { samples: wanted, ..*policy }, rng, |db, e| {
            let score = policy.score(e, now);
            // Only what gets into the pool is hashed.
            if pool.admits(score) {
                pool.offer(Candidate { db, hash: e.hash(), score });
            }
        });
        self.pool = pool;
        self.surplus = shown.saturating_sub(wanted);
    }

    /// A random key: that of a random place in a random bucket, if there is one.
    fn any(&mut self, store: &Store, policy: &Policy, rng: &mut Rng) -> Option<Candidate> {
        const ROLLS: usize = 32;
        let one = Policy { samples: 1, ..*policy };
        let keys = policy.candidates(store) as u64;
        let mut chosen = None;
        for _ in 0..ROLLS {
            let (mut seen, place) = (0, rng.below(buckets::WIDTH));
            let mut hit = false;
            self.sample(store, &one, rng, |db, e| {
                if seen <= place {
                    chosen = Some((db, e.hash()));
                }
                hit |= seen == place;
                seen += 1;
            });
            if hit {
                break;
            }
        }
        chosen.map(|(db, hash)| Candidate { db, hash, score: keys })
    }

    /// Shows `policy.samples` keys at least, if there are; how many of those
    /// in the table.
    fn sample(&mut self, store: &Store, policy: &Policy, rng: &mut Rng, mut each: impl FnMut(usize, &Entry)) -> usize {
        let (mut shown, mut looks) = (0, 0);
        if !policy.volatile || self.most_are_volatile(store) {
            while shown < policy.samples && looks < LOOKS * policy.samples {
                let Some(spot) = self.next_spot(store, rng) else { break };
                looks += 1;
                store.visit_bucket(spot.db, spot.hash, |e| {
                    looks += 1;
                    if !policy.volatile || e.deadline().is_some() {
                        shown += 1;
                        each(spot.db, e);
                    }
                });
            }
        }
        if policy.volatile && shown < policy.samples {
            self.sweep(store, policy.samples - shown, each);
        }
        shown
    }

    /// Have enough keys a deadline, so that drawing from all finds some?
    fn most_are_volatile(&self, store: &Store) -> bool {
        let dbs = (0..store.databases()).filter_map(|i| store.db(i));
        let (volatile, all) = dbs.fold((0, 0), |s, d| (s.0 + d.volatile(), s.1 + d.len()));
        volatile * LOOKS > all
    }

    /// Shows the next keys of the index of deadlines, around and around.
    fn sweep(&mut self, store: &Store, want: usize, mut each: impl FnMut(usize, &Entry)) {
        let mut left = want;
        let (mut db, mut from) = (self.cursor.0 % store.databases(), (self.cursor.1, self.cursor.2));
        for _ in 0..=store.databases() {
            if let Some(d) = store.db(db) {
                for (deadline, hash) in d.deadlines_after(from).take(left) {
                    from = (deadline, hash.wrapping_add(1));
                    left -= 1;
                    if let Some(e) = store.find_hashed(db, hash) {
                        each(db, e);
                    }
                }
            }
            if left == 0 {
                break;
            }
            (db, from) = ((db + 1) % store.databases(), (0, 0));
        }
        self.cursor = (db, from.0, from.1);
    }

    /// The next place to draw from; each stage of the pipeline moves on.
    fn next_spot(&mut self, store: &Store, rng: &mut Rng) -> Option<Spot> {
        if self.draws.is_multiple_of(SURVEY_EVERY) {
            self.survey(store);
        }
        self.draws = self.draws.wrapping_add(1);
        let fresh = self.roll(store, rng)?;
        store.prefetch_table(fresh.db, fresh.hash);
        let spot = self.ahead[self.at].replace(fresh);
        self.at = (self.at + 1) % AHEAD;
        // The array is a ring: now `at` has the oldest, before it the newest.
        if let Some(s) = self.ahead[(self.at + AHEAD - 2) % AHEAD] {
            store.prefetch_bucket(s.db, s.hash);
        }
        if let Some(s) = self.ahead[self.at] {
            store.prefetch_all_of_bucket(s.db, s.hash);
        }
        Some(spot.unwrap_or(fresh))
    }

    /// A random place: databases and heavy slots by their sizes, other slots
    /// alike.
    fn roll(&self, store: &Store, rng: &mut Rng) -> Option<Spot> {
        let hash = rng.next_u64();
        let len: usize = (0..store.databases()).map(|i| store.len(i)).sum();
        if len == 0 {
            return None;
        }
        let mut n = rng.below(len);
        if n < self.heavy_len {
            let i = self.heavy.partition_point(|(_, _, upto)| *upto <= n);
            let (db, slot, _) = self.heavy[i];
            return Some(Spot { db, hash: with_slot(hash, slot) });
        }
        n = rng.below(len);
        for db in 0..store.databases() {
            match n.checked_sub(store.len(db)) {
                Some(rest) => n = rest,
                None => return Some(Spot { db, hash: store.occupied_at(db, hash, rng) }),
            }
        }
        None
    }

    fn survey(&mut self, store: &Store) {
        self.heavy.clear();
        self.heavy_len = 0;
        for i in 0..store.databases() {
            let Some(db) = store.db(i).filter(|d| !d.is_empty()) else { continue };
            let mean = db.len() / db.occupied_slots().max(1);
            for (slot, len) in db.slot_lens().filter(|(_, len)| *len > HEAVY * mean.max(1)) {
                self.heavy_len += len;
                self.heavy.push((i, slot, self.heavy_len));
            }
        }
    }
}

/// The same hash in another slot.
fn with_slot(hash: u64, slot: u16) -> u64 {
    hash & !((SLOTS as u64 - 1) << SLOT_SHIFT) | u64::from(slot) << SLOT_SHIFT
}

/// The key whose deadline comes first.
fn nearest(store: &Store, locked: impl Fn(usize, u64) -> bool) -> Option<Candidate> {
    let of = |db: usize| {
        let (d, hash) = store.db(db)?.deadlines_after((0, 0)).find(|&(_, hash)| !locked(db, hash))?;
        Some(Candidate { db, hash, score: u64::MAX - d })
    };
    (0..store.databases()).filter_map(of).max_by_key(|c| c.score)
}

impl Store {
    /// The hash, moved to a random slot of the database that is not empty.
    fn occupied_at(&self, db: usize, hash: u64, rng: &mut Rng) -> u64 {
        const ROLLS: usize = 32;
        let Some(d) = self.db(db) else { return hash };
        let mut hash = hash;
        for _ in 0..ROLLS {
            if d.occupies(slot_of_hash(hash)) {
                return hash;
            }
            hash = rng.next_u64();
        }
        d.nth_slot(rng.below(d.occupied_slots())).map_or(hash, |s| with_slot(hash, s))
    }

    /// Shows all entries of the first bucket that has any, from the home bucket
    /// of a hash on.
    fn visit_bucket(&self, db: usize, hash: u64, each: impl FnMut(&Entry)) {
        if let Some(d) = self.db(db) {
            d.table(slot_of_hash(hash)).visit_bucket(hash, each);
        }
    }

    fn prefetch_all_of_bucket(&self, db: usize, hash: u64) {
        if let Some(d) = self.db(db) {
            d.table(slot_of_hash(hash)).prefetch_all_of_bucket(hash);
        }
    }

    /// The entry of a key that is known by its hash alone.
    pub fn find_hashed(&self, db: usize, hash: u64) -> Option<&Entry> {
        self.db(db)?.table(slot_of_hash(hash)).find_by(hash, |e| e.hash() == hash)
    }
}

#[cfg(test)]
#[path = "evict_tests.rs"]
mod tests;
