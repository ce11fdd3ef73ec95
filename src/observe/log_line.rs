//! What a log line looks like: Redis's format,
//! `PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message`, or one of those of Valkey
//! 8.1 and 9.1 with the same fields by name (`log-format`, `log-timestamp-format`).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{LogFormat, LogLevel, LogTimestamp};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// One line's fields.
pub struct Line<'a> {
    pub pid: u32,
    /// The letter that stands for the role.
    pub role: char,
    pub at: SystemTime,
    pub stamps: LogTimestamp,
    pub level: LogLevel,
    /// Without control characters.
    pub message: &'a str,
}

impl Line<'_> {
    /// The line, with its end.
    pub fn format(&self, format: LogFormat) -> String {
        let (pid, at) = (self.pid, timestamp(self.at, self.stamps));
        let (role, level) = (role_name(self.role), level_name(self.level));
        match format {
            LogFormat::Legacy => {
                format!("{pid}:{} {at} {} {}\n", self.role, level_char(self.level), self.message)
            }
            LogFormat::Logfmt => {
                let message = self.message.replace('"', "'");
                format!("pid={pid} role={role} timestamp=\"{at}\" level={level} message=\"{message}\"\n")
            }
            LogFormat::Json => {
                let message = self.message.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t");
                format!(
                    "{{\"pid\":{pid},\"role\":\"{role}\",\"timestamp\":\"{at}\",\"level\":\"{level}\",\
                     \"message\":\"{message}\"}}\n"
                )
            }
        }
    }
}

fn role_name(role: char) -> &'static str {
    match role {
        'X' => "sentinel",
        'C' => "RDB/AOF",
        'S' => "replica",
        _ => "primary",
    }
}

fn level_char(level: LogLevel) -> char {
    match level {
        LogLevel::Debug => '.',
        LogLevel::Verbose => '-',
        LogLevel::Notice => '*',
        LogLevel::Warning | LogLevel::Nothing => '#',
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Verbose => "info",
        LogLevel::Notice => "notice",
        LogLevel::Warning | LogLevel::Nothing => "warning",
    }
}

/// Local time.
fn timestamp(at: SystemTime, stamps: LogTimestamp) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
    // SAFETY: `tm` is plain data for which all zeros is valid; both
    // pointers are to live local variables, and `localtime_r` keeps none.
    let t = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        libc::localtime_r(&seconds, &mut time);
        time
    };
    let (day, year) = (t.tm_mday, t.tm_year + 1900);
    let clock = format!("{:02}:{:02}:{:02}.{:03}", t.tm_hour, t.tm_min, t.tm_sec, since.subsec_millis());
    match stamps {
        LogTimestamp::Legacy => {
            let month = usize::try_from(t.tm_mon).unwrap_or(0) % MONTHS.len();
            format!("{day:02} {} {year} {clock}", MONTHS[month])
        }
        LogTimestamp::Iso8601 => {
            let offset = t.tm_gmtoff;
            let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
            format!("{year:04}-{:02}-{day:02}T{clock}{sign}{:02}:{:02}", t.tm_mon + 1, minutes / 60, minutes % 60)
        }
        LogTimestamp::Milliseconds => since.as_millis().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn line(stamps: LogTimestamp) -> Line<'static> {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        Line { pid: 7, role: 'S', at, stamps, level: LogLevel::Verbose, message: "a \"b\"\t\\" }
    }

    #[test]
    fn formats_have_the_same_fields() {
        let l = line(LogTimestamp::Milliseconds);
        assert_eq!(l.format(LogFormat::Legacy), "7:S 1700000000123 - a \"b\"\t\\\n");
        let logfmt = "pid=7 role=replica timestamp=\"1700000000123\" level=info message=\"a 'b'\t\\\"\n";
        assert_eq!(l.format(LogFormat::Logfmt), logfmt);
        let json = "{\"pid\":7,\"role\":\"replica\",\"timestamp\":\"1700000000123\",\"level\":\"info\",\
                    \"message\":\"a \\\"b\\\"\\t\\\\\"}\n";
        assert_eq!(l.format(LogFormat::Json), json);
    }

    #[test]
    fn times_are_local() {
        let at = line(LogTimestamp::Iso8601).at;
        let iso = timestamp(at, LogTimestamp::Iso8601);
        assert_eq!(iso.len(), "2023-11-14T22:13:20.123+00:00".len(), "{iso}");
        assert!(iso.starts_with("2023-11-1") && iso.contains(":20.123"), "{iso}");
        let legacy = timestamp(at, LogTimestamp::Legacy);
        assert!(legacy.contains(" Nov 2023 ") && legacy.ends_with(":20.123"), "{legacy}");
    }
}
