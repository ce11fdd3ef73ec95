//! INFO as a page of metrics (Prometheus text format 0.0.4). Where
//! redis_exporter has a name for a field, that is its name, so that dashboards
//! made for it work; what it does not know is `coreslot_*`.

use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

/// A field of INFO, its metric's kind and name behind `redis_`.
const FIELDS: &[(&str, Kind, &str)] = &[
    ("uptime_in_seconds", Gauge, "uptime_in_seconds"),
    ("process_id", Gauge, "process_id"),
    ("connected_clients", Gauge, "connected_clients"),
    ("cluster_connections", Gauge, "cluster_connections"),
    ("maxclients", Gauge, "max_clients"),
    ("client_recent_max_input_buffer", Gauge, "client_recent_max_input_buffer_bytes"),
    ("client_recent_max_output_buffer", Gauge, "client_recent_max_output_buffer_bytes"),
    ("blocked_clients", Gauge, "blocked_clients"),
    ("tracking_clients", Gauge, "tracking_clients"),
    ("clients_in_timeout_table", Gauge, "clients_in_timeout_table"),
    ("total_blocking_keys", Gauge, "total_blocking_keys"),
    ("used_memory", Gauge, "memory_used_bytes"),
    ("used_memory_rss", Gauge, "memory_used_rss_bytes"),
    ("used_memory_peak", Gauge, "memory_used_peak_bytes"),
    ("used_memory_overhead", Gauge, "memory_used_overhead_bytes"),
    ("used_memory_startup", Gauge, "memory_used_startup_bytes"),
    ("used_memory_dataset", Gauge, "memory_used_dataset_bytes"),
    ("used_memory_lua", Gauge, "memory_used_lua_bytes"),
    ("used_memory_scripts", Gauge, "memory_used_scripts_bytes"),
    ("maxmemory", Gauge, "memory_max_bytes"),
    ("allocator_allocated", Gauge, "allocator_allocated_bytes"),
    ("allocator_active", Gauge, "allocator_active_bytes"),
    ("allocator_resident", Gauge, "allocator_resident_bytes"),
    ("allocator_frag_ratio", Gauge, "allocator_frag_ratio"),
    ("allocator_frag_bytes", Gauge, "allocator_frag_bytes"),
    ("allocator_rss_ratio", Gauge, "allocator_rss_ratio"),
    ("allocator_rss_bytes", Gauge, "allocator_rss_bytes"),
    ("mem_fragmentation_ratio", Gauge, "mem_fragmentation_ratio"),
    ("mem_fragmentation_bytes", Gauge, "mem_fragmentation_bytes"),
    ("mem_not_counted_for_evict", Gauge, "mem_not_counted_for_eviction_bytes"),
    ("mem_clients_slaves", Gauge, "mem_clients_slaves"),
    ("mem_clients_normal", Gauge, "mem_clients_normal"),
    ("mem_replication_backlog", Gauge, "mem_replication_backlog_bytes"),
    ("mem_total_replication_buffers", Gauge, "mem_total_replication_buffers_bytes"),
    ("mem_aof_buffer", Gauge, "mem_aof_buffer_bytes"),
    ("lazyfree_pending_objects", Gauge, "lazyfree_pending_objects"),
    ("lazyfreed_objects", Gauge, "lazyfreed_objects"),
    ("loading", Gauge, "loading_dump_file"),
    ("async_loading", Gauge, "async_loading"),
    ("rdb_changes_since_last_save", Gauge, "rdb_changes_since_last_save"),
    ("rdb_bgsave_in_progress", Gauge, "rdb_bgsave_in_progress"),
    ("rdb_last_save_time", Gauge, "rdb_last_save_timestamp_seconds"),
    ("rdb_last_bgsave_status", Gauge, "rdb_last_bgsave_status"),
    ("rdb_last_bgsave_time_sec", Gauge, "rdb_last_bgsave_duration_sec"),
    ("rdb_current_bgsave_time_sec", Gauge, "rdb_current_bgsave_duration_sec"),
    ("rdb_saves", Counter, "rdb_saves_total"),
    ("rdb_last_load_keys_expired", Gauge, "rdb_last_load_expired_keys"),
    ("rdb_last_load_keys_loaded", Gauge, "rdb_last_load_loaded_keys"),
    ("aof_enabled", Gauge, "aof_enabled"),
    ("aof_rewrite_in_progress", Gauge, "aof_rewrite_in_progress"),
    ("aof_rewrite_scheduled", Gauge, "aof_rewrite_scheduled"),
    ("aof_last_rewrite_time_sec", Gauge, "aof_last_rewrite_duration_sec"),
    ("aof_current_rewrite_time_sec", Gauge, "aof_current_rewrite_duration_sec"),
    ("aof_last_bgrewrite_status", Gauge, "aof_last_bgrewrite_status"),
    ("aof_last_write_status", Gauge, "aof_last_write_status"),
    ("aof_current_size", Gauge, "aof_current_size_bytes"),
    ("aof_base_size", Gauge, "aof_base_size_bytes"),
    ("aof_pending_rewrite", Gauge, "aof_pending_rewrite"),
    ("aof_buffer_length", Gauge, "aof_buffer_length"),
    ("aof_pending_bio_fsync", Gauge, "aof_pending_bio_fsync"),
    ("aof_delayed_fsync", Gauge, "aof_delayed_fsync"),
    ("total_connections_received", Counter, "connections_received_total"),
    ("total_commands_processed", Counter, "commands_processed_total"),
    ("instantaneous_ops_per_sec", Gauge, "instantaneous_ops_per_sec"),
    ("total_net_input_bytes", Counter, "net_input_bytes_total"),
    ("total_net_output_bytes", Counter, "net_output_bytes_total"),
    ("total_net_repl_input_bytes", Counter, "net_repl_input_bytes_total"),
    ("total_net_repl_output_bytes", Counter, "net_repl_output_bytes_total"),
    ("rejected_connections", Counter, "rejected_connections_total"),
    ("sync_full", Gauge, "replica_resyncs_full"),
    ("sync_partial_ok", Gauge, "replica_partial_resync_accepted"),
    ("sync_partial_err", Gauge, "replica_partial_resync_denied"),
    ("expired_keys", Counter, "expired_keys_total"),
    ("expired_subkeys", Counter, "expired_subkeys_total"),
    ("expire_cycle_cpu_milliseconds", Counter, "expire_cycle_cpu_time_ms_total"),
    ("evicted_keys", Counter, "evicted_keys_total"),
    ("evicted_clients", Counter, "evicted_clients_total"),
    ("total_eviction_exceeded_time", Counter, "eviction_exceeded_time_ms_total"),
    ("current_eviction_exceeded_time", Gauge, "current_eviction_exceeded_time_ms"),
    ("keyspace_hits", Counter, "keyspace_hits_total"),
    ("keyspace_misses", Counter, "keyspace_misses_total"),
    ("pubsub_channels", Gauge, "pubsub_channels"),
    ("pubsub_patterns", Gauge, "pubsub_patterns"),
    ("pubsubshard_channels", Gauge, "pubsubshard_channels"),
    ("tracking_total_keys", Gauge, "tracking_total_keys"),
    ("tracking_total_items", Gauge, "tracking_total_items"),
    ("tracking_total_prefixes", Gauge, "tracking_total_prefixes"),
    ("total_error_replies", Counter, "total_error_replies"),
    ("dump_payload_sanitizations", Gauge, "dump_payload_sanitizations"),
    ("total_reads_processed", Counter, "total_reads_processed"),
    ("total_writes_processed", Counter, "total_writes_processed"),
    ("acl_access_denied_auth", Counter, "acl_access_denied_auth_total"),
    ("acl_access_denied_cmd", Counter, "acl_access_denied_cmd_total"),
    ("acl_access_denied_key", Counter, "acl_access_denied_key_total"),
    ("acl_access_denied_channel", Counter, "acl_access_denied_channel_total"),
    ("connected_slaves", Gauge, "connected_slaves"),
    ("master_repl_offset", Gauge, "master_repl_offset"),
    ("second_repl_offset", Gauge, "second_repl_offset"),
    ("repl_backlog_active", Gauge, "repl_backlog_is_active"),
    ("repl_backlog_size", Gauge, "replication_backlog_bytes"),
    ("repl_backlog_first_byte_offset", Gauge, "repl_backlog_first_byte_offset"),
    ("repl_backlog_histlen", Gauge, "repl_backlog_history_bytes"),
    ("slave_repl_offset", Gauge, "slave_repl_offset"),
    ("master_sync_in_progress", Gauge, "master_sync_in_progress"),
    ("master_last_io_seconds_ago", Gauge, "master_last_io_seconds_ago"),
    ("used_cpu_sys", Counter, "cpu_sys_seconds_total"),
    ("used_cpu_user", Counter, "cpu_user_seconds_total"),
    ("used_cpu_sys_main_thread", Counter, "cpu_sys_main_thread_seconds_total"),
    ("used_cpu_user_main_thread", Counter, "cpu_user_main_thread_seconds_total"),
    ("cluster_enabled", Gauge, "cluster_enabled"),
];

/// What a core's line of INFO's own section becomes, behind `coreslot_core_`.
const OF_CORES: &[(&str, Kind, &str)] = &[
    ("executed", Counter, "commands_total"),
    ("forwarded", Counter, "forwarded_commands_total"),
    ("transactions", Counter, "transactions_total"),
    ("turns", Counter, "turns_total"),
    ("wakes", Counter, "wakes_total"),
    ("connections", Gauge, "connections"),
    ("keys", Gauge, "keys"),
    ("slots", Gauge, "slots"),
    ("slots_moved", Counter, "slots_moved_total"),
    ("ops_per_sec", Gauge, "ops_per_sec"),
    ("buffer_exhaustions", Counter, "buffer_exhaustions_total"),
    ("cpu_user", Counter, "cpu_user_seconds_total"),
    ("cpu_sys", Counter, "cpu_sys_seconds_total"),
];

/// Metrics by name: all samples of one stand together.
#[derive(Default)]
struct Page {
    metrics: BTreeMap<String, (Kind, String)>,
}

impl Page {
    /// A sample; what is no number is left out.
    fn add(&mut self, name: &str, kind: Kind, labels: &[(&str, &str)], value: &str) {
        let value = match value {
            "ok" | "up" => "1",
            "err" | "down" => "0",
            v => v.trim_end_matches('%'),
        };
        if value.parse::<f64>().is_err() {
            return;
        }
        let (_, samples) = self.metrics.entry(name.to_string()).or_insert((kind, String::new()));
        samples.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            let _ = write!(samples, "{separator}{label}=\"{}\"", escaped(text));
            separator = ',';
        }
        if !labels.is_empty() {
            samples.push('}');
        }
        let _ = writeln!(samples, " {value}");
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for (name, (kind, samples)) in &self.metrics {
            let kind = if *kind == Counter { "counter" } else { "gauge" };
            let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n{samples}", help(name));
        }
        out
    }

    fn commandstats(&mut self, cmd: &str, line: &str) {
        let label = [("cmd", cmd)];
        for (field, value) in pairs(line) {
            let name = match field {
                "calls" => "redis_commands_total",
                "usec" => "redis_commands_duration_seconds_total",
                "rejected_calls" => "redis_commands_rejected_calls_total",
                "failed_calls" => "redis_commands_failed_calls_total",
                _ => continue,
            };
            if field == "usec" {
                let seconds = value.parse::<f64>().unwrap_or(0.0) / 1e6;
                self.add(name, Counter, &label, &seconds.to_string());
            } else {
                self.add(name, Counter, &label, value);
            }
        }
    }

    /// `p50=1.003,p99=2.007`, in microseconds.
    fn percentiles(&mut self, cmd: &str, line: &str) {
        for (field, value) in pairs(line) {
            let Some(quantile) = field.strip_prefix('p').and_then(|p| p.parse::<f64>().ok()) else { continue };
            let quantile = format!("{}", (quantile * 1e6).round() / 1e8);
            self.add("redis_latency_percentiles_usec", Gauge, &[("cmd", cmd), ("quantile", &quantile)], value);
        }
    }

    fn database(&mut self, db: &str, line: &str) {
        let label = [("db", db)];
        for (field, value) in pairs(line) {
            match field {
                "keys" => self.add("redis_db_keys", Gauge, &label, value),
                "expires" => self.add("redis_db_keys_expiring", Gauge, &label, value),
                "avg_ttl" => {
                    let seconds = value.parse::<f64>().unwrap_or(0.0) / 1e3;
                    self.add("redis_db_avg_ttl_seconds", Gauge, &label, &seconds.to_string());
                }
                _ => {}
            }
        }
    }

    fn replica(&mut self, line: &str) {
        let of = |name| pairs(line).find(|(f, _)| *f == name).map_or("", |(_, v)| v);
        let labels = [("slave_ip", of("ip")), ("slave_port", of("port")), ("slave_state", of("state"))];
        self.add("redis_connected_slave_offset_bytes", Gauge, &labels, of("offset"));
        self.add("redis_connected_slave_lag_seconds", Gauge, &labels, of("lag"));
    }

    fn core(&mut self, core: &str, line: &str) {
        for (field, value) in pairs(line) {
            if let Some((_, kind, name)) = OF_CORES.iter().find(|(f, ..)| *f == field) {
                self.add(&format!("coreslot_core_{name}"), *kind, &[("core", core)], value);
            }
        }
    }
}

fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split(',').filter_map(|pair| pair.split_once('='))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A few words for people, made from the name.
fn help(name: &str) -> String {
    let field = FIELDS.iter().find(|(.., metric)| name.strip_prefix("redis_") == Some(metric));
    match field {
        Some((field, ..)) => format!("The field {field} of INFO."),
        None => {
            let words = name.split_once('_').map_or(name, |(_, rest)| rest).replace('_', " ");
            format!("INFO: {words}.")
        }
    }
}

/// The page for INFO's text.
pub fn page(info: &str) -> String {
    let mut page = Page::default();
    page.add("redis_up", Gauge, &[], "1");
    let fields: Vec<(&str, &str)> = info.lines().filter_map(|l| l.trim_end().split_once(':')).collect();
    let of = |name: &str| fields.iter().find(|(f, _)| *f == name).map_or("", |(_, v)| *v);
    let labels: Vec<(&str, &str)> = [
        "redis_version",
        "redis_mode",
        "os",
        "role",
        "tcp_port",
        "run_id",
        "process_id",
        "coreslot_version",
        "maxmemory_policy",
    ]
    .map(|name| (name, of(name)))
    .to_vec();
    page.add("redis_instance_info", Gauge, &labels, "1");
    let now_s = of("server_time_usec").parse::<u64>().unwrap_or(0) / 1_000_000;
    let started_s = now_s.saturating_sub(of("uptime_in_seconds").parse().unwrap_or(0));
    page.add("redis_start_time_seconds", Gauge, &[], &started_s.to_string());
    page.add("coreslot_data_cores", Gauge, &[], of("data_cores"));
    let primary = [("master_host", of("master_host")), ("master_port", of("master_port"))];
    page.add("redis_master_link_up", Gauge, &primary, of("master_link_status"));
    for &(field, value) in &fields {
        if let Some((_, kind, name)) = FIELDS.iter().find(|(f, ..)| *f == field) {
            page.add(&format!("redis_{name}"), *kind, &[], value);
        } else if let Some(cmd) = field.strip_prefix("cmdstat_") {
            page.commandstats(cmd, value);
        } else if let Some(cmd) = field.strip_prefix("latency_percentiles_usec_") {
            page.percentiles(cmd, value);
        } else if let Some(err) = field.strip_prefix("errorstat_") {
            page.add("redis_errors_total", Counter, &[("err", err)], value.trim_start_matches("count="));
        } else if is_numbered(field, "db") {
            page.database(field, value);
        } else if is_numbered(field, "slave") {
            page.replica(value);
        } else if is_numbered(field, "core") {
            page.core(&field[4..], value);
        }
    }
    page.text()
}

fn is_numbered(field: &str, word: &str) -> bool {
    field.strip_prefix(word).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_samples() {
        let info = "# Server\r\nredis_version:7.2.4\r\nserver_time_usec:90000000\r\nuptime_in_seconds:30\r\n\
                    connected_clients:3\r\nrdb_last_bgsave_status:ok\r\nmaxmemory_policy:noeviction\r\n\
                    cmdstat_config|get:calls=4,usec=2000,usec_per_call=500.00,rejected_calls=0,failed_calls=1\r\n\
                    latency_percentiles_usec_get:p50=1.003,p99.9=7.007\r\n\
                    errorstat_A\"B:count=5\r\ndb0:keys=7,expires=1,avg_ttl=1500\r\n\
                    slave0:ip=::1,port=7,state=online,offset=99,lag=0\r\n\
                    core1:executed=5,keys=2,nonsense=1\r\n";
        let page = page(info);
        for line in [
            "redis_up 1",
            "redis_start_time_seconds 60",
            "# TYPE redis_connected_clients gauge",
            "redis_connected_clients 3",
            "redis_rdb_last_bgsave_status 1",
            "redis_commands_total{cmd=\"config|get\"} 4",
            "redis_commands_duration_seconds_total{cmd=\"config|get\"} 0.002",
            "redis_commands_failed_calls_total{cmd=\"config|get\"} 1",
            "redis_latency_percentiles_usec{cmd=\"get\",quantile=\"0.999\"} 7.007",
            "redis_errors_total{err=\"A\\\"B\"} 5",
            "redis_db_keys{db=\"db0\"} 7",
            "redis_db_avg_ttl_seconds{db=\"db0\"} 1.5",
            "redis_connected_slave_offset_bytes{slave_ip=\"::1\",slave_port=\"7\",slave_state=\"online\"} 99",
            "coreslot_core_commands_total{core=\"1\"} 5",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
        assert!(
            page.contains("redis_instance_info{redis_version=\"7.2.4\"")
                && page.contains("maxmemory_policy=\"noeviction\"} 1\n")
        );
        assert!(!page.contains("nonsense") && !page.contains("master_link"));
    }

    #[test]
    fn no_metric_has_two_fields() {
        let mut names: Vec<&str> = FIELDS.iter().map(|f| f.2).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }
}
