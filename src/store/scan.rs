//! SCAN's order: positions are hash bits, so they outlive every change of the
//! tables.
//!
//! A position is the low 57 bits of a key's hash: its slot, then its order
//! within the slot. A scan visits positions in ascending order and its cursor
//! is the next position, so whatever stays present throughout is returned, no
//! matter how tables grow, shrink or change their core.
//!
//! Clients see cursors without the lowest [`CURSOR_SHIFT`] bits, which makes
//! them exact in a JavaScript number: positions at which a scan may stop are
//! multiples of 16, and what lies between two of them is visited together.

use super::db::{Db, POSITION_MASK};
use super::entry::Entry;
use crate::base::slot::{Key, ORDER_MASK, SLOT_SHIFT, SLOTS};

/// Low bits of positions that cursors leave out: 53 remain.
const CURSOR_SHIFT: u32 = 4;
const BETWEEN: u64 = (1 << CURSOR_SHIFT) - 1;

/// The position that a client's cursor stands for; past the end for what no
/// cursor can be.
pub fn position_of(cursor: u64) -> u64 {
    cursor.saturating_mul(1 << CURSOR_SHIFT)
}

/// What a client sees of a position where a scan may stop.
pub fn cursor_of(position: u64) -> u64 {
    debug_assert_eq!(position & BETWEEN, 0);
    position >> CURSOR_SHIFT
}

/// The last position that is visited together with this one.
pub fn end_of_block(position: u64) -> u64 {
    position | BETWEEN
}

/// Result of one step.
pub struct Step<'a> {
    pub entries: Vec<&'a Entry>,
    /// The next position; `None` when all slots are through.
    pub next: Option<u64>,
}

/// Visits at least `count` entries, if there are, from `position` on, within
/// slots for which `mine` holds; a foreign slot ends the step.
pub fn step<'a>(db: Option<&'a Db>, position: u64, count: usize, mine: impl Fn(u16) -> bool) -> Step<'a> {
    let mut entries = Vec::new();
    let mut slot = (position >> SLOT_SHIFT) as usize;
    let mut order = position & ORDER_MASK;
    loop {
        if slot >= SLOTS {
            return Step { entries, next: None };
        }
        if entries.len() >= count || !mine(slot as u16) {
            return Step { entries, next: Some((slot as u64) << SLOT_SHIFT | order) };
        }
        let more = db.and_then(|d| within(d, slot as u16, order, count, &mut entries));
        if let Some(next) = more {
            order = next;
            continue;
        }
        order = 0;
        slot = skip_empty(db, slot + 1, &mine);
    }
}

/// The next slot that has entries or belongs to another core.
fn skip_empty(db: Option<&Db>, from: usize, mine: &impl Fn(u16) -> bool) -> usize {
    let occupied = db.and_then(|d| d.next_slot(from)).unwrap_or(SLOTS);
    (from..occupied).find(|&s| !mine(s as u16)).unwrap_or(occupied)
}

/// Takes entries of one part of a slot's table; the position where the slot
/// goes on, if it does.
fn within<'a>(db: &'a Db, slot: u16, order: u64, count: usize, out: &mut Vec<&'a Entry>) -> Option<u64> {
    let mut found: Vec<(u64, &Entry)> = Vec::new();
    let next = db.table(slot).visit_part(order, |e| {
        let at = Key::new(e.key()).hash & ORDER_MASK;
        if at >= order {
            found.push((at, e));
        }
    });
    let wanted = count - out.len();
    if found.len() <= wanted {
        out.extend(found.iter().map(|&(_, e)| e));
        return next;
    }
    found.sort_unstable_by_key(|&(at, _)| at);
    let last = end_of_block(found[wanted - 1].0);
    out.extend(found.iter().take_while(|&&(at, _)| at <= last).map(|&(_, e)| e));
    Some(last + 1).filter(|&n| n <= ORDER_MASK).or(next)
}

/// The position of a key; for tests and for COUNTKEYSINSLOT-like walks.
pub fn position(key: &[u8]) -> u64 {
    Key::new(key).hash & POSITION_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn whatever_stays_is_returned_under_growth_and_shrinkage() {
        let mut s = Store::new(1);
        let put = |s: &mut Store, k: String| s.put(0, Entry::string(k.as_bytes(), b"v", None));
        for i in 0..3000 {
            put(&mut s, format!("{{hot}}stay{i}"));
            put(&mut s, format!("stay{i}"));
        }
        let mut seen = std::collections::HashSet::new();
        let mut cursor = 0;
        let mut round = 0;
        loop {
            let st = step(s.db(0), cursor, 10, |_| true);
            seen.extend(st.entries.iter().map(|e| e.key().to_vec()));
            let next = st.next;
            for i in 0..50 {
                let k = format!("{{hot}}churn{i}");
                if round % 2 == 0 {
                    put(&mut s, k);
                } else {
                    s.delete(0, &Key::new(k.as_bytes()));
                }
                put(&mut s, format!("more{round}-{i}"));
            }
            round += 1;
            match next {
                Some(n) => cursor = n,
                None => break,
            }
        }
        for i in 0..3000 {
            assert!(seen.contains(format!("{{hot}}stay{i}").as_bytes()));
            assert!(seen.contains(format!("stay{i}").as_bytes()));
        }
    }

    #[test]
    fn cursors_are_exact_in_javascript() {
        let mut s = Store::new(1);
        for i in 0..3000 {
            s.put(0, Entry::string(format!("key{i}").as_bytes(), b"v", None));
        }
        let (mut cursor, mut seen) = (0, 0);
        loop {
            assert!(cursor < 1 << 53);
            let st = step(s.db(0), position_of(cursor), 1, |_| true);
            seen += st.entries.len();
            match st.next {
                Some(next) => cursor = cursor_of(next),
                None => break,
            }
        }
        assert_eq!(seen, 3000);
        assert_eq!(position_of(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_step_ends_at_a_foreign_slot() {
        let st = step(None, 0, 10, |slot| slot < 100);
        assert_eq!(st.next, Some(100 << SLOT_SHIFT));
        assert!(step(None, 100 << SLOT_SHIFT, 10, |slot| slot >= 100).next.is_none());
    }
}
