//! The subcommands of DEBUG that work on keys. DEBUG itself answers for those
//! that do not, and for calls that do not fit.

use super::digest::{self, Digest};
use super::fault::NO_SUCH_KEY;
use super::parse::int;
use super::spec::{Across, Command, Group, KeySpec, Merge, Spec, acl, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::slot::{Key, SLOTS};
use crate::resp::value;
use crate::store::entry::{Entry, Value};
use crate::store::object::Object;

const ROW: Spec = Spec {
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::PROTECTED | flag::HIDDEN,
    group: Group::Server,
    acl: acl::DANGEROUS,
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec { name: "debug|object", arity: 3, keys: &[KeySpec::one(keyflag::RO, 2)], ..ROW },
        run: object,
        across: Across::Gather,
    },
    Command {
        spec: Spec { name: "debug|digest-value", arity: -2, keys: &[KeySpec::range(keyflag::RO, 2, -1, 1)], ..ROW },
        run: digest_value,
        across: Across::Gather,
    },
    Command { spec: Spec { name: "debug|digest", arity: 2, ..ROW }, run: digest, across: Across::Whole(Merge::Digest) },
    Command {
        spec: Spec { name: "debug|populate", arity: -3, flags: ROW.flags | flag::WRITE, ..ROW },
        run: populate,
        across: Across::Whole(Merge::Ok),
    },
];

/// Bytes of a length and of a string in a snapshot file.
fn saved_string(s: &[u8]) -> usize {
    let head = match s.len() {
        0..64 => 1,
        64..16_384 => 2,
        _ => 5,
    };
    match crate::base::num::parse_i64(s) {
        Some(n) if s.len() <= 11 && i32::try_from(n).is_ok() => match n {
            -128..=127 => 2,
            -32_768..=32_767 => 3,
            _ => 5,
        },
        _ => head + s.len(),
    }
}

/// About how long the value is in a snapshot file.
fn saved_length(entry: &Entry) -> usize {
    let mut n = 1;
    let mut add = |s: &[u8]| n += saved_string(s);
    match entry.value() {
        Value::Str(s) => return saved_string(s),
        Value::Object(Object::List(x)) => x.iter().for_each(|i| i.with(&mut add)),
        Value::Object(Object::Set(x)) => x.iter().for_each(|i| i.with(&mut add)),
        Value::Object(Object::Hash(x)) => x.iter().for_each(|(f, v)| {
            f.with(&mut add);
            v.with(&mut add);
        }),
        Value::Object(Object::ZSet(x)) => x.iter().for_each(|(member, _)| {
            member.with(&mut add);
            add(b"8 bytes.");
        }),
        Value::Object(Object::Stream(x)) => x.nodes().for_each(|(_, l)| add(l.as_bytes())),
    }
    n
}

fn object(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[2]);
    let (now, options) = (cx.now, cx.options);
    // Also a key past its deadline that is still held, as on a replica.
    let Some(e) = cx.store.get(cx.db, &key) else { return Err(NO_SUCH_KEY) };
    let idle = if options.lfu_policy { 0 } else { crate::store::clock::idle_seconds(e.clock(), now) };
    let text = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle}",
        e.address(),
        super::object::encoding(e),
        saved_length(e),
        e.clock(),
    );
    cx.reply.simple(&text);
    Ok(())
}

fn digest_value(cx: &mut Cx, args: Args) -> Done {
    cx.reply.array(args.len() - 2);
    for name in &args[2..] {
        let key = cx.key(name);
        let d = cx.store.get(cx.db, &key).map(digest::value).unwrap_or_default();
        cx.reply.simple(&d.hex());
    }
    Ok(())
}

/// With all slots at hand the digest itself, else this core's part of it: for
/// each database its number and the digest of its keys.
fn digest(cx: &mut Cx, _: Args) -> Done {
    let used: Vec<usize> = (0..cx.store.databases()).filter(|db| cx.store.len(*db) > 0).collect();
    let parts = used.iter().map(|db| (*db, digest::database(cx.store, *db)));
    if (0..SLOTS as u16).all(|s| (cx.owns)(s)) {
        let text = digest::whole(parts).hex();
        cx.reply.simple(&text);
        return Ok(());
    }
    let mut out = Vec::new();
    for (db, d) in parts {
        out.extend_from_slice(&(db as u32).to_be_bytes());
        out.extend_from_slice(d.bytes());
    }
    cx.reply.bulk(&out);
    Ok(())
}

/// The digest of all keys from what the cores replied to [`digest`].
pub fn join_digests<'a>(replies: impl Iterator<Item = &'a [u8]> + Clone) -> String {
    const PART: usize = 24;
    // A core that owns all slots has said all.
    if let Some(done) = replies.clone().find(|r| r.first() == Some(&b'+')) {
        return String::from_utf8_lossy(&done[1..done.len() - 2]).into_owned();
    }
    let mut dbs = std::collections::BTreeMap::<usize, Digest>::new();
    for part in replies.filter_map(value::bulk).flat_map(|b| b.chunks_exact(PART)) {
        let (db, sum) = part.split_at(4);
        let db = u32::from_be_bytes(db.try_into().unwrap_or_default()) as usize;
        dbs.entry(db).or_default().xor(&Digest::from_bytes(sum.try_into().unwrap_or_default()));
    }
    digest::whole(dbs.into_iter()).hex()
}

/// DEBUG POPULATE count [prefix [size]]: the keys of this core.
fn populate(cx: &mut Cx, args: Args) -> Done {
    let positive = |a: &[u8]| match int(a) {
        Ok(n) if n >= 0 => Ok(n as usize),
        _ => Err(Fault::Text("ERR value is out of range, must be positive")),
    };
    let count = positive(args[2])?;
    let prefix = args.get(3).copied().unwrap_or(b"key");
    let size = args.get(4).map(|a| positive(a)).transpose()?.unwrap_or(0);
    if size > cx.options.proto_max_bulk_len {
        return Err(super::fault::STRING_TOO_LONG);
    }
    let mut name = Vec::new();
    let mut value = Vec::new();
    for i in 0..count {
        name.clear();
        name.extend_from_slice(prefix);
        name.extend_from_slice(format!(":{i}").as_bytes());
        let key = Key::new(&name);
        if !(cx.owns)(key.slot()) || cx.exists(&key) {
            continue;
        }
        value.clear();
        value.extend_from_slice(format!("value:{i}").as_bytes());
        if size > 0 {
            value.resize(size, 0);
        }
        cx.set_string(&key, &value, super::cx::Ttl::Clear);
    }
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;

    #[test]
    fn populate_fills_up_without_replacing() {
        let mut b = Bench::default();
        b.run("set p:1 mine");
        assert_eq!(b.run("debug populate 3 p 10"), "+OK");
        assert_eq!(b.run("get p:1"), "$4 mine");
        assert_eq!(b.run("strlen p:2"), ":10");
        assert_eq!(b.run("dbsize"), ":3");
        assert!(b.run("debug populate x").starts_with("-ERR value is out of range, must be positive"));
    }

    #[test]
    fn objects_tell_their_length_in_a_snapshot() {
        let mut b = Bench::default();
        b.run("mset s x i 12345 l abc");
        assert!(b.run("debug object s").contains("encoding:embstr serializedlength:2 "));
        assert!(b.run("debug object i").contains("encoding:int serializedlength:3 "));
        assert!(b.run("debug object none").starts_with("-ERR no such key"));
    }

    #[test]
    fn parts_of_a_digest_join_to_the_whole() {
        let mut b = Bench::default();
        b.run("set a 1");
        let a = digest::database(&b.store, 0);
        b.run("set b 2");
        let both = digest::database(&b.store, 0);
        let mut other = both;
        other.xor(&a);
        let part = |d: &Digest| {
            let mut out = b"$24\r\n\0\0\0\0".to_vec();
            out.extend_from_slice(d.bytes());
            out.extend_from_slice(b"\r\n");
            out
        };
        let (x, y) = (part(&a), part(&other));
        let want = format!("+{}", join_digests([&x[..], b"$0\r\n\r\n", &y].into_iter()));
        assert_eq!(b.run("debug digest"), want);
    }
}
