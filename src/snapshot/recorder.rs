//! Entries as RDB records, written down on a data core.

use super::access::{self, Policy};
use super::rdb::Version;
use super::rdb::encode::Encoder;
use crate::store::cut::{Chunk, Recorder};
use crate::store::entry::Entry;
use crate::store::listpack::Item;

/// Writes records without compressing: compression takes many times longer
/// than the rest, so it is left to the writer, which finds the strings worth a
/// try in [`Chunk::strings`].
pub struct RdbRecorder {
    encoder: Encoder,
    access: Policy,
    now_ms: u64,
}

impl RdbRecorder {
    /// `compress`: shall the writer compress?
    pub fn new(version: Version, compress: bool, access: Policy, now_ms: u64) -> RdbRecorder {
        RdbRecorder { encoder: Encoder::deferring(version, compress), access, now_ms }
    }

    fn with(&mut self, out: &mut Chunk, f: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        self.encoder.swap_marks(&mut out.strings);
        f(&mut self.encoder, &mut out.bytes);
        self.encoder.swap_marks(&mut out.strings);
    }
}

impl Recorder for RdbRecorder {
    fn record(&mut self, out: &mut Chunk, entry: &Entry) {
        let access = access::of(entry, self.access, self.now_ms);
        self.with(out, |e, bytes| e.record(bytes, entry, access));
    }

    fn begin(&mut self, out: &mut Chunk, entry: &Entry) {
        let access = access::of(entry, self.access, self.now_ms);
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
