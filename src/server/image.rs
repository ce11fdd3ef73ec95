//! The whole keyspace at one moment, encoded while all cores are held.
//!
//! A transaction over all cores: each encodes its entries when it is granted;
//! when all have, the coordinator puts the cut into the journal and releases
//! them. With nothing wanted it is a barrier: what was begun before has ended.

use std::sync::{Arc, Mutex, PoisonError};

use super::core::Core;
use super::msg::Msg;
use super::tx::{Kind, Plan, Tx, whole};
use crate::snapshot::rdb::Version;
use crate::snapshot::rdb::encode::{Access, Encoder};
use crate::transaction::locks::Mode;

/// What an image is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Entries,
    Nothing,
    /// The keyspace becomes empty.
    Flush,
    /// What was loaded beside the keyspace takes its place.
    Install,
}

/// One core's entries of one database, as RDB records.
#[derive(Clone, Debug, Default)]
pub struct DbImage {
    pub db: usize,
    pub bytes: Vec<u8>,
    pub keys: u64,
    pub volatile: u64,
}

/// What an image's transaction holds.
pub struct Image {
    pub cut: u64,
    pub want: Want,
    parts: Vec<Mutex<Vec<DbImage>>>,
}

impl Core {
    /// Orders an image. It is tried again later when too many transactions wait.
    pub fn submit_image(&mut self, cut: u64, want: Want) {
        let cores = self.shared.cores;
        let parts = (0..cores).map(|_| Mutex::default()).collect();
        let kind = Kind::Image(Image { cut, want, parts });
        let ordered = self.submit_tx(super::applying::origin(self.id, 0), kind, |_, _| {
            let mut plan = Plan::default();
            let mode = if matches!(want, Want::Flush | Want::Install) { Mode::Exclusive } else { Mode::Shared };
            (0..cores).for_each(|c| plan.part(c).need = whole(mode));
            plan
        });
        if !ordered {
            self.tell_service(move |s| s.call(0, move |core| core.submit_image(cut, want)));
        }
    }

    /// Encodes this core's entries.
    pub fn run_image(&mut self, tx: &Arc<Tx>, at: usize, image: &Image) -> Msg {
        match image.want {
            Want::Nothing => {}
            Want::Entries => {
                *image.parts[at].lock().unwrap_or_else(PoisonError::into_inner) = self.encode_all();
            }
            Want::Flush => self.drop_keyspace(),
            Want::Install => self.install_incoming(),
        }
        Msg::Done { tx: tx.clone(), part: at, reply: Vec::new(), spent: 0, journaled: false }
    }

    fn encode_all(&self) -> Vec<DbImage> {
        let mut encoder = Encoder::new(Version::V10, self.settings.persistence.rdbcompression);
        let mut all = Vec::new();
        for db in 0..self.store.databases() {
            let Some(d) = self.store.db(db).filter(|d| !d.is_empty()) else { continue };
            let mut image = DbImage { db, ..DbImage::default() };
            for entry in d.iter() {
                encoder.record(&mut image.bytes, entry, Access::None);
                image.keys += 1;
                image.volatile += u64::from(entry.deadline().is_some());
            }
            all.push(image);
        }
        all
    }

    /// All cores have done their part: here is the cut.
    pub fn image_is_made(&mut self, image: &Image) {
        if self.fx.wants_stream {
            self.journal.cut(image.cut);
        }
        let take = |m: &Mutex<Vec<DbImage>>| std::mem::take(&mut *m.lock().unwrap_or_else(PoisonError::into_inner));
        let parts: Vec<Vec<DbImage>> = image.parts.iter().map(take).collect();
        let cut = image.cut;
        self.tell_service(move |s| s.image_is_made(cut, parts));
    }
}
