//! The words of ACL SETUSER, of `user` lines and of ACL files.

use super::catalog::Catalog;
use super::selector::{READ, Selector, WRITE};
use super::user::{HASH_LEN, User, hash};
use crate::command::spec::acl;

/// Why a rule is refused. The texts are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    UnknownCommand,
    Syntax,
    KeysCovered,
    ChannelsCovered,
    ArgOfSubcommand,
    BadHash,
    NoSuchPassword,
}

impl RuleError {
    pub fn text(self) -> &'static str {
        match self {
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::KeysCovered => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelsCovered => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::ArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
        }
    }
}

/// What rules are read against.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub catalog: &'a Catalog,
    /// `acl-pubsub-default`: a fresh selector allows all channels.
    pub all_channels: bool,
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// Blanks and zero bytes, which a line of a file could not hold.
fn unfit(text: &[u8]) -> bool {
    text.iter().any(|b| b.is_ascii_whitespace() || matches!(b, 0 | 0x0b))
}

/// Joins the words of every `(...)` into one; the error is the word that opens
/// what nothing closes.
pub fn join_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        open = match open.take() {
            None if word.first() == Some(&b'(') && word.last() != Some(&b')') => Some((word, word.to_vec())),
            None => {
                out.push(word.to_vec());
                None
            }
            Some((first, mut text)) => {
                text.push(b' ');
                text.extend_from_slice(word);
                if word.last() == Some(&b')') {
                    out.push(text);
                    None
                } else {
                    Some((first, text))
                }
            }
        };
    }
    match open {
        Some((first, _)) => Err(first.to_vec()),
        None => Ok(out),
    }
}

/// Applies one rule to a user; `(...)` is one rule. The empty one does nothing.
pub fn apply(user: &mut User, rule: &[u8], cx: Context) -> Result<(), RuleError> {
    match rule {
        [] => {}
        w if is(w, "on") => user.on = true,
        w if is(w, "off") => user.on = false,
        w if is(w, "nopass") => {
            user.nopass = true;
            user.passwords.clear();
        }
        w if is(w, "resetpass") => {
            user.nopass = false;
            user.passwords.clear();
        }
        w if is(w, "sanitize-payload") => user.sanitize_payload = true,
        w if is(w, "skip-sanitize-payload") => user.sanitize_payload = false,
        // Still the same user, whose connections go on.
        w if is(w, "reset") => *user = User { origin: user.origin, ..User::new(&user.name, cx) },
        w if is(w, "clearselectors") => user.selectors.truncate(1),
        [b'>' | b'#' | b'<' | b'!', rest @ ..] => apply_password(user, rule[0], rest)?,
        [b'(', inside @ .., b')'] => {
            let mut selector = Selector::new(cx.catalog, cx.all_channels);
            for word in inside.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()) {
                apply_to_selector(&mut selector, word, cx.catalog)?;
            }
            user.selectors.push(selector);
        }
        _ => apply_to_selector(&mut user.selectors[0], rule, cx.catalog)?,
    }
    Ok(())
}

fn apply_password(user: &mut User, kind: u8, text: &[u8]) -> Result<(), RuleError> {
    let hash: [u8; HASH_LEN] = match kind {
        b'>' | b'<' => hash(text),
        _ => {
            let hex = text.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
            text.try_into().ok().filter(|_| hex).ok_or(RuleError::BadHash)?
        }
    };
    let known = user.passwords.iter().position(|p| *p == hash);
    match (kind, known) {
        (b'>' | b'#', known) => {
            if known.is_none() {
                user.passwords.push(hash);
            }
            user.nopass = false;
        }
        (_, Some(at)) => {
            user.passwords.remove(at);
        }
        (_, None) => return Err(RuleError::NoSuchPassword),
    }
    Ok(())
}

fn apply_to_selector(s: &mut Selector, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
    match rule {
        w if is(w, "allkeys") || is(w, "~*") => {
            s.all_keys = true;
            s.keys.clear();
        }
        w if is(w, "resetkeys") => {
            s.all_keys = false;
            s.keys.clear();
        }
        w if is(w, "allchannels") || is(w, "&*") => {
            s.all_channels = true;
            s.channels.clear();
        }
        w if is(w, "resetchannels") => {
            s.all_channels = false;
            s.channels.clear();
        }
        w if is(w, "allcommands") || is(w, "+@all") => s.set_all_commands(catalog, true),
        w if is(w, "nocommands") || is(w, "-@all") => s.set_all_commands(catalog, false),
        [b'~' | b'%', ..] => apply_keys(s, rule)?,
        [b'&', pattern @ ..] => {
            if s.all_channels {
                return Err(RuleError::ChannelsCovered);
            }
            if unfit(pattern) {
                return Err(RuleError::Syntax);
            }
            s.add_channels(pattern);
        }
        [sign @ (b'+' | b'-'), b'@', name @ ..] => apply_category(s, name, *sign == b'+', catalog)?,
        [b'+', name @ ..] => allow_command(s, name, catalog)?,
        [b'-', name @ ..] => {
            let index = catalog.find(name).ok_or(RuleError::UnknownCommand)?;
            s.set_command(catalog, index, false);
            s.note_rule(name, false);
        }
        _ => return Err(RuleError::Syntax),
    }
    Ok(())
}

/// `~pattern`, `%R~pattern`, `%W~pattern`, `%RW~pattern`.
fn apply_keys(s: &mut Selector, rule: &[u8]) -> Result<(), RuleError> {
    if s.all_keys {
        return Err(RuleError::KeysCovered);
    }
    // As in Redis, the `~` may be missing where nothing follows.
    let whole = [rule, b"~"].concat();
    let rule = if rule[0] == b'%' && !rule.contains(&b'~') { &whole[..] } else { rule };
    let (access, pattern) = match rule {
        [b'~', pattern @ ..] => (READ | WRITE, pattern),
        [b'%', a, b'~', pattern @ ..] if a.eq_ignore_ascii_case(&b'r') => (READ, pattern),
        [b'%', a, b'~', pattern @ ..] if a.eq_ignore_ascii_case(&b'w') => (WRITE, pattern),
        [b'%', a, b, b'~', pattern @ ..] if matches!([a | 32, b | 32], [b'r', b'w'] | [b'w', b'r']) => {
            (READ | WRITE, pattern)
        }
        _ => return Err(RuleError::Syntax),
    };
    if unfit(pattern) {
        return Err(RuleError::Syntax);
    }
    s.add_keys(pattern, access);
    Ok(())
}

/// The commands of a category, as a bit of [`acl`].
pub fn category(name: &[u8]) -> Option<u32> {
    acl::NAMES.iter().position(|n| is(name, n)).map(|i| 1 << i)
}

fn apply_category(s: &mut Selector, name: &[u8], allow: bool, catalog: &Catalog) -> Result<(), RuleError> {
    let bit = category(name).ok_or(RuleError::UnknownCommand)?;
    for index in catalog.known().filter(|i| catalog.get(*i).spec.categories() & bit != 0) {
        s.set_command(catalog, index, allow);
    }
    s.note_rule(&[b"@", name].concat(), allow);
    Ok(())
}

fn allow_command(s: &mut Selector, name: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
    if let Some(index) = catalog.find(name) {
        s.set_command(catalog, index, true);
        s.note_rule(name, true);
        return Ok(());
    }
    let bar = memchr::memrchr(b'|', name).ok_or(RuleError::UnknownCommand)?;
    let (command, arg) = (&name[..bar], &name[bar + 1..]);
    let index = catalog.find(command).ok_or(RuleError::UnknownCommand)?;
    let listed = catalog.get(index);
    if listed.parent.is_some() {
        return Err(RuleError::ArgOfSubcommand);
    }
    if arg.is_empty() || unfit(arg) {
        return Err(RuleError::Syntax);
    }
    if !listed.subs.is_empty() {
        return Err(RuleError::UnknownCommand);
    }
    s.allow_first_arg(index, arg);
    s.note_rule(name, true);
    Ok(())
}
