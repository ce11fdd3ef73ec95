//! DUMP and RESTORE beside a stock server: the same payloads where Redis's
//! encoding follows from the commands, and each other's payloads restored.

use super::support::{Rng, Server, Value, Wire, each_cores, ok, plain};

type Command = Vec<Vec<u8>>;

/// A key, the commands that make it, and whether its payload follows from them.
type Made = (String, Vec<Command>, bool);

fn words(line: &str) -> Command {
    line.split(' ').map(|w| w.as_bytes().to_vec()).collect()
}

fn values(rng: &mut Rng) -> Vec<Made> {
    let mut all: Vec<Made> = Vec::new();
    let mut add = |name: String, commands: Vec<Command>, same: bool| all.push((name, commands, same));
    for (i, v) in
        ["0", "-1", "127", "128", "-32769", "2147483648", "12345678901234567890", "007", "", "-"].iter().enumerate()
    {
        let name = format!("int{i}");
        add(name.clone(), vec![vec![b"SET".to_vec(), name.into_bytes(), v.as_bytes().to_vec()]], true);
    }
    for i in 0..60 {
        // Text of few different words: it compresses in all sorts of ways.
        let n = rng.below(if i % 10 == 0 { 20_000 } else { 400 });
        let mut text = Vec::new();
        while text.len() < n {
            match rng.below(4) {
                0 => text.extend_from_slice(b"the quick brown fox "),
                1 => text.extend_from_slice(&vec![b'x'; rng.below(300)]),
                2 => text.extend_from_slice(rng.next().to_string().as_bytes()),
                _ => text.extend_from_slice(&rng.bytes(6)),
            }
        }
        let name = format!("text{i}");
        add(name.clone(), vec![vec![b"SET".to_vec(), name.into_bytes(), text]], true);
    }
    for i in 0..40 {
        let n = [3, 30, 200, 1200][i % 4];
        let member = |rng: &mut Rng| match rng.below(3) {
            0 => rng.between(-70_000, 70_000).to_string(),
            1 => format!("member:{}", rng.below(1000)),
            _ => "m".repeat(rng.below(50)),
        };
        let (mut list, mut ints, mut hash, mut zset, mut set) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..n {
            list.push(words(&format!("RPUSH list{i} {}", member(rng))));
            ints.push(words(&format!("SADD ints{i} {}", rng.between(-1 << (8 * (1 + i % 7)), 1 << (8 * (1 + i % 7))))));
            hash.push(words(&format!("HSET hash{i} {} {}", member(rng), member(rng))));
            let score = ["1.5", "-3", "inf", "100000000000000000000", "0.1"][rng.below(5)];
            zset.push(words(&format!("ZADD zset{i} {score} {}", member(rng))));
            set.push(words(&format!("SADD set{i} {}", member(rng))));
        }
        // Redis 7.2 and this server fill a list's first node further than 7.0.
        add(format!("list{i}"), list, n <= 200);
        add(format!("ints{i}"), ints, n <= 200);
        add(format!("hash{i}"), hash, n <= 30);
        add(format!("zset{i}"), zset, true);
        add(format!("set{i}"), set, false);
    }
    all
}

fn content(wire: &mut Wire, key: &str) -> Value {
    match wire.cmd(&["TYPE", key]).as_text().as_str() {
        "string" => wire.cmd(&["GET", key]),
        "list" => wire.cmd(&["LRANGE", key, "0", "-1"]),
        "set" => wire.cmd(&["SMEMBERS", key]).sorted(),
        "hash" => wire.cmd(&["HGETALL", key]).sorted_pairs(),
        "zset" => wire.cmd(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
        other => panic!("{key} is a {other}"),
    }
}

#[test]
fn payloads_agree_with_a_stock_server() {
    let stock = Server::stock(&[]);
    each_cores(|server| {
        let mut rng = Rng::new(5);
        let (mut ours, mut other) = (server.wire(), stock.wire());
        other.run("FLUSHALL");
        for (name, commands, same) in values(&mut rng) {
            for command in &commands {
                let (a, b) = (ours.cmd(command), other.cmd(command));
                assert_eq!(a, b, "{name}");
            }
            let (a, b) = (ours.cmd(&["DUMP", &name]), other.cmd(&["DUMP", &name]));
            if same {
                assert_eq!(a, b, "DUMP {name}");
            }
            let copy = format!("{name}-copy");
            let restore = |wire: &mut Wire, payload: &Value| {
                let reply = wire.cmd(&[b"RESTORE", copy.as_bytes(), b"0", payload.as_bytes()]);
                assert_eq!(reply, ok(), "RESTORE {name}");
                content(wire, &copy)
            };
            let want = content(&mut other, &name);
            assert_eq!(restore(&mut ours, &b), want, "{name} of the stock server");
            assert_eq!(restore(&mut other, &a), want, "{name} of this server");
        }
    });
}

#[test]
fn a_payload_is_refused_after_any_change() {
    each_cores(|server| {
        let mut wire = server.wire();
        wire.run("ZADD z 1 a 2.5 b 3 c");
        let payload = wire.run("DUMP z").as_bytes().to_vec();
        for at in 0..payload.len() {
            let mut bad = payload.clone();
            bad[at] ^= 1 << (at % 8);
            let reply = wire.cmd(&[b"RESTORE", &b"x"[..], b"0", &bad]);
            assert_eq!(reply.as_error(), "ERR DUMP payload version or checksum are wrong");
        }
        assert_eq!(wire.run("EXISTS x").as_int(), 0);
        if plain() {
            return;
        }
        // In a transaction over several keys, and with what it replaces.
        wire.run("MULTI");
        wire.cmd(&[b"RESTORE", &b"y1"[..], b"0", &payload]);
        wire.cmd(&[b"RESTORE", &b"y2"[..], b"5000", &payload]);
        wire.cmd(&[b"RESTORE", &b"y1"[..], b"0", &payload, b"REPLACE"]);
        let all = wire.run("EXEC");
        assert!(all.items().iter().all(|r| *r == ok()), "{all:?}");
        assert_eq!(wire.run("ZCARD y2").as_int(), 3);
        assert!((1..=5000).contains(&wire.run("PTTL y2").as_int()));
    });
}
