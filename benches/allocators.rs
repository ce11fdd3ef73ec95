//! mimalloc against jemalloc for the workload of the keyspace: millions of
//! small entries, allocated in one order and freed in another.
//!
//! `cargo bench --features allocators --bench allocators` runs every allocator
//! in a process of its own, in turn, and prints medians. The allocators are
//! called directly; what the bench itself needs comes from the system's, so
//! that the resident set's growth is the entries'.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;

/// Only the entries go through the allocator under test.
#[global_allocator]
static OWN: System = System;

const ENTRIES: usize = 5_000_000;
/// A 16-byte key and a 32-byte value with the entry's header of eight.
const BYTES: usize = 56;
const ROUNDS: usize = 5;
const ALLOCATORS: [&str; 2] = ["mimalloc", "jemalloc"];

/// What one process measured.
#[derive(Clone, Copy)]
struct Figures {
    /// Resident bytes per entry beyond the entry's own.
    overhead: f64,
    alloc_ns: f64,
    /// Freeing every second entry and allocating it again, per pair.
    churn_ns: f64,
    free_ns: f64,
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("read statm");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("pages in statm");
    pages * 4096
}

/// CPU time of this thread in nanoseconds: other processes do not count.
fn cpu_ns() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// A reproducible order that is not that of allocation.
fn shuffled(n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    for i in (1..n).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        order.swap(i, (x % (i as u64 + 1)) as usize);
    }
    order
}

fn filled(a: &impl GlobalAlloc, layout: Layout) -> *mut u8 {
    // SAFETY: the layout has a size; the block is written within its bounds.
    unsafe {
        let p = a.alloc(layout);
        assert!(!p.is_null(), "out of memory");
        p.write_bytes(1, BYTES);
        p
    }
}

fn measure(a: &impl GlobalAlloc) -> Figures {
    let layout = Layout::from_size_align(BYTES, 8).expect("a layout");
    let order = shuffled(ENTRIES);
    // Written once, so that its pages are resident before the entries are.
    let mut entries = vec![std::ptr::dangling_mut::<u8>(); ENTRIES];
    let per_entry = |since: f64, n: usize| (cpu_ns() - since) / n as f64;

    let before = resident_bytes();
    let start = cpu_ns();
    for e in &mut entries {
        *e = filled(a, layout);
    }
    let alloc_ns = per_entry(start, ENTRIES);
    let overhead = (resident_bytes() - before) as f64 / ENTRIES as f64 - BYTES as f64;

    let start = cpu_ns();
    for i in order.iter().step_by(2) {
        let e = &mut entries[*i as usize];
        // SAFETY: the block is live and of this layout.
        unsafe { a.dealloc(*e, layout) };
        *e = filled(a, layout);
    }
    let churn_ns = per_entry(start, ENTRIES / 2);

    let start = cpu_ns();
    for i in &order {
        // SAFETY: every block is freed once.
        unsafe { a.dealloc(entries[*i as usize], layout) };
    }
    Figures { overhead, alloc_ns, churn_ns, free_ns: per_entry(start, ENTRIES) }
}

fn child(name: &str) {
    let f = match name {
        "mimalloc" => measure(&mimalloc::MiMalloc),
        "jemalloc" => measure(&tikv_jemallocator::Jemalloc),
        _ => panic!("unknown allocator {name}"),
    };
    println!("{} {} {} {}", f.overhead, f.alloc_ns, f.churn_ns, f.free_ns);
}

fn run(name: &str) -> Figures {
    let program = std::env::current_exe().expect("own path");
    let out = Command::new(program).arg(format!("--one={name}")).output().expect("run this program again");
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("figures");
    let n: Vec<f64> = text.split_whitespace().map(|w| w.parse().expect("a figure")).collect();
    Figures { overhead: n[0], alloc_ns: n[1], churn_ns: n[2], free_ns: n[3] }
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut all: Vec<f64> = figures.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    if let Some(name) = std::env::args().find_map(|a| a.strip_prefix("--one=").map(str::to_owned)) {
        return child(&name);
    }
    let mut all: [Vec<Figures>; ALLOCATORS.len()] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (name, figures) in ALLOCATORS.iter().zip(&mut all) {
            figures.push(run(name));
        }
    }
    println!("{ENTRIES} entries of {BYTES} bytes, medians of {ROUNDS} rounds");
    println!("| allocator | overhead per entry, bytes | allocate, ns | free and allocate, ns | free, ns |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, f) in ALLOCATORS.iter().zip(&all) {
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |",
            median(f, |f| f.overhead),
            median(f, |f| f.alloc_ns),
            median(f, |f| f.churn_ns),
            median(f, |f| f.free_ns),
        );
    }
}
