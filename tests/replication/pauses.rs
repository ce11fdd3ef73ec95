//! Pauses of clients, of a failover and of a shutdown: none of them ends another.

use std::time::{Duration, Instant};

use super::servers::*;
use super::support::{Server, Wire, error, eventually, ok};

const QUIET: Duration = Duration::from_millis(300);

/// A primary that has begun to hand over to a replica that stands still.
fn failing_over(cores: usize) -> (Server, Server) {
    let (primary, replica) = (ours(cores, &[]), ours(1, &[]));
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    replica.signal(libc::SIGSTOP);
    let mut p = primary.wire();
    assert_eq!(p.run("SET before 1"), ok());
    assert_eq!(p.run(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 120000", replica.port)), ok());
    eventually("writes wait", LIMIT, || info(&primary, "master_failover_state").trim() == "waiting-for-sync");
    (primary, replica)
}

/// A write that waits as long as it is left alone.
fn held_write(server: &Server) -> Wire {
    let mut wire = server.wire();
    wire.send_words("SET held 1");
    wire.expect_silence(QUIET);
    wire
}

#[test]
fn what_a_failover_holds_clients_cannot_let_go() {
    for cores in [1, 3] {
        let (primary, replica) = failing_over(cores);
        let mut held = held_write(&primary);
        assert_eq!(primary.wire().run("CLIENT UNPAUSE"), ok());
        held.expect_silence(QUIET);
        held_write(&primary);
        replica.signal(libc::SIGCONT);
        eventually("the roles are exchanged", LIMIT, || info(&replica, "role").trim() == "master");
        assert!(held.read().is_error(), "a write that the new primary does not have");
        assert!(replica.wire().run("GET held").is_nil());
    }
}

#[test]
fn a_pause_of_clients_outlives_a_failover() {
    let (primary, replica) = failing_over(2);
    let mut p = primary.wire();
    assert_eq!(p.run("CLIENT PAUSE 100000 WRITE"), ok());
    assert_eq!(p.run("FAILOVER ABORT"), ok());
    let mut held = held_write(&primary);
    assert_eq!(p.run("CLIENT UNPAUSE"), ok());
    assert_eq!(held.read(), ok());
    replica.signal(libc::SIGCONT);
}

#[test]
fn a_pause_of_all_ends_in_a_failover_that_goes_on() {
    let (primary, replica) = failing_over(2);
    let mut held = held_write(&primary);
    let mut p = primary.wire();
    let begin = Instant::now();
    assert_eq!(p.run("CLIENT PAUSE 400 ALL"), ok());
    p.send_words("GET before");
    assert_eq!(p.read().as_text(), "1");
    assert!((Duration::from_millis(300)..Duration::from_secs(20)).contains(&begin.elapsed()));
    held.expect_silence(QUIET);
    assert_eq!(p.run("FAILOVER ABORT"), ok());
    assert_eq!(held.read(), ok());
    replica.signal(libc::SIGCONT);
}

#[test]
fn what_a_shutdown_holds_clients_cannot_let_go() {
    let primary = ours(2, &["--shutdown-timeout", "1000"]);
    let replica = ours(1, &[]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    replica.signal(libc::SIGSTOP);
    let (mut p, mut end) = (primary.wire(), primary.wire());
    assert_eq!(p.run("SET before 1"), ok());
    end.send_words("SHUTDOWN NOSAVE");
    eventually("it waits", LIMIT, || primary.log().contains("Waiting for replicas before shutting down"));
    let mut held = held_write(&primary);
    assert_eq!(p.run("CLIENT UNPAUSE"), ok());
    held.expect_silence(QUIET);
    assert_eq!(p.run("CLIENT PAUSE 100000 WRITE"), ok());
    assert_eq!(p.run("SHUTDOWN ABORT"), ok());
    assert_eq!(end.read(), error("ERR Errors trying to SHUTDOWN. Check logs."));
    held.expect_silence(QUIET);
    assert_eq!(p.run("CLIENT UNPAUSE"), ok());
    assert_eq!(held.read(), ok());
    replica.signal(libc::SIGCONT);
}

/// Who is to be a primary, or another's replica, is so at once.
#[test]
fn roles_change_under_a_pause_of_clients() {
    let (one, other) = (ours(1, &[]), ours(1, &[]));
    let replica = ours(2, &[]);
    replicate(&replica, one.port);
    wait_for_link(&replica);
    let (mut r, mut asks) = (replica.wire(), replica.wire());
    assert_eq!(r.run("CLIENT PAUSE 100000 WRITE"), ok());
    assert_eq!(one.wire().run("SET late 1"), ok());
    let begin = Instant::now();
    asks.send_words("REPLICAOF NO ONE");
    assert_eq!(r.run(&format!("REPLICAOF 127.0.0.1 {}", other.port)), ok());
    assert_eq!(asks.read(), ok());
    assert_eq!(r.run("REPLICAOF NO ONE"), ok());
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(info(&replica, "role").trim(), "master");
    held_write(&replica);
}
