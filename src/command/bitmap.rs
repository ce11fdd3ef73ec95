//! Commands over strings as arrays of bits, the first bit the highest of the
//! first byte.

use super::effect::Class;
use super::fault::{SYNTAX, WRONG_TYPE};
use super::parse::{clamp_loosely, clamp_range, int, is};
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::string_edit::edit;
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::base::slot::Key;

const READ: Spec = Spec {
    flags: flag::READONLY,
    keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)],
    group: Group::Bitmap,
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "setbit",
            syntax: "key#0 offset:int value:int",
            arity: 4,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::one(keyflag::RW | keyflag::ACCESS | keyflag::UPDATE, 1)],
            since: "2.2.0",
            summary: "Sets one bit of a string and returns what it was.",
            ..READ
        },
        run: setbit,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "getbit",
            syntax: "key#0 offset:int",
            arity: 3,
            flags: flag::READONLY | flag::FAST,
            since: "2.2.0",
            summary: "Returns one bit of a string.",
            ..READ
        },
        run: getbit,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bitcount",
            syntax: "key#0 [range(start:int end:int [unit(BYTE|BIT)@7.0.0])]",
            arity: -2,
            since: "2.6.0",
            complexity: "O(N) for N bytes",
            summary: "Counts the set bits of a string or a part of it.",
            ..READ
        },
        run: bitcount,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bitpos",
            syntax: "key#0 bit:int [range(start:int [end-unit-block(end:int [unit(BYTE|BIT)@7.0.0])])]",
            arity: -3,
            since: "2.8.7",
            complexity: "O(N) for N bytes",
            summary: "Finds the first set or clear bit of a string or a part of it.",
            ..READ
        },
        run: bitpos,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "bitop",
            syntax: "operation(AND|OR|XOR|NOT) destkey#0 key#1...",
            arity: -4,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[
                KeySpec::one(keyflag::OW | keyflag::UPDATE, 2),
                KeySpec::range(keyflag::RO | keyflag::ACCESS, 3, -1, 1),
            ],
            since: "2.6.0",
            complexity: "O(N) for N bytes of all sources",
            summary: "Combines strings bit by bit and stores the result.",
            ..READ
        },
        run: bitop,
        across: Across::Gather,
    },
];

const BAD_OFFSET: Fault = Fault::Text("ERR bit offset is not an integer or out of range");

/// A bit offset; what comes after a `#` counts fields of `width` bits.
pub(super) fn offset(cx: &Cx, arg: &[u8], width: Option<u32>) -> Result<usize, Fault> {
    let (digits, unit) = match (arg, width) {
        ([b'#', rest @ ..], Some(w)) => (rest, w),
        _ => (arg, 1),
    };
    let at = parse_i64(digits).and_then(|n| usize::try_from(n).ok()?.checked_mul(unit as usize));
    at.filter(|at| at / 8 < cx.options.proto_max_bulk_len).ok_or(BAD_OFFSET)
}

fn setbit(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let at = offset(cx, args[2], None)?;
    let on = match args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Fault::Text("ERR bit is not an integer or out of range")),
    };
    let mask = 1u8 << (7 - at % 8);
    let (old_len, was) = edit(cx, &key, at / 8 + 1, |bytes| {
        let byte = &mut bytes[at / 8];
        let was = *byte & mask != 0;
        *byte = if on { *byte | mask } else { *byte & !mask };
        was
    })?;
    if was != on || old_len.is_none_or(|len| len <= at / 8) {
        cx.fx.verbatim(1);
        cx.event(Class::String, "setbit", key.bytes);
    }
    cx.reply.int(i64::from(was));
    Ok(())
}

fn getbit(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let at = offset(cx, args[2], None)?;
    let byte = cx.read_string(&key)?.and_then(|s| s.get(at / 8)).copied().unwrap_or(0);
    cx.reply.int(i64::from(byte >> (7 - at % 8) & 1));
    Ok(())
}

/// The part of a string that BITCOUNT and BITPOS look at.
struct Part {
    start: i64,
    end: i64,
    bits: bool,
}

fn in_bits(unit: &[u8]) -> Result<bool, Fault> {
    if is(unit, "bit") || is(unit, "byte") { Ok(is(unit, "bit")) } else { Err(SYNTAX) }
}

type Clamp = fn(i64, i64, usize) -> Option<(usize, usize)>;

impl Part {
    /// First bit and the one after the last, within `len` bytes.
    fn within(&self, len: usize, clamp: Clamp) -> Option<(usize, usize)> {
        let unit = if self.bits { 1 } else { 8 };
        let (from, to) = clamp(self.start, self.end, len * 8 / unit)?;
        Some((from * unit, (to + 1) * unit))
    }
}

/// All of a string.
const ALL: Part = Part { start: 0, end: -1, bits: false };

fn bitcount(cx: &mut Cx, args: Args) -> Done {
    let part = match args.len() {
        2 => ALL,
        4 | 5 => {
            Part { start: int(args[2])?, end: int(args[3])?, bits: args.get(4).map_or(Ok(false), |u| in_bits(u))? }
        }
        _ => return Err(SYNTAX),
    };
    let key = cx.key(args[1]);
    let Some(bytes) = cx.read_string(&key)? else {
        cx.reply.int(0);
        return Ok(());
    };
    let n = part.within(bytes.len(), clamp_range).map_or(0, |(from, to)| count_bits(bytes, from, to));
    cx.reply.int(n as i64);
    Ok(())
}

/// Number of set bits from bit `from` to before bit `to`.
fn count_bits(bytes: &[u8], from: usize, to: usize) -> u64 {
    let covering = &bytes[from / 8..to.div_ceil(8)];
    let before = covering[0] & !(0xFF >> (from % 8));
    let after = if to.is_multiple_of(8) { 0 } else { covering[covering.len() - 1] & (0xFF >> (to % 8)) };
    population(covering) - u64::from(before.count_ones()) - u64::from(after.count_ones())
}

/// Number of set bits.
fn population(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= 64 && std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has the features.
        return unsafe { population_avx2(bytes) };
    }
    population_words(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn population_avx2(bytes: &[u8]) -> u64 {
    population_words(bytes)
}

/// Compiled once for any processor and once for those with vector instructions.
#[inline(always)]
fn population_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole: u64 = words.iter().map(|w| u64::from(u64::from_ne_bytes(*w).count_ones())).sum();
    whole + rest.iter().map(|b| u64::from(b.count_ones())).sum::<u64>()
}

fn bitpos(cx: &mut Cx, args: Args) -> Done {
    let bit = match int(args[2])? {
        0 => false,
        1 => true,
        _ => return Err(Fault::Text("ERR The bit argument must be 1 or 0.")),
    };
    let part = match args.len() {
        3 => ALL,
        // Which of several mistakes is named depends on this order.
        4..=6 => Part {
            start: int(args[3])?,
            bits: args.get(5).map_or(Ok(false), |u| in_bits(u))?,
            end: args.get(4).map_or(Ok(-1), |e| int(e))?,
        },
        _ => return Err(SYNTAX),
    };
    let key = cx.key(args[1]);
    let Some(bytes) = cx.read_string(&key)? else {
        cx.reply.int(-i64::from(bit));
        return Ok(());
    };
    let position = part.within(bytes.len(), clamp_loosely).and_then(|(from, to)| {
        // Without a given end, a string is followed by clear bits for ever.
        let beyond = (!bit && args.len() < 5).then_some(to);
        first_bit(bytes, bit, from, to).or(beyond)
    });
    cx.reply.int(position.map_or(-1, |p| p as i64));
    Ok(())
}

/// The first bit that is `bit`, from bit `from` to before bit `to`.
fn first_bit(bytes: &[u8], bit: bool, from: usize, to: usize) -> Option<usize> {
    // Clear bits are looked for as set bits of the complement.
    let flip = if bit { 0 } else { 0xFF };
    let first = (bytes[from / 8] ^ flip) & (0xFF >> (from % 8));
    let at = if first != 0 {
        from / 8 * 8 + first.leading_zeros() as usize
    } else {
        let start = from / 8 + 1;
        let rest = bytes.get(start..to.div_ceil(8))?;
        let byte = start + first_byte_other_than(rest, flip)?;
        byte * 8 + (bytes[byte] ^ flip).leading_zeros() as usize
    };
    (at < to).then_some(at)
}

fn first_byte_other_than(bytes: &[u8], dull: u8) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let skipped = words.iter().take_while(|w| u64::from_ne_bytes(**w) == u64::from_ne_bytes([dull; 8])).count() * 8;
    bytes[skipped..].iter().position(|&b| b != dull).map(|i| skipped + i)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    Xor,
    Not,
}

impl Operator {
    fn parse(word: &[u8]) -> Result<Operator, Fault> {
        let all = [("and", Operator::And), ("or", Operator::Or), ("xor", Operator::Xor), ("not", Operator::Not)];
        all.into_iter().find(|&(name, _)| is(word, name)).map(|(_, op)| op).ok_or(SYNTAX)
    }

    /// Of the first source alone, written once: it may be long.
    fn begin(self, source: &[u8]) -> Vec<u8> {
        if self == Operator::Not { source.iter().map(|s| !s).collect() } else { source.to_vec() }
    }

    /// Takes one more source in. Shorter strings count as followed by zeros.
    fn apply(self, sum: &mut Vec<u8>, source: &[u8]) {
        if sum.len() < source.len() {
            sum.resize(source.len(), 0);
        }
        let (common, tail) = sum.split_at_mut(source.len());
        let pairs = common.iter_mut().zip(source);
        match self {
            Operator::And => {
                pairs.for_each(|(d, s)| *d &= s);
                tail.fill(0);
            }
            Operator::Or => pairs.for_each(|(d, s)| *d |= s),
            Operator::Xor => pairs.for_each(|(d, s)| *d ^= s),
            Operator::Not => {}
        }
    }
}

fn bitop(cx: &mut Cx, args: Args) -> Done {
    let op = Operator::parse(args[1])?;
    if op == Operator::Not && args.len() != 4 {
        return Err(Fault::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let mut result = Vec::new();
    for (i, arg) in args[3..].iter().enumerate() {
        let key = cx.key(arg);
        let source = match cx.read(&key) {
            Some(e) => e.as_str().ok_or(WRONG_TYPE)?,
            None => b"",
        };
        if i == 0 {
            result = op.begin(source);
        } else {
            op.apply(&mut result, source);
        }
    }
    let target = cx.key(args[2]);
    cx.reply.int(result.len() as i64);
    store_result(cx, &target, result);
    Ok(())
}

/// Puts the result in place; an empty one deletes the key.
fn store_result(cx: &mut Cx, target: &Key, result: Vec<u8>) {
    if !result.is_empty() {
        cx.take_string(target, result);
        if let Some(e) = cx.store.get_mut(cx.db, target) {
            e.mark_raw();
        }
        cx.fx.verbatim(1);
        cx.event(Class::String, "set", target.bytes);
    } else if cx.delete(target) {
        cx.fx.verbatim(1);
        cx.event(Class::Generic, "del", target.bytes);
    }
}

#[cfg(test)]
#[path = "bitmap_tests.rs"]
mod tests;
