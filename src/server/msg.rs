//! What cores say to each other.

use std::rc::Rc;
use std::sync::Arc;

use super::batch::Batch;
use super::core::Core;
use super::scripts::Again;
use super::service::Service;
use super::tx::{Cargo, Tx};
use crate::command::effect::{Block, Event, Tour};
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ConnRef};
use crate::session::watch::Token;

/// Who asked, and where the reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub conn: ConnRef,
    /// The reply's place on the connection.
    pub seq: u32,
    pub client: u64,
    pub db: u32,
    pub proto: Proto,
    pub no_touch: bool,
    /// The client is to hear when the keys change that it reads.
    pub tracked: bool,
}

impl Origin {
    /// The connection as it is now; the reply goes to its place `seq`.
    #[inline]
    pub fn of(conn: &Conn, seq: u32) -> Origin {
        Origin {
            conn: conn.me,
            seq,
            client: conn.id,
            db: conn.db as u32,
            proto: conn.proto,
            no_touch: conn.no_touch,
            tracked: conn.tracks,
        }
    }
}

impl Origin {
    /// The same connection in the same state, whatever place the reply has?
    #[inline]
    pub fn is_of_same(&self, other: &Origin) -> bool {
        Origin { seq: 0, ..*self } == Origin { seq: 0, ..*other }
    }
}

/// What a forwarded request does.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// The command with this index in the registry.
    Command(usize),
    /// Registers a watch of the one key.
    Watch(Token),
}

/// One forwarded request of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub origin: Origin,
    pub job: Job,
    pub argc: u32,
    /// Hash of its first key (for SCAN: the position).
    pub hash: u64,
    /// Argument that `hash` belongs to.
    pub key_at: u32,
}

/// A request with arguments of its own: parked, or on its way once more.
pub struct Parked {
    pub head: Head,
    pub args: Vec<Vec<u8>>,
    /// The earliest time it may run at, Unix milliseconds.
    pub now: u64,
    /// What a SCAN has from other cores.
    pub tour: Option<Box<Tour>>,
}

impl Parked {
    pub fn new(head: Head, args: Vec<Vec<u8>>, now: u64) -> Parked {
        Parked { head, args, now, tour: None }
    }
}

/// Something to be run on the service core.
pub type ServiceCall = Box<dyn FnOnce(&Rc<Service>) + Send>;

/// One message.
pub enum Msg {
    Requests(Box<Batch>),
    Replies(Box<Batch>),
    /// A request that did not find its slot on the core it was sent to.
    Forward(Box<Parked>),
    Reply {
        conn: ConnRef,
        seq: u32,
        reply: Vec<u8>,
    },
    /// A part has its locks (and sends what it has to the coordinator).
    Locked {
        tx: Arc<Tx>,
        part: usize,
        vote: bool,
        cargo: Cargo,
    },
    /// A part is done.
    Done {
        tx: Arc<Tx>,
        part: usize,
        reply: Vec<u8>,
        /// Ticks that it took.
        spent: u64,
        /// It has put something into the journal.
        journaled: bool,
    },
    /// A transaction is over: a part gets back what it sent.
    Release {
        tx: Arc<Tx>,
        part: usize,
        cargo: Cargo,
        events: Vec<Event>,
        /// Keys that its client has read, to be remembered behind the events.
        reads: Vec<Vec<u8>>,
        /// It has found nothing, and waits for these keys.
        block: Option<Arc<Block>>,
    },
    /// A transaction was called off before it ran, for a script's sake: its
    /// client is to be told.
    Refused(Arc<Tx>),
    /// A script that ran here or elsewhere is to run once more.
    Again(Box<Again>),
    /// For the service core.
    Service(ServiceCall),
    /// Anything rare.
    Call(Box<dyn FnOnce(&mut Core) + Send>),
}
