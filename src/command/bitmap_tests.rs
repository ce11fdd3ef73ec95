//! Tests of the commands over bitmaps.

use super::*;
use crate::command::testing::Bench;
use proptest::prelude::*;

const RANGE: &str = "-ERR value is not an integer or out of range";

#[test]
fn bits_are_set_and_read() {
    let mut b = Bench::default();
    assert_eq!(b.run("setbit k 7 0"), ":0");
    assert_eq!((b.stream.join("|"), b.events()), ("setbit k 7 0".into(), vec!["setbit k".into()]));
    assert_eq!(b.run("setbit k 7 0"), ":0");
    assert!(b.stream.is_empty() && b.events.is_empty());
    assert_eq!(b.run("setbit k 7 1"), ":0");
    assert_eq!(b.stream, ["setbit k 7 1"]);
    assert_eq!(b.run("setbit k 20 0"), ":0");
    assert_eq!(b.stream, ["setbit k 20 0"]);
    assert_eq!(b.run("get k"), "$3 \u{1}\0\0");
    assert_eq!(b.run("getbit k 7"), ":1");
    assert_eq!(b.run("getbit k 8"), ":0");
    assert_eq!(b.run("getbit k 800"), ":0");
    assert_eq!(b.run("getbit none 0"), ":0");
    let bad = "-ERR bit offset is not an integer or out of range";
    for line in ["setbit k -1 1", "setbit k x 1", "setbit k 4294967296 1", "getbit k x", "getbit k #1"] {
        assert_eq!(b.run(line), bad, "{line}");
    }
    assert_eq!(b.run("setbit k 0 2"), "-ERR bit is not an integer or out of range");
}

#[test]
fn bits_are_counted() {
    let mut b = Bench::default();
    b.run("set k foobar");
    for (part, want) in [
        ("", ":26"),
        ("0 0", ":4"),
        ("1 1", ":6"),
        ("0 -1", ":26"),
        ("1 1 byte", ":6"),
        ("5 30 BIT", ":17"),
        ("-1 -2", ":0"),
        ("6 9", ":0"),
        ("0 -1 bit", ":26"),
    ] {
        assert_eq!(b.run(&format!("bitcount k {part}")), want, "{part}");
    }
    assert_eq!(b.run("bitcount none"), ":0");
    assert_eq!(b.run("bitcount k 0"), "-ERR syntax error");
    assert_eq!(b.run("bitcount k 0 1 foo"), "-ERR syntax error");
    assert_eq!(b.run("bitcount k 0 1 bit x"), "-ERR syntax error");
    assert_eq!(b.run("bitcount k x y"), RANGE);
    assert_eq!(b.run("bitcount none x y"), RANGE);
    assert_eq!(b.run("bitcount none 0 1 foo"), "-ERR syntax error");
}

#[test]
fn bits_are_found() {
    let mut b = Bench::default();
    b.raw(&[b"set", b"k", b"\xff\xf0\x00"]);
    b.raw(&[b"set", b"ones", b"\xff\xff"]);
    for (line, want) in [
        ("k 0", ":12"),
        ("k 1", ":0"),
        ("k 1 2", ":-1"),
        ("k 1 1 2", ":8"),
        ("k 0 0 0", ":-1"),
        ("k 0 9 14 bit", ":12"),
        ("k 1 12 14 bit", ":-1"),
        ("k 0 0 11 BIT", ":-1"),
        ("ones 0", ":16"),
        ("ones 0 1", ":16"),
        ("ones 0 0 -1", ":-1"),
        ("ones 0 2", ":-1"),
        ("none 0", ":0"),
        ("none 1", ":-1"),
        ("k 1 -7 -9", ":0"),
        ("k 2", "-ERR The bit argument must be 1 or 0."),
        ("k x", RANGE),
        ("k 1 x", RANGE),
        ("none 1 x", RANGE),
        ("none 1 0 1 foo", "-ERR syntax error"),
        ("none x", RANGE),
        ("k 1 0 1 foo", "-ERR syntax error"),
        ("k 1 0 1 bit x", "-ERR syntax error"),
    ] {
        assert_eq!(b.run(&format!("bitpos {line}")), want, "{line}");
    }
}

#[test]
fn strings_are_combined() {
    let mut b = Bench::default();
    b.raw(&[b"set", b"a", b"\x0f\xff\x01"]);
    b.raw(&[b"set", b"b", b"\x3c"]);
    let get = |b: &mut Bench| b.raw(&[b"get", b"d"]);
    for (op, want) in [
        ("and d a b", &b"$3\r\n\x0c\x00\x00\r\n"[..]),
        ("and d b a", b"$3\r\n\x0c\x00\x00\r\n"),
        ("or d a b", b"$3\r\n\x3f\xff\x01\r\n"),
        ("xor d b a", b"$3\r\n\x33\xff\x01\r\n"),
        ("and d a none", b"$3\r\n\x00\x00\x00\r\n"),
        ("and d none a", b"$3\r\n\x00\x00\x00\r\n"),
        ("NOT d a", b"$3\r\n\xf0\x00\xfe\r\n"),
    ] {
        assert_eq!(b.run(&format!("bitop {op}")), ":3");
        assert_eq!((b.stream.clone(), b.events()), (vec![format!("bitop {op}")], vec!["set d".into()]));
        assert_eq!(get(&mut b), want, "{op}");
    }
    assert_eq!(b.run("object encoding d"), "$3 raw");
    assert_eq!(b.run("bitop and d none none"), ":0");
    assert_eq!((b.stream.join("|"), b.events()), ("bitop and d none none".into(), vec!["del d".into()]));
    assert_eq!(b.run("bitop and d none"), ":0");
    assert!(b.stream.is_empty());
    assert_eq!(b.run("bitop foo d a"), "-ERR syntax error");
    assert_eq!(b.run("bitop not d a b"), "-ERR BITOP NOT must be called with a single source key.");
}

/// Their result is taken over, whatever it replaces.
#[test]
fn long_strings_are_combined() {
    let mut b = Bench::default();
    b.raw(&[b"set", b"a", &[0x0f; 5000]]);
    b.raw(&[b"set", b"b", &[0x3c; 3000]]);
    for before in ["del d", "set d x ex 100", "rpush d x y", "setrange d 9000 x", "bitop or d b"] {
        b.run(before);
        assert_eq!(b.run("bitop xor d a b"), ":5000", "{before}");
        assert!(b.events().iter().any(|e| e == "set d"), "{before}: {:?}", b.events());
        let want = [&[0x33; 3000][..], &[0x0f; 2000]].concat();
        assert_eq!(b.raw(&[b"get", b"d"]), [b"$5000\r\n", &want[..], b"\r\n"].concat(), "{before}");
        assert_eq!((b.run("ttl d"), b.run("object encoding d")), (":-1".to_owned(), "$3 raw".to_owned()));
    }
    assert_eq!(b.run("bitop not a a"), ":5000");
    assert_eq!(b.raw(&[b"get", b"a"]), [b"$5000\r\n", &[0xf0; 5000][..], b"\r\n"].concat());
}

proptest! {
    #[test]
    fn counting_and_finding_agree_with_single_bits(
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 1..200),
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let (a, b) = (a.index(bytes.len() * 8), b.index(bytes.len() * 8));
        let (from, to) = (a.min(b), a.max(b) + 1);
        let bit = |i: &usize| bytes[i / 8] >> (7 - i % 8) & 1 == 1;
        prop_assert_eq!(count_bits(&bytes, from, to), (from..to).filter(bit).count() as u64);
        prop_assert_eq!(first_bit(&bytes, true, from, to), (from..to).find(bit));
        prop_assert_eq!(first_bit(&bytes, false, from, to), (from..to).find(|i| !bit(i)));
    }
}
