//! `activedefrag`: memory that is lost in sparse pages comes back, and no content changes.

use super::support::{Server, Wire, each_cores, encode, eventually, ok};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

fn field(c: &mut Wire, name: &str) -> f64 {
    let text = c.run("INFO everything").as_text();
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}:")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name}")).trim().parse().expect("a number")
}

/// Keys of all types, of which nine out of ten go again.
fn leave_holes(c: &mut Wire) {
    const KEYS: usize = 60_000;
    let name = |i: usize| format!("key:{i}");
    let value = "v".repeat(200);
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(500) {
        let mut request = Vec::new();
        for &i in chunk {
            let key = name(i);
            request.extend(match i % 6 {
                0 => encode(&["SET", &key, &value]),
                1 => encode(&["HSET", &key, "f1", &value, "f2", &key]),
                2 => encode(&["RPUSH", &key, &value, "b", "c"]),
                3 => encode(&["ZADD", &key, "1", "a", "2", &value[..50]]),
                4 => encode(&["SADD", &key, "a", &key, &value]),
                _ => encode(&["XADD", &key, "1-1", "f", &value]),
            });
        }
        assert!(c.pipeline(&request, chunk.len()).iter().all(|r| !r.is_error()));
    }
    // And large ones, of which most elements go.
    for i in 0..20_000 {
        let (member, value) = (format!("member number {i} of many"), &value[..100]);
        let all = [
            encode(&["HSET", "hash", &member, value]),
            encode(&["SADD", "set", &member]),
            encode(&["ZADD", "zset", &i.to_string(), &member]),
            encode(&["RPUSH", "list", value]),
        ];
        assert!(c.pipeline(&all.concat(), 4).iter().all(|r| !r.is_error()));
    }
    for i in (0..20_000).filter(|i| i % 10 != 0) {
        let member = format!("member number {i} of many");
        let all =
            [encode(&["HDEL", "hash", &member]), encode(&["SREM", "set", &member]), encode(&["ZREM", "zset", &member])];
        assert!(c.pipeline(&all.concat(), 3).iter().all(|r| !r.is_error()));
    }
    for chunk in (0..KEYS).filter(|i| i % 10 != i / 10 % 10).collect::<Vec<_>>().chunks(500) {
        let request: Vec<u8> = chunk.iter().flat_map(|i| encode(&["DEL", &name(*i)])).collect();
        assert!(c.pipeline(&request, chunk.len()).iter().all(|r| !r.is_error()));
    }
}

#[test]
fn memory_lost_in_sparse_pages_comes_back() {
    each_cores(|server: &Server| {
        let mut c = server.wire();
        leave_holes(&mut c);
        let digest = c.run("DEBUG DIGEST");
        let (before, lost) = (field(&mut c, "allocator_frag_ratio"), field(&mut c, "allocator_frag_bytes"));
        assert_eq!(field(&mut c, "active_defrag_hits"), 0.0);
        assert_eq!(
            c.run("CONFIG SET active-defrag-ignore-bytes 1mb active-defrag-cycle-min 50 active-defrag-cycle-max 75"),
            ok()
        );
        assert_eq!(c.run("CONFIG SET activedefrag yes"), ok());
        // Some megabytes are the process's own, whatever it holds.
        eventually("much less is lost", LIMIT, || field(&mut c, "allocator_frag_bytes") < lost * 0.7);
        assert!(field(&mut c, "active_defrag_hits") > 1000.0 && field(&mut c, "active_defrag_key_hits") > 1000.0);
        eventually("it ends", LIMIT, || field(&mut c, "active_defrag_running") == 0.0);
        assert!(field(&mut c, "total_active_defrag_time") > 0.0);
        assert_eq!(c.run("DEBUG DIGEST"), digest);
        println!("{before} -> {}", field(&mut c, "allocator_frag_ratio"));
        assert_eq!(c.run("CONFIG SET activedefrag no"), ok());
        eventually("it is off", LIMIT, || field(&mut c, "current_active_defrag_time") == 0.0);
    });
}
