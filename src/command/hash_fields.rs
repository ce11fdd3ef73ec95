//! Deadlines of hash fields: the HEXPIRE family of Redis 7.4, and HGETEX,
//! HSETEX and HGETDEL of Redis 8.0.
//!
//! What goes to replicas is made of absolute times and of what happened, field
//! by field: HPEXPIREAT, HPERSIST, HSET and HDEL.

use super::collect::{element, keyspec};
use super::cx::Rest;
use super::effect::Class;
use super::expiry::{EX, EXAT, PX, PXAT, TimeForm};
use super::fault::SYNTAX;
use super::hash::{limits, read_fields};
use super::parse::{int, is};
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::base::num::parse_i64;
use crate::base::slot::Key;
use crate::store::hash::Hash;

const ROW: Spec = Spec {
    group: Group::Hash,
    keys: keyspec::UPDATED,
    flags: flag::WRITE | flag::FAST,
    since: "7.4.0",
    complexity: "O(n) for n fields given",
    ..Spec::DEFAULT
};
const EXPIRES: Spec = Spec { arity: -6, flags: flag::WRITE | flag::DENYOOM | flag::FAST, ..ROW };
const TELLS: Spec = Spec { arity: -5, flags: flag::READONLY | flag::FAST, keys: keyspec::READ, ..ROW };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "hexpire",
            syntax: "key#0 seconds:int [condition(NX|XX|GT|LT)] FIELDS fields(numfields:int field...)",
            summary: "Sets the lifetime of fields in seconds.",
            ..EXPIRES
        },
        run: |cx, args| expire(cx, args, EX, "hexpire"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hpexpire",
            syntax: "key#0 milliseconds:int [condition(NX|XX|GT|LT)] FIELDS fields(numfields:int field...)",
            summary: "Sets the lifetime of fields in milliseconds.",
            ..EXPIRES
        },
        run: |cx, args| expire(cx, args, PX, "hpexpire"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hexpireat",
            syntax: "key#0 unix-time-seconds:time [condition(NX|XX|GT|LT)] FIELDS fields(numfields:int field...)",
            summary: "Sets the Unix second at which fields end.",
            ..EXPIRES
        },
        run: |cx, args| expire(cx, args, EXAT, "hexpireat"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hpexpireat",
            syntax: "key#0 unix-time-milliseconds:time [condition(NX|XX|GT|LT)] FIELDS fields(numfields:int field...)",
            summary: "Sets the Unix millisecond at which fields end.",
            ..EXPIRES
        },
        run: |cx, args| expire(cx, args, PXAT, "hpexpireat"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "httl",
            syntax: "key#0 FIELDS fields(numfields:int field...)",
            summary: "Returns the seconds that fields have left.",
            ..TELLS
        },
        run: |cx, args| tell(cx, args, EX),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hpttl",
            syntax: "key#0 FIELDS fields(numfields:int field...)",
            summary: "Returns the milliseconds that fields have left.",
            ..TELLS
        },
        run: |cx, args| tell(cx, args, PX),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hexpiretime",
            syntax: "key#0 FIELDS fields(numfields:int field...)",
            summary: "Returns the Unix second at which fields end.",
            ..TELLS
        },
        run: |cx, args| tell(cx, args, EXAT),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hpexpiretime",
            syntax: "key#0 FIELDS fields(numfields:int field...)",
            summary: "Returns the Unix millisecond at which fields end.",
            ..TELLS
        },
        run: |cx, args| tell(cx, args, PXAT),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hpersist",
            syntax: "key#0 FIELDS fields(numfields:int field...)",
            arity: -5,
            summary: "Takes the deadlines of fields away.",
            ..ROW
        },
        run: persist,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hgetex",
            syntax: "key#0 [expiration(EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT \
                unix-time-milliseconds:time|PERSIST)] FIELDS fields(numfields:int field...)",
            arity: -5,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE, 1)],
            since: "8.0.0",
            summary: "Returns fields and changes their lifetimes.",
            ..ROW
        },
        run: get_and_expire,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hsetex",
            syntax: "key#0 [condition(FNX|FXX)] [expiration(EX seconds:int|PX milliseconds:int|EXAT \
                unix-time-seconds:time|PXAT unix-time-milliseconds:time|KEEPTTL)] FIELDS fields(numfields:int \
                data(field value)...)",
            arity: -6,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: keyspec::INSERTED,
            since: "8.0.0",
            summary: "Sets fields and their lifetimes.",
            ..ROW
        },
        run: set_and_expire,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "hgetdel",
            syntax: "key#0 FIELDS fields(numfields:int field...)",
            arity: -5,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::DELETE, 1)],
            since: "8.0.0",
            summary: "Returns fields and removes them.",
            ..ROW
        },
        run: get_and_delete,
        across: Across::Gather,
    },
];

/// The latest deadline that a field may have (Redis's limit), Unix milliseconds.
const DEADLINE_MAX: i64 = ((1 << 48) - 2) >> 2;

const NO_FIELDS: Fault = Fault::Text("ERR Mandatory argument FIELDS is missing or not at the right position");
const WRONG_NUMBER: Fault = Fault::Text("ERR The `numfields` parameter must match the number of arguments");
const NOT_A_NUMBER: Fault = Fault::Text("ERR Number of fields must be a positive integer");

/// The fields behind `FIELDS n`.
fn fields<'a>(words: Args<'a>, bad_number: Fault) -> Result<Args<'a>, Fault> {
    counted(words, 1, bad_number, WRONG_NUMBER)
}

fn counted<'a>(words: Args<'a>, step: usize, bad_number: Fault, wrong_number: Fault) -> Result<Args<'a>, Fault> {
    let [word, n, rest @ ..] = words else { return Err(NO_FIELDS) };
    if !is(word, "fields") {
        return Err(NO_FIELDS);
    }
    let n = parse_i64(n).filter(|n| *n > 0).ok_or(bad_number)?;
    if (rest.len() as i64) / step as i64 != n || !rest.len().is_multiple_of(step) {
        return Err(wrong_number);
    }
    Ok(rest)
}

/// Under which condition a deadline is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    None,
    Some,
    Later,
    Earlier,
}

impl When {
    fn holds(self, old: Option<UnixMs>, new: UnixMs) -> bool {
        match self {
            When::Always => true,
            When::None => old.is_none(),
            When::Some => old.is_some(),
            When::Later => old.is_some_and(|old| new > old),
            When::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

/// The moment that an argument means.
fn moment(arg: &[u8], form: TimeForm, now: UnixMs, command: &str) -> Result<UnixMs, Fault> {
    let n = int(arg)?;
    if n < 0 {
        return Err(Fault::Text("ERR invalid expire time, must be >= 0"));
    }
    let at = form.unix_ms(n, now).filter(|at| *at <= DEADLINE_MAX);
    at.map(|at| at as UnixMs).ok_or_else(|| Fault::expire_time(command))
}

/// A hash while deadlines of its fields change: what has to be passed on.
struct Change<'c, 'r, 'a> {
    key: Key<'c>,
    hash: &'r mut Hash,
    rest: Rest<'r, 'a>,
    before: Option<UnixMs>,
    kept: Vec<&'c [u8]>,
    persisted: Vec<&'c [u8]>,
    deleted: Vec<&'c [u8]>,
}

/// What is left to do once the hash is let go.
struct After {
    before: Option<UnixMs>,
    empty: bool,
}

impl<'c, 'r, 'a> Change<'c, 'r, 'a> {
    fn new(key: Key<'c>, hash: &'r mut Hash, rest: Rest<'r, 'a>) -> Change<'c, 'r, 'a> {
        let before = hash.next_deadline();
        Change { key, hash, rest, before, kept: Vec::new(), persisted: Vec::new(), deleted: Vec::new() }
    }

    /// A field gets a deadline; one that has passed already ends it.
    fn set(&mut self, field: &'c [u8], at: UnixMs) {
        if at <= self.rest.now {
            self.delete(field);
        } else {
            self.hash.set_deadline(field, Some(at));
            self.kept.push(field);
        }
    }

    fn persist(&mut self, field: &'c [u8]) -> bool {
        let had = self.hash.set_deadline(field, None).is_some();
        if had {
            self.persisted.push(field);
        }
        had
    }

    fn delete(&mut self, field: &'c [u8]) {
        if self.hash.remove(field) {
            self.deleted.push(field);
        }
    }

    /// Records what happened.
    fn finish(self, at: UnixMs) -> After {
        let mut digits = itoa::Buffer::new();
        let at = digits.format(at).as_bytes();
        let Rest { fx, db, .. } = self.rest;
        let key = self.key.bytes;
        let mut pass_on = |head: &[&[u8]], list: &[&[u8]], event: &'static str| {
            if list.is_empty() {
                return;
            }
            let n = list.len().to_string();
            let number: &[&[u8]] = if event == "hdel" { &[] } else { &[n.as_bytes()] };
            fx.rewrite(list.len() as u64, &[head, number, list].concat());
            fx.event(Class::Hash, event, db, key);
        };
        pass_on(&[b"HPEXPIREAT", key, at, b"FIELDS"], &self.kept, "hexpire");
        pass_on(&[b"HPERSIST", key, b"FIELDS"], &self.persisted, "hpersist");
        pass_on(&[b"HDEL", key], &self.deleted, "hdel");
        After { before: self.before, empty: self.hash.is_empty() }
    }
}

/// Brings the index of deadlines up to date, and deletes what is empty.
fn settle(cx: &mut Cx, key: &Key, after: &After) {
    cx.store.fields_changed(cx.db, key, after.before);
    if after.empty {
        cx.delete_if_empty(key);
    }
}

fn expire(cx: &mut Cx, args: Args, form: TimeForm, name: &str) -> Done {
    const BAD_NUMBER: Fault = Fault::Text("ERR Parameter `numFields` should be greater than 0");
    let key = cx.key(args[1]);
    cx.collection::<Hash>(&key)?;
    let at = moment(args[2], form, cx.now, name)?;
    let conditions = [("nx", When::None), ("xx", When::Some), ("gt", When::Later), ("lt", When::Earlier)];
    let condition = conditions.iter().find(|(word, _)| is(args[3], word)).map(|c| c.1);
    let when = condition.unwrap_or(When::Always);
    let fields = fields(&args[3 + usize::from(condition.is_some())..], BAD_NUMBER)?;
    let (hash, rest) = cx.collection_apart::<Hash>(&key)?;
    rest.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| rest.reply.int(-2));
        return Ok(());
    };
    let mut change = Change::new(key, hash, rest);
    for field in fields {
        let reply = if !change.hash.contains(field) {
            -2
        } else if !when.holds(change.hash.deadline(field), at) {
            0
        } else {
            change.set(field, at);
            if at <= change.rest.now { 2 } else { 1 }
        };
        change.rest.reply.int(reply);
    }
    let after = change.finish(at);
    settle(cx, &key, &after);
    Ok(())
}

fn tell(cx: &mut Cx, args: Args, form: TimeForm) -> Done {
    let key = cx.key(args[1]);
    cx.read_collection::<Hash>(&key)?;
    let fields = fields(&args[2..], NOT_A_NUMBER)?;
    let (hash, rest) = read_fields(cx, &key)?;
    rest.reply.array(fields.len());
    for field in fields {
        let known = hash.as_ref().filter(|h| h.contains(field));
        rest.reply.int(match known.map(|h| h.deadline(field)) {
            None => -2,
            Some(None) => -1,
            Some(Some(at)) => form.shown(at, rest.now),
        });
    }
    Ok(())
}

fn persist(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    cx.collection::<Hash>(&key)?;
    let fields = fields(&args[2..], NOT_A_NUMBER)?;
    let (hash, rest) = cx.collection_apart::<Hash>(&key)?;
    rest.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| rest.reply.int(-2));
        return Ok(());
    };
    let mut change = Change::new(key, hash, rest);
    for field in fields {
        let reply = match change.hash.contains(field) {
            false => -2,
            true if change.persist(field) => 1,
            true => -1,
        };
        change.rest.reply.int(reply);
    }
    let after = change.finish(0);
    settle(cx, &key, &after);
    Ok(())
}

/// What HGETEX and HSETEX say about lifetimes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Unsaid,
    Keep,
    Persist,
    At(UnixMs),
}

/// What HGETEX says in front of FIELDS, if anything, and what follows. Its texts
/// and their order are not those of HSETEX.
fn lifetime_asked<'a>(words: Args<'a>, now: UnixMs) -> Result<(Lifetime, Args<'a>), Fault> {
    const NAME: &str = "hgetex";
    let (word, behind) = words.split_first().ok_or(SYNTAX)?;
    let (lifetime, rest) = if is(word, "persist") {
        (Lifetime::Persist, behind)
    } else if let Some(form) = TimeForm::named(word) {
        let (value, rest) = behind.split_first().ok_or(Fault::arity(NAME))?;
        (Lifetime::At(moment(value, form, now, NAME)?), rest)
    } else {
        (Lifetime::Unsaid, words)
    };
    if rest.len() < 2 { Err(Fault::arity(NAME)) } else { Ok((lifetime, rest)) }
}

/// What HSETEX says in front of FIELDS.
struct Options<'a> {
    lifetime: Lifetime,
    /// `Some(true)`: only if no field exists (FNX); `Some(false)`: only if all do.
    absent: Option<bool>,
    rest: Args<'a>,
}

impl<'a> Options<'a> {
    fn parse(words: Args<'a>, now: UnixMs) -> Result<Options<'a>, Fault> {
        let mut o = Options { lifetime: Lifetime::Unsaid, absent: None, rest: words };
        while let [word, rest @ ..] = o.rest {
            if is(word, "fields") {
                break;
            }
            o.rest = rest;
            if is(word, "fnx") || is(word, "fxx") {
                if o.absent.replace(is(word, "fnx")).is_some() {
                    return Err(Fault::Text("ERR Only one of FXX or FNX arguments can be specified"));
                }
                continue;
            }
            let form = TimeForm::named(word);
            if form.is_none() && !is(word, "keepttl") {
                return Err(unknown(word));
            }
            if o.lifetime != Lifetime::Unsaid {
                return Err(Fault::Text("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"));
            }
            o.lifetime = match form {
                None => Lifetime::Keep,
                Some(form) => {
                    let (value, rest) = rest.split_first().ok_or(Fault::Text("ERR missing expire time"))?;
                    o.rest = rest;
                    Lifetime::At(moment(value, form, now, "hsetex")?)
                }
            };
        }
        Ok(o)
    }

    /// The fields and their values.
    fn pairs(&self) -> Result<Args<'a>, Fault> {
        let wrong = || Fault::arity("hsetex");
        let [word, n, ..] = self.rest else { return Err(NO_FIELDS) };
        // As Redis looks at them: is there a pair at all, then the number.
        if is(word, "fields") && self.rest.len() < 4 {
            return Err(wrong());
        }
        let bad_number = Fault::Text("ERR invalid number of fields");
        if parse_i64(n).is_some_and(|n| n > i64::from(i32::MAX)) {
            return Err(bad_number);
        }
        counted(self.rest, 2, bad_number, wrong())
    }
}

fn unknown(word: &[u8]) -> Fault {
    Fault::from(format!("ERR unknown argument: {}", String::from_utf8_lossy(word)))
}

fn reply_value(rest: &mut Rest, hash: &Hash, field: &[u8]) -> bool {
    match hash.get(field) {
        Some(v) => {
            element(rest.reply, v);
            true
        }
        None => {
            rest.reply.null();
            false
        }
    }
}

fn nulls(rest: Rest, n: usize) -> Done {
    (0..n).for_each(|_| rest.reply.null());
    Ok(())
}

fn get_and_expire(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    cx.collection::<Hash>(&key)?;
    let (lifetime, words) = lifetime_asked(&args[2..], cx.now)?;
    let fields = fields(words, NOT_A_NUMBER)?;
    let (hash, rest) = cx.collection_apart::<Hash>(&key)?;
    rest.reply.array(fields.len());
    let Some(hash) = hash else { return nulls(rest, fields.len()) };
    let mut change = Change::new(key, hash, rest);
    for field in fields {
        if !reply_value(&mut change.rest, change.hash, field) {
            continue;
        }
        match lifetime {
            Lifetime::At(at) => change.set(field, at),
            Lifetime::Persist => {
                change.persist(field);
            }
            Lifetime::Unsaid | Lifetime::Keep => {}
        }
    }
    let at = if let Lifetime::At(at) = lifetime { at } else { 0 };
    let after = change.finish(at);
    settle(cx, &key, &after);
    Ok(())
}

fn get_and_delete(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    cx.collection::<Hash>(&key)?;
    let fields = fields(&args[2..], NOT_A_NUMBER)?;
    let (hash, rest) = cx.collection_apart::<Hash>(&key)?;
    rest.reply.array(fields.len());
    let Some(hash) = hash else { return nulls(rest, fields.len()) };
    let mut change = Change::new(key, hash, rest);
    for field in fields {
        if reply_value(&mut change.rest, change.hash, field) {
            change.delete(field);
        }
    }
    let after = change.finish(0);
    settle(cx, &key, &after);
    Ok(())
}

fn set_and_expire(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let o = Options::parse(&args[2..], cx.now)?;
    let words = o.pairs()?;
    let found = cx.collection::<Hash>(&key)?;
    let refused = o.absent.is_some_and(|absent| {
        let mut known = words.chunks_exact(2).map(|w| found.as_ref().is_some_and(|h| h.contains(w[0])));
        if absent { known.any(|k| k) } else { !known.all(|k| k) }
    });
    if refused {
        cx.reply.int(0);
        return Ok(());
    }
    let (hash, rest) = cx.collection_or_new_apart::<Hash>(&key)?;
    let limits = limits(rest.options);
    hash.expect(words, limits);
    rest.reply.int(1);
    let command: Vec<&[u8]> = [b"HSET".as_slice(), key.bytes].into_iter().chain(words.iter().copied()).collect();
    rest.fx.rewrite(words.len() as u64 / 2, &command);
    rest.fx.event(Class::Hash, "hset", rest.db, key.bytes);
    let mut change = Change::new(key, hash, rest);
    let mut at = 0;
    let mut kept: Vec<(UnixMs, &[u8])> = Vec::new();
    for w in words.chunks_exact(2) {
        let old = change.hash.deadline(w[0]);
        change.hash.set(w[0], w[1], limits);
        match (o.lifetime, old) {
            (Lifetime::At(d), _) => {
                at = d;
                change.set(w[0], d);
            }
            (Lifetime::Keep, Some(d)) => kept.push((d, w[0])),
            (Lifetime::Keep, None) => {}
            _ => {
                change.hash.set_deadline(w[0], None);
            }
        }
    }
    for (d, field) in kept {
        pass_deadline_on(&mut change.rest, key.bytes, field, d);
    }
    let after = change.finish(at);
    settle(cx, &key, &after);
    Ok(())
}

/// The deadline of a field that keeps it although an HSET of it is passed on.
pub(super) fn pass_deadline_on(rest: &mut Rest, key: &[u8], field: &[u8], at: UnixMs) {
    let mut digits = itoa::Buffer::new();
    rest.fx.rewrite(0, &[b"HPEXPIREAT", key, digits.format(at).as_bytes(), b"FIELDS", b"1", field]);
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    const NO_FIELDS: &str = "-ERR Mandatory argument FIELDS is missing or not at the right position";
    const NOW: u64 = 1_700_000_000_000;

    fn bench() -> Bench {
        let mut b = Bench::default();
        b.run("hset h a 1 b 2 c 3");
        b
    }

    fn check(b: &mut Bench, lines: &[(&str, &str)]) {
        for (line, want) in lines {
            assert_eq!(b.run(line), *want, "{line}");
        }
    }

    #[test]
    fn fields_get_deadlines() {
        let mut b = bench();
        assert_eq!(b.run("hexpire h 10 fields 3 a b none"), "*3 :1 :1 :-2");
        assert_eq!(b.stream, [format!("HPEXPIREAT h {} FIELDS 2 a b", NOW + 10_000)]);
        assert_eq!((b.events(), b.dirty), (vec!["hexpire h".to_string()], 2));
        check(
            &mut b,
            &[
                ("httl h fields 3 a c none", "*3 :10 :-1 :-2"),
                ("hpttl h fields 1 a", "*1 :10000"),
                ("hexpiretime h fields 1 a", "*1 :1700000010"),
                ("hpexpiretime h fields 1 a", "*1 :1700000010000"),
                ("hexpire h 5 gt fields 2 a c", "*2 :0 :0"),
                ("hexpire h 5 nx fields 2 a c", "*2 :0 :1"),
                ("hexpire h 20 xx fields 1 c", "*1 :1"),
                ("hexpire h 30 lt fields 1 c", "*1 :0"),
                ("hpersist h fields 3 a a none", "*3 :1 :-1 :-2"),
                ("httl none fields 1 a", "*1 :-2"),
                ("hexpire none 10 fields 1 a", "*1 :-2"),
                ("object encoding h", "$10 listpackex"),
            ],
        );
        check(
            &mut b,
            &[
                ("hexpire h -1 fields 1 a", "-ERR invalid expire time, must be >= 0"),
                ("hexpire h 99999999999999 fields 1 a", "-ERR invalid expire time in 'hexpire' command"),
                ("hexpire h 1 foo 1 a", NO_FIELDS),
                ("hexpire h 1 fields 2 a", "-ERR The `numfields` parameter must match the number of arguments"),
                ("hexpire h 1 fields 0 a", "-ERR Parameter `numFields` should be greater than 0"),
                ("httl h fields 0 a", "-ERR Number of fields must be a positive integer"),
                ("set s v", "+OK"),
                ("hexpire s 1 fields 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ],
        );
    }

    #[test]
    fn fields_end_at_their_deadlines() {
        let mut b = bench();
        b.run("hpexpire h 100 fields 1 a");
        b.run("hpexpire h 200 fields 1 b");
        b.now = NOW + 99;
        assert_eq!(b.run("hget h a"), "$1 1");
        b.now = NOW + 100;
        assert_eq!(b.run("hget h a"), "$-1");
        assert_eq!((b.stream.join("|"), b.events()), ("HDEL h a".into(), vec!["hexpired h".into()]));
        check(&mut b, &[("hlen h", ":2"), ("hset h b 9", ":0"), ("httl h fields 1 b", "*1 :-1")]);
        assert_eq!(b.run("hincrby h c 1"), ":4");
        b.run("hpexpire h 100 fields 2 b c");
        b.now += 100;
        assert_eq!(b.run("keys *"), "*0");
        assert_eq!(b.run("exists h"), ":0");
        assert_eq!((b.stream.join("|"), b.events()), ("HDEL h b c".into(), vec!["hexpired h".into(), "del h".into()]));
        assert_eq!(b.store.next_deadline(), None);
    }

    #[test]
    fn a_deadline_in_the_past_deletes() {
        let mut b = bench();
        assert_eq!(b.run("hpexpireat h 1 fields 1 a"), "*1 :2");
        assert_eq!((b.stream.join("|"), b.events()), ("HDEL h a".into(), vec!["hdel h".into()]));
        assert_eq!(b.run("hexpire h 0 fields 2 b c"), "*2 :2 :2");
        assert_eq!(b.events(), ["hdel h", "del h"]);
        assert_eq!(b.run("exists h"), ":0");
    }

    #[test]
    fn deadlines_go_along() {
        let mut b = bench();
        b.run("hpexpire h 100 fields 1 a");
        check(&mut b, &[("copy h g", ":1"), ("rename h i", "+OK"), ("pexpire i 50000", ":1"), ("persist i", ":1")]);
        assert_eq!(b.run("hincrbyfloat i a 0.5"), "$3 1.5");
        assert_eq!(b.stream, ["HSET i a 1.5".to_string(), format!("HPEXPIREAT i {} FIELDS 1 a", NOW + 100)]);
        b.now += 100;
        check(&mut b, &[("hmget g a b", "*2 $-1 $1 2"), ("hmget i a b", "*2 $-1 $1 2")]);
    }

    #[test]
    fn exchanges_of_redis_8() {
        let mut b = bench();
        assert_eq!(b.run("hgetex h px 100 fields 2 a none"), "*2 $1 1 $-1");
        assert_eq!(b.stream, [format!("HPEXPIREAT h {} FIELDS 1 a", NOW + 100)]);
        assert_eq!(b.run("hgetex h persist fields 1 a"), "*1 $1 1");
        assert_eq!(b.stream, ["HPERSIST h FIELDS 1 a"]);
        assert_eq!((b.run("hgetex h fields 1 a"), b.stream.len()), ("*1 $1 1".into(), 0));
        assert_eq!(b.run("hsetex h ex 10 fields 2 a x d y"), ":1");
        assert_eq!(b.stream, ["HSET h a x d y".to_string(), format!("HPEXPIREAT h {} FIELDS 2 a d", NOW + 10_000)]);
        check(
            &mut b,
            &[
                ("hsetex h fnx fields 1 a z", ":0"),
                ("hsetex h fxx fields 2 a z none z", ":0"),
                ("hsetex h fxx keepttl fields 1 a z", ":1"),
                ("httl h fields 2 a d", "*2 :10 :10"),
                ("hsetex h fields 1 a w", ":1"),
                ("httl h fields 1 a", "*1 :-1"),
                (
                    "hsetex h ex 1 px 1 fields 1 a w",
                    "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ),
                ("hsetex h foo fields 1 a w", "-ERR unknown argument: foo"),
                ("hsetex h persist fields 1 a w", "-ERR unknown argument: persist"),
                ("hgetex h keepttl fields 1 a", NO_FIELDS),
                ("hgetex h ex 1 px 1 fields 1 a", NO_FIELDS),
                ("hgetex h ex 1 1", "-ERR wrong number of arguments for 'hgetex' command"),
                ("hgetex h px x 1", "-ERR value is not an integer or out of range"),
                ("hsetex h fnx fnx fields 1 a w", "-ERR Only one of FXX or FNX arguments can be specified"),
                ("hsetex h fnx fxx fields 1 a w", "-ERR Only one of FXX or FNX arguments can be specified"),
                ("hgetex h fields 0 a", "-ERR Number of fields must be a positive integer"),
                ("hgetex h fields 9223372036854775808 a", "-ERR Number of fields must be a positive integer"),
                ("hgetex h fields 2 a", "-ERR The `numfields` parameter must match the number of arguments"),
                (
                    "hsetex h keepttl px x fields 1 a w",
                    "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ),
                ("hsetex h fnx fields 1 a", "-ERR wrong number of arguments for 'hsetex' command"),
                ("hsetex h fields 4294967297 a w", "-ERR invalid number of fields"),
                ("hsetex h fields 1 a w x", "-ERR wrong number of arguments for 'hsetex' command"),
                ("hgetdel h fields 2 a none", "*2 $1 w $-1"),
            ],
        );
        assert_eq!((b.stream.join("|"), b.events()), ("HDEL h a".into(), vec!["hdel h".into()]));
        assert_eq!(b.run("hgetdel h fields 3 b c d"), "*3 $1 2 $1 3 $1 y");
        assert_eq!((b.events(), b.run("exists h")), (vec!["hdel h".into(), "del h".into()], ":0".into()));
        assert_eq!(b.run("hgetex none fields 1 a"), "*1 $-1");
    }
}
