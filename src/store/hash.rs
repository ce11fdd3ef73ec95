//! Hash values: few short fields in a listpack, others in a hash table with
//! field and value in one piece.

use std::collections::{BTreeMap, BTreeSet};

use super::ahead::{Depth, follow, pair_bytes};
use super::dict::Dict;
use super::listpack::{Item, Listpack};
use super::member::{Pair, estimate};
use super::mover::{Movable, Mover, Spot, index};
use super::thin::Lean;
use super::undo::Undo;
use crate::base::clock::UnixMs;
use crate::base::memory::block_size;
use crate::base::rng::Rng;
use crate::base::slot::hash_bytes;

/// Thresholds of the compact encoding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    pub value: usize,
}

#[derive(Clone)]
enum Base {
    Packed(Listpack),
    Table(Lean<Dict<Pair>>),
}

#[derive(Clone)]
enum Form {
    Plain(Base),
    /// With deadlines of fields.
    Volatile(Lean<Volatile>),
}

const _: () = assert!(size_of::<Form>() == size_of::<Base>(), "hashes without deadlines pay nothing for them");

#[derive(Clone)]
struct Volatile {
    base: Base,
    deadlines: Deadlines,
}

/// Deadlines of fields, by field and by time; both hold the same.
#[derive(Clone, Default)]
struct Deadlines {
    by_field: BTreeMap<Box<[u8]>, UnixMs>,
    by_time: BTreeSet<(UnixMs, Box<[u8]>)>,
}

impl Deadlines {
    fn set(&mut self, field: &[u8], deadline: Option<UnixMs>) -> Option<UnixMs> {
        let old = match deadline {
            Some(d) => {
                self.by_time.insert((d, field.into()));
                self.by_field.insert(field.into(), d)
            }
            None => self.by_field.remove(field),
        };
        if let Some(old) = old.filter(|old| Some(*old) != deadline) {
            self.by_time.remove(&(old, field.into()));
        }
        old
    }

    fn memory(&self) -> usize {
        /// Two trees' elements, with the room that their nodes keep.
        const PER_FIELD: usize = (size_of::<(Box<[u8]>, UnixMs)>() * 2) * 4 / 3;
        self.by_field.keys().map(|f| 2 * f.len() + PER_FIELD).sum()
    }
}

/// A hash.
#[derive(Clone)]
pub struct Hash(Form);

impl Default for Hash {
    fn default() -> Hash {
        Hash(Form::Plain(Base::Packed(Listpack::new())))
    }
}

fn hash_of(p: &Pair) -> u64 {
    hash_bytes(p.field())
}

fn insert(d: &mut Dict<Pair>, field: &[u8], value: &[u8]) {
    d.insert(hash_bytes(field), Pair::new(field, value), hash_of);
}

/// The position of a field's value.
fn value_at(l: &Listpack, field: &[u8]) -> Option<usize> {
    l.next(l.find(&Item::of(field), l.first(), 2)?)
}

impl Hash {
    #[inline]
    fn base(&self) -> &Base {
        match &self.0 {
            Form::Plain(b) => b,
            Form::Volatile(v) => &v.base,
        }
    }

    #[inline]
    fn base_mut(&mut self) -> &mut Base {
        match &mut self.0 {
            Form::Plain(b) => b,
            Form::Volatile(v) => &mut v.base,
        }
    }

    /// Moves memory that lies where much is free, of one part of the fields; the
    /// next, if there is one. Deadlines of fields stay where they are.
    pub(super) fn relocate(&mut self, part: Spot, mover: &mut Mover) -> Option<Spot> {
        if let (0, Form::Volatile(v)) = (part, &mut self.0) {
            v.relocate(mover);
        }
        match self.base_mut() {
            Base::Packed(l) => {
                l.relocate(mover);
                None
            }
            Base::Table(d) => {
                if part == 0 {
                    d.relocate(mover);
                }
                Dict::relocate(d, index(part), mover).map(|next| next as Spot)
            }
        }
    }

    /// Has any field a deadline?
    #[inline]
    pub fn is_volatile(&self) -> bool {
        matches!(self.0, Form::Volatile(_))
    }

    pub fn deadline(&self, field: &[u8]) -> Option<UnixMs> {
        let Form::Volatile(v) = &self.0 else { return None };
        v.deadlines.by_field.get(field).copied()
    }

    /// Sets or takes away the deadline of a field that the hash has; the one
    /// before.
    pub fn set_deadline(&mut self, field: &[u8], deadline: Option<UnixMs>) -> Option<UnixMs> {
        debug_assert!(deadline.is_none() || self.contains(field));
        if let Form::Plain(b) = &mut self.0 {
            deadline?;
            let base = std::mem::replace(b, Base::Packed(Listpack::new()));
            self.0 = Form::Volatile(Lean::new(Volatile { base, deadlines: Deadlines::default() }));
        }
        let Form::Volatile(v) = &mut self.0 else { return None };
        let old = v.deadlines.set(field, deadline);
        if v.deadlines.by_field.is_empty() {
            let base = std::mem::replace(&mut v.base, Base::Packed(Listpack::new()));
            self.0 = Form::Plain(base);
        }
        old
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        let Form::Volatile(v) = &self.0 else { return None };
        v.deadlines.by_time.first().map(|(d, _)| *d)
    }

    /// How many fields' deadlines have passed at `now`.
    pub(super) fn due(&self, now: UnixMs) -> usize {
        let Form::Volatile(v) = &self.0 else { return 0 };
        v.deadlines.by_time.iter().take_while(|(d, _)| *d <= now).count()
    }

    /// When the last field is gone, if all have deadlines.
    pub fn end(&self) -> Option<UnixMs> {
        let Form::Volatile(v) = &self.0 else { return None };
        let last = v.deadlines.by_time.last().map(|(d, _)| *d);
        last.filter(|_| v.deadlines.by_field.len() == self.len())
    }

    /// Removes the fields whose deadline has passed at `now`, earliest first.
    pub fn take_due(&mut self, now: UnixMs) -> Vec<Box<[u8]>> {
        let Form::Volatile(v) = &self.0 else { return Vec::new() };
        let due = v.deadlines.by_time.iter().take_while(|(d, _)| *d <= now);
        let fields: Vec<Box<[u8]>> = due.map(|(_, f)| f.clone()).collect();
        for f in &fields {
            self.remove(f);
        }
        fields
    }

    /// Prefetches the field with a hash; the compact form is read whole.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64, depth: Depth) {
        if let Base::Table(d) = self.base() {
            d.guesses(hash, |p| follow(p, pair_bytes, depth));
        }
    }

    pub fn encoding(&self) -> &'static str {
        match self.base() {
            Base::Packed(_) if self.is_volatile() => "listpackex",
            Base::Packed(_) => "listpack",
            Base::Table(_) => "hashtable",
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self.base() {
            Base::Packed(l) => l.len() / 2,
            Base::Table(d) => d.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a snapshot that reads it in steps keeps; none for the compact forms.
    pub fn undo_mut(&mut self) -> Option<&mut Option<Box<Undo<Pair>>>> {
        match self.base_mut() {
            Base::Packed(_) => None,
            Base::Table(d) => Some(d.undo_mut()),
        }
    }

    pub fn undo_id(&self) -> Option<u64> {
        match self.base() {
            Base::Packed(_) => None,
            Base::Table(d) => d.undo().map(|u| u.id),
        }
    }

    /// One step of a snapshot's reader: about `max` elements; false when that
    /// were the last.
    pub fn read_on(&mut self, max: usize, mut f: impl FnMut(Item, Item)) -> bool {
        match self.base_mut() {
            Base::Packed(_) => false,
            Base::Table(d) => d.read_on(max, hash_of, |p| f(Item::Str(p.field()), Item::Str(p.value()))),
        }
    }

    pub fn memory(&self) -> usize {
        let deadlines = match &self.0 {
            Form::Plain(_) => 0,
            Form::Volatile(v) => size_of::<Volatile>() + v.deadlines.memory(),
        };
        deadlines
            + match self.base() {
                Base::Packed(l) => l.memory(),
                Base::Table(d) => {
                    block_size(size_of::<Dict<Pair>>()) + d.memory() + estimate(d.len(), d.iter().map(Pair::heap))
                }
            }
    }

    pub fn free_effort(&self) -> usize {
        match self.base() {
            Base::Packed(_) => 1,
            Base::Table(d) => d.len() + d.tables(),
        }
    }

    /// Becomes a table at once when a command brings words too long, or too
    /// many fields, for the compact encoding.
    pub fn expect(&mut self, words: &[&[u8]], limits: Limits) {
        if matches!(self.base(), Base::Packed(_))
            && (words.len() / 2 > limits.entries || words.iter().any(|w| w.len() > limits.value))
        {
            self.become_table(0);
        }
    }

    /// With room for `n` fields, as far as one table has it.
    fn become_table(&mut self, n: usize) {
        let mut d = Dict::with_capacity(n.max(self.len() + 1));
        for (field, value) in self.iter() {
            field.with(|f| value.with(|v| insert(&mut d, f, v)));
        }
        *self.base_mut() = Base::Table(Lean::new(d));
    }

    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self.base() {
            Base::Packed(l) => Some(l.get(value_at(l, field)?)),
            Base::Table(d) => d.find(hash_bytes(field), |p| p.field() == field).map(|p| Item::Str(p.value())),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Sets a field; true when it is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: Limits) -> bool {
        match self.base_mut() {
            Base::Packed(_) => self.set_packed(field, value, limits),
            Base::Table(d) => match d.find_mut(hash_bytes(field), |p| p.field() == field, hash_of) {
                Some(pair) => {
                    pair.set_value(value);
                    false
                }
                None => {
                    insert(d, field, value);
                    true
                }
            },
        }
    }

    fn set_packed(&mut self, field: &[u8], value: &[u8], limits: Limits) -> bool {
        let Base::Packed(l) = self.base_mut() else { return false };
        if field.len().max(value.len()) > limits.value || !l.has_room(field.len() + value.len()) {
            self.become_table(0);
            return self.set(field, value, limits);
        }
        let known = value_at(l, field);
        match known {
            Some(at) => l.replace(at, Item::of(value)),
            None => l.insert(l.back(), &[Item::of(field), Item::of(value)]),
        }
        // Of a field that was there, too: the limit may be lower than it was.
        if l.len() / 2 > limits.entries {
            self.become_table(0);
        }
        known.is_none()
    }

    /// Removes a field with its deadline; false when it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if self.is_volatile() {
            self.set_deadline(field, None);
        }
        match self.base_mut() {
            Base::Packed(l) => match l.find(&Item::of(field), l.first(), 2) {
                Some(at) => {
                    l.remove(at, 2);
                    true
                }
                None => false,
            },
            Base::Table(d) => d.remove(hash_bytes(field), |p| p.field() == field, hash_of).is_some(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> + Clone {
        let (packed, table) = match self.base() {
            Base::Packed(l) => (Some(l), None),
            Base::Table(d) => (None, Some(d)),
        };
        let pairs = table.into_iter().flat_map(|d| d.iter()).map(as_items);
        packed.into_iter().flat_map(|l| l.pairs()).chain(pairs)
    }

    /// Shows all fields with their values; faster than [`Hash::iter`].
    pub fn each<'a>(&'a self, mut f: impl FnMut(Item<'a>, Item<'a>)) {
        match self.base() {
            Base::Packed(l) => l.each_pair(f),
            Base::Table(d) => d.iter().for_each(|p| {
                let (field, value) = as_items(p);
                f(field, value);
            }),
        }
    }

    /// A hash of this encoding: distinct fields and values by turns, canonical.
    pub fn from_packed(pairs: Listpack) -> Hash {
        Hash(Form::Plain(Base::Packed(pairs)))
    }

    /// Becomes a table at once when so many fields are too many for the
    /// compact encoding.
    pub fn expect_fields(&mut self, n: usize, limits: Limits) {
        if matches!(self.base(), Base::Packed(_)) && n > limits.entries {
            self.become_table(n);
        }
    }

    /// The hash as a listpack of fields and values by turns, if it is one.
    pub fn packed(&self) -> Option<&Listpack> {
        match self.base() {
            Base::Packed(l) => Some(l),
            Base::Table(_) => None,
        }
    }

    /// A uniformly random field with its value.
    pub fn random(&self, rng: &mut Rng) -> Option<(Item<'_>, Item<'_>)> {
        match self.base() {
            Base::Packed(l) => {
                let at = l.seek(rng.below(self.len()) * 2)?;
                Some((l.get(at), l.get(l.next(at)?)))
            }
            Base::Table(d) => d.random(rng).map(as_items),
        }
    }

    /// One step of HSCAN; see [`super::set::Set::scan`].
    pub fn scan(&self, position: u64, count: usize) -> (Vec<(Item<'_>, Item<'_>)>, u64) {
        let Base::Table(d) = self.base() else { return (self.iter().collect(), 0) };
        let mut found = Vec::new();
        let next = d.scan(position, count, hash_of, &mut found);
        (found.into_iter().map(as_items).collect(), next)
    }
}

fn as_items(p: &Pair) -> (Item<'_>, Item<'_>) {
    (Item::Str(p.field()), Item::Str(p.value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn behaves_as_a_hash_map(ops in proptest::collection::vec((0u8..4, 0usize..20, 0usize..30), 1..80)) {
            let limits = Limits { entries: 6, value: 20 };
            let (mut h, mut model) = (Hash::default(), HashMap::new());
            for (op, f, v) in ops {
                let (f, v) = (f.to_string().into_bytes(), vec![b'7'; v]);
                match op {
                    0 => prop_assert_eq!(h.remove(&f), model.remove(&f).is_some()),
                    _ => prop_assert_eq!(h.set(&f, &v, limits), model.insert(f.clone(), v.clone()).is_none()),
                }
                prop_assert_eq!(h.get(&f).map(|i| i.to_vec()), model.get(&f).cloned());
                prop_assert_eq!(h.len(), model.len());
                if v.len() % 3 == 0 && model.contains_key(&f) {
                    h.set_deadline(&f, (v.len() % 2 == 0).then_some(v.len() as u64));
                }
                if v.len() == 7 {
                    for gone in h.take_due(6) {
                        prop_assert!(model.remove(&gone[..]).is_some());
                    }
                    prop_assert!(h.next_deadline().is_none_or(|d| d > 6));
                }
                prop_assert_eq!(h.is_volatile(), h.next_deadline().is_some());
                let all: HashMap<_, _> = h.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
                prop_assert_eq!(&all, &model);
            }
        }
    }
}
