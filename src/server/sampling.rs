//! What INFO reports of the last moments: rates, and sizes over all connections.

use super::core::Core;
use crate::session::conn::Conn;

/// What is sampled: commands, bytes in, bytes out, turns.
pub const RATES: usize = 4;

/// Samples averaged (as many as Redis takes).
const SAMPLES: usize = 16;

/// Rates per second over the last samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    last_ms: u64,
    last: [u64; RATES],
    samples: [[u64; RATES]; SAMPLES],
    at: usize,
}

impl Rates {
    /// Means per second.
    pub fn means(&self) -> [u64; RATES] {
        let mut sum = [0; RATES];
        for s in &self.samples {
            for i in 0..RATES {
                sum[i] += s[i];
            }
        }
        sum.map(|x| x / SAMPLES as u64)
    }

    pub fn add(&mut self, now_ms: u64, totals: [u64; RATES]) {
        let elapsed = now_ms.saturating_sub(self.last_ms).max(1);
        if self.last_ms > 0 {
            let sample = &mut self.samples[self.at];
            for (s, (now, before)) in sample.iter_mut().zip(totals.iter().zip(&self.last)) {
                *s = now.saturating_sub(*before) * 1000 / elapsed;
            }
            self.at = (self.at + 1) % SAMPLES;
        }
        self.last_ms = now_ms;
        self.last = totals;
    }
}

/// Takes a sample.
pub fn tick(core: &mut Core) {
    let totals = [core.stats.executed, core.stats.bytes_in, core.stats.bytes_out, core.stats.turns];
    core.rates.add(core.now, totals);
}

/// Sizes over the connections of a core. The cron work passes all of them about
/// once a second, so that INFO need not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub memory: usize,
    pub input_max: usize,
    pub output_max: usize,
}

/// The sizes of the last whole round, and those of the round under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey {
    pub last: Sizes,
    current: Sizes,
}

/// Connections up to which INFO looks at all of them itself.
const LOOKED_AT: usize = 1024;

/// Memory of a core's clients, and of the buffers that it keeps for them.
pub fn client_memory(core: &Core) -> usize {
    let pools: usize = core.output_pool.iter().map(Vec::capacity).sum::<usize>()
        + core.batch_pool.iter().map(|b| b.memory()).sum::<usize>();
    let clients = match core.conns.len() {
        0..=LOOKED_AT => core.conns.iter().map(Conn::memory).sum(),
        _ => core.survey.last.memory,
    };
    pools + clients
}

impl Survey {
    pub fn look_at(&mut self, c: &Conn) {
        let s = &mut self.current;
        s.memory += c.memory();
        s.input_max = s.input_max.max(c.input.capacity());
        s.output_max = s.output_max.max(c.output_bytes());
    }

    pub fn end_round(&mut self) {
        self.last = std::mem::take(&mut self.current);
    }
}
