//! Where deletions come from elsewhere (replicas) or may not be made (writing is
//! paused), what is past its deadline is hidden, and stays: a replica that deleted
//! by its own clock would lose what its primary gave a new deadline in time.

use super::support::{Server, Value, Wire, bulk, each_cores, eventually, int, ok};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A key of every type, all with a deadline, and how they are made.
const KEYS: [(&str, &str); 8] = [
    ("str", "SET str abc"),
    ("list", "RPUSH list a b"),
    ("hash", "HSET hash f 1 g 2"),
    ("set", "SADD set a b"),
    ("zset", "ZADD zset 1 a 2 b"),
    ("geo", "GEOADD geo 13 38 a 14 39 b"),
    ("stream", "XADD stream 1-1 f v"),
    ("hll", "PFADD hll a b c"),
];

/// Commands that only read; `K` is one of the keys, `L` the next of them.
const READERS: &str = "GET K;STRLEN K;GETRANGE K 0 -1;SUBSTR K 0 1;MGET K L;EXISTS K L;TYPE K;TTL K;PTTL K;EXPIRETIME K;\
    PEXPIRETIME K;DUMP K;OBJECT ENCODING K;OBJECT IDLETIME K;OBJECT REFCOUNT K;MEMORY USAGE K;TOUCH K L;RANDOMKEY;SCAN 0;\
    SCAN 0 COUNT 1000 MATCH *;SCAN 0 TYPE list;KEYS *;GETBIT K 1;BITCOUNT K;BITPOS K 1;BITFIELD_RO K GET u8 0;LCS K L;\
    PFCOUNT K;PFCOUNT K L;LRANGE K 0 -1;LLEN K;LINDEX K 0;LPOS K a;HGET K f;HMGET K f g;HGETALL K;HKEYS K;HVALS K;HLEN K;\
    HEXISTS K f;HSTRLEN K f;HRANDFIELD K 2;HSCAN K 0;HTTL K FIELDS 1 f;HPEXPIRETIME K FIELDS 1 f;SMEMBERS K;SCARD K;\
    SISMEMBER K a;SMISMEMBER K a b;SRANDMEMBER K 2;SSCAN K 0;SINTER K L;SINTERCARD 2 K L;SUNION K L;SDIFF K L;ZCARD K;\
    ZSCORE K a;ZMSCORE K a b;ZRANGE K 0 -1;ZRANGEBYSCORE K 0 9;ZREVRANGE K 0 -1;ZRANGEBYLEX K - +;ZCOUNT K 0 9;\
    ZLEXCOUNT K - +;ZRANK K a;ZREVRANK K a;ZRANDMEMBER K 2;ZSCAN K 0;ZUNION 2 K L;ZINTER 2 K L;ZDIFF 2 K L;\
    ZINTERCARD 2 K L;GEOPOS K a;GEODIST K a b;GEOHASH K a;GEOSEARCH K FROMLONLAT 13 38 BYRADIUS 9 km;\
    GEORADIUS_RO K 13 38 9 km;XLEN K;XRANGE K - +;XREVRANGE K + -;XREAD STREAMS K 0;XREAD STREAMS K L 0 0;\
    XINFO STREAM K;XINFO GROUPS K;XPENDING K g;SORT_RO K;SORT_RO K BY L* GET L*";

/// Asks with every reader for every key, by itself, in transactions and in scripts.
/// RANDOMKEY may name a key: as in Redis, when there seem to be no others.
/// PFCOUNT, which may store what it has counted, waits while writing is paused.
fn read_all(c: &mut Wire, paused: bool) {
    for (i, (key, _)) in KEYS.iter().enumerate() {
        let next = KEYS[(i + 1) % KEYS.len()].0;
        for reader in READERS.split(';').filter(|r| !(paused && r.starts_with("PFCOUNT"))) {
            let words: Vec<String> = reader
                .split_whitespace()
                .map(|w| match w {
                    "K" => key.to_string(),
                    "L" => next.to_string(),
                    w => w.replace("L*", &format!("{next}*")),
                })
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let alone = c.cmd(&words);
            assert!(!is_found(&alone, &words), "{words:?}: {alone:?}");
            assert_eq!(c.run("MULTI"), ok());
            c.cmd(&words);
            c.run("EXEC");
            assert_eq!(c.run("DBSIZE"), int(KEYS.len() as i64), "after {words:?}");
            let script = [&["EVAL_RO", "return redis.pcall(unpack(ARGV))", "1", *key][..], &words].concat();
            c.cmd(&script);
            assert_eq!(c.run("DBSIZE"), int(KEYS.len() as i64), "after {words:?} in a script");
        }
        assert_eq!(c.run(&format!("WATCH {key}")), ok());
        c.run("UNWATCH");
    }
}

/// Does a reply to the commonest readers show anything of what has expired?
fn is_found(reply: &Value, words: &[&str]) -> bool {
    match words[0] {
        "GET" | "DUMP" | "LINDEX" | "HGET" | "ZSCORE" | "ZRANK" => !(reply.is_nil() || reply.is_error()),
        "EXISTS" | "TOUCH" | "STRLEN" | "LLEN" | "HLEN" | "SCARD" | "ZCARD" | "XLEN" | "PFCOUNT" => *reply != int(0),
        "TTL" | "PTTL" | "EXPIRETIME" => *reply != int(-2),
        "SCAN" => !reply.items()[1].items().is_empty(),
        "KEYS" | "LRANGE" | "SMEMBERS" | "HGETALL" | "ZRANGE" | "XRANGE" => !reply.items().is_empty(),
        _ => false,
    }
}

fn fill(c: &mut Wire, ttl_ms: u64) {
    for (key, made) in KEYS {
        assert!(!c.run(made).is_error(), "{made}");
        assert_eq!(c.run(&format!("PEXPIRE {key} {ttl_ms}")), int(1));
    }
}

fn expired_keys(c: &mut Wire) -> String {
    let text = c.run("INFO stats").as_text();
    text.lines().find(|l| l.starts_with("expired_keys:")).expect("expired_keys").to_owned()
}

#[test]
fn readers_delete_nothing_while_writing_is_paused() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        fill(&mut c, 60);
        assert_eq!(c.run("CLIENT PAUSE 600000 WRITE"), ok());
        std::thread::sleep(Duration::from_millis(80));
        let before = expired_keys(&mut c);
        read_all(&mut c, true);
        assert_eq!((c.run("DBSIZE"), expired_keys(&mut c)), (int(KEYS.len() as i64), before));
        assert_eq!(c.run("CLIENT UNPAUSE"), ok());
        // Now they go, as they are met.
        assert!(c.run("RANDOMKEY").is_nil());
        assert_eq!(c.run("DBSIZE"), int(0));
    });
}

/// The primary stands still when the deadlines come, and has moved one of them before
/// that: nothing must be gone when the replica hears of it.
#[test]
fn readers_delete_nothing_at_a_replica() {
    each_cores(|replica| {
        let primary = Server::start(&["--cores", "2"]);
        let (mut p, mut r) = (primary.wire(), replica.wire());
        r.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        eventually("the link", LIMIT, || r.run("INFO replication").as_text().contains("master_link_status:up"));
        fill(&mut p, 1500);
        let last = format!("PTTL {}", KEYS[KEYS.len() - 1].0);
        eventually("the keys", LIMIT, || r.run(&last).as_int() > 0);
        primary.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1600));
        let before = expired_keys(&mut r);
        read_all(&mut r, false);
        assert_eq!((r.run("DBSIZE"), expired_keys(&mut r)), (int(KEYS.len() as i64), before));
        primary.signal(libc::SIGCONT);
        eventually("deletions of the primary", LIMIT, || r.run("DBSIZE") == int(0));
    });
}

/// With some that live among many that have expired, RANDOMKEY finds one that lives.
#[test]
fn a_random_key_lives_if_one_does() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        // On one core, all of them.
        for i in 0..500 {
            c.run(&format!("SET {{t}}{i} v PX 30"));
        }
        c.run("SET {t}lives v");
        assert_eq!(c.run("CLIENT PAUSE 600000 WRITE"), ok());
        std::thread::sleep(Duration::from_millis(50));
        for _ in 0..5 {
            assert_eq!(c.run("RANDOMKEY"), bulk("{t}lives"));
        }
    });
}

/// Readers of a hash of which the fields `a` and `c` have ended, `b` and `d` have not,
/// and of a list with the key's name; and what they say.
const FIELD_READERS: [(&str, &str); 17] = [
    ("HGET h a", "nil"),
    ("HGET h b", "\"2\""),
    ("HMGET h a b c d", "[nil, \"2\", nil, \"4\"]"),
    ("HLEN h", ":2"),
    ("HEXISTS h a", ":0"),
    ("HEXISTS h d", ":1"),
    ("HSTRLEN h c", ":0"),
    ("HSTRLEN h d", ":1"),
    ("HTTL h FIELDS 3 a b none", "[:-2, :-1, :-2]"),
    ("HPEXPIRETIME h FIELDS 2 c d", "[:-2, :-1]"),
    ("HKEYS h", "[\"b\", \"d\"]"),
    ("HVALS h", "[\"2\", \"4\"]"),
    ("HGETALL h", "[\"b\", \"2\", \"d\", \"4\"]"),
    ("HRANDFIELD h 9", "[\"b\", \"d\"]"),
    ("HSCAN h 0", "[\"0\", [\"b\", \"2\", \"d\", \"4\"]]"),
    ("HSCAN h 0 NOVALUES", "[\"0\", [\"b\", \"d\"]]"),
    ("SORT_RO list BY nosort GET *->a GET *->b", "[nil, \"2\"]"),
];

fn read_fields(c: &mut Wire) {
    for (reader, want) in FIELD_READERS {
        assert_eq!(format!("{:?}", c.run(reader)), want, "{reader}");
        assert_eq!(c.run("MULTI"), ok());
        c.run(reader);
        assert_eq!(format!("{:?}", c.run("EXEC")), format!("[{want}]"), "{reader}");
    }
    for _ in 0..50 {
        let field = c.run("HRANDFIELD h").as_text();
        assert!(["b", "d"].contains(&&*field), "{field}");
    }
}

fn fill_fields(c: &mut Wire, ttl_ms: u64) {
    c.run("RPUSH list h");
    c.run("HSET h a 1 b 2 c 3 d 4");
    assert_eq!(c.run(&format!("HPEXPIRE h {ttl_ms} FIELDS 2 a c")).items(), [int(1), int(1)]);
}

#[test]
fn fields_that_have_ended_are_hidden_while_writing_is_paused() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        fill_fields(&mut c, 60);
        assert_eq!(c.run("CLIENT PAUSE 600000 WRITE"), ok());
        std::thread::sleep(Duration::from_millis(80));
        read_fields(&mut c);
        assert!(c.run("INFO stats").as_text().contains("expired_subkeys:0"));
        assert_eq!(c.run("CLIENT UNPAUSE"), ok());
        read_fields(&mut c);
        assert!(c.run("INFO stats").as_text().contains("expired_subkeys:2"));
    });
}

#[test]
fn fields_that_have_ended_are_hidden_and_stay_at_a_replica() {
    each_cores(|replica| {
        let primary = Server::start(&["--cores", "2"]);
        let (mut p, mut r) = (primary.wire(), replica.wire());
        r.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        eventually("the link", LIMIT, || r.run("INFO replication").as_text().contains("master_link_status:up"));
        fill_fields(&mut p, 1000);
        eventually("the fields", LIMIT, || r.run("HTTL h FIELDS 1 c").items()[0].as_int() >= 0);
        primary.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1100));
        read_fields(&mut r);
        assert!(r.run("INFO stats").as_text().contains("expired_subkeys:0"));
        primary.signal(libc::SIGCONT);
        eventually("deletions of the primary", LIMIT, || p.run("HLEN h") == int(2));
        read_fields(&mut r);
    });
}
