//! The dataset: all types in all encodings, in two databases.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::support::{Server, Wire};

/// A directory that is removed in the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("coreslot-damage-{name}-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).expect("make the directory");
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    /// Every file with its bytes, by name.
    pub fn content(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    all.push((path.display().to_string(), fs::read(&path).expect("a file")));
                }
            }
        }
        all.sort();
        all
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";

/// Writes the dataset. What a server does not know is left out.
pub fn write(wire: &mut Wire) {
    let text = "abcabcabc".repeat(30);
    let member = "a member longer than what stays compact, that is, more than 64 bytes of text";
    for line in [
        "CONFIG SET list-max-listpack-size 3 set-max-intset-entries 8 zset-max-listpack-entries 8",
        "DEBUG QUICKLIST-PACKED-THRESHOLD 90b",
        "SET plain hello",
        "SET int8 7",
        "SET int16 -300",
        "SET int32 1000000",
        "SET long 12345678901234",
        "SETEX volatile 100000 v",
        "PFADD hll a b c d",
        "RPUSH list a b c 1 200 -70000 99999999999 d",
        "SADD ints 1 2 3",
        "SADD longs 1 70000 -9000000000",
        "SADD set a b 1 2",
        "HSET hash a 1 b two c 333333",
        "ZADD zset 1 a -2.5 b inf c",
        "XADD stream 1-1 f v g w",
        "XADD stream 1-2 f v2 g w2",
        "XADD stream 5-0 other field",
        "XADD stream 6-0 f x g y",
        "XDEL stream 1-2",
        "XGROUP CREATE stream g1 0",
        "XGROUP CREATE stream g2 1-1 ENTRIESREAD 1",
        "XREADGROUP GROUP g1 alice COUNT 2 STREAMS stream >",
        "XREADGROUP GROUP g1 bob COUNT 1 STREAMS stream >",
        "XACK stream g1 1-1",
        "XGROUP CREATECONSUMER stream g2 idle",
        "XGROUP CREATE empty-stream g $ MKSTREAM",
    ] {
        wire.run(line);
    }
    wire.cmd(&["SET", "compressed", &text]);
    wire.cmd(&["RPUSH", "list", &text, "end"]);
    wire.cmd(&["HSET", "large-hash", member, "v", "f", &text]);
    wire.cmd(&["SADD", "large-set", member, "b", "c"]);
    wire.cmd(&["ZADD", "large-zset", "1", member, "-inf", "low", "2.5", "b"]);
    assert!(!wire.cmd(&["FUNCTION", "LOAD", LIBRARY]).is_error());
    wire.run("SELECT 9");
    wire.run("SET other db PX 90000000");
    wire.run("SELECT 0");
}

fn made(server: &Server, more: &[&str]) -> Vec<u8> {
    let mut wire = server.wire();
    write(&mut wire);
    for line in more {
        assert!(!wire.run(line).is_error(), "{line}");
    }
    assert!(!wire.run("SAVE").is_error());
    fs::read(server.dir().join("dump.rdb")).expect("a snapshot")
}

/// Snapshots by their writers' names.
pub fn snapshots() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let lru = ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"];
        let lfu = ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lfu"];
        let volatile_fields = ["HSET fields a 1 b 2", "HPEXPIREAT fields 4000000000000 FIELDS 1 a"];
        let newer = ["--cores", "2", "--rdb-version", "11"];
        vec![
            ("stock", made(&Server::stock(&lru), &[])),
            ("ours", made(&Server::start(&[&["--cores", "2"], &lfu[..]].concat()), &[])),
            ("ours, version 11", made(&Server::start(&newer), &volatile_fields)),
            ("legacy", super::legacy::file()),
        ]
    })
}

/// The same without a checksum, so that changes come through to the values.
pub fn without_checksum(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let end = file.len() - 8;
    file[end..].fill(0);
    file
}

/// The parts of an append-only file: a base and the commands behind it.
pub struct Journal {
    pub base: Vec<u8>,
    pub first: Vec<u8>,
    pub second: Vec<u8>,
}

pub const NAMES: [&str; 3] = ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"];
pub const MANIFEST: &str = "file appendonly.aof.1.base.rdb seq 1 type b\n\
    file appendonly.aof.1.incr.aof seq 1 type i\nfile appendonly.aof.2.incr.aof seq 2 type i\n";

/// Commands with their places in databases and transactions, and times.
fn incremental(lines: &[&str]) -> Vec<u8> {
    let server = Server::start(&["--cores", "2", "--appendonly", "yes", "--aof-timestamp-enabled", "yes"]);
    let mut wire = server.wire();
    for line in lines {
        wire.run(line);
    }
    let path = server.dir().join("appendonlydir/appendonly.aof.1.incr.aof");
    let done = || {
        let bytes = fs::read(&path).expect("a file");
        bytes.windows(4).any(|w| w == b"last").then_some(bytes)
    };
    super::support::eventually("the last command", std::time::Duration::from_secs(20), || done().is_some());
    let mut bytes = done().expect("a file");
    // Blocks that were allocated ahead.
    bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1));
    bytes
}

pub fn journal() -> &'static Journal {
    static JOURNAL: OnceLock<Journal> = OnceLock::new();
    JOURNAL.get_or_init(|| Journal {
        base: made(&Server::start(&["--cores", "2"]), &[]),
        first: incremental(&["SET a 1", "SELECT 9", "RPUSH l x y", "MULTI", "INCR n", "INCR m", "EXEC", "SET last 1"]),
        second: incremental(&[
            "XADD s 7-7 f v",
            "MULTI",
            "INCR n",
            "SADD members a b",
            "EXEC",
            "HSET h f v",
            "MULTI",
            "SET pair 1",
            "SET last 2",
            "EXEC",
        ]),
    })
}

impl Journal {
    /// Writes these parts, with a manifest that names them.
    pub fn put(&self, dir: &Dir) {
        let folder = dir.path().join("appendonlydir");
        fs::create_dir_all(&folder).expect("make the directory");
        for (name, bytes) in NAMES.iter().zip([&self.base, &self.first, &self.second]) {
            fs::write(folder.join(name), bytes).expect("write");
        }
        fs::write(folder.join("appendonly.aof.manifest"), MANIFEST).expect("write");
    }
}
