//! What scripts need of the server.

use std::ffi::c_int;

use crate::resp::reply::Proto;

/// Why a script ends before its time. Scripts cannot catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// SCRIPT KILL or FUNCTION KILL.
    Killed,
    /// The server stops.
    Stopping,
    /// It needs data that is not at hand: it is to be run again.
    Again,
}

/// What became of a command that a script called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// The reply is written.
    Replied,
    /// It may not run: the error, its code included, which has been counted.
    Refused(Vec<u8>),
    Abort(Abort),
}

/// The server, as a running script sees it.
pub trait Host {
    /// Runs a command and appends its reply.
    fn call(&mut self, args: &[&[u8]], proto: Proto, out: &mut Vec<u8>) -> Called;

    /// Called now and then while code runs: may it go on?
    fn interrupt(&mut self) -> Option<Abort>;

    /// A line for the server's log; levels as `redis.LOG_*`.
    fn log(&mut self, level: c_int, text: &[u8]);

    /// Which of what follows is passed on; flags as `redis.REPL_*`.
    fn set_propagation(&mut self, flags: c_int);

    /// May the script's user run this command? `None` when there is no such command.
    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool>;
}
