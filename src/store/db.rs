//! One database of one core.
//!
//! Invariants: `len` is the sum of the tables' lengths; `occupied` has the bit
//! of a slot set exactly when its table is not empty; `deadlines` holds
//! exactly one pair for every entry that has a deadline.

use std::collections::BTreeSet;

use super::ahead::prefetch;
use super::cut::{DbCut, SlotCut};
use super::entry::Entry;
use super::hash::Hash;
use super::mover::Mover;
use super::object::Object;
use super::slots::{GROUP, Slots};
use super::table::{SlotTable, Walk};
use crate::base::clock::UnixMs;
use crate::base::rng::Rng;
use crate::base::slot::{Key, ORDER_MASK, SLOT_SHIFT, SLOTS, slot_of_hash};

/// Slot tables with their expiry index.
pub struct Db {
    pub(super) tables: Slots,
    occupied: Box<[u64; SLOTS / GROUP]>,
    len: usize,
    /// (deadline, key hash): exact, so that nothing is ever sampled.
    deadlines: BTreeSet<(UnixMs, u64)>,
    /// What a snapshot has still to read.
    pub(super) cut: Option<Box<DbCut>>,
    /// (earliest deadline of a field, key hash) of hashes that have any. What
    /// stands here may be out of date: it tells where to look.
    field_deadlines: BTreeSet<(UnixMs, u64)>,
}

/// Mask of the hash bits that name a position of SCAN: slot, then order.
pub const POSITION_MASK: u64 = (SLOTS as u64 - 1) << SLOT_SHIFT | ORDER_MASK;

impl Db {
    pub(super) fn new() -> Db {
        Db {
            tables: Slots::default(),
            occupied: Box::new([0; SLOTS / GROUP]),
            len: 0,
            deadlines: BTreeSet::new(),
            cut: None,
            field_deadlines: BTreeSet::new(),
        }
    }

    /// Everything that is here now is owed to a snapshot.
    pub(super) fn begin_cut(&mut self, number: usize, debt: super::undo::Debt) {
        let mut cut = DbCut::new(number, &self.occupied, Some(debt));
        if self.is_empty() {
            cut.forgive();
        }
        self.cut = Some(Box::new(cut));
    }

    /// Takes the marks of snapshots away.
    pub(super) fn unmark(&self) {
        self.tables.iter().for_each(super::cut::unmark);
    }

    pub(super) fn find_mut_by(&mut self, hash: u64, accept: impl FnMut(&Entry) -> bool) -> Option<&mut Entry> {
        self.at(hash).find_mut_by(hash, accept)
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of keys with a deadline.
    pub fn volatile(&self) -> usize {
        self.deadlines.len()
    }

    pub fn table(&self, slot: u16) -> &SlotTable {
        &self.tables[slot as usize]
    }

    #[inline]
    fn at(&mut self, hash: u64) -> &mut SlotTable {
        &mut self.tables[slot_of_hash(hash) as usize]
    }

    #[inline]
    pub(super) fn prefetch_table(&self, hash: u64) {
        prefetch((&raw const self.tables[slot_of_hash(hash) as usize]).cast());
    }

    #[inline]
    pub(super) fn prefetch_bucket(&self, hash: u64) {
        self.tables[slot_of_hash(hash) as usize].prefetch_bucket(hash);
    }

    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u64) {
        self.tables[slot_of_hash(hash) as usize].prefetch_entry(hash);
    }

    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<&Entry> {
        self.tables[slot_of_hash(hash) as usize].guess(hash)
    }

    #[inline]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.tables[key.slot() as usize].find(key.hash, key.bytes)
    }

    #[inline]
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.at(key.hash).find_mut(key.hash, key.bytes)
    }

    /// A slot is no longer empty.
    #[inline]
    fn mark(&mut self, slot: usize) {
        let group = &mut self.occupied[slot / GROUP];
        if *group == 0 {
            self.tables.touch(slot / GROUP);
        }
        *group |= 1 << (slot % GROUP);
    }

    /// Makes room for `len` entries in the slot of a hash.
    #[inline]
    pub(super) fn expect(&mut self, hash: u64, len: usize) {
        self.at(hash).expect(len);
    }

    #[inline]
    pub(super) fn insert_new(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        debug_assert!(self.get(&Key { bytes: entry.key(), hash }).is_none());
        if entry.volatile() {
            self.index(hash, &entry);
        }
        self.len += 1;
        self.mark(slot_of_hash(hash) as usize);
        self.at(hash).insert(hash, entry)
    }

    /// Adds or replaces; the replaced entry is returned.
    pub(super) fn put(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        let old = self.take(&Key { bytes: entry.key(), hash });
        self.insert_new(hash, entry);
        old
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Entry> {
        let slot = key.slot() as usize;
        let entry = self.tables[slot].remove(key.hash, key.bytes)?;
        self.len -= 1;
        if self.tables[slot].is_empty() {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        if entry.volatile() {
            self.forget(key.hash, &entry);
        }
        Some(entry)
    }

    /// Enters an entry's deadlines into the indices.
    fn index(&mut self, hash: u64, entry: &Entry) {
        if let Some(d) = entry.deadline() {
            self.deadlines.insert((d, hash));
        }
        if let Some(d) = entry.volatile_hash().and_then(Hash::next_deadline) {
            self.field_deadlines.insert((d, hash));
        }
    }

    fn forget(&mut self, hash: u64, entry: &Entry) {
        if let Some(d) = entry.deadline() {
            self.forget_deadline(d, hash);
        }
        if let Some(d) = entry.volatile_hash().and_then(Hash::next_deadline) {
            self.field_deadlines.remove(&(d, hash));
        }
    }

    /// The earliest deadline among a hash's fields is another one than before.
    pub(super) fn fields_changed(&mut self, key: &Key, before: Option<UnixMs>) {
        if let Some(d) = before {
            self.field_deadlines.remove(&(d, key.hash));
        }
        let Some(entry) = self.get_mut(key) else { return };
        if let Some(Object::Hash(h)) = entry.as_object()
            && let Some(d) = h.next_deadline()
        {
            entry.mark_fields();
            self.field_deadlines.insert((d, key.hash));
        }
    }

    /// Up to `max` keys with fields whose deadline has passed at `now`.
    pub fn due_fields(&mut self, now: UnixMs, max: usize) -> Vec<(u64, Vec<u8>)> {
        let due: Vec<(UnixMs, u64)> =
            self.field_deadlines.iter().take_while(|&&(d, _)| d <= now).take(max).copied().collect();
        let mut found = Vec::with_capacity(due.len());
        for (d, hash) in due {
            let table = &self.tables[slot_of_hash(hash) as usize];
            let has = |e: &Entry| e.volatile_hash().and_then(Hash::next_deadline) == Some(d);
            match table.find_by(hash, |e| has(e) && Key::new(e.key()).hash == hash) {
                Some(e) => found.push((hash, e.key().to_vec())),
                None => drop(self.field_deadlines.remove(&(d, hash))),
            }
        }
        found
    }

    fn forget_deadline(&mut self, deadline: UnixMs, hash: u64) {
        let known = self.deadlines.remove(&(deadline, hash));
        debug_assert!(known, "every deadline stands in the index");
    }

    pub(super) fn set_deadline(&mut self, key: &Key, deadline: Option<UnixMs>) -> bool {
        let Some(entry) = self.get_mut(key) else { return false };
        let old = entry.deadline();
        entry.set_deadline(deadline);
        if old == deadline {
            return true;
        }
        if let Some(d) = old {
            self.forget_deadline(d, key.hash);
        }
        if let Some(d) = deadline {
            self.deadlines.insert((d, key.hash));
        }
        true
    }

    pub(super) fn next_deadline(&self) -> Option<UnixMs> {
        let first = |index: &BTreeSet<(UnixMs, u64)>| index.first().map(|&(d, _)| d);
        match (first(&self.deadlines), first(&self.field_deadlines)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Up to `max` keys whose deadline has passed at `now`, with their hashes,
    /// earliest first.
    pub fn due(&self, now: UnixMs, max: usize) -> Vec<(u64, Vec<u8>)> {
        let due = self.deadlines.iter().take_while(|&&(d, _)| d <= now).take(max);
        due.filter_map(|&(d, hash)| {
            let table = &self.tables[slot_of_hash(hash) as usize];
            let e = table.find_by(hash, |e| e.deadline() == Some(d) && Key::new(e.key()).hash == hash)?;
            Some((hash, e.key().to_vec()))
        })
        .collect()
    }

    /// Mean of the remaining lifetimes in milliseconds, from a sample spread
    /// over the index.
    pub fn average_ttl_ms(&self, now: UnixMs) -> u64 {
        let mut sum = 0u128;
        let mut n = 0u128;
        for &(d, _) in self.deadlines.iter().take(64).chain(self.deadlines.iter().rev().take(64)) {
            sum += u128::from(d.saturating_sub(now));
            n += 1;
        }
        sum.checked_div(n).unwrap_or(0) as u64
    }

    /// Deadlines with their keys' hashes, in order, from a place on.
    pub fn deadlines_after(&self, from: (UnixMs, u64)) -> impl Iterator<Item = (UnixMs, u64)> {
        self.deadlines.range(from..).copied()
    }

    /// Number of slots that hold anything.
    pub fn occupied_slots(&self) -> usize {
        self.occupied.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// One of the slots that hold anything, by its number among them.
    pub fn nth_slot(&self, n: usize) -> Option<u16> {
        let mut left = n;
        for (i, word) in self.occupied.iter().enumerate() {
            let ones = word.count_ones() as usize;
            if left < ones {
                let bits = (0..left).fold(*word, |bits, _| bits & (bits - 1));
                return Some((i * 64) as u16 + bits.trailing_zeros() as u16);
            }
            left -= ones;
        }
        None
    }

    /// Slots that hold anything, with their numbers of keys.
    pub fn slot_lens(&self) -> impl Iterator<Item = (u16, usize)> {
        let slots = self.tables.iter().enumerate();
        slots.map(|(i, t)| (i as u16, t.len())).filter(|(_, len)| *len > 0)
    }

    /// The first occupied slot at or after `from`.
    pub fn next_slot(&self, from: usize) -> Option<usize> {
        if from >= SLOTS {
            return None;
        }
        let mut word = from / 64;
        let mut bits = self.occupied[word] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.occupied.get(word)?;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let slot = self.next_slot(next)?;
            next = slot + 1;
            Some(self.tables[slot].iter())
        })
        .flatten()
    }

    /// One step of a walk over the entries of a slot, see [`SlotTable::visit_mut`].
    pub(super) fn walk(
        &mut self,
        slot: u16,
        from: Walk,
        mover: &mut Mover,
        each: impl FnMut(&mut Entry, &mut Mover),
    ) -> Option<Walk> {
        self.tables[slot as usize].visit_mut(from, mover, each)
    }

    /// A random entry, uniform over the keys of this core.
    pub fn random(&self, rng: &mut Rng) -> Option<&Entry> {
        let mut n = rng.below(self.len);
        let mut slot = self.next_slot(0)?;
        while n >= self.tables[slot].len() {
            n -= self.tables[slot].len();
            slot = self.next_slot(slot + 1)?;
        }
        self.tables[slot].random(rng)
    }

    pub(super) fn owes_slot(&self, slot: u16) -> bool {
        self.cut.as_ref().is_some_and(|c| c.is_pending(slot))
    }

    pub(super) fn occupies(&self, slot: u16) -> bool {
        self.occupied[slot as usize / 64] & (1 << (slot % 64)) != 0
    }

    /// Empties the database into `each`.
    pub(super) fn drain_into(&mut self, mut each: impl FnMut(u64, Entry)) {
        let mut from = 0;
        while let Some(slot) = self.next_slot(from) {
            if let Some((table, _)) = self.take_slot(slot as u16) {
                table.into_entries().for_each(|e| each(Key::new(e.key()).hash, e));
            }
            from = slot + 1;
        }
    }

    /// A slot with what a snapshot has still to read of it.
    pub(super) fn take_slot(&mut self, slot: u16) -> Option<(SlotTable, Option<SlotCut>)> {
        let s = slot as usize;
        let cut = self.cut.as_mut().and_then(|c| c.leave(slot));
        if self.tables[s].is_empty() && cut.is_none() {
            return None;
        }
        let table = std::mem::take(&mut self.tables[s]);
        self.len -= table.len();
        self.occupied[s / 64] &= !(1 << (s % 64));
        for e in table.iter().filter(|e| e.volatile()) {
            self.forget(Key::new(e.key()).hash, e);
        }
        Some((table, cut))
    }

    pub(super) fn install_slot(&mut self, slot: u16, table: SlotTable, cut: Option<SlotCut>) {
        let s = slot as usize;
        assert!(self.tables[s].is_empty(), "a slot is installed where there is none");
        for e in table.iter().filter(|e| e.volatile()) {
            self.index(Key::new(e.key()).hash, e);
        }
        self.len += table.len();
        if !table.is_empty() {
            self.mark(s);
        }
        self.tables[s] = table;
        if let Some(c) = cut {
            let own = self.cut.get_or_insert_with(|| Box::new(DbCut::new(0, &[0; SLOTS / 64], None)));
            own.enter(slot, c);
        }
    }

    /// Bytes of the tables, without the array of them, which does not count as
    /// used ([`super::slots`]).
    pub fn table_bytes(&self) -> usize {
        self.tables.iter().map(SlotTable::memory).sum::<usize>() + size_of_val(&*self.occupied)
    }

    /// Bytes of the indices by deadline, roughly: trees grow with nodes half full.
    pub fn deadline_bytes(&self) -> usize {
        (self.deadlines.len() + self.field_deadlines.len()) * size_of::<(UnixMs, u64)>() * 2
    }
}
