//! One replica of this server, as the primary side sees it.

use super::event::{LinkId, Ms};
use super::peer::Peer;

/// How far a replica has come (INFO `state=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No snapshot for it has been begun.
    WaitStart,
    /// Its snapshot is being taken, for the file or straight to its socket.
    WaitEnd,
    /// The snapshot's file is being sent.
    SendBulk,
    /// It has, or will have with its first acknowledgement, the stream.
    Online,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Replica {
    pub link: LinkId,
    pub peer: Peer,
    pub state: State,
    /// Its snapshot goes to its socket as it is taken, not from the file.
    pub streamed: bool,
    /// Offset of the snapshot that it gets.
    pub cut: u64,
    /// The stream is being sent to it; otherwise it waits for the first
    /// acknowledgement, because nothing may follow the end mark at once.
    pub fed: bool,
    /// Given to the kernel up to this offset.
    pub sent: u64,
    pub acked: u64,
    pub fsynced: u64,
    pub acked_at: Ms,
    /// It spoke SYNC: it never acknowledges.
    pub silent: bool,
    pub waiting_since: Ms,
    pub progress_at: Ms,
    /// Since when it leaves more unread than the soft limit allows.
    pub soft_since: Option<Ms>,
}

impl Replica {
    pub fn new(link: LinkId, peer: Peer, silent: bool, now: Ms) -> Replica {
        Replica {
            link,
            peer,
            state: State::WaitStart,
            streamed: false,
            cut: 0,
            fed: false,
            sent: 0,
            acked: 0,
            fsynced: 0,
            acked_at: now,
            silent,
            waiting_since: now,
            progress_at: now,
            soft_since: None,
        }
    }

    /// INFO `state=`.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::WaitStart | State::WaitEnd => "wait_bgsave",
            State::SendBulk => "send_bulk",
            State::Online => "online",
        }
    }

    pub fn online(&self) -> bool {
        self.state == State::Online
    }

    /// First byte of the stream that it still needs; `None` while it has no
    /// place in the stream.
    pub fn needs(&self) -> Option<u64> {
        (self.state != State::WaitStart).then_some(self.sent.max(self.cut) + 1)
    }

    /// Seconds since its last acknowledgement (INFO `lag=`).
    pub fn lag_s(&self, now: Ms) -> u64 {
        if self.online() { now.saturating_sub(self.acked_at) / 1000 } else { 0 }
    }
}
