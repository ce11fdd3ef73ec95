//! What one row of the directive table is, and how its value is read from and
//! written to text.

use super::line;
use super::settings::Settings;

/// When a value may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// By CONFIG SET at any time.
    Runtime,
    /// At start only.
    Immutable,
    /// By CONFIG SET if `enable-protected-configs` allows it.
    Protected,
}

/// What the server makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Honoured,
    /// It tunes machinery that Coreslot does not have: the value is kept and
    /// returned, one log line at start says so if it was set.
    NoEffect(&'static str),
    /// Belongs to a part that is not built yet, and means nothing without it:
    /// treated like `NoEffect` until then.
    Kept(&'static str),
    /// Belongs to a part that is not built yet, and the difference would be
    /// noticed: only the default is accepted.
    Later(&'static str),
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Decimal.
    Plain,
    /// Bytes, with an optional unit when read.
    Memory,
    /// Octal, as file modes are.
    Octal,
    /// Bytes, or `n%`, which is held as a negative number.
    MemoryOrPercent,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The first line with this directive at start: what accumulates starts afresh.
    StartFirst,
    /// A later line at start: what accumulates is added to.
    StartAgain,
    /// CONFIG SET.
    Runtime,
}

/// One line that CONFIG REWRITE wants in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteLine {
    /// The line, without its end.
    pub text: String,
    /// Whether it must be appended if the file has no such line yet.
    pub needed: bool,
}

/// The type of a directive's value with its default and its place in [`Settings`].
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "get and set are the accessors everywhere")]
pub enum Kind {
    /// `yes` or `no`.
    Flag { default: bool, get: fn(&Settings) -> bool, set: fn(&mut Settings, bool) },
    /// An integer within bounds.
    Number { default: i128, min: i128, max: i128, unit: Unit, get: fn(&Settings) -> i128, set: fn(&mut Settings, i128) },
    /// Free text that `check` accepts.
    Text {
        default: &'static str,
        /// Whether empty means "not set" (and is then not written to the file).
        nullable: bool,
        check: fn(&str) -> Result<(), String>,
        get: fn(&Settings) -> &str,
        set: fn(&mut Settings, String),
    },
    /// One word of a list; values are indexes into `names`.
    Choice {
        default: usize,
        names: &'static [&'static str],
        get: fn(&Settings) -> usize,
        set: fn(&mut Settings, usize),
    },
    /// Several words, or one with its own syntax.
    Words {
        default: &'static str,
        /// Whether the value is a list: split at blanks, written without quotes.
        list: bool,
        parse: fn(&mut Settings, &[&str], Origin) -> Result<(), String>,
        print: fn(&Settings) -> String,
        /// The lines for CONFIG REWRITE, given the settings and the defaults.
        lines: Option<fn(&Settings, &Settings) -> Vec<RewriteLine>>,
    },
    /// Known in files only, may be repeated; not in CONFIG GET.
    FileOnly {
        add: fn(&mut Settings, &[&str]) -> Result<(), String>,
        /// Number of words that must follow, at least and at most.
        words: (usize, usize),
    },
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Directive {
    /// The name, in lower case.
    pub name: &'static str,
    /// An older name that does the same.
    pub alias: Option<&'static str>,
    /// A name that it has in later versions; patterns do not find it.
    pub later_name: Option<&'static str>,
    /// Type, default, place.
    pub kind: Kind,
    /// When it may change.
    pub mutability: Mutability,
    /// What the server makes of it.
    pub status: Status,
    /// Left out of CONFIG GET with a pattern.
    pub hidden: bool,
    /// Not to be shown in MONITOR, the slow log and the log.
    pub sensitive: bool,
    /// Refused by CONFIG SET while the dataset is loading.
    pub deny_loading: bool,
    /// What it does, for `--help`; only our own directives have it.
    pub help: &'static str,
}

impl Directive {
    /// A runtime directive that is honoured; the rest is said by the methods below.
    pub(crate) const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            alias: None,
            later_name: None,
            kind,
            mutability: Mutability::Runtime,
            status: Status::Honoured,
            hidden: false,
            sensitive: false,
            deny_loading: false,
            help: "",
        }
    }

    pub(crate) const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    pub(crate) const fn later_name(self, name: &'static str) -> Self {
        Self { later_name: Some(name), ..self }
    }

    pub(crate) const fn immutable(self) -> Self {
        Self { mutability: Mutability::Immutable, ..self }
    }

    pub(crate) const fn protected(self) -> Self {
        Self { mutability: Mutability::Protected, ..self }
    }

    pub(crate) const fn no_effect(self, reason: &'static str) -> Self {
        Self { status: Status::NoEffect(reason), ..self }
    }

    pub(crate) const fn kept(self, reason: &'static str) -> Self {
        Self { status: Status::Kept(reason), ..self }
    }

    pub(crate) const fn later(self, reason: &'static str) -> Self {
        Self { status: Status::Later(reason), ..self }
    }

    pub(crate) const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    pub(crate) const fn sensitive(self) -> Self {
        Self { sensitive: true, ..self }
    }

    pub(crate) const fn deny_loading(self) -> Self {
        Self { deny_loading: true, ..self }
    }

    pub(crate) const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// Whether `name` is one of this directive's names, letter case ignored.
    pub fn is_named(&self, name: &str) -> bool {
        let others = self.alias.into_iter().chain(self.later_name);
        std::iter::once(self.name).chain(others).any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether it only stands in files.
    pub fn is_file_only(&self) -> bool {
        matches!(self.kind, Kind::FileOnly { .. })
    }

    /// Whether its value is a list of words.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Words { list: true, .. })
    }

    /// Gives the directive its default value.
    pub(crate) fn set_default(&self, settings: &mut Settings) {
        match self.kind {
            Kind::Flag { default, set, .. } => set(settings, default),
            Kind::Number { default, set, .. } => set(settings, default),
            Kind::Text { default, set, .. } => set(settings, default.to_owned()),
            Kind::Choice { default, set, .. } => set(settings, default),
            Kind::Words { default, list, parse, .. } => {
                let words: Vec<&str> = match list {
                    true => default.split_ascii_whitespace().collect(),
                    false => vec![default],
                };
                let outcome = parse(settings, &words, Origin::StartFirst);
                debug_assert_eq!(outcome, Ok(()), "default of {}", self.name);
            }
            Kind::FileOnly { .. } => {}
        }
    }

    /// Sets the value from words of a line or of CONFIG SET.
    ///
    /// The error is Redis's text for the reason, without the frame.
    pub(crate) fn set_words(&self, settings: &mut Settings, words: &[&str], origin: Origin) -> Result<(), String> {
        if let Kind::FileOnly { add, words: (min, max) } = self.kind {
            if words.len() < min || words.len() > max {
                return Err("Bad directive or wrong number of arguments".to_owned());
            }
            return add(settings, words);
        }
        if let Kind::Words { list, parse, .. } = self.kind {
            return match (list, words) {
                // Blanks are not joined: Redis refuses two in a row, too.
                (true, [one]) => {
                    let words: Vec<&str> = one.split(' ').collect();
                    parse(settings, &words, origin)
                }
                (true, _) | (false, [_]) => parse(settings, words, origin),
                (false, _) => Err(WRONG_NUMBER.to_owned()),
            };
        }
        match words {
            [word] => self.set_word(settings, word),
            _ => Err(WRONG_NUMBER.to_owned()),
        }
    }

    fn set_word(&self, settings: &mut Settings, word: &str) -> Result<(), String> {
        match self.kind {
            Kind::Flag { set, .. } => {
                let value = match word.to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err("argument must be 'yes' or 'no'".to_owned()),
                };
                set(settings, value);
            }
            Kind::Number { min, max, unit, set, .. } => set(settings, parse_number(word, unit, min, max)?),
            Kind::Text { check, set, .. } => {
                check(word)?;
                set(settings, word.to_owned());
            }
            Kind::Choice { names, set, .. } => {
                let index = names.iter().position(|n| n.eq_ignore_ascii_case(word));
                set(settings, index.ok_or_else(|| must_be_one_of(names))?);
            }
            Kind::Words { .. } | Kind::FileOnly { .. } => {}
        }
        Ok(())
    }

    /// The value as CONFIG GET prints it.
    pub fn print(&self, settings: &Settings) -> String {
        match self.kind {
            Kind::Flag { get, .. } => yes_no(get(settings)).to_owned(),
            Kind::Number { unit, get, .. } => print_number(get(settings), unit),
            Kind::Text { get, .. } => get(settings).to_owned(),
            Kind::Choice { names, get, .. } => names.get(get(settings)).copied().unwrap_or("").to_owned(),
            Kind::Words { print, .. } => print(settings),
            Kind::FileOnly { .. } => String::new(),
        }
    }

    /// The lines that CONFIG REWRITE wants for this directive; none means that
    /// it wants no line at all.
    pub(crate) fn rewrite_lines(&self, settings: &Settings, defaults: &Settings) -> Vec<RewriteLine> {
        let value = self.print(settings);
        let needed = value != self.print(defaults);
        let shown = match self.kind {
            Kind::Words { lines: Some(lines), .. } => return lines(settings, defaults),
            Kind::FileOnly { .. } => return Vec::new(),
            Kind::Text { nullable: true, .. } if value.is_empty() => return Vec::new(),
            Kind::Text { .. } | Kind::Words { list: false, .. } => line::quote(&value),
            Kind::Words { list: true, .. } if value.is_empty() => "\"\"".to_owned(),
            Kind::Number { unit: Unit::Memory | Unit::MemoryOrPercent, get, .. } if get(settings) >= 0 => {
                line::format_memory(get(settings))
            }
            _ => value,
        };
        vec![RewriteLine { text: format!("{} {shown}", self.name), needed }]
    }
}

pub(crate) const WRONG_NUMBER: &str = "wrong number of arguments";

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

pub(crate) fn must_be_one_of(names: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", names.join(", "))
}

fn parse_number(word: &str, unit: Unit, min: i128, max: i128) -> Result<i128, String> {
    let value = match unit {
        Unit::Plain => {
            line::parse_integer(word).map(i128::from).ok_or("argument couldn't be parsed into an integer")?
        }
        Unit::Octal => parse_octal(word).ok_or("argument couldn't be parsed as an octal number")?,
        Unit::Memory => parse_bytes(word).ok_or("argument must be a memory value")?,
        Unit::MemoryOrPercent => return parse_memory_or_percent(word, max),
    };
    if value < min || value > max {
        let (min, max) = (print_bound(min, unit), print_bound(max, unit));
        return Err(format!("argument must be between {min} and {max} inclusive"));
    }
    Ok(value)
}

fn parse_bytes(word: &str) -> Option<i128> {
    line::parse_memory(word).and_then(|bytes| i128::try_from(bytes).ok())
}

fn parse_octal(word: &str) -> Option<i128> {
    let octal = !word.is_empty() && word.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if octal { i128::from_str_radix(word, 8).ok() } else { None }
}

fn parse_memory_or_percent(word: &str, max: i128) -> Result<i128, String> {
    let Some(percent) = word.strip_suffix('%') else {
        let bytes = parse_bytes(word).filter(|&bytes| bytes <= max);
        return bytes.ok_or_else(|| "argument must be a memory or percent value".to_owned());
    };
    match line::parse_integer(percent) {
        Some(0..=100) => Ok(-i128::from(line::parse_integer(percent).unwrap_or(0))),
        Some(101..) => Err("percentage argument must be less or equal to 100".to_owned()),
        _ => Err("argument must be a memory or percent value".to_owned()),
    }
}

fn print_number(value: i128, unit: Unit) -> String {
    match unit {
        Unit::Octal => format!("{value:o}"),
        Unit::MemoryOrPercent if value < 0 => format!("{}%", -value),
        _ => value.to_string(),
    }
}

fn print_bound(value: i128, unit: Unit) -> String {
    match unit {
        Unit::Octal => format!("{value:o}"),
        _ => value.to_string(),
    }
}
