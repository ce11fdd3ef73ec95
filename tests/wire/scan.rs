//! SCAN's guarantee: what is there from begin to end of an iteration is
//! returned, what never was is not, while the keyspace grows and shrinks.

use super::support::{Rng, Server, Wire, each_cores, encode, int, ok, plain, wire::encode_into, with_cores};
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

/// A large COUNT returns all that one core has: a step ends early only where
/// the slots of another core begin.
#[test]
fn a_step_is_as_large_as_its_count() {
    for cores in if plain() { vec![1] } else { vec![1, 4] } {
        with_cores(cores, |server| {
            fill(server, "key:", 2000);
            let mut c = server.wire();
            let mut cursor = "0".to_owned();
            let steps = (1..).find(|_| {
                cursor = c.cmd(&["SCAN", &cursor, "COUNT", "5000"]).items()[0].as_text();
                cursor == "0"
            });
            assert!(steps <= Some(cores), "{steps:?} steps with {cores} cores");
        });
    }
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
