//! Lengths and strings of the format, read from a slice. The counterpart of
//! [`super::write`].

use super::{lzf, write};

/// What is wrong with bytes that were to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end before they should.
    Short,
    /// A key without elements, which cannot exist.
    Empty,
    /// They are not what the format says.
    Corrupt(String),
    /// The checksum at the end of a file is another than that of its bytes.
    Checksum { said: u64, is: u64 },
    /// They are in order, but of a kind that this server does not load.
    Unsupported(String),
}

impl Fault {
    pub fn corrupt(what: &str) -> Fault {
        Fault::Corrupt(what.to_string())
    }

    pub fn unsupported(what: &str) -> Fault {
        Fault::Unsupported(what.to_string())
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Fault::Short => f.write_str("Unexpected end of the data"),
            Fault::Empty => f.write_str("The value has no elements"),
            Fault::Checksum { said, is } => write!(f, "Wrong RDB checksum expected: ({said:x}) but got ({is:x})"),
            Fault::Corrupt(what) | Fault::Unsupported(what) => f.write_str(what),
        }
    }
}

/// A length, or the kind of the specially encoded string that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Plain(u64),
    Special(u8),
}

/// What a string's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// So many bytes follow.
    Raw(u64),
    Int(i64),
    /// So many compressed bytes follow, which make so many.
    Packed {
        packed: u64,
        len: u64,
    },
}

/// A place in a slice. Reading advances it only when all that was asked for
/// is there.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    pub fn new(all: &'a [u8]) -> Bytes<'a> {
        Bytes { all, at: 0 }
    }

    /// Bytes read so far.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub fn left(&self) -> usize {
        self.all.len() - self.at
    }

    /// Steps over `n` bytes that are there.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.left());
        self.at += n;
    }

    #[inline]
    pub fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let n = usize::try_from(n).map_err(|_| Fault::Short)?;
        if n > self.left() {
            return Err(Fault::Short);
        }
        let part = &self.all[self.at..self.at + n];
        self.at += n;
        Ok(part)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        Ok(self.take(N as u64)?.try_into().unwrap_or([0; N]))
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }

    /// Runs `read`; on failure the place is as before.
    #[inline]
    pub fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let before = self.at;
        read(self).inspect_err(|_| self.at = before)
    }

    /// The common forms, of one and two bytes, are read at once.
    #[inline(always)]
    fn any_length(&mut self) -> Result<Length, Fault> {
        match self.all.get(self.at..) {
            Some(&[first @ 0..0x40, ..]) => {
                self.at += 1;
                Ok(Length::Plain(u64::from(first)))
            }
            Some(&[first @ 0x40..0x80, second, ..]) => {
                self.at += 2;
                Ok(Length::Plain(u64::from(first & 0x3F) << 8 | u64::from(second)))
            }
            _ => self.rare_length(),
        }
    }

    #[inline(never)]
    fn rare_length(&mut self) -> Result<Length, Fault> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first)),
            1 => Length::Plain(u64::from(first & 0x3F) << 8 | u64::from(self.byte()?)),
            3 => Length::Special(first & 0x3F),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(Fault::Corrupt(format!("Unknown length encoding {first}"))),
            },
        })
    }

    /// A length that is none of a specially encoded string.
    #[inline]
    pub fn length(&mut self) -> Result<u64, Fault> {
        match self.attempt(Self::any_length)? {
            Length::Plain(n) => Ok(n),
            Length::Special(kind) => Err(Fault::Corrupt(format!("Encoding {kind} where a length is expected"))),
        }
    }

    /// The head of a string.
    #[inline]
    pub fn head(&mut self) -> Result<Head, Fault> {
        self.attempt(|b| {
            Ok(match b.any_length()? {
                Length::Plain(n) => Head::Raw(n),
                Length::Special(write::INT_8) => Head::Int(i64::from(i8::from_le_bytes(b.array()?))),
                Length::Special(write::INT_16) => Head::Int(i64::from(i16::from_le_bytes(b.array()?))),
                Length::Special(write::INT_32) => Head::Int(i64::from(i32::from_le_bytes(b.array()?))),
                Length::Special(write::LZF) => Head::Packed { packed: b.length()?, len: b.length()? },
                Length::Special(kind) => return Err(Fault::Corrupt(format!("Unknown string encoding {kind}"))),
            })
        })
    }

    /// A string that stands there as it is, with a length of one or two bytes:
    /// most are such. Heads go through memory, which a short string feels.
    #[inline(always)]
    fn plain(&mut self) -> Option<&'a [u8]> {
        let rest = self.all.get(self.at..)?;
        let (from, len) = match *rest {
            [first @ 0..0x40, ..] => (1, usize::from(first)),
            [first @ 0x40..0x80, second, ..] => (2, usize::from(first & 0x3F) << 8 | usize::from(second)),
            _ => return None,
        };
        let plain = rest.get(from..from + len)?;
        self.at += from + len;
        Some(plain)
    }

    /// Steps over a string, without a look at what it says.
    #[inline]
    pub fn skip_string(&mut self) -> Result<(), Fault> {
        if self.plain().is_some() {
            return Ok(());
        }
        match self.head()? {
            Head::Raw(n) | Head::Packed { packed: n, .. } => self.take(n).map(drop),
            Head::Int(_) => Ok(()),
        }
    }

    /// A string; in `scratch` if it does not stand in the slice as it is.
    #[inline]
    pub fn string<'s>(&mut self, scratch: &'s mut Scratch) -> Result<&'s [u8], Fault>
    where
        'a: 's,
    {
        if let Some(plain) = self.plain() {
            return Ok(plain);
        }
        match self.head()? {
            Head::Raw(n) => self.take(n),
            Head::Int(v) => Ok(scratch.keep(itoa::Buffer::new().format(v).as_bytes())),
            Head::Packed { packed, len } => {
                let from = self.take(packed)?;
                scratch.expand(from, len).ok_or_else(not_lzf)
            }
        }
    }

    /// A string of its own.
    pub fn owned(&mut self) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        match self.head()? {
            Head::Raw(n) => return Ok(self.take(n)?.to_vec()),
            Head::Int(v) => out.extend_from_slice(itoa::Buffer::new().format(v).as_bytes()),
            Head::Packed { packed, len } => self.expand(packed, len, &mut out)?,
        }
        Ok(out)
    }

    fn expand(&mut self, packed: u64, len: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let from = self.take(packed)?;
        let expanded = usize::try_from(len).is_ok_and(|len| lzf::expand(from, len, out));
        if expanded { Ok(()) } else { Err(not_lzf()) }
    }
}

#[cold]
fn not_lzf() -> Fault {
    Fault::corrupt("Invalid LZF compressed string")
}

/// Memory for one string at a time that does not stand in the file as it is,
/// kept from string to string. What lies in it is of no meaning; so it need not
/// be cleared.
#[derive(Default)]
pub struct Scratch(Vec<u8>);

/// More than this is not kept for the next string.
const SCRATCH_KEPT: usize = 1 << 20;

impl Scratch {
    /// So many bytes, and room behind them for copies in whole words.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let need = len + lzf::SLACK;
        if self.0.len() < need {
            self.0.resize(need.next_power_of_two(), 0);
        } else if self.0.len() > SCRATCH_KEPT && need <= SCRATCH_KEPT {
            self.0.truncate(SCRATCH_KEPT);
            self.0.shrink_to_fit();
        }
        &mut self.0
    }

    fn keep(&mut self, text: &[u8]) -> &[u8] {
        let room = self.room(text.len());
        room[..text.len()].copy_from_slice(text);
        &room[..text.len()]
    }

    fn expand(&mut self, from: &[u8], len: u64) -> Option<&[u8]> {
        let len = usize::try_from(len).ok().filter(|&len| lzf::may_make(from, len))?;
        let room = self.room(len);
        lzf::expand_into(from, len, room)?;
        Some(&room[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_and_strings_come_back(n in any::<u64>(), shift in 0u32..64, s in proptest::collection::vec(any::<u8>(), 0..100), v in any::<i64>()) {
            let mut out = Vec::new();
            write::length(&mut out, n >> shift);
            write::string(&mut out, &s);
            write::string(&mut out, (v >> shift).to_string().as_bytes());
            let mut b = Bytes::new(&out);
            let mut scratch = Scratch::default();
            prop_assert_eq!(b.length().unwrap(), n >> shift);
            prop_assert_eq!(b.owned().unwrap(), s);
            let number = (v >> shift).to_string();
            prop_assert_eq!(b.string(&mut scratch).unwrap(), number.as_bytes());
            prop_assert_eq!(b.left(), 0);
            for cut in 0..out.len() {
                let mut b = Bytes::new(&out[..cut]);
                let all = b.length().is_ok() && b.owned().is_ok() && b.owned().is_ok();
                prop_assert!(!all);
            }
        }
    }
}
