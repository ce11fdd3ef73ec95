//! Loading the dataset at start.
//!
//! Data cores run already; when loading takes a while, they let clients in and
//! answer -LOADING to commands that need data.
//! Files are read by the service core and applied by all cores.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use glommio::timer::sleep;

use super::Service;
use super::aof::{Place, sync_dir};
use super::applier::{Applier, ApplyError};
use super::importing::Import;
use super::snapshot_file;
use crate::base::clock;
use crate::base::os::os_reason;
use crate::config::Settings;
use crate::journal::aof::manifest::{AofFile, Manifest};
use crate::journal::aof::reader::{Next, Reader};
use crate::observe::log;
use crate::server::core::Core;
use crate::server::process::REDIS_VERSION;
use crate::server::replication::Restored;
use crate::snapshot::load::How;
use crate::snapshot::rdb::Version;
use crate::snapshot::rdb::frame::{About, Frame};
use crate::snapshot::rdb::scan::Error;

/// Bytes read at a time where nothing is loaded.
const PIECE: usize = 256 * 1024;

/// How long connections wait before they are told that the dataset is being
/// loaded: where there is little to load nobody hears of it.
const DOORS_CLOSED: Duration = Duration::from_millis(50);

/// What is wrong with a file that cannot be loaded; a line for the log.
type Refusal = String;

impl Service {
    /// Loads what the configuration names, and opens the append-only file. The
    /// error is the last line of the log: the process ends.
    pub async fn load_dataset(self: &Rc<Self>) -> Result<(), Refusal> {
        let later = self.clone();
        glommio::spawn_local(async move {
            sleep(DOORS_CLOSED).await;
            later.open_doors();
        })
        .detach();
        let s = self.shared.config.settings();
        let is_replica = s.replication.replicaof.is_some();
        if is_replica {
            self.begin_as_replica().await;
        }
        if s.persistence.appendonly {
            self.load_aof(&s).await?;
        } else {
            // What has expired at a primary may have got a longer life at a replica's.
            let drop_expired_at = (!is_replica).then(clock::now_ms);
            let how = How { drop_expired_at, ..snapshot_file::base_how(&s) };
            self.load_snapshot(&s, how).await?;
        }
        self.restore_history().await;
        self.shared.persistence.loading.store(false, SeqCst);
        self.update_gates();
        self.open_doors();
        Ok(())
    }

    /// Clients may come in.
    fn open_doors(&self) {
        for core in 0..self.shared.cores {
            self.call(core, Core::open_doors);
        }
    }

    async fn load_aof(self: &Rc<Self>, s: &Settings) -> Result<(), Refusal> {
        let place = Place::of(s);
        let started = Instant::now();
        let mut manifest = find_manifest(&place, s)?;
        let mut total = 0;
        if manifest.files().next().is_some() {
            total = self.load_files(&place, &manifest, s).await?;
            let seconds = started.elapsed().as_secs_f64();
            log::notice(format_args!("DB loaded from append only file: {seconds:.3} seconds"));
        } else {
            total += create_base(&place, &mut manifest, s.persistence.aof_use_rdb_preamble)?;
        }
        if !s.persistence.aof_disable_auto_gc {
            place
                .delete_history(&mut manifest)
                .map_err(|e| format!("Can't write the AOF manifest: {}", os_reason(&e)))?;
        }
        self.open_aof(manifest, total).await.map_err(|e| format!("Can't open the append-only file: {}", os_reason(&e)))
    }

    /// Loads all files; the bytes that they have.
    pub async fn load_files(self: &Rc<Self>, place: &Place, m: &Manifest, s: &Settings) -> Result<u64, Refusal> {
        let mut total = 0;
        for f in m.files() {
            let path = place.path(&f.name);
            let size = std::fs::metadata(&path).map_err(|e| {
                let why = os_reason(&e);
                format!("Unable to obtain the AOF file {} length. stat: {why}", f.name)
            })?;
            total += size.len();
        }
        let p = &self.shared.persistence;
        p.loading_since_s.store(clock::now_ms() / 1000, Relaxed);
        p.loading_total_bytes.store(total, Relaxed);
        let mut applier = Applier::new(self);
        let last = m.files().last().map(|f| f.name.clone());
        for f in m.files() {
            let started = Instant::now();
            let is_base = m.base.as_ref() == Some(f);
            total -= self.load_file(&mut applier, place, (f, is_base), last.as_ref() == Some(&f.name), s).await?;
            let kind = if is_base { "base" } else { "incr" };
            let seconds = started.elapsed().as_secs_f64();
            log::notice(format_args!("DB loaded from {kind} file {}: {seconds:.3} seconds", f.name));
        }
        Ok(total)
    }

    /// Loads one file; the bytes that were cut off its end.
    async fn load_file(
        self: &Rc<Self>,
        applier: &mut Applier,
        place: &Place,
        (f, is_base): (&AofFile, bool),
        last: bool,
        s: &Settings,
    ) -> Result<u64, Refusal> {
        let path = place.path(&f.name);
        let mut cut = 0;
        // At the start; a file that is in use (DEBUG LOADAOF) is the state of a link that
        // goes on.
        if last && s.replication.replicaof.is_some() && self.aof.borrow().is_none() {
            cut = cut_behind_note(&path, &f.name).map_err(|e| {
                format!("Unrecoverable error reading the append only file {}: {}", f.name, os_reason(&e))
            })?;
        }
        let mut file = File::open(&path).map_err(|e| {
            format!("Fatal error: can't open the append log file {} for reading: {}", f.name, os_reason(&e))
        })?;
        let delay = s.persistence.key_load_delay_us;
        let mut piece = vec![0; snapshot_file::piece_of(delay)];
        let mut reader = Reader::default();
        let mut first = true;
        let mut preamble: Option<Import> = None;
        applier.set_db(0);
        loop {
            let n = match file.read(&mut piece) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(format!(
                        "Unrecoverable error reading the append only file {}: {}",
                        f.name,
                        os_reason(&e)
                    ));
                }
            };
            if first && snapshot_file::begins(&piece[..n]) {
                let kind = if is_base {
                    "Reading RDB base file on AOF loading..."
                } else {
                    "Reading RDB preamble from AOF file..."
                };
                log::notice(format_args!("{kind}"));
                let mut import = Import::new(self, snapshot_file::base_how(s));
                import.set_size(file.metadata().map_or(0, |m| m.len()));
                preamble = Some(import);
            }
            first = false;
            if n == 0 {
                break;
            }
            self.shared.persistence.loading_done_bytes.fetch_add(n as u64, Relaxed);
            let taken = applier.taken();
            if let Some(mut import) = preamble.take() {
                let before = import.records();
                import.feed(&piece[..n]).await.map_err(|e| bad_snapshot(&f.name, is_base, &e))?;
                if !import.ended() {
                    snapshot_file::rest(delay, import.records() - before).await;
                    preamble = Some(import);
                    continue;
                }
                reader = Reader::from(import.position());
                reader.feed(import.rest());
                let (about, _) = import.finish().await.map_err(|e| bad_snapshot(&f.name, is_base, &e))?;
                self.take_libraries(&about.functions).map_err(|why| bad_libraries(&f.name, is_base, &why))?;
            } else {
                reader.feed(&piece[..n]);
            }
            self.apply_read(applier, &mut reader, &f.name).await?;
            snapshot_file::rest(delay, applier.taken() - taken).await;
        }
        if let Some(import) = preamble {
            let (about, _) = import.finish().await.map_err(|e| bad_snapshot(&f.name, is_base, &e))?;
            self.take_libraries(&about.functions).map_err(|why| bad_libraries(&f.name, is_base, &why))?;
        }
        applier.drop_transaction();
        applier.settle().await;
        if let Some(error) = applier.take_error() {
            let error = String::from_utf8_lossy(&error);
            log::warning(format_args!("A command of the AOF file {} failed: {error}", f.name));
        }
        if !reader.incomplete() {
            return Ok(cut);
        }
        *self.repl.restored.borrow_mut() = None;
        Ok(cut + cut_tail(&path, &f.name, &reader, last, s)?)
    }

    /// Applies all whole commands that the reader has.
    async fn apply_read(&self, applier: &mut Applier, reader: &mut Reader, name: &str) -> Result<(), Refusal> {
        loop {
            let place = reader.place();
            match reader.step() {
                // A place that is noted is that of the dataset if nothing follows.
                Next::Command => *self.repl.restored.borrow_mut() = None,
                Next::Annotation(note) => {
                    if let Some(r) = Restored::parse(&note) {
                        *self.repl.restored.borrow_mut() = Some(r);
                    }
                    continue;
                }
                Next::More => return Ok(()),
                Next::Malformed(at) => return Err(bad_format(name, at, "a command, or an annotation")),
            }
            match applier.command(&reader.args()).await {
                Ok(()) => {}
                Err(ApplyError::Unknown(command)) => {
                    let command = String::from_utf8_lossy(&command).into_owned();
                    log::warning(format_args!("AOF {name}, offset {place}: expected a command of this server"));
                    return Err(format!("Unknown command '{command}' reading the append only file {name}"));
                }
                Err(ApplyError::Arity(command)) => {
                    let command = String::from_utf8_lossy(&command).into_owned();
                    return Err(bad_format(name, place, &format!("another number of arguments for '{command}'")));
                }
                Err(ApplyError::OutOfPlace(command)) => {
                    let command = String::from_utf8_lossy(&command).into_owned();
                    return Err(bad_format(name, place, &format!("something else than '{command}'")));
                }
            }
        }
    }
}

/// The snapshot that a file begins with cannot be loaded.
fn bad_snapshot(name: &str, is_base: bool, e: &Error) -> Refusal {
    let last = snapshot_file::refusal(name, e);
    log::warning(format_args!("{last}"));
    no_snapshot(name, is_base)
}

fn bad_libraries(name: &str, is_base: bool, why: &str) -> Refusal {
    log::warning(format_args!("{name}: {why}"));
    no_snapshot(name, is_base)
}

fn no_snapshot(name: &str, is_base: bool) -> Refusal {
    let what = if is_base { "RDB base file" } else { "RDB preamble of the AOF file" };
    format!("Error reading the {what} {name}, AOF loading aborted")
}

fn bad_format(name: &str, place: u64, expected: &str) -> Refusal {
    log::warning(format_args!("AOF {name}, offset {place}: expected {expected}"));
    format!(
        "Bad file format reading the append only file {name}: make a backup of your AOF file, then use \
         ./redis-check-aof --fix <filename.manifest>"
    )
}

/// A replica's file, after a crash: cuts off what stands behind the last note of
/// its place in the primary's stream, if the note is a replica's own. That was
/// being applied when the server ended; the primary sends it again, and without
/// it the place is known. The bytes cut off.
fn cut_behind_note(path: &Path, name: &str) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut reader, mut piece) = (Reader::default(), vec![0; PIECE]);
    let mut note = None;
    loop {
        let n = file.read(&mut piece)?;
        // What begins with a snapshot is no incremental file.
        if n == 0 || reader.place() == 0 && snapshot_file::begins(&piece[..n]) {
            break;
        }
        reader.feed(&piece[..n]);
        loop {
            match reader.step() {
                Next::Annotation(a) if a.starts_with(b"REPL:") => {
                    note = Restored::is_replicas(&a).then(|| reader.place());
                }
                Next::Annotation(_) | Next::Command => {}
                Next::More => break,
                // The loader says what is wrong.
                Next::Malformed(_) => return Ok(0),
            }
        }
    }
    let size = file.metadata()?.len();
    let Some(place) = note.filter(|place| *place < size) else { return Ok(0) };
    log::notice(format_args!(
        "Cutting {} bytes off the end of AOF {name}: they were being applied when the server ended, and the primary \
         has them",
        size - place
    ));
    let file = File::options().write(true).open(path)?;
    file.set_len(place)?;
    file.sync_all()?;
    Ok(size - place)
}

/// The file ends within a command or a transaction: cuts that off, if it may.
fn cut_tail(path: &Path, name: &str, reader: &Reader, last: bool, s: &Settings) -> Result<u64, Refusal> {
    if reader.in_transaction() {
        log::warning(format_args!("Revert incomplete MULTI/EXEC transaction from AOF file {name}"));
    }
    let (end, valid) = (reader.end(), reader.valid());
    log::warning(format_args!("AOF {name}, offset {end}: expected the rest of what begins at offset {valid}"));
    if !s.persistence.aof_load_truncated {
        return Err(format!(
            "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, \
             then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the \
             'aof-load-truncated' configuration option to yes and restart the server."
        ));
    }
    log::warning(format_args!("!!! Warning: short read while loading the AOF file {name}!!!"));
    if !last {
        return Err("Fatal error: the truncated file is not the last file".into());
    }
    log::warning(format_args!("AOF {name} loaded anyway because aof-load-truncated is enabled"));
    log::warning(format_args!("Truncating the AOF {name} at offset {}", reader.valid()));
    let cut = || -> std::io::Result<u64> {
        let f = File::options().write(true).open(path)?;
        let size = f.metadata()?.len();
        f.set_len(reader.valid())?;
        f.sync_all()?;
        Ok(size - reader.valid())
    };
    cut().map_err(|e| format!("Error truncating the AOF file {name}: {}", os_reason(&e)))
}

/// The manifest on disk. A single old file is moved into the directory first,
/// as its base.
fn find_manifest(place: &Place, s: &Settings) -> Result<Manifest, Refusal> {
    let found = if place.dir.exists() { place.read_manifest()? } else { None };
    let old = s.resolve(&place.stem);
    let half_moved = |m: &Manifest| m.incr.is_empty() && m.base.as_ref().is_some_and(|b| b.name == place.stem);
    match found {
        Some(m) if !(half_moved(&m) && old.is_file() && !place.path(&place.stem).exists()) => Ok(m),
        None if !old.is_file() => {
            let make = place.make_dir();
            make.map_err(|e| {
                format!("Can't open or create append-only dir {}: {}", place.dir.display(), os_reason(&e))
            })?;
            Ok(Manifest::default())
        }
        _ => adopt_old(place, &old)
            .map_err(|e| format!("Can't move {} into the AOF directory: {}", old.display(), os_reason(&e))),
    }
}

fn adopt_old(place: &Place, old: &Path) -> std::io::Result<Manifest> {
    place.make_dir()?;
    let base = AofFile { name: place.stem.clone(), seq: 1 };
    let m = Manifest::of_base(base);
    place.write_manifest(&m)?;
    std::fs::rename(old, place.path(&place.stem))?;
    sync_dir(&place.dir)?;
    log::notice(format_args!(
        "Successfully migrated an old-style AOF configuration ({}) into the AOF directory ({}).",
        place.stem,
        place.dir.display()
    ));
    Ok(m)
}

/// A snapshot of nothing.
fn empty_snapshot() -> Vec<u8> {
    let about = About {
        server_version: REDIS_VERSION,
        made_unix_s: clock::now_ms() / 1000,
        used_memory: crate::base::memory::used() as u64,
        replication: None,
        aof_base: true,
    };
    let (mut frame, mut out) = (Frame::new(true), Vec::new());
    frame.begin(&mut out, Version::V10, &about);
    frame.end(&mut out);
    out
}

/// The base file of an empty dataset.
fn create_base(place: &Place, m: &mut Manifest, rdb: bool) -> Result<u64, Refusal> {
    let base = m.replace_base(&place.stem, rdb, 0);
    log::notice(format_args!("Creating AOF base file {} on server start", base.name));
    let create = || -> std::io::Result<u64> {
        let bytes = if rdb { empty_snapshot() } else { Vec::new() };
        let mut file = File::create(place.path(&base.name))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        place.write_manifest(m)?;
        Ok(bytes.len() as u64)
    };
    create().map_err(|e| format!("Can't create the AOF base file {}: {}", base.name, os_reason(&e)))
}
