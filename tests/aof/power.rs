//! Loss of power under `appendfsync everysec`: what is left of the files is what
//! their last flushes found ([`flaky`]), not what the page cache still had.

use super::flaky::{self, Left};
use super::harness::{Dir, LIMIT};
use super::support::{Server, Wire, eventually, ok};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the policy may lose: a second between two flushes, and the flush itself,
/// which on a busy machine takes its time.
const MAY_LOSE: Duration = Duration::from_secs(2);

const WRITERS: usize = 3;

/// What one writer was told: when each transaction was acknowledged, and how
/// many were on disk by WAITAOF's word.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Instant>,
    on_disk: usize,
}

/// Appends to a list that all share and to one of its own, which lie on two cores,
/// in a transaction. Now and then it asks what is on disk.
fn write(port: u16, id: usize, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let Ok(mut wire) = Wire::try_connect(port) else { return told };
    while !stop.load(Ordering::Relaxed) {
        let n = told.acknowledged.len();
        let transaction = format!("MULTI\r\nRPUSH order {id}:{n}\r\nRPUSH list:{id} {n}\r\nEXEC\r\n");
        if wire.try_send(&transaction).is_err() || (0..4).any(|_| wire.try_read().is_err()) {
            break;
        }
        told.acknowledged.push(Instant::now());
        if id == 0 && n % 20 == 19 {
            let asked = wire.try_send("WAITAOF 1 0 5000\r\n").is_ok();
            match wire.try_read().ok().filter(|_| asked) {
                Some(reply) if reply.items()[0].as_int() == 1 => told.on_disk = n + 1,
                Some(_) => {}
                None => break,
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    told
}

fn list(wire: &mut Wire, key: &str) -> Vec<String> {
    wire.run(&format!("LRANGE {key} 0 -1")).items().iter().map(|v| v.as_text()).collect()
}

fn restart(dir: &Path) -> Server {
    let place = dir.to_str().expect("a plain path");
    let mut server = Server::starting(&["--cores", "2", "--appendonly", "yes", "--dir", place]);
    let status = server.outcome(LIMIT);
    assert!(status.is_none(), "what is left in {place} does not load: {}", server.log());
    server
}

/// All lists say the same of the dataset: the shared one.
fn whole(dir: &Path) -> Vec<String> {
    let server = restart(dir);
    let mut c = server.wire();
    let order = list(&mut c, "order");
    for id in 0..WRITERS {
        let prefix = format!("{id}:");
        let own: Vec<&str> = order.iter().filter_map(|e| e.strip_prefix(&prefix)).collect();
        assert_eq!(list(&mut c, &format!("list:{id}")), own, "half a transaction of writer {id}");
        assert!(own.iter().enumerate().all(|(i, n)| *n == i.to_string()), "writer {id}: {own:?}");
    }
    order
}

/// Writes for a while, with something else beside it, and loses power.
fn lose_power(name: &str, args: &[&str], time: Duration, prepare: fn(&mut Wire), beside: fn(&mut Wire)) {
    let dir = Dir::new(name);
    let mount = dir.path().join("mount");
    let Some(mut server) = flaky::start(&mount, args) else { return };
    prepare(&mut server.wire());
    let (stop, port) = (AtomicBool::new(false), server.port);
    let (told, end) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|id| {
                scope.spawn({
                    let stop = &stop;
                    move || write(port, id, stop)
                })
            })
            .collect();
        std::thread::sleep(time / 2);
        beside(&mut server.wire());
        std::thread::sleep(time / 2);
        let end = Instant::now();
        // Before the next write to the file.
        flaky::crash_before(&mount, 1);
        eventually("the crash", LIMIT, || Left::Dark.dir(&mount).exists());
        server.wait_exit(LIMIT);
        stop.store(true, Ordering::Relaxed);
        (writers.into_iter().map(|w| w.join().expect("a writer")).collect::<Vec<Told>>(), end)
    });
    let (all, left) = (whole(&Left::Killed.dir(&mount)), whole(&Left::Dark.dir(&mount)));
    assert!(all.starts_with(&left), "what is left is no prefix: {} of {}", left.len(), all.len());
    for (id, told) in told.iter().enumerate() {
        let n = left.iter().filter(|e| e.starts_with(&format!("{id}:"))).count();
        let old = told.acknowledged.iter().filter(|t| end.saturating_duration_since(**t) > MAY_LOSE).count();
        assert!(old > 0, "writer {id} was too slow to show anything");
        assert!(n >= old, "writer {id}: {n} left of {old} that were acknowledged {MAY_LOSE:?} before");
        assert!(n >= told.on_disk, "writer {id}: {n} left of {} that WAITAOF called durable", told.on_disk);
    }
    assert!(told[0].on_disk > 0, "WAITAOF called nothing durable");
}

#[test]
fn everysec_loses_a_moment_at_the_end_and_nothing_else() {
    lose_power("dark", &[], Duration::from_millis(3600), |_| {}, |_| {});
}

/// While a base is being written, the dataset is in two incremental files: the
/// second is worth nothing unless the first is whole.
#[test]
fn everysec_leaves_no_gap_where_a_rewrite_begins_another_file() {
    let slowly = ["--rdb-key-save-delay", "200000"];
    let prepare = |wire: &mut Wire| {
        for i in 0..50 {
            assert_eq!(wire.run(&format!("SET old:{i} v")), ok());
        }
    };
    let rewrite = |wire: &mut Wire| assert!(!wire.run("BGREWRITEAOF").is_error());
    lose_power("dark-rewrite", &slowly, Duration::from_millis(4600), prepare, rewrite);
}

/// A flush takes its time, and what is written meanwhile goes with the next: WAITAOF
/// has to tell these apart.
#[test]
fn waitaof_counts_no_write_that_came_during_a_flush() {
    let dir = Dir::new("meanwhile");
    let mount = dir.path().join("mount");
    let Some(server) = flaky::start(&mount, &[]) else { return };
    flaky::slow_down(&mount, Duration::from_millis(700));
    let mut c = server.wire();
    for i in 0..3 {
        // The last flush was more than a second ago: this begins one.
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(c.run("SET first 1"), ok());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(c.run(&format!("SET k meanwhile:{i}:")), ok());
        assert_eq!(c.run("WAITAOF 1 0 30000").items()[0].as_int(), 1);
        let there = flaky::on_disk(&mount, format!("meanwhile:{i}:").as_bytes());
        assert!(there, "WAITAOF called durable what the flush did not find");
    }
}

/// Writes behind a rewrite's cut belong to the next file. When the file before it is
/// on disk, they are not.
#[test]
fn always_holds_replies_of_writes_behind_a_cut() {
    let dir = Dir::new("behind-cut");
    let mount = dir.path().join("mount");
    let Some(server) = flaky::start(&mount, &["--appendfsync", "always"]) else { return };
    let (mut c, mut other) = (server.wire(), server.wire());
    assert_eq!(c.run("SET before 1"), ok());
    // Cut and write are together in the buffer, and then not for a while.
    assert_eq!(c.run("DEBUG AOF-FLUSH-SLEEP 100000"), ok());
    for i in 0..8 {
        other.send_words("BGREWRITEAOF");
        std::thread::sleep(Duration::from_millis(3 * i));
        assert_eq!(c.run(&format!("SET k behind:{i}:")), ok());
        let there = flaky::on_disk(&mount, format!("behind:{i}:").as_bytes());
        assert!(there, "acknowledged and not on disk");
        other.read();
        let rewritten = || c.run("INFO persistence").as_text().contains("aof_rewrite_in_progress:0");
        eventually("the rewrite", LIMIT, rewritten);
    }
}

/// The last flush of `everysec` may be a second old when a server ends; one that was
/// told to leaves nothing to the page cache, whether or not it also saves.
#[test]
fn a_server_that_ends_in_order_leaves_all_on_disk() {
    for words in ["SHUTDOWN NOSAVE", "SHUTDOWN SAVE"] {
        let dir = Dir::new("end");
        let mount = dir.path().join("mount");
        let Some(mut server) = flaky::start(&mount, &["--appendfsync", "everysec"]) else { return };
        let mut wire = server.wire();
        assert_eq!(wire.run("SET first 1"), ok());
        // A flush has just been: the next is not due before the end.
        assert_eq!(wire.run("WAITAOF 1 0 60000").items()[0].as_int(), 1);
        assert_eq!(wire.run("RPUSH list the-last-write").as_int(), 1);
        wire.send_words(words);
        server.wait_exit(LIMIT);
        assert!(flaky::on_disk(&mount, b"the-last-write"), "{words}: {}", server.log());
    }
}
