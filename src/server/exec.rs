//! Running commands over keys on the core that owns them.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::batch::{Batch, Replies, Requests};
use super::core::Core;
use super::msg::{Head, Job, Msg, Origin, Parked};
use super::registry::{Action, Entry, Route, registry};
use super::serve::Flow;
use super::tx::Waiter;
use crate::base::Args;
use crate::base::num::parse_u64;
use crate::base::slot::{Key, slot_of, slot_of_hash};
use crate::command::Cx;
use crate::command::cx::{NO_HINT, Touch};
use crate::command::effect::{Event, Tour};
use crate::command::keys::places;
use crate::command::spec::flag;
use crate::observe::slowlog::{SlowEntry, trimmed};
use crate::observe::ticks;
use crate::resp::Reply;
use crate::session::conn::{Conn, ConnRef, socket_name};
use crate::transaction::locks::{Mode, Need};

/// Arguments copied out of a receive buffer.
pub fn owned(args: Args) -> Vec<Vec<u8>> {
    args.iter().map(|a| a.to_vec()).collect()
}

/// Whose command it was.
pub enum Who<'a> {
    Here(&'a Conn),
    /// Perhaps of another core; `index` is `u32::MAX` for nobody's.
    Ref(ConnRef),
}

/// Commands that share one reading of the clock at most, and the slow log's
/// threshold (microseconds; off counts as the largest) from which they may.
pub const RUN_MAX: u64 = 16;
const SHARED_CLOCK_US: u64 = 1000;

/// Bytes of argument or reply up to which a fast command is sure to be fast.
pub const SMALL: usize = 4096;

/// Bytes of large replies after which a connection's next request waits for the next
/// turn: about 100 us of copying.
const OUTPUT_PER_TURN: usize = 1 << 20;

/// Emptied batches kept for reuse, and the most memory one may keep.
const BATCH_POOL: usize = 64;
const BATCH_KEPT: usize = 256 * 1024;

/// Messages for a core that memory is kept for.
const OUTBOX_KEPT: usize = 1024;

/// Batches up to this size are kept in any case, as is other output. Beyond, every one that comes
/// back doubles what is kept: a single large reply leaves nothing behind.
pub const BATCH_KEPT_MIN: usize = 16 * 1024;

impl Core {
    /// Takes the time before a run of commands.
    #[inline]
    pub fn start_clock(&mut self) {
        self.settle_clock();
        self.last_tick = ticks::ticks();
    }

    /// Ends a run of fast commands that share one reading of the clock.
    #[inline]
    pub fn settle_clock(&mut self) {
        let n = std::mem::take(&mut self.lent);
        if n == 0 {
            return;
        }
        let end = ticks::ticks();
        let spent = end.saturating_sub(std::mem::replace(&mut self.last_tick, end));
        let s = &mut self.stats.commands[self.lent_to];
        s.ticks += spent;
        if self.settings.latency_tracking {
            let mean = spent.div_euclid(n);
            s.latency.record_many(mean < self.ticks_per_us, || ticks::to_us(mean), n);
        }
    }

    /// May runs of a command share one reading of the clock? Reading it costs a
    /// good part of what a GET does, so short runs of one fast command with small
    /// data do: each counts with their mean. Whatever could be slow is measured by
    /// itself.
    #[inline]
    pub fn shares_clock(&self, entry: &Entry) -> bool {
        entry.spec.is(flag::FAST) && self.settings.slowlog_log_slower_than_us as u64 >= SHARED_CLOCK_US
    }

    /// Ends the run before a command that cannot belong to it.
    #[inline]
    pub fn before_command(&mut self, entry: &Entry) {
        if self.lent > 0 && (self.lent_to != entry.index || !self.shares_clock(entry)) {
            self.settle_clock();
        }
    }

    /// Counts commands that share a reading of the clock.
    #[inline]
    pub fn lend_clock(&mut self, entry: &Entry, n: u64, failed: u64) {
        self.lent += n;
        self.lent_to = entry.index;
        let s = &mut self.stats.commands[entry.index];
        s.calls += n;
        s.failed += failed;
        self.stats.executed += n;
        if self.lent >= RUN_MAX {
            self.settle_clock();
        }
    }

    /// Accounts a command that is measured by itself. If it ends a run, because
    /// its data turned out to be large, the time of all of it is its own: with a
    /// share of it, it would not be found in the slow log.
    #[inline]
    pub fn account_measured(&mut self, entry: &Entry, failed: bool, args: Args, who: Who) {
        let n = std::mem::take(&mut self.lent);
        if n > 0 && self.settings.latency_tracking {
            self.stats.commands[self.lent_to].latency.record_many(true, || 0, n);
        }
        self.account(entry, self.last_tick, failed, args, who);
    }

    /// Accounts a command on the hot path.
    #[inline]
    fn account_fast(&mut self, entry: &Entry, small: bool, failed: bool, args: Args, who: Who) {
        if small && self.shares_clock(entry) {
            self.lend_clock(entry, 1, u64::from(failed));
        } else {
            self.account_measured(entry, failed, args, who);
        }
    }

    #[inline]
    pub fn clock(&mut self) -> u64 {
        self.settle_clock();
        self.last_tick
    }

    /// Accounts a finished command: counters, latency, slow log.
    #[inline]
    pub fn account(&mut self, entry: &Entry, start: u64, failed: bool, args: Args, who: Who) {
        let end = ticks::ticks();
        self.last_tick = end;
        self.account_spent(entry, end.saturating_sub(start), failed, args, who);
    }

    /// [`Core::account`] of a command whose ticks are known.
    #[inline]
    pub fn account_spent(&mut self, entry: &Entry, spent: u64, failed: bool, args: Args, who: Who) {
        let s = &mut self.stats.commands[entry.index];
        if failed && std::mem::take(&mut self.scripts.refused) {
            s.rejected += 1;
            return;
        }
        s.calls += 1;
        s.ticks += spent;
        s.failed += u64::from(failed);
        self.stats.executed += 1;
        if spent < self.ticks_per_us {
            if self.settings.latency_tracking {
                s.latency.record_below();
            }
            if self.settings.slowlog_log_slower_than_us != 0 {
                return;
            }
        }
        self.account_slow(entry, spent, args, who);
    }

    #[cold]
    fn account_slow(&mut self, entry: &Entry, spent: u64, args: Args, who: Who) {
        let us = ticks::to_us(spent);
        if spent >= self.ticks_per_us && self.settings.latency_tracking {
            self.stats.commands[entry.index].latency.record(us);
        }
        let limit = self.settings.slowlog_log_slower_than_us;
        if limit >= 0 && us >= limit as u64 && !entry.spec.is(crate::command::spec::flag::SKIP_SLOWLOG) {
            let e = SlowEntry {
                id: self.slow_id.take().unwrap_or_else(|| self.shared.next_slow()),
                unix_s: self.now / 1000,
                duration_us: us,
                args: trimmed(&super::redact::shown(entry.spec.name, args)),
                ..SlowEntry::default()
            };
            match who {
                Who::Here(c) => self.log_slow(e, Some(c)),
                // Only the connection's core knows its name and peer.
                Who::Ref(r) => self.send(r.core as usize, Msg::Call(Box::new(move |core| core.log_slow_of(e, r)))),
            }
        }
        let threshold = self.settings.latency_monitor_threshold_ms;
        if threshold > 0 && us / 1000 >= threshold {
            let fast = entry.spec.is(crate::command::spec::flag::FAST);
            self.latency_event(if fast { "fast-command" } else { "command" }, us / 1000);
        }
    }

    fn log_slow(&mut self, mut e: SlowEntry, conn: Option<&Conn>) {
        if let Some(c) = conn {
            e.peer = socket_name(c.fd, true);
            e.client_name = c.name().to_vec();
        }
        self.stats.slowlog.push(e, self.settings.slowlog_max_len);
    }

    fn log_slow_of(&mut self, e: SlowEntry, r: ConnRef) {
        let conn = self.take_conn(r);
        self.log_slow(e, conn.as_deref());
        if let Some(c) = conn {
            self.put_conn(c);
        }
    }

    /// Records a latency event when it reached the configured threshold.
    pub fn latency_event(&mut self, name: &'static str, ms: u64) {
        let threshold = self.settings.latency_monitor_threshold_ms;
        if threshold > 0 && ms >= threshold {
            self.stats.latency_events.entry(name).or_default().add(self.now / 1000, ms);
        }
    }

    /// How accesses mark keys: not at all for clients in no-touch mode, but by TOUCH,
    /// which is there for nothing else.
    #[inline]
    pub fn touch_by(&self, entry: &Entry, origin: &Origin) -> Touch {
        if origin.no_touch && entry.spec.name != "touch" { Touch::Not } else { self.touch }
    }

    /// What CLIENT LIST shows of a client. Within EXEC that is EXEC.
    #[inline]
    pub fn note_command(&self, conn: &mut Conn, entry: &Entry) {
        if !self.in_exec {
            conn.last_command = Some(entry.index);
        }
    }

    /// Runs a command of a connection of this core.
    #[inline]
    pub fn execute_here(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args, hint: (usize, u64)) -> Flow {
        self.before_command(entry);
        conn.commands += 1;
        self.note_command(conn, entry);
        let origin = Origin::of(conn, 0);
        let muted = conn.special && conn.muted();
        let buffer = conn.replies.buffer();
        let (mark, size) = (buffer.len(), buffer.capacity());
        let mut out = std::mem::take(buffer);
        let failed = self.run_keys(entry, args, &origin, self.now, hint, &mut out);
        if muted {
            out.truncate(mark);
        }
        let small = out.len() - mark < SMALL && args[args.len() - 1].len() < SMALL;
        *conn.replies.buffer() = out;
        conn.replies.commit(mark);
        self.account_fast(entry, small, failed, args, Who::Here(conn));
        note_write(conn, entry, self.stamp);
        self.serve_after();
        if !small || conn.hears {
            let grown = conn.replies.buffer().capacity().saturating_sub(size);
            self.count_growth(conn, grown);
            return self.flow_after(conn);
        }
        Flow::Next
    }

    /// After a command with a large reply, or of a client that hears of changed
    /// keys: must something be done about what it left before the next one runs?
    /// Nor may one connection's replies fill a whole turn.
    #[cold]
    pub fn flow_after(&mut self, conn: &mut Conn) -> Flow {
        self.split_output(conn);
        let much = conn.output_bytes() > self.output_before + OUTPUT_PER_TURN;
        if much || (conn.hears && self.tracker.pending()) || self.clients_exceed() { Flow::Yield } else { Flow::Next }
    }

    /// Runs a command for whoever asked; the reply is appended to `out`.
    pub fn run_command(
        &mut self,
        entry: &Entry,
        args: &[&[u8]],
        origin: &Origin,
        now: u64,
        hint: (usize, u64),
        out: &mut Vec<u8>,
    ) {
        self.before_command(entry);
        let mark = out.len();
        let failed = self.run_keys(entry, args, origin, now, hint, out);
        if self.fx.block.is_some() || self.scripts.wanted.is_some() || self.fx.tour.is_some() {
            // It counts, and is slow or not, when its wait ends, when it has run
            // again with all that it asks for, or where it ends.
            self.start_clock();
            return;
        }
        let small = out.len() - mark < SMALL && args[args.len() - 1].len() < SMALL;
        self.account_fast(entry, small, failed, args, Who::Ref(origin.conn));
        self.serve_after();
    }

    /// A part of a command: its ticks are returned, to be accounted with those
    /// of the other parts.
    pub fn run_share(
        &mut self,
        entry: &Entry,
        args: &[&[u8]],
        origin: &Origin,
        now: u64,
        hint: (usize, u64),
        out: &mut Vec<u8>,
    ) -> u64 {
        let start = ticks::ticks();
        self.in_share = true;
        self.run_keys(entry, args, origin, now, hint, out);
        self.in_share = false;
        self.last_tick = ticks::ticks();
        self.last_tick.saturating_sub(start)
    }

    /// The innermost step: handler, error reply, effect. Did it fail?
    #[inline]
    fn run_keys(
        &mut self,
        entry: &Entry,
        args: Args,
        origin: &Origin,
        now: u64,
        (k, hash): (usize, u64),
        out: &mut Vec<u8>,
    ) -> bool {
        let Action::Keys(command) = entry.action else { return self.run_code(entry, args, origin, now, out) };
        if entry.spec.keys.is_empty() {
            self.before_keyless(entry, args, origin);
        }
        self.fx.wants_events = self.wants_events() || self.gathering.is_some();
        let mark = out.len();
        if let Some(n) = self.slot_load.get_mut(slot_of_hash(hash) as usize) {
            *n += 1;
        }
        let map = &self.map;
        let me = self.id;
        let everywhere = self.gathering.is_some();
        let owns = move |slot: u16| everywhere || map[slot as usize] as usize == me;
        let hint = if k < args.len() && k > 0 { (&raw const *args[k], hash) } else { NO_HINT };
        let touch = self.touch_by(entry, origin);
        let mut cx = Cx {
            store: &mut self.store,
            db: origin.db as usize,
            now,
            clock: if now == 0 { self.now } else { now },
            reply: Reply::new(out, origin.proto),
            fx: &mut self.fx,
            options: &self.options,
            rng: &mut self.rng,
            touch,
            owns: &owns,
            hint,
        };
        let result = (command.run)(&mut cx, args);
        let failed = match result {
            Ok(()) => false,
            Err(f) => {
                out.truncate(mark);
                Reply::new(out, origin.proto).error(f.text());
                // A command without keys fails on all cores alike.
                if !self.echo {
                    self.stats.count_error(f.code());
                }
                true
            }
        };
        if self.fx.changed() {
            self.apply_effect(entry, args, origin);
        }
        if origin.tracked {
            self.remember_reads(entry, args, origin);
        }
        failed
    }

    #[cold]
    fn run_code(&mut self, entry: &Entry, args: Args, origin: &Origin, now: u64, out: &mut Vec<u8>) -> bool {
        match entry.action {
            Action::Script(run) => run(self, entry, args, origin, now, out),
            _ => false,
        }
    }

    /// Passes a command's effect to those who read it.
    pub fn apply_effect(&mut self, entry: &Entry, args: Args, origin: &Origin) {
        if !(self.fx.alike && self.echo) {
            self.stats.dirty += self.fx.dirty;
        }
        if !self.fx.stream.is_empty() {
            self.journal_effect(entry, args, origin.db);
        }
        if !self.fx.events.is_empty() {
            self.tracker.actor = origin.client;
            let events = std::mem::take(&mut self.fx.events);
            match &mut self.gathering {
                Some(all) => all.extend(events),
                None => self.tell(&events),
            }
        }
        self.fx.clear();
        if !self.blocking.is_empty() && entry.spec.keys.is_empty() {
            self.blocking.signal_all();
        }
    }

    /// A command has been accounted: those who waited for what it made come next.
    #[inline]
    pub fn serve_after(&mut self) {
        if self.blocking.has_ready() {
            self.serve_ready();
        }
    }

    /// Tells watchers, subscribers and those who wait what happened to keys of
    /// this core.
    pub fn tell(&mut self, events: &[Event]) {
        if !self.watches.is_empty() {
            for e in events.iter().filter(|e| e.touches()) {
                self.watches.touch(e.db, Key::new(&e.key).hash, &e.key);
            }
        }
        if self.tracker.listens() {
            self.track_changes(events);
        }
        if self.notifying {
            self.notify(events);
        }
        if self.local_deadlines.is_some() && self.tracker.actor != 0 {
            self.note_local_deadlines(events);
        }
        if !self.blocking.is_empty() {
            events.iter().filter(|e| e.wakes()).for_each(|e| self.blocking.signal(e.db, &e.key));
        }
    }

    /// Before a command that names no keys: it may change all of them.
    #[cold]
    fn before_keyless(&mut self, entry: &Entry, args: Args, origin: &Origin) {
        if !self.changes_databases(entry, args) {
            return;
        }
        self.before_whole(entry, args, origin.db as usize);
        if matches!(entry.spec.name, "flushall" | "flushdb") {
            let id = origin.client << 32 | u64::from(origin.seq);
            match self.gathering {
                None => self.track_flush(id),
                Some(_) => self.broadcast(move |c| c.track_flush(id)),
            }
        }
    }

    /// Will the command change whole databases, or be refused?
    fn changes_databases(&self, entry: &Entry, args: Args) -> bool {
        let is_mode = |word: &&[u8]| word.eq_ignore_ascii_case(b"sync") || word.eq_ignore_ascii_case(b"async");
        let is_index = |word: &&[u8]| parse_u64(word).is_some_and(|n| n < self.store.databases() as u64);
        match entry.spec.name {
            "flushdb" | "flushall" => args.len() <= 2 && args[1..].iter().all(is_mode),
            // A database swapped with itself stays what it is.
            "swapdb" => args.len() == 3 && args[1..].iter().all(is_index) && parse_u64(args[1]) != parse_u64(args[2]),
            _ => false,
        }
    }

    /// Before a whole database changes: its watched keys that exist are changed.
    fn before_whole(&mut self, entry: &Entry, args: Args, db: usize) {
        let index = |i: usize| args.get(i).and_then(|a| parse_u64(a)).map_or(usize::MAX, |n| n as usize);
        let (dbs, other): (Vec<usize>, Option<(usize, usize)>) = match entry.spec.name {
            "flushdb" => (vec![db], None),
            "flushall" => {
                if self.shared.saves.saving.load(Ordering::Relaxed) {
                    self.tell_service(|s| s.snapshot_is_void());
                }
                // Of a split one the coordinator tells, when all parts are done.
                if self.saves_flushes() && !self.in_share {
                    self.tell_service(|s| s.save_flushed(|_| ()));
                }
                ((0..self.store.databases()).collect(), None)
            }
            "swapdb" => (vec![index(1), index(2)], Some((index(1), index(2)))),
            _ => return,
        };
        for db in dbs {
            for (hash, key) in self.watches.in_db(db) {
                let in_other = other.is_some_and(|(a, b)| {
                    let o = if a == db { b } else { a };
                    o < self.store.databases() && !self.gone(o, hash, &key, self.now)
                });
                if in_other || !self.gone(db, hash, &key, self.now) {
                    self.watches.touch(db, hash, &key);
                }
            }
        }
    }

    /// Replies that are large pass through: no key has to go for them.
    #[inline]
    fn note_passing(&mut self, replies: &Replies, passing: &mut usize) {
        let now = replies.bytes.capacity();
        if now > *passing + BATCH_KEPT_MIN {
            self.count_passing(now - *passing);
            *passing = now;
        }
    }

    /// Requests that another core forwarded: the same passes.
    pub fn run_batch(&mut self, mut batch: Box<Batch>) {
        self.keep_room_and_tell();
        let Batch { requests, replies, passing } = &mut *batch;
        self.prefetch_requests(requests, 0..requests.len());
        let from = requests.sender().unwrap_or(self.id);
        let (mut reader, mut args) = (requests.read(), Vec::new());
        self.start_clock();
        while let Some(h) = reader.next(&mut args) {
            let done = self.run_forwarded(&h, &args, &mut replies.bytes);
            replies.end(done);
            self.note_passing(replies, passing);
        }
        self.settle_clock();
        self.tell_before_replies();
        self.send(from, Msg::Replies(batch));
    }

    /// The memory latencies of many keys overlap.
    pub fn prefetch_requests(&self, requests: &Requests, of: Range<usize>) {
        let keys = requests.keys(of);
        keys.clone().for_each(|(db, hash)| self.store.prefetch_table(db, hash));
        keys.clone().for_each(|(db, hash)| self.store.prefetch_bucket(db, hash));
        keys.for_each(|(db, hash)| self.store.prefetch_entry(db, hash));
    }

    /// Runs one forwarded request; false when its reply comes later.
    fn run_forwarded(&mut self, h: &Head, args: &[&[u8]], out: &mut Vec<u8>) -> bool {
        if self.locks.is_empty() && self.owns_all(h, args) {
            self.run_job(h, args, self.now, out);
            return !self.goes_on(h, args);
        }
        self.run_forwarded_slow(h, args, out)
    }

    /// Locks first, then ownership: a slot on its way here is locked until its
    /// table has come, and what was sent after it must wait for it.
    #[cold]
    fn run_forwarded_slow(&mut self, h: &Head, args: &[&[u8]], out: &mut Vec<u8>) -> bool {
        let need = self.need_of_job(h, args);
        let parked = |now| Parked::new(*h, owned(args), now);
        if self.locks.conflicts(&need) {
            self.park(parked(self.now), need);
            return false;
        }
        if !self.owns_all(h, args) {
            self.send_on(parked(self.now));
            return false;
        }
        self.run_job(h, args, self.now, out);
        !self.goes_on(h, args)
    }

    /// Was it a script, and does it have to run again?
    #[inline]
    fn goes_on(&mut self, h: &Head, args: Args) -> bool {
        match h.job {
            Job::Command(i) => self.script_goes_on(&h.origin, i, args),
            Job::Watch(_) => false,
        }
    }

    /// Are all keys of the request here? They were, or were to be, when it was
    /// sent; a slot may have moved since.
    fn owns_all(&self, h: &Head, args: Args) -> bool {
        self.owns(slot_of_hash(h.hash))
            && (self.map_epoch == 0 || slots_beside(h, args).into_iter().all(|slot| self.owns(slot)))
    }

    /// Sends a request after its slot. One whose slots may lie on several cores
    /// by now goes back to its connection's core, to be made a transaction.
    fn send_on(&mut self, p: Parked) {
        let args: Vec<&[u8]> = p.args.iter().map(|a| &a[..]).collect();
        if slots_beside(&p.head, &args).is_empty() {
            let to = self.map[slot_of_hash(p.head.hash) as usize] as usize;
            return self.send(to, Msg::Forward(Box::new(p)));
        }
        let home = p.head.origin.conn.core as usize;
        self.send(home, Msg::Call(Box::new(move |core: &mut Core| core.stranded.push(p))));
    }

    /// Makes transactions of requests whose slots were moved apart.
    pub fn rescue_stranded(&mut self) {
        for p in std::mem::take(&mut self.stranded) {
            let args: Vec<&[u8]> = p.args.iter().map(|a| &a[..]).collect();
            let Job::Command(index) = p.head.job else { continue };
            let entry = &registry().entries[index];
            if !self.order_keys(entry, &args, p.head.origin) {
                self.stranded.push(p);
            }
        }
    }

    fn need_of_job(&self, h: &Head, args: Args) -> Need {
        let db = h.origin.db as usize;
        match h.job {
            Job::Command(i) => self.need_of(&registry().entries[i], args, db, (h.key_at as usize, h.hash)),
            Job::Watch(_) => {
                let mut need = Need::default();
                need.keys.push(((h.origin.db, h.hash), Mode::Shared));
                need
            }
        }
    }

    fn run_job(&mut self, h: &Head, args: &[&[u8]], now: u64, out: &mut Vec<u8>) {
        match h.job {
            Job::Command(i) => {
                let entry = &registry().entries[i];
                self.run_command(entry, args, &h.origin, now, (h.key_at as usize, h.hash), out);
            }
            Job::Watch(token) => {
                let db = h.origin.db as usize;
                let existed = !self.gone(db, h.hash, args[0], now);
                self.watches.add(token, db, h.hash, args[0], existed);
                Reply::new(out, h.origin.proto).ok();
            }
        }
    }

    /// A request that arrives by itself: run, parked, or sent on.
    pub fn run_or_park(&mut self, p: Parked) {
        let args: Vec<&[u8]> = p.args.iter().map(|a| &a[..]).collect();
        if !self.locks.is_empty() {
            let need = self.need_of_job(&p.head, &args);
            if self.locks.conflicts(&need) {
                return self.park(p, need);
            }
        }
        let now = p.now.max(self.now);
        self.run_parked(Parked { now, ..p });
    }

    fn run_alone(&mut self, h: &Head, args: &[&[u8]], now: u64, tour: Option<Box<Tour>>) {
        let mut out = Vec::new();
        self.start_clock();
        let begun = self.start_leg(tour);
        self.fx.may_block = matches!(h.job, Job::Command(i) if registry().entries[i].spec.is(flag::BLOCKING));
        self.run_job(h, args, now, &mut out);
        self.fx.may_block = false;
        if self.goes_on(h, args) {
            return;
        }
        if let Some(tour) = self.fx.tour.take() {
            return self.next_leg(h, args, now, (tour, begun));
        }
        if let Some(block) = self.fx.block.take() {
            return self.start_waiting(Parked::new(*h, owned(args), now), block);
        }
        let c = h.origin.conn;
        if c.core as usize == self.id {
            self.deliver(c, h.origin.seq, &out);
        } else {
            self.send(c.core as usize, Msg::Reply { conn: c, seq: h.origin.seq, reply: out });
        }
    }

    /// Puts a request into the lock queue. Its time follows that of all that
    /// stand in front of it.
    pub fn park(&mut self, mut p: Parked, need: Need) {
        p.now = self.lock_time(p.now);
        self.locks.push(need, Waiter::Parked(Box::new(p)));
    }

    /// Takes the time of something that joins the lock queue into its floor:
    /// the latest time of all that joined since the queue was empty. The floor.
    pub fn lock_time(&mut self, now: u64) -> u64 {
        let floor = if self.locks.is_empty() { 0 } else { self.lock_floor };
        self.lock_floor = floor.max(now);
        self.lock_floor
    }

    /// Runs a request that was parked.
    pub fn run_parked(&mut self, p: Parked) {
        let args: Vec<&[u8]> = p.args.iter().map(|a| &a[..]).collect();
        if !self.owns_all(&p.head, &args) {
            return self.send_on(p);
        }
        self.run_alone(&p.head, &args, p.now, p.tour);
    }

    /// Replies to requests that this core forwarded.
    pub fn take_replies(&mut self, mut batch: Box<Batch>) {
        // Requests of one connection mostly stand together: it is taken out once.
        let mut open: Option<Box<Conn>> = None;
        for (conn, seq, reply) in batch.answers() {
            if open.as_ref().is_none_or(|c| c.me != conn) {
                if let Some(c) = open.take() {
                    self.delivered(c);
                }
                open = self.take_conn(conn);
                if let Some(c) = &mut open {
                    self.lend_buffer(c);
                }
            }
            if let Some(c) = &mut open {
                if reply.len() >= SMALL {
                    self.count_growth(c, c.replies.growth(seq, reply.len()));
                }
                c.fill(seq, reply);
            }
        }
        if let Some(c) = open {
            self.delivered(c);
        }
        let passed = std::mem::take(&mut batch.passing);
        if batch.memory() > self.batch_kept {
            self.batch_kept = (2 * self.batch_kept).min(BATCH_KEPT);
            drop(batch);
        } else if self.batch_pool.len() < BATCH_POOL && batch.memory() <= self.spare_max(BATCH_KEPT) {
            batch.clear();
            self.batch_pool.push(batch);
        }
        if passed > 0 {
            self.count_passed(passed);
        }
    }

    /// Now and then: one large buffer of each kind goes. Those in use come back
    /// as soon as they are wanted; those made for a single large reply do not
    /// stay.
    pub fn shrink_pools(&mut self) {
        if std::mem::replace(&mut self.forwarded_before, self.stats.forwarded) == self.stats.forwarded {
            self.batch_kept = BATCH_KEPT_MIN;
        }
        if let Some(at) = self.batch_pool.iter().position(|b| b.memory() > BATCH_KEPT_MIN) {
            self.batch_pool.swap_remove(at);
        }
        if let Some(at) = self.output_pool.iter().position(|b| b.capacity() > BATCH_KEPT_MIN) {
            self.output_pool.swap_remove(at);
        }
        self.outbox.iter_mut().for_each(|o| o.shrink_to(OUTBOX_KEPT));
    }

    /// Puts a reply into its place on a connection.
    pub fn deliver(&mut self, conn: ConnRef, seq: u32, reply: &[u8]) {
        let Some(mut c) = self.take_conn(conn) else { return };
        self.lend_buffer(&mut c);
        c.fill(seq, reply);
        self.unblocked(&mut c, true);
        self.delivered(c);
    }

    /// A connection has got replies: it is flushed, and goes on when none is
    /// outstanding.
    fn delivered(&mut self, mut c: Box<Conn>) {
        note_written_elsewhere(&mut c, self.stamp);
        if c.replies.has_output() || c.close_after {
            self.mark_dirty(&mut c);
        }
        if c.replies.outstanding() == 0 {
            c.barrier = false;
            if c.input_bytes() > 0 || c.eof {
                self.mark_ready(&mut c);
            }
        }
        self.put_conn(c);
    }
}

/// The slots of a request's keys that are not that of its first; none for
/// requests over one slot.
fn slots_beside(h: &Head, args: Args) -> Vec<u16> {
    let Job::Command(i) = h.job else { return Vec::new() };
    let entry = &registry().entries[i];
    if !matches!(entry.route, Route::Keys | Route::Script) {
        return Vec::new();
    }
    let first = slot_of_hash(h.hash);
    let all = places(entry.spec, args).unwrap_or_default();
    all.iter().map(|p| slot_of(args[p.index])).filter(|s| *s != first).collect()
}

/// WAIT waits for what a connection wrote.
#[inline]
pub fn note_write(conn: &mut Conn, entry: &Entry, stamp: u64) {
    if may_write(entry) {
        conn.wrote = stamp;
    }
}

fn may_write(entry: &Entry) -> bool {
    entry.spec.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0
        || matches!(entry.action, Action::Script(_))
        || entry.spec.name == "exec"
}

/// A request goes where its reply does not come from at once.
#[inline]
pub fn note_request(conn: &mut Conn, entry: &Entry) {
    conn.writes_elsewhere |= may_write(entry);
}

/// A reply has come. Of which request it is does not matter: what is outstanding is
/// written no later than the last of them comes.
pub fn note_written_elsewhere(conn: &mut Conn, stamp: u64) {
    if conn.writes_elsewhere {
        conn.wrote = stamp;
        conn.writes_elsewhere = conn.replies.outstanding() > 0;
    }
}
