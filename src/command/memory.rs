//! MEMORY USAGE: what a key costs.

use super::fault::SYNTAX;
use super::parse::{int, is};
use super::spec::{Across, Command, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done};
use crate::base::Args;

/// Bytes of a table's entry beside the key's own allocation: a pointer, its
/// tag, and the room that tables keep free on average.
const TABLE_BYTES: usize = 12;

pub const ROWS: &[Command] = &[Command {
    spec: Spec {
        name: "memory|usage",
        syntax: "key#0 [SAMPLES count:int]",
        arity: -3,
        flags: flag::READONLY,
        keys: &[KeySpec::one(keyflag::RO, 2)],
        group: Group::Server,
        since: "4.0.0",
        complexity: "O(N) for N parts that the value's memory lies in",
        summary: "Tells the bytes of memory that a key and its value take.",
        ..Spec::DEFAULT
    },
    run: usage,
    across: Across::Gather,
}];

/// Nothing is sampled: the memory of every value is known, whatever SAMPLES
/// asks for.
fn usage(cx: &mut Cx, args: Args) -> Done {
    match &args[3..] {
        [] => {}
        [word, n] if is(word, "samples") => {
            if int(n)? < 0 {
                return Err(SYNTAX);
            }
        }
        _ => return Err(SYNTAX),
    }
    let key = cx.key(args[2]);
    match cx.peek(&key).map(|e| e.memory() + TABLE_BYTES) {
        Some(n) => cx.reply.int(n as i64),
        None => cx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    fn usage(b: &mut Bench, line: &str) -> i64 {
        b.run(&format!("memory usage {line}"))[1..].parse().expect("a number")
    }

    #[test]
    fn bigger_values_take_more() {
        let mut b = Bench::default();
        b.run("set a x");
        b.run(&format!("set b {}", "x".repeat(10_000)));
        b.run("rpush l 1 2 3");
        let small = usage(&mut b, "a");
        assert!((20..80).contains(&small), "{small}");
        assert!((10_000..11_000).contains(&usage(&mut b, "b samples 0")));
        assert!(usage(&mut b, "l") > 20);
        assert_eq!(b.run("memory usage none"), "$-1");
        assert_eq!(b.run("memory usage a x"), "-ERR syntax error");
        assert_eq!(b.run("memory usage a samples -1"), "-ERR syntax error");
    }
}
