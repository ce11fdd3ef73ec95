//! What is evicted is evicted from the file, too.

use super::harness::{Dir, commands, digest, stop};

/// Far more than buffers on the way to the file take beyond what they hold.
const ROOM: u64 = 8 << 20;

#[test]
fn a_restart_finds_what_eviction_left() {
    for (cores, lazy, word) in [("1", "no", "DEL"), ("4", "yes", "UNLINK")] {
        let dir = Dir::new("evicted");
        let server = dir.start(cores, &["--maxmemory-policy", "allkeys-lru", "--lazyfree-lazy-eviction", lazy]);
        let mut c = server.wire();
        let text = c.run("INFO memory").as_text();
        let used: u64 = text.lines().find_map(|l| l.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
        c.run(&format!("CONFIG SET maxmemory {}", used + ROOM));
        let value = "x".repeat(4000);
        for i in 0..5000 {
            assert_eq!(c.run(&format!("SET key:{i} {value}")).as_text(), "OK");
        }
        c.run("CONFIG SET maxmemory 0");
        let (left, before) = (c.run("DBSIZE").as_int(), digest(&server));
        assert!((100..4000).contains(&left), "{left} keys are left");
        stop(server);
        let evictions = commands(&dir.incr()).iter().filter(|l| l.starts_with(word)).count() as i64;
        assert_eq!(evictions, 5000 - left);
        let server = dir.start(cores, &[]);
        assert_eq!((server.wire().run("DBSIZE").as_int(), digest(&server)), (left, before));
        stop(server);
    }
}
