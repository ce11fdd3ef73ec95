//! Loading ahead what the commands of a batch will look at.
//!
//! Nothing here compares keys: what is loaded is what a hash leads to most
//! likely, and whoever looks it up afterwards decides. Each step reads what the
//! step before it asked for, so that the latencies of a batch overlap.

use super::Store;
use super::entry::Entry;
use super::member::{Member, Pair};
use super::object::Object;

/// Asks the processor to load the cache line at `p`.
#[inline]
pub fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// How far the elements of a batch have been followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// To their places in the hash table.
    Place,
    /// To the bytes that a place refers to.
    Bytes,
}

/// The keys of one command that are loaded together.
pub const KEYS: usize = 32;

impl Store {
    /// Prefetches the entries of the keys with these hashes, at most [`KEYS`].
    pub fn prefetch_keys(&self, db: usize, hashes: &[u64]) {
        hashes.iter().for_each(|&h| self.prefetch_table(db, h));
        hashes.iter().for_each(|&h| self.prefetch_bucket(db, h));
        hashes.iter().for_each(|&h| self.prefetch_entry(db, h));
    }

    /// Prefetches the collection under the key of `hash`; its entry should be
    /// there by now.
    #[inline]
    pub fn prefetch_object(&self, db: usize, hash: u64) {
        if let Some(o) = self.guess(db, hash) {
            prefetch(std::ptr::from_ref(o).cast());
        }
    }

    /// Prefetches an element, by its own hash, of the collection under the key
    /// of `hash`.
    #[inline]
    pub fn prefetch_element(&self, db: usize, hash: u64, element: u64, depth: Depth) {
        match self.guess(db, hash) {
            Some(Object::Set(s)) => s.prefetch(element, depth),
            Some(Object::Hash(h)) => h.prefetch(element, depth),
            Some(Object::ZSet(z)) => z.prefetch(element, depth),
            _ => {}
        }
    }

    #[inline]
    fn guess(&self, db: usize, hash: u64) -> Option<&Object> {
        self.db(db)?.guess(hash).and_then(Entry::as_object)
    }
}

/// The place of a member or pair, or the bytes it refers to.
#[inline]
pub(super) fn follow<T>(item: &T, bytes: impl Fn(&T) -> Option<*const u8>, depth: Depth) {
    match depth {
        Depth::Place => prefetch(std::ptr::from_ref(item).cast()),
        Depth::Bytes => bytes(item).into_iter().for_each(prefetch),
    }
}

/// Where the bytes of a member lie, if apart from it.
#[inline]
pub(super) fn member_bytes(m: &Member) -> Option<*const u8> {
    if let Member::Heap(b) = m { Some(b.as_ptr()) } else { None }
}

/// Where the bytes of a pair lie, if apart from it.
#[inline]
pub(super) fn pair_bytes(p: &Pair) -> Option<*const u8> {
    if let Pair::Heap { bytes, .. } = p { Some(bytes.as_ptr()) } else { None }
}
