//! Black-box tests over real sockets: what a client sees of one server.
//!
//! Expectations are what redis-server 7.0.15 does. To check the tests
//! themselves, run them against it:
//! `CORESLOT_PLAIN=1 CORESLOT_SERVER=/usr/bin/redis-server cargo test --test wire`

#[path = "../support/mod.rs"]
mod support;

mod acl;
mod admin;
mod blocking;
mod blocking_streams;
mod busy_scripts;
mod check_rdb;
mod clients;
mod clients_admin;
mod clients_memory;
mod command_docs;
mod cores;
mod counting;
mod crash;
mod defrag;
mod dump;
mod expiry_exactness;
mod info_moves;
mod introspection;
mod kept_expired;
mod loading;
mod malformed;
mod memory;
mod metrics;
mod migrate;
mod monitor;
mod operators;
mod options;
mod ordering;
mod process;
mod protocol;
mod pubsub;
mod random_arguments;
mod refusals;
mod robustness;
mod scan;
mod scripts;
mod snapshots;
mod tls;
mod tools;
mod tracking;
mod transcripts;
