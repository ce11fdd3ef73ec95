//! Why a configuration was not accepted at start.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::os::os_reason;

/// A configuration that the server does not start with. `Display` gives the
/// text for standard error; the process then exits with status 1.
#[derive(Debug)]
pub enum ConfigError {
    /// A line was not understood or not accepted.
    Line {
        /// Counted from 1 within its file; options follow the file's lines.
        number: usize,
        /// The line without surrounding blanks.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read.
    Open {
        /// The file as it was named.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The command line asks for something that does not exist.
    Usage(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { number, line, reason } => write!(
                f,
                "\n*** FATAL CONFIG FILE ERROR (Coreslot {}) ***\n\
                 Reading the configuration file, at line {number}\n>>> '{line}'\n{reason}",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Open { path, error } => {
                write!(f, "Fatal error, can't open config file '{}': {}", path.display(), os_reason(error))
            }
            Self::Usage(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}
