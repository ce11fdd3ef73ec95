//! The journal and the append-only file on real servers.
//!
//! Files written here are read by stock redis-server and the other way round;
//! servers are killed, files are cut, disks fill up.

#[path = "../support/mod.rs"]
mod support;

mod check;
mod commands_base;
mod durability;
mod eviction;
mod files;
mod flaky;
mod golden;
mod harness;
mod power;
mod rewrite;
mod slow;
mod steps;
