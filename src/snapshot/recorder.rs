//! Entries as RDB records, written down on a data core.

use super::rdb::Version;
use super::rdb::encode::{Access, Encoder};
use crate::command::cx::lfu_decayed;
use crate::store::cut::{Chunk, Recorder};
use crate::store::entry::Entry;
use crate::store::listpack::Item;

/// What is recorded about accesses: as Redis, by `maxmemory-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKept {
    Nothing,
    Idle,
    Frequency { decay_minutes: u32 },
}

/// Writes records without compressing: compression takes many times longer
/// than the rest, so it is left to the writer, which finds the strings worth a
/// try in [`Chunk::strings`].
pub struct RdbRecorder {
    encoder: Encoder,
    access: AccessKept,
    now_ms: u64,
}

impl RdbRecorder {
    /// `compress`: shall the writer compress?
    pub fn new(version: Version, compress: bool, access: AccessKept, now_ms: u64) -> RdbRecorder {
        RdbRecorder { encoder: Encoder::deferring(version, compress), access, now_ms }
    }

    fn access_of(&self, entry: &Entry) -> Access {
        match self.access {
            AccessKept::Nothing => Access::None,
            AccessKept::Idle => {
                let now = (self.now_ms / 1000) as u32;
                Access::Idle(u64::from(now.wrapping_sub(entry.clock()) & 0x00FF_FFFF))
            }
            AccessKept::Frequency { decay_minutes } => {
                Access::Freq(lfu_decayed(entry.clock(), (self.now_ms / 60_000) as u16, decay_minutes))
            }
        }
    }

    fn with(&mut self, out: &mut Chunk, f: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        self.encoder.swap_marks(&mut out.strings);
        f(&mut self.encoder, &mut out.bytes);
        self.encoder.swap_marks(&mut out.strings);
    }
}

impl Recorder for RdbRecorder {
    fn record(&mut self, out: &mut Chunk, entry: &Entry) {
        let access = self.access_of(entry);
        self.with(out, |e, bytes| e.record(bytes, entry, access));
    }

    fn begin(&mut self, out: &mut Chunk, entry: &Entry) {
        let access = self.access_of(entry);
        self.with(out, |e, bytes| {
            e.begin(bytes, entry, access);
        });
    }

    fn element(&mut self, out: &mut Chunk, item: Item) {
        self.with(out, |e, bytes| e.element(bytes, item));
    }

    fn field(&mut self, out: &mut Chunk, field: Item, value: Item) {
        self.with(out, |e, bytes| e.field(bytes, field, value));
    }

    fn scored(&mut self, out: &mut Chunk, member: Item, score: f64) {
        self.with(out, |e, bytes| e.scored(bytes, member, score));
    }
}
