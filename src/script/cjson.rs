//! The table `cjson`: JSON (RFC 8259) as the Lua CJSON manual describes it,
//! version 2.1. `null` is the null pointer. Settings belong to the table that
//! they were made on; `new` makes another.

use std::ffi::{c_int, c_void};

use super::context::Context;
use super::json_read::Reader;
use super::json_write::Writer;
use super::lua::{Native, Raise, Stack, Type};

/// Settings of one table of functions.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub sparse_convert: bool,
    pub sparse_ratio: i32,
    pub sparse_safe: i32,
    pub encode_depth_max: i32,
    pub decode_depth_max: i32,
    pub precision: i32,
    pub encode_invalid: Invalid,
    pub decode_invalid: bool,
    pub keep_buffer: bool,
}

/// What becomes of numbers that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    Refused,
    Written,
    Null,
}

const DEFAULT: Settings = Settings {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth_max: 1000,
    decode_depth_max: 1000,
    precision: 14,
    encode_invalid: Invalid::Refused,
    decode_invalid: true,
    keep_buffer: true,
};

const FUNCTIONS: [(&str, Native); 10] = [
    ("encode", encode),
    ("decode", decode),
    ("encode_sparse_array", sparse_array),
    ("encode_max_depth", |s, _| number_setting(s, "encode_max_depth", (1, i32::MAX), |c| &mut c.encode_depth_max)),
    ("decode_max_depth", |s, _| number_setting(s, "decode_max_depth", (1, i32::MAX), |c| &mut c.decode_depth_max)),
    ("encode_number_precision", |s, _| number_setting(s, "encode_number_precision", (1, 14), |c| &mut c.precision)),
    ("encode_keep_buffer", keep_buffer),
    ("encode_invalid_numbers", encode_invalid),
    ("decode_invalid_numbers", decode_invalid),
    ("new", |s, cx| {
        open(s, cx);
        Ok(1)
    }),
];

/// Pushes a new table with default settings.
pub fn open(s: Stack, cx: &Context) {
    s.push_table(0, FUNCTIONS.len() + 3);
    s.push_userdata(DEFAULT);
    for (name, native) in FUNCTIONS {
        s.copy(-1);
        s.native_with(cx, native, 1);
        s.set_field(-3, name.as_bytes());
    }
    s.pop(1);
    s.push_pointer(std::ptr::null_mut());
    s.set_field(-2, b"null");
    s.push(b"cjson");
    s.set_field(-2, b"_NAME");
    s.push(b"2.1.0");
    s.set_field(-2, b"_VERSION");
}

fn settings<'a>(s: Stack) -> &'a mut Settings {
    let p: *mut c_void = s.pointer(Stack::upvalue(0));
    // SAFETY: `open` made this upvalue of every function of the table, which
    // keeps it alive while one of them runs; they do not call each other.
    unsafe { &mut *p.cast::<Settings>() }
}

fn encode(s: Stack, _: &Context) -> Result<c_int, Raise> {
    if s.top() != 1 {
        return Err(s.bad_argument(1, "encode", "expected 1 argument"));
    }
    let mut writer = Writer::new(settings(s));
    match writer.value(s, 0) {
        Ok(()) => {
            s.push(&writer.out);
            Ok(1)
        }
        Err(why) => {
            drop(writer);
            Err(s.fail(why))
        }
    }
}

fn decode(s: Stack, _: &Context) -> Result<c_int, Raise> {
    if s.top() != 1 {
        return Err(s.bad_argument(1, "decode", "expected 1 argument"));
    }
    let Some(text) = s.text(1) else {
        return Err(s.bad_argument(1, "decode", format!("string expected, got {}", s.kind_name(1))));
    };
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(s.fail("JSON parser does not support UTF-16 or UTF-32"));
    }
    match Reader::new(settings(s), text).document(s) {
        Ok(()) => Ok(1),
        Err(why) => Err(s.fail(why)),
    }
}

fn no_more_than(s: Stack, n: c_int, function: &str) -> Result<(), Raise> {
    if s.top() > n {
        return Err(s.bad_argument(n + 1, function, "found too many arguments"));
    }
    Ok(())
}

fn integer(s: Stack, i: c_int, function: &str, (min, max): (i32, i32)) -> Result<Option<i32>, Raise> {
    if matches!(s.kind(i), Type::Nil | Type::None) {
        return Ok(None);
    }
    let Some(n) = s.number(i) else {
        return Err(s.bad_argument(i, function, format!("number expected, got {}", s.kind_name(i))));
    };
    if n < f64::from(min) || n > f64::from(max) || n.is_nan() {
        return Err(s.bad_argument(i, function, format!("expected integer between {min} and {max}")));
    }
    Ok(Some(n as i32))
}

fn number_setting(
    s: Stack,
    function: &str,
    range: (i32, i32),
    of: fn(&mut Settings) -> &mut i32,
) -> Result<c_int, Raise> {
    no_more_than(s, 1, function)?;
    let place = of(settings(s));
    if let Some(n) = integer(s, 1, function, range)? {
        *place = n;
    }
    s.push_number(f64::from(*place));
    Ok(1)
}

/// One of some words, or a boolean for the first two.
fn choice(s: Stack, i: c_int, function: &str, words: &[&str]) -> Result<Option<usize>, Raise> {
    match s.kind(i) {
        Type::Nil | Type::None => Ok(None),
        Type::Boolean => Ok(Some(usize::from(s.truthy(i)))),
        _ => {
            let word = s.text(i).unwrap_or_default();
            match words.iter().position(|w| w.as_bytes() == word) {
                Some(n) => Ok(Some(n)),
                None => {
                    let shown = String::from_utf8_lossy(word).into_owned();
                    Err(s.bad_argument(i, function, format!("invalid option '{shown}'")))
                }
            }
        }
    }
}

fn sparse_array(s: Stack, _: &Context) -> Result<c_int, Raise> {
    const NAME: &str = "encode_sparse_array";
    no_more_than(s, 3, NAME)?;
    let convert = choice(s, 1, NAME, &["off", "on"])?;
    let (ratio, safe) = (integer(s, 2, NAME, (0, i32::MAX))?, integer(s, 3, NAME, (0, i32::MAX))?);
    let c = settings(s);
    c.sparse_convert = convert.map_or(c.sparse_convert, |n| n == 1);
    c.sparse_ratio = ratio.unwrap_or(c.sparse_ratio);
    c.sparse_safe = safe.unwrap_or(c.sparse_safe);
    s.push_bool(c.sparse_convert);
    s.push_number(f64::from(c.sparse_ratio));
    s.push_number(f64::from(c.sparse_safe));
    Ok(3)
}

/// Memory is never kept here; the setting is only remembered.
fn keep_buffer(s: Stack, _: &Context) -> Result<c_int, Raise> {
    no_more_than(s, 1, "encode_keep_buffer")?;
    let wanted = choice(s, 1, "encode_keep_buffer", &["off", "on"])?;
    let c = settings(s);
    c.keep_buffer = wanted.map_or(c.keep_buffer, |n| n == 1);
    s.push_bool(c.keep_buffer);
    Ok(1)
}

fn encode_invalid(s: Stack, _: &Context) -> Result<c_int, Raise> {
    no_more_than(s, 1, "encode_invalid_numbers")?;
    let wanted = choice(s, 1, "encode_invalid_numbers", &["off", "on", "null"])?;
    let c = settings(s);
    if let Some(n) = wanted {
        c.encode_invalid = [Invalid::Refused, Invalid::Written, Invalid::Null][n];
    }
    match c.encode_invalid {
        Invalid::Null => s.push(b"null"),
        other => s.push_bool(other == Invalid::Written),
    }
    Ok(1)
}

fn decode_invalid(s: Stack, _: &Context) -> Result<c_int, Raise> {
    no_more_than(s, 1, "decode_invalid_numbers")?;
    let wanted = choice(s, 1, "decode_invalid_numbers", &["off", "on"])?;
    let c = settings(s);
    c.decode_invalid = wanted.map_or(c.decode_invalid, |n| n == 1);
    s.push_bool(c.decode_invalid);
    Ok(1)
}
