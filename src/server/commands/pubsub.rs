//! PUBLISH, SUBSCRIBE and their kin.

use super::containers::help;
use crate::base::{Args, glob};
use crate::command::Fault;
use crate::command::spec::{Group, KeySpec, Spec, flag, keyflag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::session::conn::Conn;
use crate::session::pubsub::Kind;

const SUBSCRIBING: u32 = flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE;
const PUBLISHING: u32 = flag::PUBSUB | flag::LOADING | flag::STALE | flag::FAST | flag::MAY_REPLICATE;
const ASKING: u32 = flag::PUBSUB | flag::LOADING | flag::STALE;

const ROW: Spec = Spec { group: Group::Pubsub, since: "2.0.0", flags: SUBSCRIBING, ..Spec::DEFAULT };

const fn row(spec: Spec, run: ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: false }
}

const CHANNELS: &[KeySpec] = &[KeySpec::range(keyflag::NOT_KEY, 1, -1, 1)];
const CHANNEL: &[KeySpec] = &[KeySpec::one(keyflag::NOT_KEY, 1)];

pub const ROWS: &[ConnCommand] = &[
    row(
        Spec {
            name: "publish",
            syntax: "channel message",
            arity: 3,
            flags: PUBLISHING,
            complexity: "O(N+M) for N subscribers of the channel and M patterns",
            summary: "Sends a message to the subscribers of a channel.",
            ..ROW
        },
        publish,
    ),
    row(
        Spec {
            name: "spublish",
            syntax: "shardchannel message",
            arity: 3,
            flags: PUBLISHING,
            keys: CHANNEL,
            since: "7.0.0",
            complexity: "O(N) for N subscribers",
            summary: "Sends a message to the subscribers of a shard channel.",
            ..ROW
        },
        spublish,
    ),
    row(
        Spec {
            name: "subscribe",
            syntax: "channel...",
            arity: -2,
            complexity: "O(N) for N channels",
            summary: "Listens to channels.",
            ..ROW
        },
        subscribe,
    ),
    row(
        Spec {
            name: "psubscribe",
            syntax: "pattern:pattern...",
            arity: -2,
            complexity: "O(N) for N patterns",
            summary: "Listens to the channels that match patterns.",
            ..ROW
        },
        psubscribe,
    ),
    row(
        Spec {
            name: "ssubscribe",
            syntax: "shardchannel...",
            arity: -2,
            keys: CHANNELS,
            since: "7.0.0",
            complexity: "O(N) for N channels",
            summary: "Listens to shard channels.",
            ..ROW
        },
        ssubscribe,
    ),
    row(
        Spec {
            name: "unsubscribe",
            syntax: "[channel...]",
            arity: -1,
            complexity: "O(N) for N channels",
            summary: "Stops listening to channels, or to all.",
            ..ROW
        },
        unsubscribe,
    ),
    row(
        Spec {
            name: "punsubscribe",
            syntax: "[pattern:pattern...]",
            arity: -1,
            complexity: "O(N) for N patterns",
            summary: "Stops listening to patterns, or to all.",
            ..ROW
        },
        punsubscribe,
    ),
    row(
        Spec {
            name: "sunsubscribe",
            syntax: "[shardchannel...]",
            arity: -1,
            keys: CHANNELS,
            since: "7.0.0",
            complexity: "O(N) for N channels",
            summary: "Stops listening to shard channels, or to all.",
            ..ROW
        },
        sunsubscribe,
    ),
    ConnCommand {
        spec: Spec {
            name: "pubsub",
            arity: -2,
            flags: 0,
            since: "2.8.0",
            complexity: "Depends on the subcommand",
            summary: "Tells who listens to what.",
            ..ROW
        },
        run: None,
        light: true,
    },
    row(
        Spec {
            name: "pubsub|channels",
            syntax: "[pattern:pattern]",
            arity: -2,
            flags: ASKING,
            since: "2.8.0",
            complexity: "O(N) for N channels",
            summary: "Lists the channels that have subscribers.",
            ..ROW
        },
        channels,
    ),
    row(
        Spec {
            name: "pubsub|numsub",
            syntax: "[channel...]",
            arity: -2,
            flags: ASKING,
            since: "2.8.0",
            complexity: "O(N) for N channels",
            summary: "Counts the subscribers of channels.",
            ..ROW
        },
        numsub,
    ),
    row(
        Spec {
            name: "pubsub|numpat",
            arity: 2,
            flags: ASKING,
            since: "2.8.0",
            summary: "Counts the patterns that are subscribed to.",
            ..ROW
        },
        numpat,
    ),
    row(
        Spec {
            name: "pubsub|shardchannels",
            syntax: "[pattern:pattern]",
            arity: -2,
            flags: ASKING,
            since: "7.0.0",
            complexity: "O(N) for N shard channels",
            summary: "Lists the shard channels that have subscribers.",
            ..ROW
        },
        shardchannels,
    ),
    row(
        Spec {
            name: "pubsub|shardnumsub",
            syntax: "[shardchannel...]",
            arity: -2,
            flags: ASKING,
            since: "7.0.0",
            complexity: "O(N) for N shard channels",
            summary: "Counts the subscribers of shard channels.",
            ..ROW
        },
        shardnumsub,
    ),
    ConnCommand {
        spec: Spec {
            name: "pubsub|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "6.2.0",
            summary: "Lists the subcommands of PUBSUB.",
            ..ROW
        },
        run: Some(pubsub_help),
        light: true,
    },
];

fn send(core: &mut Core, conn: &mut Conn, kind: Kind, args: Args) -> Result<Outcome, Fault> {
    core.journal_command(conn.db, args);
    let receivers = core.publish(kind, args[1], args[2]);
    conn.reply(|r| r.int(receivers as i64));
    Ok(Outcome::Done)
}

fn publish(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    send(core, conn, Kind::Channel, args)
}

fn spublish(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    send(core, conn, Kind::Shard, args)
}

fn subscribe(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    core.subscribe(conn, Kind::Channel, &args[1..])
}

fn psubscribe(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    core.subscribe(conn, Kind::Pattern, &args[1..])
}

/// Unlike the older ones it is refused in a transaction, as in Redis.
fn ssubscribe(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if core.in_exec {
        return Err(Fault::Text("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    core.subscribe(conn, Kind::Shard, &args[1..])
}

fn unsubscribe(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    core.unsubscribe(conn, Kind::Channel, &args[1..])
}

fn punsubscribe(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    core.unsubscribe(conn, Kind::Pattern, &args[1..])
}

fn sunsubscribe(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    core.unsubscribe(conn, Kind::Shard, &args[1..])
}

/// The core whose subscribers a connection hears of; at the common port, all. To
/// a cluster client every core is a node, and it adds up what they say.
fn told_of(core: &Core, conn: &Conn) -> Option<usize> {
    conn.endpoint.then_some(core.id)
}

fn list(core: &Core, conn: &mut Conn, kind: Kind, args: Args) -> Result<Outcome, Fault> {
    let pattern = match args {
        [_, _] => None,
        [_, _, pattern] => Some(*pattern),
        _ => return Err(misused(args)),
    };
    let names = core.audience.names(kind, told_of(core, conn));
    let shown: Vec<&[u8]> = names.filter(|n| pattern.is_none_or(|p| glob::matches(p, n, false))).collect();
    conn.reply(|r| {
        r.array(shown.len());
        shown.iter().for_each(|n| r.bulk(n));
    });
    Ok(Outcome::Done)
}

fn misused(args: Args) -> Fault {
    let word = String::from_utf8_lossy(args[1]);
    format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try PUBSUB HELP.").into()
}

fn channels(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    list(core, conn, Kind::Channel, args)
}

fn shardchannels(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    list(core, conn, Kind::Shard, args)
}

fn count(core: &Core, conn: &mut Conn, kind: Kind, names: Args) -> Result<Outcome, Fault> {
    let on = told_of(core, conn);
    conn.reply(|r| {
        r.array(names.len() * 2);
        for name in names {
            r.bulk(name);
            r.int(core.audience.subscriptions(kind, name, on) as i64);
        }
    });
    Ok(Outcome::Done)
}

fn numsub(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    count(core, conn, Kind::Channel, &args[2..])
}

fn shardnumsub(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    count(core, conn, Kind::Shard, &args[2..])
}

fn numpat(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let patterns = core.audience.names(Kind::Pattern, told_of(core, conn)).count() as i64;
    conn.reply(|r| r.int(patterns));
    Ok(Outcome::Done)
}

fn pubsub_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CHANNELS [<pattern>]",
            "    Channels with subscribers, patterns not counted.",
            "NUMPAT",
            "    Number of patterns that are subscribed to.",
            "NUMSUB [<channel> ...]",
            "    Number of subscribers of each channel, patterns not counted.",
            "SHARDCHANNELS [<pattern>]",
            "    Shard channels with subscribers.",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Number of subscribers of each shard channel.",
            "HELP",
            "    This text.",
        ],
    )
}
