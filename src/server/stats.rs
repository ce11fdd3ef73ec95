//! Counters of one core.

use super::registry::registry;
use crate::observe::histogram::LatencyHistogram;
use crate::observe::slowlog::SlowLog;

/// What is counted per command.
#[derive(Clone, Default)]
pub struct CommandStats {
    pub calls: u64,
    pub ticks: u64,
    pub rejected: u64,
    pub failed: u64,
    pub latency: LatencyHistogram,
}

impl CommandStats {
    /// Counts a call of less than a microsecond.
    #[inline]
    pub fn count_quick(&mut self, ticks: u64, failed: bool, tracked: bool) {
        self.calls += 1;
        self.ticks += ticks;
        self.failed += u64::from(failed);
        if tracked {
            self.latency.record_below();
        }
    }

    /// Adds what another core counted.
    pub fn add(&mut self, other: &CommandStats) {
        self.calls += other.calls;
        self.ticks += other.ticks;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.latency.merge(&other.latency);
    }
}

/// See the module's description.
pub struct CoreStats {
    pub commands: Vec<CommandStats>,
    pub errors: std::collections::BTreeMap<Vec<u8>, u64>,
    pub slowlog: SlowLog,
    pub latency_events: crate::observe::latency::LatencyEvents,
    pub turns: u64,
    pub executed: u64,
    pub forwarded: u64,
    pub transactions: u64,
    pub connections: u64,
    pub rejected_connections: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reads: u64,
    pub writes: u64,
    pub error_replies: u64,
    pub query_buffer_closes: u64,
    pub output_buffer_closes: u64,
    /// Closed for the memory that clients take.
    pub evicted_clients: u64,
    pub protocol_errors: u64,
    /// Denials by [`crate::acl::log::Reason`].
    pub denied: [u64; 4],
    pub buffer_exhaustions: u64,
    pub dirty: u64,
    pub wakes: u64,
    pub slots_moved: u64,
    pub expire_cycle_us: u64,
    pub defrag: super::defrag::DefragStats,
}

impl CoreStats {
    pub fn new() -> CoreStats {
        CoreStats {
            commands: vec![CommandStats::default(); registry().entries.len()],
            errors: Default::default(),
            slowlog: SlowLog::default(),
            latency_events: Default::default(),
            turns: 0,
            executed: 0,
            forwarded: 0,
            transactions: 0,
            connections: 0,
            rejected_connections: 0,
            bytes_in: 0,
            bytes_out: 0,
            reads: 0,
            writes: 0,
            error_replies: 0,
            query_buffer_closes: 0,
            output_buffer_closes: 0,
            evicted_clients: 0,
            protocol_errors: 0,
            denied: [0; 4],
            buffer_exhaustions: 0,
            dirty: 0,
            wakes: 0,
            slots_moved: 0,
            expire_cycle_us: 0,
            defrag: Default::default(),
        }
    }

    /// Counts an error reply by its code.
    pub fn count_error(&mut self, code: &[u8]) {
        self.error_replies += 1;
        if let Some(n) = self.errors.get_mut(code) {
            *n += 1;
        } else if self.errors.len() < 128 {
            self.errors.insert(code.to_vec(), 1);
        }
    }

    /// CONFIG RESETSTAT. Changes since the last snapshot are no statistics.
    pub fn reset(&mut self) {
        let slowlog = std::mem::take(&mut self.slowlog);
        let latency_events = std::mem::take(&mut self.latency_events);
        *self = CoreStats { slowlog, latency_events, dirty: self.dirty, ..CoreStats::new() };
    }

    /// A copy without the slow log and the latency events, and without what is
    /// counted per command unless it is wanted.
    pub fn counters(&self, with_commands: bool) -> CoreStats {
        CoreStats {
            commands: if with_commands { self.commands.clone() } else { Vec::new() },
            errors: self.errors.clone(),
            slowlog: SlowLog::default(),
            latency_events: Default::default(),
            ..*self
        }
    }
}

impl Default for CoreStats {
    fn default() -> CoreStats {
        CoreStats::new()
    }
}
