//! REPLICAOF, ROLE, WAIT and FAILOVER, and what replicas say: REPLCONF, PSYNC, SYNC.

use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::parse::timeout_ms;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::command::{Fault, fault};
use crate::observe::log;
use crate::replication::event::FailoverOrder;
use crate::replication::peer::Replconf;
use crate::server::commands::client_list::describe;
use crate::server::core::Core;
use crate::server::depart::Wish;
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::server::replication::{Durable, parse_psync};
use crate::session::conn::{Conn, socket_name};

const OF: Spec = Spec {
    arity: 3,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::STALE | flag::NO_ASYNC_LOADING,
    group: Group::Server,
    summary: "Makes the server a replica of another, or a master.",
    ..Spec::DEFAULT
};

/// WAIT asks for what a replica does not pass on.
pub const WAIT_AT_REPLICA: &str = "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 \
    if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not \
    propagated.";

/// What only replicas send.
const LINK: Spec = Spec {
    flags: flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING | flag::NO_MULTI,
    group: Group::Server,
    since: "2.8.0",
    summary: "An internal command of replication.",
    ..Spec::DEFAULT
};

const fn row(spec: Spec, run: ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: false }
}

pub const ROWS: &[ConnCommand] = &[
    row(
        Spec {
            name: "role",
            arity: 1,
            flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST,
            acl: acl::ADMIN | acl::DANGEROUS,
            group: Group::Server,
            since: "2.8.12",
            summary: "Role of the server in replication.",
            ..Spec::DEFAULT
        },
        role,
    ),
    row(
        Spec { name: "replicaof", syntax: "args(host-port(host port:int)|no-one(NO ONE))", since: "5.0.0", ..OF },
        replicaof,
    ),
    row(Spec { name: "slaveof", syntax: "args(host-port(host port:int)|no-one(NO ONE))", ..OF }, replicaof),
    row(
        Spec {
            name: "wait",
            syntax: "numreplicas:int timeout:int",
            arity: 3,
            acl: acl::CONNECTION,
            group: Group::Generic,
            since: "3.0.0",
            summary: "Waits until replicas have what the connection wrote.",
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..Spec::DEFAULT
        },
        wait,
    ),
    row(
        Spec {
            name: "waitaof",
            syntax: "numlocal:int numreplicas:int timeout:int",
            arity: 4,
            flags: flag::NOSCRIPT,
            acl: acl::CONNECTION,
            group: Group::Generic,
            since: "7.2.0",
            summary: "Waits until what the connection wrote is on disk, here and on replicas.",
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..Spec::DEFAULT
        },
        wait_aof,
    ),
    row(
        Spec {
            name: "failover",
            syntax: "[TO target(host port:int [FORCE])] [ABORT] [TIMEOUT milliseconds:int]",
            arity: -1,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::STALE,
            group: Group::Server,
            since: "6.2.0",
            summary: "Hands the role of master to a replica.",
            ..Spec::DEFAULT
        },
        failover,
    ),
    ConnCommand {
        light: true,
        ..row(
            Spec {
                name: "replconf",
                arity: -1,
                since: "3.0.0",
                flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::ALLOW_BUSY,
                ..LINK
            },
            replconf,
        )
    },
    row(Spec { name: "psync", syntax: "replicationid offset:int", arity: -3, ..LINK }, psync),
    row(Spec { name: "sync", arity: 1, since: "1.0.0", ..LINK }, sync),
];

fn role(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let (asker, stamp) = (core.asker(conn), core.stamp);
    core.tell_service(move |s| s.tell_role(asker, stamp));
    Ok(Outcome::Later)
}

fn replicaof(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if args[1].eq_ignore_ascii_case(b"no") && args[2].eq_ignore_ascii_case(b"one") {
        let (asker, by) = (core.asker(conn), describe(core, conn));
        core.tell_service(move |s| s.replica_of_no_one(asker, &by));
        return Ok(Outcome::Later);
    }
    let port = parse_i64(args[2]).and_then(|n| u16::try_from(n).ok()).ok_or(Fault::Text("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(args[1]).into_owned();
    let (asker, by) = (core.asker(conn), describe(core, conn));
    core.tell_service(move |s| s.replica_of(asker, &by, host, port));
    Ok(Outcome::Later)
}

/// What WAIT replies where nobody may wait: how many replicas hear the stream.
pub fn replicas_now(core: &Core, args: Args) -> Result<i64, Fault> {
    parse_i64(args[1]).ok_or(fault::NOT_AN_INTEGER)?;
    timeout_ms(args[2], core.now)?;
    match core.role.replica {
        true => Err(Fault::Text(WAIT_AT_REPLICA)),
        false => Ok(core.role.good_replicas as i64),
    }
}

fn wait(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let replicas = parse_i64(args[1]).ok_or(fault::NOT_AN_INTEGER)?;
    let timeout_ms = timeout_ms(args[2], core.now)?;
    let replicas = usize::try_from(replicas).unwrap_or(0);
    let (asker, stamp, waits) = (core.asker(conn), conn.wrote, !core.in_exec);
    core.tell_service(move |s| s.wait_for_replicas(asker, stamp, replicas, timeout_ms, waits));
    Ok(Outcome::Later)
}

fn wait_aof(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let local = parse_i64(args[1]).ok_or(fault::NOT_AN_INTEGER)?;
    if !(0..=1).contains(&local) {
        return Err(Fault::Text("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = parse_i64(args[2]).and_then(|n| usize::try_from(n).ok()).ok_or(fault::NOT_POSITIVE)?;
    let timeout_ms = timeout_ms(args[3], core.now)?;
    let (asker, stamp, written) = (core.asker(conn), core.stamp, conn.wrote);
    let wanted = Durable { local: local == 1, replicas, timeout_ms, waits: !core.in_exec };
    core.tell_service(move |s| s.wait_for_disks(asker, stamp, written, wanted));
    Ok(Outcome::Later)
}

fn failover(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let order = parse_failover(&args[1..])?;
    let asker = core.asker(conn);
    match order {
        Some(order) => core.tell_service(move |s| s.fail_over(asker, order)),
        None => core.tell_service(move |s| s.abort_failover(asker)),
    }
    Ok(Outcome::Later)
}

/// FAILOVER's arguments; `None` for ABORT.
fn parse_failover(args: Args) -> Result<Option<FailoverOrder>, Fault> {
    let is = |i: usize, name: &str| args.get(i).is_some_and(|a| a.eq_ignore_ascii_case(name.as_bytes()));
    let mut order = FailoverOrder::default();
    let (mut i, mut abort) = (0, false);
    while i < args.len() {
        if is(i, "timeout") && order.timeout_ms.is_none() && i + 1 < args.len() {
            let ms = parse_i64(args[i + 1]).ok_or(fault::NOT_AN_INTEGER)?;
            if ms <= 0 {
                return Err(Fault::Text("ERR FAILOVER timeout must be greater than 0"));
            }
            order.timeout_ms = Some(ms as u64);
            i += 2;
        } else if is(i, "abort") && args.len() == 1 {
            abort = true;
            i += 1;
        } else if is(i, "to") && order.target.is_none() && i + 2 < args.len() {
            let port = parse_i64(args[i + 2]).ok_or(fault::NOT_AN_INTEGER)?;
            let port = u16::try_from(port).map_err(|_| fault::NOT_AN_INTEGER)?;
            order.target = Some((String::from_utf8_lossy(args[i + 1]).into_owned(), port));
            i += 3;
        } else if is(i, "force") && !order.force {
            order.force = true;
            i += 1;
        } else {
            return Err(fault::SYNTAX);
        }
    }
    Ok((!abort).then_some(order))
}

fn replconf(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    match core.peers.entry(conn.id).or_default().replconf(args) {
        Replconf::Ok => conn.reply(|r| r.ok()),
        // From who is no replica: nothing, as in Redis.
        Replconf::Ack { .. } | Replconf::GetAck => {}
        Replconf::Error(text) => return Err(Fault::Composed(text.into_bytes())),
    }
    Ok(Outcome::Done)
}

fn psync(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let wish = parse_psync(args).map_err(|text| {
        let who = socket_name(conn.fd, true);
        log::warning(format_args!("Replica {who} asks for synchronization but with a wrong offset"));
        Fault::Text(text)
    })?;
    core.depart(conn, wish);
    Ok(Outcome::Later)
}

fn sync(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.depart(conn, Wish::Sync);
    Ok(Outcome::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<FailoverOrder>, Vec<u8>> {
        let args: Vec<&[u8]> = line.split_ascii_whitespace().map(str::as_bytes).collect();
        parse_failover(&args).map_err(|f| f.text().to_vec())
    }

    #[test]
    fn orders_of_failover() {
        assert_eq!(parse(""), Ok(Some(FailoverOrder::default())));
        assert_eq!(parse("abort"), Ok(None));
        let order = FailoverOrder { target: Some(("h".into(), 7)), force: true, timeout_ms: Some(5) };
        assert_eq!(parse("TO h 7 FORCE TIMEOUT 5"), Ok(Some(order)));
        assert!(parse("force").unwrap().unwrap().force && parse("force force").is_err());
        assert!(parse("abort timeout 5").is_err() && parse("to h").is_err());
        assert!(parse("timeout 0").unwrap_err().ends_with(b"greater than 0"));
    }
}
