//! Counters after single commands, which redis-server counts in its own way.

use super::support::*;

/// These counters of `INFO`.
fn counters(c: &mut Wire) -> [i64; 4] {
    let text = c.run("INFO everything").as_text();
    ["keyspace_hits", "keyspace_misses", "total_error_replies", "rdb_changes_since_last_save"].map(|name| {
        let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
        line.and_then(|l| l[name.len() + 1..].trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
    })
}

/// Hits, misses, errors and changes of one command.
#[track_caller]
fn counts(c: &mut Wire, command: &str, want: [i64; 4]) {
    let before = counters(c);
    c.run(command);
    let after = counters(c);
    let found: Vec<i64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(found, want, "{command}");
}

/// SPOP of a whole set, XREAD and XREADGROUP look twice. Commands without keys run on
/// every core: SWAPDB counted a change, and its error, for each.
#[test]
fn hits_errors_and_changes_are_counted_as_redis_does() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("SADD s a b c d");
        counts(&mut c, "SPOP s", [0, 0, 0, 1]);
        counts(&mut c, "SPOP s 1", [0, 0, 0, 1]);
        counts(&mut c, "SPOP s 5", [1, 0, 0, 2]);
        counts(&mut c, "SPOP s 5", [0, 0, 0, 0]);
        c.run("XADD x 1-1 a b");
        c.run("XADD y 1-1 a b");
        c.run("XGROUP CREATE x g 0");
        c.run("XGROUP CREATE y g 0");
        counts(&mut c, "XREADGROUP GROUP g c STREAMS x >", [2, 0, 0, 2]);
        counts(&mut c, "XREADGROUP GROUP g c STREAMS x >", [2, 0, 0, 0]);
        counts(&mut c, "XREADGROUP GROUP g c STREAMS x y 0 0", [4, 0, 0, 3]);
        counts(&mut c, "XREADGROUP GROUP nosuch c STREAMS x >", [1, 0, 1, 0]);
        counts(&mut c, "XREADGROUP GROUP g c STREAMS nosuch >", [0, 1, 1, 0]);
        counts(&mut c, "XREAD STREAMS x 0", [2, 0, 0, 0]);
        counts(&mut c, "SWAPDB 0 1", [0, 0, 0, 1]);
        counts(&mut c, "SWAPDB 1 1", [0, 0, 0, 1]);
        counts(&mut c, "SWAPDB 0 99", [0, 0, 1, 0]);
        counts(&mut c, "SWAPDB 0 1", [0, 0, 0, 1]);
        counts(&mut c, "FLUSHALL nonsense", [0, 0, 1, 0]);
        counts(&mut c, "FUNCTION LOAD nonsense", [0, 0, 1, 0]);
        counts(&mut c, "FLUSHALL", [0, 0, 0, 2]);
    });
}
