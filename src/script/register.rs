//! `redis.register_function`: how a library says what it offers.

use std::ffi::c_int;

use super::api::{coded, push_error};
use super::context::Context;
use super::library::Function;
use super::lua::{Raise, Stack, Type};
use super::source::{NAME_RULE, flag, is_name};

fn refuse(s: Stack, text: &str) -> Raise {
    push_error(s, &coded(text.as_bytes()), false);
    Raise
}

/// See the module's description.
pub fn register(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    if cx.loading.borrow().is_none() {
        return Err(refuse(s, "redis.register_function can only be called on FUNCTION LOAD command"));
    }
    // What is registered: the function, and its callback on top of the stack.
    let function = match s.top() {
        1 => named(s)?,
        2 => unnamed(s)?,
        _ => return Err(refuse(s, "wrong number of arguments to redis.register_function")),
    };
    if !is_name(&function.name) {
        return Err(refuse(s, &format!("Library names {NAME_RULE}")));
    }
    let mut loading = cx.loading.borrow_mut();
    let Some(all) = loading.as_mut() else { return Ok(0) };
    if all.iter().any(|(f, _)| f.name.eq_ignore_ascii_case(&function.name)) {
        return Err(refuse(s, "Function already exists in the library"));
    }
    all.push((function, s.keep()));
    Ok(0)
}

fn unnamed(s: Stack) -> Result<Function, Raise> {
    let Some(name) = s.text(1) else {
        return Err(refuse(s, "first argument to redis.register_function must be a string"));
    };
    if s.kind(2) != Type::Function {
        return Err(refuse(s, "second argument to redis.register_function must be a function"));
    }
    Ok(Function { name: name.to_vec(), ..Function::default() })
}

fn named(s: Stack) -> Result<Function, Raise> {
    if s.kind(1) != Type::Table {
        let text = "calling redis.register_function with a single argument is only applicable to Lua table \
                    (representing named arguments).";
        return Err(refuse(s, text));
    }
    let mut function = Function::default();
    let (mut has_name, mut has_callback) = (false, false);
    // The callback's place.
    s.push_nil();
    s.push_nil();
    while s.next(1) {
        let Some(key) = s.bytes(-2) else {
            return Err(refuse(s, "named argument key given to redis.register_function is not a string"));
        };
        match &key.to_ascii_lowercase()[..] {
            b"function_name" => {
                function.name = text_value(s, "function_name")?;
                has_name = true;
            }
            b"description" => function.description = Some(text_value(s, "description")?),
            b"callback" => {
                if s.kind(-1) != Type::Function {
                    return Err(refuse(s, "callback argument given to redis.register_function must be a function"));
                }
                s.copy(-1);
                s.replace(2);
                has_callback = true;
            }
            b"flags" => function.flags = flags(s)?,
            _ => return Err(refuse(s, "unknown argument given to redis.register_function")),
        }
        s.pop(1);
    }
    if !has_name {
        return Err(refuse(s, "redis.register_function must get a function name argument"));
    }
    if !has_callback {
        return Err(refuse(s, "redis.register_function must get a callback argument"));
    }
    Ok(function)
}

fn text_value(s: Stack, name: &str) -> Result<Vec<u8>, Raise> {
    match s.text(-1) {
        Some(text) => Ok(text.to_vec()),
        None => Err(refuse(s, &format!("{name} argument given to redis.register_function must be a string"))),
    }
}

/// The flags in the table on top, which stays.
fn flags(s: Stack) -> Result<u32, Raise> {
    if s.kind(-1) != Type::Table {
        return Err(refuse(s, "flags argument to redis.register_function must be a table representing function flags"));
    }
    let mut flags = 0;
    for i in 1.. {
        s.raw_index(-1, i);
        if s.kind(-1) == Type::Nil {
            s.pop(1);
            break;
        }
        match s.text(-1).and_then(flag::by_name) {
            Some(f) => flags |= f,
            None => return Err(refuse(s, "unknown flag given")),
        }
        s.pop(1);
    }
    Ok(flags)
}
