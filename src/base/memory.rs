//! The allocator: mimalloc, with a count of the bytes in use.
//!
//! Each thread counts for itself; a thread's count is added to the total when
//! it has moved by more than [`SLACK`], so the total is that exact.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

use mimalloc::MiMalloc;

/// Bytes that a thread's count may be ahead of the total.
pub const SLACK: isize = 16 * 1024;

static TOTAL: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static LOCAL: Cell<isize> = const { Cell::new(0) };
}

/// Bytes in use by the process's data, within [`SLACK`] per thread.
pub fn used() -> usize {
    TOTAL.load(Ordering::Relaxed).max(0) as usize
}

/// [`used`], with all that the calling thread has counted.
#[inline]
pub fn used_here() -> usize {
    let own = LOCAL.try_with(Cell::get).unwrap_or(0);
    (TOTAL.load(Ordering::Relaxed) + own).max(0) as usize
}

/// Adds the calling thread's count to the total.
#[inline]
pub fn settle() {
    let own = LOCAL.try_with(|c| c.replace(0)).unwrap_or(0);
    if own != 0 {
        TOTAL.fetch_add(own, Ordering::Relaxed);
    }
}

#[inline]
fn count(delta: isize) {
    let _ = LOCAL.try_with(|c| {
        let n = c.get() + delta;
        if n.abs() < SLACK {
            c.set(n);
        } else {
            c.set(0);
            TOTAL.fetch_add(n, Ordering::Relaxed);
        }
    });
}

/// The size that mimalloc gives for a request: what the memory really costs.
/// Its bins: multiples of 8 bytes up to 64, then four per doubling; large ones
/// in whole pages.
#[inline]
fn rounded(size: usize) -> isize {
    let rounded = match size {
        0..=64 => (size + 7) & !7,
        65..=131_072 => {
            let shift = usize::BITS - 1 - (size - 1).leading_zeros();
            let step = 1usize << (shift - 2);
            (size + step - 1) & !(step - 1)
        }
        _ => (size + 4095) & !4095,
    };
    rounded.max(8) as isize
}

/// The same with an alignment: what is not a power of two is aligned by asking
/// for more.
#[inline]
fn cost(layout: Layout) -> isize {
    let size = layout.size();
    let slack = if layout.align() <= 8 || size.is_power_of_two() { 0 } else { layout.align() - 1 };
    rounded(size + slack)
}

/// Every block of mimalloc is aligned to this (`MI_MAX_ALIGN_SIZE` in
/// `.cargo/config.toml`).
const NATURAL: usize = 8;

/// The global allocator.
///
/// Requests of natural alignment go to the plain functions: the aligned ones
/// ask for 7 bytes more whenever a size is no power of two (an entry of 56 bytes
/// would cost 64), and never take the short path.
pub struct Counted;

// SAFETY: every call is passed on to mimalloc with its size, and its alignment
// where that is not what mimalloc gives anyway; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    // SAFETY: the caller's promise is what mimalloc asks for.
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(cost(layout));
        if layout.align() <= NATURAL {
            // SAFETY: takes any size.
            return unsafe { libmimalloc_sys::mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc(layout) }
    }

    // SAFETY: the caller's promise is what mimalloc asks for.
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(cost(layout));
        if layout.align() <= NATURAL {
            // SAFETY: takes any size.
            return unsafe { libmimalloc_sys::mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    // SAFETY: the caller's promise is what mimalloc asks for.
    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-cost(layout));
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    // SAFETY: the caller's promise is what mimalloc asks for.
    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is valid with this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        count(cost(new) - cost(layout));
        if layout.align() <= NATURAL {
            // SAFETY: the block is mimalloc's; the size may be any.
            return unsafe { libmimalloc_sys::mi_realloc(ptr.cast(), new_size) }.cast();
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.realloc(ptr, layout, new_size) }
    }
}

/// Name and version of the allocator, as INFO shows them.
pub fn allocator() -> String {
    // SAFETY: reads a constant of the library.
    let v = unsafe { libmimalloc_sys::mi_version() };
    format!("mimalloc-{}.{}.{}", v / 100, v / 10 % 10, v % 10)
}

/// Resident bytes of the process.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Gives free memory back to the system where possible (MEMORY PURGE).
pub fn purge() {
    // SAFETY: may be called at any time; acts on the calling thread's heap.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size classes that the entries' layout counts on (`.cargo/config.toml`).
    #[test]
    fn small_sizes_cost_what_they_are() {
        for size in 1..=1024usize {
            // SAFETY: computes a number.
            let good = unsafe { libmimalloc_sys::mi_good_size(size) };
            assert_eq!(rounded(size), good as isize, "{size} bytes");
        }
    }
}
