//! Loading a snapshot, in parallel over the cores.
//!
//! The service core takes the file apart ([`Scanner`]) and sends every record
//! to the core of its key, which decodes it. Entries gather beside the
//! keyspace; [`Loader::install`] puts them into its place on all cores at once.
//! So a file that turns out to be broken never shows half.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::core::Core;
use super::image::Want;
use super::service::Service;
use crate::base::slot::{Key, slot_of_hash};
use crate::snapshot::access;
use crate::snapshot::load::{expected_in_slot, log_field, longest_string};
use crate::snapshot::rdb::decode::{Builder, Decoder, Limits};
use crate::snapshot::rdb::encode::Access;
use crate::snapshot::rdb::read::{Bytes, Fault};
use crate::snapshot::rdb::scan::{Event, Part, Record, Scanner};
use crate::store::Store;
use crate::store::clock;
use crate::store::entry::Entry;

/// Records, and bytes of them, that go to a core together.
const BATCH_RECORDS: usize = 1024;
const BATCH_BYTES: usize = 512 << 10;

/// Bytes on their way to the cores at most; then the loader waits.
const FLIGHT_BYTES: usize = 16 << 20;

/// What comes without saying how long it is (a primary's diskless snapshot) is
/// taken to be of this size when room is made for the keys that it announces.
const UNKNOWN_BYTES: u64 = 64 << 20;

/// Records for one core.
#[derive(Default)]
pub struct Records {
    heads: Vec<Head>,
    data: Vec<u8>,
}

struct Head {
    db: u32,
    hash: u64,
    /// Entries that its slot will have, about.
    expected: u32,
    kind: u8,
    part: Part,
    access: Access,
    deadline: Option<u64>,
    key: usize,
    body: usize,
    /// In the file, for errors.
    offset: u64,
}

/// What gathers on a core.
pub struct Incoming {
    store: Box<Store>,
    decoder: Decoder,
    /// A collection of which parts are still to come.
    open: Option<Open>,
    failed: Option<String>,
}

/// A collection under construction.
struct Open {
    key: Vec<u8>,
    deadline: Option<u64>,
    builder: Builder,
}

/// What the file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub stream_db: Option<u32>,
    pub repl_id: Option<Vec<u8>>,
    pub repl_offset: Option<u64>,
    pub keys: u64,
    pub functions: Vec<Vec<u8>>,
    pub ended: bool,
}

#[derive(Default)]
struct Flight {
    bytes: Cell<usize>,
    failed: RefCell<Option<String>>,
}

/// See the module's description.
pub struct Loader {
    service: Rc<Service>,
    scanner: Scanner,
    map: Arc<Vec<u16>>,
    /// Where records go now, and how many each slot will get, about.
    db: u32,
    expected: u32,
    /// Bytes of what is loaded.
    size: u64,
    databases: u32,
    batches: Vec<Records>,
    flight: Rc<Flight>,
    behind: u64,
    pub about: About,
}

impl Loader {
    /// Begins to load; what an earlier loader left unfinished is dropped.
    /// `size` is that of what is loaded, bytes, if it is known; `checked`: its
    /// checksum is known to be right.
    pub async fn begin(service: &Rc<Service>, size: Option<u64>, checked: bool) -> Loader {
        let s = service.shared.config.settings();
        service.ask_all(Core::begin_incoming).await;
        let mut scanner = Scanner::new(s.persistence.rdbchecksum && !checked);
        scanner.set_longest(longest_string(s.proto_max_bulk_len));
        if let Some(size) = size {
            scanner.set_size(size);
        }
        Loader {
            scanner,
            map: service.shared.sequencer.map(),
            db: 0,
            expected: 0,
            size: size.unwrap_or(UNKNOWN_BYTES),
            databases: s.databases,
            batches: (0..service.shared.cores).map(|_| Records::default()).collect(),
            flight: Rc::default(),
            behind: 0,
            about: About::default(),
            service: service.clone(),
        }
    }

    /// Takes the next bytes of the file; what stands behind its end is dropped.
    pub async fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.about.ended {
            self.behind += bytes.len() as u64;
            return Ok(());
        }
        self.scanner.push(bytes);
        self.scan().await?;
        if self.about.ended {
            self.behind = self.scanner.rest().len() as u64;
        }
        Ok(())
    }

    /// Bytes that came behind the end.
    pub fn behind(&self) -> u64 {
        self.behind
    }

    /// The file has ended: everything must be there.
    pub async fn finish(&mut self) -> Result<(), String> {
        self.scanner.close();
        self.scan().await?;
        if !self.about.ended {
            return Err(format!("Unexpected end of file at offset {}", self.scanner.offset()));
        }
        (0..self.batches.len()).for_each(|core| self.send(core));
        while self.flight.bytes.get() > 0 {
            self.service.woken.wait().await;
        }
        self.verdict()
    }

    fn verdict(&self) -> Result<(), String> {
        self.flight.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Puts what was loaded into the place of the keyspace, on all cores at once.
    pub async fn install(self) {
        let cut = self.service.next_cut();
        self.service.image(cut, Want::Install).await;
    }

    /// Drops what was loaded.
    pub async fn give_up(self) {
        self.service.ask_all(|core| core.incoming = None).await;
    }

    async fn scan(&mut self) -> Result<(), String> {
        loop {
            let full = {
                match self.scanner.next().map_err(|e| e.to_string())? {
                    None => break,
                    Some(Event::Record(r)) => {
                        let hash = Key::new(r.key).hash;
                        let core = self.map[slot_of_hash(hash) as usize] as usize;
                        self.about.keys += u64::from(r.part.begins());
                        self.batches[core].add((self.db, self.expected), hash, &r);
                        self.batches[core].is_full().then_some(core)
                    }
                    Some(Event::Select(db)) => {
                        if db >= u64::from(self.databases) {
                            return Err(format!("The file has a database {db}; this server has {}", self.databases));
                        }
                        (self.db, self.expected) = (db as u32, 0);
                        None
                    }
                    Some(Event::Aux { name, value }) => {
                        self.about.note(&name, value);
                        None
                    }
                    Some(Event::Function(source)) => {
                        self.about.functions.push(source);
                        None
                    }
                    Some(Event::End(_)) => {
                        self.about.ended = true;
                        None
                    }
                    Some(Event::Resize { keys, .. }) => {
                        self.expected = expected_in_slot(keys, self.size);
                        None
                    }
                    Some(Event::ModuleAux(id)) => {
                        let name = crate::snapshot::rdb::module_name(id);
                        return Err(format!(
                            "The RDB file contains AUX module data I can't load: no matching module '{name}'"
                        ));
                    }
                    Some(Event::Version { .. }) => None,
                }
            };
            if let Some(core) = full {
                self.send(core);
                while self.flight.bytes.get() > FLIGHT_BYTES {
                    self.service.woken.wait().await;
                }
                self.verdict()?;
            }
        }
        self.verdict()
    }

    fn send(&mut self, core: usize) {
        let batch = std::mem::take(&mut self.batches[core]);
        if batch.heads.is_empty() {
            return;
        }
        let bytes = batch.data.len() + 1;
        self.flight.bytes.set(self.flight.bytes.get() + bytes);
        let (service, flight) = (self.service.clone(), self.flight.clone());
        let question = self.service.ask_later(core, move |c| c.take_records(&batch));
        glommio::spawn_local(async move {
            let failed: Option<String> = service.answer(question).await;
            if let Some(reason) = failed {
                flight.failed.borrow_mut().get_or_insert(reason);
            }
            flight.bytes.set(flight.bytes.get() - bytes);
            service.woken.ring();
        })
        .detach();
    }
}

impl About {
    fn note(&mut self, name: &[u8], value: Vec<u8>) {
        log_field(name, &value);
        let number = || crate::base::num::parse_u64(&value);
        match name {
            b"repl-stream-db" => self.stream_db = number().and_then(|n| u32::try_from(n).ok()),
            b"repl-offset" => self.repl_offset = number(),
            b"repl-id" => self.repl_id = Some(value),
            _ => {}
        }
    }
}

impl Records {
    fn add(&mut self, (db, expected): (u32, u32), hash: u64, r: &Record) {
        self.heads.push(Head {
            db,
            hash,
            expected,
            kind: r.kind,
            part: r.part,
            access: r.access,
            deadline: r.deadline,
            key: r.key.len(),
            body: r.body.len(),
            offset: r.offset,
        });
        self.data.extend_from_slice(r.key);
        self.data.extend_from_slice(r.body);
    }

    fn is_full(&self) -> bool {
        self.heads.len() >= BATCH_RECORDS || self.data.len() >= BATCH_BYTES
    }
}

impl Incoming {
    fn take(&mut self, head: &Head, key: &[u8], body: &[u8]) -> Result<Option<Entry>, Fault> {
        if head.part == Part::Whole {
            return self.decoder.entry(head.kind, key, body, head.deadline).map(Some);
        }
        let mut bytes = Bytes::new(body);
        if head.part == Part::First {
            let builder = self.decoder.begin(head.kind, &mut bytes)?;
            self.open = Some(Open { key: key.to_vec(), deadline: head.deadline, builder });
        }
        let Some(open) = &mut self.open else { return Err(Fault::Short) };
        self.decoder.feed(&mut open.builder, &mut bytes)?;
        if head.part != Part::Last {
            return Ok(None);
        }
        let Some(open) = self.open.take() else { return Err(Fault::Short) };
        Ok(Some(Entry::object(&open.key, open.builder.finish()?, open.deadline)))
    }

    fn put(&mut self, head: &Head, key: &[u8], entry: Entry) -> Result<(), Fault> {
        let db = head.db as usize;
        if self.store.get(db, &Key { bytes: key, hash: head.hash }).is_some() {
            return Err(Fault::corrupt("Duplicated key found in RDB file"));
        }
        self.store.expect(db, head.hash, head.expected as usize);
        self.store.insert_new(db, head.hash, entry);
        Ok(())
    }
}

impl Core {
    pub fn begin_incoming(&mut self) {
        self.incoming = Some(Box::new(Incoming {
            store: Box::new(Store::new(self.store.databases())),
            decoder: Decoder::new(Limits::new(&self.options), false),
            open: None,
            failed: None,
        }));
    }

    /// Decodes records; what is wrong with the first that is broken.
    fn take_records(&mut self, records: &Records) -> Option<String> {
        let (lfu, now) = (self.options.lfu_policy, self.now);
        let fresh = if lfu { Access::Freq(clock::LFU_INITIAL) } else { Access::Idle(0) };
        let clock = |said| access::clock(said, lfu, now).or(access::clock(fresh, lfu, now)).unwrap_or_default();
        let incoming = self.incoming.as_deref_mut()?;
        let mut at = 0;
        for head in &records.heads {
            let key = &records.data[at..at + head.key];
            let body = &records.data[at + head.key..at + head.key + head.body];
            at += head.key + head.body;
            if incoming.failed.is_some() {
                break;
            }
            let result = match incoming.take(head, key, body) {
                Ok(Some(entry)) => {
                    entry.set_clock(clock(head.access));
                    incoming.put(head, key, entry)
                }
                // Redis leaves out collections without elements, too.
                Ok(None) | Err(Fault::Empty) => Ok(()),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = result {
                let hidden = self.settings.hide_user_data_from_log;
                let key = if hidden { "*redacted*".to_string() } else { key.escape_ascii().to_string() };
                let offset = head.offset;
                incoming.failed = Some(format!("{fault} at offset {offset} (type {}, key '{key}')", head.kind));
            }
        }
        incoming.failed.clone()
    }

    /// Empties the keyspace of this core.
    pub fn drop_keyspace(&mut self) {
        self.local_deadlines = None;
        self.update_local_deadlines();
        self.track_flush(0);
        for db in 0..self.store.databases() {
            for (hash, key) in self.watches.in_db(db) {
                self.watches.touch(db, hash, &key);
            }
            if let Some(old) = self.store.flush(db) {
                self.store.discard_db(old);
            }
        }
    }

    /// What was loaded becomes the keyspace.
    pub fn install_incoming(&mut self) {
        self.drop_keyspace();
        let Some(mut incoming) = self.incoming.take() else { return };
        for pack in incoming.store.take_all_slots() {
            let owner = self.map[pack.slot as usize] as usize;
            if owner == self.id {
                self.store.install_slot(pack);
            } else {
                // The slot has moved while its entries were being loaded.
                self.send(owner, super::msg::Msg::Call(Box::new(move |core| core.store.install_slot(pack))));
            }
        }
    }
}
