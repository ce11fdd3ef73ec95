//! ACL: users and what they may do.

use super::acl_log;
use super::containers;
use crate::acl::rules::category;
use crate::acl::users::fits_name;
use crate::acl::{User, check};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::base::os::os_reason;
use crate::base::rng::fill_entropy;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::command::{Fault, fault};
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, ConnRun, Outcome, registry};
use crate::server::{access, users_file};
use crate::session::conn::Conn;

const OPEN: Spec =
    Spec { flags: flag::NOSCRIPT | flag::LOADING | flag::STALE, group: Group::Server, since: "6.0.0", ..Spec::DEFAULT };
const ADMIN: Spec = Spec { flags: OPEN.flags | flag::ADMIN, ..OPEN };

const fn row(spec: Spec, run: ConnRun) -> ConnCommand {
    ConnCommand { spec, run: Some(run), light: false }
}

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "acl",
            arity: -2,
            group: Group::Server,
            since: "6.0.0",
            complexity: "Depends on the subcommand",
            summary: "Users and what they may do.",
            ..Spec::DEFAULT
        },
        run: None,
        light: true,
    },
    row(
        Spec {
            name: "acl|cat",
            syntax: "[category]",
            arity: -2,
            summary: "Categories of commands, or the commands of one.",
            ..OPEN
        },
        categories,
    ),
    row(
        Spec {
            name: "acl|deluser",
            syntax: "username...",
            arity: -3,
            complexity: "O(1) per user and connection",
            summary: "Removes users and closes their connections.",
            ..ADMIN
        },
        deluser,
    ),
    row(
        Spec {
            name: "acl|dryrun",
            syntax: "username command [arg...]",
            arity: -4,
            since: "7.0.0",
            summary: "May a user run a command? It is not run.",
            ..ADMIN
        },
        dryrun,
    ),
    row(
        Spec {
            name: "acl|genpass",
            syntax: "[bits:int]",
            arity: -2,
            summary: "A password that nobody can guess.",
            ..OPEN
        },
        genpass,
    ),
    row(
        Spec {
            name: "acl|getuser",
            syntax: "username",
            arity: 3,
            complexity: "O(N) where N is the number of the user's rules",
            summary: "The rules of a user.",
            ..ADMIN
        },
        getuser,
    ),
    ConnCommand {
        spec: Spec {
            name: "acl|help",
            flags: flag::LOADING | flag::STALE,
            arity: 2,
            summary: "Lists the subcommands of ACL.",
            ..OPEN
        },
        run: Some(help),
        light: true,
    },
    row(
        Spec {
            name: "acl|list",
            arity: 2,
            complexity: "O(N) where N is the number of users",
            summary: "All users as lines of an ACL file.",
            ..ADMIN
        },
        list,
    ),
    row(
        Spec {
            name: "acl|load",
            arity: 2,
            complexity: "O(N) where N is the number of users",
            summary: "Reads the ACL file again.",
            ..ADMIN
        },
        load,
    ),
    row(
        Spec {
            name: "acl|log",
            syntax: "[operation(count:int|RESET)]",
            arity: -2,
            complexity: "O(N) where N is the number of entries",
            summary: "What was denied lately.",
            ..ADMIN
        },
        acl_log::log,
    ),
    row(
        Spec {
            name: "acl|save",
            arity: 2,
            complexity: "O(N) where N is the number of users",
            summary: "Writes the users to the ACL file.",
            ..ADMIN
        },
        save,
    ),
    row(
        Spec {
            name: "acl|setuser",
            syntax: "username [rule...]",
            arity: -3,
            complexity: "O(N) where N is the number of rules",
            summary: "Makes or changes a user.",
            ..ADMIN
        },
        setuser,
    ),
    row(
        Spec {
            name: "acl|users",
            arity: 2,
            complexity: "O(N) where N is the number of users",
            summary: "Names of all users.",
            ..ADMIN
        },
        users,
    ),
    row(Spec { name: "acl|whoami", arity: 2, summary: "Name of the connection's user.", ..OPEN }, whoami),
];

/// More arguments than a subcommand knows.
pub fn wrong_number(name: &str) -> Fault {
    format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP.").into()
}

fn bulks(r: &mut Reply, words: &[Vec<u8>]) {
    r.array(words.len());
    words.iter().for_each(|w| r.bulk(w));
}

fn categories(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let catalog = &registry().catalog;
    let names: Vec<&str> = match args {
        [_, _] => acl::NAMES.to_vec(),
        [_, _, name] => {
            let Some(bit) = category(name) else {
                return Err(Fault::with_words(&[b"ERR Unknown category '", name, b"'"]));
            };
            let specs = catalog.known().map(|i| catalog.get(i).spec);
            specs.filter(|s| s.categories() & bit != 0).map(|s| s.name).collect()
        }
        _ => return Err(wrong_number("CAT")),
    };
    conn.reply(|r| {
        r.array(names.len());
        names.iter().for_each(|n| r.bulk(n.as_bytes()));
    });
    Ok(Outcome::Done)
}

/// The change is at work on all cores when the reply comes.
fn setuser(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let name = args[2];
    if !fits_name(name) {
        return Err(Fault::Text("ERR Usernames can't contain spaces or null characters"));
    }
    let cx = access::context(&core.settings);
    core.change_users(|users| users.set(name, &args[3..], cx).map_err(|e| Fault::Composed(e.reply())))?;
    core.refresh_own_user(conn);
    core.gather(conn, |c| c.take_users(), |_, _, r| r.ok())
}

fn deluser(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let names = &args[2..];
    if names.contains(&crate::acl::DEFAULT_USER) {
        return Err(Fault::Text("ERR The 'default' user cannot be removed"));
    }
    let removed = core.change_users(|users| Ok(names.iter().filter(|n| users.remove(n)).count()))?;
    core.refresh_own_user(conn);
    core.gather(conn, |c| c.take_users(), move |_, _, r| r.int(removed as i64))
}

fn joined(words: &[Vec<u8>]) -> Vec<u8> {
    words.join(&b' ')
}

fn getuser(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let user = core.users.get(args[2]).cloned();
    conn.reply(|r| match user {
        Some(user) => write_user(r, &user),
        None => r.null(),
    });
    Ok(Outcome::Done)
}

fn write_user(r: &mut Reply, user: &User) {
    r.map(6);
    r.bulk(b"flags");
    let flags = user.flags();
    r.set(flags.len());
    flags.iter().for_each(|f| r.bulk(f.as_bytes()));
    r.bulk(b"passwords");
    r.array(user.passwords.len());
    user.passwords.iter().for_each(|p| r.bulk(p));
    write_selector(r, &user.selectors[0]);
    r.bulk(b"selectors");
    r.array(user.selectors.len() - 1);
    for s in &user.selectors[1..] {
        r.map(3);
        write_selector(r, s);
    }
}

fn write_selector(r: &mut Reply, s: &crate::acl::selector::Selector) {
    r.bulk(b"commands");
    r.bulk(&s.describe_commands());
    r.bulk(b"keys");
    r.bulk(&joined(&s.describe_keys()));
    r.bulk(b"channels");
    r.bulk(&joined(&s.describe_channels()));
}

fn list(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let lines: Vec<Vec<u8>> = core.users.lines().map(|words| joined(&words)).collect();
    conn.reply(|r| bulks(r, &lines));
    Ok(Outcome::Done)
}

fn users(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let names: Vec<Vec<u8>> = core.users.iter().map(|u| u.name.clone()).collect();
    conn.reply(|r| bulks(r, &names));
    Ok(Outcome::Done)
}

fn whoami(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let name = conn.user_name().to_vec();
    conn.reply(|r| r.bulk(&name));
    Ok(Outcome::Done)
}

fn genpass(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let bits = match args {
        [_, _] => 256,
        [_, _, bits] => parse_i64(bits).ok_or(fault::NOT_AN_INTEGER)?,
        _ => return Err(wrong_number("GENPASS")),
    };
    if !(1..=4096).contains(&bits) {
        return Err(Fault::Text(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let mut raw = vec![0; (bits as usize).div_ceil(4)];
    fill_entropy(&mut raw);
    let password: Vec<u8> = raw.iter().map(|b| b"0123456789abcdef"[usize::from(b & 15)]).collect();
    conn.reply(|r| r.bulk(&password));
    Ok(Outcome::Done)
}

fn dryrun(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let Some(user) = core.users.get(args[2]).cloned() else {
        return Err(Fault::with_words(&[b"ERR User '", args[2], b"' not found"]));
    };
    let line = &args[3..];
    let entry = match registry().resolve(line) {
        Ok(entry) => entry,
        // A container without its subcommand.
        Err(arity) if line.len() == 1 && registry().find(line[0]).is_some() => return Err(arity),
        Err(_) => return Err(Fault::with_words(&[b"ERR Command '", line[0], b"' not found"])),
    };
    if !entry.spec.arity_fits(line.len()) {
        return Err(Fault::arity(entry.spec.name));
    }
    match check::check(&user, &registry().catalog, entry.index, line) {
        Ok(()) => conn.reply(|r| r.ok()),
        Err(denied) => {
            let text = denied.verbose(&user, entry.spec, line);
            conn.reply(|r| r.bulk(&text));
        }
    }
    Ok(Outcome::Done)
}

const NO_FILE: Fault = Fault::Text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
     command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store \
     users in the Redis configuration.",
);

fn load(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let settings = core.settings.clone();
    let path = users_file::path(&settings).ok_or(NO_FILE)?;
    core.change_users(|users| {
        *users = users_file::load(&path, users, &settings).map_err(|e| Fault::from(format!("ERR {e}")))?;
        Ok(())
    })?;
    core.refresh_own_user(conn);
    core.gather(conn, |c| c.take_users(), |_, _, r| r.ok())
}

fn save(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let path = users_file::path(&core.settings).ok_or(NO_FILE)?;
    users_file::save(&path, &core.shared.users()).map_err(|e| {
        crate::observe::log::warning(format_args!("Saving the ACL file failed: {}", os_reason(&e)));
        Fault::Text("ERR There was an error trying to save the ACLs. Please check the server logs for more information")
    })?;
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    containers::help(
        conn,
        &[
            "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CAT [<category>]",
            "    The categories of commands, or the commands of one.",
            "DELUSER <username> [<username> ...]",
            "    Removes users and closes their connections.",
            "DRYRUN <username> <command> [<arg> ...]",
            "    Tells whether the user may run the command, without running it.",
            "GENPASS [<bits>]",
            "    A random password with so many bits, 256 unless told otherwise.",
            "GETUSER <username>",
            "    The rules of a user.",
            "LIST",
            "    All users as lines of an ACL file.",
            "LOAD",
            "    Reads the ACL file again: all of it, or nothing.",
            "LOG [<count>|RESET]",
            "    What was denied lately, the last first; RESET forgets it.",
            "SAVE",
            "    Writes the users to the ACL file.",
            "SETUSER <username> <rule> [<rule> ...]",
            "    Makes or changes a user: all rules, or none.",
            "USERS",
            "    The names of all users.",
            "WHOAMI",
            "    The name of the connection's user.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
