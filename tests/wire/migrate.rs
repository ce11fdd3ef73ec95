//! MIGRATE to and from a stock server, and to targets that misbehave.

use super::support::{Server, Value, Wire, bulk, bulks, each_cores, error, eventually, int, nil, ok, plain, simple};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const TIMEOUT: &str = "60000";
const READING: &str = "IOERR error or timeout reading to target instance";

/// Commands that make keys of all types; the keys lie on several cores.
const KEYS: [&str; 8] = [
    "SET text hello",
    "SET number 12345",
    "RPUSH list a b c",
    "SADD set 1 2 3",
    "SADD words one two three",
    "ZADD zset 1.5 a -3 b",
    "HSET hash f v g w",
    "XADD stream 1-1 f v",
];

fn names() -> Vec<&'static str> {
    KEYS.iter().map(|line| line.split(' ').nth(1).unwrap()).collect()
}

fn digests(c: &mut Wire) -> Vec<Value> {
    names().iter().map(|key| c.run(&format!("DEBUG DIGEST-VALUE {key}"))).collect()
}

fn migrate(c: &mut Wire, port: u16, rest: &str) -> Value {
    c.run(&format!("MIGRATE 127.0.0.1 {port} {rest}"))
}

/// With the empty key, which a line cannot say.
fn migrate_keys(c: &mut Wire, port: u16, db: &str, options: &[&str]) -> Value {
    let port = port.to_string();
    let mut args = vec!["MIGRATE", "127.0.0.1", &port, "", db, TIMEOUT];
    args.extend(options);
    c.cmd(&args)
}

#[test]
fn keys_of_all_types_go_and_come_back() {
    each_cores(|server| {
        let stock = Server::stock(&[]);
        let (mut c, mut s) = (server.wire(), stock.wire());
        KEYS.iter().for_each(|line| assert!(!c.run(line).is_error(), "{line}"));
        assert_eq!(c.run("PEXPIRE list 500000"), int(1));
        let before = digests(&mut c);
        let mut options = vec!["KEYS", "no such key"];
        options.extend(names());
        assert_eq!(migrate_keys(&mut c, stock.port, "3", &options), ok());
        assert_eq!(c.run("DBSIZE"), int(0));
        assert_eq!((s.run("DBSIZE"), s.run("SELECT 3")), (int(0), ok()));
        assert_eq!(digests(&mut s), before);
        let ttl = s.run("PTTL list").as_int();
        assert!((400_000..=500_000).contains(&ttl), "{ttl}");
        // One by one, and back.
        for name in names() {
            assert_eq!(migrate(&mut s, server.port, &format!("{name} 5 {TIMEOUT}")), ok());
        }
        assert_eq!((s.run("DBSIZE"), c.run("SELECT 5")), (int(0), ok()));
        assert_eq!(digests(&mut c), before);
        assert!((300_000..=500_000).contains(&c.run("PTTL list").as_int()));
    });
}

#[test]
fn errors_are_those_of_a_stock_server() {
    each_cores(|server| {
        let (stock, target) = (Server::stock(&[]), Server::stock(&["--requirepass", "secret"]));
        let mut t = target.wire();
        assert_eq!(t.run("AUTH secret"), ok());
        assert_eq!(t.run("ACL SETUSER u on >pw ~* +@all"), ok());
        assert_eq!(t.run("SET there 1"), ok());
        let to = format!("127.0.0.1 {}", target.port);
        let lines = [
            "MIGRATE h 1 k x 10",
            "MIGRATE h 1 k 0 x",
            "MIGRATE h 1 k x y foo",
            "MIGRATE h 1 k 0 1 auth",
            "MIGRATE h 1 k 0 1 auth2 a",
            "MIGRATE h 1 k 0 1 KEYS a",
            "MIGRATE h 1 k 0",
            "MIGRATE h 1 none 0 10",
            "MIGRATE nosuch.invalid 1 k 0 20000",
            "MIGRATE 127.0.0.1 1 k 0 20000",
            "MIGRATE 127.0.0.1 x k 0 20000",
            "MIGRATE {to} k 0 20000",
            "MIGRATE {to} k 0 20000 AUTH wrong",
            "MIGRATE {to} k 0 20000 AUTH2 u wrong",
            "MIGRATE {to} k 99 20000 AUTH secret",
            "MIGRATE {to} there 0 20000 AUTH secret",
            "EXISTS k there",
            "MIGRATE {to} there 0 20000 AUTH secret COPY REPLACE",
            "EXISTS k there",
            "MIGRATE {to} k 0 20000 AUTH2 u pw",
            "EXISTS k there",
            "COMMAND GETKEYS MIGRATE h 1 k 0 10",
            "COMMAND GETKEYS MIGRATE h 1 k 0 10 KEYS a b",
            "COMMAND GETKEYS MIGRATE h 1 k 0 10 AUTH keys",
            "COMMAND GETKEYSANDFLAGS MIGRATE h 1 k 0 10 AUTH keys",
            "COMMAND INFO MIGRATE",
        ];
        let (mut c, mut s) = (server.wire(), stock.wire());
        for line in lines {
            let line = line.replace("{to}", &to);
            for wire in [&mut c, &mut s] {
                wire.run("SET k v NX");
                wire.run("SET there 2 NX");
            }
            assert_eq!(c.run(&line), s.run(&line), "{line}");
            if line.contains("AUTH2 u pw") {
                t.run("DEL k");
            }
        }
        let getkeys: [&[&str]; 5] = [
            &["KEYS", "a", "b"],
            &["COPY", "AUTH", "keys", "KEYS", "a", "b"],
            &["AUTH2", "keys", "keys", "KEYS", "a", "keys"],
            &["KEYS"],
            &[],
        ];
        for options in getkeys {
            let mut line = vec!["COMMAND", "GETKEYS", "MIGRATE", "h", "1", "", "0", "10"];
            line.extend(options);
            assert_eq!(c.cmd(&line), s.cmd(&line), "{line:?}");
        }
        assert_eq!(c.cmd(&["MIGRATE", "h", "1", "", "0", "1", "KEYS"]), simple("NOKEY"));
        let stats = c.run("INFO errorstats").as_text();
        assert!(stats.contains("errorstat_ERR:count="), "{stats}");
    });
}

/// What the target has refused stays; the rest goes.
#[test]
fn only_acknowledged_keys_leave() {
    each_cores(|server| {
        let stock = Server::stock(&[]);
        let (mut c, mut s) = (server.wire(), stock.wire());
        for i in 0..20 {
            c.run(&format!("SET key:{i} {i}"));
        }
        for i in [3, 11] {
            s.run(&format!("SET key:{i} old"));
        }
        let mut listener = server.wire();
        c.run("CONFIG SET notify-keyspace-events Eg");
        listener.run("SUBSCRIBE __keyevent@0__:del");
        let mut watcher = server.wire();
        watcher.run("WATCH key:5");
        let names: Vec<String> = (0..20).map(|i| format!("key:{i}")).collect();
        let mut options = vec!["KEYS"];
        options.extend(names.iter().map(String::as_str));
        let reply = migrate_keys(&mut c, stock.port, "0", &options);
        assert_eq!(reply, error("ERR Target instance replied with error: BUSYKEY Target key name already exists."));
        let mut left: Vec<String> = c.run("KEYS *").items().iter().map(Value::as_text).collect();
        left.sort();
        assert_eq!(left, ["key:11", "key:3"]);
        assert_eq!((s.run("DBSIZE"), s.run("GET key:3"), s.run("GET key:4")), (int(20), bulk("old"), bulk("4")));
        let mut told: Vec<String> = (0..18).map(|_| listener.read().items()[2].as_text()).collect();
        told.sort();
        let mut want: Vec<String> = names.iter().filter(|n| !left.contains(n)).cloned().collect();
        want.sort();
        assert_eq!(told, want);
        watcher.run("MULTI");
        assert_eq!(watcher.run("EXEC"), super::support::nil_array());
        // COPY leaves them here, REPLACE overwrites.
        assert_eq!(migrate_keys(&mut c, stock.port, "0", &["COPY", "REPLACE", "KEYS", "key:3", "key:11"]), ok());
        assert_eq!((c.run("EXISTS key:3 key:11"), s.run("GET key:11")), (int(2), bulk("11")));
    });
}

/// The stream says DEL for what has left: a replica and a restart agree.
#[test]
fn what_left_is_deleted_in_the_stream() {
    if plain() {
        return;
    }
    for cores in ["1", "4"] {
        let (server, stock) = (Server::start(&["--cores", cores]), Server::stock(&[]));
        let replica = Server::stock(&["--replicaof", &format!("127.0.0.1 {}", server.port)]);
        let (mut c, mut r) = (server.wire(), replica.wire());
        eventually("the replica's link", LIMIT, || r.run("INFO replication").as_text().contains("link_status:up"));
        KEYS.iter().for_each(|line| assert!(!c.run(line).is_error(), "{line}"));
        assert_eq!(c.run("SET stays 1"), ok());
        assert_eq!(c.run("HSET due f v"), int(1));
        eventually("the keys' arrival", LIMIT, || r.run("DBSIZE") == int(KEYS.len() as i64 + 2));
        let mut options = vec!["KEYS"];
        options.extend(names());
        assert_eq!(migrate_keys(&mut c, stock.port, "0", &options), ok());
        assert_eq!(migrate_keys(&mut c, stock.port, "0", &["COPY", "KEYS", "stays", "due"]), ok());
        eventually("the keys' leaving", LIMIT, || r.run("DBSIZE") == int(2));
        let calls = |r: &mut Wire| r.run("INFO commandstats").as_text().contains("cmdstat_del:calls=");
        assert!(calls(&mut r), "the replica was told with DEL");
        eventually("equal datasets", LIMIT, || c.run("DEBUG DIGEST") == r.run("DEBUG DIGEST"));
    }
}

/// A target that takes connections and says nothing.
fn mute() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// While a target is waited for, everybody else is served; only who wants the
/// same keys waits.
#[test]
fn nobody_waits_for_a_silent_target() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let (listener, port) = mute();
        let mut c = server.wire();
        for i in 0..50 {
            c.run(&format!("SET key:{i} {i}"));
        }
        c.send_words(&format!("MIGRATE 127.0.0.1 {port} key:7 0 600000"));
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = vec![0; 16];
        peer.read_exact(&mut request).unwrap();
        let mut others = server.wire();
        for i in (0..50).filter(|i| *i != 7) {
            assert_eq!(others.run(&format!("INCR key:{i}")), int(i + 1));
        }
        let mut same = server.wire();
        same.send_words("SET key:7 new");
        same.expect_silence(Duration::from_millis(200));
        // The target acknowledges: the key is gone before the other writes.
        peer.write_all(b"+OK\r\n+OK\r\n").unwrap();
        assert_eq!(c.read(), ok());
        assert_eq!(same.read(), ok());
        assert_eq!(others.run("GET key:7"), bulk("new"));
    });
}

#[test]
fn timeouts_and_broken_connections() {
    each_cores(|server| {
        let (_listener, port) = mute();
        let mut c = server.wire();
        c.run("SET k v");
        let start = Instant::now();
        assert_eq!(migrate(&mut c, port, "k 0 300"), error(READING));
        assert!(start.elapsed() >= Duration::from_millis(290));
        assert_eq!(c.run("GET k"), bulk("v"));
        // A target that closes, and one that answers half.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = std::thread::spawn(move || {
            for answer in ["", "+OK\r\n", "+OK\r\n+O"] {
                // A stock server tries again when nothing was answered.
                let (mut peer, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = peer.read(&mut request).unwrap();
                peer.write_all(answer.as_bytes()).unwrap();
            }
        });
        if !plain() {
            for _ in 0..3 {
                let reply = migrate(&mut c, port, "k 0 60000");
                assert_eq!(reply, error(READING));
                assert_eq!(c.run("GET k"), bulk("v"));
            }
            target.join().unwrap();
        }
    });
}

/// A client that leaves in the middle does not stop what it began.
#[test]
fn a_client_may_leave() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let (listener, port) = mute();
        let mut c = server.wire();
        c.run("SET k v");
        c.send_words(&format!("MIGRATE 127.0.0.1 {port} k 0 600000"));
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = vec![0; 16];
        peer.read_exact(&mut request).unwrap();
        drop(c);
        peer.write_all(b"+OK\r\n+OK\r\n").unwrap();
        let mut other = server.wire();
        assert_eq!(other.run("GET k"), nil());
    });
}

#[test]
fn permissions_are_asked_for_every_key() {
    each_cores(|server| {
        let stock = Server::stock(&[]);
        let mut c = server.wire();
        c.run("ACL SETUSER mover on nopass ~a* +migrate");
        c.run("MSET a1 1 a2 2 b1 3");
        let mut m = server.wire();
        assert_eq!(m.run("AUTH mover x"), ok());
        let denied = migrate_keys(&mut m, stock.port, "0", &["KEYS", "a1", "b1"]);
        assert!(denied.as_error().starts_with("NOPERM"), "{denied:?}");
        assert_eq!(migrate_keys(&mut m, stock.port, "0", &["KEYS", "a1", "a2"]), ok());
        assert_eq!(c.run("KEYS *"), bulks("b1"));
    });
}

/// A connection is kept for the next MIGRATE to the same target. If the target
/// has closed it meanwhile, another is made.
#[test]
fn connections_are_kept() {
    each_cores(|server| {
        let kept = |c: &mut Wire| {
            let info = c.run("INFO STATS").as_text();
            let field = info.lines().find_map(|l| l.strip_prefix("migrate_cached_sockets:")).expect("a field");
            field.trim().parse::<u64>().expect("a number")
        };
        let stock = Server::stock(&[]);
        let (mut c, mut s) = (server.wire(), stock.wire());
        assert_eq!(kept(&mut c), 0);
        for (i, db) in [0, 0, 3, 0].into_iter().enumerate() {
            c.run(&format!("SET k{i} v"));
            assert_eq!(migrate(&mut c, stock.port, &format!("k{i} {db} {TIMEOUT}")), ok());
            assert_eq!(kept(&mut c), 1);
        }
        assert_eq!(s.run("DBSIZE"), int(3));
        assert!(s.run("INFO STATS").as_text().contains("total_connections_received:3"), "ready, test, MIGRATE");
        assert!(!s.run("CLIENT KILL TYPE normal SKIPME yes").is_error());
        c.run("SET again v");
        assert_eq!(migrate(&mut c, stock.port, &format!("again 0 {TIMEOUT}")), ok());
        assert_eq!(s.run("GET again"), bulk("v"));
        eventually("nobody keeps it for ever", LIMIT, || kept(&mut c) == 0);
    });
}
