//! A hash table of entries, made for one cache miss per look-up.
//!
//! Buckets of one cache line: seven words, each an entry's address with 16
//! hash bits (its *tag*) above it, and a count of entries that would have
//! liked to be in this bucket or before but found it full. A look-up reads the
//! home bucket and goes on only while that count is not zero; so removing
//! leaves no tombstones.
//!
//! The tag alone decides the home bucket, whatever the number of buckets, so
//! growing reads no entry: it moves words only. Sizes follow the allocator's
//! size classes (four per doubling), so little is lost to rounding.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::ahead::prefetch;
use super::entry::Entry;
use super::mover::Mover;

/// Entries of one bucket.
pub const WIDTH: usize = 7;

/// Buckets at most: the tag's 16 bits must tell them apart well.
const BUCKETS_MAX: usize = 512;

/// Entries of a table at most.
pub const ENTRIES_MAX: usize = BUCKETS_MAX * 6;

#[repr(C, align(64))]
struct Bucket {
    words: [Option<Entry>; WIDTH],
    /// Entries that passed this bucket because it was full.
    passed: u64,
}

impl Bucket {
    /// The words whose tag this is, without a branch per word; free words count
    /// as tag 0.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    fn hits(&self, tag: u16) -> Hits {
        use std::arch::x86_64::*;
        // SAFETY: reads the 64 bytes of this bucket, aligned to as many; every
        // bit pattern is a vector of integers.
        let lines = unsafe { &*std::ptr::from_ref(self).cast::<[__m128i; 4]>() };
        // SAFETY: x86-64 has these instructions.
        let found = unsafe {
            let tags = _mm_set1_epi16(tag as i16);
            let [a, b, c, d] = lines.map(|l| _mm_cmpeq_epi16(l, tags));
            // A byte for each 16 bits, then a bit for each byte.
            let (low, high) = (_mm_packs_epi16(a, b), _mm_packs_epi16(c, d));
            _mm_movemask_epi8(low) as u32 | (_mm_movemask_epi8(high) as u32) << 16
        };
        Hits(found & Hits::TAGS)
    }

    #[inline]
    #[cfg(not(target_arch = "x86_64"))]
    fn hits(&self, tag: u16) -> Hits {
        let has = |w: &Option<Entry>| w.as_ref().map_or(0, Entry::tag) == tag;
        Hits(self.words.iter().enumerate().map(|(i, w)| u32::from(has(w)) << (4 * i + 3)).sum())
    }
}

/// Words of a bucket, in their order: bit 4 i + 3 is set for word i, where its
/// tag lies among sixteen bits each.
#[derive(Clone, Copy)]
struct Hits(u32);

impl Hits {
    /// The bits of all words; the eighth is the count.
    const TAGS: u32 = 0x0888_8888;
}

impl Iterator for Hits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let at = self.0.trailing_zeros() as usize / 4;
        self.0 &= self.0 - 1;
        Some(at)
    }
}

/// See the module's description. All zeros are an empty table.
pub struct Buckets {
    /// Null when `n` is 0.
    first: *mut Bucket,
    n: u32,
    len: u32,
    owns: PhantomData<Bucket>,
}

// SAFETY: the table owns its entries, which may be sent.
unsafe impl Send for Buckets {}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets { first: std::ptr::null_mut(), n: 0, len: 0, owns: PhantomData }
    }
}

/// The tag of a hash: bits 5 to 20. Those above choose the part of a large
/// slot (`table`), the lowest are left to nobody.
#[inline]
pub fn tag_of(hash: u64) -> u16 {
    (hash >> 5) as u16
}

/// The next size: four per doubling. mimalloc aligns what is not a power of two
/// by asking itself for 63 bytes more; one bucket less than the size class
/// (bytes: 320, 384, 640, 768, 896, 1280 ...) makes room for them, where a full
/// one would take the next class.
fn next_size(n: usize) -> usize {
    if n < 4 {
        return (2 * n).max(1);
    }
    let power = 1 << n.ilog2();
    let quarter = power / 4;
    let steps = (n + 1 - power) / quarter + 1;
    match power + steps * quarter - 1 {
        // A step of one bucket is nothing with one bucket less.
        next if next <= n => next + quarter,
        next if next + 1 == 2 * power => next + 1,
        next => next,
    }
}

/// The smallest size that holds `len` entries.
fn size_for(len: usize) -> usize {
    let mut n = usize::from(len > 0);
    while capacity(n) < len {
        n = next_size(n);
    }
    n
}

/// Entries at which `n` buckets count as full; a single one may be so.
#[inline]
fn capacity(n: usize) -> usize {
    if n <= 1 { n * WIDTH } else { n * 6 }
}

impl Buckets {
    fn with_buckets(n: usize) -> Buckets {
        if n == 0 {
            return Buckets::default();
        }
        let layout = Buckets::layout(n);
        // SAFETY: the layout's size is not zero. All-zero buckets are valid:
        // `None` of the pointer type is zero, and so is the count.
        let first = unsafe { alloc_zeroed(layout) }.cast::<Bucket>();
        if first.is_null() {
            handle_alloc_error(layout);
        }
        Buckets { first, n: n as u32, len: 0, owns: PhantomData }
    }

    fn layout(n: usize) -> Layout {
        Layout::array::<Bucket>(n).expect("at most BUCKETS_MAX buckets")
    }

    #[inline]
    fn slice(&self) -> &[Bucket] {
        if self.n == 0 {
            return &[];
        }
        // SAFETY: `n` initialised buckets begin at `first`.
        unsafe { std::slice::from_raw_parts(self.first, self.n as usize) }
    }

    #[inline]
    fn slice_mut(&mut self) -> &mut [Bucket] {
        if self.n == 0 {
            return &mut [];
        }
        // SAFETY: as in `slice`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.n as usize) }
    }

    #[inline]
    fn home(&self, tag: u16) -> usize {
        (usize::from(tag) * self.n as usize) >> 16
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.n as usize { 0 } else { at + 1 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the buckets.
    pub fn memory(&self) -> usize {
        self.n as usize * size_of::<Bucket>()
    }

    /// Where an accepted entry with this tag is: bucket and word.
    #[inline]
    fn locate(&self, tag: u16, mut accept: impl FnMut(&Entry) -> bool) -> Option<(usize, usize)> {
        let buckets = self.slice();
        if buckets.is_empty() {
            return None;
        }
        let mut at = self.home(tag);
        for _ in 0..buckets.len() {
            let b = &buckets[at];
            for i in b.hits(tag) {
                if b.words[i].as_ref().is_some_and(&mut accept) {
                    return Some((at, i));
                }
            }
            if b.passed == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// An entry with the tag of `hash` that `accept` takes.
    #[inline]
    pub fn find(&self, hash: u64, accept: impl FnMut(&Entry) -> bool) -> Option<&Entry> {
        let (at, i) = self.locate(tag_of(hash), accept)?;
        self.slice()[at].words[i].as_ref()
    }

    #[inline]
    pub fn find_mut(&mut self, hash: u64, accept: impl FnMut(&Entry) -> bool) -> Option<&mut Entry> {
        let (at, i) = self.locate(tag_of(hash), accept)?;
        self.slice_mut()[at].words[i].as_mut()
    }

    /// Prefetches the home bucket of a hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let at = self.home(tag_of(hash));
        prefetch(self.first.wrapping_add(at).cast());
    }

    /// Prefetches the entries in the home bucket that have the tag of a hash.
    #[inline]
    pub fn prefetch_entries(&self, hash: u64) {
        let tag = tag_of(hash);
        if let Some(b) = self.slice().get(self.home(tag)) {
            for i in b.hits(tag) {
                if let Some(e) = &b.words[i] {
                    prefetch(e.address());
                    prefetch(e.address().wrapping_add(64));
                }
            }
        }
    }

    /// The first entry in the home bucket that has the tag of a hash: likely
    /// the one of that hash.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<&Entry> {
        let tag = tag_of(hash);
        let b = self.slice().get(self.home(tag))?;
        b.words[b.hits(tag).next()?].as_ref()
    }

    /// Shows the entries of the first bucket that has any, from the home
    /// bucket of a hash on.
    pub fn visit_bucket(&self, hash: u64, mut each: impl FnMut(&Entry)) {
        let buckets = self.slice();
        if buckets.is_empty() {
            return;
        }
        let mut at = self.home(tag_of(hash));
        for _ in 0..buckets.len() {
            let mut seen = false;
            for e in buckets[at].words.iter().flatten() {
                seen = true;
                each(e);
            }
            if seen {
                return;
            }
            at = self.after(at);
        }
    }

    /// Prefetches all entries of the home bucket of a hash.
    pub fn prefetch_all_of_bucket(&self, hash: u64) {
        if let Some(b) = self.slice().get(self.home(tag_of(hash))) {
            b.words.iter().flatten().for_each(|e| prefetch(e.address()));
        }
    }

    /// Makes room for `len` entries in all, as far as one table has it.
    #[inline]
    pub fn expect(&mut self, len: usize) {
        if len > capacity(self.n as usize) {
            self.resize(size_for(len.min(ENTRIES_MAX)));
        }
    }

    /// Adds an entry whose key is not present.
    pub fn insert(&mut self, hash: u64, mut entry: Entry) -> &mut Entry {
        if self.len() >= capacity(self.n as usize) {
            self.resize(next_size(self.n as usize).min(BUCKETS_MAX));
        }
        assert!(self.len() < BUCKETS_MAX * WIDTH, "a table is split before it is full");
        entry.set_tag(tag_of(hash));
        let (at, i) = self.place(entry);
        self.slice_mut()[at].words[i].as_mut().expect("just placed")
    }

    /// Puts an entry with its tag into the first free word from its home on.
    fn place(&mut self, entry: Entry) -> (usize, usize) {
        let mut at = self.home(entry.tag());
        self.len += 1;
        loop {
            let b = &mut self.slice_mut()[at];
            if let Some(i) = b.words.iter().position(Option::is_none) {
                b.words[i] = Some(entry);
                return (at, i);
            }
            b.passed += 1;
            at = self.after(at);
        }
    }

    /// Removes the entry with the tag of `hash` that `accept` takes.
    pub fn remove(&mut self, hash: u64, accept: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let tag = tag_of(hash);
        let (at, i) = self.locate(tag, accept)?;
        let entry = self.slice_mut()[at].words[i].take();
        let mut b = self.home(tag);
        while b != at {
            self.slice_mut()[b].passed -= 1;
            b = self.after(b);
        }
        self.len -= 1;
        self.shrink();
        entry
    }

    /// Gives memory back when much of it is unused.
    fn shrink(&mut self) {
        if self.len == 0 {
            *self = Buckets::default();
        } else if self.n > 2 && self.len() * 3 < capacity(self.n as usize) {
            self.resize(size_for(self.len() * 3 / 2));
        }
    }

    /// Moves all words into `n` buckets; no entry is read.
    fn resize(&mut self, n: usize) {
        let mut fresh = Buckets::with_buckets(n);
        for b in self.slice_mut() {
            for w in &mut b.words {
                if let Some(e) = w.take() {
                    fresh.place(e);
                }
            }
        }
        self.len = 0;
        std::mem::swap(self, &mut fresh);
    }

    /// Moves the buckets themselves if they lie where much is free.
    pub fn relocate(&mut self, mover: &mut Mover) {
        let Some(first) = NonNull::new(self.first.cast::<u8>()) else { return };
        // SAFETY: the buckets are ours and have this layout, which is not empty
        // where there is an address.
        if let Some(moved) = unsafe { mover.block(first, Buckets::layout(self.n as usize)) } {
            self.first = moved.as_ptr().cast();
        }
    }

    /// Shows the entries of `count` buckets from the one numbered `from` on, to be
    /// changed but for their keys; the bucket to go on with, if there is one.
    pub fn visit_mut(&mut self, from: usize, count: usize, mut each: impl FnMut(&mut Entry)) -> Option<usize> {
        let all = self.slice_mut();
        let end = (from + count).min(all.len());
        if let Some(some) = all.get_mut(from..end) {
            let words = || some.iter().flat_map(|b| b.words.iter().flatten());
            words().for_each(|e| prefetch(e.address()));
            some.iter_mut().flat_map(|b| b.words.iter_mut().flatten()).for_each(&mut each);
        }
        (end < self.n as usize).then_some(end)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slice().iter().flat_map(|b| b.words.iter().flatten())
    }

    /// Empties the table.
    pub fn drain(&mut self) -> Vec<Entry> {
        let mut out = Vec::with_capacity(self.len());
        for b in self.slice_mut() {
            out.extend(b.words.iter_mut().filter_map(Option::take));
        }
        *self = Buckets::default();
        out
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        if self.n == 0 {
            return;
        }
        if self.len > 0 {
            for b in self.slice_mut() {
                b.words.iter_mut().for_each(|w| drop(w.take()));
            }
        }
        // SAFETY: allocated with this layout; nothing uses it afterwards.
        unsafe { dealloc(self.first.cast(), Buckets::layout(self.n as usize)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slot::Key;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_bucket_is_a_cache_line_and_sizes_follow_the_allocator() {
        assert_eq!((size_of::<Bucket>(), size_of::<Buckets>()), (64, 16));
        let mut n = 1;
        let mut sizes = vec![n];
        while n < 64 {
            n = next_size(n);
            sizes.push(n);
        }
        assert_eq!(sizes, [1, 2, 4, 5, 6, 8, 9, 11, 13, 16, 19, 23, 27, 32, 39, 47, 55, 64]);
    }

    #[test]
    fn room_is_made_once_and_never_taken_away() {
        for expected in [0, 1, 7, 8, 100, 3072, usize::MAX] {
            let mut t = Buckets::default();
            t.expect(expected);
            let room = t.memory();
            assert!(room <= BUCKETS_MAX * size_of::<Bucket>());
            for i in 0..expected.min(ENTRIES_MAX) {
                t.expect(expected);
                let key = format!("key{i}").into_bytes();
                t.insert(Key::new(&key).hash, Entry::string(&key, b"v", None));
                assert_eq!(t.memory(), room, "{i} of {expected}");
            }
            let len = t.len();
            t.expect(3);
            assert!(t.len() == len && t.iter().count() == len && t.memory() >= room);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(ops in proptest::collection::vec((0u16..400, any::<bool>()), 1..1500)) {
            let mut t = Buckets::default();
            let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
            for (i, (k, add)) in ops.into_iter().enumerate() {
                let key = format!("key{k}").into_bytes();
                let hash = Key::new(&key).hash;
                let same = |e: &Entry| e.key() == key;
                let value = i.to_string().into_bytes();
                match t.find_mut(hash, same) {
                    Some(e) if add => e.set_string(&value),
                    None if add => { t.insert(hash, Entry::string(&key, &value, None)); }
                    found => prop_assert_eq!(found.is_some(), model.contains_key(&key)),
                }
                if add {
                    model.insert(key.clone(), value);
                } else {
                    prop_assert_eq!(t.remove(hash, |e| e.key() == key).is_some(), model.remove(&key).is_some());
                }
                prop_assert_eq!(t.len(), model.len());
            }
            for (k, v) in &model {
                let found = t.find(Key::new(k).hash, |e| e.key() == k).and_then(|e| e.as_str());
                prop_assert_eq!(found, Some(&v[..]));
            }
            prop_assert_eq!(t.iter().count(), model.len());
        }
    }
}
