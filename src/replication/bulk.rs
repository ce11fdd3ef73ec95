//! Reception of the primary's snapshot, in both framings.
//!
//! `$<len>\r\n` and so many bytes, or `$EOF:<40 characters>\r\n`, bytes, and
//! the same 40 characters. What follows the payload belongs to the stream.

use bytes::{Bytes, BytesMut};

/// Length of the end mark.
pub const MARK_LEN: usize = 40;

/// How the payload's end is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Mark([u8; MARK_LEN]),
}

/// The line before the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// The primary lives and is preparing.
    KeepAlive,
    Begin(Framing),
    /// The primary gave up: its error text.
    Error(String),
    Malformed(String),
}

impl Header {
    /// Reads a line, without its end.
    pub fn parse(line: &[u8]) -> Header {
        let text = || String::from_utf8_lossy(line).into_owned();
        match line {
            [] => Header::KeepAlive,
            [b'-', rest @ ..] => Header::Error(String::from_utf8_lossy(rest).into_owned()),
            [b'$', rest @ ..] => match rest.strip_prefix(b"EOF:") {
                Some(mark) => {
                    mark.try_into().map_or_else(|_| Header::Malformed(text()), |m| Header::Begin(Framing::Mark(m)))
                }
                None => match crate::base::num::parse_u64(rest) {
                    Some(len) => Header::Begin(Framing::Length(len)),
                    None => Header::Malformed(text()),
                },
            },
            _ => Header::Malformed(text()),
        }
    }
}

/// A payload on its way in.
#[derive(Debug)]
pub struct Bulk {
    framing: Framing,
    /// Bytes of the payload handed out.
    pub received: u64,
    /// Tail that may be the beginning of the mark.
    held: BytesMut,
}

/// What came of some input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub payload: Bytes,
    /// The payload is complete; what follows it.
    pub rest: Option<Bytes>,
}

impl Bulk {
    pub fn new(framing: Framing) -> Bulk {
        Bulk { framing, received: 0, held: BytesMut::new() }
    }

    /// Length of the payload if it is known.
    pub fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(len) => Some(len),
            Framing::Mark(_) => None,
        }
    }

    pub fn receive(&mut self, bytes: Bytes) -> Piece {
        let piece = match self.framing {
            Framing::Length(len) => take_length(bytes, len - self.received),
            Framing::Mark(mark) => self.take_mark(bytes, &mark),
        };
        self.received += piece.payload.len() as u64;
        piece
    }

    fn take_mark(&mut self, bytes: Bytes, mark: &[u8; MARK_LEN]) -> Piece {
        self.held.extend_from_slice(&bytes);
        if let Some(at) = memchr::memmem::find(&self.held, mark) {
            let payload = self.held.split_to(at).freeze();
            let rest = std::mem::take(&mut self.held).freeze().slice(MARK_LEN..);
            return Piece { payload, rest: Some(rest) };
        }
        let sure = self.held.len().saturating_sub(MARK_LEN - 1);
        Piece { payload: self.held.split_to(sure).freeze(), rest: None }
    }
}

fn take_length(mut bytes: Bytes, left: u64) -> Piece {
    if (bytes.len() as u64) < left {
        return Piece { payload: bytes, rest: None };
    }
    let payload = bytes.split_to(left as usize);
    Piece { payload, rest: Some(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers() {
        assert_eq!(Header::parse(b""), Header::KeepAlive);
        assert_eq!(Header::parse(b"$12"), Header::Begin(Framing::Length(12)));
        let mut line = b"$EOF:".to_vec();
        line.extend_from_slice(&[b'a'; 40]);
        assert_eq!(Header::parse(&line), Header::Begin(Framing::Mark([b'a'; 40])));
        assert_eq!(Header::parse(b"-ERR no"), Header::Error("ERR no".into()));
        assert!(matches!(Header::parse(b"$EOF:12"), Header::Malformed(_)));
        assert!(matches!(Header::parse(b"$-1"), Header::Malformed(_)));
        assert!(matches!(Header::parse(b"+PONG"), Header::Malformed(_)));
    }

    proptest! {
        #[test]
        fn payload_and_rest_in_any_pieces(
            payload in prop::collection::vec(97u8..99, 0..200), rest in prop::collection::vec(any::<u8>(), 0..50),
            cut in 1usize..70, by_mark in any::<bool>(),
        ) {
            let mark = [b'm'; MARK_LEN];
            let mut wire = payload.clone();
            if by_mark {
                wire.extend_from_slice(&mark);
            }
            wire.extend_from_slice(&rest);
            let framing = if by_mark { Framing::Mark(mark) } else { Framing::Length(payload.len() as u64) };
            let mut bulk = Bulk::new(framing);
            let (mut got, mut after) = (Vec::new(), None::<Vec<u8>>);
            for chunk in wire.chunks(cut) {
                match &mut after {
                    Some(a) => a.extend_from_slice(chunk),
                    None => {
                        let p = bulk.receive(Bytes::copy_from_slice(chunk));
                        got.extend_from_slice(&p.payload);
                        after = p.rest.map(|r| r.to_vec());
                    }
                }
            }
            if wire.is_empty() {
                after = bulk.receive(Bytes::new()).rest.map(|r| r.to_vec());
            }
            prop_assert_eq!(got, payload);
            prop_assert_eq!(after, Some(rest));
        }
    }
}
