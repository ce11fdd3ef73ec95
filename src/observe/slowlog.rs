//! The slow log of one core.

use std::collections::VecDeque;

/// Arguments kept of one command, and bytes kept of one argument (as in Redis).
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug, Default)]
pub struct SlowEntry {
    /// Ascending over all cores.
    pub id: u64,
    pub unix_s: u64,
    pub duration_us: u64,
    pub args: Vec<Vec<u8>>,
    pub peer: String,
    pub client_name: Vec<u8>,
}

/// A bounded list, newest first.
#[derive(Clone, Debug, Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    /// Commands logged since the start.
    pub total: u64,
}

impl SlowLog {
    pub fn push(&mut self, entry: SlowEntry, max: usize) {
        self.total += 1;
        self.entries.push_front(entry);
        self.entries.truncate(max);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets what was logged before the entry `id`.
    pub fn forget_before(&mut self, id: u64) {
        self.entries.retain(|e| e.id >= id);
    }

    pub fn truncate(&mut self, max: usize) {
        self.entries.truncate(max);
    }

    pub fn iter(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }
}

/// What the slow log keeps of a command's arguments.
pub fn trimmed(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut out: Vec<Vec<u8>> = args[..kept].iter().map(|a| trimmed_arg(a)).collect();
    if args.len() > ARGS_MAX {
        out.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    out
}

fn trimmed_arg(a: &[u8]) -> Vec<u8> {
    if a.len() <= ARG_BYTES_MAX {
        return a.to_vec();
    }
    let mut t = a[..ARG_BYTES_MAX].to_vec();
    t.extend_from_slice(format!("... ({} more bytes)", a.len() - ARG_BYTES_MAX).as_bytes());
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_trimmed() {
        let many: Vec<&[u8]> = vec![b"x"; 40];
        let t = trimmed(&many);
        assert_eq!((t.len(), &t[31][..]), (32, &b"... (9 more arguments)"[..]));
        let long = vec![b'y'; 200];
        assert!(trimmed(&[&long])[0].ends_with(b"... (72 more bytes)"));
    }
}
