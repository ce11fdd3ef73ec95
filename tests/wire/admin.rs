//! DEBUG, LATENCY, MEMORY, COMMAND and SHUTDOWN where other tests do not
//! need them, and a crowd of commands behind one key.

use super::support::{Server, Value, Wire, bulk, each_cores, error, int, ok, plain};
use std::time::Duration;

#[test]
fn debug_needs_permission() {
    let server = Server::start(&["--cores", "2", "--enable-debug-command", "no"]);
    let text = server.wire().run("DEBUG SLEEP 0").as_error().to_owned();
    assert!(text.starts_with("ERR DEBUG command not allowed."), "{text}");
    assert_eq!(server.wire().run("DEBUG OBJECT a").as_error(), text);
    let server = Server::start(&["--cores", "2", "--enable-debug-command", "local"]);
    assert_eq!(server.wire().run("DEBUG SLEEP 0"), ok());
}

#[test]
fn debug_replies_with_every_type() {
    each_cores(|server| {
        let mut c = server.wire3();
        for (kind, want) in [("string", bulk("Hello World")), ("integer", int(12345)), ("null", Value::Null)] {
            assert_eq!(c.run(&format!("DEBUG PROTOCOL {kind}")), want);
        }
        assert!(c.run("DEBUG PROTOCOL x").as_error().starts_with("ERR Wrong protocol type name."));
        assert_eq!(c.run("DEBUG ERROR oops"), error("oops"));
        for bad in ["DEBUG OBJECT", "DEBUG NOSUCH", "DEBUG DIGEST x", "DEBUG SLEEP"] {
            let word = bad.split(' ').nth(1).expect("a word");
            let want = format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP.");
            assert_eq!(c.run(bad), error(&want));
        }
    });
}

/// The same content gives the digest that redis-server 7.0.15 gives, on
/// however many cores it lies.
#[test]
fn digests_are_those_of_redis() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SET a xyz");
        c.run("DEBUG POPULATE 1000 p 10");
        assert_eq!(c.run("DEBUG DIGEST"), super::support::simple("98216678d1112c303c985e153d43148e42182dea"));
        let values = c.run("DEBUG DIGEST-VALUE a none");
        let want = ["b04db56b32ff9335e14da7729d0eeb1a8915c3cf", "0000000000000000000000000000000000000000"];
        assert_eq!(values, Value::Array(want.map(super::support::simple).to_vec()));
    });
}

#[test]
fn histograms_count_each_call_once() {
    each_cores(|server| {
        let mut c = server.wire();
        for _ in 0..10 {
            c.run("MSET a 1 b 2 c 3 d 4");
        }
        let all = c.run("LATENCY HISTOGRAM mset nosuch");
        let mset = all.field("mset");
        assert_eq!(mset.field("calls"), &int(10));
        assert_eq!(mset.field("histogram_usec").items().last(), Some(&int(10)));
        assert_eq!(c.run("LATENCY HISTOGRAM nosuch").items().len(), 0);
        assert_eq!(c.run("LATENCY GRAPH x"), error("ERR No samples available for event 'x'"));
        assert!(c.run("MEMORY DOCTOR").as_text().len() > 10);
        assert_eq!(c.run("MEMORY PURGE"), ok());
        assert_eq!(c.run("MEMORY USAGE a x"), error("ERR syntax error"));
    });
}

#[test]
fn command_finds_keys() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("COMMAND GETKEYS MSET a 1 b 2"), super::support::bulks("a b"));
        assert_eq!(c.run("COMMAND GETKEYS CONFIG GET x"), error("ERR The command has no key arguments"));
        assert_eq!(c.run("COMMAND GETKEYS nosuch a"), error("ERR Invalid command specified"));
        assert!(c.run("COMMAND INFO nosuch").items()[0].is_nil());
        assert_eq!(c.run("COMMAND INFO memory|usage").items()[0].items()[1], int(-3));
        assert_eq!(c.run("COMMAND LIST FILTERBY FOO x"), error("ERR syntax error"));
        assert_eq!(c.run("COMMAND nosuch"), error("ERR unknown subcommand 'nosuch'. Try COMMAND HELP."));
    });
}

#[test]
fn shutdown_ends_the_server() {
    let mut server = Server::start(&["--cores", "4"]);
    let mut c = server.wire();
    assert_eq!(c.run("SHUTDOWN ABORT"), error("ERR No shutdown in progress."));
    assert_eq!(c.run("SHUTDOWN x"), error("ERR syntax error"));
    assert_eq!(c.run("SHUTDOWN SAVE NOSAVE"), error("ERR syntax error"));
    c.send_words("SHUTDOWN NOSAVE");
    c.expect_closed();
    assert!(server.wait_exit(Duration::from_secs(10)).success());
}

/// Commands that find their key locked by a transaction queue up behind it.
/// Once they were set free one inside the other, as deep as the queue was long,
/// and each that joined looked at all before it: with thousands of them the
/// server stood still for minutes.
#[test]
fn a_crowd_behind_one_key() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut c = server.wire();
                for _ in 0..300 {
                    assert!(!c.run("COPY crowd other REPLACE").is_error());
                }
            });
        }
        for _ in 0..8 {
            scope.spawn(|| {
                let mut c: Wire = server.wire();
                let replies = c.pipeline("INCR crowd\r\n".repeat(10_000).as_bytes(), 10_000);
                assert!(replies.iter().all(|r| matches!(r, Value::Int(_))));
            });
        }
    });
    assert_eq!(server.wire().run("GET crowd"), bulk("80000"));
}

/// Short commands were counted in histograms with `latency-tracking no`, too.
#[test]
fn nothing_is_tracked_without_latency_tracking() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET latency-tracking no"), ok());
        assert_eq!(c.run("CONFIG RESETSTAT"), ok());
        for i in 0..100 {
            c.run(&format!("SET k{i} v"));
            c.run(&format!("GET k{i}"));
        }
        assert_eq!(c.run("LATENCY HISTOGRAM").items().len(), 0);
        assert_eq!(c.run("CONFIG SET latency-tracking yes"), ok());
        (0..100).for_each(|i| assert!(!c.run(&format!("GET k{i}")).is_error()));
        assert!(!c.run("LATENCY HISTOGRAM get").items().is_empty());
    });
}
