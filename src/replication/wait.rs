//! WAIT and WAITAOF: clients that wait for acknowledgements.

use std::collections::BTreeMap;

use super::event::{Action, Ms, Ticket};
use super::node::Node;
use super::primary::GETACK;

/// One client's wait.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub offset: u64,
    /// This server must have everything stamped up to this time on disk.
    pub local: Option<u64>,
    pub replicas: usize,
    /// Replicas must have it on disk.
    pub fsynced: bool,
    pub deadline: Option<Ms>,
}

/// All waits that are not answered.
#[derive(Debug, Default)]
pub struct Waits {
    pub all: BTreeMap<Ticket, Waiting>,
    /// Offset of the last request for acknowledgements in the stream: what
    /// stands before it will be acknowledged without another request.
    pub asked_at: Option<u64>,
}

impl Node {
    /// Replicas that have `offset`.
    pub fn replicas_with(&self, offset: u64, fsynced: bool) -> usize {
        let has = |acked: u64, on_disk: u64| if fsynced { on_disk >= offset } else { acked >= offset };
        self.replicas.values().filter(|r| r.online() && has(r.acked, r.fsynced)).count()
    }

    pub(super) fn on_wait(&mut self, ticket: Ticket, waiting: Waiting) {
        if let Some(done) = self.wait_outcome(ticket, &waiting) {
            return self.act(done);
        }
        self.waits.all.insert(ticket, waiting);
        if waiting.replicas > 0 {
            self.ask_for_acks(waiting.offset);
        }
    }

    /// The answer, if there is one by now.
    fn wait_outcome(&self, ticket: Ticket, w: &Waiting) -> Option<Action> {
        let replicas = self.replicas_with(w.offset, w.fsynced);
        let local = w.local.is_some_and(|stamp| self.durable_past > stamp);
        let all = replicas >= w.replicas && (local || w.local.is_none());
        (all || w.deadline.is_some_and(|d| d <= self.now)).then_some(Action::WaitDone { ticket, local, replicas })
    }

    /// This server has so much of the stream, and everything stamped below
    /// this time, on disk.
    pub(super) fn on_fsynced(&mut self, offset: u64, past: u64) {
        self.fsynced = offset;
        self.durable_past = past;
        self.settle_waits();
    }

    /// Puts a request for acknowledgements behind `offset`, unless one stands there.
    pub(super) fn ask_for_acks(&mut self, offset: u64) {
        let asked = self.waits.asked_at.is_some_and(|at| at >= offset && at <= self.window.end);
        if asked || self.upstream.is_some() || self.replicas.is_empty() {
            return;
        }
        self.waits.asked_at = Some(self.window.end);
        self.append(GETACK);
    }

    /// Answers those that have what they wait for, or whose time is up.
    pub(super) fn settle_waits(&mut self) {
        let all = self.waits.all.iter();
        let done: Vec<_> = all.filter_map(|(ticket, w)| Some((*ticket, self.wait_outcome(*ticket, w)?))).collect();
        for (ticket, action) in done {
            self.waits.all.remove(&ticket);
            self.act(action);
        }
    }
}
