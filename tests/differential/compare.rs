//! When two replies agree: exactly, except for orders that Redis leaves open,
//! times that pass, and the documented differences.

use super::generate::Command;
use super::support::Value;

const TTL_SLACK_SECONDS: i64 = 10;
/// Of deliveries and of when consumers were seen: 7.2 renews that more often
/// than 7.0, and so does a restart.
const TIME_SLACK_MS: i64 = 600_000;

/// One documented difference.
struct Difference {
    command: String,
    stock: String,
    ours: String,
}

/// The rows of `tests/differences.tsv`.
pub struct Differences {
    rows: Vec<Difference>,
    /// Whether OBJECT ENCODING's replies are compared.
    pub encodings: bool,
    /// Whether XINFO's counts of what groups have read are compared: the stream
    /// of effects does not carry them.
    pub groups_read: bool,
}

impl Differences {
    pub fn read() -> Differences {
        let rows = include_str!("../differences.tsv").lines().skip(1);
        let parsed = rows.filter(|row| !row.is_empty()).map(|row| {
            let fields: Vec<&str> = row.split('\t').collect();
            let [command, stock, ours, reason] = fields[..] else {
                panic!("differences.tsv: not four fields: {row}");
            };
            assert!(!reason.is_empty(), "differences.tsv: no reason: {row}");
            Difference { command: command.to_owned(), stock: stock.to_owned(), ours: ours.to_owned() }
        });
        Differences { rows: parsed.collect(), encodings: true, groups_read: true }
    }

    fn allow(&self, command: &Command, ours: &Value, stock: &Value) -> bool {
        let words: Vec<String> = command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let line = words.join(" ").to_ascii_uppercase();
        let (ours, stock) = (format!("{ours:?}"), format!("{stock:?}"));
        self.rows.iter().any(|row| glob(&row.command, &line) && glob(&row.stock, &stock) && glob(&row.ours, &ours))
    }
}

/// `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| glob(tail, &rest[at..]))
        }),
    }
}

/// Follows MULTI, so that EXEC's parts are compared as their commands demand.
pub struct Comparer<'a> {
    differences: &'a Differences,
    queued: Vec<Command>,
}

impl Comparer<'_> {
    pub fn new(differences: &Differences) -> Comparer<'_> {
        Comparer { differences, queued: Vec::new() }
    }

    /// Whether the two replies to the next command agree.
    pub fn agree(&mut self, command: &Command, ours: &Value, stock: &Value) -> bool {
        if stock == &Value::Simple("QUEUED".into()) {
            self.queued.push(command.clone());
            return ours == stock;
        }
        let name = name(command);
        if name == "EXEC" {
            let queued = std::mem::take(&mut self.queued);
            if let (Value::Array(ours), Value::Array(stock)) = (ours, stock)
                && ours.len() == stock.len()
                && queued.len() == stock.len()
            {
                let mut parts = queued.iter().zip(ours.iter().zip(stock));
                return parts.all(|(command, (ours, stock))| self.agree_one(command, ours, stock));
            }
        }
        if matches!(name.as_str(), "MULTI" | "DISCARD" | "RESET") && !stock.is_error() {
            self.queued.clear();
        }
        self.agree_one(command, ours, stock)
    }

    fn agree_one(&self, command: &Command, ours: &Value, stock: &Value) -> bool {
        if !self.differences.encodings && asks_for_encoding(command) {
            return true;
        }
        if !self.differences.groups_read && name(command) == "XINFO" {
            let told = |value| without(value, &["inactive", "active-time", "entries-read", "lag"]);
            return all_near(&told(ours), &told(stock)) || self.differences.allow(command, ours, stock);
        }
        // SORT of a set, where what it sorts by is equal.
        let of_set = matches!(name(command).as_str(), "SORT" | "SORT_RO")
            && command.iter().any(|word| word.eq_ignore_ascii_case(b"by"));
        ours == stock
            || (of_set && ours.clone().sorted() == stock.clone().sorted())
            || (takes_some_of_equals(command) && as_many(ours, stock))
            || agree_loosely(&name(command), ours, stock)
            || self.differences.allow(command, ours, stock)
    }
}

/// SORT with LIMIT, without an order of a key that may be a set, where it
/// depends on how each server's table lies which elements these are; or by
/// texts, where Redis takes equal ones as its sorting happens to leave them.
fn takes_some_of_equals(command: &Command) -> bool {
    let place = |word: &[u8]| command.iter().position(|w| w.eq_ignore_ascii_case(word));
    let by = place(b"by").and_then(|at| command.get(at + 1));
    let unordered = by.is_some_and(|by| !by.contains(&b'*') || place(b"alpha").is_some());
    name(command).starts_with("SORT") && unordered && place(b"limit").is_some()
}

fn as_many(ours: &Value, stock: &Value) -> bool {
    matches!((ours, stock), (Value::Array(ours), Value::Array(stock)) if ours.len() == stock.len())
}

fn asks_for_encoding(command: &Command) -> bool {
    let named = |word: &Vec<u8>| word.to_ascii_uppercase().windows(8).any(|part| part == b"ENCODING");
    command.iter().take(2).any(named)
}

fn name(command: &Command) -> String {
    String::from_utf8_lossy(&command[0]).to_ascii_uppercase()
}

fn agree_loosely(name: &str, ours: &Value, stock: &Value) -> bool {
    match name {
        "KEYS" | "SMEMBERS" | "SPOP" | "HKEYS" | "HVALS" | "SUNION" | "SINTER" | "SDIFF" | "SRANDMEMBER" => {
            same_elements(ours, stock)
        }
        "HGETALL" | "FCALL" => ours.clone().sorted_pairs() == stock.clone().sorted_pairs(),
        "HRANDFIELD" => same_elements(ours, stock) || ours.clone().sorted_pairs() == stock.clone().sorted_pairs(),
        "FUNCTION" => deeply_sorted(ours) == deeply_sorted(stock),
        "CONFIG" => ours.clone().sorted_pairs() == stock.clone().sorted_pairs(),
        "SCAN" | "HSCAN" | "SSCAN" => match (ours, stock) {
            (Value::Array(ours), Value::Array(stock)) if ours.len() == 2 && stock.len() == 2 => {
                let pairs = |list: &[Value]| list[1].clone().sorted_pairs();
                ours[0] == stock[0] && (same_elements(&ours[1], &stock[1]) || pairs(ours) == pairs(stock))
            }
            _ => false,
        },
        "ZRANDMEMBER" | "ZSCAN" => {
            let parts = |value: &Value| match signless(value) {
                Value::Array(list) => Value::Array(list.into_iter().map(Value::sorted_pairs).collect()),
                other => other,
            };
            let (ours, stock) = (signless(ours), signless(stock));
            same_elements(&ours, &stock)
                || ours.clone().sorted_pairs() == stock.clone().sorted_pairs()
                || parts(&ours) == parts(&stock)
        }
        "ACL" => without_rules(ours) == without_rules(stock),
        "TTL" | "EXPIRETIME" => near(ours, stock, TTL_SLACK_SECONDS),
        "PTTL" | "PEXPIRETIME" => near(ours, stock, TTL_SLACK_SECONDS * 1000),
        // Times of deliveries, and how long ago they were.
        "XPENDING" => all_near(ours, stock),
        // 7.2 tells more of consumers than 7.0.
        "XINFO" => all_near(&without(ours, &["inactive", "active-time"]), stock),
        // Only the larger encoding keeps the sign of a zero, and Redis's SORT
        // changes encodings.
        "ZRANGE" | "ZSCORE" | "ZMSCORE" | "ZPOPMIN" | "ZPOPMAX" | "ZMPOP" | "ZRANGEBYSCORE" | "ZREVRANGE"
        | "ZREVRANGEBYSCORE" | "ZUNION" | "ZINTER" | "ZDIFF" | "ZINCRBY" | "ZADD" | "BZPOPMIN" | "BZPOPMAX"
        | "BZMPOP" => signless(ours) == signless(stock),
        _ => false,
    }
}

fn same_elements(ours: &Value, stock: &Value) -> bool {
    ours.clone().sorted() == stock.clone().sorted()
}

/// The value with the elements of arrays, sets and maps sorted, at whatever depth.
fn deeply_sorted(value: &Value) -> Value {
    let sorted = match value {
        Value::Array(items) => Value::Array(items.iter().map(deeply_sorted).collect()),
        Value::Set(items) => Value::Set(items.iter().map(deeply_sorted).collect()),
        Value::Map(pairs) => Value::Map(pairs.iter().map(|(k, v)| (k.clone(), deeply_sorted(v))).collect()),
        other => other.clone(),
    };
    sorted.sorted()
}

/// Of ACL GETUSER and LIST: without rules about commands, which 7.2 keeps as they
/// were given, and without the flags about payloads.
fn without_rules(value: &Value) -> Value {
    const PAYLOADS: &[&str] = &["sanitize-payload", "skip-sanitize-payload"];
    let kept = |item: &Value| match item {
        Value::Bulk(b) => !PAYLOADS.iter().any(|p| p.as_bytes() == b),
        Value::Simple(text) => !PAYLOADS.contains(&&text[..]),
        _ => true,
    };
    match value {
        Value::Bulk(bytes) => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let words =
                text.split(' ').filter(|w| !w.trim_start_matches('(').starts_with(['+', '-']) && !PAYLOADS.contains(w));
            Value::Bulk(words.collect::<Vec<_>>().join(" ").into_bytes())
        }
        Value::Array(items) => Value::Array(items.iter().filter(|item| kept(item)).map(without_rules).collect()),
        Value::Set(items) => Value::Set(items.iter().filter(|item| kept(item)).map(without_rules).collect()),
        Value::Map(pairs) => Value::Map(pairs.iter().map(|(k, v)| (k.clone(), without_rules(v))).collect()),
        other => other.clone(),
    }
}

/// Equal but for times in milliseconds: fields named so, and the last but one
/// element of a pending entry.
fn all_near(ours: &Value, stock: &Value) -> bool {
    match (ours, stock) {
        (Value::Array(a), Value::Array(b)) => {
            let pending = matches!(b[..], [.., Value::Int(_), Value::Int(_)]);
            let timed = |i: usize| (pending && i + 2 == b.len()) || (i > 0 && is_time(&b[i - 1]));
            let same = |i: usize| if timed(i) { time_near(&a[i], &b[i]) } else { all_near(&a[i], &b[i]) };
            a.len() == b.len() && (0..a.len()).all(same)
        }
        (Value::Map(a), Value::Map(b)) => {
            let same = |(a, b): (&(Value, Value), &(Value, Value))| {
                a.0 == b.0 && if is_time(&b.0) { time_near(&a.1, &b.1) } else { all_near(&a.1, &b.1) }
            };
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => ours == stock,
    }
}

/// The value with `-0` as `0`, at whatever depth.
fn signless(value: &Value) -> Value {
    match value {
        Value::Bulk(b) if b[..] == *b"-0" => Value::Bulk(b"0".to_vec()),
        Value::Double(text) if text == "-0" => Value::Double("0".into()),
        Value::Array(items) => Value::Array(items.iter().map(signless).collect()),
        other => other.clone(),
    }
}

fn is_time(name: &Value) -> bool {
    matches!(name, Value::Bulk(b) if matches!(&b[..], b"idle" | b"seen-time"))
}

fn time_near(ours: &Value, stock: &Value) -> bool {
    match (ours, stock) {
        (Value::Int(a), Value::Int(b)) => *a >= 0 && *b >= 0 && (a - b).abs() <= TIME_SLACK_MS,
        _ => false,
    }
}

/// The value without these fields of maps, at whatever depth.
fn without(value: &Value, names: &[&str]) -> Value {
    let named = |v: &Value| matches!(v, Value::Bulk(b) if names.iter().any(|n| n.as_bytes() == b));
    match value {
        Value::Array(items) => {
            let mut kept = Vec::new();
            let mut items = items.iter();
            while let Some(item) = items.next() {
                if named(item) {
                    items.next();
                } else {
                    kept.push(without(item, names));
                }
            }
            Value::Array(kept)
        }
        Value::Map(pairs) => {
            let kept = pairs.iter().filter(|(k, _)| !named(k));
            Value::Map(kept.map(|(k, v)| (k.clone(), without(v, names))).collect())
        }
        other => other.clone(),
    }
}

fn near(ours: &Value, stock: &Value, slack: i64) -> bool {
    match (ours, stock) {
        (Value::Int(a), Value::Int(b)) => *a > 0 && *b > 0 && (a - b).abs() <= slack,
        _ => false,
    }
}

#[test]
fn globs() {
    assert!(glob("*", "") && glob("a*c", "abc") && glob("a*", "a") && glob("a*b*c", "a-b-b-c"));
    assert!(!glob("a", "ab") && !glob("a*c", "ab") && !glob("", "a"));
}
