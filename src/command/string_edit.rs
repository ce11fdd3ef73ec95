//! Commands over parts of strings.

use super::cx::Ttl;
use super::effect::Class;
use super::fault::{OFFSET_OUT_OF_RANGE, STRING_TOO_LONG, WRONG_TYPE};
use super::parse::{clamp_range, int};
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done, Fault};
use crate::base::Args;
use crate::base::slot::Key;

const RANGE: Spec = Spec {
    arity: 4,
    flags: flag::READONLY,
    keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)],
    group: Group::String,
    complexity: "O(N) for N bytes returned",
    ..Spec::DEFAULT
};

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "append",
            syntax: "key#0 value",
            arity: 3,
            flags: flag::WRITE | flag::DENYOOM | flag::FAST,
            keys: &[KeySpec::one(keyflag::RW | keyflag::INSERT, 1)],
            group: Group::String,
            since: "2.0.0",
            complexity: "O(1) amortised",
            summary: "Lengthens a string at its end, or makes it.",
            ..Spec::DEFAULT
        },
        run: append,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "strlen",
            syntax: "key#0",
            arity: 2,
            flags: flag::READONLY | flag::FAST,
            keys: &[KeySpec::one(keyflag::RO, 1)],
            group: Group::String,
            since: "2.2.0",
            summary: "Returns the length of a string in bytes.",
            ..Spec::DEFAULT
        },
        run: strlen,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "setrange",
            syntax: "key#0 offset:int value",
            arity: 4,
            flags: flag::WRITE | flag::DENYOOM,
            keys: &[KeySpec::one(keyflag::RW | keyflag::UPDATE, 1)],
            group: Group::String,
            since: "2.2.0",
            complexity: "O(N) for N bytes written or filled with zeros",
            summary: "Overwrites part of a string from an offset on.",
            ..Spec::DEFAULT
        },
        run: setrange,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "getrange",
            syntax: "key#0 start:int end:int",
            since: "2.4.0",
            summary: "Returns part of a string.",
            ..RANGE
        },
        run: getrange,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "substr",
            syntax: "key#0 start:int end:int",
            summary: "Returns part of a string; the old name of GETRANGE.",
            ..RANGE
        },
        run: getrange,
        across: Across::Gather,
    },
];

/// Edits a string, grown to at least `len` bytes and made if it is missing;
/// also returns the length it had.
pub(super) fn edit<R>(
    cx: &mut Cx,
    key: &Key,
    len: usize,
    f: impl FnOnce(&mut [u8]) -> R,
) -> Result<(Option<usize>, R), Fault> {
    if let Some(e) = cx.string_entry(key)? {
        let old = e.as_str().map(<[u8]>::len);
        return Ok((old, e.edit_string(len, f)));
    }
    cx.set_string(key, b"", Ttl::Clear);
    let made = cx.store.get_mut(cx.db, key).expect("the key was just made");
    Ok((None, made.edit_string(len, f)))
}

/// The length of a string to be edited: `None` without the key.
pub(super) fn length(cx: &mut Cx, key: &Key) -> Result<Option<usize>, Fault> {
    Ok(cx.string_entry(key)?.map(|e| e.as_str().map_or(0, <[u8]>::len)))
}

/// `at + n`, if a string may be that long.
fn grown(at: usize, n: usize, max: usize) -> Result<usize, Fault> {
    at.checked_add(n).filter(|&len| len <= max).ok_or(STRING_TOO_LONG)
}

fn append(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let max = cx.options.proto_max_bulk_len;
    let len = match cx.string_entry(&key)? {
        Some(e) => {
            let old = e.as_str().map_or(0, <[u8]>::len);
            let len = grown(old, args[2].len(), max)?;
            e.edit_string(len, |bytes| bytes[old..].copy_from_slice(args[2]));
            len
        }
        None => {
            cx.set_string(&key, args[2], Ttl::Clear);
            args[2].len()
        }
    };
    cx.fx.verbatim(1);
    cx.event(Class::String, "append", key.bytes);
    cx.reply.int(len as i64);
    Ok(())
}

fn strlen(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let len = cx.read_string(&key)?.map_or(0, <[u8]>::len);
    cx.reply.int(len as i64);
    Ok(())
}

fn setrange(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (at, piece) = (usize::try_from(int(args[2])?).map_err(|_| OFFSET_OUT_OF_RANGE)?, args[3]);
    let old = length(cx, &key)?.unwrap_or(0);
    if piece.is_empty() {
        cx.reply.int(old as i64);
        return Ok(());
    }
    let end = grown(at, piece.len(), cx.options.proto_max_bulk_len)?;
    edit(cx, &key, end, |bytes| bytes[at..end].copy_from_slice(piece))?;
    cx.fx.verbatim(1);
    cx.event(Class::String, "setrange", key.bytes);
    cx.reply.int(end.max(old) as i64);
    Ok(())
}

fn getrange(cx: &mut Cx, args: Args) -> Done {
    let key = cx.key(args[1]);
    let (start, end) = (int(args[2])?, int(args[3])?);
    let (entry, rest) = cx.read_apart(&key);
    let bytes = match entry {
        None => b"",
        Some(e) => e.as_str().ok_or(WRONG_TYPE)?,
    };
    let part = clamp_range(start, end, bytes.len()).map_or(&b""[..], |(from, to)| &bytes[from..=to]);
    rest.reply.bulk(part);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn append_makes_and_lengthens() {
        let mut b = Bench::default();
        assert_eq!(b.run("append k ab"), ":2");
        assert_eq!((b.stream.join("|"), b.events()), ("append k ab".into(), vec!["append k".into()]));
        b.run("expire k 100");
        assert_eq!(b.run("append k c"), ":3");
        assert_eq!(b.run("append k ''"), ":3");
        assert_eq!(b.stream, ["append k "]);
        assert_eq!(b.run("ttl k"), ":100");
        assert_eq!(b.run("get k"), "$3 abc");
        b.options.proto_max_bulk_len = 5;
        assert_eq!(b.run("append k def"), "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        assert_eq!(b.run("strlen k"), ":3");
        assert_eq!(b.run("strlen none"), ":0");
    }

    #[test]
    fn setrange_fills_with_zeros() {
        let mut b = Bench::default();
        assert_eq!(b.run("setrange k 0 ''"), ":0");
        assert_eq!(b.run("exists k"), ":0");
        assert_eq!(b.run("setrange k 2 ab"), ":4");
        assert_eq!((b.stream.join("|"), b.events()), ("setrange k 2 ab".into(), vec!["setrange k".into()]));
        assert_eq!(b.run("get k"), "$4 \0\0ab");
        assert_eq!(b.run("setrange k 0 x"), ":4");
        assert_eq!(b.run("setrange k 0 ''"), ":4");
        assert!(b.stream.is_empty());
        assert_eq!(b.run("get k"), "$4 x\0ab");
        assert_eq!(b.run("setrange k -1 x"), "-ERR offset is out of range");
        assert_eq!(b.run("setrange k x x"), "-ERR value is not an integer or out of range");
        let long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        assert_eq!(b.run("setrange k 536870912 x"), long);
        assert_eq!(b.run("setrange k 9223372036854775807 x"), long);
        assert_eq!(b.run("setrange none 536870912 ''"), ":0");
    }

    #[test]
    fn ranges_of_strings() {
        let mut b = Bench::default();
        b.run("set k hello");
        for (range, want) in [
            ("0 -1", "$5 hello"),
            ("1 2", "$2 el"),
            ("-3 -2", "$2 ll"),
            ("3 1", "$0"),
            ("-1 -3", "$0"),
            ("-100 100", "$5 hello"),
            ("5 9", "$0"),
        ] {
            assert_eq!(b.run(&format!("getrange k {range}")), want, "{range}");
            assert_eq!(b.run(&format!("substr k {range}")), want, "{range}");
        }
        assert_eq!(b.run("getrange none 0 -1"), "$0");
        assert_eq!(b.run("getrange none a b"), "-ERR value is not an integer or out of range");
    }
}
