//! Where a command's keys are among its arguments.

use smallvec::SmallVec;

use super::spec::{Begin, Find, KeySpec, Spec, keyflag};
use crate::base::Args;
use crate::base::num::parse_i64;

/// One key: its place among the arguments, and the specification it is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub index: usize,
    pub flags: u32,
    /// Arguments that go with this key: `index .. index + step`.
    pub step: usize,
}

impl Place {
    /// Is the key only read?
    pub fn read_only(&self) -> bool {
        self.flags & keyflag::RO != 0
    }
}

pub type Places = SmallVec<[Place; 4]>;

/// All keys of a call, in the order of the specifications; `None` when the
/// arguments do not fit them (a count that is no number or too large).
pub fn places(spec: &Spec, args: Args<'_>) -> Option<Places> {
    let mut out = Places::new();
    for k in spec.keys {
        if k.flags & keyflag::NOT_KEY == 0 {
            by_spec(k, args, &mut out)?;
        }
    }
    Some(out)
}

/// Does this call reach keys that its arguments do not name? SORT does by its
/// patterns.
pub fn undeclared(spec: &Spec, args: Args<'_>) -> bool {
    let by_pattern = spec.keys.iter().any(|k| matches!(k.begin, Begin::Unknown));
    by_pattern
        && args.windows(2).skip(2).any(|w| {
            let names = w[0].eq_ignore_ascii_case(b"by") || w[0].eq_ignore_ascii_case(b"get");
            names && w[1].contains(&b'*')
        })
}

/// Where the key stands that SORT stores to: after its last STORE, read as the
/// handler reads its options.
fn sort_destination(args: Args<'_>) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while at < args.len() {
        let is = |word: &str| args[at].eq_ignore_ascii_case(word.as_bytes());
        if is("store") && at + 1 < args.len() {
            found = Some(at + 1);
        }
        at += if is("limit") {
            3
        } else if is("get") || is("by") || is("store") {
            2
        } else {
            1
        };
    }
    found
}

/// The same of GEORADIUS, whose STORE and STOREDIST override each other.
fn radius_destination(args: Args<'_>) -> Option<usize> {
    let (mut at, mut found) = (5, None);
    while at + 1 < args.len() {
        let stores = args[at].eq_ignore_ascii_case(b"store") || args[at].eq_ignore_ascii_case(b"storedist");
        if stores {
            found = Some(at + 1);
        }
        at += 1 + usize::from(stores);
    }
    found
}

/// The keys of MIGRATE behind its KEYS, which may also be a password.
fn migrated(args: Args<'_>) -> Option<usize> {
    let mut at = 6;
    while at < args.len() {
        let is = |word: &str| args[at].eq_ignore_ascii_case(word.as_bytes());
        if is("keys") {
            return Some(at + 1);
        }
        at += if is("auth") {
            2
        } else if is("auth2") {
            3
        } else {
            1
        };
    }
    None
}

fn by_spec(k: &KeySpec, args: Args<'_>, out: &mut Places) -> Option<()> {
    let destination = match k.begin {
        Begin::Unknown if k.flags & keyflag::OW != 0 => sort_destination(args),
        Begin::Keyword("KEYS", _) => {
            let Some(first) = migrated(args).filter(|first| *first < args.len()) else { return Some(()) };
            // Not beside the key that stands alone.
            let alone = out.pop()?.index;
            out.extend((first..args.len()).map(|index| Place { index, flags: k.flags, step: 1 }));
            return args[alone].is_empty().then_some(());
        }
        // Redis names the keys after the first of either; the one that counts
        // is to be among them. The handler refuses a word without a key.
        Begin::Keyword("STORE", _) => {
            let _ = by_search(k, args, out);
            None
        }
        Begin::Keyword("STOREDIST", _) => {
            let _ = by_search(k, args, out);
            radius_destination(args).filter(|at| out.iter().all(|place| place.index != *at))
        }
        _ => return by_search(k, args, out),
    };
    out.extend(destination.map(|index| Place { index, flags: k.flags, step: 1 }));
    Some(())
}

fn by_search(k: &KeySpec, args: Args<'_>, out: &mut Places) -> Option<()> {
    let Some(begin) = begin(k, args) else { return Some(()) };
    let (first, last, step) = match k.find {
        Find::Range { last, step, limit } => {
            let n = args.len() as i64;
            let end = if last >= 0 {
                begin as i64 + i64::from(last)
            } else if limit > 1 {
                begin as i64 + (n - begin as i64) / limit as i64 + i64::from(last)
            } else {
                n + i64::from(last)
            };
            (begin, end, step)
        }
        Find::Count { count, first, step } => {
            let n = parse_i64(args.get(begin + count)?)?;
            let at = begin + first;
            if n < 0 || n as usize > args.len() {
                return None;
            }
            (at, at as i64 + (n - 1) * step as i64, step)
        }
        Find::Unknown => return Some(()),
    };
    let mut at = first;
    while (at as i64) <= last {
        if at >= args.len() {
            return None;
        }
        out.push(Place { index: at, flags: k.flags, step });
        at += step;
    }
    Some(())
}

fn begin(k: &KeySpec, args: Args<'_>) -> Option<usize> {
    match k.begin {
        Begin::Index(i) => Some(i),
        Begin::Keyword(word, from) if from >= 0 => {
            (from as usize..args.len()).find(|&i| args[i].eq_ignore_ascii_case(word.as_bytes())).map(|i| i + 1)
        }
        Begin::Keyword(word, from) => {
            let last = args.len().checked_sub(from.unsigned_abs() as usize)?;
            (1..=last).rev().find(|&i| args[i].eq_ignore_ascii_case(word.as_bytes())).map(|i| i + 1)
        }
        Begin::Unknown => None,
    }
}

/// First key, last key (negative: from the end) and step, as COMMAND summed
/// keys up before there were key specifications. Zeros when specifications
/// cannot be put that way: those by position count, and only while they adjoin.
pub fn first_last_step(spec: &Spec) -> (i64, i64, i64) {
    let range = |k: &KeySpec| match (k.begin, k.find) {
        (Begin::Index(i), Find::Range { last, step, .. }) => {
            let last = i64::from(last);
            Some((i as i64, if last >= 0 { i as i64 + last } else { last }, step as i64))
        }
        _ => None,
    };
    if let [one] = spec.keys {
        return range(one).unwrap_or((0, 0, 0));
    }
    let mut all: Option<(i64, i64)> = None;
    for (first, last, step) in spec.keys.iter().filter_map(range) {
        match all {
            _ if step != 1 => return (0, 0, 0),
            None => all = Some((first, last)),
            Some((begin, end)) if end == first - 1 => all = Some((begin, last)),
            Some(_) => return (0, 0, 0),
        }
    }
    all.map_or((0, 0, 0), |(first, last)| (first, last, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(k: &'static [KeySpec], line: &str) -> Option<Vec<usize>> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let spec = Spec { keys: k, ..Spec::DEFAULT };
        places(&spec, &args).map(|p| p.iter().map(|p| p.index).collect())
    }

    #[test]
    fn keys_are_found_by_range_count_and_keyword() {
        const MSET: &[KeySpec] = &[KeySpec::range(keyflag::OW, 1, -1, 2)];
        assert_eq!(indices(MSET, "mset a 1 b 2"), Some(vec![1, 3]));
        const COUNTED: &[KeySpec] = &[KeySpec::counted(keyflag::RO, 1)];
        assert_eq!(indices(COUNTED, "lmpop 2 a b left"), Some(vec![2, 3]));
        assert_eq!(indices(COUNTED, "lmpop 9 a b left"), None);
        assert_eq!(indices(COUNTED, "lmpop x a b left"), None);
        const STREAMS: &[KeySpec] = &[KeySpec {
            flags: keyflag::RO,
            begin: Begin::Keyword("STREAMS", 1),
            find: Find::Range { last: -1, step: 1, limit: 2 },
        }];
        assert_eq!(indices(STREAMS, "xread count 2 streams a b 0 0"), Some(vec![4, 5]));
        const SORT: &[KeySpec] =
            &[KeySpec::one(keyflag::RO, 1), KeySpec { flags: keyflag::OW, begin: Begin::Unknown, find: Find::Unknown }];
        assert_eq!(indices(SORT, "sort l get store store d by store limit 0 store store e"), Some(vec![1, 12]));
        assert_eq!(indices(SORT, "sort l store"), Some(vec![1]));
        const fn stored(keyword: &'static str) -> KeySpec {
            let find = Find::Range { last: 0, step: 1, limit: 0 };
            KeySpec { flags: keyflag::OW, begin: Begin::Keyword(keyword, 6), find }
        }
        const RADIUS: &[KeySpec] = &[KeySpec::one(keyflag::RO, 1), stored("STORE"), stored("STOREDIST")];
        assert_eq!(indices(RADIUS, "georadius g 1 2 3 km store a storedist b"), Some(vec![1, 7, 9]));
        assert_eq!(indices(RADIUS, "georadius g 1 2 3 km store a store b"), Some(vec![1, 7, 9]));
        assert_eq!(indices(RADIUS, "georadius g 1 2 3 km storedist"), Some(vec![1]));
        const MIGRATE: &[KeySpec] = &[
            KeySpec::one(keyflag::RW, 3),
            KeySpec {
                flags: keyflag::RW,
                begin: Begin::Keyword("KEYS", -2),
                find: Find::Range { last: -1, step: 1, limit: 0 },
            },
        ];
        assert_eq!(indices(MIGRATE, "migrate h 1 k 0 1 copy"), Some(vec![3]));
        assert_eq!(indices(MIGRATE, "migrate h 1  0 1 auth keys KEYS a b"), Some(vec![9, 10]));
        assert_eq!(indices(MIGRATE, "migrate h 1  0 1 auth2 keys keys"), Some(vec![3]));
        assert_eq!(indices(MIGRATE, "migrate h 1 k 0 1 keys a"), None);
        const BITOP: &[KeySpec] = &[KeySpec::one(keyflag::OW, 2), KeySpec::range(keyflag::RO, 3, -1, 1)];
        assert_eq!(indices(BITOP, "bitop and d a b"), Some(vec![2, 3, 4]));
    }
}
