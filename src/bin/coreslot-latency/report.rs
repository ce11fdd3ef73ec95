//! Progress lines, the result as text and JSON, and the files asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::mpsc::Receiver;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::args::Options;
use crate::measure::{Interval, Measured, histogram};
use crate::plot;

/// The percentiles of the result: name and quantile.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("p99.999", 0.99999)];
/// Lateness of the generator that is never held against it.
const LATE_NS: u64 = 100_000;
const BEHIND_NS: u64 = 1_000_000;
/// Steps per halving of the distance to 100%, in the `.hgrm` file and plot.
pub const TICKS_PER_HALF: u32 = 5;

/// What the exit code says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Measured,
    ServerErrors,
    GeneratorBehind,
}

/// How well the generator kept its own schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Schedule {
    Kept,
    /// Its lateness is a large part of the 99.9th percentile.
    Late,
    /// Its lateness is a large part of the 99th percentile: no measurement.
    Behind,
}

impl Schedule {
    fn of(measured: &Measured) -> Schedule {
        let mostly_lag = |quantile, least| {
            let lag = measured.lag.value_at_quantile(quantile);
            lag > least && lag > measured.latency.value_at_quantile(quantile) / 2
        };
        if mostly_lag(0.99, BEHIND_NS) {
            Schedule::Behind
        } else if mostly_lag(0.999, LATE_NS) {
            Schedule::Late
        } else {
            Schedule::Kept
        }
    }

    fn name(self) -> &'static str {
        match self {
            Schedule::Kept => "kept",
            Schedule::Late => "late",
            Schedule::Behind => "behind",
        }
    }
}

/// Prints a line per second until every worker has ended.
pub fn progress(options: &Options, intervals: Receiver<Interval>) {
    let mut seconds: BTreeMap<u64, (usize, Histogram<u64>)> = BTreeMap::new();
    for interval in intervals {
        let (threads, latency) = seconds.entry(interval.second).or_insert_with(|| (0, histogram()));
        *threads += 1;
        latency.add(&interval.latency).expect("histograms are made in one place");
        if *threads == options.threads {
            progress_line(interval.second, latency);
            seconds.remove(&interval.second);
        }
    }
    for (second, (_, latency)) in seconds {
        progress_line(second, &latency);
    }
}

fn progress_line(second: u64, latency: &Histogram<u64>) {
    eprintln!(
        "{:>5} s  {:>9} replies/s  p50 {:>9.1}  p99 {:>9.1}  p99.9 {:>9.1}  max {:>9.1} us",
        second + 1,
        latency.len(),
        micros(latency.value_at_quantile(0.5)),
        micros(latency.value_at_quantile(0.99)),
        micros(latency.value_at_quantile(0.999)),
        micros(latency.max()),
    );
}

/// Writes the result and the files, and judges the run.
pub fn write_all(options: &Options, measured: &Measured) -> Result<Verdict, Failure> {
    let schedule = Schedule::of(measured);
    if options.json {
        print!("{}", json(options, measured, schedule));
    } else {
        print!("{}", text(options, measured, schedule));
    }
    if let Some(path) = &options.hgrm {
        write_file(path, &hgrm(&measured.latency))?;
    }
    if let Some(path) = &options.svg {
        write_file(path, &plot::percentiles(&measured.latency))?;
    }
    if let Some(path) = &options.timeline_svg {
        let plot = plot::timeline(&measured.timeline, measured.timeline_seconds());
        write_file(path, &plot)?;
    }
    Ok(judge(measured, schedule))
}

fn judge(measured: &Measured, schedule: Schedule) -> Verdict {
    if let Some(text) = &measured.first_error {
        eprintln!("coreslot-latency: {} error replies, such as: {text}", measured.errors);
        return Verdict::ServerErrors;
    }
    if measured.unanswered > 0 {
        eprintln!("coreslot-latency: {} requests were never answered", measured.unanswered);
        return Verdict::ServerErrors;
    }
    match schedule {
        Schedule::Kept => Verdict::Measured,
        Schedule::Late => {
            eprintln!("coreslot-latency: the generator was late: p99.9 and above are partly its own");
            Verdict::Measured
        }
        Schedule::Behind => {
            eprintln!("coreslot-latency: the generator fell behind its schedule; lower --rate or add --threads");
            Verdict::GeneratorBehind
        }
    }
}

fn write_file(path: &str, content: &str) -> Result<(), Failure> {
    std::fs::write(path, content).map_err(|error| Failure::run(format!("cannot write {path}: {error}")))
}

pub fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn text(options: &Options, measured: &Measured, schedule: Schedule) -> String {
    let mut out = format!(
        "asked {:.0}/s  sent {:.0}/s  answered {:.0}/s  ({} requests in {:.1} s, {} connections, pipeline {})\n",
        options.rate,
        measured.rate_sent(),
        measured.rate_answered(),
        measured.latency.len(),
        options.duration.as_secs_f64(),
        options.connections,
        options.pipeline,
    );
    out.push_str("latency, us:  ");
    push_percentiles(&mut out, &measured.latency);
    let _ = write!(out, "generator {}, late by us:  ", schedule.name());
    push_percentiles(&mut out, &measured.lag);
    if let Some(threshold) = options.stall {
        push_stalls(&mut out, measured, threshold.as_micros());
    }
    out
}

fn push_percentiles(out: &mut String, of: &Histogram<u64>) {
    for (name, quantile) in PERCENTILES {
        let _ = write!(out, "{name} {:.1}  ", micros(of.value_at_quantile(quantile)));
    }
    let _ = writeln!(out, "max {:.1}  mean {:.1}", micros(of.max()), of.mean() / 1e3);
}

fn push_stalls(out: &mut String, measured: &Measured, threshold_us: u128) {
    let stalls = &measured.stalls;
    let _ = writeln!(
        out,
        "stalls of {threshold_us} us or more: {}, together {:.1} us",
        stalls.count,
        micros(stalls.total_ns),
    );
    for (place, stall) in stalls.longest.iter().enumerate() {
        let name = if place == 0 { "longest" } else { "next" };
        let _ = writeln!(out, "  {name}: {:.1} us at {:.3} s", micros(stall.length_ns), stall.start_ns as f64 / 1e9,);
    }
}

fn json(options: &Options, measured: &Measured, schedule: Schedule) -> String {
    let stalls = &measured.stalls;
    format!(
        concat!(
            "{{\"rate_asked\":{:.1},\"rate_sent\":{:.1},\"rate_answered\":{:.1},",
            "\"requests\":{},\"connections\":{},\"pipeline\":{},\"errors\":{},",
            "\"unanswered\":{},\"schedule\":\"{}\",\"latency_us\":{},\"lag_us\":{},",
            "\"stalls\":{},\"stalls_total_us\":{:.1},\"longest_stall_us\":{:.1}}}\n"
        ),
        options.rate,
        measured.rate_sent(),
        measured.rate_answered(),
        measured.latency.len(),
        options.connections,
        options.pipeline,
        measured.errors,
        measured.unanswered,
        schedule.name(),
        json_percentiles(&measured.latency),
        json_percentiles(&measured.lag),
        stalls.count,
        micros(stalls.total_ns),
        stalls.longest.first().map_or(0.0, |stall| micros(stall.length_ns)),
    )
}

fn json_percentiles(of: &Histogram<u64>) -> String {
    let mut out = "{".to_string();
    for (name, quantile) in PERCENTILES {
        let _ = write!(out, "\"{name}\":{:.1},", micros(of.value_at_quantile(quantile)));
    }
    let _ = write!(out, "\"max\":{:.1},\"mean\":{:.1}}}", micros(of.max()), of.mean() / 1e3);
    out
}

/// The percentile distribution in HdrHistogram's text format, in milliseconds;
/// the plotters and mergers around that format read it.
fn hgrm(latency: &Histogram<u64>) -> String {
    let millis = |nanos: f64| nanos / 1e6;
    let mut out = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in latency.iter_quantiles(TICKS_PER_HALF) {
        count += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = millis(step.value_iterated_to() as f64);
        let _ = write!(out, "{value:>12.6} {quantile:>2.12} {count:>10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]",
        millis(latency.mean()),
        millis(latency.stdev()),
    );
    let _ =
        writeln!(out, "#[Max     = {:>12.6}, Total count    = {:>12}]", millis(latency.max() as f64), latency.len(),);
    let buckets = (latency.high() as f64 / 2048.0).log2().ceil() as u64 + 1;
    let _ = writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]", 2048);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(latency_ns: u64, lag_ns: u64) -> Measured {
        let mut measured = Measured::new(&Options::default());
        for _ in 0..1000 {
            measured.latency.record(latency_ns).unwrap();
            measured.lag.record(lag_ns).unwrap();
        }
        measured
    }

    #[test]
    fn lateness_is_judged_against_the_latency() {
        assert_eq!(Schedule::of(&measured(50_000, 40_000)), Schedule::Kept);
        assert_eq!(Schedule::of(&measured(500_000, 400_000)), Schedule::Late);
        assert_eq!(Schedule::of(&measured(5_000_000, 4_000_000)), Schedule::Behind);
        assert_eq!(Schedule::of(&measured(50_000_000, 4_000_000)), Schedule::Kept);
    }

    #[test]
    fn hgrm_counts_every_request_and_ends_at_one() {
        let mut latency = histogram();
        for value in 1..=10_000u64 {
            latency.record(value * 1000).unwrap();
        }
        let text = hgrm(&latency);
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(fields[1..], ["1.000000000000", "10000"]);
        assert!(text.contains("Total count    =        10000]"), "{text}");
    }
}
