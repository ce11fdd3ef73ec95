//! Tests of the commands over strings.

use crate::command::testing::Bench;
use crate::resp::reply::Proto;

fn bench() -> Bench {
    Bench { now: 1_000_000, ..Bench::default() }
}

#[test]
fn get_of_a_missing_key_is_null() {
    let mut b = bench();
    assert_eq!(b.run("get k"), "$-1");
    b.proto = Proto::Resp3;
    assert_eq!(b.run("get k"), "_");
}

#[test]
fn set_goes_on_verbatim() {
    let mut b = bench();
    for line in ["SET k v", "set k v keepttl", "set k w xx", "set n v nx"] {
        assert_eq!(b.run(line), "+OK", "{line}");
        assert_eq!((&b.stream[..], b.dirty), (&[line.to_string()][..], 1));
        assert_eq!(b.events(), [format!("set {}", line.split(' ').nth(1).unwrap())]);
    }
    assert_eq!(b.events[0].name, "new");
    assert_eq!(b.run("get k"), "$1 w");
}

#[test]
fn lifetimes_go_on_as_deadlines() {
    let mut b = bench();
    for (line, stream) in [
        ("set k v EX 100", "SET k v PXAT 1100000"),
        ("set k v px 7 xx", "SET k v PXAT 1000007"),
        ("set k v exat 2000", "SET k v PXAT 2000000"),
        ("set k v pxat 1999999", "SET k v PXAT 1999999"),
        ("set k v ex 5 ex 6", "SET k v PXAT 1006000"),
        ("setex k 50 v", "SET k v PXAT 1050000"),
        ("psetex k 50 v", "SET k v PXAT 1000050"),
        ("set k v pxat 1", "SET k v PXAT 1"),
    ] {
        assert_eq!(b.run(line), "+OK", "{line}");
        assert_eq!(b.stream, [stream]);
        assert_eq!(b.events(), ["set k", "expire k"]);
    }
    assert_eq!(b.run("get k"), "$-1");
    assert_eq!((b.stream.join("|"), b.events()), ("DEL k".into(), vec!["expired k".into()]));
}

/// CLIENT PAUSE promises a keyspace that stands still: a read deleted what it
/// found expired.
#[test]
fn expired_keys_stay_while_writing_is_paused() {
    let mut b = bench();
    b.run("set k v pxat 1");
    b.options.keep_expired = true;
    assert_eq!(b.run("get k"), "$-1");
    assert_eq!((b.events().len(), b.store.len(0)), (0, 1));
    assert_eq!(b.run("append k w"), ":1");
    assert_eq!((b.run("get k"), b.store.len(0)), ("$1 w".into(), 1));
    b.run("set k v pxat 1");
    b.options.keep_expired = false;
    assert_eq!(b.run("get k"), "$-1");
    assert_eq!((b.events(), b.store.len(0)), (vec!["expired k".into()], 0));
}

#[test]
fn lifetimes_are_cleared_or_kept() {
    let mut b = bench();
    b.run("set k v px 100");
    b.run("set k w keepttl");
    assert_eq!(b.run("pttl k"), ":100");
    b.run("set k a-longer-value keepttl");
    assert_eq!(b.run("pttl k"), ":100");
    b.run("set k v");
    assert_eq!(b.run("pttl k"), ":-1");
}

/// KEEPTTL once kept the deadline of a value that no longer existed.
#[test]
fn set_over_an_expired_key_records_its_end() {
    let mut b = bench();
    for line in ["set k w", "set k w keepttl"] {
        b.run("set k v px 100");
        b.now += 100;
        assert_eq!(b.run(line), "+OK");
        assert_eq!(b.stream, ["DEL k", line]);
        assert_eq!(b.events(), ["expired k", "set k"]);
        assert_eq!(b.run("pttl k"), ":-1");
    }
    assert_eq!(b.store.stats.expired, 2);
}

#[test]
fn conditions_of_set() {
    let mut b = bench();
    assert_eq!(b.run("set k v xx"), "$-1");
    assert_eq!(b.run("set k v nx"), "+OK");
    assert_eq!(b.run("set k w nx"), "$-1");
    assert!(b.stream.is_empty() && b.events.is_empty());
    assert_eq!(b.run("set k w nx get"), "$1 v");
    assert!(b.stream.is_empty());
    assert_eq!(b.run("set n w nx get"), "$-1");
    assert_eq!(b.stream, ["set n w nx"]);
    assert_eq!(b.run("set m w xx get"), "$-1");
    assert_eq!(b.run("get m"), "$-1");
    b.proto = Proto::Resp3;
    assert_eq!(b.run("set k w nx"), "_");
}

#[test]
fn set_with_get_goes_on_without() {
    let mut b = bench();
    b.run("set k v");
    for (line, old, stream) in [
        ("set k w get", "$1 v", "set k w"),
        ("set k x GET xx", "$1 w", "set k x xx"),
        ("set k get Get keepttl", "$1 x", "set k get keepttl"),
        ("set k z px 5 get", "$3 get", "SET k z PXAT 1000005"),
    ] {
        assert_eq!(b.run(line), old, "{line}");
        assert_eq!(b.stream, [stream]);
    }
}

#[test]
fn errors_of_set() {
    let mut b = bench();
    let (syntax, number) = ("-ERR syntax error", "-ERR value is not an integer or out of range");
    let time = "-ERR invalid expire time in 'set' command";
    for (line, error) in [
        ("set k v ex 0", time),
        ("set k v ex -1", time),
        ("set k v ex 9223372036854775807", time),
        ("set k v px 9223372036854775807", time),
        ("set k v ex abc", number),
        ("set k v ex", syntax),
        ("set k v ex 5 px 5", syntax),
        ("set k v ex 5 keepttl", syntax),
        ("set k v keepttl ex 5", syntax),
        ("set k v nx xx", syntax),
        ("set k v persist", syntax),
        ("set k v foo", syntax),
        ("setex k 0 v", "-ERR invalid expire time in 'setex' command"),
        ("psetex k -1 v", "-ERR invalid expire time in 'psetex' command"),
        ("setex k x v", number),
    ] {
        assert_eq!(b.run(line), error, "{line}");
        assert!(b.stream.is_empty() && b.events.is_empty());
    }
    assert_eq!(b.run("exists k"), ":0");
}

#[test]
fn setnx_replies_a_number() {
    let mut b = bench();
    assert_eq!(b.run("setnx k v"), ":1");
    assert_eq!((b.stream.join("|"), b.events()), ("setnx k v".into(), vec!["set k".into()]));
    assert_eq!(b.run("setnx k w"), ":0");
    assert!(b.stream.is_empty() && b.events.is_empty());
}

#[test]
fn getset_goes_on_as_set() {
    let mut b = bench();
    assert_eq!(b.run("getset k v"), "$-1");
    b.run("expire k 100");
    assert_eq!(b.run("getset k w"), "$1 v");
    assert_eq!((b.stream.join("|"), b.events()), ("SET k w".into(), vec!["set k".into()]));
    assert_eq!(b.run("ttl k"), ":-1");
}

#[test]
fn getdel_goes_on_as_del() {
    let mut b = bench();
    b.run("set k v");
    assert_eq!(b.run("getdel k"), "$1 v");
    assert_eq!((b.stream.join("|"), b.events()), ("DEL k".into(), vec!["del k".into()]));
    assert_eq!(b.run("getdel k"), "$-1");
    assert!(b.stream.is_empty());
}

#[test]
fn getex_goes_on_as_what_it_does() {
    let mut b = bench();
    b.run("set k v");
    for (line, stream, events) in [
        ("getex k", "", ""),
        ("getex k persist", "", ""),
        ("getex k ex 5", "PEXPIREAT k 1005000", "expire k"),
        ("getex k PXAT 1000007", "PEXPIREAT k 1000007", "expire k"),
        ("getex k persist", "PERSIST k", "persist k"),
        ("getex k exat 1", "DEL k", "del k"),
    ] {
        assert_eq!(b.run(line), "$1 v", "{line}");
        assert_eq!((b.stream.join("|"), b.events().join("|")), (stream.into(), events.into()), "{line}");
    }
    assert_eq!(b.run("getex k ex 0"), "$-1");
    b.run("set k v");
    assert_eq!(b.run("getex k ex 0"), "-ERR invalid expire time in 'getex' command");
    for line in ["getex k keepttl", "getex k foo", "getex k ex 1 persist", "getex k px"] {
        assert_eq!(b.run(line), "-ERR syntax error", "{line}");
    }
    assert!(b.stream.is_empty());
}

/// Wants a key of another type, which no command of this family makes.
#[test]
fn other_types_are_refused() {
    let mut b = bench();
    let set = crate::store::object::Collection::wrap(crate::store::set::Set::default());
    b.store.put(0, crate::store::entry::Entry::object(b"l", set, None));
    for line in [
        "get l",
        "set l v get",
        "getset l v",
        "getdel l",
        "getex l",
        "append l x",
        "strlen l",
        "incr l",
        "incrbyfloat l 1",
        "setrange l 0 x",
        "setrange l 0 ''",
        "getrange l 0 1",
        "setbit l 0 1",
        "getbit l 0",
        "bitcount l",
        "bitpos l 1",
        "bitop and d l",
        "bitfield l get u8 0",
        "bitfield l set u8 0 1",
    ] {
        assert_eq!(b.run(line), "-WRONGTYPE Operation against a key holding the wrong kind of value", "{line}");
        assert!(b.stream.is_empty() && b.events().is_empty());
    }
    assert_eq!(b.run("lcs l none"), "-ERR The specified keys must contain string values");
    assert_eq!(b.run("mget l"), "*1 $-1");
    assert_eq!(b.run("type l"), "+set");
    assert_eq!(b.run("set l v"), "+OK");
    assert_eq!(b.run("get l"), "$1 v");
}

/// As Valkey documents SET ... IFEQ (8.1) and DELIFEQ (9.0).
#[test]
fn comparing_before_a_change() {
    let mut b = Bench::default();
    for (line, want) in [
        ("set k new ifeq old", "$-1"),
        ("exists k", ":0"),
        ("set k old", "+OK"),
        ("set k x ifeq other", "$-1"),
        ("set k x ifeq other get", "$3 old"),
        ("set k new ifeq old get", "$3 old"),
        ("set k x nx ifeq new", "-ERR syntax error"),
        ("set k x ifeq", "-ERR syntax error"),
        ("rpush l a", ":1"),
        ("set l x ifeq a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("delifeq k old", ":0"),
        ("delifeq l a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("delifeq none a", ":0"),
    ] {
        assert_eq!(b.run(line), want, "{line}");
    }
    assert_eq!(
        (b.run("set k newer ifeq new keepttl"), b.stream.join("|")),
        ("+OK".into(), "set k newer keepttl".into())
    );
    assert_eq!(
        (b.run("delifeq k newer"), b.stream.join("|"), b.events()),
        (":1".into(), "DEL k".into(), vec!["del k".into()])
    );
}
