//! Waking tasks of the service core from tasks of the service core.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes all that wait each time it is rung. Who waits looks at what it waits
/// for again; nothing that happens between look and wait is missed, because
/// tasks of one executor run one at a time.
#[derive(Default)]
pub struct Bell {
    rung: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    pub fn ring(&self) {
        self.rung.set(self.rung.get() + 1);
        for w in self.waiting.take() {
            w.wake();
        }
    }

    /// Waits for the next ring.
    pub async fn wait(&self) {
        let heard = self.rung.get();
        poll_fn(|cx| {
            if self.rung.get() != heard {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
