//! MIGRATE on the data cores.
//!
//! 1. A transaction locks the keys on all their cores (for readers only, with
//!    COPY); every part reports the payloads of its keys.
//! 2. The coordinator hands them to the service core, which sends them
//!    ([`super::service::migrating`]). Nobody waits for the target but those
//!    who want the same keys.
//! 3. Every part deletes those of its keys that the target has acknowledged;
//!    the stream tells of that as DEL.
//! 4. The client gets its reply, and the keys are unlocked.

use std::sync::Arc;

use super::core::Core;
use super::msg::{Msg, Origin};
use super::registry::{Outcome, registry};
use super::tx::{Cargo, Kind, Plan, Tx};
use crate::base::clock::UnixMs;
use crate::base::slot::Key;
use crate::command::Fault;
use crate::resp::reply::Proto;
use crate::resp::value;
use crate::session::conn::Conn;
use crate::transaction::locks::Mode;

/// What a client wants sent, and where.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub host: String,
    pub port: u16,
    /// The target's database.
    pub db: i64,
    /// Of every single step.
    pub timeout_ms: u64,
    pub copy: bool,
    pub replace: bool,
    /// Nothing, a password, or a user and a password.
    pub login: Vec<Vec<u8>>,
    pub keys: Vec<Vec<u8>>,
}

/// A key on its way.
pub struct Payload {
    /// Its place among the order's keys.
    pub place: usize,
    pub deadline_ms: Option<UnixMs>,
    /// As DUMP gives it.
    pub dump: Vec<u8>,
}

impl Core {
    /// Orders the transaction of a MIGRATE.
    pub fn begin_migration(&mut self, conn: &mut Conn, order: Order) -> Result<Outcome, Fault> {
        let origin = self.origin(conn);
        let mode = if order.copy { Mode::Shared } else { Mode::Exclusive };
        let keys = order.keys.clone();
        let ordered = self.submit_tx(origin, Kind::Migrate(order), |map, _| {
            let mut plan = Plan::default();
            for bytes in &keys {
                let key = Key::new(bytes);
                plan.key(map[key.slot() as usize] as usize, origin.db as usize, key.hash, bytes, mode);
            }
            plan
        });
        if !ordered {
            conn.replies.withdraw(origin.seq);
            return Err(Fault::Text("TRYAGAIN Too many transactions are waiting"));
        }
        Ok(Outcome::Later)
    }

    /// The payloads of this core's keys.
    pub fn pack(&mut self, tx: &Tx, order: &Order) -> Cargo {
        let Some(dump) = registry().by_name("dump") else { return Cargo::Nothing };
        let origin = Origin { proto: Proto::Resp2, ..tx.origin };
        let mut packed = Vec::new();
        self.begin_part(dump, 0);
        for (place, bytes) in order.keys.iter().enumerate() {
            let key = Key::new(bytes);
            if tx.map[key.slot() as usize] as usize != self.id {
                continue;
            }
            let mut reply = Vec::new();
            self.run_share(dump, &[b"DUMP", bytes], &origin, tx.now, (1, key.hash), &mut reply);
            let deadline_ms = self.store.get(origin.db as usize, &key).and_then(|e| e.deadline());
            if let Some(dump) = value::bulk(&reply) {
                packed.push(Payload { place, deadline_ms, dump: dump.to_vec() });
            }
        }
        self.end_part(dump, tx.id);
        Cargo::Payloads(packed)
    }

    /// All cores have packed their keys.
    pub fn send_away(&mut self, tx: &Arc<Tx>, cargo: Vec<(usize, Cargo)>) {
        let mut payloads: Vec<Payload> = Vec::new();
        for (_, c) in cargo {
            if let Cargo::Payloads(p) = c {
                payloads.extend(p);
            }
        }
        if payloads.is_empty() {
            return self.migrated(tx.clone(), Vec::new(), b"+NOKEY\r\n".to_vec());
        }
        payloads.sort_by_key(|p| p.place);
        let tx = tx.clone();
        self.tell_service(move |s| s.migrate(tx, payloads));
    }

    /// The target has spoken, or has not: `acked` are the places of the keys
    /// that it has taken.
    pub fn migrated(&mut self, tx: Arc<Tx>, acked: Vec<usize>, reply: Vec<u8>) {
        let acked = Arc::new(acked);
        for (at, part) in tx.parts.iter().enumerate() {
            let (tx, acked, reply) = (tx.clone(), acked.clone(), reply.clone());
            let leave = move |core: &mut Core| core.let_leave(tx, at, &acked, reply);
            self.send(part.core, Msg::Call(Box::new(leave)));
        }
    }

    /// Deletes the keys of this core that have left.
    fn let_leave(&mut self, tx: Arc<Tx>, part: usize, acked: &[usize], reply: Vec<u8>) {
        let Kind::Migrate(order) = &tx.kind else { return };
        let Some(del) = registry().by_name("del") else { return };
        let mine = |place: &&usize| tx.map[Key::new(&order.keys[**place]).slot() as usize] as usize == self.id;
        let gone: Vec<&[u8]> = acked.iter().filter(mine).map(|place| &order.keys[*place][..]).collect();
        if !gone.is_empty() && !order.copy {
            let args: Vec<&[u8]> = std::iter::once(&b"DEL"[..]).chain(gone).collect();
            let hash = Key::new(args[1]).hash;
            self.begin_part(del, 0);
            self.run_share(del, &args, &tx.origin, tx.now, (1, hash), &mut Vec::new());
            self.end_part(del, tx.id);
        }
        // Packing may have found something expired, and journaled it.
        let done = Msg::Done { tx: tx.clone(), part, reply, spent: 0, journaled: true };
        self.send(tx.coordinator, done);
    }

    /// All keys that have left are deleted: the client hears of it.
    pub fn end_migration(&mut self, tx: &Tx, reply: &[u8]) {
        if let Some(text) = reply.strip_prefix(b"-") {
            self.stats.count_error(text.split(|b| *b == b' ').next().unwrap_or(text));
            if let Some(entry) = registry().by_name("migrate") {
                self.stats.commands[entry.index].failed += 1;
            }
        }
        self.finish_conn(tx.origin.conn, tx.origin.seq, reply);
    }
}
