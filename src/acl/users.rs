//! All users; reading and writing them as lines of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DEFAULT_USER;
use super::rules::{self, Context, RuleError};
use super::user::{User, hash};

/// The users by name. There is always a default user.
#[derive(Clone, Debug)]
pub struct Users {
    all: BTreeMap<Vec<u8>, Arc<User>>,
    default: Arc<User>,
}

/// Why a list of rules is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListError {
    /// This rule, for this reason.
    Rule(Vec<u8>, RuleError),
    /// This word opens what nothing closes.
    Unmatched(Vec<u8>),
}

/// A line that describes no user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineError {
    /// Which line, from 0.
    pub line: usize,
    /// The word that is wrong in it, if it is one.
    pub word: Option<Vec<u8>>,
    pub reason: String,
}

/// Names that a line of a file can hold.
pub fn fits_name(name: &[u8]) -> bool {
    !name.iter().any(|b| b.is_ascii_whitespace() || matches!(b, 0 | 0x0b))
}

impl Users {
    /// The default user alone, who may do everything.
    pub fn new(cx: Context) -> Users {
        let mut user = User::new(DEFAULT_USER, cx);
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            // Rules of our own: they fit.
            let _ = rules::apply(&mut user, rule.as_bytes(), cx);
        }
        let default = Arc::new(user);
        Users { all: BTreeMap::from([(DEFAULT_USER.to_vec(), default.clone())]), default }
    }

    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.all.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.all.values()
    }

    /// The user with that password, if it may log in.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        self.get(name).filter(|u| u.admits(password))
    }

    /// Puts a user in place; an equal one stays what it was.
    pub fn put(&mut self, user: User) {
        if self.get(&user.name).is_some_and(|old| **old == user) {
            return;
        }
        let user = Arc::new(user);
        if user.name == DEFAULT_USER {
            self.default = user.clone();
        }
        self.all.insert(user.name.clone(), user);
    }

    /// Removes a user; the default user stays.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        name != DEFAULT_USER && self.all.remove(name).is_some()
    }

    /// Makes or changes a user: all rules, or none.
    pub fn set(&mut self, name: &[u8], words: &[&[u8]], cx: Context) -> Result<(), ListError> {
        let mut user = self.get(name).map_or_else(|| User::new(name, cx), |u| User::clone(u));
        apply_all(&mut user, words, cx)?;
        self.put(user);
        Ok(())
    }

    /// What `requirepass` means: the default user's only password, or none.
    pub fn set_default_password(&mut self, password: &str) {
        let mut user = User::clone(&self.default);
        user.nopass = password.is_empty();
        user.passwords.clear();
        if !password.is_empty() {
            user.passwords.push(hash(password.as_bytes()));
        }
        self.put(user);
    }

    /// Reads the words of lines `user <name> <rules>`: the users that they
    /// describe, and the default user if none does; or all that is wrong with them.
    /// Unchanged users are taken from `old`, and changed ones are still they, so
    /// that their connections go on.
    pub fn read(lines: &[Vec<Vec<u8>>], old: &Users, cx: Context) -> Result<Users, Vec<LineError>> {
        let mut users = Users::new(cx);
        let mut named: Vec<Vec<u8>> = Vec::new();
        let mut errors = Vec::new();
        for (line, words) in lines.iter().enumerate() {
            match read_line(words, &named, cx) {
                Ok(user) => {
                    named.push(user.name.clone());
                    users.put(user);
                }
                Err((word, reason)) => errors.push(LineError { line, word, reason }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for user in old.iter() {
            let Some(new) = users.all.get_mut(&user.name) else { continue };
            if new == user {
                *new = user.clone();
                if user.name == DEFAULT_USER {
                    users.default = user.clone();
                }
            } else if user.name != DEFAULT_USER {
                Arc::make_mut(new).origin = user.origin;
            }
        }
        Ok(users)
    }

    /// A line of words per user, as [`Users::read`] takes them.
    pub fn lines(&self) -> impl Iterator<Item = Vec<Vec<u8>>> {
        self.iter().map(|u| {
            let mut words = vec![b"user".to_vec(), u.name.clone()];
            words.extend(u.describe());
            words
        })
    }
}

impl ListError {
    /// The rule that is refused, or where the trouble begins.
    pub fn word(&self) -> &[u8] {
        let (ListError::Rule(word, _) | ListError::Unmatched(word)) = self;
        word
    }

    /// The reason alone, without the rule.
    pub fn reason(&self) -> String {
        match self {
            ListError::Rule(_, e) => e.text().to_owned(),
            ListError::Unmatched(_) => "Unmatched parenthesis in selector definition".to_owned(),
        }
    }

    /// The error that ACL SETUSER replies.
    pub fn reply(&self) -> Vec<u8> {
        match self {
            ListError::Rule(rule, e) => {
                // As C strings end.
                let rule = &rule[..memchr::memchr(0, rule).unwrap_or(rule.len())];
                [b"ERR Error in ACL SETUSER modifier '", rule, b"': ", e.text().as_bytes()].concat()
            }
            ListError::Unmatched(word) => {
                [b"ERR Unmatched parenthesis in acl selector starting at '", &word[..], b"'."].concat()
            }
        }
    }
}

/// The user of a line, or the wrong word, if it is one, and the reason.
fn read_line(words: &[Vec<u8>], named: &[Vec<u8>], cx: Context) -> Result<User, (Option<Vec<u8>>, String)> {
    let words: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
    let [b"user", name, rules @ ..] = &words[..] else {
        return Err((None, "line should start with user keyword followed by the username".into()));
    };
    if named.iter().any(|n| n == name) {
        return Err((None, format!("Duplicate user '{}' found", String::from_utf8_lossy(name))));
    }
    if !fits_name(name) {
        return Err((None, format!("username '{}' contains invalid characters", name.escape_ascii())));
    }
    let mut user = User::new(name, cx);
    apply_all(&mut user, rules, cx).map_err(|e| (Some(e.word().to_vec()), e.reason()))?;
    Ok(user)
}

fn apply_all(user: &mut User, words: &[&[u8]], cx: Context) -> Result<(), ListError> {
    let words = rules::join_selectors(words).map_err(ListError::Unmatched)?;
    for rule in words {
        rules::apply(user, &rule, cx).map_err(|e| ListError::Rule(rule, e))?;
    }
    Ok(())
}
