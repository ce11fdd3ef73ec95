//! The `redis` crate: pools, pipelines, transactions, scripts and functions,
//! publish and subscribe, streams; and its cluster client, each core of the
//! server being a node to it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{Client, Commands, Connection, ErrorKind, PushInfo, PushKind, Script, ServerErrorKind, Value, cmd, pipe};

use super::support::{Server, each_cores};
use super::with_endpoints;

const PATIENCE: Duration = Duration::from_secs(30);

/// Adds its argument to every key; the sum of all.
const ADD: &str = "local n = 0 for _, k in ipairs(KEYS) do n = n + redis.call('incrby', k, ARGV[1]) end return n";

const LIBRARY: &str = "#!lua name=mine
redis.register_function('add', function(keys, args)
    local n = 0
    for _, k in ipairs(keys) do n = n + redis.call('incrby', k, args[1]) end
    return n
end)
redis.register_function{function_name='look', callback=function(keys) return redis.call('mget', unpack(keys)) end,
    flags={'no-writes'}}";

fn client(server: &Server, options: &str) -> Client {
    Client::open(format!("redis://127.0.0.1:{}/{options}", server.port)).expect("a client")
}

fn connect(server: &Server) -> Connection {
    let c = client(server, "").get_connection().expect("a connection");
    c.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    c
}

fn kind(result: redis::RedisResult<Value>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// Threads share a few connections: transfers, each a transaction over two keys
/// that may lie on two cores.
#[test]
fn pool_of_connections() {
    each_cores(|server| {
        let pool = r2d2::Pool::builder().max_size(4).build(client(server, "")).expect("a pool");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for i in 0..50 {
                        let (from, to) = (format!("account:{thread}"), format!("account:{}", (thread + i) % 8));
                        let mut c = pool.get().expect("a connection");
                        let (_, _): (i64, i64) =
                            pipe().atomic().decr(&from, i).incr(&to, i).query(&mut *c).expect("a transaction");
                    }
                });
            }
        });
        let names: Vec<String> = (0..8).map(|i| format!("account:{i}")).collect();
        let accounts: Vec<i64> = connect(server).mget(&names).expect("MGET");
        assert_eq!((accounts.len(), accounts.iter().sum::<i64>()), (8, 0));
    });
}

#[test]
fn long_pipelines() {
    each_cores(|server| {
        let mut c = connect(server);
        let mut p = pipe();
        for i in 0..5000 {
            p.set(format!("k{i}"), i).ignore().get(format!("k{i}"));
        }
        let got: Vec<i64> = p.query(&mut c).expect("replies");
        assert_eq!(got, (0..5000).collect::<Vec<i64>>());
        // What fails is told, and what comes after it has run.
        let mut p = pipe();
        p.set("s", "text").incr("s", 1).set("after", 1);
        assert!(p.query::<Value>(&mut c).is_err());
        assert_eq!(c.get::<_, i64>("after").expect("GET"), 1);
    });
}

#[test]
fn scripts() {
    each_cores(|server| {
        let mut c = connect(server);
        let add = Script::new(ADD);
        // Unknown at first: loaded, and called again. Keys on one core and on
        // several.
        assert_eq!(add.key("{e}1").key("{e}2").arg(5).invoke::<i64>(&mut c).expect("a sum"), 10);
        assert_eq!(add.key("e1").key("e2").key("e3").arg(1).invoke::<i64>(&mut c).expect("a sum"), 3);
        let known: Vec<bool> =
            cmd("SCRIPT").arg("EXISTS").arg(add.get_hash()).arg("0".repeat(40)).query(&mut c).expect("SCRIPT EXISTS");
        assert_eq!(known, [true, false]);
        // Every connection, on whatever core, knows it.
        for _ in 0..8 {
            let mut other = connect(server);
            let sum: i64 =
                cmd("EVALSHA").arg(add.get_hash()).arg(1).arg("own").arg(1).query(&mut other).expect("a sum");
            assert!(sum > 0);
        }
        cmd("SCRIPT").arg("FLUSH").exec(&mut c).expect("SCRIPT FLUSH");
        let unknown = cmd("EVALSHA").arg(add.get_hash()).arg(0).query(&mut c);
        assert_eq!(kind(unknown), ErrorKind::Server(ServerErrorKind::NoScript));
        assert_eq!(add.key("e1").arg(7).invoke::<i64>(&mut c).expect("loaded anew"), 8);
        // In a transaction, and with keys that are not named.
        let unnamed = "return redis.call('exists', 'e1', 'e2', 'none')";
        let (sum, there): (i64, i64) = pipe()
            .atomic()
            .cmd("EVALSHA")
            .arg(add.get_hash())
            .arg(2)
            .arg("e2")
            .arg("e3")
            .arg(1)
            .cmd("EVAL")
            .arg(unnamed)
            .arg(0)
            .query(&mut c)
            .expect("a transaction");
        assert_eq!((sum, there), (4, 2));
        let nested: (i64, Option<String>, Vec<String>) =
            Script::new("return {1, false, {'a', ARGV[1]}}").arg("b").invoke(&mut c).expect("a reply");
        assert_eq!(nested, (1, None, vec!["a".to_owned(), "b".to_owned()]));
        let failed = Script::new("return redis.error_reply('MINE of my own')").invoke::<Value>(&mut c);
        assert_eq!(failed.expect_err("an error").code(), Some("MINE"));
    });
}

#[test]
fn functions() {
    each_cores(|server| {
        let mut c = connect(server);
        let load: String = cmd("FUNCTION").arg("LOAD").arg(LIBRARY).query(&mut c).expect("FUNCTION LOAD");
        assert_eq!(load, "mine");
        for i in 1..=8 {
            let mut other = connect(server);
            let sum: i64 =
                cmd("FCALL").arg("add").arg(3).arg(&["f1", "f2", "f3"]).arg(4).query(&mut other).expect("FCALL");
            assert_eq!(sum, 12 * i);
        }
        let seen: Vec<i64> = cmd("FCALL_RO").arg("look").arg(2).arg(&["f1", "f3"]).query(&mut c).expect("FCALL_RO");
        assert_eq!(seen, [32, 32]);
        let writes = cmd("FCALL_RO").arg("add").arg(1).arg("f1").arg(1).query::<Value>(&mut c).expect_err("an error");
        assert!(writes.to_string().contains("Can not execute a script with write flag"), "{writes}");
        let dump: Vec<u8> = cmd("FUNCTION").arg("DUMP").query(&mut c).expect("FUNCTION DUMP");
        cmd("FUNCTION").arg("DELETE").arg("mine").exec(&mut c).expect("FUNCTION DELETE");
        assert!(cmd("FCALL").arg("add").arg(0).arg(1).query::<Value>(&mut c).is_err());
        cmd("FUNCTION").arg("RESTORE").arg(dump).exec(&mut c).expect("FUNCTION RESTORE");
        assert_eq!(cmd("FCALL").arg("add").arg(1).arg("f1").arg(1).query::<i64>(&mut c).expect("FCALL"), 33);
    });
}

#[test]
fn publish_and_subscribe() {
    each_cores(|server| {
        let mut c = connect(server);
        // Several, on whatever cores they come to be.
        let mut all: Vec<Connection> = (0..6).map(|_| connect(server)).collect();
        let mut subscribers: Vec<_> = all.iter_mut().map(|c| c.as_pubsub()).collect();
        for s in &mut subscribers {
            s.subscribe("news").expect("SUBSCRIBE");
            s.psubscribe("sport.*").expect("PSUBSCRIBE");
        }
        for i in 0..100 {
            assert_eq!(c.publish::<_, _, usize>("news", i).expect("PUBLISH"), 6);
        }
        assert_eq!(c.publish::<_, _, usize>("sport.x", "goal").expect("PUBLISH"), 6);
        for s in &mut subscribers {
            for i in 0..100 {
                let m = s.get_message().expect("a message");
                assert_eq!((m.get_channel_name(), m.get_payload::<i64>().expect("a number")), ("news", i));
            }
            let m = s.get_message().expect("a message");
            assert!(m.from_pattern());
            assert_eq!(m.get_pattern::<String>().expect("a pattern"), "sport.*");
            assert_eq!(
                (m.get_channel_name(), m.get_payload::<String>().expect("text")),
                ("sport.x", "goal".to_owned())
            );
            s.unsubscribe("news").expect("UNSUBSCRIBE");
        }
        assert_eq!(c.publish::<_, _, usize>("news", "unheard").expect("PUBLISH"), 0);
    });
}

/// With RESP3 messages come between the replies of the same connection.
#[test]
fn pushed_messages() {
    each_cores(|server| {
        let mut c = client(server, "?protocol=resp3").get_connection().expect("a connection");
        c.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (sender, pushes) = std::sync::mpsc::channel::<PushInfo>();
        c.set_push_sender(sender);
        c.subscribe_resp3("own").expect("SUBSCRIBE");
        let text = |s: &str| Value::BulkString(s.as_bytes().to_vec());
        let mut heard = Vec::new();
        for i in 0..20 {
            assert_eq!(c.publish::<_, _, usize>("own", i).expect("PUBLISH"), 1);
            let pairs: HashMap<String, i64> = pipe()
                .hset("h", "field", i)
                .ignore()
                .hgetall("h")
                .query::<Vec<HashMap<String, i64>>>(&mut c)
                .expect("replies")
                .remove(0);
            assert_eq!(pairs["field"], i);
            heard.extend(pushes.try_iter());
        }
        let begun = Instant::now();
        while heard.len() < 21 && begun.elapsed() < PATIENCE {
            c.ping::<String>().expect("PING");
            heard.extend(pushes.try_iter());
        }
        assert_eq!(heard[0].kind, PushKind::Subscribe);
        let messages: Vec<_> = heard[1..].iter().map(|p| (p.kind.clone(), p.data[1].clone())).collect();
        assert_eq!(messages, (0..20).map(|i| (PushKind::Message, text(&i.to_string()))).collect::<Vec<_>>());
    });
}

#[test]
fn streams_and_blocking() {
    each_cores(|server| {
        let mut c = connect(server);
        std::thread::scope(|scope| {
            let popper = scope.spawn(|| {
                let mut c = connect(server);
                c.blpop::<_, Option<(String, String)>>(&["q1", "q2", "q3"], 25.0).expect("BLPOP")
            });
            let reader = scope.spawn(|| {
                let mut c = connect(server);
                let options = StreamReadOptions::default().block(25_000).count(10);
                let reply: Option<StreamReadReply> =
                    c.xread_options(&["x", "y"], &["0", "0"], &options).expect("XREAD");
                reply.expect("an entry").keys
            });
            let _: () = c.rpush("q3", "job").expect("RPUSH");
            let id: String = c.xadd("y", "*", &[("field", "value")]).expect("XADD");
            assert_eq!(popper.join().expect("it ends"), Some(("q3".to_owned(), "job".to_owned())));
            let keys = reader.join().expect("it ends");
            assert_eq!((keys.len(), keys[0].key.as_str(), &keys[0].ids[0].id), (1, "y", &id));
            assert_eq!(keys[0].ids[0].get::<String>("field"), Some("value".to_owned()));
        });
    });
}

#[test]
fn cluster() {
    with_endpoints(|port| {
        let client = redis::cluster::ClusterClient::new(vec![format!("redis://127.0.0.1:{port}/")]).expect("a client");
        let pool = r2d2::Pool::builder().max_size(3).build(client).expect("a pool");
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let pool = pool.clone();
                scope.spawn(move || {
                    let mut c = pool.get().expect("a connection");
                    for i in 0..200 {
                        let _: () = c.set(format!("k{thread}:{i}"), i).expect("SET");
                    }
                });
            }
        });
        let c = &mut *pool.get().expect("a connection");
        let mut p = redis::cluster::cluster_pipe();
        for i in 0..200 {
            p.incr(format!("k0:{i}"), 1);
        }
        assert_eq!(p.query::<Vec<i64>>(c).expect("a pipeline"), (1..=200).collect::<Vec<i64>>());
        // Scripts are loaded where their keys are; functions on every node, which
        // here is the same server.
        let add = Script::new(ADD);
        for i in 0..50 {
            let sum: i64 = add.key(format!("{{s{i}}}a")).key(format!("{{s{i}}}b")).arg(i).invoke(c).expect("a sum");
            assert_eq!(sum, 2 * i);
        }
        let _: Value = cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(LIBRARY).query(c).expect("FUNCTION LOAD");
        for i in 0..50 {
            let sum: i64 = cmd("FCALL").arg("add").arg(1).arg(format!("f{i}")).arg(i).query(c).expect("FCALL");
            assert_eq!(sum, i);
        }
        // (The crate's cluster client has no transactions.)
        let crossing = cmd("MGET").arg(&["k0:1", "k1:1", "k2:1"]).query::<Vec<i64>>(c).expect("the client splits it");
        assert_eq!(crossing, [2, 1, 1]);
    });
}
