//! The snapshot file and the append-only file.

use super::{choice, flag, list, number, text};
use crate::config::directive::Directive;
use crate::config::words;

pub(super) static ROWS: &[Directive] = &[
    list!("save", "3600 1 300 100 60 10000", true, words::parse_save, words::print_save, Some(words::save_lines)),
    list!("dir", ".", false, words::parse_dir, words::print_dir, Some(words::dir_lines)).protected().deny_loading(),
    text!("dbfilename", "dump.rdb", words::dbfilename, persistence.dbfilename).protected(),
    number!("rdb-version", 10, 10, 11, persistence.rdb_version)
        .help("version: the RDB version of snapshots, 10 (every Redis from 7.0 and every Valkey reads it) or 11."),
    flag!("rdbcompression", true, persistence.rdbcompression),
    flag!("rdbchecksum", true, persistence.rdbchecksum).immutable(),
    flag!("rdb-save-incremental-fsync", true, persistence.rdb_save_incremental_fsync),
    flag!("rdb-del-sync-files", false, persistence.rdb_del_sync_files),
    flag!("stop-writes-on-bgsave-error", true, persistence.stop_writes_on_bgsave_error),
    choice!("sanitize-dump-payload", SanitizeDump::No, persistence.sanitize_dump_payload),
    number!("rdb-key-save-delay", 0, i32::MIN, i32::MAX, persistence.rdb_key_save_delay_us).hidden(),
    number!("key-load-delay", 0, i32::MIN, i32::MAX, persistence.key_load_delay_us).hidden(),
    number!(
        "loading-process-events-interval-bytes",
        2 << 20,
        1024,
        i32::MAX,
        persistence.loading_process_events_interval_bytes
    )
    .hidden()
    .no_effect("data cores serve their clients all through loading"),
    flag!("appendonly", false, persistence.appendonly).deny_loading(),
    text!("appendfilename", "appendonly.aof", words::appendfilename, persistence.appendfilename).immutable(),
    text!("appenddirname", "appendonlydir", words::appenddirname, persistence.appenddirname).immutable(),
    choice!("appendfsync", AppendFsync::Everysec, persistence.appendfsync),
    flag!("no-appendfsync-on-rewrite", false, persistence.no_appendfsync_on_rewrite),
    number!("auto-aof-rewrite-percentage", 100, 0, i32::MAX, persistence.auto_aof_rewrite_percentage),
    number!("auto-aof-rewrite-min-size", 64 << 20, 0, i64::MAX, Memory, persistence.auto_aof_rewrite_min_size),
    flag!("aof-load-truncated", true, persistence.aof_load_truncated),
    flag!("aof-use-rdb-preamble", true, persistence.aof_use_rdb_preamble),
    flag!("aof-timestamp-enabled", false, persistence.aof_timestamp_enabled),
    flag!("aof-rewrite-incremental-fsync", true, persistence.aof_rewrite_incremental_fsync),
    flag!("aof-disable-auto-gc", false, persistence.aof_disable_auto_gc).hidden(),
];
