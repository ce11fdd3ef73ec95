//! Commands that are applied as they come, not served: from the append-only
//! file, and from a primary. This is the data cores' side; the service core's
//! is [`super::service::applier`].
//!
//! Commands come in batches. A batch is a transaction over all cores that it
//! concerns, and they are locked whole while it runs: whoever reads sees all of
//! it or nothing, so every visible state is a prefix of what was sent. A batch
//! has one share per core; commands that need the data of several cores in one
//! place come alone, or with the transaction that they belong to.
//!
//! Nothing expires by itself while it is applied (the deletion comes with the
//! stream), no limit of memory holds, and no connection is involved.

use std::sync::{Arc, Mutex, PoisonError};

use super::batch::Requests;
use super::core::Core;
use super::msg::{Job, Msg, Origin};
use super::registry::{Action, Entry, Route, registry};
use super::tx::{Kind, Plan, Tx, whole};
use crate::base::Args;
use crate::base::slot::{Key, slot_of_hash};
use crate::command::Fault;
use crate::command::keys::{places, undeclared};
use crate::command::spec::flag;
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ConnRef};
use crate::transaction::locks::Mode;

/// Commands whose keys are prefetched together.
const PREFETCHED: usize = 32;

/// The shares of one batch, by core.
pub struct Shares {
    /// The slot map by which they were made.
    pub map: Arc<Vec<u16>>,
    pub by_core: Vec<(usize, Box<Requests>)>,
}

/// A command with its database and arguments.
pub struct Applied {
    pub db: u32,
    pub command: usize,
    pub args: Vec<Vec<u8>>,
}

/// What a batch's transaction holds.
pub struct Apply {
    pub ticket: u64,
    pub work: Work,
}

/// See [`Apply`].
pub enum Work {
    /// Every part takes its share.
    Shares(Vec<Mutex<Option<Box<Requests>>>>),
    /// The coordinator runs these on gathered entries.
    Together(Vec<Applied>),
}

/// Who sent it: nobody's connection.
pub fn origin(core: usize, db: u32) -> Origin {
    let conn = ConnRef { core: core as u32, index: u32::MAX, generation: u32::MAX };
    Origin { conn, seq: 0, client: 0, db, proto: Proto::Resp2, no_touch: false, tracked: false }
}

/// Keys do not expire while a command is applied: to them it is the beginning
/// of time. Only what counts from now needs to know when that is.
fn time_for(entry: &Entry, args: Args, now: u64) -> u64 {
    let has = |words: [&[u8]; 2]| args.iter().skip(2).any(|a| words.iter().any(|w| a.eq_ignore_ascii_case(w)));
    let relative = match entry.spec.name {
        "expire" | "pexpire" | "setex" | "psetex" => true,
        "set" => args.len() > 4 && has([b"ex", b"px"]),
        "getex" => has([b"ex", b"px"]),
        "restore" => !has([b"absttl", b"absttl"]),
        _ => false,
    };
    if relative { now } else { 0 }
}

impl Core {
    /// Orders a batch. It is tried again later when too many transactions wait.
    pub fn apply_shares(&mut self, ticket: u64, shares: Shares) {
        let here = origin(self.id, 0);
        let mut left = Some(shares);
        let kind = Kind::Apply(Apply { ticket, work: Work::Shares(Vec::new()) });
        let taken = &mut left;
        let ordered = self.submit_tx(here, kind, |map, kind| {
            let mut plan = Plan::default();
            let Some(shares) = taken.take() else { return plan };
            let by_core = if Arc::ptr_eq(map, &shares.map) { shares.by_core } else { rerouted(shares.by_core, map) };
            let mut work = Vec::new();
            for (core, batch) in by_core {
                plan.part(core).need = whole(Mode::Exclusive);
                work.push(Mutex::new(Some(batch)));
            }
            if let Kind::Apply(a) = kind {
                a.work = Work::Shares(work);
            }
            plan
        });
        if let (false, Some(shares)) = (ordered, left) {
            self.tell_service(move |s| s.call(0, move |core| core.apply_shares(ticket, shares)));
        }
    }

    /// Orders commands that need data of several cores in one place.
    pub fn apply_together(&mut self, ticket: u64, commands: Vec<Applied>) {
        let here = origin(self.id, 0);
        let mut left = Some(commands);
        let taken = &mut left;
        let (databases, cores) = (self.store.databases(), self.shared.cores);
        let kind = Kind::Apply(Apply { ticket, work: Work::Shares(Vec::new()) });
        let ordered = self.submit_tx(here, kind, |map, kind| {
            let mut plan = Plan::default();
            let Some(commands) = taken.take() else { return plan };
            plan_together(&mut plan, &commands, map, databases, cores);
            if let Kind::Apply(a) = kind {
                a.work = Work::Together(commands);
            }
            plan
        });
        if let (false, Some(commands)) = (ordered, left) {
            self.tell_service(move |s| s.call(0, move |core| core.apply_together(ticket, commands)));
        }
    }

    /// Runs a command that is not over keys (PUBLISH, FUNCTION LOAD ...).
    pub fn apply_beside(&mut self, ticket: u64, command: Applied) {
        let entry = &registry().entries[command.command];
        let args: Vec<&[u8]> = command.args.iter().map(|a| &a[..]).collect();
        let mut conn = Conn::new(-1, origin(self.id, 0).conn, 0, self.now);
        conn.db = command.db as usize;
        let mut error = Vec::new();
        let result = match entry.action {
            Action::Conn(_) if !in_streams(entry) => Err(Fault::Text("ERR no command of a stream")),
            Action::Conn(run) => run(self, &mut conn, &args).map(drop),
            _ => Ok(()),
        };
        if let Err(f) = result {
            note_error(&mut error, &[b"-", f.text()].concat(), entry.spec.name);
        }
        self.tell_service(move |s| s.applied(ticket, error));
    }

    /// Runs this core's share; the first error is its report.
    pub fn run_applied(&mut self, tx: &Arc<Tx>, at: usize, a: &Apply) -> Msg {
        let mut reply = Vec::new();
        let Work::Shares(shares) = &a.work else { unreachable!("parts have shares") };
        let share = shares[at].lock().unwrap_or_else(PoisonError::into_inner).take();
        self.journal.begin_part();
        if let Some(batch) = share {
            self.run_share_of_batch(&batch, at, &mut reply);
        }
        let journaled = self.journal.end_part(tx.id, false);
        Msg::Done { tx: tx.clone(), part: at, reply, spent: 0, journaled }
    }

    fn run_share_of_batch(&mut self, share: &Requests, at: usize, error: &mut Vec<u8>) {
        let (mut reader, mut args) = (share.read(), Vec::new());
        let mut out = Vec::new();
        self.start_clock();
        for first in (0..share.len()).step_by(PREFETCHED) {
            let end = (first + PREFETCHED).min(share.len());
            self.prefetch_requests(share, first..end);
            for _ in first..end {
                let Some(h) = reader.next(&mut args) else { break };
                let Job::Command(index) = h.job else { continue };
                let entry = &registry().entries[index];
                self.echo = at > 0 && matches!(entry.route, Route::Whole(_));
                self.apply_one(entry, &args, &h.origin, (h.key_at as usize, h.hash), &mut out);
                note_error(error, &out, entry.spec.name);
                out.clear();
            }
        }
        self.echo = false;
        self.settle_clock();
    }

    fn apply_one(&mut self, entry: &Entry, args: Args, origin: &Origin, hint: (usize, u64), out: &mut Vec<u8>) {
        let now = time_for(entry, args, self.now);
        self.run_command(entry, args, origin, now, hint, out);
        if self.monitors.any() && !self.echo {
            self.show_applied(origin.db as usize, entry, args);
        }
    }

    /// Runs what came together, on gathered entries; the first error.
    pub fn run_applied_together(&mut self, tx: &Tx, a: &Apply) {
        let Work::Together(commands) = &a.work else { unreachable!("only what came together is gathered") };
        let (mut out, mut error) = (Vec::new(), Vec::new());
        self.journal.begin_unit();
        for c in commands {
            let args: Vec<&[u8]> = c.args.iter().map(|a| &a[..]).collect();
            let origin = Origin { db: c.db, ..tx.origin };
            self.start_clock();
            let entry = &registry().entries[c.command];
            self.apply_one(entry, &args, &origin, (0, 0), &mut out);
            note_error(&mut error, &out, entry.spec.name);
            out.clear();
        }
        self.journal.end_unit();
        let ticket = a.ticket;
        self.tell_service(move |s| s.applied(ticket, error));
    }
}

/// Has a command that is not over keys a place in a stream? What takes the
/// connection over (SYNC, SUBSCRIBE), or is between a client and its server alone,
/// has none: there is no connection.
fn in_streams(entry: &Entry) -> bool {
    let spec = entry.spec;
    spec.is(flag::WRITE) || !spec.is(flag::NOSCRIPT) || spec.name.starts_with("script|")
}

/// Keeps the first error of a batch, as a line for the log: its text and the
/// command's name.
fn note_error(kept: &mut Vec<u8>, reply: &[u8], command: &str) {
    if let (true, Some(text)) = (kept.is_empty(), reply.strip_prefix(b"-")) {
        kept.push(b'\'');
        kept.extend_from_slice(text.trim_ascii_end());
        kept.extend_from_slice(b"' after processing the command '");
        kept.extend_from_slice(command.as_bytes());
        kept.push(b'\'');
    }
}

/// The slots have moved since the shares were made.
fn rerouted(by_core: Vec<(usize, Box<Requests>)>, map: &[u16]) -> Vec<(usize, Box<Requests>)> {
    let mut fresh: Vec<(usize, Box<Requests>)> = Vec::new();
    for (core, share) in by_core {
        let (mut reader, mut args) = (share.read(), Vec::new());
        while let Some(h) = reader.next(&mut args) {
            // What is over no key stays where it is: it is in every share.
            let to = if h.key_at == 0 { core } else { map[slot_of_hash(h.hash) as usize] as usize };
            let place = match fresh.iter().position(|(c, _)| *c == to) {
                Some(i) => i,
                None => {
                    fresh.push((to, Box::default()));
                    fresh.len() - 1
                }
            };
            fresh[place].1.push(&h, args.iter().copied());
        }
    }
    fresh
}

fn plan_together(plan: &mut Plan, commands: &[Applied], map: &[u16], databases: usize, cores: usize) {
    for c in commands {
        let entry = &registry().entries[c.command];
        let args: Vec<&[u8]> = c.args.iter().map(|a| &a[..]).collect();
        let found = match entry.route {
            Route::Key(_) | Route::Keys => places(entry.spec, &args).unwrap_or_default(),
            _ => Default::default(),
        };
        if found.is_empty() || undeclared(entry.spec, &args) {
            (0..cores).for_each(|c| plan.part(c).need = whole(Mode::Exclusive));
        }
        let elsewhere = matches!(entry.spec.name, "copy" | "move");
        for p in &found {
            let key = Key::new(args[p.index]);
            let core = map[key.slot() as usize] as usize;
            let dbs = if elsewhere { 0..databases } else { c.db as usize..c.db as usize + 1 };
            for db in dbs {
                plan.key(core, db, key.hash, key.bytes, Mode::Exclusive);
            }
        }
    }
}
