//! EVAL and its kin, FCALL, and SCRIPT.

use std::sync::atomic::Ordering;

use crate::base::Args;
use crate::command::Fault;
use crate::command::parse::is;
use crate::command::spec::{Group, KeySpec, Spec, acl, flag, keyflag};
use crate::script::cache::parse_sha;
use crate::server::commands::containers::help;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome, Route, ScriptCommand};
use crate::server::scripts::Kill;
use crate::session::conn::Conn;

const RW: &[KeySpec] = &[KeySpec::counted(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE, 2)];
const RO: &[KeySpec] = &[KeySpec::counted(keyflag::RO | keyflag::ACCESS, 2)];

const BOTH: u32 = flag::NOSCRIPT | flag::SKIP_MONITOR | flag::NO_MANDATORY_KEYS | flag::STALE | flag::MOVABLE_KEYS;

const fn code(name: &'static str, since: &'static str, read_only: bool, summary: &'static str) -> ScriptCommand {
    ScriptCommand {
        spec: Spec {
            name,
            arity: -3,
            flags: BOTH | if read_only { flag::READONLY } else { flag::MAY_REPLICATE },
            keys: if read_only { RO } else { RW },
            acl: acl::SCRIPTING,
            group: Group::Scripting,
            since,
            complexity: "Depends on the code",
            summary,
            ..Spec::DEFAULT
        },
        run: Core::run_script,
        route: Route::Script,
    }
}

pub const SCRIPTS: &[ScriptCommand] = &[
    code("eval", "2.6.0", false, "Runs a Lua script.").takes("script numkeys:int [key#0...] [arg...]"),
    code("evalsha", "2.6.0", false, "Runs a Lua script that the server knows.")
        .takes("sha1 numkeys:int [key#0...] [arg...]"),
    code("eval_ro", "7.0.0", true, "Runs a Lua script that writes nothing.")
        .takes("script numkeys:int [key#0...] [arg...]"),
    code("evalsha_ro", "7.0.0", true, "Runs a Lua script that the server knows, and that writes nothing.")
        .takes("sha1 numkeys:int [key#0...] [arg...]"),
    code("fcall", "7.0.0", false, "Calls a function.").takes("function numkeys:int [key#0...] [arg...]"),
    code("fcall_ro", "7.0.0", true, "Calls a function that writes nothing.")
        .takes("function numkeys:int [key#0...] [arg...]"),
];

/// A container or subcommand that came with version `since`; `cost` is its
/// complexity, `tips` are `request_policy` and `response_policy`.
pub(super) const fn row(
    (since, cost): (&'static str, &'static str),
    name: &'static str,
    arity: i32,
    flags: u32,
    tips: &'static [&'static str],
    summary: &'static str,
    run: Option<ConnRun>,
) -> ConnCommand {
    ConnCommand {
        spec: Spec {
            name,
            arity,
            flags,
            acl: if run.is_some() { acl::SCRIPTING } else { 0 },
            group: Group::Scripting,
            since,
            complexity: if run.is_some() { cost } else { "Depends on the subcommand" },
            summary,
            tips,
            ..Spec::DEFAULT
        },
        run,
        light: false,
    }
}

const SCRIPT: (&str, &str) = ("2.6.0", "O(1)");

pub const ROWS: &[ConnCommand] = &[
    row(SCRIPT, "script", -2, 0, &[], "Manages the scripts that the server knows.", None),
    row(("3.2.0", "O(1)"), "script|debug", 3, flag::NOSCRIPT, &[], "Tells that there is no debugger.", Some(debug))
        .takes("mode(YES|SYNC|NO)"),
    row(
        SCRIPT,
        "script|exists",
        -3,
        flag::NOSCRIPT,
        &["request_policy:all_shards", "response_policy:agg_logical_and"],
        "Tells which scripts the server knows.",
        Some(exists),
    )
    .takes("sha1..."),
    row(
        SCRIPT,
        "script|flush",
        -2,
        flag::NOSCRIPT,
        &["request_policy:all_nodes", "response_policy:all_succeeded"],
        "Forgets all scripts.",
        Some(flush),
    )
    .takes("[flush-type(ASYNC|SYNC)@6.2.0]"),
    row(
        ("5.0.0", "O(1)"),
        "script|help",
        2,
        flag::LOADING | flag::STALE,
        &[],
        "Lists the subcommands of SCRIPT.",
        Some(script_help),
    ),
    row(
        SCRIPT,
        "script|kill",
        2,
        flag::NOSCRIPT | flag::ALLOW_BUSY,
        &["request_policy:all_shards", "response_policy:one_succeeded"],
        "Stops a script that has not written yet.",
        Some(kill),
    ),
    row(
        SCRIPT,
        "script|load",
        3,
        flag::NOSCRIPT | flag::STALE,
        &["request_policy:all_nodes", "response_policy:all_succeeded"],
        "Makes a script known.",
        Some(load),
    )
    .takes("script"),
];

pub const NO_DEBUGGER: Fault = Fault::Text("ERR The Lua debugger is not supported");

/// Who asks for the debugger may not look at the reply (redis-cli does not), and
/// does not mean the next script to change anything: that one is refused, too.
fn debug(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if is(args[2], "no") {
        conn.extra().debugs = false;
        conn.reply(|r| r.ok());
        return Ok(Outcome::Done);
    }
    if is(args[2], "yes") || is(args[2], "sync") {
        conn.extra().debugs = true;
        return Err(NO_DEBUGGER);
    }
    Err(Fault::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}

fn exists(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let cache = &core.shared.scripts.cache;
    let known: Vec<bool> = args[2..].iter().map(|a| parse_sha(a).is_some_and(|s| cache.get(&s).is_some())).collect();
    conn.reply(|r| {
        r.array(known.len());
        known.iter().for_each(|k| r.int(i64::from(*k)));
    });
    Ok(Outcome::Done)
}

/// Both ways are the same: this core's state is freed here, others free theirs
/// by themselves, and nobody waits for them.
fn flush(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let fits = args.len() == 2 || (args.len() == 3 && (is(args[2], "sync") || is(args[2], "async")));
    if !fits {
        return Err(Fault::Text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    core.shared.scripts.cache.clear();
    core.scripts.tidy_up(&core.shared.scripts);
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

/// The reply to SCRIPT KILL or FUNCTION KILL.
pub fn killed(core: &Core, conn: &mut Conn, function: bool) -> Result<Outcome, Fault> {
    match core.shared.scripts.kill(function) {
        Kill::Done => {
            conn.reply(|r| r.ok());
            Ok(Outcome::Done)
        }
        Kill::NothingRuns => Err(Fault::Text("NOTBUSY No scripts in execution right now.")),
        Kill::HasWritten => Err(Fault::Text(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        )),
        Kill::OtherKind => {
            core.shared.scripts.busy().map_or(Err(Fault::Text("NOTBUSY No scripts in execution right now.")), Err)
        }
    }
}

fn kill(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    killed(core, conn, false)
}

fn load(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let shared = core.shared.clone();
    let Some(engine) = &mut core.scripts.engine else {
        return Err(Fault::Text("BUSY Redis is busy running a script."));
    };
    let at = engine.by_body(&shared.scripts.cache, args[2]).map_err(Fault::Composed)?;
    let sha = engine.script(at).sha;
    conn.reply(|r| r.bulk(&sha));
    Ok(Outcome::Done)
}

fn script_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DEBUG (YES|SYNC|NO)",
            "    There is no debugger: only NO is accepted.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Tells of each script whether the server knows it.",
            "FLUSH [ASYNC|SYNC]",
            "    Forgets all scripts.",
            "KILL",
            "    Stops the running script, if it has not written yet.",
            "LOAD <script>",
            "    Makes a script known without running it.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

/// Is a script running for so long that others have to wait?
pub fn is_busy(core: &Core) -> bool {
    core.shared.scripts.slow_count.load(Ordering::Relaxed) > 0
}
