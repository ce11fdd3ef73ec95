//! FAILOVER: handing the role of primary to a replica without losing a write.
//!
//! Writes are held back until the replica has acknowledged everything, then
//! this server becomes its replica and says `PSYNC ... FAILOVER`, by which the
//! other becomes primary. If the other refuses, this server takes its role back.

use super::event::{Action, FailoverOrder, LinkId, Ms};
use super::node::Node;
use super::replica::Replica;

/// How far a failover has come (INFO master_failover_state).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    None,
    /// Writes are held back; the replica has not acknowledged everything yet.
    WaitingForSync,
    /// This server asks the other to take over.
    InProgress,
}

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    pub phase: Phase,
    order: FailoverOrder,
    deadline: Option<Ms>,
    /// What the replica must have acknowledged; known once no write is on its
    /// way any more. Only a request for acknowledgements comes behind it, and
    /// who answers that has it.
    goal: Option<u64>,
}

impl Failover {
    pub fn underway(&self) -> bool {
        self.phase != Phase::None
    }

    pub fn holds_writes(&self) -> bool {
        self.underway()
    }

    /// INFO master_failover_state.
    pub fn name(&self) -> &'static str {
        match self.phase {
            Phase::None => "no-failover",
            Phase::WaitingForSync => "waiting-for-sync",
            Phase::InProgress => "failover-in-progress",
        }
    }
}

fn is_target(replica: &Replica, target: &(String, u16)) -> bool {
    replica.peer.port == target.1 && (replica.peer.address() == target.0 || replica.peer.ip == target.0)
}

impl Node {
    /// May FAILOVER begin? The error's text if not.
    pub fn check_failover(&self, order: &FailoverOrder) -> Result<(), &'static str> {
        if self.failover.underway() {
            return Err("ERR FAILOVER already in progress.");
        }
        if self.upstream.is_some() {
            return Err("ERR FAILOVER is not valid when server is a replica.");
        }
        if self.replicas.is_empty() {
            return Err("ERR FAILOVER requires connected replicas.");
        }
        if order.force && (order.timeout_ms.is_none() || order.target.is_none()) {
            return Err("ERR FAILOVER with force option requires both a timeout and target HOST and IP.");
        }
        if let Some(target) = &order.target {
            let Some(replica) = self.replicas.values().find(|r| is_target(r, target)) else {
                return Err("ERR FAILOVER target HOST and PORT is not a replica.");
            };
            if !replica.online() {
                return Err("ERR FAILOVER target replica is not online.");
            }
        }
        Ok(())
    }

    pub(super) fn on_failover(&mut self, order: FailoverOrder) {
        if self.check_failover(&order).is_err() {
            return;
        }
        self.notice("FAILOVER requested.".into());
        let deadline = order.timeout_ms.map(|ms| self.now + ms);
        self.failover = Failover { phase: Phase::WaitingForSync, order, deadline, goal: None };
        self.act(Action::PauseWrites);
    }

    /// Writes are held back: what is in the stream now is all there is.
    pub(super) fn on_paused(&mut self) {
        if self.failover.phase == Phase::WaitingForSync && self.failover.goal.is_none() {
            self.failover.goal = Some(self.window.end);
            self.append(super::primary::GETACK);
            self.failover_acked();
        }
    }

    /// FAILOVER ABORT.
    pub(super) fn on_failover_abort(&mut self) {
        self.abort_failover("Failover manually aborted");
    }

    /// Gives up; a server that had already begun to be a replica takes its
    /// role back.
    pub(super) fn abort_failover(&mut self, reason: &str) {
        let phase = self.failover.phase;
        if phase == Phase::None {
            return;
        }
        self.notice(format!("Aborting failover: {reason}"));
        if phase == Phase::InProgress {
            self.become_primary();
        }
        self.clear_failover();
    }

    pub(super) fn clear_failover(&mut self) {
        if self.failover.underway() {
            self.failover = Failover::default();
            self.act(Action::ResumeWrites);
        }
    }

    /// Has a replica caught up?
    pub(super) fn failover_acked(&mut self) {
        if self.failover.phase != Phase::WaitingForSync {
            return;
        }
        let Some(goal) = self.failover.goal else { return };
        let fits = |r: &&Replica| {
            r.online() && r.acked >= goal && self.failover.order.target.as_ref().is_none_or(|t| is_target(r, t))
        };
        if let Some(r) = self.replicas.values().find(fits) {
            let target = (r.peer.address().to_string(), r.peer.port);
            self.notice(format!("Failover target {}:{} is synced, failing over.", target.0, target.1));
            self.hand_over(target);
        }
    }

    fn hand_over(&mut self, target: (String, u16)) {
        self.failover.phase = Phase::InProgress;
        self.become_replica(target.0, target.1);
    }

    pub(super) fn failover_lost(&mut self, _link: LinkId) {
        if self.failover.phase != Phase::WaitingForSync {
            return;
        }
        let target_left =
            self.failover.order.target.as_ref().is_some_and(|t| !self.replicas.values().any(|r| is_target(r, t)));
        if target_left || self.replicas.is_empty() {
            self.abort_failover("Failover target replica has disconnected");
        }
    }

    pub(super) fn failover_tick(&mut self) {
        if self.failover.phase != Phase::WaitingForSync {
            return;
        }
        self.failover_acked();
        if self.failover.phase != Phase::WaitingForSync || self.failover.deadline.is_none_or(|d| self.now < d) {
            return;
        }
        match (self.failover.order.force, self.failover.order.target.clone()) {
            (true, Some(target)) => {
                self.notice(format!("Failover to {}:{} time out exceeded, failing over.", target.0, target.1));
                self.hand_over(target);
            }
            _ => self.abort_failover("Replica never caught up before timeout"),
        }
    }
}
