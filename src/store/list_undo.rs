//! What a long list keeps while a snapshot reads it in steps. As in
//! [`super::undo`], but by nodes, since their order matters: every node of the
//! time when the undo began has a number, and the reader takes the numbers in
//! turn, each from where the node is now or from what was saved of it.
//!
//! Invariants: `origins` has one number for each node of the list, in the same
//! order; the numbers of nodes that are still as they were ascend; a number
//! from `next` on is either in `origins` or in `saved`.

use std::collections::{BTreeMap, VecDeque};

use super::undo::{Debt, Saving, omitted};

/// In the place of a number: the node is new, or has been saved.
const NONE: u32 = u32::MAX;

/// See the module's description. `N` is a node.
pub struct ListUndo<N> {
    /// Which of the snapshot's open collections this is.
    pub id: u64,
    origins: VecDeque<u32>,
    saved: BTreeMap<u32, N>,
    next: u32,
    total: u32,
    /// Where the node `next` was looked for last.
    hint: usize,
    pub debt: Debt,
}

/// Where the reader finds its next node.
pub enum Place<N> {
    Saved(N),
    At(usize),
    End,
}

impl<N: Clone> ListUndo<N> {
    /// For a list of `nodes` nodes, fewer than `u32::MAX`.
    pub fn new(id: u64, nodes: usize, debt: Debt) -> ListUndo<N> {
        let total = nodes as u32;
        ListUndo { id, origins: (0..total).collect(), saved: BTreeMap::new(), next: 0, total, hint: 0, debt }
    }

    fn owes(&self, at: usize) -> bool {
        self.origins.get(at).is_some_and(|&n| n != NONE && n >= self.next)
    }

    /// Before the node `at` changes.
    pub fn change(&mut self, at: usize, node: &N) {
        if self.owes(at) && !omitted(Saving::Node) {
            self.saved.insert(self.origins[at], node.clone());
            self.origins[at] = NONE;
        }
    }

    /// A new node stands at `at`.
    pub fn insert(&mut self, at: usize) {
        self.origins.insert(at, NONE);
    }

    /// The node `at` is gone; its last content.
    pub fn remove(&mut self, at: usize, node: N) {
        let owed = self.owes(at) && !omitted(Saving::GoneNode);
        let number = self.origins.remove(at);
        if let Some(n) = number.filter(|_| owed) {
            self.saved.insert(n, node);
        }
    }

    /// Where the reader's next node is. It has read it afterwards.
    pub fn read_next(&mut self) -> Place<N> {
        if self.next == self.total {
            return Place::End;
        }
        let n = self.next;
        self.next += 1;
        if let Some(node) = self.saved.remove(&n) {
            return Place::Saved(node);
        }
        // What was added since moves the rest, mostly by little.
        let len = self.origins.len();
        let start = self.hint.min(len.saturating_sub(1));
        let found = (0..len).find_map(|d| {
            [start.checked_add(d), start.checked_sub(d)]
                .into_iter()
                .flatten()
                .find(|&i| self.origins.get(i) == Some(&n))
        });
        match found {
            Some(at) => {
                self.hint = at + 1;
                Place::At(at)
            }
            None => Place::End,
        }
    }

    /// Has everything been read?
    pub fn is_done(&self) -> bool {
        self.next == self.total
    }
}

/// The place of an undo in a list. A copy of the list has none.
pub struct Slot<N>(pub Option<Box<ListUndo<N>>>);

impl<N> Default for Slot<N> {
    fn default() -> Slot<N> {
        Slot(None)
    }
}

impl<N> Clone for Slot<N> {
    fn clone(&self) -> Slot<N> {
        Slot(None)
    }
}
