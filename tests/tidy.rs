//! Rules about the source tree that neither the compiler nor clippy checks.
//!
//! Each rule is one test; its failure lists every offending place.

use std::fs;
use std::path::{Path, PathBuf};

/// The order of the top-level modules: each may use only earlier ones.
const ORDER: [&str; 17] = [
    "base",
    "config",
    "observe",
    "resp",
    "reactor",
    "store",
    "command",
    "acl",
    "transaction",
    "script",
    "session",
    "journal",
    "snapshot",
    "replication",
    "cluster",
    "sentinel",
    "server",
];
const LINES_MAX: usize = 900;

struct Source {
    path: String,
    text: String,
    /// The text with comments and the insides of strings blanked out; line
    /// breaks stay, so line numbers agree.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return;
    };
    for entry in entries {
        let entry = entry.expect("a directory entry");
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a file type").is_dir() {
            files(&name, out);
        } else {
            out.push(name.into());
        }
    }
    out.sort();
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        files(folder, &mut paths);
    }
    paths.retain(|path| path.extension().is_some_and(|e| e == "rs"));
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("read a source file");
            Source { path: path.to_string_lossy().into_owned(), code: blank(&text), text }
        })
        .collect()
}

/// Blanks comments, string insides and character literals.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes[i..].starts_with(b"//") => line_end(bytes, i),
            b'/' if bytes[i..].starts_with(b"/*") => block_comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' if raw_hashes(bytes, i).is_some() => raw_string_end(bytes, i),
            b'\'' => char_end(bytes, i).unwrap_or(i),
            _ => i,
        };
        if end == i {
            out.push(bytes[i]);
            i += 1;
            continue;
        }
        for byte in &bytes[i..end] {
            out.push(if *byte == b'\n' { b'\n' } else { b' ' });
        }
        i = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| from + n)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn raw_hashes(bytes: &[u8], from: usize) -> Option<usize> {
    let before = from.checked_sub(1).map(|i| bytes[i]);
    if before.is_some_and(|b| is_word(b) && b != b'b' && b != b'c') {
        return None;
    }
    let hashes = bytes[from + 1..].iter().take_while(|b| **b == b'#').count();
    (bytes.get(from + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_end(bytes: &[u8], from: usize) -> usize {
    let hashes = raw_hashes(bytes, from).expect("a raw string");
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let start = from + 2 + hashes;
    bytes[start..]
        .windows(close.len())
        .position(|window| window == close)
        .map_or(bytes.len(), |n| start + n + close.len())
}

/// The end of a character literal, or nothing for a lifetime.
fn char_end(bytes: &[u8], from: usize) -> Option<usize> {
    let text = std::str::from_utf8(&bytes[from + 1..]).ok()?;
    let first = text.chars().next()?;
    if first == '\\' {
        let close = bytes[from + 3..].iter().position(|b| *b == b'\'')?;
        return Some(from + 3 + close + 1);
    }
    let after = from + 1 + first.len_utf8();
    (bytes.get(after) == Some(&b'\'')).then_some(after + 1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Byte offsets of a whole word.
fn words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || !is_word(bytes[at - 1]))
        .filter(|at| bytes.get(at + word.len()).is_none_or(|b| !is_word(*b)))
        .collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// The first names after each `crate::`, grouped imports included.
fn crate_uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let Some(rest) = code[at + 5..].trim_start().strip_prefix("::") else {
            continue;
        };
        let rest = rest.trim_start();
        let group = match rest.strip_prefix('{') {
            Some(inside) => group_heads(inside),
            None => vec![head(rest)],
        };
        found.extend(group.into_iter().map(|name| (at, name)));
    }
    found
}

fn head(text: &str) -> String {
    text.bytes().take_while(|b| is_word(*b)).map(char::from).collect()
}

fn group_heads(inside: &str) -> Vec<String> {
    let (mut depth, mut heads, mut at_head) = (0, Vec::new(), true);
    for (i, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if c.is_whitespace() => {}
            _ if at_head => {
                heads.push(head(&inside[i..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn modules_use_only_earlier_modules() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let inside = source.path.trim_start_matches("src/");
        let module = inside.split(['/', '.']).next().unwrap_or("");
        // Other binaries use the library from outside.
        if matches!(module, "lib" | "main" | "bin") {
            continue;
        }
        let Some(own) = ORDER.iter().position(|name| *name == module) else {
            found.push(format!("{}: {module} has no place in the order", source.path));
            continue;
        };
        for (at, name) in crate_uses(&source.code) {
            let place = ORDER.iter().position(|other| **other == name);
            if place.is_some_and(|place| place > own) {
                let line = line_of(&source.code, at);
                found.push(format!("{}:{line}: {module} uses {name}", source.path));
            }
        }
    }
    report("a module uses a later one", &found);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for at in words(&source.code, "unsafe") {
            let next = source.code[at + 6..].trim_start();
            let is_type = next.starts_with("fn(") || next.starts_with("extern \"C\" fn(");
            let is_attribute = next.starts_with('(');
            if is_type || is_attribute || next.starts_with("extern") {
                continue;
            }
            let line = line_of(&source.code, at);
            if !explained(&lines, line - 1) {
                found.push(format!("{}:{line}", source.path));
            }
        }
    }
    report("unsafe without SAFETY: or # Safety", &found);
}

/// Whether the comment above the statement on this line explains it.
fn explained(lines: &[&str], line: usize) -> bool {
    let says = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    if says(lines[line]) {
        return true;
    }
    let mut in_comment = false;
    for text in lines[..line].iter().rev().map(|text| text.trim()) {
        let is_comment = text.starts_with("//");
        if is_comment && says(text) {
            return true;
        }
        let ends_statement = text.is_empty() || text.ends_with([';', '}', '{']);
        if !is_comment && !text.starts_with('#') && (in_comment || ends_statement) {
            return false;
        }
        in_comment |= is_comment;
    }
    false
}

#[test]
fn files_are_short() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let count = source.text.lines().count();
        if count > LINES_MAX {
            found.push(format!("{}: {count} lines", source.path));
        }
    }
    report("longer than 900 lines", &found);
}

#[test]
fn nothing_is_left_to_be_done() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if source.path == "tests/tidy.rs" {
            continue;
        }
        for word in ["TODO", "FIXME", "XXX"] {
            for at in words(&source.text, word) {
                let line = line_of(&source.text, at);
                found.push(format!("{}:{line}: {word}", source.path));
            }
        }
        for word in ["todo", "unimplemented"] {
            for at in words(&source.code, word) {
                if source.code[at + word.len()..].starts_with('!') {
                    let line = line_of(&source.code, at);
                    found.push(format!("{}:{line}: {word}!", source.path));
                }
            }
        }
    }
    report("left to be done", &found);
}

#[test]
fn every_file_opens_with_its_subject() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if !source.text.starts_with("//!") {
            found.push(source.path);
        }
    }
    report("no //! at the top", &found);
}

/// Paths of one developer's machine and the hosts of package registries have
/// no business in the repository; Cargo.lock names its source by itself.
#[test]
fn no_machine_is_named() {
    const FORBIDDEN: [&str; 8] = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("pythonhosted", ".org"),
    ];
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "scripts", "tuning", ".ci", "docs"] {
        files(folder, &mut paths);
    }
    for entry in fs::read_dir(root()).expect("read the root") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") || name.ends_with(".toml") {
            paths.push(name.into());
        }
    }
    let mut found = Vec::new();
    for path in paths {
        let bytes = fs::read(root().join(&path)).expect("read a file");
        let text = String::from_utf8_lossy(&bytes);
        for word in FORBIDDEN {
            for (at, _) in text.match_indices(word) {
                let line = line_of(&text, at);
                found.push(format!("{}:{line}: {word}", path.display()));
            }
        }
    }
    report("a machine or registry is named", &found);
}

#[test]
fn the_scanner_sees_through_comments_and_strings() {
    let code = blank(
        "use crate::a; // crate::b\n/* crate::c /* */ crate::d */ \"crate::e\\\" crate::f\" \
         r#\"crate::g\"# 'x' '\\'' fn f<'a>(x: &'a u8) { crate::h::i() } use crate::{j, k::{l, m}, n};",
    );
    let names: Vec<String> = crate_uses(&code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "h", "j", "k", "n"]);
}

#[test]
fn the_safety_rule_sees_missing_comments() {
    let good = ["// SAFETY: fine.", "let x =", "    unsafe { f() };"];
    assert!(explained(&good, 2));
    let bad = ["// SAFETY: fine.", "let x = 1;", "unsafe { f() };"];
    assert!(!explained(&bad, 2));
    let documented = ["/// Does it.", "/// # Safety", "/// Call once.", "#[inline]", "pub unsafe fn f() {}"];
    assert!(explained(&documented, 4));
}
