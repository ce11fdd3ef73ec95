//! One io_uring ring, owned by one thread for its whole life.
//!
//! Set-up: SINGLE_ISSUER and DEFER_TASKRUN, so that completions are processed
//! only when this thread asks for them and never interrupt it (kernel 6.1).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, squeue};

/// Entries of the submission queue; a fuller one is submitted midway.
const SUBMISSIONS: u32 = 2048;
/// Entries of the completion queue; beyond it the kernel keeps a backlog.
const COMPLETIONS: u32 = 8192;

/// What a completion belongs to; packed into the request's 64 bits of user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub op: Op,
    /// Changes when the index is reused, so that late completions are known.
    pub generation: u32,
    pub index: u32,
}

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    Accept = 1,
    Recv,
    Send,
    Cancel,
    Wake,
    Tick,
    Deadline,
    WakeWrite,
    MsgRing,
}

const OPS: [Op; 9] =
    [Op::Accept, Op::Recv, Op::Send, Op::Cancel, Op::Wake, Op::Tick, Op::Deadline, Op::WakeWrite, Op::MsgRing];

const GENERATION_BITS: u32 = 24;

impl Token {
    /// Generations wrap at 24 bits.
    pub fn new(op: Op, generation: u32, index: u32) -> Token {
        Token { op, generation: generation & ((1 << GENERATION_BITS) - 1), index }
    }

    #[inline]
    pub fn pack(self) -> u64 {
        (self.op as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[inline]
    pub fn unpack(data: u64) -> Token {
        let op = OPS[(data >> 56) as usize - 1];
        Token { op, generation: (data >> 32) as u32 & ((1 << GENERATION_BITS) - 1), index: data as u32 }
    }
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub token: Token,
    /// Result, or a negated errno.
    pub result: i32,
    pub flags: u32,
}

impl Completion {
    /// Does a multishot request go on?
    #[inline]
    pub fn more(&self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    /// The provided buffer that holds the data.
    #[inline]
    pub fn buffer(&self) -> Option<u16> {
        io_uring::cqueue::buffer_select(self.flags)
    }
}

/// See the module's description.
pub struct Ring {
    submitter: Submitter<'static>,
    sq: SubmissionQueue<'static>,
    cq: CompletionQueue<'static>,
    fd: RawFd,
}

impl Ring {
    /// Makes the ring; it must be used by the calling thread only. The ring
    /// lives until the process ends.
    pub fn new() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Says when completions wait for an enter that fetches them. A core
            // that always has something else to do would never see them.
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let fd = ring.as_raw_fd();
        let (mut submitter, sq, cq) = Box::leak(Box::new(ring)).split();
        // Spares the kernel a look-up per call; harmless where it is refused.
        let _ = submitter.register_ring_fd();
        Ok(Ring { submitter, sq, cq, fd })
    }

    pub fn fd(&self) -> RawFd {
        self.fd
    }

    pub fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Queues a request.
    #[inline]
    pub fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.pack());
        // SAFETY: every caller keeps the buffers that a request names alive
        // and in place until its completion has been seen.
        while unsafe { self.sq.push(&entry) }.is_err() {
            self.sq.sync();
            if let Err(e) = self.submitter.submit() {
                assert!(transient(&e), "io_uring_enter: {e}");
            }
            self.sq.sync();
        }
    }

    /// Submits what is queued and makes completions visible; with `block`,
    /// waits for at least one.
    #[inline]
    pub fn enter(&mut self, block: bool) {
        self.sq.sync();
        // Gives back the room of the completions that were taken, which would
        // otherwise end the wait as if they were new.
        self.cq.sync();
        match self.submitter.submit_and_wait(usize::from(block)) {
            Ok(_) => {}
            Err(e) if transient(&e) => {}
            Err(e) => panic!("io_uring_enter: {e}"),
        }
        self.sq.sync();
        self.cq.sync();
    }

    /// Has [`Ring::enter`] made any completion visible?
    pub fn has_completions(&self) -> bool {
        !self.cq.is_empty()
    }

    /// The next completion made visible by [`Ring::enter`].
    #[inline]
    pub fn take_completion(&mut self) -> Option<Completion> {
        let c = self.cq.next()?;
        Some(Completion { token: Token::unpack(c.user_data()), result: c.result(), flags: c.flags() })
    }
}

/// Interrupted by a signal, or the completion queue has to be emptied first.
fn transient(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core that never blocked, because it had something to do all the time,
    /// saw no completions: its clients got no replies.
    #[test]
    fn completions_come_without_blocking() {
        let mut ring = Ring::new().expect("a ring");
        let after = io_uring::types::Timespec::new().nsec(2_000_000);
        let token = Token::new(OPS[0], 0, 7);
        ring.push(io_uring::opcode::Timeout::new(&raw const after).build(), token);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !ring.has_completions() {
            assert!(std::time::Instant::now() < deadline, "no completion");
            ring.enter(false);
        }
        assert_eq!(ring.take_completion().map(|c| c.token), Some(token));
    }

    /// Completions that had been taken ended the next wait before it began.
    #[test]
    fn a_wait_is_for_what_is_new() {
        let mut ring = Ring::new().expect("a ring");
        let token = Token::new(OPS[0], 0, 7);
        ring.push(io_uring::opcode::Nop::new().build(), token);
        ring.enter(true);
        assert_eq!(ring.take_completion().map(|c| c.token), Some(token));
        let after = io_uring::types::Timespec::new().nsec(1_000_000);
        ring.push(io_uring::opcode::Timeout::new(&raw const after).build(), token);
        ring.enter(true);
        assert!(ring.has_completions(), "the wait ended without the timeout's completion");
    }

    #[test]
    fn tokens_survive_packing() {
        for op in OPS {
            let t = Token::new(op, 0x00AB_CDEF, u32::MAX - 3);
            assert_eq!(Token::unpack(t.pack()), t);
        }
    }
}
