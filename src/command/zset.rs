//! Commands that add to a sorted set, take from it or look single members up.
//! Ranges are in `zrange`, commands over several sorted sets in `zsetops`.

use super::collect::{
    ScanOptions, at_least, counted, cursor, element, keyspec, random_count, sample, scan_head, signed_count, too_long,
};
use super::cx::{Options, Rest};
use super::effect::Class;
use super::fault::{NOT_A_FLOAT, NOT_POSITIVE, SYNTAX};
use super::spec::{Across, Command, Group, Spec, flag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::{format_f64, parse_f64};
use crate::base::rng::Rng;
use crate::base::slot::Key;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::store::listpack::Item;
use crate::store::zset::{Limits, Put, ZSet};

const ADDS: u32 = flag::WRITE | flag::DENYOOM | flag::FAST;
const READS: u32 = flag::READONLY | flag::FAST;
const ROW: Spec = Spec { group: Group::SortedSet, keys: keyspec::READ, since: "1.2.0", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zadd",
            syntax: "key#0 [condition(NX|XX)@3.0.2] [comparison(GT|LT)@6.2.0] [change=CH@3.0.2] \
                [increment=INCR@3.0.2] data(score:double member)...",
            element: 3,
            arity: -4,
            flags: ADDS,
            keys: keyspec::UPDATED,
            complexity: "O(log n) per member",
            summary: "Adds members to a sorted set or changes their scores.",
            ..ROW
        },
        run: |cx, args| zadd(cx, args, Adding::default()),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zincrby",
            syntax: "key#0 increment:int member",
            element: 3,
            arity: 4,
            flags: ADDS,
            keys: keyspec::CHANGED,
            complexity: "O(log n)",
            summary: "Adds to the score of a member; a missing one has 0.",
            ..ROW
        },
        run: |cx, args| zadd(cx, args, Adding { incr: true, ..Adding::default() }),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zscore",
            syntax: "key#0 member",
            element: 2,
            arity: 3,
            flags: READS,
            summary: "Returns the score of a member.",
            ..ROW
        },
        run: zscore,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zmscore",
            syntax: "key#0 member...",
            element: 2,
            arity: -3,
            flags: READS,
            since: "6.2.0",
            complexity: "O(n) for n members asked for",
            summary: "Returns the scores of several members.",
            ..ROW
        },
        run: zmscore,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zcard",
            syntax: "key#0",
            arity: 2,
            flags: READS,
            keys: keyspec::META,
            summary: "Counts the members of a sorted set.",
            ..ROW
        },
        run: zcard,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrank",
            syntax: "key#0 member [WITHSCORE]",
            element: 2,
            arity: -3,
            flags: READS,
            since: "2.0.0",
            complexity: "O(log n)",
            summary: "Returns the place of a member in ascending order.",
            ..ROW
        },
        run: |cx, args| zrank(cx, args, "zrank"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrevrank",
            syntax: "key#0 member [WITHSCORE]",
            element: 2,
            arity: -3,
            flags: READS,
            since: "2.0.0",
            complexity: "O(log n)",
            summary: "Returns the place of a member in descending order.",
            ..ROW
        },
        run: |cx, args| zrank(cx, args, "zrevrank"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrem",
            syntax: "key#0 member...",
            element: 2,
            arity: -3,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::DELETED,
            complexity: "O(log n) per member",
            summary: "Removes members from a sorted set.",
            ..ROW
        },
        run: zrem,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zpopmin",
            syntax: "key#0 [count:int]",
            arity: -2,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::POPPED,
            since: "5.0.0",
            complexity: "O(log n) per member",
            summary: "Takes the members of the lowest scores.",
            ..ROW
        },
        run: |cx, args| zpop(cx, args, false),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zpopmax",
            syntax: "key#0 [count:int]",
            arity: -2,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::POPPED,
            since: "5.0.0",
            complexity: "O(log n) per member",
            summary: "Takes the members of the highest scores.",
            ..ROW
        },
        run: |cx, args| zpop(cx, args, true),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zmpop",
            syntax: "numkeys:int key#0... where(MIN|MAX) [COUNT count:int]",
            arity: -4,
            flags: flag::WRITE | flag::MOVABLE_KEYS,
            keys: keyspec::POPPED_COUNTED,
            since: "7.0.0",
            complexity: "O(k) for k keys and O(log n) per member",
            summary: "Takes members from the first of several sorted sets that has any.",
            ..ROW
        },
        run: zmpop,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrandmember",
            syntax: "key#0 [options(count:int [WITHSCORES])]",
            arity: -2,
            flags: flag::READONLY,
            since: "6.2.0",
            complexity: "O(n) for n members asked for",
            summary: "Returns random members, with their scores if wanted.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: zrandmember,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zscan",
            syntax: "key#0 cursor:int [MATCH pattern:pattern] [COUNT count:int] [NOSCORES@8.0.0]",
            arity: -3,
            flags: flag::READONLY,
            since: "2.8.0",
            complexity: "O(1) per call, O(n) for a whole scan",
            summary: "Lists members and scores step by step.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: zscan,
        across: Across::Gather,
    },
];

pub(super) fn limits(o: &Options) -> Limits {
    Limits { entries: o.zset_max_listpack_entries, value: o.zset_max_listpack_value }
}

/// The score of a member in a reply, as an element of its own or, in RESP3,
/// in one array with its member.
pub(super) fn scored(reply: &mut Reply, member: Item, score: f64) {
    if reply.proto == Proto::Resp3 {
        reply.array(2);
    }
    element(reply, member);
    reply.double(score);
}

/// Header of an array of `n` [`scored`] members.
pub(super) fn scored_head(reply: &mut Reply, n: usize) {
    reply.array(if reply.proto == Proto::Resp3 { n } else { 2 * n });
}

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
struct Adding {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Adding {
    /// Takes the options in front of the first score; how many there are.
    fn parse(&mut self, args: Args) -> usize {
        for (i, word) in args.iter().enumerate() {
            if !word.first().is_some_and(u8::is_ascii_alphabetic) {
                return i;
            }
            let option = match word.to_ascii_lowercase().as_slice() {
                b"nx" => &mut self.nx,
                b"xx" => &mut self.xx,
                b"gt" => &mut self.gt,
                b"lt" => &mut self.lt,
                b"ch" => &mut self.ch,
                b"incr" => &mut self.incr,
                _ => return i,
            };
            *option = true;
        }
        args.len()
    }

    fn check(&self, pairs: usize) -> Result<(), Fault> {
        if self.nx && self.xx {
            return Err(Fault::Text("ERR XX and NX options at the same time are not compatible"));
        }
        if [self.nx, self.gt, self.lt].iter().filter(|&&o| o).count() > 1 {
            return Err(Fault::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.incr && pairs > 1 {
            return Err(Fault::Text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The new score of a member, `None` if it is to stay as it is.
    fn resolve(&self, old: Option<f64>, score: f64) -> Result<Option<f64>, Fault> {
        let Some(old) = old else { return Ok(Some(score).filter(|_| !self.xx)) };
        if self.nx {
            return Ok(None);
        }
        let new = if self.incr { old + score } else { score };
        if new.is_nan() {
            return Err(Fault::Text("ERR resulting score is not a number (NaN)"));
        }
        let refused = (self.gt && new <= old) || (self.lt && new >= old);
        Ok(Some(new).filter(|_| !refused))
    }
}

/// Pairs of scores and members.
type Pairs<'a> = smallvec::SmallVec<[(f64, &'a [u8]); 4]>;

fn pairs<'a>(words: Args<'a>) -> Result<Pairs<'a>, Fault> {
    words.chunks_exact(2).map(|w| Ok((parse_f64(w[0]).ok_or(NOT_A_FLOAT)?, w[1]))).collect()
}

/// ZADD with these words (GEOADD).
pub(super) fn zadd_line(cx: &mut Cx, args: Args) -> Done {
    zadd(cx, args, Adding::default())
}

fn zadd(cx: &mut Cx, args: Args, mut adding: Adding) -> Done {
    let at = if adding.incr { 2 } else { 2 + adding.parse(&args[2..]) };
    let words = &args[at..];
    if words.is_empty() || words.len() % 2 == 1 {
        return Err(SYNTAX);
    }
    adding.check(words.len() / 2)?;
    let pairs = pairs(words)?;
    let key = cx.key(args[1]);
    if adding.xx && cx.collection::<ZSet>(&key)?.is_none() {
        if adding.incr {
            cx.reply.null()
        } else {
            cx.reply.int(0)
        }
        return Ok(());
    }
    if adding.incr {
        // The only fault that the stored score can cause comes before any change.
        let old = cx.collection::<ZSet>(&key)?.and_then(|z| z.score(pairs[0].1));
        adding.resolve(old, pairs[0].0)?;
    }
    let (zset, rest) = cx.collection_or_new_apart::<ZSet>(&key)?;
    add_pairs(zset, rest, &key, &pairs, adding)
}

fn add_pairs(zset: &mut ZSet, rest: Rest, key: &Key, pairs: &Pairs, adding: Adding) -> Done {
    let limits = limits(rest.options);
    let longest = if zset.is_empty() { pairs.iter().map(|p| p.1.len()).max().unwrap_or(0) } else { 0 };
    zset.expect(pairs.len(), longest, limits);
    let (mut added, mut changed, mut last) = (0, 0, None);
    let plain = !(adding.nx || adding.gt || adding.lt || adding.xx || adding.incr);
    for &(score, member) in pairs {
        let new = if plain { Some(score) } else { adding.resolve(zset.score(member), score)? };
        last = new;
        match new.map(|s| zset.put(member, s, limits)) {
            Some(Put::Added) => added += 1,
            Some(Put::Changed) => changed += 1,
            Some(Put::Same) | None => {}
        }
    }
    match last {
        Some(score) if adding.incr => rest.reply.double(score),
        None if adding.incr => rest.reply.null(),
        _ => rest.reply.int(if adding.ch { added + changed } else { added }),
    }
    if added + changed > 0 {
        rest.fx.verbatim((added + changed) as u64);
        rest.fx.event(Class::ZSet, if adding.incr { "zincr" } else { "zadd" }, rest.db, key.bytes);
    }
    Ok(())
}

fn score_or_null(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(s) => reply.double(s),
        None => reply.null(),
    }
}

fn zscore(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let score = cx.read_collection::<ZSet>(&key)?.and_then(|z| z.score(args[2]));
    score_or_null(&mut cx.reply, score);
    Ok(())
}

fn zmscore(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (zset, rest) = cx.read_collection_apart::<ZSet>(&key)?;
    rest.reply.array(args.len() - 2);
    for member in &args[2..] {
        score_or_null(rest.reply, zset.as_ref().and_then(|z| z.score(member)));
    }
    Ok(())
}

fn zcard(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let n = cx.read_collection::<ZSet>(&key)?.map_or(0, |z| z.len());
    cx.reply.int(n as i64);
    Ok(())
}

fn zrank(cx: &mut Cx, args: Args, name: &str) -> Done {
    let with_score = match args {
        [_, _, _] => false,
        [_, _, _, word] if word.eq_ignore_ascii_case(b"withscore") => true,
        [_, _, _, _] => return Err(SYNTAX),
        _ => return Err(Fault::arity(name)),
    };
    let key = cx.key(args[1]);
    let (zset, rest) = cx.read_collection_apart::<ZSet>(&key)?;
    let found = zset.and_then(|z| Some((z.rank(args[2])?, z.len())));
    let Some(((rank, score), len)) = found else {
        if with_score {
            rest.reply.null_array()
        } else {
            rest.reply.null()
        }
        return Ok(());
    };
    if with_score {
        rest.reply.array(2);
    }
    rest.reply.int(if name == "zrank" { rank } else { len - 1 - rank } as i64);
    if with_score {
        rest.reply.double(score);
    }
    Ok(())
}

fn zrem(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (zset, rest) = cx.collection_apart::<ZSet>(&key)?;
    let Some(zset) = zset else {
        rest.reply.int(0);
        return Ok(());
    };
    let n = args[2..].iter().filter(|m| zset.remove(m)).count();
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::ZSet, "zrem", rest.db, key.bytes);
        if zset.is_empty() {
            cx.delete_if_empty(&key);
        }
    }
    Ok(())
}

/// Takes up to `n` members from one end, each handed to `f`; the rest is
/// the caller's.
fn take(zset: &mut ZSet, n: usize, max: bool, mut f: impl FnMut(Item, f64)) {
    for _ in 0..n {
        let rank = if max { zset.len() - 1 } else { 0 };
        zset.pop(rank, &mut f);
    }
}

fn popped(max: bool) -> &'static str {
    if max { "zpopmax" } else { "zpopmin" }
}

fn zpop(cx: &mut Cx, args: Args, max: bool) -> Done {
    if args.len() > 3 {
        return Err(SYNTAX);
    }
    let count = args.get(2).map(|a| at_least(a, 0, NOT_POSITIVE)).transpose()?;
    let key = cx.key(args[1]);
    let (zset, rest) = cx.collection_apart::<ZSet>(&key)?;
    let n = count.unwrap_or(1);
    let Some(zset) = zset.filter(|_| n > 0) else {
        rest.reply.array(0);
        return Ok(());
    };
    let n = n.min(zset.len());
    let nested = count.is_some() && rest.reply.proto == Proto::Resp3;
    rest.reply.array(if nested { n } else { 2 * n });
    take(zset, n, max, |member, score| {
        if nested {
            rest.reply.array(2);
        }
        element(rest.reply, member);
        rest.reply.double(score);
    });
    rest.fx.verbatim(n as u64);
    rest.fx.event(Class::ZSet, popped(max), rest.db, key.bytes);
    if zset.is_empty() {
        cx.delete_if_empty(&key);
    }
    Ok(())
}

fn zmpop(cx: &mut Cx, args: Args) -> Done {
    let (keys, rest) = counted(args, 1)?;
    let (max, count) = which(rest)?;
    if !pop_first(cx, keys, max, Some(count))? {
        cx.reply.null_array();
    }
    Ok(())
}

/// `MIN|MAX [COUNT n]` of ZMPOP: whether from the highest, and how many.
pub(super) fn which(args: Args) -> Result<(bool, usize), Fault> {
    let (&word, options) = args.split_first().ok_or(SYNTAX)?;
    let max = match word {
        w if w.eq_ignore_ascii_case(b"min") => false,
        w if w.eq_ignore_ascii_case(b"max") => true,
        _ => return Err(SYNTAX),
    };
    Ok((max, super::list::pop_count(options)?))
}

/// Takes from the first sorted set that has any, with the reply and effect of
/// ZMPOP, or of BZPOPMIN if there is no count; false, and no reply, when none
/// has any.
pub(super) fn pop_first(cx: &mut Cx, keys: Args, max: bool, count: Option<usize>) -> Result<bool, Fault> {
    for k in keys {
        let key = cx.key(k);
        let (zset, rest) = cx.collection_apart::<ZSet>(&key)?;
        let Some(zset) = zset else { continue };
        let n = count.unwrap_or(1).min(zset.len());
        let command: &[u8] = if max { b"ZPOPMAX" } else { b"ZPOPMIN" };
        rest.reply.array(if count.is_some() { 2 } else { 3 });
        rest.reply.bulk(key.bytes);
        if count.is_some() {
            rest.reply.array(n);
            rest.fx.rewrite(n as u64, &[command, key.bytes, itoa::Buffer::new().format(n).as_bytes()]);
        } else {
            rest.fx.rewrite(1, &[command, key.bytes]);
        }
        take(zset, n, max, |member, score| {
            if count.is_some() {
                rest.reply.array(2);
            }
            element(rest.reply, member);
            rest.reply.double(score);
        });
        rest.fx.event(Class::ZSet, popped(max), rest.db, key.bytes);
        if zset.is_empty() {
            cx.delete_if_empty(&key);
        }
        return Ok(true);
    }
    Ok(false)
}

fn zrandmember(cx: &mut Cx, args: Args) -> Done {
    let with_scores = match args.get(3) {
        None => false,
        Some(w) if args.len() == 4 && w.eq_ignore_ascii_case(b"withscores") => true,
        Some(_) => {
            signed_count(args[2])?;
            return Err(SYNTAX);
        }
    };
    let count = args.get(2).map(|n| random_count(n, with_scores, cx)).transpose()?;
    let key = cx.key(args[1]);
    let (zset, rest) = cx.read_collection_apart::<ZSet>(&key)?;
    match (zset, count) {
        (None, None) => rest.reply.null(),
        (None, Some(_)) => rest.reply.array(0),
        (Some(zset), None) => {
            if let Some((member, _)) = zset.random(rest.rng) {
                element(rest.reply, member);
            }
        }
        (Some(zset), Some(n)) => random_members(zset, n, with_scores, rest),
    }
    Ok(())
}

fn random_members(zset: &ZSet, n: i64, with_scores: bool, rest: Rest) {
    let Rest { reply, rng, options, .. } = rest;
    let count = if n < 0 { n.unsigned_abs() as usize } else { zset.len().min(n as usize) };
    if with_scores {
        scored_head(reply, count)
    } else {
        reply.array(count)
    }
    let mut put = |(member, score): (Item, f64)| {
        if with_scores {
            scored(reply, member, score)
        } else {
            element(reply, member)
        }
        !too_long(reply, options)
    };
    if n < 0 {
        (0..count).filter_map(|_| zset.random(rng)).all(put);
    } else if count == zset.len() {
        zset.iter().all(&mut put);
    } else {
        distinct(zset, count, rng).into_iter().all(put);
    }
}

/// `n` different members with their scores.
fn distinct<'z>(zset: &'z ZSet, n: usize, rng: &mut Rng) -> Vec<(Item<'z>, f64)> {
    if n * 3 > zset.len() {
        let all: Vec<_> = zset.iter().collect();
        return sample(all.len(), n, rng).into_iter().map(|i| all[i]).collect();
    }
    let mut seen = std::collections::HashSet::new();
    let mut drawn = Vec::with_capacity(n);
    while drawn.len() < n {
        let Some(element) = zset.random(rng) else { break };
        if seen.insert(element.0) {
            drawn.push(element);
        }
    }
    drawn
}

fn zscan(cx: &mut Cx, args: Args) -> Done {
    let at = cursor(args[2])?;
    let key = cx.key(args[1]);
    let (zset, rest) = cx.read_collection_apart::<ZSet>(&key)?;
    let Some(zset) = zset else {
        scan_head(rest.reply, 0, 0);
        return Ok(());
    };
    // As in Valkey 8.
    let options = ScanOptions::parse(&args[3..], Some("noscores"))?;
    let (mut found, next) = zset.scan(at, options.count);
    found.retain(|(member, _)| options.accepts(member));
    scan_head(rest.reply, next, if options.bare { found.len() } else { 2 * found.len() });
    for (member, score) in found {
        element(rest.reply, member);
        if !options.bare {
            rest.reply.bulk(format_f64(score).as_bytes());
        }
    }
    Ok(())
}
