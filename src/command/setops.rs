//! Intersections, unions and differences of sets.

use super::collect::{at_least, element, keyspec, look_up_all, store_result};
use super::effect::Class;
use super::fault::SYNTAX;
use super::spec::{Across, Command, Group, Spec, flag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::slot::Key;
use crate::store::Store;
use crate::store::entry::Entry;
use crate::store::listpack::Item;
use crate::store::object::{Collection, Object};
use crate::store::set::Set;

const ROW: Spec = Spec {
    group: Group::Set,
    flags: flag::READONLY,
    keys: keyspec::READ_ALL,
    tips: &["nondeterministic_output_order"],
    ..Spec::DEFAULT
};
const STORES: Spec = Spec { flags: flag::WRITE | flag::DENYOOM, keys: keyspec::STORED, tips: &[], ..ROW };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "sinter",
            syntax: "key#0...",
            arity: -2,
            complexity: "O(n*k) for k sets, the smallest of n members",
            summary: "Lists the members that all sets have.",
            ..ROW
        },
        run: |cx, args| list(cx, &args[1..], Operation::Inter),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sunion",
            syntax: "key#0...",
            arity: -2,
            complexity: "O(n) for n members in all sets",
            summary: "Lists the members that any of the sets has.",
            ..ROW
        },
        run: |cx, args| list(cx, &args[1..], Operation::Union),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sdiff",
            syntax: "key#0...",
            arity: -2,
            complexity: "O(n) for n members in all sets",
            summary: "Lists the members that only the first of the sets has.",
            ..ROW
        },
        run: |cx, args| list(cx, &args[1..], Operation::Diff),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sinterstore",
            syntax: "destination#0 key#1...",
            arity: -3,
            keys: keyspec::STORED_RW,
            complexity: "O(n*k) for k sets, the smallest of n members",
            summary: "Stores the members that all sets have as another set.",
            ..STORES
        },
        run: |cx, args| store(cx, args, Operation::Inter, "sinterstore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sunionstore",
            syntax: "destination#0 key#1...",
            arity: -3,
            complexity: "O(n) for n members in all sets",
            summary: "Stores the members that any of the sets has as another set.",
            ..STORES
        },
        run: |cx, args| store(cx, args, Operation::Union, "sunionstore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sdiffstore",
            syntax: "destination#0 key#1...",
            arity: -3,
            complexity: "O(n) for n members in all sets",
            summary: "Stores the members that only the first of the sets has as another set.",
            ..STORES
        },
        run: |cx, args| store(cx, args, Operation::Diff, "sdiffstore"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "sintercard",
            syntax: "numkeys:int key#0... [LIMIT limit:int]",
            arity: -3,
            flags: flag::READONLY | flag::MOVABLE_KEYS,
            keys: keyspec::READ_COUNTED,
            since: "7.0.0",
            complexity: "O(n*k) for k sets, the smallest of n members",
            summary: "Counts the members that all sets have.",
            tips: &[],
            ..ROW
        },
        run: sintercard,
        across: Across::Gather,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Inter,
    Union,
    Diff,
}

/// The sets of keys that [`look_up_all`] has been through.
fn sets<'s>(store: &'s Store, db: usize, keys: Args) -> Vec<Option<&'s Set>> {
    let set = |k: &&[u8]| store.get(db, &Key::new(k)).and_then(Entry::as_object).and_then(Set::of);
    keys.iter().map(set).collect()
}

/// Calls `f` with the members of all sets until it answers false.
fn each_common<'s>(sets: &[Option<&'s Set>], mut f: impl FnMut(Item<'s>) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return };
    sets.sort_by_key(|s| s.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    for item in smallest.iter() {
        let common = item.with(|m| others.iter().all(|s| s.contains(m)));
        if common && !f(item) {
            return;
        }
    }
}

/// Calls `f` once with each member of the result.
fn each<'s>(sets: &[Option<&'s Set>], operation: Operation, mut f: impl FnMut(Item<'s>)) {
    match operation {
        Operation::Inter => each_common(sets, |item| {
            f(item);
            true
        }),
        Operation::Union => {
            let mut seen = std::collections::HashSet::new();
            let all = sets.iter().flatten().flat_map(|s| s.iter()).map(Item::canonical);
            all.filter(|item| seen.insert(*item)).for_each(f);
        }
        Operation::Diff => {
            let Some((Some(first), others)) = sets.split_first() else { return };
            let elsewhere = |item: &Item| item.with(|m| others.iter().flatten().any(|s| s.contains(m)));
            first.iter().filter(|item| !elsewhere(item)).for_each(f);
        }
    }
}

fn list(cx: &mut Cx, keys: Args, operation: Operation) -> Done {
    look_up_all::<Set>(cx, keys)?;
    let sets = sets(cx.store, cx.db, keys);
    let mut found = Vec::new();
    each(&sets, operation, |item| found.push(item));
    cx.reply.set(found.len());
    found.into_iter().for_each(|item| element(&mut cx.reply, item));
    Ok(())
}

fn store(cx: &mut Cx, args: Args, operation: Operation, event: &'static str) -> Done {
    let keys = &args[2..];
    look_up_all::<Set>(cx, keys)?;
    let limits = super::set::limits(cx.options);
    let mut result = Set::default();
    each(&sets(cx.store, cx.db, keys), operation, |item| {
        item.with(|m| result.add(m, limits));
    });
    store_result(cx, args[1], Object::Set(result), Class::Set, event);
    Ok(())
}

fn sintercard(cx: &mut Cx, args: Args) -> Done {
    let n = at_least(args[1], 1, Fault::Text("ERR numkeys should be greater than 0"))?;
    const TOO_MANY: Fault = Fault::Text("ERR Number of keys can't be greater than number of args");
    let (keys, options) = args[2..].split_at_checked(n).ok_or(TOO_MANY)?;
    let limit = limit(options)?;
    look_up_all::<Set>(cx, keys)?;
    let mut found = 0;
    each_common(&sets(cx.store, cx.db, keys), |_| {
        found += 1;
        limit == 0 || found < limit
    });
    cx.reply.int(found as i64);
    Ok(())
}

/// LIMIT of SINTERCARD and ZINTERCARD, 0 if there is none.
pub(super) fn limit(options: Args) -> Result<usize, Fault> {
    options.chunks(2).try_fold(0, |_, pair| match *pair {
        [w, n] if w.eq_ignore_ascii_case(b"limit") => at_least(n, 0, Fault::Text("ERR LIMIT can't be negative")),
        _ => Err(SYNTAX),
    })
}
