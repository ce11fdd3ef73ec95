//! The settings that replication obeys, in the units it counts in.

use super::event::Ms;
use crate::config::Settings;

/// See the module's description; fields are the directives of like names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What this server tells its primary: port, address if announced.
    pub listening_port: u16,
    pub announce_ip: String,
    pub masteruser: String,
    pub masterauth: String,
    pub diskless_sync: bool,
    pub diskless_sync_delay_ms: Ms,
    /// 0: no limit to wait for.
    pub diskless_sync_max_replicas: usize,
    pub ping_period_ms: Ms,
    pub timeout_ms: Ms,
    pub backlog_bytes: u64,
    pub backlog_disk_bytes: u64,
    /// 0: never freed.
    pub backlog_ttl_ms: Ms,
    /// Of `client-output-buffer-limit replica`; 0: none.
    pub output_hard_bytes: u64,
    pub output_soft_bytes: u64,
    pub output_soft_ms: Ms,
    /// 0: writes are never refused for want of replicas.
    pub min_replicas: usize,
    pub min_replicas_max_lag_ms: Ms,
    /// Snapshots to disk are wanted for themselves (`save` points).
    pub save_points: bool,
    /// A dataset is not thrown away for a primary that came back without one.
    pub refuse_empty_primary: bool,
    /// `REPLCONF ACK` tells what is on disk.
    pub append_only: bool,
    pub databases: u32,
}

impl Policy {
    pub fn new(s: &Settings) -> Policy {
        let r = &s.replication;
        let limit = &s.output_limit_replica;
        let seconds = |n: u64| n.saturating_mul(1000);
        Policy {
            listening_port: if r.replica_announce_port != 0 { r.replica_announce_port } else { s.port },
            announce_ip: r.replica_announce_ip.clone(),
            masteruser: r.masteruser.clone(),
            masterauth: r.masterauth.clone(),
            diskless_sync: r.repl_diskless_sync,
            diskless_sync_delay_ms: seconds(r.repl_diskless_sync_delay_s.into()),
            diskless_sync_max_replicas: r.repl_diskless_sync_max_replicas as usize,
            ping_period_ms: seconds(r.repl_ping_replica_period_s.into()),
            timeout_ms: seconds(r.repl_timeout_s.into()),
            backlog_bytes: r.repl_backlog_size,
            backlog_disk_bytes: r.repl_backlog_disk_size,
            backlog_ttl_ms: seconds(r.repl_backlog_ttl_s),
            output_hard_bytes: limit.hard_bytes,
            output_soft_bytes: limit.soft_bytes,
            output_soft_ms: seconds(limit.soft_seconds),
            min_replicas: r.min_replicas_to_write as usize,
            min_replicas_max_lag_ms: seconds(r.min_replicas_max_lag_s.into()),
            save_points: !s.persistence.save.is_empty(),
            refuse_empty_primary: r.replica_refuse_empty_primary,
            append_only: s.persistence.appendonly,
            databases: s.databases,
        }
    }

    /// The limit on what a replica may leave unread: a smaller one than the
    /// backlog would drop replicas that the backlog could serve.
    pub fn output_hard_limit(&self) -> u64 {
        if self.output_hard_bytes == 0 { u64::MAX } else { self.output_hard_bytes.max(self.backlog_bytes) }
    }
}
