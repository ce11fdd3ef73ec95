//! What a handler works with.

use super::effect::{Class, Effect};
use super::fault::{Fault, WRONG_TYPE};
use crate::base::clock::UnixMs;
use crate::base::rng::Rng;
use crate::base::slot::{Key, hash_key};
use crate::resp::Reply;
use crate::store::Store;
use crate::store::entry::{Entry, INLINE_MAX};
use crate::store::hash::Hash;
use crate::store::object::{Collection, Object};
use crate::store::{ahead, clock};

/// How accesses are recorded in entries' clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The LRU clock ([`clock::lru`]).
    Lru(u32),
    /// Logarithmic counter (8 bits) and minutes (16 bits).
    Lfu { minutes: u16, log_factor: u32, decay_minutes: u32 },
    /// `CLIENT NO-TOUCH on`.
    Not,
}

/// Settings that handlers obey; a copy of the configuration's.
#[derive(Clone, Debug)]
pub struct Options {
    pub proto_max_bulk_len: usize,
    /// A client whose reply is longer will be closed: what makes one of any
    /// length may stop there (`client-output-buffer-limit`). 0 for no limit, and
    /// in scripts. One for RESP2 and one for RESP3, where subscribers, who have
    /// a limit of their own, may run any command.
    pub reply_bytes_max: [usize; 2],
    /// A script runs the command.
    pub in_script: bool,
    pub list_max_listpack_size: i64,
    /// Larger elements have nodes of their own (DEBUG QUICKLIST-PACKED-THRESHOLD).
    pub list_node_max_bytes: usize,
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    pub stream_node_max_bytes: usize,
    pub stream_node_max_entries: u64,
    pub hll_sparse_max_bytes: usize,
    pub lazy_user_flush: bool,
    pub lazy_server_del: bool,
    /// DUMP compresses strings (`rdbcompression`).
    pub rdb_compression: bool,
    /// RESTORE looks for duplicates in compact encodings too.
    pub sanitize_payloads: bool,
    /// RESTORE does not look at checksums (DEBUG).
    pub skip_checksums: bool,
    /// Reading an expired key does not delete it (CLIENT PAUSE).
    pub keep_expired: bool,
    /// Integers are shared, as OBJECT REFCOUNT has it (not where every key needs a
    /// clock of its own).
    pub shared_integers: bool,
    pub lfu_policy: bool,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
}

impl Default for Options {
    /// The defaults of Redis 7.2.
    fn default() -> Options {
        Options {
            proto_max_bulk_len: 512 * 1024 * 1024,
            reply_bytes_max: [0; 2],
            in_script: false,
            list_max_listpack_size: -2,
            list_node_max_bytes: usize::MAX,
            hash_max_listpack_entries: 128,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hll_sparse_max_bytes: 3000,
            lazy_user_flush: false,
            lazy_server_del: false,
            rdb_compression: true,
            sanitize_payloads: false,
            skip_checksums: false,
            keep_expired: false,
            shared_integers: true,
            lfu_policy: false,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
        }
    }
}

/// What becomes of a key's deadline when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Clear,
    Keep,
    At(UnixMs),
}

/// The parts of a context that can be used while a value is borrowed.
pub struct Rest<'r, 'a> {
    pub reply: &'r mut Reply<'a>,
    pub fx: &'r mut Effect,
    pub rng: &'r mut Rng,
    pub options: &'r Options,
    pub db: usize,
    pub now: UnixMs,
    pub clock: UnixMs,
}

/// The place of no key at all.
pub const NO_HINT: (*const [u8], u64) = (std::ptr::slice_from_raw_parts(std::ptr::null(), 0), 0);

/// The context of one command on the core that owns its keys.
pub struct Cx<'a> {
    pub store: &'a mut Store,
    pub db: usize,
    /// The command's time; the same for all parts of a transaction.
    pub now: UnixMs,
    /// The host's time, also where `now` is 0 because nothing expires: for what
    /// is noted down (when a consumer was seen), never for what is due.
    pub clock: UnixMs,
    pub reply: Reply<'a>,
    pub fx: &'a mut Effect,
    pub options: &'a Options,
    pub rng: &'a mut Rng,
    pub touch: Touch,
    /// Which slots this core owns (SCAN ends its step at a foreign one).
    pub owns: &'a dyn Fn(u16) -> bool,
    /// A key whose hash is known already: its place in memory and its hash.
    pub hint: (*const [u8], u64),
}

impl<'a> Cx<'a> {
    /// Does the command come from a primary or an append-only file? Then what
    /// it says was decided there, and for it nothing is due yet.
    pub fn is_applied(&self) -> bool {
        self.now == 0
    }

    /// Splits off an entry found just before from the rest of the context.
    #[inline]
    fn apart<'r>(&'r mut self, entry: Option<*mut Entry>) -> (Option<&'r mut Entry>, Rest<'r, 'a>) {
        let rest = Rest {
            reply: &mut self.reply,
            fx: self.fx,
            rng: self.rng,
            options: self.options,
            db: self.db,
            now: self.now,
            clock: self.clock,
        };
        // SAFETY: the entry belongs to `self.store`, which `Rest` does not
        // reach and which stays borrowed through `self`.
        (entry.map(|e| unsafe { &mut *e }), rest)
    }

    /// [`Cx::read`], with the rest of the context usable beside the entry.
    #[inline]
    pub fn read_apart<'r>(&'r mut self, key: &Key) -> (Option<&'r Entry>, Rest<'r, 'a>) {
        let found = self.read(key).map(|e| std::ptr::from_ref(e).cast_mut());
        let (entry, rest) = self.apart(found);
        (entry.map(|e| &*e), rest)
    }

    /// [`Cx::find`], with the rest of the context usable beside the entry.
    #[inline]
    pub fn find_apart<'r>(&'r mut self, key: &Key) -> (Option<&'r mut Entry>, Rest<'r, 'a>) {
        let found = self.find(key).map(std::ptr::from_mut);
        self.apart(found)
    }

    /// [`Cx::read_collection`], with the rest of the context usable beside it.
    pub fn read_collection_apart<'r, C: Collection>(
        &'r mut self,
        key: &Key,
    ) -> Result<(Option<&'r C>, Rest<'r, 'a>), Fault> {
        let (entry, rest) = self.read_apart(key);
        Ok((typed_ref(entry)?, rest))
    }

    /// [`Cx::collection`], with the rest of the context usable beside it.
    pub fn collection_apart<'r, C: Collection>(
        &'r mut self,
        key: &Key,
    ) -> Result<(Option<&'r mut C>, Rest<'r, 'a>), Fault> {
        let (entry, rest) = self.find_apart(key);
        Ok((typed(entry)?, rest))
    }

    /// [`Cx::collection_apart`] that counts as reading, hit or miss: of commands
    /// that look at what is there before they change it.
    pub fn counted_collection_apart<'r, C: Collection>(
        &'r mut self,
        key: &Key,
    ) -> Result<(Option<&'r mut C>, Rest<'r, 'a>), Fault> {
        let found = self.find(key).map(std::ptr::from_mut);
        self.count_read(key, found.is_some());
        let (entry, rest) = self.apart(found);
        Ok((typed(entry)?, rest))
    }

    /// Loads ahead what a command over several keys will look at; to be called
    /// with [`ahead::KEYS`] of them at most.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k &'k [u8]>) {
        let mut hashes = [0; ahead::KEYS];
        let mut n = 0;
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = hash_key(key);
            n += 1;
        }
        if n > 1 {
            self.store.prefetch_keys(self.db, &hashes[..n]);
        }
    }

    /// The key with its hash, computed at most once per command.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        // An empty argument begins where the next one does: lengths count, too.
        if std::ptr::eq(bytes, self.hint.0) { Key { bytes, hash: self.hint.1 } } else { Key::new(bytes) }
    }

    /// The entry of a key that exists now. One past its deadline is deleted
    /// and recorded as expired, as are fields past theirs. Marks the access.
    #[inline]
    pub fn find(&mut self, key: &Key) -> Option<&mut Entry> {
        let entry: *mut Entry = self.store.get_mut(self.db, key)?;
        // SAFETY: the pointer is from a borrow of `self.store` that nothing
        // has used since; the detour only ends that borrow on the other path.
        let entry = unsafe { &mut *entry };
        if entry.volatile() {
            if entry.volatile_hash().is_some() {
                return self.find_fields(key);
            }
            if entry.expired(self.now) {
                self.expire(key);
                return None;
            }
        }
        self.mark_access(entry);
        Some(entry)
    }

    /// [`Cx::find`] for what will not be changed: a snapshot need not know, and
    /// where deletions come from elsewhere or may not be made, what is past its
    /// deadline is hidden and stays.
    #[inline]
    fn look_up(&mut self, key: &Key) -> Option<&Entry> {
        let entry: *const Entry = self.store.get(self.db, key)?;
        // SAFETY: as in `find`.
        let entry = unsafe { &*entry };
        if entry.volatile() {
            let keep = self.options.keep_expired;
            let due = entry.volatile_hash().and_then(Hash::next_deadline).is_some_and(|d| d <= self.now);
            if due && !keep {
                return self.find_fields(key).map(|e| &*e);
            }
            if entry.expired(self.now) {
                if !keep {
                    self.expire(key);
                }
                return None;
            }
        }
        self.mark_access(entry);
        Some(entry)
    }

    /// [`Cx::find`] of a hash whose fields may have deadlines.
    #[cold]
    fn find_fields(&mut self, key: &Key) -> Option<&mut Entry> {
        if self.store.get(self.db, key)?.deadline().is_some_and(|d| d <= self.now) {
            self.expire(key);
            return None;
        }
        expire_fields(self.store, self.fx, self.db, key, self.now);
        let entry: *mut Entry = self.store.get_mut(self.db, key)?;
        // SAFETY: as in `find`.
        let entry = unsafe { &mut *entry };
        self.mark_access(entry);
        Some(entry)
    }

    #[inline]
    fn mark_access(&mut self, entry: &Entry) {
        match self.touch {
            Touch::Lru(clock) => entry.set_clock(clock),
            Touch::Lfu { minutes, log_factor, decay_minutes } => {
                let clock = clock::lfu_touched(entry.clock(), minutes, log_factor, decay_minutes, self.rng);
                entry.set_clock(clock);
            }
            Touch::Not => {}
        }
    }

    #[cold]
    fn expire(&mut self, key: &Key) {
        self.store.delete(self.db, key);
        self.record_expired(key);
    }

    fn record_expired(&mut self, key: &Key) {
        self.store.stats.expired += 1;
        self.fx.expired(self.db, key.bytes);
    }

    /// [`Cx::find`] for reading commands: counts hits and misses, and leaves an
    /// expired key in place while writing is paused.
    #[inline]
    pub fn read(&mut self, key: &Key) -> Option<&Entry> {
        // A second look-up would cost more than this detour around the borrow.
        let found: Option<*const Entry> = self.look_up(key).map(std::ptr::from_ref);
        self.count_read(key, found.is_some());
        // SAFETY: as in `find`; counting does not touch the tables.
        found.map(|e| unsafe { &*e })
    }

    #[inline]
    fn count_read(&mut self, key: &Key, found: bool) {
        if found {
            self.store.stats.hits += 1;
            return;
        }
        self.store.stats.misses += 1;
        if self.fx.wants_events {
            self.fx.event(Class::Miss, "keymiss", self.db, key.bytes);
        }
    }

    /// [`Cx::read`] that counts neither hit nor miss and leaves the access clock
    /// alone (SCAN, MEMORY USAGE).
    pub fn peek(&mut self, key: &Key) -> Option<&Entry> {
        let touch = std::mem::replace(&mut self.touch, Touch::Not);
        let found: Option<*const Entry> = self.look_up(key).map(std::ptr::from_ref);
        self.touch = touch;
        // SAFETY: as in `find`; only a plain field was assigned since.
        found.map(|e| unsafe { &*e })
    }

    /// [`Cx::read`] without marking the access (EXISTS, TYPE, TTL, OBJECT).
    pub fn read_untouched(&mut self, key: &Key) -> Option<&Entry> {
        let touch = std::mem::replace(&mut self.touch, Touch::Not);
        let found: Option<*const Entry> = self.read(key).map(std::ptr::from_ref);
        self.touch = touch;
        // SAFETY: as in `find`; only a plain field was assigned since.
        found.map(|e| unsafe { &*e })
    }

    /// [`Cx::read_untouched`] that tells nobody of a miss (OBJECT).
    pub fn read_unheard(&mut self, key: &Key) -> Option<&Entry> {
        let found: Option<*const Entry> = self.read_untouched(key).map(std::ptr::from_ref);
        if found.is_none() {
            // Not that the key has expired, which comes before.
            self.fx.events.pop_if(|e| e.class == Class::Miss);
        }
        // SAFETY: as in `find`; only the list of events was changed since.
        found.map(|e| unsafe { &*e })
    }

    /// For commands that change keys: what is past its deadline goes.
    pub fn exists(&mut self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// The bytes of a string key, for reading.
    #[inline]
    pub fn read_string(&mut self, key: &Key) -> Result<Option<&[u8]>, Fault> {
        match self.read(key) {
            None => Ok(None),
            Some(e) => e.as_str().map(Some).ok_or(WRONG_TYPE),
        }
    }

    /// The entry of a string key, for changing.
    pub fn string_entry(&mut self, key: &Key) -> Result<Option<&mut Entry>, Fault> {
        match self.find(key) {
            None => Ok(None),
            Some(e) if e.is_string() => Ok(Some(e)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// A collection for reading (counts hits and misses).
    pub fn read_collection<C: Collection>(&mut self, key: &Key) -> Result<Option<&C>, Fault> {
        typed_ref(self.read(key))
    }

    /// A collection for reading once more.
    pub fn peek_collection<C: Collection>(&mut self, key: &Key) -> Result<Option<&C>, Fault> {
        typed_ref(self.peek(key))
    }

    /// A collection for changing.
    pub fn collection<C: Collection>(&mut self, key: &Key) -> Result<Option<&mut C>, Fault> {
        typed(self.find(key))
    }

    /// A collection for adding to, made when it is missing. The caller adds at
    /// least one element or calls [`Cx::delete_if_empty`].
    pub fn collection_or_new<C: Collection>(&mut self, key: &Key) -> Result<&mut C, Fault> {
        if self.find(key).is_none() {
            let clock = self.fresh_clock();
            let entry = Entry::object(key.bytes, C::default().wrap(), None);
            entry.set_clock(clock);
            self.store.insert_new(self.db, key.hash, entry);
            self.fx.event(Class::New, "new", self.db, key.bytes);
        }
        let entry = self.store.get_mut(self.db, key).and_then(Entry::as_object_mut);
        entry.and_then(C::of_mut).ok_or(WRONG_TYPE)
    }

    /// [`Cx::collection_or_new`], with the rest of the context usable beside it.
    #[inline]
    pub fn collection_or_new_apart<'r, C: Collection>(
        &'r mut self,
        key: &Key,
    ) -> Result<(&'r mut C, Rest<'r, 'a>), Fault> {
        let found = match self.find(key).map(std::ptr::from_mut) {
            Some(e) => e,
            None => std::ptr::from_mut(self.create::<C>(key)),
        };
        let (entry, rest) = self.apart(Some(found));
        Ok((typed(entry)?.ok_or(WRONG_TYPE)?, rest))
    }

    fn create<C: Collection>(&mut self, key: &Key) -> &mut Entry {
        self.fx.event(Class::New, "new", self.db, key.bytes);
        let entry = Entry::object(key.bytes, C::default().wrap(), None);
        entry.set_clock(self.fresh_clock());
        self.store.insert_new(self.db, key.hash, entry)
    }

    /// Deletes a collection that has become empty, with its `del` event.
    pub fn delete_if_empty(&mut self, key: &Key) -> bool {
        let empty = self.store.get(self.db, key).and_then(Entry::as_object).is_some_and(Object::is_empty);
        if empty {
            self.store.delete(self.db, key);
            self.fx.event(Class::Generic, "del", self.db, key.bytes);
        }
        empty
    }

    /// The access clock of a new entry.
    #[inline]
    pub fn fresh_clock(&self) -> u32 {
        match self.touch {
            Touch::Lru(clock) => clock,
            Touch::Lfu { minutes, .. } => clock::lfu(clock::LFU_INITIAL, minutes),
            Touch::Not if self.options.lfu_policy => clock::lfu(clock::LFU_INITIAL, clock::minutes(self.now)),
            Touch::Not => clock::lru(self.now),
        }
    }

    /// Sets a string, replacing whatever the key held. No event, no stream.
    #[inline]
    pub fn set_string(&mut self, key: &Key, value: &[u8], ttl: Ttl) {
        let at = match ttl {
            Ttl::At(d) => Some(d),
            Ttl::Clear | Ttl::Keep => None,
        };
        let clock = self.fresh_clock();
        let Some(entry) = self.store.get_mut(self.db, key) else {
            return self.insert_string(key, value, at);
        };
        let had = entry.deadline();
        if had.is_some_and(|d| d <= self.now) {
            // What is past its deadline must be recorded as such, and KEEPTTL
            // must not find it.
            self.expire(key);
            return self.insert_string(key, value, at);
        }
        let freed = entry.take_object();
        if freed.is_some() {
            let fresh = Entry::string(key.bytes, value, had);
            fresh.set_clock(clock);
            entry.replace(fresh);
        } else if value.len() > INLINE_MAX {
            self.replace_long(key, value, had);
        } else {
            entry.set_string(value);
            entry.set_clock(clock);
        }
        if let Some(o) = freed {
            self.store.discard_object(o);
        }
        if ttl != Ttl::Keep && had != at {
            self.store.set_deadline(self.db, key, at);
        }
    }

    /// The same with a string that is taken over, and no deadline.
    pub fn take_string(&mut self, key: &Key, value: Vec<u8>) {
        if value.len() <= INLINE_MAX {
            return self.set_string(key, &value, Ttl::Clear);
        }
        let known = self.find(key).is_some();
        let entry = Entry::boxed_string(key.bytes, value, None);
        entry.set_clock(self.fresh_clock());
        if known {
            return self.store.put_hashed(self.db, key.hash, entry);
        }
        self.store.insert_new(self.db, key.hash, entry);
        self.fx.event(Class::New, "new", self.db, key.bytes);
    }

    /// Replaces a string by a long one, which may take the receive buffer over.
    #[cold]
    fn replace_long(&mut self, key: &Key, value: &[u8], deadline: Option<UnixMs>) {
        let fresh = self.store.string_entry(key.bytes, value, deadline);
        fresh.set_clock(self.fresh_clock());
        self.store.put_hashed(self.db, key.hash, fresh);
    }

    #[inline]
    fn insert_string(&mut self, key: &Key, value: &[u8], deadline: Option<UnixMs>) {
        let entry = self.store.string_entry(key.bytes, value, deadline);
        entry.set_clock(self.fresh_clock());
        self.store.insert_new(self.db, key.hash, entry);
        self.fx.event(Class::New, "new", self.db, key.bytes);
    }

    /// Puts a whole new object under a key, replacing whatever it held.
    pub fn set_object(&mut self, key: &Key, object: Object, deadline: Option<UnixMs>) {
        let entry = Entry::object(key.bytes, object, deadline);
        entry.set_clock(self.fresh_clock());
        self.store.put_hashed(self.db, key.hash, entry);
    }

    /// Deletes a key; false when there was none. No event, no stream.
    pub fn delete(&mut self, key: &Key) -> bool {
        let Some(entry) = self.store.take(self.db, key) else { return false };
        let expired = entry.expired(self.now);
        self.store.discard(entry);
        if expired {
            self.record_expired(key);
        }
        !expired
    }

    /// Runs `f` on another database (MOVE, COPY). What it adds to the stream
    /// is marked as belonging there.
    pub fn in_db<R>(&mut self, db: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        let home = std::mem::replace(&mut self.db, db);
        let before = self.fx.stream.len();
        let r = f(self);
        self.db = home;
        if db != home {
            self.fx.move_to_db(before, db);
        }
        r
    }

    /// Records an event of the current database.
    #[inline]
    pub fn event(&mut self, class: Class, name: &'static str, key: &[u8]) {
        self.fx.event(class, name, self.db, key);
    }
}

fn typed_ref<C: Collection>(entry: Option<&Entry>) -> Result<Option<&C>, Fault> {
    match entry {
        None => Ok(None),
        Some(e) => e.as_object().and_then(C::of).map(Some).ok_or(WRONG_TYPE),
    }
}

/// Removes the fields of a hash that are past their deadlines, and the hash
/// when none is left.
pub fn expire_fields(store: &mut Store, fx: &mut Effect, db: usize, key: &Key, now: UnixMs) {
    let before = store.get(db, key).and_then(Entry::volatile_hash).and_then(Hash::next_deadline);
    if before.is_none_or(|d| d > now) {
        return;
    }
    let Some(hash) = store.get_mut(db, key).and_then(Entry::volatile_hash_mut) else { return };
    let gone = hash.take_due(now);
    let empty = hash.is_empty();
    store.fields_changed(db, key, before);
    if empty {
        store.delete(db, key);
    }
    store.stats.expired_fields += gone.len() as u64;
    let mut command: Vec<&[u8]> = vec![b"HDEL", key.bytes];
    command.extend(gone.iter().map(|f| &f[..]));
    fx.rewrite(gone.len() as u64, &command);
    fx.event(Class::Hash, "hexpired", db, key.bytes);
    if empty {
        fx.event(Class::Generic, "del", db, key.bytes);
    }
}

fn typed<C: Collection>(entry: Option<&mut Entry>) -> Result<Option<&mut C>, Fault> {
    match entry {
        None => Ok(None),
        Some(e) => e.as_object_mut().and_then(C::of_mut).map(Some).ok_or(WRONG_TYPE),
    }
}
