//! Identifiers of stream entries: milliseconds and a sequence number, ordered
//! by both; written `ms-seq`.

/// See the module's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The smallest identifier above this one.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => self.ms.checked_add(1).map(|ms| StreamId { ms, seq: 0 }),
        }
    }

    /// The largest identifier below this one.
    pub fn prev(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => self.ms.checked_sub(1).map(|ms| StreamId { ms, seq: u64::MAX }),
        }
    }

    /// The 16 bytes by which snapshots name it: both parts big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// The reverse of [`StreamId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let n = u128::from_be_bytes(bytes);
        StreamId { ms: (n >> 64) as u64, seq: n as u64 }
    }

    /// `ms-seq` without an allocation.
    pub fn text(self) -> IdText {
        let mut t = IdText { bytes: [0; IdText::MAX], len: 0 };
        t.push(itoa::Buffer::new().format(self.ms).as_bytes());
        t.push(b"-");
        t.push(itoa::Buffer::new().format(self.seq).as_bytes());
        t
    }
}

/// An identifier in decimal digits.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; IdText::MAX],
    len: u8,
}

impl IdText {
    /// Two numbers of 20 digits and the dash.
    const MAX: usize = 41;

    fn push(&mut self, part: &[u8]) {
        let at = self.len as usize;
        self.bytes[at..at + part.len()].copy_from_slice(part);
        self.len += part.len() as u8;
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_texts() {
        assert_eq!(StreamId::new(5, u64::MAX).next(), Some(StreamId::new(6, 0)));
        assert_eq!(StreamId::new(5, 0).prev(), Some(StreamId::new(4, u64::MAX)));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.prev()), (None, None));
        assert_eq!(StreamId::MAX.text().as_bytes(), b"18446744073709551615-18446744073709551615");
        let id = StreamId::new(0x0102, 0x0304);
        assert_eq!(id.to_bytes(), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4]);
        assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
    }
}
