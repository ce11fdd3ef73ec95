//! XINFO: what there is to know of a stream, its groups and their consumers.

use super::fault::{NO_SUCH_KEY, WRONG_TYPE};
use super::parse::{int, is};
use super::spec::{Across, Command, Group as Docs, KeySpec, Spec, flag, keyflag};
use super::stream_args::{reply_id, reply_row};
use super::stream_read::reply_rows;
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::resp::Reply;
use crate::store::object::Collection;
use crate::store::stream::Stream;
use crate::store::stream::group::{Consumer, Group};

const ROW: Spec = Spec {
    flags: flag::READONLY,
    keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 2)],
    group: Docs::Stream,
    since: "5.0.0",
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xinfo|stream",
            syntax: "key#0 [full-block(FULL [COUNT count:int])]",
            arity: -3,
            summary: "Describes a stream.",
            ..ROW
        },
        run: info_stream,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xinfo|groups",
            syntax: "key#0",
            arity: 3,
            summary: "Describes the groups of a stream.",
            ..ROW
        },
        run: info_groups,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xinfo|consumers",
            syntax: "key#0 group",
            arity: 4,
            summary: "Describes the consumers of a group.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: info_consumers,
        across: Across::Gather,
    },
];

/// Entries of FULL when no count is given.
const FULL_COUNT: usize = 10;

/// Runs `f` with the stream of argument 2 and the reply.
fn with_stream(cx: &mut Cx, args: Args, f: impl FnOnce(&Stream, &mut Reply, i64) -> Done) -> Done {
    let key = cx.key(args[2]);
    let (entry, rest) = cx.read_apart(&key);
    let stream = entry.ok_or(NO_SUCH_KEY)?.as_object().and_then(Stream::of).ok_or(WRONG_TYPE)?;
    f(stream, rest.reply, rest.now as i64)
}

fn int_or_null(reply: &mut Reply, n: Option<i64>) {
    match n {
        Some(n) => reply.int(n),
        None => reply.null(),
    }
}

fn misused(word: &[u8]) -> Fault {
    Fault::with_words(&[b"ERR unknown subcommand or wrong number of arguments for '", word, b"'. Try XINFO HELP."])
}

/// The count of `FULL [COUNT n]`, with 0 for all; `None` without FULL.
fn full(args: Args) -> Result<Option<usize>, Fault> {
    match &args[3..] {
        [] => Ok(None),
        [word] if is(word, "full") => Ok(Some(FULL_COUNT)),
        [word, count, n] if is(word, "full") && is(count, "count") => {
            Ok(Some(usize::try_from(int(n)?).unwrap_or(FULL_COUNT)))
        }
        _ => Err(misused(args[1])),
    }
}

fn info_stream(cx: &mut Cx, args: Args) -> Done {
    with_stream(cx, args, |stream, reply, _| {
        let full = full(args)?;
        reply.map(if full.is_some() { 9 } else { 10 });
        summary(stream, reply);
        match full {
            None => ends(stream, reply),
            Some(count) => everything(stream, reply, if count == 0 { usize::MAX } else { count }),
        }
        Ok(())
    })
}

fn summary(stream: &Stream, reply: &mut Reply) {
    for (name, n) in
        [("length", stream.len()), ("radix-tree-keys", stream.node_count()), ("radix-tree-nodes", radix_nodes(stream))]
    {
        reply.bulk(name.as_bytes());
        reply.int(n as i64);
    }
    reply.bulk(b"last-generated-id");
    reply_id(reply, stream.last_id);
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, stream.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.int(stream.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id);
}

/// Nodes of the radix tree that Redis would keep the stream's nodes in, by the
/// bytes of their IDs, most significant first; ours is an ordered map. A tree
/// has a leaf per key, a node wherever keys part, and one for every run of
/// bytes between these. (An empty tree is a root.)
fn radix_nodes(stream: &Stream) -> usize {
    const BYTES: usize = 16;
    // Depths at which the keys up to the last one part, on the way to it.
    let mut parted: Vec<usize> = Vec::new();
    let mut count = 0;
    let below = |parent: Option<usize>| parent.map_or(0, |depth| depth + 1);
    let mut last: Option<u128> = None;
    let keys = stream.nodes().map(|(id, _)| Some(u128::from(id.ms) << 64 | u128::from(id.seq)));
    for key in keys.chain([None]) {
        let Some(before) = std::mem::replace(&mut last, key) else { continue };
        let common = key.map(|key| (key ^ before).leading_zeros() as usize / 8);
        // The leaf of the key before hangs where it parts from its neighbours.
        count += 1 + usize::from(below(common.max(parted.last().copied())) < BYTES);
        while let Some(depth) = parted.pop_if(|depth| Some(*depth) > common) {
            let parent = common.max(parted.last().copied());
            count += 1 + usize::from(below(parent) < depth);
        }
        if let Some(depth) = common.filter(|depth| parted.last() != Some(depth)) {
            parted.push(depth);
        }
    }
    count.max(1)
}

fn ends(stream: &Stream, reply: &mut Reply) {
    reply.bulk(b"groups");
    reply.int(stream.group_count() as i64);
    for (name, row) in [("first-entry", stream.first()), ("last-entry", stream.last())] {
        reply.bulk(name.as_bytes());
        match row {
            Some(row) => reply_row(reply, &row),
            None => reply.null(),
        }
    }
}

fn everything(stream: &Stream, reply: &mut Reply, count: usize) {
    reply.bulk(b"entries");
    reply_rows(reply, stream.iter().take(count));
    reply.bulk(b"groups");
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        full_group(stream, name, group, reply, count);
    }
}

fn progress(stream: &Stream, group: &Group, reply: &mut Reply) {
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    int_or_null(reply, group.entries_read);
    reply.bulk(b"lag");
    int_or_null(reply, stream.counters().lag(group));
}

fn full_group(stream: &Stream, name: &[u8], group: &Group, reply: &mut Reply, count: usize) {
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(name);
    progress(stream, group, reply);
    reply.bulk(b"pel-count");
    reply.int(group.pending_count() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_count().min(count));
    for (id, p) in group.pending_range(Default::default(), crate::store::stream::id::StreamId::MAX).take(count) {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(&group.owner(p).name);
        reply.int(p.delivered_ms);
        reply.int(p.count as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumer_count());
    group.consumers().for_each(|c| full_consumer(group, c, reply, count));
}

fn full_consumer(group: &Group, consumer: &Consumer, reply: &mut Reply, count: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(&consumer.name);
    reply.bulk(b"seen-time");
    reply.int(consumer.seen_ms);
    reply.bulk(b"active-time");
    reply.int(consumer.active_ms.unwrap_or(-1));
    reply.bulk(b"pel-count");
    reply.int(consumer.pending() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending().min(count));
    for (id, p) in group.pending_of(consumer).take(count) {
        reply.array(3);
        reply_id(reply, id);
        reply.int(p.delivered_ms);
        reply.int(p.count as i64);
    }
}

fn info_groups(cx: &mut Cx, args: Args) -> Done {
    with_stream(cx, args, |stream, reply, _| {
        reply.array(stream.group_count());
        for (name, group) in stream.groups() {
            reply.map(6);
            reply.bulk(b"name");
            reply.bulk(name);
            reply.bulk(b"consumers");
            reply.int(group.consumer_count() as i64);
            reply.bulk(b"pending");
            reply.int(group.pending_count() as i64);
            progress(stream, group, reply);
        }
        Ok(())
    })
}

fn info_consumers(cx: &mut Cx, args: Args) -> Done {
    with_stream(cx, args, |stream, reply, now| {
        let Some(group) = stream.group(args[3]) else {
            let parts: [&[u8]; 5] = [b"NOGROUP No such consumer group '", args[3], b"' for key name '", args[2], b"'"];
            return Err(Fault::with_words(&parts));
        };
        reply.array(group.consumer_count());
        for c in group.consumers() {
            reply.map(4);
            reply.bulk(b"name");
            reply.bulk(&c.name);
            reply.bulk(b"pending");
            reply.int(c.pending() as i64);
            reply.bulk(b"idle");
            reply.int(now.saturating_sub(c.seen_ms).max(0));
            reply.bulk(b"inactive");
            reply.int(c.active_ms.map_or(-1, |ms| now.saturating_sub(ms).max(0)));
        }
        Ok(())
    })
}
