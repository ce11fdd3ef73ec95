//! OBJECT: how a value is held.

use super::spec::{Across, Command, KeySpec, Spec, acl, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::store::clock;
use crate::store::entry::{Entry, Value};

const ROW: Spec = Spec {
    arity: 3,
    flags: flag::READONLY,
    keys: &[KeySpec::one(keyflag::RO, 2)],
    acl: acl::KEYSPACE,
    since: "2.2.3",
    tips: &["nondeterministic_output"],
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec { name: "object|encoding", syntax: "key#0", summary: "Names the representation of a value.", ..ROW },
        run: |cx, args| about(cx, args, |_, e| Ok(Answer::Name(encoding(e)))),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "object|freq",
            syntax: "key#0",
            since: "4.0.0",
            summary: "Returns the logarithmic counter of a key's uses.",
            ..ROW
        },
        run: |cx, args| about(cx, args, frequency),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "object|idletime",
            syntax: "key#0",
            summary: "Returns the seconds since a key's last use.",
            ..ROW
        },
        run: |cx, args| about(cx, args, idle_seconds),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "object|refcount",
            syntax: "key#0",
            summary: "Returns the number of references to a value.",
            ..ROW
        },
        run: |cx, args| about(cx, args, |clock, e| Ok(Answer::Number(references(clock, e)))),
        across: Across::Gather,
    },
];

enum Answer {
    Name(&'static str),
    Number(i64),
}

/// What answers take from the context.
struct Clock {
    now_ms: u64,
    lfu: bool,
    decay_minutes: u32,
    shared_integers: bool,
}

fn about(cx: &mut Cx, args: Args, ask: fn(&Clock, &Entry) -> Result<Answer, Fault>) -> Done {
    let key = cx.key(args[2]);
    let o = cx.options;
    let clock = Clock {
        now_ms: cx.now,
        lfu: o.lfu_policy,
        decay_minutes: o.lfu_decay_minutes,
        shared_integers: o.shared_integers,
    };
    match cx.read_unheard(&key).map(|e| ask(&clock, e)).transpose()? {
        None => cx.reply.null(),
        Some(Answer::Name(name)) => cx.reply.bulk(name.as_bytes()),
        Some(Answer::Number(n)) => cx.reply.int(n),
    }
    Ok(())
}

/// Is it the canonical text of an integer, untouched by in-place edits?
fn integer(entry: &Entry) -> Option<i64> {
    if entry.raw() { None } else { entry.as_str().and_then(parse_i64) }
}

/// The names by which Redis calls the representations of strings; ours are
/// the same bytes whatever the name. (An integral sum of INCRBYFLOAT is `int`
/// here at once, in Redis only after the value has been loaded again.)
pub fn encoding(entry: &Entry) -> &'static str {
    const EMBEDDED_MAX: usize = 44;
    match entry.value() {
        Value::Object(o) => o.encoding(),
        Value::Str(_) if integer(entry).is_some() => "int",
        Value::Str(s) if s.len() <= EMBEDDED_MAX && !entry.raw() => "embstr",
        Value::Str(_) => "raw",
    }
}

/// Redis shares the objects of small integers among all keys, and says so.
fn references(clock: &Clock, entry: &Entry) -> i64 {
    const SHARED_INTEGERS: i64 = 10_000;
    match integer(entry) {
        Some(n) if clock.shared_integers && (0..SHARED_INTEGERS).contains(&n) => i64::from(i32::MAX),
        _ => 1,
    }
}

fn frequency(clock: &Clock, entry: &Entry) -> Result<Answer, Fault> {
    if !clock.lfu {
        return Err(Fault::Text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let counter = clock::lfu_decayed(entry.clock(), clock::minutes(clock.now_ms), clock.decay_minutes);
    Ok(Answer::Number(i64::from(counter)))
}

fn idle_seconds(clock: &Clock, entry: &Entry) -> Result<Answer, Fault> {
    if clock.lfu {
        return Err(Fault::Text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    Ok(Answer::Number(clock::idle_seconds(entry.clock(), clock.now_ms) as i64))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    fn ask(b: &mut Bench, what: &str, key: &str) -> String {
        b.run(&format!("object {what} {key}"))
    }

    #[test]
    fn encodings_of_strings() {
        let mut b = Bench::default();
        let long = "x".repeat(44);
        b.run(&format!("mset i 12 z 012 e {long} r {long}x big 9223372036854775808"));
        b.run("append a 1");
        b.run("append a 2");
        for (key, want) in [
            ("i", "$3 int"),
            ("z", "$6 embstr"),
            ("e", "$6 embstr"),
            ("r", "$3 raw"),
            ("big", "$6 embstr"),
            ("a", "$3 raw"),
            ("none", "$-1"),
        ] {
            assert_eq!(ask(&mut b, "encoding", key), want, "{key}");
        }
        assert_eq!(ask(&mut b, "refcount", "i"), ":2147483647");
        assert_eq!(ask(&mut b, "refcount", "e"), ":1");
    }

    #[test]
    fn idle_time_is_not_changed_by_asking() {
        let mut b = Bench::default();
        b.run("set k v");
        b.now += 7_000;
        b.run("ttl k");
        b.run("exists k");
        b.run("type k");
        assert_eq!(ask(&mut b, "idletime", "k"), ":7");
        assert_eq!(ask(&mut b, "idletime", "k"), ":7");
        b.run("touch k");
        assert_eq!(ask(&mut b, "idletime", "k"), ":0");
        assert!(ask(&mut b, "freq", "k").starts_with("-ERR An LFU maxmemory policy is not selected"));
        assert_eq!(ask(&mut b, "freq", "none"), "$-1");
        b.options.lfu_policy = true;
        assert!(ask(&mut b, "idletime", "k").starts_with("-ERR An LFU maxmemory policy is selected"));
    }

    /// As in Redis, nobody hears that OBJECT has missed a key; that one has
    /// expired they do.
    #[test]
    fn misses_are_not_told_of() {
        let mut b = Bench::default();
        ask(&mut b, "encoding", "none");
        assert!(b.events.is_empty());
        b.run("get none");
        assert_eq!(b.events.iter().map(|e| e.name).collect::<Vec<_>>(), ["keymiss"]);
        b.run("set k v px 10");
        b.now += 20;
        ask(&mut b, "encoding", "k");
        assert_eq!(b.events.iter().map(|e| e.name).collect::<Vec<_>>(), ["expired"]);
    }
}
