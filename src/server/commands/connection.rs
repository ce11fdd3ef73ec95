//! PING, ECHO, SELECT, QUIT.

use crate::base::Args;
use crate::command::Fault;
use crate::command::parse::db_index;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::resp::reply::Proto;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "ping",
            syntax: "[message]",
            arity: -1,
            flags: flag::FAST,
            acl: acl::CONNECTION,
            group: Group::Connection,
            summary: "Answers that the server is alive, or repeats a message.",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..Spec::DEFAULT
        },
        run: Some(ping),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "echo",
            syntax: "message",
            arity: 2,
            flags: flag::FAST | flag::LOADING | flag::STALE,
            acl: acl::CONNECTION,
            group: Group::Connection,
            summary: "Repeats a message.",
            ..Spec::DEFAULT
        },
        run: Some(echo),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "select",
            syntax: "index:int",
            arity: 2,
            flags: flag::FAST | flag::LOADING | flag::STALE,
            acl: acl::CONNECTION,
            group: Group::Connection,
            summary: "Chooses the database of the connection.",
            ..Spec::DEFAULT
        },
        run: Some(select),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "quit",
            arity: -1,
            flags: flag::FAST | flag::LOADING | flag::STALE | flag::NOSCRIPT | flag::NO_AUTH | flag::ALLOW_BUSY,
            acl: acl::CONNECTION,
            group: Group::Connection,
            summary: "Closes the connection.",
            ..Spec::DEFAULT
        },
        run: Some(quit),
        light: true,
    },
];

fn ping(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if conn.proto == Proto::Resp2 && conn.subscribed() && args.len() <= 2 {
        // In the shape of a message, so that clients can tell it apart.
        conn.reply(|r| {
            r.array(2);
            r.bulk(b"pong");
            r.bulk(args.get(1).copied().unwrap_or_default());
        });
        return Ok(Outcome::Done);
    }
    match args {
        [_] => conn.reply(|r| r.simple("PONG")),
        [_, message] => conn.reply(|r| r.bulk(message)),
        _ => return Err(Fault::arity("ping")),
    }
    Ok(Outcome::Done)
}

fn echo(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    conn.reply(|r| r.bulk(args[1]));
    Ok(Outcome::Done)
}

fn select(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    conn.db = db_index(args[1], core.store.databases())?;
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn quit(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    conn.reply(|r| r.ok());
    conn.close_after = true;
    Ok(Outcome::Done)
}
