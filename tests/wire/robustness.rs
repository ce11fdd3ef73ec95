//! Peers that behave badly or unusually: half-closed, slow, dribbling,
//! flooding, too many.

use super::support::{
    Rng, Server, Wire, array, bulk, each_cores, encode, eventually, ok, plain, process, simple, wire::encode_into,
    with_cores,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `printf 'PING\r\n' | nc host port` gets its answer.
#[test]
fn a_half_closed_peer_gets_its_replies() {
    each_cores(|server| {
        for _ in 0..20 {
            let mut c = server.wire();
            c.send("SET a 1\r\nINCR a\r\nMGET a b c d\r\n");
            c.half_close();
            assert_eq!(c.read(), ok());
            assert_eq!(c.read().as_int(), 2);
            assert_eq!(c.read().items().len(), 4);
            c.expect_closed();
        }
        eventually("closed connections are gone", Duration::from_secs(5), || {
            server.wire().run("CLIENT LIST").as_text().lines().count() <= 2
        });
    });
}

/// A peer may vanish in the middle of a request, a value or a reply.
#[test]
fn peers_that_vanish() {
    each_cores(|server| {
        let big = vec![b'x'; 300_000];
        let mut setup = server.wire();
        assert_eq!(setup.pipeline(&encode(&[b"SET", b"big".as_slice(), &big]), 1), [ok()]);
        for _ in 0..30 {
            let mut c = server.wire();
            c.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\nhalf");
            drop(c);
            let mut c = server.wire();
            c.send("GET big\r\n".repeat(20));
            drop(c);
            let mut c = server.wire();
            c.send("MULTI\r\nSET a 1\r\n");
            drop(c);
        }
        assert!(server.wire().run("GET a").is_nil());
    });
}

#[test]
fn one_byte_at_a_time_from_many_peers() {
    each_cores(|server| {
        let mut peers: Vec<Wire> = (0..50).map(|_| server.wire()).collect();
        let requests: Vec<Vec<u8>> =
            (0..50).map(|i| encode(&["SET", &format!("key{i}"), &format!("value{i}")])).collect();
        for at in 0..requests[49].len() {
            for (peer, request) in peers.iter_mut().zip(&requests) {
                if let Some(byte) = request.get(at) {
                    peer.send([*byte]);
                }
            }
        }
        for (i, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.read(), ok());
            assert_eq!(peer.run(&format!("GET key{i}")), bulk(format!("value{i}")));
        }
    });
}

/// A reader that takes its time gets everything, and delays nobody.
#[test]
fn a_slow_reader_gets_everything() {
    each_cores(|server| {
        let value = Rng::new(5).bytes(200_000);
        let mut slow = server.wire();
        assert_eq!(slow.pipeline(&encode(&[b"SET", b"v".as_slice(), &value]), 1), [ok()]);
        const REPLIES: usize = 150;
        slow.send("GET v\r\n".repeat(REPLIES));
        let mut other = server.wire();
        for i in 0..REPLIES {
            if i % 30 == 0 {
                std::thread::sleep(Duration::from_millis(20));
                assert_eq!(other.run("PING"), simple("PONG"));
            }
            assert!(slow.read().as_bytes() == value, "a changed value");
        }
    });
}

/// Output for a peer that never reads is bounded by configuration.
#[test]
fn client_output_buffer_limit_closes() {
    each_cores(|server| {
        let mut admin = server.wire();
        let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"];
        assert_eq!(admin.cmd(&limit), ok());
        let value = vec![b'x'; 100_000];
        admin.pipeline(&encode(&[b"SET", b"v".as_slice(), &value]), 1);
        let mut greedy = server.wire();
        greedy.set_limit(Duration::from_secs(10));
        let _ = greedy.try_send("GET v\r\n".repeat(1000));
        eventually("the greedy client is cut off", Duration::from_secs(10), || {
            admin.run("CLIENT LIST").as_text().lines().count() == 1
        });
        let got = greedy.drain_until_closed(Duration::from_secs(10));
        assert!(got < 90_000_000, "{got} bytes arrived with a limit of 1 MB");
    });
}

/// Who has not logged in is not given memory for what it does not read,
/// whatever the configuration allows others.
#[test]
fn output_for_strangers_is_bounded() {
    if plain() {
        return;
    }
    for cores in ["1", "4"] {
        let server = Server::start(&["--cores", cores, "--requirepass", "secret"]);
        let mut admin = server.wire();
        assert_eq!(admin.run("AUTH secret"), ok());
        let mut greedy = server.wire();
        greedy.set_limit(Duration::from_secs(30));
        // More replies than any socket's buffers take; the last sends fail.
        let errors = "GET v\r\n".repeat(10_000);
        for _ in 0..200 {
            if greedy.try_send(&errors).is_err() {
                break;
            }
        }
        eventually("the stranger is cut off", Duration::from_secs(30), || {
            admin.run("CLIENT LIST").as_text().lines().count() == 1
        });
        let closed = admin.run("INFO stats").as_text();
        assert!(closed.contains("client_output_buffer_limit_disconnections:1\r"), "{closed}");
        // Somebody who has logged in may leave as much unread.
        let mut known = server.wire();
        assert_eq!(known.run("AUTH secret"), ok());
        known.send("GET v\r\n".repeat(200_000));
        for _ in 0..200_000 {
            assert!(known.read().is_nil());
        }
    }
}

/// The soft limit waits its seconds.
#[test]
fn the_soft_output_limit_takes_time() {
    with_cores(1, |server| {
        let mut admin = server.wire();
        let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1"];
        assert_eq!(admin.cmd(&limit), ok());
        let value = vec![b'x'; 100_000];
        admin.pipeline(&encode(&[b"SET", b"v".as_slice(), &value]), 1);
        let mut greedy = server.wire();
        let start = Instant::now();
        let _ = greedy.try_send("GET v\r\n".repeat(300));
        eventually("the greedy client is cut off", Duration::from_secs(10), || {
            admin.run("CLIENT LIST").as_text().lines().count() == 1
        });
        assert!(start.elapsed() >= Duration::from_millis(500), "cut off too early");
    });
}

#[test]
fn a_connection_storm() {
    each_cores(|server| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..500 {
                        let mut c = server.wire();
                        if i % 3 != 0 {
                            assert_eq!(c.run("PING"), simple("PONG"));
                        }
                    }
                });
            }
        });
        eventually("the storm's connections are gone", Duration::from_secs(10), || {
            server.wire().run("CLIENT LIST").as_text().lines().count() <= 2
        });
    });
}

/// Ten thousand idle connections: at most 2 KiB each (a promise of ours), and
/// the server answers all the time.
#[test]
fn ten_thousand_idle_connections_are_cheap() {
    const CONNECTIONS: usize = 10_000;
    if process::raise_descriptor_limit() < CONNECTIONS as u64 + 1000 {
        eprintln!("skipped: too low a limit of open files");
        return;
    }
    let server = Server::start(&["--maxclients", "11000", "--cores", "2"]);
    let mut first = server.wire();
    assert_eq!(first.run("PING"), simple("PONG"));
    let mut idle = Vec::with_capacity(CONNECTIONS);
    // The first thousand pays for tables that grow in steps.
    let mut before = 0;
    for i in 0..CONNECTIONS {
        let mut c = server.wire();
        if i % 10 == 0 {
            assert_eq!(c.run("PING"), simple("PONG"));
        }
        idle.push(c);
        if i == 1000 {
            before = process::resident_bytes(server.pid());
        }
    }
    assert_eq!(first.run("PING"), simple("PONG"));
    for c in idle.iter_mut().step_by(100) {
        assert_eq!(c.run("PING"), simple("PONG"));
    }
    let grown = process::resident_bytes(server.pid()).saturating_sub(before);
    let each = grown / (CONNECTIONS as u64 - 1001);
    eprintln!("{each} bytes per idle connection");
    if !plain() {
        assert!(each <= 2048, "{each} bytes per idle connection");
    }
}

/// One connection floods; others on the same cores still get prompt answers.
#[test]
fn a_flood_does_not_starve_quiet_connections() {
    each_cores(|server| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut c = server.wire();
                    let mut request = Vec::new();
                    for i in 0..2000 {
                        encode_into(&mut request, &["SET", &format!("k{i}"), "v"]);
                        encode_into(&mut request, &["MGET", "k1", "k2", "k3"]);
                    }
                    while !stop.load(Ordering::Relaxed) {
                        c.pipeline(&request, 4000);
                    }
                });
            }
            let mut quiet: Vec<Wire> = (0..10).map(|_| server.wire()).collect();
            let mut slowest = Duration::ZERO;
            for round in 0..200 {
                let start = Instant::now();
                let wire = &mut quiet[round % 10];
                assert_eq!(wire.run("PING"), simple("PONG"));
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            stop.store(true, Ordering::Relaxed);
            assert!(slowest < Duration::from_secs(1), "a PING took {slowest:?}");
        });
    });
}

#[test]
fn maxclients_refuses_with_its_text() {
    let server = Server::start(&["--maxclients", "10", "--cores", "2"]);
    let mut open = vec![server.wire()];
    // The connection that asked whether the server is ready may still be
    // closing on another core.
    eventually("only one client", Duration::from_secs(5), || {
        open[0].run("INFO clients").as_text().contains("connected_clients:1\r\n")
    });
    open.extend((1..10).map(|_| server.wire()));
    for c in &mut open {
        assert_eq!(c.run("PING"), simple("PONG"));
    }
    for _ in 0..5 {
        let mut c = server.wire();
        assert_eq!(c.read().as_error(), "ERR max number of clients reached");
        c.expect_closed();
    }
    open.pop();
    eventually("a place is free again", Duration::from_secs(5), || {
        let mut c = server.wire();
        let _ = c.try_send("PING\r\n");
        c.try_read().is_ok_and(|reply| reply == simple("PONG"))
    });
    let info = open[0].run("INFO stats").as_text();
    assert!(!info.contains("rejected_connections:0\r\n"), "not counted");
}

/// Without descriptors new peers are refused or wait; those there are served,
/// and the server takes new ones when some have left.
#[test]
fn running_out_of_file_descriptors() {
    let server = Server::start_under(&["prlimit", "--nofile=100:100"], &["--cores", "1"]);
    let mut first = server.wire();
    let mut open = Vec::new();
    for _ in 0..200 {
        if let Ok(mut c) = Wire::try_connect(server.port) {
            let _ = c.try_send("PING\r\n");
            open.push(c);
        }
    }
    assert_eq!(first.run("SET a 1"), ok());
    drop(open);
    eventually("new peers are served", Duration::from_secs(10), || {
        let mut c = server.wire();
        c.set_limit(Duration::from_millis(500));
        let _ = c.try_send("PING\r\n");
        c.try_read().is_ok_and(|reply| reply == simple("PONG"))
    });
}

/// The `timeout` directive closes idle clients, and no others.
#[test]
fn idle_clients_time_out() {
    let server = Server::start(&["--timeout", "1"]);
    let mut idle = server.wire();
    let mut busy = server.wire();
    assert_eq!(idle.run("PING"), simple("PONG"));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(3000) {
        assert_eq!(busy.run("PING"), simple("PONG"));
        std::thread::sleep(Duration::from_millis(200));
    }
    idle.expect_closed();
}

/// Replies of many clients never mix.
#[test]
fn replies_reach_their_own_client() {
    each_cores(|server| {
        std::thread::scope(|scope| {
            for id in 0..8 {
                scope.spawn(move || {
                    let mut c = server.wire();
                    for round in 0..40 {
                        let mut request = Vec::new();
                        let mut expected = Vec::new();
                        for i in 0..50 {
                            let (key, value) = (format!("{id}:{i}"), format!("{id}:{round}:{i}"));
                            encode_into(&mut request, &["SET", &key, &value]);
                            encode_into(&mut request, &["MGET", &key, "absent"]);
                            expected.push(ok());
                            expected.push(array([bulk(&value), super::support::nil()]));
                        }
                        assert_eq!(c.pipeline(&request, 100), expected);
                    }
                });
            }
        });
    });
}

/// A transaction that selects a database which does not exist made a server
/// with several cores look its keys up there, and ended it.
#[test]
fn a_transaction_selects_a_database_that_is_not_there() {
    each_cores(|server| {
        let mut c = server.wire();
        for words in ["MULTI", "SELECT 50", "SET a 1", "SET b 2", "SET c 3"] {
            c.run(words);
        }
        let replies = c.run("EXEC");
        assert_eq!(replies.items()[0], super::support::error("ERR DB index is out of range"));
        assert_eq!(replies.items()[1..], [ok(), ok(), ok()]);
        assert_eq!(c.run("MGET a b c"), super::support::bulks("1 2 3"));
    });
}
