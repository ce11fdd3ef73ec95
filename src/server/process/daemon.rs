//! Running in the background, the pid file, and supervisors.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::os::os_reason;
use crate::config::{Settings, Supervised};
use crate::observe::log;

/// The pid file of a daemon that names none.
const DAEMON_PIDFILE: &str = "/var/run/coreslot.pid";

/// Goes to the background: forks, lets the parent exit, starts a session and
/// points the standard streams at `/dev/null`. Returns in the child.
///
/// Must be called while the process has a single thread.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: the caller runs no other thread, so the child may go on using
    // everything; the parent leaves at once without running destructors.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: `_exit` only ends the process.
        _ => unsafe { libc::_exit(0) },
    }
    // SAFETY: `setsid` has no memory effects.
    if unsafe { libc::setsid() } == -1 {
        return Err(io::Error::last_os_error());
    }
    redirect_standard_streams()
}

fn redirect_standard_streams() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both are open descriptors; the standard streams are not owned
        // by any Rust object that relies on what they point at.
        if unsafe { libc::dup2(null.as_raw_fd(), stream) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The file that holds the process's id; removed by [`PidFile::remove`].
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the pid file if one is configured or the process is a daemon.
    /// A failure is logged, not fatal, as in Redis.
    pub fn write(settings: &Settings) -> Option<Self> {
        let path = match (settings.pidfile.as_str(), settings.daemonize) {
            ("", false) => return None,
            ("", true) => PathBuf::from(DAEMON_PIDFILE),
            (path, _) => settings.resolve(path),
        };
        match fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Self { path }),
            Err(error) => {
                log::warning(format_args!("The pid file {} cannot be written: {}", path.display(), os_reason(&error)));
                None
            }
        }
    }

    /// Removes the file at a regular end.
    pub fn remove(self) {
        log::notice(format_args!("Removing the pid file."));
        if let Err(error) = fs::remove_file(&self.path) {
            log::verbose(format_args!("The pid file cannot be removed: {}", os_reason(&error)));
        }
    }
}

/// The supervisor of this process, once it was looked for.
static SUPERVISOR: OnceLock<Option<Supervisor>> = OnceLock::new();
/// Whether a supervisor knows more than that the server is ready.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Whoever started the process and waits for it to be ready.
#[derive(Debug)]
pub enum Supervisor {
    /// Waits for the process to stop itself.
    Upstart,
    /// Waits for a datagram.
    Systemd(Notifier),
}

impl Supervisor {
    /// Finds the supervisor that the settings name, or `None` if there is none,
    /// and says that the server starts. A supervised process must not daemonize.
    pub fn greet(settings: &Settings) -> Option<&'static Self> {
        let found = SUPERVISOR.get_or_init(|| Self::detect(settings)).as_ref();
        found.inspect(|supervisor| supervisor.status("Coreslot is loading..."))
    }

    /// Tells the supervisor, if there is one, how the server is.
    pub fn tell(text: &str) {
        if let Some(Some(supervisor)) = SUPERVISOR.get() {
            TOLD.store(true, Ordering::SeqCst);
            supervisor.status(text);
        }
    }

    fn detect(settings: &Settings) -> Option<Self> {
        let upstart = || std::env::var_os("UPSTART_JOB").map(|_| Self::Upstart);
        let systemd = || Notifier::from_environment().map(Self::Systemd);
        let found = match settings.supervised {
            Supervised::No => return None,
            Supervised::Upstart => upstart(),
            Supervised::Systemd => systemd(),
            Supervised::Auto => upstart().or_else(systemd),
        };
        if found.is_none() && settings.supervised != Supervised::Auto {
            log::warning(format_args!(
                "Supervision by {} was asked for, but its environment variable is not set",
                settings.supervised.name()
            ));
        }
        found
    }

    /// Says that the server accepts connections; a replica's dataset may still be
    /// on its way.
    pub fn ready(&self, replica: bool) {
        match self {
            // SAFETY: raising a signal has no memory effects; upstart continues
            // the process once it has seen it stopped.
            Self::Upstart => unsafe {
                libc::raise(libc::SIGSTOP);
            },
            Self::Systemd(notifier) => {
                if !TOLD.load(Ordering::SeqCst) {
                    self.status(match replica {
                        true => "Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync",
                        false => "Ready to accept connections",
                    });
                }
                notifier.send("READY=1\n");
            }
        }
    }

    /// Shows what the server is doing.
    fn status(&self, text: &str) {
        if let Self::Systemd(notifier) = self {
            notifier.send(&format!("STATUS={}\n", text.replace('\n', " ")));
        }
    }

    /// Says that the server is about to end.
    pub fn stopping(&self) {
        if let Self::Systemd(notifier) = self {
            notifier.send("STOPPING=1\n");
        }
    }
}

/// A way to systemd, as `sd_notify(3)` describes it.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Opens the socket that `NOTIFY_SOCKET` names: a path, or an abstract name
    /// after an `@`.
    fn from_environment() -> Option<Self> {
        use std::os::unix::ffi::OsStrExt;
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&name),
        };
        Some(Self { socket: UnixDatagram::unbound().ok()?, address: address.ok()? })
    }

    fn send(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            log::warning(format_args!("systemd cannot be notified: {}", os_reason(&error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_over_an_abstract_socket() {
        let name = format!("coreslot-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier { socket: UnixDatagram::unbound().unwrap(), address };
        let supervisor = Supervisor::Systemd(notifier);
        supervisor.ready(false);
        supervisor.ready(true);
        supervisor.status("a\nb");
        supervisor.stopping();
        let receive = || {
            let mut buffer = [0; 128];
            let len = listener.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..len]).into_owned()
        };
        assert_eq!(receive(), "STATUS=Ready to accept connections\n");
        assert_eq!(receive(), "READY=1\n");
        let waits = "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync\n";
        assert_eq!(receive(), waits);
        assert_eq!(receive(), "READY=1\n");
        assert_eq!(receive(), "STATUS=a b\n");
        assert_eq!(receive(), "STOPPING=1\n");
    }

    #[test]
    fn the_pid_file_is_written_and_removed() {
        let path = std::env::temp_dir().join(format!("coreslot-pid-{}", std::process::id()));
        let settings = Settings { pidfile: path.display().to_string(), ..Settings::default() };
        let file = PidFile::write(&settings).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        file.remove();
        assert!(!path.exists());
        assert!(PidFile::write(&Settings::default()).is_none());
    }
}
