//! The directive table: one row per directive, split over files by area.
//!
//! A row gives name, default, bounds and place; then alias, mutability and
//! status follow as method calls. A directive whose part has been built loses
//! its `.later(..)` or `.kept(..)`: nothing else has to change.

mod cluster;
mod cores;
mod encoding;
mod general;
mod memory;
mod network;
mod newer;
mod persistence;
mod replication;
mod tls;

use super::directive::Directive;
use super::settings::Settings;

/// A directive with the value `yes` or `no`.
macro_rules! flag {
    ($name:literal, $default:literal, $($field:ident).+) => {
        $crate::config::directive::Directive::new(
            $name,
            $crate::config::directive::Kind::Flag {
                default: $default,
                get: |s| s.$($field).+,
                set: |s, value| s.$($field).+ = value,
            },
        )
    };
}

/// A directive with a number; `$min..=$max` are checked before it is stored, so
/// the conversion to the field's type loses nothing (tested for both ends).
macro_rules! number {
    ($name:literal, $default:expr, $min:expr, $max:expr, $unit:ident, $($field:ident).+) => {
        $crate::config::directive::Directive::new(
            $name,
            $crate::config::directive::Kind::Number {
                default: $default as i128,
                min: $min as i128,
                max: $max as i128,
                unit: $crate::config::directive::Unit::$unit,
                get: |s| s.$($field).+ as i128,
                set: |s, value| s.$($field).+ = value as _,
            },
        )
    };
    ($name:literal, $default:expr, $min:expr, $max:expr, $($field:ident).+) => {
        number!($name, $default, $min, $max, Plain, $($field).+)
    };
}

/// A directive with free text that is "not set" when empty.
macro_rules! text {
    ($name:literal, $($field:ident).+) => {
        text!($name, "", true, $crate::config::words::any_text, $($field).+)
    };
    ($name:literal, $default:literal, $check:expr, $($field:ident).+) => {
        text!($name, $default, false, $check, $($field).+)
    };
    ($name:literal, $default:literal, $nullable:literal, $check:expr, $($field:ident).+) => {
        $crate::config::directive::Directive::new(
            $name,
            $crate::config::directive::Kind::Text {
                default: $default,
                nullable: $nullable,
                check: $check,
                get: |s| &s.$($field).+,
                set: |s, value| s.$($field).+ = value,
            },
        )
    };
}

/// A directive with one word of a list.
macro_rules! choice {
    ($name:literal, $type:ident::$default:ident, $($field:ident).+) => {
        $crate::config::directive::Directive::new(
            $name,
            $crate::config::directive::Kind::Choice {
                default: $crate::config::choice::$type::$default as usize,
                names: $crate::config::choice::$type::NAMES,
                get: |s| s.$($field).+ as usize,
                set: |s, index| {
                    s.$($field).+ = $crate::config::choice::$type::from_index(index);
                },
            },
        )
    };
}

/// A directive with a list of words.
macro_rules! list {
    ($name:literal, $default:literal, $parse:expr, $print:expr) => {
        list!($name, $default, true, $parse, $print, None)
    };
    ($name:literal, $default:literal, $list:literal, $parse:expr, $print:expr, $lines:expr) => {
        $crate::config::directive::Directive::new(
            $name,
            $crate::config::directive::Kind::Words {
                default: $default,
                list: $list,
                parse: $parse,
                print: $print,
                lines: $lines,
            },
        )
    };
}

/// A directive that only stands in files, with `$min..=$max` words after it.
macro_rules! file_only {
    ($name:literal, $min:expr, $max:expr, $add:expr) => {
        $crate::config::directive::Directive::new(
            $name,
            $crate::config::directive::Kind::FileOnly { add: $add, words: ($min, $max) },
        )
        .immutable()
    };
}

pub(crate) use {choice, file_only, flag, list, number, text};

/// Every directive, by area.
pub static DIRECTIVES: [&[Directive]; 10] = [
    cores::ROWS,
    network::ROWS,
    general::ROWS,
    memory::ROWS,
    encoding::ROWS,
    persistence::ROWS,
    replication::ROWS,
    cluster::ROWS,
    tls::ROWS,
    newer::ROWS,
];

/// Every directive, in the order of the table.
pub fn directives() -> impl Iterator<Item = &'static Directive> {
    DIRECTIVES.iter().copied().flatten()
}

/// The directive with this name or alias, letter case ignored.
pub fn find(name: &str) -> Option<&'static Directive> {
    directives().find(|directive| directive.is_named(name))
}

/// Gives every directive its default value.
pub(super) fn apply_defaults(settings: &mut Settings) {
    for directive in directives() {
        directive.set_default(settings);
    }
}
