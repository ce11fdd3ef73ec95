//! Random and mutated input for every parser that can be reached from outside.
//!
//! A plain harness for the stable toolchain: libFuzzer needs a nightly one.
//! There is no coverage feedback; instead inputs are mutated from a corpus of
//! well-formed ones with a dictionary, so that they get past the first byte,
//! and each target checks more than the absence of panics.
//!
//! - `FUZZ_SECONDS`: time per target, 2 by default; `scripts/fuzz` runs longer.
//! - `FUZZ_SEED`: the first seed, `FUZZ_RUNS`: how many. An input depends on
//!   its seed alone: `FUZZ_SEED=N FUZZ_RUNS=1` runs a failed one again.

mod access;
mod bytes;
mod commands;
mod lines;
mod peers;
mod rdb;
#[allow(dead_code)]
#[path = "../support/rng.rs"]
mod rng;
mod scripts;
mod settings;
mod streams;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rng::Rng;

/// An execution that takes longer is a failure.
const SLOW: Duration = Duration::from_secs(20);

fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Ends the process, with the seed, when an execution never ends.
struct Watchdog {
    seed: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watchdog {
    fn start(name: &'static str) -> Watchdog {
        let (seed, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (its_seed, its_done) = (seed.clone(), done.clone());
        let watch = move || {
            let (mut last, mut since) = (0, Instant::now());
            while !its_done.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_secs(1));
                let now = its_seed.load(Ordering::Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() > SLOW {
                    eprintln!("{name}: seed {now} does not end: FUZZ_SEED={now} FUZZ_RUNS=1");
                    std::process::abort();
                }
            }
        };
        Watchdog { seed, done, thread: Some(std::thread::spawn(watch)) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            t.thread().unpark();
            let _ = t.join();
        }
    }
}

/// Makes inputs and feeds them to a target until the time is over.
pub fn fuzz<T>(name: &'static str, make: impl Fn(&mut Rng) -> T, show: impl Fn(&T) -> String, target: impl Fn(&T)) {
    let limit = Duration::from_secs(env("FUZZ_SECONDS").unwrap_or(2));
    let runs = env("FUZZ_RUNS").unwrap_or(u64::MAX);
    let first = env("FUZZ_SEED").unwrap_or(1);
    let watchdog = Watchdog::start(name);
    let start = Instant::now();
    let mut n = 0;
    while n < runs && start.elapsed() < limit {
        let seed = first.wrapping_add(n);
        watchdog.seed.store(seed, Ordering::Relaxed);
        let input = make(&mut Rng::new(seed));
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            panic!("{name} failed: FUZZ_SEED={seed} FUZZ_RUNS=1\n{}", show(&input));
        }
        n += 1;
    }
    println!("{name}: {n} executions in {:.1} s, seeds from {first}", start.elapsed().as_secs_f64());
}

/// A failing target must name its seed and its input.
#[test]
fn a_panic_is_reported_with_seed_and_input() {
    let fails = || fuzz("harness", |r| r.bytes(3), |b| b.escape_ascii().to_string(), |b| assert!(b.is_empty()));
    let text = *catch_unwind(fails).expect_err("it fails").downcast::<String>().expect("a text");
    let seed = env("FUZZ_SEED").unwrap_or(1);
    let input = Rng::new(seed).bytes(3).escape_ascii().to_string();
    assert_eq!(text, format!("harness failed: FUZZ_SEED={seed} FUZZ_RUNS=1\n{input}"));
}
