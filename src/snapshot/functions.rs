//! FUNCTION DUMP and RESTORE: the sources of libraries as bytes.
//!
//! A payload is, for every library, the code that says so in a file and its
//! source as a string, then version and checksum as DUMP has them.

use super::dump::verified;
use super::rdb::read::Bytes;
use super::rdb::{Version, checksum, op, write};
use crate::command::Fault;

/// The payload of these sources.
pub fn payload(sources: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for source in sources {
        out.push(op::FUNCTION);
        write::raw(&mut out, source);
    }
    out.extend_from_slice(&(Version::V10 as u16).to_le_bytes());
    let sum = checksum::of(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The sources in a payload.
pub fn read(payload: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let body = verified(payload).ok_or(Fault::Text("ERR DUMP payload version or checksum are wrong"))?;
    let mut bytes = Bytes::new(body);
    let mut sources = Vec::new();
    while bytes.left() > 0 {
        let code = bytes.byte().map_err(|_| UNREADABLE)?;
        if code != op::FUNCTION {
            return Err(Fault::Text("ERR given type is not a function"));
        }
        sources.push(bytes.owned().map_err(|_| UNREADABLE)?);
    }
    Ok(sources)
}

const UNREADABLE: Fault = Fault::Text("ERR failed loading functions payload");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_is_restored() {
        let sources = vec![b"#!lua name=a\nx".to_vec(), Vec::new(), vec![7; 100_000]];
        let bytes = payload(&sources);
        assert_eq!(read(&bytes), Ok(sources));
        assert_eq!(read(&payload(&[])), Ok(Vec::new()));
        for cut in 0..bytes.len().min(40) {
            assert!(read(&bytes[..cut]).is_err());
        }
        let mut wrong = vec![1, 2, 3];
        wrong.extend_from_slice(&(Version::V10 as u16).to_le_bytes());
        let sum = checksum::of(&wrong);
        wrong.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(read(&wrong), Err(Fault::Text("ERR given type is not a function")));
    }
}
