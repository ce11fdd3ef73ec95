//! Transactions over several cores: one order for all of them, locks on keys,
//! and what is known of one in flight.
pub mod locks;
pub mod sequencer;
