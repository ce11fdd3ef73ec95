//! The commands of the capture from redis-server 7.0.15 are played, and what
//! arrives in the incremental file is compared with what arrived at its replica.

use super::harness::{Dir, LIMIT, commands, stop};
use super::support::{Server, eventually, lacks};

const CAPTURE: &str = include_str!("../data/stream70.txt");

/// Lines that are not played: they tell of the capture itself, need what is not
/// there, or cannot be repeated.
fn played(server: &Server, line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or("");
    let told =
        ["(", "MULTI ", "INCR on", "RESTORE", "WAIT", "SELECT", "SET ttlk", "SET ik", "FUNCTION", "redis.", "FCALL"];
    if told.iter().any(|t| line.starts_with(t)) || line.contains('<') {
        return false;
    }
    let feature = match name {
        "BLPOP" | "BLMOVE" | "BRPOPLPUSH" | "BZPOPMIN" => "blocking",
        _ if name.starts_with('X') => "streams",
        _ if name.starts_with("PF") => "hyperloglog",
        _ if name.starts_with("GEO") => "geo",
        "SORT" => "sort",
        "PUBLISH" => "publish",
        "EVAL" | "SCRIPT" => "scripts",
        _ => return true,
    };
    !lacks(server, feature)
}

/// Commands that the capture only names.
fn spelled_out(line: &str) -> &str {
    match line {
        "SET rk" => "SET rk v",
        "COPY" => "COPY rk rk3",
        "RENAME" => "RENAME rk3 rk4",
        "MOVE" => "MOVE rk4 7",
        "SWAPDB" => "SWAPDB 0 1",
        // The capture cut these off.
        "XREADGROUP GROUP g c2 NOACK COUNT 1 STREAMS x" => "XREADGROUP GROUP g c2 NOACK COUNT 1 STREAMS x >",
        "GEOSEARCHSTORE gd geo FROMLONLAT 15 37 BYRADIU" => "GEOSEARCHSTORE gd geo FROMLONLAT 15 37 BYRADIUS 1 m",
        _ => line,
    }
}

/// The words of a command. The capture does not quote scripts, and cut the
/// longest off.
fn words(line: &str) -> Vec<&str> {
    match line {
        "EVAL redis.call('set',KEYS[1],'1'); redis.call" => {
            vec!["EVAL", "redis.call('set',KEYS[1],'1'); redis.call('incr',KEYS[1])", "1", "ek"]
        }
        "EVAL return redis.call('incr',KEYS[1]) 1 ek" => vec!["EVAL", "return redis.call('incr',KEYS[1])", "1", "ek"],
        "EVAL return 1 0" => vec!["EVAL", "return 1", "0"],
        "SCRIPT LOAD return 1" => vec!["SCRIPT", "LOAD", "return 1"],
        _ => line.split(' ').collect(),
    }
}

/// What cannot be equal: times, ids made of them, members taken at random.
fn blurred(command: &str) -> String {
    let word = |w: &str| {
        let stamp = w.len() >= 13 && w.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if stamp { "T".to_string() } else { w.to_string() }
    };
    let words: Vec<String> = command.split(' ').map(word).collect();
    if words[0] == "SREM" { "SREM s ?".into() } else { words.join(" ") }
}

#[test]
fn the_stream_is_that_of_redis() {
    for cores in ["1", "4"] {
        let dir = Dir::new("golden");
        let server = dir.start(cores, &[]);
        let mut c = server.wire();
        let mut compared = 0;
        let mut seen = 0;
        let mut first = true;
        for (line, want) in CAPTURE.lines().filter_map(|l| l.split_once("=>")) {
            let line = spelled_out(line.trim());
            // The capture cut long lines off.
            let cut_off = line.len() >= 46 && !line.starts_with("EVAL");
            if !played(&server, line) || cut_off {
                continue;
            }
            let reply = c.cmd(&words(line));
            // What Redis refused left nothing in its stream.
            let refused = matches!(want.trim(), "ping" | "(nothing)");
            assert!(refused || !reply.is_error(), "{line}: {reply:?}");
            let want: Vec<String> = want
                .split('|')
                .map(str::trim)
                .filter(|w| !matches!(*w, "ping" | "(nothing)" | "") && !w.starts_with("SELECT"))
                .map(blurred)
                .collect();
            // A write that must be there marks where this command's effects end.
            let mark = format!("mark {compared}");
            assert!(!c.run(&format!("SET {mark}")).is_error());
            eventually(&mark, LIMIT, || commands(&dir.incr()).contains(&format!("SET {mark}")));
            let all = commands(&dir.incr());
            let got: Vec<String> =
                all[seen..].iter().filter(|x| !x.starts_with("SELECT")).map(|x| blurred(x)).collect();
            seen = all.len();
            let (last, got) = got.split_last().expect("the mark");
            assert_eq!(*last, blurred(&format!("SET {mark}")));
            if cores == "1" || want.len() < 2 {
                assert_eq!(got, want, "{line} with {cores} cores");
            }
            if std::mem::take(&mut first) {
                assert_eq!(all[0], "SELECT 0");
            }
            compared += 1;
        }
        assert!(compared > 35, "only {compared} commands were compared");
        stop(server);
    }
}

#[test]
fn transactions_and_databases_are_written_as_redis_writes_them() {
    let dir = Dir::new("units");
    let server = dir.start("1", &[]);
    let mut c = server.wire();
    for line in [
        "SET db0 1",
        "SELECT 3",
        "SET db3 1",
        "SELECT 0",
        "SET db0 1",
        "MULTI",
        "SET a 1",
        "INCR a",
        "EXEC",
        "MULTI",
        "SET a 1",
        "EXEC",
        "MULTI",
        "GET a",
        "EXEC",
        "MULTI",
        "SELECT 5",
        "SET q 1",
        "SELECT 0",
        "SET q 1",
        "EXEC",
    ] {
        assert!(!c.run(line).is_error(), "{line}");
    }
    stop(server);
    // The last command leaves the connection in database 5; its transaction
    // says so before it begins, as Redis 7.0 does.
    let want = [
        "SELECT 0",
        "SET db0 1",
        "SELECT 3",
        "SET db3 1",
        "SELECT 0",
        "SET db0 1",
        "MULTI",
        "SET a 1",
        "INCR a",
        "EXEC",
        "SET a 1",
        "SELECT 5",
        "MULTI",
        "SET q 1",
        "SELECT 0",
        "SET q 1",
        "EXEC",
    ];
    assert_eq!(commands(&dir.incr()), want);
}

#[test]
fn an_expired_key_is_deleted_in_the_stream_once_and_before_what_follows() {
    for cores in ["1", "4"] {
        let dir = Dir::new("expired");
        let server = dir.start(cores, &[]);
        let mut c = server.wire();
        assert!(!c.run("DEBUG SET-ACTIVE-EXPIRE 0").is_error());
        c.run("SET ik 5 PX 1");
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(c.run("INCR ik").as_int(), 1);
        c.run("DEBUG SET-ACTIVE-EXPIRE 1");
        c.run("SET active x PX 1");
        eventually("the key is deleted", LIMIT, || commands(&dir.incr()).contains(&"DEL active".into()));
        stop(server);
        let mut got = commands(&dir.incr());
        got.iter_mut().for_each(|l| *l = blurred(l));
        let want =
            ["SELECT 0", "SET ik 5 PXAT T", "MULTI", "DEL ik", "INCR ik", "EXEC", "SET active x PXAT T", "DEL active"];
        assert_eq!(got, want, "{cores} cores");
    }
}

#[test]
fn a_command_over_several_cores_is_one_transaction() {
    let dir = Dir::new("several");
    let server = dir.start("4", &[]);
    let mut c = server.wire();
    let pairs: Vec<String> = (0..16).map(|i| format!("k{i} {i}")).collect();
    c.run(&format!("MSET {}", pairs.join(" ")));
    c.run("FLUSHALL");
    c.run("MSET a 1");
    stop(server);
    let got = commands(&dir.incr());
    assert_eq!((&got[0][..], &got[1][..]), ("SELECT 0", "MULTI"));
    let exec = got.iter().position(|l| l == "EXEC").expect("EXEC");
    let parts = &got[2..exec];
    assert!(parts.len() > 1 && parts.iter().all(|l| l.starts_with("MSET ")), "{got:?}");
    let words: usize = parts.iter().map(|l| l.split(' ').count() - 1).sum();
    assert_eq!(words, 32);
    assert_eq!(&got[exec + 1..], ["FLUSHALL", "MSET a 1"]);
}
