//! What a large collection keeps while a snapshot reads it in steps: how far
//! the reader is, and the elements that were changed before it came to them.
//!
//! Elements stand in the order of their hashes, the order of scans. One is
//! *owed* while the reader has not come to it and nobody has saved it; before
//! an owed element changes, it is saved as it was. An element that is added is
//! marked, so that the reader leaves it out. All elements of one hash are
//! saved together, so that marks need no more than the hash.
//!
//! The reader takes saved elements first, then scans on. What it has got at
//! the end is the collection as it was when the undo began: in some order, all
//! of it, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashSet;

use super::dict::position;

/// Kinds of saving that a test can leave out, to see that the loss is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saving {
    /// Of an entry, before it changes.
    Entry,
    /// The mark on what is made after the cut.
    Mark,
    /// Of an element of a set or hash.
    Element,
    /// Of a member of a sorted set.
    Score,
    /// Of a node of a list that changes.
    Node,
    /// Of a node of a list that goes.
    GoneNode,
    /// Of a collection that is deleted.
    Deleted,
}

#[cfg(test)]
thread_local! {
    static OMITTED: std::cell::Cell<Option<Saving>> = const { std::cell::Cell::new(None) };
}

/// Leaves a kind of saving out, on this thread.
#[cfg(test)]
pub fn omit(saving: Option<Saving>) {
    OMITTED.with(|o| o.set(saving));
}

#[cfg(test)]
pub(super) fn omitted(saving: Saving) -> bool {
    OMITTED.with(|o| o.get() == Some(saving))
}

#[cfg(not(test))]
#[inline(always)]
pub(super) const fn omitted(_: Saving) -> bool {
    false
}

/// Tells that something owed to a snapshot was dropped unread. It never should
/// be; if it is, the snapshot fails instead of being wrong.
pub struct Debt {
    lost: Arc<AtomicBool>,
    paid: bool,
}

impl Debt {
    pub fn new(lost: &Arc<AtomicBool>) -> Debt {
        Debt { lost: lost.clone(), paid: false }
    }

    /// All has been read, or nobody wants it any more.
    pub fn pay(&mut self) {
        self.paid = true;
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.paid {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}

/// See the module's description. `E` is an element as it is saved.
pub struct Undo<E> {
    /// Which of the snapshot's open collections this is.
    pub id: u64,
    /// The next position to be read; `None` when all have been.
    cursor: Option<u64>,
    /// Hashes of elements ahead of the cursor that are not owed.
    marked: HashSet<u64, foldhash::fast::RandomState>,
    saved: Vec<E>,
    pub debt: Debt,
}

impl<E> Undo<E> {
    pub fn new(id: u64, debt: Debt) -> Undo<E> {
        Undo { id, cursor: Some(0), marked: HashSet::default(), saved: Vec::new(), debt }
    }

    /// Is what stands under this hash owed?
    pub fn owes(&self, hash: u64) -> bool {
        self.cursor.is_some_and(|c| position(hash) >= c) && !self.marked.contains(&hash)
    }

    /// What stood under an owed hash has been saved with [`Undo::save`].
    pub fn mark(&mut self, hash: u64) {
        self.marked.insert(hash);
    }

    pub fn save(&mut self, element: E) {
        self.saved.push(element);
    }

    pub fn take_saved(&mut self) -> Option<E> {
        self.saved.pop()
    }

    pub fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    /// The reader has read everything below `next` (0: everything).
    pub fn advance(&mut self, next: u64) {
        self.cursor = (next != 0).then_some(next);
        if next == 0 {
            self.marked = HashSet::default();
        }
    }

    /// Has everything been read?
    pub fn is_done(&self) -> bool {
        self.cursor.is_none() && self.saved.is_empty()
    }
}

/// The place of an undo in a collection. A copy of the collection has none.
pub struct Slot<E>(pub Option<Box<Undo<E>>>);

impl<E> Default for Slot<E> {
    fn default() -> Slot<E> {
        Slot(None)
    }
}

impl<E> Clone for Slot<E> {
    fn clone(&self) -> Slot<E> {
        Slot(None)
    }
}
