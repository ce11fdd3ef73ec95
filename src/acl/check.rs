//! May this user run this command with these arguments?

use super::catalog::Catalog;
use super::selector::{READ, Selector, WRITE};
use super::user::User;
use crate::base::Args;
use crate::command::keys::{Place, places};
use crate::command::spec::{Spec, flag, keyflag};

/// What is denied. The later in this list, the more it says about the cause:
/// of the answers of several selectors, the greatest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    /// The key at this argument.
    Key(usize),
    /// The channel at this argument.
    Channel(usize),
}

impl Denied {
    /// The error that the client gets, its code included.
    pub fn message(self, user: &User, spec: &Spec) -> Vec<u8> {
        match self {
            Denied::Command => {
                let name = spec.name.as_bytes();
                [b"NOPERM User ", &user.name[..], b" has no permissions to run the '", name, b"' command"].concat()
            }
            Denied::Key(_) => b"NOPERM No permissions to access a key".to_vec(),
            Denied::Channel(_) => b"NOPERM No permissions to access a channel".to_vec(),
        }
    }

    /// What ACL DRYRUN answers: it names what was not allowed.
    pub fn verbose(self, user: &User, spec: &Spec, args: Args) -> Vec<u8> {
        let (object, kind): (&[u8], &[u8]) = match self {
            Denied::Command => return self.message(user, spec).split_off(b"NOPERM ".len()),
            Denied::Key(at) => (args[at], b"' key"),
            Denied::Channel(at) => (args[at], b"' channel"),
        };
        [b"User ", &user.name[..], b" has no permissions to access the '", object, kind].concat()
    }

    /// Why a queued command does not run any more.
    pub fn since_queued(self) -> &'static str {
        match self {
            Denied::Command => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => "no permission to access one of the channels used as arguments",
        }
    }
}

/// The channels among the arguments, and whether they are patterns.
fn channels(spec: &Spec, args: Args) -> (std::ops::Range<usize>, bool) {
    match spec.name {
        "publish" | "spublish" => (1..2.min(args.len()), false),
        "subscribe" | "ssubscribe" => (1..args.len(), false),
        "psubscribe" => (1..args.len(), true),
        _ => (0..0, false),
    }
}

/// What the call does with the key.
fn access(spec: &Spec, place: &Place, args: Args) -> u8 {
    let mut flags = place.flags;
    let has = |from: usize, words: [&str; 2]| {
        args.iter().skip(from).any(|a| words.iter().any(|w| a.eq_ignore_ascii_case(w.as_bytes())))
    };
    match spec.name {
        // Without GET (or a comparison) it tells nothing of the old value.
        "set" if !has(3, ["get", "ifeq"]) => flags &= !keyflag::ACCESS,
        "bitfield" if only_gets(args) => {
            flags &= !(keyflag::UPDATE | keyflag::INSERT | keyflag::DELETE);
        }
        _ => {}
    }
    let reads = flags & keyflag::ACCESS != 0;
    let writes = flags & (keyflag::UPDATE | keyflag::INSERT | keyflag::DELETE) != 0;
    (if reads { READ } else { 0 }) | (if writes { WRITE } else { 0 })
}

/// Does a BITFIELD consist of nothing but GET? What it cannot read, it takes
/// for a write.
pub fn only_gets(args: Args) -> bool {
    let mut rest = args.get(2..).unwrap_or_default();
    while let [word, after @ ..] = rest {
        let operands = if word.eq_ignore_ascii_case(b"get") {
            2
        } else if word.eq_ignore_ascii_case(b"overflow") {
            1
        } else {
            return false;
        };
        if after.len() < operands {
            return false;
        }
        rest = &after[operands..];
    }
    true
}

/// Checks a call of the command at `index` of the catalog. Arguments in which
/// keys cannot be found are for the command to refuse.
pub fn check(user: &User, catalog: &Catalog, index: usize, args: Args) -> Result<(), Denied> {
    let mut worst = Denied::Command;
    for selector in &user.selectors {
        match check_selector(selector, catalog, index, args) {
            Ok(()) => return Ok(()),
            Err(denied) => worst = worst.max(denied),
        }
    }
    Err(worst)
}

fn check_selector(s: &Selector, catalog: &Catalog, index: usize, args: Args) -> Result<(), Denied> {
    let spec = catalog.get(index).spec;
    let at = catalog.get(index).stands_for;
    if !spec.is(flag::NO_AUTH) && !s.allows_command(at, args.get(1).copied()) {
        return Err(Denied::Command);
    }
    if !s.all_keys && !spec.keys.is_empty() {
        for place in places(spec, args).unwrap_or_default() {
            if !s.allows_key(args[place.index], access(spec, &place, args)) {
                return Err(Denied::Key(place.index));
            }
        }
    }
    if !s.all_channels {
        let (mut found, is_pattern) = channels(spec, args);
        if let Some(at) = found.find(|at| !s.allows_channel(args[*at], is_pattern)) {
            return Err(Denied::Channel(at));
        }
    }
    Ok(())
}

/// May the user run the command and read every key, whatever its name? SORT
/// by patterns needs it.
pub fn reads_everything(user: &User, catalog: &Catalog, index: usize, args: Args) -> bool {
    let at = catalog.get(index).stands_for;
    user.selectors.iter().any(|s| s.allows_command(at, args.get(1).copied()) && s.allows_any_key(READ))
}

/// May the user (go on to) listen to a channel or pattern?
pub fn may_listen(user: &User, name: &[u8], is_pattern: bool) -> bool {
    user.selectors.iter().any(|s| s.allows_channel(name, is_pattern))
}
