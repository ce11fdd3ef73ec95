//! Set values: integers in an intset, few short members in a listpack, others
//! in a hash table.

use super::ahead::{Depth, follow, member_bytes};
use super::dict::Dict;
use super::intset::IntSet;
use super::listpack::{Item, Listpack};
use super::member::{Member, estimate};
use super::mover::{Movable, Mover, Spot, index};
use super::thin::Lean;
use super::undo::Undo;
use crate::base::memory::block_size;
use crate::base::num::parse_i64;
use crate::base::rng::Rng;
use crate::base::slot::hash_bytes;

/// Thresholds of the compact encodings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub intset_entries: usize,
    pub listpack_entries: usize,
    pub listpack_value: usize,
}

#[derive(Clone)]
enum Form {
    Ints(IntSet),
    Packed(Listpack),
    Table(Lean<Dict<Member>>),
}

/// A set.
#[derive(Clone)]
pub struct Set(Form);

impl Default for Set {
    fn default() -> Set {
        Set(Form::Ints(IntSet::default()))
    }
}

fn hash_of(m: &Member) -> u64 {
    hash_bytes(m.bytes())
}

/// Room left below the threshold of the intset encoding, which has a limit of its own.
const INTSET_ENTRIES_MAX: usize = 1 << 30;

impl Set {
    /// Moves memory that lies where much is free, of one part of the members; the
    /// next, if there is one.
    pub(super) fn relocate(&mut self, part: Spot, mover: &mut Mover) -> Option<Spot> {
        match &mut self.0 {
            Form::Ints(s) => s.relocate(mover),
            Form::Packed(l) => l.relocate(mover),
            Form::Table(d) => {
                if part == 0 {
                    d.relocate(mover);
                }
                return Dict::relocate(d, index(part), mover).map(|next| next as Spot);
            }
        }
        None
    }

    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Ints(_) => "intset",
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Ints(s) => s.len(),
            Form::Packed(l) => l.len(),
            Form::Table(d) => d.len(),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Prefetches the member with a hash; the compact forms are read whole.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64, depth: Depth) {
        if let Form::Table(d) = &self.0 {
            d.guesses(hash, |m| follow(m, member_bytes, depth));
        }
    }

    /// What a snapshot that reads it in steps keeps; none for the compact forms.
    pub fn undo_mut(&mut self) -> Option<&mut Option<Box<Undo<Member>>>> {
        match &mut self.0 {
            Form::Ints(_) | Form::Packed(_) => None,
            Form::Table(d) => Some(d.undo_mut()),
        }
    }

    pub fn undo_id(&self) -> Option<u64> {
        match &self.0 {
            Form::Ints(_) | Form::Packed(_) => None,
            Form::Table(d) => d.undo().map(|u| u.id),
        }
    }

    /// One step of a snapshot's reader: about `max` elements; false when that
    /// were the last.
    pub fn read_on(&mut self, max: usize, mut f: impl FnMut(Item)) -> bool {
        match &mut self.0 {
            Form::Ints(_) | Form::Packed(_) => false,
            Form::Table(d) => d.read_on(max, hash_of, |m| f(Item::Str(m.bytes()))),
        }
    }

    pub fn memory(&self) -> usize {
        match &self.0 {
            Form::Ints(s) => s.memory(),
            Form::Packed(l) => l.memory(),
            Form::Table(d) => {
                block_size(size_of::<Dict<Member>>()) + d.memory() + estimate(d.len(), d.iter().map(Member::heap))
            }
        }
    }

    pub fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Table(d) => d.len() + d.tables(),
            _ => 1,
        }
    }

    /// Takes the encoding that `n` members, the first being `first`, begin in.
    pub fn begin(&mut self, first: &[u8], n: usize, limits: Limits) {
        debug_assert!(self.is_empty());
        self.0 = if parse_i64(first).is_some() && n <= limits.intset_entries {
            Form::Ints(IntSet::default())
        } else if n <= limits.listpack_entries {
            Form::Packed(Listpack::new())
        } else {
            Form::Table(Lean::new(Dict::with_capacity(n)))
        };
    }

    /// Becomes a table at once when `n` members to be added are too many for
    /// the compact encodings.
    pub fn expect(&mut self, n: usize, limits: Limits) {
        let too_many = match &self.0 {
            Form::Ints(_) => n > limits.intset_entries,
            Form::Packed(_) => n > limits.listpack_entries,
            Form::Table(_) => false,
        };
        if too_many {
            self.become_table();
        }
    }

    fn become_table(&mut self) {
        let mut d = Dict::with_capacity(self.len() + 1);
        for item in self.iter() {
            item.with(|s| d.insert(hash_bytes(s), Member::new(s), hash_of));
        }
        self.0 = Form::Table(Lean::new(d));
    }

    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Form::Ints(s) => parse_i64(member).is_some_and(|v| s.contains(v)),
            Form::Packed(l) => l.find(&Item::of(member), l.first(), 1).is_some(),
            Form::Table(d) => d.find(hash_bytes(member), |m| m.bytes() == member).is_some(),
        }
    }

    /// Adds a member; false when it was there.
    #[inline]
    pub fn add(&mut self, member: &[u8], limits: Limits) -> bool {
        match &mut self.0 {
            Form::Table(d) => {
                let hash = hash_bytes(member);
                let absent = d.find(hash, |m| m.bytes() == member).is_none();
                if absent {
                    d.insert(hash, Member::new(member), hash_of);
                }
                absent
            }
            Form::Ints(_) => self.add_to_ints(member, limits),
            Form::Packed(_) => self.add_to_packed(member, limits),
        }
    }

    fn add_to_ints(&mut self, member: &[u8], limits: Limits) -> bool {
        let Form::Ints(s) = &mut self.0 else { return false };
        if let Some(v) = parse_i64(member) {
            let added = s.insert(v);
            if added && s.len() > limits.intset_entries.min(INTSET_ENTRIES_MAX) {
                self.become_table();
            }
            return added;
        }
        let digits = |v: i64| Item::Int(v).len();
        let longest = if s.is_empty() { 0 } else { digits(s.get(0)).max(digits(s.get(s.len() - 1))) };
        if s.len() < limits.listpack_entries && member.len().max(longest) <= limits.listpack_value {
            let mut l = Listpack::new();
            s.iter().for_each(|v| l.push_back(Item::Int(v)));
            l.push_back(Item::Str(member));
            self.0 = Form::Packed(l);
            return true;
        }
        self.become_table();
        self.add(member, limits)
    }

    fn add_to_packed(&mut self, member: &[u8], limits: Limits) -> bool {
        let Form::Packed(l) = &mut self.0 else { return false };
        let item = Item::of(member);
        if l.find(&item, l.first(), 1).is_some() {
            return false;
        }
        if l.len() < limits.listpack_entries && member.len() <= limits.listpack_value && l.has_room(member.len()) {
            l.push_back(item);
            return true;
        }
        self.become_table();
        self.add(member, limits)
    }

    /// Removes a member; false when it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Ints(s) => parse_i64(member).is_some_and(|v| s.remove(v)),
            Form::Packed(l) => match l.find(&Item::of(member), l.first(), 1) {
                Some(at) => {
                    l.remove(at, 1);
                    true
                }
                None => false,
            },
            Form::Table(d) => d.remove(hash_bytes(member), |m| m.bytes() == member, hash_of).is_some(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> + Clone {
        let (ints, packed, table) = match &self.0 {
            Form::Ints(s) => (Some(s), None, None),
            Form::Packed(l) => (None, Some(l), None),
            Form::Table(d) => (None, None, Some(d)),
        };
        let ints = ints.into_iter().flat_map(|s| s.iter().map(Item::Int));
        let packed = packed.into_iter().flat_map(|l| l.iter());
        ints.chain(packed).chain(table.into_iter().flat_map(|d| d.iter().map(|m| Item::Str(m.bytes()))))
    }

    /// A set of this encoding.
    pub fn from_ints(ints: IntSet) -> Set {
        Set(Form::Ints(ints))
    }

    /// A set of this encoding; elements are distinct and canonical.
    pub fn from_packed(members: Listpack) -> Set {
        Set(Form::Packed(members))
    }

    /// The set as an intset, if it is one.
    pub fn ints(&self) -> Option<&IntSet> {
        if let Form::Ints(s) = &self.0 { Some(s) } else { None }
    }

    /// The set as a listpack, if it is one.
    pub fn packed(&self) -> Option<&Listpack> {
        if let Form::Packed(l) = &self.0 { Some(l) } else { None }
    }

    /// A uniformly random member.
    pub fn random(&self, rng: &mut Rng) -> Option<Item<'_>> {
        match &self.0 {
            Form::Ints(s) if s.is_empty() => None,
            Form::Ints(s) => Some(Item::Int(s.get(rng.below(s.len())))),
            Form::Packed(l) => Some(l.get(l.seek(rng.below(l.len()))?)),
            Form::Table(d) => d.random(rng).map(|m| Item::Str(m.bytes())),
        }
    }

    /// Takes a uniformly random member out.
    pub fn pop(&mut self, rng: &mut Rng) -> Option<Vec<u8>> {
        let member = self.random(rng)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// One step of SSCAN: the members and the next position, 0 at the end.
    /// Compact encodings are returned as a whole.
    pub fn scan(&self, position: u64, count: usize) -> (Vec<Item<'_>>, u64) {
        let Form::Table(d) = &self.0 else { return (self.iter().collect(), 0) };
        let mut found = Vec::new();
        let next = d.scan(position, count, hash_of, &mut found);
        (found.into_iter().map(|m| Item::Str(m.bytes())).collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const LIMITS: Limits = Limits { intset_entries: 8, listpack_entries: 6, listpack_value: 10 };

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            3 => (-20i64..20).prop_map(|v| v.to_string().into_bytes()),
            1 => (0usize..30).prop_map(|n| vec![b'm'; n]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn behaves_as_a_hash_set(ops in proptest::collection::vec((0u8..5, member()), 1..80)) {
            let (mut s, mut model, mut rng) = (Set::default(), HashSet::new(), Rng::new(3));
            for (op, m) in ops {
                match op {
                    0 => prop_assert_eq!(s.remove(&m), model.remove(&m)),
                    1 => match s.pop(&mut rng) {
                        Some(p) => prop_assert!(model.remove(&p)),
                        None => prop_assert!(model.is_empty()),
                    },
                    _ => prop_assert_eq!(s.add(&m, LIMITS), model.insert(m.clone())),
                }
                prop_assert_eq!(s.contains(&m), model.contains(&m));
                prop_assert_eq!(s.len(), model.len());
                prop_assert_eq!(s.iter().map(|i| i.to_vec()).collect::<HashSet<_>>(), model.clone());
            }
        }
    }
}
