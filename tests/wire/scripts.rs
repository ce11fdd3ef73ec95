//! Scripts and functions: keys on several cores, named or not; scripts that run
//! for long; what outlives a restart.

use std::time::Duration;

use super::support::{Server, Value, Wire, bulk, each_cores, error, eventually, int, nil, ok, plain, with_cores};

const LIMIT: Duration = Duration::from_secs(30);

fn eval(c: &mut Wire, body: &str, keys: &[&str], args: &[&str]) -> Value {
    let count = keys.len().to_string();
    let words: Vec<&str> =
        ["EVAL", body, &count].into_iter().chain(keys.iter().copied()).chain(args.iter().copied()).collect();
    c.cmd(&words)
}

/// A script that comes to keys that it has not named, after it has written,
/// starts again with them: what it had done is taken back first.
#[test]
fn keys_need_not_be_named() {
    each_cores(|server| {
        let mut c = server.wire();
        for round in 0..40 {
            let (a, b, d) = (format!("a{round}"), format!("b{round}"), format!("d{round}"));
            assert_eq!(c.run(&format!("RPUSH {a} 1")), int(1));
            let body = "redis.call('rpush', KEYS[1], '2') redis.call('incr', ARGV[1]) redis.call('incr', ARGV[2]) \
                        return {redis.call('lrange', KEYS[1], 0, -1), redis.call('get', ARGV[1])}";
            let got = eval(&mut c, body, &[&a], &[&b, &d]);
            assert_eq!(got, Value::Array(vec![Value::Array(vec![bulk("1"), bulk("2")]), bulk("1")]));
            assert_eq!(c.run(&format!("MGET {b} {d}")), Value::Array(vec![bulk("1"), bulk("1")]));
        }
        assert_eq!(
            eval(&mut c, "for i = 1, 50 do redis.call('set', 'n' .. i, i) end return redis.call('dbsize')", &[], &[]),
            int(170)
        );
        assert_eq!(eval(&mut c, "return #redis.call('keys', 'n*')", &[], &[]), int(50));
    });
}

/// A set has no order of its own; scripts get the same one every time.
/// Valkey's scripts call it `server`.
#[test]
fn the_api_has_two_names() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut c = server.wire();
        let body =
            "server.call('set', KEYS[1], server.sha1hex('')) return {server.status_reply('FINE'), server == redis}";
        let reply = eval(&mut c, body, &["k"], &[]);
        assert_eq!(reply.items(), [super::support::simple("FINE"), int(1)]);
        assert_eq!(c.run("STRLEN k"), int(40));
        assert!(eval(&mut c, "server.call = nil", &[], &[]).as_error().contains("Attempt to modify a readonly table"));
        let library = "#!lua name=lib\nserver.register_function('f', function(k) return server.call('get', k[1]) end)";
        assert_eq!(c.cmd(&["FUNCTION", "LOAD", library]), bulk("lib"));
        assert_eq!(c.run("FCALL f 1 k").as_text().len(), 40);
        let calls = "#!lua name=bad\nserver.call('ping')";
        assert!(c.cmd(&["FUNCTION", "LOAD", calls]).is_error());
    });
}

#[test]
fn scripts_get_sets_in_order() {
    each_cores(|server| {
        let mut c = server.wire();
        for i in 0..200 {
            assert_eq!(c.run(&format!("SADD s m{i}")), int(1));
        }
        let body = "local all = redis.call('sort', KEYS[1], 'by', 'nosort') local sorted = {unpack(all)} \
                    table.sort(sorted) for i = 1, 200 do if all[i] ~= sorted[i] then return i end end return #all";
        assert_eq!(eval(&mut c, body, &["s"], &[]), int(200));
    });
}

/// Large values are changed in place, not copied to be put back.
#[test]
fn large_values_are_changed_by_scripts() {
    each_cores(|server| {
        let mut c = server.wire();
        let fill =
            "for i = 1, 20000 do redis.call('zadd', KEYS[1], i, 'member' .. i) end return redis.call('zcard', KEYS[1])";
        assert_eq!(eval(&mut c, fill, &["z"], &[]), int(20000));
        let change = "redis.call('zrem', KEYS[1], 'member7') redis.call('set', 'other', 'x') return redis.call('zcard', KEYS[1])";
        assert_eq!(eval(&mut c, change, &["z"], &[]), int(19999));
        assert_eq!(c.run("GET other"), bulk("x"));
        assert_eq!(c.run("ZSCORE z member7"), nil());
    });
}

/// As many arguments as a script can hold leave room for the reply.
#[test]
fn commands_of_scripts_may_have_thousands_of_arguments() {
    each_cores(|server| {
        let mut c = server.wire();
        let body = "local a = {} for i = 1, 7999 do a[i] = 1 end return redis.call('lpush', KEYS[1], unpack(a))";
        assert_eq!(eval(&mut c, body, &["l"], &[]), int(7999));
    });
}

/// What a script may do is decided when it runs, not when it is queued.
#[test]
fn a_stale_replica_runs_only_what_says_that_it_may() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut other = server.wire();
        assert_eq!(c.run("SET a 1"), ok());
        assert_eq!(c.run("CONFIG SET replica-serve-stale-data no"), ok());
        c.run("MULTI");
        c.run("GET a");
        assert_eq!(other.run("REPLICAOF 127.0.0.1 1"), ok());
        assert!(c.run("EXEC").as_error().starts_with("EXECABORT Transaction discarded because of: MASTERDOWN"));
        let stale = |command: &str| format!("#!lua flags=allow-stale,no-writes\nreturn redis.call({command})");
        assert!(eval(&mut c, "return 1", &[], &[]).as_error().starts_with("MASTERDOWN"));
        assert!(eval(&mut c, &stale("'get', 'a'"), &[], &[]).as_error().contains("on a stale replica"));
        assert!(eval(&mut c, &stale("'info', 'server'"), &[], &[]).as_text().contains("redis_version"));
        assert_eq!(other.run("REPLICAOF NO ONE"), ok());
        assert_eq!(c.run("GET a"), bulk("1"));
    });
}

/// What a script says is heard once, however often it had to start.
#[test]
fn messages_of_scripts_are_heard_once() {
    each_cores(|server| {
        let mut listener = server.wire();
        listener.run("SUBSCRIBE news");
        let mut c = server.wire();
        for i in 0..20 {
            let body = "redis.call('publish', 'news', ARGV[1]) redis.call('set', KEYS[1], 'x') redis.call('set', ARGV[1], 'y') return 1";
            assert_eq!(eval(&mut c, body, &[&format!("k{i}")], &[&format!("m{i}")]), int(1));
        }
        for i in 0..20 {
            assert_eq!(listener.read().items()[2], bulk(format!("m{i}")));
        }
    });
}

fn busy(server: &Server) {
    let mut c = server.wire();
    assert_eq!(c.run("CONFIG SET busy-reply-threshold 50"), ok());
    let text = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    let mut runner = server.wire();
    runner.send_cmd(&["EVAL", "while true do end", "0"]);
    let mut others: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
    eventually("the script is slow", LIMIT, || others.iter_mut().all(|o| o.run("PING") == error(text)));
    assert_eq!(others[0].run("SET a 1"), error(text));
    assert!(others[1].run("FUNCTION KILL").as_error().starts_with("BUSY"));
    assert_eq!(others[2].run("MULTI"), ok());
    assert_eq!(others[3].run("SHUTDOWN").as_error(), text);
    assert_eq!(others[4].run("SCRIPT KILL"), ok());
    assert!(runner.read().as_error().contains("killed by user"), "the script is told");
    eventually("all go on", LIMIT, || others[5..].iter_mut().all(|o| o.run("PING").as_text() == "PONG"));
    assert_eq!(c.run("SCRIPT KILL"), error("NOTBUSY No scripts in execution right now."));

    runner.send_cmd(&["EVAL", "redis.call('set', KEYS[1], 'v') while true do end", "1", "written"]);
    eventually("the script is slow", LIMIT, || c.run("PING").is_error());
    assert!(c.run("SCRIPT KILL").as_error().starts_with("UNKILLABLE"));
}

/// INFO tells scripts what it tells others.
#[test]
fn scripts_may_ask_for_info() {
    each_cores(|server| {
        let mut c = server.wire();
        for i in 0..40 {
            assert_eq!(c.run(&format!("SET key{i} v")), ok());
        }
        let script = "redis.call('SET','mine','v') return redis.call('INFO',ARGV[1])";
        for (section, word) in [
            ("stats", "total_commands_processed:"),
            ("memory", "used_memory:"),
            ("replication", "role:master"),
            ("clients", "connected_clients:1\r"),
            ("persistence", "aof_enabled:0"),
            ("cpu", "used_cpu_user:"),
            ("server", "redis_version:"),
            ("default", "# Keyspace"),
        ] {
            // Other cores tell of themselves now and then.
            eventually(word, LIMIT, || eval(&mut c, script, &[], &[section]).as_text().contains(word));
        }
        eventually("all keys are counted", LIMIT, || {
            eval(&mut c, "return redis.call('INFO','keyspace')", &[], &[]).as_text().contains("keys=41,")
        });
        assert_eq!(c.run("MULTI"), ok());
        c.send_cmd(&["EVAL", script, "0", "stats"]);
        assert_eq!(c.read(), Value::Simple("QUEUED".into()));
        assert!(c.run("EXEC").items()[0].as_text().contains("expired_keys:0"));
    });
}

/// The owner of a key among four cores, before any slot has moved.
fn core_of(key: &str) -> i64 {
    i64::from(coreslot::base::slot::Key::new(key.as_bytes()).slot()) / 4096
}

/// Requests of other clients that came along with a slow script waited for its
/// end, whatever they were about: they are answered, or refused.
#[test]
fn nobody_waits_behind_a_slow_script() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    let mut c = server.wire();
    // The first script must not become slow, or the second would be refused.
    assert_eq!(c.run("CONFIG SET busy-reply-threshold 5000"), ok());
    let home_of = |wire: &mut Wire| {
        let line = wire.run("CLIENT INFO").as_text();
        let core = line.split("core=").nth(1).expect("the core");
        core.split_whitespace().next().and_then(|n| n.parse::<i64>().ok()).expect("a number")
    };
    let keys: Vec<String> = (0..200).map(|i| format!("key{i}")).collect();
    let (key, other) = (&keys[0], keys.iter().find(|k| core_of(k) != core_of(&keys[0])).unwrap());
    let (script_core, home) = (core_of(key), core_of(other));
    let mut clients: Vec<Wire> =
        (0..60).map(|_| server.wire()).filter_map(|mut w| (home_of(&mut w) == home).then_some(w)).collect();
    assert!(clients.len() >= 4, "connections on core {home}");
    // While their core is at work all requests arrive, and are then served in one turn.
    let mut stall = clients.pop().expect("a connection");
    let mut runner = clients.pop().expect("a connection");
    stall.send_cmd(&["EVAL", "for i=1,40000000 do end return redis.call('GET',KEYS[1])", "1", other]);
    std::thread::sleep(Duration::from_millis(30));
    runner.send_cmd(&["EVAL", "while true do end", "1", key]);
    let theirs: Vec<&String> = keys.iter().filter(|k| core_of(k) == script_core).collect();
    for (client, key) in clients.iter_mut().zip(theirs.iter().cycle()) {
        client.send_cmd(&["GET", key]);
    }
    for client in &mut clients {
        let reply = client.read();
        assert!(reply == nil() || reply.as_error().starts_with("BUSY"), "{reply:?}");
    }
    assert!(!stall.read().is_error());
    eventually("the script is slow", LIMIT, || c.run("PING").is_error());
    assert_eq!(clients[0].run("SCRIPT KILL"), ok());
    assert!(runner.read().as_error().contains("killed by user"));
}

#[test]
fn slow_scripts_are_told_of_and_stopped() {
    each_cores(busy);
}

/// What was ordered before a script became slow goes on when it is killed.
#[test]
fn commands_over_several_cores_outlive_a_slow_script() {
    with_cores(4, |server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET busy-reply-threshold 100"), ok());
        let mut words = vec!["MGET".to_owned()];
        words.extend((0..20).map(|i| format!("key{i}")));
        let mut others: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        for _ in 0..5 {
            let mut runner = server.wire();
            runner.send_cmd(&["EVAL", "while true do end", "1", "key3"]);
            others.iter_mut().for_each(|o| o.send_cmd(&words));
            eventually("the script is slow", LIMIT, || c.run("PING").is_error());
            assert_eq!(c.run("SCRIPT KILL"), ok());
            for o in &mut others {
                let reply = o.read();
                assert!(
                    matches!(&reply, Value::Array(all) if all.len() == 20)
                        || reply.is_error() && reply.as_error().starts_with("BUSY"),
                    "{reply:?}"
                );
            }
            assert!(runner.read().as_error().contains("killed by user"));
        }
    });
}

/// A client that goes away in the middle of its script leaves nothing behind.
#[test]
fn a_client_may_leave_its_script() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET busy-reply-threshold 20"), ok());
        let mut runner = server.wire();
        runner.send_cmd(&["EVAL", "while true do end", "0"]);
        eventually("the script is slow", LIMIT, || c.run("PING").is_error());
        drop(runner);
        assert_eq!(c.run("SCRIPT KILL"), ok());
        eventually("its client is gone", LIMIT, || {
            let list = c.run("CLIENT LIST");
            !list.is_error() && list.as_text().lines().count() == 1
        });
    });
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('inc', function(k) return redis.call('incr', k[1]) end)\n\
                       redis.register_function{function_name='get', callback=function(k) return redis.call('get', k[1]) end, \
                       flags={'no-writes'}, description='reads'}";

#[test]
fn functions_are_the_same_on_all_cores() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.cmd(&["FUNCTION", "LOAD", LIBRARY]), bulk("lib"));
        let mut others: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        for (i, o) in others.iter_mut().enumerate() {
            assert_eq!(o.run(&format!("FCALL inc 1 c{i}")), int(1));
            assert_eq!(o.run(&format!("FCALL_RO get 1 c{i}")), bulk("1"));
            assert_eq!(
                o.run("FCALL_RO inc 1 x"),
                error("ERR Can not execute a script with write flag using *_ro command.")
            );
        }
        // An error names the function as it was registered.
        c.run("RPUSH list x");
        let wrong = c.run("FCALL INC 1 list");
        assert!(wrong.as_error().contains("script: inc, on @user_function:2."), "{wrong:?}");
        c.run("DEL list");
        let dump = c.run("FUNCTION DUMP").as_bytes().to_vec();
        assert_eq!(c.run("FUNCTION DELETE lib"), ok());
        for o in &mut others {
            assert_eq!(o.run("FCALL inc 1 x"), error("ERR Function not found"));
        }
        assert_eq!(c.cmd(&[&b"FUNCTION"[..], b"RESTORE", &dump]), ok());
        assert!(c.cmd(&[&b"FUNCTION"[..], b"RESTORE", &dump]).as_error().contains("Library lib already exists"));
        for o in &mut others {
            assert_eq!(o.run("FCALL get 1 c0"), bulk("1"));
        }
        let mut wrong = dump.clone();
        wrong[3] ^= 1;
        assert_eq!(
            c.cmd(&[&b"FUNCTION"[..], b"RESTORE", &wrong]),
            error("ERR DUMP payload version or checksum are wrong")
        );
        let looping = "#!lua name=bad\nwhile true do end";
        assert_eq!(
            c.cmd(&["FUNCTION", "LOAD", looping]),
            error("ERR Error registering functions: ERR FUNCTION LOAD timeout")
        );
        assert!(c.run("INFO memory").as_text().contains("number_of_functions:2\r\nnumber_of_libraries:1"));
    });
}

/// Scripts are known to all cores at once, and forgotten by all.
#[test]
fn scripts_are_the_same_on_all_cores() {
    each_cores(|server| {
        let mut c = server.wire();
        let sha = c.cmd(&["SCRIPT", "LOAD", "return KEYS[1]"]).as_text();
        let mut others: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        for (i, o) in others.iter_mut().enumerate() {
            let key = format!("k{i}");
            assert_eq!(o.cmd(&["EVALSHA", &sha.to_uppercase(), "1", &key]), bulk(&key));
        }
        assert_eq!(others[3].run("SCRIPT FLUSH"), ok());
        for o in &mut others {
            assert_eq!(o.cmd(&["EVALSHA", &sha, "1", "x"]), error("NOSCRIPT No matching script. Please use EVAL."));
        }
    });
}

fn lua_memory(c: &mut Wire, field: &str) -> u64 {
    let text = c.run("INFO memory").as_text();
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{field}:"))).expect("a field of INFO");
    line.trim().parse().expect("a number")
}

/// The states of scripts and libraries that are flushed go on all cores, and not
/// only where the next script runs; functions outlive the scripts.
#[test]
fn flushed_scripts_leave_no_states() {
    each_cores(|server| {
        let mut c = server.wire();
        let library = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
        assert_eq!(c.cmd(&["FUNCTION", "LOAD", library]), bulk("lib"));
        for way in ["SCRIPT FLUSH", "SCRIPT FLUSH ASYNC", "SCRIPT FLUSH SYNC", "MULTI"] {
            for i in 0..40 {
                let key = format!("k{i}");
                assert_eq!(eval(&mut c, "return KEYS[1]", &[&key], &[]), bulk(&key));
                assert_eq!(c.run(&format!("FCALL one 1 k{i}")), int(1));
            }
            assert!(lua_memory(&mut c, "used_memory_lua") > 20_000);
            assert_eq!(lua_memory(&mut c, "number_of_cached_scripts"), 1);
            assert_eq!(c.run(way), ok());
            if way == "MULTI" {
                eval(&mut c, "return 1", &["a"], &[]);
                c.run("SCRIPT FLUSH");
                assert_eq!(c.run("EXEC"), Value::Array(vec![int(1), ok()]));
            }
            assert_eq!(lua_memory(&mut c, "used_memory_lua"), 0, "{way}");
            assert_eq!(lua_memory(&mut c, "used_memory_scripts_eval"), 0, "{way}");
            assert_eq!(lua_memory(&mut c, "number_of_cached_scripts"), 0, "{way}");
            assert_eq!(c.run("FCALL one 1 x"), int(1));
            assert!(lua_memory(&mut c, "used_memory_vm_functions") > 20_000);
        }
        assert_eq!(c.run("FUNCTION FLUSH"), ok());
        assert_eq!(lua_memory(&mut c, "used_memory_vm_functions"), 0);
        assert_eq!(c.cmd(&["FUNCTION", "LOAD", library]), bulk("lib"));
        assert_eq!(c.run("FCALL one 1 x"), int(1));
    });
}

/// Transactions hold scripts, and scripts see what came before them.
#[test]
fn scripts_in_transactions() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("MULTI");
        c.run("SET a 5");
        c.cmd(&["EVAL", "redis.call('incr', 'b') return redis.call('incr', KEYS[1])", "1", "a"]);
        c.run("MGET a b");
        let got = c.run("EXEC");
        assert_eq!(got, Value::Array(vec![ok(), int(6), Value::Array(vec![bulk("6"), bulk("1")])]));
        c.run("WATCH a");
        let mut other = server.wire();
        assert_eq!(other.cmd(&["EVAL", "return redis.call('incr', 'a')", "0"]), int(7));
        c.run("MULTI");
        c.run("GET a");
        assert!(c.run("EXEC").is_nil());
    });
}

/// What INFO says of a command's calls, without times.
fn calls_of(c: &mut Wire, command: &str) -> String {
    let stats = c.run("INFO commandstats").as_text();
    let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:")).map(str::to_owned));
    line.map_or(String::new(), |l| l.split(',').filter(|f| !f.starts_with("usec")).collect::<Vec<_>>().join(" "))
}

/// A script whose flags say that it may not run counts as rejected, not as failed,
/// as in Redis, which looks at them before it calls the command.
#[test]
fn scripts_refused_by_their_flags_are_rejected() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SET x 1");
        assert_eq!(c.run("CONFIG SET maxmemory 1 maxmemory-policy noeviction"), ok());
        assert_eq!(c.run("CONFIG RESETSTAT"), ok());
        let flagged = "#!lua\nreturn redis.call('set', 'x', 1)";
        for keys in [&[][..], &["x"], &["x", "y"]] {
            let reply = eval(&mut c, flagged, keys, &[]);
            assert_eq!(reply.as_error(), "OOM command not allowed when used memory > 'maxmemory'.");
        }
        assert!(eval(&mut c, "return redis.call('set', KEYS[1], 1)", &["x"], &[]).is_error());
        assert!(eval(&mut c, "#!lua flags=bad\nreturn 1", &[], &[]).is_error());
        assert!(!eval(&mut c, "#!lua flags=no-writes\nreturn 1", &[], &[]).is_error());
        assert_eq!(calls_of(&mut c, "eval"), "calls=3 rejected_calls=3 failed_calls=2");
        assert!(c.run("INFO errorstats").as_text().contains("errorstat_OOM:count=4\r"));
        assert!(c.cmd(&["EVAL_RO", flagged, "0"]).is_error());
        assert_eq!(calls_of(&mut c, "eval_ro"), "calls=0 rejected_calls=1 failed_calls=0");
        assert_eq!(c.run("CONFIG SET maxmemory 0"), ok());
        assert!(c.cmd(&["EVAL_RO", flagged, "0"]).as_error().contains("using *_ro command"));
        assert_eq!(calls_of(&mut c, "eval_ro"), "calls=1 rejected_calls=1 failed_calls=1");
    });
}

/// Errors count where they happen, once: whether the script swallows them, passes
/// them on, or dies of them.
#[test]
fn errors_within_scripts_are_counted_once() {
    each_cores(|server| {
        let mut c = server.wire();
        let cases = [
            ("local t = redis.pcall('get') return t['err']", "ERR", 1),
            ("return redis.pcall('get')", "ERR", 1),
            ("return redis.call('get')", "ERR", 1),
            ("redis.pcall('nope') redis.pcall('lpush', KEYS[1], 1) return 1", "ERR", 1),
            ("return redis.pcall('lpush', KEYS[1], 1)", "WRONGTYPE", 1),
            ("pcall(redis.call, 'lpush', KEYS[1], 1) pcall(redis.call, 'get') return 1", "WRONGTYPE", 1),
            ("return redis.error_reply('MINE here')", "MINE", 1),
            ("redis.error_reply('MINE here') return 1", "MINE", 0),
        ];
        c.run("SET x 1");
        for (script, code, times) in cases {
            assert_eq!(c.run("CONFIG RESETSTAT"), ok());
            eval(&mut c, script, &["x"], &[]);
            let errors = c.run("INFO errorstats").as_text();
            let count = format!("errorstat_{code}:count={times}\r");
            assert!(if times == 0 { !errors.contains(code) } else { errors.contains(&count) }, "{script}: {errors}");
        }
    });
}

/// A script that asks for keys of other cores runs again with them: one call.
#[test]
fn a_script_counts_once_however_often_it_starts() {
    each_cores(|server| {
        let mut clients: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        assert_eq!(clients[0].run("CONFIG RESETSTAT"), ok());
        let script = "redis.call('GET','one') redis.call('GET','two') return redis.call('INCR',ARGV[1])";
        for (i, c) in clients.iter_mut().enumerate() {
            for n in 0..5 {
                let (key, other) = (format!("key{}", 8 * n + i), format!("other{i}"));
                assert_eq!(c.cmd(&["EVAL", script, "1", &key, &other]), int(n as i64 + 1));
            }
        }
        let stats = clients[0].run("INFO commandstats").as_text();
        let calls = |name: &str| {
            let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{name}:calls=")).map(str::to_owned));
            line.and_then(|l| l.split(',').next().and_then(|n| n.parse::<u64>().ok())).unwrap_or(0)
        };
        assert_eq!((calls("eval"), calls("incr")), (40, 40), "{stats}");
    });
}
