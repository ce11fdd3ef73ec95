//! Rewriting: under load, by itself, killed at any step; switched on and off.

use super::harness::{Dir, LIMIT, commands, digest, kill, some_writes, stop};
use super::support::process::cpu_time;
use super::support::{Rng, Server, Wire, error, eventually, ok};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub fn info(server: &Server, field: &str) -> String {
    let text = server.wire().run("INFO persistence").as_text();
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{field}:")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {field}"))
}

fn wait_for_rewrite(server: &Server, number: &str) {
    eventually("the rewrite", LIMIT, || {
        info(server, "aof_rewrite_in_progress") == "0" && info(server, "aof_rewrites") == number
    });
    assert_eq!(info(server, "aof_last_bgrewrite_status"), "ok", "{}", server.log());
}

/// Writes from several connections until told to stop.
fn under_load<R>(server: &Server, seed: u64, during: impl FnOnce() -> R) -> R {
    let stop = Arc::new(AtomicBool::new(false));
    let port = server.port;
    let writers: Vec<_> = (0..4)
        .map(|i| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut wire, mut rng) = (Wire::connect(port), Rng::new(seed * 10 + i));
                while !stop.load(Ordering::Relaxed) {
                    some_writes(&mut wire, &mut rng, 20);
                }
            })
        })
        .collect();
    let result = during();
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|w| w.join().expect("a writer"));
    result
}

#[test]
fn a_rewrite_under_load_loses_nothing() {
    for cores in ["1", "4"] {
        let dir = Dir::new("rewrite");
        let server = dir.start(cores, &[]);
        under_load(&server, 5, || {
            for n in 1..=3 {
                std::thread::sleep(Duration::from_millis(100));
                let reply = server.wire().run("BGREWRITEAOF").as_text();
                assert!(reply.starts_with("Background append only file rewriting"), "{reply}");
                wait_for_rewrite(&server, &n.to_string());
            }
        });
        let before = digest(&server);
        stop(server);
        let files = dir.files();
        let want = ["appendonly.aof.4.base.rdb", "appendonly.aof.4.incr.aof", "appendonly.aof.manifest"];
        assert_eq!(files, want);
        assert!(commands(&dir.incr())[0].starts_with("SELECT "), "a file says its database first");
        let again = dir.start("3", &[]);
        assert_eq!(digest(&again), before, "{cores} cores");
        stop(again);
        let stock = dir.stock(&[]);
        assert_eq!(digest(&stock), before, "stock, {cores} cores");
    }
}

#[test]
fn a_file_that_has_grown_is_rewritten_by_itself() {
    let dir = Dir::new("auto");
    let server = dir.start("2", &["--auto-aof-rewrite-min-size", "20kb", "--auto-aof-rewrite-percentage", "100"]);
    let mut c = server.wire();
    let value = "x".repeat(1000);
    for _ in 0..60 {
        c.cmd(&["SET", "same", &value]);
    }
    eventually("a rewrite", LIMIT, || info(&server, "aof_rewrites") != "0");
    assert!(server.log().contains("Starting automatic rewriting of AOF on"));
    eventually("it is small", LIMIT, || info(&server, "aof_current_size").parse::<u64>().unwrap() < 60_000);
    stop(server);
}

#[test]
fn it_is_turned_on_at_run_time_with_all_there_is() {
    let dir = Dir::new("on");
    let server = Server::start(&["--cores", "3", "--dir", dir.text()]);
    let mut c = server.wire();
    some_writes(&mut c, &mut Rng::new(7), 500);
    let finished = || server.log().matches("Background AOF rewrite finished").count();
    let off = || server.log().matches("AOF is off").count();
    under_load(&server, 8, || {
        for round in 0..7 {
            let before = finished();
            assert_eq!(c.run("CONFIG SET appendonly yes"), ok());
            if round % 3 == 1 {
                // Perhaps while it is being turned on.
                std::thread::sleep(Duration::from_millis(10));
            } else {
                eventually("it is on", LIMIT, || finished() > before);
            }
            if round < 6 {
                let before = off();
                assert_eq!(c.run("CONFIG SET appendonly no"), ok());
                eventually("it is off", LIMIT, || off() > before);
            }
        }
    });
    let before = digest(&server);
    stop(server);
    let server = dir.start("2", &[]);
    assert_eq!(digest(&server), before, "{:?}", dir.files());
    stop(server);
}

/// Whatever moment a kill comes at, what was there before the rewrite is there.
#[test]
fn a_kill_during_a_rewrite_leaves_old_or_new() {
    let dir = Dir::new("killed");
    let server = dir.start("2", &[]);
    let mut c = server.wire();
    some_writes(&mut c, &mut Rng::new(9), 1000);
    let before = digest(&server);
    stop(server);
    for round in 0..12u64 {
        let server = dir.start("2", &[]);
        assert_eq!(digest(&server), before, "round {round}: {:?}", dir.files());
        server.wire().run("BGREWRITEAOF");
        std::thread::sleep(Duration::from_micros(round * round * 400));
        kill(server);
    }
    let server = dir.start("1", &[]);
    assert_eq!(digest(&server), before);
    stop(server);
}

#[test]
fn turning_the_file_off_calls_a_rewrite_off() {
    let dir = Dir::new("called-off");
    let server = dir.start("2", &["--rdb-key-save-delay", "100000"]);
    let mut c = server.wire();
    (0..300).for_each(|i| assert_eq!(c.run(&format!("SET k{i} v")), ok()));
    for line in ["BGREWRITEAOF", "CONFIG SET appendonly no"] {
        assert!(!c.run(line).is_error(), "{line}");
    }
    // By itself it takes half a minute.
    eventually("the rewrite's end", Duration::from_secs(15), || info(&server, "aof_rewrite_in_progress") == "0");
    assert!(server.log().contains("Killing running AOF rewrite child"), "{}", server.log());
    assert_eq!(info(&server, "aof_last_bgrewrite_status"), "ok");
    // The file turned on again has a base of its own.
    for line in ["CONFIG SET rdb-key-save-delay 0", "CONFIG SET appendonly yes"] {
        assert_eq!(c.run(line), ok());
    }
    eventually("the file", LIMIT, || {
        info(&server, "aof_rewrite_in_progress") == "0" && info(&server, "aof_enabled") == "1"
    });
    let before = digest(&server);
    kill(server);
    assert_eq!(digest(&dir.start("2", &[])), before);
}

/// The end comes while a rewrite's cut still stands in the buffer, with writes
/// behind it: there will be no other file, so that they belong into this one.
#[test]
fn what_waits_behind_a_cut_is_written_at_the_end() {
    let dir = Dir::new("behind");
    let server = dir.start("2", &[]);
    let mut c = server.wire();
    c.run("SET before 1");
    // The task that writes sleeps before it takes anything.
    assert_eq!(c.run("DEBUG AOF-FLUSH-SLEEP 3000000"), ok());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!c.run("BGREWRITEAOF").is_error());
    for i in 0..20 {
        assert_eq!(c.run(&format!("SET behind:{i} 1")), ok());
    }
    stop(server);
    let server = dir.start("2", &[]);
    assert_eq!(server.wire().run("DBSIZE").as_int(), 21);
}

/// Who waits for a snapshot does not wait for a rewrite: that is made later.
#[test]
fn snapshots_that_are_waited_for_come_before_rewrites() {
    for line in ["SAVE", "FLUSHALL", "DEBUG RELOAD"] {
        let dir = Dir::new("before-rewrite");
        let server = dir.start("2", &["--save", "3600 1"]);
        let mut c = server.wire();
        for i in 0..10 {
            assert_eq!(c.run(&format!("SET k{i} v")), ok());
        }
        assert_eq!(c.run("CONFIG SET rdb-key-save-delay 300000"), ok());
        assert!(!c.run("BGREWRITEAOF").is_error());
        eventually("the rewrite has begun", LIMIT, || info(&server, "aof_rewrite_in_progress") == "1");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(c.run(line), ok(), "{line}: {}", server.log());
        assert!(server.log().contains("Background AOF rewrite terminated by signal"), "{line}: {}", server.log());
        assert_eq!(c.run("CONFIG SET rdb-key-save-delay 0"), ok());
        let done = || server.log().contains("Background AOF rewrite finished successfully");
        eventually("the rewrite comes later", LIMIT, done);
        assert_eq!(c.run("SET after 1"), ok());
        let before = digest(&server);
        stop(server);
        assert_eq!(digest(&dir.start("2", &[])), before, "{line}");
    }
}

#[test]
fn a_file_that_cannot_be_made_is_not_turned_on() {
    let dir = Dir::new("refused");
    let server = Server::start(&["--dir", dir.text()]);
    let mut c = server.wire();
    std::fs::write(dir.path().join("appendonlydir"), "in the way").expect("a file");
    let refused =
        "ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on AOF. Check server logs.";
    assert_eq!(c.run("CONFIG SET appendonly yes"), error(refused));
    assert_eq!(c.run("CONFIG GET appendonly").items()[1].as_text(), "no");
    std::fs::remove_file(dir.path().join("appendonlydir")).expect("out of the way");
    assert_eq!(c.run("CONFIG SET appendonly yes"), ok());
    eventually("the file", LIMIT, || dir.path().join("appendonlydir/appendonly.aof.manifest").is_file());
}

/// A directory that was moved away is made again by the next rewrite, also by one that
/// comes by itself, and all is in it.
#[test]
fn a_directory_that_has_gone_is_made_again() {
    let dir = Dir::new("gone");
    let server = dir.start("2", &["--auto-aof-rewrite-min-size", "64kb"]);
    let mut c = server.wire();
    c.run("SET before 1");
    let place = dir.path().join("appendonlydir");
    std::fs::rename(&place, dir.path().join("away")).expect("move the directory");
    for i in 0..1000 {
        assert_eq!(c.run(&format!("SET k{i} {}", "v".repeat(200))), ok());
    }
    eventually("the rewrite", LIMIT, || place.join("appendonly.aof.manifest").is_file());
    eventually("its end", LIMIT, || info(&server, "aof_rewrite_in_progress") == "0");
    assert_eq!(info(&server, "aof_last_bgrewrite_status"), "ok");
    c.run("SET after 1");
    stop(server);
    assert_eq!(dir.start("2", &[]).wire().run("DBSIZE").as_int(), 1002);
}

/// Each file is read from database 0 on, whatever the one before it ended with.
#[test]
fn a_file_begins_with_its_database() {
    for reads in ["ours", "stock"] {
        let dir = Dir::new("database");
        let server = dir.start("2", &["--rdb-key-save-delay", "1000000"]);
        let mut c = server.wire();
        c.run("SELECT 5");
        c.run("SET before 1");
        assert!(!c.run("BGREWRITEAOF").is_error());
        eventually("another file", LIMIT, || dir.files().iter().any(|f| f.ends_with(".2.incr.aof")));
        c.run("SET after 1");
        // By the writes in two files, and then by a base and what follows it.
        for base in [false, true] {
            if base {
                assert_eq!(c.run("CONFIG SET rdb-key-save-delay 0"), ok());
                eventually("the base", LIMIT, || info(&server, "aof_rewrite_in_progress").trim() == "0");
                c.run("SET last 1");
            }
            assert_eq!(c.run("WAITAOF 1 0 60000").items()[0].as_int(), 1);
            let copy = Dir::new("database-copy");
            std::fs::create_dir_all(copy.aof("")).expect("a directory");
            for file in dir.files() {
                std::fs::copy(dir.aof(&file), copy.aof(&file)).expect("a copy");
            }
            let again = if reads == "ours" { copy.start("2", &[]) } else { copy.stock(&[]) };
            let mut c = again.wire();
            assert_eq!(c.run("DBSIZE").as_int(), 0, "writes have gone to database 0");
            c.run("SELECT 5");
            assert_eq!(c.run("DBSIZE").as_int(), 2 + i64::from(base));
        }
    }
}

/// BGSAVE SCHEDULE during a rewrite was refused as BGSAVE is.
#[test]
fn a_snapshot_scheduled_during_a_rewrite_follows_it() {
    let dir = Dir::new("scheduled");
    let server = dir.start("2", &["--rdb-key-save-delay", "300000"]);
    let mut c = server.wire();
    for key in ["a", "b"] {
        assert_eq!(c.run(&format!("SET {key} 1")), ok());
    }
    assert!(!c.run("BGREWRITEAOF").is_error());
    assert!(c.run("BGSAVE").as_error().starts_with("ERR Another child process is active (AOF?)"));
    assert_eq!(c.run("BGSAVE SCHEDULE").as_text(), "Background saving scheduled");
    eventually("the snapshot", LIMIT, || info(&server, "rdb_saves").trim() == "1");
    assert_eq!(info(&server, "rdb_changes_since_last_save").trim(), "0");
    let log = server.log();
    let (first, then) = (log.find("Background AOF rewrite finished"), log.find("Background saving started"));
    assert!(first.is_some() && first < then, "{log}");
    // It was scheduled once.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(info(&server, "rdb_bgsave_in_progress").trim(), "0");
}

/// Who asks for a rewrite where none can be hears so, as from Redis.
#[test]
fn a_rewrite_without_a_directory_is_refused() {
    let (ours, stock) = (Dir::new("no-dir"), Dir::new("no-dir-stock"));
    for server in [Server::start(&["--cores", "2", "--dir", ours.text()]), Server::stock(&["--dir", stock.text()])] {
        let mut c = server.wire();
        let in_the_way = PathBuf::from(c.run("CONFIG GET dir").items()[1].as_text()).join("appendonlydir");
        std::fs::write(&in_the_way, "x").expect("a file");
        let refused =
            "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.";
        assert_eq!(c.run("BGREWRITEAOF").as_error(), refused);
        assert_eq!(info(&server, "aof_last_bgrewrite_status"), "err");
        assert_eq!(info(&server, "aof_rewrite_in_progress"), "0");
        std::fs::remove_file(&in_the_way).expect("removed");
        assert_eq!(c.run("BGREWRITEAOF").as_text(), "Background append only file rewriting started");
        eventually("the rewrite", LIMIT, || info(&server, "aof_last_bgrewrite_status") == "ok");
    }
}

/// An append-only file that cannot be turned on keeps snapshots from nobody, and is
/// turned on as soon as it can be.
#[test]
fn turning_it_on_where_it_cannot_be_holds_nothing_up() {
    let dir = Dir::new("cannot");
    let server = Server::start(&["--cores", "2", "--dir", dir.text()]);
    let mut c = server.wire();
    c.run("SET a 1");
    let in_the_way = dir.path().join("appendonlydir/appendonly.aof.manifest");
    std::fs::create_dir_all(&in_the_way).expect("a directory");
    assert_eq!(c.run("CONFIG SET appendonly yes"), ok());
    eventually("an attempt has failed", LIMIT, || info(&server, "aof_last_bgrewrite_status") == "err");
    eventually("a snapshot", LIMIT, || !c.run("BGSAVE").is_error());
    eventually("its end", LIMIT, || info(&server, "rdb_saves") == "1");
    std::fs::remove_dir(&in_the_way).expect("remove the directory");
    eventually("it is on", LIMIT, || info(&server, "aof_last_bgrewrite_status") == "ok");
    assert_eq!(info(&server, "aof_enabled"), "1");
    stop(server);
    assert_eq!(dir.start("1", &[]).wire().run("GET a").as_text(), "1");
}

/// Whoever has waited for the stream to come to some place (a snapshot, a rewrite,
/// WAITAOF) leaves the server as quiet as before.
#[test]
fn nothing_hurries_when_nobody_waits() {
    let dir = Dir::new("quiet");
    let server = dir.start("2", &[]);
    let mut c = server.wire();
    c.run("SET a 1");
    assert!(!c.run("WAITAOF 1 0 5000").is_error());
    c.run("BGREWRITEAOF");
    wait_for_rewrite(&server, "1");
    let quiet = || {
        let before = cpu_time(server.pid());
        std::thread::sleep(Duration::from_secs(1));
        cpu_time(server.pid()) - before < Duration::from_millis(60)
    };
    eventually("a quiet second", LIMIT, quiet);
    stop(server);
}

/// INFO told how far the service core had come with the file: after the reply it
/// went on to say that the append-only file was on, or not yet.
#[test]
fn info_says_what_was_set_from_the_reply_on() {
    for cores in ["1", "3"] {
        let dir = Dir::new("said");
        let server = dir.start(cores, &[]);
        let mut c = server.wire();
        some_writes(&mut c, &mut Rng::new(8), 300);
        for _ in 0..5 {
            for (value, shown) in [("no", "0"), ("yes", "1")] {
                let set = format!("CONFIG SET appendonly {value}\r\nINFO persistence\r\n");
                let replies = c.pipeline(set.as_bytes(), 2);
                assert_eq!(replies[0], ok());
                let text = replies[1].as_text();
                assert!(text.contains(&format!("aof_enabled:{shown}\r\n")), "{value}: {text}");
            }
        }
        eventually("it is on", LIMIT, || info(&server, "aof_rewrite_in_progress") == "0");
        assert_eq!(info(&server, "aof_enabled"), "1");
    }
}
