//! MODULE: there are no modules, and none can be loaded.

use super::containers::help;
use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, flag};
use crate::observe::log;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome};
use crate::session::conn::Conn;

const GUARDED: u32 = flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING | flag::PROTECTED;

pub const ROWS: &[ConnCommand] = &[
    row("module", -2, 0, "Manages modules; there are none.", None),
    in_any_order(row("module|list", 2, flag::ADMIN | flag::NOSCRIPT, "Lists the modules: none.", Some(list))),
    row("module|load", -3, GUARDED, "Refuses to load a module.", Some(load)).takes("path [arg...]"),
    since(
        "7.0.0",
        row("module|loadex", -3, GUARDED, "Refuses to load a module.", Some(load))
            .takes("path [CONFIG... configs(name value)] [ARGS args...]"),
    ),
    row("module|unload", 3, GUARDED, "Finds no module to unload.", Some(unload)).takes("name"),
    since(
        "5.0.0",
        row("module|help", 2, flag::LOADING | flag::STALE, "Lists the subcommands of MODULE.", Some(module_help)),
    ),
];

const fn row(name: &'static str, arity: i32, flags: u32, summary: &'static str, run: Option<ConnRun>) -> ConnCommand {
    ConnCommand {
        spec: Spec {
            name,
            arity,
            flags,
            group: Group::Server,
            since: "4.0.0",
            complexity: if run.is_some() { "O(1)" } else { "Depends on the subcommand" },
            summary,
            ..Spec::DEFAULT
        },
        run,
        light: true,
    }
}

const fn since(version: &'static str, mut row: ConnCommand) -> ConnCommand {
    row.spec.since = version;
    row
}

const fn in_any_order(mut row: ConnCommand) -> ConnCommand {
    row.spec.tips = &["nondeterministic_output_order"];
    row
}

fn list(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    conn.reply(|r| r.array(0));
    Ok(Outcome::Done)
}

fn load(_: &mut Core, _: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let path = String::from_utf8_lossy(args[2]);
    log::warning(format_args!("Module {path} failed to load: modules are not supported"));
    Err(Fault::Text("ERR Error loading the extension. Please check the server logs."))
}

fn unload(_: &mut Core, _: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    Err(Fault::Text("ERR Error unloading module: no such module with that name"))
}

fn module_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "LIST",
            "    Lists the modules: there are none.",
            "LOAD <path> [<arg> ...]",
            "    Refused: modules cannot be loaded.",
            "LOADEX <path> [CONFIG <name> <value> ...] [ARGS <arg> ...]",
            "    Refused: modules cannot be loaded.",
            "UNLOAD <name>",
            "    Finds no module of any name.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
