//! Replies to Lua values and back (the rules of Redis's "Lua API" page).

use super::api::coded;
use super::lua::{Stack, Type, to_integer};
use crate::base::num::{parse_f64, parse_i64};
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::resp::value::line;

/// Places on Lua's stack that one level of nesting takes.
const LEVEL: i32 = 16;

/// Pushes the value that a reply stands for; `None` when it is nested too
/// deeply.
pub fn push_reply(s: Stack, reply: &[u8]) -> Option<()> {
    push_value(s, reply, 0).map(|_| ())
}

/// Pushes one value; where the next begins.
fn push_value(s: Stack, buf: &[u8], at: usize) -> Option<usize> {
    if !s.reserve(LEVEL) {
        return None;
    }
    let (kind, text, next) = line(buf, at)?;
    let len = || parse_i64(text).unwrap_or(-1);
    match kind {
        b':' => {
            s.push_number(len_or(text, 0) as f64);
            Some(next)
        }
        b'$' if len() < 0 => {
            s.push_bool(false);
            Some(next)
        }
        b'$' => {
            let end = next + len() as usize;
            s.push(&buf[next..end]);
            Some(end + 2)
        }
        b'+' => push_field(s, b"ok", |s| s.push(text), next),
        b'-' => {
            super::api::push_error(s, &coded(&buf[at..next]), true);
            Some(next)
        }
        b'*' | b'>' if len() < 0 => {
            s.push_bool(false);
            Some(next)
        }
        b'*' | b'>' => push_array(s, buf, next, len() as usize),
        b'%' => push_map(s, buf, next, len() as usize, false),
        b'~' => push_map(s, buf, next, len() as usize, true),
        b'|' => {
            // Attributes of what follows, which scripts do not see.
            let mut at = next;
            for _ in 0..2 * len().max(0) {
                at = push_value(s, buf, at)?;
                s.pop(1);
            }
            push_value(s, buf, at)
        }
        b'_' => {
            s.push_nil();
            Some(next)
        }
        b'#' => {
            s.push_bool(text == b"t");
            Some(next)
        }
        b',' => push_field(s, b"double", |s| s.push_number(parse_f64(text).unwrap_or_default()), next),
        b'(' => push_field(s, b"big_number", |s| s.push(text), next),
        b'=' => {
            let end = next + len().max(4) as usize;
            push_verbatim(s, &buf[next..end]);
            Some(end + 2)
        }
        _ => None,
    }
}

fn len_or(text: &[u8], otherwise: i64) -> i64 {
    parse_i64(text).unwrap_or(otherwise)
}

/// Pushes a table with one field.
fn push_field(s: Stack, name: &[u8], value: impl FnOnce(Stack), next: usize) -> Option<usize> {
    s.push_table(0, 1);
    value(s);
    s.set_field(-2, name);
    Some(next)
}

fn push_array(s: Stack, buf: &[u8], mut at: usize, n: usize) -> Option<usize> {
    s.push_table(n, 0);
    for i in 1..=n {
        at = push_value(s, buf, at)?;
        s.set_index(-2, i);
    }
    Some(at)
}

/// Pushes `{map = {...}}`, or `{set = {member = true}}`.
fn push_map(s: Stack, buf: &[u8], mut at: usize, n: usize, set: bool) -> Option<usize> {
    s.push_table(0, 1);
    s.push_table(0, n);
    for _ in 0..n {
        at = push_value(s, buf, at)?;
        if set {
            s.push_bool(true);
        } else {
            at = push_value(s, buf, at)?;
        }
        if s.kind(-2) == Type::Nil {
            s.pop(2);
        } else {
            s.raw_set(-3);
        }
    }
    s.set_field(-2, if set { b"set" } else { b"map" });
    Some(at)
}

fn push_verbatim(s: Stack, text: &[u8]) {
    s.push_table(0, 1);
    s.push_table(0, 2);
    s.push(&text[4..]);
    s.set_field(-2, b"string");
    s.push(&text[..3]);
    s.set_field(-2, b"format");
    s.set_field(-2, b"verbatim_string");
}

/// An error that a script returned or raised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptError {
    pub text: Vec<u8>,
    pub source: Option<Vec<u8>>,
    pub line: Option<Vec<u8>>,
    /// It was counted where it happened.
    pub counted: bool,
}

/// What is before the first zero byte: texts of errors and of status replies
/// end there, as those of C do.
pub fn before_zero(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// Reads the error on top of the stack.
pub fn error_of(s: Stack) -> ScriptError {
    let mut e = ScriptError::default();
    if s.kind(-1) == Type::String {
        e.text = [b"ERR ", before_zero(s.bytes(-1).unwrap_or_default())].concat();
        return e;
    }
    if s.kind(-1) != Type::Table {
        e.text = b"ERR unknown error".to_vec();
        return e;
    }
    let field = |name: &[u8]| {
        s.field(-1, name);
        let text = s.text(-1).map(|t| before_zero(t).to_vec());
        s.pop(1);
        text
    };
    e.text = field(b"err").unwrap_or_else(|| b"ERR unknown error".to_vec());
    (e.source, e.line) = (field(b"source"), field(b"line"));
    s.field(-1, b"ignore_error_stats_update");
    e.counted = s.truthy(-1);
    s.pop(1);
    e
}

/// What a script's value came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Value,
    /// The value is an error: nothing is written.
    Error(ScriptError),
}

/// Writes the value on top of the stack as a reply, and pops it; `script` is
/// the protocol that the script has chosen.
pub fn write_value(s: Stack, script: Proto, reply: &mut Reply) -> Written {
    if s.kind(-1) == Type::Table && has(s, b"err", Type::String) {
        s.pop(1);
        let error = error_of(s);
        s.pop(1);
        return Written::Error(error);
    }
    write(s, script, reply);
    Written::Value
}

fn write(s: Stack, script: Proto, reply: &mut Reply) {
    if !s.reserve(LEVEL) {
        reply.error(b"ERR reached lua stack limit");
        s.pop(1);
        return;
    }
    match s.kind(-1) {
        Type::String => reply.bulk(s.bytes(-1).unwrap_or_default()),
        Type::Number => reply.int(to_integer(s.number(-1).unwrap_or_default())),
        Type::Boolean if script == Proto::Resp3 => reply.bool(s.truthy(-1)),
        Type::Boolean if s.truthy(-1) => reply.int(1),
        Type::Table => return write_table(s, script, reply),
        _ => reply.null(),
    }
    s.pop(1);
}

/// Has the table on top this field, of this type? The value is then on top.
fn has(s: Stack, name: &[u8], kind: Type) -> bool {
    if s.field(-1, name) == kind {
        return true;
    }
    s.pop(1);
    false
}

fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }).collect()
}

/// Writes the table on top, and pops it.
fn write_table(s: Stack, script: Proto, reply: &mut Reply) {
    if has(s, b"err", Type::String) {
        s.pop(1);
        reply.error(&error_of(s).text);
    } else if has(s, b"ok", Type::String) {
        reply.out.push(b'+');
        reply.out.extend_from_slice(&one_line(before_zero(s.bytes(-1).unwrap_or_default())));
        reply.out.extend_from_slice(b"\r\n");
        s.pop(1);
    } else if has(s, b"double", Type::Number) {
        reply.double(s.number(-1).unwrap_or_default());
        s.pop(1);
    } else if has(s, b"map", Type::Table) {
        write_fields(s, script, reply, true);
    } else if has(s, b"set", Type::Table) {
        write_fields(s, script, reply, false);
    } else if has(s, b"big_number", Type::String) {
        let text = one_line(s.bytes(-1).unwrap_or_default());
        if reply.proto == Proto::Resp3 {
            reply.raw(&[b"(", &text[..], b"\r\n"].concat());
        } else {
            reply.bulk(&text);
        }
        s.pop(1);
    } else if has(s, b"verbatim_string", Type::Table) {
        write_verbatim(s, reply);
    } else {
        write_elements(s, script, reply);
    }
    s.pop(1);
}

/// Writes the fields of the table on top, and pops it: keys and values, or
/// only keys.
fn write_fields(s: Stack, script: Proto, reply: &mut Reply, values: bool) {
    let mut n = 0;
    s.push_nil();
    while s.next(-2) {
        n += 1;
        s.pop(1);
    }
    if values {
        reply.map(n)
    } else {
        reply.set(n)
    }
    s.push_nil();
    while s.next(-2) {
        // The key stays for going on; what is written is a copy.
        s.copy(-2);
        write(s, script, reply);
        if values { write(s, script, reply) } else { s.pop(1) }
    }
    s.pop(1);
}

/// Writes the verbatim string on top, and pops it.
fn write_verbatim(s: Stack, reply: &mut Reply) {
    s.field(-1, b"format");
    s.field(-2, b"string");
    match (s.bytes(-2), s.bytes(-1)) {
        (Some(format), Some(text)) => {
            let mut three = [b' '; 3];
            three.iter_mut().zip(format).for_each(|(to, b)| *to = *b);
            let valid = std::str::from_utf8(&three).ok().filter(|t| !t.contains(['\r', '\n']));
            reply.verbatim(valid.unwrap_or("txt"), text);
        }
        _ => reply.array(0),
    }
    s.pop(3);
}

fn write_elements(s: Stack, script: Proto, reply: &mut Reply) {
    let mut n = 0;
    loop {
        s.raw_index(-1, n + 1);
        let end = s.kind(-1) == Type::Nil;
        s.pop(1);
        if end {
            break;
        }
        n += 1;
    }
    reply.array(n);
    for i in 1..=n {
        s.raw_index(-1, i);
        write(s, script, reply);
    }
}
