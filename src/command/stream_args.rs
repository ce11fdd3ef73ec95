//! Arguments that commands over streams share: identifiers, intervals, and
//! the trimming options of XADD and XTRIM.

use super::fault::SYNTAX;
use super::parse::{int, is};
use super::{Cx, Fault};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::resp::Reply;
use crate::store::stream::Trim;
use crate::store::stream::id::StreamId;
use crate::store::stream::node::Row;

use super::collect::element;

const INVALID_ID: Fault = Fault::Text("ERR Invalid stream ID specified as stream command argument");

/// Longest identifier that is looked at.
const ID_MAX: usize = 127;

/// A part of an identifier, as `strtoull` takes what is not plain digits:
/// blanks and a sign in front are allowed, and a sign may wrap around.
fn part(text: &[u8]) -> Option<u64> {
    if let Some(n) = parse_i64(text) {
        return u64::try_from(n).ok();
    }
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))?;
    Some(if negative { n.wrapping_neg() } else { n })
}

/// Milliseconds, and the sequence number's text if there is one.
fn parts(arg: &[u8]) -> Result<(u64, Option<&[u8]>), Fault> {
    if arg.len() > ID_MAX {
        return Err(INVALID_ID);
    }
    let text = &arg[..memchr::memchr(0, arg).unwrap_or(arg.len())];
    let (ms, seq) = match memchr::memchr(b'-', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    Ok((part(ms).ok_or(INVALID_ID)?, seq))
}

/// An identifier in digits; `missing_seq` stands for a sequence number that is
/// not given.
pub fn id(arg: &[u8], missing_seq: u64) -> Result<StreamId, Fault> {
    let (ms, seq) = parts(arg)?;
    let seq = seq.map_or(Ok(missing_seq), |s| part(s).ok_or(INVALID_ID))?;
    Ok(StreamId { ms, seq })
}

/// The same, or `-` or `+` for the first and last possible one.
pub fn id_or_end(arg: &[u8], missing_seq: u64) -> Result<StreamId, Fault> {
    match arg {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => id(arg, missing_seq),
    }
}

/// The lower end of an interval; `(` in front excludes the identifier.
pub fn interval_start(arg: &[u8]) -> Result<StreamId, Fault> {
    match arg {
        [b'(', rest @ ..] if !rest.is_empty() => {
            id(rest, 0)?.next().ok_or(Fault::Text("ERR invalid start ID for the interval"))
        }
        _ => id_or_end(arg, 0),
    }
}

/// The upper end of an interval.
pub fn interval_end(arg: &[u8]) -> Result<StreamId, Fault> {
    match arg {
        [b'(', rest @ ..] if !rest.is_empty() => {
            id(rest, u64::MAX)?.prev().ok_or(Fault::Text("ERR invalid end ID for the interval"))
        }
        _ => id_or_end(arg, u64::MAX),
    }
}

/// The identifier that XADD is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    Auto,
    /// The sequence number is chosen (`5-*`).
    AutoSeq(u64),
    Given(StreamId),
}

impl NewId {
    fn parse(arg: &[u8]) -> Result<NewId, Fault> {
        let (ms, seq) = parts(arg)?;
        match seq {
            Some(b"*") => Ok(NewId::AutoSeq(ms)),
            _ => id(arg, 0).map(NewId::Given),
        }
    }
}

/// Options of XADD and XTRIM, and where among the arguments they stand.
#[derive(Debug)]
pub struct Trimming {
    pub trim: Option<Trim>,
    pub approximate: bool,
    pub limit: u64,
    pub make: bool,
    pub id: Option<NewId>,
    /// Place of the identifier (of XADD), or the number of arguments.
    pub end: usize,
    approximate_at: usize,
    trim_at: usize,
    limit_at: usize,
}

impl Trimming {
    fn trim_option(&mut self, args: Args, mut at: usize, by_id: bool) -> Result<usize, Fault> {
        if self.trim.is_some() {
            let text = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
            return Err(Fault::Text(text));
        }
        self.approximate = false;
        if at + 1 < args.len() && matches!(args[at], b"~" | b"=") {
            self.approximate = args[at] == b"~";
            self.approximate_at = at;
            at += 1;
        }
        self.trim_at = at;
        self.trim = Some(if by_id {
            Trim::MinId(id(args[at], 0)?)
        } else {
            let n = u64::try_from(int(args[at])?).map_err(|_| Fault::Text("ERR The MAXLEN argument must be >= 0."))?;
            Trim::MaxLen(n)
        });
        Ok(at + 1)
    }

    pub fn parse(cx: &Cx, args: Args, add: bool) -> Result<Trimming, Fault> {
        let mut t = Trimming {
            trim: None,
            approximate: false,
            limit: 0,
            make: true,
            id: None,
            end: args.len(),
            approximate_at: 0,
            trim_at: 0,
            limit_at: 0,
        };
        let mut at = 2;
        while at < args.len() {
            let (word, more) = (args[at], at + 1 < args.len());
            if add && word == b"*" {
                (t.id, t.end) = (Some(NewId::Auto), at);
                break;
            } else if more && (is(word, "maxlen") || is(word, "minid")) {
                at = t.trim_option(args, at + 1, is(word, "minid"))?;
            } else if more && is(word, "limit") {
                t.limit = u64::try_from(int(args[at + 1])?)
                    .map_err(|_| Fault::Text("ERR The LIMIT argument must be >= 0."))?;
                t.limit_at = at;
                at += 2;
            } else if add && is(word, "nomkstream") {
                t.make = false;
                at += 1;
            } else if add {
                (t.id, t.end) = (Some(NewId::parse(word)?), at);
                break;
            } else {
                return Err(SYNTAX);
            }
        }
        t.check(cx, add)?;
        Ok(t)
    }

    fn check(&mut self, cx: &Cx, add: bool) -> Result<(), Fault> {
        if self.limit > 0 && self.trim.is_none() {
            let text = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
            return Err(Fault::Text(text));
        }
        if !add && self.trim.is_none() {
            return Err(Fault::Text("ERR syntax error, XTRIM must be called with a trimming strategy"));
        }
        if cx.is_applied() {
            // What an approximate trimming came to stands there as an exact
            // one; Redis leaves its LIMIT behind it.
            self.limit = 0;
        } else if self.limit_at > 0 {
            if !self.approximate {
                return Err(Fault::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
            }
        } else if self.approximate {
            // Nobody asked for a limit, but one trimming must not take long.
            self.limit = match cx.options.stream_node_max_entries.saturating_mul(100) {
                0 => 10_000,
                n => n.min(1_000_000),
            };
        }
        Ok(())
    }

    /// The arguments for the stream of effects: with the identifier that was
    /// given, and with what an approximate trimming came to.
    pub fn exact<'a>(&self, args: Args<'a>, new_id: Option<&'a [u8]>, bound: &'a [u8]) -> Vec<&'a [u8]> {
        let mut out: Vec<&[u8]> = Vec::with_capacity(args.len());
        for (i, arg) in args.iter().enumerate() {
            let in_limit = self.limit_at > 0 && (i == self.limit_at || i == self.limit_at + 1);
            if in_limit {
                continue;
            }
            out.push(match new_id {
                Some(id) if i == self.end => id,
                _ if self.approximate && i == self.approximate_at => b"=",
                _ if self.approximate && i == self.trim_at => bound,
                _ => arg,
            });
        }
        out
    }
}

pub fn reply_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(id.text().as_bytes());
}

/// An entry: its identifier, and an array of fields and values by turns.
pub fn reply_row(reply: &mut Reply, row: &Row) {
    reply.array(2);
    reply_id(reply, row.id);
    reply.array(2 * row.len());
    for (field, value) in row.pairs() {
        element(reply, field);
        element(reply, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_as_redis_does() {
        let ok = |s: &str| id(s.as_bytes(), 9).ok().map(|i| (i.ms, i.seq));
        assert_eq!(ok("5"), Some((5, 9)));
        assert_eq!(ok("5-0"), Some((5, 0)));
        assert_eq!(ok("18446744073709551615-18446744073709551615"), Some((u64::MAX, u64::MAX)));
        assert_eq!(ok("18446744073709551616"), None);
        assert_eq!(ok("+5-007"), Some((5, 7)));
        assert_eq!(ok(" 5-1"), Some((5, 1)));
        assert_eq!(ok("5--3"), None);
        assert_eq!(ok("5--03"), Some((5, u64::MAX - 2)));
        assert_eq!(ok("5-0\0x"), Some((5, 0)));
        for bad in ["", "-", "+", "a", "5-", "5-a", "5-1-1", "5 ", "(5"] {
            assert_eq!(ok(bad), None, "{bad}");
        }
        assert_eq!(id(&[b'1'; 128], 0), Err(INVALID_ID));
    }
}
