//! CLUSTER, READONLY, READWRITE, ASKING: the cores as nodes of a cluster (see
//! `endpoints`).

use crate::base::Args;
use crate::base::slot::{SLOTS, slot_of};
use crate::command::Fault;
use crate::command::fault::NOT_AN_INTEGER;
use crate::command::parse::int;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::endpoints::{address, ranges};
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::session::conn::Conn;

const DISABLED: Fault = Fault::Text("ERR This instance has cluster support disabled");
const INVALID_SLOT: Fault = Fault::Text("ERR Invalid slot");
const VARIES: &[&str] = &["nondeterministic_output"];

const ROW: Spec = Spec { flags: flag::STALE, group: Group::Cluster, since: "3.0.0", ..Spec::DEFAULT };
const PER_CONNECTION: Spec =
    Spec { arity: 1, flags: flag::FAST | flag::LOADING | flag::STALE, acl: acl::CONNECTION, ..ROW };

const fn row(spec: Spec, run: ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: true }
}

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "cluster",
            arity: -2,
            flags: 0,
            complexity: "Depends on the subcommand",
            summary: "Tells about the cluster: the cores, as nodes that own slots.",
            ..ROW
        },
        run: None,
        light: true,
    },
    row(
        Spec {
            name: "cluster|slots",
            arity: 2,
            complexity: "O(N) for N ranges of slots",
            summary: "Lists ranges of slots with the nodes that own them.",
            tips: VARIES,
            ..ROW
        },
        slots,
    ),
    row(
        Spec {
            name: "cluster|shards",
            arity: 2,
            since: "7.0.0",
            complexity: "O(N) for N nodes",
            summary: "Lists nodes with the ranges of slots that they own.",
            tips: VARIES,
            ..ROW
        },
        shards,
    ),
    row(
        Spec {
            name: "cluster|nodes",
            arity: 2,
            complexity: "O(N) for N nodes",
            summary: "Describes the nodes in the form of the cluster's configuration file.",
            tips: VARIES,
            ..ROW
        },
        nodes,
    ),
    row(Spec { name: "cluster|info", arity: 2, summary: "Tells the state of the cluster.", tips: VARIES, ..ROW }, info),
    row(Spec { name: "cluster|myid", arity: 2, summary: "Returns the id of this node.", ..ROW }, my_id),
    row(
        Spec {
            name: "cluster|myshardid",
            arity: 2,
            since: "7.2.0",
            summary: "Returns the id of this node's shard.",
            ..ROW
        },
        my_shard_id,
    ),
    row(
        Spec { name: "cluster|keyslot", syntax: "key", arity: 3, summary: "Returns the hash slot of a key.", ..ROW },
        key_slot,
    ),
    row(
        Spec {
            name: "cluster|links",
            arity: 2,
            since: "7.0.0",
            complexity: "O(N) for N nodes",
            summary: "Lists the links between nodes; cores have none.",
            tips: VARIES,
            ..ROW
        },
        links,
    ),
    ConnCommand {
        spec: Spec {
            name: "cluster|countkeysinslot",
            syntax: "slot:int",
            arity: 3,
            summary: "Counts the keys of a hash slot.",
            ..ROW
        },
        run: Some(count_keys),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "cluster|getkeysinslot",
            syntax: "slot:int count:int",
            arity: 4,
            complexity: "O(N) for N keys asked for",
            summary: "Names keys of a hash slot.",
            tips: VARIES,
            ..ROW
        },
        run: Some(get_keys),
        light: false,
    },
    row(
        Spec {
            name: "cluster|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "5.0.0",
            summary: "Lists the subcommands of CLUSTER.",
            ..ROW
        },
        help,
    ),
    row(Spec { name: "readonly", summary: "Allows reads from a replica's slots.", ..PER_CONNECTION }, accepted),
    row(Spec { name: "readwrite", summary: "Ends what READONLY began.", ..PER_CONNECTION }, accepted),
    row(
        Spec {
            name: "asking",
            flags: flag::FAST,
            summary: "Lets the next command use a slot on its way here.",
            ..PER_CONNECTION
        },
        accepted,
    ),
];

pub fn enabled(core: &Core) -> Result<(), Fault> {
    if core.clustered() { Ok(()) } else { Err(DISABLED) }
}

/// Is it the id of one of the cores, in whatever case?
pub fn is_node(core: &Core, id: &[u8]) -> bool {
    (0..core.shared.cores).any(|c| id.eq_ignore_ascii_case(core.node_id(c).as_bytes()))
}

/// Replicas and half-moved slots are not for clients to know: every core
/// serves every key.
fn accepted(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

/// A core as clients see it.
struct Node {
    id: String,
    port: u16,
    slots: Vec<(u16, u16)>,
}

fn all_nodes(core: &Core) -> Result<Vec<Node>, Fault> {
    enabled(core)?;
    let slots = ranges(&core.map, core.shared.cores).into_iter().enumerate();
    Ok(slots.map(|(c, slots)| Node { id: core.node_id(c), port: core.endpoint_port(c), slots }).collect())
}

fn slots(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let nodes = all_nodes(core)?;
    let ip = address(&core.settings, conn);
    let mut all: Vec<(u16, u16, &Node)> =
        nodes.iter().flat_map(|n| n.slots.iter().map(move |s| (s.0, s.1, n))).collect();
    all.sort_unstable_by_key(|s| s.0);
    conn.reply(|r| {
        r.array(all.len());
        for (first, last, node) in all {
            r.array(3);
            r.int(i64::from(first));
            r.int(i64::from(last));
            r.array(4);
            r.bulk(ip.as_bytes());
            r.int(i64::from(node.port));
            r.bulk(node.id.as_bytes());
            r.map(0);
        }
    });
    Ok(Outcome::Done)
}

fn shards(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let nodes = all_nodes(core)?;
    let ip = address(&core.settings, conn);
    conn.reply(|r| {
        r.array(nodes.len());
        nodes.iter().for_each(|n| shard(r, n, &ip));
    });
    Ok(Outcome::Done)
}

fn shard(r: &mut Reply, n: &Node, ip: &str) {
    let text = |r: &mut Reply, name: &str, value: &str| {
        r.bulk(name.as_bytes());
        r.bulk(value.as_bytes());
    };
    r.map(2);
    r.bulk(b"slots");
    r.array(2 * n.slots.len());
    for (first, last) in &n.slots {
        r.int(i64::from(*first));
        r.int(i64::from(*last));
    }
    r.bulk(b"nodes");
    r.array(1);
    r.map(7);
    text(r, "id", &n.id);
    r.bulk(b"port");
    r.int(i64::from(n.port));
    text(r, "ip", ip);
    text(r, "endpoint", ip);
    text(r, "role", "master");
    r.bulk(b"replication-offset");
    r.int(0);
    text(r, "health", "online");
}

fn nodes(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let nodes = all_nodes(core)?;
    let ip = address(&core.settings, conn);
    let mut text = String::new();
    for (c, n) in nodes.iter().enumerate() {
        let myself = if c == core.id { "myself," } else { "" };
        text.push_str(&format!("{} {ip}:{}@0 {myself}master - 0 0 {} connected", n.id, n.port, c + 1));
        for (first, last) in &n.slots {
            let range = if first == last { format!(" {first}") } else { format!(" {first}-{last}") };
            text.push_str(&range);
        }
        text.push('\n');
    }
    conn.reply(|r| r.verbatim("txt", text.as_bytes()));
    Ok(Outcome::Done)
}

fn info(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let nodes = all_nodes(core)?;
    let owning = nodes.iter().filter(|n| !n.slots.is_empty()).count();
    let fields: [(&str, usize); 8] = [
        ("cluster_slots_assigned", SLOTS),
        ("cluster_slots_ok", SLOTS),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", 0),
        ("cluster_known_nodes", nodes.len()),
        ("cluster_size", owning),
        ("cluster_current_epoch", nodes.len()),
        ("cluster_my_epoch", core.id + 1),
    ];
    let mut text = String::from("cluster_state:ok\r\n");
    fields.iter().for_each(|(name, n)| text.push_str(&format!("{name}:{n}\r\n")));
    for name in
        ["cluster_stats_messages_sent", "cluster_stats_messages_received", "total_cluster_links_buffer_limit_exceeded"]
    {
        text.push_str(&format!("{name}:0\r\n"));
    }
    conn.reply(|r| r.verbatim("txt", text.as_bytes()));
    Ok(Outcome::Done)
}

fn my_id(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    let id = core.node_id(core.id);
    conn.reply(|r| r.bulk(id.as_bytes()));
    Ok(Outcome::Done)
}

fn my_shard_id(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    let id = core.shard_id(core.id);
    conn.reply(|r| r.bulk(id.as_bytes()));
    Ok(Outcome::Done)
}

fn key_slot(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    conn.reply(|r| r.int(i64::from(slot_of(args[2]))));
    Ok(Outcome::Done)
}

fn links(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    conn.reply(|r| r.array(0));
    Ok(Outcome::Done)
}

/// A slot's number.
pub fn slot_arg(arg: &[u8]) -> Result<u16, Fault> {
    let n = int(arg)?;
    u16::try_from(n).ok().filter(|n| usize::from(*n) < SLOTS).ok_or(INVALID_SLOT)
}

fn count_keys(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    let slot = slot_arg(args[2])?;
    core.gather(
        conn,
        move |c| c.store.db(0).map_or(0, |d| d.table(slot).len()),
        |_, parts, r| r.int(parts.iter().sum::<usize>() as i64),
    )
}

fn get_keys(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    const INVALID: Fault = Fault::Text("ERR Invalid slot or number of keys");
    enabled(core)?;
    let (slot, max) = (int(args[2])?, int(args[3]).map_err(|_| NOT_AN_INTEGER)?);
    let slot = u16::try_from(slot).ok().filter(|n| usize::from(*n) < SLOTS).ok_or(INVALID)?;
    let max = usize::try_from(max).map_err(|_| INVALID)?;
    let names = move |c: &mut Core| -> Vec<Vec<u8>> {
        c.store.db(0).map_or(Vec::new(), |d| d.table(slot).iter().take(max).map(|e| e.key().to_vec()).collect())
    };
    core.gather(conn, names, |_, parts, r| {
        r.array(parts.iter().map(Vec::len).sum());
        parts.iter().flatten().for_each(|k| r.bulk(k));
    })
}

fn help(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    enabled(core)?;
    super::containers::help(
        conn,
        &[
            "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "COUNT-FAILURE-REPORTS <node-id>",
            "    Reports that a node has failed: none, a core does not fail alone.",
            "COUNTKEYSINSLOT <slot>",
            "    Number of keys in a slot.",
            "GETKEYSINSLOT <slot> <count>",
            "    Names of keys in a slot.",
            "INFO",
            "    State of the cluster.",
            "KEYSLOT <key>",
            "    The slot of a key.",
            "LINKS",
            "    Links between nodes: none, the nodes are cores of one process.",
            "MYID",
            "    The id of this core's node.",
            "MYSHARDID",
            "    The id of its shard, which has no other node.",
            "NODES",
            "    The nodes, one line for each:",
            "    <id> <ip:port@0> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
            "REPLICAS <node-id>",
            "    Replicas of a node: none, the server has them as a whole.",
            "SHARDS",
            "    Nodes with their ranges of slots.",
            "SLOTS",
            "    Ranges of slots with their nodes: start, end, then ip, port and id.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
