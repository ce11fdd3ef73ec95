//! From requests to their place of execution.

use super::batch::{BATCH_BYTES, Batch};
use super::core::Core;
use super::exec::{Who, note_request, note_write, owned};
use super::msg::{Head, Job, Msg, Origin, Parked};
use super::registry::{Action, Entry, Outcome, Route, registry};
use super::role::SHOWN;
use super::scripts::Wanted;
use super::serve::Flow;
use super::tx::{Kind, Plan, whole};
use crate::base::Args;
use crate::base::num::parse_u64;
use crate::base::slot::{Key, SLOT_SHIFT, SLOTS, slot_of_hash};
use crate::command::blocking::may_wait;
use crate::command::keys::{Place, Places, places, undeclared};
use crate::command::spec::flag;
use crate::command::{Across, Fault, Merge};
use crate::config::{Guard, PipelineOrder};
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ReplyMode};
use crate::store::scan::{cursor_of, position_of};
use crate::transaction::locks::{Mode, Need};

const DEBUG_GUARDED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
    you can run it from a local connection, otherwise you need to set this option in the configuration file, and then \
    restart the server.";
const MODULE_GUARDED: &str = "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", \
    you can run it from a local connection, otherwise you need to set this option in the configuration file, and then \
    restart the server.";

impl Core {
    /// Decides where a request runs, and runs it if that is here and now.
    #[inline]
    pub fn dispatch(&mut self, conn: &mut Conn, entry: Option<&'static Entry>, args: Args, hash: u64) -> Flow {
        if let Some(e) = entry
            && let Route::Key(k) = e.route
            && e.spec.arity_fits(args.len())
            && k < args.len()
            && !conn.special
            && self.gate & e.gates == 0
        {
            let owner = self.map[slot_of_hash(hash) as usize] as usize;
            if conn.replies.outstanding() == 0 && owner == self.id && self.locks.is_empty() {
                return self.execute_here(conn, e, args, (k, hash));
            }
            note_request(conn, e);
            return self.route_key(conn, e, args, (k, hash), false);
        }
        self.dispatch_slow(conn, args, hash)
    }

    /// Everything that is not a plain command over one key.
    fn dispatch_slow(&mut self, conn: &mut Conn, args: Args, hash: u64) -> Flow {
        let entry = match registry().resolve(args) {
            Ok(e) => e,
            Err(_) if speaks_http(args[0]) => return self.abandon(conn),
            Err(f) => return self.reject(conn, None, &f),
        };
        if !entry.spec.arity_fits(args.len()) {
            return self.reject(conn, Some(entry), &Fault::arity(entry.spec.name));
        }
        note_request(conn, entry);
        if entry.spec.is(flag::PROTECTED)
            && let Some(f) = self.guarded(conn, entry)
        {
            return self.reject(conn, Some(entry), &f);
        }
        if !conn.authenticated && !entry.spec.is(flag::NO_AUTH) {
            return self.reject(conn, Some(entry), &Fault::Text("NOAUTH Authentication required."));
        }
        let queued = conn.in_multi() && !immediate(entry);
        if queued && entry.spec.is(flag::NO_MULTI) {
            return self.reject(conn, Some(entry), &Fault::Text("ERR Command not allowed inside a transaction"));
        }
        if conn.restricted
            && let Some(f) = self.forbidden(conn, entry, args)
        {
            return self.reject(conn, Some(entry), &f);
        }
        if conn.special && conn.proto == Proto::Resp2 && conn.subscribed() && !entry.fits_subscribers() {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context",
                entry.spec.name
            );
            return self.reject(conn, Some(entry), &text.into());
        }
        if conn.monitor && entry.spec.flags & (flag::WRITE | flag::READONLY | flag::MAY_REPLICATE) != 0 {
            return self.reject(conn, Some(entry), &Fault::Text("ERR Replica can't interact with the keyspace"));
        }
        if conn.endpoint
            && let Some(f) = self.redirect(conn, entry, args)
        {
            // A transaction is sent elsewhere by the plain error, not aborted.
            let told = (entry.spec.name != "exec").then_some(entry);
            return self.reject(conn, told, &f);
        }
        if self.gate != 0 {
            if self.held_for_room(conn) {
                return Flow::Hold;
            }
            if let Some(f) = self.refused_by_state(conn, entry, args) {
                return self.reject(conn, Some(entry), &f);
            }
            if self.pause.active && self.held_by_pause(conn, entry, args) {
                return Flow::Hold;
            }
        }
        if matches!(conn.reply_mode, ReplyMode::SkipNext) {
            conn.reply_mode = ReplyMode::SkipThis;
        }
        let flow = if queued { self.queue(conn, entry, args) } else { self.route_shown(conn, entry, args, hash) };
        let caching = conn.tracking().is_some_and(|t| t.caching);
        if caching && flow != Flow::Hold && !conn.in_multi() && !entry.spec.name.starts_with("client") {
            self.end_caching(conn);
        }
        if conn.reply_mode == ReplyMode::SkipThis && flow != Flow::Hold {
            conn.reply_mode = ReplyMode::On;
            conn.update_special();
        } else if conn.reply_mode == ReplyMode::SkipThis {
            conn.reply_mode = ReplyMode::SkipNext;
        }
        flow
    }

    /// Commands that the configuration has to allow: what refuses them comes
    /// before the password, as in Redis.
    fn guarded(&self, conn: &Conn, entry: &Entry) -> Option<Fault> {
        let debug = entry.spec.name.starts_with("debug");
        let guard = if debug { self.settings.enable_debug_command } else { self.settings.enable_module_command };
        let allowed = match guard {
            Guard::Yes => true,
            Guard::Local => conn.local,
            Guard::No => false,
        };
        (!allowed).then_some(Fault::Text(if debug { DEBUG_GUARDED } else { MODULE_GUARDED }))
    }

    /// A request that does not get as far as running.
    pub fn reject(&mut self, conn: &mut Conn, entry: Option<&Entry>, fault: &Fault) -> Flow {
        if let Some(e) = entry {
            self.stats.commands[e.index].rejected += 1;
        }
        if let Some(m) = conn.extra.as_mut().and_then(|x| x.multi.as_mut()) {
            m.broken = true;
        }
        let elsewhere = matches!(fault.code(), b"MOVED" | b"CROSSSLOT");
        if !elsewhere && entry.is_some_and(|e| e.spec.name == "exec") {
            return self.reject_exec(conn, fault);
        }
        self.stats.count_error(fault.code());
        if conn.reply_mode == ReplyMode::SkipNext {
            // This reply is the one to skip.
            conn.reply_mode = ReplyMode::On;
            conn.update_special();
        } else {
            conn.error(fault.text());
        }
        Flow::Next
    }

    /// A web browser was made to send requests here: not one of its lines
    /// must be taken for a command.
    #[cold]
    fn abandon(&mut self, conn: &mut Conn) -> Flow {
        let who = crate::session::conn::socket_name(conn.fd, true);
        super::log_warning(&format!(
            "Possible SECURITY ATTACK detected: {who} sends HTTP requests, perhaps by way of an unsuspecting browser. \
             The connection is closed."
        ));
        self.close(conn);
        Flow::Stop
    }

    /// An EXEC that is rejected, and not only redirected, drops the transaction at once.
    fn reject_exec(&mut self, conn: &mut Conn, fault: &Fault) -> Flow {
        let reason = fault.text();
        let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
        text.extend_from_slice(reason.strip_prefix(b"ERR ").unwrap_or(reason));
        self.stats.count_error(b"EXECABORT");
        self.discard_multi(conn);
        if conn.reply_mode == ReplyMode::SkipNext {
            conn.reply_mode = ReplyMode::On;
            conn.update_special();
        } else {
            conn.error(&text);
        }
        Flow::Next
    }

    /// [`Core::route`], and what monitors see of it: the commands that run, after
    /// they have begun. EXEC is shown after its own, a script before.
    fn route_shown(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args, hash: u64) -> Flow {
        let shown = self.gate & SHOWN != 0 && entry.spec.name != "exec";
        // Before the commands that it calls.
        let first = shown && entry.route == Route::Script && conn.replies.outstanding() == 0;
        if first {
            self.show_command(conn, entry, args);
        }
        let flow = self.route(conn, entry, args, hash);
        if shown && !first && flow != Flow::Hold {
            self.show_command(conn, entry, args);
        }
        flow
    }

    pub fn route(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args, hash: u64) -> Flow {
        match entry.route {
            Route::Key(k) => {
                let hash = if hash != 0 { hash } else { Key::new(args[k]).hash };
                self.route_key(conn, entry, args, (k, hash), false)
            }
            Route::Keys => self.route_keys(conn, entry, args),
            Route::Script => self.route_script(conn, entry, args),
            Route::Cursor => self.route_cursor(conn, entry, args),
            Route::Whole(merge) => self.route_whole(conn, entry, args, merge),
            Route::Anywhere => self.route_whole(conn, entry, args, Merge::Any),
            Route::Conn if conn.replies.outstanding() > 0 => Flow::Hold,
            Route::Conn | Route::ConnLight => self.run_conn_command(conn, entry, args),
        }
    }

    fn run_conn_command(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        let Action::Conn(run) = entry.action else {
            return self.reject(conn, Some(entry), &Fault::arity(entry.spec.name));
        };
        let start = self.clock();
        self.note_command(conn, entry);
        note_write(conn, entry, self.stamp);
        let failed = match run(self, conn, args) {
            Ok(Outcome::Done) => false,
            Ok(Outcome::Later) => {
                conn.barrier = true;
                self.account_later(conn, entry, start, args);
                return if conn.close_after { Flow::Stop } else { Flow::Next };
            }
            Err(f) => {
                self.stats.count_error(f.code());
                conn.error(f.text());
                true
            }
        };
        self.account(entry, start, failed, args, Who::Here(conn));
        if conn.close_after { Flow::Stop } else { self.flow_after(conn) }
    }

    /// Must the request wait for what is outstanding on its connection?
    fn must_hold(&self, conn: &Conn, slot: u16) -> bool {
        conn.replies.outstanding() > 0
            && (self.settings.pipeline_order == PipelineOrder::Strict
                || self.slot_epoch[slot as usize] > conn.route_epoch)
    }

    pub fn origin(&mut self, conn: &mut Conn) -> Origin {
        if conn.replies.outstanding() == 0 {
            conn.route_epoch = self.map_epoch;
        }
        conn.prompt = false;
        let seq = conn.replies.expect(conn.muted());
        Origin::of(conn, seq)
    }

    /// Runs a command on the owner of its key, or of all its keys. One over
    /// `several` slots that does not run here and now is alone on its
    /// connection, because they may be moved apart before it runs.
    fn route_key(
        &mut self,
        conn: &mut Conn,
        entry: &'static Entry,
        args: Args,
        (k, hash): (usize, u64),
        several: bool,
    ) -> Flow {
        let slot = slot_of_hash(hash);
        if self.must_hold(conn, slot) {
            return Flow::Hold;
        }
        let owner = self.map[slot as usize] as usize;
        if owner != self.id {
            if conn.endpoint
                && let Some(f) = self.redirect(conn, entry, args)
            {
                return self.reject(conn, Some(entry), &f);
            }
            if several && conn.replies.outstanding() > 0 {
                return Flow::Hold;
            }
            let prompt = conn.prompt || conn.replies.outstanding() == 0;
            self.forward(conn, owner, Job::Command(entry.index), args, (k, hash));
            conn.prompt = prompt;
            conn.barrier |= several;
            return Flow::Next;
        }
        if !self.locks.is_empty() {
            let need = self.need_of(entry, args, conn.db, (k, hash));
            if self.locks.conflicts(&need) {
                if several && conn.replies.outstanding() > 0 {
                    return Flow::Hold;
                }
                conn.barrier |= several;
                self.park_here(conn, entry, args, (k, hash), need);
                return Flow::Next;
            }
        }
        self.execute_here(conn, entry, args, (k, hash))
    }

    pub fn park_here(&mut self, conn: &mut Conn, entry: &Entry, args: Args, (k, hash): (usize, u64), need: Need) {
        let origin = self.origin(conn);
        let head = Head { origin, job: Job::Command(entry.index), argc: args.len() as u32, hash, key_at: k as u32 };
        self.park(Parked::new(head, owned(args), self.now), need);
    }

    /// Puts a request into the batch for its core.
    pub fn forward(&mut self, conn: &mut Conn, to: usize, job: Job, args: Args, (k, hash): (usize, u64)) {
        conn.commands += 1;
        if let Job::Command(i) = job {
            conn.last_command = Some(i);
        }
        let origin = self.origin(conn);
        let head = Head { origin, job, argc: args.len() as u32, hash, key_at: k as u32 };
        self.push_request(to, head, args);
    }

    /// Requests that follow go into a batch of their own.
    pub fn close_batch(&mut self, to: usize) {
        if let Some(b) = self.batches[to].take() {
            self.outbox[to].push_back(Msg::Requests(b));
        }
    }

    pub fn push_request(&mut self, to: usize, head: Head, args: Args) {
        self.stats.forwarded += 1;
        let bytes: usize = args.iter().map(|a| a.len()).sum();
        if let Some(b) = &self.batches[to]
            && b.requests.bytes() + bytes > BATCH_BYTES
            && !b.requests.is_empty()
            && let Some(b) = self.batches[to].take()
        {
            self.outbox[to].push_back(Msg::Requests(b));
        }
        let pool = &mut self.batch_pool;
        let b: &mut Batch = self.batches[to].get_or_insert_with(|| pool.pop().unwrap_or_default());
        b.requests.push(&head, args.iter().copied());
    }

    /// A command with several keys: on one core if they all lie there.
    fn route_keys(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        let found = places(entry.spec, args).unwrap_or_default();
        if may_wait(entry.spec, args) && !found.is_empty() {
            return self.route_blocking(conn, entry, args);
        }
        let Some(first) = found.first() else {
            // No keys, or arguments that do not fit: the handler says what is wrong.
            if conn.replies.outstanding() > 0 {
                return Flow::Hold;
            }
            return self.execute_here(conn, entry, args, (0, 0));
        };
        if self.shared.cores > 1 && undeclared(entry.spec, args) {
            return self.route_everywhere(conn, entry, args);
        }
        let keys: Vec<Key> = found.iter().map(|p| Key::new(args[p.index])).collect();
        let owner = self.map[keys[0].slot() as usize];
        if keys.iter().all(|k| self.map[k.slot() as usize] == owner) {
            if keys.iter().any(|k| self.must_hold(conn, k.slot())) {
                return Flow::Hold;
            }
            let several = keys.iter().any(|k| k.slot() != keys[0].slot());
            return self.route_key(conn, entry, args, (first.index, keys[0].hash), several);
        }
        if conn.replies.outstanding() > 0 {
            return Flow::Hold;
        }
        let origin = self.origin(conn);
        let ordered = self.order_keys(entry, args, origin);
        self.after_submit(conn, entry, origin, ordered)
    }

    /// A command that may reach any key: the whole keyspace comes to it.
    fn route_everywhere(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        if conn.replies.outstanding() > 0 {
            return Flow::Hold;
        }
        let origin = self.origin(conn);
        let kind = Kind::Gather { command: entry.index, args: owned(args) };
        let cores = self.shared.cores;
        let ordered = self.submit_tx(origin, kind, |_, _| {
            let mut plan = Plan::default();
            (0..cores).for_each(|c| plan.part(c).need = whole(Mode::Exclusive));
            plan
        });
        self.after_submit(conn, entry, origin, ordered)
    }

    /// Orders a transaction over a command's keys; false when it must be tried
    /// again later.
    pub fn order_keys(&mut self, entry: &'static Entry, args: Args, origin: Origin) -> bool {
        if entry.route == Route::Script {
            return self.order_script(entry, args, origin, &Wanted::Keys(Vec::new()));
        }
        let Action::Keys(command) = entry.action else { return true };
        let found = &places(entry.spec, args).unwrap_or_default();
        let keys: Vec<Key> = found.iter().map(|p| Key::new(args[p.index])).collect();
        let db = origin.db as usize;
        // What lacks the last key's value must fail before any core has done its part.
        let complete = found.last().is_none_or(|p| p.index + p.step <= args.len());
        let kind = match command.across {
            Across::Split(merge) if complete => Kind::Split { command: entry.index, merge, places: found.clone() },
            _ => Kind::Gather { command: entry.index, args: owned(args) },
        };
        let split = matches!(kind, Kind::Split { .. });
        // COPY may reach into a database that only the handler knows.
        let dbs = if entry.spec.name == "copy" && args.len() > 3 { 0..self.store.databases() } else { db..db + 1 };
        self.submit_tx(origin, kind, |map, _| {
            let mut plan = Plan::default();
            for (i, (p, key)) in found.iter().zip(&keys).enumerate() {
                let mode = if split && p.read_only() { Mode::Shared } else { Mode::Exclusive };
                let core = map[key.slot() as usize] as usize;
                for db in dbs.clone() {
                    plan.key(core, db, key.hash, key.bytes, mode);
                }
                if split {
                    add_arguments(&mut plan, core, args, i, p);
                }
            }
            plan
        })
    }

    /// The transaction is on its way, or must be tried again.
    pub fn after_submit(&mut self, conn: &mut Conn, entry: &Entry, origin: Origin, ordered: bool) -> Flow {
        if !ordered {
            conn.replies.withdraw(origin.seq);
            self.mark_ready(conn);
            return Flow::Hold;
        }
        conn.barrier = true;
        conn.commands += 1;
        conn.last_command = Some(entry.index);
        Flow::Next
    }

    fn route_cursor(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        let cursor = args.get(1).and_then(|a| parse_u64(a));
        if conn.replies.outstanding() > 0 {
            return Flow::Hold;
        }
        if conn.endpoint
            && let Some(cursor) = cursor
        {
            return self.route_own_cursor(conn, entry, args, cursor);
        }
        let position = position_of(cursor.unwrap_or(0)) & crate::store::db::POSITION_MASK;
        debug_assert_eq!(slot_of_hash(position), (position >> SLOT_SHIFT) as u16);
        if self.shared.cores > 1 {
            return self.start_tour(conn, entry, args, position);
        }
        self.route_key(conn, entry, args, (0, position), false)
    }

    /// SCAN at a core's own port: what it has of other cores' slots is skipped.
    /// A step ends at a foreign slot, so only its beginning can lie in one.
    fn route_own_cursor(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args, cursor: u64) -> Flow {
        let position = position_of(cursor);
        let slot = (position >> SLOT_SHIFT) as usize;
        let own = (slot..SLOTS).find(|s| self.owns(*s as u16));
        let (position, home) = match own {
            Some(s) if s == slot => (position, s),
            Some(s) => ((s as u64) << SLOT_SHIFT, s),
            // Past the last slot: nothing more. Any of its own is the place to say so.
            None => ((SLOTS as u64) << SLOT_SHIFT, (0..SLOTS).find(|s| self.owns(*s as u16)).unwrap_or(0)),
        };
        let digits = cursor_of(position).to_string();
        let mut words = args.to_vec();
        words[1] = digits.as_bytes();
        self.route_key(conn, entry, &words, (0, (home as u64) << SLOT_SHIFT), false)
    }

    /// A command over the whole keyspace.
    fn route_whole(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args, merge: Merge) -> Flow {
        if conn.replies.outstanding() > 0 {
            return Flow::Hold;
        }
        // To a cluster client every core is a node that counts its own keys.
        let own = conn.endpoint && matches!(merge, Merge::Sum | Merge::Concat | Merge::Any);
        // Its reply waits for more than the cores.
        let saves = entry.spec.name == "flushall" && self.saves_flushes();
        if (own || self.shared.cores == 1) && self.locks.is_empty() && !saves {
            return self.execute_here(conn, entry, args, (0, 0));
        }
        let mode = if entry.writes() { Mode::Exclusive } else { Mode::Shared };
        let origin = self.origin(conn);
        let kind = Kind::Split { command: entry.index, merge, places: Places::new() };
        let cores = if own { self.id..self.id + 1 } else { 0..self.shared.cores };
        let ordered = self.submit_tx(origin, kind, |_, _| {
            let mut plan = Plan::default();
            for c in cores {
                let part = plan.part(c);
                part.need = whole(mode);
                part.args = owned(args);
            }
            plan
        });
        self.after_submit(conn, entry, origin, ordered)
    }

    /// What a command over keys needs of the lock queue.
    pub fn need_of(&self, entry: &Entry, args: Args, db: usize, (k, hash): (usize, u64)) -> Need {
        let mut need = Need::default();
        match entry.route {
            Route::Key(_) => need
                .keys
                .push(((db as u32, hash), if entry.writes() { Mode::Exclusive } else { self.mode(db, args[k], hash) })),
            Route::Keys if undeclared(entry.spec, args) => return whole(Mode::Exclusive),
            Route::Keys | Route::Script => {
                for p in places(entry.spec, args).unwrap_or_default() {
                    let key = Key::new(args[p.index]);
                    // XREADGROUP changes what its specification says it reads.
                    let reads = p.read_only() && !entry.writes();
                    let mode = if reads { self.mode(db, key.bytes, key.hash) } else { Mode::Exclusive };
                    need.keys.push(((db as u32, key.hash), mode));
                }
                if entry.spec.name == "copy" || entry.spec.name == "move" {
                    self.need_other_dbs(&mut need);
                }
            }
            _ => return whole(if entry.writes() { Mode::Exclusive } else { Mode::Shared }),
        }
        need
    }

    /// Commands that reach into another database need their keys in all of
    /// them, because which one is only known to the handler.
    pub fn need_other_dbs(&self, need: &mut Need) {
        let keys: Vec<u64> = need.keys.iter().map(|((_, h), _)| *h).collect();
        for db in 0..self.store.databases() as u32 {
            for h in &keys {
                if !need.keys.iter().any(|((d, g), _)| *d == db && g == h) {
                    need.keys.push(((db, *h), Mode::Exclusive));
                }
            }
        }
    }

    /// Readers of a key with a deadline need it exclusively: to find it
    /// expired is a write.
    pub fn mode(&self, db: usize, key: &[u8], hash: u64) -> Mode {
        let volatile = self.store.get(db, &Key { bytes: key, hash }).is_some_and(|e| e.volatile());
        if volatile { Mode::Exclusive } else { Mode::Shared }
    }
}

/// Gives a split part its arguments: those of one key.
fn add_arguments(plan: &mut Plan, core: usize, args: Args, place: usize, p: &Place) {
    let part = plan.part(core);
    if part.args.is_empty() {
        part.args.push(args[0].to_vec());
    }
    part.args.extend(args[p.index..(p.index + p.step).min(args.len())].iter().map(|a| a.to_vec()));
    part.places.push(place);
}

/// Does a request begin like an HTTP request or one of its lines?
fn speaks_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// Commands that run at once inside MULTI.
fn immediate(entry: &Entry) -> bool {
    matches!(entry.spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}
