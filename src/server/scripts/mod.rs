//! Scripts and functions on the data cores.
//!
//! A script runs like a command: where its keys are. What it *reaches* is
//! known before it runs ([`Reach`]):
//!
//! - *everything*: there is one core and nothing is locked, or the whole
//!   keyspace has been gathered for it;
//! - *this core*: its keys lie here. Keys that it did not name are served too,
//!   as long as they lie here and nobody has them locked;
//! - *some keys*: those that were gathered for it from several cores.
//!
//! A script that asks for more than it reaches is stopped where it is, all that
//! it did is taken back ([`undo`]), and it runs once more with what it asked for
//! among its keys; at last with the whole keyspace. Until it has ended nobody
//! sees anything of it: its effects are one unit of the journal, events and
//! messages wait for its end. So it is atomic whatever it touches.
mod host;
mod refuse;
mod route;
mod run;
mod slow;
mod undo;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use hashbrown::HashSet;

use super::msg::Origin;
use super::tx::Tx;
use crate::acl::User;
use crate::script::cache::Scripts;
use crate::script::engine::Engine;
use crate::script::library::Libraries;

pub use slow::{Kill, Slow};

/// Keys by database and hash.
type KeySet = HashSet<(u32, u64), foldhash::fast::RandomState>;

/// A key in a database: its hash stands for it, as in locks.
pub type Named = (usize, Vec<u8>);

/// What a script may touch.
#[derive(Clone, Debug)]
pub enum Reach {
    Everything,
    Core,
    /// Database and hash.
    Keys(Arc<KeySet>),
}

/// Why a script has to run once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Keys(Vec<Named>),
    Everything,
}

/// A script that is to run once more, from its connection's core.
pub struct Again {
    pub origin: Origin,
    pub command: usize,
    pub args: Vec<Vec<u8>>,
    pub wanted: Wanted,
}

/// What one core has for scripts.
pub struct CoreScripts {
    /// Missing while it runs one.
    pub engine: Option<Box<Engine>>,
    /// What the next script reaches; else it is found out.
    pub reach: Option<Reach>,
    /// The script that ran last has to run again.
    pub wanted: Option<Wanted>,
    /// The script that ran last was refused before it began: it counts as a
    /// rejected command, not as one that failed.
    pub refused: bool,
    /// The user of the connection in use, while it runs scripts.
    pub user: Option<(Option<Arc<User>>, bool)>,
    /// Those that could not be ordered yet.
    pub waiting: Vec<Again>,
    /// A script is slow, on whatever core.
    pub busy: bool,
    /// Transactions of the inbox that came while a slow script ran here; they
    /// take their places in the lock queue when it has ended.
    pub arrived: VecDeque<Arc<Tx>>,
    /// Completions for connections that were in use when they came.
    pub late: Vec<crate::reactor::ring::Completion>,
    /// Connections that had output when the running script became slow.
    pub dirty_before: usize,
}

impl Default for CoreScripts {
    fn default() -> CoreScripts {
        CoreScripts {
            engine: Some(Box::new(Engine::new(MEMORY_MAX))),
            reach: None,
            wanted: None,
            refused: false,
            user: None,
            waiting: Vec::new(),
            busy: false,
            arrived: VecDeque::new(),
            late: Vec::new(),
            dirty_before: 0,
        }
    }
}

impl CoreScripts {
    /// Frees Lua states whose scripts or libraries have been flushed. One that is
    /// running is let be: it is seen to when it has ended.
    pub fn tidy_up(&mut self, shared: &SharedScripts) {
        if let Some(engine) = &mut self.engine {
            engine.tidy_up(&shared.cache, &shared.libraries);
        }
    }
}

/// Bytes that each Lua state of a core may use.
pub const MEMORY_MAX: usize = 1 << 30;

/// What all cores share.
#[derive(Default)]
pub struct SharedScripts {
    pub cache: Scripts,
    pub libraries: Libraries,
    /// Scripts that run for longer than `busy-reply-threshold`, and how many.
    pub slow: Mutex<Vec<Arc<Slow>>>,
    pub slow_count: AtomicUsize,
}
