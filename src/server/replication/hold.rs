//! The dataset standing still for a moment: barriers over all cores, and the
//! applier held between two rounds.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use glommio::timer::sleep;

use crate::base::clock;
use crate::server::image::Want;
use crate::server::service::Service;

/// See the module's description.
#[derive(Default)]
pub(super) struct Held {
    next_cut: Cell<u64>,
    images: RefCell<HashSet<u64>>,
    /// Those who want nothing to be applied.
    holders: Cell<usize>,
    /// Until when CLIENT PAUSE holds up what the primary sends, too, Unix
    /// milliseconds.
    paused_until_ms: Cell<u64>,
    /// A round of batches is being applied.
    pub applying: Cell<bool>,
}

/// While it lives, nothing that the primary sends is applied.
pub struct Hold(Rc<Service>);

impl Drop for Hold {
    fn drop(&mut self) {
        let held = &self.0.repl.held;
        held.holders.set(held.holders.get() - 1);
        self.0.repl.arrived.ring();
    }
}

impl Service {
    /// A number for a cut, or a barrier.
    pub fn next_cut(&self) -> u64 {
        let held = &self.repl.held;
        held.next_cut.set(held.next_cut.get() + 1);
        held.next_cut.get()
    }

    /// Does something on all cores at one place among all writes; or only a
    /// barrier.
    pub async fn image(self: &Rc<Self>, cut: u64, want: Want) {
        self.call(0, move |core| core.submit_image(cut, want));
        while !self.repl.held.images.borrow_mut().remove(&cut) {
            self.woken.wait().await;
        }
    }

    pub fn image_is_made(&self, cut: u64) {
        self.repl.held.images.borrow_mut().insert(cut);
        self.woken.ring();
    }

    /// Waits for the round that is being applied, and keeps the next from
    /// beginning.
    pub async fn hold_applying(self: &Rc<Self>) -> Hold {
        let held = &self.repl.held;
        held.holders.set(held.holders.get() + 1);
        let hold = Hold(self.clone());
        while held.applying.get() {
            self.repl.applied.wait().await;
        }
        hold
    }

    pub(super) async fn wait_until_released(&self) {
        let held = &self.repl.held;
        loop {
            let paused_ms = held.paused_until_ms.get().saturating_sub(clock::now_ms());
            match (held.holders.get(), paused_ms) {
                (0, 0) => return,
                (0, ms) => future::or(self.repl.arrived.wait(), sleep(Duration::from_millis(ms))).await,
                _ => self.repl.arrived.wait().await,
            }
        }
    }

    /// CLIENT PAUSE: the dataset of a replica stays as it is, whether clients
    /// or the primary would change it. 0 ends it.
    pub fn pause_applying(&self, until_ms: u64) {
        let until = &self.repl.held.paused_until_ms;
        until.set(if until_ms == 0 { 0 } else { until.get().max(until_ms) });
        self.repl.arrived.ring();
    }

    /// Waits until everything that the primary has sent so far is applied.
    pub(super) async fn all_applied(&self) {
        while self.repl.held.applying.get() || !self.repl.batches.borrow().is_empty() {
            self.repl.applied.wait().await;
        }
    }
}
