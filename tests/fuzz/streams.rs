//! Streams of commands in pieces: what a primary sends, and append-only files.

use coreslot::journal::aof::reader::{Next, Reader};
use coreslot::replication::stream::{Malformed, Place, Stream};

use super::bytes::{mutated, shown};
use super::fuzz;
use super::rng::Rng;

const UNITS: &[&[u8]] = &[
    b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$2\r\n99\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$5\r\nvalue\r\n",
    b"*2\r\n$3\r\nDEL\r\n$103\r\n\
      aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    b"*1\r\n$5\r\nMULTI\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
    b"*1\r\n$7\r\nDISCARD\r\n",
    b"*1\r\n$4\r\nping\r\n",
    b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n",
    b"\n",
    b"\r\n",
    b"*0\r\n",
    b"#TS:1700000000\r\n",
];

/// Some units, mostly changed a little, and where the pieces of them end.
fn cut(rng: &mut Rng) -> (Vec<u8>, Vec<usize>) {
    let units: Vec<&[u8]> = (0..rng.below(12)).map(|_| *rng.pick(UNITS)).collect();
    let whole = units.concat();
    let b = if rng.one_in(3) { whole } else { mutated(rng, &[&whole]) };
    let mut ends: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(b.len() + 1)).collect();
    if rng.one_in(4) {
        ends = (0..b.len()).collect();
    }
    ends.push(b.len());
    ends.sort_unstable();
    (b, ends)
}

fn described((b, ends): &(Vec<u8>, Vec<usize>)) -> String {
    format!("{}\nends {ends:?}", shown(b))
}

type Words = Vec<Vec<u8>>;

/// What came of a primary's stream.
#[derive(Debug, Default, PartialEq)]
struct Followed {
    commands: Vec<(u32, Place, Words)>,
    ack: Option<u64>,
    db: u32,
    end: usize,
    malformed: Option<Malformed>,
}

fn follow(bytes: &[u8], ends: &[usize]) -> Followed {
    let mut out = Followed::default();
    let mut stream = Stream::new(0, 0, 16);
    let mut from = 0;
    for end in ends {
        stream.receive(&bytes[from..*end]);
        from = *end;
        loop {
            let batch = match stream.next_batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(bad) => {
                    out.malformed = Some(bad);
                    return out;
                }
            };
            assert!(!batch.bytes.is_empty(), "no progress");
            assert_eq!(bytes[out.end..out.end + batch.bytes.len()], batch.bytes[..], "other bytes");
            out.end += batch.bytes.len();
            assert_eq!((batch.end, stream.pending()), (out.end as u64, end - out.end));
            for c in &batch.commands {
                out.commands.push((c.db, c.place, batch.args(c).map(<[u8]>::to_vec).collect()));
            }
            out.ack = batch.ack.or(out.ack);
            out.db = batch.db;
        }
    }
    out
}

/// However a primary's stream is cut into pieces, the same commands come out, and
/// the same complaint at the same place; no batch ends within a transaction.
#[test]
fn primary_streams() {
    fuzz("primary's streams", cut, described, |(b, ends)| {
        let whole = follow(b, &[b.len()]);
        assert_eq!(follow(b, ends), whole);
        // Cut off there, nothing is missing and nothing is left.
        let again = follow(&b[..whole.end], &[whole.end]);
        assert_eq!(again, Followed { malformed: None, ..whole });
    });
}

/// What came of an append-only file.
#[derive(Debug, PartialEq)]
struct Loaded {
    commands: Vec<Words>,
    annotations: Vec<Vec<u8>>,
    valid: u64,
    incomplete: bool,
    malformed: Option<u64>,
}

fn load(bytes: &[u8], ends: &[usize]) -> Loaded {
    let (mut commands, mut annotations, mut malformed) = (Vec::new(), Vec::new(), None);
    let mut reader = Reader::default();
    let mut from = 0;
    'pieces: for end in ends {
        reader.feed(&bytes[from..*end]);
        from = *end;
        loop {
            let before = reader.place();
            match reader.step() {
                Next::Command => commands.push(reader.args().iter().map(|a| a.to_vec()).collect()),
                Next::Annotation(text) => annotations.push(text),
                Next::More => break,
                Next::Malformed(at) => {
                    malformed = Some(at);
                    break 'pieces;
                }
            }
            assert!(reader.place() > before, "no progress");
            assert!(reader.valid() <= reader.place());
        }
    }
    let incomplete = malformed.is_none() && reader.incomplete();
    Loaded { commands, annotations, valid: reader.valid(), incomplete, malformed }
}

/// The same of an append-only file; cut off where it says that it could end, it is
/// complete.
#[test]
fn append_only_files() {
    fuzz("append-only files", cut, described, |(b, ends)| {
        let whole = load(b, &[b.len()]);
        assert_eq!(load(b, ends), whole);
        let valid = whole.valid as usize;
        let again = load(&b[..valid], &[valid]);
        assert_eq!((again.valid, again.incomplete, again.malformed), (whole.valid, false, None));
    });
}
