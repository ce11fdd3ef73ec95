//! Replication with real servers: Coreslot and Debian's redis-server in both
//! roles, under random writes, with connections cut and processes killed.

#[path = "../differential/generate.rs"]
#[allow(dead_code)]
mod generate;
#[path = "../support/mod.rs"]
mod support;

mod bad_primary;
mod bad_replicas;
mod clients;
mod commands;
mod disk;
mod eviction;
mod fake_primary;
mod faults;
mod flaps;
mod functions;
mod interop;
mod killed;
mod log_lines;
mod monitors;
mod pauses;
mod places;
mod proxy;
mod restart;
mod servers;
mod silent_host;
mod states;
mod states_files;
mod switchover;
mod tls;
mod valkey;
mod writable;
