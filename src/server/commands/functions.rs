//! FUNCTION: libraries of functions.

use std::sync::Arc;

use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::base::glob::matches;
use crate::command::parse::is;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::command::{Fault, Merge};
use crate::resp::Reply;
use crate::script::library::{Function, Library, Policy};
use crate::script::source;
use crate::server::commands::containers::help;
use crate::server::commands::scripting::{killed, row};
use crate::server::core::Core;
use crate::server::msg::Origin;
use crate::server::registry::{ConnCommand, Outcome, Route, ScriptCommand};
use crate::session::conn::Conn;
use crate::snapshot::functions;

const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

/// A subcommand that changes the libraries. It runs with the whole keyspace
/// locked, so that it has its place among the changes of data.
const fn change(
    name: &'static str,
    arity: i32,
    flags: u32,
    merge: Merge,
    summary: &'static str,
    run: crate::server::registry::ScriptRun,
) -> ScriptCommand {
    ScriptCommand {
        spec: Spec {
            name,
            arity,
            flags: flag::NOSCRIPT | flag::WRITE | flags,
            acl: acl::SCRIPTING,
            group: Group::Scripting,
            since: "7.0.0",
            complexity: "O(N) in the number of functions",
            summary,
            tips: ALL_SHARDS,
            ..Spec::DEFAULT
        },
        run,
        route: Route::Whole(merge),
    }
}

pub const CHANGES: &[ScriptCommand] = &[
    change("function|delete", 3, 0, Merge::Ok, "Removes a library.", |core, _, args, origin, now, out| {
        core.change_libraries(args, origin, now, out, delete)
    })
    .takes("library-name"),
    change("function|flush", -2, 0, Merge::Ok, "Removes all libraries.", |core, _, args, origin, now, out| {
        core.change_libraries(args, origin, now, out, flush)
    })
    .takes("[flush-type(ASYNC|SYNC)]"),
    change("function|load", -3, flag::DENYOOM, Merge::Any, "Adds a library.", |core, _, args, origin, now, out| {
        core.change_libraries(args, origin, now, out, load)
    })
    .takes("[REPLACE] function-code"),
    change(
        "function|restore",
        -3,
        flag::DENYOOM,
        Merge::Ok,
        "Adds the libraries that FUNCTION DUMP returned.",
        |core, _, args, origin, now, out| core.change_libraries(args, origin, now, out, restore),
    )
    .takes("serialized-value [policy(FLUSH|APPEND|REPLACE)]"),
];

const FUNCTION: (&str, &str) = ("7.0.0", "O(N) in the number of functions");

pub const ROWS: &[ConnCommand] = &[
    row(FUNCTION, "function", -2, 0, &[], "Manages function libraries.", None),
    row(FUNCTION, "function|dump", 2, flag::NOSCRIPT, &[], "Returns all libraries as bytes.", Some(dump)),
    row(
        FUNCTION,
        "function|help",
        2,
        flag::LOADING | flag::STALE,
        &[],
        "Lists the subcommands of FUNCTION.",
        Some(function_help),
    ),
    row(
        FUNCTION,
        "function|kill",
        2,
        flag::NOSCRIPT | flag::ALLOW_BUSY,
        &["request_policy:all_shards", "response_policy:one_succeeded"],
        "Stops a function that has not written yet.",
        Some(kill),
    ),
    row(
        FUNCTION,
        "function|list",
        -2,
        flag::NOSCRIPT,
        &["nondeterministic_output_order"],
        "Lists libraries and their functions.",
        Some(list),
    )
    .takes("[LIBRARYNAME library-name-pattern] [WITHCODE]"),
    row(
        FUNCTION,
        "function|stats",
        2,
        flag::NOSCRIPT | flag::ALLOW_BUSY,
        &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        "Tells which function runs, and how many there are.",
        Some(stats),
    ),
];

/// A change: writes the reply.
type Change = fn(&mut Core, Args, &mut Reply) -> Result<(), Fault>;

impl Core {
    /// Runs a change once, on the first of all cores. Did it fail?
    fn change_libraries(&mut self, args: Args, origin: &Origin, _: UnixMs, out: &mut Vec<u8>, run: Change) -> bool {
        let mut reply = Reply::new(out, origin.proto);
        if self.echo {
            reply.null();
            return false;
        }
        match run(self, args, &mut reply) {
            Ok(()) => {
                self.stats.dirty += 1;
                self.journal_command(origin.db as usize, args);
                false
            }
            Err(f) => {
                reply.error(f.text());
                self.stats.count_error(f.code());
                true
            }
        }
    }

    fn try_library(&mut self, code: &[u8]) -> Result<Library, Fault> {
        let Some(engine) = &mut self.scripts.engine else {
            return Err(Fault::Text("BUSY Redis is busy running a script."));
        };
        engine.try_library(code).map_err(|why| format!("ERR {why}").into())
    }
}

fn load(core: &mut Core, args: Args, reply: &mut Reply) -> Result<(), Fault> {
    let (mut replace, mut at) = (false, 2);
    while at < args.len() - 1 {
        if !is(args[at], "replace") {
            return Err(Fault::with_words(&[b"ERR Unknown option given: ", args[at]]));
        }
        replace = true;
        at += 1;
    }
    let code = args[at];
    let header = source::library(code).map_err(|why| Fault::from(format!("ERR {why}")))?;
    if !replace && core.shared.scripts.libraries.contains(&header.name) {
        let name = String::from_utf8_lossy(&header.name).into_owned();
        return Err(format!("ERR Library '{name}' already exists").into());
    }
    let library = core.try_library(code)?;
    let name = library.name.clone();
    let added = core.shared.scripts.libraries.add(Arc::new(library), replace);
    added.map_err(|why| Fault::from(format!("ERR {why}")))?;
    reply.bulk(&name);
    Ok(())
}

fn delete(core: &mut Core, args: Args, reply: &mut Reply) -> Result<(), Fault> {
    if !core.shared.scripts.libraries.remove(args[2]) {
        return Err(Fault::Text("ERR Library not found"));
    }
    reply.ok();
    Ok(())
}

/// `word` is the subcommand as it was spelled.
fn wrong_number(word: &[u8]) -> Fault {
    Fault::with_words(&[b"ERR unknown subcommand or wrong number of arguments for '", word, b"'. Try FUNCTION HELP."])
}

fn flush(core: &mut Core, args: Args, reply: &mut Reply) -> Result<(), Fault> {
    if args.len() > 3 {
        return Err(wrong_number(args[1]));
    }
    let fits = args.len() == 2 || (args.len() == 3 && (is(args[2], "sync") || is(args[2], "async")));
    if !fits {
        return Err(Fault::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    core.shared.scripts.libraries.clear();
    reply.ok();
    Ok(())
}

fn restore(core: &mut Core, args: Args, reply: &mut Reply) -> Result<(), Fault> {
    let policy = match args.len() {
        3 => Policy::Append,
        4 if is(args[3], "append") => Policy::Append,
        4 if is(args[3], "replace") => Policy::Replace,
        4 if is(args[3], "flush") => Policy::Flush,
        4 => {
            return Err(Fault::Text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => {
            return Err(wrong_number(args[1]));
        }
    };
    let sources = functions::read(args[2])?;
    let mut libraries = Vec::new();
    for code in &sources {
        libraries.push(Arc::new(core.try_library(code)?));
    }
    let restored = core.shared.scripts.libraries.restore(libraries, policy);
    restored.map_err(|why| Fault::from(format!("ERR {why}")))?;
    reply.ok();
    Ok(())
}

fn dump(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let payload = functions::payload(&core.shared.scripts.libraries.sources());
    conn.reply(|r| r.bulk(&payload));
    Ok(Outcome::Done)
}

fn kill(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    killed(core, conn, true)
}

fn list(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let (mut with_code, mut pattern, mut at) = (false, None, 2);
    while at < args.len() {
        if !with_code && is(args[at], "withcode") {
            with_code = true;
        } else if pattern.is_none() && is(args[at], "libraryname") {
            at += 1;
            pattern = Some(*args.get(at).ok_or(Fault::Text("ERR library name argument was not given"))?);
        } else {
            return Err(Fault::with_words(&[b"ERR Unknown argument ", args[at]]));
        }
        at += 1;
    }
    let all = core.shared.scripts.libraries.all();
    let chosen: Vec<&Arc<Library>> = all.iter().filter(|l| pattern.is_none_or(|p| matches(p, &l.name, true))).collect();
    conn.reply(|r| {
        r.array(chosen.len());
        for l in chosen {
            show_library(r, l, with_code);
        }
    });
    Ok(Outcome::Done)
}

fn show_library(r: &mut Reply, l: &Library, with_code: bool) {
    r.map(if with_code { 4 } else { 3 });
    r.bulk(b"library_name");
    r.bulk(&l.name);
    r.bulk(b"engine");
    r.bulk(source::ENGINE.as_bytes());
    r.bulk(b"functions");
    r.array(l.functions.len());
    for f in &l.functions {
        show_function(r, f);
    }
    if with_code {
        r.bulk(b"library_code");
        r.bulk(&l.code);
    }
}

fn show_function(r: &mut Reply, f: &Function) {
    r.map(3);
    r.bulk(b"name");
    r.bulk(&f.name);
    r.bulk(b"description");
    match &f.description {
        Some(text) => r.bulk(text),
        None => r.null(),
    }
    r.bulk(b"flags");
    let names: Vec<&str> = source::flag::NAMES.iter().filter(|(bit, _)| f.flags & bit != 0).map(|(_, n)| *n).collect();
    r.set(names.len());
    names.iter().for_each(|n| r.simple(n));
}

fn stats(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let (libraries, all) = core.shared.scripts.libraries.count();
    let running = core.shared.scripts.first_slow();
    conn.reply(|r| {
        r.map(2);
        r.bulk(b"running_script");
        match &running {
            None => r.null(),
            Some(slow) => {
                r.map(3);
                r.bulk(b"name");
                r.bulk(&slow.name);
                r.bulk(b"command");
                r.array(slow.command.len());
                slow.command.iter().for_each(|a| r.bulk(a));
                r.bulk(b"duration_ms");
                r.int(slow.started.elapsed().as_millis() as i64);
            }
        }
        r.bulk(b"engines");
        r.map(1);
        r.bulk(source::ENGINE.as_bytes());
        r.map(2);
        r.bulk(b"libraries_count");
        r.int(libraries as i64);
        r.bulk(b"functions_count");
        r.int(all as i64);
    });
    Ok(Outcome::Done)
}

fn function_help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    help(
        conn,
        &[
            "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "LOAD [REPLACE] <FUNCTION CODE>",
            "    Adds a library, or replaces the one of its name.",
            "DELETE <LIBRARY NAME>",
            "    Removes a library.",
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            "    Lists libraries with their engine and functions, and with their code if wanted.",
            "STATS",
            "    Tells which function runs and for how long, and how many libraries and functions there are.",
            "KILL",
            "    Stops the running function, if it has not written yet.",
            "FLUSH [ASYNC|SYNC]",
            "    Removes all libraries.",
            "DUMP",
            "    Returns all libraries as bytes for FUNCTION RESTORE.",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "    Adds libraries: in the place of all that are there, beside them, or replacing those of their names.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
