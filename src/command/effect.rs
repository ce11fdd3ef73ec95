//! The one description of what a command changed.
//!
//! It has two parts: the commands that go to replicas and into the AOF
//! (deterministic: relative times made absolute, random choices spelled out),
//! and the events per key that keyspace notification, WATCH, client tracking
//! and blocked clients read. Either part is only built when somebody reads it.

use crate::resp::{Reply, encode};

/// Classes of keyspace events; the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Generic,
    String,
    List,
    Set,
    Hash,
    ZSet,
    Stream,
    Expired,
    Evicted,
    New,
    /// A key that was to be read does not exist; nothing has changed.
    Miss,
    /// Not notified, but a change all the same (SWAPDB, FLUSHALL of a key).
    Silent,
}

/// Something happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub class: Class,
    pub name: &'static str,
    pub db: usize,
    pub key: Vec<u8>,
}

impl Event {
    /// Is it a change in the sense of WATCH? That a key expired is no news: a
    /// vote finds that it is gone, and whoever watched it after its deadline has
    /// lost nothing when it is removed. Groups and last IDs of streams do not
    /// count in Redis either.
    pub fn touches(&self) -> bool {
        match self.class {
            Class::Miss | Class::Expired => false,
            Class::Stream => !(self.name.starts_with("xgroup-") || self.name == "xsetid"),
            _ => true,
        }
    }

    /// May it give those who wait for the key what they wait for, or end their
    /// wait? A new consumer, a deletion from a stream or a new deadline does
    /// neither, and who waits for several keys must not be asked again for it:
    /// that would have the other keys' types looked at.
    pub fn wakes(&self) -> bool {
        match self.class {
            Class::Miss => false,
            Class::Stream => matches!(self.name, "xadd" | "xgroup-destroy"),
            _ => !matches!(self.name, "expire" | "persist"),
        }
    }
}

/// One command of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The command as the client sent it.
    Verbatim,
    /// Another one: the bytes of [`Effect::encoded`] from the end of the one
    /// before it up to `end`.
    Encoded {
        end: usize,
        /// A database other than the client's: what MOVE and COPY find
        /// expired at their destination.
        db: Option<u32>,
    },
}

/// What a client gets where it may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nil {
    Array,
    Bulk,
}

impl Nil {
    pub fn write(self, reply: &mut Reply) {
        match self {
            Nil::Array => reply.null_array(),
            Nil::Bulk => reply.null(),
        }
    }
}

/// A command has found nothing and waits for one of these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub keys: Vec<Vec<u8>>,
    /// Unix milliseconds; none for ever.
    pub deadline_ms: Option<u64>,
    /// The arguments with which to try again, if they are not the same.
    pub again: Option<Vec<Vec<u8>>>,
}

/// A step of SCAN that goes from core to core, because it has not seen as many
/// keys as it was asked to when a core's slots end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tour {
    /// Keys to reply with.
    pub found: Vec<Vec<u8>>,
    /// Entries seen, whether or not they are in the reply.
    pub seen: usize,
    /// Where it goes on, if it does.
    pub next: Option<u64>,
    /// How often it may still go on.
    pub legs_left: u32,
    /// Ticks that it took so far.
    pub spent: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Effect {
    /// Does anyone read the stream?
    pub wants_stream: bool,
    /// Does anyone read the events?
    pub wants_events: bool,
    /// DEL or UNLINK for keys found expired (`lazyfree-lazy-expire`).
    pub expire_by_unlink: bool,
    /// May the command wait?
    pub may_block: bool,
    /// It does.
    pub block: Option<Block>,
    /// A SCAN that may go on at another core, or is to.
    pub tour: Option<Box<Tour>>,
    pub stream: Vec<Item>,
    /// Commands that are not the client's own, as arrays of bulk strings.
    pub encoded: Vec<u8>,
    pub events: Vec<Event>,
    /// Number of changes, as `rdb_changes_since_last_save` counts them.
    pub dirty: u64,
    /// All cores record the same change: the first of them counts it.
    pub alike: bool,
}

impl Effect {
    /// Forgets what has been recorded; who reads stays.
    pub fn clear(&mut self) {
        self.stream.clear();
        self.encoded.clear();
        self.events.clear();
        self.dirty = 0;
        self.alike = false;
    }

    /// Is there anything for the effect's readers?
    #[inline]
    pub fn changed(&self) -> bool {
        self.dirty > 0 || self.has_readers()
    }

    /// Is there anything beside a number of changes?
    #[inline]
    pub fn has_readers(&self) -> bool {
        !self.stream.is_empty() || !self.events.is_empty()
    }

    /// The command goes to the stream as it came; `n` elements changed.
    #[inline]
    pub fn verbatim(&mut self, n: u64) {
        self.dirty += n;
        if self.wants_stream {
            self.stream.push(Item::Verbatim);
        }
    }

    /// Another command goes to the stream in its place; `n` elements changed.
    #[inline]
    pub fn rewrite(&mut self, n: u64, command: &[&[u8]]) {
        self.dirty += n;
        if self.wants_stream {
            encode::command(&mut self.encoded, command);
            self.stream.push(Item::Encoded { end: self.encoded.len(), db: None });
        }
    }

    /// Marks the rewritten commands from `first` on as belonging to `db`.
    pub fn move_to_db(&mut self, first: usize, db: usize) {
        for item in &mut self.stream[first..] {
            if let Item::Encoded { db: of @ None, .. } = item {
                *of = Some(db as u32);
            }
        }
    }

    /// The command by which the deletion of an expired key is passed on.
    pub fn expiry_word(&self) -> &'static [u8] {
        if self.expire_by_unlink { b"UNLINK" } else { b"DEL" }
    }

    #[inline]
    pub fn event(&mut self, class: Class, name: &'static str, db: usize, key: &[u8]) {
        if self.wants_events {
            self.events.push(Event { class, name, db, key: key.to_vec() });
        }
    }

    /// A key was found expired and deleted. That is no change that a client
    /// made: it does not count.
    pub fn expired(&mut self, db: usize, key: &[u8]) {
        self.rewrite(0, &[self.expiry_word(), key]);
        self.event(Class::Expired, "expired", db, key);
    }
}
