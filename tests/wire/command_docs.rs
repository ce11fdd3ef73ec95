//! COMMAND DOCS against those of redis-server, and of valkey-server where
//! `CORESLOT_VALKEY` names one: what a command takes is an interface.

use std::collections::BTreeMap;
use std::path::Path;

use super::support::*;

/// What 7.2 calls differently than 7.0, or nothing but groups in which options
/// stand: names are all that may differ.
const RENAMED: &[&str] = &[
    "acl|cat",
    "bitcount",
    "bitfield",
    "bitfield_ro",
    "bitpos",
    "client|reply",
    "client|unblock",
    "cluster|addslotsrange",
    "cluster|delslotsrange",
    "cluster|meet",
    "cluster|reset",
    "cluster|setslot",
    "config|set",
    "flushall",
    "flushdb",
    "function|flush",
    "geoadd",
    "georadius_ro",
    "georadiusbymember_ro",
    "geosearch",
    "geosearchstore",
    "hello",
    "hmset",
    "hset",
    "lcs",
    "mset",
    "msetnx",
    "script|flush",
    "sort",
    "sort_ro",
    "xadd",
    "xclaim",
    "xgroup|create",
    "xgroup|createconsumer",
    "xgroup|delconsumer",
    "xgroup|destroy",
    "xgroup|setid",
    "xinfo|consumers",
    "xreadgroup",
    "xsetid",
    "zadd",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrangestore",
    "zrevrangebylex",
    "zrevrangebyscore",
];

/// What takes something else since 7.0.15, or is told more exactly, and why.
const LATER: &[(&str, &str)] = &[
    ("bitop", "7.2 tells the operations"),
    ("client|kill", "7.2 tells SKIPME's words, 7.4 has MAXAGE"),
    ("client|list", "7.2: ID stands before any number of ids, not before a block of them"),
    ("command|getkeys", "7.0 tells nothing of the command"),
    ("command|getkeysandflags", "7.0 tells nothing of the command"),
    ("config|get", "7.2: the pattern is not a block of one"),
    ("geohash", "7.2: members may be left out, as always"),
    ("geopos", "7.2: members may be left out, as always"),
    ("georadius", "7.2: STORE or STOREDIST, not both"),
    ("georadiusbymember", "7.2: STORE or STOREDIST, not both"),
    ("hscan", "7.4 has NOVALUES"),
    ("migrate", "7.2: AUTH or AUTH2 is not optional once more within what is"),
    ("module|loadex", "7.2: ARGS is not a block of one"),
    ("pfmerge", "7.2: sources may be left out, as always"),
    ("psubscribe", "7.2: the pattern is not a block of one"),
    ("set", "Valkey 8.1 has IFEQ"),
    ("shutdown", "7.2: ABORT goes with nothing else"),
    ("xinfo|stream", "7.2: FULL is a word of its own in the block"),
    ("zrank", "7.2 has WITHSCORE"),
    ("zrevrank", "7.2 has WITHSCORE"),
    ("zscan", "Valkey 8 has NOSCORES"),
];

/// Where Valkey 8.0 goes on from 7.2 in another way, or not as far.
const NOT_VALKEY: &[(&str, &str)] = &[
    ("bitcount", "Valkey 8 allows a start without an end"),
    ("client|kill", "Valkey 8 has `primary`; MAXAGE came with another version"),
    ("hscan", "Valkey 8 tells no version of NOVALUES"),
    ("set", "Valkey 8.1 has IFEQ"),
    ("zscan", "Valkey 8 has NOSCORES"),
];

/// All commands with what `COMMAND DOCS` says of each.
fn documented(server: &Server) -> BTreeMap<String, Value> {
    fn enter(all: &mut BTreeMap<String, Value>, list: &Value) {
        for pair in list.items().chunks(2) {
            if let Some(subs) = field(&pair[1], "subcommands") {
                enter(all, subs);
            }
            all.insert(pair[0].as_text(), pair[1].clone());
        }
    }
    let mut all = BTreeMap::new();
    enter(&mut all, &server.wire().run("COMMAND DOCS"));
    all
}

fn field<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    of.items().chunks(2).find(|pair| pair[0] == bulk(name)).map(|pair| &pair[1])
}

/// The tree of arguments as text, without the fields `but`.
fn tree(of: &Value, but: &[&str]) -> String {
    let Some(list) = field(of, "arguments") else { return String::new() };
    let told = list.items().iter().map(|argument| {
        let pairs = argument.items().chunks(2).filter(|pair| !but.contains(&pair[0].as_text().as_str()));
        let fields = pairs.map(|pair| match pair[0].as_text().as_str() {
            "arguments" => format!("arguments({})", tree(argument, but)),
            name => format!("{name} {:?}", pair[1]),
        });
        fields.collect::<Vec<_>>().join(" ")
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Commands of both whose arguments differ without the fields `but`.
fn differing(ours: &BTreeMap<String, Value>, theirs: &BTreeMap<String, Value>, but: &[&str]) -> Vec<String> {
    let differ = |name: &&String| theirs.get(*name).is_some_and(|t| tree(t, but) != tree(&ours[*name], but));
    ours.keys().filter(differ).cloned().collect()
}

#[test]
fn arguments_are_those_of_redis() {
    let ours = documented(&Server::start(&["--cores", "1"]));
    let stock = documented(&Server::stock(&[]));
    // 7.0 has no `display_text`.
    let mut known: Vec<&str> = RENAMED.iter().copied().chain(LATER.iter().map(|(name, _)| *name)).collect();
    known.sort_unstable();
    assert_eq!(differing(&ours, &stock, &["display_text"]), known);
    let mut later: Vec<&str> = LATER.iter().map(|(name, _)| *name).collect();
    later.sort_unstable();
    assert_eq!(differing(&ours, &stock, &["display_text", "name"]), later);
}

#[test]
fn facts_are_those_of_redis() {
    let ours = documented(&Server::start(&["--cores", "1"]));
    let stock = documented(&Server::stock(&[]));
    let versions = |of: &Value| -> Vec<String> {
        let changes = field(of, "history").map(|h| h.items().iter().map(|c| c.items()[0].as_text()).collect());
        changes.unwrap_or_default()
    };
    // Deprecated since 7.2; what had been better before was not called so.
    const LATER_OUT_OF_DATE: [&str; 4] = ["psetex", "quit", "setex", "setnx"];
    let mut wrong = Vec::new();
    for (name, doc) in ours.iter().filter(|(name, _)| stock.contains_key(*name)) {
        let there = &stock[name];
        for fact in ["since", "group"] {
            // 7.0 names a version of CLIENT PAUSE that was never released.
            if field(doc, fact) != field(there, fact) && name != "client|pause" {
                wrong.push(format!("{name}: {fact} {:?}", field(doc, fact)));
            }
        }
        let fields = ["doc_flags", "deprecated_since"];
        if !LATER_OUT_OF_DATE.contains(&name.as_str()) && fields.iter().any(|f| field(doc, f) != field(there, f)) {
            wrong.push(format!("{name}: {:?}", field(doc, "doc_flags")));
        }
        let (mut here, there) = (versions(doc), versions(there));
        here.retain(|v| v.as_str() < "7.2");
        if here != there {
            wrong.push(format!("{name}: history {here:?}, not {there:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arguments_are_those_of_valkey() {
    let Ok(program) = std::env::var("CORESLOT_VALKEY") else { return };
    let ours = documented(&Server::start(&["--cores", "1"]));
    let theirs = documented(&Server::other(Path::new(&program), &[]));
    let known: Vec<&str> = NOT_VALKEY.iter().map(|(name, _)| *name).collect();
    assert_eq!(differing(&ours, &theirs, &[]), known);
}

/// The shapes of both protocols, as 7.2 has them.
#[test]
fn documentation_has_the_shapes_of_both_protocols() {
    each_cores(|server| {
        let two = server.wire().run("COMMAND DOCS hset GETSET nosuch");
        assert_eq!(two.items().len(), 4);
        let hset = two.field("hset");
        assert_eq!(hset.field("history").items()[0].items()[0], bulk("4.0.0"));
        let data = &hset.field("arguments").items()[1];
        assert_eq!(data.items().len(), 8, "a group is not displayed");
        assert_eq!(data.field("flags"), &array([simple("multiple")]));
        assert_eq!(data.field("arguments").items()[0].field("display_text"), &bulk("field"));
        assert_eq!(two.field("getset").field("doc_flags"), &array([simple("deprecated")]));

        let three = server.wire3().run("COMMAND DOCS hset getset");
        assert!(matches!(&three, Value::Map(pairs) if pairs.len() == 2), "{three:?}");
        let getset = three.field("getset");
        assert_eq!(getset.field("doc_flags"), &Value::Set(vec![simple("deprecated")]));
        let (text, shown) = (|s: &str| bulk(s), |s: &str| (bulk("display_text"), bulk(s)));
        let key = Value::Map(vec![
            (text("name"), text("key")),
            (text("type"), text("key")),
            shown("key"),
            (text("key_spec_index"), int(0)),
        ]);
        assert_eq!(getset.field("arguments").items()[0], key);
        let hset = three.field("hset");
        assert!(matches!(hset.field("history"), Value::Set(_)) && matches!(hset.field("arguments"), Value::Array(_)));
    });
}
