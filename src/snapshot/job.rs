//! One snapshot under way: what the data cores and the writer share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::access::Policy;
use super::rdb::Version;
use super::recorder::RdbRecorder;
use crate::base::spsc::Queue;
use crate::store::cut::CHUNK_BYTES;

/// Bytes of one core's chunks that may be on their way to the writer; a core
/// stops reading its keyspace until there are fewer.
pub const IN_FLIGHT_MAX: usize = 4 << 20;

/// Below this, a core that has stopped is told to go on.
const IN_FLIGHT_LOW: usize = IN_FLIGHT_MAX / 2;

/// Buffers of one core's chunks that come back to be filled again: those of all
/// that may be on their way.
pub const SPARES: usize = IN_FLIGHT_MAX / CHUNK_BYTES;

/// Buffers that grew beyond this do not come back.
const SPARE_MAX: usize = 2 * CHUNK_BYTES;

/// What is decided when a snapshot begins.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub version: Version,
    /// `rdbcompression`. The writer compresses, not the data cores.
    pub compress: bool,
    /// `rdbchecksum`.
    pub checksum: bool,
    /// What is recorded about accesses, by the eviction policy.
    pub access: Policy,
    /// Nothing is served until the snapshot has been made (SAVE).
    pub hold: bool,
}

/// See the module's description.
pub struct Job {
    /// Sources of the function libraries at the cut.
    pub functions: Mutex<Vec<Vec<u8>>>,
    pub id: u64,
    pub plan: Plan,
    /// Something owed to the snapshot was dropped: it must not be kept.
    pub lost: Arc<AtomicBool>,
    /// Nobody wants it any more.
    failed: AtomicBool,
    /// Cores that may still record something.
    open: AtomicUsize,
    in_flight: Box<[AtomicUsize]>,
    spares: Box<[Queue<Vec<u8>, SPARES>]>,
    /// By core: recorded, and waiting for room on the way.
    unsent: Box<[AtomicUsize]>,
    /// Keys of all cores at the cut, and those that have been written.
    pub keys_total: AtomicU64,
    pub keys_done: AtomicU64,
    /// Changes counted up to the cut.
    pub changes: AtomicU64,
    /// Per database: keys, and keys with a deadline.
    sizes: Mutex<Vec<(u64, u64)>>,
    /// When the cut was made, Unix milliseconds; 0 before.
    pub cut_ms: AtomicU64,
}

impl Job {
    pub fn new(id: u64, cores: usize, plan: Plan) -> Job {
        Job {
            id,
            plan,
            lost: Arc::default(),
            failed: AtomicBool::new(false),
            open: AtomicUsize::new(cores),
            in_flight: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            spares: (0..cores).map(|_| Queue::new()).collect(),
            unsent: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            keys_total: AtomicU64::new(0),
            keys_done: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            sizes: Mutex::default(),
            cut_ms: AtomicU64::new(0),
            functions: Mutex::default(),
        }
    }

    pub fn recorder(&self, now_ms: u64) -> RdbRecorder {
        RdbRecorder::new(self.plan.version, self.plan.compress, self.plan.access, now_ms)
    }

    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.lost.load(Ordering::Relaxed)
    }

    /// A core that had recorded everything has something again. To be called
    /// while another core's part cannot have ended.
    pub fn reopen(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// The writer has heard from a core that it has recorded everything, after
    /// all that it has sent.
    pub fn close(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn is_complete(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// May a core send more?
    pub fn has_room(&self, core: usize) -> bool {
        self.in_flight[core].load(Ordering::Relaxed) < IN_FLIGHT_MAX
    }

    /// A core has so many bytes left that it could not send.
    pub fn note_unsent(&self, core: usize, bytes: usize) {
        self.unsent[core].store(bytes, Ordering::Relaxed);
    }

    /// The most that some core could not send.
    pub fn unsent(&self) -> usize {
        self.unsent.iter().map(|n| n.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    pub fn sent(&self, core: usize, bytes: usize) {
        self.in_flight[core].fetch_add(bytes, Ordering::Relaxed);
    }

    /// The writer has done with so many bytes; must the core be told to go on?
    pub fn written(&self, core: usize, bytes: usize) -> bool {
        let before = self.in_flight[core].fetch_sub(bytes, Ordering::Relaxed);
        before >= IN_FLIGHT_LOW && before - bytes < IN_FLIGHT_LOW
    }

    /// The writer has emptied a chunk.
    pub fn give_spare(&self, core: usize, mut buffer: Vec<u8>) {
        buffer.clear();
        if (CHUNK_BYTES..=SPARE_MAX).contains(&buffer.capacity()) {
            // One too many is freed.
            drop(self.spares[core].push(buffer));
        }
    }

    /// A buffer for a core's next chunk.
    pub fn take_spare(&self, core: usize) -> Option<Vec<u8>> {
        self.spares[core].pop()
    }

    /// A core's databases at the cut: keys, and keys with a deadline.
    pub fn add_sizes(&self, own: &[(u64, u64)]) {
        let mut sizes = self.sizes.lock().unwrap_or_else(|e| e.into_inner());
        let n = sizes.len().max(own.len());
        sizes.resize(n, (0, 0));
        for (all, own) in sizes.iter_mut().zip(own) {
            all.0 += own.0;
            all.1 += own.1;
            self.keys_total.fetch_add(own.0, Ordering::Relaxed);
        }
    }

    pub fn size_of(&self, db: usize) -> Option<(u64, u64)> {
        self.sizes.lock().unwrap_or_else(|e| e.into_inner()).get(db).copied()
    }
}
