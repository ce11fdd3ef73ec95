//! Values that are not strings.

use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::zset::ZSet;

/// A collection.
#[derive(Clone)]
pub enum Object {
    List(List),
    Set(Set),
    Hash(Hash),
    ZSet(ZSet),
}

impl Object {
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::List(_) => "list",
            Object::Set(_) => "set",
            Object::Hash(_) => "hash",
            Object::ZSet(_) => "zset",
        }
    }

    /// The name that OBJECT ENCODING replies.
    pub fn encoding(&self) -> &'static str {
        match self {
            Object::List(x) => x.encoding(),
            Object::Set(x) => x.encoding(),
            Object::Hash(x) => x.encoding(),
            Object::ZSet(x) => x.encoding(),
        }
    }

    /// Number of elements; an object of none does not exist.
    pub fn len(&self) -> usize {
        match self {
            Object::List(x) => x.len(),
            Object::Set(x) => x.len(),
            Object::Hash(x) => x.len(),
            Object::ZSet(x) => x.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory behind the object, itself included.
    pub fn memory(&self) -> usize {
        size_of::<Object>()
            + match self {
                Object::List(x) => x.memory(),
                Object::Set(x) => x.memory(),
                Object::Hash(x) => x.memory(),
                Object::ZSet(x) => x.memory(),
            }
    }

    /// Number of allocations: the effort of freeing it.
    pub fn free_effort(&self) -> usize {
        match self {
            Object::List(x) => x.free_effort(),
            Object::Set(x) => x.free_effort(),
            Object::Hash(x) => x.free_effort(),
            Object::ZSet(x) => x.free_effort(),
        }
    }
}

/// A type of collection, for code that is the same for all.
pub trait Collection: Default {
    fn of(object: &Object) -> Option<&Self>;
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    fn wrap(self) -> Object;
}

macro_rules! collection {
    ($($name:ident),*) => {$(
        impl Collection for $name {
            fn of(object: &Object) -> Option<&Self> {
                if let Object::$name(x) = object { Some(x) } else { None }
            }
            fn of_mut(object: &mut Object) -> Option<&mut Self> {
                if let Object::$name(x) = object { Some(x) } else { None }
            }
            fn wrap(self) -> Object {
                Object::$name(self)
            }
        }
    )*};
}

collection!(List, Set, Hash, ZSet);
