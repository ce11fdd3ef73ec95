//! The append-only file at work: appending, flushing, switching files.
//!
//! One task writes what the merge has put into the buffer, and flushes by
//! `appendfsync`:
//!
//! - `always`: write, flush, and then say up to which time everything is
//!   durable; the data cores hold replies until then. Whatever is merged during
//!   a flush goes with the next. An error ends the process: replies that wait
//!   would otherwise be lies.
//! - `everysec`: a flush begins every second, beside the writing.
//! - `no`: the kernel's affair.
//!
//! After an error of the other two, writing commands are refused (MISCONF) and
//! what could not be written is tried again until it can.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::timer::sleep;

use super::Service;
use super::aof_file::{AppendFile, Pace, WRITE_MAX, Way};
use super::streams::{Aof, FOR_AOF, Piece};
use crate::base::clock;
use crate::base::os::{os_reason, strerror};
use crate::config::{AppendFsync, Settings};
use crate::journal::aof::manifest::Manifest;
use crate::journal::merge::Lanes;
use crate::journal::writer::RUN_BYTES;
use crate::observe::log;
use crate::server::core::Core;

/// Time between two attempts after an error, and between looks at the clock.
const RETRY: Duration = Duration::from_millis(100);

/// Time between two flushes with `appendfsync everysec`.
const EVERY: Duration = Duration::from_secs(1);

/// How long the task that writes keeps the service core while there is more to
/// write, about.
const SLICE: Duration = Duration::from_millis(1);

/// The files, as long as the append-only file is on.
pub struct AofFiles {
    pub manifest: Manifest,
    /// The incremental file that is being appended to.
    file: Rc<AppendFile>,
    /// How long commits take under `always`, otherwise writes.
    pace: Pace,
    /// Its name, for messages.
    name: String,
    /// Bytes in it.
    pub size: u64,
    /// Bytes of all other files that make up the current dataset.
    pub before: u64,
    /// Bytes written and not flushed.
    unflushed: bool,
    /// A flush of this file has failed, or of one before it that is still part
    /// of the dataset. The kernel may have dropped what it could not write, and
    /// then says of the next flush that all is well: so none of it counts as
    /// durable, and writes are refused, until a new base has taken its place.
    doubted: bool,
    doubted_before: bool,
    /// Place of what has been taken out of the buffer, and of what the flush
    /// under way flushes.
    taken: Reached,
    being_flushed: Reached,
    /// The last place of the stream that was noted in this file, and when.
    noted: Option<(u64, Instant)>,
    flushed_at: Instant,
    /// A flush is under way beside the writing.
    flushing: bool,
    /// Taken from the buffer and not written yet, after an error.
    left: VecDeque<Piece>,
    /// The task that writes has it in hand.
    writing: bool,
    /// A cut has been taken out of the buffer, so the next file is due.
    cut: bool,
    /// What came of that: the next file's number.
    pub switched: Option<io::Result<u64>>,
}

/// How far the file is: a place in the replication stream, and a time.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    offset: u64,
    past: u64,
}

impl AofFiles {
    /// `before` is the size of all other files.
    pub fn new(manifest: Manifest, file: AppendFile, name: String, size: u64, before: u64) -> AofFiles {
        AofFiles {
            manifest,
            file: Rc::new(file),
            pace: Pace::default(),
            name,
            size,
            before,
            unflushed: false,
            doubted: false,
            doubted_before: false,
            taken: Reached::default(),
            being_flushed: Reached::default(),
            noted: None,
            flushed_at: Instant::now(),
            flushing: false,
            left: VecDeque::new(),
            writing: false,
            cut: false,
            switched: None,
        }
    }

    fn file(&self) -> Rc<AppendFile> {
        self.file.clone()
    }

    /// Goes over to the next file, or stays with this one.
    pub fn switch(&mut self, opened: io::Result<(AppendFile, String, u64, Manifest)>) {
        self.cut = false;
        self.switched = Some(opened.map(|(file, name, seq, manifest)| {
            self.before += self.size;
            (self.file, self.name, self.size, self.manifest) = (Rc::new(file), name, 0, manifest);
            (self.unflushed, self.noted) = (false, None);
            self.doubted_before |= std::mem::take(&mut self.doubted);
            seq
        }));
    }

    /// May the disk lack something that was written?
    pub fn is_doubtful(&self) -> bool {
        self.doubted || self.doubted_before
    }

    /// A base that is on disk has replaced all files before this one.
    pub fn based_anew(&mut self) {
        self.doubted_before = false;
    }

    /// The file has got its name.
    pub fn rename(&mut self, name: String) {
        self.name = name;
    }

    /// Is everything written that was taken out of the buffer?
    pub fn is_idle(&self) -> bool {
        !self.writing && self.left.is_empty()
    }

    /// Is everything on disk that was taken out of the buffer?
    fn is_settled(&self) -> bool {
        self.is_idle() && !self.unflushed && !self.flushing && !self.is_doubtful()
    }

    /// Everything up to a time, and so to a place of the stream, is taken out
    /// of the buffer. Of what a primary sent, what is noted counts: after a
    /// crash the file is good up to the last note.
    fn reach(&mut self, stream: Option<(bool, u64)>, noted: Option<u64>, past: u64) {
        self.taken.past = past;
        match stream {
            None => {}
            Some((false, end)) => self.taken.offset = end,
            Some((true, _)) => self.taken.offset = noted.unwrap_or(self.taken.offset),
        }
    }

    /// Once a second, when the stream has grown.
    fn note_is_due(&mut self, offset: u64) -> bool {
        let due = self.noted.is_none_or(|(last, at)| last != offset && at.elapsed() >= EVERY);
        if due {
            self.noted = Some((offset, Instant::now()));
        }
        due
    }

    /// Lets the task that writes go on ([`Service::seize_file`]).
    pub fn release(&mut self) {
        self.writing = false;
    }
}

/// Where the append-only file lies.
pub struct Place {
    pub dir: PathBuf,
    /// The stem of all file names.
    pub stem: String,
}

impl Place {
    pub fn of(s: &Settings) -> Place {
        Place { dir: s.resolve(&s.persistence.appenddirname), stem: s.persistence.appendfilename.clone() }
    }

    pub fn manifest(&self) -> PathBuf {
        self.dir.join(format!("{}.manifest", self.stem))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads the manifest, if there is one. The error is a line for the log.
    pub fn read_manifest(&self) -> Result<Option<Manifest>, String> {
        let path = self.manifest();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                let name = path.display();
                return Err(format!(
                    "Fatal error: can't open the AOF manifest file {name} for reading: {}",
                    os_reason(&e)
                ));
            }
        };
        Manifest::parse(&text).map(Some).map_err(|e| {
            let mut text = "\n*** FATAL AOF MANIFEST FILE ERROR ***\n".to_string();
            if e.line > 0 {
                text += &format!("Reading the manifest file, at line {}\n>>> '{}'\n", e.line, e.text);
            }
            text + e.reason
        })
    }

    /// Makes the directory, so that it stays.
    pub fn make_dir(&self) -> io::Result<()> {
        if self.dir.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir)?;
        sync_dir(self.dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }

    /// Makes the directory, and a file in it, to see whether that can be done.
    pub fn try_dir(&self) -> io::Result<()> {
        self.make_dir()?;
        let probe = self.dir.join(format!("temp-{}.probe", self.stem));
        std::fs::File::create(&probe)?;
        std::fs::remove_file(&probe)
    }

    /// Puts a manifest in place: written beside, flushed, renamed, and the
    /// directory flushed.
    pub fn write_manifest(&self, m: &Manifest) -> io::Result<()> {
        use io::Write;
        let path = self.manifest();
        let temp = self.dir.join(format!("temp-{}.manifest", self.stem));
        let mut f = std::fs::File::create(&temp)?;
        f.write_all(m.print().as_bytes())?;
        f.sync_all()?;
        std::fs::rename(&temp, &path)?;
        sync_dir(&self.dir)
    }

    /// Deletes what the manifest calls history, and says so in it.
    pub fn delete_history(&self, m: &mut Manifest) -> io::Result<()> {
        if m.history.is_empty() {
            return Ok(());
        }
        for f in std::mem::take(&mut m.history) {
            log::notice(format_args!("Removing the history file {} in the background", f.name));
            let _ = std::fs::remove_file(self.path(&f.name));
        }
        self.write_manifest(m)
    }
}

/// Makes a directory's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

/// What is to be written at once, and what then is true.
struct Batch {
    file: Rc<AppendFile>,
    /// The end of the file.
    at: u64,
    pieces: VecDeque<Piece>,
    /// The time up to which nothing is missing, if there is one.
    past: u64,
    way: Way,
}

impl Service {
    /// Opens the last incremental file of the manifest, or a new one, and
    /// begins to append. `before` is the size of all other files.
    pub async fn open_aof(self: &Rc<Self>, mut manifest: Manifest, sizes: u64) -> io::Result<()> {
        let s = self.shared.config.settings();
        let place = Place::of(&s);
        let name = match manifest.incr.last() {
            Some(f) => f.name.clone(),
            None => {
                let f = manifest.next_incr(&place.stem);
                log::notice(format_args!("Creating AOF incr file {} on server start", f.name));
                std::fs::File::create(place.path(&f.name))?;
                place.write_manifest(&manifest)?;
                f.name
            }
        };
        let file = AppendFile::open(&place.path(&name)).await?;
        let size = file.size()?;
        let files = AofFiles::new(manifest, file, name, size, sizes.saturating_sub(size));
        let status = &self.shared.persistence.aof;
        status.current_size.store(files.before + size, Relaxed);
        // As in Redis: how large all files were after the last rewrite is not known.
        let base = files.manifest.base.as_ref().and_then(|b| std::fs::metadata(place.path(&b.name)).ok());
        status.base_size.store(base.map_or(0, |b| b.len()), Relaxed);
        *self.aof.borrow_mut() = Some(files);
        self.shared.persistence.aof.buffer_bytes.store(0, Relaxed);
        self.streams.borrow_mut().out.aof = Some(Aof::new(s.persistence.aof_timestamp_enabled));
        self.take_aof_policy(&s);
        self.keep_journal(FOR_AOF).await;
        status.enabled.store(true, SeqCst);
        Ok(())
    }

    /// Goes over to the configured `appendfsync`.
    pub fn take_aof_policy(&self, s: &Settings) {
        let on = self.aof.borrow().is_some();
        let always = on && s.persistence.appendfsync == AppendFsync::Always;
        let mut streams = self.streams.borrow_mut();
        if let Some(aof) = &mut streams.out.aof {
            aof.timestamps = s.persistence.aof_timestamp_enabled;
        }
        if streams.urgent == always {
            return;
        }
        streams.urgent = always;
        let durable = &self.shared.persistence.aof.durable;
        durable.store(if always { 0 } else { u64::MAX }, SeqCst);
        drop(streams);
        self.wake_waiting();
        self.advanced.ring();
    }

    /// Wakes the cores that hold replies which may leave now.
    fn wake_waiting(&self) {
        let durable = self.shared.persistence.aof.durable.load(SeqCst);
        for (core, lane) in self.shared.lanes.iter().enumerate() {
            let awaits = lane.awaits();
            if awaits != 0 && awaits < durable && self.port.borrow().must_wake(core) {
                self.shared.mesh.rouse(core);
            }
        }
    }

    /// Has something been published in front of which the merge has stopped?
    pub fn merge_lags(&self) -> bool {
        let past = self.streams.borrow().merge.past();
        self.shared.lanes.iter().any(|l| l.last() >= past.max(1))
    }

    /// How the file is written and flushed at present.
    pub fn way_of_writing(&self) -> Way {
        // A snapshot has to get on too, and who writes beside a flush may have
        // to wait for it.
        let flushing = self.shared.persistence.aof.pending_fsync.load(Relaxed) > 0;
        match flushing || self.intake.borrow().is_some() {
            true => Way::Worker,
            false => self.aof.borrow().as_ref().map_or(Way::Worker, |f| f.pace.way()),
        }
    }

    /// Takes note of how long a write took, or under `always` a commit.
    fn note_pace(&self, of_commit: bool, took: Duration) {
        if self.streams.borrow().urgent == of_commit
            && let Some(f) = self.aof.borrow_mut().as_mut()
        {
            f.pace.note(took);
        }
    }

    /// The task that writes the file. It goes on while the process lives; there
    /// may be no file for a time.
    pub async fn write_aof(self: Rc<Self>) {
        let mut since = Instant::now();
        loop {
            if self.write_once().await {
                if since.elapsed() >= SLICE {
                    glommio::executor().yield_task_queue_now().await;
                    since = Instant::now();
                }
                continue;
            }
            let failing = self.shared.persistence.aof.errno.load(Relaxed) != 0;
            match failing {
                true => sleep(RETRY).await,
                false => future::or(sleep(RETRY), self.advanced.wait()).await,
            }
            since = Instant::now();
        }
    }

    /// Writes what there is, and flushes by the policy. Whether there may be
    /// more.
    async fn write_once(self: &Rc<Self>) -> bool {
        let s = self.shared.config.settings();
        match self.shared.persistence.aof.flush_sleep_us.load(Relaxed) {
            0 => {}
            us => sleep(Duration::from_micros(us)).await,
        }
        let policy = s.persistence.appendfsync;
        let way = self.way_of_writing();
        if policy == AppendFsync::Always {
            // What came during the last flush goes with this one.
            self.merge();
        }
        let Some(batch) = self.take_buffer(way) else { return false };
        let Batch { file, at, pieces, past, way } = batch;
        let wrote = !pieces.is_empty();
        let start = Instant::now();
        let (left, result) = self.append(&file, at, pieces, way).await;
        let ok = self.written(left, result, policy);
        let cut = ok && self.aof.borrow().as_ref().is_some_and(|f| f.cut);
        if cut {
            self.switch_file().await;
        }
        let skip = s.persistence.no_appendfsync_on_rewrite && self.shared.persistence.aof.rewriting.load(Relaxed);
        if ok {
            match policy {
                AppendFsync::Always => {
                    self.flush_before_replies(&file, way, skip, start).await;
                    self.release_replies(past);
                }
                AppendFsync::Everysec if !skip => self.flush_beside(&file),
                AppendFsync::Everysec | AppendFsync::No => {}
            }
        }
        if let Some(f) = self.aof.borrow_mut().as_mut() {
            f.writing = false;
        }
        self.written_aof.ring();
        ok && (wrote || cut)
    }

    /// Takes the buffer, and the time up to which it holds everything.
    fn take_buffer(&self, way: Way) -> Option<Batch> {
        let mut aof = self.aof.borrow_mut();
        let f = aof.as_mut().filter(|f| !f.writing)?;
        let mut streams = self.streams.borrow_mut();
        let mut past = streams.merge.past();
        let stream = streams.out.replication.as_ref().map(|r| (r.relays, r.backlog.end()));
        let own = streams.out.own_place();
        let out = streams.out.aof.as_mut()?;
        let mut pieces = std::mem::take(&mut f.left);
        if !f.cut {
            f.cut = out.take(&mut pieces);
        }
        if f.cut {
            // There is more, for the next file.
            past = 0;
        } else {
            f.reach(stream, out.noted(), past);
            if let Some((offset, db)) = own
                && f.note_is_due(offset)
            {
                pieces.push_back(self.place_note(offset, db));
            }
        }
        f.writing = true;
        Some(Batch { file: f.file.clone(), at: f.size, pieces, past, way })
    }

    /// Appends pieces at the end of the file: what is left of them, how many
    /// bytes were written, and why not all.
    #[allow(clippy::type_complexity)]
    async fn append(
        &self,
        file: &AppendFile,
        size: u64,
        mut pieces: VecDeque<Piece>,
        way: Way,
    ) -> (VecDeque<Piece>, (usize, Option<i32>)) {
        let (mut done, mut since) = (0, Instant::now());
        while !pieces.is_empty() {
            if done > 0 && way == Way::Here && since.elapsed() >= SLICE {
                glommio::executor().yield_task_queue_now().await;
                since = Instant::now();
            }
            let mut sizes = pieces.iter().scan(0, |sum, p| {
                *sum += p.bytes.len();
                Some(*sum)
            });
            let n = sizes.position(|sum| sum >= WRITE_MAX).map_or(pieces.len(), |last| last + 1);
            let together: Vec<&[u8]> = pieces.iter().take(n).map(|p| &p.bytes[..]).collect();
            let (bytes, expected) = (together.concat(), together.iter().map(|b| b.len()).sum::<usize>());
            let start = Instant::now();
            if let Err(errno) = file.append(size + done as u64, bytes, way).await {
                // Part of a command at the end would be the end of the next start, where
                // `aof-load-truncated` is no.
                file.trim(size + done as u64).await;
                return (pieces, (done, Some(errno)));
            }
            let flushing = self.shared.persistence.aof.pending_fsync.load(Relaxed) > 0;
            self.latency_event(if flushing { "aof-write-pending-fsync" } else { "aof-write-alone" }, start);
            self.latency_event("aof-write", start);
            self.note_pace(false, start.elapsed());
            done += expected;
            self.wrote_of_buffer(expected);
            for p in pieces.drain(..n) {
                self.recycle_piece(p);
            }
        }
        (pieces, (done, None))
    }

    /// A written piece's buffer goes back where it came from.
    fn recycle_piece(&self, piece: Piece) {
        match &mut self.streams.borrow_mut().out.aof {
            Some(aof) if piece.bytes.capacity() < RUN_BYTES => aof.recycle(piece.bytes),
            _ => self.shared.recycle(piece.core, piece.bytes),
        }
    }

    /// So many bytes no longer wait to be written.
    fn wrote_of_buffer(&self, bytes: usize) {
        let less = |n: u64| Some(n.saturating_sub(bytes as u64));
        let _ = self.shared.persistence.aof.buffer_bytes.fetch_update(Relaxed, Relaxed, less);
    }

    /// Takes note of what was written; false after an error.
    fn written(&self, left: VecDeque<Piece>, (done, error): (usize, Option<i32>), policy: AppendFsync) -> bool {
        let mut aof = self.aof.borrow_mut();
        let Some(f) = aof.as_mut() else { return false };
        let status = &self.shared.persistence.aof;
        f.size += done as u64;
        f.unflushed |= done > 0;
        status.current_size.store(f.before + f.size, Relaxed);
        let Some(errno) = error else {
            if done > 0 {
                self.take_back_error(f);
            }
            return true;
        };
        if policy == AppendFsync::Always {
            let e = strerror(errno);
            log::warning(format_args!("Error writing to the AOF file: {e}"));
            let why = "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...";
            log::warning(format_args!("{why}"));
            std::process::exit(1);
        }
        // What was written of the first is overwritten by the next attempt.
        f.left = left;
        if status.errno.swap(errno, SeqCst) == 0 {
            log::warning(format_args!("Error writing to the AOF file: {}", strerror(errno)));
            self.update_gates();
        }
        false
    }

    /// Writing works. After a failed flush that is not enough.
    fn take_back_error(&self, f: &AofFiles) {
        if !f.is_doubtful() && self.shared.persistence.aof.errno.swap(0, SeqCst) != 0 {
            log::warning(format_args!("AOF write error looks solved, Redis can write again."));
            self.update_gates();
        }
    }

    /// A new base is in place.
    pub fn aof_is_based_anew(&self) {
        if let Some(f) = self.aof.borrow_mut().as_mut() {
            f.based_anew();
            if f.left.is_empty() {
                self.take_back_error(f);
            }
        }
    }

    /// What the file holds may not be on disk. No client writes any more until
    /// a rewrite has made a file that is.
    fn doubt_file(&self, f: &mut AofFiles, errno: i32) {
        (f.unflushed, f.doubted) = (true, true);
        log::warning(format_args!("Fail to fsync the AOF file: {}", strerror(errno)));
        self.shared.persistence.aof.errno.store(errno, SeqCst);
        self.update_gates();
    }

    /// Lets every core look at its gate again.
    pub fn update_gates(&self) {
        for core in 0..self.shared.cores {
            self.call(core, Core::update_gate);
        }
    }

    /// `always`: flushes what was written since `start`, or ends the process.
    async fn flush_before_replies(self: &Rc<Self>, file: &AppendFile, way: Way, skip: bool, start: Instant) {
        let unflushed = self.aof.borrow().as_ref().is_some_and(|f| f.unflushed);
        if !unflushed || skip {
            return;
        }
        let flush = Instant::now();
        if let Err(errno) = file.flush(way).await {
            exit_unflushed(errno);
        }
        self.latency_event("aof-fsync-always", flush);
        if let Some(f) = self.aof.borrow_mut().as_mut() {
            f.unflushed = false;
            f.flushed_at = Instant::now();
        }
        self.note_pace(true, start.elapsed());
    }

    /// Everything stamped up to `past` is on disk as far as it has to be: what
    /// waits for that goes on.
    fn release_replies(self: &Rc<Self>, past: u64) {
        let durable = &self.shared.persistence.aof.durable;
        if (durable.load(SeqCst)..u64::MAX).contains(&past) {
            durable.store(past, SeqCst);
            self.wake_waiting();
        }
        let reached = self.aof.borrow().as_ref().filter(|f| !f.unflushed && !f.is_doubtful()).map(|f| f.taken);
        if let Some(reached) = reached {
            self.is_durable(reached);
        }
    }

    /// Says in the file of which place of the replication stream it is a state,
    /// if nothing follows: a server that loads it goes on there, in the database that
    /// is selected there. To other servers it is a comment.
    fn place_note(&self, offset: u64, db: u32) -> Piece {
        let (id, _) = self.repl.identity();
        let mark = if self.repl.is_replica() { ":replica" } else { "" };
        Piece { core: 0, bytes: format!("#REPL:{id}:{offset}:{db}{mark}\r\n").into_bytes() }
    }

    /// On a replica, between two rounds of what its primary sent: says the same
    /// in the file. After a crash it goes on with its primary there, and what
    /// was written behind comes again.
    pub async fn note_applied(self: &Rc<Self>) {
        self.merged_past(clock::mono_ns()).await;
        if !self.repl.has_place() {
            return;
        }
        let streams = &mut *self.streams.borrow_mut();
        if let (Some(r), Some(aof)) = (&streams.out.replication, &mut streams.out.aof)
            && r.relays
        {
            let note = self.place_note(r.backlog.end(), self.repl.identity().1).bytes;
            self.shared.persistence.aof.buffer_bytes.fetch_add(note.len() as u64, Relaxed);
            aof.note(r.backlog.end(), &note);
        }
        self.advanced.ring();
    }

    /// On a replica: has more been applied than the file says?
    pub fn owes_note(&self) -> bool {
        let streams = self.streams.borrow();
        match (&streams.out.replication, &streams.out.aof) {
            (Some(r), Some(aof)) => r.relays && aof.noted() != Some(r.backlog.end()) && self.repl.has_place(),
            _ => false,
        }
    }

    /// The same at the end, when everything is merged. On a replica it is only
    /// known while nothing is being applied.
    fn last_note(&self) -> Option<Piece> {
        let (offset, own) = {
            let streams = self.streams.borrow();
            (streams.out.replication.as_ref()?.backlog.end(), streams.out.own_place())
        };
        let db = own.map_or_else(|| self.repl.identity().1, |(_, db)| db);
        self.repl.stands_still().then(|| self.place_note(offset, db))
    }

    /// Everything up to there is on disk: those who wait for it hear so.
    fn is_durable(self: &Rc<Self>, reached: Reached) {
        self.replicate_durable(reached.offset, reached.past);
    }

    /// If nothing waits to be written or flushed, everything up to a time that
    /// is merged is on disk.
    pub fn note_if_all_is_durable(self: &Rc<Self>, stamp: u64) {
        let waits = self.streams.borrow().out.aof.as_ref().is_none_or(|a| !a.is_empty());
        let aof = self.aof.borrow();
        let Some(f) = aof.as_ref().filter(|f| !waits && f.is_settled()) else { return };
        let reached = Reached { past: stamp + 1, ..f.taken };
        drop(aof);
        self.is_durable(reached);
    }

    /// Records a latency event, with those of core 0.
    fn latency_event(&self, name: &'static str, start: Instant) {
        let threshold = self.shared.config.settings().latency_monitor_threshold_ms;
        let ms = start.elapsed().as_millis() as u64;
        if threshold > 0 && ms >= threshold {
            self.call(0, move |core| core.latency_event(name, ms));
        }
    }

    /// Begins a flush if the last one was a second ago.
    fn flush_beside(self: &Rc<Self>, file: &Rc<AppendFile>) {
        let mut aof = self.aof.borrow_mut();
        let Some(f) = aof.as_mut() else { return };
        if !f.unflushed && !f.flushing {
            let reached = (!f.is_doubtful()).then_some(f.taken);
            drop(aof);
            return reached.into_iter().for_each(|r| self.is_durable(r));
        }
        if !f.unflushed || f.flushing || f.flushed_at.elapsed() < EVERY {
            return;
        }
        (f.flushing, f.unflushed, f.flushed_at) = (true, false, Instant::now());
        f.being_flushed = f.taken;
        let (service, file) = (self.clone(), file.clone());
        self.shared.persistence.aof.pending_fsync.store(1, Relaxed);
        glommio::spawn_local(async move {
            service.flushed(file.flush(Way::Worker).await);
        })
        .detach();
    }

    fn flushed(self: &Rc<Self>, result: Result<(), i32>) {
        let status = &self.shared.persistence.aof;
        status.pending_fsync.store(0, Relaxed);
        let mut aof = self.aof.borrow_mut();
        let Some(f) = aof.as_mut() else { return };
        f.flushing = false;
        let reached = f.being_flushed;
        match result {
            Ok(()) => {
                if f.left.is_empty() {
                    self.take_back_error(f);
                }
                let doubtful = f.is_doubtful();
                drop(aof);
                if !doubtful {
                    self.is_durable(reached);
                }
            }
            Err(errno) => self.doubt_file(f, errno),
        }
    }

    /// The task that writes has written everything before a cut: the next
    /// incremental file begins.
    pub async fn switch_file(&self) {
        let s = self.shared.config.settings();
        let place = Place::of(&s);
        let current = self.aof.borrow().as_ref().map(|f| (f.file(), f.size, f.manifest.clone()));
        let Some((file, size, mut m)) = current else { return };
        file.trim(size).await;
        // Its successor counts only as long as this one is whole.
        let synced = file.flush(Way::Worker).await;
        let failed = synced.err();
        let opened = match synced {
            Ok(()) => begin_next(&place, &mut m).await,
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        };
        if let Some(f) = self.aof.borrow_mut().as_mut() {
            if let Some(errno) = failed {
                if s.persistence.appendfsync == AppendFsync::Always {
                    exit_unflushed(errno);
                }
                self.doubt_file(f, errno);
            }
            f.switch(opened.map(|(file, name, seq)| (file, name, seq, m)));
        }
    }

    /// Waits until the task that writes has let go of the file, and keeps it
    /// from beginning anew.
    pub async fn seize_file(&self) -> bool {
        loop {
            match self.aof.borrow_mut().as_mut() {
                None => return false,
                Some(f) if !f.writing => {
                    f.writing = true;
                    return true;
                }
                Some(_) => {}
            }
            self.written_aof.wait().await;
        }
    }

    /// Writes and flushes everything, and lets the file go: the end of the
    /// process, or `appendonly no`.
    pub async fn close_aof(self: &Rc<Self>) {
        if !self.seize_file().await {
            return;
        }
        let Some(mut f) = self.aof.borrow_mut().take() else { return };
        let rest = self.streams.borrow_mut().out.aof.take();
        if let Some(mut rest) = rest {
            // What comes after a cut follows: there will be no other file.
            while !rest.is_empty() {
                rest.take(&mut f.left);
            }
            f.left.extend(self.last_note());
        }
        log::notice(format_args!("Calling fsync() on the AOF file."));
        let (_, (done, error)) = self.append(&f.file, f.size, std::mem::take(&mut f.left), Way::Worker).await;
        if error.is_none() {
            f.file.trim(f.size + done as u64).await;
        }
        let flushed = f.file.flush(Way::Worker).await;
        if let Some(errno) = error.or(flushed.err()) {
            log::warning(format_args!("Error writing to the AOF file {}: {}", f.name, strerror(errno)));
        }
        let status = &self.shared.persistence.aof;
        status.errno.store(0, SeqCst);
        self.streams.borrow_mut().urgent = false;
        status.durable.store(u64::MAX, SeqCst);
        self.wake_waiting();
        self.written_aof.ring();
    }
}

/// `always` has promised what the disk has not kept. That another flush succeeds would
/// say nothing.
fn exit_unflushed(errno: i32) -> ! {
    let e = strerror(errno);
    log::warning(format_args!(
        "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {e}. Exiting..."
    ));
    std::process::exit(1);
}

/// Opens the next incremental file and names it in the manifest.
async fn begin_next(place: &Place, m: &mut Manifest) -> io::Result<(AppendFile, String, u64)> {
    let next = m.next_incr(&place.stem);
    log::notice(format_args!("Creating AOF incr file {} on background rewrite", next.name));
    let path = place.path(&next.name);
    let file = AppendFile::open(&path).await?;
    if let Err(e) = place.write_manifest(m) {
        // It may be in place all the same, and only its directory not flushed.
        let named = |m: Manifest| m.files().any(|f| f.name == next.name);
        if !place.read_manifest().is_ok_and(|m| m.is_some_and(named)) {
            let _ = std::fs::remove_file(&path);
        }
        return Err(e);
    }
    Ok((file, next.name, next.seq))
}
