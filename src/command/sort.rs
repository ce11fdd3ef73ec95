//! SORT and SORT_RO. Their patterns name keys that depend on the elements, so
//! with patterns they need the whole keyspace ([`super::keys::undeclared`]).

use std::cmp::Ordering;

use super::effect::Class;
use super::fault::{Fault, SYNTAX, WRONG_TYPE};
use super::parse::{int, is};
use super::spec::{Across, Begin, Command, Find, Group, KeySpec, Spec, acl, flag, keyflag};
use super::{Cx, Done};
use crate::base::Args;
use crate::base::num::parse_f64;
use crate::base::slot::Key;
use crate::store::entry::Value;
use crate::store::hash::Hash;
use crate::store::list::{End, List};
use crate::store::object::{Collection, Object};

const SOURCE: KeySpec = KeySpec::one(keyflag::RO | keyflag::ACCESS, 1);
const PATTERNS: KeySpec = KeySpec { flags: keyflag::RO | keyflag::ACCESS, begin: Begin::Unknown, find: Find::Unknown };
const STORED: KeySpec = KeySpec { flags: keyflag::OW | keyflag::UPDATE, begin: Begin::Unknown, find: Find::Unknown };

const ROW: Spec = Spec {
    arity: -2,
    acl: acl::SET | acl::SORTEDSET | acl::LIST | acl::DANGEROUS,
    group: Group::Generic,
    complexity: "O(n+m*log m) for n elements of which m are returned",
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "sort",
            syntax: "key#0 [BY by-pattern'pattern':pattern#1] [LIMIT limit(offset:int count:int)] [GET... \
                get-pattern'pattern':pattern#1] [order(ASC|DESC)] [sorting=ALPHA] [STORE destination#2]",
            flags: flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
            keys: &[SOURCE, PATTERNS, STORED],
            summary: "Sorts the elements of a list, set or sorted set, and stores them if wanted.",
            ..ROW
        },
        run: |cx, args| sort(cx, args, true),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sort_ro",
            syntax: "key#0 [BY by-pattern'pattern':pattern#1] [LIMIT limit(offset:int count:int)] [GET... \
                get-pattern'pattern':pattern#1] [order(ASC|DESC)] [sorting=ALPHA]",
            flags: flag::READONLY | flag::MOVABLE_KEYS,
            keys: &[SOURCE, PATTERNS],
            since: "7.0.0",
            summary: "Sorts the elements of a list, set or sorted set.",
            ..ROW
        },
        run: |cx, args| sort(cx, args, false),
        across: Across::Gather,
    },
];

#[derive(Default)]
struct Sorting<'a> {
    descending: bool,
    alpha: bool,
    /// First element and number of elements.
    limit: Option<(i64, i64)>,
    by: Option<&'a [u8]>,
    /// The order of the collection is kept.
    unsorted: bool,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Sorting<'a> {
    fn parse(words: Args<'a>, may_store: bool) -> Result<Sorting<'a>, Fault> {
        let mut s = Sorting::default();
        let mut at = 0;
        while at < words.len() {
            let (word, left) = (words[at], words.len() - at - 1);
            at += 1;
            if is(word, "asc") {
                s.descending = false;
            } else if is(word, "desc") {
                s.descending = true;
            } else if is(word, "alpha") {
                s.alpha = true;
            } else if is(word, "limit") && left >= 2 {
                s.limit = Some((int(words[at])?, int(words[at + 1])?));
                at += 2;
            } else if may_store && is(word, "store") && left >= 1 {
                s.store = Some(words[at]);
                at += 1;
            } else if is(word, "by") && left >= 1 {
                s.by = Some(words[at]);
                s.unsorted |= !until_zero(words[at]).contains(&b'*');
                at += 1;
            } else if is(word, "get") && left >= 1 {
                s.get.push(words[at]);
                at += 1;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(s)
    }

    /// The elements that LIMIT lets through, of `len`.
    fn window(&self, len: usize) -> std::ops::Range<usize> {
        let (start, count) = self.limit.unwrap_or((0, -1));
        let start = (start.max(0) as u64).min(len as u64) as usize;
        let end = if count < 0 { len } else { start + (count as u64).min((len - start) as u64) as usize };
        start..end
    }
}

/// Patterns and texts to be collated end at a zero byte, as C strings do.
fn until_zero(s: &[u8]) -> &[u8] {
    &s[..memchr::memchr(0, s).unwrap_or(s.len())]
}

/// What a pattern stands for with an element in the place of its first `*`.
fn look_up(cx: &mut Cx, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = until_zero(pattern).iter().position(|b| *b == b'*')?;
    let behind = &pattern[star + 1..];
    let arrow = until_zero(behind).windows(2).position(|w| w == b"->").filter(|at| at + 2 < until_zero(behind).len());
    let (rest, field) = arrow.map_or((behind, None), |at| (&behind[..at], Some(&behind[at + 2..])));
    let name = [&pattern[..star], element, rest].concat();
    let (entry, rest) = cx.read_apart(&Key::new(&name));
    let entry = entry?;
    match (entry.value(), field) {
        (Value::Str(s), None) => Some(s.to_vec()),
        (Value::Object(o), Some(field)) => Hash::of(o)?.shown(rest.now).get(field).map(|v| v.to_vec()),
        _ => None,
    }
}

/// A weight, as `strtod` reads all of it.
fn weight(text: &[u8]) -> Result<f64, Fault> {
    let text = until_zero(text);
    if text.is_empty() {
        return Ok(0.0);
    }
    parse_f64(text.trim_ascii_start()).ok_or(Fault::Text("ERR One or more scores can't be converted into double"))
}

/// The elements in their own order, and whether that is none at all.
fn elements(cx: &mut Cx, key: &[u8]) -> Result<(Vec<Vec<u8>>, bool), Fault> {
    let key = cx.key(key);
    let Some(entry) = cx.read(&key) else { return Ok((Vec::new(), false)) };
    Ok(match entry.as_object().ok_or(WRONG_TYPE)? {
        Object::List(x) => (x.iter().map(|i| i.to_vec()).collect(), false),
        Object::Set(x) => (x.iter().map(|i| i.to_vec()).collect(), true),
        Object::ZSet(x) => (x.iter().map(|(member, _)| member.to_vec()).collect(), false),
        _ => return Err(WRONG_TYPE),
    })
}

fn sort(cx: &mut Cx, args: Args, may_store: bool) -> Done {
    let mut s = Sorting::parse(&args[2..], may_store)?;
    let (mut all, unordered) = elements(cx, args[1])?;
    if s.unsorted && unordered && (s.store.is_some() || cx.options.in_script) {
        // A set has no order of its own that replicas would share, and scripts
        // get the same every time.
        (s.unsorted, s.alpha, s.by) = (false, true, None);
    }
    if !s.unsorted {
        all = in_order(cx, all, &s)?;
    } else if s.descending && !unordered {
        all.reverse();
    }
    let window = s.window(all.len());
    let chosen = &all[window];
    let mut out: Vec<Option<Vec<u8>>> = Vec::with_capacity(chosen.len() * s.get.len().max(1));
    for element in chosen {
        if s.get.is_empty() {
            out.push(Some(element.clone()));
        }
        for pattern in &s.get {
            out.push(look_up(cx, pattern, element));
        }
    }
    match s.store {
        Some(to) => store(cx, to, &out),
        None => {
            cx.reply.array(out.len());
            for value in out {
                match value {
                    Some(v) => cx.reply.bulk(&v),
                    None => cx.reply.null(),
                }
            }
        }
    }
    Ok(())
}

/// What an element is sorted by.
enum Rank {
    Number(f64),
    /// Nothing comes first.
    Text(Option<Vec<u8>>),
}

fn in_order(cx: &mut Cx, all: Vec<Vec<u8>>, s: &Sorting) -> Result<Vec<Vec<u8>>, Fault> {
    let mut ranked: Vec<(Rank, Vec<u8>)> = Vec::with_capacity(all.len());
    for element in all {
        let by = match s.by {
            Some(pattern) => look_up(cx, pattern, &element),
            None => Some(element.clone()),
        };
        let rank = if s.alpha { Rank::Text(by) } else { Rank::Number(by.map_or(Ok(0.0), |text| weight(&text))?) };
        ranked.push((rank, element));
    }
    // Stored results are compared by bytes, shown ones as C strings are.
    let shown = |t: &[u8]| if s.store.is_some() { t.len() } else { until_zero(t).len() };
    let compare = |a: &(Rank, Vec<u8>), b: &(Rank, Vec<u8>)| match (&a.0, &b.0) {
        (Rank::Number(x), Rank::Number(y)) => x.partial_cmp(y).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(&b.1)),
        (Rank::Text(Some(x)), Rank::Text(Some(y))) => x[..shown(x)].cmp(&y[..shown(y)]),
        (Rank::Text(x), Rank::Text(y)) => x.is_some().cmp(&y.is_some()),
        _ => Ordering::Equal,
    };
    ranked.sort_by(|a, b| if s.descending { compare(b, a) } else { compare(a, b) });
    Ok(ranked.into_iter().map(|r| r.1).collect())
}

fn store(cx: &mut Cx, to: &[u8], out: &[Option<Vec<u8>>]) {
    let fill = super::list::node_limits(cx.options);
    let mut list = List::default();
    for value in out {
        list.push(End::Right, value.as_deref().unwrap_or_default(), fill);
    }
    super::collect::store_result(cx, to, list.wrap(), Class::List, "sortstore");
    cx.fx.dirty += (out.len() as u64).saturating_sub(1);
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    fn check(b: &mut Bench, lines: &[(&str, &str)]) {
        for (line, want) in lines {
            assert_eq!(b.run(line), *want, "{line}");
        }
    }

    #[test]
    fn numbers_and_texts() {
        let mut b = Bench::default();
        check(
            &mut b,
            &[
                ("rpush l 3 1 2 10", ":4"),
                ("sort l", "*4 $1 1 $1 2 $1 3 $2 10"),
                ("sort l desc limit 1 2", "*2 $1 3 $1 2"),
                ("sort l alpha", "*4 $1 1 $2 10 $1 2 $1 3"),
                ("sort l limit 9 1", "*0"),
                ("sort l limit -1 -1 by nosort desc", "*4 $2 10 $1 2 $1 1 $1 3"),
                ("sort l limit a 1", "-ERR value is not an integer or out of range"),
                ("sort l limit 1", "-ERR syntax error"),
                ("rpush w a b", ":2"),
                ("sort w", "-ERR One or more scores can't be converted into double"),
                ("sort none", "*0"),
                ("set s v", "+OK"),
                ("sort s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
                ("sort_ro l store d", "-ERR syntax error"),
                ("zadd z 3 a 1 b 2 c", ":3"),
                ("sort z by nosort", "*3 $1 b $1 c $1 a"),
                ("sort z by nosort desc limit 0 2", "*2 $1 a $1 c"),
            ],
        );
    }

    #[test]
    fn patterns_and_storing() {
        let mut b = Bench::default();
        b.run("rpush l a b c");
        b.run("mset wa 3 wb 2 wc 1");
        b.run("hset hb f x");
        check(
            &mut b,
            &[
                ("sort l by w*", "*3 $1 c $1 b $1 a"),
                ("sort l by w* get # get h*->f get none", "*9 $1 c $-1 $-1 $1 b $1 x $-1 $1 a $-1 $-1"),
                ("sort l by h*->f alpha", "*3 $1 a $1 c $1 b"),
                ("sort l by none* get w*", "*3 $1 3 $1 2 $1 1"),
                ("sort l by w* get h*->f store d", ":3"),
            ],
        );
        assert_eq!((b.events(), b.dirty, b.stream.len()), (vec!["sortstore d".to_string()], 3, 1));
        check(
            &mut b,
            &[
                ("lrange d 0 -1", "*3 $0  $1 x $0"),
                ("sort none store d", ":0"),
                ("exists d", ":0"),
                ("sadd s c a b", ":3"),
                ("sort s by nosort store d", ":3"),
                ("lrange d 0 -1", "*3 $1 a $1 b $1 c"),
            ],
        );
    }
}
