//! Commands that wait for an element: BLPOP and its kin.
//!
//! A handler that finds nothing says so by [`Cx::wait`]: it is run again when
//! one of the keys may have got something. Where nobody may wait (in MULTI, in
//! scripts) it replies as if the time were up.

use super::collect::{counted, keyspec};
use super::effect::{Block, Nil};
use super::fault::{Fault, SYNTAX};
use super::list;
use super::parse::is;
use super::spec::{Group, KeySpec, Spec, flag, keyflag};
use super::zset;
use super::{Across, Command, Cx, Done};
use crate::base::Args;
use crate::base::num::{parse_f64, parse_f64_any};
use crate::store::list::End;

const POPS: &[KeySpec] = &[KeySpec::range(keyflag::RW | keyflag::ACCESS | keyflag::DELETE, 1, -2, 1)];
const POPS_COUNTED: &[KeySpec] = &[KeySpec::counted(keyflag::RW | keyflag::ACCESS | keyflag::DELETE, 2)];

const BLOCKS: u32 = flag::WRITE | flag::BLOCKING;
const LIST: Spec = Spec { group: Group::List, flags: BLOCKS, keys: POPS, arity: -3, since: "2.0.0", ..Spec::DEFAULT };
const ZSET: Spec = Spec { group: Group::SortedSet, since: "5.0.0", flags: BLOCKS | flag::FAST, ..LIST };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "blpop",
            syntax: "key#0... timeout:double",
            complexity: "O(N) for N keys",
            summary: "Takes the head of the first list that has any; waits for one.",
            ..LIST
        },
        run: |cx, args| pop(cx, args, End::Left),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "brpop",
            syntax: "key#0... timeout:double",
            complexity: "O(N) for N keys",
            summary: "Takes the tail of the first list that has any; waits for one.",
            ..LIST
        },
        run: |cx, args| pop(cx, args, End::Right),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "blmove",
            syntax: "source#0 destination#1 wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) timeout:double",
            arity: 6,
            flags: BLOCKS | flag::DENYOOM,
            keys: keyspec::MOVED,
            since: "6.2.0",
            summary: "Moves an element from list to list; waits for one.",
            ..LIST
        },
        run: blmove,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "brpoplpush",
            syntax: "source#0 destination#1 timeout:double",
            arity: 4,
            flags: BLOCKS | flag::DENYOOM,
            keys: keyspec::MOVED,
            since: "2.2.0",
            summary: "Moves the tail of one list to the head of another; waits for one.",
            ..LIST
        },
        run: brpoplpush,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "blmpop",
            syntax: "timeout:double numkeys:int key#0... where(LEFT|RIGHT) [COUNT count:int]",
            arity: -5,
            flags: BLOCKS | flag::MOVABLE_KEYS,
            keys: POPS_COUNTED,
            since: "7.0.0",
            complexity: "O(k+n) for k keys and n elements taken",
            summary: "Takes elements from the first of several lists that has any; waits for one.",
            ..LIST
        },
        run: blmpop,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bzpopmin",
            syntax: "key#0... timeout:double",
            complexity: "O(log n)",
            summary: "Takes the member of the lowest score of the first sorted set that has any; waits for one.",
            ..ZSET
        },
        run: |cx, args| zpop(cx, args, false),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bzpopmax",
            syntax: "key#0... timeout:double",
            complexity: "O(log n)",
            summary: "Takes the member of the highest score of the first sorted set that has any; waits for one.",
            ..ZSET
        },
        run: |cx, args| zpop(cx, args, true),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bzmpop",
            syntax: "timeout:double numkeys:int key#0... where(MIN|MAX) [COUNT count:int]",
            arity: -5,
            flags: BLOCKS | flag::MOVABLE_KEYS,
            keys: POPS_COUNTED,
            since: "7.0.0",
            complexity: "O(k) for k keys and O(log n) per member",
            summary: "Takes members from the first of several sorted sets that has any; waits for one.",
            ..ZSET
        },
        run: bzmpop,
        across: Across::Gather,
    },
];

/// Until when to wait, from a timeout in seconds; none for ever.
fn deadline(arg: &[u8], now_ms: u64) -> Result<Option<u64>, Fault> {
    // Redis reads a wider number: what no f64 holds is too far away.
    let wider = || parse_f64_any(arg).filter(|v| v.is_infinite());
    let seconds = parse_f64(arg).or_else(wider).ok_or(Fault::Text("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(Fault::Text("ERR timeout is negative"));
    }
    let ms = (seconds * 1000.0).ceil();
    if !ms.is_finite() || ms > (i64::MAX as u64 - now_ms) as f64 {
        return Err(Fault::Text("ERR timeout is out of range"));
    }
    Ok((ms > 0.0).then(|| now_ms + ms as u64))
}

/// May this call wait? XREAD and XREADGROUP only do with BLOCK.
pub fn may_wait(spec: &Spec, args: Args) -> bool {
    let option = || {
        let options = args.iter().skip(1).take_while(|a| !is(a, "streams"));
        options.into_iter().any(|a| is(a, "block"))
    };
    spec.is(flag::BLOCKING) && (spec.group != Group::Stream || option())
}

impl Cx<'_> {
    /// Waits for one of the keys, or replies that the time is up where nobody
    /// may wait.
    pub fn wait(&mut self, keys: &[&[u8]], deadline_ms: Option<u64>, nil: Nil) {
        if self.fx.may_block {
            let keys = keys.iter().map(|k| k.to_vec()).collect();
            self.fx.block = Some(Block { keys, deadline_ms, again: None });
        } else {
            nil.write(&mut self.reply);
        }
    }
}

fn pop(cx: &mut Cx, args: Args, from: End) -> Done {
    let (time, keys) = args[1..].split_last().ok_or(SYNTAX)?;
    let until = deadline(time, cx.now)?;
    if !list::pop_first(cx, keys, from, None)? {
        cx.wait(keys, until, Nil::Array);
    }
    Ok(())
}

fn blmpop(cx: &mut Cx, args: Args) -> Done {
    let until = deadline(args[1], cx.now)?;
    let (keys, rest) = counted(args, 2)?;
    let (&word, options) = rest.split_first().ok_or(SYNTAX)?;
    let (from, count) = (list::end(word)?, list::pop_count(options)?);
    if !list::pop_first(cx, keys, from, Some(count))? {
        cx.wait(keys, until, Nil::Array);
    }
    Ok(())
}

fn blmove(cx: &mut Cx, args: Args) -> Done {
    let (from, to) = (list::end(args[3])?, list::end(args[4])?);
    let until = deadline(args[5], cx.now)?;
    let command: &[&[u8]] = &[b"LMOVE", args[1], args[2], args[3], args[4]];
    if !list::move_one(cx, (args[1], args[2]), from, to, Some(command))? {
        cx.wait(&args[1..2], until, Nil::Bulk);
    }
    Ok(())
}

fn brpoplpush(cx: &mut Cx, args: Args) -> Done {
    let until = deadline(args[3], cx.now)?;
    let command: &[&[u8]] = &[b"RPOPLPUSH", args[1], args[2]];
    if !list::move_one(cx, (args[1], args[2]), End::Right, End::Left, Some(command))? {
        cx.wait(&args[1..2], until, Nil::Bulk);
    }
    Ok(())
}

fn zpop(cx: &mut Cx, args: Args, max: bool) -> Done {
    let (time, keys) = args[1..].split_last().ok_or(SYNTAX)?;
    let until = deadline(time, cx.now)?;
    if !zset::pop_first(cx, keys, max, None)? {
        cx.wait(keys, until, Nil::Array);
    }
    Ok(())
}

fn bzmpop(cx: &mut Cx, args: Args) -> Done {
    let until = deadline(args[1], cx.now)?;
    let (keys, rest) = counted(args, 2)?;
    let (max, count) = zset::which(rest)?;
    if !zset::pop_first(cx, keys, max, Some(count))? {
        cx.wait(keys, until, Nil::Array);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_waited_for_only_with_block() {
        let find = |name: &str| {
            let rows = crate::command::families().into_iter().flatten();
            rows.map(|c| &c.spec).find(|s| s.name == name).expect("it is in the table")
        };
        let asks = |name: &str, line: &str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            may_wait(find(name), &args)
        };
        assert!(asks("blpop", "blpop k 0"));
        assert!(!asks("lpop", "lpop k"));
        assert!(asks("xread", "xread count 1 BLOCK 0 streams k $"));
        assert!(!asks("xread", "xread count 1 streams block $"));
        assert!(asks("xreadgroup", "xreadgroup group g c block 5 streams k >"));
    }

    #[test]
    fn timeouts_are_seconds_with_fractions() {
        assert_eq!(deadline(b"0", 100), Ok(None));
        assert_eq!(deadline(b"1.5", 100), Ok(Some(1600)));
        assert_eq!(deadline(b"0.0001", 100), Ok(Some(101)));
        for (bad, text) in [
            ("x", "ERR timeout is not a float or out of range"),
            ("", "ERR timeout is not a float or out of range"),
            ("nan", "ERR timeout is not a float or out of range"),
            ("-1", "ERR timeout is negative"),
            ("1e300", "ERR timeout is out of range"),
            ("1e400", "ERR timeout is out of range"),
            ("-1e400", "ERR timeout is negative"),
        ] {
            assert_eq!(deadline(bad.as_bytes(), 100), Err(Fault::Text(text)), "{bad}");
        }
    }
}
