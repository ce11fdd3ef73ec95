//! Connections that break at every byte, hang, or never read.

use std::time::Duration;

use super::proxy::Proxy;
use super::servers::*;
use super::support::{Server, eventually};

/// The stream is cut within transactions, at many bytes: the replica shows all
/// of a transaction or nothing, and goes on where it stopped.
#[test]
fn transactions_are_whole_wherever_the_link_breaks() {
    let primary = stock(&[]);
    let replica = ours(2, &[]);
    let proxy = Proxy::to(primary.port);
    replicate(&replica, proxy.port);
    wait_for_link(&replica);
    let mut wire = primary.wire();
    for cut in 0..120 {
        proxy.cut_after(cut * 3);
        for words in ["MULTI", "INCR a", "SET filler xxxxxxxxxxxxxxxxxxxx", "INCR b", "EXEC"] {
            wire.run(words);
        }
        let mut reader = replica.wire();
        for _ in 0..3 {
            let pair = reader.run("MGET a b");
            assert_eq!(pair.items()[0], pair.items()[1], "half a transaction is visible");
        }
        if cut % 10 == 0 {
            wait_for_link(&replica);
        }
    }
    proxy.cut_after(-1);
    wait_for_link(&replica);
    wait_until_equal(&primary, &[&replica]);
    assert_eq!(count(&primary, "sync_full"), 1);
}

/// A transaction's bytes, one after the other: what is visible after each of them
/// is what was before it, at the offset of what was before it, until the last.
#[test]
fn a_transaction_cut_at_every_byte_is_whole_or_not_there() {
    let primary = stock(&["--repl-ping-replica-period", "3600"]);
    let replica = ours(2, &[]);
    let proxy = Proxy::to(primary.port);
    replicate(&replica, proxy.port);
    wait_for_link(&replica);
    let mut wire = primary.wire();
    let mut transaction = || {
        for words in ["MULTI", "INCR a", "SET filler xxxxxxxxxx", "INCR b", "EXEC"] {
            wire.run(words);
        }
    };
    // The first has a SELECT before it.
    transaction();
    wait_until_equal(&primary, &[&replica]);
    let start = count(&primary, "master_repl_offset");
    transaction();
    wait_until_equal(&primary, &[&replica]);
    let length = count(&primary, "master_repl_offset") - start;
    assert!(length > 100, "a transaction of {length} bytes");
    for cut in 0..length {
        let (offset, number) = (count(&replica, "slave_repl_offset"), (cut + 2).to_string());
        proxy.hold_after(cut as i64);
        transaction();
        eventually("the stream stands still", LIMIT, || proxy.is_held());
        let mut reader = replica.wire();
        // Time for those bytes to arrive, and to be seen if they were applied.
        std::thread::sleep(Duration::from_millis(2));
        for name in ["a", "b"] {
            assert_eq!(reader.run(&format!("GET {name}")).as_text(), number, "after {cut} bytes of {length}");
        }
        assert_eq!(count(&replica, "slave_repl_offset"), offset, "after {cut} bytes of {length}");
        proxy.cut();
        // It goes on from there: had anything been applied, it would be twice.
        wait_until_equal(&primary, &[&replica]);
        let number = (cut + 3).to_string();
        assert_eq!(reader.run("MGET a b").items(), [number.as_str(); 2].map(super::support::bulk), "resumed");
    }
    assert_eq!(count(&primary, "sync_full"), 1);
}

/// Connections of replicas by the primary's own list.
fn links(primary: &Server) -> Vec<String> {
    let list = primary.wire().run("CLIENT LIST TYPE replica").as_text();
    list.lines().filter_map(|l| l.split(' ').next().map(str::to_owned)).collect()
}

/// The replica connects anew while its old connection hangs, open at the primary,
/// with what was written meanwhile on its way. A stock primary serves both beside
/// each other until the old one has been silent for too long; ours drops it, which
/// it would not say of one that had gone. Nothing is applied twice.
#[test]
fn a_connection_that_hangs_is_replaced() {
    let patient = ["--repl-timeout", "6", "--repl-ping-replica-period", "1"];
    let hasty = ["--repl-timeout", "2"];
    for (primary, replica, drops) in [
        (ours(2, &patient), stock(&hasty), true),
        (ours(2, &patient), ours(2, &hasty), true),
        (stock(&patient), ours(2, &hasty), false),
    ] {
        let proxy = Proxy::to(primary.port);
        replicate(&replica, proxy.port);
        wait_for_link(&replica);
        let mut wire = primary.wire();
        write_plain(&mut wire, 0, 1000);
        wait_until_equal(&primary, &[&replica]);
        let old = links(&primary);
        assert_eq!(old.len(), 1);
        proxy.hang();
        write_plain(&mut wire, 1000, 1000);
        eventually("another connection", LIMIT, || links(&primary).iter().any(|link| *link != old[0]));
        match drops {
            true => eventually("the old one is dropped", LIMIT, || {
                primary.log().contains("connects anew: its earlier connection is closed")
            }),
            false => assert!(links(&primary).contains(&old[0]), "the old connection had gone before"),
        }
        wait_for_link(&replica);
        write_plain(&mut wire, 2000, 1000);
        wait_until_equal(&primary, &[&replica]);
        // The lists would be longer, or in another order, had anything come twice.
        let (mut a, mut b) = (primary.wire(), replica.wire());
        for i in 0..50 {
            let order = format!("LRANGE list:{i} 0 -1");
            let list = a.run(&order);
            assert_eq!(list.items().len(), 60);
            assert_eq!(list, b.run(&order));
        }
        eventually("the old connection goes", LIMIT, || !links(&primary).contains(&old[0]));
        assert_eq!(info(&primary, "connected_slaves").trim(), "1");
        assert_eq!(info(&replica, "master_link_status").trim(), "up", "the new one went with it");
        assert_eq!(count(&primary, "sync_full"), 1);
    }
}

/// A replica that never reads: the primary's memory stays bounded, the replica
/// is dropped, and others are served.
#[test]
fn a_replica_that_does_not_read_is_dropped() {
    let primary = ours(2, &["--client-output-buffer-limit", "replica 8mb 0 0", "--repl-backlog-size", "1mb"]);
    let good = stock(&[]);
    replicate(&good, primary.port);
    wait_for_link(&good);
    let mut deaf = primary.wire();
    deaf.send_words("PSYNC ? -1");
    eventually("two replicas", LIMIT, || info(&primary, "connected_slaves").trim() == "2");
    let mut wire = primary.wire();
    let value = "y".repeat(100_000);
    eventually("it is dropped", LIMIT, || {
        for i in 0..20 {
            wire.cmd(&["SET", &format!("k{i}"), &value]);
        }
        info(&primary, "connected_slaves").trim() == "1"
    });
    let backlog = count(&primary, "mem_replication_backlog");
    assert!(backlog < 64 << 20, "{backlog} bytes of backlog");
    wait_until_equal(&primary, &[&good]);
}

/// A replica that asks for a copy and does not read it: clients that write go
/// on, another replica gets the same copy, and the deaf one is dropped when it
/// costs too much.
#[test]
fn a_replica_that_does_not_read_its_copy_holds_up_nobody() {
    let limit = ["--client-output-buffer-limit", "replica 8mb 0 0", "--rdbcompression", "no"];
    let sharing = ["--repl-diskless-sync-delay", "30", "--repl-diskless-sync-max-replicas", "2"];
    let primary = ours(2, &[&limit[..], &sharing[..]].concat());
    let good = ours(2, &[]);
    let mut wire = primary.wire();
    let value = "v".repeat(100_000);
    for i in 0..800 {
        wire.cmd(&["SET", &format!("k{i}"), &value]);
    }
    let mut deaf = primary.wire();
    assert_eq!(deaf.run("REPLCONF capa eof capa psync2 listening-port 1").as_text(), "OK");
    deaf.send_words("PSYNC ? -1");
    replicate(&good, primary.port);
    eventually("a copy for both", LIMIT, || primary.log().contains("Starting BGSAVE for SYNC"));
    // Each write saves a value that the deaf replica has no room for.
    for i in 0..800 {
        assert_eq!(wire.cmd(&["SETRANGE", &format!("k{i}"), "0", "w"]).as_int(), 100_000);
    }
    eventually("it is dropped", LIMIT, || info(&primary, "connected_slaves").trim() == "1");
    wait_for_link(&good);
    wait_until_equal(&primary, &[&good]);
    assert_eq!(primary.log().matches("Starting BGSAVE for SYNC").count(), 1, "one snapshot for both");
    assert_eq!(count(&primary, "sync_full"), 2);
}

/// Garbage from a primary: the link is dropped with a line in the log, the data
/// kept, and the next attempt made.
#[test]
fn a_primary_that_sends_garbage() {
    use std::io::{Read, Write};
    let replica = ours(2, &[]);
    replica.wire().run("SET kept 1");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let id = "0123456789012345678901234567890123456789";
    let answers: [String; 5] = [
        "?\r\n".into(),
        "+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC x\r\n".into(),
        format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {id} 5\r\nhello\r\n"),
        format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {id} 5\r\n$10\r\n0123456789"),
        format!("+PONG\r\n+OK\r\n+OK\r\n+CONTINUE {id}\r\n*1\r\n$3\r\n+++++"),
    ];
    let served = std::thread::spawn(move || {
        for answer in answers {
            let (mut s, _) = listener.accept().expect("a replica");
            let mut first = [0; 14];
            let _ = s.read_exact(&mut first);
            let _ = s.write_all(answer.as_bytes());
            let _ = s.set_read_timeout(Some(Duration::from_secs(3)));
            let mut rest = Vec::new();
            let _ = s.read_to_end(&mut rest);
        }
    });
    replicate(&replica, port);
    served.join().expect("the primary");
    assert_eq!(replica.wire().run("GET kept").as_text(), "1");
    assert_eq!(replica.wire().run("REPLICAOF NO ONE").as_text(), "OK");
    assert_eq!(replica.wire().run("SET a b").as_text(), "OK");
}

/// Behind one address there may be several replicas that say one port.
#[test]
fn replicas_behind_one_address_do_not_disturb_each_other() {
    let primary = ours(2, &[]);
    let shared = ["--replica-announce-port", "6379"];
    let replicas = [ours(1, &shared), stock(&shared), ours(3, &shared)];
    for replica in &replicas {
        replicate(replica, primary.port);
    }
    replicas.iter().for_each(wait_for_link);
    // Longer than a connection may be silent that another has followed.
    std::thread::sleep(std::time::Duration::from_millis(4500));
    assert_eq!((count(&primary, "connected_slaves"), count(&primary, "sync_full")), (3, 3), "{}", primary.log());
    write_some(&primary, 5, 300);
    wait_until_equal(&primary, &replicas.iter().collect::<Vec<_>>());
}
