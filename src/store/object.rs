//! Values that are not strings.

use std::convert::identity;

use super::cut::{Chunk, Recorder};
use super::hash::Hash;
use super::list::List;
use super::mover::{Mover, Spot};
use super::set::Set;
use super::stream::Stream;
use super::thin::Lean;
use super::undo::{Debt, Undo};
use super::zset::ZSet;
use crate::base::memory::block_size;

/// Collections of more elements than this, or lists of more nodes than the
/// other, are read in steps by a snapshot.
const LARGE_ELEMENTS: usize = 128;
const LARGE_NODES: usize = 4;

/// A collection. Those that are large by themselves lie behind a pointer, for
/// there are millions of small ones.
#[derive(Clone)]
pub enum Object {
    List(Lean<List>),
    Set(Set),
    Hash(Hash),
    ZSet(ZSet),
    Stream(Lean<Stream>),
}

const _: () = assert!(size_of::<Object>() <= 16, "the smallest block of the allocator that holds a pointer and a tag");

impl Object {
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::List(_) => "list",
            Object::Set(_) => "set",
            Object::Hash(_) => "hash",
            Object::ZSet(_) => "zset",
            Object::Stream(_) => "stream",
        }
    }

    /// The name that OBJECT ENCODING replies.
    pub fn encoding(&self) -> &'static str {
        match self {
            Object::List(x) => x.encoding(),
            Object::Set(x) => x.encoding(),
            Object::Hash(x) => x.encoding(),
            Object::ZSet(x) => x.encoding(),
            Object::Stream(x) => x.encoding(),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Object::List(x) => x.len(),
            Object::Set(x) => x.len(),
            Object::Hash(x) => x.len(),
            Object::ZSet(x) => x.len(),
            Object::Stream(x) => x.len(),
        }
    }

    /// Is there nothing left, so that the key goes? A stream may be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !matches!(self, Object::Stream(_))
    }

    /// Bytes of memory behind the object, itself included.
    pub fn memory(&self) -> usize {
        block_size(size_of::<Object>())
            + match self {
                Object::List(x) => block_size(size_of::<List>()) + x.memory(),
                Object::Set(x) => x.memory(),
                Object::Hash(x) => x.memory(),
                Object::ZSet(x) => x.memory(),
                Object::Stream(x) => x.memory(),
            }
    }

    /// Is it read in steps by a snapshot? Compact forms never are.
    pub fn is_large(&self) -> bool {
        match self {
            Object::List(x) => x.nodes().len() > LARGE_NODES,
            Object::Set(x) => x.len() > LARGE_ELEMENTS && x.ints().is_none() && x.packed().is_none(),
            // With deadlines of fields it is recorded whole.
            Object::Hash(x) => x.len() > LARGE_ELEMENTS && x.packed().is_none() && !x.is_volatile(),
            Object::ZSet(x) => x.len() > LARGE_ELEMENTS && x.packed().is_none(),
            // Recorded whole, however large.
            Object::Stream(_) => false,
        }
    }

    /// Which of a snapshot's open collections it is.
    pub fn undo_id(&self) -> Option<u64> {
        match self {
            Object::List(x) => x.undo_id(),
            Object::Set(x) => x.undo_id(),
            Object::Hash(x) => x.undo_id(),
            Object::ZSet(x) => x.undo_id(),
            Object::Stream(_) => None,
        }
    }

    /// Keeps from now on what a snapshot needs to read a large collection in
    /// steps as it is now.
    pub fn begin_undo(&mut self, id: u64, debt: Debt) {
        match self {
            Object::List(x) => x.begin_undo(id, debt),
            Object::Set(x) => begin(x.undo_mut(), id, debt),
            Object::Hash(x) => begin(x.undo_mut(), id, debt),
            Object::ZSet(x) => begin(x.undo_mut(), id, debt),
            Object::Stream(_) => debug_assert!(false, "streams are recorded whole"),
        }
    }

    /// Nobody reads it in steps any more.
    pub fn end_undo(&mut self) {
        match self {
            Object::List(x) => x.end_undo(),
            Object::Set(x) => end(x.undo_mut()),
            Object::Hash(x) => end(x.undo_mut()),
            Object::ZSet(x) => end(x.undo_mut()),
            Object::Stream(_) => {}
        }
    }

    /// Records about `max` elements of the collection as it was when its undo
    /// began: is there more, and how many they were.
    pub fn read_on(&mut self, max: usize, to: &mut dyn Recorder, out: &mut Chunk) -> (bool, usize) {
        let mut n = 0;
        let more = match self {
            Object::List(x) => x.read_on(max, |e| {
                to.element(out, e);
                n += 1;
            }),
            Object::Set(x) => x.read_on(max, |e| {
                to.element(out, e);
                n += 1;
            }),
            Object::Hash(x) => x.read_on(max, |field, value| {
                to.field(out, field, value);
                n += 1;
            }),
            Object::ZSet(x) => x.read_on(max, |member, score| {
                to.scored(out, member, score);
                n += 1;
            }),
            Object::Stream(_) => false,
        };
        (more, n)
    }

    /// Moves memory behind the object that lies where much is free, one step from
    /// `from` on; where to go on, if there is more. Not while a snapshot reads it.
    pub fn relocate(&mut self, from: Spot, mover: &mut Mover) -> Option<Spot> {
        match self {
            Object::List(x) => {
                if from == 0 {
                    x.relocate(mover);
                }
                List::relocate(x, from, mover)
            }
            Object::Set(x) => x.relocate(from, mover),
            Object::Hash(x) => x.relocate(from, mover),
            Object::ZSet(x) => x.relocate(from, mover),
            Object::Stream(x) => {
                if from == 0 {
                    x.relocate(mover);
                }
                Stream::relocate(x, from, mover)
            }
        }
    }

    /// Number of allocations: the effort of freeing it.
    pub fn free_effort(&self) -> usize {
        match self {
            Object::List(x) => x.free_effort(),
            Object::Set(x) => x.free_effort(),
            Object::Hash(x) => x.free_effort(),
            Object::ZSet(x) => x.free_effort(),
            Object::Stream(x) => x.free_effort(),
        }
    }
}

fn begin<E>(slot: Option<&mut Option<Box<Undo<E>>>>, id: u64, debt: Debt) {
    match slot {
        Some(s) => *s = Some(Box::new(Undo::new(id, debt))),
        None => debug_assert!(false, "compact forms are recorded whole"),
    }
}

fn end<E>(slot: Option<&mut Option<Box<Undo<E>>>>) {
    if let Some(mut u) = slot.and_then(Option::take) {
        u.debt.pay();
    }
}

/// A type of collection, for code that is the same for all.
pub trait Collection: Default {
    fn of(object: &Object) -> Option<&Self>;
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    fn wrap(self) -> Object;
}

macro_rules! collection {
    ($($name:ident by $wrap:expr),*) => {$(
        impl Collection for $name {
            fn of(object: &Object) -> Option<&Self> {
                if let Object::$name(x) = object { Some(x) } else { None }
            }
            fn of_mut(object: &mut Object) -> Option<&mut Self> {
                if let Object::$name(x) = object { Some(x) } else { None }
            }
            fn wrap(self) -> Object {
                Object::$name($wrap(self))
            }
        }
    )*};
}

collection!(List by Lean::new, Set by identity, Hash by identity, ZSet by identity, Stream by Lean::new);
