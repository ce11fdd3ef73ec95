//! Valkey 8 in both roles, and its files. Needs its server: `CORESLOT_VALKEY`
//! names it (`scripts/valkey` fetches Debian's).

use super::generate::Generator;
use super::interop::follows;
use super::servers::*;
use super::support::{Server, eventually};
use std::path::Path;

/// `CORESLOT_VALKEY`, or what is installed.
fn program() -> Option<String> {
    let named = std::env::var("CORESLOT_VALKEY").ok();
    let found = named.or_else(|| Some("/usr/bin/valkey-server".to_string()).filter(|p| Path::new(p).exists()));
    if found.is_none() {
        eprintln!("skipped: no valkey-server");
    }
    found
}

fn valkey(program: &str, args: &[&str]) -> Server {
    Server::other(Path::new(program), &[&["--repl-diskless-sync-delay", "0"], args].concat())
}

/// Commands of all types but scripts: some of their errors are two lines, which no
/// client of the protocol can read.
fn write_data(server: &Server, seed: u64, commands: usize) {
    let scripts = Generator::names().filter(|n| n.starts_with("EVAL") || n.starts_with("FCALL"));
    write_without(server, seed, commands, &scripts.map(str::to_owned).collect::<Vec<_>>());
}

#[test]
fn we_follow_valkey() {
    let Some(program) = program() else { return };
    for diskless in ["yes", "no"] {
        // By two channels, too, which it offers only to who asks.
        let primary =
            valkey(&program, &["--repl-diskless-sync", diskless, "--dual-channel-replication-enabled", "yes"]);
        let replica = ours(2, &[]);
        write_data(&primary, 1, 2000);
        replicate(&replica, primary.port);
        write_data(&primary, 2, 2000);
        wait_for_link(&replica);
        write_data(&primary, 3, 2000);
        wait_until_equal(&primary, &[&replica]);
        assert_eq!(count(&primary, "sync_full"), 1);
    }
}

#[test]
fn valkey_follows_us() {
    let Some(program) = program() else { return };
    for dual in ["no", "yes"] {
        follows(&ours(2, &[]), &valkey(&program, &["--dual-channel-replication-enabled", dual]));
    }
}

/// Valkey -> ours -> stock Redis 7.0, which could not follow Valkey itself: its
/// snapshots are of a later version. Then the middle is promoted.
#[test]
fn a_chain_from_valkey_to_redis() {
    let Some(program) = program() else { return };
    let (head, middle, tail) = (valkey(&program, &[]), ours(2, &[]), stock(&[]));
    write_plain(&mut head.wire(), 0, 1000);
    replicate(&middle, head.port);
    wait_for_link(&middle);
    replicate(&tail, middle.port);
    wait_for_link(&tail);
    write_plain(&mut head.wire(), 1000, 1000);
    wait_until_equal(&head, &[&middle, &tail]);
    assert_eq!(middle.wire().run("REPLICAOF NO ONE").as_text(), "OK");
    write_plain(&mut middle.wire(), 2000, 500);
    replicate(&head, middle.port);
    wait_for_link(&head);
    wait_for_link(&tail);
    write_plain(&mut middle.wire(), 2500, 500);
    wait_until_equal(&middle, &[&head, &tail]);
    assert_eq!(count(&middle, "sync_full"), 1, "after the promotion all were resumed");
}

/// FAILOVER to and fro; nothing is lost.
#[test]
fn roles_are_exchanged_with_valkey() {
    let Some(program) = program() else { return };
    let (a, b) = (ours(2, &[]), valkey(&program, &[]));
    replicate(&b, a.port);
    wait_for_link(&b);
    let mut sent = 0;
    for (from, to) in [(&a, &b), (&b, &a), (&a, &b)] {
        let mut wire = from.wire();
        write_plain(&mut wire, sent, 500);
        sent += 500;
        let order = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 30000", to.port);
        assert_eq!(wire.run(&order).as_text(), "OK");
        eventually("roles exchanged", LIMIT, || {
            info(to, "role").trim() == "master" && info(from, "role").trim() == "slave"
        });
        wait_for_link(from);
        wait_until_equal(to, &[from]);
        let lengths: i64 = (0..50).map(|i| to.wire().run(&format!("LLEN list:{i}")).as_int()).sum();
        assert_eq!(lengths, sent as i64);
    }
    assert_eq!(count(&a, "sync_full") + count(&b, "sync_full"), 1, "no switch needed a copy");
}

/// Each loads the append-only directory that the other has written, with bases
/// of both forms.
#[test]
fn files_go_to_and_fro() {
    let Some(program) = program() else { return };
    for preamble in ["yes", "no"] {
        let dir = std::env::temp_dir().join(format!("coreslot-valkey-{preamble}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let text = dir.to_str().expect("a plain path");
        let args = ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--dir", text];
        let mut digests = Vec::new();
        for round in 0..4 {
            let mut server = if round % 2 == 0 { valkey(&program, &args) } else { ours(2, &args) };
            let mut c = server.wire();
            digests.push(c.run("DEBUG DIGEST").as_text());
            write_plain(&mut c, round * 2000, 1000);
            assert!(!c.run("BGREWRITEAOF").is_error());
            eventually("the rewrite", LIMIT, || {
                c.run("INFO persistence").as_text().contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0")
            });
            write_plain(&mut c, round * 2000 + 1000, 1000);
            digests.push(c.run("DEBUG DIGEST").as_text());
            server.signal(libc::SIGTERM);
            assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{}", server.log());
        }
        let _ = std::fs::remove_dir_all(&dir);
        for pair in digests[1..7].chunks(2) {
            assert_eq!(pair[0], pair[1], "{digests:?}");
        }
    }
}
