//! Commands over deadlines of keys.

use super::effect::Class;
use super::fault::NOT_AN_INTEGER;
use super::parse::{int, is};
use super::spec::{Across, Command, KeySpec, Spec, acl, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::clock::UnixMs;
use crate::base::num::parse_i64;
use crate::base::slot::Key;

const UPDATES: &[KeySpec] = &[KeySpec::one(keyflag::RW | keyflag::UPDATE, 1)];
const READS: &[KeySpec] = &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)];
const RANDOM: &[&str] = &["nondeterministic_output"];
const WRITE: Spec = Spec { flags: flag::WRITE | flag::FAST, keys: UPDATES, acl: acl::KEYSPACE, ..Spec::DEFAULT };
const READ: Spec = Spec { flags: flag::READONLY | flag::FAST, keys: READS, acl: acl::KEYSPACE, arity: 2, ..WRITE };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "expire",
            syntax: "key#0 seconds:int [condition(NX|XX|GT|LT)@7.0.0]",
            arity: -3,
            summary: "Sets a key's lifetime in seconds.",
            ..WRITE
        },
        run: |cx, args| expire(cx, args, EX, "expire"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pexpire",
            syntax: "key#0 milliseconds:int [condition(NX|XX|GT|LT)@7.0.0]",
            arity: -3,
            since: "2.6.0",
            summary: "Sets a key's lifetime in milliseconds.",
            ..WRITE
        },
        run: |cx, args| expire(cx, args, PX, "pexpire"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "expireat",
            syntax: "key#0 unix-time-seconds:time [condition(NX|XX|GT|LT)@7.0.0]",
            arity: -3,
            since: "1.2.0",
            summary: "Sets the Unix second at which a key ends.",
            ..WRITE
        },
        run: |cx, args| expire(cx, args, EXAT, "expireat"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pexpireat",
            syntax: "key#0 unix-time-milliseconds:time [condition(NX|XX|GT|LT)@7.0.0]",
            arity: -3,
            since: "2.6.0",
            summary: "Sets the Unix millisecond at which a key ends.",
            ..WRITE
        },
        run: |cx, args| expire(cx, args, PXAT, "pexpireat"),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "persist",
            syntax: "key#0",
            arity: 2,
            since: "2.2.0",
            summary: "Takes a key's deadline away.",
            ..WRITE
        },
        run: persist,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "ttl",
            syntax: "key#0",
            summary: "Returns how many seconds a key has left.",
            tips: RANDOM,
            ..READ
        },
        run: |cx, args| remaining(cx, args, EX),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pttl",
            syntax: "key#0",
            since: "2.6.0",
            summary: "Returns how many milliseconds a key has left.",
            tips: RANDOM,
            ..READ
        },
        run: |cx, args| remaining(cx, args, PX),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "expiretime",
            syntax: "key#0",
            since: "7.0.0",
            summary: "Returns the Unix second at which a key ends.",
            ..READ
        },
        run: |cx, args| remaining(cx, args, EXAT),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pexpiretime",
            syntax: "key#0",
            since: "7.0.0",
            summary: "Returns the Unix millisecond at which a key ends.",
            ..READ
        },
        run: |cx, args| remaining(cx, args, PXAT),
        across: Across::Gather,
    },
];

/// How a point in time is written in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeForm {
    seconds: bool,
    /// Since the Unix epoch, not from now on.
    absolute: bool,
}

pub const EX: TimeForm = TimeForm { seconds: true, absolute: false };
pub const PX: TimeForm = TimeForm { seconds: false, absolute: false };
pub const EXAT: TimeForm = TimeForm { seconds: true, absolute: true };
pub const PXAT: TimeForm = TimeForm { seconds: false, absolute: true };

impl TimeForm {
    /// The form that an option of SET or GETEX names.
    pub fn named(word: &[u8]) -> Option<TimeForm> {
        let forms = [("ex", EX), ("px", PX), ("exat", EXAT), ("pxat", PXAT)];
        forms.into_iter().find(|&(name, _)| is(word, name)).map(|(_, form)| form)
    }

    /// Unix milliseconds, possibly before the epoch; `None` on overflow.
    pub(super) fn unix_ms(self, value: i64, now: UnixMs) -> Option<i64> {
        let ms = if self.seconds { value.checked_mul(1000)? } else { value };
        if self.absolute { Some(ms) } else { ms.checked_add(now as i64) }
    }

    /// A deadline as the HTTL family tells it: rounded up.
    pub(super) fn shown(self, at: UnixMs, now: UnixMs) -> i64 {
        let ms = if self.absolute { at } else { at.saturating_sub(now) } as i64;
        if self.seconds { (ms + 999) / 1000 } else { ms }
    }

    /// A deadline for SET, SETEX, GETEX and others that refuse values of 0 and
    /// less. (An absolute one may lie in the past all the same.)
    pub fn future(self, value: &[u8], now: UnixMs, command: &str) -> Result<UnixMs, Fault> {
        let n = parse_i64(value).ok_or(NOT_AN_INTEGER)?;
        let at = if n > 0 { self.unix_ms(n, now) } else { None };
        at.map(|at| at as UnixMs).ok_or_else(|| Fault::expire_time(command))
    }
}

/// Deletes an existing key whose new deadline has passed already: to everyone
/// else it is an ordinary deletion.
pub(super) fn delete_as_expired(cx: &mut Cx, key: &Key) {
    cx.store.delete(cx.db, key);
    cx.fx.rewrite(1, &[cx.fx.expiry_word(), key.bytes]);
    cx.event(Class::Generic, "del", key.bytes);
}

/// Conditions of the EXPIRE family.
#[derive(Default)]
struct When {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl When {
    fn parse(words: Args) -> Result<When, Fault> {
        let mut when = When::default();
        for w in words {
            match w.to_ascii_lowercase().as_slice() {
                b"nx" => when.nx = true,
                b"xx" => when.xx = true,
                b"gt" => when.gt = true,
                b"lt" => when.lt = true,
                _ => return Err(unsupported(w)),
            }
        }
        if when.nx && (when.xx || when.gt || when.lt) {
            return Err(Fault::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if when.gt && when.lt {
            return Err(Fault::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(when)
    }

    /// Do the conditions hold? No deadline counts as one in eternity.
    fn hold(&self, current: Option<UnixMs>, at: i64) -> bool {
        let current = current.map(|d| d as i64);
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|c| at <= c)
            || self.lt && current.is_some_and(|c| at >= c))
    }
}

fn unsupported(word: &[u8]) -> Fault {
    Fault::with_words(&[b"ERR Unsupported option ", word])
}

fn expire(cx: &mut Cx, args: Args, form: TimeForm, name: &str) -> Done {
    let when = When::parse(&args[3..])?;
    let at = form.unix_ms(int(args[2])?, cx.now).ok_or_else(|| Fault::expire_time(name))?;
    let key = cx.key(args[1]);
    let Some(current) = cx.find(&key).map(|e| e.deadline()) else {
        cx.reply.int(0);
        return Ok(());
    };
    let hold = when.hold(current, at);
    if hold && at <= cx.now as i64 {
        delete_as_expired(cx, &key);
    } else if hold {
        cx.store.set_deadline(cx.db, &key, Some(at as UnixMs));
        pass_on(cx, args, form, at);
        cx.event(Class::Generic, "expire", key.bytes);
    }
    cx.reply.int(i64::from(hold));
    Ok(())
}

/// As PEXPIREAT, with the conditions as they were given.
fn pass_on(cx: &mut Cx, args: Args, form: TimeForm, at: i64) {
    if form == PXAT {
        return cx.fx.verbatim(1);
    }
    let mut digits = itoa::Buffer::new();
    let mut command = args.to_vec();
    command[0] = b"PEXPIREAT";
    command[2] = digits.format(at).as_bytes();
    cx.fx.rewrite(1, &command);
}

fn persist(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let had = cx.find(&key).is_some_and(|e| e.deadline().is_some());
    if had {
        cx.store.set_deadline(cx.db, &key, None);
        cx.fx.verbatim(1);
        cx.event(Class::Generic, "persist", key.bytes);
    }
    cx.reply.int(i64::from(had));
    Ok(())
}

/// TTL and its relatives: -2 without the key, -1 without a deadline; seconds
/// are rounded to the nearest.
fn remaining(cx: &mut Cx, args: Args, form: TimeForm) -> Done {
    let key = cx.key(args[1]);
    let now = cx.now;
    let reply = match cx.read_untouched(&key).map(|e| e.deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => {
            let ms = if form.absolute { at } else { at.saturating_sub(now) };
            (if form.seconds { (ms + 500) / 1000 } else { ms }) as i64
        }
    };
    cx.reply.int(reply);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn expire_goes_on_as_pexpireat() {
        let mut b = Bench { now: 1_000_000, ..Bench::default() };
        b.run("set k v");
        for (line, passed_on) in [
            ("expire k 100 nx", "PEXPIREAT k 1100000 nx"),
            ("expire k 200 gt", "PEXPIREAT k 1200000 gt"),
            ("EXPIRE k 300 GT xx", "PEXPIREAT k 1300000 GT xx"),
            ("pexpire k 5 lt", "PEXPIREAT k 1000005 lt"),
            ("expireat k 2000", "PEXPIREAT k 2000000"),
            ("pexpireat k 1999999 LT", "pexpireat k 1999999 LT"),
        ] {
            assert_eq!(b.run(line), ":1", "{line}");
            assert_eq!(b.stream, [passed_on]);
            assert_eq!(b.events(), ["expire k"]);
        }
        for line in ["expire k 9 nx", "expire k 9 gt", "pexpireat k 1999999 lt", "expire none 5"] {
            assert_eq!(b.run(line), ":0", "{line}");
            assert!(b.stream.is_empty() && b.events().is_empty());
        }
    }

    #[test]
    fn a_deadline_in_the_past_deletes() {
        let mut b = Bench::default();
        for line in ["expire k -1", "expire k 0", "pexpireat k -5", "expireat k 1", "pexpire k -1"] {
            b.run("set k v");
            assert_eq!(b.run(line), ":1", "{line}");
            assert_eq!(b.stream, ["DEL k"]);
            assert_eq!(b.events(), ["del k"]);
            assert_eq!(b.run("get k"), "$-1");
        }
    }

    #[test]
    fn conditions_without_a_deadline() {
        let mut b = Bench::default();
        b.run("set k v");
        assert_eq!(b.run("expire k 10 xx"), ":0");
        assert_eq!(b.run("expire k 10 gt"), ":0");
        assert_eq!(b.run("expire k 10 lt"), ":1");
        assert_eq!(b.run("persist k"), ":1");
        assert_eq!((b.stream.join("|"), b.events()), ("persist k".into(), vec!["persist k".into()]));
        assert_eq!(b.run("persist k"), ":0");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("persist none"), ":0");
    }

    #[test]
    fn errors_of_expire() {
        let mut b = Bench::default();
        b.run("set k v");
        let nx = "-ERR NX and XX, GT or LT options at the same time are not compatible";
        for (line, error) in [
            ("expire k 1 nx xx", nx),
            ("expire k 1 nx gt", nx),
            ("expire k 1 gt lt", "-ERR GT and LT options at the same time are not compatible"),
            ("expire k 1 NX foo", "-ERR Unsupported option foo"),
            ("expire k abc", "-ERR value is not an integer or out of range"),
            ("expire k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("expire k -9223372036854775808", "-ERR invalid expire time in 'expire' command"),
            ("pexpire k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("expireat k 9223372036854775", "+"),
        ] {
            let reply = b.run(line);
            assert!(reply == error || error == "+" && reply == ":1", "{line}: {reply}");
        }
        assert_eq!(b.run("pexpiretime k"), ":9223372036854775000");
    }

    #[test]
    fn ttl_rounds_to_the_nearest_second() {
        let mut b = Bench { now: 1_000_000, ..Bench::default() };
        b.run("set k v px 1499");
        assert_eq!(b.run("ttl k"), ":1");
        assert_eq!(b.run("pttl k"), ":1499");
        assert_eq!(b.run("expiretime k"), ":1001");
        assert_eq!(b.run("pexpiretime k"), ":1001499");
        b.now += 1000;
        assert_eq!(b.run("ttl k"), ":0");
        b.now += 499;
        assert_eq!(b.run("ttl k"), ":-2");
        assert_eq!((b.stream.join("|"), b.events()), ("DEL k".into(), vec!["expired k".into()]));
        b.run("set k v");
        assert_eq!(b.run("ttl k"), ":-1");
    }
}
