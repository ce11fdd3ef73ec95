//! COMMAND: what the rows say, in the shapes of redis-server 7.0.

use super::command_docs::docs;
use crate::acl::check::only_gets;
use crate::base::Args;
use crate::base::glob;
use crate::command::Fault;
use crate::command::keys::{Place, first_last_step, places};
use crate::command::parse::is;
use crate::command::spec::{Begin, Find, Group, KeySpec, Spec, acl, flag, keyflag};
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Entry, Outcome, registry};
use crate::session::conn::Conn;

const ROW: Spec = Spec {
    flags: flag::LOADING | flag::STALE,
    acl: acl::CONNECTION,
    group: Group::Server,
    since: "2.8.13",
    ..Spec::DEFAULT
};

const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];

const fn row(spec: Spec, run: crate::server::registry::ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: true }
}

pub const ROWS: &[ConnCommand] = &[
    row(
        Spec {
            name: "command",
            arity: -1,
            complexity: "O(N) for N commands",
            summary: "Describes all commands.",
            tips: ANY_ORDER,
            ..ROW
        },
        all,
    ),
    row(Spec { name: "command|count", arity: 2, summary: "Counts the commands.", ..ROW }, count),
    row(
        Spec {
            name: "command|info",
            syntax: "[command-name...]",
            arity: -2,
            complexity: "O(N) for N commands asked for",
            summary: "Describes some or all commands.",
            tips: ANY_ORDER,
            ..ROW
        },
        info,
    ),
    row(
        Spec {
            name: "command|docs",
            syntax: "[command-name...]",
            arity: -2,
            since: "7.0.0",
            complexity: "O(N) for N commands asked for",
            summary: "Documents some or all commands.",
            tips: ANY_ORDER,
            ..ROW
        },
        docs,
    ),
    row(
        Spec {
            name: "command|list",
            syntax: "[FILTERBY filterby(MODULE module-name|ACLCAT category|PATTERN pattern:pattern)]",
            arity: -2,
            since: "7.0.0",
            complexity: "O(N) for N commands",
            summary: "Names all commands, or those that a filter lets through.",
            tips: ANY_ORDER,
            ..ROW
        },
        list,
    ),
    row(
        Spec {
            name: "command|getkeys",
            syntax: "command [arg...]",
            arity: -3,
            complexity: "O(N) for N arguments",
            summary: "Finds the keys among the arguments of a command.",
            ..ROW
        },
        get_keys,
    ),
    row(
        Spec {
            name: "command|getkeysandflags",
            syntax: "command [arg...]",
            arity: -3,
            since: "7.0.0",
            complexity: "O(N) for N arguments",
            summary: "Finds the keys among the arguments of a command, and what it does to them.",
            ..ROW
        },
        get_keys_and_flags,
    ),
    row(
        Spec { name: "command|help", arity: 2, since: "5.0.0", summary: "Lists the subcommands of COMMAND.", ..ROW },
        help,
    ),
];

/// Commands that clients may know of, in the order of their families.
fn known() -> impl Iterator<Item = &'static Entry> {
    registry().entries.iter().filter(|e| !e.hidden())
}

pub(super) fn top_level() -> impl Iterator<Item = &'static Entry> {
    known().filter(|e| !e.spec.name.contains('|'))
}

pub(super) fn subcommands(e: &Entry) -> Vec<&'static Entry> {
    e.subs.iter().map(|i| &registry().entries[*i]).filter(|s| !s.hidden()).collect()
}

/// The command that a client names: `get`, `config|set`.
pub(super) fn named(name: &[u8]) -> Option<&'static Entry> {
    registry().called(name).filter(|e| !e.hidden())
}

fn all(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    conn.reply(|r| {
        r.array(top_level().count());
        top_level().for_each(|e| describe(r, e));
    });
    Ok(Outcome::Done)
}

fn count(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    conn.reply(|r| r.int(top_level().count() as i64));
    Ok(Outcome::Done)
}

fn info(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if args.len() == 2 {
        return all(core, conn, args);
    }
    conn.reply(|r| {
        r.array(args.len() - 2);
        for name in &args[2..] {
            match named(name) {
                Some(e) => describe(r, e),
                None => r.null(),
            }
        }
    });
    Ok(Outcome::Done)
}

/// One command as COMMAND INFO has it: ten elements.
fn describe(r: &mut Reply, e: &Entry) {
    let s = e.spec;
    let subs = subcommands(e);
    r.array(10);
    r.bulk(s.name.as_bytes());
    r.int(i64::from(s.arity));
    let flags: Vec<&str> = flag::NAMES.iter().filter(|(bit, _)| s.is(*bit)).map(|(_, name)| *name).collect();
    statuses(r, &flags);
    let (first, last, step) = first_last_step(s);
    [first, last, step].into_iter().for_each(|n| r.int(n));
    let categories = s.categories();
    let names: Vec<String> = (acl::NAMES.iter().enumerate())
        .filter(|(i, _)| categories & (1 << i) != 0)
        .map(|(_, name)| format!("@{name}"))
        .collect();
    statuses(r, &names);
    r.set(s.tips.len());
    s.tips.iter().for_each(|t| r.bulk(t.as_bytes()));
    r.set(s.keys.len());
    s.keys.iter().for_each(|k| describe_keys(r, k));
    // The subcommands are an array under RESP3 too, when there are any.
    if subs.is_empty() {
        r.set(0)
    } else {
        r.array(subs.len())
    }
    subs.iter().for_each(|sub| describe(r, sub));
}

fn statuses(r: &mut Reply, names: &[impl AsRef<str>]) {
    r.set(names.len());
    names.iter().for_each(|n| r.simple(n.as_ref()));
}

fn key_flags(r: &mut Reply, flags: u32) {
    let names: Vec<&str> =
        keyflag::NAMES.iter().enumerate().filter(|(i, _)| flags & (1 << i) != 0).map(|(_, n)| *n).collect();
    statuses(r, &names);
}

fn describe_keys(r: &mut Reply, k: &KeySpec) {
    r.map(3);
    r.bulk(b"flags");
    key_flags(r, k.flags);
    r.bulk(b"begin_search");
    match k.begin {
        Begin::Index(i) => typed(r, "index", &[("index", i as i64)]),
        Begin::Keyword(word, from) => {
            typed_head(r, "keyword", 2);
            r.bulk(b"keyword");
            r.bulk(word.as_bytes());
            r.bulk(b"startfrom");
            r.int(i64::from(from));
        }
        Begin::Unknown => typed(r, "unknown", &[]),
    }
    r.bulk(b"find_keys");
    match k.find {
        Find::Range { last, step, limit } => {
            typed(r, "range", &[("lastkey", i64::from(last)), ("keystep", step as i64), ("limit", limit as i64)]);
        }
        Find::Count { count, first, step } => {
            typed(r, "keynum", &[("keynumidx", count as i64), ("firstkey", first as i64), ("keystep", step as i64)]);
        }
        Find::Unknown => typed(r, "unknown", &[]),
    }
}

fn typed_head(r: &mut Reply, kind: &str, fields: usize) {
    r.map(2);
    r.bulk(b"type");
    r.bulk(kind.as_bytes());
    r.bulk(b"spec");
    r.map(fields);
}

fn typed(r: &mut Reply, kind: &str, fields: &[(&str, i64)]) {
    typed_head(r, kind, fields.len());
    for (name, value) in fields {
        r.bulk(name.as_bytes());
        r.int(*value);
    }
}

fn list(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let found: Vec<&Entry> = match args {
        [_, _] => known().collect(),
        // There are no modules, so none has commands.
        [_, _, by, kind, _] if is(by, "filterby") && is(kind, "module") => Vec::new(),
        [_, _, by, kind, name] if is(by, "filterby") && is(kind, "aclcat") => {
            let bit = acl::NAMES.iter().position(|n| is(name, n)).map_or(0, |i| 1 << i);
            known().filter(|e| e.spec.categories() & bit != 0).collect()
        }
        [_, _, by, kind, pattern] if is(by, "filterby") && is(kind, "pattern") => {
            known().filter(|e| glob::matches(pattern, e.spec.name.as_bytes(), true)).collect()
        }
        _ => return Err(crate::command::fault::SYNTAX),
    };
    conn.reply(|r| {
        r.array(found.len());
        found.iter().for_each(|e| r.bulk(e.spec.name.as_bytes()));
    });
    Ok(Outcome::Done)
}

/// The keys of the command line that begins at argument 2.
fn keys_of<'a>(args: &'a [&'a [u8]]) -> Result<(&'static Entry, Vec<Place>), Fault> {
    let line = &args[2..];
    let entry = registry().resolve(line).map_err(|_| Fault::Text("ERR Invalid command specified"))?;
    // Channels of sharded pub/sub stand where keys do, and are none.
    if entry.spec.keys.iter().all(|k| k.flags & keyflag::NOT_KEY != 0) {
        return Err(Fault::Text("ERR The command has no key arguments"));
    }
    if !entry.spec.arity_fits(line.len()) {
        return Err(Fault::Text("ERR Invalid number of arguments specified for command"));
    }
    match places(entry.spec, line) {
        Some(found) if !found.is_empty() => Ok((entry, found.to_vec())),
        _ if entry.spec.is(flag::NO_MANDATORY_KEYS) => Ok((entry, Vec::new())),
        _ => Err(Fault::Text("ERR Invalid arguments specified for command")),
    }
}

fn get_keys(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let (_, found) = keys_of(args)?;
    conn.reply(|r| {
        r.array(found.len());
        found.iter().for_each(|p| r.bulk(args[2 + p.index]));
    });
    Ok(Outcome::Done)
}

fn get_keys_and_flags(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let (entry, found) = keys_of(args)?;
    conn.reply(|r| {
        r.array(found.len());
        for p in &found {
            r.array(2);
            r.bulk(args[2 + p.index]);
            key_flags(r, flags_here(entry, p, &args[2..]));
        }
    });
    Ok(Outcome::Done)
}

/// What a command whose options decide about it does to a key.
fn flags_here(entry: &Entry, p: &Place, line: Args) -> u32 {
    // That there may be more keys is said of a command, not of a key.
    let flags = p.flags & !keyflag::INCOMPLETE;
    if flags & keyflag::VARIABLE_FLAGS == 0 {
        return flags;
    }
    let has = |word: &str| line.iter().skip(3).any(|a| is(a, word));
    match entry.spec.name {
        "set" if has("get") => keyflag::RW | keyflag::ACCESS | keyflag::UPDATE,
        "set" => keyflag::OW | keyflag::UPDATE,
        "bitfield" if only_gets(line) => keyflag::RO | keyflag::ACCESS,
        "bitfield" => keyflag::RW | keyflag::ACCESS | keyflag::UPDATE,
        _ => flags & !keyflag::VARIABLE_FLAGS,
    }
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    super::containers::help(
        conn,
        &[
            "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "(no subcommand)",
            "    Describes all commands.",
            "COUNT",
            "    Number of commands.",
            "LIST [FILTERBY <MODULE name|ACLCAT category|PATTERN pattern>]",
            "    Names of all commands, or of those that the filter lets through.",
            "INFO [<command-name> ...]",
            "    Describes these commands, or all.",
            "DOCS [<command-name> ...]",
            "    Documents these commands, or all.",
            "GETKEYS <full-command>",
            "    The keys among the arguments of a command.",
            "GETKEYSANDFLAGS <full-command>",
            "    The same, with what the command does to each of them.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
