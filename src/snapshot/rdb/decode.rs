//! Values from their encodings, of all versions, fully validated.
//!
//! What a [`Decoder`] accepts satisfies the store's invariants, whatever the
//! bytes were: compact encodings are walked entry by entry, and taken over as
//! they are only if they are what this server would have made of the same
//! elements (canonical, in order, within the thresholds); else they are built
//! anew. With `deep`, duplicates in compact encodings are looked for too
//! (`sanitize-dump-payload`).
//!
//! Collections whose encoding is a number of elements and then the elements
//! can be fed to a [`Builder`] in parts, as the [`Scanner`](super::scan::Scanner)
//! delivers them.
//!
//! A new type plugs in at [`Decoder::object`].

use hashbrown::HashSet;

use super::legacy;
use super::read::{Bytes, Fault, Head, Scratch};
use super::{NODE_PACKED, NODE_PLAIN, kind};
use crate::base::clock::UnixMs;
use crate::base::num::parse_f64_any;
use crate::command::cx::Options;
use crate::store::entry::{Entry, INLINE_MAX};
use crate::store::hash::{self, Hash};
use crate::store::intset::IntSet;
use crate::store::list::{End, Fill, List};
use crate::store::listpack::{Item, Listpack};
use crate::store::object::{Collection, Object};
use crate::store::set::{self, Set};
use crate::store::zset::loading::Loading;
use crate::store::zset::{self, Put, ZSet};

/// Listpacks that older encodings are turned into are kept below this size.
const PACKED_BYTES_MAX: usize = 256 << 20;

/// Thresholds of the encodings, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub list: Fill,
    pub set: set::Limits,
    pub hash: hash::Limits,
    pub zset: zset::Limits,
}

impl Limits {
    pub fn new(o: &Options) -> Limits {
        Limits {
            list: Fill::new(o.list_max_listpack_size).at_most(o.list_node_max_bytes),
            set: set::Limits {
                intset_entries: o.set_max_intset_entries,
                listpack_entries: o.set_max_listpack_entries,
                listpack_value: o.set_max_listpack_value,
            },
            hash: hash::Limits { entries: o.hash_max_listpack_entries, value: o.hash_max_listpack_value },
            zset: zset::Limits { entries: o.zset_max_listpack_entries, value: o.zset_max_listpack_value },
        }
    }
}

/// See the module's description. Keeps memory for decompression between values.
pub struct Decoder {
    limits: Limits,
    deep: bool,
    /// Compact encodings that were looked through with `deep`.
    looked_through: u64,
    first: Scratch,
    second: Scratch,
}

/// A collection under construction.
pub struct Builder {
    kind: u8,
    /// Elements (or nodes) that are still to come.
    left: u64,
    building: Building,
}

enum Building {
    Object(Object),
    /// A sorted set that will be large.
    Ranked(Loading),
}

/// How many compact encodings make up a value that comes whole: one, or as many as
/// a stream begins by saying. Those of lists are counted one by one.
fn packed_parts(kind: u8, mut bytes: Bytes) -> u64 {
    match kind {
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => bytes.length().unwrap_or(0).min(bytes.left() as u64),
        kind::SET_INTSET | kind::SET_LISTPACK | kind::LIST_ZIPLIST => 1,
        kind::HASH_LISTPACK | kind::HASH_ZIPLIST | kind::HASH_ZIPMAP | kind::HASH_LISTPACK_TTL => 1,
        kind::ZSET_LISTPACK | kind::ZSET_ZIPLIST => 1,
        _ => 0,
    }
}

impl Builder {
    /// Takes out what has come so far.
    pub fn take(&mut self) -> Object {
        let object = match &mut self.building {
            Building::Object(object) => object,
            Building::Ranked(loading) => {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                return Object::ZSet(std::mem::replace(loading, Loading::new(left)).finish());
            }
        };
        let empty = match &object {
            Object::List(_) => List::default().wrap(),
            Object::Set(_) => Object::Set(Set::default()),
            Object::Hash(_) => Object::Hash(Hash::default()),
            Object::ZSet(_) => Object::ZSet(ZSet::default()),
            // Streams come whole.
            Object::Stream(_) => crate::store::stream::Stream::default().wrap(),
        };
        std::mem::replace(object, empty)
    }

    /// The object, once all of it has come.
    pub fn finish(self) -> Result<Object, Fault> {
        if self.left > 0 {
            return Err(Fault::Short);
        }
        match self.building {
            Building::Object(object) if object.is_empty() => Err(Fault::Empty),
            Building::Object(object) => Ok(object),
            Building::Ranked(loading) if loading.is_empty() => Err(Fault::Empty),
            Building::Ranked(loading) => Ok(Object::ZSet(loading.finish())),
        }
    }
}

impl Decoder {
    pub fn new(limits: Limits, deep: bool) -> Decoder {
        Decoder { limits, deep, looked_through: 0, first: Scratch::default(), second: Scratch::default() }
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Compact encodings that were looked through since the last call.
    pub fn take_looked_through(&mut self) -> u64 {
        std::mem::take(&mut self.looked_through)
    }

    /// An entry from a whole value.
    pub fn entry(&mut self, kind: u8, key: &[u8], body: &[u8], deadline: Option<UnixMs>) -> Result<Entry, Fault> {
        let mut bytes = Bytes::new(body);
        if kind != kind::STRING {
            return Ok(Entry::object(key, self.object(kind, &mut bytes)?, deadline));
        }
        if let Head::Packed { len, .. } = Bytes::new(body).head()?
            && len > INLINE_MAX as u64
        {
            return Ok(Entry::boxed_string(key, bytes.owned()?, deadline));
        }
        Ok(Entry::string(key, bytes.string(&mut self.first)?, deadline))
    }

    /// A collection from its whole encoding.
    pub fn object(&mut self, kind: u8, bytes: &mut Bytes) -> Result<Object, Fault> {
        if self.deep {
            self.looked_through += packed_parts(kind, *bytes);
        }
        match kind {
            kind::SET_INTSET => self.intset(bytes.owned()?),
            kind::SET_LISTPACK => self.packed_set(bytes),
            kind::HASH_LISTPACK => {
                let l = self.listpack(bytes, "Hash listpack integrity check failed.")?;
                self.packed_hash(
                    l,
                    "Hash listpack integrity check failed.",
                    "Hash listpack with dup elements",
                    self.deep,
                )
            }
            kind::HASH_ZIPLIST => {
                // Converted entry by entry: then all of it is looked at.
                const BAD: &str = "Hash ziplist integrity check failed.";
                let l = legacy::ziplist_to_listpack(&small(bytes.owned()?)?, BAD)?;
                self.packed_hash(l, BAD, BAD, true)
            }
            kind::HASH_ZIPMAP => {
                let l = legacy::zipmap_to_listpack(&small(bytes.owned()?)?)?;
                self.converted_hash(l, "Hash zipmap with dup elements, or big length")
            }
            kind::ZSET_LISTPACK => {
                let l = self.listpack(bytes, "Zset listpack integrity check failed.")?;
                self.packed_zset(l, "Zset listpack integrity check failed.", self.deep)
            }
            kind::ZSET_ZIPLIST => {
                const BAD: &str = "Zset ziplist integrity check failed.";
                let l = legacy::ziplist_to_listpack(&small(bytes.owned()?)?, BAD)?;
                self.packed_zset(l, BAD, true)
            }
            kind::LIST_ZIPLIST => {
                let mut list = List::default();
                list.push_packed(legacy::ziplist_to_listpack(
                    &small(bytes.owned()?)?,
                    "Ziplist integrity check failed.",
                )?);
                self.finished_list(list)
            }
            kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => super::stream::read_stream(kind, bytes).map(|s| s.wrap()),
            kind::HASH_TTL | kind::HASH_LISTPACK_TTL => {
                super::stream::read_volatile_hash(kind, bytes, self.limits.hash).map(Object::Hash)
            }
            kind::MODULE_PRE_GA | kind::MODULE_2 => Err(Fault::unsupported("Values of modules are not supported")),
            _ => {
                let mut builder = self.begin(kind, bytes)?;
                self.feed(&mut builder, bytes)?;
                builder.finish()
            }
        }
    }

    /// Begins a collection with its number of elements.
    pub fn begin(&mut self, kind: u8, bytes: &mut Bytes) -> Result<Builder, Fault> {
        let object = match kind {
            kind::LIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => List::default().wrap(),
            kind::SET => Object::Set(Set::default()),
            kind::HASH => Object::Hash(Hash::default()),
            kind::ZSET | kind::ZSET_2 => Object::ZSet(ZSet::default()),
            _ => return Err(Fault::Corrupt(format!("Unknown RDB encoding type {kind}"))),
        };
        let left = bytes.length()?;
        let n = usize::try_from(left).unwrap_or(usize::MAX);
        let building = match object {
            Object::ZSet(_) if n > self.limits.zset.entries => Building::Ranked(Loading::new(n)),
            Object::Hash(mut h) => {
                h.expect_fields(n, self.limits.hash);
                Building::Object(Object::Hash(h))
            }
            object => Building::Object(object),
        };
        Ok(Builder { kind, left, building })
    }

    /// Adds the elements that stand in `bytes`, all of them whole.
    pub fn feed(&mut self, builder: &mut Builder, bytes: &mut Bytes) -> Result<(), Fault> {
        while builder.left > 0 && bytes.left() > 0 {
            match &mut builder.building {
                Building::Ranked(z) => self.ranked_member(builder.kind, z, bytes)?,
                Building::Object(Object::List(l)) => self.list_element(builder.kind, l, bytes)?,
                Building::Object(Object::Set(s)) => self.set_member(s, builder.left, bytes)?,
                Building::Object(Object::Hash(h)) => self.hash_field(h, bytes)?,
                Building::Object(Object::ZSet(z)) => self.zset_member(builder.kind, z, bytes)?,
                Building::Object(Object::Stream(_)) => {
                    return Err(Fault::corrupt("A stream does not come in parts"));
                }
            }
            builder.left -= 1;
        }
        if builder.left == 0
            && let Building::Object(Object::List(l)) = &mut builder.building
        {
            l.relax(false, self.limits.list);
        }
        Ok(())
    }

    fn list_element(&mut self, kind: u8, list: &mut List, bytes: &mut Bytes) -> Result<(), Fault> {
        const BAD: &str = "Quicklist integrity check failed.";
        self.looked_through += u64::from(self.deep && kind != kind::LIST);
        match kind {
            kind::LIST => {
                let s = bytes.string(&mut self.first)?;
                list.prepare(s.len(), 1, self.limits.list);
                list.push(End::Right, s, self.limits.list);
            }
            kind::LIST_QUICKLIST => {
                list.push_packed(legacy::ziplist_to_listpack(&small(bytes.owned()?)?, BAD)?);
            }
            _ => match bytes.length()? {
                NODE_PLAIN => match bytes.owned()? {
                    // Only large elements have nodes of their own.
                    element if element.is_empty() => return Err(Fault::corrupt("Quicklist node is empty")),
                    element => list.push_plain(element),
                },
                NODE_PACKED => {
                    let node = self.listpack(bytes, "Listpack integrity check failed.")?;
                    list.push_packed(node);
                }
                _ => return Err(Fault::corrupt(BAD)),
            },
        }
        Ok(())
    }

    fn set_member(&mut self, set: &mut Set, left: u64, bytes: &mut Bytes) -> Result<(), Fault> {
        let s = bytes.string(&mut self.first)?;
        if set.is_empty() {
            set.begin(s, usize::try_from(left).unwrap_or(usize::MAX), self.limits.set);
        }
        if set.add(s, self.limits.set) { Ok(()) } else { Err(Fault::corrupt("Duplicate set members detected")) }
    }

    fn hash_field(&mut self, hash: &mut Hash, bytes: &mut Bytes) -> Result<(), Fault> {
        let field = bytes.string(&mut self.first)?;
        let value = bytes.string(&mut self.second)?;
        let new = hash.set(field, value, self.limits.hash);
        if new { Ok(()) } else { Err(Fault::corrupt("Duplicate hash fields detected")) }
    }

    fn ranked_member(&mut self, kind: u8, zset: &mut Loading, bytes: &mut Bytes) -> Result<(), Fault> {
        let member = bytes.string(&mut self.first)?;
        let score = member_score(kind, bytes)?;
        if zset.add(member, score) { Ok(()) } else { Err(member_twice()) }
    }

    fn zset_member(&mut self, kind: u8, zset: &mut ZSet, bytes: &mut Bytes) -> Result<(), Fault> {
        let member = bytes.string(&mut self.first)?;
        let score = member_score(kind, bytes)?;
        match zset.put(member, score, self.limits.zset) {
            Put::Added => Ok(()),
            _ => Err(member_twice()),
        }
    }

    fn finished_list(&self, mut list: List) -> Result<Object, Fault> {
        list.relax(false, self.limits.list);
        if list.is_empty() { Err(Fault::Empty) } else { Ok(list.wrap()) }
    }

    /// A listpack of canonical elements; foreign ones that are not are made so.
    fn listpack(&mut self, bytes: &mut Bytes, bad: &str) -> Result<Listpack, Fault> {
        let bytes = bytes.string(&mut self.first)?;
        let (l, canonical) = Listpack::parse_noting(bytes).ok_or_else(|| Fault::corrupt(bad))?;
        if canonical {
            return Ok(l);
        }
        if l.size() > PACKED_BYTES_MAX {
            return Err(Fault::corrupt(bad));
        }
        let mut canonical = Listpack::new();
        l.iter().for_each(|i| canonical.push_back(i.canonical()));
        Ok(canonical)
    }

    /// Are some of these equal? Looked for only with `deep`.
    fn duplicates<'a>(deep: bool, mut items: impl Iterator<Item = Item<'a>>) -> bool {
        let mut seen = HashSet::<Item, foldhash::fast::RandomState>::default();
        deep && !items.all(|i| seen.insert(i))
    }

    fn intset(&self, bytes: Vec<u8>) -> Result<Object, Fault> {
        let ints = IntSet::parse(bytes).ok_or_else(|| Fault::corrupt("Intset integrity check failed."))?;
        if ints.is_empty() {
            return Err(Fault::Empty);
        }
        if ints.len() <= self.limits.set.intset_entries {
            return Ok(Object::Set(Set::from_ints(ints)));
        }
        self.set_of(ints.len(), ints.iter().map(Item::Int))
    }

    fn packed_set(&mut self, bytes: &mut Bytes) -> Result<Object, Fault> {
        const BAD: &str = "Set listpack integrity check failed.";
        let l = self.listpack(bytes, BAD)?;
        let n = l.len();
        if n == 0 {
            return Err(Fault::Empty);
        }
        if Self::duplicates(self.deep, l.iter()) {
            return Err(Fault::corrupt(BAD));
        }
        if n <= self.limits.set.listpack_entries {
            return Ok(Object::Set(Set::from_packed(l)));
        }
        self.set_of(n, l.iter())
    }

    fn set_of<'a>(&self, n: usize, items: impl Iterator<Item = Item<'a>>) -> Result<Object, Fault> {
        let mut set = Set::default();
        for item in items {
            let new = item.with(|s| {
                if set.is_empty() {
                    set.begin(s, n, self.limits.set);
                }
                set.add(s, self.limits.set)
            });
            if !new {
                return Err(Fault::corrupt("Duplicate set members detected"));
            }
        }
        Ok(Object::Set(set))
    }

    fn packed_hash(&self, l: Listpack, bad: &str, twice: &str, deep: bool) -> Result<Object, Fault> {
        let n = l.len();
        if n % 2 == 1 || Self::duplicates(deep, l.pairs().map(|(f, _)| f)) {
            return Err(Fault::corrupt(bad));
        }
        match n {
            0 => Err(Fault::Empty),
            _ if n / 2 <= self.limits.hash.entries => Ok(Object::Hash(Hash::from_packed(l))),
            _ => self.converted_hash(l, twice),
        }
    }

    /// Pairs with as many fields as values. Not only many fields make a table,
    /// but also long ones: that is looked at where every field is, as Redis
    /// does with zipmaps.
    fn converted_hash(&self, l: Listpack, twice: &str) -> Result<Object, Fault> {
        let mut hash = Hash::default();
        hash.expect_fields(l.len() / 2, self.limits.hash);
        for (field, value) in l.pairs() {
            if !field.with(|f| value.with(|v| hash.set(f, v, self.limits.hash))) {
                return Err(Fault::corrupt(twice));
            }
        }
        Ok(Object::Hash(hash))
    }

    fn packed_zset(&self, l: Listpack, bad: &str, deep: bool) -> Result<Object, Fault> {
        let n = l.len();
        if n == 0 {
            return Err(Fault::Empty);
        }
        if n % 2 == 1 || Self::duplicates(deep, l.pairs().map(|(m, _)| m)) {
            return Err(Fault::corrupt(bad));
        }
        let mut before: Option<(f64, Item)> = None;
        let mut ordered = true;
        for (member, score) in l.pairs() {
            let score = packed_score(score).ok_or_else(|| Fault::corrupt(bad))?;
            ordered &= before.is_none_or(|(s, m)| s < score || s == score && member.with(|b| m.cmp_bytes(b)).is_lt());
            before = Some((score, member));
        }
        if ordered && n / 2 <= self.limits.zset.entries {
            return Ok(Object::ZSet(ZSet::from_packed(l)));
        }
        let mut zset = ZSet::default();
        zset.expect(n / 2, 0, self.limits.zset);
        for (member, score) in l.pairs() {
            let score = packed_score(score).unwrap_or_default();
            if member.with(|m| zset.put(m, score, self.limits.zset)) != Put::Added {
                return Err(Fault::corrupt(bad));
            }
        }
        Ok(Object::ZSet(zset))
    }
}

/// Refuses what would not fit into a listpack.
fn small(bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if bytes.len() <= PACKED_BYTES_MAX { Ok(bytes) } else { Err(Fault::unsupported("A ziplist above 256 MiB")) }
}

/// A score in a listpack, as the store reads it.
fn packed_score(item: Item) -> Option<f64> {
    match item {
        Item::Int(v) => Some(v as f64),
        Item::Str(s) => std::str::from_utf8(s).ok()?.parse().ok().filter(|v: &f64| !v.is_nan()),
    }
}

/// A member's score as its type of file has it; no NaN.
fn member_score(kind: u8, bytes: &mut Bytes) -> Result<f64, Fault> {
    let score = if kind == kind::ZSET { text_score(bytes)? } else { f64::from_le_bytes(bytes.array()?) };
    if score.is_nan() { Err(Fault::corrupt("Zset with NAN score detected")) } else { Ok(score) }
}

#[cold]
fn member_twice() -> Fault {
    Fault::corrupt("Duplicate zset fields detected")
}

/// A score of the oldest type: a length (or not-a-number, or an infinity) and
/// decimal text.
fn text_score(bytes: &mut Bytes) -> Result<f64, Fault> {
    const NAN: u8 = 253;
    const INFINITY: u8 = 254;
    const MINUS_INFINITY: u8 = 255;
    match bytes.byte()? {
        NAN => Ok(f64::NAN),
        INFINITY => Ok(f64::INFINITY),
        MINUS_INFINITY => Ok(f64::NEG_INFINITY),
        n => parse_f64_any(bytes.take(u64::from(n))?).ok_or_else(|| Fault::corrupt("A score is not a number")),
    }
}
