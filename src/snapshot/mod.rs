//! Point-in-time images of the dataset, in Redis's own file format.
//!
//! [`rdb`] is the codec: pure, bytes in and out of store types. [`dump`] uses
//! it for single values, as commands; [`load`] puts files into stores.
pub mod access;
pub mod check;
pub mod dump;
pub mod load;
pub mod rdb;

#[cfg(test)]
mod cut_tests;
