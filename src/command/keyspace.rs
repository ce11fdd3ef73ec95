//! Commands over whole databases.

use super::collect::cursor;
use super::fault::{DB_OUT_OF_RANGE, SYNTAX};
use super::parse::{int, is};
use super::spec::{Across, Command, Group, Merge, Spec, acl, flag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::glob;
use crate::base::num::parse_i64;
use crate::base::slot::Key;
use crate::store::entry::{Entry, Value};
use crate::store::scan;

const READ: Spec = Spec { flags: flag::READONLY, acl: acl::KEYSPACE, ..Spec::DEFAULT };
const FLUSH: Spec = Spec {
    arity: -1,
    flags: flag::WRITE,
    acl: acl::KEYSPACE | acl::DANGEROUS,
    group: Group::Server,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "dbsize",
            arity: 1,
            flags: flag::READONLY | flag::FAST,
            group: Group::Server,
            summary: "Counts the keys of the database.",
            tips: &["request_policy:all_shards", "response_policy:agg_sum"],
            ..READ
        },
        run: dbsize,
        across: Across::Whole(Merge::Sum),
    },
    Command {
        spec: Spec {
            name: "keys",
            syntax: "pattern:pattern",
            arity: 2,
            acl: acl::KEYSPACE | acl::DANGEROUS,
            complexity: "O(N) for N keys in the database",
            summary: "Lists all keys that match a pattern.",
            tips: &["request_policy:all_shards", "nondeterministic_output_order"],
            ..READ
        },
        run: keys,
        across: Across::Whole(Merge::Concat),
    },
    Command {
        spec: Spec {
            name: "randomkey",
            arity: 1,
            summary: "Names a key chosen at random.",
            tips: &["request_policy:all_shards", "nondeterministic_output"],
            ..READ
        },
        run: randomkey,
        across: Across::Anywhere,
    },
    Command {
        spec: Spec {
            name: "scan",
            syntax: "cursor:int [MATCH pattern:pattern] [COUNT count:int] [TYPE type@6.0.0]",
            arity: -2,
            since: "2.8.0",
            complexity: "O(1) for a step, O(N) for all N keys",
            summary: "Lists the keys of the database step by step.",
            tips: &["nondeterministic_output", "request_policy:special"],
            ..READ
        },
        run: scan_keys,
        across: Across::Cursor,
    },
    Command {
        spec: Spec {
            name: "flushdb",
            syntax: "[flush-type(ASYNC@4.0.0|SYNC@6.2.0)]",
            summary: "Empties the database.",
            ..FLUSH
        },
        run: flushdb,
        across: Across::Whole(Merge::Ok),
    },
    Command {
        spec: Spec {
            name: "flushall",
            syntax: "[flush-type(ASYNC@4.0.0|SYNC@6.2.0)]",
            summary: "Empties all databases.",
            ..FLUSH
        },
        run: flushall,
        across: Across::Whole(Merge::Ok),
    },
    Command {
        spec: Spec {
            name: "swapdb",
            syntax: "index1:int index2:int",
            arity: 3,
            flags: flag::WRITE | flag::FAST,
            since: "4.0.0",
            complexity: "O(1), and O(N) for N clients that watch or wait for keys",
            summary: "Exchanges two databases.",
            tips: &[],
            ..FLUSH
        },
        run: swapdb,
        across: Across::Whole(Merge::Ok),
    },
];

fn dbsize(cx: &mut Cx, _args: Args) -> Done {
    cx.reply.int(cx.store.len(cx.db) as i64);
    Ok(())
}

/// A pattern, if it is one that not everything matches.
fn selective(pattern: &[u8]) -> Option<&[u8]> {
    (pattern != b"*").then_some(pattern)
}

fn keys(cx: &mut Cx, args: Args) -> Done {
    let pattern = selective(args[1]);
    let now = cx.now;
    let entries = cx.store.db(cx.db).into_iter().flat_map(|d| d.iter());
    let wanted = |e: &&Entry| !e.expired(now) && pattern.is_none_or(|p| glob::matches(p, e.key(), false));
    let found: Vec<&[u8]> = entries.filter(wanted).map(Entry::key).collect();
    cx.reply.array(found.len());
    found.iter().for_each(|k| cx.reply.bulk(k));
    Ok(())
}

/// Rounds of RANDOMKEY that may meet expired keys which have to stay; as in Redis.
const TRIES: usize = 100;

fn randomkey(cx: &mut Cx, _args: Args) -> Done {
    // Each round that finds an expired key deletes it, or is one of so many.
    for round in 1.. {
        let Some(entry) = cx.store.db(cx.db).and_then(|d| d.random(cx.rng)) else {
            cx.reply.null();
            return Ok(());
        };
        let name = entry.key().to_vec();
        if cx.peek(&Key::new(&name)).is_some() {
            cx.reply.bulk(&name);
            return Ok(());
        }
        if cx.options.keep_expired && round >= TRIES {
            // Redis, too, returns an expired key when there seem to be no others.
            let mut entries = cx.store.db(cx.db).into_iter().flat_map(|d| d.iter());
            let live = entries.find(|e| !e.expired(cx.now)).map(Entry::key);
            cx.reply.bulk(live.unwrap_or(&name));
            return Ok(());
        }
    }
    Ok(())
}

struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    fn parse(words: Args<'a>) -> Result<ScanOptions<'a>, Fault> {
        let mut o = ScanOptions { pattern: None, count: 10, kind: None };
        for pair in words.chunks(2) {
            let &[word, value] = pair else { return Err(SYNTAX) };
            if is(word, "count") {
                let n = int(value)?;
                o.count = usize::try_from(n).ok().filter(|&n| n > 0).ok_or(SYNTAX)?;
            } else if is(word, "match") {
                o.pattern = selective(value);
            } else if is(word, "type") {
                o.kind = Some(value);
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(o)
    }

    fn matches(&self, entry: &Entry) -> bool {
        self.pattern.is_none_or(|p| glob::matches(p, entry.key(), false))
    }

    fn is_of_kind(&self, entry: &Entry) -> bool {
        let kind = match entry.value() {
            Value::Str(_) => "string",
            Value::Object(o) => o.type_name(),
        };
        self.kind.is_none_or(|k| is(k, kind))
    }
}

fn scan_keys(cx: &mut Cx, args: Args) -> Done {
    // What is refused goes nowhere.
    let tour = cx.fx.tour.take();
    let at = cursor(args[1])?;
    let o = ScanOptions::parse(&args[2..])?;
    let seen = tour.as_ref().map_or(0, |t| t.seen);
    let step = scan::step(cx.store.db(cx.db), at, o.count.saturating_sub(seen), cx.owns);
    let seen = seen + step.entries.len();
    let matching = step.entries.iter().filter(|e| o.matches(e));
    let (expired, mut found): (Vec<&Entry>, Vec<&Entry>) = matching.partition(|e| e.expired(cx.now));
    found.retain(|e| o.is_of_kind(e));
    match tour {
        Some(mut t) if step.next.is_some() && seen < o.count && t.legs_left > 0 => {
            t.found.extend(found.iter().map(|e| e.key().to_vec()));
            (t.seen, t.next) = (seen, step.next);
            cx.fx.tour = Some(t);
        }
        tour => {
            let before = tour.map_or_else(Vec::new, |t| t.found);
            let mut digits = itoa::Buffer::new();
            cx.reply.array(2);
            cx.reply.bulk(digits.format(step.next.map_or(0, scan::cursor_of)).as_bytes());
            cx.reply.array(before.len() + found.len());
            before.iter().for_each(|k| cx.reply.bulk(k));
            found.iter().for_each(|e| cx.reply.bulk(e.key()));
        }
    }
    // What has expired goes, as if it had been asked for.
    let expired: Vec<Vec<u8>> = expired.into_iter().map(|e| e.key().to_vec()).collect();
    for key in expired {
        cx.peek(&Key::new(&key));
    }
    Ok(())
}

fn check_flush_mode(args: Args) -> Done {
    match args {
        [_] => Ok(()),
        [_, mode] if is(mode, "async") || is(mode, "sync") => Ok(()),
        _ => Err(SYNTAX),
    }
}

/// Empties a database and returns how many keys it had. SYNC and ASYNC are the
/// same to the data path: memory is never given back on it.
fn flush(cx: &mut Cx, db: usize) -> u64 {
    let Some(old) = cx.store.flush(db) else { return 0 };
    let n = old.len() as u64;
    cx.store.discard_db(old);
    n
}

fn flushdb(cx: &mut Cx, args: Args) -> Done {
    check_flush_mode(args)?;
    let n = flush(cx, cx.db);
    // It goes to the stream even when there was nothing to delete.
    cx.fx.verbatim(n);
    cx.reply.ok();
    Ok(())
}

fn flushall(cx: &mut Cx, args: Args) -> Done {
    check_flush_mode(args)?;
    let n: u64 = (0..cx.store.databases()).map(|db| flush(cx, db)).sum();
    cx.fx.verbatim(n);
    cx.reply.ok();
    Ok(())
}

fn swapdb(cx: &mut Cx, args: Args) -> Done {
    let number = |arg, error| parse_i64(arg).and_then(|n| i32::try_from(n).ok()).ok_or(Fault::Text(error));
    let a = number(args[1], "ERR invalid first DB index")?;
    let b = number(args[2], "ERR invalid second DB index")?;
    let index = |n: i32| usize::try_from(n).ok().filter(|&n| n < cx.store.databases()).ok_or(DB_OUT_OF_RANGE);
    let (a, b) = (index(a)?, index(b)?);
    cx.store.swap(a, b);
    cx.fx.verbatim(1);
    cx.fx.alike = true;
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;
    use crate::resp::reply::Proto;

    #[test]
    fn keys_are_counted_listed_and_drawn() {
        let mut b = Bench::default();
        assert_eq!(b.run("randomkey"), "$-1");
        b.run("mset one 1 two 2");
        b.run("set gone 3 px 5");
        b.now += 5;
        assert_eq!(b.run("dbsize"), ":3");
        assert_eq!(b.run("keys t*"), "*1 $3 two");
        assert!(b.run("keys *").starts_with("*2 "));
        for _ in 0..20 {
            assert_ne!(b.run("randomkey"), "$4 gone");
        }
        assert_eq!(b.run("dbsize"), ":2");
        b.run("flushdb");
        b.proto = Proto::Resp3;
        assert_eq!(b.run("randomkey"), "_");
    }

    #[test]
    fn a_scan_visits_every_key_once() {
        let mut b = Bench::default();
        for i in 0..100 {
            b.run(&format!("set key{i} v"));
        }
        b.run("set gone v px 5");
        b.now += 5;
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = String::from("0");
        loop {
            let reply = b.run(&format!("scan {cursor} count 7 match key* type STRING"));
            let words: Vec<&str> = reply.split(' ').collect();
            cursor = words[2].into();
            words[4..].iter().filter(|w| w.starts_with("key")).for_each(|k| assert!(seen.insert(k.to_string())));
            assert!(!reply.contains("gone"));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 100);
        assert_eq!(b.run("scan 0 count 1000 type list"), "*2 $1 0 *0");
        assert_eq!(b.run("scan 18446744073709551615"), "*2 $1 0 *0");
        assert_eq!(b.run("scan -1"), "*2 $1 0 *0");
        assert!(b.run("scan '' count 200").starts_with("*2 $1 0 *100"));
        for (line, error) in [
            ("scan abc", "-ERR invalid cursor"),
            ("scan 18446744073709551616", "-ERR invalid cursor"),
            ("scan ' 1'", "-ERR invalid cursor"),
            ("scan 0 count 0", "-ERR syntax error"),
            ("scan 0 count abc", "-ERR value is not an integer or out of range"),
            ("scan 0 match", "-ERR syntax error"),
            ("scan 0 foo bar", "-ERR syntax error"),
        ] {
            assert_eq!(b.run(line), error, "{line}");
        }
    }

    #[test]
    fn databases_are_emptied_and_exchanged() {
        let mut b = Bench::default();
        b.run("mset a 1 b 2");
        assert_eq!(b.run("swapdb 0 3"), "+OK");
        assert_eq!(b.stream, ["swapdb 0 3"]);
        assert_eq!(b.run("dbsize"), ":0");
        assert_eq!(b.run("flushdb"), "+OK");
        assert_eq!((b.stream.join("|"), b.dirty), ("flushdb".into(), 0));
        assert_eq!(b.run("flushall ASYNC"), "+OK");
        assert_eq!((b.stream.join("|"), b.dirty), ("flushall ASYNC".into(), 2));
        assert!(b.store.is_empty() && b.store.has_garbage());
        assert_eq!(b.store.take_flushed().len(), 1);
        assert_eq!(b.run("flushdb foo"), "-ERR syntax error");
        assert_eq!(b.run("flushall sync async"), "-ERR syntax error");
        assert_eq!(b.run("swapdb 0 99"), "-ERR DB index is out of range");
        assert_eq!(b.run("swapdb a 1"), "-ERR invalid first DB index");
        assert_eq!(b.run("swapdb 0 99999999999"), "-ERR invalid second DB index");
    }
}
