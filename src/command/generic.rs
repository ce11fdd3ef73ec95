//! Commands over keys of any type.

use super::effect::Class;
use super::fault::{NO_SUCH_KEY, SAME_OBJECT, SYNTAX};
use super::parse::{db_index, is};
use super::spec::{Across, Command, KeySpec, Merge, Spec, acl, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::base::slot::Key;
use crate::store::ahead;
use crate::store::entry::{Entry, Value};

const SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const ROW: Spec = Spec { acl: acl::KEYSPACE, ..Spec::DEFAULT };
const DELETING: Spec = Spec {
    arity: -2,
    flags: flag::WRITE,
    keys: &[KeySpec::range(keyflag::RM | keyflag::DELETE, 1, -1, 1)],
    tips: SUM,
    ..ROW
};
const COUNTING: Spec = Spec {
    arity: -2,
    flags: flag::READONLY | flag::FAST,
    keys: &[KeySpec::range(keyflag::RO, 1, -1, 1)],
    complexity: "O(N) for N keys",
    tips: SUM,
    ..ROW
};
const MOVED: KeySpec = KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::DELETE, 1);

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "del",
            syntax: "key#0...",
            complexity: "O(N) for N keys",
            summary: "Deletes keys.",
            ..DELETING
        },
        run: del,
        across: Across::Split(Merge::Sum),
    },
    Command {
        spec: Spec {
            name: "unlink",
            syntax: "key#0...",
            flags: flag::WRITE | flag::FAST,
            since: "4.0.0",
            complexity: "O(N) for N keys; memory is given back later",
            summary: "Deletes keys and frees their values in the background.",
            ..DELETING
        },
        run: del,
        across: Across::Split(Merge::Sum),
    },
    Command {
        spec: Spec {
            name: "exists",
            syntax: "key#0...",
            summary: "Counts how many of the given keys exist.",
            ..COUNTING
        },
        run: exists,
        across: Across::Split(Merge::Sum),
    },
    Command {
        spec: Spec {
            name: "touch",
            syntax: "key#0...",
            since: "3.2.1",
            summary: "Marks keys as just used and counts those that exist.",
            ..COUNTING
        },
        run: touch,
        across: Across::Split(Merge::Sum),
    },
    Command {
        spec: Spec {
            name: "type",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: &[KeySpec::one(keyflag::RO, 1)],
            summary: "Names the type of a key's value.",
            ..ROW
        },
        run: kind,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "rename",
            syntax: "key#0 newkey#1",
            arity: 3,
            flags: flag::WRITE,
            keys: &[MOVED, KeySpec::one(keyflag::OW | keyflag::UPDATE, 2)],
            summary: "Gives a value another key, in place of what that held.",
            ..ROW
        },
        run: rename,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "renamenx",
            syntax: "key#0 newkey#1",
            arity: 3,
            flags: flag::WRITE | flag::FAST,
            keys: &[MOVED, KeySpec::one(keyflag::OW | keyflag::INSERT, 2)],
            summary: "Gives a value another key if that is not in use.",
            ..ROW
        },
        run: renamenx,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "copy",
            syntax: "source#0 destination#1 [DB destination-db:int] [REPLACE]",
            arity: -3,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1), KeySpec::one(keyflag::OW | keyflag::UPDATE, 2)],
            since: "6.2.0",
            complexity: "O(N) for N elements of the value",
            summary: "Puts a copy of a value under another key.",
            ..ROW
        },
        run: copy,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "move",
            syntax: "key#0 db:int",
            arity: 3,
            flags: flag::WRITE | flag::FAST,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE, 1)],
            summary: "Takes a key to another database.",
            ..ROW
        },
        run: move_key,
        across: Across::Gather,
    },
];

fn del(cx: &mut Cx, args: Args) -> Done {
    let mut n = 0;
    for some in args[1..].chunks(ahead::KEYS) {
        cx.prefetch(some.iter());
        for arg in some {
            let key = cx.key(arg);
            if cx.delete(&key) {
                cx.event(Class::Generic, "del", arg);
                n += 1;
            }
        }
    }
    if n > 0 {
        cx.fx.verbatim(n);
    }
    cx.reply.int(n as i64);
    Ok(())
}

fn exists(cx: &mut Cx, args: Args) -> Done {
    let mut n = 0;
    for some in args[1..].chunks(ahead::KEYS) {
        cx.prefetch(some.iter());
        for arg in some {
            let key = cx.key(arg);
            n += i64::from(cx.read_untouched(&key).is_some());
        }
    }
    cx.reply.int(n);
    Ok(())
}

fn touch(cx: &mut Cx, args: Args) -> Done {
    let mut n = 0;
    for arg in &args[1..] {
        let key = cx.key(arg);
        n += i64::from(cx.read(&key).is_some());
    }
    cx.reply.int(n);
    Ok(())
}

fn kind(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let name = match cx.read_untouched(&key).map(|e| e.value()) {
        None => "none",
        Some(Value::Str(_)) => "string",
        Some(Value::Object(o)) => o.type_name(),
    };
    cx.reply.simple(name);
    Ok(())
}

/// Puts an entry under a key that is free or to be overwritten.
fn place(cx: &mut Cx, key: &Key, entry: Entry, deadline: Option<UnixMs>) {
    cx.store.put_hashed(cx.db, key.hash, entry);
    cx.store.set_deadline(cx.db, key, deadline);
    cx.event(Class::New, "new", key.bytes);
}

/// Moves a value to another key; false if that is in use and must not be.
fn rename_to(cx: &mut Cx, args: Args, only_if_free: bool) -> Result<bool, Fault> {
    let (from, to) = (cx.key(args[1]), cx.key(args[2]));
    if !cx.exists(&from) {
        return Err(NO_SUCH_KEY);
    }
    if from.bytes == to.bytes {
        return Ok(!only_if_free);
    }
    if cx.exists(&to) && only_if_free {
        return Ok(false);
    }
    let Some(entry) = cx.store.take(cx.db, &from) else { return Err(NO_SUCH_KEY) };
    let deadline = entry.deadline();
    place(cx, &to, entry.renamed(to.bytes), deadline);
    cx.fx.verbatim(1);
    cx.event(Class::Generic, "rename_from", from.bytes);
    cx.event(Class::Generic, "rename_to", to.bytes);
    Ok(true)
}

fn rename(cx: &mut Cx, args: Args) -> Done {
    rename_to(cx, args, false)?;
    cx.reply.ok();
    Ok(())
}

fn renamenx(cx: &mut Cx, args: Args) -> Done {
    let renamed = rename_to(cx, args, true)?;
    cx.reply.int(i64::from(renamed));
    Ok(())
}

/// Target database and whether to replace.
fn copy_options(cx: &Cx, words: Args) -> Result<(usize, bool), Fault> {
    let (mut db, mut replace) = (cx.db, false);
    let mut i = 0;
    while i < words.len() {
        if is(words[i], "replace") {
            replace = true;
        } else if is(words[i], "db") && i + 1 < words.len() {
            i += 1;
            db = db_index(words[i], cx.store.databases())?;
        } else {
            return Err(SYNTAX);
        }
        i += 1;
    }
    Ok((db, replace))
}

fn copy(cx: &mut Cx, args: Args) -> Done {
    let (from, to) = (cx.key(args[1]), cx.key(args[2]));
    let (db, replace) = copy_options(cx, &args[3..])?;
    if db == cx.db && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let copied = cx.read(&from).is_some() && (!cx.in_db(db, |cx| cx.exists(&to)) || replace);
    if copied && let Some(source) = cx.store.get(cx.db, &from) {
        let (entry, deadline) = (source.copied(to.bytes), source.deadline());
        entry.set_clock(cx.fresh_clock());
        cx.in_db(db, |cx| {
            place(cx, &to, entry, deadline);
            cx.event(Class::Generic, "copy_to", to.bytes);
        });
        cx.fx.verbatim(1);
    }
    cx.reply.int(i64::from(copied));
    Ok(())
}

fn move_key(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let db = db_index(args[2], cx.store.databases())?;
    if db == cx.db {
        return Err(SAME_OBJECT);
    }
    let moved = cx.exists(&key) && !cx.in_db(db, |cx| cx.exists(&key));
    if moved && let Some(entry) = cx.store.take(cx.db, &key) {
        let deadline = entry.deadline();
        cx.in_db(db, |cx| place(cx, &key, entry, deadline));
        cx.fx.verbatim(1);
        cx.event(Class::Generic, "move_from", key.bytes);
        cx.in_db(db, |cx| cx.event(Class::Generic, "move_to", key.bytes));
    }
    cx.reply.int(i64::from(moved));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    fn bench(line: &str) -> Bench {
        let mut b = Bench { now: 1_000_000, ..Bench::default() };
        b.run(line);
        b
    }

    #[test]
    fn keys_are_deleted() {
        let mut b = bench("mset a 1 b 2");
        assert_eq!(b.run("del a none b a"), ":2");
        assert_eq!((b.stream.join("|"), b.dirty), ("del a none b a".into(), 2));
        assert_eq!(b.events(), ["del a", "del b"]);
        assert_eq!(b.run("unlink a"), ":0");
        assert!(b.stream.is_empty());
        b.run("set a 1 px 5");
        b.now += 5;
        assert_eq!(b.run("unlink a"), ":0");
        assert_eq!((b.stream.join("|"), b.events()), ("DEL a".into(), vec!["expired a".into()]));
    }

    #[test]
    fn keys_are_counted_and_typed() {
        let mut b = bench("mset a 1 b 2");
        assert_eq!(b.run("exists a a none"), ":2");
        assert_eq!(b.run("touch a b none"), ":2");
        assert_eq!(b.run("type a"), "+string");
        assert_eq!(b.run("type none"), "+none");
        assert_eq!((b.store.stats.hits, b.store.stats.misses), (5, 3));
    }

    #[test]
    fn rename_takes_the_deadline_along() {
        let mut b = bench("set a 1 px 500");
        b.run("set b 2 px 900");
        assert_eq!(b.run("rename a b"), "+OK");
        assert_eq!(
            (b.stream.join("|"), b.events()),
            ("rename a b".into(), vec!["rename_from a".into(), "rename_to b".into()])
        );
        assert_eq!(b.run("pttl b"), ":500");
        assert_eq!(b.run("get b"), "$1 1");
        assert_eq!(b.run("rename b b"), "+OK");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("renamenx b b"), ":0");
        b.run("set c 3");
        assert_eq!(b.run("renamenx b c"), ":0");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("renamenx b d"), ":1");
        assert_eq!(b.stream, ["renamenx b d"]);
        assert_eq!(b.run("rename none x"), "-ERR no such key");
        assert_eq!(b.run("rename none none"), "-ERR no such key");
    }

    #[test]
    fn copies_are_independent() {
        let mut b = bench("set a 1 px 500");
        assert_eq!(b.run("copy a b"), ":1");
        assert_eq!((b.stream.join("|"), b.events()), ("copy a b".into(), vec!["copy_to b".into()]));
        assert_eq!(b.run("pttl b"), ":500");
        b.run("incr b");
        assert_eq!(b.run("mget a b"), "*2 $1 1 $1 2");
        assert_eq!(b.run("copy a b"), ":0");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("copy a b replace"), ":1");
        assert_eq!(b.run("copy a a db 1"), ":1");
        assert_eq!(b.events.iter().map(|e| (e.name, e.db)).collect::<Vec<_>>(), [("new", 1), ("copy_to", 1)]);
        assert_eq!(b.run("copy none x"), ":0");
        for (line, error) in [
            ("copy a a", "-ERR source and destination objects are the same"),
            ("copy a b db 99", "-ERR DB index is out of range"),
            ("copy a b db -1", "-ERR DB index is out of range"),
            ("copy a b db x", "-ERR value is not an integer or out of range"),
            ("copy a b db 99999999999", "-ERR value is out of range, value must between -2147483648 and 2147483647"),
            ("copy a b db", "-ERR syntax error"),
            ("copy a b foo", "-ERR syntax error"),
        ] {
            assert_eq!(b.run(line), error, "{line}");
        }
    }

    #[test]
    fn move_between_databases() {
        let mut b = bench("set a 1 px 500");
        assert_eq!(b.run("move a 1"), ":1");
        assert_eq!(b.stream, ["move a 1"]);
        let shown: Vec<_> = b.events.iter().map(|e| (e.name, e.db)).collect();
        assert_eq!(shown, [("new", 1), ("move_from", 0), ("move_to", 1)]);
        b.run("set a 2");
        assert_eq!(b.run("move a 1"), ":0");
        assert_eq!(b.run("move none 1"), ":0");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("move a 0"), "-ERR source and destination objects are the same");
        assert_eq!(b.run("move a 16"), "-ERR DB index is out of range");
        b.db = 1;
        assert_eq!(b.run("pttl a"), ":500");
    }

    /// A replica has its own copy of what expired in the other database and
    /// would refuse the MOVE; a DEL in the wrong database would delete the key
    /// that is to be moved.
    #[test]
    fn what_expired_at_the_destination_is_deleted_there() {
        let mut b = bench("set a old px 5");
        b.db = 1;
        b.run("set a new");
        b.now += 5;
        assert_eq!(b.run("move a 0"), ":1");
        assert_eq!(b.stream, ["[0] DEL a", "move a 0"]);
        assert_eq!(b.events[0].db, 0);
    }
}
