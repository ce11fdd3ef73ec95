//! Files are loaded again: ours by us, ours by stock redis-server, its by us;
//! whole, cut off and broken.

use super::harness::{Dir, LIMIT, commands, digest, kill, some_writes, stop};
use super::support::server::run_to_end;
use super::support::{Rng, Server, Wire, eventually, ok};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn filled(dir: &Dir, cores: &str, seed: u64) -> Server {
    let server = dir.start(cores, &[]);
    let port = server.port;
    let writers: Vec<_> = (0..4)
        .map(|i| {
            std::thread::spawn(move || {
                let mut wire = Wire::connect(port);
                some_writes(&mut wire, &mut Rng::new(seed * 10 + i), 500);
            })
        })
        .collect();
    writers.into_iter().for_each(|w| w.join().expect("a writer"));
    server
}

#[test]
fn what_was_written_is_loaded_by_any_number_of_cores() {
    let dir = Dir::new("again");
    let server = filled(&dir, "4", 1);
    let before = digest(&server);
    stop(server);
    for cores in ["1", "3", "4"] {
        let server = dir.start(cores, &[]);
        assert_eq!(digest(&server), before, "{cores} cores");
        let log = server.log();
        assert!(log.contains("DB loaded from append only file"), "{log}");
        stop(server);
    }
}

#[test]
fn stock_redis_loads_our_files() {
    let dir = Dir::new("stock");
    let server = filled(&dir, "4", 2);
    let before = digest(&server);
    stop(server);
    let stock = dir.stock(&[]);
    assert_eq!(digest(&stock), before);
}

#[test]
fn we_load_the_files_of_stock_redis() {
    let dir = Dir::new("from-stock");
    let stock = dir.stock(&["--aof-use-rdb-preamble", "no"]);
    let mut c = stock.wire();
    some_writes(&mut c, &mut Rng::new(3), 500);
    assert!(!c.run("BGREWRITEAOF").is_error());
    eventually("the rewrite", LIMIT, || c.run("INFO persistence").as_text().contains("aof_rewrite_in_progress:0"));
    some_writes(&mut c, &mut Rng::new(4), 500);
    let before = digest(&stock);
    stop(stock);
    for cores in ["1", "4"] {
        let server = dir.start(cores, &[]);
        assert_eq!(digest(&server), before, "{cores} cores");
        stop(server);
    }
}

#[test]
fn a_single_old_file_becomes_the_base() {
    let dir = Dir::new("old");
    let text = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nset\r\n$1\r\na\r\n$3\r\nold\r\n";
    fs::write(dir.path().join("appendonly.aof"), text).unwrap();
    for round in 0..2 {
        let server = dir.start("2", &[]);
        let mut c = server.wire();
        assert_eq!(c.run("GET a").as_text(), if round == 0 { "old" } else { "new" });
        assert_eq!(c.run("SET a new"), ok());
        stop(server);
    }
    assert_eq!(dir.files(), ["appendonly.aof", "appendonly.aof.1.incr.aof", "appendonly.aof.manifest"]);
    assert!(!dir.path().join("appendonly.aof").exists());
}

/// The last record of a file is cut at every byte: either it is there whole or
/// what stood before it is all there is.
#[test]
fn a_file_may_end_anywhere_in_its_last_record() {
    let dir = Dir::new("cut");
    let server = dir.start("2", &[]);
    let mut c = server.wire();
    c.run("SET a 1");
    c.run("MSET b 1 c 1 d 1");
    stop(server);
    let whole = dir.incr();
    let after_set = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n".len();
    let path = dir.incr_path();
    for cut in after_set..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let server = dir.start("2", &[]);
        assert_eq!(server.wire().run("DBSIZE").as_int(), 1, "cut at {cut}");
        kill(server);
        assert_eq!(fs::metadata(&path).unwrap().len(), after_set as u64, "cut at {cut}");
    }
    fs::write(&path, &whole).unwrap();
    let server = dir.start("2", &[]);
    assert_eq!(server.wire().run("DBSIZE").as_int(), 4);
    stop(server);
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (code, log) = refused(&dir, &["--aof-load-truncated", "no"]);
    assert_eq!(code, Some(1));
    assert!(log.contains("Unexpected end of file reading the append only file appendonly.aof.1.incr.aof."), "{log}");
    assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64 - 1, "nothing is overwritten");
}

fn refused(dir: &Dir, more: &[&str]) -> (Option<i32>, String) {
    let block = super::support::ports::Block::claim();
    let args = [&["--dir", dir.text(), "--appendonly", "yes", "--save", ""], more].concat();
    run_to_end(&args, block.base)
}

#[test]
fn broken_files_are_refused_with_their_name() {
    let set = b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\n1\r\n";
    let manifest = "file appendonly.aof.1.incr.aof seq 1 type i\n";
    let cases: [(&str, &[u8], &str); 6] = [
        (manifest, b"nonsense\r\n", "Bad file format reading the append only file appendonly.aof.1.incr.aof"),
        (manifest, b"*1\r\n$3\r\nfoo\r\n", "Unknown command 'foo' reading the append only file"),
        (manifest, b"*1\r\n$4\r\nEXEC\r\n", "Bad file format"),
        ("", b"", "Found an empty AOF manifest"),
        ("file a seq 1 type x\n", b"", "Unknown AOF file type"),
        ("file nowhere.1.incr.aof seq 1 type i\n", b"", "nowhere.1.incr.aof"),
    ];
    for (manifest, tail, want) in cases {
        let dir = Dir::new("broken");
        fs::create_dir(dir.path().join("appendonlydir")).unwrap();
        fs::write(dir.aof("appendonly.aof.manifest"), manifest).unwrap();
        let bytes = [&set[..], tail].concat();
        fs::write(dir.aof("appendonly.aof.1.incr.aof"), &bytes).unwrap();
        let (code, log) = refused(&dir, &[]);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(want), "{want}: {log}");
        assert_eq!(fs::read(dir.aof("appendonly.aof.1.incr.aof")).unwrap(), bytes, "nothing is overwritten");
    }
}

/// Who asks while a slow script of the file runs is told that the file is
/// loaded, not to kill the script.
#[test]
fn a_slow_script_in_the_file_is_part_of_loading() {
    let dir = Dir::new("script");
    let slow = "redis.call('set', KEYS[1], 'y') local n = 0 for i = 1, 100000000 do n = n + 1 end";
    let args = ["eval", slow, "1", "x"].map(|a| format!("${}\r\n{a}\r\n", a.len())).concat();
    fs::create_dir(dir.path().join("appendonlydir")).unwrap();
    fs::write(dir.aof("appendonly.aof.manifest"), "file appendonly.aof.1.incr.aof seq 1 type i\n").unwrap();
    fs::write(dir.aof("appendonly.aof.1.incr.aof"), "").unwrap();
    let args_of_server = ["--dir", dir.text(), "--appendonly", "yes", "--busy-reply-threshold", "10"];
    let server = Server::start(&[&args_of_server[..], &["--enable-debug-command", "yes"]].concat());
    fs::write(dir.aof("appendonly.aof.1.incr.aof"), format!("*4\r\n{args}")).unwrap();
    let mut loading = server.wire();
    loading.send("DEBUG LOADAOF\r\n");
    let mut c = server.wire();
    eventually("the script is noticed", LIMIT, || {
        let reply = c.run("PING");
        assert!(!reply.is_error() || reply.as_error().starts_with("LOADING"), "{reply:?}");
        reply.is_error() && server.log().contains("Slow script detected")
    });
    let reply = c.run("PING");
    assert!(!reply.is_error() || reply.as_error().starts_with("LOADING"), "{reply:?}");
    assert_eq!(loading.read(), ok());
    assert_eq!(c.run("GET x").as_text(), "y");
}

#[test]
fn a_file_cut_in_the_middle_is_refused() {
    let dir = Dir::new("middle");
    fs::create_dir(dir.path().join("appendonlydir")).unwrap();
    let set = b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\n1\r\n";
    fs::write(dir.aof("x.1.incr.aof"), &set[..10]).unwrap();
    fs::write(dir.aof("x.2.incr.aof"), set).unwrap();
    fs::write(dir.aof("appendonly.aof.manifest"), "file x.1.incr.aof seq 1 type i\nfile x.2.incr.aof seq 2 type i\n")
        .unwrap();
    let (code, log) = refused(&dir, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("Fatal error: the truncated file is not the last file"), "{log}");
}

#[test]
fn times_stand_in_the_file_if_wanted() {
    let dir = Dir::new("times");
    let server = dir.start("2", &["--aof-timestamp-enabled", "yes"]);
    let before = digest(&server);
    server.wire().run("SET a 1");
    server.wire().run("DEL a");
    stop(server);
    assert!(dir.incr().starts_with(b"#TS:"));
    let server = dir.start("2", &[]);
    assert_eq!(digest(&server), before);
}

#[test]
fn commands_wait_while_the_dataset_is_loaded() {
    let dir = Dir::new("loading");
    fs::create_dir(dir.path().join("appendonlydir")).unwrap();
    let mut bytes = Vec::new();
    for i in 0..400_000 {
        super::support::wire::encode_into(&mut bytes, &["RPUSH", &format!("list{}", i % 100), "element"]);
    }
    fs::write(dir.aof("appendonly.aof.1.incr.aof"), bytes).unwrap();
    fs::write(dir.aof("appendonly.aof.manifest"), "file appendonly.aof.1.incr.aof seq 1 type i\n").unwrap();
    let (tell, port) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || ask_until_loaded(port.recv().unwrap()));
    let server = Server::start_with(|port| {
        tell.send(port).unwrap();
        ["--cores", "2", "--dir", dir.text(), "--appendonly", "yes"].map(String::from).to_vec()
    });
    let refusals = client.join().expect("the client");
    assert!(refusals > 0, "loading was over before anything could be asked");
    stop(server);
}

/// Asks for a length until it is told; how often it was refused.
fn ask_until_loaded(port: u16) -> usize {
    let mut refusals = 0;
    eventually("the server answers", LIMIT, || {
        let Ok(mut c) = Wire::try_connect(port) else { return false };
        // The port may still be the one that claimed it for the server.
        if c.try_send("LLEN list7\r\n").is_err() {
            return false;
        }
        let Ok(reply) = c.try_read() else { return false };
        if reply.is_error() {
            assert!(reply.as_error().starts_with("LOADING Redis is loading the dataset in memory"), "{reply:?}");
            refusals += 1;
            return false;
        }
        assert_eq!(reply.as_int(), 4000);
        true
    });
    refusals
}

#[test]
fn turning_it_off_at_run_time_ends_the_file() {
    let dir = Dir::new("off");
    let server = dir.start("2", &[]);
    let mut c = server.wire();
    c.run("SET a 1");
    assert_eq!(c.run("CONFIG SET appendonly no"), ok());
    eventually("the file is closed", LIMIT, || server.log().contains("AOF is off"));
    c.run("SET b 1");
    stop(server);
    let got = super::harness::commands(&dir.incr());
    assert_eq!(got, ["SELECT 0", "SET a 1"]);
}

/// Bytes of blocks that a file has.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).expect("the file").blocks() * 512
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("the file").len()
}

/// Can blocks be allocated there without making a file longer?
fn allocates_ahead(dir: &Dir) -> bool {
    let path = dir.path().join("probe");
    let file = fs::File::create(&path).expect("a file");
    // SAFETY: gets only numbers.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, 1 << 20) };
    let can = done == 0 && allocated(&path) >= 1 << 20;
    fs::remove_file(path).expect("remove it");
    can
}

/// Blocks are allocated ahead of what is written. The file is no longer for it,
/// and when it is finished they are given back, at the latest by the next server.
#[test]
fn blocks_ahead_do_not_show_and_are_given_back() {
    const SLACK: u64 = 64 << 10;
    let dir = Dir::new("ahead");
    if !allocates_ahead(&dir) {
        eprintln!("skipped: no blocks beyond the end of a file here");
        return;
    }
    let value = "x".repeat(1000);
    let start = || dir.start("1", &["--appendfsync", "always", "--aof-disable-auto-gc", "yes"]);
    let fill = |server: &Server| {
        let mut c = server.wire();
        for i in 0..20 {
            c.cmd(&["SET", &format!("k{i}"), &value]);
        }
        let path = dir.incr_path();
        assert!(commands(&fs::read(&path).expect("the file")).len() >= 20);
        let ahead = allocated(&path) - length(&path);
        assert!(ahead > SLACK, "only {ahead} bytes ahead");
        path
    };
    let server = start();
    let first = fill(&server);
    server.wire().run("BGREWRITEAOF");
    eventually("the next file", LIMIT, || dir.incr_path() != first);
    assert!(allocated(&first) < length(&first) + SLACK, "the finished file keeps its blocks");
    let second = fill(&server);
    kill(server);
    assert!(allocated(&second) > length(&second) + SLACK);
    let server = start();
    assert_eq!(server.wire().run("DBSIZE").as_int(), 20);
    stop(server);
    assert!(allocated(&second) < length(&second) + SLACK, "what a crash left is still there");
}

/// What DEBUG LOADAOF loads is no change: it stands in the file already, and
/// replicas have it.
#[test]
fn what_is_loaded_again_is_not_written_again() {
    let dir = Dir::new("again");
    let server = dir.start("2", &[]);
    let replica = Server::start(&["--cores", "1", "--repl-diskless-sync-delay", "0"]);
    replica.wire().run(&format!("REPLICAOF 127.0.0.1 {}", server.port));
    let up = || replica.wire().run("INFO replication").as_text().contains("master_link_status:up");
    eventually("a link", LIMIT, up);
    let mut c = server.wire();
    for i in 0..10 {
        c.run(&format!("RPUSH list:{i} a b c"));
    }
    assert_eq!(c.run("DEBUG LOADAOF"), ok());
    c.run("RPUSH list:0 d");
    let want = digest(&server);
    eventually("the replica has it", LIMIT, || digest(&replica) == want);
    stop(server);
    let server = dir.start("2", &[]);
    assert_eq!(server.wire().run("LLEN list:0").as_int(), 4);
    assert_eq!(digest(&server), want);
}
