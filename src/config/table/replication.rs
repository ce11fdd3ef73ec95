//! Both roles of replication.

use super::{choice, flag, list, number, text};
use crate::config::directive::{Directive, Kind, Unit};
use crate::config::words;

const ALWAYS_LAZY: &str = "old data is always freed in the background";
const NO_DISK_ERRORS: &str = "a replica goes on when its disk fails, and says so in the log";
const ALWAYS_IGNORED: &str = "errors of the stream are always logged and passed over";

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
        .immutable(),
    text!("masteruser", replication.masteruser).later_name("primaryuser").sensitive(),
    text!("masterauth", "", true, words::password, replication.masterauth).later_name("primaryauth").sensitive(),
    flag!("replica-serve-stale-data", true, replication.replica_serve_stale_data).alias("slave-serve-stale-data"),
    flag!("replica-read-only", true, replication.replica_read_only).alias("slave-read-only"),
    number!("replica-priority", 100, 0, i32::MAX, replication.replica_priority).alias("slave-priority"),
    flag!("replica-announced", true, replication.replica_announced),
    flag!("replica-refuse-empty-primary", true, replication.replica_refuse_empty_primary).help(
        "yes|no: whether a replica keeps its dataset when the primary that it follows comes back without one, with a \
         younger history.",
    ),
    text!("replica-announce-ip", replication.replica_announce_ip).alias("slave-announce-ip"),
    number!("replica-announce-port", 0, 0, 65535, replication.replica_announce_port).alias("slave-announce-port"),
    flag!("replica-ignore-maxmemory", true, replication.replica_ignore_maxmemory).alias("slave-ignore-maxmemory"),
    flag!("replica-ignore-disk-write-errors", false, replication.replica_ignore_disk_write_errors).kept(NO_DISK_ERRORS),
    flag!("replica-lazy-flush", false, replication.replica_lazy_flush).alias("slave-lazy-flush").kept(ALWAYS_LAZY),
    flag!("repl-diskless-sync", true, replication.repl_diskless_sync),
    number!("repl-diskless-sync-delay", 5, 0, i32::MAX, replication.repl_diskless_sync_delay_s),
    number!("repl-diskless-sync-max-replicas", 0, 0, i32::MAX, replication.repl_diskless_sync_max_replicas),
    choice!("repl-diskless-load", DisklessLoad::Disabled, replication.repl_diskless_load).deny_loading(),
    number!("repl-ping-replica-period", 10, 1, i32::MAX, replication.repl_ping_replica_period_s)
        .alias("repl-ping-slave-period"),
    number!("repl-timeout", 60, 1, i32::MAX, replication.repl_timeout_s),
    flag!("repl-disable-tcp-nodelay", false, replication.repl_disable_tcp_nodelay),
    Directive::new("repl-backlog-size", BACKLOG),
    number!("repl-backlog-disk-size", 0, 0, i64::MAX, Memory, replication.repl_backlog_disk_size).help(
        "bytes: how much of the replication stream is kept on disk beyond repl-backlog-size, so that replicas that were \
         away or slow need no full copy; 0 for none.",
    ),
    number!("repl-backlog-ttl", 3600, 0, i64::MAX, replication.repl_backlog_ttl_s),
    number!("min-replicas-to-write", 0, 0, i32::MAX, replication.min_replicas_to_write).alias("min-slaves-to-write"),
    number!("min-replicas-max-lag", 10, 0, i32::MAX, replication.min_replicas_max_lag_s).alias("min-slaves-max-lag"),
    choice!("propagation-error-behavior", PropagationError::Ignore, replication.propagation_error_behavior)
        .kept(ALWAYS_IGNORED),
    text!("bind-source-addr", replication.bind_source_addr),
];
