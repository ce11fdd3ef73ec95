//! Transactions over several cores, as the cores carry them out.
//!
//! A transaction has a part on every core that it touches. Each core places
//! its part in its lock queue in the order of its inbox. Once granted,
//!
//! - a *split* part runs the command on this core's keys and reports its reply;
//! - a *gather* part moves the entries of its keys to the coordinator, which
//!   runs the command (or the whole of MULTI/EXEC) on them as if they were its
//!   own, and moves them back with the release;
//! - a *migrate* part hands over copies of its keys' values, for another server;
//! - a *move* part hands a slot over to its new owner.
//!
//! All locks are held until the coordinator has heard from every part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::applying::{Apply, Work};
use super::core::Core;
use super::exec::{Who, note_written_elsewhere};
use super::migrating::{Order, Payload};
use super::msg::{Msg, Origin};
use super::mutation::{Mutation, broken, reverse};
use super::registry::registry;
use crate::base::clock;
use crate::base::slot::{Key, slot_of_hash};
use crate::command::Merge;
use crate::command::effect::{Block, Event};
use crate::command::keys::Places;
use crate::command::spec::flag;
use crate::resp::{Reply, value};
use crate::session::conn::ConnRef;
use crate::session::watch::{Moved, Token};
use crate::snapshot::job::Job;
use crate::store::entry::Entry;
use crate::store::{SlotPack, Store};
use crate::transaction::locks::{LockKey, Mode, Need, Seq, Span};

/// What a transaction does.
pub enum Kind {
    /// Every part runs this command on its own keys.
    Split { command: usize, merge: Merge, places: Places },
    /// The coordinator runs this command.
    Gather { command: usize, args: Vec<Vec<u8>> },
    /// The coordinator runs a script, with keys that it has asked for.
    Script { command: usize, args: Vec<Vec<u8>>, more: Vec<super::scripts::Named> },
    /// The coordinator runs the connection's queued commands.
    Exec,
    /// The whole keyspace is written down, or only waited for.
    Image(super::image::Image),
    /// Commands are applied, not served.
    Apply(Apply),
    /// Keys go to another server.
    Migrate(Order),
    /// A slot changes its core.
    Move { slot: u16, from: usize, to: usize, epoch: u32 },
    /// A snapshot's cut.
    Cut(Arc<Job>),
}

/// One core's part.
#[derive(Default)]
pub struct Part {
    pub core: usize,
    pub need: Need,
    /// Keys: database, hash, bytes.
    pub keys: Vec<(usize, u64, Vec<u8>)>,
    /// Arguments of a split part, and the places of its keys among all keys.
    pub args: Vec<Vec<u8>>,
    pub places: Vec<usize>,
    /// A watch that this core votes on.
    pub watch: Option<Token>,
}

/// See the module's description.
pub struct Tx {
    pub id: u64,
    pub coordinator: usize,
    /// The one time of all parts, Unix milliseconds.
    pub now: u64,
    pub origin: Origin,
    pub kind: Kind,
    pub parts: Vec<Part>,
    /// Owner of every slot when the transaction was ordered.
    pub map: Arc<Vec<u16>>,
    pub stage: Stage,
}

/// How far a transaction has come, as all its cores see it. One that is called
/// off goes through all its locks like any other, but does nothing.
#[derive(Default)]
pub struct Stage(AtomicU8);

impl Stage {
    const BEGUN: u8 = 1;
    const CALLED_OFF: u8 = 2;
    const ENDED: u8 = 3;

    fn step(&self, from: &[u8], to: u8) -> bool {
        let next = |now: u8| from.contains(&now).then_some(to);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// (A part of) it is to run: false if it was called off.
    pub fn begin(&self) -> bool {
        self.step(&[0, Stage::BEGUN], Stage::BEGUN)
    }

    /// It is not to run; false if that is too late. What only reads may have
    /// begun, as long as nobody has heard of it.
    pub fn call_off(&self, reads: bool) -> bool {
        let from: &[u8] = if reads { &[0, Stage::BEGUN] } else { &[0] };
        self.step(from, Stage::CALLED_OFF)
    }

    /// All its parts have run; false if it was called off.
    fn end(&self) -> bool {
        self.step(&[0, Stage::BEGUN], Stage::ENDED)
    }
}

/// Entries or slots in a message.
#[derive(Default)]
pub enum Cargo {
    #[default]
    Nothing,
    Entries(Vec<(usize, u64, Entry)>),
    Slots(Vec<SlotPack>),
    Slot(Box<(SlotPack, Moved)>),
    /// Copies, for another server.
    Payloads(Vec<Payload>),
}

/// What the coordinator knows of a transaction in flight.
#[derive(Default)]
pub struct Progress {
    heard: usize,
    refused: bool,
    replies: Vec<Vec<u8>>,
    /// Ticks that the parts took.
    spent: u64,
    /// Some part has put something into the journal.
    journaled: bool,
    cargo: Vec<(usize, Cargo)>,
}

/// What stands in a lock queue.
pub enum Waiter {
    Parked(Box<super::msg::Parked>),
    Part(Arc<Tx>, usize),
}

/// A transaction's parts, while they are made.
#[derive(Default)]
pub struct Plan {
    pub parts: Vec<Part>,
}

impl Plan {
    pub fn part(&mut self, core: usize) -> &mut Part {
        let at = match self.parts.iter().position(|p| p.core == core) {
            Some(i) => i,
            None => {
                self.parts.push(Part { core, ..Part::default() });
                self.parts.len() - 1
            }
        };
        &mut self.parts[at]
    }

    /// Adds a key, once.
    pub fn key(&mut self, core: usize, db: usize, hash: u64, key: &[u8], mode: Mode) {
        let part = self.part(core);
        let lock: LockKey = (db as u32, hash);
        match part.need.keys.iter_mut().find(|(k, _)| *k == lock) {
            Some((_, m)) if mode == Mode::Exclusive => *m = Mode::Exclusive,
            Some(_) => {}
            None => part.need.keys.push((lock, mode)),
        }
        if !part.keys.iter().any(|(d, _, k)| *d == db && k == key) {
            part.keys.push((db, hash, key.to_vec()));
        }
    }
}

impl Core {
    /// Orders a transaction; `plan` makes its parts by the slot map that holds
    /// at its place in the order. False when it must be tried again later.
    pub fn submit_tx(
        &mut self,
        origin: Origin,
        kind: Kind,
        plan: impl FnOnce(&Arc<Vec<u16>>, &mut Kind) -> Plan,
    ) -> bool {
        let shared = self.shared.clone();
        let me = self.id;
        let mut kind = kind;
        let cores = shared.sequencer.submit(|stamp, map| {
            let stays = &shared.saves.slots_stay;
            let mut refused = false;
            match &kind {
                Kind::Move { .. } if stays.load(Ordering::Relaxed) => refused = true,
                Kind::Move { slot, to, .. } => Arc::make_mut(map)[*slot as usize] = *to as u16,
                Kind::Cut(_) => stays.store(true, Ordering::Relaxed),
                _ => {}
            }
            let parts = if refused { Vec::new() } else { plan(map, &mut kind).parts };
            let cores: Vec<usize> = parts.iter().map(|p| p.core).collect();
            let id = shared.next_tx();
            let (now, map, stage) = (clock::unix_ms(stamp), map.clone(), Stage::default());
            let tx = Tx { id, coordinator: me, now, origin, kind, parts, map, stage };
            (Arc::new(tx), cores.clone(), cores)
        });
        let Some(cores) = cores.filter(|c| !c.is_empty()) else { return false };
        self.stats.transactions += 1;
        for c in cores {
            if c != me {
                self.wake_later(c);
            }
        }
        true
    }

    /// Takes the inbox over into the lock queue.
    pub fn place_inbox(&mut self) {
        if !self.shared.sequencer.has_mail(self.id) && self.scripts.arrived.is_empty() {
            return;
        }
        let mut arrived = std::mem::take(&mut self.scripts.arrived);
        arrived.append(&mut self.shared.sequencer.take(self.id));
        if broken(Mutation::NoAgreedOrder) && self.id % 2 == 1 {
            reverse(&mut arrived, |tx| matches!(tx.kind, Kind::Split { .. }));
        }
        for tx in arrived {
            let at = tx.parts.iter().position(|p| p.core == self.id).expect("ordered for this core");
            let mut need = tx.parts[at].need.clone();
            if broken(Mutation::NoReadLocks) && matches!(tx.kind, Kind::Split { .. }) {
                need.keys.retain(|(_, mode)| *mode == Mode::Exclusive);
            }
            let gathers = matches!(tx.kind, Kind::Gather { .. } | Kind::Script { .. } | Kind::Exec);
            if broken(Mutation::NoGatherLocks) && gathers {
                need.keys.clear();
            }
            self.lock_time(tx.now);
            let seq = self.locks.push(need, Waiter::Part(tx, at));
            self.fresh_parts.push(seq);
        }
    }

    /// Tries the parts that came with this turn's inbox.
    pub fn grant_fresh(&mut self) {
        if self.fresh_parts.is_empty() && self.candidates.is_empty() && !self.blocking.has_ready() {
            return;
        }
        let fresh = std::mem::take(&mut self.fresh_parts);
        self.pump(fresh);
    }

    /// Lets entries of the lock queue go ahead where nothing is in their way.
    /// What that sets free goes ahead in the same loop, not deeper in the
    /// stack: thousands of commands may stand behind one key.
    pub fn pump(&mut self, candidates: Vec<Seq>) {
        self.candidates.extend(candidates);
        if self.pumping {
            return;
        }
        self.pumping = true;
        while let Some(seq) = self.candidates.pop_front() {
            self.let_go_ahead(seq);
        }
        self.pumping = false;
        if self.blocking.has_ready() {
            self.serve_ready();
        }
    }

    fn let_go_ahead(&mut self, seq: Seq) {
        self.upgrade_volatile(seq);
        if !self.locks.may_run(seq) {
            return;
        }
        match self.locks.payload(seq) {
            Some(Waiter::Part(tx, at)) => {
                let (tx, at) = (tx.clone(), *at);
                self.locks.grant(seq);
                self.held.insert(tx.id, seq);
                self.granted(tx, at);
            }
            Some(Waiter::Parked(_)) => {
                if let Some((Waiter::Parked(p), next)) = self.locks.remove(seq) {
                    self.run_parked(*p);
                    self.candidates.extend(next);
                }
            }
            None => {}
        }
    }

    /// A key with a deadline is needed exclusively even by readers, because
    /// finding it expired is a write.
    fn upgrade_volatile(&mut self, seq: Seq) {
        let Some(Waiter::Part(tx, at)) = self.locks.payload(seq) else { return };
        let (tx, at) = (tx.clone(), *at);
        for (db, hash, key) in &tx.parts[at].keys {
            let volatile = self.store.get(*db, &Key { bytes: key, hash: *hash }).is_some_and(Entry::volatile);
            if volatile {
                self.locks.upgrade(seq, (*db as u32, *hash));
            }
        }
    }

    pub fn granted(&mut self, tx: Arc<Tx>, at: usize) {
        match &tx.kind {
            Kind::Split { command, .. } => {
                let done = self.run_part(&tx, at, *command);
                if broken(Mutation::NoHold) || broken(Mutation::NoAgreedOrder) {
                    self.unlock(tx.id);
                }
                self.tell_before_replies();
                self.send(tx.coordinator, done);
            }
            Kind::Apply(a) if matches!(a.work, Work::Shares(_)) => {
                let done = self.run_applied(&tx, at, a);
                self.send(tx.coordinator, done);
            }
            Kind::Image(image) => {
                let done = self.run_image(&tx, at, image);
                self.send(tx.coordinator, done);
            }
            Kind::Gather { .. } | Kind::Script { .. } | Kind::Exec | Kind::Apply(_) => {
                if self.wait_for_snapshot(&tx, at) {
                    return;
                }
                let vote = self.vote(&tx.parts[at], tx.now);
                let cargo = self.load(&tx.parts[at]);
                self.send(tx.coordinator, Msg::Locked { tx: tx.clone(), part: at, vote, cargo });
            }
            Kind::Migrate(order) => {
                let cargo = self.pack(&tx, order);
                self.send(tx.coordinator, Msg::Locked { tx: tx.clone(), part: at, vote: true, cargo });
            }
            Kind::Move { slot, from, to, epoch } => self.move_granted(tx.clone(), *slot, (*from, *to), *epoch),
            Kind::Cut(job) => {
                self.cut_here(job);
                let done = Msg::Done { tx: tx.clone(), part: at, reply: Vec::new(), spent: 0, journaled: false };
                self.send(tx.coordinator, done);
            }
        }
    }

    fn vote(&self, part: &Part, now: u64) -> bool {
        let Some(token) = part.watch else { return true };
        self.watches.vote(token, |db, hash, key| self.gone(db, hash, key, now))
    }

    /// Does a key no longer exist at `now`?
    pub fn gone(&self, db: usize, hash: u64, key: &[u8], now: u64) -> bool {
        self.store.get(db, &Key { bytes: key, hash }).is_none_or(|e| e.expired(now))
    }

    /// Runs a split command on this core's keys.
    fn run_part(&mut self, tx: &Arc<Tx>, at: usize, command: usize) -> Msg {
        if !tx.stage.begin() {
            return Msg::Done { tx: tx.clone(), part: at, reply: Vec::new(), spent: 0, journaled: false };
        }
        let part = &tx.parts[at];
        let entry = &registry().entries[command];
        let args: Vec<&[u8]> = part.args.iter().map(|a| &a[..]).collect();
        let hash = part.keys.first().map_or(0, |k| k.1);
        let mut reply = Vec::new();
        self.begin_part(entry, at);
        let spent = self.run_share(entry, &args, &tx.origin, tx.now, (1, hash), &mut reply);
        let journaled = self.end_part(entry, tx.id);
        Msg::Done { tx: tx.clone(), part: at, reply, spent, journaled }
    }

    /// Takes the entries that a gather part sends.
    fn load(&mut self, part: &Part) -> Cargo {
        if part.need.wide.is_some() {
            self.slots_away(true);
            return Cargo::Slots(self.store.take_all_slots());
        }
        let mut out = Vec::new();
        for (db, hash, key) in &part.keys {
            let exclusive = part.need.keys.iter().any(|(k, m)| *k == (*db as u32, *hash) && *m == Mode::Exclusive);
            if exclusive && let Some(e) = self.store.take(*db, &Key { bytes: key, hash: *hash }) {
                out.push((*db, *hash, e));
            }
        }
        if out.is_empty() { Cargo::Nothing } else { Cargo::Entries(out) }
    }

    /// A part has sent its entries.
    pub fn on_locked(&mut self, tx: Arc<Tx>, part: usize, vote: bool, cargo: Cargo) {
        let p = self.progress.entry(tx.id).or_default();
        p.heard += 1;
        p.refused |= !vote;
        p.cargo.push((part, cargo));
        if p.heard < tx.parts.len() {
            return;
        }
        let p = self.progress.remove(&tx.id).unwrap_or_default();
        if matches!(tx.kind, Kind::Migrate(_)) {
            return self.send_away(&tx, p.cargo);
        }
        self.run_gathered(&tx, p.refused, p.cargo);
    }

    /// A part has run.
    pub fn on_done(&mut self, tx: Arc<Tx>, part: usize, reply: Vec<u8>, spent: u64, journaled: bool) {
        let parts = tx.parts.len();
        let p = self.progress.entry(tx.id).or_default();
        p.replies.resize(parts, Vec::new());
        p.replies[part] = reply;
        p.spent += spent;
        p.journaled |= journaled;
        p.heard += 1;
        if p.heard < parts {
            return;
        }
        let p = self.progress.remove(&tx.id).unwrap_or_default();
        // Perhaps nobody keeps a journal any more.
        if p.journaled && self.fx.wants_stream {
            self.journal.commit(tx.id);
        }
        if let Kind::Split { merge, places, command } = &tx.kind
            && tx.stage.end()
        {
            let reply = merge_replies(*merge, places.len(), &tx, &p.replies, &mut self.rng);
            let entry = &registry().entries[*command];
            let failed = reply.first() == Some(&b'-');
            let args = joined_args(&tx.parts, places.len());
            self.account_spent(entry, p.spent, failed, &args, Who::Ref(tx.origin.conn));
            if entry.spec.name == "flushall" && !failed && self.saves_flushes() {
                self.reply_when_saved(tx.origin.conn, tx.origin.seq, reply);
            } else {
                self.finish_conn(tx.origin.conn, tx.origin.seq, &reply);
            }
        }
        if let Kind::Migrate(_) = &tx.kind {
            self.end_migration(&tx, &p.replies[0]);
        }
        if let Kind::Image(image) = &tx.kind {
            self.image_is_made(image);
        }
        if let Kind::Apply(a) = &tx.kind {
            let (ticket, error) = (a.ticket, p.replies.into_iter().find(|r| !r.is_empty()).unwrap_or_default());
            self.tell_service(move |s| s.applied(ticket, error));
        }
        if let Kind::Cut(job) = &tx.kind {
            self.cut_made(job);
            if job.plan.hold {
                self.held_cut = Some(tx);
                return;
            }
        }
        self.release_all(tx);
    }

    /// Runs a gathered command or EXEC, and sends everything home.
    fn run_gathered(&mut self, tx: &Arc<Tx>, refused: bool, cargo: Vec<(usize, Cargo)>) {
        let mut scratch = self.scratch.take().unwrap_or_else(|| Box::new(Store::new(self.store.databases())));
        let whole = tx.parts.iter().any(|p| p.need.wide.is_some());
        for (_, c) in cargo {
            match c {
                Cargo::Entries(list) => list.into_iter().for_each(|(db, hash, e)| scratch.put_hashed(db, hash, e)),
                Cargo::Slots(packs) => packs.into_iter().for_each(|p| scratch.install_slot(p)),
                Cargo::Nothing | Cargo::Slot(_) | Cargo::Payloads(_) => {}
            }
        }
        std::mem::swap(&mut self.store, &mut scratch);
        self.visiting = true;
        self.store.visit_cut(&mut scratch);
        self.gathering = Some(Vec::new());
        match &tx.kind {
            Kind::Gather { .. } | Kind::Script { .. } | Kind::Exec if !tx.stage.begin() => {}
            Kind::Gather { command, args } => self.run_gather_command(tx, *command, args),
            Kind::Script { command, args, more } => self.run_gather_script(tx, *command, args, more),
            Kind::Exec => self.run_gather_exec(tx, refused),
            Kind::Apply(a) => self.run_applied_together(tx, a),
            _ => {}
        }
        let events = self.gathering.take().unwrap_or_default();
        self.store.leave_cut(&mut scratch);
        std::mem::swap(&mut self.store, &mut scratch);
        self.visiting = false;
        self.store.absorb(&mut scratch);
        self.reopen_snapshot();
        let block = self.fx.block.take().map(Arc::new);
        let notified = self.notifying && !events.is_empty();
        let told = !events.is_empty() || matches!(tx.kind, Kind::Exec | Kind::Script { .. });
        self.send_home(tx, &mut scratch, (events, block.clone()), whole);
        if let Some(block) = block {
            self.blocked_over(tx, &block);
        }
        self.scratch = Some(scratch);
        if told {
            self.hold_until_told(tx.origin.conn, notified);
        }
    }

    fn run_gather_command(&mut self, tx: &Tx, command: usize, args: &[Vec<u8>]) {
        let entry = &registry().entries[command];
        let args: Vec<&[u8]> = args.iter().map(|a| &a[..]).collect();
        let mut out = Vec::new();
        self.fx.may_block = entry.spec.is(flag::BLOCKING);
        self.run_command(entry, &args, &tx.origin, tx.now, (0, 0), &mut out);
        self.fx.may_block = false;
        if self.fx.block.is_none() {
            self.finish_conn(tx.origin.conn, tx.origin.seq, &out);
        }
    }

    fn run_gather_exec(&mut self, tx: &Tx, refused: bool) {
        let Some(mut conn) = self.take_conn(tx.origin.conn) else { return };
        conn.replies.withdraw(tx.origin.seq);
        conn.barrier = false;
        if refused {
            self.discard_multi(&mut conn);
            self.show_exec(&conn);
            conn.reply(|r| r.null_array());
        } else {
            self.exec_queue(&mut conn, tx.now);
        }
        self.mark_dirty(&mut conn);
        self.mark_ready(&mut conn);
        self.put_conn(conn);
    }

    /// Sends entries and events back to the cores of their slots.
    fn send_home(
        &mut self,
        tx: &Arc<Tx>,
        scratch: &mut Store,
        (events, block): (Vec<Event>, Option<Arc<Block>>),
        whole: bool,
    ) {
        let fresh = self.send_reads_home(&events, tx.origin.conn, |slot| tx.map[slot as usize] as usize);
        let n = tx.parts.len();
        let mut entries: Vec<Vec<(usize, u64, Entry)>> = (0..n).map(|_| Vec::new()).collect();
        let mut slots: Vec<Vec<SlotPack>> = (0..n).map(|_| Vec::new()).collect();
        let part_of = |slot: u16| {
            let core = tx.map[slot as usize] as usize;
            tx.parts.iter().position(|p| p.core == core).expect("a key lies on a core of its transaction")
        };
        if whole {
            for pack in scratch.take_all_slots() {
                slots[part_of(pack.slot)].push(pack);
            }
        } else {
            for (db, hash, e) in scratch.drain_entries() {
                entries[part_of(slot_of_hash(hash))].push((db, hash, e));
            }
        }
        let mut told: Vec<Vec<Event>> = (0..n).map(|_| Vec::new()).collect();
        for e in events {
            let slot = slot_of_hash(Key::new(&e.key).hash);
            told[part_of(slot)].push(e);
        }
        let mut read: Vec<Vec<Vec<u8>>> = (0..n).map(|_| Vec::new()).collect();
        for key in fresh {
            read[part_of(slot_of_hash(Key::new(&key).hash))].push(key);
        }
        for (i, (((list, packs), events), reads)) in entries.into_iter().zip(slots).zip(told).zip(read).enumerate() {
            let cargo = if whole { Cargo::Slots(packs) } else { Cargo::Entries(list) };
            let block = block.clone();
            self.send(tx.parts[i].core, Msg::Release { tx: tx.clone(), part: i, cargo, events, reads, block });
        }
    }

    /// A transaction is over for this core.
    pub fn on_release(
        &mut self,
        tx: Arc<Tx>,
        part: usize,
        cargo: Cargo,
        (events, reads, block): (Vec<Event>, Vec<Vec<u8>>, Option<Arc<Block>>),
    ) {
        match cargo {
            Cargo::Entries(list) => list.into_iter().for_each(|(db, hash, e)| self.store.put_hashed(db, hash, e)),
            Cargo::Slots(packs) => {
                packs.into_iter().for_each(|p| self.store.install_slot(p));
                self.slots_away(false);
            }
            Cargo::Nothing | Cargo::Slot(_) | Cargo::Payloads(_) => {}
        }
        if let Some(block) = block {
            self.leave_word(&tx, part, &block);
        }
        self.tracker.actor = tx.origin.client;
        self.tell(&events);
        self.remember_all(&reads, tx.origin.conn);
        self.unlock(tx.id);
    }

    /// Gives a transaction's locks up and lets the next go ahead.
    pub fn unlock(&mut self, tx: u64) {
        if let Some(seq) = self.held.remove(&tx)
            && let Some((_, next)) = self.locks.remove(seq)
        {
            self.pump(next);
        }
    }

    /// Ends a connection's request over several cores.
    pub fn finish_conn(&mut self, conn: ConnRef, seq: u32, reply: &[u8]) {
        let Some(mut c) = self.take_conn(conn) else { return };
        c.fill(seq, reply);
        c.barrier = false;
        note_written_elsewhere(&mut c, self.stamp);
        self.unblocked(&mut c, true);
        self.mark_dirty(&mut c);
        self.mark_ready(&mut c);
        self.put_conn(c);
    }
}

/// The arguments of a split command, from those of its parts.
fn joined_args(parts: &[Part], keys: usize) -> Vec<&[u8]> {
    let Some(first) = parts.first() else { return Vec::new() };
    if keys == 0 {
        return first.args.iter().map(|a| &a[..]).collect();
    }
    let mut by_key: Vec<&[Vec<u8>]> = vec![&[]; keys];
    for p in parts {
        let step = (p.args.len() - 1) / p.places.len().max(1);
        for (place, args) in p.places.iter().zip(p.args[1..].chunks(step.max(1))) {
            by_key[*place] = args;
        }
    }
    std::iter::once(&first.args[0]).chain(by_key.into_iter().flatten()).map(|a| &a[..]).collect()
}

/// Makes one reply of the parts' replies; the first error wins.
fn merge_replies(merge: Merge, keys: usize, tx: &Tx, replies: &[Vec<u8>], rng: &mut crate::base::rng::Rng) -> Vec<u8> {
    if let Some(e) = replies.iter().find(|r| r.first() == Some(&b'-')) {
        return e.clone();
    }
    let mut out = Vec::new();
    let mut r = Reply::new(&mut out, tx.origin.proto);
    match merge {
        Merge::Ok => r.ok(),
        Merge::Sum => r.int(replies.iter().filter_map(|x| value::integer(x)).sum()),
        Merge::Concat => {
            let parts: Vec<(usize, &[u8])> = replies.iter().filter_map(|x| value::elements(x)).collect();
            r.array(parts.iter().map(|p| p.0).sum());
            parts.iter().for_each(|p| r.raw(p.1));
        }
        Merge::Elements => {
            let mut at: Vec<&[u8]> = vec![b""; keys];
            for (part, reply) in tx.parts.iter().zip(replies) {
                let Some((_, mut rest)) = value::elements(reply) else { continue };
                for place in &part.places {
                    let n = value::skip(rest).unwrap_or(rest.len());
                    at[*place] = &rest[..n];
                    rest = &rest[n..];
                }
            }
            r.array(keys);
            at.iter().for_each(|v| r.raw(v));
        }
        Merge::Digest => r.simple(&crate::command::debug::join_digests(replies.iter().map(|x| &x[..]))),
        Merge::Any => {
            let some: Vec<&Vec<u8>> =
                replies.iter().filter(|x| !matches!(x.get(..3), Some(b"$-1" | b"_\r\n"))).collect();
            match some.get(rng.below(some.len())) {
                Some(x) => r.raw(x),
                None => r.null(),
            }
        }
    }
    out
}

/// A lock on a whole core.
pub fn whole(mode: Mode) -> Need {
    Need { wide: Some((Span::Core, mode)), ..Need::default() }
}
