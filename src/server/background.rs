//! Work that waits for nobody: expiry, freeing, timeouts.

use super::core::Core;
use super::shared::Garbage;
use super::tx::Waiter;
use crate::base::memory;
use crate::base::slot::Key;
use crate::command::cx::expire_fields;
use crate::observe::ticks;
use crate::transaction::locks::{Locks, Mode, Need};

/// Time between two runs of the slow work.
pub const CRON_MS: u64 = 100;

/// Time that expiry may take in one turn.
const EXPIRE_BUDGET_US: u64 = 300;
/// Keys expired between two looks at the clock.
const EXPIRE_BATCH: usize = 64;

/// Connections looked at in one cron run, at least.
const CRON_CONNECTIONS: usize = 64;

impl Core {
    /// Stands still while DEBUG SLEEP lasts.
    pub fn sleep_along(&self) {
        let until = self.shared.sleep_until_ns.load(std::sync::atomic::Ordering::Relaxed);
        if until > self.stamp {
            let now = crate::base::clock::mono_ns();
            std::thread::sleep(std::time::Duration::from_nanos(until.saturating_sub(now)));
        }
    }

    pub fn background_work(&mut self) {
        self.expire_due();
        if let Some(next) = self.blocking.next_deadline() {
            if next <= self.now {
                self.end_overdue();
            } else {
                self.wake_for(next);
            }
        }
        self.room_in_background();
        self.start_waiting_moves();
        if self.snapshot.is_some() {
            self.snapshot_slice();
        }
        self.defrag_in_background();
        if self.store.has_garbage() {
            self.hand_over_garbage();
        }
        if self.now >= self.next_cron_ms && !self.cron_paused {
            self.next_cron_ms = self.now + CRON_MS;
            self.cron();
        }
    }

    /// Deletes keys past their deadline, within a time budget, and sees to it
    /// that the core wakes for the next.
    fn expire_due(&mut self) {
        self.expire_again = false;
        // A pause promises that the dataset stays as it is.
        let loading = self.shared.persistence.loading.load(std::sync::atomic::Ordering::Relaxed);
        if !self.active_expire || self.pause.active || loading {
            return;
        }
        if self.role.replica {
            if let Some(next) = self.expire_local() {
                self.expire_again = next <= self.now;
                self.wake_for(next);
            }
            return;
        }
        let Some(mut next) = self.store.next_deadline() else { return };
        if next <= self.now {
            let start = ticks::ticks();
            let budget = EXPIRE_BUDGET_US * self.ticks_per_us;
            loop {
                let worked = self.expire_some();
                next = match self.store.next_deadline() {
                    Some(n) => n,
                    None => break,
                };
                if next > self.now || !worked {
                    break;
                }
                if ticks::ticks() - start > budget {
                    self.expire_again = true;
                    break;
                }
            }
            let us = ticks::to_us(ticks::ticks() - start);
            self.stats.expire_cycle_us += us;
            self.latency_event("expire-cycle", us / 1000);
        }
        self.wake_for(next);
    }

    /// Expires all that is due, at once; how many keys. For the end of loading,
    /// when nobody is served yet.
    pub fn expire_all(&mut self) -> u64 {
        let before = self.store.stats.expired;
        while self.store.next_deadline().is_some_and(|d| d <= self.now) && self.expire_some() {}
        self.store.stats.expired - before
    }

    /// Sees to it that the core wakes for a deadline that the next tick would
    /// come too late for.
    pub fn wake_for(&mut self, next: u64) {
        let soon = next > self.now && next - self.now <= CRON_MS;
        if soon && self.deadline_armed.is_none_or(|d| next < d) {
            self.deadline_armed = Some(next);
            self.arm_deadline(next - self.now);
        }
    }

    /// Expires one batch; false when locks left nothing to do.
    fn expire_some(&mut self) -> bool {
        let mut worked = false;
        self.fx.wants_events = self.wants_events();
        for db in 0..self.store.databases() {
            let Some(d) = self.store.db(db) else { continue };
            for (hash, key) in d.due(self.now, EXPIRE_BATCH) {
                if self.is_locked(db, hash) {
                    continue;
                }
                worked = true;
                self.store.delete(db, &Key { bytes: &key, hash });
                self.store.stats.expired += 1;
                self.fx.expired(db, &key);
            }
            for (hash, key) in self.store.due_fields(db, self.now, EXPIRE_BATCH) {
                if self.is_locked(db, hash) {
                    continue;
                }
                worked = true;
                expire_fields(&mut self.store, &mut self.fx, db, &Key { bytes: &key, hash }, self.now);
            }
            self.journal_alone(db as u32);
        }
        self.stats.dirty += self.fx.dirty;
        let events = std::mem::take(&mut self.fx.events);
        self.tell(&events);
        self.fx.clear();
        worked
    }

    /// Background writes respect locks.
    pub fn is_locked(&self, db: usize, hash: u64) -> bool {
        if self.locks.is_empty() {
            return false;
        }
        locked(&self.locks, db, hash)
    }

    pub fn hand_over_garbage(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        for db in self.store.take_flushed() {
            self.shared.garbage_pending.fetch_add(db.len(), Relaxed);
            self.shared.garbage_dbs.fetch_add(1, Relaxed);
            let _ = self.shared.garbage.send(Garbage::Db(Box::new(db)));
        }
        let objects = self.store.take_garbage();
        if objects.is_empty() {
            return;
        }
        self.shared.garbage_pending.fetch_add(objects.len(), Relaxed);
        // The receiver lives as long as the process.
        let _ = self.shared.garbage.send(Garbage::Objects(objects));
    }

    fn cron(&mut self) {
        self.moves_stalled = false;
        if self.pause.active && self.now >= self.pause.until_ms {
            self.end_due_pauses();
        }
        self.parse.shrink();
        self.shrink_pools();
        self.scripts.tidy_up(&self.shared.scripts);
        self.lane.relax();
        self.look_after_connections();
        super::rebalance::tick(self);
        super::sampling::tick(self);
        super::commands::info::tell(self);
        // INFO, on whatever core, knows what this one uses.
        memory::settle();
        self.look_for_room();
        self.look_at_fragmentation();
        self.show_candidates();
        self.show_largest_client();
        self.look_at_save_points();
        self.update_gate();
    }

    /// Looks at some connections in turn: timeouts, limits, idle memory.
    fn look_after_connections(&mut self) {
        let n = self.conns.capacity();
        let budget = (n / 10).max(CRON_CONNECTIONS).min(n);
        for _ in 0..budget {
            self.cron_cursor = if self.cron_cursor + 1 >= n { 0 } else { self.cron_cursor + 1 };
            if self.cron_cursor == 0 {
                self.survey.end_round();
            }
            let Some(mut c) = self.conns.take_at(self.cron_cursor as u32) else { continue };
            self.survey.look_at(&mut c, self.now);
            let idle_ms = self.now.saturating_sub(c.active_ms);
            let timeout_ms = u64::from(self.settings.timeout_s) * 1000;
            if timeout_ms > 0 && idle_ms > timeout_ms && !c.subscribed() && c.replies.outstanding() == 0 && !c.paused {
                super::log_verbose("Closing idle client");
                self.close(&mut c);
            } else if c.sending && self.over_limit(&mut c) {
                self.close(&mut c);
            } else if idle_ms > 1000 && !self.keep_buffers {
                c.relax();
            }
            self.put_conn(c);
        }
    }
}

/// Does something in the lock queue need the key?
pub fn locked(locks: &Locks<Waiter>, db: usize, hash: u64) -> bool {
    let mut need = Need::default();
    need.keys.push(((db as u32, hash), Mode::Exclusive));
    locks.conflicts(&need)
}
