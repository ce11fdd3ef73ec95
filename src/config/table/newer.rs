//! Directives that Redis has since 7.4, and those of Valkey: so that a
//! configuration that was written for them is understood or refused by name.
//!
//! Those that mean something here have fields of their own. Of the others only
//! the value is kept. Except for the former, patterns of CONFIG GET do not find
//! them: Redis 7.2 has none of them.

use super::{choice, file_only, text};
use crate::config::directive::{Directive, Kind, Unit};
use crate::config::words;

const OWN_IO: &str = "data cores do their own input and output; see `cores`";
const ONE_LINK: &str = "a full sync goes over one connection";
const NO_CLUSTER: &str = "cluster mode is not built yet";
const NO_COMMANDLOG: &str = "there is no log of large requests and replies";
const NO_MPTCP: &str = "connections are plain TCP";
const NO_RDMA: &str = "connections are TCP or Unix sockets";

/// A directive with the value `yes` or `no` that is only kept.
macro_rules! kept_flag {
    ($name:literal, $default:literal) => {
        Directive::new(
            $name,
            Kind::Flag {
                default: $default,
                get: |s| s.internals.foreign.number($name).map_or($default, |n| n != 0),
                set: |s, value| s.internals.foreign.set_number($name, i128::from(value)),
            },
        )
        .hidden()
    };
}

/// A directive with a number that is only kept.
macro_rules! kept_number {
    ($name:literal, $default:literal, $min:literal, $max:expr) => {
        kept_number!($name, $default, $min, $max, Plain)
    };
    ($name:literal, $default:literal, $min:literal, $max:expr, $unit:ident) => {
        Directive::new(
            $name,
            Kind::Number {
                default: $default,
                min: $min,
                max: $max as i128,
                unit: Unit::$unit,
                get: |s| s.internals.foreign.number($name).unwrap_or($default),
                set: |s, value| s.internals.foreign.set_number($name, value),
            },
        )
        .hidden()
    };
}

/// A directive with free text that is only kept.
macro_rules! kept_text {
    ($name:literal) => {
        Directive::new(
            $name,
            Kind::Text {
                default: "",
                nullable: true,
                check: words::any_text,
                get: |s| s.internals.foreign.text($name),
                set: |s, value| s.internals.foreign.set_text($name, value),
            },
        )
        .hidden()
    };
}

/// A directive with one word of a list that is only kept; the first is the default.
macro_rules! kept_choice {
    ($name:literal, $($word:literal),+) => {
        Directive::new(
            $name,
            Kind::Choice {
                default: 0,
                names: &[$($word),+],
                get: |s| s.internals.foreign.number($name).unwrap_or(0) as usize,
                set: |s, index| s.internals.foreign.set_number($name, index as i128),
            },
        )
        .hidden()
    };
}

pub(super) static ROWS: &[Directive] = &[
    choice!("log-format", LogFormat::Legacy, log_format),
    choice!("log-timestamp-format", LogTimestamp::Legacy, log_timestamp_format),
    text!("unixsocketgroup", unixsocketgroup).immutable(),
    text!("availability-zone", "", words::any_text, availability_zone),
    kept_flag!("io-threads-always-active", false).no_effect(OWN_IO),
    kept_number!("events-per-io-thread", 2, 0, i32::MAX).no_effect(OWN_IO),
    kept_number!("prefetch-batch-max-size", 16, 0, 128).no_effect("requests that have come are prefetched together"),
    kept_number!("min-io-threads-avoid-copy-reply", 7, 0, i32::MAX).no_effect(OWN_IO),
    kept_number!("min-string-size-avoid-copy-reply", 16384, 0, i32::MAX).no_effect(OWN_IO),
    kept_number!("min-string-size-avoid-copy-reply-threaded", 65536, 0, i32::MAX).no_effect(OWN_IO),
    kept_number!("max-new-connections-per-cycle", 10, 1, 1000).no_effect(OWN_IO),
    kept_number!("max-new-tls-connections-per-cycle", 1, 1, 1000).no_effect(OWN_IO),
    kept_flag!("mptcp", false).immutable().later(NO_MPTCP),
    kept_flag!("repl-mptcp", false).immutable().later(NO_MPTCP),
    file_only!("rdma-bind", 1, usize::MAX, words::ignored).later(NO_RDMA),
    kept_number!("rdma-port", 0, 0, 65535).later(NO_RDMA),
    kept_number!("rdma-rx-size", 1_048_576, 65536, 16_777_216).immutable().no_effect(NO_RDMA),
    kept_number!("rdma-completion-vector", -1, -1, 1024).immutable().no_effect(NO_RDMA),
    kept_choice!("tls-auth-clients-user", "off", "CN", "URI").later("certificates name no user"),
    kept_number!("tls-auto-reload-interval", 0, 0, i32::MAX)
        .later("files are read again when a directive of TLS is set"),
    kept_flag!("enable-debug-assert", false).immutable().no_effect("assertions are chosen when the server is built"),
    kept_text!("debug-context").no_effect("a crash report does not show it"),
    kept_flag!("extended-redis-compatibility", false).no_effect("the server says of itself what Redis says"),
    kept_text!("hash-seed").immutable().later("tables have no seed that could be chosen"),
    kept_flag!("import-mode", false).later("keys expire and are evicted as they are due"),
    kept_flag!("lua-enable-deprecated-api", false)
        .immutable()
        .later_name("lua-enable-insecure-api")
        .later("scripts have no getfenv, setfenv and newproxy"),
    kept_number!("active-defrag-cycle-us", 500, 0, 100_000)
        .no_effect("a turn's share follows from active-defrag-cycle-min and -max"),
    kept_choice!("rdb-version-check", "strict", "relaxed").later("files of versions to come are not loaded"),
    kept_number!("commandlog-request-larger-than", 1_048_576, -1, i64::MAX).later(NO_COMMANDLOG),
    kept_number!("commandlog-reply-larger-than", 1_048_576, -1, i64::MAX).later(NO_COMMANDLOG),
    kept_number!("commandlog-large-request-max-len", 128, 0, i64::MAX).no_effect(NO_COMMANDLOG),
    kept_number!("commandlog-large-reply-max-len", 128, 0, i64::MAX).no_effect(NO_COMMANDLOG),
    kept_flag!("dual-channel-replication-enabled", false).later(ONE_LINK),
    kept_flag!("repl-rdb-channel", true).no_effect(ONE_LINK),
    kept_number!("replica-full-sync-buffer-limit", 0, 0, i64::MAX, Memory).no_effect(ONE_LINK),
    kept_text!("cluster-announce-client-ipv4").kept(NO_CLUSTER),
    kept_text!("cluster-announce-client-ipv6").kept(NO_CLUSTER),
    kept_number!("cluster-announce-client-port", 0, 0, 65535).kept(NO_CLUSTER),
    kept_number!("cluster-announce-client-tls-port", 0, 0, 65535).kept(NO_CLUSTER),
    kept_number!("cluster-blacklist-ttl", 60, 0, u64::MAX).kept(NO_CLUSTER),
    kept_number!("cluster-compatibility-sample-ratio", 0, 0, 100).kept(NO_CLUSTER),
    kept_choice!("cluster-config-save-behavior", "sync", "best-effort").kept(NO_CLUSTER),
    kept_number!("cluster-databases", 1, 1, i32::MAX).immutable().kept(NO_CLUSTER),
    kept_number!("cluster-manual-failover-timeout", 5000, 1, i32::MAX).kept(NO_CLUSTER),
    kept_number!("cluster-message-gossip-perc", 10, 1, 100).kept(NO_CLUSTER),
    kept_number!("cluster-slot-migration-log-max-len", 1000, 0, i64::MAX).kept(NO_CLUSTER),
    kept_flag!("cluster-slot-stats-enabled", false).kept(NO_CLUSTER),
    kept_number!("slot-migration-max-failover-repl-bytes", 0, -1, i64::MAX, Memory).kept(NO_CLUSTER),
];
