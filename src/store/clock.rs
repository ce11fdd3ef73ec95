//! Entries' access clocks: the 32 bits that eviction judges a key by.
//!
//! Under LRU policies (and all that are not LFU) a clock is the time of the
//! last access in ticks of [`TICK_MS`] milliseconds. Redis counts seconds in 24
//! bits; finer ticks tell keys apart in a cache that turns over within seconds.
//! Under LFU policies it is 16 bits of minutes and an 8-bit logarithmic counter,
//! as in Redis. What one kind of policy wrote means nothing to the other; it
//! wears off as keys are used.

use crate::base::clock::UnixMs;
use crate::base::rng::Rng;

/// One tick of the LRU clock.
pub const TICK_MS: u64 = 1 << TICK_SHIFT;
const TICK_SHIFT: u32 = 4;

/// The counter of a new key (Redis's `LFU_INIT_VAL`).
pub const LFU_INITIAL: u8 = 5;

/// The LRU clock at `now`. It wraps after 2.2 years.
#[inline]
pub fn lru(now: UnixMs) -> u32 {
    (now >> TICK_SHIFT) as u32
}

/// The time of the access in ticks since the epoch; the same at any `now`.
#[inline]
pub fn accessed(clock: u32, now: UnixMs) -> u64 {
    (now >> TICK_SHIFT).saturating_sub(u64::from(lru(now).wrapping_sub(clock)))
}

/// Milliseconds since the access, to a tick.
#[inline]
pub fn idle_ms(clock: u32, now: UnixMs) -> u64 {
    u64::from(lru(now).wrapping_sub(clock)) << TICK_SHIFT
}

/// Whole seconds since the access; a part of a tick counts as a tick.
pub fn idle_seconds(clock: u32, now: UnixMs) -> u64 {
    (idle_ms(clock, now) + TICK_MS - 1) / 1000
}

/// The clock of a key that has been idle for so long; at most half a turn of
/// the clock, beyond which it could not be told from the future.
pub fn lru_of_idle(seconds: u64, now: UnixMs) -> u32 {
    let ticks = (seconds.saturating_mul(1000) >> TICK_SHIFT).min(u64::from(u32::MAX / 2)) as u32;
    lru(now).wrapping_sub(ticks)
}

/// The minutes of the LFU state.
#[inline]
pub fn minutes(now: UnixMs) -> u16 {
    (now / 60_000) as u16
}

/// The LFU state of a counter.
#[inline]
pub fn lfu(counter: u8, minutes: u16) -> u32 {
    u32::from(minutes) << 8 | u32::from(counter)
}

/// The LFU state after one more access: decayed by time, then raised with a
/// probability that falls with the counter (Redis's documented scheme).
pub fn lfu_touched(clock: u32, minutes: u16, log_factor: u32, decay_minutes: u32, rng: &mut Rng) -> u32 {
    let counter = lfu_decayed(clock, minutes, decay_minutes);
    let base = f64::from(counter.saturating_sub(LFU_INITIAL));
    let p = 1.0 / (base * f64::from(log_factor) + 1.0);
    let raised = if counter < 255 && rng.unit() < p { counter + 1 } else { counter };
    lfu(raised, minutes)
}

/// The LFU counter at `minutes`.
pub fn lfu_decayed(clock: u32, minutes: u16, decay_minutes: u32) -> u8 {
    let elapsed = u32::from(minutes.wrapping_sub((clock >> 8) as u16));
    let periods = elapsed.checked_div(decay_minutes).unwrap_or(0);
    ((clock & 0xFF).saturating_sub(periods)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn idle_times_come_back_to_a_tick(now in 0u64..1 << 45, ms in 0u64..1 << 34) {
            let clock = lru(now);
            let later = now + ms;
            prop_assert!(idle_ms(clock, later).abs_diff(ms) < TICK_MS);
            prop_assert!(idle_seconds(clock, later).abs_diff(ms / 1000) <= 1);
            prop_assert_eq!(idle_seconds(lru_of_idle(ms / 1000, now), now), ms / 1000);
        }

        /// Counters never leave a byte, never rise by more than one, and fall
        /// by one per decay time.
        #[test]
        fn counters_stay_counters(state in 0u32..1 << 24, minutes: u16, factor in 0u32..100, decay in 0u32..10, seed: u64) {
            let mut rng = Rng::new(seed);
            let decayed = lfu_decayed(state, minutes, decay);
            let touched = lfu_touched(state, minutes, factor, decay, &mut rng);
            prop_assert_eq!((touched >> 8) as u16, minutes);
            let counter = (touched & 0xFF) as u8;
            prop_assert!(counter == decayed || counter == decayed.saturating_add(1));
            prop_assert!(decayed <= (state & 0xFF) as u8);
            if decay == 0 {
                prop_assert_eq!(decayed, (state & 0xFF) as u8);
            }
        }
    }

    /// The figures of Redis's redis.conf for a log factor of 10: the counter
    /// after so many hits.
    #[test]
    fn counters_grow_with_the_logarithm_of_hits() {
        for (hits, want) in [(100, 10), (1_000, 18), (100_000, 142)] {
            let mean = (0..20u64)
                .map(|seed| {
                    let mut rng = Rng::new(seed);
                    let last = (0..hits).fold(lfu(LFU_INITIAL, 7), |c, _| lfu_touched(c, 7, 10, 1, &mut rng));
                    f64::from(last & 0xFF)
                })
                .sum::<f64>()
                / 20.0;
            assert!((mean - f64::from(want)).abs() < f64::from(want) * 0.15 + 2.0, "{hits} hits: {mean}, not {want}");
        }
    }
}
