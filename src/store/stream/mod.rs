//! Stream values: entries in ascending order of their identifiers, kept in
//! nodes ([`node`]), and consumer groups ([`group`]).

pub mod group;
pub mod id;
pub mod node;

use super::listpack::Listpack;
use super::mover::{Movable, Mover, Spot};
use group::Group;
use id::StreamId;
use node::{Head, Row};
use std::collections::BTreeMap;

/// Limits of a node; 0 is none.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: usize,
    pub entries: u64,
}

/// No entry, and no node, gets larger than this (Redis's limit).
pub const NODE_MAX_BYTES: usize = 1 << 30;

/// Which entries a trimming removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Until so many are left.
    MaxLen(u64),
    /// Those below.
    MinId(StreamId),
}

/// See the module's description.
#[derive(Clone, Default)]
pub struct Stream {
    /// By the identifier of their first row. No node is without a live entry.
    nodes: BTreeMap<StreamId, Listpack>,
    len: u64,
    /// The largest identifier ever given.
    pub last_id: StreamId,
    /// Of the first entry; zero when there is none.
    pub first_id: StreamId,
    /// The largest identifier ever deleted by XDEL.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
}

/// Nodes moved in one step: some 4 KB each.
const NODES_AT_ONCE: usize = 16;

impl Stream {
    /// Moves memory that lies where much is free, of some nodes; where to go on,
    /// if there are more. Groups stay where they are.
    pub(super) fn relocate(&mut self, from: Spot, mover: &mut Mover) -> Option<Spot> {
        let first = StreamId { ms: (from >> 64) as u64, seq: from as u64 };
        let mut rest = self.nodes.range_mut(first..);
        rest.by_ref().take(NODES_AT_ONCE).for_each(|(_, l)| l.relocate(mover));
        rest.next().map(|(id, _)| Spot::from(id.ms) << 64 | Spot::from(id.seq))
    }

    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn memory(&self) -> usize {
        let per_node = size_of::<(StreamId, Listpack)>() * 4 / 3;
        // Nodes are of much the same size, so some stand for all.
        let listpacks = super::member::estimate(self.nodes.len(), self.nodes.values().map(Listpack::memory));
        let groups: usize = self.groups.iter().map(|(n, g)| n.len() + size_of::<Group>() + g.memory()).sum();
        size_of::<Stream>() + self.nodes.len() * per_node + listpacks + groups
    }

    pub fn free_effort(&self) -> usize {
        self.nodes.len() + self.groups.values().map(|g| 1 + g.pending_count()).sum::<usize>()
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes with their keys, for saving.
    pub fn nodes(&self) -> impl Iterator<Item = (StreamId, &Listpack)> {
        self.nodes.iter().map(|(id, l)| (*id, l))
    }

    /// Adds a whole node, for loading; false when it is malformed or out of
    /// order. Its live entries count.
    pub fn push_node(&mut self, master: StreamId, list: Listpack) -> bool {
        let last = self.nodes.last_key_value().map(|(id, l)| node::last_id(l, *id));
        if !node::check(&list, master) || last.is_some_and(|l| master <= l) {
            return false;
        }
        self.len += Head::of(&list).live as u64;
        self.nodes.insert(master, list);
        true
    }

    /// The identifier after the last one at a time, when nobody chose one.
    pub fn next_id(&self, now_ms: u64) -> Option<StreamId> {
        if now_ms > self.last_id.ms { Some(StreamId::new(now_ms, 0)) } else { self.last_id.next() }
    }

    /// Adds an entry; `id` is above `last_id`. `words` are fields and values by
    /// turns.
    pub fn append(&mut self, id: StreamId, words: &[&[u8]], limits: Limits) {
        debug_assert!(id > self.last_id && words.len().is_multiple_of(2));
        match self.nodes.iter_mut().next_back().filter(|(_, l)| has_room(l, words, limits)) {
            Some((master, list)) => node::append(list, *master, id, words),
            None => self.append_to_new(id, words),
        }
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    fn append_to_new(&mut self, id: StreamId, words: &[&[u8]]) {
        let mut list = node::create(words);
        node::append(&mut list, id, id, words);
        self.nodes.insert(id, list);
    }

    /// Entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Row<'_>> {
        let from = self.nodes.range(..=start).next_back().map_or(start, |(id, _)| *id);
        let nodes = (start <= end).then(|| self.nodes.range(from..=end)).into_iter().flatten();
        let rows = nodes.flat_map(|(master, list)| node::rows(list, *master));
        rows.skip_while(move |r| r.id < start).take_while(move |r| r.id <= end).filter(|r| !r.is_deleted())
    }

    /// The same from `end` back to `start`.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Row<'_>> {
        let nodes = self.nodes.range(..=end).rev();
        let rows = nodes.flat_map(|(master, list)| node::rows_back(list, *master));
        rows.skip_while(move |r| r.id > end).take_while(move |r| r.id >= start).filter(|r| !r.is_deleted())
    }

    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.range(StreamId::MIN, StreamId::MAX)
    }

    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }

    pub fn last(&self) -> Option<Row<'_>> {
        self.range_back(StreamId::MIN, StreamId::MAX).next()
    }

    pub fn get(&self, id: StreamId) -> Option<Row<'_>> {
        self.range(id, id).next()
    }

    /// Deletes an entry; false when there is none.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some((&master, list)) = self.nodes.range_mut(..=id).next_back() else { return false };
        if !node::delete(list, master, id) {
            return false;
        }
        if Head::of(list).live == 0 {
            self.nodes.remove(&master);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    fn find_first(&mut self) {
        self.first_id = self.first().map_or(StreamId::MIN, |r| r.id);
    }

    /// Removes entries from the front; how many. With `whole_nodes` only nodes
    /// of which nothing is to stay; with a `limit` above 0, stops before a node
    /// that would go beyond it.
    pub fn trim(&mut self, trim: Trim, whole_nodes: bool, limit: u64) -> u64 {
        let mut removed = 0;
        while let Some(mut entry) = self.nodes.first_entry() {
            if matches!(trim, Trim::MaxLen(max) if self.len <= max) {
                break;
            }
            let master = *entry.key();
            let live = Head::of(entry.get()).live as u64;
            if limit > 0 && removed + live > limit {
                break;
            }
            let whole = match trim {
                Trim::MaxLen(max) => self.len - live >= max,
                Trim::MinId(min) => node::last_id(entry.get(), master) < min,
            };
            if whole {
                entry.remove();
                self.len -= live;
                removed += live;
                continue;
            }
            if !whole_nodes {
                let mut surplus = match trim {
                    Trim::MaxLen(max) => self.len - max,
                    Trim::MinId(_) => u64::MAX,
                };
                let wanted = |id| match trim {
                    Trim::MinId(min) => id < min,
                    Trim::MaxLen(_) => {
                        let wanted = surplus > 0;
                        surplus = surplus.saturating_sub(1);
                        wanted
                    }
                };
                let n = node::delete_front(entry.get_mut(), master, wanted);
                if Head::of(entry.get()).live == 0 {
                    entry.remove();
                }
                self.len -= n;
                removed += n;
            }
            break;
        }
        if removed > 0 || self.len == 0 {
            self.find_first();
        }
        removed
    }

    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// A group beside the entries.
    pub fn split_group(&mut self, name: &[u8]) -> Option<(Entries<'_>, &mut Group)> {
        let group = self.groups.get_mut(name)?;
        let counters = Counters {
            len: self.len,
            last_id: self.last_id,
            first_id: self.first_id,
            max_deleted_id: self.max_deleted_id,
            entries_added: self.entries_added,
        };
        Some((Entries { nodes: &self.nodes, counters }, group))
    }

    /// Adds a group; false when there is one of that name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups.insert(name.into(), group);
        true
    }

    pub fn remove_group(&mut self, name: &[u8]) -> Option<Group> {
        self.groups.remove(name)
    }

    /// Groups in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, g)| (&name[..], g))
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub fn counters(&self) -> Counters {
        Counters {
            len: self.len,
            last_id: self.last_id,
            first_id: self.first_id,
            max_deleted_id: self.max_deleted_id,
            entries_added: self.entries_added,
        }
    }
}

fn has_room(list: &Listpack, words: &[&[u8]], limits: Limits) -> bool {
    let bytes = if limits.bytes == 0 { NODE_MAX_BYTES } else { limits.bytes.min(NODE_MAX_BYTES) };
    let need: usize = words.iter().map(|w| w.len()).sum();
    if list.size() + need >= bytes {
        return false;
    }
    let head = Head::of(list);
    limits.entries == 0 || ((head.live + head.deleted) as u64) < limits.entries
}

/// A stream's entries, while one of its groups is changed.
pub struct Entries<'a> {
    nodes: &'a BTreeMap<StreamId, Listpack>,
    pub counters: Counters,
}

impl<'a> Entries<'a> {
    /// Entries from `start` on.
    pub fn from(&self, start: StreamId) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let nodes = self.nodes;
        let from = nodes.range(..=start).next_back().map_or(start, |(id, _)| *id);
        let rows = nodes.range(from..).flat_map(|(master, list)| node::rows(list, *master));
        rows.skip_while(move |r| r.id < start).filter(|r| !r.is_deleted())
    }

    pub fn get(&self, id: StreamId) -> Option<Row<'a>> {
        self.from(id).next().filter(|r| r.id == id)
    }

    pub fn last(&self) -> Option<Row<'a>> {
        let rows = self.nodes.iter().rev().flat_map(|(master, list)| node::rows_back(list, *master));
        rows.into_iter().find(|r| !r.is_deleted())
    }
}

/// The figures from which a group's progress is estimated.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    pub len: u64,
    pub last_id: StreamId,
    pub first_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

impl Counters {
    /// May entries at or after `start` have been deleted singly? Not if all that
    /// were deleted came before the first.
    fn has_gaps_from(&self, start: StreamId) -> bool {
        let deleted = self.max_deleted_id;
        self.len > 0 && deleted != StreamId::MIN && self.first_id <= deleted && start <= deleted
    }

    /// How many entries were ever added up to `id`, when that can be told.
    pub fn read_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(added);
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(added);
        }
        if self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id {
            // XSETID may have said any number.
            let before = added.wrapping_sub(self.len as i64);
            if id < self.first_id {
                return Some(before);
            }
            if id == self.first_id {
                return Some(before.wrapping_add(1));
            }
        }
        None
    }

    /// How many entries a group has still to read, when that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let known = group.entries_read.filter(|_| !self.has_gaps_from(group.last_id));
        let read = known.or_else(|| self.read_up_to(group.last_id))?;
        Some((self.entries_added as i64).wrapping_sub(read))
    }

    /// A group's count once it has read `id`, the next entry.
    pub fn read_on(&self, group: &Group, id: StreamId) -> Option<i64> {
        match group.entries_read {
            Some(n) if !self.has_gaps_from(id) => Some(n.wrapping_add(1)),
            n if self.entries_added == 0 => n,
            _ => self.read_up_to(id),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
