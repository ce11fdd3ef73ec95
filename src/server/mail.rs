//! What other cores have sent, in the order in which it is handled.
//!
//! Whoever has seen what a core did, a client that had its reply for instance,
//! and makes another core do something, finds the first before the second
//! wherever both cores send to a third. Stamps say which is which: a turn's
//! messages leave after the clock has passed its stamp, and what somebody does
//! who has heard of it is stamped later. Queues are looked at one after the
//! other, so that the second may be seen and the first not yet. Hence what was
//! stamped after looking began waits for the next turn: what came before it is
//! in its queue by then.

use std::collections::VecDeque;

use super::msg::Msg;
use crate::base::clock::mono_ns;
use crate::reactor::mesh::{Port, Stamped};

/// See the module's description.
#[derive(Default)]
pub struct Mail {
    /// By stamp, where several cores can have sent.
    queue: VecDeque<Stamped<Msg>>,
    /// Later stamps wait.
    until_ns: u64,
}

impl Mail {
    /// Takes what has come.
    pub fn receive(&mut self, port: &Port<Msg>) {
        // Itself, the service core and one other: nothing to be put in order.
        let several = port.cores() > 3;
        self.until_ns = if several { mono_ns() } else { u64::MAX };
        for from in 0..port.cores() {
            while let Some(m) = port.receive(from) {
                self.queue.push_back(m);
            }
        }
        if several {
            self.put_in_order();
        }
    }

    /// A stable order: of one sender's messages none overtakes another.
    fn put_in_order(&mut self) {
        let messages = self.queue.make_contiguous();
        if !messages.is_sorted_by_key(|m| m.stamp_ns) {
            messages.sort_by_key(|m| m.stamp_ns);
        }
    }

    /// The next message that is to be handled in this turn.
    pub fn take(&mut self) -> Option<Msg> {
        let due = self.queue.front()?.stamp_ns <= self.until_ns;
        due.then(|| self.queue.pop_front()).flatten().map(|m| m.message)
    }

    /// Takes what has come, and all that waits, however it is stamped.
    pub fn take_all(&mut self, port: &Port<Msg>) -> VecDeque<Stamped<Msg>> {
        self.receive(port);
        std::mem::take(&mut self.queue)
    }

    /// Does anything wait for the next turn?
    pub fn waits(&self) -> bool {
        !self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reactor::mesh::Mesh;
    use crate::reactor::wake::Wake;

    const NOBODY: Wake = Wake { sleeper: -1, others: -1 };

    /// Ports of two cores that send, of one that receives, and of the service.
    fn ports() -> (Port<Msg>, Port<Msg>, Port<Msg>) {
        let mesh = Arc::new(Mesh::new(vec![NOBODY; 4]));
        (Port::new(mesh.clone(), 0), Port::new(mesh.clone(), 1), Port::new(mesh, 2))
    }

    fn numbered(n: u32) -> Msg {
        let conn = crate::session::conn::ConnRef { core: 0, index: n, generation: 0 };
        Msg::Reply { conn, seq: n, reply: Vec::new() }
    }

    fn numbers(mail: &mut Mail) -> Vec<u32> {
        let number = |m| match m {
            Msg::Reply { seq, .. } => seq,
            _ => unreachable!("only replies were sent"),
        };
        std::iter::from_fn(|| mail.take().map(number)).collect()
    }

    #[test]
    fn what_came_first_is_handled_first_whoever_sent_it() {
        let (a, b, to) = ports();
        for (port, stamp, n) in [(&a, 20, 2), (&a, 20, 3), (&a, 40, 5), (&b, 10, 1), (&b, 30, 4), (&b, 40, 6)] {
            assert!(port.send(2, stamp, numbered(n)).is_ok());
        }
        let mut mail = Mail::default();
        mail.receive(&to);
        assert_eq!(numbers(&mut mail), [1, 2, 3, 4, 5, 6]);
        assert!(!mail.waits());
    }

    #[test]
    fn what_was_sent_while_looking_waits_for_what_came_before_it() {
        let (a, b, to) = ports();
        let future = mono_ns() + 50_000_000;
        assert!(b.send(2, 10, numbered(0)).is_ok());
        assert!(b.send(2, future, numbered(2)).is_ok());
        let mut mail = Mail::default();
        mail.receive(&to);
        assert_eq!(numbers(&mut mail), [0]);
        assert!(mail.waits());
        assert!(a.send(2, future - 1, numbered(1)).is_ok());
        while mono_ns() <= future {}
        mail.receive(&to);
        assert_eq!(numbers(&mut mail), [1, 2]);
    }
}
