//! The end of the process, by command or signal.
//!
//! 1. Replicas that lag are waited for (`shutdown-timeout`); clients' writes
//!    are held back meanwhile. SHUTDOWN ABORT calls it off.
//! 2. A snapshot under way is given up, and a last one written if that is
//!    wanted. If it cannot be written, the server goes on.
//! 3. The process ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use glommio::timer::sleep;

use super::Service;
use super::snapshot::Wish;
use crate::base::clock;
use crate::observe::log;
use crate::server::core::Core;
use crate::server::pause::Purpose;
use crate::server::process::signals;
use crate::server::replication::Asker;

/// Time between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(1);

const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub save: bool,
    /// A failure to save is no obstacle.
    pub force: bool,
    /// Replicas are not waited for.
    pub now: bool,
}

/// The end that has been asked for.
#[derive(Default)]
pub struct Ending {
    under_way: Cell<bool>,
    /// It can be called off: replicas are, or may have to be, waited for.
    waiting: Cell<bool>,
    aborted: Cell<bool>,
    /// Who waits for it.
    askers: RefCell<Vec<Asker>>,
}

impl Service {
    /// Ends the process; who asked hears of it only if it comes to nothing.
    pub fn shut_down(self: &Rc<Self>, order: Order, asker: Option<Asker>) {
        self.ending.askers.borrow_mut().extend(asker);
        if self.ending.under_way.replace(true) {
            return;
        }
        self.ending.aborted.set(false);
        self.ending.waiting.set(!order.now);
        let service = self.clone();
        glommio::spawn_local(async move {
            if service.end_process(order).await {
                return service.shared.stop(0);
            }
            service.shared.saves.shutdown_at_ms.store(0, Ordering::Relaxed);
            service.ending.under_way.set(false);
            signals::forget_interrupt();
            for asker in service.ending.askers.take() {
                service.refuse_client(asker, FAILED);
            }
        })
        .detach();
    }

    /// SHUTDOWN ABORT.
    pub fn abort_shutdown(self: &Rc<Self>, asker: Asker) {
        // One that a signal asks for may not have begun.
        let asked = self.shared.saves.take_shutdown().is_some();
        if asked {
            signals::forget_interrupt();
        }
        if !asked && !self.ending.waiting.get() {
            return self.refuse_client(asker, "ERR No shutdown in progress.");
        }
        log::notice(format_args!("Shutdown manually aborted."));
        self.ending.aborted.set(self.ending.under_way.get());
        self.answer_client(asker, |r| r.ok());
    }

    /// Whether the process may end now.
    async fn end_process(self: &Rc<Self>, order: Order) -> bool {
        let timeout_ms = self.shared.config.settings().shutdown_timeout_s as u64 * 1000;
        if !order.now {
            self.merged_past(clock::mono_ns()).await;
        }
        let waits = !order.now && timeout_ms > 0 && self.replicas_lag().0 > 0;
        if (waits && !self.wait_for_lagging(timeout_ms).await) || self.ending.aborted.get() {
            self.ending.waiting.set(false);
            return false;
        }
        self.ending.waiting.set(false);
        self.report_lag();
        let done = self.finish(order).await;
        if !done {
            log::warning(format_args!("Errors trying to shut down the server. Check the logs for more information."));
            if waits {
                self.ask_all(|core| core.unpause(Purpose::Shutdown)).await;
            }
        }
        done
    }

    /// Waits until all replicas have everything, or the time is up; false when
    /// it was called off.
    async fn wait_for_lagging(self: &Rc<Self>, timeout_ms: u64) -> bool {
        log::notice(format_args!("Waiting for replicas before shutting down."));
        let deadline = clock::mono_ns() / 1_000_000 + timeout_ms;
        self.shared.saves.shutdown_at_ms.store(deadline, Ordering::Relaxed);
        self.ask_all(|core| core.start_pause(Purpose::Shutdown, u64::MAX, false)).await;
        self.quiesce().await;
        // What a primary sends on would never be all.
        let _held = self.hold_applying().await;
        self.ask_for_acks();
        while self.replicas_lag().0 > 0 && clock::mono_ns() / 1_000_000 < deadline {
            if self.ending.aborted.get() {
                self.ask_all(|core| core.unpause(Purpose::Shutdown)).await;
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    async fn finish(self: &Rc<Self>, order: Order) -> bool {
        let p = &self.shared.persistence;
        if self.switching_aof.get() && p.aof.rewriting.load(Ordering::SeqCst) {
            if !order.force {
                log::warning(format_args!("Writing initial AOF, can't exit."));
                return false;
            }
            log::warning(format_args!("Writing initial AOF. Exit anyway."));
        }
        self.end_running_snapshot().await;
        if !order.save {
            return true;
        }
        // Half a dataset must not take the place of the whole one.
        if p.loading.load(Ordering::SeqCst) || p.async_loading.load(Ordering::SeqCst) {
            log::notice(format_args!("The dataset is being loaded: nothing is saved before exiting."));
            return true;
        }
        log::notice(format_args!("Saving the final RDB snapshot before exiting."));
        while !self.shared.saves.try_begin() {
            self.end_running_snapshot().await;
        }
        if self.save_file(Wish { hold: true, ..Wish::default() }).await.is_ok() {
            return true;
        }
        if order.force {
            log::warning(format_args!("Error trying to save the DB, but the shutdown is forced."));
            return true;
        }
        log::warning(format_args!("Error trying to save the DB, can't exit."));
        self.call(0, Core::release_held);
        false
    }

    /// Calls the snapshot under way off and waits for its end.
    async fn end_running_snapshot(&self) {
        let saves = &self.shared.saves;
        if saves.saving.load(Ordering::Relaxed) {
            log::warning(format_args!("There is a child saving an .rdb. Killing it!"));
        }
        while saves.is_active() {
            self.abort_snapshot();
            sleep(LOOK).await;
        }
    }
}
