//! Parsers of bytes: requests, inline commands, replies, configuration text,
//! compact encodings.

use coreslot::base::words;
use coreslot::config::Config;
use coreslot::resp::request::{self, Limits, Malformed, Resume, Step};
use coreslot::resp::value;
use coreslot::store::intset::IntSet;
use coreslot::store::listpack::{Item, Listpack};

use crate::fuzz;
use crate::rng::Rng;

const REQUESTS: &[&[u8]] = &[
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n",
    b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n*1\r\n$4\r\nPING\r\n",
    b"PING\r\nSET k \"a b\\x41\"\r\n",
    b"*0\r\n\r\n*-1\r\n*1\r\n$0\r\n\r\n",
    b"*2\r\n$11\r\n0123456789a\r\n$-1\r\n",
];
const REPLIES: &[&[u8]] = &[
    b"*3\r\n:1\r\n$3\r\nabc\r\n$-1\r\n",
    b"%2\r\n+a\r\n,1.5\r\n_\r\n#t\r\n",
    b"~1\r\n*2\r\n*0\r\n=7\r\ntxt:abc\r\n",
    b"-ERR no\r\n|1\r\n+k\r\n:2\r\n>1\r\n(123\r\n",
];
const CONFIGS: &[&[u8]] = &[
    b"port 7000\nbind 127.0.0.1 -::1\nmaxclients 200\nloglevel verbose\n",
    b"# comment\nsave 3600 1 300 100\nclient-output-buffer-limit normal 1mb 512kb 60\n",
    b"rename-command CONFIG \"\"\nrequirepass 'a b'\nnotify-keyspace-events KEA\nlatency-tracking-info-percentiles 50 99\n",
    b"cores 0-3,6\nservice-core none\npipeline-order strict\nhz 10\nunixsocketperm 700\nmaxmemory-clients 5%\n",
    b"oom-score-adj-values 0 200 800\nshutdown-on-sigterm nosave force\nproc-title-template \"{title}\"\nuser a on >p ~* +@all\n",
];
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"*",
    b"$",
    b"-1",
    b"0",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"2147483648",
    b"\"",
    b"'",
    b"\\x",
    b"\\",
    b"\n",
    b" ",
    b"\0",
    b"\xff",
    b"yes",
    b"1gb",
    b"100%",
    b"%",
    b"~",
    b"|",
];

/// A corpus entry (or two) with a few changes, or nothing but random bytes.
pub fn mutated(rng: &mut Rng, corpus: &[&[u8]]) -> Vec<u8> {
    if rng.one_in(8) {
        let n = rng.below(64);
        return rng.bytes(n);
    }
    let mut b = rng.pick(corpus).to_vec();
    while rng.one_in(3) {
        b.extend_from_slice(rng.pick::<&[u8]>(corpus));
    }
    for _ in 0..rng.below(5) {
        let at = rng.below(b.len() + 1);
        let end = (at + rng.below(8)).min(b.len());
        match rng.below(6) {
            0 if at < b.len() => b[at] ^= 1 << rng.below(8),
            1 if at < b.len() => b[at] = rng.next() as u8,
            2 => drop(b.drain(at..end)),
            3 => drop(b.splice(at..end, rng.pick(WORDS).iter().copied())),
            4 => {
                let copy = b[at..end].to_vec();
                b.splice(at..at, copy);
            }
            _ => b.truncate(at),
        }
    }
    b
}

pub fn shown(b: &[u8]) -> String {
    b.escape_ascii().to_string()
}

/// What a parser made of a stream: its requests, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    requests: Vec<Vec<Vec<u8>>>,
    malformed: Option<Malformed>,
    left: usize,
}

/// Parses a stream that arrives in pieces that end at `ends`.
fn parse(stream: &[u8], ends: &[usize], limits: &Limits) -> Parsed {
    let mut out = Parsed::default();
    let mut resume = Resume::default();
    let mut at = 0;
    for end in ends {
        loop {
            let mut args = Vec::new();
            match request::read(&stream[at..*end], limits, &mut resume, &mut args) {
                Step::Request(n) => {
                    assert!(n > 0, "no progress");
                    out.requests.push(args.iter().map(|a| a.to_vec()).collect());
                    at += n;
                }
                Step::Inline(n) => {
                    assert!(n > 0, "no progress");
                    out.requests.push(std::mem::take(&mut resume.words));
                    at += n;
                }
                Step::Partial => break,
                Step::Malformed(m) => {
                    out.malformed = Some(m);
                    return out;
                }
            }
            assert!(at <= *end, "read past the input");
        }
    }
    out.left = stream.len() - at;
    out
}

/// However a stream is cut into pieces, the same requests come out.
#[test]
fn requests() {
    let make = |rng: &mut Rng| {
        let b = mutated(rng, REQUESTS);
        let mut ends: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(b.len() + 1)).collect();
        if rng.one_in(4) {
            ends = (0..b.len()).collect();
        }
        ends.push(b.len());
        ends.sort_unstable();
        (b, ends, rng.one_in(4))
    };
    fuzz(
        "requests",
        make,
        |(b, ends, unauthenticated)| format!("{}\nends {ends:?}, unauthenticated {unauthenticated}", shown(b)),
        |(b, ends, unauthenticated)| {
            let limits = Limits { bulk_max: 1 << 20, unauthenticated: *unauthenticated };
            let whole = parse(b, &[b.len()], &limits);
            assert_eq!(parse(b, ends, &limits), whole);
        },
    );
}

/// Words come out again when they are quoted byte by byte.
#[test]
fn inline_words() {
    fuzz(
        "inline words",
        |rng| mutated(rng, &[b"set k \"a b\\x41\\n\" 'it\\'s'", b"a\"b\" '' \t\"\\\"\""]),
        |b| shown(b),
        |b| {
            let Some(words) = words::split(b) else { return };
            let mut line = Vec::new();
            for w in &words {
                line.push(b'"');
                w.iter().for_each(|c| line.extend_from_slice(format!("\\x{c:02x}").as_bytes()));
                line.extend_from_slice(b"\" ");
            }
            assert_eq!(words::split(&line), Some(words));
        },
    );
}

/// A reply that is complete is so by itself, and not without its last byte.
#[test]
fn replies() {
    fuzz(
        "replies",
        |rng| mutated(rng, REPLIES),
        |b| shown(b),
        |b| {
            value::integer(b);
            if let Some((_, rest)) = value::elements(b) {
                assert!(rest.len() < b.len());
            }
            let Some(n) = value::skip(b) else { return };
            assert!(n > 0 && n <= b.len());
            assert_eq!(value::skip(&b[..n]), Some(n));
            assert_eq!(value::skip(&b[..n - 1]), None);
        },
    );
}

/// Any text is either refused with a message or gives settings. (No text has
/// an `include`, which would read files.)
#[test]
fn configuration() {
    fuzz(
        "configuration",
        |rng| mutated(rng, CONFIGS),
        |b| shown(b),
        |b| match Config::from_text(b) {
            Ok(config) => drop(config.notices()),
            Err(e) => assert!(!e.to_string().is_empty()),
        },
    );
}

fn listpack_of(rng: &mut Rng) -> Vec<u8> {
    let mut list = Listpack::new();
    for _ in 0..rng.below(8) {
        match rng.below(4) {
            0 => list.push_back(Item::Int((rng.next() as i64) >> rng.below(64))),
            1 => list.push_back(Item::of(rng.pick::<&[u8]>(&[b"12", b"-7", b"abc"]))),
            2 => {
                let n = rng.below(70);
                list.push_back(Item::Str(&rng.bytes(n)));
            }
            _ => list.push_back(Item::Str(&vec![b'x'; rng.below(5000)])),
        }
    }
    list.as_bytes().to_vec()
}

/// Bytes with a header that agrees with their length, mostly.
fn with_changes(rng: &mut Rng, mut b: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.below(4) {
        let at = rng.below(b.len());
        match rng.below(4) {
            0 => b[at] ^= 1 << rng.below(8),
            1 => b[at] = rng.next() as u8,
            2 if b.len() > 8 => drop(b.remove(at)),
            _ => b.insert(at, rng.next() as u8),
        }
    }
    b
}

/// What is taken for a listpack can be walked, searched and changed.
#[test]
fn listpacks() {
    let make = |rng: &mut Rng| {
        let b = listpack_of(rng);
        let mut b = with_changes(rng, b);
        if !rng.one_in(4) && b.len() > 7 {
            let n = (b.len() as u32).to_le_bytes();
            b[..4].copy_from_slice(&n);
            *b.last_mut().expect("not empty") = 0xFF;
        }
        b
    };
    fuzz(
        "listpacks",
        make,
        |b| shown(b),
        |b| {
            let Some(mut list) = Listpack::parse(b.clone()) else { return };
            let n = list.len();
            let forth: Vec<Vec<u8>> = list.iter().map(|i| i.to_vec()).collect();
            let mut back: Vec<Vec<u8>> = list.iter_back().map(|i| i.to_vec()).collect();
            back.reverse();
            assert_eq!(forth, back);
            assert_eq!(forth.len(), n);
            assert!(list.pairs().count() == n / 2);
            assert!((0..n).all(|i| list.seek(i).is_some()) && list.seek(n).is_none());
            list.find(&Item::of(b"12"), list.first(), 1);
            list.push_front(Item::Int(5));
            list.push_back(Item::Str(b"end"));
            if let Some(at) = list.seek(n / 2) {
                list.replace(at, Item::of(b"abc"));
                list.remove(at, 1);
            }
            assert_eq!(list.len(), n + 1);
            assert!(Listpack::parse(list.as_bytes().to_vec()).is_some());
        },
    );
}

/// What is taken for an intset is sorted, and finds its elements.
#[test]
fn intsets() {
    let make = |rng: &mut Rng| {
        let mut s = IntSet::default();
        for _ in 0..rng.below(8) {
            s.insert((rng.next() as i64) >> rng.below(64));
        }
        let mut b = with_changes(rng, s.as_bytes().to_vec());
        if !rng.one_in(4) && b.len() >= 8 && b[0] > 0 {
            let n = ((b.len() - 8) / b[0] as usize) as u32;
            b[4..8].copy_from_slice(&n.to_le_bytes());
        }
        b
    };
    fuzz(
        "intsets",
        make,
        |b| shown(b),
        |b| {
            let Some(mut s) = IntSet::parse(b.clone()) else { return };
            let all: Vec<i64> = s.iter().collect();
            assert!(all.is_sorted() && all.iter().all(|v| s.contains(*v)));
            s.insert(i64::MAX);
            all.iter().for_each(|v| assert!(s.remove(*v)));
            assert!(s.len() <= 1);
        },
    );
}
