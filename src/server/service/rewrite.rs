//! Rewriting the append-only file: a snapshot becomes the new base, and what
//! came since its cut is the new incremental file.
//!
//! 1. The snapshot's cut is made. When the merge comes to it, the writing task
//!    puts everything before it into the current incremental file, opens the
//!    next one and names it in the manifest. Base and both incremental files
//!    are the dataset, whatever becomes of the rewrite.
//! 2. The snapshot is written beside, and synced.
//! 3. It is renamed, and a manifest put in place that names it and the new
//!    incremental file; all others are history, and then deleted.
//!
//! A crash at any step leaves the old manifest or the new one, each with all
//! its files. Turning the append-only file on is the same with an incremental
//! file that has no name in the manifest before step 3.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use glommio::timer::sleep;

use super::Service;
use super::aof::{AofFiles, Place};
use super::aof_file::AppendFile;
use super::snapshot::{Failure, Wish};
use super::streams::{Aof, FOR_AOF, Outputs};
use crate::base::clock;
use crate::base::os::os_reason;
use crate::command::cx::Options;
use crate::config::Settings;
use crate::journal::aof::manifest::Manifest;
use crate::observe::log;
use crate::session::conn::ConnRef;
use crate::snapshot::commands::{CommandSink, Commands};
use crate::snapshot::file::FileSink;
use crate::snapshot::rdb::decode::Limits;

/// Time between two looks at a switch that is under way.
const LOOK: Duration = Duration::from_millis(1);

/// Time between two attempts to turn the append-only file on.
const RETRY: Duration = Duration::from_secs(1);

/// Failed rewrites in a row from which the next waits, at first for a minute,
/// then for twice as long each time, at most for an hour. As in Redis.
const PATIENCE: u64 = 3;

/// Seconds between two rewrites that are to replace a file whose flush failed.
const DOUBT_S: u64 = 2;

/// Why a rewrite ended that nobody wanted any more.
const CALLED_OFF: &str = "terminated";

/// Where the new base is written before it has its name.
fn temporary(place: &Place) -> PathBuf {
    place.dir.join(format!("temp-rewriteaof-bg-{}.aof", std::process::id()))
}

impl Service {
    /// BGREWRITEAOF: who asked hears what became of the order.
    pub fn order_rewrite(self: &Rc<Self>, asker: (ConnRef, u32)) {
        let status = &self.shared.persistence.aof;
        let reply: &'static [u8] = if status.rewriting.load(Relaxed) {
            b"-ERR Background append only file rewriting already in progress\r\n"
        } else if !self.shared.saves.is_active() && !self.has_aof_dir() {
            b"-ERR Can't execute an AOF background rewriting. Please check the server logs for more information.\r\n"
        } else if self.begin_rewrite() {
            b"+Background append only file rewriting started\r\n"
        } else {
            status.rewrite_scheduled.store(true, Relaxed);
            b"+Background append only file rewriting scheduled\r\n"
        };
        let (conn, seq) = asker;
        self.call(conn.core as usize, move |core| core.deliver(conn, seq, reply));
    }

    /// Is there a directory for the files, or could it be made? If not, that counts
    /// as a rewrite that failed.
    fn has_aof_dir(&self) -> bool {
        let place = Place::of(&self.shared.config.settings());
        let Err(e) = place.make_dir() else { return true };
        log::warning(format_args!("Can't open or create append-only dir {}: {}", place.dir.display(), os_reason(&e)));
        self.shared.persistence.aof.rewrite_failed.store(true, Relaxed);
        false
    }

    /// Begins a rewrite, unless a snapshot is under way.
    fn begin_rewrite(self: &Rc<Self>) -> bool {
        if !self.shared.saves.try_begin() {
            return false;
        }
        let status = &self.shared.persistence.aof;
        status.rewrite_scheduled.store(false, Relaxed);
        status.rewrite_since_s.store(clock::now_ms() / 1000, Relaxed);
        status.rewriting.store(true, SeqCst);
        log::notice(format_args!("Background append only file rewriting started by pid {}", std::process::id()));
        let service = self.clone();
        glommio::spawn_local(async move {
            let result = service.rewrite().await;
            service.rewrite_ended(result);
        })
        .detach();
        true
    }

    fn rewrite_ended(&self, result: Result<(), String>) {
        let status = &self.shared.persistence.aof;
        let now_s = clock::now_ms() / 1000;
        let took = now_s.saturating_sub(status.rewrite_since_s.load(Relaxed));
        status.last_rewrite_s.store(took as i64, Relaxed);
        match result {
            Ok(()) => {
                status.rewrite_failed.store(false, Relaxed);
                status.rewrites.fetch_add(1, Relaxed);
                status.failures_in_a_row.store(0, Relaxed);
                log::notice(format_args!("Background AOF rewrite finished successfully"));
            }
            // Whoever calls it off says so to Redis's child with this signal.
            Err(e) if e == CALLED_OFF => {
                log::warning(format_args!("Background AOF rewrite terminated by signal {}", libc::SIGUSR1));
            }
            Err(e) => {
                status.rewrite_failed.store(true, Relaxed);
                status.failures_in_a_row.fetch_add(1, Relaxed);
                log::warning(format_args!("Background AOF rewrite terminated with error: {e}"));
            }
        }
        status.rewriting.store(false, SeqCst);
    }

    /// Looks whether a rewrite is due; comes round.
    pub fn consider_rewrite(self: &Rc<Self>) {
        let status = &self.shared.persistence.aof;
        if status.rewriting.load(Relaxed) || self.shared.persistence.loading.load(Relaxed) {
            return;
        }
        if status.rewrite_scheduled.load(Relaxed) {
            self.begin_rewrite();
            return;
        }
        if self.aof.borrow().as_ref().is_some_and(AofFiles::is_doubtful) {
            let since_s = (clock::now_ms() / 1000).saturating_sub(status.rewrite_since_s.load(Relaxed));
            if since_s >= DOUBT_S && self.begin_rewrite() {
                log::notice(format_args!("The AOF is rewritten because a flush of it has failed"));
            }
            return;
        }
        let p = &self.shared.config.settings().persistence;
        let (percent, least) = (p.auto_aof_rewrite_percentage as u64, p.auto_aof_rewrite_min_size);
        let current = status.current_size.load(Relaxed);
        if percent == 0 || current <= least || self.aof.borrow().is_none() || self.must_be_patient() {
            return;
        }
        let base = status.base_size.load(Relaxed).max(1);
        let growth = (current.saturating_mul(100) / base).saturating_sub(100);
        if growth >= percent && !self.shared.saves.is_active() {
            log::notice(format_args!("Starting automatic rewriting of AOF on {growth}% growth"));
            self.begin_rewrite();
        }
    }

    fn must_be_patient(&self) -> bool {
        let status = &self.shared.persistence.aof;
        let failures = status.failures_in_a_row.load(Relaxed);
        if failures < PATIENCE {
            return false;
        }
        let minutes = 1u64.checked_shl((failures - PATIENCE) as u32).unwrap_or(60).min(60);
        let since = clock::now_ms() / 1000 - status.rewrite_since_s.load(Relaxed);
        since < minutes * 60
    }

    async fn rewrite(self: &Rc<Self>) -> Result<(), String> {
        let s = self.shared.config.settings();
        let place = Place::of(&s);
        let is_on = self.aof.borrow().is_some();
        place.make_dir().map_err(|e| os_reason(&e))?;
        let at_cut = |out: &mut Outputs| {
            out.aof.as_mut().map(Aof::cut);
            None
        };
        let temp = temporary(&place);
        let base = self.write_base(&temp, at_cut).await?;
        let result = match is_on {
            true => self.adopt_base(&place, &temp, base).await,
            false => adopt_alone(&place, &temp, base).map_err(|e| os_reason(&e)),
        };
        if result.is_err() {
            let _ = std::fs::remove_file(&temp);
        }
        result
    }

    /// Makes the dataset's base in a file.
    async fn write_base(
        self: &Rc<Self>,
        path: &Path,
        at_cut: impl FnOnce(&mut Outputs) -> Option<super::snapshot::Place> + 'static,
    ) -> Result<Base, String> {
        let s = self.shared.config.settings();
        let incremental = s.persistence.aof_rewrite_incremental_fsync;
        let rdb = s.persistence.aof_use_rdb_preamble;
        let wish = Wish {
            aof_base: true,
            bare: !rdb,
            at_cut: Some(Box::new(at_cut)),
            key_delay_us: s.persistence.rdb_key_save_delay_us.max(0) as u64,
            ..Wish::default()
        };
        let made = match rdb {
            true => self.snapshot(wish, async || FileSink::create(path, incremental).await).await,
            false => {
                let since = s.persistence.aof_timestamp_enabled.then(|| clock::now_ms() / 1000);
                let commands = Commands::new(self.decoder_limits().await, since);
                let open = async || Ok(CommandSink::new(commands, FileSink::create(path, incremental).await?));
                self.snapshot(wish, open).await
            }
        };
        match made {
            Ok(_) => {}
            Err(Failure::Aborted) => return Err(CALLED_OFF.into()),
            Err(e) => return Err(e.to_string()),
        }
        let bytes = std::fs::metadata(path).map_err(|e| os_reason(&e))?.len();
        Ok(Base { bytes, rdb })
    }

    async fn decoder_limits(self: &Rc<Self>) -> Limits {
        let limits = self.ask_all(|core| Limits::new(&core.options)).await;
        limits.into_iter().next().unwrap_or_else(|| Limits::new(&Options::default()))
    }

    /// The base is written: it takes the place of all files before the cut.
    async fn adopt_base(self: &Rc<Self>, place: &Place, temp: &Path, base: Base) -> Result<(), String> {
        let bytes = base.bytes;
        let first = self.first_after_cut().await?;
        if !self.seize_file().await {
            return Err("the append-only file has been turned off".into());
        }
        let (mut m, size) = match self.aof.borrow().as_ref() {
            Some(f) => (f.manifest.clone(), f.size),
            None => return Err("the append-only file has been turned off".into()),
        };
        let gc = self.deletes_history();
        let result = replace(place, temp, &mut m, first - 1, (base.rdb, gc));
        if let Some(f) = self.aof.borrow_mut().as_mut() {
            if result.is_ok() {
                (f.manifest, f.before) = (m, bytes);
            }
            f.release();
        }
        self.written_aof.ring();
        result.map_err(|e| os_reason(&e))?;
        self.aof_is_based_anew();
        let status = &self.shared.persistence.aof;
        status.current_size.store(bytes + size, Relaxed);
        status.base_size.store(bytes + size, Relaxed);
        Ok(())
    }

    /// The number of the incremental file that begins at the cut.
    async fn first_after_cut(&self) -> Result<u64, String> {
        loop {
            match self.aof.borrow_mut().as_mut() {
                None => return Err("the append-only file has been turned off".into()),
                Some(f) => {
                    if let Some(switched) = f.switched.take() {
                        return switched.map_err(|e| format!("Can't open the next AOF file: {}", os_reason(&e)));
                    }
                }
            }
            self.written_aof.wait().await;
        }
    }

    /// Are replaced files deleted (`aof-disable-auto-gc no`)?
    fn deletes_history(&self) -> bool {
        !self.shared.config.settings().persistence.aof_disable_auto_gc
    }

    /// Deletes replaced files that were kept while that was wanted.
    pub fn collect_history(self: &Rc<Self>) {
        let kept = self.aof.borrow().as_ref().is_some_and(|f| !f.manifest.history.is_empty());
        if !kept || !self.deletes_history() || self.collecting.replace(true) {
            return;
        }
        let service = self.clone();
        glommio::spawn_local(async move {
            if service.seize_file().await {
                if let Some(f) = service.aof.borrow_mut().as_mut() {
                    let place = Place::of(&service.shared.config.settings());
                    if let Err(e) = place.delete_history(&mut f.manifest) {
                        log::warning(format_args!("Can't delete old AOF files: {}", os_reason(&e)));
                    }
                    f.release();
                }
                service.written_aof.ring();
            }
            service.collecting.set(false);
        })
        .detach();
    }

    /// CONFIG SET appendonly: turns it on or off until it is as it is wanted.
    /// One task does so, one step after the other.
    pub async fn switch_aof(self: Rc<Self>) {
        loop {
            let s = self.shared.config.settings();
            let is_on = self.aof.borrow().is_some();
            if s.persistence.appendonly == is_on || self.shared.stopping.load(Relaxed) {
                self.shared.persistence.aof.enabled.store(is_on, SeqCst);
                break;
            }
            if is_on {
                self.merged_past(clock::mono_ns()).await;
                self.close_aof().await;
                self.call_off_rewrite();
                self.drop_journal(FOR_AOF).await;
            } else if !self.turn_on_aof(&s).await {
                sleep(RETRY).await;
            }
        }
        if !self.shared.config.settings().persistence.appendonly {
            log::notice(format_args!("AOF is off: its files are complete"));
        }
        self.switching_aof.set(false);
    }

    /// Of the file that has been turned off: a base for it is made in vain.
    fn call_off_rewrite(&self) {
        if self.shared.persistence.aof.rewriting.load(SeqCst) {
            log::notice(format_args!("Killing running AOF rewrite child: {}", std::process::id()));
            self.abort_snapshot();
        }
    }

    /// A snapshot that somebody waits for does not wait for a rewrite: that begins anew
    /// when it can.
    pub fn put_off_rewrite(&self) {
        let status = &self.shared.persistence.aof;
        if status.rewriting.load(SeqCst) && self.snapshot_job().is_some() {
            status.rewrite_scheduled.store(true, Relaxed);
            self.abort_snapshot();
        }
    }

    /// The dataset is about to be replaced by a primary's. The file stays what
    /// it is, the old dataset, until [`Service::resume_aof`] has made another.
    pub async fn suspend_aof(self: &Rc<Self>) {
        while self.switching_aof.get() {
            sleep(LOOK).await;
        }
        if self.aof.borrow().is_none() {
            return;
        }
        self.switching_aof.set(true);
        self.merged_past(clock::mono_ns()).await;
        self.close_aof().await;
        self.shared.persistence.aof.enabled.store(false, SeqCst);
        self.drop_journal(FOR_AOF).await;
        self.switching_aof.set(false);
    }

    /// Turns the append-only file on again, if it is to be on.
    pub fn resume_aof(self: &Rc<Self>) {
        let wanted = self.shared.config.settings().persistence.appendonly;
        if wanted && self.aof.borrow().is_none() && !self.switching_aof.replace(true) {
            self.shared.persistence.aof.enabled.store(true, SeqCst);
            glommio::spawn_local(self.clone().switch_aof()).detach();
        }
    }

    /// Whether it is on now; if not, everything is as before.
    async fn turn_on_aof(self: &Rc<Self>, s: &Settings) -> bool {
        let status = &self.shared.persistence.aof;
        if !self.shared.saves.try_begin() {
            return false;
        }
        status.rewrite_since_s.store(clock::now_ms() / 1000, Relaxed);
        status.rewriting.store(true, SeqCst);
        log::notice(format_args!("AOF is on: a rewrite makes its base"));
        let result = self.begin_aof(&Place::of(s)).await;
        let done = result.is_ok();
        self.rewrite_ended(result);
        if done {
            self.take_aof_policy(&self.shared.config.settings());
            return true;
        }
        self.seize_file().await;
        *self.aof.borrow_mut() = None;
        self.streams.borrow_mut().out.aof = None;
        self.shared.persistence.aof.buffer_bytes.store(0, Relaxed);
        self.drop_journal(FOR_AOF).await;
        status.enabled.store(false, SeqCst);
        status.errno.store(0, SeqCst);
        self.update_gates();
        false
    }

    async fn begin_aof(self: &Rc<Self>, place: &Place) -> Result<(), String> {
        let text = |e: io::Error| os_reason(&e);
        let prepared = self.prepare_aof(place).await;
        let incr = match prepared {
            Ok(path) => path,
            Err(e) => {
                self.shared.saves.end();
                return Err(e);
            }
        };
        self.keep_journal(FOR_AOF).await;
        let timestamps = self.shared.config.settings().persistence.aof_timestamp_enabled;
        let temp = temporary(place);
        let at_cut = move |out: &mut Outputs| {
            out.aof = Some(Aof::new(timestamps));
            None
        };
        let Base { bytes, rdb } = self.write_base(&temp, at_cut).await?;
        if !self.seize_file().await {
            return Err("the append-only file has been turned off".into());
        }
        let mut aof = self.aof.borrow_mut();
        let Some(f) = aof.as_mut() else { return Err("the append-only file has been turned off".into()) };
        let mut m = f.manifest.clone();
        let file = m.begin_anew(&place.stem);
        std::fs::rename(&incr, place.path(&file.name)).map_err(text)?;
        let adopted = replace(place, &temp, &mut m, file.seq - 1, (rdb, self.deletes_history()));
        f.release();
        adopted.map_err(text)?;
        f.rename(file.name);
        (f.manifest, f.before) = (m, bytes);
        let status = &self.shared.persistence.aof;
        status.base_size.store(bytes + f.size, Relaxed);
        status.current_size.store(bytes + f.size, Relaxed);
        Ok(())
    }

    /// Opens an incremental file that nobody knows yet.
    async fn prepare_aof(&self, place: &Place) -> Result<PathBuf, String> {
        place.make_dir().map_err(|e| os_reason(&e))?;
        let manifest = place.read_manifest()?.unwrap_or_default();
        let path = place.dir.join(format!("temp-{}.incr", place.stem));
        let _ = std::fs::remove_file(&path);
        let file = AppendFile::open(&path).await.map_err(|e| os_reason(&e))?;
        *self.aof.borrow_mut() = Some(AofFiles::new(manifest, file, format!("temp-{}.incr", place.stem), 0, 0));
        Ok(path)
    }
}

/// A new base, not in its place yet.
struct Base {
    bytes: u64,
    /// A snapshot; otherwise commands (`aof-use-rdb-preamble no`).
    rdb: bool,
}

/// Gives the base its name, puts the manifest in place and deletes history, if
/// that is to be deleted (`gc`).
fn replace(place: &Place, temp: &Path, m: &mut Manifest, upto: u64, (rdb, gc): (bool, bool)) -> io::Result<()> {
    let base = m.replace_base(&place.stem, rdb, upto);
    std::fs::rename(temp, place.path(&base.name))?;
    log::notice(format_args!(
        "Successfully renamed the temporary AOF base file {} into {}",
        temp.file_name().unwrap_or_default().to_string_lossy(),
        base.name
    ));
    place.write_manifest(m)?;
    // What cannot be deleted now is deleted at the next start.
    if gc && let Err(e) = place.delete_history(m) {
        log::warning(format_args!("Can't delete old AOF files: {}", os_reason(&e)));
    }
    Ok(())
}

/// The append-only file is off: there is only a base.
fn adopt_alone(place: &Place, temp: &Path, base: Base) -> io::Result<()> {
    let mut m = place.read_manifest().map_err(io::Error::other)?.unwrap_or_default();
    replace(place, temp, &mut m, u64::MAX, (base.rdb, true))
}
