//! Short byte strings as the hash tables of collections hold them: 24 bytes,
//! without an allocation when the content is short.

use super::mover::{Movable, Mover};
use crate::base::memory::block_size;

/// Longest member that needs no allocation.
const MEMBER_INLINE: usize = 22;

/// Longest field and value together that need no allocation.
const PAIR_INLINE: usize = 20;

/// A member of a set or sorted set.
#[derive(Clone)]
pub enum Member {
    Inline { len: u8, bytes: [u8; MEMBER_INLINE] },
    Heap(Box<[u8]>),
}

impl Member {
    pub fn new(s: &[u8]) -> Member {
        if s.len() > MEMBER_INLINE {
            return Member::Heap(s.into());
        }
        let mut bytes = [0; MEMBER_INLINE];
        bytes[..s.len()].copy_from_slice(s);
        Member::Inline { len: s.len() as u8, bytes }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Member::Inline { len, bytes } => &bytes[..*len as usize],
            Member::Heap(b) => b,
        }
    }

    /// Bytes of the allocation, if there is one.
    pub fn heap(&self) -> usize {
        match self {
            Member::Inline { .. } => 0,
            Member::Heap(b) => block_size(b.len()),
        }
    }
}

impl Movable for Member {
    fn relocate(&mut self, mover: &mut Mover) {
        if let Member::Heap(bytes) = self {
            mover.bytes(bytes);
        }
    }
}

impl Movable for Pair {
    fn relocate(&mut self, mover: &mut Mover) {
        if let Pair::Heap { bytes, .. } = self {
            mover.bytes(bytes);
        }
    }
}

impl Default for Member {
    fn default() -> Member {
        Member::Inline { len: 0, bytes: [0; MEMBER_INLINE] }
    }
}

/// A hash's field with its value, in one piece. (A deadline of the field's own
/// would stand before them, in a third variant.)
#[derive(Clone)]
pub enum Pair {
    Inline { field: u8, value: u8, bytes: [u8; PAIR_INLINE] },
    Heap { field: u32, bytes: Box<[u8]> },
}

impl Pair {
    pub fn new(field: &[u8], value: &[u8]) -> Pair {
        let (f, n) = (field.len(), field.len() + value.len());
        if n <= PAIR_INLINE {
            let mut bytes = [0; PAIR_INLINE];
            bytes[..f].copy_from_slice(field);
            bytes[f..n].copy_from_slice(value);
            return Pair::Inline { field: f as u8, value: value.len() as u8, bytes };
        }
        let mut bytes = Vec::with_capacity(n);
        bytes.extend_from_slice(field);
        bytes.extend_from_slice(value);
        Pair::Heap { field: f as u32, bytes: bytes.into_boxed_slice() }
    }

    #[inline]
    pub fn field(&self) -> &[u8] {
        match self {
            Pair::Inline { field, bytes, .. } => &bytes[..*field as usize],
            Pair::Heap { field, bytes } => &bytes[..*field as usize],
        }
    }

    #[inline]
    pub fn value(&self) -> &[u8] {
        match self {
            Pair::Inline { field, value, bytes } => &bytes[*field as usize..(*field + *value) as usize],
            Pair::Heap { field, bytes } => &bytes[*field as usize..],
        }
    }

    /// Replaces the value, in place when the length stays.
    pub fn set_value(&mut self, new: &[u8]) {
        match self {
            Pair::Heap { field, bytes } if bytes.len() - *field as usize == new.len() => {
                bytes[*field as usize..].copy_from_slice(new);
            }
            _ => *self = Pair::new(self.field(), new),
        }
    }

    /// Bytes of the allocation, if there is one.
    pub fn heap(&self) -> usize {
        match self {
            Pair::Inline { .. } => 0,
            Pair::Heap { bytes, .. } => block_size(bytes.len()),
        }
    }
}

/// The sum of `n` sizes, estimated from the first ones when they are many.
pub fn estimate(n: usize, sizes: impl Iterator<Item = usize>) -> usize {
    const LOOKED_AT: usize = 4096;
    let sum: usize = sizes.take(LOOKED_AT).sum();
    if n <= LOOKED_AT { sum } else { (sum as u128 * n as u128 / LOOKED_AT as u128) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_small_and_give_back_what_they_were_made_of() {
        assert_eq!((size_of::<Member>(), size_of::<Pair>()), (24, 24));
        for f in [0, 1, 10, 20, 21, 22, 23, 300] {
            let field = vec![b'f'; f];
            assert_eq!(Member::new(&field).bytes(), field);
            for v in [0, 1, 10, 19, 20, 21, 300] {
                let value = vec![b'v'; v];
                let mut p = Pair::new(&field, &value);
                assert_eq!((p.field(), p.value()), (&field[..], &value[..]));
                for new in [&b"new"[..], &vec![b'w'; v], &[b'x'; 40]] {
                    p.set_value(new);
                    assert_eq!((p.field(), p.value()), (&field[..], new));
                }
            }
        }
    }
}
