//! Watched keys, on the core that owns them.
//!
//! A connection's watch has a token; every core that owns one of its keys
//! keeps a part of it, marks it when such a key changes, and votes with that
//! mark when EXEC comes.

use hashbrown::HashMap;

use crate::base::slot::slot_of_hash;

/// Names a connection's watch in the whole process.
pub type Token = u64;

type Slot = (usize, u64);

#[derive(Clone, Debug)]
struct Watched {
    token: Token,
    key: Vec<u8>,
    /// The key existed when it was watched: expiring is a change.
    existed: bool,
}

/// Watched keys of one slot on their way to another core.
pub type Moved = Vec<(usize, u64, Vec<u8>, Token, bool, bool)>;

/// One core's part of all watches.
#[derive(Default)]
pub struct Watches {
    keys: HashMap<Slot, Vec<Watched>, foldhash::fast::RandomState>,
    /// Changed or not; and how many keys the token has here.
    tokens: HashMap<Token, (bool, usize), foldhash::fast::RandomState>,
}

impl Watches {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn add(&mut self, token: Token, db: usize, hash: u64, key: &[u8], existed: bool) {
        let list = self.keys.entry((db, hash)).or_default();
        if list.iter().any(|w| w.token == token && w.key == key) {
            return;
        }
        list.push(Watched { token, key: key.to_vec(), existed });
        self.tokens.entry(token).or_insert((false, 0)).1 += 1;
    }

    /// A key has changed.
    pub fn touch(&mut self, db: usize, hash: u64, key: &[u8]) {
        if let Some(list) = self.keys.get(&(db, hash)) {
            for w in list.iter().filter(|w| w.key == key) {
                if let Some(t) = self.tokens.get_mut(&w.token) {
                    t.0 = true;
                }
            }
        }
    }

    /// The watched keys of a database, for whole-database changes.
    pub fn in_db(&self, db: usize) -> Vec<(u64, Vec<u8>)> {
        let of_db = self.keys.iter().filter(|((d, _), _)| *d == db);
        of_db.flat_map(|((_, h), list)| list.iter().map(|w| (*h, w.key.clone()))).collect()
    }

    /// Has no key of this token changed here? `gone` tells whether a key no
    /// longer exists by its deadline.
    pub fn vote(&self, token: Token, gone: impl Fn(usize, u64, &[u8]) -> bool) -> bool {
        match self.tokens.get(&token) {
            None => true,
            Some((true, _)) => false,
            Some((false, _)) => !self.keys.iter().any(|((db, hash), list)| {
                list.iter().any(|w| w.token == token && w.existed && gone(*db, *hash, &w.key))
            }),
        }
    }

    /// Forgets a token.
    pub fn remove(&mut self, token: Token) {
        if self.tokens.remove(&token).is_some() {
            self.keys.retain(|_, list| {
                list.retain(|w| w.token != token);
                !list.is_empty()
            });
        }
    }

    /// Number of tokens with keys on this core.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Takes the watches of a slot out.
    pub fn take_slot(&mut self, slot: u16) -> Moved {
        let keys: Vec<Slot> = self.keys.keys().filter(|(_, h)| slot_of_hash(*h) == slot).copied().collect();
        let mut moved = Moved::new();
        for (db, hash) in keys {
            for w in self.keys.remove(&(db, hash)).unwrap_or_default() {
                let Some(t) = self.tokens.get_mut(&w.token) else { continue };
                moved.push((db, hash, w.key, w.token, w.existed, t.0));
                t.1 -= 1;
            }
        }
        self.tokens.retain(|_, (_, n)| *n > 0);
        moved
    }

    pub fn install(&mut self, moved: Moved) {
        for (db, hash, key, token, existed, dirty) in moved {
            self.add(token, db, hash, &key, existed);
            if let Some(t) = self.tokens.get_mut(&token) {
                t.0 |= dirty;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_turns_the_vote_and_only_of_its_watchers() {
        let mut w = Watches::default();
        w.add(1, 0, 10, b"a", true);
        w.add(2, 0, 11, b"b", true);
        w.touch(0, 10, b"a");
        assert!(!w.vote(1, |_, _, _| false));
        assert!(w.vote(2, |_, _, _| false));
        assert!(!w.vote(2, |_, _, k| k == b"b"), "an expired key is a changed key");
        w.remove(1);
        w.remove(2);
        assert!(w.is_empty() && w.tokens.is_empty());
    }

    #[test]
    fn watches_follow_their_slot() {
        let hash = 5u64 << crate::base::slot::SLOT_SHIFT;
        let (mut a, mut b) = (Watches::default(), Watches::default());
        a.add(1, 0, hash, b"a", true);
        a.touch(0, hash, b"a");
        b.install(a.take_slot(5));
        assert!(a.is_empty() && a.tokens.is_empty());
        assert!(!b.vote(1, |_, _, _| false));
    }
}
