//! Replication over TLS: ours with ours, and with stock servers in both roles.

use super::servers::{LIMIT, ours, replicate, stock, wait_for_link, wait_until_equal, write_some};
use super::support::certs::Certs;
use super::support::ports::Block;
use super::support::{Server, eventually, int, ok};

const PASSWORDS: [&str; 6] = ["--tls-replication", "yes", "--masteruser", "repl", "--masterauth", "secret"];

/// A server's arguments, with a TLS port of the block.
fn args(certs: &Certs, block: &Block) -> Vec<String> {
    certs.args(block.base, &PASSWORDS)
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The primary lets only one user replicate, and that over TLS.
fn follow(primary: &Server, primary_tls: u16, replica: &Server) {
    let mut c = primary.wire();
    assert_eq!(c.run("ACL SETUSER repl on >secret +psync +replconf +ping"), ok());
    write_some(primary, 11, 300);
    replicate(replica, primary_tls);
    wait_for_link(replica);
    write_some(primary, 12, 1000);
    assert_eq!(c.cmd(&["SET", "last", &"x".repeat(3_000_000)]), ok());
    assert_eq!(c.run("WAIT 1 60000"), int(1));
    wait_until_equal(primary, &[replica]);
}

#[test]
fn ours_follows_ours() {
    let certs = Certs::make("repl-ours");
    for cores in [1, 2] {
        let (a, b) = (Block::claim(), Block::claim());
        let primary = ours(cores, &words(&args(&certs, &a)));
        let replica = ours(cores, &words(&args(&certs, &b)));
        follow(&primary, a.base, &replica);
    }
}

#[test]
fn stock_follows_ours() {
    let certs = Certs::make("repl-stock");
    let (a, b) = (Block::claim(), Block::claim());
    let primary = ours(2, &words(&args(&certs, &a)));
    let replica = stock(&words(&args(&certs, &b)));
    follow(&primary, a.base, &replica);
}

#[test]
fn ours_follows_stock() {
    let certs = Certs::make("repl-of-stock");
    let (a, b) = (Block::claim(), Block::claim());
    let primary = stock(&words(&args(&certs, &a)));
    let replica = ours(2, &words(&args(&certs, &b)));
    follow(&primary, a.base, &replica);
}

/// A primary whose certificate nobody trusted has signed is not followed.
#[test]
fn a_stranger_is_not_followed() {
    let certs = Certs::make("repl-stranger");
    let (a, b) = (Block::claim(), Block::claim());
    let mut foreign = args(&certs, &a);
    let (cert, key) = (certs.path("stranger.crt"), certs.path("stranger.key"));
    foreign.extend(["--tls-cert-file".into(), cert, "--tls-key-file".into(), key]);
    let primary = ours(1, &words(&foreign));
    let replica = ours(1, &words(&args(&certs, &b)));
    replicate(&replica, a.base);
    eventually("the reason in the log", LIMIT, || replica.log().contains("TLS: invalid peer certificate"));
    assert!(replica.wire().run("INFO replication").as_text().contains("master_link_status:down"));
    drop(primary);
}

/// `tls-cluster yes` encrypts MIGRATE, ours to ours and to and from stock. In
/// plain it does not get in there, nor does a stranger's certificate.
#[test]
fn keys_migrate_over_tls() {
    let certs = Certs::make("migrate");
    let more = ["--tls-cluster", "yes"];
    let start = |ours_is: bool| {
        let block = Block::claim();
        let args = certs.args(block.base, &more);
        let server = if ours_is { ours(2, &words(&args)) } else { stock(&words(&args)) };
        (server, block)
    };
    for (from, to) in [(true, true), (true, false), (false, true)] {
        let ((source, _s), (target, t)) = (start(from), start(to));
        let (mut s, mut c) = (source.wire(), target.wire());
        let long = "x".repeat(1_000_000);
        s.cmd(&["MSET", "a", "1", "b", &long]);
        let port = t.base.to_string();
        let reply = s.cmd(&["MIGRATE", "127.0.0.1", &port, "", "0", "30000", "KEYS", "a", "b"]);
        assert_eq!(reply, ok(), "{from} {to}: {}", source.log());
        assert_eq!(c.run("GET b").as_text(), long);
        assert_eq!(s.run("DBSIZE"), int(0));
        // The target's plain port does not speak TLS.
        s.run("SET a 1");
        let reply = s.cmd(&["MIGRATE", "127.0.0.1", &target.port.to_string(), "a", "0", "1500"]);
        assert_eq!(reply.as_error(), "IOERR error or timeout connecting to the client");
        assert_eq!(s.run("DBSIZE"), int(1), "what was not taken stays");
    }
}
