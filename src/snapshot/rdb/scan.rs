//! A file (or a stream of the same form) taken apart into its records, without
//! looking into values: sans-IO, fed by whoever has bytes.
//!
//! The caller loops: [`Scanner::next`] until it answers `Ok(None)`, then more
//! bytes by [`Scanner::push`] (or [`Scanner::fill`] from a reader), or
//! [`Scanner::close`] when there are no more. Memory is bounded by the largest
//! string in the file, and that by [`Scanner::set_longest`]: a large collection
//! comes in *parts*, each with whole elements, that a
//! [`Builder`](super::decode::Builder) puts together. Who only wants to know
//! whether a file is in order ([`Scanner::skim`]) needs none of it.
//!
//! The steps of a value are kept on a stack, so that scanning goes on where
//! the bytes ended. A new type plugs in at [`steps_of`].

use std::io::{ErrorKind, Read};

use super::checksum::Checksum;
use super::encode::Access;
use super::read::{Bytes, Fault, Head, Scratch};
use super::{MAGIC, READABLE, VALKEY_VERSION, kind, kind_name, op};
use crate::base::clock::UnixMs;

/// First bytes of files of Valkey 9 and later, before three digits.
const VALKEY_MAGIC: &[u8; 6] = b"VALKEY";
const MAGIC_LEN: usize = 9;

/// Files of earlier versions end without a checksum.
const CHECKSUM_SINCE: u32 = 5;

/// A collection is cut into parts of about so many bytes.
pub const PART_BYTES: usize = 256 << 10;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub fault: Fault,
    /// From the file's first byte.
    pub offset: u64,
    /// Type and key of the record, if it lies in one.
    pub record: Option<(u8, Vec<u8>)>,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} at offset {}", self.fault, self.offset)?;
        match &self.record {
            Some((kind, key)) => {
                write!(f, " (type {kind}, {}, key '{}')", kind_name(*kind), key.escape_ascii())
            }
            None => Ok(()),
        }
    }
}

/// One thing in the file.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    Version {
        valkey: bool,
        version: u32,
    },
    Aux {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    /// The database of the records that follow.
    Select(u64),
    /// Its number of keys, and of those with a deadline: hints.
    Resize {
        keys: u64,
        volatile: u64,
    },
    /// The source of a function library.
    Function(Vec<u8>),
    /// Data of a module, by the module's number.
    ModuleAux(u64),
    Record(Record<'a>),
    /// The end; with a checksum if the file has one.
    End(Sum),
}

/// What became of the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// The version has none.
    None,
    /// It was not computed when the file was written.
    Zero,
    Checked,
    /// The scanner was told not to look.
    Ignored,
}

/// A key with (a part of) its value.
#[derive(Debug, PartialEq)]
pub struct Record<'a> {
    pub deadline: Option<UnixMs>,
    pub access: Access,
    pub kind: u8,
    pub key: &'a [u8],
    /// The encoded value, or a part of its elements.
    pub body: &'a [u8],
    pub part: Part,
    /// Where the body stands in the file.
    pub offset: u64,
}

/// Which part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The number of elements and the first ones; more follow at once.
    First,
    Middle,
    Last,
}

impl Part {
    /// Does the value begin here?
    pub fn begins(self) -> bool {
        matches!(self, Part::Whole | Part::First)
    }

    /// Is the value complete after this?
    pub fn ends(self) -> bool {
        matches!(self, Part::Whole | Part::Last)
    }
}

/// What is still to be stepped over in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Bytes as they are.
    Skip(u64),
    /// Strings, of which `unit` make one element.
    Strings {
        left: u64,
        unit: u64,
    },
    /// Strings with an 8-byte score.
    Scored(u64),
    /// Strings with a score as text.
    TextScored(u64),
    /// Containers with strings.
    Nodes(u64),
    /// Fields with values, a lifetime before each.
    Volatile(u64),
    /// The number of elements of the step that comes next.
    Count,
    Lengths(u64),
    /// Entries of a stream's list of pending ones: 24 bytes and a length.
    Pending(u64),
    /// Consumer groups of a stream, in the form of that version (1 to 3).
    Groups {
        version: u8,
        left: u64,
    },
    Consumers {
        version: u8,
        left: u64,
    },
    /// Identifiers of 16 bytes.
    Ids(u64),
    /// Typed values of a module up to its end mark.
    Module,
}

const ONE_STRING: Step = Step::Strings { left: 1, unit: 1 };

/// Puts the steps of a value on the stack, the last one first.
fn steps_of(kind: u8, out: &mut Vec<Step>) -> Result<(), Fault> {
    let counted = |unit| [Step::Strings { left: 0, unit }, Step::Count];
    match kind {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK => out.push(ONE_STRING),
        kind::LIST | kind::SET | kind::LIST_QUICKLIST => out.extend(counted(1)),
        kind::HASH => out.extend(counted(2)),
        kind::ZSET => out.extend([Step::TextScored(0), Step::Count]),
        kind::ZSET_2 => out.extend([Step::Scored(0), Step::Count]),
        kind::LIST_QUICKLIST_2 => out.extend([Step::Nodes(0), Step::Count]),
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => {
            let version = stream_version(kind);
            let lengths = if version == 1 { 3 } else { 8 };
            out.extend([Step::Groups { version, left: 0 }, Step::Count, Step::Lengths(lengths)]);
            out.extend(counted(2));
        }
        kind::MODULE_2 => out.extend([Step::Module, Step::Lengths(1)]),
        kind::MODULE_PRE_GA => return Err(Fault::unsupported("Values of modules in a form before their release")),
        kind::HASH_TTL => out.extend([Step::Volatile(0), Step::Count, Step::Skip(8)]),
        kind::HASH_LISTPACK_TTL => out.extend([ONE_STRING, Step::Skip(8)]),
        kind::HASH_TTL_PRE_GA | kind::HASH_LISTPACK_TTL_PRE_GA => {
            return Err(Fault::unsupported("Hashes whose fields have deadlines, in a form before their release"));
        }
        _ => return Err(Fault::Corrupt(format!("Unknown RDB encoding type {kind}"))),
    }
    Ok(())
}

fn stream_version(kind: u8) -> u8 {
    match kind {
        kind::STREAM => 1,
        kind::STREAM_2 => 2,
        _ => 3,
    }
}

/// Can a value of this type come in parts? It is a count, then elements.
fn divisible(kind: u8) -> bool {
    matches!(
        kind,
        kind::LIST | kind::SET | kind::LIST_QUICKLIST | kind::HASH | kind::ZSET | kind::ZSET_2 | kind::LIST_QUICKLIST_2
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Magic,
    /// Before a record, nothing read of it.
    Prefix,
    Between,
    /// In the value of a record.
    Value,
    Trailer,
    Ended,
    Failed,
}

/// See the module's description.
pub struct Scanner {
    /// Bytes up to `filled`; what lies behind them is of no meaning.
    buffer: Vec<u8>,
    filled: usize,
    /// Where the buffer begins in the file.
    base: u64,
    /// What stands before is done with.
    start: usize,
    /// Scanned up to here.
    at: usize,
    /// Checksummed up to here.
    summed: usize,
    checksum: Option<Checksum>,
    closed: bool,
    /// Bytes that will come at most, if that is known.
    size: Option<u64>,
    /// Bytes of a string at most.
    longest: u64,
    /// Values are not kept until they are whole.
    skims: bool,
    state: State,
    version: u32,
    steps: Vec<Step>,
    deadline: Option<UnixMs>,
    access: Access,
    kind: u8,
    key: Vec<u8>,
    /// Parts of the value that were handed out.
    parts: usize,
}

impl Scanner {
    /// `checksum`: is it to be verified?
    pub fn new(checksum: bool) -> Scanner {
        Scanner {
            buffer: Vec::new(),
            filled: 0,
            base: 0,
            start: 0,
            at: 0,
            summed: 0,
            checksum: checksum.then(Checksum::default),
            closed: false,
            size: None,
            longest: u64::MAX,
            skims: false,
            state: State::Magic,
            version: 0,
            steps: Vec::new(),
            deadline: None,
            access: Access::None,
            kind: 0,
            key: Vec::new(),
            parts: 0,
        }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Adds up to `n` bytes from a reader; closes at its end.
    pub fn fill(&mut self, from: &mut impl Read, n: usize) -> std::io::Result<usize> {
        let got = loop {
            match from.read(&mut self.room(n)[..n]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.filled += got;
        self.closed |= got == 0;
        Ok(got)
    }

    /// No more bytes will come.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// So many bytes will come at most: a string that claims more is not waited
    /// for, which would gather all of the file.
    pub fn set_size(&mut self, bytes: u64) {
        self.size = Some(bytes);
    }

    /// Strings of more bytes are refused where they begin: a length is a claim, and
    /// bytes may follow for ever.
    pub fn set_longest(&mut self, bytes: u64) {
        self.longest = bytes;
    }

    /// Looks at the file without keeping its values: the body of a record is some
    /// of its bytes.
    pub fn skim(&mut self) {
        self.skims = true;
    }

    /// How far the file has been scanned.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The version of the file, once known.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes that were pushed behind the end of the file.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }

    /// Room for `n` bytes behind those that are still needed, which move to the
    /// beginning.
    fn room(&mut self, n: usize) -> &mut [u8] {
        self.compact();
        let need = self.filled + n;
        if self.buffer.len() < need {
            // Cleared once, since pieces have much the same size.
            self.buffer.resize(need.max(self.buffer.len() * 3 / 2), 0);
        }
        &mut self.buffer[self.filled..]
    }

    fn compact(&mut self) {
        if self.start == 0 {
            // In the middle of a long string, which must not be moved for every piece.
            return;
        }
        self.sum_up(self.start);
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.base += self.start as u64;
        self.at -= self.start;
        self.summed -= self.start;
        self.start = 0;
    }

    fn sum_up(&mut self, to: usize) {
        if let Some(c) = &mut self.checksum {
            c.update(&self.buffer[self.summed..to]);
        }
        self.summed = to;
    }

    /// The next thing in the file; `None` when more bytes are needed, or after
    /// the end.
    #[allow(clippy::should_implement_trait, reason = "events borrow from the scanner")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, Error> {
        let from = self.at;
        let result = match self.step() {
            Err(Fault::Short) if !self.closed => self.wait(),
            other => other,
        };
        match result {
            Ok(Some(Found::Event(e))) => Ok(Some(e)),
            Ok(Some(Found::Value { from, to, part })) => Ok(Some(Event::Record(Record {
                deadline: self.deadline,
                access: self.access,
                kind: self.kind,
                key: &self.key,
                body: &self.buffer[from..to],
                part,
                offset: self.base + from as u64,
            }))),
            Ok(None) => Ok(None),
            Err(fault) => {
                let record = (self.state == State::Value).then(|| (self.kind, self.key.clone()));
                let at = if fault == Fault::Short { self.filled } else { self.at.max(from) };
                self.state = State::Failed;
                Err(Error { fault, offset: self.base + at as u64, record })
            }
        }
    }

    fn step(&mut self) -> Result<Option<Found>, Fault> {
        loop {
            if self.state != State::Value {
                self.start = self.at;
            }
            match self.state {
                State::Magic => return self.magic().map(Some),
                State::Prefix => {
                    self.deadline = None;
                    self.access = Access::None;
                    self.state = State::Between;
                }
                State::Between => {
                    if let Some(event) = self.opcode()? {
                        return Ok(Some(Found::Event(event)));
                    }
                }
                State::Value => return self.value().map(Some),
                State::Trailer => return self.trailer().map(Some),
                State::Ended | State::Failed => return Ok(None),
            }
        }
    }

    /// More bytes are needed: can they come, and be kept until all are there?
    #[cold]
    fn wait(&mut self) -> Result<Option<Found>, Fault> {
        let in_value = self.state == State::Value;
        let claim = match (self.state, self.steps.last()) {
            (State::Value, Some(Step::Skip(n))) => *n,
            (State::Between, _) => claim(Bytes::new(&self.buffer[self.at..self.filled])).unwrap_or(0),
            _ => 0,
        };
        if claim > self.longest {
            return Err(Fault::Corrupt(format!("A string of {claim} bytes, which is too long to be loaded")));
        }
        if self.size.is_some_and(|size| claim > size.saturating_sub(self.base + self.filled as u64)) {
            self.closed = true;
            return Err(Fault::Short);
        }
        if in_value && self.skims {
            self.start = self.at;
        }
        // Values that come in one piece may have many strings.
        if (self.filled - self.start) as u64 / 2 > self.longest {
            return Err(Fault::corrupt("A value that is too long to be loaded"));
        }
        Ok(None)
    }

    /// Reads from the scanned place on, which moves if all is there.
    fn read<T>(&mut self, read: impl FnOnce(&mut Bytes) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut b = Bytes::new(&self.buffer[self.at..self.filled]);
        let value = read(&mut b)?;
        self.at += b.at();
        Ok(value)
    }

    fn magic(&mut self) -> Result<Found, Fault> {
        let head: [u8; MAGIC_LEN] = self.read(|b| b.array())?;
        let digits = |s: &[u8]| {
            let all = s.iter().all(u8::is_ascii_digit);
            all.then(|| s.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
        };
        let (valkey, version) = match (head.strip_prefix(MAGIC), head.strip_prefix(VALKEY_MAGIC)) {
            (Some(rest), _) => (false, digits(rest)),
            (_, Some(rest)) => (true, digits(rest)),
            _ => (false, None),
        };
        let Some(version) = version else {
            return Err(Fault::corrupt("Wrong signature trying to load DB from file"));
        };
        let known = READABLE.contains(&version) && valkey == (version == VALKEY_VERSION);
        if !known {
            return Err(Fault::Unsupported(format!("Can't handle RDB format version {version}")));
        }
        self.version = version;
        self.state = State::Prefix;
        Ok(Found::Event(Event::Version { valkey, version }))
    }

    /// One opcode with what belongs to it; nothing if it only prepares a record.
    fn opcode(&mut self) -> Result<Option<Event<'static>>, Fault> {
        let code = *self.rest().first().ok_or(Fault::Short)?;
        let event = match code {
            op::AUX => self.after_code(|b| Ok(Event::Aux { name: b.owned()?, value: b.owned()? }))?,
            op::SELECT_DB => self.after_code(|b| b.length().map(Event::Select))?,
            op::RESIZE_DB => self.after_code(|b| Ok(Event::Resize { keys: b.length()?, volatile: b.length()? }))?,
            op::FUNCTION => self.after_code(|b| b.owned().map(Event::Function))?,
            op::MODULE_AUX => self.after_code(|b| {
                let id = b.length()?;
                b.length()?;
                b.length()?;
                module(b)?;
                Ok(Event::ModuleAux(id))
            })?,
            op::EOF => {
                self.at += 1;
                self.state = State::Trailer;
                return Ok(None);
            }
            op::EXPIRE_MS => {
                let d = self.after_code(|b| Ok(i64::from_le_bytes(b.array()?)))?;
                self.deadline = deadline(d);
                return Ok(None);
            }
            op::EXPIRE_S => {
                let d = self.after_code(|b| Ok(i32::from_le_bytes(b.array()?)))?;
                self.deadline = deadline(i64::from(d).saturating_mul(if d == -1 { 1 } else { 1000 }));
                return Ok(None);
            }
            op::IDLE => {
                self.access = self.after_code(|b| b.length().map(Access::Idle))?;
                return Ok(None);
            }
            op::FREQ => {
                self.access = self.after_code(|b| b.byte().map(Access::Freq))?;
                return Ok(None);
            }
            op::SLOT_INFO => {
                self.after_code(|b| (0..3).try_for_each(|_| b.length().map(drop)))?;
                return Ok(None);
            }
            op::SLOT_IMPORT => return Err(Fault::unsupported("A slot that was being imported cannot be loaded")),
            op::FUNCTION_PRE_GA => return Err(Fault::unsupported("Pre-release function format not supported.")),
            _ => {
                self.begin_value(code)?;
                return Ok(None);
            }
        };
        Ok(Some(event))
    }

    fn after_code<T>(&mut self, read: impl FnOnce(&mut Bytes) -> Result<T, Fault>) -> Result<T, Fault> {
        self.read(|b| {
            b.byte()?;
            read(b)
        })
    }

    fn begin_value(&mut self, kind: u8) -> Result<(), Fault> {
        self.steps.clear();
        steps_of(kind, &mut self.steps)?;
        let mut b = Bytes::new(&self.buffer[self.at..self.filled]);
        b.byte()?;
        let mut scratch = Scratch::default();
        let key = b.string(&mut scratch)?;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.at += b.at();
        self.kind = kind;
        self.parts = 0;
        self.start = self.at;
        self.state = State::Value;
        Ok(())
    }

    /// The value, or a part of it that is large enough.
    fn value(&mut self) -> Result<Found, Fault> {
        let limit = if divisible(self.kind) { PART_BYTES } else { usize::MAX };
        let from = self.start;
        let scanned = self.at - from;
        let mut bytes = Bytes::new(&self.buffer[self.at..self.filled]);
        if self.steps == [ONE_STRING] && bytes.attempt(Bytes::skip_string).is_ok() {
            // Nearly always: all of it is there.
            self.steps.clear();
        }
        let mut walk = Walk { bytes, steps: &mut self.steps, limit: limit.saturating_sub(scanned) };
        let result = walk.go();
        self.at += walk.bytes.at();
        result?;
        let done = self.steps.is_empty();
        let part = match (self.parts > 0, done) {
            (false, true) => Part::Whole,
            (false, false) => Part::First,
            (true, false) => Part::Middle,
            (true, true) => Part::Last,
        };
        self.parts += 1;
        self.start = self.at;
        if done {
            self.state = State::Prefix;
        }
        Ok(Found::Value { from, to: self.at, part })
    }

    fn trailer(&mut self) -> Result<Found, Fault> {
        let mut sum = Sum::None;
        if self.version >= CHECKSUM_SINCE {
            let end = self.at;
            let want = u64::from_le_bytes(self.read(|b| b.array())?);
            self.sum_up(end);
            let found = self.checksum.take().map(|c| c.value());
            sum = match found {
                None => Sum::Ignored,
                Some(_) if want == 0 => Sum::Zero,
                Some(found) if found == want => Sum::Checked,
                Some(found) => return Err(Fault::Checksum { said: want, is: found }),
            };
        }
        self.state = State::Ended;
        Ok(Found::Event(Event::End(sum)))
    }
}

/// What a step of the scanner found; values by their place in the buffer.
enum Found {
    Event(Event<'static>),
    Value { from: usize, to: usize, part: Part },
}

/// How many bytes of a string outside of a value, which ends beyond these, are
/// missing.
fn claim(mut b: Bytes) -> Result<u64, Fault> {
    let strings = match b.byte()? {
        op::AUX => 2,
        op::FUNCTION => 1,
        code if code <= kind::HASH_LISTPACK_TTL => 1,
        _ => 0,
    };
    for _ in 0..strings {
        if let Head::Raw(n) | Head::Packed { packed: n, .. } = b.head()?
            && b.take(n).is_err()
        {
            return Ok(n - b.left() as u64);
        }
    }
    Ok(0)
}

/// A deadline as files hold it: -1 is none, and what lies before 1970 is past.
fn deadline(ms: i64) -> Option<UnixMs> {
    (ms != -1).then_some(ms.max(0) as UnixMs)
}

/// Steps over the typed values of a module, up to and with the end mark.
fn module(b: &mut Bytes) -> Result<(), Fault> {
    while module_value(b)? {}
    Ok(())
}

/// Steps over one; false for the end mark.
fn module_value(b: &mut Bytes) -> Result<bool, Fault> {
    match b.length()? {
        0 => return Ok(false),
        1 | 2 => drop(b.length()?),
        3 => drop(b.take(4)?),
        4 => drop(b.take(8)?),
        5 => match b.head()? {
            Head::Raw(n) | Head::Packed { packed: n, .. } => drop(b.take(n)?),
            Head::Int(_) => {}
        },
        other => return Err(Fault::Corrupt(format!("Unknown module opcode {other}"))),
    }
    Ok(true)
}

/// Goes through values by their steps.
struct Walk<'a> {
    bytes: Bytes<'a>,
    steps: &'a mut Vec<Step>,
    /// After so many bytes it stops at the next end of an element.
    limit: usize,
}

impl Walk<'_> {
    /// Until the value or a large enough part of it ends; what could not be
    /// finished for want of bytes stays on the stack.
    fn go(&mut self) -> Result<(), Fault> {
        while let Some(step) = self.steps.pop() {
            match self.advance(step)? {
                Some(rest) if self.steps.is_empty() && self.full() => {
                    self.steps.push(rest);
                    return Ok(());
                }
                Some(rest) => self.steps.push(rest),
                None => {}
            }
        }
        Ok(())
    }

    fn full(&self) -> bool {
        self.bytes.at() >= self.limit
    }

    /// Does (a part of) a step; what is left of it. When bytes are missing, the
    /// step, or what is left of it, is back on the stack.
    fn advance(&mut self, step: Step) -> Result<Option<Step>, Fault> {
        match step {
            Step::Skip(n) => self.skip(n).map(|()| None),
            Step::Strings { left, unit } => self.strings(left, unit),
            Step::Scored(n) => {
                let whole = |b: &mut Bytes| b.skip_string().and_then(|()| b.take(8).map(drop));
                self.elements(n, Step::Scored, &[Step::Skip(8), ONE_STRING], whole)
            }
            Step::Nodes(n) => {
                let whole = |b: &mut Bytes| b.length().and_then(|_| b.skip_string());
                self.elements(n, Step::Nodes, &[ONE_STRING, Step::Lengths(1)], whole)
            }
            Step::Volatile(n) => {
                let pair = Step::Strings { left: 2, unit: 2 };
                self.repeat(n, Step::Volatile, &[pair, Step::Lengths(1)])
            }
            Step::TextScored(n) => self.text_scored(n),
            Step::Count => self.count().map(|()| None),
            Step::Lengths(n) => {
                for left in (1..=n).rev() {
                    self.or_back(Step::Lengths(left), |b| b.length())?;
                }
                Ok(None)
            }
            Step::Pending(n) => self.repeat(n, Step::Pending, &[Step::Lengths(1), Step::Skip(24)]),
            Step::Ids(n) => {
                let bytes = n.checked_mul(16).ok_or_else(|| Fault::corrupt("A length is out of range"))?;
                Ok((n > 0).then_some(Step::Skip(bytes)))
            }
            Step::Groups { version, left } => {
                let lengths = if version == 1 { 2 } else { 3 };
                let consumers = Step::Consumers { version, left: 0 };
                let one = [consumers, Step::Count, Step::Pending(0), Step::Count, Step::Lengths(lengths), ONE_STRING];
                self.repeat(left, |left| Step::Groups { version, left }, &one)
            }
            Step::Consumers { version, left } => {
                let times = Step::Skip(if version == 3 { 16 } else { 8 });
                let one = [Step::Ids(0), Step::Count, times, ONE_STRING];
                self.repeat(left, |left| Step::Consumers { version, left }, &one)
            }
            Step::Module => {
                let more = self.or_back(Step::Module, module_value)?;
                Ok(more.then_some(Step::Module))
            }
        }
    }

    /// Reads; when bytes are missing, `back` goes onto the stack.
    #[inline]
    fn or_back<T>(&mut self, back: Step, read: impl FnOnce(&mut Bytes) -> Result<T, Fault>) -> Result<T, Fault> {
        let steps = &mut *self.steps;
        self.bytes.attempt(read).inspect_err(|_| steps.push(back))
    }

    fn skip(&mut self, n: u64) -> Result<(), Fault> {
        let have = self.bytes.left() as u64;
        self.bytes.advance(n.min(have) as usize);
        if n > have {
            self.steps.push(Step::Skip(n - have));
            return Err(Fault::Short);
        }
        Ok(())
    }

    fn strings(&mut self, left: u64, unit: u64) -> Result<Option<Step>, Fault> {
        let mut left = left;
        while left > 0 {
            let n = match self.or_back(Step::Strings { left, unit }, |b| b.head())? {
                Head::Raw(n) | Head::Packed { packed: n, .. } => n,
                Head::Int(_) => 0,
            };
            left -= 1;
            if n > self.bytes.left() as u64 {
                self.steps.push(Step::Strings { left, unit });
                self.skip(n)?;
            }
            self.bytes.advance(n as usize);
            if left.is_multiple_of(unit) && left > 0 && self.full() {
                return Ok(Some(Step::Strings { left, unit }));
            }
        }
        Ok(None)
    }

    /// As many of `n` elements as are there whole, which `whole` steps over; the
    /// first that is not goes by its `parts`, as in [`Walk::repeat`].
    fn elements(
        &mut self,
        n: u64,
        rest: impl Fn(u64) -> Step,
        parts: &[Step],
        whole: impl Fn(&mut Bytes) -> Result<(), Fault>,
    ) -> Result<Option<Step>, Fault> {
        for left in (1..=n).rev() {
            if self.bytes.attempt(&whole).is_err() {
                return self.repeat(left, rest, parts);
            }
            if left > 1 && self.full() {
                return Ok(Some(rest(left - 1)));
            }
        }
        Ok(None)
    }

    /// One of `n` elements that consist of `parts` (the last one first).
    fn repeat(&mut self, n: u64, rest: impl Fn(u64) -> Step, parts: &[Step]) -> Result<Option<Step>, Fault> {
        let Some(left) = n.checked_sub(1) else { return Ok(None) };
        if left > 0 {
            self.steps.push(rest(left));
        }
        let below = self.steps.len();
        self.steps.extend_from_slice(parts);
        while self.steps.len() > below {
            if let Some(step) = self.steps.pop()
                && let Some(more) = self.advance(step)?
            {
                self.steps.push(more);
            }
        }
        Ok(if left > 0 { self.steps.pop() } else { None })
    }

    fn text_scored(&mut self, n: u64) -> Result<Option<Step>, Fault> {
        /// Lengths from here on are not-a-number and the infinities.
        const NAMED: u8 = 253;
        let Some(left) = n.checked_sub(1) else { return Ok(None) };
        // Both together, or neither: the score's length is known only behind
        // the member.
        self.or_back(Step::TextScored(n), |b| {
            match b.head()? {
                Head::Raw(n) | Head::Packed { packed: n, .. } => drop(b.take(n)?),
                Head::Int(_) => {}
            }
            let n = b.byte()?;
            b.take(if n < NAMED { u64::from(n) } else { 0 }).map(drop)
        })?;
        Ok((left > 0).then_some(Step::TextScored(left)))
    }

    fn count(&mut self) -> Result<(), Fault> {
        let n = self.or_back(Step::Count, |b| b.length())?;
        let next = match self.steps.pop() {
            Some(Step::Strings { unit, .. }) => {
                let left = n.checked_mul(unit).ok_or_else(|| Fault::corrupt("A length is out of range"))?;
                Step::Strings { left, unit }
            }
            Some(Step::Scored(_)) => Step::Scored(n),
            Some(Step::TextScored(_)) => Step::TextScored(n),
            Some(Step::Nodes(_)) => Step::Nodes(n),
            Some(Step::Volatile(_)) => Step::Volatile(n),
            Some(Step::Pending(_)) => Step::Pending(n),
            Some(Step::Groups { version, .. }) => Step::Groups { version, left: n },
            Some(Step::Consumers { version, .. }) => Step::Consumers { version, left: n },
            Some(Step::Ids(_)) => Step::Ids(n),
            Some(other) => other,
            None => return Ok(()),
        };
        self.steps.push(next);
        Ok(())
    }
}
