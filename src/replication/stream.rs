//! The primary's stream, cut into batches that can be applied as a whole.
//!
//! Invariants:
//! - A batch never ends inside MULTI/EXEC, so that the offset that a replica
//!   asks to go on from always lies between two units.
//! - Every byte counts for the offset, also of PING, SELECT and GETACK, and of
//!   empty lines.

use bytes::{Buf, Bytes, BytesMut};

use crate::base::num::parse_i64;
use crate::resp::request;

/// Commands of one batch at most, unless a transaction has more.
const BATCH_COMMANDS: usize = 4096;

/// Bytes of one batch after which it ends.
const BATCH_BYTES: usize = 1 << 20;

/// Bytes of a batch from which its memory is given back with it.
const LARGE_BATCH: usize = 1 << 20;

/// Bytes of one command or transaction at most: as much as Redis buffers of a
/// client's query (client-query-buffer-limit).
const UNIT_BYTES_MAX: usize = 1 << 30;

/// Where a unit that is not too long ends at the latest: others stand before it.
const END_MAX: usize = BATCH_BYTES + UNIT_BYTES_MAX;
const _: () = assert!(END_MAX < u32::MAX as usize);

const TOO_LONG: &str = "a unit that is too long";

/// Arguments of a command at most (as in a client's request), and bytes of a
/// header line.
const ARGS_MAX: i64 = i32::MAX as i64;
const LINE_MAX: usize = 64;

/// Where a command stands to MULTI and EXEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Alone,
    /// Inside a transaction; the number is the same for its commands and
    /// differs between neighbouring transactions.
    Transaction(u32),
}

/// Where an argument lies in a batch's bytes: its first and the one after its last.
type Span = (u32, u32);

/// One command to be applied; [`Batch::args`] has its name and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    pub db: u32,
    pub place: Place,
    /// Its arguments among those of the batch.
    first: u32,
    argc: u32,
}

/// Some units of the stream. Arguments are places in its bytes: held as counted
/// slices they were a fifth of what a replica does for a write.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Batch {
    pub commands: Vec<Command>,
    args: Vec<Span>,
    /// The primary's bytes, all of them.
    pub bytes: Bytes,
    /// Offset of the last byte.
    pub end: u64,
    /// Database selected after it.
    pub db: u32,
    /// Offset before the last `REPLCONF GETACK` in it.
    pub ack: Option<u64>,
}

impl Batch {
    /// Name and arguments of one of its commands.
    #[inline]
    pub fn args(&self, of: &Command) -> impl Iterator<Item = &[u8]> {
        let first = of.first as usize;
        let spans = &self.args[first..first + of.argc as usize];
        spans.iter().map(|(from, to)| &self.bytes[*from as usize..*to as usize])
    }
}

/// Why a stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub offset: u64,
    pub what: &'static str,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Stream {
    input: BytesMut,
    /// Offset of the byte before `input`.
    offset: u64,
    db: u32,
    /// Databases that there are.
    databases: u32,
    transactions: u32,
    /// Input length below which reading cannot get on.
    wanted: usize,
    /// What has been read of a unit that is not complete: long ones come in many
    /// pieces, and are read only once.
    open: Option<Reading>,
}

/// What reading has found, from the beginning of the input on.
#[derive(Debug, Default)]
struct Reading {
    commands: Vec<Command>,
    args: Vec<Span>,
    /// Where the next command begins, and what is selected there.
    at: usize,
    db: u32,
    transactions: u32,
    ack: Option<u64>,
    /// Commands and arguments before a MULTI whose EXEC has not come.
    multi: Option<(usize, usize)>,
    partial: Option<Partial>,
}

/// How far a command has been read of which arguments are missing.
#[derive(Clone, Copy, Debug)]
struct Partial {
    /// The first of its arguments.
    first: usize,
    next: usize,
    left: i64,
}

/// Where the last whole unit ended.
struct Whole {
    commands: usize,
    args: usize,
    at: usize,
    db: u32,
    transactions: u32,
    ack: Option<u64>,
}

/// The beginning of a command.
enum Begun {
    /// So many arguments follow, from there on.
    Array(i64, usize),
    /// An empty line; the end of it.
    Empty(usize),
    Incomplete(usize),
}

enum Argument {
    At(usize, usize),
    Incomplete(usize),
}

enum Read {
    /// A command, or nothing for an empty line: the first of its arguments, and
    /// where it ends.
    Command(usize, usize),
    /// At least so many bytes of input are needed.
    Incomplete(usize),
}

impl Reading {
    fn whole(&self) -> Whole {
        let Reading { at, db, transactions, ack, .. } = *self;
        Whole { commands: self.commands.len(), args: self.args.len(), at, db, transactions, ack }
    }
}

impl Stream {
    /// A stream whose first byte comes after `offset`, with `db` of so many
    /// databases selected; one that is not there is none.
    pub fn new(offset: u64, db: u32, databases: u32) -> Stream {
        let db = if db < databases { db } else { 0 };
        Stream { offset, db, databases, ..Stream::default() }
    }

    /// A stream over the same databases.
    pub fn anew(&self, offset: u64, db: u32) -> Stream {
        Stream::new(offset, db, self.databases)
    }

    /// Offset of the last byte handed out in batches.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn db(&self) -> u32 {
        self.db
    }

    /// Bytes received that no batch holds yet.
    pub fn pending(&self) -> usize {
        self.input.len()
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next batch, if a whole unit has come.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, Malformed> {
        if self.input.len() < self.wanted.max(1) {
            return Ok(None);
        }
        let fresh = || Reading { db: self.db, transactions: self.transactions, ..Reading::default() };
        let mut r = self.open.take().unwrap_or_else(fresh);
        let mut whole = None;
        self.wanted = 0;
        loop {
            let (first, end) = match self.read(&mut r) {
                // What stands before is in order; then the same is found again.
                Err(_) if whole.is_some() => break,
                Err(bad) => return Err(bad),
                Ok(Read::Command(first, end)) => (first, end),
                Ok(Read::Incomplete(wanted)) => {
                    self.wanted = if whole.is_none() { wanted } else { 0 };
                    break;
                }
            };
            self.note(first, &mut r);
            r.at = end;
            if r.multi.is_some() {
                continue;
            }
            whole = Some(r.whole());
            if r.commands.len() >= BATCH_COMMANDS || r.at >= BATCH_BYTES {
                break;
            }
        }
        match whole {
            Some(whole) => Ok(Some(self.take(r, whole))),
            None if self.input.len() > UNIT_BYTES_MAX => Err(self.bad(0, TOO_LONG)),
            None => {
                self.open = Some(r);
                Ok(None)
            }
        }
    }

    fn take(&mut self, r: Reading, whole: Whole) -> Batch {
        let len = whole.at;
        let bytes = self.input.split_to(len).freeze();
        // What is left shares the batch's memory and would keep all of it. Little
        // of it, so that the copies are no more work than the batches.
        if len > LARGE_BATCH && self.input.len() < len {
            self.input = BytesMut::from(&self.input[..]);
        }
        self.offset += len as u64;
        (self.db, self.transactions) = (whole.db, whole.transactions);
        let Reading { mut commands, mut args, .. } = r;
        commands.truncate(whole.commands);
        args.truncate(whole.args);
        Batch { commands, args, end: self.offset, db: whole.db, ack: whole.ack, bytes }
    }

    /// Sorts the command whose arguments begin with `first`: what concerns the link
    /// itself is not applied. What stands where it must not is left to whoever
    /// applies it, and complains.
    fn note(&self, first: usize, r: &mut Reading) {
        let spans = &r.args[first..];
        let arg = |i: usize| spans.get(i).map_or(b"".as_slice(), |s| &self.input[s.0 as usize..s.1 as usize]);
        let is = |name: &[u8]| arg(0).eq_ignore_ascii_case(name);
        let database = || parse_i64(arg(1)).and_then(|n| u32::try_from(n).ok()).filter(|n| *n < self.databases);
        if spans.is_empty() || is(b"ping") {
        } else if is(b"select")
            && spans.len() == 2
            && let Some(db) = database()
        {
            r.db = db;
        } else if is(b"replconf") {
            if arg(1).eq_ignore_ascii_case(b"getack") {
                r.ack = Some(self.offset + r.at as u64);
            }
        } else if is(b"multi") && spans.len() == 1 && r.multi.is_none() {
            r.multi = Some((r.commands.len(), first));
            r.transactions = r.transactions.wrapping_add(1);
        } else if is(b"exec") && r.multi.is_some() {
            r.multi = None;
        } else if is(b"discard")
            && let Some((commands, args)) = r.multi.take()
        {
            r.commands.truncate(commands);
            return r.args.truncate(args);
        } else {
            let place = if r.multi.is_some() { Place::Transaction(r.transactions) } else { Place::Alone };
            let argc = spans.len() as u32;
            return r.commands.push(Command { db: r.db, place, first: first as u32, argc });
        }
        r.args.truncate(first);
    }

    /// Reads the next command; goes on where it was left when bytes were missing.
    fn read(&self, r: &mut Reading) -> Result<Read, Malformed> {
        let mut p = match r.partial.take() {
            Some(p) => p,
            None => match self.begin(r.at)? {
                Begun::Array(left, next) => Partial { first: r.args.len(), next, left },
                Begun::Empty(end) => return Ok(Read::Command(r.args.len(), end)),
                Begun::Incomplete(wanted) => return Ok(Read::Incomplete(wanted)),
            },
        };
        while p.left > 0 {
            match self.argument(p.next)? {
                Argument::At(from, to) => {
                    r.args.push((from as u32, to as u32));
                    (p.next, p.left) = (to + 2, p.left - 1);
                }
                Argument::Incomplete(wanted) => {
                    r.partial = Some(p);
                    return Ok(Read::Incomplete(wanted));
                }
            }
        }
        Ok(Read::Command(p.first, p.next))
    }

    /// Reads what stands before a command's arguments.
    fn begin(&self, at: usize) -> Result<Begun, Malformed> {
        let input = &self.input[..];
        match input.get(at) {
            None => return Ok(Begun::Incomplete(at + 1)),
            Some(b'\n') => return Ok(Begun::Empty(at + 1)),
            Some(b'\r') if input.len() == at + 1 => return Ok(Begun::Incomplete(at + 2)),
            Some(b'\r') if input[at + 1] == b'\n' => return Ok(Begun::Empty(at + 2)),
            Some(b'*') => {}
            Some(_) => return Err(self.bad(at, "something else than an array")),
        }
        let Some((count, next)) = self.number(at + 1)? else { return Ok(Begun::Incomplete(input.len() + 1)) };
        if !(0..=ARGS_MAX).contains(&count) {
            return Err(self.bad(at, "an impossible number of arguments"));
        }
        Ok(Begun::Array(count, next))
    }

    fn argument(&self, at: usize) -> Result<Argument, Malformed> {
        let input = &self.input[..];
        match input.get(at) {
            None => return Ok(Argument::Incomplete(at + 1)),
            Some(b'$') => {}
            Some(_) => return Err(self.bad(at, "something else than a bulk string")),
        }
        let Some((len, start)) = self.number(at + 1)? else { return Ok(Argument::Incomplete(input.len() + 1)) };
        if len < 0 || len as usize > UNIT_BYTES_MAX {
            return Err(self.bad(at, "an impossible length"));
        }
        let end = start + len as usize;
        if end > END_MAX {
            return Err(self.bad(at, TOO_LONG));
        }
        if input.len() < end + 2 {
            return Ok(Argument::Incomplete(end + 2));
        }
        if &input[end..end + 2] != b"\r\n" {
            return Err(self.bad(end, "a bulk string without its end"));
        }
        Ok(Argument::At(start, end))
    }

    /// The number that begins at `at` and where its line ends.
    #[inline]
    fn number(&self, at: usize) -> Result<Option<(i64, usize)>, Malformed> {
        match request::short_number(&self.input, at) {
            Some(found) => Ok(Some(found)),
            None => self.long_number(at),
        }
    }

    fn long_number(&self, at: usize) -> Result<Option<(i64, usize)>, Malformed> {
        let line = &self.input[at..self.input.len().min(at + LINE_MAX)];
        let Some(len) = memchr::memchr(b'\n', line) else {
            return if line.len() == LINE_MAX { Err(self.bad(at, "an endless line")) } else { Ok(None) };
        };
        let digits = line[..len].strip_suffix(b"\r").and_then(parse_i64);
        digits.map(|n| Some((n, at + len + 1))).ok_or_else(|| self.bad(at, "something else than a number"))
    }

    fn bad(&self, at: usize, what: &'static str) -> Malformed {
        Malformed { offset: self.offset + at as u64 + 1, what }
    }

    /// Drops what has not been handed out.
    pub fn cut(&mut self) {
        self.input.advance(self.input.len());
        self.wanted = 0;
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A value of 32 MB left the replica with 64 MB of memory for its input, for
    /// good: the buffer's rest shared the memory of the batch.
    #[test]
    fn a_large_command_leaves_no_large_buffer() {
        let mut s = Stream::new(0, 0, 16);
        let value = "v".repeat(8 << 20);
        s.receive(&command(&["SET", "k", &value]));
        s.receive(b"*1\r\n$4\r\nPI");
        assert_eq!(s.next_batch().unwrap().unwrap().commands.len(), 1);
        assert_eq!(s.pending(), 10);
        assert!(s.input.capacity() < 1 << 16, "{}", s.input.capacity());
        s.receive(b"NG\r\n");
        assert_eq!(s.next_batch().unwrap().unwrap().end, s.offset());
    }

    fn command(words: &[&str]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for w in words {
            out.extend_from_slice(format!("${}\r\n{w}\r\n", w.len()).as_bytes());
        }
        out
    }

    fn text(b: &Batch) -> Vec<String> {
        let show = |c: &Command| {
            let words: Vec<_> = b.args(c).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
            let mark = if c.place == Place::Alone { "" } else { "t" };
            format!("{}{mark} {}", c.db, words.join(" "))
        };
        b.commands.iter().map(show).collect()
    }

    #[test]
    fn a_batch_holds_whole_units() {
        let parts: Vec<Vec<u8>> = vec![
            command(&["SELECT", "3"]),
            command(&["SET", "a", "1"]),
            command(&["ping"]),
            command(&["REPLCONF", "GETACK", "*"]),
            command(&["MULTI"]),
            command(&["SET", "b", "2"]),
            command(&["SELECT", "0"]),
            command(&["SET", "c", "3"]),
        ];
        let mut s = Stream::new(100, 0, 16);
        parts.iter().for_each(|p| s.receive(p));
        let first: usize = parts[..4].iter().map(Vec::len).sum();
        let b = s.next_batch().unwrap().unwrap();
        assert_eq!(text(&b), ["3 SET a 1"]);
        assert_eq!((b.end, b.bytes.len(), b.db), (100 + first as u64, first, 3));
        assert_eq!(b.ack, Some(100 + parts[..3].iter().map(|p| p.len() as u64).sum::<u64>()));
        assert_eq!(s.next_batch(), Ok(None));
        s.receive(&command(&["EXEC"]));
        let b = s.next_batch().unwrap().unwrap();
        assert_eq!(text(&b), ["3t SET b 2", "0t SET c 3"]);
        assert_eq!((s.db(), s.pending()), (0, 0));
    }

    #[test]
    fn what_stands_before_garbage_is_handed_out() {
        let mut s = Stream::new(0, 0, 16);
        s.receive(&[command(&["SET", "a", "1"]), b"garbage".to_vec()].concat());
        assert_eq!(text(&s.next_batch().unwrap().unwrap()), ["0 SET a 1"]);
        assert_eq!(s.next_batch().unwrap_err().offset, s.offset() + 1);
    }

    #[test]
    fn garbage_is_refused_with_its_place() {
        for (bytes, place) in [("+OK\r\n", 11), ("*1\r\n:1\r\n", 15), ("*x\r\n", 12), ("*1\r\n$-1\r\n", 15)] {
            let mut s = Stream::new(10, 0, 16);
            s.receive(bytes.as_bytes());
            assert_eq!(s.next_batch().unwrap_err().offset, place, "{bytes}");
        }
        let mut s = Stream::new(0, 0, 16);
        s.receive(&[b'*'; 200]);
        assert!(s.next_batch().is_err());
    }

    /// MULTI within MULTI and EXEC without one split no transaction and end none;
    /// a database that is not there is not selected. Whoever applies them
    /// complains.
    #[test]
    fn what_is_out_of_place_changes_no_transaction() {
        let mut s = Stream::new(0, 0, 16);
        let lines: [&[&str]; 10] = [
            &["EXEC"],
            &["MULTI"],
            &["SET", "a", "1"],
            &["MULTI"],
            &["SET", "b", "2"],
            &["EXEC"],
            &["SELECT", "99"],
            &["MULTI"],
            &["SET", "c", "3"],
            &["DISCARD"],
        ];
        lines.iter().for_each(|l| s.receive(&command(l)));
        let b = s.next_batch().unwrap().unwrap();
        assert_eq!(text(&b), ["0 EXEC", "0t SET a 1", "0t MULTI", "0t SET b 2", "0 SELECT 99"]);
        assert_eq!((s.pending(), s.db(), Stream::new(0, 99, 16).db()), (0, 0, 0));
    }

    /// A transaction of 40 MB in pieces of 16 KB was read anew with every piece:
    /// minutes.
    #[test]
    fn a_long_unit_in_many_pieces_is_read_once() {
        let n = 1_000_000;
        let one = command(&["SET", "key:00000001", "value"]);
        let mut transaction = command(&["MULTI"]);
        (0..n).for_each(|_| transaction.extend_from_slice(&one));
        transaction.extend(command(&["EXEC"]));
        let mut long = format!("*{}\r\n$4\r\nSADD\r\n", n + 1).into_bytes();
        (0..n).for_each(|_| long.extend_from_slice(b"$8\r\nmember:1\r\n"));
        let began = std::time::Instant::now();
        for (bytes, commands) in [(transaction, n), (long, 1)] {
            let mut s = Stream::new(0, 0, 16);
            let mut batch = None;
            for piece in bytes.chunks(16 << 10) {
                assert!(batch.is_none());
                s.receive(piece);
                batch = s.next_batch().unwrap();
            }
            assert_eq!(batch.map(|b| b.commands.len()), Some(commands));
        }
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }

    proptest! {
        /// However the bytes come in pieces, the same commands come out.
        #[test]
        fn pieces_do_not_matter(kinds in prop::collection::vec(0u8..6, 1..40), cuts in prop::collection::vec(1usize..30, 1..60)) {
            let mut all = Vec::new();
            let mut open = false;
            for (i, k) in kinds.iter().enumerate() {
                match k {
                    0 => all.extend(command(&["SELECT", &(i % 5).to_string()])),
                    1 if !open => { all.extend(command(&["MULTI"])); open = true; }
                    2 if open => { all.extend(command(&["EXEC"])); open = false; }
                    3 => all.extend(command(&["ping"])),
                    _ => all.extend(command(&["SET", &i.to_string(), "v"])),
                }
            }
            if open {
                all.extend(command(&["EXEC"]));
            }
            let collect = |pieces: Vec<&[u8]>| {
                let mut s = Stream::new(0, 0, 16);
                let (mut out, mut bytes) = (Vec::new(), Vec::new());
                for piece in pieces {
                    s.receive(piece);
                    while let Some(b) = s.next_batch().unwrap() {
                        out.extend(text(&b));
                        bytes.extend_from_slice(&b.bytes);
                        assert_eq!(b.end, bytes.len() as u64);
                    }
                }
                (out, bytes)
            };
            let whole = collect(vec![&all]);
            prop_assert_eq!(&whole.1, &all);
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&all[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let n = (*cuts.next().unwrap()).min(rest.len());
                pieces.push(&rest[..n]);
                rest = &rest[n..];
            }
            prop_assert_eq!(collect(pieces), whole);
        }
    }
}
