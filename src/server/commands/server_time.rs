//! TIME, SHUTDOWN.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::Args;
use crate::command::Fault;
use crate::command::fault::SYNTAX;
use crate::command::parse::is;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::observe::log;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::server::service::shutdown::Order;
use crate::session::conn::Conn;

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "time",
            arity: 1,
            flags: flag::LOADING | flag::STALE | flag::FAST,
            group: Group::Server,
            since: "2.6.0",
            summary: "Returns the server's time: seconds and microseconds.",
            tips: &["nondeterministic_output"],
            ..Spec::DEFAULT
        },
        run: Some(time),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "shutdown",
            syntax: "[abort-selector(save-selector-block([save-selector(NOSAVE|SAVE)] [NOW@7.0.0] \
                [FORCE@7.0.0])|ABORT@7.0.0)]",
            arity: -1,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::NO_MULTI | flag::ALLOW_BUSY,
            acl: acl::DANGEROUS,
            group: Group::Server,
            complexity: "O(N) when saving, for N keys, otherwise O(1)",
            summary: "Stops the server.",
            ..Spec::DEFAULT
        },
        run: Some(shutdown),
        light: false,
    },
];

fn time(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    conn.reply(|r| {
        r.array(2);
        r.bulk_int(now.as_secs() as i64);
        r.bulk_int(i64::from(now.subsec_micros()));
    });
    Ok(Outcome::Done)
}

/// What SHUTDOWN was asked for.
#[derive(Default)]
struct Wishes {
    save: bool,
    nosave: bool,
    abort: bool,
    /// A failure to save is no obstacle.
    force: bool,
    /// Replicas are not waited for.
    now: bool,
}

fn wishes(args: Args) -> Result<Wishes, Fault> {
    let mut w = Wishes::default();
    for a in &args[1..] {
        match a {
            _ if is(a, "save") => w.save = true,
            _ if is(a, "nosave") => w.nosave = true,
            _ if is(a, "abort") => w.abort = true,
            _ if is(a, "now") => w.now = true,
            _ if is(a, "force") => w.force = true,
            _ => return Err(SYNTAX),
        }
    }
    if (w.save && w.nosave) || (w.abort && (w.save || w.nosave || w.now || w.force)) {
        return Err(SYNTAX);
    }
    Ok(w)
}

fn shutdown(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let w = wishes(args)?;
    if w.abort {
        let asker = core.asker(conn);
        core.tell_service(move |s| s.abort_shutdown(asker));
        return Ok(Outcome::Later);
    }
    if let Some(busy) = core.shared.scripts.busy() {
        if !w.nosave {
            return Err(busy);
        }
        // The script's core does not get to its messages before it has ended.
        log::warning(format_args!("User requested shutdown..."));
        core.shared.stop(0);
        return Ok(Outcome::Done);
    }
    log::warning(format_args!("User requested shutdown..."));
    let save = w.save || (!w.nosave && !core.settings.persistence.save.is_empty());
    let order = Order { save, force: w.force, now: w.now };
    let asker = core.asker(conn);
    core.note_blocked(asker.conn);
    core.tell_service(move |s| s.shut_down(order, Some(asker)));
    Ok(Outcome::Later)
}
