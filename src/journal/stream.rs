//! The merged runs as bytes: SELECT where the database changes.

use super::record::Run;
use crate::resp::encode;

/// The selected database of one stream. Replication stream and append-only
/// file have one each, because each begins anew at places of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected(Option<u32>);

impl Selected {
    /// The next command must say its database: a reader begins here.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// The database of the last command.
    pub fn db(&self) -> Option<u32> {
        self.0
    }

    /// The SELECT that has to stand before a run, if one has to. The run is
    /// taken to follow.
    pub fn before(&mut self, run: &Run) -> Option<Vec<u8>> {
        let known = self.0 == Some(run.first_db);
        self.0 = Some(run.last_db);
        (!known).then(|| {
            let mut select = Vec::with_capacity(32);
            encode::select(&mut select, run.first_db);
            select
        })
    }

    /// Calls `out` with the bytes of a run, a SELECT before it if needed.
    pub fn emit(&mut self, run: &Run, mut out: impl FnMut(&[u8])) {
        if run.bytes.is_empty() {
            return;
        }
        if let Some(select) = self.before(run) {
            out(&select);
        }
        out(&run.bytes);
    }
}
