//! Words, quotes and units: how one configuration line is taken apart and put
//! together again.

use std::fmt::Write;

pub use crate::base::words::split as split_words;

/// Puts `value` in double quotes so that [`split_words`] reads it back.
pub fn quote(value: &str) -> String {
    quote_bytes(value.as_bytes())
}

/// [`quote`] for bytes that need not be text.
pub fn quote_bytes(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for &byte in value {
        match byte {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}

/// Reads a count of bytes with an optional unit: `k`, `m`, `g` are powers of
/// 1000, `kb`, `mb`, `gb` powers of 1024, `b` is one; letter case is free. An
/// empty text is 0, as in Redis. `None` for anything else, a sign included.
pub fn parse_memory(text: &str) -> Option<u128> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u128 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    if number.is_empty() {
        return unit.is_empty().then_some(0);
    }
    number.parse::<u64>().ok().map(|n| u128::from(n) * factor)
}

/// Writes a count of bytes with the largest binary unit that divides it.
pub fn format_memory(bytes: i128) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        let size = 1_i128 << shift;
        if bytes > 0 && bytes % size == 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// Reads a decimal integer as strictly as Redis does: no blanks, no plus sign,
/// no leading zeros, no `-0`, and it must fit a signed 64-bit number.
pub fn parse_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical =
        digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty() && (!digits.starts_with('0') || text == "0");
    if canonical { text.parse().ok() } else { None }
}

/// Glob matching for CONFIG GET (`* ? [a-z] [^a] \x`), letter case ignored.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    glob(pattern.as_bytes(), text.as_bytes())
}

/// Backtracks to the last star only, so the work is bounded by the product of
/// the two lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some(used) = match_one(&pattern[p..], text[t]) {
            p += used;
            t += 1;
            continue;
        }
        let Some((star_p, star_t)) = star else {
            return false;
        };
        p = star_p;
        t = star_t + 1;
        star = Some((star_p, t));
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Matches one byte against the first element of `pattern`; the element's
/// length in the pattern, if it matches.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref rest @ ..] => match_class(rest, byte).map(|used| used + 1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [literal, ..] => (literal == byte).then_some(1),
    }
}

fn match_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match class.get(at..).unwrap_or_default() {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [a, b'-', b, ..] => {
                found |= (a.min(b)..=a.max(b)).contains(&&byte);
                at += 3;
            }
            [single, ..] => {
                found |= *single == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split_words(line.as_bytes())?;
        Some(words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect())
    }

    #[test]
    fn quoting_is_undone_by_splitting() {
        for value in ["", "a b", "\"\\\n\r\t\u{7}\u{8}\u{1}", "grüße", "'"] {
            let line = quote(value);
            assert_eq!(words(&line).unwrap(), [value]);
        }
    }

    #[test]
    fn memory_units() {
        assert_eq!(parse_memory("1k"), Some(1000));
        assert_eq!(parse_memory("1KB"), Some(1024));
        assert_eq!(parse_memory("2Gb"), Some(2 << 30));
        assert_eq!(parse_memory("100b"), Some(100));
        assert_eq!(parse_memory(""), Some(0));
        for bad in ["1x", "-1", "1.5mb", "kb", " 1", "99999999999999999999"] {
            assert_eq!(parse_memory(bad), None, "{bad}");
        }
        assert_eq!(format_memory(104_857_600), "100mb");
        assert_eq!(format_memory(1_500_000), "1500000");
        assert_eq!(format_memory(0), "0");
    }

    #[test]
    fn strict_integers() {
        assert_eq!(parse_integer("-12"), Some(-12));
        assert_eq!(parse_integer("0"), Some(0));
        for bad in ["", "-", "+5", "05", "-0", " 5", "5 ", "99999999999999999999"] {
            assert_eq!(parse_integer(bad), None, "{bad}");
        }
    }

    #[test]
    fn globs() {
        assert!(glob_matches("*", ""));
        assert!(glob_matches("M*mory", "maxmemory"));
        assert!(glob_matches("slave-*", "slave-priority"));
        assert!(glob_matches("h?", "hz"));
        assert!(glob_matches("[g-i]z", "hz"));
        assert!(!glob_matches("[^g-i]z", "hz"));
        assert!(!glob_matches("hz?", "hz"));
        assert!(!glob_matches("[", "hz"));
        assert!(!glob_matches("\\*", "hz"));
    }
}
