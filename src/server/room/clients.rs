//! Keeping clients' buffers within `maxmemory-clients`.
//!
//! The limit is one over all cores: each makes known what its clients take and
//! how large the largest is, and the core that has the largest closes it. What a
//! client gets to send is counted while its replies are made: clients go before
//! any key does, so no core may find the memory gone that another one's clients
//! have taken, and not know of it.

use std::sync::atomic::Ordering;

use crate::command::Fault;
use crate::config::Settings;
use crate::server::core::Core;
use crate::server::gather::Asking;
use crate::server::msg::Msg;
use crate::server::registry::Outcome;
use crate::server::{commands, log_notice};
use crate::session::conn::{Conn, ConnRef};

/// A client that has grown or shrunk by so many bytes is told to other cores at
/// once, not at the end of the turn.
const TOLD_AT_ONCE: usize = 16 * 1024;

/// The least that a limit for all clients comes to, so that whoever set it too low
/// still gets through to raise it. As in Redis.
const LIMIT_MIN: usize = 128 * 1024;

/// Bytes that all clients may use: as given, or as a share of `maxmemory`; 0
/// for no limit.
pub(super) fn limit(s: &Settings) -> usize {
    let given = s.internals.maxmemory_clients;
    if given == 0 || (given < 0 && s.maxmemory == 0) {
        return 0;
    }
    let bytes = if given < 0 { s.maxmemory / 100 * given.unsigned_abs() } else { given as u64 };
    usize::try_from(bytes).unwrap_or(usize::MAX).max(LIMIT_MIN)
}

/// Milliseconds that keys are spared until all cores have counted their clients.
const COUNTS_MS: u64 = 20;

/// How a core learns that the memory which is missing is no client's.
#[derive(Default)]
pub(super) struct Counts {
    /// Since when it waits for others, Unix milliseconds, and the turns in which
    /// they were.
    awaited: Option<(u64, Vec<(usize, u64)>)>,
    known: bool,
}

impl Core {
    /// A turn begins in which clients may grow.
    #[inline]
    pub fn begin_counting(&mut self) {
        if self.room.clients_limit != 0 {
            self.count_turn(0);
        }
    }

    /// Begins a turn's counting (0), or ends it (1), unless that has been done.
    #[inline]
    fn count_turn(&self, parity: u64) {
        let turn = &self.shared.rooms.desks[self.id].turn;
        let now = turn.load(Ordering::Relaxed);
        if now % 2 == parity {
            turn.store(now + 1, Ordering::Release);
        }
    }

    /// Does another core still have to count what its clients have taken, before
    /// it is known that keys have to go?
    pub(super) fn counts_are_awaited(&mut self) -> bool {
        if self.room.clients_limit == 0 || self.shared.cores == 1 || self.room.counts.known {
            return false;
        }
        let desks = &self.shared.rooms.desks;
        let turn = |i: usize| desks[i].turn.load(Ordering::Acquire);
        let counts = &mut self.room.counts;
        let (since, turns) = counts.awaited.get_or_insert_with(|| {
            let others = (0..desks.len()).filter(|i| *i != self.id);
            (self.now, others.map(|i| (i, turn(i))).filter(|t| t.1 % 2 == 1).collect())
        });
        counts.known = self.now >= *since + COUNTS_MS || turns.iter().all(|(i, then)| turn(*i) != *then);
        !counts.known
    }

    /// Counts all clients anew: a limit is set, or lifted.
    pub(super) fn count_all_clients(&mut self) {
        self.recount_clients = false;
        self.room.clients = 0;
        for place in self.conns.refs() {
            if let Some(mut c) = self.take_conn(place) {
                c.counted = 0;
                self.put_conn(c);
            }
        }
        self.room.clients_grew = true;
        // Before the others compare theirs with it.
        let largest = self.largest_client().map_or(0, |l| l.0);
        self.shared.rooms.desks[self.id].largest.store(largest, Ordering::Relaxed);
        self.show_clients();
    }

    /// What the largest of those takes that may be evicted, and who that is.
    fn largest_client(&self) -> Option<(usize, ConnRef)> {
        self.evictable_clients().map(|c| (c.memory(), c.me)).max_by_key(|l| l.0)
    }

    fn evictable_clients(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().filter(|c| !c.closing && !c.no_evict && !c.departing)
    }

    pub(super) fn show_clients(&mut self) {
        let desk = &self.shared.rooms.desks[self.id];
        let on = self.room.clients_limit != 0;
        desk.clients.store(if on { self.room.clients } else { 0 }, Ordering::Relaxed);
    }

    /// A connection goes back to its place: its memory is counted, if clients
    /// are limited.
    #[inline]
    pub fn count_client(&mut self, conn: &mut Conn) {
        if self.room.clients_limit != 0 {
            let now = if conn.closing || self.is_cut_off(conn) { 0 } else { conn.memory() };
            self.room.clients_grew |= now > conn.counted;
            self.room.clients = (self.room.clients + now).saturating_sub(conn.counted);
            if now.abs_diff(std::mem::replace(&mut conn.counted, now)) >= TOLD_AT_ONCE {
                self.show_growth(conn);
            }
        }
    }

    /// A connection that is in use gets more memory for its output: the others know
    /// before they find the memory gone, and let a key go for it. What it takes is
    /// counted exactly when it goes back to its place.
    pub fn count_growth(&mut self, conn: &mut Conn, bytes: usize) {
        if self.room.clients_limit != 0 && !conn.closing && bytes > 0 && !self.is_cut_off(conn) {
            conn.counted += bytes;
            self.room.clients += bytes;
            self.room.clients_grew = true;
            self.show_growth(conn);
        }
    }

    /// Will it be closed at the end of the turn, for the limit on its own output?
    /// Nobody else has to go for it then.
    fn is_cut_off(&self, conn: &Conn) -> bool {
        let limits = &self.settings;
        let limit = if conn.subscribed() { &limits.output_limit_pubsub } else { &limits.output_limit_normal };
        limit.hard_bytes > 0 && conn.output_beyond() as u64 > limit.hard_bytes
    }

    fn show_growth(&mut self, conn: &Conn) {
        self.show_clients();
        let largest = &self.shared.rooms.desks[self.id].largest;
        if !conn.no_evict && !conn.closing && conn.counted > largest.load(Ordering::Relaxed) {
            largest.store(conn.counted, Ordering::Relaxed);
        }
    }

    /// Do all clients take more than they may, as far as it is known?
    #[inline]
    pub fn clients_exceed(&self) -> bool {
        self.room.clients_limit != 0 && self.clients_of_all() > self.room.clients_limit
    }

    /// Does a change of settings change what clients may take?
    pub fn changes_clients_limit(old: &Settings, new: &Settings) -> bool {
        limit(old) != limit(new)
    }

    /// CONFIG SET with another limit for clients: `each` takes the settings over
    /// on every core. Those who have to go for it are gone when the reply comes,
    /// the largest of all cores first.
    pub fn change_clients_limit(
        &mut self,
        conn: &mut Conn,
        each: impl Fn(&mut Core) + Send + Sync + 'static,
    ) -> Result<Outcome, Fault> {
        let asking = self.begin_gather(conn);
        self.shared.rooms.changing.fetch_add(1, Ordering::SeqCst);
        let sizes = move |core: &mut Core| {
            each(core);
            core.sizes_of_clients()
        };
        self.gather_quietly(sizes, move |core, sizes| core.evict_beyond_limit(asking, &sizes));
        Ok(Outcome::Later)
    }

    /// What all clients of this core take, and each of those that may be evicted.
    fn sizes_of_clients(&mut self) -> (usize, Vec<usize>) {
        if self.recount_clients {
            self.count_all_clients();
        }
        (self.room.clients, self.evictable_clients().map(|c| c.memory()).collect())
    }

    fn evict_beyond_limit(&mut self, asking: Asking, sizes: &[(usize, Vec<usize>)]) {
        let limit = self.room.clients_limit;
        let mut left: usize = sizes.iter().map(|s| s.0).sum();
        let each = |(core, (_, sizes)): (usize, &(usize, Vec<usize>))| sizes.iter().map(move |s| (*s, core)).collect();
        let mut all: Vec<(usize, usize)> = sizes.iter().enumerate().flat_map::<Vec<_>, _>(each).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut going = vec![0; sizes.len()];
        for (size, core) in all {
            if limit == 0 || left <= limit {
                break;
            }
            left = left.saturating_sub(size);
            going[core] += 1;
        }
        let evict = move |core: &mut Core| core.evict_largest(going[core.id]);
        self.go_on_gathering(asking, evict, |core, _, r| {
            core.shared.rooms.changing.fetch_sub(1, Ordering::SeqCst);
            r.ok();
        });
    }

    /// Closes so many of the largest clients, as long as all take too much.
    fn evict_largest(&mut self, n: usize) {
        for _ in 0..n {
            let Some((_, place)) = self.largest_client().filter(|_| self.clients_exceed()) else { return };
            self.evict_client(place);
            self.show_clients();
        }
    }

    /// At the end of a turn: do all clients of the process take more than they
    /// may?
    #[inline]
    pub fn limit_clients(&mut self) {
        if self.recount_clients {
            self.count_all_clients();
        }
        if self.room.clients_limit != 0 {
            self.show_clients();
            if std::mem::take(&mut self.room.clients_grew) {
                self.room.clients_exceed = self.clients_of_all() > self.room.clients_limit;
            }
        }
        self.count_turn(1);
    }

    #[inline]
    pub fn clients_are_to_be_limited(&self) -> bool {
        self.room.clients_exceed && self.shared.rooms.changing.load(Ordering::SeqCst) == 0
    }

    /// When the next turn has collected what the sends of the last one came to,
    /// replies that were only passing through are gone: closes the largest
    /// clients while the rest is still too much.
    #[inline]
    pub fn evict_clients_if_too_large(&mut self) {
        if !self.clients_are_to_be_limited() {
            return;
        }
        // One core at a time, or each would evict for the same excess. The
        // other is done in no time.
        if !self.shared.rooms.evicting.swap(true, Ordering::Acquire) {
            self.room.clients_exceed = false;
            self.show_clients();
            self.evict_clients();
            self.shared.rooms.evicting.store(false, Ordering::Release);
        }
    }

    pub(super) fn clients_of_all(&self) -> usize {
        self.shared.rooms.desks.iter().map(|d| d.clients.load(Ordering::Relaxed)).sum()
    }

    /// Clients that take more than they may go before any key does, even those
    /// whose replies are only passing through. Will room come that way, from
    /// another core?
    pub(super) fn clients_go_first(&mut self) -> bool {
        if self.room.clients_limit == 0 || self.clients_of_all() <= self.room.clients_limit {
            return false;
        }
        if self.shared.rooms.evicting.swap(true, Ordering::Acquire) {
            return true;
        }
        self.show_clients();
        let elsewhere = self.evict_clients();
        self.shared.rooms.evicting.store(false, Ordering::Release);
        elsewhere
    }

    /// Closes the largest while they exceed their limit; whether the largest is
    /// another core's, which has been told.
    #[cold]
    fn evict_clients(&mut self) -> bool {
        // The limit may have been lifted since.
        while self.room.clients_limit != 0 && self.clients_of_all() > self.room.clients_limit {
            let largest = self.largest_client();
            let size = largest.map_or(0, |l| l.0);
            let desks = &self.shared.rooms.desks;
            desks[self.id].largest.store(size, Ordering::Relaxed);
            let others =
                (0..desks.len()).filter(|i| *i != self.id).map(|i| (desks[i].largest.load(Ordering::Relaxed), i));
            let other = others.max().unwrap_or((0, 0));
            if other.0 > size {
                self.hurry(other.1);
                return true;
            }
            let Some((_, place)) = largest else { break };
            self.evict_client(place);
            self.show_clients();
        }
        false
    }

    /// Has a core look after its clients; once, however long it takes to hear of it.
    fn hurry(&mut self, core: usize) {
        if self.shared.rooms.desks[core].hurried.swap(true, Ordering::AcqRel) {
            return;
        }
        let look = |c: &mut Core| {
            c.shared.rooms.desks[c.id].hurried.store(false, Ordering::Release);
            c.room.clients_grew = true;
        };
        self.send(core, Msg::Call(Box::new(look)));
    }

    fn evict_client(&mut self, place: ConnRef) {
        let Some(mut c) = self.take_conn(place) else { return };
        let who = commands::client_list::describe(self, &c);
        log_notice(&format!("Evicting client: {}", who.trim_end()));
        self.stats.evicted_clients += 1;
        self.close(&mut c);
        self.put_conn(c);
    }

    /// Now and then: the others learn how large this core's largest client is.
    pub fn show_largest_client(&mut self) {
        if self.room.clients_limit != 0 {
            let largest = self.largest_client().map_or(0, |l| l.0);
            self.shared.rooms.desks[self.id].largest.store(largest, Ordering::Relaxed);
            self.room.clients_grew = true;
        }
    }
}
