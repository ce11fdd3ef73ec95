//! The primary's snapshot, from the connection into the keyspace.
//!
//! Usually it is written to a file first, and the old data goes only when all
//! of the new has come (`repl-diskless-load disabled`). Or it is loaded as it
//! comes: into an empty keyspace (`on-empty-db`), or beside the old data, which
//! is served meanwhile and kept if the transfer fails (`swapdb`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc;

use bytes::Bytes;
use futures_lite::future;
use glommio::timer::sleep;

use crate::base::clock;
use crate::config::{DisklessLoad, Settings};
use crate::observe::log;
use crate::replication::event::Event as NodeEvent;
use crate::script::library::Policy;
use crate::server::image::Want;
use crate::server::loader::Loader;
use crate::server::service::Service;
use crate::server::service::snapshot_file::{delay_of, libraries_of};
use crate::snapshot::rdb::scan::{Event, Scanner};

/// Bytes that wait to be written or loaded; beyond, the primary waits.
const WAITING_MAX: usize = 32 << 20;

/// Bytes between two synchronizations of the file (as in Redis).
const SYNC_EVERY: usize = 8 << 20;

/// Bytes read from the file at once.
const PIECE: usize = 256 << 10;

/// What comes from the primary.
enum Item {
    Bytes(Bytes),
    End,
}

/// The snapshot that comes in.
#[derive(Default)]
pub(super) struct Load {
    /// Counts loads; a later one, or an abort, ends the earlier.
    generation: Cell<u64>,
    queue: RefCell<VecDeque<Item>>,
    waiting: Cell<usize>,
}

impl Service {
    pub(super) fn begin_load(self: &Rc<Self>, refuse_empty: bool, same_history: bool) {
        let load = &self.repl.load;
        load.generation.set(load.generation.get() + 1);
        load.queue.borrow_mut().clear();
        load.waiting.set(0);
        glommio::spawn_local(self.clone().run_load(load.generation.get(), refuse_empty, same_history)).detach();
    }

    pub(super) fn load_bytes(&self, bytes: Bytes) {
        let load = &self.repl.load;
        load.waiting.set(load.waiting.get() + bytes.len());
        load.queue.borrow_mut().push_back(Item::Bytes(bytes));
        self.repl.arrived.ring();
    }

    pub(super) fn end_load(&self) {
        self.repl.load.queue.borrow_mut().push_back(Item::End);
        self.repl.arrived.ring();
    }

    pub(super) fn abort_load(&self) {
        let load = &self.repl.load;
        load.generation.set(load.generation.get() + 1);
        load.queue.borrow_mut().clear();
        load.waiting.set(0);
        self.repl.arrived.ring();
    }

    /// Must the primary wait until more is written or loaded?
    pub(super) fn load_is_behind(&self) -> bool {
        self.repl.load.waiting.get() > WAITING_MAX
    }

    fn loads(&self, generation: u64) -> bool {
        self.repl.load.generation.get() == generation
    }

    /// The next bytes; `None` at the end. The error is that it was given up.
    async fn next_bytes(&self, generation: u64) -> Result<Option<Bytes>, Aborted> {
        loop {
            if !self.loads(generation) {
                return Err(Aborted);
            }
            let item = self.repl.load.queue.borrow_mut().pop_front();
            match item {
                Some(Item::Bytes(b)) => {
                    let load = &self.repl.load;
                    load.waiting.set(load.waiting.get() - b.len());
                    self.repl.applied.ring();
                    return Ok(Some(b));
                }
                Some(Item::End) => return Ok(None),
                None => self.repl.arrived.wait().await,
            }
        }
    }

    async fn run_load(self: Rc<Self>, generation: u64, refuse_empty: bool, same_history: bool) {
        let settings = self.repl.settings.borrow().clone();
        let refuse_empty = refuse_empty && !self.is_empty().await;
        let diskless = match settings.replication.repl_diskless_load {
            DisklessLoad::Disabled => false,
            DisklessLoad::OnEmptyDb => self.is_empty().await,
            DisklessLoad::Swapdb => true,
        };
        if diskless && !same_history {
            // Clients would see two histories.
            self.set_loading(true);
        }
        self.set_loading_beside(diskless && same_history);
        let outcome = match diskless {
            true => self.load_from_socket(generation, refuse_empty).await,
            false => self.load_by_file(generation, &settings, refuse_empty).await,
        };
        self.set_loading_beside(false);
        self.resume_aof();
        match outcome {
            Ok(db) => {
                self.set_loading(false);
                self.replicate(NodeEvent::Loaded { db });
                self.repl.applied.ring();
            }
            Err(Failure::Aborted) => self.set_loading(false),
            Err(Failure::Failed(reason)) => {
                self.set_loading(false);
                if self.loads(generation) {
                    self.replicate(NodeEvent::LoadFailed { reason });
                }
                self.repl.applied.ring();
            }
        }
    }

    async fn is_empty(self: &Rc<Self>) -> bool {
        self.ask_all(|core| core.store.is_empty()).await.into_iter().all(|e| e)
    }

    /// Says whether the old dataset is served while another is loaded.
    fn set_loading_beside(&self, loading: bool) {
        if self.shared.persistence.async_loading.swap(loading, SeqCst) != loading {
            self.update_gates();
        }
    }

    /// Closes or opens the gates of all cores.
    pub fn set_loading(&self, loading: bool) {
        let p = &self.shared.persistence;
        p.loading_since_s.store(clock::now_ms() / 1000, Relaxed);
        p.loading.store(loading, SeqCst);
        self.update_gates();
    }

    /// Loads beside the old data, which goes when all of the new is there.
    async fn load_from_socket(self: &Rc<Self>, generation: u64, refuse_empty: bool) -> Result<u32, Failure> {
        log::notice(format_args!("MASTER <-> REPLICA sync: Loading DB in memory"));
        let mut loader = Loader::begin(self, None).await;
        let result = self.feed_from_socket(generation, &mut loader).await;
        match result {
            Ok(()) if refuse_empty && loader.about.keys == 0 => {
                loader.give_up().await;
                Err(Failure::Failed(REFUSED.into()))
            }
            Ok(()) => self.install(generation, loader).await,
            Err(e) => {
                loader.give_up().await;
                Err(e)
            }
        }
    }

    async fn feed_from_socket(&self, generation: u64, loader: &mut Loader) -> Result<(), Failure> {
        let mut done = 0;
        while let Some(bytes) = self.next_bytes(generation).await.inspect_err(|_| {
            log::warning(format_args!("Internal error in RDB reading offset {done}: the transfer has ended"));
        })? {
            let before = loader.about.keys;
            loader.feed(&bytes).await?;
            if loader.behind() > 0 {
                return Err(format!(
                    "Replication stream EOF marker is broken: {} bytes behind the end",
                    loader.behind()
                ))?;
            }
            done += bytes.len();
            let delay = self.shared.config.settings().persistence.key_load_delay_us;
            if delay != 0 {
                sleep(delay_of(delay, loader.about.keys - before)).await;
            }
        }
        Ok(loader.finish().await?)
    }

    /// The new data takes the old one's place.
    async fn install(self: &Rc<Self>, generation: u64, loader: Loader) -> Result<u32, Failure> {
        self.all_applied().await;
        if !self.loads(generation) {
            loader.give_up().await;
            return Err(Failure::Aborted);
        }
        let db = loader.about.stream_db.unwrap_or(0);
        let keys = loader.about.keys;
        let libraries = match libraries_of(&loader.about.functions) {
            Ok(libraries) => libraries,
            Err(why) => {
                loader.give_up().await;
                return Err(Failure::Failed(why));
            }
        };
        self.suspend_aof().await;
        self.replicate(NodeEvent::Replacing);
        // That they go together was looked at.
        let _ = self.shared.scripts.libraries.restore(libraries, Policy::Flush);
        loader.install().await;
        log::notice(format_args!("Done loading RDB, keys loaded: {keys}, keys expired: 0."));
        Ok(db)
    }

    async fn load_by_file(
        self: &Rc<Self>,
        generation: u64,
        settings: &Settings,
        refuse_empty: bool,
    ) -> Result<u32, Failure> {
        let path = self.receive_file(generation, settings, refuse_empty).await?;
        self.all_applied().await;
        if !self.loads(generation) {
            return Err(Failure::Aborted);
        }
        log::notice(format_args!("MASTER <-> REPLICA sync: Flushing old data"));
        self.set_loading(true);
        self.suspend_aof().await;
        self.replicate(NodeEvent::Replacing);
        let cut = self.next_cut();
        self.image(cut, Want::Flush).await;
        log::notice(format_args!("MASTER <-> REPLICA sync: Loading DB in memory"));
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        let mut loader = Loader::begin(self, Some(size)).await;
        let p = &self.shared.persistence;
        p.loading_total_bytes.store(size, Relaxed);
        p.loading_done_bytes.store(0, Relaxed);
        let fed = feed_from_file(&path, &mut loader, &p.loading_done_bytes).await;
        if settings.persistence.rdb_del_sync_files
            && !settings.persistence.appendonly
            && settings.persistence.save.is_empty()
        {
            let _ = std::fs::remove_file(&path);
        }
        match fed {
            Ok(()) => self.install(generation, loader).await,
            Err(e) => {
                loader.give_up().await;
                Err(Failure::Failed(e))
            }
        }
    }

    /// Writes the snapshot to a temporary file and puts it into the place of
    /// the last one.
    async fn receive_file(&self, generation: u64, s: &Settings, refuse_empty: bool) -> Result<PathBuf, Failure> {
        let name = format!("temp-{}.{}.rdb", clock::now_ms() / 1000, std::process::id());
        let (temporary, path) = (s.resolve(&name), s.resolve(&s.persistence.dbfilename));
        let writer = Writer::start(temporary.clone())
            .map_err(|e| format!("Opening the temp file needed for MASTER <-> REPLICA synchronization: {e}"))?;
        loop {
            match self.next_bytes(generation).await {
                Ok(Some(bytes)) => writer.write(bytes).await?,
                Ok(None) => break,
                Err(Aborted) => {
                    drop(writer);
                    let _ = std::fs::remove_file(&temporary);
                    return Err(Failure::Aborted);
                }
            }
        }
        let (from, to) = (temporary.clone(), path.clone());
        let moved = writer.finish(move || {
            if refuse_empty && holds_nothing(&from)? {
                return Err(std::io::Error::other(REFUSED));
            }
            std::fs::rename(&from, &to)?;
            let dir = to.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(dir)?.sync_all()
        });
        if let Err(e) = moved.await {
            let _ = std::fs::remove_file(&temporary);
            return Err(Failure::Failed(e));
        }
        Ok(path)
    }
}

/// Why a primary's snapshot of nothing is not taken.
const REFUSED: &str = "the primary has come back without its dataset and with a younger history; the dataset here is \
                       kept (replica-refuse-empty-primary)";

/// The largest file that is looked through for keys.
const EMPTY_MAX: u64 = 1 << 20;

/// Is this a snapshot without keys?
fn holds_nothing(path: &Path) -> std::io::Result<bool> {
    if std::fs::metadata(path)?.len() > EMPTY_MAX {
        return Ok(false);
    }
    let mut scanner = Scanner::new(false);
    scanner.push(&std::fs::read(path)?);
    scanner.close();
    loop {
        match scanner.next() {
            Ok(Some(Event::Record(_))) => return Ok(false),
            Ok(Some(Event::End(_)) | None) => return Ok(true),
            Ok(Some(_)) => {}
            // What is broken is refused where it is loaded.
            Err(_) => return Ok(false),
        }
    }
}

async fn feed_from_file(path: &Path, loader: &mut Loader, done: &AtomicU64) -> Result<(), String> {
    let mut file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut piece = vec![0; PIECE];
    loop {
        let n = file.read(&mut piece).map_err(|e| format!("{}: {e}", path.display()))?;
        if n == 0 {
            return loader.finish().await;
        }
        loader.feed(&piece[..n]).await?;
        done.fetch_add(n as u64, Relaxed);
        future::yield_now().await;
    }
}

/// It was given up by whoever began it.
struct Aborted;

enum Failure {
    Aborted,
    Failed(String),
}

impl From<Aborted> for Failure {
    fn from(_: Aborted) -> Failure {
        Failure::Aborted
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure::Failed(reason)
    }
}

type Finish = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

enum Order {
    Write(Bytes),
    Finish(Finish),
}

/// A file written by a thread of its own, so that the disk holds up nobody.
struct Writer {
    orders: mpsc::SyncSender<Order>,
    outcome: mpsc::Receiver<std::io::Result<()>>,
}

/// Pieces that wait for the disk.
const ORDERS_MAX: usize = 64;

impl Writer {
    fn start(path: PathBuf) -> std::io::Result<Writer> {
        let file = File::create(path)?;
        let (orders, taken) = mpsc::sync_channel(ORDERS_MAX);
        let (tell, outcome) = mpsc::channel();
        std::thread::Builder::new().name("snapshot-in".into()).spawn(move || {
            let _ = tell.send(write_all(file, &taken));
        })?;
        Ok(Writer { orders, outcome })
    }

    async fn write(&self, bytes: Bytes) -> Result<(), String> {
        self.order(Order::Write(bytes)).await
    }

    async fn order(&self, order: Order) -> Result<(), String> {
        let mut order = order;
        loop {
            match self.orders.try_send(order) {
                Ok(()) => return Ok(()),
                Err(mpsc::TrySendError::Full(back)) => order = back,
                Err(mpsc::TrySendError::Disconnected(_)) => {
                    let error = self.outcome.recv().ok().and_then(Result::err);
                    return Err(error.map_or_else(|| "the file's thread has ended".into(), |e| e.to_string()));
                }
            }
            glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    async fn finish(self, then: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), String> {
        self.order(Order::Finish(Box::new(then))).await?;
        loop {
            match self.outcome.try_recv() {
                Ok(outcome) => return outcome.map_err(|e| e.to_string()),
                Err(mpsc::TryRecvError::Disconnected) => return Err("the file's thread has ended".into()),
                Err(mpsc::TryRecvError::Empty) => {
                    glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
        }
    }
}

fn write_all(mut file: File, orders: &mpsc::Receiver<Order>) -> std::io::Result<()> {
    let mut unsynced = 0;
    while let Ok(order) = orders.recv() {
        match order {
            Order::Write(bytes) => {
                file.write_all(&bytes)?;
                unsynced += bytes.len();
                if unsynced >= SYNC_EVERY {
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            Order::Finish(then) => {
                file.sync_all()?;
                return then();
            }
        }
    }
    Ok(())
}
