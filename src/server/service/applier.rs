//! Applying commands in the order of a stream, in parallel over the cores.
//!
//! Whoever reads an append-only file or a primary's stream hands the commands
//! to an [`Applier`] one by one. It knows SELECT, MULTI and EXEC, routes every
//! other command to the core of its keys, and sends batches
//! ([`crate::server::applying`] tells how they run). Several batches are under
//! way at once; when there are enough, [`Applier::command`] waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::Service;
use crate::base::Args;
use crate::base::num::parse_u64;
use crate::base::slot::Key;
use crate::command::keys::{Places, places, undeclared};
use crate::command::{Across, Command};
use crate::server::applying::{Applied, Shares, origin};
use crate::server::batch::Requests;
use crate::server::exec::owned;
use crate::server::msg::{Head, Job};
use crate::server::registry::{Action, Entry, Route, registry};

/// Commands, and bytes, of one batch.
const BATCH_COMMANDS: usize = 2048;
const BATCH_BYTES: usize = 512 * 1024;

/// Batches under way at most.
const FLIGHTS: usize = 4;

/// A command that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// There is no such command.
    Unknown(Vec<u8>),
    /// MULTI within MULTI, EXEC without it, or a database that is not there.
    OutOfPlace(Vec<u8>),
    /// Too few or too many arguments.
    Arity(Vec<u8>),
}

/// The batches of one applier that are under way.
#[derive(Default)]
pub struct Flights {
    count: Cell<usize>,
    /// The first error reply of a command, and how many batches had one.
    error: RefCell<Option<Vec<u8>>>,
}

/// See the module's description.
pub struct Applier {
    service: Rc<Service>,
    map: Arc<Vec<u16>>,
    db: u32,
    databases: u32,
    shares: Vec<Option<Box<Requests>>>,
    commands: usize,
    bytes: usize,
    /// The commands since MULTI.
    unit: Option<Box<Requests>>,
    flights: Rc<Flights>,
    applied: u64,
}

/// Where a command runs.
enum Target {
    Core(usize, usize, u64),
    /// On every core.
    All,
    /// Its keys lie on several cores; each takes its own.
    Split(Places),
    /// It needs the keys of several cores in one place.
    Together,
    /// It is not over keys.
    Beside,
}

impl Applier {
    pub fn new(service: &Rc<Service>) -> Applier {
        let shared = &service.shared;
        Applier {
            map: shared.sequencer.map(),
            db: 0,
            databases: shared.config.settings().databases,
            shares: (0..shared.cores).map(|_| None).collect(),
            commands: 0,
            bytes: 0,
            unit: None,
            flights: Rc::default(),
            service: service.clone(),
            applied: 0,
        }
    }

    /// The database of the next command.
    pub fn db(&self) -> u32 {
        self.db
    }

    pub fn set_db(&mut self, db: u32) {
        self.db = db;
    }

    /// Has a MULTI come whose EXEC has not?
    pub fn in_transaction(&self) -> bool {
        self.unit.is_some()
    }

    /// Forgets a transaction that will not be completed.
    pub fn drop_transaction(&mut self) {
        self.unit = None;
    }

    /// Commands taken so far.
    pub fn taken(&self) -> u64 {
        self.applied
    }

    /// The first error reply that a command brought since the last call.
    pub fn take_error(&self) -> Option<Vec<u8>> {
        self.flights.error.take()
    }

    /// Takes the next command of the stream, if that needs no waiting and no
    /// explanation: it is the usual one, over keys of one core.
    #[inline]
    pub fn take_at_once(&mut self, args: Args<'_>) -> bool {
        if self.unit.is_some() || self.is_full() {
            return false;
        }
        let Ok(entry) = registry().resolve(args) else { return false };
        let Route::Key(_) = entry.route else { return false };
        if !entry.spec.arity_fits(args.len()) {
            return false;
        }
        let Target::Core(core, k, hash) = self.target(entry, args) else { return false };
        self.applied += 1;
        self.push(core, entry, self.db, args, (k, hash));
        true
    }

    fn is_full(&self) -> bool {
        self.commands >= BATCH_COMMANDS || self.bytes >= BATCH_BYTES
    }

    /// Takes the next command of the stream.
    pub async fn command(&mut self, args: Args<'_>) -> Result<(), ApplyError> {
        let entry = registry().resolve(args).map_err(|_| ApplyError::Unknown(args[0].to_vec()))?;
        // Handlers take it that dispatch has looked at this.
        if !entry.spec.arity_fits(args.len()) {
            return Err(ApplyError::Arity(args[0].to_vec()));
        }
        self.applied += 1;
        match entry.spec.name {
            "select" => self.select(args),
            "multi" if self.unit.is_none() => {
                self.unit = Some(Box::default());
                Ok(())
            }
            "exec" => match self.unit.take() {
                Some(unit) => {
                    self.transaction(unit).await;
                    Ok(())
                }
                None => Err(ApplyError::OutOfPlace(args[0].to_vec())),
            },
            "multi" => Err(ApplyError::OutOfPlace(args[0].to_vec())),
            _ => {
                match &mut self.unit {
                    Some(unit) => unit.push(&head(entry, self.db, args, (0, 0)), args.iter().copied()),
                    None => self.single(entry, self.db, args).await,
                }
                Ok(())
            }
        }
    }

    fn select(&mut self, args: Args) -> Result<(), ApplyError> {
        let db = args.get(1).and_then(|a| parse_u64(a)).filter(|db| *db < u64::from(self.databases));
        self.db = db.ok_or_else(|| ApplyError::OutOfPlace(args[0].to_vec()))? as u32;
        Ok(())
    }

    async fn single(&mut self, entry: &'static Entry, db: u32, args: Args<'_>) {
        match self.target(entry, args) {
            Target::Core(core, k, hash) => self.push(core, entry, db, args, (k, hash)),
            Target::Split(found) => self.push_split(entry, db, args, &found),
            Target::All => {
                self.hand_over().await;
                (0..self.shares.len()).for_each(|core| self.push(core, entry, db, args, (0, 0)));
                self.hand_over().await;
            }
            Target::Together => {
                let command = Applied { db, command: entry.index, args: owned(args) };
                self.together(vec![command]).await;
            }
            Target::Beside => {
                self.settle().await;
                let command = Applied { db, command: entry.index, args: owned(args) };
                let ticket = self.take_off().await;
                self.service.call(0, move |core| core.apply_beside(ticket, command));
                self.settle().await;
            }
        }
        if self.is_full() {
            self.hand_over().await;
        }
    }

    /// A whole transaction: within one batch if every command finds its data
    /// on one core.
    async fn transaction(&mut self, unit: Box<Requests>) {
        let (mut reader, mut args) = (unit.read(), Vec::new());
        let mut simple = true;
        while simple && let Some(head) = reader.next(&mut args) {
            simple = matches!(self.target(entry_of(&head), &args), Target::Core(..) | Target::Split(_));
        }
        if !simple {
            return self.transaction_together(&unit).await;
        }
        let mut reader = unit.read();
        while let Some(head) = reader.next(&mut args) {
            let (entry, db) = (entry_of(&head), head.origin.db);
            match self.target(entry, &args) {
                Target::Core(core, k, hash) => self.push(core, entry, db, &args, (k, hash)),
                Target::Split(found) => self.push_split(entry, db, &args, &found),
                Target::All | Target::Together | Target::Beside => unreachable!("looked at above"),
            }
        }
        if self.is_full() {
            self.hand_over().await;
        }
    }

    /// A transaction that needs the keys of several cores in one place; what is
    /// not over keys comes behind it.
    async fn transaction_together(&mut self, unit: &Requests) {
        let (mut reader, mut args) = (unit.read(), Vec::new());
        let (mut over_keys, mut beside) = (Vec::new(), Vec::new());
        while let Some(head) = reader.next(&mut args) {
            let entry = entry_of(&head);
            let command = Applied { db: head.origin.db, command: entry.index, args: owned(&args) };
            match entry.action {
                Action::Keys(_) | Action::Script(_) => over_keys.push(command),
                _ => beside.push(command),
            }
        }
        if !over_keys.is_empty() {
            self.together(over_keys).await;
        }
        for c in beside {
            let args: Vec<&[u8]> = c.args.iter().map(|a| &a[..]).collect();
            Box::pin(self.single(&registry().entries[c.command], c.db, &args)).await;
        }
    }

    fn target(&self, entry: &Entry, args: Args) -> Target {
        let core = |hash: u64| self.map[crate::base::slot::slot_of_hash(hash) as usize] as usize;
        let command: &Command = match entry.action {
            Action::Keys(c) => c,
            Action::Script(_) if entry.route == Route::Script => return Target::Together,
            Action::Script(_) => return Target::All,
            Action::Conn(_) | Action::Container => return Target::Beside,
        };
        match entry.route {
            Route::Key(k) if k < args.len() => {
                let hash = Key::new(args[k]).hash;
                Target::Core(core(hash), k, hash)
            }
            Route::Whole(_) => Target::All,
            Route::Keys if self.shares.len() > 1 && undeclared(entry.spec, args) => Target::Together,
            Route::Keys => {
                let found = places(entry.spec, args).unwrap_or_default();
                let Some(first) = found.first() else { return Target::Core(0, 0, 0) };
                let hash = Key::new(args[first.index]).hash;
                let owner = core(hash);
                if found.iter().all(|p| core(Key::new(args[p.index]).hash) == owner) {
                    return Target::Core(owner, first.index, hash);
                }
                let complete = found.last().is_none_or(|p| p.index + p.step <= args.len());
                match command.across {
                    Across::Split(_) if complete => Target::Split(found),
                    _ => Target::Together,
                }
            }
            _ => Target::Core(0, 0, 0),
        }
    }

    fn push(&mut self, core: usize, entry: &Entry, db: u32, args: Args, key: (usize, u64)) {
        let head = head(entry, db, args, key);
        self.shares[core].get_or_insert_with(Box::default).push(&head, args.iter().copied());
        self.commands += 1;
        self.bytes += args.iter().map(|a| a.len()).sum::<usize>();
    }

    fn push_split(&mut self, entry: &Entry, db: u32, args: Args, found: &Places) {
        let owner = |p: usize| self.map[Key::new(args[p]).slot() as usize] as usize;
        let owners: Vec<usize> = found.iter().map(|p| owner(p.index)).collect();
        for core in 0..self.shares.len() {
            let mut own: Vec<&[u8]> = vec![args[0]];
            for (p, _) in found.iter().zip(&owners).filter(|(_, o)| **o == core) {
                own.extend_from_slice(&args[p.index..p.index + p.step]);
            }
            if own.len() > 1 {
                let hash = Key::new(own[1]).hash;
                self.push(core, entry, db, &own, (1, hash));
            }
        }
    }

    async fn together(&mut self, commands: Vec<Applied>) {
        self.hand_over().await;
        let ticket = self.take_off().await;
        self.service.call(0, move |core| core.apply_together(ticket, commands));
    }

    /// Sends what has been gathered to the cores.
    pub async fn hand_over(&mut self) {
        if self.commands == 0 {
            return;
        }
        let ticket = self.take_off().await;
        let by_core = self.shares.iter_mut().enumerate().filter_map(|(c, s)| Some((c, s.take()?))).collect();
        let shares = Shares { map: self.map.clone(), by_core };
        (self.commands, self.bytes) = (0, 0);
        self.service.call(0, move |core| core.apply_shares(ticket, shares));
        self.map = self.service.shared.sequencer.map();
    }

    async fn take_off(&self) -> u64 {
        while self.flights.count.get() >= FLIGHTS {
            self.service.woken.wait().await;
        }
        self.flights.count.set(self.flights.count.get() + 1);
        self.service.new_flight(&self.flights)
    }

    /// Waits until everything taken so far has been applied.
    pub async fn settle(&mut self) {
        self.hand_over().await;
        while self.flights.count.get() > 0 {
            self.service.woken.wait().await;
        }
    }
}

fn head(entry: &Entry, db: u32, args: Args, (k, hash): (usize, u64)) -> Head {
    let argc = args.len() as u32;
    Head { origin: origin(0, db), job: Job::Command(entry.index), argc, hash, key_at: k as u32 }
}

/// The command of a request that [`head`] made.
fn entry_of(head: &Head) -> &'static Entry {
    let Job::Command(index) = head.job else { unreachable!("no stream watches keys") };
    &registry().entries[index]
}

impl Service {
    fn new_flight(&self, flights: &Rc<Flights>) -> u64 {
        let mut f = self.flights.borrow_mut();
        f.0 += 1;
        let ticket = f.0;
        f.1.insert(ticket, flights.clone());
        ticket
    }

    /// A batch has been applied; `error` is its first error reply, if it had one.
    pub fn applied(&self, ticket: u64, error: Vec<u8>) {
        let Some(flights) = self.flights.borrow_mut().1.remove(&ticket) else { return };
        flights.count.set(flights.count.get() - 1);
        if !error.is_empty() {
            flights.error.borrow_mut().get_or_insert(error);
        }
        self.woken.ring();
    }
}
