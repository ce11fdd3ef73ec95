//! Putting a snapshot into the stores of all cores.
//!
//! Whoever has the bytes (of a file, of an append-only file's base, of a
//! primary's socket) feeds them to an [`Import`]. It sorts the records by core
//! and sends batches, which the cores decode in parallel; when a core has
//! [`UNDER_WAY`] of them before it, feeding waits. Clients are kept out by
//! `persistence.loading` meanwhile; that is the caller's to set.

use std::collections::VecDeque;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Service;
use crate::server::core::Core;
use crate::snapshot::load::{About, Batch, Counts, How, Intake, Splitter, Step, longest_string};
use crate::snapshot::rdb::scan::Error;

/// Batches under way to one core at most.
const UNDER_WAY: usize = 4;

/// Bytes taken from a large portion at a time.
const PORTION: usize = 256 << 10;

/// See the module's description.
pub struct Import {
    service: Rc<Service>,
    splitter: Splitter,
    how: How,
    /// By core: the questions whose answers have not been read.
    under_way: Vec<VecDeque<u64>>,
    counts: Counts,
    ended: bool,
}

impl Core {
    fn take_in(&mut self, how: How, batch: &Batch) -> Result<Counts, Error> {
        let (options, now) = (&self.options, self.now);
        let intake = self.intake.get_or_insert_with(|| Box::new(Intake::new(options, how, now)));
        intake.apply(&mut self.store, batch)?;
        Ok(std::mem::take(&mut intake.counts))
    }
}

impl Import {
    pub fn new(service: &Rc<Service>, how: How) -> Import {
        let shared = &service.shared;
        let s = shared.config.settings();
        let map: Arc<Vec<u16>> = shared.sequencer.map();
        let map: Box<[u16]> = map.iter().copied().collect();
        let mut splitter = Splitter::new(map, shared.cores, s.databases as usize, s.persistence.rdbchecksum);
        splitter.set_longest(longest_string(s.proto_max_bulk_len));
        Import {
            splitter,
            service: service.clone(),
            how,
            under_way: (0..shared.cores).map(|_| VecDeque::new()).collect(),
            counts: Counts::default(),
            ended: false,
        }
    }

    /// So many bytes will come at most.
    pub fn set_size(&mut self, bytes: u64) {
        self.splitter.set_size(bytes);
    }

    /// Has the end of the snapshot come? What was fed behind it is
    /// [`Import::rest`].
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The place in the file that has been reached.
    pub fn position(&mut self) -> u64 {
        self.splitter.scanner().offset()
    }

    /// The bytes behind the end.
    pub fn rest(&mut self) -> &[u8] {
        self.splitter.scanner().rest()
    }

    /// Keys (and parts of large ones) read so far.
    pub fn records(&self) -> u64 {
        self.splitter.records()
    }

    pub fn about(&self) -> &About {
        self.splitter.about()
    }

    /// Takes the next bytes.
    pub async fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for portion in bytes.chunks(PORTION) {
            self.splitter.scanner().push(portion);
            self.take_apart().await?;
        }
        Ok(())
    }

    /// Reads up to `n` bytes; how many there were, none at the end.
    /// [`Import::take_apart`] takes them on.
    pub fn fill(&mut self, from: &mut impl Read, n: usize) -> std::io::Result<usize> {
        self.splitter.scanner().fill(from, n)
    }

    /// Sends on what has been read.
    pub async fn take_apart(&mut self) -> Result<(), Error> {
        self.go_on().await?;
        let used = self.splitter.about().used_memory.unwrap_or(0);
        self.service.shared.persistence.loading_used_memory.store(used, Relaxed);
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), Error> {
        loop {
            match self.splitter.next()? {
                Step::More => return Ok(()),
                Step::End => {
                    self.ended = true;
                    return Ok(());
                }
                Step::Batch(core, batch) => {
                    if self.under_way[core].len() >= UNDER_WAY {
                        self.hear_one(core).await?;
                    }
                    let how = self.how_now();
                    let id = self.service.ask_later(core, move |c| c.take_in(how, &batch));
                    self.under_way[core].push_back(id);
                }
            }
        }
    }

    /// A dataset with a history keeps what is past its deadline: a primary's
    /// replicas must see the deletion in the stream, and a replica waits for it.
    fn how_now(&self) -> How {
        match self.splitter.about().replication_id {
            Some(_) => How { drop_expired_at: None, ..self.how },
            None => self.how,
        }
    }

    /// Waits for the oldest batch of a core.
    async fn hear_one(&mut self, core: usize) -> Result<(), Error> {
        if let Some(id) = self.under_way[core].pop_front() {
            let counts = self.service.answer::<Result<Counts, Error>>(id).await?;
            self.counts.loaded += counts.loaded;
            self.counts.expired += counts.expired;
            self.counts.empty += counts.empty;
            self.tell_counts();
        }
        Ok(())
    }

    /// INFO shows them as they grow.
    fn tell_counts(&self) {
        let p = &self.service.shared.persistence;
        p.last_load_loaded.store(self.counts.loaded, Relaxed);
        p.last_load_expired.store(self.counts.expired, Relaxed);
    }

    /// Waits until everything is in the stores. It is an error if the end of
    /// the snapshot has not come.
    pub async fn finish(mut self) -> Result<(About, Counts), Error> {
        let mut result = Ok(());
        if !self.ended {
            self.splitter.scanner().close();
            result = self.go_on().await;
        }
        for core in 0..self.under_way.len() {
            while !self.under_way[core].is_empty() {
                let heard = self.hear_one(core).await;
                result = result.and(heard);
            }
            self.service.call(core, |c| c.intake = None);
        }
        result?;
        self.tell_counts();
        Ok((self.splitter.about().clone(), self.counts))
    }
}
