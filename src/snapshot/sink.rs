//! Where a snapshot goes: a file, sockets, both.

use std::future::Future;
use std::io;
use std::pin::Pin;

/// An operation under way on the service core.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Takes the bytes of one snapshot, on the service core.
pub trait Sink {
    /// Takes the next bytes; the buffer, or another, comes back empty for more of
    /// them. Taking its time slows the snapshot down.
    fn write<'a>(&'a mut self, bytes: &'a mut Vec<u8>) -> Later<'a, io::Result<()>>;
    /// All bytes have been written: makes the snapshot valid and durable.
    fn finish(&mut self) -> Later<'_, io::Result<()>>;
    /// There will be no snapshot: leaves nothing behind.
    fn abort(&mut self) -> Later<'_, ()>;
}
