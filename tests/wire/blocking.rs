//! Commands that wait: who is served, when, and with what.

use super::support::{
    Server, Value, Wire, array, bulk, each_cores, error, eventually, int, nil, nil_array, ok, plain, simple,
};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until so many clients are blocked.
fn blocked(server: &Server, n: usize) {
    let mut c = server.wire();
    let want = format!("blocked_clients:{n}\r\n");
    eventually(&want, LIMIT, || c.run("INFO clients").as_text().contains(&want));
}

fn pair(key: &str, value: &str) -> Value {
    array([bulk(key), bulk(value)])
}

/// A client that has sent a blocking command and waits.
fn waiting(server: &Server, words: &str, n: usize) -> Wire {
    let mut c = server.wire();
    c.send_words(words);
    blocked(server, n);
    c
}

#[test]
fn what_is_there_is_taken_at_once() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("RPUSH l a b c d");
        c.run("ZADD z 1 x 2 y 3 w 4 v");
        assert_eq!(c.run("BLPOP none l 0"), pair("l", "a"));
        assert_eq!(c.run("BRPOP none l 0"), pair("l", "d"));
        assert_eq!(c.run("BLMOVE l m LEFT RIGHT 0"), bulk("b"));
        assert_eq!(c.run("BRPOPLPUSH l m 0"), bulk("c"));
        assert_eq!(c.run("BLMPOP 0 2 l m LEFT COUNT 5"), array([bulk("m"), array([bulk("c"), bulk("b")])]));
        assert_eq!(c.run("BZPOPMIN none z 0"), array([bulk("z"), bulk("x"), bulk("1")]));
        assert_eq!(c.run("BZPOPMAX none z 0"), array([bulk("z"), bulk("v"), bulk("4")]));
        assert_eq!(
            c.run("BZMPOP 0 2 none z MIN COUNT 2"),
            array([bulk("z"), array([array([bulk("y"), bulk("2")]), array([bulk("w"), bulk("3")])])])
        );
        assert_eq!(c.run("EXISTS l m z"), int(0));
    });
}

/// A command that waits was in the slow log and in the histogram twice: when
/// its wait began, and when it ended.
#[test]
fn a_wait_is_logged_once_when_it_ends() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET slowlog-log-slower-than 0");
        for words in ["BLPOP a 0", "BLPOP a b c d e 0", "BLPOP e d c b a 0"] {
            c.run("SLOWLOG RESET");
            c.run("CONFIG RESETSTAT");
            let mut logged = || {
                let log = c.run("SLOWLOG GET -1");
                let names = log.items().iter().map(|e| e.items()[3].items()[0].as_text());
                let n = names.filter(|name| name == "BLPOP").count();
                (n, format!("{:?}", c.run("LATENCY HISTOGRAM blpop")).contains("calls"))
            };
            let mut waiter = waiting(server, words, 1);
            assert_eq!(logged(), (0, false), "{words}");
            server.wire().run("RPUSH a x");
            assert_eq!(waiter.read(), pair("a", "x"));
            assert_eq!(logged(), (1, true), "{words}");
            let stats = c.run("INFO commandstats").as_text();
            assert!(stats.contains("cmdstat_blpop:calls=1,"), "{stats}");
        }
    });
}

/// Those who are served come behind the command, transaction or script that served them.
/// They stood in front of it.
#[test]
fn the_slow_log_has_those_who_were_served_behind() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET slowlog-log-slower-than 0");
        let script = ["EVAL", "redis.call('rpush', KEYS[1], 1) redis.call('get', KEYS[2])", "2", "a", "b"];
        let rows: [(&str, &[&[&str]], &str); 6] = [
            ("BLPOP a 0", &[&["RPUSH", "a", "1"]], "RPUSH BLPOP"),
            ("BLPOP a b c d 0", &[&["RPUSH", "b", "1"]], "RPUSH BLPOP"),
            ("BLMOVE a b LEFT RIGHT 0", &[&["RPUSH", "a", "1"]], "RPUSH BLMOVE"),
            ("BLPOP a 0", &[&["RENAME", "q", "a"]], "RENAME BLPOP"),
            ("BLPOP a 0", &[&["MULTI"], &["RPUSH", "a", "1"], &["GET", "x"], &["EXEC"]], "MULTI RPUSH GET BLPOP"),
            ("BLPOP a 0", &[&script], "rpush get EVAL BLPOP"),
        ];
        for (waits, serves, want) in rows {
            c.run("RPUSH q 1");
            let mut waiter = waiting(server, waits, 1);
            let mut other = server.wire();
            c.run("SLOWLOG RESET");
            serves.iter().for_each(|words| drop(other.cmd(words)));
            waiter.read();
            let log = c.run("SLOWLOG GET -1");
            let mut names: Vec<String> = log.items().iter().map(|e| e.items()[3].items()[0].as_text()).collect();
            names.reverse();
            assert_eq!(names[1..].join(" "), want, "{waits} and {serves:?}");
            c.run("DEL a b q");
        }
    });
}

#[test]
fn time_runs_out() {
    each_cores(|server| {
        let mut c = server.wire();
        // Redis replies so whatever the command.
        for words in [
            "BLPOP a b c d e 0.05",
            "BRPOP a 0.05",
            "BLMOVE a b LEFT LEFT 0.05",
            "BRPOPLPUSH a b 0.05",
            "BLMPOP 0.05 2 a b LEFT",
            "BZPOPMIN a b c 0.05",
            "BZMPOP 0.05 1 a MAX",
        ] {
            let started = Instant::now();
            assert_eq!(c.run(words), nil_array(), "{words}");
            assert!(started.elapsed() >= Duration::from_millis(49), "{words} after {:?}", started.elapsed());
        }
        blocked(server, 0);
    });
}

#[test]
fn bad_arguments_do_not_wait() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SET s x");
        let wrong_type = error("WRONGTYPE Operation against a key holding the wrong kind of value");
        assert_eq!(c.run("BLPOP s 0"), wrong_type);
        assert_eq!(c.run("BLPOP none1 none2 none3 s 0"), wrong_type);
        assert_eq!(c.run("BLPOP l -1"), error("ERR timeout is negative"));
        assert_eq!(c.run("BLPOP l x"), error("ERR timeout is not a float or out of range"));
        assert_eq!(c.run("BLMOVE l m LEFT UP 0"), error("ERR syntax error"));
        assert_eq!(c.run("BLMPOP 0 0 l LEFT"), error("ERR numkeys should be greater than 0"));
        assert_eq!(c.run("BZMPOP 0 1 l LEFT"), error("ERR syntax error"));
        assert_eq!(c.run("MULTI"), ok());
        c.run("BLPOP l 0");
        c.run("BLMOVE l m LEFT LEFT 0");
        c.run("BZPOPMIN l k j h 0");
        assert_eq!(c.run("EXEC"), array([nil_array(), nil(), nil_array()]));
    });
}

/// Whether over one key or several, each is served in the order of arrival.
#[test]
fn first_come_first_served() {
    each_cores(|server| {
        let mut clients = Vec::new();
        for i in 0..12 {
            let words = if i % 3 == 0 { format!("BLPOP x{i} l y{i} 0") } else { "BLPOP l 0".to_string() };
            clients.push(waiting(server, &words, i + 1));
        }
        let mut c = server.wire();
        let values: Vec<String> = (0..12).map(|i| i.to_string()).collect();
        for chunk in values.chunks(4) {
            c.run(&format!("RPUSH l {}", chunk.join(" ")));
        }
        for (client, value) in clients.iter_mut().zip(&values) {
            assert_eq!(client.read(), pair("l", value));
        }
        blocked(server, 0);
        assert_eq!(c.run("EXISTS l"), int(0));
    });
}

#[test]
fn any_of_the_keys_will_do() {
    each_cores(|server| {
        let mut c = server.wire();
        for i in 0..40 {
            let keys: Vec<String> = (0..8).map(|k| format!("key{k}")).collect();
            let mut w = waiting(server, &format!("BRPOP {} 0", keys.join(" ")), 1);
            let key = &keys[i % 8];
            assert_eq!(c.run(&format!("RPUSH {key} v{i}")), int(1));
            assert_eq!(w.read(), pair(key, &format!("v{i}")));
        }
    });
}

/// An element goes to exactly one of those who wait, whatever keys they
/// wait for, and none is lost.
#[test]
fn nothing_is_lost_or_given_twice() {
    each_cores(|server| {
        let port = server.port;
        let consumers: Vec<_> = (0..6)
            .map(|i| {
                std::thread::spawn(move || {
                    let mut c = Wire::connect(port);
                    let words = match i % 3 {
                        0 => "BLPOP a b c d stop 0",
                        1 => "BLMPOP 0 4 d c b stop LEFT",
                        _ => "BRPOP b stop 0",
                    };
                    let mut got = Vec::new();
                    loop {
                        let reply = c.run(words);
                        let items = reply.items();
                        if items[0] == bulk("stop") {
                            return got;
                        }
                        let value = if i % 3 == 1 { items[1].items()[0].clone() } else { items[1].clone() };
                        got.push(value.as_text());
                    }
                })
            })
            .collect();
        let producers: Vec<_> = (0..3)
            .map(|p| {
                std::thread::spawn(move || {
                    let mut c = Wire::connect(port);
                    for i in 0..300 {
                        let key = ["a", "b", "c", "d"][(i + p) % 4];
                        c.run(&format!("RPUSH {key} {p}-{i}"));
                    }
                })
            })
            .collect();
        for p in producers {
            p.join().expect("a producer");
        }
        let mut c = server.wire();
        eventually("everything taken", LIMIT, || c.run("EXISTS a b c d") == int(0));
        blocked(server, 6);
        c.run("RPUSH stop 1 2 3 4 5 6");
        let mut all: Vec<String> = consumers.into_iter().flat_map(|t| t.join().expect("a consumer")).collect();
        all.sort();
        let mut want: Vec<String> = (0..3).flat_map(|p| (0..300).map(move |i| format!("{p}-{i}"))).collect();
        want.sort();
        assert_eq!(all, want);
    });
}

#[test]
fn every_way_to_make_a_list_wakes() {
    each_cores(|server| {
        let mut c = server.wire();
        for (i, (before, wake)) in [
            ("SET none x", "LPUSH l v"),
            ("RPUSH src v", "RENAME src l"),
            ("RPUSH src v", "COPY src l"),
            ("RPUSH src2 v", "LMOVE src2 l LEFT RIGHT"),
            ("RPUSH src3 v", "RPOPLPUSH src3 l"),
            ("SET none x", "LINSERT none BEFORE a b"),
        ]
        .iter()
        .enumerate()
        {
            c.run(before);
            for words in ["BLPOP l 0", "BLPOP other1 l other2 other3 0"] {
                if i == 5 {
                    continue;
                }
                c.run("DEL src src2 src3 l");
                c.run(before);
                let mut w = waiting(server, words, 1);
                assert!(!c.run(wake).is_error(), "{wake}");
                assert_eq!(w.read(), pair("l", "v"), "{wake}");
            }
        }
        // Only at the end of a transaction, and only if it is still there.
        let mut w = waiting(server, "BLPOP l 0", 1);
        c.run("MULTI");
        c.run("RPUSH l 1");
        c.run("DEL l");
        c.run("EXEC");
        c.run("MULTI");
        c.run("RPUSH l 2 3");
        c.run("LPOP l");
        c.run("SET far away");
        c.run("EXEC");
        assert_eq!(w.read(), pair("l", "3"));
        // Another database's turn.
        let mut w = waiting(server, "BLPOP l 0", 1);
        c.run("SELECT 5");
        c.run("RPUSH l five");
        assert_eq!(c.run("SWAPDB 0 5"), ok());
        assert_eq!(w.read(), pair("l", "five"));
    });
}

#[test]
fn what_does_not_suit_does_not_wake() {
    each_cores(|server| {
        let mut c = server.wire();
        for words in ["BLPOP l 0", "BLPOP l m n o p 0"] {
            let mut w = waiting(server, words, 1);
            c.run("SET l x");
            c.run("DEL l");
            c.run("ZADD l 1 a");
            w.expect_silence(Duration::from_millis(20));
            c.run("DEL l");
            c.run("RPUSH l v");
            assert_eq!(w.read(), pair("l", "v"));
        }
    });
}

#[test]
fn a_chain_of_moves_runs_through() {
    each_cores(|server| {
        let mut first = waiting(server, "BLMOVE a b LEFT RIGHT 0", 1);
        let mut second = waiting(server, "BLMOVE b c LEFT RIGHT 0", 2);
        let mut third = waiting(server, "BRPOPLPUSH c d 0", 3);
        let mut c = server.wire();
        assert_eq!(c.run("RPUSH a v"), int(1));
        for w in [&mut first, &mut second, &mut third] {
            assert_eq!(w.read(), bulk("v"));
        }
        assert_eq!(c.run("LRANGE d 0 -1"), array([bulk("v")]));
        assert_eq!(c.run("EXISTS a b c"), int(0));
    });
}

#[test]
fn who_has_gone_gets_nothing() {
    each_cores(|server| {
        let mut c = server.wire();
        for words in ["BLPOP l 0", "BLPOP l m n o 0"] {
            drop(waiting(server, words, 1));
            blocked(server, 0);
            assert_eq!(c.run("RPUSH l v"), int(1));
            assert_eq!(c.run("LPOP l"), bulk("v"));
        }
    });
}

#[test]
fn clients_are_unblocked_by_command() {
    each_cores(|server| {
        let mut c = server.wire();
        for words in ["BLPOP l 0", "BLPOP l m n o p 0"] {
            let mut w = server.wire();
            let id = w.run("CLIENT ID").as_int();
            assert_eq!(c.run(&format!("CLIENT UNBLOCK {id}")), int(0));
            w.send_words(words);
            blocked(server, 1);
            assert!(c.run(&format!("CLIENT LIST ID {id}")).as_text().contains(" flags=b "));
            assert_eq!(c.run(&format!("CLIENT UNBLOCK {id}")), int(1));
            assert_eq!(w.read(), nil_array());
            w.send_words(words);
            blocked(server, 1);
            assert_eq!(c.run(&format!("CLIENT UNBLOCK {id} ERROR")), int(1));
            assert_eq!(w.read(), error("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
            assert_eq!(w.run("PING"), simple("PONG"));
            blocked(server, 0);
        }
        assert_eq!(c.run("RPUSH l v"), int(1));
        assert_eq!(c.run("LLEN l"), int(1));
    });
}

/// Requests behind a blocking one wait for it.
#[test]
fn a_pipeline_stops_at_a_blocking_command() {
    each_cores(|server| {
        let mut w = server.wire();
        w.send(b"SET before 1\r\nBLPOP l m n 0\r\nSET after 1\r\nGET before\r\n");
        blocked(server, 1);
        let mut c = server.wire();
        assert_eq!(c.run("EXISTS before after"), int(1));
        c.run("RPUSH m v");
        assert_eq!([w.read(), w.read(), w.read(), w.read()], [ok(), pair("m", "v"), ok(), bulk("1")]);
    });
}

/// Slots move between cores while clients wait for their keys.
#[test]
fn those_who_wait_follow_their_keys() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    let mut c = server.wire();
    for round in 0..12 {
        let one = format!("one{round}");
        let words = if round % 2 == 0 { format!("BLPOP {one} 0") } else { format!("BLPOP {one} x y z 0") };
        let mut w = waiting(&server, &words, 1);
        let slot = crc16::State::<crc16::XMODEM>::calculate(one.as_bytes()) % 16384;
        for core in (0..4).cycle().take(20) {
            assert!(!c.run(&format!("CORE MOVE {core} {slot}")).is_error());
        }
        assert_eq!(c.run(&format!("RPUSH {one} v")), int(1));
        assert_eq!(w.read(), pair(&one, "v"));
    }
}

/// Where nothing deletes keys before they are asked for, one that has expired is
/// deleted on behalf of those who wait for it; they go on waiting.
#[test]
fn an_expired_key_serves_nobody() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        assert_eq!(c.run("SELECT 1"), ok());
        c.run("RPUSH k old");
        c.run("PEXPIRE k 1");
        assert_eq!(c.run("SELECT 0"), ok());
        let mut w = waiting(server, "BLPOP k 0", 1);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(c.run("SWAPDB 0 1"), ok());
        eventually("the key is gone", LIMIT, || c.run("DBSIZE") == int(0));
        blocked(server, 1);
        c.run("RPUSH k new");
        assert_eq!(w.read(), pair("k", "new"));
    });
}

/// A transaction that takes long: what it pushed may have expired at its end.
#[test]
fn a_key_that_expires_within_a_transaction_serves_nobody() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 0"), ok());
        let mut w = waiting(server, "BLPOP k 0", 1);
        for words in ["MULTI", "RPUSH k old", "PEXPIRE k 50", "DEBUG SLEEP 0.2"] {
            c.run(words);
        }
        assert_eq!(c.run("EXEC").items().len(), 3);
        eventually("the key is gone", LIMIT, || c.run("DBSIZE") == int(0));
        blocked(server, 1);
        c.run("RPUSH k new");
        assert_eq!(w.read(), pair("k", "new"));
    });
}
