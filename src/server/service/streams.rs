//! Who reads the merged stream, and how it reaches them.
//!
//! There are two streams with the same commands: the replication stream, with
//! its backlog and its offsets, and the append-only file. Each has its own
//! selected database, because each begins anew at places of its own; and PING
//! and GETACK stand in the former only.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::base::clock;
use crate::journal::backlog::Backlog;
use crate::journal::marks::Marks;
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
    /// What the cores do is not passed on: it is in the streams already.
    pub muted: bool,
    cuts: HashMap<u64, AtCut, foldhash::fast::RandomState>,
}

/// The replication stream.
pub struct Replication {
    pub selected: Selected,
    pub backlog: Backlog,
    /// The bytes are the primary's: what the cores do does not go in.
    pub relays: bool,
    /// Offsets after writes of clients; PING and GETACK come behind.
    pub written: Marks,
}

/// The append-only file's stream: what is to be written.
pub struct Aof {
    selected: Selected,
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Emptied buffers, for gathering.
    spares: Vec<Vec<u8>>,
    /// Whether times stand between the commands (`aof-timestamp-enabled`).
    pub timestamps: bool,
    /// The last one, Unix seconds.
    last_time_s: u64,
    /// On a replica: the last offset noted in this file ([`Aof::note`]).
    noted: Option<u64>,
    /// How many of the pieces come before the next file.
    cut_at: Option<usize>,
}

/// Bytes that are written at once.
pub struct Piece {
    /// The core whose buffer it is.
    pub core: usize,
    pub bytes: Vec<u8>,
}

/// Runs from this size on are kept as they are; smaller ones are gathered in
/// pieces of at least this size.
const OWN_PIECE: usize = 16 * 1024;

/// Capacity of a buffer for gathering, and how many are kept for reuse.
const GATHERED: usize = 2 * OWN_PIECE;
const SPARES: usize = 8;

impl Aof {
    pub fn new(timestamps: bool) -> Aof {
        let (selected, pieces) = Default::default();
        Aof { selected, pieces, bytes: 0, spares: Vec::new(), timestamps, last_time_s: 0, noted: None, cut_at: None }
    }

    /// Bytes that have not been taken.
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What comes from here on belongs to another file.
    pub fn cut(&mut self) {
        self.cut_at = Some(self.pieces.len());
        self.selected.forget();
        self.last_time_s = 0;
        self.noted = None;
    }

    /// Takes what there is, up to a cut; whether there was one.
    pub fn take(&mut self, into: &mut VecDeque<Piece>) -> bool {
        let n = self.cut_at.unwrap_or(self.pieces.len());
        into.extend(self.pieces.drain(..n));
        self.bytes = self.pieces.iter().map(|p| p.bytes.len()).sum();
        self.cut_at.take().is_some()
    }

    /// The offset up to which this file says where it is.
    pub fn noted(&self) -> Option<u64> {
        self.noted
    }

    /// On a replica: everything up to this offset of the primary's stream
    /// stands before this note, and nothing else of it.
    pub fn note(&mut self, offset: u64, note: &[u8]) {
        self.noted = Some(offset);
        self.gather(0, note);
    }

    fn run(&mut self, core: usize, run: &mut Run) {
        if run.bytes.is_empty() {
            return;
        }
        if self.timestamps {
            let now_s = clock::now_ms() / 1000;
            if now_s > self.last_time_s {
                self.last_time_s = now_s;
                self.gather(core, format!("#TS:{now_s}\r\n").as_bytes());
            }
        }
        if let Some(select) = self.selected.before(run) {
            self.gather(core, &select);
        }
        if run.bytes.len() < OWN_PIECE {
            return self.gather(core, &run.bytes);
        }
        self.bytes += run.bytes.len();
        self.pieces.push_back(Piece { core, bytes: std::mem::take(&mut run.bytes) });
    }

    /// Takes a buffer back that was made for gathering, once it is written.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES && (GATHERED..=2 * GATHERED).contains(&buffer.capacity()) {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    fn gather(&mut self, core: usize, bytes: &[u8]) {
        let cut = self.cut_at == Some(self.pieces.len());
        match self.pieces.back_mut().filter(|p| !cut && p.bytes.len() < OWN_PIECE) {
            Some(p) => p.bytes.extend_from_slice(bytes),
            None => {
                let mut own = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(GATHERED));
                own.extend_from_slice(bytes);
                self.pieces.push_back(Piece { core, bytes: own });
            }
        }
        self.bytes += bytes.len();
    }
}

impl Streams {
    pub fn new(cores: usize) -> Streams {
        Streams {
            merge: Merge::new(cores),
            out: Outputs { replication: None, aof: None, muted: false, cuts: HashMap::default() },
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

    /// The replication stream's latest part, if there is such a stream.
    pub fn backlog(&self) -> Option<&Backlog> {
        self.replication.as_ref().map(|r| &r.backlog)
    }

    /// The end of this server's own stream, and the database that is selected there.
    pub fn own_place(&self) -> Option<(u64, u32)> {
        let own = self.replication.as_ref().filter(|r| !r.relays)?;
        Some((own.backlog.end(), own.selected.db().unwrap_or(0)))
    }

    /// Nothing more will come: whoever waits for a cut goes on.
    pub fn pass_all_cuts(&mut self) {
        for (_, f) in std::mem::take(&mut self.cuts) {
            f(self);
        }
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
    fn run(&mut self, core: usize, run: &mut Run) {
        if self.muted {
            return;
        }
        if let Some(Replication { selected, backlog, relays: false, written }) = &mut self.replication {
            selected.emit(run, |bytes| backlog.append(bytes));
            written.reach(backlog.end());
        }
        if let Some(aof) = &mut self.aof {
            aof.run(core, run);
        }
    }

    fn cut(&mut self, id: u64) {
        if let Some(f) = self.cuts.remove(&id) {
            f(self);
        }
    }
}
