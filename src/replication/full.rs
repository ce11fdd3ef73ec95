//! Full synchronization, the primary's side: which replicas get which snapshot.
//!
//! Replicas wait until a snapshot is begun for them. One that goes to disk can
//! be joined while it is taken, because the file is sent afterwards; one that
//! goes to sockets cannot.

use bytes::Bytes;

use super::event::{Action, LinkId, Ms, Target};
use super::node::Node;
use super::peer::Wanted;
use super::replica::{Replica, State};

/// A snapshot for replicas that is being taken.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub target: Target,
    pub wanted: Wanted,
    /// Offset of the dataset in it, once the cut is made.
    pub cut: Option<u64>,
    /// The replicas that it was begun for and, on disk, that joined.
    pub links: Vec<LinkId>,
}

impl Node {
    /// A replica has been told, or will be, to take a full copy.
    pub(super) fn enlist(&mut self, link: LinkId) {
        self.counters.full += 1;
        if self.replicas.len() == 1 && !self.window.active && self.upstream.is_none() {
            self.start_backlog();
        }
        if self.join_snapshot(link) {
            return;
        }
        let Some(replica) = self.replicas.get(&link) else { return };
        let delayed = self.policy.diskless_sync && replica.peer.capa.eof && self.policy.diskless_sync_delay_ms > 0;
        if self.snapshot.is_none() && delayed {
            self.notice("Delay next BGSAVE for diskless SYNC".into());
        }
        self.start_snapshot();
    }

    /// Gives a replica the snapshot on disk that is being taken for others.
    fn join_snapshot(&mut self, link: LinkId) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let (Target::Disk, Some(cut)) = (snapshot.target, snapshot.cut) else { return false };
        let Some(replica) = self.replicas.get(&link) else { return false };
        let model = self.replicas.values().find(|r| r.state == State::WaitEnd && snapshot.links.contains(&r.link));
        let fits = model.is_some_and(|m| {
            replica.peer.capa.covers(m.peer.capa)
                && replica.peer.wanted == m.peer.wanted
                && replica.peer.rdb_only == m.peer.rdb_only
        });
        if !fits {
            self.notice("Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC".into());
            return false;
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.links.push(link);
        }
        self.begin_full(link, cut);
        self.notice("Waiting for end of BGSAVE for SYNC".into());
        true
    }

    /// Begins a snapshot for those that wait, if it is time.
    pub(super) fn start_snapshot(&mut self) {
        if self.snapshot.is_some() || self.holds_full_syncs() {
            return;
        }
        let waiting: Vec<_> = self.replicas.values().filter(|r| r.state == State::WaitStart).collect();
        let Some(first) = waiting.iter().min_by_key(|r| r.waiting_since) else { return };
        let group: Vec<_> = waiting
            .iter()
            .filter(|r| r.peer.wanted == first.peer.wanted && r.peer.rdb_only == first.peer.rdb_only)
            .collect();
        let all_eof = group.iter().all(|r| r.peer.capa.eof);
        let target = if self.policy.diskless_sync && all_eof { Target::Sockets } else { Target::Disk };
        let waited = self.now.saturating_sub(first.waiting_since);
        let max = self.policy.diskless_sync_max_replicas;
        let due = waited >= self.policy.diskless_sync_delay_ms || (max > 0 && group.len() >= max);
        if self.policy.diskless_sync && all_eof && !due {
            return;
        }
        let snapshot =
            Snapshot { target, wanted: first.peer.wanted, cut: None, links: group.iter().map(|r| r.link).collect() };
        let name = if target == Target::Disk { "disk" } else { "replicas sockets" };
        self.notice(format!("Starting BGSAVE for SYNC with target: {name}"));
        self.act(Action::StartSnapshot { target, wanted: snapshot.wanted, links: snapshot.links.clone() });
        self.snapshot = Some(snapshot);
    }

    /// The cut is made: its replicas learn where their stream begins.
    pub(super) fn on_snapshot_cut(&mut self, cut: u64) {
        let Some(snapshot) = &mut self.snapshot else { return };
        snapshot.cut = Some(cut);
        for link in snapshot.links.clone() {
            self.begin_full(link, cut);
        }
    }

    fn begin_full(&mut self, link: LinkId, cut: u64) {
        let (id, now) = (self.history.id, self.now);
        let streamed = self.snapshot.as_ref().is_some_and(|s| s.target == Target::Sockets);
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.state = State::WaitEnd;
        (replica.cut, replica.sent) = (cut, cut);
        replica.progress_at = now;
        replica.streamed = streamed;
        let silent = replica.silent;
        self.act(Action::Attach { link, from: cut + 1 });
        if !silent {
            self.act(Action::Send { link, bytes: format!("+FULLRESYNC {id} {cut}\r\n").into() });
        }
    }

    pub(super) fn on_snapshot_done(&mut self) {
        let Some(snapshot) = self.snapshot.take() else { return };
        for link in snapshot.links {
            self.send_file(link);
        }
        self.start_snapshot();
    }

    /// The file is to be sent; what goes to sockets is on its way already.
    fn send_file(&mut self, link: LinkId) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&link).filter(|r| r.state == State::WaitEnd) else { return };
        replica.state = State::SendBulk;
        replica.progress_at = now;
        if !replica.streamed {
            self.act(Action::SendFile { link });
        }
    }

    /// The snapshot has gone to the replica's socket. The stream follows when
    /// it has acknowledged: it finds the end mark only as the last bytes read.
    fn streamed(&mut self, link: LinkId) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let (name, silent, rdb_only) = (replica.peer.name(), replica.silent, replica.peer.rdb_only);
        replica.state = State::Online;
        replica.acked_at = now;
        self.notice(format!("Streamed replica with replica {name} succeeded (socket). Waiting for REPLCONF ACK from replica to enable streaming"));
        if rdb_only {
            self.finish_rdb_only(link);
        } else if silent {
            self.feed(link);
        }
        self.count_good();
    }

    /// All of the snapshot has been sent to one replica.
    pub(super) fn on_bulk_sent(&mut self, link: LinkId) {
        let now = self.now;
        let in_transfer = |r: &Replica| matches!(r.state, State::WaitEnd | State::SendBulk);
        if self.replicas.get(&link).is_some_and(|r| r.streamed && in_transfer(r)) {
            return self.streamed(link);
        }
        let Some(replica) = self.replicas.get_mut(&link).filter(|r| r.state == State::SendBulk) else { return };
        let (name, rdb_only) = (replica.peer.name(), replica.peer.rdb_only);
        replica.state = State::Online;
        replica.acked_at = now;
        if rdb_only {
            return self.finish_rdb_only(link);
        }
        self.notice(format!("Synchronization with replica {name} succeeded"));
        self.feed(link);
        self.count_good();
    }

    /// Redis waits for the client to hang up and closes after a second; the
    /// payload is complete, so it is closed at once.
    fn finish_rdb_only(&mut self, link: LinkId) {
        let name = self.replicas.get(&link).map_or_else(String::new, |r| r.peer.name());
        self.notice(format!("RDB transfer completed, rdb only replica ({name}) should be disconnected asap"));
        self.drop_replica(link, "the snapshot is all it wanted");
    }

    pub(super) fn feed(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        replica.fed = true;
        let from = replica.sent + 1;
        self.act(Action::Feed { link, from });
    }

    pub(super) fn on_snapshot_failed(&mut self, reason: &str) {
        let Some(snapshot) = self.snapshot.take() else { return };
        self.warning(format!("SYNC failed. BGSAVE failed: {reason}"));
        for link in snapshot.links {
            if self.replicas.contains_key(&link) {
                if snapshot.cut.is_none() {
                    let text = "-ERR BGSAVE failed, replication can't continue\r\n";
                    self.act(Action::Send { link, bytes: Bytes::from_static(text.as_bytes()) });
                }
                self.drop_replica(link, "its snapshot failed");
            }
        }
        self.start_snapshot();
    }

    /// A replica has gone: a snapshot that nobody waits for is given up.
    pub(super) fn leave_snapshot(&mut self, link: LinkId) {
        let Some(snapshot) = &mut self.snapshot else { return };
        snapshot.links.retain(|l| *l != link);
        let useful = snapshot.target == Target::Disk && self.policy.save_points;
        if snapshot.links.is_empty() && !useful {
            self.snapshot = None;
            self.notice("No replica waits for the snapshot any more: it is aborted".into());
            self.act(Action::AbortSnapshot);
        }
    }

    /// Transfers that stand still are given up.
    pub(super) fn time_out_transfers(&mut self, now: Ms) {
        let sockets = self.snapshot.as_ref().is_some_and(|s| s.target == Target::Sockets);
        let timeout = self.policy.timeout_ms;
        let stuck = |state: State| state == State::SendBulk || (sockets && state == State::WaitEnd);
        let late: Vec<_> = self
            .replicas
            .values()
            .filter(|r| stuck(r.state) && now.saturating_sub(r.progress_at) > timeout)
            .map(|r| (r.link, r.peer.name()))
            .collect();
        for (link, name) in late {
            self.warning(format!("Disconnecting timedout replica (full sync): {name}"));
            self.drop_replica(link, "the transfer stood still");
        }
    }
}
