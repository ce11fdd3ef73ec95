//! The cheapest clock of the machine, for measuring single commands.

use std::sync::OnceLock;

use crate::base::clock::mono_ns;

/// A reading of the time-stamp counter (x86-64), else of the monotonic clock.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction exists on every x86-64 processor.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    mono_ns()
}

static PER_US: OnceLock<f64> = OnceLock::new();

/// Ticks per microsecond, measured once over a few milliseconds.
pub fn per_us() -> f64 {
    *PER_US.get_or_init(|| {
        let (t0, n0) = (ticks(), mono_ns());
        while mono_ns() - n0 < 5_000_000 {
            std::hint::spin_loop();
        }
        let (t1, n1) = (ticks(), mono_ns());
        ((t1 - t0) as f64 / ((n1 - n0) as f64 / 1000.0)).max(1.0)
    })
}

/// Microseconds in a number of ticks.
pub fn to_us(ticks: u64) -> u64 {
    (ticks as f64 / per_us()) as u64
}
