//! SAVE, BGSAVE, BGREWRITEAOF and LASTSAVE of a server that keeps its data in
//! memory only.

use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const ADMIN: Spec =
    Spec { flags: flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING, group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "save",
            arity: 1,
            flags: ADMIN.flags | flag::NO_MULTI,
            complexity: "O(N) where N is the number of keys",
            summary: "Writes a snapshot while everything else waits.",
            ..ADMIN
        },
        run: Some(no_snapshot),
        light: false,
    },
    ConnCommand {
        spec: Spec { name: "bgsave", arity: -1, summary: "Writes a snapshot in the background.", ..ADMIN },
        run: Some(no_snapshot),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "bgrewriteaof",
            arity: 1,
            summary: "Rewrites the append-only file in the background.",
            ..ADMIN
        },
        run: Some(no_append_only_file),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "lastsave",
            arity: 1,
            flags: flag::LOADING | flag::STALE | flag::FAST,
            acl: acl::ADMIN | acl::DANGEROUS,
            group: Group::Server,
            summary: "Time of the last snapshot.",
            tips: &["nondeterministic_output"],
            ..Spec::DEFAULT
        },
        run: Some(lastsave),
        light: true,
    },
];

fn no_snapshot(_: &mut Core, _: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    Err(Fault::Text("ERR Snapshots are not supported yet"))
}

fn no_append_only_file(_: &mut Core, _: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    Err(Fault::Text("ERR The append-only file is not supported yet"))
}

/// The time of the start, as long as there was no snapshot.
fn lastsave(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let started_s = (core.shared.started_ms / 1000) as i64;
    conn.reply(|r| r.int(started_s));
    Ok(Outcome::Done)
}
