//! Replicas hold what their primary's eviction left, and evict nothing of
//! their own unless told to.

use super::servers::*;
use super::support::{Server, eventually, ok};

fn evicting(primary: &Server, replica: &Server) {
    replicate(replica, primary.port);
    wait_for_link(replica);
    let mut p = primary.wire();
    let limit = count(primary, "used_memory") + (3 << 20);
    p.run("CONFIG SET maxmemory-policy allkeys-lru");
    assert_eq!(p.run(&format!("CONFIG SET maxmemory {limit}")), ok());
    // Far too little, but it is the primary's business.
    assert_eq!(replica.wire().run("CONFIG SET maxmemory 1"), ok());
    let value = "x".repeat(1000);
    for i in 0..8000 {
        assert_eq!(p.run(&format!("SET key:{i} {value}")), ok());
    }
    assert!(count(primary, "evicted_keys") > 1000);
    wait_until_equal(primary, &[replica]);
    assert_eq!(count(replica, "evicted_keys"), 0);
    assert!(p.run("DBSIZE").as_int() > 500);
}

#[test]
fn evictions_reach_replicas() {
    evicting(&ours(1, &[]), &ours(2, &[]));
    evicting(&ours(4, &[]), &stock(&[]));
    evicting(&stock(&[]), &ours(3, &[]));
}

#[test]
fn a_replica_that_heeds_its_own_limit_evicts() {
    let (primary, replica) = (ours(2, &[]), ours(2, &["--replica-ignore-maxmemory", "no"]));
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    primary.wire().run("SET a 1");
    wait_until_equal(&primary, &[&replica]);
    let mut r = replica.wire();
    r.run("CONFIG SET maxmemory-policy allkeys-random");
    r.run("CONFIG SET maxmemory 1");
    eventually("an eviction", LIMIT, || count(&replica, "evicted_keys") == 1);
}
