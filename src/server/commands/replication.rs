//! ROLE, REPLICAOF and SLAVEOF of a server that is always a master.

use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const OF: Spec = Spec {
    arity: 3,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::STALE | flag::NO_ASYNC_LOADING,
    group: Group::Server,
    summary: "Makes the server a replica of another, or a master.",
    ..Spec::DEFAULT
};

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "role",
            arity: 1,
            flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST,
            acl: acl::ADMIN | acl::DANGEROUS,
            group: Group::Server,
            since: "2.8.12",
            summary: "Role of the server in replication.",
            ..Spec::DEFAULT
        },
        run: Some(role),
        light: true,
    },
    ConnCommand { spec: Spec { name: "replicaof", since: "5.0.0", ..OF }, run: Some(replicaof), light: false },
    ConnCommand { spec: Spec { name: "slaveof", ..OF }, run: Some(replicaof), light: false },
];

/// A master without replicas.
fn role(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    conn.reply(|r| {
        r.array(3);
        r.bulk(b"master");
        r.int(0);
        r.array(0);
    });
    Ok(Outcome::Done)
}

/// NO ONE asks for what is the case.
fn replicaof(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if args[1].eq_ignore_ascii_case(b"no") && args[2].eq_ignore_ascii_case(b"one") {
        conn.reply(|r| r.ok());
        return Ok(Outcome::Done);
    }
    Err(Fault::Text("ERR Replication is not supported yet"))
}
