//! Who waits for which keys on one core, in the order of their arrival, and
//! until when.
//!
//! Invariants: an id is in the queue of each of its keys, in ascending order,
//! and in `deadlines` if it has one; no queue is empty.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

type Hasher = foldhash::fast::RandomState;

/// Ascending in the order of arrival.
pub type Id = u64;

/// A database and a key.
pub type Name = (usize, Vec<u8>);

/// One who waits.
pub struct Waiter<T> {
    pub keys: Vec<Name>,
    /// Unix milliseconds; none waits for ever.
    pub deadline_ms: Option<u64>,
    /// It is served whatever has become of a key, also when there is nothing.
    pub whatever: bool,
    pub payload: T,
}

/// See the module's description.
pub struct Waiters<T> {
    all: HashMap<Id, Waiter<T>, Hasher>,
    queues: HashMap<Name, VecDeque<Id>, Hasher>,
    deadlines: BTreeSet<(u64, Id)>,
    /// How many are served whatever happens.
    whatever: usize,
    next: Id,
}

impl<T> Default for Waiters<T> {
    fn default() -> Waiters<T> {
        Waiters {
            all: HashMap::default(),
            queues: HashMap::default(),
            deadlines: BTreeSet::new(),
            whatever: 0,
            next: 0,
        }
    }
}

impl<T> Waiters<T> {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Of how many keys there is a queue, and how many have a deadline.
    pub fn sizes(&self) -> (usize, usize) {
        (self.queues.len(), self.deadlines.len())
    }

    /// The keys of those whose payload `of` accepts.
    pub fn keys_of(&self, of: impl Fn(&T) -> bool) -> BTreeSet<&Name> {
        self.all.values().filter(|w| of(&w.payload)).flat_map(|w| &w.keys).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.values().map(|w| &w.payload)
    }

    pub fn add(&mut self, waiter: Waiter<T>) -> Id {
        let id = self.next;
        self.next += 1;
        self.restore(id, waiter);
        id
    }

    /// Puts back what was removed, in its old place.
    pub fn restore(&mut self, id: Id, waiter: Waiter<T>) {
        for key in &waiter.keys {
            let queue = self.queues.entry(key.clone()).or_default();
            let at = queue.partition_point(|other| *other < id);
            if queue.get(at) != Some(&id) {
                queue.insert(at, id);
            }
        }
        if let Some(d) = waiter.deadline_ms {
            self.deadlines.insert((d, id));
        }
        self.whatever += usize::from(waiter.whatever);
        self.all.insert(id, waiter);
    }

    /// Could anyone be served by a key under which there is nothing?
    pub fn may_serve_nothing(&self) -> bool {
        self.whatever > 0
    }

    pub fn remove(&mut self, id: Id) -> Option<Waiter<T>> {
        let waiter = self.all.remove(&id)?;
        self.whatever -= usize::from(waiter.whatever);
        for key in &waiter.keys {
            if let Some(queue) = self.queues.get_mut(key) {
                // A key may stand there twice, and is gone at the second.
                if let Ok(at) = queue.binary_search(&id) {
                    queue.remove(at);
                }
                if queue.is_empty() {
                    self.queues.remove(key);
                }
            }
        }
        if let Some(d) = waiter.deadline_ms {
            self.deadlines.remove(&(d, id));
        }
        Some(waiter)
    }

    pub fn get(&self, id: Id) -> Option<&Waiter<T>> {
        self.all.get(&id)
    }

    /// One waits for more keys, which have come here with their slot.
    pub fn extend(&mut self, id: Id, keys: Vec<Name>) {
        if let Some(mut waiter) = self.remove(id) {
            waiter.keys.extend(keys);
            waiter.keys.sort();
            waiter.keys.dedup();
            self.restore(id, waiter);
        }
    }

    pub fn set_deadline(&mut self, id: Id, deadline_ms: Option<u64>) {
        if let Some(mut waiter) = self.remove(id) {
            waiter.deadline_ms = deadline_ms;
            self.restore(id, waiter);
        }
    }

    /// Does anyone wait for the key?
    pub fn awaited(&self, key: &Name) -> bool {
        self.queues.contains_key(key)
    }

    /// The first who waits for the key, or the first behind `after`.
    pub fn first(&self, key: &Name, after: Option<Id>) -> Option<Id> {
        let queue = self.queues.get(key)?;
        let at = after.map_or(0, |id| queue.partition_point(|other| *other <= id));
        queue.get(at).copied()
    }

    /// All keys that anyone waits for.
    pub fn keys(&self) -> Vec<Name> {
        self.queues.keys().cloned().collect()
    }

    /// Those who wait for a key that `of` accepts, in the order of arrival.
    pub fn waiting_for(&self, of: impl Fn(&Name) -> bool) -> Vec<Id> {
        let mut ids: Vec<Id> = self.all.iter().filter(|(_, w)| w.keys.iter().any(&of)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(d, _)| *d)
    }

    /// One whose deadline has passed.
    pub fn due(&self, now_ms: u64) -> Option<Id> {
        self.deadlines.first().filter(|(d, _)| *d <= now_ms).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Name {
        (0, name.as_bytes().to_vec())
    }

    fn waiter(keys: &[&str], deadline_ms: Option<u64>) -> Waiter<&'static str> {
        Waiter { keys: keys.iter().map(|k| key(k)).collect(), deadline_ms, whatever: false, payload: "x" }
    }

    #[test]
    fn first_come_first_served_for_every_key() {
        let mut w = Waiters::default();
        let a = w.add(waiter(&["x", "y", "x"], None));
        let b = w.add(waiter(&["y"], Some(50)));
        assert_eq!(w.first(&key("y"), None), Some(a));
        assert_eq!(w.first(&key("y"), Some(a)), Some(b));
        let old = w.remove(a).expect("it waits");
        assert_eq!(w.first(&key("y"), None), Some(b));
        assert!(!w.awaited(&key("x")));
        w.restore(a, old);
        assert_eq!((w.first(&key("y"), None), w.first(&key("x"), None)), (Some(a), Some(a)));
    }

    #[test]
    fn deadlines_pass_in_their_order() {
        let mut w = Waiters::default();
        let a = w.add(waiter(&["x"], Some(70)));
        let b = w.add(waiter(&["x"], Some(50)));
        assert_eq!((w.due(49), w.due(50)), (None, Some(b)));
        w.set_deadline(b, Some(90));
        assert_eq!((w.due(80), w.next_deadline()), (Some(a), Some(70)));
        w.remove(a);
        w.remove(b);
        assert!(w.is_empty() && w.queues.is_empty() && w.deadlines.is_empty());
    }

    #[test]
    fn those_served_by_nothing_are_counted_while_they_wait() {
        let mut w = Waiters::default();
        w.add(waiter(&["x"], None));
        assert!(!w.may_serve_nothing());
        let id = w.add(Waiter { whatever: true, ..waiter(&["x"], None) });
        w.set_deadline(id, Some(5));
        let old = w.remove(id).expect("it waits");
        assert!(!w.may_serve_nothing());
        w.restore(id, old);
        assert!(w.may_serve_nothing());
    }
}
