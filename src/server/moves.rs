//! Moving slots between cores, live.
//!
//! A move is a transaction on the old and the new owner that locks the slot.
//! The old owner hands the slot's tables and watches over in one message and
//! sends on whatever still comes for it; the new owner keeps the slot locked
//! until the tables are in place. Then every core learns the new route, and
//! sends a marker after the last request by the old one: by way of the old
//! owner to the new. When all markers are in, the slot may move again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::msg::{Msg, Origin};
use super::tx::{Kind, Plan, Tx};
use crate::resp::reply::Proto;
use crate::session::conn::ConnRef;
use crate::session::watch::{Moved, Token};
use crate::store::SlotPack;
use crate::transaction::locks::{Mode, Span};

/// A slot's contents on their way.
pub struct Table {
    pack: SlotPack,
    watches: Moved,
}

/// Markers of a slot that are still to come, and the core it came from.
pub struct Awaited {
    left: usize,
    from: usize,
}

/// Moves of one core that are not over; the others wait for them. A core that
/// is slow to take slots in has no more of them before it than this of each
/// other core: its clients wait behind them.
const MOVES_MAX: usize = 64;

impl Core {
    /// Takes slots of this core into the queue of those to be moved away; how
    /// many will be. Slots on their way here count as being here.
    pub fn queue_moves(&mut self, slots: &[u16], to: usize) -> usize {
        let map = self.shared.sequencer.map();
        let before = self.moves_waiting.len();
        if to != self.id {
            let mine = slots.iter().filter(|s| map[**s as usize] as usize == self.id);
            self.moves_waiting.extend(mine.map(|s| (*s, to)));
        }
        self.moves_stalled = false;
        self.moves_waiting.len() - before
    }

    pub fn may_start_moves(&self) -> bool {
        // Slots stay where a snapshot is being loaded for them.
        !self.moves_waiting.is_empty() && self.incoming.is_none() && self.moves_out < MOVES_MAX && !self.moves_stalled
    }

    /// Starts what waits, as many as may be under way. Slots whose last move is
    /// not over yet are tried again when one ends, or with the next tick.
    pub fn start_waiting_moves(&mut self) {
        if !self.may_start_moves() {
            return;
        }
        let map = self.shared.sequencer.map();
        let mut started = false;
        for _ in 0..self.moves_waiting.len() {
            let Some((slot, to)) = self.moves_waiting.pop_front() else { break };
            if self.moves_out >= MOVES_MAX {
                self.moves_waiting.push_front((slot, to));
                break;
            }
            if self.start_move(slot, to) {
                started = true;
            } else if map[slot as usize] as usize == self.id {
                self.moves_waiting.push_back((slot, to));
            }
        }
        self.moves_stalled = !started;
    }

    /// Starts to move a slot from this core; false when it is not here or
    /// still on the move.
    pub fn start_move(&mut self, slot: u16, to: usize) -> bool {
        if !self.owns(slot) || to == self.id || to >= self.shared.cores {
            return false;
        }
        if self.shared.moving_slots[slot as usize].swap(true, Ordering::AcqRel) {
            return false;
        }
        let from = self.id;
        let epoch = self.shared.moves.fetch_add(1, Ordering::Relaxed) as u32 + 1;
        let nobody = ConnRef { core: from as u32, index: u32::MAX, generation: 0 };
        let origin =
            Origin { conn: nobody, seq: 0, client: 0, db: 0, proto: Proto::Resp2, no_touch: true, tracked: false };
        let ordered = self.submit_tx(origin, Kind::Move { slot, from, to, epoch }, |_, _| {
            let mut plan = Plan::default();
            for c in [from, to] {
                plan.part(c).need.wide = Some((Span::Slot(slot), Mode::Exclusive));
            }
            plan
        });
        if !ordered {
            self.shared.moving_slots[slot as usize].store(false, Ordering::Release);
        }
        self.moves_out += usize::from(ordered);
        ordered
    }

    pub fn move_granted(&mut self, tx: Arc<Tx>, slot: u16, (from, to): (usize, usize), epoch: u32) {
        if self.id == from {
            self.forget_reads_of_slot(slot);
            let table = Table { pack: self.store.give_slot(slot), watches: self.watches.take_slot(slot) };
            for w in &table.watches {
                self.watches_sent.entry(w.3).or_default().push(to);
            }
            self.set_route(slot, to);
            self.send_waiting_home(slot);
            self.stats.slots_moved += 1;
            let id = tx.id;
            self.send(to, Msg::Call(Box::new(move |core: &mut Core| core.table_arrived(tx, table, slot, from, epoch))));
            self.unlock(id);
        } else {
            self.set_route(slot, to);
            self.install_arrived(&tx, slot, from, epoch);
        }
    }

    fn table_arrived(&mut self, tx: Arc<Tx>, table: Table, slot: u16, from: usize, epoch: u32) {
        self.arrived.insert(tx.id, table);
        if self.held.contains_key(&tx.id) {
            self.install_arrived(&tx, slot, from, epoch);
        }
    }

    fn install_arrived(&mut self, tx: &Tx, slot: u16, from: usize, epoch: u32) {
        let Some(table) = self.arrived.remove(&tx.id) else { return };
        self.store.install_slot(table.pack);
        self.watches.install(table.watches);
        self.markers.insert(slot, Awaited { left: self.shared.cores - 1, from });
        let me = self.id;
        for c in (0..self.shared.cores).filter(|c| *c != me) {
            self.send(c, Msg::Call(Box::new(move |core: &mut Core| core.learn_route(slot, me, from, epoch))));
        }
        self.unlock(tx.id);
    }

    /// Forgets a connection's watch, also where slots have taken parts of it:
    /// the word to forget may have overtaken them.
    pub fn forget_watch(&mut self, token: Token) {
        self.watches.remove(token);
        for table in self.arrived.values_mut() {
            table.watches.retain(|w| w.3 != token);
        }
        for to in self.watches_sent.remove(&token).unwrap_or_default() {
            self.send(to, Msg::Call(Box::new(move |core: &mut Core| core.forget_watch(token))));
        }
    }

    fn set_route(&mut self, slot: u16, to: usize) {
        self.map_epoch += 1;
        self.map[slot as usize] = to as u16;
        self.slot_epoch[slot as usize] = self.map_epoch;
    }

    /// Another core owns the slot now.
    fn learn_route(&mut self, slot: u16, owner: usize, from: usize, _epoch: u32) {
        if self.map[slot as usize] as usize != owner {
            self.set_route(slot, owner);
        }
        // The requests of this turn by the old route go out before the marker.
        if let Some(b) = self.batches[from].take() {
            self.outbox[from].push_back(Msg::Requests(b));
        }
        self.send(from, Msg::Call(Box::new(move |core: &mut Core| core.relay_marker(slot, owner))));
    }

    fn relay_marker(&mut self, slot: u16, owner: usize) {
        if let Some(b) = self.batches.get_mut(owner).and_then(Option::take) {
            self.outbox[owner].push_back(Msg::Requests(b));
        }
        self.send(owner, Msg::Call(Box::new(move |core: &mut Core| core.marker_in(slot))));
    }

    fn marker_in(&mut self, slot: u16) {
        let Some(awaited) = self.markers.get_mut(&slot) else { return };
        awaited.left -= 1;
        if awaited.left > 0 {
            return;
        }
        let from = awaited.from;
        self.markers.remove(&slot);
        self.moves_stalled = false;
        self.shared.moving_slots[slot as usize].store(false, Ordering::Release);
        self.send(from, Msg::Call(Box::new(Core::move_over)));
    }

    /// One of the slots that left here has arrived, and nothing will come for
    /// it by the old route.
    fn move_over(&mut self) {
        self.moves_out -= 1;
        self.moves_stalled = false;
    }
}
