//! A checker of strict serializability for histories of concurrent clients.
//!
//! Clients record what they did: an [`Op`] is one atomic operation (a command,
//! or MULTI to EXEC), the versions of keys that it read and wrote, and when it
//! was sent and answered. Versions are chosen so that a reply identifies them:
//!
//! | kind of key | written by | version | version order |
//! | --- | --- | --- | --- |
//! | register | unique tokens: SET, GETSET, MSET, RENAME, COPY, BITOP | the token | known where the write also read (GETSET, SET GET, MULTI, WATCH), else inferred |
//! | counter | INCR | the number | total, from replies |
//! | log | APPEND of unique tokens | the length | total, from replies and contents |
//! | twins | MSET of all with one token | the token | inferred; all must be equal in one read |
//! | pairs | MSETNX, DEL of both | the token | inferred; both or none in one read |
//! | collections, queues | see [`collections`] | tokens, sizes, numbers of elements | |
//!
//! [`check::check`] draws an edge from operation A to operation B when A must
//! stand before B in any serial order: real time (A was answered before B was
//! sent), a connection's own order, B read what A wrote, B overwrote what A
//! wrote or read. Two rules, applied until nothing changes, order blind
//! writes: if R reads what V wrote and W writes the same key too, then W stands
//! before V or after R; so a path from V to W puts R before W, and a path from
//! W to R puts W before V. A cycle means that no serial order exists.
//!
//! Sound: every edge is necessary, so a reported cycle is a real violation.
//! Not complete: W may be left on either side of V and R where no path
//! decides, absent values (nil) give no edge, and operations with unknown
//! outcome are not supported: the server is not killed under this checker.

pub mod check;
pub mod collections;
pub mod graph;
pub mod plan;
pub mod workload;

/// The number of a key in its history.
pub type Key = u32;
/// A version of a key: a unique token, a count, or a length.
pub type Version = u64;

/// One atomic operation of a client.
#[derive(Clone, Debug, Default)]
pub struct Op {
    pub client: u32,
    /// Which batch of that client; operations of one batch were sent together.
    pub batch: u32,
    pub label: String,
    /// Nanoseconds since the start of the history.
    pub sent_ns: u64,
    pub answered_ns: u64,
    /// Versions that it found, before its own writes.
    pub reads: Vec<(Key, Version)>,
    /// Versions that it left.
    pub writes: Vec<(Key, Version)>,
    /// Versions that it wrote and overwrote itself: nobody may see them.
    pub hidden: Vec<(Key, Version)>,
    /// Whole contents of logs that it read.
    pub contents: Vec<(Key, Vec<u64>)>,
    /// The element that it appended to a log.
    pub appended: Vec<(Key, u64)>,
    /// What it found that no state of the data explains, in words.
    pub torn: Option<String>,
}

/// What several clients did.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub ops: Vec<Op>,
    /// Whether a connection's commands execute strictly in order, also those on
    /// different keys.
    pub strict_pipelines: bool,
}
