//! Commands over connections and the server, a file per family.
pub mod acl;
pub mod acl_log;
pub mod auth;
pub mod client;
pub mod client_list;
pub mod cluster;
pub mod cluster_admin;
pub mod command;
mod command_docs;
mod command_history;
pub mod config;
pub mod connection;
pub mod containers;
pub mod cores;
pub mod debug;
pub mod functions;
pub mod info;
pub mod info_text;
pub mod latency;
pub mod latency_text;
pub mod lolwut;
pub mod memory;
pub mod migrate;
pub mod module;
pub mod monitor;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod scripting;
pub mod server_time;
pub mod slowlog;
pub mod tracking;
pub mod transactions;

use super::registry::ConnCommand;

/// The rows of all families.
pub fn families() -> Vec<&'static [ConnCommand]> {
    vec![
        acl::ROWS,
        auth::ROWS,
        client::ROWS,
        cluster::ROWS,
        cluster_admin::ROWS,
        command::ROWS,
        config::ROWS,
        connection::ROWS,
        containers::ROWS,
        cores::ROWS,
        debug::ROWS,
        functions::ROWS,
        info::ROWS,
        latency::ROWS,
        lolwut::ROWS,
        module::ROWS,
        memory::ROWS,
        migrate::ROWS,
        monitor::ROWS,
        persistence::ROWS,
        pubsub::ROWS,
        replication::ROWS,
        scripting::ROWS,
        server_time::ROWS,
        slowlog::ROWS,
        transactions::ROWS,
    ]
}
