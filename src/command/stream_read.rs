//! XRANGE, XREVRANGE, XREAD and XREADGROUP.

use super::collect::keyspec;
use super::cx::Rest;
use super::effect::{Class, Effect, Nil};
use super::fault::SYNTAX;
use super::parse::{int, is, timeout_ms};
use super::spec::{Across, Begin, Command, Find, Group as Docs, KeySpec, Spec, flag, keyflag};
use super::stream_args::{id, interval_end, interval_start, reply_id, reply_row};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::base::slot::Key;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::store::stream::group::{ConsumerNo, Group, Pending};
use crate::store::stream::id::StreamId;
use crate::store::stream::{Entries, Stream};

const ROW: Spec = Spec { group: Docs::Stream, keys: keyspec::READ, since: "5.0.0", ..Spec::DEFAULT };
const FOUND_BY_WORD: Find = Find::Range { last: -1, step: 1, limit: 2 };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xrange",
            syntax: "key#0 start end [COUNT count:int]",
            arity: -4,
            flags: flag::READONLY,
            complexity: "O(n) for n entries returned",
            summary: "Returns the entries of a stream between two identifiers.",
            ..ROW
        },
        run: |cx, args| xrange(cx, args, false),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xrevrange",
            syntax: "key#0 end start [COUNT count:int]",
            arity: -4,
            flags: flag::READONLY,
            complexity: "O(n) for n entries returned",
            summary: "Returns the entries between two identifiers, the last one first.",
            ..ROW
        },
        run: |cx, args| xrange(cx, args, true),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xread",
            syntax: "[COUNT count:int] [BLOCK milliseconds:int] STREAMS streams(key#0... id...)",
            arity: -4,
            flags: flag::READONLY | flag::BLOCKING | flag::MOVABLE_KEYS,
            keys: &[KeySpec {
                flags: keyflag::RO | keyflag::ACCESS,
                begin: Begin::Keyword("STREAMS", 1),
                find: FOUND_BY_WORD,
            }],
            complexity: "O(n) for n entries returned",
            summary: "Returns the entries of several streams above given identifiers.",
            ..ROW
        },
        run: xread,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xreadgroup",
            syntax: "GROUP group-block(group consumer) [COUNT count:int] [BLOCK milliseconds:int] [NOACK] STREAMS \
                streams(key#0... id...)",
            arity: -7,
            flags: flag::WRITE | flag::BLOCKING | flag::MOVABLE_KEYS,
            keys: &[KeySpec {
                flags: keyflag::RO | keyflag::ACCESS,
                begin: Begin::Keyword("STREAMS", 4),
                find: FOUND_BY_WORD,
            }],
            complexity: "O(n) for n entries returned",
            summary: "Returns entries to a consumer of a group, new ones or its pending ones.",
            ..ROW
        },
        run: xreadgroup,
        across: Across::Gather,
    },
];

fn xrange(cx: &mut Cx, args: Args, back: bool) -> Done {
    let (start, end) = if back { (args[3], args[2]) } else { (args[2], args[3]) };
    let (start, end) = (interval_start(start)?, interval_end(end)?);
    let mut count = None;
    for pair in args[4..].chunks(2) {
        match *pair {
            [word, n] if is(word, "count") => count = Some(int(n)?.max(0) as usize),
            _ => return Err(SYNTAX),
        }
    }
    let key = cx.key(args[1]);
    let (stream, rest) = cx.read_collection_apart::<Stream>(&key)?;
    let Some(stream) = stream else {
        rest.reply.array(0);
        return Ok(());
    };
    match count {
        Some(0) => rest.reply.null_array(),
        _ if back => reply_rows(rest.reply, stream.range_back(start, end).take(count.unwrap_or(usize::MAX))),
        _ => reply_rows(rest.reply, stream.range(start, end).take(count.unwrap_or(usize::MAX))),
    }
    Ok(())
}

/// An array of entries whose number is not known beforehand.
pub(super) fn reply_rows<'a>(reply: &mut Reply, rows: impl Iterator<Item = crate::store::stream::node::Row<'a>>) {
    deferred(reply, |reply| rows.map(|row| reply_row(reply, &row)).count());
}

/// Writes an array whose length `f` returns once it has written the elements.
pub(super) fn deferred(reply: &mut Reply, f: impl FnOnce(&mut Reply) -> usize) {
    let mut body = Vec::new();
    let n = f(&mut Reply::new(&mut body, reply.proto));
    reply.array(n);
    reply.raw(&body);
}

/// The arguments of XREAD and XREADGROUP.
struct Reading<'a> {
    count: usize,
    /// Milliseconds to wait for entries.
    block: Option<u64>,
    group: Option<(&'a [u8], &'a [u8])>,
    noack: bool,
    keys: Args<'a>,
    ids: Args<'a>,
}

impl<'a> Reading<'a> {
    fn parse(args: Args<'a>, grouped: bool, now: UnixMs) -> Result<Reading<'a>, Fault> {
        let mut r = Reading { count: 0, block: None, group: None, noack: false, keys: &[], ids: &[] };
        let mut at = 1;
        while at < args.len() && r.keys.is_empty() {
            at = r.option(args, at, grouped, now)?;
        }
        if r.keys.is_empty() {
            return Err(SYNTAX);
        }
        if grouped && r.group.is_none() {
            return Err(Fault::Text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(r)
    }

    /// Takes one option; where the next one stands.
    fn option(&mut self, args: Args<'a>, at: usize, grouped: bool, now: UnixMs) -> Result<usize, Fault> {
        let more = args.len() - at - 1;
        let word = args[at];
        if is(word, "block") && more > 0 {
            self.block = Some(timeout_ms(args[at + 1], now)?);
            return Ok(at + 2);
        }
        if is(word, "count") && more > 0 {
            self.count = int(args[at + 1])?.max(0) as usize;
            return Ok(at + 2);
        }
        if is(word, "streams") && more > 0 {
            let rest = &args[at + 1..];
            if rest.len() % 2 == 1 {
                return Err(unbalanced(grouped));
            }
            (self.keys, self.ids) = rest.split_at(rest.len() / 2);
            return Ok(args.len());
        }
        let only = |option: &str| {
            Fault::from(format!("ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."))
        };
        if is(word, "group") && more >= 2 {
            if !grouped {
                return Err(only("GROUP"));
            }
            self.group = Some((args[at + 1], args[at + 2]));
            return Ok(at + 3);
        }
        if is(word, "noack") {
            if !grouped {
                return Err(only("NOACK"));
            }
            self.noack = true;
            return Ok(at + 1);
        }
        Err(SYNTAX)
    }
}

/// Keys without an ID each, in the words of 7.2.
fn unbalanced(grouped: bool) -> Fault {
    Fault::Text(if grouped {
        "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."
    } else {
        "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', or '$' must be specified."
    })
}

/// Nothing can be read now: the client waits if it asked for that.
fn nothing(cx: &mut Cx, r: &Reading) {
    match r.block {
        Some(ms) => cx.wait(r.keys, (ms > 0).then(|| cx.now + ms), Nil::Array),
        None => cx.reply.null_array(),
    }
}

/// The arguments with the last IDs of now in the place of `$`: one who waits is
/// to get what is added from now on. (`+` stays: it means the last entry then.)
fn without_dollars(args: Args, ids: Args, after: &[StreamId]) -> Option<Vec<Vec<u8>>> {
    if !ids.contains(&&b"$"[..]) {
        return None;
    }
    let mut owned: Vec<Vec<u8>> = args.iter().map(|a| a.to_vec()).collect();
    let first = args.len() - ids.len();
    for (i, id) in after.iter().enumerate().filter(|(i, _)| ids[*i] != b"+") {
        owned[first + i] = id.text().as_bytes().to_vec();
    }
    Some(owned)
}

/// The head of one stream's part of the reply.
fn part_head(reply: &mut Reply, key: &[u8]) {
    if reply.proto == Proto::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

fn reply_parts(cx: &mut Cx, r: &Reading, parts: usize, body: &[u8]) -> Done {
    match parts {
        0 => {
            nothing(cx, r);
            return Ok(());
        }
        n if cx.reply.proto == Proto::Resp3 => cx.reply.map(n),
        n => cx.reply.array(n),
    }
    cx.reply.raw(body);
    Ok(())
}

fn xread(cx: &mut Cx, args: Args) -> Done {
    let r = Reading::parse(args, false, cx.now)?;
    let mut after = Vec::with_capacity(r.keys.len());
    for (k, arg) in r.keys.iter().zip(r.ids) {
        let key = cx.key(k);
        let stream = cx.read_collection::<Stream>(&key)?;
        after.push(match *arg {
            b"$" => stream.map_or(StreamId::MIN, |s| s.last_id),
            b"+" => stream.and_then(|s| s.last()).and_then(|top| top.id.prev()).unwrap_or(StreamId::MIN),
            b">" => {
                let text = "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.";
                return Err(Fault::Text(text));
            }
            arg => id(arg, 0)?,
        });
    }
    let (mut body, mut parts) = (Vec::new(), 0);
    let mut out = Reply::new(&mut body, cx.reply.proto);
    for (k, &after) in r.keys.iter().zip(&after) {
        let key = cx.key(k);
        let Some(stream) = cx.read_collection::<Stream>(&key)? else { continue };
        let Some(start) = after.next().filter(|_| stream.last().is_some_and(|top| top.id > after)) else { continue };
        part_head(&mut out, k);
        let rows = stream.range(start, StreamId::MAX);
        reply_rows(&mut out, rows.take(if r.count == 0 { usize::MAX } else { r.count }));
        parts += 1;
    }
    reply_parts(cx, &r, parts, &body)?;
    if let Some(block) = &mut cx.fx.block {
        block.again = without_dollars(args, r.ids, &after);
    }
    Ok(())
}

/// From where a consumer reads: new entries, or its own pending ones.
#[derive(Clone, Copy)]
enum From {
    New,
    After(StreamId),
}

fn xreadgroup(cx: &mut Cx, args: Args) -> Done {
    let r = Reading::parse(args, true, cx.now)?;
    let (group, consumer) = r.group.unwrap_or_default();
    let mut from = Vec::with_capacity(r.keys.len());
    for (k, arg) in r.keys.iter().zip(r.ids) {
        let key = cx.key(k);
        if cx.read_collection::<Stream>(&key)?.is_none_or(|s| s.group(group).is_none()) {
            let text = b"' in XREADGROUP with GROUP option";
            return Err(Fault::with_words(&[b"NOGROUP No such key '", k, b"' or consumer group '", group, text]));
        }
        from.push(match *arg {
            b">" => From::New,
            b"$" => {
                let text = "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of \
                            this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID \
                            would just return an empty result set.";
                return Err(Fault::Text(text));
            }
            b"+" => {
                let text = "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of \
                            this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID \
                            would just return an empty result set.";
                return Err(Fault::Text(text));
            }
            // The largest possible one says the same as `>`.
            arg => Some(id(arg, 0)?).filter(|id| *id != StreamId::MAX).map_or(From::New, From::After),
        });
    }
    let (mut body, mut parts) = (Vec::new(), 0);
    let mut out = Reply::new(&mut body, cx.reply.proto);
    for (k, from) in r.keys.iter().zip(from) {
        let key = cx.key(k);
        // As in Redis, which looks the stream up once for the group and once for this.
        cx.store.stats.hits += 1;
        let (stream, rest) = cx.collection_apart::<Stream>(&key)?;
        let Some((entries, group_state)) = stream.and_then(|s| s.split_group(group)) else { continue };
        let mut delivery = Delivery { key, name: group, entries, group: group_state, rest, out: &mut out };
        parts += usize::from(delivery.read(consumer, from, &r));
    }
    reply_parts(cx, &r, parts, &body)
}

/// One stream's entries on their way to a consumer.
struct Delivery<'c, 'r, 'a, 'o> {
    key: Key<'c>,
    name: &'c [u8],
    entries: Entries<'c>,
    group: &'c mut Group,
    rest: Rest<'r, 'a>,
    out: &'c mut Reply<'o>,
}

impl Delivery<'_, '_, '_, '_> {
    /// Has it anything to say? A consumer is made as soon as it asks.
    fn read(&mut self, consumer: &[u8], from: From, r: &Reading) -> bool {
        let now = self.rest.clock as i64;
        let nothing_new = self.entries.last().is_none_or(|top| top.id <= self.group.last_id);
        let idle = nothing_new && matches!(from, From::New);
        let created = self.group.add(consumer, now);
        if created.is_some() {
            self.rest.fx.dirty += 1;
            self.rest.fx.event(Class::Stream, "xgroup-createconsumer", self.rest.db, self.key.bytes);
            // Where entries are claimed, the claim makes the consumer.
            if idle || r.noack || matches!(from, From::After(_)) {
                propagate_consumer(self.rest.fx, self.key.bytes, self.name, consumer);
            }
        }
        let no = created.or_else(|| self.group.find(consumer)).expect("it was just added");
        self.group.consumer_mut(no).seen_ms = now;
        if idle {
            return false;
        }
        part_head(self.out, self.key.bytes);
        let limit = if r.count == 0 { usize::MAX } else { r.count };
        let n = match from {
            From::New => self.new_entries(no, limit, r.noack),
            From::After(id) => self.history(no, id, limit),
        };
        if n > 0 {
            self.group.consumer_mut(no).active_ms = Some(now);
        }
        self.rest.fx.dirty += 1;
        true
    }

    fn new_entries(&mut self, no: ConsumerNo, limit: usize, noack: bool) -> usize {
        let mut body = Vec::new();
        let mut out = Reply::new(&mut body, self.out.proto);
        let now = self.rest.clock as i64;
        let mut n = 0;
        let start = self.group.last_id.next();
        for row in start.into_iter().flat_map(|start| self.entries.from(start)).take(limit) {
            reply_row(&mut out, &row);
            n += 1;
            self.group.entries_read = self.entries.counters.read_on(self.group, row.id);
            self.group.last_id = row.id;
            if !noack {
                self.group.assign(row.id, no, now, 1);
                propagate_claim(self.rest.fx, self.key.bytes, self.name, self.group, row.id);
            }
        }
        // With NOACK only, as Redis: a claim says nothing of how many entries the
        // group has read, so its replicas guess that.
        if noack && n > 0 {
            propagate_last_id(self.rest.fx, self.key.bytes, self.name, self.group);
        }
        self.out.array(n);
        self.out.raw(&body);
        n
    }

    /// The consumer's pending entries above `id`. One that is deleted from the
    /// stream comes without fields.
    fn history(&mut self, no: ConsumerNo, id: StreamId, limit: usize) -> usize {
        let start = id.next().unwrap_or(StreamId::MAX);
        let found: Vec<(StreamId, Pending)> =
            self.group.pending_range_of(no, start, StreamId::MAX).take(limit).map(|(id, p)| (id, *p)).collect();
        self.out.array(found.len());
        for (id, p) in &found {
            match self.entries.get(*id) {
                Some(row) => {
                    reply_row(self.out, &row);
                    self.group.assign(*id, no, self.rest.clock as i64, p.count.saturating_add(1));
                    propagate_claim(self.rest.fx, self.key.bytes, self.name, self.group, *id);
                }
                None => {
                    self.out.array(2);
                    reply_id(self.out, *id);
                    self.out.null_array();
                }
            }
        }
        found.len()
    }
}

/// A pending entry as it is now, for the stream of effects.
pub(super) fn propagate_claim(fx: &mut Effect, key: &[u8], name: &[u8], group: &Group, id: StreamId) {
    let Some(p) = group.pending(id).filter(|_| fx.wants_stream) else { return };
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (id, last) = (id.text(), group.last_id.text());
    let words: [&[u8]; 14] = [
        b"XCLAIM",
        key,
        name,
        &group.owner(p).name,
        b"0",
        id.as_bytes(),
        b"TIME",
        time.format(p.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        count.format(p.count).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        last.as_bytes(),
    ];
    fx.rewrite(0, &words);
}

/// How far a group has read, for the stream of effects.
pub(super) fn propagate_last_id(fx: &mut Effect, key: &[u8], name: &[u8], group: &Group) {
    let mut read = itoa::Buffer::new();
    // Less than -1 is what counting beyond the largest number gives.
    let read = read.format(group.entries_read.unwrap_or(-1).max(-1)).as_bytes();
    fx.rewrite(0, &[b"XGROUP", b"SETID", key, name, group.last_id.text().as_bytes(), b"ENTRIESREAD", read]);
}

pub(super) fn propagate_consumer(fx: &mut Effect, key: &[u8], group: &[u8], consumer: &[u8]) {
    fx.rewrite(0, &[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
}
