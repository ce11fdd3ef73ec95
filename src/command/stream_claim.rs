//! What is pending in a consumer group: XPENDING, XCLAIM, XAUTOCLAIM.

use super::collect::keyspec;
use super::cx::Rest;
use super::effect::Class;
use super::fault::SYNTAX;
use super::parse::{int, is};
use super::spec::{Across, Command, Group as Docs, Spec, flag};
use super::stream_args::{id, interval_end, interval_start, reply_id, reply_row};
use super::stream_read::{deferred, propagate_claim, propagate_consumer, propagate_last_id};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::resp::Reply;
use crate::store::stream::group::{ConsumerNo, Group, Pending};
use crate::store::stream::id::StreamId;
use crate::store::stream::{Entries, Stream};

const ROW: Spec = Spec { group: Docs::Stream, since: "5.0.0", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xpending",
            syntax: "key#0 group [filters([IDLE min-idle-time:int@6.2.0] start end count:int [consumer])]",
            arity: -3,
            flags: flag::READONLY,
            keys: keyspec::READ,
            complexity: "O(n) for n entries returned",
            summary: "Tells what is pending in a group: in sum, or entry by entry.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: xpending,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xclaim",
            syntax: "key#0 group consumer min-idle-time id... [IDLE ms:int] [TIME unix-time-milliseconds:time] \
                [RETRYCOUNT count:int] [FORCE] [JUSTID] [LASTID lastid]",
            arity: -6,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::UPDATED,
            complexity: "O(log n) per entry, for n entries pending in the group",
            summary: "Gives pending entries to another consumer.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: xclaim,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xautoclaim",
            syntax: "key#0 group consumer min-idle-time start [COUNT count:int] [JUSTID]",
            arity: -6,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::DELETED,
            since: "6.2.0",
            complexity: "O(1) for a small COUNT",
            summary: "Gives entries that have been pending for long to another consumer.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: xautoclaim,
        across: Across::Gather,
    },
];

fn no_group(key: &[u8], group: &[u8]) -> Fault {
    Fault::with_words(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"])
}

/// The range of XPENDING.
struct Range<'a> {
    min_idle: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Range<'a> {
    fn parse(args: Args<'a>) -> Result<Option<Range<'a>>, Fault> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(SYNTAX);
        }
        let (mut min_idle, mut at) = (0, 3);
        if is(args[3], "idle") {
            min_idle = int(args[4])?;
            if args.len() < 8 {
                return Err(SYNTAX);
            }
            at = 5;
        }
        let count = int(args[at + 2])?.max(0) as usize;
        let (start, end) = (interval_start(args[at])?, interval_end(args[at + 1])?);
        Ok(Some(Range { min_idle, start, end, count, consumer: args.get(at + 3).copied() }))
    }
}

fn xpending(cx: &mut Cx, args: Args) -> Done {
    let range = Range::parse(args)?;
    let key = cx.key(args[1]);
    let (stream, rest) = cx.read_collection_apart::<Stream>(&key)?;
    let group = stream.and_then(|s| s.group(args[2])).ok_or_else(|| no_group(args[1], args[2]))?;
    match range {
        None => reply_sum(rest.reply, group),
        Some(range) => reply_pending(rest.reply, group, &range, rest.clock as i64),
    }
    Ok(())
}

fn reply_sum(reply: &mut Reply, group: &Group) {
    reply.array(4);
    reply.int(group.pending_count() as i64);
    let Some((first, last)) = group.pending_ends() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    deferred(reply, |reply| {
        let busy = group.consumers().filter(|c| c.pending() > 0);
        busy.map(|c| {
            reply.array(2);
            reply.bulk(&c.name);
            reply.bulk_int(c.pending() as i64);
        })
        .count()
    });
}

fn reply_pending(reply: &mut Reply, group: &Group, range: &Range, now: i64) {
    let no = match range.consumer.map(|name| group.find(name)) {
        Some(None) => {
            reply.array(0);
            return;
        }
        Some(no) => no,
        None => None,
    };
    let idle = |p: &Pending| now.saturating_sub(p.delivered_ms);
    deferred(reply, |reply| {
        let mut one = |(id, p): (StreamId, &Pending)| {
            reply.array(4);
            reply_id(reply, id);
            reply.bulk(&group.owner(p).name);
            reply.int(idle(p).max(0));
            reply.int(p.count as i64);
        };
        let wanted = |(_, p): &(StreamId, &Pending)| range.min_idle == 0 || idle(p) >= range.min_idle;
        match no {
            Some(no) => {
                let found = group.pending_range_of(no, range.start, range.end);
                found.filter(wanted).take(range.count).map(&mut one).count()
            }
            None => group.pending_range(range.start, range.end).filter(wanted).take(range.count).map(&mut one).count(),
        }
    });
}

/// The options of XCLAIM, and how many identifiers stand before them.
struct Claim {
    ids: Vec<StreamId>,
    force: bool,
    just_id: bool,
    delivered_ms: i64,
    retry_count: Option<u64>,
    last_id: StreamId,
}

fn number(arg: &[u8], option: &str) -> Result<i64, Fault> {
    parse_i64(arg).ok_or_else(|| Fault::from(format!("ERR Invalid {option} option argument for XCLAIM")))
}

impl Claim {
    fn parse(args: Args, now: i64) -> Result<Claim, Fault> {
        let ids: Vec<StreamId> = args[5..].iter().map_while(|a| id(a, 0).ok()).collect();
        let mut c =
            Claim { force: false, just_id: false, delivered_ms: -1, retry_count: None, last_id: StreamId::MIN, ids };
        let mut at = 5 + c.ids.len();
        while at < args.len() {
            let (word, value) = (args[at], args.get(at + 1));
            at += 2;
            match value {
                _ if is(word, "force") => (c.force, at) = (true, at - 1),
                _ if is(word, "justid") => (c.just_id, at) = (true, at - 1),
                Some(v) if is(word, "idle") => c.delivered_ms = now.wrapping_sub(number(v, "IDLE")?),
                Some(v) if is(word, "time") => c.delivered_ms = number(v, "TIME")?,
                Some(v) if is(word, "retrycount") => c.retry_count = u64::try_from(number(v, "RETRYCOUNT")?).ok(),
                Some(v) if is(word, "lastid") => c.last_id = id(v, 0)?,
                _ => {
                    return Err(Fault::with_words(&[b"ERR Unrecognized XCLAIM option '", word, b"'"]));
                }
            }
        }
        // A time that cannot be is now: clients count back from clocks of their own.
        if c.delivered_ms < 0 || c.delivered_ms > now {
            c.delivered_ms = now;
        }
        Ok(c)
    }

    /// Is it the form in which deliveries are passed on?
    fn passed_on(&self) -> bool {
        self.force && self.just_id && self.retry_count.is_some() && self.ids == [self.last_id]
    }
}

/// The least time that an entry must have been pending.
fn min_idle(arg: &[u8], command: &str) -> Result<i64, Fault> {
    let n = parse_i64(arg).ok_or_else(|| Fault::from(format!("ERR Invalid min-idle-time argument for {command}")))?;
    Ok(n.max(0))
}

/// A group from which entries are claimed.
struct Claiming<'c, 'r, 'a> {
    key: &'c [u8],
    name: &'c [u8],
    entries: Entries<'c>,
    group: &'c mut Group,
    rest: Rest<'r, 'a>,
    to: ConsumerNo,
    /// The consumer was made for this, and no claim has told of it yet.
    untold: bool,
    changed: bool,
}

impl<'c, 'r, 'a> Claiming<'c, 'r, 'a> {
    /// Who asks is a consumer from then on, whatever there is to claim (as in 7.2).
    fn new(args: Args<'c>, (entries, group): (Entries<'c>, &'c mut Group), rest: Rest<'r, 'a>) -> Claiming<'c, 'r, 'a> {
        let now = rest.clock as i64;
        let created = group.add(args[3], now);
        if created.is_some() {
            rest.fx.dirty += 1;
            rest.fx.event(Class::Stream, "xgroup-createconsumer", rest.db, args[1]);
        }
        let to = created.or_else(|| group.find(args[3])).expect("it was just added");
        group.consumer_mut(to).seen_ms = now;
        Claiming { key: args[1], name: args[2], entries, group, rest, to, untold: created.is_some(), changed: false }
    }

    /// Tells of a consumer that was made and claimed nothing.
    fn tell_of_consumer(&mut self) {
        if self.untold {
            let name = &self.group.consumer_mut(self.to).name;
            propagate_consumer(self.rest.fx, self.key, self.name, name);
        }
    }

    /// Forgets a pending entry that is deleted from the stream.
    fn forget(&mut self, id: StreamId) {
        propagate_claim(self.rest.fx, self.key, self.name, self.group, id);
        self.group.acknowledge(id);
        self.rest.fx.dirty += 1;
        self.changed = true;
    }

    fn give(&mut self, id: StreamId, delivered_ms: i64, count: u64) {
        self.group.assign(id, self.to, delivered_ms, count);
        propagate_claim(self.rest.fx, self.key, self.name, self.group, id);
        self.group.consumer_mut(self.to).active_ms = Some(self.rest.clock as i64);
        self.untold = false;
        self.rest.fx.dirty += 1;
        self.changed = true;
    }

    fn reply_claimed(&self, out: &mut Reply, id: StreamId, just_id: bool) {
        match self.entries.get(id) {
            Some(row) if !just_id => reply_row(out, &row),
            _ => reply_id(out, id),
        }
    }
}

fn xclaim(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let now = cx.clock as i64;
    if cx.read_collection::<Stream>(&key)?.is_none_or(|s| s.group(args[2]).is_none()) {
        return Err(no_group(args[1], args[2]));
    }
    let min_idle = min_idle(args[4], "XCLAIM")?;
    let claim = Claim::parse(args, now)?;
    let (stream, rest) = cx.collection_apart::<Stream>(&key)?;
    let Some(parts) = stream.and_then(|s| s.split_group(args[2])) else { return Ok(()) };
    let mut c = Claiming::new(args, parts, rest);
    let moved = claim.last_id > c.group.last_id;
    if moved {
        if claim.passed_on() {
            c.group.entries_read = c.entries.counters.read_on(c.group, claim.last_id);
        }
        c.group.last_id = claim.last_id;
    }
    let mut body = Vec::new();
    let mut out = Reply::new(&mut body, c.rest.reply.proto);
    let mut n = 0;
    for &id in &claim.ids {
        let old = c.group.pending(id).copied();
        if c.entries.get(id).is_none() {
            if old.is_some() {
                c.forget(id);
            }
            continue;
        }
        if old.is_none() && !claim.force {
            continue;
        }
        if old.is_some_and(|p| min_idle > 0 && now.saturating_sub(p.delivered_ms) < min_idle) {
            continue;
        }
        let before = old.map_or(1, |p| p.count);
        let count = claim.retry_count.unwrap_or(before.saturating_add(u64::from(!claim.just_id)));
        c.give(id, claim.delivered_ms, count);
        c.reply_claimed(&mut out, id, claim.just_id);
        n += 1;
    }
    if moved && !c.changed {
        propagate_last_id(c.rest.fx, args[1], args[2], c.group);
        c.rest.fx.dirty += 1;
    }
    c.tell_of_consumer();
    c.rest.reply.array(n);
    c.rest.reply.raw(&body);
    Ok(())
}

/// The options of XAUTOCLAIM: the most entries to claim, and JUSTID.
fn auto_options(words: Args) -> Result<(usize, bool), Fault> {
    const COUNT_MAX: i64 = i64::MAX / 16;
    let (mut count, mut just_id, mut at) = (100, false, 0);
    while at < words.len() {
        if is(words[at], "count") && at + 1 < words.len() {
            let n = parse_i64(words[at + 1]).filter(|n| (1..=COUNT_MAX).contains(n));
            count = n.ok_or(Fault::Text("ERR COUNT must be > 0"))? as usize;
            at += 2;
        } else if is(words[at], "justid") {
            just_id = true;
            at += 1;
        } else {
            return Err(SYNTAX);
        }
    }
    Ok((count, just_id))
}

fn xautoclaim(cx: &mut Cx, args: Args) -> Done {
    /// Entries looked at for one that is to be claimed.
    const ATTEMPTS: usize = 10;
    let min_idle = min_idle(args[4], "XAUTOCLAIM")?;
    let start = interval_start(args[5])?;
    let (count, just_id) = auto_options(&args[6..])?;
    let key = cx.key(args[1]);
    let (stream, rest) = cx.counted_collection_apart::<Stream>(&key)?;
    let parts = stream.and_then(|s| s.split_group(args[2])).ok_or_else(|| no_group(args[1], args[2]))?;
    let mut c = Claiming::new(args, parts, rest);
    let now = c.rest.clock as i64;
    let (mut body, mut n) = (Vec::new(), 0);
    let mut out = Reply::new(&mut body, c.rest.reply.proto);
    let (mut deleted, mut next) = (Vec::new(), Some(start));
    for _ in 0..count.saturating_mul(ATTEMPTS) {
        let from = next.filter(|_| n + deleted.len() < count);
        let Some((id, p)) = from.and_then(|s| c.group.pending_range(s, StreamId::MAX).next()).map(|(id, p)| (id, *p))
        else {
            break;
        };
        next = id.next();
        if c.entries.get(id).is_none() {
            c.forget(id);
            deleted.push(id);
        } else if min_idle == 0 || now.saturating_sub(p.delivered_ms) >= min_idle {
            c.give(id, now, p.count.saturating_add(u64::from(!just_id)));
            c.reply_claimed(&mut out, id, just_id);
            n += 1;
        }
    }
    let cursor = next.and_then(|s| c.group.pending_range(s, StreamId::MAX).next()).map_or(StreamId::MIN, |(id, _)| id);
    c.tell_of_consumer();
    let reply = c.rest.reply;
    reply.array(3);
    reply_id(reply, cursor);
    reply.array(n);
    reply.raw(&body);
    reply.array(deleted.len());
    deleted.iter().for_each(|id| reply_id(reply, *id));
    Ok(())
}
