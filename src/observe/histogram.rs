//! Latency distributions per command.

use hdrhistogram::Histogram;

use crate::base::memory;

/// Microseconds that a histogram can tell; longer ones count as this.
pub const MAX_US: u64 = 60_000_000;

/// A histogram that costs nothing until a command takes a microsecond; then it
/// takes 20 KB. There may be one per command and core, which would be 8 MB for
/// every core if they were there from the start. Their memory is a thread's own
/// and does not count as used, or the first requests would look like growth of
/// the data, on several cores several times.
#[derive(Clone, Default)]
pub struct LatencyHistogram {
    below_us: u64,
    rest: Option<Box<Counts>>,
}

/// Counts whose memory is left out of what is used.
struct Counts(Histogram<u64>);

impl Counts {
    fn new() -> Option<Counts> {
        Histogram::new_with_bounds(1, MAX_US, 2).ok().map(Counts::of)
    }

    fn of(h: Histogram<u64>) -> Counts {
        memory::leave_out(Counts::bytes(&h));
        Counts(h)
    }

    fn bytes(h: &Histogram<u64>) -> usize {
        memory::block_size(size_of::<Counts>()) + memory::block_size(h.distinct_values() * size_of::<u64>())
    }
}

impl Clone for Counts {
    fn clone(&self) -> Counts {
        Counts::of(self.0.clone())
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        memory::take_back(Counts::bytes(&self.0));
    }
}

impl LatencyHistogram {
    /// Counts a duration below one microsecond.
    #[inline]
    pub fn record_below(&mut self) {
        self.below_us += 1;
    }

    /// Counts a duration in microseconds.
    pub fn record(&mut self, us: u64) {
        self.record_times(us, 1);
    }

    fn record_times(&mut self, us: u64, n: u64) {
        if us == 0 {
            self.below_us += n;
            return;
        }
        if self.rest.is_none() {
            self.rest = Counts::new().map(Box::new);
        }
        if let Some(h) = &mut self.rest {
            h.0.saturating_record_n(us.min(MAX_US), n);
        }
    }

    /// Counts `n` equal durations: below one microsecond, or as `us` tells.
    #[inline]
    pub fn record_many(&mut self, below: bool, us: impl FnOnce() -> u64, n: u64) {
        if below {
            self.below_us += n;
        } else {
            self.record_times(us(), n);
        }
    }

    pub fn merge(&mut self, other: &LatencyHistogram) {
        self.below_us += other.below_us;
        match (&mut self.rest, &other.rest) {
            (Some(a), Some(b)) => {
                let _ = a.0.add(&b.0);
            }
            (None, Some(b)) => self.rest = Some(b.clone()),
            _ => {}
        }
    }

    pub fn count(&self) -> u64 {
        self.below_us + self.rest.as_ref().map_or(0, |h| h.0.len())
    }

    /// Number of durations of at most `us` microseconds.
    pub fn count_up_to(&self, us: u64) -> u64 {
        self.below_us + self.rest.as_ref().map_or(0, |h| if us == 0 { 0 } else { h.0.count_between(1, us) })
    }

    /// The duration in microseconds that `percent` of all do not exceed.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.count() as f64).ceil().max(1.0) as u64;
        if rank <= self.below_us {
            return 1.0;
        }
        let Some(h) = &self.rest else { return 0.0 };
        let within = (rank - self.below_us) as f64 / h.0.len().max(1) as f64;
        h.0.value_at_quantile(within.min(1.0)) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_durations_are_one_distribution() {
        let mut h = LatencyHistogram::default();
        (0..90).for_each(|_| h.record_below());
        (0..10).for_each(|_| h.record(1000));
        assert_eq!((h.count(), h.count_up_to(1), h.count_up_to(1023)), (100, 90, 100));
        assert!(h.percentile(50.0) <= 1.0);
        assert!((995.0..1010.0).contains(&h.percentile(99.0)));
        let mut other = LatencyHistogram::default();
        other.merge(&h);
        assert_eq!(other.count(), 100);
    }
}
