//! `repl-backlog-disk-size`: a replica that was away for longer than the backlog
//! in memory reaches goes on from the disk.

use super::proxy::Proxy;
use super::servers::*;
use super::support::process::own_mounts;
use super::support::{Server, Wire, eventually, ok};

const SMALL: [&str; 4] = ["--repl-backlog-size", "1mb", "--repl-backlog-disk-size", "64mb"];

/// So many values of 100 kB, over few keys.
fn write_much(wire: &mut Wire, values: usize) {
    let value = "v".repeat(100_000);
    for i in 0..values {
        assert_eq!(wire.cmd(&["SET", &format!("k{}", i % 10), &value]), ok());
        assert!(!wire.cmd(&["RPUSH", "order", &i.to_string()]).is_error());
    }
}

fn syncs(server: &Server) -> (u64, u64) {
    (count(server, "sync_full"), count(server, "sync_partial_ok"))
}

/// A link down for 30 MB of writes: what the backlog lost is on disk. Down for
/// more than the disk holds, there has to be a copy.
#[test]
fn a_replica_that_was_away_goes_on_from_the_disk() {
    for relaying in [false, true] {
        let top = ours(2, &SMALL);
        let middle = relaying.then(|| ours(1, &SMALL));
        if let Some(m) = &middle {
            replicate(m, top.port);
            wait_for_link(m);
        }
        let primary = middle.as_ref().unwrap_or(&top);
        let replica = stock(&[]);
        let proxy = Proxy::to(primary.port);
        replicate(&replica, proxy.port);
        wait_for_link(&replica);
        let mut wire = top.wire();
        write_much(&mut wire, 10);
        wait_until_equal(&top, &[&replica]);
        proxy.refuse(true);
        proxy.cut();
        write_much(&mut wire, 300);
        eventually("the disk has it", LIMIT, || count(primary, "repl_backlog_disk_histlen") > 25 << 20);
        assert!(count(primary, "mem_total_replication_buffers") < 16 << 20, "memory stays small");
        assert_eq!(count(primary, "repl_backlog_disk_size"), 64 << 20);
        proxy.refuse(false);
        wait_for_link(&replica);
        wait_until_equal(&top, &[&replica]);
        assert_eq!(syncs(primary), (1, 1), "{}", primary.log());

        proxy.refuse(true);
        proxy.cut();
        // A disk that falls back by 64 MB begins anew: let it follow.
        for _ in 0..9 {
            write_much(&mut wire, 100);
            eventually("the disk follows", LIMIT, || {
                count(primary, "master_repl_offset") == count(&top, "master_repl_offset")
                    && count(primary, "mem_total_replication_buffers") < 16 << 20
            });
        }
        eventually("the ring is full", LIMIT, || count(primary, "repl_backlog_disk_histlen") >= 63 << 20);
        proxy.refuse(false);
        wait_for_link(&replica);
        wait_until_equal(&top, &[&replica]);
        assert_eq!(syncs(primary), (2, 1), "{}", primary.log());
        let mut files = std::fs::read_dir(primary.dir()).unwrap().flatten();
        assert!(!files.any(|f| f.file_name().to_string_lossy().contains("backlog")), "the file has no name");
    }
}

/// A replica that stands still for longer than its limit of output allows is
/// not dropped, and costs no memory; then it reads from the disk.
#[test]
fn a_replica_that_stands_still_reads_from_the_disk() {
    let primary = ours(2, &[&SMALL[..], &["--client-output-buffer-limit", "replica 4mb 2mb 1"]].concat());
    let replica = stock(&[]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    let mut wire = primary.wire();
    replica.signal(libc::SIGSTOP);
    for _ in 0..4 {
        write_much(&mut wire, 100);
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    eventually("the disk has it", LIMIT, || count(&primary, "repl_backlog_disk_histlen") > 20 << 20);
    assert!(count(&primary, "mem_total_replication_buffers") < 16 << 20, "memory stays small");
    replica.signal(libc::SIGCONT);
    wait_until_equal(&primary, &[&replica]);
    assert_eq!(syncs(&primary).0, 1, "{}", primary.log());
}

/// Without the directive the same replica needs a copy; and it can be set and
/// taken back at any time.
#[test]
fn the_disk_is_set_at_run_time() {
    let primary = ours(1, &["--repl-backlog-size", "1mb"]);
    let replica = ours(1, &[]);
    let proxy = Proxy::to(primary.port);
    replicate(&replica, proxy.port);
    wait_for_link(&replica);
    let mut wire = primary.wire();
    let away = |wire: &mut Wire| {
        wait_until_equal(&primary, &[&replica]);
        proxy.refuse(true);
        proxy.cut();
        eventually("the link is down", LIMIT, || count(&primary, "connected_slaves") == 0);
        write_much(wire, 100);
        proxy.refuse(false);
        wait_for_link(&replica);
        wait_until_equal(&primary, &[&replica]);
    };
    away(&mut wire);
    assert_eq!(syncs(&primary), (2, 0));
    assert_eq!(wire.run("CONFIG SET repl-backlog-disk-size 32mb"), ok());
    eventually("the file is open", LIMIT, || {
        std::fs::read_dir(format!("/proc/{}/fd", primary.pid()))
            .unwrap()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|p| p.to_string_lossy().contains("temp-repl-backlog")))
    });
    away(&mut wire);
    assert_eq!(syncs(&primary), (2, 1), "{}", primary.log());
    assert_eq!(wire.run("CONFIG SET repl-backlog-disk-size 0"), ok());
    eventually("it is gone", LIMIT, || count(&primary, "repl_backlog_histlen") < 4 << 20);
    away(&mut wire);
    assert_eq!(syncs(&primary), (3, 1));
}

/// No room for the file: one line in the log, and the backlog goes on as it
/// does without.
#[test]
fn a_disk_that_is_full_is_given_up() {
    let dir = std::env::temp_dir().join(format!("coreslot-full-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make the directory");
    let mount = format!("mount -t tmpfs -o size=2m tmpfs {0} && cd {0} && exec \"$@\"", dir.display());
    let wrapper = ["unshare", own_mounts(), "sh", "-c", &mount, "sh"];
    let probe = [&wrapper[1..], &["true"]].concat();
    if !std::process::Command::new("unshare").args(probe).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: no mount namespaces here");
        return;
    }
    let args = ["--cores", "1", "--dir", dir.to_str().expect("a plain path"), "--repl-diskless-sync-delay", "0"];
    let primary = Server::start_under(&wrapper, &[&args[..], &SMALL[..]].concat());
    let replica = stock(&[]);
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    let mut wire = primary.wire();
    write_much(&mut wire, 100);
    eventually("it is given up", LIMIT, || primary.log().contains("the backlog goes on in memory alone"));
    write_much(&mut wire, 100);
    wait_until_equal(&primary, &[&replica]);
    assert_eq!(primary.log().matches("the backlog goes on in memory alone").count(), 1);
    assert_eq!(syncs(&primary).0, 1);
    let _ = std::fs::remove_dir_all(&dir);
}
