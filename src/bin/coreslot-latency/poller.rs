//! epoll, edge-triggered, with nanosecond timeouts.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Failure;

/// Events taken per call.
const EVENTS_MAX: usize = 256;

pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// One ready socket.
#[derive(Clone, Copy)]
pub struct Ready {
    pub index: usize,
    /// The peer has closed or failed: read to the end.
    pub ended: bool,
}

impl Poller {
    pub fn new() -> Result<Poller, Failure> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(failed("epoll_create1"));
        }
        Ok(Poller {
            // SAFETY: a fresh descriptor that nothing else owns.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
        })
    }

    /// Watches a socket for reading, writing and its end; `index` comes back
    /// in [`Ready`].
    pub fn add(&self, fd: RawFd, index: usize) -> Result<(), Failure> {
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: flags as u32, u64: index as u64 };
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: `event` lives through the call; both descriptors are open.
        if unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) } < 0 {
            return Err(failed("epoll_ctl"));
        }
        Ok(())
    }

    /// Waits up to `timeout_ns` and gives the number of ready sockets. It goes
    /// through `epoll_pwait2`, since `epoll_wait` knows only milliseconds.
    pub fn wait(&mut self, timeout_ns: u64) -> Result<usize, Failure> {
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: `events` has room for EVENTS_MAX entries, the timeout lives
        // through the call, and there is no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX as libc::c_int,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(_) => Err(failed("epoll_pwait2")),
        }
    }

    /// The socket at `position` of the last `wait`.
    pub fn ready(&self, position: usize) -> Ready {
        let event = self.events[position];
        let ended = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        Ready { index: event.u64 as usize, ended: event.events & ended as u32 != 0 }
    }
}

/// Asks the kernel not to round this thread's timeouts up by its usual 50 us.
pub fn exact_timeouts() {
    // SAFETY: no pointers; failing leaves the default slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
}

fn failed(call: &str) -> Failure {
    Failure::run(format!("{call}: {}", io::Error::last_os_error()))
}
