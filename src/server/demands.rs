//! What a request may do, as is known before it runs: by the flags of its
//! command, or, of scripts and functions that have flags, by their own.

use super::core::Core;
use super::registry::{Entry, Route, registry};
use crate::base::Args;
use crate::command::spec::flag;
use crate::script::cache::parse_sha;
use crate::script::source;
use crate::session::conn::Conn;

/// What the flags of scripts decide.
const DECIDED: u32 = flag::WRITE | flag::DENYOOM | flag::STALE | flag::MAY_REPLICATE;

impl Core {
    /// Flags of the command, as far as this request of it needs them.
    pub fn flags_of(&self, entry: &Entry, args: Args) -> u32 {
        let flags = entry.spec.flags;
        if entry.route != Route::Script {
            return flags;
        }
        match self.script_flags(entry, args) {
            Some(given) if given & source::flag::COMPAT == 0 => (flags & !DECIDED) | demanded(given),
            _ => flags,
        }
    }

    /// Flags that any command of the connection's open transaction has, and those
    /// that all have.
    pub fn queued_flags(&self, conn: &Conn) -> (u32, u32) {
        let multi = conn.extra.as_ref().and_then(|x| x.multi.as_ref());
        multi.map_or((0, !0), |m| {
            m.queue.iter().fold((0, !0), |(any, all), q| {
                let args: Vec<&[u8]> = q.args.iter().map(|a| &a[..]).collect();
                let flags = self.flags_of(&registry().entries[q.command], &args);
                (any | flags, all & flags)
            })
        })
    }

    /// Of a script that is not known, or that no one may run, nothing is known.
    fn script_flags(&self, entry: &Entry, args: Args) -> Option<u32> {
        let scripts = &self.shared.scripts;
        match entry.spec.name {
            "eval" | "eval_ro" => source::script(args[1]).ok().map(|(flags, _)| flags),
            "evalsha" | "evalsha_ro" => parse_sha(args[1]).and_then(|sha| scripts.cache.get(&sha)).map(|s| s.flags),
            _ => scripts.libraries.flags_of(args[1]),
        }
    }
}

/// Flags of a command that does what a script with these flags may do.
fn demanded(given: u32) -> u32 {
    let mut flags = 0;
    if given & source::flag::NO_WRITES == 0 {
        flags |= flag::WRITE;
        if given & source::flag::ALLOW_OOM == 0 {
            flags |= flag::DENYOOM;
        }
    }
    if given & source::flag::ALLOW_STALE != 0 {
        flags |= flag::STALE;
    }
    flags
}
