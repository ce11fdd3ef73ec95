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
    patience: Patience,
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
            patience: Patience::default(),
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
            Some(e) => compressed(&mut self.out, chunk, e, &mut self.patience),
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

/// When to try compressing. Trying in vain costs more than everything else that
/// is done with a string; where many in a row hardly became shorter, most of
/// the following ones are written as they are.
#[derive(Default)]
struct Patience {
    in_vain: u32,
    left_out: u32,
}

impl Patience {
    /// Failures in a row from which on strings are left out.
    const ENOUGH: u32 = 16;
    /// What saves less than this share was tried in vain.
    const SAVES: usize = 16;

    /// Strings left out between two tries, at most.
    const LEFT_OUT_MAX: u32 = 32;

    fn tries(&mut self) -> bool {
        let tries = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        tries
    }

    fn learn(&mut self, shorter: bool) {
        self.in_vain = if shorter { 0 } else { self.in_vain.saturating_add(1) };
        let over = self.in_vain.saturating_sub(Patience::ENOUGH);
        self.left_out = over.min(Patience::LEFT_OUT_MAX);
    }
}

/// Appends a chunk with those strings compressed that are worth it.
fn compressed(out: &mut Vec<u8>, chunk: &Chunk, encoder: &mut Encoder, patience: &mut Patience) {
    let mut done = 0;
    for &at in &chunk.strings {
        let at = at as usize;
        out.extend_from_slice(&chunk.bytes[done..at]);
        let (head, n) = write::read_length(&chunk.bytes[at..]);
        let start = at + head;
        let (string, from) = (&chunk.bytes[start..start + n], out.len());
        if patience.tries() {
            encoder.string(out, string);
            patience.learn(out.len() - from <= n - n / Patience::SAVES);
        } else {
            write::raw(out, string);
        }
        done = start + n;
    }
    out.extend_from_slice(&chunk.bytes[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries among the next `n` strings, all of them alike.
    fn tries(p: &mut Patience, n: usize, shorter: bool) -> usize {
        (0..n)
            .filter(|_| {
                p.tries() && {
                    p.learn(shorter);
                    true
                }
            })
            .count()
    }

    #[test]
    fn what_does_not_become_shorter_is_tried_ever_more_rarely() {
        let mut p = Patience::default();
        assert_eq!(tries(&mut p, 16, false), 16);
        assert!((40..80).contains(&tries(&mut p, 1000, false)));
        assert!(tries(&mut p, 1000, true) >= 960, "one that does is followed by all");
    }
}
