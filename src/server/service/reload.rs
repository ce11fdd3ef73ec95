//! DEBUG RELOAD and DEBUG LOADAOF: the dataset goes through the disk and back.
//!
//! Everybody else gets -LOADING meanwhile; on a replica, nothing that the
//! primary sends is applied, so the offset stays that of the dataset. What is
//! loaded is no change: it does not go into the streams again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::timer::sleep;

use super::Service;
use super::aof::Place;
use super::snapshot::Wish;
use super::snapshot_file::base_how;
use crate::base::clock;
use crate::observe::log;
use crate::script::library::{Library, Policy};
use crate::server::image::Want;
use crate::server::replication::Asker;
use crate::snapshot::load::How;

/// Time between two looks at what has to end first.
const LOOK: Duration = Duration::from_millis(1);

/// The options of DEBUG RELOAD.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    pub save: bool,
    pub flush: bool,
    /// Keys that exist are replaced.
    pub merge: bool,
}

/// The reply's text.
type Refusal = &'static str;

const NOT_SAVED: Refusal = "ERR";
const NOT_LOADED: Refusal = "ERR Error trying to load the RDB dump, check server logs.";
const AOF_NOT_LOADED: Refusal = "ERR Error trying to load the AOF files, check server logs.";
const BUSY: Refusal = "LOADING Redis is loading the dataset in memory";

impl Service {
    /// DEBUG RELOAD.
    pub fn debug_reload(self: &Rc<Self>, asker: Asker, how: Reload) {
        let service = self.clone();
        glommio::spawn_local(async move {
            let result = service.alone(async |s| s.reload(how).await).await;
            if result.is_ok() {
                log::warning(format_args!("DB reloaded by DEBUG RELOAD"));
            }
            service.answer_outcome(asker, result);
        })
        .detach();
    }

    /// DEBUG LOADAOF.
    pub fn debug_load_aof(self: &Rc<Self>, asker: Asker) {
        let service = self.clone();
        glommio::spawn_local(async move {
            while service.switching_aof.get() {
                sleep(LOOK).await;
            }
            let result = service.alone(async |s| s.reload_aof().await).await;
            if result.is_ok() {
                log::warning(format_args!("Append Only File loaded by DEBUG LOADAOF"));
            }
            service.answer_outcome(asker, result);
        })
        .detach();
    }

    fn answer_outcome(&self, asker: Asker, result: Result<(), Refusal>) {
        self.answer_client(asker, |r| match result {
            Ok(()) => r.ok(),
            Err(text) => r.error(text.as_bytes()),
        });
    }

    /// Runs something while no client and no primary reaches the keyspace.
    async fn alone(self: &Rc<Self>, f: impl AsyncFnOnce(&Rc<Self>) -> Result<(), Refusal>) -> Result<(), Refusal> {
        if self.shared.persistence.loading.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(BUSY);
        }
        self.set_loading(true);
        let held = self.hold_applying().await;
        // Every core has closed its gate; then what had begun before is over.
        self.ask_all(|_| ()).await;
        self.image(self.next_cut(), Want::Nothing).await;
        let result = f(self).await;
        drop(held);
        self.set_loading(false);
        // The reply comes when all cores serve again.
        self.ask_all(|_| ()).await;
        result
    }

    async fn reload(self: &Rc<Self>, how: Reload) -> Result<(), Refusal> {
        if how.save {
            while !self.shared.saves.try_begin() {
                self.put_off_rewrite();
                sleep(LOOK).await;
            }
            self.save_file(Wish::default()).await.map_err(|e| {
                log::warning(format_args!("DEBUG RELOAD: the snapshot cannot be written: {e}"));
                NOT_SAVED
            })?;
        }
        if how.flush {
            self.image(self.next_cut(), Want::Flush).await;
        }
        let libraries = &self.shared.scripts.libraries;
        let kept = (!how.flush).then(|| libraries.all());
        let s = self.shared.config.settings();
        let expired = (!self.repl.is_replica()).then(clock::now_ms);
        let how_merge = how.merge;
        let how = How { drop_expired_at: expired, replace: how.merge, ..base_how(&s) };
        match self.load_snapshot(&s, how).await {
            Ok(true) => kept.map_or(Ok(()), |kept| self.join_libraries(kept, how_merge)),
            Ok(false) => {
                let name = &s.persistence.dbfilename;
                log::warning(format_args!("Fatal error: can't open the RDB file {name} for reading: No such file"));
                Err(NOT_LOADED)
            }
            Err(text) => {
                log::warning(format_args!("{text}"));
                Err(NOT_LOADED)
            }
        }
    }

    /// Puts the libraries that were loaded beside those that were there.
    fn join_libraries(&self, kept: Vec<Arc<Library>>, merge: bool) -> Result<(), Refusal> {
        let libraries = &self.shared.scripts.libraries;
        let loaded = libraries.all();
        let policy = if merge { Policy::Replace } else { Policy::Append };
        let joined = libraries.restore(kept, Policy::Flush).and_then(|()| libraries.restore(loaded, policy));
        joined.map_err(|why| {
            log::warning(format_args!("{why}"));
            NOT_LOADED
        })
    }

    async fn reload_aof(self: &Rc<Self>) -> Result<(), Refusal> {
        let s = self.shared.config.settings();
        let place = Place::of(&s);
        self.write_out_aof().await;
        let manifest = place.read_manifest().and_then(|m| m.ok_or_else(|| "There is no AOF manifest".into()));
        let manifest = manifest.map_err(|text| {
            log::warning(format_args!("{text}"));
            AOF_NOT_LOADED
        })?;
        self.image(self.next_cut(), Want::Flush).await;
        self.streams.borrow_mut().out.muted = true;
        let loaded = self.load_files(&place, &manifest, &s).await;
        self.image(self.next_cut(), Want::Nothing).await;
        self.merged_past(clock::mono_ns()).await;
        self.streams.borrow_mut().out.muted = false;
        loaded.map(|_| ()).map_err(|text| {
            log::warning(format_args!("{text}"));
            AOF_NOT_LOADED
        })
    }

    /// Waits until everything written so far is in the append-only file.
    async fn write_out_aof(&self) {
        self.merged_past(clock::mono_ns()).await;
        loop {
            let waits = self.streams.borrow().out.aof.as_ref().is_some_and(|a| !a.is_empty());
            if !waits && self.aof.borrow().as_ref().is_none_or(|f| f.is_idle()) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}
