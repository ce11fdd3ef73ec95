//! The text of INFO's sections. Fields are those of Redis 7.2; what belongs to
//! a part that does not exist here has the value that a server without that
//! part shows.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

use super::info::Part;
use crate::acl::log::Reason;
use crate::base::{memory, sparse};
use crate::observe::histogram::LatencyHistogram;
use crate::observe::ticks;
use crate::server::core::Core;
use crate::server::persistence::{AofStatus, Persistence};
use crate::server::process::{REDIS_VERSION, VERSION};
use crate::server::registry::registry;
use crate::server::replication::Described;
use crate::server::shared::Usage;
use crate::server::stats::CommandStats;
use crate::session::pubsub::Kind;

/// What the sections are made from: the asking core and all cores' parts.
pub struct View<'a> {
    pub core: &'a Core,
    pub parts: &'a [Part],
    pub replication: &'a Described,
    /// Memory in use when INFO came.
    pub usage: Usage,
}

impl View<'_> {
    fn sum(&self, of: impl Fn(&Part) -> u64) -> u64 {
        self.parts.iter().map(of).sum()
    }

    fn max(&self, of: impl Fn(&Part) -> usize) -> usize {
        self.parts.iter().map(of).max().unwrap_or(0)
    }

    fn rate(&self, which: usize) -> u64 {
        self.sum(|p| p.rates[which])
    }
}

fn title(t: &mut String, name: &str) {
    let _ = write!(t, "# {name}\r\n");
}

fn put(t: &mut String, name: &str, value: impl Display) {
    let _ = write!(t, "{name}:{value}\r\n");
}

/// Fields of parts that do not exist here.
fn put_all(t: &mut String, fields: &[(&str, &str)]) {
    fields.iter().for_each(|(name, value)| put(t, name, value));
}

/// Bytes with a unit, as in Redis's `*_human` fields.
fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = "KMGTP".chars();
    let mut unit = units.next().unwrap_or('K');
    while value >= 1024.0 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.2}{unit}")
}

fn put_bytes(t: &mut String, name: &str, bytes: u64) {
    put(t, name, bytes);
    put(t, &format!("{name}_human"), human(bytes));
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// User and system time in microseconds of a thread or process.
pub fn cpu_us(who: libc::c_int) -> [u64; 2] {
    // SAFETY: zeroed bytes are a valid rusage, which the kernel fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime].map(|t| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64)
}

/// System, release and machine.
fn uname() -> String {
    // SAFETY: zeroed bytes are a valid utsname; the kernel fills it with
    // strings that end in a zero byte.
    unsafe {
        let mut u: libc::utsname = std::mem::zeroed();
        libc::uname(&mut u);
        let text = |s: &[libc::c_char]| std::ffi::CStr::from_ptr(s.as_ptr()).to_string_lossy().into_owned();
        format!("{} {} {}", text(&u.sysname), text(&u.release), text(&u.machine))
    }
}

fn total_memory() -> u64 {
    // SAFETY: plain calls.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    pages.max(0) as u64 * size.max(0) as u64
}

pub fn server(v: &View, t: &mut String) {
    let (core, s) = (v.core, &v.core.settings);
    let up_s = core.now.saturating_sub(core.shared.started_ms) / 1000;
    title(t, "Server");
    put(t, "redis_version", REDIS_VERSION);
    put_all(t, &[("redis_git_sha1", "00000000"), ("redis_git_dirty", "0"), ("redis_build_id", "0000000000000000")]);
    put(t, "redis_mode", "standalone");
    put(t, "os", uname());
    put(t, "arch_bits", usize::BITS);
    put_all(t, &[("monotonic_clock", "POSIX clock_gettime"), ("multiplexing_api", "io_uring")]);
    put_all(t, &[("atomicvar_api", "c11-builtin"), ("gcc_version", "0.0.0")]);
    put(t, "process_id", std::process::id());
    put(t, "process_supervised", s.supervised.name());
    put(t, "run_id", &core.shared.run_id);
    let port = core.shared.port.load(Relaxed);
    put(t, "tcp_port", if port == 0 { usize::from(core.settings.tls.port) } else { port });
    put(t, "server_time_usec", crate::base::clock::unix_ns(core.stamp) / 1000);
    put(t, "uptime_in_seconds", up_s);
    put(t, "uptime_in_days", up_s / 86_400);
    put(t, "hz", s.internals.hz);
    put(t, "configured_hz", s.internals.hz);
    put(t, "lru_clock", (core.now / 1000) & 0x00FF_FFFF);
    put(t, "executable", std::env::current_exe().unwrap_or_default().display());
    put(t, "config_file", core.shared.config.file().unwrap_or(std::path::Path::new("")).display());
    put(t, "io_threads_active", 0);
    let ends_ms = core.shared.saves.shutdown_at_ms.load(Relaxed);
    if ends_ms > 0 {
        put(t, "shutdown_in_milliseconds", ends_ms.saturating_sub(crate::base::clock::mono_ns() / 1_000_000));
    }
    if !s.availability_zone.is_empty() {
        put(t, "availability_zone", &s.availability_zone);
    }
    listeners(v, t);
    put(t, "coreslot_version", VERSION);
    put(t, "data_cores", core.shared.cores);
}

fn listeners(v: &View, t: &mut String) {
    let s = &v.core.settings;
    let mut n = 0;
    if s.port > 0 {
        let bind: String = s.bind.iter().map(|b| format!(",bind={b}")).collect();
        let _ = write!(t, "listener{n}:name=tcp{bind},port={}\r\n", s.port);
        n += 1;
    }
    if !s.unixsocket.is_empty() {
        let _ = write!(t, "listener{n}:name=unix,bind={}\r\n", s.unixsocket);
        n += 1;
    }
    if s.tls.port > 0 {
        let bind: String = s.bind.iter().map(|b| format!(",bind={b}")).collect();
        let _ = write!(t, "listener{n}:name=tls{bind},port={}\r\n", s.tls.port);
    }
}

pub fn clients(v: &View, t: &mut String) {
    title(t, "Clients");
    put(t, "connected_clients", v.core.shared.clients.load(Relaxed));
    put(t, "cluster_connections", 0);
    put(t, "maxclients", v.core.settings.maxclients);
    put(t, "client_recent_max_input_buffer", v.max(|p| p.sizes.input_max));
    put(t, "client_recent_max_output_buffer", v.max(|p| p.sizes.output_max));
    put(t, "blocked_clients", v.sum(|p| p.paused as u64));
    put(t, "tracking_clients", v.core.shared.tracking_clients.load(Relaxed));
    put(t, "clients_in_timeout_table", v.sum(|p| p.blocking.deadlines as u64));
    put(t, "total_blocking_keys", v.sum(|p| p.blocking.keys as u64));
    put(t, "total_blocking_keys_on_nokey", v.sum(|p| p.blocking.keys_on_nokey as u64));
}

pub fn memory(v: &View, t: &mut String) {
    let (shared, s) = (&v.core.shared, &v.core.settings);
    let used = v.usage.used as u64;
    let rss = memory::resident() as u64;
    let peak = (shared.peak_memory.fetch_max(used as usize, Relaxed) as u64).max(used);
    let startup = shared.startup_memory.load(Relaxed) as u64;
    let clients = v.sum(|p| p.sizes.memory as u64);
    let buffers = v.replication.backlog_memory as u64 + shared.persistence.aof.buffer_bytes.load(Relaxed);
    let caches = (shared.scripts.cache.memory() + shared.scripts.libraries.memory()) as u64;
    let overhead = (startup + clients + buffers + caches + v.sum(|p| p.overhead as u64)).min(used);
    let dataset = used - overhead;
    title(t, "Memory");
    put_bytes(t, "used_memory", used);
    put_bytes(t, "used_memory_rss", rss);
    put_bytes(t, "used_memory_peak", peak);
    put(t, "used_memory_peak_perc", format_args!("{:.2}%", ratio(used, peak) * 100.0));
    put(t, "used_memory_overhead", overhead);
    put(t, "used_memory_startup", startup);
    put(t, "used_memory_dataset", dataset);
    let share = ratio(dataset, used.saturating_sub(startup)).min(1.0) * 100.0;
    put(t, "used_memory_dataset_perc", format_args!("{share:.2}%"));
    let allocated = used + memory::left_out() as u64;
    let active = (sparse::active() as u64).max(allocated);
    put(t, "allocator_allocated", allocated);
    put(t, "allocator_active", active);
    put(t, "allocator_resident", rss);
    put_bytes(t, "total_system_memory", total_memory());
    put_scripts(v, t);
    put_bytes(t, "maxmemory", s.maxmemory);
    put(t, "maxmemory_policy", s.maxmemory_policy.name());
    put(t, "allocator_frag_ratio", format_args!("{:.2}", ratio(active, allocated)));
    put(t, "allocator_frag_bytes", active - allocated);
    put(t, "allocator_rss_ratio", format_args!("{:.2}", ratio(rss, active)));
    put(t, "allocator_rss_bytes", rss as i64 - active as i64);
    put_all(t, &[("rss_overhead_ratio", "1.00"), ("rss_overhead_bytes", "0")]);
    put(t, "mem_fragmentation_ratio", format_args!("{:.2}", ratio(rss, allocated)));
    put(t, "mem_fragmentation_bytes", rss as i64 - allocated as i64);
    put(t, "mem_not_counted_for_evict", v.usage.not_counted);
    put(t, "mem_replication_backlog", v.replication.backlog_memory - v.replication.beyond_backlog);
    put(t, "mem_total_replication_buffers", v.replication.backlog_memory);
    put(t, "mem_clients_slaves", v.replication.beyond_backlog);
    put(t, "mem_clients_normal", clients);
    put_all(t, &[("mem_cluster_links", "0")]);
    put(t, "mem_aof_buffer", shared.persistence.aof.buffer_bytes.load(Relaxed));
    put(t, "mem_allocator", memory::allocator());
    put(t, "active_defrag_running", v.max(|p| p.defrag.0 as usize));
    put(t, "lazyfree_pending_objects", shared.garbage_pending.load(Relaxed));
    put(t, "lazyfreed_objects", shared.garbage_freed.load(Relaxed));
}

/// Lua's states, and what is known of scripts and functions.
fn put_scripts(v: &View, t: &mut String) {
    let scripts = &v.core.shared.scripts;
    let (eval, functions) = v.parts.iter().fold((0, 0), |sum, p| (sum.0 + p.lua.0 as u64, sum.1 + p.lua.1 as u64));
    let (libraries, all) = scripts.libraries.count();
    let (cached, stored) = (scripts.cache.memory() as u64, scripts.libraries.memory() as u64);
    put(t, "used_memory_lua", eval);
    put(t, "used_memory_vm_eval", eval);
    put(t, "used_memory_lua_human", human(eval));
    put(t, "used_memory_scripts_eval", cached);
    put(t, "number_of_cached_scripts", scripts.cache.len());
    put(t, "number_of_functions", all);
    put(t, "number_of_libraries", libraries);
    put(t, "used_memory_vm_functions", functions);
    put(t, "used_memory_vm_total", eval + functions);
    put(t, "used_memory_vm_total_human", human(eval + functions));
    put(t, "used_memory_functions", stored);
    put(t, "used_memory_scripts", cached + stored);
    put(t, "used_memory_scripts_human", human(cached + stored));
}

pub fn persistence(v: &View, t: &mut String) {
    let p = &v.core.shared.persistence;
    let loading = p.loading.load(Relaxed);
    title(t, "Persistence");
    put(t, "loading", u8::from(loading));
    put(t, "async_loading", u8::from(p.async_loading.load(Relaxed)));
    put_all(
        t,
        &[
            ("current_cow_peak", "0"),
            ("current_cow_size", "0"),
            ("current_cow_size_age", "0"),
            ("current_fork_perc", "0.00"),
        ],
    );
    let saves = &v.core.shared.saves;
    let changes = v.sum(|p| p.stats.dirty).saturating_sub(saves.saved_changes.load(Relaxed));
    let saving = saves.saving.load(Relaxed);
    let now_s = v.core.now / 1000;
    let current_s = now_s.saturating_sub(saves.started_s.load(Relaxed)) as i64;
    put(t, "current_save_keys_processed", saves.keys_done.load(Relaxed));
    put(t, "current_save_keys_total", saves.keys_total.load(Relaxed));
    put(t, "rdb_changes_since_last_save", changes);
    put(t, "rdb_bgsave_in_progress", u8::from(saving));
    put(t, "rdb_last_save_time", saves.last_save_s.load(Relaxed));
    put(t, "rdb_last_bgsave_status", if saves.last_failed.load(Relaxed) { "err" } else { "ok" });
    put(t, "rdb_last_bgsave_time_sec", saves.last_took_s.load(Relaxed));
    put(t, "rdb_current_bgsave_time_sec", if saving { current_s } else { -1 });
    put(t, "rdb_saves", saves.saves.load(Relaxed));
    put(t, "rdb_last_cow_size", 0);
    put(t, "rdb_last_load_keys_expired", p.last_load_expired.load(Relaxed));
    put(t, "rdb_last_load_keys_loaded", p.last_load_loaded.load(Relaxed));
    aof(&p.aof, v.core.now / 1000, t);
    put_all(t, &[("module_fork_in_progress", "0"), ("module_fork_last_cow_size", "0")]);
    if p.aof.enabled.load(Relaxed) || v.core.settings.persistence.appendonly {
        put(t, "aof_current_size", p.aof.current_size.load(Relaxed));
        put(t, "aof_base_size", p.aof.base_size.load(Relaxed));
        put(t, "aof_pending_rewrite", 0);
        put(t, "aof_buffer_length", p.aof.buffer_bytes.load(Relaxed));
        put(t, "aof_pending_bio_fsync", p.aof.pending_fsync.load(Relaxed));
        put(t, "aof_delayed_fsync", p.aof.delayed_fsync.load(Relaxed));
    }
    if loading || p.async_loading.load(Relaxed) {
        put_loading(p, v.core.now / 1000, t);
    }
}

fn aof(a: &AofStatus, now_s: u64, t: &mut String) {
    let status = |failed: bool| if failed { "err" } else { "ok" };
    let rewriting = a.rewriting.load(Relaxed);
    put(t, "aof_enabled", u8::from(a.enabled.load(Relaxed)));
    put(t, "aof_rewrite_in_progress", u8::from(rewriting));
    put(t, "aof_rewrite_scheduled", u8::from(a.rewrite_scheduled.load(Relaxed)));
    put(t, "aof_last_rewrite_time_sec", a.last_rewrite_s.load(Relaxed));
    let since = now_s.saturating_sub(a.rewrite_since_s.load(Relaxed)) as i64;
    put(t, "aof_current_rewrite_time_sec", if rewriting { since } else { -1 });
    put(t, "aof_last_bgrewrite_status", status(a.rewrite_failed.load(Relaxed)));
    put(t, "aof_rewrites", a.rewrites.load(Relaxed));
    put(t, "aof_rewrites_consecutive_failures", a.failures_in_a_row.load(Relaxed));
    put(t, "aof_last_write_status", status(a.errno.load(Relaxed) != 0));
    put(t, "aof_last_cow_size", 0);
}

fn put_loading(p: &Persistence, now_s: u64, t: &mut String) {
    let since = p.loading_since_s.load(Relaxed);
    let (total, done) = (p.loading_total_bytes.load(Relaxed), p.loading_done_bytes.load(Relaxed));
    put(t, "loading_start_time", since);
    put(t, "loading_total_bytes", total);
    put(t, "loading_rdb_used_mem", p.loading_used_memory.load(Relaxed));
    put(t, "loading_loaded_bytes", done);
    put(t, "loading_loaded_perc", format_args!("{:.2}", ratio(done, total) * 100.0));
    let left = now_s.saturating_sub(since) * total.saturating_sub(done);
    let eta = left.checked_div(done).unwrap_or(1);
    put(t, "loading_eta_seconds", eta);
}

pub fn stats(v: &View, t: &mut String) {
    let kbps = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    title(t, "Stats");
    put(t, "total_connections_received", v.sum(|p| p.stats.connections));
    put(t, "total_commands_processed", v.sum(|p| p.stats.executed));
    put(t, "instantaneous_ops_per_sec", v.rate(0));
    put(t, "total_net_input_bytes", v.sum(|p| p.stats.bytes_in));
    put(t, "total_net_output_bytes", v.sum(|p| p.stats.bytes_out));
    put(t, "total_net_repl_input_bytes", v.replication.net[0]);
    put(t, "total_net_repl_output_bytes", v.replication.net[1]);
    put(t, "instantaneous_input_kbps", kbps(v.rate(1)));
    put(t, "instantaneous_output_kbps", kbps(v.rate(2)));
    put(t, "instantaneous_input_repl_kbps", kbps(v.replication.net_rates[0]));
    put(t, "instantaneous_output_repl_kbps", kbps(v.replication.net_rates[1]));
    put(t, "rejected_connections", v.sum(|p| p.stats.rejected_connections));
    put(t, "sync_full", v.replication.full);
    put(t, "sync_partial_ok", v.replication.partial_ok);
    put(t, "sync_partial_err", v.replication.partial_err);
    put(t, "expired_keys", v.sum(|p| p.store.expired));
    // As Redis has it since 7.4: fields of hashes.
    put(t, "expired_subkeys", v.sum(|p| p.store.expired_fields));
    put_all(t, &[("expired_stale_perc", "0.00"), ("expired_time_cap_reached_count", "0")]);
    put(t, "expire_cycle_cpu_milliseconds", v.sum(|p| p.stats.expire_cycle_us) / 1000);
    put(t, "evicted_keys", v.sum(|p| p.store.evicted));
    put(t, "evicted_clients", v.sum(|p| p.stats.evicted_clients));
    let (current, total) = v.core.shared.rooms.exceeded_ms(v.core.stamp / 1000);
    put(t, "total_eviction_exceeded_time", total);
    put(t, "current_eviction_exceeded_time", current);
    put(t, "keyspace_hits", v.sum(|p| p.store.hits));
    put(t, "keyspace_misses", v.sum(|p| p.store.misses));
    for (name, kind) in
        [("pubsub_channels", Kind::Channel), ("pubsub_patterns", Kind::Pattern), ("pubsubshard_channels", Kind::Shard)]
    {
        put(t, name, v.core.audience.len(kind));
    }
    put_features(v, t);
    put(t, "tracking_total_keys", v.sum(|p| p.tracking.0 as u64));
    put(t, "tracking_total_items", v.sum(|p| p.tracking.1 as u64));
    put(t, "tracking_total_prefixes", v.max(|p| p.tracking.2));
    put(t, "total_error_replies", v.sum(|p| p.stats.error_replies));
    put(t, "dump_payload_sanitizations", v.sum(|p| p.store.sanitized));
    put(t, "total_reads_processed", v.sum(|p| p.stats.reads));
    put(t, "total_writes_processed", v.sum(|p| p.stats.writes));
    put_all(t, &[("io_threaded_reads_processed", "0"), ("io_threaded_writes_processed", "0")]);
    put(t, "client_query_buffer_limit_disconnections", v.sum(|p| p.stats.query_buffer_closes));
    put(t, "client_output_buffer_limit_disconnections", v.sum(|p| p.stats.output_buffer_closes));
    put_all(t, &[("reply_buffer_shrinks", "0"), ("reply_buffer_expands", "0")]);
    put_cycles(v, t);
    for (name, reason) in
        [("auth", Reason::Auth), ("cmd", Reason::Command), ("key", Reason::Key), ("channel", Reason::Channel)]
    {
        put(t, &format!("acl_access_denied_{name}"), v.sum(|p| p.stats.denied[reason as usize]));
    }
}

/// Forks, which do not exist, defragmentation, and what stands between them.
fn put_features(v: &View, t: &mut String) {
    put_all(t, &[("latest_fork_usec", "0"), ("total_forks", "0")]);
    put(t, "migrate_cached_sockets", v.core.shared.migrate_sockets.load(Relaxed));
    put(t, "slave_expires_tracked_keys", v.sum(|p| p.local_deadlines as u64));
    put(t, "active_defrag_hits", v.sum(|p| p.stats.defrag.counts.hits));
    put(t, "active_defrag_misses", v.sum(|p| p.stats.defrag.counts.misses));
    put(t, "active_defrag_key_hits", v.sum(|p| p.stats.defrag.counts.key_hits));
    put(t, "active_defrag_key_misses", v.sum(|p| p.stats.defrag.counts.key_misses));
    // The longest of all cores: they work at the same time.
    let total = v.max(|p| (p.stats.defrag.total_us + p.defrag.1) as usize);
    put(t, "total_active_defrag_time", total / 1000);
    put(t, "current_active_defrag_time", v.max(|p| p.defrag.1 as usize) / 1000);
    put_all(t, &[("unexpected_error_replies", "0")]);
}

/// A turn is a cycle of Redis's event loop. Its duration is the time in which
/// the core did not sleep.
fn put_cycles(v: &View, t: &mut String) {
    let busy: u64 = v.sum(|p| p.cpu_us.iter().sum());
    let commands = v.sum(|p| p.command_ticks);
    put(t, "eventloop_cycles", v.sum(|p| p.stats.turns));
    put(t, "eventloop_duration_sum", busy);
    put(t, "eventloop_duration_cmd_sum", ticks::to_us(commands));
    put(t, "instantaneous_eventloop_cycles_per_sec", v.rate(3));
    put(t, "instantaneous_eventloop_duration_usec", busy / v.sum(|p| p.stats.turns).max(1));
}

pub fn replication(v: &View, t: &mut String) {
    title(t, "Replication");
    t.push_str(&v.replication.section);
}

/// The main thread of Redis has its counterpart in all data cores together.
pub fn cpu(v: &View, t: &mut String) {
    title(t, "CPU");
    let [user, system] = cpu_us(libc::RUSAGE_SELF);
    put(t, "used_cpu_sys", seconds(system));
    put(t, "used_cpu_user", seconds(user));
    let [user, system] = cpu_us(libc::RUSAGE_CHILDREN);
    put(t, "used_cpu_sys_children", seconds(system));
    put(t, "used_cpu_user_children", seconds(user));
    put(t, "used_cpu_sys_main_thread", seconds(v.sum(|p| p.cpu_us[1])));
    put(t, "used_cpu_user_main_thread", seconds(v.sum(|p| p.cpu_us[0])));
}

pub fn modules(_: &View, t: &mut String) {
    title(t, "Modules");
}

/// All cores' counters of every command, by its full name.
fn commands(v: &View) -> Vec<(&'static str, CommandStats)> {
    let total = |index: usize| {
        let mut sum = CommandStats::default();
        for c in v.parts.iter().filter_map(|p| p.stats.commands.get(index)) {
            sum.add(c);
        }
        sum
    };
    registry().entries.iter().map(|e| (e.spec.name, total(e.index))).collect()
}

pub fn commandstats(v: &View, t: &mut String) {
    title(t, "Commandstats");
    for (name, c) in commands(v) {
        if c.calls + c.rejected + c.failed == 0 {
            continue;
        }
        let us = ticks::to_us(c.ticks);
        let _ = write!(
            t,
            "cmdstat_{name}:calls={},usec={us},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            c.calls,
            ratio(us, c.calls),
            c.rejected,
            c.failed
        );
    }
}

pub fn errorstats(v: &View, t: &mut String) {
    title(t, "Errorstats");
    let mut all: BTreeMap<&[u8], u64> = BTreeMap::new();
    for (code, n) in v.parts.iter().flat_map(|p| &p.stats.errors) {
        *all.entry(code).or_default() += n;
    }
    for (code, n) in all {
        put(t, &format!("errorstat_{}", String::from_utf8_lossy(code)), format_args!("count={n}"));
    }
}

pub fn latencystats(v: &View, t: &mut String) {
    title(t, "Latencystats");
    if !v.core.settings.latency_tracking {
        return;
    }
    for (name, c) in commands(v).iter().filter(|(_, c)| c.latency.count() > 0) {
        put(t, &format!("latency_percentiles_usec_{name}"), percentiles(v, &c.latency));
    }
}

fn percentiles(v: &View, h: &LatencyHistogram) -> String {
    let all = v.core.settings.latency_tracking_info_percentiles.iter();
    let words: Vec<String> = all.map(|p| format!("p{p}={:.3}", h.percentile(*p))).collect();
    words.join(",")
}

pub fn cluster(v: &View, t: &mut String) {
    title(t, "Cluster");
    // Clients of a cluster look here before they trust CLUSTER SLOTS.
    put(t, "cluster_enabled", u8::from(v.core.clustered()));
}

pub fn keyspace(v: &View, t: &mut String) {
    title(t, "Keyspace");
    let databases = v.parts.first().map_or(0, |p| p.databases.len());
    for db in 0..databases {
        let all = v.parts.iter().map(|p| p.databases[db]);
        let keys: usize = all.clone().map(|(keys, _, _)| keys).sum();
        let volatile: usize = all.clone().map(|(_, volatile, _)| volatile).sum();
        let ttl_sum: u128 = all.map(|(_, volatile, ttl)| volatile as u128 * u128::from(ttl)).sum();
        if keys > 0 {
            let ttl = ttl_sum / volatile.max(1) as u128;
            put(t, &format!("db{db}"), format_args!("keys={keys},expires={volatile},avg_ttl={ttl}"));
        }
    }
}

pub fn cores(v: &View, t: &mut String) {
    title(t, "Cores");
    for (i, p) in v.parts.iter().enumerate() {
        let keys: usize = p.databases.iter().map(|d| d.0).sum();
        let s = &p.stats;
        let _ = write!(t, "core{i}:executed={},forwarded={},transactions={}", s.executed, s.forwarded, s.transactions);
        let _ = write!(t, ",turns={},wakes={},connections={}", s.turns, s.wakes, p.connections);
        let _ = write!(t, ",keys={keys},slots={},slots_moved={}", p.slots, s.slots_moved);
        let _ = write!(t, ",ops_per_sec={},buffer_exhaustions={}", p.rates[0], s.buffer_exhaustions);
        let _ = write!(t, ",cpu_user={},cpu_sys={}\r\n", seconds(p.cpu_us[0]), seconds(p.cpu_us[1]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1_039_840), "1015.47K");
        assert_eq!(human(25_276_510_208), "23.54G");
        assert_eq!(seconds(6_537), "0.006537");
    }
}
