//! Deterministic simulation of replication: chains and stars of servers built
//! from the product's own state machines, an abstract dataset, and faults from
//! a seed. A failing seed replays exactly: `scripts/sim SEED`.
//!
//! | file | holds |
//! | --- | --- |
//! | `data` | the dataset: lists of unique values, so that order, loss and repetition show |
//! | `server` | one server around a `Node`: log, snapshot, applier, disk |
//! | `world` | time, connections and their faults |
//! | `scenario` | what is done to a world, and what must hold afterwards |
//! | `wire` | the few commands spoken between servers |
mod data;
mod scenario;
mod server;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds that every run of the tests takes, per scenario.
const SEEDS: u64 = 60;

fn many(name: &str, run: fn(u64)) {
    let (first, count) = match std::env::var("SIM_SEED") {
        Ok(seed) => {
            let count = std::env::var("SIM_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
            (seed.parse().expect("SIM_SEED is a number"), count)
        }
        Err(_) => (1, SEEDS),
    };
    for seed in first..first + count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("scenario {name} fails with seed {seed}; replay it with: scripts/sim {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Five servers in one random tree after another, a new primary each time, and
/// links that are cut again and again: each server is copied in full only once.
#[test]
fn relayouts_need_no_full_synchronization() {
    many("relayout", scenario::relayout);
}

/// Writes go on while links are cut, hang half-open and stall, and servers
/// crash and come back with an old state or none: all end up equal.
#[test]
fn faults_heal() {
    many("faults", scenario::faults);
}

/// Planned switchovers under load lose no accepted write and need no full copy.
#[test]
fn failover_loses_nothing() {
    many("failover", scenario::failover);
}

/// A server restarted with the state it saved goes on from there.
#[test]
fn restart_resumes() {
    many("restart", scenario::restart);
}

/// Histories that part and meet again: no write of one that lost survives.
#[test]
fn parted_histories_do_not_mix() {
    many("split", scenario::split);
}
