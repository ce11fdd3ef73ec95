//! The checker of snapshot files, beside Debian's.

use super::support::server::binary;
use super::support::{Server, plain};
use coreslot::snapshot::rdb::Version;
use coreslot::snapshot::rdb::encode::{Access, Encoder};
use coreslot::snapshot::rdb::frame::{About, Frame};
use coreslot::store::entry::Entry;
use coreslot::store::list::{End, Fill, List};
use coreslot::store::object::{Collection, Object};
use coreslot::store::zset::{Limits, ZSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program under this name: exit code, and what it printed.
fn run(program: &Path, args: &[&Path]) -> (Option<i32>, String) {
    let output = Command::new(program).args(args).output().expect("run the checker");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn ours(dir: &Path) -> PathBuf {
    let path = dir.join("coreslot-check-rdb");
    let _ = symlink(binary(), &path);
    path
}

/// Lines that both print, the paths aside.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|l| !l.contains("Checking RDB file")).collect()
}

#[test]
fn both_checkers_say_the_same_of_a_stock_file() {
    if plain() {
        return;
    }
    let stock = Server::stock(&[]);
    let mut wire = stock.wire();
    wire.run("DEBUG POPULATE 500");
    wire.run("RPUSH l a b c");
    wire.run("XADD stream 1-1 f v");
    wire.run("XGROUP CREATE stream g 0");
    wire.run("XREADGROUP GROUP g c STREAMS stream >");
    wire.run("SET volatile v EX 1000");
    wire.run("SELECT 3");
    wire.run("SADD s 1 2 x");
    wire.run("SAVE");
    let file = stock.dir().join("dump.rdb");
    let checker = ours(stock.dir());
    let (code, text) = run(&checker, &[&file]);
    let (stock_code, stock_text) = run(Path::new("/usr/bin/redis-check-rdb"), &[&file]);
    assert_eq!((code, stock_code), (Some(0), Some(0)), "{text}");
    assert_eq!(lines(&text), lines(&stock_text));
    let good = fs::read(&file).expect("the file");
    for cut in [0, 5, 100, good.len() / 2, good.len() - 1] {
        fs::write(&file, &good[..cut]).expect("write");
        let (code, text) = run(&checker, &[&file]);
        assert_eq!(code, Some(1), "{cut}: {text}");
        assert!(text.contains("RDB ERROR DETECTED") && text.contains("Unexpected EOF"), "{cut}: {text}");
    }
    let mut bad = good.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    fs::write(&file, &bad).expect("write");
    let (code, text) = run(&checker, &[&file]);
    assert!(code == Some(1) && text.contains("RDB CRC error"), "{text}");
    let (code, text) = run(&checker, &[]);
    assert!(code == Some(1) && text.starts_with("Usage: coreslot-check-rdb"), "{text}");
    assert_eq!(run(&checker, &[Path::new("/no/such/file")]).0, Some(1));
}

#[test]
fn debian_s_checker_and_server_accept_our_files() {
    if plain() {
        return;
    }
    let server = Server::start(&[]);
    let file = server.dir().join("dump.rdb");
    let (mut list, fill) = (List::default(), Fill::new(-2));
    let mut zset = ZSet::default();
    for i in 0..5000 {
        let member = format!("member:{i}");
        list.prepare(member.len(), 1, fill);
        list.push(End::Right, member.as_bytes(), fill);
        zset.put(member.as_bytes(), f64::from(i) / 3.0, Limits { entries: 10, value: 64 });
    }
    let entries = [
        Entry::string(b"s", &b"text ".repeat(500), Some(4_000_000_000_000)),
        Entry::object(b"l", list.wrap(), None),
        Entry::object(b"z", Object::ZSet(zset), None),
    ];
    for whole in [true, false] {
        let (mut frame, mut out) = (Frame::new(true), Vec::new());
        let about =
            About { server_version: "7.2.4", made_unix_s: 1, used_memory: 1, replication: None, aof_base: false };
        frame.begin(&mut out, Version::V10, &about);
        frame.function(&mut out, b"#!lua name=lib\nredis.register_function('f', function() return 1 end)");
        frame.select(&mut out, 0, Some((3, 1)));
        let mut encoder = Encoder::new(Version::V10, true);
        for e in &entries {
            let mut record = Vec::new();
            if whole {
                encoder.record(&mut record, e, Access::None);
            } else {
                // Large ones element by element, as a snapshot writes them.
                encoder.begin(&mut record, e, Access::None);
                match e.as_object() {
                    Some(Object::List(l)) => l.iter().for_each(|i| encoder.element(&mut record, i)),
                    Some(Object::ZSet(z)) => z.iter().for_each(|(m, s)| encoder.scored(&mut record, m, s)),
                    _ => {}
                }
            }
            frame.records(&record);
            out.extend_from_slice(&record);
        }
        frame.end(&mut out);
        fs::write(&file, &out).expect("write");
        let (code, text) = run(Path::new("/usr/bin/redis-check-rdb"), &[&file]);
        assert!(code == Some(0) && text.contains("[info] 3 keys read"), "{text}");
        let (code, text) = run(&ours(server.dir()), &[&file]);
        assert!(code == Some(0) && text.contains("[info] 3 keys read"), "{text}");
        let stock = Server::stock(&["--dir", server.dir().to_str().expect("UTF-8")]);
        let mut wire = stock.wire();
        assert_eq!(wire.run("LLEN l").as_int(), 5000);
        assert_eq!(wire.run("LINDEX l 4999").as_text(), "member:4999");
        assert_eq!(wire.run("ZSCORE z member:3").as_text(), "1");
        assert_eq!(wire.run("STRLEN s").as_int(), 2500);
        assert_eq!(wire.run("FCALL f 0").as_int(), 1);
    }
}
