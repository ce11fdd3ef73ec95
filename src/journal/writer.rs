//! A data core's end of the journal: from a command's effect to records.
//!
//! Commands that stand alone are appended to one run per turn. An execution
//! unit (a command with several effects, EXEC, a script) of more than one
//! command is wrapped into MULTI and EXEC. A part of a transaction over
//! several cores becomes a record of its own, and its wrapping is the merge's.

use std::collections::VecDeque;

use super::lane::Lane;
use super::record::{Body, Record, Run};
use crate::command::effect::Item;
use crate::resp::encode;

/// Bytes after which a run is closed and another begun.
pub const RUN_BYTES: usize = 64 * 1024;

/// Runs up to this size are copied into a buffer of their own size, so that
/// many small ones do not hold large buffers.
const SMALL_RUN: usize = 4 * 1024;

/// Buffers of [`RUN_BYTES`] up to this capacity are used again.
pub const SPARE_MAX: usize = 2 * RUN_BYTES;

/// An execution unit, or a part, while it is written.
#[derive(Default)]
struct Unit {
    /// Units within units belong to the outermost.
    depth: u32,
    commands: u32,
    run: Run,
}

/// See the module's description.
#[derive(Default)]
pub struct Writer {
    run: Run,
    unit: Unit,
    /// Closed, not stamped yet.
    closed: VecDeque<Body>,
    /// Stamped; the lane had no room for them.
    waiting: VecDeque<Record>,
}

impl Writer {
    /// Everything from here to [`Writer::end_unit`] stays together.
    pub fn begin_unit(&mut self) {
        self.unit.depth += 1;
    }

    pub fn end_unit(&mut self) {
        self.unit.depth -= 1;
        if self.unit.depth > 0 {
            return;
        }
        let unit = &mut self.unit;
        match unit.commands {
            0 => {}
            1 => self.run.append(&unit.run),
            _ => {
                self.run.select(unit.run.first_db);
                self.run.bytes.extend_from_slice(encode::MULTI);
                self.run.append(&unit.run);
                self.run.bytes.extend_from_slice(encode::EXEC);
            }
        }
        self.clear_unit();
    }

    /// Forgets a unit that has no other around it: it was taken back.
    pub fn abandon_unit(&mut self) {
        self.unit.depth -= 1;
        debug_assert_eq!(self.unit.depth, 0, "only a whole unit can be taken back");
        self.clear_unit();
    }

    fn clear_unit(&mut self) {
        self.unit.commands = 0;
        self.unit.run.clear();
        if self.unit.run.bytes.capacity() > SPARE_MAX {
            self.unit.run.bytes = Vec::new();
        }
    }

    /// Everything up to [`Writer::end_part`] belongs to a transaction.
    pub fn begin_part(&mut self) {
        debug_assert_eq!(self.unit.depth, 0, "a part is never inside a unit");
        self.begin_unit();
    }

    /// Ends a part; whether it has any commands.
    pub fn end_part(&mut self, tx: u64, loose: bool) -> bool {
        self.unit.depth -= 1;
        let commands = self.unit.commands;
        if commands > 0 {
            self.close_run(None);
            let run = std::mem::take(&mut self.unit.run);
            self.closed.push_back(Body::Part { tx, commands, loose, run });
        }
        self.clear_unit();
        commands > 0
    }

    /// All parts of a transaction have been published on their cores.
    pub fn commit(&mut self, tx: u64) {
        self.close_run(None);
        self.closed.push_back(Body::Commit { tx });
    }

    /// A snapshot's cut is here.
    pub fn cut(&mut self, id: u64) {
        debug_assert_eq!(self.unit.depth, 0, "a cut is never inside a unit");
        self.close_run(None);
        self.closed.push_back(Body::Cut { id });
    }

    /// One command that stands for itself, or belongs to the open unit.
    #[inline]
    pub fn command(&mut self, db: u32, args: &[&[u8]]) {
        let run = self.target(1);
        run.select(db);
        encode::command(&mut run.bytes, args);
    }

    /// The stream of one command's effect: `args` is the client's command,
    /// `db` its database. Several commands stay together unless `loose`.
    #[inline]
    pub fn effect(&mut self, db: u32, args: &[&[u8]], stream: &[Item], encoded: &[u8], loose: bool) {
        if let [Item::Verbatim] = stream {
            return self.command(db, args);
        }
        self.effects(db, args, stream, encoded, loose);
    }

    fn effects(&mut self, db: u32, args: &[&[u8]], stream: &[Item], encoded: &[u8], loose: bool) {
        let wrap = stream.len() > 1 && !loose && self.unit.depth == 0;
        if wrap {
            self.begin_unit();
        }
        let mut start = 0;
        for item in stream {
            match *item {
                Item::Verbatim => self.command(db, args),
                Item::Encoded { end, db: other } => {
                    let run = self.target(1);
                    run.select(other.unwrap_or(db));
                    run.bytes.extend_from_slice(&encoded[start..end]);
                    start = end;
                }
            }
        }
        if wrap {
            self.end_unit();
        }
    }

    #[inline]
    fn target(&mut self, commands: u32) -> &mut Run {
        if self.unit.depth > 0 {
            self.unit.commands += commands;
            &mut self.unit.run
        } else {
            &mut self.run
        }
    }

    fn close_run(&mut self, lane: Option<&Lane>) {
        let n = self.run.bytes.len();
        if n == 0 {
            return;
        }
        let Run { first_db, last_db, .. } = self.run;
        let bytes = if n <= SMALL_RUN {
            let copy = self.run.bytes.as_slice().to_vec();
            self.run.bytes.clear();
            copy
        } else {
            let fresh = lane.and_then(Lane::take_spare).unwrap_or_else(|| Vec::with_capacity(RUN_BYTES + SMALL_RUN));
            std::mem::replace(&mut self.run.bytes, fresh)
        };
        self.closed.push_back(Body::Run(Run { first_db, last_db, bytes }));
    }

    /// Closes a run that has grown large; called between commands.
    #[inline]
    pub fn settle(&mut self, lane: &Lane) {
        if self.run.bytes.len() >= RUN_BYTES {
            self.close_run(Some(lane));
        }
    }

    /// Is anything written and not published?
    #[inline]
    pub fn pending(&self) -> bool {
        !self.run.bytes.is_empty() || !self.closed.is_empty() || !self.waiting.is_empty()
    }

    /// Must the core stop reading clients, because its lane is too full?
    #[inline]
    pub fn congested(&self, lane: &Lane) -> bool {
        !self.waiting.is_empty() || lane.crowded()
    }

    /// The turn is taking this stamp: whatever comes next is stamped with it or
    /// later.
    pub fn stamp(&self, lane: &Lane, stamp: u64) {
        lane.advance(self.waiting.front().map_or(stamp, |r| r.stamp));
    }

    /// Publishes what was written, stamped, and then the watermark. Whether
    /// the lane got something.
    pub fn publish(&mut self, lane: &Lane, stamp: u64) -> bool {
        debug_assert_eq!(self.unit.depth, 0, "a unit ends in the turn in which it began");
        self.close_run(Some(lane));
        self.waiting.extend(self.closed.drain(..).map(|body| Record { stamp, body }));
        let before = self.waiting.len();
        while let Some(r) = self.waiting.pop_front() {
            if let Err(r) = lane.push(r) {
                self.waiting.push_front(r);
                break;
            }
        }
        lane.advance(self.waiting.front().map_or(stamp + 1, |r| r.stamp));
        lane.set_own(self.memory());
        before > self.waiting.len()
    }

    /// Forgets what was written and not published.
    pub fn discard(&mut self, lane: &Lane) {
        *self = Writer::default();
        lane.set_own(0);
    }

    /// Bytes of memory held between turns.
    fn memory(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(Record::memory).sum();
        self.run.bytes.capacity() + self.unit.run.bytes.capacity() + waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lane: &Lane) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(r) = lane.pop() {
            let (kind, run) = match r.body {
                Body::Run(run) => ("run".to_string(), run),
                Body::Part { tx, commands, run, .. } => (format!("part {tx} of {commands}"), run),
                Body::Commit { tx } => (format!("commit {tx}"), Run::default()),
                Body::Cut { id } => (format!("cut {id}"), Run::default()),
            };
            let words = String::from_utf8(run.bytes).unwrap();
            let words: Vec<&str> =
                words.split("\r\n").filter(|w| !w.starts_with(['*', '$']) && !w.is_empty()).collect();
            out.push(format!("{} {kind} {}-{} {}", r.stamp, run.first_db, run.last_db, words.join(" ")));
        }
        out
    }

    #[test]
    fn units_of_several_commands_are_wrapped_and_single_ones_are_not() {
        let (mut w, lane) = (Writer::default(), Lane::default());
        w.command(0, &[b"a"]);
        w.begin_unit();
        w.command(5, &[b"b"]);
        w.end_unit();
        w.begin_unit();
        w.begin_unit();
        w.command(5, &[b"c"]);
        w.end_unit();
        w.command(0, &[b"d"]);
        w.end_unit();
        w.begin_unit();
        w.end_unit();
        assert!(w.publish(&lane, 7));
        assert_eq!(text(&lane), ["7 run 0-0 a SELECT 5 b MULTI c SELECT 0 d EXEC"]);
        assert_eq!(lane.watermark(), 8);
        assert!(!w.publish(&lane, 9) && lane.watermark() == 10);
    }

    #[test]
    fn parts_and_commits_stand_between_runs() {
        let (mut w, lane) = (Writer::default(), Lane::default());
        w.command(1, &[b"a"]);
        w.begin_part();
        w.effect(2, &[b"b"], &[Item::Encoded { end: 3, db: Some(4) }, Item::Verbatim], b"xyz", false);
        assert!(w.end_part(77, false));
        w.command(1, &[b"c"]);
        w.commit(76);
        w.begin_part();
        assert!(!w.end_part(78, false));
        w.cut(3);
        w.publish(&lane, 1);
        let want = ["1 run 1-1 a", "1 part 77 of 2 4-2 xyz*2", "1 run 1-1 c", "1 commit 76 0-0 ", "1 cut 3 0-0 "];
        let got = text(&lane);
        assert_eq!(got.len(), want.len(), "{got:?}");
        assert!(got[1].starts_with("1 part 77 of 2 4-2 xyz"), "{got:?}");
        for i in [0, 2, 3, 4] {
            assert_eq!(got[i], want[i]);
        }
    }

    #[test]
    fn a_full_lane_holds_the_watermark_at_what_is_left() {
        let (mut w, lane) = (Writer::default(), Lane::default());
        for i in 0..super::super::lane::RECORDS_MAX as u64 {
            w.commit(i);
        }
        w.publish(&lane, 1);
        assert!(!w.congested(&lane));
        w.command(0, &[b"late"]);
        assert!(!w.publish(&lane, 2));
        assert!(w.congested(&lane) && w.pending());
        w.stamp(&lane, 5);
        assert_eq!(lane.watermark(), 2, "the record of turn 2 is still to come");
        assert!(lane.pop().is_some());
        assert!(w.publish(&lane, 5));
        assert!(!w.congested(&lane) && lane.watermark() == 6);
    }
}
