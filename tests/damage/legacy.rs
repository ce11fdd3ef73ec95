//! A file in the encodings of old versions, made by hand.

use coreslot::snapshot::rdb::kind;

fn string(out: &mut Vec<u8>, s: &[u8]) {
    assert!(s.len() < 64);
    out.push(s.len() as u8);
    out.extend_from_slice(s);
}

/// A ziplist of short strings.
fn ziplist(items: &[&str]) -> Vec<u8> {
    let (mut body, mut before, mut last) = (Vec::new(), 0, 10);
    for item in items {
        last = 10 + body.len();
        body.extend_from_slice(&[before, item.len() as u8]);
        body.extend_from_slice(item.as_bytes());
        before = item.len() as u8 + 2;
    }
    let total = (10 + body.len() + 1) as u32;
    [&total.to_le_bytes()[..], &(last as u32).to_le_bytes(), &(items.len() as u16).to_le_bytes(), &body, &[255]]
        .concat()
}

/// Version 9, and no checksum.
pub fn file() -> Vec<u8> {
    let mut out = b"REDIS0009\xFE\x00\xFB\x09\x01".to_vec();
    let mut record = |kind: u8, key: &str, body: &[u8]| {
        out.push(kind);
        string(&mut out, key.as_bytes());
        out.extend_from_slice(body);
    };
    let packed = |items: &[&str]| {
        let mut out = Vec::new();
        string(&mut out, &ziplist(items));
        out
    };
    record(kind::LIST, "list", b"\x02\x01a\xC0\x07");
    record(kind::LIST_ZIPLIST, "packed list", &packed(&["a", "bb", "ccc"]));
    record(kind::LIST_QUICKLIST, "quicklist", &[&[2], &packed(&["a", "b"])[..], &packed(&["c"])].concat());
    record(kind::ZSET, "zset", b"\x03\x01a\x011\x01b\xFE\x01c\x03-.5");
    record(kind::ZSET_ZIPLIST, "packed zset", &packed(&["a", "1", "b", "2.5"]));
    record(kind::HASH_ZIPLIST, "packed hash", &packed(&["f", "1", "g", "22"]));
    let mut map = Vec::new();
    string(&mut map, b"\x02\x01f\x03\x00bar\x01g\x02\x01xy\0\xFF");
    record(kind::HASH_ZIPMAP, "zipmap", &map);
    let mut ints = Vec::new();
    string(&mut ints, b"\x02\0\0\0\x03\0\0\0\x01\0\x05\0\x09\0");
    record(kind::SET_INTSET, "intset", &ints);
    record(kind::HASH, "hash", b"\x02\x01f\x01v\x01g\xC1\x00\x01");
    out.extend_from_slice(b"\xFD\x00\x00\x00\x7F\x00\x01s\x01v");
    out.extend_from_slice(b"\xFF\0\0\0\0\0\0\0\0");
    out
}
