//! The primary's side: who may follow, what they have, and who is dropped.

use bytes::Bytes;

use super::event::{Action, LinkId, Psync};
use super::history::Refusal;
use super::node::Node;
use super::peer::Peer;
use super::replica::{Replica, State};

/// PING as it stands in the stream, byte for byte as Redis writes it.
pub const PING: &[u8] = b"*1\r\n$4\r\nping\r\n";

/// The request for acknowledgements in the stream.
pub const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

const NOT_CONNECTED: &str = "-NOMASTERLINK Can't SYNC while not connected with my master\r\n";
/// Without an acknowledgement for so long, which come every second, a connection that
/// another has followed is taken for dead, milliseconds.
const TWIN_SILENCE_MS: u64 = 3000;
const FAILING_OVER: &str = "-NOMASTERLINK Can't SYNC while failing over\r\n";

/// Counters of INFO's section on statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// sync_full
    pub full: u64,
    /// sync_partial_ok
    pub partial_ok: u64,
    /// sync_partial_err
    pub partial_err: u64,
}

impl Node {
    pub(super) fn on_psync(&mut self, psync: Psync) {
        if self.replicas.contains_key(&psync.link) {
            return;
        }
        if psync.failover && !self.serve_failover_request(&psync) {
            return;
        }
        if self.refuse_for_now(psync.link) {
            return;
        }
        self.note_request(&psync.peer);
        let next = u64::try_from(psync.next).unwrap_or(0);
        let verdict = self.history.accepts(psync.id, next, &self.stream_window());
        let (link, name) = (psync.link, psync.peer.name());
        self.replicas.insert(link, Replica::new(link, psync.peer, false, self.now));
        match verdict {
            Ok(()) => self.resume(link, next),
            Err(refusal) => {
                self.note_refusal(refusal, &name, &psync.id, next);
                self.enlist(link);
            }
        }
    }

    pub(super) fn on_sync(&mut self, link: LinkId, peer: Peer) {
        if self.replicas.contains_key(&link) || self.refuse_for_now(link) {
            return;
        }
        self.note_request(&peer);
        self.replicas.insert(link, Replica::new(link, peer, true, self.now));
        self.enlist(link);
    }

    fn note_request(&mut self, peer: &Peer) {
        self.notice(format!("Replica {} asks for synchronization", peer.name()));
    }

    fn refuse_for_now(&mut self, link: LinkId) -> bool {
        let text = if self.failover.underway() {
            FAILING_OVER
        } else if !self.may_serve() {
            NOT_CONNECTED
        } else {
            return false;
        };
        self.act(Action::Send { link, bytes: Bytes::from_static(text.as_bytes()) });
        self.act(Action::Close { link, reason: "it may try again later".into() });
        true
    }

    /// Replicas that have come again while their old connection hangs: that one is
    /// dropped before `repl-timeout`. Not if it still speaks: there may be several
    /// behind one address.
    fn drop_stale_twins(&mut self) {
        let now = self.now;
        let known = |r: &Replica| r.peer.port != 0 && r.online();
        let silent = |r: &Replica| now.saturating_sub(r.acked_at) >= TWIN_SILENCE_MS;
        let has_come_again = |old: &Replica| {
            let same = |r: &Replica| r.peer.port == old.peer.port && r.peer.ip == old.peer.ip;
            self.replicas.values().any(|r| r.link > old.link && same(r))
        };
        let stale = self.replicas.values().filter(|r| known(r) && silent(r) && has_come_again(r));
        let stale: Vec<_> = stale.map(|r| (r.link, r.peer.name())).collect();
        for (link, name) in stale {
            self.notice(format!("Replica {name} connects anew: its earlier connection is closed"));
            self.drop_replica(link, "the replica has connected anew");
        }
    }

    fn resume(&mut self, link: LinkId, next: u64) {
        let (id, now) = (self.history.id, self.now);
        let missing = (self.stream_window().end + 1).saturating_sub(next);
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.state = State::Online;
        replica.acked_at = now;
        (replica.cut, replica.sent) = (next - 1, next - 1);
        let (psync2, name) = (replica.peer.capa.psync2, replica.peer.name());
        let line = if psync2 { format!("+CONTINUE {id}\r\n") } else { "+CONTINUE\r\n".into() };
        self.counters.partial_ok += 1;
        self.notice(format!(
            "Partial resynchronization request from {name} accepted. Sending {missing} bytes of backlog starting from offset {next}."
        ));
        self.act(Action::Send { link, bytes: line.into() });
        self.feed(link);
        self.count_good();
    }

    fn note_refusal(&mut self, refusal: Refusal, name: &str, id: &Option<super::id::ReplId>, next: u64) {
        if refusal != Refusal::NotWanted {
            self.counters.partial_err += 1;
        }
        let shown = id.map_or_else(|| "?".into(), |id| id.to_string());
        self.notice(match refusal {
            Refusal::NotWanted => format!("Full resync requested by replica {name}"),
            Refusal::OtherHistory => format!(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{shown}', my replication IDs are '{}' and '{}')",
                self.history.id, self.history.id2
            ),
            Refusal::TooFar => format!(
                "Partial resynchronization not accepted: Requested offset for second ID was {next}, but I can reply up to {}",
                self.history.second_offset_shown()
            ),
            Refusal::NotInBacklog => format!(
                "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {next})."
            ),
        });
    }

    /// A backlog out of nothing: what was written so far is in no history.
    pub(super) fn start_backlog(&mut self) {
        self.history.begin_anew(&mut self.rng);
        self.window.active = true;
        self.window.first = self.window.end + 1;
        self.act(Action::StartLog);
        self.notice(format!(
            "Replication backlog created, my new replication IDs are '{}' and '{}'",
            self.history.id, self.history.id2
        ));
    }

    pub(super) fn on_ack(&mut self, link: LinkId, offset: u64, fsynced: Option<u64>) {
        let (now, end) = (self.now, self.stream_window().end);
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        if offset > end {
            let name = replica.peer.name();
            self.warning(format!(
                "Replica {name} acknowledges offset {offset}, which does not exist yet (last is {end})"
            ));
            return self.drop_replica(link, "it acknowledged what was never sent");
        }
        replica.acked = replica.acked.max(offset);
        replica.fsynced = replica.fsynced.max(fsynced.unwrap_or(0).min(end));
        replica.acked_at = now;
        let first = replica.online() && !replica.fed;
        if first {
            self.feed(link);
        }
        self.count_good();
        self.settle_waits();
        self.failover_acked();
    }

    pub(super) fn on_alive(&mut self, link: LinkId) {
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.acked_at = now;
            replica.progress_at = now;
        }
    }

    /// The connection has ended by itself.
    pub(super) fn on_gone(&mut self, link: LinkId) {
        if let Some(replica) = self.replicas.remove(&link) {
            self.notice(format!("Connection with replica {} lost.", replica.peer.name()));
            self.after_removal(link);
        }
    }

    pub(super) fn drop_replica(&mut self, link: LinkId, reason: &str) {
        if self.replicas.remove(&link).is_some() {
            self.act(Action::Close { link, reason: reason.into() });
            self.after_removal(link);
        }
    }

    fn after_removal(&mut self, link: LinkId) {
        self.leave_snapshot(link);
        if self.replicas.is_empty() {
            self.no_replicas_since = self.now;
        }
        self.count_good();
        self.failover_lost(link);
    }

    pub(super) fn drop_all_replicas(&mut self, reason: &str) {
        let links: Vec<_> = self.replicas.keys().copied().collect();
        links.into_iter().for_each(|link| self.drop_replica(link, reason));
    }

    /// Replicas that count for min-replicas-to-write.
    pub fn good_replicas(&self) -> usize {
        let lag = self.policy.min_replicas_max_lag_ms;
        self.replicas
            .values()
            .filter(|r| r.online() && self.now.saturating_sub(r.acked_at) / 1000 * 1000 <= lag)
            .count()
    }

    pub(super) fn count_good(&mut self) {
        let good = self.good_replicas();
        if self.good_told != Some(good) {
            self.good_told = Some(good);
            self.act(Action::GoodReplicas(good));
        }
    }

    /// What is due once a second.
    pub(super) fn primary_cron(&mut self) {
        self.keep_waiting_alive();
        self.drop_stale_twins();
        self.time_out_online();
        self.time_out_transfers(self.now);
        self.free_backlog_when_idle();
        self.count_good();
        if self.upstream.is_none()
            && !self.replicas.is_empty()
            && !self.failover.holds_writes()
            && self.now.saturating_sub(self.pinged_at) >= self.policy.ping_period_ms
        {
            self.pinged_at = self.now;
            self.append(PING);
        }
    }

    /// An empty line a second for those that wait for a snapshot on disk.
    fn keep_waiting_alive(&mut self) {
        let disk = self.snapshot.as_ref().is_some_and(|s| s.target == super::event::Target::Disk);
        let waits = |state: State| state == State::WaitStart || (state == State::WaitEnd && disk);
        let links: Vec<_> = self.replicas.values().filter(|r| waits(r.state)).map(|r| r.link).collect();
        for link in links {
            self.act(Action::Send { link, bytes: Bytes::from_static(b"\n") });
        }
    }

    fn time_out_online(&mut self) {
        let (now, timeout) = (self.now, self.policy.timeout_ms);
        let late = |r: &&Replica| r.online() && !r.silent && now.saturating_sub(r.acked_at) > timeout;
        let late: Vec<_> = self.replicas.values().filter(late).map(|r| (r.link, r.peer.name())).collect();
        for (link, name) in late {
            self.warning(format!("Disconnecting timedout replica (streaming sync): {name}"));
            self.drop_replica(link, "it has not acknowledged for too long");
        }
    }

    /// What a replica leaves unread is bounded.
    pub(super) fn limit_output(&mut self) {
        let (now, window, backlog) = (self.now, self.stream_window(), self.policy.backlog_bytes);
        let (hard, soft, soft_ms) =
            (self.policy.output_hard_limit(), self.policy.output_soft_bytes, self.policy.output_soft_ms);
        let mut over = Vec::new();
        for r in self.replicas.values_mut() {
            let Some(needs) = r.needs() else { continue };
            // What lies on disk costs no memory, but may keep later bytes from it.
            let unsent = match needs < window.kept {
                true => (window.end + 1).saturating_sub(window.kept).saturating_sub(backlog),
                false => (window.end + 1).saturating_sub(needs),
            };
            let softly = soft > 0 && unsent > soft;
            let since = *r.soft_since.get_or_insert(now);
            if !softly {
                r.soft_since = None;
            }
            if unsent > hard || (softly && now.saturating_sub(since) > soft_ms) {
                over.push((r.link, r.peer.name(), unsent));
            }
        }
        for (link, name, unsent) in over {
            self.counters_output_closes += 1;
            self.warning(format!(
                "Client {name} (replica) scheduled to be closed ASAP for overcoming of output buffer limits ({unsent} bytes unsent)."
            ));
            self.drop_replica(link, "it leaves too much unread");
        }
    }

    /// Writes after the backlog is gone would be in no backlog: if one of the
    /// old replicas came again, the gap must not be hidden. So the history
    /// ends with the backlog.
    fn free_backlog_when_idle(&mut self) {
        let ttl = self.policy.backlog_ttl_ms;
        let idle = self.now.saturating_sub(self.no_replicas_since);
        if self.upstream.is_some() || !self.replicas.is_empty() || !self.window.active || ttl == 0 || idle <= ttl {
            return;
        }
        self.history.begin_anew(&mut self.rng);
        self.window.active = false;
        self.act(Action::FreeLog);
        self.notice(format!("Replication backlog freed after {} seconds without connected replicas.", ttl / 1000));
    }

    /// The lowest offset that some replica still needs from the stream.
    pub fn pinned(&self) -> Option<u64> {
        self.replicas.values().filter_map(Replica::needs).min()
    }
}
