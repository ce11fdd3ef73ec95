//! Point-in-time images of the dataset, in Redis's own file format.
//!
//! [`rdb`] is the codec: pure, bytes in and out of store types. [`dump`] uses
//! it for single values, as commands.
pub mod access;
pub mod dump;
pub mod rdb;
