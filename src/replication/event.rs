//! What happens to a node's replication, and what it wants done.

use bytes::Bytes;

use super::history::Window;
use super::id::ReplId;
use super::peer::{Peer, Wanted};
use super::stream::Batch;

/// Milliseconds of a clock that never goes back.
pub type Ms = u64;

/// The connection of one replica; never used twice.
pub type LinkId = u64;

/// One connection to the primary; counts up, so that what comes from an
/// earlier one is recognized.
pub type Epoch = u64;

/// A WAIT or WAITAOF that has not been answered.
pub type Ticket = u64;

/// Where a snapshot for replicas goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a file, which is then sent.
    Disk,
    /// To the replicas' sockets.
    Sockets,
}

/// A PSYNC command.
#[derive(Clone, Debug)]
pub struct Psync {
    pub link: LinkId,
    pub peer: Peer,
    /// `None` for `?`; what is no id names no history ([`ReplId::asked`]).
    pub id: Option<ReplId>,
    /// The next byte wanted; -1 for none in particular.
    pub next: i64,
    pub failover: bool,
}

/// Where a planned failover goes to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FailoverOrder {
    pub target: Option<(String, u16)>,
    pub force: bool,
    pub timeout_ms: Option<u64>,
}

/// What a node is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed: due at least ten times a second.
    Tick,

    /// A client asks to become a replica.
    Psync(Psync),
    /// The same in the manner of Redis before 2.8.
    Sync {
        link: LinkId,
        peer: Peer,
    },
    /// A replica acknowledges what it has applied, and what it has on disk.
    Ack {
        link: LinkId,
        offset: u64,
        fsynced: Option<u64>,
    },
    /// A replica shows that it lives (an empty line while it loads).
    Alive {
        link: LinkId,
    },
    /// A replica's connection has ended.
    Gone {
        link: LinkId,
    },
    /// The stream has been given to the kernel up to this offset.
    Sent {
        link: LinkId,
        offset: u64,
    },
    /// Some of the snapshot has been given to the kernel.
    BulkProgress {
        link: LinkId,
    },
    /// All of the snapshot has been given to the kernel.
    BulkSent {
        link: LinkId,
    },
    /// The snapshot that was asked for is a state of the dataset at `offset`.
    SnapshotCut {
        offset: u64,
    },
    /// It is complete.
    SnapshotDone,
    /// It could not be begun, or not be finished.
    SnapshotFailed {
        reason: String,
    },

    /// The history is to have another name (DEBUG CHANGE-REPL-ID).
    ChangeId,

    /// REPLICAOF host port.
    ReplicaOf {
        host: String,
        port: u16,
    },
    /// REPLICAOF NO ONE.
    NoOne,
    /// No write of a client can reach the stream any more.
    Fenced,
    Connected {
        epoch: Epoch,
    },
    Received {
        epoch: Epoch,
        bytes: Bytes,
    },
    /// The connection could not be made, or has ended.
    Lost {
        epoch: Epoch,
        reason: String,
    },
    /// The dataset is about to be replaced by the primary's.
    Replacing,
    /// The primary's dataset is in place; its stream begins in database `db`.
    /// All batches handed out before have been answered.
    Loaded {
        db: u32,
    },
    LoadFailed {
        reason: String,
    },
    /// All batches up to this offset are applied.
    Applied {
        end: u64,
    },

    /// A client waits for replicas to acknowledge `offset`.
    Wait {
        ticket: Ticket,
        offset: u64,
        local: Option<u64>,
        replicas: usize,
        fsynced: bool,
        deadline: Option<Ms>,
    },
    /// The append-only file is on disk up to this offset of the stream, and up
    /// to this time.
    Fsynced {
        offset: u64,
        past: u64,
    },
    /// It has gone away.
    WaitCancelled {
        ticket: Ticket,
    },
    /// Replicas are to say how far they are.
    AskForAcks,
    /// FAILOVER.
    Failover(FailoverOrder),
    FailoverAbort,
    /// Clients' writes are held back, and none is on its way into the stream.
    Paused,
}

/// What a node wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes to a replica.
    Send {
        link: LinkId,
        bytes: Bytes,
    },
    /// Send what is queued for it and end the connection.
    Close {
        link: LinkId,
        reason: String,
    },
    /// Send the snapshot's file, framed by its length.
    SendFile {
        link: LinkId,
    },
    /// Keep the stream from this byte on: it will be sent to this replica.
    Attach {
        link: LinkId,
        from: u64,
    },
    /// From now on, send the stream from this byte on.
    Feed {
        link: LinkId,
        from: u64,
    },
    /// Take a snapshot for these replicas.
    StartSnapshot {
        target: Target,
        wanted: Wanted,
        links: Vec<LinkId>,
    },
    AbortSnapshot,

    /// Keep a backlog from now on, its first byte being the next.
    StartLog,
    FreeLog,
    /// Forget the backlog; the last byte is taken to have had this offset.
    ResetLog {
        end: u64,
    },
    /// Put these bytes into the stream.
    Append(&'static [u8]),
    /// The next write in the stream must be preceded by SELECT.
    ForceSelect,

    /// Who the primary is has changed, whoever wanted that: the configuration says so.
    Configure(Option<(String, u16)>),
    /// Stop taking clients' writes; answered by `Fenced`.
    Fence,
    /// Take clients' writes.
    Unfence,
    /// Hold back clients' writes (FAILOVER) until released; answered by `Paused`.
    PauseWrites,
    ResumeWrites,

    Connect {
        epoch: Epoch,
        host: String,
        port: u16,
    },
    Disconnect {
        epoch: Epoch,
    },
    /// Send these bytes to the primary.
    Tell {
        epoch: Epoch,
        bytes: Bytes,
    },
    /// The primary's snapshot begins; its length, if known.
    BeginLoad {
        bytes: Option<u64>,
        /// If there is nothing in it, it is not to be loaded: the primary has
        /// lost its dataset.
        refuse_empty: bool,
        /// It is a later state of the history at hand: the old dataset may be
        /// served until it is replaced (`repl-diskless-load swapdb`).
        same_history: bool,
    },
    Load(Bytes),
    /// All of it was handed over; answered by `Loaded` or `LoadFailed`.
    EndLoad,
    AbortLoad,
    /// Apply these commands; answered by `Applied`.
    Apply(Batch),
    /// These bytes of the primary are applied: they belong into the backlog.
    Relay(Bytes),

    WaitDone {
        ticket: Ticket,
        /// This server has it on disk, if that was asked for.
        local: bool,
        replicas: usize,
    },
    /// Replicas that acknowledge in time (min-replicas-to-write).
    GoodReplicas(usize),
    /// The answer to a REPLICAOF NO ONE or FAILOVER that was under way.
    RoleIsPrimary,
    RoleIsReplica,

    Notice(String),
    Warning(String),
    /// Tell whoever supervises the process how it is.
    Status(&'static str),
}

/// What a node is told with every event: the time and what the stream holds.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Ms,
    pub window: Window,
}
