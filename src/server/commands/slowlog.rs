//! SLOWLOG: the slow commands of all cores as one list.

use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::Fault;
use crate::command::spec::{Group, Spec, flag};
use crate::observe::slowlog::SlowEntry;
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const ROW: Spec = Spec {
    arity: 2,
    flags: flag::ADMIN | flag::LOADING | flag::STALE,
    group: Group::Server,
    since: "2.2.12",
    complexity: "O(N) for N entries",
    ..Spec::DEFAULT
};

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "slowlog",
            arity: -2,
            flags: 0,
            complexity: "Depends on the subcommand",
            summary: "Tells about slow commands.",
            ..ROW
        },
        run: None,
        light: true,
    },
    ConnCommand {
        spec: Spec {
            name: "slowlog|get",
            syntax: "[count:int]",
            arity: -2,
            summary: "Lists the latest slow commands.",
            tips: &["request_policy:all_nodes", "nondeterministic_output"],
            ..ROW
        },
        run: Some(get),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "slowlog|len",
            summary: "Counts the slow commands that are remembered.",
            tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
            ..ROW
        },
        run: Some(len),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "slowlog|reset",
            summary: "Forgets the slow commands.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..ROW
        },
        run: Some(reset),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "slowlog|help",
            flags: flag::LOADING | flag::STALE,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Lists the subcommands of SLOWLOG.",
            ..ROW
        },
        run: Some(help),
        light: true,
    },
];

fn get(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    const DEFAULT: usize = 10;
    let n = match args {
        [_, _] => DEFAULT,
        [_, _, n] => match parse_i64(n) {
            Some(-1) => usize::MAX,
            Some(n) if n >= 0 => n as usize,
            _ => return Err(Fault::Text("ERR count should be greater than or equal to -1")),
        },
        _ => {
            let word = String::from_utf8_lossy(args[1]).into_owned();
            let text = format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try SLOWLOG HELP.");
            return Err(text.into());
        }
    };
    let n = n.min(core.settings.slowlog_max_len);
    core.gather(
        conn,
        move |c| c.stats.slowlog.iter().take(n).cloned().collect::<Vec<_>>(),
        move |_, parts, r| {
            let mut all: Vec<SlowEntry> = parts.into_iter().flatten().collect();
            all.sort_unstable_by_key(|e| std::cmp::Reverse(e.id));
            all.truncate(n);
            r.array(all.len());
            all.iter().for_each(|e| write(r, e));
        },
    )
}

fn write(r: &mut Reply, e: &SlowEntry) {
    r.array(6);
    r.int(e.id as i64);
    r.int(e.unix_s as i64);
    r.int(e.duration_us as i64);
    r.array(e.args.len());
    e.args.iter().for_each(|a| r.bulk(a));
    r.bulk(e.peer.as_bytes());
    r.bulk(&e.client_name);
}

fn len(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let max = core.settings.slowlog_max_len;
    core.gather(conn, |c| c.stats.slowlog.len(), move |_, parts, r| r.int(parts.iter().sum::<usize>().min(max) as i64))
}

fn reset(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    // What is logged while the cores hear of it stays.
    let until = core.shared.slow_entries();
    core.gather(conn, move |c| c.stats.slowlog.forget_before(until), |_, _, r| r.ok())
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    super::containers::help(
        conn,
        &[
            "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET [<count>]",
            "    The latest slow commands (10 if no count is given, all with -1): id, Unix",
            "    time, microseconds, arguments, the client's address and its name.",
            "LEN",
            "    Number of entries.",
            "RESET",
            "    Forgets all entries.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
