//! Time. Turn stamps come from the monotonic clock; key deadlines are Unix
//! time. Both views advance together: Unix time is the monotonic clock plus an
//! offset shared by all cores, so that a later stamp never means an earlier
//! Unix time except when the host's clock is stepped.

use std::sync::atomic::{AtomicI64, Ordering};

/// Unix time in milliseconds.
pub type UnixMs = u64;

static OFFSET_NS: AtomicI64 = AtomicI64::new(i64::MIN);

fn read(clock: libc::clockid_t) -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec for the kernel to fill.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
pub fn mono_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC) as u64
}

/// CLOCK_REALTIME in nanoseconds since the Unix epoch.
pub fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME) as u64
}

/// Follows steps of the host's clock larger than a millisecond; called a few
/// times a second by one thread.
pub fn resync() {
    let fresh = wall_ns() as i64 - mono_ns() as i64;
    let old = OFFSET_NS.load(Ordering::Relaxed);
    if old == i64::MIN || (fresh - old).abs() > 1_000_000 {
        OFFSET_NS.store(fresh, Ordering::Relaxed);
    }
}

/// Unix nanoseconds of a monotonic stamp.
#[inline]
pub fn unix_ns(stamp: u64) -> u64 {
    let mut offset = OFFSET_NS.load(Ordering::Relaxed);
    if offset == i64::MIN {
        resync();
        offset = OFFSET_NS.load(Ordering::Relaxed);
    }
    (stamp as i64 + offset) as u64
}

/// Unix milliseconds of a monotonic stamp.
#[inline]
pub fn unix_ms(stamp: u64) -> UnixMs {
    unix_ns(stamp) / 1_000_000
}

/// Unix milliseconds now.
pub fn now_ms() -> UnixMs {
    unix_ms(mono_ns())
}
