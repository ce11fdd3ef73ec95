//! Containers whose subcommands are commands over keys, and their HELP.

use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
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
];

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
