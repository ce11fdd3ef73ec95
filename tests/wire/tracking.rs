//! Client-side caching: who hears of changed keys, when, and in what order.

use super::support::{
    Rng, Server, Value, Wire, array, bulk, bulks, each_cores, encode, error, eventually, int, nil, ok,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn invalid(keys: &str) -> Value {
    Value::Push(vec![bulk("invalidate"), bulks(keys)])
}

fn field(c: &mut Wire, name: &str) -> i64 {
    let text = c.run("INFO everything").as_text();
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}:")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name}")).trim().parse().expect("a number")
}

/// Tracking clients on as many cores as there are.
fn trackers(server: &Server, n: usize, options: &str) -> Vec<Wire> {
    (0..n)
        .map(|_| {
            let mut c = server.wire3();
            assert_eq!(c.run(&format!("CLIENT TRACKING on {options}")), ok());
            c
        })
        .collect()
}

#[test]
fn readers_hear_once_of_each_change() {
    each_cores(|server| {
        let mut w = server.wire();
        let mut clients = trackers(server, 8, "");
        for i in 0..20 {
            w.run(&format!("SET k{i} 0"));
        }
        for c in &mut clients {
            for i in 0..20 {
                assert_eq!(c.run(&format!("GET k{i}")), bulk("0"));
            }
        }
        assert_eq!(field(&mut w, "tracking_clients"), 8);
        assert_eq!(field(&mut w, "tracking_total_keys"), 20);
        assert_eq!(field(&mut w, "tracking_total_items"), 160);
        for i in 0..20 {
            w.run(&format!("SET k{i} 1"));
            w.run(&format!("SET k{i} 2"));
            for c in &mut clients {
                assert_eq!(c.read(), invalid(&format!("k{i}")));
            }
        }
        // Nothing more has come, and what is read again is tracked again.
        for c in &mut clients {
            assert_eq!(c.run("PING").as_text(), "PONG");
            assert_eq!(c.run("MGET k0 k1"), bulks("2 2"));
        }
        w.run("MSET k0 3 k1 3");
        for c in &mut clients {
            let mut got = [c.read(), c.read()];
            got.sort();
            assert_eq!(got, [invalid("k0"), invalid("k1")]);
            assert_eq!(c.run("CLIENT TRACKING off"), ok());
        }
        assert_eq!(field(&mut w, "tracking_clients"), 0);
    });
}

/// The client's side of the contract: values by key until they are invalid.
struct Cache {
    wire: Wire,
    values: HashMap<String, Value>,
}

impl Cache {
    fn take(&mut self, push: &Value) {
        let parts = push.items();
        assert_eq!(parts[0], bulk("invalidate"));
        match &parts[1] {
            Value::Null => self.values.clear(),
            keys => keys.items().iter().for_each(|k| drop(self.values.remove(&k.as_text()))),
        }
    }

    /// Asks for all keys in one go.
    fn read(&mut self, keys: &[String]) {
        let request: Vec<u8> = keys.iter().flat_map(|k| encode(&["GET", k])).collect();
        self.wire.send(request);
        for k in keys {
            loop {
                match self.wire.read() {
                    push @ Value::Push(_) => self.take(&push),
                    value => {
                        self.values.insert(k.clone(), value);
                        break;
                    }
                }
            }
        }
    }

    /// Takes in what has come unasked.
    fn catch_up(&mut self) {
        self.wire.send(encode(&["PING"]));
        while let push @ Value::Push(_) = self.wire.read() {
            self.take(&push);
        }
    }
}

/// A message that overtook the reply with the value, or was lost, would leave a
/// stale value behind for ever.
#[test]
fn no_cache_stays_stale() {
    each_cores(|server| {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|id| {
                let (port, stop) = (server.port, stop.clone());
                std::thread::spawn(move || {
                    let (mut c, mut rng) = (Wire::connect(port), Rng::new(id));
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        let (a, b) = (rng.below(60), rng.below(60));
                        let line = match rng.below(40) {
                            0..=15 => format!("SET k{a} {id}:{n}"),
                            16..=20 => format!("MSET k{a} {id}:{n} k{b} {id}:{n}"),
                            21..=24 => format!("DEL k{a} k{b}"),
                            25..=29 => format!("SET k{a} {id}:{n} PX 1"),
                            30..=33 => format!("APPEND k{a} x"),
                            34..=37 => format!("RENAME k{a} k{b}"),
                            38 => format!("COPY k{a} k{b} REPLACE"),
                            _ if n % 10 == 0 => "FLUSHALL".into(),
                            _ => format!("UNLINK k{a}"),
                        };
                        c.run(&line);
                    }
                })
            })
            .collect();
        let mut caches: Vec<Cache> =
            trackers(server, 6, "").into_iter().map(|wire| Cache { wire, values: HashMap::new() }).collect();
        let mut rng = Rng::new(77);
        for _ in 0..150 {
            for c in &mut caches {
                let keys: Vec<String> = (0..10).map(|_| format!("k{}", rng.below(60))).collect();
                c.read(&keys);
            }
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|w| w.join().expect("a writer"));
        let mut plain = server.wire3();
        eventually("caches equal to the keyspace", LIMIT, || {
            caches.iter_mut().for_each(Cache::catch_up);
            let mut stale = 0;
            for c in &caches {
                for (k, v) in &c.values {
                    stale += usize::from(plain.run(&format!("GET {k}")) != *v);
                }
            }
            stale == 0
        });
        assert!(caches.iter().any(|c| !c.values.is_empty()));
    });
}

#[test]
fn messages_are_redirected() {
    each_cores(|server| {
        let mut sink = server.wire();
        let id = sink.run("CLIENT ID").as_int();
        sink.run("SUBSCRIBE __redis__:invalidate");
        let (mut c, mut w) = (server.wire3(), server.wire());
        assert_eq!(
            c.run("CLIENT TRACKING on REDIRECT 99999"),
            error("ERR The client ID you want redirect to does not exist")
        );
        assert_eq!(c.run(&format!("CLIENT TRACKING on REDIRECT {id}")), ok());
        assert_eq!(c.run("CLIENT GETREDIR"), int(id));
        let message = |keys: Value| array([bulk("message"), bulk("__redis__:invalidate"), keys]);
        for i in 0..10 {
            c.run(&format!("GET k{i}"));
            w.run(&format!("SET k{i} 1"));
            assert_eq!(sink.read(), message(bulks(&format!("k{i}"))));
        }
        c.run("GET k0");
        w.run("FLUSHALL");
        assert_eq!(sink.read(), message(nil()));
        c.run("GET k0");
        drop(sink);
        eventually("the sink's end", LIMIT, || !w.run("CLIENT LIST").as_text().contains(&format!("id={id} ")));
        w.run("SET k0 1");
        assert_eq!(c.read(), Value::Push(vec![bulk("tracking-redir-broken"), int(id)]));
        let info = c.run("CLIENT TRACKINGINFO");
        assert_eq!(*info.field("flags"), Value::Set(vec![bulk("on"), bulk("broken_redirect")]));
        assert!(c.run("CLIENT INFO").as_text().contains("flags=tR "));
    });
}

#[test]
fn prefixes_are_followed_on_all_cores() {
    each_cores(|server| {
        let mut w = server.wire();
        let mut some = trackers(server, 4, "BCAST PREFIX a: PREFIX b:");
        let mut all = trackers(server, 4, "BCAST NOLOOP");
        assert_eq!(field(&mut w, "tracking_total_prefixes"), 3);
        for i in 0..10 {
            for (key, followed) in [(format!("a:{i}"), true), (format!("c:{i}"), false)] {
                w.run(&format!("SET {key} 1"));
                for c in some.iter_mut().filter(|_| followed).chain(&mut all) {
                    assert_eq!(c.read(), invalid(&key));
                }
            }
        }
        // Not of one's own changes, without a loop.
        all[0].run("SET own 1");
        for c in &mut all[1..] {
            assert_eq!(c.read(), invalid("own"));
        }
        assert_eq!(all[0].run("PING").as_text(), "PONG");
        assert_eq!(
            some[0].run("CLIENT TRACKING on BCAST PREFIX a:1"),
            error(
                "ERR Prefix 'a:1' overlaps with an existing prefix 'a:'. Prefixes for a single client must not overlap."
            )
        );
        drop(some);
        drop(all);
        eventually("no prefixes", LIMIT, || field(&mut w, "tracking_total_prefixes") == 0);
    });
}

#[test]
fn modes_decide_what_is_tracked() {
    each_cores(|server| {
        let mut w = server.wire();
        let mut c = server.wire3();
        assert_eq!(c.run("CLIENT TRACKING on OPTIN"), ok());
        c.run("GET a");
        c.run("CLIENT CACHING yes");
        c.run("GET b");
        c.run("GET c");
        w.run("MSET a 1 b 1 c 1");
        assert_eq!(c.read(), invalid("b"));
        c.run("CLIENT CACHING yes");
        for words in ["MULTI", "GET a", "GET c", "EXEC", "GET d"] {
            c.run(words);
        }
        w.run("MSET a 2 c 2 d 2");
        let mut got = [c.read(), c.read()];
        got.sort();
        assert_eq!(got, [invalid("a"), invalid("c")]);
        assert_eq!(c.run("CLIENT TRACKING off"), ok());
        assert_eq!(c.run("CLIENT TRACKING on OPTOUT NOLOOP"), ok());
        c.run("CLIENT CACHING no");
        c.run("GET a");
        c.run("GET b");
        c.run("GET own");
        c.run("SET own 1");
        w.run("MSET a 3 b 3 own 3");
        assert_eq!(c.read(), invalid("b"));
        assert_eq!(c.run("PING").as_text(), "PONG");
        let info = c.run("CLIENT TRACKINGINFO");
        assert_eq!(*info.field("flags"), Value::Set(vec![bulk("on"), bulk("optout"), bulk("noloop")]));
        assert_eq!(c.run("RESET").as_text(), "RESET");
        assert_eq!(c.run("CLIENT GETREDIR"), int(-1));
    });
}

/// Keys come in any order and in as many messages as there are cores.
fn heard(c: &mut Wire, n: usize) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    while keys.len() < n {
        match c.read() {
            Value::Push(message) if message[0] == bulk("invalidate") => {
                keys.extend(message[1].items().iter().map(Value::as_text));
            }
            other => panic!("{other:?} among the messages"),
        }
    }
    keys.sort();
    keys
}

fn exec(c: &mut Wire, lines: &[&str]) {
    assert_eq!(c.run("MULTI"), ok());
    for line in lines {
        assert_eq!(c.run(line).as_text(), "QUEUED");
    }
    assert_eq!(c.run("EXEC").items().len(), lines.len());
}

/// Every mode, with the reads inside a transaction, and the writes too.
#[test]
fn transactions_are_tracked_in_every_mode() {
    const READS: [&str; 4] = ["GET p1", "GET p2", "GET q1", "GET q2"];
    const WRITES: [&str; 4] = ["SET p1 x", "SET p2 x", "SET q1 x", "SET q2 x"];
    const KEYS: [&str; 4] = ["p1", "p2", "q1", "q2"];
    each_cores(|server| {
        let mut w = server.wire();
        let quiet = |c: &mut Wire| assert_eq!(c.run("PING").as_text(), "PONG");
        let mut c = server.wire3();
        // By default what was read.
        assert_eq!(c.run("CLIENT TRACKING on"), ok());
        exec(&mut c, &READS);
        exec(&mut w, &WRITES);
        assert_eq!(heard(&mut c, 4), KEYS);
        exec(&mut w, &WRITES);
        quiet(&mut c);
        // OPTIN: the transaction that CACHING stands before, as a whole.
        for on in ["off", "on OPTIN"] {
            assert_eq!(c.run(&format!("CLIENT TRACKING {on}")), ok());
        }
        exec(&mut c, &READS);
        exec(&mut w, &WRITES);
        quiet(&mut c);
        assert_eq!(c.run("CLIENT CACHING yes"), ok());
        exec(&mut c, &READS);
        exec(&mut c, &["GET other"]);
        w.run("SET other x");
        exec(&mut w, &WRITES);
        assert_eq!(heard(&mut c, 4), KEYS);
        // OPTOUT: all but that transaction.
        for on in ["off", "on OPTOUT"] {
            assert_eq!(c.run(&format!("CLIENT TRACKING {on}")), ok());
        }
        assert_eq!(c.run("CLIENT CACHING no"), ok());
        exec(&mut c, &READS);
        exec(&mut c, &["GET other"]);
        exec(&mut w, &WRITES);
        w.run("SET other y");
        assert_eq!(heard(&mut c, 1), ["other"]);
        // BCAST: what anyone writes.
        for on in ["off", "on BCAST PREFIX p"] {
            assert_eq!(c.run(&format!("CLIENT TRACKING {on}")), ok());
        }
        exec(&mut w, &WRITES);
        assert_eq!(heard(&mut c, 2), ["p1", "p2"]);
        // One's own writes come behind EXEC's reply, or not at all.
        exec(&mut c, &WRITES);
        assert_eq!(heard(&mut c, 2), ["p1", "p2"]);
        for on in ["off", "on NOLOOP"] {
            assert_eq!(c.run(&format!("CLIENT TRACKING {on}")), ok());
        }
        exec(&mut c, &READS);
        exec(&mut c, &WRITES);
        quiet(&mut c);
    });
}

/// What a transaction has read after it wrote it stays known; what it has
/// written after it read it does not, or not for long.
#[test]
fn a_transaction_knows_its_own_writes() {
    each_cores(|server| {
        let mut w = server.wire();
        for (i, mut c) in trackers(server, 8, "").into_iter().enumerate() {
            // On one core, and perhaps on two.
            for keys in [format!("{{x{i}}}a {{x{i}}}b"), format!("a{i} b{i}")] {
                let (a, b) = keys.split_once(' ').expect("two");
                let [set, get] = [format!("MSET {a} 1 {b} 1"), format!("GET {a}")];
                exec(&mut c, &[&set, &get]);
                assert_eq!(c.run("PING").as_text(), "PONG");
                w.run(&set);
                assert_eq!(c.read(), invalid(a));
                exec(&mut c, &[&get, &set]);
                assert_eq!(c.read(), invalid(a));
                w.run(&set);
                assert_eq!(c.run("PING").as_text(), "PONG");
                // Read again after the change: the message tells of the first.
                exec(&mut c, &[&get, &set, &get]);
                assert_eq!(c.read(), invalid(a));
                w.run(&set);
                assert_eq!(c.read(), invalid(a));
                let script = "redis.call('mset', KEYS[1], 1, KEYS[2], 1) return redis.call('get', KEYS[1])";
                assert_eq!(c.cmd(&["EVAL", script, "2", a, b]), bulk("1"));
                assert_eq!(c.run("PING").as_text(), "PONG");
                // It has read the one, not the other.
                w.cmd(&["SET", b, "2"]);
                w.cmd(&["SET", a, "2"]);
                assert_eq!(c.read(), invalid(a));
            }
        }
    });
}

#[test]
fn transactions_are_told_of_where_they_are_redirected() {
    each_cores(|server| {
        for mode in ["", "BCAST", "OPTIN", "OPTOUT"] {
            let mut sink = server.wire();
            let id = sink.run("CLIENT ID").as_int();
            sink.run("SUBSCRIBE __redis__:invalidate");
            let (mut c, mut w) = (server.wire(), server.wire());
            assert_eq!(c.run(&format!("CLIENT TRACKING on REDIRECT {id} {mode}")), ok());
            if mode == "OPTIN" {
                c.run("CLIENT CACHING yes");
            }
            exec(&mut c, &["GET a", "GET b", "GET c"]);
            exec(&mut w, &["SET a 1", "SET b 1", "SET c 1"]);
            let mut keys = Vec::new();
            while keys.len() < 3 {
                let message = sink.read();
                assert_eq!(message.items()[..2], [bulk("message"), bulk("__redis__:invalidate")], "{mode}");
                keys.extend(message.items()[2].items().iter().map(Value::as_text));
            }
            keys.sort();
            assert_eq!(keys, ["a", "b", "c"], "{mode}");
        }
    });
}

#[test]
fn what_vanishes_by_itself_is_invalid_too() {
    each_cores(|server| {
        let mut w = server.wire();
        let mut c = server.wire3();
        c.run("CLIENT TRACKING on");
        w.run("SET brief 1 PX 2000");
        c.run("GET brief");
        assert_eq!(c.read(), invalid("brief"));
        for _ in 0..3 {
            w.run("SET a 1");
            c.run("GET a");
            w.run("FLUSHDB");
            assert_eq!(c.read(), Value::Push(vec![bulk("invalidate"), nil_of_resp3()]));
        }
        w.run("SET evicted 1");
        c.run("GET evicted");
        w.run("CONFIG SET maxmemory-policy allkeys-lru");
        w.run("CONFIG SET maxmemory 1");
        assert_eq!(c.read(), invalid("evicted"));
        w.run("CONFIG SET maxmemory 0");
        // The table forgets, and says so.
        for i in 0..20 {
            c.run(&format!("GET t{i}"));
        }
        w.run("CONFIG SET tracking-table-max-keys 5");
        for _ in 0..15 {
            assert!(matches!(c.read(), Value::Push(_)));
        }
        eventually("the table's size", LIMIT, || field(&mut w, "tracking_total_keys") == 5);
    });
}

/// A message to a connection that had said QUIT and was still open was lost, and
/// with it the news that nobody listens any more.
#[test]
fn a_redirection_breaks_with_quit() {
    each_cores(|server| {
        let mut w = server.wire();
        let mut c = server.wire3();
        for round in 0..50 {
            let mut sink = server.wire();
            let id = sink.run("CLIENT ID").as_int();
            assert_eq!(c.run(&format!("CLIENT TRACKING on REDIRECT {id}")), ok());
            c.run("GET a");
            assert_eq!(sink.run("QUIT"), ok());
            w.run(&format!("SET a {round}"));
            assert_eq!(c.read(), Value::Push(vec![bulk("tracking-redir-broken"), int(id)]));
            assert_eq!(c.run("CLIENT TRACKING off"), ok());
        }
    });
}

/// The core that runs a command may have nothing to evict for it: then another
/// one does, whose message must not come behind the reply.
#[test]
fn evictions_are_told_before_the_reply() {
    const MIB: i64 = 1 << 20;
    each_cores(|server| {
        let mut w = server.wire();
        w.run("CONFIG SET maxmemory-policy volatile-random");
        let base = field(&mut w, "used_memory");
        for (i, mut c) in trackers(server, 8, "").into_iter().enumerate() {
            eventually("the memory of the last round to be free", LIMIT, || {
                field(&mut w, "used_memory") < base + 2 * MIB
            });
            let used = field(&mut w, "used_memory") - field(&mut w, "mem_not_counted_for_evict");
            w.run(&format!("CONFIG SET maxmemory {}", used + 4 * MIB));
            for round in 0..4 {
                assert_eq!(c.run(&format!("SETEX v{i}:{round} 10000 x")), ok());
                assert_eq!(c.run(&format!("GET v{i}:{round}")), bulk("x"));
                assert_eq!(c.run("SETBIT big 64000000 0"), int(0));
                assert_eq!(c.run("GETBIT big 0"), invalid(&format!("v{i}:{round}")));
                assert_eq!(c.read(), int(0));
                // There is nothing left that may go; what is refused is told so.
                assert!(c.run("SET more x").as_error().starts_with("OOM"));
                w.run("DEL big");
                assert_eq!(c.read(), invalid("big"));
                eventually("commands to be let in again", LIMIT, || c.run("SET little x") == ok());
            }
            w.run("CONFIG SET maxmemory 0");
        }
    });
}

/// What was remembered of evicted keys became messages, which counted while they
/// were under way: keys went for those, twice as many as had to.
#[test]
fn evictions_are_not_followed_by_more_for_their_messages() {
    each_cores(|server| {
        let mut w = server.wire();
        w.run("CONFIG SET maxmemory-policy allkeys-random maxmemory-eviction-tenacity 100");
        let mut clients = trackers(server, 10, "");
        let (mut before, mut each) = (0, 0);
        for i in 0..300 {
            if i == 100 {
                before = field(&mut w, "used_memory");
            }
            let key = format!("{i}:{}", "k".repeat(1000));
            w.run(&format!("SET {key} x"));
            clients.iter_mut().for_each(|c| assert_eq!(c.run(&format!("GET {key}")), bulk("x")));
            if i == 199 {
                each = (field(&mut w, "used_memory") - before) / 100;
            }
        }
        assert!(each > 2000, "the key, and what is remembered of it: {each}");
        let counted = field(&mut w, "used_memory") - field(&mut w, "mem_not_counted_for_evict");
        assert_eq!(w.run(&format!("CONFIG SET maxmemory {}", counted - 40 * each)), ok());
        let evicted = field(&mut w, "evicted_keys");
        assert!((20..60).contains(&evicted), "{evicted} evicted for 40");
        assert_eq!(w.run("CONFIG SET maxmemory 0"), ok());
        w.run("CONFIG RESETSTAT");
        w.run("FLUSHALL");
    });
}

fn nil_of_resp3() -> Value {
    Value::Null
}

/// A message does not wait behind a command that waits for a key.
#[test]
fn a_blocked_client_hears_at_once() {
    each_cores(|server| {
        let mut w = server.wire();
        let mut c = server.wire3();
        c.run("CLIENT TRACKING on");
        for i in 0..8 {
            c.run(&format!("GET k{i}"));
        }
        c.send_words("BLPOP nothing 0");
        eventually("a blocked client", LIMIT, || field(&mut w, "blocked_clients") == 1);
        for i in 0..8 {
            w.run(&format!("SET k{i} 1"));
            assert_eq!(c.read(), invalid(&format!("k{i}")));
        }
        w.run("RPUSH nothing x");
        assert_eq!(c.read(), bulks("nothing x"));
    });
}

/// A script makes its client hear of the keys that it reads, on one core or on
/// several, not of those that it declares (as in 7.2).
#[test]
fn scripts_are_tracked_by_the_keys_they_read() {
    each_cores(|server| {
        let mut w = server.wire();
        let library = "#!lua name=lib\nredis.register_function{function_name='reads', \
            callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}";
        assert_eq!(w.cmd(&["FUNCTION", "LOAD", library]), bulk("lib"));
        let first = "return redis.call('get', KEYS[1])";
        for keys in [["{x}a", "{x}b"], ["a", "b"], ["k1", "k2"], ["k3", "k4"]] {
            let [a, b] = keys;
            for mut c in trackers(server, 4, "") {
                w.cmd(&["MSET", a, "1", b, "1"]);
                for call in [["EVAL", first], ["EVAL_RO", first], ["FCALL", "reads"], ["FCALL_RO", "reads"]] {
                    assert_eq!(c.cmd(&[call[0], call[1], "2", a, b]), bulk("1"), "{call:?}");
                    assert_eq!(w.cmd(&["SET", b, "1"]), ok());
                    assert_eq!(w.cmd(&["SET", a, "1"]), ok());
                    assert_eq!(c.read(), invalid(a), "{call:?}");
                    assert_eq!(c.run("PING").as_text(), "PONG", "{call:?}");
                }
                // Nothing is read: nothing is remembered.
                let writes = "return redis.call('set', KEYS[1], '1')";
                for script in ["return 1", writes] {
                    assert!(!c.cmd(&["EVAL", script, "2", a, b]).is_error());
                    w.cmd(&["MSET", a, "1", b, "1"]);
                }
                // Read, then written by the script itself.
                let both = "local v = redis.call('get', KEYS[1]) redis.call('set', KEYS[1], 2) return v";
                c.send_cmd(&["EVAL", both, "1", a]);
                let mut seen = [c.read(), c.read()];
                seen.sort_by_key(|v| matches!(v, Value::Push(_)));
                assert_eq!(seen, [bulk("1"), invalid(a)]);
                w.cmd(&["SET", a, "1"]);
                assert_eq!(c.run("PING").as_text(), "PONG");
                // What other clients do afterwards tells nobody else of these.
                w.run("MULTI");
                w.cmd(&["GET", a]);
                w.cmd(&["GET", "elsewhere"]);
                w.run("EXEC");
                w.run("SET elsewhere 1");
                assert_eq!(c.run("PING").as_text(), "PONG");
            }
        }
    });
}

/// A client's own changes are told behind the reply to what made them, before the
/// next one: that of a command over several cores, or of FLUSHALL, came first.
#[test]
fn own_changes_are_told_before_the_next_reply() {
    let words = |line: &str| encode(&line.split('|').collect::<Vec<_>>());
    let commands = [
        "MSET a 1 b 2 c 3 d 4",
        "DEL a b c d",
        "FLUSHALL",
        "FLUSHDB",
        "RENAME a b",
        "SUNIONSTORE a s t",
        "EVAL|for i, k in ipairs(KEYS) do redis.call('set', k, i) end|4|a|b|c|d",
        "MULTI;SET a 5;INCR b;APPEND c x;DEL d;EXEC",
        "MULTI;SET a 5;FLUSHALL;EXEC",
    ];
    each_cores(|server| {
        let mut w = server.wire();
        let mut c = trackers(server, 1, "").remove(0);
        for round in 0..20 {
            for line in commands {
                w.run("DEL a b c d s t");
                w.run("MSET a 1 b 2 c 3 d 4");
                w.run("SADD s 1");
                w.run("SADD t 1");
                // What is told of these comes before the reply.
                let mut told = 0;
                c.send_words("MGET a b c d");
                while !matches!(c.read(), Value::Array(_)) {}
                let parts: Vec<&str> = line.split(';').collect();
                let mut bytes = Vec::new();
                for part in &parts {
                    let separated = if part.contains('|') { words(part) } else { words(&part.replace(' ', "|")) };
                    bytes.extend(separated);
                }
                bytes.extend(words("PING"));
                c.send(bytes);
                for _ in &parts {
                    assert!(!matches!(c.read(), Value::Push(_)), "{line}, round {round}");
                }
                loop {
                    match c.read() {
                        Value::Push(_) => told += 1,
                        other => break assert_eq!(other.as_text(), "PONG"),
                    }
                }
                let want = match line.split([' ', '|', ';']).next() {
                    Some("FLUSHALL" | "FLUSHDB" | "SUNIONSTORE") => 1,
                    Some("RENAME") => 2,
                    // What was told of single keys before may be left out.
                    _ if line.contains("FLUSHALL") => told.clamp(1, 2),
                    _ => 4,
                };
                assert_eq!(told, want, "{line}, round {round}");
            }
        }
    });
}
