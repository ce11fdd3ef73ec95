//! The snapshot file at start.

use std::fs::File;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::timer::sleep;

use super::Service;
use super::importing::Import;
use crate::base::clock;
use crate::base::os::os_reason;
use crate::config::{SanitizeDump, Settings};
use crate::observe::log;
use crate::script::engine::Engine;
use crate::script::library::{Libraries, Library, Policy};
use crate::server::replication::Restored;
use crate::server::scripts::MEMORY_MAX;
use crate::snapshot::load::{About, Counts, How};
use crate::snapshot::rdb::read::Fault;
use crate::snapshot::rdb::scan::Error;

/// Bytes read at a time; fewer when keys are to be delayed, so that it shows.
const PIECE: usize = 256 << 10;
const DELAYED_PIECE: usize = 4 << 10;

/// Bytes of magic and version.
const SIGNATURE: u64 = 9;

/// Do these first bytes of a file say that it is a snapshot?
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(b"REDIS") || bytes.starts_with(b"VALKEY")
}

/// How the base of an append-only file is loaded: keys that are past their
/// deadline too, since the commands behind it delete them.
pub fn base_how(s: &Settings) -> How {
    let deep = s.persistence.sanitize_dump_payload == SanitizeDump::Yes;
    How { drop_expired_at: None, replace: false, deep }
}

impl Service {
    /// Loads `dbfilename`; false if it is not there. The error is the last line
    /// of the log.
    pub async fn load_snapshot(self: &Rc<Self>, s: &Settings, how: How) -> Result<bool, String> {
        let path = s.resolve(&s.persistence.dbfilename);
        let fatal = |e: std::io::Error| {
            let name = &s.persistence.dbfilename;
            log::warning(format_args!("Fatal error: can't open the RDB file {name} for reading: {}", os_reason(&e)));
            format!("Fatal error loading the DB: {}. Exiting.", os_reason(&e))
        };
        let mut file = match File::open(&path) {
            Ok(f) => f,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(fatal(e)),
        };
        let size = file.metadata().map_err(fatal)?.len();
        let started = Instant::now();
        let p = &self.shared.persistence;
        p.loading_since_s.store(clock::now_ms() / 1000, Relaxed);
        p.loading_total_bytes.store(size, Relaxed);
        p.loading_done_bytes.store(0, Relaxed);
        let mut import = Import::new(self, how);
        import.set_size(size);
        let delay = s.persistence.key_load_delay_us;
        let piece = piece_of(delay);
        while !import.ended() && !self.shared.stopping.load(SeqCst) {
            let before = import.records();
            let n = import.fill(&mut file, piece).map_err(fatal)?;
            if n == 0 {
                break;
            }
            import.take_apart().await.map_err(|e| refusal(&s.persistence.dbfilename, &e))?;
            p.loading_done_bytes.fetch_add(n as u64, Relaxed);
            rest(delay, import.records() - before).await;
        }
        if self.shared.stopping.load(SeqCst) {
            return Ok(true);
        }
        let (about, counts) = import.finish().await.map_err(|e| refusal(&s.persistence.dbfilename, &e))?;
        *self.repl.restored.borrow_mut() = Restored::of(&about);
        self.loaded_snapshot(&about, counts).map_err(|why| {
            log::warning(format_args!("{}: {why}", s.persistence.dbfilename));
            "Terminating server after rdb file reading failure."
        })?;
        log::notice(format_args!("DB loaded from disk: {:.3} seconds", started.elapsed().as_secs_f64()));
        Ok(true)
    }

    /// What a snapshot brought beside keys; says in the log what Redis says.
    fn loaded_snapshot(&self, about: &About, c: Counts) -> Result<(), String> {
        let text = format!("Done loading RDB, keys loaded: {}, keys expired: {}", c.loaded, c.expired);
        match c.empty {
            0 => log::notice(format_args!("{text}.")),
            n => log::notice(format_args!("{text}, empty keys skipped: {n}.")),
        }
        self.take_libraries(&about.functions)
    }

    /// The libraries of a snapshot take the place of those that are there, all or
    /// none. The error is a line for the log.
    pub fn take_libraries(&self, sources: &[Vec<u8>]) -> Result<(), String> {
        self.shared.scripts.libraries.restore(libraries_of(sources)?, Policy::Flush)
    }
}

/// The libraries of a snapshot, from their sources.
pub fn libraries_of(sources: &[Vec<u8>]) -> Result<Vec<Arc<Library>>, String> {
    let mut engine = Engine::new(MEMORY_MAX);
    let library = |code: &Vec<u8>| match engine.try_library(code) {
        Ok(library) => Ok(Arc::new(library)),
        Err(why) => Err(format!("Failed loading a function library: {why}")),
    };
    let libraries: Vec<Arc<Library>> = sources.iter().map(library).collect::<Result<_, _>>()?;
    // Two of the same name, or with functions of the same name, are found here.
    let alone = Libraries::default().restore(libraries.clone(), Policy::Flush);
    alone.map_err(|why| format!("Failed loading function libraries: {why}"))?;
    Ok(libraries)
}

/// `key-load-delay`: microseconds for each key, or one microsecond for so many.
pub fn delay_of(delay_us: i32, keys: u64) -> Duration {
    let us = match delay_us {
        0 => 0,
        1.. => keys * u64::from(delay_us.unsigned_abs()),
        _ => keys / u64::from(delay_us.unsigned_abs()),
    };
    Duration::from_micros(us)
}

/// Bytes to be read at once with such a delay.
pub fn piece_of(delay_us: i32) -> usize {
    if delay_us == 0 { PIECE } else { DELAYED_PIECE }
}

/// Lets others go on, and waits as long as these keys are to be delayed.
pub async fn rest(delay_us: i32, keys: u64) {
    match delay_of(delay_us, keys) {
        Duration::ZERO => future::yield_now().await,
        delay => sleep(delay).await,
    }
}

/// Says what is wrong with a file; the last line of it.
pub fn refusal(name: &str, e: &Error) -> String {
    if e.offset <= SIGNATURE && e.fault != Fault::Short {
        log::warning(format_args!("{}", e.fault));
        log::warning(format_args!("{name}, offset {}: expected REDIS and a version that is known", e.offset));
        return "Fatal error loading the DB: Invalid argument. Exiting.".into();
    }
    let mut what = e.fault.to_string();
    if e.fault == Fault::Short {
        log::warning(format_args!("Short read or OOM loading DB. Unrecoverable error, aborting now."));
        what = "Unexpected EOF reading RDB file".into();
    }
    if let Fault::Checksum { .. } = e.fault {
        log::warning(format_args!("{}. Aborting now.", e.fault));
        what = "RDB CRC error".into();
    }
    log::warning(format_args!("Internal error in RDB reading offset {} of {name} -> {what}", e.offset));
    if e.record.is_some() {
        log::warning(format_args!("{e}"));
    }
    "Terminating server after rdb file reading failure.".into()
}
