//! Loading a snapshot file at start: files of a stock server, progress, and
//! files that cannot be loaded.

use super::support::server::run_to_end;
use super::support::{Rng, Server, Wire, eventually, plain};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("coreslot-loading-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("create a directory");
        Dir(path)
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }

    fn file(&self) -> PathBuf {
        self.0.join("dump.rdb")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Fills a server with values of every type and many sizes.
fn fill(wire: &mut Wire, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut commands = Vec::new();
    for db in ["0", "9"] {
        commands.push(vec!["SELECT".to_string(), db.to_string()]);
        for i in 0..150 {
            let n = [1, 5, 40, 700][i % 4];
            let text = |rng: &mut Rng| match rng.below(4) {
                0 => rng.between(-100_000, 100_000).to_string(),
                1 => rng.between(i64::MIN, i64::MAX).to_string(),
                2 => "long and compressible ".repeat(rng.below(12)),
                _ => format!("m{}", rng.below(500)),
            };
            commands.push(vec!["SET".into(), format!("string{i}"), text(&mut rng).repeat(n.min(40))]);
            for _ in 0..n {
                let (a, b) = (text(&mut rng), text(&mut rng));
                commands.push(vec!["RPUSH".into(), format!("list{i}"), a.clone()]);
                commands.push(vec!["SADD".into(), format!("set{i}"), a.clone()]);
                commands.push(vec!["SADD".into(), format!("ints{i}"), rng.between(-70_000, 1 << 40).to_string()]);
                commands.push(vec!["HSET".into(), format!("hash{i}"), a.clone(), b]);
                let score = ["1", "-2.5", "inf", "1e30", "0.1"][rng.below(5)];
                commands.push(vec!["ZADD".into(), format!("zset{i}"), score.into(), a]);
            }
            commands.push(vec!["EXPIRE".into(), format!("list{i}"), "100000".into()]);
        }
        commands.push(vec!["RPUSH".into(), "huge".into(), "x".repeat(100_000), "y".into()]);
    }
    for some in commands.chunks(500) {
        let request: Vec<u8> = some.iter().flat_map(|c| super::support::encode(c)).collect();
        for reply in wire.pipeline(&request, some.len()) {
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
}

/// All data, as text, whatever the order of sets.
fn content(wire: &mut Wire) -> Vec<String> {
    let mut all = Vec::new();
    for db in ["0", "9"] {
        wire.cmd(&["SELECT", db]);
        for key in wire.run("KEYS *").items() {
            let key = key.as_bytes();
            let value = match wire.cmd(&[b"TYPE", key]).as_text().as_str() {
                "string" => wire.cmd(&[b"GET", key]),
                "list" => wire.cmd(&[&b"LRANGE"[..], key, b"0", b"-1"]),
                "set" => wire.cmd(&[b"SMEMBERS", key]).sorted(),
                "hash" => wire.cmd(&[b"HGETALL", key]).sorted_pairs(),
                _ => wire.cmd(&[&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"]),
            };
            let at = wire.cmd(&[b"PEXPIRETIME", key]).as_int();
            all.push(format!("{db} {} {at} {value:?}", key.escape_ascii()));
        }
    }
    all.sort();
    all
}

fn load(dir: &Dir, cores: &str, more: &[&str]) -> Server {
    Server::start(&[&["--cores", cores, "--dir", dir.text()], more].concat())
}

#[test]
fn files_of_a_stock_server_with_all_thresholds() {
    let compact = "--hash-max-listpack-entries 5000 --zset-max-listpack-entries 5000 --set-max-intset-entries 5000 \
                   --hash-max-listpack-value 5000 --zset-max-listpack-value 5000";
    let tiny = "--hash-max-listpack-entries 1 --zset-max-listpack-entries 1 --set-max-intset-entries 1 \
                --list-max-listpack-size 3 --rdbcompression no --rdbchecksum no";
    for (n, options) in ["", compact, tiny, "--list-compress-depth 1 --list-max-listpack-size -1"].iter().enumerate() {
        let dir = Dir::new(&format!("stock{n}"));
        let words: Vec<&str> = options.split_whitespace().collect();
        let stock = Server::stock(&[&["--dir", dir.text()], &words[..]].concat());
        let mut wire = stock.wire();
        fill(&mut wire, n as u64);
        let want = content(&mut wire);
        assert!(!wire.run("SAVE").is_error());
        drop(wire);
        for cores in if plain() { vec!["1"] } else { vec!["1", "3"] } {
            let server = load(&dir, cores, &[]);
            let found = content(&mut server.wire());
            assert_eq!(found.len(), want.len(), "{options}");
            found.iter().zip(&want).for_each(|(a, b)| assert_eq!(a, b, "{options}"));
            assert!(server.log().contains("DB loaded from disk: "));
            assert!(server.log().contains("Loading RDB produced by version 7.0.15"));
            let info = server.wire().run("INFO persistence").as_text();
            assert!(info.contains(&format!("rdb_last_load_keys_loaded:{}\r\n", want.len())), "{info}");
        }
    }
}

#[test]
fn expired_keys_are_left_out() {
    let dir = Dir::new("expired");
    let stock = Server::stock(&["--dir", dir.text()]);
    let mut wire = stock.wire();
    wire.run("DEBUG SET-ACTIVE-EXPIRE 0");
    for i in 0..100 {
        wire.run(&format!("SET short{i} v PX 1"));
        wire.run(&format!("SET long{i} v EX 100000"));
    }
    wire.run("SAVE");
    let server = load(&dir, "2", &[]);
    let mut ours = server.wire();
    assert_eq!(ours.run("DBSIZE").as_int(), 100);
    let info = ours.run("INFO persistence").as_text();
    assert!(info.contains("rdb_last_load_keys_expired:100\r\n"), "{info}");
    assert!(server.log().contains("Done loading RDB, keys loaded: 100, keys expired: 100."));
}

#[test]
fn clients_are_told_while_it_loads() {
    let dir = Dir::new("slow");
    let stock = Server::stock(&["--dir", dir.text()]);
    let mut wire = stock.wire();
    wire.run("DEBUG POPULATE 20000 key 100");
    wire.run("SAVE");
    // A load of several seconds; the start waits for it, so it is in another thread.
    let loading = Server::starting(&["--cores", "2", "--dir", dir.text(), "--key-load-delay", "200"]);
    eventually("it listens", LIMIT, || Wire::try_connect(loading.port).is_ok());
    let mut ours = loading.wire();
    let refusal = "LOADING Redis is loading the dataset in memory";
    for command in ["GET key:1", "SET a b", "DBSIZE", "PING", "MGET a b c"] {
        assert_eq!(ours.run(command).as_error(), refusal, "{command}");
    }
    let field = |ours: &mut Wire, name: &str| -> f64 {
        let info = ours.run("INFO persistence").as_text();
        let line =
            info.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap_or_else(|| panic!("{name}: {info}"));
        line.rsplit(':').next().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    assert_eq!(field(&mut ours, "loading"), 1.0);
    let size = fs::metadata(dir.file()).expect("the file").len();
    eventually("the size", LIMIT, || field(&mut ours, "loading_total_bytes") == size as f64);
    let first = field(&mut ours, "loading_loaded_bytes");
    assert!(first < size as f64);
    for name in ["loading_start_time", "loading_rdb_used_mem", "loading_loaded_perc", "loading_eta_seconds"] {
        field(&mut ours, name);
    }
    eventually("it goes on", LIMIT, || field(&mut ours, "loading_loaded_bytes") > first);
    // A signal ends it at once, without touching the file.
    let mut loading = loading;
    loading.signal(libc::SIGTERM);
    let status = loading.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::metadata(dir.file()).expect("the file").len(), size);
}

/// SHUTDOWN while it loads wrote what was there so far in the place of the file.
#[test]
fn an_end_while_it_loads_leaves_the_file() {
    let dir = Dir::new("ended");
    let stock = Server::stock(&["--dir", dir.text()]);
    let mut wire = stock.wire();
    wire.run("DEBUG POPULATE 20000 key 100");
    wire.run("SAVE");
    drop(stock);
    let file = fs::read(dir.file()).expect("the file");
    for (cores, end) in [("1", "SHUTDOWN"), ("4", "SHUTDOWN SAVE"), ("2", "SHUTDOWN NOW"), ("2", "SHUTDOWN SAVE FORCE")]
    {
        let args = ["--cores", cores, "--dir", dir.text(), "--key-load-delay", "200", "--save", "1 1"];
        let mut loading = Server::starting(&args);
        eventually("it listens", LIMIT, || Wire::try_connect(loading.port).is_ok());
        let mut c = loading.wire();
        eventually("some keys", LIMIT, || {
            let info = c.run("INFO persistence").as_text();
            assert!(info.contains("\r\nloading:1\r\n"), "too fast: {info}");
            !info.contains("\r\nloading_loaded_bytes:0\r\n")
        });
        // Longer than the save point.
        std::thread::sleep(Duration::from_millis(2100));
        assert!(c.run("GET a").as_error().starts_with("LOADING"), "too fast");
        c.send_words(end);
        assert_eq!(loading.wait_exit(LIMIT).code(), Some(0), "{end}");
        assert!(fs::read(dir.file()).expect("the file") == file, "{end} with {cores} cores: {}", loading.log());
        assert!(!loading.log().contains("Ready to accept"), "{}", loading.log());
    }
}

/// The same of a replica that takes in its primary's copy, by command and by signal.
#[test]
fn an_end_while_a_copy_is_loaded_leaves_the_file() {
    let dir = Dir::new("copied");
    let primary = Server::start(&["--cores", "2", "--repl-diskless-sync-delay", "0"]);
    primary.wire().run("DEBUG POPULATE 20000 key 100");
    let of = format!("127.0.0.1 {}", primary.port);
    for (mode, command) in [("disabled", true), ("disabled", false), ("on-empty-db", false), ("swapdb", true)] {
        let args = ["--cores", "4", "--dir", dir.text(), "--key-load-delay", "200", "--save", "1 1"];
        let mut replica = Server::start(&[&args[..], &["--replicaof", &of, "--repl-diskless-load", mode]].concat());
        let mut c = replica.wire();
        eventually("a part of the copy", LIMIT, || {
            let info = c.run("INFO persistence").as_text();
            (info.contains("\r\nloading:1\r\n") || info.contains("\r\nasync_loading:1\r\n"))
                && !info.contains("\r\nloading_loaded_bytes:0\r\n")
        });
        let file = fs::read(dir.file()).ok();
        std::thread::sleep(Duration::from_millis(1200));
        match command {
            true => c.send_words("SHUTDOWN SAVE"),
            false => replica.signal(libc::SIGTERM),
        }
        assert_eq!(replica.wait_exit(LIMIT).code(), Some(0), "{mode}");
        assert!(fs::read(dir.file()).ok() == file, "{mode}: {}", replica.log());
        let _ = fs::remove_file(dir.file());
    }
}

/// Who came within the first milliseconds was told that the dataset is being
/// loaded, though there was none.
#[test]
fn nobody_hears_of_loading_nothing() {
    for _ in 0..5 {
        let server = Server::starting(&["--cores", "4"]);
        let mut wire = None;
        eventually("it listens", LIMIT, || {
            wire = Wire::try_connect(server.port).ok();
            wire.is_some()
        });
        let reply = wire.expect("a connection").run("PING");
        assert!(!reply.is_error(), "{reply:?}");
    }
}

/// Starts on a file that was changed: exit code and log. The file must stay.
fn refused(good: &[u8], change: impl FnOnce(&mut Vec<u8>), name: &str) -> String {
    let dir = Dir::new(name);
    let mut bad = good.to_vec();
    change(&mut bad);
    fs::write(dir.file(), &bad).expect("write the file");
    let block = super::support::ports::Block::claim();
    let (code, log) = run_to_end(&["--dir", dir.text(), "--cores", "2"], block.base);
    if plain() {
        return log;
    }
    assert_eq!(code, Some(1), "{log}");
    assert!(!log.contains("Ready to accept"), "{log}");
    assert_eq!(fs::read(dir.file()).expect("the file"), bad);
    log
}

#[test]
fn bad_files_end_the_start() {
    if plain() {
        return;
    }
    let dir = Dir::new("bad");
    let stock = Server::stock(&["--dir", dir.text()]);
    let mut wire = stock.wire();
    wire.run("DEBUG POPULATE 1000");
    wire.run("ZADD scores 1 a 2 b");
    wire.run("SAVE");
    let good = fs::read(dir.file()).expect("the file");
    let log = refused(&good, |b| b.truncate(5000), "short");
    assert!(log.contains("Short read or OOM loading DB. Unrecoverable error, aborting now."), "{log}");
    assert!(log.contains("RDB reading offset 5000 of dump.rdb -> Unexpected EOF reading RDB file"), "{log}");
    let log = refused(&good, Vec::clear, "empty");
    assert!(log.contains("Short read or OOM loading DB"), "{log}");
    let log = refused(&good, |b| *b.last_mut().expect("bytes") ^= 1, "checksum");
    assert!(log.contains("Wrong RDB checksum expected: (") && log.contains("RDB CRC error"), "{log}");
    let log = refused(&good, |b| b[0] = b'X', "magic");
    assert!(log.contains("Wrong signature trying to load DB from file"), "{log}");
    assert!(log.contains("Fatal error loading the DB: Invalid argument. Exiting."), "{log}");
    let log = refused(&good, |b| b[5..9].copy_from_slice(b"0013"), "version");
    assert!(log.contains("Can't handle RDB format version 13"), "{log}");
    // A listpack that is not whole, in a file without a checksum.
    let spoil = |b: &mut Vec<u8>| {
        let at = b.windows(6).position(|w| w == b"scores").expect("the key") + 6;
        let member = b[at..].windows(2).position(|w| w == b"\x81a").expect("the member");
        b[at + member + 3] = 0x81;
        let sum = b.len() - 8;
        b[sum..].fill(0);
    };
    let log = refused(&good, spoil, "value");
    assert!(log.contains("key 'scores'") && log.contains("zset-listpack"), "{log}");
}

#[test]
fn a_missing_file_is_an_empty_dataset_and_another_name_is_loaded() {
    let dir = Dir::new("name");
    let server = load(&dir, "1", &["--dbfilename", "other.rdb"]);
    assert_eq!(server.wire().run("DBSIZE").as_int(), 0);
    let stock = Server::stock(&["--dir", dir.text(), "--dbfilename", "other.rdb"]);
    stock.wire().run("SET a b");
    stock.wire().run("SAVE");
    assert!(Path::new(&dir.0.join("other.rdb")).exists());
    let server = load(&dir, "1", &["--dbfilename", "other.rdb"]);
    assert_eq!(server.wire().run("GET a").as_text(), "b");
}

#[test]
fn an_append_only_file_on_a_snapshot_of_a_stock_server() {
    let dir = Dir::new("aof");
    let stock = Server::stock(&["--dir", dir.text(), "--appendonly", "yes"]);
    let mut wire = stock.wire();
    fill(&mut wire, 9);
    wire.run("SELECT 0");
    wire.run("BGREWRITEAOF");
    eventually("the rewrite ends", LIMIT, || {
        let info = wire.run("INFO persistence").as_text();
        info.contains("aof_rewrite_in_progress:0\r\n") && info.contains("aof_rewrite_scheduled:0\r\n")
    });
    wire.run("SELECT 9");
    wire.run("RPUSH list1 behind");
    wire.run("SET after rewrite");
    let want = content(&mut wire);
    wire.run("CONFIG SET appendfsync always");
    wire.run("SET last write");
    wire.run("DEL last");
    drop(wire);
    drop(stock);
    let server = load(&dir, "2", &["--appendonly", "yes"]);
    assert_eq!(content(&mut server.wire()), want);
    if !plain() {
        assert!(server.log().contains("Reading RDB base file on AOF loading..."), "{}", server.log());
    }
}
