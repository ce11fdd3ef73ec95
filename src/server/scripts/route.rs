//! From a request with a script to where it runs.

use std::sync::Arc;

use super::{Again, Named, Reach, Wanted};
use crate::base::Args;
use crate::base::slot::Key;
use crate::command::keys::places;
use crate::server::commands::scripting::NO_DEBUGGER;
use crate::server::core::Core;
use crate::server::exec::{Who, owned};
use crate::server::msg::{Job, Msg, Origin};
use crate::server::registry::{Entry, registry};
use crate::server::serve::Flow;
use crate::server::tx::{Kind, Plan, Tx, whole};
use crate::session::conn::Conn;
use crate::transaction::locks::Mode;

/// Keys that a script may ask for beyond those that it names, until it gets
/// everything.
const WANTED_MAX: usize = 8;

impl Core {
    /// EVAL and its kin, from a connection of this core.
    pub fn route_script(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        if conn.replies.outstanding() > 0 {
            return Flow::Hold;
        }
        if conn.extra.as_mut().is_some_and(|x| std::mem::take(&mut x.debugs)) {
            return self.reject(conn, Some(entry), &NO_DEBUGGER);
        }
        let found = places(entry.spec, args).unwrap_or_default();
        let keys: Vec<Key> = found.iter().map(|p| Key::new(args[p.index])).collect();
        let owner_of = |k: &Key| self.map[k.slot() as usize] as usize;
        let Some(first) = keys.first() else {
            self.script_here(conn, entry, args);
            return self.flow_after(conn);
        };
        let owner = owner_of(first);
        // What a restricted user may do is known on the connection's core only.
        let comes_here = conn.restricted && owner != self.id;
        if comes_here || keys.iter().any(|k| owner_of(k) != owner) {
            let origin = self.origin(conn);
            let ordered = self.order_script(entry, args, origin, &Wanted::Keys(Vec::new()));
            return self.after_submit(conn, entry, origin, ordered);
        }
        let hint = (found[0].index, first.hash);
        if owner != self.id {
            if conn.endpoint
                && let Some(f) = self.redirect(conn, entry, args)
            {
                return self.reject(conn, Some(entry), &f);
            }
            // By itself: what runs before it is answered at once, and what comes
            // after it can be refused while it is slow.
            self.close_batch(owner);
            self.forward(conn, owner, Job::Command(entry.index), args, hint);
            self.close_batch(owner);
            conn.barrier = true;
            return Flow::Next;
        }
        if !self.locks.is_empty() {
            let need = self.need_of(entry, args, conn.db, hint);
            if self.locks.conflicts(&need) {
                conn.barrier = true;
                self.park_here(conn, entry, args, hint, need);
                return Flow::Next;
            }
        }
        self.script_here(conn, entry, args);
        self.flow_after(conn)
    }

    /// Runs a script of a connection of this core here and now.
    fn script_here(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) {
        self.start_clock();
        let start = self.clock();
        conn.commands += 1;
        conn.wrote = self.stamp;
        self.note_command(conn, entry);
        let origin = Origin {
            conn: conn.me,
            seq: 0,
            client: conn.id,
            db: conn.db as u32,
            proto: conn.proto,
            no_touch: conn.no_touch,
            tracked: conn.tracks,
        };
        let muted = conn.muted();
        let buffer = conn.replies.buffer();
        let mark = buffer.len();
        let mut out = std::mem::take(buffer);
        self.scripts.user = Some((conn.user.clone(), conn.restricted));
        let failed = self.run_script(entry, args, &origin, self.now, &mut out);
        self.scripts.user = None;
        let wanted = self.scripts.wanted.take();
        if muted || wanted.is_some() {
            out.truncate(mark);
        }
        *conn.replies.buffer() = out;
        let Some(wanted) = wanted else {
            conn.replies.commit(mark);
            self.account(entry, start, failed, args, Who::Here(conn));
            return self.serve_after();
        };
        let origin = self.origin(conn);
        conn.barrier = true;
        self.run_again(Again { origin, command: entry.index, args: owned(args), wanted });
    }

    /// A script that was run by message has to run again: its connection's
    /// core sees to it. Was it so?
    #[inline]
    pub fn script_goes_on(&mut self, origin: &Origin, command: usize, args: Args) -> bool {
        self.scripts.wanted.is_some() && self.send_script_home(origin, command, args)
    }

    #[cold]
    fn send_script_home(&mut self, origin: &Origin, command: usize, args: Args) -> bool {
        let Some(wanted) = self.scripts.wanted.take() else { return false };
        let again = Again { origin: *origin, command, args: owned(args), wanted };
        let home = origin.conn.core as usize;
        self.send(home, Msg::Again(Box::new(again)));
        true
    }

    /// Orders a script with what it wants; in a later turn if need be.
    pub fn run_again(&mut self, again: Again) {
        if self.scripts.busy {
            // Nothing of it has been done: refused, but not while its
            // connection may be in use.
            return self.scripts.waiting.push(again);
        }
        let entry = &registry().entries[again.command];
        let args: Vec<&[u8]> = again.args.iter().map(|a| &a[..]).collect();
        if !self.order_script(entry, &args, again.origin, &again.wanted) {
            self.scripts.waiting.push(again);
        }
    }

    /// Tries those again that could not be ordered.
    pub fn order_waiting_scripts(&mut self) {
        for again in std::mem::take(&mut self.scripts.waiting) {
            if !self.refuse_again(&again) {
                self.run_again(again);
            }
        }
    }

    /// Orders a script as a transaction over its keys and those that it wants;
    /// false when it must be tried again later.
    pub fn order_script(&mut self, entry: &'static Entry, args: Args, origin: Origin, wanted: &Wanted) -> bool {
        let db = origin.db as usize;
        let mut keys: Vec<Named> = Vec::new();
        for p in places(entry.spec, args).unwrap_or_default() {
            keys.push((db, args[p.index].to_vec()));
        }
        let everything = match wanted {
            Wanted::Keys(more) => {
                keys.extend(more.iter().cloned());
                more.len() > WANTED_MAX || keys.is_empty()
            }
            Wanted::Everything => true,
        };
        let more = match wanted {
            Wanted::Keys(more) => more.clone(),
            Wanted::Everything => Vec::new(),
        };
        let kind = Kind::Script { command: entry.index, args: owned(args), more };
        let cores = self.shared.cores;
        self.submit_tx(origin, kind, |map, _| {
            let mut plan = Plan::default();
            if everything {
                (0..cores).for_each(|c| plan.part(c).need = whole(Mode::Exclusive));
                return plan;
            }
            for (db, bytes) in &keys {
                let key = Key::new(bytes);
                let core = map[key.slot() as usize] as usize;
                plan.key(core, *db, key.hash, bytes, Mode::Exclusive);
            }
            plan
        })
    }

    /// Runs a script on what was gathered for it.
    pub fn run_gather_script(&mut self, tx: &Tx, command: usize, args: &[Vec<u8>], more: &[Named]) {
        let entry = &registry().entries[command];
        let args: Vec<&[u8]> = args.iter().map(|a| &a[..]).collect();
        let wide = tx.parts.iter().any(|p| p.need.wide.is_some());
        self.scripts.reach = Some(if wide {
            Reach::Everything
        } else {
            let of = |p: &crate::server::tx::Part| p.keys.iter().map(|k| (k.0 as u32, k.1)).collect::<Vec<_>>();
            Reach::Keys(Arc::new(tx.parts.iter().flat_map(of).collect()))
        });
        let mut out = Vec::new();
        self.run_command(entry, &args, &tx.origin, tx.now, (0, 0), &mut out);
        match self.scripts.wanted.take() {
            Some(wanted) => {
                let wanted = match wanted {
                    Wanted::Keys(keys) => Wanted::Keys(more.iter().cloned().chain(keys).collect()),
                    Wanted::Everything => Wanted::Everything,
                };
                let again = Again { origin: tx.origin, command, args: crate::server::exec::owned(&args), wanted };
                self.run_again(again);
            }
            None => self.finish_conn(tx.origin.conn, tx.origin.seq, &out),
        }
    }
}
