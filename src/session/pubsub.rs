//! Who listens to what: the subscriptions of a connection, the subscribers of
//! a core, and how many of them every core has.
//!
//! Messages are delivered by the core of the subscriber. So that a publisher
//! knows at once where to send a message and how many will receive it, every
//! core keeps an [`Audience`] of all; a subscription is confirmed only when all
//! cores have heard of it.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::base::glob;

type Hasher = foldhash::fast::RandomState;
type Name = Box<[u8]>;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    /// A shard channel: a namespace of its own.
    Shard,
}

const KINDS: usize = 3;

/// The subscriptions of one connection.
#[derive(Default)]
pub struct Subscriptions {
    /// Each with its place in the order in which they came.
    names: [HashMap<Name, u64, Hasher>; KINDS],
    /// How many ever came.
    came: u64,
    bytes: usize,
}

impl Subscriptions {
    pub fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.iter().all(|names| names.is_empty())
    }

    /// The number that confirmations show: channels and patterns count together.
    pub fn shown(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.len(Kind::Shard),
            _ => self.len(Kind::Channel) + self.len(Kind::Pattern),
        }
    }

    /// False when it was subscribed already.
    pub fn add(&mut self, kind: Kind, name: &[u8]) -> bool {
        if self.names[kind as usize].contains_key(name) {
            return false;
        }
        self.names[kind as usize].insert(name.into(), self.came);
        self.came += 1;
        self.bytes += name.len();
        true
    }

    /// False when it was not subscribed.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        let known = self.names[kind as usize].remove(name).is_some();
        self.bytes -= if known { name.len() } else { 0 };
        known
    }

    /// Bytes of memory, roughly.
    pub fn memory(&self) -> usize {
        const NODE: usize = 40;
        self.bytes + self.names.iter().map(HashMap::len).sum::<usize>() * NODE
    }

    /// In the order in which they came: clients expect the ends of patterns in it.
    pub fn names(&self, kind: Kind) -> Vec<Vec<u8>> {
        let mut names: Vec<(u64, &Name)> = self.names[kind as usize].iter().map(|(name, at)| (*at, name)).collect();
        names.sort_unstable_by_key(|&(at, _)| at);
        names.into_iter().map(|(_, name)| name.to_vec()).collect()
    }
}

/// A connection of this core: its place and the place's generation.
pub type Place = (u32, u32);

/// The subscribers of one core.
#[derive(Default)]
pub struct Subscribers {
    names: [HashMap<Name, BTreeSet<Place>, Hasher>; KINDS],
}

impl Subscribers {
    pub fn add(&mut self, kind: Kind, name: &[u8], place: Place) {
        self.names[kind as usize].entry(name.into()).or_default().insert(place);
    }

    pub fn remove(&mut self, kind: Kind, name: &[u8], place: Place) {
        let names = &mut self.names[kind as usize];
        if let Some(places) = names.get_mut(name) {
            places.remove(&place);
            if places.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Those subscribed to exactly this name.
    pub fn of(&self, kind: Kind, name: &[u8]) -> impl Iterator<Item = Place> {
        self.names[kind as usize].get(name).into_iter().flatten().copied()
    }

    /// The patterns that match a channel, with their subscribers.
    pub fn matching<'a>(&'a self, channel: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a BTreeSet<Place>)> {
        let patterns = self.names[Kind::Pattern as usize].iter();
        patterns.filter(|(pattern, _)| glob::matches(pattern, channel, false)).map(|(p, places)| (&p[..], places))
    }
}

/// Subscriptions of one name: core and number, only of cores that have any.
type Spread = SmallVec<[(u16, u32); 2]>;

/// How many subscriptions to every name each core has.
#[derive(Default)]
pub struct Audience {
    names: [HashMap<Name, Spread, Hasher>; KINDS],
}

impl Audience {
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(|names| names.is_empty())
    }

    /// A core has one more subscription to a name.
    pub fn add(&mut self, kind: Kind, name: &[u8], core: usize) {
        let spread = self.names[kind as usize].entry(name.into()).or_default();
        match spread.iter_mut().find(|(c, _)| usize::from(*c) == core) {
            Some((_, n)) => *n += 1,
            None => spread.push((core as u16, 1)),
        }
    }

    /// A core has one less.
    pub fn remove(&mut self, kind: Kind, name: &[u8], core: usize) {
        let names = &mut self.names[kind as usize];
        let Some(spread) = names.get_mut(name) else { return };
        if let Some((_, n)) = spread.iter_mut().find(|(c, _)| usize::from(*c) == core) {
            *n -= 1;
        }
        spread.retain(|(_, n)| *n > 0);
        if spread.is_empty() {
            names.remove(name);
        }
    }

    /// Names with at least one subscription; on one core, or any.
    pub fn names(&self, kind: Kind, on: Option<usize>) -> impl Iterator<Item = &[u8]> {
        let names = self.names[kind as usize].iter();
        names.filter(move |(_, spread)| counted(spread, on) > 0).map(|(name, _)| &name[..])
    }

    /// Number of names with at least one subscription.
    pub fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// Subscriptions to exactly this name; those of one core, or all.
    pub fn subscriptions(&self, kind: Kind, name: &[u8], on: Option<usize>) -> u64 {
        self.names[kind as usize].get(name).map_or(0, |spread| counted(spread, on))
    }

    /// How many times a message on `channel` will be delivered, and the cores
    /// that do it.
    pub fn receivers(&self, kind: Kind, channel: &[u8]) -> (u64, SmallVec<[usize; 8]>) {
        let mut count = 0;
        let mut cores = SmallVec::new();
        let mut tell = |spread: &Spread| {
            for (core, n) in spread {
                count += u64::from(*n);
                if !cores.contains(&usize::from(*core)) {
                    cores.push(usize::from(*core));
                }
            }
        };
        self.names[kind as usize].get(channel).into_iter().for_each(&mut tell);
        if kind == Kind::Channel {
            let patterns = self.names[Kind::Pattern as usize].iter();
            patterns.filter(|(p, _)| glob::matches(p, channel, false)).for_each(|(_, spread)| tell(spread));
        }
        (count, cores)
    }
}

fn counted(spread: &Spread, on: Option<usize>) -> u64 {
    spread.iter().filter(|(core, _)| on.is_none_or(|on| on == usize::from(*core))).map(|(_, n)| u64::from(*n)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_counts_names_and_patterns_by_core() {
        let mut a = Audience::default();
        a.add(Kind::Channel, b"news", 0);
        a.add(Kind::Channel, b"news", 3);
        a.add(Kind::Channel, b"news", 3);
        a.add(Kind::Pattern, b"n*", 1);
        a.add(Kind::Shard, b"news", 2);
        let (n, cores) = a.receivers(Kind::Channel, b"news");
        assert_eq!((n, &cores[..]), (4, &[0, 3, 1][..]));
        assert_eq!(a.receivers(Kind::Shard, b"news").0, 1);
        assert_eq!(a.receivers(Kind::Channel, b"olds").0, 0);
        assert_eq!(a.subscriptions(Kind::Channel, b"news", None), 3);
        assert_eq!([0, 1, 3].map(|core| a.subscriptions(Kind::Channel, b"news", Some(core))), [1, 0, 2]);
        assert_eq!([0, 1, 3].map(|core| a.names(Kind::Pattern, Some(core)).count()), [0, 1, 0]);
        for core in [0, 3, 3] {
            a.remove(Kind::Channel, b"news", core);
        }
        a.remove(Kind::Pattern, b"n*", 1);
        a.remove(Kind::Shard, b"news", 2);
        a.remove(Kind::Shard, b"news", 2);
        assert!(a.is_empty());
    }

    #[test]
    fn names_are_told_in_the_order_in_which_they_came() {
        let mut s = Subscriptions::default();
        let came: Vec<Vec<u8>> = (0..40).map(|i| format!("p{}*", i * 7 % 40).into_bytes()).collect();
        assert!(came.iter().all(|name| s.add(Kind::Pattern, name)));
        assert!(!s.add(Kind::Pattern, &came[3]) && s.remove(Kind::Pattern, &came[0]) && s.add(Kind::Pattern, &came[0]));
        assert_eq!(s.names(Kind::Pattern), [&came[1..], &came[..1]].concat());
        assert_eq!(s.memory(), came.concat().len() + 40 * 40);
    }

    #[test]
    fn subscribers_leave_nothing_behind() {
        let mut s = Subscribers::default();
        s.add(Kind::Pattern, b"a?", (1, 0));
        s.add(Kind::Pattern, b"a?", (1, 0));
        s.add(Kind::Channel, b"ab", (2, 7));
        assert_eq!(s.of(Kind::Channel, b"ab").collect::<Vec<_>>(), [(2, 7)]);
        assert_eq!(s.matching(b"ab").count(), 1);
        assert_eq!(s.matching(b"abc").count(), 0);
        s.remove(Kind::Pattern, b"a?", (1, 0));
        s.remove(Kind::Channel, b"ab", (2, 7));
        assert!(s.names.iter().all(|n| n.is_empty()));
    }
}
