//! Reading configuration text: lines, includes, and what they mean for the
//! directives.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::directive::{Directive, Origin, Status};
use super::error::ConfigError;
use super::line;
use super::settings::Settings;
use super::table;

/// How deep files may include files; deeper is taken for a loop.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Largest configuration file; anything longer is not one.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Settings in the making.
pub(super) struct Loader {
    pub(super) settings: Settings,
    pub(super) defaults: Settings,
    /// Names of the directives that were set, in order, without repetition.
    pub(super) explicit: Vec<&'static str>,
    /// Where directives stood that somebody else has yet to look at.
    pub(super) places: Vec<Place>,
}

/// Where a directive stood that is known in files only.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directive: &'static str,
    /// As in [`ConfigError::Line`].
    pub(super) number: usize,
    pub(super) line: String,
}

impl Loader {
    pub(super) fn new() -> Self {
        let defaults = Settings::default();
        Self { settings: defaults.clone(), defaults, explicit: Vec::new(), places: Vec::new() }
    }

    /// Applies all lines of `text`.
    pub(super) fn load_text(&mut self, text: &[u8]) -> Result<(), ConfigError> {
        self.load_nested(text, 0)
    }

    fn load_nested(&mut self, text: &[u8], depth: usize) -> Result<(), ConfigError> {
        for (index, raw) in text.split(|&b| b == b'\n').enumerate() {
            let raw = raw.trim_ascii();
            if raw.is_empty() || raw[0] == b'#' {
                continue;
            }
            let (number, line) = (index + 1, || String::from_utf8_lossy(raw).into_owned());
            let outcome = match self.load_line(raw) {
                Ok(Step::Nothing) => Ok(()),
                Ok(Step::Applied(directive)) => {
                    if directive.is_file_only() {
                        self.places.push(Place { directive: directive.name, number, line: line() });
                    }
                    Ok(())
                }
                Ok(Step::Include(_)) if depth >= INCLUDE_DEPTH_MAX => {
                    Err("files include each other too deeply".to_owned())
                }
                Ok(Step::Include(pattern)) => {
                    self.include(&pattern, depth + 1)?;
                    Ok(())
                }
                Err(reason) => Err(reason),
            };
            outcome.map_err(|reason| ConfigError::Line { number, line: line(), reason })?;
        }
        Ok(())
    }

    fn load_line(&mut self, raw: &[u8]) -> Result<Step, String> {
        let words = line::split_words(raw).ok_or("Unbalanced quotes in configuration line")?;
        let words: Vec<&str> = words
            .iter()
            .map(|word| std::str::from_utf8(word))
            .collect::<Result<_, _>>()
            .map_err(|_| "the line is not valid UTF-8")?;
        let Some((&name, args)) = words.split_first() else {
            return Ok(Step::Nothing);
        };
        if name.eq_ignore_ascii_case("include") && args.len() == 1 {
            return Ok(Step::Include(args[0].to_owned()));
        }
        // A lone `sentinel` is what `--sentinel` leaves; the mode was chosen before.
        if name.eq_ignore_ascii_case("sentinel") {
            return match args.is_empty() {
                true => Ok(Step::Nothing),
                false => Err("sentinel directive while not in sentinel mode".to_owned()),
            };
        }
        let directive = table::find(name).ok_or("Bad directive or wrong number of arguments")?;
        self.apply(directive, args)?;
        Ok(Step::Applied(directive))
    }

    fn apply(&mut self, directive: &'static Directive, args: &[&str]) -> Result<(), String> {
        let origin = match self.explicit.contains(&directive.name) {
            true => Origin::StartAgain,
            false => Origin::StartFirst,
        };
        if args.is_empty() && !directive.is_list() && !directive.is_file_only() {
            return Err(super::directive::WRONG_NUMBER.to_owned());
        }
        directive.set_words(&mut self.settings, args, origin)?;
        refuse_if_not_built(directive, &self.settings, &self.defaults)?;
        if origin == Origin::StartFirst {
            self.explicit.push(directive.name);
        }
        Ok(())
    }

    fn include(&mut self, pattern: &str, depth: usize) -> Result<(), ConfigError> {
        for path in self.expand(pattern) {
            let text = read_file(&path)?;
            self.load_nested(&text, depth)?;
        }
        Ok(())
    }

    /// The files that an `include` names. A pattern may match nothing; a plain
    /// name stands for itself, so that a missing file is noticed.
    fn expand(&self, pattern: &str) -> Vec<PathBuf> {
        if pattern.contains(['*', '?', '[']) {
            glob_files(&self.settings.resolve(pattern))
        } else {
            vec![self.settings.resolve(pattern)]
        }
    }
}

enum Step {
    Nothing,
    Applied(&'static Directive),
    Include(String),
}

/// Refuses a value of a part that is not built yet, unless it is the default.
pub(super) fn refuse_if_not_built(
    directive: &Directive,
    settings: &Settings,
    defaults: &Settings,
) -> Result<(), String> {
    let Status::Later(reason) = directive.status else {
        return Ok(());
    };
    let changed = directive.is_file_only() || directive.print(settings) != directive.print(defaults);
    match changed {
        true => Err(format!("'{}' is not supported: {reason}", directive.name)),
        false => Ok(()),
    }
}

/// Reads a whole configuration file.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let read = || {
        let file = std::fs::File::open(path)?;
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX + 1), &mut text)?;
        match text.len() as u64 > FILE_BYTES_MAX {
            true => Err(std::io::Error::from_raw_os_error(libc::EFBIG)),
            false => Ok(text),
        }
    };
    read().map_err(|error| ConfigError::Open { path: path.to_owned(), error })
}

/// The paths that match a shell pattern, sorted.
fn glob_files(pattern: &Path) -> Vec<PathBuf> {
    let Ok(pattern) = CString::new(pattern.as_os_str().as_bytes()) else {
        return Vec::new();
    };
    // SAFETY: `glob_t` is plain data for which all zeros is a valid initial
    // value; `glob` fills it and `globfree` is called exactly once afterwards.
    // `gl_pathv` holds `gl_pathc` valid C strings until then.
    unsafe {
        let mut found: libc::glob_t = std::mem::zeroed();
        let status = libc::glob(pattern.as_ptr(), 0, None, &mut found);
        let mut paths = Vec::new();
        if status == 0 {
            for index in 0..found.gl_pathc {
                let path = CStr::from_ptr(*found.gl_pathv.add(index));
                paths.push(PathBuf::from(OsStr::from_bytes(path.to_bytes())));
            }
        }
        libc::globfree(&mut found);
        paths
    }
}
