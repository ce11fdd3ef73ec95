//! What LATENCY GRAPH and LATENCY DOCTOR print.

use std::cmp::Ordering;

use crate::observe::latency::{LatencyEvents, Series};

/// Columns and rows of a graph.
const COLUMNS: usize = 80;
const ROWS: usize = 4;
/// How full a bar's highest cell is drawn, and those below it.
const LEVELS: [char; 3] = ['_', 'o', '#'];
const BELOW: char = '|';

/// The samples of an event as bars, the latest on the right, with their age
/// written downwards below them.
pub fn graph(name: &str, s: &Series, now_s: u64) -> String {
    let from = s.samples.len().saturating_sub(COLUMNS);
    let shown: Vec<(u64, u64)> = s.samples.iter().skip(from).copied().collect();
    let high = shown.iter().map(|x| x.1).max().unwrap_or(0);
    let low = shown.iter().map(|x| x.1).min().unwrap_or(0);
    let mut out = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", s.max_ms);
    out.push_str(&"-".repeat(COLUMNS));
    out.push('\n');
    let steps = ROWS * LEVELS.len();
    let height = |ms: u64| ((ms - low) as usize * steps).checked_div((high - low) as usize).unwrap_or(0).min(steps - 1);
    for row in (0..ROWS).rev() {
        out.extend(shown.iter().map(|(_, ms)| cell(height(*ms), row)));
        out.push('\n');
    }
    out.extend(shown.iter().map(|_| ' '));
    out.push('\n');
    let ages: Vec<Vec<char>> = shown.iter().map(|x| age(now_s.saturating_sub(x.0)).chars().collect()).collect();
    for line in 0..ages.iter().map(Vec::len).max().unwrap_or(0) {
        out.extend(ages.iter().map(|a| a.get(line).copied().unwrap_or(' ')));
        out.push('\n');
    }
    out
}

fn cell(height: usize, row: usize) -> char {
    match (height / LEVELS.len()).cmp(&row) {
        Ordering::Less => ' ',
        Ordering::Equal => LEVELS[height % LEVELS.len()],
        Ordering::Greater => BELOW,
    }
}

fn age(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86_400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

/// A summary of all events, and what may help.
pub fn doctor(events: &LatencyEvents, threshold_ms: u64, slowlog_us: i64) -> String {
    if threshold_ms == 0 {
        return "Latency is not monitored. Set latency-monitor-threshold to the milliseconds from which an event \
                shall be recorded.\n"
            .into();
    }
    if events.is_empty() {
        return "No latency event has been recorded since the start or the last LATENCY RESET.\n".into();
    }
    let mut out = String::from("Recorded latency events:\n\n");
    for (i, (name, s)) in events.iter().enumerate() {
        let n = s.samples.len().max(1) as u64;
        let mean = s.samples.iter().map(|x| x.1).sum::<u64>() / n;
        let deviation = s.samples.iter().map(|x| x.1.abs_diff(mean)).sum::<u64>() / n;
        let span = s.samples.back().map_or(0, |x| x.0) - s.samples.front().map_or(0, |x| x.0);
        out.push_str(&format!(
            "{}. {name}: {n} events (mean {mean} ms, mean deviation {deviation} ms, one in {:.2} s). Worst: {} ms.\n",
            i + 1,
            span as f64 / n as f64,
            s.max_ms
        ));
    }
    out.push('\n');
    if events.contains_key("command") {
        if slowlog_us < 0 || slowlog_us as u64 > threshold_ms * 1000 {
            out.push_str(&format!(
                "- Let the slow log record such commands: CONFIG SET slowlog-log-slower-than {}.\n",
                threshold_ms * 1000
            ));
        }
        out.push_str("- SLOWLOG GET names the slow commands. Their keys' core served nobody else meanwhile.\n");
        out.push_str("- Split very large collections, or read and write them in parts.\n");
    }
    if events.contains_key("fast-command") {
        out.push_str(
            "- Commands of constant cost were slow: look for other work on the CPUs of the cores, and for swapping.\n",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_the_samples() {
        let mut s = Series::default();
        for (at, ms) in [(100, 10), (101, 30), (102, 20)] {
            s.add(at, ms);
        }
        let g = graph("command", &s, 170);
        let lines: Vec<&str> = g.lines().collect();
        assert_eq!(lines[0], "command - high 30 ms, low 10 ms (all time high 30 ms)");
        assert_eq!(&lines[2..7], [" # ", " |_", " ||", "_||", "   "]);
        assert_eq!(&lines[7..], ["111", "mmm"]);
    }

    #[test]
    fn the_doctor_sees_events() {
        let mut events = LatencyEvents::default();
        assert!(doctor(&events, 0, 0).contains("not monitored"));
        assert!(doctor(&events, 10, 0).contains("No latency event"));
        events.entry("command").or_default().add(5, 40);
        let text = doctor(&events, 10, -1);
        assert!(text.contains("1. command: 1 events (mean 40 ms") && text.contains("slower-than 10000"));
    }
}
