//! A data core's effects on their way into the journal.

use super::core::Core;
use super::registry::{Entry, Route};
use crate::base::Args;
use crate::command::Merge;
use crate::command::effect::Item;

impl Core {
    /// Puts the stream of the effect at hand into the journal.
    #[inline]
    pub fn journal_effect(&mut self, entry: &Entry, args: Args, db: u32) {
        if self.echo {
            self.fx.stream.retain(|item| *item != Item::Verbatim);
        }
        self.journal.effect(db, args, &self.fx.stream, &self.fx.encoded, is_loose(entry));
        self.journal.settle(&self.lane);
    }

    /// Puts deletions that belong to no command into the journal.
    pub fn journal_alone(&mut self, db: u32) {
        self.journal.effect(db, &[], &self.fx.stream, &self.fx.encoded, true);
        self.fx.stream.clear();
        self.fx.encoded.clear();
        self.journal.settle(&self.lane);
    }

    /// Puts a command that changes no key (PUBLISH, FUNCTION LOAD ...) into
    /// the journal.
    pub fn journal_command(&mut self, db: usize, args: Args) {
        if self.fx.wants_stream {
            self.journal.command(db as u32, args);
            self.journal.settle(&self.lane);
        }
    }

    /// A part of a transaction begins. Of a command over everything, like
    /// FLUSHALL, only the first part says so in the stream.
    pub fn begin_part(&mut self, entry: &Entry, at: usize) {
        self.echo = at > 0 && matches!(entry.route, Route::Whole(_) | Route::Anywhere);
        self.in_unit = true;
        self.journal.begin_part();
    }

    /// Ends a part; whether it put anything into the journal.
    pub fn end_part(&mut self, entry: &Entry, tx: u64) -> bool {
        self.echo = false;
        self.in_unit = false;
        self.journal.end_part(tx, is_loose(entry))
    }

    /// The *journal* stage.
    pub fn publish_effects(&mut self) {
        if self.journal.publish(&self.lane, self.stamp) {
            let service = self.shared.service();
            self.wake_later(service);
        }
    }

    /// Lets the merge go on without this core, which is about to sleep.
    pub fn park_journal(&self) {
        if self.fx.wants_stream && !self.journal.pending() {
            self.lane.park();
        }
    }

    /// The same while the core looks for work without sleeping: whatever it
    /// finds is stamped later than `now`.
    pub fn keep_merge_going(&self, now: u64) {
        if self.fx.wants_stream && !self.journal.pending() {
            self.lane.advance(now.max(self.stamp + 1));
        }
    }

    /// From here on all effects are published.
    pub fn join_journal(&mut self) {
        self.fx.wants_stream = true;
        self.lane.advance(self.stamp);
    }

    /// Nobody reads the stream any more, or the core ends.
    pub fn leave_journal(&mut self) {
        self.fx.wants_stream = false;
        self.journal.discard(&self.lane);
        self.lane.advance(u64::MAX);
    }
}

/// What SCAN and RANDOMKEY find expired belongs to no unit.
fn is_loose(entry: &Entry) -> bool {
    matches!(entry.route, Route::Cursor | Route::Anywhere | Route::Whole(Merge::Any))
}
