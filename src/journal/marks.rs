//! Which place of the stream a time stands for: so that who waits for what it wrote
//! need not wait for what others have written since.

use std::collections::VecDeque;

/// Marks kept at most; older ones are thinned out.
const MARKS_MAX: usize = 1024;

/// Nanoseconds between two marks at least.
const APART_NS: u64 = 1_000_000;

/// Where the stream ends, and where it ended at earlier times.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    end: u64,
    /// Times (of the merge) and ends, both rising: everything stamped before the time
    /// lies before the end.
    known: VecDeque<(u64, u64)>,
}

impl Marks {
    pub fn new(end: u64) -> Marks {
        Marks { end, known: VecDeque::new() }
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// More was written.
    #[inline]
    pub fn reach(&mut self, end: u64) {
        self.end = end;
    }

    /// Everything stamped before `time` has been written.
    pub fn note(&mut self, time: u64) {
        match self.known.back_mut() {
            Some(last) if last.1 == self.end => return,
            // Of the mark before, all that is known holds for this one.
            Some(last) if time < last.0.saturating_add(APART_NS) => {
                *last = (time.max(last.0), self.end);
                return;
            }
            _ => {}
        }
        if self.known.len() == MARKS_MAX {
            let mut keep = false;
            self.known.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.known.push_back((time, self.end));
    }

    /// An end behind everything stamped up to `stamp`, which has been written: the
    /// nearest that is known.
    pub fn end_at(&self, stamp: u64) -> u64 {
        let first = self.known.partition_point(|(time, _)| *time <= stamp);
        self.known.get(first).map_or(self.end, |(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_write_is_found_at_its_own_end() {
        let mut m = Marks::new(100);
        assert_eq!(m.end_at(0), 100);
        for i in 1..=10u64 {
            m.reach(100 + 10 * i);
            m.note(i * 2 * APART_NS);
        }
        // Nothing new: the stream is further, and no mark is made.
        m.note(100 * APART_NS);
        assert_eq!((m.end_at(0), m.end_at(2 * APART_NS), m.end_at(20 * APART_NS)), (110, 120, 200));
        m.reach(300);
        assert_eq!((m.end_at(19 * APART_NS), m.end_at(20 * APART_NS), m.end()), (200, 300, 300));
    }

    proptest! {
        /// Never before what was written by then, and exact as long as marks are.
        #[test]
        fn ends_are_behind_what_was_written(steps in proptest::collection::vec((1u64..3_000_000, 0u64..50), 1..3000)) {
            let (mut m, mut time, mut written) = (Marks::new(0), 0, Vec::new());
            for (later, bytes) in steps {
                written.push((time, m.end() + bytes));
                m.reach(m.end() + bytes);
                time += later;
                m.note(time);
            }
            prop_assert!(m.known.len() <= MARKS_MAX);
            for (stamp, end) in written {
                prop_assert!(m.end_at(stamp) >= end);
            }
        }
    }
}
