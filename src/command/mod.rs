//! Commands over keys: a file per family, each command's row beside its
//! handler.
//!
//! A handler takes the context [`Cx`] and the arguments, writes its reply and
//! describes what it changed as one [`effect::Effect`]; it knows no socket, no
//! clock, no protocol version and no other core. A new command is a row and a
//! handler in its family's file, and a test.
pub mod bitfield;
pub mod bitmap;
pub mod blocking;
pub mod collect;
pub mod counter;
pub mod cx;
pub mod debug;
pub mod digest;
pub mod effect;
pub mod expiry;
pub mod fault;
pub mod generic;
pub mod geo;
pub mod geo_search;
#[cfg(test)]
mod geo_tests;
pub mod hash;
pub mod hash_fields;
#[cfg(test)]
mod hash_tests;
pub mod hyperloglog;
pub mod keys;
pub mod keyspace;
pub mod lcs;
pub mod list;
#[cfg(test)]
mod list_tests;
pub mod memory;
pub mod object;
pub mod parse;
pub mod set;
#[cfg(test)]
mod set_tests;
pub mod setops;
pub mod sort;
pub mod spec;
pub mod stream;
pub mod stream_args;
pub mod stream_claim;
pub mod stream_group;
pub mod stream_info;
pub mod stream_read;
#[cfg(test)]
mod stream_tests;
pub mod string;
pub mod string_edit;
pub mod string_multi;
pub mod syntax;
#[cfg(test)]
pub mod testing;
pub mod zrange;
pub mod zset;
#[cfg(test)]
mod zset_tests;
pub mod zsetops;

pub use cx::Cx;
pub use fault::Fault;
pub use spec::{Across, Command, Merge, Spec};

/// What a handler returns: its reply is written, or the fault is the reply.
pub type Done = Result<(), Fault>;

/// The rows of all families.
pub fn families() -> [&'static [Command]; 31] {
    [
        string::ROWS,
        string_multi::ROWS,
        string_edit::ROWS,
        counter::ROWS,
        lcs::ROWS,
        bitmap::ROWS,
        bitfield::ROWS,
        generic::ROWS,
        object::ROWS,
        expiry::ROWS,
        keyspace::ROWS,
        list::ROWS,
        blocking::ROWS,
        set::ROWS,
        setops::ROWS,
        hash::ROWS,
        hash_fields::ROWS,
        zset::ROWS,
        debug::ROWS,
        memory::ROWS,
        zrange::ROWS,
        zsetops::ROWS,
        stream::ROWS,
        stream_read::ROWS,
        stream_group::ROWS,
        stream_claim::ROWS,
        stream_info::ROWS,
        hyperloglog::ROWS,
        geo::ROWS,
        geo_search::ROWS,
        sort::ROWS,
    ]
}
