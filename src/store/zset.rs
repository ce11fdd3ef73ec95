//! Sorted sets: few short members in a listpack of member and score by turns,
//! others in a slab of members, found by a hash table of their ids and ordered
//! by a counted tree of scores and ids.
//!
//! Order is by score, then by the members' bytes. Ranks count from 0 in that
//! order. Invariant of the large form: slab, table and tree hold the same ids.

pub mod loading;

use std::cmp::Ordering;

use super::ahead::{Depth, follow};
use super::dict::Dict;
use super::listpack::{Item, Listpack};
use super::member::{Member, estimate};
use super::mover::{Movable, Mover, Spot, index};
use super::ranked::{Ranked, Tree};
use super::thin::Lean;
use super::undo;
use crate::base::memory::block_size;
use crate::base::num::format_f64;
use crate::base::rng::Rng;
use crate::base::slot::hash_bytes;

/// Thresholds of the compact encoding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    pub value: usize,
}

/// What [`ZSet::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Added,
    Changed,
    Same,
}

const CHUNK: usize = 128;

/// Unused places dropped at most for one removed.
const COMPACT_STEPS: usize = 4;

#[derive(Clone)]
struct Place {
    member: Member,
    score: f64,
    used: bool,
}

/// Members by id, in chunks so that growth moves nothing. Ids of removed
/// members are used again; `free` may name ids beyond the end, which count for
/// nothing. The slab only grows when `free` is empty.
#[derive(Clone, Default)]
struct Slab {
    chunks: Vec<Vec<Place>>,
    len: usize,
    free: Vec<u32>,
}

impl Slab {
    #[inline]
    fn get(&self, id: u32) -> &Place {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    #[inline]
    fn get_mut(&mut self, id: u32) -> &mut Place {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    #[inline]
    fn bytes(&self, id: u32) -> &[u8] {
        self.get(id).member.bytes()
    }

    fn add(&mut self, member: &[u8], score: f64) -> u32 {
        let place = Place { member: Member::new(member), score, used: true };
        while let Some(id) = self.free.pop() {
            if (id as usize) < self.len {
                *self.get_mut(id) = place;
                return id;
            }
        }
        self.append(place, if self.len == 0 { CHUNK / 4 } else { CHUNK })
    }

    /// Adds a place at the end; a chunk that it begins has room for so many.
    fn append(&mut self, place: Place, room: usize) -> u32 {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(room.clamp(1, CHUNK)));
        }
        let chunk = &mut self.chunks[self.len / CHUNK];
        if chunk.len() == chunk.capacity() {
            // Twice as many, but never more than a chunk has.
            chunk.reserve_exact(chunk.len().clamp(1, CHUNK - chunk.len()));
        }
        chunk.push(place);
        self.len += 1;
        (self.len - 1) as u32
    }

    fn remove(&mut self, id: u32) -> Place {
        self.free.push(id);
        std::mem::replace(self.get_mut(id), Place { member: Member::default(), score: 0.0, used: false })
    }

    fn pop(&mut self) -> Option<Place> {
        let last = self.chunks.last_mut()?.pop();
        self.len -= 1;
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.pop();
        }
        last
    }

    /// One step of giving memory back when most places are unused: the last
    /// place, if used, moves to an unused one. Its old and new id.
    fn compact(&mut self) -> Option<(u32, u32)> {
        if self.free.len() <= self.len / 2 + CHUNK {
            return None;
        }
        if self.free.len() > self.len {
            let len = self.len;
            self.free.retain(|&id| (id as usize) < len);
            self.free.shrink_to(2 * self.free.len());
        }
        let last = (0..COMPACT_STEPS).find_map(|_| self.pop().filter(|p| p.used))?;
        let from = self.len as u32;
        let to = loop {
            match self.free.pop() {
                Some(id) if (id as usize) < self.len => break id,
                Some(_) => {}
                None => return Some((from, self.restore(last))),
            }
        };
        *self.get_mut(to) = last;
        Some((from, to))
    }

    fn restore(&mut self, last: Place) -> u32 {
        let id = self.add(&[], last.score);
        *self.get_mut(id) = last;
        id
    }

    fn memory(&self) -> usize {
        let places: usize = self.chunks.iter().map(|c| block_size(c.capacity() * size_of::<Place>())).sum();
        let heap = estimate(self.len, self.chunks.iter().flatten().map(|p| p.member.heap()));
        let lists = block_size(self.chunks.capacity() * size_of::<Vec<Place>>());
        places + heap + lists + block_size(self.free.capacity() * 4)
    }
}

#[derive(Clone, Default)]
struct Sorted {
    slab: Slab,
    ids: Dict<u32>,
    tree: Tree,
    /// Kept for a snapshot: members with their scores. (That of `ids` is not used.)
    undo: undo::Slot<(Member, f64)>,
}

/// The order of scores, in which there is no NaN.
#[inline]
pub fn cmp_scores(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

impl Sorted {
    #[inline]
    fn find(&self, member: &[u8]) -> Option<u32> {
        self.ids.find(hash_bytes(member), |&id| self.slab.bytes(id) == member).copied()
    }

    /// Prefetches the place of the member with a hash.
    #[inline]
    fn prefetch(&self, hash: u64, depth: Depth) {
        let place = |&id: &u32| Some(std::ptr::from_ref(self.slab.get(id)).cast());
        self.ids.guesses(hash, |id| follow(id, place, depth));
    }

    fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.tree
            .partition(|r| cmp_scores(r.score, score).then_with(|| self.slab.bytes(r.id).cmp(member)) == Ordering::Less)
    }

    fn link(&mut self, score: f64, id: u32) {
        let slab = &self.slab;
        let member = slab.bytes(id);
        let before =
            |r: Ranked| cmp_scores(r.score, score).then_with(|| slab.bytes(r.id).cmp(member)) == Ordering::Less;
        self.tree.insert(Ranked { score, id }, before);
    }

    /// Saves what stands under a member's hash, if that is owed to a snapshot.
    #[cold]
    fn save(&mut self, hash: u64) {
        let Some(undo) = &mut self.undo.0 else { return };
        if !undo.owes(hash) || undo::omitted(undo::Saving::Score) {
            return;
        }
        let slab = &self.slab;
        self.ids.each_of(
            hash,
            |&id| hash_bytes(slab.bytes(id)),
            |&id| undo.save((slab.get(id).member.clone(), slab.get(id).score)),
        );
        undo.mark(hash);
    }

    /// One step of a snapshot's reader; see [`Dict::read_on`].
    fn read_on(&mut self, max: usize, mut f: impl FnMut(Item, f64)) -> bool {
        let Some(undo) = &mut self.undo.0 else { return false };
        let mut n = 0;
        while n < max
            && let Some((member, score)) = undo.take_saved()
        {
            f(Item::Str(member.bytes()), score);
            n += 1;
        }
        if n < max
            && let Some(from) = undo.cursor()
        {
            let slab = &self.slab;
            let hash_of = |&id: &u32| hash_bytes(slab.bytes(id));
            let mut found = Vec::new();
            let next = self.ids.scan(from, max - n, hash_of, &mut found);
            for id in found.into_iter().filter(|id| undo.owes(hash_of(id))) {
                let place = slab.get(*id);
                f(Item::Str(place.member.bytes()), place.score);
            }
            undo.advance(next);
        }
        let more = !undo.is_done();
        if !more {
            undo.debt.pay();
            self.undo.0 = None;
        }
        more
    }

    fn insert(&mut self, member: &[u8], score: f64) {
        if self.undo.0.is_some() {
            self.save(hash_bytes(member));
        }
        let id = self.slab.add(member, score);
        let slab = &self.slab;
        self.ids.insert(hash_bytes(member), id, |&id| hash_bytes(slab.bytes(id)));
        self.link(score, id);
    }

    fn rescore(&mut self, id: u32, score: f64) {
        if self.undo.0.is_some() {
            self.save(hash_bytes(self.slab.bytes(id)));
        }
        let place = self.slab.get(id);
        let rank = self.rank(place.score, place.member.bytes());
        self.tree.take(rank);
        self.slab.get_mut(id).score = score;
        self.link(score, id);
    }

    /// Removes the element of a rank.
    fn take(&mut self, rank: usize) -> (Member, f64) {
        let id = self.tree.take(rank).id;
        let hash = hash_bytes(self.slab.bytes(id));
        if self.undo.0.is_some() {
            self.save(hash);
        }
        let slab = &self.slab;
        self.ids.remove(hash, |&x| x == id, |&id| hash_bytes(slab.bytes(id)));
        let gone = self.slab.remove(id);
        self.compact();
        (gone.member, gone.score)
    }

    fn compact(&mut self) {
        let Some((from, to)) = self.slab.compact() else { return };
        let place = self.slab.get(to);
        let rank = self.rank_of_moved(place, from, to);
        self.tree.set_id(rank, to);
        let hash = hash_bytes(self.slab.bytes(to));
        let slab = &self.slab;
        if let Some(id) = self.ids.find_mut(hash, |&id| id == from, |&id| hash_bytes(slab.bytes(id))) {
            *id = to;
        }
    }

    /// The rank of an element that the tree still knows under its old id.
    fn rank_of_moved(&self, place: &Place, from: u32, to: u32) -> usize {
        let current = |id: u32| if id == from { to } else { id };
        self.tree.partition(|r| {
            let order = || self.slab.bytes(current(r.id)).cmp(place.member.bytes());
            cmp_scores(r.score, place.score).then_with(order) == Ordering::Less
        })
    }
}

#[derive(Clone)]
enum Form {
    Packed(Listpack),
    Sorted(Lean<Sorted>),
}

/// Members with their scores, for a snapshot.
type Undo = undo::Undo<(Member, f64)>;

/// A sorted set.
#[derive(Clone)]
pub struct ZSet(Form);

impl Default for ZSet {
    fn default() -> ZSet {
        ZSet(Form::Packed(Listpack::new()))
    }
}

/// The score in a listpack.
#[inline]
fn score_of(item: Item) -> f64 {
    match item {
        Item::Int(v) => v as f64,
        Item::Str(s) => std::str::from_utf8(s).ok().and_then(|s| s.parse().ok()).unwrap_or(0.0),
    }
}

fn with_score<R>(score: f64, f: impl FnOnce(Item) -> R) -> R {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if score == score.trunc() && score.abs() < EXACT {
        f(Item::Int(score as i64))
    } else {
        f(Item::of(format_f64(score).as_bytes()))
    }
}

/// The place of a member in a listpack, and its score.
fn find_packed(l: &Listpack, member: &[u8]) -> Option<(usize, f64)> {
    let at = l.find(&Item::of(member), l.first(), 2)?;
    Some((at, score_of(l.get(l.next(at)?))))
}

fn insert_packed(l: &mut Listpack, member: &[u8], score: f64) {
    let mut at = l.first();
    while let Some(p) = at {
        let Some(s) = l.next(p) else { break };
        let order = cmp_scores(score_of(l.get(s)), score).then_with(|| l.get(p).cmp_bytes(member));
        if order == Ordering::Greater {
            break;
        }
        at = l.next(s);
    }
    let at = at.unwrap_or(l.back());
    with_score(score, |s| l.insert(at, &[Item::of(member), s]));
}

/// From here on, a [`Spot`] is a rank.
const TREE: Spot = 1 << 64;

impl ZSet {
    /// Moves memory that lies where much is free: of some members first, by their
    /// ids, and then of the tree, by ranks. Where to go on, if there is more.
    pub(super) fn relocate(&mut self, from: Spot, mover: &mut Mover) -> Option<Spot> {
        let sorted = match &mut self.0 {
            Form::Packed(l) => {
                l.relocate(mover);
                return None;
            }
            Form::Sorted(s) => s,
        };
        if from == 0 {
            sorted.relocate(mover);
        }
        let Sorted { slab, tree, .. } = &mut **sorted;
        if from < TREE
            && let Some(chunk) = slab.chunks.get_mut(index(from))
        {
            mover.vec(chunk);
            chunk.iter_mut().for_each(|p| p.member.relocate(mover));
            return Some(from + 1);
        }
        let rank = index(from.saturating_sub(TREE));
        let next = if rank < tree.len() { tree.relocate(rank, mover) } else { None };
        next.map(|rank| TREE + rank as Spot)
    }

    /// Prefetches the member with a hash; the compact form is read whole.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64, depth: Depth) {
        if let Form::Sorted(s) = &self.0 {
            s.prefetch(hash, depth);
        }
    }

    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Packed(_) => "listpack",
            Form::Sorted(_) => "skiplist",
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(l) => l.len() / 2,
            Form::Sorted(s) => s.tree.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a snapshot that reads it in steps keeps; none for the compact form.
    pub fn undo_mut(&mut self) -> Option<&mut Option<Box<Undo>>> {
        match &mut self.0 {
            Form::Packed(_) => None,
            Form::Sorted(s) => Some(&mut s.undo.0),
        }
    }

    pub fn undo_id(&self) -> Option<u64> {
        match &self.0 {
            Form::Packed(_) => None,
            Form::Sorted(s) => s.undo.0.as_ref().map(|u| u.id),
        }
    }

    /// One step of a snapshot's reader: about `max` elements; false when that
    /// were the last.
    pub fn read_on(&mut self, max: usize, f: impl FnMut(Item, f64)) -> bool {
        match &mut self.0 {
            Form::Packed(_) => false,
            Form::Sorted(s) => s.read_on(max, f),
        }
    }

    pub fn memory(&self) -> usize {
        match &self.0 {
            Form::Packed(l) => l.memory(),
            Form::Sorted(s) => block_size(size_of::<Sorted>()) + s.slab.memory() + s.ids.memory() + s.tree.nodes().1,
        }
    }

    pub fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Packed(_) => 1,
            Form::Sorted(s) => s.slab.len,
        }
    }

    /// Becomes large at once when `n` members to be added, or the longest of
    /// them, do not fit the compact encoding.
    pub fn expect(&mut self, n: usize, longest: usize, limits: Limits) {
        if matches!(self.0, Form::Packed(_)) && (n > limits.entries || longest > limits.value) {
            self.enlarge();
        }
    }

    fn enlarge(&mut self) {
        let mut sorted = Sorted::default();
        self.each(0, usize::MAX, false, |member, score| member.with(|m| sorted.insert(m, score)));
        self.0 = Form::Sorted(Lean::new(sorted));
    }

    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Packed(l) => find_packed(l, member).map(|(_, score)| score),
            Form::Sorted(s) => s.find(member).map(|id| s.slab.get(id).score),
        }
    }

    /// Adds a member or changes its score.
    pub fn put(&mut self, member: &[u8], score: f64, limits: Limits) -> Put {
        match &mut self.0 {
            Form::Packed(l) => match find_packed(l, member) {
                Some((_, old)) if old == score => return Put::Same,
                Some((at, _)) => {
                    l.remove(at, 2);
                    insert_packed(l, member, score);
                    return Put::Changed;
                }
                None if l.len() / 2 < limits.entries && member.len() <= limits.value && l.has_room(member.len()) => {
                    insert_packed(l, member, score);
                    return Put::Added;
                }
                None => {}
            },
            Form::Sorted(s) => match s.find(member) {
                Some(id) if s.slab.get(id).score == score => return Put::Same,
                Some(id) => {
                    s.rescore(id, score);
                    return Put::Changed;
                }
                None => {
                    s.insert(member, score);
                    return Put::Added;
                }
            },
        }
        self.enlarge();
        self.put(member, score, limits)
    }

    /// Removes a member; false when it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Packed(l) => match find_packed(l, member) {
                Some((at, _)) => l.remove(at, 2),
                None => return false,
            },
            Form::Sorted(s) => match s.find(member) {
                Some(id) => {
                    let rank = s.rank(s.slab.get(id).score, member);
                    s.take(rank);
                }
                None => return false,
            },
        }
        true
    }

    /// Rank and score of a member.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Form::Packed(l) => {
                let rank = l.pairs().position(|(m, _)| m == Item::of(member))?;
                Some((rank, find_packed(l, member)?.1))
            }
            Form::Sorted(s) => {
                let score = s.slab.get(s.find(member)?).score;
                Some((s.rank(score, member), score))
            }
        }
    }

    /// Number of elements for which `before` holds; it must hold for a prefix
    /// of the order.
    pub fn partition(&self, before: impl Fn(f64, Item) -> bool) -> usize {
        match &self.0 {
            Form::Packed(l) => l.pairs().take_while(|&(m, s)| before(score_of(s), m)).count(),
            Form::Sorted(s) => s.tree.partition(|r| before(r.score, Item::Str(s.slab.bytes(r.id)))),
        }
    }

    /// Calls `f` with up to `n` elements from the rank `start` on; with `back`
    /// they descend.
    pub fn each(&self, start: usize, n: usize, back: bool, mut f: impl FnMut(Item, f64)) {
        match &self.0 {
            Form::Packed(l) => {
                let mut at = l.seek(start.saturating_mul(2));
                for _ in 0..n {
                    let Some(p) = at else { return };
                    let (member, s) = l.read(p);
                    let (score, end) = l.read(s);
                    f(member, score_of(score));
                    at = if back { l.prev(p).and_then(|s| l.prev(s)) } else { l.valid(end) };
                }
            }
            Form::Sorted(s) => {
                s.tree.iter(start, back).take(n).for_each(|r| f(Item::Str(s.slab.bytes(r.id)), r.score));
            }
        }
    }

    /// Members with their scores, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, f64)> + Clone {
        let (packed, sorted) = match &self.0 {
            Form::Packed(l) => (Some(l), None),
            Form::Sorted(s) => (None, Some(s)),
        };
        let packed = packed.into_iter().flat_map(|l| l.pairs().map(|(m, s)| (m, score_of(s))));
        let sorted =
            sorted.into_iter().flat_map(|s| s.tree.iter(0, false).map(|r| (Item::Str(s.slab.bytes(r.id)), r.score)));
        packed.chain(sorted)
    }

    /// Takes the element of a rank out, after `f` has seen it.
    pub fn pop<R>(&mut self, rank: usize, f: impl FnOnce(Item, f64) -> R) -> Option<R> {
        match &mut self.0 {
            Form::Packed(l) => {
                let at = l.seek(rank.checked_mul(2)?)?;
                let seen = f(l.get(at), score_of(l.get(l.next(at)?)));
                l.remove(at, 2);
                Some(seen)
            }
            Form::Sorted(s) => {
                if rank >= s.tree.len() {
                    return None;
                }
                let (member, score) = s.take(rank);
                Some(f(Item::Str(member.bytes()), score))
            }
        }
    }

    /// Removes `n` elements from the rank `start` on.
    pub fn remove_range(&mut self, start: usize, n: usize) {
        match &mut self.0 {
            Form::Packed(l) => {
                if let Some(at) = l.seek(start.saturating_mul(2)) {
                    l.remove(at, n.saturating_mul(2));
                }
            }
            Form::Sorted(s) => {
                for _ in 0..n.min(s.tree.len().saturating_sub(start)) {
                    s.take(start);
                }
            }
        }
    }

    /// A sorted set of this encoding: distinct members and scores by turns,
    /// canonical and in order.
    pub fn from_packed(pairs: Listpack) -> ZSet {
        ZSet(Form::Packed(pairs))
    }

    /// The set as a listpack of members and scores by turns, if it is one.
    pub fn packed(&self) -> Option<&Listpack> {
        if let Form::Packed(l) = &self.0 { Some(l) } else { None }
    }

    /// A uniformly random member with its score.
    pub fn random(&self, rng: &mut Rng) -> Option<(Item<'_>, f64)> {
        match &self.0 {
            Form::Packed(l) => {
                let at = l.seek(rng.below(self.len()) * 2)?;
                Some((l.get(at), score_of(l.get(l.next(at)?))))
            }
            Form::Sorted(s) => s.ids.random(rng).map(|&id| s.element(id)),
        }
    }

    /// One step of ZSCAN; see [`super::set::Set::scan`].
    pub fn scan(&self, position: u64, count: usize) -> (Vec<(Item<'_>, f64)>, u64) {
        let Form::Sorted(s) = &self.0 else { return (self.iter().collect(), 0) };
        let mut found = Vec::new();
        let next = s.ids.scan(position, count, |&id| hash_bytes(s.slab.bytes(id)), &mut found);
        (found.into_iter().map(|&id| s.element(id)).collect(), next)
    }
}

impl Sorted {
    fn element(&self, id: u32) -> (Item<'_>, f64) {
        let place = self.slab.get(id);
        (Item::Str(place.member.bytes()), place.score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const LIMITS: Limits = Limits { entries: 8, value: 30 };

    fn sorted(model: &HashMap<Vec<u8>, i64>) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = model.iter().map(|(m, &s)| (s, m.clone())).collect();
        all.sort();
        all.into_iter().map(|(s, m)| (m, s as f64 / 4.0)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_sorted_map(ops in proptest::collection::vec((0u8..7, 0i64..400, -8i64..8), 1..600)) {
            let (mut z, mut model) = (ZSet::default(), HashMap::new());
            for (i, (op, m, score)) in ops.into_iter().enumerate() {
                let m = m.to_string().into_bytes();
                match op {
                    0 => prop_assert_eq!(z.remove(&m), model.remove(&m).is_some()),
                    1 if score == 0 => {
                        let all = sorted(&model);
                        let n = all.len() / 3;
                        z.remove_range(n, n);
                        all[n..2 * n].iter().for_each(|(m, _)| { model.remove(m); });
                    }
                    _ => {
                        let want = match model.insert(m.clone(), score) {
                            None => Put::Added,
                            Some(old) if old == score => Put::Same,
                            Some(_) => Put::Changed,
                        };
                        prop_assert_eq!(z.put(&m, score as f64 / 4.0, LIMITS), want);
                    }
                }
                prop_assert_eq!(z.len(), model.len());
                prop_assert_eq!(z.score(&m), model.get(&m).map(|&s| s as f64 / 4.0));
                if i % 20 == 0 {
                    let all = sorted(&model);
                    let found: Vec<_> = z.iter().map(|(m, s)| (m.to_vec(), s)).collect();
                    prop_assert_eq!(&found, &all);
                    let rank = all.iter().position(|x| x.0 == m);
                    prop_assert_eq!(z.rank(&m).map(|r| r.0), rank);
                    let mut back = Vec::new();
                    z.each(all.len().saturating_sub(2), 3, true, |m, s| back.push((m.to_vec(), s)));
                    prop_assert!(back.iter().eq(all.iter().rev().skip(1).take(3)) || all.len() < 2);
                }
            }
        }
    }

    #[test]
    fn memory_is_given_back_when_most_members_are_gone() {
        let mut z = ZSet::default();
        let n = 20_000;
        (0..n).for_each(|i| {
            z.put(format!("member-with-a-long-name:{i}").as_bytes(), f64::from(i % 97), LIMITS);
        });
        let full = z.memory();
        let mut last = f64::MIN;
        for left in (500..n).rev() {
            let score = z.pop(0, |_, s| s).unwrap();
            assert!(score >= last);
            last = score;
            assert_eq!(z.len(), left as usize);
        }
        assert!(z.memory() < full / 8, "{} of {full}", z.memory());
        let all: Vec<_> = z.iter().map(|(m, s)| (m.to_vec(), s)).collect();
        assert_eq!(all.len(), 500);
        all.iter().for_each(|(m, s)| assert_eq!(z.score(m), Some(*s)));
    }
}
