//! Typed values of the directives that are more than a number or a word.

use std::fmt;

/// `hard soft seconds`: when a client's output buffer disconnects it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputBufferLimit {
    /// Bytes at which the client is dropped at once; 0 means never.
    pub hard_bytes: u64,
    /// Bytes above which the client may not stay for `soft_seconds`; 0 means never.
    pub soft_bytes: u64,
    /// Seconds that the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// One `save <seconds> <changes>` pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last snapshot.
    pub seconds: i64,
    /// Changes since the last snapshot.
    pub changes: i64,
}

/// Which data cores to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// One per usable CPU, less the service core's where there are enough.
    #[default]
    Auto,
    /// So many, on the first usable CPUs.
    Count(usize),
    /// One on each of these CPUs, in this order.
    Cpus(Vec<usize>),
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Cpus(cpus) => f.write_str(&format_cpu_list(cpus)),
        }
    }
}

/// Where the service core runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceCore {
    /// Pinned to a CPU of its own if there are CPUs to spare.
    #[default]
    Auto,
    /// Not pinned.
    None,
    /// Pinned to this CPU.
    Cpu(usize),
}

impl fmt::Display for ServiceCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Cpu(cpu) => write!(f, "{cpu}"),
        }
    }
}

/// Largest CPU number that a list may name; the kernel's own limit.
pub const CPU_MAX: usize = 8191;

/// Reads a CPU list such as `0-3,6`. A list with one number needs a trailing
/// comma (`6,`) where a bare number means a count.
pub fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim_end_matches(',').split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first)?, parse_cpu(last)?);
        if first > last {
            return None;
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return None;
            }
            cpus.push(cpu);
        }
    }
    Some(cpus)
}

/// Reads one CPU number.
pub fn parse_cpu(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let cpu: usize = if digits {
        text.parse().ok()?
    } else {
        return None;
    };
    (cpu <= CPU_MAX).then_some(cpu)
}

/// Writes a CPU list with runs joined, so that [`parse_cpu_list`] reads it back.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let parts: Vec<String> = runs
        .iter()
        .map(|&(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    match cpus {
        [only] => format!("{only},"),
        _ => parts.join(","),
    }
}

/// `shutdown-on-sigterm` and `-sigint`: a set of words; empty is `default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags {
    /// Take a snapshot even without save points.
    pub save: bool,
    /// Take no snapshot even with save points.
    pub nosave: bool,
    /// Do not wait for lagging replicas.
    pub now: bool,
    /// Ignore errors that would cancel the shutdown.
    pub force: bool,
}

impl fmt::Display for ShutdownFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = [(self.save, "save"), (self.nosave, "nosave"), (self.now, "now"), (self.force, "force")]
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, word)| *word)
            .collect();
        match words.is_empty() {
            true => f.write_str("default"),
            false => f.write_str(&words.join(" ")),
        }
    }
}

/// The event classes of `notify-keyspace-events`, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    /// `K`: publish to `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: Self = Self(1);
    /// `E`: publish to `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: commands of every type, such as DEL.
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`: string commands.
    pub const STRING: Self = Self(1 << 3);
    /// `l`: list commands.
    pub const LIST: Self = Self(1 << 4);
    /// `s`: set commands.
    pub const SET: Self = Self(1 << 5);
    /// `h`: hash commands.
    pub const HASH: Self = Self(1 << 6);
    /// `z`: sorted set commands.
    pub const ZSET: Self = Self(1 << 7);
    /// `x`: expired keys.
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`: evicted keys.
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`: stream commands.
    pub const STREAM: Self = Self(1 << 10);
    /// `m`: accesses to keys that do not exist; not part of `A`.
    pub const KEY_MISS: Self = Self(1 << 11);
    /// `d`: module key types.
    pub const MODULE: Self = Self(1 << 12);
    /// `n`: new keys; not part of `A`.
    pub const NEW: Self = Self(1 << 13);
    /// `A`: every class except `m` and `n`.
    pub const ALL: Self = Self(0b01_0111_1111_1100);

    const LETTERS: [(char, Self); 14] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::ZSET),
        ('x', Self::EXPIRED),
        ('e', Self::EVICTED),
        ('t', Self::STREAM),
        ('d', Self::MODULE),
        ('n', Self::NEW),
        ('K', Self::KEYSPACE),
        ('E', Self::KEYEVENT),
        ('m', Self::KEY_MISS),
    ];

    /// Reads the letters; `None` if one is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        let mut events = Self::default();
        for letter in text.chars() {
            let bit = match letter {
                'A' => Self::ALL,
                _ => Self::LETTERS.iter().find(|(l, _)| *l == letter)?.1,
            };
            events.0 |= bit.0;
        }
        Some(events)
    }

    /// Whether every class of `other` is on.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether an event of `class` has anybody to go to: the class and at least
    /// one of `K` and `E` are on.
    pub fn wants(self, class: Self) -> bool {
        self.contains(class) && self.0 & (Self::KEYSPACE.0 | Self::KEYEVENT.0) != 0
    }

    /// Whether nothing is on.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The canonical letters. Redis 7.0 and 7.2 leave `n` out next to `A`, which
/// would lose the class in CONFIG REWRITE; here it is printed.
impl fmt::Display for KeyspaceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.contains(Self::ALL);
        let mut text = String::new();
        if all {
            text.push('A');
        }
        for (letter, bit) in Self::LETTERS {
            if self.contains(bit) && !(all && Self::ALL.contains(bit)) {
                text.push(letter);
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-3,6").unwrap(), [0, 1, 2, 3, 6]);
        assert_eq!(parse_cpu_list("6,").unwrap(), [6]);
        for bad in ["", "a", "3-1", "0,0", "0-", "-", "0-99999999", "+1", "1,,2"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
        for cpus in [vec![5], vec![0, 1], vec![0, 1, 2, 7], vec![3, 1]] {
            assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)).unwrap(), cpus);
        }
    }

    #[test]
    fn keyspace_event_letters_print_canonically() {
        for (given, printed) in [
            ("KEA", "AKE"),
            ("KEg$xnmt", "g$xtnKEm"),
            ("ntlm", "ltnm"),
            ("E", "E"),
            ("g$lshzxetdKEm", "AKEm"),
            ("AKEnm", "AnKEm"),
            ("", ""),
        ] {
            assert_eq!(KeyspaceEvents::parse(given).unwrap().to_string(), printed);
        }
        assert_eq!(KeyspaceEvents::parse("q"), None);
    }

    #[test]
    fn events_need_a_channel_kind() {
        let silent = KeyspaceEvents::parse("A").unwrap();
        assert!(!silent.wants(KeyspaceEvents::LIST));
        let events = KeyspaceEvents::parse("Kl").unwrap();
        assert!(events.wants(KeyspaceEvents::LIST));
        assert!(!events.wants(KeyspaceEvents::SET));
    }
}
