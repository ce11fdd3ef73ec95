//! The table `bit`: operations on 32-bit integers, as the bit operations
//! module for Lua describes them (bitop.luajit.org).

use std::ffi::c_int;

use super::context::Context;
use super::lua::{Native, Raise, Stack};

const FUNCTIONS: [(&str, Native); 12] = [
    ("tobit", |s, _| one(s, "tobit", |x| x)),
    ("bnot", |s, _| one(s, "bnot", |x| !x)),
    ("bswap", |s, _| one(s, "bswap", u32::swap_bytes)),
    ("band", |s, _| fold(s, "band", |a, b| a & b)),
    ("bor", |s, _| fold(s, "bor", |a, b| a | b)),
    ("bxor", |s, _| fold(s, "bxor", |a, b| a ^ b)),
    ("lshift", |s, _| shift(s, "lshift", |x, n| x << n)),
    ("rshift", |s, _| shift(s, "rshift", |x, n| x >> n)),
    ("arshift", |s, _| shift(s, "arshift", |x, n| ((x as i32) >> n) as u32)),
    ("rol", |s, _| shift(s, "rol", u32::rotate_left)),
    ("ror", |s, _| shift(s, "ror", u32::rotate_right)),
    ("tohex", to_hex),
];

/// Pushes the table.
pub fn open(s: Stack, cx: &Context) {
    s.push_table(0, FUNCTIONS.len());
    for (name, native) in FUNCTIONS {
        s.native(cx, native);
        s.set_field(-2, name.as_bytes());
    }
}

/// The low 32 bits of a number, rounded to the nearest integer.
fn bits(n: f64) -> u32 {
    /// Shifts the integer's low bits to those of the mantissa: 1.5 * 2^52.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    (n + MAGIC).to_bits() as u32
}

fn argument(s: Stack, n: c_int, function: &str) -> Result<u32, Raise> {
    match s.number(n) {
        Some(v) => Ok(bits(v)),
        None => Err(s.bad_argument(n, function, format!("number expected, got {}", s.kind_name(n)))),
    }
}

fn result(s: Stack, x: u32) -> Result<c_int, Raise> {
    s.push_number(f64::from(x as i32));
    Ok(1)
}

fn one(s: Stack, name: &str, f: fn(u32) -> u32) -> Result<c_int, Raise> {
    let x = argument(s, 1, name)?;
    result(s, f(x))
}

fn fold(s: Stack, name: &str, f: fn(u32, u32) -> u32) -> Result<c_int, Raise> {
    let mut x = argument(s, 1, name)?;
    // From the last one on: so Redis finds what is no number.
    for i in (2..=s.top()).rev() {
        x = f(x, argument(s, i, name)?);
    }
    result(s, x)
}

fn shift(s: Stack, name: &str, f: fn(u32, u32) -> u32) -> Result<c_int, Raise> {
    let (x, n) = (argument(s, 1, name)?, argument(s, 2, name)?);
    result(s, f(x, n & 31))
}

/// Hexadecimal of so many digits; a negative number asks for upper case.
fn to_hex(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let x = argument(s, 1, "tohex")?;
    let n = if s.top() < 2 { 8 } else { argument(s, 2, "tohex")? as i32 };
    let digits = n.unsigned_abs().min(8) as usize;
    let text = if n < 0 { format!("{x:08X}") } else { format!("{x:08x}") };
    s.push(&text.as_bytes()[8 - digits..]);
    Ok(1)
}
