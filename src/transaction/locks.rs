//! Locks of one core: who may work on which keys, in which order.
//!
//! There is one queue for all: transactions in the order of the inbox, and
//! commands that found a key locked, in the order of their arrival. An entry
//! may go ahead when no earlier entry of the queue conflicts with it; a
//! transaction then holds its place until it is released, a command leaves at
//! once. So a parked command keeps its place for all its keys.
//!
//! There may be tens of thousands (a core's inbox is as long), many of them of
//! the whole core. So none is compared with all others, but those that move a
//! slot, which are few.
//!
//! Invariants: sequence numbers are in ascending order everywhere; an entry is
//! in `places` for each of its keys, in `cores` or in `slots`, and in
//! `exclusives` if it needs anything for itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;
use smallvec::SmallVec;

/// How a key is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Shared,
    Exclusive,
}

impl Mode {
    pub fn conflicts(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }
}

/// A key as locks know it: its database and its hash. Two keys with the same
/// hash share a lock, which is harmless.
pub type LockKey = (u32, u64);

/// What an entry needs.
#[derive(Clone, Debug, Default)]
pub struct Need {
    pub keys: SmallVec<[(LockKey, Mode); 4]>,
    /// The whole core, or one slot of it.
    pub wide: Option<(Span, Mode)>,
}

/// Extent of a wide lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Core,
    Slot(u16),
}

impl Span {
    fn covers(self, key: LockKey) -> bool {
        match self {
            Span::Core => true,
            Span::Slot(s) => crate::base::slot::slot_of_hash(key.1) == s,
        }
    }

    fn meets(self, other: Span) -> bool {
        self == Span::Core || other == Span::Core || self == other
    }
}

impl Need {
    fn keys_exclusive(&self) -> bool {
        self.keys.iter().any(|(_, m)| *m == Mode::Exclusive)
    }

    fn is_exclusive(&self) -> bool {
        self.keys_exclusive() || self.wide.is_some_and(|(_, m)| m == Mode::Exclusive)
    }

    /// Would the two stand in each other's way?
    pub fn conflicts(&self, other: &Need) -> bool {
        self.wide_conflicts(other) || other.wide_conflicts(self) || self.keys_conflict(other)
    }

    fn keys_conflict(&self, other: &Need) -> bool {
        self.keys.iter().any(|(k, m)| other.keys.iter().any(|(l, n)| k == l && m.conflicts(*n)))
    }

    fn wide_conflicts(&self, other: &Need) -> bool {
        let Some((span, mode)) = self.wide else { return false };
        other.wide.is_some_and(|(s, m)| span.meets(s) && mode.conflicts(m))
            || other.keys.iter().any(|(k, m)| span.covers(*k) && mode.conflicts(*m))
    }
}

/// Place of an entry in the queue.
pub type Seq = u64;

struct Entry<T> {
    need: Need,
    granted: bool,
    payload: T,
}

/// The queue; `T` is what stands in it.
pub struct Locks<T> {
    entries: BTreeMap<Seq, Entry<T>>,
    places: HashMap<LockKey, VecDeque<(Seq, Mode)>, foldhash::fast::RandomState>,
    /// Those that need the whole core, and which of them exclusively.
    cores: VecDeque<(Seq, Mode)>,
    core_exclusives: VecDeque<Seq>,
    /// Those that need a slot.
    slots: Vec<(Seq, u16, Mode)>,
    exclusives: BTreeSet<Seq>,
    next: Seq,
}

impl<T> Default for Locks<T> {
    fn default() -> Locks<T> {
        Locks {
            entries: BTreeMap::new(),
            places: HashMap::default(),
            cores: VecDeque::new(),
            core_exclusives: VecDeque::new(),
            slots: Vec::new(),
            exclusives: BTreeSet::new(),
            next: 0,
        }
    }
}

/// Is the first of them before that place?
fn first_before(first: Option<&Seq>, before: Seq) -> bool {
    first.is_some_and(|s| *s < before)
}

impl<T> Locks<T> {
    /// Is any transaction or parked command here? The one flag that ordinary
    /// commands test.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Does anything in the queue stand in the way of a newcomer?
    pub fn conflicts(&self, need: &Need) -> bool {
        self.blocked(need, Seq::MAX)
    }

    /// Does an entry before `before` conflict with `need`?
    fn blocked(&self, need: &Need, before: Seq) -> bool {
        let by_key = need.keys.iter().any(|(k, m)| {
            self.places.get(k).is_some_and(|q| q.iter().take_while(|(s, _)| *s < before).any(|(_, n)| m.conflicts(*n)))
        });
        by_key || self.wide_blocked(need, before) || (!need.keys.is_empty() && self.blocked_by_wide(need, before))
    }

    /// Does anything conflict with its wide part?
    fn wide_blocked(&self, need: &Need, before: Seq) -> bool {
        match need.wide {
            None => false,
            Some((Span::Core, Mode::Exclusive)) => first_before(self.entries.keys().next(), before),
            Some((Span::Core, Mode::Shared)) => first_before(self.exclusives.first(), before),
            Some((Span::Slot(_), _)) => self.entries.range(..before).any(|(_, e)| e.need.conflicts(need)),
        }
    }

    /// Does anything wide conflict with its keys?
    fn blocked_by_wide(&self, need: &Need, before: Seq) -> bool {
        let by_core = match need.keys_exclusive() {
            true => first_before(self.cores.front().map(|(s, _)| s), before),
            false => first_before(self.core_exclusives.front(), before),
        };
        let mut slots = self.slots.iter().take_while(|(s, ..)| *s < before);
        by_core
            || slots.any(|(_, slot, mode)| {
                let slot = Span::Slot(*slot);
                need.keys.iter().any(|(k, m)| mode.conflicts(*m) && slot.covers(*k))
            })
    }

    /// Appends an entry, not yet granted.
    pub fn push(&mut self, need: Need, payload: T) -> Seq {
        let seq = self.next;
        self.next += 1;
        for (k, m) in &need.keys {
            self.places.entry(*k).or_default().push_back((seq, *m));
        }
        match need.wide {
            None => {}
            Some((Span::Slot(slot), mode)) => self.slots.push((seq, slot, mode)),
            Some((Span::Core, mode)) => {
                self.cores.push_back((seq, mode));
                if mode == Mode::Exclusive {
                    self.core_exclusives.push_back(seq);
                }
            }
        }
        if need.is_exclusive() {
            self.exclusives.insert(seq);
        }
        self.entries.insert(seq, Entry { need, granted: false, payload });
        seq
    }

    /// Strengthens a shared key to exclusive (it was found to carry a deadline).
    pub fn upgrade(&mut self, seq: Seq, key: LockKey) {
        if let Some(e) = self.entries.get_mut(&seq) {
            e.need.keys.iter_mut().filter(|(k, _)| *k == key).for_each(|(_, m)| *m = Mode::Exclusive);
        }
        if let Some(q) = self.places.get_mut(&key) {
            q.iter_mut().filter(|(s, _)| *s == seq).for_each(|(_, m)| *m = Mode::Exclusive);
        }
        if self.entries.get(&seq).is_some_and(|e| e.need.is_exclusive()) {
            self.exclusives.insert(seq);
        }
    }

    /// May this waiting entry go ahead?
    pub fn may_run(&self, seq: Seq) -> bool {
        self.entries.get(&seq).is_some_and(|e| !e.granted && !self.blocked(&e.need, seq))
    }

    pub fn need(&self, seq: Seq) -> Option<&Need> {
        self.entries.get(&seq).map(|e| &e.need)
    }

    pub fn payload(&self, seq: Seq) -> Option<&T> {
        self.entries.get(&seq).map(|e| &e.payload)
    }

    /// All that have not been granted, in order.
    pub fn waiting(&self) -> impl Iterator<Item = (Seq, &T)> {
        self.entries.iter().filter(|(_, e)| !e.granted).map(|(seq, e)| (*seq, &e.payload))
    }

    /// A transaction holds its locks from now on.
    pub fn grant(&mut self, seq: Seq) {
        if let Some(e) = self.entries.get_mut(&seq) {
            debug_assert!(!e.granted);
            e.granted = true;
        }
    }

    /// Removes an entry and returns it with the entries that may have become
    /// able to run, in order.
    pub fn remove(&mut self, seq: Seq) -> Option<(T, Vec<Seq>)> {
        let e = self.entries.remove(&seq)?;
        let exclusive = self.exclusives.remove(&seq);
        let mut next = Vec::new();
        for (k, _) in &e.need.keys {
            self.leave(*k, seq, &mut next);
        }
        match e.need.wide {
            None => {}
            Some((Span::Slot(_), _)) => {
                self.slots.retain(|(s, ..)| *s != seq);
                let freed = |x: &Entry<T>| !x.granted && x.need.conflicts(&e.need);
                next.extend(self.entries.range(seq..).filter(|(_, x)| freed(x)).map(|(s, _)| *s));
            }
            Some((Span::Core, mode)) => self.leave_core(seq, mode, &mut next),
        }
        if !e.need.keys.is_empty() {
            self.name_wide(&e.need, seq, exclusive, &mut next);
        }
        next.sort_unstable();
        next.dedup();
        Some((e.payload, next))
    }

    /// An entry of the whole core has gone.
    fn leave_core(&mut self, seq: Seq, mode: Mode, next: &mut Vec<Seq>) {
        if let Ok(at) = self.cores.binary_search_by_key(&seq, |(s, _)| *s) {
            self.cores.remove(at);
        }
        if let Ok(at) = self.core_exclusives.binary_search(&seq) {
            self.core_exclusives.remove(at);
        }
        if mode == Mode::Exclusive {
            // Everything stood behind it, and behind the next such one it still does.
            let last = self.core_exclusives.iter().find(|s| **s > seq).copied().unwrap_or(Seq::MAX);
            next.extend(self.entries.range(seq..=last).filter(|(_, x)| !x.granted).map(|(s, _)| *s));
            return;
        }
        // A shared one stood in the way of exclusive ones; so does the next.
        self.name_first(next);
        let last = self.cores.front().map_or(Seq::MAX, |(s, _)| *s);
        if seq < last {
            next.extend(self.exclusives.range(seq..last).filter(|s| !self.entries[*s].granted));
        }
    }

    /// Names the first of all if it waits for the whole core.
    fn name_first(&self, next: &mut Vec<Seq>) {
        if let Some((s, e)) = self.entries.first_key_value()
            && !e.granted
            && e.need.wide.is_some()
        {
            next.push(*s);
        }
    }

    /// Names those wide ones that may have waited for keys of an entry that
    /// has gone.
    fn name_wide(&self, gone: &Need, seq: Seq, exclusive: bool, next: &mut Vec<Seq>) {
        self.name_first(next);
        let slots = self.slots.iter().filter(|(s, slot, _)| {
            *s > seq && !self.entries[s].granted && gone.keys.iter().any(|(k, _)| Span::Slot(*slot).covers(*k))
        });
        next.extend(slots.map(|(s, ..)| *s));
        if exclusive {
            // None of them has been granted, up to the next that keeps others out.
            let first = self.exclusives.first().copied().unwrap_or(Seq::MAX);
            let from = self.cores.partition_point(|(s, _)| *s < seq);
            next.extend(self.cores.range(from..).map(|(s, _)| *s).take_while(|s| *s < first));
        }
    }

    /// Takes an entry out of a key's queue; collects those at its front that it
    /// stood in the way of. A shared one stood in the way of no other shared
    /// one, so a crowd of readers is not named again for each that leaves.
    fn leave(&mut self, key: LockKey, seq: Seq, next: &mut Vec<Seq>) {
        let Some(q) = self.places.get_mut(&key) else { return };
        let Ok(at) = q.binary_search_by_key(&seq, |(s, _)| *s) else { return };
        let Some((_, mode)) = q.remove(at) else { return };
        let mut front = q.iter();
        match (front.next(), mode) {
            (None, _) => {
                self.places.remove(&key);
            }
            (Some((s, Mode::Exclusive)), _) => next.push(*s),
            (Some((s, Mode::Shared)), Mode::Exclusive) => {
                next.push(*s);
                next.extend(front.take_while(|(_, m)| *m == Mode::Shared).map(|(s, _)| *s));
            }
            (Some((_, Mode::Shared)), Mode::Shared) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn need(keys: &[(u64, Mode)]) -> Need {
        Need { keys: keys.iter().map(|(k, m)| ((0, *k), *m)).collect(), wide: None }
    }

    #[test]
    fn a_parked_command_keeps_its_place_for_all_its_keys() {
        use Mode::*;
        let mut l = Locks::default();
        let t = l.push(need(&[(1, Exclusive)]), "tx");
        assert!(l.may_run(t));
        l.grant(t);
        let p = l.push(need(&[(1, Exclusive), (2, Exclusive)]), "parked");
        assert!(!l.may_run(p));
        assert!(l.conflicts(&need(&[(2, Shared)])), "key 2 is promised to the parked command");
        assert!(!l.conflicts(&need(&[(3, Exclusive)])));
        assert_eq!(l.remove(t).unwrap().1, vec![p]);
        assert!(l.may_run(p));
    }

    #[test]
    fn wide_locks_meet_keys_and_slots() {
        use Mode::*;
        let mut l = Locks::default();
        let whole = l.push(Need { wide: Some((Span::Core, Shared)), ..Need::default() }, 0);
        l.grant(whole);
        assert!(!l.conflicts(&need(&[(1, Shared)])));
        assert!(l.conflicts(&need(&[(1, Exclusive)])));
        let slot = l.push(Need { wide: Some((Span::Slot(0), Exclusive)), ..Need::default() }, 1);
        assert!(!l.may_run(slot));
        assert!(l.conflicts(&need(&[(1, Shared)])), "slot 0 is promised to a move");
        assert_eq!(l.remove(whole).unwrap().1, vec![slot]);
        assert!(l.may_run(slot));
    }

    proptest! {
        /// Whatever comes and goes, entries that run together never conflict,
        /// and nothing that could run is forgotten.
        #[test]
        fn no_two_holders_conflict_and_none_starves(
            script in proptest::collection::vec((0u64..5, 0u64..5, any::<bool>(), any::<bool>(), 0u8..10), 1..60)
        ) {
            let mode = |x: bool| if x { Mode::Exclusive } else { Mode::Shared };
            let mut l = Locks::default();
            let mut waiting: Vec<Seq> = Vec::new();
            let mut held: Vec<(Seq, Need)> = Vec::new();
            for (a, b, xa, xb, action) in script {
                if action < 7 {
                    let n = if action < 2 {
                        let slot = Span::Slot(crate::base::slot::slot_of_hash(a));
                        Need { wide: Some(([Span::Core, slot][action as usize], mode(xa))), ..Need::default() }
                    } else if a == b {
                        need(&[(a, mode(xa))])
                    } else {
                        need(&[(a, mode(xa)), (b, mode(xb))])
                    };
                    let s = l.push(n.clone(), n);
                    waiting.push(s);
                    if l.may_run(s) {
                        l.grant(s);
                        waiting.pop();
                        held.push((s, l.payload(s).unwrap().clone()));
                    }
                } else if !held.is_empty() {
                    let (s, _) = held.remove(a as usize % held.len());
                    let (_, next) = l.remove(s).unwrap();
                    for c in next {
                        if l.may_run(c) {
                            l.grant(c);
                            waiting.retain(|w| *w != c);
                            held.push((c, l.payload(c).unwrap().clone()));
                        }
                    }
                }
                for (i, (_, x)) in held.iter().enumerate() {
                    for (_, y) in &held[i + 1..] {
                        prop_assert!(!x.conflicts(y));
                    }
                }
                for w in &waiting {
                    prop_assert!(!l.may_run(*w), "an entry that could run was not named");
                    let need = l.payload(*w).unwrap();
                    let all = held.iter().map(|(s, n)| (s, n)).chain(waiting.iter().map(|s| (s, l.payload(*s).unwrap())));
                    let mut earlier = all.filter(|(s, _)| *s < w);
                    prop_assert!(earlier.any(|(_, n)| n.conflicts(need)), "nothing stands in the way of {need:?}");
                }
            }
        }
    }
}
