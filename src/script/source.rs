//! Scripts and libraries as text: the first line, which names the engine and
//! says what the code may do.

use crate::base::words;

/// What code asks for, or renounces.
pub mod flag {
    /// It never writes.
    pub const NO_WRITES: u32 = 1 << 0;
    pub const ALLOW_OOM: u32 = 1 << 1;
    pub const ALLOW_STALE: u32 = 1 << 2;
    pub const NO_CLUSTER: u32 = 1 << 3;
    pub const CROSS_SLOT: u32 = 1 << 4;
    /// A script without a first line of this kind: it may do whatever its
    /// commands may.
    pub const COMPAT: u32 = 1 << 5;

    pub const NAMES: [(u32, &str); 5] = [
        (NO_WRITES, "no-writes"),
        (ALLOW_OOM, "allow-oom"),
        (ALLOW_STALE, "allow-stale"),
        (NO_CLUSTER, "no-cluster"),
        (CROSS_SLOT, "allow-cross-slot-keys"),
    ];

    pub fn by_name(name: &[u8]) -> Option<u32> {
        NAMES.iter().find(|(_, n)| n.as_bytes() == name).map(|(f, _)| *f)
    }
}

/// The only engine.
pub const ENGINE: &str = "LUA";

/// A script's flags, and its code from the end of the first line on: the line
/// break stays, so that lines keep their numbers.
pub fn script(body: &[u8]) -> Result<(u32, &[u8]), String> {
    if !body.starts_with(b"#!") {
        return Ok((flag::COMPAT, body));
    }
    let Some(end) = memchr::memchr(b'\n', body) else { return Err("Invalid script shebang".into()) };
    let mut flags = 0;
    let mut words = words(&body[..end]);
    let engine = words.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(format!("Unexpected engine in script shebang: {}", shown(engine)));
    }
    for word in words {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return Err(format!("Unknown lua shebang option: {}", shown(word)));
        };
        // No flags at all are none; an empty one among others is unknown.
        for name in list.split(|b| *b == b',').filter(|_| !list.is_empty()) {
            let Some(f) = flag::by_name(name) else {
                return Err(format!("Unexpected flag in script shebang: {}", shown(name)));
            };
            flags |= f;
        }
    }
    Ok((flags, &body[end..]))
}

/// Name of a library, and its code from the end of the first line on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub engine: Vec<u8>,
    pub name: Vec<u8>,
    pub code: &'a [u8],
}

/// Reads a library's first line.
pub fn library(code: &[u8]) -> Result<Header<'_>, String> {
    if !code.starts_with(b"#!") {
        return Err("Missing library metadata".into());
    }
    let Some(end) = memchr::memchr(b'\n', code) else { return Err("Invalid library metadata".into()) };
    let Some(words) = words::split(&code[..end]) else { return Err("Invalid library metadata".into()) };
    let mut words = words.iter().map(|w| &w[..]);
    let engine = words.next().map_or(Vec::new(), |w| w[2..].to_vec());
    let mut name = None;
    for word in words {
        match word.split_at_checked(5).filter(|(key, _)| key.eq_ignore_ascii_case(b"name=")) {
            Some(_) if name.is_some() => {
                return Err("Invalid metadata value, name argument was given multiple times".into());
            }
            Some((_, value)) => name = Some(value.to_vec()),
            None => return Err(format!("Invalid metadata value given: {}", shown(word))),
        }
    }
    let Some(name) = name else { return Err("Library name was not given".into()) };
    if !is_name(&name) {
        return Err(format!("Library names {NAME_RULE}"));
    }
    if !engine.eq_ignore_ascii_case(ENGINE.as_bytes()) {
        return Err(format!("Engine '{}' not found", shown(&engine)));
    }
    Ok(Header { engine, name, code: &code[end..] })
}

/// What names may hold, for the error that follows `Library names` or
/// `Function names`.
pub const NAME_RULE: &str =
    "can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// May a library or a function have this name?
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty())
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_of_scripts() {
        assert_eq!(script(b"return 1"), Ok((flag::COMPAT, &b"return 1"[..])));
        assert_eq!(script(b"#!lua\nx"), Ok((0, &b"\nx"[..])));
        assert_eq!(script(b"#!lua flags=\nx"), Ok((0, &b"\nx"[..])));
        let both = flag::NO_WRITES | flag::ALLOW_STALE;
        assert_eq!(script(b"#!lua flags=no-writes,allow-stale\nx"), Ok((both, &b"\nx"[..])));
        for (body, want) in [
            ("#!lua", "Invalid script shebang"),
            ("#!foo\n", "Unexpected engine in script shebang: #!foo"),
            ("#!lua foo\n", "Unknown lua shebang option: foo"),
            ("#!lua flags=x\n", "Unexpected flag in script shebang: x"),
            ("#!lua flags=no-writes,,allow-oom\n", "Unexpected flag in script shebang: "),
            ("#!lua flags=no-writes, allow-oom\n", "Unexpected flag in script shebang: "),
        ] {
            assert_eq!(script(body.as_bytes()), Err(want.to_string()), "{body:?}");
        }
    }

    #[test]
    fn first_lines_of_libraries() {
        let found = library(b"#!LUA NAME=lib_1\ncode").unwrap();
        assert_eq!((&found.name[..], found.code), (&b"lib_1"[..], &b"\ncode"[..]));
        for (code, want) in [
            ("x", "Missing library metadata"),
            ("#!lua", "Invalid library metadata"),
            ("#!lua\n", "Library name was not given"),
            (
                "#!lua name=\n",
                "Library names can only contain letters, numbers, or underscores(_) and must be at \
                               least one character long",
            ),
            ("#!foo name=a\n", "Engine 'foo' not found"),
            ("#!lua name=a name=b\n", "Invalid metadata value, name argument was given multiple times"),
            ("#!lua a=b\n", "Invalid metadata value given: a=b"),
        ] {
            assert_eq!(library(code.as_bytes()), Err(want.to_string()), "{code:?}");
        }
    }
}
