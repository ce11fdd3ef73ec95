//! Connections: their state, the order of their replies, and what they watch.
pub mod conn;
pub mod replies;
pub mod watch;
