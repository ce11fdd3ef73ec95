//! Is a file's content in order, and up to where? For `coreslot-check-aof`.

use super::reader::{Next, Reader};

/// What was found in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Bytes of the file.
    pub size: u64,
    /// The last place at which it could end.
    pub valid: u64,
    /// The line, counted from 1, up to which everything was read.
    pub lines: u64,
    /// What is wrong after that place.
    pub fault: Option<String>,
    /// The first place whose time is later than what was asked for.
    pub later: Option<u64>,
}

/// Looks through a file from `start` on; `read` gives the next bytes of it,
/// none at its end. `until` is a Unix time in seconds: the search ends at the
/// first annotation later than it.
pub fn look<E>(
    start: u64,
    size: u64,
    until: Option<u64>,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<Findings, E> {
    let mut reader = Reader::from(start);
    let mut piece = vec![0; 1 << 16];
    let mut findings = Findings { size, valid: start, lines: 1, fault: None, later: None };
    loop {
        match reader.step() {
            Next::Command => findings.lines += 1 + 2 * reader.args().len() as u64,
            Next::Annotation(text) => {
                findings.lines += 1;
                let place = reader.place();
                let time = std::str::from_utf8(&text).ok().and_then(|t| t.strip_prefix("TS:")?.parse::<u64>().ok());
                if let (Some(time), Some(until)) = (time, until)
                    && time > until
                {
                    findings.later = Some(place - text.len() as u64 - 3);
                    findings.valid = reader.valid();
                    return Ok(findings);
                }
            }
            Next::More => {
                let n = read(&mut piece)?;
                if n == 0 {
                    if reader.incomplete() {
                        let in_unit = reader.in_transaction();
                        let what = if in_unit {
                            "Reached EOF before reading EXEC for MULTI"
                        } else {
                            "Unexpected end of file"
                        };
                        findings.fault = Some(what.into());
                    }
                    break;
                }
                reader.feed(&piece[..n]);
            }
            Next::Malformed(place) => {
                findings.fault = Some(format!("{place:x}: what stands there is no command"));
                break;
            }
        }
    }
    findings.valid = reader.valid();
    Ok(findings)
}
