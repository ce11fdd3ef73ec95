//! What a bug leaves behind: an end, and a report of it in the log.

use super::support::{Server, bulk, ok};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Starts a server, lets `end` end it; how it ended, and its log.
fn crashed(args: &[&str], end: impl FnOnce(&Server)) -> (ExitStatus, String) {
    // The file that the test has standard output in, so that both show.
    let mut all = vec!["--cores", "4", "--logfile", "log"];
    all.extend(args);
    let mut server = Server::start(&all);
    server.may_crash();
    end(&server);
    let status = server.wait_exit(LIMIT);
    (status, server.log())
}

fn debug(command: &'static str) -> impl FnOnce(&Server) {
    move |server| {
        let mut c = server.wire();
        c.send(format!("DEBUG {command}\r\n"));
        c.expect_closed();
    }
}

/// The kernel takes rings apart some milliseconds after their process: a start at
/// once, as by a supervisor, waits until the ports are free.
#[test]
fn a_killed_server_can_be_started_again_at_once() {
    for cores in ["1", "4"] {
        for _ in 0..8 {
            let mut old = Server::start(&["--cores", cores]);
            assert_eq!(old.wire().run("SET k v"), ok());
            old.signal(libc::SIGKILL);
            old.wait_exit(LIMIT);
            let new = Server::start_in_place_of(&old, &["--cores", cores]);
            assert_eq!(new.wire().run("SET k v"), ok());
        }
    }
}

#[test]
fn a_bad_access_is_reported_with_its_stack() {
    let (status, log) = crashed(&[], debug("SEGFAULT"));
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
    assert!(log.contains("crashed by signal: 11, si_code: 2\nAccessing address: 0x"), "{log}");
    assert!(log.contains("\nThread: core-"), "{log}");
    let stack = log.split("------ STACK TRACE ------\n").nth(1).expect("a stack");
    assert!(stack.lines().filter(|l| l.contains("(+0x")).count() >= 5, "{log}");
    assert!(stack.ends_with("=== END OF THE CRASH REPORT ===\n"), "{log}");
}

#[test]
fn who_sent_the_signal_is_reported() {
    let (status, log) = crashed(&[], |server| server.signal(libc::SIGABRT));
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    let sender = format!("crashed by signal: 6, si_code: 0\nSent by PID: {}, UID: ", std::process::id());
    assert!(log.contains(&sender), "{log}");
}

#[test]
fn a_panic_on_one_core_ends_the_server() {
    let (status, log) = crashed(&[], debug("PANIC"));
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(log.contains("# Thread 'core-") && log.contains("src/server/commands/debug.rs"), "{log}");
    assert!(log.contains("asked for by DEBUG"), "{log}");
    assert!(log.contains("crashed by signal: 6"), "{log}");
}

#[test]
fn a_panic_may_be_an_exit() {
    let (status, log) = crashed(&["--use-exit-on-panic", "yes"], debug("PANIC"));
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("asked for by DEBUG") && !log.contains("crashed by signal"), "{log}");
    let (status, _) = crashed(&[], |server| {
        assert_eq!(server.wire().run("CONFIG SET use-exit-on-panic yes"), ok());
        debug("ASSERT")(server);
    });
    assert_eq!(status.code(), Some(1));
}

#[test]
fn reports_can_be_switched_off() {
    let (status, log) = crashed(&["--crash-log-enabled", "no"], debug("SEGFAULT"));
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
    assert!(!log.contains("crashed by signal"), "{log}");
    let (status, log) = crashed(&[], |server| {
        assert_eq!(server.wire().run("CONFIG SET crash-log-enabled no"), ok());
        assert_eq!(server.wire().run("CONFIG GET crash-log-enabled").items()[1], bulk("no"));
        debug("SEGFAULT")(server);
    });
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
    assert!(!log.contains("crashed by signal"), "{log}");
}
