//! Servers that are started with damaged files: ready with a whole state, or
//! ended with exit code 1, a line that says what and where, and nothing on disk
//! changed.

use std::fs;
use std::time::Duration;

use super::corpus::{self, Dir, Journal, MANIFEST, NAMES, journal, snapshots};
use super::damaged::{CHANGES, How, TEXT_CHANGES, damaged, each};
use super::support::{Rng, Server, process::resident_bytes};

const LIMIT: Duration = Duration::from_secs(30);

/// Starts our server in a directory; ready, or its exit code with its log.
fn start(dir: &Dir, cores: &str, more: &[&str]) -> Result<Server, (Option<i32>, String)> {
    let mut server = Server::starting(&[&["--cores", cores, "--dir", dir.text()], more].concat());
    match server.outcome(LIMIT) {
        None => Ok(server),
        Some(status) => Err((status.code(), server.log())),
    }
}

/// A start that is refused: code 1, words about the place, and files as they were.
#[track_caller]
fn refused(dir: &Dir, cores: &str, more: &[&str], says: &[&str], what: &str) {
    let before = dir.content();
    let Err((code, log)) = start(dir, cores, more) else { panic!("{what}: it starts") };
    assert_eq!(code, Some(1), "{what}: {log}");
    for said in says {
        assert!(log.contains(said), "{what}: no {said:?}: {log}");
    }
    assert_eq!(dir.content(), before, "{what}: files have changed");
}

/// A start takes a tenth of a second: a sample also of the full run.
fn sampled(n: usize) -> Option<(u64, usize)> {
    Some((super::seed(), if super::all() { 40 * n } else { n }))
}

const AOF: [&str; 2] = ["--appendonly", "yes"];

#[test]
fn a_damaged_snapshot_is_refused() {
    for (name, file) in snapshots().iter().filter(|(name, _)| *name != "legacy") {
        let dir = Dir::new("start");
        let path = dir.path().join("dump.rdb");
        let mut one = |at: usize, how: How, bad: &[u8]| {
            let behind = bad.starts_with(file);
            // Another version has no checksum.
            if behind || (5..9).contains(&at) && how != How::Cut {
                return;
            }
            fs::write(&path, bad).expect("write");
            let cores = if at.is_multiple_of(2) { "1" } else { "4" };
            refused(&dir, cores, &[], &["ffset", "dump.rdb"], &format!("{name} at {at}: {how:?}"));
        };
        let n = each(file, &CHANGES, sampled(4), &mut one) + each(file, &[How::Cut], sampled(3), &mut one);
        println!("{name}: {n} starts refused");
    }
}

/// Without a checksum: what is taken can be used, and what is refused is as above.
#[test]
fn a_damaged_snapshot_without_checksum() {
    let (mut ready, mut ended) = (0, 0);
    for (name, file) in snapshots() {
        let dir = Dir::new("start");
        let path = dir.path().join("dump.rdb");
        each(&corpus::without_checksum(file), &CHANGES, sampled(6), |at, how, bad| {
            fs::write(&path, bad).expect("write");
            let what = format!("{name} at {at}: {how:?}");
            let before = dir.content();
            match start(&dir, if at.is_multiple_of(2) { "1" } else { "4" }, &[]) {
                Ok(server) => {
                    ready += 1;
                    let mut wire = server.wire();
                    assert!(!wire.run("DEBUG DIGEST").is_error(), "{what}");
                    assert!(resident_bytes(server.pid()) < 256 << 20, "{what}");
                    assert!(!wire.run("DEBUG RELOAD").is_error(), "{what}");
                }
                Err((code, log)) => {
                    ended += 1;
                    let says = ["ffset", "Failed loading a function library"];
                    let said = says.iter().any(|s| log.contains(s));
                    assert!(code == Some(1) && said, "{what}: {code:?} {log}");
                    assert_eq!(dir.content(), before, "{what}");
                }
            }
        });
    }
    println!("{ready} servers were ready, {ended} refused");
}

/// A library that does not compile: what it stands beside is not served without it.
#[test]
fn a_damaged_library_is_refused() {
    let file = corpus::without_checksum(&snapshots()[1].1);
    let at = file.windows(6).position(|w| w == b"return").expect("a library");
    let bad = damaged(&file, at, How::Set(b'!'));
    let dir = Dir::new("library");
    fs::write(dir.path().join("dump.rdb"), &bad).expect("write");
    refused(&dir, "2", &[], &["dump.rdb: Failed loading a function library"], "a library");
    let j = journal();
    Journal { base: bad, first: j.first.clone(), second: j.second.clone() }.put(&dir);
    refused(&dir, "2", &AOF, &["Failed loading a function library", NAMES[0]], "a library in a base");
}

/// The state after so many bytes of the last file.
fn digest(server: &Server) -> String {
    server.wire().run("DEBUG DIGEST").as_text()
}

/// The last file cut at any byte: with `aof-load-truncated yes` the state of the
/// last whole unit, and the file ends there; with `no`, a refusal.
#[test]
fn a_journal_cut_anywhere_ends_with_a_whole_unit() {
    let j = journal();
    let mut whole = Vec::new();
    let mut reader = coreslot::journal::aof::reader::Reader::default();
    reader.feed(&j.second);
    let mut states: Vec<(u64, String)> = Vec::new();
    loop {
        let place = reader.valid();
        if states.last().is_none_or(|(at, _)| *at != place) {
            let dir = Dir::new("units");
            Journal { base: j.base.clone(), first: j.first.clone(), second: j.second[..place as usize].to_vec() }
                .put(&dir);
            let server = start(&dir, "2", &[&AOF[..], &["--aof-load-truncated", "no"]].concat()).ok();
            states.push((place, digest(&server.expect("whole units"))));
            whole.push(place);
        }
        if matches!(reader.step(), coreslot::journal::aof::reader::Next::More) {
            break;
        }
    }
    assert!(states.len() >= 6, "{states:?}");
    let mut n = 0;
    let mut one = |at: usize, how: How, bad: &[u8]| {
        n += 1;
        let dir = Dir::new("cut");
        Journal { base: j.base.clone(), first: j.first.clone(), second: bad.to_vec() }.put(&dir);
        let (end, state) = states.iter().rfind(|(end, _)| *end <= at as u64).expect("zero");
        if *end != at as u64 {
            let no = [&AOF[..], &["--aof-load-truncated", "no"]].concat();
            refused(&dir, "2", &no, &["Unexpected end of file", NAMES[2], "offset"], &format!("{at}: {how:?}"));
        }
        let server =
            start(&dir, if at.is_multiple_of(2) { "1" } else { "3" }, &AOF).unwrap_or_else(|e| panic!("{at}: {e:?}"));
        assert_eq!(&digest(&server), state, "cut at {at}, the last unit ends at {end}");
        drop(server);
        let left = fs::metadata(dir.path().join("appendonlydir").join(NAMES[2])).expect("a file").len();
        assert_eq!(left, *end, "cut at {at}");
    };
    each(&j.second, &[How::Cut], (!super::all()).then_some((super::seed(), 12)), &mut one);
    println!("{n} cuts");
}

/// Cut anywhere but in the last file: refused, whatever the settings.
#[test]
fn a_journal_cut_before_its_last_file_is_refused() {
    let j = journal();
    let ends: Vec<u64> = super::journals::ends(&j.first);
    let dir = Dir::new("middle");
    let mut n = each(&j.first, &[How::Cut], sampled(5), |at, how, bad| {
        if ends.contains(&(at as u64)) {
            return;
        }
        Journal { base: j.base.clone(), first: bad.to_vec(), second: j.second.clone() }.put(&dir);
        refused(&dir, "2", &AOF, &[NAMES[1], "not the last file"], &format!("{at}: {how:?}"));
    });
    n += each(&j.base, &[How::Cut], sampled(5), |at, how, bad| {
        // An empty file is none.
        if at == 0 {
            return;
        }
        Journal { base: bad.to_vec(), first: j.first.clone(), second: j.second.clone() }.put(&dir);
        refused(&dir, "2", &AOF, &[NAMES[0], "ffset"], &format!("base, {at}: {how:?}"));
    });
    println!("{n} starts refused");
}

/// Changes within commands: another state or a refusal that says where, and then
/// nothing on disk has changed.
#[test]
fn a_changed_journal_is_refused_or_other_commands() {
    let j = journal();
    let (mut ready, mut ended) = (0, 0);
    let mut rng = Rng::new(super::seed());
    for first in [true, false] {
        let file = if first { &j.first } else { &j.second };
        each(file, &TEXT_CHANGES, sampled(10), |at, how, bad| {
            let dir = Dir::new("changed");
            let (a, b) = if first { (bad, &j.second[..]) } else { (&j.first[..], bad) };
            Journal { base: j.base.clone(), first: a.to_vec(), second: b.to_vec() }.put(&dir);
            let before = dir.content();
            let what = format!("{at}: {how:?}: {}", bad.escape_ascii());
            match start(&dir, if rng.one_in(2) { "1" } else { "4" }, &AOF) {
                Ok(server) => {
                    ready += 1;
                    assert!(!server.wire().run("DEBUG DIGEST").is_error(), "{what}");
                }
                Err((code, log)) => {
                    ended += 1;
                    let name = if first { NAMES[1] } else { NAMES[2] };
                    assert_eq!(code, Some(1), "{what}: {log}");
                    assert!(log.contains(name) && log.contains("offset"), "{what}: {log}");
                    assert_eq!(dir.content(), before, "{what}");
                }
            }
        });
    }
    println!("{ready} servers were ready, {ended} refused");
}

/// Manifests that are no manifest, or name what is not there.
#[test]
fn bad_manifests_are_refused() {
    let base = "file appendonly.aof.1.base.rdb seq 1 type b\n";
    let first = "file appendonly.aof.1.incr.aof seq 1 type i\n";
    let second = "file appendonly.aof.2.incr.aof seq 2 type i\n";
    let long = format!("file {} seq 1 type b\n", "x".repeat(2000));
    let cases: [(String, &str); 19] = [
        (String::new(), "Found an empty AOF manifest"),
        ("\n".into(), "Invalid AOF manifest file format"),
        (MANIFEST.trim_end().into(), "The AOF manifest file contains too long line"),
        ("\u{1}\u{2}\0\0\u{7f}\n".into(), "The AOF manifest file contains too long line"),
        ("\0".repeat(5000), "The AOF manifest file contains too long line"),
        (format!("{base}{base}"), "Found duplicate base file information"),
        (format!("{base}{first}{first}"), "Found a non-monotonic sequence number"),
        (format!("{base}{second}{first}"), "Found a non-monotonic sequence number"),
        (base.replace("type b", "type x"), "Unknown AOF file type"),
        (base.replace("type b", "type"), "Invalid AOF manifest file format"),
        (base.replace("seq 1", "seq -1"), "Invalid AOF manifest file format"),
        (base.replace("seq 1", "seq 0"), "Invalid AOF manifest file format"),
        (base.replace("seq 1", "seq 99999999999999999999"), "Invalid AOF manifest file format"),
        (base.replace("file a", "file ../a"), "File can't be a path, just a filename"),
        (base.replace("file a", "file /a"), "File can't be a path, just a filename"),
        (base.replace("file appendonly.aof.1.base.rdb", "file \"open"), "Invalid AOF manifest file format"),
        (long, "The AOF manifest file contains too long line"),
        (format!("{base}{first}{}", second.replace(".2.", ".3.")), "appendonly.aof.3.incr.aof"),
        (base.replace(".1.", ".7."), "appendonly.aof.7.base.rdb"),
    ];
    for (text, says) in &cases {
        let dir = Dir::new("manifest");
        journal().put(&dir);
        fs::write(dir.path().join("appendonlydir/appendonly.aof.manifest"), text).expect("write");
        refused(&dir, "2", &AOF, &[says], &format!("{text:?}"));
    }
    let crlf = MANIFEST.replace('\n', "\r\n");
    for text in [MANIFEST, &crlf, &format!("# comment\n{MANIFEST}")] {
        let dir = Dir::new("manifest");
        journal().put(&dir);
        fs::write(dir.path().join("appendonlydir/appendonly.aof.manifest"), text).expect("write");
        let server = start(&dir, "2", &AOF).unwrap_or_else(|e| panic!("{text:?}: {e:?}"));
        assert_eq!(server.wire().run("GET last").as_text(), "2");
    }
}
