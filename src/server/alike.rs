//! Runs of like commands: most pipelines repeat one command.
//!
//! What stays the same from one command to the next is set up once per run: whose
//! it is, the handler's context, where the replies go. A run ends where something
//! else has to happen between two commands, or where the next is no plain command
//! of this core; that one takes the way through [`Core::dispatch`], which says
//! what is to be done with it.

use super::core::Core;
use super::exec::{RUN_MAX, SMALL, Who};
use super::msg::Origin;
use super::registry::{Action, Entry, Route};
use super::serve::{Flow, Request};
use crate::base::Args;
use crate::base::slot::slot_of_hash;
use crate::command::cx::Cx;
use crate::command::{Command, Done};
use crate::observe::ticks;
use crate::resp::Reply;
use crate::session::conn::Conn;

/// What became of a run.
#[derive(Default)]
struct Ran {
    n: usize,
    /// Those that have not been accounted yet, and how many of them failed.
    open: u64,
    failed: u64,
    /// The last one failed.
    last_failed: bool,
    /// The last one had much to take or to say.
    large: bool,
}

impl Core {
    /// Runs requests from the first on, as many as are plain and alike; how many,
    /// and what to do after them.
    #[inline]
    pub fn run_alike(&mut self, conn: &mut Conn, requests: &[Request], args: Args) -> (usize, Flow) {
        let Some(first) = requests.first() else { return (0, Flow::Next) };
        let Some((entry, command, k)) = self.plain(conn, first) else { return (0, Flow::Next) };
        self.before_command(entry);
        let shared = self.shares_clock(entry);
        let most = if shared { (RUN_MAX - self.lent) as usize } else { requests.len() };
        let mut out = std::mem::take(&mut conn.replies.out);
        let size = out.capacity();
        let origin = Origin::of(conn, 0);
        let requests = &requests[..most.min(requests.len())];
        let ran = self.run_some(command, (entry, k, shared), requests, args, &origin, &mut out);
        conn.replies.out = out;
        if ran.n == 0 {
            return (0, Flow::Next);
        }
        let last = args_of(&requests[ran.n - 1], args);
        let changed = self.fx.changed();
        if changed {
            conn.wrote = self.stamp;
            self.apply_effect(entry, last, &origin);
        }
        conn.commands += ran.n as u64;
        conn.last_command = Some(entry.index);
        let flow = self.account_run(conn, (entry, shared), &ran, last, size);
        if changed {
            self.serve_after();
        }
        (ran.n, flow)
    }

    /// The command, its handler and its key's place, if nothing but the handler is
    /// needed to run it here and now.
    #[inline]
    fn plain(&self, conn: &Conn, r: &Request) -> Option<(&'static Entry, &'static Command, usize)> {
        let entry = r.entry?;
        let Route::Key(k) = entry.route else { return None };
        let Action::Keys(command) = entry.action else { return None };
        let argc = r.argc as usize;
        let here = entry.spec.arity_fits(argc) && k < argc && self.gate & entry.gates == 0 && self.locks.is_empty();
        let simple = !conn.special && !conn.hears && !conn.tracks && conn.replies.outstanding() == 0;
        (here && simple).then_some((entry, command, k))
    }

    /// The innermost loop: handlers and error replies, until an effect has readers.
    #[inline]
    fn run_some(
        &mut self,
        command: &Command,
        (entry, k, shared): (&'static Entry, usize, bool),
        requests: &[Request],
        args: Args,
        origin: &Origin,
        out: &mut Vec<u8>,
    ) -> Ran {
        debug_assert!(self.gathering.is_none(), "nobody is served inside a transaction");
        self.fx.wants_events = self.wants_events();
        let (map, me) = (&self.map, self.id);
        let owns = move |slot: u16| map[slot as usize] as usize == me;
        let touch = self.touch_by(entry, origin);
        let mut cx = Cx {
            store: &mut self.store,
            db: origin.db as usize,
            now: self.now,
            clock: self.now,
            reply: Reply::new(out, origin.proto),
            fx: &mut self.fx,
            options: &self.options,
            rng: &mut self.rng,
            touch,
            owns: &owns,
            hint: crate::command::cx::NO_HINT,
        };
        let mut ran = Ran::default();
        let tracked = self.settings.latency_tracking;
        // Slower ones, and all where the slow log takes everything, are looked at
        // one by one.
        let quick = if self.settings.slowlog_log_slower_than_us == 0 { 0 } else { self.ticks_per_us };
        for r in requests {
            if r.argc != requests[0].argc || !r.entry.is_some_and(|e| std::ptr::eq(e, entry)) {
                break;
            }
            let slot = slot_of_hash(r.hash);
            if !owns(slot) {
                break;
            }
            // Counted only where there are several cores.
            if let Some(n) = self.slot_load.get_mut(slot as usize) {
                *n += 1;
            }
            let args = args_of(r, args);
            cx.hint = (&raw const *args[k], r.hash);
            let mark = cx.reply.out.len();
            let done: Done = (command.run)(&mut cx, args);
            ran.last_failed = done.is_err();
            if let Err(f) = done {
                cx.reply.out.truncate(mark);
                cx.reply.error(f.text());
                self.stats.count_error(f.code());
                ran.failed += 1;
            }
            (ran.n, ran.open) = (ran.n + 1, ran.open + 1);
            ran.large = cx.reply.out.len() - mark >= SMALL || args[args.len() - 1].len() >= SMALL;
            if cx.fx.has_readers() || ran.large {
                break;
            }
            self.stats.dirty += std::mem::take(&mut cx.fx.dirty);
            if !shared {
                let now = ticks::ticks();
                let spent = now.saturating_sub(self.last_tick);
                if spent >= quick {
                    break;
                }
                self.last_tick = now;
                self.stats.executed += 1;
                self.stats.commands[entry.index].count_quick(spent, ran.last_failed, tracked);
                (ran.open, ran.failed) = (0, 0);
            }
        }
        ran
    }

    /// Counts the commands of a run that have not been counted, and what they took.
    #[inline]
    fn account_run(
        &mut self,
        conn: &mut Conn,
        (entry, shared): (&Entry, bool),
        ran: &Ran,
        last: Args,
        size: usize,
    ) -> Flow {
        let alone = ran.open > 0 && (!shared || ran.large);
        let together = ran.open - u64::from(alone);
        if together > 0 {
            self.lend_clock(entry, together, ran.failed - u64::from(alone && ran.last_failed));
        }
        if alone {
            self.account_measured(entry, ran.last_failed, last, Who::Here(conn));
        }
        if ran.large {
            let grown = conn.replies.out.capacity().saturating_sub(size);
            self.count_growth(conn, grown);
            return self.flow_after(conn);
        }
        Flow::Next
    }
}

/// A request's arguments.
#[inline]
fn args_of<'a, 'b>(r: &Request, args: &'b [&'a [u8]]) -> &'b [&'a [u8]] {
    &args[r.first as usize..(r.first + r.argc) as usize]
}
