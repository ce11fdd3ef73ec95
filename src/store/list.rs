//! List values: one listpack while small, then a sequence of listpacks (with
//! nodes of their own for huge elements).
//!
//! Invariants: no node is empty; `len` is the number of elements of all nodes;
//! a list that is not `quick` has at most one node, and that is packed.

use std::collections::VecDeque;

use super::list_undo::{ListUndo, Place, Slot};
use super::listpack::{self, Item, Listpack};
use super::mover::{Movable, Mover, Spot, index};
use super::undo::Debt;
use crate::base::memory::block_size;

/// `list-max-listpack-size`: how much goes into one node.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    bytes: usize,
    entries: usize,
    /// Is the setting a number of entries?
    counted: bool,
}

impl Fill {
    /// Negative settings are sizes from 4 KiB to 64 KiB, others numbers of
    /// entries (of at most 8 KiB).
    pub fn new(setting: i64) -> Fill {
        if setting < 0 {
            let step = setting.max(-5).unsigned_abs() as u32 - 1;
            return Fill { bytes: 4096 << step, entries: usize::MAX, counted: false };
        }
        Fill { bytes: 8192, entries: (setting as usize).max(1), counted: true }
    }

    /// The same with nodes of no more than `bytes`.
    pub fn at_most(self, bytes: usize) -> Fill {
        Fill { bytes: self.bytes.min(bytes), ..self }
    }

    /// Does a node take one more element of `len` bytes? By Redis's estimate,
    /// so that DUMP payloads divide lists at the same places.
    fn takes(&self, node: &Listpack, len: usize) -> bool {
        const ENTRY_OVERHEAD: usize = 8;
        node.size() + len + ENTRY_OVERHEAD <= self.bytes && node.len() < self.entries
    }

    fn huge(&self, value: &[u8]) -> bool {
        value.len() > self.bytes
    }
}

#[derive(Clone)]
enum Node {
    Packed(Listpack),
    Plain(Box<[u8]>),
}

/// A node of a list as its readers see it.
pub enum NodeRef<'a> {
    /// Several elements.
    Packed(&'a Listpack),
    /// One huge element.
    Plain(&'a [u8]),
}

impl Node {
    fn of(value: &[u8], fill: Fill) -> Node {
        if fill.huge(value) {
            return Node::Plain(value.into());
        }
        let mut l = Listpack::new();
        l.push_back(Item::of(value));
        Node::Packed(l)
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            Node::Packed(l) => l.len(),
            Node::Plain(_) => 1,
        }
    }

    /// The node, if an element of `len` bytes can be added to it.
    #[inline]
    fn room(&mut self, len: usize, quick: bool, fill: Fill) -> Option<&mut Listpack> {
        match self {
            Node::Packed(l) if !quick || fill.takes(l, len) => Some(l),
            _ => None,
        }
    }
}

/// A list.
#[derive(Clone, Default)]
pub struct List {
    nodes: VecDeque<Node>,
    len: usize,
    quick: bool,
    undo: Slot<Node>,
}

/// Which end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

impl Movable for Node {
    fn relocate(&mut self, mover: &mut Mover) {
        match self {
            Node::Packed(l) => l.relocate(mover),
            Node::Plain(bytes) => mover.bytes(bytes),
        }
    }
}

/// Nodes moved in one step: some 8 KB each.
const NODES_AT_ONCE: usize = 16;

impl List {
    /// Moves memory that lies where much is free, of some nodes; the next, if
    /// there is one.
    pub(super) fn relocate(&mut self, from: Spot, mover: &mut Mover) -> Option<Spot> {
        let from = index(from).min(self.nodes.len());
        let end = (from + NODES_AT_ONCE).min(self.nodes.len());
        self.nodes.range_mut(from..end).for_each(|n| n.relocate(mover));
        (end < self.nodes.len()).then_some(end as Spot)
    }

    pub fn encoding(&self) -> &'static str {
        if self.quick { "quicklist" } else { "listpack" }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn memory(&self) -> usize {
        let one = |n: &Node| match n {
            Node::Packed(l) => l.memory(),
            Node::Plain(b) => block_size(b.len()),
        };
        block_size(self.nodes.capacity() * size_of::<Node>()) + self.nodes.iter().map(one).sum::<usize>()
    }

    pub fn free_effort(&self) -> usize {
        self.nodes.len() + 1
    }

    /// From now on the list keeps what a snapshot needs to read it in steps.
    pub fn begin_undo(&mut self, id: u64, debt: Debt) {
        self.undo.0 = Some(Box::new(ListUndo::new(id, self.nodes.len(), debt)));
    }

    pub fn undo_id(&self) -> Option<u64> {
        self.undo.0.as_ref().map(|u| u.id)
    }

    /// Nobody reads the list in steps any more.
    pub fn end_undo(&mut self) {
        if let Some(mut u) = self.undo.0.take() {
            u.debt.pay();
        }
    }

    /// One step of a snapshot's reader: about `max` elements of the list as it
    /// was, in order; false when that were the last.
    pub fn read_on(&mut self, max: usize, mut f: impl FnMut(Item)) -> bool {
        let mut n = 0;
        while n < max
            && let Some(undo) = &mut self.undo.0
        {
            let saved = match undo.read_next() {
                Place::End => break,
                Place::Saved(node) => Some(node),
                Place::At(i) => {
                    n += each_of(&self.nodes[i], &mut f);
                    None
                }
            };
            n += saved.map_or(0, |node| each_of(&node, &mut f));
        }
        let more = self.undo.0.as_ref().is_some_and(|u| !u.is_done());
        if !more {
            self.end_undo();
        }
        more
    }

    /// Before a node changes in place.
    #[inline]
    fn before_change(&mut self, node: usize) {
        if let Some(u) = &mut self.undo.0
            && let Some(n) = self.nodes.get(node)
        {
            u.change(node, n);
        }
    }

    #[inline]
    fn before_change_at(&mut self, end: End) {
        if self.undo.0.is_some() {
            self.before_change(if end == End::Left { 0 } else { self.nodes.len().saturating_sub(1) });
        }
    }

    fn insert_node(&mut self, at: usize, node: Node) {
        self.nodes.insert(at, node);
        if let Some(u) = &mut self.undo.0 {
            u.insert(at);
        }
    }

    fn remove_node(&mut self, at: usize) {
        if let Some(node) = self.nodes.remove(at)
            && let Some(u) = &mut self.undo.0
        {
            u.remove(at, node);
        }
    }

    /// Becomes a quicklist if `count` more elements of `bytes` in total would
    /// not fit into one listpack.
    pub fn prepare(&mut self, bytes: usize, count: usize, fill: Fill) {
        if self.quick {
            return;
        }
        let size = match self.nodes.front() {
            Some(Node::Packed(l)) => l.size(),
            _ => 0,
        };
        self.quick = size + bytes > fill.bytes || self.len + count > fill.entries;
    }

    /// Becomes a listpack again when one node is left within the limits, or
    /// within half of them for a list that shrinks.
    pub fn relax(&mut self, shrinking: bool, fill: Fill) {
        if !self.quick || self.nodes.len() > 1 {
            return;
        }
        let part = if shrinking { 2 } else { 1 };
        let fits = match self.nodes.front() {
            Some(Node::Packed(l)) if fill.counted => l.len() <= fill.entries / part,
            Some(Node::Packed(l)) => l.size() <= fill.bytes / part,
            Some(Node::Plain(_)) => false,
            None => true,
        };
        self.quick = !fits;
    }

    #[inline]
    pub fn push(&mut self, end: End, value: &[u8], fill: Fill) {
        let item = Item::of(value);
        let quick = self.quick;
        self.before_change_at(end);
        self.len += 1;
        let node = match end {
            End::Left => self.nodes.front_mut(),
            End::Right => self.nodes.back_mut(),
        };
        match (node.and_then(|n| n.room(value.len(), quick, fill)), end) {
            (Some(l), End::Left) => l.push_front(item),
            (Some(l), End::Right) => l.push_back(item),
            (None, _) => self.push_node(end, value, fill),
        }
    }

    fn push_node(&mut self, end: End, value: &[u8], fill: Fill) {
        let fresh = Node::of(value, fill);
        if self.nodes.is_empty() {
            // Most lists never need a second node.
            self.nodes.reserve_exact(1);
        }
        let at = if end == End::Left { 0 } else { self.nodes.len() };
        self.insert_node(at, fresh);
    }

    /// Takes the element at one end off, after `f` has seen it.
    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Item) -> R) -> Option<R> {
        self.before_change_at(end);
        let node = match end {
            End::Left => self.nodes.front_mut()?,
            End::Right => self.nodes.back_mut()?,
        };
        let (seen, emptied) = match node {
            Node::Plain(b) => (f(Item::Str(b)), true),
            Node::Packed(l) => {
                let at = if end == End::Left { l.first() } else { l.last() }?;
                let seen = f(l.get(at));
                l.remove(at, 1);
                (seen, l.is_empty())
            }
        };
        self.len -= 1;
        if emptied {
            let last = self.nodes.len() - 1;
            self.remove_node(if end == End::Left { 0 } else { last });
        }
        Some(seen)
    }

    /// The node that holds the element `index`, and its place in it; found
    /// from the nearer end.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index <= self.len / 2 {
            let mut left = index;
            for (i, node) in self.nodes.iter().enumerate() {
                let n = node.len();
                if left < n {
                    return Some((i, left));
                }
                left -= n;
            }
            return None;
        }
        let mut before = self.len;
        for (i, node) in self.nodes.iter().enumerate().rev() {
            before -= node.len();
            if index >= before {
                return Some((i, index - before));
            }
        }
        None
    }

    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        let (node, place) = self.locate(index)?;
        match &self.nodes[node] {
            Node::Plain(b) => Some(Item::Str(b)),
            Node::Packed(l) => Some(l.get(l.seek(place)?)),
        }
    }

    /// Calls `f` with up to `n` elements from `start` on.
    #[inline]
    pub fn each(&self, start: usize, n: usize, mut f: impl FnMut(Item)) {
        let Some((first, mut place)) = self.locate(start) else { return };
        let mut left = n;
        for node in self.nodes.range(first..) {
            if left == 0 {
                return;
            }
            match node {
                Node::Plain(b) => {
                    f(Item::Str(b));
                    left -= 1;
                }
                Node::Packed(l) => {
                    let Some(at) = l.seek(place) else { return };
                    for item in l.iter_from(at).take(left) {
                        f(item);
                        left -= 1;
                    }
                }
            }
            place = 0;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> + Clone {
        self.nodes.iter().flat_map(|n| match n {
            Node::Packed(l) => Elements::Packed(l.iter()),
            Node::Plain(b) => Elements::Plain(Some(b)),
        })
    }

    pub fn iter_back(&self) -> impl Iterator<Item = Item<'_>> + Clone {
        self.nodes.iter().rev().flat_map(|n| {
            let (packed, plain) = match n {
                Node::Packed(l) => (Some(l), None),
                Node::Plain(b) => (None, Some(Item::Str(b))),
            };
            packed.into_iter().flat_map(|l| l.iter_back()).chain(plain)
        })
    }

    /// Adds a node of canonical elements at the end, if there are any; the list
    /// becomes a quicklist ([`List::relax`] makes it a listpack again).
    pub fn push_packed(&mut self, node: Listpack) {
        self.quick = true;
        let n = node.len();
        if n > 0 {
            if self.nodes.is_empty() {
                // Most lists never need a second node.
                self.nodes.reserve_exact(1);
            }
            self.insert_node(self.nodes.len(), Node::Packed(node));
            self.len += n;
        }
    }

    /// Adds a node of one huge element at the end, likewise.
    pub fn push_plain(&mut self, value: Vec<u8>) {
        self.quick = true;
        self.insert_node(self.nodes.len(), Node::Plain(value.into()));
        self.len += 1;
    }

    /// The nodes, first to last.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeRef<'_>> {
        self.nodes.iter().map(|n| match n {
            Node::Packed(l) => NodeRef::Packed(l),
            Node::Plain(b) => NodeRef::Plain(b),
        })
    }

    /// Replaces the element `index`, which exists.
    pub fn set(&mut self, index: usize, value: &[u8], fill: Fill) {
        let Some((node, place)) = self.locate(index) else { return };
        let (item, quick) = (Item::of(value), self.quick);
        self.before_change(node);
        match &mut self.nodes[node] {
            Node::Packed(l) if !quick || l.size() + item.entry_len() <= fill.bytes => {
                if let Some(at) = l.seek(place) {
                    l.replace(at, item);
                }
            }
            n if n.len() == 1 => *n = Node::of(value, fill),
            _ => {
                self.remove(index, 1);
                self.insert(index, value, fill);
            }
        }
    }

    /// Inserts an element before the element `index`, or at the end.
    pub fn insert(&mut self, index: usize, value: &[u8], fill: Fill) {
        let Some((node, place)) = self.locate(index) else { return self.push(End::Right, value, fill) };
        let (item, quick) = (Item::of(value), self.quick);
        self.before_change(node);
        self.len += 1;
        if let Some(l) = self.nodes[node].room(value.len(), quick, fill)
            && let Some(at) = l.seek(place)
        {
            return l.insert(at, &[item]);
        }
        self.split(node, place);
        // The first half, or the node before the untouched one, may have room now.
        let before = if place > 0 { Some(node) } else { node.checked_sub(1) };
        if let Some(b) = before {
            self.before_change(b);
        }
        if let Some(l) = before.and_then(|b| self.nodes[b].room(value.len(), quick, fill)) {
            return l.push_back(item);
        }
        self.insert_node(before.map_or(0, |b| b + 1), Node::of(value, fill));
    }

    /// Splits a node so that its `place`-th element begins the next one.
    fn split(&mut self, node: usize, place: usize) {
        if let Node::Packed(l) = &mut self.nodes[node]
            && place > 0
            && let Some(at) = l.seek(place)
        {
            let tail = l.split_off(at);
            self.insert_node(node + 1, Node::Packed(tail));
        }
    }

    /// Removes `n` elements from `start` on.
    pub fn remove(&mut self, start: usize, n: usize) {
        let n = n.min(self.len.saturating_sub(start));
        let Some((first, mut place)) = self.locate(start) else { return };
        let (mut left, mut node) = (n, first);
        self.len -= n;
        // Nodes from here to `gone` are dropped as a whole.
        let mut whole = None;
        while left > 0 {
            let have = self.nodes[node].len();
            let take = left.min(have - place);
            if take == have {
                whole.get_or_insert(node..node).end = node + 1;
                left -= take;
                place = 0;
                node += 1;
                continue;
            }
            self.before_change(node);
            if let Node::Packed(l) = &mut self.nodes[node]
                && let Some(at) = l.seek(place)
            {
                l.remove(at, take);
            }
            left -= take;
            place = 0;
            node += 1;
        }
        if let Some(range) = whole {
            self.drop_nodes(range);
        }
        self.give_back();
    }

    /// Removes up to `max` elements equal to `value`, from the given end on;
    /// how many there were.
    pub fn remove_equal(&mut self, value: &[u8], end: End, max: usize) -> usize {
        let item = Item::of(value);
        let (mut removed, count) = (0, self.nodes.len());
        for i in 0..count {
            let i = if end == End::Left { i } else { count - 1 - i };
            if self.undo.0.is_some() && hits(&self.nodes[i], &item) > 0 {
                self.before_change(i);
            }
            removed += remove_from(&mut self.nodes[i], &item, end, max - removed);
            if removed == max {
                break;
            }
        }
        self.drop_emptied();
        self.len -= removed;
        self.give_back();
        removed
    }

    fn drop_emptied(&mut self) {
        let emptied = |n: &Node| matches!(n, Node::Packed(l) if l.is_empty());
        if self.undo.0.is_none() {
            return self.nodes.retain(|n| !emptied(n));
        }
        for i in (0..self.nodes.len()).rev() {
            if emptied(&self.nodes[i]) {
                self.remove_node(i);
            }
        }
    }

    fn drop_nodes(&mut self, range: std::ops::Range<usize>) {
        let first = range.start;
        let gone = self.nodes.drain(range);
        if let Some(u) = &mut self.undo.0 {
            gone.for_each(|node| u.remove(first, node));
        }
    }

    fn give_back(&mut self) {
        if self.nodes.capacity() > 32 && self.nodes.len() * 4 < self.nodes.capacity() {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }
}

/// Calls `f` with a node's elements; their number.
fn each_of(node: &Node, f: &mut impl FnMut(Item)) -> usize {
    match node {
        Node::Packed(l) => l.iter().for_each(f),
        Node::Plain(b) => f(Item::Str(b)),
    }
    node.len()
}

/// Elements of a node that are equal to `item`.
fn hits(node: &Node, item: &Item) -> usize {
    match node {
        Node::Packed(l) => l.iter().filter(|x| x == item).count(),
        Node::Plain(b) => usize::from(*item == Item::Str(b)),
    }
}

/// Removes equal elements of one node; an emptied node stays, as a listpack.
fn remove_from(node: &mut Node, item: &Item, end: End, max: usize) -> usize {
    let hits = hits(node, item);
    let n = hits.min(max);
    if n == 0 {
        return 0;
    }
    let first = if end == End::Left { 0 } else { hits - n };
    match node {
        Node::Packed(l) if n <= FEW => remove_few(l, item, first, n),
        Node::Packed(l) => *l = without(l, item, first..first + n),
        Node::Plain(_) => *node = Node::Packed(Listpack::new()),
    }
    n
}

/// Up to so many elements are removed from a node one by one.
const FEW: usize = 4;

/// Removes `n` equal elements, those before the `first` left out.
fn remove_few(l: &mut Listpack, item: &Item, first: usize, n: usize) {
    let mut at = l.find(item, l.first(), 1);
    for _ in 0..first {
        at = at.and_then(|p| l.find(item, l.next(p), 1));
    }
    for _ in 0..n {
        let Some(p) = at else { return };
        l.remove(p, 1);
        at = l.find(item, Some(p), 1);
    }
}

/// A copy without the equal elements whose numbers among such are in `gone`.
fn without(l: &Listpack, item: &Item, gone: std::ops::Range<usize>) -> Listpack {
    let (mut kept, mut hits) = (Listpack::new(), 0);
    for x in l.iter() {
        let hit = x == *item;
        if !(hit && gone.contains(&hits)) {
            kept.push_back(x);
        }
        hits += usize::from(hit);
    }
    kept
}

#[derive(Clone)]
enum Elements<'a> {
    Packed(listpack::Iter<'a>),
    Plain(Option<&'a [u8]>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match self {
            Elements::Packed(i) => i.next(),
            Elements::Plain(b) => b.take().map(Item::Str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(l: &List) -> Vec<Vec<u8>> {
        l.iter().map(|i| i.to_vec()).collect()
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0i64..10).prop_map(|v| v.to_string().into_bytes()),
            (0usize..300).prop_map(|n| vec![b'a'; n]),
            (4000usize..9000).prop_map(|n| vec![b'b'; n]),
        ]
    }

    fn apply(l: &mut List, model: &mut Vec<Vec<u8>>, op: u8, i: usize, v: Vec<u8>, fill: Fill) {
        let n = i % 7;
        l.prepare(v.len(), 1, fill);
        match op {
            0 => {
                l.push(End::Left, &v, fill);
                model.insert(0, v);
            }
            1 if i < model.len() => {
                l.remove(i, n);
                model.drain(i..(i + n).min(model.len()));
            }
            2 if i < model.len() => {
                l.set(i, &v, fill);
                model[i] = v;
            }
            3 => {
                l.insert(i, &v, fill);
                model.insert(i, v);
            }
            4 => {
                let end = if i.is_multiple_of(2) { End::Left } else { End::Right };
                let mut kept = model.clone();
                if end == End::Right {
                    kept.reverse();
                }
                let mut gone = 0;
                kept.retain(|x| {
                    let hit = *x == v && gone < n;
                    gone += usize::from(hit);
                    !hit
                });
                if end == End::Right {
                    kept.reverse();
                }
                *model = kept;
                assert_eq!(l.remove_equal(&v, end, n), gone);
            }
            5 => {
                assert_eq!(l.pop(End::Left, |x| x.to_vec()), (!model.is_empty()).then(|| model.remove(0)));
                assert_eq!(l.pop(End::Right, |x| x.to_vec()), model.pop());
            }
            _ => {
                l.push(End::Right, &v, fill);
                model.push(v);
            }
        }
        l.relax(true, fill);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_vector(
            setting in prop_oneof![Just(-1i64), Just(-2), Just(0), Just(3), Just(100)],
            ops in proptest::collection::vec((0u8..10, any::<prop::sample::Index>(), value()), 1..80),
        ) {
            let fill = Fill::new(setting);
            let (mut l, mut model) = (List::default(), Vec::new());
            for (op, place, v) in ops {
                let i = place.index(model.len() + 1);
                apply(&mut l, &mut model, op, i, v, fill);
                prop_assert_eq!(l.len(), model.len());
                prop_assert_eq!(&all(&l), &model);
                let back: Vec<Vec<u8>> = l.iter_back().map(|x| x.to_vec()).collect();
                prop_assert!(back.iter().eq(model.iter().rev()));
                prop_assert_eq!(l.get(i).map(|x| x.to_vec()), model.get(i).cloned());
                let mut some = Vec::new();
                l.each(i, 5, |x| some.push(x.to_vec()));
                prop_assert!(some.iter().eq(model.iter().skip(i).take(5)));
                prop_assert!(l.quick || l.nodes.len() <= 1);
                prop_assert!(l.nodes.iter().all(|n| n.len() > 0));
            }
        }
    }
}
