//! Latency events of one core: samples per event name, as LATENCY LATEST and
//! LATENCY HISTORY report them.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept per event (as in Redis).
pub const SAMPLES: usize = 160;

/// The samples of one event.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// (Unix seconds, milliseconds), oldest first; one per second, the worst.
    pub samples: VecDeque<(u64, u64)>,
    pub max_ms: u64,
}

impl Series {
    pub fn add(&mut self, unix_s: u64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        if let Some(last) = self.samples.back_mut()
            && last.0 == unix_s
        {
            last.1 = last.1.max(ms);
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((unix_s, ms));
    }

    /// Joins the samples of another core.
    pub fn merge(&mut self, other: &Series) {
        self.max_ms = self.max_ms.max(other.max_ms);
        let mut all: BTreeMap<u64, u64> = self.samples.iter().copied().collect();
        for &(s, ms) in &other.samples {
            let worst = all.entry(s).or_insert(0);
            *worst = (*worst).max(ms);
        }
        self.samples = all.into_iter().rev().take(SAMPLES).collect::<Vec<_>>().into_iter().rev().collect();
    }
}

/// Events by name.
pub type LatencyEvents = BTreeMap<&'static str, Series>;
