//! Small sequences of strings and integers in one piece of memory, byte for
//! byte in Redis's published listpack format, so that saving one is a copy.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | total length, little-endian |
//! | 2 | number of entries, little-endian; 65535: more than that, walk |
//! | ... | entries: encoding and data, then their length in reversed 7-bit groups |
//! | 1 | 0xFF |
//!
//! Invariant: the bytes are well formed ([`Listpack::parse`] checks foreign
//! ones entry by entry), so positions handed out stay within them. A position
//! is the offset of an entry; it is good until the next change.

use super::mover::{Movable, Mover};
use super::thin::{HEAD, Thin, Told};
use crate::base::num::parse_i64;

const HEADER: usize = 6;
const END: u8 = 0xFF;
const MANY: u16 = u16::MAX;

/// Listpacks are kept below this size, whatever the thresholds allow.
const BYTES_MAX: usize = 1 << 30;

/// An element: strings that are canonical integers are kept as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item<'a> {
    Str(&'a [u8]),
    Int(i64),
}

impl<'a> Item<'a> {
    /// The form in which `s` is kept.
    #[inline]
    pub fn of(s: &'a [u8]) -> Item<'a> {
        if s.len() <= 20 && s.first().is_some_and(|&b| b.is_ascii_digit() || b == b'-') {
            parse_i64(s).map_or(Item::Str(s), Item::Int)
        } else {
            Item::Str(s)
        }
    }

    /// The one form of several that compares equal to others with these bytes.
    #[inline]
    pub fn canonical(self) -> Item<'a> {
        match self {
            Item::Str(s) => Item::of(s),
            Item::Int(_) => self,
        }
    }

    /// Is it in the form in which its bytes are kept?
    #[inline]
    pub fn is_canonical(&self) -> bool {
        match *self {
            Item::Str(s) => matches!(Item::of(s), Item::Str(_)),
            Item::Int(_) => true,
        }
    }

    /// Calls `f` with the element's bytes.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match *self {
            Item::Str(s) => f(s),
            Item::Int(v) => f(itoa::Buffer::new().format(v).as_bytes()),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }

    /// Length of the element's bytes.
    pub fn len(&self) -> usize {
        self.with(<[u8]>::len)
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Item::Str(s) if s.is_empty())
    }

    pub fn cmp_bytes(&self, other: &[u8]) -> std::cmp::Ordering {
        self.with(|s| s.cmp(other))
    }

    /// Bytes of the encoding with its data.
    #[inline]
    fn encoded_len(&self) -> usize {
        match *self {
            Item::Str(s) => {
                s.len()
                    + if s.len() < 64 {
                        1
                    } else if s.len() < 4096 {
                        2
                    } else {
                        5
                    }
            }
            Item::Int(v) => match v {
                0..=127 => 1,
                -4096..=4095 => 2,
                -32_768..=32_767 => 3,
                -8_388_608..=8_388_607 => 4,
                -2_147_483_648..=2_147_483_647 => 5,
                _ => 9,
            },
        }
    }

    /// Bytes of a whole entry.
    #[inline]
    pub fn entry_len(&self) -> usize {
        let n = self.encoded_len();
        n + backlen_size(n)
    }

    /// Writes an entry into `out`, which has just its length.
    fn write(&self, out: &mut [u8]) {
        let n = self.encoded_len();
        let (body, back) = out.split_at_mut(n);
        match *self {
            Item::Str(s) => {
                let head = n - s.len();
                match head {
                    1 => body[0] = 0x80 | s.len() as u8,
                    2 => body[..2].copy_from_slice(&[0xE0 | (s.len() >> 8) as u8, s.len() as u8]),
                    _ => {
                        body[0] = 0xF0;
                        body[1..5].copy_from_slice(&(s.len() as u32).to_le_bytes());
                    }
                }
                body[head..].copy_from_slice(s);
            }
            Item::Int(v) => match n {
                1 => body[0] = v as u8,
                2 => body.copy_from_slice(&[0xC0 | ((v >> 8) as u8 & 0x1F), v as u8]),
                _ => {
                    body[0] = match n {
                        3 => 0xF1,
                        4 => 0xF2,
                        5 => 0xF3,
                        _ => 0xF4,
                    };
                    body[1..].copy_from_slice(&v.to_le_bytes()[..n - 1]);
                }
            },
        }
        write_backlen(n, back);
    }
}

/// Bytes that the length `n` takes behind an entry. (The limits are the
/// format's: the group boundaries less one, but for the first.)
#[inline]
fn backlen_size(n: usize) -> usize {
    match n {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Most significant group first; all but the first have the top bit.
fn write_backlen(n: usize, out: &mut [u8]) {
    let mut rest = n;
    for b in out.iter_mut().rev() {
        *b = (rest & 127) as u8 | 128;
        rest >>= 7;
    }
    out[0] &= 127;
}

/// Head and data lengths of the encoding at the start of `b`; `None` when it
/// is none or cut short.
#[inline]
fn encoding(b: &[u8]) -> Option<(usize, usize)> {
    Some(match *b.first()? {
        0..=0x7F => (1, 0),
        h @ 0x80..=0xBF => (1, (h & 0x3F) as usize),
        0xC0..=0xDF => (2, 0),
        h @ 0xE0..=0xEF => (2, ((h & 15) as usize) << 8 | *b.get(1)? as usize),
        0xF0 => (5, u32::from_le_bytes(b.get(1..5)?.try_into().ok()?) as usize),
        0xF1 => (3, 0),
        0xF2 => (4, 0),
        0xF3 => (5, 0),
        0xF4 => (9, 0),
        _ => return None,
    })
}

#[inline]
fn signed(b: &[u8]) -> i64 {
    let mut w = [0u8; 8];
    w[..b.len()].copy_from_slice(b);
    let unused = 64 - 8 * b.len() as u32;
    i64::from_le_bytes(w) << unused >> unused
}

/// A sequence; see the module's description.
#[derive(Clone)]
pub struct Listpack(Thin<Packed>);

impl Movable for Listpack {
    fn relocate(&mut self, mover: &mut Mover) {
        self.0.relocate(mover);
    }
}

/// The length stands in the first four bytes.
struct Packed;

impl Told for Packed {
    #[inline]
    fn len(head: &[u8; HEAD]) -> usize {
        u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize
    }

    #[inline]
    fn tell(head: &mut [u8; HEAD], len: usize) {
        head[..4].copy_from_slice(&(len as u32).to_le_bytes());
    }
}

/// Looks at all entries of foreign bytes (without the end mark): their number,
/// and whether all are canonical; `None` if one is malformed.
///
/// Where an entry begins is known only from the one before it, which makes the
/// walk wait for each entry's first byte. So the length is guessed: if it is a
/// string with the first byte of the last string but one (elements of one
/// length; fields and values by turns), it has that one's length, and the
/// processor goes on before the byte is there. Where guesses fail, which costs
/// more than waiting, they are given up.
fn walk(body: &[u8]) -> Option<(usize, bool)> {
    const INTEGER_MAX: usize = 20;
    /// So many wrong guesses are borne, and a quarter of the entries.
    const WRONG_MAX: usize = 8;
    /// No entry begins with it.
    const NONE: (u8, usize) = (END, 0);
    let (mut at, mut n, mut wrong) = (HEADER, 0usize, 0usize);
    let (mut older, mut newer) = (NONE, NONE);
    let mut canonical = true;
    while let Some(&first) = body.get(at) {
        n += 1;
        if first == older.0 {
            let len = older.1;
            if usize::from(*body.get(at + len)?) != len {
                return None;
            }
            if (2..=INTEGER_MAX + 1).contains(&len) {
                canonical &= Item::Str(body.get(at + 1..at + len)?).is_canonical();
            }
            at += len + 1;
            (older, newer) = (newer, older);
            continue;
        }
        let (head, data) = encoding(&body[at..])?;
        let len = head.checked_add(data)?;
        if data > 0 && data <= INTEGER_MAX {
            canonical &= Item::Str(body.get(at + head..at + len)?).is_canonical();
        }
        if first & 0xC0 == 0x80 {
            wrong += 1;
            let guess = if wrong <= WRONG_MAX + n / 4 { (first, len) } else { NONE };
            (older, newer) = (newer, guess);
        }
        if len < 128 {
            // Nearly always: a length behind the entry of one byte.
            if usize::from(*body.get(at + len)?) != len {
                return None;
            }
            at += len + 1;
            continue;
        }
        let back = backlen_size(len);
        let end = at.checked_add(len)?.checked_add(back)?;
        let mut want = [0u8; 5];
        write_backlen(len, &mut want[..back]);
        if body.get(at + len..end)? != &want[..back] {
            return None;
        }
        at = end;
    }
    Some((n, canonical))
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl Listpack {
    pub fn new() -> Listpack {
        Listpack(Thin::new(&[7, 0, 0, 0, 0, 0, END]))
    }

    /// Takes over foreign bytes if they are a well-formed listpack.
    pub fn parse(bytes: Vec<u8>) -> Option<Listpack> {
        Listpack::parse_noting(&bytes).map(|(l, _)| l)
    }

    /// [`Listpack::parse`] of a copy, and whether all elements are canonical
    /// ([`Item::is_canonical`]).
    pub fn parse_noting(bytes: &[u8]) -> Option<(Listpack, bool)> {
        let total = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        if total != bytes.len() || total <= HEADER || bytes[total - 1] != END {
            return None;
        }
        let (n, canonical) = walk(&bytes[..total - 1])?;
        let count = u16::from_le_bytes([bytes[4], bytes[5]]);
        (count == MANY || usize::from(count) == n).then(|| (Listpack(Thin::new(bytes)), canonical))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length of the bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Are `bytes` more within what a listpack may hold?
    #[inline]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.0.len() + bytes < BYTES_MAX
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    #[inline]
    fn count(&self) -> u16 {
        u16::from_le_bytes([self.0[4], self.0[5]])
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        match self.count() {
            MANY => self.iter().count(),
            n => n as usize,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len() == HEADER + 1
    }

    #[inline]
    fn end(&self) -> usize {
        self.0.len() - 1
    }

    #[inline]
    pub fn first(&self) -> Option<usize> {
        self.valid(HEADER)
    }

    #[inline]
    pub fn last(&self) -> Option<usize> {
        self.prev(self.end())
    }

    #[inline]
    pub(super) fn valid(&self, at: usize) -> Option<usize> {
        (at < self.end()).then_some(at)
    }

    /// The element at `at`, and where its entry ends.
    #[inline]
    pub fn read(&self, at: usize) -> (Item<'_>, usize) {
        let b = &self.0[at..];
        let h = b[0];
        if h & 0xC0 == 0x80 {
            let n = (h & 0x3F) as usize;
            return (Item::Str(&b[1..1 + n]), at + n + 2);
        }
        if h < 0x80 {
            return (Item::Int(i64::from(h)), at + 2);
        }
        let (head, data) = encoding(b).expect("positions lie on entries");
        let item = match h {
            0xC0..=0xDF => {
                let v = i64::from(h & 0x1F) << 8 | i64::from(b[1]);
                Item::Int(if v >= 4096 { v - 8192 } else { v })
            }
            0xE0..=0xF0 => Item::Str(&b[head..head + data]),
            _ => Item::Int(signed(&b[1..head])),
        };
        (item, at + head + data + backlen_size(head + data))
    }

    /// The element at a position.
    #[inline]
    pub fn get(&self, at: usize) -> Item<'_> {
        self.read(at).0
    }

    #[inline]
    pub fn next(&self, at: usize) -> Option<usize> {
        self.valid(self.read(at).1)
    }

    /// The entry before a position (or before the end).
    #[inline]
    pub fn prev(&self, at: usize) -> Option<usize> {
        if at <= HEADER {
            return None;
        }
        let (mut n, mut shift, mut p) = (0usize, 0, at - 1);
        loop {
            n |= (self.0[p] as usize & 127) << shift;
            if self.0[p] & 128 == 0 {
                return Some(p - n);
            }
            shift += 7;
            p -= 1;
        }
    }

    /// The position of the `index`-th entry, from the nearer end.
    pub fn seek(&self, index: usize) -> Option<usize> {
        let n = self.len();
        if index >= n {
            return None;
        }
        if index <= n / 2 {
            (0..index).try_fold(HEADER, |at, _| self.next(at))
        } else {
            (0..n - index).try_fold(self.end(), |at, _| self.prev(at))
        }
    }

    /// The first entry equal to `item` from `at` on, looking at every
    /// `step`-th.
    pub fn find(&self, item: &Item, at: Option<usize>, step: usize) -> Option<usize> {
        let mut at = at?;
        let mut skip = 0;
        while at < self.end() {
            let (found, end) = self.read(at);
            if skip == 0 {
                if found == *item {
                    return Some(at);
                }
                skip = step;
            }
            skip -= 1;
            at = end;
        }
        None
    }

    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter { list: self, at: HEADER }
    }

    /// From a position on.
    #[inline]
    pub fn iter_from(&self, at: usize) -> Iter<'_> {
        Iter { list: self, at }
    }

    /// From the last to the first.
    pub fn iter_back(&self) -> impl Iterator<Item = Item<'_>> + Clone {
        std::iter::successors(self.last(), |&at| self.prev(at)).map(|at| self.get(at))
    }

    /// Elements two by two (fields with values, members with scores).
    pub fn pairs(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> + Clone {
        let mut all = self.iter();
        std::iter::from_fn(move || Some((all.next()?, all.next()?)))
    }

    /// Shows the elements two by two.
    #[inline]
    pub fn each_pair<'a>(&'a self, mut f: impl FnMut(Item<'a>, Item<'a>)) {
        let mut at = self.first();
        while let Some(a) = at {
            let (first, b) = self.read(a);
            let Some(b) = self.valid(b) else { return };
            let (second, end) = self.read(b);
            f(first, second);
            at = self.valid(end);
        }
    }

    /// Puts `new` entries in the place of `old` bytes at `at`.
    fn splice(&mut self, at: usize, old: usize, new: &[Item]) {
        let need: usize = new.iter().map(Item::entry_len).sum();
        let size = self.0.len();
        let total = size - old + need;
        assert!(total <= u32::MAX as usize, "callers keep listpacks below BYTES_MAX");
        if need > old {
            self.0.resize(total);
        }
        self.0.copy_within(at + old..size, at + need);
        if need < old {
            self.0.resize(total);
        }
        let mut p = at;
        for item in new {
            let n = item.entry_len();
            item.write(&mut self.0[p..p + n]);
            p += n;
        }
    }

    fn recount(&mut self, added: usize, removed: usize) {
        let was = self.count();
        if was != MANY {
            let n = (usize::from(was) + added - removed).min(MANY as usize) as u16;
            self.0[4..6].copy_from_slice(&n.to_le_bytes());
        }
    }

    #[inline]
    pub fn push_back(&mut self, item: Item) {
        self.insert(self.end(), &[item]);
    }

    pub fn push_front(&mut self, item: Item) {
        self.insert(HEADER, &[item]);
    }

    /// The position of the first entry, or of the end.
    pub fn front(&self) -> usize {
        HEADER
    }

    /// The position behind the last entry.
    pub fn back(&self) -> usize {
        self.end()
    }

    /// Inserts entries before the position `at`.
    pub fn insert(&mut self, at: usize, items: &[Item]) {
        self.splice(at, 0, items);
        self.recount(items.len(), 0);
    }

    /// Replaces the entry at `at`.
    pub fn replace(&mut self, at: usize, item: Item) {
        let old = self.read(at).1 - at;
        self.splice(at, old, &[item]);
    }

    /// Removes `n` entries from `at` on.
    pub fn remove(&mut self, at: usize, n: usize) {
        let (mut end, mut removed) = (at, 0);
        while removed < n && end < self.end() {
            end = self.read(end).1;
            removed += 1;
        }
        self.splice(at, end - at, &[]);
        self.recount(0, removed);
    }

    /// Splits off the entries from `at` on.
    pub fn split_off(&mut self, at: usize) -> Listpack {
        let mut tail = Listpack::new();
        let n = self.iter_from(at).count();
        tail.0.resize(HEADER + self.0.len() - at);
        tail.0[HEADER..].copy_from_slice(&self.0[at..]);
        tail.recount(n, 0);
        self.remove(at, n);
        tail
    }
}

/// See [`Listpack::iter`].
#[derive(Clone)]
pub struct Iter<'a> {
    list: &'a Listpack,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.list.valid(self.at)?;
        let (item, end) = self.list.read(self.at);
        self.at = end;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(items: &[Vec<u8>]) -> Listpack {
        let mut l = Listpack::new();
        items.iter().for_each(|s| l.push_back(Item::of(s)));
        l
    }

    fn unpack(l: &Listpack) -> Vec<Vec<u8>> {
        l.iter().map(|i| i.to_vec()).collect()
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // The payload of RPUSH l a 1 -1 300 70000 9999999999 as Redis 7.0.15 keeps it.
        let items = ["a", "1", "-1", "300", "70000", "3000000", "9999999999"].map(|s| s.as_bytes().to_vec());
        let l = pack(&items);
        let want = [
            &[38, 0, 0, 0, 7, 0][..],
            &[0x81, b'a', 2],
            &[1, 1],
            &[0xDF, 0xFF, 2],
            &[0xC1, 0x2C, 2],
            &[0xF2, 0x70, 0x11, 0x01, 4],
            &[0xF2, 0xC0, 0xC6, 0x2D, 4],
            &[0xF4, 0xFF, 0xE3, 0x0B, 0x54, 2, 0, 0, 0, 9],
            &[0xFF],
        ]
        .concat();
        assert_eq!(l.as_bytes(), want);
        assert_eq!(unpack(&l), items);
    }

    #[test]
    fn more_entries_than_the_header_counts() {
        let mut l = Listpack::new();
        (0..70_000).for_each(|i| l.push_back(Item::Int(i % 100)));
        assert_eq!(l.len(), 70_000);
        l.remove(HEADER, 10_000);
        assert_eq!(l.len(), 60_000);
        assert!(Listpack::parse(l.as_bytes().to_vec()).is_some());
    }

    #[test]
    fn long_entries_have_long_back_lengths() {
        for n in [63, 64, 125, 126, 127, 4095, 4096, 16_377, 16_378, 16_379, 2_097_145, 2_097_146, 2_097_147] {
            let l = pack(&[b"x".to_vec(), vec![b'y'; n], b"z".to_vec()]);
            assert!(Listpack::parse(l.as_bytes().to_vec()).is_some(), "{n}");
            let back: Vec<usize> = l.iter_back().map(|i| i.len()).collect();
            assert_eq!(back, [1, n, 1]);
        }
    }

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|v| v.to_string().into_bytes()),
            (-5000i64..5000).prop_map(|v| v.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..10),
            (0usize..5000).prop_map(|n| vec![b'a'; n]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_vector(ops in proptest::collection::vec((0u8..6, any::<prop::sample::Index>(), element()), 1..40)) {
            let (mut l, mut model) = (Listpack::new(), Vec::new());
            for (op, place, s) in ops {
                let i = place.index(model.len() + 1);
                let at = l.seek(i);
                prop_assert_eq!(at.is_some(), i < model.len());
                match (op, at) {
                    (0, _) => { l.push_front(Item::of(&s)); model.insert(0, s); }
                    (1, Some(at)) => { l.remove(at, 2); model.drain(i..(i + 2).min(model.len())); }
                    (2, Some(at)) => { l.replace(at, Item::of(&s)); model[i] = s; }
                    (3, Some(at)) => { l.insert(at, &[Item::of(&s), Item::Int(7)]); model.insert(i, b"7".to_vec()); model.insert(i, s); }
                    (4, Some(at)) => { let tail = l.split_off(at); let want = model.split_off(i); prop_assert_eq!(unpack(&tail), want); }
                    _ => { l.push_back(Item::of(&s)); model.push(s); }
                }
                prop_assert_eq!(l.len(), model.len());
                prop_assert_eq!(unpack(&l), model.clone());
                let back: Vec<Vec<u8>> = l.iter_back().map(|i| i.to_vec()).collect();
                prop_assert_eq!(back, model.iter().rev().cloned().collect::<Vec<_>>());
                prop_assert!(Listpack::parse(l.as_bytes().to_vec()).is_some());
                if let Some(x) = model.last() {
                    let found = l.find(&Item::of(x), l.first(), 1).map(|at| l.get(at).to_vec());
                    prop_assert_eq!(found.as_ref(), Some(x));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let n = bytes.len() as u32;
            if n >= 7 {
                bytes[..4].copy_from_slice(&n.to_le_bytes());
                bytes[4..6].copy_from_slice(&[255, 255]);
                bytes[n as usize - 1] = 0xFF;
            }
            if let Some(l) = Listpack::parse(bytes) {
                prop_assert_eq!(l.iter().count(), l.iter_back().count());
            }
        }
    }
}
