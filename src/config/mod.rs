//! Configuration: one table of directives drives the configuration file, the
//! command line, CONFIG GET, SET and REWRITE, and the help text.
//!
//! [`Config`] is the live configuration of a process. Readers take an immutable
//! [`Settings`] from [`Config::settings`]; a change publishes a new one. Nothing
//! here touches the process itself: entering `dir`, binding addresses and the
//! like is for whoever applies a change.
//!
//! | file | holds |
//! | --- | --- |
//! | `line` | words, quotes, units, patterns |
//! | `choice`, `value` | types of values |
//! | `settings` | the typed values of all directives |
//! | `directive` | what a row is; text to value and back |
//! | `words` | directives with a syntax of their own |
//! | `table` | the rows |
//! | `load`, `args` | files and command line |
//! | `runtime` | CONFIG GET and SET |
//! | `rewrite` | CONFIG REWRITE |
//! | `help` | the help text |
//!
//! Values are text in UTF-8; a line that is not is refused.

mod args;
mod choice;
mod directive;
mod error;
mod help;
mod line;
mod load;
mod rewrite;
mod runtime;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod words;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use args::{Request, ServeArgs};
use load::{Loader, Place};

pub use choice::{
    AclPubsubDefault, AppendFsync, DisklessLoad, EndpointType, Guard, LogFormat, LogLevel, LogTimestamp,
    MaxmemoryPolicy, OomScoreAdj, PipelineOrder, PropagationError, SanitizeDump, Supervised, SyslogFacility,
    TlsAuthClients,
};
pub use directive::{Directive, Kind, Mutability, Origin, RewriteLine, Status, Unit};
pub use error::ConfigError;
pub use help::help_text;
pub use line::{parse_memory, quote_bytes, split_words};
pub use rewrite::{ExtraLines, Lines, replace_file};
pub use runtime::{Caller, Change};
pub use settings::{Cluster, Internals, Persistence, Replication, Settings, Tls};
pub use table::{directives, find};
pub use value::{Cores, KeyspaceEvents, OutputBufferLimit, SavePoint, ServiceCore, ShutdownFlags};

/// What a command line asks for.
#[derive(Debug)]
pub enum StartMode {
    /// Run the server with this configuration.
    Serve(Config),
    /// Print the version and exit.
    Version,
    /// Print the help text and exit.
    Help,
}

/// The live configuration. All methods may be called from any thread.
#[derive(Debug)]
pub struct Config {
    file: Option<PathBuf>,
    /// Whether standard input was read.
    from_stdin: bool,
    /// Directives set at start.
    explicit: Vec<&'static str>,
    places: Vec<Place>,
    defaults: Arc<Settings>,
    current: Mutex<Arc<Settings>>,
}

impl Config {
    /// Reads a redis-server command line, `args[0]` being the program's name,
    /// with the files and the standard input that it names.
    ///
    /// Call it before the working directory changes: the file's path is made
    /// absolute here.
    pub fn from_args(args: &[String]) -> Result<StartMode, ConfigError> {
        match args::parse(args)? {
            Request::Version => Ok(StartMode::Version),
            Request::Help => Ok(StartMode::Help),
            Request::Serve(serve) => Self::from_serve_args(&serve).map(StartMode::Serve),
        }
    }

    fn from_serve_args(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut text = Vec::new();
        let mut file = None;
        if let Some(name) = &args.file {
            let path = absolute(Path::new(name));
            text = load::read_file(&path)?;
            file = Some(path);
        }
        if args.stdin {
            read_stdin(&mut text)?;
        }
        if !args.options.is_empty() {
            text.push(b'\n');
            text.extend_from_slice(args.options.as_bytes());
        }
        let mut config = Self::from_text(&text)?;
        config.file = file;
        config.from_stdin = args.stdin;
        Ok(config)
    }

    /// Reads configuration text; there is then no file to rewrite.
    pub fn from_text(text: &[u8]) -> Result<Self, ConfigError> {
        let mut loader = Loader::new();
        loader.load_text(text)?;
        Ok(Self {
            file: None,
            from_stdin: false,
            explicit: loader.explicit,
            places: loader.places,
            defaults: Arc::new(loader.defaults),
            current: Mutex::new(Arc::new(loader.settings)),
        })
    }

    /// The error of the `nth` line, from 0, of a directive that may be repeated, of
    /// which only those know whether it is right who put it to use.
    pub fn refused(&self, directive: &str, nth: usize, reason: String) -> ConfigError {
        match self.places.iter().filter(|p| p.directive == directive).nth(nth) {
            Some(p) => ConfigError::Line { number: p.number, line: p.line.clone(), reason },
            None => ConfigError::Usage(reason),
        }
    }

    /// The current values. Hold the `Arc` for one piece of work, then ask again.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.lock())
    }

    /// The configuration file's absolute path, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether the start was without any file, standard input or option.
    pub fn is_default(&self) -> bool {
        self.file.is_none() && !self.from_stdin && self.explicit.is_empty()
    }

    /// Lines for the log at start: directives that were set but have no effect.
    pub fn notices(&self) -> Vec<String> {
        let settings = self.settings();
        let changed = |d: &Directive| d.print(&settings) != d.print(&self.defaults);
        self.explicit
            .iter()
            .filter_map(|name| {
                let directive = table::find(name)?;
                let (verb, reason) = match directive.status {
                    Status::NoEffect(reason) => ("has no effect", reason),
                    Status::Kept(reason) if changed(directive) => ("has no effect yet", reason),
                    _ => return None,
                };
                Some(format!("Directive '{name}' {verb}: {reason}"))
            })
            .collect()
    }

    /// A poisoned lock is taken over: values are replaced as a whole, so no
    /// panic can leave them half changed.
    fn lock(&self) -> MutexGuard<'_, Arc<Settings>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Config {
    fn default() -> Self {
        let defaults = Arc::new(Settings::default());
        Self {
            file: None,
            from_stdin: false,
            explicit: Vec::new(),
            places: Vec::new(),
            current: Mutex::new(Arc::clone(&defaults)),
            defaults,
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn read_stdin(text: &mut Vec<u8>) -> Result<(), ConfigError> {
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    std::io::stdin()
        .lock()
        .read_to_end(text)
        .map(drop)
        .map_err(|error| ConfigError::Open { path: PathBuf::from("-"), error })
}
