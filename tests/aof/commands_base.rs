//! `aof-use-rdb-preamble no`: bases that are commands; `aof-disable-auto-gc`.

use super::harness::{Dir, LIMIT, commands, digest, stop};
use super::support::{Server, eventually, ok};
use std::process::Command;

fn rewrite(server: &Server) {
    let rewrites = |server: &Server| {
        let text = server.wire().run("INFO persistence").as_text();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("the field");
            line.trim().to_owned()
        };
        assert_eq!(field("aof_last_bgrewrite_status:"), "ok", "{}", server.log());
        (field("aof_rewrite_in_progress:") == "0", field("aof_rewrites:").parse::<u64>().expect("a number"))
    };
    let (_, before) = rewrites(server);
    assert!(!server.wire().run("BGREWRITEAOF").is_error());
    eventually("the rewrite", LIMIT, || rewrites(server) == (true, before + 1));
}

fn shown(server: &Server, command: &str) -> String {
    format!("{:?}", server.wire().run(command))
}

/// Values of every type and encoding, small and large, with deadlines.
fn fill(server: &Server) {
    let mut c = server.wire();
    for db in ["0", "3"] {
        c.run(&format!("SELECT {db}"));
        for line in [
            "SET s text",
            "SET n 12345",
            "SET v volatile PX 100000000",
            "RPUSH l a b c 1 2 3",
            "SADD ints 1 2 3 70000",
            "SADD words a b c",
            "HSET h a 1 b two",
            "PEXPIRE h 100000000",
            "ZADD z 1 a 2.5 b -inf c 3.0000000000000004 d +inf e",
            "XADD x 5-1 a 1 b 2",
            "XADD x 5-2 a 3 b 4",
            "XADD x 6-1 c 5",
            "XDEL x 5-2",
            "XGROUP CREATE x g 0",
            "XREADGROUP GROUP g reader COUNT 1 STREAMS x >",
            "XGROUP CREATECONSUMER x g idle",
            "XGROUP CREATE x h $ ENTRIESREAD 2",
            "XADD empty 7-7 a 1",
            "XTRIM empty MAXLEN 0",
            "XGROUP CREATE made $ 0 MKSTREAM",
            "PFADD hll a b c d",
            "SETBIT bits 100000 1",
            "GEOADD geo 13.361389 38.115556 Palermo",
        ] {
            let reply = c.run(line);
            assert!(!reply.is_error(), "{line}: {reply:?}");
        }
        // More elements than a part of a collection, and than a command takes.
        let long = "e".repeat(100);
        for i in 0..6000 {
            let word = format!("{long}{i}");
            for command in ["RPUSH big:l", "SADD big:s", "HSET big:h 1", "ZADD big:z 7"] {
                let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
                match &words[0][..] {
                    "HSET" => words[2] = word.clone(),
                    "ZADD" => words[2] = i.to_string(),
                    _ => {}
                }
                words.push(word.clone());
                assert!(!c.cmd(&words).is_error());
            }
        }
        c.run("PEXPIRE big:l 100000000");
        c.cmd(&["SET", "huge", &"h".repeat(3 << 20)]);
        c.cmd(&["SET", "binary\r\nkey \u{1}", "\r\n$5\r\n"]);
    }
}

#[test]
fn a_base_of_commands_is_the_dataset() {
    for cores in ["1", "4"] {
        let dir = Dir::new("base");
        let server = dir.start(cores, &["--aof-use-rdb-preamble", "no", "--aof-timestamp-enabled", "yes"]);
        assert!(dir.files().contains(&"appendonly.aof.1.base.aof".to_owned()), "{:?}", dir.files());
        fill(&server);
        rewrite(&server);
        server.wire().run("SET after 1");
        let before = digest(&server);
        let pending = shown(&server, "XPENDING x g");
        let full = shown(&server, "XINFO GROUPS x");
        stop(server);
        assert_eq!(dir.files(), ["appendonly.aof.2.base.aof", "appendonly.aof.2.incr.aof", "appendonly.aof.manifest"]);
        let base = std::fs::read(dir.aof("appendonly.aof.2.base.aof")).expect("the base");
        assert!(base.starts_with(b"#TS:"));
        assert_eq!(commands(&dir.incr()), ["SELECT 0", "SET after 1"]);
        let check = Command::new("redis-check-aof").arg(dir.aof("appendonly.aof.manifest")).output().expect("the tool");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));

        let again = dir.start("3", &[]);
        assert_eq!(digest(&again), before, "{cores} cores");
        assert_eq!(shown(&again, "XPENDING x g"), pending);
        assert_eq!(shown(&again, "XINFO GROUPS x"), full);
        stop(again);
        let stock = dir.stock(&[]);
        assert_eq!(digest(&stock), before, "stock, {cores} cores");
        assert_eq!(shown(&stock, "XPENDING x g"), pending);
    }
}

/// Stock's own base of commands, and back to snapshots.
#[test]
fn bases_change_their_form() {
    let dir = Dir::new("forms");
    let stock = dir.stock(&["--aof-use-rdb-preamble", "no"]);
    fill(&stock);
    assert!(!stock.wire().run("BGREWRITEAOF").is_error());
    eventually("its rewrite", LIMIT, || dir.files().contains(&"appendonly.aof.2.base.aof".to_owned()));
    let before = digest(&stock);
    stop(stock);
    let server = dir.start("2", &["--aof-use-rdb-preamble", "no"]);
    assert_eq!(digest(&server), before);
    rewrite(&server);
    assert!(dir.files().contains(&"appendonly.aof.3.base.aof".to_owned()), "{:?}", dir.files());
    assert_eq!(server.wire().run("CONFIG SET aof-use-rdb-preamble yes"), ok());
    rewrite(&server);
    assert!(dir.files().contains(&"appendonly.aof.4.base.rdb".to_owned()), "{:?}", dir.files());
    // Turned off and on again.
    assert_eq!(server.wire().run("CONFIG SET aof-use-rdb-preamble no"), ok());
    assert_eq!(server.wire().run("CONFIG SET appendonly no"), ok());
    eventually("it is off", LIMIT, || server.log().contains("AOF is off"));
    assert_eq!(server.wire().run("CONFIG SET appendonly yes"), ok());
    eventually("a base", LIMIT, || dir.files().contains(&"appendonly.aof.5.base.aof".to_owned()));
    assert_eq!(digest(&server), before);
    stop(server);
    assert_eq!(digest(&dir.start("1", &[])), before);
}

/// Replaced files stay while that is wanted, named as history, newest first.
#[test]
fn history_is_kept_on_request() {
    let dir = Dir::new("history");
    let server = dir.start("2", &["--aof-disable-auto-gc", "yes"]);
    rewrite(&server);
    rewrite(&server);
    let manifest = || std::fs::read_to_string(dir.aof("appendonly.aof.manifest")).expect("the manifest");
    let lines = [
        "file appendonly.aof.3.base.rdb seq 3 type b",
        "file appendonly.aof.2.incr.aof seq 2 type h",
        "file appendonly.aof.2.base.rdb seq 2 type h",
        "file appendonly.aof.1.incr.aof seq 1 type h",
        "file appendonly.aof.1.base.rdb seq 1 type h",
        "file appendonly.aof.3.incr.aof seq 3 type i",
    ];
    assert_eq!(manifest().lines().collect::<Vec<_>>(), lines);
    assert_eq!(dir.files().len(), 7);
    stop(server);
    let server = dir.start("1", &["--aof-disable-auto-gc", "yes"]);
    assert_eq!(dir.files().len(), 7);
    assert_eq!(server.wire().run("CONFIG SET aof-disable-auto-gc no"), ok());
    // The manifest follows when they are.
    eventually("they are gone", LIMIT, || manifest().lines().eq([lines[0], lines[5]]));
    assert_eq!(dir.files().len(), 3);
    // A second time as well.
    assert_eq!(server.wire().run("CONFIG SET aof-disable-auto-gc yes"), ok());
    rewrite(&server);
    assert_eq!(dir.files().len(), 5);
    assert_eq!(server.wire().run("CONFIG SET aof-disable-auto-gc no"), ok());
    eventually("they are gone again", LIMIT, || dir.files().len() == 3);
    server.wire().run("SET a 1");
    stop(server);
    assert_eq!(dir.start("1", &[]).wire().run("GET a").as_text(), "1");
}
