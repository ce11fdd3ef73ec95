//! Both roles of replication (PSYNC2), as state machines without I/O.
//!
//! | file | holds |
//! | --- | --- |
//! | `node` | one server's replication; [`Node::step`](node::Node::step) |
//! | `event` | what it is told, and what it wants done |
//! | `id`, `history` | replication ids and the rules of partial resynchronization |
//! | `peer`, `replica` | what a replica says about itself; what is known of it |
//! | `primary`, `full` | the primary's side; full synchronization |
//! | `upstream`, `bulk`, `stream` | the replica's side: handshake, snapshot, stream |
//! | `wait`, `failover` | WAIT and WAITAOF; FAILOVER |
//! | `report` | INFO and ROLE |
//! | `policy` | the settings obeyed |
//!
//! Sources: the replication protocol as Redis 7.0 and 7.2 speak it, observed on
//! the wire against redis-server 7.0.15.
pub mod bulk;
pub mod event;
pub mod failover;
pub mod full;
pub mod history;
pub mod id;
pub mod node;
pub mod peer;
pub mod policy;
pub mod primary;
#[cfg(test)]
mod primary_tests;
pub mod replica;
pub mod report;
pub mod stream;
pub mod upstream;
#[cfg(test)]
mod upstream_tests;
pub mod wait;
