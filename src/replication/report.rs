//! What INFO replication and ROLE say.

use std::fmt::Write;

use super::event::Ms;
use super::history::Window;
use super::node::Node;
use super::upstream::{State, Upstream};

/// What the settings add to INFO replication.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    pub priority: u32,
    pub read_only: bool,
    pub announced: bool,
}

/// The answer to ROLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Primary { offset: u64, replicas: Vec<(String, u16, u64)> },
    Replica { host: String, port: u16, state: &'static str, offset: i64 },
}

fn seconds(since: Ms, now: Ms) -> u64 {
    now.saturating_sub(since) / 1000
}

impl Node {
    pub fn role(&self, window: Window) -> Role {
        match &self.upstream {
            None => Role::Primary {
                offset: window.end,
                replicas: self
                    .replicas
                    .values()
                    .filter(|r| r.online())
                    .map(|r| (r.peer.address().to_string(), r.peer.port, r.acked))
                    .collect(),
            },
            Some(up) => Role::Replica {
                host: up.host.clone(),
                port: up.port,
                state: up.state_name(),
                offset: if up.connected() { window.end as i64 } else { -1 },
            },
        }
    }

    /// The section's lines, `field:value`, in Redis's order.
    pub fn info(&self, now: Ms, window: Window, shown: Shown) -> String {
        let mut t = String::new();
        let put = |t: &mut String, name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(t, "{name}:{value}\r\n");
        };
        match &self.upstream {
            None => put(&mut t, "role", &"master"),
            Some(up) => {
                put(&mut t, "role", &"slave");
                self.upstream_info(&mut t, up, now, window, shown);
            }
        }
        put(&mut t, "connected_slaves", &self.replicas.len());
        if self.policy.min_replicas > 0 && self.policy.min_replicas_max_lag_ms > 0 {
            put(&mut t, "min_slaves_good_slaves", &self.good_replicas());
        }
        for (i, r) in self.replicas.values().enumerate() {
            let (ip, port, state) = (r.peer.address(), r.peer.port, r.state_name());
            let (offset, lag) = (r.acked, r.lag_s(now));
            put(
                &mut t,
                &format!("slave{i}"),
                &format_args!("ip={ip},port={port},state={state},offset={offset},lag={lag}"),
            );
        }
        put(&mut t, "master_failover_state", &self.failover.name());
        put(&mut t, "master_replid", &self.history.id);
        put(&mut t, "master_replid2", &self.history.id2);
        put(&mut t, "master_repl_offset", &window.end);
        put(&mut t, "second_repl_offset", &self.history.second_offset_shown());
        put(&mut t, "repl_backlog_active", &u8::from(window.active));
        put(&mut t, "repl_backlog_size", &self.policy.backlog_bytes);
        put(&mut t, "repl_backlog_first_byte_offset", &if window.active { window.first } else { 0 });
        put(&mut t, "repl_backlog_histlen", &window.len());
        if self.policy.backlog_disk_bytes > 0 {
            put(&mut t, "repl_backlog_disk_size", &self.policy.backlog_disk_bytes);
            put(&mut t, "repl_backlog_disk_histlen", &window.kept.saturating_sub(window.first));
        }
        t
    }

    fn upstream_info(&self, t: &mut String, up: &Upstream, now: Ms, window: Window, shown: Shown) {
        let put = |t: &mut String, name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(t, "{name}:{value}\r\n");
        };
        put(t, "master_host", &up.host);
        put(t, "master_port", &up.port);
        put(t, "master_link_status", &if up.connected() { "up" } else { "down" });
        let io = if up.connected() { seconds(up.heard_at, now) as i64 } else { -1 };
        put(t, "master_last_io_seconds_ago", &io);
        let syncing = matches!(up.state, State::Sync | State::Loading);
        put(t, "master_sync_in_progress", &u8::from(syncing));
        // Redis shows 1 where there is no position in any history.
        let (read, applied) = if up.resumable { (up.offset() + up.pending_bytes(), window.end) } else { (1, 1) };
        put(t, "slave_read_repl_offset", &read);
        put(t, "slave_repl_offset", &applied);
        if let Some((total, read)) = up.sync_progress() {
            let left = (total - read as i64).max(0);
            let percent = if total == 0 { 0.0 } else { read as f64 / total as f64 * 100.0 };
            put(t, "master_sync_total_bytes", &total);
            put(t, "master_sync_read_bytes", &read);
            put(t, "master_sync_left_bytes", &left);
            put(t, "master_sync_perc", &format_args!("{percent:.2}"));
            put(t, "master_sync_last_io_seconds_ago", &seconds(up.heard_at, now));
        }
        if !up.connected() {
            let down = match up.down_since {
                Some(since) if up.was_up => seconds(since, now) as i64,
                _ => -1,
            };
            put(t, "master_link_down_since_seconds", &down);
        }
        put(t, "slave_priority", &shown.priority);
        put(t, "slave_read_only", &u8::from(shown.read_only));
        put(t, "replica_announced", &u8::from(shown.announced));
    }
}
