//! CLIENT: what concerns the own connection, pauses, and the rows of the family.

use super::auth::{printable, set_name};
use super::client_list::{info, kill, list};
use super::containers;
use super::tracking::{caching, getredir, tracking, trackinginfo};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::parse::timeout_ms;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::command::{Fault, fault};
use crate::server::core::Core;
use crate::server::pause::Purpose;
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::session::conn::{Conn, ReplyMode};

const OWN: Spec = Spec {
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE,
    acl: acl::CONNECTION,
    group: Group::Connection,
    ..Spec::DEFAULT
};
const ADMIN: Spec = Spec { flags: OWN.flags | flag::ADMIN, ..OWN };

/// A subcommand about the own connection.
const fn own(name: &'static str, arity: i32, since: &'static str, summary: &'static str, run: ConnRun) -> ConnCommand {
    ConnCommand { spec: Spec { name, arity, since, summary, ..OWN }, run: Some(run), light: true }
}

/// A subcommand that reaches other connections.
const fn admin(
    name: &'static str,
    arity: i32,
    since: &'static str,
    summary: &'static str,
    run: ConnRun,
) -> ConnCommand {
    ConnCommand { spec: Spec { name, arity, since, summary, ..ADMIN }, run: Some(run), light: false }
}

/// A subcommand whose cost grows with the number of connections.
const fn linear(c: ConnCommand) -> ConnCommand {
    ConnCommand { spec: Spec { complexity: "O(N) where N is the number of connections", ..c.spec }, ..c }
}

const fn tip(c: ConnCommand) -> ConnCommand {
    ConnCommand { spec: Spec { tips: &["nondeterministic_output"], ..c.spec }, ..c }
}

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "client",
            arity: -2,
            group: Group::Connection,
            since: "2.4.0",
            complexity: "Depends on the subcommand",
            summary: "Tells about connections and changes them.",
            ..Spec::DEFAULT
        },
        run: None,
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "client|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "5.0.0",
            summary: "Lists the subcommands of CLIENT.",
            ..OWN
        },
        run: Some(help),
        light: true,
    },
    own("client|id", 2, "5.0.0", "Id of the connection.", id),
    tip(own("client|info", 2, "6.2.0", "Describes the connection.", info)),
    own("client|getname", 2, "2.6.9", "Name of the connection.", getname),
    own("client|setname", 3, "2.6.9", "Names the connection.", setname).takes("connection-name"),
    own("client|setinfo", 4, "7.2.0", "Tells the client's library and its version.", setinfo)
        .takes("attr(LIB-NAME libname|LIB-VER libver)"),
    own("client|reply", 3, "3.2.0", "Turns replies on or off, or skips one.", reply).takes("action(ON|OFF|SKIP)"),
    own("client|no-touch", 3, "7.2.0", "Whether commands count as accesses to keys.", no_touch)
        .takes("enabled(ON|OFF)"),
    own("client|caching", 3, "6.0.0", "Whether the next command's keys are tracked.", caching).takes("mode(YES|NO)"),
    ConnCommand {
        light: false,
        ..own("client|tracking", -3, "6.0.0", "Tracks keys that the client caches.", tracking)
            .takes("status(ON|OFF) [REDIRECT client-id:int] [PREFIX... prefix] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]")
    },
    own("client|trackinginfo", 2, "6.2.0", "How keys are tracked for the connection.", trackinginfo),
    own("client|getredir", 2, "6.0.0", "Where tracking messages go.", getredir),
    ConnCommand {
        light: true,
        ..admin("client|no-evict", 3, "7.0.0", "Exempts the connection from eviction.", no_evict)
            .takes("enabled(ON|OFF)")
    },
    linear(tip(admin("client|list", -2, "2.4.0", "Describes connections.", list)
        .takes("[TYPE client-type(NORMAL|MASTER|REPLICA|PUBSUB)@5.0.0] [ID client-id:int...@6.2.0]"))),
    linear(admin("client|kill", -3, "2.4.0", "Closes connections.", kill).takes(
        "filter(old-format'ip:port'@-2.8.12|new-format([ID client-id:int@2.8.12]|[TYPE \
        client-type(NORMAL|MASTER@3.2.0|SLAVE|REPLICA@5.0.0|PUBSUB)@2.8.12]|[USER username]|[ADDR \
        addr'ip:port']|[LADDR laddr'ip:port'@6.2.0]|[SKIPME skipme(YES|NO)]|[MAXAGE maxage:int@7.4.0])...)",
    )),
    admin("client|pause", -3, "3.0.0", "Lets commands wait for a time.", pause)
        .takes("timeout:int [mode(WRITE|ALL)@6.2.0]"),
    admin("client|unpause", 2, "6.2.0", "Ends a pause.", unpause),
    admin("client|unblock", -3, "5.0.0", "Ends a blocking command of another connection.", unblock)
        .takes("client-id:int [unblock-type(TIMEOUT|ERROR)]"),
];

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// `on` or `off`.
fn switch(word: &[u8]) -> Result<bool, Fault> {
    match word {
        w if is(w, "on") => Ok(true),
        w if is(w, "off") => Ok(false),
        _ => Err(fault::SYNTAX),
    }
}

/// More arguments than a subcommand knows.
fn wrong_number(name: &str) -> Fault {
    format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try CLIENT HELP.").into()
}

fn ok(conn: &mut Conn) -> Result<Outcome, Fault> {
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn id(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let id = conn.id as i64;
    conn.reply(|r| r.int(id));
    Ok(Outcome::Done)
}

fn getname(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let name = conn.name().to_vec();
    conn.reply(|r| if name.is_empty() { r.null() } else { r.bulk(&name) });
    Ok(Outcome::Done)
}

fn setname(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    set_name(conn, args[2])?;
    ok(conn)
}

fn setinfo(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let (what, value) = (args[2].to_ascii_lowercase(), args[3]);
    if !matches!(&what[..], b"lib-name" | b"lib-ver") {
        let word = String::from_utf8_lossy(args[2]);
        return Err(format!("ERR Unrecognized option '{word}'").into());
    }
    if !printable(value) {
        let what = String::from_utf8_lossy(&what);
        return Err(format!("ERR {what} cannot contain spaces, newlines or special characters.").into());
    }
    let x = conn.extra();
    let field = if what == b"lib-name" { &mut x.lib_name } else { &mut x.lib_ver };
    *field = value.to_vec();
    ok(conn)
}

/// ON alone answers; SKIP while replies are off changes nothing.
fn reply(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    match args[2] {
        w if is(w, "on") => {
            conn.reply_mode = ReplyMode::On;
            conn.reply(|r| r.ok());
        }
        w if is(w, "off") => conn.reply_mode = ReplyMode::Off,
        w if is(w, "skip") => {
            if conn.reply_mode != ReplyMode::Off {
                conn.reply_mode = ReplyMode::SkipNext;
            }
        }
        _ => return Err(fault::SYNTAX),
    }
    conn.update_special();
    Ok(Outcome::Done)
}

fn no_touch(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    conn.no_touch = switch(args[2])?;
    ok(conn)
}

fn no_evict(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    conn.no_evict = switch(args[2])?;
    ok(conn)
}

/// All cores have begun to pause when the reply comes.
fn pause(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let all = match args {
        [_, _, _] => true,
        [_, _, _, w] if is(w, "all") => true,
        [_, _, _, w] if is(w, "write") => false,
        [_, _, _, _] => return Err(Fault::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(wrong_number("PAUSE")),
    };
    let until = core.now + timeout_ms(args[2], core.now)?;
    core.tell_service(move |s| s.pause_applying(until));
    core.gather(conn, move |c| c.start_pause(Purpose::Clients, until, all), |_, _, r| r.ok())
}

fn unpause(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.tell_service(|s| s.pause_applying(0));
    core.gather(conn, |c| c.unpause(Purpose::Clients), |_, _, r| r.ok())
}

/// Ends the blocking command of another connection, on whatever core it is.
fn unblock(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    const UNBLOCKED: &[u8] = b"UNBLOCKED client unblocked via CLIENT UNBLOCK";
    let error = match args {
        [_, _, _] => None,
        [_, _, _, w] if is(w, "timeout") => None,
        [_, _, _, w] if is(w, "error") => Some(UNBLOCKED),
        [_, _, _, _] => return Err(Fault::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(wrong_number("UNBLOCK")),
    };
    let id = parse_i64(args[2]).ok_or(fault::NOT_AN_INTEGER)?;
    core.gather(
        conn,
        move |core| u64::try_from(id).is_ok_and(|id| core.unblock_client(id, error)),
        |_, ended, r| r.int(i64::from(ended.contains(&true))),
    )
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    containers::help(
        conn,
        &[
            "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CACHING (YES|NO)",
            "    Whether the keys of the next command are tracked, in OPTIN and OPTOUT mode.",
            "GETNAME",
            "    Name of the connection.",
            "GETREDIR",
            "    Id of the connection that gets tracking messages.",
            "ID",
            "    Id of the connection.",
            "INFO",
            "    Describes the connection as LIST does.",
            "KILL <ip:port>",
            "    Closes the connection from that address.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Closes connections to which all of these apply:",
            "    * ADDR (<ip:port>|<unixsocket>:0), LADDR (<ip:port>|<unixsocket>:0)",
            "      Its remote or local address.",
            "    * ID <client-id>, USER <username>, MAXAGE <seconds>",
            "      Its id, its user, its age at least.",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      What it is used for.",
            "    * SKIPME (YES|NO)",
            "      Whether the own connection stays (it does unless told otherwise).",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [...]]",
            "    Describes connections, a line each.",
            "NO-EVICT (ON|OFF)",
            "    Exempts the connection from being closed for want of memory.",
            "NO-TOUCH (ON|OFF)",
            "    Keeps commands of the connection from counting as accesses to keys.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Lets commands, or only writes, wait for so many milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Turns replies on or off, or skips that of the next command.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Tells the client's library and its version.",
            "SETNAME <name>",
            "    Names the connection.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
            "    Tells the client when keys change that it has read, or that begin with a prefix.",
            "TRACKINGINFO",
            "    How keys are tracked for the connection.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]",
            "    Ends the blocking command of a connection.",
            "UNPAUSE",
            "    Ends a pause.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
