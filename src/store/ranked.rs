//! An ordered sequence of (score, id) with ranks: a B+-tree whose inner nodes
//! count the elements below each child.
//!
//! It knows no members: whoever uses it passes predicates that compare an
//! element with what is sought, and keeps the order consistent.
//!
//! Invariants: all leaves have the same depth; no node but an empty root leaf
//! is empty; for every child its inner node holds the exact count and the
//! first element below it. There is no minimum fill, but a node that runs low
//! joins a neighbour when both fit well into one.

use super::mover::Mover;
use crate::base::memory::block_size;
use smallvec::SmallVec;

/// Most elements of a leaf and children of an inner node.
const WIDTH: usize = 64;

/// Below this width, a node is joined with a neighbour if the result is at
/// most [`JOINED_MAX`] wide.
const LOW: usize = WIDTH / 4;
const JOINED_MAX: usize = WIDTH * 3 / 4;

/// An element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    pub score: f64,
    pub id: u32,
}

#[derive(Clone)]
struct Leaf {
    len: usize,
    scores: [f64; WIDTH],
    ids: [u32; WIDTH],
}

#[derive(Clone, Default)]
struct Inner {
    firsts: Vec<Ranked>,
    counts: Vec<u32>,
    nodes: Vec<Node>,
}

#[derive(Clone)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

impl Leaf {
    fn new() -> Box<Leaf> {
        Box::new(Leaf { len: 0, scores: [0.0; WIDTH], ids: [0; WIDTH] })
    }

    #[inline]
    fn get(&self, i: usize) -> Ranked {
        Ranked { score: self.scores[i], id: self.ids[i] }
    }

    fn partition(&self, before: &impl Fn(Ranked) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let mid = low.midpoint(high);
            if before(self.get(mid)) { low = mid + 1 } else { high = mid }
        }
        low
    }

    fn put(&mut self, at: usize, new: Ranked) {
        self.scores.copy_within(at..self.len, at + 1);
        self.ids.copy_within(at..self.len, at + 1);
        (self.scores[at], self.ids[at]) = (new.score, new.id);
        self.len += 1;
    }

    fn take(&mut self, at: usize) -> Ranked {
        let gone = self.get(at);
        self.scores.copy_within(at + 1..self.len, at);
        self.ids.copy_within(at + 1..self.len, at);
        self.len -= 1;
        gone
    }

    /// Moves the elements from `at` on to a new leaf.
    fn split(&mut self, at: usize) -> Box<Leaf> {
        let mut right = Leaf::new();
        right.append(self, at);
        self.len = at;
        right
    }

    fn append(&mut self, from: &Leaf, at: usize) {
        let n = from.len - at;
        self.scores[self.len..self.len + n].copy_from_slice(&from.scores[at..from.len]);
        self.ids[self.len..self.len + n].copy_from_slice(&from.ids[at..from.len]);
        self.len += n;
    }
}

impl Inner {
    fn of(nodes: Vec<Node>) -> Inner {
        Inner {
            firsts: nodes.iter().map(Node::first).collect(),
            counts: nodes.iter().map(Node::count).collect(),
            nodes,
        }
    }

    /// The last child whose first element satisfies `before`, or the first.
    fn child(&self, before: &impl Fn(Ranked) -> bool) -> usize {
        self.firsts.partition_point(|&r| before(r)).saturating_sub(1)
    }

    /// The child that holds the `rank`-th element, and its rank there.
    fn child_at(&self, rank: usize) -> (usize, usize) {
        let mut left = rank;
        for (i, &n) in self.counts.iter().enumerate() {
            if left < n as usize {
                return (i, left);
            }
            left -= n as usize;
        }
        (self.counts.len() - 1, left)
    }

    fn put(&mut self, at: usize, node: Node) {
        self.firsts.insert(at, node.first());
        self.counts.insert(at, node.count());
        self.nodes.insert(at, node);
    }

    fn drop_child(&mut self, at: usize) -> Node {
        self.firsts.remove(at);
        self.counts.remove(at);
        self.nodes.remove(at)
    }

    fn split(&mut self, at: usize) -> Box<Inner> {
        Box::new(Inner {
            firsts: self.firsts.split_off(at),
            counts: self.counts.split_off(at),
            nodes: self.nodes.split_off(at),
        })
    }

    /// Writes down anew what is known of a child.
    fn refresh(&mut self, at: usize) {
        self.firsts[at] = self.nodes[at].first();
        self.counts[at] = self.nodes[at].count();
    }

    /// Drops a child that is empty, joins one that is low with a neighbour.
    fn tidy(&mut self, at: usize) {
        let width = self.nodes[at].width();
        if width == 0 {
            self.drop_child(at);
            return;
        }
        self.refresh(at);
        if width >= LOW {
            return;
        }
        let fits = |i: usize| self.nodes.get(i).is_some_and(|n| n.width() + width <= JOINED_MAX);
        let left = match at {
            _ if fits(at + 1) => at,
            1.. if fits(at - 1) => at - 1,
            _ => return,
        };
        let right = self.drop_child(left + 1);
        self.nodes[left].join(right);
        self.refresh(left);
    }
}

impl Node {
    fn width(&self) -> usize {
        match self {
            Node::Leaf(l) => l.len,
            Node::Inner(n) => n.nodes.len(),
        }
    }

    fn count(&self) -> u32 {
        match self {
            Node::Leaf(l) => l.len as u32,
            Node::Inner(n) => n.counts.iter().sum(),
        }
    }

    fn first(&self) -> Ranked {
        match self {
            Node::Leaf(l) => l.get(0),
            Node::Inner(n) => n.firsts[0],
        }
    }

    fn join(&mut self, right: Node) {
        match (self, right) {
            (Node::Leaf(a), Node::Leaf(b)) => a.append(&b, 0),
            (Node::Inner(a), Node::Inner(mut b)) => {
                a.firsts.append(&mut b.firsts);
                a.counts.append(&mut b.counts);
                a.nodes.append(&mut b.nodes);
            }
            _ => unreachable!("siblings are of one kind"),
        }
    }

    /// Inserts before the first element that is not `before`; the right half
    /// if the node had to be split.
    fn insert(&mut self, new: Ranked, before: &impl Fn(Ranked) -> bool) -> Option<Node> {
        match self {
            Node::Leaf(l) => {
                let at = l.partition(before);
                if l.len < WIDTH {
                    l.put(at, new);
                    return None;
                }
                // Ascending input leaves full leaves behind.
                let half = if at == WIDTH { WIDTH } else { WIDTH / 2 };
                let mut right = l.split(half);
                if at <= half && half < WIDTH {
                    l.put(at, new)
                } else {
                    right.put(at - half, new)
                }
                Some(Node::Leaf(right))
            }
            Node::Inner(n) => {
                let at = n.child(before);
                let split = n.nodes[at].insert(new, before);
                n.refresh_after_insert(at, new, split.is_some());
                n.put(at + 1, split?);
                (n.nodes.len() > WIDTH).then(|| Node::Inner(n.split(WIDTH / 2)))
            }
        }
    }

    fn take(&mut self, rank: usize) -> Ranked {
        match self {
            Node::Leaf(l) => l.take(rank),
            Node::Inner(n) => {
                let (at, within) = n.child_at(rank);
                let gone = n.nodes[at].take(within);
                if n.nodes[at].width() >= LOW {
                    n.counts[at] -= 1;
                    n.firsts[at] = n.nodes[at].first();
                } else {
                    n.tidy(at);
                }
                gone
            }
        }
    }

    fn set_id(&mut self, rank: usize, id: u32) {
        match self {
            Node::Leaf(l) => l.ids[rank] = id,
            Node::Inner(n) => {
                let (at, within) = n.child_at(rank);
                n.nodes[at].set_id(within, id);
                n.firsts[at] = n.nodes[at].first();
            }
        }
    }

    fn nodes(&self) -> (usize, usize) {
        match self {
            Node::Leaf(_) => (1, block_size(size_of::<Leaf>())),
            Node::Inner(n) => {
                let vectors = [16, 4, size_of::<Node>()].map(|each| block_size(n.firsts.capacity() * each));
                let own = block_size(size_of::<Inner>()) + vectors.iter().sum::<usize>();
                n.nodes.iter().map(Node::nodes).fold((4, own), |a, b| (a.0 + b.0, a.1 + b.1))
            }
        }
    }
}

impl Inner {
    fn refresh_after_insert(&mut self, at: usize, new: Ranked, split: bool) {
        if split {
            self.refresh(at);
        } else {
            self.counts[at] += 1;
            if at == 0 && self.nodes[0].first() == new {
                self.firsts[0] = new;
            }
        }
    }
}

/// See the module's description.
#[derive(Clone)]
pub struct Tree {
    root: Node,
    len: usize,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: Node::Leaf(Leaf::new()), len: 0 }
    }
}

impl Tree {
    /// A tree of elements that come in its order; all leaves but the last are
    /// full.
    pub fn of_ascending(mut elements: impl ExactSizeIterator<Item = Ranked>) -> Tree {
        let len = elements.len();
        let mut level = Vec::with_capacity(len.div_ceil(WIDTH));
        while elements.len() > 0 {
            let mut leaf = Leaf::new();
            for r in elements.by_ref().take(WIDTH) {
                (leaf.scores[leaf.len], leaf.ids[leaf.len]) = (r.score, r.id);
                leaf.len += 1;
            }
            level.push(Node::Leaf(leaf));
        }
        while level.len() > 1 {
            let mut below = std::mem::take(&mut level).into_iter();
            while below.len() > 0 {
                level.push(Node::Inner(Box::new(Inner::of(below.by_ref().take(WIDTH).collect()))));
            }
        }
        level.pop().map_or_else(Tree::default, |root| Tree { root, len })
    }

    /// Moves the leaf that holds a rank, and the nodes above it, if they lie where
    /// much is free; the first rank of the next leaf, if there is one.
    pub fn relocate(&mut self, rank: usize, mover: &mut Mover) -> Option<usize> {
        let (mut node, mut within) = (&mut self.root, rank);
        loop {
            match node {
                Node::Leaf(l) => {
                    mover.boxed(l);
                    let next = rank - within + l.len;
                    return (l.len > 0 && next < self.len).then_some(next);
                }
                Node::Inner(n) => {
                    // Once, with the first of its leaves.
                    if within == 0 {
                        mover.boxed(n);
                        mover.vec(&mut n.firsts);
                        mover.vec(&mut n.counts);
                        mover.vec(&mut n.nodes);
                    }
                    let (at, left) = n.child_at(within);
                    (node, within) = (&mut n.nodes[at], left);
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Inserts an element; `before` tells which ones stand before it.
    pub fn insert(&mut self, new: Ranked, before: impl Fn(Ranked) -> bool) {
        if let Some(right) = self.root.insert(new, &before) {
            let mut top = Inner::default();
            let left = std::mem::replace(&mut self.root, Node::Leaf(Leaf::new()));
            top.put(0, left);
            top.put(1, right);
            self.root = Node::Inner(Box::new(top));
        }
        self.len += 1;
    }

    /// Number of elements for which `before` holds; it must hold for a prefix.
    pub fn partition(&self, before: impl Fn(Ranked) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(l) => return rank + l.partition(&before),
                Node::Inner(n) => {
                    let at = n.child(&before);
                    rank += n.counts[..at].iter().map(|&c| c as usize).sum::<usize>();
                    node = &n.nodes[at];
                }
            }
        }
    }

    /// The `rank`-th element, which exists.
    pub fn get(&self, rank: usize) -> Ranked {
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(l) => return l.get(rank),
                Node::Inner(n) => {
                    let (at, within) = n.child_at(rank);
                    (node, rank) = (&n.nodes[at], within);
                }
            }
        }
    }

    /// Removes the `rank`-th element, which exists.
    pub fn take(&mut self, rank: usize) -> Ranked {
        let gone = self.root.take(rank);
        self.len -= 1;
        while let Node::Inner(n) = &mut self.root
            && n.nodes.len() < 2
        {
            self.root = n.nodes.pop().unwrap_or_else(|| Node::Leaf(Leaf::new()));
        }
        gone
    }

    /// Gives the `rank`-th element another id.
    pub fn set_id(&mut self, rank: usize, id: u32) {
        self.root.set_id(rank, id);
    }

    /// Elements from `rank` on, ascending or descending.
    pub fn iter(&self, rank: usize, back: bool) -> Iter<'_> {
        let mut path = SmallVec::new();
        if rank >= self.len {
            return Iter { path, leaf: None, back };
        }
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(l) => return Iter { path, leaf: Some((l, rank)), back },
                Node::Inner(n) => {
                    let (at, within) = n.child_at(rank);
                    path.push((&**n, at));
                    (node, rank) = (&n.nodes[at], within);
                }
            }
        }
    }

    /// Number of allocations, and their bytes.
    pub fn nodes(&self) -> (usize, usize) {
        self.root.nodes()
    }
}

/// See [`Tree::iter`].
#[derive(Clone)]
pub struct Iter<'a> {
    path: SmallVec<[(&'a Inner, usize); 5]>,
    leaf: Option<(&'a Leaf, usize)>,
    back: bool,
}

impl<'a> Iter<'a> {
    /// The leaf after the present one, in the direction of the walk.
    fn turn(&mut self) -> Option<(&'a Leaf, usize)> {
        let back = self.back;
        let mut node = loop {
            let (inner, at) = self.path.pop()?;
            let next = if back { at.checked_sub(1) } else { Some(at + 1) };
            if let Some(node) = next.and_then(|i| inner.nodes.get(i)) {
                self.path.push((inner, next.unwrap_or(0)));
                break node;
            }
        };
        loop {
            match node {
                Node::Leaf(l) => return Some((l, if back { l.len - 1 } else { 0 })),
                Node::Inner(n) => {
                    let at = if back { n.nodes.len() - 1 } else { 0 };
                    self.path.push((n, at));
                    node = &n.nodes[at];
                }
            }
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = Ranked;

    #[inline]
    fn next(&mut self) -> Option<Ranked> {
        let (leaf, at) = self.leaf?;
        let next = if self.back { at.checked_sub(1) } else { Some(at + 1).filter(|&i| i < leaf.len) };
        self.leaf = match next {
            Some(i) => Some((leaf, i)),
            None => self.turn(),
        };
        Some(leaf.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(r: Ranked) -> (i64, u32) {
        (r.score as i64, r.id)
    }

    fn check(node: &Node, root: bool) -> (usize, u32) {
        match node {
            Node::Leaf(l) => {
                assert!(root || l.len > 0);
                (1, l.len as u32)
            }
            Node::Inner(n) => {
                assert!(n.nodes.len() <= WIDTH && (!root || n.nodes.len() > 1));
                let mut depth = 0;
                for (i, c) in n.nodes.iter().enumerate() {
                    let (d, count) = check(c, false);
                    assert!(depth == 0 || depth == d);
                    depth = d;
                    assert_eq!((n.counts[i], n.firsts[i]), (count, c.first()));
                }
                (depth + 1, n.counts.iter().sum())
            }
        }
    }

    #[test]
    fn of_ascending_elements_a_tree_is_built_at_once() {
        for n in [0, 1, 63, 64, 65, 200, 4095, 4096, 4097, 70_000] {
            let of = |i: u32| Ranked { score: f64::from(i), id: i };
            let mut tree = Tree::of_ascending((0..n).map(of));
            assert_eq!((check(&tree.root, true).1, tree.len()), (n, n as usize));
            assert!(tree.iter(0, false).eq((0..n).map(of)));
            // It is a tree like others: it takes in, and gives up.
            let half = Ranked { score: f64::from(n / 2) - 0.5, id: n };
            tree.insert(half, |r| r.score < half.score);
            check(&tree.root, true);
            assert_eq!(tree.take(tree.partition(|r| r.score < half.score)), half);
            (0..n).for_each(|i| assert_eq!(tree.take(0), of(i)));
            assert!(tree.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn behaves_as_a_sorted_vector(
            grow in 0u32..3,
            ops in proptest::collection::vec((0u8..10, 0i64..50, any::<prop::sample::Index>()), 1..3000),
        ) {
            let (mut t, mut model) = (Tree::default(), Vec::<(i64, u32)>::new());
            let half = ops.len() / 2;
            for (i, (op, score, place)) in ops.into_iter().enumerate() {
                let growing = (i < half) == (grow > 0);
                if model.is_empty() || (op < 8) == growing {
                    let score = if grow == 2 { i as i64 } else { score };
                    let new = (score, i as u32);
                    t.insert(Ranked { score: score as f64, id: i as u32 }, |r| key(r) < new);
                    let at = model.partition_point(|x| *x < new);
                    model.insert(at, new);
                } else {
                    let at = place.index(model.len());
                    let x = model.remove(at);
                    prop_assert_eq!(t.partition(|r| key(r) < x), at);
                    prop_assert_eq!(key(t.take(at)), x);
                }
                if i % 97 == 0 {
                    check(&t.root, true);
                    let from = place.index(model.len() + 1);
                    prop_assert!(t.iter(from, false).map(key).eq(model[from..].iter().copied()));
                    let upto = (from + 1).min(model.len());
                    if from < model.len() {
                        prop_assert_eq!(key(t.get(from)), model[from]);
                        prop_assert!(t.iter(from, true).map(key).eq(model[..upto].iter().rev().copied()));
                    }
                }
            }
            check(&t.root, true);
            prop_assert!(t.iter(0, false).map(key).eq(model.iter().copied()));
        }
    }
}
