//! MULTI, EXEC and WATCH on the connection's side.

use super::core::Core;
use super::exec::{Who, owned};
use super::msg::{Head, Job, Msg, Parked};
use super::registry::{Action, Entry, Outcome, Route, registry};
use super::role::SHOWN;
use super::serve::Flow;
use super::tx::{Kind, Plan, whole};
use crate::base::Args;
use crate::base::num::parse_u64;
use crate::base::slot::Key;
use crate::command::Fault;
use crate::command::keys::{places, undeclared};
use crate::session::conn::{Conn, Multi, Queued, Watched};
use crate::transaction::locks::{Mode, Need};

/// Bytes of one connection's queued commands at most.
const QUEUE_BYTES_MAX: usize = 1 << 30;

/// What EXEC needs: keys by database, and whether it needs everything.
#[derive(Default)]
struct Footprint {
    keys: Vec<(usize, u64, Vec<u8>, Mode)>,
    whole: bool,
}

impl Core {
    /// Takes a command into the transaction.
    pub fn queue(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        conn.last_command = Some(entry.index);
        let bytes: usize = args.iter().map(|a| a.len() + 32).sum();
        let Some(multi) = conn.extra().multi.as_mut() else { return Flow::Next };
        if multi.bytes + bytes > QUEUE_BYTES_MAX {
            return self.reject(conn, Some(entry), &Fault::Text("ERR transaction too large"));
        }
        multi.bytes += bytes;
        multi.queue.push(Queued { command: entry.index, args: owned(args) });
        conn.reply(|r| r.simple("QUEUED"));
        Flow::Next
    }

    /// Ends the transaction without running it, watches included.
    pub fn discard_multi(&mut self, conn: &mut Conn) {
        if let Some(x) = conn.extra.as_mut() {
            x.multi = None;
        }
        conn.update_special();
        self.forget_watches(conn);
    }

    /// Forgets what the connection watches, on all cores.
    pub fn forget_watches(&mut self, conn: &mut Conn) {
        let Some(x) = conn.extra.as_mut() else { return };
        x.watched.clear();
        if let Some(token) = x.watch_token.take() {
            self.forget_watch(token);
            let me = self.id;
            for c in (0..self.shared.cores).filter(|c| *c != me) {
                self.send(c, Msg::Call(Box::new(move |core: &mut Core| core.forget_watch(token))));
            }
        }
    }

    /// WATCH: registers every key with its owner.
    pub fn watch(&mut self, conn: &mut Conn, keys: Args) {
        let db = conn.db;
        let shared = self.shared.clone();
        for key in keys {
            let hash = Key::new(key).hash;
            let x = conn.extra();
            if x.watched.iter().any(|w| w.db == db && w.key == *key) {
                continue;
            }
            let token = *x.watch_token.get_or_insert_with(|| shared.next_watch());
            x.watched.push(Watched { db, hash, key: key.to_vec() });
            self.send_watch(conn, key, hash, Job::Watch(token));
        }
        if conn.replies.outstanding() > 0 {
            conn.barrier = true;
        }
    }

    fn send_watch(&mut self, conn: &mut Conn, key: &[u8], hash: u64, job: Job) {
        let mut origin = self.origin(conn);
        conn.replies.withdraw(origin.seq);
        origin.seq = conn.replies.expect(true);
        let head = Head { origin, job, argc: 1, hash, key_at: 0 };
        let owner = self.map[Key { bytes: key, hash }.slot() as usize] as usize;
        if owner == self.id {
            // By way of the own queue, because the connection is in use now.
            let parked = Parked::new(head, vec![key.to_vec()], self.now);
            self.send(owner, Msg::Forward(Box::new(parked)));
        } else {
            self.push_request(owner, head, &[key]);
        }
    }

    /// EXEC.
    pub fn exec(&mut self, conn: &mut Conn) -> Result<Outcome, Fault> {
        let Some(multi) = conn.extra.as_ref().and_then(|x| x.multi.as_ref()) else {
            return Err(Fault::Text("ERR EXEC without MULTI"));
        };
        if multi.broken {
            self.discard_multi(conn);
            self.show_exec(conn);
            return Err(Fault::Text("EXECABORT Transaction discarded because of previous errors."));
        }
        let foot = footprint(conn, multi, self.store.databases());
        if self.exec_is_local(&foot) {
            let token = conn.extra.as_ref().and_then(|x| x.watch_token);
            let valid = token.is_none_or(|t| self.watches.vote(t, |db, h, k| self.gone(db, h, k, self.now)));
            if valid {
                self.exec_queue(conn, self.now);
            } else {
                self.discard_multi(conn);
                self.show_exec(conn);
                conn.reply(|r| r.null_array());
            }
            return Ok(Outcome::Done);
        }
        self.exec_across(conn, foot)
    }

    /// Do all keys lie here, with nothing in their way?
    fn exec_is_local(&self, foot: &Footprint) -> bool {
        if foot.whole && self.shared.cores > 1 {
            return false;
        }
        let here = foot.keys.iter().all(|(_, h, _, _)| self.owns(crate::base::slot::slot_of_hash(*h)));
        if !here || self.locks.is_empty() {
            return here;
        }
        let mut need = Need::default();
        if foot.whole {
            need = whole(Mode::Exclusive);
        }
        need.keys.extend(foot.keys.iter().map(|(db, h, _, _)| ((*db as u32, *h), Mode::Exclusive)));
        !self.locks.conflicts(&need)
    }

    fn exec_across(&mut self, conn: &mut Conn, foot: Footprint) -> Result<Outcome, Fault> {
        let token = conn.extra.as_ref().and_then(|x| x.watch_token);
        let origin = self.origin(conn);
        let cores = self.shared.cores;
        let ordered = self.submit_tx(origin, Kind::Exec, |map, _| {
            let mut plan = Plan::default();
            if foot.whole {
                (0..cores).for_each(|c| plan.part(c).need = whole(Mode::Exclusive));
            }
            for (db, hash, key, mode) in &foot.keys {
                let core = map[crate::base::slot::slot_of_hash(*hash) as usize] as usize;
                if !foot.whole {
                    plan.key(core, *db, *hash, key, *mode);
                }
                plan.part(core).watch = token;
            }
            plan
        });
        if !ordered {
            conn.replies.withdraw(origin.seq);
            return Err(Fault::Text("TRYAGAIN Too many transactions are waiting"));
        }
        Ok(Outcome::Later)
    }

    /// Runs the queued commands on whatever keyspace is in place.
    pub fn exec_queue(&mut self, conn: &mut Conn, now: u64) {
        let queue = match conn.extra.as_mut().and_then(|x| x.multi.take()) {
            Some(m) => m.queue,
            None => Vec::new(),
        };
        conn.update_special();
        self.forget_watches(conn);
        conn.reply(|r| r.array(queue.len()));
        let outer = std::mem::replace(&mut self.now, now);
        self.in_unit = true;
        self.journal.begin_unit();
        self.in_exec = true;
        self.scripts.user = Some((conn.user.clone(), conn.restricted));
        for q in &queue {
            let entry = &registry().entries[q.command];
            let args: Vec<&[u8]> = q.args.iter().map(|a| &a[..]).collect();
            let (shown, first) = (self.gate & SHOWN != 0, entry.route == Route::Script);
            if shown && first {
                self.show_command(conn, entry, &args);
            }
            self.exec_one(conn, entry, &args);
            if shown && !first {
                self.show_command(conn, entry, &args);
            }
        }
        self.show_exec(conn);
        self.in_exec = false;
        if conn.tracking().is_some_and(|t| t.caching) {
            self.end_caching(conn);
        }
        self.scripts.user = None;
        self.journal.end_unit();
        self.in_unit = false;
        self.now = outer;
        if self.blocking.has_ready() {
            // What ran may have taken time: to those who waited, a key that has
            // expired meanwhile is gone.
            self.now = outer.max(crate::base::clock::now_ms());
            self.serve_ready();
            self.now = outer;
        }
    }

    /// Monitors see EXEC after the commands that it ran.
    pub fn show_exec(&mut self, conn: &Conn) {
        if self.gate & SHOWN != 0
            && let Some(entry) = registry().by_name("exec")
        {
            let word = conn.extra.as_ref().map(|x| &x.exec_word[..]).filter(|word| !word.is_empty());
            self.show_command(conn, entry, &[word.unwrap_or(b"EXEC")]);
        }
    }

    /// Monitors are to see the word as it came.
    pub fn spell_exec(&self, conn: &mut Conn, word: &[u8]) {
        if self.gate & SHOWN != 0 {
            conn.extra().exec_word = word.to_vec();
        }
    }

    fn exec_one(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) {
        self.start_clock();
        if conn.restricted
            && let Some(f) = self.forbidden_in_exec(conn, entry, args)
        {
            self.stats.commands[entry.index].rejected += 1;
            self.stats.count_error(f.code());
            return conn.error(f.text());
        }
        match entry.action {
            Action::Keys(_) | Action::Script(_) => {
                self.execute_here(conn, entry, args, (0, 0));
            }
            Action::Conn(run) => {
                let start = self.clock();
                let result = run(self, conn, args);
                let failed = result.is_err();
                match result {
                    Ok(Outcome::Done) => {}
                    Ok(Outcome::Later) => {
                        conn.barrier = true;
                        self.account_later(conn, entry, start, args);
                        return;
                    }
                    Err(f) => {
                        self.stats.count_error(f.code());
                        conn.error(f.text());
                    }
                }
                self.account(entry, start, failed, args, Who::Here(conn));
            }
            Action::Container => conn.error(Fault::arity(entry.spec.name).text()),
        }
    }
}

/// Keys of all queued commands and of the watch, by database (SELECT counts).
fn footprint(conn: &Conn, multi: &Multi, databases: usize) -> Footprint {
    let mut f = Footprint::default();
    let mut db = conn.db;
    for q in &multi.queue {
        let entry = &registry().entries[q.command];
        let args: Vec<&[u8]> = q.args.iter().map(|a| &a[..]).collect();
        if entry.spec.name == "select" {
            // One that will fail selects nothing.
            let chosen = args.get(1).and_then(|a| parse_u64(a)).filter(|n| *n < databases as u64);
            db = chosen.map_or(db, |n| n as usize);
        }
        match entry.route {
            Route::Whole(_) | Route::Cursor | Route::Anywhere | Route::Script => f.whole = true,
            Route::Key(_) | Route::Keys => {
                for p in places(entry.spec, &args).unwrap_or_default() {
                    f.keys.push((db, Key::new(args[p.index]).hash, args[p.index].to_vec(), Mode::Exclusive));
                }
                // These reach into a database that only the handler knows.
                f.whole |= matches!(entry.spec.name, "copy" | "move") || undeclared(entry.spec, &args);
            }
            Route::Conn | Route::ConnLight => {}
        }
    }
    if let Some(x) = &conn.extra {
        f.keys.extend(x.watched.iter().map(|w| (w.db, w.hash, w.key.clone(), Mode::Shared)));
    }
    f
}
