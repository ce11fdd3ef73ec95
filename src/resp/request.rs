//! Requests from bytes.
//!
//! Invariants: a parser never reads past its input; input that is complete is
//! parsed in place, without copies; input that is not is taken up again where
//! it stopped, so that the work is linear in the bytes received, however they
//! are split.

use crate::base::num::parse_i64;

/// What a connection may send; limits as in Redis.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub bulk_max: usize,
    /// Whether the connection still has to authenticate.
    pub unauthenticated: bool,
}

const INLINE_MAX: usize = 64 * 1024;
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16_384;

/// A violation of the protocol; the text after `ERR Protocol error: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    MultibulkLength,
    UnauthenticatedMultibulkLength,
    BulkLength,
    UnauthenticatedBulkLength,
    ExpectedDollar(u8),
    BigInline,
    BigMultibulkCount,
    BigBulkCount,
    UnbalancedQuotes,
}

impl Malformed {
    pub fn text(self) -> Vec<u8> {
        let fixed = match self {
            Malformed::MultibulkLength => "invalid multibulk length",
            Malformed::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Malformed::BulkLength => "invalid bulk length",
            Malformed::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Malformed::BigInline => "too big inline request",
            Malformed::BigMultibulkCount => "too big mbulk count string",
            Malformed::BigBulkCount => "too big bulk count string",
            Malformed::UnbalancedQuotes => "unbalanced quotes in request",
            Malformed::ExpectedDollar(got) => {
                let mut t = b"expected '$', got '".to_vec();
                t.push(got);
                t.push(b'\'');
                return t;
            }
        };
        fixed.as_bytes().to_vec()
    }
}

/// Outcome of one attempt to read a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A request of that many bytes; its arguments were appended. There may be
    /// none (an empty line or `*0`).
    Request(usize),
    /// An inline request of that many bytes; words in [`Resume::words`].
    Inline(usize),
    /// The input ends within a request.
    Partial,
    Malformed(Malformed),
}

/// Where parsing of an incomplete request stopped, in offsets from its start.
#[derive(Debug, Default)]
pub struct Resume {
    args_left: i64,
    ranges: Vec<(usize, usize)>,
    next: usize,
    /// Length of the argument at `next`, when its header has been read.
    bulk: Option<usize>,
    started: bool,
    /// Words of the last inline request.
    pub words: Vec<Vec<u8>>,
}

impl Resume {
    pub fn reset(&mut self) {
        self.started = false;
        self.bulk = None;
        self.ranges.clear();
        if self.ranges.capacity() > 64 {
            self.ranges = Vec::new();
        }
    }

    /// Is nothing known of the next request?
    #[inline]
    pub fn is_fresh(&self) -> bool {
        !self.started
    }

    /// Bytes from the request's start up to the end of the argument being
    /// received, when its length is known: what the buffer will have to hold.
    pub fn needed(&self) -> Option<usize> {
        self.started.then_some(self.bulk?).map(|len| self.next + len + 2)
    }

    /// Bytes of the incomplete request that have been understood: all that
    /// stands before the argument being received.
    pub fn understood(&self) -> usize {
        if self.started { self.next } else { 0 }
    }
}

/// One line `<kind><number>\r\n` at `at`: the number and the position after it.
enum Line {
    Number(i64, usize),
    Invalid,
    Partial,
}

#[inline]
fn number_line(buf: &[u8], at: usize) -> Line {
    match short_number(buf, at) {
        Some((n, next)) => Line::Number(n, next),
        None => slow_number_line(buf, at),
    }
}

/// The number from 1 to 99 whose line begins at `at`, and the position after the
/// line. Lengths are such nearly always: no search for the CR then.
#[inline]
pub fn short_number(buf: &[u8], at: usize) -> Option<(i64, usize)> {
    let w = buf.get(at..at + 4)?;
    let d = w[0].wrapping_sub(b'0');
    if (1..=9).contains(&d) {
        if w[1] == b'\r' && w[2] == b'\n' {
            return Some((i64::from(d), at + 3));
        }
        let e = w[1].wrapping_sub(b'0');
        if e <= 9 && w[2] == b'\r' && w[3] == b'\n' {
            return Some((i64::from(d) * 10 + i64::from(e), at + 4));
        }
    }
    None
}

#[cold]
fn slow_number_line(buf: &[u8], at: usize) -> Line {
    let Some(len) = buf.get(at..).and_then(|rest| memchr::memchr(b'\r', rest)) else { return Line::Partial };
    if at + len + 1 >= buf.len() {
        return Line::Partial;
    }
    match parse_i64(&buf[at..at + len]) {
        Some(n) => Line::Number(n, at + len + 2),
        None => Line::Invalid,
    }
}

/// Reads one request from the start of `buf`, appending its arguments to
/// `args`. `resume` carries an incomplete request from call to call: the same
/// `buf` with more bytes at its end.
#[inline]
pub fn read<'a>(buf: &'a [u8], limits: &Limits, resume: &mut Resume, args: &mut Vec<&'a [u8]>) -> Step {
    if !resume.started && buf.first() == Some(&b'*') && !limits.unauthenticated {
        let mark = args.len();
        if let Some(n) = read_whole(buf, limits, args) {
            return Step::Request(n);
        }
        args.truncate(mark);
    }
    read_slow(buf, limits, resume, args)
}

/// The second argument of the request at the start of `buf`, where keys mostly
/// stand; a guess for prefetching, made without looking at the command.
#[inline]
pub fn likely_key(buf: &[u8]) -> Option<&[u8]> {
    let Line::Number(2.., at) = number_line(buf, 1) else { return None };
    let Line::Number(len @ 1..64, name) = number_line(buf, at + 1) else { return None };
    let Line::Number(len @ 1..=1024, key) = number_line(buf, name + len as usize + 3) else { return None };
    buf.get(key..key + len as usize)
}

/// Requests with more arguments are not read on the fast path, which would start
/// anew whenever more of them comes.
const WHOLE_ARGS_MAX: i64 = 1024;

/// The fast path: a complete, well-formed request, or `None`.
#[inline]
fn read_whole<'a>(buf: &'a [u8], limits: &Limits, args: &mut Vec<&'a [u8]>) -> Option<usize> {
    let Line::Number(count, at) = number_line(buf, 1) else { return None };
    if !(1..=WHOLE_ARGS_MAX).contains(&count) {
        return None;
    }
    read_arguments(buf, at, count, limits, args)
}

/// So many complete arguments from `at` on; the position after them.
#[inline]
fn read_arguments<'a>(
    buf: &'a [u8],
    mut at: usize,
    count: i64,
    limits: &Limits,
    args: &mut Vec<&'a [u8]>,
) -> Option<usize> {
    for _ in 0..count {
        if *buf.get(at)? != b'$' {
            return None;
        }
        let Line::Number(len, start) = number_line(buf, at + 1) else { return None };
        if len < 0 || len as usize > limits.bulk_max {
            return None;
        }
        let end = start + len as usize;
        if end + 2 > buf.len() {
            return None;
        }
        args.push(&buf[start..end]);
        at = end + 2;
    }
    Some(at)
}

/// Bytes of a request that are compared at once.
const HEAD: usize = 16;

/// How a request begins: its number of arguments, and the first of them, the
/// command's name. Pipelines mostly repeat it; then it is compared in one step
/// instead of being read again.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: u128,
    mask: u128,
    /// Arguments, and where the first of them stands.
    count: i64,
    name: (usize, usize),
}

impl Head {
    /// The head of a whole request that stands at the start of `buf`, if it is
    /// short; `args` are its arguments.
    pub fn of(buf: &[u8], args: &[&[u8]]) -> Option<Head> {
        let name = args.first()?;
        let from = name.as_ptr().addr().checked_sub(buf.as_ptr().addr())?;
        let end = from + name.len() + 2;
        if buf.first() != Some(&b'*') || end > HEAD || args.len() > WHOLE_ARGS_MAX as usize {
            return None;
        }
        let mask = u128::MAX >> (8 * (HEAD - end));
        let bytes = u128::from_le_bytes(*buf.first_chunk()?) & mask;
        Some(Head { bytes, mask, count: args.len() as i64, name: (from, from + name.len()) })
    }

    /// Reads a whole request with this head from the start of `buf`, as [`read`]
    /// does; `None` when there is none.
    #[inline]
    pub fn read<'a>(&self, buf: &'a [u8], limits: &Limits, args: &mut Vec<&'a [u8]>) -> Option<usize> {
        let bytes = u128::from_le_bytes(*buf.first_chunk()?);
        if bytes & self.mask != self.bytes {
            return None;
        }
        let mark = args.len();
        args.push(&buf[self.name.0..self.name.1]);
        let end = read_arguments(buf, self.name.1 + 2, self.count - 1, limits, args);
        if end.is_none() {
            args.truncate(mark);
        }
        end
    }
}

fn read_slow<'a>(buf: &'a [u8], limits: &Limits, r: &mut Resume, args: &mut Vec<&'a [u8]>) -> Step {
    if !r.started {
        match buf.first() {
            None => return Step::Partial,
            Some(b'*') => {}
            Some(_) => return read_inline(buf, r),
        }
        match begin(buf, limits, r) {
            Ok(()) => {}
            Err(step) => return step,
        }
    }
    while r.args_left > 0 {
        if let Err(step) = read_argument(buf, limits, r) {
            return step;
        }
    }
    args.extend(r.ranges.iter().map(|&(a, b)| &buf[a..b]));
    let used = r.next;
    r.reset();
    Step::Request(used)
}

fn begin(buf: &[u8], limits: &Limits, r: &mut Resume) -> Result<(), Step> {
    match number_line(buf, 1) {
        Line::Partial if buf.len() > INLINE_MAX => Err(Step::Malformed(Malformed::BigMultibulkCount)),
        Line::Partial => Err(Step::Partial),
        Line::Invalid => Err(Step::Malformed(Malformed::MultibulkLength)),
        Line::Number(n, _) if n > i64::from(i32::MAX) => Err(Step::Malformed(Malformed::MultibulkLength)),
        Line::Number(n, _) if limits.unauthenticated && n > UNAUTHENTICATED_ARGS_MAX => {
            Err(Step::Malformed(Malformed::UnauthenticatedMultibulkLength))
        }
        Line::Number(n, at) => {
            r.started = true;
            r.args_left = n.max(0);
            r.next = at;
            r.bulk = None;
            Ok(())
        }
    }
}

fn read_argument(buf: &[u8], limits: &Limits, r: &mut Resume) -> Result<(), Step> {
    let len = match r.bulk {
        Some(len) => len,
        None => bulk_header(buf, limits, r)?,
    };
    let end = r.next + len;
    if buf.len() < end + 2 {
        return Err(Step::Partial);
    }
    r.ranges.push((r.next, end));
    r.next = end + 2;
    r.bulk = None;
    r.args_left -= 1;
    Ok(())
}

fn bulk_header(buf: &[u8], limits: &Limits, r: &mut Resume) -> Result<usize, Step> {
    let Some(&kind) = buf.get(r.next) else { return Err(Step::Partial) };
    // The line may be nothing but its end: `\r\n` is no `$` either.
    let line = number_line(buf, if kind == b'\r' { r.next } else { r.next + 1 });
    if matches!(line, Line::Partial) {
        let big = buf.len() - r.next > INLINE_MAX;
        return Err(if big { Step::Malformed(Malformed::BigBulkCount) } else { Step::Partial });
    }
    if kind != b'$' {
        return Err(Step::Malformed(Malformed::ExpectedDollar(kind)));
    }
    match line {
        Line::Number(n, _) if n < 0 || n as usize > limits.bulk_max => Err(Step::Malformed(Malformed::BulkLength)),
        Line::Number(n, _) if limits.unauthenticated && n > UNAUTHENTICATED_BULK_MAX => {
            Err(Step::Malformed(Malformed::UnauthenticatedBulkLength))
        }
        Line::Number(n, at) => {
            r.next = at;
            r.bulk = Some(n as usize);
            Ok(n as usize)
        }
        _ => Err(Step::Malformed(Malformed::BulkLength)),
    }
}

fn read_inline(buf: &[u8], r: &mut Resume) -> Step {
    let Some(end) = memchr::memchr(b'\n', buf) else {
        return if buf.len() > INLINE_MAX { Step::Malformed(Malformed::BigInline) } else { Step::Partial };
    };
    let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
    match crate::base::words::split(line) {
        Some(words) => {
            r.words = words;
            Step::Inline(end + 1)
        }
        None => Step::Malformed(Malformed::UnbalancedQuotes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: Limits = Limits { bulk_max: 512 * 1024 * 1024, unauthenticated: false };

    /// What is read by its head is what is read without; and nothing else is.
    #[test]
    fn a_head_reads_what_has_it() {
        let encode = |args: &[&[u8]]| {
            let mut out = Vec::new();
            crate::resp::encode::command(&mut out, args);
            out
        };
        let long = vec![b'x'; 300];
        let requests: [&[&[u8]]; 8] = [
            &[b"GET", b"key"],
            &[b"get", b"key"],
            &[b"GET", &long],
            &[b"GET", b"key", b"more"],
            &[b"PING"],
            &[b"LRANGE", b"list", b"0", b"99"],
            &[b"HINCRBYFLOAT", b"k", b"f", b"1"],
            &[b"", b"x"],
        ];
        for known in requests {
            let bytes = [&encode(known)[..], &[b'.'; HEAD]].concat();
            let mut args = Vec::new();
            assert!(matches!(read(&bytes, &OPEN, &mut Resume::default(), &mut args), Step::Request(_)));
            let head = Head::of(&bytes, &args);
            assert_eq!(head.is_some(), known[0].len() <= 6, "{known:?}");
            let Some(head) = head else { continue };
            for other in requests {
                let whole = encode(other);
                let bytes = [&whole[..], &[b'.'; HEAD]].concat();
                let mut got: Vec<&[u8]> = vec![b"before"];
                let like = other[0] == known[0] && other.len() == known.len();
                assert_eq!(head.read(&bytes, &OPEN, &mut got), like.then_some(whole.len()), "{known:?} {other:?}");
                assert_eq!(&got[1..], if like { other } else { &[] });
                for cut in 0..whole.len() {
                    assert_eq!(head.read(&bytes[..cut], &OPEN, &mut got), None);
                }
            }
        }
        let many: Vec<&[u8]> = vec![b"x"; WHOLE_ARGS_MAX as usize + 1];
        assert!(Head::of(&encode(&many), &many).is_none());
    }

    /// Every prefix of a request is looked at for its key, as it may arrive so.
    #[test]
    fn the_likely_key_is_found_and_no_prefix_panics() {
        let request = b"*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n";
        for n in 0..request.len() {
            assert!(likely_key(&request[..n]).is_none_or(|k| k == b"key:1"));
        }
        assert_eq!(likely_key(request), Some(&b"key:1"[..]));
        assert_eq!(likely_key(b"*1\r\n$4\r\nPING\r\n"), None);
    }

    fn encode(args: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for a in args {
            out.extend(format!("${}\r\n", a.len()).bytes());
            out.extend(a);
            out.extend(b"\r\n");
        }
        out
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_request(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..6),
            cuts in proptest::collection::vec(0usize..200, 0..5),
        ) {
            let bytes = encode(&args);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| c < bytes.len()).collect();
            cuts.sort_unstable();
            let mut r = Resume::default();
            for c in cuts {
                let mut out = Vec::new();
                prop_assert_eq!(read(&bytes[..c], &OPEN, &mut r, &mut out), Step::Partial);
                prop_assert!(out.is_empty());
            }
            let mut out = Vec::new();
            prop_assert_eq!(read(&bytes, &OPEN, &mut r, &mut out), Step::Request(bytes.len()));
            prop_assert_eq!(out, args.iter().map(|a| &a[..]).collect::<Vec<_>>());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), star in any::<bool>()) {
            let mut bytes = bytes;
            if star {
                bytes.splice(0..0, *b"*3\r\n$");
            }
            let _ = likely_key(&bytes);
            let mut r = Resume::default();
            let mut out = Vec::new();
            match read(&bytes, &OPEN, &mut r, &mut out) {
                Step::Request(n) | Step::Inline(n) => prop_assert!(n <= bytes.len()),
                _ => {}
            }
        }
    }

    fn fails(bytes: &[u8]) -> Malformed {
        match read(bytes, &OPEN, &mut Resume::default(), &mut Vec::new()) {
            Step::Malformed(m) => m,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn violations_are_named_as_in_redis() {
        assert_eq!(fails(b"*x\r\n"), Malformed::MultibulkLength);
        assert_eq!(fails(b"*3000000000\r\n"), Malformed::MultibulkLength);
        assert_eq!(fails(b"*1\r\n:1\r\n"), Malformed::ExpectedDollar(b':'));
        assert_eq!(fails(b"*1\r\n\r\n"), Malformed::ExpectedDollar(b'\r'));
        assert_eq!(fails(b"*1\r\n$-1\r\n"), Malformed::BulkLength);
        assert_eq!(fails(b"*1\r\n$999999999999\r\n"), Malformed::BulkLength);
        assert_eq!(fails(b"set \"a\r\n"), Malformed::UnbalancedQuotes);
        assert_eq!(fails(&vec![b'a'; 70_000]), Malformed::BigInline);
        let unauthenticated = Limits { unauthenticated: true, ..OPEN };
        let step = read(b"*11\r\n", &unauthenticated, &mut Resume::default(), &mut Vec::new());
        assert_eq!(step, Step::Malformed(Malformed::UnauthenticatedMultibulkLength));
    }

    #[test]
    fn empty_requests_are_skipped() {
        for (bytes, n) in [(&b"*0\r\n"[..], 4), (b"*-1\r\n", 5)] {
            let mut out = Vec::new();
            assert_eq!(read(bytes, &OPEN, &mut Resume::default(), &mut out), Step::Request(n));
            assert!(out.is_empty());
        }
    }
}
