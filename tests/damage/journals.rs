//! Append-only files, as the reader and the checker see them.

use coreslot::journal::aof::check::look;
use coreslot::journal::aof::reader::{Next, Reader};

use super::corpus::journal;
use super::damaged::{TEXT_CHANGES, each};
use super::memory::peak;

/// Pieces of a file as the server reads them.
const PIECE: usize = 100;

/// Reads all there is: commands, and where it is malformed.
fn read(bytes: &[u8]) -> (usize, Option<u64>, u64, bool) {
    let mut reader = Reader::default();
    let mut commands = 0;
    let mut pieces = bytes.chunks(PIECE);
    loop {
        match reader.step() {
            Next::Command => {
                assert!(!reader.args().is_empty());
                commands += 1;
            }
            Next::Annotation(_) => {}
            Next::Malformed(place) => return (commands, Some(place), reader.valid(), true),
            Next::More => match pieces.next() {
                Some(p) => reader.feed(p),
                None => return (commands, None, reader.valid(), reader.incomplete()),
            },
        }
    }
}

/// The places at which a file may end: behind a command or an annotation that is
/// in no transaction.
pub fn ends(bytes: &[u8]) -> Vec<u64> {
    let mut reader = Reader::default();
    reader.feed(bytes);
    let mut all = vec![0];
    while !matches!(reader.step(), Next::More) {
        all.push(reader.valid());
    }
    assert!(!reader.incomplete());
    all.dedup();
    all
}

#[test]
fn a_cut_ends_at_the_last_whole_unit() {
    for bytes in [&journal().first, &journal().second] {
        let ends = ends(bytes);
        assert!(ends.len() >= 6, "{}", bytes.escape_ascii());
        for at in 0..=bytes.len() {
            let (_, malformed, valid, incomplete) = read(&bytes[..at]);
            let want = *ends.iter().rfind(|e| **e <= at as u64).expect("zero");
            assert_eq!((malformed, valid, incomplete), (None, want, want != at as u64), "at {at}");
        }
    }
}

#[test]
fn changes_are_found_or_other_commands_and_take_no_memory() {
    for bytes in [&journal().first, &journal().second] {
        let ends = ends(bytes);
        let (mut whole, mut short, mut malformed) = (0, 0, 0);
        each(bytes, &TEXT_CHANGES, None, |at, how, bad| {
            let ((commands, place, valid, incomplete), used) = peak(|| read(bad));
            let what = format!("at {at}: {how:?}: {}", bad.escape_ascii());
            assert!(used < 64 * bad.len() + 4096, "{used} bytes: {what}");
            assert!(valid <= bad.len() as u64 && place.is_none_or(|p| p <= bad.len() as u64), "{what}");
            // What stands before the damage is read as it was.
            let before = ends.iter().filter(|e| **e <= at as u64).count();
            assert!(valid >= ends[before - 1], "{what}");
            assert!(commands <= 64);
            match (place, incomplete) {
                (Some(_), _) => malformed += 1,
                (None, true) => short += 1,
                (None, false) => whole += 1,
            }
            let mut rest = bad;
            let (found, _) = peak(|| {
                look::<()>(0, bad.len() as u64, None, |piece| {
                    let n = rest.len().min(piece.len()).min(PIECE);
                    piece[..n].copy_from_slice(&rest[..n]);
                    rest = &rest[n..];
                    Ok(n)
                })
            });
            let found = found.expect("no errors of reading");
            assert_eq!((found.fault.is_none(), found.valid), (!incomplete, valid), "{what}");
        });
        println!("{} bytes: {whole} files were whole, {short} short, {malformed} malformed", bytes.len());
    }
}

/// Numbers beyond all bounds, where a number stands.
#[test]
fn claims_cost_nothing() {
    for n in [
        "2147483647",
        "2147483648",
        "4294967296",
        "9223372036854775806",
        "9223372036854775807",
        "18446744073709551615",
        "-1",
        "-0",
        "+1",
        "",
        " 1",
        "1 ",
        "0x1",
        "1e3",
    ] {
        for text in [
            format!("*{n}\r\n"),
            format!("*{n}\r\n$3\r\nset\r\n"),
            format!("*1\r\n${n}\r\nping\r\n"),
            format!("*3\r\n$3\r\nset\r\n${n}\r\n"),
        ] {
            let ((_, _, valid, _), used) = peak(|| read(text.as_bytes()));
            assert!(used < 1 << 16, "{text:?}: {used} bytes");
            assert_eq!(valid, 0, "{text:?}");
        }
    }
    let line = [b"#".to_vec(), vec![b'x'; 1 << 20]].concat();
    assert_eq!(read(&line).1, Some(0), "an annotation without an end");
    let line = [b"*".to_vec(), vec![b'1'; 1 << 20]].concat();
    assert_eq!(read(&line).1, Some(0), "a number without an end");
}
