//! Commands as they may be shown: without passwords.

use crate::base::Args;
use crate::config;

const HIDDEN: &[u8] = b"(redacted)";

/// The arguments with those hidden that are secret. `name` is the command's
/// full name.
pub fn shown<'a>(name: &str, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut out = args.to_vec();
    let mut hide = |range: std::ops::Range<usize>| {
        let end = range.end.min(out.len());
        out[range.start.min(end)..end].fill(HIDDEN);
    };
    match name {
        "auth" => hide(1..usize::MAX),
        "hello" => {
            if let Some(at) = position(args, 2, b"auth") {
                hide(at + 1..at + 3);
            }
        }
        "migrate" => {
            if let Some(at) = position(args, 6, b"auth") {
                hide(at + 1..at + 2);
            }
            if let Some(at) = position(args, 6, b"auth2") {
                hide(at + 1..at + 3);
            }
        }
        // Users' names, too (as in 7.2).
        "acl|setuser" | "acl|getuser" | "acl|deluser" => hide(2..usize::MAX),
        "config|set" => {
            for at in (2..args.len()).step_by(2).filter(|at| is_sensitive(args[*at])) {
                hide(at + 1..at + 2);
            }
        }
        _ => {}
    }
    out
}

/// The first place of a word from `from` on.
fn position(args: Args, from: usize, word: &[u8]) -> Option<usize> {
    (from..args.len()).find(|i| args[*i].eq_ignore_ascii_case(word))
}

fn is_sensitive(directive: &[u8]) -> bool {
    std::str::from_utf8(directive).is_ok_and(|n| config::find(n).is_some_and(|d| d.sensitive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, words: &str) -> String {
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let shown = shown(name, &args);
        let words: Vec<&str> = shown.iter().map(|a| std::str::from_utf8(a).unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn passwords_are_hidden() {
        assert_eq!(line("auth", "AUTH u p"), "AUTH (redacted) (redacted)");
        assert_eq!(line("hello", "HELLO 3 AUTH u p SETNAME n"), "HELLO 3 AUTH (redacted) (redacted) SETNAME n");
        assert_eq!(line("hello", "HELLO 3 AUTH u"), "HELLO 3 AUTH (redacted)");
        assert_eq!(
            line("config|set", "CONFIG SET requirepass p timeout 1"),
            "CONFIG SET requirepass (redacted) timeout 1"
        );
        assert_eq!(line("acl|deluser", "ACL DELUSER a b"), "ACL DELUSER (redacted) (redacted)");
        assert_eq!(line("set", "SET auth p"), "SET auth p");
    }
}
