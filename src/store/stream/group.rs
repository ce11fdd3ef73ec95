//! Consumer groups: how far a group has read, and which entries it delivered
//! without having heard that they were dealt with.
//!
//! Invariant: every pending entry stands in the group's list with the number
//! of its consumer, and in that consumer's own list, and nowhere else.

use super::id::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An entry delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Unix milliseconds of the last delivery.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub count: u64,
    consumer: u32,
}

/// One consumer of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub name: Arc<[u8]>,
    /// Unix milliseconds of the last attempt to read or claim.
    pub seen_ms: i64,
    /// Of the last one that got something.
    pub active_ms: Option<i64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last entry delivered to anybody.
    pub last_id: StreamId,
    /// How many entries of the stream's whole history the group has read, when
    /// that is known.
    pub entries_read: Option<i64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: Vec<Option<Consumer>>,
    by_name: BTreeMap<Arc<[u8]>, u32>,
}

/// The number of a consumer in its group.
pub type ConsumerNo = u32;

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    pub fn find(&self, name: &[u8]) -> Option<ConsumerNo> {
        self.by_name.get(name).copied()
    }

    /// Adds a consumer; `None` when there is one of that name.
    pub fn add(&mut self, name: &[u8], now: i64) -> Option<ConsumerNo> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let free = self.consumers.iter().position(Option::is_none).unwrap_or(self.consumers.len());
        let name: Arc<[u8]> = name.into();
        let consumer = Consumer { name: name.clone(), seen_ms: now, active_ms: None, pending: BTreeSet::new() };
        if free == self.consumers.len() {
            self.consumers.push(None);
        }
        self.consumers[free] = Some(consumer);
        self.by_name.insert(name, free as u32);
        Some(free as u32)
    }

    pub fn consumer(&self, no: ConsumerNo) -> &Consumer {
        self.consumers[no as usize].as_ref().expect("numbers are of consumers that exist")
    }

    pub fn consumer_mut(&mut self, no: ConsumerNo) -> &mut Consumer {
        self.consumers[no as usize].as_mut().expect("numbers are of consumers that exist")
    }

    /// All consumers in the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.by_name.values().map(|no| self.consumer(*no))
    }

    pub fn consumer_count(&self) -> usize {
        self.by_name.len()
    }

    /// Removes a consumer with its pending entries; how many those were.
    pub fn remove(&mut self, name: &[u8]) -> Option<usize> {
        let no = self.by_name.remove(name)?;
        let consumer = self.consumers[no as usize].take()?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// Whose entry it is.
    pub fn owner(&self, p: &Pending) -> &Consumer {
        self.consumer(p.consumer)
    }

    /// Pending entries from `start` to `end`, both included.
    pub fn pending_range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = (StreamId, &Pending)> {
        let range = (start <= end).then(|| self.pending.range(start..=end));
        range.into_iter().flatten().map(|(id, p)| (*id, p))
    }

    /// The same, of one consumer.
    pub fn pending_range_of(
        &self,
        no: ConsumerNo,
        start: StreamId,
        end: StreamId,
    ) -> impl Iterator<Item = (StreamId, &Pending)> {
        let range = (start <= end).then(|| self.consumer(no).pending.range(start..=end));
        range.into_iter().flatten().map(|id| (*id, &self.pending[id]))
    }

    /// The same of a consumer at hand.
    pub fn pending_of<'a>(&'a self, consumer: &'a Consumer) -> impl Iterator<Item = (StreamId, &'a Pending)> {
        consumer.pending.iter().map(|id| (*id, &self.pending[id]))
    }

    /// The first and last pending entry.
    pub fn pending_ends(&self) -> Option<(StreamId, StreamId)> {
        Some((*self.pending.first_key_value()?.0, *self.pending.last_key_value()?.0))
    }

    /// Makes an entry pending for a consumer, whoever had it.
    pub fn assign(&mut self, id: StreamId, no: ConsumerNo, delivered_ms: i64, count: u64) {
        let fresh = Pending { delivered_ms, count, consumer: no };
        let old = self.pending.insert(id, fresh).map(|p| p.consumer);
        if old == Some(no) {
            return;
        }
        if let Some(old) = old {
            self.consumer_mut(old).pending.remove(&id);
        }
        self.consumer_mut(no).pending.insert(id);
    }

    /// Forgets a pending entry; false when it was none.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(p) = self.pending.remove(&id) else { return false };
        let known = self.consumer_mut(p.consumer).pending.remove(&id);
        debug_assert!(known, "every pending entry stands in its consumer's list");
        true
    }

    /// About how many bytes lie behind the group.
    pub(super) fn memory(&self) -> usize {
        /// Ordered maps keep their nodes about three quarters full.
        const fn spread(bytes: usize) -> usize {
            bytes + bytes / 3
        }
        let pending = self.pending.len();
        let entry = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let names: usize = self.by_name.keys().map(|n| n.len() + 2 * size_of::<usize>()).sum();
        spread(pending * entry)
            + names
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
            + spread(self.by_name.len() * size_of::<(Arc<[u8]>, u32)>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_change_hands() {
        let mut g = Group::new(StreamId::MIN, None);
        let (a, b) = (g.add(b"a", 1).unwrap(), g.add(b"b", 1).unwrap());
        assert_eq!(g.add(b"a", 1), None);
        let id = |n| StreamId::new(n, 0);
        (1..=3).for_each(|n| g.assign(id(n), a, 10, 1));
        g.assign(id(2), b, 20, 2);
        assert_eq!((g.consumer(a).pending(), g.consumer(b).pending(), g.pending_count()), (2, 1, 3));
        assert_eq!(g.pending_ends(), Some((id(1), id(3))));
        assert!(g.acknowledge(id(2)) && !g.acknowledge(id(2)));
        assert_eq!(g.pending_range_of(a, id(2), StreamId::MAX).count(), 1);
        assert_eq!(g.remove(b"a"), Some(2));
        assert_eq!((g.pending_count(), g.consumer_count(), g.find(b"a")), (0, 1, None));
        assert_eq!(g.add(b"c", 5), Some(a));
    }
}
