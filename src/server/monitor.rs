//! MONITOR: every command of every core, as it runs, to who asked to see them.
//!
//! Order: a monitor sees the commands of one core in the order in which they
//! were dispatched there; those of different cores interleave. A gate
//! ([`super::role`]) keeps this off the hot path while nobody watches.

use std::sync::Arc;

use super::core::Core;
use super::msg::Msg;
use super::redact;
use super::registry::{Entry, Outcome};
use crate::base::{Args, clock};
use crate::command::Fault;
use crate::command::spec::{Spec, flag};
use crate::config::quote_bytes;
use crate::session::conn::{Conn, socket_name};
use crate::session::pubsub::Place;

/// Who watches: the monitors of this core, and how many every core has.
#[derive(Default)]
pub struct Monitors {
    here: Vec<Place>,
    spread: Vec<(usize, usize)>,
}

impl Monitors {
    /// Does anyone watch, on whatever core?
    pub fn any(&self) -> bool {
        !self.spread.is_empty()
    }

    fn adjust(&mut self, core: usize, more: bool) {
        match self.spread.iter_mut().find(|(c, _)| *c == core) {
            Some((_, n)) if more => *n += 1,
            Some((_, n)) => *n -= 1,
            None if more => self.spread.push((core, 1)),
            None => {}
        }
        self.spread.retain(|(_, n)| *n > 0);
    }
}

/// Is a command never shown? Those of administrators are not. Scripts only have
/// a place of their own: before the commands that they call.
pub fn is_private(spec: &Spec) -> bool {
    let runs_code = spec.name.starts_with("eval") || spec.name.starts_with("fcall");
    spec.is(flag::ADMIN) || (spec.is(flag::SKIP_MONITOR) && !runs_code)
}

/// A command as monitors see it.
fn line(db: usize, who: &str, args: &[&[u8]]) -> String {
    let now_us = clock::wall_ns() / 1000;
    let mut text = format!("+{}.{:06} [{db} {who}]", now_us / 1_000_000, now_us % 1_000_000);
    for a in args {
        text.push(' ');
        text += &quote_bytes(a);
    }
    text += "\r\n";
    text
}

impl Core {
    /// MONITOR: commands are shown from the reply on, which comes once all
    /// cores know.
    pub fn start_monitor(&mut self, conn: &mut Conn) -> Result<Outcome, Fault> {
        conn.monitor = true;
        conn.update_special();
        self.monitors.here.push((conn.me.index, conn.me.generation));
        let home = self.id;
        self.gather(conn, move |core| core.adjust_monitors(home, true), |_, _, r| r.ok())
    }

    /// The connection closes or is reset.
    pub fn stop_monitor(&mut self, conn: &mut Conn) {
        if !std::mem::take(&mut conn.monitor) {
            return;
        }
        conn.update_special();
        let place = (conn.me.index, conn.me.generation);
        self.monitors.here.retain(|p| *p != place);
        let home = self.id;
        self.broadcast(move |core| core.adjust_monitors(home, false));
    }

    fn adjust_monitors(&mut self, core: usize, more: bool) {
        self.monitors.adjust(core, more);
        self.update_gate();
    }

    /// Shows a command that was just run, without what is secret in it.
    #[cold]
    pub fn show_command(&mut self, conn: &Conn, entry: &Entry, args: Args) {
        if is_private(entry.spec) {
            return;
        }
        let who = if conn.unix_socket {
            format!("unix:{}", self.settings.resolve(&self.settings.unixsocket).display())
        } else {
            socket_name(conn.fd, true)
        };
        self.show(conn.db, &who, entry, args);
    }

    /// What is to be shown of a command that a script calls, if anyone watches.
    pub fn script_line(&self, db: usize, entry: &Entry, args: Args) -> Option<Arc<str>> {
        let seen = self.monitors.any() && !is_private(entry.spec);
        seen.then(|| line(db, "lua", &redact::shown(entry.spec.name, args)).into())
    }

    /// The same of a command that the primary has sent. Where its keys lie on
    /// several cores, each shows its own.
    #[cold]
    pub fn show_applied(&mut self, db: usize, entry: &Entry, args: Args) {
        let Some(primary) = self.role.primary.filter(|_| self.role.replica) else { return };
        if !is_private(entry.spec) {
            self.show(db, &primary.to_string(), entry, args);
        }
    }

    fn show(&mut self, db: usize, who: &str, entry: &Entry, args: Args) {
        self.spread_line(line(db, who, &redact::shown(entry.spec.name, args)).into());
    }

    /// Gives a line to all monitors.
    pub fn spread_line(&mut self, line: Arc<str>) {
        let cores: Vec<usize> = self.monitors.spread.iter().map(|(core, _)| *core).collect();
        for core in cores {
            let line = line.clone();
            if core == self.id {
                self.show_line(&line);
            } else {
                self.send(core, Msg::Call(Box::new(move |c: &mut Core| c.show_line(&line))));
            }
        }
    }

    /// Gives a line to the monitors of this core.
    fn show_line(&mut self, line: &Arc<str>) {
        for monitor in self.monitors.here.clone() {
            if self.show_line_to(monitor, line) {
                continue;
            }
            // It is being served: it gets the line after its own reply.
            let line = line.clone();
            let later = move |core: &mut Core| {
                core.show_line_to(monitor, &line);
            };
            self.send(self.id, Msg::Call(Box::new(later)));
        }
    }

    /// Unless the monitor wants no replies. False if it is not in its place.
    fn show_line_to(&mut self, (index, generation): Place, line: &str) -> bool {
        let Some(mut c) = self.conns.take(index, generation) else { return false };
        if !c.muted() {
            self.push_bytes(&mut c, line.as_bytes());
        }
        self.put_conn(c);
        true
    }
}
