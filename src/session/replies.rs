//! A connection's replies, in the order of its requests.
//!
//! Replies made on this core while nothing is outstanding go straight to the
//! output. Once a request has been sent elsewhere (another core, a lock queue,
//! a transaction), later replies are staged behind its place.
//!
//! Invariants: `order` is empty or begins with a place that waits; `stage`
//! holds exactly the bytes that the `Done` places name.

use std::collections::VecDeque;

/// Bytes of the stage that are kept while nothing is staged.
const STAGE_KEPT: usize = 64 * 1024;

/// Bytes of room behind output that are kept.
const ROOM_KEPT: usize = 256 * 1024;

/// Bytes of output behind which a new piece is begun, if it is to wait.
const PIECE: usize = 256 * 1024;

enum Place {
    Waiting,
    /// Waiting, and its reply is not wanted (CLIENT REPLY).
    Muted,
    Done {
        start: usize,
        len: usize,
    },
}

/// See the module's description.
#[derive(Default)]
pub struct Replies {
    /// What may be sent, behind `pieces`.
    pub out: Vec<u8>,
    /// Output that waits for a peer who reads slowly, or not at all. One buffer for
    /// it would be copied whole, again and again, as it grows.
    pieces: VecDeque<Vec<u8>>,
    /// Bytes in `pieces`.
    in_pieces: usize,
    order: VecDeque<Place>,
    /// Number of the first place in `order`.
    head: u32,
    stage: Vec<u8>,
    waiting: u32,
}

impl Replies {
    /// Requests whose replies are still to come.
    #[inline]
    pub fn outstanding(&self) -> u32 {
        self.waiting
    }

    /// Where a reply made now is written. [`Replies::commit`] must follow.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.order.is_empty() { &mut self.out } else { &mut self.stage }
    }

    /// Ends a reply that began when the buffer had `start` bytes.
    #[inline]
    pub fn commit(&mut self, start: usize) {
        if !self.order.is_empty() {
            let len = self.stage.len() - start;
            self.order.push_back(Place::Done { start, len });
        }
    }

    /// Reserves the place of a reply that comes later; its number.
    pub fn expect(&mut self, muted: bool) -> u32 {
        let seq = self.end();
        self.order.push_back(if muted { Place::Muted } else { Place::Waiting });
        self.waiting += 1;
        seq
    }

    /// The place that the next request will have.
    pub fn end(&self) -> u32 {
        self.head.wrapping_add(self.order.len() as u32)
    }

    /// Have all places before `end` been filled?
    pub fn reached(&self, end: u32) -> bool {
        self.head.wrapping_sub(end).cast_signed() >= 0
    }

    /// Gives up the last place, so that its reply can be made here and now.
    pub fn withdraw(&mut self, seq: u32) {
        let last = self.end().wrapping_sub(1);
        assert!(seq == last && self.waiting > 0, "only the last place can be withdrawn");
        self.order.pop_back();
        self.waiting -= 1;
    }

    /// Fills a place that waits.
    pub fn fill(&mut self, seq: u32, reply: &[u8]) {
        let at = seq.wrapping_sub(self.head) as usize;
        let place = &mut self.order[at];
        let muted = match place {
            Place::Waiting => false,
            Place::Muted => true,
            Place::Done { .. } => panic!("a reply came twice"),
        };
        self.waiting -= 1;
        if at > 0 {
            let start = self.stage.len();
            if !muted {
                self.stage.extend_from_slice(reply);
            }
            *place = Place::Done { start, len: self.stage.len() - start };
            return;
        }
        if !muted {
            self.out.extend_from_slice(reply);
        }
        self.order.pop_front();
        self.head = self.head.wrapping_add(1);
        self.advance();
    }

    /// Bytes by which memory will grow to take a reply of so many for this place.
    pub fn growth(&self, seq: u32, n: usize) -> usize {
        let buffer = if seq == self.head { &self.out } else { &self.stage };
        let (needed, size) = (buffer.len() + n, buffer.capacity());
        // As vectors grow: at least to the double.
        if needed > size { needed.max(2 * size) - size } else { 0 }
    }

    fn advance(&mut self) {
        while let Some(&Place::Done { start, len }) = self.order.front() {
            self.out.extend_from_slice(&self.stage[start..start + len]);
            self.order.pop_front();
            self.head = self.head.wrapping_add(1);
        }
        if self.order.is_empty() {
            self.stage.clear();
            self.stage.shrink_to(STAGE_KEPT);
        }
    }

    /// Is there anything that may be sent?
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || self.has_pieces()
    }

    #[inline]
    pub fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Begins a new piece if there is much output.
    #[inline]
    pub fn split(&mut self) {
        if self.out.len() >= PIECE {
            let mut piece = std::mem::take(&mut self.out);
            // It will not grow any more, and counts with what it holds. The allocator
            // leaves a block of this size where it is.
            piece.shrink_to_fit();
            self.in_pieces += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Lets `take` have what is to be sent next: it takes all of it, or nothing.
    #[inline]
    pub fn take_next(&mut self, take: impl FnOnce(&mut Vec<u8>)) {
        let Some(piece) = self.pieces.front_mut() else { return take(&mut self.out) };
        let before = piece.len();
        take(piece);
        if piece.is_empty() {
            self.in_pieces -= before;
            self.pieces.pop_front();
        }
    }

    /// Takes all that may be sent.
    pub fn take_all(&mut self) -> Vec<u8> {
        let pieces = Vec::from(std::mem::take(&mut self.pieces));
        self.in_pieces = 0;
        [pieces.concat(), std::mem::take(&mut self.out)].concat()
    }

    /// Bytes of output held, sent or not.
    pub fn memory(&self) -> usize {
        self.out.len() + self.in_pieces + self.stage.len()
    }

    /// Bytes of memory taken.
    pub fn capacity(&self) -> usize {
        self.out.capacity() + self.in_pieces + self.stage.capacity()
    }

    /// Gives memory back when nothing is held.
    pub fn shrink(&mut self) {
        if self.order.is_empty() {
            self.order = VecDeque::new();
            self.stage = Vec::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }
}

/// For output that will not grow any more: it grew by doubling, and what lies behind it
/// is not to count as used. The allocator leaves the block where it is.
pub fn give_room_back(output: &mut Vec<u8>) {
    let room = output.capacity() - output.len();
    if room > ROOM_KEPT && room < output.len() {
        output.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn say(r: &mut Replies, text: &str) {
        let start = r.buffer().len();
        r.buffer().extend_from_slice(text.as_bytes());
        r.commit(start);
    }

    #[test]
    fn places_are_reached_when_all_before_them_are_filled() {
        let mut r = Replies::default();
        let (a, b) = (r.expect(false), r.expect(true));
        let end = r.end();
        r.fill(b, b"b");
        assert!(!r.reached(end));
        r.fill(a, b"a");
        assert!(r.reached(end) && !r.reached(end + 1));
    }

    #[test]
    fn growth_is_known_before_it_happens() {
        let mut r = Replies::default();
        let seqs: Vec<u32> = (0..40).map(|_| r.expect(false)).collect();
        for (i, seq) in seqs[1..].iter().rev().chain(&seqs[..1]).enumerate() {
            let (n, before) = (1000 * i + 100, r.capacity());
            let (growth, alone) = (r.growth(*seq, n), *seq != seqs[0]);
            r.fill(*seq, &vec![b'x'; n]);
            let grown = r.capacity() - before;
            assert!(if alone { grown == growth } else { grown >= growth });
        }
    }

    #[test]
    fn output_that_waits_is_in_pieces_of_its_size() {
        let mut r = Replies::default();
        let mut want = Vec::new();
        for i in 0..50u8 {
            let bytes = vec![i; 20_000 * (1 + i as usize % 4)];
            r.buffer().extend_from_slice(&bytes);
            want.extend_from_slice(&bytes);
            r.split();
            assert_eq!(r.memory(), want.len());
            assert!(r.out.len() < PIECE);
        }
        let mut sent = Vec::new();
        // One that is not ready to take anything leaves all in its place.
        r.take_next(|_| {});
        for _ in 0..3 {
            r.take_next(|next| sent.append(next));
        }
        assert!(r.has_pieces() && r.memory() == want.len() - sent.len());
        sent.append(&mut r.take_all());
        assert!(sent == want && !r.has_output() && r.memory() == 0);
        r.buffer().extend_from_slice(b"x");
        r.take_next(|next| assert_eq!(std::mem::take(next), b"x"));
        assert!(!r.has_output());
    }

    proptest! {
        #[test]
        fn replies_leave_in_the_order_of_requests(
            kinds in proptest::collection::vec(0u8..3, 1..40),
            order in proptest::collection::vec(any::<u16>(), 40),
        ) {
            let mut r = Replies::default();
            let mut want = String::new();
            let mut open = Vec::new();
            for (i, k) in kinds.iter().enumerate() {
                match k {
                    0 => { say(&mut r, &format!("{i};")); want.push_str(&format!("{i};")); }
                    1 => { open.push((r.expect(false), i)); want.push_str(&format!("{i};")); }
                    _ => open.push((r.expect(true), i)),
                }
            }
            for pick in order {
                if open.is_empty() { break; }
                let (seq, i) = open.remove(pick as usize % open.len());
                r.fill(seq, format!("{i};").as_bytes());
            }
            while let Some((seq, i)) = open.pop() {
                r.fill(seq, format!("{i};").as_bytes());
            }
            prop_assert_eq!(r.outstanding(), 0);
            prop_assert_eq!(String::from_utf8(r.out).unwrap(), want);
        }
    }
}
