//! Sets of integers in one piece of memory, byte for byte in Redis's intset
//! format: element width in bytes (u32 LE), number of elements (u32 LE), then
//! the elements in ascending order, little-endian.
//!
//! Invariants: the header agrees with the bytes, elements ascend strictly.

use super::mover::{Movable, Mover};
use super::thin::{HEAD, Thin, Told};

const HEADER: usize = 8;

/// See the module's description.
#[derive(Clone)]
pub struct IntSet(Thin<Ints>);

impl Movable for IntSet {
    fn relocate(&mut self, mover: &mut Mover) {
        self.0.relocate(mover);
    }
}

/// The length follows from width and number.
struct Ints;

impl Told for Ints {
    #[inline]
    fn len(head: &[u8; HEAD]) -> usize {
        HEADER + u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize * usize::from(head[0])
    }

    #[inline]
    fn tell(head: &mut [u8; HEAD], len: usize) {
        let n = ((len - HEADER) / usize::from(head[0])) as u32;
        head[4..8].copy_from_slice(&n.to_le_bytes());
    }
}

impl Default for IntSet {
    fn default() -> IntSet {
        IntSet(Thin::new(&[2, 0, 0, 0, 0, 0, 0, 0]))
    }
}

fn width_of(v: i64) -> usize {
    if i16::try_from(v).is_ok() {
        2
    } else if i32::try_from(v).is_ok() {
        4
    } else {
        8
    }
}

impl IntSet {
    /// Takes over foreign bytes if they are a well-formed intset.
    pub fn parse(bytes: Vec<u8>) -> Option<IntSet> {
        if bytes.len() < HEADER || !matches!(bytes[0], 2 | 4 | 8) || bytes[1..4] != [0; 3] {
            return None;
        }
        let n = u32::from_le_bytes(bytes[4..8].try_into().ok()?) as usize;
        if bytes.len() - HEADER != n.checked_mul(bytes[0] as usize)? {
            return None;
        }
        let set = IntSet(Thin::new(&bytes));
        let ascending = (1..n).all(|i| set.get(i - 1) < set.get(i));
        ascending.then_some(set)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline]
    fn width(&self) -> usize {
        self.0[0] as usize
    }

    #[inline]
    pub fn len(&self) -> usize {
        (self.0.len() - HEADER) / self.width()
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() == HEADER
    }

    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    /// The `i`-th element in ascending order.
    #[inline]
    pub fn get(&self, i: usize) -> i64 {
        let (w, at) = (self.width(), HEADER + i * self.width());
        let b = &self.0[at..at + w];
        match *b {
            [a, b] => i64::from(i16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => i64::from_le_bytes(b.try_into().expect("elements have 2, 4 or 8 bytes")),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> + Clone {
        (0..self.len()).map(|i| self.get(i))
    }

    fn search(&self, v: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let mid = low.midpoint(high);
            match self.get(mid).cmp(&v) {
                std::cmp::Ordering::Equal => return Ok(mid),
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Greater => high = mid,
            }
        }
        Err(low)
    }

    #[inline]
    pub fn contains(&self, v: i64) -> bool {
        self.search(v).is_ok()
    }

    /// Adds an element; false when it was there.
    pub fn insert(&mut self, v: i64) -> bool {
        if width_of(v) > self.width() {
            self.widen(width_of(v));
        }
        let Err(at) = self.search(v) else { return false };
        let w = self.width();
        let (from, size) = (HEADER + at * w, self.0.len());
        self.0.resize(size + w);
        self.0.copy_within(from..size, from + w);
        self.0[from..from + w].copy_from_slice(&v.to_le_bytes()[..w]);
        true
    }

    /// Removes an element; false when it was not there.
    pub fn remove(&mut self, v: i64) -> bool {
        let Ok(at) = self.search(v) else { return false };
        let (w, from) = (self.width(), HEADER + at * self.width());
        let size = self.0.len();
        self.0.copy_within(from + w..size, from);
        self.0.resize(size - w);
        true
    }

    fn widen(&mut self, width: usize) {
        let mut wide = Vec::with_capacity(HEADER + (self.len() + 1) * width);
        wide.extend_from_slice(&(width as u32).to_le_bytes());
        wide.extend_from_slice(&self.0[4..HEADER]);
        self.iter().for_each(|v| wide.extend_from_slice(&v.to_le_bytes()[..width]));
        self.0 = Thin::new(&wide);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_are_those_of_redis() {
        let mut s = IntSet::default();
        assert!(s.insert(3) && s.insert(-1) && !s.insert(3));
        assert_eq!(s.as_bytes(), [2, 0, 0, 0, 2, 0, 0, 0, 0xFF, 0xFF, 3, 0]);
        s.insert(70_000);
        assert_eq!(
            s.as_bytes(),
            [&[4, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255][..], &[3, 0, 0, 0, 0x70, 0x11, 1, 0]].concat()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_sorted_set(ops in proptest::collection::vec((any::<bool>(), prop_oneof![-20i64..20, any::<i32>().prop_map(i64::from), any::<i64>()]), 0..60)) {
            let (mut s, mut model) = (IntSet::default(), BTreeSet::new());
            for (add, v) in ops {
                if add { prop_assert_eq!(s.insert(v), model.insert(v)) } else { prop_assert_eq!(s.remove(v), model.remove(&v)) }
                prop_assert_eq!(s.contains(v), model.contains(&v));
                prop_assert!(s.iter().eq(model.iter().copied()));
                prop_assert!(IntSet::parse(s.as_bytes().to_vec()).is_some());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            IntSet::parse(bytes);
        }
    }
}
