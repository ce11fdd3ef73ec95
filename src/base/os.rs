//! What the operating system's errors are called in the log, in replies and in
//! what goes to standard error: by their words alone, as Redis has them. Rust puts
//! the number of an error behind them.

/// The words of an error of input or output, or of one that tells of such.
pub fn os_reason(error: &impl std::fmt::Display) -> String {
    without_numbers(error.to_string())
}

/// The words of an error number.
pub fn strerror(errno: i32) -> String {
    os_reason(&std::io::Error::from_raw_os_error(errno))
}

/// An error may be told inside of another one's words.
fn without_numbers(mut text: String) -> String {
    const BEFORE: &str = " (os error ";
    while let Some(at) = text.find(BEFORE)
        && let Some(len) = text[at..].find(')')
    {
        text.replace_range(at..=at + len, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn errors_are_told_in_words() {
        assert_eq!(strerror(libc::ECONNREFUSED), "Connection refused");
        assert_eq!(os_reason(&Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
        let inner = Error::from_raw_os_error(libc::EIO);
        let outer = Error::other(format!("opening x: {inner}, op: open"));
        assert_eq!(os_reason(&outer), "opening x: Input/output error, op: open");
        assert_eq!(os_reason(&Error::other("cut (os error 5")), "cut (os error 5");
    }
}
