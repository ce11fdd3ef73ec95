//! Files and payloads, damaged byte by byte.
//!
//! A small dataset of all types and encodings, written by this server and by a
//! stock one, is cut off, changed, shortened and stretched at every offset.
//! Whatever the bytes are: no panic, no endless loop, no memory for what a
//! length merely claims, a verdict that says where, and nothing on disk touched
//! by a load that is refused.
//!
//! - `DAMAGE=all`: every offset with every change, and a larger sample where a
//!   process is started for each (`scripts/damage`).
//! - `DAMAGE_SEED`: which sample.

mod corpus;
mod damaged;
mod journals;
mod legacy;
mod manifests;
mod memory;
mod payloads;
mod snapshots;
mod starts;
#[path = "../support/mod.rs"]
mod support;
mod verdicts;

#[global_allocator]
static ALLOCATOR: memory::Watched = memory::Watched;

/// Is everything to be tried, or a sample?
fn all() -> bool {
    std::env::var("DAMAGE").is_ok_and(|v| v == "all")
}

fn seed() -> u64 {
    support::env_number("DAMAGE_SEED", 1)
}
