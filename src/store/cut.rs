//! Reading a keyspace as it was at one moment, while it goes on changing.
//!
//! [`Store::begin_cut`](super::Store::begin_cut) marks the moment. From then
//! on a reader walks the slots in steps, in the order of SCAN, and whatever is
//! about to change before the reader has come to it is recorded first. What is
//! *owed* is decided per slot: the slot was occupied at the cut and has not
//! been read, the key's position is not below the reader's, and the entry does
//! not bear the snapshot's *mark*. Marked are entries that were recorded ahead
//! of the reader, and those that were made since the cut where the reader has
//! still to come. It takes marks away as it passes, so that none is left in the
//! end.
//!
//! When a snapshot is given up, marks stay. The next ones bear others
//! ([`mark_of`]), to which they say nothing, and take them away, too. Only when
//! marks of the kind that a snapshot needs may still be around, after as many
//! had been given up in a row as there are kinds, all entries are looked through
//! at its beginning.
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

use hashbrown::HashMap;

use super::ahead::prefetch;
use super::db::Db;
use super::entry::Entry;
use super::listpack::Item;
use super::object::Object;
use super::table::SlotTable;
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
pub struct SlotCut {
    /// The database's number at the cut.
    db: u32,
    /// The first position (order in the slot) not read.
    from: u64,
}

/// Kinds of marks: as many as two bits tell apart beside none.
const MARKS: u64 = 3;

/// The mark of a snapshot: the same on all cores, another one for the next.
fn mark_of(id: u64) -> u8 {
    1 + (id % MARKS) as u8
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

    /// Has the place of a hash still to be read? The database's number at the cut.
    #[inline]
    fn unread(&self, hash: u64) -> Option<u32> {
        let slot = slot_of_hash(hash);
        if !self.is_pending(slot) {
            return None;
        }
        match self.partial.get(&slot) {
            None => Some(self.db),
            Some(part) => (hash & ORDER_MASK >= part.from).then_some(part.db),
        }
    }

    fn part(&mut self, slot: u16) -> &mut SlotCut {
        let db = self.db;
        self.partial.entry(slot).or_insert(SlotCut { db, from: 0 })
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
    /// Emptied buffers for the next chunks; what is not needed goes with the cut.
    spares: Vec<Vec<u8>>,
    /// The begun record: which, and its chunk.
    begun: Option<(u64, Chunk)>,
    open: BTreeMap<u64, Open>,
    next_id: u64,
    orphans: Vec<Db>,
    /// See the module's description.
    pub(super) mark: u8,
    /// The store works on entries of other cores: nothing is opened.
    pub visiting: bool,
}

/// An object that may have to be read on, or freed.
pub(super) enum Kept {
    Yes,
    No(Object),
}

impl Cut {
    /// `id`: the snapshot's number.
    pub(super) fn new(id: u64, recorder: Box<dyn Recorder>, lost: Arc<AtomicBool>) -> Cut {
        Cut {
            recorder,
            lost,
            filling: Chunk::default(),
            ready: VecDeque::new(),
            held: VecDeque::new(),
            bytes: 0,
            spares: Vec::new(),
            begun: None,
            open: BTreeMap::new(),
            next_id: 1,
            orphans: Vec::new(),
            mark: mark_of(id),
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

    /// Buffers of earlier chunks that wait for use.
    pub fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Takes the emptied buffer of an earlier chunk, for another.
    pub fn give_spare(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty());
        self.spares.push(buffer);
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
            self.filling.bytes = self.spares.pop().unwrap_or_default();
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
    let Some(number) = db.cut.as_ref().and_then(|c| c.unread(hash)) else { return };
    if omitted(Saving::Entry) {
        return;
    }
    let mut large = Vec::new();
    db.table(slot_of_hash(hash)).find_by(hash, |e| {
        if e.mark() != cut.mark && Key::new(e.key()).hash == hash {
            if is_large(e) && !cut.visiting {
                large.push(e.address())
            } else {
                cut.record(number, e)
            }
            e.set_mark(cut.mark);
        }
        false
    });
    large.into_iter().for_each(|at| open_at(cut, db, number, hash, at));
}

/// Marks an entry that is about to be put under a hash as what it is there.
pub(super) fn mark_new(cut: &Cut, db: Option<&Db>, hash: u64, entry: &Entry) {
    let unread = db.and_then(|d| d.cut.as_ref()).is_some_and(|c| c.unread(hash).is_some());
    entry.set_mark(if unread && !omitted(Saving::Mark) { cut.mark } else { 0 });
}

/// Opens a large collection, which is found by its entry's address.
fn open_at(cut: &mut Cut, db: &mut Db, number: u32, hash: u64, at: *const u8) {
    if let Some(e) = db.find_mut_by(hash, |e| e.address() == at) {
        cut.open(number, hash, e);
    }
}

/// Entries that a part of a slot shows from a position on, in the order of
/// their positions, with their hashes; and where the next part begins.
fn unread_part(db: &Db, slot: u16, from: u64) -> (Vec<(u64, &Entry)>, Option<u64>) {
    let mut entries = Vec::new();
    let next = db.table(slot).visit_part(from, |e| {
        prefetch(e.address());
        entries.push((0, e));
    });
    // By now the first ones are there.
    entries.iter_mut().for_each(|(hash, e)| *hash = e.hash());
    entries.retain(|(hash, _)| hash & ORDER_MASK >= from);
    entries.sort_unstable_by_key(|(hash, _)| hash & ORDER_MASK);
    (entries, next)
}

/// Reads on in a database; false when all of it has been read.
pub(super) fn step_db(cut: &mut Cut, db: &mut Db) -> bool {
    let Some(owed) = &mut db.cut else { return false };
    let Some(slot) = owed.first() else { return false };
    let part = owed.part(slot);
    let (number, from) = (part.db, part.from);
    let (entries, mut next) = unread_part(db, slot, from);
    let mut large = Vec::new();
    let (before, mut last, mut n) = (cut.backlog(), None, 0);
    for (hash, e) in entries {
        if (n >= STEP_ENTRIES || cut.backlog() - before >= STEP_BYTES) && last != Some(hash & ORDER_MASK) {
            next = last.map(|l| l + 1);
            break;
        }
        let mark = e.mark();
        if mark != 0 {
            e.set_mark(0);
        }
        if mark != cut.mark {
            if is_large(e) { large.push((hash, e.address())) } else { cut.record(number, e) }
        }
        last = Some(hash & ORDER_MASK);
        n += 1;
    }
    match (next, &mut db.cut) {
        (Some(next), Some(owed)) => owed.part(slot).from = next,
        (None, Some(owed)) => drop(owed.leave(slot)),
        _ => {}
    }
    large.into_iter().for_each(|(hash, at)| open_at(cut, db, number, hash, at));
    true
}

/// Takes all marks away from what a table holds.
pub(super) fn unmark(table: &SlotTable) {
    let mut entries = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from {
        from = table.visit_part(at, |e| {
            prefetch(e.address());
            entries.push(e);
        });
        entries.drain(..).filter(|e| e.mark() != 0).for_each(|e| e.set_mark(0));
    }
}

/// Marks of some kinds that may be around in a store.
#[derive(Clone, Copy, Default)]
pub(super) struct Stale(u8);

impl Stale {
    pub(super) fn add(&mut self, cut: &Cut) {
        self.0 |= 1 << cut.mark;
    }

    pub(super) fn has(self, cut: &Cut) -> bool {
        self.0 & (1 << cut.mark) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
