//! A core's way to the service core: a bounded queue of records, and what the
//! merge has to know of the core.
//!
//! Invariants: the watermark never falls, except when a core joins again; nothing stamped below it is pushed
//! after it was stored; `parked` is only true while nothing is unpublished and
//! the core takes no stamp.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use super::record::Record;
use crate::base::spsc::Queue;

/// Records in one lane at most; a core whose lane is full stops reading clients.
pub const RECORDS_MAX: usize = 2048;

/// Bytes in one lane from which its core stops reading clients. One turn may
/// still add what it had begun.
pub const BYTES_MAX: usize = 16 << 20;

/// Emptied buffers that wait for reuse in one lane: what a core fills while the
/// service core has not had its turn, some milliseconds. New memory would cost
/// 25 us a buffer and more (PERF.md, the machine's memory). What has not been
/// needed for a while goes ([`Lane::relax`]).
const SPARES: usize = 64;

#[repr(align(128))]
struct Padded<T>(T);

/// See the module's description. The core pushes, the service core pops.
pub struct Lane {
    records: Queue<Record, RECORDS_MAX>,
    spares: Queue<Vec<u8>, SPARES>,
    watermark: Padded<AtomicU64>,
    parked: AtomicBool,
    /// Stamp of the last record published; 0 if there was none.
    last: AtomicU64,
    /// The stamp that must become durable before the core can go on sending;
    /// 0 if none.
    awaits: AtomicU64,
    /// Bytes of the buffers in which the core writes.
    own: AtomicUsize,
    spare_bytes: AtomicUsize,
    /// The fewest buffers for reuse since [`Lane::relax`]; the core's own.
    spares_least: AtomicUsize,
    bytes: Padded<AtomicUsize>,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            records: Queue::new(),
            spares: Queue::new(),
            watermark: Padded(AtomicU64::new(0)),
            parked: AtomicBool::new(false),
            last: AtomicU64::new(0),
            awaits: AtomicU64::new(0),
            own: AtomicUsize::new(0),
            spare_bytes: AtomicUsize::new(0),
            spares_least: AtomicUsize::new(0),
            bytes: Padded(AtomicUsize::new(0)),
        }
    }
}

impl Lane {
    // The core's side.

    /// Gives the record back when the lane is full.
    pub fn push(&self, record: Record) -> Result<(), Record> {
        let (bytes, stamp) = (record.memory(), record.stamp);
        // Before it can be popped, or the count would pass below 0.
        self.bytes.0.fetch_add(bytes, Ordering::Relaxed);
        if let Err(back) = self.records.push(record) {
            self.bytes.0.fetch_sub(bytes, Ordering::Relaxed);
            return Err(back);
        }
        self.last.store(stamp, Ordering::Release);
        Ok(())
    }

    /// Nothing stamped below `stamp` will follow.
    pub fn advance(&self, stamp: u64) {
        self.watermark.0.store(stamp, Ordering::Release);
    }

    /// Everything is published, and no stamp will be taken before
    /// [`Lane::unpark`].
    pub fn park(&self) {
        self.parked.store(true, Ordering::Release);
    }

    /// The fence keeps the clock from being read before the merge can see that
    /// the core is no longer parked.
    pub fn unpark(&self) {
        if self.parked.load(Ordering::Relaxed) {
            self.parked.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Has more been published than a well-behaved service core leaves?
    pub fn crowded(&self) -> bool {
        self.bytes.0.load(Ordering::Relaxed) > BYTES_MAX
    }

    /// An emptied buffer that comes back.
    pub fn take_spare(&self) -> Option<Vec<u8>> {
        let spare = self.spares.pop();
        self.spares_least.fetch_min(self.spares.len(), Ordering::Relaxed);
        self.spare_bytes.fetch_sub(spare.as_ref().map_or(0, Vec::capacity), Ordering::Relaxed);
        spare
    }

    /// Frees buffers that have not been needed since the last call. To be called
    /// now and then.
    pub fn relax(&self) {
        let idle = self.spares_least.load(Ordering::Relaxed);
        (0..idle).for_each(|_| drop(self.take_spare()));
        self.spares_least.store(self.spares.len(), Ordering::Relaxed);
    }

    /// So many bytes of memory hold what the core has not pushed, or is yet to
    /// write.
    pub fn set_own(&self, bytes: usize) {
        self.own.store(bytes, Ordering::Relaxed);
    }

    /// The core will send nothing until this stamp is durable; 0 when it can.
    pub fn set_awaits(&self, stamp: u64) {
        self.awaits.store(stamp, Ordering::SeqCst);
    }

    // The service core's side.

    pub fn pop(&self) -> Option<Record> {
        self.pop_to(&AtomicUsize::new(0))
    }

    /// The same; its bytes are added to `held` before they cease to count
    /// here, so that the sum is never too small.
    pub fn pop_to(&self, held: &AtomicUsize) -> Option<Record> {
        let record = self.records.pop()?;
        held.fetch_add(record.memory(), Ordering::Relaxed);
        self.bytes.0.fetch_sub(record.memory(), Ordering::Relaxed);
        Some(record)
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }

    pub fn watermark(&self) -> u64 {
        self.watermark.0.load(Ordering::Acquire)
    }

    pub fn awaits(&self) -> u64 {
        self.awaits.load(Ordering::SeqCst)
    }

    /// Gives an emptied buffer back to the core.
    pub fn give_spare(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let bytes = buffer.capacity();
        self.spare_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One too many is freed.
        if self.spares.push(buffer).is_err() {
            self.spare_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    // Any side.

    /// Bytes in the queue.
    pub fn bytes(&self) -> usize {
        self.bytes.0.load(Ordering::Relaxed)
    }

    /// Bytes of memory of all buffers on this way: what is being written, what
    /// is in the queue, and what waits for reuse.
    pub fn memory(&self) -> usize {
        self.bytes() + self.own.load(Ordering::Relaxed) + self.spare_bytes.load(Ordering::Relaxed)
    }

    /// Stamp of the last record published.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers come back as they are needed, are counted, and go when they are not.
    #[test]
    fn spares_that_nobody_needs_are_freed() {
        let lane = Lane::default();
        (0..SPARES + 5).for_each(|_| lane.give_spare(Vec::with_capacity(1000)));
        assert_eq!(lane.memory(), 1000 * SPARES);
        lane.relax();
        for _ in 0..10 {
            let (one, other) = (lane.take_spare().unwrap(), lane.take_spare().unwrap());
            assert!(one.is_empty() && one.capacity() == 1000);
            lane.give_spare(one);
            lane.give_spare(other);
        }
        lane.relax();
        assert_eq!(lane.memory(), 2000, "two were needed");
        lane.relax();
        assert_eq!(lane.memory(), 0);
        assert!(lane.take_spare().is_none());
    }
}
