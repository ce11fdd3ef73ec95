//! Lua: code of random bytes, first lines of libraries, and the data that the
//! libraries of scripts read.

use std::cell::RefCell;
use std::ffi::c_int;

use coreslot::resp::Reply;
use coreslot::resp::reply::Proto;
use coreslot::script::cache::Scripts;
use coreslot::script::engine::{Arguments, Ended, Engine};
use coreslot::script::host::{Abort, Called, Host};
use coreslot::script::source;

use super::fuzz;
use super::rng::Rng;

const MEMORY_MAX: usize = 8 << 20;
/// How often code is asked whether it goes on, before it may not.
const PATIENCE: u32 = 5;
/// A state is used for so many inputs: what one leaves behind meets the next.
const REUSES: u32 = 1000;

/// A server that echoes commands.
#[derive(Default)]
struct Echo {
    asked: u32,
}

impl Host for Echo {
    fn call(&mut self, args: &[&[u8]], _: Proto, out: &mut Vec<u8>) -> Called {
        let mut r = Reply::new(out, Proto::Resp2);
        r.array(args.len());
        args.iter().for_each(|a| r.bulk(a));
        Called::Replied
    }

    fn interrupt(&mut self) -> Option<Abort> {
        self.asked += 1;
        (self.asked > PATIENCE).then_some(Abort::Killed)
    }

    fn log(&mut self, _: c_int, _: &[u8]) {}

    fn set_propagation(&mut self, _: c_int) {}

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        args.first().map(|name| name.len() < 4)
    }
}

struct Bench {
    engine: Engine,
    scripts: Scripts,
    used: u32,
}

impl Bench {
    fn new() -> Bench {
        Bench { engine: Engine::new(MEMORY_MAX), scripts: Scripts::default(), used: 0 }
    }

    /// The reply, or the text of an error.
    fn run(&mut self, body: &[u8], args: &[&[u8]]) -> Result<Vec<u8>, Vec<u8>> {
        self.used += 1;
        if self.used > REUSES {
            *self = Bench::new();
        }
        let at = self.engine.by_body(&self.scripts, body)?;
        let mut out = Vec::new();
        let given = Arguments { keys: &[b"key"], args };
        let ended = self.engine.eval(at, given, &mut Echo::default(), &mut Reply::new(&mut out, Proto::Resp3));
        let (scripts, functions) = self.engine.memory();
        assert!(scripts + functions < 3 * MEMORY_MAX, "{scripts} and {functions} bytes");
        match ended {
            Ended::Done => Ok(out),
            Ended::Failed { text, .. } => Err(text),
            Ended::Aborted(_) => Err(b"aborted".to_vec()),
        }
    }
}

/// Pieces in a random order, with random bytes here and there.
fn pieces(rng: &mut Rng, list: &[&str], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(most) {
        if rng.one_in(10) {
            let n = rng.below(6);
            out.extend(rng.bytes(n));
        } else {
            out.extend_from_slice(rng.pick(list).as_bytes());
        }
    }
    out
}

fn changed(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(3) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.insert(at, rng.next() as u8),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

const LUA: &[&str] = &[
    "return ",
    "local x=",
    "x",
    "1",
    "'a'",
    "{",
    "}",
    "(",
    ")",
    "..",
    "+",
    "-",
    "^",
    "#",
    "==",
    " and ",
    " or ",
    "not ",
    "nil",
    "true",
    "function(a) ",
    " end ",
    "for i=1,9 do ",
    "while true do ",
    "repeat until false ",
    "if x then ",
    " else ",
    "break ",
    ",",
    ";",
    "=",
    "...",
    "KEYS",
    "ARGV",
    "[1]",
    "redis.call",
    "redis.pcall",
    "('get',KEYS[1])",
    "redis.sha1hex",
    "redis.error_reply",
    "redis.setresp(3)",
    "redis.log(1,'x')",
    "cjson.encode",
    "cmsgpack.pack",
    "struct.pack('>I',1)",
    "bit.band(1,2)",
    "string.rep('x',1e9)",
    "string.format('%99d',1)",
    "('x'):rep(100)",
    "string.gsub('aaa','(a*)*','%1')",
    "string.find('a','%b')",
    "table.concat({1,2},',')",
    "table.sort({3,1},function() return true end)",
    "setmetatable({},{__index=function(t,k) return t[k] end})",
    "unpack({},1,1e8)",
    "tostring(",
    "tonumber('0x1p9')",
    "pcall(error,{})",
    "error('e')",
    "select('#',",
    "loadstring('return 1')()",
    "coroutine.wrap(function() coroutine.yield(1) end)()",
    "_G",
    "[[",
    "]]",
    "--",
    "\n",
    " ",
    "math.random()",
    "\\",
    "0x",
    "1e309",
];

/// Whatever the code, there is a reply or an error, in bounded memory.
/// Compiled code is refused: nothing checks it.
#[test]
fn code() {
    let bench = RefCell::new(Bench::new());
    let make = |rng: &mut Rng| match rng.below(8) {
        0 => {
            let n = rng.below(80);
            rng.bytes(n)
        }
        1 => {
            let n = rng.below(80);
            [b"\x1bLua\x51\0\x01\x04\x08\x04\x08\0".to_vec(), rng.bytes(n)].concat()
        }
        _ => pieces(rng, LUA, 24),
    };
    fuzz(
        "code",
        make,
        |code| shown(code),
        |code| {
            let result = bench.borrow_mut().run(code, &[b"a", b"7"]);
            assert!(!code.starts_with(b"\x1b") || result.is_err(), "compiled code has run");
        },
    );
}

const HEADER: &[&str] = &[
    "#!",
    "#!lua",
    "lua",
    " ",
    "name=",
    "lib",
    "flags=",
    "no-writes",
    "allow-oom",
    ",",
    "=",
    "\n",
    "\"",
    "'",
    "\\x41",
    "\t",
    "name=\"a b\"",
    "redis.register_function('f',function() return 1 end)",
    "redis.register_function{function_name='g',callback=redis.call,flags={'no-writes'}}",
    "redis.register_function{",
    "description='d',",
    "}",
    "local x=1",
    "redis.call('get','a')",
    "while true do end",
];

/// First lines of scripts and libraries; what loads has a name and functions.
#[test]
fn libraries() {
    let bench = RefCell::new(Bench::new());
    let make = |rng: &mut Rng| {
        let mut code = b"#!lua name=l\n".to_vec();
        if rng.one_in(2) {
            code.clear();
        }
        code.extend(pieces(rng, HEADER, 14));
        changed(rng, code)
    };
    fuzz(
        "libraries",
        make,
        |code| shown(code),
        |code| {
            if let Ok((_, rest)) = source::script(code) {
                assert!(code.ends_with(rest));
            }
            let header = source::library(code).is_ok();
            // An endless loop at load time ends by a limit of its own, slowly.
            if code.windows(5).any(|w| w == b"while") {
                return;
            }
            if let Ok(library) = bench.borrow_mut().engine.try_library(code) {
                assert!(header && source::is_name(&library.name) && !library.functions.is_empty());
                assert_eq!(library.code, *code);
            }
        },
    );
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\",
    "\"",
    "1",
    "-1",
    "1.5e3",
    "0x10",
    "+5",
    "nan",
    "-inf",
    "1e999",
    "true",
    "false",
    "null",
    "nul",
    " ",
    "\n",
    "[[[[[[[[",
    "{\"k\":",
    "[1,2,3]",
    "{\"a\":{\"b\":[null]}}",
    "12345678901234567890",
];

/// What was decoded and can be encoded can be decoded again.
#[test]
fn json() {
    let bench = RefCell::new(Bench::new());
    let make = |rng: &mut Rng| {
        if rng.one_in(50) {
            return rng.pick(&["[", "{\"a\":"]).repeat(rng.below(3000)).into_bytes();
        }
        let text = pieces(rng, JSON, 16);
        changed(rng, text)
    };
    const SCRIPT: &[u8] = b"local ok,v=pcall(cjson.decode,ARGV[1]) \
        if ok then local done,text=pcall(cjson.encode,v) if done then cjson.decode(text) end end return 1";
    fuzz(
        "json",
        make,
        |text| shown(text),
        |text| assert_eq!(bench.borrow_mut().run(SCRIPT, &[text]), Ok(b":1\r\n".to_vec())),
    );
}

/// The same for MessagePack.
#[test]
fn messagepack() {
    let bench = RefCell::new(Bench::new());
    let make = |rng: &mut Rng| {
        let mut out = Vec::new();
        for _ in 0..rng.below(12) {
            match rng.below(6) {
                0 => out.push(0x80 | rng.below(16) as u8),
                1 => out.push(0x90 | rng.below(16) as u8),
                2 => out.push(0xc0 | rng.below(32) as u8),
                3 => out.extend_from_slice(b"\xa3abc"),
                4 => out.extend_from_slice(rng.pick::<&[u8]>(&[
                    b"\xdd\xff\xff\xff\xff",
                    b"\xc6\x7f\xff\xff\xff",
                    b"\xdf\0\0\0\x01",
                ])),
                _ => out.push(rng.next() as u8),
            }
        }
        (out, rng.below(4), rng.between(-2, 12))
    };
    const SCRIPT: &[u8] = b"local r={pcall(cmsgpack.unpack,ARGV[1])} \
        if r[1] then local ok,p=pcall(cmsgpack.pack,unpack(r,2)) if ok then cmsgpack.unpack(p) end end \
        pcall(cmsgpack.unpack_one,ARGV[1],tonumber(ARGV[3])) \
        pcall(cmsgpack.unpack_limit,ARGV[1],tonumber(ARGV[2]),tonumber(ARGV[3])) return 1";
    fuzz(
        "messagepack",
        make,
        |(bytes, limit, offset)| format!("{} limit {limit} offset {offset}", shown(bytes)),
        |(bytes, limit, offset)| {
            let (limit, offset) = (limit.to_string(), offset.to_string());
            let args: [&[u8]; 3] = [bytes, limit.as_bytes(), offset.as_bytes()];
            assert_eq!(bench.borrow_mut().run(SCRIPT, &args), Ok(b":1\r\n".to_vec()));
        },
    );
}

const FORMAT: &[&str] = &[
    ">",
    "<",
    "!",
    "!4",
    "!3",
    "b",
    "B",
    "h",
    "H",
    "l",
    "L",
    "T",
    "i",
    "I",
    "i8",
    "I3",
    "i99",
    "c0",
    "c5",
    "c999999999",
    "f",
    "d",
    "s",
    "x",
    " ",
    "c99999999999999999999",
    "!0",
    "i0",
];

/// Formats and data of `struct`.
#[test]
fn structures() {
    let bench = RefCell::new(Bench::new());
    let make = |rng: &mut Rng| {
        let format = pieces(rng, FORMAT, 8);
        let n = rng.below(40);
        (format, rng.bytes(n), rng.between(-3, 60))
    };
    const SCRIPT: &[u8] =
        b"local n=tonumber(ARGV[3]) pcall(struct.unpack,ARGV[1],ARGV[2]) pcall(struct.unpack,ARGV[1],ARGV[2],n) \
        pcall(struct.size,ARGV[1]) local ok,p=pcall(struct.pack,ARGV[1],n,ARGV[2],n,ARGV[2],n,1.5,-1e300) \
        if ok then pcall(struct.unpack,ARGV[1],p) end \
        local ok,p=pcall(struct.pack,ARGV[1],ARGV[2],ARGV[2],ARGV[2],ARGV[2]) return 1";
    fuzz(
        "structures",
        make,
        |(format, bytes, n)| format!("{} {} {n}", shown(format), shown(bytes)),
        |(format, bytes, n)| {
            let n = n.to_string();
            let args: [&[u8]; 3] = [format, bytes, n.as_bytes()];
            let reply = bench.borrow_mut().run(SCRIPT, &args);
            let out_of_memory = reply.as_ref().is_err_and(|e| e.windows(6).any(|w| w == b"memory"));
            assert!(reply == Ok(b":1\r\n".to_vec()) || out_of_memory, "{}", shown(&reply.unwrap_or_else(|e| e)));
        },
    );
}
