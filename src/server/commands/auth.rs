//! AUTH, HELLO, RESET: who a connection is, and how it is talked to.

use crate::acl::DEFAULT_USER;
use crate::acl::log::{Origin, Reason};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::command::{Fault, fault};
use crate::resp::reply::Proto;
use crate::server::core::Core;
use crate::server::process::REDIS_VERSION;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::{Conn, ReplyMode};

const ROW: Spec = Spec {
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY,
    acl: acl::CONNECTION,
    group: Group::Connection,
    ..Spec::DEFAULT
};

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "auth",
            syntax: "[username@6.0.0] password",
            arity: -2,
            complexity: "O(N) where N is the number of passwords of the user",
            summary: "Proves who the connection is.",
            ..ROW
        },
        run: Some(auth),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "hello",
            syntax: "[arguments(protover:int [AUTH auth(username password)] [SETNAME clientname])]",
            arity: -1,
            since: "6.0.0",
            summary: "Chooses the protocol version; may log in and name the connection.",
            ..ROW
        },
        run: Some(hello),
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "reset",
            arity: 1,
            since: "6.2.0",
            summary: "Makes the connection as it was when it was made.",
            ..ROW
        },
        run: Some(reset),
        light: false,
    },
];

const WRONG_PASS: Fault = Fault::Text("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASS: Fault = Fault::Text(
    "ERR AUTH <password> called without any password configured for the default user. \
     Are you sure your configuration is correct?",
);
const HELLO_NO_AUTH: Fault = Fault::Text(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
     option can be used to authenticate the client and select the RESP protocol version at the same time",
);
const BAD_NAME: Fault = Fault::Text("ERR Client names cannot contain spaces, newlines or special characters.");

/// Logs the connection in. `word` is the command as it was spelled.
fn log_in(core: &mut Core, conn: &mut Conn, word: &[u8], name: &[u8], password: &[u8]) -> Result<(), Fault> {
    match core.users.authenticate(name, password).cloned() {
        Some(user) => {
            core.log_in(conn, user);
            Ok(())
        }
        None => {
            let origin = if conn.in_multi() { Origin::Multi } else { Origin::TopLevel };
            core.log_denial(conn, Reason::Auth, origin, word, name);
            Err(WRONG_PASS)
        }
    }
}

fn auth(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    match args {
        [_, _] if core.users.default_user().nopass => return Err(NO_PASS),
        [word, password] => log_in(core, conn, word, DEFAULT_USER, password)?,
        [word, user, password] => log_in(core, conn, word, user, password)?,
        _ => return Err(fault::SYNTAX),
    }
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

/// Names that CLIENT LIST can print.
pub fn printable(text: &[u8]) -> bool {
    text.iter().all(|b| (b'!'..=b'~').contains(b))
}

/// Names the connection; an empty name is none.
pub fn set_name(conn: &mut Conn, name: &[u8]) -> Result<(), Fault> {
    if !printable(name) {
        return Err(BAD_NAME);
    }
    if !name.is_empty() || conn.extra.is_some() {
        conn.extra().name = name.to_vec();
    }
    Ok(())
}

/// What HELLO asks for.
#[derive(Default)]
struct Wishes<'a> {
    proto: Option<Proto>,
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn wishes<'a>(args: Args<'a>) -> Result<Wishes<'a>, Fault> {
    let mut w = Wishes::default();
    let Some(version) = args.get(1) else { return Ok(w) };
    w.proto = match parse_i64(version) {
        Some(2) => Some(Proto::Resp2),
        Some(3) => Some(Proto::Resp3),
        Some(_) => return Err(Fault::Text("NOPROTO unsupported protocol version")),
        None => return Err(Fault::Text("ERR Protocol version is not an integer or out of range")),
    };
    let mut rest = &args[2..];
    while let Some(word) = rest.first() {
        rest = match rest {
            [_, user, password, rest @ ..] if word.eq_ignore_ascii_case(b"auth") => {
                w.login = Some((user, password));
                rest
            }
            [_, name, rest @ ..] if word.eq_ignore_ascii_case(b"setname") => {
                w.name = Some(name);
                rest
            }
            _ => {
                let word = String::from_utf8_lossy(word);
                return Err(format!("ERR Syntax error in HELLO option '{word}'").into());
            }
        };
    }
    Ok(w)
}

fn hello(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let w = wishes(args)?;
    if let Some((user, password)) = w.login {
        log_in(core, conn, args[0], user, password)?;
    }
    if !conn.authenticated {
        return Err(HELLO_NO_AUTH);
    }
    if let Some(name) = w.name {
        set_name(conn, name)?;
    }
    conn.proto = w.proto.unwrap_or(conn.proto);
    let (id, version) = (conn.id as i64, if conn.proto == Proto::Resp3 { 3 } else { 2 });
    let role: &[u8] = if core.role.replica { b"replica" } else { b"master" };
    let zone = &core.settings.availability_zone;
    conn.reply(|r| {
        r.map(7 + usize::from(!zone.is_empty()));
        r.bulk(b"server");
        r.bulk(b"redis");
        r.bulk(b"version");
        r.bulk(REDIS_VERSION.as_bytes());
        r.bulk(b"proto");
        r.int(version);
        r.bulk(b"id");
        r.int(id);
        r.bulk(b"mode");
        r.bulk(b"standalone");
        r.bulk(b"role");
        r.bulk(role);
        r.bulk(b"modules");
        r.array(0);
        if !zone.is_empty() {
            r.bulk(b"availability_zone");
            r.bulk(zone.as_bytes());
        }
    });
    Ok(Outcome::Done)
}

/// Name and version of the client's library stay: they are still true.
fn reset(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.discard_multi(conn);
    core.forget_subscriptions(conn);
    core.stop_monitor(conn);
    core.forget_tracking(conn);
    set_name(conn, b"")?;
    conn.db = 0;
    conn.proto = Proto::Resp2;
    conn.no_evict = false;
    conn.no_touch = false;
    conn.reply_mode = ReplyMode::On;
    core.set_default_user(conn);
    conn.reply(|r| r.simple("RESET"));
    Ok(Outcome::Done)
}
