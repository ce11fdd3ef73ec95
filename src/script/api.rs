//! The table `redis` of scripts.

use std::ffi::c_int;

use smallvec::SmallVec;

use super::context::Context;
use super::convert;
use super::host::Called;
use super::lua::{Native, Raise, Stack, Type};
use crate::base::sha1::{hex, sha1};
use crate::resp::reply::Proto;

/// The version of Redis whose commands scripts find.
pub const VERSION: &str = "7.2.4";
const VERSION_NUMBER: f64 = 0x0007_0204 as f64;

/// What a script is told when it is stopped.
pub const ABORTED: &[u8] = b"Error running script: script killed by user with SCRIPT KILL.";

/// Names and values of constants.
const NUMBERS: [(&str, i32); 9] = [
    ("LOG_DEBUG", 0),
    ("LOG_VERBOSE", 1),
    ("LOG_NOTICE", 2),
    ("LOG_WARNING", 3),
    ("REPL_NONE", 0),
    ("REPL_AOF", REPL_AOF),
    ("REPL_SLAVE", REPL_REPLICA),
    ("REPL_REPLICA", REPL_REPLICA),
    ("REPL_ALL", REPL_ALL),
];

pub const REPL_AOF: i32 = 1;
pub const REPL_REPLICA: i32 = 2;
pub const REPL_ALL: i32 = REPL_AOF | REPL_REPLICA;

const LOG_LEVELS: f64 = 3.0;

const FUNCTIONS: [(&str, Native); 13] = [
    ("call", call),
    ("pcall", pcall),
    ("log", log),
    ("sha1hex", sha1hex),
    ("status_reply", status_reply),
    ("error_reply", error_reply),
    ("setresp", set_resp),
    ("set_repl", set_repl),
    ("replicate_commands", replicate_commands),
    ("breakpoint", breakpoint),
    ("debug", debug),
    ("acl_check_cmd", acl_check),
    ("register_function", super::register::register),
];

/// Functions that libraries may use while they are loaded.
const LOADING: [&str; 2] = ["log", "register_function"];

/// Functions that only scripts have, not functions.
const SCRIPTS_ONLY: [&str; 3] = ["breakpoint", "debug", "replicate_commands"];

/// Pushes the table for running scripts, or functions.
pub fn open(s: Stack, cx: &Context, functions: bool) {
    s.push_table(0, FUNCTIONS.len() + NUMBERS.len() + 2);
    fill(s, cx, |name| name != "register_function" && !(functions && SCRIPTS_ONLY.contains(&name)));
}

/// Pushes the table for libraries that are being loaded.
pub fn open_for_loading(s: Stack, cx: &Context) {
    s.push_table(0, LOADING.len() + NUMBERS.len() + 2);
    fill(s, cx, |name| LOADING.contains(&name));
}

fn fill(s: Stack, cx: &Context, wanted: impl Fn(&str) -> bool) {
    for (name, native) in FUNCTIONS.into_iter().filter(|(name, _)| wanted(name)) {
        s.native(cx, native);
        s.set_field(-2, name.as_bytes());
    }
    for (name, value) in NUMBERS.into_iter().filter(|(name, _)| name.starts_with("LOG") || wanted("set_repl")) {
        s.push_number(f64::from(value));
        s.set_field(-2, name.as_bytes());
    }
    s.push(VERSION.as_bytes());
    s.set_field(-2, b"REDIS_VERSION");
    s.push_number(VERSION_NUMBER);
    s.set_field(-2, b"REDIS_VERSION_NUM");
}

/// An error's text with its code. What begins with `-` names its code itself,
/// in its first word if it has more than one.
pub fn coded(text: &[u8]) -> Vec<u8> {
    let trimmed = |t: &[u8]| t.trim_ascii_start().to_vec();
    let body: &[u8] = match text.strip_prefix(b"-") {
        Some(rest) => match memchr::memchr(b' ', rest) {
            Some(at) => {
                let end = rest.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |n| n + 1);
                return [&rest[..at], b" ", &rest[(at + 1).min(end)..end]].concat();
            }
            None => rest,
        },
        None => text,
    };
    let end = body.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |n| n + 1);
    [b"ERR ", &trimmed(&body[..end])[..]].concat()
}

/// Pushes an error as scripts see it. One that was counted when it happened is
/// not counted again when the script passes it on.
pub fn push_error(s: Stack, text: &[u8], counted: bool) {
    s.push_table(0, 2);
    s.push(text);
    s.set_field(-2, b"err");
    if counted {
        s.push_bool(true);
        s.set_field(-2, b"ignore_error_stats_update");
    }
}

fn refuse(s: Stack, text: &str) -> Raise {
    push_error(s, &coded(text.as_bytes()), false);
    Raise
}

/// Called with an error before the stack is unwound: makes a table of it, with
/// the place where it was raised.
pub fn on_error(s: Stack, _: &Context) -> Result<c_int, Raise> {
    s.set_top(1);
    let place = match s.whereabouts(1) {
        Some((_, _, true)) => s.whereabouts(2),
        other => other,
    };
    if s.kind(1) != Type::Table || s.is_frozen(1) {
        let text = match s.text(1) {
            Some(t) => t.to_vec(),
            None if s.kind(1) == Type::Boolean => s.truthy(1).to_string().into_bytes(),
            None => s.kind_name(1).as_bytes().to_vec(),
        };
        s.push_table(0, 3);
        s.push(&[b"ERR ", &text[..]].concat());
        s.set_field(-2, b"err");
    }
    if let Some((source, line, _)) = place {
        s.push(&source);
        s.set_field(-2, b"source");
        s.push_number(line as f64);
        s.set_field(-2, b"line");
    }
    Ok(1)
}

/// A number as an argument of a command: whole ones without an exponent.
pub fn format_number(n: f64, out: &mut Vec<u8>) {
    const EXACT: f64 = (1u64 << 52) as f64;
    if n.trunc() == n && n.abs() <= EXACT && !(n == 0.0 && n.is_sign_negative()) {
        out.extend_from_slice(itoa::Buffer::new().format(n as i64).as_bytes());
        return;
    }
    let mut text = [0u8; 40];
    // SAFETY: the length of the buffer bounds what is written; a number of 17
    // digits with sign, point and exponent has room.
    let len = unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), c"%.17g".as_ptr(), n) };
    out.extend_from_slice(&text[..(len.max(0) as usize).min(text.len())]);
}

type Arguments<'a> = SmallVec<[&'a [u8]; 16]>;

/// The arguments of a command, from the whole stack. Numbers are replaced by
/// strings in their places.
fn arguments<'a>(s: Stack) -> Result<Arguments<'a>, Raise> {
    let n = s.top();
    if n == 0 {
        return Err(refuse(s, "Please specify at least one argument for this redis lib call"));
    }
    let mut args = Arguments::with_capacity(n as usize);
    for i in 1..=n {
        if let Some(bytes) = s.bytes(i) {
            args.push(bytes);
            continue;
        }
        if s.kind(i) != Type::Number {
            return Err(refuse(s, "Lua redis lib command arguments must be strings or integers"));
        }
        let mut text = Vec::new();
        format_number(s.number(i).unwrap_or_default(), &mut text);
        s.push(&text);
        s.replace(i);
        args.push(s.bytes(i).unwrap_or_default());
    }
    Ok(args)
}

fn call(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    command(s, cx, true)
}

fn pcall(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    command(s, cx, false)
}

fn command(s: Stack, cx: &Context, raises: bool) -> Result<c_int, Raise> {
    if cx.abort.get().is_some() {
        s.push(ABORTED);
        return Err(Raise);
    }
    let args = match arguments(s) {
        Ok(args) => args,
        Err(Raise) if raises => return Err(Raise),
        Err(Raise) => return Ok(1),
    };
    let mut out = cx.reply.take();
    out.clear();
    let proto = cx.proto.get();
    let called = cx.host(|h| h.call(&args, proto, &mut out));
    let result = match called {
        Some(Called::Replied) => {
            let failed = out.first() == Some(&b'-');
            // The arguments may have taken the whole of the stack.
            s.set_top(0);
            if convert::push_reply(s, &out).is_none() {
                s.set_top(0);
                push_error(s, b"ERR reply too deep for the Lua stack", false);
                Err(Raise)
            } else if failed && raises {
                Err(Raise)
            } else {
                Ok(1)
            }
        }
        Some(Called::Refused(text)) => {
            push_error(s, &text, true);
            if raises { Err(Raise) } else { Ok(1) }
        }
        Some(Called::Abort(why)) => {
            cx.stop(s, why);
            s.push(ABORTED);
            Err(Raise)
        }
        None => Err(refuse(s, "redis.call/pcall can only be called inside a script invocation")),
    };
    const KEPT: usize = 64 * 1024;
    if out.capacity() <= KEPT {
        cx.reply.replace(out);
    }
    result
}

fn log(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    let n = s.top();
    if n < 2 {
        return Err(refuse(s, "redis.log() requires two arguments or more."));
    }
    let Some(level) = s.number(1) else {
        return Err(refuse(s, "First argument must be a number (log level)."));
    };
    if !(0.0..=LOG_LEVELS).contains(&level.trunc()) {
        return Err(refuse(s, "Invalid debug level."));
    }
    let words: Vec<&[u8]> = (2..=n).filter_map(|i| s.text(i)).collect();
    cx.host(|h| h.log(level as c_int, &words.join(&b' ')));
    Ok(0)
}

fn sha1hex(s: Stack, _: &Context) -> Result<c_int, Raise> {
    if s.top() != 1 {
        return Err(refuse(s, "wrong number of arguments"));
    }
    s.push(hex(&sha1(s.text(1).unwrap_or_default())).as_bytes());
    Ok(1)
}

fn one_string<'a>(s: Stack) -> Option<&'a [u8]> {
    if s.top() == 1 { s.bytes(1) } else { None }
}

fn status_reply(s: Stack, _: &Context) -> Result<c_int, Raise> {
    match one_string(s) {
        Some(text) => {
            s.push_table(0, 1);
            s.push(text);
            s.set_field(-2, b"ok");
        }
        None => push_error(s, b"ERR wrong number or type of arguments", false),
    }
    Ok(1)
}

fn error_reply(s: Stack, _: &Context) -> Result<c_int, Raise> {
    match one_string(s) {
        Some(text) => {
            let text = convert::before_zero(text);
            let text = text.strip_prefix(b"-").unwrap_or(text);
            push_error(s, &coded(&[b"-", text].concat()), false);
        }
        None => push_error(s, b"ERR wrong number or type of arguments", false),
    }
    Ok(1)
}

fn set_resp(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if s.top() != 1 {
        return Err(refuse(s, "redis.setresp() requires one argument."));
    }
    cx.proto.set(match s.number(1).map(f64::trunc) {
        Some(2.0) => Proto::Resp2,
        Some(3.0) => Proto::Resp3,
        _ => return Err(refuse(s, "RESP version must be 2 or 3.")),
    });
    Ok(0)
}

fn set_repl(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if s.top() != 1 {
        return Err(refuse(s, "redis.set_repl() requires two arguments."));
    }
    let flags = s.number(1).map_or(0, |n| if n.is_nan() { c_int::MIN } else { n as c_int });
    if flags & !REPL_ALL != 0 {
        let text = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(refuse(s, text));
    }
    cx.host(|h| h.set_propagation(flags));
    Ok(0)
}

/// Effects are always what is replicated.
fn replicate_commands(s: Stack, _: &Context) -> Result<c_int, Raise> {
    s.push_bool(true);
    Ok(1)
}

/// There is no debugger to stop in.
fn breakpoint(s: Stack, _: &Context) -> Result<c_int, Raise> {
    s.push_bool(false);
    Ok(1)
}

fn debug(_: Stack, _: &Context) -> Result<c_int, Raise> {
    Ok(0)
}

fn acl_check(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    let args = arguments(s)?;
    match cx.host(|h| h.may_call(&args)).flatten() {
        Some(may) => {
            s.push_bool(may);
            Ok(1)
        }
        None => Err(refuse(s, "Invalid command passed to redis.acl_check_cmd()")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_codes() {
        for (text, want) in [
            ("foo bar", "ERR foo bar"),
            ("-FOO bar", "FOO bar"),
            ("-foo", "ERR foo"),
            ("-FOO bar\r\n", "FOO bar"),
            ("", "ERR "),
            ("-", "ERR "),
        ] {
            assert_eq!(String::from_utf8(coded(text.as_bytes())).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn numbers_become_arguments() {
        for (n, want) in [
            (0.1, "0.10000000000000001"),
            (3.0, "3"),
            (-1e15, "-1000000000000000"),
            (1e300, "1.0000000000000001e+300"),
            (f64::INFINITY, "inf"),
            (2.5, "2.5"),
        ] {
            let mut out = Vec::new();
            format_number(n, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
