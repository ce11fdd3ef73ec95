//! Users in files: those of the configuration, and the ACL file.

use std::path::{Path, PathBuf};

use super::access;
use crate::acl::Users;
use crate::config::{self, Config, ConfigError, Settings};
use crate::observe::log;

/// Bytes of an ACL file at most; anything longer is not one.
const FILE_BYTES_MAX: u64 = 64 << 20;

const BOTH: &str = "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is \
                    invalid. This setup is very likely to lead to configuration errors and security holes, please \
                    define either an ACL file or declare users directly in your redis.conf, but not both.";

/// The users that the configuration's lines describe, and the default user.
pub fn of_config(config: &Config) -> Result<Users, ConfigError> {
    let s = config.settings();
    let cx = access::context(&s);
    let line = |words: &Vec<String>| {
        let words = std::iter::once("user").chain(words.iter().map(String::as_str));
        words.map(|w| w.as_bytes().to_vec()).collect()
    };
    let lines: Vec<Vec<Vec<u8>>> = s.users.iter().map(line).collect();
    let mut users = Users::read(&lines, &Users::new(cx), cx).map_err(|errors| {
        // Where there are errors there is a first one.
        let e = errors.into_iter().next().unwrap_or_default();
        let word = e.word.as_deref().or(lines.get(e.line).and_then(|l| l.get(1)).map(|n| &n[..])).unwrap_or_default();
        let reason = format!("Error in user declaration '{}': {}", String::from_utf8_lossy(word), e.reason);
        config.refused("user", e.line, reason)
    })?;
    // A default user that no line describes has the password it was given.
    if !s.users.iter().any(|w| w[0] == "default") && !s.requirepass.is_empty() {
        users.set_default_password(&s.requirepass);
    }
    Ok(users)
}

/// The users that the server starts with: those of the configuration, or of the
/// ACL file.
pub fn at_start(users: Users, s: &Settings) -> Result<Users, String> {
    let Some(path) = path(s) else { return Ok(noted(users)) };
    if !s.users.is_empty() {
        return Err(BOTH.into());
    }
    load(&path, &users, s).map_err(|e| format!("Aborting Redis startup because of ACL errors: {e}"))
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
    let (mut places, mut lines) = (Vec::new(), Vec::new());
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        // A comment may stand in a line of its own.
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let place = format!("{shown}:{}", number + 1);
        match config::split_words(line) {
            Some(words) => {
                places.push(place);
                lines.push(words);
            }
            None => return Err(format!("{place}: unbalanced quotes in acl line. {UNCHANGED}")),
        }
    }
    Users::read(&lines, old, access::context(s)).map_err(|errors| {
        let listed: String = errors.iter().map(|e| format!("{}: {}. ", places[e.line], e.reason)).collect();
        format!("{listed}{UNCHANGED}")
    })
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
