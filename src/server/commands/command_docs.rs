//! COMMAND DOCS, in the shapes of Redis 7.2. What redis-cli and valkey-cli show
//! as hints and as HELP is made from this.

use super::command::{named, subcommands, top_level};
use super::command_history::{changes, doc_flags, replaced};
use crate::base::Args;
use crate::command::Fault;
use crate::command::syntax::{Argument, parse};
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::{Entry, Outcome};
use crate::session::conn::Conn;

pub(super) fn docs(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let found: Vec<&Entry> =
        if args.len() == 2 { top_level().collect() } else { args[2..].iter().filter_map(|n| named(n)).collect() };
    conn.reply(|r| {
        r.map(found.len());
        found.iter().for_each(|e| document(r, e));
    });
    Ok(Outcome::Done)
}

fn text(r: &mut Reply, name: &str, value: &str) {
    r.bulk(name.as_bytes());
    r.bulk(value.as_bytes());
}

fn document(r: &mut Reply, e: &Entry) {
    let s = e.spec;
    let subs = subcommands(e);
    // That every row is right is a unit test's business.
    let arguments = parse(s.syntax).unwrap_or_default();
    let history: Vec<_> = changes(s.name).collect();
    let (flag, better) = (doc_flags(s.name), replaced(s.name));
    let fields = [flag.is_some(), better.is_some(), better.is_some(), !history.is_empty(), !arguments.is_empty()];
    r.bulk(s.name.as_bytes());
    r.map(4 + fields.iter().filter(|has| **has).count() + usize::from(!subs.is_empty()));
    text(r, "summary", s.summary);
    text(r, "since", s.since);
    text(r, "group", s.group.name());
    text(r, "complexity", s.complexity);
    if let Some(flag) = flag {
        r.bulk(b"doc_flags");
        flags(r, &[flag]);
    }
    if let Some((version, by)) = better {
        text(r, "deprecated_since", version);
        text(r, "replaced_by", by);
    }
    if !history.is_empty() {
        r.bulk(b"history");
        r.set(history.len());
        history.iter().for_each(|(version, what)| {
            r.array(2);
            r.bulk(version.as_bytes());
            r.bulk(what.as_bytes());
        });
    }
    list(r, &arguments);
    if !subs.is_empty() {
        r.bulk(b"subcommands");
        r.map(subs.len());
        subs.iter().for_each(|sub| document(r, sub));
    }
}

fn flags(r: &mut Reply, names: &[&str]) {
    r.set(names.len());
    names.iter().for_each(|n| r.simple(n));
}

/// The field `arguments`, if there are any.
fn list(r: &mut Reply, arguments: &[Argument]) {
    if arguments.is_empty() {
        return;
    }
    r.bulk(b"arguments");
    r.array(arguments.len());
    arguments.iter().for_each(|a| argument(r, a));
}

fn argument(r: &mut Reply, a: &Argument) {
    let names: Vec<&str> = [(a.optional, "optional"), (a.multiple, "multiple"), (a.multiple_token, "multiple_token")]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
    // A group is shown by what is in it.
    let shown = if a.arguments.is_empty() { Some(a.display.unwrap_or(&a.name)) } else { None };
    let texts = [
        ("name", Some(a.name.as_str())),
        ("type", Some(a.kind.name())),
        ("display_text", shown),
        ("token", a.token),
        ("since", a.since),
        ("deprecated_since", a.deprecated_since),
    ];
    let fields = texts.iter().filter(|(_, value)| value.is_some()).count();
    r.map(fields + [a.key_spec.is_some(), !names.is_empty(), !a.arguments.is_empty()].iter().filter(|h| **h).count());
    for (name, value) in texts {
        if let Some(value) = value {
            text(r, name, value);
        }
        if let ("display_text", Some(n)) = (name, a.key_spec) {
            r.bulk(b"key_spec_index");
            r.int(n as i64);
        }
    }
    if !names.is_empty() {
        r.bulk(b"flags");
        flags(r, &names);
    }
    list(r, &a.arguments);
}

#[cfg(test)]
#[path = "command_docs_tests.rs"]
mod tests;
