//! Transactions over several cores: one order for all of them, locks on keys;
//! and who waits for keys.
pub mod locks;
pub mod sequencer;
pub mod waiters;
