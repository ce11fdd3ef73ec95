//! CONFIG GET and CONFIG SET.

use std::sync::Arc;

use super::directive::{Directive, Mutability, Origin};
use super::settings::Settings;
use super::{Config, Guard, line, load, table};

/// Who calls CONFIG SET; decides about protected directives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// On a loopback address or a Unix socket.
    pub is_local: bool,
}

/// A CONFIG SET that was checked but not made yet: apply what it asks of the
/// system (listen on a port, open a log), then [`Config::commit`] it, or drop
/// it and answer with [`Change::refusal`].
#[derive(Debug)]
pub struct Change {
    settings: Arc<Settings>,
    changed: Vec<&'static str>,
}

impl Change {
    /// The values as they will be.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Names of the directives whose values differ from the current ones.
    pub fn changed(&self) -> &[&'static str] {
        &self.changed
    }

    /// Redis's error text for a value that could not be applied.
    pub fn refusal(name: &str, reason: &str) -> String {
        failed(name, reason)
    }
}

impl Config {
    /// CONFIG GET: name and value of every directive that matches one of the
    /// patterns, each once. A name without pattern characters finds hidden
    /// directives too and is returned as the client spelled it.
    pub fn get(&self, patterns: &[&str]) -> Vec<(String, String)> {
        let settings = self.settings();
        let mut found: Vec<(String, String)> = Vec::new();
        for pattern in patterns {
            for (name, directive) in matching(pattern) {
                if !found.iter().any(|(n, _)| n.eq_ignore_ascii_case(&name)) {
                    found.push((name, directive.print(&settings)));
                }
            }
        }
        found
    }

    /// CONFIG SET by a remote client without side effects: all pairs or none.
    /// The names returned are those whose values changed; the error is Redis's
    /// text without the `ERR` in front.
    pub fn set(&self, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        let change = self.prepare(pairs, Caller::default())?;
        Ok(self.commit(change))
    }

    /// Checks a CONFIG SET without making it.
    pub fn prepare(&self, pairs: &[(&str, &str)], caller: Caller) -> Result<Change, String> {
        let current = self.settings();
        let targets = self.targets(pairs, caller, &current)?;
        let mut next = Settings::clone(&current);
        for (directive, (name, value)) in targets.iter().zip(pairs) {
            directive
                .set_words(&mut next, &[value], Origin::Runtime)
                .and_then(|()| load::refuse_if_not_built(directive, &next, &self.defaults))
                .map_err(|reason| failed(name, &reason))?;
        }
        let mut changed: Vec<&'static str> = Vec::new();
        for directive in targets {
            let differs = directive.print(&current) != directive.print(&next);
            if differs && !changed.contains(&directive.name) {
                changed.push(directive.name);
            }
        }
        Ok(Change { settings: Arc::new(next), changed })
    }

    /// Makes a checked change; changes must be prepared and committed by one
    /// thread at a time, or the later commit undoes the earlier.
    pub fn commit(&self, change: Change) -> Vec<&'static str> {
        *self.lock() = change.settings;
        change.changed
    }

    /// REPLICAOF: the directive `replicaof` follows the command.
    pub fn set_replicaof(&self, primary: Option<(String, u16)>) {
        let mut current = self.lock();
        let mut next = Settings::clone(&current);
        next.replication.replicaof = primary;
        *current = Arc::new(next);
    }

    /// Whether CONFIG SET must answer `LOADING` while the dataset is loading.
    pub fn denied_while_loading(names: &[&str]) -> bool {
        names.iter().any(|name| table::find(name).is_some_and(|d| d.deny_loading))
    }

    /// The directives that the pairs name, if they may be set.
    fn targets(
        &self,
        pairs: &[(&str, &str)],
        caller: Caller,
        current: &Settings,
    ) -> Result<Vec<&'static Directive>, String> {
        let mut targets = Vec::with_capacity(pairs.len());
        for (index, (name, _)) in pairs.iter().enumerate() {
            let directive = table::find(name)
                .filter(|d| !d.is_file_only())
                .ok_or_else(|| format!("Unknown option or number of arguments for CONFIG SET - '{name}'"))?;
            check_mutability(directive, caller, current).map_err(|r| failed(name, r))?;
            // A name and its alias may stand together, as in Redis.
            let repeated = |(n, _): &(&str, &str)| n.eq_ignore_ascii_case(name);
            if pairs[..index].iter().any(repeated) {
                return Err(failed(name, "duplicate parameter"));
            }
            targets.push(directive);
        }
        Ok(targets)
    }
}

/// The directives that a CONFIG GET pattern means, under the names to print.
fn matching(pattern: &str) -> Vec<(String, &'static Directive)> {
    let known = || table::directives().filter(|d| !d.is_file_only());
    if !pattern.contains(['*', '?', '[']) {
        let exact = known().find(|d| d.is_named(pattern));
        return exact.map(|d| (pattern.to_owned(), d)).into_iter().collect();
    }
    known()
        .filter(|directive| !directive.hidden)
        .flat_map(|directive| std::iter::once(directive.name).chain(directive.alias).map(move |name| (name, directive)))
        .filter(|(name, _)| line::glob_matches(pattern, name))
        .map(|(name, directive)| (name.to_owned(), directive))
        .collect()
}

fn check_mutability(directive: &Directive, caller: Caller, current: &Settings) -> Result<(), &'static str> {
    let allowed = match current.enable_protected_configs {
        Guard::Yes => true,
        Guard::Local => caller.is_local,
        Guard::No => false,
    };
    match directive.mutability {
        Mutability::Immutable => Err("can't set immutable config"),
        Mutability::Protected if !allowed => Err("can't set protected config"),
        _ => Ok(()),
    }
}

fn failed(name: &str, reason: &str) -> String {
    format!("CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}
