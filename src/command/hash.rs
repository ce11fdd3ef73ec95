//! Commands over hashes.

use super::collect::{ScanOptions, cursor, element, keyspec, random_count, sample, scan_head, signed_count, too_long};
use super::cx::{Options, Rest};
use super::effect::Class;
use super::fault::{NOT_A_FLOAT, OVERFLOW, SYNTAX};
use super::parse::int;
use super::spec::{Across, Command, Group, Spec, flag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::longdouble::LongDouble;
use crate::base::num::parse_i64;
use crate::base::rng::Rng;
use crate::base::slot::Key;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::store::hash::{Hash, Limits};
use crate::store::listpack::Item;
use crate::store::shown::Shown;

const ADDS: u32 = flag::WRITE | flag::DENYOOM | flag::FAST;
const ROW: Spec = Spec { group: Group::Hash, keys: keyspec::READ, since: "2.0.0", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "hset",
            syntax: "key#0 data(field value)...",
            element: 2,
            arity: -4,
            flags: ADDS,
            keys: keyspec::UPDATED,
            complexity: "O(n) for n fields given",
            summary: "Sets fields of a hash, made if missing; counts the new ones.",
            ..ROW
        },
        run: |cx, args| hset(cx, args, "hset"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hmset",
            syntax: "key#0 data(field value)...",
            element: 2,
            arity: -4,
            flags: ADDS,
            keys: keyspec::UPDATED,
            complexity: "O(n) for n fields given",
            summary: "Sets fields of a hash, made if missing.",
            ..ROW
        },
        run: |cx, args| hset(cx, args, "hmset"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hsetnx",
            syntax: "key#0 field value",
            element: 2,
            arity: 4,
            flags: ADDS,
            keys: keyspec::INSERTED,
            summary: "Sets a field of a hash unless it has it.",
            ..ROW
        },
        run: hsetnx,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hget",
            syntax: "key#0 field",
            element: 2,
            arity: 3,
            flags: flag::READONLY | flag::FAST,
            summary: "Returns the value of a field.",
            ..ROW
        },
        run: hget,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hmget",
            syntax: "key#0 field...",
            element: 2,
            arity: -3,
            flags: flag::READONLY | flag::FAST,
            complexity: "O(n) for n fields asked for",
            summary: "Returns the values of several fields.",
            ..ROW
        },
        run: hmget,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hgetall",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY,
            complexity: "O(n) in the size of the hash",
            summary: "Lists all fields with their values.",
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
        run: hgetall,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hkeys",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY,
            complexity: "O(n) in the size of the hash",
            summary: "Lists all fields.",
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
        run: |cx, args| list_half(cx, args, |(field, _)| field),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hvals",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY,
            complexity: "O(n) in the size of the hash",
            summary: "Lists the values of all fields.",
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
        run: |cx, args| list_half(cx, args, |(_, value)| value),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hlen",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            summary: "Counts the fields of a hash.",
            ..ROW
        },
        run: hlen,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hexists",
            syntax: "key#0 field",
            element: 2,
            arity: 3,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            summary: "Tells whether a hash has a field.",
            ..ROW
        },
        run: hexists,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hdel",
            syntax: "key#0 field...",
            element: 2,
            arity: -3,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::DELETED,
            complexity: "O(n) for n fields given",
            summary: "Removes fields from a hash.",
            ..ROW
        },
        run: hdel,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hstrlen",
            syntax: "key#0 field",
            element: 2,
            arity: 3,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            since: "3.2.0",
            summary: "Returns the length of a field's value.",
            ..ROW
        },
        run: hstrlen,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hincrby",
            syntax: "key#0 field increment:int",
            element: 2,
            arity: 4,
            flags: ADDS,
            keys: keyspec::CHANGED,
            summary: "Adds to the integer in a field; a missing one is 0.",
            ..ROW
        },
        run: hincrby,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hincrbyfloat",
            syntax: "key#0 field increment:double",
            element: 2,
            arity: 4,
            flags: ADDS,
            keys: keyspec::CHANGED,
            since: "2.6.0",
            summary: "Adds to the decimal fraction in a field; a missing one is 0.",
            ..ROW
        },
        run: hincrbyfloat,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hrandfield",
            syntax: "key#0 [options(count:int [WITHVALUES])]",
            arity: -2,
            flags: flag::READONLY,
            since: "6.2.0",
            complexity: "O(n) for n fields asked for",
            summary: "Returns random fields, with their values if wanted.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: hrandfield,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hscan",
            syntax: "key#0 cursor:int [MATCH pattern:pattern] [COUNT count:int] [NOVALUES@7.4.0]",
            arity: -3,
            flags: flag::READONLY,
            since: "2.8.0",
            complexity: "O(1) per call, O(n) for a whole scan",
            summary: "Lists fields, with their values if wanted, step by step.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: hscan,
        across: Across::Gather,
    },
];

pub(super) fn limits(o: &Options) -> Limits {
    Limits { entries: o.hash_max_listpack_entries, value: o.hash_max_listpack_value }
}

fn hset(cx: &mut Cx, args: Args, name: &str) -> Done {
    if args.len() % 2 == 1 {
        return Err(Fault::arity(name));
    }
    let key = cx.key(args[1]);
    let (hash, rest) = cx.collection_or_new_apart::<Hash>(&key)?;
    let (words, limits) = (&args[2..], limits(rest.options));
    hash.expect(words, limits);
    let before = hash.next_deadline();
    let created = words.chunks_exact(2).filter(|w| hash.set(w[0], w[1], limits)).count();
    if before.is_some() {
        // A field that is set anew lives on.
        for w in words.chunks_exact(2) {
            hash.set_deadline(w[0], None);
        }
    }
    if name == "hset" {
        rest.reply.int(created as i64)
    } else {
        rest.reply.ok()
    }
    rest.fx.verbatim(words.len() as u64 / 2);
    rest.fx.event(Class::Hash, "hset", rest.db, key.bytes);
    if before.is_some() {
        cx.store.fields_changed(cx.db, &key, before);
    }
    Ok(())
}

fn hsetnx(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = cx.collection_or_new_apart::<Hash>(&key)?;
    if hash.contains(args[2]) {
        rest.reply.int(0);
        return Ok(());
    }
    hash.set(args[2], args[3], limits(rest.options));
    rest.reply.int(1);
    rest.fx.verbatim(1);
    rest.fx.event(Class::Hash, "hset", rest.db, key.bytes);
    Ok(())
}

fn value_or_null(reply: &mut Reply, value: Option<Item>) {
    match value {
        Some(v) => element(reply, v),
        None => reply.null(),
    }
}

/// The hash of a key as readers see it, with the rest of the context.
pub(super) fn read_fields<'r, 'a>(cx: &'r mut Cx<'a>, key: &Key) -> Result<(Option<Shown<'r>>, Rest<'r, 'a>), Fault> {
    let (hash, rest) = cx.read_collection_apart::<Hash>(key)?;
    Ok((hash.map(|h| h.shown(rest.now)), rest))
}

fn hget(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    value_or_null(rest.reply, hash.and_then(|h| h.get(args[2])));
    Ok(())
}

fn hmget(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.array(args.len() - 2);
    for field in &args[2..] {
        value_or_null(rest.reply, hash.as_ref().and_then(|h| h.get(field)));
    }
    Ok(())
}

fn hgetall(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.map(hash.as_ref().map_or(0, |h| h.len()));
    if let Some(hash) = hash {
        hash.each(|field, value| {
            element(rest.reply, field);
            element(rest.reply, value);
        });
    }
    Ok(())
}

fn list_half(cx: &mut Cx, args: Args, half: for<'s> fn((Item<'s>, Item<'s>)) -> Item<'s>) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.array(hash.as_ref().map_or(0, |h| h.len()));
    if let Some(hash) = hash {
        hash.each(|field, value| element(rest.reply, half((field, value))));
    }
    Ok(())
}

fn hlen(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.int(hash.map_or(0, |h| h.len()) as i64);
    Ok(())
}

fn hexists(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.int(i64::from(hash.is_some_and(|h| h.contains(args[2]))));
    Ok(())
}

fn hstrlen(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.int(hash.and_then(|h| h.get(args[2])).map_or(0, |v| v.len()) as i64);
    Ok(())
}

fn hdel(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (hash, rest) = cx.collection_apart::<Hash>(&key)?;
    let Some(hash) = hash else {
        rest.reply.int(0);
        return Ok(());
    };
    let before = hash.next_deadline();
    let n = args[2..].iter().filter(|f| hash.remove(f)).count();
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::Hash, "hdel", rest.db, key.bytes);
        let empty = hash.is_empty();
        if before.is_some() {
            cx.store.fields_changed(cx.db, &key, before);
        }
        if empty {
            cx.delete_if_empty(&key);
        }
    }
    Ok(())
}

fn hincrby(cx: &mut Cx, args: Args) -> Done {
    let step = int(args[3])?;
    let key = cx.key(args[1]);
    let old = match cx.collection::<Hash>(&key)?.and_then(|h| h.get(args[2])) {
        None => 0,
        Some(Item::Int(v)) => v,
        Some(Item::Str(s)) => parse_i64(s).ok_or(Fault::Text("ERR hash value is not an integer"))?,
    };
    let sum = old.checked_add(step).ok_or(OVERFLOW)?;
    let limits = limits(cx.options);
    let hash = cx.collection_or_new::<Hash>(&key)?;
    hash.set(args[2], itoa::Buffer::new().format(sum).as_bytes(), limits);
    cx.reply.int(sum);
    cx.fx.verbatim(1);
    cx.event(Class::Hash, "hincrby", key.bytes);
    Ok(())
}

fn hincrbyfloat(cx: &mut Cx, args: Args) -> Done {
    let step = LongDouble::parse(args[3]).ok_or(NOT_A_FLOAT)?;
    if !step.is_finite() {
        return Err(Fault::Text("ERR value is NaN or Infinity"));
    }
    let key = cx.key(args[1]);
    let old = match cx.collection::<Hash>(&key)?.and_then(|h| h.get(args[2])) {
        None => LongDouble::ZERO,
        Some(v) => v.with(LongDouble::parse).ok_or(Fault::Text("ERR hash value is not a float"))?,
    };
    let sum = old.plus(step).filter(LongDouble::is_finite);
    let text = sum.ok_or(Fault::Text("ERR increment would produce NaN or Infinity"))?.to_string();
    let limits = limits(cx.options);
    let (hash, mut rest) = cx.collection_or_new_apart::<Hash>(&key)?;
    hash.set(args[2], text.as_bytes(), limits);
    rest.reply.bulk(text.as_bytes());
    rest.fx.rewrite(1, &[b"HSET", key.bytes, args[2], text.as_bytes()]);
    if let Some(at) = hash.deadline(args[2]) {
        super::hash_fields::pass_deadline_on(&mut rest, key.bytes, args[2], at);
    }
    cx.event(Class::Hash, "hincrbyfloat", key.bytes);
    Ok(())
}

fn hrandfield(cx: &mut Cx, args: Args) -> Done {
    let with_values = match args.get(3) {
        None => false,
        Some(w) if args.len() == 4 && w.eq_ignore_ascii_case(b"withvalues") => true,
        Some(_) => {
            signed_count(args[2])?;
            return Err(SYNTAX);
        }
    };
    let count = args.get(2).map(|n| random_count(n, with_values, cx)).transpose()?;
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    match (hash, count) {
        (None, None) => rest.reply.null(),
        (None, Some(_)) => rest.reply.array(0),
        (Some(hash), None) => value_or_null(rest.reply, hash.random(rest.rng).map(|(f, _)| f)),
        (Some(hash), Some(n)) => random_fields(hash, n, with_values, rest),
    }
    Ok(())
}

fn random_fields(hash: Shown, n: i64, with_values: bool, rest: Rest) {
    let Rest { reply, rng, options, .. } = rest;
    let nested = with_values && reply.proto == Proto::Resp3;
    let count = if n < 0 { n.unsigned_abs() as usize } else { hash.len().min(n as usize) };
    reply.array(if with_values && !nested { 2 * count } else { count });
    let mut put = |(field, value): (Item, Item)| {
        if nested {
            reply.array(2);
        }
        element(reply, field);
        if with_values {
            element(reply, value);
        }
        !too_long(reply, options)
    };
    if n < 0 {
        (0..count).filter_map(|_| hash.random(rng)).all(put);
    } else if count == hash.len() {
        hash.iter().all(&mut put);
    } else {
        distinct(hash, count, rng).into_iter().all(put);
    }
}

/// `n` different fields with their values.
fn distinct<'h>(hash: Shown<'h>, n: usize, rng: &mut Rng) -> Vec<(Item<'h>, Item<'h>)> {
    if n * 3 > hash.len() {
        let all: Vec<_> = hash.iter().collect();
        return sample(all.len(), n, rng).into_iter().map(|i| all[i]).collect();
    }
    let mut seen = std::collections::HashSet::new();
    let mut drawn = Vec::with_capacity(n);
    while drawn.len() < n {
        let Some(pair) = hash.random(rng) else { break };
        if seen.insert(pair.0) {
            drawn.push(pair);
        }
    }
    drawn
}

fn hscan(cx: &mut Cx, args: Args) -> Done {
    let at = cursor(args[2])?;
    let key = cx.key(args[1]);
    let (hash, rest) = read_fields(cx, &key)?;
    let Some(hash) = hash else {
        scan_head(rest.reply, 0, 0);
        return Ok(());
    };
    let options = ScanOptions::parse(&args[3..], Some("novalues"))?;
    let (mut found, next) = hash.scan(at, options.count);
    found.retain(|(field, _)| options.accepts(field));
    scan_head(rest.reply, next, if options.bare { found.len() } else { 2 * found.len() });
    for (field, value) in found {
        element(rest.reply, field);
        if !options.bare {
            element(rest.reply, value);
        }
    }
    Ok(())
}
