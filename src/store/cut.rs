//! Reading a keyspace as it was at one moment, while it goes on changing.
//!
//! [`Store::begin_cut`](super::Store::begin_cut) marks the moment. From then
//! on a reader walks the slots in steps, in the order of SCAN, and whatever is
//! about to change before the reader has come to it is recorded first. What is
//! *owed* is decided per slot: the slot was occupied at the cut and has not
//! been read, the key's position is not below the reader's, and nobody has
//! recorded the key's hash ahead of the reader. A key that is made after the
//! cut is marked as if it had been recorded. All entries of one hash are
//! recorded together, so marks need no keys.
//!
//! Entries are recorded whole. A large collection is recorded in steps of some
//! elements: it is *opened* when the reader comes to it or when it is about to
//! change, whichever is first, and keeps from then on what it needs to be read
//! as it was ([`super::undo`], [`super::list_undo`]), under whatever key it
//! goes on living, or by itself when it is deleted. Open collections are read
//! before anything else, so that they do not keep much.
//!
//! What belongs to a database stands in its [`Db`] and goes with it: SWAPDB
//! and FLUSHALL need no care. A flushed database is kept until it has been
//! read.
//!
//! Invariants: every entry of the cut is recorded exactly once; a record that
//! has been begun is the only one in `ready` until it ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};

use super::db::Db;
use super::entry::Entry;
use super::listpack::Item;
use super::object::Object;
use super::undo::{Debt, Saving, omitted};
use crate::base::slot::{Key, ORDER_MASK, SLOTS, slot_of_hash};

/// Writes entries down in some format.
pub trait Recorder: Send {
    /// One whole entry.
    fn record(&mut self, out: &mut Chunk, entry: &Entry);
    /// An entry up to the first element of its collection. All elements
    /// follow, with the function for its type.
    fn begin(&mut self, out: &mut Chunk, entry: &Entry);
    /// An element of a list or a member of a set.
    fn element(&mut self, out: &mut Chunk, item: Item);
    /// A field of a hash, and its value.
    fn field(&mut self, out: &mut Chunk, field: Item, value: Item);
    /// A member of a sorted set, and its score.
    fn scored(&mut self, out: &mut Chunk, member: Item, score: f64);
}

/// A piece of what was recorded, all of one database.
#[derive(Default, Debug)]
pub struct Chunk {
    pub db: u32,
    pub bytes: Vec<u8>,
    /// Where in `bytes` strings stand that may still be compressed.
    pub strings: Vec<u32>,
    /// Entries that end in this chunk.
    pub keys: u64,
    /// The last record goes on in the next chunk of the same core.
    pub open: bool,
}

/// Bytes at which a chunk is handed over.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// Entries, bytes and elements read in one step, about.
const STEP_ENTRIES: usize = 128;
const STEP_BYTES: usize = 128 * 1024;
const STEP_ELEMENTS: usize = 128;

/// What is still to be read of a slot.
#[derive(Default)]
pub struct SlotCut {
    /// The database's number at the cut.
    db: u32,
    /// The first position (order in the slot) not read.
    from: u64,
    /// Hashes ahead of it that are not owed.
    marked: HashSet<u64, foldhash::fast::RandomState>,
}

/// What is still to be read of a database.
pub struct DbCut {
    db: u32,
    pending: Box<[u64; SLOTS / 64]>,
    left: usize,
    partial: HashMap<u16, SlotCut, foldhash::fast::RandomState>,
    debt: Option<Debt>,
}

impl DbCut {
    /// `occupied` has a bit for every slot with entries.
    pub(super) fn new(db: usize, occupied: &[u64; SLOTS / 64], debt: Option<Debt>) -> DbCut {
        let left = occupied.iter().map(|w| w.count_ones() as usize).sum();
        DbCut { db: db as u32, pending: Box::new(*occupied), left, partial: HashMap::default(), debt }
    }

    pub(super) fn is_pending(&self, slot: u16) -> bool {
        self.pending[slot as usize / 64] & (1 << (slot % 64)) != 0
    }

    fn owes(&self, hash: u64) -> bool {
        let slot = slot_of_hash(hash);
        self.is_pending(slot)
            && self.partial.get(&slot).is_none_or(|p| hash & ORDER_MASK >= p.from && !p.marked.contains(&hash))
    }

    fn part(&mut self, slot: u16) -> &mut SlotCut {
        let db = self.db;
        self.partial.entry(slot).or_insert_with(|| SlotCut { db, ..SlotCut::default() })
    }

    /// The slot's state leaves: it has been read, or goes elsewhere.
    pub(super) fn leave(&mut self, slot: u16) -> Option<SlotCut> {
        if !self.is_pending(slot) {
            return None;
        }
        self.part(slot);
        self.pending[slot as usize / 64] &= !(1 << (slot % 64));
        self.left -= 1;
        if self.left == 0
            && let Some(d) = &mut self.debt
        {
            d.pay();
        }
        self.partial.remove(&slot)
    }

    /// The state of a slot that comes (back) here.
    pub(super) fn enter(&mut self, slot: u16, cut: SlotCut) {
        debug_assert!(!self.is_pending(slot));
        self.pending[slot as usize / 64] |= 1 << (slot % 64);
        self.left += 1;
        self.partial.insert(slot, cut);
    }

    fn first(&self) -> Option<u16> {
        let word = self.pending.iter().position(|w| *w != 0)?;
        Some((word * 64) as u16 + self.pending[word].trailing_zeros() as u16)
    }

    /// Nobody wants the rest.
    pub(super) fn forgive(&mut self) {
        if let Some(d) = &mut self.debt {
            d.pay();
        }
    }
}

/// Where an open collection is.
enum Place {
    Key {
        hash: u64,
        key: Box<[u8]>,
    },
    /// Deleted from the keyspace.
    Held(Object),
}

struct Open {
    db: u32,
    /// The record up to its first element.
    head: Chunk,
    place: Place,
    /// Elements at the cut that have not been read.
    left: usize,
}

/// See the module's description.
pub struct Cut {
    recorder: Box<dyn Recorder>,
    lost: Arc<AtomicBool>,
    filling: Chunk,
    ready: VecDeque<Chunk>,
    /// Whole chunks that wait for the end of the begun record.
    held: VecDeque<Chunk>,
    bytes: usize,
    /// The begun record: which, and its chunk.
    begun: Option<(u64, Chunk)>,
    open: BTreeMap<u64, Open>,
    next_id: u64,
    orphans: Vec<Db>,
    /// The store works on entries of other cores: nothing is opened.
    pub visiting: bool,
}

/// An object that may have to be read on, or freed.
pub(super) enum Kept {
    Yes,
    No(Object),
}

impl Cut {
    pub(super) fn new(recorder: Box<dyn Recorder>, lost: Arc<AtomicBool>) -> Cut {
        Cut {
            recorder,
            lost,
            filling: Chunk::default(),
            ready: VecDeque::new(),
            held: VecDeque::new(),
            bytes: 0,
            begun: None,
            open: BTreeMap::new(),
            next_id: 1,
            orphans: Vec::new(),
            visiting: false,
        }
    }

    /// Bytes recorded and not taken.
    pub fn backlog(&self) -> usize {
        self.bytes + self.filling.bytes.len()
    }

    /// Can something be taken?
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Are there collections that are read in steps?
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Is there anything to take, or to be read without the databases?
    pub fn has_work(&self) -> bool {
        self.backlog() > 0 || self.has_open() || !self.orphans.is_empty()
    }

    pub fn take(&mut self) -> Option<Chunk> {
        let c = self.ready.pop_front()?;
        self.bytes -= c.bytes.len();
        Some(c)
    }

    /// Makes what has been recorded ready, however little it is.
    pub fn flush(&mut self) {
        if !self.filling.bytes.is_empty() {
            let chunk = std::mem::take(&mut self.filling);
            self.push(chunk);
        }
    }

    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes.len();
        let queue = if self.begun.is_some() { &mut self.held } else { &mut self.ready };
        queue.push_back(chunk);
    }

    /// The chunk that records of a database go to.
    fn chunk_of(&mut self, db: u32) {
        if self.filling.db != db || self.filling.bytes.len() >= CHUNK_BYTES {
            self.flush();
            self.filling.db = db;
        }
        if self.filling.bytes.capacity() == 0 {
            self.filling.bytes.reserve(CHUNK_BYTES + CHUNK_BYTES / 16);
        }
    }

    fn record(&mut self, db: u32, entry: &Entry) {
        self.chunk_of(db);
        self.recorder.record(&mut self.filling, entry);
        self.filling.keys += 1;
    }

    fn open(&mut self, db: u32, hash: u64, entry: &mut Entry) {
        let id = self.next_id;
        self.next_id += 1;
        let mut head = Chunk { db, ..Chunk::default() };
        self.recorder.begin(&mut head, entry);
        let place = Place::Key { hash, key: entry.key().into() };
        let Some(object) = entry.as_object_mut() else { return };
        let left = object.len();
        object.begin_undo(id, Debt::new(&self.lost));
        self.open.insert(id, Open { db, head, place, left });
    }

    /// An object leaves the keyspace.
    pub(super) fn keep(&mut self, object: Object) -> Kept {
        match object.undo_id().filter(|_| !omitted(Saving::Deleted)).and_then(|id| self.open.get_mut(&id)) {
            Some(open) => {
                open.place = Place::Held(object);
                Kept::Yes
            }
            None => Kept::No(object),
        }
    }

    /// An entry has got this key.
    pub(super) fn settled(&mut self, hash: u64, entry: &Entry) {
        if let Some(id) = entry.as_object().and_then(Object::undo_id)
            && let Some(open) = self.open.get_mut(&id)
        {
            open.place = Place::Key { hash, key: entry.key().into() };
        }
    }

    /// A database leaves the keyspace; given back when nothing is owed of it.
    pub(super) fn keep_db(&mut self, db: Db) -> Option<Db> {
        let owed = db.cut.as_ref().is_some_and(|c| c.left > 0) || self.holds_open(&db);
        if owed {
            self.orphans.push(db);
            return None;
        }
        Some(db)
    }

    fn holds_open(&self, db: &Db) -> bool {
        self.open.iter().any(|(id, o)| match &o.place {
            Place::Key { hash, key } => {
                db.get(&Key { bytes: key, hash: *hash }).and_then(Entry::as_object).and_then(Object::undo_id)
                    == Some(*id)
            }
            Place::Held(_) => false,
        })
    }

    /// Reads on in an open collection; false when there is none. What has been
    /// read to its end and was only held is given to `free`.
    pub(super) fn step_open(&mut self, dbs: &mut [Option<Box<Db>>], free: impl FnOnce(Object)) -> bool {
        let Some(id) = self.begun.as_ref().map(|b| b.0).or_else(|| self.open.keys().next().copied()) else {
            return false;
        };
        let Some(open) = self.open.get_mut(&id) else {
            self.lost.store(true, Ordering::Relaxed);
            self.begun = None;
            return true;
        };
        let (_, chunk) = self.begun.get_or_insert_with(|| (id, std::mem::take(&mut open.head)));
        let object = match &mut open.place {
            Place::Held(o) => Some(o),
            Place::Key { hash, key } => find_open(id, &Key { bytes: key, hash: *hash }, dbs, &mut self.orphans),
        };
        let (more, n) = object.map_or((false, 0), |o| o.read_on(STEP_ELEMENTS, &mut *self.recorder, chunk));
        open.left = open.left.wrapping_sub(n);
        if more && chunk.bytes.len() >= CHUNK_BYTES {
            let next = Chunk { db: open.db, ..Chunk::default() };
            let mut full = std::mem::replace(chunk, next);
            full.open = true;
            self.bytes += full.bytes.len();
            self.ready.push_back(full);
        }
        if !more {
            self.close(id, free);
        }
        true
    }

    /// The begun record ends.
    fn close(&mut self, id: u64, free: impl FnOnce(Object)) {
        let Some(open) = self.open.remove(&id) else { return };
        if open.left != 0 {
            // Elements are missing, or there were too many.
            self.lost.store(true, Ordering::Relaxed);
        }
        if let Place::Held(o) = open.place {
            free(o);
        }
        if let Some((_, mut chunk)) = self.begun.take() {
            chunk.keys += 1;
            self.bytes += chunk.bytes.len();
            self.ready.push_back(chunk);
        }
        self.ready.append(&mut self.held);
    }

    /// Reads on in a flushed database; one that is through is given to `free`.
    /// False when there is none.
    pub(super) fn step_orphan(&mut self, free: impl FnOnce(Db)) -> bool {
        let Some(mut db) = self.orphans.pop() else { return false };
        if step_db(self, &mut db) || self.holds_open(&db) {
            self.orphans.push(db);
        } else {
            free(db);
        }
        true
    }

    /// Nobody wants the rest.
    pub(super) fn abandon(mut self, dbs: &mut [Option<Box<Db>>]) -> (Vec<Object>, Vec<Db>) {
        let mut objects = Vec::new();
        let mut orphans = std::mem::take(&mut self.orphans);
        for (id, open) in std::mem::take(&mut self.open) {
            match open.place {
                Place::Held(mut o) => {
                    o.end_undo();
                    objects.push(o);
                }
                Place::Key { hash, key } => {
                    if let Some(o) = find_open(id, &Key { bytes: &key, hash }, dbs, &mut orphans) {
                        o.end_undo();
                    }
                }
            }
        }
        for db in dbs.iter_mut().flatten().map(|d| &mut **d).chain(orphans.iter_mut()) {
            if let Some(mut c) = db.cut.take() {
                c.forgive();
            }
        }
        (objects, orphans)
    }
}

/// The open collection `id`, under a key of some database.
fn find_open<'a>(id: u64, key: &Key, dbs: &'a mut [Option<Box<Db>>], orphans: &'a mut [Db]) -> Option<&'a mut Object> {
    let all = dbs.iter_mut().flatten().map(|d| &mut **d).chain(orphans);
    all.filter_map(|d| d.get_mut(key)?.as_object_mut()).find(|o| o.undo_id() == Some(id))
}

fn is_large(e: &Entry) -> bool {
    e.as_object().is_some_and(|o| o.is_large() || o.undo_id().is_some())
}

/// Records what stands under a hash, if that is owed.
pub(super) fn save(cut: &mut Cut, db: &mut Db, hash: u64) {
    let Some(owed) = &mut db.cut else { return };
    if !owed.owes(hash) || omitted(Saving::Entry) {
        return;
    }
    let slot = slot_of_hash(hash);
    let part = owed.part(slot);
    if !omitted(Saving::Mark) {
        part.marked.insert(hash);
    }
    let number = part.db;
    let mut large = false;
    db.table(slot).find_by(hash, |e| {
        if Key::new(e.key()).hash == hash {
            if is_large(e) && !cut.visiting { large = true } else { cut.record(number, e) }
        }
        false
    });
    if large {
        open_all(cut, db, number, hash);
    }
}

/// Opens the large collections under a hash.
fn open_all(cut: &mut Cut, db: &mut Db, number: u32, hash: u64) {
    let fresh = |e: &Entry| is_large(e) && e.as_object().is_some_and(|o| o.undo_id().is_none());
    while let Some(e) = db.find_mut_by(hash, |e| fresh(e) && Key::new(e.key()).hash == hash) {
        cut.open(number, hash, e);
    }
}

/// Reads on in a database; false when all of it has been read.
pub(super) fn step_db(cut: &mut Cut, db: &mut Db) -> bool {
    let Some(owed) = &mut db.cut else { return false };
    let Some(slot) = owed.first() else { return false };
    let part = owed.part(slot);
    let (number, from) = (part.db, part.from);
    let mut found: Vec<(u64, &Entry)> = Vec::new();
    let (marked, table) = (&part.marked, &db.tables[slot as usize]);
    let mut next = table.visit_part(from, |e| {
        let hash = Key::new(e.key()).hash;
        if hash & ORDER_MASK >= from && !marked.contains(&hash) {
            found.push((hash, e));
        }
    });
    found.sort_unstable_by_key(|&(hash, _)| hash & ORDER_MASK);
    let mut large = Vec::new();
    let (before, mut last, mut n) = (cut.backlog(), None, 0);
    for (hash, e) in found {
        if (n >= STEP_ENTRIES || cut.backlog() - before >= STEP_BYTES) && last != Some(hash & ORDER_MASK) {
            next = last.map(|l| l + 1);
            break;
        }
        if is_large(e) {
            large.push(hash)
        } else {
            cut.record(number, e)
        }
        last = Some(hash & ORDER_MASK);
        n += 1;
    }
    match (next, &mut db.cut) {
        (Some(next), Some(owed)) => owed.part(slot).from = next,
        (None, Some(owed)) => drop(owed.leave(slot)),
        _ => {}
    }
    large.into_iter().for_each(|hash| open_all(cut, db, number, hash));
    true
}
