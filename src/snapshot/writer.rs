//! From the cores' chunks to the bytes of a file.

use std::collections::VecDeque;

use super::job::Job;
use super::rdb::encode::Encoder;
use super::rdb::frame::{About, Frame};
use super::rdb::write;
use crate::store::cut::Chunk;

/// Bytes gathered before they go to the sink.
pub const WRITE_BYTES: usize = 256 * 1024;

/// Takes the chunks of all cores and makes one file of them. A record that
/// goes on keeps the others waiting until it ends.
pub struct Writer {
    frame: Frame,
    encoder: Option<Encoder>,
    queues: Vec<VecDeque<Chunk>>,
    /// The core whose record is open.
    open: Option<usize>,
    /// The core that comes next.
    turn: usize,
    db: Option<u32>,
    /// Databases that have been selected before.
    known: Vec<u32>,
    pub out: Vec<u8>,
}

impl Writer {
    pub fn new(job: &Job, cores: usize) -> Writer {
        Writer {
            frame: Frame::new(job.plan.checksum),
            encoder: job.plan.compress.then(|| Encoder::new(job.plan.version, true)),
            queues: (0..cores).map(|_| VecDeque::new()).collect(),
            open: None,
            turn: 0,
            db: None,
            known: Vec::new(),
            out: Vec::new(),
        }
    }

    pub fn begin(&mut self, job: &Job, about: &About) {
        self.frame.begin(&mut self.out, job.plan.version, about);
    }

    /// The source of a function library; before the first records.
    pub fn function(&mut self, source: &[u8]) {
        self.frame.function(&mut self.out, source);
    }

    pub fn put(&mut self, core: usize, chunk: Chunk) {
        self.queues[core].push_back(chunk);
    }

    /// The next chunk to be written, and its core.
    pub fn next_chunk(&mut self) -> Option<(usize, Chunk)> {
        if let Some(core) = self.open {
            return Some((core, self.queues[core].pop_front()?));
        }
        for _ in 0..self.queues.len() {
            let core = self.turn;
            self.turn = (self.turn + 1) % self.queues.len();
            if let Some(c) = self.queues[core].pop_front() {
                return Some((core, c));
            }
        }
        None
    }

    /// Appends a chunk to `out`.
    pub fn write(&mut self, job: &Job, core: usize, chunk: &Chunk) {
        debug_assert!(self.open.is_none_or(|c| c == core));
        if self.open.is_none() && self.db != Some(chunk.db) {
            let first = !self.known.contains(&chunk.db);
            let sizes = if first { job.size_of(chunk.db as usize) } else { None };
            self.known.push(chunk.db);
            self.frame.select(&mut self.out, chunk.db as usize, sizes);
            self.db = Some(chunk.db);
        }
        let from = self.out.len();
        match &mut self.encoder {
            Some(e) => compressed(&mut self.out, chunk, e),
            None => self.out.extend_from_slice(&chunk.bytes),
        }
        self.frame.records(&self.out[from..]);
        self.open = chunk.open.then_some(core);
    }

    /// Ends the file. Its size.
    pub fn end(&mut self) -> u64 {
        debug_assert!(self.open.is_none());
        self.frame.end(&mut self.out);
        self.frame.bytes()
    }

    pub fn bytes(&self) -> u64 {
        self.frame.bytes()
    }
}

/// Appends a chunk with those strings compressed that are worth it.
fn compressed(out: &mut Vec<u8>, chunk: &Chunk, encoder: &mut Encoder) {
    let mut done = 0;
    for &at in &chunk.strings {
        let at = at as usize;
        out.extend_from_slice(&chunk.bytes[done..at]);
        let (head, n) = write::read_length(&chunk.bytes[at..]);
        let start = at + head;
        encoder.string(out, &chunk.bytes[start..start + n]);
        done = start + n;
    }
    out.extend_from_slice(&chunk.bytes[done..]);
}
