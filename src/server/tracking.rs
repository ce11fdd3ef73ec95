//! Invalidation messages on their way.
//!
//! A key's readers are remembered by the core that owns it, as it executes the
//! command. When the key changes there, they are to hear of it; the messages
//! leave at the end of the turn ([`Core::send_invalidations`]), by the queue of
//! the mesh that the replies took. So a message never overtakes the reply that
//! handed out the value, and none is lost: what is read after the change is
//! remembered anew.
//!
//! A client hears of its own changes behind the reply to the command that made
//! them, and before the next one: after a command over several cores it waits for
//! their word ([`Core::hold_until_told`]). Only of commands that it sends without
//! waiting, to other cores, all replies may come first.
//!
//! A flush of everything is told once. Each core says so, behind its replies,
//! to all others; a core tells its clients when it has heard it from all.
//!
//! | bounds | by |
//! | --- | --- |
//! | keys remembered | `tracking-table-max-keys`; more are forgotten, which their readers are told |
//! | messages of a client that does not read | `client-output-buffer-limit` |

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;

use super::core::Core;
use super::msg::{Msg, Origin};
use super::registry::Entry;
use crate::base::Args;
use crate::base::memory;
use crate::base::slot::{Key, slot_of_hash};
use crate::command::effect::{Class, Event};
use crate::command::keys::places;
use crate::command::spec::flag;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ConnRef};
use crate::session::tracking::{Changed, Flushes, Follower, Prefixes, Table, Tracking};

/// Where RESP2 clients hear of invalid keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// What a message says.
#[derive(Clone)]
pub enum Invalid {
    Keys(Arc<Vec<Vec<u8>>>),
    /// Everything.
    All,
}

/// A message to one connection, or to whom it redirects.
struct Note {
    to: ConnRef,
    what: Invalid,
    /// Who made the change; 0 for nobody.
    by: u64,
    bcast: bool,
}

/// A key that was read while events were collected.
struct Away {
    key: Vec<u8>,
    /// How many events came before.
    after: usize,
}

/// Such keys, by what else became of them in the same transaction. One that was
/// read on both sides of a change is among both.
#[derive(Default)]
struct Reads {
    /// Changed after they were read: their readers are to hear of it.
    stale: Vec<Vec<u8>>,
    /// Read as they are now: what changed them before is known to the reader.
    fresh: Vec<Vec<u8>>,
}

impl Reads {
    /// Goes through the events once, however many reads there are.
    fn new<'a>(away: Vec<Away>, events: impl IntoIterator<Item = &'a Event>) -> Reads {
        let mut reads = Reads::default();
        if away.is_empty() {
            return reads;
        }
        let changes = events.into_iter().enumerate().filter(|(_, e)| e.class != Class::Miss);
        let last: HashMap<&[u8], usize, foldhash::fast::RandomState> = changes.map(|(i, e)| (&e.key[..], i)).collect();
        for Away { key, after } in away {
            let changed = last.get(&key[..]).is_some_and(|i| *i >= after);
            if changed { reads.stale.push(key) } else { reads.fresh.push(key) }
        }
        reads
    }
}

/// A core's part.
#[derive(Default)]
pub struct Tracker {
    table: Table,
    prefixes: Prefixes,
    /// Messages of this turn.
    notes: Vec<Note>,
    /// Flushes of this turn, to be told to all cores.
    flushed: Vec<u64>,
    heard: Flushes,
    /// Connections of this core that track.
    clients: Vec<ConnRef>,
    /// The client whose command runs, or ran last.
    pub actor: u64,
    /// Bytes that what was remembered of changed keys took.
    forgot_bytes: usize,
    /// Keys read inside a gathered transaction, for their owners.
    away: Vec<Away>,
    /// Keys are remembered here, or prefixes followed.
    listens: bool,
}

impl Tracker {
    /// Is anything to be done about changes?
    #[inline]
    pub fn listens(&self) -> bool {
        self.listens
    }

    fn update(&mut self) {
        self.listens = !self.table.is_empty() || !self.prefixes.is_empty();
    }

    /// Does a connection of this core track keys?
    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Is there something to send?
    #[inline]
    pub fn pending(&self) -> bool {
        !self.notes.is_empty() || self.prefixes.is_dirty() || !self.flushed.is_empty()
    }

    /// Bytes freed so far by forgetting keys of which somebody is told.
    pub fn forgot_bytes(&self) -> usize {
        self.forgot_bytes
    }

    /// How many keys read wait for their owners to hear of it.
    pub fn reads_away(&self) -> usize {
        self.away.len()
    }

    /// Forgets those after the first `n` of them.
    pub fn forget_away(&mut self, n: usize) {
        self.away.truncate(n);
    }

    /// Keys and items remembered, prefixes followed.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.table.len(), self.table.items(), self.prefixes.len())
    }
}

impl Core {
    /// A tracking client's command, or one that its script called, has run here:
    /// remembers the keys it read.
    #[cold]
    pub fn remember_reads(&mut self, entry: &Entry, args: Args, origin: &Origin) {
        if !entry.spec.is(flag::READONLY) || entry.spec.is(flag::PUBSUB) {
            return;
        }
        let found = places(entry.spec, args).unwrap_or_default();
        found.iter().for_each(|p| self.note_read(args[p.index], origin.conn));
        self.limit_tracking();
    }

    fn note_read(&mut self, key: &[u8], reader: ConnRef) {
        match &self.gathering {
            Some(events) => self.tracker.away.push(Away { key: key.to_vec(), after: events.len() }),
            None => self.remember_read(&Key::new(key), reader),
        }
    }

    fn remember_read(&mut self, key: &Key, reader: ConnRef) {
        if self.tracker.table.add(key, reader) {
            self.shared.tracked_keys.fetch_add(1, Ordering::Relaxed);
            self.tracker.listens = true;
        }
    }

    /// A script on its keys' core has ended: tells of what it did, and remembers
    /// what it read, in this order or that ([`Reads`]).
    pub fn tell_with_reads(&mut self, events: &[Event], reader: ConnRef) {
        let reads = Reads::new(std::mem::take(&mut self.tracker.away), events);
        self.remember_all(&reads.stale, reader);
        self.tell(events);
        self.remember_all(&reads.fresh, reader);
    }

    /// What a transaction has read of this core's keys is remembered.
    pub fn remember_all(&mut self, keys: &[Vec<u8>], reader: ConnRef) {
        if !keys.is_empty() {
            keys.iter().for_each(|key| self.remember_read(&Key::new(key), reader));
            self.limit_tracking();
        }
    }

    /// What a gathered transaction read and changed afterwards is remembered by
    /// the keys' owners before they hear of the events; what it left as it was
    /// read is returned, to be remembered after them.
    pub fn send_reads_home(&mut self, events: &[Event], reader: ConnRef, owner: impl Fn(u16) -> usize) -> Vec<Vec<u8>> {
        let reads = Reads::new(std::mem::take(&mut self.tracker.away), events);
        for key in reads.stale {
            let to = owner(slot_of_hash(Key::new(&key).hash));
            self.send(to, Msg::Call(Box::new(move |core: &mut Core| core.remember_all(&[key], reader))));
        }
        reads.fresh
    }

    /// Forgets keys while more are remembered than `tracking-table-max-keys`.
    /// Each is counted off before it goes: other cores look at the same number.
    pub fn limit_tracking(&mut self) {
        let max = self.settings.tracking_table_max_keys;
        let one_less = |n: usize| (n > max).then(|| n - 1);
        while max > 0
            && self.shared.tracked_keys.load(Ordering::Relaxed) > max
            && let Some(key) = self.tracker.table.any(&mut self.rng)
            && self.shared.tracked_keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        {
            self.take_and_tell(&key, 0);
        }
    }

    /// Keys have changed on this core.
    pub fn track_changes(&mut self, events: &[Event]) {
        for e in events {
            let by = match e.class {
                Class::Miss => continue,
                Class::Expired | Class::Evicted => 0,
                _ => self.tracker.actor,
            };
            self.invalidate(&e.key, by);
            self.tracker.prefixes.change(&e.key, by);
        }
    }

    /// Those who have read the key are to hear that it has changed.
    fn invalidate(&mut self, key: &[u8], by: u64) {
        if self.take_and_tell(key, by) {
            self.shared.tracked_keys.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The same without counting; whether anybody had read it.
    fn take_and_tell(&mut self, key: &[u8], by: u64) -> bool {
        let before = memory::counted_here();
        let Some(readers) = self.tracker.table.take(&Key::new(key)) else { return false };
        self.tracker.forgot_bytes += (before - memory::counted_here()).max(0) as usize;
        self.tracker.update();
        let keys = Arc::new(vec![key.to_vec()]);
        for to in readers {
            self.tracker.notes.push(Note { to, what: Invalid::Keys(keys.clone()), by, bcast: false });
        }
        true
    }

    /// A slot leaves this core: what is remembered of it would be lost.
    pub fn forget_reads_of_slot(&mut self, slot: u16) {
        if !self.tracker.table.is_empty() {
            for key in self.tracker.table.in_slot(slot) {
                self.invalidate(&key, 0);
            }
        }
    }

    /// This core's keyspace, or one database of it, has been emptied by a
    /// command; all cores' parts of it have the same `id`.
    pub fn track_flush(&mut self, id: u64) {
        let n = self.tracker.table.clear();
        self.tracker.update();
        self.shared.tracked_keys.fetch_sub(n, Ordering::Relaxed);
        if self.shared.tracking_clients.load(Ordering::Relaxed) > 0 {
            self.tracker.flushed.push(id);
        }
    }

    /// The end of the turn: messages follow the replies.
    #[cold]
    pub fn send_invalidations(&mut self) {
        let mut notes = std::mem::take(&mut self.tracker.notes);
        for (followers, changed) in self.tracker.prefixes.take_changed() {
            notes.extend(broadcast(&followers, &changed));
        }
        let mut by_core: Vec<Vec<Note>> = (0..self.shared.cores).map(|_| Vec::new()).collect();
        for n in notes {
            by_core[n.to.core as usize].push(n);
        }
        for (core, notes) in by_core.into_iter().enumerate().filter(|(_, notes)| !notes.is_empty()) {
            self.at_core(core, move |c| notes.into_iter().for_each(|n| c.take_note(n)));
        }
        for id in std::mem::take(&mut self.tracker.flushed) {
            for core in 0..self.shared.cores {
                self.at_core(core, move |c| c.hear_of_flush(id));
            }
        }
    }

    /// What there is to tell goes ahead of replies that are about to be sent to
    /// another core: there it waits behind them.
    #[inline]
    pub fn tell_before_replies(&mut self) {
        if self.tracker.pending() {
            self.telling(Core::send_invalidations);
        }
    }

    /// A connection of this core has the reply to a command that ran on what
    /// several cores had sent: if it hears of changed keys, it goes on when they
    /// have told it of theirs; likewise if there are keyspace events, which come
    /// before what it publishes next.
    pub fn hold_until_told(&mut self, conn: ConnRef, notified: bool) {
        let Some(mut c) = self.take_conn(conn) else { return };
        if (c.hears || notified) && !c.closing && c.blocked().is_none() {
            let seq = c.replies.expect(true);
            c.barrier = true;
            self.gather_quietly(Core::tell_before_replies, move |core, _| core.deliver(conn, seq, b""));
        }
        self.put_conn(c);
    }

    /// Runs something on a core: here at once, elsewhere behind all that was
    /// sent there.
    fn at_core(&mut self, core: usize, f: impl FnOnce(&mut Core) + Send + 'static) {
        if core == self.id {
            f(self);
        } else {
            // What it takes there counts as little as what it took here.
            self.send(core, Msg::Call(Box::new(move |core: &mut Core| core.telling(f))));
        }
    }

    fn hear_of_flush(&mut self, id: u64) {
        let cores = self.shared.cores;
        let heard = self.tracker.heard.entry(id).or_insert(0);
        *heard += 1;
        if *heard < cores {
            return;
        }
        self.tracker.heard.remove(&id);
        for to in self.tracker.clients.clone() {
            self.pass_on(to, &Invalid::All);
        }
    }

    /// A message for a connection of this core.
    fn take_note(&mut self, n: Note) {
        let tracking = self.conns.get(n.to.index).filter(|c| c.me == n.to).and_then(Conn::tracking);
        // What was remembered before the client changed its mode is void.
        let Some(t) = tracking.filter(|t| t.bcast == n.bcast) else { return };
        let own = self.conns.get(n.to.index).is_some_and(|c| c.id == n.by);
        if !(t.noloop && own) {
            self.pass_on(n.to, &n.what);
        }
    }

    /// Gives a message to a tracking connection of this core, or to the one it
    /// redirects to.
    fn pass_on(&mut self, to: ConnRef, what: &Invalid) {
        let Some(c) = self.conns.get(to.index).filter(|c| c.me == to) else { return };
        match c.tracking().map(|t| t.redirect) {
            Some(Some((id, target))) => {
                let what = what.clone();
                self.at_core(target.core as usize, move |core| core.pass_redirected(target, id, to, &what));
            }
            Some(None) => self.push_invalid(to, what, false),
            None => {}
        }
    }

    fn pass_redirected(&mut self, target: ConnRef, id: u64, from: ConnRef, what: &Invalid) {
        // One that has said QUIT gets nothing any more.
        let there =
            self.conns.get(target.index).is_some_and(|c| c.me == target && c.id == id && !c.closing && !c.close_after);
        if there {
            return self.push_invalid(target, what, true);
        }
        self.at_core(from.core as usize, move |core| core.redirection_broke(from, id));
    }

    fn redirection_broke(&mut self, conn: ConnRef, id: u64) {
        let Some(mut c) = self.take_conn(conn) else { return };
        if let Some(t) = c.extra.as_mut().and_then(|x| x.tracking.as_mut())
            && t.redirect.is_some_and(|(r, _)| r == id)
        {
            t.broken = true;
            if c.proto == Proto::Resp3 {
                let mut frame = Vec::new();
                let mut r = Reply::new(&mut frame, Proto::Resp3);
                r.push(2);
                r.bulk(b"tracking-redir-broken");
                r.int(id as i64);
                self.push_bytes(&mut c, &frame);
            }
        }
        self.put_conn(c);
    }

    /// Writes a message. RESP2 knows no pushes: only a subscriber to whom
    /// another connection redirects can be told.
    fn push_invalid(&mut self, to: ConnRef, what: &Invalid, redirected: bool) {
        let Some(mut c) = self.take_conn(to) else { return };
        let resp3 = c.proto == Proto::Resp3;
        if resp3 || (redirected && c.subscribed()) {
            let mut frame = Vec::new();
            let mut r = Reply::new(&mut frame, c.proto);
            if resp3 {
                r.push(2);
                r.bulk(b"invalidate");
            } else {
                r.array(3);
                r.bulk(b"message");
                r.bulk(CHANNEL);
            }
            match what {
                Invalid::Keys(keys) => {
                    r.array(keys.len());
                    keys.iter().for_each(|k| r.bulk(k));
                }
                Invalid::All => r.null(),
            }
            self.push_bytes(&mut c, &frame);
        }
        self.put_conn(c);
    }

    /// Turns tracking on, or changes how it is done; returns what was before.
    pub fn start_tracking(&mut self, conn: &mut Conn, mut new: Tracking) {
        let x = conn.extra();
        match x.tracking.take() {
            Some(old) => new.prefixes.extend(old.prefixes),
            None => {
                self.tracker.clients.push(conn.me);
                self.shared.tracking_clients.fetch_add(1, Ordering::Relaxed);
            }
        }
        conn.extra().tracking = Some(Box::new(new));
        conn.update_special();
    }

    /// Turns tracking off.
    pub fn forget_tracking(&mut self, conn: &mut Conn) {
        let Some(old) = conn.extra.as_mut().and_then(|x| x.tracking.take()) else { return };
        conn.update_special();
        let me = conn.me;
        self.tracker.clients.retain(|c| *c != me);
        self.shared.tracking_clients.fetch_sub(1, Ordering::Relaxed);
        if old.bcast {
            self.leave_prefixes(me, old.prefixes.into_iter().collect());
        }
    }

    /// A connection of this core follows prefixes, as far as this core knows.
    pub fn follow(&mut self, names: &[Vec<u8>], follower: Follower) {
        names.iter().for_each(|name| self.tracker.prefixes.add(name, follower));
        self.tracker.update();
    }

    /// A connection follows prefixes no longer, on all cores.
    pub fn leave_prefixes(&mut self, conn: ConnRef, names: Vec<Vec<u8>>) {
        self.broadcast(move |c| {
            names.iter().for_each(|name| c.tracker.prefixes.remove(name, conn));
            c.tracker.update();
        });
    }

    /// A connection by its client id, if it is one of this core.
    pub fn place_of_client(&self, id: u64) -> Option<ConnRef> {
        self.conns.iter().find(|c| c.id == id && !c.closing && !c.close_after).map(|c| c.me)
    }

    /// The command after CLIENT CACHING has run.
    #[cold]
    pub fn end_caching(&mut self, conn: &mut Conn) {
        if let Some(t) = conn.extra.as_mut().and_then(|x| x.tracking.as_mut()) {
            t.caching = false;
        }
        conn.update_special();
    }
}

/// One message for each follower of a prefix, without its own changes where it
/// does not want them.
fn broadcast(followers: &[Follower], changed: &Changed) -> Vec<Note> {
    let all = Arc::new(changed.keys().cloned().collect::<Vec<_>>());
    let note = |f: &Follower| {
        let keys = match f.except {
            None => all.clone(),
            Some(id) => Arc::new(changed.iter().filter(|(_, by)| **by != id).map(|(k, _)| k.clone()).collect()),
        };
        (!keys.is_empty()).then_some(Note { to: f.conn, what: Invalid::Keys(keys), by: 0, bcast: true })
    };
    followers.iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &str, class: Class) -> Event {
        Event { class, name: "set", db: 0, key: key.into() }
    }

    fn away(key: &str, after: usize) -> Away {
        Away { key: key.into(), after }
    }

    #[test]
    fn a_read_is_stale_when_a_change_follows_it() {
        let events = [event("a", Class::String), event("b", Class::Miss), event("c", Class::Expired)];
        let reads = vec![away("a", 0), away("a", 1), away("b", 0), away("c", 2), away("c", 3), away("d", 0)];
        let reads = Reads::new(reads, &events);
        assert_eq!(reads.stale, [b"a", b"c"]);
        assert_eq!(reads.fresh, [b"a", b"b", b"c", b"d"]);
        // A change before the read does not hide one after it, nor does a miss.
        let events = [event("a", Class::String), event("a", Class::String), event("a", Class::Miss)];
        let reads = Reads::new(vec![away("a", 1), away("a", 2), away("a", 9)], &events);
        assert_eq!((reads.stale.len(), reads.fresh.len()), (1, 2));
    }

    /// A script of many reads and writes took time by their product.
    #[test]
    fn events_are_looked_at_once_however_many_reads_there_are() {
        let events: Vec<Event> = (0..1000).map(|i| event(&format!("k{i}"), Class::Generic)).collect();
        let many = (0..1000).map(|i| away(&format!("k{i}"), 500)).collect();
        let mut looked = 0;
        let reads = Reads::new(many, events.iter().inspect(|_| looked += 1));
        assert_eq!((reads.stale.len(), reads.fresh.len()), (500, 500));
        assert_eq!(looked, events.len());
        looked = 0;
        Reads::new(Vec::new(), events.iter().inspect(|_| looked += 1));
        assert_eq!(looked, 0, "without reads nothing is to be found out");
    }
}
