//! Servers that come back in the same directory.

use super::support::{Server, Wire};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A rewrite flushes half a dozen times: on a disk that takes 40 writes a second,
/// shared with the other tests, two of them took more than 30 seconds.
pub const LIMIT: Duration = Duration::from_secs(150);

/// A directory that is removed in the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("coreslot-aof-{name}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("make the directory");
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    /// A file of the append-only directory.
    pub fn aof(&self, name: &str) -> PathBuf {
        self.0.join("appendonlydir").join(name)
    }

    /// The append-only directory's files, sorted by name.
    pub fn files(&self) -> Vec<String> {
        let list = std::fs::read_dir(self.0.join("appendonlydir")).expect("the directory");
        let mut names: Vec<String> = list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The bytes of the newest incremental file.
    pub fn incr(&self) -> Vec<u8> {
        std::fs::read(self.incr_path()).expect("the incremental file")
    }

    pub fn incr_path(&self) -> PathBuf {
        let number = |n: &String| n.split('.').rev().nth(2).and_then(|s| s.parse::<u64>().ok());
        let names = self.files();
        let last = names.iter().filter(|n| n.ends_with(".incr.aof")).max_by_key(|n| number(n));
        self.aof(last.expect("an incremental file"))
    }

    /// Our server with the append-only file on.
    pub fn start(&self, cores: &str, more: &[&str]) -> Server {
        Server::start(&[&["--cores", cores, "--dir", self.text(), "--appendonly", "yes"], more].concat())
    }

    /// Debian's server with the append-only file on.
    pub fn stock(&self, more: &[&str]) -> Server {
        Server::stock(&[&["--dir", self.text(), "--appendonly", "yes"], more].concat())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The digest of the whole dataset.
pub fn digest(server: &Server) -> String {
    server.wire().run("DEBUG DIGEST").as_text()
}

/// Ends a server in order.
pub fn stop(mut server: Server) {
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{}", server.log());
}

/// Ends a server at once.
pub fn kill(mut server: Server) {
    server.signal(libc::SIGKILL);
    server.wait_exit(LIMIT);
}

/// Commands of an append-only file as lines; annotations are left out.
pub fn commands(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        let Some(n) = line.strip_prefix('*') else { continue };
        let words: Vec<&str> = (0..n.parse().expect("a count")).filter_map(|_| lines.nth(1)).collect();
        out.push(words.join(" "));
    }
    out
}

/// Writes of all kinds over few keys, some over several cores.
pub fn some_writes(wire: &mut Wire, rng: &mut super::support::Rng, n: usize) {
    for _ in 0..n {
        let mut key = || format!("key:{}", rng.below(50));
        let (a, b, c) = (key(), key(), key());
        let v = rng.below(1000);
        let line = match rng.below(16) {
            0 => format!("SET {a} {v}"),
            1 => format!("SET {a} {v} PX 100000"),
            2 => format!("MSET {a} {v} {b} x{v} {c} y"),
            3 => format!("DEL {a} {b}"),
            4 => format!("RPUSH list:{a} {v} {b}"),
            5 => format!("LMOVE list:{a} list:{b} LEFT RIGHT"),
            6 => format!("SADD set:{a} {v} {b} {c}"),
            7 => format!("SPOP set:{a}"),
            8 => format!("SUNIONSTORE set:{a} set:{b} set:{c}"),
            9 => format!("ZADD zset:{a} {v} {b}"),
            10 => format!("HSET hash:{a} {b} {v}"),
            11 => format!("RENAME set:{a} set:{b}"),
            12 => format!("INCRBY counter:{a} {v}"),
            13 => format!("COPY hash:{a} hash:{b} REPLACE"),
            14 => format!("SELECT {}", v % 3),
            _ => {
                wire.run("MULTI");
                wire.run(&format!("SET {a} {v}"));
                wire.run(&format!("INCR counter:{b}"));
                wire.run(&format!("SADD set:{c} {v}"));
                "EXEC".into()
            }
        };
        wire.run(&line);
    }
}
