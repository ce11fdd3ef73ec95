//! A large sorted set that is built at once, of elements that come one after the
//! other (from a file, which usually has them in order, or in the reverse).
//!
//! The tree is built when all elements are there, from the bottom up; if they
//! came in neither order, they are sorted for it.

use std::cmp::Ordering;

use super::{CHUNK, Form, Member, Place, Sorted, ZSet, cmp_scores};
use crate::base::slot::hash_bytes;
use crate::store::dict::Dict;
use crate::store::ranked::{Ranked, Tree};
use crate::store::thin::Lean;

/// See the module's description. Its tree is empty.
pub struct Loading {
    sorted: Sorted,
    /// Elements that are still to come, by what was said of them.
    left: usize,
    /// How each element so far stands to the one before it; none if both occur.
    order: Option<Ordering>,
}

impl Loading {
    /// `expected`: the number of elements; memory is not taken on trust in it.
    pub fn new(expected: usize) -> Loading {
        let sorted = Sorted { ids: Dict::with_capacity(expected), ..Sorted::default() };
        Loading { sorted, left: expected, order: Some(Ordering::Equal) }
    }

    pub fn is_empty(&self) -> bool {
        self.sorted.slab.len == 0
    }

    /// Adds an element; false if its member is there already. The score is no
    /// NaN.
    pub fn add(&mut self, member: &[u8], score: f64) -> bool {
        let (slab, ids) = (&mut self.sorted.slab, &mut self.sorted.ids);
        let hash = hash_bytes(member);
        if ids.find(hash, |&id| slab.bytes(id) == member).is_some() {
            return false;
        }
        if let Some(last) = slab.len.checked_sub(1) {
            let last = slab.get(last as u32);
            let now = cmp_scores(score, last.score).then_with(|| member.cmp(last.member.bytes()));
            self.order = self.order.filter(|&order| order == now || slab.len == 1).map(|_| now);
        }
        let id = slab.append(Place { member: Member::new(member), score, used: true }, self.left.min(CHUNK));
        ids.insert(hash, id, |&id| hash_bytes(slab.bytes(id)));
        self.left = self.left.saturating_sub(1);
        true
    }

    pub fn finish(self) -> ZSet {
        let mut sorted = self.sorted;
        let slab = &sorted.slab;
        let ranked = |id: u32| Ranked { score: slab.get(id).score, id };
        let ids = 0..slab.len as u32;
        sorted.tree = match self.order {
            Some(Ordering::Less) => Tree::of_ascending(ids.rev().map(ranked)),
            Some(_) => Tree::of_ascending(ids.map(ranked)),
            None => {
                let mut all: Vec<Ranked> = ids.map(ranked).collect();
                all.sort_unstable_by(|a, b| {
                    cmp_scores(a.score, b.score).then_with(|| slab.bytes(a.id).cmp(slab.bytes(b.id)))
                });
                Tree::of_ascending(all.into_iter())
            }
        };
        ZSet(Form::Sorted(Lean::new(sorted)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Put};
    use super::*;
    use crate::base::rng::Rng;

    const LIMITS: Limits = Limits { entries: 1, value: 64 };

    /// Built at once and one by one, sets are the same, and stay so.
    fn agree(elements: &[(Vec<u8>, f64)], expected: usize) {
        let (mut loading, mut single) = (Loading::new(expected), ZSet::default());
        single.expect(2, 0, LIMITS);
        for (member, score) in elements {
            assert_eq!(loading.add(member, *score), single.put(member, *score, LIMITS) == Put::Added);
        }
        assert_eq!(loading.is_empty(), single.is_empty());
        let mut built = loading.finish();
        assert_eq!(built.encoding(), single.encoding());
        let all = |z: &ZSet| z.iter().map(|(m, s)| (m.to_vec(), s.to_bits())).collect::<Vec<_>>();
        assert_eq!(all(&built), all(&single));
        for (i, (member, score)) in elements.iter().enumerate() {
            assert_eq!(built.score(member), Some(*score));
            assert_eq!(built.rank(member), single.rank(member));
            match i % 3 {
                0 => assert!(built.remove(member) && single.remove(member)),
                1 => assert_eq!(built.put(member, 0.5, LIMITS), single.put(member, 0.5, LIMITS)),
                _ => assert_eq!(built.put(&i.to_le_bytes(), 1.5, LIMITS), single.put(&i.to_le_bytes(), 1.5, LIMITS)),
            }
        }
        assert_eq!(all(&built), all(&single));
    }

    #[test]
    fn all_orders_make_the_set_that_single_elements_make() {
        let mut rng = Rng::new(5);
        for n in [0usize, 1, 2, 3, 127, 128, 129, 200, 1000, 5000] {
            let member = |i: usize| format!("member:{i:05}{}", "x".repeat(i % 30)).into_bytes();
            let mut elements: Vec<_> = (0..n).map(|i| (member(i), (i / 3) as f64)).collect();
            for expected in [n, 0, 7, usize::MAX] {
                agree(&elements, expected);
            }
            elements.reverse();
            agree(&elements, n);
            for i in (1..n).rev() {
                elements.swap(i, rng.below(i + 1));
            }
            agree(&elements, n);
            for (_, score) in &mut elements {
                *score = f64::INFINITY;
            }
            agree(&elements, n);
        }
    }

    #[test]
    fn members_come_once() {
        let mut loading = Loading::new(300);
        (0..300u32).for_each(|i| assert!(loading.add(&i.to_le_bytes(), f64::from(i))));
        (0..300u32).for_each(|i| assert!(!loading.add(&i.to_le_bytes(), 0.0)));
        assert_eq!(loading.finish().len(), 300);
    }

    #[test]
    fn a_set_of_known_size_takes_no_more_than_it_needs() {
        let mut loading = Loading::new(200);
        (0..200u32).rev().for_each(|i| assert!(loading.add(format!("m:{i}").as_bytes(), f64::from(i))));
        let z = loading.finish();
        assert!(z.memory() < 200 * 70, "{}", z.memory());
        loading = Loading::new(usize::MAX);
        assert!(loading.add(b"m", 1.0));
        assert!(loading.finish().memory() < 20_000);
    }
}
