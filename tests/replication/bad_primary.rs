//! Primaries that send nonsense at every step: the link is dropped with a line
//! in the log, what the replica had is kept where that is promised, it tries
//! again, and follows a good primary afterwards. Memory stays bounded.
//!
//! `STOCK_REPLICA=1` plays the same with redis-server as the replica, to see what
//! it does.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::fake_primary::*;
use super::servers::*;
use super::support::process::resident_bytes;
use super::support::{Rng, Server, Wire, bulk, encode, eventually, ok};

/// A replica gives up on a silent primary after so long.
const PATIENCE: [&str; 2] = ["--repl-timeout", "2"];

fn replica(cores: usize, args: &[&str]) -> Server {
    match std::env::var_os("STOCK_REPLICA") {
        Some(_) => stock(&[&PATIENCE[..], args].concat()),
        None => ours(cores, &[&PATIENCE[..], args].concat()),
    }
}

/// A snapshot with a few keys.
fn snapshot() -> Vec<u8> {
    let server = stock(&[]);
    let mut wire = server.wire();
    for line in ["SET s v", "RPUSH l a b 1 2", "HSET h f v g w", "ZADD z 1 a 2 b", "SADD set x y", "XADD x 1-1 f v"] {
        assert!(!wire.run(line).is_error());
    }
    wire.cmd(&["SET", "packed", &"abc".repeat(100)]);
    wire.run("SAVE");
    std::fs::read(server.dir().join("dump.rdb")).expect("a snapshot")
}

struct Case {
    name: String,
    steps: Vec<Step>,
}

fn with(mut steps: Vec<Step>, more: Vec<Step>, name: &str) -> Case {
    steps.extend(more);
    Case { name: name.into(), steps }
}

/// Answers that are wrong wherever they stand.
fn nonsense() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("nothing", vec![]),
        ("the end", vec![Step::Close]),
        ("half a line", vec![Step::say("+PO")]),
        ("half a line and the end", vec![Step::say("+"), Step::Close]),
        ("zeros", vec![Step::say([0; 500]), Step::say("\r\n")]),
        ("an endless line", vec![Step::Flood(vec![b'x'; 1 << 16], 160)]),
        ("an endless error", vec![Step::say("-ERR "), Step::Flood(vec![b'x'; 1 << 16], 160)]),
        ("an array", vec![Step::say("*1\r\n$4\r\nPONG\r\n")]),
        ("bytes beyond ASCII", vec![Step::say([0xFF; 100]), Step::say("\r\n")]),
    ]
}

fn handshakes() -> Vec<Case> {
    let mut cases = Vec::new();
    let first = || vec![Step::Hear("PING\r\n")];
    let second = || vec![Step::Hear("PING\r\n"), Step::say("+PONG\r\n"), Step::Hear("listening-port")];
    let header = || [greeting(), vec![Step::say(format!("+FULLRESYNC {ID} 100\r\n"))]].concat();
    for (name, steps) in nonsense() {
        cases.push(with(first(), steps.clone(), &format!("instead of PONG: {name}")));
        // After an array's first line SYNC is tried, and the rest taken for a copy.
        if name != "an array" {
            cases.push(with(greeting(), steps.clone(), &format!("instead of FULLRESYNC: {name}")));
        }
        cases.push(with(header(), steps.clone(), &format!("instead of the size: {name}")));
        if name != "an array" && !name.contains("zeros") && !name.contains("beyond") {
            cases.push(with(second(), steps, &format!("instead of OK: {name}")));
        }
    }
    for text in ["-ERR no\r\n", "-LOADING wait\r\n", "$5\r\nhello\r\n", ":1\r\n", "\r\n\r\n\r\n", "PONG\r\n"] {
        cases.push(with(first(), vec![Step::say(text)], &format!("to PING: {text:?}")));
    }
    let big = format!("{ID} 99999999999999999999");
    let last = format!("{ID} 9223372036854775808");
    let long = format!("{ID}0 5");
    let short = format!("{} 5", &ID[1..]);
    let odd = format!("{} 5", ID.replace('0', "g"));
    let (minus, words, none) = (format!("{ID} -1"), format!("{ID} abc"), ID.to_string());
    for rest in ["", " ", "x 5", &none, &minus, &words, &big, &last, &long, &short, &odd, "\0 \0"] {
        let steps = vec![Step::say(format!("+FULLRESYNC {rest}\r\n"))];
        cases.push(with(greeting(), steps, &format!("+FULLRESYNC {rest:?}")));
    }
    for line in ["+CONTINUE", "+CONTINUE x", "-NOMASTERLINK no", "-LOADING wait", "-ERR unknown command"] {
        // After the last, SYNC is tried; it gets no answer.
        cases.push(with(greeting(), vec![Step::say(format!("{line}\r\n"))], line));
    }
    for line in [
        "$-5",
        "$-1",
        "$",
        "$ 5",
        "$abc",
        "$5x",
        "$99999999999999999999",
        "+OK",
        ":5",
        "*1",
        "$EOF",
        "$EOF:",
        "$EOF:abc",
        "-ERR no",
    ] {
        cases.push(with(header(), vec![Step::say(format!("{line}\r\n"))], &format!("size {line:?}")));
    }
    let mark = "m".repeat(39);
    cases.push(with(header(), vec![Step::say(format!("$EOF:{mark}\r\n"))], "a short mark"));
    cases.push(with(header(), vec![Step::say(format!("$EOF:{mark}mm\r\n"))], "a long mark"));
    cases
}

/// Has the key this value?
fn has(server: &Server, key: &str, value: &str) -> bool {
    server.wire().cmd(&["GET", key]) == bulk(value)
}

/// The replica follows nobody.
fn alone(replica: &Server) {
    eventually("it loads no more", LIMIT, || !replica.wire().run("REPLICAOF NO ONE").is_error());
}

/// Plays cases with a replica until it has dropped the link twice.
fn play(replica: &Server, fake: &FakePrimary, case: &Case, kept: bool) {
    alone(replica);
    let mut wire = replica.wire();
    wire.run("FLUSHALL");
    assert_eq!(wire.run("SET kept 1"), ok(), "{}", case.name);
    assert_eq!(wire.run("SAVE"), ok(), "{}", case.name);
    let file = replica.dir().join("dump.rdb");
    let saved = std::fs::read(&file).expect("the snapshot");
    fake.play(case.steps.clone());
    let seen = replica.log().len();
    replicate(replica, fake.port);
    for _ in 0..2 {
        let visit = fake.visit(Duration::from_secs(12));
        assert!(visit.is_some(), "{}: the link is kept:\n{}", case.name, &replica.log()[seen..]);
    }
    let log = replica.log()[seen..].to_string();
    let lines = log.lines().filter(|l| l.contains(" # ")).count();
    assert!(lines >= 1, "{}: no line about it: {log}", case.name);
    assert_eq!(info(replica, "master_link_status").trim(), "down", "{}", case.name);
    alone(replica);
    assert!(!kept || has(replica, "kept", "1"), "{}: it is lost: {log}", case.name);
    if std::env::var_os("STOCK_REPLICA").is_none() {
        assert!(std::fs::read(&file).is_ok_and(|now| now == saved), "{}: the file is replaced", case.name);
        let said = !case.name.starts_with("endless") || log.contains("too long to be loaded at offset ");
        assert!(said, "{}: {log}", case.name);
    }
}

/// Plays all cases, several replicas at a time; then each follows a good primary.
fn play_all(cases: &[Case], args: &[&str], kept: impl Fn(&Case) -> bool + Sync) {
    let good = stock(&[]);
    good.wire().run("SET good 1");
    let next = AtomicUsize::new(0);
    let worst = Mutex::new(0);
    std::thread::scope(|scope| {
        for cores in [1, 4].repeat(4) {
            let (good, next, worst, kept) = (&good, &next, &worst, &kept);
            scope.spawn(move || {
                let replica = replica(cores, args);
                let fake = FakePrimary::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    play(&replica, &fake, case, kept(case));
                    let mut worst = worst.lock().expect("a lock");
                    *worst = resident_bytes(replica.pid()).max(*worst);
                }
                replicate(&replica, good.port);
                wait_for_link(&replica);
                wait_until_equal(good, &[&replica]);
                assert!(has(&replica, "good", "1"));
            });
        }
    });
    let worst = worst.into_inner().expect("a lock");
    println!("{} cases; {} MB of memory at most", cases.len(), worst >> 20);
    assert!(worst < 300 << 20, "{worst} bytes");
}

#[test]
fn nonsense_at_every_step_of_the_handshake() {
    play_all(&handshakes(), &[], |_| true);
}

/// Copies that are cut, changed, too short or too long for their size, in both
/// framings.
fn copies(rdb: &[u8], samples: usize) -> Vec<Case> {
    let begin =
        |header: String| [greeting(), vec![Step::say(format!("+FULLRESYNC {ID} 100\r\n{header}\r\n"))]].concat();
    let sized = |n: usize| begin(format!("${n}"));
    let mark = "e".repeat(40);
    let marked = || begin(format!("$EOF:{mark}"));
    let mut cases = Vec::new();
    let mut rng = Rng::new(super::support::env_number("DAMAGE_SEED", 1));
    for _ in 0..samples {
        let at = rng.below(rdb.len());
        let mut bad = rdb.to_vec();
        bad[at] ^= 1 << rng.below(8);
        cases.push(with(sized(rdb.len()), vec![Step::say(&bad)], &format!("changed at {at}")));
        cases.push(with(marked(), vec![Step::say(&bad), Step::say(&mark)], &format!("marked, changed at {at}")));
        cases.push(with(sized(at), vec![Step::say(&rdb[..at])], &format!("whole, but cut at {at}")));
        cases.push(with(marked(), vec![Step::say(&rdb[..at]), Step::say(&mark)], &format!("marked, cut at {at}")));
        let end = vec![Step::say(&rdb[..at]), Step::Close];
        cases.push(with(sized(rdb.len()), end.clone(), &format!("torn at {at}")));
        cases.push(with(marked(), end, &format!("torn, marked, at {at}")));
        cases.push(with(sized(rdb.len()), vec![Step::say(&rdb[..at])], &format!("torn, silence at {at}")));
    }
    let trillion = vec![Step::say(rdb), Step::Close];
    cases.push(with(begin("$99999999999999".into()), trillion.clone(), "torn, of 99 TB"));
    cases.push(with(marked(), vec![Step::say(rdb), Step::Close], "torn before its mark"));
    // A length of a tebibyte, and bytes for ever.
    let endless: [(&str, &[u8]); 4] = [
        ("value", b"REDIS0010\xfe\x00\x00\x01k"),
        ("key", b"REDIS0010\xfe\x00\x00"),
        ("element", b"REDIS0010\xfe\x00\x02\x01k\x02\x01a"),
        ("field", b"REDIS0010\xfa\x01a"),
    ];
    for (name, head) in endless {
        let head = [head, b"\x81\0\0\x01\0\0\0\0\0"].concat();
        let more = vec![Step::say(&head), Step::Flood(vec![b'v'; 1 << 16], 1 << 14)];
        cases.push(with(marked(), more.clone(), &format!("endless, marked: a {name}")));
        cases.push(with(begin(format!("${}", 2u64 << 40)), more, &format!("endless: a {name}")));
    }
    let wrong = "f".repeat(40);
    cases.push(with(marked(), vec![Step::say(rdb), Step::say(&wrong)], "torn, another mark, silence"));
    let more = vec![Step::say(rdb), Step::Flood(vec![b'f'; 1 << 16], 320), Step::Close];
    cases.push(with(marked(), more, "torn, 20 MB instead of the mark"));
    cases.push(with(sized(0), vec![], "of no bytes"));
    cases.push(with(sized(rdb.len() / 2), vec![Step::say(rdb)], "larger than its size"));
    cases.push(with(sized(1000), vec![Step::say([b'?'; 1000])], "no snapshot at all"));
    let huge = [b"REDIS0010\x00\x01k\x81\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(), vec![b'v'; 100]].concat();
    cases.push(with(sized(huge.len()), vec![Step::say(&huge)], "a string of 8 EB"));
    cases.push(with(marked(), vec![Step::say(&huge), Step::say(&mark)], "marked, a string of 8 EB"));
    let twice = b"REDIS0010\xfe\x00\x00\x01k\x01a\x00\x01k\x01b\xff\0\0\0\0\0\0\0\0";
    cases.push(with(sized(twice.len()), vec![Step::say(twice)], "a key twice"));
    let far = b"REDIS0010\xfe\x40\x99\x00\x01k\x01a\xff\0\0\0\0\0\0\0\0";
    cases.push(with(sized(far.len()), vec![Step::say(far)], "a database that is not there"));
    let library = b"REDIS0010\xf5\x09!lua what\xff\0\0\0\0\0\0\0\0";
    cases.push(with(sized(library.len()), vec![Step::say(library)], "no library"));
    cases
}

/// Of a copy that is damaged this shows only when it is loaded, the old data gone.
fn shows_late(case: &Case) -> bool {
    case.name == "a key twice"
}

/// What is damaged or has not come whole replaces nothing.
#[test]
fn bad_copies_by_way_of_a_file() {
    play_all(&copies(&snapshot(), 3), &[], |case| !shows_late(case));
}

#[test]
fn bad_copies_into_an_empty_keyspace() {
    // It is never empty here: like the first.
    let args = ["--repl-diskless-load", "on-empty-db"];
    play_all(&copies(&snapshot(), 1), &args, |case| !shows_late(case));
}

/// Beside the old data, nothing bad replaces it.
#[test]
fn bad_copies_beside_the_old_data() {
    play_all(&copies(&snapshot(), 3), &["--repl-diskless-load", "swapdb"], |_| true);
}

fn commands(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|l| encode(&l.split(' ').collect::<Vec<_>>())).collect()
}

/// A replica that follows a fake primary whose stream this is.
fn following(replica: &Server, fake: &FakePrimary, rdb: &[u8], stream: &[u8]) {
    alone(replica);
    fake.play(synced(rdb, 100, stream));
    replicate(replica, fake.port);
}

/// A stream that is none: the link is dropped, and since what the primary has is
/// in doubt, the next attempt asks for a copy.
#[test]
fn a_stream_of_garbage() {
    let rdb = snapshot();
    let garbage: [&[u8]; 12] = [
        b"hello\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"$3\r\nabc\r\n",
        &[0; 10_000],
        &[0xFF; 10_000],
        b"*99999999999\r\n",
        b"*x\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n$4\r\npingxx",
        &[b'*'; 100_000],
    ];
    let sound = commands(&["SELECT 0", "SET before 1", "PING"]);
    let play = &|cores: usize, garbage: &[&[u8]]| {
        let replica = replica(cores, &[]);
        let fake = FakePrimary::new();
        for bytes in garbage {
            let seen = replica.log().len();
            following(&replica, &fake, &rdb, &[&sound[..], bytes].concat());
            let shown = bytes[..bytes.len().min(20)].escape_ascii().to_string();
            let (first, second) = (fake.visit(LIMIT), fake.visit(LIMIT));
            let log = replica.log()[seen..].to_string();
            assert!(first.is_some() && second.is_some(), "{shown}: {log}");
            assert!(second.is_some_and(|v| v.heard("PSYNC\r\n$1\r\n?\r\n$2\r\n-1")), "{shown}: {log}");
            assert!(log.contains("rotocol"), "{shown}: {log}");
            eventually("what stands before the garbage", LIMIT, || has(&replica, "before", "1"));
            eventually("the copy", LIMIT, || has(&replica, "s", "v"));
        }
    };
    std::thread::scope(|scope| {
        for cores in [1, 4] {
            for part in garbage.chunks(4) {
                scope.spawn(move || play(cores, part));
            }
        }
    });
}

/// Commands that cannot be applied, and claims of what never comes: the link
/// stays, what is sound is applied, and no memory is taken.
#[test]
fn a_stream_of_bad_commands() {
    let rdb = snapshot();
    let streams: [(&str, &[&str]); 12] = [
        ("unknown", &["NOSUCH a b", "nosuch", "SET x 1"]),
        ("wrong arity", &["SET", "GET", "SET a", "MSET a", "XADD x", "SET x 1"]),
        ("wrong type", &["LPUSH s a", "INCR l", "XADD s * a b", "SET x 1"]),
        ("databases", &["SELECT 99", "SELECT -1", "SELECT a", "SELECT", "SELECT 0 0", "SET x 1"]),
        ("exec alone", &["EXEC", "EXEC a", "DISCARD", "SET x 1"]),
        ("nested", &["MULTI", "MULTI", "SET y 1", "MULTI a", "SET x 1", "EXEC"]),
        ("discarded", &["MULTI", "SET no 1", "DISCARD", "SET x 1"]),
        ("bad within", &["MULTI", "NOSUCH", "SET", "SET x 1", "EXEC", "SET x 1"]),
        (
            "getack",
            &["REPLCONF", "REPLCONF GETACK", "REPLCONF ACK 5", "REPLCONF a b c", "REPLCONF GETACK *", "SET x 1"],
        ),
        ("published", &["PUBLISH", "PUBLISH a", "PUBLISH a b", "SPUBLISH a b", "PUBLISH a b c", "SET x 1"]),
        ("sync", &["SYNC", "PSYNC ? -1", "PSYNC a b", "WAIT 1 0", "MONITOR", "SUBSCRIBE a", "SET x 1"]),
        ("blocking", &["BLPOP nothing 0", "BRPOP a b 0", "XREAD BLOCK 0 STREAMS x $", "BZPOPMIN q 0", "SET x 1"]),
    ];
    for cores in [1, 4] {
        let replica = replica(cores, &[]);
        let fake = FakePrimary::new();
        for (name, lines) in streams {
            let seen = replica.log().len();
            let end = format!("SET end {}", name.replace(' ', "-"));
            following(&replica, &fake, &rdb, &[commands(lines), commands(&["SELECT 0", &end])].concat());
            eventually(name, LIMIT, || has(&replica, "end", &name.replace(' ', "-")));
            assert!(has(&replica, "x", "1"), "{name}: {}", &replica.log()[seen..]);
            assert_eq!(replica.wire().run("EXISTS no").as_int(), 0);
            assert_eq!(info(&replica, "master_link_status").trim(), "up", "{name}: {}", &replica.log()[seen..]);
        }
        let before = resident_bytes(replica.pid());
        for (n, claim) in
            [&b"*2147483647\r\n$3\r\nSET\r\n"[..], b"*2\r\n$3\r\nGET\r\n$1073741824\r\nab"].iter().enumerate()
        {
            following(&replica, &fake, &rdb, &[&commands(&[&format!("SET x {n}n")])[..], claim].concat());
            eventually("what stands before", LIMIT, || has(&replica, "x", &format!("{n}n")));
        }
        let after = resident_bytes(replica.pid());
        assert!(after < before + (32 << 20), "{before} bytes, then {after}");
    }
}

/// Half a transaction, then the link breaks: nothing of it shows, and the next
/// attempt goes on before it.
#[test]
fn half_a_transaction() {
    let rdb = snapshot();
    for cores in [1, 4] {
        let replica = replica(cores, &[]);
        let fake = FakePrimary::new();
        let whole = commands(&["SELECT 0", "SET before 1"]);
        let half = commands(&["MULTI", "SET half 1", "INCR half"]);
        let mut steps = synced(&rdb, 100, &[&whole[..], &half].concat());
        steps.extend([Step::Hear("ACK"), Step::Close]);
        fake.play(steps);
        replicate(&replica, fake.port);
        let (_, again) = (fake.visit(LIMIT), fake.visit(LIMIT).expect("another attempt"));
        let next = (100 + whole.len() + 1).to_string();
        let asks = format!("PSYNC\r\n$40\r\n{ID}\r\n${}\r\n{next}\r\n", next.len());
        assert!(again.heard(&asks), "{}", again.heard.escape_ascii());
        eventually("what stands before", LIMIT, || has(&replica, "before", "1"));
        assert_eq!(replica.wire().run("EXISTS half").as_int(), 0);
    }
}

/// Names of all commands but those by which a primary may end its replica.
fn names(wire: &mut Wire) -> Vec<String> {
    let dangerous = ["shutdown", "debug", "replicaof", "slaveof", "failover", "flushall", "flushdb"];
    let all = wire.run("COMMAND LIST");
    let mut names: Vec<String> = all.items().iter().map(|n| n.as_text()).filter(|n| !n.contains('|')).collect();
    names.retain(|n| !dangerous.contains(&n.as_str()));
    names.sort();
    names
}

/// Any command with any arguments from a primary: the replica lives, and goes on.
#[test]
fn any_command_in_the_stream() {
    let rdb = snapshot();
    for cores in [1, 4] {
        let replica = replica(cores, &[]);
        let fake = FakePrimary::new();
        let names = names(&mut replica.wire());
        let mut rng = Rng::new(super::support::env_number("DAMAGE_SEED", 1));
        let words = [
            "s",
            "l",
            "h",
            "z",
            "set",
            "x",
            "0",
            "-1",
            "9999999999999",
            "a",
            "*",
            "",
            "COUNT",
            "GET",
            "STREAMS",
            "LIMIT",
            "1",
            "inf",
            "BLOCK",
        ];
        let mut stream = Vec::new();
        for round in 0..4 {
            for name in &names {
                let within = round == 3 && rng.one_in(2);
                let mut line = vec![name.as_str()];
                for _ in 0..[0, 1, 3, 6][round] {
                    line.push(*rng.pick(&words));
                }
                // The connection is the primary's own: what closes it or makes it
                // silent is its business.
                if ["quit", "reset", "client", "hello", "auth", "config", "acl"].contains(&name.as_str()) {
                    continue;
                }
                if within {
                    stream.extend(commands(&["MULTI"]));
                }
                stream.extend(encode(&line));
                if within {
                    stream.extend(commands(&["EXEC"]));
                }
            }
        }
        stream.extend(commands(&["SELECT 0", "DEL last", "SET last 1"]));
        following(&replica, &fake, &rdb, &stream);
        eventually("the last command", LIMIT, || has(&replica, "last", "1"));
        println!("{} commands, {} bytes, {cores} cores", names.len(), stream.len());
        drop(fake);
        let good = stock(&[]);
        replicate(&replica, good.port);
        wait_for_link(&replica);
        wait_until_equal(&good, &[&replica]);
    }
}

/// A connection that is reset while the replica greets: whichever of its tasks
/// notices first, it tries again in a second and not after `repl-timeout`.
#[test]
fn resets_at_once() {
    const TRIES: usize = 8;
    let rounds: Vec<_> = (0..4).map(|n| std::thread::spawn(move || resets_while_it_greets(TRIES, n))).collect();
    rounds.into_iter().for_each(|r| r.join().expect("a round"));
}

/// Resets each connection some tenths of a millisecond after it is made.
fn resets_while_it_greets(tries: usize, tenths: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let replica = ours(1, &["--repl-timeout", "60"]);
    replicate(&replica, listener.local_addr().expect("an address").port());
    let began = Instant::now();
    for socket in listener.incoming().flatten().take(tries) {
        std::thread::sleep(Duration::from_micros(100 * tenths));
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an abrupt end");
    }
    // A second each; one that is not noticed takes a minute.
    assert!(began.elapsed() < Duration::from_secs(40), "{}", replica.log());
}
