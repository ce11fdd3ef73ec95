//! DUMP and RESTORE: one value as bytes, between servers.
//!
//! A payload is the type byte and the value as in a file, the version (two
//! bytes, little-endian) and the CRC-64 of all before it (eight bytes).

use std::cell::RefCell;

use super::access;
use super::rdb::decode::{Decoder, Limits};
use super::rdb::encode::{Access, Encoder};
use super::rdb::{READABLE, Version, checksum};
use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::command::effect::Class;
use crate::command::fault::SYNTAX;
use crate::command::parse::{int, is};
use crate::command::spec::{Group, KeySpec, acl, flag, keyflag};
use crate::command::{Across, Command, Cx, Done, Fault, Spec};
use crate::store::entry::{Entry, Value};

/// Bytes of version and checksum.
const FOOTER: usize = 10;

const ROW: Spec = Spec { acl: acl::KEYSPACE, since: "2.6.0", ..Spec::DEFAULT };
const RESTORE: Spec = Spec {
    name: "restore",
    arity: -4,
    syntax: "key#0 ttl:int serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME seconds:int@5.0.0] [FREQ \
        frequency:int@5.0.0]",
    flags: flag::WRITE | flag::DENYOOM,
    keys: &[KeySpec::one(keyflag::OW | keyflag::UPDATE, 1)],
    acl: acl::KEYSPACE | acl::DANGEROUS,
    complexity: "O(N) for N bytes of payload; O(N log N) for sorted sets that are not compact",
    summary: "Creates a key from what DUMP returned.",
    ..ROW
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "dump",
            arity: 2,
            syntax: "key#0",
            flags: flag::READONLY,
            keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)],
            complexity: "O(N) for N bytes of the value",
            summary: "Returns a value as bytes for RESTORE.",
            tips: &["nondeterministic_output"],
            ..ROW
        },
        run: dump,
        across: Across::Gather,
    },
    Command { spec: RESTORE, run: restore, across: Across::Gather },
    Command {
        spec: Spec {
            name: "restore-asking",
            flags: RESTORE.flags | flag::ASKING,
            group: Group::Server,
            since: "3.0.0",
            summary: "Is RESTORE for keys of a slot that is being moved here.",
            ..RESTORE
        },
        run: restore,
        across: Across::Gather,
    },
];

/// The payload of a value.
pub fn payload(value: Value, compress: bool) -> Vec<u8> {
    thread_local! {
        static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new(Version::V10, true));
    }
    let mut out = Vec::new();
    ENCODER.with_borrow_mut(|e| {
        e.set_compress(compress);
        out.push(e.kind_of(&value));
        e.value(&mut out, value);
    });
    out.extend_from_slice(&(Version::V10 as u16).to_le_bytes());
    let sum = checksum::of(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// What stands before the footer, if that is in order.
pub fn verified(payload: &[u8]) -> Option<&[u8]> {
    let (summed, sum) = payload.split_at_checked(payload.len().checked_sub(8)?)?;
    let sum = u64::from_le_bytes(sum.try_into().ok()?);
    unverified(payload).filter(|_| sum == checksum::of(summed))
}

/// The same, whatever the checksum says (DEBUG SET-SKIP-CHECKSUM-VALIDATION).
fn unverified(payload: &[u8]) -> Option<&[u8]> {
    let body = payload.len().checked_sub(FOOTER)?;
    let version = u16::from_le_bytes([payload[body], payload[body + 1]]);
    READABLE.contains(&u32::from(version)).then_some(&payload[..body])
}

fn dump(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (found, rest) = cx.read_apart(&key);
    match found {
        Some(e) => rest.reply.bulk(&payload(e.value(), rest.options.rdb_compression)),
        None => rest.reply.null(),
    }
    Ok(())
}

/// What stands behind RESTORE's payload.
#[derive(Default)]
struct Given {
    replace: bool,
    absolute: bool,
    access: Access,
}

fn given(words: Args) -> Result<Given, Fault> {
    let mut g = Given::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if is(word, "replace") {
            g.replace = true;
        } else if is(word, "absttl") {
            g.absolute = true;
        } else if is(word, "idletime") && !matches!(g.access, Access::Freq(_)) {
            let n = int(words.next().ok_or(SYNTAX)?)?;
            let bad = |_| Fault::Text("ERR Invalid IDLETIME value, must be >= 0");
            g.access = Access::Idle(u64::try_from(n).map_err(bad)?);
        } else if is(word, "freq") && !matches!(g.access, Access::Idle(_)) {
            let n = int(words.next().ok_or(SYNTAX)?)?;
            let bad = |_| Fault::Text("ERR Invalid FREQ value, must be >= 0 and <= 255");
            g.access = Access::Freq(u8::try_from(n).map_err(bad)?);
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(g)
}

fn restore(cx: &mut Cx, args: Args) -> Done {
    let given = given(&args[4..])?;
    let key = cx.key(args[1]);
    if !given.replace && cx.exists(&key) {
        return Err(Fault::Text("BUSYKEY Target key name already exists."));
    }
    let ttl = int(args[2])?;
    let ttl = UnixMs::try_from(ttl).map_err(|_| Fault::Text("ERR Invalid TTL value, must be >= 0"))?;
    let body = if cx.options.skip_checksums { unverified(args[3]) } else { verified(args[3]) };
    let body = body.ok_or(Fault::Text("ERR DUMP payload version or checksum are wrong"))?;
    let at = if given.absolute || ttl == 0 { ttl } else { ttl.saturating_add(cx.now) };
    let deadline = (at > 0).then_some(at);
    let entry = decoded(cx, key.bytes, body, deadline)?;
    entry.set_clock(access::clock(given.access, cx.options.lfu_policy, cx.now).unwrap_or(cx.fresh_clock()));
    let deleted = given.replace && cx.delete(&key);
    cx.reply.ok();
    if deadline.is_some_and(|d| d <= cx.now) {
        if deleted {
            let word: &[u8] = if cx.options.lazy_server_del { b"UNLINK" } else { b"DEL" };
            cx.fx.rewrite(1, &[word, key.bytes]);
            cx.event(Class::Generic, "del", key.bytes);
        }
        return Ok(());
    }
    cx.store.insert_new(cx.db, key.hash, entry);
    cx.event(Class::New, "new", key.bytes);
    if deadline.is_some() && !given.absolute {
        let (mut buffer, mut words) = (itoa::Buffer::new(), args.to_vec());
        words[2] = buffer.format(at).as_bytes();
        words.push(b"ABSTTL");
        cx.fx.rewrite(1, &words);
    } else {
        cx.fx.verbatim(1);
    }
    cx.event(Class::Generic, "restore", key.bytes);
    Ok(())
}

fn decoded(cx: &mut Cx, key: &[u8], body: &[u8], deadline: Option<UnixMs>) -> Result<Entry, Fault> {
    let deep = cx.options.sanitize_payloads;
    let bad = Fault::Text("ERR Bad data format");
    let Some((&kind, value)) = body.split_first() else { return Err(bad) };
    let mut decoder = Decoder::new(Limits::new(cx.options), deep);
    let entry = decoder.entry(kind, key, value, deadline);
    cx.store.stats.sanitized += decoder.take_looked_through();
    entry.map_err(|fault| {
        crate::observe::log::warning(format_args!("RESTORE of '{}': {fault}", key.escape_ascii()));
        bad
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;

    fn bench() -> Bench {
        Bench { more: ROWS, ..Bench::default() }
    }

    fn payload_of(b: &mut Bench, key: &str) -> Vec<u8> {
        let reply = b.raw(&[b"DUMP", key.as_bytes()]);
        let at = reply.iter().position(|c| *c == b'\n').unwrap() + 1;
        reply[at..reply.len() - 2].to_vec()
    }

    fn restore(b: &mut Bench, key: &str, ttl: &str, payload: &[u8], more: &[&str]) -> String {
        let mut args: Vec<&[u8]> = vec![b"RESTORE", key.as_bytes(), ttl.as_bytes(), payload];
        args.extend(more.iter().map(|m| m.as_bytes()));
        String::from_utf8_lossy(&b.raw(&args)).trim_end().to_string()
    }

    #[test]
    fn payloads_are_those_of_redis() {
        let mut b = bench();
        b.run("set a hello");
        // DUMP a of Redis 7.0.15.
        assert_eq!(payload_of(&mut b, "a"), b"\x00\x05hello\x0a\x00cr\xdfve4 \x0a"[..]);
    }

    #[test]
    fn streams_are_those_of_redis() {
        let mut b = bench();
        for line in [
            "xadd x 1-1 f v",
            "xadd x 1-2 f w g 7",
            "xadd x 5-0 f 300",
            "xdel x 1-2",
            "xgroup create x g 1-1 entriesread 1",
            "xgroup create x h 0",
        ] {
            b.run(line);
        }
        // What redis-server 7.0.15 replied to DUMP after the same.
        let want = b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\
              \x01\x3e\x3e\x00\x00\x00\x18\x00\x02\x01\x01\x01\x01\x01\x81\x66\x02\x00\
              \x01\x02\x01\x00\x01\x00\x01\x81\x76\x02\x04\x01\x01\x01\x00\x01\x01\x01\
              \x02\x01\x81\x66\x02\x81\x77\x02\x81\x67\x02\x07\x01\x08\x01\x02\x01\x04\
              \x01\xdf\xff\x02\xc1\x2c\x02\x04\x01\xff\x02\x05\x00\x01\x01\x01\x02\x03\
              \x02\x01\x67\x01\x01\x01\x00\x00\x01\x68\x00\x00\x81\xff\xff\xff\xff\xff\
              \xff\xff\xff\x00\x00\x0a\x00\x3b\x42\x63\x12\x0b\x3f\x05\x0f";
        let payload = payload_of(&mut b, "x");
        assert_eq!(payload, want[..]);
        assert_eq!(restore(&mut b, "y", "0", &payload, &[]), "+OK");
        for probe in ["xinfo stream", "xinfo groups", "debug digest-value"] {
            let [a, c] = ["x", "y"].map(|k| b.run(&format!("{probe} {k}")));
            assert_eq!(a, c);
        }
    }

    #[test]
    fn values_of_all_types_are_restored() {
        let mut b = bench();
        for line in [
            "xadd x 1-1 f v",
            "xadd x 2-2 g w",
            "xgroup create x g 0",
            "xreadgroup group g c streams x >",
            "hset v f 1 g 2",
            "hpexpire v 5000 fields 1 g",
        ] {
            b.run(line);
        }
        b.run("set s value");
        b.run("rpush l a 1 b");
        b.run("sadd i 1 2 3");
        b.run("hset h f v");
        b.run("zadd z 1.5 m");
        for key in ["s", "l", "i", "h", "z", "x", "v"] {
            let p = payload_of(&mut b, key);
            let copy = format!("{key}2");
            assert_eq!(restore(&mut b, &copy, "0", &p, &[]), "+OK", "{key}");
            assert_eq!(b.events(), [format!("restore {copy}")]);
            let digests = [key, &copy].map(|k| b.run(&format!("debug digest-value {k}")));
            assert_eq!(digests[0], digests[1]);
            let copied = payload_of(&mut b, &copy);
            assert_eq!(copied, p);
            assert!(restore(&mut b, &copy, "0", &p, &[]).starts_with("-BUSYKEY"));
        }
    }

    #[test]
    fn deadlines_go_out_absolute() {
        let mut b = bench();
        b.run("set s v");
        let p = payload_of(&mut b, "s");
        assert_eq!(restore(&mut b, "t", "5000", &p, &[]), "+OK");
        let stream = b.stream.join("|");
        assert!(stream.starts_with(&format!("RESTORE t {} ", b.now + 5000)) && stream.ends_with(" ABSTTL"), "{stream}");
        assert_eq!(b.run("pttl t"), ":5000");
        // A moment that is past deletes what is replaced, or does nothing.
        assert_eq!(restore(&mut b, "t", "1", &p, &["ABSTTL", "REPLACE"]), "+OK");
        assert_eq!((b.run("exists t"), b.dirty), (":0".into(), 0));
        assert_eq!(restore(&mut b, "t", "1", &p, &["ABSTTL"]), "+OK");
        assert_eq!((b.stream.len(), b.run("exists t")), (0, ":0".into()));
        assert_eq!(restore(&mut b, "t", "0", &p, &["IDLETIME", "100"]), "+OK");
        assert_eq!(b.run("object idletime t"), ":100");
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let mut b = bench();
        b.run("rpush l a b c");
        let p = payload_of(&mut b, "l");
        for at in 0..p.len() {
            let mut bad = p.clone();
            bad[at] ^= 4;
            assert!(restore(&mut b, "x", "0", &bad, &[]).contains("payload version or checksum"), "{at}");
            assert!(restore(&mut b, "x", "0", &p[..at], &[]).contains("payload version or checksum"), "{at}");
        }
        let mut bad = p[..p.len() - FOOTER].to_vec();
        bad[0] = 99;
        bad.extend_from_slice(&10u16.to_le_bytes());
        let sum = checksum::of(&bad);
        bad.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(restore(&mut b, "x", "0", &bad, &[]), "-ERR Bad data format");
    }
}
