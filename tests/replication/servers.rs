//! Servers in both roles, writes of all kinds, and whether datasets agree.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::generate::Generator;
use super::support::unbuilt::lacks_command;
use super::support::{Server, Wire, eventually};

pub const LIMIT: Duration = Duration::from_secs(60);

/// Tells threads to stop when it goes, also in a panic: a scope waits for them.
pub struct StopAtEnd<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Full synchronizations begin at once.
const PROMPT: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

pub fn ours(cores: usize, args: &[&str]) -> Server {
    Server::start(&[&["--cores", &cores.to_string()], &PROMPT[..], args].concat())
}

pub fn stock(args: &[&str]) -> Server {
    Server::stock(&[&PROMPT[..], args].concat())
}

/// A field of INFO.
pub fn info(server: &Server, field: &str) -> String {
    let text = server.wire().run("INFO everything").as_text();
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{field}:")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("INFO has no {field}:\n{text}"))
}

pub fn count(server: &Server, field: &str) -> u64 {
    info(server, field).trim().parse().expect("a number")
}

pub fn replicate(server: &Server, port: u16) {
    let reply = server.wire().run(&format!("REPLICAOF 127.0.0.1 {port}"));
    assert!(!reply.is_error(), "{reply:?}");
}

pub fn wait_for_link(server: &Server) {
    eventually("a working link", LIMIT, || info(server, "master_link_status").trim() == "up");
}

/// Commands that our server does not have: stock servers do not send them.
fn missing() -> &'static [String] {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    MISSING.get_or_init(|| {
        let server = Server::start(&[]);
        Generator::names().filter(|n| lacks_command(&server, n)).map(str::to_owned).collect()
    })
}

/// Sends random writes and reads their replies.
pub fn write_some(server: &Server, seed: u64, commands: usize) {
    write_without(server, seed, commands, &[]);
}

/// The same without some commands.
pub fn write_without(server: &Server, seed: u64, commands: usize, names: &[String]) {
    let mut generator = Generator::new(seed).without(&[missing(), names].concat()).data_only();
    let mut wire = server.wire();
    for _ in 0..commands {
        let command = generator.command();
        if !grows_untold(&command) {
            wire.cmd(&command);
        }
    }
}

/// Is it a BITFIELD that a stock primary may make longer without telling its
/// replicas (differences.md)?
fn grows_untold(command: &[Vec<u8>]) -> bool {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    command.first().is_some_and(|name| is(name, "bitfield")) && command.iter().any(|word| is(word, "fail"))
}

/// Writes without reading replies one by one.
pub fn write_plain(wire: &mut Wire, from: usize, commands: usize) {
    let mut request = Vec::new();
    for i in from..from + commands {
        super::support::wire::encode_into(
            &mut request,
            &["RPUSH".to_string(), format!("list:{}", i % 50), i.to_string()],
        );
    }
    let replies = wire.pipeline(&request, commands);
    assert!(replies.iter().all(|r| !r.is_error()));
}

fn digest(server: &Server) -> String {
    server.wire().run("DEBUG DIGEST").as_text()
}

/// Waits until replicas have the primary's dataset and stand at its offset.
#[track_caller]
pub fn wait_until_equal(primary: &Server, replicas: &[&Server]) {
    let offset = |s: &Server| info(s, "master_repl_offset");
    for replica in replicas {
        let valkey = is_valkey(primary) || is_valkey(replica);
        let same = || digest(primary) == digest(replica) || valkey && differing(primary, replica).is_empty();
        let equal = || offset(primary) == offset(replica) && same();
        if !becomes(LIMIT, equal) {
            let (theirs, its) = (offset(primary), offset(replica));
            panic!("offsets {} and {}; {}", theirs.trim(), its.trim(), differences(primary, replica));
        }
    }
}

/// Its digests are not ours: it prints scores in fewer digits.
fn is_valkey(server: &Server) -> bool {
    server.wire().run("INFO server").as_text().contains("valkey_version")
}

/// Do two sorted sets have the same members, with the same numbers for scores?
fn same_scores(p: &mut Wire, r: &mut Wire, key: &[u8]) -> bool {
    let scores = |wire: &mut Wire| -> Vec<(Vec<u8>, f64)> {
        let reply = wire.cmd(&[&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"]);
        let number = |v: &super::support::Value| v.as_text().parse().expect("a score");
        reply.items().chunks(2).map(|pair| (pair[0].as_bytes().to_vec(), number(&pair[1]))).collect()
    };
    scores(p) == scores(r)
}

fn becomes(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Keys in which two datasets differ, with both values, and what the replica
/// has to say about it.
fn differences(primary: &Server, replica: &Server) -> String {
    let critical = replica.log().lines().filter(|l| l.contains("CRITICAL")).take(5).collect::<Vec<_>>().join("\n");
    format!("differences:{}\n{critical}", differing(primary, replica))
}

fn differing(primary: &Server, replica: &Server) -> String {
    let mut text = String::new();
    for db in 0..16 {
        let (mut p, mut r) = (primary.wire(), replica.wire());
        for wire in [&mut p, &mut r] {
            wire.run(&format!("SELECT {db}"));
        }
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for wire in [&mut p, &mut r] {
            keys.extend(wire.run("KEYS *").items().iter().map(|k| k.as_bytes().to_vec()));
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let shown = |wire: &mut Wire| -> Vec<String> {
                ["DEBUG DIGEST-VALUE", "TYPE", "PEXPIRETIME", "DUMP"]
                    .iter()
                    .map(|c| {
                        let mut words: Vec<&[u8]> = c.split(' ').map(str::as_bytes).collect();
                        words.push(&key);
                        format!("{:?}", wire.cmd(&words))
                    })
                    .collect()
            };
            let (a, b) = (shown(&mut p), shown(&mut r));
            let alike = a[1..3] == b[1..3] && a[1].contains("zset") && same_scores(&mut p, &mut r, &key);
            if a[..3] != b[..3] && !alike {
                let key = String::from_utf8_lossy(&key).into_owned();
                text += &format!("\n{db} {key}:\n  primary {a:?}\n  replica {b:?}");
            }
        }
    }
    text
}
