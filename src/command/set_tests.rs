//! Tests of the commands over sets.

use std::collections::{BTreeMap, BTreeSet};

use super::testing::Bench;
use crate::resp::reply::Proto;

fn check(b: &mut Bench, calls: &[(&str, &str)]) {
    for (line, want) in calls {
        assert_eq!(&b.run(line), want, "{line}");
    }
}

/// The bulk strings of a flat reply.
fn members(reply: &str) -> BTreeSet<String> {
    reply.split(' ').skip(1).filter(|w| !w.starts_with('$')).map(str::to_string).collect()
}

#[test]
fn members_are_added_found_and_removed() {
    let mut b = Bench::default();
    check(
        &mut b,
        &[
            ("sadd s 3 1 2 3", ":3"),
            ("smembers s", "*3 $1 1 $1 2 $1 3"),
            ("sismember s 2", ":1"),
            ("sismember s 02", ":0"),
            ("smismember s 1 x 3", "*3 :1 :0 :1"),
            ("smismember none 1", "*1 :0"),
            ("sadd s 1", ":0"),
            ("srem s 1 9", ":1"),
            ("scard s", ":2"),
            ("srem s 2 3", ":2"),
            ("exists s", ":0"),
        ],
    );
    b.run("sadd s a b");
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("sadd s a b".into(), vec!["sadd s".into()], 2));
    b.run("sadd s a");
    assert_eq!((b.stream.len(), b.events.len(), b.dirty), (0, 0, 0));
    b.run("srem s a b");
    assert_eq!(b.events(), ["srem s", "del s"]);
    b.proto = Proto::Resp3;
    assert_eq!(
        (b.run("sadd s 1"), b.run("smembers s"), b.run("smembers none")),
        (":1".into(), "~1 $1 1".into(), "~0".into())
    );
}

#[test]
fn encodings_follow_the_thresholds() {
    let mut b = Bench::default();
    b.options.set_max_intset_entries = 3;
    b.options.set_max_listpack_entries = 5;
    b.options.set_max_listpack_value = 8;
    let steps = [
        ("sadd i 1 2 3", "i", "intset"),
        ("sadd i 4", "i", "hashtable"),
        ("sadd many 1 2 3 4", "many", "listpack"),
        ("sadd l 1 2", "l", "intset"),
        ("sadd l a", "l", "listpack"),
        ("sadd l b c", "l", "listpack"),
        ("sadd l d", "l", "hashtable"),
        ("sadd v a", "v", "listpack"),
        ("sadd v 123456789", "v", "hashtable"),
        ("sadd w 1 a long-long-long", "w", "hashtable"),
        ("sadd big a b c d e f", "big", "hashtable"),
    ];
    for (line, key, want) in steps {
        b.run(line);
        assert_eq!(b.run(&format!("object encoding {key}")), format!("${} {want}", want.len()), "{line}");
    }
}

#[test]
fn spop_goes_to_the_stream_as_what_it_took() {
    let mut b = Bench::default();
    b.run("sadd s a b c d");
    let taken = b.run("spop s");
    let taken = taken.split(' ').nth(1).unwrap().to_string();
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), (format!("SREM s {taken}"), vec!["spop s".into()], 1));
    assert_eq!(members(&b.run("spop s 2")).len(), 2);
    assert_eq!((b.stream.len(), b.dirty, b.events()), (2, 2, vec!["spop s".into()]));
    assert!(b.stream.iter().all(|c| c.starts_with("SREM s ")));
    b.run("spop s 10");
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("DEL s".into(), vec!["spop s".into(), "del s".into()], 1));
    check(
        &mut b,
        &[
            ("spop none", "$-1"),
            ("spop none 3", "*0"),
            ("spop none -1", "-ERR value is out of range, must be positive"),
            ("spop none 1 1", "-ERR syntax error"),
        ],
    );
    b.run("sadd one x");
    b.run("spop one");
    assert_eq!((b.stream.join("|"), b.events()), ("SREM one x".into(), vec!["spop one".into(), "del one".into()]));
}

#[test]
fn random_members_are_distinct_unless_wanted_otherwise() {
    let mut b = Bench::default();
    for n in [10, 100, 3000] {
        let words: Vec<String> = (0..n).map(|i| format!("m{i}")).collect();
        b.run(&format!("sadd s{n} {}", words.join(" ")));
        for k in [1, 3, n / 2, n - 1, n, n + 5] {
            let reply = b.run(&format!("srandmember s{n} {k}"));
            assert_eq!(members(&reply).len(), k.min(n), "{k} of {n}");
            assert!(reply.starts_with(&format!("*{} ", k.min(n))));
        }
        assert!(b.run(&format!("srandmember s{n} -{}", 2 * n)).starts_with(&format!("*{} ", 2 * n)));
    }
    check(
        &mut b,
        &[
            ("srandmember none", "$-1"),
            ("srandmember none 5", "*0"),
            ("srandmember s10 0", "*0"),
            ("srandmember s10 x", "-ERR value is not an integer or out of range"),
            ("srandmember s10 -9223372036854775807", "-ERR value is out of range"),
            (
                "srandmember s10 -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
        ],
    );
    let mut hits = BTreeMap::<String, u32>::new();
    (0..2000).for_each(|_| *hits.entry(b.run("srandmember s10 1")).or_default() += 1);
    assert!(hits.values().all(|&h| (120..290).contains(&h)), "{hits:?}");
}

#[test]
fn smove_takes_from_one_and_adds_to_the_other() {
    let mut b = Bench::default();
    b.run("sadd a 1 x");
    b.run("sadd b x");
    assert_eq!((b.run("smove a b 1"), b.events(), b.dirty), (":1".into(), vec!["srem a".into(), "sadd b".into()], 2));
    assert_eq!((b.run("smove a b x"), b.events(), b.dirty), (":1".into(), vec!["srem a".into(), "del a".into()], 1));
    assert_eq!((b.run("smove a b 1"), b.run("smove b b 1"), b.dirty), (":0".into(), ":1".into(), 0));
    b.run("set s v");
    assert!(b.run("smove b s 1").starts_with("-WRONGTYPE"));
    assert_eq!(b.run("smove none s 1"), ":0");
    assert_eq!(b.run("scard b"), ":2");
}

#[test]
fn sets_are_joined_whatever_their_encodings() {
    let mut b = Bench::default();
    b.options.set_max_listpack_entries = 3;
    b.run("sadd ints 1 2 3");
    b.run("sadd packed 2 3 a");
    b.run("sadd table 3 4 a b c d");
    check(
        &mut b,
        &[
            ("sinter ints packed table", "*1 $1 3"),
            ("sinter ints none", "*0"),
            ("sdiff ints table none", "*2 $1 1 $1 2"),
            ("sintercard 2 packed table", ":2"),
            ("sintercard 2 packed table limit 1", ":1"),
            ("sintercard 0 a", "-ERR numkeys should be greater than 0"),
            ("sintercard 3 a b", "-ERR Number of keys can't be greater than number of args"),
            ("sintercard 1 a limit -1", "-ERR LIMIT can't be negative"),
            ("sintercard 1 a foo", "-ERR syntax error"),
            ("sinterstore d ints packed", ":2"),
            ("object encoding d", "$6 intset"),
            ("sunionstore d ints packed table", ":8"),
        ],
    );
    assert_eq!((b.events(), b.dirty, b.stream.len()), (vec!["sunionstore d".into()], 1, 1));
    let all: BTreeSet<String> = ["1", "2", "3", "4", "a", "b", "c", "d"].map(String::from).into();
    assert_eq!((members(&b.run("sunion ints packed table")), members(&b.run("smembers d"))), (all.clone(), all));
    assert_eq!((b.run("sdiffstore d none ints"), b.events(), b.dirty), (":0".into(), vec!["del d".into()], 1));
    assert_eq!((b.run("sdiffstore d none ints"), b.dirty), (":0".into(), 0));
    b.run("set s v");
    assert!(b.run("sunion ints s").starts_with("-WRONGTYPE"));
    assert!(b.run("sinterstore d none s").starts_with("-WRONGTYPE"));
    assert_eq!(b.run("sunionstore s ints"), ":3", "the destination may hold anything");
}

#[test]
fn sscan_returns_whatever_stays() {
    let mut b = Bench::default();
    (0..2000).for_each(|i| {
        b.run(&format!("sadd s stay{i}"));
    });
    let (mut seen, mut cursor, mut round) = (BTreeSet::new(), "0".to_string(), 0);
    loop {
        let reply = b.run(&format!("sscan s {cursor} count 20 match stay*"));
        let words: Vec<&str> = reply.split(' ').collect();
        cursor = words[2].to_string();
        seen.extend(words[3..].iter().filter(|w| w.starts_with("stay")).map(|w| w.to_string()));
        if cursor == "0" {
            break;
        }
        let extra: Vec<String> = (0..20).map(|i| format!("extra{}", round * 20 + i)).collect();
        b.run(&format!("sadd s {}", extra.join(" ")));
        round += 1;
    }
    assert_eq!(seen.len(), 2000);
    check(
        &mut b,
        &[
            ("sscan s x", "-ERR invalid cursor"),
            ("sscan none 0 foo", "*2 $1 0 *0"),
            ("sscan s 0 count 0", "-ERR syntax error"),
            ("sscan s 0 count x", "-ERR value is not an integer or out of range"),
            ("sscan s 18446744073709551615", "*2 $1 0 *0"),
        ],
    );
}

/// What a command stores under a key that did not exist is a new key.
#[test]
fn stored_results_are_new_keys() {
    let mut b = Bench::default();
    b.run("sadd s 1 2");
    b.run("zadd z 1 a");
    b.run("geoadd g 1 1 a");
    let stores = [
        ("sunionstore to s", "sunionstore"),
        ("zunionstore to 1 z", "zunionstore"),
        ("zrangestore to z 0 -1", "zrangestore"),
        ("geosearchstore to g frommember a byradius 1 km", "geosearchstore"),
        ("sort s store to", "sortstore"),
    ];
    for (line, event) in stores {
        b.run("del to");
        b.run(line);
        assert_eq!(b.events.iter().map(|e| e.name).collect::<Vec<_>>(), ["new", event]);
        b.run(line);
        assert_eq!(b.events.iter().map(|e| e.name).collect::<Vec<_>>(), [event], "it is there");
        b.run("set to v px 10");
        b.now += 20;
        b.run(line);
        assert_eq!(b.events.iter().map(|e| e.name).collect::<Vec<_>>(), ["expired", "new", event]);
    }
}
