//! Values of directives as CONFIG SET gives them, and patterns of CONFIG GET.

use coreslot::config::{Caller, Config, directives};

use super::fuzz;
use super::rng::Rng;

const PIECES: &str = "yes no 0 1 -1 3 100 1gb 1kb 10% 101% -5% 9223372036854775807 9223372036854775808 \
    18446744073709551616 1e9 0x10 normal replica slave pubsub 0mb 60 3600 AKE KEA g$lshzxetdm noeviction allkeys-lru \
    volatile-lfu always everysec debug verbose 127.0.0.1 -::1 * \"\" ' \" \\x00 \\ ~ {title} 0-3,6 none nosave force now \
    default failover save TLSv1.2 TLSv1.3 local lolwut é";

fn value(rng: &mut Rng) -> String {
    let pieces: Vec<&str> = PIECES.split_ascii_whitespace().collect();
    let words: Vec<&str> = (0..rng.below(5)).map(|_| *rng.pick(&pieces)).collect();
    let text = words.join(if rng.one_in(4) { "" } else { " " });
    if rng.one_in(30) { text + &"x".repeat(rng.below(3000)) } else { text }
}

fn name(rng: &mut Rng) -> String {
    let all: Vec<&str> = directives().map(|d| d.name).collect();
    let name = (*rng.pick(&all)).to_owned();
    match rng.below(20) {
        0 => name.to_ascii_uppercase(),
        1 => value(rng),
        2 => name + "x",
        _ => name,
    }
}

/// A change is made as a whole or not at all, and what CONFIG GET then shows
/// can be set again and changes nothing.
#[test]
fn values() {
    let make =
        |rng: &mut Rng| -> Vec<(String, String)> { (0..1 + rng.below(3)).map(|_| (name(rng), value(rng))).collect() };
    fuzz(
        "values of directives",
        make,
        |pairs| format!("{pairs:?}"),
        |pairs| {
            let config = Config::from_text(b"").expect("the defaults");
            let before = config.get(&["*"]);
            let asked: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            let change = match config.prepare(&asked, Caller { is_local: true }) {
                Ok(change) => change,
                Err(text) => {
                    assert!(!text.is_empty() && config.get(&["*"]) == before);
                    return;
                }
            };
            let changed = config.commit(change);
            let is_row = |name: &str| directives().any(|d| d.name == name);
            for (name, new) in config.get(&["*"]).into_iter().filter(|(name, _)| is_row(name)) {
                let old = before.iter().find(|(n, _)| *n == name).map(|(_, v)| v);
                assert_eq!(old != Some(&new), changed.contains(&&name[..]), "{name}: {old:?}, {new:?}");
            }
            for (name, _) in &asked {
                for (name, shown) in config.get(&[name]) {
                    match config.prepare(&[(&name, &shown)], Caller { is_local: true }) {
                        Ok(again) => assert!(again.changed().is_empty(), "{name} {shown:?}: {:?}", again.changed()),
                        Err(e) => panic!("{name} {shown:?}: {e}"),
                    }
                }
            }
        },
    );
}

/// Patterns of CONFIG GET: everything that is found matches one of them.
#[test]
fn patterns() {
    let make = |rng: &mut Rng| -> Vec<String> {
        let bits = ["*", "?", "[a-z]", "[^m]", "[", "]", "\\", "max", "memory", "-", "a", "**", "é"];
        (0..rng.below(4)).map(|_| (0..rng.below(8)).map(|_| *rng.pick(&bits)).collect()).collect()
    };
    let config = Config::from_text(b"").expect("the defaults");
    let all = config.get(&["*"]);
    fuzz(
        "patterns of directives",
        make,
        |patterns| format!("{patterns:?}"),
        |patterns| {
            let asked: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let found = config.get(&asked);
            assert!(found.len() <= all.len() + asked.len());
            assert!(!asked.contains(&"*") || found.len() >= all.len());
        },
    );
}
