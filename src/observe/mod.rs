//! What can be observed of the server: log, latency histograms, slow log and
//! latency events.
pub mod histogram;
pub mod latency;
pub mod log;
mod log_line;
pub mod slowlog;
pub mod ticks;
