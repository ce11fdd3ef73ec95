//! Client-side caching: which connection has read which key, or follows which
//! prefix.
//!
//! Every core keeps a [`Table`] of the keys that it owns, and all cores know
//! all [`Prefixes`]. A connection's own [`Tracking`] stays with it.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::conn::ConnRef;
use crate::base::rng::Rng;
use crate::base::slot::{Key, hash_key, slot_of_hash};
use crate::store::dict::Dict;

/// What CLIENT TRACKING has turned on for a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    pub bcast: bool,
    pub optin: bool,
    pub optout: bool,
    pub noloop: bool,
    /// CLIENT CACHING was given for the next command.
    pub caching: bool,
    /// Who gets the messages: client id and place.
    pub redirect: Option<(u64, ConnRef)>,
    /// That one has gone.
    pub broken: bool,
    pub prefixes: BTreeSet<Vec<u8>>,
}

impl Tracking {
    /// Are the keys of the next command's reading to be remembered?
    pub fn remembers(&self) -> bool {
        !self.bcast && if self.optin { self.caching } else { !(self.optout && self.caching) }
    }
}

/// Two of the prefixes overlap: a new one, the other, and whether that one was
/// there before.
pub fn collision<'a>(have: &'a BTreeSet<Vec<u8>>, new: &[&'a [u8]]) -> Option<(&'a [u8], &'a [u8], bool)> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    for (i, p) in new.iter().enumerate() {
        if let Some(old) = have.iter().find(|h| overlap(h, p)) {
            return Some((p, old, true));
        }
        if let Some(other) = new[i + 1..].iter().find(|o| overlap(o, p)) {
            return Some((p, other, false));
        }
    }
    None
}

/// A key and who has read it.
#[derive(Clone)]
struct Read {
    key: Box<[u8]>,
    by: SmallVec<[ConnRef; 2]>,
}

fn hash_of(r: &Read) -> u64 {
    hash_key(&r.key)
}

/// The keys of one core that clients have read since they last changed.
#[derive(Default)]
pub struct Table {
    keys: Dict<Read>,
    items: usize,
}

/// Those who have read a key.
pub type Readers = SmallVec<[ConnRef; 2]>;

impl Table {
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Number of pairs of key and reader.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Somebody has read a key; is it new here?
    pub fn add(&mut self, key: &Key, reader: ConnRef) -> bool {
        let same = |r: &Read| *r.key == *key.bytes;
        if let Some(r) = self.keys.find_mut(key.hash, same, hash_of) {
            if !r.by.contains(&reader) {
                r.by.push(reader);
                self.items += 1;
            }
            return false;
        }
        let read = Read { key: key.bytes.into(), by: SmallVec::from_slice(&[reader]) };
        self.keys.insert(key.hash, read, hash_of);
        self.items += 1;
        true
    }

    /// A key has changed: those who have read it, who then know nothing of it.
    pub fn take(&mut self, key: &Key) -> Option<Readers> {
        let r = self.keys.remove(key.hash, |r| *r.key == *key.bytes, hash_of)?;
        self.items -= r.by.len();
        Some(r.by)
    }

    /// Some key, to be forgotten.
    pub fn any(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        self.keys.random(rng).map(|r| r.key.to_vec())
    }

    /// The keys of a slot.
    pub fn in_slot(&self, slot: u16) -> Vec<Vec<u8>> {
        self.keys.iter().filter(|r| slot_of_hash(hash_of(r)) == slot).map(|r| r.key.to_vec()).collect()
    }

    /// Forgets everything; how many keys that were.
    pub fn clear(&mut self) -> usize {
        let n = self.len();
        *self = Table::default();
        n
    }
}

/// A connection that follows a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    pub conn: ConnRef,
    /// Its client id, if it does not want to hear of its own changes.
    pub except: Option<u64>,
}

/// Keys that have changed, each with the client that did it last.
pub type Changed = BTreeMap<Vec<u8>, u64>;

#[derive(Default)]
struct Prefix {
    followers: Vec<Follower>,
    /// On this core, in this turn.
    changed: Changed,
}

/// The prefixes that anybody follows, on any core.
#[derive(Default)]
pub struct Prefixes {
    names: BTreeMap<Vec<u8>, Prefix>,
    dirty: bool,
}

impl Prefixes {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn add(&mut self, name: &[u8], follower: Follower) {
        let followers = &mut self.names.entry(name.to_vec()).or_default().followers;
        followers.retain(|f| f.conn != follower.conn);
        followers.push(follower);
    }

    pub fn remove(&mut self, name: &[u8], conn: ConnRef) {
        let Some(p) = self.names.get_mut(name) else { return };
        p.followers.retain(|f| f.conn != conn);
        if p.followers.is_empty() {
            self.names.remove(name);
        }
    }

    /// A key was changed by this client, 0 for nobody.
    pub fn change(&mut self, key: &[u8], by: u64) {
        for (_, p) in self.names.iter_mut().filter(|(name, _)| key.starts_with(name)) {
            p.changed.insert(key.to_vec(), by);
            self.dirty = true;
        }
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What has changed, with those who want to know, prefix by prefix.
    pub fn take_changed(&mut self) -> Vec<(Vec<Follower>, Changed)> {
        self.dirty = false;
        let changed = self.names.values_mut().filter(|p| !p.changed.is_empty());
        changed.map(|p| (p.followers.clone(), std::mem::take(&mut p.changed))).collect()
    }
}

/// Parts of FLUSHALL that this core has heard of, by command: once all cores
/// have emptied their keyspaces, its clients are told.
pub type Flushes = HashMap<u64, usize, foldhash::fast::RandomState>;

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnRef = ConnRef { core: 0, index: 1, generation: 1 };
    const B: ConnRef = ConnRef { core: 1, index: 1, generation: 1 };

    #[test]
    fn a_key_is_remembered_until_it_changes() {
        let mut t = Table::default();
        let (x, y) = (Key::new(b"x"), Key::new(b"y"));
        assert!(t.add(&x, A) && !t.add(&x, A) && !t.add(&x, B) && t.add(&y, B));
        assert_eq!((t.len(), t.items()), (2, 3));
        assert_eq!(t.take(&x).map(|r| r.to_vec()), Some(vec![A, B]));
        assert!(t.take(&x).is_none());
        assert_eq!(t.any(&mut Rng::new(1)), Some(b"y".to_vec()));
        assert_eq!((t.clear(), t.items(), t.is_empty()), (1, 0, true));
    }

    #[test]
    fn followers_hear_of_their_prefixes_once_a_turn() {
        let mut p = Prefixes::default();
        p.add(b"a:", Follower { conn: A, except: None });
        p.add(b"", Follower { conn: B, except: Some(7) });
        p.change(b"a:1", 7);
        p.change(b"a:1", 0);
        p.change(b"b", 7);
        let told = p.take_changed();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].1, Changed::from([(b"a:1".to_vec(), 0), (b"b".to_vec(), 7)]));
        assert_eq!(told[1].1, Changed::from([(b"a:1".to_vec(), 0)]));
        assert!(!p.is_dirty() && p.take_changed().is_empty());
        p.remove(b"a:", A);
        p.remove(b"", B);
        assert!(p.is_empty());
    }

    #[test]
    fn prefixes_of_a_connection_do_not_overlap() {
        let have = BTreeSet::from([b"foo".to_vec()]);
        assert_eq!(collision(&have, &[b"bar", b"foobar"]), Some((&b"foobar"[..], &b"foo"[..], true)));
        assert_eq!(collision(&have, &[b"bar", b"b"]), Some((&b"bar"[..], &b"b"[..], false)));
        assert_eq!(collision(&have, &[b"bar", b"baz"]), None);
        assert!(collision(&have, &[b""]).is_some());
    }

    #[test]
    fn modes_decide_what_is_remembered() {
        let with = |f: fn(&mut Tracking)| {
            let mut t = Tracking::default();
            f(&mut t);
            t.remembers()
        };
        assert!(with(|_| ()));
        assert!(!with(|t| t.bcast = true));
        assert!(!with(|t| t.optin = true));
        assert!(with(|t| (t.optin, t.caching) = (true, true)));
        assert!(with(|t| t.optout = true));
        assert!(!with(|t| (t.optout, t.caching) = (true, true)));
    }
}
