//! One core's keyspace: a table per (database, slot), the expiry index, and
//! the values. Knows no clock, no protocol and no other core.
pub mod ahead;
pub mod buckets;
pub mod clock;
pub mod cut;
pub mod db;
pub mod defrag;
pub mod dict;
pub mod entry;
pub mod evict;
pub mod hash;
pub mod hll;
pub mod intset;
pub mod list;
mod list_undo;
pub mod listpack;
pub mod member;
pub mod mover;
pub mod object;
pub mod ranked;
pub mod scan;
pub mod set;
pub mod shown;
mod slots;
pub mod stream;
pub mod table;
pub mod thin;
pub mod undo;
pub mod zset;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::clock::UnixMs;
use crate::base::slot::{Key, SLOTS};
use cut::{Cut, Kept, Recorder, SlotCut, Stale};
use db::Db;
use entry::Entry;
use object::Object;
use table::SlotTable;

/// Entries whose value takes more allocations than this to free are handed
/// over instead of being freed at once (Redis's threshold for lazy freeing).
const LAZY_FREE_EFFORT: usize = 64;

/// The same for entries that are evicted: what they held is needed now.
const EVICT_EFFORT: usize = 1024;

/// Counters of one core's keyspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    /// Fields of hashes removed at their deadlines.
    pub expired_fields: u64,
    pub evicted: u64,
    /// Compact encodings that were looked through, of payloads and snapshots
    /// (`sanitize-dump-payload`).
    pub sanitized: u64,
}

/// All databases of one core.
pub struct Store {
    dbs: Vec<Option<Box<Db>>>,
    /// Those from here on were never written to.
    used: usize,
    /// Big values that wait to be freed away from the data path.
    garbage: Vec<Object>,
    /// Whole databases that wait for the same.
    flushed: Vec<Db>,
    /// A snapshot that reads the keyspace as it was.
    pub cut: Option<Box<Cut>>,
    /// Marks that snapshots may have left.
    stale: Stale,
    pub stats: Stats,
    /// The receive buffer of the one request being executed, when its last
    /// argument is large enough to take the buffer over instead of copying.
    pub donor: Option<Vec<u8>>,
}

/// All that a slot holds, on its way to another core.
pub struct SlotPack {
    pub slot: u16,
    tables: Vec<(usize, SlotTable, Option<SlotCut>)>,
}

impl Store {
    pub fn new(databases: usize) -> Store {
        let dbs = (0..databases).map(|_| None).collect();
        Store {
            dbs,
            used: 0,
            garbage: Vec::new(),
            flushed: Vec::new(),
            cut: None,
            stale: Stale::default(),
            stats: Stats::default(),
            donor: None,
        }
    }

    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    /// The database, if it was ever written to.
    #[inline]
    pub fn db(&self, db: usize) -> Option<&Db> {
        self.dbs[db].as_deref()
    }

    #[inline]
    fn db_opt(&mut self, db: usize) -> Option<&mut Db> {
        self.dbs[db].as_deref_mut()
    }

    #[inline]
    pub fn db_mut(&mut self, db: usize) -> &mut Db {
        if self.dbs[db].is_none() {
            self.begin_db(db);
        }
        self.dbs[db].get_or_insert_with(|| Box::new(Db::new()))
    }

    #[cold]
    fn begin_db(&mut self, db: usize) {
        self.dbs[db] = Some(Box::new(Db::new()));
        self.used = self.used.max(db + 1);
    }

    /// A string entry; the receive buffer itself when the value stands at its end.
    #[inline]
    pub fn string_entry(&mut self, key: &[u8], value: &[u8], deadline: Option<UnixMs>) -> Entry {
        match &self.donor {
            Some(_) => self.received_entry(key, value, deadline),
            None => Entry::string(key, value, deadline),
        }
    }

    #[cold]
    fn received_entry(&mut self, key: &[u8], value: &[u8], deadline: Option<UnixMs>) -> Entry {
        const CRLF: usize = 2;
        let fits =
            |b: &Vec<u8>| b.len() >= value.len() + CRLF && value.as_ptr() == b[b.len() - CRLF - value.len()..].as_ptr();
        match self.donor.take_if(|b| value.len() > entry::INLINE_MAX && fits(b)) {
            Some(mut buffer) => {
                buffer.truncate(buffer.len() - CRLF);
                let start = buffer.len() - value.len();
                Entry::received_string(key, buffer, start, deadline)
            }
            None => Entry::string(key, value, deadline),
        }
    }

    /// Number of keys of a database, expired ones that still stand included.
    pub fn len(&self, db: usize) -> usize {
        self.db(db).map_or(0, Db::len)
    }

    pub fn is_empty(&self) -> bool {
        (0..self.dbs.len()).all(|db| self.len(db) == 0)
    }

    /// Prefetches the header of the table that would hold `hash`.
    #[inline]
    pub fn prefetch_table(&self, db: usize, hash: u64) {
        if let Some(d) = self.db(db) {
            d.prefetch_table(hash);
        }
    }

    /// Prefetches the bucket that would name the key of `hash`; its table's
    /// header should be there by now.
    #[inline]
    pub fn prefetch_bucket(&self, db: usize, hash: u64) {
        if let Some(d) = self.db(db) {
            d.prefetch_bucket(hash);
        }
    }

    /// Prefetches the entries that may hold the key of `hash`.
    #[inline]
    pub fn prefetch_entry(&self, db: usize, hash: u64) {
        if let Some(d) = self.db(db) {
            d.prefetch_entry(hash);
        }
    }

    #[inline]
    pub fn get(&self, db: usize, key: &Key) -> Option<&Entry> {
        self.db(db)?.get(key)
    }

    /// For changing: what a snapshot is owed is recorded first.
    #[inline]
    pub fn get_mut(&mut self, db: usize, key: &Key) -> Option<&mut Entry> {
        self.before_change(db, key.hash);
        self.db_opt(db)?.get_mut(key)
    }

    /// Every way of changing what stands under a key comes by here.
    #[inline]
    fn before_change(&mut self, db: usize, hash: u64) {
        if self.cut.is_some() {
            self.save(db, hash);
        }
    }

    #[cold]
    fn save(&mut self, db: usize, hash: u64) {
        if let (Some(cut), Some(db)) = (&mut self.cut, self.dbs[db].as_deref_mut()) {
            cut::save(cut, db, hash);
        }
    }

    #[cold]
    fn mark_new(&self, db: usize, hash: u64, entry: &Entry) {
        if let Some(cut) = &self.cut {
            cut::mark_new(cut, self.db(db), hash, entry);
        }
    }

    /// Marks a moment: from now on the keyspace can be read as it is, with
    /// [`Store::cut_step`], whatever becomes of it. `id` is the snapshot's number,
    /// which all cores give it; `lost` is set should reading ever fail.
    pub fn begin_cut(&mut self, id: u64, recorder: Box<dyn Recorder>, lost: Arc<AtomicBool>) {
        debug_assert!(self.cut.is_none());
        let cut = Cut::new(id, recorder, lost.clone());
        if self.stale.has(&cut) {
            self.dbs.iter().flatten().for_each(|d| d.unmark());
            self.stale = Stale::default();
        }
        self.stale.add(&cut);
        for (i, d) in self.dbs.iter_mut().enumerate() {
            if let Some(d) = d {
                d.begin_cut(i, undo::Debt::new(&lost));
            }
        }
        self.cut = Some(Box::new(cut));
    }

    /// Reads on, a little; false when everything has been read. (What has been
    /// recorded is then to be flushed and taken.)
    pub fn cut_step(&mut self) -> bool {
        let Some(cut) = &mut self.cut else { return false };
        let (garbage, flushed) = (&mut self.garbage, &mut self.flushed);
        cut.step_open(&mut self.dbs, |o| garbage.push(o))
            || cut.step_orphan(|db| flushed.push(db))
            || self.dbs.iter_mut().flatten().any(|d| cut::step_db(cut, d))
    }

    /// This store works for `home` on entries of several cores: it takes the
    /// snapshot over, so that what it changes is recorded first.
    pub fn visit_cut(&mut self, home: &mut Store) {
        self.cut = home.cut.take();
        if let Some(c) = &mut self.cut {
            c.visiting = true;
        }
    }

    /// Ends [`Store::visit_cut`].
    pub fn leave_cut(&mut self, home: &mut Store) {
        home.cut = self.cut.take();
        if let Some(c) = &mut home.cut {
            c.visiting = false;
        }
    }

    /// The snapshot is over: all has been read, here and of what is here, or it
    /// is given up.
    pub fn end_cut(&mut self, read: bool) {
        let Some(cut) = self.cut.take() else { return };
        if read {
            self.stale = Stale::default();
        }
        let (objects, dbs) = cut.abandon(&mut self.dbs);
        self.garbage.extend(objects);
        self.flushed.extend(dbs);
    }

    /// As if the key were about to change: does it hold a collection that a
    /// snapshot now has to read in steps?
    pub fn open_now(&mut self, db: usize, key: &Key) -> bool {
        self.before_change(db, key.hash);
        self.get(db, key).and_then(Entry::as_object).is_some_and(|o| o.undo_id().is_some())
    }

    /// Adds an entry, its deadline included; replaces one of the same key.
    pub fn put(&mut self, db: usize, entry: Entry) {
        let hash = Key::new(entry.key()).hash;
        self.put_hashed(db, hash, entry);
    }

    /// [`Store::put`] for a caller that knows the hash of the entry's key.
    pub fn put_hashed(&mut self, db: usize, hash: u64, entry: Entry) {
        self.before_insert(db, hash, &entry);
        if let Some(old) = self.db_mut(db).put(hash, entry) {
            self.discard(old);
        }
    }

    #[inline]
    fn before_insert(&mut self, db: usize, hash: u64, entry: &Entry) {
        if let Some(cut) = &mut self.cut {
            cut.settled(hash, entry);
            self.save(db, hash);
            self.mark_new(db, hash, entry);
        } else if entry.mark() != 0 {
            entry.set_mark(0);
        }
    }

    /// Makes room for `len` entries in the slot of a hash, which are about to be
    /// inserted.
    #[inline]
    pub fn expect(&mut self, db: usize, hash: u64, len: usize) {
        self.db_mut(db).expect(hash, len);
    }

    /// Adds an entry whose key is known to be absent.
    #[inline]
    pub fn insert_new(&mut self, db: usize, hash: u64, entry: Entry) -> &mut Entry {
        self.before_insert(db, hash, &entry);
        self.db_mut(db).insert_new(hash, entry)
    }

    /// Takes an entry out.
    pub fn take(&mut self, db: usize, key: &Key) -> Option<Entry> {
        self.before_change(db, key.hash);
        self.db_opt(db)?.take(key)
    }

    /// Deletes a key; big values are freed later.
    pub fn delete(&mut self, db: usize, key: &Key) -> bool {
        match self.take(db, key) {
            Some(e) => {
                self.discard(e);
                true
            }
            None => false,
        }
    }

    /// Deletes a key to make room, and leaves its bytes in `key`. The memory is
    /// free at once, unless freeing is so much work that it is done elsewhere:
    /// then the answer is false.
    pub fn evict(&mut self, db: usize, hash: u64, key: &mut Vec<u8>) -> bool {
        key.clear();
        let Some(e) = self.find_hashed(db, hash) else { return true };
        key.extend_from_slice(e.key());
        let Some(e) = self.take(db, &Key { bytes: key, hash }) else { return true };
        self.stats.evicted += 1;
        if self.cut.is_none() && e.free_effort() <= EVICT_EFFORT {
            return true;
        }
        self.discard(e);
        false
    }

    /// Sets or removes the deadline of an existing key.
    pub fn set_deadline(&mut self, db: usize, key: &Key, deadline: Option<UnixMs>) -> bool {
        self.before_change(db, key.hash);
        self.db_opt(db).is_some_and(|d| d.set_deadline(key, deadline))
    }

    /// Frees an entry, or hands its value over when that is much work.
    pub fn discard(&mut self, mut entry: Entry) {
        if self.cut.is_some() {
            return self.discard_or_keep(entry);
        }
        if entry.free_effort() > LAZY_FREE_EFFORT
            && let Some(o) = entry.take_object()
        {
            self.garbage.push(o);
        }
    }

    /// [`Store::discard`] while a snapshot may want the value.
    #[cold]
    fn discard_or_keep(&mut self, mut entry: Entry) {
        let wanted = entry.as_object().is_some_and(|o| o.undo_id().is_some());
        if (wanted || entry.free_effort() > LAZY_FREE_EFFORT)
            && let Some(o) = entry.take_object()
        {
            self.discard_object(o);
        }
    }

    /// Hands an object over to be freed away from the data path when it is big.
    pub fn discard_object(&mut self, mut object: Object) {
        if let Some(cut) = &mut self.cut {
            object = match cut.keep(object) {
                Kept::Yes => return,
                Kept::No(o) => o,
            };
        }
        if object.free_effort() > LAZY_FREE_EFFORT {
            self.garbage.push(object);
        }
    }

    /// The values that wait to be freed.
    pub fn take_garbage(&mut self) -> Vec<Object> {
        std::mem::take(&mut self.garbage)
    }

    /// After a change of deadlines of a hash's fields, of which `before` was
    /// the earliest.
    pub fn fields_changed(&mut self, db: usize, key: &Key, before: Option<UnixMs>) {
        if let Some(d) = self.db_opt(db) {
            d.fields_changed(key, before);
        }
    }

    /// Keys with fields past their deadlines; see [`Db::due_fields`].
    pub fn due_fields(&mut self, db: usize, now: UnixMs, max: usize) -> Vec<(u64, Vec<u8>)> {
        self.db_opt(db).map_or(Vec::new(), |d| d.due_fields(now, max))
    }

    pub fn has_flushed(&self) -> bool {
        !self.flushed.is_empty()
    }

    pub fn has_garbage(&self) -> bool {
        !self.garbage.is_empty() || !self.flushed.is_empty()
    }

    /// Hands a flushed database over to be freed away from the data path.
    pub fn discard_db(&mut self, db: Db) {
        let unwanted = match &mut self.cut {
            Some(cut) => cut.keep_db(db),
            None => Some(db),
        };
        self.flushed.extend(unwanted);
    }

    /// The databases that wait to be freed.
    pub fn take_flushed(&mut self) -> Vec<Db> {
        std::mem::take(&mut self.flushed)
    }

    /// Empties a database and returns what it held, to be freed elsewhere.
    pub fn flush(&mut self, db: usize) -> Option<Db> {
        let d = self.dbs[db].as_deref_mut().filter(|d| !d.is_empty() || d.cut.is_some())?;
        Some(std::mem::replace(d, Db::new()))
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.used = self.used.max(a.max(b) + 1);
    }

    /// The earliest deadline of all databases.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.dbs[..self.used].iter().flatten().filter_map(|d| d.next_deadline()).min()
    }

    /// Takes a slot out of all databases, to live elsewhere.
    pub fn give_slot(&mut self, slot: u16) -> SlotPack {
        if !self.stale.is_empty() {
            self.dbs.iter().flatten().for_each(|d| cut::unmark(d.table(slot)));
        }
        self.take_slot(slot)
    }

    /// Takes a slot out of all databases, to come back, or to live elsewhere if
    /// no snapshot has been there.
    fn take_slot(&mut self, slot: u16) -> SlotPack {
        debug_assert!((slot as usize) < SLOTS);
        let tables = self
            .dbs
            .iter_mut()
            .enumerate()
            .filter_map(|(i, d)| d.as_deref_mut()?.take_slot(slot).map(|(table, cut)| (i, table, cut)))
            .collect();
        SlotPack { slot, tables }
    }

    /// Puts a slot in place that this core did not hold.
    pub fn install_slot(&mut self, pack: SlotPack) {
        for (db, table, cut) in pack.tables {
            self.db_mut(db).install_slot(pack.slot, table, cut);
        }
    }

    /// Takes every occupied slot out.
    pub fn take_all_slots(&mut self) -> Vec<SlotPack> {
        let mut packs = Vec::new();
        for slot in 0..SLOTS as u16 {
            if self.dbs.iter().flatten().any(|d| d.occupies(slot) || d.owes_slot(slot)) {
                packs.push(self.take_slot(slot));
            }
        }
        packs
    }

    /// Takes every entry out, with its database and hash.
    pub fn drain_entries(&mut self) -> Vec<(usize, u64, Entry)> {
        let mut out = Vec::new();
        for (i, d) in self.dbs.iter_mut().enumerate() {
            if let Some(d) = d {
                d.drain_into(|hash, e| out.push((i, hash, e)));
            }
        }
        out
    }

    /// Takes over the counters and garbage of a store that worked for this one.
    pub fn absorb(&mut self, other: &mut Store) {
        let s = std::mem::take(&mut other.stats);
        self.stats.hits += s.hits;
        self.stats.misses += s.misses;
        self.stats.expired += s.expired;
        self.stats.expired_fields += s.expired_fields;
        self.stats.evicted += s.evicted;
        self.stats.sanitized += s.sanitized;
        self.garbage.append(&mut other.garbage);
        self.flushed.append(&mut other.flushed);
    }

    /// Bytes of tables and indices.
    pub fn overhead(&self) -> usize {
        self.dbs.iter().flatten().map(|d| d.table_bytes() + d.deadline_bytes()).sum()
    }
}
