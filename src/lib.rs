//! Coreslot: a multi-core, Redis-compatible in-memory data server.
//!
//! One process uses the whole machine. Every *data core* is one pinned thread
//! with its own io_uring ring, its own connections and its own disjoint set of
//! the 16,384 hash slots; data cores share nothing and talk by messages.
//!
//! # Modules
//!
//! Each module imports only modules that stand above it in this list;
//! `tests/tidy.rs` keeps it so.
//!
//! | module | holds |
//! | --- | --- |
//! | [`base`] | argument vectors, clock, randomness, slots, number, glob and word helpers |
//! | [`config`] | the directive table: parsing, CONFIG GET/SET/REWRITE, help |
//! | [`observe`] | log, counters, latency histograms, slow log, latency events |
//! | [`resp`] | RESP2/RESP3 parsing and encoding, pure |
//! | [`reactor`] | the turn, the ring, timers, the mesh |
//! | [`store`] | one core's keyspace: slot tables, entries, value types, expiry, defragmentation |
//! | [`command`] | command rows beside their handlers, a file per family |
//! | [`acl`] | users, their rules, and what they may do; pure |
//! | [`transaction`] | cross-core ordering and locks |
//! | [`script`] | Lua scripts and functions, each core with a state of its own |
//! | [`session`] | connection state, bytes to requests, replies to bytes |
//! | [`journal`] | effects of all cores merged into one stream, backlog, append-only file |
//! | [`snapshot`] | point-in-time images without fork; the RDB format |
//! | [`replication`] | both roles of PSYNC, WAIT, offsets, as state machines |
//! | [`server`] | composition root: data cores, admin commands, start and stop |
//!
//! # Life of a SET
//!
//! A client sends `SET k v` to a core that owns the slot of `k`. All of this
//! happens in one turn of that core; [`reactor::turn`] says why its stages run
//! in that order.
//!
//! 1. *reap*: the connection's multishot receive completes.
//!    [`Core::collect`](server::core::Core::collect) notes which of the ring's
//!    provided buffers ([`reactor::buffers`]) holds how many bytes for whom: an
//!    [`Arrival`](server::io::Arrival). Nothing is copied.
//! 2. *receive*, *stamp*, *order*: the mesh is drained, in the order of the
//!    senders' stamps ([`server::mail`]), the turn gets its time, and multi-core
//!    transactions take their places in the lock queue.
//! 3. *run*: [`Core::serve_all`](server::core::Core::serve_all) takes the
//!    arrivals. [`resp::request::read`] finds the arguments in the ring's
//!    buffer, in place; only what is incomplete or cannot run yet is copied to
//!    the connection. The registry ([`server::registry`]) finds the command and
//!    its route; [`hash_key`](base::slot::hash_key) gives hash and slot in one
//!    word. Up to 64 requests are parsed before the first runs: in passes over
//!    the batch, their table headers, then buckets, then entries are prefetched.
//! 4. The slot is ours, nothing is outstanding on the connection and no lock is
//!    held, so [`Core::run_alike`](server::core::Core::run_alike) calls the handler
//!    from the command's row ([`command::string`]) with a context
//!    [`Cx`](command::Cx) and the arguments, and again for what follows in the
//!    pipeline as long as it is the same command. Of everything else
//!    [`Core::dispatch`](server::core::Core::dispatch) decides where it runs.
//! 5. The handler looks the key up in the slot's table ([`store::table`],
//!    [`store::buckets`]), writes key and value into one allocation
//!    ([`store::entry`]), encodes `+OK` straight into the connection's output
//!    ([`resp::Reply`]) and records what changed in an
//!    [`Effect`](command::effect::Effect). It knows neither clock, socket nor
//!    core. WATCH reads the effect; counters, latency and slow log are kept
//!    beside the handler, once for all commands.
//! 6. *journal*: if anyone reads the stream,
//!    [`Core::publish_effects`](server::effects) hands the turn's effects to the
//!    service core, which merges those of all cores ([`journal`]). *flush*, once
//!    the clock has passed the turn's stamp: messages to other cores go first,
//!    then [`Core::flush_connections`](server::core::Core::flush_connections) queues
//!    one send per connection with output and gives the ring its buffers back.
//!    (What other cores are about to answer is waited for.) The next *reap*
//!    submits the sends.
//! 7. *background*: expiry and other work, within a time budget.
//!
//! ## On another core
//!
//! If another core owns the slot, the request is copied into that core's
//! [`Batch`](server::batch::Batch), packed, and [`Replies`](session::replies::Replies)
//! keeps its place among the connection's replies. *flush* sends one batch per
//! core over the mesh ([`reactor::mesh`]) and wakes the owner if it is parked.
//! There [`Core::run_batch`](server::core::Core::run_batch) makes the same
//! passes and sends the batch back with its replies, which
//! [`Core::take_replies`](server::core::Core::take_replies) puts into their
//! places: two messages for all requests of a turn, not for each.
//!
//! If the slot has moved meanwhile, the old owner sends the request on. If the
//! key is locked by a transaction, it is parked in the lock queue
//! ([`transaction::locks`]) and its reply comes by itself. A connection holds
//! back what follows when the order could be seen to change: a slot whose route
//! changed, a command that is not over keys, or `pipeline-order strict`.
//! [`server::moves`] tells how slots move.
//!
//! ## Over several cores
//!
//! `MSET a 1 b 2` with `a` and `b` on different cores becomes a transaction
//! ([`server::tx`]):
//!
//! 1. The connection waits until nothing of it is outstanding.
//!    [`Core::submit_tx`](server::core::Core::submit_tx) enters the
//!    [`Sequencer`](transaction::sequencer::Sequencer): one short critical
//!    section gives the transaction its time and its place in the inbox of
//!    every core concerned, so that all agree on the order of any two.
//! 2. Every core takes its inbox in its *order* stage, before it runs anything,
//!    and locks the part's keys in that order.
//! 3. MSET is *split*: each part runs the handler on its own keys as soon as
//!    its locks are granted, and reports. Commands that need all data in one
//!    place (SUNIONSTORE, LMOVE, EXEC) *gather*: the parts move their entries to
//!    the coordinator, which runs the unchanged handler on them as if they were
//!    its own.
//! 4. When all have reported, the coordinator writes the merged reply and
//!    releases the locks; gathered entries go home with the release. Commands
//!    parked behind the locks go ahead.
//!
//! When the keys of a command lie on one core, none of this is paid.
pub mod acl;
pub mod base;
pub mod command;
pub mod config;
pub mod journal;
pub mod observe;
pub mod reactor;
pub mod replication;
pub mod resp;
pub mod script;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod store;
pub mod transaction;
