//! LATENCY: events and histograms, those of all cores together.

use std::collections::BTreeMap;

use super::latency_text;
use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, flag};
use crate::observe::histogram::LatencyHistogram;
use crate::observe::latency::LatencyEvents;
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome, registry};
use crate::session::conn::Conn;

const ROW: Spec = Spec {
    arity: 2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    group: Group::Server,
    since: "2.8.13",
    ..Spec::DEFAULT
};
const FROM_ALL: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

const fn row(spec: Spec, run: ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: false }
}

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "latency",
            arity: -2,
            flags: 0,
            complexity: "Depends on the subcommand",
            summary: "Tells about latency.",
            ..ROW
        },
        run: None,
        light: true,
    },
    row(
        Spec { name: "latency|latest", summary: "Lists the latest sample of every event.", tips: FROM_ALL, ..ROW },
        latest,
    ),
    row(
        Spec {
            name: "latency|history",
            syntax: "event",
            arity: 3,
            summary: "Lists the samples of an event.",
            tips: FROM_ALL,
            ..ROW
        },
        history,
    ),
    row(
        Spec {
            name: "latency|reset",
            syntax: "[event...]",
            arity: -2,
            summary: "Forgets the samples of some or all events.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..ROW
        },
        reset,
    ),
    row(
        Spec {
            name: "latency|graph",
            syntax: "event",
            arity: 3,
            summary: "Draws the samples of an event.",
            tips: FROM_ALL,
            ..ROW
        },
        graph,
    ),
    row(Spec { name: "latency|doctor", summary: "Sums the events up in words.", tips: FROM_ALL, ..ROW }, doctor),
    row(
        Spec {
            name: "latency|histogram",
            syntax: "[command...]",
            arity: -2,
            since: "7.0.0",
            complexity: "O(N) for N commands",
            summary: "Returns the distribution of the durations of some or all commands.",
            tips: FROM_ALL,
            ..ROW
        },
        histogram,
    ),
    ConnCommand {
        spec: Spec {
            name: "latency|help",
            flags: flag::LOADING | flag::STALE,
            summary: "Lists the subcommands of LATENCY.",
            ..ROW
        },
        run: Some(help),
        light: true,
    },
];

/// Collects the events of all cores.
fn with_events(
    core: &mut Core,
    conn: &mut Conn,
    write: impl FnOnce(&mut Core, LatencyEvents, &mut Reply) + 'static,
) -> Result<Outcome, Fault> {
    core.gather(
        conn,
        |c| c.stats.latency_events.clone(),
        move |core, parts, r| {
            let mut all = LatencyEvents::default();
            for (name, series) in parts.into_iter().flatten() {
                all.entry(name).or_default().merge(&series);
            }
            write(core, all, r);
        },
    )
}

fn latest(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    with_events(core, conn, |_, events, r| {
        r.array(events.len());
        for (name, s) in &events {
            let (at, ms) = s.samples.back().copied().unwrap_or_default();
            r.array(4);
            r.bulk(name.as_bytes());
            [at, ms, s.max_ms].into_iter().for_each(|n| r.int(n as i64));
        }
    })
}

fn history(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let name = String::from_utf8_lossy(args[2]).into_owned();
    with_events(core, conn, move |_, events, r| {
        let samples = events.get(&name[..]).map(|s| &s.samples);
        r.array(samples.map_or(0, |s| s.len()));
        for (at, ms) in samples.into_iter().flatten() {
            r.array(2);
            r.int(*at as i64);
            r.int(*ms as i64);
        }
    })
}

fn reset(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let names: Vec<String> = args[2..].iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    let forget = move |c: &mut Core| -> Vec<&'static str> {
        let all = &mut c.stats.latency_events;
        let gone: Vec<&str> =
            all.keys().copied().filter(|n| names.is_empty() || names.iter().any(|x| x == n)).collect();
        gone.iter().for_each(|n| drop(all.remove(n)));
        gone
    };
    core.gather(conn, forget, |_, parts, r| {
        let mut gone: Vec<&str> = parts.into_iter().flatten().collect();
        gone.sort_unstable();
        gone.dedup();
        r.int(gone.len() as i64);
    })
}

fn graph(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let name = String::from_utf8_lossy(args[2]).into_owned();
    with_events(core, conn, move |core, events, r| match events.get(&name[..]) {
        Some(s) => r.verbatim("txt", latency_text::graph(&name, s, core.now / 1000).as_bytes()),
        None => r.error(format!("ERR No samples available for event '{name}'").as_bytes()),
    })
}

fn doctor(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    with_events(core, conn, |core, events, r| {
        let s = &core.settings;
        let text = latency_text::doctor(&events, s.latency_monitor_threshold_ms, s.slowlog_log_slower_than_us);
        r.verbatim("txt", text.as_bytes());
    })
}

fn histogram(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let entries = &registry().entries;
    let wanted: Vec<usize> = if args.len() == 2 {
        (0..entries.len()).collect()
    } else {
        args[2..].iter().filter_map(|name| registry().called(name)).flat_map(with_subs).collect()
    };
    let collect = move |c: &mut Core| -> Vec<(usize, LatencyHistogram)> {
        let used = wanted.iter().filter(|i| c.stats.commands[**i].latency.count() > 0);
        used.map(|i| (*i, c.stats.commands[*i].latency.clone())).collect()
    };
    core.gather(conn, collect, |_, parts, r| {
        let mut all = BTreeMap::<usize, LatencyHistogram>::new();
        for (i, h) in parts.into_iter().flatten() {
            all.entry(i).or_default().merge(&h);
        }
        r.map(all.len());
        for (i, h) in &all {
            r.bulk(registry().entries[*i].spec.name.as_bytes());
            write_histogram(r, h);
        }
    })
}

/// A container stands for its subcommands.
fn with_subs(e: &'static crate::server::registry::Entry) -> impl Iterator<Item = usize> {
    std::iter::once(e.index).chain(e.subs.iter().copied())
}

/// The bounds of the buckets in microseconds: powers of two of nanoseconds as
/// a histogram of two significant digits rounds them up (1, 2, 4, 8, 16, 33, 66 ...).
fn bounds() -> impl Iterator<Item = u64> {
    (10..40).map(|k: u32| ((1u64 << k) + (1 << (k - 7)) - 1) / 1000)
}

fn write_histogram(r: &mut Reply, h: &LatencyHistogram) {
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    let mut before = 0;
    for bound in bounds() {
        let n = h.count_up_to(bound);
        if n > before {
            buckets.push((bound, n));
            before = n;
        }
        if n == h.count() {
            break;
        }
    }
    r.map(2);
    r.bulk(b"calls");
    r.int(h.count() as i64);
    r.bulk(b"histogram_usec");
    r.map(buckets.len());
    for (bound, n) in buckets {
        r.int(bound as i64);
        r.int(n as i64);
    }
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    super::containers::help(
        conn,
        &[
            "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DOCTOR",
            "    The recorded events in words.",
            "GRAPH <event>",
            "    A drawing of an event's samples.",
            "HISTORY <event>",
            "    The samples of an event: Unix time and milliseconds.",
            "LATEST",
            "    For every event its name, the latest sample and the worst.",
            "RESET [<event> ...]",
            "    Forgets the samples of these events, or of all.",
            "HISTOGRAM [COMMAND ...]",
            "    How many calls of these commands, or of all, took up to how many microseconds.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::reply::Proto;

    #[test]
    fn buckets_have_the_bounds_of_redis() {
        let all: Vec<u64> = bounds().take(15).collect();
        assert_eq!(all, [1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227, 8454, 16908]);
    }

    #[test]
    fn counts_are_cumulative_and_only_where_they_grow() {
        let mut h = LatencyHistogram::default();
        h.record_below();
        [3, 3, 1000].into_iter().for_each(|us| h.record(us));
        let mut out = Vec::new();
        write_histogram(&mut Reply::new(&mut out, Proto::Resp2), &h);
        let text = String::from_utf8(out).unwrap().replace("\r\n", " ");
        assert_eq!(text, "*4 $5 calls :4 $14 histogram_usec *6 :1 :1 :4 :3 :1056 :4 ");
    }
}
