//! Finding the ends of replies, without keeping them.
//!
//! Invariant: `open` counts the elements still to come of the reply under way
//! (0 between replies); every element takes one away and every aggregate adds
//! its members, so nesting needs no stack.

/// Longest header line, or error text, that is kept.
const LINE_BYTES_MAX: usize = 256;

/// Bytes that are no reply.
#[derive(Debug, PartialEq, Eq)]
pub struct NotResp;

#[derive(Default)]
pub struct Scanner {
    open: u64,
    /// Bytes of a bulk and its line end still to be passed over.
    skip: usize,
    /// The header line under way, without its line end.
    line: Vec<u8>,
    /// Error replies so far, and the text of the first.
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Scanner {
    /// Takes received bytes; gives how many replies they completed.
    pub fn scan(&mut self, mut bytes: &[u8]) -> Result<usize, NotResp> {
        let mut complete = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                bytes = &bytes[skipped..];
                self.skip -= skipped;
                if self.skip == 0 {
                    complete += self.element_done();
                }
                continue;
            }
            let end = memchr::memchr(b'\n', bytes);
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            let Some(end) = end else { break };
            bytes = &bytes[end + 1..];
            complete += self.header()?;
        }
        Ok(complete)
    }

    /// Handles one header line; gives 1 if it completed a reply.
    fn header(&mut self) -> Result<usize, NotResp> {
        if self.open == 0 {
            self.open = 1;
        }
        let (&kind, rest) = self.line.split_first().ok_or(NotResp)?;
        let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
        let complete = match kind {
            b'-' => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| String::from_utf8_lossy(rest).into_owned());
                self.element_done()
            }
            b'+' | b':' | b'_' | b'#' | b',' | b'(' => self.element_done(),
            b'$' | b'=' | b'!' => match length(rest)? {
                None => self.element_done(),
                Some(bytes) => {
                    self.skip = bytes.checked_add(2).ok_or(NotResp)?;
                    0
                }
            },
            b'*' | b'~' | b'>' => self.aggregate(length(rest)?, 1)?,
            b'%' => self.aggregate(length(rest)?, 2)?,
            _ => return Err(NotResp),
        };
        self.line.clear();
        Ok(complete)
    }

    fn aggregate(&mut self, length: Option<usize>, per_entry: u64) -> Result<usize, NotResp> {
        let members = (length.unwrap_or(0) as u64).checked_mul(per_entry).ok_or(NotResp)?;
        self.open = self.open.checked_add(members).ok_or(NotResp)?;
        Ok(self.element_done())
    }

    fn element_done(&mut self) -> usize {
        assert!(self.open > 0, "an element outside of a reply");
        self.open -= 1;
        usize::from(self.open == 0)
    }
}

/// A length; `None` for the null `-1`.
fn length(digits: &[u8]) -> Result<Option<usize>, NotResp> {
    if digits == b"-1" {
        return Ok(None);
    }
    let text = std::str::from_utf8(digits).map_err(|_| NotResp)?;
    text.parse().map(Some).map_err(|_| NotResp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[u8] = b"+OK\r\n:12\r\n$-1\r\n$0\r\n\r\n$5\r\na\r\nbc\r\n*-1\r\n*0\r\n\
        *2\r\n*1\r\n$1\r\nx\r\n-ERR in it\r\n%1\r\n+a\r\n_\r\n-MOVED 1 a:2\r\n";

    #[test]
    fn replies_are_counted_however_they_are_cut() {
        for cut in 0..REPLIES.len() {
            let mut scanner = Scanner::default();
            let mut count = scanner.scan(&REPLIES[..cut]).unwrap();
            count += scanner.scan(&REPLIES[cut..]).unwrap();
            assert_eq!(count, 10, "cut at {cut}");
            assert_eq!(scanner.errors, 2);
            assert_eq!(scanner.first_error.as_deref(), Some("ERR in it"));
        }
    }

    #[test]
    fn other_protocols_are_refused() {
        for bytes in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b"$x\r\n", b"*-2\r\n"] {
            assert_eq!(Scanner::default().scan(bytes), Err(NotResp));
        }
    }
}
