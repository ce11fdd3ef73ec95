//! The end by a bug: what it leaves in the log, and that it is an end.
//!
//! A panic on any thread ends the process. A data core that is missing would
//! keep its part of the keyspace, and all who ask for it, waiting for ever,
//! while whoever watches the process believed it well.
//!
//! A signal that only a bug raises (or `kill`) is reported by a handler. It runs
//! on whatever the thread was doing, so it only makes system calls, formats on
//! its stack, and calls glibc's `backtrace`, which has loaded what it needs when
//! it was first called. Then the signal does what it would have done.

use std::backtrace::Backtrace;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt::{self, Write as _};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{LogLevel, Settings};
use crate::observe::log;

const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// Frames of a stack that are reported at most.
const FRAMES_MAX: usize = 64;

/// Where the report goes: the log's file, or standard output.
static PATH: OnceLock<Option<CString>> = OnceLock::new();
/// `use-exit-on-panic`.
static EXIT_ON_PANIC: AtomicBool = AtomicBool::new(false);

/// Sees to it that a panic is logged and ends the process, and reports crashes
/// if the settings say so. Call it when the log is configured.
pub fn install(settings: &Settings) {
    let path = match settings.logfile.as_str() {
        "" => None,
        path => CString::new(settings.resolve(path).as_os_str().as_bytes()).ok(),
    };
    PATH.get_or_init(|| path);
    exit_on_panic(settings.internals.use_exit_on_panic);
    std::panic::set_hook(Box::new(end_by_panic));
    report(settings.internals.crash_log_enabled);
}

/// Switches the reports of crashes on or off (`crash-log-enabled`).
pub fn report(on: bool) {
    if on {
        // The first call allocates; those from the handler must not.
        let mut frames = [std::ptr::null_mut(); 2];
        // SAFETY: the array has room for as many addresses as are asked for.
        unsafe { libc::backtrace(frames.as_mut_ptr(), frames.len() as c_int) };
    }
    // SAFETY: `sigaction` is plain data for which all zeros is valid (that is the
    // default action); the handler has the type that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if on {
            action.sa_sigaction = on_crash as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
            // Whatever goes wrong in the handler is the end.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESETHAND;
        }
        libc::sigemptyset(&mut action.sa_mask);
        for signal in SIGNALS {
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether a panic ends the process with exit code 1 instead of SIGABRT.
pub fn exit_on_panic(yes: bool) {
    EXIT_ON_PANIC.store(yes, Ordering::Relaxed);
}

fn end_by_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("?");
    log::warning(format_args!("Thread '{name}' {info}"));
    for line in Backtrace::force_capture().to_string().lines() {
        log::warning(format_args!("{line}"));
    }
    if EXIT_ON_PANIC.load(Ordering::Relaxed) {
        // SAFETY: it does not return, and runs nothing of this process any more.
        unsafe { libc::_exit(1) }
    }
    std::process::abort();
}

/// A line on the stack; what does not fit is cut off.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

fn say(fd: RawFd, text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    let _ = line.write_fmt(text);
    // SAFETY: the buffer is a live local. If the write fails there is nowhere to
    // say so.
    unsafe { libc::write(fd, line.bytes.as_ptr().cast(), line.len) };
}

/// Where lines of the log go, opened without a lock.
fn open_log() -> RawFd {
    match PATH.get() {
        // SAFETY: the path is a C string that lives as long as the process.
        Some(Some(path)) => unsafe {
            libc::open(path.as_ptr(), libc::O_APPEND | libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644)
        },
        _ => libc::STDOUT_FILENO,
    }
}

/// Logs a warning from a handler of signals, in the shape that Redis gives such
/// lines.
pub(super) fn say_in_handler(text: &str) {
    if !log::enabled(LogLevel::Warning) {
        return;
    }
    let fd = open_log();
    // SAFETY: the calls are async-signal-safe, and take no memory but what a null
    // pointer says that they need not fill.
    let (pid, now) = unsafe { (libc::getpid(), libc::time(std::ptr::null_mut())) };
    say(fd, format_args!("{pid}:signal-handler ({now}) {text}\n"));
    if fd != libc::STDOUT_FILENO {
        // SAFETY: the descriptor was opened above; if that failed, so does this.
        unsafe { libc::close(fd) };
    }
}

extern "C" fn on_crash(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let fd = open_log();
    // SAFETY: with SA_SIGINFO the kernel passes a valid description.
    let (code, address, pid, uid) = unsafe { ((*info).si_code, (*info).si_addr(), (*info).si_pid(), (*info).si_uid()) };
    say(fd, format_args!("\n=== CORESLOT CRASH REPORT: please send all of it ===\n"));
    say(fd, format_args!("Coreslot {} crashed by signal: {signal}, si_code: {code}\n", super::VERSION));
    if code > 0 {
        say(fd, format_args!("Accessing address: {address:p}\n"));
    } else {
        say(fd, format_args!("Sent by PID: {pid}, UID: {uid}\n"));
    }
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, the last of them 0.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = CStr::from_bytes_until_nul(&name).ok().and_then(|n| n.to_str().ok()).unwrap_or("?");
    say(fd, format_args!("Thread: {name}\n\n------ STACK TRACE ------\n"));
    let mut frames = [std::ptr::null_mut(); FRAMES_MAX];
    // SAFETY: the array has room for as many addresses as are asked for, and
    // `backtrace` tells how many it has written.
    unsafe {
        let n = libc::backtrace(frames.as_mut_ptr(), frames.len() as c_int);
        libc::backtrace_symbols_fd(frames.as_ptr(), n, fd);
    }
    say(fd, format_args!("\nThe names of these places: addr2line -Cfie coreslot-server +0x...\n"));
    say(fd, format_args!("=== END OF THE CRASH REPORT ===\n"));
    // SAFETY: the action of this signal is the default one again.
    unsafe { libc::raise(signal) };
}
