//! The connections of replication in CLIENT LIST and CLIENT KILL.

use super::servers::*;
use super::support::{Server, error, eventually, int};

/// A field of the only line that CLIENT LIST has of this type.
fn field(server: &Server, class: &str, name: &str) -> String {
    let text = server.wire().run(&format!("CLIENT LIST TYPE {class}")).as_text();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    let found = text.split_ascii_whitespace().find_map(|w| w.strip_prefix(&format!("{name}=")));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

/// What redis-server says, from both ends of a link.
fn as_redis(primary: &Server, replica: &Server) {
    replicate(replica, primary.port);
    wait_for_link(replica);
    assert_eq!(primary.wire().run("CLIENT LIST TYPE master").as_text(), "");
    assert_eq!(replica.wire().run("CLIENT LIST TYPE replica").as_text(), "");
    eventually("it has acknowledged", LIMIT, || field(primary, "replica", "cmd") == "replconf");
    let mut writer = primary.wire();
    writer.run("SET a 1");
    assert_eq!(writer.run("WAIT 1 30000"), int(1));
    drop(writer);
    let from_primary = |name: &str| field(primary, "replica", name);
    let from_replica = |name: &str| field(replica, "master", name);
    assert_eq!((from_primary("flags"), from_replica("flags")), ("S".into(), "M".into()));
    assert_eq!((from_primary("user"), from_replica("user")), ("default".into(), "(superuser)".into()));
    let command = from_replica("cmd");
    assert!(["set", "replconf", "ping", "NULL"].contains(&&command[..]), "{command}");
    assert_eq!((from_primary("addr"), from_primary("laddr")), (from_replica("laddr"), from_replica("addr")));
    assert_eq!(from_primary("addr").split(':').next(), Some("127.0.0.1"));

    // Among all clients, and by id.
    let id = from_primary("id");
    let all = primary.wire().run("CLIENT LIST").as_text();
    assert!(all.lines().count() >= 2 && all.lines().any(|l| l.starts_with(&format!("id={id} "))), "{all}");
    let one = primary.wire().run(&format!("CLIENT LIST ID {id}")).as_text();
    assert_eq!((one.lines().count(), one.contains(" flags=S ")), (1, true), "{one}");

    // Killed by what they are; the replica goes on where it was.
    assert_eq!(primary.wire().run("CLIENT KILL TYPE master"), int(0));
    assert_eq!(primary.wire().run("CLIENT KILL TYPE replica"), int(1));
    eventually("a new link", LIMIT, || count(primary, "sync_partial_ok") == 1);
    wait_for_link(replica);
    assert_eq!(replica.wire().run("CLIENT KILL TYPE replica"), int(0));
    assert_eq!(replica.wire().run("CLIENT KILL TYPE master"), int(1));
    eventually("a new link", LIMIT, || count(primary, "sync_partial_ok") == 2);
    wait_for_link(replica);
    let id = field(primary, "replica", "id");
    assert_eq!(primary.wire().run(&format!("CLIENT KILL ID {id}")), int(1));
    eventually("a new link", LIMIT, || count(primary, "sync_partial_ok") == 3);
    wait_for_link(replica);
    let addr = field(primary, "replica", "addr");
    assert_eq!(primary.wire().run(&format!("CLIENT KILL {addr}")).as_text(), "OK");
    assert_eq!(primary.wire().run(&format!("CLIENT KILL {addr}")), error("ERR No such client"));
    eventually("a new link", LIMIT, || count(primary, "sync_partial_ok") == 4);
    assert_eq!(count(primary, "sync_full"), 1);
}

#[test]
fn links_are_clients() {
    as_redis(&ours(1, &[]), &stock(&[]));
    as_redis(&stock(&[]), &ours(2, &[]));
    as_redis(&ours(3, &[]), &ours(2, &[]));
}

/// The test itself, against what it is taken from.
#[test]
fn links_are_clients_of_stock_servers() {
    as_redis(&stock(&[]), &stock(&[]));
}

/// What a replica has not read shows in its line and in the memory figures, and
/// goes with it.
#[test]
fn unread_output_is_shown() {
    let primary = ours(2, &["--client-output-buffer-limit", "replica 0 0 0", "--repl-backlog-size", "16kb"]);
    let replica = stock(&[]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    replica.signal(libc::SIGSTOP);
    let value = "v".repeat(1 << 20);
    let mut wire = primary.wire();
    for i in 0..32 {
        wire.cmd(&["SET", &format!("k{i}"), &value]);
    }
    let unread = |name: &str| field(&primary, "replica", name).parse::<u64>().expect("a number");
    eventually("the merge", LIMIT, || unread("omem") > 16 << 20);
    assert!(unread("oll") > 100 && unread("tot-mem") > unread("omem"));
    assert!(count(&primary, "mem_clients_slaves") > 16 << 20);
    assert!(count(&primary, "mem_total_replication_buffers") > 16 << 20);
    assert!(count(&primary, "mem_replication_backlog") < 1 << 20);
    eventually("it does not count", LIMIT, || count(&primary, "mem_not_counted_for_evict") > 16 << 20);
    // A limit set now holds at once.
    assert_eq!(wire.cmd(&["CONFIG", "SET", "client-output-buffer-limit", "replica 8mb 0 0"]).as_text(), "OK");
    eventually("it is dropped", LIMIT, || count(&primary, "connected_slaves") == 0);
    assert!(count(&primary, "mem_total_replication_buffers") < 4 << 20);
    replica.signal(libc::SIGCONT);
    wait_until_equal(&primary, &[&replica]);
}

/// A primary evicted keys for what a stopped replica had not read: it counted
/// what waited only ten times a second, and not the copy that was being sent.
#[test]
fn what_replicas_wait_for_evicts_nothing() {
    /// A copy that is made to be sent, and what a core has not told yet, count
    /// for a moment; longer where a thread stands still just then. Twelve
    /// megabytes are written in all.
    const MARGIN: i64 = 256 * 1024;
    const MOMENT: i64 = 4 * MARGIN;
    for cores in [1, 2] {
        let primary = ours(cores, &["--client-output-buffer-limit", "replica 0 0 0", "--latency-tracking", "no"]);
        let mut c = primary.wire();
        for i in 0..100 {
            assert!(!c.run(&format!("SETRANGE key:{i} 100000 x")).is_error());
        }
        assert_eq!(c.run("CONFIG SET repl-backlog-size 16kb maxmemory-policy allkeys-random").as_text(), "OK");
        let replica = stock(&[]);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        replica.signal(libc::SIGSTOP);
        let counted = || {
            let text = primary.wire().run("INFO memory").as_text();
            let field = |name: &str| {
                let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}:")));
                line.expect("the field").trim().parse::<i64>().expect("a number")
            };
            field("used_memory") - field("mem_not_counted_for_evict")
        };
        let before = counted();
        assert_eq!(c.run(&format!("CONFIG SET maxmemory {}", before + MOMENT)).as_text(), "OK");
        let piece = "x".repeat(1000);
        for _ in 0..12_000 {
            c.cmd(&["SETRANGE", "key:0", "0", &piece]);
        }
        assert_eq!((c.run("DBSIZE"), count(&primary, "evicted_keys")), (int(100), 0));
        assert!(count(&primary, "mem_not_counted_for_evict") > 1 << 20);
        assert!((counted() - before).abs() < MARGIN);
        // What was kept for it goes with it, at once.
        assert_eq!(c.run("CLIENT KILL TYPE replica"), int(1));
        let kept = (count(&primary, "mem_clients_slaves"), count(&primary, "mem_not_counted_for_evict"));
        assert!(kept.0 == 0 && kept.1 < 1 << 20, "{kept:?}");
        assert!((counted() - before).abs() < MARGIN);
        replica.signal(libc::SIGCONT);
    }
}
