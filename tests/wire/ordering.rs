//! The order of effects within one connection's pipeline, as others see it:
//! what reaches beyond its own keys waits for what was sent before.

use super::support::{
    Server, Value, Wire, array, bulk, each_cores, encode, int, lacks, ok, plain, simple, wire::encode_into,
};
use std::time::Duration;

/// Who hears a message finds the writes that preceded it in its pipeline,
/// whatever cores their keys lie on.
#[test]
fn a_message_follows_the_writes_before_it() {
    each_cores(|server| {
        if lacks(server, "publish") {
            return;
        }
        let mut subscriber = server.wire();
        assert!(matches!(subscriber.run("SUBSCRIBE news"), Value::Array(_)));
        let mut reader = server.wire();
        let mut writer = server.wire();
        for round in 0..200 {
            let text = round.to_string();
            let mut request = Vec::new();
            for i in 0..8 {
                encode_into(&mut request, &["SET", &format!("key{i}"), &text]);
            }
            encode_into(&mut request, &["PUBLISH", "news", &text]);
            encode_into(&mut request, &["SET", "after", &text]);
            writer.send(&request);
            assert_eq!(subscriber.read().items()[2], bulk(&text));
            for i in 0..8 {
                assert_eq!(reader.run(&format!("GET key{i}")), bulk(&text));
            }
            for _ in 0..8 {
                assert_eq!(writer.read(), ok());
            }
            assert_eq!(writer.read(), int(1));
            assert_eq!(writer.read(), ok());
        }
    });
}

/// One client alone sees its pipeline executed as if one by one, with commands
/// over many keys, over all keys, and over the connection's state in between.
#[test]
fn a_pipeline_reads_its_own_writes() {
    each_cores(|server| {
        let mut c = server.wire();
        for round in 0..50 {
            let text = round.to_string();
            let mut request = encode(&["FLUSHALL"]);
            let mut expected = vec![ok()];
            let mut add = |args: &[&str], reply: Value| {
                encode_into(&mut request, args);
                expected.push(reply);
            };
            for i in 0..10 {
                add(&["SET", &format!("k{i}"), &text], ok());
            }
            add(&["DBSIZE"], int(10));
            add(&["MGET", "k0", "k5", "k9"], Value::Array(vec![bulk(&text); 3]));
            add(&["APPEND", "k5", "x"], int(text.len() as i64 + 1));
            add(&["RENAME", "k5", "k0"], ok());
            add(&["GET", "k0"], bulk(format!("{text}x")));
            add(&["EXISTS", "k5", "k0", "k1"], int(2));
            add(&["MULTI"], ok());
            add(&["DEL", "k1", "k2", "k3"], simple("QUEUED"));
            add(&["DBSIZE"], simple("QUEUED"));
            add(&["EXEC"], Value::Array(vec![int(3), int(6)]));
            add(&["SELECT", "1"], ok());
            add(&["SET", "k0", "other"], ok());
            add(&["DBSIZE"], int(1));
            add(&["SELECT", "0"], ok());
            add(&["GET", "k0"], bulk(format!("{text}x")));
            add(&["UNLINK", "k0", "k4"], int(2));
            add(&["DBSIZE"], int(4));
            assert_eq!(c.pipeline(&request, expected.len()), expected);
        }
    });
}

/// Many increments of few keys in one pipeline: each key counts in order.
#[test]
fn commands_on_one_key_keep_their_order() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut request = Vec::new();
        for _ in 0..1000 {
            for key in ["a", "b", "c", "d", "e"] {
                encode_into(&mut request, &["INCR", key]);
            }
        }
        for (i, reply) in c.pipeline(&request, 5000).into_iter().enumerate() {
            assert_eq!(reply, int(i as i64 / 5 + 1));
        }
        c.expect_silence(Duration::from_millis(10));
    });
}

/// No increment is lost, and each client sees the count grow.
#[test]
fn increments_of_many_clients_are_all_counted() {
    each_cores(|server| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut c = server.wire();
                    let request = encode(&["INCR", "shared"]).repeat(500);
                    let replies = c.pipeline(&request, 500);
                    let numbers: Vec<i64> = replies.iter().map(Value::as_int).collect();
                    assert!(numbers.is_sorted(), "answers out of order");
                });
            }
        });
        assert_eq!(server.wire().run("GET shared"), bulk("4000"));
    });
}

fn writes(c: &mut Wire) -> i64 {
    let info = c.run("INFO stats").as_text();
    let value = info.lines().find_map(|l| l.strip_prefix("total_writes_processed:")).expect("the field");
    value.parse().expect("a number")
}

/// What other cores are about to answer is waited for: one send, not two.
#[test]
fn a_pipeline_over_cores_is_answered_by_one_send() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    let mut c = server.wire();
    let mut request = Vec::new();
    (0..16).for_each(|i| encode_into(&mut request, &["INCR", &format!("n{i}")]));
    let before = writes(&mut c);
    for round in 1..=100 {
        assert!(c.pipeline(&request, 16).iter().all(|reply| *reply == int(round)));
    }
    let sends = writes(&mut c) - before;
    assert!((100..=110).contains(&sends), "{sends} sends");
}

/// Nobody waits for the reply to what may take its time.
#[test]
fn replies_before_a_command_that_waits_are_sent() {
    each_cores(|server| {
        let (mut c, mut other) = (server.wire(), server.wire());
        for i in 0..8 {
            let key = format!("list{i}");
            let mut request = Vec::new();
            (0..8).for_each(|n| encode_into(&mut request, &["SET", &format!("s{n}"), "x"]));
            encode_into(&mut request, &["BLPOP", &key, "0"]);
            encode_into(&mut request, &["PING"]);
            c.send(&request);
            (0..8).for_each(|_| assert_eq!(c.read(), ok()));
            other.cmd(&["RPUSH", &key, "v"]);
            assert_eq!(c.read(), array([bulk(&key), bulk("v")]));
            assert_eq!(c.read(), simple("PONG"));
        }
    });
}
