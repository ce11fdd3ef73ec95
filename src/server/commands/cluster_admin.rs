//! The subcommands of CLUSTER that make, change and inspect a cluster of servers.
//! Without `core-endpoints` they say that there is none, as in Redis. With it the
//! nodes are the cores of one process, which have no replicas, no failures and no
//! bus: what could be asked of them is answered, what would change them is refused.

use super::cluster::{enabled, is_node};
use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::session::conn::Conn;

const REFUSED: Fault = Fault::Text("ERR The nodes are cores of one server. CORE MOVE moves slots between them.");

const VARIES: &[&str] = &["nondeterministic_output"];

const LOOKS: Spec =
    Spec { flags: flag::ADMIN | flag::STALE, group: Group::Cluster, since: "3.0.0", tips: VARIES, ..Spec::DEFAULT };
const CHANGES: Spec = Spec { flags: LOOKS.flags | flag::NO_ASYNC_LOADING, tips: &[], ..LOOKS };

const fn row(spec: Spec, run: ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: true }
}

const fn refused(
    name: &'static str,
    (arity, syntax): (i32, &'static str),
    complexity: &'static str,
    summary: &'static str,
) -> ConnCommand {
    row(Spec { name, arity, syntax, complexity, summary, ..CHANGES }, refuse)
}

const SLOTS: &str = "O(N) for N slots";

pub const ROWS: &[ConnCommand] = &[
    refused("cluster|addslots", (-3, "slot:int..."), SLOTS, "Would give a node slots; not of cores."),
    ConnCommand {
        spec: Spec {
            name: "cluster|addslotsrange",
            arity: -4,
            syntax: "range(start-slot:int end-slot:int)...",
            since: "7.0.0",
            complexity: SLOTS,
            summary: "Would give a node ranges of slots; not of cores.",
            ..CHANGES
        },
        run: Some(refuse),
        light: true,
    },
    row(
        Spec {
            name: "cluster|bumpepoch",
            arity: 2,
            summary: "Would raise the node's epoch; not of cores.",
            tips: VARIES,
            ..CHANGES
        },
        refuse,
    ),
    row(
        Spec {
            name: "cluster|count-failure-reports",
            arity: 3,
            syntax: "node-id",
            complexity: "O(N) for N reports",
            summary: "Counts reports that a node has failed: none of a core.",
            ..LOOKS
        },
        count_reports,
    ),
    refused("cluster|delslots", (-3, "slot:int..."), SLOTS, "Would take slots from a node; not of cores."),
    row(
        Spec {
            name: "cluster|delslotsrange",
            arity: -4,
            syntax: "range(start-slot:int end-slot:int)...",
            since: "7.0.0",
            complexity: SLOTS,
            summary: "Would take ranges of slots from a node; not of cores.",
            ..CHANGES
        },
        refuse,
    ),
    refused(
        "cluster|failover",
        (-2, "[options(FORCE|TAKEOVER)]"),
        "O(1)",
        "Would make a replica the primary; cores have none.",
    ),
    refused("cluster|flushslots", (2, ""), "O(1)", "Would take all slots from a node; not of cores."),
    refused("cluster|forget", (3, "node-id"), "O(1)", "Would remove a node; not of cores."),
    refused(
        "cluster|meet",
        (-4, "ip port:int [cluster-bus-port:int@4.0.0]"),
        "O(1)",
        "Would bring another server into the cluster; not of cores.",
    ),
    row(
        Spec {
            name: "cluster|replicas",
            arity: 3,
            syntax: "node-id",
            since: "5.0.0",
            summary: "Lists a node's replicas: none of a core.",
            ..LOOKS
        },
        replicas,
    ),
    refused("cluster|replicate", (3, "node-id"), "O(1)", "Would make this node a replica; not of cores."),
    row(
        Spec {
            name: "cluster|reset",
            arity: -2,
            syntax: "[reset-type(HARD|SOFT)]",
            flags: LOOKS.flags | flag::NOSCRIPT,
            complexity: "O(N) for N nodes",
            summary: "Would take this node out of the cluster; not of cores.",
            tips: &[],
            ..LOOKS
        },
        refuse,
    ),
    refused("cluster|saveconfig", (2, ""), "O(1)", "Would write the cluster's file; cores have none."),
    refused("cluster|set-config-epoch", (3, "config-epoch:int"), "O(1)", "Would set a new node's epoch; not of cores."),
    refused(
        "cluster|setslot",
        (
            -4,
            "slot:int subcommand(IMPORTING importing'node-id'|MIGRATING migrating'node-id'|NODE node'node-id'|STABLE)",
        ),
        "O(1)",
        "Would say whose a slot is; CORE MOVE does so of cores.",
    ),
    row(
        Spec {
            name: "cluster|slaves",
            arity: 3,
            syntax: "node-id",
            summary: "Lists a node's replicas: none of a core.",
            ..LOOKS
        },
        replicas,
    ),
];

fn refuse(core: &mut Core, _: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    Err(REFUSED)
}

/// The node that an argument names must be one.
fn known(core: &Core, id: &[u8]) -> Result<(), Fault> {
    enabled(core)?;
    match is_node(core, id) {
        true => Ok(()),
        false => Err(format!("ERR Unknown node {}", String::from_utf8_lossy(id)).into()),
    }
}

fn count_reports(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    known(core, args[2])?;
    conn.reply(|r| r.int(0));
    Ok(Outcome::Done)
}

fn replicas(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    known(core, args[2])?;
    conn.reply(|r| r.array(0));
    Ok(Outcome::Done)
}
