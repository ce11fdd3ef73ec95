//! A snapshot as commands: the base of an append-only file with
//! `aof-use-rdb-preamble no`.
//!
//! What a snapshot writes as a file is taken apart again and written as the
//! commands that make the same dataset, those that Redis writes: SET, RPUSH,
//! SADD, ZADD and HMSET with some elements each; XADD, XSETID, XGROUP and
//! XCLAIM for streams; PEXPIREAT for deadlines; FUNCTION LOAD. Large collections
//! come in parts and go out in parts.

use std::io;

use super::rdb::decode::{Builder, Decoder, Limits};
use super::rdb::read::{Bytes, Fault};
use super::rdb::scan::{Error, Event, Part, Record, Scanner};
use super::sink::{Later, Sink};
use crate::base::num::format_f64;
use crate::resp::encode;
use crate::store::entry::Value;
use crate::store::hash::Hash;
use crate::store::listpack::Item;
use crate::store::object::Object;
use crate::store::stream::Stream;
use crate::store::stream::group::{Consumer, Group, Pending};
use crate::store::stream::id::StreamId;

/// Elements of one command (AOF_REWRITE_ITEMS_PER_CMD in Redis).
const ITEMS: usize = 64;

/// See the module's description.
pub struct Commands {
    scanner: Scanner,
    decoder: Decoder,
    building: Option<Builder>,
    db: Option<u64>,
    ended: bool,
    out: Vec<u8>,
}

impl Commands {
    /// `timestamp`: Unix seconds to begin with (`aof-timestamp-enabled`).
    pub fn new(limits: Limits, timestamp: Option<u64>) -> Commands {
        let out = timestamp.map_or_else(Vec::new, |t| format!("#TS:{t}\r\n").into_bytes());
        Commands {
            scanner: Scanner::new(false),
            decoder: Decoder::new(limits, false),
            building: None,
            db: None,
            ended: false,
            out,
        }
    }

    /// Takes the next bytes of the snapshot; the commands that come of them.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.scanner.push(bytes);
        loop {
            let (out, decoder, building) = (&mut self.out, &mut self.decoder, &mut self.building);
            match self.scanner.next()? {
                None => return Ok(std::mem::take(&mut self.out)),
                Some(Event::Select(db)) if self.db != Some(db) => {
                    self.db = Some(db);
                    encode::select(out, db as u32);
                }
                Some(Event::Function(source)) => encode::command(out, &[b"FUNCTION", b"LOAD", &source]),
                Some(Event::Record(r)) => record(out, decoder, building, &r).map_err(|fault| Error {
                    fault,
                    offset: r.offset,
                    record: Some((r.kind, r.key.to_vec())),
                })?,
                Some(Event::End(_)) => self.ended = true,
                Some(_) => {}
            }
        }
    }

    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// A record, or a part of one.
fn record(out: &mut Vec<u8>, decoder: &mut Decoder, building: &mut Option<Builder>, r: &Record) -> Result<(), Fault> {
    if r.part == Part::Whole {
        let entry = decoder.entry(r.kind, r.key, r.body, None)?;
        match entry.value() {
            Value::Str(s) => encode::command(out, &[b"SET", r.key, s]),
            Value::Object(o) => object(out, r.key, o),
        }
    } else {
        let mut bytes = Bytes::new(r.body);
        let mut builder = match building.take() {
            Some(b) if !r.part.begins() => b,
            _ => decoder.begin(r.kind, &mut bytes)?,
        };
        decoder.feed(&mut builder, &mut bytes)?;
        object(out, r.key, &builder.take());
        if !r.part.ends() {
            *building = Some(builder);
        }
    }
    if let (Some(at), true) = (r.deadline, r.part.ends()) {
        encode::command(out, &[b"PEXPIREAT", r.key, itoa::Buffer::new().format(at).as_bytes()]);
    }
    Ok(())
}

/// Commands of one name over one key, with some elements each.
struct Several<'a> {
    out: &'a mut Vec<u8>,
    name: &'a [u8],
    key: &'a [u8],
    words: Vec<Vec<u8>>,
    /// Words of one command.
    most: usize,
}

impl<'a> Several<'a> {
    /// `unit` words make one element.
    fn new(out: &'a mut Vec<u8>, name: &'a [u8], key: &'a [u8], unit: usize) -> Several<'a> {
        Several { out, name, key, words: Vec::new(), most: ITEMS * unit }
    }

    fn add<const N: usize>(&mut self, element: [Vec<u8>; N]) {
        self.words.extend(element);
        if self.words.len() >= self.most {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.words.is_empty() {
            return;
        }
        let mut args = vec![self.name, self.key];
        args.extend(self.words.iter().map(|w| &w[..]));
        encode::command(self.out, &args);
        self.words.clear();
    }
}

fn object(out: &mut Vec<u8>, key: &[u8], object: &Object) {
    match object {
        Object::List(l) => {
            let mut c = Several::new(out, b"RPUSH", key, 1);
            l.iter().for_each(|i| c.add([i.to_vec()]));
            c.write();
        }
        Object::Set(s) => {
            let mut c = Several::new(out, b"SADD", key, 1);
            s.iter().for_each(|i| c.add([i.to_vec()]));
            c.write();
        }
        Object::ZSet(z) => {
            let mut c = Several::new(out, b"ZADD", key, 2);
            z.iter().for_each(|(member, score)| c.add([format_f64(score).into_bytes(), member.to_vec()]));
            c.write();
        }
        Object::Hash(h) => hash(out, key, h),
        Object::Stream(s) => stream(out, key, s),
    }
}

fn hash(out: &mut Vec<u8>, key: &[u8], hash: &Hash) {
    let mut c = Several::new(out, b"HMSET", key, 2);
    hash.iter().for_each(|(field, value)| c.add([field.to_vec(), value.to_vec()]));
    c.write();
    for (field, _) in hash.iter().filter(|_| hash.is_volatile()) {
        if let Some(at) = field.with(|f| hash.deadline(f)) {
            let (field, at) = (field.to_vec(), at.to_string());
            encode::command(out, &[b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", b"1", &field]);
        }
    }
}

fn number(n: impl ToString) -> Vec<u8> {
    n.to_string().into_bytes()
}

fn text(id: StreamId) -> Vec<u8> {
    id.text().as_bytes().to_vec()
}

fn stream(out: &mut Vec<u8>, key: &[u8], stream: &Stream) {
    for row in stream.iter() {
        let words: Vec<Vec<u8>> = row.pairs().flat_map(|(f, v): (Item, Item)| [f.to_vec(), v.to_vec()]).collect();
        let id = text(row.id);
        let mut args: Vec<&[u8]> = vec![b"XADD", key, &id];
        args.extend(words.iter().map(|w| &w[..]));
        encode::command(out, &args);
    }
    let last = text(stream.last_id);
    if stream.is_empty() {
        // One that is removed at once makes the key.
        let id = if stream.last_id == StreamId::MIN { b"0-1".to_vec() } else { last.clone() };
        encode::command(out, &[b"XADD", key, b"MAXLEN", b"0", &id, b"x", b"y"]);
    }
    let (added, deleted) = (number(stream.entries_added), text(stream.max_deleted_id));
    encode::command(out, &[b"XSETID", key, &last, b"ENTRIESADDED", &added, b"MAXDELETEDID", &deleted]);
    for (name, g) in stream.groups() {
        group(out, key, name, g);
    }
}

fn group(out: &mut Vec<u8>, key: &[u8], name: &[u8], group: &Group) {
    let (last, read) = (text(group.last_id), number(group.entries_read.unwrap_or(-1)));
    encode::command(out, &[b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", &read]);
    for consumer in group.consumers() {
        if consumer.pending() == 0 {
            encode::command(out, &[b"XGROUP", b"CREATECONSUMER", key, name, &consumer.name]);
        }
        for (id, p) in group.pending_of(consumer) {
            claim(out, key, name, consumer, (id, p));
        }
    }
}

fn claim(out: &mut Vec<u8>, key: &[u8], name: &[u8], consumer: &Consumer, (id, p): (StreamId, &Pending)) {
    let (id, time, count) = (text(id), number(p.delivered_ms), number(p.count));
    let args: [&[u8]; 12] =
        [b"XCLAIM", key, name, &consumer.name, b"0", &id, b"TIME", &time, b"RETRYCOUNT", &count, b"JUSTID", b"FORCE"];
    encode::command(out, &args);
}

/// Writes a snapshot's commands to another sink.
pub struct CommandSink<S> {
    commands: Commands,
    sink: S,
}

impl<S: Sink> CommandSink<S> {
    pub fn new(commands: Commands, sink: S) -> CommandSink<S> {
        CommandSink { commands, sink }
    }
}

impl<S: Sink> Sink for CommandSink<S> {
    fn write<'a>(&'a mut self, bytes: &'a mut Vec<u8>) -> Later<'a, io::Result<()>> {
        Box::pin(async move {
            let commands = self.commands.take(bytes);
            bytes.clear();
            let mut commands = commands.map_err(|e| io::Error::other(e.to_string()))?;
            self.sink.write(&mut commands).await
        })
    }

    fn finish(&mut self) -> Later<'_, io::Result<()>> {
        match self.commands.ended() {
            true => self.sink.finish(),
            false => Box::pin(std::future::ready(Err(io::ErrorKind::UnexpectedEof.into()))),
        }
    }

    fn abort(&mut self) -> Later<'_, ()> {
        self.sink.abort()
    }
}
