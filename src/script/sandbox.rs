//! What scripts see of the world: the globals of a state.
//!
//! Tables that scripts share are *frozen*: an empty table whose metatable
//! shows the real one and refuses to be written. Lua 5.1 has functions that
//! pass metatables by; those among the globals are replaced by some that look
//! through a frozen table when reading, and refuse to change it. What could
//! open a way out (files, bytecode, other functions' environments) is missing.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::context::Context;
use super::lua::{Frozen, Native, Raise, Stack, Status, Type};
use super::random::Rand48;
use super::{api, bits, cjson, msgpack, structs};

/// The error of writing to a frozen table.
pub const READONLY: &[u8] = b"Attempt to modify a readonly table";

/// Element of a metatable that says that its table is frozen.
pub const FROZEN_MARK: usize = 1;

/// Functions of Lua's base library that are kept as they are.
const KEPT: [&[u8]; 16] = [
    b"assert",
    b"collectgarbage",
    b"coroutine",
    b"error",
    b"gcinfo",
    b"ipairs",
    b"math",
    b"rawequal",
    b"select",
    b"string",
    b"table",
    b"tonumber",
    b"tostring",
    b"type",
    b"_VERSION",
    b"os",
];

/// Functions of the table library that change their first argument.
const CHANGING: [&[u8]; 4] = [b"insert", b"remove", b"sort", b"setn"];

/// Functions of the base library that read or change their first argument
/// without metamethods.
const RAW: [(&[u8], Frozen); 5] = [
    (b"unpack", Frozen::Unpacked),
    (b"next", Frozen::Shown),
    (b"rawget", Frozen::Shown),
    (b"rawset", Frozen::Refused),
    (b"setmetatable", Frozen::Refused),
];

const REPLACED: [(&[u8], Native); 5] = [
    (b"getmetatable", get_metatable),
    (b"load", load),
    (b"loadstring", load_string),
    (b"pcall", pcall),
    (b"xpcall", xpcall),
];

/// Opens Lua's libraries and makes the globals of `s`; returns where the real
/// table of globals is kept, and the metatable that shows it.
pub fn furnish(s: Stack, cx: &Context, functions: bool) -> (c_int, c_int) {
    let libraries = [ffi::luaopen_base, ffi::luaopen_table, ffi::luaopen_string, ffi::luaopen_math, ffi::luaopen_os];
    libraries.into_iter().for_each(|open| s.open_library(open));
    s.push_globals();
    let lua = s.top();
    s.push_table(0, 40);
    let globals = s.top();
    for name in KEPT {
        s.field(lua, name);
        s.set_field(globals, name);
    }
    for (name, native) in REPLACED {
        s.native(cx, native);
        s.set_field(globals, name);
    }
    for (name, frozen) in RAW {
        s.field(lua, name);
        s.guard(frozen);
        s.set_field(globals, name);
    }
    s.field(lua, b"next");
    s.field(globals, b"next");
    s.native_with(cx, pairs, 2);
    s.set_field(globals, b"pairs");
    change_libraries(s, cx, globals);
    for (name, open) in [
        (&b"bit"[..], bits::open as fn(Stack, &Context)),
        (b"cjson", cjson::open),
        (b"cmsgpack", msgpack::open),
        (b"struct", structs::open),
    ] {
        open(s, cx);
        s.set_field(globals, name);
    }
    api::open(s, cx, functions);
    s.set_field(globals, b"redis");
    for name in [&b"coroutine"[..], b"math", b"os", b"table", b"redis", b"bit", b"cjson", b"cmsgpack", b"struct"] {
        s.field(globals, name);
        freeze(s, cx);
        s.set_field(globals, name);
    }
    // Valkey's name for the same.
    s.field(globals, b"redis");
    s.set_field(globals, b"server");
    freeze_strings(s, cx, globals);
    s.native(cx, missing);
    set_index_metatable(s, globals);
    s.copy(globals);
    freeze(s, cx);
    s.copy(-1);
    s.set_field(globals, b"_G");
    s.metatable(-1);
    let shown = s.keep();
    s.set_globals();
    let kept = s.keep();
    s.set_top(lua - 1);
    (kept, shown)
}

/// Gives a table a metatable with the value on top as what missing fields are
/// looked for in; pops the value.
pub fn set_index_metatable(s: Stack, table: c_int) {
    s.push_table(0, 1);
    s.insert(-2);
    s.set_field(-2, b"__index");
    s.set_metatable(table);
}

fn change_libraries(s: Stack, cx: &Context, globals: c_int) {
    s.field(globals, b"table");
    for name in CHANGING {
        s.field(-1, name);
        s.guard(Frozen::Refused);
        s.set_field(-2, name);
    }
    s.field(globals, b"math");
    s.native(cx, random);
    s.set_field(-2, b"random");
    s.native(cx, random_seed);
    s.set_field(-2, b"randomseed");
    s.push_table(0, 1);
    s.field(globals, b"os");
    s.field(-1, b"clock");
    s.set_field(-3, b"clock");
    s.pop(1);
    s.set_field(globals, b"os");
    s.field(globals, b"string");
    for name in [&b"find"[..], b"match", b"gsub", b"gmatch", b"gfind"] {
        s.field(-1, name);
        s.guard(Frozen::Matching);
        s.set_field(-2, name);
    }
    s.pop(3);
}

/// The library of strings, and the metatable of all strings.
fn freeze_strings(s: Stack, cx: &Context, globals: c_int) {
    s.push(b"");
    let has = s.metatable(-1);
    debug_assert!(has, "strings have methods");
    s.field(globals, b"string");
    freeze(s, cx);
    s.copy(-1);
    s.set_field(globals, b"string");
    s.push_table(0, 1);
    s.insert(-2);
    s.set_field(-2, b"__index");
    freeze(s, cx);
    s.set_field(-2, b"__metatable");
    s.pop(2);
}

/// Replaces the table on top by one that shows it and cannot be written.
pub fn freeze(s: Stack, cx: &Context) {
    s.push_table(0, 0);
    s.push_table(1, 2);
    s.copy(-3);
    s.set_field(-2, b"__index");
    s.native(cx, refuse_write);
    s.set_field(-2, b"__newindex");
    s.push_pointer(std::ptr::from_ref(cx).cast_mut().cast());
    s.set_index(-2, FROZEN_MARK);
    s.set_metatable(-2);
    s.remove(-2);
}

fn refuse_write(s: Stack, _: &Context) -> Result<c_int, Raise> {
    Err(s.fail(READONLY))
}

/// Asked for globals that do not exist.
pub fn missing(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let name = s.text(2).unwrap_or(b"?").to_vec();
    Err(s.fail([b"Script attempted to access nonexistent global variable '", &name[..], b"'"].concat()))
}

fn table_argument(s: Stack, function: &str) -> Result<(), Raise> {
    if s.kind(1) == Type::Table {
        return Ok(());
    }
    Err(s.bad_argument(1, function, format!("table expected, got {}", s.kind_name(1))))
}

/// Its upvalues are the functions that walk plain and frozen tables.
fn pairs(s: Stack, _: &Context) -> Result<c_int, Raise> {
    table_argument(s, "pairs")?;
    s.copy(Stack::upvalue(c_int::from(s.is_frozen(1))));
    s.copy(1);
    s.push_nil();
    Ok(3)
}

fn get_metatable(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if s.kind(1) == Type::None {
        return Err(s.bad_argument(1, "getmetatable", "value expected"));
    }
    if s.is_frozen(1) {
        // Nothing of how a table is frozen shows.
        s.push_table(0, 0);
        freeze(s, cx);
        return Ok(1);
    }
    if !s.metatable(1) {
        s.push_nil();
        return Ok(1);
    }
    if s.field(-1, b"__metatable") == Type::Nil {
        s.pop(1);
    }
    Ok(1)
}

/// An error that a command left in a table is handed to scripts as its text.
fn unwrap_error(s: Stack) {
    if s.kind(-1) == Type::Table {
        if s.field(-1, b"err") == Type::String {
            s.remove(-2);
        } else {
            s.pop(1);
        }
    }
}

fn pcall(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if s.kind(1) == Type::None {
        return Err(s.bad_argument(1, "pcall", "value expected"));
    }
    let status = s.call(cx, s.top() - 1, ffi::LUA_MULTRET, 0);
    finish_call(s, cx, status)
}

/// Called with an error, before the stack is unwound: calls the script's own
/// handler. Not when the script is being stopped: that error comes from the
/// hook, and nothing interrupts code that is called from there.
fn handle(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if cx.abort.get().is_some() {
        s.push(api::ABORTED);
        return Ok(1);
    }
    s.copy(Stack::upvalue(0));
    s.copy(1);
    match s.call(cx, 1, 1, 0) {
        Status::Ok => Ok(1),
        Status::Failed => Err(Raise),
    }
}

fn xpcall(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if s.kind(2) == Type::None {
        return Err(s.bad_argument(2, "xpcall", "value expected"));
    }
    s.set_top(2);
    s.native_with(cx, handle, 1);
    s.insert(1);
    let status = s.call(cx, 0, ffi::LUA_MULTRET, 1);
    s.remove(1);
    finish_call(s, cx, status)
}

/// A script that has to end goes on ending.
fn finish_call(s: Stack, cx: &Context, status: Status) -> Result<c_int, Raise> {
    if cx.abort.get().is_some() {
        s.set_top(0);
        s.push(api::ABORTED);
        return Err(Raise);
    }
    if !s.reserve(1) {
        return Err(s.fail("stack overflow"));
    }
    if status == Status::Failed {
        unwrap_error(s);
    }
    s.push_bool(status == Status::Ok);
    s.insert(1);
    Ok(s.top())
}

/// Compiles text; bytecode could do anything.
fn compile(s: Stack, cx: &Context, source: &[u8], name: &[u8]) -> Result<c_int, Raise> {
    let name = std::ffi::CString::new(&name[..memchr::memchr(0, name).unwrap_or(name.len())]).unwrap_or_default();
    if source.first() == ffi::LUA_SIGNATURE.first() {
        s.push_nil();
        s.push(b"attempt to load bytecode");
        return Ok(2);
    }
    match s.compile(cx, source, &name) {
        Status::Ok => Ok(1),
        Status::Failed => {
            s.push_nil();
            s.insert(-2);
            Ok(2)
        }
    }
}

fn load_string(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    let Some(source) = s.text(1) else {
        return Err(s.bad_argument(1, "loadstring", format!("string expected, got {}", s.kind_name(1))));
    };
    let name = s.text(2).unwrap_or(source);
    compile(s, cx, source, name)
}

/// The source comes in pieces from a function.
fn load(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if s.kind(1) != Type::Function {
        return Err(s.bad_argument(1, "load", format!("function expected, got {}", s.kind_name(1))));
    }
    let mut source = Vec::new();
    loop {
        s.copy(1);
        if s.call(cx, 0, 1, 0) == Status::Failed {
            if cx.abort.get().is_some() {
                return Err(Raise);
            }
            s.push_nil();
            s.insert(-2);
            return Ok(2);
        }
        match (s.kind(-1), s.text(-1)) {
            (_, Some(piece)) if !piece.is_empty() => {
                source.extend_from_slice(piece);
                if source.first() == ffi::LUA_SIGNATURE.first() {
                    return compile(s, cx, &source, b"=(load)");
                }
                if source.len() > cx.memory.limit.get() {
                    return Err(s.fail("not enough memory"));
                }
            }
            (Type::Nil | Type::String, _) => break,
            _ => {
                s.push_nil();
                s.push(b"reader function must return a string");
                return Ok(2);
            }
        }
        s.pop(1);
    }
    let name = s.text(2).unwrap_or(b"=(load)");
    compile(s, cx, &source, name)
}

fn random(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    let mut generator = cx.random.get();
    let r = generator.unit();
    cx.random.set(generator);
    let bound = |n: c_int| {
        let expected = || s.bad_argument(n, "random", format!("number expected, got {}", s.kind_name(n)));
        s.number(n).map(f64::trunc).ok_or_else(expected)
    };
    let value = match s.top() {
        0 => r,
        1 => {
            let upper = bound(1)?;
            if upper < 1.0 {
                return Err(s.bad_argument(1, "random", "interval is empty"));
            }
            (r * upper).floor() + 1.0
        }
        2 => {
            let (lower, upper) = (bound(1)?, bound(2)?);
            if lower > upper {
                return Err(s.bad_argument(2, "random", "interval is empty"));
            }
            (r * (upper - lower + 1.0)).floor() + lower
        }
        _ => return Err(s.fail("wrong number of arguments")),
    };
    s.push_number(value);
    Ok(1)
}

fn random_seed(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    let Some(seed) = s.number(1) else {
        return Err(s.bad_argument(1, "randomseed", format!("number expected, got {}", s.kind_name(1))));
    };
    cx.random.set(Rand48::seeded(seed as i64 as i32));
    Ok(0)
}
