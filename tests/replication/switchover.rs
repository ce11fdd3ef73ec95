//! Planned switchover (FAILOVER) while clients write to several cores.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::servers::*;
use super::support::{Server, Wire, eventually};

/// The longest that a client may have gone without an acknowledged write. On a
/// quiet machine it is some ten milliseconds; the aim is one second.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What a client saw: the numbers acknowledged, and the longest time between
/// two of them.
struct Seen {
    acknowledged: Vec<u64>,
    pause: Duration,
}

/// Writes one number after the other, to whichever server takes it. One that
/// was refused is tried at the other; of one whose reply never came nothing is
/// known, and the next is taken.
fn write_on(ports: [u16; 2], list: &str, stop: &AtomicBool) -> Seen {
    let mut seen = Seen { acknowledged: Vec::new(), pause: Duration::ZERO };
    let (mut at, mut wire, mut n) = (0, Wire::connect(ports[0]), 0u64);
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let sent = wire.try_send(super::support::wire::encode(&["RPUSH", list, &n.to_string()]));
        match sent.and_then(|()| wire.try_read()) {
            Ok(reply) if !reply.is_error() => {
                seen.acknowledged.push(n);
                seen.pause = seen.pause.max(last.elapsed());
                last = Instant::now();
                n += 1;
            }
            refused => {
                n += u64::from(refused.is_err());
                at = 1 - at;
                wire = Wire::connect(ports[at]);
            }
        }
    }
    seen
}

fn switch(from: &Server, to: &Server) {
    let order = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 30000", to.port);
    assert_eq!(from.wire().run(&order).as_text(), "OK");
    eventually("roles exchanged", LIMIT, || {
        info(to, "role").trim() == "master" && info(from, "role").trim() == "slave"
    });
    wait_for_link(from);
}

/// To a replica of ours and to a stock one, and back: nothing acknowledged is
/// lost, and the pause is short.
#[test]
fn a_switchover_loses_nothing_and_is_short() {
    for other in [ours(2, &[]), stock(&[])] {
        let first = ours(2, &[]);
        replicate(&other, first.port);
        wait_for_link(&other);
        let stop = AtomicBool::new(false);
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let end = StopAtEnd(&stop);
            let clients: Vec<_> = (0..6)
                .map(|i| {
                    let (ports, stop) = ([first.port, other.port], &stop);
                    scope.spawn(move || write_on(ports, &format!("numbers:{i}"), stop))
                })
                .collect();
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(200));
                switch(&first, &other);
                std::thread::sleep(Duration::from_millis(200));
                switch(&other, &first);
            }
            std::thread::sleep(Duration::from_millis(200));
            drop(end);
            clients.into_iter().map(|c| c.join().expect("a client")).collect()
        });
        wait_until_equal(&first, &[&other]);
        for (i, seen) in seen.iter().enumerate() {
            let kept = first.wire().run(&format!("LRANGE numbers:{i} 0 -1"));
            let kept: Vec<u64> = kept.items().iter().map(|v| v.as_text().parse().expect("a number")).collect();
            assert!(kept.is_sorted(), "client {i}: out of order, or twice");
            let lost: Vec<u64> = seen.acknowledged.iter().filter(|n| kept.binary_search(n).is_err()).copied().collect();
            assert!(lost.is_empty(), "client {i} of {} lost {lost:?}", seen.acknowledged.len());
            assert!(seen.acknowledged.len() > 20);
        }
        let pause = seen.iter().map(|s| s.pause).max().unwrap_or_default();
        eprintln!("longest pause {pause:?}");
        assert!(pause < PAUSE_MAX, "{pause:?}");
        assert_eq!(count(&first, "sync_full") + count(&other, "sync_full"), 1, "no switch needed a copy");
    }
}

/// A target that lacks something is waited for, however long: it would begin
/// without what clients were told is written.
#[test]
fn a_target_that_lags_is_waited_for() {
    let (first, other) = (ours(2, &[]), ours(2, &[]));
    replicate(&other, first.port);
    wait_for_link(&other);
    let mut c = first.wire();
    c.run("RPUSH list before");
    wait_until_equal(&first, &[&other]);
    other.signal(libc::SIGSTOP);
    for i in 0..1000 {
        c.run(&format!("RPUSH list {i}"));
    }
    assert_eq!(c.run("FAILOVER").as_text(), "OK");
    for _ in 0..20 {
        assert_eq!(info(&first, "master_failover_state").trim(), "waiting-for-sync");
        assert_eq!(info(&first, "role").trim(), "master");
        std::thread::sleep(Duration::from_millis(25));
    }
    other.signal(libc::SIGCONT);
    eventually("roles exchanged", LIMIT, || info(&other, "role").trim() == "master");
    assert_eq!(other.wire().run("LLEN list").as_int(), 1001);
    wait_for_link(&first);
}

/// The configuration says what became of the roles: a restart from a rewritten file
/// would else exchange them again.
#[test]
fn the_configuration_follows_the_roles() {
    let (one, other) = (ours(2, &[]), ours(3, &[]));
    replicate(&other, one.port);
    wait_for_link(&other);
    let of = |server: &Server| server.wire().run("CONFIG GET replicaof").items()[1].as_text();
    assert_eq!((of(&one), of(&other)), (String::new(), format!("127.0.0.1 {}", one.port)));
    switch(&one, &other);
    wait_for_link(&one);
    assert_eq!((of(&one), of(&other)), (format!("127.0.0.1 {}", other.port), String::new()));
    switch(&other, &one);
    wait_for_link(&other);
    assert_eq!((of(&one), of(&other)), (String::new(), format!("127.0.0.1 {}", one.port)));
    // One that does not come about leaves them.
    other.signal(libc::SIGSTOP);
    one.wire().run("SET late 1");
    assert_eq!(one.wire().run(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 300", other.port)).as_text(), "OK");
    eventually("it is given up", LIMIT, || info(&one, "master_failover_state").trim() == "no-failover");
    other.signal(libc::SIGCONT);
    assert_eq!((of(&one), of(&other)), (String::new(), format!("127.0.0.1 {}", one.port)));
}
