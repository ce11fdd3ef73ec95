//! BITFIELD: integers of any width at any bit of a string.

use super::bitmap::offset;
use super::effect::Class;
use super::fault::{SYNTAX, WRONG_TYPE};
use super::parse::{int, is};
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::string_edit::{edit, length};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::base::slot::Key;
use crate::store::entry::Entry;

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "bitfield",
            syntax: "key#0 [operation(GET get-block(encoding offset:int)|write([OVERFLOW \
                overflow-block(WRAP|SAT|FAIL)] write-operation(SET set-block(encoding offset:int value:int)|INCRBY \
                incrby-block(encoding offset:int increment:int))))...]",
            arity: -2,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE | keyflag::VARIABLE_FLAGS, 1)],
            group: Group::Bitmap,
            since: "3.2.0",
            complexity: "O(1) for each operation",
            summary: "Reads, sets and counts integers of chosen widths within a string.",
            ..Spec::DEFAULT
        },
        run: bitfield,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bitfield_ro",
            syntax: "key#0 [GET... get-block(encoding offset:int)]",
            arity: -2,
            flags: flag::READONLY | flag::FAST,
            keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)],
            group: Group::Bitmap,
            since: "6.0.0",
            complexity: "O(1) for each operation",
            summary: "Reads integers of chosen widths within a string.",
            ..Spec::DEFAULT
        },
        run: bitfield_ro,
        across: Across::Gather,
    },
];

/// Width and signedness of a field.
#[derive(Clone, Copy)]
struct Kind {
    signed: bool,
    bits: u32,
}

impl Kind {
    fn parse(word: &[u8]) -> Result<Kind, Fault> {
        let (signed, digits, max) = match word {
            [b'i', d @ ..] => (true, d, 64),
            [b'u', d @ ..] => (false, d, 63),
            _ => (true, &b""[..], 0),
        };
        let bits = parse_i64(digits).filter(|n| (1..=max).contains(n));
        let text = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        bits.map(|bits| Kind { signed, bits: bits as u32 }).ok_or(Fault::Text(text))
    }

    fn range(self) -> (i128, i128) {
        if self.signed { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) }
    }

    /// The value that the lowest bits of `v` stand for.
    fn wrapped(self, v: i128) -> i128 {
        let low = v & ((1 << self.bits) - 1);
        if self.signed && low >> (self.bits - 1) != 0 { low - (1 << self.bits) } else { low }
    }

    fn get(self, bytes: &[u8], at: usize) -> i128 {
        self.wrapped((window(bytes, at / 8) >> (80 - self.bits as usize - at % 8)) as i128)
    }

    fn set(self, bytes: &mut [u8], at: usize, v: i128) {
        let shift = 80 - self.bits as usize - at % 8;
        let mask = ((1u128 << self.bits) - 1) << shift;
        let fresh = window(bytes, at / 8) & !mask | (v as u128) << shift & mask;
        for (b, i) in bytes[at / 8..].iter_mut().zip(0..10) {
            *b = (fresh >> (72 - 8 * i)) as u8;
        }
    }
}

/// The ten bytes from `from` on, as one number; zeros beyond the end. Any
/// field lies within the ten bytes from its first one.
fn window(bytes: &[u8], from: usize) -> u128 {
    let byte = |i| bytes.get(from + i).copied().unwrap_or(0);
    (0..10).fold(0, |w, i| w << 8 | u128::from(byte(i)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

impl Overflow {
    fn parse(word: &[u8]) -> Result<Overflow, Fault> {
        let all = [("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];
        let found = all.into_iter().find(|&(name, _)| is(word, name));
        found.map(|(_, o)| o).ok_or(Fault::Text("ERR Invalid OVERFLOW type specified"))
    }

    /// What of `v` goes into the field; `None` if nothing does. (Redis 7.0
    /// saturates a SET of values near -2^63 to the wrong end; here they go to
    /// the lowest value.)
    fn fit(self, v: i128, kind: Kind) -> Option<i128> {
        let (min, max) = kind.range();
        match self {
            _ if (min..=max).contains(&v) => Some(v),
            Overflow::Wrap => Some(kind.wrapped(v)),
            Overflow::Saturate => Some(v.clamp(min, max)),
            Overflow::Fail => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

struct Operation {
    kind: Kind,
    at: usize,
    action: Action,
}

impl Operation {
    /// The value to store for SET and INCRBY.
    fn result(&self, old: i128) -> Option<i128> {
        match self.action {
            Action::Get => Some(old),
            // An unsigned field takes the 64 bits of the argument as unsigned.
            Action::Set(v, overflow) if !self.kind.signed => overflow.fit(i128::from(v as u64), self.kind),
            Action::Set(v, overflow) => overflow.fit(i128::from(v), self.kind),
            Action::Add(v, overflow) => overflow.fit(old + i128::from(v), self.kind),
        }
    }

    fn end(&self) -> usize {
        (self.at + self.kind.bits as usize).div_ceil(8)
    }
}

fn parse(cx: &Cx, words: Args) -> Result<Vec<Operation>, Fault> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut i = 0;
    while i < words.len() {
        let left = words.len() - i - 1;
        let word = words[i];
        if is(word, "overflow") && left >= 1 {
            overflow = Overflow::parse(words[i + 1])?;
            i += 2;
            continue;
        }
        let operands = match word {
            w if is(w, "get") => 2,
            w if is(w, "set") || is(w, "incrby") => 3,
            _ => return Err(SYNTAX),
        };
        if left < operands {
            return Err(SYNTAX);
        }
        let kind = Kind::parse(words[i + 1])?;
        let at = offset(cx, words[i + 2], Some(kind.bits))?;
        let action = match operands {
            2 => Action::Get,
            _ if is(word, "set") => Action::Set(int(words[i + 3])?, overflow),
            _ => Action::Add(int(words[i + 3])?, overflow),
        };
        operations.push(Operation { kind, at, action });
        i += operands + 1;
    }
    Ok(operations)
}

fn bitfield_ro(cx: &mut Cx, args: Args) -> Done {
    let operations = parse(cx, &args[2..])?;
    if operations.iter().any(|o| !matches!(o.action, Action::Get)) {
        return Err(Fault::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(cx, args, &operations)
}

fn bitfield(cx: &mut Cx, args: Args) -> Done {
    let operations = parse(cx, &args[2..])?;
    if operations.iter().all(|o| matches!(o.action, Action::Get)) {
        return read_fields(cx, args, &operations);
    }
    let key = cx.key(args[1]);
    let old_len = length(cx, &key)?;
    cx.reply.array(operations.len());
    let changes = change_fields(cx, &key, &operations, old_len)?;
    if changes > 0 {
        cx.fx.verbatim(changes);
        cx.event(Class::String, "setbit", key.bytes);
    }
    Ok(())
}

fn read_fields(cx: &mut Cx, args: Args, operations: &[Operation]) -> Done {
    let key = cx.key(args[1]);
    let (entry, rest) = cx.read_apart(&key);
    let bytes = match entry {
        Some(e) => e.as_str().ok_or(WRONG_TYPE)?,
        None => b"",
    };
    rest.reply.array(operations.len());
    operations.iter().for_each(|o| rest.reply.int(o.kind.get(bytes, o.at) as i64));
    Ok(())
}

/// Runs the operations on the string, lengthened to the end of all fields to
/// be written: as in Redis, even when OVERFLOW FAIL lets no write through. (It
/// does not tell its replicas so then; here that is a change like others.)
fn change_fields(cx: &mut Cx, key: &Key, operations: &[Operation], old_len: Option<usize>) -> Result<u64, Fault> {
    let writes = operations.iter().filter(|o| !matches!(o.action, Action::Get));
    let end = writes.map(Operation::end).max().unwrap_or(0);
    let grows = old_len.is_none_or(|len| len < end);
    if !grows {
        let (entry, rest) = cx.find_apart(key);
        let change = |e: &mut Entry| e.edit_string(end, |bytes| run(operations, bytes, false, rest.reply));
        return Ok(entry.map_or(0, change));
    }
    let mut bytes = match cx.store.get(cx.db, key) {
        Some(e) => e.as_str().unwrap_or_default().to_vec(),
        None => Vec::new(),
    };
    bytes.resize(end, 0);
    let changes = run(operations, &mut bytes, true, &mut cx.reply);
    edit(cx, key, end, |b| b.copy_from_slice(&bytes))?;
    Ok(changes.max(1))
}

/// Replies each operation and returns the number of changes; a write counts
/// as one if it changes its field or if the string `grew`.
fn run(operations: &[Operation], bytes: &mut [u8], grew: bool, reply: &mut crate::resp::Reply) -> u64 {
    let mut changes = 0;
    for o in operations {
        let old = o.kind.get(bytes, o.at);
        let Some(fresh) = o.result(old) else {
            reply.null();
            continue;
        };
        if !matches!(o.action, Action::Get) {
            o.kind.set(bytes, o.at, fresh);
            changes += u64::from(grew || old != fresh);
        }
        reply.int(if matches!(o.action, Action::Set(..)) { old } else { fresh } as i64);
    }
    changes
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn fields_are_set_counted_and_read() {
        let mut b = Bench::default();
        b.run("set a 9223372036854775823");
        let line = "bitfield a get u8 0 set i8 0 -1 get i8 0 incrby u4 1 3";
        assert_eq!(b.run(line), "*4 :57 :57 :-1 :2");
        assert_eq!((b.stream.clone(), b.events(), b.dirty), (vec![line.into()], vec!["setbit a".into()], 2));
        let sat = "bitfield q overflow sat set u4 0 -1 set i4 4 100 set i4 4 -100 incrby u4 0 -20 overflow wrap incrby i4 0 -9";
        assert_eq!(b.run(sat), "*5 :0 :0 :7 :0 :7");
        assert_eq!(b.dirty, 5);
        assert_eq!(b.run("bitfield q overflow fail set u4 0 20 set i4 0 3"), "*2 $-1 :7");
        assert_eq!(b.dirty, 1);
        let wide = "bitfield q set i64 0 -1 overflow fail incrby i64 0 -9223372036854775808 incrby i64 0 5";
        assert_eq!(b.run(wide), "*3 :4035225266123964416 $-1 :4");
        assert_eq!(b.run("bitfield q get i64 #0 get u63 1 get i8 #7"), "*3 :4 :4 :4");
    }

    #[test]
    fn only_what_changes_goes_on() {
        let mut b = Bench::default();
        assert_eq!(b.run("bitfield k get u8 0"), "*1 :0");
        assert!(b.stream.is_empty());
        b.run("bitfield k set u8 0 0");
        assert_eq!(b.stream, ["bitfield k set u8 0 0"]);
        b.run("bitfield k set u8 0 0");
        assert!(b.stream.is_empty() && b.events.is_empty());
        let fails = "bitfield k overflow fail incrby u2 100 5";
        assert_eq!(b.run(fails), "*1 $-1");
        assert_eq!(b.stream, [fails], "the string has grown");
        assert_eq!(b.run("strlen k"), ":13");
        assert_eq!(b.run(fails), "*1 $-1");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("bitfield k"), "*0");
        assert_eq!(b.run("bitfield none overflow sat"), "*0");
        assert_eq!(b.run("exists none"), ":0");
    }

    #[test]
    fn errors_of_bitfield() {
        let mut b = Bench::default();
        let kind = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        let offset = "-ERR bit offset is not an integer or out of range";
        for (line, want) in [
            ("bitfield a foo", "-ERR syntax error"),
            ("bitfield a get u64 0", kind),
            ("bitfield a get i65 0", kind),
            ("bitfield a get i0 0", kind),
            ("bitfield a get x8 0", kind),
            ("bitfield a get u8", "-ERR syntax error"),
            ("bitfield a overflow", "-ERR syntax error"),
            ("bitfield a get u8 #x", offset),
            ("bitfield a get u8 #99999999999", offset),
            ("bitfield a get u8 -1", offset),
            ("bitfield a overflow foo", "-ERR Invalid OVERFLOW type specified"),
            ("bitfield a set u8 0 x", "-ERR value is not an integer or out of range"),
            ("bitfield_ro a set u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
            ("bitfield_ro a overflow wrap get u8 0", "*1 :0"),
        ] {
            assert_eq!(b.run(line), want, "{line}");
        }
    }
}
