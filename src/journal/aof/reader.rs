//! The commands of one append-only file, from its bytes.
//!
//! The reader is given the file piece by piece and hands out whole commands,
//! each with the place where it ends. It keeps note of the last place at which
//! the file could end: after a command that is in no transaction, or after
//! EXEC.

use crate::resp::request::{self, Limits, Resume, Step};

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A command; its arguments are in the reader's buffer at these places.
    Command,
    /// An annotation, without its `#` and line end.
    Annotation(Vec<u8>),
    /// More bytes are needed.
    More,
    /// The bytes at this place are no command.
    Malformed(u64),
}

/// Longest annotation.
const ANNOTATION_MAX: usize = 1024;

/// See the module's description.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Where the rest of the buffer begins.
    at: usize,
    /// Place in the file of the buffer's first byte.
    base: u64,
    resume: Resume,
    args: Vec<(usize, usize)>,
    /// The file could end here.
    valid: u64,
    in_transaction: bool,
}

const LIMITS: Limits = Limits { bulk_max: usize::MAX >> 1, unauthenticated: false };

impl Reader {
    /// A reader of a file from this place on.
    pub fn from(place: u64) -> Reader {
        Reader { base: place, valid: place, ..Reader::default() }
    }

    /// Adds the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 && self.at * 2 >= self.buffer.len() {
            self.buffer.drain(..self.at);
            self.base += self.at as u64;
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The place after the last command handed out.
    pub fn place(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The place after the last byte that was fed.
    pub fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// The last place at which the file could end.
    pub fn valid(&self) -> u64 {
        self.valid
    }

    /// Are there bytes, or commands of a transaction, that are not complete?
    pub fn incomplete(&self) -> bool {
        self.at < self.buffer.len() || self.in_transaction
    }

    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// The arguments of the command handed out last.
    pub fn args(&self) -> Vec<&[u8]> {
        self.args.iter().map(|(a, b)| &self.buffer[*a..*b]).collect()
    }

    /// The next command or annotation, if all of it is there.
    pub fn step(&mut self) -> Next {
        let rest = &self.buffer[self.at..];
        match rest.first() {
            None => Next::More,
            Some(b'#') => self.annotation(),
            Some(b'*') => self.command(),
            Some(_) => Next::Malformed(self.place()),
        }
    }

    fn annotation(&mut self) -> Next {
        let rest = &self.buffer[self.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return if rest.len() > ANNOTATION_MAX { Next::Malformed(self.place()) } else { Next::More };
        };
        let text = rest[1..end].trim_ascii_end().to_vec();
        self.at += end + 1;
        if !self.in_transaction {
            self.valid = self.place();
        }
        Next::Annotation(text)
    }

    fn command(&mut self) -> Next {
        let rest = &self.buffer[self.at..];
        let mut args: Vec<&[u8]> = Vec::new();
        match request::read(rest, &LIMITS, &mut self.resume, &mut args) {
            Step::Request(n) if !args.is_empty() => {
                if !ends_its_lines(rest, &args) {
                    return Next::Malformed(self.place());
                }
                let start = self.buffer.as_ptr() as usize;
                self.args.clear();
                self.args.extend(args.iter().map(|a| {
                    let from = a.as_ptr() as usize - start;
                    (from, from + a.len())
                }));
                let place = self.place();
                self.at += n;
                if self.note_transaction() { Next::Command } else { Next::Malformed(place) }
            }
            Step::Partial => Next::More,
            Step::Request(_) | Step::Inline(_) | Step::Malformed(_) => Next::Malformed(self.place()),
        }
    }

    /// False for MULTI within a transaction, or EXEC without one.
    fn note_transaction(&mut self) -> bool {
        if let [(a, b)] = self.args[..] {
            let name = &self.buffer[a..b];
            let (begins, ends) = (name.eq_ignore_ascii_case(b"multi"), name.eq_ignore_ascii_case(b"exec"));
            if begins && self.in_transaction || ends && !self.in_transaction {
                return false;
            }
            self.in_transaction = begins || self.in_transaction && !ends;
        }
        if !self.in_transaction {
            self.valid = self.place();
        }
        true
    }
}

/// Do all lines of a command, and all its arguments, end as they should? A
/// client's requests are not looked at so closely.
fn ends_its_lines(command: &[u8], args: &[&[u8]]) -> bool {
    let first = memchr::memchr(b'\r', command);
    first.is_some_and(|end| command[end..].starts_with(b"\r\n"))
        && args.iter().all(|a| {
            let start = a.as_ptr() as usize - command.as_ptr() as usize;
            command[..start].ends_with(b"\r\n") && command[start + a.len()..].starts_with(b"\r\n")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(r: &mut Reader) -> (Vec<String>, Next) {
        let mut out = Vec::new();
        loop {
            match r.step() {
                Next::Command => {
                    out.push(r.args().iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>().join(" "))
                }
                Next::Annotation(t) => out.push(format!("#{}", String::from_utf8_lossy(&t))),
                end => return (out, end),
            }
        }
    }

    const FILE: &[u8] = b"#TS:1700000000\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";

    #[test]
    fn every_cut_of_a_file_ends_at_a_whole_command_outside_transactions() {
        let places = [0, 16, 39, 95, 115];
        assert_eq!(FILE.len(), 115);
        for cut in 0..=FILE.len() {
            let mut r = Reader::default();
            for piece in FILE[..cut].chunks(7) {
                r.feed(piece);
                let (_, end) = all(&mut r);
                assert_eq!(end, Next::More, "cut {cut}");
            }
            let want = *places.iter().rfind(|p| **p <= cut).unwrap();
            assert_eq!(r.valid(), want as u64, "cut {cut}");
            assert_eq!(r.incomplete(), !places.contains(&cut), "cut {cut}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_place() {
        for bad in [
            &b"hello\r\n"[..],
            b"*0\r\n",
            b"*1\r\n+3\r\n",
            b"*-1\r\n",
            b"*1\r\n$1\r\nabc",
            b"*x\r\n",
            b"*1\r.$1\r\na\r\n",
            b"*1\r\n$1\r.a\r\n",
            b"*1\r\n$4\r\nexec\r\n",
        ] {
            let mut r = Reader::default();
            r.feed(FILE);
            r.feed(bad);
            let (commands, end) = all(&mut r);
            assert_eq!((commands.len(), end), (6, Next::Malformed(115)), "{bad:?}");
        }
    }
}
