//! Loading a file into the stores of several cores.
//!
//! One thread has the bytes: its [`Splitter`] takes them apart and sorts the
//! records by the core that owns their slot, into [`Batch`]es. Each core has an
//! [`Intake`] that makes entries of a batch's records and puts them into its
//! store; so decoding, which is most of the work, is done by all cores at once.
//! How batches travel is the server's business.
//!
//! The splitter is sans-IO like the [`Scanner`] in it: a file, an append-only
//! file's preamble and a socket feed it alike.

use std::collections::VecDeque;

use super::access;
use super::rdb::decode::{Builder, Decoder, Limits};
use super::rdb::encode::Access;
use super::rdb::read::{Bytes, Fault};
use super::rdb::scan::{Error, Event, Part, Record, Scanner, Sum};
use crate::base::clock::UnixMs;
use crate::base::memory;
use crate::base::slot::{Key, SLOTS, slot_of_hash};
use crate::command::cx::Options;
use crate::observe::log;
use crate::store::Store;
use crate::store::clock::LFU_INITIAL;
use crate::store::entry::Entry;

/// A batch is handed on when its records have so many bytes.
pub const BATCH_BYTES: usize = 128 << 10;

/// And when it has so many records.
const BATCH_RECORDS: usize = 4096;

/// Records whose places in the tables are fetched into the cache together.
const AHEAD: usize = 32;

/// So many empty keys are named in the log.
const EMPTY_NAMED: u64 = 10;

/// One record of a batch; key and body stand in its bytes.
struct Item {
    hash: u64,
    db: u32,
    kind: u8,
    part: Part,
    access: Access,
    deadline: Option<UnixMs>,
    key_len: usize,
    body_len: usize,
    /// Entries to make room for in the key's slot.
    expected: u32,
    /// Where the body stands in the file.
    offset: u64,
}

/// Records for one core.
#[derive(Default)]
pub struct Batch {
    items: Vec<Item>,
    /// Keys and bodies by turns.
    bytes: Vec<u8>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.items.len() >= BATCH_RECORDS
    }

    /// An empty one that will take about as many records.
    fn successor(&self) -> Batch {
        let items = (self.items.len() + self.items.len() / 16).min(BATCH_RECORDS);
        Batch { items: Vec::with_capacity(items), bytes: Vec::new() }
    }

    fn push(&mut self, (db, expected): (u32, u32), hash: u64, r: &Record) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(BATCH_BYTES + BATCH_BYTES / 8);
        }
        self.bytes.extend_from_slice(r.key);
        self.bytes.extend_from_slice(r.body);
        self.items.push(Item {
            hash,
            db,
            kind: r.kind,
            part: r.part,
            access: r.access,
            deadline: r.deadline,
            key_len: r.key.len(),
            body_len: r.body.len(),
            expected,
            offset: r.offset,
        });
    }
}

/// Bytes of a string at most in what is loaded: as many as a client could have
/// sent, or more where there is memory for them thrice, as they come, on their way
/// to their core and as what they are there. Redis takes as long ones as it can
/// allocate.
pub fn longest_string(proto_max_bulk_len: u64) -> u64 {
    const USUAL: u64 = 512 << 20;
    proto_max_bulk_len.max(USUAL).max(memory::available().unwrap_or(0) / 3)
}

/// What a file says about itself, as far as anyone asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub server_version: Option<String>,
    /// Unix seconds.
    pub made_unix_s: Option<u64>,
    pub used_memory: Option<u64>,
    /// The place in a replication stream: identifier, offset, database.
    pub replication_id: Option<String>,
    pub replication_offset: Option<u64>,
    pub replication_db: Option<u32>,
    /// It is the base of an append-only file.
    pub aof_base: bool,
    /// Sources of function libraries.
    pub functions: Vec<Vec<u8>>,
}

impl About {
    /// Takes note of an auxiliary field, and of it in the log.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        log_field(name, value);
        let text = || String::from_utf8_lossy(value).into_owned();
        let number = || text().parse::<u64>().ok();
        match name {
            b"redis-ver" | b"valkey-ver" => self.server_version = Some(text()),
            b"ctime" => self.made_unix_s = number(),
            b"used-mem" => self.used_memory = number(),
            b"repl-id" => self.replication_id = Some(text()),
            b"repl-offset" => self.replication_offset = number(),
            b"repl-stream-db" => self.replication_db = number().and_then(|n| u32::try_from(n).ok()),
            b"aof-base" => self.aof_base = number() == Some(1),
            _ => {}
        }
    }
}

/// Says in the log what Redis says of an auxiliary field, wherever the snapshot
/// comes from.
pub fn log_field(name: &[u8], value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    let number = text.parse::<u64>().ok();
    match name {
        b"redis-ver" | b"valkey-ver" => log::notice(format_args!("Loading RDB produced by version {text}")),
        b"ctime" => {
            let now = crate::base::clock::now_ms() / 1000;
            let age = now.saturating_sub(number.unwrap_or(now));
            log::notice(format_args!("RDB age {age} seconds"));
        }
        b"used-mem" => {
            let mb = number.unwrap_or(0) as f64 / f64::from(1 << 20);
            log::notice(format_args!("RDB memory usage when created {mb:.2} Mb"));
        }
        b"aof-base" if number == Some(1) => log::notice(format_args!("RDB is base AOF")),
        b"repl-id" | b"repl-offset" | b"repl-stream-db" | b"aof-base" => {}
        b"redis-bits" | b"aof-preamble" | b"lua" => {}
        _ if name.first() == Some(&b'%') => {
            log::notice(format_args!("RDB '{}': {}", name.escape_ascii(), value.escape_ascii()));
        }
        _ => log::debug(format_args!("Unrecognized RDB AUX field: '{}'", name.escape_ascii())),
    }
}

/// What became of the bytes so far.
pub enum Step {
    /// All of them are used: [`Splitter::scanner`] wants more.
    More,
    /// A batch for this core.
    Batch(usize, Batch),
    /// All batches have been handed on, and the checksum is right.
    End,
}

/// See the module's description.
pub struct Splitter {
    scanner: Scanner,
    /// The core that owns each slot.
    map: Box<[u16]>,
    databases: u64,
    db: u32,
    /// Entries to make room for in each slot of the database.
    expected: u32,
    /// Bytes that will come at most, as far as that is known.
    size: u64,
    open: Vec<Batch>,
    full: VecDeque<(usize, Batch)>,
    about: About,
    records: u64,
    ended: bool,
}

impl Splitter {
    /// `map`: the core that owns each slot. `checksum`: is it to be verified?
    pub fn new(map: Box<[u16]>, cores: usize, databases: usize, checksum: bool) -> Splitter {
        Splitter {
            scanner: Scanner::new(checksum),
            map,
            databases: databases as u64,
            db: 0,
            expected: 0,
            size: 0,
            open: (0..cores).map(|_| Batch::default()).collect(),
            full: VecDeque::new(),
            about: About::default(),
            records: 0,
            ended: false,
        }
    }

    /// So many bytes will come at most. Only if that is known, room is made for as
    /// many keys as a file says it has: it cannot have more than they allow.
    pub fn set_size(&mut self, bytes: u64) {
        self.size = bytes;
        self.scanner.set_size(bytes);
    }

    /// Longer strings are refused.
    pub fn set_longest(&mut self, bytes: u64) {
        self.scanner.set_longest(bytes);
    }

    /// For pushing bytes and for the place in the file.
    pub fn scanner(&mut self) -> &mut Scanner {
        &mut self.scanner
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// Records (and parts of such) handed on so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Goes on to the next full batch, or to the end of the bytes.
    #[allow(clippy::should_implement_trait, reason = "it may answer More any number of times")]
    pub fn next(&mut self) -> Result<Step, Error> {
        loop {
            if let Some((core, batch)) = self.full.pop_front() {
                return Ok(Step::Batch(core, batch));
            }
            if self.ended {
                return Ok(Step::End);
            }
            if !self.take_event()? {
                return Ok(Step::More);
            }
        }
    }

    /// Handles one event; false when there is none.
    fn take_event(&mut self) -> Result<bool, Error> {
        let Some(event) = self.scanner.next()? else { return Ok(false) };
        let fault = match event {
            Event::Record(r) => {
                let hash = Key::new(r.key).hash;
                let core = usize::from(self.map[slot_of_hash(hash) as usize]);
                let batch = &mut self.open[core];
                batch.push((self.db, self.expected), hash, &r);
                self.records += 1;
                if batch.is_full() {
                    let next = batch.successor();
                    self.full.push_back((core, std::mem::replace(batch, next)));
                }
                return Ok(true);
            }
            Event::Select(db) if db >= self.databases => Fault::Unsupported(format!(
                "FATAL: Data file was created with a server configured to handle more than {} databases",
                self.databases
            )),
            Event::Select(db) => {
                (self.db, self.expected) = (db as u32, 0);
                return Ok(true);
            }
            Event::Aux { name, value } => {
                self.about.note(&name, &value);
                return Ok(true);
            }
            Event::Function(source) => {
                self.about.functions.push(source);
                return Ok(true);
            }
            Event::ModuleAux(id) => Fault::Unsupported(format!(
                "The RDB file contains AUX module data I can't load: no matching module '{}'",
                super::rdb::module_name(id)
            )),
            Event::End(sum) => {
                if sum == Sum::Zero {
                    log::notice(format_args!("RDB file was saved with checksum disabled: no check performed."));
                }
                self.end();
                return Ok(true);
            }
            Event::Resize { keys, .. } => {
                self.expected = expected_in_slot(keys, self.size);
                return Ok(true);
            }
            Event::Version { .. } => return Ok(true),
        };
        Err(Error { fault, offset: self.scanner.offset(), record: None })
    }

    fn end(&mut self) {
        self.ended = true;
        for (core, batch) in self.open.iter_mut().enumerate() {
            if !batch.is_empty() {
                self.full.push_back((core, std::mem::take(batch)));
            }
        }
    }
}

/// A key with its value takes at least so many bytes of a file.
const RECORD_BYTES_MIN: u64 = 3;

/// How many entries most slots get, when a file of `size` bytes says that it has
/// so many keys: nearly the mean, less their usual deviation from it, so that
/// slots that get few take no memory for nothing.
pub fn expected_in_slot(keys: u64, size: u64) -> u32 {
    let mean = keys.min(size / RECORD_BYTES_MIN) / SLOTS as u64;
    (mean - mean.isqrt()).try_into().unwrap_or(u32::MAX)
}

/// How a file is to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Leave out what is past its deadline at this time (a primary does; a
    /// replica keeps such keys until its primary deletes them).
    pub drop_expired_at: Option<UnixMs>,
    /// A key that exists is replaced (DEBUG RELOAD NOFLUSH); else it is an error.
    pub replace: bool,
    /// Look for duplicates in compact encodings (`sanitize-dump-payload yes`).
    pub deep: bool,
}

/// What was done with the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub loaded: u64,
    pub expired: u64,
    pub empty: u64,
}

/// Puts batches into one core's store.
pub struct Intake {
    decoder: Decoder,
    how: How,
    lfu: bool,
    now: UnixMs,
    /// A collection whose last part has not come yet.
    building: Option<Builder>,
    pub counts: Counts,
}

impl Intake {
    /// `now`: the time by which access clocks are set.
    pub fn new(options: &Options, how: How, now: UnixMs) -> Intake {
        Intake {
            decoder: Decoder::new(Limits::new(options), how.deep),
            how,
            lfu: options.lfu_policy,
            now,
            building: None,
            counts: Counts::default(),
        }
    }

    /// Puts all records of a batch into the store. After an error the store
    /// holds a part of them.
    pub fn apply(&mut self, store: &mut Store, batch: &Batch) -> Result<(), Error> {
        let mut bytes = Bytes::new(&batch.bytes);
        for items in batch.items.chunks(AHEAD) {
            items.iter().for_each(|i| store.prefetch_table(i.db as usize, i.hash));
            items.iter().for_each(|i| store.prefetch_bucket(i.db as usize, i.hash));
            for item in items {
                let short = |_| Error { fault: Fault::Short, offset: item.offset, record: None };
                let key = bytes.take(item.key_len as u64).map_err(short)?;
                let body = bytes.take(item.body_len as u64).map_err(short)?;
                self.one(store, item, key, body).map_err(|fault| Error {
                    fault,
                    offset: item.offset,
                    record: Some((item.kind, key.to_vec())),
                })?;
            }
        }
        store.stats.sanitized += self.decoder.take_looked_through();
        Ok(())
    }

    fn one(&mut self, store: &mut Store, item: &Item, key: &[u8], body: &[u8]) -> Result<(), Fault> {
        if let (Some(at), Some(d)) = (self.how.drop_expired_at, item.deadline)
            && d < at
        {
            self.counts.expired += u64::from(item.part.ends());
            return Ok(());
        }
        let entry = match self.entry(item, key, body) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(()),
            Err(Fault::Empty) => {
                self.skip_empty(key);
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let fresh = if self.lfu { Access::Freq(LFU_INITIAL) } else { Access::Idle(0) };
        let clock = access::clock(item.access, self.lfu, self.now).or(access::clock(fresh, self.lfu, self.now));
        entry.set_clock(clock.unwrap_or_default());
        let (db, known) = (item.db as usize, Key { bytes: key, hash: item.hash });
        if store.get(db, &known).is_none() {
            store.expect(db, item.hash, item.expected as usize);
            store.insert_new(db, item.hash, entry);
        } else if self.how.replace {
            store.put_hashed(db, item.hash, entry);
        } else {
            log::warning(format_args!("RDB has duplicated key '{}' in DB {db}", key.escape_ascii()));
            return Err(Fault::corrupt("Duplicated key found in RDB file"));
        }
        self.counts.loaded += 1;
        Ok(())
    }

    fn entry(&mut self, item: &Item, key: &[u8], body: &[u8]) -> Result<Option<Entry>, Fault> {
        if item.part == Part::Whole {
            return self.decoder.entry(item.kind, key, body, item.deadline).map(Some);
        }
        let mut bytes = Bytes::new(body);
        let mut builder = match self.building.take() {
            Some(b) if !item.part.begins() => b,
            _ => self.decoder.begin(item.kind, &mut bytes)?,
        };
        self.decoder.feed(&mut builder, &mut bytes)?;
        if !item.part.ends() {
            self.building = Some(builder);
            return Ok(None);
        }
        Ok(Some(Entry::object(key, builder.finish()?, item.deadline)))
    }

    /// Old versions could write them by a bug; they are left out.
    fn skip_empty(&mut self, key: &[u8]) {
        self.counts.empty += 1;
        if self.counts.empty <= EMPTY_NAMED {
            log::notice(format_args!("rdbLoadObject skipping empty key: {}", key.escape_ascii()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::rdb::Version;
    use crate::snapshot::rdb::encode::Encoder;
    use crate::snapshot::rdb::frame::{self, Frame};
    use crate::store::entry::Value;
    use crate::store::object::Object;
    use crate::store::set::Set;

    const HOW: How = How { drop_expired_at: Some(100), replace: false, deep: true };

    fn file(entries: &[Entry]) -> Vec<u8> {
        let about = frame::About {
            server_version: "7.2.4",
            made_unix_s: 1,
            used_memory: 7,
            replication: Some(frame::Stream { db: 2, id: "abc", offset: 77 }),
            aof_base: false,
        };
        let (mut frame, mut out) = (Frame::new(true), Vec::new());
        let mut encoder = Encoder::new(Version::V10, true);
        frame.begin(&mut out, Version::V10, &about);
        frame.select(&mut out, 1, None);
        for e in entries {
            let mut record = Vec::new();
            encoder.record(&mut record, e, Access::Idle(50));
            frame.records(&record);
            out.extend_from_slice(&record);
        }
        frame.end(&mut out);
        out
    }

    fn load(file: &[u8], cores: usize, how: How) -> Result<(Vec<Store>, Counts, About), Error> {
        let map: Box<[u16]> = (0..SLOTS).map(|s| (s * cores / SLOTS) as u16).collect();
        let mut splitter = Splitter::new(map, cores, 2, true);
        let mut stores: Vec<Store> = (0..cores).map(|_| Store::new(2)).collect();
        let options = Options::default();
        let mut intakes: Vec<Intake> = (0..cores).map(|_| Intake::new(&options, how, 1_000_000)).collect();
        let mut chunks = file.chunks(999);
        loop {
            match splitter.next()? {
                Step::More => match chunks.next() {
                    Some(c) => splitter.scanner().push(c),
                    None => splitter.scanner().close(),
                },
                Step::Batch(core, batch) => intakes[core].apply(&mut stores[core], &batch)?,
                Step::End => break,
            }
        }
        let sum = |f: fn(&Counts) -> u64| intakes.iter().map(|i| f(&i.counts)).sum();
        let counts = Counts { loaded: sum(|c| c.loaded), expired: sum(|c| c.expired), empty: sum(|c| c.empty) };
        Ok((stores, counts, splitter.about().clone()))
    }

    #[test]
    fn records_come_to_the_owners_of_their_slots() {
        let mut big = Set::default();
        let limits = Limits::new(&Options::default()).set;
        (0..60_000).for_each(|i| {
            big.add(format!("a member of the set {i}").as_bytes(), limits);
        });
        let mut entries: Vec<Entry> = (0..20_000)
            .map(|i| Entry::string(format!("key:{i}").as_bytes(), b"value", (i % 4 == 0).then_some(i % 8 * 50 + 50)))
            .collect();
        entries.push(Entry::object(b"big", Object::Set(big), None));
        let file = file(&entries);
        for cores in [1, 3] {
            let (stores, counts, about) = load(&file, cores, HOW).unwrap();
            assert_eq!(counts, Counts { loaded: 17_501, expired: 2500, empty: 0 });
            assert_eq!(
                (about.replication_offset, about.replication_db, about.used_memory),
                (Some(77), Some(2), Some(7))
            );
            assert_eq!(stores.iter().map(|s| s.len(1)).sum::<usize>(), 17_501);
            let found = stores.iter().find_map(|s| s.get(1, &Key::new(b"big"))).unwrap();
            assert!(matches!(found.value(), Value::Object(Object::Set(s)) if s.len() == 60_000));
            let (_, all, _) = load(&file, cores, How { drop_expired_at: None, ..HOW }).unwrap();
            assert_eq!((all.loaded, all.expired), (20_001, 0));
        }
    }

    #[test]
    fn no_more_keys_are_expected_than_a_file_can_have() {
        assert_eq!(expected_in_slot(2_000_000, 0), 0);
        assert_eq!(expected_in_slot(2_000_000, 62_000_000), 122 - 11);
        assert_eq!(expected_in_slot(u64::MAX, 3 << 14), 0);
        assert_eq!(expected_in_slot(u64::MAX, 3 << 20), 64 - 8);
        assert_eq!(expected_in_slot(u64::MAX, u64::MAX), u32::MAX);
    }

    #[test]
    fn room_is_made_for_the_keys_that_a_file_announces() {
        let n = 300_000u32;
        let mut file = Vec::new();
        let about = frame::About {
            server_version: "7.2.4",
            made_unix_s: 1,
            used_memory: 7,
            replication: None,
            aof_base: false,
        };
        let (mut frame, mut encoder) = (Frame::new(true), Encoder::new(Version::V10, true));
        frame.begin(&mut file, Version::V10, &about);
        frame.select(&mut file, 1, Some((u64::from(n), 0)));
        let mut records = Vec::new();
        (0..n).for_each(|i| {
            encoder.record(&mut records, &Entry::string(&i.to_le_bytes(), b"v", None), Access::None);
        });
        frame.records(&records);
        file.extend_from_slice(&records);
        frame.end(&mut file);
        let load = |size| {
            let mut splitter = Splitter::new(vec![0; SLOTS].into(), 1, 2, true);
            splitter.set_size(size);
            let (mut store, mut intake) = (Store::new(2), Intake::new(&Options::default(), HOW, 1_000_000));
            splitter.scanner().push(&file);
            splitter.scanner().close();
            while let Step::Batch(_, batch) = splitter.next().unwrap() {
                intake.apply(&mut store, &batch).unwrap();
            }
            store
        };
        let (sized, grown) = (load(file.len() as u64), load(0));
        assert_eq!((sized.len(1), grown.len(1)), (n as usize, n as usize));
        let tables = |s: &Store| s.db(1).unwrap().table_bytes() as f64;
        assert!(tables(&sized) < tables(&grown) * 1.05, "{} and {}", tables(&sized), tables(&grown));
        assert!((0..n).all(|i| sized.get(1, &Key::new(&i.to_le_bytes())).is_some()));
    }

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let twice = [Entry::string(b"k", b"1", None), Entry::string(b"k", b"2", None)];
        let error = load(&file(&twice), 2, HOW).err().expect("an error");
        assert!(error.to_string().contains("Duplicated key") && error.to_string().contains("key 'k'"), "{error}");
        assert!(load(&file(&twice), 2, How { replace: true, ..HOW }).is_ok());
        let mut bad = file(&[]);
        let at = bad.iter().rposition(|b| *b == 0xFE).unwrap();
        bad[at + 1] = 2;
        let error = load(&bad, 1, HOW).err().expect("an error");
        assert!(error.to_string().contains("more than 2 databases"), "{error}");
    }
}
