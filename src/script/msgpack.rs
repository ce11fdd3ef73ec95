//! The table `cmsgpack`: the MessagePack format (its published specification)
//! with the functions and limits of lua-cmsgpack 0.4.

use std::ffi::c_int;

use super::context::Context;
use super::lua::{Native, Raise, Stack, Type, to_integer};

/// Tables nested deeper are packed as nil.
const NESTING_MAX: usize = 16;

/// Places on Lua's stack that one level of nesting takes.
const LEVEL: i32 = 5;

const FUNCTIONS: [(&str, Native); 4] =
    [("pack", pack), ("unpack", unpack), ("unpack_one", unpack_one), ("unpack_limit", unpack_limit)];

const TEXTS: [(&str, &str); 4] = [
    ("_NAME", "cmsgpack"),
    ("_VERSION", "lua-cmsgpack 0.4.0"),
    ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
    ("_DESCRIPTION", "MessagePack C implementation for Lua"),
];

/// Pushes the table.
pub fn open(s: Stack, cx: &Context) {
    s.push_table(0, FUNCTIONS.len() + TEXTS.len());
    for (name, native) in FUNCTIONS {
        s.native(cx, native);
        s.set_field(-2, name.as_bytes());
    }
    for (name, text) in TEXTS {
        s.push(text.as_bytes());
        s.set_field(-2, name.as_bytes());
    }
}

fn pack(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let n = s.top();
    if n == 0 {
        return Err(s.bad_argument(0, "pack", "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for i in 1..=n {
        s.copy(i);
        write(s, &mut out, 0);
        s.pop(1);
    }
    s.push(&out);
    Ok(1)
}

/// Writes the value on top of the stack, which stays.
fn write(s: Stack, out: &mut Vec<u8>, level: usize) {
    match s.kind(-1) {
        Type::String => write_string(out, s.bytes(-1).unwrap_or_default()),
        Type::Boolean => out.push(if s.truthy(-1) { 0xC3 } else { 0xC2 }),
        Type::Number => write_number(out, s.number(-1).unwrap_or_default()),
        Type::Table if level < NESTING_MAX && s.reserve(LEVEL) => write_table(s, out, level),
        _ => out.push(0xC0),
    }
}

/// Head of something with a length: up to the short form's limit, then with
/// lengths of 8 (if there is such a form), 16 and 32 bits.
fn head(out: &mut Vec<u8>, n: usize, short: (u8, usize), wide: [u8; 3]) {
    if n < short.1 {
        out.push(short.0 | n as u8);
    } else if n <= 0xFF && wide[0] != 0 {
        out.extend_from_slice(&[wide[0], n as u8]);
    } else if n <= 0xFFFF {
        out.push(wide[1]);
        out.extend_from_slice(&(n as u16).to_be_bytes());
    } else {
        out.push(wide[2]);
        out.extend_from_slice(&(n as u32).to_be_bytes());
    }
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    head(out, text.len(), (0xA0, 32), [0xD9, 0xDA, 0xDB]);
    out.extend_from_slice(text);
}

fn write_number(out: &mut Vec<u8>, n: f64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if n.floor() == n && (-LIMIT..LIMIT).contains(&n) {
        return write_integer(out, n as i64);
    }
    if f64::from(n as f32) == n {
        out.push(0xCA);
        out.extend_from_slice(&(n as f32).to_be_bytes());
    } else {
        out.push(0xCB);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

fn write_integer(out: &mut Vec<u8>, n: i64) {
    let bytes = n.to_be_bytes();
    let (code, width) = match n {
        -32..=0x7F => return out.push(n as u8),
        0x80..=0xFF => (0xCC, 1),
        0x100..=0xFFFF => (0xCD, 2),
        0x1_0000..=0xFFFF_FFFF => (0xCE, 4),
        0x1_0000_0000.. => (0xCF, 8),
        -128..=-33 => (0xD0, 1),
        -0x8000..=-129 => (0xD1, 2),
        -0x8000_0000..=-0x8001 => (0xD2, 4),
        _ => (0xD3, 8),
    };
    out.push(code);
    out.extend_from_slice(&bytes[8 - width..]);
}

/// Are the keys the integers from 1 to the number of keys?
fn is_array(s: Stack) -> bool {
    let (mut max, mut n) = (0.0_f64, 0.0);
    s.push_nil();
    while s.next(-2) {
        s.pop(1);
        let key = if s.kind(-1) == Type::Number { s.number(-1) } else { None };
        match key.filter(|k| *k > 0.0 && k.floor() == *k) {
            Some(k) => max = max.max(k),
            None => {
                s.pop(1);
                return false;
            }
        }
        n += 1.0;
    }
    max == n
}

fn write_table(s: Stack, out: &mut Vec<u8>, level: usize) {
    if is_array(s) {
        let n = s.raw_len(-1);
        head(out, n, (0x90, 16), [0, 0xDC, 0xDD]);
        for i in 1..=n {
            s.raw_index(-1, i);
            write(s, out, level + 1);
            s.pop(1);
        }
        return;
    }
    let mut n = 0;
    s.push_nil();
    while s.next(-2) {
        s.pop(1);
        n += 1;
    }
    head(out, n, (0x80, 16), [0, 0xDE, 0xDF]);
    s.push_nil();
    while s.next(-2) {
        s.copy(-2);
        write(s, out, level + 1);
        s.pop(1);
        write(s, out, level + 1);
        s.pop(1);
    }
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Missing,
    Format,
}

struct Reader<'a> {
    text: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Bad> {
        let (head, rest) = self.text.split_at_checked(n).ok_or(Bad::Missing)?;
        self.text = rest;
        Ok(head)
    }

    fn unsigned(&mut self, width: usize) -> Result<u64, Bad> {
        Ok(self.take(width)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn signed(&mut self, width: usize) -> Result<i64, Bad> {
        let shift = 64 - 8 * width as u32;
        Ok((self.unsigned(width)? << shift) as i64 >> shift)
    }

    fn length(&mut self, width: usize) -> Result<usize, Bad> {
        Ok(self.unsigned(width)? as usize)
    }

    /// Pushes the next value.
    fn value(&mut self, s: Stack) -> Result<(), Bad> {
        if !s.reserve(LEVEL) {
            return Err(Bad::Format);
        }
        let code = self.take(1)?[0];
        match code {
            0..=0x7F | 0xE0..=0xFF => s.push_number(f64::from(code as i8)),
            0x80..=0x8F => return self.map(s, usize::from(code & 0xF)),
            0x90..=0x9F => return self.array(s, usize::from(code & 0xF)),
            0xA0..=0xBF => s.push(self.take(usize::from(code & 0x1F))?),
            0xC0 => s.push_nil(),
            0xC2 | 0xC3 => s.push_bool(code == 0xC3),
            0xC4 | 0xD9 => self.string(s, 1)?,
            0xC5 | 0xDA => self.string(s, 2)?,
            0xC6 | 0xDB => self.string(s, 4)?,
            0xCA => s.push_number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xCB => s.push_number(f64::from_bits(self.unsigned(8)?)),
            // As Redis has it: those of 2^63 and more come out negative.
            0xCC..=0xCF => s.push_number(self.unsigned(1 << (code - 0xCC))? as i64 as f64),
            0xD0..=0xD3 => s.push_number(self.signed(1 << (code - 0xD0))? as f64),
            0xDC | 0xDD => {
                let n = self.length(2 << (code - 0xDC))?;
                return self.array(s, n);
            }
            0xDE | 0xDF => {
                let n = self.length(2 << (code - 0xDE))?;
                return self.map(s, n);
            }
            _ => return Err(Bad::Format),
        }
        Ok(())
    }

    fn string(&mut self, s: Stack, width: usize) -> Result<(), Bad> {
        let n = self.length(width)?;
        s.push(self.take(n)?);
        Ok(())
    }

    fn array(&mut self, s: Stack, n: usize) -> Result<(), Bad> {
        s.push_table(0, 0);
        for i in 1..=n {
            self.value(s)?;
            s.set_index(-2, i);
        }
        Ok(())
    }

    fn map(&mut self, s: Stack, n: usize) -> Result<(), Bad> {
        s.push_table(0, 0);
        for _ in 0..n {
            self.value(s)?;
            self.value(s)?;
            let unfit =
                s.kind(-2) == Type::Nil || (s.kind(-2) == Type::Number && s.number(-2).is_some_and(f64::is_nan));
            if unfit {
                return Err(Bad::Format);
            }
            s.raw_set(-3);
        }
        Ok(())
    }
}

fn unpack(s: Stack, _: &Context) -> Result<c_int, Raise> {
    unpack_some(s, "unpack", 0, 0)
}

fn optional(s: Stack, i: c_int, function: &str, otherwise: i64) -> Result<i64, Raise> {
    if matches!(s.kind(i), Type::None | Type::Nil) {
        return Ok(otherwise);
    }
    let wrong = || s.bad_argument(i, function, format!("number expected, got {}", s.kind_name(i)));
    s.number(i).map(to_integer).ok_or_else(wrong)
}

fn unpack_one(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let offset = optional(s, 2, "unpack_one", 0)?;
    s.set_top(1);
    unpack_some(s, "unpack_one", 1, offset)
}

fn unpack_limit(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let Some(limit) = s.number(2).map(to_integer) else {
        return Err(s.bad_argument(2, "unpack_limit", format!("number expected, got {}", s.kind_name(2))));
    };
    let offset = optional(s, 3, "unpack_limit", 0)?;
    s.set_top(1);
    unpack_some(s, "unpack_limit", limit, offset)
}

/// Unpacks up to `limit` values from `offset` on; with neither, all of them.
/// With one of them, the place where to go on is the first result, -1 at the
/// end.
fn unpack_some(s: Stack, function: &str, limit: i64, offset: i64) -> Result<c_int, Raise> {
    let Some(text) = s.text(1) else {
        return Err(s.bad_argument(1, function, format!("string expected, got {}", s.kind_name(1))));
    };
    // The texts show the lower 32 bits, as in Redis.
    let (shown, length) = (offset as i32, text.len() as i32);
    if limit < 0 || offset < 0 {
        return Err(s.fail(format!("Invalid request to unpack with offset of {shown} and limit of {length}.")));
    }
    if offset as u64 > text.len() as u64 {
        return Err(s.fail(format!("Start offset {shown} greater than input length {length}.")));
    }
    let all = limit == 0 && offset == 0;
    let limit = if all { i64::MAX } else { limit };
    let mut reader = Reader { text: &text[offset as usize..] };
    let mut n = 0;
    while !reader.text.is_empty() && i64::from(n) < limit {
        match reader.value(s) {
            Ok(()) => n += 1,
            Err(Bad::Format) => return Err(s.fail("Bad data format in input.")),
            Err(Bad::Missing) => return Err(s.fail("Missing bytes in input.")),
        }
    }
    if all {
        return Ok(n);
    }
    if !s.reserve(1) {
        return Err(s.fail("Bad data format in input."));
    }
    let at = text.len() - reader.text.len();
    s.push_number(if reader.text.is_empty() { -1.0 } else { at as f64 });
    s.insert(2);
    Ok(n + 1)
}
