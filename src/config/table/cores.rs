//! Coreslot's own directives: cores, their endpoints, where slots live, metrics.

use super::{choice, flag, list, number, text};
use crate::config::directive::Directive;
use crate::config::words;

pub(super) static ROWS: &[Directive] = &[
    list!(
        "cores",
        "auto",
        false,
        words::parse_cores,
        words::print_cores,
        None
    )
    .immutable()
    .help(
        "number | CPU list | auto: the data cores. A number runs that many on the first \
         usable CPUs, a list such as 0-3,6 one on each (a list of one is written 6,), \
         auto one per usable CPU.",
    ),
    list!(
        "service-core",
        "auto",
        false,
        words::parse_service_core,
        words::print_service_core,
        None
    )
    .immutable()
    .help(
        "CPU number | auto | none: where the core for replication, persistence and the \
         cluster bus is pinned. auto gives it a CPU of its own if there are CPUs to spare.",
    ),
    flag!("core-endpoints", false, core_endpoints)
        .immutable()
        .help(
            "yes | no: every data core listens on a port of its own as well, and CLUSTER \
             SLOTS, SHARDS and NODES present each core as the endpoint of its slots, so \
             that cluster clients reach the right core directly.",
        ),
    number!("core-port-base", 0, 0, 65535, core_port_base)
        .immutable()
        .help("port: the port of data core 0 with core-endpoints, core n has the n-th after it; 0 takes the ports after `port`."),
    flag!("core-redirect", false, core_redirect).help(
        "yes | no: a core's own port answers MOVED for keys of other cores, instead of \
         forwarding the command inside the server.",
    ),
    choice!("pipeline-order", PipelineOrder::Relaxed, pipeline_order).help(
        "relaxed | strict: strict makes every command of a connection wait for the one \
         before it; relaxed keeps that order per key and lets the rest run concurrently.",
    ),
    number!("core-spin-us", 0, 0, 1_000_000, core_spin_us).help(
        "microseconds: how long an idle data core polls before it sleeps. More lowers \
         latency and burns CPU.",
    ),
    number!("metrics-port", 0, 0, 65535, metrics_port)
        .immutable()
        .help("port: where GET /metrics is answered in the text format of Prometheus. 0 for none."),
    text!("metrics-bind", "127.0.0.1", words::any_text, metrics_bind)
        .immutable()
        .help("address: the one that metrics-port listens on. Nobody is asked for a password there."),
    flag!("rebalance", false, rebalance)
        .help("yes | no: move hot slots away from busy cores."),
    number!(
        "rebalance-interval-ms",
        1000,
        10,
        86_400_000,
        rebalance_interval_ms
    )
    .help("milliseconds: how often the load of the cores is compared."),
];
