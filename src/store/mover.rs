//! Moving blocks of memory out of pages of the allocator that are mostly free.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

use crate::base::sparse::is_sparse;

/// How far a collection has been gone through; 0 is its beginning. What it counts
/// is the collection's own affair. A collection that has changed since may be gone
/// through in part, or in part twice.
pub type Spot = u128;

/// A place that is a number of elements, nodes or parts.
pub fn index(place: Spot) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Decides what is moved, and counts it.
pub struct Mover {
    wanted: fn(*const u8) -> bool,
    /// Blocks moved, and blocks that lie well.
    pub hits: u64,
    pub misses: u64,
}

impl Default for Mover {
    fn default() -> Mover {
        Mover { wanted: is_sparse, hits: 0, misses: 0 }
    }
}

impl Mover {
    /// Moves everything, for tests.
    #[cfg(test)]
    pub fn of_all() -> Mover {
        Mover { wanted: |_| true, ..Mover::default() }
    }

    fn wants(&mut self, block: *const u8) -> bool {
        let wanted = (self.wanted)(block);
        self.hits += u64::from(wanted);
        self.misses += u64::from(!wanted);
        wanted
    }

    /// The new place of a block, which is a copy of the old one bit by bit; `None`
    /// if it stays. The old one is freed.
    ///
    /// # Safety
    /// The block was allocated with `layout`, whose size is not zero, and its owner
    /// uses nothing but what is returned from now on.
    pub unsafe fn block(&mut self, block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
        if !self.wants(block.as_ptr()) {
            return None;
        }
        // SAFETY: the size is not zero. What is copied need not be initialised:
        // bytes are copied as they are.
        unsafe {
            let fresh = NonNull::new(alloc(layout))?;
            fresh.as_ptr().copy_from_nonoverlapping(block.as_ptr(), layout.size());
            dealloc(block.as_ptr(), layout);
            Some(fresh)
        }
    }

    /// Moves what a box holds; not what that points to.
    pub fn boxed<T>(&mut self, b: &mut Box<T>) {
        let layout = Layout::new::<T>();
        if layout.size() == 0 {
            return;
        }
        let old = std::ptr::from_mut::<T>(b).cast::<u8>();
        // SAFETY: the box's block has this layout. When it has moved, the box is
        // overwritten by one of the new block without being dropped.
        unsafe {
            if let Some(moved) = self.block(NonNull::new_unchecked(old), layout) {
                std::ptr::write(b, Box::from_raw(moved.as_ptr().cast::<T>()));
            }
        }
    }

    /// Moves bytes.
    pub fn bytes(&mut self, b: &mut Box<[u8]>) {
        if !b.is_empty() && self.wants(b.as_ptr()) {
            *b = b.clone();
        }
    }

    /// Moves a vector with the room that it has.
    pub fn vec<T>(&mut self, v: &mut Vec<T>) {
        if v.capacity() > 0 && size_of::<T>() > 0 && self.wants(v.as_ptr().cast()) {
            let mut fresh = Vec::with_capacity(v.capacity());
            fresh.append(v);
            *v = fresh;
        }
    }
}

/// What has memory behind it that can be moved.
pub trait Movable {
    fn relocate(&mut self, mover: &mut Mover);
}

/// Numbers have none.
impl Movable for u32 {
    fn relocate(&mut self, _: &mut Mover) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_stay_and_places_change() {
        let mut m = Mover::of_all();
        let mut b = Box::new((7u64, String::from("behind it")));
        let mut bytes: Box<[u8]> = b"bytes of some length".as_slice().into();
        let mut v: Vec<String> = Vec::with_capacity(9);
        v.push("element".into());
        let (b0, bytes0, v0) = (&raw const *b, bytes.as_ptr(), v.as_ptr());
        m.boxed(&mut b);
        m.bytes(&mut bytes);
        m.vec(&mut v);
        assert_eq!((b.0, b.1.as_str(), &*bytes), (7, "behind it", &b"bytes of some length"[..]));
        assert_eq!((v.len(), v[0].as_str(), v.capacity()), (1, "element", 9));
        assert!(&raw const *b != b0 && bytes.as_ptr() != bytes0 && v.as_ptr() != v0);
        assert_eq!((m.hits, m.misses), (3, 0));
        m.bytes(&mut Box::default());
        m.vec(&mut Vec::<u8>::new());
        assert_eq!(m.hits, 3, "what has no block is not moved");
    }
}
