//! INFO and ROLE while files are loaded and written, or cannot be, beside a stock
//! server in the same states.

use std::fs;
use std::path::Path;

use super::fake_primary::{FakePrimary, ID, Step, greeting};
use super::servers::*;
use super::states::{Album, differences, reaches, says};
use super::support::process::own_mounts;
use super::support::{Server, eventually};

/// How servers of one kind are started.
#[derive(Clone, Copy)]
struct Kind {
    start: fn(&[&str]) -> Server,
    /// Without waiting until it is ready.
    starting: fn(&[&str]) -> Server,
    under: fn(&[&str], &[&str]) -> Server,
}

const STOCK: Kind = Kind { start: stock, starting: Server::stock_starting, under: Server::stock_under };
const ONE: Kind = Kind {
    start: |args| ours(1, args),
    starting: |args| Server::starting(&[&["--cores", "1"], args].concat()),
    under: |wrapper, args| Server::start_under(wrapper, &[&["--cores", "1"], args].concat()),
};
const FOUR: Kind = Kind {
    start: |args| ours(4, args),
    starting: |args| Server::starting(&[&["--cores", "4"], args].concat()),
    under: |wrapper, args| Server::start_under(wrapper, &[&["--cores", "4"], args].concat()),
};

/// Does the same with a server of each kind, and compares what they said.
fn compare(kinds: [Kind; 3], drive: impl Fn(Kind) -> Album + Sync) {
    let [expected, one, four] = std::thread::scope(|scope| {
        let drive = &drive;
        kinds.map(|kind| scope.spawn(move || drive(kind))).map(|thread| thread.join().expect("all states"))
    });
    for (cores, seen) in [(1, one), (4, four)] {
        assert_eq!(seen.0.len(), expected.0.len());
        let wrong: Vec<String> = seen.0.iter().zip(&expected.0).flat_map(|(a, b)| differences(a, b)).collect();
        assert!(wrong.is_empty(), "{cores} cores:\n{}", wrong.join("\n"));
    }
}

fn not_writing(server: &Server) {
    for field in ["rdb_bgsave_in_progress", "aof_rewrite_scheduled", "aof_rewrite_in_progress"] {
        reaches(server, field, "0");
    }
}

/// Snapshots that fail, and one that waits for a rewrite.
#[test]
fn of_snapshots() {
    compare([STOCK, ONE, FOUR], |kind| {
        let (mut album, server) = (Album::default(), (kind.start)(&[]));
        says(&server, "SET a 1");
        let in_the_way = server.dir().join("dump.rdb");
        fs::create_dir(&in_the_way).expect("a directory");
        says(&server, "BGSAVE");
        reaches(&server, "rdb_last_bgsave_status", "err");
        not_writing(&server);
        album.note("a snapshot has failed", &server);
        fs::remove_dir(&in_the_way).expect("remove the directory");
        says(&server, "BGSAVE");
        reaches(&server, "rdb_last_bgsave_status", "ok");
        not_writing(&server);
        album.note("snapshots work again", &server);
        says(&server, "CONFIG SET appendonly yes");
        reaches(&server, "aof_rewrites", "1");
        not_writing(&server);
        says(&server, "CONFIG SET rdb-key-save-delay 3000000");
        says(&server, "BGREWRITEAOF");
        reaches(&server, "aof_rewrite_in_progress", "1");
        let saves = count(&server, "rdb_saves");
        says(&server, "BGSAVE SCHEDULE");
        album.note("a snapshot waits for a rewrite", &server);
        says(&server, "CONFIG SET rdb-key-save-delay 0");
        eventually("the snapshot", LIMIT, || count(&server, "rdb_saves") > saves);
        not_writing(&server);
        album.note("both are done", &server);
        album
    });
}

/// A disk that is full, and then is not.
#[test]
fn of_a_full_disk() {
    let can = std::process::Command::new("unshare").args([own_mounts(), "true"]).status().is_ok_and(|s| s.success());
    if !can {
        eprintln!("skipped: no mount namespaces here");
        return;
    }
    compare([STOCK, ONE, FOUR], |kind| {
        let mut album = Album::default();
        // Its directory is another's, which has one to lend.
        let other = (kind.start)(&[]);
        let dir = other.dir().join("small");
        fs::create_dir(&dir).expect("a directory");
        let dir = dir.to_str().expect("text");
        let mount = format!("mount -t tmpfs -o size=1m tmpfs {dir} && cd {dir} && exec \"$@\"");
        let wrapper = ["unshare", own_mounts(), "sh", "-c", &mount, "sh"];
        let server = (kind.under)(&wrapper, &["--dir", dir, "--appendonly", "yes"]);
        let filler = format!("/proc/{}/root{dir}/filler", server.pid());
        fs::write(&filler, vec![0; 800_000]).expect("the filler");
        album.note("there is room", &server);
        let value = "x".repeat(400_000);
        assert!(!server.wire().cmd(&["SET", "large", &value]).is_error());
        reaches(&server, "aof_last_write_status", "err");
        album.note("the disk is full", &server);
        fs::remove_file(&filler).expect("remove the filler");
        reaches(&server, "aof_last_write_status", "ok");
        album.note("there is room again", &server);
        album
    });
}

/// A stock server's files with keys that take a while to be loaded, slowly.
fn files() -> Server {
    let maker = stock(&["--appendonly", "yes", "--rdbcompression", "no"]);
    says(&maker, "DEBUG POPULATE 400 key 2000");
    says(&maker, "BGREWRITEAOF");
    reaches(&maker, "aof_rewrites", "1");
    not_writing(&maker);
    says(&maker, "SAVE");
    maker
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (entry, target) = entry.map(|e| (e.path(), to.join(e.file_name()))).expect("an entry");
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => drop(fs::copy(&entry, &target).expect("a copy")),
        }
    }
}

/// A start that takes some seconds.
#[test]
fn of_a_start() {
    let maker = files();
    compare([STOCK, ONE, FOUR], |kind| {
        let (mut album, lender) = (Album::default(), (kind.start)(&[]));
        for (appendonly, state) in [("no", "loading a snapshot"), ("yes", "loading an append-only file")] {
            let dir = lender.dir().join(appendonly);
            copy(maker.dir(), &dir);
            let slowly = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"];
            let args = [&["--dir", dir.to_str().expect("text"), "--appendonly", appendonly], &slowly[..]].concat();
            let server = (kind.starting)(&args);
            eventually("it is there", LIMIT, || super::support::Wire::try_connect(server.port).is_ok());
            reaches(&server, "loading", "1");
            album.note(state, &server);
            reaches(&server, "loading", "0");
            album.note(&format!("behind {state}"), &server);
        }
        album
    });
}

/// A replica that loads a copy beside the data that it serves.
#[test]
fn of_a_copy_beside_the_data() {
    let maker = files();
    let rdb = fs::read(maker.dir().join("dump.rdb")).expect("the file");
    let mark = "m".repeat(40);
    compare([STOCK, ONE, FOUR], |kind| {
        let mut album = Album::default();
        let (server, primary) = ((kind.start)(&["--repl-diskless-load", "swapdb"]), FakePrimary::new());
        says(&server, "CONFIG SET loading-process-events-interval-bytes 1024");
        let header = |offset: u32| Step::say(format!("+FULLRESYNC {ID} {offset}\r\n$EOF:{mark}\r\n"));
        let copy = |offset: u32| [greeting(), vec![header(offset), Step::say(&rdb), Step::say(&mark)]].concat();
        primary.play(copy(7));
        replicate(&server, primary.port);
        wait_for_link(&server);
        says(&server, "CONFIG SET key-load-delay 10000");
        primary.play(copy(99));
        says(&server, "CLIENT KILL TYPE master");
        reaches(&server, "async_loading", "1");
        album.note("loading beside the data", &server);
        wait_for_link(&server);
        album.note("loaded beside the data", &server);
        album
    });
}
