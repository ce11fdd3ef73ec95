//! The append-only file on disk: which files there are, and what is in them.
//! Pure; reading and writing is the server's.

pub mod check;
pub mod manifest;
pub mod reader;
