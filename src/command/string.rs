//! Commands over one string as a whole: GET, SET and their relatives.

use super::effect::Class;
use super::expiry::{EX, EXAT, PX, PXAT, TimeForm};
use super::fault::{SYNTAX, WRONG_TYPE};
use super::parse::is;
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::slot::Key;
use crate::command::cx::Ttl;

const OVERWRITES: &[KeySpec] = &[KeySpec::one(keyflag::OW | keyflag::UPDATE, 1)];
const EXCHANGES: &[KeySpec] = &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE, 1)];

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "get",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)],
            group: Group::String,
            summary: "Returns the string under a key.",
            ..Spec::DEFAULT
        },
        run: get,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "set",
            syntax: "key#0 value [condition(NX|XX|IFEQ comparison-value@8.1.0)@2.6.12] [GET@6.2.0] [expiration(EX \
                seconds:int@2.6.12|PX milliseconds:int@2.6.12|EXAT unix-time-seconds:time@6.2.0|PXAT \
                unix-time-milliseconds:time@6.2.0|KEEPTTL@6.0.0)]",
            arity: -3,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE | keyflag::VARIABLE_FLAGS, 1)],
            group: Group::String,
            summary: "Stores a string under a key, whatever the key held before.",
            ..Spec::DEFAULT
        },
        run: set,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "setnx",
            syntax: "key#0 value",
            arity: 3,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: &[KeySpec::one(keyflag::OW | keyflag::INSERT, 1)],
            group: Group::String,
            summary: "Stores a string only if the key is not in use.",
            ..Spec::DEFAULT
        },
        run: setnx,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "setex",
            syntax: "key#0 seconds:int value",
            arity: 4,
            flags: flag::WRITE | flag::DENYOOM,
            keys: OVERWRITES,
            group: Group::String,
            since: "2.0.0",
            summary: "Stores a string together with a lifetime in seconds.",
            ..Spec::DEFAULT
        },
        run: setex,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "psetex",
            syntax: "key#0 milliseconds:int value",
            arity: 4,
            flags: flag::WRITE | flag::DENYOOM,
            keys: OVERWRITES,
            group: Group::String,
            since: "2.6.0",
            summary: "Stores a string together with a lifetime in milliseconds.",
            ..Spec::DEFAULT
        },
        run: psetex,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "getset",
            syntax: "key#0 value",
            arity: 3,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: EXCHANGES,
            group: Group::String,
            summary: "Stores a string and returns the one it replaces.",
            ..Spec::DEFAULT
        },
        run: getset,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "getdel",
            syntax: "key#0",
            arity: 2,
            flags: flag::WRITE | flag::FAST,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::DELETE, 1)],
            group: Group::String,
            since: "6.2.0",
            summary: "Returns a string and deletes its key.",
            ..Spec::DEFAULT
        },
        run: getdel,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "getex",
            syntax: "key#0 [expiration(EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT \
                unix-time-milliseconds:time|PERSIST)]",
            arity: -2,
            flags: flag::WRITE | flag::FAST,
            keys: EXCHANGES,
            group: Group::String,
            since: "6.2.0",
            summary: "Returns a string and changes its key's lifetime.",
            ..Spec::DEFAULT
        },
        run: getex,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "delifeq",
            syntax: "key#0 value",
            arity: 3,
            flags: flag::WRITE | flag::FAST,
            keys: &[KeySpec::one(keyflag::RM | keyflag::ACCESS | keyflag::DELETE, 1)],
            group: Group::String,
            since: "9.0.0",
            summary: "Deletes a key if it holds this string.",
            ..Spec::DEFAULT
        },
        run: delete_if_equal,
        across: Across::Gather,
    },
];

fn get(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    reply_value(cx, &key).map(|_| ())
}

/// Replies the string or null; tells whether there is one.
#[inline]
fn reply_value(cx: &mut Cx, key: &Key) -> Result<bool, Fault> {
    let (entry, rest) = cx.read_apart(key);
    let Some(entry) = entry else {
        rest.reply.null();
        return Ok(false);
    };
    rest.reply.bulk(entry.as_str().ok_or(WRONG_TYPE)?);
    Ok(true)
}

fn set(cx: &mut Cx, args: Args) -> Done {
    if args.len() > 3 {
        return set_with_options(cx, args);
    }
    let key = cx.key(args[1]);
    put(cx, &key, args[2], Ttl::Clear);
    cx.fx.verbatim(1);
    cx.reply.ok();
    Ok(())
}

/// Stores a value with its events. A deadline also puts the command on the
/// stream (`SET key value PXAT deadline`); otherwise the caller does.
#[inline]
pub(super) fn put(cx: &mut Cx, key: &Key, value: &[u8], ttl: Ttl) {
    cx.set_string(key, value, ttl);
    cx.event(Class::String, "set", key.bytes);
    if let Ttl::At(at) = ttl {
        let mut digits = itoa::Buffer::new();
        cx.fx.rewrite(1, &[b"SET", key.bytes, value, b"PXAT", digits.format(at).as_bytes()]);
        cx.event(Class::Generic, "expire", key.bytes);
    }
}

/// What SET and GETEX say about a key's lifetime.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime<'a> {
    Unsaid,
    Keep,
    Persist,
    Given(TimeForm, &'a [u8]),
}

impl<'a> Lifetime<'a> {
    /// Takes a word in, with its value if it has one; tells whether it used
    /// the value. The same word may come again, a contradicting one may not.
    fn add(&mut self, word: &[u8], value: Option<&'a [u8]>, for_set: bool) -> Result<bool, Fault> {
        let said = match (word, value) {
            (w, _) if for_set && is(w, "keepttl") => Lifetime::Keep,
            (w, _) if !for_set && is(w, "persist") => Lifetime::Persist,
            (w, Some(v)) => Lifetime::Given(TimeForm::named(w).ok_or(SYNTAX)?, v),
            _ => return Err(SYNTAX),
        };
        let agrees = match (*self, said) {
            (Lifetime::Unsaid, _) => true,
            (Lifetime::Given(a, _), Lifetime::Given(b, _)) => a == b,
            (a, b) => a == b,
        };
        if !agrees {
            return Err(SYNTAX);
        }
        *self = said;
        Ok(matches!(said, Lifetime::Given(..)))
    }
}

struct SetOptions<'a> {
    /// `Some(true)` with NX, `Some(false)` with XX.
    absent: Option<bool>,
    /// The value that there must be (IFEQ, of Valkey 8.1).
    equal: Option<&'a [u8]>,
    get: bool,
    lifetime: Lifetime<'a>,
}

impl<'a> SetOptions<'a> {
    fn parse(words: Args<'a>) -> Result<SetOptions<'a>, Fault> {
        let mut o = SetOptions { absent: None, equal: None, get: false, lifetime: Lifetime::Unsaid };
        let mut i = 0;
        while i < words.len() {
            let w = words[i];
            if is(w, "nx") && o.absent != Some(false) && o.equal.is_none() {
                o.absent = Some(true);
            } else if is(w, "xx") && o.absent != Some(true) && o.equal.is_none() {
                o.absent = Some(false);
            } else if is(w, "ifeq") && o.absent.is_none() && i + 1 < words.len() {
                i += 1;
                o.equal = Some(words[i]);
            } else if is(w, "get") {
                o.get = true;
            } else if o.lifetime.add(w, words.get(i + 1).copied(), true)? {
                i += 1;
            }
            i += 1;
        }
        Ok(o)
    }
}

fn set_with_options(cx: &mut Cx, args: Args) -> Done {
    let o = SetOptions::parse(&args[3..])?;
    let key = cx.key(args[1]);
    let ttl = match o.lifetime {
        Lifetime::Given(form, value) => Ttl::At(form.future(value, cx.now, "set")?),
        Lifetime::Keep => Ttl::Keep,
        _ => Ttl::Clear,
    };
    if o.get {
        reply_value(cx, &key)?;
    }
    let refused = match o.equal {
        Some(wanted) => match cx.find(&key) {
            Some(e) => e.as_str().ok_or(WRONG_TYPE)? != wanted,
            None => true,
        },
        None => o.absent.is_some_and(|absent| cx.exists(&key) == absent),
    };
    if refused {
        if !o.get {
            cx.reply.null();
        }
        return Ok(());
    }
    put(cx, &key, args[2], ttl);
    if !matches!(ttl, Ttl::At(_)) {
        pass_on_plain(cx, args, o.get || o.equal.is_some());
    }
    if !o.get {
        cx.reply.ok();
    }
    Ok(())
}

/// SET for replicas: without GET, and without the condition that held.
fn pass_on_plain(cx: &mut Cx, args: Args, has_more: bool) {
    if !has_more {
        return cx.fx.verbatim(1);
    }
    let mut kept: Vec<&[u8]> = args[..3].to_vec();
    let mut words = args[3..].iter();
    while let Some(w) = words.next() {
        if is(w, "ifeq") {
            words.next();
        } else if !is(w, "get") {
            kept.push(w);
        }
    }
    cx.fx.rewrite(1, &kept);
}

/// DELIFEQ, of Valkey 9.0.
fn delete_if_equal(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let equal = match cx.find(&key) {
        Some(e) => e.as_str().ok_or(WRONG_TYPE)? == args[2],
        None => false,
    };
    if equal {
        cx.store.delete(cx.db, &key);
        cx.fx.rewrite(1, &[b"DEL", key.bytes]);
        cx.event(Class::Generic, "del", key.bytes);
    }
    cx.reply.int(i64::from(equal));
    Ok(())
}

fn setnx(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let free = !cx.exists(&key);
    if free {
        put(cx, &key, args[2], Ttl::Clear);
        cx.fx.verbatim(1);
    }
    cx.reply.int(i64::from(free));
    Ok(())
}

fn setex(cx: &mut Cx, args: Args) -> Done {
    set_for(cx, args, EX, "setex")
}

fn psetex(cx: &mut Cx, args: Args) -> Done {
    set_for(cx, args, PX, "psetex")
}

fn set_for(cx: &mut Cx, args: Args, form: TimeForm, name: &str) -> Done {
    let key = cx.key(args[1]);
    let at = form.future(args[2], cx.now, name)?;
    put(cx, &key, args[3], Ttl::At(at));
    cx.reply.ok();
    Ok(())
}

fn getset(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    reply_value(cx, &key)?;
    put(cx, &key, args[2], Ttl::Clear);
    cx.fx.rewrite(1, &[b"SET", key.bytes, args[2]]);
    Ok(())
}

fn getdel(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    if reply_value(cx, &key)? {
        cx.store.delete(cx.db, &key);
        cx.fx.rewrite(1, &[b"DEL", key.bytes]);
        cx.event(Class::Generic, "del", key.bytes);
    }
    Ok(())
}

fn getex(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let mut lifetime = Lifetime::Unsaid;
    let mut i = 2;
    while i < args.len() {
        let took = lifetime.add(args[i], args.get(i + 1).copied(), false)?;
        i += 1 + usize::from(took);
    }
    if !reply_value(cx, &key)? {
        return Ok(());
    }
    match lifetime {
        Lifetime::Given(form, value) => getex_until(cx, &key, form, value),
        Lifetime::Persist => {
            persist(cx, &key);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn getex_until(cx: &mut Cx, key: &Key, form: TimeForm, value: &[u8]) -> Done {
    let at = form.future(value, cx.now, "getex")?;
    if (form == EXAT || form == PXAT) && at <= cx.now {
        super::expiry::delete_as_expired(cx, key);
        return Ok(());
    }
    cx.store.set_deadline(cx.db, key, Some(at));
    let mut digits = itoa::Buffer::new();
    cx.fx.rewrite(1, &[b"PEXPIREAT", key.bytes, digits.format(at).as_bytes()]);
    cx.event(Class::Generic, "expire", key.bytes);
    Ok(())
}

fn persist(cx: &mut Cx, key: &Key) {
    if cx.store.get(cx.db, key).is_some_and(|e| e.deadline().is_some()) {
        cx.store.set_deadline(cx.db, key, None);
        cx.fx.rewrite(1, &[b"PERSIST", key.bytes]);
        cx.event(Class::Generic, "persist", key.bytes);
    }
}

#[cfg(test)]
#[path = "string_tests.rs"]
mod tests;
