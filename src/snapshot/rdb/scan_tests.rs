//! The scanner: portions, parts, versions, bad files.

use proptest::prelude::*;

use super::encode::{Access, Encoder};
use super::frame::{About, Frame};
use super::read::Fault;
use super::scan::{Error, Event, Part, Scanner};
use super::{Version, kind, write};
use crate::store::entry::Entry;

fn file(records: &[u8]) -> Vec<u8> {
    let about =
        About { server_version: "7.2.4", made_unix_s: 1, used_memory: 1 << 20, replication: None, aof_base: false };
    let (mut frame, mut out) = (Frame::new(true), Vec::new());
    frame.begin(&mut out, Version::V11, &about);
    frame.function(&mut out, b"#!lua name=l");
    frame.select(&mut out, 3, Some((2, 1)));
    frame.records(records);
    out.extend_from_slice(records);
    frame.end(&mut out);
    out
}

/// All events, with `step` bytes pushed at a time.
fn scan(file: &[u8], step: usize) -> Result<Vec<String>, Error> {
    let mut s = Scanner::new(true);
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        while let Some(e) = s.next()? {
            match e {
                Event::Aux { .. } => {}
                e => out.push(format!("{e:?}")),
            }
        }
        if at == file.len() {
            s.close();
            s.next()?;
            return Ok(out);
        }
        let to = (at + step).min(file.len());
        s.push(&file[at..to]);
        at = to;
    }
}

fn records() -> Vec<u8> {
    let mut out = Vec::new();
    let mut e = Encoder::new(Version::V11, true);
    e.record(&mut out, &Entry::string(b"k", b"v", Some(99)), Access::Idle(70));
    e.record(&mut out, &Entry::string(b"long", &[b'x'; 500], None), Access::Freq(3));
    for (kind, key) in [(kind::SET, "set"), (kind::HASH, "hash"), (kind::ZSET_2, "zset")] {
        out.push(kind);
        write::string(&mut out, key.as_bytes());
        write::length(&mut out, 2);
        for m in ["a", "123456"] {
            write::string(&mut out, m.as_bytes());
            match kind {
                kind::HASH => write::string(&mut out, b"value"),
                kind::ZSET_2 => out.extend_from_slice(&1.5f64.to_le_bytes()),
                _ => {}
            }
        }
    }
    // A module's value: id, an integer, a float, a string, the end.
    out.extend_from_slice(&[kind::MODULE_2, 1, b'm', 0x81, 1, 2, 3, 4, 5, 6, 7, 8]);
    out.extend_from_slice(&[2, 5, 3, 0, 0, 0, 0, 5, 2, b'h', b'i', 0]);
    // A stream with a group, a pending entry and a consumer.
    out.extend_from_slice(&[
        kind::STREAM_2,
        1,
        b's',
        1,
        1,
        b'i',
        1,
        b'l',
        1,
        9,
        9,
        9,
        9,
        9,
        9,
        9,
        1,
        1,
        b'g',
        1,
        2,
        3,
        1,
    ]);
    out.extend_from_slice(&[7; 24]);
    out.extend_from_slice(&[1, 1, 1, b'c']);
    out.extend_from_slice(&[8; 8]);
    out.push(1);
    out.extend_from_slice(&[7; 16]);
    out
}

#[test]
fn bytes_may_come_in_any_portions() {
    let file = file(&records());
    let whole = scan(&file, file.len()).unwrap();
    assert_eq!(whole.len(), 4 + 7 + 1, "{whole:#?}");
    assert!(whole[4].contains("Whole") && whole.last().unwrap().contains("Checked"));
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(scan(&file, step).unwrap(), whole, "{step}");
    }
}

#[test]
fn a_file_cut_anywhere_is_short_and_a_changed_byte_is_found() {
    let file = file(&records());
    for n in 0..file.len() {
        assert_eq!(scan(&file[..n], file.len()).unwrap_err().fault, Fault::Short, "{n}");
        let mut bad = file.clone();
        bad[n] ^= 0x10;
        assert!(scan(&bad, file.len()).is_err() || n >= file.len() - 8, "{n}");
    }
}

#[test]
fn large_collections_come_in_parts() {
    let mut out = Vec::new();
    let n = 40_000;
    out.push(kind::HASH);
    write::string(&mut out, b"h");
    let body = out.len();
    write::length(&mut out, n);
    for i in 0..n {
        write::string(&mut out, format!("field:{i}").as_bytes());
        write::string(&mut out, format!("value:{i}").as_bytes());
    }
    let file = file(&out);
    for step in [1000, file.len()] {
        let mut s = Scanner::new(true);
        let (mut parts, mut bytes) = (Vec::new(), Vec::new());
        for chunk in file.chunks(step) {
            s.push(chunk);
            while let Some(e) = s.next().unwrap() {
                if let Event::Record(r) = e {
                    assert_eq!(r.key, b"h");
                    parts.push(r.part);
                    bytes.extend_from_slice(r.body);
                }
            }
        }
        assert_eq!(bytes, out[body..]);
        assert!(parts.len() > 2 && parts[0] == Part::First && parts.last() == Some(&Part::Last));
        assert!(parts[1..parts.len() - 1].iter().all(|p| *p == Part::Middle));
    }
}

/// A head that claims a tebibyte and bytes for ever: refused before much of it is
/// kept, wherever the string stands.
#[test]
fn an_endless_string_is_refused() {
    let huge = [&[0x81][..], &(1u64 << 40).to_be_bytes()].concat();
    let packed = [&[0xC3][..], &huge, &[10]].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a value", [&[kind::STRING, 1, b'k'][..], &huge].concat()),
        ("a packed value", [&[kind::STRING, 1, b'k'][..], &packed].concat()),
        ("a key", [&[kind::STRING][..], &huge].concat()),
        ("a key with a deadline", [&[0xFC, 0, 0, 0, 0, 0, 0, 0, 0, kind::LIST][..], &huge].concat()),
        ("an element", [&[kind::SET, 1, b'k', 2, 1, b'a'][..], &huge].concat()),
        ("a listpack", [&[kind::HASH_LISTPACK, 1, b'k'][..], &huge].concat()),
        ("a field's name", [&[0xFA][..], &huge].concat()),
        ("a field", [&[0xFA, 1, b'a'][..], &huge].concat()),
        ("a library", [&[0xF5][..], &huge].concat()),
    ];
    for (name, head) in cases {
        for (skims, size) in [(false, None), (true, None), (false, Some(1 << 50)), (false, Some(1 << 30))] {
            let mut s = Scanner::new(true);
            s.set_longest(1 << 20);
            if skims {
                s.skim();
            }
            if let Some(size) = size {
                s.set_size(size);
            }
            s.push(b"REDIS0010");
            s.push(&head);
            let error = (0..100).find_map(|_| {
                s.push(&[0; 10_000]);
                loop {
                    match s.next() {
                        Ok(None) => return None,
                        Ok(Some(_)) => {}
                        Err(e) => return Some(e),
                    }
                }
            });
            let e = error.unwrap_or_else(|| panic!("{name} is waited for"));
            let said = e.fault.to_string();
            assert!(said.starts_with("A string of 10995") && said.contains("too long"), "{name}: {said}");
            assert_eq!(e.record.is_some(), ["a value", "a packed value", "an element", "a listpack"].contains(&name));
            assert!(e.offset < 20_000, "{name}: {e}");
        }
    }
}

/// Values of one piece may be endless without any long string.
#[test]
fn an_endless_value_is_refused() {
    let mut s = Scanner::new(true);
    s.set_longest(1 << 20);
    s.push(b"REDIS0010");
    s.push(&[kind::MODULE_2, 1, b'k', 5]);
    let error = (0..1000).find_map(|_| {
        s.push(&[2, 1].repeat(5000));
        loop {
            match s.next() {
                Ok(None) => return None,
                Ok(Some(_)) => {}
                Err(e) => return Some(e),
            }
        }
    });
    assert!(error.is_some_and(|e| e.to_string().contains("too long") && e.offset < 3 << 20));
}

/// Who skims needs memory for no value, and finds what others find.
#[test]
fn skimming_finds_what_is_wrong_without_keeping_values() {
    let mut records = records();
    records.extend_from_slice(&[kind::STRING, 1, b'b']);
    write::string(&mut records, &vec![b'x'; 1 << 20]);
    let whole = file(&records);
    let skim = |file: &[u8]| {
        let mut s = Scanner::new(true);
        s.skim();
        let mut kept = 0;
        for chunk in file.chunks(1000) {
            s.push(chunk);
            loop {
                match s.next() {
                    Ok(None) => break,
                    Ok(Some(Event::End(_))) => return Ok(kept),
                    Ok(Some(_)) => {}
                    Err(e) => return Err(e),
                }
            }
            kept = s.rest().len().max(kept);
        }
        s.close();
        s.next().map(|_| kept)
    };
    assert!(skim(&whole).is_ok_and(|kept| kept < 2000));
    for at in (0..whole.len()).step_by(997).chain(0..600) {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        assert!(skim(&bad).is_err() || at >= whole.len() - 8, "{at}");
        assert_eq!(skim(&whole[..at]).unwrap_err().fault, Fault::Short, "{at}");
    }
}

#[test]
fn versions_are_looked_at() {
    for good in [&b"REDIS0001"[..], b"REDIS0012", b"VALKEY080"] {
        assert!(scan(good, 9).unwrap_err().fault == Fault::Short, "{good:?}");
    }
    for bad in [&b"REDIS0000"[..], b"REDIS0013", b"VALKEY011", b"REDIS0080", b"REDISabcd", b"SOMETHING"] {
        assert!(!matches!(scan(bad, 9).unwrap_err().fault, Fault::Short), "{bad:?}");
    }
}

#[test]
fn old_files_have_no_checksum() {
    let events = scan(b"REDIS0003\xfe\x00\xfd\x01\x00\x00\x00\x00\x01k\x01v\xff", 1).unwrap();
    assert!(events[2].contains("deadline: Some(1000)") && events[3] == "End(None)", "{events:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), step in 1usize..50) {
        let mut file = b"REDIS0011".to_vec();
        file.extend_from_slice(&bytes);
        let _ = scan(&file, step);
    }
}
