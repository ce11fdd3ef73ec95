//! Commands that add entries to a stream, remove them, or tell how many there
//! are. Reading is in `stream_read`, groups in `stream_group`.

use super::collect::keyspec;
use super::cx::Options;
use super::effect::Class;
use super::fault::{NO_SUCH_KEY, SYNTAX, WRONG_TYPE};
use super::parse::{int, is};
use super::spec::{Across, Command, Group, Spec, flag};
use super::stream_args::{NewId, Trimming, id, reply_id};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::store::stream::id::StreamId;
use crate::store::stream::{Limits, NODE_MAX_BYTES, Stream, Trim};

const ROW: Spec = Spec { group: Group::Stream, keys: keyspec::READ, since: "5.0.0", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xadd",
            syntax: "key#0 [NOMKSTREAM@6.2.0] [trim(strategy(MAXLEN|MINID@6.2.0) \
                [operator(equal='='|approximately='~')] threshold [LIMIT count:int@6.2.0])] \
                id-selector(auto-id='*'|id) data(field value)...",
            arity: -5,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: keyspec::UPDATED,
            complexity: "O(1), and O(n) for n entries trimmed",
            summary: "Adds an entry to a stream, made if missing.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: xadd,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xlen",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            summary: "Counts the entries of a stream.",
            ..ROW
        },
        run: xlen,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xdel",
            syntax: "key#0 id...",
            arity: -3,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::DELETED,
            complexity: "O(1) per entry",
            summary: "Removes entries from a stream.",
            ..ROW
        },
        run: xdel,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xtrim",
            syntax: "key#0 trim(strategy(MAXLEN|MINID@6.2.0) [operator(equal='='|approximately='~')] threshold \
                [LIMIT count:int@6.2.0])",
            arity: -4,
            flags: flag::WRITE,
            keys: keyspec::DELETED,
            complexity: "O(n) for n entries removed",
            summary: "Removes entries from the beginning of a stream.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: xtrim,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "xsetid",
            syntax: "key#0 last-id [ENTRIESADDED entries-added:int@7.0.0] [MAXDELETEDID max-deleted-id@7.0.0]",
            arity: -3,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: keyspec::UPDATED,
            summary: "Sets the last identifier of a stream, and its counters.",
            ..ROW
        },
        run: xsetid,
        across: Across::Gather,
    },
];

fn limits(o: &Options) -> Limits {
    Limits { bytes: o.stream_node_max_bytes, entries: o.stream_node_max_entries }
}

/// The identifier of a new entry.
fn choose_id(stream: &Stream, wanted: NewId, now: u64) -> Result<StreamId, Fault> {
    const TOO_SMALL: Fault =
        Fault::Text("ERR The ID specified in XADD is equal or smaller than the target stream top item");
    if stream.last_id == StreamId::MAX {
        let text = "ERR The stream has exhausted the last possible ID, unable to add more items";
        return Err(Fault::Text(text));
    }
    let id = match wanted {
        NewId::Auto => stream.next_id(now),
        NewId::AutoSeq(ms) if ms == stream.last_id.ms => {
            stream.last_id.seq.checked_add(1).map(|seq| StreamId { ms, seq })
        }
        NewId::AutoSeq(ms) => Some(StreamId { ms, seq: 0 }),
        NewId::Given(id) => Some(id),
    };
    id.filter(|id| *id > stream.last_id).ok_or(TOO_SMALL)
}

fn xadd(cx: &mut Cx, args: Args) -> Done {
    let t = Trimming::parse(cx, args, true)?;
    let words = args.get(t.end + 1..).unwrap_or(&[]);
    let Some(wanted) = t.id.filter(|_| words.len() >= 2 && words.len().is_multiple_of(2)) else {
        return Err(Fault::arity("xadd"));
    };
    if wanted == NewId::Given(StreamId::MIN) {
        return Err(Fault::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = cx.key(args[1]);
    let now = cx.now;
    let found = cx.collection::<Stream>(&key)?;
    if found.is_none() && !t.make {
        cx.reply.null();
        return Ok(());
    }
    // Whatever can fail fails before the key is made.
    let id = found.map_or_else(|| choose_id(&Stream::default(), wanted, now), |s| choose_id(s, wanted, now))?;
    if words.iter().map(|w| w.len()).sum::<usize>() > NODE_MAX_BYTES {
        return Err(Fault::Text("ERR Elements are too large to be stored"));
    }
    let (stream, rest) = cx.collection_or_new_apart::<Stream>(&key)?;
    stream.append(id, words, limits(rest.options));
    reply_id(rest.reply, id);
    rest.fx.event(Class::Stream, "xadd", rest.db, key.bytes);
    if let Some(trim) = t.trim
        && stream.trim(trim, t.approximate, t.limit) > 0
    {
        rest.fx.event(Class::Stream, "xtrim", rest.db, key.bytes);
    }
    if matches!(wanted, NewId::Given(_)) && !t.approximate {
        rest.fx.verbatim(1);
    } else if rest.fx.wants_stream {
        let (id, bound) = (id.text(), bound(stream, t.trim));
        rest.fx.rewrite(1, &t.exact(args, Some(id.as_bytes()), &bound));
    } else {
        rest.fx.dirty += 1;
    }
    Ok(())
}

/// What an approximate trimming came to, as the argument of an exact one. If
/// nothing was left, that is the last possible identifier, as in Redis.
fn bound(stream: &Stream, trim: Option<Trim>) -> Vec<u8> {
    match trim {
        Some(Trim::MaxLen(_)) => stream.len().to_string().into_bytes(),
        Some(Trim::MinId(_)) => {
            let first = if stream.is_empty() { StreamId::MAX } else { stream.first_id };
            first.text().as_bytes().to_vec()
        }
        None => Vec::new(),
    }
}

fn xlen(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let n = cx.read_collection::<Stream>(&key)?.map_or(0, |s| s.len());
    cx.reply.int(n as i64);
    Ok(())
}

fn xdel(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    if cx.collection::<Stream>(&key)?.is_none() {
        cx.reply.int(0);
        return Ok(());
    }
    let ids = args[2..].iter().map(|a| id(a, 0)).collect::<Result<Vec<_>, _>>()?;
    let (stream, rest) = cx.collection_apart::<Stream>(&key)?;
    let n = stream.map_or(0, |s| ids.iter().filter(|id| s.delete(**id)).count());
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::Stream, "xdel", rest.db, key.bytes);
    }
    Ok(())
}

fn xtrim(cx: &mut Cx, args: Args) -> Done {
    let t = Trimming::parse(cx, args, false)?;
    let key = cx.key(args[1]);
    let (stream, rest) = cx.collection_apart::<Stream>(&key)?;
    let (Some(stream), Some(trim)) = (stream, t.trim) else {
        rest.reply.int(0);
        return Ok(());
    };
    let n = stream.trim(trim, t.approximate, t.limit);
    rest.reply.int(n as i64);
    if n == 0 {
        return Ok(());
    }
    if t.approximate {
        rest.fx.rewrite(n, &t.exact(args, None, &bound(stream, t.trim)));
    } else {
        rest.fx.verbatim(n);
    }
    rest.fx.event(Class::Stream, "xtrim", rest.db, key.bytes);
    Ok(())
}

/// The options of XSETID.
#[derive(Default)]
struct SetId {
    entries_added: Option<i64>,
    max_deleted: Option<StreamId>,
}

impl SetId {
    fn parse(last: StreamId, words: Args) -> Result<SetId, Fault> {
        let mut o = SetId::default();
        for pair in words.chunks(2) {
            match *pair {
                [word, n] if is(word, "entriesadded") => {
                    let n = int(n)?;
                    if n < 0 {
                        return Err(Fault::Text("ERR entries_added must be positive"));
                    }
                    o.entries_added = Some(n);
                }
                [word, max] if is(word, "maxdeletedid") => {
                    let max = id(max, 0)?;
                    if last < max {
                        let text = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
                        return Err(Fault::Text(text));
                    }
                    o.max_deleted = Some(max);
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(o)
    }

    fn check(&self, stream: &Stream, last: StreamId) -> Result<(), Fault> {
        if last < stream.max_deleted_id {
            return Err(Fault::Text("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"));
        }
        if stream.last().is_some_and(|top| last < top.id) {
            return Err(Fault::Text("ERR The ID specified in XSETID is smaller than the target stream top item"));
        }
        if self.entries_added.is_some_and(|n| (stream.len() as i64) > n) {
            return Err(Fault::Text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        Ok(())
    }
}

fn xsetid(cx: &mut Cx, args: Args) -> Done {
    let last = id(args[2], 0)?;
    let o = SetId::parse(last, &args[3..])?;
    let key = cx.key(args[1]);
    let (entry, rest) = cx.find_apart(&key);
    let object = entry.ok_or(NO_SUCH_KEY)?.as_object_mut().ok_or(WRONG_TYPE)?;
    let stream = <Stream as crate::store::object::Collection>::of_mut(object).ok_or(WRONG_TYPE)?;
    o.check(stream, last)?;
    stream.last_id = last;
    if let Some(n) = o.entries_added {
        stream.entries_added = n as u64;
    }
    if let Some(max) = o.max_deleted.filter(|m| *m != StreamId::MIN) {
        stream.max_deleted_id = max;
    }
    rest.reply.ok();
    rest.fx.verbatim(1);
    rest.fx.event(Class::Stream, "xsetid", rest.db, key.bytes);
    Ok(())
}
