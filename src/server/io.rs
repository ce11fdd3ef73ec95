//! A core's sockets: accepting, receiving, sending, closing.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use io_uring::{opcode, squeue, types};

use super::core::Core;
use crate::base::os::strerror;
use crate::reactor::buffers;
use crate::reactor::ring::{Completion, Op, Token};
use crate::reactor::wake;
use crate::session::conn::{Blocked, Conn, ConnRef, socket_name};
use crate::session::replies::give_room_back;

/// Input that waits on one connection before the core stops receiving on it.
const INPUT_HIGH: usize = 4 << 20;

/// Output that may wait for a peer that has to log in and has not: as much as
/// Redis keeps for it before and after it allocates.
const OUTPUT_UNAUTHENTICATED_MAX: u64 = 17 << 10;

/// Buffers of output kept for reuse, and the largest that is kept.
const POOL: usize = 64;
const POOLED_MAX: usize = 256 * 1024;

/// A listening socket of this core.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// -1 once it is closed.
    pub fd: RawFd,
    pub unix: bool,
    /// The core's own port (`core-endpoints`).
    pub endpoint: bool,
    /// Connections are encrypted.
    pub tls: bool,
    /// 0 for a Unix socket.
    pub port: u16,
}

/// Data that has come for a connection.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub index: u32,
    pub generation: u32,
    pub buffer: u16,
    pub len: usize,
    /// Its key, where one was found ahead of parsing; for prefetching.
    pub db: usize,
    pub key: *const u8,
    pub hash: u64,
}

const OWN: u32 = 0;

/// Output of a connection from which it is sent even if more will follow soon.
const KEPT_MAX: usize = 16 << 10;

/// Does the output wait for what other cores are about to answer? A pipeline
/// over several cores would else be answered by two sends, which cost more than
/// the rest of the work. Nothing waits for more than was asked for when it
/// came; what may take its time, and much output, keeps nothing back.
fn keeps_output(conn: &mut Conn) -> bool {
    let out = conn.replies.out.len();
    if !conn.prompt || conn.replies.outstanding() == 0 || out == 0 || out >= KEPT_MAX || conn.replies.has_pieces() {
        conn.held_for = None;
        return false;
    }
    let end = *conn.held_for.get_or_insert(conn.replies.end());
    if conn.replies.reached(end) {
        conn.held_for = None;
        return false;
    }
    true
}

impl Core {
    /// Arms what is always armed: the wake-up and the tick.
    pub fn arm_start(&mut self) {
        self.arm_wake();
        self.arm_tick();
    }

    /// Accepts connections from now on; those that have come wait in the backlog.
    pub fn open_doors(&mut self) {
        if std::mem::replace(&mut self.accepting, true) {
            return;
        }
        for i in 0..self.listeners.len() {
            self.arm_accept(i as u32);
        }
    }

    fn arm_accept(&mut self, listener: u32) {
        let fd = types::Fd(self.listeners[listener as usize].fd);
        let e = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        self.ring.push(e, Token::new(Op::Accept, 0, listener));
    }

    /// Listens on other sockets instead of those of `port`.
    pub fn replace_listeners(&mut self, port: u16, new: &[Listener]) {
        for i in 0..self.listeners.len() {
            let l = self.listeners[i];
            if l.unix || l.port != port || l.fd < 0 {
                continue;
            }
            let target = Token::new(Op::Accept, 0, i as u32).pack();
            self.ring.push(opcode::AsyncCancel::new(target).build(), Token::new(Op::Cancel, 0, OWN));
            // SAFETY: the descriptor is this core's alone; the ring holds the
            // socket itself until the accept is cancelled.
            unsafe { libc::close(l.fd) };
            self.listeners[i].fd = -1;
        }
        for l in new {
            self.listeners.push(*l);
            self.arm_accept(self.listeners.len() as u32 - 1);
        }
    }

    /// Frees the ports for a server that comes next: the ring, and with it a
    /// socket that it accepts from, outlives the process for some time.
    pub fn stop_listening(&self) {
        for l in self.listeners.iter().filter(|l| !l.unix && l.fd >= 0) {
            // SAFETY: a plain call on a descriptor of this core.
            unsafe { libc::shutdown(l.fd, libc::SHUT_RDWR) };
        }
    }

    fn arm_wake(&mut self) {
        let fd = types::Fd(self.port.wake(self.id).sleeper);
        let e = opcode::Recv::new(fd, self.wake_bytes.as_mut_ptr(), wake::READ_BYTES as u32).build();
        self.ring.push(e, Token::new(Op::Wake, 0, OWN));
    }

    /// The tick that paces the cron work.
    fn arm_tick(&mut self) {
        self.timespecs[0] = types::Timespec::new().nsec(super::background::CRON_MS as u32 * 1_000_000);
        let e = opcode::Timeout::new(&raw const self.timespecs[0]).build();
        self.ring.push(e, Token::new(Op::Tick, 0, OWN));
    }

    /// Wakes the core when the next key expires.
    pub fn arm_deadline(&mut self, after_ms: u64) {
        self.timespecs[1] = types::Timespec::new().sec(after_ms / 1000).nsec((after_ms % 1000) as u32 * 1_000_000);
        let e = opcode::Timeout::new(&raw const self.timespecs[1]).build();
        self.ring.push(e, Token::new(Op::Deadline, 0, OWN));
    }

    fn arm_recv(&mut self, conn: &mut Conn) {
        if conn.receiving || conn.closing || conn.eof || conn.throttled {
            return;
        }
        let e = opcode::RecvMulti::new(types::Fd(conn.fd), buffers::GROUP).build();
        self.ring.push(e, Token::new(Op::Recv, conn.me.generation, conn.me.index));
        conn.receiving = true;
        conn.ring_refs += 1;
    }

    /// Takes in all completions that the ring has.
    pub fn collect(&mut self) {
        if !self.scripts.late.is_empty() {
            for c in std::mem::take(&mut self.scripts.late) {
                self.complete(c);
            }
        }
        while let Some(c) = self.ring.take_completion() {
            self.complete(c);
        }
        self.evict_clients_if_too_large();
        if self.shared.stopping.load(Ordering::Relaxed) {
            self.stop = true;
        }
    }

    /// Takes in one completion.
    #[inline]
    pub fn complete(&mut self, c: Completion) {
        if c.token.op == Op::Send {
            return self.on_send(c);
        }
        self.found = true;
        match c.token.op {
            Op::Send => {}
            Op::Recv => self.on_recv(c),
            Op::Accept => self.on_accept(c),
            Op::Wake => self.arm_wake(),
            Op::Tick => {
                self.next_cron_ms = 0;
                self.arm_tick();
                for listener in std::mem::take(&mut self.accept_again) {
                    self.arm_accept(listener);
                }
            }
            Op::Deadline => self.deadline_armed = None,
            Op::WakeWrite => self.on_wake_failed(c),
            Op::Cancel | Op::MsgRing => {}
        }
    }

    fn on_accept(&mut self, c: Completion) {
        let retired = self.listeners[c.token.index as usize].fd < 0;
        if !c.more() && !retired {
            // A failed accept (no descriptors left) would fail again at once:
            // clients wait in the backlog until the next tick.
            if c.result < 0 {
                self.accept_again.push(c.token.index);
            } else {
                self.arm_accept(c.token.index);
            }
        }
        if c.result < 0 && retired {
            return;
        }
        if c.result < 0 {
            self.accept_failed(-c.result);
            return;
        }
        let listener = self.listeners[c.token.index as usize];
        self.adopt(c.result, listener);
    }

    fn accept_failed(&mut self, errno: i32) {
        super::log_warning(&format!("Accepting client connection: {}", strerror(errno)));
    }

    /// Makes a connection of an accepted socket.
    fn adopt(&mut self, fd: RawFd, Listener { unix, endpoint, tls, .. }: Listener) {
        let max = self.settings.maxclients as usize;
        if self.shared.clients.fetch_add(1, Ordering::Relaxed) >= max {
            self.turn_away(fd, if tls { b"" } else { b"-ERR max number of clients reached\r\n" });
            return;
        }
        let session = if tls { self.new_session() } else { None };
        if tls && session.is_none() {
            return self.turn_away(fd, b"");
        }
        self.stats.connections += 1;
        let me = self.conns.reserve(self.id);
        let id = self.shared.next_client();
        let mut conn = Box::new(Conn::new(fd, me, id, self.now));
        conn.unix_socket = unix;
        conn.endpoint = endpoint;
        conn.local = unix || is_local(fd);
        conn.tls = session;
        if self.protected(&conn) {
            let place = conn.me;
            self.turn_away(fd, if tls { b"" } else { PROTECTED });
            drop(conn);
            self.conns.free(place);
            return;
        }
        self.set_default_user(&mut conn);
        if self.settings.client_default_resp == 3 {
            conn.proto = crate::resp::reply::Proto::Resp3;
        }
        self.log_accepted(&conn);
        self.arm_recv(&mut conn);
        self.conns.put(conn);
    }

    fn protected(&self, conn: &Conn) -> bool {
        self.settings.protected_mode && self.users.default_user().nopass && !conn.local
    }

    fn turn_away(&mut self, fd: RawFd, text: &[u8]) {
        self.stats.rejected_connections += 1;
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: one write of valid bytes to a socket that is closed after it.
        unsafe {
            libc::send(fd, text.as_ptr().cast(), text.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
            libc::close(fd);
        }
    }

    fn on_recv(&mut self, c: Completion) {
        let (index, generation) = (c.token.index, c.token.generation);
        if c.result > 0
            && let Some(buffer) = c.buffer()
        {
            self.arrivals.push(Arrival {
                index,
                generation,
                buffer,
                len: c.result as usize,
                db: 0,
                key: std::ptr::null(),
                hash: 0,
            });
            if c.more() {
                return;
            }
        } else if let Some(buffer) = c.buffer() {
            self.used_buffers.push(buffer);
        }
        let Some(mut conn) = self.conns.take(index, generation) else { return };
        conn.receiving = false;
        conn.ring_refs -= 1;
        match c.result {
            n if n > 0 => self.rearm.push((index, generation)),
            n if n == -libc::ENOBUFS => {
                self.stats.buffer_exhaustions += 1;
                self.rearm.push((index, generation));
            }
            n if n == -libc::ECANCELED && conn.throttled => {}
            n if n == -libc::EINTR || n == -libc::EAGAIN => self.rearm.push((index, generation)),
            _ => {
                // The end of the stream, or an error: what was received before
                // is still executed and answered.
                conn.eof = true;
                self.mark_ready(&mut conn);
            }
        }
        self.put_conn(conn);
    }

    fn on_send(&mut self, c: Completion) {
        let Some(mut conn) = self.conns.take(c.token.index, c.token.generation) else { return };
        conn.sending = false;
        conn.ring_refs -= 1;
        if c.result < 0 && c.result != -libc::EINTR && c.result != -libc::EAGAIN {
            self.found = true;
            self.close(&mut conn);
            self.put_conn(conn);
            return;
        }
        let n = c.result.max(0) as usize;
        conn.sent += n;
        conn.bytes_out += n as u64;
        self.stats.bytes_out += n as u64;
        self.stats.writes += 1;
        if conn.sent == conn.inflight.len() {
            let mut b = std::mem::take(&mut conn.inflight);
            conn.sent = 0;
            b.clear();
            self.recycle(b);
        }
        if conn.output_bytes() > 0 || conn.close_after || conn.eof {
            self.mark_dirty(&mut conn);
        }
        self.put_conn(conn);
    }

    /// Keeps an empty output buffer for the next connection that needs one.
    pub fn recycle(&mut self, b: Vec<u8>) {
        if b.capacity() > 0 && b.capacity() <= self.spare_max(POOLED_MAX) && self.output_pool.len() < POOL {
            self.output_pool.push(b);
        }
    }

    /// Gives a connection a warm output buffer.
    #[inline]
    pub fn lend_buffer(&mut self, conn: &mut Conn) {
        if conn.replies.out.capacity() == 0
            && let Some(b) = self.output_pool.pop()
        {
            conn.replies.out = b;
        }
    }

    #[inline]
    pub fn take_conn(&mut self, c: ConnRef) -> Option<Box<Conn>> {
        self.conns.take(c.index, c.generation)
    }

    /// Puts a connection back, or frees it when it is closed and the ring has
    /// let go of it.
    #[inline]
    pub fn put_conn(&mut self, mut conn: Box<Conn>) {
        self.count_client(&mut conn);
        if conn.closing && conn.ring_refs == 0 {
            return self.free_conn(conn);
        }
        self.conns.put(conn);
    }

    #[inline]
    pub fn mark_dirty(&mut self, conn: &mut Conn) {
        if !conn.listed_dirty {
            conn.listed_dirty = true;
            self.dirty.push(conn.me.index);
        }
    }

    /// Lists a connection that may have work to go on with.
    #[inline]
    pub fn mark_ready(&mut self, conn: &mut Conn) {
        if !conn.listed_ready {
            conn.listed_ready = true;
            self.ready.push_back(conn.me.index);
        }
    }

    /// Shuts a connection down; its place is freed once the ring has let go.
    pub fn close(&mut self, conn: &mut Conn) {
        if conn.closing {
            return;
        }
        if conn.eof {
            self.log_gone(conn);
        }
        conn.closing = true;
        conn.leaving = conn.memory();
        self.count_passing(conn.leaving);
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
        self.forget_watches(conn);
        self.forget_subscriptions(conn);
        self.stop_monitor(conn);
        self.forget_tracking(conn);
        self.unblocked(conn, false);
        self.forget_replication(conn);
        if conn.paused {
            self.paused.retain(|index| *index != conn.me.index);
        }
        // SAFETY: `fd` is open until `free_conn`.
        unsafe { libc::shutdown(conn.fd, libc::SHUT_RDWR) };
        if conn.receiving {
            self.cancel_recv(conn);
        }
    }

    pub fn cancel_recv(&mut self, conn: &Conn) {
        let target = Token::new(Op::Recv, conn.me.generation, conn.me.index).pack();
        let e = opcode::AsyncCancel::new(target).build();
        self.ring.push(e, Token::new(Op::Cancel, 0, OWN));
    }

    fn free_conn(&mut self, mut conn: Box<Conn>) {
        if conn.departing {
            return self.depart_when_quiet(conn);
        }
        // SAFETY: nothing in the ring refers to the descriptor any more.
        unsafe { libc::close(conn.fd) };
        // What was large for a reply that nobody read is not kept.
        let mut b = std::mem::take(&mut conn.inflight);
        if b.capacity() <= buffers::SIZE {
            b.clear();
            self.recycle(b);
        }
        let (me, leaving) = (conn.me, conn.leaving);
        drop(conn);
        self.count_passed(leaving);
        self.conns.free(me);
    }

    /// Stops receiving while a connection has too much to work off; starts
    /// again when it has not.
    pub fn throttle(&mut self, conn: &mut Conn) {
        let waiting = conn.input_bytes();
        let wants = conn.resume.needed().unwrap_or(0);
        if conn.receiving && !conn.throttled && waiting > INPUT_HIGH.max(wants) {
            conn.throttled = true;
            self.cancel_recv(conn);
        } else if conn.throttled && waiting < INPUT_HIGH / 2 {
            conn.throttled = false;
            if !conn.receiving {
                self.rearm.push((conn.me.index, conn.me.generation));
            }
        }
    }

    /// Arms the receives that ended.
    pub fn arm_ended(&mut self) {
        for (index, generation) in std::mem::take(&mut self.rearm) {
            if let Some(mut conn) = self.conns.take(index, generation) {
                self.arm_recv(&mut conn);
                self.put_conn(conn);
            }
        }
    }

    /// One send for every connection with output.
    pub fn flush_connections(&mut self) {
        if self.holds_replies() {
            self.flush_durable();
        } else {
            self.flush_dirty();
        }
        let used = std::mem::take(&mut self.used_buffers);
        self.buffers.give_back(used.iter().copied());
        self.used_buffers = used;
        self.used_buffers.clear();
        if !self.rearm.is_empty() {
            self.arm_ended();
        }
    }

    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some(mut conn) = self.conns.take_at(index) else { continue };
            conn.listed_dirty = false;
            if !keeps_output(&mut conn) {
                self.flush_one(&mut conn);
            }
            self.put_conn(conn);
        }
        self.dirty = dirty;
    }

    pub fn flush_one(&mut self, conn: &mut Conn) {
        if conn.closing {
            return;
        }
        if conn.sending {
            // What the peer does not take piles up behind the send.
            if self.over_limit(conn) {
                return self.close(conn);
            }
            return self.split_output(conn);
        }
        if conn.inflight.is_empty() {
            let inflight = &mut conn.inflight;
            match &mut conn.tls {
                None => conn.replies.take_next(|next| std::mem::swap(inflight, next)),
                Some(tls) => conn.replies.take_next(|next| tls.fill(next, inflight)),
            }
            if conn.inflight.is_empty() {
                return self.maybe_finish(conn);
            }
        }
        if self.over_limit(conn) {
            return self.close(conn);
        }
        // Before the ring has its place in memory.
        give_room_back(&mut conn.inflight);
        self.send_inflight(conn);
    }

    /// Begins a new buffer for what follows if the one at hand has become large. Where
    /// replies wait for the disk, places in the one buffer say which.
    pub fn split_output(&self, conn: &mut Conn) {
        if conn.held.is_none() && !self.holds_replies() {
            conn.replies.split();
        }
    }

    fn send_inflight(&mut self, conn: &mut Conn) {
        let rest = &conn.inflight[conn.sent..];
        let len = rest.len().min(1 << 30) as u32;
        let e = opcode::Send::new(types::Fd(conn.fd), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.ring.push(e, Token::new(Op::Send, conn.me.generation, conn.me.index));
        conn.sending = true;
        conn.ring_refs += 1;
    }

    /// Closes a connection that has said all it had to say.
    fn maybe_finish(&mut self, conn: &mut Conn) {
        if conn.replies.outstanding() > 0 {
            // Who waits for a key and has gone would take it from the others.
            if conn.eof && conn.blocked().is_some_and(Blocked::waits) {
                self.close(conn);
            }
            return;
        }
        if conn.close_after || (conn.eof && !conn.listed_ready) {
            if let Some(tls) = &mut conn.tls
                && tls.say_goodbye(&mut conn.inflight)
            {
                return self.send_inflight(conn);
            }
            self.close(conn);
        }
    }

    /// Closes those with more output than they may have before the end of the
    /// turn, where it is looked at otherwise.
    pub fn close_over_limit(&mut self) {
        for place in self.conns.refs() {
            let Some(mut c) = self.take_conn(place) else { continue };
            if !c.closing && self.over_limit(&mut c) {
                self.close(&mut c);
            }
            self.put_conn(c);
        }
        self.limit_clients();
        self.evict_clients_if_too_large();
    }

    /// Has the peer left more output unread than its class allows?
    pub fn over_limit(&mut self, conn: &mut Conn) -> bool {
        let limits = &self.settings;
        let limit = if conn.subscribed() { &limits.output_limit_pubsub } else { &limits.output_limit_normal };
        let n = conn.output_beyond() as u64;
        let unknown = !conn.authenticated && conn.output_bytes() as u64 > OUTPUT_UNAUTHENTICATED_MAX;
        let hard = unknown || (limit.hard_bytes > 0 && n > limit.hard_bytes);
        let soft = limit.soft_bytes > 0 && n > limit.soft_bytes;
        if !soft {
            conn.soft_limit_since_ms = 0;
        } else if conn.soft_limit_since_ms == 0 {
            conn.soft_limit_since_ms = self.now;
        }
        let soft_over = soft && self.now - conn.soft_limit_since_ms >= limit.soft_seconds * 1000;
        if hard || soft_over {
            self.stats.output_buffer_closes += 1;
            self.log_too_much_output(conn);
        }
        hard || soft_over
    }

    /// Sends what other cores have to hear, and wakes those that sleep.
    pub fn flush_mesh(&mut self) {
        for to in 0..self.port.cores() {
            if to == self.id {
                continue;
            }
            if let Some(b) = self.batches[to].take() {
                self.outbox[to].push_back(super::msg::Msg::Requests(b));
            }
            let mut sent = false;
            while let Some(m) = self.outbox[to].pop_front() {
                match self.port.send(to, self.stamp, m) {
                    Ok(()) => sent = true,
                    Err(m) => {
                        self.outbox[to].push_front(m);
                        break;
                    }
                }
            }
            let wakes =
                if sent { self.port.must_wake(to) } else { self.wake.contains(&to) && self.port.must_wake_parked(to) };
            if wakes {
                self.wake(to);
            }
        }
        self.wake.clear();
    }

    fn wake(&mut self, to: usize) {
        self.stats.wakes += 1;
        let ring_fd = self.shared.ring_fds[to].load(Ordering::Relaxed);
        if !self.wake_by_ring || ring_fd < 0 {
            return self.wake_by_socket(to);
        }
        let there = Token::new(Op::MsgRing, 0, OWN).pack();
        let e = opcode::MsgRingData::new(types::Fd(ring_fd), 0, there, None).build();
        self.ring.push(e.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::WakeWrite, 0, to as u32));
    }

    fn wake_by_socket(&mut self, to: usize) {
        let fd = types::Fd(self.port.wake(to).others);
        let e = opcode::Send::new(fd, &raw const wake::ONE, 1).flags(wake::SEND_FLAGS).build();
        self.ring.push(e.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::Cancel, 0, OWN));
    }

    /// A message to another ring failed: its completion queue is full, or the
    /// kernel cannot message such a ring. The socket always works.
    fn on_wake_failed(&mut self, c: Completion) {
        if c.result < 0 {
            self.wake_by_ring = c.result == -libc::EOVERFLOW;
            self.wake_by_socket(c.token.index as usize);
        }
    }
}

const PROTECTED: &[u8] =
    b"-DENIED Coreslot is running in protected mode because no password is set for the default user. \
In this mode connections are only accepted from the loopback interface and Unix sockets. To accept this connection, \
set a password with requirepass, or turn protected-mode off if the network around the server is trusted.\r\n";

/// Does the peer connect from this host's loopback?
fn is_local(fd: RawFd) -> bool {
    let name = socket_name(fd, true);
    name.starts_with("127.")
        || name.starts_with("[::1]")
        || name.starts_with("[::ffff:127.")
        || name.starts_with("unix")
}
