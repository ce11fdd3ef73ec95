//! CLIENT PAUSE: requests wait, connections stay.

use super::core::Core;
use super::registry::Entry;
use crate::base::Args;
use crate::command::spec::flag;
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
        let queued = if entry.spec.name == "exec" { self.queued_flags(conn).0 } else { 0 };
        let writes = (self.flags_of(entry, args) | queued) & (flag::WRITE | flag::MAY_REPLICATE) != 0;
        if !(self.pause.all || writes) {
            return false;
        }
        if !conn.paused {
            conn.paused = true;
            self.paused.push(conn.me.index);
        }
        true
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
