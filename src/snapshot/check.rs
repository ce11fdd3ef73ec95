//! The checker of snapshot files: what `redis-check-rdb` does.
//!
//! It reads a file as a server would, values included, prints what stands in
//! it, and says where it is bad. Exit status 0 for a good file, 1 for a bad one.

use std::fs::File;
use std::io::{self, Write};

use super::rdb::decode::{Builder, Decoder, Limits};
use super::rdb::kind_name;
use super::rdb::read::{Bytes, Fault};
use super::rdb::scan::{Error, Event, Record, Scanner, Sum};
use crate::base::clock::{self, UnixMs};
use crate::base::os::os_reason;
use crate::command::cx::Options;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// What has been seen.
#[derive(Default)]
struct Seen {
    keys: u64,
    volatile: u64,
    expired: u64,
    /// What is being read.
    doing: &'static str,
    record: Option<(u8, Vec<u8>)>,
}

/// Checks a file and prints to `out`; whether it is good.
pub fn check(name: &str, out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "[offset 0] Checking RDB file {name}")?;
    let mut file = match File::open(name) {
        Ok(f) => f,
        Err(e) => {
            writeln!(out, "Cannot open file: {}", os_reason(&e))?;
            return Ok(false);
        }
    };
    let mut seen = Seen { doing: "start", ..Seen::default() };
    let mut scanner = Scanner::new(true);
    let result = walk(&mut file, &mut scanner, &mut seen, out)?;
    let good = result.is_ok();
    match result {
        Ok(()) => writeln!(out, "[offset {}] \\o/ RDB looks OK! \\o/", scanner.offset())?,
        Err(e) => complain(&e, &seen, out)?,
    }
    writeln!(out, "[info] {} keys read", seen.keys)?;
    writeln!(out, "[info] {} expires", seen.volatile)?;
    writeln!(out, "[info] {} already expired", seen.expired)?;
    Ok(good)
}

fn complain(e: &Error, seen: &Seen, out: &mut impl Write) -> io::Result<()> {
    let what = match &e.fault {
        Fault::Short => "Unexpected EOF reading RDB file".into(),
        Fault::Checksum { .. } => "RDB CRC error".into(),
        fault => fault.to_string(),
    };
    writeln!(out, "--- RDB ERROR DETECTED ---")?;
    writeln!(out, "[offset {}] {what}", e.offset)?;
    writeln!(out, "[additional info] While doing: {}", seen.doing)?;
    if let Some((kind, key)) = e.record.as_ref().or(seen.record.as_ref()) {
        writeln!(out, "[additional info] Reading key '{}'", key.escape_ascii())?;
        writeln!(out, "[additional info] Reading type {kind} ({})", kind_name(*kind))?;
    }
    Ok(())
}

/// Goes through the file; the outer error is that of printing.
fn walk(
    file: &mut File,
    scanner: &mut Scanner,
    seen: &mut Seen,
    out: &mut impl Write,
) -> io::Result<Result<(), Error>> {
    let mut decoder = Decoder::new(Limits::new(&Options::default()), true);
    let mut building: Option<Builder> = None;
    let now = clock::now_ms();
    loop {
        let event = match scanner.next() {
            Ok(Some(event)) => event,
            Ok(None) => {
                if let Err(e) = scanner.fill(file, PIECE) {
                    writeln!(out, "Cannot read the file: {}", os_reason(&e))?;
                    scanner.close();
                }
                continue;
            }
            Err(e) => {
                seen.doing = if e.record.is_some() { "read-object-value" } else { seen.doing };
                if let Fault::Checksum { .. } = e.fault {
                    seen.doing = "check-sum";
                }
                return Ok(Err(e));
            }
        };
        let mut ended = false;
        let line = match event {
            Event::Version { .. } => {
                seen.doing = "read-type";
                continue;
            }
            Event::Resize { .. } => continue,
            Event::Aux { name, value } => format!("AUX FIELD {} = '{}'", name.escape_ascii(), value.escape_ascii()),
            Event::Select(db) => format!("Selecting DB ID {db}"),
            Event::Function(source) => format!("Function library of {} bytes", source.len()),
            Event::ModuleAux(id) => format!("MODULE AUX for: {}", super::rdb::module_name(id)),
            Event::Record(r) => {
                seen.count(&r, now);
                if let Err(fault) = decode(&mut decoder, &mut building, &r) {
                    seen.doing = "read-object-value";
                    return Ok(Err(Error { fault, offset: r.offset, record: Some((r.kind, r.key.to_vec())) }));
                }
                continue;
            }
            Event::End(sum) => {
                ended = true;
                match sum {
                    Sum::Checked => "Checksum OK".into(),
                    Sum::Zero => "RDB file was saved with checksum disabled: no check performed.".into(),
                    Sum::None | Sum::Ignored => "The version has no checksum".into(),
                }
            }
        };
        writeln!(out, "[offset {}] {line}", scanner.offset())?;
        if ended {
            return Ok(Ok(()));
        }
    }
}

impl Seen {
    fn count(&mut self, r: &Record, now: UnixMs) {
        if r.part.ends() {
            self.keys += 1;
            self.volatile += u64::from(r.deadline.is_some());
            self.expired += u64::from(r.deadline.is_some_and(|d| d < now));
        }
        self.record = Some((r.kind, r.key.to_vec()));
    }
}

/// Decodes the value as far as this server has its type.
fn decode(decoder: &mut Decoder, building: &mut Option<Builder>, r: &Record) -> Result<(), Fault> {
    use super::rdb::scan::Part;
    let result = if r.part == Part::Whole {
        decoder.entry(r.kind, r.key, r.body, r.deadline).map(drop)
    } else {
        decode_part(decoder, building, r)
    };
    match result {
        // What is in order is not an error of the file; the structure of
        // values that are of no use here was looked at by the scanner.
        Err(Fault::Unsupported(_) | Fault::Empty) => Ok(()),
        other => other,
    }
}

fn decode_part(decoder: &mut Decoder, building: &mut Option<Builder>, r: &Record) -> Result<(), Fault> {
    let mut bytes = Bytes::new(r.body);
    let mut builder = match building.take() {
        Some(b) if !r.part.begins() => b,
        _ => decoder.begin(r.kind, &mut bytes)?,
    };
    decoder.feed(&mut builder, &mut bytes)?;
    if r.part.ends() {
        return builder.finish().map(drop);
    }
    *building = Some(builder);
    Ok(())
}
