//! Are the rows what redis-server 7.0.15 says of its commands?

use super::*;

/// Written from the output of COMMAND of that version.
const FACTS: &str = include_str!("../../../tests/data/commands70.tsv");

fn sorted(names: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = names.collect();
    all.sort();
    if all.is_empty() { "-".into() } else { all.join(",") }
}

fn key_spec(k: &KeySpec) -> String {
    let flags = keyflag::NAMES.iter().enumerate().filter(|(i, _)| k.flags & (1 << i) != 0);
    let begin = match k.begin {
        Begin::Index(i) => format!("index {i}"),
        Begin::Keyword(word, from) => format!("keyword {word} {from}"),
        Begin::Unknown => "unknown".into(),
    };
    let find = match k.find {
        Find::Range { last, step, limit } => format!("range {last} {step} {limit}"),
        Find::Count { count, first, step } => format!("keynum {count} {first} {step}"),
        Find::Unknown => "unknown".into(),
    };
    format!("{};{begin};{find}", sorted(flags.map(|(_, n)| n.to_string())))
}

/// A row in the form of the table.
fn fact(s: &Spec) -> String {
    let flags = flag::NAMES.iter().filter(|(bit, _)| s.is(*bit)).map(|(_, n)| n.to_string());
    let (first, last, step) = first_last_step(s);
    let categories = s.categories();
    let acl = acl::NAMES.iter().enumerate().filter(|(i, _)| categories & (1 << i) != 0).map(|(_, n)| n.to_string());
    let tips = if s.tips.is_empty() { "-".into() } else { s.tips.join(",") };
    let keys: Vec<String> = s.keys.iter().map(key_spec).collect();
    let keys = if keys.is_empty() { "-".into() } else { keys.join(" | ") };
    let (flags, acl) = (sorted(flags), sorted(acl));
    format!("{}\t{}\t{flags}\t{first}\t{last}\t{step}\t{acl}\t{tips}\t{keys}", s.name, s.arity)
}

#[test]
fn rows_agree_with_redis() {
    // WITHSCORE came with 7.2, blocking commands in scripts, and GETKEYS of commands alone.
    const LATER_OPTIONS: [&str; 11] = [
        "command|getkeys",
        "command|getkeysandflags",
        "zrank",
        "zrevrank",
        "blpop",
        "brpop",
        "blmove",
        "brpoplpush",
        "bzpopmin",
        "bzpopmax",
        "wait",
    ];
    let mut wrong = Vec::new();
    for e in known().filter(|e| !LATER_OPTIONS.contains(&e.spec.name)) {
        let head = format!("{}\t", e.spec.name);
        if let Some(want) = FACTS.lines().find(|l| l.starts_with(&head)) {
            let have = fact(e.spec);
            if have != want {
                wrong.push(format!("have {have}\nwant {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Commands of our own, or of later versions of Redis.
#[test]
fn other_rows_are_few() {
    let unknown: Vec<&str> = known()
        .map(|e| e.spec.name)
        .filter(|n| !FACTS.lines().any(|l| l.starts_with(&format!("{n}\t"))))
        .filter(|n| !n.starts_with("core"))
        .collect();
    const LATER: [&str; 17] = [
        "waitaof",
        "cluster|myshardid",
        "client|setinfo",
        "client|no-touch",
        "hexpire",
        "hpexpire",
        "hexpireat",
        "hpexpireat",
        "httl",
        "hpttl",
        "hexpiretime",
        "hpexpiretime",
        "hpersist",
        "hgetex",
        "hsetex",
        "hgetdel",
        "delifeq",
    ];
    assert!(unknown.iter().all(|n| LATER.contains(n)), "{unknown:?}");
}

#[test]
fn every_row_is_documented() {
    for e in known() {
        let s = e.spec;
        assert!(!s.summary.is_empty() && s.since.split('.').count() == 3, "{}", s.name);
    }
}

#[test]
fn keys_of_a_command_line() {
    let keys = |line: &str| {
        let line = format!("command getkeys {line}");
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        keys_of(&args).map(|(_, found)| {
            found.iter().map(|p| line.split(' ').nth(p.index + 2).unwrap().to_string()).collect::<Vec<_>>()
        })
    };
    assert_eq!(keys("get a").unwrap(), ["a"]);
    assert_eq!(keys("memory usage x").unwrap(), ["x"]);
    assert_eq!(keys("mset a 1 b 2").unwrap(), ["a", "b"]);
    assert_eq!(keys("nosuch a").unwrap_err().text(), b"ERR Invalid command specified");
    assert_eq!(keys("echo a").unwrap_err().text(), b"ERR The command has no key arguments");
    assert_eq!(keys("get a b").unwrap_err().text(), b"ERR Invalid number of arguments specified for command");
    assert_eq!(keys("zunion 9 a").unwrap_err().text(), b"ERR Invalid arguments specified for command");
}
