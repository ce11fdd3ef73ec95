//! MONITOR: what it shows, what it hides, and how it ends.

use super::support::*;

/// Reads one line and returns what follows the bracket.
fn shown(monitor: &mut wire::Wire) -> String {
    let line = monitor.read();
    let Value::Simple(text) = &line else { panic!("not a line: {line:?}") };
    text.split_once("] ").expect("a line of MONITOR").1.to_string()
}

#[test]
fn transactions_secrets_and_databases() {
    each_cores(|server| {
        let mut monitor = server.wire();
        assert_eq!(monitor.run("MONITOR"), ok());
        let mut c = server.wire();
        for command in
            ["SELECT 3", "MULTI", "SET {t}a 1", "INCR {t}a", "EXEC", "CONFIG GET port", "AUTH u p", "NOSUCH", "GET"]
        {
            c.run(command);
        }
        c.run("MULTI");
        c.run("SET a 1");
        c.run("SET b 1");
        c.run("SET c 1");
        c.run("EXEC");
        c.run("ECHO end");
        let expected = [
            "\"SELECT\" \"3\"",
            "\"MULTI\"",
            "\"SET\" \"{t}a\" \"1\"",
            "\"INCR\" \"{t}a\"",
            "\"EXEC\"",
            "\"AUTH\" \"(redacted)\" \"(redacted)\"",
            "\"MULTI\"",
            "\"SET\" \"a\" \"1\"",
            "\"SET\" \"b\" \"1\"",
            "\"SET\" \"c\" \"1\"",
            "\"EXEC\"",
            "\"ECHO\" \"end\"",
        ];
        for line in expected {
            assert_eq!(shown(&mut monitor), line);
        }
    });
}

/// Where a script turns out to need what is on another core, it begins anew:
/// what it did before is not shown. (So, too, when it is too much to keep.)
#[test]
fn what_a_script_calls_is_shown_once() {
    each_cores(|server| {
        let mut monitor = server.wire();
        assert_eq!(monitor.run("MONITOR"), ok());
        let mut c = server.wire();
        for i in 0..20 {
            let script =
                format!("redis.call('incr', 'a{i}') redis.call('get', 'b{i}') return redis.call('incr', 'c{i}')");
            assert_eq!(c.cmd(&["EVAL", &script, "0"]), int(1));
            assert!(shown(&mut monitor).starts_with("\"EVAL\" "));
            for called in ["incr\" \"a", "get\" \"b", "incr\" \"c"] {
                assert_eq!(shown(&mut monitor), format!("\"{called}{i}\""));
            }
        }
        let many = "for i = 1, 3000 do redis.call('set', KEYS[1], string.rep('x', 1000) .. i) end";
        assert_eq!(c.cmd(&["EVAL", many, "1", "key"]), nil());
        assert!(shown(&mut monitor).starts_with("\"EVAL\" "));
        for i in 1..=3000 {
            let line = shown(&mut monitor);
            assert!(line.starts_with("\"set\" \"key\" \"x") && line.ends_with(&format!("x{i}\"")), "{i}: {line}");
        }
        c.run("ECHO end");
        assert_eq!(shown(&mut monitor), "\"ECHO\" \"end\"");
    });
}

/// A script stands before the commands that it calls.
#[test]
fn scripts_are_shown_before_their_commands() {
    each_cores(|server| {
        let mut monitor = server.wire();
        assert_eq!(monitor.run("MONITOR"), ok());
        let mut c = server.wire();
        assert_eq!(c.cmd(&["EVAL", "return redis.call('echo', ARGV[1])", "0", "x"]), bulk("x"));
        let eval = monitor.read();
        assert!(matches!(&eval, Value::Simple(t) if t.contains("] \"EVAL\" ")), "{eval:?}");
        let called = monitor.read();
        assert!(matches!(&called, Value::Simple(t) if t.ends_with(" lua] \"echo\" \"x\"")), "{called:?}");
    });
}

#[test]
fn reset_and_closing_end_it() {
    each_cores(|server| {
        let mut monitors: Vec<_> = (0..4).map(|_| server.wire()).collect();
        monitors.iter_mut().for_each(|m| assert_eq!(m.run("MONITOR"), ok()));
        let mut admin = server.wire();
        assert_eq!(admin.run("CLIENT LIST").as_text().matches(" flags=O ").count(), 4);
        drop(monitors.split_off(2));
        for m in &mut monitors {
            m.send_words("GET x");
            while m.read() != error("ERR Replica can't interact with the keyspace") {}
            m.send_words("RESET");
            while m.read() != simple("RESET") {}
        }
        for _ in 0..20 {
            admin.run("SET a 1");
        }
        // The last may still see the RESET of the other; after that, silence.
        for m in &mut monitors {
            m.send_words("PING done");
            while m.read() != bulk("done") {}
            assert_eq!(m.run("GET a"), bulk("1"));
        }
    });
}

/// A monitor that does not read is cut off at the limit of ordinary clients.
#[test]
fn a_monitor_that_does_not_read_is_cut_off() {
    let server = Server::start(&["--cores", "2", "--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut monitor = server.wire();
    assert_eq!(monitor.run("MONITOR"), ok());
    let mut c = server.wire();
    let big = "x".repeat(100_000);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while c.run("CLIENT LIST").as_text().contains(" flags=O ") {
        assert!(std::time::Instant::now() < deadline, "the monitor was never cut off");
        for _ in 0..20 {
            c.cmd(&["ECHO", &big]);
        }
    }
}

/// Who wants no replies is shown nothing either, until it wants them again.
#[test]
fn a_monitor_without_replies_is_shown_nothing() {
    each_cores(|server| {
        let mut monitor = server.wire();
        let mut c = server.wire();
        monitor.send("CLIENT REPLY OFF\r\nMONITOR\r\n");
        eventually("a monitor", std::time::Duration::from_secs(10), || {
            c.run("CLIENT LIST").as_text().contains(" flags=O ")
        });
        assert_eq!(c.run("ECHO unseen"), bulk("unseen"));
        monitor.send("CLIENT REPLY ON\r\n");
        assert_eq!(monitor.read(), ok());
        let mut first = String::new();
        eventually("something to be shown", std::time::Duration::from_secs(10), || {
            assert_eq!(c.run("ECHO seen"), bulk("seen"));
            first = shown(&mut monitor);
            first.contains("ECHO")
        });
        assert_eq!(first, "\"ECHO\" \"seen\"");
    });
}
