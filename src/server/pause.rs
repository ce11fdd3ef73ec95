//! CLIENT PAUSE: requests wait, connections stay.

use super::core::Core;
use super::registry::{Entry, Route, registry};
use crate::base::Args;
use crate::command::spec::flag;
use crate::script::cache::parse_sha;
use crate::script::source;
use crate::session::conn::Conn;

/// What is paused on a core, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    pub active: bool,
    /// Unix milliseconds.
    pub until_ms: u64,
    /// All commands, or only those that may write.
    pub all: bool,
}

impl Core {
    /// Is this request to wait? If so its connection is listed.
    pub fn held_by_pause(&mut self, conn: &mut Conn, entry: &Entry, args: Args) -> bool {
        if self.now >= self.pause.until_ms {
            self.unpause();
            return false;
        }
        let writes = self.may_write(entry, args) || (entry.spec.name == "exec" && self.queue_may_write(conn));
        if !(self.pause.all || writes) {
            return false;
        }
        if !conn.paused {
            conn.paused = true;
            self.paused.push(conn.me.index);
        }
        true
    }

    /// May the command write? Of a script that says that it does not, it is
    /// known.
    fn may_write(&self, entry: &Entry, args: Args) -> bool {
        entry.spec.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0
            && !(entry.route == Route::Script && self.script_renounces_writes(entry, args))
    }

    fn queue_may_write(&self, conn: &Conn) -> bool {
        let multi = conn.extra.as_ref().and_then(|x| x.multi.as_ref());
        multi.is_some_and(|m| {
            m.queue.iter().any(|q| {
                let args: Vec<&[u8]> = q.args.iter().map(|a| &a[..]).collect();
                self.may_write(&registry().entries[q.command], &args)
            })
        })
    }

    fn script_renounces_writes(&self, entry: &Entry, args: Args) -> bool {
        let scripts = &self.shared.scripts;
        let flags = match entry.spec.name {
            "eval" => source::script(args[1]).ok().map(|(flags, _)| flags),
            "evalsha" => parse_sha(args[1]).and_then(|sha| scripts.cache.get(&sha)).map(|s| s.flags),
            _ => scripts.libraries.flags_of(args[1]),
        };
        flags.is_some_and(|f| f & source::flag::NO_WRITES != 0)
    }

    /// Starts or extends a pause on this core.
    pub fn start_pause(&mut self, until_ms: u64, all: bool) {
        let p = &mut self.pause;
        p.until_ms = if p.active { p.until_ms.max(until_ms) } else { until_ms };
        p.all |= all;
        p.active = true;
        self.update_gate();
    }

    /// Lets all paused connections go on.
    pub fn unpause(&mut self) {
        self.pause = Pause::default();
        self.update_gate();
        for index in std::mem::take(&mut self.paused) {
            if let Some(mut c) = self.conns.take_at(index) {
                c.paused = false;
                self.mark_ready(&mut c);
                self.put_conn(c);
            }
        }
    }
}

/// Have all queued commands this flag?
pub fn queue_is(conn: &Conn, wanted: u32) -> bool {
    let multi = conn.extra.as_ref().and_then(|x| x.multi.as_ref());
    multi.is_none_or(|m| m.queue.iter().all(|q| registry().entries[q.command].spec.flags & wanted != 0))
}

/// Does the connection's open transaction write?
pub fn queued_writes(conn: &Conn) -> bool {
    let multi = conn.extra.as_ref().and_then(|x| x.multi.as_ref());
    multi.is_some_and(|m| {
        m.queue.iter().any(|q| {
            super::registry::registry().entries[q.command].spec.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0
        })
    })
}
