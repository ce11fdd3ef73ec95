//! Blocking commands: BLPOP and its kin, over keys of one core or of several.
//!
//! A blocking command is always run by message, even on its connection's own
//! core, and is the only one outstanding on its connection. Three parties:
//!
//! - The **home** is the connection's core. It keeps the command's arguments
//!   ([`Blocked`]) until the reply.
//! - All keys on one core, the **owner**: that core runs the command. If it has
//!   to wait, the owner keeps it ([`Waiting::Here`]), serves it when a key gets
//!   something, and ends it when its time is up: it alone decides which.
//! - Keys on several cores: the home makes the attempt, as a transaction. If it
//!   has to wait, the release of the locks leaves word of it on every core
//!   ([`Waiting::Elsewhere`]), so that no change is missed. A core whose key
//!   gets something *offers* it: the home tries again, and those who wait
//!   behind for this key stay behind until it has. Here the home decides.
//!
//! Who waits for a key is served in the order of arrival, after the command,
//! transaction or script that changed the key, and never while it is locked.
//! When a slot moves, who waits for its keys is sent home and asks again.

use std::collections::VecDeque;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::core::Core;
use super::exec::owned;
use super::msg::{Head, Job, Msg, Origin, Parked};
use super::registry::{Entry, registry};
use super::serve::Flow;
use super::tx::{Kind, Tx};
use crate::base::Args;
use crate::base::slot::{Key, slot_of};
use crate::command::effect::Block;
use crate::command::keys::places;
use crate::command::spec::Group;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::session::conn::{Blocked, Conn, ConnRef, Place};
use crate::store::entry::Value;
use crate::transaction::waiters::{Id, Name, Waiter, Waiters};

/// Of all connections: which, and which of its requests.
type Who = (ConnRef, u32);

/// One who waits on this core.
pub enum Waiting {
    /// For keys that all lie here.
    Here(Parked),
    /// For keys of other cores as well, and by which command.
    Elsewhere(Who, usize),
    /// A connection of this core whose command is over several cores; only for
    /// its deadline.
    Home(Who, Proto),
}

/// Numbers of blocked commands, for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    pub keys: usize,
    /// Keys whose deletion would wake somebody.
    pub keys_on_nokey: usize,
    pub deadlines: usize,
}

/// A core's blocked commands.
#[derive(Default)]
pub struct Blocking {
    waiters: Waiters<Waiting>,
    /// [`Waiting::Here`] and [`Waiting::Elsewhere`], and [`Waiting::Home`].
    parts: HashMap<Who, Id, foldhash::fast::RandomState>,
    homes: HashMap<Who, Id, foldhash::fast::RandomState>,
    /// Keys that have changed, and behind whom to go on.
    ready: VecDeque<(Name, Option<Id>)>,
    /// Keys that were offered, and to whom.
    offered: HashMap<Name, Id, foldhash::fast::RandomState>,
    serving: bool,
}

impl Blocking {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Commands that wait, each counted on one core.
    pub fn len(&self) -> usize {
        self.waiters.iter().filter(|w| !matches!(w, Waiting::Elsewhere(..))).count()
    }

    pub fn waits(&self) -> Waits {
        let on_nokey = |w: &Waiting| {
            let command = match w {
                Waiting::Here(request) => match request.head.job {
                    Job::Command(command) => command,
                    Job::Watch(_) => return false,
                },
                Waiting::Elsewhere(_, command) => *command,
                Waiting::Home(..) => return false,
            };
            registry().entries[command].spec.name == "xreadgroup"
        };
        let (keys, deadlines) = self.waiters.sizes();
        Waits { keys, keys_on_nokey: self.waiters.keys_of(on_nokey).len(), deadlines }
    }

    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.waiters.next_deadline()
    }

    /// A key has changed.
    pub fn signal(&mut self, db: usize, key: &[u8]) {
        let name = (db, key.to_vec());
        if !self.waiters.awaited(&name) {
            return;
        }
        match self.ready.iter_mut().find(|(n, _)| *n == name) {
            // Perhaps what was left by one who looked in vain, for those behind.
            // Now it is for all of them again.
            Some((_, after)) => *after = None,
            None => self.ready.push_back((name, None)),
        }
    }

    /// Everything may have changed.
    pub fn signal_all(&mut self) {
        self.ready = self.waiters.keys().into_iter().map(|name| (name, None)).collect();
    }

    fn remove(&mut self, id: Id) -> Option<Waiter<Waiting>> {
        let waiter = self.waiters.remove(id)?;
        match &waiter.payload {
            Waiting::Here(request) => self.parts.remove(&who(&request.head.origin)),
            Waiting::Elsewhere(who, _) => self.parts.remove(who),
            Waiting::Home(who, ..) => self.homes.remove(who),
        };
        self.withdraw_offers(id, None);
        Some(waiter)
    }

    /// What was offered to one is for those behind.
    fn withdraw_offers(&mut self, id: Id, after: Option<Id>) {
        let names: Vec<Name> = self.offered.iter().filter(|(_, to)| **to == id).map(|(n, _)| n.clone()).collect();
        for name in names {
            self.offered.remove(&name);
            self.ready.push_back((name, after));
        }
    }
}

fn who(origin: &Origin) -> Who {
    (origin.conn, origin.seq)
}

/// What blocked clients are told when the server becomes a replica.
const UNBLOCKED: &[u8] =
    b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

/// What a client gets when its time is up, whatever the command.
fn time_is_up(proto: Proto) -> Vec<u8> {
    let mut out = Vec::new();
    Reply::new(&mut out, proto).null_array();
    out
}

impl Core {
    /// A blocking command of a connection of this core.
    pub fn route_blocking(&mut self, conn: &mut Conn, entry: &'static Entry, args: Args) -> Flow {
        if conn.replies.outstanding() > 0 {
            return Flow::Hold;
        }
        let origin = self.origin(conn);
        conn.barrier = true;
        conn.commands += 1;
        conn.last_command = Some(entry.index);
        let args = owned(args);
        conn.extra().blocked = Some(Box::new(Blocked::new(origin.seq, entry.index, args.clone())));
        self.attempt(origin, entry, args);
        Flow::Next
    }

    /// Sends a blocking command to its keys.
    fn attempt(&mut self, origin: Origin, entry: &'static Entry, args: Vec<Vec<u8>>) {
        let refs: Vec<&[u8]> = args.iter().map(|a| &a[..]).collect();
        let found = places(entry.spec, &refs).unwrap_or_default();
        let keys: Vec<Key> = found.iter().map(|p| Key::new(refs[p.index])).collect();
        let owner = keys.first().map_or(self.id, |k| self.map[k.slot() as usize] as usize);
        let alone = keys.iter().all(|k| self.map[k.slot() as usize] as usize == owner);
        let (hash, key_at) = keys.first().map_or((0, 0), |k| (k.hash, found[0].index));
        let head =
            Head { origin, job: Job::Command(entry.index), argc: args.len() as u32, hash, key_at: key_at as u32 };
        let ordered = !alone && self.order_keys(entry, &refs, origin);
        let request = Parked::new(head, args, self.now);
        if alone {
            self.send(owner, Msg::Forward(Box::new(request)));
        } else if !ordered {
            self.stranded.push(request);
        }
    }

    /// The command has found nothing here: it waits.
    pub fn start_waiting(&mut self, mut request: Parked, block: Block) {
        if let Some(again) = &block.again {
            request.args.clone_from(again);
        }
        let who = who(&request.head.origin);
        let db = request.head.origin.db as usize;
        let keys = block.keys.into_iter().map(|k| (db, k)).collect();
        let deadline_ms = block.deadline_ms;
        let whatever = matches!(request.head.job, Job::Command(c) if reads_group(&registry().entries[c]));
        let payload = Waiting::Here(request);
        let id = self.blocking.waiters.add(Waiter { keys, deadline_ms, whatever, payload });
        self.blocking.parts.insert(who, id);
        let me = self.id;
        let again = block.again;
        let told = move |home: &mut Core| home.blocked_at(who, me, deadline_ms, again);
        self.send(who.0.core as usize, Msg::Call(Box::new(told)));
    }

    /// A core keeps a command of this core's connection; or the connection has
    /// gone meanwhile, and the command is to be forgotten.
    fn blocked_at(&mut self, who: Who, owner: usize, deadline_ms: Option<u64>, again: Option<Vec<Vec<u8>>>) {
        let Some(mut conn) = self.take_blocked(who) else {
            return self.send(owner, Msg::Call(Box::new(move |core: &mut Core| core.forget_waiting(who))));
        };
        let b = conn.extra().blocked.as_mut().expect("taken as blocked");
        b.place = Place::Core(owner);
        b.args = again.unwrap_or_else(|| std::mem::take(&mut b.args));
        // One that was sent home by a slot's move waits no longer for that.
        let first = *b.deadline_ms.get_or_insert(deadline_ms);
        let reply = b.reply.take();
        self.put_waiting(conn);
        if let Some(reply) = reply {
            self.send(owner, Msg::Call(Box::new(move |core: &mut Core| core.end_waiting(who, &reply))));
        } else if first != deadline_ms {
            let set = move |core: &mut Core| {
                if let Some(id) = core.blocking.parts.get(&who) {
                    core.blocking.waiters.set_deadline(*id, first);
                }
            };
            self.send(owner, Msg::Call(Box::new(set)));
        }
    }

    /// The connection, if it is still blocked by this request.
    fn take_blocked(&mut self, (conn, seq): Who) -> Option<Box<Conn>> {
        let conn = self.take_conn(conn)?;
        if !conn.closing && conn.blocked().is_some_and(|b| b.seq == seq) {
            return Some(conn);
        }
        self.put_conn(conn);
        None
    }

    /// Puts a connection back that waits from here on; it closes if its peer
    /// has gone.
    fn put_waiting(&mut self, mut conn: Box<Conn>) {
        if conn.eof {
            self.mark_dirty(&mut conn);
        }
        self.put_conn(conn);
    }

    /// The attempt over several cores has found nothing: the locks' release
    /// leaves word on every core, and the home waits.
    pub fn blocked_over(&mut self, tx: &Tx, block: &Block) {
        let who = who(&tx.origin);
        let cores: SmallVec<[usize; 8]> = tx.parts.iter().map(|p| p.core).collect();
        let Some(mut conn) = self.take_blocked(who) else { return self.forget_on(&cores, who) };
        let b = conn.extra().blocked.as_mut().expect("taken as blocked");
        let mut known = std::mem::take(&mut b.place).cores();
        known.extend(cores);
        known.sort_unstable();
        known.dedup();
        b.place = Place::Several(known);
        if let Some(args) = &block.again {
            b.args.clone_from(args);
        }
        b.trying = false;
        let deadline_ms = *b.deadline_ms.get_or_insert(block.deadline_ms);
        let again = std::mem::take(&mut b.again);
        let reply = b.reply.take();
        self.put_waiting(conn);
        if let Some(reply) = reply {
            return self.end_at_home(who, &reply);
        }
        if !self.blocking.homes.contains_key(&who) {
            let payload = Waiting::Home(who, tx.origin.proto);
            let id = self.blocking.waiters.add(Waiter { keys: Vec::new(), deadline_ms, whatever: false, payload });
            self.blocking.homes.insert(who, id);
        }
        if again {
            self.try_again(who, self.id);
        }
    }

    /// The release of an attempt that found nothing: who waits for the keys of
    /// this part. Those behind are served with what it had been offered.
    pub fn leave_word(&mut self, tx: &Tx, part: usize, block: &Block) {
        let who = who(&tx.origin);
        let here = &tx.parts[part].keys;
        let db = tx.origin.db as usize;
        let keys: Vec<Name> = block
            .keys
            .iter()
            .filter(|k| here.iter().any(|(d, _, name)| *d == db && name == *k))
            .map(|k| (db, k.clone()))
            .collect();
        if let Some(&id) = self.blocking.parts.get(&who) {
            self.blocking.waiters.extend(id, keys);
            self.blocking.withdraw_offers(id, Some(id));
        } else if !keys.is_empty() {
            let Kind::Gather { command, .. } = tx.kind else { return };
            let payload = Waiting::Elsewhere(who, command);
            let whatever = reads_group(&registry().entries[command]);
            let id = self.blocking.waiters.add(Waiter { keys, deadline_ms: None, whatever, payload });
            self.blocking.parts.insert(who, id);
        }
    }

    /// A key on the core `from` has got something for a command of this core.
    fn try_again(&mut self, who: Who, from: usize) {
        let Some(mut conn) = self.take_blocked(who) else { return self.forget_on(&[from], who) };
        let b = conn.extra().blocked.as_mut().expect("taken as blocked");
        if b.trying {
            b.again = true;
            return self.put_conn(conn);
        }
        b.trying = true;
        let (command, args) = (b.command, b.args.clone());
        let origin = Origin::of(&conn, who.1);
        self.put_conn(conn);
        let entry = &registry().entries[command];
        let refs: Vec<&[u8]> = args.iter().map(|a| &a[..]).collect();
        if !self.order_keys(entry, &refs, origin) {
            let head = Head { origin, job: Job::Command(command), argc: 0, hash: 0, key_at: 0 };
            self.stranded.push(Parked::new(head, args, self.now));
        }
    }

    /// A command has got its reply, or its connection has gone.
    fn forget_on(&mut self, cores: &[usize], who: Who) {
        for core in cores {
            self.send(*core, Msg::Call(Box::new(move |c: &mut Core| c.forget_waiting(who))));
        }
    }

    fn forget_waiting(&mut self, who: Who) {
        if let Some(&id) = self.blocking.parts.get(&who) {
            self.blocking.remove(id);
            self.serve_ready();
        }
    }

    /// A connection's blocking command has its reply, or the connection closes:
    /// nobody needs to know of it any more. An owner that has replied has
    /// forgotten it already.
    #[inline]
    pub fn unblocked(&mut self, conn: &mut Conn, replied: bool) {
        if conn.blocked().is_some() {
            self.forget_blocked(conn, replied);
        }
    }

    fn forget_blocked(&mut self, conn: &mut Conn, replied: bool) {
        let Some(x) = conn.extra.as_mut() else { return };
        let Some(b) = x.blocked.take() else { return };
        let who = (conn.me, b.seq);
        if let Some(&id) = self.blocking.homes.get(&who) {
            self.blocking.remove(id);
        }
        if !(replied && matches!(b.place, Place::Core(_))) {
            self.forget_on(&b.place.cores(), who);
        }
    }

    /// Ends a command that is kept here, with this reply; nothing if it has
    /// just been served.
    fn end_waiting(&mut self, who: Who, reply: &[u8]) {
        if let Some(&id) = self.blocking.parts.get(&who)
            && let Some(waiter) = self.blocking.remove(id)
        {
            if let Waiting::Here(Parked { head: Head { job: Job::Command(command), .. }, .. }) = waiter.payload {
                self.count_ended(command, reply);
            }
            self.send_reply(who, reply);
            self.serve_ready();
        }
    }

    /// Ends a command over several cores, with this reply; if an attempt is
    /// under way, only when that finds nothing.
    fn end_at_home(&mut self, who: Who, reply: &[u8]) {
        let Some(mut conn) = self.take_blocked(who) else { return };
        let b = conn.extra().blocked.as_mut().expect("taken as blocked");
        if b.trying {
            b.reply = Some(reply.to_vec());
            return self.put_conn(conn);
        }
        let command = b.command;
        self.put_conn(conn);
        self.count_ended(command, reply);
        self.deliver(who.0, who.1, reply);
    }

    /// Ends what a connection of this core waits for, as if its time were up or with
    /// an error; whether it was blocked.
    pub fn unblock_client(&mut self, client: u64, error: Option<&[u8]>) -> bool {
        let found = self.conns.iter().find(|c| c.id == client && !c.closing).map(|c| c.me);
        let Some(mut conn) = found.and_then(|me| self.take_conn(me)) else { return false };
        let proto = conn.proto;
        let Some((seq, place)) = conn.blocked().map(|b| (b.seq, b.place.clone())) else {
            self.put_conn(conn);
            return false;
        };
        let reply = match error {
            None => time_is_up(proto),
            Some(text) => {
                let mut out = Vec::new();
                Reply::new(&mut out, proto).error(text);
                out
            }
        };
        let who = (conn.me, seq);
        if place == Place::Nowhere {
            // On its way: it ends when word comes that it waits.
            if let Some(b) = conn.extra().blocked.as_mut() {
                b.reply = Some(reply.clone());
            }
        }
        self.put_conn(conn);
        match place {
            Place::Nowhere => {}
            Place::Core(owner) => {
                self.send(owner, Msg::Call(Box::new(move |core: &mut Core| core.end_waiting(who, &reply))));
            }
            Place::Several(_) => self.end_at_home(who, &reply),
        }
        true
    }

    /// The server has become a replica, perhaps of another primary: what they
    /// wait for will not come from clients. They hear so and are disconnected.
    pub fn disconnect_blocked(&mut self) {
        let blocked: Vec<_> = self.conns.iter().filter(|c| !c.closing && c.blocked().is_some()).map(|c| c.me).collect();
        for me in blocked {
            let Some(mut conn) = self.take_conn(me) else { continue };
            conn.close_after = true;
            let id = conn.id;
            self.put_conn(conn);
            self.unblock_client(id, Some(UNBLOCKED));
        }
    }

    /// The same for one that waits for replicas.
    pub fn disconnect_waiting(&mut self, me: ConnRef, seq: u32) {
        let Some(mut conn) = self.take_conn(me) else { return };
        conn.close_after = true;
        let mut out = Vec::new();
        Reply::new(&mut out, conn.proto).error(UNBLOCKED);
        self.waiting.remove(&me);
        self.put_conn(conn);
        self.finish_conn(me, seq, &out);
    }

    /// Ends those whose time is up.
    pub fn end_overdue(&mut self) {
        while let Some(id) = self.blocking.waiters.due(self.now) {
            let Some(waiter) = self.blocking.remove(id) else { return };
            match waiter.payload {
                Waiting::Here(request) => {
                    let origin = &request.head.origin;
                    let reply = time_is_up(origin.proto);
                    if let Job::Command(command) = request.head.job {
                        self.count_ended(command, &reply);
                    }
                    self.send_reply(who(origin), &reply);
                }
                Waiting::Home(who, proto) => self.end_at_home(who, &time_is_up(proto)),
                Waiting::Elsewhere(..) => {}
            }
        }
        if self.blocking.has_ready() {
            self.serve_ready();
        }
    }

    /// A wait has ended without its command being run again: it counts as called.
    fn count_ended(&mut self, command: usize, reply: &[u8]) {
        self.stats.executed += 1;
        let s = &mut self.stats.commands[command];
        s.calls += 1;
        if let Some(text) = reply.strip_prefix(b"-") {
            s.failed += 1;
            self.stats.count_error(text.split(|b| *b == b' ').next().unwrap_or(text));
        }
    }

    fn send_reply(&mut self, (conn, seq): Who, reply: &[u8]) {
        if conn.core as usize == self.id {
            self.deliver(conn, seq, reply);
        } else {
            self.send(conn.core as usize, Msg::Reply { conn, seq, reply: reply.to_vec() });
        }
    }

    /// Serves those who wait for keys that have changed; to be called between
    /// commands. Keys that are locked are served when the lock is gone.
    pub fn serve_ready(&mut self) {
        if self.blocking.serving || self.gathering.is_some() || self.in_unit {
            return;
        }
        self.blocking.serving = true;
        let mut locked = VecDeque::new();
        while let Some((name, after)) = self.blocking.ready.pop_front() {
            if self.is_locked(name.0, Key::new(&name.1).hash) {
                locked.push_back((name, after));
            } else {
                self.serve_key(&name, after);
            }
        }
        self.blocking.ready = locked;
        self.blocking.serving = false;
    }

    fn serve_key(&mut self, name: &Name, mut after: Option<Id>) {
        self.expire_before_serving(name);
        while let Some(id) = self.blocking.waiters.first(name, after) {
            if self.blocking.offered.contains_key(name) || self.nothing_left(name) {
                return;
            }
            after = Some(id);
            let Some(waiter) = self.blocking.waiters.get(id) else { return };
            match &waiter.payload {
                Waiting::Elsewhere(who, command) => {
                    let (who, me) = (*who, self.id);
                    if self.suits(name, &registry().entries[*command]) {
                        self.blocking.offered.insert(name.clone(), id);
                        let offer = move |home: &mut Core| home.try_again(who, me);
                        self.send(who.0.core as usize, Msg::Call(Box::new(offer)));
                    }
                }
                Waiting::Here(request) => {
                    let Job::Command(command) = request.head.job else { continue };
                    if self.suits(name, &registry().entries[command]) {
                        self.serve_one(id);
                    }
                }
                Waiting::Home(..) => {}
            }
        }
    }

    /// Has all been taken, so that nobody behind needs to be looked at? There
    /// may be thousands who wait for one element each.
    fn nothing_left(&self, (db, key): &Name) -> bool {
        let gone = || self.store.get(*db, &Key::new(key)).is_none_or(|e| e.expired(self.now));
        !self.blocking.waiters.may_serve_nothing() && gone()
    }

    /// Whoever looks at a key past its deadline deletes it, also on behalf of
    /// those who wait for it.
    fn expire_before_serving(&mut self, (db, key): &Name) {
        let k = Key::new(key);
        let due = self.store.get(*db, &k).is_some_and(|e| e.expired(self.now));
        if !due || self.role.replica || self.options.keep_expired {
            return;
        }
        self.store.delete(*db, &k);
        self.store.stats.expired += 1;
        self.fx.wants_events = self.wants_events();
        self.fx.expired(*db, key);
        self.journal_alone(*db as u32);
        self.stats.dirty += self.fx.dirty;
        let events = std::mem::take(&mut self.fx.events);
        self.fx.clear();
        self.tell(&events);
    }

    /// Is there something under the key that the command can take?
    fn suits(&self, (db, key): &Name, entry: &Entry) -> bool {
        let wanted = match entry.spec.group {
            Group::List => "list",
            Group::SortedSet => "zset",
            _ if reads_group(entry) => return true,
            _ => "stream",
        };
        let found = self.store.get(*db, &Key::new(key)).filter(|e| !e.expired(self.now));
        found.is_some_and(|e| matches!(e.value(), Value::Object(o) if o.type_name() == wanted))
    }

    /// Runs a command that waits here once more; it waits on if it finds
    /// nothing.
    fn serve_one(&mut self, id: Id) {
        let Some(waiter) = self.blocking.waiters.remove(id) else { return };
        let Waiting::Here(request) = &waiter.payload else { return };
        let Job::Command(command) = request.head.job else { return };
        let (entry, head) = (&registry().entries[command], request.head);
        let args: Vec<&[u8]> = request.args.iter().map(|a| &a[..]).collect();
        let mut out = Vec::new();
        self.fx.may_block = true;
        self.run_command(entry, &args, &head.origin, self.now, (head.key_at as usize, head.hash), &mut out);
        self.fx.may_block = false;
        if self.fx.block.take().is_some() {
            return self.blocking.waiters.restore(id, waiter);
        }
        let who = who(&head.origin);
        self.blocking.parts.remove(&who);
        self.send_reply(who, &out);
    }

    /// Sends home who waits for keys of a slot that has left.
    pub fn send_waiting_home(&mut self, slot: u16) {
        for id in self.blocking.waiters.waiting_for(|(_, key)| slot_of(key) == slot) {
            let Some(waiter) = self.blocking.remove(id) else { continue };
            let (who, several) = match waiter.payload {
                Waiting::Here(request) => (who(&request.head.origin), false),
                Waiting::Elsewhere(who, _) => (who, true),
                Waiting::Home(..) => continue,
            };
            let me = self.id;
            let back = move |home: &mut Core| {
                if several { home.try_again(who, me) } else { home.ask_again(who) }
            };
            self.send(who.0.core as usize, Msg::Call(Box::new(back)));
        }
    }

    /// A command was sent home, because a slot has moved.
    fn ask_again(&mut self, who: Who) {
        let Some(mut conn) = self.take_blocked(who) else { return };
        let b = conn.extra().blocked.as_mut().expect("taken as blocked");
        b.place = Place::Nowhere;
        let (command, args) = (b.command, b.args.clone());
        let origin = Origin::of(&conn, who.1);
        self.put_conn(conn);
        self.attempt(origin, &registry().entries[command], args);
    }
}

/// Whatever happens to a group's stream ends the wait for it.
fn reads_group(entry: &Entry) -> bool {
    entry.spec.name == "xreadgroup"
}
