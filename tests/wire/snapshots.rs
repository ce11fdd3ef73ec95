//! BGSAVE, SAVE, LASTSAVE, save points: what is in the file, and what is said
//! about it. Files are checked with stock tools: `redis-check-rdb` accepts
//! them, and a stock server that loads one has the same DEBUG DIGEST.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::server::plain;
use super::support::wire::encode_into;
use super::support::{Server, Wire, each_cores, ok, simple};

const LIMIT: Duration = Duration::from_secs(30);

/// The value of a field of INFO.
fn info(c: &mut Wire, name: &str) -> String {
    let text = c.run("INFO persistence").as_text();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn wait_for_bgsave(c: &mut Wire) {
    wait_until("the end of BGSAVE", || info(c, "rdb_bgsave_in_progress") == "0");
}

/// A stock server that has loaded the file.
fn loaded(file: &Path) -> Server {
    let dir = file.with_extension("loaded");
    std::fs::create_dir_all(&dir).expect("create a directory");
    std::fs::copy(file, dir.join("dump.rdb")).expect("copy the file");
    let check = Command::new("redis-check-rdb").arg(file).output().expect("run redis-check-rdb");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    Server::stock(&["--dir", &dir.to_string_lossy()])
}

/// Some keys of all types, small and large.
fn fill(c: &mut Wire) {
    let mut bytes = Vec::new();
    let mut n = 0;
    let mut add = |words: Vec<String>| {
        encode_into(&mut bytes, &words);
        n += 1;
    };
    for i in 0..500 {
        add(vec!["SET".into(), format!("k{i}"), format!("value {i} ").repeat(i % 40)]);
        add(vec!["SET".into(), format!("n{i}"), (i * i * 1000).to_string()]);
    }
    for size in [3, 3000] {
        let each = |head: &str, f: &dyn Fn(usize) -> Vec<String>| {
            let mut words = vec![head.to_owned(), format!("{head}{size}")];
            (0..size).for_each(|i| words.extend(f(i)));
            words
        };
        add(each("HSET", &|i| vec![format!("f{i}"), format!("v{i}")]));
        add(each("SADD", &|i| vec![format!("m{i}")]));
        add(each("ZADD", &|i| vec![format!("{}.5", i % 77), format!("m{i}")]));
        add(each("RPUSH", &|i| vec![format!("element {i}")]));
    }
    add(vec!["SADD".into(), "ints".into(), "1".into(), "70000".into(), "-3".into()]);
    add(vec!["SET".into(), "mortal".into(), "x".into(), "PXAT".into(), "4000000000000".into()]);
    c.pipeline(&bytes, n);
    c.run("SELECT 3");
    c.run("SET elsewhere 1");
    c.run("SELECT 0");
}

#[test]
fn a_file_holds_the_dataset() {
    each_cores(|server| {
        let mut c = server.wire();
        fill(&mut c);
        let before = c.run("LASTSAVE").as_int();
        assert_ne!(info(&mut c, "rdb_changes_since_last_save"), "0");
        for (compression, command) in [("yes", "BGSAVE"), ("no", "BGSAVE"), ("yes", "SAVE")] {
            assert_eq!(c.run(&format!("CONFIG SET rdbcompression {compression}")), ok());
            let reply = c.run(command);
            let started = if command == "SAVE" { ok() } else { simple("Background saving started") };
            assert_eq!(reply, started);
            wait_for_bgsave(&mut c);
            assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
            assert_eq!(info(&mut c, "rdb_changes_since_last_save"), "0");
            let stock = loaded(&server.dir().join("dump.rdb"));
            assert_eq!(stock.wire().run("DEBUG DIGEST"), c.run("DEBUG DIGEST"), "{command} {compression}");
        }
        assert!(c.run("LASTSAVE").as_int() >= before);
        assert!(server.log().contains("DB saved on disk"));
        let left = std::fs::read_dir(server.dir()).expect("the directory").flatten();
        assert!(!left.into_iter().any(|f| f.file_name().to_string_lossy().starts_with("temp-")));
        assert_eq!(c.run("BGSAVE nonsense").as_error(), "ERR syntax error");
    });
}

/// The digest at the time of BGSAVE is that of the file, whatever is written,
/// deleted, renamed and flushed while it is made.
#[test]
fn what_comes_after_bgsave_is_not_in_the_file() {
    each_cores(|server| {
        let mut c = server.wire();
        fill(&mut c);
        let digest = c.run("DEBUG DIGEST");
        c.run("CONFIG SET rdb-key-save-delay 300");
        assert!(!c.run("BGSAVE").is_error());
        for words in [
            "SET k1 changed",
            "DEL k2 k3 k4",
            "APPEND k5 more",
            "INCR n6",
            "RENAME HSET3000 renamed",
            "HDEL renamed f1 f2 f3",
            "HSET renamed f4 changed",
            "SPOP SADD3000 500",
            "SADD SADD3000 new",
            "ZADD ZADD3000 1 m5",
            "ZPOPMIN ZADD3000 300",
            "LPUSH RPUSH3000 a b c",
            "RPOP RPUSH3000 700",
            "LTRIM RPUSH3000 10 -10",
            "EXPIRE k7 1000",
            "MSET k8 a k9 b new1 c",
            "SWAPDB 0 3",
            "SET k1 x",
            "SWAPDB 0 3",
            "SUNIONSTORE SADD3 SADD3 SADD3000",
            "LMOVE RPUSH3000 k100x LEFT RIGHT",
            "DEL ZADD3000",
            "COPY renamed copied",
            "SET mortal immortal",
        ] {
            let reply = c.run(words);
            assert!(!reply.is_error(), "{words}: {reply:?}");
        }
        c.run("MULTI");
        c.run("RENAME renamed again");
        c.run("HSET again f9 changed");
        c.run("INCR n10");
        assert!(!c.run("EXEC").is_error());
        // FLUSHALL would give the snapshot up.
        assert_eq!(c.run("FLUSHDB"), ok());
        fill(&mut c);
        if !plain() {
            assert_eq!(info(&mut c, "rdb_bgsave_in_progress"), "1", "the test was too slow to test anything");
            assert_eq!(c.run("BGSAVE").as_error(), "ERR Background save already in progress");
            assert_eq!(c.run("SAVE").as_error(), "ERR Background save already in progress");
        }
        wait_for_bgsave(&mut c);
        let stock = loaded(&server.dir().join("dump.rdb"));
        if !plain() {
            assert_eq!(stock.wire().run("DEBUG DIGEST"), digest);
        }
    });
}

/// Money that is moved between accounts on all cores is all there in every
/// file, and what one MSET has written is there together.
#[test]
fn a_cut_is_at_one_place_among_all_transactions() {
    const ACCOUNTS: usize = 200;
    each_cores(|server| {
        let mut c = server.wire();
        (0..ACCOUNTS).for_each(|i| assert_eq!(c.run(&format!("SET account:{i} 1000")), ok()));
        let stop = AtomicBool::new(false);
        let files = std::thread::scope(|scope| {
            for seed in 0..4usize {
                let (stop, port) = (&stop, server.port);
                scope.spawn(move || move_money(port, seed, stop, ACCOUNTS));
            }
            let files = (0..4).map(|i| saved_as(&mut c, server, i)).collect::<Vec<_>>();
            stop.store(true, Ordering::Relaxed);
            files
        });
        for file in files {
            let stock = loaded(&file);
            let mut s = stock.wire();
            let mut all = |name: &str, n: usize| -> Vec<i64> {
                let keys: Vec<String> = (0..n).map(|i| format!("{name}:{i}")).collect();
                let values = s.run(&format!("MGET {}", keys.join(" ")));
                values.items().iter().map(|v| if v.is_nil() { 0 } else { v.as_text().parse().unwrap() }).collect()
            };
            assert_eq!(all("account", ACCOUNTS).iter().sum::<i64>(), 1000 * ACCOUNTS as i64);
            assert_eq!(all("left", 4), all("right", 4));
        }
    });
}

fn saved_as(c: &mut Wire, server: &Server, i: usize) -> std::path::PathBuf {
    std::thread::sleep(Duration::from_millis(100));
    assert!(!c.run("BGSAVE").is_error());
    wait_for_bgsave(c);
    assert_eq!(info(c, "rdb_last_bgsave_status"), "ok");
    let file = server.dir().join(format!("saved-{i}.rdb"));
    std::fs::rename(server.dir().join("dump.rdb"), &file).expect("move the file");
    file
}

fn move_money(port: u16, seed: usize, stop: &AtomicBool, accounts: usize) {
    let mut c = Wire::connect(port);
    let mut i = seed * 31;
    while !stop.load(Ordering::Relaxed) {
        i += 1;
        let (from, to) = (i * 7 % accounts, (i * 13 + seed) % accounts);
        c.run("MULTI");
        c.run(&format!("DECRBY account:{from} {i}"));
        c.run(&format!("INCRBY account:{to} {i}"));
        assert!(!c.run("EXEC").is_error());
        assert_eq!(c.run(&format!("MSET left:{seed} {i} right:{seed} {i}")), ok());
    }
}

#[test]
fn a_killed_server_leaves_the_old_file() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SET old 1");
        assert_eq!(c.run("SAVE"), ok());
        let file = server.dir().join("dump.rdb");
        let before = std::fs::read(&file).expect("read the file");
        fill(&mut c);
        c.run("CONFIG SET rdb-key-save-delay 100000");
        assert!(!c.run("BGSAVE").is_error());
        assert_eq!(info(&mut c, "rdb_bgsave_in_progress"), "1");
        server.signal(libc::SIGKILL);
        c.expect_closed();
        assert_eq!(std::fs::read(&file).expect("read the file"), before);
        assert_eq!(loaded(&file).wire().run("DBSIZE").as_int(), 1);
    });
}

#[test]
fn a_failure_refuses_writes_until_a_success() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.cmd(&["CONFIG", "SET", "save", "3600 1000"]), ok());
        c.run("SET a 1");
        // The temporary file cannot be made where a directory stands.
        let blocked = server.dir().join(format!("temp-{}.rdb", server.pid()));
        let dir = if plain() { server.dir().join("dump.rdb") } else { blocked };
        std::fs::create_dir(&dir).expect("create a directory");
        c.run("BGSAVE");
        wait_for_bgsave(&mut c);
        wait_until("the error", || info(&mut c, "rdb_last_bgsave_status") == "err");
        wait_until("the refusal", || c.run("SET a 2").is_error());
        for words in ["SET a 2", "PING", "MSET a 1 b 2", "DEL a"] {
            assert!(
                c.run(words).as_error().starts_with("MISCONF Redis is configured to save RDB snapshots"),
                "{words}"
            );
        }
        assert_eq!(c.run("GET a").as_text(), "1");
        assert_eq!(c.run("CONFIG SET stop-writes-on-bgsave-error no"), ok());
        assert_eq!(c.run("SET a 2"), ok());
        assert_eq!(c.run("CONFIG SET stop-writes-on-bgsave-error yes"), ok());
        assert!(c.run("SET a 3").is_error());
        std::fs::remove_dir(&dir).expect("remove the directory");
        assert!(!c.run("BGSAVE").is_error());
        wait_for_bgsave(&mut c);
        wait_until("the end of the refusal", || c.run("SET a 3") == ok());
        assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
    });
}

#[test]
fn save_points_and_the_end_of_the_process_save() {
    for cores in ["1", "4"] {
        let mut server = Server::start(&["--cores", cores]);
        let mut c = server.wire();
        assert_eq!(c.cmd(&["CONFIG", "SET", "save", "1 5"]), ok());
        (0..5).for_each(|i| assert_eq!(c.run(&format!("SET k{i} v")), ok()));
        wait_until("a snapshot", || info(&mut c, "rdb_saves") == "1");
        assert!(server.log().contains("5 changes in 1 seconds. Saving..."), "{}", server.log());
        assert_eq!(c.run("SET last 1"), ok());
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
        assert!(server.log().contains("Saving the final RDB snapshot before exiting."), "{}", server.log());
        assert_eq!(loaded(&server.dir().join("dump.rdb")).wire().run("DBSIZE").as_int(), 6);
    }
}

#[test]
fn shutdown_that_cannot_save_does_not_happen() {
    let mut server = Server::start(&["--cores", "2"]);
    let mut c = server.wire();
    c.run("SET a 1");
    let dir = server.dir().join(format!("temp-{}.rdb", server.pid()));
    std::fs::create_dir(&dir).expect("create a directory");
    assert_eq!(c.run("SHUTDOWN SAVE").as_error(), "ERR Errors trying to SHUTDOWN. Check logs.");
    assert_eq!(c.run("GET a").as_text(), "1");
    assert!(server.log().contains("Error trying to save the DB, can't exit."));
    std::fs::remove_dir(&dir).expect("remove the directory");
    c.send_words("SHUTDOWN SAVE");
    c.expect_closed();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(loaded(&server.dir().join("dump.rdb")).wire().run("DBSIZE").as_int(), 1);
}

/// One value is larger than all that a core may have on its way to the writer
/// (4 MiB): the snapshot stood still for ever, as it waited for room that only
/// reading on could make. Strings, and collections of few long elements.
#[test]
fn values_larger_than_what_may_be_on_the_way_are_saved() {
    each_cores(|server| {
        let mut c = server.wire();
        let long = "x".repeat(9 << 20);
        for i in 0..3 {
            assert_eq!(c.cmd(&["SET", &format!("string:{i}"), &long]), ok());
            for n in 0..8 {
                let element = format!("{n}{}", &long[..1 << 20]);
                c.cmd(&["SADD", &format!("set:{i}"), &element]);
                c.cmd(&["RPUSH", &format!("list:{i}"), &element]);
                c.cmd(&["HSET", &format!("hash:{i}"), &n.to_string(), &element]);
            }
        }
        let before = c.run("DEBUG DIGEST");
        assert!(!c.run("BGSAVE").is_error());
        wait_for_bgsave(&mut c);
        let fresh = loaded(&server.dir().join("dump.rdb"));
        assert_eq!(fresh.wire().run("DEBUG DIGEST"), before);
    });
}

/// A restart must not bring back what FLUSHALL deleted: with save points its
/// reply comes when the file holds nothing either.
#[test]
fn flushall_empties_the_file_too() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.cmd(&["CONFIG", "SET", "save", "3600 1"]), ok());
        for flush in ["FLUSHALL", "MULTI"] {
            for i in 0..20 {
                c.run(&format!("SET k{i} v"));
            }
            assert_eq!(c.run("SAVE"), ok());
            let saves: u64 = info(&mut c, "rdb_saves").parse().expect("a number");
            if flush == "MULTI" {
                c.run("MULTI");
                c.run("FLUSHALL");
                assert_eq!(c.run("EXEC").items(), [ok()]);
                wait_until("a save", || info(&mut c, "rdb_saves").parse::<u64>().expect("a number") > saves);
            } else {
                assert_eq!(c.run("FLUSHALL"), ok());
                assert_eq!(info(&mut c, "rdb_changes_since_last_save"), "0");
            }
            assert_eq!(loaded(&server.dir().join("dump.rdb")).wire().run("DBSIZE").as_int(), 0);
        }
        assert_eq!(c.cmd(&["CONFIG", "SET", "save", ""]), ok());
        let saves = info(&mut c, "rdb_saves");
        c.run("SET k v");
        assert_eq!(c.run("FLUSHALL"), ok());
        assert_eq!(info(&mut c, "rdb_saves"), saves, "without save points nothing is written");
        assert_ne!(info(&mut c, "rdb_changes_since_last_save"), "0");
    });
}

/// Who asks for SAVE hears that it failed; that is no reason to refuse writes.
#[test]
fn a_save_that_fails_refuses_no_writes() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.cmd(&["CONFIG", "SET", "save", "3600 1000"]), ok());
        c.run("SET a 1");
        std::fs::create_dir(server.dir().join("dump.rdb")).expect("create a directory");
        assert!(c.run("SAVE").is_error());
        assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
        assert_eq!(c.run("SET a 2"), ok());
        std::fs::remove_dir(server.dir().join("dump.rdb")).expect("remove it");
    });
}
