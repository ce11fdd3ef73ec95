//! Of which place in the stream a dataset on disk is a state: the offset and the
//! database that a snapshot and the notes in an append-only file name.

use super::proxy::Proxy;
use super::restart::again;
use super::servers::*;
use super::support::{Server, Wire, eventually, ok};
use std::time::Duration;

const AOF: [&str; 2] = ["--appendonly", "yes"];

fn end(server: &mut Server, signal: i32) {
    server.signal(signal);
    server.wait_exit(LIMIT);
}

fn journal(server: &Server) -> String {
    let path = server.dir().join("appendonlydir");
    let list = std::fs::read_dir(&path).expect("the directory").flatten();
    let mut files: Vec<_> = list.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "aof")).collect();
    files.sort();
    String::from_utf8_lossy(&std::fs::read(files.last().expect("a file")).expect("the file")).into_owned()
}

fn in_db_5(server: &Server) -> Wire {
    let mut wire = server.wire();
    assert_eq!(wire.run("SELECT 5"), ok());
    wire
}

fn based(server: &Server) {
    eventually("its base", LIMIT, || {
        info(server, "aof_enabled").trim() == "1" && info(server, "aof_rewrite_in_progress").trim() == "0"
    });
}

/// The stream says SELECT once. A replica that goes on behind that has to know.
#[test]
fn a_replica_that_is_back_knows_its_database() {
    for primary in [stock(&[]), ours(2, &[])] {
        for (kept, signal) in
            [(&["--save", "3600 1000000"][..], libc::SIGTERM), (&AOF, libc::SIGTERM), (&AOF, libc::SIGKILL)]
        {
            let full = count(&primary, "sync_full");
            let of = format!("127.0.0.1 {}", primary.port);
            let args = [&["--replicaof", &of], kept].concat();
            let mut replica = ours(2, &args);
            wait_for_link(&replica);
            let mut wire = in_db_5(&primary);
            assert_eq!(wire.run("SET before 1"), ok());
            wait_until_equal(&primary, &[&replica]);
            if kept == AOF {
                based(&replica);
                assert!(wire.run("APPEND before 2").as_int() > 0);
                wait_until_equal(&primary, &[&replica]);
                eventually("a note", LIMIT, || journal(&replica).contains(":replica"));
            }
            end(&mut replica, signal);
            assert!(wire.run("APPEND after 1").as_int() > 0);
            let replica = again(&replica, 2, &args);
            wait_for_link(&replica);
            wait_until_equal(&primary, &[&replica]);
            assert_eq!(count(&primary, "sync_full"), full + 1, "{}", replica.log());
            replica.wire().run("REPLICAOF NO ONE");
        }
    }
}

/// A primary crashes; its replica, which had more of the stream than the primary's
/// disk, takes its place, and the primary comes back to follow it, within a stretch
/// of the stream that has no SELECT.
#[test]
fn a_former_primary_goes_on_in_the_database_of_its_stream() {
    for args in [&["--save", "3600 1000000"][..], &AOF] {
        let mut primary = ours(2, args);
        let replica = ours(2, &[]);
        replicate(&replica, primary.port);
        wait_for_link(&replica);
        let mut wire = in_db_5(&primary);
        assert_eq!(wire.run("SET before 1"), ok());
        if args == AOF {
            // Writes within a second of the last note have none behind them.
            let mut n = 1;
            eventually("a note behind the last write", LIMIT, || {
                n += 1;
                assert_eq!(wire.run(&format!("SET before {n:06}")), ok());
                std::thread::sleep(Duration::from_millis(400));
                let written = journal(&primary);
                let last = written.trim_end().lines().last();
                last.is_some_and(|l| l.starts_with("#REPL:")) && written.contains(&format!("\r\n{n:06}\r\n"))
            });
            assert_eq!(wire.run("DEBUG AOF-FLUSH-SLEEP 20000000"), ok());
            std::thread::sleep(Duration::from_millis(300));
        } else {
            assert_eq!(wire.run("SAVE"), ok());
        }
        assert_eq!(wire.run("SET after 1"), ok());
        wait_until_equal(&primary, &[&replica]);
        end(&mut primary, libc::SIGKILL);
        let left = if args == AOF { journal(&primary) } else { String::new() };
        assert_eq!(replica.wire().run("REPLICAOF NO ONE"), ok());
        assert_eq!(in_db_5(&replica).run("SET own 1"), ok());
        let of = format!("127.0.0.1 {}", replica.port);
        let former = again(&primary, 2, &[args, &["--replicaof", &of]].concat());
        wait_for_link(&former);
        wait_until_equal(&replica, &[&former]);
        assert_eq!(former.wire().run("DBSIZE").as_int(), 0, "database 0");
        let syncs = (count(&replica, "sync_full"), count(&replica, "sync_partial_ok"));
        assert_eq!(syncs, (0, 1), "{args:?}: {left}\n{}", former.log());
    }
}

/// What follows a note is more than the note says: nobody may go on from there with a
/// primary that was killed then, or he would lack it.
#[test]
fn a_note_that_something_follows_is_none() {
    let mut primary = ours(2, &AOF);
    let replica = ours(2, &[]);
    let proxy = Proxy::to(primary.port);
    replicate(&replica, proxy.port);
    wait_for_link(&replica);
    based(&primary);
    let mut wire = primary.wire();
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(wire.run("SET before 1"), ok());
    eventually("a note", LIMIT, || journal(&primary).contains("#REPL:"));
    wait_until_equal(&primary, &[&replica]);
    proxy.refuse(true);
    proxy.cut();
    assert_eq!(wire.run("SET after 1"), ok());
    eventually("it is written", LIMIT, || journal(&primary).contains("after"));
    end(&mut primary, libc::SIGKILL);
    let primary = again(&primary, 2, &AOF);
    proxy.refuse(false);
    wait_for_link(&replica);
    wait_until_equal(&primary, &[&replica]);
    assert_eq!(replica.wire().run("GET after").as_text(), "1");
}

/// A replica's note is true of the file before it, at every moment: all that the
/// primary sent up to there stands before it, and nothing else.
#[test]
fn a_note_stands_behind_all_that_it_covers() {
    let primary = ours(1, &["--repl-ping-replica-period", "3600"]);
    let of = format!("127.0.0.1 {}", primary.port);
    let replica = ours(4, &[&["--replicaof", &of][..], &AOF].concat());
    wait_for_link(&replica);
    based(&replica);
    let mut wire = primary.wire();
    let start = count(&primary, "master_repl_offset");
    assert_eq!(wire.run("SET k:00 000000"), ok());
    let select = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n".len() as u64;
    let length = count(&primary, "master_repl_offset") - start - select;
    for n in 1..20_000 {
        wire.send_words(&format!("SET k:{:02} {n:06}", n % 50));
        if n % 100 == 99 {
            (0..100).for_each(|i| assert!(n == 99 && i == 99 || wire.read() == ok()));
        }
    }
    wait_until_equal(&primary, &[&replica]);
    eventually("the last note", LIMIT, || journal(&replica).trim_end().ends_with(":0:replica"));
    let (mut sets, mut notes) = (0, 0);
    for line in journal(&replica).lines() {
        match line.strip_prefix("#REPL:").map(|l| l.split(':').nth(1).and_then(|n| n.parse::<u64>().ok())) {
            Some(offset) => {
                let offset = offset.expect("an offset");
                let covered = offset.saturating_sub(start + select) / length;
                assert_eq!(sets, covered, "note {notes}, of offset {offset}");
                notes += 1;
            }
            None => sets += u64::from(line == "SET"),
        }
    }
    assert!(notes > 2 && sets == 20_000, "{notes} notes, {sets} writes");
}

/// A server leads, follows and leads again in one history: what it selected itself
/// the first time says nothing of where those who follow it now begin: as with stock
/// servers, a former primary begins in database 0.
#[test]
fn who_leads_again_says_which_database() {
    for other in [ours(2, &[]), stock(&[])] {
        let first = ours(2, &[]);
        replicate(&other, first.port);
        wait_for_link(&other);
        assert_eq!(in_db_5(&first).run("SET mine 1"), ok());
        wait_until_equal(&first, &[&other]);
        assert_eq!(other.wire().run("REPLICAOF NO ONE"), ok());
        replicate(&first, other.port);
        wait_for_link(&first);
        assert_eq!(other.wire().run("SET yours 1"), ok());
        wait_until_equal(&other, &[&first]);
        assert_eq!(first.wire().run("REPLICAOF NO ONE"), ok());
        replicate(&other, first.port);
        wait_for_link(&other);
        assert_eq!(in_db_5(&first).run("SET mine 2"), ok());
        wait_until_equal(&first, &[&other]);
        assert_eq!(in_db_5(&other).run("GET mine").as_text(), "2");
        assert_eq!(count(&first, "sync_full") + count(&other, "sync_full"), 1, "only the first link needed a copy");
    }
}

/// The offsets of the notes, and where in the file they stand.
fn notes(journal: &str) -> Vec<(usize, u64)> {
    let offset = |at: usize| journal[at..].split(':').nth(2).and_then(|n| n.parse().ok());
    journal.match_indices("#REPL:").filter_map(|(at, _)| Some((at, offset(at)?))).collect()
}

/// A note says that all before an offset stands before it in the file, and WAITAOF
/// that it is on disk. One core is done with a write while another, kept busy by a
/// script, has not yet said what it did at that time: the write is not in the file.
#[test]
fn a_replicas_note_comes_behind_what_it_speaks_of() {
    let primary = ours(2, &[]);
    let replica = ours(2, &[&AOF[..], &["--appendfsync", "always"]].concat());
    replicate(&replica, primary.port);
    wait_for_link(&replica);
    based(&replica);
    let (mut wire, mut busy) = (primary.wire(), replica.wire());
    // Which core has a key is not known: in some rounds it is not the busy one.
    for round in 0..6 {
        wait_until_equal(&primary, &[&replica]);
        let script = "local t = os.clock() while os.clock() - t < 0.15 do end return 1";
        busy.send(super::support::wire::encode(&["EVAL", script, "1", &format!("busy:{round}")]));
        std::thread::sleep(Duration::from_millis(20));
        let key = format!("written:{round}\r\n");
        assert_eq!(wire.run(&format!("SET {} 1", key.trim_end())), ok());
        let end = count(&primary, "master_repl_offset");
        if wire.run("WAITAOF 0 1 50").items()[1].as_int() == 1 {
            assert!(journal(&replica).contains(&key), "round {round}: called durable, and not in the file");
        }
        let noted = |text: &str| notes(text).into_iter().find(|(_, offset)| *offset >= end);
        eventually("its note", LIMIT, || noted(&journal(&replica)).is_some());
        assert_eq!(busy.read().as_int(), 1);
        eventually("the write", LIMIT, || journal(&replica).contains(&key));
        let text = journal(&replica);
        let (write, note) = (text.find(&key).expect("the write"), noted(&text).expect("its note").0);
        assert!(write < note, "round {round}: the note of {end} comes before the write: {text}");
    }
}
