//! How exact deadlines are: never visible after it (every Redis promises that
//! to a reader of the key), and gone from DBSIZE within 10 ms (only ours).

use super::support::{Rng, each_cores, plain, wire::encode_into};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KEYS: usize = 3000;
const LAG_MAX_MS: u64 = 10;

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as u64
}

#[test]
fn dbsize_follows_deadlines_within_10_ms() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut c = server.wire();
        let mut rng = Rng::new(31);
        let start = unix_ms() + 300;
        let mut deadlines = Vec::new();
        let mut request = Vec::new();
        for i in 0..KEYS {
            let deadline = start + rng.below(700) as u64;
            deadlines.push(deadline);
            let (key, at) = (format!("key{i}"), deadline.to_string());
            encode_into(&mut request, &["SET", &key, "v", "PXAT", &at]);
        }
        c.pipeline(&request, KEYS);
        assert!(unix_ms() < start, "too slow a start");
        let (mut late, mut polls) = (0, 0);
        while unix_ms() < start + 720 {
            let before = unix_ms();
            let size = c.run("DBSIZE").as_int() as usize;
            let after = unix_ms();
            let bound = deadlines.iter().filter(|deadline| **deadline + LAG_MAX_MS >= before).count();
            let alive = deadlines.iter().filter(|deadline| **deadline > after).count();
            assert!(size >= alive, "{} keys left too early", alive - size);
            polls += 1;
            late += usize::from(size > bound);
            std::thread::sleep(Duration::from_millis(1));
        }
        // Another process may take the core away for a moment.
        assert!(late * 50 <= polls, "late in {late} of {polls} polls");
        assert_eq!(c.run("DBSIZE").as_int(), 0);
    });
}

#[test]
fn never_visible_after_the_deadline() {
    each_cores(|server| {
        let mut c = server.wire();
        for round in 0..30 {
            let deadline = unix_ms() + 5 + round % 7;
            let set = ["SET", "key", "v", "PXAT", &deadline.to_string()];
            c.cmd(&set);
            loop {
                let before = unix_ms();
                let value = c.run("GET key");
                let after = unix_ms();
                if before > deadline {
                    assert!(value.is_nil(), "visible {} ms late", before - deadline);
                    break;
                }
                if after < deadline {
                    assert!(!value.is_nil(), "gone {} ms early", deadline - after);
                }
            }
        }
    });
}

#[test]
fn hash_fields_are_never_visible_after_their_deadline() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut c = server.wire();
        for round in 0..30 {
            let deadline = unix_ms() + 5 + round % 7;
            assert!(!c.run("HSET key other v field v").is_error());
            assert!(!c.cmd(&["HPEXPIREAT", "key", &deadline.to_string(), "FIELDS", "1", "field"]).is_error());
            loop {
                let before = unix_ms();
                let size = c.run("HLEN key").as_int();
                let after = unix_ms();
                if before > deadline {
                    assert_eq!(size, 1, "visible {} ms late", before - deadline);
                    break;
                }
                if after < deadline {
                    assert_eq!(size, 2, "gone {} ms early", deadline - after);
                }
            }
        }
    });
}

/// Without anybody looking at them, a hash goes with its last field.
#[test]
fn hash_fields_end_by_themselves() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut c = server.wire();
        let deadline = (unix_ms() + 50).to_string();
        for i in 0..100 {
            let key = format!("key{i}");
            assert!(!c.cmd(&["HSET", &key, "f", "v"]).is_error());
            assert!(!c.cmd(&["HPEXPIREAT", &key, &deadline, "FIELDS", "1", "f"]).is_error());
        }
        let start = Instant::now();
        while c.run("DBSIZE").as_int() > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "hashes stay after their fields' deadlines");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Many deadlines at one moment stall nobody.
#[test]
fn a_mass_of_deadlines_stalls_nobody() {
    each_cores(|server| {
        let mut c = server.wire();
        const MASS: usize = 50_000;
        let deadline = (unix_ms() + 1500).to_string();
        let mut request = Vec::new();
        for i in 0..MASS {
            encode_into(&mut request, &["SET", &format!("key{i}"), "v", "PXAT", &deadline]);
        }
        c.pipeline(&request, MASS);
        let start = Instant::now();
        let mut slowest = Duration::ZERO;
        while start.elapsed() < Duration::from_millis(2000) {
            let asked = Instant::now();
            c.run("PING");
            slowest = slowest.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(slowest < Duration::from_millis(500), "a PING took {slowest:?}");
        if !plain() {
            assert_eq!(c.run("DBSIZE").as_int(), 0);
        }
    });
}

#[test]
fn the_latest_deadlines_have_an_average() {
    each_cores(|server| {
        let mut c = server.wire();
        for i in 0..40 {
            assert_eq!(c.run(&format!("SET far{i} v PXAT 9223372036854775807")).as_text(), "OK");
        }
        let info = c.run("INFO keyspace").as_text();
        assert!(info.contains("keys=40,expires=40,avg_ttl=9223"), "{info}");
    });
}
