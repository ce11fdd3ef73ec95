//! Which history the dataset belongs to: the identity rules of PSYNC2.
//!
//! Invariants:
//! - `id` names the history that the stream's next byte will belong to.
//! - `id2` is the history that `id` branched off from; bytes before
//!   `second_offset` are the same in both. `NONE` if there is no such history.
//! - Bytes that were produced while nobody could have kept them (no backlog)
//!   never stand in the middle of a history: such a gap begins a new one.

use super::id::ReplId;
use crate::base::rng::Rng;

/// The part of the stream that is at hand: bytes `first..=end`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Window {
    /// Is there a backlog at all? Without one, `first` means nothing.
    pub active: bool,
    pub first: u64,
    /// The first byte in memory; those before it are on disk.
    pub kept: u64,
    /// Offset of the last byte produced (master_repl_offset).
    pub end: u64,
}

impl Window {
    /// Bytes in the window (repl_backlog_histlen).
    pub fn len(&self) -> u64 {
        if self.active { (self.end + 1).saturating_sub(self.first) } else { 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Can the stream be resumed with this byte as the next?
    pub fn serves(&self, next: u64) -> bool {
        self.active && next >= self.first && next <= self.end + 1
    }
}

/// Why a partial resynchronization was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The replica asked for a full one (`?`).
    NotWanted,
    /// Its history is neither ours nor one we come from.
    OtherHistory,
    /// It has gone on in our former history for longer than we have.
    TooFar,
    /// The backlog does not hold what is missing.
    NotInBacklog,
}

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub id: ReplId,
    pub id2: ReplId,
    /// First byte after the branch; `None` prints as -1.
    pub second_offset: Option<u64>,
}

impl History {
    pub fn new(rng: &mut Rng) -> History {
        History { id: ReplId::random(rng), id2: ReplId::NONE, second_offset: None }
    }

    /// May a replica of history `id` go on with byte `next`? Without an id it does
    /// not want to; what is no id is that of no history.
    pub fn accepts(&self, id: Option<ReplId>, next: u64, window: &Window) -> Result<(), Refusal> {
        let id = id.ok_or(Refusal::NotWanted)?;
        if id != self.id {
            if id.is_none() || id != self.id2 {
                return Err(Refusal::OtherHistory);
            }
            if self.second_offset.is_none_or(|second| next > second) {
                return Err(Refusal::TooFar);
            }
        }
        if window.serves(next) { Ok(()) } else { Err(Refusal::NotInBacklog) }
    }

    /// A history that has nothing to do with any earlier one.
    pub fn begin_anew(&mut self, rng: &mut Rng) {
        *self = History::new(rng);
    }

    /// A replica with `offset` bytes becomes primary: from now on its bytes
    /// are its own.
    pub fn promote(&mut self, offset: u64, rng: &mut Rng) {
        self.branch(ReplId::random(rng), offset);
    }

    /// The primary has changed the history's name at `offset` (it was itself
    /// promoted); the bytes so far are the same.
    pub fn branch(&mut self, id: ReplId, offset: u64) {
        self.id2 = self.id;
        self.second_offset = Some(offset + 1);
        self.id = id;
    }

    /// A full synchronization: the dataset is now of the primary's history.
    pub fn adopt(&mut self, id: ReplId) {
        *self = History { id, id2: ReplId::NONE, second_offset: None };
    }

    /// INFO second_repl_offset.
    pub fn second_offset_shown(&self) -> i64 {
        self.second_offset.map_or(-1, |n| n as i64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::id::ReplId;
    use super::{History, Refusal, Window};
    use crate::base::rng::Rng;

    fn window(first: u64, end: u64) -> Window {
        Window { active: true, first, kept: first, end }
    }

    #[test]
    fn own_history_within_the_backlog() {
        let h = History::new(&mut Rng::new(1));
        let w = window(101, 200);
        assert_eq!(h.accepts(Some(h.id), 100, &w), Err(Refusal::NotInBacklog));
        assert_eq!(h.accepts(Some(h.id), 101, &w), Ok(()));
        assert_eq!(h.accepts(Some(h.id), 201, &w), Ok(()));
        assert_eq!(h.accepts(Some(h.id), 202, &w), Err(Refusal::NotInBacklog));
        assert_eq!(h.accepts(None, 150, &w), Err(Refusal::NotWanted));
        assert_eq!(h.accepts(Some(ReplId::NONE), 150, &w), Err(Refusal::OtherHistory));
        let off = Window { active: false, ..w };
        assert_eq!(h.accepts(Some(h.id), 150, &off), Err(Refusal::NotInBacklog));
    }

    #[test]
    fn former_history_up_to_the_branch() {
        let mut rng = Rng::new(2);
        let mut h = History::new(&mut rng);
        let old = h.id;
        h.promote(150, &mut rng);
        let w = window(101, 200);
        assert_eq!(h.accepts(Some(old), 151, &w), Ok(()));
        assert_eq!(h.accepts(Some(old), 152, &w), Err(Refusal::TooFar));
        assert_eq!(h.accepts(Some(h.id), 201, &w), Ok(()));
        h.begin_anew(&mut rng);
        assert_eq!(h.accepts(Some(old), 151, &w), Err(Refusal::OtherHistory));
        assert_eq!(h.second_offset_shown(), -1);
    }

    proptest! {
        /// Two servers share bytes up to a branch and then go their own ways.
        /// Whatever is accepted, the bytes before `next` are the same on both.
        #[test]
        fn accepted_means_equal_bytes(
            branch in 0u64..300, own in 0u64..300, asker in 0u64..300, kept in 1u64..400, follows in any::<bool>(),
        ) {
            let mut rng = Rng::new(branch ^ own << 20 ^ asker << 40);
            let mut h = History::new(&mut rng);
            let old = h.id;
            h.promote(branch, &mut rng);
            let end = branch + own;
            let w = window((end + 1).saturating_sub(kept).max(1), end);
            // The asker is at `asker`, of the new history or still of the old one.
            let (id, same) = if follows { (h.id, asker.min(end)) } else { (old, asker.min(branch)) };
            let ok = h.accepts(Some(id), asker + 1, &w).is_ok();
            prop_assert!(!ok || same == asker);
            let possible = same == asker && asker + 1 >= w.first && asker <= end;
            prop_assert_eq!(ok, possible);
        }

        /// A chain of promotions: only the last branch is remembered.
        #[test]
        fn only_one_former_history(steps in prop::collection::vec(0u64..100, 2..6)) {
            let mut rng = Rng::new(9);
            let mut h = History::new(&mut rng);
            let mut at = 0;
            let mut ids = vec![h.id];
            for step in steps {
                at += step;
                h.promote(at, &mut rng);
                ids.push(h.id);
            }
            let w = window(1, at + 50);
            let known = ids.iter().filter(|id| h.accepts(Some(**id), 1, &w).is_ok()).count();
            prop_assert_eq!(known, 2);
        }
    }
}
