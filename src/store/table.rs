//! The table of one slot in one database.
//!
//! Most slots hold few keys: one table, grown in small steps. A slot that has
//! grown large (one hot hash tag) becomes extendible: a directory of tables of
//! at most [`SPLIT_AT`] entries, chosen by the hash bits below the slot number,
//! of which one splits when it is full. So no insert ever moves more than
//! [`SPLIT_AT`] entries, however many keys there are.

use super::buckets::{Buckets, ENTRIES_MAX};
use super::entry::Entry;
use super::mover::Mover;
use crate::base::slot::SLOT_SHIFT;

/// Entries at which a table splits.
pub const SPLIT_AT: usize = 2048;

/// Directory bits at most; they end above the tag's bits.
const DEPTH_MAX: u32 = 22;

const _: () = assert!(SPLIT_AT < ENTRIES_MAX);

/// A place in a walk: a part of the table, and a bucket of it.
pub type Walk = (usize, usize);

/// Buckets of one step of a walk.
const BUCKETS_AT_ONCE: usize = 8;

/// See the module's description. All zeros are an empty table.
#[derive(Default)]
pub struct SlotTable {
    small: Buckets,
    large: Option<Box<Extendible>>,
}

struct Extendible {
    /// 2^depth entries: indices of `parts`.
    directory: Vec<u32>,
    depth: u32,
    parts: Vec<Part>,
    len: usize,
}

struct Part {
    table: Buckets,
    depth: u32,
}

impl Extendible {
    fn new(table: Buckets) -> Extendible {
        let len = table.len();
        Extendible { directory: vec![0], depth: 0, parts: vec![Part { table, depth: 0 }], len }
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        ((hash >> (SLOT_SHIFT - self.depth)) & ((1 << self.depth) - 1)) as usize
    }

    #[inline]
    fn part(&self, hash: u64) -> usize {
        self.directory[self.index(hash)] as usize
    }

    fn insert(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        let mut at = self.part(hash);
        while self.parts[at].table.len() >= SPLIT_AT && self.parts[at].depth < DEPTH_MAX {
            self.split(at, hash);
            at = self.part(hash);
        }
        self.len += 1;
        self.parts[at].table.insert(hash, entry)
    }

    /// Splits the part `at`, which serves `hash`, by its next hash bit.
    fn split(&mut self, at: usize, hash: u64) {
        if self.parts[at].depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&p| [p, p]).collect();
            self.depth += 1;
        }
        let local = self.parts[at].depth + 1;
        let bit = 1u64 << (SLOT_SHIFT - local);
        let old = self.parts[at].table.drain();
        let mut halves = [Buckets::default(), Buckets::default()];
        for e in old {
            let h = e.hash();
            halves[usize::from(h & bit != 0)].insert(h, e);
        }
        let [low, high] = halves;
        self.parts[at] = Part { table: low, depth: local };
        self.parts.push(Part { table: high, depth: local });
        let fresh = self.parts.len() as u32 - 1;
        let span = 1usize << (self.depth - local);
        let first = (self.index(hash) / (2 * span)) * (2 * span);
        self.directory[first + span..first + 2 * span].fill(fresh);
    }
}

impl SlotTable {
    #[inline]
    fn table(&self, hash: u64) -> &Buckets {
        match &self.large {
            None => &self.small,
            Some(x) => &x.parts[x.part(hash)].table,
        }
    }

    #[inline]
    fn table_mut(&mut self, hash: u64) -> &mut Buckets {
        match &mut self.large {
            None => &mut self.small,
            Some(x) => {
                let at = x.part(hash);
                &mut x.parts[at].table
            }
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.large.as_ref().map_or(self.small.len(), |x| x.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.table(hash).find(hash, |e| e.has_key(key))
    }

    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        self.table_mut(hash).find_mut(hash, |e| e.has_key(key))
    }

    /// Any entry with this hash for which `accept` answers true.
    pub fn find_by(&self, hash: u64, accept: impl FnMut(&Entry) -> bool) -> Option<&Entry> {
        self.table(hash).find(hash, accept)
    }

    /// [`SlotTable::find_by`] for changing.
    pub fn find_mut_by(&mut self, hash: u64, accept: impl FnMut(&Entry) -> bool) -> Option<&mut Entry> {
        self.table_mut(hash).find_mut(hash, accept)
    }

    /// Prefetches the bucket of a hash.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.table(hash).prefetch(hash);
    }

    /// Prefetches the entries that the bucket of a hash names.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.table(hash).prefetch_entries(hash);
    }

    /// Likely the entry of a hash, should it be here.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<&Entry> {
        self.table(hash).guess(hash)
    }

    /// Shows the entries of the first bucket that has any, from the home
    /// bucket of a hash on.
    pub fn visit_bucket(&self, hash: u64, each: impl FnMut(&Entry)) {
        self.table(hash).visit_bucket(hash, each);
    }

    /// Prefetches all entries of the home bucket of a hash.
    pub fn prefetch_all_of_bucket(&self, hash: u64) {
        self.table(hash).prefetch_all_of_bucket(hash);
    }

    /// Makes room for `len` entries in all, as far as one table has it.
    #[inline]
    pub fn expect(&mut self, len: usize) {
        if self.large.is_none() {
            self.small.expect(len.min(SPLIT_AT));
        }
    }

    /// Adds an entry whose key is not present.
    pub fn insert(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        if self.large.is_none() && self.small.len() >= SPLIT_AT {
            self.large = Some(Box::new(Extendible::new(std::mem::take(&mut self.small))));
        }
        match &mut self.large {
            None => self.small.insert(hash, entry),
            Some(x) => x.insert(hash, entry),
        }
    }

    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let entry = self.table_mut(hash).remove(hash, |e| e.has_key(key))?;
        if let Some(x) = &mut self.large {
            x.len -= 1;
            if x.len == 0 {
                self.large = None;
            }
        }
        Some(entry)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        let parts = self.large.iter().flat_map(|x| x.parts.iter().flat_map(|p| p.table.iter()));
        self.small.iter().chain(parts)
    }

    pub fn into_entries(mut self) -> impl Iterator<Item = Entry> {
        let parts = self.large.take().into_iter().flat_map(|x| x.parts.into_iter().flat_map(|mut p| p.table.drain()));
        self.small.drain().into_iter().chain(parts)
    }

    /// Calls `visit(order, entry)` for the entries of the part of the table
    /// that holds the position `order` (the low 43 hash bits), and returns the
    /// first position after that part, `None` at the end of the slot.
    pub fn visit_part<'a>(&'a self, order: u64, mut visit: impl FnMut(&'a Entry)) -> Option<u64> {
        let Some(x) = &self.large else {
            self.small.iter().for_each(visit);
            return None;
        };
        let at = x.part(order);
        x.parts[at].table.iter().for_each(&mut visit);
        let width = 1u64 << (SLOT_SHIFT - x.parts[at].depth);
        let next = (order / width + 1) * width;
        (next < 1 << SLOT_SHIFT).then_some(next)
    }

    /// Where a walk over the entries begins, to be gone on with by
    /// [`SlotTable::visit_mut`].
    pub const START: Walk = (0, 0);

    /// Shows the entries of some buckets, to be changed but for their keys; where
    /// to go on, if there are more. What is added or moved meanwhile may be left
    /// out or shown twice.
    pub fn visit_mut(
        &mut self,
        (part, bucket): Walk,
        mover: &mut Mover,
        each: impl FnMut(&mut Entry, &mut Mover),
    ) -> Option<Walk> {
        let (table, parts) = match &mut self.large {
            None => (&mut self.small, 1),
            Some(x) => {
                let parts = x.parts.len();
                (&mut x.parts.get_mut(part)?.table, parts)
            }
        };
        if bucket == 0 {
            table.relocate(mover);
        }
        let mut each = each;
        match table.visit_mut(bucket, BUCKETS_AT_ONCE, |e| each(e, mover)) {
            Some(next) => Some((part, next)),
            None => (part + 1 < parts).then_some((part + 1, 0)),
        }
    }

    /// Bytes of the tables themselves.
    pub fn memory(&self) -> usize {
        self.small.memory()
            + self.large.as_ref().map_or(0, |x| {
                x.directory.capacity() * 4 + x.parts.iter().map(|p| size_of::<Part>() + p.table.memory()).sum::<usize>()
            })
    }

    /// A uniformly random entry, in time bounded by [`SPLIT_AT`] plus the
    /// number of parts.
    pub fn random(&self, rng: &mut crate::base::rng::Rng) -> Option<&Entry> {
        let mut n = rng.below(self.len());
        let Some(x) = &self.large else { return self.small.iter().nth(n) };
        for p in &x.parts {
            if n < p.table.len() {
                return p.table.iter().nth(n);
            }
            n -= p.table.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slot::{Key, ORDER_MASK};

    fn name(i: usize) -> Vec<u8> {
        format!("{{tag}}{i}").into_bytes()
    }

    #[test]
    fn a_large_slot_finds_lists_and_forgets_everything() {
        let mut t = SlotTable::default();
        let n = 50_000;
        for i in 0..n {
            let k = name(i);
            t.insert(Key::new(&k).hash, Entry::string(&k, b"v", None));
        }
        assert_eq!(t.len(), n);
        assert_eq!(t.iter().count(), n);
        let mut order = Some(0);
        let mut seen = 0;
        let mut last = 0;
        while let Some(from) = order {
            let next = t.visit_part(from, |e| {
                let at = Key::new(e.key()).hash & ORDER_MASK;
                assert!(at >= from, "a part holds nothing before its first position");
                last = last.max(at);
                seen += 1;
            });
            assert!(next.is_none_or(|x| x > last));
            order = next;
        }
        assert_eq!(seen, n);
        for i in 0..n {
            let k = name(i);
            let hash = Key::new(&k).hash;
            assert!(t.find(hash, &k).is_some());
            assert_eq!(t.remove(hash, &k).unwrap().key(), &k[..]);
            assert!(t.find_mut(hash, &k).is_none());
        }
        assert!(t.is_empty() && t.memory() == 0);
    }
}
