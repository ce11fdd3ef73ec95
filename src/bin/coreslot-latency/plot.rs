//! The SVG plots: the percentile distribution and the maxima over time.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::report::{TICKS_PER_HALF, micros};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Most points drawn on a timeline; more are merged by their maximum.
const POINTS_MAX: usize = 1200;

/// A frame with a logarithmic latency axis; `x` runs from 0 to 1.
struct Frame {
    svg: String,
    low_decade: i32,
    high_decade: i32,
}

impl Frame {
    fn new(title: &str, low_us: f64, high_us: f64) -> Frame {
        let low_decade = low_us.max(0.1).log10().floor() as i32;
        let high_decade = (high_us.max(0.1).log10().ceil() as i32).max(low_decade + 1);
        let mut frame = Frame { svg: String::new(), low_decade, high_decade };
        let _ = write!(
            frame.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        frame.text(WIDTH / 2.0, 24.0, "middle", 15, title);
        frame.latency_axis();
        frame
    }

    fn x(&self, share: f64) -> f64 {
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value_us: f64) -> f64 {
        let decades = f64::from(self.high_decade - self.low_decade);
        let low = f64::from(self.low_decade);
        let share = ((value_us.max(1e-3).log10() - low) / decades).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn latency_axis(&mut self) {
        for decade in self.low_decade..=self.high_decade {
            let value = 10f64.powi(decade);
            let y = self.y(value);
            self.line(LEFT, y, WIDTH - RIGHT, y, "#bbb");
            self.text(LEFT - 8.0, y + 4.0, "end", 12, &latency_label(value));
            if decade < self.high_decade {
                for step in 2..10 {
                    let y = self.y(value * f64::from(step));
                    self.line(LEFT, y, WIDTH - RIGHT, y, "#eee");
                }
            }
        }
    }

    fn tick(&mut self, share: f64, label: &str) {
        let x = self.x(share);
        self.line(x, TOP, x, HEIGHT - BOTTOM, "#bbb");
        self.text(x, HEIGHT - BOTTOM + 18.0, "middle", 12, label);
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str) {
        let _ = writeln!(
            self.svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        let _ = writeln!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>"
        );
    }

    /// Draws points of (share of the x axis, microseconds) and ends the plot.
    fn curve(mut self, points: &[(f64, f64)], axis: &str) -> String {
        let mut path = String::new();
        for (share, value_us) in points {
            let _ = write!(path, "{:.1},{:.1} ", self.x(*share), self.y(*value_us));
        }
        let _ = writeln!(
            self.svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#0b5cad\" stroke-width=\"2\"/>",
            path.trim_end()
        );
        self.text(self.x(0.5), HEIGHT - 10.0, "middle", 12, axis);
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

fn latency_label(value_us: f64) -> String {
    if value_us >= 1e6 {
        format!("{} s", value_us / 1e6)
    } else if value_us >= 1e3 {
        format!("{} ms", value_us / 1e3)
    } else {
        format!("{value_us} us")
    }
}

/// Latency by percentile; each nine takes the same width.
pub fn percentiles(latency: &Histogram<u64>) -> String {
    let nines = (latency.len().max(10) as f64).log10();
    let share = |quantile: f64| (-(1.0 - quantile).max(1e-12).log10() / nines).min(1.0);
    let title = format!("Latency from the scheduled time, {} requests", latency.len());
    let mut frame = Frame::new(&title, micros(latency.min()), micros(latency.max()));
    frame.tick(0.0, "0%");
    for nine in 1..=nines.floor() as usize {
        let label = match nine {
            1 => "90%".to_string(),
            2 => "99%".to_string(),
            _ => format!("99.{}%", "9".repeat(nine - 2)),
        };
        frame.tick(nine as f64 / nines, &label);
    }
    let points: Vec<(f64, f64)> = latency
        .iter_quantiles(TICKS_PER_HALF)
        .map(|step| {
            let value = micros(step.value_iterated_to().min(latency.max()));
            (share(step.quantile_iterated_to()), value)
        })
        .collect();
    frame.curve(&points, "percentile of requests")
}

/// The longest latency of each interval, by the time when requests were due.
pub fn timeline(maxima_ns: &[u64], interval_seconds: f64) -> String {
    let seconds = (maxima_ns.len() as f64 * interval_seconds).max(1e-9);
    let merged = maxima_ns.len().div_ceil(POINTS_MAX).max(1);
    let values: Vec<f64> =
        maxima_ns.chunks(merged).map(|chunk| micros(chunk.iter().copied().max().unwrap_or(0))).collect();
    let low = values.iter().copied().filter(|v| *v > 0.0).fold(f64::MAX, f64::min);
    let high = values.iter().copied().fold(1.0, f64::max);
    let title = format!("Longest latency per {:.0} ms, by scheduled time", interval_seconds * merged as f64 * 1e3);
    let mut frame = Frame::new(&title, low.min(high), high);
    let step = round_step(seconds / 10.0);
    for tick in 0..=(seconds / step).floor() as usize {
        let at = tick as f64 * step;
        frame.tick(at / seconds, &format!("{}", (at * 1e3).round() / 1e3));
    }
    let points: Vec<(f64, f64)> =
        values.iter().enumerate().map(|(place, value)| ((place as f64 + 0.5) / values.len() as f64, *value)).collect();
    frame.curve(&points, "seconds after the warm-up")
}

/// The next of 1, 2, 5, 10, 20, ... times a power of ten.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(decade * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;

    #[test]
    fn plots_hold_finite_numbers_even_when_empty() {
        let mut latency = histogram();
        for plot in [percentiles(&latency), timeline(&[], 0.1), timeline(&[0, 0], 0.1)] {
            assert!(plot.ends_with("</svg>\n"));
            assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
        }
        latency.record(5_000).unwrap();
        let plot = percentiles(&latency);
        assert!(plot.contains(">90%<") && plot.contains("us<"), "{plot}");
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([0.3, 1.0, 1.2, 7.0].map(round_step), [0.5, 1.0, 2.0, 10.0]);
    }
}
