//! Random commands: small pools of keys and values, so that commands meet, and
//! adversarial arguments.
//!
//! A template is a line of words; `%x` is filled in: `%s %l %t %h %z` a key that
//! usually holds a string, list, set, hash or sorted set, `%k` any key, `%v` a
//! value, `%m` a member or field, `%i` an integer, `%f` a float, `%c` a count,
//! `%o` a byte offset, `%b` a bit offset, `%T` a distant number of seconds,
//! `%M` of milliseconds, `%A` a distant moment, `%y` an integer type of
//! BITFIELD, `%r` a range bound, `%x` a stream's key, `%I` an identifier of an
//! entry, `%J` the end of an interval of them, `%g` a consumer group, `%p` a
//! HyperLogLog's key, `%e` a geo index's, `%G %L %R %U` a longitude, latitude,
//! radius, unit, `%n` a small number.

use super::support::Rng;

pub type Command = Vec<Vec<u8>>;

const SCRIPTS: &[&str] = &[
    "EVAL return(redis.call('GET',KEYS[1])) 1 %k",
    "EVAL return{redis.call('SET',KEYS[1],ARGV[1]),redis.call('GET',KEYS[1])} 1 %s %v",
    "EVAL return{redis.call('SET',KEYS[1],ARGV[1]),redis.call('INCR',KEYS[2])} 2 %s %k %v",
    "EVAL return{redis.pcall('RPUSH',KEYS[1],ARGV[1]),redis.pcall('LLEN',KEYS[2])} 2 %l %k %v",
    "EVAL return(redis.pcall(unpack(ARGV))) 0 GET %k",
    "EVAL return(redis.pcall(unpack(ARGV))) 0 MGET %k %k %k",
    "EVAL return(redis.pcall(unpack(ARGV))) 0 LRANGE %l %r %r",
    "EVAL return(redis.pcall(unpack(ARGV))) 1 %k ZRANGE %z 0 -1 WITHSCORES",
    "EVAL return(redis.pcall(unpack(ARGV))) 1 %k INCRBYFLOAT %s %f",
    "EVAL return{redis.pcall('DEL',ARGV[1]),redis.pcall('SET',ARGV[2],'x'),redis.pcall('RPUSH',ARGV[3],'y')} 0 %k %k %k",
    "EVAL return(cjson.encode(redis.pcall('LRANGE',KEYS[1],0,-1))) 1 %l",
    "EVAL return(cmsgpack.pack(redis.pcall('MGET',unpack(KEYS)))) 3 %s %s %s",
    "EVAL redis.setresp(3);return(redis.pcall('ZSCORE',KEYS[1],ARGV[1])) 1 %z %m",
    "EVAL return(tonumber(ARGV[1])) 0 %f",
    "EVAL return(redis.call('ECHO',tonumber(ARGV[1]))) 0 %f",
    "EVAL return(ARGV) 0 %v %v",
    "EVAL error(ARGV[1]) 0 %v",
    "EVAL return(redis.error_reply(ARGV[1])) 0 %v",
    "EVAL return(redis.status_reply(ARGV[1])) 0 %v",
    "EVAL return{pcall(cjson.decode,ARGV[1])} 0 %v",
    "EVAL return(redis.sha1hex(ARGV[1])) 0 %v",
    "EVAL_RO return(redis.pcall('SET',KEYS[1],'b')) 1 %s",
    "EVAL_RO return(redis.pcall('STRLEN',KEYS[1])) 1 %s",
    "EVALSHA %v 0",
    "SCRIPT EXISTS %v",
    "FCALL %v 0",
    "FUNCTION LIST",
];

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
    "EXPIREAT %k %A GT",
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
    "BLPOP %l %l 0.001",
    "BRPOP %l 0.001",
    "BLMOVE %l %l LEFT RIGHT 0.001",
    "BRPOPLPUSH %l %l 0.001",
    "BLMPOP 0.001 2 %l %l LEFT COUNT %c",
    "BZPOPMIN %z %z 0.001",
    "BZPOPMAX %z 0.001",
    "BZMPOP 0.001 2 %z %z MAX COUNT %c",
];

const STREAMS: &[&str] = &[
    "XADD %x %I a %v",
    "XADD %x %I a %v",
    "XADD %x %I %m %v %m %v",
    "XADD %x %I a %v b %i c %v",
    "XADD %x NOMKSTREAM %I a 1",
    "XADD %x MAXLEN %c %I a 1",
    "XADD %x MAXLEN ~ %c LIMIT %c %I a 1",
    "XADD %x MINID = %I %I a 1",
    "XADD %x MINID ~ %I %I a 1",
    "XLEN %x",
    "XDEL %x %I",
    "XDEL %x %I %I",
    "XTRIM %x MAXLEN %c",
    "XTRIM %x MAXLEN ~ %c",
    "XTRIM %x MINID %I",
    "XTRIM %x MAXLEN ~ %c LIMIT %i",
    "XRANGE %x - +",
    "XRANGE %x %J %J",
    "XRANGE %x %J %J COUNT %c",
    "XREVRANGE %x + -",
    "XREVRANGE %x %J %J COUNT %c",
    "XREAD STREAMS %x %I",
    "XREAD COUNT %c STREAMS %x %x %I %I",
    "XREAD STREAMS %x %x $ 0",
    "XGROUP CREATE %x %g %I",
    "XGROUP CREATE %x %g $ MKSTREAM",
    "XGROUP CREATE %x %g 0 ENTRIESREAD %i",
    "XGROUP CREATE %x %g 0 MKSTREAM",
    "XGROUP SETID %x %g %I",
    "XGROUP SETID %x %g %I ENTRIESREAD %i",
    "XGROUP DESTROY %x %g",
    "XGROUP CREATECONSUMER %x %g %m",
    "XGROUP DELCONSUMER %x %g %m",
    "XREADGROUP GROUP %g %m STREAMS %x >",
    "XREADGROUP GROUP %g %m COUNT %c STREAMS %x >",
    "XREADGROUP GROUP %g %m NOACK COUNT %c STREAMS %x >",
    "XREADGROUP GROUP %g %m STREAMS %x %I",
    "XREADGROUP GROUP %g %m STREAMS %x %x > >",
    "XREADGROUP GROUP %g %m COUNT %c STREAMS %x %x > 0",
    "XACK %x %g %I",
    "XACK %x %g %I %I",
    "XPENDING %x %g",
    "XPENDING %x %g %J %J %c",
    "XPENDING %x %g - + %c %m",
    "XPENDING %x %g IDLE 0 - + %c",
    "XPENDING %x %g IDLE 100000000 - + 10",
    "XCLAIM %x %g %m 0 %I",
    "XCLAIM %x %g %m 0 %I %I JUSTID",
    "XCLAIM %x %g %m 0 %I FORCE RETRYCOUNT %i",
    "XCLAIM %x %g %m 0 %I FORCE",
    "XCLAIM %x %g %m 0 %I IDLE %i",
    "XCLAIM %x %g %m 0 %I TIME %i FORCE",
    "XCLAIM %x %g %m 100000000 %I",
    "XCLAIM %x %g %m 0 %I LASTID %I",
    "XAUTOCLAIM %x %g %m 0 %J",
    "XAUTOCLAIM %x %g %m 0 0 COUNT %c",
    "XAUTOCLAIM %x %g %m 0 %J COUNT 1 JUSTID",
    "XAUTOCLAIM %x %g %m 100000000 -",
    "XINFO STREAM %x",
    "XINFO STREAM %x FULL",
    "XINFO STREAM %x FULL COUNT %c",
    "XINFO GROUPS %x",
    "XINFO CONSUMERS %x %g",
    "XSETID %x %I ENTRIESADDED %i MAXDELETEDID %I",
    "XREAD BLOCK 1 STREAMS %x %x %I $",
    "XREADGROUP GROUP %g %m BLOCK 1 STREAMS %x >",
    "DEBUG DIGEST-VALUE %x %x",
    "DEL %x",
];

const HYPERLOGLOGS: &[&str] = &[
    "PFADD %p %v",
    // One at a time: where a sketch was broken by hand, Redis keeps what it had
    // added before it found out.
    "PFADD %p %i",
    "PFADD %p",
    "PFCOUNT %p",
    "PFCOUNT %p",
    "PFCOUNT %p %p %p",
    "PFMERGE %p %p",
    "PFMERGE %p %p %p",
    "PFMERGE %p",
    "GET %p",
    "STRLEN %p",
    "DEBUG DIGEST-VALUE %p",
    "PFDEBUG DECODE %p",
    "PFDEBUG ENCODING %p",
    "PFDEBUG TODENSE %p",
    "SETRANGE %p %o %v",
    "SET %p %v",
    "DEL %p",
];

const GEO: &[&str] = &[
    "GEOADD %e %G %L %m",
    "GEOADD %e %G %L %m %G %L %m",
    "GEOADD %e NX %G %L %m",
    "GEOADD %e XX CH %G %L %m",
    "GEOADD %e CH %G %L %m",
    "GEODIST %e %m %m",
    "GEODIST %e %m %m %U",
    "GEOHASH %e %m %m",
    "GEOPOS %e %m %m",
    "GEOSEARCH %e FROMMEMBER %m BYRADIUS %R %U ASC WITHDIST WITHCOORD WITHHASH",
    "GEOSEARCH %e FROMLONLAT %G %L BYRADIUS %R %U ASC",
    "GEOSEARCH %e FROMLONLAT %G %L BYBOX %R %R %U DESC WITHDIST",
    "GEOSEARCH %e FROMLONLAT %G %L BYBOX %R %R %U COUNT %c ASC WITHCOORD",
    "GEOSEARCH %e FROMMEMBER %m BYRADIUS %R %U COUNT %c DESC",
    "GEOSEARCH %e FROMMEMBER %m BYBOX %R %R %U ASC COUNT %c ANY",
    "GEOSEARCHSTORE %e %e FROMMEMBER %m BYRADIUS %R %U",
    "GEOSEARCHSTORE %z %e FROMLONLAT %G %L BYBOX %R %R %U STOREDIST",
    "GEORADIUS %e %G %L %R %U ASC",
    "GEORADIUS %e %G %L %R %U WITHDIST WITHHASH DESC COUNT %c",
    "GEORADIUS %e %G %L %R %U STORE %e",
    "GEORADIUS %e %G %L %R %U STOREDIST %z",
    "GEORADIUS_RO %e %G %L %R %U ASC",
    "GEORADIUSBYMEMBER %e %m %R %U ASC WITHDIST",
    "GEORADIUSBYMEMBER %e %m %R %U STORE %z",
    "GEORADIUSBYMEMBER_RO %e %m %R %U DESC",
    "ZRANGE %e 0 -1 WITHSCORES",
];

const SORTS: &[&str] = &[
    "SORT %l",
    "SORT %l DESC",
    "SORT %l ALPHA",
    "SORT %l ALPHA LIMIT %r %r",
    "SORT %l LIMIT %i %i",
    "SORT %t ALPHA LIMIT %i %i",
    "SORT %t ALPHA DESC",
    "SORT %t BY nosort STORE %l",
    "SORT %z ALPHA DESC STORE %l",
    "SORT %z BY nosort",
    "SORT %z BY nosort DESC",
    "SORT %l BY s* ALPHA",
    "SORT %l ALPHA BY h*->m1",
    "SORT %l ALPHA GET # GET s* GET h*->m1",
    "SORT %l BY s* GET # STORE %l",
    "SORT_RO %l ALPHA GET #",
    "SORT_RO %z BY nosort ASC",
    "SORT %k ALPHA LIMIT %c %c STORE %k",
    "RPUSH %l %i %i %i",
    "RPUSH %l %n %n %n",
    "SET s%n %f",
    "HSET h%n m1 %i",
];

const LONGITUDES: &[&str] = &[
    "0",
    "13.361389",
    "15.087269",
    "-180",
    "180",
    "179.9999",
    "-122.4",
    "2.3522",
    "0.0001",
    "181",
    "abc",
    "nan",
    "1e2",
];
const LATITUDES: &[&str] = &[
    "0",
    "38.115556",
    "37.502669",
    "85.05112878",
    "-85.05112878",
    "89",
    "-33.9",
    "48.8566",
    "0.0001",
    "86",
    "",
    "inf",
];
const RADII: &[&str] = &["0", "1", "100", "200.5", "1000", "5000", "20000", "50000", "1e3", "-1", "abc", "nan", "0.1"];
const UNITS: &[&str] = &["m", "km", "ft", "mi", "km", "KM", "parsec"];

const IDS: &[&str] = &[
    "1-1",
    "1-2",
    "1-*",
    "2-*",
    "2",
    "3-0",
    "3-5",
    "4-*",
    "5-1",
    "6-*",
    "7-7",
    "8",
    "9-9",
    "10-*",
    "11-1",
    "12",
    "13-*",
    "15-2",
    "20-*",
    "30-1",
    "0",
    "0-0",
    "0-1",
    "1-",
    "-1",
    "a",
    "",
    "5-18446744073709551615",
    "+5-07",
    "5--3",
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
    // Not a denormal: Redis's SORT mistakes the `errno` it leaves for its own.
    "2.3e-308",
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
        let templates =
            [STRING, BITS, GENERIC, COLLECTIONS, STREAMS, HYPERLOGLOGS, GEO, SORTS, SCRIPTS].into_iter().flatten();
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
            let template = match self.rng.below(20) {
                0..=4 => *self.rng.pick(STRING),
                5 => *self.rng.pick(BITS),
                6..=8 => *self.rng.pick(GENERIC),
                9..=12 => *self.rng.pick(COLLECTIONS),
                13..=16 => *self.rng.pick(STREAMS),
                17 if self.rng.one_in(2) => *self.rng.pick(SCRIPTS),
                17 => *self.rng.pick(HYPERLOGLOGS),
                18 => *self.rng.pick(GEO),
                _ => *self.rng.pick(SORTS),
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
            "r" => rng.pick(RANGES),
            "o" => rng.pick(OFFSETS),
            "b" => rng.pick(BIT_OFFSETS),
            "y" => rng.pick(TYPES),
            "T" => rng.pick(SECONDS),
            "M" => rng.pick(MILLISECONDS),
            "A" => rng.pick(MOMENTS),
            "v" => return rng.pick(VALUES).to_vec(),
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
        if name == b"SPOP" || matches!(name.first_chunk(), Some(b"BL" | b"BR" | b"BZ")) || name.starts_with(b"XREAD") {
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
