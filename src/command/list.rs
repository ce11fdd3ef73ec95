//! Commands over lists.

use super::collect::{at_least, counted, element, keyspec, signed_count, span};
use super::cx::{Options, Rest};
use super::effect::Class;
use super::fault::{INDEX_OUT_OF_RANGE, NO_SUCH_KEY, NOT_POSITIVE, SYNTAX, WRONG_TYPE};
use super::parse::int;
use super::spec::{Across, Command, Group, Spec, flag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::slot::Key;
use crate::resp::Reply;
use crate::store::list::{End, Fill, List};
use crate::store::listpack::Item;

const ADDS: u32 = flag::WRITE | flag::DENYOOM;
const ROW: Spec = Spec { group: Group::List, keys: keyspec::READ, ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "lpush",
            syntax: "key#0 element...",
            arity: -3,
            flags: ADDS | flag::FAST,
            keys: keyspec::INSERTED,
            complexity: "O(n) for n new elements",
            summary: "Adds elements at the head of a list, made if missing.",
            ..ROW
        },
        run: |cx, args| push(cx, args, End::Left),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "rpush",
            syntax: "key#0 element...",
            arity: -3,
            flags: ADDS | flag::FAST,
            keys: keyspec::INSERTED,
            complexity: "O(n) for n new elements",
            summary: "Adds elements at the tail of a list, made if missing.",
            ..ROW
        },
        run: |cx, args| push(cx, args, End::Right),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lpushx",
            syntax: "key#0 element...",
            arity: -3,
            flags: ADDS | flag::FAST,
            keys: keyspec::INSERTED,
            since: "2.2.0",
            complexity: "O(n) for n new elements",
            summary: "Adds elements at the head of a list that exists.",
            ..ROW
        },
        run: |cx, args| push_existing(cx, args, End::Left),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "rpushx",
            syntax: "key#0 element...",
            arity: -3,
            flags: ADDS | flag::FAST,
            keys: keyspec::INSERTED,
            since: "2.2.0",
            complexity: "O(n) for n new elements",
            summary: "Adds elements at the tail of a list that exists.",
            ..ROW
        },
        run: |cx, args| push_existing(cx, args, End::Right),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lpop",
            syntax: "key#0 [count:int@6.2.0]",
            arity: -2,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::POPPED,
            complexity: "O(n) for n elements taken",
            summary: "Takes elements from the head of a list.",
            ..ROW
        },
        run: |cx, args| pop(cx, args, End::Left, "lpop"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "rpop",
            syntax: "key#0 [count:int@6.2.0]",
            arity: -2,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::POPPED,
            complexity: "O(n) for n elements taken",
            summary: "Takes elements from the tail of a list.",
            ..ROW
        },
        run: |cx, args| pop(cx, args, End::Right, "rpop"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "llen",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            summary: "Counts the elements of a list.",
            ..ROW
        },
        run: llen,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lrange",
            syntax: "key#0 start:int stop:int",
            arity: 4,
            flags: flag::READONLY,
            complexity: "O(s+n) for n elements, s the distance of the first from the nearer end",
            summary: "Lists the elements between two indices.",
            ..ROW
        },
        run: lrange,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lindex",
            syntax: "key#0 index:int",
            arity: 3,
            flags: flag::READONLY,
            complexity: "O(n), n the distance from the nearer end",
            summary: "Returns the element at an index.",
            ..ROW
        },
        run: lindex,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lset",
            syntax: "key#0 index:int element",
            arity: 4,
            flags: ADDS,
            keys: keyspec::UPDATED,
            complexity: "O(n), n the distance from the nearer end",
            summary: "Replaces the element at an index.",
            ..ROW
        },
        run: lset,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "linsert",
            syntax: "key#0 where(BEFORE|AFTER) pivot element",
            arity: 5,
            flags: ADDS,
            keys: keyspec::INSERTED,
            since: "2.2.0",
            complexity: "O(n), n the elements before the pivot",
            summary: "Adds an element before or after another.",
            ..ROW
        },
        run: linsert,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lrem",
            syntax: "key#0 count:int element",
            arity: 4,
            flags: flag::WRITE,
            keys: keyspec::DELETED,
            complexity: "O(n) in the length of the list",
            summary: "Removes elements of a given value.",
            ..ROW
        },
        run: lrem,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "ltrim",
            syntax: "key#0 start:int stop:int",
            arity: 4,
            flags: flag::WRITE,
            keys: keyspec::DELETED,
            complexity: "O(n) for n elements removed",
            summary: "Removes all elements but those between two indices.",
            ..ROW
        },
        run: ltrim,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lpos",
            syntax: "key#0 element [RANK rank:int] [COUNT num-matches:int] [MAXLEN len:int]",
            arity: -3,
            flags: flag::READONLY,
            since: "6.0.6",
            complexity: "O(n) in the number of elements compared",
            summary: "Finds the indices of elements of a given value.",
            ..ROW
        },
        run: lpos,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lmove",
            syntax: "source#0 destination#1 wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT)",
            arity: 5,
            flags: ADDS,
            keys: keyspec::MOVED,
            since: "6.2.0",
            summary: "Moves an element from an end of one list to an end of another.",
            ..ROW
        },
        run: |cx, args| move_element(cx, args, end(args[3])?, end(args[4])?),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "rpoplpush",
            syntax: "source#0 destination#1",
            arity: 3,
            flags: ADDS,
            keys: keyspec::MOVED,
            since: "1.2.0",
            summary: "Moves the tail of one list to the head of another.",
            ..ROW
        },
        run: |cx, args| move_element(cx, args, End::Right, End::Left),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "lmpop",
            syntax: "numkeys:int key#0... where(LEFT|RIGHT) [COUNT count:int]",
            arity: -4,
            flags: flag::WRITE | flag::MOVABLE_KEYS,
            keys: keyspec::POPPED_COUNTED,
            since: "7.0.0",
            complexity: "O(k+n) for k keys and n elements taken",
            summary: "Takes elements from the first of several lists that has any.",
            ..ROW
        },
        run: lmpop,
        across: Across::Gather,
    },
];

pub(super) fn end(word: &[u8]) -> Result<End, Fault> {
    if word.eq_ignore_ascii_case(b"left") {
        Ok(End::Left)
    } else if word.eq_ignore_ascii_case(b"right") {
        Ok(End::Right)
    } else {
        Err(SYNTAX)
    }
}

fn pushed(end: End) -> &'static str {
    if end == End::Left { "lpush" } else { "rpush" }
}

fn popped(end: End) -> &'static str {
    if end == End::Left { "lpop" } else { "rpop" }
}

pub(super) fn node_limits(o: &Options) -> Fill {
    Fill::new(o.list_max_listpack_size).at_most(o.list_node_max_bytes)
}

fn fill(cx: &Cx) -> Fill {
    node_limits(cx.options)
}

fn push(cx: &mut Cx, args: Args, end: End) -> Done {
    let key = cx.key(args[1]);
    let (list, rest) = cx.collection_or_new_apart::<List>(&key)?;
    extend(list, rest, &key, &args[2..], end);
    Ok(())
}

fn push_existing(cx: &mut Cx, args: Args, end: End) -> Done {
    let key = cx.key(args[1]);
    let (list, rest) = cx.collection_apart::<List>(&key)?;
    match list {
        Some(list) => extend(list, rest, &key, &args[2..], end),
        None => rest.reply.int(0),
    }
    Ok(())
}

fn extend(list: &mut List, rest: Rest, key: &Key, values: Args, end: End) {
    let fill = node_limits(rest.options);
    list.prepare(values.iter().map(|v| v.len()).sum(), values.len(), fill);
    values.iter().for_each(|v| list.push(end, v, fill));
    rest.fx.verbatim(values.len() as u64);
    rest.fx.event(Class::List, pushed(end), rest.db, key.bytes);
    rest.reply.int(list.len() as i64);
}

fn pop(cx: &mut Cx, args: Args, end: End, name: &str) -> Done {
    if args.len() > 3 {
        return Err(Fault::arity(name));
    }
    let count = args.get(2).map(|a| at_least(a, 0, NOT_POSITIVE)).transpose()?;
    let (key, fill) = (cx.key(args[1]), fill(cx));
    let (list, rest) = cx.collection_apart::<List>(&key)?;
    let Some(list) = list else {
        if count.is_some() {
            rest.reply.null_array()
        } else {
            rest.reply.null()
        }
        return Ok(());
    };
    let n = count.unwrap_or(1).min(list.len());
    if count.is_some() {
        rest.reply.array(n);
    }
    take(list, n, end, rest.reply);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::List, popped(end), rest.db, key.bytes);
        if emptied(list, fill) {
            cx.delete_if_empty(&key);
        }
    }
    Ok(())
}

/// Takes `n` elements into the reply.
fn take(list: &mut List, n: usize, end: End, reply: &mut Reply) {
    for _ in 0..n {
        list.pop(end, |item| element(reply, item));
    }
}

/// Is a list that has shrunk empty? If not, it may become a listpack again.
fn emptied(list: &mut List, fill: Fill) -> bool {
    if !list.is_empty() {
        list.relax(true, fill);
    }
    list.is_empty()
}

fn llen(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let n = cx.read_collection::<List>(&key)?.map_or(0, |l| l.len());
    cx.reply.int(n as i64);
    Ok(())
}

fn lrange(cx: &mut Cx, args: Args) -> Done {
    let (start, stop) = (int(args[2])?, int(args[3])?);
    let key = cx.key(args[1]);
    let (list, rest) = cx.read_collection_apart::<List>(&key)?;
    match list.and_then(|l| Some((span(start, stop, l.len())?, l))) {
        None => rest.reply.array(0),
        Some(((first, n), list)) => {
            rest.reply.array(n);
            list.each(first, n, |item| element(rest.reply, item));
        }
    }
    Ok(())
}

/// The index that a negative one, counted from the end, means.
fn index(i: i64, len: usize) -> Option<usize> {
    let i = if i < 0 { i + len as i64 } else { i };
    usize::try_from(i).ok().filter(|&i| i < len)
}

fn lindex(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (list, rest) = cx.read_collection_apart::<List>(&key)?;
    let Some(list) = list else {
        rest.reply.null();
        return Ok(());
    };
    match index(int(args[2])?, list.len()).and_then(|i| list.get(i)) {
        Some(item) => element(rest.reply, item),
        None => rest.reply.null(),
    }
    Ok(())
}

fn lset(cx: &mut Cx, args: Args) -> Done {
    let (key, fill) = (cx.key(args[1]), fill(cx));
    let (list, rest) = cx.collection_apart::<List>(&key)?;
    let list = list.ok_or(NO_SUCH_KEY)?;
    let i = index(int(args[2])?, list.len()).ok_or(INDEX_OUT_OF_RANGE)?;
    list.prepare(args[3].len(), 1, fill);
    list.set(i, args[3], fill);
    list.relax(false, fill);
    rest.reply.ok();
    rest.fx.verbatim(1);
    rest.fx.event(Class::List, "lset", rest.db, key.bytes);
    Ok(())
}

fn linsert(cx: &mut Cx, args: Args) -> Done {
    let after = match args[2] {
        w if w.eq_ignore_ascii_case(b"after") => 1,
        w if w.eq_ignore_ascii_case(b"before") => 0,
        _ => return Err(SYNTAX),
    };
    let (key, fill) = (cx.key(args[1]), fill(cx));
    let (list, rest) = cx.collection_apart::<List>(&key)?;
    let Some(list) = list else {
        rest.reply.int(0);
        return Ok(());
    };
    let pivot = Item::of(args[3]);
    let Some(at) = list.iter().position(|item| item == pivot) else {
        rest.reply.int(-1);
        return Ok(());
    };
    list.prepare(args[4].len(), 1, fill);
    list.insert(at + after, args[4], fill);
    rest.reply.int(list.len() as i64);
    rest.fx.verbatim(1);
    rest.fx.event(Class::List, "linsert", rest.db, key.bytes);
    Ok(())
}

fn lrem(cx: &mut Cx, args: Args) -> Done {
    let count = int(args[2])?;
    let (key, fill) = (cx.key(args[1]), fill(cx));
    let (list, rest) = cx.collection_apart::<List>(&key)?;
    let from = if count < 0 { End::Right } else { End::Left };
    let max = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let Some(list) = list else {
        rest.reply.int(0);
        return Ok(());
    };
    let n = list.remove_equal(args[3], from, max);
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::List, "lrem", rest.db, key.bytes);
        if emptied(list, fill) {
            cx.delete_if_empty(&key);
        }
    }
    Ok(())
}

fn ltrim(cx: &mut Cx, args: Args) -> Done {
    let (start, stop) = (int(args[2])?, int(args[3])?);
    let (key, fill) = (cx.key(args[1]), fill(cx));
    let (list, rest) = cx.collection_apart::<List>(&key)?;
    rest.reply.ok();
    let Some(list) = list else { return Ok(()) };
    let was = list.len();
    let (first, n) = span(start, stop, was).unwrap_or((0, 0));
    list.remove(first + n, was);
    list.remove(0, first);
    let gone = was - list.len();
    if gone > 0 {
        rest.fx.verbatim(gone as u64);
    }
    rest.fx.event(Class::List, "ltrim", rest.db, key.bytes);
    if emptied(list, fill) {
        cx.delete_if_empty(&key);
    }
    Ok(())
}

/// What LPOS looks for.
struct Search {
    /// Matches to skip, plus one; from the tail if negative.
    rank: i64,
    count: Option<usize>,
    maxlen: usize,
}

impl Search {
    fn parse(args: Args) -> Result<Search, Fault> {
        let mut s = Search { rank: 1, count: None, maxlen: 0 };
        for pair in args.chunks(2) {
            match *pair {
                [w, n] if w.eq_ignore_ascii_case(b"rank") => s.rank = rank(n)?,
                [w, n] if w.eq_ignore_ascii_case(b"count") => {
                    s.count = Some(at_least(n, 0, Fault::Text("ERR COUNT can't be negative"))?);
                }
                [w, n] if w.eq_ignore_ascii_case(b"maxlen") => {
                    s.maxlen = at_least(n, 0, Fault::Text("ERR MAXLEN can't be negative"))?;
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(s)
    }

    /// The indices found, in the order of the search.
    fn run(&self, list: &List, value: &[u8]) -> Vec<usize> {
        let item = Item::of(value);
        let len = list.len();
        let back = self.rank < 0;
        let (forth, reverse) = if back { (None, Some(list.iter_back())) } else { (Some(list.iter()), None) };
        let items = forth.into_iter().flatten().chain(reverse.into_iter().flatten());
        let compared = if self.maxlen == 0 { len } else { self.maxlen };
        let hits = items.take(compared).enumerate().filter(|(_, x)| *x == item).map(|(i, _)| i);
        let wanted = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(n) => n,
        };
        let skipped = (self.rank.unsigned_abs() - 1) as usize;
        hits.skip(skipped).take(wanted).map(|i| if back { len - 1 - i } else { i }).collect()
    }
}

fn rank(arg: &[u8]) -> Result<i64, Fault> {
    const ZERO: Fault = Fault::Text(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
         or use negative to start from the end of the list",
    );
    match signed_count(arg)? {
        0 => Err(ZERO),
        n => Ok(n),
    }
}

fn lpos(cx: &mut Cx, args: Args) -> Done {
    let search = Search::parse(&args[3..])?;
    let key = cx.key(args[1]);
    let (list, rest) = cx.read_collection_apart::<List>(&key)?;
    let found = list.map(|l| search.run(l, args[2])).unwrap_or_default();
    if search.count.is_some() {
        rest.reply.array(found.len());
        found.iter().for_each(|&i| rest.reply.int(i as i64));
    } else {
        match found.first() {
            Some(&i) => rest.reply.int(i as i64),
            None => rest.reply.null(),
        }
    }
    Ok(())
}

fn move_element(cx: &mut Cx, args: Args, from: End, to: End) -> Done {
    if !move_one(cx, (args[1], args[2]), from, to, None)? {
        cx.reply.null();
    }
    Ok(())
}

/// Moves an element and replies with it; to the stream goes the command as it
/// came or `instead`. False, and no reply, when there is none.
pub(super) fn move_one(
    cx: &mut Cx,
    (source, target): (&[u8], &[u8]),
    from: End,
    to: End,
    instead: Option<Args>,
) -> Result<bool, Fault> {
    let (source, target) = (cx.key(source), cx.key(target));
    if cx.collection::<List>(&source)?.is_none() {
        return Ok(false);
    }
    cx.collection::<List>(&target)?;
    let fill = fill(cx);
    let taken = cx.collection::<List>(&source)?.and_then(|l| l.pop(from, |item| item.to_vec()));
    let Some(value) = taken else { return Err(WRONG_TYPE) };
    let list = cx.collection_or_new::<List>(&target)?;
    list.prepare(value.len(), 1, fill);
    list.push(to, &value, fill);
    cx.event(Class::List, pushed(to), target.bytes);
    cx.reply.bulk(&value);
    match instead {
        Some(command) => cx.fx.rewrite(1, command),
        None => cx.fx.verbatim(1),
    }
    cx.event(Class::List, popped(from), source.bytes);
    if let Some(list) = cx.collection::<List>(&source)?
        && emptied(list, fill)
    {
        cx.delete_if_empty(&source);
    }
    Ok(true)
}

/// COUNT of LMPOP and ZMPOP, from the arguments behind the direction.
pub(super) fn pop_count(args: Args) -> Result<usize, Fault> {
    match args {
        [] => Ok(1),
        [word, n, rest @ ..] if word.eq_ignore_ascii_case(b"count") => {
            let n = at_least(n, 1, Fault::Text("ERR count should be greater than 0"))?;
            if rest.is_empty() { Ok(n) } else { Err(SYNTAX) }
        }
        _ => Err(SYNTAX),
    }
}

fn lmpop(cx: &mut Cx, args: Args) -> Done {
    let (keys, rest) = counted(args, 1)?;
    let (&word, options) = rest.split_first().ok_or(SYNTAX)?;
    let (from, count) = (end(word)?, pop_count(options)?);
    if !pop_first(cx, keys, from, Some(count))? {
        cx.reply.null_array();
    }
    Ok(())
}

/// Takes from the first list that has any, with the reply and effect of LMPOP,
/// or of BLPOP if there is no count; false, and no reply, when none has any.
pub(super) fn pop_first(cx: &mut Cx, keys: Args, from: End, count: Option<usize>) -> Result<bool, Fault> {
    let fill = fill(cx);
    for k in keys {
        let key = cx.key(k);
        let (list, rest) = cx.collection_apart::<List>(&key)?;
        let Some(list) = list else { continue };
        let n = count.unwrap_or(1).min(list.len());
        let command: &[u8] = if from == End::Left { b"LPOP" } else { b"RPOP" };
        rest.reply.array(2);
        rest.reply.bulk(key.bytes);
        if count.is_some() {
            rest.reply.array(n);
            rest.fx.rewrite(n as u64, &[command, key.bytes, itoa::Buffer::new().format(n).as_bytes()]);
        } else {
            rest.fx.rewrite(1, &[command, key.bytes]);
        }
        take(list, n, from, rest.reply);
        rest.fx.event(Class::List, popped(from), rest.db, key.bytes);
        if emptied(list, fill) {
            cx.delete_if_empty(&key);
        }
        return Ok(true);
    }
    Ok(false)
}
