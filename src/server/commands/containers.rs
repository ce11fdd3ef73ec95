//! Containers whose subcommands are commands over keys, and their HELP.

use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::session::conn::Conn;

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "object",
            arity: -2,
            group: Group::Generic,
            since: "2.2.3",
            complexity: "Depends on the subcommand",
            summary: "Tells about the representation of a key.",
            ..Spec::DEFAULT
        },
        run: None,
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "object|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            acl: acl::KEYSPACE,
            group: Group::Generic,
            since: "6.2.0",
            summary: "Lists the subcommands of OBJECT.",
            ..Spec::DEFAULT
        },
        run: Some(object_help),
        light: true,
    },
    stream("xgroup", -2, "Manages the consumer groups of a stream.", None),
    stream("xgroup|help", 2, "Lists the subcommands of XGROUP.", Some(xgroup_help)),
    stream("xinfo", -2, "Describes streams, their groups and consumers.", None),
    stream("xinfo|help", 2, "Lists the subcommands of XINFO.", Some(xinfo_help)),
];

const fn stream(name: &'static str, arity: i32, summary: &'static str, run: Option<ConnRun>) -> ConnCommand {
    ConnCommand {
        spec: Spec {
            name,
            arity,
            flags: if run.is_some() { flag::LOADING | flag::STALE } else { 0 },
            group: Group::Stream,
            since: "5.0.0",
            complexity: if run.is_some() { "O(1)" } else { "Depends on the subcommand" },
            summary,
            ..Spec::DEFAULT
        },
        run,
        light: true,
    }
}

/// Writes a HELP reply: a status line each.
pub fn help(conn: &mut Conn, lines: &[&str]) -> Result<Outcome, Fault> {
    conn.reply(|r| {
        r.array(lines.len());
        lines.iter().for_each(|l| r.simple(l));
    });
    Ok(Outcome::Done)
}

fn object_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "ENCODING <key>",
            "    Name of the representation of the key's value.",
            "FREQ <key>",
            "    Access frequency counter; needs an LFU maxmemory-policy.",
            "IDLETIME <key>",
            "    Seconds since the last access; needs a policy other than LFU.",
            "REFCOUNT <key>",
            "    Number of references to the value: always 1.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

fn xgroup_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <n>]",
            "    Makes a group that has read up to the identifier; MKSTREAM makes the stream too.",
            "CREATECONSUMER <key> <group> <consumer>",
            "    Adds a consumer.",
            "DELCONSUMER <key> <group> <consumer>",
            "    Removes a consumer; tells how many entries were pending for it.",
            "DESTROY <key> <group>",
            "    Removes a group.",
            "SETID <key> <group> <id|$> [ENTRIESREAD <n>]",
            "    Sets up to where the group has read.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

fn xinfo_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CONSUMERS <key> <group>",
            "    The consumers of a group.",
            "GROUPS <key>",
            "    The groups of a stream.",
            "STREAM <key> [FULL [COUNT <count>]]",
            "    The stream itself; FULL tells its entries, groups and consumers too.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
