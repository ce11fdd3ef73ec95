//! Hash slots and key hashes.
//!
//! A key's slot is CRC16-XMODEM of the key, or of its hash tag, modulo 16,384
//! (Redis Cluster specification). The CRC runs once per key on the hot path,
//! so it is computed eight bytes at a time from tables made at compile time;
//! the tests compare it with the `crc16` crate.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use foldhash::quality::FixedState;

/// Number of hash slots.
pub const SLOTS: usize = 16_384;

/// Bits of [`Key::hash`] below the slot number.
pub const SLOT_SHIFT: u32 = 43;

/// The bits of a hash that order keys within a slot (see `store::scan`).
pub const ORDER_MASK: u64 = (1 << SLOT_SHIFT) - 1;

const SLOT_MASK: u64 = (SLOTS as u64 - 1) << SLOT_SHIFT;
const POLYNOMIAL: u16 = 0x1021;

const TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut t = [[0u16; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        t[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let prev = t[k - 1][i];
            t[k][i] = (prev << 8) ^ t[0][(prev >> 8) as usize];
            i += 1;
        }
        k += 1;
    }
    t
}

/// CRC16-XMODEM of `bytes` (polynomial 0x1021, initial value 0).
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut chunks = bytes.chunks_exact(8);
    for c in &mut chunks {
        crc = TABLES[7][(c[0] ^ (crc >> 8) as u8) as usize]
            ^ TABLES[6][(c[1] ^ crc as u8) as usize]
            ^ TABLES[5][c[2] as usize]
            ^ TABLES[4][c[3] as usize]
            ^ TABLES[3][c[4] as usize]
            ^ TABLES[2][c[5] as usize]
            ^ TABLES[1][c[6] as usize]
            ^ TABLES[0][c[7] as usize];
    }
    for &b in chunks.remainder() {
        crc = (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ b) as usize];
    }
    crc
}

/// Keys longer than this are searched by a call.
const SHORT: usize = 64;

/// Where the first `{` stands. Most keys are short and have none: they are
/// looked through by words, without a call.
#[inline]
fn first_brace(key: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    // The lowest byte of the result that is not zero is that of a brace;
    // those above may be set without one.
    let braces = |at: usize| {
        let word: [u8; 8] = key[at..at + 8].try_into().unwrap_or_default();
        let other = u64::from_le_bytes(word) ^ (ONES * b'{' as u64);
        other.wrapping_sub(ONES) & !other & (ONES << 7)
    };
    let n = key.len();
    if n < 8 {
        return key.iter().position(|&b| b == b'{');
    }
    if n > SHORT {
        return memchr::memchr(b'{', key);
    }
    let mut at = 0;
    while at < n {
        // The last word overlaps the one before, which has none.
        let from = at.min(n - 8);
        let found = braces(from);
        if found != 0 {
            return Some(from + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    None
}

/// The part of `key` that decides its slot: what stands between the first `{`
/// and the next `}`, if that is not empty; otherwise the whole key.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = first_brace(key) else { return key };
    match memchr::memchr(b'}', &key[open + 1..]) {
        Some(len) if len > 0 => &key[open + 1..open + 1 + len],
        _ => key,
    }
}

/// The hash slot of `key`.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) & (SLOTS as u16 - 1)
}

fn state() -> &'static FixedState {
    static STATE: OnceLock<FixedState> = OnceLock::new();
    STATE.get_or_init(|| FixedState::with_seed(super::rng::entropy()))
}

/// A key with its hash, computed once per command.
///
/// The hash is a seeded 64-bit hash in which 14 bits are replaced by the slot,
/// so that one word names both: the top 7 bits (the tags of `hashbrown`) and
/// the low 43 bits (bucket index, scan order) stay random.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    pub hash: u64,
}

impl<'a> Key<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: hash_key(bytes) }
    }

    #[inline]
    pub fn slot(&self) -> u16 {
        slot_of_hash(self.hash)
    }
}

/// The slot within a hash made by [`hash_key`].
#[inline]
pub fn slot_of_hash(hash: u64) -> u16 {
    ((hash >> SLOT_SHIFT) & (SLOTS as u64 - 1)) as u16
}

/// Hashes a key; see [`Key`].
#[inline]
pub fn hash_key(bytes: &[u8]) -> u64 {
    let slot = u64::from(slot_of(bytes)) << SLOT_SHIFT;
    (hash_bytes(bytes) & !SLOT_MASK) | slot
}

/// A seeded hash of any bytes, the same in the whole process.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut h = state().build_hasher();
    h.write(bytes);
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_brace_is_found_where_it_is(
            mut key in proptest::collection::vec(any::<u8>(), 0..100),
            at in proptest::collection::vec(0usize..100, 0..3),
        ) {
            at.iter().for_each(|&i| if i < key.len() { key[i] = b'{' });
            prop_assert_eq!(first_brace(&key), key.iter().position(|&b| b == b'{'));
        }

        #[test]
        fn crc_agrees_with_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(crc16(&bytes), crc16::State::<crc16::XMODEM>::calculate(&bytes));
        }

        #[test]
        fn hash_names_the_slot(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(Key::new(&bytes).slot(), slot_of(&bytes));
        }
    }

    #[test]
    fn hash_tags_follow_the_cluster_specification() {
        assert_eq!(hash_tag(b"{user1000}.following"), b"user1000");
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(slot_of(b"123456789"), 0x31C3);
    }
}
