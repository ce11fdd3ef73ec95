//! The process: which program it is, its start, its limits, its signals.
//!
//! The order at start, and why: [`Program::from_args`] first, since the name
//! decides what the arguments mean; then the configuration; then
//! [`enter_dir`], [`daemonize`] (it forks, so no thread may run yet), the
//! process [`title`] (likewise), the log, [`crash::install`], the pid file, [`signals::install`],
//! [`raise_open_files`], and at last
//! threads and [`Supervisor::ready`].

pub mod crash;
mod daemon;
mod kernel;
mod limits;
pub mod signals;
mod system;
pub mod title;

use std::path::Path;

use crate::base::os::os_reason;
use crate::config::Settings;

pub use daemon::{PidFile, Supervisor, daemonize};
pub use kernel::check_kernel;
pub use limits::{adjust_oom_score, ask_for_short_slices, disable_huge_pages, raise_open_files};
pub use system::check_system;

/// The version of Redis whose behaviour the server claims towards clients.
pub const REDIS_VERSION: &str = "7.2.4";

/// The version of Coreslot.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the program was started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The data server.
    Server,
    /// A sentinel.
    Sentinel,
    /// The checker of snapshot files.
    CheckRdb,
    /// The checker of append-only files.
    CheckAof,
    /// The checker of the machine (`--check-system`).
    CheckSystem,
}

impl Program {
    /// Reads the program from its name (`coreslot-` or `redis-` and `server`,
    /// `sentinel`, `check-rdb` or `check-aof`) and from `--sentinel`. Any other
    /// name is the server.
    pub fn from_args(args: &[String]) -> Self {
        let name = args.first().map_or("", |arg| program_name(arg));
        let names = |what: &str| {
            ["coreslot-", "redis-"]
                .iter()
                .any(|brand| name.find(brand).is_some_and(|at| name[at + brand.len()..].starts_with(what)))
        };
        if names("check-rdb") {
            Self::CheckRdb
        } else if names("check-aof") {
            Self::CheckAof
        } else if names("sentinel") || args.iter().skip(1).any(|arg| arg == "--sentinel") {
            Self::Sentinel
        } else if args.get(1).is_some_and(|arg| arg == "--check-system") {
            Self::CheckSystem
        } else {
            Self::Server
        }
    }

    /// For a program that is not built yet, the text to print before exiting
    /// with status 1.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Server | Self::CheckRdb | Self::CheckAof | Self::CheckSystem => None,
            Self::Sentinel => Some("Sentinel mode is not built yet."),
        }
    }
}

/// The last component of `args[0]`.
pub fn program_name(arg: &str) -> &str {
    Path::new(arg).file_name().and_then(|name| name.to_str()).unwrap_or("coreslot-server")
}

/// What `--version` prints.
pub fn version_line() -> String {
    format!(
        "Coreslot server v={VERSION} sha=00000000:0 malloc=mimalloc bits={} build=0 \
         redis_version={REDIS_VERSION}",
        usize::BITS
    )
}

/// Enters the configured working directory. The error is the text to print.
pub fn enter_dir(settings: &Settings) -> Result<(), String> {
    std::env::set_current_dir(&settings.dir)
        .map_err(|error| format!("Can't chdir to '{}': {}", settings.dir.display(), os_reason(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(args: &[&str]) -> Program {
        let args: Vec<String> = args.iter().map(|&a| a.to_owned()).collect();
        Program::from_args(&args)
    }

    #[test]
    fn the_name_chooses_the_program() {
        assert_eq!(program(&["coreslot-server"]), Program::Server);
        assert_eq!(program(&["./src/redis-server", "a.conf"]), Program::Server);
        assert_eq!(program(&["../redis-sentinel"]), Program::Sentinel);
        assert_eq!(program(&["coreslot-sentinel-8"]), Program::Sentinel);
        assert_eq!(program(&["/redis-sentinel/redis-server"]), Program::Server);
        assert_eq!(program(&["x", "a.conf", "--sentinel"]), Program::Sentinel);
        assert_eq!(program(&["redis-check-rdb", "d"]), Program::CheckRdb);
        assert_eq!(program(&["coreslot-check-aof"]), Program::CheckAof);
        assert_eq!(program(&["coreslot-server", "--check-system"]), Program::CheckSystem);
        assert_eq!(program(&[]), Program::Server);
    }

    #[test]
    fn the_version_line_has_the_shape_of_redis() {
        let line = version_line();
        assert!(line.starts_with("Coreslot server v="));
        for field in ["sha=", "malloc=", "bits=64", "redis_version=7.2.4"] {
            assert!(line.split(' ').any(|word| word.starts_with(field)), "{line}");
        }
    }
}
