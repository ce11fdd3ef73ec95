//! Signals: SIGTERM and SIGINT ask for a shutdown, SIGHUP and SIGPIPE are
//! ignored, and so is SIGALRM, which Redis keeps for its watchdog and survives.
//!
//! The handler records the request and writes to an eventfd, nothing else;
//! whoever reads the eventfd (any event loop can) takes the request with
//! [`take_shutdown_request`]. A SIGINT after a SIGINT that has not led to an
//! exit ends the process at once; what was written of a snapshot is deleted.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Why a shutdown is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownSignal {
    /// SIGTERM: `shutdown-on-sigterm` applies.
    Terminate,
    /// SIGINT: `shutdown-on-sigint` applies.
    Interrupt,
}

impl ShutdownSignal {
    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// The signal that asked for a shutdown, 0 for none.
static REQUEST: AtomicI32 = AtomicI32::new(0);
/// Whether a SIGINT came before.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The snapshot file that may be being written, in the working directory.
static TEMPORARY: OnceLock<CString> = OnceLock::new();
/// Readable once a shutdown was asked for; -1 before [`install`].
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Installs the handlers. The descriptor returned becomes readable (an eventfd,
/// non-blocking, open for the life of the process) with every request.
pub fn install() -> io::Result<RawFd> {
    // SAFETY: `eventfd` has no memory effects.
    let wake = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if wake == -1 {
        return Err(io::Error::last_os_error());
    }
    WAKE.store(wake, Ordering::SeqCst);
    let temporary = crate::snapshot::file::temporary_name();
    let _ = TEMPORARY.set(CString::new(temporary).unwrap_or_default());
    let handler = on_shutdown_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    handle(libc::SIGTERM, handler)?;
    handle(libc::SIGINT, handler)?;
    handle(libc::SIGHUP, libc::SIG_IGN)?;
    handle(libc::SIGPIPE, libc::SIG_IGN)?;
    handle(libc::SIGALRM, libc::SIG_IGN)?;
    Ok(wake)
}

/// The shutdown that was asked for since the last call, if any.
pub fn take_shutdown_request() -> Option<ShutdownSignal> {
    match REQUEST.swap(0, Ordering::SeqCst) {
        libc::SIGTERM => Some(ShutdownSignal::Terminate),
        libc::SIGINT => Some(ShutdownSignal::Interrupt),
        _ => None,
    }
}

/// Forgets an earlier SIGINT, after a shutdown was called off: the next one
/// asks again instead of ending the process.
pub fn forget_interrupt() {
    INTERRUPTED.store(false, Ordering::SeqCst);
}

fn handle(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: `sigaction` is plain data for which all zeros is valid; the
    // handler is SIG_IGN or a function of the right type that only does what is
    // allowed in a signal handler.
    let status = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Only atomics and async-signal-safe system calls here; errno is restored.
extern "C" fn on_shutdown_signal(signal: libc::c_int) {
    if signal == libc::SIGINT && INTERRUPTED.swap(true, Ordering::SeqCst) {
        super::crash::say_in_handler("You insist... exiting now.");
        // SAFETY: the calls are async-signal-safe; the buffer is static, and
        // reading a `OnceLock` that is set takes no lock.
        unsafe {
            if let Some(name) = TEMPORARY.get() {
                libc::unlink(name.as_ptr());
            }
            libc::_exit(1);
        }
    }
    REQUEST.store(signal, Ordering::SeqCst);
    let one = 1_u64;
    // SAFETY: `__errno_location` gives this thread's errno; the descriptor is
    // the eventfd (or -1, which only fails), the buffer a live local of eight
    // bytes.
    unsafe {
        let errno = *libc::__errno_location();
        let wake = WAKE.load(Ordering::SeqCst);
        libc::write(wake, (&raw const one).cast(), size_of::<u64>());
        *libc::__errno_location() = errno;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_a_request_and_wakes() {
        let wake = install().unwrap();
        assert_eq!(take_shutdown_request(), None);
        // SAFETY: the handler for this signal was installed above.
        unsafe { libc::raise(libc::SIGTERM) };
        let mut count = 0_u64;
        // SAFETY: the buffer is a live local of eight bytes.
        let got = unsafe { libc::read(wake, (&raw mut count).cast(), size_of::<u64>()) };
        assert_eq!((got, count), (8, 1));
        assert_eq!(take_shutdown_request(), Some(ShutdownSignal::Terminate));
        assert_eq!(take_shutdown_request(), None);
        // SAFETY: as above; SIGHUP is ignored.
        unsafe { libc::raise(libc::SIGHUP) };
        // SAFETY: and so is this one.
        unsafe { libc::raise(libc::SIGALRM) };
        assert_eq!(take_shutdown_request(), None);
    }
}
