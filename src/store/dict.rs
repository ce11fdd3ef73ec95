//! The hash table of large collections.
//!
//! A small one is a single `hashbrown` table. A large one is extendible: a
//! directory of parts of at most `PART_MAX` items, chosen by the hash bits
//! below the tag bits. A full part splits and two nearly empty buddies merge,
//! so no change ever moves more than one part's items (the directory, four
//! bytes for hundreds of items, is copied when it doubles or halves).
//!
//! Invariants of the extendible form: every directory entry whose leading
//! bits agree with a part's names it; a part of depth `d` stands in
//! `2^(depth-d)` neighbouring entries; no part is deeper than the directory;
//! `len` is the sum of the parts' lengths.
//!
//! Positions of scans are the low 57 bits of items' hashes, visited in
//! ascending order; they outlive every split and merge, so whatever stays
//! present throughout a scan is returned by it.
//!
//! Items know their keys only through the closures that callers pass: a dict
//! may hold indices of items that live elsewhere.
//!
//! While a snapshot reads the dict, its three writing methods save what they
//! change (see [`super::undo`]).

use hashbrown::HashTable;

use super::mover::{Movable, Mover};
use super::scan::end_of_block;
use super::undo;
use crate::base::memory::{block_size, table_block_size};
use crate::base::rng::Rng;

/// Items at which a part splits: the capacity of [`PART_BUCKETS`].
const PART_MAX: usize = 448;
const PART_BUCKETS: usize = 512;

/// Two buddies of together fewer items become one part.
const MERGE_BELOW: usize = PART_MAX / 4;

/// Directory bits at most.
const DEPTH_MAX: u32 = 32;

/// Bits of a hash that make a scan position; the rest are `hashbrown`'s tags.
const POSITION_BITS: u32 = 57;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

/// The scan position of a hash.
#[inline]
pub fn position(hash: u64) -> u64 {
    hash & POSITION_MASK
}

/// See the module's description.
#[derive(Clone)]
pub struct Dict<T> {
    small: HashTable<T>,
    large: Option<Box<Extendible<T>>>,
    undo: undo::Slot<T>,
}

#[derive(Clone)]
struct Extendible<T> {
    directory: Vec<u32>,
    depth: u32,
    parts: Vec<Part<T>>,
    len: usize,
}

#[derive(Clone)]
struct Part<T> {
    table: HashTable<T>,
    depth: u32,
    /// The bits that all hashes of the part begin with.
    prefix: u64,
}

impl<T> Default for Dict<T> {
    fn default() -> Dict<T> {
        Dict { small: HashTable::new(), large: None, undo: undo::Slot(None) }
    }
}

fn shrink<T>(table: &mut HashTable<T>, hash_of: impl Fn(&T) -> u64) {
    if table.capacity() > 28 && table.len() * 8 < table.capacity() {
        table.shrink_to(table.len() * 2, hash_of);
    }
}

/// Directory entries of a part: the first and their number.
fn span(depth: u32, part_depth: u32, prefix: u64) -> std::ops::Range<usize> {
    let width = 1usize << (depth - part_depth);
    let first = prefix as usize * width;
    first..first + width
}

impl<T> Extendible<T> {
    fn new(table: HashTable<T>) -> Extendible<T> {
        let len = table.len();
        Extendible { directory: vec![0], depth: 0, parts: vec![Part { table, depth: 0, prefix: 0 }], len }
    }

    #[inline]
    fn part(&self, hash: u64) -> usize {
        let index = (hash & POSITION_MASK) >> (POSITION_BITS - self.depth);
        self.directory[index as usize] as usize
    }

    fn insert(&mut self, hash: u64, item: T, hash_of: impl Fn(&T) -> u64) {
        let mut at = self.part(hash);
        while self.parts[at].table.len() >= PART_MAX && self.parts[at].depth < DEPTH_MAX {
            self.split(at, &hash_of);
            at = self.part(hash);
        }
        self.len += 1;
        self.parts[at].table.insert_unique(hash, item, hash_of);
    }

    fn split(&mut self, at: usize, hash_of: impl Fn(&T) -> u64) {
        if self.parts[at].depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&p| [p, p]).collect();
            self.depth += 1;
        }
        let depth = self.parts[at].depth + 1;
        let prefix = self.parts[at].prefix << 1;
        let bit = 1u64 << (POSITION_BITS - depth);
        let old = std::mem::take(&mut self.parts[at].table);
        let mut low = HashTable::with_capacity(PART_MAX);
        let mut high = HashTable::with_capacity(PART_MAX);
        for item in old {
            let hash = hash_of(&item);
            let half = if hash & bit == 0 { &mut low } else { &mut high };
            half.insert_unique(hash, item, &hash_of);
        }
        self.parts[at] = Part { table: low, depth, prefix };
        let fresh = self.parts.len() as u32;
        self.parts.push(Part { table: high, depth, prefix: prefix | 1 });
        self.directory[span(self.depth, depth, prefix | 1)].fill(fresh);
    }

    /// Joins a part with its buddy when both are nearly empty.
    fn merge(&mut self, at: usize, hash_of: impl Fn(&T) -> u64) {
        let (depth, prefix) = (self.parts[at].depth, self.parts[at].prefix);
        if depth == 0 {
            return;
        }
        let buddy = self.directory[span(self.depth, depth, prefix ^ 1).start] as usize;
        let together = self.parts[at].table.len() + self.parts[buddy].table.len();
        if self.parts[buddy].depth != depth || together >= MERGE_BELOW {
            return;
        }
        let from = std::mem::take(&mut self.parts[buddy].table);
        let into = &mut self.parts[at];
        for item in from {
            into.table.insert_unique(hash_of(&item), item, &hash_of);
        }
        (into.depth, into.prefix) = (depth - 1, prefix >> 1);
        self.directory[span(self.depth, depth - 1, prefix >> 1)].fill(at as u32);
        self.drop_part(buddy);
        self.halve();
    }

    /// Removes a part that no directory entry names; the last takes its place.
    fn drop_part(&mut self, at: usize) {
        self.parts.swap_remove(at);
        if let Some(moved) = self.parts.get(at) {
            self.directory[span(self.depth, moved.depth, moved.prefix)].fill(at as u32);
        }
    }

    /// Halves a directory that is much larger than its parts need.
    fn halve(&mut self) {
        if self.parts.len() * 8 < self.directory.len() && self.parts.iter().all(|p| p.depth < self.depth) {
            self.directory = self.directory.iter().copied().step_by(2).collect();
            self.depth -= 1;
        }
    }
}

impl<T: Clone> Dict<T> {
    pub fn with_capacity(n: usize) -> Dict<T> {
        Dict { small: HashTable::with_capacity(n.min(PART_MAX)), ..Dict::default() }
    }

    /// Moves what lies behind the items of one part; the next part, if there is
    /// one. The tables themselves stay.
    pub fn relocate(&mut self, part: usize, mover: &mut Mover) -> Option<usize>
    where
        T: Movable,
    {
        let Some(x) = &mut self.large else {
            self.small.iter_mut().for_each(|item| item.relocate(mover));
            return None;
        };
        x.parts.get_mut(part)?.table.iter_mut().for_each(|item| item.relocate(mover));
        (part + 1 < x.parts.len()).then_some(part + 1)
    }

    pub fn undo(&self) -> Option<&undo::Undo<T>> {
        self.undo.0.as_deref()
    }

    pub fn undo_mut(&mut self) -> &mut Option<Box<undo::Undo<T>>> {
        &mut self.undo.0
    }

    /// Calls `f` with all items of a hash.
    pub fn each_of(&self, hash: u64, hash_of: impl Fn(&T) -> u64, f: impl FnMut(&T)) {
        self.table(hash).iter_hash(hash).filter(|item| hash_of(item) == hash).for_each(f);
    }

    /// Calls `f` with the items that may have a hash; only tags are read.
    #[inline]
    pub fn guesses(&self, hash: u64, f: impl FnMut(&T)) {
        self.table(hash).iter_hash(hash).for_each(f);
    }

    /// Saves what stands under a hash, if that is owed to a snapshot.
    #[cold]
    fn save(&mut self, hash: u64, hash_of: impl Fn(&T) -> u64) {
        let Some(mut undo) = self.undo.0.take() else { return };
        if undo.owes(hash) && !undo::omitted(undo::Saving::Element) {
            self.each_of(hash, hash_of, |item| undo.save(item.clone()));
            undo.mark(hash);
        }
        self.undo.0 = Some(undo);
    }

    /// One step of a snapshot's reader: up to `max` saved items, then the next
    /// owed ones; the undo leaves with the last. False when it has left.
    pub fn read_on(&mut self, max: usize, hash_of: impl Fn(&T) -> u64, mut f: impl FnMut(&T)) -> bool {
        let Some(mut undo) = self.undo.0.take() else { return false };
        let mut n = 0;
        while n < max
            && let Some(item) = undo.take_saved()
        {
            f(&item);
            n += 1;
        }
        if n < max
            && let Some(from) = undo.cursor()
        {
            let mut found = Vec::new();
            let next = self.scan(from, max - n, &hash_of, &mut found);
            found.into_iter().filter(|item| undo.owes(hash_of(item))).for_each(f);
            undo.advance(next);
        }
        let more = !undo.is_done();
        if more {
            self.undo.0 = Some(undo);
        } else {
            undo.debt.pay();
        }
        more
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.large.as_ref().map_or(self.small.len(), |x| x.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn table(&self, hash: u64) -> &HashTable<T> {
        match &self.large {
            None => &self.small,
            Some(x) => &x.parts[x.part(hash)].table,
        }
    }

    #[inline]
    fn table_mut(&mut self, hash: u64) -> &mut HashTable<T> {
        match &mut self.large {
            None => &mut self.small,
            Some(x) => {
                let at = x.part(hash);
                &mut x.parts[at].table
            }
        }
    }

    #[inline]
    pub fn find(&self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&T> {
        self.table(hash).find(hash, eq)
    }

    #[inline]
    pub fn find_mut(&mut self, hash: u64, eq: impl FnMut(&T) -> bool, hash_of: impl Fn(&T) -> u64) -> Option<&mut T> {
        if self.undo.0.is_some() {
            self.save(hash, hash_of);
        }
        self.table_mut(hash).find_mut(hash, eq)
    }

    /// Adds an item that is known to be absent.
    #[inline]
    pub fn insert(&mut self, hash: u64, item: T, hash_of: impl Fn(&T) -> u64) {
        if self.undo.0.is_some() {
            self.save(hash, &hash_of);
        }
        if self.large.is_none() && self.small.len() >= PART_MAX {
            self.large = Some(Box::new(Extendible::new(std::mem::take(&mut self.small))));
        }
        match &mut self.large {
            None => {
                self.small.insert_unique(hash, item, hash_of);
            }
            Some(x) => x.insert(hash, item, hash_of),
        }
    }

    pub fn remove(&mut self, hash: u64, eq: impl FnMut(&T) -> bool, hash_of: impl Fn(&T) -> u64) -> Option<T> {
        if self.undo.0.is_some() {
            self.save(hash, &hash_of);
        }
        let table = self.table_mut(hash);
        let (item, _) = table.find_entry(hash, eq).ok()?.remove();
        shrink(table, &hash_of);
        if let Some(x) = &mut self.large {
            x.len -= 1;
            let at = x.part(hash);
            if x.parts[at].table.len() < MERGE_BELOW {
                x.merge(at, hash_of);
            }
            if x.parts.len() == 1 {
                self.small = std::mem::take(&mut x.parts[0].table);
                self.large = None;
            }
        }
        Some(item)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        let parts = self.large.iter().flat_map(|x| x.parts.iter().flat_map(|p| p.table.iter()));
        self.small.iter().chain(parts)
    }

    /// A uniformly random item. Buckets are drawn until one is taken; parts
    /// keep a fill that makes this a few draws.
    pub fn random(&self, rng: &mut Rng) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        loop {
            let (table, buckets) = match &self.large {
                None => (&self.small, self.small.num_buckets()),
                Some(x) => (&x.parts[rng.below(x.parts.len())].table, PART_BUCKETS),
            };
            let at = rng.below(buckets);
            if at < table.num_buckets()
                && let Some(item) = table.get_bucket(at)
            {
                return Some(item);
            }
        }
    }

    /// Visits at least `count` items, if there are, from the position `from`
    /// on; the next position, 0 at the end.
    pub fn scan<'a>(&'a self, from: u64, count: usize, hash_of: impl Fn(&T) -> u64, out: &mut Vec<&'a T>) -> u64 {
        let mut at = from;
        if at > POSITION_MASK {
            return 0;
        }
        while out.len() < count {
            match self.scan_part(at, count, &hash_of, out) {
                0 => return 0,
                next => at = next,
            }
        }
        at
    }

    fn scan_part<'a>(&'a self, from: u64, count: usize, hash_of: impl Fn(&T) -> u64, out: &mut Vec<&'a T>) -> u64 {
        let (table, next) = match &self.large {
            None => (&self.small, 0),
            Some(x) => {
                let part = &x.parts[x.part(from)];
                let next = u128::from(part.prefix + 1) << (POSITION_BITS - part.depth);
                (&part.table, if next > u128::from(POSITION_MASK) { 0 } else { next as u64 })
            }
        };
        let placed = table.iter().map(|item| (hash_of(item) & POSITION_MASK, item));
        let mut found: Vec<(u64, &T)> = placed.filter(|&(at, _)| at >= from).collect();
        let wanted = count - out.len();
        if found.len() <= wanted {
            out.extend(found.iter().map(|&(_, item)| item));
            return next;
        }
        found.sort_unstable_by_key(|&(at, _)| at);
        let last = end_of_block(found[wanted - 1].0);
        let through = found.partition_point(|&(at, _)| at <= last);
        out.extend(found[..through].iter().map(|&(_, item)| item));
        if through == found.len() { next } else { last + 1 }
    }

    /// Bytes of the tables themselves.
    pub fn memory(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |x| {
            let parts = x
                .parts
                .iter()
                .map(|p| size_of::<Part<T>>() + table_block_size(p.table.allocation_size()))
                .sum::<usize>();
            block_size(size_of::<Extendible<T>>()) + block_size(x.directory.capacity() * 4) + parts
        });
        table_block_size(self.small.allocation_size()) + large
    }

    /// Number of tables.
    pub fn tables(&self) -> usize {
        self.large.as_ref().map_or(1, |x| x.parts.len() + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slot::hash_bytes;
    use std::collections::HashSet;

    fn hash(x: &u64) -> u64 {
        hash_bytes(&x.to_le_bytes())
    }

    fn add(d: &mut Dict<u64>, x: u64) {
        d.insert(hash(&x), x, hash);
    }

    fn drop(d: &mut Dict<u64>, x: u64) -> bool {
        d.remove(hash(&x), |y| *y == x, hash).is_some()
    }

    #[test]
    fn grows_and_shrinks_without_losing_anything() {
        let mut d = Dict::default();
        let n = 40_000;
        (0..n).for_each(|x| add(&mut d, x));
        assert_eq!(d.len(), n as usize);
        assert_eq!(d.iter().collect::<HashSet<_>>().len(), n as usize);
        for x in 0..n {
            assert!(d.find(hash(&x), |y| *y == x).is_some());
            assert!(drop(&mut d, x) && !drop(&mut d, x));
            if x % 1000 == 0 {
                assert!((x + 1..n).all(|y| d.find(hash(&y), |z| *z == y).is_some()));
                let buckets = d.large.as_ref().map_or(0, |l| l.parts.len() * PART_BUCKETS);
                assert!(buckets < 16 * d.len().max(PART_BUCKETS), "random stays a matter of a few draws");
            }
        }
        assert!(d.is_empty() && d.large.is_none());
    }

    #[test]
    fn random_is_uniform() {
        let mut rng = Rng::new(7);
        for n in [3u64, 100, 2000] {
            let mut d = Dict::default();
            (0..n).for_each(|x| add(&mut d, x));
            let rounds = 200 * n;
            let mut hits = vec![0u64; n as usize];
            (0..rounds).for_each(|_| hits[*d.random(&mut rng).unwrap() as usize] += 1);
            let chi: f64 = hits.iter().map(|&h| (h as f64 - 200.0).powi(2) / 200.0).sum();
            assert!(chi < n as f64 + 30.0 + 6.0 * (2.0 * n as f64).sqrt(), "chi square {chi} of {n}");
        }
    }

    #[test]
    fn whatever_stays_is_scanned_under_growth_and_shrinkage() {
        for grow in [true, false] {
            let mut d = Dict::default();
            (0..3000).for_each(|x| add(&mut d, x));
            if !grow {
                (10_000..60_000).for_each(|x| add(&mut d, x));
            }
            let (mut seen, mut cursor, mut extra) = (HashSet::new(), 0, 10_000u64);
            loop {
                let mut out = Vec::new();
                cursor = d.scan(cursor, 10, hash, &mut out);
                seen.extend(out.into_iter().copied());
                if cursor == 0 {
                    break;
                }
                for x in extra..(extra + 200).min(60_000) {
                    if grow {
                        add(&mut d, x);
                    } else {
                        drop(&mut d, x);
                    }
                }
                extra += 200;
            }
            assert!((0..3000).all(|x| seen.contains(&x)));
        }
    }
}
