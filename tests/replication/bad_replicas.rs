//! Replicas that ask for nonsense, acknowledge what was never sent, do not read,
//! hang up at every stage, or come by the hundred: the primary answers as Redis
//! does, keeps its memory within its limits, and serves honest ones.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::servers::*;
use super::support::process::resident_bytes;
use super::support::{Rng, Server, Wire, eventually};

/// What a server sends in answer to these bytes, until it closes the connection or
/// is silent; identifiers, offsets and what follows a copy's header left out.
fn answer(server: &Server, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).expect("connect");
    socket.write_all(bytes).expect("write");
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let mut end = " (open)";
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        let quiet = if all.is_empty() { 1500 } else { 250 };
        socket.set_read_timeout(Some(Duration::from_millis(quiet))).expect("a timeout");
        match socket.read(&mut buffer) {
            Ok(0) => {
                end = " (closed)";
                break;
            }
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(_) => break,
        }
        if memchr::memchr(b'$', &all).is_some_and(|at| all[at..].starts_with(b"$EOF") || all.starts_with(b"+FULL")) {
            break;
        }
    }
    // A copy follows: how far it has come is chance.
    let header = memchr::memchr(b'$', &all).filter(|_| memchr::memmem::find(&all, b"REDIS").is_some());
    let text = String::from_utf8_lossy(&all[..header.unwrap_or(all.len())]).into_owned();
    let mut lines = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        match line.split_once(' ') {
            Some(("+FULLRESYNC", _)) => return [&lines.join("|"), "+FULLRESYNC"].concat(),
            _ => lines.push(line.to_string()),
        }
    }
    let copy = memchr::memchr(b'$', &all).is_some_and(|at| all[at..].starts_with(b"$EOF")) || header.is_some();
    let end = if copy { " (a copy)" } else { end };
    [&lines.join("|"), end].concat()
}

/// Requests around PSYNC, SYNC and REPLCONF. `{id}` is the primary's own.
fn requests() -> Vec<String> {
    let mut all: Vec<String> = [
        "PSYNC",
        "PSYNC ?",
        "PSYNC ? -1 x",
        "PSYNC ? -1 FAILOVER",
        "PSYNC {id} 1 FAILOVER",
        "PSYNC a b c d",
        "SYNC a",
        "SYNC",
        "MULTI\r\nPSYNC ? -1\r\nEXEC",
        "MULTI\r\nSYNC\r\nEXEC",
        "SUBSCRIBE a\r\nPSYNC ? -1",
        "HELLO 3\r\nPSYNC ? -1",
        "PING\r\nPSYNC ? -1",
        "MONITOR\r\nPSYNC ? -1",
        "REPLCONF",
        "REPLCONF a",
        "REPLCONF a b",
        "REPLCONF listening-port",
        "REPLCONF listening-port abc",
        "REPLCONF listening-port -1",
        "REPLCONF listening-port 70000",
        "REPLCONF listening-port 99999999999999999999",
        "REPLCONF capa",
        "REPLCONF capa x capa y capa z",
        "REPLCONF capa eof capa",
        "REPLCONF ip-address",
        "REPLCONF ip-address \"\"",
        "REPLCONF ip-address \"a\\r\\nb\"",
        "REPLCONF ack",
        "REPLCONF ack 5",
        "REPLCONF ack abc",
        "REPLCONF ack -5",
        "REPLCONF getack *",
        "REPLCONF getack",
        "REPLCONF rdb-only",
        "REPLCONF rdb-only abc",
        "REPLCONF rdb-only 7",
        "REPLCONF rdb-filter-only x",
        "REPLCONF rdb-filter-only \"functions x\"",
        "REPLCONF rdb-filter-only \"\\\"\"",
        "REPLCONF listening-port 1 a b",
        "REPLCONF a b listening-port 1",
    ]
    .map(String::from)
    .to_vec();
    all.push(format!("REPLCONF ip-address {}", "x".repeat(300)));
    all.push(format!("REPLCONF {} 1", "x".repeat(300)));
    let ids = ["?", "{id}", "abc", &"0".repeat(40), &"g".repeat(40), &"a".repeat(41), &"a".repeat(5000), "\"\""];
    for id in ids {
        for offset in ["-1", "0", "1", "-9223372036854775808", "9223372036854775807"] {
            all.push(format!("PSYNC {id} {offset}"));
        }
    }
    for offset in ["99999999999999999999", "abc", "\"\"", "1.5", "0x1", "+1", "\" 1\""] {
        all.push(format!("PSYNC {{id}} {offset}"));
    }
    all
}

/// A primary with a backlog and something in it.
fn primary(ours_: bool, cores: usize) -> Server {
    let args = ["--repl-backlog-size", "1mb", "--repl-diskless-sync", "yes", "--repl-ping-replica-period", "3600"];
    let server = if ours_ { ours(cores, &args) } else { stock(&args) };
    let replica = stock(&[]);
    replicate(&replica, server.port);
    wait_for_link(&replica);
    server.wire().run("SET a 1");
    wait_until_equal(&server, &[&replica]);
    server
}

/// Requests of which the answer is another, with both.
fn answered_otherwise(requests: &[String]) -> Vec<String> {
    let servers = [primary(false, 1), primary(true, 1), primary(true, 4)];
    let mut differ = Vec::new();
    for request in requests {
        let answers: Vec<String> = std::thread::scope(|scope| {
            let ask = |s| {
                let id = info(s, "master_replid");
                let line = format!("{}\r\n", request.replace("{id}", id.trim()));
                answer(s, line.as_bytes())
            };
            let threads: Vec<_> = servers.iter().map(|s| scope.spawn(move || ask(s))).collect();
            threads.into_iter().map(|t| t.join().expect("an answer")).collect()
        });
        // Ours answers in order whatever is still to be sent, where Redis refuses; a
        // monitor may become a replica; and who asks a primary to take over is
        // sent away.
        let known = ["PING\r\nPSYNC", "HELLO 3\r\nPSYNC", "MONITOR\r\n", "FAILOVER"];
        if known.iter().any(|k| request.contains(k)) {
            continue;
        }
        if answers[1] != answers[0] || answers[2] != answers[0] {
            let shown = &request[..request.len().min(80)];
            differ.push(format!("{shown:?}: stock {:?}, ours {:?} and {:?}", answers[0], answers[1], answers[2]));
        }
    }
    for server in &servers[1..] {
        follows(server);
    }
    differ
}

#[test]
fn requests_are_answered_as_by_redis() {
    let all = requests();
    println!("{} requests", all.len());
    let differ: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> = all.chunks(all.len().div_ceil(4)).map(|p| scope.spawn(|| answered_otherwise(p))).collect();
        parts.into_iter().flat_map(|t| t.join().expect("its answers")).collect()
    });
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// An honest replica gets all of it.
fn follows(primary: &Server) {
    let good = stock(&[]);
    replicate(&good, primary.port);
    wait_for_link(&good);
    primary.wire().run("INCR writes");
    wait_until_equal(primary, &[&good]);
}

/// A replica by hand, in the stream.
fn joined(primary: &Server) -> Wire {
    let mut wire = primary.wire();
    assert_eq!(wire.run("REPLCONF capa eof capa psync2 listening-port 1").as_text(), "OK");
    let (id, offset) = (info(primary, "master_replid"), count(primary, "master_repl_offset"));
    wire.send_words(&format!("PSYNC {} {}", id.trim(), offset + 1));
    assert!(wire.read().as_text().starts_with("CONTINUE"));
    wire
}

/// Acknowledgements: what was never sent ends the link and counts for nobody; what
/// is no number, negative or older than the last changes nothing.
#[test]
fn impossible_acknowledgements() {
    for cores in [1, 4] {
        let primary = ours(cores, &["--min-replicas-to-write", "0"]);
        follows(&primary);
        eventually("no replicas", LIMIT, || info(&primary, "connected_slaves").trim() == "0");
        let mut client = primary.wire();
        let offsets = ["9223372036854775807", "99999999999", "4611686018427387904"];
        for offset in offsets {
            let mut bad = joined(&primary);
            client.run("SET k 1");
            bad.send_words(&format!("REPLCONF ACK {offset}"));
            bad.drain_until_closed(LIMIT);
            assert_eq!(client.run("WAIT 1 20").as_int(), 0, "{offset}");
            eventually("it is dropped", LIMIT, || info(&primary, "connected_slaves").trim() == "0");
        }
        for text in ["-1", "-9223372036854775808", "abc", "99999999999999999999", "1.5", "\"\"", "0"] {
            let mut odd = joined(&primary);
            client.run("SET k 2");
            odd.send_words(&format!("REPLCONF ACK {text}"));
            assert_eq!(client.run("WAIT 1 30").as_int(), 0, "{text}");
            let end = count(&primary, "master_repl_offset");
            odd.send_words(&format!("REPLCONF ACK {end} FACK 9223372036854775807"));
            // Backwards.
            odd.send_words("REPLCONF ACK 1");
            odd.send_words("REPLCONF ACK -7 FACK -7");
            client.run("CONFIG SET min-replicas-to-write 1");
            assert_eq!(client.run("SET k 3").as_text(), "OK", "{text}");
            client.run("CONFIG SET min-replicas-to-write 0");
            let end = count(&primary, "master_repl_offset");
            odd.send_words(&format!("REPLCONF ACK {end} FACK {end}"));
            assert_eq!(client.run("WAIT 1 3000").as_int(), 1, "{text}");
            assert!(info(&primary, "slave0").contains("state=online"), "{text}");
        }
        // A switchover waits for what the replica has, not for what it says it has.
        let mut bad = joined(&primary);
        client.run("CLIENT PAUSE 100 WRITE");
        bad.send_words("REPLCONF ACK 9223372036854775807");
        bad.drain_until_closed(LIMIT);
        assert!(client.run("FAILOVER TO 127.0.0.1 1 TIMEOUT 100").is_error());
        follows(&primary);
    }
}

/// Commands on the link of a replica: nothing is done and nothing gets into the
/// stream.
#[test]
fn commands_of_replicas() {
    for cores in [1, 4] {
        let primary = ours(cores, &[]);
        follows(&primary);
        for line in [
            "SET a b",
            "GET writes",
            "PSYNC ? -1",
            "SYNC",
            "MULTI",
            "SUBSCRIBE x",
            "nonsense",
            "*1",
            "REPLCONF x",
            "PING",
            "",
        ] {
            let mut link = joined(&primary);
            let _ = link.try_send(format!("{line}\r\n"));
            primary.wire().run("SET sentinel 1");
            // It is dropped, or goes on to get the stream, and only that.
            link.set_limit(Duration::from_secs(5));
            let mut seen = Vec::new();
            loop {
                match link.try_read() {
                    Ok(v) if v.is_error() => seen.push(format!("{v:?}")),
                    Ok(v) if format!("{v:?}").contains("sentinel") => break,
                    Ok(v) => seen.push(format!("{v:?}")),
                    Err(_) => break,
                }
            }
            println!("{cores} {line:?}: {seen:?}");
            assert_eq!(primary.wire().run("EXISTS a").as_int(), 0, "{line}");
        }
        follows(&primary);
    }
}

/// Several that never read, or a byte at a time, in the stream and in a copy: the
/// primary's memory stays within their limits.
#[test]
fn many_that_do_not_read() {
    let limits =
        ["--client-output-buffer-limit", "replica 8mb 0 0", "--repl-backlog-size", "1mb", "--repl-timeout", "10"];
    for diskless in ["yes", "no"] {
        let primary = ours(2, &[&limits[..], &["--repl-diskless-sync", diskless]].concat());
        follows(&primary);
        let mut client = primary.wire();
        let value = "y".repeat(100_000);
        for i in 0..200 {
            client.cmd(&["SET", &format!("k{i}"), &value]);
        }
        let before = resident_bytes(primary.pid());
        let mut deaf: Vec<Wire> = (0..4).map(|_| joined(&primary)).collect();
        for _ in 0..4 {
            let mut wire = primary.wire();
            wire.send_words("PSYNC ? -1");
            deaf.push(wire);
        }
        let slow = joined(&primary);
        let mut reader = slow.stream().try_clone().expect("a stream");
        let enough = Arc::new(AtomicBool::new(false));
        let its_enough = enough.clone();
        let trickle = std::thread::spawn(move || {
            let mut byte = [0];
            // What has come is there to be read also after the end.
            while !its_enough.load(Ordering::Relaxed) && reader.read_exact(&mut byte).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        eventually("nine replicas", LIMIT, || count(&primary, "connected_slaves") >= 5);
        let mut worst = 0;
        eventually("all are dropped", LIMIT, || {
            for i in 0..40 {
                client.cmd(&["SET", &format!("k{i}"), &value]);
            }
            worst = resident_bytes(primary.pid()).max(worst);
            info(&primary, "connected_slaves").trim() == "0"
        });
        println!("diskless {diskless}: {} MB before, {} MB at most", before >> 20, worst >> 20);
        assert!(worst < before + (96 << 20), "{before} bytes, then {worst}");
        enough.store(true, Ordering::Relaxed);
        let _ = slow.stream().shutdown(Shutdown::Both);
        drop((deaf, slow));
        trickle.join().expect("the slow reader");
        follows(&primary);
    }
}

/// Two hundred at once that hang up at any stage, wholly or by half.
#[test]
fn a_storm_of_replicas() {
    for diskless in ["yes", "no"] {
        let primary = ours(4, &["--repl-diskless-sync", diskless]);
        write_some(&primary, 3, 3000);
        follows(&primary);
        let before = resident_bytes(primary.pid());
        let mut rng = Rng::new(7);
        for _round in 0..3 {
            let mut all: Vec<TcpStream> = (0..200)
                .map(|_| {
                    let socket = TcpStream::connect(("127.0.0.1", primary.port)).expect("connect");
                    socket.set_read_timeout(Some(Duration::from_millis(30))).expect("a timeout");
                    socket
                })
                .collect();
            for socket in &mut all {
                let words = ["PING\r\n", "REPLCONF listening-port 1 capa eof\r\n", "PSYNC ? -1\r\n", "PSYNC"];
                let stages = rng.below(words.len() + 1);
                for word in &words[..stages.min(3)] {
                    let _ = socket.write_all(word.as_bytes());
                    if rng.one_in(4) {
                        let _ = socket.read(&mut [0; 1000]);
                    }
                }
                match rng.below(4) {
                    0 => drop(socket.shutdown(Shutdown::Both)),
                    1 => drop(socket.shutdown(Shutdown::Write)),
                    2 => drop(socket.write_all(b"REPLCONF ACK 0\r\n")),
                    _ => {}
                }
            }
            rng.shuffle(&mut all);
            drop(all);
        }
        let began = std::time::Instant::now();
        while info(&primary, "connected_slaves").trim() != "0" {
            let mut c = primary.wire();
            let mut known = || (c.run("INFO replication").as_text(), c.run("CLIENT LIST").as_text());
            assert!(began.elapsed() < LIMIT, "not all are gone: {:?}", known());
            std::thread::sleep(Duration::from_millis(20));
        }
        follows(&primary);
        let after = resident_bytes(primary.pid());
        println!("diskless {diskless}: {} MB before, {} MB after", before >> 20, after >> 20);
        assert!(after < before + (64 << 20), "{before} bytes, then {after}");
        let open = std::fs::read_dir(format!("/proc/{}/fd", primary.pid())).expect("descriptors").count();
        assert!(open < 100, "{open} descriptors are open");
    }
}

/// Connections that are reset before the service core has them: their end must
/// not be told of before their beginning, or they stay until `repl-timeout`.
#[test]
fn reset_at_once() {
    for diskless in ["yes", "no"] {
        let primary = ours(2, &["--repl-diskless-sync", diskless]);
        follows(&primary);
        for port in 1..=300 {
            let mut socket = TcpStream::connect(("127.0.0.1", primary.port)).expect("connect");
            // Each has a port of its own: none is the twin of another.
            let request = format!("PING\r\nREPLCONF listening-port {port} capa eof\r\nPSYNC ? -1\r\n");
            socket.write_all(request.as_bytes()).expect("write");
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an abrupt end");
        }
        // Far less than the minute of repl-timeout.
        let limit = Duration::from_secs(20);
        eventually("all are gone", limit, || info(&primary, "connected_slaves").trim() == "0");
    }
}

/// A half-closed connection is the end of a replica, as in Redis.
#[test]
fn half_closed() {
    let primary = ours(2, &[]);
    follows(&primary);
    let mut link = joined(&primary);
    link.half_close();
    eventually("it is gone", LIMIT, || info(&primary, "connected_slaves").trim() == "0");
    follows(&primary);
}
