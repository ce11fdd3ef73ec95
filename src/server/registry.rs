//! All commands of the server, by name: those over keys from `command`, and
//! those over connections and the server from `server::commands`.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::commands;
use super::core::Core;
use super::msg::Origin;
use crate::acl::Catalog;
use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::command::spec::{Begin, Find, flag, keyflag};
use crate::command::{Across, Command, Fault, Merge, Spec, families};
use crate::session::conn::Conn;
use crate::snapshot::dump;

/// What a command over a connection comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is written (or there is none).
    Done,
    /// The reply's place is reserved; it comes later.
    Later,
}

/// Handler of a command over a connection or the server.
pub type ConnRun = fn(&mut Core, &mut Conn, Args) -> Result<Outcome, Fault>;

/// A command that is not over keys; `run` is missing for containers.
pub struct ConnCommand {
    pub spec: Spec,
    pub run: Option<ConnRun>,
    /// Touches nothing but the connection: does not wait for what is
    /// outstanding on it.
    pub light: bool,
}

impl ConnCommand {
    /// The same with these arguments.
    pub const fn takes(mut self, syntax: &'static str) -> ConnCommand {
        self.spec.syntax = syntax;
        self
    }
}

/// Handler of a command that runs code over keys, or that changes code on all
/// cores. Appends the reply; did it fail?
pub type ScriptRun = fn(&mut Core, &Entry, Args, &Origin, UnixMs, &mut Vec<u8>) -> bool;

/// A command of that kind.
pub struct ScriptCommand {
    pub spec: Spec,
    pub run: ScriptRun,
    pub route: Route,
}

impl ScriptCommand {
    /// The same with these arguments.
    pub const fn takes(mut self, syntax: &'static str) -> ScriptCommand {
        self.spec.syntax = syntax;
        self
    }
}

/// What to call.
#[derive(Clone, Copy)]
pub enum Action {
    Keys(&'static Command),
    Script(ScriptRun),
    Conn(ConnRun),
    Container,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// On the owner of the one key at this place.
    Key(usize),
    /// On the owner of its keys, or as a transaction over several.
    Keys,
    Whole(Merge),
    /// Code over keys that it may not have named.
    Script,
    Cursor,
    Anywhere,
    /// Beside its connection, after what is outstanding there.
    Conn,
    /// Beside its connection, at once.
    ConnLight,
}

/// A registered command.
pub struct Entry {
    pub index: usize,
    pub spec: &'static Spec,
    pub action: Action,
    pub route: Route,
    /// [`Spec::element`].
    pub element: u8,
    /// Indices of the subcommands of a container.
    pub subs: Vec<usize>,
    /// The gates that hold it up ([`super::role`]).
    pub gates: u8,
    /// The name clients use, when it was renamed; empty when disabled.
    pub renamed: Option<String>,
}

impl Entry {
    pub fn writes(&self) -> bool {
        self.spec.is(flag::WRITE)
    }

    /// May a RESP2 connection with subscriptions call it?
    pub fn fits_subscribers(&self) -> bool {
        let subscribes = self.spec.is(flag::PUBSUB) && self.spec.name.ends_with("subscribe");
        subscribes || matches!(self.spec.name, "ping" | "quit" | "reset")
    }

    /// Is it kept from clients: disabled by the configuration, or a part of
    /// another command?
    pub fn hidden(&self) -> bool {
        self.spec.is(flag::HIDDEN) || self.renamed.as_deref() == Some("")
    }
}

/// See the module's description.
pub struct Registry {
    pub entries: Vec<Entry>,
    /// The same commands as access rules speak of them.
    pub catalog: Catalog,
    /// Open addressing: folded first bytes of the name, and index + 1.
    table: Vec<(u64, u16)>,
}

const TABLE: usize = 2048;

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// The registry; made with no renames when [`init`] was not called.
#[inline]
pub fn registry() -> &'static Registry {
    REGISTRY.get_or_init(|| Registry::new(&[]))
}

/// Makes the registry with the configuration's renames. To be called once,
/// before any core starts. Errors come with the number of the rename, from 0.
pub fn init(renames: &[(String, String)]) -> Result<(), (usize, &'static str)> {
    let _ = REGISTRY.set(Registry::new(&settled(renames)?));
    Ok(())
}

/// Renames one after the other, each of what is known by then: no two commands
/// may come to have one name. First the name that the command had at first.
fn settled(renames: &[(String, String)]) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let plain = Registry::new(&[]);
    let names = plain.entries.iter().map(|e| e.spec.name).filter(|name| !name.contains('|'));
    let mut known: HashMap<String, &str> = names.map(|name| (name.to_ascii_lowercase(), name)).collect();
    let mut settled = Vec::with_capacity(renames.len());
    for (nth, (from, to)) in renames.iter().enumerate() {
        let name = known.remove(&from.to_ascii_lowercase()).ok_or((nth, "No such command in rename-command"))?;
        if !to.is_empty() && known.insert(to.to_ascii_lowercase(), name).is_some() {
            return Err((nth, "Target command name already exists"));
        }
        settled.push((name.to_owned(), to.clone()));
    }
    Ok(settled)
}

#[inline]
fn fold(name: &[u8]) -> u64 {
    let mut b = [0u8; 8];
    let n = name.len().min(8);
    b[..n].copy_from_slice(&name[..n]);
    (u64::from_le_bytes(b) | 0x2020_2020_2020_2020) ^ ((name.len() as u64) << 56)
}

#[inline]
fn home(fold: u64) -> usize {
    (fold.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53) as usize
}

fn route_of_keys(c: &'static Command) -> Route {
    match c.across {
        Across::Whole(m) => Route::Whole(m),
        Across::Cursor => Route::Cursor,
        Across::Anywhere => Route::Anywhere,
        Across::Gather | Across::Split(_) => match c.spec.keys {
            [k] if k.flags & keyflag::NOT_KEY == 0 => match (k.begin, k.find) {
                (Begin::Index(i), Find::Range { last: 0, .. }) => Route::Key(i),
                _ => Route::Keys,
            },
            _ => Route::Keys,
        },
    }
}

impl Registry {
    fn new(renames: &[(String, String)]) -> Registry {
        let mut r = Registry { entries: Vec::new(), catalog: Catalog::default(), table: vec![(0, 0); TABLE] };
        for c in families().into_iter().chain([dump::ROWS]).flatten() {
            r.add(&c.spec, Action::Keys(c), route_of_keys(c));
        }
        for c in commands::scripting::SCRIPTS.iter().chain(commands::functions::CHANGES) {
            r.add(&c.spec, Action::Script(c.run), c.route);
        }
        for c in commands::families().into_iter().flatten() {
            let action = c.run.map_or(Action::Container, Action::Conn);
            r.add(&c.spec, action, if c.light { Route::ConnLight } else { Route::Conn });
        }
        r.link_subcommands();
        r.catalog = Catalog::new(r.entries.iter().map(|e| e.spec));
        r.index_names(renames);
        r
    }

    fn add(&mut self, spec: &'static Spec, action: Action, route: Route) {
        let index = self.entries.len();
        let gates = super::role::gates_of(spec);
        self.entries.push(Entry {
            index,
            spec,
            action,
            route,
            element: spec.element,
            gates,
            subs: Vec::new(),
            renamed: None,
        });
    }

    fn link_subcommands(&mut self) {
        for i in 0..self.entries.len() {
            if let Some((container, _)) = self.entries[i].spec.name.split_once('|') {
                let parent = self.entries.iter().position(|e| e.spec.name == container);
                self.entries[parent.expect("every subcommand has a container")].subs.push(i);
            }
        }
    }

    fn index_names(&mut self, renames: &[(String, String)]) {
        for i in 0..self.entries.len() {
            let name = self.entries[i].spec.name;
            let given = |name: &str| renames.iter().rev().find(|(from, _)| from.eq_ignore_ascii_case(name));
            let renamed = given(name).map(|(_, to)| to.clone());
            if let Some((container, _)) = name.split_once('|') {
                // It goes with its container.
                self.entries[i].renamed = given(container).filter(|(_, to)| to.is_empty()).map(|_| String::new());
                continue;
            }
            if renamed.as_deref() != Some("") {
                let known = renamed.clone().unwrap_or_else(|| name.to_string());
                self.index_name(known.as_bytes(), i);
            }
            self.entries[i].renamed = renamed;
        }
    }

    fn index_name(&mut self, name: &[u8], index: usize) {
        let f = fold(name);
        let mut at = home(f);
        while self.table[at].1 != 0 {
            at = (at + 1) % TABLE;
        }
        self.table[at] = (f, index as u16 + 1);
    }

    fn known_as(&self, e: &Entry, name: &[u8]) -> bool {
        e.renamed.as_deref().unwrap_or(e.spec.name).as_bytes().eq_ignore_ascii_case(name)
    }

    /// The command of that name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Entry> {
        let f = fold(name);
        let mut at = home(f);
        loop {
            let (g, i) = self.table[at];
            if i == 0 {
                return None;
            }
            if g == f {
                let e = &self.entries[i as usize - 1];
                if (name.len() <= 8 && e.renamed.is_none() && e.spec.name.len() == name.len()) || self.known_as(e, name)
                {
                    return Some(e);
                }
            }
            at = (at + 1) % TABLE;
        }
    }

    /// The command of a request: a container's subcommand where there is one.
    #[inline]
    pub fn resolve(&self, args: Args) -> Result<&Entry, Fault> {
        match self.find(args[0]) {
            None => Err(unknown(args)),
            Some(e) if e.subs.is_empty() => Ok(e),
            Some(e) => self.resolve_sub(e, args),
        }
    }

    fn resolve_sub<'a>(&'a self, e: &'a Entry, args: Args) -> Result<&'a Entry, Fault> {
        let Some(word) = args.get(1) else {
            return if matches!(e.action, Action::Container) { Err(Fault::arity(e.spec.name)) } else { Ok(e) };
        };
        let of = |i: &&usize| {
            let spec = self.entries[**i].spec;
            // A hidden one that does not fit is the command's own to refuse.
            let fits = !spec.is(flag::HIDDEN) || spec.arity_fits(args.len());
            fits && spec.name.as_bytes()[e.spec.name.len() + 1..].eq_ignore_ascii_case(word)
        };
        match e.subs.iter().find(of) {
            Some(i) => Ok(&self.entries[*i]),
            None if e.subs.iter().all(|i| self.entries[*i].spec.is(flag::HIDDEN)) => Ok(e),
            None => {
                let word = String::from_utf8_lossy(printed(word, 128)).into_owned();
                let name = e.spec.name;
                Err(format!("ERR unknown subcommand '{word}'. Try {} HELP.", name.to_uppercase()).into())
            }
        }
    }

    /// The command that a client names in full: `get`, `config|set`, by the name
    /// that it was given if it was renamed. As in Redis, the name that its row
    /// shows stays what it was.
    pub fn called(&self, name: &[u8]) -> Option<&Entry> {
        let Some(at) = memchr::memchr(b'|', name) else { return self.find(name) };
        let (container, word) = (self.find(&name[..at])?, &name[at + 1..]);
        let own = |e: &&Entry| e.spec.name.as_bytes()[container.spec.name.len() + 1..].eq_ignore_ascii_case(word);
        container.subs.iter().map(|i| &self.entries[*i]).find(own)
    }

    /// A command by its full name (`config|get`), whatever clients call it.
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.spec.name.eq_ignore_ascii_case(name))
    }
}

/// As much of a word as an error shows: up to a zero byte, at most `max` bytes.
fn printed(word: &[u8], max: usize) -> &[u8] {
    let end = memchr::memchr(0, word).unwrap_or(word.len());
    &word[..end.min(max)]
}

/// The error of a name that is no command's, with the first arguments.
fn unknown(args: Args) -> Fault {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(printed(args[0], 128));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut shown = 0;
    for a in &args[1..] {
        if shown >= 128 {
            break;
        }
        let part = printed(a, 128 - shown);
        text.push(b'\'');
        text.extend_from_slice(part);
        text.extend_from_slice(b"' ");
        shown += part.len() + 3;
    }
    Fault::Composed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GET could be given the name of SET, and one of the two was lost.
    #[test]
    fn names_are_given_to_one_command_each() {
        let settled = |lines: &[(&str, &str)]| {
            settled(&lines.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(settled(&[("GET", "set")]).unwrap_err(), (0, "Target command name already exists"));
        assert_eq!(settled(&[("get", "a"), ("set", "A")]).unwrap_err(), (1, "Target command name already exists"));
        for unknown in [&[("nosuch", "a")][..], &[("get", ""), ("GET", "a")], &[("get", "a"), ("get", "b")]] {
            assert_eq!(settled(unknown).unwrap_err(), (unknown.len() - 1, "No such command in rename-command"));
        }
        let pairs = settled(&[("GET", "a"), ("SET", "get"), ("A", "set"), ("del", "")]).unwrap();
        let r = Registry::new(&pairs);
        let found = |name: &str| r.find(name.as_bytes()).map(|e| e.spec.name);
        assert_eq!((found("get"), found("set"), found("a"), found("del")), (Some("set"), Some("get"), None, None));
    }

    #[test]
    fn unknown_names_are_shown_as_c_strings() {
        let text = "ERR unknown command 'a', with args beginning with: '' 'bc' ";
        assert_eq!(unknown(&[b"a\0b", b"\0", b"bc"]).text(), text.as_bytes());
    }

    #[test]
    fn every_name_is_found_in_any_case() {
        let r = registry();
        for e in &r.entries {
            if !e.spec.name.contains('|') {
                assert_eq!(r.find(e.spec.name.to_uppercase().as_bytes()).unwrap().index, e.index, "{}", e.spec.name);
            }
        }
        assert!(r.find(b"nosuch").is_none() && r.find(b"").is_none());
    }
}
