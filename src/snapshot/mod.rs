//! Point-in-time images of the dataset, in Redis's own file format.
//!
//! [`rdb`] is the codec: pure, bytes in and out of store types. [`dump`] uses
//! it for single values, as commands; [`load`] puts files into stores. A
//! snapshot under way is a [`job`]: every data core reads its keyspace as it
//! was at the cut ([`crate::store::cut`]) and writes records ([`recorder`]);
//! the service core makes one file of them ([`writer`]) and gives it to a
//! [`sink`].
pub mod access;
pub mod check;
pub mod commands;
pub mod direct;
pub mod dump;
pub mod file;
pub mod functions;
pub mod job;
pub mod load;
pub mod rdb;
pub mod recorder;
pub mod sink;
pub mod writer;

#[cfg(test)]
mod cut_tests;
