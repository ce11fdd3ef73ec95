//! The process, its log, and what can be observed of it.

use super::{choice, flag, list, number, text};
use crate::config::directive::{Directive, Kind, Unit};
use crate::config::words;

const CPU_LISTS: &str = "cores are pinned with `cores` and `service-core`";
/// `hz` is limited to 1..=500 without an error, as in Redis.
const HZ: Kind = Kind::Number {
    default: 10,
    min: 0,
    max: i32::MAX as i128,
    unit: Unit::Plain,
    get: |s| s.internals.hz as i128,
    set: |s, value| s.internals.hz = value.clamp(1, 500) as u32,
};

pub(super) static ROWS: &[Directive] = &[
    flag!("daemonize", false, daemonize).immutable(),
    text!("pidfile", pidfile).immutable(),
    choice!("supervised", Supervised::No, supervised).immutable(),
    choice!("loglevel", LogLevel::Notice, loglevel),
    text!("logfile", "", words::any_text, logfile).immutable(),
    flag!("hide-user-data-from-log", false, hide_user_data_from_log),
    flag!("syslog-enabled", false, syslog_enabled).immutable(),
    text!("syslog-ident", "redis", words::any_text, syslog_ident).immutable(),
    choice!("syslog-facility", SyslogFacility::Local0, syslog_facility).immutable(),
    number!("databases", 16, 1, i32::MAX, databases).immutable(),
    flag!("always-show-logo", false, always_show_logo).immutable(),
    flag!("set-proc-title", true, internals.set_proc_title).immutable(),
    text!(
        "proc-title-template",
        "{title} {listen-addr} {server-mode}",
        words::title_template,
        internals.proc_title_template
    ),
    flag!("disable-thp", true, disable_thp).immutable(),
    choice!("oom-score-adj", OomScoreAdj::No, oom_score_adj),
    list!("oom-score-adj-values", "0 200 800", words::parse_oom_values, words::print_oom_values),
    list!("shutdown-on-sigterm", "default", words::parse_on_sigterm, |s| s.shutdown_on_sigterm.to_string()),
    list!("shutdown-on-sigint", "default", words::parse_on_sigint, |s| s.shutdown_on_sigint.to_string()),
    number!("shutdown-timeout", 10, 0, i32::MAX, shutdown_timeout_s),
    number!("slowlog-log-slower-than", 10000, -1, i64::MAX, slowlog_log_slower_than_us)
        .later_name("commandlog-execution-slower-than"),
    number!("slowlog-max-len", 128, 0, i64::MAX, slowlog_max_len).later_name("commandlog-slow-execution-max-len"),
    number!("latency-monitor-threshold", 0, 0, i64::MAX, latency_monitor_threshold_ms),
    flag!("latency-tracking", true, latency_tracking),
    list!("latency-tracking-info-percentiles", "50 99 99.9", words::parse_percentiles, words::print_percentiles),
    list!("notify-keyspace-events", "", false, words::parse_keyspace_events, words::print_keyspace_events, None),
    Directive::new("hz", HZ).no_effect("timers are exact, there is no periodic task to tune"),
    flag!("dynamic-hz", true, internals.dynamic_hz).no_effect("timers are exact, there is no periodic task to tune"),
    number!("watchdog-period", 0, 0, i32::MAX, internals.watchdog_period_ms)
        .hidden()
        .no_effect("there is no software watchdog"),
    flag!("crash-log-enabled", true, internals.crash_log_enabled),
    flag!("crash-memcheck-enabled", true, internals.crash_memcheck_enabled)
        .no_effect("a crash report does not test the memory"),
    flag!("use-exit-on-panic", false, internals.use_exit_on_panic).hidden(),
    text!("ignore-warnings", "", words::any_text, internals.ignore_warnings)
        .no_effect("the warnings that it names are not given"),
    text!("locale-collate", "", words::any_text, internals.locale_collate).later("SORT compares bytes, not by locale"),
    number!("busy-reply-threshold", 5000, 0, i64::MAX, internals.busy_reply_threshold_ms).alias("lua-time-limit"),
    text!("server_cpulist", internals.server_cpulist).later_name("server-cpulist").immutable().no_effect(CPU_LISTS),
    text!("bio_cpulist", internals.bio_cpulist).later_name("bio-cpulist").immutable().no_effect(CPU_LISTS),
    text!("aof_rewrite_cpulist", internals.aof_rewrite_cpulist)
        .later_name("aof-rewrite-cpulist")
        .immutable()
        .no_effect(CPU_LISTS),
    text!("bgsave_cpulist", internals.bgsave_cpulist).later_name("bgsave-cpulist").immutable().no_effect(CPU_LISTS),
    text!("req-res-logfile", internals.req_res_logfile).immutable().hidden().later("requests are not logged to a file"),
];
