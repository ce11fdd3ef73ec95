//! Function libraries, the same for all cores. Every core loads their code
//! into a state of its own when it finds that something has changed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A function as its library registered it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    /// See [`super::source::flag`].
    pub flags: u32,
}

/// A library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    pub name: Vec<u8>,
    /// Its whole source.
    pub code: Vec<u8>,
    pub functions: Vec<Function>,
}

/// What FUNCTION RESTORE does with libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All go.
    Flush,
    /// A library of the same name is an error.
    Append,
    /// A library of the same name is replaced.
    Replace,
}

type Table = BTreeMap<Vec<u8>, Arc<Library>>;

/// See the module's description.
#[derive(Default)]
pub struct Libraries {
    /// Changes whenever the table does.
    version: AtomicU64,
    table: Mutex<Table>,
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Adds a library to a table; the error in Redis's words.
fn add(table: &mut Table, library: Arc<Library>, replace: bool, quoted: bool) -> Result<(), String> {
    if table.contains_key(&library.name) && !replace {
        let name = shown(&library.name);
        return Err(if quoted {
            format!("Library '{name}' already exists")
        } else {
            format!("Library {name} already exists")
        });
    }
    let others = || table.values().filter(|l| l.name != library.name).flat_map(|l| &l.functions);
    let taken = |mine: &&Function| others().any(|f| mine.name.eq_ignore_ascii_case(&f.name));
    if let Some(f) = library.functions.iter().find(taken) {
        return Err(format!("Function {} already exists", shown(&f.name)));
    }
    table.insert(library.name.clone(), library);
    Ok(())
}

impl Libraries {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Differs from what it was before a change.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All libraries, by name.
    pub fn all(&self) -> Vec<Arc<Library>> {
        self.lock().values().cloned().collect()
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.lock().contains_key(name)
    }

    /// The sources of all libraries.
    pub fn sources(&self) -> Vec<Vec<u8>> {
        self.lock().values().map(|l| l.code.clone()).collect()
    }

    /// Libraries, and functions in them.
    pub fn count(&self) -> (usize, usize) {
        let table = self.lock();
        (table.len(), table.values().map(|l| l.functions.len()).sum())
    }

    /// Bytes of sources and names.
    pub fn memory(&self) -> usize {
        let of = |l: &Arc<Library>| {
            size_of::<Library>()
                + l.code.len()
                + l.functions.iter().map(|f| size_of::<Function>() + f.name.len()).sum::<usize>()
        };
        self.lock().values().map(of).sum()
    }

    /// The flags of a function.
    pub fn flags_of(&self, function: &[u8]) -> Option<u32> {
        let table = self.lock();
        table.values().flat_map(|l| &l.functions).find(|f| f.name.eq_ignore_ascii_case(function)).map(|f| f.flags)
    }

    /// Adds a library.
    pub fn add(&self, library: Arc<Library>, replace: bool) -> Result<(), String> {
        add(&mut self.lock(), library, replace, true)?;
        self.changed();
        Ok(())
    }

    /// Removes a library; false when there is none.
    pub fn remove(&self, name: &[u8]) -> bool {
        let found = self.lock().remove(name).is_some();
        if found {
            self.changed();
        }
        found
    }

    /// Removes all; were there any?
    pub fn clear(&self) -> bool {
        let had = !std::mem::take(&mut *self.lock()).is_empty();
        self.changed();
        had
    }

    /// Adds several libraries, or none.
    pub fn restore(&self, libraries: Vec<Arc<Library>>, policy: Policy) -> Result<(), String> {
        let mut table = self.lock();
        let mut fresh = if policy == Policy::Flush { Table::new() } else { table.clone() };
        for library in libraries {
            add(&mut fresh, library, policy == Policy::Replace, false)?;
        }
        *table = fresh;
        self.changed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Arc<Library> {
        let functions = functions.iter().map(|f| Function { name: f.as_bytes().to_vec(), ..Function::default() });
        Arc::new(Library { name: name.as_bytes().to_vec(), code: Vec::new(), functions: functions.collect() })
    }

    #[test]
    fn names_are_taken_once() {
        let l = Libraries::default();
        let before = l.version();
        assert_eq!(l.add(library("a", &["f", "g"]), false), Ok(()));
        assert!(l.version() != before);
        assert_eq!(l.add(library("a", &["h"]), false), Err("Library 'a' already exists".into()));
        assert_eq!(l.add(library("b", &["G"]), true), Err("Function G already exists".into()));
        assert_eq!(l.add(library("a", &["h"]), true), Ok(()));
        assert_eq!(l.count(), (1, 1));
        let both = || vec![library("a", &["x"]), library("c", &["y"])];
        assert_eq!(l.restore(both(), Policy::Append), Err("Library a already exists".into()));
        assert_eq!(l.count(), (1, 1), "nothing was added");
        assert_eq!(l.restore(both(), Policy::Replace), Ok(()));
        assert_eq!(l.restore(vec![library("z", &["h"])], Policy::Flush), Ok(()));
        assert_eq!(l.count(), (1, 1));
        assert!(l.remove(b"z") && !l.remove(b"z"));
    }
}
