//! Users in files: those of the configuration, and the ACL file.

use std::path::{Path, PathBuf};

use super::access;
use crate::acl::Users;
use crate::config::{self, Settings};
use crate::observe::log;

/// Bytes of an ACL file at most; anything longer is not one.
const FILE_BYTES_MAX: u64 = 64 << 20;

const BOTH: &str = "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is \
                    invalid. This setup is very likely to lead to configuration errors and security holes, please \
                    define either an ACL file or declare users directly in your redis.conf, but not both.";

/// The users that the server starts with.
pub fn at_start(s: &Settings) -> Result<Users, String> {
    let cx = access::context(s);
    let mut users = Users::new(cx);
    if !s.requirepass.is_empty() {
        users.set_default_password(&s.requirepass);
    }
    let from_file = path(s);
    if from_file.is_some() && !s.users.is_empty() {
        return Err(BOTH.into());
    }
    if let Some(path) = from_file {
        return load(&path, &users, s).map_err(|e| format!("Aborting Redis startup because of ACL errors: {e}"));
    }
    if s.users.is_empty() {
        return Ok(users);
    }
    let lines: Vec<(String, Vec<Vec<u8>>)> = s
        .users
        .iter()
        .map(|words| {
            let line = std::iter::once("user").chain(words.iter().map(String::as_str));
            (format!("user {}", words[0]), line.map(|w| w.as_bytes().to_vec()).collect())
        })
        .collect();
    let read = Users::read(&lines, &users, cx).map_err(|e| format!("Error in user declaration: {}", e.trim_end()))?;
    // A default user that no line describes keeps the password it was given.
    if !s.users.iter().any(|w| w[0] == "default") && !s.requirepass.is_empty() {
        let mut read = read;
        read.set_default_password(&s.requirepass);
        return Ok(noted(read));
    }
    Ok(noted(read))
}

/// Says which users nobody can log in as.
fn noted(users: Users) -> Users {
    for u in users.iter().filter(|u| !u.on) {
        log::notice(format_args!(
            "The user '{}' is disabled (there is no 'on' modifier in the user description). Make sure this is not a \
             configuration error.",
            String::from_utf8_lossy(&u.name)
        ));
    }
    users
}

/// The ACL file, if one is configured.
pub fn path(s: &Settings) -> Option<PathBuf> {
    Some(&s.internals.aclfile).filter(|f| !f.is_empty()).map(|f| s.resolve(f))
}

fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

/// Reads the ACL file: all users, or none and what is wrong with it.
pub fn load(path: &Path, old: &Users, s: &Settings) -> Result<Users, String> {
    let shown = path.display();
    let failed = |e: std::io::Error| format!("Error loading ACLs, opening file '{shown}': {}", reason(&e));
    let text = read(path).map_err(failed)?;
    let mut lines = Vec::new();
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        // A comment may stand in a line of its own.
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let place = format!("{shown}:{}", number + 1);
        match config::split_words(line) {
            Some(words) => lines.push((place, words)),
            None => return Err(format!("{place}: unbalanced quotes in acl line. {UNCHANGED}")),
        }
    }
    Users::read(&lines, old, access::context(s)).map_err(|e| format!("{e}{UNCHANGED}"))
}

const UNCHANGED: &str = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX + 1), &mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(text)
}

/// One line per user. Words that a reader would take for something else are
/// quoted.
pub fn lines(users: &Users) -> Vec<Vec<u8>> {
    let quoted = |word: &Vec<u8>| {
        // A selector's blanks separate its words, up to the first that ends in a bracket.
        let inner = word.strip_prefix(b"(").and_then(|w| w.strip_suffix(b")")).unwrap_or_default();
        let plain = !inner.iter().any(|b| matches!(b, b'(' | b')'))
            && word.iter().all(|b| (b' '..=b'~').contains(b) && !matches!(b, b'"' | b'\'' | b'\\'));
        if plain { word.clone() } else { config::quote_bytes(word).into_bytes() }
    };
    users.lines().map(|words| words.iter().map(quoted).collect::<Vec<_>>().join(&b' ')).collect()
}

/// Writes the ACL file: a crash leaves either the old or the new content.
pub fn save(path: &Path, users: &Users) -> std::io::Result<()> {
    let mut text = lines(users).join(&b'\n');
    text.push(b'\n');
    config::replace_file(path, &text)
}
