//! JSON text to Lua values.

use super::cjson::Settings;
use super::lua::Stack;

/// See the module's description.
pub struct Reader<'a> {
    settings: &'a Settings,
    text: &'a [u8],
    at: usize,
    depth: i32,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    End,
    Str(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Error(&'static str),
}

impl Token {
    /// As errors name it.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Str(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Error(what) => what,
        }
    }
}

/// A token and where it begins.
type Found = (Token, usize);

/// Places on Lua's stack that one level of nesting takes.
const LEVEL: i32 = 5;

fn unexpected(expected: &str, (token, at): &Found) -> String {
    format!("Expected {expected} but found {} at character {}", token.name(), at + 1)
}

impl<'a> Reader<'a> {
    pub fn new(settings: &'a Settings, text: &'a [u8]) -> Reader<'a> {
        Reader { settings, text, at: 0, depth: 0 }
    }

    /// Pushes the one value that the text holds.
    pub fn document(mut self, s: Stack) -> Result<(), String> {
        let first = self.next();
        self.value(s, first)?;
        match self.next() {
            (Token::End, _) => Ok(()),
            other => Err(unexpected("the end", &other)),
        }
    }

    fn value(&mut self, s: Stack, found: Found) -> Result<(), String> {
        match found.0 {
            Token::Str(text) => s.push(&text),
            Token::Number(n) => s.push_number(n),
            Token::Boolean(v) => s.push_bool(v),
            Token::Null => s.push_pointer(std::ptr::null_mut()),
            Token::ObjectBegin => return self.nested(s, Reader::object),
            Token::ArrayBegin => return self.nested(s, Reader::array),
            _ => return Err(unexpected("value", &found)),
        }
        Ok(())
    }

    fn nested(&mut self, s: Stack, read: fn(&mut Self, Stack) -> Result<(), String>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > self.settings.decode_depth_max || !s.reserve(LEVEL) {
            let at = self.at;
            return Err(format!("Found too many nested data structures ({}) at character {at}", self.depth));
        }
        read(self, s)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self, s: Stack) -> Result<(), String> {
        s.push_table(0, 0);
        let mut found = self.next();
        if found.0 == Token::ObjectEnd {
            return Ok(());
        }
        loop {
            let Token::Str(name) = &found.0 else { return Err(unexpected("object key string", &found)) };
            s.push(name);
            let colon = self.next();
            if colon.0 != Token::Colon {
                return Err(unexpected("colon", &colon));
            }
            let value = self.next();
            self.value(s, value)?;
            s.raw_set(-3);
            match self.next() {
                (Token::ObjectEnd, _) => return Ok(()),
                (Token::Comma, _) => found = self.next(),
                other => return Err(unexpected("comma or object end", &other)),
            }
        }
    }

    fn array(&mut self, s: Stack) -> Result<(), String> {
        s.push_table(0, 0);
        let mut found = self.next();
        if found.0 == Token::ArrayEnd {
            return Ok(());
        }
        for i in 1.. {
            self.value(s, found)?;
            s.set_index(-2, i);
            match self.next() {
                (Token::ArrayEnd, _) => return Ok(()),
                (Token::Comma, _) => found = self.next(),
                other => return Err(unexpected("comma or array end", &other)),
            }
        }
        Ok(())
    }

    /// The byte at a place; zero beyond the end, which ends a text as well.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Found {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let start = self.at;
        let single = match self.byte(start) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            0 => return (Token::End, start),
            b'"' => return self.string(start),
            b'-' | b'+' | b'0'..=b'9' => return self.number(start),
            _ => return (self.word(start), start),
        };
        self.at += 1;
        (single, start)
    }

    fn word(&mut self, start: usize) -> Token {
        for (word, token) in
            [(&b"true"[..], Token::Boolean(true)), (b"false", Token::Boolean(false)), (b"null", Token::Null)]
        {
            if self.text[start..].starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        if self.settings.decode_invalid && matches!(self.byte(start), b'i' | b'I' | b'n' | b'N') {
            return self.number(start).0;
        }
        Token::Error("invalid token")
    }

    fn number(&mut self, start: usize) -> Found {
        let rest = &self.text[start..];
        if !self.settings.decode_invalid && is_invalid(rest) {
            return (Token::Error("invalid number"), start);
        }
        match parse_number(rest) {
            Some((n, len)) => {
                self.at += len;
                (Token::Number(n), start)
            }
            None if matches!(rest.first(), Some(b'-' | b'+' | b'0'..=b'9')) => (Token::Error("invalid number"), start),
            None => (Token::Error("invalid token"), start),
        }
    }

    fn string(&mut self, start: usize) -> Found {
        let mut out = Vec::new();
        let mut at = start + 1;
        loop {
            let run = memchr::memchr3(b'"', b'\\', 0, self.text.get(at..).unwrap_or_default());
            let Some(n) = run else { return (Token::Error("unexpected end of string"), self.text.len()) };
            out.extend_from_slice(&self.text[at..at + n]);
            at += n;
            match self.byte(at) {
                b'"' => break,
                b'\\' => match self.escape(at, &mut out) {
                    Ok(next) => at = next,
                    Err(what) => return (Token::Error(what), at),
                },
                _ => return (Token::Error("unexpected end of string"), at),
            }
        }
        self.at = at + 1;
        (Token::Str(out), start)
    }

    /// Reads an escape; where the text goes on.
    fn escape(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, &'static str> {
        let plain = match self.byte(at + 1) {
            b @ (b'"' | b'\\' | b'/') => b,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(at, out).ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        out.push(plain);
        Ok(at + 2)
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at + 2..at + 6)?;
        let escaped = self.text.get(at..at + 2)? == b"\\u" && digits.iter().all(u8::is_ascii_hexdigit);
        escaped.then(|| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
    }

    fn unicode(&self, at: usize, out: &mut Vec<u8>) -> Option<usize> {
        let (mut code, mut next) = (self.unit(at)?, at + 6);
        if (0xD800..0xE000).contains(&code) {
            let low = self.unit(next).filter(|_| code < 0xDC00)?;
            if !(0xDC00..0xE000).contains(&low) {
                return None;
            }
            code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            next += 6;
        }
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        Some(next)
    }
}

/// Is it a number that the machine's own reader takes but JSON does not have?
fn is_invalid(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits.first() {
        Some(b'0') => matches!(digits.get(1), Some(b'x' | b'X' | b'0'..=b'9')),
        Some(b'1'..=b'9') => false,
        _ => true,
    }
}

/// A number at the start of the text as the C library reads it, and its length.
fn parse_number(text: &[u8]) -> Option<(f64, usize)> {
    /// Longer numbers add nothing to a double.
    const LONGEST: usize = 800;
    let plausible = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let len = text.iter().take(LONGEST).take_while(|b| plausible(b)).count();
    let owned = std::ffi::CString::new(&text[..len]).ok()?;
    let mut end = std::ptr::null_mut();
    // SAFETY: the text ends with a zero byte; `end` points into it.
    let (n, used) = unsafe {
        let n = libc::strtod(owned.as_ptr(), &raw mut end);
        (n, end.offset_from(owned.as_ptr()) as usize)
    };
    (used > 0).then_some((n, used))
}
