//! Encoding of replies, RESP2 and RESP3 (the protocol's published
//! specification). A handler says what it means; the writer knows the version.

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    Resp2,
    Resp3,
}

/// Appends one reply, or nested parts of it, to an output buffer.
pub struct Reply<'a> {
    pub out: &'a mut Vec<u8>,
    pub proto: Proto,
}

const HEADERS: usize = 128;

/// `$0\r\n` to `$127\r\n`, padded to 8 bytes, the length in the last byte.
static BULK_HEADERS: [[u8; 8]; HEADERS] = bulk_headers();

const fn bulk_headers() -> [[u8; 8]; HEADERS] {
    let mut t = [[0u8; 8]; HEADERS];
    let mut n = 0;
    while n < HEADERS {
        let mut at = 1;
        t[n][0] = b'$';
        if n >= 100 {
            t[n][at] = b'0' + (n / 100) as u8;
            at += 1;
        }
        if n >= 10 {
            t[n][at] = b'0' + (n / 10 % 10) as u8;
            at += 1;
        }
        t[n][at] = b'0' + (n % 10) as u8;
        t[n][at + 1] = b'\r';
        t[n][at + 2] = b'\n';
        t[n][7] = at as u8 + 3;
        n += 1;
    }
    t
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, proto: Proto) -> Reply<'a> {
        Reply { out, proto }
    }

    fn resp3(&self) -> bool {
        self.proto == Proto::Resp3
    }

    #[inline]
    fn head(&mut self, kind: u8, n: i64) {
        let mut b = itoa::Buffer::new();
        let digits = b.format(n).as_bytes();
        self.out.reserve(digits.len() + 3);
        self.out.push(kind);
        self.out.extend_from_slice(digits);
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status line; `s` must hold neither CR nor LF.
    pub fn simple(&mut self, s: &str) {
        debug_assert!(!s.contains(['\r', '\n']));
        self.out.push(b'+');
        self.out.extend_from_slice(s.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// An error line, its code first (`ERR ...`); line breaks in it become spaces,
    /// and those at its end nothing.
    pub fn error(&mut self, text: &[u8]) {
        let end = text.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let text = &text[..end];
        self.out.push(b'-');
        self.out.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn int(&mut self, n: i64) {
        match n {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.head(b':', n),
        }
    }

    #[inline]
    pub fn bulk(&mut self, s: &[u8]) {
        if s.len() < HEADERS {
            let h = &BULK_HEADERS[s.len()];
            self.short_bulk(h, s);
        } else {
            self.head(b'$', s.len() as i64);
            self.out.reserve(s.len() + 2);
            self.out.extend_from_slice(s);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// A bulk string whose header is at hand: one check of the capacity, and
    /// the header in one store whatever its length.
    #[inline]
    fn short_bulk(&mut self, header: &[u8; 8], s: &[u8]) {
        let (at, n) = (self.out.len(), header[7] as usize);
        debug_assert!(n <= 6);
        self.out.reserve(s.len() + 8);
        // SAFETY: `s.len() + 8` bytes are reserved: room for the 8 that are
        // stored first, and for header, string and the final 2, since `n` is 6
        // at most. All bytes below the new length are written. `s` is not part
        // of `out`, which is borrowed mutably.
        unsafe {
            let p = self.out.as_mut_ptr().add(at);
            p.copy_from_nonoverlapping(header.as_ptr(), 8);
            p.add(n).copy_from_nonoverlapping(s.as_ptr(), s.len());
            p.add(n + s.len()).copy_from_nonoverlapping(b"\r\n".as_ptr(), 2);
            self.out.set_len(at + n + s.len() + 2);
        }
    }

    pub fn bulk_int(&mut self, n: i64) {
        let mut b = itoa::Buffer::new();
        self.bulk(b.format(n).as_bytes());
    }

    /// The null of a missing value.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// The null of a missing array (EXEC aborted by WATCH, a timed-out BLPOP).
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    #[inline]
    pub fn array(&mut self, n: usize) {
        self.head(b'*', n as i64);
    }

    /// Header of a map of `n` pairs; a flat array of `2n` in RESP2.
    pub fn map(&mut self, n: usize) {
        if self.resp3() { self.head(b'%', n as i64) } else { self.array(2 * n) }
    }

    pub fn set(&mut self, n: usize) {
        if self.resp3() { self.head(b'~', n as i64) } else { self.array(n) }
    }

    /// Header of an out-of-band message.
    pub fn push(&mut self, n: usize) {
        if self.resp3() { self.head(b'>', n as i64) } else { self.array(n) }
    }

    pub fn double(&mut self, v: f64) {
        let s = crate::base::num::format_f64(v);
        if self.resp3() {
            self.out.push(b',');
            self.out.extend_from_slice(s.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(s.as_bytes());
        }
    }

    pub fn bool(&mut self, v: bool) {
        if self.resp3() {
            self.out.extend_from_slice(if v { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.int(i64::from(v));
        }
    }

    /// Text with a three-letter format (`txt`, `mkd`); a bulk in RESP2.
    pub fn verbatim(&mut self, format: &str, s: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if self.resp3() {
            self.head(b'=', s.len() as i64 + 4);
            self.out.extend_from_slice(format.as_bytes());
            self.out.push(b':');
            self.out.extend_from_slice(s);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(s);
        }
    }

    /// Bytes that are a complete encoded value already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(f: impl Fn(&mut Reply)) -> (String, String) {
        let enc = |proto| {
            let mut out = Vec::new();
            f(&mut Reply::new(&mut out, proto));
            String::from_utf8(out).unwrap()
        };
        (enc(Proto::Resp2), enc(Proto::Resp3))
    }

    #[test]
    fn versions_differ_where_the_protocol_says_so() {
        assert_eq!(both(|r| r.null()), ("$-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(|r| r.map(1)), ("*2\r\n".into(), "%1\r\n".into()));
        assert_eq!(both(|r| r.double(1.5)), ("$3\r\n1.5\r\n".into(), ",1.5\r\n".into()));
        assert_eq!(both(|r| r.verbatim("txt", b"hi")), ("$2\r\nhi\r\n".into(), "=6\r\ntxt:hi\r\n".into()));
        assert_eq!(both(|r| r.error(b"ERR a\r\nb")), ("-ERR a  b\r\n".into(), "-ERR a  b\r\n".into()));
    }

    #[test]
    fn bulk_headers_of_all_lengths() {
        for n in [0usize, 9, 10, 99, 100, 127, 128, 1000] {
            let s = vec![b'x'; n];
            let want = format!("${n}\r\n{}\r\n", String::from_utf8(s.clone()).unwrap());
            assert_eq!(both(|r| r.bulk(&s)).0, want);
        }
    }
}
