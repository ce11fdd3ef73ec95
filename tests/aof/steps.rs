//! A crash before each step of a rewrite or of a snapshot: what is left is the old
//! state or the new one, by a kill as by a loss of power.
//!
//! The steps are the changes that reach the file system ([`flaky`]), whether by
//! system calls or by io_uring. They are gone through until one is not reached any
//! more because all has been done.

use super::flaky::{self, Left};
use super::harness::{Dir, LIMIT};
use super::support::{Server, Wire, eventually, ok};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Keys before the operation, and those between the last snapshot and it.
const OLD: usize = 40;
const NEW: usize = 25;

/// More steps than any operation has.
const STEPS_MAX: usize = 200;

fn set(wire: &mut Wire, prefix: &str, n: usize) {
    let value = "v".repeat(500);
    for i in 0..n {
        assert_eq!(wire.cmd(&["SET", &format!("{prefix}:{i}"), &value]), ok());
    }
}

/// How often the operation's step has been reached, and by a crash.
struct Run<'a> {
    args: &'a [&'a str],
    /// Before the order.
    prepare: fn(&mut Wire),
    command: &'a str,
    /// Is it over?
    done: fn(&str) -> bool,
    /// Looks at a server that was started with what is left; how many increments
    /// were acknowledged.
    check: fn(&Server, usize, &str),
}

/// Writes now and then until the server is gone, so that most steps are the
/// operation's; how many writes were acknowledged.
fn increments(port: u16, stop: &AtomicBool) -> usize {
    let Ok(mut wire) = Wire::try_connect(port) else { return 0 };
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) && wire.try_send("INCR counter\r\n").is_ok() && wire.try_read().is_ok() {
        n += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    n
}

impl Run<'_> {
    /// Crashes before this step; false when it is not reached. Nothing where that
    /// cannot be tried.
    fn crash(&self, step: usize) -> Option<bool> {
        let dir = Dir::new("step");
        let mount = dir.path().join("mount");
        let mut server = flaky::start(&mount, self.args)?;
        (self.prepare)(&mut server.wire());
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
        let port = server.port;
        let crashed = std::thread::scope(|scope| {
            let writer = scope.spawn(|| increments(port, &stop));
            let mut wire = server.wire();
            flaky::crash_before(&mount, step);
            wire.send_words(self.command);
            let mut crashed = false;
            let _ = wire.try_read();
            eventually("its end, or the operation's", LIMIT, || {
                crashed = Left::Dark.dir(&mount).exists();
                let text = |mut w: Wire| {
                    w.try_send("INFO persistence\r\n").ok()?;
                    w.try_read().ok().map(|v| v.as_text())
                };
                crashed || Wire::try_connect(port).ok().and_then(text).is_some_and(|t| (self.done)(&t))
            });
            stop.store(true, Ordering::Relaxed);
            if crashed {
                server.wait_exit(LIMIT);
            }
            acknowledged.store(writer.join().expect("the writer"), Ordering::Relaxed);
            crashed
        });
        if crashed {
            for left in [Left::Killed, Left::Dark] {
                let dir = left.dir(&mount);
                let what = format!("{} before step {step}, {left:?}, of {:?}", self.command, list(&dir));
                let again = restart(&dir, self.args, &what);
                (self.check)(&again, acknowledged.load(Ordering::Relaxed), &what);
            }
        }
        Some(crashed)
    }

    /// Crashes before every step.
    fn every_step(&self, least: usize) {
        let mut step = 1;
        while let Some(crashed) = self.crash(step) {
            if !crashed {
                println!("{}: {} steps", self.command, step - 1);
                assert!(step > least, "{}: only {} steps", self.command, step - 1);
                return;
            }
            step += 1;
            assert!(step < STEPS_MAX);
        }
    }
}

#[track_caller]
fn restart(dir: &Path, args: &[&str], what: &str) -> Server {
    let place = ["--cores", "2", "--appendonly", "yes", "--dir", dir.to_str().expect("a plain path")];
    let mut server = Server::starting(&[&place[..], args].concat());
    let status = server.outcome(LIMIT);
    assert!(status.is_none(), "{what}: {}", server.log());
    server
}

/// What lies there.
fn list(dir: &Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => all.extend(list(&path)),
            false => all.push((path.display().to_string(), entry.metadata().expect("its size").len())),
        }
    }
    all
}

/// All that was acknowledged is there.
fn all_is_there(server: &Server, acknowledged: usize, what: &str) {
    let mut c = server.wire();
    let n = c.run("GET counter");
    let n = if n.is_nil() { 0 } else { n.as_text().parse::<usize>().expect("a number") };
    assert!(n >= acknowledged, "{what}: {n} of {acknowledged}");
    for i in 0..OLD {
        assert_eq!(c.run(&format!("STRLEN old:{i}")).as_int(), 500, "{what}: old:{i}");
    }
}

/// The snapshot before or the one after.
fn old_or_new(server: &Server, _: usize, what: &str) {
    let mut c = server.wire();
    let count = |c: &mut Wire, prefix: &str, n: usize| {
        (0..n).filter(|i| c.run(&format!("STRLEN {prefix}:{i}")).as_int() == 500).count()
    };
    assert_eq!(count(&mut c, "old", OLD), OLD, "{what}");
    let new = count(&mut c, "new", NEW);
    assert!(new == 0 || new == NEW, "{what}: {new} of {NEW}");
}

fn not_rewriting(info: &str) -> bool {
    info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrites:1")
}

fn not_saving(info: &str) -> bool {
    info.contains("rdb_bgsave_in_progress:0") && info.contains("rdb_saves:2")
}

fn some_keys(wire: &mut Wire) {
    set(wire, "old", OLD);
}

fn saved_keys(wire: &mut Wire) {
    set(wire, "old", OLD);
    assert_eq!(wire.run("SAVE"), ok());
    set(wire, "new", NEW);
}

const ALWAYS: [&str; 2] = ["--appendfsync", "always"];

#[test]
fn a_crash_before_any_step_of_a_rewrite_leaves_old_or_new() {
    for preamble in ["yes", "no"] {
        let args = [&ALWAYS[..], &["--aof-use-rdb-preamble", preamble]].concat();
        let command = "BGREWRITEAOF";
        let run = Run { args: &args, prepare: some_keys, command, done: not_rewriting, check: all_is_there };
        run.every_step(8);
    }
}

#[test]
fn a_crash_before_any_step_of_a_snapshot_leaves_old_or_new() {
    let args = ["--appendonly", "no"];
    for command in ["BGSAVE", "SAVE"] {
        let run = Run { args: &args, prepare: saved_keys, command, done: not_saving, check: old_or_new };
        run.every_step(3);
    }
}
