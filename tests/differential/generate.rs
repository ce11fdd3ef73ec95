//! Random commands: small pools of keys and values, so that commands meet, and
//! adversarial arguments.
//!
//! A template is a line of words; `%x` is filled in: `%s %l %t %h %z` a key that
//! usually holds a string, list, set, hash or sorted set, `%k` any key, `%v` a
//! value, `%m` a member or field, `%i` an integer, `%f` a float, `%c` a count,
//! `%o` a byte offset, `%b` a bit offset, `%T` a distant number of seconds,
//! `%M` of milliseconds, `%A` a distant moment, `%y` an integer type of
//! BITFIELD, `%r` a range bound.

use super::support::Rng;

pub type Command = Vec<Vec<u8>>;

const STRING: &[&str] = &[
    "SET %s %v",
    "SET %s %v",
    "SET %s %v NX",
    "SET %s %v XX",
    "SET %s %v GET",
    "SET %s %v NX GET",
    "SET %s %v EX %T",
    "SET %s %v PX %M",
    "SET %s %v EXAT %A",
    "SET %s %v KEEPTTL",
    "SET %s %v XX GET EX %T",
    "SET %s %i",
    "GET %s",
    "GET %s",
    "GETSET %s %v",
    "GETDEL %s",
    "GETEX %s",
    "GETEX %s EX %T",
    "GETEX %s PERSIST",
    "GETEX %s PXAT %i",
    "SETNX %s %v",
    "SETEX %s %T %v",
    "PSETEX %s %M %v",
    "MSET %s %v %s %v",
    "MSET %s %v %s %v %s %v",
    "MSETNX %s %v %s %v",
    "MGET %s %s %s",
    "MGET %k %k %k %k",
    "APPEND %s %v",
    "STRLEN %s",
    "GETRANGE %s %r %r",
    "SUBSTR %s %r %r",
    "SETRANGE %s %o %v",
    "INCR %s",
    "DECR %s",
    "INCRBY %s %i",
    "DECRBY %s %i",
    "INCRBYFLOAT %s %f",
    "LCS %s %s",
    "LCS %s %s LEN",
    "LCS %s %s IDX",
    "LCS %s %s IDX MINMATCHLEN %c WITHMATCHLEN",
];

const BITS: &[&str] = &[
    "SETBIT %s %b 0",
    "SETBIT %s %b 1",
    "SETBIT %s %b %i",
    "GETBIT %s %b",
    "BITCOUNT %s",
    "BITCOUNT %s %r %r",
    "BITCOUNT %s %r %r BIT",
    "BITCOUNT %s %r %r BYTE",
    "BITPOS %s 0",
    "BITPOS %s 1",
    "BITPOS %s 0 %r",
    "BITPOS %s 1 %r %r",
    "BITPOS %s 0 %r %r BIT",
    "BITPOS %s %i",
    "BITOP AND %s %s %s",
    "BITOP OR %s %s %s %s",
    "BITOP XOR %s %s %s",
    "BITOP NOT %s %s",
    "BITOP NOT %s %s %s",
    "BITFIELD %s GET %y %b",
    "BITFIELD %s SET %y %b %i",
    "BITFIELD %s INCRBY %y %b %i",
    "BITFIELD %s OVERFLOW SAT INCRBY %y %b %i",
    "BITFIELD %s OVERFLOW FAIL INCRBY %y %b %i GET %y %b",
    "BITFIELD %s OVERFLOW FAIL SET %y %b %i",
    "BITFIELD %s SET %y #3 %i GET %y #3",
    "BITFIELD_RO %s GET %y %b",
    "BITFIELD_RO %s SET %y %b %i",
];

const GENERIC: &[&str] = &[
    "DEL %k",
    "DEL %k %k",
    "UNLINK %k %k",
    "EXISTS %k",
    "EXISTS %k %k %k",
    "TOUCH %k %k",
    "TYPE %k",
    "TYPE %k",
    "RENAME %k %k",
    "RENAMENX %k %k",
    "COPY %k %k",
    "COPY %k %k REPLACE",
    "COPY %k %k DB 1 REPLACE",
    "MOVE %k 1",
    "EXPIRE %k %T",
    "PEXPIRE %k %M",
    "EXPIRE %k %T NX",
    "EXPIRE %k %T XX",
    "EXPIRE %k %T GT",
    "EXPIRE %k %T LT",
    "EXPIREAT %k %A",
    "EXPIREAT %k %i",
    "PEXPIREAT %k %i",
    "PERSIST %k",
    "TTL %k",
    "PTTL %k",
    "EXPIRETIME %k",
    "PEXPIRETIME %k",
    "OBJECT ENCODING %k",
    "DBSIZE",
    "KEYS *",
    "KEYS ?1",
    "SELECT 0",
    "SELECT 0",
    "SELECT 1",
    "SELECT %i",
    "SORT %l ALPHA",
    "SORT %l",
    "SORT %t ALPHA LIMIT %i %i",
    "SORT %z ALPHA DESC STORE %l",
    "PING",
    "PING %v",
    "ECHO %v",
    "WATCH %k %k",
    "UNWATCH",
    "OBJECT REFCOUNT nokey",
];

const COLLECTIONS: &[&str] = &[
    "LPUSH %l %v",
    "LPUSH %l %v %v",
    "RPUSH %l %v",
    "RPUSH %l %v %v %v",
    "LPOP %l",
    "RPOP %l",
    "LPOP %l %c",
    "RPOP %l %c",
    "LRANGE %l %r %r",
    "LRANGE %l 0 -1",
    "LLEN %l",
    "LINDEX %l %r",
    "SADD %t %m",
    "SADD %t %m %m %m",
    "SADD %t %i",
    "SPOP %t 1000000",
    "SCARD %t",
    "SISMEMBER %t %m",
    "SMEMBERS %t",
    "SREM %t %m",
    "SREM %t %m %m",
    "HSET %h %m %v",
    "HSET %h %m %v %m %v",
    "HGET %h %m",
    "HDEL %h %m",
    "HDEL %h %m %m",
    "HLEN %h",
    "HGETALL %h",
    "ZADD %z %f %m",
    "ZADD %z %f %m %f %m",
    "ZADD %z %i %m",
    "ZRANGE %z %r %r",
    "ZRANGE %z 0 -1 WITHSCORES",
    "ZSCORE %z %m",
    "ZCARD %z",
    "ZPOPMIN %z",
    "ZPOPMIN %z %c",
    "ZREM %z %m",
    "ZREM %z %m %m",
];

const VALUES: &[&[u8]] = &[
    b"",
    b"a",
    b"abc",
    b"foobar",
    b"1",
    b"-1",
    b"10",
    b"007",
    b"+5",
    b" 1",
    b"3.5",
    b"1e3",
    b"nan",
    b"inf",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"\x00",
    b"\xff\xf0\x00",
    b"a\r\nb",
    b"\x80\x81",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
    b"a longer value that no compact encoding of a string holds: 0123456789012345678901234567890123456789",
];
const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "100",
    "255",
    "-128",
    "65536",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775806",
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999",
    "abc",
    "",
    "1.5",
    " 1",
    "1 ",
    "+1",
    "01",
    "-0",
    "0x10",
    "1e2",
];
const FLOATS: &[&str] = &[
    "0",
    "1",
    "-1",
    "1.5",
    "-2.25",
    "0.1",
    "3.0",
    "1e3",
    "1e-3",
    "100000000000000000000",
    "inf",
    "-inf",
    "+inf",
    "nan",
    "abc",
    "",
    "1.7976931348623157e308",
    "5e-324",
    "0x1p3",
    " 1",
    "1 ",
    "-0",
    ".5",
    "5.",
];
const COUNTS: &[&str] = &["0", "1", "2", "3", "1000", "-1", "abc", "9223372036854775807", ""];
const RANGES: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "-2",
    "5",
    "-5",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "abc",
    "9223372036854775808",
];
const OFFSETS: &[&str] = &["0", "1", "5", "100", "3000", "-1", "536870912", "9223372036854775807", "x"];
const BIT_OFFSETS: &[&str] = &[
    "0",
    "1",
    "7",
    "8",
    "31",
    "64",
    "1000",
    "24000",
    "-1",
    "4294967295000",
    "4294967296",
    "x",
    "#1",
    "#2",
    "9223372036854775807",
];
const TYPES: &[&str] =
    &["u1", "u4", "u8", "u13", "u32", "u63", "u64", "i1", "i5", "i8", "i16", "i64", "i65", "u0", "x8", "8", "u"];
const SECONDS: &[&str] = &[
    "",
    "1.5",
    "-9223372036854775808",
    "9223372036854775808",
    "9223372036854775",
    "100000",
    "200000",
    "3000000",
    "0",
    "-1",
    "abc",
    "9223372036854775807",
];
const MILLISECONDS: &[&str] = &[
    "",
    "abc",
    "-9223372036854775808",
    "9223372036854775808",
    "9223372036854775806",
    "100000000",
    "200000000",
    "0",
    "-5",
    "1.5",
    "9223372036854775807",
];
const MOMENTS: &[&str] = &["33177117420", "33177117421", "1", "0", "-1", "9223372036854775807"];

/// An endless stream of commands.
pub struct Generator {
    rng: Rng,
    in_multi: bool,
    /// Commands that are not generated.
    without: Vec<String>,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { rng: Rng::new(seed), in_multi: false, without: Vec::new() }
    }

    /// All commands that templates name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let templates = [STRING, BITS, GENERIC, COLLECTIONS].into_iter().flatten();
        templates.map(|template| template.split(' ').next().unwrap_or(""))
    }

    pub fn without(mut self, commands: &[String]) -> Generator {
        self.without = commands.to_vec();
        self
    }

    pub fn command(&mut self) -> Command {
        if let Some(words) = self.transaction_word() {
            return vec![words.as_bytes().to_vec()];
        }
        let template = loop {
            let template = match self.rng.below(10) {
                0..=3 => *self.rng.pick(STRING),
                4 => *self.rng.pick(BITS),
                5..=6 => *self.rng.pick(GENERIC),
                _ => *self.rng.pick(COLLECTIONS),
            };
            if !self.without.iter().any(|name| template.split(' ').next() == Some(name)) {
                break template;
            }
        };
        let mut command: Command = template.split(' ').map(|word| self.fill(word)).collect();
        self.spoil(&mut command);
        command
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
            _ => None,
        }
        .inspect(|_| self.in_multi = false)
    }

    fn fill(&mut self, word: &str) -> Vec<u8> {
        let rng = &mut self.rng;
        let Some(kind) = word.strip_prefix('%') else {
            return word.as_bytes().to_vec();
        };
        let text = match kind {
            "i" if rng.one_in(3) => return rng.between(-50, 50).to_string().into_bytes(),
            "i" => rng.pick(INTEGERS),
            "f" => rng.pick(FLOATS),
            "c" => rng.pick(COUNTS),
            "r" => rng.pick(RANGES),
            "o" => rng.pick(OFFSETS),
            "b" => rng.pick(BIT_OFFSETS),
            "y" => rng.pick(TYPES),
            "T" => rng.pick(SECONDS),
            "M" => rng.pick(MILLISECONDS),
            "A" => rng.pick(MOMENTS),
            "v" => return rng.pick(VALUES).to_vec(),
            "m" => return format!("m{}", rng.below(8)).into_bytes(),
            kind => return key(rng, kind),
        };
        text.as_bytes().to_vec()
    }

    /// Now and then: an argument too few or too many, an odd one, other case.
    fn spoil(&mut self, command: &mut Command) {
        if command[0] == b"SPOP" {
            // With another count it would choose at random.
            return;
        }
        // Another number could become a deadline that passes during the run.
        let timed = command.iter().any(|word| matches!(word.as_slice(), b"EX" | b"PX") || word.ends_with(b"EXPIRE"))
            || command[0].ends_with(b"SETEX");
        let rng = &mut self.rng;
        match rng.below(60) {
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
            _ => {}
        }
        if command.is_empty() {
            command.push(b"PING".to_vec());
        }
    }
}

fn key(rng: &mut Rng, kind: &str) -> Vec<u8> {
    let letters = ["s", "l", "t", "h", "z"];
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
