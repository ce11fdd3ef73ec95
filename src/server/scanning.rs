//! SCAN over several cores.
//!
//! A step ends where a core's slots end. When it has not seen as many keys as
//! it was asked to by then, it goes on at the core that the next slot lies on,
//! and takes along what it has found, so that a keyspace which is smaller than
//! COUNT is seen in one step, as with one core. Every leg is a request by
//! message: it waits for locks and follows its slot as others do.

use super::core::Core;
use super::exec::owned;
use super::msg::{Head, Job, Msg, Parked};
use super::registry::Entry;
use super::serve::Flow;
use crate::base::Args;
use crate::base::slot::slot_of_hash;
use crate::command::effect::Tour;
use crate::observe::ticks;
use crate::session::conn::Conn;
use crate::store::scan::cursor_of;

/// Times that a step goes on, for each core there is. Slots lie in ranges, so
/// one is enough until they have been moved; then this bounds the work of a step.
const LEGS_PER_CORE: usize = 4;

impl Core {
    /// SCAN of a connection of this core, from a position. The connection waits
    /// for it: nothing is outstanding, and nothing follows before the reply.
    pub fn start_tour(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args, position: u64) -> Flow {
        conn.commands += 1;
        conn.last_command = Some(entry.index);
        let origin = self.origin(conn);
        conn.barrier = true;
        let head = Head { origin, job: Job::Command(entry.index), argc: args.len() as u32, hash: position, key_at: 0 };
        let legs_left = (LEGS_PER_CORE * self.shared.cores) as u32;
        let tour = Some(Box::new(Tour { legs_left, ..Tour::default() }));
        self.send_leg(Parked { tour, ..Parked::new(head, owned(args), self.now) });
        Flow::Next
    }

    fn send_leg(&mut self, request: Parked) {
        let to = self.map[slot_of_hash(request.head.hash) as usize] as usize;
        self.send(to, Msg::Forward(Box::new(request)));
    }

    /// A request is about to run by itself; the clock has been started. The tick
    /// at which it would have begun, had it run here alone.
    #[inline]
    pub fn start_leg(&mut self, tour: Option<Box<Tour>>) -> u64 {
        if let Some(t) = &tour {
            self.last_tick = self.last_tick.saturating_sub(t.spent);
        }
        self.fx.tour = tour;
        self.last_tick
    }

    /// It goes on at another core.
    pub fn next_leg(&mut self, h: &Head, args: Args, now: u64, (mut tour, begun): (Box<Tour>, u64)) {
        let Some(next) = tour.next.take() else { return };
        tour.spent = ticks::ticks().saturating_sub(begun);
        tour.legs_left -= 1;
        let mut args = owned(args);
        args[1] = cursor_of(next).to_string().into_bytes();
        let head = Head { hash: next, ..*h };
        self.send_leg(Parked { tour: Some(tour), ..Parked::new(head, args, now) });
    }
}
