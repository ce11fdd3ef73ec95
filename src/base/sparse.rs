//! Fragmentation of the allocator's memory: how much there is, and which blocks
//! lie where much is free.
//!
//! mimalloc keeps blocks of one size in pages of 64 KiB and more. A page goes back
//! to the system when all its blocks are free, so a few that stay keep it.

use std::ffi::c_void;

use super::memory;

/// Pages with at most this share of their blocks in use (percent) are sparse.
pub const SPARSE_PERCENT: usize = 70;

unsafe extern "C" {
    /// `mimalloc.h`: does the page of a block have at most so many percent of its
    /// blocks in use, and is it not the one from which blocks of that size are
    /// taken next? False as well for what is in no page. A null heap stands for
    /// any.
    fn mi_unsafe_heap_page_is_under_utilized(heap: *mut c_void, block: *mut c_void, percent: usize) -> bool;
}

/// Does the block lie in a sparse page? One of this size that is allocated now
/// would lie elsewhere.
pub fn is_sparse(block: *const u8) -> bool {
    // SAFETY: the page is found by a look-up that takes any address. Its counters
    // may be changing on another thread; what they are read as decides no more
    // than whether a block is worth moving.
    unsafe { mi_unsafe_heap_page_is_under_utilized(std::ptr::null_mut(), block.cast_mut().cast(), SPARSE_PERCENT) }
}

/// Bytes that the allocator has set aside for pages, in use or not.
fn committed() -> usize {
    let (mut a, mut b, mut c, mut rss, mut peak, mut commit, mut most, mut faults) = (0, 0, 0, 0, 0, 0, 0, 0);
    // SAFETY: fills in eight numbers.
    unsafe {
        libmimalloc_sys::mi_process_info(
            &raw mut a,
            &raw mut b,
            &raw mut c,
            &raw mut rss,
            &raw mut peak,
            &raw mut commit,
            &raw mut most,
            &raw mut faults,
        );
    }
    commit
}

/// Bytes of the allocator's blocks in use, counted as data or not.
pub fn allocated() -> usize {
    memory::used() + memory::left_out()
}

/// Bytes of memory that the allocator's blocks lie in: what it has set aside, as
/// far as the process has it.
pub fn active() -> usize {
    committed().min(memory::resident_private()).max(allocated())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests' own memory is not from this allocator.
    #[test]
    fn blocks_in_emptied_pages_are_sparse() {
        const BLOCK: usize = 64;
        // SAFETY: every block is freed once, by what allocated it.
        unsafe {
            let blocks: Vec<*mut c_void> = (0..100_000).map(|_| libmimalloc_sys::mi_malloc(BLOCK)).collect();
            let dense = blocks.iter().filter(|b| is_sparse(b.cast())).count();
            assert!(dense < blocks.len() / 20, "{dense} of {} full pages' blocks", blocks.len());
            let stays = |i: usize| i.is_multiple_of(10);
            (0..blocks.len()).filter(|i| !stays(*i)).for_each(|i| libmimalloc_sys::mi_free(blocks[i]));
            let left: Vec<_> = (0..blocks.len()).filter(|i| stays(*i)).map(|i| blocks[i]).collect();
            let sparse = left.iter().filter(|b| is_sparse(b.cast())).count();
            assert!(sparse > left.len() * 9 / 10, "{sparse} of {} left in emptied pages", left.len());
            left.into_iter().for_each(|b| libmimalloc_sys::mi_free(b));
        }
        assert!(!is_sparse(std::ptr::null()) && !is_sparse(std::ptr::from_ref(&BLOCK).cast()));
    }
}
