//! Keys with deadlines that clients wrote to a replica that is not read-only:
//! its primary does not know them, so the replica deletes them itself.

use std::collections::{BTreeSet, HashMap};

use super::core::Core;
use crate::base::slot::Key;
use crate::command::effect::Event;

/// Keys deleted before the core looks after its clients again.
const BATCH: usize = 64;

/// One core's keys of that kind. There are at most as many as keys with
/// deadlines were written here and have not been due.
#[derive(Default)]
pub struct LocalDeadlines {
    due: BTreeSet<(u64, usize, Vec<u8>)>,
    known: HashMap<(usize, Vec<u8>), u64, foldhash::fast::RandomState>,
}

impl LocalDeadlines {
    /// Unix milliseconds.
    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// How many keys.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    fn note(&mut self, db: usize, key: &[u8], at: u64) {
        if let Some(before) = self.known.insert((db, key.to_vec()), at) {
            self.due.remove(&(before, db, key.to_vec()));
        }
        self.due.insert((at, db, key.to_vec()));
    }

    /// Takes out what is due.
    fn take(&mut self, now: u64) -> Option<(usize, Vec<u8>)> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        let (_, db, key) = self.due.pop_first()?;
        self.known.remove(&(db, key.clone()));
        Some((db, key))
    }
}

impl Core {
    /// Keeps account of them only where there can be any.
    pub fn update_local_deadlines(&mut self) {
        if !self.role.replica {
            self.local_deadlines = None;
        } else if !self.settings.replication.replica_read_only && self.local_deadlines.is_none() {
            self.local_deadlines = Some(Box::default());
        }
    }

    /// Clients have changed these keys.
    pub fn note_local_deadlines(&mut self, events: &[Event]) {
        let Some(local) = &mut self.local_deadlines else { return };
        for e in events.iter().filter(|e| e.touches()) {
            let key = Key::new(&e.key);
            if let Some(at) = self.store.get(e.db, &key).and_then(|entry| entry.deadline()) {
                local.note(e.db, &e.key, at);
            }
        }
    }

    /// Deletes those that are due; when the next is.
    pub fn expire_local(&mut self) -> Option<u64> {
        if self.local_deadlines.as_ref()?.next()? <= self.now {
            self.fx.wants_events = self.wants_events();
            for _ in 0..BATCH {
                let Some((db, key)) = self.local_deadlines.as_mut().and_then(|l| l.take(self.now)) else { break };
                self.expire_one_local(db, &key);
            }
            let events = std::mem::take(&mut self.fx.events);
            self.tell(&events);
            self.fx.clear();
        }
        self.local_deadlines.as_ref()?.next()
    }

    fn expire_one_local(&mut self, db: usize, bytes: &[u8]) {
        let key = Key::new(bytes);
        let Some(at) = self.store.get(db, &key).and_then(|entry| entry.deadline()) else { return };
        let later = if self.is_locked(db, key.hash) { self.now + 1 } else { at };
        if later > self.now {
            if let Some(local) = &mut self.local_deadlines {
                local.note(db, bytes, later);
            }
            return;
        }
        self.store.delete(db, &key);
        self.store.stats.expired += 1;
        self.fx.expired(db, bytes);
        self.journal_alone(db as u32);
    }
}
