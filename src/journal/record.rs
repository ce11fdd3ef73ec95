//! What a core publishes.

/// Commands that follow each other, encoded, with the databases between which
/// they lead: a SELECT stands in the bytes only where the database changes
/// within them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Database of the first command.
    pub first_db: u32,
    /// Database of the last command.
    pub last_db: u32,
    pub bytes: Vec<u8>,
}

impl Run {
    /// Sees to it that what is appended next applies to `db`.
    #[inline]
    pub fn select(&mut self, db: u32) {
        if self.bytes.is_empty() {
            self.first_db = db;
        } else if self.last_db != db {
            crate::resp::encode::select(&mut self.bytes, db);
        }
        self.last_db = db;
    }

    /// Appends another run.
    pub fn append(&mut self, other: &Run) {
        if !other.bytes.is_empty() {
            self.select(other.first_db);
            self.bytes.extend_from_slice(&other.bytes);
            self.last_db = other.last_db;
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// See [`Record`].
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// Whole execution units.
    Run(Run),
    /// One core's share of a transaction over several cores.
    Part {
        tx: u64,
        /// How many commands `run` has.
        commands: u32,
        /// Its commands need not stay together (keys that SCAN or RANDOMKEY
        /// found expired).
        loose: bool,
        run: Run,
    },
    /// All parts of the transaction have been published.
    Commit { tx: u64 },
    /// The place of a snapshot's cut in the stream.
    Cut { id: u64 },
}

/// A piece of a core's journal, stamped with the turn that published it.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub stamp: u64,
    pub body: Body,
}

impl Record {
    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        let run = match &self.body {
            Body::Run(run) | Body::Part { run, .. } => run.bytes.capacity(),
            Body::Commit { .. } | Body::Cut { .. } => 0,
        };
        size_of::<Record>() + run
    }
}
