//! The scripts that the server knows by their SHA-1, the same for all cores.
//! Every core compiles those that it runs into a state of its own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::base::sha1::{hex, sha1};

/// SHA-1 of a script, in lower-case hexadecimal.
pub type Sha = [u8; 40];

/// A script.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    pub sha: Sha,
    pub body: Vec<u8>,
    /// See [`super::source::flag`].
    pub flags: u32,
}

/// The name of a script.
pub fn sha_of(body: &[u8]) -> Sha {
    let mut sha = [0; 40];
    sha.copy_from_slice(hex(&sha1(body)).as_bytes());
    sha
}

/// A name as a client gives it, in any case.
pub fn parse_sha(text: &[u8]) -> Option<Sha> {
    let mut sha: Sha = text.try_into().ok()?;
    sha.make_ascii_lowercase();
    Some(sha)
}

type Table = HashMap<Sha, Arc<Script>, foldhash::fast::RandomState>;

/// See the module's description.
#[derive(Default)]
pub struct Scripts {
    /// Changes when all scripts go.
    epoch: AtomicU64,
    bytes: AtomicUsize,
    table: Mutex<Table>,
}

impl Scripts {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn get(&self, sha: &Sha) -> Option<Arc<Script>> {
        self.lock().get(sha).cloned()
    }

    /// Adds a script; the one of this name that is there from now on.
    pub fn add(&self, script: Arc<Script>) -> Arc<Script> {
        let mut table = self.lock();
        if let Some(there) = table.get(&script.sha) {
            return there.clone();
        }
        self.bytes.fetch_add(script.body.len() + size_of::<Script>(), Ordering::Relaxed);
        table.insert(script.sha, script.clone());
        script
    }

    /// Forgets all.
    pub fn clear(&self) {
        let mut table = self.lock();
        *table = Table::default();
        self.bytes.store(0, Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all scripts.
    pub fn memory(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}
