//! Pauses: requests wait, connections stay. Those of clients (CLIENT PAUSE), of a
//! failover and of a shutdown know nothing of each other: each ends by itself.

use super::core::Core;
use super::registry::Entry;
use crate::base::Args;
use crate::command::spec::flag;
use crate::session::conn::Conn;

/// Who pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Clients,
    Shutdown,
    Failover,
}

/// How long, and what.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Unix milliseconds.
    until_ms: u64,
    /// All commands, or only those that may write.
    all: bool,
}

/// What is paused on a core: whatever one of the purposes pauses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    spans: [Option<Span>; 3],
    pub active: bool,
    /// All commands, or only those that may write.
    pub all: bool,
    /// When the first of them ends, Unix milliseconds.
    pub until_ms: u64,
}

impl Pause {
    fn begin(&mut self, purpose: Purpose, new: Span) {
        let span = &mut self.spans[purpose as usize];
        *span = Some(match *span {
            Some(old) => Span { until_ms: old.until_ms.max(new.until_ms), all: old.all || new.all },
            None => new,
        });
        self.settle();
    }

    fn end(&mut self, purpose: Purpose) {
        self.spans[purpose as usize] = None;
        self.settle();
    }

    fn end_due(&mut self, now_ms: u64) {
        for span in &mut self.spans {
            *span = span.filter(|s| now_ms < s.until_ms);
        }
        self.settle();
    }

    fn settle(&mut self) {
        let live = || self.spans.iter().flatten();
        (self.active, self.all) = (live().next().is_some(), live().any(|s| s.all));
        self.until_ms = live().map(|s| s.until_ms).min().unwrap_or(0);
    }
}

impl Core {
    /// Is this request to wait? If so its connection is listed.
    pub fn held_by_pause(&mut self, conn: &mut Conn, entry: &Entry, args: Args) -> bool {
        if self.now >= self.pause.until_ms {
            self.end_due_pauses();
            if !self.pause.active {
                return false;
            }
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
    pub fn start_pause(&mut self, purpose: Purpose, until_ms: u64, all: bool) {
        self.pause.begin(purpose, Span { until_ms, all });
        self.update_gate();
    }

    /// Ends the pause of a purpose.
    pub fn unpause(&mut self, purpose: Purpose) {
        self.pause.end(purpose);
        self.let_paused_go();
    }

    /// Ends pauses whose time is over.
    pub fn end_due_pauses(&mut self) {
        self.pause.end_due(self.now);
        self.let_paused_go();
    }

    /// Lets all paused connections try again: some may still have to wait.
    fn let_paused_go(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_ends_by_itself() {
        let mut p = Pause::default();
        p.begin(Purpose::Failover, Span { until_ms: u64::MAX, all: false });
        p.begin(Purpose::Clients, Span { until_ms: 500, all: true });
        assert!(p.active && p.all && p.until_ms == 500);
        p.end_due(499);
        assert!(p.all);
        p.end_due(500);
        assert!(p.active && !p.all && p.until_ms == u64::MAX);
        p.begin(Purpose::Clients, Span { until_ms: 900, all: false });
        p.begin(Purpose::Clients, Span { until_ms: 700, all: true });
        assert!(p.all && p.until_ms == 900);
        p.end(Purpose::Failover);
        assert!(p.active && p.all);
        p.end(Purpose::Clients);
        assert!(!p.active && !p.all);
    }
}
