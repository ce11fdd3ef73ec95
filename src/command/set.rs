//! Commands over one set, and SMOVE. Those over several are in `setops`.

use super::collect::{
    ScanOptions, at_least, check_type, cursor, element, keyspec, random_count, sample, scan_head, too_long,
};
use super::cx::{Options, Rest};
use super::effect::Class;
use super::fault::{NOT_POSITIVE, SYNTAX};
use super::spec::{Across, Command, Group, Spec, flag};
use super::{Cx, Done};
use crate::base::Args;
use crate::base::rng::Rng;
use crate::base::slot::Key;
use crate::store::listpack::Item;
use crate::store::set::{Limits, Set};

const ROW: Spec = Spec { group: Group::Set, keys: keyspec::READ, ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "sadd",
            syntax: "key#0 member...",
            element: 2,
            arity: -3,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: keyspec::INSERTED,
            complexity: "O(n) for n members given",
            summary: "Adds members to a set, made if missing.",
            ..ROW
        },
        run: sadd,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "srem",
            syntax: "key#0 member...",
            element: 2,
            arity: -3,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::DELETED,
            complexity: "O(n) for n members given",
            summary: "Removes members from a set.",
            ..ROW
        },
        run: srem,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "scard",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            summary: "Counts the members of a set.",
            ..ROW
        },
        run: scard,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sismember",
            syntax: "key#0 member",
            element: 2,
            arity: 3,
            flags: flag::READONLY | flag::FAST,
            keys: keyspec::META,
            summary: "Tells whether something is a member of a set.",
            ..ROW
        },
        run: sismember,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "smismember",
            syntax: "key#0 member...",
            element: 2,
            arity: -3,
            flags: flag::READONLY | flag::FAST,
            since: "6.2.0",
            complexity: "O(n) for n members asked for",
            summary: "Tells of several things whether they are members of a set.",
            ..ROW
        },
        run: smismember,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "smembers",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY,
            complexity: "O(n) in the size of the set",
            summary: "Lists the members of a set.",
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
        run: smembers,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "spop",
            syntax: "key#0 [count:int@3.2.0]",
            arity: -2,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::POPPED,
            complexity: "O(n) for n members taken",
            summary: "Takes random members out of a set.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: spop,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "srandmember",
            syntax: "key#0 [count:int@2.6.0]",
            arity: -2,
            flags: flag::READONLY,
            complexity: "O(n) for n members asked for",
            summary: "Returns random members of a set.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: srandmember,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "smove",
            syntax: "source#0 destination#1 member",
            arity: 4,
            flags: flag::WRITE | flag::FAST,
            keys: keyspec::MOVED,
            summary: "Moves a member from one set to another.",
            ..ROW
        },
        run: smove,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sscan",
            syntax: "key#0 cursor:int [MATCH pattern:pattern] [COUNT count:int]",
            arity: -3,
            flags: flag::READONLY,
            since: "2.8.0",
            complexity: "O(1) per call, O(n) for a whole scan",
            summary: "Lists the members of a set step by step.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: sscan,
        across: Across::Gather,
    },
];

pub(super) fn limits(o: &Options) -> Limits {
    Limits {
        intset_entries: o.set_max_intset_entries,
        listpack_entries: o.set_max_listpack_entries,
        listpack_value: o.set_max_listpack_value,
    }
}

fn sadd(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (set, rest) = cx.collection_or_new_apart::<Set>(&key)?;
    let (members, limits) = (&args[2..], limits(rest.options));
    if set.is_empty() {
        set.begin(members[0], members.len(), limits);
    } else {
        set.expect(members.len(), limits);
    }
    let n = members.iter().filter(|m| set.add(m, limits)).count();
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::Set, "sadd", rest.db, key.bytes);
    }
    rest.reply.int(n as i64);
    Ok(())
}

fn srem(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (set, rest) = cx.collection_apart::<Set>(&key)?;
    let Some(set) = set else {
        rest.reply.int(0);
        return Ok(());
    };
    let n = args[2..].iter().filter(|m| set.remove(m)).count();
    rest.reply.int(n as i64);
    if n > 0 {
        rest.fx.verbatim(n as u64);
        rest.fx.event(Class::Set, "srem", rest.db, key.bytes);
        if set.is_empty() {
            cx.delete_if_empty(&key);
        }
    }
    Ok(())
}

fn scard(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let n = cx.read_collection::<Set>(&key)?.map_or(0, |s| s.len());
    cx.reply.int(n as i64);
    Ok(())
}

fn sismember(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let hit = cx.read_collection::<Set>(&key)?.is_some_and(|s| s.contains(args[2]));
    cx.reply.int(i64::from(hit));
    Ok(())
}

fn smismember(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (set, rest) = cx.read_collection_apart::<Set>(&key)?;
    rest.reply.array(args.len() - 2);
    for m in &args[2..] {
        rest.reply.int(i64::from(set.as_ref().is_some_and(|s| s.contains(m))));
    }
    Ok(())
}

fn smembers(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (set, rest) = cx.read_collection_apart::<Set>(&key)?;
    rest.reply.set(set.as_ref().map_or(0, |s| s.len()));
    if let Some(set) = set {
        set.iter().for_each(|item| element(rest.reply, item));
    }
    Ok(())
}

fn spop(cx: &mut Cx, args: Args) -> Done {
    match *args {
        [_, key] => pop_one(cx, cx.key(key)),
        [_, key, count] => pop_many(cx, cx.key(key), at_least(count, 0, NOT_POSITIVE)?),
        _ => Err(SYNTAX),
    }
}

fn pop_one(cx: &mut Cx, key: Key) -> Done {
    let (set, rest) = cx.collection_apart::<Set>(&key)?;
    let Some((set, member)) = set.and_then(|s| s.pop(rest.rng).map(|m| (s, m))) else {
        rest.reply.null();
        return Ok(());
    };
    rest.reply.bulk(&member);
    rest.fx.rewrite(1, &[b"SREM", key.bytes, &member]);
    rest.fx.event(Class::Set, "spop", rest.db, key.bytes);
    if set.is_empty() {
        cx.delete_if_empty(&key);
    }
    Ok(())
}

fn pop_many(cx: &mut Cx, key: Key, count: usize) -> Done {
    let (set, rest) = cx.collection_apart::<Set>(&key)?;
    let Some(set) = set.filter(|_| count > 0) else {
        rest.reply.set(0);
        return Ok(());
    };
    rest.fx.event(Class::Set, "spop", rest.db, key.bytes);
    if count >= set.len() {
        rest.reply.set(set.len());
        set.iter().for_each(|item| element(rest.reply, item));
        rest.fx.rewrite(set.len() as u64, &[b"DEL", key.bytes]);
        // Redis looks up once more what it returns as a whole, and counts that.
        cx.store.stats.hits += 1;
        cx.delete(&key);
        cx.event(Class::Generic, "del", key.bytes);
        return Ok(());
    }
    rest.reply.set(count);
    for _ in 0..count {
        let Some(member) = set.pop(rest.rng) else { break };
        rest.reply.bulk(&member);
        rest.fx.rewrite(1, &[b"SREM", key.bytes, &member]);
    }
    Ok(())
}

fn srandmember(cx: &mut Cx, args: Args) -> Done {
    let count = match *args {
        [_, _] => None,
        [_, _, n] => Some(random_count(n, false, cx)?),
        _ => return Err(SYNTAX),
    };
    let key = cx.key(args[1]);
    let (set, rest) = cx.read_collection_apart::<Set>(&key)?;
    match (set, count) {
        (None, None) => rest.reply.null(),
        (None, Some(_)) => rest.reply.array(0),
        (Some(set), None) => {
            if let Some(item) = set.random(rest.rng) {
                element(rest.reply, item);
            }
        }
        (Some(set), Some(n)) => random_members(set, n, rest),
    }
    Ok(())
}

fn random_members(set: &Set, n: i64, rest: Rest) {
    if n < 0 {
        rest.reply.array(n.unsigned_abs() as usize);
        for _ in 0..n.unsigned_abs() {
            if let Some(item) = set.random(rest.rng) {
                element(rest.reply, item);
            }
            if too_long(rest.reply, rest.options) {
                break;
            }
        }
        return;
    }
    let n = (n as usize).min(set.len());
    rest.reply.array(n);
    if n == set.len() {
        set.iter().for_each(|item| element(rest.reply, item));
    } else {
        distinct(set, n, rest.rng).into_iter().for_each(|item| element(rest.reply, item));
    }
}

/// `n` different members: drawn until there are enough when they are few
/// among many, otherwise a sample of all.
fn distinct<'s>(set: &'s Set, n: usize, rng: &mut Rng) -> Vec<Item<'s>> {
    if n * 3 > set.len() {
        let all: Vec<Item> = set.iter().collect();
        return sample(all.len(), n, rng).into_iter().map(|i| all[i]).collect();
    }
    let mut seen = std::collections::HashSet::new();
    let mut drawn = Vec::with_capacity(n);
    while drawn.len() < n {
        let Some(item) = set.random(rng) else { break };
        if seen.insert(item) {
            drawn.push(item);
        }
    }
    drawn
}

fn smove(cx: &mut Cx, args: Args) -> Done {
    let (source, target, member) = (cx.key(args[1]), cx.key(args[2]), args[3]);
    let Some(set) = cx.collection::<Set>(&source)? else {
        cx.reply.int(0);
        return Ok(());
    };
    let held = set.contains(member);
    check_type::<Set>(cx, target.bytes)?;
    if !held || source.bytes == target.bytes {
        cx.reply.int(i64::from(held));
        return Ok(());
    }
    let limits = limits(cx.options);
    cx.event(Class::Set, "srem", source.bytes);
    if let Some(set) = cx.collection::<Set>(&source)? {
        set.remove(member);
        if set.is_empty() {
            cx.delete_if_empty(&source);
        }
    }
    let set = cx.collection_or_new::<Set>(&target)?;
    if set.is_empty() {
        set.begin(member, 1, limits);
    }
    let added = set.add(member, limits);
    cx.fx.verbatim(1 + u64::from(added));
    if added {
        cx.event(Class::Set, "sadd", target.bytes);
    }
    cx.reply.int(1);
    Ok(())
}

fn sscan(cx: &mut Cx, args: Args) -> Done {
    let at = cursor(args[2])?;
    let key = cx.key(args[1]);
    let (set, rest) = cx.read_collection_apart::<Set>(&key)?;
    let Some(set) = set else {
        scan_head(rest.reply, 0, 0);
        return Ok(());
    };
    let options = ScanOptions::parse(&args[3..], None)?;
    let (mut found, next) = set.scan(at, options.count);
    found.retain(|item| options.accepts(item));
    scan_head(rest.reply, next, found.len());
    found.into_iter().for_each(|item| element(rest.reply, item));
    Ok(())
}
