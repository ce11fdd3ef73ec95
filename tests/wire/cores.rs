//! The cores as clients may see them: CORE, and every core as the node of a
//! cluster (`core-endpoints`, `core-redirect`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::rng::Rng;
use super::support::{Server, Value, Wire, array, bulk, each_cores, error, int, nil, ok, plain, simple};
use coreslot::base::slot::slot_of;

fn start(args: &[&str]) -> Server {
    let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
    Server::start_with(move |port| {
        let base = (port + 1).to_string();
        let mut all: Vec<String> =
            ["--cores", "4", "--core-endpoints", "yes", "--core-port-base", &base].map(str::to_owned).to_vec();
        all.extend(args);
        all
    })
}

/// A connection to a core's own port.
fn core_wire(server: &Server, core: u16) -> Wire {
    Wire::connect(server.port + 1 + core)
}

/// A key of the slots that the core owns at the start.
fn key_of(core: u16, which: u32) -> String {
    (0..).map(|n| format!("k{n}")).filter(|k| slot_of(k.as_bytes()) / 4096 == core).nth(which as usize).unwrap()
}

#[test]
fn core_list_and_slots() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    let mut c = server.wire();
    c.run("DEBUG POPULATE 100");
    let list = c.run("CORE LIST");
    assert_eq!(list.items().len(), 4);
    let sum = |field: &str| list.items().iter().map(|core| core.field(field).as_int()).sum::<i64>();
    assert_eq!((sum("slots"), sum("keys"), sum("connections"), sum("id")), (16384, 100, 1, 6));
    assert_eq!(c.run("CORE SLOTS").items()[1], Value::Array(vec![int(4096), int(8191), int(1)]));
    assert_eq!(c.run("CORE MOVE 4 0").as_error(), "ERR No such core");
    assert_eq!(c.run("CORE MOVE 0 16384").as_error(), "ERR Invalid slot");
    assert_eq!(c.run("CORE MOVE 0 0 1"), int(0));
    assert_eq!(c.run("CORE MOVE 3 0 1 1 16383"), int(2));
    assert_eq!(c.run("CORE REBALANCE"), int(0));
    assert!(c.run("CORE HELP").items().len() > 5);
    assert!(c.run("CLUSTER SLOTS").as_error().contains("cluster support disabled"));
    assert!(c.run("READONLY").as_error().contains("cluster support disabled"));
}

/// To a cluster client every core is a node: it adds up what they say.
#[test]
fn a_core_tells_of_its_own_subscribers() {
    if plain() {
        return;
    }
    let server = start(&[]);
    let mut subscribers: Vec<Wire> = [0, 0, 2].map(|core| core_wire(&server, core)).into();
    for s in &mut subscribers {
        for words in ["SUBSCRIBE a", "PSUBSCRIBE p*", "SSUBSCRIBE s"] {
            s.run(words);
        }
    }
    subscribers[2].run("PSUBSCRIBE q*");
    let told = |c: &mut Wire| {
        let lists = ["CHANNELS", "SHARDCHANNELS"].map(|w| c.run(&format!("PUBSUB {w}")).items().len() as i64);
        let counts = ["NUMSUB a", "SHARDNUMSUB s"].map(|w| c.run(&format!("PUBSUB {w}")).items()[1].as_int());
        (lists, counts, c.run("PUBSUB NUMPAT").as_int())
    };
    for (core, want) in
        [([1, 1], [2, 2], 1), ([0, 0], [0, 0], 0), ([1, 1], [1, 1], 2), ([0, 0], [0, 0], 0)].iter().enumerate()
    {
        assert_eq!(told(&mut core_wire(&server, core as u16)), *want, "core {core}");
    }
    assert_eq!(told(&mut server.wire()), ([1, 1], [3, 3], 2));
    assert_eq!(core_wire(&server, 1).run("PUBLISH a hi"), int(3));
}

/// An empty key is found beside another: in what one core sends another they
/// begin at the same place.
#[test]
fn an_empty_key_beside_another() {
    each_cores(|server| {
        let mut wires: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        for n in 0..40 {
            let c = &mut wires[n % 8];
            let key = format!("k{n}");
            assert_eq!(c.cmd(&["SET", &key, "v"]), ok());
            assert!(c.cmd(&["SUNIONSTORE", "", &key]).is_error(), "{key} is no set");
            assert_eq!(c.cmd(&["BITOP", "OR", "", &key]), int(1));
            assert_eq!(c.cmd(&["MGET", "", &key, ""]), array([bulk("v"), bulk("v"), bulk("v")]));
            assert_eq!(c.cmd(&["DEL", "", &key]), int(2));
        }
    });
}

#[test]
fn every_core_is_a_node() {
    if plain() {
        return;
    }
    let server = start(&[]);
    let mut c = core_wire(&server, 2);
    let slots = c.run("CLUSTER SLOTS");
    assert_eq!(slots.items().len(), 4);
    let third = slots.items()[2].items();
    assert_eq!((&third[0], &third[1]), (&int(8192), &int(12287)));
    let node = third[2].items();
    assert_eq!(node[..2], [bulk("127.0.0.1"), int(i64::from(server.port) + 3)]);
    assert_eq!(c.run("CLUSTER MYID"), node[2]);
    let shards: std::collections::HashSet<String> =
        (0..4).map(|core| core_wire(&server, core).run("CLUSTER MYSHARDID").as_text()).collect();
    assert!(shards.len() == 4 && shards.iter().all(|id| id.len() == 40), "{shards:?}");
    let nodes = c.run("CLUSTER NODES").as_text();
    let mine =
        format!("{} 127.0.0.1:{}@0 myself,master - 0 0 3 connected 8192-12287\n", node[2].as_text(), server.port + 3);
    assert!(nodes.contains(&mine), "{nodes}");
    let shards = c.run("CLUSTER SHARDS");
    assert_eq!(shards.items()[2].field("slots"), &Value::Array(vec![int(8192), int(12287)]));
    assert_eq!(shards.items()[2].field("nodes").items()[0].field("id"), &node[2]);
    assert!(c.run("CLUSTER INFO").as_text().starts_with("cluster_state:ok\r\n"));
    assert!(c.run("INFO cluster").as_text().contains("cluster_enabled:1"));
    assert_eq!(c.run("CLUSTER KEYSLOT foo"), int(12182));
    assert_eq!(c.run("READONLY"), ok());
    // Keys of other cores are served as well.
    for core in 0..4 {
        let key = key_of(core, 0);
        assert_eq!(c.cmd(&["SET", &key, "v"]), ok());
        let slot = slot_of(key.as_bytes());
        assert_eq!(c.run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), int(1));
        assert_eq!(c.run(&format!("CLUSTER GETKEYSINSLOT {slot} 10")), Value::Array(vec![bulk(key)]));
    }
    // After a move the map says so.
    assert_eq!(c.run("CORE MOVE 0 RANGE 4096 8191"), int(4096));
    super::support::eventually("the moved slots", Duration::from_secs(20), || {
        c.run("CLUSTER SLOTS").items().len() == 3
    });
}

/// What a cluster's tools may ask: without one all is refused as by a stock server.
#[test]
fn cores_make_no_cluster_that_could_be_changed() {
    if plain() {
        return;
    }
    const ALL: [&str; 29] = [
        "ADDSLOTS 1",
        "ADDSLOTSRANGE 1 2",
        "BUMPEPOCH",
        "COUNT-FAILURE-REPORTS x",
        "COUNTKEYSINSLOT 1",
        "DELSLOTS 1",
        "DELSLOTSRANGE 1 2",
        "FAILOVER",
        "FAILOVER FORCE",
        "FLUSHSLOTS",
        "FORGET x",
        "GETKEYSINSLOT 1 1",
        "HELP",
        "INFO",
        "KEYSLOT k",
        "LINKS",
        "MEET 127.0.0.1 1",
        "MYID",
        "NODES",
        "REPLICAS x",
        "REPLICATE x",
        "RESET SOFT",
        "SAVECONFIG",
        "SET-CONFIG-EPOCH 1",
        "SETSLOT 1 STABLE",
        "SHARDS",
        "SLAVES x",
        "SLOTS",
        "NONSENSE",
    ];
    let (stock, alone, server) = (Server::stock(&[]), Server::start(&["--cores", "4"]), start(&[]));
    let (mut stock, mut alone, mut c) = (stock.wire(), alone.wire(), core_wire(&server, 1));
    for words in ALL {
        // Also with an argument too few or too many.
        let name = words.split(' ').next().unwrap_or_default();
        for asked in [format!("CLUSTER {words}"), format!("CLUSTER {name}"), format!("CLUSTER {words} a b")] {
            assert_eq!(alone.run(&asked), stock.run(&asked), "{asked}");
        }
    }
    let me = c.run("CLUSTER MYID").as_text();
    assert_eq!(c.run(&format!("CLUSTER REPLICAS {me}")), array([]));
    assert_eq!(c.run(&format!("CLUSTER SLAVES {me}")), array([]));
    assert_eq!(c.run(&format!("CLUSTER COUNT-FAILURE-REPORTS {me}")), int(0));
    assert_eq!(c.run("CLUSTER REPLICAS x"), error("ERR Unknown node x"));
    for words in ["ADDSLOTS 1", "MEET 127.0.0.1 1", "SETSLOT 1 STABLE", "RESET", "FAILOVER"] {
        assert!(c.run(&format!("CLUSTER {words}")).as_error().contains("CORE MOVE"), "{words}");
    }
}

#[test]
fn a_core_may_redirect() {
    if plain() {
        return;
    }
    let server = start(&["--core-redirect", "yes"]);
    let mut c = core_wire(&server, 1);
    let (mine, other, foreign) = (key_of(1, 0), key_of(1, 1), key_of(3, 0));
    let moved = format!("MOVED {} 127.0.0.1:{}", slot_of(foreign.as_bytes()), server.port + 4);
    assert_eq!(c.cmd(&["SET", &mine, "1"]), ok());
    assert_eq!(c.cmd(&["GET", &foreign]), error(&moved));
    const CROSS: &str = "CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(c.cmd(&["MGET", &mine, &other]), error(CROSS));
    assert_eq!(c.cmd(&["MGET", &mine, &foreign]), error(CROSS));
    // In a pipeline each request has its own answer, in its place.
    let pipeline = format!("INCR {mine}\r\nGET {foreign}\r\nINCR {mine}\r\nPING\r\nGET {foreign}\r\nGET {mine}\r\n");
    let replies = c.pipeline(pipeline.as_bytes(), 6);
    assert_eq!(replies, [int(2), error(&moved), int(3), simple("PONG"), error(&moved), bulk("3")]);
    // Transactions.
    assert_eq!(c.run("MULTI"), ok());
    assert_eq!(c.cmd(&["GET", &foreign]), error(&moved));
    assert!(c.run("EXEC").as_error().starts_with("EXECABORT"));
    assert_eq!(c.run("MULTI"), ok());
    assert_eq!(c.cmd(&["GET", &mine]), simple("QUEUED"));
    assert_eq!(c.cmd(&["GET", &other]), simple("QUEUED"));
    assert_eq!(c.run("EXEC"), error(CROSS));
    assert_eq!(c.run("MULTI"), ok());
    assert_eq!(c.cmd(&["GET", &mine]), simple("QUEUED"));
    assert_eq!(c.run("EXEC"), Value::Array(vec![bulk("3")]));
    // The common port serves everything.
    let mut common = server.wire();
    assert_eq!(common.cmd(&["MGET", &mine, &foreign]), Value::Array(vec![bulk("3"), nil()]));
    assert_eq!(common.run("CONFIG SET core-redirect no"), ok());
    assert_eq!(c.cmd(&["GET", &foreign]), nil());
}

/// What a client hears that asks every node: each key once, also while slots
/// lie scattered.
#[test]
fn every_core_tells_of_its_own_keys() {
    if plain() {
        return;
    }
    let server = start(&[]);
    let mut common = server.wire();
    common.run("DEBUG POPULATE 1000");
    // Every eighth slot moves one core on.
    for core in 0..4u16 {
        let slots: String = (0..4096).step_by(8).map(|n| format!(" {}", core * 4096 + n)).collect();
        assert_eq!(common.run(&format!("CORE MOVE {}{slots}", (core + 1) % 4)), int(512));
    }
    super::support::eventually("the moves' end", Duration::from_secs(60), || {
        let list = common.run("CORE LIST");
        list.items().iter().all(|core| core.field("slots").as_int() == 4096)
            && common.run("CORE SLOTS").items().len() == 4096
    });
    let (mut sum, mut listed, mut scanned) = (0, Vec::new(), Vec::new());
    for core in 0..4 {
        let mut c = core_wire(&server, core);
        let size = c.run("DBSIZE").as_int();
        assert!(size > 0 && size < 1000);
        sum += size;
        let keys: Vec<String> = c.run("KEYS *").items().iter().map(Value::as_text).collect();
        let drawn = c.run("RANDOMKEY").as_text();
        assert!(keys.contains(&drawn));
        listed.extend(keys);
        let mut cursor = "0".to_string();
        for step in 0.. {
            assert!(step < 20_000, "the scan does not end");
            let reply = c.run(&format!("SCAN {cursor} COUNT 7"));
            scanned.extend(reply.items()[1].items().iter().map(Value::as_text));
            cursor = reply.items()[0].as_text();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(c.run("SCAN 18446744073709551615"), Value::Array(vec![bulk("0"), Value::Array(vec![])]));
        assert_eq!(c.run("SCAN 0 NONSENSE 1"), error("ERR syntax error"));
        assert_eq!(c.run("SCAN x"), error("ERR invalid cursor"));
    }
    assert_eq!(sum, 1000);
    let mut all: Vec<String> = common.run("KEYS *").items().iter().map(Value::as_text).collect();
    all.sort();
    assert_eq!((common.run("DBSIZE"), all.len()), (int(1000), 1000));
    listed.sort();
    scanned.sort();
    assert!(listed == all && scanned == all);
}

/// A pipeline over all cores at a core's own port, forwarded inside: every
/// reply in its place.
#[test]
fn pipelines_at_a_core_are_forwarded() {
    if plain() {
        return;
    }
    let server = start(&[]);
    let mut c = core_wire(&server, 0);
    let mut request = String::new();
    for n in 0..500 {
        request.push_str(&format!("SET key{n} {n}\r\nGET key{n}\r\n"));
    }
    let replies = c.pipeline(request.as_bytes(), 1000);
    for n in 0..500 {
        assert_eq!(replies[2 * n..2 * n + 2], [ok(), bulk(n.to_string())]);
    }
}

/// The longest that one of several clients waited for a SET or a GET until `stop`.
fn longest_wait(port: u16, stop: &AtomicBool) -> Duration {
    let client = |seed: u64| {
        let (mut c, mut rng, mut longest) = (Wire::connect(port), Rng::new(seed), Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let key = format!("key:{}", rng.below(50_000));
            let began = Instant::now();
            let reply = if rng.below(2) == 0 { c.cmd(&["SET", &key, "v"]) } else { c.cmd(&["GET", &key]) };
            longest = longest.max(began.elapsed());
            assert!(!reply.is_error(), "{reply:?}");
        }
        longest
    };
    std::thread::scope(|s| {
        let clients: Vec<_> = (1..=4).map(|seed| s.spawn(move || client(seed))).collect();
        clients.into_iter().map(|c| c.join().expect("a client")).max().unwrap_or_default()
    })
}

/// Clients waited up to four seconds behind the slots that a core had not taken in:
/// all that the others had were on their way to it at once, each compared with all.
#[test]
fn moving_all_slots_holds_no_client_up() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    let mut c = server.wire();
    c.run("DEBUG POPULATE 50000");
    let mut longest_while_moving = || {
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let waits = s.spawn(|| longest_wait(server.port, &stop));
            for to in [0, 1, 2, 3, 0, 3, 1, 2] {
                c.run(&format!("CORE MOVE {to} RANGE 0 16383"));
                super::support::eventually("all slots on one core", Duration::from_secs(60), || {
                    c.run("CORE LIST").items()[to].field("slots").as_int() == 16384
                });
            }
            stop.store(true, Ordering::Relaxed);
            waits.join().expect("the clients")
        })
    };
    // A machine that stands still for a second does not do so every time.
    let mut waits = Vec::new();
    while waits.len() < 4 && waits.iter().all(|w| *w >= Duration::from_secs(1)) {
        waits.push(longest_while_moving());
    }
    assert!(waits.iter().min() < Some(&Duration::from_secs(1)), "a client waited {waits:?}");
}

/// Slots stay where they are while a snapshot is made, and no longer.
#[test]
fn slots_move_again_behind_a_snapshot() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "2"]);
    let mut c = server.wire();
    c.run("DEBUG POPULATE 1000");
    assert_eq!(c.run("SAVE"), ok());
    c.run("CORE MOVE 1 RANGE 0 16383");
    super::support::eventually("all slots on one core", Duration::from_secs(20), || {
        c.run("CORE LIST").items()[1].field("slots").as_int() == 16384
    });
}
