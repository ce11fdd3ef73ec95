//! Scripts without a server: commands are echoed.

use std::ffi::c_int;

use super::engine::{Arguments, Ended, Engine};
use super::host::{Abort, Called, Host};
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::script::cache::Scripts;

#[derive(Default)]
struct Echo {
    interrupts: u32,
    log: Vec<String>,
}

impl Host for Echo {
    fn call(&mut self, args: &[&[u8]], _: Proto, out: &mut Vec<u8>) -> Called {
        match args[0] {
            b"raw" => out.extend_from_slice(args[1]),
            b"refuse" => return Called::Refused(b"ERR refused".to_vec()),
            b"again" => return Called::Abort(Abort::Again),
            _ => {
                let mut r = Reply::new(out, Proto::Resp2);
                r.array(args.len());
                args.iter().for_each(|a| r.bulk(a));
            }
        }
        Called::Replied
    }

    fn interrupt(&mut self) -> Option<Abort> {
        self.interrupts += 1;
        (self.interrupts > 1000).then_some(Abort::Killed)
    }

    fn log(&mut self, level: c_int, text: &[u8]) {
        self.log.push(format!("{level} {}", String::from_utf8_lossy(text)));
    }

    fn set_propagation(&mut self, _: c_int) {}

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        (args[0] != b"nosuch").then_some(args[0] == b"get")
    }
}

struct Bench {
    engine: Engine,
    scripts: Scripts,
}

impl Default for Bench {
    fn default() -> Bench {
        Bench { engine: Engine::new(32 << 20), scripts: Scripts::default() }
    }
}

impl Bench {
    fn run_as(&mut self, body: &str, proto: Proto) -> String {
        let at = match self.engine.by_body(&self.scripts, body.as_bytes()) {
            Ok(at) => at,
            Err(text) => return String::from_utf8_lossy(&text).into_owned(),
        };
        let mut out = Vec::new();
        let given = Arguments { keys: &[b"k1", b"k2"], args: &[b"a1"] };
        let ended = self.engine.eval(at, given, &mut Echo::default(), &mut Reply::new(&mut out, proto));
        match ended {
            Ended::Done => String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_string(),
            Ended::Failed { text, .. } => {
                let sha = String::from_utf8(super::cache::sha_of(body.as_bytes()).to_vec()).unwrap();
                String::from_utf8_lossy(&text).replace(&sha, "SHA")
            }
            Ended::Aborted(why) => format!("{why:?}"),
        }
    }

    fn run(&mut self, body: &str) -> String {
        self.run_as(body, Proto::Resp2)
    }
}

fn check(lines: &[(&str, &str)]) {
    let mut b = Bench::default();
    for (body, want) in lines {
        assert_eq!(b.run(body), *want, "{body}");
    }
}

#[test]
fn values_become_replies() {
    check(&[
        ("return 1", ":1"),
        ("return 3.99", ":3"),
        ("return 'x'", "$1 x"),
        ("return true", ":1"),
        ("return false", "$-1"),
        ("return {1,'a',{2},nil,3}", "*3 :1 $1 a *1 :2"),
        ("return {ok='fine'}", "+fine"),
        ("return {err='no good'}", "no good"),
        ("return {KEYS[1], KEYS[2], ARGV[1], #ARGV}", "*4 $2 k1 $2 k2 $2 a1 :1"),
        ("return {double=1.5}", "$3 1.5"),
        ("return {map={a=1}}", "*2 $1 a :1"),
        ("return function() end", "$-1"),
    ]);
    let mut b = Bench::default();
    assert_eq!(
        b.run_as("redis.setresp(3) return {true, {double=2.5}, {set={x=true}}}", Proto::Resp3),
        "*3 #t ,2.5 ~1 $1 x"
    );
}

#[test]
fn replies_become_values() {
    check(&[
        ("return redis.call('a', 1, 2.5)", "*3 $1 a $1 1 $3 2.5"),
        ("return type(redis.call('raw', ':7\\r\\n'))", "$6 number"),
        ("return redis.call('raw', '+OK\\r\\n').ok", "$2 OK"),
        ("return redis.call('raw', '-FOO bar\\r\\n')", "FOO bar script: SHA, on @user_script:1."),
        ("return redis.pcall('raw', '-FOO bar\\r\\n').err", "$7 FOO bar"),
        ("return redis.call('raw', '$-1\\r\\n') == false", ":1"),
        ("return redis.call('raw', '*2\\r\\n:1\\r\\n*1\\r\\n+x\\r\\n')[2][1].ok", "$1 x"),
        ("return redis.call('raw', '%1\\r\\n+k\\r\\n,1.5\\r\\n').map", "*0"),
        ("return redis.call('refuse')", "ERR refused script: SHA, on @user_script:1."),
        (
            "return redis.call()",
            "ERR Please specify at least one argument for this redis lib call script: SHA, on \
                                 @user_script:1.",
        ),
        ("return {redis.acl_check_cmd('get') and 1 or 2, redis.acl_check_cmd('set') and 1 or 2}", "*2 :1 :2"),
    ]);
}

#[test]
fn ranges_of_unpack() {
    check(&[
        ("return select('#', unpack({1,2,3}, -2147483648, -2147483646))", ":3"),
        ("return select('#', unpack({1}, 2147483646, 2147483647))", ":2"),
        ("return {unpack({1,2,3}, 2, 3)}", "*2 :2 :3"),
        ("return {unpack({1,2,3}, '2', nil)}", "*2 :2 :3"),
        ("return {pcall(unpack, {1}, 'x')}", "*2 $-1 $52 bad argument #2 to '?' (number expected, got string)"),
        ("return select('#', unpack({1,2,3}, 1, -1))", ":0"),
        ("return {pcall(unpack, {1}, 0, 2147483647)}", "*2 $-1 $26 too many results to unpack"),
    ]);
}

#[test]
fn errors_say_where_they_happened() {
    check(&[
        ("error('x')", "ERR user_script:1: x script: SHA, on @user_script:1."),
        ("\n\nerror({err='A b'})", "A b script: SHA, on @user_script:3."),
        ("error({})", "ERR unknown error script: SHA, on @user_script:1."),
        ("if", "ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'"),
        ("local ok, e = pcall(redis.call, 'refuse') return e", "$11 ERR refused"),
        ("local ok, e = pcall(error, 'foo') return e", "$3 foo"),
        (
            "return select(2, xpcall(function() error('a') end, function(e) return e .. '!' end))",
            "$17 user_script:1: a!",
        ),
    ]);
}

#[test]
fn nothing_leads_out_of_the_sandbox() {
    let readonly = "ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.";
    let refused = "ERR Attempt to modify a readonly table script: SHA, on @user_script:1.";
    check(&[
        ("x = 1", readonly),
        ("_G.x = 1", readonly),
        ("KEYS = 1", readonly),
        ("redis.call = 1", readonly),
        ("string.x = 1", readonly),
        ("getmetatable(_G).__index = 1", readonly),
        ("getmetatable('').__index = 1", readonly),
        ("getmetatable(redis).x = 1", readonly),
        ("rawset(_G, 'x', 1)", refused),
        ("rawset(string, 'x', 1)", refused),
        ("setmetatable(_G, {})", refused),
        ("table.insert(redis, 1)", refused),
        ("table.sort(math)", refused),
        (
            "return y",
            "ERR user_script:1: Script attempted to access nonexistent global variable 'y' script: SHA, on \
                      @user_script:1.",
        ),
        ("return loadstring(string.dump(function() return 1 end))", "$-1"),
        ("return load(function() return string.dump(function() end) end)", "$-1"),
        ("return loadstring('return 5')()", ":5"),
        (
            "return {pcall(function() return io end)}",
            "*2 $-1 $74 user_script:1: Script attempted to access \
                                                      nonexistent global variable 'io'",
        ),
        ("local n = 0 for k in pairs(_G) do n = n + 1 end return n > 20", ":1"),
        ("local t = {} for k in pairs(bit) do t[#t+1] = k end table.sort(t) return t[1]", "$7 arshift"),
        ("return next(redis) ~= nil", ":1"),
        ("return rawget(_G, 'redis') ~= nil", ":1"),
        (
            "for i, k in ipairs({'dofile','loadfile','print','require','module','debug','io','package','getfenv','setfenv','newproxy'}) do \
          if rawget(_G, k) then return k end end return 'none'",
            "$4 none",
        ),
        ("return {os.clock() >= 0, rawget(os, 'exit') == nil}", "*2 :1 :1"),
        ("return ('x'):upper()", "$1 X"),
        ("return {pcall(unpack, {1,2,3}, -2, 2147483647)}", "*2 $-1 $26 too many results to unpack"),
        ("return {pcall(unpack, {1}, 2147483647, 2147483648)}", "*1 :1"),
        ("return {pcall(unpack, {1}, 1, 9223372036854775808)}", "*1 :1"),
        ("return {pcall(unpack, {1}, -2147483648, -2147483648)}", "*1 :1"),
        ("return {unpack({1,2,3}, 2)}", "*2 :2 :3"),
        ("return cjson.encode({[2147483648]=1})", "$16 {\"2147483648\":1}"),
        ("return struct.size('h\\0h')", ":2"),
        ("return struct.size('z')", ":0"),
        ("return {struct.unpack('<b', 'a', nil)}", "*2 :97 :2"),
        ("return struct.pack('<H', 1e59)", "$2 \0\0"),
        ("return {pcall(struct.pack, 'c3', 'ab')}", "*2 $-1 $41 bad argument #3 to '?' (string too short)"),
        (
            "return {pcall(struct.unpack, 'b', 'ab', 0)}",
            "*2 $-1 $52 bad argument #3 to '?' (offset must be 1 or greater)",
        ),
        ("return {pcall(struct.unpack, 'b', 'ab', -1)}", "*2 $-1 $46 bad argument #2 to '?' (data string too short)"),
        ("return {struct.unpack('', 'ab', -1)}", "*1 :-1"),
        ("return {struct.unpack('<i9>i9', '\\200' .. ('\\0'):rep(8) .. ('\\1'):rep(9))}", "*3 :-56 :-127 :19"),
        ("return {struct.unpack('<i10', ('\\1'):rep(8) .. '\\0\\0')}", "*2 :-32511 :11"),
        ("return {struct.unpack('<i16', ('\\1'):rep(8) .. ('\\0'):rep(8))}", "*2 :72340172838076672 :17"),
        ("return {struct.unpack('<i3>i16', struct.pack('<i3>i16', -2, -3))}", "*3 :-2 :-3 :20"),
        ("return redis.setresp('3.5')", "$-1"),
        ("return {unpack({1,2,3}, 3, 1)}", "*0"),
        ("return {pcall(string.find, 'a', string.rep('.-', 1000000))}", "*2 $-1 $19 pattern too complex"),
    ]);
    let readonly_again = "ERR user_script:1: Attempt";
    assert!(Bench::default().run("debug = 1").starts_with(readonly_again));
}

#[test]
fn endless_code_is_stopped_whatever_it_catches() {
    let mut b = Bench::default();
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local f f = function() pcall(f) f() end f()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
    ] {
        let got = b.run(body);
        assert!(got.contains("killed by user") || got.contains("stack overflow"), "{body}: {got}");
    }
    assert_eq!(b.run("pcall(redis.call, 'again') return 1"), "Again");
    assert_eq!(b.run("return 1"), ":1");
}

#[test]
fn memory_is_bounded() {
    let mut b = Bench::default();
    for body in [
        "local s = 'x' while true do s = s .. s end",
        "return string.rep('x', 100000000)",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
        "return struct.pack('c1000000000', 'x')",
    ] {
        let got = b.run(body);
        assert!(got.contains("not enough memory") || got.contains("too short"), "{body}: {got}");
    }
    assert_eq!(b.run("return #string.rep('x', 1000000)"), ":1000000");
}

#[test]
fn tables_that_contain_themselves_end() {
    // As much stack as the threads of cores have, in an unoptimized build.
    let run = std::thread::Builder::new().stack_size(8 << 20).spawn(deep).unwrap();
    run.join().unwrap();
}

fn deep() {
    let mut b = Bench::default();
    let got = b.run("local t = {} t[1] = t return t");
    assert!(got.ends_with("reached lua stack limit"), "{}", &got[got.len() - 60..]);
    assert!(b.run("local t = {} t[1] = t return cjson.encode(t)").contains("excessive nesting (1001)"));
    assert!(b.run("local t = {} t[1] = t return #cmsgpack.pack(t)").starts_with(':'));
}

#[test]
fn json() {
    check(&[
        ("return cjson.encode({1,2,{a='b/\"'},true,cjson.null})", "$29 [1,2,{\"a\":\"b\\/\\\"\"},true,null]"),
        ("return cjson.encode({})", "$2 {}"),
        ("return cjson.encode(1.5e300)", "$8 1.5e+300"),
        (
            "return cjson.encode({[1]=1,[20]=2})",
            "ERR user_script:1: Cannot serialise table: excessively sparse array \
                                                script: SHA, on @user_script:1.",
        ),
        (
            "return cjson.encode(0/0)",
            "ERR user_script:1: Cannot serialise number: must not be NaN or Inf script: SHA, on \
                                      @user_script:1.",
        ),
        ("return cjson.decode('{\"a\":[1,2,\"\\\\u00e9\"]}').a", "*3 :1 :2 $2 é"),
        (
            "return cjson.decode('[1,]')",
            "ERR user_script:1: Expected value but found T_ARR_END at character 4 script: SHA, \
                                         on @user_script:1.",
        ),
        (
            "return cjson.decode('x')",
            "ERR user_script:1: Expected value but found invalid token at character 1 script: \
                                      SHA, on @user_script:1.",
        ),
        ("return cjson.decode('null') == cjson.null", ":1"),
        ("return cjson.new().encode_max_depth(5)", ":5"),
        ("return cjson.encode_max_depth()", ":1000"),
    ]);
}

#[test]
fn messagepack_and_structures_and_bits() {
    check(&[
        ("return redis.call('raw', '|1\\r\\n+a\\r\\n*2\\r\\n:1\\r\\n:2\\r\\n:7\\r\\n')", ":7"),
        ("return cmsgpack.unpack(cmsgpack.pack({1,-300,'x',{a=2.5}}))", "*4 :1 :-300 $1 x *0"),
        ("return {cmsgpack.unpack(cmsgpack.pack(1,2,3))}", "*3 :1 :2 :3"),
        ("return {cmsgpack.unpack_one(cmsgpack.pack(1,2), 1)}", "*2 :-1 :2"),
        ("return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3), 2)}", "*3 :2 :1 :2"),
        ("return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3), 2^32)}", "*4 :-1 :1 :2 :3"),
        (
            "return {pcall(cmsgpack.unpack_one, cmsgpack.pack(1), 2^31)}",
            "*2 $-1 $53 Start offset -2147483648 greater than input length 1.",
        ),
        (
            "return {pcall(cmsgpack.unpack_one, cmsgpack.pack(1), 2^32 + 1)}",
            "*2 $-1 $43 Start offset 1 greater than input length 1.",
        ),
        (
            "return {pcall(cmsgpack.unpack_limit, cmsgpack.pack(1), 0/0)}",
            "*2 $-1 $58 Invalid request to unpack with offset of 0 and limit of 1.",
        ),
        (
            "return cmsgpack.unpack('\\192\\193')",
            "ERR user_script:1: Bad data format in input. script: SHA, on \
                                                  @user_script:1.",
        ),
        (
            "return cmsgpack.unpack('\\205')",
            "ERR user_script:1: Missing bytes in input. script: SHA, on @user_script:1.",
        ),
        ("return tostring(cmsgpack.unpack('\\207' .. string.rep('\\255', 8)))", "$2 -1"),
        (
            "return struct.pack('i')",
            "ERR user_script:1: bad argument #2 to 'pack' (number expected, got nil) script: SHA, on @user_script:1.",
        ),
        ("return struct.pack('>I2', 258)", "$2 \u{1}\u{2}"),
        ("return {struct.unpack('<i4b', struct.pack('<i4b', -2, 7))}", "*3 :-2 :7 :6"),
        ("return {struct.unpack('Bc0', struct.pack('Bc0', 3, 'abc'))}", "*2 $3 abc :5"),
        ("return struct.size('!4 b i')", ":8"),
        ("return {bit.band(0xff, 0x0f), bit.lshift(1, 31), bit.tobit(2^32+1)}", "*3 :15 :-2147483648 :1"),
        ("return bit.tohex(255, -4)", "$4 00FF"),
    ]);
}
