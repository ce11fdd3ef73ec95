//! Key records and values, appended to a buffer.
//!
//! Two ways lead to a record:
//!
//! - [`Encoder::record`] writes all of it at once.
//! - For a large collection, [`Encoder::begin`] writes everything up to the
//!   first element and says with [`Plan`] what has to follow; the caller then
//!   appends that many elements with the function for the plan, in steps as
//!   small as it likes, in any order, from any copy of them. Nothing follows
//!   the last element.
//!
//! A new type plugs in at [`Encoder::kind_of`], [`Encoder::body`] and
//! [`Encoder::plan`], each one `match` over [`Object`].

use super::lzf::Lzf;
use super::stream::stream_kind;
use super::write;
use super::{NODE_PACKED, NODE_PLAIN, Version, kind, op};
use crate::base::clock::UnixMs;
use crate::store::entry::{Entry, Value};
use crate::store::hash::Hash;
use crate::store::list::{List, NodeRef};
use crate::store::listpack::{Item, Listpack};
use crate::store::object::Object;
use crate::store::set::Set;
use crate::store::zset::ZSet;

/// Strings longer than this are compressed, if that saves [`SAVED_MIN`] bytes.
const COMPRESS_ABOVE: usize = 20;
const SAVED_MIN: usize = 4;

/// What is said about a key's last accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Nothing: the policy keeps no account, or it is a DUMP payload.
    #[default]
    None,
    /// Under an LRU policy: seconds without an access.
    Idle(u64),
    /// Under an LFU policy: the counter, decayed.
    Freq(u8),
}

/// What has to follow what [`Encoder::begin`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: the value is complete.
    Done,
    /// So many elements of a list, first to last: [`Encoder::element`].
    Elements(usize),
    /// So many members of a set: [`Encoder::element`].
    Members(usize),
    /// So many fields with values: [`Encoder::field`].
    Fields(usize),
    /// So many members with scores: [`Encoder::scored`]. (Redis writes the
    /// highest first, and loads that order fastest.)
    Scored(usize),
}

/// Writes values; keeps the compressor's memory between them.
pub struct Encoder {
    version: Version,
    /// `rdbcompression`.
    compress: bool,
    lzf: Lzf,
    packed: Vec<u8>,
    /// Where strings stand that somebody else will compress; `None` when this
    /// encoder does all itself.
    marks: Option<Vec<u32>>,
}

impl Encoder {
    pub fn new(version: Version, compress: bool) -> Encoder {
        Encoder { version, compress, lzf: Lzf::default(), packed: Vec::new(), marks: None }
    }

    /// An encoder that leaves compression, if it is wanted, to whoever comes
    /// after it: what is worth a try is written as it is, and its place marked
    /// (see [`Encoder::swap_marks`]).
    pub fn deferring(version: Version, compress: bool) -> Encoder {
        Encoder { compress: false, marks: compress.then(Vec::new), ..Encoder::new(version, false) }
    }

    /// Exchanges the marks: offsets, in the buffer appended to, of strings
    /// (their lengths first) that are longer than 20 bytes.
    pub fn swap_marks(&mut self, marks: &mut Vec<u32>) {
        if let Some(own) = &mut self.marks {
            std::mem::swap(own, marks);
        }
    }

    pub fn set_compress(&mut self, compress: bool) {
        self.compress = compress;
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// One whole record of an entry.
    pub fn record(&mut self, out: &mut Vec<u8>, entry: &Entry, access: Access) {
        prefix(out, entry.deadline(), access);
        out.push(self.kind_of(&entry.value()));
        self.string(out, entry.key());
        self.value(out, entry.value());
    }

    /// A record up to the first element of its value.
    ///
    /// Of collections that are one piece of memory (listpacks, intsets), and
    /// of strings, the whole value.
    pub fn begin(&mut self, out: &mut Vec<u8>, entry: &Entry, access: Access) -> Plan {
        let plan = entry.as_object().map_or(Plan::Done, |o| self.plan(o));
        if plan == Plan::Done {
            self.record(out, entry, access);
            return plan;
        }
        prefix(out, entry.deadline(), access);
        let (kind, n) = match plan {
            Plan::Done | Plan::Elements(_) => (kind::LIST, entry.as_object().map_or(0, Object::len)),
            Plan::Members(n) => (kind::SET, n),
            Plan::Fields(n) => (kind::HASH, n),
            Plan::Scored(n) => (kind::ZSET_2, n),
        };
        out.push(kind);
        self.string(out, entry.key());
        write::length(out, n as u64);
        plan
    }

    /// How [`Encoder::begin`] would have this object written.
    pub fn plan(&self, object: &Object) -> Plan {
        match object {
            Object::List(l) if l.nodes().len() > 1 => Plan::Elements(l.len()),
            Object::Set(s) if s.ints().is_none() && s.packed().is_none() => Plan::Members(s.len()),
            Object::Hash(h) if h.packed().is_none() && !h.is_volatile() => Plan::Fields(h.len()),
            Object::ZSet(z) if z.packed().is_none() => Plan::Scored(z.len()),
            Object::List(_) | Object::Set(_) | Object::Hash(_) | Object::ZSet(_) | Object::Stream(_) => Plan::Done,
        }
    }

    /// The type byte of a value that is written as a whole.
    pub fn kind_of(&self, value: &Value) -> u8 {
        let Value::Object(object) = value else { return kind::STRING };
        match *object {
            Object::List(_) => kind::LIST_QUICKLIST_2,
            Object::Set(s) if s.ints().is_some() => kind::SET_INTSET,
            Object::Set(s) if self.packed_set(s).is_some() => kind::SET_LISTPACK,
            Object::Set(_) => kind::SET,
            Object::Hash(h) if h.is_volatile() => kind::HASH_TTL,
            Object::Hash(h) if h.packed().is_some() => kind::HASH_LISTPACK,
            Object::Hash(_) => kind::HASH,
            Object::ZSet(z) if z.packed().is_some() => kind::ZSET_LISTPACK,
            Object::ZSet(_) => kind::ZSET_2,
            Object::Stream(_) => stream_kind(self.version),
        }
    }

    /// A value as a whole, without its type byte.
    pub fn value(&mut self, out: &mut Vec<u8>, value: Value) {
        match value {
            Value::Str(s) => self.string(out, s),
            Value::Object(o) => self.body(out, o),
        }
    }

    fn body(&mut self, out: &mut Vec<u8>, object: &Object) {
        match object {
            Object::List(l) => self.list(out, l),
            Object::Set(s) => self.set(out, s),
            Object::Hash(h) => self.hash(out, h),
            Object::ZSet(z) => self.zset(out, z),
            Object::Stream(s) => self.stream(out, s),
        }
    }

    fn list(&mut self, out: &mut Vec<u8>, list: &List) {
        write::length(out, list.nodes().len() as u64);
        for node in list.nodes() {
            let (container, bytes) = match node {
                NodeRef::Plain(b) => (NODE_PLAIN, b),
                NodeRef::Packed(l) => (NODE_PACKED, l.as_bytes()),
            };
            write::length(out, container);
            self.string(out, bytes);
        }
    }

    /// The listpack of a set, if the version has a type for it.
    fn packed_set<'a>(&self, set: &'a Set) -> Option<&'a Listpack> {
        set.packed().filter(|_| self.version >= Version::V11)
    }

    fn set(&mut self, out: &mut Vec<u8>, set: &Set) {
        if let Some(ints) = set.ints() {
            return self.string(out, ints.as_bytes());
        }
        if let Some(l) = self.packed_set(set) {
            return self.string(out, l.as_bytes());
        }
        write::length(out, set.len() as u64);
        set.iter().for_each(|m| self.element(out, m));
    }

    fn hash(&mut self, out: &mut Vec<u8>, hash: &Hash) {
        if hash.is_volatile() {
            return self.volatile_hash(out, hash);
        }
        if let Some(l) = hash.packed() {
            return self.string(out, l.as_bytes());
        }
        write::length(out, hash.len() as u64);
        hash.iter().for_each(|(f, v)| self.field(out, f, v));
    }

    fn zset(&mut self, out: &mut Vec<u8>, zset: &ZSet) {
        if let Some(l) = zset.packed() {
            return self.string(out, l.as_bytes());
        }
        write::length(out, zset.len() as u64);
        zset.each(zset.len().saturating_sub(1), usize::MAX, true, |m, score| self.scored(out, m, score));
    }

    /// An element of a list, a member of a set.
    pub fn element(&mut self, out: &mut Vec<u8>, item: Item) {
        match item {
            Item::Str(s) => self.string(out, s),
            Item::Int(v) => {
                if !write::integer(out, v) {
                    item.with(|s| write::raw(out, s));
                }
            }
        }
    }

    /// A field of a hash with its value.
    pub fn field(&mut self, out: &mut Vec<u8>, field: Item, value: Item) {
        self.element(out, field);
        self.element(out, value);
    }

    /// A member of a sorted set with its score.
    pub fn scored(&mut self, out: &mut Vec<u8>, member: Item, score: f64) {
        self.element(out, member);
        out.extend_from_slice(&score.to_le_bytes());
    }

    /// Any string: an integer, compressed, or as it is.
    #[inline]
    pub fn string(&mut self, out: &mut Vec<u8>, s: &[u8]) {
        let short = s.len() <= COMPRESS_ABOVE;
        let done = if short { write::short_integer(out, s) } else { self.compress && self.compressed(out, s) };
        if !done {
            if let Some(marks) = &mut self.marks
                && !short
            {
                marks.push(out.len() as u32);
            }
            write::raw(out, s);
        }
    }

    fn compressed(&mut self, out: &mut Vec<u8>, s: &[u8]) -> bool {
        let room = s.len() - SAVED_MIN;
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        let Some(n) = self.lzf.compress(s, &mut self.packed[..room]) else { return false };
        write::compressed_head(out, n, s.len());
        out.extend_from_slice(&self.packed[..n]);
        const KEPT_MAX: usize = 1 << 20;
        if self.packed.len() > KEPT_MAX {
            self.packed = Vec::new();
        }
        true
    }
}

/// What stands before the type: deadline, then idle time or frequency.
fn prefix(out: &mut Vec<u8>, deadline: Option<UnixMs>, access: Access) {
    if let Some(d) = deadline {
        out.push(op::EXPIRE_MS);
        out.extend_from_slice(&d.to_le_bytes());
    }
    match access {
        Access::None => {}
        Access::Idle(seconds) => {
            out.push(op::IDLE);
            write::length(out, seconds);
        }
        Access::Freq(counter) => out.extend_from_slice(&[op::FREQ, counter]),
    }
}
