//! Scripts that run for longer than `busy-reply-threshold`.
//!
//! From then on every core refuses its clients' commands with -BUSY, except
//! those by which a script can be stopped. The core that runs the script has no
//! turns meanwhile: it looks after its sockets from within the script, now and
//! then. What it does there is little and safe: it takes in what has arrived,
//! and serves connections other than its own. As the gate is closed, no command
//! that reaches the keyspace gets through. Requests that other cores had sent
//! before they knew are answered with -BUSY as well, as is what waits behind
//! locks ([`super::refuse`]), and replies are taken; all other messages wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::host::Running;
use super::refuse::may_refuse;
use crate::command::Fault;
use crate::observe::log;
use crate::reactor::ring::Op;
use crate::resp::Reply;
use crate::script::host::Abort;
use crate::server::batch::Batch;
use crate::server::core::Core;
use crate::server::exec::owned;
use crate::server::msg::{Job, Msg};

/// A script that all know of.
pub struct Slow {
    pub function: bool,
    pub name: Vec<u8>,
    pub command: Vec<Vec<u8>>,
    pub started: Instant,
    pub wrote: AtomicBool,
    pub kill: AtomicBool,
}

/// How an attempt to stop scripts ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    Done,
    NothingRuns,
    HasWritten,
    /// Only the other kind runs.
    OtherKind,
}

pub(super) const BUSY_SCRIPT: Fault =
    Fault::Text("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
const BUSY_FUNCTION: Fault =
    Fault::Text("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.");

impl super::SharedScripts {
    fn all_slow(&self) -> Vec<Arc<Slow>> {
        self.slow.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The first of the slow scripts.
    pub fn first_slow(&self) -> Option<Arc<Slow>> {
        if self.slow_count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.all_slow().into_iter().next()
    }

    /// The error of commands that have to wait for a script.
    pub fn busy(&self) -> Option<Fault> {
        let slow = self.first_slow()?;
        Some(if slow.function { BUSY_FUNCTION } else { BUSY_SCRIPT })
    }

    /// Stops slow scripts, or functions, that have not written.
    pub fn kill(&self, function: bool) -> Kill {
        let all = self.all_slow();
        if all.is_empty() {
            return Kill::NothingRuns;
        }
        let mut result = Kill::OtherKind;
        for slow in all.iter().filter(|s| s.function == function) {
            if slow.wrote.load(Ordering::SeqCst) {
                if result != Kill::Done {
                    result = Kill::HasWritten;
                }
            } else {
                slow.kill.store(true, Ordering::SeqCst);
                result = Kill::Done;
            }
        }
        result
    }
}

impl Running<'_> {
    /// It runs for too long: others are looked after. Must it end?
    pub fn is_slow(&mut self) -> Option<Abort> {
        let slow = match &self.slow {
            Some(slow) => slow.clone(),
            None => self.tell_all(),
        };
        self.core.serve_urgent();
        if self.core.shared.stopping.load(Ordering::Relaxed) {
            return Some(Abort::Stopping);
        }
        slow.kill.load(Ordering::SeqCst).then_some(Abort::Killed)
    }

    fn tell_all(&mut self) -> Arc<Slow> {
        let slow = Arc::new(Slow {
            function: self.function,
            name: self.name.to_vec(),
            command: owned(self.command),
            started: self.started,
            wrote: AtomicBool::new(self.wrote),
            kill: AtomicBool::new(false),
        });
        self.slow = Some(slow.clone());
        self.core.scripts.dirty_before = self.core.dirty.len();
        let shared = self.core.shared.clone();
        shared.scripts.slow.lock().unwrap_or_else(|e| e.into_inner()).push(slow.clone());
        shared.scripts.slow_count.fetch_add(1, Ordering::SeqCst);
        let ms = self.started.elapsed().as_millis();
        let name = String::from_utf8_lossy(self.name).into_owned();
        log::warning(format_args!(
            "Slow script detected: still in execution after {ms} milliseconds. You can try killing the script using \
             the {} command. Script name is: {name}.",
            if self.function { "FUNCTION KILL" } else { "SCRIPT KILL" }
        ));
        self.core.update_gate();
        self.core.refuse_waiting();
        let me = self.core.id;
        for other in (0..shared.cores).filter(|c| *c != me) {
            // Not by way of the outbox, which is sent at the end of the turn. A
            // core whose queue is full finds out at its next tick.
            let _ = self.core.port.send(other, self.core.stamp, Msg::Call(Box::new(Core::hear_of_slow)));
            shared.mesh.rouse(other);
        }
        slow
    }

    /// It has ended: everybody goes on.
    pub fn finish(&mut self) {
        let Some(slow) = self.slow.take() else { return };
        let shared = self.core.shared.clone();
        shared.scripts.slow.lock().unwrap_or_else(|e| e.into_inner()).retain(|s| !Arc::ptr_eq(s, &slow));
        shared.scripts.slow_count.fetch_sub(1, Ordering::SeqCst);
        self.core.broadcast(Core::update_gate);
        self.core.update_gate();
    }
}

impl Core {
    /// Looks after sockets and messages while a script runs.
    fn serve_urgent(&mut self) {
        self.ring.enter(false);
        while let Some(c) = self.ring.take_completion() {
            let in_use = matches!(c.token.op, Op::Recv | Op::Send) && self.conns.get(c.token.index).is_none();
            if in_use {
                self.scripts.late.push(c);
            } else {
                self.complete(c);
            }
        }
        self.serve_urgent_arrivals();
        self.serve_urgent_ready();
        self.arm_ended();
        self.answer_busy();
        self.refuse_inbox();
        self.flush_urgent();
        self.ring.enter(false);
    }

    /// What has come for connections that are not in use.
    fn serve_urgent_arrivals(&mut self) {
        self.parse.forget_peeked();
        let rest = self.arrivals.split_off(self.arrivals_done);
        for a in rest {
            if self.conns.get(a.index).is_none() {
                self.arrivals.push(a);
                continue;
            }
            self.serve_arrival(&a, false);
            self.buffers.give_back([a.buffer].into_iter());
        }
    }

    fn serve_urgent_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            let Some(mut conn) = self.conns.take_at(index) else {
                self.ready.push_back(index);
                continue;
            };
            conn.listed_ready = false;
            self.serve_waiting(&mut conn);
            self.put_conn(conn);
        }
    }

    /// Sends replies. The clock has passed this turn's stamp long ago, and the
    /// stream does not pass it before this core has published its effects; so
    /// nothing that a client learns from them comes before them. Only where
    /// they have to be on disk first, those from before the script wait.
    fn flush_urgent(&mut self) {
        let held = self.holds_replies();
        if !held {
            self.flush_mesh();
        }
        let from = if held { self.scripts.dirty_before.min(self.dirty.len()) } else { 0 };
        for index in self.dirty.split_off(from) {
            match self.conns.take_at(index) {
                Some(mut conn) if conn.held.is_none() => {
                    conn.listed_dirty = false;
                    self.flush_one(&mut conn);
                    self.put_conn(conn);
                }
                Some(conn) => {
                    self.dirty.push(index);
                    self.put_conn(conn);
                }
                // It runs the script.
                None => self.dirty.push(index),
            }
        }
    }

    /// Requests of other cores are refused, and replies taken; what else they
    /// say waits.
    fn answer_busy(&mut self) {
        for m in self.mail.take_all(&self.port) {
            let m = m.message;
            match m {
                Msg::Requests(batch) => self.refuse_all(batch),
                Msg::Forward(p) if may_refuse(&p.head) => self.refuse_request(&p.head),
                Msg::Again(again) => {
                    self.refuse_again(&again);
                }
                Msg::Refused(tx) => self.tell_refused(&tx),
                Msg::Locked { ref tx, .. } | Msg::Done { ref tx, .. } => {
                    self.refuse_tx(&tx.clone());
                    self.selfq.push_back(m);
                }
                Msg::Replies(_) | Msg::Reply { .. } if !self.holds_replies() => self.handle(m),
                other => self.selfq.push_back(other),
            }
        }
    }

    /// Refuses the commands of a batch. Keys to be watched wait: a WATCH is
    /// refused on its connection's core, or not at all.
    fn refuse_all(&mut self, mut batch: Box<Batch>) {
        let fault = self.shared.scripts.busy().unwrap_or(BUSY_SCRIPT);
        let mut rest = Box::new(Batch::default());
        let Batch { requests, replies, .. } = &mut *batch;
        let (mut reader, mut args) = (requests.read(), Vec::new());
        while let Some(h) = reader.next(&mut args) {
            if let Job::Watch(_) = h.job {
                rest.requests.push(&h, args.iter().copied());
                replies.end(false);
                continue;
            }
            self.stats.count_error(fault.code());
            Reply::new(&mut replies.bytes, h.origin.proto).error(fault.text());
            replies.end(true);
        }
        let Some(from) = requests.sender() else { return };
        if !rest.requests.is_empty() {
            self.selfq.push_back(Msg::Requests(rest));
        }
        if let Err(back) = self.port.send(from, self.stamp, Msg::Replies(batch)) {
            self.send(from, back);
        }
        self.shared.mesh.rouse(from);
    }
}
