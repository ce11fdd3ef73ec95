//! Point-in-time images of the dataset, in Redis's own file format.
//!
//! [`rdb`] is the codec: pure, bytes in and out of store types.
pub mod rdb;
