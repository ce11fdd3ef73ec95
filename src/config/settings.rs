//! The typed values of all directives.
//!
//! [`Settings::default`] takes its values from the directive table, so a
//! default stands in one place only. The fields that the server reads today
//! are flat; those that belong to parts not built yet, or to internals that
//! Coreslot does not have, are grouped below.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::choice::{
    AclPubsubDefault, AppendFsync, DisklessLoad, EndpointType, Guard, LogFormat, LogLevel, LogTimestamp,
    MaxmemoryPolicy, OomScoreAdj, PipelineOrder, PropagationError, SanitizeDump, Supervised, SyslogFacility,
    TlsAuthClients,
};
use super::table;
use super::value::{Cores, KeyspaceEvents, OutputBufferLimit, SavePoint, ServiceCore, ShutdownFlags};

/// Declares [`Settings`] and a `Default` that fills it from the table.
macro_rules! settings {
    ($(#[$meta:meta])* pub struct Settings {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        pub struct Settings {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                let mut settings = Self { $($field: Default::default(),)* };
                table::apply_defaults(&mut settings);
                settings
            }
        }
    };
}

settings! {
    /// One consistent set of values; published as a whole, never changed.
    #[derive(Clone, PartialEq)]
    pub struct Settings {
        // Cores.
        /// `cores`: which data cores run.
        pub cores: Cores,
        /// `service-core`: where the service core runs.
        pub service_core: ServiceCore,
        /// `core-endpoints`: whether every core listens on a port of its own.
        pub core_endpoints: bool,
        /// `core-port-base`: the port of core 0; 0 derives it from `port`.
        pub core_port_base: u16,
        /// `core-redirect`: whether an own port answers `-MOVED` for other cores' slots.
        pub core_redirect: bool,
        /// `pipeline-order`.
        pub pipeline_order: PipelineOrder,
        /// `core-spin-us`: microseconds to poll before parking.
        pub core_spin_us: u32,
        /// `metrics-port`: 0 for none.
        pub metrics_port: u16,
        /// `metrics-bind`: one address.
        pub metrics_bind: String,
        /// `rebalance`: whether hot slots move away from busy cores.
        pub rebalance: bool,
        /// `rebalance-interval-ms`.
        pub rebalance_interval_ms: u64,

        // Network.
        /// `bind`: addresses as written; a leading `-` makes one optional.
        pub bind: Vec<String>,
        /// `port`: 0 for none.
        pub port: u16,
        /// `unixsocket`: path, empty for none.
        pub unixsocket: String,
        /// `unixsocketperm`: mode bits, 0 to leave the umask's.
        pub unixsocketperm: u32,
        /// `unixsocketgroup`: the socket's group, empty to leave the process's.
        pub unixsocketgroup: String,
        /// `availability-zone`: told by HELLO and INFO.
        pub availability_zone: String,
        /// `tcp-backlog`.
        pub tcp_backlog: i32,
        /// `timeout`: seconds of idleness, 0 for never.
        pub timeout_s: u32,
        /// `tcp-keepalive`: seconds, 0 for off.
        pub tcp_keepalive_s: u32,
        /// `maxclients`.
        pub maxclients: u32,
        /// `protected-mode`.
        pub protected_mode: bool,
        /// `proto-max-bulk-len`: bytes.
        pub proto_max_bulk_len: u64,
        /// `client-query-buffer-limit`: bytes.
        pub client_query_buffer_limit: u64,
        /// `client-output-buffer-limit normal`.
        pub output_limit_normal: OutputBufferLimit,
        /// `client-output-buffer-limit replica`.
        pub output_limit_replica: OutputBufferLimit,
        /// `client-output-buffer-limit pubsub`.
        pub output_limit_pubsub: OutputBufferLimit,
        /// `client-default-resp`: protocol version of a fresh connection.
        pub client_default_resp: u8,
        /// `tracking-table-max-keys`: 0 for no limit.
        pub tracking_table_max_keys: usize,

        // Access.
        /// `requirepass`: empty for none.
        pub requirepass: String,
        /// `acl-pubsub-default`.
        pub acl_pubsub_default: AclPubsubDefault,
        /// `acllog-max-len`.
        pub acllog_max_len: usize,
        /// `user` lines: the words after `user`, in file order.
        pub users: Vec<Vec<String>>,
        /// `rename-command` lines: old name, new name (empty removes).
        pub rename_commands: Vec<(String, String)>,
        /// `enable-debug-command`.
        pub enable_debug_command: Guard,
        /// `enable-protected-configs`.
        pub enable_protected_configs: Guard,
        /// `enable-module-command`.
        pub enable_module_command: Guard,

        // Keyspace.
        /// `databases`.
        pub databases: u32,
        /// `maxmemory`: bytes, 0 for no limit.
        pub maxmemory: u64,
        /// `maxmemory-policy`.
        pub maxmemory_policy: MaxmemoryPolicy,
        /// `maxmemory-samples`.
        pub maxmemory_samples: u32,
        /// `lfu-log-factor`.
        pub lfu_log_factor: u32,
        /// `lfu-decay-time`: minutes.
        pub lfu_decay_time_min: u32,
        /// `lazyfree-lazy-eviction`.
        pub lazyfree_lazy_eviction: bool,
        /// `lazyfree-lazy-expire`.
        pub lazyfree_lazy_expire: bool,
        /// `lazyfree-lazy-server-del`.
        pub lazyfree_lazy_server_del: bool,
        /// `lazyfree-lazy-user-del`.
        pub lazyfree_lazy_user_del: bool,
        /// `lazyfree-lazy-user-flush`.
        pub lazyfree_lazy_user_flush: bool,
        /// `notify-keyspace-events`.
        pub notify_keyspace_events: KeyspaceEvents,

        // Encodings.
        /// `hash-max-listpack-entries`.
        pub hash_max_listpack_entries: usize,
        /// `hash-max-listpack-value`: bytes.
        pub hash_max_listpack_value: usize,
        /// `list-max-listpack-size`: entries if positive, a size class if negative.
        pub list_max_listpack_size: i32,
        /// `set-max-intset-entries`.
        pub set_max_intset_entries: usize,
        /// `set-max-listpack-entries`.
        pub set_max_listpack_entries: usize,
        /// `set-max-listpack-value`: bytes.
        pub set_max_listpack_value: usize,
        /// `zset-max-listpack-entries`.
        pub zset_max_listpack_entries: usize,
        /// `zset-max-listpack-value`: bytes.
        pub zset_max_listpack_value: usize,
        /// `hll-sparse-max-bytes`.
        pub hll_sparse_max_bytes: usize,
        /// `stream-node-max-bytes`.
        pub stream_node_max_bytes: usize,
        /// `stream-node-max-entries`.
        pub stream_node_max_entries: u64,

        // Observation.
        /// `slowlog-log-slower-than`: microseconds, negative for off.
        pub slowlog_log_slower_than_us: i64,
        /// `slowlog-max-len`.
        pub slowlog_max_len: usize,
        /// `latency-monitor-threshold`: milliseconds, 0 for off.
        pub latency_monitor_threshold_ms: u64,
        /// `latency-tracking`.
        pub latency_tracking: bool,
        /// `latency-tracking-info-percentiles`.
        pub latency_tracking_info_percentiles: Vec<f64>,
        /// `loglevel`.
        pub loglevel: LogLevel,
        /// `log-format`.
        pub log_format: LogFormat,
        /// `log-timestamp-format`.
        pub log_timestamp_format: LogTimestamp,
        /// `logfile`: path, empty for standard output.
        pub logfile: String,
        /// `hide-user-data-from-log`: keys are not shown in the log.
        pub hide_user_data_from_log: bool,
        /// `syslog-enabled`.
        pub syslog_enabled: bool,
        /// `syslog-ident`.
        pub syslog_ident: String,
        /// `syslog-facility`.
        pub syslog_facility: SyslogFacility,

        // Process.
        /// `daemonize`.
        pub daemonize: bool,
        /// `pidfile`: path, empty for none (unless daemonized).
        pub pidfile: String,
        /// `supervised`.
        pub supervised: Supervised,
        /// `dir`: absolute path of the working directory.
        pub dir: PathBuf,
        /// `always-show-logo`.
        pub always_show_logo: bool,
        /// `disable-thp`.
        pub disable_thp: bool,
        /// `oom-score-adj`.
        pub oom_score_adj: OomScoreAdj,
        /// `oom-score-adj-values`: primary, replica, background child.
        pub oom_score_adj_values: [i32; 3],
        /// `shutdown-on-sigterm`.
        pub shutdown_on_sigterm: ShutdownFlags,
        /// `shutdown-on-sigint`.
        pub shutdown_on_sigint: ShutdownFlags,
        /// `shutdown-timeout`: seconds to wait for lagging replicas.
        pub shutdown_timeout_s: u32,

        // Groups.
        /// Snapshot and append-only file.
        pub persistence: Persistence,
        /// Both roles of replication.
        pub replication: Replication,
        /// Redis Cluster.
        pub cluster: Cluster,
        /// TLS.
        pub tls: Tls,
        /// Knobs of Redis's own machinery, kept for CONFIG GET.
        pub internals: Internals,
    }
}

impl Settings {
    /// `path` as seen from the configured working directory.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.dir.join(Path::new(path))
    }
}

/// Shows what differs from the defaults, without passwords.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = Self::default();
        let mut shown = f.debug_struct("Settings");
        for directive in table::directives() {
            let value = directive.print(self);
            if value == directive.print(&defaults) {
                continue;
            }
            match directive.sensitive {
                true => shown.field(directive.name, &"(redacted)"),
                false => shown.field(directive.name, &value),
            };
        }
        shown.finish_non_exhaustive()
    }
}

/// Directives of the snapshot and the append-only file.
#[derive(Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is the directive of the same name")]
pub struct Persistence {
    pub save: Vec<SavePoint>,
    pub dbfilename: String,
    pub rdb_version: u32,
    pub rdbcompression: bool,
    pub rdbchecksum: bool,
    pub rdb_del_sync_files: bool,
    pub rdb_save_incremental_fsync: bool,
    pub stop_writes_on_bgsave_error: bool,
    pub sanitize_dump_payload: SanitizeDump,
    pub appendonly: bool,
    pub appendfilename: String,
    pub appenddirname: String,
    pub appendfsync: AppendFsync,
    pub no_appendfsync_on_rewrite: bool,
    pub auto_aof_rewrite_percentage: u32,
    pub auto_aof_rewrite_min_size: u64,
    pub aof_load_truncated: bool,
    pub aof_use_rdb_preamble: bool,
    pub aof_timestamp_enabled: bool,
    pub aof_rewrite_incremental_fsync: bool,
    pub aof_disable_auto_gc: bool,
    pub rdb_key_save_delay_us: i32,
    pub key_load_delay_us: i32,
    pub loading_process_events_interval_bytes: u64,
}

/// Directives of replication.
#[derive(Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is the directive of the same name")]
pub struct Replication {
    pub replicaof: Option<(String, u16)>,
    pub masteruser: String,
    pub masterauth: String,
    pub replica_serve_stale_data: bool,
    pub replica_read_only: bool,
    pub replica_priority: u32,
    pub replica_refuse_empty_primary: bool,
    pub replica_announced: bool,
    pub replica_announce_ip: String,
    pub replica_announce_port: u16,
    pub replica_ignore_maxmemory: bool,
    pub replica_ignore_disk_write_errors: bool,
    pub replica_lazy_flush: bool,
    pub repl_diskless_sync: bool,
    pub repl_diskless_sync_delay_s: u32,
    pub repl_diskless_sync_max_replicas: u32,
    pub repl_diskless_load: DisklessLoad,
    pub repl_ping_replica_period_s: u32,
    pub repl_timeout_s: u32,
    pub repl_disable_tcp_nodelay: bool,
    pub repl_backlog_size: u64,
    pub repl_backlog_disk_size: u64,
    pub repl_backlog_ttl_s: u64,
    pub min_replicas_to_write: u32,
    pub min_replicas_max_lag_s: u32,
    pub propagation_error_behavior: PropagationError,
    pub bind_source_addr: String,
}

/// Directives of Redis Cluster.
#[derive(Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is the directive of the same name")]
pub struct Cluster {
    pub enabled: bool,
    pub config_file: String,
    pub node_timeout_ms: u64,
    pub ping_interval_ms: u64,
    pub port: u16,
    pub announce_ip: String,
    pub announce_hostname: String,
    pub announce_human_nodename: String,
    pub announce_port: u16,
    pub announce_tls_port: u16,
    pub announce_bus_port: u16,
    pub preferred_endpoint_type: EndpointType,
    pub replica_validity_factor: u32,
    pub replica_no_failover: bool,
    pub migration_barrier: u32,
    pub allow_replica_migration: bool,
    pub require_full_coverage: bool,
    pub allow_reads_when_down: bool,
    pub allow_pubsubshard_when_down: bool,
    pub link_sendbuf_limit: u64,
}

/// Directives of TLS.
#[derive(Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is the directive of the same name")]
pub struct Tls {
    pub port: u16,
    pub cert_file: String,
    pub key_file: String,
    pub key_file_pass: String,
    pub client_cert_file: String,
    pub client_key_file: String,
    pub client_key_file_pass: String,
    pub dh_params_file: String,
    pub ca_cert_file: String,
    pub ca_cert_dir: String,
    pub auth_clients: TlsAuthClients,
    pub replication: bool,
    pub cluster: bool,
    pub protocols: String,
    pub ciphers: String,
    pub ciphersuites: String,
    pub prefer_server_ciphers: bool,
    pub session_caching: bool,
    pub session_cache_size: u32,
    pub session_cache_timeout_s: u32,
}

/// Directives of machinery that works differently here, or of parts to come.
#[derive(Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is the directive of the same name")]
pub struct Internals {
    pub hz: u32,
    pub dynamic_hz: bool,
    pub io_threads: u32,
    pub io_threads_do_reads: bool,
    pub activerehashing: bool,
    pub jemalloc_bg_thread: bool,
    pub active_expire_effort: u32,
    pub activedefrag: bool,
    pub active_defrag_cycle_min: u32,
    pub active_defrag_cycle_max: u32,
    pub active_defrag_ignore_bytes: u64,
    pub active_defrag_max_scan_fields: u64,
    pub active_defrag_threshold_lower: u32,
    pub active_defrag_threshold_upper: u32,
    pub list_compress_depth: u32,
    pub maxmemory_clients: i64,
    pub maxmemory_eviction_tenacity: u32,
    pub busy_reply_threshold_ms: u64,
    pub aclfile: String,
    pub loadmodules: Vec<Vec<String>>,
    pub server_cpulist: String,
    pub bio_cpulist: String,
    pub aof_rewrite_cpulist: String,
    pub bgsave_cpulist: String,
    pub crash_log_enabled: bool,
    pub crash_memcheck_enabled: bool,
    pub use_exit_on_panic: bool,
    pub watchdog_period_ms: u32,
    pub set_proc_title: bool,
    pub proc_title_template: String,
    pub ignore_warnings: String,
    pub locale_collate: String,
    pub socket_mark_id: u32,
    pub req_res_logfile: String,
    /// Values of directives that other versions have, and that mean nothing here.
    pub foreign: Foreign,
}

/// Values by the names of their directives; what is not there has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    numbers: BTreeMap<&'static str, i128>,
    texts: BTreeMap<&'static str, String>,
}

impl Foreign {
    /// A number, or a choice's index, or 1 for `yes`.
    pub fn number(&self, name: &str) -> Option<i128> {
        self.numbers.get(name).copied()
    }

    pub fn set_number(&mut self, name: &'static str, value: i128) {
        self.numbers.insert(name, value);
    }

    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    pub fn set_text(&mut self, name: &'static str, value: String) {
        self.texts.insert(name, value);
    }
}
