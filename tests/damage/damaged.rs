//! What can become of bytes.

use super::support::Rng;

/// One way of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Nothing from here on.
    Cut,
    Flip(u8),
    Set(u8),
    Insert(&'static [u8]),
    Delete(usize),
}

const HUGE: &[u8] = &[0x81, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
const LARGE: &[u8] = &[0x80, 0x7F, 0xFF, 0xFF, 0xFF];

/// What is tried at every offset: lengths of all forms, opcodes, single bits.
pub const CHANGES: [How; 19] = [
    How::Flip(1),
    How::Flip(0x10),
    How::Flip(0x80),
    How::Set(0),
    How::Set(0x3F),
    How::Set(0x7F),
    How::Set(0x81),
    How::Set(0xC0),
    How::Set(0xC3),
    How::Set(0xFB),
    How::Set(0xFD),
    How::Set(0xFE),
    How::Set(0xFF),
    How::Insert(&[0]),
    How::Insert(HUGE),
    How::Insert(LARGE),
    How::Delete(1),
    How::Delete(3),
    How::Delete(40),
];

/// The same for text: files of commands and manifests.
pub const TEXT_CHANGES: [How; 16] = [
    How::Flip(1),
    How::Flip(0x20),
    How::Flip(0x80),
    How::Set(0),
    How::Set(b'\n'),
    How::Set(b'*'),
    How::Set(b'$'),
    How::Set(b'-'),
    How::Set(b'9'),
    How::Set(b'#'),
    How::Insert(b"9"),
    How::Insert(b"999999999999999999"),
    How::Insert(b"\r\n"),
    How::Delete(1),
    How::Delete(2),
    How::Delete(30),
];

pub fn damaged(bytes: &[u8], at: usize, how: How) -> Vec<u8> {
    let mut b = bytes.to_vec();
    match how {
        How::Cut => b.truncate(at),
        How::Flip(mask) => b[at] ^= mask,
        How::Set(value) => b[at] = value,
        How::Insert(more) => drop(b.splice(at..at, more.iter().copied())),
        How::Delete(n) => drop(b.drain(at..(at + n).min(bytes.len()))),
    }
    b
}

/// All changes at all offsets, as far as they change anything; or, of a seed, so
/// many of them.
pub fn each(bytes: &[u8], changes: &[How], sample: Option<(u64, usize)>, mut f: impl FnMut(usize, How, &[u8])) -> u64 {
    let mut n = 0;
    let mut one = |at: usize, how: How| {
        let bad = damaged(bytes, at, how);
        if bad != bytes {
            n += 1;
            f(at, how, &bad);
        }
    };
    match sample {
        None => (0..bytes.len()).for_each(|at| changes.iter().for_each(|how| one(at, *how))),
        Some((seed, count)) => {
            let mut rng = Rng::new(seed);
            (0..count).for_each(|_| one(rng.below(bytes.len()), *rng.pick(changes)));
        }
    }
    n
}
