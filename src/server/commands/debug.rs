//! DEBUG: what tests need of a server. Subcommands over keys are commands of
//! their own, in `command::debug`.

use std::sync::atomic::Ordering;

use crate::base::clock::mono_ns;
use crate::base::num::{parse_f64, parse_i64};
use crate::base::{Args, glob};
use crate::command::Fault;
use crate::command::parse::is;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::config::{Lines, parse_memory};
use crate::observe::log;
use crate::replication::event::Event;
use crate::resp::reply::Proto;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::server::service::reload::Reload;
use crate::session::conn::Conn;

pub const ROWS: &[ConnCommand] = &[ConnCommand {
    spec: Spec {
        name: "debug",
        arity: -2,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::PROTECTED,
        acl: acl::DANGEROUS,
        group: Group::Server,
        complexity: "Depends on the subcommand",
        summary: "Helps to test the server.",
        ..Spec::DEFAULT
    },
    run: Some(debug),
    light: false,
}];

fn debug(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let (word, rest) = (args[1], &args[2..]);
    match rest {
        [] if is(word, "help") => return help(conn),
        [] if is(word, "loadaof") => {
            let asker = core.asker(conn);
            core.tell_service(move |s| s.debug_load_aof(asker));
            return Ok(Outcome::Later);
        }
        [] if is(word, "change-repl-id") => {
            log::notice(format_args!("Changing replication IDs after receiving change-repl-id"));
            core.tell_service(|s| s.replicate(Event::ChangeId));
        }
        [] if is(word, "config-rewrite-force-all") => {
            return super::config::rewrite_file(core, conn, Lines::All);
        }
        [us] if is(word, "aof-flush-sleep") => {
            let us = u64::try_from(number(us)).unwrap_or(0);
            core.shared.persistence.aof.flush_sleep_us.store(us, Ordering::Relaxed);
        }
        [_, ..] if is(word, "replicate") => {
            let mut bytes = Vec::new();
            crate::resp::encode::command(&mut bytes, rest);
            core.tell_service(move |s| s.feed_replicas(&bytes));
        }
        [] if is(word, "segfault") => segfault(),
        [] if is(word, "panic") || is(word, "assert") => panic!("asked for by DEBUG"),
        [seconds] if is(word, "sleep") => return sleep(core, conn, seconds),
        [kind] if is(word, "protocol") => return protocol(conn, kind),
        [flag] if is(word, "set-active-expire") => {
            let on = number(flag) != 0;
            return core.gather(conn, move |c| c.active_expire = on, |_, _, r| r.ok());
        }
        [flag] if is(word, "pause-cron") => {
            let paused = number(flag) != 0;
            core.shared.cron_paused.store(paused, Ordering::SeqCst);
            return core.gather(conn, move |c| c.cron_paused = paused, |_, _, r| r.ok());
        }
        [what, flag] if is(word, "replybuffer") && is(what, "resizing") => {
            let keep = number(flag) == 0;
            return core.gather(conn, move |c| c.keep_buffers = keep, |_, _, r| r.ok());
        }
        [flag] if is(word, "set-disable-deny-scripts") => {
            core.shared.scripts_may_all.store(number(flag) != 0, Ordering::Relaxed);
        }
        [flag] if is(word, "set-skip-checksum-validation") => {
            let skip = number(flag) != 0;
            return core.gather(conn, move |c| c.options.skip_checksums = skip, |_, _, r| r.ok());
        }
        [size] if is(word, "quicklist-packed-threshold") => {
            let fault = Fault::Text("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
            let text = String::from_utf8_lossy(size);
            let bytes = parse_memory(&text).filter(|n| *n < 4 << 30).ok_or(fault)?;
            let most = if bytes == 0 { usize::MAX } else { bytes as usize };
            return core.gather(conn, move |c| c.options.list_node_max_bytes = most, |_, _, r| r.ok());
        }
        [message] if is(word, "log") => {
            log::warning(format_args!("DEBUG LOG: {}", String::from_utf8_lossy(message)));
        }
        [text] if is(word, "error") => {
            let line = text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b });
            return Err(Fault::Composed(line.collect()));
        }
        [pattern, text] if is(word, "stringmatch-len") => {
            let n = i64::from(glob::matches(pattern, text, false));
            conn.reply(|r| r.int(n));
            return Ok(Outcome::Done);
        }
        _ if is(word, "reload") => return reload(core, conn, rest),
        _ => return Err(unknown(word)),
    }
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

fn reload(core: &mut Core, conn: &mut Conn, options: Args) -> Result<Outcome, Fault> {
    let mut how = Reload { save: true, flush: true, merge: false };
    for word in options {
        match word.to_ascii_lowercase().as_slice() {
            b"merge" => how.merge = true,
            b"noflush" => how.flush = false,
            b"nosave" => how.save = false,
            _ => return Err(Fault::Text("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")),
        }
    }
    let asker = core.asker(conn);
    core.tell_service(move |s| s.debug_reload(asker, how));
    Ok(Outcome::Later)
}

fn unknown(word: &[u8]) -> Fault {
    let word = String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
    format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP.").into()
}

/// Flags are read as leniently as Redis reads them.
fn number(arg: &[u8]) -> i64 {
    parse_i64(arg).unwrap_or(0)
}

/// All cores stand still. This one does so here, so that the time is the
/// command's own in the slow log and the latency events.
fn sleep(core: &mut Core, conn: &mut Conn, seconds: &[u8]) -> Result<Outcome, Fault> {
    const LONGEST_S: f64 = 3600.0;
    let seconds = parse_f64(seconds).unwrap_or(0.0).clamp(0.0, LONGEST_S);
    let length = std::time::Duration::from_secs_f64(seconds);
    core.shared.sleep(mono_ns() + length.as_nanos() as u64);
    std::thread::sleep(length);
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

/// A value of each kind that the protocol has.
fn protocol(conn: &mut Conn, kind: &[u8]) -> Result<Outcome, Fault> {
    let resp3 = conn.proto == Proto::Resp3;
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => conn.reply(|r| r.bulk(b"Hello World")),
        b"integer" => conn.reply(|r| r.int(12345)),
        // The value that Redis replies, not pi.
        b"double" => conn.reply(|r| r.double("3.141".parse().unwrap_or(0.0))),
        b"null" => conn.reply(|r| r.null()),
        b"array" => conn.reply(|r| {
            r.array(3);
            (0..3).for_each(|n| r.int(n));
        }),
        b"set" => conn.reply(|r| {
            r.set(3);
            (0..3).for_each(|n| r.int(n));
        }),
        b"map" => conn.reply(|r| {
            r.map(3);
            for n in 0..3 {
                r.int(n);
                r.bool(n == 1);
            }
        }),
        b"attrib" => conn.reply(|r| {
            if resp3 {
                r.raw(b"|1\r\n");
                r.bulk(b"key-popularity");
                r.array(2);
                r.bulk(b"key:123");
                r.int(90);
            }
            r.bulk(b"Some real reply following the attribute");
        }),
        b"push" if !resp3 => return Err(Fault::Text("ERR RESP2 is not supported by this command")),
        b"push" => conn.reply(|r| {
            r.push(2);
            r.bulk(b"server-cpu-usage");
            r.int(42);
            r.bulk(b"Some real reply following the push reply");
        }),
        b"verbatim" => conn.reply(|r| r.verbatim("txt", b"This is a verbatim\nstring")),
        b"true" => conn.reply(|r| r.bool(true)),
        b"false" => conn.reply(|r| r.bool(false)),
        b"bignum" if resp3 => conn.reply(|r| r.raw(b"(1234567999999999999999999999999999999\r\n")),
        b"bignum" => conn.reply(|r| r.bulk(b"1234567999999999999999999999999999999")),
        _ => {
            return Err(Fault::Text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(Outcome::Done)
}

fn help(conn: &mut Conn) -> Result<Outcome, Fault> {
    super::containers::help(
        conn,
        &[
            "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "AOF-FLUSH-SLEEP <microseconds>",
            "    Waits so long before each write to the append-only file.",
            "CHANGE-REPL-ID",
            "    Gives the replication history another id: replicas take a full copy.",
            "CONFIG-REWRITE-FORCE-ALL",
            "    CONFIG REWRITE with a line for every directive.",
            "DIGEST",
            "    A digest of all keys, the same for the same content.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Digests of the values of these keys.",
            "ERROR <string>",
            "    Replies with this text as an error.",
            "LOADAOF",
            "    Loads the append-only file in the place of the dataset.",
            "LOG <message>",
            "    Writes the message to the log.",
            "OBJECT <key>",
            "    How a key's value is held.",
            "PANIC | ASSERT",
            "    Ends the server as a bug would that it notices.",
            "PAUSE-CRON <0|1>",
            "    Whether the work that is done ten times a second is left undone; a signal",
            "    that asks for the end has to wait, too.",
            "POPULATE <count> [<prefix>] [<size>]",
            "    Creates string keys named key:<number>, on whatever cores they belong to.",
            "PROTOCOL <type>",
            "    Replies with a value of this type: string, integer, double, bignum, null,",
            "    array, set, map, attrib, push, verbatim, true, false.",
            "QUICKLIST-PACKED-THRESHOLD <size>",
            "    Elements of lists above this size have nodes of their own; 0 restores the",
            "    default.",
            "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
            "    Writes the snapshot file and loads it. NOSAVE loads what is there, NOFLUSH",
            "    keeps the dataset, MERGE replaces keys that exist.",
            "REPLICATE <command> [<arg> ...]",
            "    Puts a command into the replication stream that is not executed here.",
            "REPLYBUFFER RESIZING <0|1>",
            "    Whether idle connections give their buffers back.",
            "SEGFAULT",
            "    Ends the server by writing where nothing may be written.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Whether keys past their deadline are deleted before anyone asks for them.",
            "SET-DISABLE-DENY-SCRIPTS <0|1>",
            "    Whether scripts may call commands that are closed to them.",
            "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
            "    Whether RESTORE takes payloads whose checksum is wrong.",
            "SLEEP <seconds>",
            "    Stops all cores for so long; decimals are allowed.",
            "STRINGMATCH-LEN <pattern> <string>",
            "    Whether the glob pattern matches the string.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

fn segfault() {
    // SAFETY: a fresh page of the process, which may be read.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if page != libc::MAP_FAILED {
        // SAFETY: the page is there; that it may not be written is the point.
        unsafe { page.cast::<u8>().write_volatile(1) };
    }
}
