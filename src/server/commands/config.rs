//! CONFIG: reading and changing the configuration while the server runs.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::containers;
use crate::base::Args;
use crate::command::spec::{Group, Spec, flag};
use crate::command::{Fault, fault};
use crate::config::{Caller, Change, ExtraLines, Lines};
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::server::{apply, process, users_file};
use crate::session::conn::Conn;

/// What a load relies on; as in Redis, for which `server.loading` is also set
/// while a replica loads beside its old dataset.
const NOT_WHILE_LOADING: [&str; 3] = ["appendonly", "repl-diskless-load", "dir"];
const LOADING: Fault = Fault::Text("LOADING Redis is loading the dataset in memory");

const ADMIN: Spec = Spec {
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    group: Group::Server,
    since: "2.0.0",
    ..Spec::DEFAULT
};

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "config",
            arity: -2,
            group: Group::Server,
            since: "2.0.0",
            complexity: "Depends on the subcommand",
            summary: "Reads and changes the configuration.",
            ..Spec::DEFAULT
        },
        run: None,
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "config|get",
            syntax: "parameter...",
            arity: -3,
            complexity: "O(N) where N is the number of directives",
            summary: "Values of directives by name or pattern.",
            ..ADMIN
        },
        run: Some(get),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "config|set",
            syntax: "data(parameter value)...",
            arity: -4,
            complexity: "O(N) where N is the number of directives given",
            summary: "Changes directives: all that are given, or none.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..ADMIN
        },
        run: Some(set),
        light: false,
    },
    ConnCommand {
        spec: Spec { name: "config|resetstat", arity: 2, summary: "Sets the statistics of INFO to zero.", ..ADMIN },
        run: Some(resetstat),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "config|rewrite",
            arity: 2,
            since: "2.8.0",
            summary: "Writes the configuration to its file.",
            ..ADMIN
        },
        run: Some(rewrite),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "config|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            group: Group::Server,
            since: "5.0.0",
            summary: "Lists the subcommands of CONFIG.",
            ..Spec::DEFAULT
        },
        run: Some(help),
        light: true,
    },
];

fn get(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let patterns: Vec<_> = args[2..].iter().map(|a| String::from_utf8_lossy(a)).collect();
    let patterns: Vec<&str> = patterns.iter().map(|p| &**p).collect();
    let found = core.shared.config.get(&patterns);
    conn.reply(|r| {
        r.map(found.len());
        for (name, value) in &found {
            r.bulk(name.as_bytes());
            r.bulk(value.as_bytes());
        }
    });
    Ok(Outcome::Done)
}

fn refused(text: String) -> Fault {
    format!("ERR {text}").into()
}

/// Names and values as text. A name that is unknown comes before a value that is
/// no text.
fn pairs<'a>(core: &Core, args: Args<'a>) -> Result<Vec<(&'a str, &'a str)>, Fault> {
    let text = |name: &[u8], value: &'a [u8]| {
        std::str::from_utf8(value).map_err(|_| {
            let name = String::from_utf8_lossy(name);
            refused(if core.shared.config.get(&[&name]).is_empty() {
                format!("Unknown option or number of arguments for CONFIG SET - '{name}'")
            } else {
                Change::refusal(&name, "argument is not UTF-8 text")
            })
        })
    };
    args[2..].chunks_exact(2).map(|p| Ok((text(p[0], p[0])?, text(p[0], p[1])?))).collect()
}

/// The change is at work on all cores when the reply comes; on this one at
/// once, since inside a transaction more commands may follow.
fn set(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if args.len() % 2 == 1 {
        return Err(fault::SYNTAX);
    }
    let pairs = pairs(core, args)?;
    let shared = core.shared.clone();
    let p = &shared.persistence;
    let loads = p.loading.load(Ordering::Relaxed) || p.async_loading.load(Ordering::Relaxed);
    if loads && pairs.iter().any(|(name, _)| NOT_WHILE_LOADING.iter().any(|n| n.eq_ignore_ascii_case(name))) {
        return Err(LOADING);
    }
    let _one_at_a_time = shared.config_change.lock().unwrap_or_else(PoisonError::into_inner);
    let change = shared.config.prepare(&pairs, Caller { is_local: conn.local }).map_err(refused)?;
    let touched_tls = pairs.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("tls-"));
    let mut applied = apply::process_wide(core, &change, touched_tls).map_err(refused)?;
    let password = change.settings().requirepass.clone();
    let new_password = change.changed().contains(&"requirepass");
    let appendonly = change.changed().contains(&"appendonly").then_some(change.settings().persistence.appendonly);
    let titled = ["proc-title-template", "port", "tls-port", "bind"].iter().any(|n| change.changed().contains(n));
    shared.config.commit(change);
    if titled {
        process::title::show(&shared.config);
    }
    if let Some(enabled) = appendonly {
        // INFO says so from the reply on, as Redis does; the service core begins or
        // completes the files behind it.
        p.aof.enabled.store(enabled, Ordering::SeqCst);
    }
    applied.publish_tls(&shared);
    if new_password {
        core.change_users(|users| {
            users.set_default_password(&password);
            Ok(())
        })?;
        core.refresh_own_user(conn);
    }
    let old = core.settings.clone();
    core.take_settings();
    if Core::changes_clients_limit(&old, &core.settings) {
        return core.change_clients_limit(conn, applied.on_each_core());
    }
    core.gather(conn, applied.on_each_core(), |_, _, r| r.ok())
}

fn resetstat(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.shared.garbage_freed.store(0, Ordering::Relaxed);
    core.tell_service(|s| s.reset_replication_stats());
    core.shared.rooms.reset();
    let each = |c: &mut Core| {
        c.stats.reset();
        c.store.stats = Default::default();
    };
    core.gather(conn, each, |_, _, r| r.ok())
}

fn rewrite(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    rewrite_file(core, conn, Lines::Needed)
}

/// CONFIG REWRITE; with [`Lines::All`], DEBUG CONFIG-REWRITE-FORCE-ALL.
pub fn rewrite_file(core: &mut Core, conn: &mut Conn, which: Lines) -> Result<Outcome, Fault> {
    let users = user_lines(core)?;
    core.shared.config.rewrite_with(&[users], which).map_err(|e| {
        crate::observe::log::warning(format_args!("CONFIG REWRITE failed: {e}"));
        refused(e)
    })?;
    crate::observe::log::notice(format_args!("CONFIG REWRITE executed with success."));
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

/// The `user` lines; none when users live in a file of their own.
fn user_lines(core: &Core) -> Result<ExtraLines, Fault> {
    let lines = match users_file::path(&core.settings) {
        Some(_) => Vec::new(),
        None => users_file::lines(&core.shared.users()),
    };
    let text = |line| String::from_utf8(line).map_err(|_| refused("Rewriting config file: users are not text".into()));
    Ok(ExtraLines { name: "user", lines: lines.into_iter().map(text).collect::<Result<_, _>>()? })
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    containers::help(
        conn,
        &[
            "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET <pattern> [<pattern> ...]",
            "    Names and values of the directives that match.",
            "SET <directive> <value> [<directive> <value> ...]",
            "    Changes directives: all that are given, or none.",
            "RESETSTAT",
            "    Sets the statistics that INFO shows to zero.",
            "REWRITE",
            "    Writes the configuration to the file that the server was started with.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
