//! Active defragmentation: a share of each core's time goes into moving data out
//! of the allocator's sparse pages, while enough memory is lost in them.
//!
//! When to begin and how much time to take is decided as Redis documents it for
//! `active-defrag-threshold-*`, `active-defrag-ignore-bytes` and
//! `active-defrag-cycle-*`: by the memory of the whole process, on each core for
//! itself.

use super::core::Core;
use crate::base::sparse;
use crate::observe::ticks;
use crate::store::defrag::{Counts, Pass};

/// Time of one slice; the pauses between slices make the share.
const SLICE_US: u64 = 250;

/// After a pass that found little to move, memory is lost elsewhere: the next one
/// waits so long.
const IDLE_MS: u64 = 60_000;

/// Percent of the blocks looked at that a pass has to move for another to follow
/// at once.
const WORTH_PERCENT: u64 = 1;

/// Time between two looks at the memory of the process.
const LOOK_MS: u64 = 1000;

/// A core's share of the work.
#[derive(Default)]
pub struct Defrag {
    pass: Option<Box<Pass>>,
    /// What the pass has done.
    done: Counts,
    /// Percent of the core's time that it may take; 0 while nothing is done.
    pub percent: u32,
    /// When the next slice may begin, monotonic nanoseconds.
    next_ns: u64,
    /// When memory is looked at again, and when a pass may begin, Unix milliseconds.
    look_ms: u64,
    begin_ms: u64,
    /// Since when there is work, monotonic microseconds; 0 when there is none.
    since_us: u64,
}

/// What INFO tells of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefragStats {
    pub counts: Counts,
    /// Time during which there was work, until it last ended.
    pub total_us: u64,
}

impl Defrag {
    /// Microseconds since there is work.
    pub fn current_us(&self, now_us: u64) -> u64 {
        if self.since_us == 0 { 0 } else { now_us.saturating_sub(self.since_us) }
    }
}

impl Core {
    /// With the cron work: is there too much fragmentation, and how much time is to
    /// be taken?
    pub fn look_at_fragmentation(&mut self) {
        let s = &self.settings.internals;
        if !s.activedefrag {
            return self.end_defrag();
        }
        if self.now < self.defrag.look_ms {
            return;
        }
        self.defrag.look_ms = self.now + LOOK_MS;
        let allocated = sparse::allocated();
        let lost = sparse::active().saturating_sub(allocated);
        let percent = (lost as u128 * 100 / allocated.max(1) as u128) as u64;
        let (lower, upper) = (u64::from(s.active_defrag_threshold_lower), u64::from(s.active_defrag_threshold_upper));
        let much = percent >= lower && lost as u64 >= s.active_defrag_ignore_bytes;
        let share = share_between(percent, (lower, upper), (s.active_defrag_cycle_min, s.active_defrag_cycle_max));
        let d = &mut self.defrag;
        if d.pass.is_some() {
            // A pass that has begun becomes faster, but not slower.
            d.percent = d.percent.max(share);
        } else if much && self.now >= d.begin_ms {
            d.pass = Some(Box::default());
            d.done = Counts::default();
            d.percent = share;
            if d.since_us == 0 {
                d.since_us = self.stamp / 1000;
            }
        } else if !much {
            self.end_defrag();
        }
    }

    /// There is nothing more to be done.
    fn end_defrag(&mut self) {
        let d = &mut self.defrag;
        (d.pass, d.percent) = (None, 0);
        if d.since_us != 0 {
            self.stats.defrag.total_us += d.current_us(self.stamp / 1000);
            self.defrag.since_us = 0;
        }
    }

    /// In the background: a slice, if it is time for one.
    #[inline]
    pub fn defrag_in_background(&mut self) {
        if self.defrag.pass.is_some() {
            self.defrag_slice();
        }
    }

    #[cold]
    fn defrag_slice(&mut self) {
        // A snapshot's readers remember places; what is loaded is new anyway.
        let loading = self.shared.persistence.loading.load(std::sync::atomic::Ordering::Relaxed);
        if self.store.cut.is_some() || self.snapshot.is_some() || self.incoming.is_some() || loading {
            return;
        }
        if self.stamp < self.defrag.next_ns {
            return self.wake_for_slice();
        }
        let Some(mut pass) = self.defrag.pass.take() else { return };
        let start = ticks::ticks();
        let budget = SLICE_US * self.ticks_per_us;
        let mut more = true;
        while more && ticks::ticks() - start < budget {
            more = pass.step(&mut self.store);
        }
        let spent_us = ticks::to_us(ticks::ticks() - start);
        let counts = pass.take_counts();
        self.stats.defrag.counts.add(counts);
        self.defrag.done.add(counts);
        self.latency_event("active-defrag-cycle", spent_us / 1000);
        self.defrag.next_ns = self.stamp + spent_us.max(1) * 1000 * 100 / u64::from(self.defrag.percent.max(1));
        if more {
            self.defrag.pass = Some(pass);
            return self.wake_for_slice();
        }
        let done = self.defrag.done;
        let worth = done.hits * 100 >= (done.hits + done.misses) * WORTH_PERCENT && done.hits > 0;
        self.defrag.begin_ms = if worth { 0 } else { self.now + IDLE_MS };
        self.defrag.look_ms = 0;
        self.defrag.percent = 0;
    }

    /// A core that sleeps goes on with the next slice in time.
    fn wake_for_slice(&mut self) {
        let left_ms = self.defrag.next_ns.saturating_sub(self.stamp) / 1_000_000 + 1;
        self.wake_for(self.now + left_ms);
    }
}

/// Percent of a core's time: from `least` at the lower threshold to `most` at the
/// upper one.
fn share_between(percent: u64, (lower, upper): (u64, u64), (least, most): (u32, u32)) -> u32 {
    let most = most.max(least);
    if percent >= upper || upper <= lower {
        return most;
    }
    let along = percent.saturating_sub(lower) * u64::from(most - least) / (upper - lower);
    least + along as u32
}

#[cfg(test)]
mod tests {
    use super::share_between;

    #[test]
    fn more_is_taken_the_more_there_is_to_gain() {
        let share = |percent| share_between(percent, (10, 100), (1, 25));
        assert_eq!([0, 10, 55, 99, 100, 5000].map(share), [1, 1, 13, 24, 25, 25]);
        assert_eq!(share_between(30, (20, 20), (5, 3)), 5, "whatever the settings");
    }
}
