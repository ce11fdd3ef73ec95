//! What was acknowledged survives: a kill at any moment, a full disk.

use super::flaky;
use super::harness::{Dir, LIMIT, kill, stop};
use super::support::process::own_mounts;
use super::support::{Server, Wire, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Writers append numbers to lists of their own, and note the last that was
/// acknowledged, and when.
fn write_until_killed(server: Server, time: Duration) -> Vec<Vec<Instant>> {
    let (port, stop) = (server.port, Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..8)
        .map(|id| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut wire = Wire::connect(port);
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let n = acknowledged.len();
                    wire.send_words(&format!("RPUSH list:{id} {n}"));
                    match wire.try_read() {
                        Ok(reply) => assert_eq!(reply.as_int() as usize, n + 1),
                        Err(_) => break,
                    }
                    acknowledged.push(Instant::now());
                }
                acknowledged
            })
        })
        .collect();
    std::thread::sleep(time);
    kill(server);
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().map(|w| w.join().expect("a writer")).collect()
}

#[test]
fn what_always_acknowledged_survives_a_kill() {
    for cores in ["1", "4"] {
        let dir = Dir::new("always");
        for round in 0..3 {
            let server = dir.start(cores, &["--appendfsync", "always"]);
            server.wire().run("FLUSHALL");
            let acknowledged = write_until_killed(server, Duration::from_millis(200 + 100 * round));
            let server = dir.start(cores, &["--appendfsync", "always"]);
            let mut c = server.wire();
            for (id, times) in acknowledged.iter().enumerate() {
                assert!(!times.is_empty(), "nothing was acknowledged");
                let n = c.run(&format!("LLEN list:{id}")).as_int() as usize;
                assert!(n >= times.len(), "list {id}: {n} of {} acknowledged", times.len());
                assert!(n <= times.len() + 1, "list {id} has more than was sent");
            }
            stop(server);
        }
    }
}

#[test]
fn everysec_loses_no_more_than_the_last_moment() {
    let dir = Dir::new("everysec");
    let server = dir.start("2", &[]);
    let acknowledged = write_until_killed(server, Duration::from_millis(2500));
    let end = acknowledged.iter().flatten().max().copied().expect("acknowledged");
    let server = dir.start("2", &[]);
    let mut c = server.wire();
    for (id, times) in acknowledged.iter().enumerate() {
        let n = c.run(&format!("LLEN list:{id}")).as_int() as usize;
        let old = times.iter().filter(|t| end - **t > Duration::from_secs(2)).count();
        assert!(n >= old, "list {id}: {n} of {old} acknowledged two seconds before the end");
    }
}

#[test]
fn every_reply_comes_in_order_while_it_waits_for_the_disk() {
    let dir = Dir::new("order");
    let server = dir.start("2", &["--appendfsync", "always"]);
    let mut c = server.wire();
    let mut sent = Vec::new();
    for i in 0..500 {
        super::support::wire::encode_into(&mut sent, &["INCR", &format!("k{}", i % 7)]);
        super::support::wire::encode_into(&mut sent, &["GET", &format!("k{}", i % 7)]);
    }
    // Some of it before, some after, so that output piles up behind a flush.
    for piece in sent.chunks(997) {
        c.send(piece);
    }
    for i in 0..500 {
        let n = i / 7 + 1;
        assert_eq!(c.read().as_int(), n);
        assert_eq!(c.read().as_text(), n.to_string());
    }
    assert_eq!(c.run("CONFIG SET appendfsync everysec").as_text(), "OK");
    assert_eq!(c.run("INCR k0").as_int(), 73);
    assert_eq!(c.run("CONFIG SET appendfsync always").as_text(), "OK");
    assert_eq!(c.run("INCR k0").as_int(), 74);
}

/// A server whose directory is a file system of one megabyte.
fn on_small_disk(dir: &Dir, more: &[&str]) -> Option<Server> {
    let mount = format!("mount -t tmpfs -o size=1m tmpfs {0} && cd {0} && exec \"$@\"", dir.text());
    let wrapper = ["unshare", own_mounts(), "sh", "-c", &mount, "sh"];
    let can = std::process::Command::new("unshare").args([own_mounts(), "true"]).status().is_ok_and(|s| s.success());
    if !can {
        eprintln!("skipped: no mount namespaces here");
        return None;
    }
    let args = [&["--cores", "2", "--dir", dir.text(), "--appendonly", "yes"], more].concat();
    Some(Server::start_under(&wrapper, &args))
}

#[test]
fn a_full_disk_stops_writers_until_there_is_room_again() {
    let dir = Dir::new("full");
    let Some(server) = on_small_disk(&dir, &[]) else { return };
    let inside = format!("/proc/{}/root{}/filler", server.pid(), dir.text());
    std::fs::write(&inside, vec![0; 500_000]).expect("the filler");
    let mut c = server.wire();
    let value = "x".repeat(10_000);
    let mut written = 0;
    eventually("writes are refused", LIMIT, || {
        let reply = c.cmd(&["SET", &format!("k{written}"), &value]);
        let refused = reply.is_error();
        if refused {
            assert!(reply.as_error().starts_with("MISCONF Errors writing to the AOF file: No space left"), "{reply:?}");
        } else {
            written += 1;
        }
        refused
    });
    assert!(c.run("PING").as_error().starts_with("MISCONF"));
    assert_eq!(c.run("GET k0").as_text().len(), value.len());
    assert!(c.run("INFO persistence").as_text().contains("aof_last_write_status:err"));
    let path = format!("/proc/{}/root{}/appendonlydir/appendonly.aof.1.incr.aof", server.pid(), dir.text());
    eventually("no part of a command is left at the end", LIMIT, || {
        std::fs::read(&path).expect("the file").ends_with(format!("{value}\r\n").as_bytes())
    });
    std::fs::remove_file(&inside).expect("remove the filler");
    eventually("writes go on", LIMIT, || !c.run("SET after 1").is_error());
    assert!(c.run("INFO persistence").as_text().contains("aof_last_write_status:ok"));
    assert!(server.log().contains("AOF write error looks solved"));
    // Nothing that was acknowledged is missing in the file.
    let want = format!("k{}\r\n", written - 1);
    eventually("everything is written", LIMIT, || {
        let bytes = std::fs::read(&path).expect("the file");
        let text = String::from_utf8_lossy(&bytes);
        text.contains(&want) && text.contains("after")
    });
    let commands = super::harness::commands(&std::fs::read(&path).unwrap());
    assert_eq!(commands.len(), written + 2, "SELECT, the values, and the last write");
}

#[test]
fn a_full_disk_ends_a_server_that_promised_always() {
    let dir = Dir::new("full-always");
    let Some(mut server) = on_small_disk(&dir, &["--appendfsync", "always"]) else { return };
    let mut c = server.wire();
    let value = "x".repeat(100_000);
    for i in 0..20 {
        c.send_cmd(&["SET", &format!("k{i}"), &value]);
        if c.try_read().is_err() {
            break;
        }
    }
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1));
    assert!(server.log().contains("Can't recover from AOF write error when the AOF fsync policy is 'always'"));
}

/// A flush fails once, and the next would succeed: what the kernel did not
/// write it may have dropped, so nothing may count on that. Writes are refused
/// until a rewrite has made files that are whole.
#[test]
fn a_flush_that_failed_once_is_not_tried_again_but_made_good() {
    let dir = Dir::new("fsync");
    let mount = dir.path().join("mount");
    let Some(server) = flaky::start(&mount, &[]) else { return };
    let mut c = server.wire();
    c.run("SET before 1");
    // The first flush comes only after the first second.
    eventually("it is on disk", LIMIT, || c.run("WAITAOF 1 0 1000").items()[0].as_int() == 1);
    flaky::fail_next(&mount, 1);
    c.run("SET doubted 2");
    // Every write is its own witness: refused, with the reason.
    eventually("writes are refused", LIMIT, || {
        let reply = c.run("SET later 3");
        let refused = reply.is_error();
        assert!(!refused || reply.as_error().starts_with("MISCONF Errors writing to the AOF file: "), "{reply:?}");
        refused
    });
    assert_eq!(flaky::failures_left(&mount), 0);
    assert_eq!(c.run("GET doubted").as_text(), "2", "reads are served");
    let durable = c.run("WAITAOF 1 0 1");
    assert_eq!(durable.items()[0].as_int(), 0, "what may be lost counts as durable");
    eventually("writes go on", LIMIT, || !c.run("SET after 4").is_error());
    let log = server.log();
    assert!(log.contains("Fail to fsync the AOF file: Input/output error"), "{log}");
    let (failed, solved) = (log.find("Fail to fsync"), log.find("AOF write error looks solved"));
    let made = log.find("Successfully renamed the temporary AOF base file");
    assert!(failed < made && made < solved, "made good without a new base: {log}");
    eventually("it is on disk", LIMIT, || c.run("WAITAOF 1 0 1000").items()[0].as_int() == 1);
}

#[test]
fn a_flush_that_fails_ends_a_server_that_promised_always() {
    let dir = Dir::new("fsync-always");
    let mount = dir.path().join("mount");
    let Some(mut server) = flaky::start(&mount, &["--appendfsync", "always"]) else { return };
    let mut c = server.wire();
    // The first flushes go by the kernel's workers; when these were quick, the
    // service core makes them itself.
    for i in 0..200 {
        assert!(!c.run(&format!("SET before {i}")).is_error());
    }
    flaky::fail_next(&mount, 1);
    c.send_words("SET k v");
    assert!(c.try_read().is_err(), "a write was acknowledged that is not on disk");
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1));
    let log = server.log();
    assert!(log.contains("Can't persist AOF for fsync error when the AOF fsync policy is 'always'"), "{log}");
}

/// So does the last flush of a file that another follows.
#[test]
fn a_flush_that_fails_between_two_files_ends_it_too() {
    let dir = Dir::new("fsync-switch");
    let mount = dir.path().join("mount");
    let Some(mut server) = flaky::start(&mount, &["--appendfsync", "always"]) else { return };
    let mut c = server.wire();
    assert!(!c.run("SET before 1").is_error());
    // That of the new base may come first.
    flaky::fail_next(&mount, 3);
    c.send_words("BGREWRITEAOF");
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1), "{}", server.log());
    assert!(server.log().contains("Can't persist AOF for fsync error when the AOF fsync policy is 'always'"));
}

#[test]
fn a_first_flush_that_fails_ends_it_too() {
    let dir = Dir::new("fsync-first");
    let mount = dir.path().join("mount");
    let Some(mut server) = flaky::start(&mount, &["--appendfsync", "always"]) else { return };
    let mut c = server.wire();
    assert_eq!(c.run("PING").as_text(), "PONG");
    flaky::fail_next(&mount, 1);
    c.send_words("SET k v");
    assert!(c.try_read().is_err(), "a write was acknowledged that is not on disk");
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1));
}

/// A kill leaves the page cache, so that it does not show whether a flush came
/// before the reply or after it.
#[test]
fn no_reply_of_always_comes_before_its_flush() {
    let dir = Dir::new("flushed");
    let mount = dir.path().join("mount");
    let Some(server) = flaky::start(&mount, &["--appendfsync", "always"]) else { return };
    let writers: Vec<_> = (0..4)
        .map(|id| {
            let (port, mount) = (server.port, mount.clone());
            std::thread::spawn(move || {
                let mut c = Wire::connect(port);
                for i in 0..100 {
                    assert!(!c.run(&format!("SET {{{id}}}k value:{id}:{i}:")).is_error());
                    let value = format!("value:{id}:{i}:\r\n");
                    assert!(flaky::on_disk(&mount, value.as_bytes()), "{value} is acknowledged and not on disk");
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|w| w.join().expect("a writer"));
    // What rests on another's write waits for it too.
    let (mut writer, mut reader) = (server.wire(), server.wire());
    for i in 0..100 {
        writer.send_words(&format!("SET shared seen:{i}:"));
        let seen = reader.run("GET shared");
        if !seen.is_nil() {
            let value = seen.as_text() + "\r\n";
            assert!(flaky::on_disk(&mount, value.as_bytes()), "{value} was read and is not on disk");
        }
        assert!(!writer.read().is_error());
    }
}
