//! The composition root: data cores, the service core, start and stop, and the
//! commands over connections and the server.
//!
//! | file | holds |
//! | --- | --- |
//! | `start`, `bind`, `service` | from the command line to running cores and back |
//! | `core` | what a data core owns; the stages of its turn |
//! | `io`, `slab` | its sockets and connections |
//! | `serve`, `dispatch`, `alike`, `exec` | bytes to requests, requests to cores, runs of like ones, execution |
//! | `msg`, `mail`, `batch`, `tx`, `multi`, `moves` | what cores say to each other, in which order it is heard; forwarded requests, packed; transactions; slots on the move |
//! | `endpoints` | every core as the node of a cluster |
//! | `gather` | questions to all cores |
//! | `scanning` | SCAN from core to core |
//! | `demands` | what a request may do, by its command's flags or its script's |
//! | `persistence`, `holding` | what the append-only file and loading mean to clients |
//! | `effects` | what a core puts into the journal |
//! | `registry`, `commands` | all commands by name; those that are not over keys |
//! | `saving` | snapshots: the cut, reading in slices |
//! | `blocking`, `pubsub`, `monitor` | commands that wait; messages and keyspace events; MONITOR |
//! | `background`, `rebalance`, `sampling`, `pause` | what else happens |
//! | `migrating` | keys on their way to another server |
//! | `loader` | a snapshot on its way into the keyspace |
//! | `image` | the whole keyspace at one moment |
//! | `replication` | both roles of replication at work |
//! | `role`, `depart` | what the server is in replication; connections that become replicas |
//! | `apply` | a changed configuration at work |
//! | `applying` | commands from the append-only file or a primary |
//! | `access`, `users_file` | users and what they may do; users in files |
//! | `tls`, `tls_*` | TLS as configured: certificates, ciphers, sessions; encrypted connections |
//! | `room` | keeping the process within `maxmemory` |
//! | `defrag` | data moved out of sparse pages of the allocator (`activedefrag`) |
//! | `tracking` | invalidation messages for what clients cache |
//! | `redact`, `client_log` | what must not be shown of a command; what the log says of clients |
//! | `check_aof` | the checker of append-only files |
//! | `process` | the process: program names, limits, signals |
pub mod access;
pub mod alike;
pub mod apply;
pub mod applying;
pub mod background;
pub mod batch;
pub mod bind;
pub mod blocking;
pub mod check_aof;
pub mod client_log;
pub mod commands;
pub mod core;
pub mod defrag;
pub mod demands;
pub mod depart;
pub mod dispatch;
pub mod effects;
pub mod endpoints;
pub mod exec;
pub mod gather;
pub mod holding;
pub mod image;
pub mod io;
pub mod loader;
pub mod local_expiry;
pub mod mail;
pub mod migrating;
pub mod monitor;
pub mod moves;
pub mod msg;
pub mod multi;
pub mod mutation;
pub mod pause;
pub mod persistence;
pub mod process;
pub mod pubsub;
pub mod rebalance;
pub mod redact;
pub mod registry;
pub mod replication;
pub mod role;
pub mod room;
pub mod sampling;
pub mod saving;
pub mod scanning;
pub mod scripts;
pub mod serve;
pub mod service;
pub mod shared;
pub mod slab;
pub mod start;
pub mod stats;
pub mod tls;
pub mod tls_ciphers;
pub mod tls_conn;
pub mod tls_files;
pub mod tls_sessions;
pub mod tracking;
pub mod tx;
pub mod users_file;

use crate::command::cx::Options;
use crate::config::{MaxmemoryPolicy, SanitizeDump, Settings};
use crate::session::conn::REPLY_BUFFER;

/// The settings that handlers obey, from the configuration.
pub fn options(s: &Settings) -> Options {
    let lfu = matches!(s.maxmemory_policy, MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu);
    let lru = matches!(s.maxmemory_policy, MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru);
    // So long that it is over the limit, whatever else waits.
    let over = |hard: u64| if hard == 0 { 0 } else { hard as usize + REPLY_BUFFER };
    let hard = [&s.output_limit_normal, &s.output_limit_pubsub].map(|l| over(l.hard_bytes));
    let larger = if hard.contains(&0) { 0 } else { hard[0].max(hard[1]) };
    let reply_bytes_max = [hard[0], larger];
    Options {
        proto_max_bulk_len: s.proto_max_bulk_len as usize,
        reply_bytes_max,
        in_script: false,
        list_max_listpack_size: i64::from(s.list_max_listpack_size),
        list_node_max_bytes: usize::MAX,
        hash_max_listpack_entries: s.hash_max_listpack_entries,
        hash_max_listpack_value: s.hash_max_listpack_value,
        set_max_intset_entries: s.set_max_intset_entries,
        set_max_listpack_entries: s.set_max_listpack_entries,
        set_max_listpack_value: s.set_max_listpack_value,
        zset_max_listpack_entries: s.zset_max_listpack_entries,
        zset_max_listpack_value: s.zset_max_listpack_value,
        stream_node_max_bytes: s.stream_node_max_bytes,
        stream_node_max_entries: s.stream_node_max_entries,
        hll_sparse_max_bytes: s.hll_sparse_max_bytes,
        lazy_user_flush: s.lazyfree_lazy_user_flush,
        lazy_server_del: s.lazyfree_lazy_server_del,
        rdb_compression: s.persistence.rdbcompression,
        sanitize_payloads: s.persistence.sanitize_dump_payload != SanitizeDump::No,
        skip_checksums: false,
        keep_expired: false,
        shared_integers: s.maxmemory == 0 || !(lfu || lru),
        lfu_policy: lfu,
        lfu_log_factor: s.lfu_log_factor,
        lfu_decay_minutes: s.lfu_decay_time_min,
    }
}

fn log_warning(text: &str) {
    crate::observe::log::warning(format_args!("{text}"));
}

fn log_notice(text: &str) {
    crate::observe::log::notice(format_args!("{text}"));
}

fn log_verbose(text: &str) {
    crate::observe::log::verbose(format_args!("{text}"));
}
