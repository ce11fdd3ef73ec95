//! The table `struct`: C structures in strings, as the documentation of the
//! "struct" library for Lua describes them, version 0.2.

use std::ffi::c_int;

use super::context::Context;
use super::lua::{Native, Raise, Stack, Type, to_integer};

const FUNCTIONS: [(&str, Native); 3] = [("pack", pack), ("unpack", unpack), ("size", size)];

/// Pushes the table.
pub fn open(s: Stack, cx: &Context) {
    s.push_table(0, FUNCTIONS.len());
    for (name, native) in FUNCTIONS {
        s.native(cx, native);
        s.set_field(-2, name.as_bytes());
    }
}

/// Widest integer.
const WIDTH_MAX: usize = 32;
/// Widest value that is aligned, and the default of `!`.
const ALIGN_MAX: usize = 8;

const INVALID: &str = "invalid format option";

/// Raises the error of a format.
fn bad_format(s: Stack, function: &str, why: &str) -> Raise {
    // The option is shown as the byte that it is.
    let bytes: Vec<u8> = why.chars().map(|c| c as u8).collect();
    if why.starts_with(INVALID) { s.bad_argument(1, function, bytes) } else { s.fail(bytes) }
}

/// What the format asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer {
        signed: bool,
    },
    Float,
    Double,
    /// So many bytes of a string; 0 takes the length from before.
    Chars,
    ZeroTerminated,
    Padding,
    /// It only changed how others are read.
    Control,
}

/// A format while it is read.
struct Format<'a> {
    text: &'a [u8],
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    /// A zero byte ends it.
    fn new(text: &'a [u8]) -> Format<'a> {
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        Format { text: &text[..end], little: cfg!(target_endian = "little"), align: 1 }
    }

    /// Digits at the front, or the default.
    fn count(&mut self, otherwise: usize) -> Result<usize, String> {
        let digits = self.text.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(otherwise);
        }
        let mut n: usize = 0;
        for b in &self.text[..digits] {
            n = n * 10 + usize::from(b - b'0');
            if n > i32::MAX as usize {
                return Err("integral size overflow".into());
            }
        }
        self.text = &self.text[digits..];
        Ok(n)
    }

    fn width(&mut self, otherwise: usize) -> Result<usize, String> {
        let n = self.count(otherwise)?;
        if n > WIDTH_MAX {
            return Err(format!("integral size {n} is larger than limit of {WIDTH_MAX}"));
        }
        Ok(n)
    }

    /// The next item and its size in bytes.
    fn next(&mut self) -> Option<Result<(Kind, usize), String>> {
        let (&code, rest) = self.text.split_first()?;
        self.text = rest;
        Some(self.item(code))
    }

    fn item(&mut self, code: u8) -> Result<(Kind, usize), String> {
        let integer = |signed, n| (Kind::Integer { signed }, n);
        Ok(match code {
            b'b' => integer(true, 1),
            b'B' => integer(false, 1),
            b'h' => integer(true, 2),
            b'H' => integer(false, 2),
            b'l' => integer(true, 8),
            b'L' | b'T' => integer(false, 8),
            b'i' => integer(true, self.width(4)?),
            b'I' => integer(false, self.width(4)?),
            b'f' => (Kind::Float, 4),
            b'd' => (Kind::Double, 8),
            b'x' => (Kind::Padding, 1),
            b'c' => (Kind::Chars, self.count(1)?),
            b's' => (Kind::ZeroTerminated, 0),
            b' ' | b'>' | b'<' | b'!' => {
                self.control(code)?;
                (Kind::Control, 0)
            }
            other => return Err(format!("{INVALID} '{}'", char::from(other))),
        })
    }

    fn control(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'>' => self.little = false,
            b'<' => self.little = true,
            b'!' => {
                let n = self.count(ALIGN_MAX)?;
                if n == 0 || !n.is_power_of_two() {
                    return Err(format!("alignment {n} is not a power of 2"));
                }
                self.align = n;
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes to the place where a value of this size may stand.
    fn padding(&self, kind: Kind, size: usize, at: usize) -> usize {
        let aligned = matches!(kind, Kind::Integer { .. } | Kind::Float | Kind::Double);
        let align = size.min(self.align);
        if !aligned || align <= 1 || !align.is_power_of_two() {
            return 0;
        }
        (align - (at & (align - 1))) & (align - 1)
    }
}

fn format_argument<'a>(s: Stack, function: &str) -> Result<Format<'a>, Raise> {
    match s.text(1) {
        Some(text) => Ok(Format::new(text)),
        None => Err(s.bad_argument(1, function, format!("string expected, got {}", s.kind_name(1)))),
    }
}

/// What an argument is; one that is missing passes for nil, as in Redis.
fn given(s: Stack, i: c_int) -> &'static str {
    if matches!(s.kind(i), Type::None) { "nil" } else { s.kind_name(i) }
}

fn number(s: Stack, i: c_int) -> Result<f64, Raise> {
    s.number(i).ok_or_else(|| s.bad_argument(i, "pack", format!("number expected, got {}", given(s, i))))
}

/// The integer that a number stands for, in two's complement.
fn to_bits(n: f64) -> u64 {
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    match n {
        n if n < 0.0 => n as i64 as u64,
        // As the processor has it that Redis usually runs on.
        n if n >= TOO_LARGE => 0,
        n if n.is_nan() => 1 << 63,
        n => n as u64,
    }
}

fn ordered(mut bytes: Vec<u8>, little: bool) -> Vec<u8> {
    if !little {
        bytes.reverse();
    }
    bytes
}

fn integer_bytes(n: f64, size: usize, little: bool) -> Vec<u8> {
    let mut bytes = to_bits(n).to_le_bytes().to_vec();
    bytes.resize(size.max(8), 0);
    bytes.truncate(size);
    ordered(bytes, little)
}

fn pack(s: Stack, cx: &Context) -> Result<c_int, Raise> {
    let mut format = format_argument(s, "pack")?;
    let mut out = Vec::new();
    let mut arg = 2;
    while let Some(item) = format.next() {
        let (kind, size) = match item {
            Ok(item) => item,
            Err(why) => return Err(bad_format(s, "pack", &why)),
        };
        out.resize(out.len() + format.padding(kind, size, out.len()), 0);
        if out.len().saturating_add(size) > cx.memory.limit.get() {
            return Err(s.fail("not enough memory"));
        }
        let taken = !matches!(kind, Kind::Padding | Kind::Control);
        match kind {
            Kind::Integer { .. } => out.extend(integer_bytes(number(s, arg)?, size, format.little)),
            Kind::Float => out.extend(ordered((number(s, arg)? as f32).to_le_bytes().to_vec(), format.little)),
            Kind::Double => out.extend(ordered(number(s, arg)?.to_le_bytes().to_vec(), format.little)),
            Kind::Chars | Kind::ZeroTerminated => {
                let Some(text) = s.text(arg) else {
                    return Err(s.bad_argument(arg, "pack", format!("string expected, got {}", given(s, arg))));
                };
                let size = if kind == Kind::ZeroTerminated || size == 0 { text.len() } else { size };
                if text.len() < size {
                    return Err(s.bad_argument(arg + 1, "pack", "string too short"));
                }
                out.extend_from_slice(&text[..size]);
                if kind == Kind::ZeroTerminated {
                    out.push(0);
                }
            }
            Kind::Padding => out.push(0),
            Kind::Control => {}
        }
        arg += c_int::from(taken);
    }
    s.push(&out);
    Ok(1)
}

fn read_integer(bytes: &[u8], signed: bool, little: bool) -> f64 {
    let mut value = [0u8; 8];
    let low: Vec<u8> = if little { bytes.to_vec() } else { bytes.iter().rev().copied().collect() };
    value.iter_mut().zip(&low).for_each(|(to, b)| *to = *b);
    let bits = u64::from_le_bytes(value);
    if !signed {
        return bits as f64;
    }
    // The bits above the sign are like the sign. Of wider integers only the lower
    // 64 bits are kept; the place of their sign then counts modulo 64, as the
    // processor shifts that Redis usually runs on.
    let above = u64::MAX << ((8 * bytes.len()).wrapping_sub(1) % 64);
    (if bits & above == 0 { bits } else { bits | above }) as i64 as f64
}

fn unpack(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let mut format = format_argument(s, "unpack")?;
    let Some(data) = s.text(2) else {
        return Err(s.bad_argument(2, "unpack", format!("string expected, got {}", s.kind_name(2))));
    };
    let start = match s.number(3) {
        // Negative ones lie behind the end of any string.
        Some(n) => match to_integer(n) {
            0 => return Err(s.bad_argument(3, "unpack", "offset must be 1 or greater")),
            n => (n as u64 - 1) as usize,
        },
        None if !matches!(s.kind(3), Type::None | Type::Nil) => {
            return Err(s.bad_argument(3, "unpack", format!("number expected, got {}", s.kind_name(3))));
        }
        None => 0,
    };
    let base = s.top();
    let short = || s.bad_argument(2, "unpack", "data string too short");
    let mut at = start;
    while let Some(item) = format.next() {
        let (kind, mut size) = match item {
            Ok(item) => item,
            Err(why) => return Err(bad_format(s, "unpack", &why)),
        };
        at = at.saturating_add(format.padding(kind, size, at));
        let rest = data.get(at..).filter(|rest| rest.len() >= size).ok_or_else(short)?;
        if !s.reserve(3) {
            return Err(s.fail("too many results to unpack"));
        }
        match kind {
            Kind::Integer { signed } => s.push_number(read_integer(&rest[..size], signed, format.little)),
            Kind::Float | Kind::Double => s.push_number(read_float(&rest[..size], format.little)),
            Kind::Chars if size == 0 => {
                if s.top() == base || s.number(-1).is_none() {
                    return Err(s.fail("format 'c0' needs a previous size"));
                }
                let n = s.number(-1).unwrap_or_default();
                s.pop(1);
                if n < 0.0 || n > rest.len() as f64 {
                    return Err(short());
                }
                size = n as usize;
                s.push(&rest[..size]);
            }
            Kind::Chars => s.push(&rest[..size]),
            Kind::ZeroTerminated => {
                let Some(n) = memchr::memchr(0, rest) else {
                    return Err(s.fail("unfinished string in data"));
                };
                s.push(&rest[..n]);
                size = n + 1;
            }
            Kind::Padding | Kind::Control => {}
        }
        at += size;
    }
    s.push_number((at as i64).wrapping_add(1) as f64);
    Ok(s.top() - base)
}

fn read_float(bytes: &[u8], little: bool) -> f64 {
    let low = ordered(bytes.to_vec(), little);
    match <[u8; 8]>::try_from(&low[..]) {
        Ok(eight) => f64::from_le_bytes(eight),
        Err(_) => f64::from(f32::from_le_bytes([low[0], low[1], low[2], low[3]])),
    }
}

fn size(s: Stack, _: &Context) -> Result<c_int, Raise> {
    let mut format = format_argument(s, "size")?;
    let mut total = 0usize;
    while let Some(&code) = format.text.first() {
        let Some(item) = format.next() else { break };
        let (kind, n) = match item {
            Ok(item) => item,
            // Letters that mean nothing have no size.
            Err(why) if why.starts_with(INVALID) && code.is_ascii_alphanumeric() => continue,
            Err(why) => return Err(bad_format(s, "size", &why)),
        };
        total += format.padding(kind, n, total);
        if kind == Kind::ZeroTerminated {
            return Err(s.bad_argument(1, "size", "option 's' has no fixed size"));
        }
        if kind == Kind::Chars && n == 0 {
            return Err(s.bad_argument(1, "size", "option 'c0' has no fixed size"));
        }
        total = total.saturating_add(n);
    }
    s.push_number(total as f64);
    Ok(1)
}
