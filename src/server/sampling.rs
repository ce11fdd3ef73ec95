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

/// Seconds for which the largest buffers are remembered (as in Redis).
const REMEMBERED_S: usize = 8;

/// The memory at the last whole round and in the round under way, and the largest
/// buffers of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey {
    memory: usize,
    counted: usize,
    /// By the second modulo their number: the second, largest input and output.
    peaks: [(u64, usize, usize); REMEMBERED_S],
}

/// Connections up to which INFO looks at all of them itself.
const LOOKED_AT: usize = 1024;

/// Memory of a core's clients, and of the buffers that it keeps for them.
pub fn client_memory(core: &Core) -> usize {
    let pools: usize = core.output_pool.iter().map(Vec::capacity).sum::<usize>()
        + core.batch_pool.iter().map(|b| b.memory()).sum::<usize>();
    let clients = match core.conns.len() {
        0..=LOOKED_AT => core.conns.iter().map(Conn::memory).sum(),
        _ => core.survey.memory,
    };
    pools + clients
}

impl Survey {
    pub fn look_at(&mut self, c: &mut Conn, now_ms: u64) {
        self.counted += c.memory();
        let input = std::mem::take(&mut c.input_peak).max(c.input.capacity());
        let second = now_ms / 1000;
        let peak = &mut self.peaks[second as usize % REMEMBERED_S];
        if peak.0 != second {
            *peak = (second, 0, 0);
        }
        *peak = (second, peak.1.max(input), peak.2.max(c.output_bytes()));
    }

    pub fn end_round(&mut self) {
        self.memory = std::mem::take(&mut self.counted);
    }

    /// The sizes to report at a time.
    pub fn sizes(&self, now_ms: u64) -> Sizes {
        let oldest = (now_ms / 1000).saturating_sub(REMEMBERED_S as u64 - 1);
        let recent = || self.peaks.iter().filter(|p| p.0 >= oldest);
        Sizes {
            memory: self.memory,
            input_max: recent().map(|p| p.1).max().unwrap_or(0),
            output_max: recent().map(|p| p.2).max().unwrap_or(0),
        }
    }
}
