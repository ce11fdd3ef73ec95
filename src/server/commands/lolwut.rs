//! LOLWUT: the version, below a picture of the slots and who owns them.

use crate::base::Args;
use crate::base::num::parse_i64;
use crate::base::slot::SLOTS;
use crate::command::Fault;
use crate::command::fault::NOT_AN_INTEGER;
use crate::command::parse::is;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::core::Core;
use crate::server::process::{REDIS_VERSION, VERSION};
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

pub const ROWS: &[ConnCommand] = &[ConnCommand {
    spec: Spec {
        name: "lolwut",
        syntax: "[VERSION version:int]",
        arity: -1,
        flags: flag::READONLY | flag::FAST,
        acl: acl::READ,
        group: Group::Server,
        since: "5.0.0",
        summary: "A picture and the version.",
        ..Spec::DEFAULT
    },
    run: Some(lolwut),
    light: true,
}];

const COLUMNS: usize = 64;
const ROWS_SHOWN: usize = 16;
const SHADES: &[u8] = b"#*+=-:.o%@&$~^x";

/// Each character is a run of slots, its shade the core that owns the first.
/// There is one picture, whatever version is asked for.
fn lolwut(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    if args.len() > 2 && is(args[1], "version") {
        parse_i64(args[2]).ok_or(NOT_AN_INTEGER)?;
    }
    let run = SLOTS / (COLUMNS * ROWS_SHOWN);
    let mut text = String::new();
    for row in 0..ROWS_SHOWN {
        for column in 0..COLUMNS {
            let owner = core.map[(row * COLUMNS + column) * run] as usize;
            text.push(SHADES[owner % SHADES.len()] as char);
        }
        text.push('\n');
    }
    text.push_str(&format!("\n{SLOTS} slots on {} cores\n", core.shared.cores));
    text.push_str(&format!("Redis ver. {REDIS_VERSION}, Coreslot ver. {VERSION}\n"));
    conn.reply(|r| r.verbatim("txt", text.as_bytes()));
    Ok(Outcome::Done)
}
