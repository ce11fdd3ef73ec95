//! Scripts that run for longer than `busy-reply-threshold` on several cores:
//! what other connections hear meanwhile, whatever core they and their keys
//! are on, and what they had sent before.

use std::time::Duration;

use super::support::{Server, Value, Wire, each_cores, error, eventually, nil, ok, plain, with_cores};

const LIMIT: Duration = Duration::from_secs(30);
const BUSY: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const BUSY_FUNCTION: &str = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";

/// Asks for more keys than a script may without getting everything, and loops.
const EVERYWHERE: &str = "for i = 1, 40 do redis.call('get', 'undeclared' .. i) end while true do end";

/// So many keys lie on all of four cores.
fn keys() -> Vec<String> {
    (0..32).map(|i| format!("key{i}")).collect()
}

/// Runs a loop, once with keys on all cores and once with keys that it does not
/// name; and a function.
fn on_all_cores(server: &Server) {
    let mut c = server.wire();
    assert_eq!(c.run("CONFIG SET busy-reply-threshold 50"), ok());
    let library = format!("#!lua name=l\nredis.register_function('loop', function() {EVERYWHERE} end)");
    assert_eq!(c.cmd(&["FUNCTION", "LOAD", &library]).as_text(), "l");
    let keys = keys();
    let mut named = vec!["EVAL", "while true do end", "32"];
    named.extend(keys.iter().map(String::as_str));
    for (script, text, kill) in [
        (vec!["EVAL", EVERYWHERE, "0"], BUSY, "SCRIPT KILL"),
        (named, BUSY, "SCRIPT KILL"),
        (vec!["FCALL", "loop", "0"], BUSY_FUNCTION, "FUNCTION KILL"),
    ] {
        let mut runner = server.wire();
        runner.send_cmd(&script);
        let mut others: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        eventually("the script is slow", LIMIT, || others.iter_mut().all(|o| o.run("PING") == error(text)));
        for (i, o) in others.iter_mut().enumerate() {
            for key in &keys {
                assert_eq!(o.run(&format!("GET {key}")), error(text));
            }
            assert_eq!(o.run("MSET key0 1 key1 1 key2 1 key3 1"), error(text));
            assert_eq!(o.run("EVAL return 0"), error(text));
            assert_eq!(o.run("MULTI"), ok());
            assert_eq!(o.run(&format!("SET key{i} v")), error(text));
            assert!(o.run("EXEC").as_error().starts_with("EXECABORT Transaction discarded because of"));
        }
        let other_kill = if kill == "SCRIPT KILL" { "FUNCTION KILL" } else { "SCRIPT KILL" };
        assert_eq!(others[0].run(other_kill), error(text));
        assert_eq!(others[1].run(kill), ok());
        assert!(runner.read().as_error().contains("killed by user"), "the script is told");
        eventually("all go on", LIMIT, || others.iter_mut().all(|o| o.run("PING").as_text() == "PONG"));
        for key in &keys {
            assert_eq!(others[2].run(&format!("GET {key}")), nil());
        }
    }
}

#[test]
fn all_cores_are_busy_with_a_script_over_several() {
    each_cores(on_all_cores);
}

/// What has written cannot be killed; the server can be stopped.
#[test]
fn a_script_over_several_cores_that_has_written_ends_with_the_server() {
    for cores in if plain() { vec!["1"] } else { vec!["1", "4"] } {
        let mut server = Server::start(&["--cores", cores]);
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET busy-reply-threshold 50"), ok());
        let mut runner = server.wire();
        let body = format!("redis.call('set', 'undeclared1', 1) {EVERYWHERE}");
        runner.send_cmd(&["EVAL", &body, "0"]);
        eventually("the script is slow", LIMIT, || c.run("PING").is_error());
        assert!(c.run("SCRIPT KILL").as_error().starts_with("UNKILLABLE"));
        assert_eq!(c.run("SHUTDOWN"), error(BUSY));
        c.send_cmd(&["SHUTDOWN", "NOSAVE"]);
        server.wait_exit(LIMIT);
    }
}

/// Commands that were taken in before the script was slow waited for its end:
/// behind its locks, or because its core had their keys or their client. In
/// Redis they lie in their sockets, and are refused.
#[test]
fn what_came_before_a_script_was_slow_is_refused() {
    with_cores(if plain() { 1 } else { 4 }, |server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET busy-reply-threshold 1000"), ok());
        for script in [vec!["EVAL", EVERYWHERE, "0"], vec!["EVAL", "while true do end", "2", "key0", "key1"]] {
            let mut runner = server.wire();
            runner.send_cmd(&script);
            // Most come while it runs and is not slow; those that come at
            // another time are done or refused at once.
            std::thread::sleep(Duration::from_millis(100));
            let mut asked: Vec<(Wire, &str, usize)> = Vec::new();
            for _ in 0..6 {
                for (words, replies) in [
                    ("GET key0", 1),
                    ("SET key1 x", 1),
                    ("MGET key0 key1 key2 key3 key4 key5 key6 key7", 1),
                    ("DBSIZE", 1),
                    ("COPY key0 key2 REPLACE", 1),
                    ("EVAL return{redis.call('get','key0'),redis.call('get','key1')} 0", 1),
                ] {
                    let mut wire = server.wire();
                    wire.send_words(words);
                    asked.push((wire, words, replies));
                }
                let mut wire = server.wire();
                for words in ["MULTI", "SET key0 exec", "SET key1 exec", "SET key2 exec", "SET key3 exec", "EXEC"] {
                    wire.send_words(words);
                }
                asked.push((wire, "EXEC", 6));
            }
            for (wire, words, replies) in &mut asked {
                wire.set_limit(LIMIT);
                let last = (0..*replies).map(|_| wire.read()).last().expect("a reply");
                if last.is_error() {
                    let text = last.as_error();
                    let aborted = text.starts_with("EXECABORT") && *words == "EXEC";
                    assert!(text == BUSY || aborted, "{words}: {text}");
                }
            }
            eventually("the script is slow", LIMIT, || c.run("GET key2") == error(BUSY));
            assert_eq!(c.run("SCRIPT KILL"), ok());
            assert!(runner.read().as_error().contains("killed by user"));
            // Those that were refused have done nothing; all connections go on.
            eventually("all go on", LIMIT, || asked.iter_mut().all(|(w, ..)| w.run("PING").as_text() == "PONG"));
            assert_eq!(c.run("FLUSHALL"), ok());
            asked.iter_mut().for_each(|(w, ..)| assert_eq!(w.run("GET key2"), nil()));
            let all = Value::Array(vec![nil(), nil(), nil(), nil()]);
            asked.iter_mut().for_each(|(w, ..)| assert_eq!(w.run("MGET key0 key1 key2 key3"), all));
        }
    });
}

/// Only calls that take long: their instructions alone are counted. It was noticed after a
/// hundred thousand of them, which took a minute.
#[test]
fn a_script_of_long_calls_is_noticed_and_killed() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET busy-reply-threshold 50"), ok());
        let mut runner = server.wire();
        runner.send_cmd(&["EVAL", "while true do string.rep('x', 1000000) end", "0"]);
        let mut killer = server.wire();
        killer.set_limit(Duration::from_secs(25));
        std::thread::sleep(Duration::from_millis(100));
        eventually("it is killed", LIMIT, || killer.run("SCRIPT KILL") == ok());
        assert!(runner.read().as_error().contains("killed by user"));
    });
}
