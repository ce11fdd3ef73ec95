//! What a worker records.
//!
//! All times are nanoseconds since the start of the schedule. Only requests due
//! after the warm-up count towards the result; progress lines show all.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::args::Options;

/// Shortest and longest latency told apart, and decimal digits kept.
const LOWEST_NS: u64 = 100;
const HIGHEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;
/// How many of the longest stalls are kept.
const STALLS_KEPT: usize = 10;

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).expect("constant bounds are valid")
}

/// A silence: no reply on any of the thread's connections, though some were due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    pub start_ns: u64,
    pub length_ns: u64,
}

/// The silences of at least a threshold.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    pub count: u64,
    pub total_ns: u64,
    /// Longest first.
    pub longest: Vec<Stall>,
}

impl Stalls {
    fn add(&mut self, stall: Stall) {
        self.count += 1;
        self.total_ns += stall.length_ns;
        self.keep(stall);
    }

    fn keep(&mut self, stall: Stall) {
        let place = self.longest.partition_point(|kept| kept.length_ns >= stall.length_ns);
        self.longest.insert(place, stall);
        self.longest.truncate(STALLS_KEPT);
    }

    fn merge(&mut self, other: &Stalls) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        other.longest.iter().for_each(|stall| self.keep(*stall));
    }
}

/// The result of one thread, or of all.
pub struct Measured {
    warmup_ns: u64,
    timeline_ns: u64,
    stall_ns: Option<u64>,
    /// Latency from the due time.
    pub latency: Histogram<u64>,
    /// How late the generator itself wrote each group.
    pub lag: Histogram<u64>,
    /// Longest latency among the requests due in each interval.
    pub timeline: Vec<u64>,
    pub stalls: Stalls,
    /// Requests due after the warm-up, and when the last of them was written
    /// and answered.
    pub sent: u64,
    pub last_sent_ns: u64,
    pub last_reply_ns: u64,
    pub unanswered: u64,
    /// Error replies, warm-up included.
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Measured {
    pub fn new(options: &Options) -> Measured {
        Measured {
            warmup_ns: nanos(options.warmup),
            timeline_ns: nanos(options.timeline),
            stall_ns: options.stall.map(nanos),
            latency: histogram(),
            lag: histogram(),
            timeline: Vec::new(),
            stalls: Stalls::default(),
            sent: 0,
            last_sent_ns: 0,
            last_reply_ns: 0,
            unanswered: 0,
            errors: 0,
            first_error: None,
        }
    }

    /// A group of `count` requests due at `due_ns` was handed over at `now_ns`.
    pub fn group_sent(&mut self, due_ns: u64, now_ns: u64, count: usize) {
        if due_ns >= self.warmup_ns {
            self.lag.saturating_record_n(now_ns.saturating_sub(due_ns), count as u64);
            self.sent += count as u64;
            self.last_sent_ns = now_ns;
        }
    }

    /// `count` requests due at `due_ns` were answered at `now_ns`.
    pub fn answered(&mut self, due_ns: u64, now_ns: u64, count: usize) {
        let Some(at) = due_ns.checked_sub(self.warmup_ns) else {
            return;
        };
        let latency = now_ns.saturating_sub(due_ns);
        self.latency.saturating_record_n(latency, count as u64);
        self.last_reply_ns = self.last_reply_ns.max(now_ns);
        let slot = (at / self.timeline_ns) as usize;
        if slot >= self.timeline.len() {
            self.timeline.resize(slot + 1, 0);
        }
        self.timeline[slot] = self.timeline[slot].max(latency);
    }

    /// Requests never answered enter with the time that they waited in vain:
    /// leaving them out would hide the longest stall of all.
    pub fn gave_up(&mut self, due_ns: u64, now_ns: u64, count: usize) {
        self.unanswered += count as u64;
        self.answered(due_ns, now_ns, count);
    }

    /// Nothing had come from the server since `since_ns`, though it was owed.
    pub fn silence(&mut self, since_ns: u64, now_ns: u64) {
        let length_ns = now_ns.saturating_sub(since_ns);
        if since_ns >= self.warmup_ns && self.stall_ns.is_some_and(|least| length_ns >= least) {
            self.stalls.add(Stall { start_ns: since_ns - self.warmup_ns, length_ns });
        }
    }

    pub fn merge(&mut self, other: Measured) {
        let same_bounds = "histograms are made in one place";
        self.latency.add(&other.latency).expect(same_bounds);
        self.lag.add(&other.lag).expect(same_bounds);
        if other.timeline.len() > self.timeline.len() {
            self.timeline.resize(other.timeline.len(), 0);
        }
        for (kept, new) in self.timeline.iter_mut().zip(&other.timeline) {
            *kept = (*kept).max(*new);
        }
        self.stalls.merge(&other.stalls);
        self.sent += other.sent;
        self.last_sent_ns = self.last_sent_ns.max(other.last_sent_ns);
        self.last_reply_ns = self.last_reply_ns.max(other.last_reply_ns);
        self.unanswered += other.unanswered;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Requests a second written after the warm-up.
    pub fn rate_sent(&self) -> f64 {
        rate(self.sent, self.last_sent_ns, self.warmup_ns)
    }

    /// Requests a second answered after the warm-up.
    pub fn rate_answered(&self) -> f64 {
        let answered = self.latency.len().saturating_sub(self.unanswered);
        rate(answered, self.last_reply_ns, self.warmup_ns)
    }

    pub fn timeline_seconds(&self) -> f64 {
        self.timeline_ns as f64 / 1e9
    }
}

fn rate(count: u64, end_ns: u64, start_ns: u64) -> f64 {
    let seconds = end_ns.saturating_sub(start_ns) as f64 / 1e9;
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// What one thread saw in one second, for the progress lines.
pub struct Interval {
    pub second: u64,
    pub latency: Histogram<u64>,
}

pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        Measured::new(&Options {
            warmup: Duration::from_nanos(1000),
            timeline: Duration::from_nanos(100),
            stall: Some(Duration::from_nanos(50)),
            ..Options::default()
        })
    }

    #[test]
    fn warm_up_does_not_count() {
        let mut measured = measured();
        measured.answered(999, 5000, 1);
        measured.silence(900, 2000);
        measured.group_sent(999, 1000, 1);
        assert_eq!(measured.latency.len() + measured.stalls.count + measured.sent, 0);
        measured.answered(1250, 6000, 2);
        assert_eq!(measured.timeline, [0, 0, 4750]);
        assert_eq!(measured.latency.len(), 2);
    }

    #[test]
    fn the_longest_stalls_are_kept_in_order() {
        let mut measured = measured();
        for length in 0..100 {
            measured.silence(2000, 2000 + length);
        }
        assert_eq!(measured.stalls.count, 50);
        let lengths: Vec<u64> = measured.stalls.longest.iter().map(|s| s.length_ns).collect();
        assert_eq!(lengths, (90..100).rev().collect::<Vec<u64>>());
    }
}
