//! The snapshot codec: files, values of every type, payloads, compression.

use coreslot::command::cx::Options;
use coreslot::snapshot::dump;
use coreslot::snapshot::rdb::decode::{Builder, Decoder, Limits};
use coreslot::snapshot::rdb::encode::{Access, Encoder};
use coreslot::snapshot::rdb::frame::{About, Frame};
use coreslot::snapshot::rdb::read::Bytes;
use coreslot::snapshot::rdb::scan::{Event, Part, Scanner};
use coreslot::snapshot::rdb::{Version, kind, lzf};
use coreslot::store::entry::{Entry, Value};
use coreslot::store::hash::Hash;
use coreslot::store::list::{End, List};
use coreslot::store::object::{Collection, Object};
use coreslot::store::set::Set;
use coreslot::store::zset::ZSet;

use crate::fuzz;
use crate::rng::Rng;

fn limits(rng_small: bool) -> Limits {
    let n = if rng_small { 3 } else { 512 };
    Limits::new(&Options {
        list_max_listpack_size: if rng_small { 2 } else { -2 },
        hash_max_listpack_entries: n,
        set_max_intset_entries: n,
        set_max_listpack_entries: n,
        zset_max_listpack_entries: n,
        ..Options::default()
    })
}

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => rng.between(-300, 300).to_string().into_bytes(),
        1 => rng.next().to_string().into_bytes(),
        2 => vec![b'x'; rng.below(100)],
        _ => {
            let n = rng.below(40);
            rng.bytes(n)
        }
    }
}

fn entry(rng: &mut Rng, n: usize) -> Entry {
    let l = limits(rng.one_in(2));
    let (key, count) = (format!("key:{n}").into_bytes(), 1 + rng.below(12));
    let object = match rng.below(5) {
        0 => return Entry::string(&key, &text(rng), rng.one_in(2).then_some(rng.next() >> 20)),
        1 => {
            let mut x = List::default();
            for _ in 0..count {
                let t = text(rng);
                x.prepare(t.len(), 1, l.list);
                x.push(End::Right, &t, l.list);
            }
            x.wrap()
        }
        2 => {
            let mut x = Set::default();
            for _ in 0..count {
                x.add(&text(rng), l.set);
            }
            Object::Set(x)
        }
        3 => {
            let mut x = Hash::default();
            for _ in 0..count {
                x.set(&text(rng), &text(rng), l.hash);
            }
            Object::Hash(x)
        }
        _ => {
            let mut x = ZSet::default();
            for _ in 0..count {
                x.put(&text(rng), rng.between(-9, 9) as f64 / 4.0, l.zset);
            }
            Object::ZSet(x)
        }
    };
    Entry::object(&key, object, None)
}

/// A file of a few records, without a checksum so that changes get through.
fn file(rng: &mut Rng) -> Vec<u8> {
    let version = if rng.one_in(2) { Version::V10 } else { Version::V11 };
    let about = About { server_version: "7.2.4", made_unix_s: 1, used_memory: 1, replication: None, aof_base: false };
    let (mut frame, mut out) = (Frame::new(false), Vec::new());
    frame.begin(&mut out, version, &about);
    frame.select(&mut out, 0, None);
    let mut encoder = Encoder::new(version, rng.one_in(2));
    for n in 0..1 + rng.below(4) {
        encoder.record(&mut out, &entry(rng, n), Access::None);
    }
    frame.end(&mut out);
    out
}

fn changed(rng: &mut Rng, mut b: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.below(4) {
        let at = rng.below(b.len());
        match rng.below(5) {
            0 => b[at] ^= 1 << rng.below(8),
            1 => b[at] = *rng.pick(&[0, 0x3F, 0x40, 0x80, 0x81, 0xC0, 0xC3, 0xFE, 0xFF]),
            2 => b.truncate(at + 1),
            3 => drop(b.splice(at..at, [0x81, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])),
            _ => b[at] = rng.next() as u8,
        }
    }
    b
}

/// Goes through all elements: a value that broke an invariant would panic.
fn look(value: Value) {
    if let Value::Object(o) = value {
        assert!(!o.is_empty() && o.memory() > 0);
        let mut n = 0;
        match o {
            Object::List(x) => x.iter().chain(x.iter_back()).for_each(|_| n += 1),
            Object::Set(x) => x.iter().chain(x.iter()).for_each(|_| n += 1),
            Object::Hash(x) => x.iter().chain(x.iter()).for_each(|_| n += 1),
            Object::ZSet(x) => x.iter().chain(x.iter()).for_each(|_| n += 1),
            #[allow(unreachable_patterns, reason = "types are added elsewhere")]
            _ => n = 2 * o.len(),
        }
        assert_eq!(n, 2 * o.len());
    }
}

fn load(file: &[u8], step: usize, small: bool) {
    let mut scanner = Scanner::new(true);
    let mut decoder = Decoder::new(limits(small), true);
    let mut building: Option<Builder> = None;
    for chunk in file.chunks(step) {
        scanner.push(chunk);
        loop {
            let record = match scanner.next() {
                Err(e) => return drop(e.to_string()),
                Ok(None) => break,
                Ok(Some(Event::Record(r))) => r,
                Ok(Some(_)) => continue,
            };
            if record.part == Part::Whole {
                if let Ok(e) = decoder.entry(record.kind, record.key, record.body, record.deadline) {
                    look(e.value());
                    dump::payload(e.value(), true);
                }
                continue;
            }
            let mut bytes = Bytes::new(record.body);
            let begun = building.take().map_or_else(|| decoder.begin(record.kind, &mut bytes), Ok);
            let Ok(mut b) = begun else { return };
            if decoder.feed(&mut b, &mut bytes).is_err() {
                return;
            }
            if !record.part.ends() {
                building = Some(b);
            } else if let Ok(o) = b.finish() {
                look(Value::Object(&o));
            }
        }
    }
    scanner.close();
    let _ = scanner.next();
}

#[test]
fn files() {
    let make = |rng: &mut Rng| {
        let f = file(rng);
        (changed(rng, f), 1 + rng.below(200), rng.one_in(2))
    };
    fuzz("files", make, |(f, _, _)| f.escape_ascii().to_string(), |(f, step, small)| load(f, *step, *small));
}

#[test]
fn values_of_every_type() {
    let make = |rng: &mut Rng| {
        let e = entry(rng, 1);
        let mut encoder = Encoder::new(Version::V11, rng.one_in(2));
        let mut body = Vec::new();
        encoder.value(&mut body, e.value());
        // Sometimes read as a type that it is not.
        let kind = if rng.one_in(3) { rng.below(26) as u8 } else { encoder.kind_of(&e.value()) };
        (kind, changed(rng, body), rng.one_in(2))
    };
    let show = |(kind, b, _): &(u8, Vec<u8>, bool)| format!("{kind} {}", b.escape_ascii());
    fuzz("values", make, show, |(kind, body, deep)| {
        if let Ok(e) = Decoder::new(limits(*deep), *deep).entry(*kind, b"k", body, None) {
            look(e.value());
            let mut again = Vec::new();
            Encoder::new(Version::V11, true).record(&mut again, &e, Access::Freq(1));
        }
    });
}

#[test]
fn payloads() {
    let make = |rng: &mut Rng| {
        let p = dump::payload(entry(rng, 1).value(), true);
        let bad = changed(rng, p.clone());
        (p, bad)
    };
    let show = |(p, bad): &(Vec<u8>, Vec<u8>)| format!("{}\n{}", p.escape_ascii(), bad.escape_ascii());
    fuzz("payloads", make, show, |(p, bad)| {
        assert!(dump::verified(p).is_some());
        assert!(bad == p || dump::verified(bad).is_none());
    });
}

#[test]
fn compression() {
    let make = |rng: &mut Rng| {
        let mut b: Vec<u8> = (0..1 + rng.below(8)).flat_map(|_| text(rng)).collect();
        b.push(1);
        b
    };
    fuzz(
        "compression",
        make,
        |b| b.escape_ascii().to_string(),
        |b| {
            let mut out = vec![0; b.len() + b.len() / 16 + 8];
            let n = lzf::Lzf::default().compress(b, &mut out).expect("there is room");
            let mut back = Vec::new();
            assert!(lzf::expand(&out[..n], b.len(), &mut back) && back == *b);
            // Anything taken for compressed bytes ends, within what was allowed.
            back.clear();
            lzf::expand(b, 1000, &mut back);
            assert!(back.len() <= 1000);
        },
    );
}

#[test]
fn kinds_are_all_known_to_the_scanner() {
    for k in 0..=kind::HASH_LISTPACK_TTL {
        let mut s = Scanner::new(false);
        s.push(b"REDIS0011");
        s.push(&[k, 1, b'k']);
        while let Ok(Some(_)) = s.next() {}
    }
}
