//! Who reads the merged stream, and how it reaches them.
//!
//! There are two streams with the same commands: the replication stream, with
//! its backlog and its offsets, and the append-only file. Each has its own
//! selected database, because each begins anew at places of its own; and PING
//! and GETACK stand in the former only.

use hashbrown::HashMap;

use crate::base::clock;
use crate::journal::backlog::Backlog;
use crate::journal::merge::{Merge, Sink};
use crate::journal::record::Run;
use crate::journal::stream::Selected;

/// Reasons to keep a journal; it is kept while there is any.
pub const FOR_REPLICATION: u8 = 1;
pub const FOR_AOF: u8 = 2;

/// Called at a cut's place in the stream.
type AtCut = Box<dyn FnOnce(&mut Outputs)>;

/// The merge and what it feeds.
pub struct Streams {
    pub merge: Merge,
    pub out: Outputs,
    /// Why the cores publish; 0 when they do not.
    pub reasons: u8,
    /// The cores publish, and lanes are merged.
    pub running: bool,
    /// The journal is being begun or ended.
    pub switching: bool,
    /// Effects go out as soon as they are published (`appendfsync always`).
    pub urgent: bool,
    /// Somebody waits for the merge to come further in time, so it must not
    /// nap for long.
    pub hurried: usize,
}

/// See the module's description.
pub struct Outputs {
    /// The stream for replicas; its end is `master_repl_offset`.
    pub replication: Option<Replication>,
    /// What is to be appended to the file, and its selected database.
    pub aof: Option<Aof>,
    cuts: HashMap<u64, AtCut, foldhash::fast::RandomState>,
}

/// The replication stream.
pub struct Replication {
    pub selected: Selected,
    pub backlog: Backlog,
}

/// The append-only file's stream.
pub struct Aof {
    pub selected: Selected,
    pub buffer: Vec<u8>,
    /// Whether times stand between the commands (`aof-timestamp-enabled`).
    pub timestamps: bool,
    /// The last one, Unix seconds.
    last_time_s: u64,
}

impl Aof {
    pub fn new(timestamps: bool) -> Aof {
        Aof { selected: Selected::default(), buffer: Vec::new(), timestamps, last_time_s: 0 }
    }

    fn run(&mut self, run: &Run) {
        if self.timestamps {
            let now_s = clock::now_ms() / 1000;
            if now_s > self.last_time_s {
                self.last_time_s = now_s;
                self.buffer.extend_from_slice(format!("#TS:{now_s}\r\n").as_bytes());
            }
        }
        let buffer = &mut self.buffer;
        self.selected.emit(run, |bytes| buffer.extend_from_slice(bytes));
    }
}

impl Streams {
    pub fn new(cores: usize) -> Streams {
        Streams {
            merge: Merge::new(cores),
            out: Outputs { replication: None, aof: None, cuts: HashMap::default() },
            reasons: 0,
            running: false,
            switching: false,
            urgent: false,
            hurried: 0,
        }
    }
}

impl Outputs {
    /// Calls `f` when the merge arrives at the cut that a core puts into its
    /// journal with this number ([`crate::journal::writer::Writer::cut`]).
    pub fn at_cut(&mut self, id: u64, f: impl FnOnce(&mut Outputs) + 'static) {
        self.cuts.insert(id, Box::new(f));
    }

    /// The cut will not come.
    pub fn forget_cut(&mut self, id: u64) {
        self.cuts.remove(&id);
    }
}

impl Replication {
    /// Appends bytes that belong to no database: PING, REPLCONF GETACK, or
    /// what a primary sent.
    pub fn append(&mut self, bytes: &[u8]) {
        self.backlog.append(bytes);
    }
}

impl Sink for Outputs {
    fn run(&mut self, run: &Run) {
        if let Some(Replication { selected, backlog }) = &mut self.replication {
            selected.emit(run, |bytes| backlog.append(bytes));
        }
        if let Some(aof) = &mut self.aof {
            aof.run(run);
        }
    }

    fn cut(&mut self, id: u64) {
        if let Some(f) = self.cuts.remove(&id) {
            f(self);
        }
    }
}
