//! The manifest: which files make up the append-only file (Redis 7's
//! multi-part layout).
//!
//! A base file holds the dataset at some moment, incremental files the commands
//! since, in the order of their sequence numbers. What a rewrite has replaced
//! is history, to be deleted. Every line of the manifest names one file:
//! `file NAME seq N type b|i|h`.

use std::fmt::Write;

/// Longest line of a manifest, its newline included.
const LINE_MAX: usize = 1024;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AofFile {
    pub name: String,
    pub seq: u64,
}

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<AofFile>,
    pub incr: Vec<AofFile>,
    pub history: Vec<AofFile>,
    /// The highest number that an incremental file ever had.
    last_incr: u64,
}

/// What is wrong with a manifest, where, and the line itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// From one; 0 when it is no single line's fault.
    pub line: usize,
    pub text: String,
    /// In Redis's words.
    pub reason: &'static str,
}

impl Manifest {
    /// Only a base.
    pub fn of_base(base: AofFile) -> Manifest {
        Manifest { base: Some(base), ..Manifest::default() }
    }

    /// Reads a manifest.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut m = Manifest::default();
        if text.is_empty() {
            return Err(ManifestError { line: 0, text: String::new(), reason: "Found an empty AOF manifest" });
        }
        for (i, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            m.line(line).map_err(|reason| ManifestError { line: i + 1, text: shown(line), reason })?;
        }
        Ok(m)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        const FORMAT: &str = "Invalid AOF manifest file format";
        if line.first() == Some(&b'#') {
            return Ok(());
        }
        // Redis does not see an end of line behind a NUL.
        if line.len() >= LINE_MAX || !line.ends_with(b"\n") || line.contains(&0) {
            return Err("The AOF manifest file contains too long line");
        }
        let words = crate::base::words::split(line).ok_or(FORMAT)?;
        if words.len() < 6 || !words.len().is_multiple_of(2) {
            return Err(FORMAT);
        }
        let (mut name, mut seq, mut kind) = (String::new(), 0, 0);
        for pair in words.chunks(2) {
            let value = &pair[1];
            match pair[0].to_ascii_lowercase().as_slice() {
                b"file" => {
                    name = String::from_utf8(value.clone()).map_err(|_| FORMAT)?;
                    if name.contains('/') {
                        return Err("File can't be a path, just a filename");
                    }
                }
                b"seq" => seq = crate::base::num::parse_u64(value).unwrap_or(0),
                b"type" => kind = value.first().copied().unwrap_or(0),
                // Later versions may say more.
                _ => {}
            }
        }
        if name.is_empty() || seq == 0 || kind == 0 {
            return Err(FORMAT);
        }
        self.add(AofFile { name, seq }, kind)
    }

    fn add(&mut self, file: AofFile, kind: u8) -> Result<(), &'static str> {
        match kind {
            b'b' if self.base.is_some() => return Err("Found duplicate base file information"),
            b'b' => self.base = Some(file),
            b'i' if self.incr.last().is_some_and(|last| file.seq <= last.seq) => {
                return Err("Found a non-monotonic sequence number");
            }
            b'i' => {
                self.last_incr = file.seq;
                self.incr.push(file);
            }
            b'h' => self.history.push(file),
            _ => return Err("Unknown AOF file type"),
        }
        Ok(())
    }

    /// The manifest as text.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let kinds = [('b', self.base.as_slice()), ('h', &self.history), ('i', &self.incr)];
        for (kind, files) in kinds {
            for f in files {
                let _ = writeln!(out, "file {} seq {} type {kind}", quoted(&f.name), f.seq);
            }
        }
        out
    }

    /// Base and incremental files, in the order in which they are loaded.
    pub fn files(&self) -> impl Iterator<Item = &AofFile> {
        self.base.iter().chain(&self.incr)
    }

    /// Names the next base file; it takes the place of the current one, which
    /// becomes history together with the incremental files up to `upto`.
    pub fn replace_base(&mut self, stem: &str, rdb: bool, upto: u64) -> AofFile {
        let base = self.next_base(stem, rdb);
        // The newest stand first, as in Redis.
        self.history.splice(..0, self.base.replace(base.clone()));
        let (old, new): (Vec<AofFile>, _) = std::mem::take(&mut self.incr).into_iter().partition(|f| f.seq <= upto);
        self.incr = new;
        self.history.splice(..0, old);
        base
    }

    /// The name of the next base file.
    pub fn next_base(&self, stem: &str, rdb: bool) -> AofFile {
        let seq = self.base.as_ref().map_or(0, |b| b.seq) + 1;
        let form = if rdb { "rdb" } else { "aof" };
        AofFile { name: format!("{stem}.{seq}.base.{form}"), seq }
    }

    /// Names an incremental file that takes the place of all there are.
    pub fn begin_anew(&mut self, stem: &str) -> AofFile {
        self.history.splice(..0, std::mem::take(&mut self.incr));
        self.next_incr(stem)
    }

    /// Adds the next incremental file.
    pub fn next_incr(&mut self, stem: &str) -> AofFile {
        let seq = self.last_incr + 1;
        self.last_incr = seq;
        let file = AofFile { name: format!("{stem}.{seq}.incr.aof"), seq };
        self.incr.push(file.clone());
        file
    }
}

/// A line for the log, which takes no more than a thousand characters, the reason
/// behind it included.
fn shown(line: &[u8]) -> String {
    const SHOWN_MAX: usize = 256;
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A name as it stands in a manifest: in quotes where it needs them.
fn quoted(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'\'');
    if !name.is_empty() && name.bytes().all(plain) {
        return name.to_string();
    }
    let mut out = String::from("\"");
    for b in name.bytes() {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(b as char);
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(b as char),
            _ => {
                let _ = write!(out, "\\x{b:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_redis_is_read_and_written_alike() {
        let text = "file appendonly.aof.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\n\
                    file \"a b.2.incr.aof\" seq 2 type i\nfile a.3.incr.aof seq 3 type i\n";
        let m = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(m.base, Some(AofFile { name: "appendonly.aof.2.base.rdb".into(), seq: 2 }));
        assert_eq!(m.files().map(|f| f.seq).collect::<Vec<_>>(), [2, 2, 3]);
        assert_eq!(m.print(), text);
        assert_eq!(Manifest::parse(m.print().as_bytes()).unwrap(), m);
        let more = b"# comment\nfile x seq 1 type b future word\n";
        assert_eq!(Manifest::parse(more).unwrap().base.unwrap().name, "x");
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, reason) in [
            ("", 0, "Found an empty AOF manifest"),
            ("file a seq 1 type b\nfile b seq 2 type b\n", 2, "Found duplicate base file information"),
            ("file a seq 2 type i\nfile b seq 2 type i\n", 2, "Found a non-monotonic sequence number"),
            ("file a seq 1 type x\n", 1, "Unknown AOF file type"),
            ("file a seq 1\n", 1, "Invalid AOF manifest file format"),
            ("file a seq 1 type\n", 1, "Invalid AOF manifest file format"),
            ("\n", 1, "Invalid AOF manifest file format"),
            ("file a/b seq 1 type b\n", 1, "File can't be a path, just a filename"),
            ("\x0b\n", 1, "Invalid AOF manifest file format"),
            ("file a\0 seq 1 type b\n", 1, "The AOF manifest file contains too long line"),
            ("file a\x0bseq 1 type b\n", 1, "Invalid AOF manifest file format"),
            ("file a seq 1 type b", 1, "The AOF manifest file contains too long line"),
        ] {
            let e = Manifest::parse(text.as_bytes()).unwrap_err();
            assert_eq!((e.line, e.reason), (line, reason), "{text:?}");
        }
        let long = format!("file {} seq 1 type b\n", "x".repeat(1100));
        assert_eq!(
            Manifest::parse(long.as_bytes()).unwrap_err().reason,
            "The AOF manifest file contains too long line"
        );
    }

    #[test]
    fn a_rewrite_turns_what_it_replaces_into_history() {
        let mut m = Manifest::default();
        assert_eq!(m.replace_base("a", true, 0).name, "a.1.base.rdb");
        assert_eq!(m.next_incr("a").name, "a.1.incr.aof");
        m.next_incr("a");
        assert_eq!(m.replace_base("a", false, 1).name, "a.2.base.aof");
        let seqs = |f: &[AofFile]| f.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (seqs(&m.history), seqs(&m.incr)),
            (vec!["a.1.incr.aof".into(), "a.1.base.rdb".into()], vec!["a.2.incr.aof".into()])
        );
    }
}
