//! The RDB format: what snapshot files, full synchronizations and DUMP
//! payloads consist of.
//!
//! | offset | what |
//! | --- | --- |
//! | 0 | `REDIS` and four decimal digits, the version |
//! | 9 | auxiliary fields ([`op::AUX`]: name, value), then functions |
//! | | per database: [`op::SELECT_DB`], [`op::RESIZE_DB`], key records |
//! | end | [`op::EOF`], CRC-64/Jones of all before it, 8 bytes little-endian (0: not checked) |
//!
//! A key record is `[expiry] [idle or frequency] type key value`.
//!
//! A *length* ([`write::length`]) takes 1, 2, 5 or 9 bytes; its first two bits
//! say how many, or that a specially encoded string follows: an integer of 1, 2
//! or 4 bytes, or LZF ([`lzf`]).
//!
//! [`encode`] and [`frame`] write; [`scan`] takes a file apart into records
//! without looking into values, and [`decode`] makes values of them.
//!
//! Read are versions 1 to 12 and 80 of Valkey, in all encodings but those
//! that belong to features this server does not have; they are refused.
//! Written are versions 10 (every Redis from 7.0 and every Valkey reads it) and
//! 11 (adds [`kind::SET_LISTPACK`] and [`kind::STREAM_3`]).
pub mod checksum;
pub mod decode;
pub mod encode;
pub mod frame;
mod legacy;
pub mod lzf;
pub mod read;
pub mod scan;
#[cfg(test)]
mod scan_tests;
mod stream;
#[cfg(test)]
mod tests;
pub mod write;

/// First bytes of a file.
pub const MAGIC: &[u8; 5] = b"REDIS";

/// Versions of payloads and files that are read.
pub const READABLE: [u32; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, VALKEY_VERSION];

/// The version of Valkey 9, whose files begin with its own magic.
pub const VALKEY_VERSION: u32 = 80;

/// The versions that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V10 = 10,
    V11 = 11,
}

/// Bytes that begin a record of a file.
pub mod op {
    /// Valkey 9: a slot being imported.
    pub const SLOT_IMPORT: u8 = 243;
    /// Redis 7.4, cluster mode: slot, keys, keys with a deadline (three lengths).
    pub const SLOT_INFO: u8 = 244;
    /// The source of a function library.
    pub const FUNCTION: u8 = 245;
    /// The same in a form that only release candidates of Redis 7.0 wrote.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// Data of a module that belongs to no key.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the last access of the next key (a length).
    pub const IDLE: u8 = 248;
    /// Access frequency of the next key (one byte).
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    /// Number of keys and of keys with a deadline (two lengths).
    pub const RESIZE_DB: u8 = 251;
    /// Deadline of the next key: Unix milliseconds, 8 bytes little-endian.
    pub const EXPIRE_MS: u8 = 252;
    /// The same in seconds, 4 bytes little-endian.
    pub const EXPIRE_S: u8 = 253;
    pub const SELECT_DB: u8 = 254;
    pub const EOF: u8 = 255;
}

/// Types of values.
pub mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    /// Scores as text.
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    /// Scores as 8-byte little-endian doubles.
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list of ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list of nodes, each a container ([`super::NODE_PLAIN`],
    /// [`super::NODE_PACKED`]) and a string.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// RDB 10.
    pub const STREAM_2: u8 = 19;
    /// RDB 11.
    pub const SET_LISTPACK: u8 = 20;
    /// RDB 11.
    pub const STREAM_3: u8 = 21;
    /// Redis 7.4 release candidates; in a file of Valkey 9: a hash whose
    /// fields have deadlines.
    pub const HASH_TTL_PRE_GA: u8 = 22;
    pub const HASH_LISTPACK_TTL_PRE_GA: u8 = 23;
    /// Redis 7.4: fields with deadlines.
    pub const HASH_TTL: u8 = 24;
    pub const HASH_LISTPACK_TTL: u8 = 25;
}

/// Container of a list node that is one huge element.
pub const NODE_PLAIN: u64 = 1;
/// Container of a list node that is a listpack.
pub const NODE_PACKED: u64 = 2;

/// The name of a type, as `redis-check-rdb` prints it.
pub fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 26] = [
        "string",
        "list-linked",
        "set-hashtable",
        "zset-v1",
        "hash-hashtable",
        "zset-v2",
        "module-pre-release",
        "module-value",
        "unknown",
        "hash-zipmap",
        "list-ziplist",
        "set-intset",
        "zset-ziplist",
        "hash-ziplist",
        "quicklist",
        "stream",
        "hash-listpack",
        "zset-listpack",
        "quicklist-v2",
        "stream-v2",
        "set-listpack",
        "stream-v3",
        "hash-hashtable-md-pre-release",
        "hash-listpack-md-pre-release",
        "hash-hashtable-md",
        "hash-listpack-md",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("unknown")
}

/// The name of the module type with this number: nine characters of six bits
/// each above the ten bits of its version.
pub fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).rev().map(|i| char::from(CHARACTERS[(id >> (10 + 6 * i)) as usize & 63])).collect()
}
