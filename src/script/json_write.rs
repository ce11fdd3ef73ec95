//! Lua values to JSON text.

use super::cjson::{Invalid, Settings};
use super::lua::{Stack, Type};

/// See the module's description.
pub struct Writer<'a> {
    settings: &'a Settings,
    pub out: Vec<u8>,
}

/// Places on Lua's stack that one level of nesting takes.
const LEVEL: i32 = 4;

impl<'a> Writer<'a> {
    pub fn new(settings: &'a Settings) -> Writer<'a> {
        Writer { settings, out: Vec::new() }
    }

    /// Writes the value on top of the stack, which stays.
    pub fn value(&mut self, s: Stack, depth: i32) -> Result<(), String> {
        match s.kind(-1) {
            Type::String => self.string(s.bytes(-1).unwrap_or_default()),
            Type::Number => self.number(s)?,
            Type::Boolean => self.out.extend_from_slice(if s.truthy(-1) { b"true" } else { b"false" }),
            Type::Nil => self.out.extend_from_slice(b"null"),
            Type::Pointer if s.pointer(-1).is_null() => self.out.extend_from_slice(b"null"),
            Type::Table => return self.table(s, depth + 1),
            _ => return Err(refused(s, "type not supported")),
        }
        Ok(())
    }

    fn table(&mut self, s: Stack, depth: i32) -> Result<(), String> {
        if depth > self.settings.encode_depth_max || !s.reserve(LEVEL) {
            return Err(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        match self.array_length(s)? {
            Some(n) if n > 0 => self.array(s, n, depth),
            _ => self.object(s, depth),
        }
    }

    /// Length as an array; `None` when it is none.
    fn array_length(&self, s: Stack) -> Result<Option<usize>, String> {
        // Redis keeps the largest index in an `int`: one that does not fit makes
        // the table no array.
        let fits = |k: f64| if k <= f64::from(i32::MAX) { k } else { f64::from(i32::MIN) };
        let (mut max, mut items) = (0.0_f64, 0_i64);
        s.push_nil();
        while s.next(-2) {
            let key = if s.kind(-2) == Type::Number { s.number(-2) } else { None };
            match key.filter(|k| *k >= 1.0 && k.floor() == *k) {
                Some(k) if k > max => max = fits(k),
                Some(_) => {}
                None => {
                    s.pop(2);
                    return Ok(None);
                }
            }
            items += 1;
            s.pop(1);
        }
        let c = self.settings;
        let sparse =
            c.sparse_ratio > 0 && max > items as f64 * f64::from(c.sparse_ratio) && max > f64::from(c.sparse_safe);
        match (sparse, c.sparse_convert) {
            (false, _) => Ok((max > 0.0).then_some(max as usize)),
            (true, true) => Ok(None),
            (true, false) => Err(refused(s, "excessively sparse array")),
        }
    }

    fn array(&mut self, s: Stack, n: usize, depth: i32) -> Result<(), String> {
        self.out.push(b'[');
        for i in 1..=n {
            if i > 1 {
                self.out.push(b',');
            }
            s.raw_index(-1, i);
            self.value(s, depth)?;
            s.pop(1);
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, s: Stack, depth: i32) -> Result<(), String> {
        self.out.push(b'{');
        let mut first = true;
        s.push_nil();
        while s.next(-2) {
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match s.kind(-2) {
                Type::Number => {
                    self.out.push(b'"');
                    s.copy(-2);
                    self.number(s)?;
                    s.pop(1);
                    self.out.extend_from_slice(b"\":");
                }
                Type::String => {
                    self.string(s.bytes(-2).unwrap_or_default());
                    self.out.push(b':');
                }
                _ => {
                    s.pop(1);
                    return Err(refused(s, "table key must be a number or string"));
                }
            }
            self.value(s, depth)?;
            s.pop(1);
        }
        self.out.push(b'}');
        Ok(())
    }

    fn number(&mut self, s: Stack) -> Result<(), String> {
        let n = s.number(-1).unwrap_or_default();
        if !n.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refused => return Err(refused(s, "must not be NaN or Inf")),
                Invalid::Null => self.out.extend_from_slice(b"null"),
                Invalid::Written if n.is_nan() => self.out.extend_from_slice(b"nan"),
                Invalid::Written => self.out.extend_from_slice(if n > 0.0 { b"inf" } else { b"-inf" }),
            }
            return Ok(());
        }
        let mut text = [0u8; 40];
        let precision = self.settings.precision;
        // SAFETY: the length of the buffer bounds what is written; numbers of
        // at most 14 digits with sign, point and exponent have room.
        let len = unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), c"%.*g".as_ptr(), precision, n) };
        self.out.extend_from_slice(&text[..(len.max(0) as usize).min(text.len())]);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        for &b in text {
            match b {
                b'"' | b'\\' | b'/' => self.out.extend_from_slice(&[b'\\', b]),
                0x08 => self.out.extend_from_slice(b"\\b"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                0x0C => self.out.extend_from_slice(b"\\f"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                0..0x20 | 0x7F => self.out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
                _ => self.out.push(b),
            }
        }
        self.out.push(b'"');
    }
}

fn refused(s: Stack, why: &str) -> String {
    format!("Cannot serialise {}: {why}", s.kind_name(-1))
}
