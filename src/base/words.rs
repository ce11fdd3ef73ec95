//! Splitting of a line into words, by the quoting rules that inline commands,
//! configuration files, lists of users and manifests share: double quotes with
//! `\n \r \t \b \a \xHH` and `\"`, single quotes with `\'`.
//!
//! As redis-server 7.0.15 was measured to do, a NUL ends the line, and the
//! vertical tab and the form feed separate words without ending one: they are
//! skipped before a word and may follow a quote, but belong to a word that they
//! stand in.

/// Words of `line`, or `None` when quotes are unbalanced or a closing quote is
/// not followed by a space.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = &line[..memchr::memchr(0, line).unwrap_or(line.len())];
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        at = read_word(line, at, &mut word)?;
        words.push(word);
    }
}

/// What is skipped before a word.
fn is_space(b: u8) -> bool {
    ends_word(b) || matches!(b, 0x0b | 0x0c)
}

/// What a word without quotes ends at.
fn ends_word(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn read_word(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    while let Some(&b) = line.get(at) {
        match b {
            b'"' => return double_quoted(line, at + 1, word),
            b'\'' => return single_quoted(line, at + 1, word),
            _ if ends_word(b) => return Some(at),
            _ => word.push(b),
        }
        at += 1;
    }
    Some(at)
}

/// A closing quote ends the word: only space or the end may follow.
fn after_quote(line: &[u8], at: usize) -> Option<usize> {
    match line.get(at) {
        None => Some(at),
        Some(&b) if is_space(b) => Some(at),
        Some(_) => None,
    }
}

fn hex(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|d| d as u8)
}

fn double_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'"' => return after_quote(line, at + 1),
            b'\\' => {
                let c = *line.get(at + 1)?;
                if c == b'x'
                    && let (Some(hi), Some(lo)) =
                        (line.get(at + 2).copied().and_then(hex), line.get(at + 3).copied().and_then(hex))
                {
                    word.push(hi << 4 | lo);
                    at += 4;
                    continue;
                }
                word.push(match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            b => {
                word.push(b);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            b'\'' => return after_quote(line, at + 1),
            b => {
                word.push(b);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(s: &str) -> Option<Vec<String>> {
        split(s.as_bytes()).map(|v| v.into_iter().map(|w| String::from_utf8_lossy(&w).into_owned()).collect())
    }

    #[test]
    fn quoting() {
        assert_eq!(words("  set  a \"b c\" ").unwrap(), ["set", "a", "b c"]);
        assert_eq!(words(r#""\x41\n" 'it\'s'"#).unwrap(), ["A\n", "it's"]);
        assert_eq!(words("a\"b\"").unwrap(), ["ab"]);
        assert_eq!(words("''").unwrap(), [""]);
        assert_eq!(words("\"a\"b"), None);
        assert_eq!(words("\"a"), None);
        assert_eq!(words("").unwrap(), Vec::<String>::new());
        assert_eq!(words(r#"a "" pre"fix""#).unwrap(), ["a", "", "prefix"]);
        assert_eq!(words(r#""\"#), None);
        assert_eq!(words(r#""\xzz""#).unwrap(), ["xzz"]);
        assert_eq!(words("'5'x"), None);
    }

    #[test]
    fn rare_separators_and_nul() {
        assert_eq!(words("a\x0bb c\x0c").unwrap(), ["a\x0bb", "c\x0c"]);
        assert_eq!(words("\x0b\x0ca \x0b b \x0c").unwrap(), ["a", "b"]);
        assert_eq!(words("'a'\x0b\x0b\"b\"\x0cc").unwrap(), ["a", "b", "c"]);
        assert_eq!(words("a\0b").unwrap(), ["a"]);
        assert_eq!(words("a \0b").unwrap(), ["a"]);
        assert_eq!(words("\"a\"\0b").unwrap(), ["a"]);
        assert_eq!(words("\"a\0b\""), None);
        assert_eq!(words("'a\0b'"), None);
    }
}
