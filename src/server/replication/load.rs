//! The primary's snapshot, from the connection into the keyspace.
//!
//! Usually it is written to a file first, and the old data goes only when all
//! of the new has come and is in order (`repl-diskless-load disabled`); the file
//! takes the place of the last snapshot only when it has been loaded. Or it is
//! loaded as it comes: into an empty keyspace (`on-empty-db`), or beside the old
//! data, which is served meanwhile and kept if the transfer fails (`swapdb`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use glommio::timer::sleep;

use super::receive::{Received, Rules, Writer};
use crate::base::clock;
use crate::base::os::os_reason;
use crate::config::{DisklessLoad, Settings};
use crate::observe::log;
use crate::replication::event::Event as NodeEvent;
use crate::script::library::Policy;
use crate::server::image::Want;
use crate::server::loader::Loader;
use crate::server::service::Service;
use crate::server::service::snapshot_file::{delay_of, libraries_of};
use crate::snapshot::load::longest_string;

/// Bytes that wait to be written or loaded; beyond, the primary waits.
const WAITING_MAX: usize = 32 << 20;

/// Bytes read from the file at once; fewer when keys are to be delayed.
const PIECE: usize = 256 << 10;
const DELAYED_PIECE: usize = 4 << 10;

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
                    // What still waits would hold up the next link.
                    self.abort_load();
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
        let p = &self.shared.persistence;
        p.loading_since_s.store(clock::now_ms() / 1000, Relaxed);
        if p.async_loading.swap(loading, SeqCst) != loading {
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
        let mut loader = Loader::begin(self, None, false).await;
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
        let p = &self.shared.persistence;
        // How much will come is not known.
        p.loading_total_bytes.store(0, Relaxed);
        p.loading_done_bytes.store(0, Relaxed);
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
            p.loading_done_bytes.store(done as u64, Relaxed);
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
        let p = &settings.persistence;
        let name = format!("temp-{}.{}.rdb", clock::now_ms() / 1000, std::process::id());
        let (received, path) = (Received(settings.resolve(&name)), settings.resolve(&p.dbfilename));
        let rules = Rules {
            checksum: p.rdbchecksum,
            longest: longest_string(settings.proto_max_bulk_len),
            databases: settings.databases,
            refuse_empty,
        };
        self.receive_file(generation, &received.0, rules).await?;
        if path.is_dir() {
            return Err(Failure::Failed(format!("{} is a directory", path.display())));
        }
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
        let loader = self.load_received(&received.0).await?;
        if !self.loads(generation) {
            loader.give_up().await;
            return Err(Failure::Aborted);
        }
        let temporary = p.rdb_del_sync_files && !p.appendonly && p.save.is_empty();
        received.take_place_of(path, temporary).await;
        self.install(generation, loader).await
    }

    /// Loads what was received. Its checksum is right: that was looked at.
    async fn load_received(self: &Rc<Self>, path: &Path) -> Result<Loader, Failure> {
        let size = std::fs::metadata(path).map_or(0, |m| m.len());
        let mut loader = Loader::begin(self, Some(size), true).await;
        let p = &self.shared.persistence;
        p.loading_total_bytes.store(size, Relaxed);
        p.loading_done_bytes.store(0, Relaxed);
        let delay = self.shared.config.settings().persistence.key_load_delay_us;
        match feed_from_file(path, &mut loader, &p.loading_done_bytes, delay).await {
            Ok(()) => Ok(loader),
            Err(e) => {
                loader.give_up().await;
                Err(Failure::Failed(e))
            }
        }
    }

    /// Writes the snapshot to a file, and looks at it on the way.
    async fn receive_file(&self, generation: u64, path: &Path, rules: Rules) -> Result<(), Failure> {
        let writer = Writer::start(path, rules).map_err(|e| {
            format!("Opening the temp file needed for MASTER <-> REPLICA synchronization: {}", os_reason(&e))
        })?;
        while let Some(bytes) = self.next_bytes(generation).await? {
            writer.write(bytes).await?;
        }
        Ok(writer.finish().await?)
    }
}

/// Why a primary's snapshot of nothing is not taken.
pub(super) const REFUSED: &str = "the primary has come back without its dataset and with a younger history; the dataset here is \
                       kept (replica-refuse-empty-primary)";

/// `delay` is `key-load-delay`, with which less is read at once, so that it shows.
async fn feed_from_file(path: &Path, loader: &mut Loader, done: &AtomicU64, delay: i32) -> Result<(), String> {
    let mut file = File::open(path).map_err(|e| format!("{}: {}", path.display(), os_reason(&e)))?;
    let mut piece = vec![0; if delay == 0 { PIECE } else { DELAYED_PIECE }];
    loop {
        let before = loader.about.keys;
        let n = file.read(&mut piece).map_err(|e| format!("{}: {}", path.display(), os_reason(&e)))?;
        if n == 0 {
            return loader.finish().await;
        }
        loader.feed(&piece[..n]).await?;
        done.fetch_add(n as u64, Relaxed);
        match delay_of(delay, loader.about.keys - before) {
            Duration::ZERO => future::yield_now().await,
            delay => sleep(delay).await,
        }
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
