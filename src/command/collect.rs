//! What the families of collections share: key specifications, arguments,
//! elements in replies, SCAN's options.

use super::cx::Options;
use super::fault::{OUT_OF_RANGE, SYNTAX, WRONG_TYPE};
use super::parse::{int, is};
use super::spec::{KeySpec, keyflag};
use super::{Cx, Fault};
use crate::base::Args;
use crate::base::glob;
use crate::base::num::parse_i64;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::store::listpack::Item;
use crate::store::object::{Collection, Object};
use crate::store::scan::{cursor_of, position_of};

/// Specifications of the usual keys.
pub mod keyspec {
    use super::{KeySpec, keyflag};
    use keyflag::{ACCESS, DELETE, INSERT, OW, RO, RW, UPDATE};

    pub const META: &[KeySpec] = &[KeySpec::one(RO, 1)];
    pub const READ: &[KeySpec] = &[KeySpec::one(RO | ACCESS, 1)];
    pub const INSERTED: &[KeySpec] = &[KeySpec::one(RW | INSERT, 1)];
    pub const UPDATED: &[KeySpec] = &[KeySpec::one(RW | UPDATE, 1)];
    pub const CHANGED: &[KeySpec] = &[KeySpec::one(RW | ACCESS | UPDATE, 1)];
    pub const DELETED: &[KeySpec] = &[KeySpec::one(RW | DELETE, 1)];
    pub const POPPED: &[KeySpec] = &[KeySpec::one(RW | ACCESS | DELETE, 1)];
    pub const MOVED: &[KeySpec] = &[KeySpec::one(RW | ACCESS | DELETE, 1), KeySpec::one(RW | INSERT, 2)];
    pub const POPPED_COUNTED: &[KeySpec] = &[KeySpec::counted(RW | ACCESS | DELETE, 1)];
    pub const READ_COUNTED: &[KeySpec] = &[KeySpec::counted(RO | ACCESS, 1)];
    pub const READ_ALL: &[KeySpec] = &[KeySpec::range(RO | ACCESS, 1, -1, 1)];
    pub const STORED: &[KeySpec] = &[KeySpec::one(OW | UPDATE, 1), KeySpec::range(RO | ACCESS, 2, -1, 1)];
    pub const STORED_RW: &[KeySpec] = &[KeySpec::one(RW | UPDATE, 1), KeySpec::range(RO | ACCESS, 2, -1, 1)];
    pub const STORED_ONE: &[KeySpec] = &[KeySpec::one(OW | UPDATE, 1), KeySpec::one(RO | ACCESS, 2)];
    pub const STORED_COUNTED: &[KeySpec] = &[KeySpec::one(OW | UPDATE, 1), KeySpec::counted(RO | ACCESS, 2)];
}

/// `value is out of range, value must between ...`: the text of a count whose
/// sign could not be turned.
pub const NOT_NEGATABLE: Fault =
    Fault::Text("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");

/// More random elements than this are not given in one reply, unless a limit
/// for output ends it.
const RANDOM_MAX: i64 = 1 << 27;

/// An integer of at least `min`; anything else is `fault`.
pub fn at_least(arg: &[u8], min: i64, fault: Fault) -> Result<usize, Fault> {
    match parse_i64(arg) {
        Some(n) if n >= min => Ok(n as usize),
        _ => Err(fault),
    }
}

/// An integer whose negative is one too.
pub fn signed_count(arg: &[u8]) -> Result<i64, Fault> {
    let n = int(arg)?;
    if n == i64::MIN { Err(NOT_NEGATABLE) } else { Ok(n) }
}

/// The count of SRANDMEMBER, HRANDFIELD and ZRANDMEMBER.
pub fn random_count(arg: &[u8], paired: bool, cx: &Cx) -> Result<i64, Fault> {
    let n = signed_count(arg)?;
    let half = i64::MAX / 2;
    let endless = n < -RANDOM_MAX && reply_limit(&cx.reply, cx.options) == 0;
    if (paired && !(-half..=half).contains(&n)) || endless { Err(OUT_OF_RANGE) } else { Ok(n) }
}

/// Is the reply so long that the client is closed for it? Then the rest of it
/// need not be made.
#[inline]
pub fn too_long(reply: &Reply, options: &Options) -> bool {
    let limit = reply_limit(reply, options);
    limit != 0 && reply.out.len() > limit
}

#[inline]
fn reply_limit(reply: &Reply, options: &Options) -> usize {
    options.reply_bytes_max[usize::from(reply.proto == Proto::Resp3)]
}

/// The keys behind their number at `args[at]`, and the arguments after them.
pub fn counted<'a>(args: Args<'a>, at: usize) -> Result<(Args<'a>, Args<'a>), Fault> {
    const FAULT: Fault = Fault::Text("ERR numkeys should be greater than 0");
    let n = at_least(args[at], 1, FAULT)?;
    let rest = &args[at + 1..];
    rest.split_at_checked(n).ok_or(SYNTAX)
}

/// First index and number of elements of `start .. stop` of LRANGE, ZRANGE
/// and the like, both counted from the end when negative.
pub fn span(start: i64, stop: i64, len: usize) -> Option<(usize, usize)> {
    let n = len as i64;
    let absolute = |i: i64| if i < 0 { n.saturating_add(i) } else { i };
    let first = absolute(start).max(0);
    let last = absolute(stop).min(n - 1);
    (first <= last && first < n).then(|| (first as usize, (last - first + 1) as usize))
}

/// An element as a bulk string.
#[inline]
pub fn element(reply: &mut Reply, item: Item) {
    match item {
        Item::Str(s) => reply.bulk(s),
        Item::Int(v) => reply.bulk_int(v),
    }
}

/// Options of SSCAN, HSCAN and ZSCAN.
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    pub count: usize,
    /// Only the first half of each pair is wanted.
    pub bare: bool,
}

impl<'a> ScanOptions<'a> {
    /// From the arguments behind the cursor; `bare` is the command's word for that
    /// option, if it has one.
    pub fn parse(mut args: Args<'a>, bare: Option<&str>) -> Result<ScanOptions<'a>, Fault> {
        let mut o = ScanOptions { pattern: None, count: 10, bare: false };
        while let [word, rest @ ..] = args {
            args = match rest {
                [pattern, rest @ ..] if word.eq_ignore_ascii_case(b"match") => {
                    o.pattern = Some(*pattern).filter(|p| *p != b"*");
                    rest
                }
                [n, rest @ ..] if word.eq_ignore_ascii_case(b"count") => {
                    o.count = usize::try_from(int(n)?).ok().filter(|&n| n > 0).ok_or(SYNTAX)?;
                    rest
                }
                _ if bare.is_some_and(|b| is(word, b)) => {
                    o.bare = true;
                    rest
                }
                _ => return Err(SYNTAX),
            };
        }
        Ok(o)
    }

    pub fn accepts(&self, item: &Item) -> bool {
        self.pattern.is_none_or(|p| item.with(|s| glob::matches(p, s, false)))
    }
}

/// A cursor as C's `strtoul` reads it: leading zeros and a sign may stand
/// before the digits, and nothing at all is 0.
fn parse_cursor(text: &[u8]) -> Result<u64, Fault> {
    const INVALID: Fault = Fault::Text("ERR invalid cursor");
    let (negative, digits) = match text {
        [b'-', d @ ..] => (true, d),
        [b'+', d @ ..] => (false, d),
        _ => (false, text),
    };
    if digits.is_empty() {
        return if text.is_empty() { Ok(0) } else { Err(INVALID) };
    }
    let mut v = 0u64;
    for d in digits {
        let d = d.wrapping_sub(b'0');
        let next = v.checked_mul(10).and_then(|v| v.checked_add(u64::from(d)));
        v = next.filter(|_| d < 10).ok_or(INVALID)?;
    }
    Ok(if negative { v.wrapping_neg() } else { v })
}

/// The position that a scan's cursor stands for.
pub fn cursor(arg: &[u8]) -> Result<u64, Fault> {
    parse_cursor(arg).map(position_of)
}

/// The head of a scan's reply: the cursor of the next position, and how many
/// elements follow.
pub fn scan_head(reply: &mut Reply, next: u64, elements: usize) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor_of(next)).as_bytes());
    reply.array(elements);
}

/// Looks all keys up for reading; faults if one holds another type.
pub fn look_up_all<C: Collection>(cx: &mut Cx, keys: Args) -> Result<(), Fault> {
    keys.iter().try_for_each(|k| {
        let key = cx.key(k);
        cx.read_collection::<C>(&key).map(|_| ())
    })
}

/// Puts a result under a key, or deletes the key when there is none.
/// The number of elements is the reply.
pub fn store_result(cx: &mut Cx, key: &[u8], result: Object, class: super::effect::Class, event: &'static str) {
    let key = cx.key(key);
    let n = result.len();
    if n > 0 {
        let fresh = cx.find(&key).is_none();
        cx.set_object(&key, result, None);
        cx.fx.verbatim(1);
        if fresh {
            cx.event(super::effect::Class::New, "new", key.bytes);
        }
        cx.event(class, event, key.bytes);
    } else if cx.delete(&key) {
        cx.fx.verbatim(1);
        cx.event(super::effect::Class::Generic, "del", key.bytes);
    }
    cx.reply.int(n as i64);
}

/// Wrong type, unless the entry is absent or holds a `C`.
pub fn check_type<C: Collection>(cx: &mut Cx, key: &[u8]) -> Result<bool, Fault> {
    let key = cx.key(key);
    match cx.find(&key) {
        None => Ok(false),
        Some(e) => e.as_object().and_then(C::of).map(|_| true).ok_or(WRONG_TYPE),
    }
}

/// Indices of `k` of `n` elements, each set of them as likely as any other,
/// in random order.
pub fn sample(n: usize, k: usize, rng: &mut crate::base::rng::Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..k {
        all.swap(i, i + rng.below(n - i));
    }
    all.truncate(k);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_clamped() {
        assert_eq!(span(0, -1, 3), Some((0, 3)));
        assert_eq!(span(-2, 100, 3), Some((1, 2)));
        assert_eq!(span(-100, 0, 3), Some((0, 1)));
        assert_eq!(span(i64::MIN, i64::MAX, 3), Some((0, 3)));
        assert_eq!(span(2, 1, 3), None);
        assert_eq!(span(3, 5, 3), None);
        assert_eq!(span(0, i64::MIN, 3), None);
        assert_eq!(span(0, -1, 0), None);
    }
}
