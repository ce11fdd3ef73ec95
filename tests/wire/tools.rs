//! Stock tools and clients: redis-benchmark, redis-cli, the `redis` crate.

use super::support::{Server, plain};
use redis::Commands;
use std::process::{Command, Stdio};

fn run(program: &str, server: &Server, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(["-p", &server.port.to_string()])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("run {program}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}{errors}");
    assert!(!text.contains("Error") && !errors.contains("Error"), "{text}{errors}");
    text
}

/// Every test of redis-benchmark's default list ran.
fn check_benchmark(output: &str) {
    for name in [
        "PING_INLINE",
        "PING_MBULK",
        "SET",
        "GET",
        "INCR",
        "LPUSH",
        "RPUSH",
        "LPOP",
        "RPOP",
        "SADD",
        "HSET",
        "SPOP",
        "ZADD",
        "ZPOPMIN",
        "LRANGE_100",
        "LRANGE_300",
        "LRANGE_500",
        "LRANGE_600",
        "MSET",
    ] {
        assert!(output.contains(&format!("\"{name}")), "{name} did not run: {output}");
    }
}

fn each_benchmark_server(body: impl Fn(&Server)) {
    for cores in if plain() { &["1"][..] } else { &["1", "2", "4"] } {
        body(&Server::start(&["--cores", cores]));
    }
}

#[test]
fn benchmark_default_list() {
    each_benchmark_server(|server| {
        check_benchmark(&run("redis-benchmark", server, &["--csv", "-n", "1000"]));
    });
}

#[test]
fn benchmark_pipelined_random_keys() {
    each_benchmark_server(|server| {
        let args = ["--csv", "-n", "5000", "-P", "16", "-r", "1000", "-d", "100"];
        check_benchmark(&run("redis-benchmark", server, &args));
    });
}

#[test]
fn benchmark_resp3_and_threads() {
    each_benchmark_server(|server| {
        let args = ["--csv", "-n", "2000", "-3", "-P", "4"];
        check_benchmark(&run("redis-benchmark", server, &args));
        let args = ["--csv", "-n", "2000", "--threads", "2", "-t", "set,get,mset", "-P", "16"];
        let output = run("redis-benchmark", server, &args);
        assert!(output.contains("\"MSET"), "{output}");
    });
}

fn endpoints_server() -> Option<Server> {
    if plain() {
        return None;
    }
    Some(Server::start_with(|port| {
        let base = (port + 1).to_string();
        ["--cores", "4", "--core-endpoints", "yes", "--core-port-base", &base].map(str::to_owned).to_vec()
    }))
}

#[test]
fn benchmark_as_a_cluster_of_cores() {
    let Some(server) = endpoints_server() else {
        return;
    };
    let args = ["--csv", "--cluster", "-n", "5000", "-P", "16", "-r", "1000", "-t", "set,get,incr"];
    let output = run("redis-benchmark", &server, &args);
    assert!(output.contains("\"INCR"), "{output}");
}

#[test]
fn cluster_client_against_core_endpoints() {
    let Some(server) = endpoints_server() else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let client = redis::cluster::ClusterClient::new(vec![url]).expect("a cluster client");
    let mut c = client.get_connection().expect("a connection");
    for i in 0..500 {
        let _: () = c.set(format!("key{i}"), i).expect("SET");
    }
    for i in 0..500 {
        let value: i64 = c.get(format!("key{i}")).expect("GET");
        assert_eq!(value, i);
    }
}

fn connect(server: &Server) -> redis::Connection {
    redis::Client::open(format!("redis://127.0.0.1:{}/", server.port))
        .expect("a client")
        .get_connection()
        .expect("a connection")
}

#[test]
fn crate_commands_and_pipelines() {
    super::support::each_cores(|server| {
        let mut c = connect(server);
        let _: () = c.set("key", "value").expect("SET");
        assert_eq!(c.get::<_, String>("key").expect("GET"), "value");
        assert_eq!(c.get::<_, Option<String>>("none").expect("GET"), None);
        let (a, b): (i64, i64) = redis::pipe().incr("n", 1).incr("n", 10).query(&mut c).expect("a pipeline");
        assert_eq!((a, b), (1, 11));
        let (set, got): (bool, Vec<Option<String>>) =
            redis::pipe().atomic().set_nx("once", 1).mget(&["once", "none"]).query(&mut c).expect("a transaction");
        assert!(set);
        assert_eq!(got, [Some("1".to_owned()), None]);
        for i in 0..100 {
            let _: () = c.set(format!("scan:{i}"), i).expect("SET");
        }
        let mut keys: Vec<String> = c.scan_match("scan:*").expect("SCAN").map(|key| key.expect("a key")).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 100);
    });
}

/// Optimistic locking: of many increments none is lost.
#[test]
fn crate_watched_transactions() {
    super::support::each_cores(|server| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut c = connect(server);
                    for _ in 0..50 {
                        let keys = ["left", "right"];
                        let _: (i64, i64) = redis::transaction(&mut c, &keys, |c, pipe| {
                            let left: Option<i64> = c.get("left")?;
                            let right: Option<i64> = c.get("right")?;
                            // They may differ here; then EXEC fails and this runs again.
                            pipe.set("left", left.unwrap_or(0) + 1)
                                .ignore()
                                .set("right", right.unwrap_or(0) + 1)
                                .ignore()
                                .get("left")
                                .get("right")
                                .query(c)
                        })
                        .expect("a transaction");
                    }
                });
            }
        });
        let mut c = connect(server);
        assert_eq!(c.get::<_, i64>("left").expect("GET"), 200);
        assert_eq!(c.get::<_, i64>("right").expect("GET"), 200);
    });
}

/// What a tool prints that does not end by itself, until it has said all of
/// this; then it is ended.
fn run_until(server: &Server, args: &[&str], words: &[&str]) {
    let mut child = Command::new("redis-cli")
        .args(["-p", &server.port.to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start redis-cli");
    let mut output = child.stdout.take().expect("its output");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut buffer, mut text) = ([0; 4096], String::new());
        while let Ok(n) = std::io::Read::read(&mut output, &mut buffer) {
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
            if n == 0 || tell.send(text.clone()).is_err() {
                break;
            }
        }
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut text = String::new();
    while !words.iter().all(|w| text.contains(w)) {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match told.recv_timeout(left) {
            Ok(more) => text = more,
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(words.iter().all(|w| text.contains(w)), "redis-cli {args:?} has not said {words:?}: {text}");
}

/// Every mode of redis-cli that watches a server or moves its data.
#[test]
fn cli_watches_and_moves_data() {
    super::support::each_cores(|server| {
        let mut c = server.wire();
        let mut lines = String::new();
        for i in 0..500 {
            lines.push_str(&format!("SET key:{i} {i}\r\n"));
        }
        let mut pipe = Command::new("redis-cli")
            .args(["-p", &server.port.to_string(), "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start redis-cli");
        std::io::Write::write_all(&mut pipe.stdin.take().expect("its input"), lines.as_bytes()).expect("write");
        let piped = pipe.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&piped.stdout).into_owned();
        assert!(said.contains("errors: 0, replies: 500"), "{said}");
        let scanned = run("redis-cli", server, &["--scan", "--pattern", "key:*"]);
        assert_eq!(scanned.lines().count(), 500);
        c.run("RPUSH list a b c");
        c.run("HSET hash f v");
        for mode in ["--bigkeys", "--memkeys"] {
            let text = run("redis-cli", server, &[mode]);
            assert!(text.contains("Sampled 502 keys") && text.contains("1 lists with"), "{text}");
        }
        c.run("CONFIG SET maxmemory-policy allkeys-lfu");
        for _ in 0..200 {
            c.run("GET key:7");
        }
        let hot = run("redis-cli", server, &["--hotkeys"]);
        assert!(hot.contains("hot key found with counter") && hot.contains("key:7"), "{hot}");
        run_until(server, &["--stat", "-i", "0.1"], &["keys", "502 "]);
        run_until(server, &["--latency-history", "-i", "0.3"], &[" 3\n"]);
        let latency = run("redis-cli", server, &["--latency", "--raw", "-i", "0.3"]);
        assert_eq!(latency.split_whitespace().count(), 4, "{latency}");
        run_until(server, &["--latency-dist", "-i", "0.3"], &["---------"]);
        let own = run("redis-cli", server, &["--intrinsic-latency", "1"]);
        assert!(own.contains("total runs"), "{own}");
        let file = server.dir().join("copy.rdb");
        let path = file.to_str().expect("a name");
        run("redis-cli", server, &["--rdb", path]);
        let checked = Command::new("redis-check-rdb").arg(path).output().expect("run redis-check-rdb");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(said.contains("RDB looks OK") && said.contains("502 keys read"), "{said}");
    });
}

#[test]
fn cli_modes() {
    super::support::each_cores(|server| {
        run("redis-cli", server, &["SET", "key", "value"]);
        assert_eq!(run("redis-cli", server, &["GET", "key"]), "value\n");
        assert_eq!(run("redis-cli", server, &["-3", "GET", "none"]), "\n");
        assert_eq!(run("redis-cli", server, &["--scan"]), "key\n");
        assert!(run("redis-cli", server, &["--bigkeys"]).contains("Sampled 1 keys"));
        assert!(run("redis-cli", server, &["--memkeys"]).contains("Sampled 1 keys"));
        assert!(run("redis-cli", server, &["INFO", "server"]).contains("redis_version:"));
        assert!(run("redis-cli", server, &["--json", "HGETALL", "none"]).starts_with('{'));
        assert_eq!(run("redis-cli", server, &["--csv", "MGET", "key", "none"]), "\"value\",NULL\n");
        let script = server.dir().join("script.lua");
        std::fs::write(&script, "return redis.call('set', KEYS[1], ARGV[1])").expect("write a script");
        let path = script.to_str().expect("a name");
        let functions = server.dir().join("functions.rdb");
        run("redis-cli", server, &["--functions-rdb", functions.to_str().expect("a name")]);
        assert!(functions.exists());
        if !super::support::plain() {
            // It does not look at the refusal, and goes on with the script.
            let said = run("redis-cli", server, &["--ldb", "--eval", path, "key", ",", "other"]);
            assert!(said.contains("ERR The Lua debugger is not supported"), "{said}");
            assert_eq!(run("redis-cli", server, &["GET", "key"]), "value\n");
        }
        assert_eq!(run("redis-cli", server, &["--eval", path, "key", ",", "other"]), "OK\n");
    });
}
