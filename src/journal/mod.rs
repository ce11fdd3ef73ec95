//! The journal: the effects of all cores, merged into one stream in real-time
//! order.
//!
//! Every data core has a [`writer`](writer::Writer) that collects the commands
//! of its turns and publishes them, stamped, into its [`lane`](lane::Lane).
//! The service core's [`merge`](merge::Merge) brings the lanes together by
//! stamp. What it emits goes to a [`stream`](stream::Selected) that adds
//! SELECT, and so into the [`backlog`](backlog::Backlog) and the append-only
//! file ([`aof`]). All parts here are pure; the glue is in `server`.

pub mod aof;
pub mod backlog;
pub mod block;
pub mod lane;
pub mod marks;
pub mod merge;
#[cfg(test)]
mod merge_tests;
pub mod record;
pub mod stream;
pub mod writer;
