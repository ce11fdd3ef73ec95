//! MONITOR.

use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

pub const ROWS: &[ConnCommand] = &[ConnCommand {
    spec: Spec {
        name: "monitor",
        arity: 1,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        group: Group::Server,
        summary: "Shows the commands of all connections as they run.",
        ..Spec::DEFAULT
    },
    run: Some(monitor),
    light: false,
}];

/// A connection that monitors already gets no second reply, as in Redis.
fn monitor(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    if core.in_exec {
        return Err(Fault::Text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if conn.monitor {
        return Ok(Outcome::Done);
    }
    core.start_monitor(conn)
}
