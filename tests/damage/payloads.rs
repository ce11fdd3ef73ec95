//! RESTORE of payloads whose damage the checksum does not tell: it is made
//! anew. What a stock server takes with deep sanitizing, ours takes, and the
//! other way round; what is taken is then used by all commands of its type.

use coreslot::snapshot::rdb::{checksum, kind};

use super::corpus;
use super::damaged::{CHANGES, each};
use super::support::process::resident_bytes;
use super::support::{Server, Value, Wire, encode};

/// Payload bytes with the sum that belongs to them.
fn summed(mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum::of(&body);
    body.extend_from_slice(&sum.to_le_bytes());
    body
}

/// Keys with their payloads, without the sums.
fn payloads(server: &Server) -> Vec<(String, Vec<u8>)> {
    let mut wire = server.wire();
    corpus::write(&mut wire);
    let keys = wire.run("KEYS *").items().iter().map(Value::as_text).collect::<Vec<_>>();
    let mut all: Vec<(String, Vec<u8>)> = keys
        .into_iter()
        .map(|key| {
            let payload = wire.cmd(&["DUMP", &key]).as_bytes().to_vec();
            (key, payload[..payload.len() - 8].to_vec())
        })
        .collect();
    all.sort();
    all
}

/// Commands that go through all of a value, by its type, and change it.
fn use_up(kind: u8) -> &'static [&'static str] {
    match kind {
        kind::STRING => &["STRLEN k", "GETRANGE k 0 -1", "APPEND k x", "SETBIT k 7 1", "BITCOUNT k"],
        kind::LIST | kind::LIST_QUICKLIST_2 => {
            &["LRANGE k 0 -1", "LPOS k a RANK -1", "LINSERT k BEFORE a x", "LSET k -1 y", "LREM k 0 b", "LPOP k 2"]
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => {
            &["SMEMBERS k", "SRANDMEMBER k -9", "SADD k z 5 99999999999", "SREM k a 1", "SPOP k 2"]
        }
        kind::HASH | kind::HASH_LISTPACK => {
            &["HGETALL k", "HRANDFIELD k -9 WITHVALUES", "HSET k a zz q 1", "HDEL k b", "HSTRLEN k a"]
        }
        kind::ZSET_2 | kind::ZSET_LISTPACK => &[
            "ZRANGE k 0 -1 WITHSCORES",
            "ZREVRANGEBYSCORE k +inf -inf",
            "ZADD k 7 a 8 q",
            "ZRANK k b",
            "ZREMRANGEBYRANK k 0 0",
            "ZPOPMAX k",
        ],
        kind::STREAM_2 | kind::STREAM_3 => &[
            "XRANGE k - +",
            "XREVRANGE k + -",
            "XINFO STREAM k FULL",
            "XREADGROUP GROUP g1 alice STREAMS k 0",
            "XREADGROUP GROUP g1 carol STREAMS k >",
            "XPENDING k g1 - + 10",
            "XAUTOCLAIM k g1 dave 0 0",
            "XACK k g1 2-1 5-0",
            "XDEL k 1-1 6-0",
            "XTRIM k MAXLEN 1",
            "XADD k * f v",
            "XGROUP DELCONSUMER k g1 bob",
        ],
        _ => &[],
    }
}

/// Restores, in one go; was each taken?
fn restore(wire: &mut Wire, bad: &[Vec<u8>]) -> Vec<bool> {
    let mut request = Vec::new();
    for payload in bad {
        request.extend(encode(&[b"RESTORE", &b"k"[..], b"0", payload, b"REPLACE"]));
    }
    wire.pipeline(&request, bad.len()).iter().map(|r| !r.is_error()).collect()
}

fn exercise(wire: &mut Wire, payload: &[u8]) {
    let mut request = encode(&[b"RESTORE", &b"k"[..], b"0", payload, b"REPLACE"]);
    let whatever = ["DEBUG DIGEST-VALUE k", "OBJECT ENCODING k", "MEMORY USAGE k"];
    let after = ["DUMP k", "COPY k copy REPLACE", "DEL k copy"];
    let lines: Vec<&str> = [&whatever[..], use_up(payload[0]), &after[..]].concat();
    for line in &lines {
        request.extend(encode(&line.split(' ').collect::<Vec<_>>()));
    }
    wire.pipeline(&request, lines.len() + 1);
}

#[test]
fn changed_payloads_are_refused_or_values_like_others() {
    let stock = Server::stock(&["--sanitize-dump-payload", "yes"]);
    let ours = Server::start(&["--cores", "2", "--sanitize-dump-payload", "yes"]);
    let from_stock = payloads(&stock);
    let from_ours = payloads(&ours);
    let before = resident_bytes(ours.pid());
    let (mut w, mut s) = (ours.wire(), stock.wire());
    let sample = (!super::all()).then_some((super::seed(), 60));
    let (mut n, mut taken, mut differ) = (0, 0, Vec::new());
    for (key, body) in from_stock.iter().chain(&from_ours) {
        let mut bad = Vec::new();
        let mut hows = Vec::new();
        // Not the version: the last two bytes.
        each(&body[..body.len() - 2], &CHANGES, sample, |at, how, b| {
            bad.push(summed([b, &body[body.len() - 2..]].concat()));
            hows.push((at, how));
        });
        for at in 1..body.len() - 2 {
            bad.push(summed([&body[..at], &body[body.len() - 2..]].concat()));
            hows.push((at, super::damaged::How::Cut));
        }
        n += bad.len();
        let accepted = restore(&mut w, &bad);
        taken += accepted.iter().filter(|a| **a).count();
        for (payload, _) in bad.iter().zip(&accepted).filter(|(_, a)| **a) {
            exercise(&mut w, payload);
        }
        for (i, (a, b)) in accepted.iter().zip(restore(&mut s, &bad)).enumerate() {
            if *a != b {
                differ.push(format!("{key} {:?}: ours {a}, stock {b}: {}", hows[i], bad[i].escape_ascii()));
            }
        }
    }
    let after = resident_bytes(ours.pid());
    println!(
        "{n} payloads, {taken} taken, {} verdicts differ; {} KB more memory",
        differ.len(),
        (after - before) >> 10
    );
    differ.iter().take(if super::all() { 4000 } else { 20 }).for_each(|d| println!("{d}"));
    // Redis reads on into the footer, and takes a type for a length; never is
    // taken here what is refused there.
    assert!(differ.iter().all(|d| d.contains("ours false")), "{differ:#?}");
    assert!(after < before + (64 << 20), "{before} bytes, then {after}");
    assert_eq!(w.run("PING").as_text(), "PONG");
}
