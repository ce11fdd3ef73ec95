//! Replication ids: 40 hexadecimal characters that name one history of a
//! dataset (`master_replid`).

use std::fmt;

use crate::base::rng::Rng;

/// Length of an id in characters.
pub const ID_LEN: usize = 40;

/// No stream is so long: an offset beyond it is no offset, and sums with those
/// below it have room.
pub const OFFSET_MAX: u64 = 1 << 62;

/// A replication id. Compared without regard to case, as Redis does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplId([u8; ID_LEN]);

impl ReplId {
    /// The id that names no history (INFO master_replid2 when there is none).
    pub const NONE: ReplId = ReplId([b'0'; ID_LEN]);

    /// A fresh id.
    pub fn random(rng: &mut Rng) -> ReplId {
        let mut id = [0; ID_LEN];
        for part in id.chunks_mut(8) {
            let word = rng.next_u64();
            for (i, c) in part.iter_mut().enumerate() {
                *c = b"0123456789abcdef"[(word >> (i * 4)) as usize & 15];
            }
        }
        ReplId(id)
    }

    /// The id written in `text`; `None` if it is not 40 hexadecimal characters.
    pub fn parse(text: &[u8]) -> Option<ReplId> {
        let mut id: [u8; ID_LEN] = text.try_into().ok()?;
        id.make_ascii_lowercase();
        id.iter().all(u8::is_ascii_hexdigit).then_some(ReplId(id))
    }

    /// The id in a PSYNC: none is asked for with `?`.
    pub fn asked(text: &[u8]) -> Option<ReplId> {
        (!text.starts_with(b"?")).then(|| ReplId::parse(text).unwrap_or(ReplId::NONE))
    }

    pub fn is_none(&self) -> bool {
        *self == ReplId::NONE
    }

    pub fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("?"))
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_and_compared_without_case() {
        let mut rng = Rng::new(1);
        let a = ReplId::random(&mut rng);
        assert_ne!(a, ReplId::random(&mut rng));
        assert_eq!(ReplId::parse(a.to_string().to_uppercase().as_bytes()), Some(a));
        assert_eq!(ReplId::parse(b"?"), None);
        assert_eq!(ReplId::parse(&[b'g'; 40]), None);
    }
}
