//! Servers that end and come back: who can go on where it was, and whose data
//! stays.

use super::servers::*;
use super::support::{Server, error, eventually, ok};

/// Starts a server in the place of one that has ended: its port and directory.
/// The kernel may hold the port for a while after a kill.
pub fn again(old: &Server, cores: usize, args: &[&str]) -> Server {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let server = try_again(old, cores, args);
        let log = || server.log();
        eventually("it serves, or has ended", LIMIT, || log().contains("Ready to accept") || log().contains("in use"));
        if log().contains("Ready to accept") {
            return server;
        }
        assert!(std::time::Instant::now() < deadline, "{}", log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn try_again(old: &Server, cores: usize, args: &[&str]) -> Server {
    let (port, dir) = (old.port.to_string(), old.dir().to_string_lossy().into_owned());
    let place = ["--port", &port, "--dir", &dir, "--repl-diskless-sync-delay", "0", "--cores"];
    let mut server = Server::starting(&[&place[..], &[&cores.to_string()], args].concat());
    server.port = old.port;
    server
}

fn end(server: &mut Server, words: &str) {
    server.wire().send_words(words);
    server.wait_exit(LIMIT);
}

/// How a dataset is kept over a restart: by a snapshot, or an append-only file.
const KEPT: [(&[&str], &str); 2] = [(&[], "SHUTDOWN SAVE"), (&["--appendonly", "yes"], "SHUTDOWN")];

#[test]
fn replicas_go_on_with_a_primary_that_was_started_again() {
    for (args, words) in KEPT {
        goes_on_as_primary(args, words);
    }
}

fn goes_on_as_primary(args: &[&str], words: &str) {
    let mut primary = ours(2, args);
    let replicas = [ours(2, &[]), stock(&[])];
    write_some(&primary, 30, 1000);
    for replica in &replicas {
        replicate(replica, primary.port);
        wait_for_link(replica);
    }
    write_some(&primary, 31, 500);
    wait_until_equal(&primary, &[&replicas[0], &replicas[1]]);
    end(&mut primary, words);
    let primary = again(&primary, 3, args);
    replicas.iter().for_each(wait_for_link);
    write_some(&primary, 32, 300);
    wait_until_equal(&primary, &[&replicas[0], &replicas[1]]);
    assert_eq!((count(&primary, "sync_full"), count(&primary, "sync_partial_ok")), (0, 2), "{}", primary.log());
}

#[test]
fn a_replica_that_was_started_again_goes_on() {
    for (primary, (args, words)) in [stock(&[]), ours(2, &[])].into_iter().flat_map(|p| {
        let p = std::rc::Rc::new(p);
        KEPT.map(|kept| (p.clone(), kept))
    }) {
        let copies = (count(&primary, "sync_full"), count(&primary, "sync_partial_ok"));
        let of = format!("127.0.0.1 {}", primary.port);
        write_some(&primary, 33, 1000);
        let args = [&["--replicaof", &of][..], args].concat();
        let mut replica = ours(2, &args);
        wait_for_link(&replica);
        write_some(&primary, 34, 500);
        wait_until_equal(&primary, &[&replica]);
        eventually("no rewrite", LIMIT, || info(&replica, "aof_rewrite_in_progress").trim() == "0");
        end(&mut replica, words);
        write_some(&primary, 35, 300);
        let replica = again(&replica, 1, &args);
        wait_for_link(&replica);
        write_some(&primary, 36, 300);
        wait_until_equal(&primary, &[&replica]);
        let now = (count(&primary, "sync_full"), count(&primary, "sync_partial_ok"));
        assert_eq!(now, (copies.0 + 1, copies.1 + 1), "{}", replica.log());
    }
}

/// A primary without persistence crashes and is back before anyone has noticed:
/// with stock replicas that was the end of all data.
#[test]
fn a_primary_that_comes_back_empty_wipes_nobody() {
    for load in ["disabled", "swapdb"] {
        let mut primary = ours(1, &[]);
        let replica = ours(2, &["--repl-diskless-load", load]);
        write_some(&primary, 37, 1000);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        wait_until_equal(&primary, &[&replica]);
        let keys = replica.wire().run("DBSIZE");
        primary.signal(libc::SIGKILL);
        primary.wait_exit(LIMIT);
        let primary = again(&primary, 1, &[]);
        eventually("a refusal", LIMIT, || replica.log().matches("replica-refuse-empty-primary").count() >= 2);
        assert_eq!(replica.wire().run("DBSIZE"), keys);
        assert_eq!(info(&replica, "master_link_status").trim(), "down");
        assert_eq!(replica.wire().run("CONFIG SET replica-refuse-empty-primary no").as_text(), "OK");
        wait_for_link(&replica);
        wait_until_equal(&primary, &[&replica]);
        assert_eq!(replica.wire().run("DBSIZE").as_int(), 0);
    }
}

/// Acknowledged by the disk here, and by that of a replica whose file began
/// anew with the copy that it took.
#[test]
fn writes_are_waited_for_until_they_are_on_disk() {
    let primary = ours(2, &["--appendonly", "yes"]);
    let mut replica = ours(2, &["--appendonly", "yes"]);
    let mut wire = primary.wire();
    replica.wire().run("SET old 1");
    assert_eq!(wire.run("WAITAOF 2 0 0"), error("ERR value is out of range, value must between 0 and 1"));
    assert_eq!(wire.run("WAITAOF 1 -1 0"), error("ERR value is out of range, must be positive"));
    assert_eq!(wire.run("WAITAOF 1 x 0"), error("ERR value is out of range, must be positive"));
    assert_eq!(wire.run("WAITAOF x 1 0"), error("ERR value is not an integer or out of range"));
    wire.run("SET a 1");
    let pair = |reply: super::support::Value| (reply.items()[0].as_int(), reply.items()[1].as_int());
    assert_eq!(pair(wire.run("WAITAOF 1 0 30000")), (1, 0));
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    write_some(&primary, 38, 500);
    assert_eq!(pair(wire.run("WAITAOF 1 1 60000")), (1, 1));
    assert_eq!(pair(wire.run("WAITAOF 1 2 3000")), (1, 1));
    wait_until_equal(&primary, &[&replica]);
    eventually("a base of the copy", LIMIT, || {
        info(&replica, "aof_rewrite_in_progress").trim() == "0" && info(&replica, "aof_enabled").trim() == "1"
    });
    wire.run("CONFIG SET appendonly no");
    eventually("it is off", LIMIT, || {
        let text = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
        wire.run("WAITAOF 1 0 1") == error(text)
    });
    end(&mut replica, "SHUTDOWN");
    let alone = again(&replica, 3, &["--appendonly", "yes"]);
    assert_eq!(alone.wire().run("EXISTS old").as_int(), 0);
    assert_eq!(alone.wire().run("DEBUG DIGEST"), primary.wire().run("DEBUG DIGEST"));
}

/// Five servers change their places at random, and who is primary: after the
/// first copies everybody goes on where it was.
#[test]
fn random_layouts_need_no_copies() {
    let nodes = [ours(2, &[]), stock(&[]), ours(1, &[]), stock(&[]), ours(3, &[])];
    let mut rng = super::support::Rng::new(11);
    let full = || nodes.iter().map(|n| count(n, "sync_full")).sum::<u64>();
    let mut head = 0;
    for round in 0..6 {
        assert!(!nodes[head].wire().run("REPLICAOF NO ONE").is_error());
        let mut placed = vec![head];
        let mut others: Vec<usize> = (0..nodes.len()).filter(|n| *n != head).collect();
        while !others.is_empty() {
            let node = others.remove(rng.below(others.len()));
            let over = placed[rng.below(placed.len())];
            replicate(&nodes[node], nodes[over].port);
            placed.push(node);
        }
        for node in (0..nodes.len()).filter(|n| *n != head) {
            wait_for_link(&nodes[node]);
        }
        write_some(&nodes[head], 50 + round, 300);
        let replicas: Vec<&Server> = (0..nodes.len()).filter(|n| *n != head).map(|n| &nodes[n]).collect();
        wait_until_equal(&nodes[head], &replicas);
        assert_eq!(full(), 4, "round {round}");
        head = rng.below(nodes.len());
    }
}

/// Killed in the middle of a stream of writes, a replica with an append-only
/// file goes on where its file says it was. With stock servers that is a copy.
#[test]
fn a_replica_that_was_killed_goes_on_from_its_append_only_file() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for primary in [stock(&[]), ours(2, &[])] {
        let of = format!("127.0.0.1 {}", primary.port);
        let size = ["--repl-backlog-size", "64mb"];
        assert_eq!(primary.wire().run("CONFIG SET repl-backlog-size 64mb").as_text(), "OK");
        let args = [&["--replicaof", &of, "--appendonly", "yes"][..], &size].concat();
        // The first stays, since the directory is its own.
        let mut replica = ours(2, &args);
        wait_for_link(&replica);
        eventually("its base", LIMIT, || {
            info(&replica, "aof_enabled").trim() == "1" && info(&replica, "aof_rewrite_in_progress").trim() == "0"
        });
        let mut lives: Vec<Server> = Vec::new();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (to, stop) = (&primary, &stop);
            let end = StopAtEnd(stop);
            scope.spawn(move || {
                let (mut wire, mut n) = (to.wire(), 0);
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    // Nothing that could be applied twice without being seen.
                    for line in ["INCR number", "MULTI", "RPUSH list a", "INCRBY other 7", "EXEC", "APPEND text x"] {
                        wire.run(line);
                    }
                    write_plain(&mut wire, n * 20, 20);
                    wire.run(&format!("SELECT {}", n % 3));
                }
            });
            for round in 1..=4 {
                std::thread::sleep(std::time::Duration::from_millis(150 + 37 * round));
                let current = lives.last_mut().unwrap_or(&mut replica);
                current.signal(libc::SIGKILL);
                current.wait_exit(LIMIT);
                let next = again(&replica, 1 + round as usize % 3, &args);
                wait_for_link(&next);
                let now = (count(&primary, "sync_full"), count(&primary, "sync_partial_ok"));
                assert_eq!(now, (1, round), "{}", next.log());
                lives.push(next);
            }
            drop(end);
        });
        wait_until_equal(&primary, &[&lives[3]]);
    }
}

/// The file that a replica writes is read as it is while the link goes on.
#[test]
fn a_replica_reads_its_own_file_again() {
    let primary = ours(2, &[]);
    let mut replica = ours(3, &["--appendonly", "yes"]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    for round in 0..3 {
        write_plain(&mut primary.wire(), 500 * round, 500);
        wait_until_equal(&primary, &[&replica]);
        assert_eq!(replica.wire().run("DEBUG LOADAOF"), ok());
        wait_until_equal(&primary, &[&replica]);
    }
    replica.signal(libc::SIGTERM);
    replica.wait_exit(LIMIT);
    let new = again(&replica, 2, &["--appendonly", "yes", "--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    wait_for_link(&new);
    wait_until_equal(&primary, &[&new]);
}

/// How replicas keep what they have over a restart.
const FILES: [&[&str]; 2] = [&["--appendonly", "no"], &["--appendonly", "yes"]];

fn shut_down(server: &mut Server) {
    server.wire().send("SHUTDOWN SAVE\r\n");
    server.wait_exit(LIMIT);
}

/// What ends while a replica is away may have got a longer life at its primary: until
/// it hears, it keeps what it has.
#[test]
fn a_replica_that_was_away_keeps_what_has_expired() {
    for kept in FILES {
        for cores in [1, 3] {
            let primary = ours(2, &[]);
            let mut replica = ours(cores, kept);
            replicate(&replica, primary.port);
            wait_for_link(&replica);
            let mut p = primary.wire();
            for i in 0..20 {
                assert_eq!(p.run(&format!("SET k{i} v PX 2000")), ok());
                p.run(&format!("RPUSH l{i} a b"));
                p.run(&format!("PEXPIRE l{i} 2000"));
                p.run(&format!("HSET h{i} f 1 g 2"));
                p.run(&format!("HPEXPIRE h{i} 2000 FIELDS 1 f"));
            }
            wait_until_equal(&primary, &[&replica]);
            shut_down(&mut replica);
            for i in 0..20 {
                p.run(&format!("PERSIST k{i}"));
                p.run(&format!("RENAME k{i} K{i}"));
                p.run(&format!("RPUSH l{i} c"));
                p.run(&format!("PERSIST l{i}"));
                p.run(&format!("HPERSIST h{i} FIELDS 1 f"));
            }
            std::thread::sleep(std::time::Duration::from_millis(2100));
            let of = format!("127.0.0.1 {}", primary.port);
            let new = again(&replica, cores, &[kept, &["--replicaof", &of]].concat());
            wait_for_link(&new);
            wait_until_equal(&primary, &[&new]);
            assert_eq!((count(&primary, "sync_full"), new.wire().run("DBSIZE").as_int()), (1, 60), "{}", new.log());
        }
    }
}

/// A server that is started as a replica is one from its first moment on.
#[test]
fn a_replica_that_starts_takes_no_writes() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for kept in FILES {
        let primary = ours(1, &[]);
        assert_eq!(primary.wire().run("SET k v"), ok());
        let mut all = vec![ours(2, kept)];
        replicate(&all[0], primary.port);
        wait_for_link(&all[0]);
        wait_until_equal(&primary, &[&all[0]]);
        for _ in 0..4 {
            shut_down(all.last_mut().expect("the last"));
            let (port, ended) = (all[0].port, AtomicBool::new(false));
            let of = format!("127.0.0.1 {}", primary.port);
            let new = std::thread::scope(|scope| {
                let write = || {
                    let mut taken = 0;
                    while !ended.load(Ordering::Relaxed) {
                        taken += writes_taken(port);
                    }
                    taken
                };
                let writers: Vec<_> = (0..3).map(|_| scope.spawn(write)).collect();
                let new = again(&all[0], 2, &[kept, &["--replicaof", &of]].concat());
                wait_for_link(&new);
                ended.store(true, Ordering::Relaxed);
                let taken: usize = writers.into_iter().map(|w| w.join().expect("a writer")).sum();
                assert_eq!(taken, 0, "writes that a replica took");
                new
            });
            wait_until_equal(&primary, &[&new]);
            all.push(new);
        }
    }
}

/// How many of some writes on one connection are taken; none if there is no server.
fn writes_taken(port: u16) -> usize {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        std::thread::sleep(std::time::Duration::from_micros(200));
        return 0;
    };
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(1)));
    let mut reply = [0; 256];
    let mut taken = 0;
    for _ in 0..50 {
        if stream.write_all(b"SET stray 1\r\n").is_err() {
            break;
        }
        match stream.read(&mut reply) {
            Ok(n) if n > 0 => taken += usize::from(reply.starts_with(b"+OK")),
            _ => break,
        }
    }
    taken
}
