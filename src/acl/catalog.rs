//! The commands that rules speak of, by index and by name.

use std::collections::HashMap;

use crate::command::Spec;
use crate::command::spec::flag;

/// One command or subcommand.
pub struct Listed {
    pub spec: &'static Spec,
    /// The container of a subcommand.
    pub parent: Option<usize>,
    /// The subcommands of a container.
    pub subs: Vec<usize>,
    /// The command whose permission counts: its own, or the container's for
    /// subcommands that clients do not know of.
    pub stands_for: usize,
}

/// All commands. Indices are those of the list that it was made from, and so
/// is the size of the permissions of every selector.
#[derive(Default)]
pub struct Catalog {
    commands: Vec<Listed>,
    names: HashMap<&'static str, usize>,
}

impl Catalog {
    /// Names are the original ones: rules are not affected by `rename-command`.
    pub fn new(specs: impl Iterator<Item = &'static Spec>) -> Catalog {
        let specs: Vec<&'static Spec> = specs.collect();
        let mut names: HashMap<&'static str, usize> = HashMap::new();
        for (i, s) in specs.iter().enumerate().filter(|(_, s)| !s.is(flag::HIDDEN)) {
            names.insert(s.name, i);
        }
        let mut commands: Vec<Listed> = Vec::with_capacity(specs.len());
        for (i, spec) in specs.into_iter().enumerate() {
            let container = spec.name.split_once('|').and_then(|(name, _)| names.get(name).copied());
            let hidden = spec.is(flag::HIDDEN);
            commands.push(Listed {
                spec,
                parent: container.filter(|_| !hidden),
                subs: Vec::new(),
                stands_for: container.filter(|_| hidden).unwrap_or(i),
            });
        }
        for i in 0..commands.len() {
            if let Some(parent) = commands[i].parent {
                commands[parent].subs.push(i);
            }
        }
        Catalog { commands, names }
    }

    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub fn get(&self, index: usize) -> &Listed {
        &self.commands[index]
    }

    /// The command of that full name (`config|get`), in any case.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.names.get(&*name).copied()
    }

    /// Indices of the commands that rules can name.
    pub fn known(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.commands.len()).filter(|i| !self.commands[*i].spec.is(flag::HIDDEN))
    }
}
