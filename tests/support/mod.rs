//! What every black-box test shares: servers on free ports, a RESP client of
//! our own, a seeded generator, and what the kernel knows about a process.
//!
//! Environment:
//! - `CORESLOT_SERVER`: the binary to test instead of the one that cargo built.
//! - `CORESLOT_PLAIN=1`: that binary is a stock server; our own flags are left
//!   out and promises that only Coreslot makes are not asserted.
#![allow(dead_code, unused_imports)]

pub mod certs;
pub mod history;
pub mod ports;
pub mod process;
pub mod rng;
pub mod server;
pub mod transcript;
pub mod unbuilt;
pub mod value;
pub mod wire;

pub use rng::Rng;
pub use server::{Server, each_cores, plain, with_cores};
pub use unbuilt::lacks;
pub use value::{Value, array, bulk, bulks, error, int, nil, nil_array, ok, simple};
pub use wire::{Wire, encode};

use std::time::{Duration, Instant};

/// Polls `condition` every few milliseconds; panics with `what` after `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number from the environment, or the default.
pub fn env_number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}
