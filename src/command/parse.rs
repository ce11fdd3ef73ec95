//! Reading of arguments that commands of several families share.

use super::fault::{DB_OUT_OF_RANGE, Fault, NOT_AN_INTEGER};
use crate::base::clock::UnixMs;
use crate::base::num::parse_i64;

/// Is `arg` this option word, in whatever case?
#[inline]
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

#[inline]
pub fn int(arg: &[u8]) -> Result<i64, Fault> {
    parse_i64(arg).ok_or(NOT_AN_INTEGER)
}

/// Milliseconds from `now` on, 0 for ever; the sum must be a time, too.
pub fn timeout_ms(arg: &[u8], now: UnixMs) -> Result<u64, Fault> {
    let ms = parse_i64(arg).ok_or(Fault::Text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Fault::Text("ERR timeout is negative"))?;
    let until = now.checked_add(ms).filter(|until| i64::try_from(*until).is_ok());
    if until.is_some() { Ok(ms) } else { Err(Fault::Text("ERR timeout is out of range")) }
}

/// The number of an existing database.
pub fn db_index(arg: &[u8], databases: usize) -> Result<usize, Fault> {
    let n = int(arg)?;
    if i32::try_from(n).is_err() {
        let (min, max) = (i32::MIN, i32::MAX);
        return Err(Fault::from(format!("ERR value is out of range, value must between {min} and {max}")));
    }
    usize::try_from(n).ok().filter(|&n| n < databases).ok_or(DB_OUT_OF_RANGE)
}

/// A range of positions, both ends included and negative ones counted from
/// the end, as positions within `len` elements; `None` when it is empty.
pub fn clamp_range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    clamp_loosely(start, end, len)
}

/// The same, except that ends before the first element count as the first
/// even when they are the wrong way round (BITPOS).
pub fn clamp_loosely(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let n = len as i64;
    let from_end = |i: i64| if i < 0 { (n + i).max(0) } else { i };
    let (start, end) = (from_end(start), from_end(end).min(n - 1));
    (start <= end).then_some((start as usize, end as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped() {
        assert_eq!(clamp_range(0, -1, 3), Some((0, 2)));
        assert_eq!(clamp_range(-2, 100, 3), Some((1, 2)));
        assert_eq!(clamp_range(-100, 0, 3), Some((0, 0)));
        assert_eq!(clamp_range(-3, -5, 2), None);
        assert_eq!(clamp_range(3, 5, 3), None);
        assert_eq!(clamp_range(0, -1, 0), None);
        assert_eq!(clamp_range(i64::MIN, i64::MAX, 1), Some((0, 0)));
    }
}
