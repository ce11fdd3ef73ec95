//! Taking back what a script has done.

use std::sync::Arc;

use crate::acl::log::Entry as Denial;
use crate::base::clock::UnixMs;
use crate::base::slot::Key;
use crate::server::core::Core;
use crate::session::conn::ConnRef;
use crate::session::pubsub::Kind;
use crate::store::Store;
use crate::store::entry::Entry;

/// Values that take more allocations than this to copy are not copied: a
/// script that is to change one runs with everything in reach.
const EFFORT_MAX: usize = 512;

/// Bytes of a value from which the same holds.
const BYTES_MAX: usize = 64 * 1024;

/// Bytes of lines for MONITOR from which the same holds.
const LINES_MAX: usize = 1024 * 1024;

/// What a script has said, to be heard when it has ended.
pub enum Said {
    /// For MONITOR.
    Line(Arc<str>),
    Publish(Kind, Vec<u8>, Vec<u8>),
    Log(i32, Vec<u8>),
    /// Something was denied to it.
    Denied(Box<Denial>),
}

/// A key as it was.
struct Before {
    db: usize,
    key: Vec<u8>,
    entry: Option<(Entry, Option<UnixMs>)>,
}

/// All that is needed to take a script back.
#[derive(Default)]
pub struct Undo {
    before: Vec<Before>,
    pub said: Vec<Said>,
    /// Bytes of its lines.
    lines: usize,
    /// Events, and keys that were read, that were there before it ran.
    pub events: usize,
    pub reads: usize,
    pub dirty: u64,
    /// The events are collected for it alone.
    pub own_events: bool,
}

impl Undo {
    pub fn new((events, reads): (usize, usize), own_events: bool, dirty: u64) -> Undo {
        Undo { events, reads, own_events, dirty, ..Undo::default() }
    }

    /// Keeps a key as it is, before it changes; false when that is too much.
    pub fn keep(&mut self, store: &Store, db: usize, key: &Key) -> bool {
        if self.before.iter().any(|b| b.db == db && b.key == key.bytes) {
            return true;
        }
        let entry = match store.get(db, key) {
            None => None,
            Some(e) => {
                let large = e.as_object().is_some_and(|o| o.undo_id().is_some() || o.free_effort() > EFFORT_MAX)
                    || e.as_str().is_some_and(|s| s.len() > BYTES_MAX);
                if large {
                    return false;
                }
                Some((e.copied(key.bytes), e.deadline()))
            }
        };
        self.before.push(Before { db, key: key.bytes.to_vec(), entry });
        true
    }

    /// Keeps a line for MONITOR; false when they are too many.
    pub fn keep_line(&mut self, line: Arc<str>) -> bool {
        self.lines += line.len();
        self.said.push(Said::Line(line));
        self.lines <= LINES_MAX
    }

    /// Puts everything back.
    pub fn take_back(self, core: &mut Core) {
        for b in self.before.into_iter().rev() {
            let key = Key::new(&b.key);
            core.store.delete(b.db, &key);
            if let Some((entry, deadline)) = b.entry {
                core.store.put_hashed(b.db, key.hash, entry);
                if deadline.is_some() {
                    core.store.set_deadline(b.db, &key, deadline);
                }
            }
        }
        core.stats.dirty = self.dirty;
        core.tracker.forget_away(self.reads);
        if self.own_events {
            core.gathering = None;
        } else if let Some(events) = &mut core.gathering {
            events.truncate(self.events);
        }
        core.journal.abandon_unit();
    }

    /// Lets everything be heard that was kept back, and remembers what was
    /// read for `reader`.
    pub fn release(self, core: &mut Core, reader: ConnRef) {
        if self.own_events {
            let events = core.gathering.take().unwrap_or_default();
            core.tell_with_reads(&events, reader);
        }
        for said in self.said {
            match said {
                Said::Line(line) => core.spread_line(line),
                Said::Publish(kind, channel, message) => {
                    core.publish(kind, &channel, &message);
                }
                Said::Log(level, text) => super::host::write_log(level, &text),
                Said::Denied(denial) => core.log_script_denial(denial, reader),
            }
        }
    }
}
