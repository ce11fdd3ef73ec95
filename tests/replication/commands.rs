//! What clients see of replication.

use super::servers::*;
use super::support::{Server, Wire, bulk, error, eventually, int, nil, ok};

/// Texts and replies that redis-server gives, from a primary and a replica.
fn as_redis(primary: &Server, replica: &Server) {
    replicate(replica, primary.port);
    wait_for_link(replica);
    let (mut p, mut r) = (primary.wire(), replica.wire());
    assert_eq!(r.run("SET a 1"), error("READONLY You can't write against a read only replica."));
    assert_eq!(
        r.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)).as_text(),
        "OK Already connected to specified master"
    );
    assert_eq!(p.run("REPLICAOF x y"), error("ERR Invalid master port"));
    assert_eq!(p.run("REPLCONF a"), error("ERR syntax error"));
    assert_eq!(p.run("REPLCONF nosuch 1"), error("ERR Unrecognized REPLCONF option: nosuch"));
    assert_eq!(p.run("WAIT x 0"), error("ERR value is not an integer or out of range"));
    assert_eq!(p.run("WAIT 1 x"), error("ERR timeout is not an integer or out of range"));
    assert_eq!(p.run("WAIT 1 -1"), error("ERR timeout is negative"));
    assert!(r.run("WAIT 1 0").as_error().starts_with("ERR WAIT cannot be used with replica instances."));
    assert_eq!(p.run("FAILOVER ABORT"), error("ERR No failover in progress."));
    assert_eq!(p.run("FAILOVER TO 127.0.0.1 1"), error("ERR FAILOVER target HOST and PORT is not a replica."));
    assert_eq!(r.run("FAILOVER"), error("ERR FAILOVER is not valid when server is a replica."));
    assert_eq!(
        p.run(&format!("FAILOVER TO 127.0.0.1 {} FORCE", replica.port)),
        error("ERR FAILOVER with force option requires both a timeout and target HOST and IP.")
    );
    assert_eq!(p.run("SET a 1").as_text(), "OK");
    assert_eq!(p.run("WAIT 1 30000"), int(1));
    assert_eq!(p.run("WAIT 2 100"), int(1));
    assert_eq!(r.run("GET a").as_text(), "1");
    let role = p.run("ROLE");
    assert_eq!(role.items()[0].as_text(), "master");
    assert_eq!(role.items()[2].items()[0].items()[1].as_text(), replica.port.to_string());
    let role = r.run("ROLE");
    assert_eq!(role.items()[0].as_text(), "slave");
    assert_eq!(role.items()[2], int(i64::from(primary.port)));
    assert_eq!(role.items()[3].as_text(), "connected");

    for words in ["MULTI", "SET t 1", "WAIT 1 0", "EXEC"] {
        p.run(words);
    }
    assert_eq!(p.run("CONFIG SET min-replicas-to-write 1").as_text(), "OK");
    assert_eq!(p.run("SET b 1").as_text(), "OK");
    assert_eq!(p.run("CONFIG SET min-replicas-to-write 2").as_text(), "OK");
    eventually("too few replicas", LIMIT, || {
        p.run("SET b 1") == error("NOREPLICAS Not enough good replicas to write.")
    });
    assert_eq!(p.run("GET b").as_text(), "1");
    assert_eq!(p.run("CONFIG SET min-replicas-to-write 0").as_text(), "OK");
    eventually("writes again", LIMIT, || p.run("SET b 2") == ok());

    assert_eq!(r.run("CONFIG SET replica-serve-stale-data no").as_text(), "OK");
    assert_eq!(r.run("GET a").as_text(), "1");
    assert_eq!(r.run("REPLICAOF 127.0.0.1 1").as_text(), "OK");
    eventually("no link", LIMIT, || {
        let text = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
        r.run("GET a") == error(text)
    });
    assert!(!r.run("INFO").is_error());
    assert_eq!(r.run("REPLICAOF NO ONE").as_text(), "OK");
    assert_eq!(r.run("SET a 2").as_text(), "OK");
}

#[test]
fn replies_are_those_of_redis() {
    as_redis(&stock(&[]), &stock(&[]));
    as_redis(&ours(1, &[]), &ours(3, &[]));
    as_redis(&ours(3, &[]), &stock(&[]));
}

/// A script cannot wait: it hears at once how many there are (as in 7.2).
#[test]
fn wait_in_a_script_counts_at_once() {
    for cores in [1, 3] {
        let (primary, replica) = (ours(cores, &[]), ours(cores, &[]));
        let (mut p, mut r) = (primary.wire(), replica.wire());
        let script = |c: &mut Wire, n: &str| c.cmd(&["EVAL", "return redis.pcall('wait', ARGV[1], '0')", "0", n]);
        assert_eq!(script(&mut p, "2"), int(0));
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        eventually("the replica counts", LIMIT, || script(&mut p, "2") == int(1));
        assert_eq!(script(&mut p, "x"), error("ERR value is not an integer or out of range"));
        assert!(script(&mut r, "1").as_error().starts_with("ERR WAIT cannot be used with replica instances."));
    }
}

/// Who is blocked when the server becomes a replica is told so and hung up on.
#[test]
fn blocked_clients_are_disconnected_when_the_role_changes() {
    let primary = ours(1, &[]);
    for server in [ours(3, &[]), stock(&[])] {
        let (mut list, mut several, mut waits) = (server.wire(), server.wire(), server.wire());
        list.send_words("BLPOP a 0");
        several.send_words("BLPOP a b c d e f 0");
        waits.send_words("WAIT 1 0");
        eventually("three wait", LIMIT, || info(&server, "blocked_clients").trim() == "3");
        replicate(&server, primary.port);
        let text = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
        for wire in [&mut list, &mut several, &mut waits] {
            assert_eq!(wire.read(), error(text));
            wire.expect_closed();
        }
        wait_for_link(&server);
        let mut p = primary.wire();
        assert_eq!(p.run("RPUSH a 1"), int(1));
        assert_eq!(p.run("WAIT 1 30000"), int(1));
        assert_eq!(server.wire().run("LLEN a"), int(1));
        server.wire().run("REPLICAOF NO ONE");
        primary.wire().run("FLUSHALL");
    }
}

/// A key past its deadline is hidden on a replica, and stays until the primary
/// deletes it.
#[test]
fn replicas_hide_expired_keys_and_keep_them() {
    let primary = stock(&[]);
    let replica = ours(2, &[]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    let (mut p, mut r) = (primary.wire(), replica.wire());
    p.run("DEBUG SET-ACTIVE-EXPIRE 0");
    p.run("SET volatile 1 PX 50");
    assert_eq!(p.run("WAIT 1 30000"), int(1));
    eventually("the deadline", LIMIT, || r.run("GET volatile") == nil());
    assert_eq!(r.run("EXISTS volatile"), int(0));
    assert_eq!(r.run("TTL volatile"), int(-2));
    assert_eq!(r.run("DBSIZE"), int(1));
    assert!(!r.run("DEBUG OBJECT volatile").is_error(), "who debugs sees it");
    assert_ne!(r.run("DEBUG DIGEST-VALUE volatile").items()[0].as_text(), "0".repeat(40));
    // Its clock may be a moment behind.
    eventually("the deadline there", LIMIT, || p.run("GET volatile") == nil());
    assert_eq!(p.run("WAIT 1 30000"), int(1));
    assert_eq!(r.run("DBSIZE"), int(0));
}

/// After the end mark of a streamed snapshot nothing follows before the first
/// acknowledgement: replicas find the mark only as the last bytes read.
#[test]
fn silence_after_the_end_mark() {
    let primary = ours(2, &[]);
    let mut p = primary.wire();
    p.run("SET a 1");
    let mut link = primary.wire();
    assert_eq!(link.run("REPLCONF listening-port 1 capa eof capa psync2").as_text(), "OK");
    link.send_words("PSYNC ? -1");
    let stream = link.stream().try_clone().expect("clone");
    let mut reader = Lines { stream, seen: Vec::new() };
    reader.until(|seen| {
        let at = seen.windows(5).position(|w| w == b"$EOF:");
        at.is_some_and(|at| seen.len() > at + 47 && seen[at + 47..].ends_with(&seen[at + 5..at + 45]))
    });
    let mark_at = reader.seen.len();
    assert!(reader.seen.starts_with(b"+FULLRESYNC "));
    p.run("SET b 1");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(reader.quiet(), "something follows the end mark");
    link.send_words("REPLCONF ACK 0");
    reader.until(|seen| seen[mark_at..].windows(6).any(|w| w == b"SELECT"));
}

struct Lines {
    stream: std::net::TcpStream,
    seen: Vec<u8>,
}

impl Lines {
    fn until(&mut self, done: impl Fn(&[u8]) -> bool) {
        use std::io::Read;
        let mut buffer = [0; 4096];
        self.stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        while !done(&self.seen) {
            let n = self.stream.read(&mut buffer).expect("more bytes");
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&self.seen));
            self.seen.extend_from_slice(&buffer[..n]);
        }
    }

    fn quiet(&mut self) -> bool {
        use std::io::Read;
        self.stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).expect("a timeout");
        self.stream.read(&mut [0; 16]).is_err()
    }
}

/// What a primary's command cannot do is said with the command's name.
#[test]
fn errors_of_the_stream_name_their_command() {
    for primary in [stock(&[]), ours(2, &[])] {
        let replica = ours(2, &["--replica-read-only", "no"]);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        let (mut p, mut r) = (primary.wire(), replica.wire());
        assert_eq!(r.run("SET number text").as_text(), "OK");
        assert_eq!(p.run("INCRBY number 1"), int(1));
        assert_eq!(p.run("WAIT 1 30000"), int(1));
        let want = "== CRITICAL == This replica is sending an error to its master: 'ERR value is not an integer or out \
                    of range' after processing the command 'incrby'";
        eventually("it is said", LIMIT, || replica.log().contains(want));
    }
}

/// A replica's connection carries the stream and nothing else: who asks for a
/// reply there is disconnected, as by Redis.
#[test]
fn replicas_get_no_replies() {
    let of_keys = "== CRITICAL == This master is sending an error to its replica: 'Replica can't interact with the \
                   keyspace' after processing the command 'get'";
    let commands = [("XINFO HELP", "xinfo|help", false), ("GET key", "get", true)];
    let servers = [ours(2, &[]), stock(&[])];
    for (primary, (command, name, keys)) in servers.iter().flat_map(|s| commands.map(|c| (s, c))) {
        let mut link = primary.wire();
        link.send_words("SYNC");
        eventually("a replica", LIMIT, || info(primary, "connected_slaves").trim() == "1");
        link.send_words("REPLCONF ACK 0");
        link.send_words(command);
        let said = format!("Replica generated a reply to command '{name}', disconnecting it: ");
        eventually("it is said", LIMIT, || primary.log().contains(&said));
        eventually("why is said, too", LIMIT, || primary.log().contains(of_keys) == keys);
        eventually("it is gone", LIMIT, || info(primary, "connected_slaves").trim() == "0");
    }
}

#[test]
fn a_wrong_offset_is_refused_and_said() {
    for server in [ours(1, &[]), stock(&[])] {
        let mut c = server.wire();
        assert_eq!(c.run("PSYNC id x"), error("ERR value is not an integer or out of range"));
        assert!(server.log().contains(" asks for synchronization but with a wrong offset"), "{}", server.log());
        assert_eq!(c.run("PING").as_text(), "PONG");
    }
}

/// While a replica loads, what the load relies on stays as it is.
#[test]
fn some_directives_stay_while_the_dataset_is_loaded() {
    let primary = ours(2, &["--rdb-key-save-delay", "20000"]);
    let mut p = primary.wire();
    p.run("DEBUG POPULATE 3000 key 10");
    let replica = ours(2, &["--repl-diskless-load", "swapdb"]);
    replicate(&replica, primary.port);
    let mut r = replica.wire();
    eventually("loading", LIMIT, || {
        let reply = r.run("CONFIG SET appendonly no");
        reply.is_error() && reply.as_error().starts_with("LOADING")
    });
    assert_eq!(r.run("CONFIG SET timeout 0").as_text(), "OK");
    assert_eq!(r.run("REPLICAOF NO ONE"), error("LOADING Redis is loading the dataset in memory"));
    p.run("CONFIG SET rdb-key-save-delay 0");
}

/// CLIENT PAUSE at a replica holds up what its primary sends, CLIENT UNPAUSE ends that.
#[test]
fn a_replica_goes_on_when_it_is_unpaused() {
    let (primary, replica) = (ours(1, &[]), ours(2, &[]));
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    assert_eq!(replica.wire().run("CLIENT PAUSE 600000 WRITE"), ok());
    assert_eq!(primary.wire().run("SET a 1"), ok());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(replica.wire().run("GET a"), nil());
    assert_eq!(replica.wire().run("CLIENT UNPAUSE"), ok());
    eventually("it goes on", LIMIT, || replica.wire().run("GET a") == bulk("1"));
}

/// An end that was waiting for a replica and was called off is over: it cannot be
/// called off again, and the next one is not.
#[test]
fn an_end_that_was_called_off_is_over() {
    let (mut primary, replica) = (ours(2, &[]), ours(1, &[]));
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    replica.signal(libc::SIGSTOP);
    let mut c = primary.wire();
    assert_eq!(c.run("SET a 1"), ok());
    let mut asker = primary.wire();
    asker.send_words("SHUTDOWN NOSAVE");
    let says = |c: &mut Wire| c.run("INFO server").as_text().contains("shutdown_in_milliseconds:");
    eventually("it is waited for", LIMIT, || says(&mut c));
    assert_eq!(c.run("SHUTDOWN ABORT"), ok());
    assert!(asker.read().is_error());
    assert!(!says(&mut c));
    assert_eq!(c.run("SHUTDOWN ABORT"), error("ERR No shutdown in progress."));
    assert_eq!(c.run("SET a 2"), ok());
    replica.signal(libc::SIGCONT);
    c.send_words("SHUTDOWN NOSAVE NOW");
    assert_eq!(primary.wait_exit(LIMIT).code(), Some(0));
}

/// How often and how lately keys were used comes along in a full synchronization.
#[test]
fn a_replica_learns_how_keys_are_used() {
    let lfu = ["--maxmemory-policy", "allkeys-lfu", "--maxmemory", "1gb", "--lfu-log-factor", "0"];
    let lru = ["--maxmemory-policy", "allkeys-lru", "--maxmemory", "1gb"];
    for primary in [ours(2, &lfu), stock(&lfu)] {
        let mut p = primary.wire();
        assert_eq!(p.run("MSET hot 1 cold 1"), ok());
        p.run("RPUSH list a b c");
        (0..40).for_each(|_| drop(p.run("GET hot")));
        let replica = ours(2, &lfu);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        let mut r = replica.wire();
        for key in ["hot", "cold", "list"] {
            let freq = |c: &mut Wire| c.run(&format!("OBJECT FREQ {key}")).as_int();
            assert_eq!(freq(&mut r), freq(&mut p), "{key}");
        }
        assert!(r.run("OBJECT FREQ hot").as_int() > 30);
    }
    let (primary, replica) = (ours(2, &lru), ours(2, &lru));
    let mut p = primary.wire();
    assert_eq!(p.run("SET old 1"), ok());
    std::thread::sleep(std::time::Duration::from_millis(3100));
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    assert!(replica.wire().run("OBJECT IDLETIME old").as_int() >= 3);
}

/// Whoever logged in as a user that there is no more is hung up on, replicas as well.
#[test]
fn a_replica_whose_user_is_deleted_is_not_served_on() {
    let primary = ours(2, &[]);
    let mut p = primary.wire();
    assert_eq!(p.run("ACL SETUSER r on >secret +psync +replconf +ping"), ok());
    let (named, plain) = (ours(2, &["--masteruser", "r", "--masterauth", "secret"]), ours(1, &[]));
    for replica in [&named, &plain] {
        replicate(replica, primary.port);
        wait_for_link(replica);
    }
    assert_eq!(p.run("ACL SETUSER other on"), ok());
    assert_eq!(p.run("ACL DELUSER r"), int(1));
    eventually("the link is down", LIMIT, || info(&named, "master_link_status").trim() == "down");
    assert_eq!(info(&plain, "master_link_status").trim(), "up");
    assert_eq!(count(&primary, "sync_full"), 2);
}

/// WAIT waits for what the connection wrote, not for what others did; and not long.
#[test]
fn wait_is_for_ones_own_writes() {
    for cores in [1, 3] {
        let primary = ours(cores, &[]);
        let replica = ours(1, &[]);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        let (mut writer, mut reader) = (primary.wire(), primary.wire());
        for key in ["a", "b", "c", "d"] {
            assert_eq!(writer.run(&format!("SET {key} 1")), ok());
            assert_eq!(writer.run("WAIT 1 30000"), int(1));
        }
        let begin = std::time::Instant::now();
        for i in 0..200 {
            assert_eq!(writer.run(&format!("SET k{i} 1")), ok());
            assert_eq!(writer.run("WAIT 1 30000"), int(1));
        }
        let each = begin.elapsed() / 200;
        assert!(each < std::time::Duration::from_millis(20), "{each:?} each");
        let mut early = primary.wire();
        assert_eq!(early.run("SET early 1"), ok());
        assert_eq!(early.run("WAIT 1 30000"), int(1));
        replica.signal(libc::SIGSTOP);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(writer.run("SET late 1"), ok());
        assert_eq!(writer.run("WAIT 1 100"), int(0));
        // Who has written nothing, or before, need not wait.
        assert_eq!(reader.run("WAIT 1 0"), int(1));
        assert_eq!(early.run("WAIT 1 0"), int(1));
        replica.signal(libc::SIGCONT);
        assert_eq!(writer.run("WAIT 1 30000"), int(1));
    }
}
