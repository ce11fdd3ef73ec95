//! Random commands: small pools of keys and values, so that commands meet, and
//! adversarial arguments. `templates.rs` and `templates_edges.rs` hold the lines that they are made
//! from, `words.rs` what these are filled with.

#[path = "templates.rs"]
mod templates;
#[path = "templates_edges.rs"]
mod templates_edges;
#[path = "words.rs"]
mod words;

use super::support::Rng;
use std::collections::VecDeque;
use templates::*;
use templates_edges::*;
use words::*;

pub type Command = Vec<Vec<u8>>;

/// The lists of templates, each with its share of the commands.
const FAMILIES: &[(&[&str], usize)] = &[
    (STRING, 8),
    (BITS, 2),
    (GENERIC, 7),
    (COLLECTIONS, 6),
    (MORE_COLLECTIONS, 12),
    (STREAMS, 8),
    (SCRIPTS, 1),
    (MORE_SCRIPTS, 2),
    (HYPERLOGLOGS, 1),
    (GEO, 2),
    (SORTS, 2),
    (DEEP, 2),
    (EDGES, 8),
    (LUA_LIBRARIES, 1),
    (FUNCTIONS, 1),
    (ACCESS, 1),
    (MISCELLANY, 2),
];
/// After this many commands at most the connection is the default user again.
const LOGIN_MAX: usize = 20;

/// An endless stream of commands.
pub struct Generator {
    rng: Rng,
    in_multi: bool,
    /// Commands that are not generated.
    without: Vec<String>,
    /// What comes next, whatever chance says.
    pending: VecDeque<Command>,
    /// Commands left until the connection becomes the default user.
    login: usize,
    /// No users and settings.
    data_only: bool,
}

/// Key, group and consumer of those that a command would make consumers of.
fn consumers(command: &Command) -> Vec<Command> {
    let is = |at: usize, word: &str| command.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    if (is(0, "XCLAIM") || is(0, "XAUTOCLAIM")) && command.len() > 3 {
        return vec![command[1..4].to_vec()];
    }
    let place = |word: &str| (1..command.len()).find(|at| is(*at, word));
    match (place("GROUP"), place("STREAMS")) {
        (Some(group), Some(streams)) if is(0, "XREADGROUP") && group + 2 < command.len() => {
            let behind = &command[streams + 1..];
            let named = |key: &Vec<u8>| vec![key.clone(), command[group + 1].clone(), command[group + 2].clone()];
            behind[..behind.len() / 2].iter().map(named).collect()
        }
        _ => Vec::new(),
    }
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator {
            rng: Rng::new(seed),
            in_multi: false,
            without: Vec::new(),
            pending: VecDeque::new(),
            login: 0,
            data_only: false,
        }
    }

    /// All commands that templates name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let templates = FAMILIES.iter().flat_map(|(list, _)| *list);
        templates.map(|template| template.split(' ').next().unwrap_or(""))
    }

    pub fn without(mut self, commands: &[String]) -> Generator {
        self.without = commands.to_vec();
        self
    }

    /// Leaves out users, settings and what concerns the server.
    #[allow(dead_code)]
    pub fn data_only(mut self) -> Generator {
        self.data_only = true;
        self
    }

    pub fn command(&mut self) -> Command {
        if let Some(command) = self.pending.pop_front() {
            return command;
        }
        // Not within a transaction, which may be discarded.
        if self.login > 0 && !(self.login == 1 && self.in_multi) {
            self.login -= 1;
            if self.login == 0 {
                return words("AUTH default x");
            }
        }
        if let Some(words) = self.transaction_word() {
            return vec![words.as_bytes().to_vec()];
        }
        let template = self.template();
        let mut command: Command = template.split(' ').flat_map(|word| self.fill_all(word)).collect();
        self.spoil(&mut command);
        if (self.login > 0 || self.in_multi) && is_open_in_redis(&command) {
            return words("PING");
        }
        if is_of_the_moment(&command) {
            return words("PING");
        }
        self.look_at_encoding(template, &command);
        if command[0].eq_ignore_ascii_case(b"AUTH") {
            self.login = 1 + self.rng.below(LOGIN_MAX);
        }
        match self.rng.below(100) {
            0 | 1 if self.without.iter().any(|name| name == "COMMAND") => command,
            // 7.0 takes no command of one word, 7.2 does.
            0 | 1 if command.len() == 1 => command,
            0 => [words("COMMAND GETKEYS"), command].concat(),
            1 => [words("COMMAND GETKEYSANDFLAGS"), command].concat(),
            2 => [words("ACL DRYRUN u0"), command].concat(),
            _ => self.consumers_first(command),
        }
    }

    /// Since 7.2 who asks for entries is a consumer, even if there are none for it.
    /// 7.0 does not keep such a one, so it is made before.
    fn consumers_first(&mut self, command: Command) -> Command {
        let mut all: Vec<Command> =
            consumers(&command).into_iter().map(|c| [words("XGROUP CREATECONSUMER"), c].concat()).collect();
        all.push(command);
        all.into_iter().rev().for_each(|c| self.pending.push_front(c));
        self.pending.pop_front().expect("the command at least")
    }

    fn template(&mut self) -> &'static str {
        let total: usize = FAMILIES.iter().map(|(_, share)| share).sum();
        loop {
            let mut at = self.rng.below(total);
            let mut families = FAMILIES.iter();
            let list = loop {
                let (list, share) = families.next().expect("below the total");
                if at < *share {
                    break list;
                }
                at -= share;
            };
            if self.data_only && (*list == ACCESS || *list == MISCELLANY) {
                continue;
            }
            let template = *self.rng.pick(list);
            if !self.without.iter().any(|name| template.split(' ').next() == Some(name)) {
                return template;
            }
        }
    }

    /// Asks for the encoding of the key that a command has changed, perhaps.
    fn look_at_encoding(&mut self, template: &str, command: &Command) {
        const KINDS: [&str; 8] = ["%s", "%l", "%t", "%h", "%z", "%x", "%p", "%e"];
        let first = template.split(' ').position(|word| KINDS.contains(&word));
        let key = first.and_then(|at| command.get(at));
        if let Some(key) = key.filter(|_| self.rng.one_in(3)) {
            let mut look = words(ENCODING);
            look.push(key.clone());
            self.pending.push_back(look);
        }
    }

    fn transaction_word(&mut self) -> Option<&'static str> {
        if self.in_multi && self.rng.one_in(5) {
            self.in_multi = false;
            return Some(if self.rng.one_in(8) { "DISCARD" } else { "EXEC" });
        }
        if self.rng.one_in(40) {
            self.in_multi = true;
            return Some("MULTI");
        }
        match self.rng.below(1500) {
            0 => Some("EXEC"),
            1 => Some("DISCARD"),
            2 => Some("FLUSHDB"),
            3 => Some("RESET"),
            4 => Some("FLUSHALL"),
            _ => None,
        }
        .inspect(|_| self.in_multi = false)
    }

    /// `~9:%a:%b` stands for `%a %b` nine times.
    fn fill_all(&mut self, word: &str) -> Vec<Vec<u8>> {
        let Some((times, group)) = word.strip_prefix('~').and_then(|rest| rest.split_once(':')) else {
            return vec![self.fill(word)];
        };
        let Ok(times) = times.parse::<usize>() else { return vec![self.fill(word)] };
        (0..times).flat_map(|_| group.split(':').map(|word| self.fill(word)).collect::<Vec<_>>()).collect()
    }

    fn fill(&mut self, word: &str) -> Vec<u8> {
        let rng = &mut self.rng;
        if let Some(family) = word.strip_suffix("%n") {
            return format!("{family}{}", rng.below(4)).into_bytes();
        }
        let Some(kind) = word.strip_prefix('%') else {
            return word.as_bytes().to_vec();
        };
        let text = match kind {
            "i" if rng.one_in(3) => return rng.between(-50, 50).to_string().into_bytes(),
            "i" => rng.pick(INTEGERS),
            "f" => rng.pick(FLOATS),
            "c" => rng.pick(COUNTS),
            "S" => rng.pick(SCORES),
            "X" => rng.pick(BYTE_BOUNDS),
            "a" => rng.pick(RULES),
            "C" => rng.pick(LIBRARIES),
            "B" => rng.pick(&["a", "b", "c", "d", "e", "*", "nosuch"]),
            "u" => return format!("u{}", rng.below(3)).into_bytes(),
            "r" => rng.pick(RANGES),
            "o" => rng.pick(OFFSETS),
            "b" => rng.pick(BIT_OFFSETS),
            "y" => rng.pick(TYPES),
            "T" => rng.pick(SECONDS),
            "M" => rng.pick(MILLISECONDS),
            "A" => rng.pick(MOMENTS),
            // A key that is past its deadline when it is made stays until somebody
            // looks: KEYS removes it in Redis only.
            "D" => rng.pick(&["33177117420", "33177117421", "0", "-1", "9223372036854775807"]),
            "v" => return rng.pick(VALUES).to_vec(),
            // As long as the compact encodings hold, and a bit longer.
            "V" => {
                let len = *rng.pick(LENGTHS);
                let byte = |i: usize| if rng.one_in(3) { b'a' + (i % 23) as u8 } else { b'x' };
                return (0..len).map(byte).collect();
            }
            "w" => return format!("w{}", rng.below(200)).into_bytes(),
            "P" => rng.pick(PATTERNS),
            "j" => rng.pick(JSON),
            "F" => rng.pick(FORMATS),
            "q" => rng.pick(LUA_FORMATS),
            "Q" => rng.pick(LUA_PATTERNS),
            "N" => rng.pick(AWAY),
            "I" if rng.one_in(60) => "18446744073709551615-18446744073709551615",
            "I" if rng.one_in(2) => return format!("{}-{}", rng.below(30), rng.below(4)).into_bytes(),
            "I" => rng.pick(IDS),
            "J" if rng.one_in(3) => return format!("({}-{}", rng.below(30), rng.below(4)).into_bytes(),
            "J" if rng.one_in(3) => {
                rng.pick(&["-", "+", "(-", "(", "(18446744073709551615-18446744073709551615", "(0"])
            }
            "J" => rng.pick(IDS),
            "g" => rng.pick(&["g1", "g1", "g2"]),
            "G" => rng.pick(LONGITUDES),
            "L" => rng.pick(LATITUDES),
            "R" => rng.pick(RADII),
            "U" => rng.pick(UNITS),
            "n" => return rng.below(4).to_string().into_bytes(),
            "m" => return format!("m{}", rng.below(8)).into_bytes(),
            kind => return key(rng, kind),
        };
        text.as_bytes().to_vec()
    }

    /// Now and then: an argument too few or too many, an odd one, other case.
    fn spoil(&mut self, command: &mut Command) {
        // With another count it would choose at random; with another timeout it
        // could wait for ever.
        let name = &command[0];
        let by_chance = name == b"SPOP" || name.windows(4).any(|part| part == b"RAND") || name.ends_with(b"SCAN");
        let waits = matches!(name.first_chunk(), Some(b"BL" | b"BR" | b"BZ")) || name.starts_with(b"XREAD");
        let of_server = matches!(&name[..], b"CLIENT" | b"CONFIG" | b"AUTH" | b"ACL" | b"HELLO" | b"WAIT" | b"MEMORY");
        // More words make them act, or tell of the server.
        let of_server = of_server || matches!(&name[..], b"INFO" | b"FAILOVER" | b"REPLCONF" | b"CLUSTER");
        // They take an argument more than those of 7.0.
        let of_server = of_server || matches!(&name[..], b"ZRANK" | b"ZREVRANK");
        // Without sources Redis lets everybody make its key.
        let of_server = of_server || name == b"PFMERGE";
        if by_chance || waits || of_server {
            return;
        }
        // Another number could become a deadline that passes during the run.
        let timed = command.iter().any(|word| matches!(word.as_slice(), b"EX" | b"PX") || word.ends_with(b"EXPIRE"))
            || command[0].ends_with(b"SETEX");
        // Where members of one sorted set have different scores, what stands
        // between two of them in the order of bytes depends on the encoding.
        let timed = timed || command.get(1).is_some_and(|key| key.starts_with(b"lex"));
        let rng = &mut self.rng;
        match rng.below(80) {
            0 | 1 => drop(command.pop()),
            2 => command.push(rng.pick(VALUES).to_vec()),
            3 => command[0] = command[0].to_ascii_lowercase(),
            4 if !timed => {
                let place = rng.below(command.len());
                command[place] = rng.pick(VALUES).to_vec();
            }
            5 if !timed => {
                let place = rng.below(command.len());
                command[place] = rng.pick(INTEGERS).as_bytes().to_vec();
            }
            6 if !timed => {
                let place = 1 + rng.below(command.len());
                command.insert(place.min(command.len()), rng.pick(OPTIONS).as_bytes().to_vec());
            }
            7 if !timed && command.len() > 3 => rng.shuffle(&mut command[2..]),
            8 if !timed && command.len() > 2 => {
                let again = command[2..].to_vec();
                command.extend(again);
            }
            _ => {}
        }
        if command.is_empty() {
            command.push(b"PING".to_vec());
        }
    }
}

/// What Redis lets users do who may not use the key: the data would differ.
fn is_open_in_redis(command: &Command) -> bool {
    let name = command[0].to_ascii_uppercase();
    name == b"DEBUG" || (name == b"PFMERGE" && command.len() < 3)
}

/// An entry whose identifier is the time.
fn is_of_the_moment(command: &Command) -> bool {
    command[0].eq_ignore_ascii_case(b"XADD") && command.iter().any(|word| word == b"*")
}

fn key(rng: &mut Rng, kind: &str) -> Vec<u8> {
    let letters = ["s", "l", "t", "h", "z", "x", "p", "e"];
    let letter = match kind {
        "k" => *rng.pick(&letters),
        _ if rng.one_in(12) => *rng.pick(&letters),
        kind => kind,
    };
    if rng.one_in(200) {
        return rng.pick(VALUES).to_vec();
    }
    format!("{letter}{}", rng.below(4)).into_bytes()
}

/// A command from words without spaces.
pub fn words(line: &str) -> Command {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
