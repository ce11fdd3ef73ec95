//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, KeySpec, Spec, acl, flag, keyflag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::{Conn, Multi};

const EVERYWHERE: u32 = flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::ALLOW_BUSY;

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "multi",
            arity: 1,
            flags: EVERYWHERE | flag::FAST,
            acl: acl::TRANSACTION,
            group: Group::Transactions,
            since: "1.2.0",
            summary: "Begins a transaction: commands are queued until EXEC.",
            ..Spec::DEFAULT
        },
        run: Some(multi),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "exec",
            arity: 1,
            flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::SKIP_SLOWLOG,
            acl: acl::TRANSACTION,
            group: Group::Transactions,
            since: "1.2.0",
            complexity: "Depends on the queued commands",
            summary: "Runs the queued commands as one, unless a watched key has changed.",
            ..Spec::DEFAULT
        },
        run: Some(exec),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "discard",
            arity: 1,
            flags: EVERYWHERE | flag::FAST,
            acl: acl::TRANSACTION,
            group: Group::Transactions,
            since: "2.0.0",
            complexity: "O(N) in the number of queued commands",
            summary: "Drops the transaction and its watches.",
            ..Spec::DEFAULT
        },
        run: Some(discard),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "watch",
            syntax: "key#0...",
            arity: -2,
            flags: EVERYWHERE | flag::FAST,
            keys: &[KeySpec::range(keyflag::RO, 1, -1, 1)],
            acl: acl::TRANSACTION,
            group: Group::Transactions,
            since: "2.2.0",
            complexity: "O(1) per key",
            summary: "Makes the next EXEC depend on keys staying as they are.",
            ..Spec::DEFAULT
        },
        run: Some(watch),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "unwatch",
            arity: 1,
            flags: EVERYWHERE | flag::FAST,
            acl: acl::TRANSACTION,
            group: Group::Transactions,
            since: "2.2.0",
            summary: "Forgets all watched keys.",
            ..Spec::DEFAULT
        },
        run: Some(unwatch),
        light: false,
    },
];

fn multi(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    if conn.in_multi() {
        return Err(Fault::Text("ERR MULTI calls can not be nested"));
    }
    conn.extra().multi = Some(Multi::default());
    conn.update_special();
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn exec(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    core.spell_exec(conn, args[0]);
    core.exec(conn)
}

fn discard(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    if !conn.in_multi() {
        return Err(Fault::Text("ERR DISCARD without MULTI"));
    }
    core.discard_multi(conn);
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn watch(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if conn.in_multi() {
        return Err(Fault::Text("ERR WATCH inside MULTI is not allowed"));
    }
    core.watch(conn, &args[1..]);
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn unwatch(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.forget_watches(conn);
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}
