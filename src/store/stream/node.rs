//! A run of stream entries in one listpack, in Redis's published layout, so
//! that saving a stream is a copy.
//!
//! The node stands under the identifier of its first entry, its *master*. At
//! its front stand the number of entries, the number of deleted ones among the
//! rows, and the fields of the first entry: their number, they themselves, a
//! zero. Then the rows:
//!
//! ```text
//! flags  ms - master.ms  seq - master.seq  [number of fields]  (field) value ...  number of elements before
//! ```
//!
//! A row with the master's fields ([`SAME`]) has values only. The last number
//! lets a reader step backwards. A deleted row stays, marked [`DELETED`].

use super::id::StreamId;
use crate::store::listpack::{Item, Listpack};
use smallvec::SmallVec;

const DELETED: i64 = 1;
const SAME: i64 = 2;

/// Elements of a row beside fields and values: flags and the two deltas.
const ROW_HEAD: usize = 3;

/// What stands at the front of a node.
#[derive(Clone, Copy)]
pub struct Head {
    pub live: i64,
    pub deleted: i64,
    /// Number of the master's fields, and the position of the first.
    fields: usize,
    fields_at: usize,
    /// Position of the first row.
    rows_at: usize,
}

fn int(item: Item) -> i64 {
    match item {
        Item::Int(v) => v,
        Item::Str(_) => unreachable!("nodes are checked when they come from outside"),
    }
}

/// The position behind `n` elements from `at` on.
fn skip(list: &Listpack, at: usize, n: usize) -> usize {
    (0..n).fold(at, |at, _| list.read(at).1)
}

impl Head {
    pub fn of(list: &Listpack) -> Head {
        let (live, at) = list.read(list.front());
        let (deleted, at) = list.read(at);
        let (fields, fields_at) = list.read(at);
        let fields = int(fields) as usize;
        let rows_at = skip(list, fields_at, fields + 1);
        Head { live: int(live), deleted: int(deleted), fields, fields_at, rows_at }
    }
}

/// One entry of a stream, in its node.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub id: StreamId,
    list: &'a Listpack,
    head: Head,
    at: usize,
    flags: i64,
    fields: usize,
    body: usize,
}

impl<'a> Row<'a> {
    fn at(list: &'a Listpack, head: Head, master: StreamId, at: usize) -> Row<'a> {
        let (flags, p) = list.read(at);
        let (ms, p) = list.read(p);
        let (seq, p) = list.read(p);
        let flags = int(flags);
        let id = StreamId { ms: master.ms.wrapping_add(int(ms) as u64), seq: master.seq.wrapping_add(int(seq) as u64) };
        let (fields, body) = if flags & SAME != 0 {
            (head.fields, p)
        } else {
            let (n, p) = list.read(p);
            (int(n) as usize, p)
        };
        Row { id, list, head, at, flags, fields, body }
    }

    pub fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields
    }

    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    fn same(&self) -> bool {
        self.flags & SAME != 0
    }

    /// Fields with their values.
    pub fn pairs(&self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> + use<'a> {
        let (list, same) = (self.list, self.same());
        let (mut field_at, mut at) = (self.head.fields_at, self.body);
        (0..self.fields).map(move |_| {
            let field;
            if same {
                (field, field_at) = list.read(field_at);
            } else {
                (field, at) = list.read(at);
            }
            let value;
            (value, at) = list.read(at);
            (field, value)
        })
    }

    /// The position of the next row, or of the end.
    fn end(&self) -> usize {
        let words = if self.same() { self.fields } else { 2 * self.fields };
        skip(self.list, self.body, words + 1)
    }
}

/// All rows of a node, deleted ones too, from the first to the last.
pub fn rows(list: &Listpack, master: StreamId) -> impl Iterator<Item = Row<'_>> {
    let head = Head::of(list);
    let mut at = head.rows_at;
    std::iter::from_fn(move || {
        (at < list.back()).then(|| {
            let row = Row::at(list, head, master, at);
            at = row.end();
            row
        })
    })
}

/// All rows from the last to the first.
pub fn rows_back(list: &Listpack, master: StreamId) -> impl Iterator<Item = Row<'_>> {
    let head = Head::of(list);
    let mut at = list.back();
    std::iter::from_fn(move || {
        (at > head.rows_at).then(|| {
            let count_at = list.prev(at)?;
            let n = int(list.get(count_at)) as usize;
            at = (0..n).try_fold(count_at, |at, _| list.prev(at))?;
            Some(Row::at(list, head, master, at))
        })?
    })
}

/// The identifier of the last row, deleted or not.
pub fn last_id(list: &Listpack, master: StreamId) -> StreamId {
    rows_back(list, master).next().map_or(master, |row| row.id)
}

/// Items of a new row or node.
type Items<'a> = SmallVec<[Item<'a>; 16]>;

/// A new node for a first entry with these words (fields and values by turns).
pub fn create(words: &[&[u8]]) -> Listpack {
    let mut items: Items = SmallVec::new();
    items.extend([Item::Int(0), Item::Int(0), Item::Int((words.len() / 2) as i64)]);
    items.extend(words.chunks_exact(2).map(|w| Item::of(w[0])));
    items.push(Item::Int(0));
    let mut list = Listpack::new();
    list.insert(list.back(), &items);
    list
}

/// Adds an entry; `id` is above all others of the node.
pub fn append(list: &mut Listpack, master: StreamId, id: StreamId, words: &[&[u8]]) {
    let head = Head::of(list);
    let n = words.len() / 2;
    let same = n == head.fields && has_fields(list, &head, words);
    let deltas = [id.ms.wrapping_sub(master.ms) as i64, id.seq.wrapping_sub(master.seq) as i64];
    let mut items: Items = SmallVec::new();
    items.extend([Item::Int(if same { SAME } else { 0 }), Item::Int(deltas[0]), Item::Int(deltas[1])]);
    if same {
        items.extend(words.chunks_exact(2).map(|w| Item::of(w[1])));
    } else {
        items.push(Item::Int(n as i64));
        items.extend(words.iter().map(|w| Item::of(w)));
    }
    let elements = if same { n + ROW_HEAD } else { 2 * n + ROW_HEAD + 1 };
    items.push(Item::Int(elements as i64));
    list.insert(list.back(), &items);
    list.replace(list.front(), Item::Int(head.live + 1));
}

fn has_fields(list: &Listpack, head: &Head, words: &[&[u8]]) -> bool {
    let mut at = head.fields_at;
    words.chunks_exact(2).all(|w| {
        let field;
        (field, at) = list.read(at);
        field == Item::of(w[0])
    })
}

/// Marks the row of `id` as deleted; false when there is none.
pub fn delete(list: &mut Listpack, master: StreamId, id: StreamId) -> bool {
    let found = rows(list, master).find(|r| r.id >= id).filter(|r| r.id == id && !r.is_deleted());
    let Some((at, flags)) = found.map(|r| (r.at, r.flags)) else { return false };
    list.replace(at, Item::Int(flags | DELETED));
    recount(list, 1);
    true
}

/// Marks rows from the front on as deleted while `wanted` says so; how many.
pub fn delete_front(list: &mut Listpack, master: StreamId, mut wanted: impl FnMut(StreamId) -> bool) -> u64 {
    let mut marks: Vec<(usize, i64)> = Vec::new();
    for row in rows(list, master).filter(|r| !r.is_deleted()) {
        if !wanted(row.id) {
            break;
        }
        marks.push((row.at, row.flags));
    }
    for &(at, flags) in &marks {
        // Flags take one byte in either state, so positions stay.
        list.replace(at, Item::Int(flags | DELETED));
    }
    recount(list, marks.len() as i64);
    marks.len() as u64
}

fn recount(list: &mut Listpack, deleted: i64) {
    let head = Head::of(list);
    list.replace(list.front(), Item::Int(head.live - deleted));
    let second = list.read(list.front()).1;
    list.replace(second, Item::Int(head.deleted + deleted));
}

/// Is this a well-formed node with at least one entry, none below `master`,
/// all in ascending order? For listpacks from outside; every other function
/// relies on it.
pub fn check(list: &Listpack, master: StreamId) -> bool {
    checked(list, master).is_some()
}

fn checked(list: &Listpack, master: StreamId) -> Option<()> {
    let mut items = list.iter();
    let mut number = || match items.next()? {
        Item::Int(v) => Some(v),
        Item::Str(_) => None,
    };
    let (live, deleted) = (number()?, number()?);
    let total = list.len();
    let fields = usize::try_from(number()?).ok().filter(|n| *n <= total)?;
    let mut items = list.iter().skip(3 + fields);
    let (mut found, mut gone) = (0, 0);
    if items.next()? != Item::Int(0) {
        return None;
    }
    let mut last = None;
    let mut words = 0;
    while let Some(flags) = items.next() {
        let mut number = || match items.next()? {
            Item::Int(v) => Some(v),
            Item::Str(_) => None,
        };
        let Item::Int(flags) = flags else { return None };
        if !(0..=DELETED | SAME).contains(&flags) {
            return None;
        }
        let ms = master.ms.wrapping_add(number()? as u64);
        let id = StreamId { ms, seq: master.seq.wrapping_add(number()? as u64) };
        if id < master || last.is_some_and(|l| id <= l) {
            return None;
        }
        last = Some(id);
        let n = if flags & SAME != 0 { fields } else { usize::try_from(number()?).ok().filter(|n| *n <= total)? };
        let body = if flags & SAME != 0 { n } else { 2 * n };
        for _ in 0..body {
            items.next()?;
        }
        let elements = body + ROW_HEAD + usize::from(flags & SAME == 0);
        if items.next()? != Item::Int(elements as i64) {
            return None;
        }
        words += elements;
        *(if flags & DELETED != 0 { &mut gone } else { &mut found }) += 1;
    }
    (words > 0 && found == live && gone == deleted).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn shown(list: &Listpack, master: StreamId) -> Vec<String> {
        let word = |i: Item| String::from_utf8(i.to_vec()).unwrap();
        let row = |r: Row| {
            let pairs: Vec<String> = r.pairs().map(|(f, v)| format!("{}={}", word(f), word(v))).collect();
            format!("{}-{} {}", r.id.ms, r.id.seq, pairs.join(","))
        };
        let forward: Vec<String> = rows(list, master).filter(|r| !r.is_deleted()).map(row).collect();
        let mut back: Vec<String> = rows_back(list, master).filter(|r| !r.is_deleted()).map(row).collect();
        back.reverse();
        assert_eq!(forward, back);
        forward
    }

    #[test]
    fn rows_are_added_and_deleted() {
        let master = StreamId::new(10, 5);
        let mut list = create(&words("a 1 b x"));
        append(&mut list, master, master, &words("a 1 b x"));
        append(&mut list, master, StreamId::new(11, 0), &words("a 2 b y"));
        append(&mut list, master, StreamId::new(11, 3), &words("c 2"));
        let all = ["10-5 a=1,b=x", "11-0 a=2,b=y", "11-3 c=2"];
        assert_eq!(shown(&list, master), all);
        assert!(check(&list, master));
        assert!(delete(&mut list, master, StreamId::new(11, 0)));
        assert!(!delete(&mut list, master, StreamId::new(11, 0)));
        assert!(!delete(&mut list, master, StreamId::new(11, 1)));
        assert_eq!(shown(&list, master), [all[0], all[2]]);
        assert_eq!(delete_front(&mut list, master, |id| id < StreamId::new(11, 3)), 1);
        assert_eq!((Head::of(&list).live, Head::of(&list).deleted), (1, 2));
        assert_eq!(last_id(&list, master), StreamId::new(11, 3));
        assert!(check(&list, master));
    }

    #[test]
    fn foreign_nodes_are_checked() {
        let master = StreamId::new(10, 5);
        let mut good = create(&words("a 1"));
        append(&mut good, master, master, &words("a 1"));
        append(&mut good, master, StreamId::new(10, 6), &words("c 2"));
        assert!(check(&good, master));
        let items: Vec<Item> = good.iter().collect();
        let mut accepted = 0;
        for at in 0..items.len() {
            for other in [Item::Int(-1), Item::Int(1000), Item::Str(b"x"), Item::Int(1)] {
                let mut changed = items.clone();
                changed[at] = other;
                let mut list = Listpack::new();
                list.insert(list.back(), &changed);
                if check(&list, master) {
                    accepted += 1;
                    shown(&list, master);
                }
            }
            let mut short = Listpack::new();
            short.insert(short.back(), &items[..at]);
            assert!(!check(&short, master) || at == items.len());
        }
        // Fields, values, and sequence numbers may be anything.
        assert!(accepted < items.len() * 2, "{accepted}");
        assert!(!check(&good, StreamId::MAX));
    }
}
