//! The service core's main loop: mail, and rounds of the merge.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::future;
use glommio::timer::sleep;

use super::Service;
use super::aof_file::Way;
use super::streams::Outputs;
use crate::base::{clock, memory};
use crate::journal::merge::{Lanes, Merge};
use crate::journal::record::Record;
use crate::journal::writer::{RUN_BYTES, SPARE_MAX};
use crate::server::core::Core;
use crate::server::shared::Shared;

/// How long the merge lets effects gather while nobody waits for them.
const NAP: Duration = Duration::from_millis(2);

/// The same while somebody waits for what other cores hold back.
const SHORT_NAP: Duration = Duration::from_micros(50);

/// Naps without work after which the service core sleeps until it is woken.
const NAPS: u32 = 20;

/// Bytes of the append-only file's buffer beyond which merging waits for the
/// disk: then the lanes fill, and the cores stop reading clients.
pub const AOF_BUFFER_MAX: usize = 64 << 20;

impl Lanes for Shared {
    fn count(&self) -> usize {
        self.cores
    }

    fn clock(&self) -> u64 {
        clock::mono_ns()
    }

    fn is_parked(&self, core: usize) -> bool {
        self.lanes[core].is_parked()
    }

    fn watermark(&self, core: usize) -> u64 {
        self.lanes[core].watermark()
    }

    fn pop(&self, core: usize) -> Option<Record> {
        self.lanes[core].pop_to(&self.stream_memory.merging)
    }

    fn recycle(&self, core: usize, buffer: Vec<u8>) {
        if (RUN_BYTES..=SPARE_MAX).contains(&buffer.capacity()) {
            self.lanes[core].give_spare(buffer);
        }
    }
}

/// Does merging wait for the append-only file?
fn is_full(out: &Outputs) -> bool {
    out.aof.as_ref().is_some_and(|a| a.len() > AOF_BUFFER_MAX)
}

impl Service {
    /// Works until the process stops and everything is merged.
    pub async fn pump(self: Rc<Self>) {
        let mut idle = 0;
        loop {
            let ended = self.shared.cores_ended.load(Ordering::SeqCst);
            let mut worked = self.take_mail();
            worked |= self.send_mail();
            worked |= self.merge();
            if worked {
                idle = 0;
                // The task that writes here sees to the rings, when it has
                // made a commit of what has just been merged.
                let commits = self.streams.borrow().urgent && self.way_of_writing() == Way::Here;
                if !commits {
                    glommio::executor().yield_task_queue_now().await;
                }
                future::yield_now().await;
                continue;
            }
            if ended {
                return;
            }
            idle += 1;
            self.rest(idle).await;
        }
    }

    /// One round of the merge; whether anything came of it.
    pub fn merge(&self) -> bool {
        let streams = &mut *self.streams.borrow_mut();
        if !streams.running || is_full(&streams.out) {
            return false;
        }
        let past = streams.merge.past();
        let waiting = |out: &Outputs| out.aof.as_ref().map_or(0, |a| a.len());
        let before = waiting(&streams.out);
        // Blocks and queues count when they are made, not when the round has ended.
        let kept = &self.shared.stream_memory;
        let coming = self.shared.lanes.iter().map(|l| l.bytes()).sum::<usize>();
        if let Some(backlog) = streams.out.backlog() {
            let growth = backlog.growth(coming + streams.merge.held());
            kept.beyond_backlog.store(backlog.not_counted() + growth, Ordering::Relaxed);
        }
        if coming > 0 {
            kept.merging.fetch_add(streams.merge.growth(), Ordering::Relaxed);
        }
        let worked = streams.merge.round(&*self.shared, &mut streams.out);
        if worked && let Some(r) = &mut streams.out.replication {
            r.written.note(streams.merge.past());
        }
        let more = waiting(&streams.out).saturating_sub(before);
        self.shared.persistence.aof.buffer_bytes.fetch_add(more as u64, Ordering::Relaxed);
        // What was freed is counted before it ceases to be left out, or the cores
        // would evict for it.
        if worked {
            memory::settle();
        }
        kept.note_backlog(streams.out.backlog());
        kept.merging.store(streams.merge.memory(), Ordering::Relaxed);
        if worked || ((streams.hurried > 0 || streams.urgent) && streams.merge.past() > past) {
            self.advanced.ring();
        }
        worked
    }

    /// Waits for work: for a while by the clock, so that busy cores need not
    /// wake this one for every turn; then until a core does.
    async fn rest(&self, idle: u32) {
        let (running, hurried, holds, urgent) = {
            let s = self.streams.borrow();
            (s.running, s.hurried > 0, s.merge.holds(), s.urgent)
        };
        if running && (hurried || holds || (urgent && self.merge_lags())) {
            return self.nap(SHORT_NAP).await;
        }
        // Records that wait for room in the file's buffer wake nobody, and only the
        // task that writes the file makes room: it must come to run.
        if running && (self.is_full() || (idle < NAPS && !urgent)) {
            return self.nap(NAP).await;
        }
        self.port.borrow().park();
        let lanes_idle = !running || self.shared.lanes.iter().all(|l| l.is_empty());
        if lanes_idle && !self.port.borrow().has_mail() && !self.shared.cores_ended.load(Ordering::SeqCst) {
            self.woken.wait().await;
        }
        self.port.borrow().unpark();
    }

    fn is_full(&self) -> bool {
        is_full(&self.streams.borrow().out)
    }

    async fn nap(&self, time: Duration) {
        self.port.borrow().nap();
        if !self.port.borrow().has_mail() {
            future::or(sleep(time), self.woken.wait()).await;
        }
        self.port.borrow().unpark();
    }

    /// Waits until everything stamped up to `time` (of the monotonic clock) is
    /// in the streams. At once if no journal is kept.
    ///
    /// This is the way from a time to a place: what a reply given at `time` may
    /// rest on ends no later than where the streams end when this returns.
    pub async fn merged_past(&self, time: u64) {
        self.streams.borrow_mut().hurried += 1;
        self.woken.ring();
        while {
            let s = self.streams.borrow();
            s.running && s.merge.past() <= time
        } {
            self.advanced.wait().await;
        }
        self.streams.borrow_mut().hurried -= 1;
    }

    /// The replication stream's offset by which everything stamped up to `time`
    /// is in it (WAIT); `None` without such a stream.
    pub async fn offset_past(&self, time: u64) -> Option<u64> {
        self.merged_past(time).await;
        self.streams.borrow().out.replication.as_ref().map(|r| r.backlog.end())
    }

    /// Begins to keep a journal for this reason. Returns once every core
    /// publishes: what is ordered after this is in the stream.
    pub async fn keep_journal(self: &Rc<Self>, reason: u8) {
        self.begin_switch().await;
        if !self.streams.borrow().running {
            self.ask_all(Core::join_journal).await;
        }
        let mut s = self.streams.borrow_mut();
        s.reasons |= reason;
        s.running = true;
        s.switching = false;
        self.woken.ring();
    }

    /// Only one at a time may begin or end the journal.
    async fn begin_switch(&self) {
        while self.streams.borrow().switching {
            self.woken.wait().await;
        }
        self.streams.borrow_mut().switching = true;
    }

    /// There is one reason less to keep a journal.
    pub async fn drop_journal(self: &Rc<Self>, reason: u8) {
        self.begin_switch().await;
        let end = {
            let mut s = self.streams.borrow_mut();
            s.reasons &= !reason;
            s.running && s.reasons == 0
        };
        if end {
            self.streams.borrow_mut().running = false;
            self.ask_all(Core::leave_journal).await;
            for lane in &self.shared.lanes {
                while lane.pop().is_some() {}
            }
            let mut s = self.streams.borrow_mut();
            s.merge = Merge::new(self.shared.cores);
            self.shared.stream_memory.merging.store(0, Ordering::Relaxed);
            // A cut among what was dropped will not come any more.
            s.out.pass_all_cuts();
            drop(s);
        }
        self.streams.borrow_mut().switching = false;
        self.woken.ring();
        self.advanced.ring();
    }
}
