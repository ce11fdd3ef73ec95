//! SAVE, BGSAVE, BGREWRITEAOF and LASTSAVE.

use std::sync::atomic::Ordering;

use crate::base::Args;
use crate::command::Fault;
use crate::command::fault::SYNTAX;
use crate::command::parse::is;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const ADMIN: Spec =
    Spec { flags: flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING, group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "save",
            arity: 1,
            flags: ADMIN.flags | flag::NO_MULTI,
            complexity: "O(N) where N is the number of keys",
            summary: "Writes a snapshot while everything else waits.",
            ..ADMIN
        },
        run: Some(save),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "bgsave",
            syntax: "[SCHEDULE@3.2.2]",
            arity: -1,
            summary: "Writes a snapshot in the background.",
            ..ADMIN
        },
        run: Some(bgsave),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "bgrewriteaof",
            arity: 1,
            summary: "Rewrites the append-only file in the background.",
            ..ADMIN
        },
        run: Some(bgrewriteaof),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "lastsave",
            arity: 1,
            flags: flag::LOADING | flag::STALE | flag::FAST,
            acl: acl::ADMIN | acl::DANGEROUS,
            group: Group::Server,
            summary: "Time of the last snapshot.",
            tips: &["nondeterministic_output"],
            ..Spec::DEFAULT
        },
        run: Some(lastsave),
        light: true,
    },
];

const REWRITING: Fault = Fault::Text(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a \
     BGSAVE whenever possible.",
);

const IN_PROGRESS: Fault = Fault::Text("ERR Background save already in progress");

/// The reply comes once the cut has been made: what is written after it is not
/// in the snapshot.
fn bgsave(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let schedule = match args {
        [_] => false,
        [_, word] if is(word, "schedule") => true,
        _ => return Err(SYNTAX),
    };
    match core.shared.persistence.aof.rewriting.load(Ordering::Relaxed) {
        true if schedule => {
            core.shared.saves.scheduled.store(true, Ordering::Relaxed);
            conn.reply(|r| r.simple("Background saving scheduled"));
            return Ok(Outcome::Done);
        }
        true => return Err(REWRITING),
        false => {}
    }
    if !core.shared.saves.try_begin() {
        return Err(IN_PROGRESS);
    }
    let asker = (conn.me, core.origin(conn).seq);
    core.tell_service(move |s| s.save_in_background(Some(asker)));
    Ok(Outcome::Later)
}

/// The same machinery, but nothing is served until it is done.
fn save(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let begun = core.shared.saves.try_begin();
    if !begun && !core.shared.persistence.aof.rewriting.load(Ordering::Relaxed) {
        return Err(IN_PROGRESS);
    }
    let (conn, seq) = (conn.me, core.origin(conn).seq);
    core.tell_service(move |s| {
        s.save_and_hold(begun, move |s, done| {
            s.call(conn.core as usize, move |core| {
                core.answer(conn, seq, |r| if done { r.ok() } else { r.error(b"ERR") });
            });
        });
    });
    Ok(Outcome::Later)
}

fn bgrewriteaof(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let asker = (conn.me, core.origin(conn).seq);
    core.tell_service(move |s| s.order_rewrite(asker));
    Ok(Outcome::Later)
}

/// The time of the start, as long as there was no snapshot.
fn lastsave(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let last_s = core.shared.saves.last_save_s.load(Ordering::Relaxed) as i64;
    conn.reply(|r| r.int(last_s));
    Ok(Outcome::Done)
}
