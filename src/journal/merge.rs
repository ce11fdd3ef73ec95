//! All lanes into one order.
//!
//! A round reads, in this order: the clock; every core's `parked` flag and
//! watermark (a parked core counts as the clock's value); then the queues. A
//! record may go out once nothing stamped earlier can come from another core.
//! Each of these orders matters: with any two exchanged, an effect can be
//! overtaken by one that saw it.
//!
//! Parts of a transaction over several cores are set aside as they come and go
//! out whole at its commit record. Its keys are locked until then, so nothing
//! that depends on it can have gone out before.
//!
//! Memory is bounded: a queue is emptied only up to [`HELD_MAX`] bytes ahead
//! of what can go out, and then back-pressure reaches its core.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::lane::RECORDS_MAX;
use super::record::{Body, Record, Run};
use crate::resp::encode;

/// Bytes of one lane that the merge holds while it waits for other lanes.
pub const HELD_MAX: usize = 16 << 20;

/// Where the merge reads.
pub trait Lanes {
    fn count(&self) -> usize;
    /// The clock of all stamps, nanoseconds.
    fn clock(&self) -> u64;
    fn is_parked(&self, core: usize) -> bool;
    fn watermark(&self, core: usize) -> u64;
    fn pop(&self, core: usize) -> Option<Record>;
    /// A run's buffer is no longer needed.
    fn recycle(&self, core: usize, buffer: Vec<u8>);
}

/// Where the merge writes, in the order of the stream.
pub trait Sink {
    /// Whole execution units, of a core if they are one's alone. The sink may
    /// keep the bytes, and hands them back by [`Lanes::recycle`] some day.
    fn run(&mut self, core: usize, run: &mut Run);
    /// A snapshot's cut.
    fn cut(&mut self, id: u64);
}

#[derive(Default)]
struct Held {
    records: VecDeque<Record>,
    bytes: usize,
}

/// A transaction's parts so far.
#[derive(Default)]
struct Aside {
    commands: u32,
    /// The parts, one after the other.
    whole: Run,
    loose: bool,
}

/// See the module's description.
#[derive(Default)]
pub struct Merge {
    held: Vec<Held>,
    aside: HashMap<u64, Aside, foldhash::fast::RandomState>,
    /// Everything stamped below has gone out.
    past: u64,
    bounds: Vec<u64>,
    unit: Run,
}

impl Merge {
    pub fn new(cores: usize) -> Merge {
        Merge { held: (0..cores).map(|_| Held::default()).collect(), ..Merge::default() }
    }

    /// Everything stamped below this time has gone out.
    pub fn past(&self) -> u64 {
        self.past
    }

    /// Transactions whose commit has not come yet.
    pub fn open_transactions(&self) -> usize {
        self.aside.len()
    }

    /// Bytes held: what waits for other lanes, or for its commit.
    pub fn held(&self) -> usize {
        let held: usize = self.held.iter().map(|h| h.bytes).sum();
        held + self.aside.values().map(|a| a.whole.bytes.capacity()).sum::<usize>() + self.unit.bytes.capacity()
    }

    /// Bytes of memory: that, and the queues themselves.
    pub fn memory(&self) -> usize {
        self.held() + self.held.iter().map(|h| h.records.capacity() * size_of::<Record>()).sum::<usize>()
    }

    /// Bytes by which the queues may grow in a round that takes full lanes.
    pub fn growth(&self) -> usize {
        let grows = |h: &&Held| h.records.len() + RECORDS_MAX > h.records.capacity();
        let growth = |h: &Held| h.records.capacity().max(RECORDS_MAX) * size_of::<Record>();
        self.held.iter().filter(grows).map(growth).sum()
    }

    /// Is anything held back until other cores have gone on?
    pub fn holds(&self) -> bool {
        self.held.iter().any(|h| !h.records.is_empty())
    }

    /// Emits what may be emitted. Whether anything was.
    pub fn round(&mut self, lanes: &impl Lanes, sink: &mut impl Sink) -> bool {
        let n = lanes.count();
        let clock = lanes.clock();
        // The clock must have been read before any flag is.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.bounds.clear();
        for c in 0..n {
            let parked = lanes.is_parked(c);
            self.bounds.push(if parked { clock.max(lanes.watermark(c)) } else { lanes.watermark(c) });
        }
        for c in 0..n {
            self.take(c, lanes);
        }
        let mut worked = false;
        while let Some(c) = self.next() {
            let held = &mut self.held[c];
            if let Some(r) = held.records.pop_front() {
                held.bytes -= r.memory();
                self.emit(c, r, lanes, sink);
                worked = true;
            }
        }
        let past = self.bounds.iter().copied().min().unwrap_or(clock);
        debug_assert!(self.held.iter().all(|h| h.records.front().is_none_or(|r| r.stamp >= past)));
        self.past = self.past.max(past);
        worked
    }

    fn take(&mut self, c: usize, lanes: &impl Lanes) {
        let held = &mut self.held[c];
        while held.bytes < HELD_MAX
            && let Some(r) = lanes.pop(c)
        {
            held.bytes += r.memory();
            held.records.push_back(r);
        }
        if held.bytes >= HELD_MAX
            && let Some(last) = held.records.back()
        {
            // More of this lane may be stamped like the last one taken.
            self.bounds[c] = self.bounds[c].min(last.stamp);
        }
    }

    /// The core whose first record is the next of the stream: the earliest, if
    /// no other core can still bring one before it.
    fn next(&self) -> Option<usize> {
        let heads = self.held.iter().enumerate().filter_map(|(c, h)| Some((h.records.front()?.stamp, c)));
        let (stamp, c) = heads.min()?;
        let safe = self.bounds.iter().enumerate().all(|(x, bound)| x == c || (stamp, c) < (*bound, x));
        safe.then_some(c)
    }

    fn emit(&mut self, core: usize, record: Record, lanes: &impl Lanes, sink: &mut impl Sink) {
        match record.body {
            Body::Run(mut run) => {
                sink.run(core, &mut run);
                lanes.recycle(core, run.bytes);
            }
            Body::Part { tx, commands, loose, run } => {
                let a = self.aside.entry(tx).or_default();
                a.commands += commands;
                a.loose |= loose;
                a.whole.append(&run);
                lanes.recycle(core, run.bytes);
            }
            Body::Commit { tx } => {
                if let Some(a) = self.aside.remove(&tx) {
                    self.commit(core, a, sink);
                }
            }
            Body::Cut { id } => {
                // All keys are locked at a cut, so what has no commit by now
                // never had one: its coordinator did not keep a journal yet.
                self.aside.clear();
                sink.cut(id);
            }
        }
    }

    fn commit(&mut self, core: usize, mut a: Aside, sink: &mut impl Sink) {
        if a.commands == 1 || a.loose {
            return sink.run(core, &mut a.whole);
        }
        let unit = &mut self.unit;
        unit.clear();
        unit.select(a.whole.first_db);
        unit.bytes.extend_from_slice(encode::MULTI);
        unit.append(&a.whole);
        unit.bytes.extend_from_slice(encode::EXEC);
        sink.run(core, unit);
    }
}
