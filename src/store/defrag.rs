//! Passes over the keyspace that empty the allocator's sparse pages.
//!
//! A pass visits all entries of all databases in steps. Collections that take
//! several steps are gone through right after the entries beside which they were
//! found, by their keys, since they may change or go between two steps.

use std::collections::VecDeque;

use super::Store;
use super::mover::{Mover, Spot};
use super::table::{SlotTable, Walk};
use crate::base::slot::{Key, SLOTS};

/// Allocations of a collection up to which it is gone through with its entry.
const AT_ONCE_MAX: usize = 4;

/// A collection that is not done with, and how far it is.
struct Large {
    db: usize,
    hash: u64,
    key: Box<[u8]>,
    from: Spot,
}

/// See the module's description.
#[derive(Default)]
pub struct Pass {
    db: usize,
    slot: usize,
    walk: Walk,
    large: VecDeque<Large>,
    mover: Mover,
    /// Keys of which something was moved, and others.
    key_hits: u64,
    key_misses: u64,
}

/// Counts of what was moved and what was left: blocks, and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub key_hits: u64,
    pub key_misses: u64,
}

impl Counts {
    pub fn add(&mut self, more: Counts) {
        self.hits += more.hits;
        self.misses += more.misses;
        self.key_hits += more.key_hits;
        self.key_misses += more.key_misses;
    }
}

impl Pass {
    /// What was done since the last call.
    pub fn take_counts(&mut self) -> Counts {
        use std::mem::take;
        Counts {
            hits: take(&mut self.mover.hits),
            misses: take(&mut self.mover.misses),
            key_hits: take(&mut self.key_hits),
            key_misses: take(&mut self.key_misses),
        }
    }

    /// One step, of some 100 entries or a part of one collection; false when the
    /// pass is over. No snapshot may be reading the store.
    pub fn step(&mut self, store: &mut Store) -> bool {
        debug_assert!(store.cut.is_none(), "a snapshot's readers know where they are");
        match self.large.pop_front() {
            Some(large) => {
                self.go_on(store, large);
                true
            }
            None => self.visit(store),
        }
    }

    fn go_on(&mut self, store: &mut Store, large: Large) {
        let Some(e) = store.get_mut(large.db, &Key { bytes: &large.key, hash: large.hash }) else { return };
        let Some(object) = e.as_object_mut() else { return };
        if let Some(from) = object.relocate(large.from, &mut self.mover) {
            self.large.push_front(Large { from, ..large });
        }
    }

    fn visit(&mut self, store: &mut Store) -> bool {
        while self.db < store.databases() {
            let Some(slot) = store.db(self.db).and_then(|d| d.next_slot(self.slot)) else {
                (self.db, self.slot, self.walk) = (self.db + 1, 0, SlotTable::START);
                continue;
            };
            if slot != self.slot {
                (self.slot, self.walk) = (slot, SlotTable::START);
            }
            self.visit_some(store);
            return true;
        }
        false
    }

    fn visit_some(&mut self, store: &mut Store) {
        let Pass { db, slot, walk, large, mover, key_hits, key_misses } = self;
        let db = *db;
        let next = store.db_mut(db).walk(*slot as u16, *walk, mover, |e, mover| {
            let before = mover.hits;
            e.relocate(mover);
            let many = e.free_effort() > AT_ONCE_MAX;
            let more = if many { Some(0) } else { e.as_object_mut().and_then(|o| o.relocate(0, mover)) };
            if let Some(from) = more {
                large.push_back(Large { db, hash: e.hash(), key: e.key().into(), from });
            }
            *(if mover.hits > before { &mut *key_hits } else { &mut *key_misses }) += 1;
        });
        match next {
            Some(next) => *walk = next,
            None => (*slot, *walk) = (*slot + 1, SlotTable::START),
        }
        debug_assert!(*slot <= SLOTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::store::entry::{Entry, Value};
    use crate::store::object::Object;
    use crate::store::{hash, list, set, stream, zset};

    /// A collection of `n` elements of kind `kind`.
    fn object(kind: usize, n: usize) -> Object {
        use crate::store::object::Collection;
        let name = |i: usize| format!("element number {i}").into_bytes();
        match kind {
            0 => {
                let mut l = list::List::default();
                (0..n).for_each(|i| l.push(list::End::Right, &name(i), list::Fill::new(-2)));
                l.wrap()
            }
            1 => {
                let limits = set::Limits { intset_entries: 512, listpack_entries: 128, listpack_value: 64 };
                let mut s = set::Set::default();
                (0..n).for_each(|i| {
                    s.add(&if n.is_multiple_of(2) { name(i) } else { i.to_string().into_bytes() }, limits);
                });
                s.wrap()
            }
            2 => {
                let limits = hash::Limits { entries: 128, value: 64 };
                let mut h = hash::Hash::default();
                (0..n).for_each(|i| {
                    h.set(&name(i), &name(i + 1), limits);
                });
                if n.is_multiple_of(3) {
                    h.set_deadline(&name(0), Some(1 << 50));
                }
                h.wrap()
            }
            3 => {
                let limits = zset::Limits { entries: 128, value: 64 };
                let mut z = zset::ZSet::default();
                (0..n).for_each(|i| {
                    z.put(&name(i), i as f64 / 3.0, limits);
                });
                z.wrap()
            }
            _ => {
                let mut s = stream::Stream::default();
                let limits = stream::Limits { bytes: 4096, entries: 100 };
                for i in 0..n as u64 {
                    let id = stream::id::StreamId { ms: i + 1, seq: i };
                    s.append(id, &[b"field", &name(i as usize)], limits);
                }
                s.wrap()
            }
        }
    }

    fn key_of(i: usize) -> Vec<u8> {
        if i.is_multiple_of(7) { format!("{{one slot}}{i}") } else { format!("key {i}") }.into_bytes()
    }

    fn fill(store: &mut Store) {
        for i in 0..6000 {
            let (db, key) = (i % 3, key_of(i));
            let n = if i % 500 < 5 { 3000 } else { i % 40 + 1 };
            let deadline = (i.is_multiple_of(4)).then_some(1 << 50);
            let e = match i % 10 {
                0..5 => Entry::object(&key, object(i % 5, n), deadline),
                5 => Entry::string(&key, &vec![b'v'; 3000 + i], deadline),
                _ => Entry::string(&key, &vec![b'v'; i % 100], deadline),
            };
            store.put(db, e);
        }
    }

    fn shown(o: &Object) -> String {
        let mut all: Vec<String> = match o {
            Object::List(l) => return format!("{:?}", l.iter().collect::<Vec<_>>()),
            Object::Set(s) => s.iter().map(|m| format!("{m:?}")).collect(),
            Object::Hash(h) => h.iter().map(|(f, v)| format!("{f:?} {v:?} {:?}", h.next_deadline())).collect(),
            Object::ZSet(z) => return format!("{:?}", z.iter().collect::<Vec<_>>()),
            Object::Stream(s) => s.iter().map(|r| format!("{:?}", (r.id, r.pairs().collect::<Vec<_>>()))).collect(),
        };
        all.sort();
        format!("{} {all:?}", o.encoding())
    }

    fn contents(store: &Store) -> Vec<(usize, Vec<u8>, Option<u64>, String)> {
        let mut all = Vec::new();
        for db in 0..store.databases() {
            for e in store.db(db).into_iter().flat_map(|d| d.iter()) {
                let value = match e.value() {
                    Value::Str(s) => format!("{s:?}"),
                    Value::Object(o) => shown(o),
                };
                all.push((db, e.key().to_vec(), e.deadline(), value));
            }
        }
        all.sort();
        all
    }

    /// Every block is moved, while entries come and go between the steps; what is
    /// there is what would be there without.
    #[test]
    fn a_pass_changes_no_content() {
        let (mut moved, mut model) = (Store::new(4), Store::new(4));
        fill(&mut moved);
        fill(&mut model);
        let mut pass = Pass { mover: Mover::of_all(), ..Pass::default() };
        let mut rng = Rng::new(5);
        let mut steps = 0;
        while pass.step(&mut moved) {
            steps += 1;
            let (i, n) = (rng.below(6000), rng.below(200));
            for s in [&mut moved, &mut model] {
                let key = key_of(i);
                let key = Key::new(&key);
                if n < 100 {
                    s.delete(i % 3, &key);
                } else {
                    s.put(i % 3, Entry::object(key.bytes, object(i % 5, n), None));
                }
            }
        }
        let counts = pass.take_counts();
        assert!(steps > 300 && counts.hits > 20_000 && counts.misses == 0, "{steps} steps, {counts:?}");
        assert!(counts.key_hits >= 4000, "{counts:?}");
        assert!(contents(&moved) == contents(&model));
        assert_eq!(pass.take_counts(), Counts::default());
    }
}
