//! Snapshots, on the service core: from the order to a finished sink.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::future;
use glommio::timer::sleep;

use super::Service;
use super::bell::Bell;
use super::streams::Outputs;
use crate::base::os::os_reason;
use crate::base::{clock, memory};
use crate::config::{MaxmemoryPolicy, Settings};
use crate::observe::log;
use crate::server::core::Core;
use crate::server::process::REDIS_VERSION;
use crate::session::conn::ConnRef;
use crate::snapshot::access::Policy;
use crate::snapshot::file::FileSink;
use crate::snapshot::job::{Job, Plan};
use crate::snapshot::rdb::Version;
use crate::snapshot::rdb::frame::{About, Stream};
use crate::snapshot::sink::Sink;
use crate::snapshot::writer::{WRITE_BYTES, Writer};
use crate::store::cut::Chunk;

/// Buffers of a large value, beyond this, are not filled again.
const BUFFER_MAX: usize = 4 * WRITE_BYTES;

/// Between two looks whether a snapshot that is in the way has ended.
const LOOK: Duration = Duration::from_millis(1);

/// A place in the replication stream, for the file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub db: u64,
    pub id: String,
    pub offset: u64,
}

/// What a snapshot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub bytes: u64,
    pub keys: u64,
    /// Changes counted up to the cut, for `rdb_changes_since_last_save`.
    pub changes: u64,
}

/// Why there is no snapshot.
#[derive(Debug)]
pub enum Failure {
    /// Somebody called it off.
    Aborted,
    Io(io::Error),
    /// Something of the dataset was lost on the way.
    Incomplete,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Failure::Aborted => write!(f, "called off"),
            Failure::Io(e) => write!(f, "{}", os_reason(e)),
            Failure::Incomplete => write!(f, "the keyspace could not be read completely"),
        }
    }
}

/// The snapshot under way, as the service core knows it.
pub struct Intake {
    pub job: Arc<Job>,
    writer: RefCell<Writer>,
    /// The cut has been made; in the stream, or not.
    cut: Cell<Option<bool>>,
    /// The merge has come to the cut.
    passed: Cell<bool>,
    place: RefCell<Option<Place>>,
    bell: Bell,
}

/// Called at the cut's place in the stream; what stands in the header of it.
pub type AtCut = Box<dyn FnOnce(&mut Outputs) -> Option<Place>>;

/// Called once the cut has been made, with its place in the stream.
pub type Begun = Box<dyn FnOnce(&Rc<Service>, Option<&Place>)>;

/// What is asked for besides the dataset's records.
#[derive(Default)]
pub struct Wish {
    pub hold: bool,
    pub aof_base: bool,
    /// The sink takes it apart again: nothing is compressed or summed up.
    pub bare: bool,
    /// Called at the cut's place in the stream, when there is one.
    pub at_cut: Option<AtCut>,
    /// Sleep after each key (`rdb-key-save-delay`), microseconds.
    pub key_delay_us: u64,
    /// Called once the cut has been made.
    pub begun: Option<Begun>,
}

/// What is recorded of accesses, and how, by the settings.
fn plan(s: &Settings, hold: bool) -> Plan {
    use MaxmemoryPolicy as P;
    let access = match s.maxmemory_policy {
        P::AllkeysLru | P::VolatileLru => Policy::Lru,
        P::AllkeysLfu | P::VolatileLfu => Policy::Lfu { decay_minutes: s.lfu_decay_time_min },
        _ => Policy::Other,
    };
    let p = &s.persistence;
    let version = if p.rdb_version >= 11 { Version::V11 } else { Version::V10 };
    Plan { version, compress: p.rdbcompression, checksum: p.rdbchecksum, access, hold }
}

impl Service {
    /// A core reports that all have made the cut.
    pub fn cut_made(&self, id: u64, journaled: bool) {
        if let Some(i) = self.intake(id) {
            i.cut.set(Some(journaled));
            i.bell.ring();
        }
    }

    /// A core sends what it has recorded.
    pub fn take_chunks(&self, id: u64, core: usize, chunks: Vec<Chunk>) {
        if let Some(i) = self.intake(id) {
            let mut w = i.writer.borrow_mut();
            chunks.into_iter().for_each(|c| w.put(core, c));
            i.bell.ring();
        }
    }

    /// A core has sent everything.
    pub fn core_closed(&self, id: u64) {
        if let Some(i) = self.intake(id) {
            i.job.close();
            i.bell.ring();
        }
    }

    /// The snapshot under way.
    pub fn snapshot_job(&self) -> Option<Arc<Job>> {
        self.intake.borrow().as_ref().map(|i| i.job.clone())
    }

    fn intake(&self, id: u64) -> Option<Rc<Intake>> {
        self.intake.borrow().as_ref().filter(|i| i.job.id == id).cloned()
    }

    /// Calls the snapshot under way off, if there is one.
    pub fn abort_snapshot(&self) {
        if let Some(i) = self.intake.borrow().as_ref() {
            i.job.fail();
            i.bell.ring();
        }
    }

    /// Makes a snapshot of the dataset as it is at one point of the stream,
    /// into a sink that `open` makes after the cut. The caller has taken the
    /// right to it ([`crate::server::saving::Saves::try_begin`]), which ends
    /// here. With `hold`, nothing is served until [`Service::release_cut`].
    pub async fn snapshot<S: Sink>(
        self: &Rc<Self>,
        mut wish: Wish,
        open: impl AsyncFnOnce() -> io::Result<S>,
    ) -> Result<Summary, Failure> {
        let settings = self.shared.config.settings();
        let saves = &self.shared.saves;
        let mut plan = plan(&settings, wish.hold);
        if wish.bare {
            (plan.compress, plan.checksum) = (false, false);
        }
        let job = Arc::new(Job::new(saves.next_id(), self.shared.cores, plan));
        let intake = Rc::new(Intake {
            writer: RefCell::new(Writer::new(&job, self.shared.cores)),
            job: job.clone(),
            cut: Cell::new(None),
            passed: Cell::new(false),
            place: RefCell::default(),
            bell: Bell::default(),
        });
        *self.intake.borrow_mut() = Some(intake.clone());
        // On a replica, nothing is applied while the cut is being made, so that
        // the offset of what has been applied is that of the cut.
        let held = self.hold_applying().await;
        self.expect_cut(&intake, wish.at_cut.take());
        let order = job.clone();
        self.call(0, move |core| core.order_cut(order));
        self.until_cut(&intake).await;
        if intake.place.borrow().is_none() && !wish.aof_base {
            *intake.place.borrow_mut() = self.applied_place();
        }
        drop(held);
        if let Some(f) = wish.begun.take() {
            let place = intake.place.borrow().clone();
            f(self, place.as_ref());
        }
        let result = self.make(&intake, &wish, open).await;
        *self.intake.borrow_mut() = None;
        job.fail();
        let id = job.id;
        self.ask_all(move |core| core.end_snapshot(id)).await;
        self.shared.saves.slots_stay.store(false, Ordering::SeqCst);
        saves.keys_done.store(0, Ordering::Relaxed);
        saves.keys_total.store(0, Ordering::Relaxed);
        saves.end();
        result
    }

    /// Notes what happens when the merge comes to the cut.
    fn expect_cut(&self, intake: &Rc<Intake>, at_cut: Option<AtCut>) {
        let told = intake.clone();
        self.streams.borrow_mut().out.at_cut(intake.job.id, move |out| {
            *told.place.borrow_mut() = at_cut.and_then(|f| f(out));
            told.passed.set(true);
            told.bell.ring();
        });
    }

    async fn until_cut(&self, intake: &Intake) {
        while !matches!((intake.cut.get(), intake.passed.get()), (Some(false), _) | (Some(true), true)) {
            intake.bell.wait().await;
        }
        if intake.cut.get() == Some(false) {
            self.streams.borrow_mut().out.forget_cut(intake.job.id);
        }
        let saves = &self.shared.saves;
        saves.keys_total.store(intake.job.keys_total.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    async fn make<S: Sink>(
        self: &Rc<Self>,
        intake: &Intake,
        wish: &Wish,
        open: impl AsyncFnOnce() -> io::Result<S>,
    ) -> Result<Summary, Failure> {
        let mut sink = open().await.map_err(Failure::Io)?;
        let result = self.write(intake, wish, &mut sink).await;
        if result.is_err() {
            sink.abort().await;
        }
        result
    }

    async fn write(&self, intake: &Intake, wish: &Wish, sink: &mut dyn Sink) -> Result<Summary, Failure> {
        let job = &intake.job;
        let place = intake.place.borrow().clone();
        let about = About {
            server_version: REDIS_VERSION,
            made_unix_s: clock::now_ms() / 1000,
            used_memory: memory::used() as u64,
            replication: place.as_ref().map(|p| Stream { db: p.db, id: &p.id, offset: p.offset }),
            aof_base: wish.aof_base,
        };
        intake.writer.borrow_mut().begin(job, &about);
        for source in job.functions.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            intake.writer.borrow_mut().function(source);
        }
        loop {
            if job.has_failed() {
                let lost = job.lost.load(Ordering::Relaxed);
                return Err(if lost { Failure::Incomplete } else { Failure::Aborted });
            }
            let next = intake.writer.borrow_mut().next_chunk();
            match next {
                Some((core, chunk)) => self.write_chunk(intake, wish, (core, chunk), sink).await?,
                None if job.is_complete() => break,
                None => intake.bell.wait().await,
            }
        }
        let bytes = intake.writer.borrow_mut().end();
        self.pass_on(intake, sink).await?;
        if job.has_failed() {
            return Err(Failure::Incomplete);
        }
        sink.finish().await.map_err(Failure::Io)?;
        let keys = job.keys_done.load(Ordering::Relaxed);
        Ok(Summary { bytes, keys, changes: job.changes.load(Ordering::Relaxed) })
    }

    async fn write_chunk(
        &self,
        intake: &Intake,
        wish: &Wish,
        (core, chunk): (usize, Chunk),
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let job = &intake.job;
        intake.writer.borrow_mut().write(job, core, &chunk);
        let done = job.keys_done.fetch_add(chunk.keys, Ordering::Relaxed) + chunk.keys;
        self.shared.saves.keys_done.store(done, Ordering::Relaxed);
        let full = intake.writer.borrow().out.len() >= WRITE_BYTES;
        if full {
            self.pass_on(intake, sink).await?;
        }
        let bytes = chunk.bytes.len();
        job.give_spare(core, chunk.bytes);
        if job.written(core, bytes) {
            self.shared.mesh.rouse(core);
        }
        self.delay(job, wish.key_delay_us.saturating_mul(chunk.keys)).await;
        // Compressing a chunk takes a while; the merge comes first.
        future::yield_now().await;
        Ok(())
    }

    async fn pass_on(&self, intake: &Intake, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut out = std::mem::take(&mut intake.writer.borrow_mut().out);
        sink.write(&mut out).await.map_err(Failure::Io)?;
        debug_assert!(out.is_empty(), "a sink takes everything");
        if out.capacity() <= BUFFER_MAX {
            intake.writer.borrow_mut().out = out;
        }
        Ok(())
    }

    /// `rdb-key-save-delay`, cut short when the snapshot is called off.
    async fn delay(&self, job: &Job, us: u64) {
        const LOOK_US: u64 = 10_000;
        let mut left = us;
        while left > 0 && !job.has_failed() {
            let step = left.min(LOOK_US);
            sleep(Duration::from_micros(step)).await;
            left -= step;
        }
    }

    /// BGSAVE: to the snapshot file. Whoever asked hears when it has begun.
    pub fn save_in_background(self: &Rc<Self>, asker: Option<(ConnRef, u32)>) {
        let service = self.clone();
        glommio::spawn_local(async move {
            let begun = move |s: &Rc<Service>, _: Option<&Place>| {
                log::notice(format_args!("Background saving started by pid {}", std::process::id()));
                if let Some((conn, seq)) = asker {
                    s.call(conn.core as usize, move |core| {
                        core.answer(conn, seq, |r| r.simple("Background saving started"));
                    });
                }
            };
            match service.save_file(Wish { begun: Some(Box::new(begun)), ..Wish::default() }).await {
                Ok(_) => log::notice(format_args!("Background saving terminated with success")),
                Err(Failure::Aborted) => log::warning(format_args!("Background saving terminated by signal")),
                Err(e) => log::warning(format_args!("Background saving error: {e}")),
            }
        })
        .detach();
    }

    /// SAVE: the same while nothing is served. `done` hears whether it worked. Without
    /// the right to a snapshot (`begun`) it comes in the place of a rewrite.
    pub fn save_and_hold(self: &Rc<Self>, begun: bool, done: impl FnOnce(&Rc<Service>, bool) + 'static) {
        let service = self.clone();
        glommio::spawn_local(async move {
            while !begun && !service.shared.saves.try_begin() {
                service.put_off_rewrite();
                sleep(LOOK).await;
            }
            let result = service.save_file(Wish { hold: true, ..Wish::default() }).await;
            if let Err(e) = &result {
                log::warning(format_args!("Saving error: {e}"));
            }
            done(&service, result.is_ok());
            service.call(0, |core| core.release_held());
        })
        .detach();
    }

    /// FLUSHALL: a snapshot of what is gone is of no use. One that replicas get
    /// goes on, since their stream says what became of it.
    pub fn snapshot_is_void(&self) {
        if self.shared.saves.saving.load(Ordering::Relaxed) && !self.repl.sends_snapshot() {
            self.abort_snapshot();
        }
    }

    /// FLUSHALL with `save` points: the file is to hold nothing either. A
    /// snapshot that replicas get goes on; the next `save` point comes after it.
    pub fn save_flushed(self: &Rc<Self>, done: impl FnOnce(&Rc<Service>) + 'static) {
        let service = self.clone();
        glommio::spawn_local(async move {
            let saves = &service.shared.saves;
            while saves.is_active() && !service.repl.sends_snapshot() {
                service.snapshot_is_void();
                service.put_off_rewrite();
                sleep(LOOK).await;
            }
            if saves.try_begin() {
                let result = service.save_file(Wish { hold: true, ..Wish::default() }).await;
                if let Err(e) = &result {
                    log::warning(format_args!("Saving error: {e}"));
                }
                service.call(0, Core::release_held);
            }
            done(&service);
        })
        .detach();
    }

    /// Writes the snapshot file, and notes how it went. As in Redis, only one
    /// made in the background that fails makes writes be refused
    /// (`stop-writes-on-bgsave-error`): who asked for another hears of it.
    pub async fn save_file(self: &Rc<Self>, wish: Wish) -> Result<Summary, Failure> {
        let s = self.shared.config.settings();
        let saves = &self.shared.saves;
        let now_s = || clock::now_ms() / 1000;
        let started = now_s();
        saves.started_s.store(started, Ordering::Relaxed);
        saves.last_try_s.store(started, Ordering::Relaxed);
        saves.saving.store(true, Ordering::Relaxed);
        let p = &s.persistence;
        let (path, incremental) = (s.resolve(&p.dbfilename), p.rdb_save_incremental_fsync);
        let key_delay_us = p.rdb_key_save_delay_us.max(0) as u64;
        let at_cut = wish.at_cut.unwrap_or_else(|| self.note_place());
        let foreground = wish.hold;
        let wish = Wish { at_cut: Some(at_cut), key_delay_us, ..wish };
        let result = self.snapshot(wish, async || FileSink::create(&path, incremental).await).await;
        if let Ok(summary) = &result {
            log::notice(format_args!("DB saved on disk"));
            saves.saved_changes.store(summary.changes, Ordering::Relaxed);
            saves.last_save_s.store(now_s(), Ordering::Relaxed);
            saves.saves.fetch_add(1, Ordering::Relaxed);
        }
        if !foreground {
            saves.last_took_s.store((now_s() - started) as i64, Ordering::Relaxed);
        }
        let unnoted = foreground && result.is_err() || matches!(result, Err(Failure::Aborted));
        if !unnoted {
            saves.last_failed.store(result.is_err(), Ordering::Relaxed);
        }
        // Last, so that whoever sees the end sees how it ended.
        saves.saving.store(false, Ordering::Release);
        self.tell_save_state();
        result
    }

    /// Lets every core know whether writes are to be refused.
    fn tell_save_state(&self) {
        (0..self.shared.cores).for_each(|core| self.call(core, |c| c.update_gate()));
    }
}
