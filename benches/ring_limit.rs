//! `ring-limit`: the server without a keyspace.
//!
//! It does the least that a correct server can do on one raw io_uring ring:
//! it finds the ends of complete RESP requests and answers with constants. What
//! it costs per request is the limit of kernel TCP on this machine, and the
//! difference between that and Coreslot is what Coreslot's own code costs.
//!
//! The ring is set up as a data core sets up its own: `SINGLE_ISSUER`,
//! `DEFER_TASKRUN`, one multishot accept, one multishot receive per connection
//! out of a provided buffer ring, one coalesced send per connection per turn,
//! one `submit_and_wait` per turn.
//!
//! A turn runs: *reap* (submit, wait, collect completions; received bytes are
//! parsed and replies appended to the connection), then *flush* (one send per
//! connection with output and no send in flight).
//!
//! ```text
//! ring-limit --port 7200 --core 0
//! ```

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Submission queue entries; a full queue is submitted at once and goes on.
const SQ_ENTRIES: u32 = 1024;
/// Completion queue entries; the kernel keeps what overflows.
const CQ_ENTRIES: u32 = 4096;
/// Receive buffers in the provided ring. A connection that finds none is
/// received again in the next turn.
const BUFFERS: u16 = 128;
/// Bytes per receive buffer: a pipeline of 512 GETs fits.
const BUFFER_BYTES: usize = 32 * 1024;
/// The buffer group id of the one provided ring.
const BUFFER_GROUP: u16 = 0;
/// Longest bulk string accepted, as in Redis (`proto-max-bulk-len`).
const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most arguments accepted in one request, as in Redis.
const ARGS_MAX: usize = 1024 * 1024;

const REPLY_OK: &[u8] = b"+OK\r\n";
const REPLY_PONG: &[u8] = b"+PONG\r\n";
/// What redis-benchmark's opening `CONFIG GET` expects: a name and a value.
const REPLY_PAIR: &[u8] = b"*2\r\n$1\r\nx\r\n$0\r\n\r\n";
const REPLY_VALUE: &[u8] = b"$64\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("ring-limit: {message}\nusage: ring-limit --port N [--core N]");
            return ExitCode::from(2);
        }
    };
    match Server::start(&options).and_then(|mut server| server.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ring-limit: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    port: u16,
    core: Option<usize>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut port = None;
        let mut core = None;
        while let Some(name) = args.next() {
            let value = args.next().ok_or(format!("{name} wants a value"))?;
            let bad = |_| format!("bad value for {name}: {value}");
            match name.as_str() {
                "--port" => port = Some(value.parse().map_err(bad)?),
                "--core" => core = Some(value.parse().map_err(bad)?),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        let port = port.ok_or("--port is missing")?;
        Ok(Options { port, core })
    }
}

/// What a completion belongs to: kept in its user data, the kind in the upper
/// half, the connection's index in the lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Accept,
    Receive,
    Send,
}

fn tag(kind: Kind, index: usize) -> u64 {
    ((kind as u64) << 32) | index as u64
}

fn untag(user_data: u64) -> (Kind, usize) {
    let kind = match user_data >> 32 {
        0 => Kind::Accept,
        1 => Kind::Receive,
        _ => Kind::Send,
    };
    (kind, (user_data & u64::from(u32::MAX)) as usize)
}

/// One client. Its slot is reused only when neither a receive nor a send is in
/// flight, so a completion never meets a stranger.
#[derive(Default)]
struct Connection {
    fd: i32,
    /// The start of a request whose end has not come yet.
    partial: Vec<u8>,
    /// Replies of this turn.
    out: Vec<u8>,
    /// What the kernel is sending; not touched until the send completes.
    sending: Vec<u8>,
    sent: usize,
    send_in_flight: bool,
    receive_armed: bool,
    /// Is in the list of connections to flush.
    dirty: bool,
    closing: bool,
}

struct Server {
    ring: IoUring,
    buffers: BufferRing,
    listener: TcpListener,
    connections: Vec<Connection>,
    free: Vec<usize>,
    dirty: Vec<usize>,
    reaped: Vec<cqueue::Entry>,
}

impl Server {
    fn start(options: &Options) -> io::Result<Server> {
        if let Some(id) = options.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            return Err(io::Error::other(format!("cannot pin to core {id}")));
        }
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .map_err(|error| io::Error::other(format!("port {}: {error}", options.port)))?;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(CQ_ENTRIES)
            .build(SQ_ENTRIES)
            .map_err(|error| io::Error::other(format!("io_uring: {error}")))?;
        let buffers = BufferRing::register(&ring)?;
        Ok(Server {
            ring,
            buffers,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            reaped: Vec::with_capacity(CQ_ENTRIES as usize),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        self.arm_accept()?;
        loop {
            self.reap()?;
            self.flush()?;
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            // EBUSY: completions overflowed; reaping makes room.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR) | Some(libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(self.ring.completion());
        for completion in reaped.drain(..) {
            let (kind, index) = untag(completion.user_data());
            match kind {
                Kind::Accept => self.accepted(&completion)?,
                Kind::Receive => self.received(index, &completion)?,
                Kind::Send => self.sent(index, completion.result()),
            }
        }
        self.reaped = reaped;
        self.buffers.publish();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.connections[index].dirty = false;
            self.send(index)?;
            self.close_if_done(index);
        }
        self.dirty = dirty;
        Ok(())
    }

    fn arm_accept(&mut self) -> io::Result<()> {
        let fd = Fd(self.listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).build();
        self.push(&entry.user_data(tag(Kind::Accept, 0)))
    }

    fn arm_receive(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.receive_armed = true;
        let entry = opcode::RecvMulti::new(Fd(connection.fd), BUFFER_GROUP).build();
        self.push(&entry.user_data(tag(Kind::Receive, index)))
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if !cqueue::more(completion.flags()) {
            self.arm_accept()?;
        }
        let fd = completion.result();
        if fd < 0 {
            return Ok(());
        }
        set_nodelay(fd);
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Connection::default());
            self.connections.len() - 1
        });
        self.connections[index] = Connection { fd, ..Connection::default() };
        self.arm_receive(index)
    }

    fn received(&mut self, index: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let more = cqueue::more(completion.flags());
        connection.receive_armed = more;
        let result = completion.result();
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            let bytes = self.buffers.bytes(id, usize::try_from(result).unwrap_or(0));
            if !connection.closing && answer(connection, bytes).is_err() {
                shut_down(connection);
            }
            self.buffers.give_back(id);
        }
        if result == 0 || (result < 0 && result != -libc::ENOBUFS) {
            connection.closing = true;
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
        if !more && !self.connections[index].closing {
            self.arm_receive(index)?;
        }
        Ok(())
    }

    /// Starts one send of everything that has gathered, unless one is in flight.
    fn send(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.send_in_flight || connection.closing {
            return Ok(());
        }
        if connection.sent == connection.sending.len() {
            connection.sending.clear();
            connection.sent = 0;
            std::mem::swap(&mut connection.sending, &mut connection.out);
        }
        let rest = &connection.sending[connection.sent..];
        if rest.is_empty() {
            return Ok(());
        }
        connection.send_in_flight = true;
        let entry = opcode::Send::new(Fd(connection.fd), rest.as_ptr(), rest.len() as u32).build();
        self.push(&entry.user_data(tag(Kind::Send, index)))
    }

    fn sent(&mut self, index: usize, result: i32) {
        let connection = &mut self.connections[index];
        assert!(connection.send_in_flight, "a send completed that none began");
        connection.send_in_flight = false;
        match usize::try_from(result) {
            Ok(bytes) => connection.sent += bytes,
            Err(_) => shut_down(connection),
        }
        let unsent = connection.sent < connection.sending.len() || !connection.out.is_empty();
        if (unsent || connection.closing) && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    fn close_if_done(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.closing && !connection.receive_armed && !connection.send_in_flight {
            // SAFETY: the descriptor is this connection's own, and no operation
            // on it is in flight; the slot forgets it in the next line.
            unsafe { libc::close(connection.fd) };
            *connection = Connection::default();
            self.free.push(index);
        }
    }

    /// Queues an entry; a full submission queue is submitted first.
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: receives name the registered buffer ring; sends point into
            // `sending`, which is left alone and alive while `send_in_flight`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

/// Ends both directions; the armed receive then completes with 0 and closes.
fn shut_down(connection: &mut Connection) {
    connection.closing = true;
    // SAFETY: the descriptor is open until `close_if_done`.
    unsafe { libc::shutdown(connection.fd, libc::SHUT_RDWR) };
}

fn set_nodelay(fd: i32) {
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call and its size is the one given.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        );
    }
}

/// A request that is not RESP: the connection is closed.
#[derive(Debug)]
struct Malformed;

/// Answers every complete request in `bytes` and keeps the rest.
fn answer(connection: &mut Connection, bytes: &[u8]) -> Result<(), Malformed> {
    if connection.partial.is_empty() {
        let used = answer_all(bytes, &mut connection.out)?;
        connection.partial.extend_from_slice(&bytes[used..]);
    } else {
        connection.partial.extend_from_slice(bytes);
        let used = answer_all(&connection.partial, &mut connection.out)?;
        connection.partial.drain(..used);
    }
    Ok(())
}

fn answer_all(bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
    let mut used = 0;
    while let Some((length, first)) = complete(&bytes[used..])? {
        used += length;
        out.extend_from_slice(match first | 0x20 {
            b's' => REPLY_OK,
            b'p' => REPLY_PONG,
            b'c' => REPLY_PAIR,
            b'e' => std::process::exit(0),
            _ => REPLY_VALUE,
        });
    }
    Ok(used)
}

/// The length of the first request and the first byte of its first argument, or
/// `None` if its end has not come.
fn complete(bytes: &[u8]) -> Result<Option<(usize, u8)>, Malformed> {
    let Some((args, mut at)) = header(bytes, b'*', ARGS_MAX)? else {
        return Ok(None);
    };
    let mut first = 0;
    for arg in 0..args {
        let Some((length, used)) = header(&bytes[at..], b'$', BULK_BYTES_MAX)? else {
            return Ok(None);
        };
        at += used;
        if bytes.len() < at + length + 2 {
            return Ok(None);
        }
        if arg == 0 {
            first = bytes[at];
        }
        at += length + 2;
    }
    Ok(Some((at, first)))
}

/// Parses `<mark><digits>\r\n`: the number and the bytes used.
#[inline]
fn header(bytes: &[u8], mark: u8, max: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let Some((&found, digits)) = bytes.split_first() else {
        return Ok(None);
    };
    if found != mark {
        return Err(Malformed);
    }
    let mut number = 0;
    for (at, &byte) in digits.iter().enumerate() {
        if byte.is_ascii_digit() {
            number = number * 10 + usize::from(byte - b'0');
            if number > max {
                return Err(Malformed);
            }
        } else if byte == b'\r' {
            return Ok((digits.len() > at + 1).then_some((number, at + 3)));
        } else {
            return Err(Malformed);
        }
    }
    Ok(None)
}

/// The provided buffer ring and the memory that its entries name.
///
/// Invariant: every buffer is either offered (between the kernel's head and our
/// tail) or held by the completion that we are handling.
struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl BufferRing {
    fn register(ring: &IoUring) -> io::Result<BufferRing> {
        let entries = map(usize::from(BUFFERS) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: the mapping is page-aligned, has BUFFERS entries and is never
        // unmapped.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, BUFFERS, BUFFER_GROUP, 0)?;
        }
        let mut buffers = BufferRing { entries, memory, tail: 0 };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    fn bytes(&self, id: u16, length: usize) -> &[u8] {
        assert!(id < BUFFERS && length <= BUFFER_BYTES);
        // SAFETY: in bounds by the assertion; the kernel does not write to a
        // buffer that it has handed out and not got back.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, length)
        }
    }

    /// Offers a buffer again, from the next `publish` on.
    fn give_back(&mut self, id: u16) {
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `slot` is below BUFFERS; the kernel reads the entry only once
        // the tail has passed it. The setters leave the tail's bytes (the
        // reserved field of entry 0) alone.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            let start = self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES);
            entry.set_addr(start as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// One release store per turn, however many buffers came back.
    fn publish(&self) {
        // SAFETY: the tail is an aligned u16 in the mapped ring, shared with the
        // kernel, so it is only written atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Anonymous zeroed memory, page-aligned, for the life of the process.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new private mapping touches no memory in use.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_pieces_is_answered_once() {
        let request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        for cut in 0..request.len() {
            let mut connection = Connection::default();
            answer(&mut connection, &request[..cut]).unwrap();
            answer(&mut connection, &request[cut..]).unwrap();
            assert_eq!(connection.out, [REPLY_OK, REPLY_VALUE].concat(), "cut at {cut}");
            assert!(connection.partial.is_empty());
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        assert!(complete(b"GET k\r\n").is_err());
        assert!(complete(b"*1\r\n$99999999999\r\n").is_err());
        assert!(complete(b"*1\r\n$-1\r\n").is_err());
    }
}
