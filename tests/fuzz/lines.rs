//! Lines of the append-only file's manifest, and what a primary sends before
//! and as a snapshot.

use bytes::Bytes;
use coreslot::journal::aof::manifest::Manifest;
use coreslot::replication::bulk::{Bulk, Header};

use super::fuzz;
use super::rng::Rng;

const MANIFEST: &[&str] = &[
    "file ",
    "appendonly.aof.1.base.rdb",
    "appendonly.aof.1.incr.aof",
    "appendonly.aof.2.incr.aof",
    "\"a b\"",
    "\"\\x00\"",
    "../x",
    " seq ",
    "1",
    "2",
    "-1",
    "99999999999999999999",
    " type ",
    "b",
    "i",
    "h",
    "x",
    "\n",
    "#",
    " startoffset 7",
    "file appendonly.aof.3.incr.aof seq 3 type i\n",
    "file appendonly.aof.1.base.rdb seq 1 type b\n",
];

fn pieces(rng: &mut Rng, list: &[&str], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(most) {
        if rng.one_in(12) {
            let n = rng.below(6);
            out.extend(rng.bytes(n));
        } else {
            out.extend_from_slice(rng.pick(list).as_bytes());
        }
    }
    out
}

/// A manifest that is read is written as one that reads the same, and names
/// files in its own directory only.
#[test]
fn manifests() {
    fuzz(
        "manifests",
        |rng| pieces(rng, MANIFEST, 12),
        |text| text.escape_ascii().to_string(),
        |text| {
            let Ok(manifest) = Manifest::parse(text) else { return };
            let printed = manifest.print();
            if printed.is_empty() {
                return;
            }
            let again = Manifest::parse(printed.as_bytes()).expect("what was printed");
            assert_eq!(again.print(), printed);
            assert!(manifest.files().all(|file| !file.name.contains('/')), "{printed}");
        },
    );
}

/// The line before a snapshot, and the snapshot in pieces of any size: what is
/// handed out is what was sent, whatever the pieces.
#[test]
fn bulks() {
    const LINES: &[&str] = &["$", "EOF:", "-", "1", "37", "99999999999999999999", "ERR x", "+", "\n", " "];
    let make = |rng: &mut Rng| {
        let mut line = pieces(rng, LINES, 4);
        match rng.below(3) {
            0 => {
                let mark: String = (0..40).map(|_| char::from(b'a' + rng.below(2) as u8)).collect();
                line = format!("$EOF:{mark}").into_bytes();
            }
            1 => line = format!("${}", rng.below(90)).into_bytes(),
            _ => {}
        }
        let n = rng.below(90);
        let mut body: Vec<u8> = (0..n).map(|_| b'a' + rng.below(2) as u8).collect();
        if let Some(mark) = line.strip_prefix(b"$EOF:") {
            body.extend_from_slice(mark);
        }
        let ends: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(body.len() + 1)).collect();
        (line, body, ends)
    };
    fuzz(
        "bulks",
        make,
        |(line, body, ends)| format!("{} {} {ends:?}", line.escape_ascii(), body.escape_ascii()),
        |(line, body, ends)| {
            let read = |ends: &[usize]| {
                let Header::Begin(framing) = Header::parse(line) else { return None };
                let mut bulk = Bulk::new(framing);
                let (mut payload, mut after) = (Vec::new(), Vec::new());
                let mut ends = ends.to_vec();
                ends.push(body.len());
                ends.sort_unstable();
                let mut at = 0;
                for end in ends {
                    let piece = bulk.receive(Bytes::copy_from_slice(&body[at..end]));
                    at = end;
                    payload.extend_from_slice(&piece.payload);
                    if let Some(rest) = piece.rest {
                        after.extend_from_slice(&rest);
                        after.extend_from_slice(&body[at..]);
                        break;
                    }
                }
                assert_eq!(bulk.received, payload.len() as u64);
                Some((payload, after))
            };
            assert_eq!(read(ends), read(&[]));
        },
    );
}
