//! What threads tell each other about the append-only file and about loading;
//! also the source of INFO's fields. And what follows for clients.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};

use super::core::Core;
use super::registry::Entry;
use crate::base::Args;
use crate::base::os::strerror;
use crate::command::Fault;
use crate::command::spec::flag;
use crate::session::conn::Conn;

/// The reply to what needs the dataset before it is there.
const LOADING: Fault = Fault::Text("LOADING Redis is loading the dataset in memory");

/// See the module's description.
pub struct Persistence {
    /// The dataset is being loaded.
    pub loading: AtomicBool,
    /// It is being loaded beside the one that is served.
    pub async_loading: AtomicBool,
    /// Unix seconds.
    pub loading_since_s: AtomicU64,
    pub loading_total_bytes: AtomicU64,
    pub loading_done_bytes: AtomicU64,
    /// Memory in use when the snapshot that is being loaded was made.
    pub loading_used_memory: AtomicU64,
    /// Keys of the last snapshot that was loaded, and those left out of it.
    pub last_load_loaded: AtomicU64,
    pub last_load_expired: AtomicU64,
    pub aof: AofStatus,
}

/// The append-only file.
pub struct AofStatus {
    /// `aof_enabled`: whether it is wanted, and not suspended while a dataset is
    /// replaced.
    pub enabled: AtomicBool,
    /// Replies of turns stamped below may leave; `u64::MAX` unless replies
    /// wait for the disk (`appendfsync always`).
    pub durable: AtomicU64,
    /// Why the last write or flush failed; 0 when it did not.
    pub errno: AtomicI32,
    pub current_size: AtomicU64,
    pub base_size: AtomicU64,
    pub buffer_bytes: AtomicU64,
    pub pending_fsync: AtomicU64,
    pub delayed_fsync: AtomicU64,
    pub rewriting: AtomicBool,
    pub rewrite_scheduled: AtomicBool,
    /// Unix seconds.
    pub rewrite_since_s: AtomicU64,
    /// -1 before the first.
    pub last_rewrite_s: AtomicI64,
    pub rewrite_failed: AtomicBool,
    pub rewrites: AtomicU64,
    pub failures_in_a_row: AtomicU64,
    /// Microseconds to wait before each write (DEBUG AOF-FLUSH-SLEEP).
    pub flush_sleep_us: AtomicU64,
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence {
            loading: AtomicBool::new(false),
            async_loading: AtomicBool::new(false),
            loading_since_s: AtomicU64::new(0),
            loading_total_bytes: AtomicU64::new(0),
            loading_done_bytes: AtomicU64::new(0),
            loading_used_memory: AtomicU64::new(0),
            last_load_loaded: AtomicU64::new(0),
            last_load_expired: AtomicU64::new(0),
            aof: AofStatus {
                enabled: AtomicBool::new(false),
                durable: AtomicU64::new(u64::MAX),
                errno: AtomicI32::new(0),
                current_size: AtomicU64::new(0),
                base_size: AtomicU64::new(0),
                buffer_bytes: AtomicU64::new(0),
                pending_fsync: AtomicU64::new(0),
                delayed_fsync: AtomicU64::new(0),
                rewriting: AtomicBool::new(false),
                rewrite_scheduled: AtomicBool::new(false),
                rewrite_since_s: AtomicU64::new(0),
                last_rewrite_s: AtomicI64::new(-1),
                rewrite_failed: AtomicBool::new(false),
                rewrites: AtomicU64::new(0),
                failures_in_a_row: AtomicU64::new(0),
                flush_sleep_us: AtomicU64::new(0),
            },
        }
    }
}

/// The reply to writes while snapshots fail.
const MISCONF: Fault = Fault::Text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that \
     may modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
     snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
     error.",
);

impl Core {
    /// Has the last snapshot failed, so that nothing may be written
    /// (`stop-writes-on-bgsave-error`)?
    pub fn saves_fail(&self) -> bool {
        let p = &self.settings.persistence;
        let failed = self.shared.saves.last_failed.load(Ordering::Relaxed);
        failed && p.stop_writes_on_bgsave_error && !p.save.is_empty()
    }

    /// Why nothing may be written while the disk fails.
    pub fn disk_refusal(&self, errno: i32) -> Option<Fault> {
        if self.saves_fail() {
            return Some(MISCONF);
        }
        (errno != 0).then(|| format!("MISCONF Errors writing to the AOF file: {}", strerror(errno)).into())
    }

    /// The refusal of a command by the state of the server. EXEC is refused for
    /// what is queued, a script for what it says that it does.
    pub fn refused_by_state(&self, conn: &Conn, entry: &Entry, args: Args) -> Option<Fault> {
        let p = &self.shared.persistence;
        if !entry.spec.is(flag::ALLOW_BUSY)
            && let Some(busy) = self.shared.scripts.busy()
        {
            // A script of the file that is loaded: its end is not all that is waited for.
            let loading = p.loading.load(Ordering::Relaxed) && !entry.spec.is(flag::LOADING);
            return Some(if loading { LOADING } else { busy });
        }
        let flags = self.flags_of(entry, args);
        let (any, all) = if entry.spec.name == "exec" { self.queued_flags(conn) } else { (0, !0) };
        if let Some(f) = self.refused_by_memory(conn, entry, flags | any) {
            return Some(f);
        }
        let writes = (flags | any) & flag::WRITE != 0;
        let errno = p.aof.errno.load(Ordering::Relaxed);
        let saves_fail = self.saves_fail();
        if errno != 0 || saves_fail {
            let refused = writes || entry.spec.name == "ping";
            if refused && saves_fail {
                return Some(MISCONF);
            }
            if refused {
                return Some(format!("MISCONF Errors writing to the AOF file: {}", strerror(errno)).into());
            }
        }
        // Beside the old dataset a new one is loaded, which goes on for some.
        let beside = p.async_loading.load(Ordering::Relaxed) && entry.spec.is(flag::NO_ASYNC_LOADING);
        if beside || (p.loading.load(Ordering::Relaxed) && !entry.spec.is(flag::LOADING)) {
            return Some(LOADING);
        }
        self.refused_by_role(writes, flags & all & flag::STALE != 0)
    }
}
