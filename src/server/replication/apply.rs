//! What the primary sends, on its way into the keyspace.
//!
//! All batches that have come are handed to the applier together; while they
//! are being applied, the next gather. The node hears of it when all of them
//! are in place, and only then are their bytes passed on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::timer::sleep;

use super::super::service::applier::{Applier, ApplyError};
use crate::observe::log;
use crate::replication::event::Event;
use crate::replication::stream::{Batch, Place};
use crate::server::service::Service;

/// Time between two notes of the place in the append-only file, at least; what
/// comes after the last is lost to a crash, and sent again by the primary.
const NOTE: Duration = Duration::from_millis(10);

/// Time between two looks at whether a new file needs a note.
const LOOK: Duration = Duration::from_millis(100);

impl Service {
    pub(super) fn enqueue_batch(&self, batch: Batch) {
        self.repl.batch_bytes.set(self.repl.batch_bytes.get() + batch.bytes.len());
        self.repl.batches.borrow_mut().push_back(batch);
        self.repl.arrived.ring();
    }

    pub(super) async fn apply_batches(self: Rc<Self>) {
        let mut applier = Applier::new(&self);
        let mut noted_at = Instant::now();
        loop {
            self.wait_until_released().await;
            if noted_at.elapsed() >= NOTE && self.owes_note() {
                self.repl.held.applying.set(true);
                self.note_applied().await;
                self.repl.held.applying.set(false);
                self.repl.applied.ring();
                noted_at = Instant::now();
                continue;
            }
            let batches: Vec<Batch> = self.repl.batches.borrow_mut().drain(..).collect();
            let Some(end) = batches.last().map(|b| b.end) else {
                let look = if self.owes_note() { NOTE } else { LOOK };
                let on = self.aof.borrow().is_some();
                match on {
                    true => future::or(self.repl.arrived.wait(), sleep(look)).await,
                    false => self.repl.arrived.wait().await,
                }
                continue;
            };
            self.repl.held.applying.set(true);
            let mut bytes = 0;
            for batch in &batches {
                bytes += batch.bytes.len();
                apply(&mut applier, batch).await;
            }
            applier.settle().await;
            if let Some(error) = applier.take_error() {
                let error = String::from_utf8_lossy(&error);
                log::warning(format_args!(
                    "== CRITICAL == This replica is sending an error to its master: {error} (at offset {end} or before)"
                ));
            }
            self.repl.batch_bytes.set(self.repl.batch_bytes.get() - bytes);
            if let Some(name) = batches.iter().rev().find_map(last_name) {
                *self.repl.last_applied.borrow_mut() = String::from_utf8_lossy(name).to_ascii_lowercase();
            }
            self.replicate(Event::Applied { end });
            self.repl.held.applying.set(false);
            self.repl.applied.ring();
        }
    }
}

/// The name of the last command of a batch.
fn last_name(batch: &Batch) -> Option<&[u8]> {
    batch.args(batch.commands.last()?).next()
}

/// Hands a batch's commands to the applier, transactions marked.
async fn apply(applier: &mut Applier, batch: &Batch) {
    let mut open = None;
    let mut args = Vec::new();
    for c in &batch.commands {
        let transaction = match c.place {
            Place::Alone => None,
            Place::Transaction(n) => Some(n),
        };
        if transaction != open {
            if open.is_some() {
                take(applier, &[b"EXEC"]).await;
            }
            if transaction.is_some() {
                take(applier, &[b"MULTI"]).await;
            }
            open = transaction;
        }
        applier.set_db(c.db);
        args.clear();
        args.extend(batch.args(c));
        if !applier.take_at_once(&args) {
            take(applier, &args).await;
        }
    }
    if open.is_some() {
        take(applier, &[b"EXEC"]).await;
    }
}

/// What cannot be applied is passed over, as Redis does with errors of the
/// primary's commands; it is worth a warning, because the datasets may differ.
async fn take(applier: &mut Applier, args: &[&[u8]]) {
    if let Err(e) = applier.command(args).await {
        let (why, name) = match e {
            ApplyError::Unknown(name) => ("unknown", name),
            ApplyError::OutOfPlace(name) => ("out of place", name),
            ApplyError::Arity(name) => ("a wrong number of arguments", name),
        };
        let name = name.escape_ascii();
        log::warning(format_args!("== CRITICAL == A command of the primary cannot be applied: '{name}' ({why})"));
    }
}
