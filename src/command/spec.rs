//! What is known of a command: the row that COMMAND, ACL categories, routing
//! and the documentation are made from.

use super::{Cx, Done};
use crate::base::Args;

/// Command flags, as COMMAND INFO names them.
pub mod flag {
    pub const WRITE: u32 = 1 << 0;
    pub const READONLY: u32 = 1 << 1;
    pub const DENYOOM: u32 = 1 << 2;
    pub const ADMIN: u32 = 1 << 3;
    pub const PUBSUB: u32 = 1 << 4;
    pub const NOSCRIPT: u32 = 1 << 5;
    pub const BLOCKING: u32 = 1 << 6;
    pub const LOADING: u32 = 1 << 7;
    pub const STALE: u32 = 1 << 8;
    pub const SKIP_MONITOR: u32 = 1 << 9;
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    pub const ASKING: u32 = 1 << 11;
    pub const FAST: u32 = 1 << 12;
    pub const NO_AUTH: u32 = 1 << 13;
    /// Not listed by COMMAND INFO either.
    pub const MAY_REPLICATE: u32 = 1 << 14;
    pub const NO_MANDATORY_KEYS: u32 = 1 << 15;
    pub const PROTECTED: u32 = 1 << 16;
    pub const NO_ASYNC_LOADING: u32 = 1 << 17;
    pub const NO_MULTI: u32 = 1 << 18;
    pub const ALLOW_BUSY: u32 = 1 << 19;
    pub const MOVABLE_KEYS: u32 = 1 << 20;
    /// Not for the eyes of clients: a subcommand that COMMAND does not list.
    pub const HIDDEN: u32 = 1 << 21;

    /// Names in the order in which COMMAND INFO lists them.
    pub const NAMES: [(u32, &str); 19] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (ASKING, "asking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (ALLOW_BUSY, "allow_busy"),
        (MOVABLE_KEYS, "movablekeys"),
    ];
}

/// ACL categories.
pub mod acl {
    pub const KEYSPACE: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const WRITE: u32 = 1 << 2;
    pub const SET: u32 = 1 << 3;
    pub const SORTEDSET: u32 = 1 << 4;
    pub const LIST: u32 = 1 << 5;
    pub const HASH: u32 = 1 << 6;
    pub const STRING: u32 = 1 << 7;
    pub const BITMAP: u32 = 1 << 8;
    pub const HYPERLOGLOG: u32 = 1 << 9;
    pub const GEO: u32 = 1 << 10;
    pub const STREAM: u32 = 1 << 11;
    pub const PUBSUB: u32 = 1 << 12;
    pub const ADMIN: u32 = 1 << 13;
    pub const FAST: u32 = 1 << 14;
    pub const SLOW: u32 = 1 << 15;
    pub const BLOCKING: u32 = 1 << 16;
    pub const DANGEROUS: u32 = 1 << 17;
    pub const CONNECTION: u32 = 1 << 18;
    pub const TRANSACTION: u32 = 1 << 19;
    pub const SCRIPTING: u32 = 1 << 20;

    pub const NAMES: [&str; 21] = [
        "keyspace",
        "read",
        "write",
        "set",
        "sortedset",
        "list",
        "hash",
        "string",
        "bitmap",
        "hyperloglog",
        "geo",
        "stream",
        "pubsub",
        "admin",
        "fast",
        "slow",
        "blocking",
        "dangerous",
        "connection",
        "transaction",
        "scripting",
    ];
}

/// Key specification flags, as COMMAND INFO names them.
pub mod keyflag {
    pub const RO: u32 = 1 << 0;
    pub const RW: u32 = 1 << 1;
    pub const OW: u32 = 1 << 2;
    pub const RM: u32 = 1 << 3;
    pub const ACCESS: u32 = 1 << 4;
    pub const UPDATE: u32 = 1 << 5;
    pub const INSERT: u32 = 1 << 6;
    pub const DELETE: u32 = 1 << 7;
    pub const NOT_KEY: u32 = 1 << 8;
    pub const INCOMPLETE: u32 = 1 << 9;
    pub const VARIABLE_FLAGS: u32 = 1 << 10;

    pub const NAMES: [&str; 11] =
        ["RO", "RW", "OW", "RM", "access", "update", "insert", "delete", "not_key", "incomplete", "variable_flags"];
}

/// Documentation groups, as COMMAND DOCS names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Bitmap,
    Connection,
    Server,
    Transactions,
    Cluster,
    Scripting,
    Pubsub,
    Stream,
    Geo,
    HyperLogLog,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Bitmap => "bitmap",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Transactions => "transactions",
            Group::Cluster => "cluster",
            Group::Scripting => "scripting",
            Group::Pubsub => "pubsub",
            Group::Stream => "stream",
            Group::Geo => "geo",
            Group::HyperLogLog => "hyperloglog",
        }
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    Index(usize),
    /// After this word, searched from that argument on (from the end if negative).
    Keyword(&'static str, i32),
    /// Only the command's own code knows.
    Unknown,
}

/// How keys go on from there.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// `last` relative to the first key (negative: from the end), every
    /// `step`-th; a `limit` above 1 divides what is left.
    Range {
        last: i32,
        step: usize,
        limit: usize,
    },
    /// A number of keys at `count`, the first at `first`, relative to the begin.
    Count {
        count: usize,
        first: usize,
        step: usize,
    },
    Unknown,
}

/// One key specification.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub flags: u32,
    pub begin: Begin,
    pub find: Find,
}

impl KeySpec {
    /// One key at `index`.
    pub const fn one(flags: u32, index: usize) -> KeySpec {
        KeySpec::range(flags, index, 0, 1)
    }

    /// Keys from `index` on; see [`Find::Range`].
    pub const fn range(flags: u32, index: usize, last: i32, step: usize) -> KeySpec {
        KeySpec { flags, begin: Begin::Index(index), find: Find::Range { last, step, limit: 0 } }
    }

    /// A number of keys at `index`, then the keys.
    pub const fn counted(flags: u32, index: usize) -> KeySpec {
        KeySpec { flags, begin: Begin::Index(index), find: Find::Count { count: 0, first: 1, step: 1 } }
    }
}

/// A command's metadata.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Lower case; `container|sub` for subcommands.
    pub name: &'static str,
    /// Arguments with the name: exactly so many, or at least `-arity`.
    pub arity: i32,
    /// The arguments after the name, for COMMAND DOCS, in the notation of
    /// [`super::syntax`]; empty if there are none.
    pub syntax: &'static str,
    pub flags: u32,
    pub keys: &'static [KeySpec],
    /// Categories beyond those that follow from flags and group.
    pub acl: u32,
    pub group: Group,
    pub since: &'static str,
    pub complexity: &'static str,
    pub summary: &'static str,
    pub tips: &'static [&'static str],
    /// The argument that names an element (a field, a member) of the
    /// collection under the command's one key, where there is one: it is
    /// prefetched. A wrong guess costs time only. 0: none.
    pub element: u8,
}

impl Spec {
    /// Values of fields that a row leaves out.
    pub const DEFAULT: Spec = Spec {
        name: "",
        arity: 0,
        syntax: "",
        flags: 0,
        keys: &[],
        acl: 0,
        group: Group::Generic,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "",
        tips: &[],
        element: 0,
    };

    /// All ACL categories of the command.
    pub fn categories(&self) -> u32 {
        let mut c = self.acl;
        if self.flags & flag::WRITE != 0 {
            c |= acl::WRITE;
        }
        if self.flags & flag::READONLY != 0 && self.acl & acl::SCRIPTING == 0 {
            c |= acl::READ;
        }
        if self.flags & flag::ADMIN != 0 {
            c |= acl::ADMIN | acl::DANGEROUS;
        }
        if self.flags & flag::PUBSUB != 0 {
            c |= acl::PUBSUB;
        }
        if self.flags & flag::BLOCKING != 0 {
            c |= acl::BLOCKING;
        }
        c |= if self.flags & flag::FAST != 0 { acl::FAST } else { acl::SLOW };
        c | match self.group {
            Group::String => acl::STRING,
            Group::List => acl::LIST,
            Group::Set => acl::SET,
            Group::SortedSet => acl::SORTEDSET,
            Group::Hash => acl::HASH,
            Group::Bitmap => acl::BITMAP,
            // Their containers are in no category but that of slow commands.
            Group::Stream if matches!(self.name, "xgroup" | "xinfo") => 0,
            Group::Stream => acl::STREAM,
            Group::Geo => acl::GEO,
            Group::HyperLogLog => acl::HYPERLOGLOG,
            _ => 0,
        }
    }

    /// Does the number of arguments, the name included, fit?
    #[inline]
    pub fn arity_fits(&self, n: usize) -> bool {
        if self.arity >= 0 { n == self.arity as usize } else { n >= self.arity.unsigned_abs() as usize }
    }

    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// How the replies of a command's parts on several cores become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Integers are added.
    Sum,
    /// `OK`, once all parts have said so.
    Ok,
    /// Elements go back to the places of their keys (MGET).
    Elements,
    /// Arrays are joined in any order (KEYS).
    Concat,
    /// Any one that is not null (RANDOMKEY).
    Any,
    /// Digests of keys are joined (DEBUG DIGEST).
    Digest,
}

/// What to do when a command's keys lie on several cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// The entries come to the command: those of its keys are moved to one
    /// core, the handler runs there unchanged, and they are moved back.
    Gather,
    /// The command goes to the entries: every core runs the handler with its
    /// own keys (and what stands beside them, by the key spec's step).
    Split(Merge),
    /// No keys: every core runs the handler over its part of the keyspace.
    Whole(Merge),
    /// No keys and one core at a time: the cursor names it (SCAN).
    Cursor,
    /// No keys; any core that has some, in proportion (RANDOMKEY).
    Anywhere,
}

/// The handler of a command.
pub type Run = fn(&mut Cx<'_>, Args<'_>) -> Done;

/// A command over keys.
pub struct Command {
    pub spec: Spec,
    pub run: Run,
    pub across: Across,
}
