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

fn by_spec(k: &KeySpec, args: Args<'_>, out: &mut Places) -> Option<()> {
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
        const BITOP: &[KeySpec] = &[KeySpec::one(keyflag::OW, 2), KeySpec::range(keyflag::RO, 3, -1, 1)];
        assert_eq!(indices(BITOP, "bitop and d a b"), Some(vec![2, 3, 4]));
    }
}
