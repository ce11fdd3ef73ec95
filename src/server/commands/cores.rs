//! CORE: the data cores and the slots that they own.

use std::sync::atomic::Ordering;

use super::cluster::slot_arg;
use crate::base::Args;
use crate::command::Fault;
use crate::command::parse::{int, is};
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::endpoints::ranges;
use crate::server::rebalance;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const ROW: Spec = Spec {
    arity: 2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    acl: acl::DANGEROUS,
    group: Group::Server,
    ..Spec::DEFAULT
};

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "core",
            arity: -2,
            flags: 0,
            acl: 0,
            complexity: "Depends on the subcommand",
            summary: "Tells about the data cores, and moves slots between them.",
            ..ROW
        },
        run: None,
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "core|list",
            complexity: "O(N) for N cores",
            summary: "Describes every core: its CPU, slots, keys, connections and work.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: Some(list),
        light: false,
    },
    ConnCommand {
        spec: Spec { name: "core|slots", summary: "Lists ranges of slots with the core that owns them.", ..ROW },
        run: Some(slots),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "core|move",
            arity: -4,
            syntax: "core:int slots(slot:int...|RANGE range(first:int last:int))",
            complexity: "O(N) for N slots",
            summary: "Moves slots to a core while they are in use.",
            ..ROW
        },
        run: Some(move_slots),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "core|rebalance",
            summary: "Compares the load of the cores now, and moves hot slots away from busy ones.",
            ..ROW
        },
        run: Some(rebalance_now),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "core|help",
            flags: flag::LOADING | flag::STALE,
            acl: 0,
            summary: "Lists the subcommands of CORE.",
            ..ROW
        },
        run: Some(help),
        light: true,
    },
];

/// What one core tells of itself.
struct Report {
    cpu: i64,
    slots: usize,
    keys: usize,
    connections: usize,
    commands: u64,
    forwarded: u64,
    transactions: u64,
    moved: u64,
}

fn report(c: &mut Core) -> Report {
    Report {
        // SAFETY: plain call.
        cpu: i64::from(unsafe { libc::sched_getcpu() }),
        slots: c.map.iter().filter(|owner| **owner as usize == c.id).count(),
        keys: (0..c.store.databases()).map(|db| c.store.len(db)).sum(),
        connections: c.conns.len(),
        commands: c.stats.executed,
        forwarded: c.stats.forwarded,
        transactions: c.stats.transactions,
        moved: c.stats.slots_moved,
    }
}

fn list(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.gather(conn, report, |core, parts, r| {
        r.array(parts.len());
        for (id, p) in parts.iter().enumerate() {
            let own = if core.clustered() { core.endpoint_port(id) } else { 0 };
            let fields = [
                ("id", id as i64),
                ("cpu", p.cpu),
                ("port", i64::from(own)),
                ("slots", p.slots as i64),
                ("keys", p.keys as i64),
                ("connections", p.connections as i64),
                ("commands", p.commands as i64),
                ("forwarded", p.forwarded as i64),
                ("transactions", p.transactions as i64),
                ("slots-moved-away", p.moved as i64),
            ];
            r.map(fields.len());
            for (name, n) in fields {
                r.bulk(name.as_bytes());
                r.int(n);
            }
        }
    })
}

fn slots(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let mut all: Vec<(u16, u16, usize)> = ranges(&core.shared.sequencer.map(), core.shared.cores)
        .into_iter()
        .enumerate()
        .flat_map(|(c, list)| list.into_iter().map(move |(first, last)| (first, last, c)))
        .collect();
    all.sort_unstable();
    conn.reply(|r| {
        r.array(all.len());
        for (first, last, owner) in all {
            r.array(3);
            [i64::from(first), i64::from(last), owner as i64].into_iter().for_each(|n| r.int(n));
        }
    });
    Ok(Outcome::Done)
}

/// The slots that a request names, each once.
fn named_slots(args: Args) -> Result<Vec<u16>, Fault> {
    let mut slots = match args {
        [word, first, last] if is(word, "range") => {
            let (first, last) = (slot_arg(first)?, slot_arg(last)?);
            if first > last {
                return Err(Fault::Text("ERR start slot number is greater than end slot number"));
            }
            (first..=last).collect()
        }
        _ => args.iter().map(|a| slot_arg(a)).collect::<Result<Vec<_>, _>>()?,
    };
    slots.sort_unstable();
    slots.dedup();
    Ok(slots)
}

fn move_slots(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let cores = core.shared.cores;
    let to = usize::try_from(int(args[2])?).ok().filter(|c| *c < cores).ok_or(Fault::Text("ERR No such core"))?;
    let slots = named_slots(&args[3..])?;
    core.gather(conn, move |c| c.queue_moves(&slots, to), |_, parts, r| r.int(parts.iter().sum::<usize>() as i64))
}

fn rebalance_now(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.gather(conn, rebalance::take_loads, |core, loads, r| r.int(rebalance::apply(core, loads) as i64))
}

fn help(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let moves = core.shared.moves.load(Ordering::Relaxed);
    let so_far = format!("    ({moves} moves since the start.)");
    super::containers::help(
        conn,
        &[
            "CORE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "LIST",
            "    Every core with its CPU, port, slots, keys, connections and counters.",
            "MOVE <core> <slot> [<slot> ...]",
            "MOVE <core> RANGE <first> <last>",
            "    Moves slots to a core while they are in use; replies with their number.",
            &so_far,
            "REBALANCE",
            "    Moves hot slots away from busy cores, once; replies with their number.",
            "SLOTS",
            "    Ranges of slots: first, last, core.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
