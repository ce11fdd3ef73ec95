//! A hash as readers see it. Where deletions come from elsewhere or may not be
//! made (at replicas, while writing is paused), fields past their deadline stay in
//! the hash, and are hidden.

use super::hash::Hash;
use super::listpack::Item;
use crate::base::clock::UnixMs;
use crate::base::rng::Rng;

/// The fields of a hash that have not ended at a time.
#[derive(Clone, Copy)]
pub struct Shown<'h> {
    hash: &'h Hash,
    now: UnixMs,
    /// How many fields are hidden.
    hidden: usize,
}

/// How often a field is drawn again that turned out to be hidden.
const DRAWS: usize = 16;

impl Hash {
    /// The fields that have not ended at `now`.
    #[inline]
    pub fn shown(&self, now: UnixMs) -> Shown<'_> {
        let hidden = if self.is_volatile() { self.due(now) } else { 0 };
        Shown { hash: self, now, hidden }
    }
}

impl<'h> Shown<'h> {
    #[inline]
    fn has(&self, field: &[u8]) -> bool {
        self.hidden == 0 || self.hash.deadline(field).is_none_or(|d| d > self.now)
    }

    fn has_item(&self, field: &Item) -> bool {
        self.hidden == 0 || field.with(|f| self.has(f))
    }

    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Item<'h>> {
        self.hash.get(field).filter(|_| self.has(field))
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// The deadline of a field that is shown.
    pub fn deadline(&self, field: &[u8]) -> Option<UnixMs> {
        self.hash.deadline(field).filter(|d| *d > self.now)
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.hash.len() - self.hidden
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'h>, Item<'h>)> + Clone + use<'h> {
        let all = *self;
        self.hash.iter().filter(move |(field, _)| all.has_item(field))
    }

    /// Shows all fields with their values; faster than [`Shown::iter`].
    pub fn each(&self, mut f: impl FnMut(Item<'h>, Item<'h>)) {
        if self.hidden == 0 {
            return self.hash.each(f);
        }
        self.iter().for_each(|(field, value)| f(field, value));
    }

    /// A uniformly random field with its value.
    pub fn random(&self, rng: &mut Rng) -> Option<(Item<'h>, Item<'h>)> {
        if self.hidden == 0 {
            return self.hash.random(rng);
        }
        let drawn = (0..DRAWS).find_map(|_| self.hash.random(rng).filter(|(field, _)| self.has_item(field)));
        // Nearly all are hidden: one of the rest is counted off.
        drawn.or_else(|| if self.is_empty() { None } else { self.iter().nth(rng.below(self.len())) })
    }

    /// One step of HSCAN; see [`super::set::Set::scan`].
    pub fn scan(&self, position: u64, count: usize) -> (Vec<(Item<'h>, Item<'h>)>, u64) {
        let (mut found, next) = self.hash.scan(position, count);
        found.retain(|(field, _)| self.has_item(field));
        (found, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hash::Limits;

    /// A hash of `n` fields, every third of which ends at 100.
    fn thirds(n: usize, limits: Limits) -> Hash {
        let mut h = Hash::default();
        for i in 0..n {
            let field = format!("f{i}");
            h.set(field.as_bytes(), i.to_string().as_bytes(), limits);
            if i % 3 == 0 {
                h.set_deadline(field.as_bytes(), Some(100));
            }
        }
        h
    }

    #[test]
    fn what_has_ended_is_hidden_in_every_view() {
        for (n, entries) in [(30, 128), (300, 10)] {
            let h = thirds(n, Limits { entries, value: 64 });
            let (before, after) = (h.shown(99), h.shown(100));
            assert_eq!((before.len(), after.len()), (n, n - n / 3));
            assert!(before.contains(b"f0") && !after.contains(b"f0") && after.contains(b"f1"));
            assert_eq!((before.deadline(b"f0"), after.deadline(b"f0")), (Some(100), None));
            for (view, want) in [(before, n), (after, n - n / 3)] {
                let mut seen = 0;
                view.each(|_, _| seen += 1);
                assert_eq!((view.iter().count(), seen), (want, want));
                let (mut at, mut scanned) = (0, 0);
                loop {
                    let (found, next) = view.scan(at, 10);
                    scanned += found.len();
                    at = next;
                    if at == 0 {
                        break;
                    }
                }
                assert_eq!(scanned, want);
            }
        }
    }

    #[test]
    fn a_random_field_is_one_that_is_shown() {
        let limits = Limits { entries: 10, value: 64 };
        let mut h = thirds(300, limits);
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            let (field, _) = h.shown(100).random(&mut rng).expect("two thirds are there");
            assert!(field.with(|f| h.deadline(f).is_none()));
        }
        for i in 0..299 {
            h.set_deadline(format!("f{i}").as_bytes(), Some(100));
        }
        for _ in 0..100 {
            let (field, _) = h.shown(100).random(&mut rng).expect("the last is there");
            assert_eq!(field.to_vec(), b"f299");
        }
        h.set_deadline(b"f299", Some(100));
        assert!(h.shown(100).random(&mut rng).is_none());
    }
}
