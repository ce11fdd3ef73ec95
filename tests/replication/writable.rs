//! Replicas that clients may write to (`replica-read-only no`).

use super::servers::*;
use super::support::{bulk, eventually, int, nil, ok};

/// Keys that clients gave a deadline there are gone when it has passed; those
/// of the primary wait for its word.
#[test]
fn keys_written_there_expire_there() {
    for cores in [1, 3] {
        let primary = stock(&[]);
        let replica = ours(cores, &["--replica-read-only", "no", "--appendonly", "yes"]);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        let (mut p, mut r) = (primary.wire(), replica.wire());
        assert_eq!(p.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        p.run("SET theirs 1 PX 100");
        p.run("SET longer 1");
        assert_eq!(p.run("WAIT 1 30000"), int(1));
        for i in 0..20 {
            assert_eq!(r.run(&format!("SET own:{i} 1 PX {}", 50 + i * 10)), ok());
        }
        assert_eq!(r.run("SET kept 1 PX 50"), ok());
        assert_eq!(r.run("PERSIST kept"), int(1));
        assert_eq!(r.run("SET later 1 PX 50"), ok());
        assert_eq!(r.run("PEXPIRE later 100000000"), int(1));
        assert_eq!(r.run("PEXPIRE longer 50"), int(1));
        assert_eq!(r.run("SADD set a"), int(1));
        r.run("MULTI");
        r.run("SET in:transaction 1 PX 80");
        r.run("MSET x 1 y 2 z 3");
        r.run("PEXPIRE set 60");
        r.run("EXEC");
        // Reading does not make a key one's own.
        assert_eq!(r.run("MGET theirs theirs").items().len(), 2);
        // Only the primary's own is left of those that are past.
        eventually("they are gone", LIMIT, || r.run("DBSIZE") == int(6));
        assert_eq!(r.run("EXISTS kept later x y z"), int(5));
        assert_eq!((r.run("GET theirs"), r.run("GET longer")), (nil(), nil()));
        assert_eq!(p.run("DEBUG SET-ACTIVE-EXPIRE 1"), ok());
        eventually("the primary's word", LIMIT, || r.run("DBSIZE") == int(5));
        assert_eq!(count(&replica, "sync_full"), 0);
    }
}

/// Its role gone, a former replica expires everything.
#[test]
fn a_promoted_replica_expires_all() {
    let primary = stock(&[]);
    let replica = ours(2, &["--replica-read-only", "no"]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    let mut p = primary.wire();
    p.run("DEBUG SET-ACTIVE-EXPIRE 0");
    p.run("SET theirs 1 PX 100");
    assert_eq!(p.run("WAIT 1 30000"), int(1));
    let mut r = replica.wire();
    r.run("SET own 1 PX 100");
    assert_eq!(r.run("REPLICAOF NO ONE"), ok());
    eventually("all are gone", LIMIT, || r.run("DBSIZE") == int(0));
}

/// A primary whose clock is an hour behind, and then one an hour ahead, played
/// by the test: what is past here and not there is hidden and kept, and what
/// the primary deletes early goes early.
#[test]
fn the_clock_of_a_primary_is_its_own() {
    use std::io::{Read, Write};
    let replica = ours(2, &[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    replicate(&replica, listener.local_addr().expect("an address").port());
    let (mut link, _) = listener.accept().expect("a replica");
    let mut buffer = [0; 4096];
    for answer in ["+PONG\r\n", "+OK\r\n+OK\r\n", "+CONTINUE 0123456789012345678901234567890123456789\r\n"] {
        assert!(link.read(&mut buffer).expect("a request") > 0);
        link.write_all(answer.as_bytes()).expect("send");
    }
    let say = |link: &mut std::net::TcpStream, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        link.write_all(&super::support::wire::encode(&words)).expect("send");
    };
    wait_for_link(&replica);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let hour = 3_600_000;
    say(&mut link, "SELECT 0");
    say(&mut link, &format!("SET behind 1 PXAT {}", now - hour + 1000));
    say(&mut link, &format!("SET ahead 1 PXAT {}", now + hour));
    say(&mut link, "SET plain 1");
    let mut r = replica.wire();
    eventually("they are applied", LIMIT, || r.run("DBSIZE") == int(3));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((r.run("DBSIZE"), r.run("GET behind"), r.run("EXISTS behind ahead plain")), (int(3), nil(), int(2)));
    // To the primary the key is alive, and what it does to it counts.
    say(&mut link, "APPEND behind 2");
    say(&mut link, "PERSIST behind");
    say(&mut link, "DEL ahead");
    eventually("the primary's word", LIMIT, || r.run("GET behind") == bulk("12"));
    eventually("the primary's word", LIMIT, || r.run("DBSIZE") == int(2));
}
