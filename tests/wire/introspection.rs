//! INFO, COMMAND, CONFIG GET, SLOWLOG, LATENCY, OBJECT, MEMORY and DEBUG, as
//! far as clients and tools read them.

use super::support::{Server, Value, Wire, bulk, each_cores, encode, eventually, int, ok, plain, simple};
use std::collections::HashMap;
use std::time::{Duration, Instant};

fn info(c: &mut Wire, sections: &str) -> HashMap<String, String> {
    let text = c.run(&format!("INFO {sections}")).as_text();
    text.split("\r\n")
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once(':').expect("name:value");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn info_has_its_sections_and_fields() {
    each_cores(|server| {
        let mut c = server.wire();
        let all = c.run("INFO").as_text();
        for section in [
            "Server",
            "Clients",
            "Memory",
            "Persistence",
            "Stats",
            "Replication",
            "CPU",
            "Modules",
            "Errorstats",
            "Cluster",
            "Keyspace",
        ] {
            assert!(all.contains(&format!("# {section}\r\n")), "no section {section}");
        }
        let fields = info(&mut c, "everything");
        for name in [
            "redis_version",
            "redis_mode",
            "os",
            "arch_bits",
            "process_id",
            "run_id",
            "tcp_port",
            "uptime_in_seconds",
            "hz",
            "config_file",
            "connected_clients",
            "maxclients",
            "blocked_clients",
            "used_memory",
            "used_memory_human",
            "used_memory_rss",
            "used_memory_peak",
            "maxmemory",
            "maxmemory_policy",
            "mem_fragmentation_ratio",
            "loading",
            "rdb_bgsave_in_progress",
            "aof_enabled",
            "total_connections_received",
            "total_commands_processed",
            "instantaneous_ops_per_sec",
            "total_net_input_bytes",
            "rejected_connections",
            "expired_keys",
            "evicted_keys",
            "keyspace_hits",
            "keyspace_misses",
            "role",
            "connected_slaves",
            "master_replid",
            "master_repl_offset",
            "used_cpu_sys",
            "used_cpu_user",
            "cluster_enabled",
        ] {
            assert!(fields.contains_key(name), "no field {name}");
        }
        assert_eq!(fields["process_id"], server.pid().to_string());
        assert_eq!(fields["tcp_port"], server.port.to_string());
        assert_eq!(fields["run_id"].len(), 40);
        assert_eq!(fields["role"], "master");
        let two = c.run("INFO server clients").as_text();
        assert!(two.contains("# Server") && two.contains("# Clients"));
        assert!(!two.contains("# Memory"));
        assert_eq!(c.run("INFO nosuch"), bulk(""));
        let mut c3 = server.wire3();
        assert!(matches!(c3.run("INFO"), Value::Verbatim(kind, _) if kind == "txt"));
    });
}

/// Each field that Redis 7.2 documents is there when it has a meaning;
/// `data/info_fields.tsv` says when that is.
#[test]
fn info_has_every_field_of_redis() {
    if plain() {
        return;
    }
    let rows: Vec<Vec<&str>> =
        include_str!("../data/info_fields.tsv").lines().skip(1).map(|l| l.split('\t').collect()).collect();
    let needed = |when: &str| -> Vec<&str> {
        rows.iter().filter(|r| r[2] == when).map(|r| r[1]).filter(|name| !name.contains('%')).collect()
    };
    assert!(
        rows.iter().all(|r| r.len() == 4 && (r[2] != "never" || !r[3].is_empty())),
        "a reason for each that never is"
    );
    let missing = |c: &mut Wire, names: &[&'static str]| -> Vec<&str> {
        let have = info(c, "everything");
        names.iter().filter(|name| !have.contains_key(**name)).copied().collect()
    };
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET min-replicas-to-write 1"), ok());
        assert_eq!(missing(&mut c, &needed("min-replicas")), [""; 0]);
        assert_eq!(c.run("CONFIG SET min-replicas-to-write 0 appendonly yes"), ok());
        assert_eq!(c.run("SET key v"), ok());
        assert!(info(&mut c, "keyspace").contains_key("db0"));
        eventually("the file is written", Duration::from_secs(30), || missing(&mut c, &needed("always")).is_empty());
        let replica = Server::stock(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
        eventually("a replica", Duration::from_secs(60), || info(&mut c, "replication").contains_key("slave0"));
        drop(replica);
        // A primary that is not there.
        let ours = Server::start(&["--cores", "2"]);
        let mut r = ours.wire();
        assert_eq!(r.run("REPLICAOF 127.0.0.1 1"), ok());
        let both = [needed("replica"), needed("lost")].concat();
        eventually("all fields of a replica", Duration::from_secs(30), || missing(&mut r, &both).is_empty());
    });
}

#[test]
fn info_counts_over_all_cores() {
    each_cores(|server| {
        let mut wires: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        wires[0].run("CONFIG RESETSTAT");
        for (i, c) in wires.iter_mut().enumerate() {
            c.run(&format!("SET key{i} v"));
            c.run(&format!("GET key{i}"));
            c.run(&format!("GET absent{i}"));
            c.run("INCR key0");
        }
        let fields = info(&mut wires[0], "everything");
        assert_eq!(fields["connected_clients"], "8");
        assert_eq!(fields["keyspace_hits"], "8");
        assert_eq!(fields["keyspace_misses"], "8");
        assert_eq!(fields["db0"], "keys=8,expires=0,avg_ttl=0");
        assert!(fields["cmdstat_set"].starts_with("calls=8,usec="), "{}", fields["cmdstat_set"]);
        assert!(fields["cmdstat_get"].starts_with("calls=16,usec="));
        assert!(fields["cmdstat_incr"].contains("failed_calls=8"));
        assert_eq!(fields["errorstat_ERR"], "count=8");
        assert_eq!(fields["total_error_replies"], "8");
        wires[0].run("EXPIRE key1 1000");
        let keyspace = &info(&mut wires[0], "keyspace")["db0"];
        assert!(keyspace.starts_with("keys=8,expires=1,avg_ttl="), "{keyspace}");
    });
}

#[test]
fn command_describes_every_command() {
    each_cores(|server| {
        let mut c = server.wire();
        let count = c.run("COMMAND COUNT").as_int();
        let all = c.run("COMMAND");
        assert_eq!(all.items().len() as i64, count);
        assert!(c.run("COMMAND INFO").items().len() as i64 >= count);
        for row in all.items() {
            assert_eq!(row.items().len(), 10);
        }
        let docs = c.run("COMMAND DOCS get");
        let get = docs.field("get");
        // The words are our own.
        assert!(!get.field("summary").as_bytes().is_empty());
        assert_eq!(get.field("since"), &bulk("1.0.0"));
        assert_eq!(get.field("group"), &bulk("string"));
        let list = c.run("COMMAND LIST");
        assert!(list.items().len() as i64 >= count);
        let readers = c.run("COMMAND LIST FILTERBY ACLCAT bitmap");
        assert!(readers.items().contains(&bulk("bitcount")));
    });
}

#[test]
fn config_get_takes_patterns_and_several_names() {
    each_cores(|server| {
        let mut c = server.wire();
        let one = c.run("CONFIG GET maxmemory");
        assert_eq!(one.items().len(), 2);
        let many = c.run("CONFIG GET maxmemory* timeout");
        assert_eq!(many.field("timeout"), &bulk("0"));
        assert!(many.items().len() >= 8);
        let all = c.run("CONFIG GET *");
        assert!(all.items().len() / 2 > 150, "{} directives", all.items().len() / 2);
        assert_eq!(c.run("CONFIG SET timeout 100 maxmemory-samples 7"), ok());
        let set = c.run("CONFIG GET timeout maxmemory-samples");
        assert_eq!(set.field("timeout"), &bulk("100"));
        assert_eq!(set.field("maxmemory-samples"), &bulk("7"));
        // All or nothing.
        assert!(c.run("CONFIG SET timeout 50 maxmemory-samples x").is_error());
        assert_eq!(c.run("CONFIG GET timeout").field("timeout"), &bulk("100"));
    });
}

#[test]
fn slowlog_records_what_is_slow() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 10");
        c.run("CLIENT SETNAME me");
        c.run("SLOWLOG RESET");
        c.cmd(&["SET", "key", &"x".repeat(200)]);
        let many: Vec<String> = (0..40).map(|i| format!("arg{i}")).collect();
        c.cmd(&[vec!["DEL".to_owned()], many].concat());
        let log = c.run("SLOWLOG GET 10");
        let find = |name: &str| {
            log.items()
                .iter()
                .find(|entry| entry.items()[3].items()[0] == bulk(name))
                .unwrap_or_else(|| panic!("no entry for {name}"))
                .items()
        };
        let set = find("SET");
        assert_eq!(set.len(), 6);
        assert!(set[1].as_int() > 1_500_000_000);
        assert!(set[2].as_int() >= 0);
        let shown = set[3].items()[2].as_text();
        assert_eq!(shown, format!("{}... (72 more bytes)", "x".repeat(128)));
        assert_eq!(set[4], bulk(format!("127.0.0.1:{}", c.local_port())));
        assert_eq!(set[5], bulk("me"));
        let del = find("DEL")[3].items();
        assert_eq!(del.len(), 32);
        assert_eq!(del[31], bulk("... (10 more arguments)"));
        for _ in 0..20 {
            c.run("PING");
        }
        assert_eq!(c.run("SLOWLOG LEN"), int(10));
        assert_eq!(c.run("SLOWLOG GET 3").items().len(), 3);
        assert_eq!(c.run("SLOWLOG GET -1").items().len(), 10);
        c.run("CONFIG SET slowlog-log-slower-than 1000000");
        c.run("SLOWLOG RESET");
        assert_eq!(c.run("SLOWLOG LEN"), int(0));
    });
}

/// A slow command behind fast ones in a pipeline shared their reading of the
/// clock: it counted as one of them, and the slow log never saw it.
#[test]
fn slowlog_finds_a_slow_command_among_fast_ones() {
    each_cores(|server| {
        let mut c = server.wire();
        c.set_limit(Duration::from_secs(30));
        c.run("SET {t}small x");
        c.run("SETRANGE {t}large 50000000 x");
        let elements: Vec<String> = (0..2000).map(|i| i.to_string()).collect();
        for _ in 0..100 {
            c.cmd(&[vec!["RPUSH".to_owned(), "{t}list".to_owned()], elements.clone()].concat());
        }
        c.run("CONFIG SET slowlog-log-slower-than 1000");
        let fast = encode(&["GET", "{t}small"]).repeat(5);
        for slow in [&["GET", "{t}large"][..], &["LRANGE", "{t}list", "0", "-1"]] {
            c.run("SLOWLOG RESET");
            c.pipeline(&[&fast[..], &encode(slow), &fast].concat(), 11);
            let log = c.run("SLOWLOG GET 20");
            let found = log.items().iter().any(|entry| {
                let shown = entry.items()[3].items();
                shown.iter().map(Value::as_text).eq(slow.iter().map(|word| (*word).to_owned()))
            });
            assert!(found, "{slow:?}: {log:?}");
        }
    });
}

#[test]
fn latency_events_are_kept() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET latency-monitor-threshold 20");
        assert_eq!(c.run("DEBUG SLEEP 0.05"), ok());
        let latest = c.run("LATENCY LATEST");
        let event = latest.items()[0].items();
        assert_eq!(event[0], bulk("command"));
        assert!(event[2].as_int() >= 50 && event[3].as_int() >= 50);
        let history = c.run("LATENCY HISTORY command");
        assert!(history.items()[0].items()[1].as_int() >= 50);
        let histogram = c.run("LATENCY HISTOGRAM debug");
        assert!(matches!(histogram, Value::Array(_)));
        assert_eq!(c.run("LATENCY RESET"), int(1));
        assert_eq!(c.run("LATENCY LATEST").items().len(), 0);
    });
}

#[test]
fn object_and_memory() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SET a x");
        assert!(c.run("MEMORY USAGE a").as_int() > 0);
        assert!(c.run("MEMORY USAGE none").is_nil());
        c.cmd(&["SET", "b", &"x".repeat(10_000)]);
        assert!(c.run("MEMORY USAGE b SAMPLES 0").as_int() >= 10_000);
        assert!(c.run("MEMORY STATS").field("keys.count").as_int() >= 2);
        assert!(c.run("OBJECT FREQ a").is_error());
        std::thread::sleep(Duration::from_millis(2100));
        assert!(c.run("OBJECT IDLETIME a").as_int() >= 1);
        c.run("TOUCH a");
        assert_eq!(c.run("OBJECT IDLETIME a"), int(0));
        c.run("CONFIG SET maxmemory-policy allkeys-lfu");
        assert!(c.run("OBJECT FREQ a").as_int() >= 0);
        assert!(c.run("OBJECT IDLETIME a").is_error());
    });
}

#[test]
fn debug_basics() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SET a x");
        let object = c.run("DEBUG OBJECT a");
        let Value::Simple(text) = &object else {
            panic!("not a line: {object:?}");
        };
        assert!(text.contains("encoding:embstr") && text.contains("serializedlength:2"), "{text}");
        assert_eq!(c.run("DEBUG OBJECT none").as_error(), "ERR no such key");
        let start = Instant::now();
        assert_eq!(c.run("DEBUG SLEEP 0.1"), ok());
        assert!(start.elapsed() >= Duration::from_millis(100));
        assert_eq!(c.run("DEBUG SET-ACTIVE-EXPIRE 1"), ok());
        assert!(c.run("DEBUG JMAP").is_error());
        assert!(c.run("DEBUG HELP").items().len() > 10);
        let one = c.run("DEBUG DIGEST");
        c.run("SET b y");
        assert_ne!(c.run("DEBUG DIGEST"), one);
        c.run("DEL b");
        assert_eq!(c.run("DEBUG DIGEST"), one);
        assert_eq!(c.run("DEBUG POPULATE 1000 pop 10"), ok());
        assert_eq!(c.run("DBSIZE"), int(1001));
        assert_eq!(c.run("STRLEN pop:7"), int(10));
    });
}

#[test]
fn time_and_lolwut_and_role() {
    each_cores(|server| {
        let mut c = server.wire();
        let time = c.run("TIME");
        assert!(time.items()[0].as_text().parse::<u64>().expect("seconds") > 1_500_000_000);
        assert!(time.items()[1].as_text().parse::<u64>().expect("microseconds") < 1_000_000);
        assert!(c.run("LOLWUT").as_text().contains("ver"));
        assert_eq!(c.run("ROLE").items()[0], bulk("master"));
        assert_eq!(c.run("PING"), simple("PONG"));
    });
}

/// Neither a user's name nor its rules are shown; and what EXEC let go ahead is
/// logged after what EXEC ran.
#[test]
fn slowlog_hides_users_and_keeps_the_order() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET slowlog-log-slower-than 0");
        c.cmd(&["ACL", "SETUSER", "secret user", "+@all"]);
        let newest = |c: &mut Wire| format!("{:?}", c.run("SLOWLOG GET 1").items()[0].items()[3]);
        let shown = newest(&mut c);
        assert!(shown.contains("(redacted)") && !shown.contains("secret"), "{shown}");
        let mut w = server.wire();
        w.send_words("BLPOP l 0");
        eventually("it waits", Duration::from_secs(30), || {
            c.run("INFO CLIENTS").as_text().contains("blocked_clients:1\r\n")
        });
        for words in ["MULTI", "LPUSH l x", "SLOWLOG RESET"] {
            c.run(words);
        }
        c.run("EXEC");
        assert!(!w.read().is_error());
        let mut d = server.wire();
        eventually("BLPOP is logged", Duration::from_secs(30), || {
            let log = d.run("SLOWLOG GET -1");
            let names: Vec<String> = log.items().iter().map(|e| e.items()[3].items()[0].as_text()).collect();
            let at = |name: &str| names.iter().position(|n| n.eq_ignore_ascii_case(name));
            let (Some(blpop), Some(reset)) =
                (at("blpop"), names.iter().rposition(|n| n.eq_ignore_ascii_case("slowlog")))
            else {
                return false;
            };
            assert!(blpop < reset, "newest first: {names:?}");
            true
        });
    });
}

/// DEBUG CONFIG-REWRITE-FORCE-ALL writes every directive, and the file is read
/// again as it is.
#[test]
fn every_directive_can_be_written_and_read_again() {
    let dir = std::env::temp_dir().join(format!("coreslot-force-all-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("all.conf");
    std::fs::write(&file, "timeout 100\n").expect("a file");
    let path = file.to_str().expect("a path");
    let values = |port: Option<u16>| {
        let server = Server::start_with_file(path, &["--cores", "1"]);
        let mut c = server.wire();
        if port.is_none() {
            assert_eq!(c.run("DEBUG CONFIG-REWRITE-FORCE-ALL"), ok());
            let text = std::fs::read_to_string(&file).expect("the file");
            assert!(text.contains("timeout 100") && text.contains("\nhash-max-listpack-entries "), "{text}");
        }
        let own = ["port", "dir", "core-port-base", "logfile", "pidfile", "unixsocket"];
        let all = c.run("CONFIG GET *");
        let pairs = all.items().chunks(2).map(|p| (p[0].as_text(), p[1].as_text()));
        pairs.filter(|(name, _)| !own.contains(&&name[..])).collect::<Vec<_>>()
    };
    let before = values(None);
    // The first server's directory is gone.
    let text = std::fs::read_to_string(&file).expect("the file");
    let kept: Vec<&str> = text.lines().filter(|l| !l.starts_with("dir ")).collect();
    std::fs::write(&file, kept.join("\n") + "\n").expect("a file");
    assert_eq!(values(Some(0)), before);
    let _ = std::fs::remove_dir_all(&dir);
}
