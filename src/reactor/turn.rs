//! The turn of a data core.
//!
//! The order of the stages is the correctness argument of the whole server:
//!
//! 1. *reap* before *stamp*, and *receive* before *stamp*: whatever another
//!    core did before it sent a message, and whatever a client saw before it
//!    sent a request, carries an earlier stamp than this turn.
//! 2. *order* before *run*: a multi-core transaction whose client has had its
//!    reply stands in this core's inbox already, so nothing of this turn can
//!    slip in front of it.
//! 3. *journal* before *flush*: no reply leaves before its effect is published.
//! 4. *flush* only once the clock has passed the stamp, so that whoever hears
//!    of this turn stamps later.

use crate::base::clock::mono_ns;

/// The stages, in the order in which they run.
pub trait Stages {
    /// Submits, and collects completions; blocks when nothing is runnable.
    fn reap(&mut self);
    /// Drains the mesh.
    fn receive(&mut self);
    /// Takes the turn's stamp, nanoseconds of the monotonic clock.
    fn stamp(&mut self, stamp_ns: u64);
    /// Drains the inbox of multi-core transactions.
    fn order(&mut self);
    /// Executes.
    fn run(&mut self);
    /// Publishes the turn's effects.
    fn journal(&mut self);
    /// Sends replies and messages.
    fn flush(&mut self);
    /// Expiry and other work that waits for nobody, within a time budget.
    fn background(&mut self);
    /// Has the core been told to stop?
    fn stopping(&self) -> bool;
}

/// Runs turns until the core is told to stop.
pub fn run(core: &mut impl Stages) {
    let mut last = 0u64;
    while !core.stopping() {
        core.reap();
        core.receive();
        let stamp = mono_ns().max(last + 1);
        last = stamp;
        core.stamp(stamp);
        core.order();
        core.run();
        core.journal();
        while mono_ns() <= stamp {
            std::hint::spin_loop();
        }
        core.flush();
        core.background();
    }
}
