//! Queues between cores: one single-producer single-consumer ring per ordered
//! pair, bounded, and a state per core that says whether it sleeps. The service
//! core is the member after the last data core.
//!
//! Wake-up protocol: a core that is about to block stores that it does,
//! then looks at all its queues once more; a sender publishes its messages,
//! then reads the state. Both with a full fence between, so at least one of the
//! two sees the other. A core that only naps will soon look for other work by itself;
//! messages wake it all the same.
//!
//! Order: a queue keeps its sender's. Messages carry the stamp of the turn
//! that sent them, so that a receiver can also tell what came first of what
//! several cores sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use super::wake::Wake;
use crate::base::spsc::Queue;

/// Messages in one queue. A full queue makes its sender keep the rest and stop
/// reading clients until it has drained.
pub const CAPACITY: usize = 1024;

/// What a core does.
const AWAKE: u8 = 0;
const NAPS: u8 = 1;
const PARKED: u8 = 2;

#[repr(align(128))]
struct Padded<T>(T);

/// A message, and the stamp of its sender's turn, nanoseconds of the monotonic
/// clock. Stamps of one queue never fall.
pub struct Stamped<M> {
    pub stamp_ns: u64,
    pub message: M,
}

/// All queues and flags; shared by all cores.
pub struct Mesh<M> {
    cores: usize,
    queues: Box<[Queue<Stamped<M>, CAPACITY>]>,
    states: Box<[Padded<AtomicU8>]>,
    wake: Box<[Wake]>,
}

impl<M: Send> Mesh<M> {
    /// `wake` wakes one member each.
    pub fn new(wake: Vec<Wake>) -> Mesh<M> {
        let cores = wake.len();
        Mesh {
            cores,
            queues: (0..cores * cores).map(|_| Queue::new()).collect(),
            states: (0..cores).map(|_| Padded(AtomicU8::new(AWAKE))).collect(),
            wake: wake.into(),
        }
    }

    /// Wakes a core if it sleeps, from any thread (start, stop, signals).
    pub fn rouse(&self, core: usize) {
        self.wake[core].rouse();
    }
}

/// One core's end of the mesh.
pub struct Port<M> {
    mesh: Arc<Mesh<M>>,
    core: usize,
}

impl<M: Send> Port<M> {
    /// At most one port per core may be made: its queues have one sender and
    /// one receiver.
    pub fn new(mesh: Arc<Mesh<M>>, core: usize) -> Port<M> {
        assert!(core < mesh.cores);
        Port { mesh, core }
    }

    pub fn cores(&self) -> usize {
        self.mesh.cores
    }

    pub fn wake(&self, core: usize) -> Wake {
        self.mesh.wake[core]
    }

    /// Sends to another core; gives the message back when its queue is full.
    pub fn send(&self, to: usize, stamp_ns: u64, message: M) -> Result<(), M> {
        debug_assert_ne!(to, self.core, "a core does not send to itself");
        let queue = &self.mesh.queues[to * self.mesh.cores + self.core];
        queue.push(Stamped { stamp_ns, message }).map_err(|s| s.message)
    }

    /// The next message from a core.
    pub fn receive(&self, from: usize) -> Option<Stamped<M>> {
        self.mesh.queues[self.core * self.mesh.cores + from].pop()
    }

    /// Is any message waiting?
    pub fn has_mail(&self) -> bool {
        let first = self.core * self.mesh.cores;
        self.mesh.queues[first..first + self.mesh.cores].iter().any(|q| !q.is_empty())
    }

    /// Announces that this core is about to block; the caller looks at its
    /// queues once more before it does.
    pub fn park(&self) {
        self.enter(PARKED);
    }

    /// The same before a short rest, which only messages end early.
    pub fn nap(&self) {
        self.enter(NAPS);
    }

    fn enter(&self, state: u8) {
        self.mesh.states[self.core].0.store(state, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub fn unpark(&self) {
        self.mesh.states[self.core].0.store(AWAKE, Ordering::Relaxed);
    }

    /// After sending: must the receiver be woken? Clears its state, so that one
    /// sleeper is woken once.
    pub fn must_wake(&self, core: usize) -> bool {
        self.wakes(core, NAPS)
    }

    /// The same for work that is no message.
    pub fn must_wake_parked(&self, core: usize) -> bool {
        self.wakes(core, PARKED)
    }

    fn wakes(&self, core: usize, least: u8) -> bool {
        fence(Ordering::SeqCst);
        let state = &self.mesh.states[core].0;
        state.load(Ordering::Relaxed) >= least && state.swap(AWAKE, Ordering::AcqRel) != AWAKE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Wake = Wake { sleeper: -1, others: -1 };

    #[test]
    fn messages_arrive_in_order_and_a_full_queue_refuses() {
        let mesh = Arc::new(Mesh::<Box<usize>>::new(vec![NOBODY, NOBODY]));
        let (a, b) = (Port::new(mesh.clone(), 0), Port::new(mesh, 1));
        for i in 0..CAPACITY {
            a.send(1, i as u64, Box::new(i)).unwrap();
        }
        assert_eq!(*a.send(1, 7, Box::new(7)).unwrap_err(), 7);
        assert!(b.has_mail() && !a.has_mail());
        for i in 0..CAPACITY / 2 {
            let got = b.receive(0).unwrap();
            assert_eq!((got.stamp_ns, *got.message), (i as u64, i));
        }
        assert!(b.receive(1).is_none());
    }

    #[test]
    fn two_threads_exchange_a_million() {
        const N: usize = 1_000_000;
        let mesh = Arc::new(Mesh::<usize>::new(vec![NOBODY, NOBODY]));
        let (a, b) = (Port::new(mesh.clone(), 0), Port::new(mesh, 1));
        let sender = std::thread::spawn(move || {
            for i in 0..N {
                while a.send(1, 0, i).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < N {
            match b.receive(0) {
                Some(got) => {
                    assert_eq!(got.message, next);
                    next += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        sender.join().unwrap();
    }
}
