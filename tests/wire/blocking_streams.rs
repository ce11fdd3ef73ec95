//! XREAD and XREADGROUP that wait.

use super::support::{Server, Value, Wire, array, bulk, each_cores, error, eventually, int, nil_array, ok};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until so many clients are blocked.
fn blocked(server: &Server, n: usize) {
    let mut c = server.wire();
    let want = format!("blocked_clients:{n}\r\n");
    eventually(&want, LIMIT, || c.run("INFO clients").as_text().contains(&want));
}

fn waiting(server: &Server, words: &str, n: usize) -> Wire {
    let mut c = server.wire();
    c.send_words(words);
    blocked(server, n);
    c
}

/// What XREAD tells of one stream with entries of one field.
fn read(key: &str, entries: &[(&str, &str)]) -> Value {
    let rows = entries.iter().map(|(id, value)| array([bulk(id), array([bulk("f"), bulk(value)])]));
    array([array([bulk(key), array(rows)])])
}

#[test]
fn all_readers_get_what_is_added() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("XADD old 1-1 f x");
        let mut clients = Vec::new();
        for i in 0..4 {
            clients.push(waiting(server, "XREAD BLOCK 0 STREAMS new $", 3 * i + 1));
            clients.push(waiting(server, "XREAD COUNT 5 BLOCK 0 STREAMS old a b c new $ $ $ $ 0-0", 3 * i + 2));
            clients.push(waiting(server, "XREAD BLOCK 0 STREAMS old new 1-1 0", 3 * i + 3));
        }
        c.run("XADD new 5-1 f y");
        for client in &mut clients {
            assert_eq!(client.read(), read("new", &[("5-1", "y")]));
        }
        blocked(server, 0);
    });
}

#[test]
fn the_end_of_a_stream_is_that_of_the_call() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("XADD s 1-1 f a");
        let mut alone = waiting(server, "XREAD BLOCK 0 STREAMS s $", 1);
        let mut among = waiting(server, "XREAD BLOCK 0 STREAMS t u v w s $ $ $ $ $", 2);
        // What is refused, deleted or of another type is nothing to read, and nobody
        // looks at the other keys for it.
        c.run("DEL t");
        c.run("SET t x");
        c.run("LPUSH u x");
        c.run("XADD s 1-1 f a");
        c.run("XDEL s 1-1");
        c.run("XTRIM s MAXLEN 0");
        c.run("XSETID s 1-5");
        c.run("XGROUP CREATE s g 0");
        c.run("XGROUP SETID s g $");
        c.run("PEXPIRE s 1000000");
        blocked(server, 2);
        std::thread::sleep(Duration::from_millis(20));
        blocked(server, 2);
        c.run("DEL t u");
        // Two at once are read together.
        assert_eq!(c.run("MULTI"), ok());
        c.run("XADD s 2-1 f b");
        c.run("XADD s 2-2 f c");
        c.run("EXEC");
        for client in [&mut alone, &mut among] {
            assert_eq!(client.read(), read("s", &[("2-1", "b"), ("2-2", "c")]));
        }
        // A stream that is deleted and made again: below the old end is nothing.
        let mut late = waiting(server, "XREAD BLOCK 0 STREAMS s $", 1);
        c.run("DEL s");
        c.run("XADD s 1-1 f old");
        blocked(server, 1);
        c.run("XADD s 3-1 f new");
        assert_eq!(late.read(), read("s", &[("3-1", "new")]));
    });
}

#[test]
fn time_runs_out_and_nobody_waits_in_a_transaction() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("XREAD BLOCK 20 STREAMS s $"), nil_array());
        assert_eq!(c.run("XREAD BLOCK 20 STREAMS a b c d $ $ $ $"), nil_array());
        c.run("XGROUP CREATE s g $ MKSTREAM");
        assert_eq!(c.run("XREADGROUP GROUP g me BLOCK 20 STREAMS s >"), nil_array());
        assert_eq!(c.run("MULTI"), ok());
        c.run("XREAD BLOCK 0 STREAMS s $");
        c.run("XREADGROUP GROUP g me BLOCK 0 STREAMS s >");
        assert_eq!(c.run("EXEC"), array([nil_array(), nil_array()]));
        c.run("HELLO 3");
        assert!(c.run("XREAD BLOCK 20 STREAMS s $").is_nil());
        let mut three = server.wire();
        three.run("HELLO 3");
        three.send_words("XREAD BLOCK 0 STREAMS t s $ $");
        blocked(server, 1);
        c.run("XADD s 1-1 f v");
        let rows = array([array([bulk("1-1"), array([bulk("f"), bulk("v")])])]);
        assert_eq!(three.read(), Value::Map(vec![(bulk("s"), rows)]));
    });
}

#[test]
fn consumers_share_what_comes() {
    each_cores(|server| {
        let mut c = server.wire();
        for key in ["s", "t", "u"] {
            c.run(&format!("XGROUP CREATE {key} g $ MKSTREAM"));
        }
        let mut first = waiting(server, "XREADGROUP GROUP g one BLOCK 0 STREAMS s >", 1);
        let mut second = waiting(server, "XREADGROUP GROUP g two BLOCK 0 COUNT 1 STREAMS t u s > > >", 2);
        let mut third = waiting(server, "XREADGROUP GROUP g three BLOCK 0 NOACK STREAMS s >", 3);
        c.run("XADD s 1-1 f a");
        assert_eq!(first.read(), read("s", &[("1-1", "a")]));
        blocked(server, 2);
        c.run("XADD s 1-2 f b");
        assert_eq!(second.read(), read("s", &[("1-2", "b")]));
        c.run("XADD s 1-3 f c");
        assert_eq!(third.read(), read("s", &[("1-3", "c")]));
        let pending = c.run("XPENDING s g");
        let owners = array([array([bulk("one"), bulk("1")]), array([bulk("two"), bulk("1")])]);
        assert_eq!(pending, array([int(2), bulk("1-1"), bulk("1-2"), owners]));
        // What is pending is there at once.
        let again = array([array([bulk("s"), array([array([bulk("1-1"), array([bulk("f"), bulk("a")])])])])]);
        assert_eq!(c.run("XREADGROUP GROUP g one BLOCK 0 STREAMS s 0"), again);
    });
}

#[test]
fn the_end_of_a_group_ends_the_wait() {
    each_cores(|server| {
        let mut c = server.wire();
        let gone = |key: &str| {
            error(&format!("NOGROUP No such key '{key}' or consumer group 'g' in XREADGROUP with GROUP option"))
        };
        let wrong_type = || error("WRONGTYPE Operation against a key holding the wrong kind of value");
        let over_several = "XREADGROUP GROUP g me BLOCK 0 STREAMS a b s > > >";
        for words in ["XREADGROUP GROUP g me BLOCK 0 STREAMS s >", over_several] {
            let ends = [
                ("DEL s", gone("s")),
                ("UNLINK s", gone("s")),
                ("XGROUP DESTROY s g", gone("s")),
                ("PEXPIRE s 20", gone("s")),
                ("RENAME s other", gone("s")),
                ("SET s x", wrong_type()),
                ("FLUSHALL", gone(if words == over_several { "a" } else { "s" })),
            ];
            for (end, want) in ends {
                c.run("DEL s");
                for key in ["a", "b", "s"] {
                    c.run(&format!("XGROUP CREATE {key} g $ MKSTREAM"));
                }
                let mut client = waiting(server, words, 1);
                c.run(end);
                assert_eq!(client.read(), want, "{end}");
                blocked(server, 0);
            }
        }
    });
}

#[test]
fn a_client_can_be_unblocked() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut client = server.wire();
        let id = client.run("CLIENT ID").as_int();
        for words in ["XREAD BLOCK 0 STREAMS s $", "XREAD BLOCK 0 STREAMS s t u v $ $ $ $"] {
            client.send_words(words);
            blocked(server, 1);
            assert_eq!(c.run(&format!("CLIENT UNBLOCK {id}")), int(1));
            assert_eq!(client.read(), nil_array());
            client.send_words(words);
            blocked(server, 1);
            assert_eq!(c.run(&format!("CLIENT UNBLOCK {id} ERROR")), int(1));
            assert_eq!(client.read(), error("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
        }
    });
}
