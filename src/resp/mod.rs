//! The Redis protocol: requests from bytes, replies to bytes. Pure.
pub mod encode;
pub mod reply;
pub mod request;
pub mod value;

pub use reply::Reply;
