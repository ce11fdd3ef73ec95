//! `coreslot-latency`: an open-loop load generator for RESP servers.
//!
//! Requests are sent on a schedule fixed beforehand, whether or not earlier
//! replies have come, and a request's latency runs from the moment when it was
//! *due*, not from when it was written. So a server that stalls is charged for
//! every request that fell due during the stall; a closed loop would have sent
//! one request per connection and called the rest fast (coordinated omission).
//!
//! | file | holds |
//! | --- | --- |
//! | `args` | the options, their defaults and limits |
//! | `request` | the request template and its keys |
//! | `reply` | finding the ends of replies |
//! | `connection` | one socket: unsent bytes, groups awaiting replies |
//! | `poller` | epoll with nanosecond timeouts |
//! | `worker` | a thread: schedule, send, receive |
//! | `measure` | what a worker records |
//! | `report` | progress, result as text and JSON, `.hgrm` |
//! | `plot` | the SVG plots |
//!
//! Exit codes: 0 measured; 1 the server failed, refused or sent errors; 2 bad
//! arguments; 3 the generator could not keep its own schedule, so the figures
//! say nothing about the server.

mod args;
mod connection;
mod measure;
mod plot;
mod poller;
mod reply;
mod report;
mod request;
mod worker;

use std::fmt;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use args::{Options, Parsed};
use measure::Measured;
use report::Verdict;

/// Time between connecting and the first request, so that every thread is in
/// its loop when the schedule begins.
const START_DELAY: Duration = Duration::from_millis(100);

/// Why a run ended without a result.
#[derive(Debug)]
pub enum Failure {
    /// The server, the network or the operating system failed.
    Run(String),
    /// The arguments cannot be run.
    Usage(String),
    /// The generator is hopelessly behind its own schedule.
    Behind,
}

impl Failure {
    fn run(message: impl Into<String>) -> Failure {
        Failure::Run(message.into())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Run(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Behind => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Run(message) => f.write_str(message),
            Failure::Usage(message) => write!(f, "{message} (see --help)"),
            Failure::Behind => {
                f.write_str("the generator is seconds behind its schedule; lower --rate or add --threads")
            }
        }
    }
}

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Parsed::Help) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Ok(Parsed::Run(options)) => finish(run(&options)),
        Err(failure) => finish(Err(failure)),
    }
}

fn finish(outcome: Result<Verdict, Failure>) -> ExitCode {
    match outcome {
        Ok(Verdict::Measured) => ExitCode::SUCCESS,
        Ok(Verdict::ServerErrors) => ExitCode::from(1),
        Ok(Verdict::GeneratorBehind) => ExitCode::from(3),
        Err(failure) => {
            eprintln!("coreslot-latency: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Connects, runs every thread to the end of the schedule and reports.
fn run(options: &Options) -> Result<Verdict, Failure> {
    let template = request::Template::new(options)?;
    let workers = worker::prepare(options, &template)?;
    let start = Instant::now() + START_DELAY;
    let (intervals, received) = mpsc::channel();
    let measured = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let intervals = intervals.clone();
                scope.spawn(move || worker.run(start, intervals))
            })
            .collect();
        drop(intervals);
        report::progress(options, received);
        let mut total = Measured::new(options);
        for thread in threads {
            let part = thread.join().map_err(|_| Failure::run("a worker thread panicked"))??;
            total.merge(part);
        }
        Ok::<_, Failure>(total)
    })?;
    report::write_all(options, &measured)
}
