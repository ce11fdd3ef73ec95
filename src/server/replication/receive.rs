//! A snapshot from the primary, written to a file by a thread of its own, so that
//! the disk holds up nobody.
//!
//! The thread also looks at what it writes: where the records end, whether the
//! checksum is right, whether the libraries compile. So a copy that is damaged is
//! refused before the old data has gone, and as soon as it shows; the loader need
//! not compute the checksum again.

use std::fs::File;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use glommio::timer::sleep;

use super::load::REFUSED;
use crate::base::os::os_reason;
use crate::observe::log;
use crate::server::service::snapshot_file::libraries_of;
use crate::snapshot::rdb::module_name;
use crate::snapshot::rdb::scan::{Event, Scanner};

/// Bytes between two synchronizations of the file (as in Redis).
const SYNC_EVERY: usize = 8 << 20;

/// Pieces that wait for the disk.
const ORDERS_MAX: usize = 64;

/// Time between two looks at the thread.
const LOOK: Duration = Duration::from_millis(1);

/// What is asked of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub checksum: bool,
    /// Bytes of a string at most.
    pub longest: u64,
    pub databases: u32,
    /// It must have keys.
    pub refuse_empty: bool,
}

/// A file that goes, unless it takes another's place.
pub(super) struct Received(pub PathBuf);

impl Received {
    /// Becomes the snapshot file; or, if that is only wanted for a moment
    /// (`rdb-del-sync-files`), both go. The dataset is loaded: what cannot be done
    /// on disk does not undo that.
    pub async fn take_place_of(self, path: PathBuf, temporary: bool) {
        let work = move || -> Result<()> {
            if temporary {
                let _ = std::fs::remove_file(path);
                return Ok(());
            }
            std::fs::rename(&self.0, &path)?;
            let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(dir)?.sync_all()
        };
        if let Err(e) = glommio::executor().spawn_blocking(work).await {
            log::warning(format_args!(
                "Failed trying to rename the temp DB into dump.rdb in MASTER <-> REPLICA synchronization: {}",
                os_reason(&e)
            ));
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

enum Order {
    Write(Bytes),
    Finish,
}

/// See the module's description.
pub(super) struct Writer {
    orders: mpsc::SyncSender<Order>,
    outcome: mpsc::Receiver<Result<()>>,
}

impl Writer {
    pub fn start(path: &Path, rules: Rules) -> Result<Writer> {
        let file = File::create(path)?;
        let (orders, taken) = mpsc::sync_channel(ORDERS_MAX);
        let (tell, outcome) = mpsc::channel();
        std::thread::Builder::new().name("snapshot-in".into()).spawn(move || {
            let _ = tell.send(take_all(file, Look::new(rules), &taken));
        })?;
        Ok(Writer { orders, outcome })
    }

    pub async fn write(&self, bytes: Bytes) -> std::result::Result<(), String> {
        self.order(Order::Write(bytes)).await
    }

    async fn order(&self, order: Order) -> std::result::Result<(), String> {
        let mut order = order;
        loop {
            match self.orders.try_send(order) {
                Ok(()) => return Ok(()),
                Err(mpsc::TrySendError::Full(back)) => order = back,
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(self.why()),
            }
            sleep(LOOK).await;
        }
    }

    /// Why the thread has ended.
    fn why(&self) -> String {
        let error = self.outcome.recv().ok().and_then(Result::err);
        error.map_or_else(|| "the file's thread has ended".into(), |e| os_reason(&e))
    }

    /// All has come: waits until it is on disk and known to be in order.
    pub async fn finish(self) -> std::result::Result<(), String> {
        self.order(Order::Finish).await?;
        loop {
            match self.outcome.try_recv() {
                Ok(outcome) => return outcome.map_err(|e| os_reason(&e)),
                Err(mpsc::TryRecvError::Disconnected) => return Err("the file's thread has ended".into()),
                Err(mpsc::TryRecvError::Empty) => sleep(LOOK).await,
            }
        }
    }
}

fn take_all(mut file: File, mut look: Look, orders: &mpsc::Receiver<Order>) -> Result<()> {
    let mut unsynced = 0;
    while let Ok(order) = orders.recv() {
        match order {
            Order::Write(bytes) => {
                file.write_all(&bytes)?;
                look.at(&bytes).map_err(Error::other)?;
                unsynced += bytes.len();
                if unsynced >= SYNC_EVERY {
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            Order::Finish => {
                look.end().map_err(Error::other)?;
                file.sync_all()?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What has been seen of a snapshot.
struct Look {
    scanner: Scanner,
    rules: Rules,
    functions: Vec<Vec<u8>>,
    empty: bool,
    ended: bool,
}

impl Look {
    fn new(rules: Rules) -> Look {
        let mut scanner = Scanner::new(rules.checksum);
        scanner.set_longest(rules.longest);
        scanner.skim();
        Look { scanner, rules, functions: Vec::new(), empty: true, ended: false }
    }

    /// Looks at the next bytes; those behind the end are none of it.
    fn at(&mut self, bytes: &[u8]) -> std::result::Result<(), String> {
        if self.ended {
            return Ok(());
        }
        self.scanner.push(bytes);
        self.go_on()
    }

    fn go_on(&mut self) -> std::result::Result<(), String> {
        while let Some(event) = self.scanner.next().map_err(|e| e.to_string())? {
            match event {
                Event::Record(_) => self.empty = false,
                Event::Select(db) if db >= u64::from(self.rules.databases) => {
                    return Err(format!("The file has a database {db}; this server has {}", self.rules.databases));
                }
                Event::ModuleAux(id) => {
                    let name = module_name(id);
                    return Err(format!(
                        "The RDB file contains AUX module data I can't load: no matching module '{name}'"
                    ));
                }
                Event::Function(source) => self.functions.push(source),
                Event::End(_) => self.ended = true,
                Event::Version { .. } | Event::Aux { .. } | Event::Select(_) | Event::Resize { .. } => {}
            }
        }
        Ok(())
    }

    fn end(mut self) -> std::result::Result<(), String> {
        self.scanner.close();
        self.go_on()?;
        if !self.ended {
            return Err(format!("Unexpected end of file at offset {}", self.scanner.offset()));
        }
        if self.empty && self.rules.refuse_empty {
            return Err(REFUSED.into());
        }
        libraries_of(&self.functions).map(drop)
    }
}
