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
pub mod hash;
#[cfg(test)]
mod hash_tests;
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
pub mod spec;
pub mod string;
pub mod string_edit;
pub mod string_multi;
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
pub fn families() -> [&'static [Command]; 21] {
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
        zset::ROWS,
        debug::ROWS,
        memory::ROWS,
        zrange::ROWS,
        zsetops::ROWS,
    ]
}
