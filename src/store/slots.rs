//! The tables of all slots of one database on one core.
//!
//! One flat array, so that a look-up computes the place of its table; 400 KB
//! though a core owns only some of the slots, and may hold few keys of the
//! database. So the array comes from the allocator as zeros, which the system
//! backs with memory where something is written: all cores together need little
//! more than one array for each database.
//!
//! What that comes to depends on the number of databases, not on the data, so it
//! does not count as used, like other memory of that kind
//! ([`leave_out`](crate::base::memory::leave_out)): else the first keys of a
//! database would take a process near its limit past it.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::table::SlotTable;
use crate::base::memory;
use crate::base::slot::SLOTS;

/// Slots whose memory is told of together: those of one word of bits.
pub const GROUP: usize = 64;

const GROUPS: usize = SLOTS / GROUP;

/// See the module's description.
pub struct Slots {
    tables: NonNull<[SlotTable; SLOTS]>,
    /// Groups that have been written to, a bit each.
    touched: [u64; GROUPS / 64],
}

// SAFETY: it owns its tables, which may be sent.
unsafe impl Send for Slots {}

impl Default for Slots {
    fn default() -> Slots {
        let layout = Layout::new::<[SlotTable; SLOTS]>();
        let Some(p) = NonNull::new(memory::zeroed_uncounted(layout)) else { handle_alloc_error(layout) };
        // All zeros are empty tables: `table`, `buckets`.
        Slots { tables: p.cast(), touched: [0; GROUPS / 64] }
    }
}

impl Slots {
    /// Something is put into a group that was empty.
    #[cold]
    pub fn touch(&mut self, group: usize) {
        let (word, bit) = (&mut self.touched[group / 64], 1 << (group % 64));
        if *word & bit == 0 {
            *word |= bit;
            memory::beside((GROUP * size_of::<SlotTable>()) as isize);
        }
    }

    /// Bytes that have been written to.
    pub fn memory(&self) -> usize {
        let groups: u32 = self.touched.iter().map(|w| w.count_ones()).sum();
        groups as usize * GROUP * size_of::<SlotTable>()
    }
}

impl Deref for Slots {
    type Target = [SlotTable; SLOTS];

    #[inline]
    fn deref(&self) -> &[SlotTable; SLOTS] {
        // SAFETY: the tables are ours, and were initialised by `default`.
        unsafe { self.tables.as_ref() }
    }
}

impl DerefMut for Slots {
    #[inline]
    fn deref_mut(&mut self) -> &mut [SlotTable; SLOTS] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { self.tables.as_mut() }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        memory::beside(-(self.memory() as isize));
        // SAFETY: the tables are ours, and nothing uses them afterwards; the
        // block was allocated by `zeroed_uncounted`.
        unsafe {
            self.tables.drop_in_place();
            memory::free_uncounted(self.tables.as_ptr().cast());
        }
    }
}
