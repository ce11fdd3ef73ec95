//! Runs a transcript: a text file of commands and the replies that a stock
//! server gives.
//!
//! ```text
//! # A comment.
//! > SET key "with \x00 bytes"
//! +OK
//! 2> GET key            sent on connection 2; connections open on first use
//! "with \x00 bytes"
//! >~ SMEMBERS s         the order of the elements is not compared
//! ["a", "b"]
//! 2< read               reads one more reply (a push, a blocked reply)
//! @flush                FLUSHALL and forget every connection
//! @resp3                connection 1 speaks RESP3 from here
//! @send 2 GET key       sends without reading
//! @sleep 20             milliseconds
//! @needs sort wait      skip up to the next @end unless the server has these
//! @end                  features (see `unbuilt`)
//! ```
//!
//! A reply is written as `Value`'s `Debug` prints it; `?` stands for any reply
//! that is no error, and `?error` for any error; ` || ` separates replies of
//! different stock versions. `CORESLOT_RECORD=1` rewrites
//! the file with what the server under test answers: only for use with a stock
//! server, and the change is to be read before it is kept.

use super::server::{Server, plain};
use super::unbuilt::lacks;
use super::value::Value;
use super::wire::Wire;
use std::collections::HashMap;
use std::time::Duration;

/// Plays one file of `tests/transcripts` on a server.
pub fn play(server: &Server, name: &str) {
    let path = format!("{}/tests/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    let mut player = Player { server, wires: HashMap::new(), differences: Vec::new(), recorded: String::new() };
    player.play(&text);
    if std::env::var_os("CORESLOT_RECORD").is_some() {
        assert!(plain(), "only a stock server's replies are recorded");
        std::fs::write(&path, player.recorded).expect("write the transcript");
        return;
    }
    assert!(
        player.differences.is_empty(),
        "{name}: {} of the replies differ\n{}",
        player.differences.len(),
        player.differences.join("\n")
    );
}

struct Player<'a> {
    server: &'a Server,
    wires: HashMap<u32, Wire>,
    differences: Vec<String>,
    recorded: String,
}

impl Player<'_> {
    fn play(&mut self, text: &str) {
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            self.record(line);
            if let Some(directive) = line.strip_prefix('@') {
                if let Some(features) = directive.strip_prefix("needs ")
                    && features.split(' ').any(|feature| lacks(self.server, feature))
                {
                    lines.by_ref().find(|(_, line)| *line == "@end");
                } else {
                    self.direct(directive);
                }
                continue;
            }
            let Some(step) = Step::parse(line) else {
                assert!(
                    line.is_empty() || line.starts_with('#'),
                    "line {}: neither command nor comment: {line}",
                    number + 1
                );
                continue;
            };
            let expected = match lines.peek() {
                Some((_, next)) if is_reply(next) => lines.next().map(|(_, next)| next),
                _ => None,
            };
            self.step(&step, expected.unwrap_or(""), number + 1, line);
        }
    }

    fn step(&mut self, step: &Step, expected: &str, number: usize, line: &str) {
        let wire = self.wire(step.connection);
        if !step.words.is_empty() {
            wire.send_cmd(&step.words);
        }
        let mut reply = wire.try_read().unwrap_or_else(|e| panic!("line {number}: {line}: no reply: {e}"));
        if step.sorted {
            reply = reply.sorted();
        }
        let got = format!("{reply:?}");
        let matches = match expected {
            "?" => !reply.is_error(),
            "?error" => reply.is_error(),
            text => text == got || text.split(" || ").any(|choice| choice == got),
        };
        self.record(if matches { expected } else { &got });
        if !matches {
            self.differences.push(format!("line {number}: {line}\n  expected {expected}\n  got      {got}"));
        }
    }

    fn direct(&mut self, directive: &str) {
        let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        match name {
            "flush" => {
                self.wires.clear();
                self.wire(1).run("FLUSHALL");
            }
            "needs" | "end" => {}
            "resp3" => {
                let reply = self.wire(1).run("HELLO 3");
                assert!(matches!(reply, Value::Map(_)), "HELLO 3: {reply:?}");
            }
            "send" => {
                let (connection, command) = rest.split_once(' ').expect("@send N command");
                let connection = connection.parse().expect("a connection number");
                let words = split_words(command);
                self.wire(connection).send_cmd(&words);
                std::thread::sleep(Duration::from_millis(50));
            }
            "sleep" => {
                let milliseconds = rest.parse().expect("a number of milliseconds");
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
            other => panic!("unknown directive @{other}"),
        }
    }

    fn wire(&mut self, connection: u32) -> &mut Wire {
        let server = self.server;
        self.wires.entry(connection).or_insert_with(|| server.wire())
    }

    fn record(&mut self, line: &str) {
        self.recorded.push_str(line);
        self.recorded.push('\n');
    }
}

struct Step {
    connection: u32,
    sorted: bool,
    words: Vec<Vec<u8>>,
}

impl Step {
    fn parse(line: &str) -> Option<Step> {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        let connection = line[..digits].parse().unwrap_or(1);
        let rest = &line[digits..];
        if rest.starts_with('<') {
            return Some(Step { connection, sorted: false, words: Vec::new() });
        }
        let rest = rest.strip_prefix('>')?;
        let sorted = rest.starts_with('~');
        Some(Step { connection, sorted, words: split_words(rest.trim_start_matches('~')) })
    }
}

fn is_reply(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', '@']) && (Step::parse(line).is_none() || line.starts_with(">["))
}

/// Splits words as redis-cli does: double quotes with escapes.
pub fn split_words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.next_if_eq(&b' ').is_some() {}
        let Some(first) = bytes.peek() else {
            return words;
        };
        let mut word = Vec::new();
        if *first != b'"' {
            while let Some(byte) = bytes.next_if(|b| *b != b' ') {
                word.push(byte);
            }
        } else {
            bytes.next();
            loop {
                match bytes.next().expect("a closing quote") {
                    b'"' => break,
                    b'\\' => word.push(unescape(&mut bytes)),
                    byte => word.push(byte),
                }
            }
        }
        words.push(word);
    }
}

fn unescape(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    let mut next = || bytes.next().expect("a character after a backslash");
    match next() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'0' => 0,
        b'x' => {
            let digits = [next(), next()];
            let text = std::str::from_utf8(&digits).expect("hex digits");
            u8::from_str_radix(text, 16).expect("hex digits")
        }
        byte => byte,
    }
}
