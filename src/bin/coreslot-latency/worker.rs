//! A thread: it sends what is due, then waits for replies until more is due.
//!
//! Group k of a thread is due at `offset + k * gap`, on the thread's connections
//! in turn. Nothing that the server does moves the schedule.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::Sender;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::args::{OUTSTANDING_MAX, Options};
use crate::connection::Connection;
use crate::measure::{Interval, Measured, histogram, nanos};
use crate::poller::{Poller, exact_timeouts};
use crate::request::{Keys, Template};

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;
/// How long replies are waited for once the schedule has ended.
const DRAIN_NS: u64 = 10_000_000_000;
/// A generator this late gives up: it would go on long after the run's end.
const LAG_NS_MAX: u64 = 5_000_000_000;
/// A sleep ends this long before the next request is due, and polling does the
/// rest: waking up takes tens of microseconds.
const WAKE_EARLY_NS: u64 = 100_000;
/// Overdue groups sent before replies are read again, so that a generator
/// that catches up goes on reading.
const GROUPS_PER_TURN: usize = 64;
const SECOND_NS: u64 = 1_000_000_000;

/// When groups are due.
struct Schedule {
    offset_ns: f64,
    gap_ns: f64,
    end_ns: u64,
    next: u64,
}

impl Schedule {
    /// The next due time; `None` once the schedule has ended.
    fn due(&self) -> Option<u64> {
        let due = (self.offset_ns + self.next as f64 * self.gap_ns) as u64;
        (due < self.end_ns).then_some(due)
    }
}

pub struct Worker {
    connections: Vec<Connection>,
    poller: Poller,
    template: Template,
    keys: Keys,
    schedule: Schedule,
    measured: Measured,
    pipeline: usize,
    core: Option<usize>,
    spin: bool,
    quiet: bool,
    buffer: Vec<u8>,
    /// Requests without a reply, over all connections.
    outstanding: usize,
    /// Since when the server has owed us something and sent nothing.
    silent_since_ns: u64,
    second: u64,
    interval: Histogram<u64>,
}

/// Opens all connections and divides them among the threads.
pub fn prepare(options: &Options, template: &Template) -> Result<Vec<Worker>, Failure> {
    let address = resolve(options)?;
    (0..options.threads).map(|thread| Worker::open(options, template, address, thread)).collect()
}

fn resolve(options: &Options) -> Result<SocketAddr, Failure> {
    (options.host.as_str(), options.port)
        .to_socket_addrs()
        .map_err(|error| Failure::run(format!("cannot resolve {}: {error}", options.host)))?
        .next()
        .ok_or_else(|| Failure::run(format!("{} has no address", options.host)))
}

impl Worker {
    fn open(options: &Options, template: &Template, address: SocketAddr, thread: usize) -> Result<Worker, Failure> {
        let first = options.connections * thread / options.threads;
        let last = options.connections * (thread + 1) / options.threads;
        let connections = (first..last).map(|_| Connection::open(address)).collect::<Result<Vec<_>, _>>()?;
        let poller = Poller::new()?;
        for (index, connection) in connections.iter().enumerate() {
            poller.add(connection.fd(), index)?;
        }
        Ok(Worker {
            schedule: schedule(options, connections.len(), thread),
            connections,
            poller,
            template: template.clone(),
            keys: Keys::new(options, thread),
            measured: Measured::new(options),
            pipeline: options.pipeline,
            core: (!options.pin.is_empty()).then(|| options.pin[thread % options.pin.len()]),
            spin: options.spin,
            quiet: options.quiet,
            buffer: vec![0; READ_BYTES],
            outstanding: 0,
            silent_since_ns: 0,
            second: 0,
            interval: histogram(),
        })
    }

    /// Runs the schedule from `start` to its end and the last reply.
    pub fn run(mut self, start: Instant, intervals: Sender<Interval>) -> Result<Measured, Failure> {
        self.pin()?;
        exact_timeouts();
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        loop {
            let now_ns = nanos(start.elapsed());
            self.roll_interval(now_ns, &intervals);
            self.send_due(start)?;
            let ended = self.schedule.due().is_none();
            if ended && (self.outstanding == 0 || now_ns > self.schedule.end_ns + DRAIN_NS) {
                break;
            }
            let timeout_ns = self.timeout(nanos(start.elapsed()));
            self.receive(start, timeout_ns)?;
        }
        Ok(self.finish(nanos(start.elapsed()), &intervals))
    }

    fn pin(&self) -> Result<(), Failure> {
        match self.core {
            Some(id) if !core_affinity::set_for_current(core_affinity::CoreId { id }) => {
                Err(Failure::Usage(format!("cannot pin a thread to core {id}")))
            }
            _ => Ok(()),
        }
    }

    fn send_due(&mut self, start: Instant) -> Result<(), Failure> {
        for _ in 0..GROUPS_PER_TURN {
            let now_ns = nanos(start.elapsed());
            let Some(due_ns) = self.schedule.due().filter(|due| *due <= now_ns) else {
                break;
            };
            self.send_group(due_ns, now_ns)?;
        }
        Ok(())
    }

    fn send_group(&mut self, due_ns: u64, now_ns: u64) -> Result<(), Failure> {
        if now_ns - due_ns > LAG_NS_MAX {
            return Err(Failure::Behind);
        }
        if self.outstanding == 0 {
            self.silent_since_ns = now_ns;
        }
        self.outstanding += self.pipeline;
        if self.outstanding > OUTSTANDING_MAX {
            return Err(Failure::run(format!("the server is {OUTSTANDING_MAX} requests behind; lower --rate")));
        }
        let index = (self.schedule.next % self.connections.len() as u64) as usize;
        self.schedule.next += 1;
        let connection = &mut self.connections[index];
        connection.add_group(due_ns, self.pipeline, |out| {
            for _ in 0..self.pipeline {
                self.template.append(&mut self.keys, out);
            }
        });
        connection.flush()?;
        self.measured.group_sent(due_ns, now_ns, self.pipeline);
        Ok(())
    }

    fn timeout(&self, now_ns: u64) -> u64 {
        let until_due = match self.schedule.due() {
            Some(due_ns) => due_ns.saturating_sub(now_ns),
            None => SECOND_NS,
        };
        if self.spin { 0 } else { until_due.saturating_sub(WAKE_EARLY_NS) }
    }

    fn receive(&mut self, start: Instant, timeout_ns: u64) -> Result<(), Failure> {
        let count = self.poller.wait(timeout_ns)?;
        for position in 0..count {
            let ready = self.poller.ready(position);
            self.connections[ready.index].writable()?;
            self.receive_from(ready.index, ready.ended, start)?;
        }
        Ok(())
    }

    /// Reads until the socket is empty: a short read says so, unless the end of
    /// the stream may stand behind it.
    fn receive_from(&mut self, index: usize, ended: bool, start: Instant) -> Result<(), Failure> {
        while let Some((bytes, replies)) = self.connections[index].receive(&mut self.buffer)? {
            if replies > 0 {
                self.answered(index, replies, nanos(start.elapsed()))?;
            }
            if bytes < self.buffer.len() && !ended {
                break;
            }
        }
        Ok(())
    }

    fn answered(&mut self, index: usize, replies: usize, now_ns: u64) -> Result<(), Failure> {
        let Worker { connections, measured, interval, quiet, .. } = self;
        connections[index].answered(replies, |due_ns, count| {
            measured.answered(due_ns, now_ns, count);
            if !*quiet {
                interval.saturating_record_n(now_ns.saturating_sub(due_ns), count as u64);
            }
        })?;
        self.measured.silence(self.silent_since_ns, now_ns);
        self.silent_since_ns = now_ns;
        self.outstanding -= replies;
        Ok(())
    }

    /// Hands over the interval's histogram at the turn of a second.
    fn roll_interval(&mut self, now_ns: u64, intervals: &Sender<Interval>) {
        let second = now_ns / SECOND_NS;
        if second > self.second && !self.quiet {
            self.hand_over(intervals);
            self.second = second;
        }
    }

    fn hand_over(&mut self, intervals: &Sender<Interval>) {
        // The receiver is gone only when the run is being abandoned.
        let _ = intervals
            .send(Interval { second: self.second, latency: std::mem::replace(&mut self.interval, histogram()) });
    }

    fn finish(mut self, now_ns: u64, intervals: &Sender<Interval>) -> Measured {
        if !self.interval.is_empty() {
            self.hand_over(intervals);
        }
        if self.outstanding > 0 {
            self.measured.silence(self.silent_since_ns, now_ns);
        }
        for connection in &mut self.connections {
            connection.abandon(|due_ns, count| self.measured.gave_up(due_ns, now_ns, count));
            self.measured.errors += connection.scanner.errors;
            let first = connection.scanner.first_error.take();
            self.measured.first_error = self.measured.first_error.take().or(first);
        }
        self.measured
    }
}

/// A thread's share of the rate is its share of the connections; the threads'
/// schedules are shifted against each other.
fn schedule(options: &Options, connections: usize, thread: usize) -> Schedule {
    let share = connections as f64 / options.connections as f64;
    let gap_ns = 1e9 * options.pipeline as f64 / (options.rate * share);
    Schedule {
        offset_ns: gap_ns * thread as f64 / options.threads as f64,
        gap_ns,
        end_ns: nanos(options.run_time()),
        next: 0,
    }
}
