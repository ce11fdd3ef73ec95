//! The options, their defaults and limits.

use std::str::FromStr;
use std::time::Duration;

use crate::Failure;
use crate::request::KeyOrder;

pub const HELP: &str = "\
coreslot-latency: open-loop load generator; latency runs from the scheduled time

  --rate N            requests a second, all connections together (10000)
  --connections N     connections (50)
  --pipeline N        requests due, and sent, together on one connection (1)
  --threads N         threads; connections and rate are divided among them (1)
  --pin LIST          cores to pin the threads to, such as 1 or 2,4-7
  --spin              poll instead of sleeping until the next request is due
  --warmup SECONDS    sent but not counted (1)
  --duration SECONDS  counted (10)

  --host ADDRESS      (127.0.0.1)
  --port N            (6379)

  --keys N            size of the key space (1000000)
  --key-prefix TEXT   keys are the prefix and 12 digits (key:)
  --key-order ORDER   random or sequential (random)
  --key-start N       number of the first key (0)
  --value-size BYTES  (64)
  --set-ratio F       share of SET among SET and GET, 0 to 1 (0.1)
  --command TEMPLATE  instead of SET and GET; __key__ and __data__ are replaced
  --seed N            of the random keys (1)

  --json              result on stdout as one JSON object
  --hgrm FILE         percentile distribution, HdrHistogram's text format
  --svg FILE          plot of the percentile distribution
  --timeline-svg FILE plot of the longest latency of each interval
  --timeline-ms N     length of these intervals (100)
  --stall-us N        report silences of the server of at least N microseconds
  --quiet             no progress lines
  --help

Exit codes: 0 measured; 1 server failed or sent errors; 2 bad arguments;
3 the generator could not keep the schedule.
";

/// Most requests that may await replies in one thread. A server that falls
/// further behind ends the run with an error: memory stays bounded.
pub const OUTSTANDING_MAX: usize = 20_000_000;

#[derive(Clone, Debug)]
pub struct Options {
    pub host: String,
    pub port: u16,
    pub rate: f64,
    pub connections: usize,
    pub pipeline: usize,
    pub threads: usize,
    pub pin: Vec<usize>,
    pub spin: bool,
    pub warmup: Duration,
    pub duration: Duration,
    pub keys: u64,
    pub key_prefix: String,
    pub key_order: KeyOrder,
    pub key_start: u64,
    pub value_bytes: usize,
    pub set_ratio: f64,
    pub command: Option<String>,
    pub seed: u64,
    pub json: bool,
    pub hgrm: Option<String>,
    pub svg: Option<String>,
    pub timeline_svg: Option<String>,
    pub timeline: Duration,
    pub stall: Option<Duration>,
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            host: "127.0.0.1".to_string(),
            port: 6379,
            rate: 10_000.0,
            connections: 50,
            pipeline: 1,
            threads: 1,
            pin: Vec::new(),
            spin: false,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            keys: 1_000_000,
            key_prefix: "key:".to_string(),
            key_order: KeyOrder::Random,
            key_start: 0,
            value_bytes: 64,
            set_ratio: 0.1,
            command: None,
            seed: 1,
            json: false,
            hgrm: None,
            svg: None,
            timeline_svg: None,
            timeline: Duration::from_millis(100),
            stall: None,
            quiet: false,
        }
    }
}

#[derive(Debug)]
pub enum Parsed {
    Help,
    Run(Box<Options>),
}

/// Parses the command line; both `--name value` and `--name=value` are taken.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Parsed, Failure> {
    let mut options = Options::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_string(), Some(value.to_string())),
            _ => (arg, None),
        };
        if name == "--help" || name == "-h" {
            return Ok(Parsed::Help);
        }
        if options.set_flag(&name, inline.is_some())? {
            continue;
        }
        let value = inline.or_else(|| args.next()).ok_or_else(|| Failure::Usage(format!("{name} wants a value")))?;
        options.set(&name, &value)?;
    }
    options.check()?;
    Ok(Parsed::Run(Box::new(options)))
}

impl Options {
    /// Takes options without a value; false for all others.
    fn set_flag(&mut self, name: &str, has_value: bool) -> Result<bool, Failure> {
        let flag = match name {
            "--spin" => &mut self.spin,
            "--json" => &mut self.json,
            "--quiet" => &mut self.quiet,
            _ => return Ok(false),
        };
        if has_value {
            return Err(Failure::Usage(format!("{name} takes no value")));
        }
        *flag = true;
        Ok(true)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        match name {
            "--host" => self.host = value.to_string(),
            "--port" => self.port = number(name, value)?,
            "--rate" => self.rate = number(name, value)?,
            "--connections" => self.connections = number(name, value)?,
            "--pipeline" => self.pipeline = number(name, value)?,
            "--threads" => self.threads = number(name, value)?,
            "--pin" => self.pin = core_list(value)?,
            "--warmup" => self.warmup = seconds(name, value)?,
            "--duration" => self.duration = seconds(name, value)?,
            "--keys" => self.keys = number(name, value)?,
            "--key-prefix" => self.key_prefix = value.to_string(),
            "--key-order" => self.key_order = key_order(value)?,
            "--key-start" => self.key_start = number(name, value)?,
            "--value-size" => self.value_bytes = number(name, value)?,
            "--set-ratio" => self.set_ratio = number(name, value)?,
            "--command" => self.command = Some(value.to_string()),
            "--seed" => self.seed = number(name, value)?,
            "--hgrm" => self.hgrm = Some(value.to_string()),
            "--svg" => self.svg = Some(value.to_string()),
            "--timeline-svg" => self.timeline_svg = Some(value.to_string()),
            "--timeline-ms" => self.timeline = Duration::from_millis(number(name, value)?),
            "--stall-us" => self.stall = Some(Duration::from_micros(number(name, value)?)),
            _ => return Err(Failure::Usage(format!("unknown option {name}"))),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        let in_range = [
            ("--rate", self.rate > 0.0 && self.rate <= 1e9),
            ("--connections", (1..=60_000).contains(&self.connections)),
            ("--pipeline", (1..=100_000).contains(&self.pipeline)),
            ("--threads", (1..=self.connections).contains(&self.threads)),
            ("--duration", !self.duration.is_zero()),
            ("--keys", (1..=1_000_000_000_000).contains(&self.keys)),
            ("--key-start", self.key_start < 1_000_000_000_000),
            ("--value-size", self.value_bytes <= 512 * 1024 * 1024),
            ("--set-ratio", (0.0..=1.0).contains(&self.set_ratio)),
            ("--timeline-ms", !self.timeline.is_zero()),
        ];
        match in_range.iter().find(|(_, ok)| !ok) {
            Some((name, _)) => Err(Failure::Usage(format!("{name} is out of range"))),
            None => Ok(()),
        }
    }

    /// Warm-up and measured time together.
    pub fn run_time(&self) -> Duration {
        self.warmup + self.duration
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, Failure> {
    let bad = |_| Failure::Usage(format!("bad value for {name}: {value}"));
    value.parse().map_err(bad)
}

fn seconds(name: &str, value: &str) -> Result<Duration, Failure> {
    let bad = || Failure::Usage(format!("bad value for {name}: {value}"));
    let parsed: f64 = value.parse().map_err(|_| bad())?;
    // A day is far more than a run wants and keeps all sums in range.
    if parsed > 86_400.0 {
        return Err(bad());
    }
    Duration::try_from_secs_f64(parsed).map_err(|_| bad())
}

fn key_order(value: &str) -> Result<KeyOrder, Failure> {
    match value {
        "random" => Ok(KeyOrder::Random),
        "sequential" => Ok(KeyOrder::Sequential),
        _ => Err(Failure::Usage(format!("bad value for --key-order: {value}"))),
    }
}

/// `1`, `0,2` or `0,4-7`.
fn core_list(value: &str) -> Result<Vec<usize>, Failure> {
    let bad = || Failure::Usage(format!("bad value for --pin: {value}"));
    let mut cores = Vec::new();
    for part in value.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| bad())?;
        let last: usize = last.parse().map_err(|_| bad())?;
        if first > last || last > 4096 {
            return Err(bad());
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, Failure> {
        match parse(line.split_whitespace().map(str::to_string))? {
            Parsed::Run(options) => Ok(*options),
            Parsed::Help => panic!("help was not asked for"),
        }
    }

    #[test]
    fn both_spellings_are_taken() {
        let parsed = options("--rate 5 --port=7 --spin --pin 0,4-6").unwrap();
        assert_eq!((parsed.rate, parsed.port, parsed.spin), (5.0, 7, true));
        assert_eq!(parsed.pin, [0, 4, 5, 6]);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (line, named) in [
            ("--rate 0", "--rate"),
            ("--rate x", "--rate"),
            ("--rate NaN", "--rate"),
            ("--duration -1", "--duration"),
            ("--threads 3 --connections 2", "--threads"),
            ("--pin 3-1", "--pin"),
            ("--spin=1", "--spin"),
            ("--nope 1", "--nope"),
            ("--port", "--port"),
        ] {
            let failure = options(line).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            assert!(failure.to_string().contains(named), "{line}: {failure}");
        }
    }
}
