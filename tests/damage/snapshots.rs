//! Snapshots, as the server at start and the checker read them.

use coreslot::base::slot::SLOTS;
use coreslot::command::cx::Options;
use coreslot::config::LogLevel;
use coreslot::observe::log;
use coreslot::snapshot::check;
use coreslot::snapshot::load::{How, Intake, Splitter, Step};
use coreslot::snapshot::rdb::decode::{Builder, Decoder, Limits};
use coreslot::snapshot::rdb::encode::Encoder;
use coreslot::snapshot::rdb::frame::{About, Frame};
use coreslot::snapshot::rdb::read::{Bytes, Fault};
use coreslot::snapshot::rdb::scan::{Error, Event, Part, Scanner};
use coreslot::snapshot::rdb::{Version, kind};
use coreslot::store::Store;
use coreslot::store::entry::{Entry, Value};

use super::corpus::{Dir, snapshots, without_checksum};
use super::damaged::{CHANGES, How as Damage, each};
use super::memory::peak;

const HOW: How = How { drop_expired_at: Some(1), replace: false, deep: true };

/// More than what a file has, at the worst: tables and buffers of empty stores.
const OVERHEAD: usize = 6 << 20;

fn sample() -> Option<(u64, usize)> {
    // Lines about versions and ages would be most of the output.
    log::set_level(LogLevel::Warning);
    (!super::all()).then_some((super::seed(), 1500))
}

/// Loads into one core; the number of keys.
fn load(file: &[u8], size_known: bool) -> Result<u64, Error> {
    let mut splitter = Splitter::new(vec![0; SLOTS].into(), 1, 16, true);
    if size_known {
        splitter.set_size(file.len() as u64);
    }
    let (mut store, options) = (Store::new(16), Options::default());
    let mut intake = Intake::new(&options, HOW, 1_000_000);
    let mut chunks = file.chunks(100);
    loop {
        match splitter.next()? {
            Step::More => match chunks.next() {
                Some(c) => splitter.scanner().push(c),
                None => splitter.scanner().close(),
            },
            Step::Batch(_, batch) => intake.apply(&mut store, &batch)?,
            Step::End => return Ok(intake.counts.loaded),
        }
    }
}

/// Loads; panics with what was wrong if it took memory or named no place in the file.
#[track_caller]
fn tried(file: &[u8], what: &str) -> Result<u64, Error> {
    let (result, bytes) = peak(|| load(file, true));
    assert!(bytes < OVERHEAD, "{what}: {bytes} bytes for a file of {}", file.len());
    if let Err(e) = &result {
        assert!(e.offset <= file.len() as u64, "{what}: {e}");
        assert!(!e.to_string().is_empty());
    }
    result
}

#[test]
fn a_file_cut_anywhere_is_refused_where_it_ends() {
    for (name, file) in snapshots() {
        let whole = load(file, true).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(whole >= 10, "{name}: {whole} keys");
        for file in [file.clone(), without_checksum(file)] {
            for at in 0..file.len() {
                let e = tried(&file[..at], name).err().unwrap_or_else(|| panic!("{name}: accepted {at} bytes"));
                assert_eq!(e.fault, Fault::Short, "{name} at {at}: {e}");
                // Where the size is not known, all that comes is waited for.
                let e = load(&file[..at], false).expect_err("it is cut");
                assert_eq!((&e.fault, e.offset), (&Fault::Short, at as u64), "{name} at {at}: {e}");
            }
        }
    }
}

#[test]
fn any_change_is_found_by_the_checksum() {
    for (name, file) in snapshots().iter().filter(|(name, _)| *name != "legacy") {
        let end = file.len() - 8;
        let n = each(file, &CHANGES, sample(), |at, how, bad| {
            // Another version has no checksum.
            if (5..9).contains(&at) {
                return;
            }
            let what = format!("{name} at {at}: {how:?}");
            let loaded = tried(bad, &what);
            // What stands behind the end is not looked at.
            let behind = at >= end && matches!(how, Damage::Insert(_)) && bad.starts_with(file);
            assert_eq!(loaded.is_ok(), behind, "{what}");
        });
        println!("{name}: {n} changes of {} bytes, all refused", file.len());
    }
}

/// Goes through a value by all that an iterator gives; writes it and reads it again.
fn look(entry: &Entry, what: &str) {
    let mut encoder = Encoder::new(Version::V11, true);
    let kind = encoder.kind_of(&entry.value());
    let mut first = Vec::new();
    encoder.value(&mut first, entry.value());
    if let Value::Object(o) = entry.value() {
        assert!(o.memory() > 0, "{what}");
    }
    let again = Decoder::new(Limits::new(&Options::default()), true).entry(kind, b"k", &first, None);
    let again = again.unwrap_or_else(|e| panic!("{what}: what was taken and written is refused: {e}"));
    let mut second = Vec::new();
    encoder.value(&mut second, again.value());
    // Tables have no order.
    first.sort_unstable();
    second.sort_unstable();
    assert_eq!(first, second, "{what}: type {kind}");
}

/// Decodes all records of a file and looks at each, up to what is wrong.
fn look_through(file: &[u8], what: &str) -> bool {
    let mut scanner = Scanner::new(false);
    scanner.push(file);
    scanner.close();
    let mut decoder = Decoder::new(Limits::new(&Options::default()), true);
    let mut open: Option<Builder> = None;
    loop {
        let record = match scanner.next() {
            Err(_) => return false,
            Ok(None | Some(Event::End(_))) => return true,
            Ok(Some(Event::Record(r))) => r,
            Ok(Some(_)) => continue,
        };
        if record.part == Part::Whole {
            match decoder.entry(record.kind, record.key, record.body, record.deadline) {
                Ok(e) => look(&e, what),
                Err(Fault::Empty) => {}
                Err(_) => return false,
            }
            continue;
        }
        let mut bytes = Bytes::new(record.body);
        let begun = open.take().map_or_else(|| decoder.begin(record.kind, &mut bytes), Ok);
        let Ok(mut builder) = begun else { return false };
        if decoder.feed(&mut builder, &mut bytes).is_err() {
            return false;
        }
        if !record.part.ends() {
            open = Some(builder);
        } else if let Ok(o) = builder.finish() {
            look(&Entry::object(record.key, o, record.deadline), what);
        }
    }
}

/// Without a checksum, changes reach the values: each is refused or is a value
/// like any other.
#[test]
fn what_is_taken_of_a_changed_file_is_sound() {
    for (name, file) in snapshots() {
        let file = without_checksum(file);
        let (mut taken, mut refused) = (0, 0);
        each(&file, &CHANGES, sample(), |at, how, bad| {
            let what = format!("{name} at {at}: {how:?}");
            let loaded = tried(bad, &what);
            let sound = look_through(bad, &what);
            // Databases and duplicate keys are the loader's business alone.
            assert!(sound || loaded.is_err(), "{what}");
            *if loaded.is_ok() { &mut taken } else { &mut refused } += 1;
        });
        println!("{name}: {taken} changes were values like others, {refused} refused");
        assert!(refused > taken / 10, "{name}");
    }
}

/// The checker ends, with a place, and takes what the loader takes.
#[test]
fn the_checker_agrees_with_the_loader() {
    let dir = Dir::new("check");
    let path = dir.path().join("x.rdb");
    for (name, file) in snapshots() {
        let n = each(&without_checksum(file), &CHANGES, sample(), |at, how, bad| {
            std::fs::write(&path, bad).expect("write");
            let mut out = Vec::new();
            let (good, bytes) = peak(|| check::check(path.to_str().expect("UTF-8"), &mut out).expect("printed"));
            let text = String::from_utf8_lossy(&out);
            assert!(bytes < OVERHEAD + 1024 * bad.len(), "{name} at {at}: {how:?}: {bytes} bytes");
            assert_eq!(good, text.contains("RDB looks OK"), "{text}");
            let loaded = load(bad, true);
            let alone = |e: &Error| {
                let text = e.to_string();
                ["databases", "Duplicated key", "module"].iter().any(|what| text.contains(what))
            };
            let agree = good == loaded.is_ok() || good && loaded.as_ref().is_err_and(alone);
            assert!(agree, "{name} at {at}: {how:?}: {loaded:?}\n{text}");
        });
        println!("{name}: {n} files checked");
    }
}

/// A length that claims what is not there costs nothing, wherever it stands.
#[test]
fn claims_cost_nothing() {
    let about = About { server_version: "7.2.4", made_unix_s: 1, used_memory: 1, replication: None, aof_base: false };
    for claimed in [1 << 20, 1 << 31, 1 << 40, u64::MAX >> 1, u64::MAX] {
        for what in 0..=kind::HASH_LISTPACK_TTL {
            let (mut frame, mut out) = (Frame::new(false), Vec::new());
            frame.begin(&mut out, Version::V11, &about);
            out.extend_from_slice(&[0xFE, 0, 0xFB, 0x81]);
            out.extend_from_slice(&claimed.to_be_bytes());
            out.extend_from_slice(&[0, what, 1, b'k', 0x81]);
            out.extend_from_slice(&claimed.to_be_bytes());
            out.extend_from_slice(&[1, b'x', 1, b'y', 0x80]);
            for file in [out.clone(), [out, vec![1; 5000]].concat()] {
                assert!(tried(&file, &format!("type {what}, {claimed}")).is_err(), "type {what}, {claimed}");
                assert!(load(&file, false).is_err());
            }
        }
    }
}
