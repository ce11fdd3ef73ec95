//! Ranges of a sorted set: by rank, by score, by the members' bytes.

use super::collect::{element, keyspec, span, store_result};
use super::effect::Class;
use super::fault::SYNTAX;
use super::parse::int;
use super::spec::{Across, Command, Group, Spec, flag};
use super::zset::{limits, scored, scored_head};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::{parse_f64_any, parse_f64_c};
use crate::store::listpack::Item;
use crate::store::object::Object;
use crate::store::zset::ZSet;

const ROW: Spec = Spec {
    group: Group::SortedSet,
    flags: flag::READONLY,
    keys: keyspec::READ,
    arity: -4,
    since: "1.2.0",
    complexity: "O(log n + k) for k members listed",
    ..Spec::DEFAULT
};
const REMOVES: Spec = Spec {
    flags: flag::WRITE,
    keys: keyspec::DELETED,
    arity: 4,
    complexity: "O(k log n) for k members removed",
    ..ROW
};
const COUNTS: Spec = Spec { flags: flag::READONLY | flag::FAST, arity: 4, complexity: "O(log n)", ..ROW };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zrange",
            syntax: "key#0 start stop [sortby(BYSCORE|BYLEX)@6.2.0] [REV@6.2.0] [LIMIT limit(offset:int \
                count:int)@6.2.0] [WITHSCORES]",
            summary: "Lists members between two ranks, scores or members.",
            ..ROW
        },
        run: |cx, args| zrange(cx, args, None, None),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrevrange",
            syntax: "key#0 start:int stop:int [WITHSCORES]",
            summary: "Lists members between two ranks, descending.",
            ..ROW
        },
        run: |cx, args| zrange(cx, args, Some(By::Rank), Some(true)),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrangebyscore",
            syntax: "key#0 min:double max:double [WITHSCORES@2.0.0] [LIMIT limit(offset:int count:int)]",
            since: "1.0.5",
            summary: "Lists members between two scores.",
            ..ROW
        },
        run: |cx, args| zrange(cx, args, Some(By::Score), Some(false)),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrevrangebyscore",
            syntax: "key#0 max:double min:double [WITHSCORES] [LIMIT limit(offset:int count:int)]",
            since: "2.2.0",
            summary: "Lists members between two scores, descending.",
            ..ROW
        },
        run: |cx, args| zrange(cx, args, Some(By::Score), Some(true)),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrangebylex",
            syntax: "key#0 min max [LIMIT limit(offset:int count:int)]",
            since: "2.8.9",
            summary: "Lists members between two members, all of one score.",
            ..ROW
        },
        run: |cx, args| zrange(cx, args, Some(By::Lex), Some(false)),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrevrangebylex",
            syntax: "key#0 max min [LIMIT limit(offset:int count:int)]",
            since: "2.8.9",
            summary: "Lists members between two members, all of one score, descending.",
            ..ROW
        },
        run: |cx, args| zrange(cx, args, Some(By::Lex), Some(true)),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zrangestore",
            syntax: "dst#0 src#1 min max [sortby(BYSCORE|BYLEX)] [REV] [LIMIT limit(offset:int count:int)]",
            arity: -5,
            flags: flag::WRITE | flag::DENYOOM,
            keys: keyspec::STORED_ONE,
            since: "6.2.0",
            summary: "Stores a range of a sorted set as another one.",
            ..ROW
        },
        run: zrangestore,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zcount",
            syntax: "key#0 min:double max:double",
            since: "2.0.0",
            summary: "Counts members between two scores.",
            ..COUNTS
        },
        run: |cx, args| count(cx, args, By::Score),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zlexcount",
            syntax: "key#0 min max",
            since: "2.8.9",
            summary: "Counts members between two members.",
            ..COUNTS
        },
        run: |cx, args| count(cx, args, By::Lex),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zremrangebyrank",
            syntax: "key#0 start:int stop:int",
            since: "2.0.0",
            summary: "Removes members between two ranks.",
            ..REMOVES
        },
        run: |cx, args| remove(cx, args, By::Rank, "zremrangebyrank"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zremrangebyscore",
            syntax: "key#0 min:double max:double",
            summary: "Removes members between two scores.",
            ..REMOVES
        },
        run: |cx, args| remove(cx, args, By::Score, "zremrangebyscore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zremrangebylex",
            syntax: "key#0 min max",
            since: "2.8.9",
            summary: "Removes members between two members, all of one score.",
            ..REMOVES
        },
        run: |cx, args| remove(cx, args, By::Lex, "zremrangebylex"),
        across: Across::Gather,
    },
];

/// What the ends of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// One end of a range by score.
#[derive(Clone, Copy, Debug)]
struct ScoreEnd {
    score: f64,
    exclusive: bool,
}

impl ScoreEnd {
    fn parse(word: &[u8]) -> Result<ScoreEnd, Fault> {
        let (number, exclusive) = match word {
            [b'(', rest @ ..] => (rest, true),
            _ => (word, false),
        };
        let score = parse_f64_any(number)
            .or_else(|| parse_f64_c(number))
            .ok_or(Fault::Text("ERR min or max is not a float"))?;
        Ok(ScoreEnd { score, exclusive })
    }
}

/// One end of a range by members.
#[derive(Clone, Copy, Debug)]
enum LexEnd<'a> {
    First,
    Last,
    At { member: &'a [u8], exclusive: bool },
}

impl<'a> LexEnd<'a> {
    fn parse(word: &'a [u8]) -> Result<LexEnd<'a>, Fault> {
        match word {
            b"-" => Ok(LexEnd::First),
            b"+" => Ok(LexEnd::Last),
            [b'(', member @ ..] => Ok(LexEnd::At { member, exclusive: true }),
            [b'[', member @ ..] => Ok(LexEnd::At { member, exclusive: false }),
            _ => Err(Fault::Text("ERR min or max not valid string range item")),
        }
    }

    /// Is `item` before the range that begins here?
    fn is_after(&self, item: Item) -> bool {
        match *self {
            LexEnd::First => false,
            LexEnd::Last => true,
            LexEnd::At { member, exclusive: true } => item.cmp_bytes(member).is_le(),
            LexEnd::At { member, exclusive: false } => item.cmp_bytes(member).is_lt(),
        }
    }

    /// Is `item` not behind the range that ends here?
    fn admits(&self, item: Item) -> bool {
        match *self {
            LexEnd::First => false,
            LexEnd::Last => true,
            LexEnd::At { member, exclusive: true } => item.cmp_bytes(member).is_lt(),
            LexEnd::At { member, exclusive: false } => item.cmp_bytes(member).is_le(),
        }
    }
}

/// A range, its lower end first (for ranks: the ends as given).
#[derive(Clone, Copy, Debug)]
enum Ends<'a> {
    Rank(i64, i64),
    Score(ScoreEnd, ScoreEnd),
    Lex(LexEnd<'a>, LexEnd<'a>),
}

impl<'a> Ends<'a> {
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Ends<'a>, Fault> {
        Ok(match by {
            By::Rank => Ends::Rank(int(low)?, int(high)?),
            By::Score => Ends::Score(ScoreEnd::parse(low)?, ScoreEnd::parse(high)?),
            By::Lex => Ends::Lex(LexEnd::parse(low)?, LexEnd::parse(high)?),
        })
    }

    /// The first rank of the range and the number of members in it. Ranks
    /// count from the highest member if `back`.
    fn within(&self, zset: &ZSet, back: bool) -> (usize, usize) {
        let (first, end) = match self {
            Ends::Rank(start, stop) => {
                let (skipped, n) = span(*start, *stop, zset.len()).unwrap_or((0, 0));
                return (if back { zset.len() - skipped - n } else { skipped }, n);
            }
            Ends::Score(low, high) => (
                zset.partition(|s, _| if low.exclusive { s <= low.score } else { s < low.score }),
                zset.partition(|s, _| if high.exclusive { s < high.score } else { s <= high.score }),
            ),
            Ends::Lex(low, high) => {
                (zset.partition(|_, item| low.is_after(item)), zset.partition(|_, item| high.admits(item)))
            }
        };
        (first, end.saturating_sub(first))
    }
}

/// A call of ZRANGE or one of its kind.
struct Range<'a> {
    ends: Ends<'a>,
    back: bool,
    with_scores: bool,
    /// Members to skip and, if not negative, to list at most.
    limit: Option<(i64, i64)>,
}

impl<'a> Range<'a> {
    /// From the two ends and the options behind them; `by` and `back` are
    /// options when the command does not fix them.
    fn parse(args: Args<'a>, by: Option<By>, back: Option<bool>, stores: bool) -> Result<Range<'a>, Fault> {
        let (mut chosen, mut reverse, mut with_scores, mut limit) = (by, back, false, None);
        let mut i = 2;
        while let Some(word) = args.get(i) {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            match (args.get(i + 1), args.get(i + 2)) {
                _ if is(b"withscores") && !stores => with_scores = true,
                (Some(offset), Some(count)) if is(b"limit") => {
                    limit = Some((int(offset)?, int(count)?));
                    i += 2;
                }
                _ if is(b"rev") && reverse.is_none() => reverse = Some(true),
                _ if is(b"bylex") && chosen.is_none() => chosen = Some(By::Lex),
                _ if is(b"byscore") && chosen.is_none() => chosen = Some(By::Score),
                _ => return Err(SYNTAX),
            }
            i += 1;
        }
        let (by, back) = (chosen.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if by == By::Rank && limit.is_some_and(|l| l.1 != -1) {
            return Err(Fault::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Lex && with_scores {
            return Err(Fault::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let swapped = back && by != By::Rank;
        let (low, high) = if swapped { (args[1], args[0]) } else { (args[0], args[1]) };
        let limit = limit.filter(|_| by != By::Rank);
        Ok(Range { ends: Ends::parse(by, low, high)?, back, with_scores, limit })
    }

    /// The rank to begin at, in the direction of the range, and the number of
    /// members.
    fn resolve(&self, zset: &ZSet) -> (usize, usize) {
        let (mut first, mut n) = self.ends.within(zset, self.back);
        if let Some((offset, count)) = self.limit {
            let skipped = usize::try_from(offset).unwrap_or(n).min(n);
            let left = n - skipped;
            let kept = usize::try_from(count).unwrap_or(left).min(left);
            first += if self.back { left - kept } else { skipped };
            n = kept;
        }
        (if self.back { (first + n).saturating_sub(1) } else { first }, n)
    }
}

fn zrange(cx: &mut Cx, args: Args, by: Option<By>, back: Option<bool>) -> Done {
    let range = Range::parse(&args[2..], by, back, false)?;
    let key = cx.key(args[1]);
    let (zset, rest) = cx.read_collection_apart::<ZSet>(&key)?;
    let Some(zset) = zset else {
        rest.reply.array(0);
        return Ok(());
    };
    let (start, n) = range.resolve(zset);
    if range.with_scores {
        scored_head(rest.reply, n);
        zset.each(start, n, range.back, |member, score| scored(rest.reply, member, score));
    } else {
        rest.reply.array(n);
        zset.each(start, n, range.back, |member, _| element(rest.reply, member));
    }
    Ok(())
}

fn zrangestore(cx: &mut Cx, args: Args) -> Done {
    let range = Range::parse(&args[3..], None, None, true)?;
    let limits = limits(cx.options);
    let source = cx.key(args[2]);
    let mut result = ZSet::default();
    if let Some(zset) = cx.read_collection::<ZSet>(&source)? {
        let (start, n) = range.resolve(zset);
        zset.each(start, n, range.back, |member, score| {
            member.with(|m| result.put(m, score, limits));
        });
    }
    store_result(cx, args[1], Object::ZSet(result), Class::ZSet, "zrangestore");
    Ok(())
}

fn count(cx: &mut Cx, args: Args, by: By) -> Done {
    let ends = Ends::parse(by, args[2], args[3])?;
    let key = cx.key(args[1]);
    let n = cx.read_collection::<ZSet>(&key)?.map_or(0, |z| ends.within(z, false).1);
    cx.reply.int(n as i64);
    Ok(())
}

fn remove(cx: &mut Cx, args: Args, by: By, event: &'static str) -> Done {
    let ends = Ends::parse(by, args[2], args[3])?;
    let key = cx.key(args[1]);
    let (zset, rest) = cx.collection_apart::<ZSet>(&key)?;
    let Some(zset) = zset else {
        rest.reply.int(0);
        return Ok(());
    };
    let (first, n) = ends.within(zset, false);
    zset.remove_range(first, n);
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::ZSet, event, rest.db, key.bytes);
        if zset.is_empty() {
            cx.delete_if_empty(&key);
        }
    }
    Ok(())
}
