//! Commands over several strings at once.

use super::cx::Ttl;
use super::spec::{Across, Command, Group, KeySpec, Merge, Spec, flag, keyflag};
use super::{Cx, Done, Fault, string};
use crate::base::Args;
use crate::store::ahead;
use crate::store::entry::Entry;

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "mget",
            syntax: "key#0...",
            arity: -2,
            flags: flag::READONLY | flag::FAST,
            keys: &[KeySpec::range(keyflag::RO | keyflag::ACCESS, 1, -1, 1)],
            group: Group::String,
            complexity: "O(N) for N keys",
            summary: "Returns the strings under several keys.",
            tips: &["request_policy:multi_shard"],
            ..Spec::DEFAULT
        },
        run: mget,
        across: Across::Split(Merge::Elements),
    },
    Command {
        spec: Spec {
            name: "mset",
            syntax: "data(key#0 value)...",
            arity: -3,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::range(keyflag::OW | keyflag::UPDATE, 1, -1, 2)],
            group: Group::String,
            since: "1.0.1",
            complexity: "O(N) for N keys",
            summary: "Stores several strings, all or none of them visible.",
            tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
            ..Spec::DEFAULT
        },
        run: mset,
        across: Across::Split(Merge::Ok),
    },
    Command {
        spec: Spec {
            name: "msetnx",
            syntax: "data(key#0 value)...",
            arity: -3,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::range(keyflag::OW | keyflag::INSERT, 1, -1, 2)],
            group: Group::String,
            since: "1.0.1",
            complexity: "O(N) for N keys",
            summary: "Stores several strings unless one of the keys is in use.",
            tips: &["request_policy:multi_shard", "response_policy:agg_min"],
            ..Spec::DEFAULT
        },
        run: msetnx,
        across: Across::Gather,
    },
];

fn mget(cx: &mut Cx, args: Args) -> Done {
    cx.reply.array(args.len() - 1);
    for some in args[1..].chunks(ahead::KEYS) {
        cx.prefetch(some.iter());
        for arg in some {
            let key = cx.key(arg);
            let (entry, rest) = cx.read_apart(&key);
            match entry.and_then(|e| Entry::as_str(e)) {
                Some(s) => rest.reply.bulk(s),
                None => rest.reply.null(),
            }
        }
    }
    Ok(())
}

fn paired(args: Args, name: &str) -> Done {
    if args.len() % 2 == 1 { Ok(()) } else { Err(Fault::arity(name)) }
}

fn put_pairs(cx: &mut Cx, args: Args) {
    for some in args[1..].chunks(2 * ahead::KEYS) {
        cx.prefetch(some.iter().step_by(2));
        for pair in some.chunks_exact(2) {
            let key = cx.key(pair[0]);
            string::put(cx, &key, pair[1], Ttl::Clear);
        }
    }
    cx.fx.verbatim((args.len() / 2) as u64);
}

fn mset(cx: &mut Cx, args: Args) -> Done {
    paired(args, "mset")?;
    put_pairs(cx, args);
    cx.reply.ok();
    Ok(())
}

fn msetnx(cx: &mut Cx, args: Args) -> Done {
    paired(args, "msetnx")?;
    for pair in args[1..].chunks_exact(2) {
        let key = cx.key(pair[0]);
        if cx.exists(&key) {
            cx.reply.int(0);
            return Ok(());
        }
    }
    put_pairs(cx, args);
    cx.reply.int(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn mset_and_mget() {
        let mut b = Bench::default();
        assert_eq!(b.run("mset a 1 b 2 a 3"), "+OK");
        assert_eq!((b.stream.join("|"), b.dirty), ("mset a 1 b 2 a 3".into(), 3));
        assert_eq!(b.events(), ["set a", "set b", "set a"]);
        assert_eq!(b.run("mget a none b"), "*3 $1 3 $-1 $1 2");
        assert_eq!(b.run("mset a 1 b"), "-ERR wrong number of arguments for 'mset' command");
        assert_eq!(b.run("mset a"), "-ERR wrong number of arguments for 'mset' command");
    }

    #[test]
    fn msetnx_sets_all_or_nothing() {
        let mut b = Bench::default();
        b.run("set a 1");
        assert_eq!(b.run("msetnx z 1 a 2"), ":0");
        assert!(b.stream.is_empty() && b.events.is_empty());
        assert_eq!(b.run("mget z a"), "*2 $-1 $1 1");
        assert_eq!(b.run("msetnx y 1 z 1"), ":1");
        assert_eq!(b.stream, ["msetnx y 1 z 1"]);
        assert_eq!(b.run("msetnx a 1 b"), "-ERR wrong number of arguments for 'msetnx' command");
    }
}
