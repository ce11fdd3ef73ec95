//! Commands over strings that are numbers.

use super::cx::Ttl;
use super::effect::Class;
use super::fault::{NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, WRONG_TYPE};
use super::parse::int;
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::longdouble::LongDouble;
use crate::base::num::parse_i64;

const ROW: Spec = Spec {
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE, 1)],
    group: Group::String,
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "incr",
            syntax: "key#0",
            arity: 2,
            summary: "Adds one to an integer; a missing one is 0.",
            ..ROW
        },
        run: |cx, args| add(cx, args[1], 1),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "decr",
            syntax: "key#0",
            arity: 2,
            summary: "Takes one from an integer; a missing one is 0.",
            ..ROW
        },
        run: |cx, args| add(cx, args[1], -1),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "incrby",
            syntax: "key#0 increment:int",
            arity: 3,
            summary: "Adds a number to an integer.",
            ..ROW
        },
        run: |cx, args| add(cx, args[1], int(args[2])?),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "decrby",
            syntax: "key#0 decrement:int",
            arity: 3,
            summary: "Takes a number from an integer.",
            ..ROW
        },
        run: decrby,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "incrbyfloat",
            syntax: "key#0 increment:double",
            arity: 3,
            since: "2.6.0",
            summary: "Adds to a decimal fraction.",
            ..ROW
        },
        run: incrbyfloat,
        across: Across::Gather,
    },
];

#[inline]
fn add(cx: &mut Cx, key: &[u8], n: i64) -> Done {
    let key = cx.key(key);
    let mut digits = itoa::Buffer::new();
    let sum = match cx.find(&key) {
        Some(e) => {
            let old = parse_i64(e.as_str().ok_or(WRONG_TYPE)?).ok_or(NOT_AN_INTEGER)?;
            let sum = old.checked_add(n).ok_or(OVERFLOW)?;
            e.set_string(digits.format(sum).as_bytes());
            sum
        }
        None => {
            cx.set_string(&key, digits.format(n).as_bytes(), Ttl::Clear);
            n
        }
    };
    cx.fx.verbatim(1);
    cx.event(Class::String, "incrby", key.bytes);
    cx.reply.int(sum);
    Ok(())
}

fn decrby(cx: &mut Cx, args: Args) -> Done {
    let n = int(args[2])?.checked_neg().ok_or(Fault::Text("ERR decrement would overflow"))?;
    add(cx, args[1], n)
}

fn incrbyfloat(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let old = match cx.find(&key) {
        Some(e) => LongDouble::parse(e.as_str().ok_or(WRONG_TYPE)?).ok_or(NOT_A_FLOAT)?,
        None => LongDouble::ZERO,
    };
    let step = LongDouble::parse(args[2]).ok_or(NOT_A_FLOAT)?;
    let sum = old.plus(step).filter(LongDouble::is_finite);
    let text = sum.ok_or(Fault::Text("ERR increment would produce NaN or Infinity"))?.to_string();
    cx.set_string(&key, text.as_bytes(), Ttl::Keep);
    cx.fx.rewrite(1, &[b"SET", key.bytes, text.as_bytes(), b"KEEPTTL"]);
    cx.event(Class::String, "incrbyfloat", key.bytes);
    cx.reply.bulk(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn integers_count() {
        let mut b = Bench::default();
        assert_eq!(b.run("incr k"), ":1");
        assert_eq!((b.stream.join("|"), b.events()), ("incr k".into(), vec!["incrby k".into()]));
        b.run("expire k 100");
        assert_eq!(b.run("incrby k 9"), ":10");
        assert_eq!(b.run("decr k"), ":9");
        assert_eq!(b.run("decrby k 10"), ":-1");
        assert_eq!(b.run("ttl k"), ":100");
        assert_eq!(b.run("get k"), "$2 -1");
    }

    #[test]
    fn integers_do_not_overflow() {
        let mut b = Bench::default();
        b.run("set k 9223372036854775807");
        assert_eq!(b.run("incr k"), "-ERR increment or decrement would overflow");
        assert_eq!(b.run("decrby k -1"), "-ERR increment or decrement would overflow");
        assert_eq!(b.run("decrby k -9223372036854775808"), "-ERR decrement would overflow");
        assert_eq!(b.run("incrby k x"), "-ERR value is not an integer or out of range");
        assert!(b.stream.is_empty() && b.events.is_empty());
        b.run("set k ' 1'");
        assert_eq!(b.run("incr k"), "-ERR value is not an integer or out of range");
    }

    #[test]
    fn fractions_go_on_as_their_sum() {
        let mut b = Bench::default();
        assert_eq!(b.run("incrbyfloat k 1.5"), "$3 1.5");
        assert_eq!(b.stream, ["SET k 1.5 KEEPTTL"]);
        assert_eq!(b.events(), ["incrbyfloat k"]);
        b.run("expire k 100");
        assert_eq!(b.run("incrbyfloat k 3.7"), "$3 5.2");
        assert_eq!(b.run("ttl k"), ":100");
        assert_eq!(b.run("incrbyfloat k x"), "-ERR value is not a valid float");
        assert_eq!(b.run("incrbyfloat k nan"), "-ERR value is not a valid float");
        assert_eq!(b.run("incrbyfloat k -inf"), "-ERR increment would produce NaN or Infinity");
        b.run("set k x");
        assert_eq!(b.run("incrbyfloat k 1"), "-ERR value is not a valid float");
    }
}
