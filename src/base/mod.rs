//! Foundations that know nothing of the server: argument lists, key hashing
//! and slots, numbers, globs, time and randomness.
pub mod clock;
pub mod geohash;
pub mod glob;
pub mod longdouble;
pub mod memory;
pub mod num;
pub mod os;
pub mod rng;
pub mod sha1;
pub mod slot;
pub mod sparse;
pub mod spsc;
pub mod words;

/// One command's arguments, the command name included.
///
/// The slices live in a receive buffer or in a message between cores; a
/// handler copies what it keeps.
pub type Args<'a> = &'a [&'a [u8]];
