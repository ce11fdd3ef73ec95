//! Publishing and subscribing, over all cores; keyspace notification.

use super::support::{
    Server, Value, Wire, array, bulk, each_cores, encode, error, eventually, int, nil, ok, plain, simple,
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn confirmation(word: &str, name: &str, n: i64) -> Value {
    array([bulk(word), bulk(name), int(n)])
}

fn message(channel: &str, text: &str) -> Value {
    array([bulk("message"), bulk(channel), bulk(text)])
}

/// Connections on as many cores as there are: the kernel spreads them.
fn many(server: &Server, n: usize) -> Vec<Wire> {
    (0..n).map(|_| server.wire()).collect()
}

/// The parts of a push or an array.
fn parts(value: &Value) -> Vec<Value> {
    value.items().to_vec()
}

#[test]
fn every_subscriber_gets_every_message_in_the_publishers_order() {
    each_cores(|server| {
        let mut subscribers = many(server, 24);
        for (i, s) in subscribers.iter_mut().enumerate() {
            if i % 3 == 0 {
                assert_eq!(s.run("PSUBSCRIBE n?ws"), confirmation("psubscribe", "n?ws", 1));
            } else {
                assert_eq!(s.run("SUBSCRIBE news"), confirmation("subscribe", "news", 1));
            }
        }
        let mut publishers = many(server, 3);
        for i in 0..200 {
            for (p, publisher) in publishers.iter_mut().enumerate() {
                publisher.send(encode(&["PUBLISH", "news", &format!("{p} {i}")]));
            }
        }
        for publisher in &mut publishers {
            for _ in 0..200 {
                assert_eq!(publisher.read(), int(24));
            }
        }
        for s in &mut subscribers {
            let mut next = [0; 3];
            for _ in 0..600 {
                let text = parts(&s.read()).pop().expect("a message").as_text();
                let (p, i) = text.split_once(' ').expect("two numbers");
                let p: usize = p.parse().expect("a number");
                assert_eq!(i.parse(), Ok(next[p]), "publisher {p}");
                next[p] += 1;
            }
        }
    });
}

/// Whoever has the reply to its PUBLISH and makes somebody else publish on
/// another core is heard first, on whatever core the subscriber is, and however
/// long that has been kept from running.
#[test]
fn what_was_published_first_is_heard_first() {
    const MESSAGES: i64 = 4000;
    let server = Server::start(&["--cores", "4"]);
    let mut subscribers = many(&server, 12);
    for s in &mut subscribers {
        s.run("SUBSCRIBE news");
    }
    let mut publishers = many(&server, 8);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut busy in many(&server, 2) {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    (0..50).for_each(|i| busy.send(encode(&["SET", &format!("k{i}"), "v"])));
                    (0..50).for_each(|_| drop(busy.read()));
                }
            });
        }
        for i in 0..MESSAGES {
            let publisher = &mut publishers[i as usize % 8];
            assert_eq!(publisher.run(&format!("PUBLISH news {i}")), int(12));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for s in &mut subscribers {
        for i in 0..MESSAGES {
            assert_eq!(s.read(), message("news", &i.to_string()));
        }
    }
}

/// When a subscription is confirmed, a message published on any core reaches it.
#[test]
fn a_confirmed_subscription_misses_nothing() {
    each_cores(|server| {
        let mut publishers = many(server, 8);
        for round in 0..40 {
            let channel = format!("c{round}");
            let mut s = server.wire();
            assert_eq!(s.run(&format!("SUBSCRIBE {channel}")), confirmation("subscribe", &channel, 1));
            for p in &mut publishers {
                assert_eq!(p.run(&format!("PUBLISH {channel} x")), int(1));
            }
            for _ in 0..publishers.len() {
                assert_eq!(s.read(), message(&channel, "x"));
            }
            assert_eq!(s.run(&format!("UNSUBSCRIBE {channel}")), confirmation("unsubscribe", &channel, 0));
            assert_eq!(publishers[round % 8].run(&format!("PUBLISH {channel} x")), int(0));
        }
    });
}

#[test]
fn subscriptions_are_counted_and_ended() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send_words("SUBSCRIBE a b a");
        assert_eq!(c.read(), confirmation("subscribe", "a", 1));
        assert_eq!(c.read(), confirmation("subscribe", "b", 2));
        assert_eq!(c.read(), confirmation("subscribe", "a", 2));
        assert_eq!(c.run("PSUBSCRIBE x*"), confirmation("psubscribe", "x*", 3));
        assert_eq!(c.run("SSUBSCRIBE s"), confirmation("ssubscribe", "s", 1));
        assert_eq!(c.run("UNSUBSCRIBE nosuch"), confirmation("unsubscribe", "nosuch", 3));
        c.send_words("UNSUBSCRIBE");
        let mut ended = [c.read(), c.read()];
        ended.sort_by_key(|v| v.items()[2].as_int());
        assert_eq!((ended[0].items()[2].as_int(), ended[1].items()[2].as_int()), (1, 2));
        assert_eq!(c.run("UNSUBSCRIBE"), array([bulk("unsubscribe"), nil(), int(1)]));
        assert_eq!(c.run("PUNSUBSCRIBE"), confirmation("punsubscribe", "x*", 0));
        assert_eq!(c.run("SUNSUBSCRIBE"), confirmation("sunsubscribe", "s", 0));
        assert_eq!(c.run("GET a"), nil(), "an ordinary connection again");
    });
}

#[test]
fn a_message_comes_once_for_the_channel_and_once_for_each_pattern() {
    each_cores(|server| {
        let mut s = server.wire();
        for words in ["SUBSCRIBE abc", "PSUBSCRIBE a*", "PSUBSCRIBE *c", "PSUBSCRIBE z*"] {
            s.run(words);
        }
        assert_eq!(server.wire().run("PUBLISH abc hi"), int(3));
        assert_eq!(s.read(), message("abc", "hi"));
        let mut patterns = Vec::new();
        for _ in 0..2 {
            let m = parts(&s.read());
            assert_eq!((&m[0], &m[2], &m[3]), (&bulk("pmessage"), &bulk("abc"), &bulk("hi")));
            patterns.push(m[1].as_text());
        }
        patterns.sort();
        assert_eq!(patterns, ["*c", "a*"]);
        s.expect_silence(Duration::from_millis(20));
    });
}

#[test]
fn shard_channels_are_a_namespace_of_their_own() {
    each_cores(|server| {
        let mut s = server.wire();
        s.run("SSUBSCRIBE x");
        s.run("SUBSCRIBE y");
        let mut p = server.wire();
        assert_eq!(p.run("PUBLISH x 1"), int(0));
        assert_eq!(p.run("SPUBLISH y 1"), int(0));
        assert_eq!(p.run("SPUBLISH x 2"), int(1));
        assert_eq!(s.read(), array([bulk("smessage"), bulk("x"), bulk("2")]));
        assert_eq!(p.run("PUBSUB SHARDCHANNELS"), array([bulk("x")]));
        assert_eq!(p.run("PUBSUB SHARDNUMSUB x y"), array([bulk("x"), int(1), bulk("y"), int(0)]));
    });
}

#[test]
fn pubsub_tells_who_listens() {
    each_cores(|server| {
        let mut subscribers = many(server, 6);
        for s in &mut subscribers {
            s.run("SUBSCRIBE news");
            s.run("PSUBSCRIBE n*");
        }
        subscribers[0].run("SUBSCRIBE other");
        let mut c = server.wire();
        assert_eq!(c.run("PUBSUB CHANNELS").sorted(), array([bulk("news"), bulk("other")]));
        assert_eq!(c.run("PUBSUB CHANNELS o*"), array([bulk("other")]));
        assert_eq!(
            c.run("PUBSUB NUMSUB news other none"),
            array([bulk("news"), int(6), bulk("other"), int(1), bulk("none"), int(0)])
        );
        assert_eq!(c.run("PUBSUB NUMSUB"), array([]));
        assert_eq!(c.run("PUBSUB NUMPAT"), int(1));
        let info = c.run("INFO stats").as_text();
        assert!(info.contains("pubsub_channels:2\r\n") && info.contains("pubsub_patterns:1\r\n"), "{info}");
        let list = c.run("CLIENT LIST TYPE pubsub").as_text();
        assert_eq!(list.lines().count(), 6);
        assert!(list.contains(" flags=P ") && list.contains(" sub=2 psub=1 ssub=0 "), "{list}");
        assert_eq!(c.run("CLIENT KILL TYPE pubsub"), int(6));
        eventually("no subscriptions", LIMIT, || c.run("PUBSUB CHANNELS") == array([]));
        assert_eq!(c.run("PUBSUB NUMPAT"), int(0));
        assert_eq!(c.run("PUBLISH news x"), int(0));
    });
}

#[test]
fn a_resp2_subscriber_may_do_little() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SUBSCRIBE a");
        assert_eq!(
            c.run("GET k"),
            error(
                "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context"
            )
        );
        assert_eq!(c.run("PING"), array([bulk("pong"), bulk("")]));
        assert_eq!(c.run("PING hello"), array([bulk("pong"), bulk("hello")]));
        assert_eq!(c.run("RESET"), simple("RESET"));
        assert_eq!(c.run("GET k"), nil());
        assert_eq!(server.wire().run("PUBLISH a x"), int(0));
    });
}

#[test]
fn a_resp3_subscriber_may_do_everything() {
    each_cores(|server| {
        let mut c = server.wire3();
        assert!(matches!(c.run("SUBSCRIBE a"), Value::Push(_)));
        assert_eq!(c.run("SET k v"), ok());
        assert_eq!(c.run("PING"), simple("PONG"));
        // Its own message, whichever comes first.
        c.send_words("PUBLISH a mine");
        let both = [c.read(), c.read()];
        assert!(both.contains(&int(1)), "{both:?}");
        let push = both.iter().find(|v| matches!(v, Value::Push(_))).expect("a push");
        assert_eq!(parts(push), [bulk("message"), bulk("a"), bulk("mine")]);
        if plain() {
            // 7.0 puts the message into the reply of EXEC, 7.2 behind it.
            return;
        }
        c.send_words("MULTI");
        c.send_words("PUBLISH a again");
        c.send_words("SET k2 v");
        c.send_words("EXEC");
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.push(c.read());
        }
        assert!(seen.contains(&array([int(1), ok()])), "{seen:?}");
        assert!(seen.iter().any(|v| matches!(v, Value::Push(p) if p[2] == bulk("again"))), "{seen:?}");
    });
}

#[test]
fn replies_turned_off_leave_messages_on() {
    each_cores(|server| {
        let mut c = server.wire3();
        c.send_words("CLIENT REPLY OFF");
        c.send_words("SUBSCRIBE a");
        assert_eq!(parts(&c.read())[..2], [bulk("subscribe"), bulk("a")]);
        assert_eq!(server.wire().run("PUBLISH a x"), int(1));
        assert_eq!(parts(&c.read())[2], bulk("x"));
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off() {
    each_cores(|server| {
        let mut p = server.wire();
        assert_eq!(p.cmd(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0"]), ok());
        let mut slow = server.wire();
        slow.run("SUBSCRIBE a");
        let text = "x".repeat(64 * 1024);
        eventually("the slow one is gone", LIMIT, || p.cmd(&["PUBLISH", "a", &text]) == int(0));
        assert!(p.run("CLIENT LIST TYPE pubsub").as_text().is_empty());
    });
}

/// What a command says of its keys, in order.
fn heard(s: &mut Wire, n: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..n {
        let m = parts(&s.read());
        all.push(format!("{} {}", m[2].as_text(), m[3].as_text()));
    }
    all
}

#[test]
fn keyspace_events_are_published() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET notify-keyspace-events KEA"), ok());
        let mut s = server.wire();
        s.run("PSUBSCRIBE __key*__:*");
        c.run("SET a 1");
        assert_eq!(heard(&mut s, 2), ["__keyspace@0__:a set", "__keyevent@0__:set a"]);
        c.run("EXPIRE a 100");
        assert_eq!(heard(&mut s, 2), ["__keyspace@0__:a expire", "__keyevent@0__:expire a"]);
        c.run("SELECT 3");
        c.run("RPUSH l x y");
        assert_eq!(heard(&mut s, 2), ["__keyspace@3__:l rpush", "__keyevent@3__:rpush l"]);
        c.run("LPOP l 2");
        let all = heard(&mut s, 4);
        assert_eq!((&all[1][..], &all[3][..]), ("__keyevent@3__:lpop l", "__keyevent@3__:del l"));
        c.run("PSETEX p 30 v");
        assert_eq!(heard(&mut s, 4)[3], "__keyevent@3__:expire p");
        assert_eq!(heard(&mut s, 2)[1], "__keyevent@3__:expired p");
        // Nothing is said of misses and new keys unless asked for.
        c.run("GET none");
        assert_eq!(c.run("CONFIG SET notify-keyspace-events Em"), ok());
        c.run("GET none");
        assert_eq!(heard(&mut s, 1), ["__keyevent@3__:keymiss none"]);
        assert_eq!(c.cmd(&["CONFIG", "SET", "notify-keyspace-events", ""]), ok());
        c.run("SET b 1");
        s.expect_silence(Duration::from_millis(20));
    });
}

/// Keys of one command on several cores: each event is told once.
#[test]
fn events_of_commands_over_several_cores() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET notify-keyspace-events E$g");
        let mut s = server.wire();
        s.run("PSUBSCRIBE *");
        let keys: Vec<String> = (0..16).map(|i| format!("key{i}")).collect();
        let mset: Vec<String> = keys.iter().flat_map(|k| [k.clone(), "v".into()]).collect();
        c.run(&format!("MSET {}", mset.join(" ")));
        let mut told = heard(&mut s, 16);
        told.sort();
        let mut want: Vec<String> = keys.iter().map(|k| format!("__keyevent@0__:set {k}")).collect();
        want.sort();
        assert_eq!(told, want);
        c.run("MULTI");
        c.run("RENAME key1 key2");
        c.run("DEL key3");
        c.run("EXEC");
        let mut told = heard(&mut s, 3);
        told.sort();
        assert_eq!(
            told,
            ["__keyevent@0__:del key3", "__keyevent@0__:rename_from key1", "__keyevent@0__:rename_to key2"]
        );
        s.expect_silence(Duration::from_millis(20));
    });
}

#[test]
fn events_are_not_made_for_nobody() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut c = server.wire3();
        c.run("CONFIG SET notify-keyspace-events KEAmn");
        c.run("SET a 1");
        c.run("SUBSCRIBE __keyevent@0__:del");
        c.send_words("DEL a");
        let both = [c.read(), c.read()];
        assert!(both.contains(&int(1)), "{both:?}");
        assert!(both.iter().any(|v| matches!(v, Value::Push(p) if p[2] == bulk("a"))), "{both:?}");
    });
}

/// Two connections of one core.
fn neighbours(server: &Server) -> (Wire, Wire) {
    let core = |c: &mut Wire| {
        let line = c.run("CLIENT INFO").as_text();
        line.split(" core=").nth(1).map(|rest| rest.trim().to_owned())
    };
    let mut one = server.wire();
    let wanted = core(&mut one);
    let other = (0..200).map(|_| server.wire()).find_map(|mut c| (core(&mut c) == wanted).then_some(c));
    (one, other.expect("a second connection of that core"))
}

/// Events of a command over several cores came behind its reply, and now and
/// then behind what its client published next.
#[test]
fn events_come_before_what_the_client_publishes_next() {
    each_cores(|server| {
        let (mut c, mut s) = neighbours(server);
        c.run("CONFIG SET notify-keyspace-events El");
        s.run("PSUBSCRIBE *");
        for i in 0..500 {
            c.run(&format!("RPUSH a{i} x"));
            c.run(&format!("RPOPLPUSH a{i} b{i}"));
            c.run("PUBLISH mark x");
            let events = (0..4).take_while(|_| s.read().items()[2] != bulk("mark")).count();
            assert_eq!(events, 3, "the {i}th time");
        }
    });
}
