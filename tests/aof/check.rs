//! The checker of append-only files, beside Debian's redis-check-aof.

use super::harness::{Dir, stop};
use super::support::server::binary;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a checker with `input` for its questions; exit code and output.
fn run(mut command: Command, args: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a checker");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

fn ours(args: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg0("coreslot-check-aof");
    run(command, args, input)
}

fn stock(args: &[&str]) -> Option<(Option<i32>, String)> {
    let path = "/usr/bin/redis-check-aof";
    Path::new(path).exists().then(|| run(Command::new(path), args, ""))
}

fn written(dir: &Dir) -> String {
    let server = dir.start("2", &["--aof-timestamp-enabled", "yes"]);
    let mut c = server.wire();
    c.run("SET a 1");
    c.run("MSET b 1 c 1 d 1 e 1 f 1");
    stop(server);
    dir.aof("appendonly.aof.manifest").to_str().unwrap().to_owned()
}

#[test]
fn whole_files_are_valid() {
    let dir = Dir::new("check");
    let manifest = written(&dir);
    let (code, out) = ours(&[&manifest], "");
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("INCR AOF appendonly.aof.1.incr.aof is valid"), "{out}");
    assert!(out.ends_with("All AOF files and manifest are valid\n"), "{out}");
    if let Some((code, out)) = stock(&[&manifest]) {
        assert_eq!(code, Some(0), "{out}");
    }
    assert_eq!(ours(&[], "").0, Some(1));
    assert_eq!(ours(&["/nowhere/at/all"], "").0, Some(1));
}

#[test]
fn a_broken_end_is_found_and_cut_off_if_wanted() {
    let dir = Dir::new("check-end");
    let manifest = written(&dir);
    let path = dir.incr_path();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let (code, out) = ours(&[&manifest], "");
    assert_eq!(code, Some(1));
    assert!(out.contains("is not valid. Use the --fix option to try fixing it."), "{out}");
    let (code, out) = ours(&["--fix", &manifest], "n\n");
    assert_eq!((code, fs::read(&path).unwrap().len()), (Some(1), whole.len() - 3), "{out}");
    let (code, out) = ours(&["--fix", &manifest], "y\n");
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("Successfully truncated AOF appendonly.aof.1.incr.aof"), "{out}");
    assert_eq!(ours(&[&manifest], "").0, Some(0));
    let server = dir.start("2", &["--aof-load-truncated", "no"]);
    let keys = server.wire().run("DBSIZE").as_int();
    assert_eq!(keys, 1, "the transaction was not complete");
    stop(server);
}

#[test]
fn what_is_later_than_a_time_is_cut_off() {
    let dir = Dir::new("check-time");
    let path = dir.path().join("x.aof");
    let set = b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\n1\r\n";
    let bytes = [b"#TS:1000\r\n", &set[..], b"#TS:2000\r\n", set, b"#TS:3000\r\n", set].concat();
    fs::write(&path, &bytes).unwrap();
    let name = path.to_str().unwrap();
    let (code, out) = ours(&["--truncate-to-timestamp", "4000", name], "");
    assert_eq!((code, fs::read(&path).unwrap().len()), (Some(0), bytes.len()), "{out}");
    let (code, out) = ours(&["--truncate-to-timestamp", "2000", name], "");
    assert_eq!((code, fs::read(&path).unwrap().len()), (Some(0), 2 * (set.len() + 10)), "{out}");
    assert_eq!(ours(&["--truncate-to-timestamp", "x", name], "").0, Some(1));
}
