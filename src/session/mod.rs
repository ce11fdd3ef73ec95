//! Connections: their state, the order of their replies, what they watch and
//! what they listen to.
pub mod conn;
pub mod pubsub;
pub mod replies;
pub mod tls;
pub mod tracking;
pub mod watch;
