//! Walking over encoded replies, for merging those of several cores.

use crate::base::num::parse_i64;

/// The first line of a value: its type byte, its text, and where it ends.
pub fn line(buf: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let kind = *buf.get(at)?;
    let len = memchr::memchr(b'\r', &buf[at + 1..])?;
    let end = at + 1 + len;
    (buf.get(end + 1) == Some(&b'\n')).then(|| (kind, &buf[at + 1..end], end + 2))
}

/// Length in bytes of the first complete value of `buf`; `None` when it is cut
/// short or no valid reply.
pub fn skip(buf: &[u8]) -> Option<usize> {
    let mut pending = 1usize;
    let mut at = 0;
    while pending > 0 {
        let (kind, text, next) = line(buf, at)?;
        pending -= 1;
        at = next;
        let len = match kind {
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => parse_i64(text)?.max(0) as usize,
            _ => continue,
        };
        match kind {
            b'$' | b'=' | b'!' if text != b"-1" => at = next.checked_add(len)?.checked_add(2)?,
            b'*' | b'~' | b'>' => pending = pending.checked_add(len)?,
            b'%' | b'|' => pending = pending.checked_add(len.checked_mul(2)?)?,
            _ => {}
        }
        if at > buf.len() {
            return None;
        }
    }
    Some(at)
}

/// The value of an encoded integer reply.
pub fn integer(buf: &[u8]) -> Option<i64> {
    match line(buf, 0)? {
        (b':', text, _) => parse_i64(text),
        _ => None,
    }
}

/// The bytes of an encoded bulk string.
pub fn bulk(buf: &[u8]) -> Option<&[u8]> {
    match line(buf, 0)? {
        (b'$', text, next) => buf.get(next..next.checked_add(usize::try_from(parse_i64(text)?).ok()?)?),
        _ => None,
    }
}

/// The elements of an encoded array: their number and their bytes.
pub fn elements(buf: &[u8]) -> Option<(usize, &[u8])> {
    match line(buf, 0)? {
        (b'*' | b'~', text, next) => Some((usize::try_from(parse_i64(text)?).ok()?, &buf[next..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_walked_whole() {
        for v in [
            "+OK\r\n",
            ":12\r\n",
            "$3\r\nabc\r\n",
            "$-1\r\n",
            "*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
            "%1\r\n+a\r\n_\r\n",
            "*-1\r\n",
        ] {
            let more = format!("{v}+tail\r\n");
            assert_eq!(skip(more.as_bytes()), Some(v.len()), "{v:?}");
            for cut in 0..v.len() {
                assert_eq!(skip(&v.as_bytes()[..cut]), None, "{v:?} cut at {cut}");
            }
        }
        assert_eq!(integer(b":-5\r\n"), Some(-5));
        assert_eq!(bulk(b"$3\r\nabc\r\n"), Some(&b"abc"[..]));
        assert_eq!(bulk(b"$-1\r\n"), None);
        assert_eq!(elements(b"*2\r\n:1\r\n:2\r\n"), Some((2, &b":1\r\n:2\r\n"[..])));
    }
}
