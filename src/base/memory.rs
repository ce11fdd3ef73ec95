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
    static WITHHELD: Cell<bool> = const { Cell::new(false) };
}

/// Bytes in use by the process's data, within [`SLACK`] per thread.
pub fn used() -> usize {
    TOTAL.load(Ordering::Relaxed).max(0) as usize
}

/// Bytes that the machine could still give, as far as the kernel knows.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.saturating_mul(1024))
    };
    let machine = field("MemAvailable:")?.saturating_add(field("SwapFree:").unwrap_or(0));
    // A group of processes may have a limit of its own; without one these say
    // "max" or something huge.
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    Some(limits.fold(machine, u64::min))
}

/// [`used`], with all that the calling thread has counted.
#[inline]
pub fn used_here() -> usize {
    let own = LOCAL.try_with(Cell::get).unwrap_or(0);
    (TOTAL.load(Ordering::Relaxed) + own).max(0) as usize
}

/// What the calling thread has counted and not told: two of these, with
/// [`withheld`] around both, differ by what it took in between.
pub fn counted_here() -> isize {
    LOCAL.try_with(Cell::get).unwrap_or(0)
}

/// Does something of which other threads learn no earlier than it is done, unless
/// it calls [`settle`].
pub fn withheld<R>(f: impl FnOnce() -> R) -> R {
    struct End(bool);
    impl Drop for End {
        fn drop(&mut self) {
            let _ = WITHHELD.try_with(|w| w.set(self.0));
            count(0);
        }
    }
    let _end = End(WITHHELD.try_with(|w| w.replace(true)).unwrap_or(false));
    f()
}

/// Bytes taken out of the count.
static LEFT_OUT: AtomicIsize = AtomicIsize::new(0);

/// Takes memory out of the count that is neither data nor clients': what the
/// threads need for themselves, however little they have to do.
pub fn leave_out(bytes: usize) {
    TOTAL.fetch_sub(bytes as isize, Ordering::Relaxed);
    LEFT_OUT.fetch_add(bytes as isize, Ordering::Relaxed);
}

/// Such memory is about to be freed.
pub fn take_back(bytes: usize) {
    TOTAL.fetch_add(bytes as isize, Ordering::Relaxed);
    LEFT_OUT.fetch_sub(bytes as isize, Ordering::Relaxed);
}

/// Memory is in use that has never been counted, or no longer is: bytes more, or
/// less, of [`left_out`].
pub fn beside(bytes: isize) {
    LEFT_OUT.fetch_add(bytes, Ordering::Relaxed);
}

/// A block of zeros of natural alignment that does not count, null when there is
/// none; see [`beside`].
pub fn zeroed_uncounted(layout: Layout) -> *mut u8 {
    assert!(layout.align() <= NATURAL);
    // SAFETY: takes any size.
    unsafe { libmimalloc_sys::mi_zalloc(layout.size()) }.cast()
}

/// Frees such a block.
///
/// # Safety
/// `block` came from [`zeroed_uncounted`], and nothing uses it any more.
pub unsafe fn free_uncounted(block: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { libmimalloc_sys::mi_free(block.cast()) };
}

/// Bytes in use that do not count.
pub fn left_out() -> usize {
    LEFT_OUT.load(Ordering::Relaxed).max(0) as usize
}

/// Adds the calling thread's count to the total; what it was.
#[inline]
pub fn settle() -> isize {
    let own = LOCAL.try_with(|c| c.replace(0)).unwrap_or(0);
    if own != 0 {
        TOTAL.fetch_add(own, Ordering::Relaxed);
    }
    own
}

#[inline]
fn count(delta: isize) {
    let _ = LOCAL.try_with(|c| {
        let n = c.get() + delta;
        if n.abs() < SLACK || WITHHELD.try_with(Cell::get).unwrap_or(false) {
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

/// The size of the block that a request of so many bytes gets.
#[inline]
pub fn block_size(size: usize) -> usize {
    if size == 0 { 0 } else { rounded(size) as usize }
}

/// The same with an alignment: what is not a power of two is aligned by asking
/// for more.
#[inline]
fn cost(layout: Layout) -> isize {
    let size = layout.size();
    let slack = if layout.align() <= 8 || size.is_power_of_two() { 0 } else { layout.align() - 1 };
    rounded(size + slack)
}

/// The size of the block of a hash table of so many bytes, which are aligned
/// for reading a group at a time.
pub fn table_block_size(size: usize) -> usize {
    const GROUP: usize = 16;
    Layout::from_size_align(size, GROUP).map_or(size, |layout| if size == 0 { 0 } else { cost(layout) as usize })
}

/// Every block of mimalloc is aligned to this (`MI_MAX_ALIGN_SIZE` in
/// `.cargo/config.toml`).
const NATURAL: usize = 8;

/// mimalloc leaves a block where it is that shrinks to no less than half. That
/// would keep the memory and count it as free, so smaller ones than this are
/// moved.
const LEFT_IN_PLACE: isize = 256 * 1024;

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
        let (before, after) = (cost(layout), cost(new));
        count(after - before);
        if after < before && before < LEFT_IN_PLACE {
            // SAFETY: the caller's promises about both layouts.
            return unsafe { self.move_down(ptr, layout, new) };
        }
        if layout.align() <= NATURAL {
            // SAFETY: the block is mimalloc's; the size may be any.
            return unsafe { libmimalloc_sys::mi_realloc(ptr.cast(), new_size) }.cast();
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.realloc(ptr, layout, new_size) }
    }
}

impl Counted {
    /// Moves a block to a smaller one; both are counted already.
    ///
    /// # Safety
    /// `ptr` is a block of `old`, and `new` has its alignment.
    unsafe fn move_down(&self, ptr: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        // SAFETY: both layouts are valid; the blocks are distinct, and each has
        // at least the smaller size.
        unsafe {
            let moved: *mut u8 = if old.align() <= NATURAL {
                libmimalloc_sys::mi_malloc(new.size()).cast()
            } else {
                MiMalloc.alloc(new)
            };
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(ptr, new.size().min(old.size()));
                MiMalloc.dealloc(ptr, old);
            }
            moved
        }
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
    resident_and_shared().0
}

/// Those of them that are its own, not a file's (its program, for one).
pub fn resident_private() -> usize {
    let (all, shared) = resident_and_shared();
    all.saturating_sub(shared)
}

fn resident_and_shared() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split(' ').skip(1).map(|n| n.parse::<usize>().unwrap_or(0));
    let mut next = || pages.next().unwrap_or(0) * 4096;
    (next(), next())
}

/// `mi_option_purge_delay` of mimalloc 3: milliseconds after which memory that is
/// free is given back to the system, by whichever thread comes by.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// A day: never, while somebody calls [`purge`] now and then.
const PURGE_NEVER: libc::c_long = 24 * 60 * 60 * 1000;

/// Leaves it to [`purge`] to give memory back. Otherwise the thread that frees a
/// page when the time has come would do so for all threads: data cores stood still
/// for up to 10 ms, ten times a second, while tables grew.
pub fn purge_on_request_only() {
    // SAFETY: may be called at any time; the option exists.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_NEVER) };
}

/// Gives free memory back to the system where possible.
pub fn purge() {
    // SAFETY: may be called at any time; acts on the calling thread's heap.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests' own memory is not counted: they have another allocator.
    #[test]
    fn what_is_withheld_is_told_at_the_end() {
        settle();
        withheld(|| {
            count(10 * SLACK);
            withheld(|| count(-4 * SLACK));
            assert_eq!(counted_here(), 6 * SLACK, "nobody else has heard of it");
        });
        assert_eq!(counted_here(), 0);
        count(-6 * SLACK);
    }

    /// In a process of its own: other tests would take what is freed into use at
    /// once, and would not have their own memory given back any more.
    #[test]
    fn memory_is_given_back_on_request() {
        let tests = std::env::current_exe().unwrap();
        let alone = "base::memory::tests::given_back_in_a_process_alone";
        let out = std::process::Command::new(tests).args(["--exact", alone, "--ignored"]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && said.contains("1 passed"), "{said}");
    }

    /// The option is found by its number: by the library's own value it is known
    /// to be the right one.
    #[test]
    #[ignore = "run by memory_is_given_back_on_request"]
    fn given_back_in_a_process_alone() {
        // SAFETY: may be called at any time.
        let delay_ms = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay_ms(), 1000);
        purge_on_request_only();
        assert_eq!(delay_ms(), PURGE_NEVER);
        let (full, left) = resident_after_purge();
        assert!(full == BLOCKS && left < BLOCKS / 2, "{left} resident of {full}");
    }

    const BLOCKS: usize = 256;
    const BLOCK: usize = 256 * 1024;

    /// How many blocks of a thread are resident, and how many still are when it
    /// has freed them and another thread has asked for the purge.
    fn resident_after_purge() -> (usize, usize) {
        let (freed, is_freed) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let owner = std::thread::spawn(move || {
            let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1u8; BLOCK]).collect();
            let places: Vec<usize> = blocks.iter().map(|b| b.as_ptr().addr() + BLOCK / 2).collect();
            let full = places.iter().filter(|place| is_resident(**place)).count();
            drop(blocks);
            freed.send((full, places)).unwrap();
            // Its pages are still its own.
            let _ = ended.recv();
        });
        let (full, places) = is_freed.recv().unwrap();
        std::thread::spawn(purge).join().unwrap();
        let left = places.iter().filter(|place| is_resident(**place)).count();
        drop(end);
        owner.join().unwrap();
        (full, left)
    }

    /// Is there memory behind the page at this address?
    fn is_resident(address: usize) -> bool {
        let mut state = 0u8;
        let page = std::ptr::without_provenance_mut::<libc::c_void>(address & !4095);
        // SAFETY: asks about one page, mapped or not, and writes one byte.
        unsafe { libc::mincore(page, 4096, &raw mut state) == 0 && state & 1 == 1 }
    }

    /// The size classes that the entries' layout counts on (`.cargo/config.toml`).
    #[test]
    fn small_sizes_cost_what_they_are() {
        for size in 1..=1024usize {
            // SAFETY: computes a number.
            let good = unsafe { libmimalloc_sys::mi_good_size(size) };
            assert_eq!(rounded(size), good as isize, "{size} bytes");
        }
    }

    /// What is counted for a block of up to 64 KiB is what the allocator has set
    /// aside for it, however it came to be.
    #[test]
    fn what_is_counted_is_what_is_used() {
        let mut rng = crate::base::rng::Rng::new(7);
        let (mut counted, mut used) = (0, 0);
        let mut check = |ptr: *mut u8, layout: Layout| {
            // SAFETY: asks about a live block.
            let usable = unsafe { libmimalloc_sys::mi_usable_size(ptr.cast()) } as isize;
            if cost(layout) <= 64 * 1024 && layout.align() <= NATURAL {
                assert_eq!(cost(layout), usable, "{layout:?}");
            }
            counted += cost(layout);
            used += usable;
        };
        let size = |rng: &mut crate::base::rng::Rng| {
            let scale = 3 + rng.below(14);
            1 + rng.below(1 << scale)
        };
        for _ in 0..20_000 {
            let align = [1, 8, 8, 8, 16][rng.below(5)];
            let layout = Layout::from_size_align(size(&mut rng), align).unwrap();
            let second = size(&mut rng);
            // SAFETY: every block is allocated, reallocated and freed by its
            // own layout.
            unsafe {
                let mut ptr = Counted.alloc(layout);
                check(ptr, layout);
                ptr = Counted.realloc(ptr, layout, second);
                let layout = Layout::from_size_align(second, align).unwrap();
                check(ptr, layout);
                Counted.dealloc(ptr, layout);
            }
        }
        let off = (counted - used).abs() as f64 / used as f64;
        assert!(off < 0.02, "{counted} counted, {used} used");
    }
}
