//! Streams through their commands.

use super::testing::Bench;
use crate::resp::reply::Proto;

fn check(b: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(b.run(line), *want, "{line}");
    }
}

fn bench() -> Bench {
    let mut b = Bench::default();
    check(
        &mut b,
        &[
            ("xadd x 1-1 a 1", "$3 1-1"),
            ("xadd x 1-2 a 2 b 3", "$3 1-2"),
            ("xadd x 2-* a 4", "$3 2-0"),
            ("xadd x 3 c d", "$3 3-0"),
        ],
    );
    b
}

#[test]
fn identifiers_are_given() {
    let mut b = bench();
    assert_eq!(b.run("xadd x * f v"), "$15 1700000000000-0");
    assert_eq!(b.stream, ["xadd x 1700000000000-0 f v"]);
    assert_eq!(b.run("xadd x * f v"), "$15 1700000000000-1");
    let small = "-ERR The ID specified in XADD is equal or smaller than the target stream top item";
    check(
        &mut b,
        &[
            ("xadd x 5-5 f v", small),
            ("xadd x 5-* f v", small),
            ("xadd x 0-0 f v", "-ERR The ID specified in XADD must be greater than 0-0"),
            ("xadd x - f v", "-ERR Invalid stream ID specified as stream command argument"),
            ("xadd x 9-1 f", "-ERR wrong number of arguments for 'xadd' command"),
            ("xadd x * f v g", "-ERR wrong number of arguments for 'xadd' command"),
            ("xadd none nomkstream * f v", "$-1"),
            ("exists none", ":0"),
            ("xadd x 18446744073709551615-18446744073709551615 f v", "$41 18446744073709551615-18446744073709551615"),
            ("xadd x * f v", "-ERR The stream has exhausted the last possible ID, unable to add more items"),
            ("xadd y 0-* f v", "$3 0-1"),
            ("set s v", "+OK"),
            ("xadd s * f v", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ],
    );
}

#[test]
fn trimming() {
    let mut b = bench();
    b.options.stream_node_max_entries = 2;
    (10..20).for_each(|i| drop(b.run(&format!("xadd x {i}-0 f v"))));
    check(&mut b, &[("xtrim x maxlen ~ 5", ":8"), ("xlen x", ":6")]);
    assert_eq!(
        (b.run("xadd x maxlen ~ 5 20-0 f v"), b.stream.join("|")),
        ("$4 20-0".into(), "xadd x maxlen = 5 20-0 f v".into())
    );
    assert_eq!(b.events(), ["xadd x", "xtrim x"]);
    assert_eq!(
        (b.run("xtrim x minid ~ 18-0 limit 100"), b.stream.join("|")),
        (":2".into(), "xtrim x minid = 18-0".into())
    );
    assert_eq!((b.run("xtrim x maxlen ~ 3"), b.stream.len(), b.dirty), (":0".into(), 0, 0));
    assert_eq!((b.run("xtrim x maxlen 2"), b.stream.join("|"), b.dirty), (":1".into(), "xtrim x maxlen 2".into(), 1));
    check(
        &mut b,
        &[
            ("xtrim x maxlen ~ 1 limit 1", ":1"),
            ("xtrim x maxlen -1", "-ERR The MAXLEN argument must be >= 0."),
            (
                "xtrim x maxlen 1 minid 1",
                "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ),
            ("xtrim x maxlen 1 limit 1", "-ERR syntax error, LIMIT cannot be used without the special ~ option"),
            ("xtrim x foo 1", "-ERR syntax error"),
            ("xtrim x limit 1", "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"),
            ("xtrim x maxlen ~ 1 limit -1", "-ERR The LIMIT argument must be >= 0."),
            ("xtrim none maxlen 1", ":0"),
            ("xtrim x maxlen 0", ":1"),
            ("exists x", ":1"),
        ],
    );
}

#[test]
fn ranges() {
    let mut b = bench();
    let all =
        "*4 *2 $3 1-1 *2 $1 a $1 1 *2 $3 1-2 *4 $1 a $1 2 $1 b $1 3 *2 $3 2-0 *2 $1 a $1 4 *2 $3 3-0 *2 $1 c $1 d";
    check(
        &mut b,
        &[
            ("xrange x - +", all),
            ("xrange x 1 1 count 1", "*1 *2 $3 1-1 *2 $1 a $1 1"),
            ("xrange x (1-1 (2-0", "*1 *2 $3 1-2 *4 $1 a $1 2 $1 b $1 3"),
            ("xrevrange x + - count 1", "*1 *2 $3 3-0 *2 $1 c $1 d"),
            ("xrange x - + count 0", "*-1"),
            ("xrange x - + count", "-ERR syntax error"),
            ("xrange x (18446744073709551615-18446744073709551615 +", "-ERR invalid start ID for the interval"),
            ("xrange x - (0-0", "-ERR invalid end ID for the interval"),
            ("xrange x (- +", "-ERR Invalid stream ID specified as stream command argument"),
            ("xrange none - +", "*0"),
            ("xlen x", ":4"),
            ("xdel x 1-2 1-2 9-9", ":1"),
            ("xdel x 1-2 foo", "-ERR Invalid stream ID specified as stream command argument"),
            ("xread count 1 streams none x 0 1-1", "*1 *2 $1 x *1 *2 $3 2-0 *2 $1 a $1 4"),
            ("xread streams x $", "*-1"),
            ("xread block 5 streams x $", "*-1"),
            (
                "xread streams x >",
                "-ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            ),
            (
                "xread group g c streams x 0",
                "-ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
            ),
        ],
    );
    b.proto = Proto::Resp3;
    assert_eq!(b.run("xread count 1 streams x 2-0"), "%1 $1 x *1 *2 $3 3-0 *2 $1 c $1 d");
}

#[test]
fn groups_deliver_and_hear_back() {
    let mut b = bench();
    check(
        &mut b,
        &[
            ("xgroup create x g 0", "+OK"),
            ("xgroup create x g 0", "-BUSYGROUP Consumer Group name already exists"),
            ("xgroup create none g $ mkstream", "+OK"),
            ("xreadgroup group g c streams none >", "*-1"),
            (
                "xreadgroup group none c streams x >",
                "-NOGROUP No such key 'x' or consumer group 'none' in XREADGROUP with GROUP option",
            ),
        ],
    );
    assert_eq!(b.run("xreadgroup group g c count 1 streams x >"), "*1 *2 $1 x *1 *2 $3 1-1 *2 $1 a $1 1");
    assert_eq!(b.stream, ["XCLAIM x g c 0 1-1 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1"]);
    assert_eq!(
        b.run("xreadgroup group g d noack count 1 streams x >"),
        "*1 *2 $1 x *1 *2 $3 1-2 *4 $1 a $1 2 $1 b $1 3"
    );
    assert_eq!(b.stream, ["XGROUP CREATECONSUMER x g d", "XGROUP SETID x g 1-2 ENTRIESREAD 2"]);
    b.now += 500;
    check(
        &mut b,
        &[
            ("xreadgroup group g c streams x 0", "*1 *2 $1 x *1 *2 $3 1-1 *2 $1 a $1 1"),
            ("xpending x g", "*4 :1 $3 1-1 $3 1-1 *1 *2 $1 c $1 1"),
            ("xpending x g - + 10", "*1 *4 $3 1-1 $1 c :0 :2"),
            ("xpending x g idle 1 - + 10", "*0"),
            ("xpending x g - + 10 nobody", "*0"),
            ("xreadgroup group g c streams x >", "*1 *2 $1 x *2 *2 $3 2-0 *2 $1 a $1 4 *2 $3 3-0 *2 $1 c $1 d"),
            ("xack x g 1-1 1-1 7-7", ":1"),
            ("xdel x 2-0", ":1"),
            (
                "xinfo groups x",
                "*1 *12 $4 name $1 g $9 consumers :2 $7 pending :2 $17 last-delivered-id $3 3-0 $12 entries-read :4 $3 lag :0",
            ),
            ("xreadgroup group g c streams x 0", "*1 *2 $1 x *2 *2 $3 2-0 *-1 *2 $3 3-0 *2 $1 c $1 d"),
            ("xautoclaim x g d 0 0", "*3 $3 0-0 *1 *2 $3 3-0 *2 $1 c $1 d *1 $3 2-0"),
        ],
    );
    assert_eq!(
        b.stream,
        [
            "XCLAIM x g c 0 2-0 TIME 1700000000500 RETRYCOUNT 1 FORCE JUSTID LASTID 3-0",
            "XCLAIM x g d 0 3-0 TIME 1700000000500 RETRYCOUNT 3 FORCE JUSTID LASTID 3-0"
        ]
    );
    check(
        &mut b,
        &[
            ("xgroup delconsumer x g d", ":1"),
            ("xgroup delconsumer x g d", ":0"),
            ("xpending x g", "*4 :0 $-1 $-1 *-1"),
            ("xgroup destroy x g", ":1"),
            ("xgroup destroy x g", ":0"),
        ],
    );
}

/// What is passed on makes the same groups elsewhere.
#[test]
fn a_replica_of_the_effects_agrees() {
    let (mut b, mut replica) = (Bench::default(), Bench::default());
    let lines = [
        "xadd x 1-1 a 1",
        "xadd x 1-2 a 1",
        "xadd x 1-3 a 1",
        "xadd x * a 1",
        "xgroup create x g $",
        "xreadgroup group g early streams x >",
        "xclaim x g claims 0 1-1",
        "xautoclaim x g claims-all 0 0",
        "xgroup setid x g 0",
        "xreadgroup group g c count 2 streams x >",
        "xreadgroup group g c streams x 0",
        "xreadgroup group g new streams x 0",
        "xclaim x g d 0 1-2 idle 100",
        "xreadgroup group g e noack count 1 streams x >",
        "xclaim x g f 100000 1-1",
        "xreadgroup group g c streams x >",
        "xdel x 1-2",
        "xautoclaim x g h 0 0 count 1",
        "xautoclaim x g h 0 0",
        "xack x g 1-1",
        "xclaim x g z 0 1-1 force justid retrycount 7",
        "xgroup setid x g 1-2",
        "xclaim x g q 0 9-9 lastid 1-3",
        "xadd x maxlen ~ 1 * b 1",
        "xtrim x maxlen 2",
        "xsetid x 1800000000000-0 entriesadded 9 maxdeletedid 1-9",
    ];
    for line in lines {
        b.now += 10;
        (replica.now, replica.clock) = (0, b.now);
        let reply = b.run(line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
        for effect in b.stream.clone() {
            let reply = replica.run(&effect);
            assert!(!reply.starts_with('-'), "{effect}: {reply}");
        }
        for probe in
            ["xinfo groups x", "xpending x g - + 100", "xrange x - +", "debug digest-value x", "xinfo stream x"]
        {
            assert_eq!(b.run(probe), replica.run(probe), "{probe} after {line}");
        }
    }
}

/// Who asks is a consumer from then on, whether or not there is something for it (7.2).
#[test]
fn who_asks_becomes_a_consumer() {
    let mut b = Bench::default();
    b.run("xgroup create x g $ mkstream");
    let made = |b: &mut Bench, line: &str, name: &str| {
        b.run(line);
        assert_eq!(b.stream, [format!("XGROUP CREATECONSUMER x g {name}")], "{line}");
        assert_eq!(b.events(), ["xgroup-createconsumer x"], "{line}");
        assert!(b.run("xinfo consumers x g").contains(&format!("${} {name} ", name.len())), "{line}");
    };
    made(&mut b, "xreadgroup group g reader streams x >", "reader");
    made(&mut b, "xclaim x g claimer 0 1-1", "claimer");
    made(&mut b, "xautoclaim x g taker 0 0", "taker");
    b.run("xadd x 1-1 a 1");
    b.run("xreadgroup group g reader streams x >");
    b.run("xclaim x g another 0 1-1");
    assert!(b.stream.len() == 1 && b.stream[0].starts_with("XCLAIM x g another 0 1-1"), "{:?}", b.stream);
}

#[test]
fn the_last_entry_is_read_by_plus() {
    let mut b = Bench::default();
    assert_eq!(b.run("xread streams x +"), "*-1");
    b.run("xadd x 1-1 a 1");
    b.run("xadd x 2-0 b 2");
    assert_eq!(b.run("xread count 9 streams x +"), "*1 *2 $1 x *1 *2 $3 2-0 *2 $1 b $1 2");
    b.run("xdel x 2-0");
    assert_eq!(b.run("xread streams x +"), "*1 *2 $1 x *1 *2 $3 1-1 *2 $1 a $1 1");
    b.run("xgroup create x g $");
    assert!(b.run("xreadgroup group g c streams x +").starts_with("-ERR The + ID is meaningless"));
    for (line, text) in [
        ("xread count 1 streams x", "'xread' list of streams: for each stream key an ID, '+', or '$'"),
        ("xreadgroup group g c noack streams x", "'xreadgroup' list of streams: for each stream key an ID or '>'"),
    ] {
        assert_eq!(b.run(line), format!("-ERR Unbalanced {text} must be specified."), "{line}");
    }
    assert_eq!(b.run("xread block 9223372036854775807 streams x $"), "-ERR timeout is out of range");
}

/// An approximate trimming by MINID that empties the stream once reached
/// replicas as `MINID = 0-0`: there the entries stayed. And LIMIT stays in the
/// stream of Redis, behind a bound that has become exact.
#[test]
fn trimming_everything_reaches_replicas() {
    let (mut b, mut replica) = (Bench::default(), Bench { now: 0, ..Bench::default() });
    for line in ["xadd x 5-1 a 1", "xtrim x minid ~ 9", "xadd x minid ~ 9 6-1 a 1", "xadd x 7-1 a 1"] {
        b.run(line);
        for effect in b.stream.clone() {
            replica.run(&effect);
        }
        assert_eq!(b.run("xrange x - +"), replica.run("xrange x - +"), "{line}");
    }
    assert_eq!(b.run("xlen x"), ":1");
    assert_eq!(replica.run("xadd x maxlen = 1 limit 7 8-1 a 1"), "$3 8-1");
    assert_eq!(replica.run("xlen x"), ":1");
    assert!(b.run("xadd x maxlen = 1 limit 7 8-1 a 1").starts_with('-'));
}

#[test]
fn setting_the_counters() {
    let mut b = bench();
    check(
        &mut b,
        &[
            ("xsetid x 2-9", "-ERR The ID specified in XSETID is smaller than the target stream top item"),
            (
                "xsetid x 9-9 entriesadded 2",
                "-ERR The entries_added specified in XSETID is smaller than the target stream length",
            ),
            (
                "xsetid x 9-9 maxdeletedid 9-10",
                "-ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
            ),
            ("xsetid x 9-9 entriesadded -1", "-ERR entries_added must be positive"),
            ("xsetid x 9-9 foo", "-ERR syntax error"),
            ("xsetid x 9-9 entriesadded 20 maxdeletedid 5-5", "+OK"),
            ("xsetid x 4-4", "-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"),
            ("xsetid none 1-1", "-ERR no such key"),
            ("xinfo stream none", "-ERR no such key"),
            (
                "xinfo stream x foo",
                "-ERR unknown subcommand or wrong number of arguments for 'stream'. Try XINFO HELP.",
            ),
            (
                "xinfo stream x",
                "*20 $6 length :4 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id $3 9-9 $20 max-deleted-entry-id $3 5-5 $13 entries-added :20 $23 recorded-first-entry-id $3 1-1 $6 groups :0 $11 first-entry *2 $3 1-1 *2 $1 a $1 1 $10 last-entry *2 $3 3-0 *2 $1 c $1 d",
            ),
        ],
    );
}

/// The figures are those of redis-server 7.0.15. We told one node more than keys.
#[test]
fn nodes_are_counted_as_those_of_a_radix_tree() {
    let mut b = Bench::default();
    b.options.stream_node_max_entries = 1;
    for (id, nodes) in [("18-2", 2), ("19-2", 6), ("256-0", 9), ("256-1", 11), ("72057594037927936-0", 14)] {
        b.run(&format!("xadd x {id} a 1"));
        let told = b.run("xinfo stream x");
        assert!(told.contains(&format!("radix-tree-nodes :{nodes} ")), "{id}: {told}");
    }
    for bound in ["-", "+"] {
        let refused = "-ERR Invalid stream ID specified as stream command argument";
        assert_eq!(b.run(&format!("xtrim x minid {bound}")), refused);
    }
}

/// A count of entries that passes the largest number is redis-server's.
#[test]
fn a_count_that_wraps_is_told_as_it_is() {
    let mut b = Bench::default();
    b.run("xadd w 1-1 a b");
    b.run("xadd w 2-1 a b");
    let group = "*1 *12 $4 name $1 g $9 consumers :";
    check(
        &mut b,
        &[
            ("xsetid w 5-0 entriesadded 9223372036854775807 maxdeletedid 0-0", "+OK"),
            ("xadd w 6-0 a b", "$3 6-0"),
            ("xgroup create w g 0-1", "+OK"),
            (
                "xinfo groups w",
                &format!("{group}0 $7 pending :0 $17 last-delivered-id $3 0-1 $12 entries-read $-1 $3 lag :3"),
            ),
            ("xreadgroup group g c count 1 streams w >", "*1 *2 $1 w *1 *2 $3 1-1 *2 $1 a $1 b"),
            (
                "xinfo groups w",
                &format!(
                    "{group}1 $7 pending :1 $17 last-delivered-id $3 1-1 $12 entries-read :9223372036854775806 $3 lag :2"
                ),
            ),
        ],
    );
}

/// The digest that redis-server 7.0.15 replied for the same stream.
#[test]
fn digests_and_generic_commands() {
    let mut b = Bench::default();
    b.run("xadd d 1-1 f v");
    b.run("xadd d 2-2 a b");
    assert_eq!(b.run("debug digest-value d"), "*1 +e659c800c96a7f2739866cc6928be990d68d4c48");
    check(&mut b, &[("type d", "+stream"), ("object encoding d", "$6 stream"), ("copy d e", ":1"), ("xlen e", ":2")]);
    b.run("xdel e 1-1 2-2");
    check(
        &mut b,
        &[("exists e", ":1"), ("xinfo consumers e g", "-NOGROUP No such consumer group 'g' for key name 'e'")],
    );
}

/// As in Redis, these look for the stream as reading commands do: hits and
/// misses are counted, and whoever listens hears of a miss.
#[test]
fn commands_of_groups_count_as_reading() {
    let mut b = Bench::default();
    b.run("xadd x 1-1 f v");
    b.run("xgroup create x g 0");
    let lines = ["xack KEY g 1-1", "xclaim KEY g c 0 1-1", "xautoclaim KEY g c 0 0"];
    for (i, line) in (1..).zip(lines) {
        b.run(&line.replace("KEY", "x"));
        b.events.clear();
        b.run(&line.replace("KEY", "none"));
        assert_eq!(b.events.iter().map(|e| e.name).collect::<Vec<_>>(), ["keymiss"], "{line}");
        assert_eq!((b.store.stats.hits, b.store.stats.misses), (i, i), "{line}");
    }
}
