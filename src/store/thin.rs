//! Bytes behind a single pointer: their length stands in the bytes themselves,
//! and their capacity follows from it. Millions of small collections pay eight
//! bytes for theirs instead of a vector's twenty-four.
//!
//! Invariants: the pointer owns an allocation of [`capacity_for`] of the length
//! that [`Told::len`] reads from it; the first [`HEAD`] bytes are initialised.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::mover::Mover;
use crate::base::memory::block_size;

/// Bytes at the beginning that [`Told`] may look at.
pub const HEAD: usize = 8;

/// A format whose bytes tell how many they are.
pub trait Told {
    /// The length that stands in the first bytes.
    fn len(head: &[u8; HEAD]) -> usize;
    /// Writes the length there.
    fn tell(head: &mut [u8; HEAD], len: usize);
}

/// See the module's description. Not aligned, so that an enum of such pointers
/// needs a single byte more.
#[repr(Rust, packed)]
pub struct Thin<T: Told>(NonNull<u8>, PhantomData<T>);

// SAFETY: it owns its bytes.
unsafe impl<T: Told> Send for Thin<T> {}
// SAFETY: shared, it gives out shared references only.
unsafe impl<T: Told> Sync for Thin<T> {}

/// The bytes that the allocator has for so many.
fn capacity_for(len: usize) -> usize {
    block_size(len.max(HEAD))
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(capacity_for(len), 1).expect("far below the largest size")
}

impl<T: Told> Thin<T> {
    /// A copy of bytes that tell their own length.
    pub fn new(bytes: &[u8]) -> Thin<T> {
        let layout = layout(bytes.len());
        // SAFETY: the size is not zero; as many bytes are copied as there are,
        // and the head is initialised whole.
        let p = unsafe {
            let Some(p) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            p.as_ptr().write_bytes(0, HEAD);
            p.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            p
        };
        let thin = Thin(p, PhantomData);
        assert_eq!(thin.len(), bytes.len(), "the bytes tell another length than theirs");
        thin
    }

    fn head(&mut self) -> &mut [u8; HEAD] {
        let p = self.0;
        // SAFETY: every allocation has this many bytes, initialised.
        unsafe { p.cast::<[u8; HEAD]>().as_mut() }
    }

    #[inline]
    fn told(&self) -> usize {
        let p = self.0;
        // SAFETY: as above.
        T::len(unsafe { p.cast::<[u8; HEAD]>().as_ref() })
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        capacity_for(self.told())
    }

    /// Makes it longer by zeros, or shorter; the head tells so at once.
    pub fn resize(&mut self, len: usize) {
        let old = self.told();
        if capacity_for(old) != capacity_for(len) {
            self.reallocate(old, len);
        }
        if len > old {
            let p = self.0;
            // SAFETY: the allocation has room for `len` bytes.
            unsafe { p.as_ptr().add(old).write_bytes(0, len - old) };
        }
        T::tell(self.head(), len);
    }

    fn reallocate(&mut self, old: usize, len: usize) {
        let p = self.0;
        let new = layout(len);
        // SAFETY: the block has the old length's layout; the new size is not zero.
        let moved = unsafe { realloc(p.as_ptr(), layout(old), new.size()) };
        let Some(moved) = NonNull::new(moved) else { handle_alloc_error(new) };
        self.0 = moved;
    }
}

impl<T: Told> Thin<T> {
    /// Moves the bytes if they lie where much is free.
    pub(super) fn relocate(&mut self, mover: &mut Mover) {
        let p = self.0;
        let layout = layout(self.told());
        // SAFETY: the block is ours and has this layout; the head, and as many
        // bytes as it tells of, are initialised.
        if let Some(moved) = unsafe { mover.block(p, layout) } {
            self.0 = moved;
        }
    }
}

impl<T: Told> Deref for Thin<T> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let p = self.0;
        // SAFETY: so many bytes are there, all initialised.
        unsafe { std::slice::from_raw_parts(p.as_ptr(), self.told()) }
    }
}

impl<T: Told> DerefMut for Thin<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let p = self.0;
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(p.as_ptr(), self.told()) }
    }
}

impl<T: Told> Clone for Thin<T> {
    fn clone(&self) -> Thin<T> {
        Thin::new(self)
    }
}

impl<T: Told> Drop for Thin<T> {
    fn drop(&mut self) {
        let p = self.0;
        // SAFETY: the block is ours and has this layout.
        unsafe { dealloc(p.as_ptr(), layout(self.told())) };
    }
}

/// A box that is not aligned; see [`Thin`].
#[repr(Rust, packed)]
pub struct Lean<T>(NonNull<T>);

// SAFETY: it owns its value.
unsafe impl<T: Send> Send for Lean<T> {}
// SAFETY: shared, it gives out shared references only.
unsafe impl<T: Sync> Sync for Lean<T> {}

impl<T> Lean<T> {
    pub fn new(value: T) -> Lean<T> {
        Lean(NonNull::from(Box::leak(Box::new(value))))
    }
}

impl<T> Lean<T> {
    /// Moves the value if it lies where much is free; not what it points to.
    pub(super) fn relocate(&mut self, mover: &mut Mover) {
        let p = self.0;
        // SAFETY: the pointer is a leaked box's.
        if let Some(moved) = unsafe { mover.block(p.cast(), Layout::new::<T>()) } {
            self.0 = moved.cast();
        }
    }
}

impl<T> Deref for Lean<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let p = self.0;
        // SAFETY: the pointer is a leaked box's and lives as long as this.
        unsafe { p.as_ref() }
    }
}

impl<T> DerefMut for Lean<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let mut p = self.0;
        // SAFETY: as above, and borrowed exclusively.
        unsafe { p.as_mut() }
    }
}

impl<T: Clone> Clone for Lean<T> {
    fn clone(&self) -> Lean<T> {
        Lean::new((**self).clone())
    }
}

impl<T> Drop for Lean<T> {
    fn drop(&mut self) {
        let p = self.0;
        // SAFETY: the box was leaked by `new` and is given back once.
        drop(unsafe { Box::from_raw(p.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;
    impl Told for Plain {
        fn len(head: &[u8; HEAD]) -> usize {
            u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize
        }
        fn tell(head: &mut [u8; HEAD], len: usize) {
            head[..4].copy_from_slice(&(len as u32).to_le_bytes());
        }
    }

    #[test]
    fn lengths_come_and_go() {
        let mut t: Thin<Plain> = Thin::new(&[5, 0, 0, 0, 9]);
        let mut rng = crate::base::rng::Rng::new(3);
        let mut model = t.to_vec();
        for _ in 0..5000 {
            let most = if rng.below(9) == 0 { 20_000 } else { 300 };
            let n = 4 + rng.below(most);
            t.resize(n);
            model.resize(n, 0);
            model[..4].copy_from_slice(&(n as u32).to_le_bytes());
            if n > 4 {
                let at = 4 + rng.below(n - 4);
                t[at] = at as u8;
                model[at] = at as u8;
            }
            assert_eq!(*t, model);
            assert!(t.memory() >= n);
            assert_eq!(*t.clone(), model);
        }
    }

    #[test]
    fn an_enum_of_them_is_small() {
        enum Either {
            A(Thin<Plain>),
            B(Lean<u64>),
        }
        assert_eq!(size_of::<Either>(), 9);
        let b = Either::B(Lean::new(7));
        assert!(matches!(&b, Either::B(n) if **n == 7));
        let a = Either::A(Thin::new(&[4, 0, 0, 0]));
        assert!(matches!(&a, Either::A(t) if t.len() == 4));
    }
}
