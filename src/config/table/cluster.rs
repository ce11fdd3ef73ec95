//! Redis Cluster.

use super::{choice, flag, number, text};
use crate::config::directive::Directive;
use crate::config::words;

const NO_CLUSTER: &str = "cluster mode is not built yet";

pub(super) static ROWS: &[Directive] = &[
    flag!("cluster-enabled", false, cluster.enabled).immutable().later(NO_CLUSTER),
    text!("cluster-config-file", "nodes.conf", words::any_text, cluster.config_file).immutable().kept(NO_CLUSTER),
    number!("cluster-node-timeout", 15000, 0, i64::MAX, cluster.node_timeout_ms).kept(NO_CLUSTER),
    number!("cluster-ping-interval", 1000, 0, i64::MAX, cluster.ping_interval_ms).hidden().kept(NO_CLUSTER),
    number!("cluster-port", 0, 0, 65535, cluster.port).immutable().kept(NO_CLUSTER),
    text!("cluster-announce-ip", cluster.announce_ip).kept(NO_CLUSTER),
    text!("cluster-announce-hostname", "", true, words::hostname, cluster.announce_hostname).kept(NO_CLUSTER),
    text!("cluster-announce-human-nodename", cluster.announce_human_nodename).kept(NO_CLUSTER),
    number!("cluster-announce-port", 0, 0, 65535, cluster.announce_port).kept(NO_CLUSTER),
    number!("cluster-announce-tls-port", 0, 0, 65535, cluster.announce_tls_port).kept(NO_CLUSTER),
    number!("cluster-announce-bus-port", 0, 0, 65535, cluster.announce_bus_port).kept(NO_CLUSTER),
    choice!("cluster-preferred-endpoint-type", EndpointType::Ip, cluster.preferred_endpoint_type).kept(NO_CLUSTER),
    number!("cluster-replica-validity-factor", 10, 0, i32::MAX, cluster.replica_validity_factor)
        .alias("cluster-slave-validity-factor")
        .kept(NO_CLUSTER),
    flag!("cluster-replica-no-failover", false, cluster.replica_no_failover)
        .alias("cluster-slave-no-failover")
        .kept(NO_CLUSTER),
    number!("cluster-migration-barrier", 1, 0, i32::MAX, cluster.migration_barrier).kept(NO_CLUSTER),
    flag!("cluster-allow-replica-migration", true, cluster.allow_replica_migration).kept(NO_CLUSTER),
    flag!("cluster-require-full-coverage", true, cluster.require_full_coverage).kept(NO_CLUSTER),
    flag!("cluster-allow-reads-when-down", false, cluster.allow_reads_when_down).kept(NO_CLUSTER),
    flag!("cluster-allow-pubsubshard-when-down", true, cluster.allow_pubsubshard_when_down).kept(NO_CLUSTER),
    number!("cluster-link-sendbuf-limit", 0, 0, u64::MAX, Memory, cluster.link_sendbuf_limit).kept(NO_CLUSTER),
];
