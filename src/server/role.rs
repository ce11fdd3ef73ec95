//! What replication means for a core's clients: which commands are refused.
//!
//! A core tests one byte for a plain command: its open gates against those of
//! the command's row. Only what a gate concerns looks further.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use super::core::Core;
use crate::command::Fault;
use crate::command::spec::{Spec, flag};

/// Holds up commands that may write.
pub const WRITES: u8 = 1;

/// Holds up all commands.
pub const ALL: u8 = 2;

/// Shows commands to monitors.
pub const SHOWN: u8 = 4;

/// Holds up commands that need memory.
pub const MEMORY: u8 = 8;

/// The gates that concern a command.
pub fn gates_of(spec: &Spec) -> u8 {
    let writes = if spec.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0 { WRITES } else { 0 };
    let shown = if super::monitor::is_private(spec) { 0 } else { SHOWN };
    let memory = if spec.is(flag::DENYOOM) { MEMORY } else { 0 };
    ALL | writes | shown | memory
}

/// The server in replication, as every core knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub replica: bool,
    /// Writes of clients are still, or again, taken here: false from the
    /// moment a primary begins to step down.
    pub fenced: bool,
    /// A replica has a working link to its primary.
    pub link_up: bool,
    /// The primary that was connected last.
    pub primary: Option<SocketAddr>,
    /// Replicas that acknowledge in time (min-replicas-max-lag).
    pub good_replicas: usize,
}

impl Default for Role {
    fn default() -> Role {
        Role { replica: false, fenced: false, link_up: true, primary: None, good_replicas: 0 }
    }
}

const READONLY: Fault = Fault::Text("READONLY You can't write against a read only replica.");
const NOREPLICAS: Fault = Fault::Text("NOREPLICAS Not enough good replicas to write.");
pub const MASTERDOWN: Fault =
    Fault::Text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");

impl Core {
    /// Takes over what the service core says of the role.
    pub fn take_role(&mut self, role: Role) {
        self.role = role;
        self.update_gate();
    }

    /// Puts the gates where pause, role, settings and persistence want them.
    pub fn update_gate(&mut self) {
        let read_only = self.role.replica && (self.settings.replication.replica_read_only || self.role.fenced);
        let p = &self.shared.persistence;
        let (loading, errno) = (p.loading.load(Ordering::SeqCst), p.aof.errno.load(Ordering::SeqCst));
        let mut gate = 0;
        if self.pause.active {
            gate |= if self.pause.all { ALL } else { WRITES };
        }
        if errno != 0 || self.saves_fail() || read_only || self.lacks_replicas() {
            gate |= WRITES;
        }
        let beside = p.async_loading.load(Ordering::SeqCst);
        self.scripts.busy = self.shared.scripts.slow_count.load(Ordering::SeqCst) > 0;
        if self.stale() || loading || beside || self.scripts.busy {
            gate |= ALL;
        }
        if self.monitors.any() {
            gate |= SHOWN;
        }
        self.update_room();
        if self.room_is_awaited() {
            gate |= ALL;
        }
        if self.out_of_memory() {
            gate |= MEMORY;
        }
        self.gate = gate;
        self.options.keep_expired = self.pause.active || self.role.replica;
        self.update_local_deadlines();
    }

    /// Must a primary refuse writes for want of replicas?
    fn lacks_replicas(&self) -> bool {
        let r = &self.settings.replication;
        let wanted = if r.min_replicas_max_lag_s == 0 { 0 } else { r.min_replicas_to_write as usize };
        !self.role.replica && self.role.good_replicas < wanted
    }

    /// Is this a replica without its primary, that must not serve what it has?
    pub fn is_stale(&self) -> bool {
        self.stale()
    }

    /// Why a client's write is refused, whatever it is.
    pub fn write_refusal(&self) -> Option<Fault> {
        if self.role.replica && (self.settings.replication.replica_read_only || self.role.fenced) {
            return Some(READONLY);
        }
        let errno = self.shared.persistence.aof.errno.load(Ordering::Relaxed);
        if let Some(f) = self.disk_refusal(errno) {
            return Some(f);
        }
        self.lacks_replicas().then_some(NOREPLICAS)
    }

    fn stale(&self) -> bool {
        self.role.replica && !self.role.link_up && !self.settings.replication.replica_serve_stale_data
    }

    /// The error of a command that the role forbids; `stale`: that may run without
    /// a primary.
    pub fn refused_by_role(&self, writes: bool, stale: bool) -> Option<Fault> {
        if writes && self.lacks_replicas() {
            return Some(NOREPLICAS);
        }
        if writes && self.role.replica && (self.settings.replication.replica_read_only || self.role.fenced) {
            return Some(READONLY);
        }
        (self.stale() && !stale).then_some(MASTERDOWN)
    }
}
