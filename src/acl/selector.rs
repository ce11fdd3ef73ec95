//! One set of permissions: which commands, over which keys and channels.

use std::collections::BTreeMap;

use super::catalog::Catalog;
use crate::base::glob;

/// What may be done with keys of a pattern, and what a command does with a key.
pub const READ: u8 = 1;
pub const WRITE: u8 = 2;

/// Keys by pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    pub pattern: Vec<u8>,
    /// [`READ`], [`WRITE`] or both.
    pub access: u8,
}

/// A rule about commands as it was given; they say how the permissions came
/// about, so that they can be repeated when commands are added to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRule {
    pub allow: bool,
    /// `get`, `config|get`, `select|0` or `@read`, in lower case.
    pub what: Vec<u8>,
}

/// See the module's description. A user may do what one of its selectors allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// A bit per command of the catalog.
    commands: Vec<u64>,
    /// Commands that do not exist yet are allowed.
    future: bool,
    rules: Vec<CommandRule>,
    /// First arguments that a command is allowed with, although it is not
    /// allowed as such.
    first_args: BTreeMap<usize, Vec<Vec<u8>>>,
    pub all_keys: bool,
    pub keys: Vec<KeyPattern>,
    pub all_channels: bool,
    pub channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Allows nothing but, if so configured, all channels.
    pub fn new(catalog: &Catalog, all_channels: bool) -> Selector {
        Selector {
            commands: vec![0; catalog.len().div_ceil(64)],
            future: false,
            rules: Vec::new(),
            first_args: BTreeMap::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Allows or forbids all commands, those to come included.
    pub fn set_all_commands(&mut self, catalog: &Catalog, allow: bool) {
        self.commands.fill(0);
        if allow {
            (0..catalog.len()).for_each(|i| self.commands[i / 64] |= 1 << (i % 64));
        }
        self.future = allow;
        self.rules.clear();
        self.first_args.clear();
    }

    /// Allows or forbids a command with its subcommands.
    pub fn set_command(&mut self, catalog: &Catalog, index: usize, allow: bool) {
        let bit = 1 << (index % 64);
        if allow {
            self.commands[index / 64] |= bit;
        } else {
            self.commands[index / 64] &= !bit;
        }
        self.first_args.remove(&index);
        for sub in &catalog.get(index).subs {
            self.set_command(catalog, *sub, allow);
        }
    }

    /// Allows a command with one first argument.
    pub fn allow_first_arg(&mut self, index: usize, arg: &[u8]) {
        let allowed = self.first_args.entry(index).or_default();
        if !allowed.iter().any(|a| a.eq_ignore_ascii_case(arg)) {
            allowed.push(arg.to_vec());
        }
    }

    /// Notes a rule in place of those that it makes void: the same, and those
    /// about subcommands of its command.
    pub fn note_rule(&mut self, what: &[u8], allow: bool) {
        let what = what.to_ascii_lowercase();
        self.rules.retain(|old| {
            let below = old.what.strip_prefix(&what[..]).is_some_and(|rest| rest.first() == Some(&b'|'));
            old.what != what && !below
        });
        self.rules.push(CommandRule { allow, what });
    }

    pub fn add_keys(&mut self, pattern: &[u8], access: u8) {
        match self.keys.iter_mut().find(|k| k.pattern == pattern) {
            Some(k) => k.access |= access,
            None => self.keys.push(KeyPattern { pattern: pattern.to_vec(), access }),
        }
    }

    pub fn add_channels(&mut self, pattern: &[u8]) {
        if !self.channels.iter().any(|c| c == pattern) {
            self.channels.push(pattern.to_vec());
        }
    }

    /// May the command run with this first argument? `at` is its index.
    pub fn allows_command(&self, at: usize, first_arg: Option<&[u8]>) -> bool {
        let allowed = self.commands.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        allowed
            || first_arg.is_some_and(|arg| {
                self.first_args.get(&at).is_some_and(|known| known.iter().any(|k| k.eq_ignore_ascii_case(arg)))
            })
    }

    /// May a key be used so?
    pub fn allows_key(&self, key: &[u8], access: u8) -> bool {
        self.all_keys || self.keys.iter().any(|k| k.access & access == access && glob::matches(&k.pattern, key, false))
    }

    /// May every key be used so, whatever its name?
    pub fn allows_any_key(&self, access: u8) -> bool {
        self.all_keys || self.keys.iter().any(|k| k.access & access == access && k.pattern == b"*")
    }

    /// A pattern to subscribe to must be one of those allowed, to the letter.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|c| if is_pattern { c == channel } else { glob::matches(c, channel, false) })
    }

    /// Is nothing forbidden?
    pub fn allows_all(&self) -> bool {
        self.future && self.rules.iter().all(|r| r.allow) && self.all_keys && self.all_channels
    }

    /// The rules about commands, as ACL GETUSER shows them.
    pub fn describe_commands(&self) -> Vec<u8> {
        let mut out = if self.future { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for r in &self.rules {
            out.extend_from_slice(if r.allow { b" +" } else { b" -" });
            out.extend_from_slice(&r.what);
        }
        out
    }

    /// The patterns of keys as rules.
    pub fn describe_keys(&self) -> Vec<Vec<u8>> {
        if self.all_keys {
            return vec![b"~*".to_vec()];
        }
        let word = |(i, k): (usize, &KeyPattern)| {
            let prefix: &[u8] = match k.access {
                READ => b"%R~",
                WRITE => b"%W~",
                // Nothing may follow `~*`: Redis shows what it would not read.
                _ if k.pattern == b"*" && i + 1 < self.keys.len() => b"%RW~",
                _ => b"~",
            };
            [prefix, &k.pattern].concat()
        };
        self.keys.iter().enumerate().map(word).collect()
    }

    /// The patterns of channels as rules.
    pub fn describe_channels(&self) -> Vec<Vec<u8>> {
        if self.all_channels {
            return vec![b"&*".to_vec()];
        }
        self.channels.iter().map(|c| [b"&", &c[..]].concat()).collect()
    }

    /// All rules that make the selector what it is.
    pub fn describe(&self) -> Vec<Vec<u8>> {
        let mut words = self.describe_keys();
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.extend(self.describe_channels());
        words.extend(self.describe_commands().split(|b| *b == b' ').map(<[u8]>::to_vec));
        words
    }
}
