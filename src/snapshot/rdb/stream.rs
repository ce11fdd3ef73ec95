//! Streams, and hashes whose fields have deadlines: values that are more than
//! their elements.

use std::collections::BTreeMap;

use super::encode::Encoder;
use super::read::{Bytes, Fault};
use super::{Version, kind, write};
use crate::store::hash::{self, Hash};
use crate::store::listpack::{Item, Listpack};
use crate::store::stream::Stream;
use crate::store::stream::group::{Consumer, Group};
use crate::store::stream::id::StreamId;

/// The type byte of a stream.
pub(super) fn stream_kind(version: Version) -> u8 {
    if version >= Version::V11 { kind::STREAM_3 } else { kind::STREAM_2 }
}

/// What damaged streams are refused with.
const DAMAGED: &str = "Stream listpack integrity check failed.";

fn read_id(bytes: &mut Bytes) -> Result<StreamId, Fault> {
    Ok(StreamId { ms: bytes.length()?, seq: bytes.length()? })
}

fn raw_id(bytes: &mut Bytes) -> Result<StreamId, Fault> {
    bytes.array().map(StreamId::from_bytes)
}

/// A stream of any version, checked: nodes in order, counters that fit them,
/// every pending entry with one consumer.
pub(super) fn read_stream(kind: u8, bytes: &mut Bytes) -> Result<Stream, Fault> {
    let mut stream = Stream::default();
    for _ in 0..bytes.length()? {
        let key: [u8; 16] = bytes
            .owned()?
            .try_into()
            .map_err(|_| Fault::corrupt("Stream node key entry is not the size of a stream ID"))?;
        let list = Listpack::parse(bytes.owned()?).ok_or_else(|| Fault::corrupt(DAMAGED))?;
        if !stream.push_node(StreamId::from_bytes(key), list) {
            return Err(Fault::corrupt(DAMAGED));
        }
    }
    let len = bytes.length()?;
    if len != stream.len() as u64 {
        return Err(Fault::corrupt("Stream object metadata loading failed."));
    }
    stream.last_id = read_id(bytes)?;
    if kind == kind::STREAM {
        stream.first_id = stream.first().map_or(StreamId::MIN, |r| r.id);
        stream.entries_added = len;
    } else {
        // The first entry is known better than the file can tell.
        read_id(bytes)?;
        stream.first_id = stream.first().map_or(StreamId::MIN, |r| r.id);
        stream.max_deleted_id = read_id(bytes)?;
        stream.entries_added = bytes.length()?;
    }
    if stream.last().is_some_and(|top| top.id > stream.last_id) {
        return Err(Fault::corrupt("Stream object metadata loading failed."));
    }
    for _ in 0..bytes.length()? {
        let name = bytes.owned()?;
        let group = read_group(kind, bytes, &stream)?;
        if !stream.add_group(&name, group) {
            return Err(Fault::corrupt("Duplicated consumer group name detected"));
        }
    }
    Ok(stream)
}

fn read_group(kind: u8, bytes: &mut Bytes, stream: &Stream) -> Result<Group, Fault> {
    let last_id = read_id(bytes)?;
    let entries_read = match kind {
        kind::STREAM => stream.counters().read_up_to(last_id),
        _ => Some(bytes.length()? as i64).filter(|n| *n >= 0),
    };
    let mut pending: BTreeMap<StreamId, (i64, u64)> = BTreeMap::new();
    for _ in 0..bytes.length()? {
        let id = raw_id(bytes)?;
        let delivered_ms = i64::from_le_bytes(bytes.array()?);
        if pending.insert(id, (delivered_ms, bytes.length()?)).is_some() {
            return Err(Fault::corrupt("Duplicated global PEL entry loading stream consumer group"));
        }
    }
    let mut group = Group::new(last_id, entries_read);
    for _ in 0..bytes.length()? {
        read_consumer(kind, bytes, &mut group, &mut pending)?;
    }
    if pending.is_empty() { Ok(group) } else { Err(Fault::corrupt("NACK without consumer in the stream")) }
}

fn read_consumer(
    kind: u8,
    bytes: &mut Bytes,
    group: &mut Group,
    pending: &mut BTreeMap<StreamId, (i64, u64)>,
) -> Result<(), Fault> {
    let name = bytes.owned()?;
    let seen_ms = i64::from_le_bytes(bytes.array()?);
    let no = group.add(&name, seen_ms).ok_or_else(|| Fault::corrupt("Duplicate stream consumer detected"))?;
    let active_ms = match kind {
        kind::STREAM_3 => i64::from_le_bytes(bytes.array()?),
        // Earlier versions kept one time for both.
        _ => seen_ms,
    };
    group.consumer_mut(no).active_ms = Some(active_ms).filter(|ms| *ms >= 0);
    for _ in 0..bytes.length()? {
        let id = raw_id(bytes)?;
        let (delivered_ms, count) =
            pending.remove(&id).ok_or_else(|| Fault::corrupt("Consumer entry not found in group global PEL"))?;
        group.assign(id, no, delivered_ms, count);
    }
    Ok(())
}

/// A hash whose fields have deadlines, in either form.
pub(super) fn read_volatile_hash(kind: u8, bytes: &mut Bytes, limits: hash::Limits) -> Result<Hash, Fault> {
    const BAD: &str = "Hash integrity check failed.";
    let first = u64::from_le_bytes(bytes.array()?);
    let mut hash = Hash::default();
    let mut add = |field: &[u8], value: &[u8], deadline: Option<u64>| {
        if !hash.set(field, value, limits) {
            return Err(Fault::corrupt("Duplicate hash fields detected"));
        }
        hash.set_deadline(field, deadline);
        Ok(())
    };
    if kind == kind::HASH_TTL {
        for _ in 0..bytes.length()? {
            let after = bytes.length()?;
            let (field, value) = (bytes.owned()?, bytes.owned()?);
            let deadline =
                after.checked_sub(1).map(|after| first.checked_add(after).ok_or_else(|| Fault::corrupt(BAD)));
            add(&field, &value, deadline.transpose()?)?;
        }
    } else {
        let list = Listpack::parse(bytes.owned()?).ok_or_else(|| Fault::corrupt(BAD))?;
        let mut items = list.iter();
        while let Some(field) = items.next() {
            let (Some(value), Some(Item::Int(deadline))) = (items.next(), items.next()) else {
                return Err(Fault::corrupt(BAD));
            };
            add(&field.to_vec(), &value.to_vec(), u64::try_from(deadline).ok().filter(|d| *d > 0))?;
        }
    }
    if hash.is_empty() { Err(Fault::Empty) } else { Ok(hash) }
}

fn id(out: &mut Vec<u8>, id: StreamId) {
    write::length(out, id.ms);
    write::length(out, id.seq);
}

impl Encoder {
    /// Nodes, counters, then the groups with all that is pending.
    pub(super) fn stream(&mut self, out: &mut Vec<u8>, stream: &Stream) {
        write::length(out, stream.node_count() as u64);
        for (master, list) in stream.nodes() {
            self.string(out, &master.to_bytes());
            self.string(out, list.as_bytes());
        }
        write::length(out, stream.len() as u64);
        id(out, stream.last_id);
        id(out, stream.first_id);
        id(out, stream.max_deleted_id);
        write::length(out, stream.entries_added);
        write::length(out, stream.group_count() as u64);
        for (name, group) in stream.groups() {
            self.group(out, name, group);
        }
    }

    fn group(&mut self, out: &mut Vec<u8>, name: &[u8], group: &Group) {
        self.string(out, name);
        id(out, group.last_id);
        write::length(out, group.entries_read.unwrap_or(-1) as u64);
        write::length(out, group.pending_count() as u64);
        for (id, p) in group.pending_range(StreamId::MIN, StreamId::MAX) {
            out.extend_from_slice(&id.to_bytes());
            out.extend_from_slice(&p.delivered_ms.to_le_bytes());
            write::length(out, p.count);
        }
        write::length(out, group.consumer_count() as u64);
        for consumer in group.consumers() {
            self.consumer(out, group, consumer);
        }
    }

    fn consumer(&mut self, out: &mut Vec<u8>, group: &Group, consumer: &Consumer) {
        self.string(out, &consumer.name);
        out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
        if self.version() >= Version::V11 {
            out.extend_from_slice(&consumer.active_ms.unwrap_or(-1).to_le_bytes());
        }
        write::length(out, consumer.pending() as u64);
        for (id, _) in group.pending_of(consumer) {
            out.extend_from_slice(&id.to_bytes());
        }
    }

    /// The earliest deadline, then for each field how much later its own is
    /// (plus one; 0: it has none), the field, the value.
    pub(super) fn volatile_hash(&mut self, out: &mut Vec<u8>, hash: &Hash) {
        let first = hash.next_deadline().unwrap_or(0);
        out.extend_from_slice(&first.to_le_bytes());
        write::length(out, hash.len() as u64);
        for (field, value) in hash.iter() {
            let deadline = field.with(|f| hash.deadline(f));
            write::length(out, deadline.map_or(0, |d| d - first + 1));
            self.field(out, field, value);
        }
    }
}
