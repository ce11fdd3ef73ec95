//! The one order of all multi-core transactions.
//!
//! A short critical section appends a transaction to the inbox of every core
//! that it touches, then takes its time. Because it is one section for all
//! cores, any two transactions stand in the same order in every inbox that has
//! both: no deadlock, no retry. A core sees a transaction only after the
//! section has ended, so never one without its time.
//!
//! Commands of one core never come here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::clock::mono_ns;

/// Transactions waiting in one inbox at most; beyond it, submitting is refused
/// and tried again in a later turn.
pub const INBOX_MAX: usize = 65_536;

#[repr(align(128))]
struct Count(AtomicUsize);

struct State<T> {
    inboxes: Vec<VecDeque<T>>,
    /// The core that owns each slot, as of the last transaction ordered.
    map: Arc<Vec<u16>>,
}

/// See the module's description. `T` is a handle of a transaction.
pub struct Sequencer<T> {
    state: Mutex<State<T>>,
    waiting: Box<[Count]>,
}

impl<T: Clone> Sequencer<T> {
    /// `map` names the owner of every slot at the start.
    pub fn new(cores: usize, map: Vec<u16>) -> Sequencer<T> {
        Sequencer {
            state: Mutex::new(State { inboxes: (0..cores).map(|_| VecDeque::new()).collect(), map: Arc::new(map) }),
            waiting: (0..cores).map(|_| Count(AtomicUsize::new(0))).collect(),
        }
    }

    /// Runs `make` inside the critical section with the transaction's time (a
    /// monotonic stamp) and the slot map, and appends what it returns to the
    /// inboxes of the cores that it names. `None` when an inbox is full.
    pub fn submit<R>(&self, make: impl FnOnce(u64, &mut Arc<Vec<u16>>) -> (T, Vec<usize>, R)) -> Option<R> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if state.inboxes.iter().any(|i| i.len() >= INBOX_MAX) {
            return None;
        }
        let (tx, cores, result) = make(mono_ns(), &mut state.map);
        for c in cores {
            state.inboxes[c].push_back(tx.clone());
            self.waiting[c].0.store(state.inboxes[c].len(), Ordering::SeqCst);
        }
        Some(result)
    }

    /// The slot map as of the last transaction ordered.
    pub fn map(&self) -> Arc<Vec<u16>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).map.clone()
    }

    /// Does anything wait for this core?
    #[inline]
    pub fn has_mail(&self, core: usize) -> bool {
        self.waiting[core].0.load(Ordering::SeqCst) > 0
    }

    /// Takes all that waits for this core, in order.
    pub fn take(&self, core: usize) -> VecDeque<T> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        self.waiting[core].0.store(0, Ordering::SeqCst);
        std::mem::take(&mut state.inboxes[core])
    }
}
