//! What stands around the key records of a file, appended to a buffer.
//!
//! A file is [`Frame::begin`], [`Frame::function`]s, then for each run of
//! records of one database [`Frame::select`] and the records (a database may
//! be selected any number of times, so records of several cores need not be
//! sorted), and [`Frame::end`]. The frame keeps the checksum: records pass
//! through [`Frame::records`].

use super::checksum::Checksum;
use super::write;
use super::{MAGIC, Version, op};

/// The running state of a file being written.
pub struct Frame {
    checksum: Option<Checksum>,
    bytes: u64,
}

/// What a file says about its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// `redis-ver`.
    pub server_version: &'a str,
    /// `ctime`: when it was made, Unix seconds.
    pub made_unix_s: u64,
    /// `used-mem`: bytes.
    pub used_memory: u64,
    /// For replication: database of the stream, identifier and offset.
    pub replication: Option<Stream<'a>>,
    /// Is this the base of an append-only file?
    pub aof_base: bool,
}

/// The place in the replication stream that a file stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// The database selected there.
    pub db: u64,
    pub id: &'a str,
    pub offset: u64,
}

impl Frame {
    /// `checksum`: is there to be one (`rdbchecksum`)?
    pub fn new(checksum: bool) -> Frame {
        Frame { checksum: checksum.then(Checksum::default), bytes: 0 }
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let from = out.len();
        write(out);
        self.records(&out[from..]);
    }

    /// Takes account of encoded records (of anything that goes to the file
    /// without passing through another function of this type).
    pub fn records(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Some(c) = &mut self.checksum {
            c.update(bytes);
        }
    }

    /// Magic, version and auxiliary fields.
    pub fn begin(&mut self, out: &mut Vec<u8>, version: Version, about: &About) {
        self.add(out, |out| {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(format!("{:04}", version as u32).as_bytes());
            aux(out, "redis-ver", about.server_version);
            aux(out, "redis-bits", "64");
            aux(out, "ctime", &about.made_unix_s.to_string());
            aux(out, "used-mem", &about.used_memory.to_string());
            if let Some(s) = &about.replication {
                aux(out, "repl-stream-db", &s.db.to_string());
                aux(out, "repl-id", s.id);
                aux(out, "repl-offset", &s.offset.to_string());
            }
            aux(out, "aof-base", if about.aof_base { "1" } else { "0" });
        });
    }

    /// One more auxiliary field; readers ignore what they do not know.
    pub fn aux(&mut self, out: &mut Vec<u8>, name: &str, value: &str) {
        self.add(out, |out| aux(out, name, value));
    }

    /// The source of a function library.
    pub fn function(&mut self, out: &mut Vec<u8>, source: &[u8]) {
        self.add(out, |out| {
            out.push(op::FUNCTION);
            write::raw(out, source);
        });
    }

    /// What follows belongs to this database. With the number of keys, and of
    /// those with a deadline, as hints for the reader's tables.
    pub fn select(&mut self, out: &mut Vec<u8>, db: usize, keys: Option<(u64, u64)>) {
        self.add(out, |out| {
            out.push(op::SELECT_DB);
            write::length(out, db as u64);
            if let Some((keys, volatile)) = keys {
                out.push(op::RESIZE_DB);
                write::length(out, keys);
                write::length(out, volatile);
            }
        });
    }

    /// The end of the file.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.add(out, |out| out.push(op::EOF));
        let sum = self.checksum.take().map_or(0, |c| c.value());
        self.add(out, |out| out.extend_from_slice(&sum.to_le_bytes()));
    }
}

fn aux(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(op::AUX);
    write::string(out, name.as_bytes());
    write::string(out, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_that_of_redis() {
        let about = About {
            server_version: "7.0.15",
            made_unix_s: 1_795_170_974,
            used_memory: 964_496,
            replication: Some(Stream { db: 0, id: "0347663e347804feebd2e2dec56ab8628e082049", offset: 0 }),
            aof_base: false,
        };
        let (mut frame, mut out) = (Frame::new(true), Vec::new());
        frame.begin(&mut out, Version::V10, &about);
        frame.end(&mut out);
        let want = [
            &b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\x9e\x22\x00\x6b"[..],
            b"\xfa\x08used-mem\xc2\x90\xb7\x0e\x00\xfa\x0erepl-stream-db\xc0\x00",
            b"\xfa\x07repl-id\x280347663e347804feebd2e2dec56ab8628e082049\xfa\x0brepl-offset\xc0\x00",
            b"\xfa\x08aof-base\xc0\x00\xff\xeb\x23\xe8\x14\xb2\x13\x99\x81",
        ]
        .concat();
        assert_eq!(out, want);
        assert_eq!(frame.bytes(), want.len() as u64);
    }
}
