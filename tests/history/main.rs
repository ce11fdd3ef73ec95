//! Concurrent clients against one server: is what they saw strictly
//! serializable? How it is decided, and what it cannot see, stands in
//! `tests/support/history/mod.rs`.
//!
//! `HISTORY_SEED` and `HISTORY_ROUNDS` change what is run; a failure names the
//! seed of its round. Threads race, so the same seed gives the same requests
//! but not the same interleaving.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod moves;
mod random;
