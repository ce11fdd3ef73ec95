//! The state of one connection. It lives on the core that accepted it.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::pubsub::{Kind, Subscriptions};
use super::replies::Replies;
use super::tls::Session;
use super::tracking::Tracking;
use super::watch::Token;
use crate::acl::{DEFAULT_USER, User};
use crate::base::num;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::resp::request::Resume;

/// A connection in the whole process: its core, its place there, and the
/// generation of that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnRef {
    pub core: u32,
    pub index: u32,
    pub generation: u32,
}

/// A request that waits in a transaction for EXEC.
pub struct Queued {
    /// Index of the command's entry in the registry.
    pub command: usize,
    pub args: Vec<Vec<u8>>,
}

/// MULTI in progress.
#[derive(Default)]
pub struct Multi {
    pub queue: Vec<Queued>,
    pub bytes: usize,
    /// A command was refused while queueing: EXEC aborts.
    pub broken: bool,
}

/// A key that the connection watches.
pub struct Watched {
    pub db: usize,
    pub hash: u64,
    pub key: Vec<u8>,
}

/// How replies are treated (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    On,
    Off,
    /// Skip the reply of the next command.
    SkipNext,
    /// Skip the reply of the current command.
    SkipThis,
}

/// What few connections have; boxed, so that idle ones stay small.
#[derive(Default)]
pub struct Extra {
    pub name: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    pub multi: Option<Multi>,
    /// EXEC as the client spells it, where monitors show it.
    pub exec_word: Vec<u8>,
    /// It has asked for the debugger of scripts, which there is not.
    pub debugs: bool,
    pub watch_token: Option<Token>,
    pub watched: Vec<Watched>,
    pub subscriptions: Option<Box<Subscriptions>>,
    pub blocked: Option<Box<Blocked>>,
    /// CLIENT TRACKING is on.
    pub tracking: Option<Box<Tracking>>,
}

impl Extra {
    /// Bytes, roughly: what clients can make large is counted.
    fn memory(&self) -> usize {
        const NODE: usize = 32;
        let watched: usize = self.watched.iter().map(|w| w.key.len() + size_of::<Watched>()).sum();
        let prefixes = self.tracking.iter().flat_map(|t| &t.prefixes).map(|p| p.len() + NODE).sum::<usize>();
        let blocked = self.blocked.iter().flat_map(|b| &b.args).map(|a| a.len() + NODE).sum::<usize>();
        size_of::<Extra>()
            + self.name.len()
            + self.multi.as_ref().map_or(0, |m| m.bytes)
            + self.subscriptions.as_ref().map_or(0, |s| s.memory())
            + watched
            + prefixes
            + blocked
    }
}

/// Who keeps a blocking command until it can be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It is on its way.
    #[default]
    Nowhere,
    /// The core that owns all its keys.
    Core(usize),
    /// Its keys lie on these.
    Several(Vec<usize>),
}

impl Place {
    pub fn cores(self) -> Vec<usize> {
        match self {
            Place::Nowhere => Vec::new(),
            Place::Core(core) => vec![core],
            Place::Several(cores) => cores,
        }
    }
}

/// A blocking command that has no reply yet.
pub struct Blocked {
    /// Its place among the replies.
    pub seq: u32,
    /// Index of its entry in the registry.
    pub command: usize,
    pub args: Vec<Vec<u8>>,
    pub place: Place,
    /// Until when it waits, from its first attempt on; `Some(None)` for ever.
    pub deadline_ms: Option<Option<u64>>,
    /// An attempt over several cores is under way; another is to follow.
    pub trying: bool,
    pub again: bool,
    /// The reply to end it with, if it finds nothing.
    pub reply: Option<Vec<u8>>,
}

impl Blocked {
    /// Is it kept somewhere, with no attempt under way?
    pub fn waits(&self) -> bool {
        self.place != Place::Nowhere && !self.trying
    }

    pub fn new(seq: u32, command: usize, args: Vec<Vec<u8>>) -> Blocked {
        Blocked {
            seq,
            command,
            args,
            place: Place::Nowhere,
            deadline_ms: None,
            trying: false,
            again: false,
            reply: None,
        }
    }
}

/// Bytes of a client's fixed buffer for replies in Redis
/// (`PROTO_REPLY_CHUNK_BYTES`).
pub const REPLY_BUFFER: usize = 16 * 1024;

/// One connection.
pub struct Conn {
    pub fd: RawFd,
    pub me: ConnRef,
    /// Client id, unique and ascending in the process.
    pub id: u64,
    pub db: usize,
    pub proto: Proto,
    /// It may run commands: it has logged in, or nobody has to.
    pub authenticated: bool,
    /// It has logged in itself, or came when nobody had to.
    pub logged_in: bool,
    /// Who it is; the server's own work has no user and may do everything.
    pub user: Option<Arc<User>>,
    /// There is something that the user may not do.
    pub restricted: bool,
    /// Something that every request has to look at: MULTI, CLIENT REPLY, ...
    pub special: bool,
    /// A request that reaches beyond its own keys is under way; what follows
    /// waits for it.
    pub barrier: bool,
    /// All that is outstanding are commands on other cores that wait for nobody
    /// (no blocking ones, no scripts, no transactions).
    pub prompt: bool,
    /// Output is kept until the replies up to this place have come.
    pub held_for: Option<u32>,
    /// It sees the commands of all connections (MONITOR).
    pub monitor: bool,
    pub no_evict: bool,
    pub no_touch: bool,
    /// The keys of its reads are remembered (CLIENT TRACKING).
    pub tracks: bool,
    /// It is told itself of keys that have changed.
    pub hears: bool,
    pub reply_mode: ReplyMode,
    pub unix_socket: bool,
    /// It came in by the core's own port.
    pub endpoint: bool,
    pub local: bool,
    /// What it says and hears is encrypted.
    pub tls: Option<Box<Session>>,

    /// Received; executed up to `input_at`.
    pub input: Vec<u8>,
    pub input_at: usize,
    /// The most bytes in it since it was looked at.
    pub input_peak: usize,
    pub resume: Resume,
    pub replies: Replies,
    /// Being sent; empty when no send is in flight.
    pub inflight: Vec<u8>,
    pub sent: usize,

    /// A multishot receive is armed.
    pub receiving: bool,
    /// The receive is being cancelled, or stays unarmed, until input is worked off.
    pub throttled: bool,
    pub sending: bool,
    /// Output that waits for the disk: the stamp that must be durable, and how
    /// many bytes of the replies wait for it.
    pub held: Option<(u64, usize)>,
    /// Requests of the ring that still refer to this place.
    pub ring_refs: u32,
    /// Listed among those with output, and with input to go on with.
    pub listed_dirty: bool,
    pub listed_ready: bool,
    /// Held back by CLIENT PAUSE.
    pub paused: bool,
    /// Close once the output is sent.
    pub close_after: bool,
    /// Shut down; the place is freed when the ring has let go.
    pub closing: bool,
    /// Closing here, because it goes to the service core.
    pub departing: bool,
    /// The peer has closed its side.
    pub eof: bool,
    /// The map's epoch when the first outstanding request was sent.
    pub route_epoch: u32,

    pub created_ms: u64,
    pub active_ms: u64,
    /// When the output went over its soft limit; 0 if it is not.
    pub soft_limit_since_ms: u64,
    pub last_command: Option<usize>,
    pub commands: u64,
    /// Stamp of the last turn in which it may have written something; 0 before.
    pub wrote: u64,
    /// Something outstanding may write elsewhere.
    pub writes_elsewhere: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Its memory, as the core has it in its sum (`maxmemory-clients`).
    pub counted: usize,
    /// Bytes that it took when it was closed.
    pub leaving: usize,
    pub extra: Option<Box<Extra>>,
}

impl Conn {
    pub fn new(fd: RawFd, me: ConnRef, id: u64, now_ms: u64) -> Conn {
        Conn {
            fd,
            me,
            id,
            db: 0,
            proto: Proto::Resp2,
            authenticated: true,
            logged_in: true,
            user: None,
            restricted: false,
            special: false,
            barrier: false,
            prompt: false,
            held_for: None,
            monitor: false,
            no_evict: false,
            no_touch: false,
            tracks: false,
            hears: false,
            reply_mode: ReplyMode::On,
            unix_socket: false,
            endpoint: false,
            local: true,
            tls: None,
            input: Vec::new(),
            input_at: 0,
            input_peak: 0,
            resume: Resume::default(),
            replies: Replies::default(),
            inflight: Vec::new(),
            sent: 0,
            receiving: false,
            throttled: false,
            sending: false,
            held: None,
            ring_refs: 0,
            listed_dirty: false,
            listed_ready: false,
            paused: false,
            close_after: false,
            closing: false,
            departing: false,
            eof: false,
            route_epoch: 0,
            created_ms: now_ms,
            active_ms: now_ms,
            soft_limit_since_ms: 0,
            last_command: None,
            commands: 0,
            wrote: 0,
            writes_elsewhere: false,
            bytes_in: 0,
            bytes_out: 0,
            counted: 0,
            leaving: 0,
            extra: None,
        }
    }

    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_with(Box::default)
    }

    pub fn name(&self) -> &[u8] {
        self.extra.as_ref().map_or(b"", |x| &x.name)
    }

    /// Name of its user.
    pub fn user_name(&self) -> &[u8] {
        self.user.as_ref().map_or(DEFAULT_USER, |u| &u.name)
    }

    pub fn in_multi(&self) -> bool {
        self.extra.as_ref().is_some_and(|x| x.multi.is_some())
    }

    pub fn watching(&self) -> usize {
        self.extra.as_ref().map_or(0, |x| x.watched.len())
    }

    /// Keeps `special` in step with what it sums up.
    pub fn update_special(&mut self) {
        self.tracks = self.tracking().is_some_and(Tracking::remembers);
        self.hears = self.tracking().is_some_and(|t| t.redirect.is_none());
        self.special = !self.authenticated
            || self.restricted
            || self.monitor
            || self.tracking().is_some_and(|t| t.caching)
            || self.in_multi()
            || self.reply_mode != ReplyMode::On
            || (self.proto == Proto::Resp2 && self.subscribed());
    }

    /// The blocking command that it waits for.
    pub fn blocked(&self) -> Option<&Blocked> {
        self.extra.as_ref().and_then(|x| x.blocked.as_deref())
    }

    /// How keys are tracked for it.
    pub fn tracking(&self) -> Option<&Tracking> {
        self.extra.as_ref().and_then(|x| x.tracking.as_deref())
    }

    /// Writes something that is no reply to a connection in a blocking
    /// command: not behind the reply for which it waits, unless others are
    /// outstanding before it.
    pub fn push_aside(&mut self, frame: &[u8]) {
        if self.replies.outstanding() == 1 && self.blocked().is_some_and(Blocked::waits) {
            return self.replies.out.extend_from_slice(frame);
        }
        let start = self.replies.buffer().len();
        self.replies.buffer().extend_from_slice(frame);
        self.replies.commit(start);
    }

    /// The reply to a request that ran elsewhere has come. Nobody reads it of one
    /// that is being closed: its memory is as good as free, and must not grow.
    pub fn fill(&mut self, seq: u32, reply: &[u8]) {
        let unread = self.closing && !self.departing;
        self.replies.fill(seq, if unread { b"" } else { reply });
    }

    /// Does it listen to anything?
    pub fn subscribed(&self) -> bool {
        self.extra.as_ref().is_some_and(|x| x.subscriptions.is_some())
    }

    /// Number of its subscriptions of a kind.
    pub fn subscriptions(&self, kind: Kind) -> usize {
        self.extra.as_ref().and_then(|x| x.subscriptions.as_ref()).map_or(0, |s| s.len(kind))
    }

    /// Is the current command's reply not wanted?
    pub fn muted(&self) -> bool {
        matches!(self.reply_mode, ReplyMode::Off | ReplyMode::SkipThis)
    }

    /// Writes one complete reply, in its order.
    pub fn reply<R>(&mut self, write: impl FnOnce(&mut Reply) -> R) -> R {
        let muted = self.muted();
        let proto = self.proto;
        let buffer = self.replies.buffer();
        let start = buffer.len();
        let r = write(&mut Reply::new(buffer, proto));
        if muted {
            self.replies.buffer().truncate(start);
        }
        self.replies.commit(start);
        r
    }

    /// Writes an error reply; `text` begins with its code.
    pub fn error(&mut self, text: &[u8]) {
        self.reply(|r| r.error(text));
    }

    /// Bytes that wait to be sent.
    pub fn output_bytes(&self) -> usize {
        self.replies.memory() + self.inflight.len() - self.sent + self.tls.as_ref().map_or(0, |t| t.pending().len())
    }

    /// The same when it is more than fits into the fixed buffer that every
    /// client has in Redis, else 0: limits on output are limits on this.
    pub fn output_beyond(&self) -> usize {
        let n = self.output_bytes();
        if n > REPLY_BUFFER { n } else { 0 }
    }

    /// Bytes received and not yet executed.
    pub fn input_bytes(&self) -> usize {
        self.input.len() - self.input_at
    }

    /// Of those, what belongs to arguments that are complete.
    pub fn argument_bytes(&self) -> usize {
        self.resume.understood().min(self.input_bytes())
    }

    /// Approximate memory of the connection. Buffers for output are the core's,
    /// lent: one that is hardly used does not count in full. What counts does so
    /// in steps, so that a connection does not look larger while its own small
    /// reply is on the way.
    pub fn memory(&self) -> usize {
        const STEP: usize = 1024;
        let held = |used: usize, size: usize| size.min(4 * used);
        let waiting =
            held(self.replies.memory(), self.replies.capacity()) + held(self.inflight.len(), self.inflight.capacity());
        size_of::<Conn>()
            + self.input.capacity()
            + waiting.next_multiple_of(STEP).max(STEP)
            + self.tls.as_ref().map_or(0, |t| t.memory())
            + self.extra.as_ref().map_or(0, |x| x.memory())
    }

    /// Gives memory back that an idle connection does not need.
    pub fn relax(&mut self) {
        if self.input_bytes() == 0 && self.input.capacity() > 0 {
            self.input = Vec::new();
            self.input_at = 0;
        }
        if !self.sending {
            self.inflight = Vec::new();
        }
        self.replies.shrink();
    }
}

/// The peer's or local address of a socket, as CLIENT LIST prints it.
pub fn socket_name(fd: RawFd, peer: bool) -> String {
    // SAFETY: zeroed bytes are a valid sockaddr_storage.
    let mut addr: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let p = (&raw mut addr).cast::<libc::sockaddr>();
    // SAFETY: `addr` and `len` are valid for the kernel to fill.
    let r = unsafe { if peer { libc::getpeername(fd, p, &mut len) } else { libc::getsockname(fd, p, &mut len) } };
    if r != 0 {
        return "?:0".into();
    }
    match i32::from(addr.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in.
            let a = unsafe { &*(&raw const addr).cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
            format!("{ip}:{}", u16::from_be(a.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6.
            let a = unsafe { &*(&raw const addr).cast::<libc::sockaddr_in6>() };
            let ip = std::net::Ipv6Addr::from(a.sin6_addr.s6_addr);
            format!("[{ip}]:{}", u16::from_be(a.sin6_port))
        }
        _ => "unix:0".into(),
    }
}

/// A client id from text.
pub fn parse_id(text: &[u8]) -> Option<u64> {
    num::parse_i64(text).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
}
