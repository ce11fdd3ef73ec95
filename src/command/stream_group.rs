//! Consumer groups: XGROUP, and acknowledging entries (XACK). Claims are in
//! `stream_claim`.

use super::cx::Rest;
use super::effect::Class;
use super::parse::{int, is};
use super::spec::{Across, Command, Group as Docs, KeySpec, Spec, flag, keyflag};
use super::stream_args::{id, id_or_end};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::store::stream::Stream;
use crate::store::stream::group::Group;
use crate::store::stream::id::StreamId;

const INSERTED: &[KeySpec] = &[KeySpec::one(keyflag::RW | keyflag::INSERT, 2)];
const UPDATED: &[KeySpec] = &[KeySpec::one(keyflag::RW | keyflag::UPDATE, 2)];
const DELETED: &[KeySpec] = &[KeySpec::one(keyflag::RW | keyflag::DELETE, 2)];
const ROW: Spec = Spec { group: Docs::Stream, flags: flag::WRITE, since: "5.0.0", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xgroup|create",
            syntax: "key#0 group id-selector(id|new-id='$') [MKSTREAM] [ENTRIESREAD entriesread'entries-read':int]",
            arity: -5,
            flags: flag::WRITE | flag::DENYOOM,
            keys: INSERTED,
            summary: "Makes a consumer group.",
            ..ROW
        },
        run: create,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xgroup|setid",
            syntax: "key#0 group id-selector(id|new-id='$') [ENTRIESREAD entriesread'entries-read':int]",
            arity: -5,
            keys: UPDATED,
            summary: "Sets how far a group has read.",
            ..ROW
        },
        run: set_id,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xgroup|destroy",
            syntax: "key#0 group",
            arity: 4,
            keys: DELETED,
            complexity: "O(n) for n pending entries",
            summary: "Removes a group with all that is pending in it.",
            ..ROW
        },
        run: destroy,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xgroup|createconsumer",
            syntax: "key#0 group consumer",
            arity: 5,
            flags: flag::WRITE | flag::DENYOOM,
            keys: INSERTED,
            since: "6.2.0",
            summary: "Adds a consumer to a group.",
            ..ROW
        },
        run: create_consumer,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xgroup|delconsumer",
            syntax: "key#0 group consumer",
            arity: 5,
            keys: DELETED,
            complexity: "O(n) for n pending entries of the consumer",
            summary: "Removes a consumer with what is pending for it.",
            ..ROW
        },
        run: delete_consumer,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xack",
            syntax: "key#0 group id...",
            arity: -4,
            flags: flag::WRITE | flag::FAST,
            keys: super::collect::keyspec::UPDATED,
            complexity: "O(1) per entry",
            summary: "Takes entries from what is pending in a group.",
            ..ROW
        },
        run: xack,
        across: Across::Gather,
    },
];

/// The error of a call that fits no subcommand.
fn misused(word: &[u8]) -> Fault {
    Fault::with_words(&[b"ERR unknown subcommand or wrong number of arguments for '", word, b"'. Try XGROUP HELP."])
}

const NO_KEY: Fault = Fault::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
     option to create an empty stream automatically.",
);

fn no_group(group: &[u8], key: &[u8]) -> Fault {
    Fault::with_words(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

/// The options of CREATE and SETID.
#[derive(Default)]
struct Making {
    make: bool,
    entries_read: Option<i64>,
}

impl Making {
    fn parse(args: Args, create: bool) -> Result<Making, Fault> {
        let mut o = Making::default();
        let mut at = 5;
        while at < args.len() {
            if create && is(args[at], "mkstream") {
                o.make = true;
                at += 1;
            } else if is(args[at], "entriesread") && at + 1 < args.len() {
                let n = int(args[at + 1])?;
                if n < -1 {
                    return Err(Fault::Text("ERR value for ENTRIESREAD must be positive or -1"));
                }
                o.entries_read = Some(n).filter(|n| *n >= 0);
                at += 2;
            } else {
                return Err(misused(args[1]));
            }
        }
        Ok(o)
    }
}

fn create(cx: &mut Cx, args: Args) -> Done {
    let o = Making::parse(args, true)?;
    let key = cx.key(args[2]);
    let found = cx.collection::<Stream>(&key)?.map(|s| (s.last_id, s.group(args[3]).is_some()));
    if found.is_none() && !o.make {
        return Err(NO_KEY);
    }
    if args.len() > 8 {
        return Err(misused(args[1]));
    }
    let last_id = match args[4] {
        b"$" => found.map_or(StreamId::MIN, |f| f.0),
        arg => id(arg, 0)?,
    };
    if found.is_some_and(|f| f.1) {
        return Err(Fault::Text("BUSYGROUP Consumer Group name already exists"));
    }
    let (stream, rest) = cx.collection_or_new_apart::<Stream>(&key)?;
    stream.add_group(args[3], Group::new(last_id, o.entries_read));
    rest.reply.ok();
    rest.fx.verbatim(1);
    rest.fx.event(Class::Stream, "xgroup-create", rest.db, key.bytes);
    Ok(())
}

/// An existing group, for a change that may concern it.
fn with_group(cx: &mut Cx, args: Args, change: impl FnOnce(&mut Stream, Rest) -> Done, required: bool) -> Done {
    let key = cx.key(args[2]);
    let (stream, rest) = cx.collection_apart::<Stream>(&key)?;
    let stream = stream.ok_or(NO_KEY)?;
    if required && stream.group(args[3]).is_none() {
        return Err(no_group(args[3], args[2]));
    }
    change(stream, rest)
}

fn set_id(cx: &mut Cx, args: Args) -> Done {
    let o = Making::parse(args, false)?;
    let change = |stream: &mut Stream, rest: Rest| {
        if args.len() != 5 && args.len() != 7 {
            return Err(misused(args[1]));
        }
        let last_id = if args[4] == b"$" { stream.last_id } else { id_or_end(args[4], 0)? };
        if let Some(g) = stream.group_mut(args[3]) {
            g.last_id = last_id;
            g.entries_read = o.entries_read;
        }
        rest.reply.ok();
        rest.fx.verbatim(1);
        rest.fx.event(Class::Stream, "xgroup-setid", rest.db, args[2]);
        Ok(())
    };
    with_group(cx, args, change, true)
}

fn destroy(cx: &mut Cx, args: Args) -> Done {
    let change = |stream: &mut Stream, rest: Rest| {
        let removed = stream.remove_group(args[3]).is_some();
        rest.reply.int(i64::from(removed));
        if removed {
            rest.fx.verbatim(1);
            rest.fx.event(Class::Stream, "xgroup-destroy", rest.db, args[2]);
        }
        Ok(())
    };
    with_group(cx, args, change, false)
}

fn create_consumer(cx: &mut Cx, args: Args) -> Done {
    let change = |stream: &mut Stream, rest: Rest| {
        let now = rest.clock as i64;
        let added = stream.group_mut(args[3]).is_some_and(|g| g.add(args[4], now).is_some());
        rest.reply.int(i64::from(added));
        if added {
            rest.fx.verbatim(1);
            rest.fx.event(Class::Stream, "xgroup-createconsumer", rest.db, args[2]);
        }
        Ok(())
    };
    with_group(cx, args, change, true)
}

fn delete_consumer(cx: &mut Cx, args: Args) -> Done {
    let change = |stream: &mut Stream, rest: Rest| {
        let removed = stream.group_mut(args[3]).and_then(|g| g.remove(args[4]));
        rest.reply.int(removed.unwrap_or(0) as i64);
        if removed.is_some() {
            rest.fx.verbatim(1);
            rest.fx.event(Class::Stream, "xgroup-delconsumer", rest.db, args[2]);
        }
        Ok(())
    };
    with_group(cx, args, change, true)
}

fn xack(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (stream, rest) = cx.counted_collection_apart::<Stream>(&key)?;
    let Some(group) = stream.and_then(|s| s.group_mut(args[2])) else {
        rest.reply.int(0);
        return Ok(());
    };
    let ids = args[3..].iter().map(|a| id(a, 0)).collect::<Result<Vec<_>, _>>()?;
    let n = ids.into_iter().filter(|id| group.acknowledge(*id)).count();
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
    }
    Ok(())
}
