//! Lua scripts and functions (Lua 5.1, as in Redis).
//!
//! Every core has an [`engine::Engine`] of its own; what all share is the text
//! of scripts ([`cache`]) and of libraries ([`library`]), of which a core loads
//! what it needs when it needs it. A running script sees the server as a
//! [`host::Host`]. What it may see of Lua is made in [`sandbox`].
mod api;
mod bits;
pub mod cache;
mod cjson;
mod context;
mod convert;
pub mod engine;
pub mod host;
mod json_read;
mod json_write;
pub mod library;
mod lua;
mod msgpack;
mod random;
mod register;
mod sandbox;
pub mod source;
mod structs;
#[cfg(test)]
mod tests;

pub use api::{REPL_ALL, REPL_AOF, REPL_REPLICA};
