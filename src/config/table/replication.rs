//! Both roles of replication.

use super::{choice, flag, list, number, text};
use crate::config::directive::{Directive, Kind, Unit};
use crate::config::words;

const NO_REPLICATION: &str = "there is no replication yet";

/// Smaller backlogs are taken for this size without an error, as in Redis.
const BACKLOG_BYTES_MIN: i128 = 16 << 10;

const BACKLOG: Kind = Kind::Number {
    default: 1 << 20,
    min: 1,
    max: i64::MAX as i128,
    unit: Unit::Memory,
    get: |s| i128::from(s.replication.repl_backlog_size),
    set: |s, value| s.replication.repl_backlog_size = value.max(BACKLOG_BYTES_MIN) as u64,
};

pub(super) static ROWS: &[Directive] = &[
    list!("replicaof", "no one", true, words::parse_replicaof, words::print_replicaof, Some(words::replicaof_lines))
        .alias("slaveof")
        .immutable()
        .later(NO_REPLICATION),
    text!("masteruser", replication.masteruser).sensitive().kept(NO_REPLICATION),
    text!("masterauth", "", true, words::password, replication.masterauth).sensitive().kept(NO_REPLICATION),
    flag!("replica-serve-stale-data", true, replication.replica_serve_stale_data)
        .alias("slave-serve-stale-data")
        .kept(NO_REPLICATION),
    flag!("replica-read-only", true, replication.replica_read_only).alias("slave-read-only").kept(NO_REPLICATION),
    number!("replica-priority", 100, 0, i32::MAX, replication.replica_priority)
        .alias("slave-priority")
        .kept(NO_REPLICATION),
    flag!("replica-announced", true, replication.replica_announced).kept(NO_REPLICATION),
    text!("replica-announce-ip", replication.replica_announce_ip).alias("slave-announce-ip").kept(NO_REPLICATION),
    number!("replica-announce-port", 0, 0, 65535, replication.replica_announce_port)
        .alias("slave-announce-port")
        .kept(NO_REPLICATION),
    flag!("replica-ignore-maxmemory", true, replication.replica_ignore_maxmemory)
        .alias("slave-ignore-maxmemory")
        .kept(NO_REPLICATION),
    flag!("replica-ignore-disk-write-errors", false, replication.replica_ignore_disk_write_errors).kept(NO_REPLICATION),
    flag!("replica-lazy-flush", false, replication.replica_lazy_flush).alias("slave-lazy-flush").kept(NO_REPLICATION),
    flag!("repl-diskless-sync", true, replication.repl_diskless_sync).kept(NO_REPLICATION),
    number!("repl-diskless-sync-delay", 5, 0, i32::MAX, replication.repl_diskless_sync_delay_s).kept(NO_REPLICATION),
    number!("repl-diskless-sync-max-replicas", 0, 0, i32::MAX, replication.repl_diskless_sync_max_replicas)
        .kept(NO_REPLICATION),
    choice!("repl-diskless-load", DisklessLoad::Disabled, replication.repl_diskless_load)
        .deny_loading()
        .kept(NO_REPLICATION),
    number!("repl-ping-replica-period", 10, 1, i32::MAX, replication.repl_ping_replica_period_s)
        .alias("repl-ping-slave-period")
        .kept(NO_REPLICATION),
    number!("repl-timeout", 60, 1, i32::MAX, replication.repl_timeout_s).kept(NO_REPLICATION),
    flag!("repl-disable-tcp-nodelay", false, replication.repl_disable_tcp_nodelay).kept(NO_REPLICATION),
    Directive::new("repl-backlog-size", BACKLOG).kept(NO_REPLICATION),
    number!("repl-backlog-ttl", 3600, 0, i64::MAX, replication.repl_backlog_ttl_s).kept(NO_REPLICATION),
    number!("min-replicas-to-write", 0, 0, i32::MAX, replication.min_replicas_to_write)
        .alias("min-slaves-to-write")
        .later(NO_REPLICATION),
    number!("min-replicas-max-lag", 10, 0, i32::MAX, replication.min_replicas_max_lag_s)
        .alias("min-slaves-max-lag")
        .kept(NO_REPLICATION),
    choice!("propagation-error-behavior", PropagationError::Ignore, replication.propagation_error_behavior)
        .kept(NO_REPLICATION),
    text!("bind-source-addr", replication.bind_source_addr).kept(NO_REPLICATION),
];
