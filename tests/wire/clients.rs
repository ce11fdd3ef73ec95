//! CLIENT: listing, killing, silencing, pausing, unblocking.

use super::support::{
    Server, Value, Wire, bulk, each_cores, error, eventually, int, lacks, nil, nil_array, ok, plain, simple,
};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn id(c: &mut Wire) -> i64 {
    c.run("CLIENT ID").as_int()
}

/// The value of one field of a CLIENT LIST line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_whitespace()
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// Whether the server knows a subcommand that 7.0 does not have.
fn knows(c: &mut Wire, words: &str) -> bool {
    !matches!(c.run(words), Value::Error(text) if text.contains("unknown subcommand"))
}

#[test]
fn list_and_info_describe_connections() {
    each_cores(|server| {
        let mut a = server.wire();
        let mut b = server.wire3();
        a.run("CLIENT SETNAME first");
        b.run("SELECT 3");
        b.run("CLIENT SETNAME second");
        // Whoever looked whether the server is up may not have gone yet.
        let mut list = String::new();
        eventually("two clients", Duration::from_secs(60), || {
            list = a.run("CLIENT LIST").as_text();
            list.lines().count() == 2
        });
        assert!(list.ends_with('\n'));
        let line = |name: &str| list.lines().find(|line| field(line, "name") == name).expect("a line");
        let first = line("first");
        assert_eq!(field(first, "addr"), format!("127.0.0.1:{}", a.local_port()));
        assert_eq!(field(first, "laddr"), format!("127.0.0.1:{}", server.port));
        assert_eq!(field(first, "id"), id(&mut a).to_string());
        assert_eq!(field(first, "db"), "0");
        assert_eq!(field(first, "cmd"), "client|list");
        assert_eq!(field(first, "flags"), "N");
        assert_eq!(field(first, "user"), "default");
        assert_eq!(field(first, "resp"), "2");
        let second = line("second");
        assert_eq!(field(second, "db"), "3");
        assert_eq!(field(second, "resp"), "3");
        assert_eq!(field(second, "cmd"), "client|setname");
        for name in [
            "fd",
            "age",
            "idle",
            "sub",
            "psub",
            "ssub",
            "multi",
            "qbuf",
            "qbuf-free",
            "argv-mem",
            "multi-mem",
            "rbs",
            "rbp",
            "obl",
            "oll",
            "omem",
            "tot-mem",
            "events",
            "redir",
        ] {
            field(second, name);
        }
        let ids = format!("CLIENT LIST ID {} 99999 {}", id(&mut a), id(&mut b));
        assert_eq!(a.run(&ids).as_text().lines().count(), 2);
        assert_eq!(a.run("CLIENT LIST TYPE normal").as_text().lines().count(), 2);
        assert_eq!(a.run("CLIENT LIST TYPE pubsub"), bulk(""));
        let info = b.run("CLIENT INFO");
        assert!(matches!(&info, Value::Verbatim(kind, _) if kind == "txt"));
        assert_eq!(field(&info.as_text(), "name"), "second");
        a.run("MULTI");
        a.run("PING");
        a.run("PING");
        let other = b.run(&format!("CLIENT LIST ID {}", { field(first, "id").to_owned() }));
        assert_eq!(field(&other.as_text(), "multi"), "2");
        assert_eq!(field(&other.as_text(), "flags"), "x");
    });
}

#[test]
fn ids_grow_and_are_unique() {
    each_cores(|server| {
        let mut wires: Vec<Wire> = (0..50).map(|_| server.wire()).collect();
        let mut ids: Vec<i64> = wires.iter_mut().map(id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 50);
    });
}

#[test]
fn kill_by_every_filter() {
    each_cores(|server| {
        let mut admin = server.wire();
        let mut victim = server.wire();
        assert_eq!(victim.run("PING"), simple("PONG"));
        let address = format!("127.0.0.1:{}", victim.local_port());
        assert_eq!(admin.run(&format!("CLIENT KILL {address}")), ok());
        victim.expect_closed();

        let mut victim = server.wire();
        let victim_id = id(&mut victim);
        assert_eq!(admin.run(&format!("CLIENT KILL ID {victim_id}")), int(1));
        victim.expect_closed();

        let mut victim = server.wire();
        assert_eq!(victim.run("PING"), simple("PONG"));
        let address = format!("127.0.0.1:{}", victim.local_port());
        assert_eq!(admin.run(&format!("CLIENT KILL ADDR {address} TYPE normal")), int(1));
        victim.expect_closed();

        let mut victims: Vec<Wire> = (0..5).map(|_| server.wire()).collect();
        for victim in &mut victims {
            assert_eq!(victim.run("PING"), simple("PONG"));
        }
        assert_eq!(admin.run("CLIENT KILL TYPE normal"), int(5));
        for victim in &mut victims {
            victim.expect_closed();
        }
        assert_eq!(admin.run("PING"), simple("PONG"));
        for age in ["0", "-1"] {
            let killed = admin.run(&format!("CLIENT KILL MAXAGE {age}"));
            assert_eq!(killed, error("ERR maxage should be greater than 0"));
        }
        let laddr = format!("CLIENT KILL LADDR 127.0.0.1:{} SKIPME no", server.port);
        assert_eq!(admin.run(&laddr), int(1));
        admin.expect_closed();
    });
}

/// A client that kills itself still reads the reply.
#[test]
fn killing_oneself() {
    each_cores(|server| {
        let mut c = server.wire();
        let own = id(&mut c);
        assert_eq!(c.run(&format!("CLIENT KILL ID {own} SKIPME yes")), int(0));
        c.send(format!("CLIENT KILL ID {own} SKIPME no\r\nSET a 1\r\n"));
        assert_eq!(c.read(), int(1));
        c.expect_closed();
        assert_eq!(server.wire().run("GET a"), nil());
    });
}

#[test]
fn reply_off_and_skip() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("CLIENT REPLY OFF\r\nSET a 1\r\nNOSUCH\r\nMGET a b c\r\nCLIENT REPLY ON\r\n");
        assert_eq!(c.read(), ok());
        c.send("CLIENT REPLY SKIP\r\nSET a 2\r\nGET a\r\n");
        assert_eq!(c.read(), bulk("2"));
        c.send("CLIENT REPLY OFF\r\nCLIENT REPLY SKIP\r\nGET a\r\nGET a\r\n");
        c.expect_silence(Duration::from_millis(50));
        assert_eq!(c.run("CLIENT REPLY ON"), ok());
    });
}

#[test]
fn pause_all_holds_everything_until_its_end() {
    each_cores(|server| {
        let mut admin = server.wire();
        let mut c = server.wire();
        let start = Instant::now();
        assert_eq!(admin.run("CLIENT PAUSE 300 ALL"), ok());
        assert_eq!(c.run("PING"), simple("PONG"));
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(280), "answered after {elapsed:?}");
        assert!(elapsed < Duration::from_millis(3000), "answered after {elapsed:?}");
    });
}

#[test]
fn pause_write_holds_writes_only() {
    each_cores(|server| {
        let mut admin = server.wire();
        let mut reader = server.wire();
        let mut writer = server.wire();
        let mut transaction = server.wire();
        reader.run("SET a 1");
        assert_eq!(admin.run("CLIENT PAUSE 20000 WRITE"), ok());
        assert_eq!(reader.run("GET a"), bulk("1"));
        writer.send("SET a 2\r\n");
        transaction.send("MULTI\r\nINCR b\r\nEXEC\r\n");
        assert_eq!(transaction.read(), ok());
        // Whether INCR is held when it is queued or EXEC later is left open.
        writer.expect_silence(Duration::from_millis(100));
        assert_eq!(reader.run("GET a"), bulk("1"));
        assert_eq!(reader.run("GET b"), nil());
        assert_eq!(admin.run("CLIENT UNPAUSE"), ok());
        assert_eq!(writer.read(), ok());
        assert_eq!(transaction.read(), simple("QUEUED"));
        assert_eq!(transaction.read().items(), [int(1)]);
        assert_eq!(reader.run("GET a"), bulk("2"));
    });
}

#[test]
fn unblock_wakes_with_timeout_or_error() {
    each_cores(|server| {
        if lacks(server, "blocking") {
            return;
        }
        let mut admin = server.wire();
        let mut c = server.wire();
        let blocked = id(&mut c);
        for (reason, reply) in [
            ("", nil_array()),
            (" TIMEOUT", nil_array()),
            (" ERROR", error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
        ] {
            c.send("BLPOP nothing 0\r\n");
            eventually("blocked", Duration::from_secs(5), || {
                admin.run("INFO clients").as_text().contains("blocked_clients:1")
            });
            assert_eq!(admin.run(&format!("CLIENT UNBLOCK {blocked}{reason}")), int(1));
            assert_eq!(c.read(), reply);
        }
        assert_eq!(admin.run(&format!("CLIENT UNBLOCK {blocked}")), int(0));
    });
}

/// A command that waits is counted once, when it has ended, and as failed if it
/// was ended with an error.
#[test]
fn waits_are_counted_once() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG RESETSTAT");
        for (n, error) in [(1, true), (2, false)] {
            let mut b = server.wire();
            let blocked = id(&mut b);
            b.send_words("BLPOP a b c d 0");
            let waits = |c: &mut Wire| c.run("INFO clients").as_text().contains("blocked_clients:1\r");
            eventually("a blocked client", LIMIT, || waits(&mut c));
            if !plain() {
                let clients = c.run("INFO clients").as_text();
                assert!(clients.contains("total_blocking_keys:4\r"), "{clients}");
                assert!(clients.contains("total_blocking_keys_on_nokey:0\r"), "{clients}");
            }
            if error {
                c.run(&format!("CLIENT UNBLOCK {blocked} ERROR"));
                assert!(b.read().as_error().starts_with("UNBLOCKED"));
            } else {
                c.run("RPUSH c x");
                assert_eq!(b.read().items().len(), 2);
            }
            let stats = c.run("INFO commandstats").as_text();
            let line = stats.lines().find(|l| l.starts_with("cmdstat_blpop:")).unwrap();
            assert!(line.starts_with(&format!("cmdstat_blpop:calls={n},")), "{line}");
            assert!(line.ends_with("failed_calls=1"), "{line}");
        }
        assert!(c.run("INFO errorstats").as_text().contains("errorstat_UNBLOCKED:count=1"));
    });
}

/// A blocked client that is killed or leaves takes no element with it.
#[test]
fn blocked_clients_that_leave_take_nothing() {
    each_cores(|server| {
        if lacks(server, "blocking") {
            return;
        }
        let mut admin = server.wire();
        let blocked = |admin: &mut Wire, count: usize| {
            eventually("blocked clients", Duration::from_secs(5), || {
                let expected = format!("blocked_clients:{count}\r\n");
                admin.run("INFO clients").as_text().contains(&expected)
            });
        };
        let mut killed = server.wire();
        let killed_id = id(&mut killed);
        killed.send("BLPOP list 0\r\n");
        let mut leaver = server.wire();
        leaver.send("BLPOP list other 0\r\n");
        blocked(&mut admin, 2);
        assert_eq!(admin.run(&format!("CLIENT KILL ID {killed_id}")), int(1));
        drop(leaver);
        blocked(&mut admin, 0);
        assert_eq!(admin.run("RPUSH list a"), int(1));
        assert_eq!(admin.run("LLEN list"), int(1));
    });
}

#[test]
fn names_and_library_of_7_2() {
    each_cores(|server| {
        let mut c = server.wire();
        if !knows(&mut c, "CLIENT SETINFO LIB-NAME lib") {
            return;
        }
        assert_eq!(c.run("CLIENT SETINFO LIB-VER 1.2"), ok());
        let info = c.run("CLIENT INFO").as_text();
        assert_eq!(field(&info, "lib-name"), "lib");
        assert_eq!(field(&info, "lib-ver"), "1.2");
        assert_eq!(
            c.cmd(&["CLIENT", "SETINFO", "LIB-NAME", "a b"]).as_error(),
            "ERR lib-name cannot contain spaces, newlines or special characters."
        );
        assert!(c.run("CLIENT SETINFO NOSUCH x").as_error().starts_with("ERR Unrecognized option"));
    });
}

#[test]
fn no_touch_keeps_the_idle_time() {
    each_cores(|server| {
        let mut c = server.wire();
        if !knows(&mut c, "CLIENT NO-TOUCH on") {
            return;
        }
        assert!(field(&c.run("CLIENT INFO").as_text(), "flags").contains('T'));
        assert_eq!(c.run("SET a 1"), ok());
        std::thread::sleep(Duration::from_millis(2200));
        c.run("GET a");
        assert!(c.run("OBJECT IDLETIME a").as_int() >= 1);
        // TOUCH is there for nothing else.
        assert_eq!(c.run("TOUCH a"), int(1));
        assert_eq!(c.run("OBJECT IDLETIME a"), int(0));
        assert_eq!(c.run("SET b 1"), ok());
        std::thread::sleep(Duration::from_millis(2200));
        assert_eq!(
            c.cmd(&["EVAL", "redis.call('get', KEYS[1]) return redis.call('touch', KEYS[2])", "2", "a", "b"]),
            int(1)
        );
        assert!(c.run("OBJECT IDLETIME a").as_int() >= 1);
        assert_eq!(c.run("OBJECT IDLETIME b"), int(0));
        assert_eq!(c.run("CLIENT NO-TOUCH off"), ok());
        c.run("GET a");
        assert_eq!(c.run("OBJECT IDLETIME a"), int(0));
    });
}

#[test]
fn a_client_that_ran_a_transaction_is_shown_with_exec() {
    each_cores(|server| {
        let (mut c, mut other) = (server.wire(), server.wire());
        let id = c.run("CLIENT ID").as_int();
        for queued in ["GET a", "MGET a b c d", "CLIENT GETNAME", "EVAL return\t1 0"] {
            c.run("MULTI");
            let words: Vec<&str> = queued.split(' ').collect();
            assert_eq!(c.cmd(&words).as_text(), "QUEUED");
            c.run("CLIENT INFO");
            let inside = c.run("EXEC").items()[1].as_text();
            assert_eq!(field(&inside, "cmd"), "exec", "{queued}");
            let list = other.run(&format!("CLIENT LIST ID {id}")).as_text();
            assert_eq!(field(&list, "cmd"), "exec", "{queued}");
        }
    });
}

#[test]
fn monitor_shows_commands_of_all_cores() {
    each_cores(|server| {
        if lacks(server, "monitor") {
            return;
        }
        let mut monitor = server.wire();
        assert_eq!(monitor.run("MONITOR"), ok());
        let mut wires: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        for (i, c) in wires.iter_mut().enumerate() {
            c.cmd(&["SET", &format!("key{i}"), "a \"b\"\n"]);
            let line = monitor.read();
            let Value::Simple(text) = &line else {
                panic!("not a line: {line:?}");
            };
            let end = format!("[0 127.0.0.1:{}] \"SET\" \"key{i}\" \"a \\\"b\\\"\\n\"", c.local_port());
            assert!(text.ends_with(&end), "{text}");
        }
    });
}

/// CLIENT PAUSE on a replica: what the primary sends is taken in, and applied
/// when the pause is over.
#[test]
fn a_paused_replica_keeps_its_dataset() {
    each_cores(|server| {
        let limit = Duration::from_secs(30);
        let primary = Server::start(&["--cores", "1"]);
        let (mut c, mut p) = (server.wire(), primary.wire());
        assert_eq!(c.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), ok());
        let field = |c: &mut Wire, name: &str| {
            let info = c.run("INFO REPLICATION").as_text();
            let value = info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
            value.map(|v| v.trim().to_owned())
        };
        eventually("the link", limit, || field(&mut c, "master_link_status").as_deref() == Some("up"));
        p.run("SET a 1");
        eventually("the first write", limit, || c.run("GET a") == bulk("1"));
        assert_eq!(c.run("CLIENT PAUSE 100000 WRITE"), ok());
        let before = field(&mut c, "slave_repl_offset");
        p.run("SET a 2");
        let sent = field(&mut p, "master_repl_offset");
        eventually("it has come", limit, || field(&mut c, "slave_read_repl_offset") == sent);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(field(&mut c, "slave_repl_offset"), before);
        assert_eq!(c.run("GET a"), bulk("1"));
        assert_eq!(c.run("CLIENT UNPAUSE"), ok());
        eventually("it is applied", limit, || c.run("GET a") == bulk("2"));
    });
}

/// CLIENT LIST showed MULTI as the last command of one that queues others, and one
/// in WAIT as idle.
#[test]
fn the_list_tells_what_clients_are_about() {
    each_cores(|server| {
        let (mut admin, mut queues, mut waits) = (server.wire(), server.wire(), server.wire());
        let ids = [id(&mut queues), id(&mut waits)];
        queues.run("MULTI");
        assert_eq!(queues.run("GET k"), simple("QUEUED"));
        waits.send_words("WAIT 1 0");
        for (id, wanted) in ids.into_iter().zip([["flags=x", "cmd=get"], ["flags=b", "cmd=wait"]]) {
            eventually(wanted[1], LIMIT, || {
                let line = admin.run(&format!("CLIENT LIST ID {id}")).as_text();
                wanted.iter().all(|part| line.split(' ').any(|field| field == *part))
            });
        }
    });
}
