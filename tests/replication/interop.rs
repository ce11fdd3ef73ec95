//! Both roles with stock servers, and chains.

use std::time::Duration;

use super::proxy::Proxy;
use super::servers::*;
use super::support::{Server, eventually, int, ok};

/// Copies, streams and resumes: the same for every pair of servers.
pub fn follows(primary: &Server, replica: &Server) {
    write_some(primary, 1, 3000);
    let proxy = Proxy::to(primary.port);
    replicate(replica, proxy.port);
    write_some(primary, 2, 1500);
    wait_for_link(replica);
    write_some(primary, 3, 1500);
    wait_until_equal(primary, &[replica]);
    for seed in 4..7 {
        proxy.cut();
        write_some(primary, seed, 300);
        wait_for_link(replica);
        wait_until_equal(primary, &[replica]);
    }
    assert_eq!(count(primary, "sync_full"), 1, "links that were cut were resumed");
    assert!(count(primary, "sync_partial_ok") >= 3);
    assert_eq!(primary.wire().run("WAIT 1 30000"), int(1));
}

#[test]
fn stock_follows_us() {
    for cores in [1, 3] {
        follows(&ours(cores, &[]), &stock(&[]));
    }
}

#[test]
fn we_follow_stock() {
    for cores in [1, 3] {
        follows(&stock(&[]), &ours(cores, &[]));
    }
}

#[test]
fn we_follow_ourselves() {
    follows(&ours(2, &[]), &ours(3, &[]));
}

#[test]
fn all_ways_of_full_synchronization() {
    for (sync, load) in [("yes", "swapdb"), ("yes", "on-empty-db"), ("no", "disabled"), ("no", "swapdb")] {
        let primary = ours(2, &["--repl-diskless-sync", sync]);
        let replica = ours(2, &["--repl-diskless-load", load]);
        let third = stock(&["--repl-diskless-load", load]);
        write_some(&primary, 5, 2000);
        write_some(&replica, 6, 500);
        replicate(&replica, primary.port);
        replicate(&third, primary.port);
        wait_for_link(&replica);
        wait_for_link(&third);
        write_some(&primary, 7, 500);
        wait_until_equal(&primary, &[&replica, &third]);
    }
}

/// Copies are taken while everything is written to, of large collections too,
/// which are read in steps: what comes of copy and stream is what there is.
#[test]
fn copies_under_load_are_exact() {
    for sync in ["yes", "no"] {
        let primary = ours(3, &["--repl-diskless-sync", sync]);
        let mut wire = primary.wire();
        for batch in 0..20 {
            let members = |k: usize| (0..500).map(|i| format!("m{}", k * 500 + i)).collect::<Vec<_>>();
            for name in ["SADD large:set", "RPUSH large:list"] {
                let mut words: Vec<String> = name.split(' ').map(str::to_owned).collect();
                words.extend(members(batch));
                wire.cmd(&words);
            }
        }
        write_some(&primary, 40, 3000);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (one, two, three) = (ours(2, &[]), stock(&[]), ours(1, &["--repl-diskless-load", "swapdb"]));
        std::thread::scope(|scope| {
            for writer in 0..2u64 {
                let (primary, stop) = (&primary, &stop);
                scope.spawn(move || {
                    let (mut wire, mut n) = (primary.wire(), writer);
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        n += 1;
                        write_some(primary, 100 + n * 2, 50);
                        wire.run(&format!("SADD large:set x{n}"));
                        wire.run(&format!("SREM large:set m{n}"));
                        wire.run("LPUSH large:list head");
                        wire.run("RPOP large:list");
                        wire.run("INCR exact");
                    }
                });
            }
            for replica in [&one, &two, &three] {
                replicate(replica, primary.port);
                wait_for_link(replica);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        wait_until_equal(&primary, &[&one, &two, &three]);
        assert_eq!(one.wire().run("GET exact"), primary.wire().run("GET exact"));
    }
}

#[test]
fn stock_copies_from_disk_to_us() {
    let primary = stock(&["--repl-diskless-sync", "no"]);
    let replica = ours(2, &[]);
    write_some(&primary, 8, 2000);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    write_some(&primary, 9, 500);
    wait_until_equal(&primary, &[&replica]);
}

/// stock -> ours -> stock and ours; then the middle is promoted, and the old
/// head follows it without another copy.
/// The file that was only for replicas is deleted, not the one that somebody wanted
/// afterwards.
#[test]
fn only_what_was_written_for_replicas_is_deleted() {
    let (primary, replica) = (ours(2, &["--repl-diskless-sync", "no", "--rdb-del-sync-files", "yes"]), ours(1, &[]));
    write_some(&primary, 10, 100);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    let file = primary.dir().join("dump.rdb");
    eventually("it is deleted", LIMIT, || !file.exists());
    assert_eq!(primary.wire().run("SAVE"), ok());
    std::thread::sleep(Duration::from_millis(500));
    assert!(file.exists());
}

#[test]
fn a_chain_whose_middle_is_promoted() {
    let head = stock(&[]);
    let middle = ours(2, &[]);
    let tails = [stock(&[]), ours(1, &[])];
    write_some(&head, 10, 1000);
    replicate(&middle, head.port);
    wait_for_link(&middle);
    for tail in &tails {
        replicate(tail, middle.port);
        wait_for_link(tail);
    }
    write_some(&head, 11, 1000);
    wait_until_equal(&head, &[&middle, &tails[0], &tails[1]]);
    let copies = count(&middle, "sync_full");

    assert_eq!(middle.wire().run("REPLICAOF NO ONE").as_text(), "OK");
    write_some(&middle, 12, 500);
    for tail in &tails {
        wait_for_link(tail);
    }
    wait_until_equal(&middle, &[&tails[0], &tails[1]]);
    replicate(&head, middle.port);
    wait_for_link(&head);
    write_some(&middle, 13, 500);
    wait_until_equal(&middle, &[&head, &tails[0], &tails[1]]);
    assert_eq!(count(&middle, "sync_full"), copies, "after the promotion all were resumed");
}

/// Roles are exchanged by FAILOVER, to and fro, between ours and stock, while
/// a client writes: no acknowledged write is lost.
#[test]
fn failover_to_and_fro() {
    let (a, b) = (ours(2, &[]), stock(&[]));
    replicate(&b, a.port);
    wait_for_link(&b);
    let mut sent = 0;
    for (from, to) in [(&a, &b), (&b, &a), (&a, &b)] {
        let mut wire = from.wire();
        write_plain(&mut wire, sent, 500);
        sent += 500;
        let order = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 30000", to.port);
        assert_eq!(wire.run(&order).as_text(), "OK");
        super::support::eventually("roles exchanged", LIMIT, || {
            info(to, "role").trim() == "master" && info(from, "role").trim() == "slave"
        });
        wait_for_link(from);
        wait_until_equal(to, &[from]);
        let lengths: i64 = (0..50).map(|i| to.wire().run(&format!("LLEN list:{i}")).as_int()).sum();
        assert_eq!(lengths, sent as i64);
    }
}
