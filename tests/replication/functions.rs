//! Libraries of functions between our servers and stock ones, in both
//! directions, and after either has become the primary.

use super::servers::*;
use super::support::{Server, Wire, bulk, error, int, ok};

const LIBRARY: &str = "#!lua name=lib
redis.register_function('add', function(keys, args) return redis.call('incrby', keys[1], args[1]) end)
redis.register_function{function_name='look', callback=function(keys) return redis.call('get', keys[1]) end,
    flags={'no-writes'}}";
const OTHER: &str = "#!lua name=other
redis.register_function('take', function(keys, args) return redis.call('decrby', keys[1], args[1]) end)";

fn libraries(c: &mut Wire) -> Vec<String> {
    let list = c.run("FUNCTION LIST");
    let mut names: Vec<String> = list.items().iter().map(|l| l.field("library_name").as_text()).collect();
    names.sort();
    names
}

/// Of two servers the first leads, then the second, then the first again.
fn functions_follow(first: &Server, second: &Server) {
    let (mut a, mut b) = (first.wire(), second.wire());
    assert_eq!(a.cmd(&["FUNCTION", "LOAD", LIBRARY]), bulk("lib"));
    assert_eq!(a.run("FCALL add 1 n 5"), int(5));
    // By the copy, then by the stream.
    replicate(second, first.port);
    wait_for_link(second);
    assert_eq!(a.cmd(&["FUNCTION", "LOAD", OTHER]), bulk("other"));
    assert_eq!(a.run("FCALL take 1 n 1"), int(4));
    wait_until_equal(first, &[second]);
    assert_eq!(libraries(&mut b), ["lib", "other"]);
    assert_eq!(b.run("FCALL_RO look 1 n"), bulk("4"));
    assert!(b.run("FCALL add 1 n 1").as_error().starts_with("READONLY"));
    assert!(b.run("FUNCTION DELETE lib").as_error().starts_with("READONLY"));

    assert_eq!(b.run("REPLICAOF NO ONE"), ok());
    assert_eq!(b.run("FCALL add 1 n 6"), int(10));
    assert_eq!(b.run("FUNCTION DELETE other"), ok());
    let code = LIBRARY.replace("incrby', keys[1], args[1]", "incrby', keys[1], 100 + args[1]");
    assert_eq!(b.cmd(&["FUNCTION", "LOAD", "REPLACE", &code]), bulk("lib"));
    replicate(first, second.port);
    wait_for_link(first);
    wait_until_equal(second, &[first]);
    assert_eq!(libraries(&mut a), ["lib"]);
    assert_eq!(a.run("FCALL_RO look 1 n"), bulk("10"));

    assert_eq!(a.run("REPLICAOF NO ONE"), ok());
    assert_eq!(a.run("FCALL add 1 n 1"), int(111));
    assert_eq!(a.run("FCALL take 1 n 1"), error("ERR Function not found"));
    let dump = a.run("FUNCTION DUMP");
    assert_eq!(a.run("FUNCTION FLUSH"), ok());
    replicate(second, first.port);
    wait_for_link(second);
    wait_until_equal(first, &[second]);
    assert_eq!(libraries(&mut b), [""; 0]);
    assert_eq!(a.cmd(&[b"FUNCTION", &b"RESTORE"[..], dump.as_bytes()]), ok());
    wait_until_equal(first, &[second]);
    assert_eq!(libraries(&mut b), ["lib"]);
    assert_eq!(b.run("FCALL_RO look 1 n"), bulk("111"));
}

#[test]
fn functions_follow_from_us_to_stock_and_back() {
    for cores in [1, 4] {
        functions_follow(&ours(cores, &[]), &stock(&[]));
    }
}

#[test]
fn functions_follow_from_stock_to_us_and_back() {
    for cores in [1, 4] {
        functions_follow(&stock(&[]), &ours(cores, &[]));
    }
}
