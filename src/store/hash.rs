//! Hash values: few short fields in a listpack, others in a hash table with
//! field and value in one piece.

use super::dict::Dict;
use super::listpack::{Item, Listpack};
use super::member::{Pair, estimate};
use super::undo::Undo;
use crate::base::rng::Rng;
use crate::base::slot::hash_bytes;

/// Thresholds of the compact encoding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    pub value: usize,
}

#[derive(Clone)]
enum Form {
    Packed(Listpack),
    Table(Box<Dict<Pair>>),
}

/// A hash.
#[derive(Clone)]
pub struct Hash(Form);

impl Default for Hash {
    fn default() -> Hash {
        Hash(Form::Packed(Listpack::new()))
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
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(l) => l.len() / 2,
            Form::Table(d) => d.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a snapshot that reads it in steps keeps; none for the compact forms.
    pub fn undo_mut(&mut self) -> Option<&mut Option<Box<Undo<Pair>>>> {
        match &mut self.0 {
            Form::Packed(_) => None,
            Form::Table(d) => Some(d.undo_mut()),
        }
    }

    pub fn undo_id(&self) -> Option<u64> {
        match &self.0 {
            Form::Packed(_) => None,
            Form::Table(d) => d.undo().map(|u| u.id),
        }
    }

    /// One step of a snapshot's reader: about `max` elements; false when that
    /// were the last.
    pub fn read_on(&mut self, max: usize, mut f: impl FnMut(Item, Item)) -> bool {
        match &mut self.0 {
            Form::Packed(_) => false,
            Form::Table(d) => d.read_on(max, hash_of, |p| f(Item::Str(p.field()), Item::Str(p.value()))),
        }
    }

    pub fn memory(&self) -> usize {
        match &self.0 {
            Form::Packed(l) => l.memory(),
            Form::Table(d) => size_of::<Dict<Pair>>() + d.memory() + estimate(d.len(), d.iter().map(Pair::heap)),
        }
    }

    pub fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Packed(_) => 1,
            Form::Table(d) => d.len() + d.tables(),
        }
    }

    /// Becomes a table at once when a command brings words too long, or too
    /// many fields, for the compact encoding.
    pub fn expect(&mut self, words: &[&[u8]], limits: Limits) {
        if matches!(self.0, Form::Packed(_))
            && (words.len() / 2 > limits.entries || words.iter().any(|w| w.len() > limits.value))
        {
            self.become_table();
        }
    }

    fn become_table(&mut self) {
        let mut d = Dict::with_capacity(self.len() + 1);
        for (field, value) in self.iter() {
            field.with(|f| value.with(|v| insert(&mut d, f, v)));
        }
        self.0 = Form::Table(Box::new(d));
    }

    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match &self.0 {
            Form::Packed(l) => Some(l.get(value_at(l, field)?)),
            Form::Table(d) => d.find(hash_bytes(field), |p| p.field() == field).map(|p| Item::Str(p.value())),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Sets a field; true when it is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: Limits) -> bool {
        match &mut self.0 {
            Form::Packed(_) => self.set_packed(field, value, limits),
            Form::Table(d) => match d.find_mut(hash_bytes(field), |p| p.field() == field, hash_of) {
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
        let Form::Packed(l) = &mut self.0 else { return false };
        if field.len().max(value.len()) > limits.value || !l.has_room(field.len() + value.len()) {
            self.become_table();
            return self.set(field, value, limits);
        }
        if let Some(at) = value_at(l, field) {
            l.replace(at, Item::of(value));
            return false;
        }
        l.insert(l.back(), &[Item::of(field), Item::of(value)]);
        if l.len() / 2 > limits.entries {
            self.become_table();
        }
        true
    }

    /// Removes a field; false when it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Form::Packed(l) => match l.find(&Item::of(field), l.first(), 2) {
                Some(at) => {
                    l.remove(at, 2);
                    true
                }
                None => false,
            },
            Form::Table(d) => d.remove(hash_bytes(field), |p| p.field() == field, hash_of).is_some(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> + Clone {
        let (packed, table) = match &self.0 {
            Form::Packed(l) => (Some(l), None),
            Form::Table(d) => (None, Some(d)),
        };
        let pairs = table.into_iter().flat_map(|d| d.iter()).map(as_items);
        packed.into_iter().flat_map(|l| l.pairs()).chain(pairs)
    }

    /// A hash of this encoding: distinct fields and values by turns, canonical.
    pub fn from_packed(pairs: Listpack) -> Hash {
        Hash(Form::Packed(pairs))
    }

    /// Becomes a table at once when so many fields are too many for the
    /// compact encoding.
    pub fn expect_fields(&mut self, n: usize, limits: Limits) {
        if matches!(self.0, Form::Packed(_)) && n > limits.entries {
            self.become_table();
        }
    }

    /// The hash as a listpack of fields and values by turns, if it is one.
    pub fn packed(&self) -> Option<&Listpack> {
        if let Form::Packed(l) = &self.0 { Some(l) } else { None }
    }

    /// A uniformly random field with its value.
    pub fn random(&self, rng: &mut Rng) -> Option<(Item<'_>, Item<'_>)> {
        match &self.0 {
            Form::Packed(l) => {
                let at = l.seek(rng.below(self.len()) * 2)?;
                Some((l.get(at), l.get(l.next(at)?)))
            }
            Form::Table(d) => d.random(rng).map(as_items),
        }
    }

    /// One step of HSCAN; see [`super::set::Set::scan`].
    pub fn scan(&self, position: u64, count: usize) -> (Vec<(Item<'_>, Item<'_>)>, u64) {
        let Form::Table(d) = &self.0 else { return (self.iter().collect(), 0) };
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
                    _ => prop_assert_eq!(h.set(&f, &v, limits), model.insert(f.clone(), v).is_none()),
                }
                prop_assert_eq!(h.get(&f).map(|i| i.to_vec()), model.get(&f).cloned());
                prop_assert_eq!(h.len(), model.len());
                let all: HashMap<_, _> = h.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
                prop_assert_eq!(&all, &model);
            }
        }
    }
}
