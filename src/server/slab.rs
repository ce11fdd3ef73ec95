//! The connections of a core, by place and generation.

use crate::session::conn::{Conn, ConnRef};

/// See the module's description. A connection is taken out while it is worked
/// on, so its place may be empty for that time.
#[derive(Default)]
pub struct Slab {
    places: Vec<Place>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Default)]
struct Place {
    generation: u32,
    conn: Option<Box<Conn>>,
}

/// Generations travel in 24 bits of a ring's user data.
const GENERATION_MASK: u32 = (1 << 24) - 1;

impl Slab {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of places, free ones included.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Reserves a place; the connection is put there with [`Slab::put`].
    pub fn reserve(&mut self, core: usize) -> ConnRef {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        ConnRef { core: core as u32, index, generation: self.places[index as usize].generation }
    }

    #[inline]
    pub fn put(&mut self, conn: Box<Conn>) {
        let place = &mut self.places[conn.me.index as usize];
        debug_assert!(place.conn.is_none() && place.generation == conn.me.generation);
        place.conn = Some(conn);
    }

    /// Takes a connection out to work on it.
    #[inline]
    pub fn take(&mut self, index: u32, generation: u32) -> Option<Box<Conn>> {
        let place = self.places.get_mut(index as usize)?;
        if place.generation != generation {
            return None;
        }
        place.conn.take()
    }

    #[inline]
    pub fn take_at(&mut self, index: u32) -> Option<Box<Conn>> {
        self.places.get_mut(index as usize)?.conn.take()
    }

    pub fn get(&self, index: u32) -> Option<&Conn> {
        self.places.get(index as usize)?.conn.as_deref()
    }

    /// Frees the place of a connection that is out.
    pub fn free(&mut self, me: ConnRef) {
        let place = &mut self.places[me.index as usize];
        debug_assert!(place.conn.is_none() && place.generation == me.generation);
        place.generation = (place.generation + 1) & GENERATION_MASK;
        self.free.push(me.index);
        self.len -= 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.places.iter().filter_map(|p| p.conn.as_deref())
    }

    /// References of all connections.
    pub fn refs(&self) -> Vec<ConnRef> {
        self.iter().map(|c| c.me).collect()
    }
}
