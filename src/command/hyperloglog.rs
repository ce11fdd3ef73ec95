//! HyperLogLog: PFADD, PFCOUNT, PFMERGE, and what looks inside.

use super::cx::Ttl;
use super::effect::Class;
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::slot::Key;
use crate::store::entry::Entry;
use crate::store::hll::{self, Corrupt};

const RW: u32 = keyflag::RW;
const ROW: Spec = Spec { group: Group::HyperLogLog, since: "2.8.9", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "pfadd",
            syntax: "key#0 [element...]",
            arity: -2,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: &[KeySpec::one(RW | keyflag::INSERT, 1)],
            complexity: "O(1) per element",
            summary: "Adds elements to a HyperLogLog, made if missing.",
            ..ROW
        },
        run: pfadd,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pfcount",
            syntax: "key#0...",
            arity: -2,
            flags: flag::READONLY | flag::MAY_REPLICATE,
            keys: &[KeySpec::range(RW | keyflag::ACCESS, 1, -1, 1)],
            complexity: "O(1), and O(n) for the union of n",
            summary: "Estimates how many elements a HyperLogLog, or the union of several, has.",
            ..ROW
        },
        run: pfcount,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pfmerge",
            syntax: "destkey#0 [sourcekey#1...]",
            arity: -2,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[
                KeySpec::one(RW | keyflag::ACCESS | keyflag::INSERT, 1),
                KeySpec::range(keyflag::RO | keyflag::ACCESS, 2, -1, 1),
            ],
            complexity: "O(n) for n sketches",
            summary: "Makes a HyperLogLog the union of itself and others.",
            ..ROW
        },
        run: pfmerge,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pfdebug",
            syntax: "subcommand key#0",
            arity: 3,
            flags: flag::WRITE | flag::DENYOOM | flag::ADMIN,
            keys: &[KeySpec::one(RW | keyflag::ACCESS, 2)],
            complexity: "O(n) for n registers",
            summary: "Shows a HyperLogLog from the inside, for debugging.",
            ..ROW
        },
        run: pfdebug,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "pfselftest",
            arity: 1,
            flags: flag::ADMIN,
            complexity: "O(1)",
            summary: "Checks the registers and the estimate of the implementation.",
            ..ROW
        },
        run: pfselftest,
        across: Across::Gather,
    },
];

const NO_SKETCH: Fault = Fault::Text("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPT: Fault = Fault::Text("INVALIDOBJ Corrupted HLL object detected");

impl From<Corrupt> for Fault {
    fn from(_: Corrupt) -> Fault {
        CORRUPT
    }
}

/// The bytes of a sketch.
fn sketch(entry: &Entry) -> Result<&[u8], Fault> {
    let s = entry.as_str().ok_or(super::fault::WRONG_TYPE)?;
    if hll::is_sketch(s) { Ok(s) } else { Err(NO_SKETCH) }
}

/// Puts a changed sketch back; what follows for the key is the caller's.
fn put(cx: &mut Cx, key: &Key, bytes: Vec<u8>) {
    match cx.store.get_mut(cx.db, key) {
        Some(entry) => entry.set_boxed_string(bytes),
        None => cx.set_string(key, &bytes, Ttl::Clear),
    }
    // However short, it is a string to be edited in place.
    if let Some(entry) = cx.store.get_mut(cx.db, key) {
        entry.mark_raw();
    }
}

/// The sketch at a key that is about to be edited in place: what was restored
/// or set as a short string is `raw` from now on, even if nothing changes.
fn sketch_to_edit<'a>(cx: &'a mut Cx, key: &Key) -> Result<Option<&'a mut Entry>, Fault> {
    let Some(entry) = cx.find(key) else { return Ok(None) };
    sketch(entry)?;
    entry.mark_raw();
    Ok(Some(entry))
}

fn pfadd(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let sparse_max = cx.options.hll_sparse_max_bytes;
    let elements = args[2..].iter().map(|e| hll::place(e));
    let mut changed = 0;
    let found = sketch_to_edit(cx, &key)?;
    let made = found.is_none();
    match found {
        Some(entry) if hll::is_dense(sketch(entry)?) => {
            let raised = |s: &mut [u8]| {
                let n = elements.filter(|&(i, rank)| hll::dense_raise(s, i, rank)).count();
                if n > 0 {
                    hll::forget_cached(s);
                }
                n
            };
            changed = entry.edit_string(0, raised) as u64;
        }
        found => {
            let mut bytes = found.map_or_else(|| Ok(hll::create()), |e| sketch(e).map(<[u8]>::to_vec))?;
            for (i, rank) in elements {
                changed += u64::from(hll::raise(&mut bytes, i, rank, sparse_max)?);
            }
            if changed > 0 || made {
                hll::forget_cached(&mut bytes);
                put(cx, &key, bytes);
            }
        }
    }
    changed += u64::from(made);
    cx.reply.int(i64::from(changed > 0));
    if changed > 0 {
        cx.fx.verbatim(changed);
        cx.event(Class::String, "pfadd", key.bytes);
    }
    Ok(())
}

fn pfcount(cx: &mut Cx, args: Args) -> Done {
    if args.len() > 2 {
        let mut max = hll::no_registers();
        for k in &args[1..] {
            let key = cx.key(k);
            if let Some(e) = cx.read(&key) {
                hll::merge_into(&mut max, sketch(e)?)?;
            }
        }
        cx.reply.int(hll::count_raw(&max) as i64);
        return Ok(());
    }
    let key = cx.key(args[1]);
    let Some(entry) = cx.read(&key) else {
        cx.reply.int(0);
        return Ok(());
    };
    let s = sketch(entry)?;
    let cached = hll::cached(s);
    if let (Some(n), true) = (cached, entry.raw()) {
        cx.reply.int(n as i64);
        return Ok(());
    }
    let counted = cached.map_or_else(|| hll::count(s), Ok);
    let edited = sketch_to_edit(cx, &key)?;
    let n = counted?;
    if let Some(entry) = edited.filter(|_| cached.is_none()) {
        entry.edit_string(0, |s| hll::set_cached(s, n));
    }
    cx.reply.int(n as i64);
    if cached.is_some() {
        return Ok(());
    }
    // The count that is kept in the string is a change of it, silent but passed on.
    cx.fx.verbatim(1);
    cx.event(Class::Silent, "pfcount", key.bytes);
    Ok(())
}

fn pfmerge(cx: &mut Cx, args: Args) -> Done {
    let mut max = hll::no_registers();
    let mut dense = false;
    for k in &args[1..] {
        let key = cx.key(k);
        if let Some(e) = cx.read(&key) {
            let s = sketch(e)?;
            dense |= hll::is_dense(s);
            hll::merge_into(&mut max, s)?;
        }
    }
    let key = cx.key(args[1]);
    let mut bytes = cx.find(&key).map_or_else(|| Ok(hll::create()), |e| sketch(e).map(<[u8]>::to_vec))?;
    if dense {
        bytes = hll::to_dense(&bytes)?;
    }
    let sparse_max = cx.options.hll_sparse_max_bytes;
    for (i, value) in max.iter().enumerate().filter(|(_, v)| **v > 0) {
        hll::raise(&mut bytes, i, *value, sparse_max)?;
    }
    hll::forget_cached(&mut bytes);
    put(cx, &key, bytes);
    cx.reply.ok();
    cx.fx.verbatim(1);
    cx.event(Class::String, "pfadd", key.bytes);
    Ok(())
}

/// The runs of a sparse sketch as words: `z` and `Z` for zeros, `v` for values.
fn decoded(s: &[u8]) -> String {
    let words = hll::runs(s).map(|run| match run {
        hll::Run { value: 0, bytes: 1, len } => format!("z:{len}"),
        hll::Run { value: 0, len, .. } => format!("Z:{len}"),
        hll::Run { value, len, .. } => format!("v:{value},{len}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn pfdebug(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[2]);
    let entry = sketch_to_edit(cx, &key)?.ok_or(Fault::Text("ERR The specified key does not exist"))?;
    let s = sketch(entry)?.to_vec();
    let convert = |cx: &mut Cx| -> Result<(), Fault> {
        let dense = hll::to_dense(&s)?;
        put(cx, &key, dense);
        cx.fx.verbatim(1);
        Ok(())
    };
    match args[1].to_ascii_lowercase().as_slice() {
        b"getreg" => {
            let dense = hll::to_dense(&s)?;
            if !hll::is_dense(&s) {
                convert(cx)?;
            }
            let all: Vec<u8> = hll::registers(&dense).collect();
            cx.reply.array(all.len());
            all.iter().for_each(|r| cx.reply.int(i64::from(*r)));
        }
        b"decode" if hll::is_dense(&s) => return Err(Fault::Text("ERR HLL encoding is not sparse")),
        b"decode" => cx.reply.bulk(decoded(&s).as_bytes()),
        b"encoding" => cx.reply.simple(if hll::is_dense(&s) { "dense" } else { "sparse" }),
        b"todense" => {
            let sparse = !hll::is_dense(&s);
            if sparse {
                convert(cx)?;
            }
            cx.reply.int(i64::from(sparse));
        }
        _ => {
            return Err(Fault::with_words(&[b"ERR Unknown PFDEBUG subcommand '", args[1], b"'"]));
        }
    }
    Ok(())
}

/// Counts known numbers of elements in both forms; the error must stay within
/// what the method promises (six standard deviations).
fn pfselftest(cx: &mut Cx, _: Args) -> Done {
    const STANDARD_ERROR: f64 = 1.04 / 128.0;
    let (mut sparse, mut dense) = (hll::create(), hll::to_dense(&hll::create())?);
    for n in 1..=20_000u64 {
        let (i, rank) = hll::place(&n.to_le_bytes());
        let raised = hll::dense_raise(&mut dense, i, rank);
        if n <= 1000 && hll::raise(&mut sparse, i, rank, usize::MAX)? != raised {
            return Err(Fault::Text("ERR TESTFAILED sparse and dense registers disagree"));
        }
        if n.is_power_of_two() || n == 20_000 {
            let counted = hll::count(&dense)?;
            let error = counted.abs_diff(n) as f64;
            if error > (6.0 * STANDARD_ERROR * n as f64).max(1.0) {
                return Err(Fault::from(format!("ERR TESTFAILED {n} elements are counted as {counted}")));
            }
        }
    }
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn elements_are_counted() {
        let mut b = Bench::default();
        for (line, want) in [
            ("pfadd a", ":1"),
            ("pfadd a", ":0"),
            ("pfadd a x y z", ":1"),
            ("pfadd a x", ":0"),
            ("pfcount a", ":3"),
            ("pfadd b z w", ":1"),
            ("pfcount a b none", ":4"),
            ("pfmerge c a b", "+OK"),
            ("pfcount c", ":4"),
            ("pfcount none", ":0"),
            ("pfdebug encoding c", "+sparse"),
            ("pfdebug todense c", ":1"),
            ("pfdebug todense c", ":0"),
            ("pfdebug decode c", "-ERR HLL encoding is not sparse"),
            ("pfmerge a c", "+OK"),
            ("pfdebug encoding a", "+dense"),
            ("pfcount a", ":4"),
            ("pfdebug foo a", "-ERR Unknown PFDEBUG subcommand 'foo'"),
            ("pfdebug encoding none", "-ERR The specified key does not exist"),
            ("pfselftest", "+OK"),
            ("set s foo", "+OK"),
            ("pfadd s x", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("rpush l x", ":1"),
            ("pfcount l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ] {
            assert_eq!(b.run(line), want, "{line}");
        }
    }

    #[test]
    fn counting_is_passed_on_once() {
        let mut b = Bench::default();
        b.run("pfadd h a b");
        assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("pfadd h a b".into(), vec!["pfadd h".into()], 3));
        b.run("pfcount h");
        assert_eq!((b.stream.join("|"), b.events().len()), ("pfcount h".into(), 0));
        b.run("pfcount h");
        assert_eq!(b.stream.len(), 0);
        b.run("pfadd h a");
        assert_eq!((b.stream.len(), b.dirty), (0, 0));
    }

    /// A sketch short enough to be restored in one piece with its header became
    /// `raw` in Redis by whatever might change it, and stayed `embstr` here.
    #[test]
    fn what_may_change_a_sketch_makes_it_raw() {
        for line in ["pfadd h", "pfcount h", "pfdebug encoding h", "pfmerge h"] {
            let mut b = Bench::default();
            b.run("pfadd h");
            let reply = b.raw(&[b"get", b"h"]);
            let sketch = reply.strip_prefix(b"$18\r\n").and_then(|s| s.strip_suffix(b"\r\n"));
            b.raw(&[b"set", b"h", sketch.expect("an empty sketch")]);
            assert_eq!(b.run("object encoding h"), "$6 embstr");
            b.run(line);
            assert_eq!(b.run("object encoding h"), "$3 raw", "{line}");
        }
    }

    /// The sparse form that redis-server 7.0.15 has after the same command.
    #[test]
    fn sparse_bytes_are_those_of_redis() {
        let mut b = Bench::default();
        b.run("pfadd h a b c d e f g");
        let want = "$93 Z:1646 v:1,1 Z:5645 v:1,1\
            \x20Z:1085 v:2,1 z:57 v:1,1 Z:4274 v:2,1 Z:2445 v:1,1 Z:622 v:1,1 Z:603";
        assert_eq!(b.run("pfdebug decode h"), want);
    }
}
