//! `coreslot-check-aof`: looks through an append-only file, or all files of a
//! manifest, and cuts off a broken end. It does the job, takes the arguments,
//! prints the lines and returns the codes of `redis-check-aof`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::base::os::os_reason;
use crate::journal::aof::check::{Findings, look};
use crate::journal::aof::manifest::{AofFile, Manifest};
use crate::snapshot::rdb::scan::{Event, Scanner};

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Check,
    Fix,
    /// Cut everything off that is later than this Unix time.
    Until(u64),
}

/// The end of the run: its last line has been printed.
struct Failed;

type Outcome = Result<(), Failed>;

/// Runs the program.
pub fn main(args: &[String]) -> ExitCode {
    let program = args.first().map_or("coreslot-check-aof", String::as_str);
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let (wish, path) = match words[..] {
        [path] if !path.starts_with("--") => (Wish::Check, path),
        ["--fix", path] => (Wish::Fix, path),
        ["--truncate-to-timestamp", time, path] => match time.parse() {
            Ok(time) => (Wish::Until(time), path),
            Err(_) => {
                println!("Invalid timestamp, aborting...");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            println!("Usage: {program} [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>");
            return ExitCode::FAILURE;
        }
    };
    match check(Path::new(path), wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed) => ExitCode::FAILURE,
    }
}

fn check(path: &Path, wish: Wish) -> Outcome {
    let mut first = [0; 5];
    let n = open(path)?.read(&mut first).map_err(|e| failed(&format!("Cannot read file: {}", os_reason(&e))))?;
    if first[..n].starts_with(b"file ") || first[..n].starts_with(b"#") && is_manifest(path) {
        return check_all(path, wish);
    }
    println!("Start checking Old-Style AOF");
    check_one(path, wish, true, "AOF")?;
    Ok(())
}

/// A comment may open a manifest as an annotation may open a file.
fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "manifest")
}

fn check_all(path: &Path, wish: Wish) -> Outcome {
    println!("Start checking Multi Part AOF");
    let text =
        std::fs::read(path).map_err(|e| failed(&format!("Cannot open file {}: {}", path.display(), os_reason(&e))))?;
    let manifest = Manifest::parse(&text).map_err(|e| {
        if e.line > 0 {
            println!("Reading the manifest file, at line {}\n>>> '{}'", e.line, e.text);
        }
        failed(&format!("Invalid AOF manifest file format: {}", e.reason))
    })?;
    let dir = path.parent().map(PathBuf::from).unwrap_or_default();
    let last = manifest.files().last().map(|f| f.name.clone());
    let is_last = |f: &AofFile| last.as_ref() == Some(&f.name);
    if let Some(base) = &manifest.base {
        let path = dir.join(&base.name);
        let form = if begins_as_snapshot(&path)? { "RDB" } else { "RESP" };
        println!("Start to check BASE AOF ({form} format).");
        check_one(&path, wish, is_last(base), "BASE AOF")?;
    }
    if !manifest.incr.is_empty() {
        println!("Start to check INCR files.");
    }
    for f in &manifest.incr {
        check_one(&dir.join(&f.name), wish, is_last(f), "INCR AOF")?;
    }
    println!("All AOF files and manifest are valid");
    Ok(())
}

/// Checks one file, and cuts it if that is wanted and it is the last.
fn check_one(path: &Path, wish: Wish, last: bool, kind: &str) -> Outcome {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = open(path)?;
    let size =
        file.metadata().map_err(|e| failed(&format!("Cannot stat file: {name}, aborting... {}", os_reason(&e))))?.len();
    if size == 0 {
        println!("{kind} {name} is empty");
        return Ok(());
    }
    let start = snapshot_end(path, &name)?;
    file.seek(SeekFrom::Start(start))
        .map_err(|e| failed(&format!("Failed to seek in AOF {name}: {}", os_reason(&e))))?;
    let until = if let Wish::Until(time) = wish { Some(time) } else { None };
    let found = look(start, size, until, |piece| file.read(piece))
        .map_err(|e: io::Error| failed(&format!("Error reading AOF {name}: {}", os_reason(&e))))?;
    if let Some(fault) = &found.fault {
        println!("0x{:>16x}: {fault}", found.valid);
    }
    if let Wish::Until(time) = wish {
        return cut_to_time(path, &name, &found, time, last);
    }
    let diff = size - found.valid;
    println!(
        "AOF analyzed: filename={name}, size={size}, ok_up_to={}, ok_up_to_line={}, diff={diff}",
        found.valid, found.lines
    );
    if found.fault.is_none() {
        println!("{kind} {name} is valid");
        return Ok(());
    }
    if wish != Wish::Fix {
        return Err(failed(&format!("AOF {name} is not valid. Use the --fix option to try fixing it.")));
    }
    if !last {
        return Err(failed(&format!("Failed to truncate AOF {name} because it is not the last file")));
    }
    println!("This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {} bytes", found.valid);
    if !agreed() {
        return Err(failed("Aborting..."));
    }
    cut(path, &name, found.valid)?;
    println!("Successfully truncated AOF {name}");
    Ok(())
}

fn cut_to_time(path: &Path, name: &str, found: &Findings, time: u64, last: bool) -> Outcome {
    let Some(place) = found.later else {
        if found.fault.is_some() {
            return Err(failed(&format!("AOF {name} is not valid. Use the --fix option to try fixing it.")));
        }
        println!("Truncate nothing in AOF {name} to timestamp {time}");
        return Ok(());
    };
    if !last {
        return Err(failed(&format!(
            "Failed to truncate AOF {name} to timestamp {time} to offset {place} because it is not the last file."
        )));
    }
    if place == 0 {
        return Err(failed(&format!("AOF {name} has nothing before timestamp {time}, aborting...")));
    }
    cut(path, name, place)?;
    println!("Successfully truncated AOF {name} to timestamp {time}");
    // What follows would be later still.
    Ok(())
}

fn agreed() -> bool {
    print!("Continue? [y/N]: ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

fn cut(path: &Path, name: &str, size: u64) -> Outcome {
    let result = File::options().write(true).open(path).and_then(|f| f.set_len(size).and_then(|()| f.sync_all()));
    result.map_err(|e| failed(&format!("Failed to truncate AOF {name}: {}", os_reason(&e))))
}

fn open(path: &Path) -> Result<File, Failed> {
    File::open(path)
        .map_err(|e| failed(&format!("Cannot open file {}: {}, aborting...", path.display(), os_reason(&e))))
}

fn failed(line: &str) -> Failed {
    println!("{line}");
    Failed
}

fn begins_as_snapshot(path: &Path) -> Result<bool, Failed> {
    let mut first = [0; 6];
    let mut file = open(path)?;
    let n = file.read(&mut first).map_err(|e| failed(&format!("Cannot read file: {}", os_reason(&e))))?;
    Ok(first[..n].starts_with(b"REDIS") || first[..n].starts_with(b"VALKEY"))
}

/// Where the commands begin: behind the snapshot that the file may begin with.
fn snapshot_end(path: &Path, name: &str) -> Result<u64, Failed> {
    if !begins_as_snapshot(path)? {
        return Ok(0);
    }
    match end_of_snapshot(path) {
        Ok(end) => {
            println!("RDB preamble is OK, proceeding with AOF tail...");
            Ok(end)
        }
        Err(e) => Err(failed(&format!("RDB preamble of AOF file {name} is not sane, aborting. {e}"))),
    }
}

/// Reads a snapshot to its end; where that is.
fn end_of_snapshot(path: &Path) -> Result<u64, String> {
    let mut file = File::open(path).map_err(|e| os_reason(&e))?;
    let mut scanner = Scanner::new(true);
    loop {
        match scanner.next() {
            Ok(Some(Event::End(_))) => return Ok(scanner.offset()),
            Ok(Some(_)) => {}
            Ok(None) => {
                scanner.fill(&mut file, 1 << 16).map_err(|e| os_reason(&e))?;
            }
            Err(e) => return Err(format!("{:?} at offset {}", e.fault, e.offset)),
        }
    }
}
