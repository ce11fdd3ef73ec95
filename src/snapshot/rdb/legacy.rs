//! The compact encodings of older versions, turned into listpacks.
//!
//! A *ziplist* (before Redis 7.0):
//!
//! | bytes | what |
//! | --- | --- |
//! | 4, 4, 2 | total length, offset of the last entry, number of entries (65535: more) |
//! | ... | entries: length of the one before (1 byte, or 254 and 4), encoding, data |
//! | 1 | 0xFF |
//!
//! A *zipmap* (before Redis 2.6): one byte with the number of pairs (254: more),
//! then by turns key (length of 1 byte, or 254 and 4) and value (the same, a
//! byte with the number of unused bytes behind it), then 0xFF. All numbers are
//! little-endian.

use super::read::{Bytes, Fault};
use crate::store::listpack::{Item, Listpack};

const END: u8 = 0xFF;
const LONG: u8 = 254;
const ZIPLIST_HEAD: usize = 10;

fn little(b: &mut Bytes) -> Result<u32, Fault> {
    Ok(u32::from_le_bytes(b.array()?))
}

/// Calls `each` with the elements of a ziplist; their number.
pub fn ziplist(bytes: &[u8], mut each: impl FnMut(Item) -> Result<(), Fault>) -> Result<usize, Fault> {
    const BAD: &str = "Ziplist integrity check failed.";
    let bad = |_| Fault::corrupt(BAD);
    let mut b = Bytes::new(bytes);
    let total = little(&mut b).map_err(bad)? as usize;
    let tail = little(&mut b).map_err(bad)? as usize;
    let said = u16::from_le_bytes(b.array().map_err(bad)?);
    if total != bytes.len() || total <= ZIPLIST_HEAD || bytes[total - 1] != END {
        return Err(Fault::corrupt(BAD));
    }
    let mut b = Bytes::new(&bytes[..total - 1]);
    b.advance(ZIPLIST_HEAD);
    let (mut before, mut n, mut last) = (0, 0usize, ZIPLIST_HEAD);
    while b.left() > 0 {
        last = b.at();
        let item = ziplist_entry(&mut b, before).map_err(|_| Fault::corrupt(BAD))?;
        each(item)?;
        before = b.at() - last;
        n += 1;
    }
    let counted = said == u16::MAX || usize::from(said) == n;
    if counted && tail == last { Ok(n) } else { Err(Fault::corrupt(BAD)) }
}

fn ziplist_entry<'a>(b: &mut Bytes<'a>, before: usize) -> Result<Item<'a>, Fault> {
    let back = match b.byte()? {
        LONG => little(b)? as usize,
        END => return Err(Fault::Short),
        n => usize::from(n),
    };
    if back != before {
        return Err(Fault::Short);
    }
    let head = b.byte()?;
    Ok(match head {
        0x00..=0x3F => Item::Str(b.take(u64::from(head))?),
        0x40..=0x7F => {
            let n = u64::from(head & 0x3F) << 8 | u64::from(b.byte()?);
            Item::Str(b.take(n)?)
        }
        0x80 => {
            let n = u32::from_be_bytes(b.array()?);
            Item::Str(b.take(u64::from(n))?)
        }
        0xC0 => Item::Int(i64::from(i16::from_le_bytes(b.array()?))),
        0xD0 => Item::Int(i64::from(i32::from_le_bytes(b.array()?))),
        0xE0 => Item::Int(i64::from_le_bytes(b.array()?)),
        0xF0 => {
            let [x, y, z] = b.array()?;
            Item::Int(i64::from(i32::from_le_bytes([0, x, y, z]) >> 8))
        }
        0xFE => Item::Int(i64::from(i8::from_le_bytes(b.array()?))),
        0xF1..=0xFD => Item::Int(i64::from(head & 0x0F) - 1),
        _ => return Err(Fault::Short),
    })
}

/// A ziplist as a listpack; `bad` is said of one that is not in order.
pub fn ziplist_to_listpack(bytes: &[u8], bad: &str) -> Result<Listpack, Fault> {
    let mut out = Listpack::new();
    let each = |item: Item| {
        out.push_back(item.canonical());
        Ok(())
    };
    ziplist(bytes, each).map_err(|_| Fault::corrupt(bad))?;
    Ok(out)
}

/// A zipmap as a listpack of keys and values by turns.
pub fn zipmap_to_listpack(bytes: &[u8]) -> Result<Listpack, Fault> {
    const BAD: &str = "Zipmap integrity check failed.";
    let mut out = Listpack::new();
    let said = match (bytes.split_first(), bytes.last()) {
        (Some((&said, rest)), Some(&END)) if !rest.is_empty() => said,
        _ => return Err(Fault::corrupt(BAD)),
    };
    let mut b = Bytes::new(&bytes[1..bytes.len() - 1]);
    let mut n = 0usize;
    while b.left() > 0 {
        let (key, value) = zipmap_pair(&mut b).map_err(|_| Fault::corrupt(BAD))?;
        out.push_back(Item::of(key));
        out.push_back(Item::of(value));
        n += 1;
    }
    let counted = said >= LONG || usize::from(said) == n;
    if counted && n > 0 { Ok(out) } else { Err(Fault::corrupt(BAD)) }
}

fn zipmap_pair<'a>(b: &mut Bytes<'a>) -> Result<(&'a [u8], &'a [u8]), Fault> {
    fn length(b: &mut Bytes) -> Result<u64, Fault> {
        match b.byte()? {
            // What has room in one byte must not take five.
            LONG => Some(u64::from(little(b)?)).filter(|n| *n >= u64::from(LONG)).ok_or(Fault::Short),
            END => Err(Fault::Short),
            n => Ok(u64::from(n)),
        }
    }
    let n = length(b)?;
    let key = b.take(n)?;
    let n = length(b)?;
    let unused = b.byte()?;
    let value = b.take(n)?;
    b.take(u64::from(unused))?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(l: &Listpack) -> Vec<String> {
        l.iter().map(|i| String::from_utf8(i.to_vec()).unwrap()).collect()
    }

    fn ziplist_of(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let (mut before, mut last) = (0usize, ZIPLIST_HEAD);
        for e in entries {
            last = ZIPLIST_HEAD + body.len();
            let from = body.len();
            if before < 254 {
                body.push(before as u8);
            } else {
                body.push(LONG);
                body.extend_from_slice(&(before as u32).to_le_bytes());
            }
            body.extend_from_slice(e);
            before = body.len() - from;
        }
        let total = (ZIPLIST_HEAD + body.len() + 1) as u32;
        let head = [&total.to_le_bytes()[..], &(last as u32).to_le_bytes(), &(entries.len() as u16).to_le_bytes()];
        [&head.concat()[..], &body, &[END]].concat()
    }

    #[test]
    fn all_entries_of_ziplists() {
        let long = [&[0x41, 0x2C][..], &[b'x'; 300]].concat();
        let bytes = ziplist_of(&[
            b"\x03abc",
            b"\xf1",
            b"\xfd",
            b"\xfe\x80",
            b"\xc0\x00\x80",
            b"\xf0\xff\xff\x7f",
            b"\xf0\x00\x00\x80",
            &long,
            b"\xd0\x00\x00\x00\x80",
            b"\xe0\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x80\x00\x00\x00\x02zz",
            b"\x02-1",
        ]);
        let l = ziplist_to_listpack(&bytes, "bad").unwrap();
        let x300 = "x".repeat(300);
        let want = ["abc", "0", "12", "-128", "-32768", "8388607", "-8388608", &x300, "-2147483648"];
        assert_eq!(list(&l)[..9], want);
        assert_eq!(list(&l)[9..], ["9223372036854775807", "zz", "-1"]);
        assert_eq!(l.find(&Item::Int(-1), l.first(), 1), l.last());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x41;
            let _ = ziplist_to_listpack(&bad, "bad");
            assert!(ziplist_to_listpack(&bytes[..at], "bad").is_err());
        }
    }

    #[test]
    fn zipmaps_with_unused_bytes() {
        let bytes = [&b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world\0\0"[..], &[END]].concat();
        assert_eq!(list(&zipmap_to_listpack(&bytes).unwrap()), ["foo", "bar", "hello", "world"]);
        assert!(zipmap_to_listpack(&[1, END]).is_err());
        for cut in 0..bytes.len() {
            assert!(zipmap_to_listpack(&bytes[..cut]).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = zipmap_to_listpack(&bytes);
            if let Some(last) = bytes.last_mut() {
                *last = END;
            }
            let n = bytes.len();
            if n > ZIPLIST_HEAD {
                bytes[..4].copy_from_slice(&(n as u32).to_le_bytes());
                bytes[8..10].copy_from_slice(&[255, 255]);
            }
            let _ = ziplist_to_listpack(&bytes, "bad");
            let _ = zipmap_to_listpack(&bytes);
        }
    }
}
