//! One key with its value: a single allocation for small ones.
//!
//! Layout (little-endian, offsets in bytes):
//!
//! | at | size | what |
//! | --- | --- | --- |
//! | 0 | 1 | kind (low 3 bits), flags, a snapshot's mark (upper 2 bits) |
//! | 1 | 1 | key length; 255 means that a 4-byte length precedes the key |
//! | 2 | 2 | length of an inline string value |
//! | 4 | 4 | access clock ([`super::clock`]) |
//! | 8 | 0 or 8 | deadline, Unix milliseconds |
//! | | 0 or 4 | long key length |
//! | | n | key |
//! | | v | value: the string's bytes, or an 8-byte pointer to a boxed value |
//!
//! Invariants: the header describes the allocation exactly (its size is
//! computed from the header when it is freed), and a boxed pointer is owned.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

use super::hash::Hash;
use super::mover::Mover;
use super::object::Object;
use crate::base::clock::UnixMs;
use crate::base::memory::block_size;
use crate::base::slot::hash_key;

/// Strings longer than this are boxed.
pub const INLINE_MAX: usize = 2048;

/// Bytes of strings that are moved at most; a few larger ones fill a page.
const MOVED_MAX: usize = 64 * 1024;

const HEADER: usize = 8;
const KEY_LONG: u8 = 255;
const POINTER: usize = 8;

const KIND_MASK: u8 = 0b0000_0111;
const FLAG_DEADLINE: u8 = 0b0000_1000;
/// The string was edited in place (APPEND, SETRANGE): `raw` in OBJECT ENCODING.
const FLAG_RAW: u8 = 0b0001_0000;

/// The object is a hash that may have deadlines of fields.
const FLAG_FIELDS: u8 = 0b0010_0000;

/// What a snapshot has noted of the entry ([`super::cut`]); 0 is nothing.
const MARK_SHIFT: u32 = 6;
const MARK: u8 = 0b11 << MARK_SHIFT;

const KIND_INLINE: u8 = 0;
const KIND_BIG: u8 = 1;
const KIND_OBJECT: u8 = 2;

/// An owned entry.
///
/// The upper 16 bits of the address, which user space does not use, belong to
/// the table that holds the entry ([`Entry::tag`]).
#[repr(transparent)]
pub struct Entry(NonNull<u8>);

const TAG_SHIFT: u32 = 48;
const ADDRESS: usize = (1 << TAG_SHIFT) - 1;

// SAFETY: an entry owns all that its pointers lead to.
unsafe impl Send for Entry {}

/// A value as its readers see it.
pub enum Value<'a> {
    Str(&'a [u8]),
    Object(&'a Object),
}

/// A long string; what stands before `start` is the rest of the receive buffer
/// that the value came in.
struct Big {
    bytes: Vec<u8>,
    start: usize,
}

impl Big {
    #[inline]
    fn value(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The value alone, for editing.
    fn bare(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.start);
        self.start = 0;
        &mut self.bytes
    }
}

struct Shape {
    kind: u8,
    deadline: bool,
    key: usize,
    value: usize,
}

impl Shape {
    fn key_at(&self) -> usize {
        HEADER + if self.deadline { 8 } else { 0 } + if self.key >= KEY_LONG as usize { 4 } else { 0 }
    }

    fn value_at(&self) -> usize {
        self.key_at() + self.key
    }

    fn size(&self) -> usize {
        self.value_at() + self.value
    }

    fn layout(&self) -> Layout {
        Layout::from_size_align(self.size(), 8).expect("entry sizes are bounded by the key length limit")
    }
}

impl Entry {
    /// The allocation's address.
    #[inline]
    fn base(&self) -> *mut u8 {
        self.0.as_ptr().map_addr(|a| a & ADDRESS)
    }

    /// The bits that the table keeps with the entry.
    #[inline]
    pub fn tag(&self) -> u16 {
        (self.0.as_ptr().addr() >> TAG_SHIFT) as u16
    }

    pub fn set_tag(&mut self, tag: u16) {
        let p = self.base();
        debug_assert_eq!(p.addr() & !ADDRESS, 0);
        // SAFETY: adding bits to an address that is not null leaves it so.
        self.0 = unsafe { NonNull::new_unchecked(p.map_addr(|a| a | (tag as usize) << TAG_SHIFT)) };
    }

    /// Puts another entry in this one's place in its table.
    pub fn replace(&mut self, mut other: Entry) {
        other.set_tag(self.tag());
        other.take_mark_of(self);
        std::mem::swap(self, &mut other);
    }

    /// A string entry. Keys are at most `u32::MAX` bytes (checked by the parser's limit).
    #[inline]
    pub fn string(key: &[u8], value: &[u8], deadline: Option<UnixMs>) -> Entry {
        if value.len() <= INLINE_MAX {
            let e = Entry::allocate(KIND_INLINE, key, value.len(), deadline);
            // SAFETY: the value area has `value.len()` bytes, and `value` is not in it.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), e.value_ptr(), value.len()) };
            e
        } else {
            Entry::boxed_string(key, value.to_vec(), deadline)
        }
    }

    /// A string entry that takes over an allocation.
    pub fn boxed_string(key: &[u8], value: Vec<u8>, deadline: Option<UnixMs>) -> Entry {
        Entry::big(key, Big { bytes: value, start: 0 }, deadline)
    }

    /// A string entry that takes over a receive buffer: the value is what
    /// stands in it from `start` on.
    pub fn received_string(key: &[u8], buffer: Vec<u8>, start: usize, deadline: Option<UnixMs>) -> Entry {
        assert!(start <= buffer.len());
        Entry::big(key, Big { bytes: buffer, start }, deadline)
    }

    fn big(key: &[u8], big: Big, deadline: Option<UnixMs>) -> Entry {
        let e = Entry::allocate(KIND_BIG, key, POINTER, deadline);
        e.store_pointer(Box::into_raw(Box::new(big)).cast());
        e
    }

    pub fn object(key: &[u8], object: Object, deadline: Option<UnixMs>) -> Entry {
        let e = Entry::allocate(KIND_OBJECT, key, POINTER, deadline);
        if matches!(&object, Object::Hash(h) if h.is_volatile()) {
            e.mark_fields();
        }
        e.store_pointer(Box::into_raw(Box::new(object)).cast());
        e
    }

    fn allocate(kind: u8, key: &[u8], value: usize, deadline: Option<UnixMs>) -> Entry {
        let shape = Shape { kind, deadline: deadline.is_some(), key: key.len(), value };
        let layout = shape.layout();
        // SAFETY: the size is at least HEADER, so not zero.
        let p = unsafe { alloc(layout) };
        let Some(p) = NonNull::new(p) else { handle_alloc_error(layout) };
        let e = Entry(p);
        e.write_head(&shape, key, deadline);
        e
    }

    fn write_head(&self, shape: &Shape, key: &[u8], deadline: Option<UnixMs>) {
        let p = self.base();
        let long = shape.key >= KEY_LONG as usize;
        let vlen = if shape.kind == KIND_INLINE { shape.value as u16 } else { 0 };
        // SAFETY: the allocation has the shape's size; every offset written
        // lies below `value_at`. Unaligned writes where alignment is not known.
        unsafe {
            p.write(shape.kind | if shape.deadline { FLAG_DEADLINE } else { 0 });
            p.add(1).write(if long { KEY_LONG } else { shape.key as u8 });
            p.add(2).cast::<u16>().write(vlen);
            p.add(4).cast::<u32>().write(0);
            if let Some(d) = deadline {
                p.add(HEADER).cast::<u64>().write(d);
            }
            if long {
                p.add(shape.key_at() - 4).cast::<u32>().write_unaligned(shape.key as u32);
            }
            std::ptr::copy_nonoverlapping(key.as_ptr(), p.add(shape.key_at()), shape.key);
        }
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        // SAFETY: `at` is below HEADER at every call.
        unsafe { *self.base().add(at) }
    }

    #[inline]
    fn kind(&self) -> u8 {
        self.byte(0) & KIND_MASK
    }

    #[inline]
    fn has_deadline(&self) -> bool {
        self.byte(0) & FLAG_DEADLINE != 0
    }

    #[inline]
    fn inline_len(&self) -> usize {
        // SAFETY: the header is initialised and 8-aligned.
        unsafe { self.base().add(2).cast::<u16>().read() as usize }
    }

    #[inline]
    fn shape(&self) -> Shape {
        let kind = self.kind();
        let deadline = self.has_deadline();
        let mut key = self.byte(1) as usize;
        if key == KEY_LONG as usize {
            let at = HEADER + if deadline { 8 } else { 0 };
            // SAFETY: a long key's length precedes it.
            key = unsafe { self.base().add(at).cast::<u32>().read_unaligned() as usize };
        }
        let value = if kind == KIND_INLINE { self.inline_len() } else { POINTER };
        Shape { kind, deadline, key, value }
    }

    #[inline]
    fn value_ptr(&self) -> *mut u8 {
        // SAFETY: `value_at` is within the allocation (or one past its end for an empty value).
        unsafe { self.base().add(self.shape().value_at()) }
    }

    fn store_pointer(&self, target: *mut u8) {
        // SAFETY: entries of the boxed kinds have POINTER bytes at `value_ptr`.
        unsafe { self.value_ptr().cast::<*mut u8>().write_unaligned(target) }
    }

    fn load_pointer(&self) -> *mut u8 {
        debug_assert_ne!(self.kind(), KIND_INLINE);
        // SAFETY: as in `store_pointer`, which initialised it.
        unsafe { self.value_ptr().cast::<*mut u8>().read_unaligned() }
    }

    /// Address for prefetching.
    #[inline]
    pub fn address(&self) -> *const u8 {
        self.base()
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        let s = self.shape();
        // SAFETY: the key's bytes stand at `key_at`.
        unsafe { std::slice::from_raw_parts(self.base().add(s.key_at()), s.key) }
    }

    /// The hash of the entry's key.
    pub fn hash(&self) -> u64 {
        hash_key(self.key())
    }

    /// Is this the entry's key? Without a call for keys of 8 to 32 bytes.
    #[inline]
    pub fn has_key(&self, key: &[u8]) -> bool {
        let own = self.key();
        let n = own.len();
        if n != key.len() {
            return false;
        }
        let word = |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap_or_default());
        match n {
            8..=16 => word(own, 0) == word(key, 0) && word(own, n - 8) == word(key, n - 8),
            17..=32 => {
                let halves = word(own, 0) == word(key, 0) && word(own, 8) == word(key, 8);
                halves && word(own, n - 16) == word(key, n - 16) && word(own, n - 8) == word(key, n - 8)
            }
            _ => own == key,
        }
    }

    #[inline]
    pub fn deadline(&self) -> Option<UnixMs> {
        // SAFETY: with the flag set, eight aligned bytes follow the header.
        self.has_deadline().then(|| unsafe { self.base().add(HEADER).cast::<u64>().read() })
    }

    /// Can time change the entry: has it a deadline, or may its fields have?
    #[inline]
    pub fn volatile(&self) -> bool {
        self.byte(0) & (FLAG_DEADLINE | FLAG_FIELDS) != 0
    }

    /// Is the entry gone at `now`: past its deadline, or with all its fields
    /// past theirs?
    #[inline]
    pub fn expired(&self, now: UnixMs) -> bool {
        self.volatile() && (self.deadline().is_some_and(|d| d <= now) || self.without_fields(now))
    }

    /// Are all fields past their deadlines?
    fn without_fields(&self, now: UnixMs) -> bool {
        self.volatile_hash().and_then(Hash::end).is_some_and(|d| d <= now)
    }

    /// The hash, if its fields may have deadlines.
    #[inline]
    pub fn volatile_hash(&self) -> Option<&Hash> {
        if self.byte(0) & FLAG_FIELDS == 0 {
            return None;
        }
        match self.as_object() {
            Some(Object::Hash(h)) => Some(h),
            _ => None,
        }
    }

    pub fn volatile_hash_mut(&mut self) -> Option<&mut Hash> {
        if self.byte(0) & FLAG_FIELDS == 0 {
            return None;
        }
        match self.as_object_mut() {
            Some(Object::Hash(h)) => Some(h),
            _ => None,
        }
    }

    /// Fields of the entry's hash have deadlines from now on.
    pub(super) fn mark_fields(&self) {
        debug_assert_eq!(self.kind(), KIND_OBJECT);
        // SAFETY: the flags byte; entries are never shared between threads.
        unsafe { self.base().write(self.byte(0) | FLAG_FIELDS) };
    }

    /// The snapshot's mark, from 0 to 3.
    #[inline]
    pub(super) fn mark(&self) -> u8 {
        self.byte(0) >> MARK_SHIFT
    }

    pub(super) fn set_mark(&self, mark: u8) {
        debug_assert!(mark <= MARK >> MARK_SHIFT);
        // SAFETY: the flags byte; entries are never shared between threads.
        unsafe { self.base().write(self.byte(0) & !MARK | mark << MARK_SHIFT) };
    }

    /// What stands in an entry's place is marked as it was.
    #[inline]
    fn take_mark_of(&self, old: &Entry) {
        if old.mark() != 0 {
            self.set_mark(old.mark());
        }
    }

    /// Replaces the deadline. The caller keeps the expiry index in step.
    pub(super) fn set_deadline(&mut self, deadline: Option<UnixMs>) {
        if let (true, Some(d)) = (self.has_deadline(), deadline) {
            // SAFETY: as in `deadline`.
            unsafe { self.base().add(HEADER).cast::<u64>().write(d) };
            return;
        }
        if self.has_deadline() == deadline.is_some() {
            return;
        }
        let fresh = self.reshaped(deadline);
        self.replace(fresh);
    }

    /// The same key and value (moved, not cloned) under a new deadline.
    fn reshaped(&mut self, deadline: Option<UnixMs>) -> Entry {
        let s = self.shape();
        let fresh = Entry::allocate(s.kind, self.key(), s.value, deadline);
        // SAFETY: both value areas have `s.value` bytes and are distinct; a
        // boxed pointer moves to `fresh`, and `forget_value` leaves `self` empty.
        unsafe { std::ptr::copy_nonoverlapping(self.value_ptr(), fresh.value_ptr(), s.value) };
        fresh.set_clock(self.clock());
        if self.raw() {
            fresh.set_raw(true);
        }
        if self.byte(0) & FLAG_FIELDS != 0 {
            fresh.mark_fields();
        }
        self.forget_value();
        fresh
    }

    /// Frees the allocation without dropping the boxed value, which has moved.
    fn forget_value(&mut self) {
        let s = self.shape();
        let mut fresh = Entry::allocate(KIND_INLINE, b"", 0, None);
        fresh.set_tag(self.tag());
        fresh.take_mark_of(self);
        let old = self.base();
        self.0 = fresh.0;
        std::mem::forget(fresh);
        // SAFETY: `old` was allocated with the layout of `s` and is not used again.
        unsafe { dealloc(old, s.layout()) };
    }

    #[inline]
    pub fn is_string(&self) -> bool {
        self.kind() <= KIND_BIG
    }

    #[inline]
    pub fn value(&self) -> Value<'_> {
        match self.as_object() {
            Some(o) => Value::Object(o),
            None => Value::Str(self.as_str().unwrap_or_default()),
        }
    }

    /// The bytes of a string.
    #[inline]
    pub fn as_str(&self) -> Option<&[u8]> {
        match self.kind() {
            // SAFETY: an inline value has `inline_len` bytes at `value_ptr`.
            KIND_INLINE => Some(unsafe { std::slice::from_raw_parts(self.value_ptr(), self.inline_len()) }),
            // SAFETY: the boxed string is owned by this entry.
            KIND_BIG => Some(unsafe { &*self.load_pointer().cast::<Big>() }.value()),
            _ => None,
        }
    }

    #[inline]
    pub fn as_object(&self) -> Option<&Object> {
        // SAFETY: the boxed object is owned by this entry.
        (self.kind() == KIND_OBJECT).then(|| unsafe { &*self.load_pointer().cast::<Object>() })
    }

    #[inline]
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        // SAFETY: the boxed object is owned by this entry, which is borrowed mutably.
        (self.kind() == KIND_OBJECT).then(|| unsafe { &mut *self.load_pointer().cast::<Object>() })
    }

    /// Replaces the value by a string; key, deadline and clock stay.
    #[inline]
    pub fn set_string(&mut self, value: &[u8]) {
        if self.kind() == KIND_INLINE && value.len() == self.inline_len() {
            // SAFETY: same length, and `value` is not in this entry (`&mut self`).
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), self.value_ptr(), value.len()) };
            self.set_raw(false);
        } else if self.kind() == KIND_INLINE && value.len() <= INLINE_MAX {
            self.resize_inline(value.len());
            // SAFETY: the value area now has `value.len()` bytes.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), self.value_ptr(), value.len()) };
            self.set_raw(false);
        } else {
            let fresh = Entry::string(self.key(), value, self.deadline());
            fresh.set_clock(self.clock());
            self.replace(fresh);
        }
    }

    /// Changes the length of an inline value, keeping its first bytes.
    fn resize_inline(&mut self, len: usize) {
        debug_assert!(self.kind() == KIND_INLINE && len <= INLINE_MAX);
        let s = self.shape();
        let size = s.value_at() + len;
        // SAFETY: allocated with `s.layout()`; the new size is not zero.
        let p = unsafe { realloc(self.base(), s.layout(), size) };
        let Some(p) = NonNull::new(p) else { handle_alloc_error(s.layout()) };
        let tag = self.tag();
        self.0 = p;
        self.set_tag(tag);
        // SAFETY: the header is aligned.
        unsafe { p.as_ptr().add(2).cast::<u16>().write(len as u16) };
    }

    /// Replaces the value by a string that is taken over.
    pub fn set_boxed_string(&mut self, value: Vec<u8>) {
        if value.len() <= INLINE_MAX {
            return self.set_string(&value);
        }
        let fresh = Entry::boxed_string(self.key(), value, self.deadline());
        fresh.set_clock(self.clock());
        self.replace(fresh);
    }

    /// Edits a string in place (APPEND, SETRANGE, SETBIT): grown to at least
    /// `len` bytes, new ones zero, then handed to `edit`. Marks it `raw`.
    /// Long strings grow geometrically.
    pub fn edit_string<R>(&mut self, len: usize, edit: impl FnOnce(&mut [u8]) -> R) -> R {
        debug_assert!(self.is_string());
        let old = self.as_str().map_or(0, <[u8]>::len);
        let len = len.max(old);
        if self.kind() == KIND_INLINE {
            if len <= INLINE_MAX {
                self.resize_inline(len);
                // SAFETY: the value area has `len` bytes, of which the first
                // `old` are initialised; the rest is zeroed here.
                let bytes = unsafe {
                    std::ptr::write_bytes(self.value_ptr().add(old), 0, len - old);
                    std::slice::from_raw_parts_mut(self.value_ptr(), len)
                };
                let r = edit(bytes);
                self.set_raw(true);
                return r;
            }
            // A new string has just the memory that it needs; only what grows
            // again gets some to spare.
            let spare = if old == 0 { 0 } else { len / 4 };
            let mut v = Vec::with_capacity(len + spare);
            v.extend_from_slice(self.as_str().unwrap_or_default());
            self.become_boxed(v);
        }
        // SAFETY: the boxed string is owned by this entry.
        let v = unsafe { &mut *self.load_pointer().cast::<Big>() }.bare();
        v.resize(len, 0);
        let r = edit(v);
        self.set_raw(true);
        r
    }

    /// Like [`Entry::set_boxed_string`], whatever the length.
    fn become_boxed(&mut self, value: Vec<u8>) {
        let fresh = Entry::boxed_string(self.key(), value, self.deadline());
        fresh.set_clock(self.clock());
        self.replace(fresh);
    }

    /// Takes an object out, leaving an empty string that is to be dropped.
    pub fn take_object(&mut self) -> Option<Object> {
        if self.kind() != KIND_OBJECT {
            return None;
        }
        // SAFETY: the pointer came from `Box::into_raw`; `forget_value` makes
        // sure that it is not freed again.
        let object = unsafe { Box::from_raw(self.load_pointer().cast::<Object>()) };
        self.forget_value();
        Some(*object)
    }

    /// Replaces the value by an object; key, deadline and clock stay.
    pub fn set_object(&mut self, object: Object) {
        let fresh = Entry::object(self.key(), object, self.deadline());
        fresh.set_clock(self.clock());
        self.replace(fresh);
    }

    /// The same value under another key (RENAME), without a deadline.
    pub fn renamed(mut self, key: &[u8]) -> Entry {
        let s = self.shape();
        let fresh = Entry::allocate(s.kind, key, s.value, None);
        // SAFETY: both value areas have `s.value` bytes; a boxed pointer moves.
        unsafe { std::ptr::copy_nonoverlapping(self.value_ptr(), fresh.value_ptr(), s.value) };
        fresh.set_clock(self.clock());
        if self.raw() {
            fresh.set_raw(true);
        }
        if self.byte(0) & FLAG_FIELDS != 0 {
            fresh.mark_fields();
        }
        self.forget_value();
        fresh
    }

    /// A deep copy under another key, without a deadline.
    pub fn copied(&self, key: &[u8]) -> Entry {
        match self.value() {
            Value::Str(s) => {
                let e = Entry::string(key, s, None);
                e.set_raw(self.raw());
                e
            }
            Value::Object(o) => Entry::object(key, o.clone(), None),
        }
    }

    /// Whether the string was edited in place.
    pub fn raw(&self) -> bool {
        self.byte(0) & FLAG_RAW != 0
    }

    /// Marks a string as one that was put together from others (BITOP).
    pub fn mark_raw(&mut self) {
        self.set_raw(true);
    }

    fn set_raw(&self, on: bool) {
        let flags = if on { self.byte(0) | FLAG_RAW } else { self.byte(0) & !FLAG_RAW };
        // SAFETY: the flags byte; entries are never shared between threads.
        unsafe { self.base().write(flags) };
    }

    /// The access clock.
    pub fn clock(&self) -> u32 {
        // SAFETY: an aligned header field.
        unsafe { self.base().add(4).cast::<u32>().read() }
    }

    #[inline]
    pub fn set_clock(&self, clock: u32) {
        // SAFETY: an aligned header field; entries are never shared between threads.
        unsafe { self.base().add(4).cast::<u32>().write(clock) };
    }

    /// Bytes of memory, the table's pointer excluded.
    pub fn memory(&self) -> usize {
        let value = match self.value() {
            Value::Str(_) if self.kind() == KIND_BIG => {
                // SAFETY: entries of this kind point to such a value.
                let big = unsafe { &*self.load_pointer().cast::<Big>() };
                block_size(big.bytes.capacity()) + block_size(size_of::<Big>())
            }
            Value::Str(_) => 0,
            Value::Object(o) => o.memory(),
        };
        block_size(self.shape().size()) + value
    }

    /// Moves the entry, and a string's bytes, if they lie where much is free; an
    /// object's memory is its own affair. Whoever holds the entry holds it still:
    /// only the address in it changes.
    pub fn relocate(&mut self, mover: &mut Mover) {
        let (tag, layout) = (self.tag(), self.shape().layout());
        // SAFETY: an entry's address is never null, and its block has this layout.
        let moved = unsafe { mover.block(NonNull::new_unchecked(self.base()), layout) };
        if let Some(moved) = moved {
            self.0 = moved;
            self.set_tag(tag);
        }
        match self.kind() {
            KIND_BIG => {
                // SAFETY: entries of this kind own such a box. Only its block's
                // address changes, which is put back in its place.
                let mut big = unsafe { Box::from_raw(self.load_pointer().cast::<Big>()) };
                mover.boxed(&mut big);
                if big.bytes.capacity() <= MOVED_MAX {
                    mover.vec(&mut big.bytes);
                }
                self.store_pointer(Box::into_raw(big).cast());
            }
            KIND_OBJECT => {
                // SAFETY: as above.
                let mut object = unsafe { Box::from_raw(self.load_pointer().cast::<Object>()) };
                mover.boxed(&mut object);
                self.store_pointer(Box::into_raw(object).cast());
            }
            _ => {}
        }
    }

    /// Number of allocations behind the value: the effort of freeing it.
    pub fn free_effort(&self) -> usize {
        self.as_object().map_or(1, Object::free_effort)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let s = self.shape();
        match s.kind {
            // SAFETY: the pointer came from `Box::into_raw` of this type and is owned.
            KIND_BIG => drop(unsafe { Box::from_raw(self.load_pointer().cast::<Big>()) }),
            // SAFETY: as above.
            KIND_OBJECT => drop(unsafe { Box::from_raw(self.load_pointer().cast::<Object>()) }),
            _ => {}
        }
        // SAFETY: allocated with this layout; nothing uses it afterwards.
        unsafe { dealloc(self.base(), s.layout()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_sizes_keep_key_value_and_deadline() {
        for klen in [0usize, 1, 16, 254, 255, 256, 5000] {
            for vlen in [0usize, 1, 44, 2048, 2049, 100_000] {
                let (k, v) = (vec![b'k'; klen], vec![b'v'; vlen]);
                let mut e = Entry::string(&k, &v, None);
                assert_eq!((e.key(), e.as_str().unwrap(), e.deadline()), (&k[..], &v[..], None));
                e.set_deadline(Some(77));
                assert_eq!((e.key(), e.as_str().unwrap(), e.deadline()), (&k[..], &v[..], Some(77)));
                e.set_deadline(Some(78));
                assert!(e.expired(78) && !e.expired(77));
                e.set_string(b"short");
                assert_eq!((e.key(), e.as_str().unwrap(), e.deadline()), (&k[..], &b"short"[..], Some(78)));
                e.set_string(&v);
                e.set_deadline(None);
                assert_eq!((e.key(), e.as_str().unwrap(), e.deadline()), (&k[..], &v[..], None));
                let e = e.renamed(b"other");
                assert_eq!((e.key(), e.as_str().unwrap()), (&b"other"[..], &v[..]));
            }
        }
    }

    #[test]
    fn moving_changes_nothing_but_the_place() {
        let object = Object::Set(crate::store::set::Set::default());
        for mut e in [
            Entry::string(b"key", b"value", None),
            Entry::string(&[b'k'; 300], b"", Some(9)),
            Entry::string(b"key", &[b'v'; 5000], Some(9)),
            Entry::object(b"key", object, None),
        ] {
            e.set_clock(77);
            e.set_tag(0xBEEF);
            e.set_mark(2);
            let (key, value, deadline) = (e.key().to_vec(), e.as_str().map(<[u8]>::to_vec), e.deadline());
            let (address, memory) = (e.address(), e.memory());
            let mut m = Mover::of_all();
            e.relocate(&mut m);
            assert!(e.address() != address && m.hits > 0);
            assert_eq!((e.key(), e.as_str(), e.deadline()), (&key[..], value.as_deref(), deadline));
            assert_eq!((e.clock(), e.tag(), e.mark(), e.memory()), (77, 0xBEEF, 2, memory));
            e.set_tag(0);
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        for n in 0..40usize {
            let key: Vec<u8> = (0..n as u8).collect();
            let e = Entry::string(&key, b"v", None);
            assert!(e.has_key(&key));
            assert!(!e.has_key(&[&key[..], b"x"].concat()));
            for i in 0..n {
                let mut other = key.clone();
                other[i] ^= 0x80;
                assert!(!e.has_key(&other), "byte {i} of {n}");
            }
        }
    }

    #[test]
    fn a_received_buffer_becomes_the_value() {
        let buffer = [&b"*3 head"[..], &[b'v'; 70_000]].concat();
        let mut e = Entry::received_string(b"k", buffer, 7, Some(9));
        assert_eq!(e.as_str().unwrap(), vec![b'v'; 70_000]);
        e.edit_string(70_001, |b| b[0] = b'w');
        assert_eq!((e.as_str().unwrap().len(), e.as_str().unwrap()[0]), (70_001, b'w'));
        e.set_string(b"short");
        assert_eq!((e.as_str().unwrap(), e.deadline()), (&b"short"[..], Some(9)));
    }

    #[test]
    fn edits_grow_with_zeros_and_mark_raw() {
        let mut e = Entry::string(b"k", b"ab", Some(5));
        assert!(!e.raw());
        e.edit_string(4, |b| b[3] = b'x');
        assert_eq!(e.as_str().unwrap(), b"ab\0x");
        assert!(e.raw());
        e.edit_string(5000, |b| b[4999] = b'y');
        assert_eq!(e.as_str().unwrap().len(), 5000);
        assert_eq!(&e.as_str().unwrap()[..4], b"ab\0x");
        assert_eq!(e.deadline(), Some(5));
        e.set_string(b"z");
        assert!(!e.raw());
    }
}
