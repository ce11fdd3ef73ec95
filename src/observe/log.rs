//! The log: where its lines go. What they look like is in `log_line`.
//!
//! Lines go to standard output or to `logfile`, and to syslog if that is on.
//! A file is kept open, but every line looks whether the path still leads to
//! it, so log rotation needs no signal.
//!
//! Any thread may log. A line costs a lock, a `stat` (with a file) and a
//! `write`, which may wait for the disk or for whoever reads the pipe: a data
//! core logs only what is rare, such as a failed accept, never per command.
//!
//! Errors of the log itself are dropped: there is nowhere to report them.

use std::ffi::CString;
use std::fmt::{Arguments, Write as _};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::log_line::Line;
use crate::base::os::os_reason;
use crate::config::{LogFormat, LogLevel, LogTimestamp, Settings, SyslogFacility};

/// Longest message in bytes; the rest is cut off.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What the process is, shown in every line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A primary.
    Primary = b'M',
    /// A replica.
    Replica = b'S',
    /// Starting, or a child process.
    Starting = b'C',
    /// A sentinel.
    Sentinel = b'X',
}

impl Role {
    /// A server that has started.
    pub fn of_server(replica: bool) -> Role {
        if replica { Role::Replica } else { Role::Primary }
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Notice as u8);
static FORMAT: AtomicU8 = AtomicU8::new(LogFormat::Legacy as u8);
static STAMPS: AtomicU8 = AtomicU8::new(LogTimestamp::Legacy as u8);
static ROLE: AtomicU8 = AtomicU8::new(Role::Starting as u8);
static SINK: Mutex<Sink> = Mutex::new(Sink { file: None, syslog: None });

/// Where lines go.
struct Sink {
    /// `None` is standard output.
    file: Option<LogFile>,
    /// The name given to syslog, which keeps a pointer to it.
    syslog: Option<&'static CString>,
}

/// Sends lines where the settings say and sets the level. Call it after the
/// working directory is entered and after daemonizing.
///
/// The error is the text for standard error.
pub fn configure(settings: &Settings) -> Result<(), String> {
    let file = match settings.logfile.as_str() {
        "" => None,
        path => {
            let open = LogFile::open(settings.resolve(path));
            Some(open.map_err(|error| format!("Can't open the log file {path}: {}", os_reason(&error)))?)
        }
    };
    let syslog = match settings.syslog_enabled {
        true => Some(open_syslog(&settings.syslog_ident, settings.syslog_facility)),
        false => None,
    };
    *lock() = Sink { file, syslog };
    set_level(settings.loglevel);
    set_format(settings.log_format, settings.log_timestamp_format);
    Ok(())
}

/// Sets what lines look like.
pub fn set_format(format: LogFormat, stamps: LogTimestamp) {
    FORMAT.store(format as u8, Ordering::Relaxed);
    STAMPS.store(stamps as u8, Ordering::Relaxed);
}

/// Sets the least severe level that is written.
pub fn set_level(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Sets the role that lines show.
pub fn set_role(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
}

/// Whether lines of this level are written.
pub fn enabled(level: LogLevel) -> bool {
    level != LogLevel::Nothing && level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// Logs at level `debug`: `log::debug(format_args!("..."))`.
pub fn debug(message: Arguments<'_>) {
    write(LogLevel::Debug, message);
}

/// Logs at level `verbose`.
pub fn verbose(message: Arguments<'_>) {
    write(LogLevel::Verbose, message);
}

/// Logs at level `notice`.
pub fn notice(message: Arguments<'_>) {
    write(LogLevel::Notice, message);
}

/// Logs at level `warning`.
pub fn warning(message: Arguments<'_>) {
    write(LogLevel::Warning, message);
}

/// Logs at a level chosen at run time.
pub fn write(level: LogLevel, message: Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let message = printable(message);
    let line = format_line(level, &message);
    let mut sink = lock();
    match &mut sink.file {
        Some(file) => file.append(line.as_bytes()),
        None => {
            let mut out = io::stdout().lock();
            // See the module's note on errors.
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
    }
    if sink.syslog.is_some() {
        send_to_syslog(level, &message);
    }
}

/// A sink is replaced as a whole, so a panic elsewhere leaves it usable.
fn lock() -> std::sync::MutexGuard<'static, Sink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message on one line: names and arguments of clients must not be able to
/// forge lines or steer a terminal.
fn printable(message: Arguments<'_>) -> String {
    let mut text = String::new();
    // A Display that fails leaves what it wrote so far.
    let _ = text.write_fmt(message);
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rfind(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    if !text.contains(|c: char| c.is_control()) {
        return text;
    }
    let escape = |c: char| match c.is_control() && c != '\t' {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn format_line(level: LogLevel, message: &str) -> String {
    let line = Line {
        pid: std::process::id(),
        role: char::from(ROLE.load(Ordering::Relaxed)),
        at: SystemTime::now(),
        stamps: LogTimestamp::from_index(STAMPS.load(Ordering::Relaxed).into()),
        level,
        message,
    };
    line.format(LogFormat::from_index(FORMAT.load(Ordering::Relaxed).into()))
}

/// An open log file and the path that should lead to it.
struct LogFile {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { path, file, identity })
    }

    /// Appends one line, to a new file if the old one was moved away.
    fn append(&mut self, line: &[u8]) {
        let in_place = std::fs::metadata(&self.path).is_ok_and(|m| identity(&m) == self.identity);
        if !in_place && let Ok(fresh) = Self::open(self.path.clone()) {
            *self = fresh;
        }
        // See the module's note on errors.
        let _ = self.file.write_all(line);
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Opens syslog. The name is leaked, since the C library keeps the pointer;
/// this happens once per process.
fn open_syslog(ident: &str, facility: SyslogFacility) -> &'static CString {
    let ident: String = ident.chars().filter(|&c| c != '\0').collect();
    let ident: &'static CString = Box::leak(Box::new(CString::new(ident).unwrap_or_default()));
    let options = libc::LOG_PID | libc::LOG_NDELAY | libc::LOG_NOWAIT;
    // SAFETY: `ident` is a C string that lives as long as the process.
    unsafe { libc::openlog(ident.as_ptr(), options, facility_code(facility)) };
    ident
}

fn facility_code(facility: SyslogFacility) -> libc::c_int {
    match facility {
        SyslogFacility::User => libc::LOG_USER,
        SyslogFacility::Local0 => libc::LOG_LOCAL0,
        SyslogFacility::Local1 => libc::LOG_LOCAL1,
        SyslogFacility::Local2 => libc::LOG_LOCAL2,
        SyslogFacility::Local3 => libc::LOG_LOCAL3,
        SyslogFacility::Local4 => libc::LOG_LOCAL4,
        SyslogFacility::Local5 => libc::LOG_LOCAL5,
        SyslogFacility::Local6 => libc::LOG_LOCAL6,
        SyslogFacility::Local7 => libc::LOG_LOCAL7,
    }
}

fn send_to_syslog(level: LogLevel, message: &str) {
    let priority = match level {
        LogLevel::Debug => libc::LOG_DEBUG,
        LogLevel::Verbose => libc::LOG_INFO,
        LogLevel::Notice => libc::LOG_NOTICE,
        LogLevel::Warning | LogLevel::Nothing => libc::LOG_WARNING,
    };
    let Ok(message) = CString::new(message) else {
        return;
    };
    // SAFETY: the format takes exactly one C string, which lives through the call.
    unsafe { libc::syslog(priority, c"%s".as_ptr(), message.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_format_of_redis() {
        let line = format_line(LogLevel::Warning, "Server initialized");
        let (pid, rest) = line.split_once(':').unwrap();
        assert_eq!(pid, std::process::id().to_string());
        let words: Vec<&str> = rest.trim_end().split(' ').collect();
        assert_eq!(words.len(), 8, "{line}");
        assert!(["M", "S", "C", "X"].contains(&words[0]));
        assert_eq!(words[2].len(), "Nov".len());
        assert_eq!(words[4].len(), "13:35:40.694".len());
        assert_eq!(words[5..], ["#", "Server", "initialized"]);
        assert!(line.ends_with('\n'));
    }

    #[test]
    fn control_characters_cannot_forge_lines() {
        let text = printable(format_args!("a\r\n1:M x\u{1b}[0m\tb"));
        assert_eq!(text, "a\\r\\n1:M x\\u{1b}[0m\tb");
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        assert!(printable(format_args!("{long}")).len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn a_rotated_file_is_followed() {
        let dir = std::env::temp_dir().join(format!("coreslot-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.append(b"one\n");
        std::fs::rename(&path, dir.join("log.1")).unwrap();
        log.append(b"two\n");
        assert_eq!(std::fs::read_to_string(dir.join("log.1")).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
