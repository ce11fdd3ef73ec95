//! The request template and its keys.
//!
//! A request is encoded once. Keys have a fixed width (the prefix and twelve
//! digits, as redis-benchmark's `-r` makes them), so sending is a copy and the
//! writing of the digits.

use crate::Failure;
use crate::args::Options;

/// Digits of a key's number.
const KEY_DIGITS: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyOrder {
    Random,
    Sequential,
}

/// One encoded command and where its keys' digits stand.
#[derive(Clone, Debug)]
struct Encoded {
    bytes: Vec<u8>,
    digits_at: Vec<usize>,
}

impl Encoded {
    fn new(words: &[String], key_prefix: &str, value: &[u8]) -> Encoded {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        let mut digits_at = Vec::new();
        for word in words {
            let (arg, digits) = expand(word, key_prefix, value);
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            digits_at.extend(digits.iter().map(|at| bytes.len() + at));
            bytes.extend_from_slice(&arg);
            bytes.extend_from_slice(b"\r\n");
        }
        Encoded { bytes, digits_at }
    }
}

/// Replaces the placeholders of one word; also gives the places of the digits.
fn expand(word: &str, key_prefix: &str, value: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut arg = Vec::new();
    let mut digits_at = Vec::new();
    let mut rest = word;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("__key__") {
            arg.extend_from_slice(key_prefix.as_bytes());
            digits_at.push(arg.len());
            arg.extend_from_slice(&[b'0'; KEY_DIGITS]);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("__data__") {
            arg.extend_from_slice(value);
            rest = after;
        } else {
            let next = rest[1..].find("__").map_or(rest.len(), |at| at + 1);
            arg.extend_from_slice(&rest.as_bytes()[..next]);
            rest = &rest[next..];
        }
    }
    (arg, digits_at)
}

/// Splits at white space; `"..."` holds a word together.
fn words(command: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted || words.is_empty() {
        return Err(Failure::Usage("--command is empty or has an open quote".to_string()));
    }
    Ok(words)
}

/// What is sent: one command, or a mix of two.
#[derive(Clone, Debug)]
pub struct Template {
    first: Encoded,
    second: Encoded,
    first_ratio: f64,
}

impl Template {
    pub fn new(options: &Options) -> Result<Template, Failure> {
        let value = vec![b'x'; options.value_bytes];
        let encode = |command: &str| Ok::<_, Failure>(Encoded::new(&words(command)?, &options.key_prefix, &value));
        let (first, second, first_ratio) = match &options.command {
            Some(command) => (encode(command)?, encode(command)?, 1.0),
            None => (encode("SET __key__ __data__")?, encode("GET __key__")?, options.set_ratio),
        };
        Ok(Template { first, second, first_ratio })
    }

    /// Appends one request with its next keys.
    pub fn append(&self, keys: &mut Keys, out: &mut Vec<u8>) {
        let encoded =
            if self.first_ratio >= 1.0 || keys.random.unit() < self.first_ratio { &self.first } else { &self.second };
        let start = out.len();
        out.extend_from_slice(&encoded.bytes);
        for at in &encoded.digits_at {
            let digits = &mut out[start + at..start + at + KEY_DIGITS];
            write_digits(keys.next(), digits);
        }
    }
}

fn write_digits(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// One thread's sequence of key numbers.
pub struct Keys {
    order: KeyOrder,
    start: u64,
    count: u64,
    /// Position in a sequential run; threads interleave.
    position: u64,
    stride: u64,
    random: Random,
}

impl Keys {
    pub fn new(options: &Options, thread: usize) -> Keys {
        Keys {
            order: options.key_order,
            start: options.key_start,
            count: options.keys,
            position: thread as u64,
            stride: options.threads as u64,
            random: Random::new(options.seed.wrapping_add(thread as u64)),
        }
    }

    fn next(&mut self) -> u64 {
        let offset = match self.order {
            KeyOrder::Random => self.random.below(self.count),
            KeyOrder::Sequential => {
                let offset = self.position % self.count;
                self.position = self.position.wrapping_add(self.stride);
                offset
            }
        };
        self.start + offset
    }
}

/// A Weyl sequence through a mixing function: enough for keys, and repeatable.
struct Random {
    state: u64,
}

impl Random {
    fn new(seed: u64) -> Random {
        let mut random = Random { state: seed };
        random.state = random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = u128::from(self.state) * 0xD6E8_FEB8_6659_FD93_u128;
        let folded = (mixed >> 64) as u64 ^ mixed as u64;
        (folded ^ (folded >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(options: &Options, count: usize) -> String {
        let template = Template::new(options).unwrap();
        let mut keys = Keys::new(options, 0);
        let mut out = Vec::new();
        for _ in 0..count {
            template.append(&mut keys, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn placeholders_are_replaced() {
        let options = Options {
            command: Some("HSET h:__key__ \"a b\" <__data__>".to_string()),
            key_order: KeyOrder::Sequential,
            key_start: 7,
            value_bytes: 3,
            ..Options::default()
        };
        assert_eq!(
            render(&options, 1),
            "*4\r\n$4\r\nHSET\r\n$18\r\nh:key:000000000007\r\n$3\r\na b\r\n$5\r\n<xxx>\r\n"
        );
    }

    #[test]
    fn sequential_keys_wrap_and_random_keys_stay_in_range() {
        let mut options = Options { key_order: KeyOrder::Sequential, key_start: 10, keys: 3, ..Options::default() };
        let mut keys = Keys::new(&options, 0);
        let run: Vec<u64> = (0..4).map(|_| keys.next()).collect();
        assert_eq!(run, [10, 11, 12, 10]);
        options.key_order = KeyOrder::Random;
        let mut keys = Keys::new(&options, 0);
        let mut seen = [0; 3];
        for _ in 0..3000 {
            seen[(keys.next() - 10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 900), "{seen:?}");
    }

    #[test]
    fn the_mix_has_the_asked_ratio() {
        let options = Options { set_ratio: 0.25, ..Options::default() };
        let sets = render(&options, 10_000).matches("SET").count();
        assert!((2300..2700).contains(&sets), "{sets}");
    }
}
