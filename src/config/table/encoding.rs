//! Thresholds between the compact and the general encodings of values.

use super::number;
use crate::config::directive::Directive;

pub(super) static ROWS: &[Directive] = &[
    number!("hash-max-listpack-entries", 512, 0, i64::MAX, hash_max_listpack_entries).alias("hash-max-ziplist-entries"),
    number!("hash-max-listpack-value", 64, 0, i64::MAX, Memory, hash_max_listpack_value)
        .alias("hash-max-ziplist-value"),
    number!("list-max-listpack-size", -2, i32::MIN, i32::MAX, list_max_listpack_size).alias("list-max-ziplist-size"),
    number!("list-compress-depth", 0, 0, i32::MAX, internals.list_compress_depth).no_effect("lists are not compressed"),
    number!("set-max-intset-entries", 512, 0, i64::MAX, set_max_intset_entries),
    number!("set-max-listpack-entries", 128, 0, i64::MAX, set_max_listpack_entries),
    number!("set-max-listpack-value", 64, 0, i64::MAX, set_max_listpack_value),
    number!("zset-max-listpack-entries", 128, 0, i64::MAX, zset_max_listpack_entries).alias("zset-max-ziplist-entries"),
    number!("zset-max-listpack-value", 64, 0, i64::MAX, Memory, zset_max_listpack_value)
        .alias("zset-max-ziplist-value"),
    number!("hll-sparse-max-bytes", 3000, 0, i64::MAX, Memory, hll_sparse_max_bytes),
    number!("stream-node-max-bytes", 4096, 0, i64::MAX, Memory, stream_node_max_bytes),
    number!("stream-node-max-entries", 100, 0, i64::MAX, stream_node_max_entries),
];
