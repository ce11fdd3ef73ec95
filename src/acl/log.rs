//! What was denied: ACL LOG. Every core keeps a log of its own; who asks gets
//! them merged.

use std::collections::VecDeque;

/// Milliseconds within which equal denials are one entry.
const SAME_WITHIN_MS: u64 = 60_000;

/// Entries, newest first, that are looked at for an equal one.
const SAME_AMONG: usize = 10;

/// Why it was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Auth,
    Command,
    Key,
    Channel,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Auth => "auth",
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
        }
    }
}

/// Where the command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    TopLevel,
    Multi,
    Script,
}

impl Origin {
    pub fn name(self) -> &'static str {
        match self {
            Origin::TopLevel => "toplevel",
            Origin::Multi => "multi",
            Origin::Script => "lua",
        }
    }
}

/// One entry: equal denials, one or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unique in the process, ascending; given by [`Log::push`].
    pub id: u64,
    pub count: u64,
    pub reason: Reason,
    pub origin: Origin,
    /// Command, key or channel.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// The connection, as CLIENT INFO describes it, at the last time.
    pub client: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    pub updated_ms: u64,
    /// Orders entries of several cores: the turn's stamp at the last time.
    pub stamp_ns: u64,
}

impl Entry {
    fn is_like(&self, other: &Entry) -> bool {
        self.reason == other.reason
            && self.origin == other.origin
            && self.object == other.object
            && self.user == other.user
            && self.updated_ms.abs_diff(other.updated_ms) <= SAME_WITHIN_MS
    }

    /// Takes in a later entry that is like this one.
    fn absorb(&mut self, later: Entry) {
        self.count += later.count;
        self.id = self.id.min(later.id);
        self.created_ms = self.created_ms.min(later.created_ms);
        self.updated_ms = later.updated_ms;
        self.stamp_ns = later.stamp_ns;
        self.client = later.client;
    }
}

/// The log of one core, newest first.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
}

impl Log {
    /// Adds a denial. `max` is `acllog-max-len`; what is there already stays
    /// when it is lowered, until something is added. Only what becomes an entry of
    /// its own gets a number.
    pub fn push(&mut self, mut entry: Entry, max: usize, number: impl FnOnce() -> u64) {
        let like = self.entries.iter().take(SAME_AMONG).position(|old| old.is_like(&entry));
        match like.and_then(|at| self.entries.remove(at)) {
            Some(mut old) => {
                entry.id = old.id;
                old.absorb(entry);
                self.entries.push_front(old);
            }
            None => {
                entry.id = number();
                self.entries.push_front(entry);
                self.entries.truncate(max);
            }
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
    }
}

/// The logs of all cores as one, newest first.
pub fn merge(logs: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut all: Vec<Entry> = logs.into_iter().flatten().collect();
    all.sort_by_key(|e| e.stamp_ns);
    let mut out: VecDeque<Entry> = VecDeque::new();
    for entry in all {
        match out.iter().take(SAME_AMONG).position(|old| old.is_like(&entry)).and_then(|at| out.remove(at)) {
            Some(mut old) => {
                old.absorb(entry);
                out.push_front(old);
            }
            None => out.push_front(entry),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(object: &str) -> Entry {
        Entry {
            id: 0,
            count: 1,
            reason: Reason::Key,
            origin: Origin::TopLevel,
            object: object.into(),
            user: Vec::new(),
            client: String::new(),
            created_ms: 0,
            updated_ms: 0,
            stamp_ns: 0,
        }
    }

    /// As in Redis: a limit that was lowered is kept when something is added,
    /// also if nothing is to be kept at all.
    #[test]
    fn a_lowered_limit_counts_from_the_next_denial_on() {
        let mut log = Log::default();
        let mut ids = 0..;
        let mut push =
            |log: &mut Log, object: &str, max| log.push(denial(object), max, || ids.next().expect("endless"));
        ["a", "b", "c"].iter().for_each(|o| push(&mut log, o, 3));
        push(&mut log, "a", 2);
        assert_eq!(log.entries().len(), 3);
        push(&mut log, "d", 2);
        // The second denial of "a" has its first one's number, and took none.
        assert_eq!(log.entries().iter().map(|e| e.id).collect::<Vec<_>>(), [3, 0]);
        assert_eq!(log.entries().iter().map(|e| &e.object[..]).collect::<Vec<_>>(), [b"d", b"a"]);
        push(&mut log, "e", 0);
        assert!(log.entries().is_empty());
    }
}
