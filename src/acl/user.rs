//! A user: whether it may log in, with what, and what it may do then.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::DEFAULT_USER;
use super::rules::Context;
use super::selector::Selector;

/// Bytes of a password's hash: SHA-256 in lower-case hexadecimal.
pub const HASH_LEN: usize = 64;

/// The hash that is kept of a password.
pub fn hash(password: &[u8]) -> [u8; HASH_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; HASH_LEN];
    for (pair, byte) in out.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// Compares in a time that tells nothing about where the two differ.
fn same(a: &[u8; HASH_LEN], b: &[u8; HASH_LEN]) -> bool {
    let differ = a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y));
    std::hint::black_box(differ) == 0
}

/// Tells a user from one of the same name that was removed before it was made.
/// Two are equal whatever it says.
#[derive(Clone, Copy, Debug)]
pub struct Origin(u64);

impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Origin {
    /// There is one default user, which is never removed.
    fn of(name: &[u8]) -> Origin {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Origin(if name == DEFAULT_USER { 0 } else { NEXT.fetch_add(1, Ordering::Relaxed) })
    }
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    /// Kept by all changes.
    pub origin: Origin,
    /// May log in. Who has done so before goes on.
    pub on: bool,
    /// Any password will do.
    pub nopass: bool,
    /// Values that it restores are checked in depth.
    pub sanitize_payload: bool,
    pub passwords: Vec<[u8; HASH_LEN]>,
    /// The user's own permissions, and those of its `(...)`.
    pub selectors: Vec<Selector>,
}

impl User {
    /// One that may not even log in.
    pub fn new(name: &[u8], cx: Context) -> User {
        User {
            name: name.to_vec(),
            origin: Origin::of(name),
            on: false,
            nopass: false,
            sanitize_payload: true,
            passwords: Vec::new(),
            selectors: vec![Selector::new(cx.catalog, cx.all_channels)],
        }
    }

    /// Is it this one, perhaps changed since?
    pub fn is(&self, other: &User) -> bool {
        self.name == other.name && self.origin.0 == other.origin.0
    }

    /// Needs nobody to log in as this user?
    pub fn is_open(&self) -> bool {
        self.on && self.nopass
    }

    /// Is this its password, and may it log in?
    pub fn admits(&self, password: &[u8]) -> bool {
        if !self.on {
            return false;
        }
        let given = hash(password);
        self.nopass || self.passwords.iter().fold(false, |found, known| found | same(known, &given))
    }

    /// Is there anything that it may not do?
    pub fn is_restricted(&self) -> bool {
        !self.selectors.iter().any(Selector::allows_all)
    }

    /// Its flags, as ACL GETUSER lists them.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut out = vec![if self.on { "on" } else { "off" }];
        if self.nopass {
            out.push("nopass");
        }
        out.push(if self.sanitize_payload { "sanitize-payload" } else { "skip-sanitize-payload" });
        out
    }

    /// The rules that make the user what it is. A selector is one word, with
    /// blanks inside.
    pub fn describe(&self) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = self.flags().iter().map(|f| f.as_bytes().to_vec()).collect();
        words.extend(self.passwords.iter().map(|p| [b"#", &p[..]].concat()));
        words.extend(self.selectors[0].describe());
        for s in &self.selectors[1..] {
            words.push([b"(", &s.describe().join(&b' ')[..], b")"].concat());
        }
        words
    }
}
