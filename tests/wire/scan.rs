//! SCAN's guarantee: what is there from begin to end of an iteration is
//! returned, what never was is not, while the keyspace grows and shrinks.

use super::support::{
    Rng, Server, Wire, array, bulk, each_cores, encode, int, ok, plain, wire::encode_into, with_cores,
};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

const STABLE: usize = 3000;

/// One full iteration; `args` follow the cursor.
fn iterate(c: &mut Wire, command: &[&str], args: &str) -> Vec<String> {
    let mut cursor = "0".to_owned();
    let mut found = Vec::new();
    for step in 0.. {
        assert!(step < 1_000_000, "an iteration without end");
        let mut words: Vec<&str> = command.to_vec();
        words.push(&cursor);
        words.extend(args.split_whitespace());
        let reply = c.cmd(&words);
        let [next, items] = reply.items() else {
            panic!("an odd reply: {reply:?}");
        };
        found.extend(items.items().iter().map(|item| item.as_text()));
        cursor = next.as_text();
        if cursor == "0" {
            break;
        }
    }
    found
}

fn fill(server: &Server, prefix: &str, count: usize) {
    let mut request = Vec::new();
    for i in 0..count {
        encode_into(&mut request, &["SET", &format!("{prefix}{i}"), "v"]);
    }
    let replies = server.wire().pipeline(&request, count);
    assert!(replies.iter().all(|reply| *reply == ok()));
}

/// Adds and removes up to 40,000 keys, again and again, until told to stop.
fn churn(server: &Server, stop: &AtomicBool) {
    let mut c = server.wire();
    let mut rng = Rng::new(21);
    while !stop.load(Ordering::Relaxed) {
        let count = rng.below(40_000) + 100;
        for (command, value) in [("SET", Some("v")), ("DEL", None)] {
            for start in (0..count).step_by(1000) {
                let mut request = Vec::new();
                for i in start..start + 1000 {
                    let key = format!("volatile{i}");
                    let args = [Some(command), Some(&key), value];
                    encode_into(&mut request, &args.into_iter().flatten().collect::<Vec<_>>());
                }
                c.pipeline(&request, 1000);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

#[test]
fn nothing_is_missed_while_the_keyspace_changes() {
    each_cores(|server| {
        fill(server, "stable", STABLE);
        fill(server, "gone", 500);
        let mut c = server.wire();
        for i in 0..500 {
            c.run(&format!("DEL gone{i}"));
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| churn(server, &stop));
            for args in ["", "COUNT 1000", "COUNT 37", "MATCH stable* COUNT 100", "TYPE string COUNT 500"] {
                let found: HashSet<String> = iterate(&mut c, &["SCAN"], args).into_iter().collect();
                let missing: Vec<usize> = (0..STABLE).filter(|i| !found.contains(&format!("stable{i}"))).collect();
                let strange = found.iter().find(|key| !key.starts_with("stable") && !key.starts_with("volatile"));
                if !missing.is_empty() || strange.is_some() {
                    stop.store(true, Ordering::Relaxed);
                }
                assert!(missing.is_empty(), "{args}: missed {missing:?}");
                assert_eq!(strange, None, "{args}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

/// At rest, duplicates are few and options filter.
#[test]
fn at_rest_everything_is_found() {
    each_cores(|server| {
        fill(server, "key:", 2000);
        let mut c = server.wire();
        c.run("RPUSH list a");
        c.run("SADD set a");
        c.run("SELECT 1");
        c.run("SET other 1");
        assert_eq!(iterate(&mut c, &["SCAN"], ""), ["other"]);
        c.run("SELECT 0");
        let found = iterate(&mut c, &["SCAN"], "COUNT 100");
        let distinct: HashSet<&String> = found.iter().collect();
        assert_eq!(distinct.len(), 2002);
        assert!(found.len() < 2100, "{} returned of 2002", found.len());
        assert_eq!(iterate(&mut c, &["SCAN"], "TYPE list"), ["list"]);
        assert_eq!(iterate(&mut c, &["SCAN"], "TYPE set MATCH *e*"), ["set"]);
        assert_eq!(iterate(&mut c, &["SCAN"], "MATCH key:1 COUNT 10000"), ["key:1"]);
        assert!(iterate(&mut c, &["SCAN"], "MATCH nothing").is_empty());
    });
}

/// What is smaller than COUNT is seen in one step, however many cores have a
/// part of it, and that is one call of the command.
#[test]
fn a_step_is_as_large_as_its_count() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("SCAN 0"), array([bulk("0"), array([])]));
        fill(server, "key:", 2000);
        c.run("CONFIG RESETSTAT");
        let reply = c.run("SCAN 0 COUNT 5000");
        assert_eq!((reply.items()[0].as_text().as_str(), reply.items()[1].items().len()), ("0", 2000));
        let reply = c.run("SCAN 0 COUNT 5000 MATCH key:1?");
        assert_eq!((reply.items()[0].as_text().as_str(), reply.items()[1].items().len()), ("0", 10));
        let stats = c.run("INFO commandstats").as_text();
        assert!(stats.contains("cmdstat_scan:calls=2,"), "{stats}");
        // The others of a pipeline come before and after it.
        c.send_words("SET a 1");
        c.send_words("SCAN 0 COUNT 5000");
        c.send_words("GET a");
        assert_eq!((c.read(), c.read().items()[1].items().len(), c.read()), (ok(), 2001, bulk("1")));
        // Steps that see as many as they are asked to end there.
        let (mut cursor, mut seen) = ("0".to_owned(), 0);
        let steps = (1..).find(|_| {
            let reply = c.cmd(&["SCAN", &cursor, "COUNT", "100"]);
            seen += reply.items()[1].items().len();
            cursor = reply.items()[0].as_text();
            cursor == "0"
        });
        assert!(seen == 2001 && steps <= Some(21), "{steps:?} steps, {seen} keys");
    });
}

/// With its slots scattered over the cores a step goes on only so often; all
/// is found all the same.
#[test]
fn scattered_slots_are_found() {
    if plain() {
        return;
    }
    with_cores(4, |server| {
        let mut c = server.wire();
        for slot in 0..300 {
            assert!(!c.run(&format!("CORE MOVE {} {slot}", slot % 4)).is_error());
        }
        fill(server, "key:", 500);
        assert_ne!(c.run("SCAN 0 COUNT 1000").items()[0].as_text(), "0");
        let found: HashSet<String> = iterate(&mut c, &["SCAN"], "COUNT 1000").into_iter().collect();
        assert_eq!(found.len(), 500);
    });
}

/// Any number is a cursor; one from nowhere is no error and ends.
#[test]
fn cursors_from_nowhere() {
    each_cores(|server| {
        fill(server, "key:", 500);
        let mut c = server.wire();
        for cursor in ["1", "12345", "4294967296", "18446744073709551615"] {
            let mut next = cursor.to_owned();
            for step in 0.. {
                assert!(step < 100_000, "no end from cursor {cursor}");
                let reply = c.run(&format!("SCAN {next} COUNT 100"));
                next = reply.items()[0].as_text();
                if next == "0" {
                    break;
                }
            }
        }
        for cursor in ["x", "18446744073709551616", "1x", "x1"] {
            let reply = c.cmd(&["SCAN", cursor]);
            assert_eq!(reply.as_error(), "ERR invalid cursor", "{cursor}");
        }
    });
}

/// Expired keys are not returned.
#[test]
fn expired_keys_are_not_returned() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        for i in 0..100 {
            c.run(&format!("SET soon{i} v PX 20"));
            c.run(&format!("SET later{i} v EX 100"));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        let found: HashSet<String> = iterate(&mut c, &["SCAN"], "").into_iter().collect();
        assert_eq!(found.len(), 100);
        assert!(found.iter().all(|key| key.starts_with("later")));
        // Those that it met are gone, as after a GET.
        assert_eq!(c.run("DBSIZE"), int(100));
        // So are those of other types, but not those that the pattern leaves out.
        for key in ["soon", "other"] {
            c.run(&format!("SET {key} v PX 1"));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert!(iterate(&mut c, &["SCAN"], "TYPE list MATCH so*").is_empty());
        assert_eq!(c.run("DBSIZE"), int(101));
    });
}

#[test]
fn collections_are_iterated_whole() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut request = Vec::new();
        for i in 0..2000 {
            let (member, score) = (format!("m{i}"), i.to_string());
            encode_into(&mut request, &["SADD", "s", &member]);
            encode_into(&mut request, &["HSET", "h", &member, &score]);
            encode_into(&mut request, &["ZADD", "z", &score, &member]);
        }
        c.pipeline(&request, 6000);
        for (command, key, factor) in [("SSCAN", "s", 1), ("HSCAN", "h", 2), ("ZSCAN", "z", 2)] {
            let found = iterate(&mut c, &[command, key], "COUNT 50");
            let members: HashSet<&String> = found.iter().step_by(factor).collect();
            assert_eq!(members.len(), 2000, "{command}");
            assert_eq!(iterate(&mut c, &[command, key], "MATCH m77").len(), factor);
            assert!(iterate(&mut c, &[command, "none"], "").is_empty());
        }
        let small = encode(&["SADD", "small", "a", "b"]);
        c.pipeline(&small, 1);
        assert_eq!(iterate(&mut c, &["SSCAN", "small"], "COUNT 1").len(), 2);
    });
}
