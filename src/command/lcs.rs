//! LCS: the longest common subsequence of two strings.

use super::Done;
use super::cx::Cx;
use super::fault::{Fault, SYNTAX};
use super::parse::{int, is};
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use crate::base::Args;

pub const ROWS: &[Command] = &[Command {
    spec: Spec {
        name: "lcs",
        syntax: "key1#0 key2#0 [LEN] [IDX] [MINMATCHLEN min-match-len:int] [WITHMATCHLEN]",
        arity: -3,
        flags: flag::READONLY,
        keys: &[KeySpec::range(keyflag::RO | keyflag::ACCESS, 1, 1, 1)],
        group: Group::String,
        since: "7.0.0",
        complexity: "O(N*M) for strings of N and M bytes",
        summary: "Returns the longest common subsequence of two strings.",
        ..Spec::DEFAULT
    },
    run: lcs,
    across: Across::Gather,
}];

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: i64,
}

fn parse(words: Args) -> Result<Options, Fault> {
    let mut o = Options::default();
    let mut i = 0;
    while i < words.len() {
        if is(words[i], "len") {
            o.len = true;
        } else if is(words[i], "idx") {
            o.idx = true;
        } else if is(words[i], "withmatchlen") {
            o.with_match_len = true;
        } else if is(words[i], "minmatchlen") && i + 1 < words.len() {
            i += 1;
            o.min_match_len = int(words[i])?.max(0);
        } else {
            return Err(SYNTAX);
        }
        i += 1;
    }
    if o.idx && o.len {
        return Err(Fault::Text("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(o)
}

fn text(cx: &mut Cx, key: &[u8]) -> Result<Vec<u8>, Fault> {
    let key = cx.key(key);
    match cx.read(&key).map(|e| e.as_str().map(<[u8]>::to_vec)) {
        None => Ok(Vec::new()),
        Some(s) => s.ok_or(Fault::Text("ERR The specified keys must contain string values")),
    }
}

fn lcs(cx: &mut Cx, args: Args) -> Done {
    let (a, b) = (text(cx, args[1])?, text(cx, args[2])?);
    let o = parse(&args[3..])?;
    if a.len() >= u32::MAX as usize - 1 || b.len() >= u32::MAX as usize - 1 {
        return Err(Fault::Text("ERR String too long for LCS"));
    }
    let cells = (a.len() + 1).checked_mul(b.len() + 1);
    if cells.is_none_or(|n| n > cx.options.proto_max_bulk_len / 4) {
        let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        return Err(Fault::Text(text));
    }
    let table = Table::new(&a, &b);
    if o.len {
        cx.reply.int(i64::from(table.at(a.len(), b.len())));
    } else if o.idx {
        reply_matches(cx, &table, &o);
    } else {
        let common: Vec<u8> = table.matches().iter().rev().flat_map(|m| &a[m.a..m.a + m.len]).copied().collect();
        cx.reply.bulk(&common);
    }
    Ok(())
}

fn reply_matches(cx: &mut Cx, table: &Table, o: &Options) {
    let mut matches = table.matches();
    matches.retain(|m| m.len as i64 >= o.min_match_len);
    cx.reply.map(2);
    cx.reply.bulk(b"matches");
    cx.reply.array(matches.len());
    for m in matches {
        cx.reply.array(if o.with_match_len { 3 } else { 2 });
        for start in [m.a, m.b] {
            cx.reply.array(2);
            cx.reply.int(start as i64);
            cx.reply.int((start + m.len - 1) as i64);
        }
        if o.with_match_len {
            cx.reply.int(m.len as i64);
        }
    }
    cx.reply.bulk(b"len");
    cx.reply.int(i64::from(table.at(table.a.len(), table.b.len())));
}

/// A stretch that both strings have: its start in each, and its length.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

/// Lengths of the longest common subsequences of all pairs of prefixes.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    lengths: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8]) -> Table<'a> {
        let width = b.len() + 1;
        let mut lengths = vec![0u32; (a.len() + 1) * width];
        for (i, x) in a.iter().enumerate() {
            let (above, row) = lengths[i * width..(i + 2) * width].split_at_mut(width);
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Table { a, b, lengths }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * (self.b.len() + 1) + j]
    }

    /// The stretches of one longest common subsequence, last one first. Where
    /// two ways are equally long, the second string is walked back first.
    fn matches(&self) -> Vec<Match> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut found: Vec<Match> = Vec::new();
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                match found.last_mut().filter(|m| m.a == i && m.b == j) {
                    Some(m) => *m = Match { a: i - 1, b: j - 1, len: m.len + 1 },
                    None => found.push(Match { a: i - 1, b: j - 1, len: 1 }),
                }
                i -= 1;
                j -= 1;
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;
    use crate::resp::reply::Proto;

    fn bench() -> Bench {
        let mut b = Bench::default();
        b.run("mset a ohmytext b mynewtext");
        b
    }

    #[test]
    fn lcs_as_text_length_and_places() {
        let mut b = bench();
        assert_eq!(b.run("lcs a b"), "$6 mytext");
        assert_eq!(b.run("lcs a b len"), ":6");
        assert_eq!(b.run("lcs a none"), "$0");
        let all = "*2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6";
        assert_eq!(b.run("lcs a b idx"), format!("*4 $7 matches {all}"));
        let long = "*1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6";
        assert_eq!(b.run("lcs a b idx minmatchlen 4 withmatchlen"), format!("*4 $7 matches {long}"));
        b.proto = Proto::Resp3;
        assert_eq!(b.run("LCS a b IDX"), format!("%2 $7 matches {all}"));
    }

    #[test]
    fn errors_of_lcs() {
        let mut b = bench();
        assert_eq!(b.run("lcs a b foo"), "-ERR syntax error");
        assert_eq!(b.run("lcs a b minmatchlen"), "-ERR syntax error");
        assert_eq!(b.run("lcs a b minmatchlen x"), "-ERR value is not an integer or out of range");
        let both = "-ERR If you want both the length and indexes, please just use IDX.";
        assert_eq!(b.run("lcs a b idx len"), both);
        b.options.proto_max_bulk_len = 100;
        let memory = "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        assert_eq!(b.run("lcs a b"), memory);
    }
}
