//! Sockets, clients and who may connect.

use super::{choice, file_only, flag, list, number, text};
use crate::config::directive::Directive;
use crate::config::words;

const MB: i128 = 1 << 20;

pub(super) static ROWS: &[Directive] = &[
    list!("bind", "* -::*", words::parse_bind, words::print_bind),
    number!("port", 6379, 0, 65535, port),
    text!("unixsocket", unixsocket).immutable(),
    number!("unixsocketperm", 0, 0, 0o777, Octal, unixsocketperm).immutable(),
    number!("tcp-backlog", 511, 0, i32::MAX, tcp_backlog).immutable(),
    number!("timeout", 0, 0, i32::MAX, timeout_s),
    number!("tcp-keepalive", 300, 0, i32::MAX, tcp_keepalive_s),
    number!("maxclients", 10000, 1, u32::MAX, maxclients),
    flag!("protected-mode", true, protected_mode),
    number!("proto-max-bulk-len", 512 * MB, MB, i64::MAX, Memory, proto_max_bulk_len),
    number!("client-query-buffer-limit", 1024 * MB, MB, i64::MAX, Memory, client_query_buffer_limit),
    list!(
        "client-output-buffer-limit",
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        true,
        words::parse_output_limits,
        words::print_output_limits,
        Some(words::output_limit_lines)
    ),
    number!("client-default-resp", 2, 2, 3, client_default_resp).immutable().hidden(),
    number!("tracking-table-max-keys", 1_000_000, 0, i64::MAX, tracking_table_max_keys),
    number!("socket-mark-id", 0, 0, u32::MAX, internals.socket_mark_id).immutable().later("sockets are not marked"),
    text!("requirepass", "", true, words::password, requirepass).sensitive(),
    choice!("acl-pubsub-default", AclPubsubDefault::Resetchannels, acl_pubsub_default),
    number!("acllog-max-len", 128, 0, i64::MAX, acllog_max_len),
    text!("aclfile", "", words::any_text, internals.aclfile).immutable(),
    file_only!("user", 1, usize::MAX, words::add_user).sensitive(),
    file_only!("rename-command", 2, 2, words::add_rename),
    choice!("enable-debug-command", Guard::No, enable_debug_command).immutable(),
    choice!("enable-protected-configs", Guard::No, enable_protected_configs).immutable(),
    choice!("enable-module-command", Guard::No, enable_module_command).immutable(),
    file_only!("loadmodule", 1, usize::MAX, words::add_module).later("modules cannot be loaded"),
    number!("io-threads", 1, 1, 128, internals.io_threads)
        .immutable()
        .no_effect("data cores do their own input and output; see `cores`"),
    flag!("io-threads-do-reads", false, internals.io_threads_do_reads)
        .immutable()
        .no_effect("data cores do their own input and output; see `cores`"),
];
