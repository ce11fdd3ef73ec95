//! Memory limits, eviction, lazy freeing, defragmentation.

use super::{choice, flag, number};
use crate::config::directive::{Directive, Kind, Unit};

/// Bytes, or a share of `maxmemory` held as a negative number.
const MAXMEMORY_CLIENTS: Kind = Kind::Number {
    default: 0,
    min: -100,
    max: i64::MAX as i128,
    unit: Unit::MemoryOrPercent,
    get: |s| s.internals.maxmemory_clients as i128,
    set: |s, value| s.internals.maxmemory_clients = value as i64,
};

pub(super) static ROWS: &[Directive] = &[
    number!("maxmemory", 0, 0, u64::MAX, Memory, maxmemory),
    choice!("maxmemory-policy", MaxmemoryPolicy::Noeviction, maxmemory_policy),
    number!("maxmemory-samples", 5, 1, i32::MAX, maxmemory_samples),
    number!("maxmemory-eviction-tenacity", 10, 0, 100, internals.maxmemory_eviction_tenacity),
    Directive::new("maxmemory-clients", MAXMEMORY_CLIENTS),
    number!("lfu-log-factor", 10, 0, i32::MAX, lfu_log_factor),
    number!("lfu-decay-time", 1, 0, i32::MAX, lfu_decay_time_min),
    flag!("lazyfree-lazy-eviction", false, lazyfree_lazy_eviction),
    flag!("lazyfree-lazy-expire", false, lazyfree_lazy_expire),
    flag!("lazyfree-lazy-server-del", false, lazyfree_lazy_server_del),
    flag!("lazyfree-lazy-user-del", false, lazyfree_lazy_user_del),
    flag!("lazyfree-lazy-user-flush", false, lazyfree_lazy_user_flush),
    flag!("activerehashing", true, internals.activerehashing).no_effect("tables grow incrementally by themselves"),
    flag!("jemalloc-bg-thread", true, internals.jemalloc_bg_thread).no_effect("the allocator is not jemalloc"),
    number!("active-expire-effort", 1, 1, 10, internals.active_expire_effort).no_effect("expiry is exact, not sampled"),
    flag!("activedefrag", false, internals.activedefrag),
    number!("active-defrag-cycle-min", 1, 1, 99, internals.active_defrag_cycle_min),
    number!("active-defrag-cycle-max", 25, 1, 99, internals.active_defrag_cycle_max),
    number!("active-defrag-ignore-bytes", 100 << 20, 1, i64::MAX, Memory, internals.active_defrag_ignore_bytes),
    number!("active-defrag-max-scan-fields", 1000, 1, i64::MAX, internals.active_defrag_max_scan_fields)
        .no_effect("large collections are always gone through in small steps"),
    number!("active-defrag-threshold-lower", 10, 0, 1000, internals.active_defrag_threshold_lower),
    number!("active-defrag-threshold-upper", 100, 0, 1000, internals.active_defrag_threshold_upper),
];
