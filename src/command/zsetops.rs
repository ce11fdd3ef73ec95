//! Unions, intersections and differences of sorted sets (and of sets, whose
//! members count as having score 1).

use std::collections::HashMap;

use super::collect::{element, keyspec, store_result};
use super::effect::Class;
use super::fault::{SYNTAX, WRONG_TYPE};
use super::parse::int;
use super::spec::{Across, Command, Group, Spec, flag};
use super::zset::{limits, scored, scored_head};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::parse_f64;
use crate::base::slot::Key;
use crate::store::Store;
use crate::store::entry::Entry;
use crate::store::listpack::Item;
use crate::store::object::Object;
use crate::store::set::Set;
use crate::store::zset::{ZSet, cmp_scores};

const ROW: Spec = Spec {
    group: Group::SortedSet,
    flags: flag::READONLY | flag::MOVABLE_KEYS,
    keys: keyspec::READ_COUNTED,
    arity: -3,
    since: "6.2.0",
    ..Spec::DEFAULT
};
const STORES: Spec = Spec {
    flags: flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
    keys: keyspec::STORED_COUNTED,
    arity: -4,
    since: "2.0.0",
    ..ROW
};
const UNION_COST: &str = "O(n) + O(m log m) for n members in all sets and m in the result";
const INTER_COST: &str = "O(n*k) + O(m log m) for k sets, the smallest of n members, and m in the result";

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zunion",
            syntax: "numkeys:int key#0... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)] [WITHSCORES]",
            complexity: UNION_COST,
            summary: "Lists the members that any of the sorted sets has.",
            ..ROW
        },
        run: |cx, args| list(cx, args, Operation::Union, "zunion"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zinter",
            syntax: "numkeys:int key#0... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)] [WITHSCORES]",
            complexity: INTER_COST,
            summary: "Lists the members that all sorted sets have.",
            ..ROW
        },
        run: |cx, args| list(cx, args, Operation::Inter, "zinter"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zdiff",
            syntax: "numkeys:int key#0... [WITHSCORES]",
            complexity: UNION_COST,
            summary: "Lists the members that only the first of the sorted sets has.",
            ..ROW
        },
        run: |cx, args| list(cx, args, Operation::Diff, "zdiff"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zunionstore",
            syntax: "destination#0 numkeys:int key#1... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)]",
            complexity: UNION_COST,
            summary: "Stores the members that any of the sorted sets has.",
            ..STORES
        },
        run: |cx, args| store(cx, args, Operation::Union, "zunionstore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zinterstore",
            syntax: "destination#0 numkeys:int key#1... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)]",
            complexity: INTER_COST,
            summary: "Stores the members that all sorted sets have.",
            ..STORES
        },
        run: |cx, args| store(cx, args, Operation::Inter, "zinterstore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zdiffstore",
            syntax: "destination#0 numkeys:int key#1...",
            since: "6.2.0",
            complexity: UNION_COST,
            summary: "Stores the members that only the first of the sorted sets has.",
            ..STORES
        },
        run: |cx, args| store(cx, args, Operation::Diff, "zdiffstore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "zintercard",
            syntax: "numkeys:int key#0... [LIMIT limit:int]",
            since: "7.0.0",
            complexity: INTER_COST,
            summary: "Counts the members that all sorted sets have.",
            ..ROW
        },
        run: zintercard,
        across: Across::Gather,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// How the scores of one member in several sets become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &[u8]) -> Result<Aggregate, Fault> {
        match word.to_ascii_lowercase().as_slice() {
            b"sum" => Ok(Aggregate::Sum),
            b"min" => Ok(Aggregate::Min),
            b"max" => Ok(Aggregate::Max),
            _ => Err(SYNTAX),
        }
    }

    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            Aggregate::Sum => number(a + b),
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// Opposite infinities, and zero times infinity, make 0.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// A set or a sorted set.
#[derive(Clone, Copy)]
enum Source<'s> {
    Plain(&'s Set),
    Scored(&'s ZSet),
}

impl<'s> Source<'s> {
    fn of(object: &'s Object) -> Option<Source<'s>> {
        match object {
            Object::Set(s) => Some(Source::Plain(s)),
            Object::ZSet(z) => Some(Source::Scored(z)),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Source::Plain(s) => s.len(),
            Source::Scored(z) => z.len(),
        }
    }

    fn score(&self, member: Item) -> Option<f64> {
        member.with(|m| match self {
            Source::Plain(s) => s.contains(m).then_some(1.0),
            Source::Scored(z) => z.score(m),
        })
    }

    fn iter(self) -> impl Iterator<Item = (Item<'s>, f64)> {
        let (plain, scored) = match self {
            Source::Plain(s) => (Some(s), None),
            Source::Scored(z) => (None, Some(z)),
        };
        let plain = plain.into_iter().flat_map(|s| s.iter().map(|m| (m, 1.0)));
        plain.chain(scored.into_iter().flat_map(|z| z.iter()))
    }
}

/// The arguments of a call.
struct Call<'a> {
    keys: Args<'a>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// The keys behind their number at `args[at]`, and the options after them.
fn keys<'a>(args: Args<'a>, at: usize, name: &str) -> Result<(Args<'a>, Args<'a>), Fault> {
    let n = int(args[at])?;
    if n < 1 {
        return Err(Fault::from(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    let n = usize::try_from(n).map_err(|_| SYNTAX)?;
    args[at + 1..].split_at_checked(n).ok_or(SYNTAX)
}

impl<'a> Call<'a> {
    fn new(keys: Args<'a>) -> Call<'a> {
        Call { keys, weights: Vec::new(), aggregate: Aggregate::Sum, with_scores: false }
    }

    fn options(&mut self, options: Args, operation: Operation, stores: bool) -> Result<(), Fault> {
        let n = self.keys.len();
        let weighs = operation != Operation::Diff;
        let mut rest = options;
        while let Some((word, after)) = rest.split_first() {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            rest = if weighs && is(b"weights") && after.len() >= n {
                const FAULT: Fault = Fault::Text("ERR weight value is not a float");
                let weights = after[..n].iter().map(|w| parse_f64(w).ok_or(FAULT));
                self.weights = weights.collect::<Result<_, _>>()?;
                &after[n..]
            } else if weighs && is(b"aggregate") && !after.is_empty() {
                self.aggregate = Aggregate::parse(after[0])?;
                &after[1..]
            } else if !stores && is(b"withscores") {
                self.with_scores = true;
                after
            } else {
                return Err(SYNTAX);
            };
        }
        Ok(())
    }

    /// The sources with their weights, in the order of the keys.
    fn sources<'s>(&self, store: &'s Store, db: usize) -> Vec<(Option<Source<'s>>, f64)> {
        let source = |k: &[u8]| store.get(db, &Key::new(k)).and_then(Entry::as_object).and_then(Source::of);
        let weight = |i: usize| self.weights.get(i).copied().unwrap_or(1.0);
        self.keys.iter().enumerate().map(|(i, k)| (source(k), weight(i))).collect()
    }

    /// The result, ascending.
    fn run<'s>(&self, store: &'s Store, db: usize, operation: Operation) -> Vec<(Item<'s>, f64)> {
        let mut sources = self.sources(store, db);
        if operation == Operation::Diff {
            return difference(&sources);
        }
        sources.sort_by_key(|(s, _)| s.map_or(0, |s| s.len()));
        let mut found = match operation {
            Operation::Union => self.union(&sources),
            _ => self.intersection(&sources),
        };
        found.sort_by(|a, b| cmp_scores(a.1, b.1).then_with(|| a.0.with(|x| b.0.cmp_bytes(x).reverse())));
        found
    }

    fn union<'s>(&self, sources: &[(Option<Source<'s>>, f64)]) -> Vec<(Item<'s>, f64)> {
        let mut all: HashMap<Item, f64> = HashMap::new();
        for (source, weight) in sources {
            for (member, score) in source.iter().flat_map(|s| s.iter()) {
                let score = number(score * weight);
                all.entry(member.canonical()).and_modify(|s| *s = self.aggregate.join(*s, score)).or_insert(score);
            }
        }
        all.into_iter().collect()
    }

    fn intersection<'s>(&self, sources: &[(Option<Source<'s>>, f64)]) -> Vec<(Item<'s>, f64)> {
        let Some(((Some(first), weight), others)) = sources.split_first() else { return Vec::new() };
        let score = |(member, score): (Item<'s>, f64)| {
            let total = others.iter().try_fold(number(score * weight), |sum, (source, weight)| {
                // As in Redis only the first one's product is mended: MIN and MAX
                // pass over a later one that is no number.
                Some(self.aggregate.join(sum, (*source)?.score(member)? * weight))
            });
            Some((member, total?))
        };
        first.iter().filter_map(score).collect()
    }
}

fn difference<'s>(sources: &[(Option<Source<'s>>, f64)]) -> Vec<(Item<'s>, f64)> {
    let Some(((Some(first), _), others)) = sources.split_first() else { return Vec::new() };
    let elsewhere = |m: Item| others.iter().any(|(s, _)| s.is_some_and(|s| s.score(m).is_some()));
    let mut found: Vec<_> = first.iter().filter(|&(m, _)| !elsewhere(m)).collect();
    if let Source::Plain(_) = first {
        found.sort_by(|a, b| a.0.with(|x| b.0.cmp_bytes(x).reverse()));
    }
    found
}

/// Looks all keys up for reading; faults if one holds no set of any kind.
fn look_up(cx: &mut Cx, keys: Args) -> Result<(), Fault> {
    keys.iter().try_for_each(|k| {
        let key = cx.key(k);
        let fits = cx.read(&key).is_none_or(|e| e.as_object().and_then(Source::of).is_some());
        if fits { Ok(()) } else { Err(WRONG_TYPE) }
    })
}

fn list(cx: &mut Cx, args: Args, operation: Operation, name: &str) -> Done {
    let (keys, options) = keys(args, 1, name)?;
    let mut call = Call::new(keys);
    look_up(cx, keys)?;
    call.options(options, operation, false)?;
    let found = call.run(cx.store, cx.db, operation);
    let reply = &mut cx.reply;
    if call.with_scores {
        scored_head(reply, found.len());
        found.into_iter().for_each(|(member, score)| scored(reply, member, score));
    } else {
        reply.array(found.len());
        found.into_iter().for_each(|(member, _)| element(reply, member));
    }
    Ok(())
}

fn store(cx: &mut Cx, args: Args, operation: Operation, name: &'static str) -> Done {
    let (keys, options) = keys(args, 2, name)?;
    let mut call = Call::new(keys);
    look_up(cx, keys)?;
    call.options(options, operation, true)?;
    let limits = limits(cx.options);
    let mut result = ZSet::default();
    for (member, score) in call.run(cx.store, cx.db, operation) {
        member.with(|m| result.put(m, score, limits));
    }
    store_result(cx, args[1], Object::ZSet(result), Class::ZSet, name);
    Ok(())
}

fn zintercard(cx: &mut Cx, args: Args) -> Done {
    let (keys, options) = keys(args, 1, "zintercard")?;
    look_up(cx, keys)?;
    let limit = super::setops::limit(options)?;
    let n = Call::new(keys).run(cx.store, cx.db, Operation::Inter).len();
    cx.reply.int(if limit > 0 { n.min(limit) } else { n } as i64);
    Ok(())
}
