//! Commands that wait while a script is slow are refused.
//!
//! In Redis all clients' commands wait in their sockets while a script runs,
//! and get -BUSY when it takes too long. Here they may have been taken in: they
//! are parked behind the locks of a script over several cores, ordered as
//! transactions that need its core, or are questions that its core does not
//! answer. Those of which nothing has run yet are refused, on every core, as
//! soon as it hears of the slow script and as long as that lasts. A
//! transaction of which a part has written waits: it cannot be taken back.

use std::sync::Arc;

use super::Again;
use crate::command::Fault;
use crate::command::spec::flag;
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::msg::{Head, Job, Msg};
use crate::server::registry::{Entry, registry};
use crate::server::tx::{Kind, Tx, Waiter};
use crate::session::conn::ConnRef;
use crate::transaction::sequencer::INBOX_MAX;

/// The command that a client has asked for with a transaction; `None` for what
/// the server does by itself, and for slots that move.
fn asked_for(tx: &Tx) -> Option<&'static Entry> {
    if tx.origin.client == 0 {
        return None;
    }
    match &tx.kind {
        Kind::Split { command, .. } | Kind::Gather { command, .. } | Kind::Script { command, .. } => {
            Some(&registry().entries[*command])
        }
        Kind::Exec => registry().by_name("exec"),
        Kind::Image(_) | Kind::Apply(_) | Kind::Migrate(_) | Kind::Move { .. } | Kind::Cut(_) => None,
    }
}

/// Is it a client's command? Keys to be watched wait: WATCH is refused on its
/// connection's core, or not at all.
pub(super) fn may_refuse(h: &Head) -> bool {
    matches!(h.job, Job::Command(_)) && h.origin.client != 0
}

impl Core {
    /// A script has become slow on another core.
    pub fn hear_of_slow(&mut self) {
        self.update_gate();
        self.refuse_waiting();
    }

    /// Refuses what waits on this core while a script is slow.
    pub fn refuse_waiting(&mut self) {
        if self.shared.scripts.first_slow().is_none() {
            return;
        }
        self.refuse_locked_out();
        self.refuse_questions();
    }

    /// Refuses what waits in the lock queue.
    fn refuse_locked_out(&mut self) {
        if self.locks.is_empty() {
            return;
        }
        let (mut parked, mut parts) = (Vec::new(), Vec::new());
        for (seq, waiter) in self.locks.waiting() {
            match waiter {
                Waiter::Parked(p) if may_refuse(&p.head) => parked.push(seq),
                Waiter::Parked(_) => {}
                Waiter::Part(tx, _) => parts.push(tx.clone()),
            }
        }
        parts.iter().for_each(|tx| self.refuse_tx(tx));
        let mut freed = Vec::new();
        for seq in parked {
            if let Some((Waiter::Parked(p), next)) = self.locks.remove(seq) {
                self.refuse_request(&p.head);
                freed.extend(next);
            }
        }
        // Tried in the next turn: nothing runs while a script does.
        self.fresh_parts.extend(freed);
    }

    /// Transactions that need this core while it runs a slow script.
    pub(super) fn refuse_inbox(&mut self) {
        if !self.shared.sequencer.has_mail(self.id) || self.scripts.arrived.len() >= INBOX_MAX {
            return;
        }
        let arrived = self.shared.sequencer.take(self.id);
        arrived.iter().for_each(|tx| self.refuse_tx(tx));
        self.scripts.arrived.extend(arrived);
    }

    /// Calls a client's transaction off, if nothing of it has run.
    pub(super) fn refuse_tx(&mut self, tx: &Arc<Tx>) {
        let Some(entry) = asked_for(tx) else { return };
        let reads = matches!(tx.kind, Kind::Split { .. }) && entry.spec.is(flag::READONLY);
        if !tx.stage.call_off(reads) {
            return;
        }
        if tx.coordinator == self.id {
            self.tell_refused(tx);
        } else {
            self.send_at_once(tx.coordinator, Msg::Refused(tx.clone()));
        }
    }

    /// Tells the client of a transaction that was called off.
    pub fn tell_refused(&mut self, tx: &Tx) {
        let Some(entry) = asked_for(tx) else { return };
        let (conn, seq) = (tx.origin.conn, tx.origin.seq);
        if !matches!(tx.kind, Kind::Exec) {
            let reply = self.refusal(entry, &tx.origin);
            return self.finish_conn(conn, seq, &reply);
        }
        let fault = self.busy_fault();
        let Some(mut conn) = self.take_conn(conn) else { return };
        conn.replies.withdraw(seq);
        conn.barrier = false;
        let _ = self.reject(&mut conn, Some(entry), &fault);
        self.mark_dirty(&mut conn);
        self.mark_ready(&mut conn);
        self.put_conn(conn);
    }

    /// Refuses one request, from whatever core it came.
    pub(super) fn refuse_request(&mut self, h: &Head) {
        let Job::Command(command) = h.job else { return };
        let reply = self.refusal(&registry().entries[command], &h.origin);
        let (conn, seq) = (h.origin.conn, h.origin.seq);
        if conn.core as usize == self.id {
            self.deliver(conn, seq, &reply);
        } else {
            self.send_at_once(conn.core as usize, Msg::Reply { conn, seq, reply });
        }
    }

    /// Refuses a script that was to run once more; false if none is slow.
    pub(super) fn refuse_again(&mut self, again: &Again) -> bool {
        if self.shared.scripts.first_slow().is_none() {
            return false;
        }
        let reply = self.refusal(&registry().entries[again.command], &again.origin);
        self.finish_conn(again.origin.conn, again.origin.seq, &reply);
        true
    }

    /// Questions to all cores, of commands that only read.
    fn refuse_questions(&mut self) {
        for (origin, entry) in self.gathers.withdraw(|e| e.spec.is(flag::READONLY) || e.spec.name == "info") {
            let (conn, seq, proto): (ConnRef, u32, _) = origin;
            let fault = self.busy_fault();
            self.count_refused(entry, &fault);
            let mut reply = Vec::new();
            Reply::new(&mut reply, proto).error(fault.text());
            self.deliver(conn, seq, &reply);
        }
    }

    /// While a script runs here, what has been sent may wait for the disk.
    fn send_at_once(&mut self, to: usize, msg: Msg) {
        if self.scripts.engine.is_some() {
            return self.send(to, msg);
        }
        if let Err(back) = self.port.send(to, self.stamp, msg) {
            self.send(to, back);
        }
        self.shared.mesh.rouse(to);
    }

    fn busy_fault(&self) -> Fault {
        self.shared.scripts.busy().unwrap_or(super::slow::BUSY_SCRIPT)
    }

    fn count_refused(&mut self, entry: &Entry, fault: &Fault) {
        self.stats.commands[entry.index].rejected += 1;
        self.stats.count_error(fault.code());
    }

    fn refusal(&mut self, entry: &Entry, origin: &crate::server::msg::Origin) -> Vec<u8> {
        let fault = self.busy_fault();
        self.count_refused(entry, &fault);
        let mut reply = Vec::new();
        Reply::new(&mut reply, origin.proto).error(fault.text());
        reply
    }
}
