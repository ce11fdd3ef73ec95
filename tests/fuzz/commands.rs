//! Arguments of commands: random argument vectors for every row, run on a
//! keyspace without a server.

use coreslot::command::cx::{Cx, NO_HINT, Options, Touch};
use coreslot::command::effect::Effect;
use coreslot::command::keys::places;
use coreslot::command::spec::{Begin, Group};
use coreslot::command::{Command, families};
use coreslot::resp::reply::{Proto, Reply};
use coreslot::resp::value;
use coreslot::store::Store;

use crate::fuzz;
use crate::rng::Rng;

const DATABASES: usize = 4;
const COMMANDS: usize = 60;

/// Small, so that no command makes a value that takes long to work on.
const STRING_MAX: usize = 2048;

const WORDS: &str = "EX PX EXAT PXAT NX XX GT LT CH INCR GET KEEPTTL PERSIST LIMIT WITHSCORES WITHSCORE WITHVALUES \
    BYSCORE BYLEX REV MATCH COUNT TYPE NOVALUES LEFT RIGHT BEFORE AFTER AGGREGATE SUM MIN MAX WEIGHTS STORE RANK \
    MAXLEN LEN IDX MINMATCHLEN WITHMATCHLEN REPLACE DB ASYNC SYNC BIT BYTE AND OR XOR NOT OVERFLOW WRAP SAT FAIL SET \
    INCRBY u8 i64 u63 u64 i65 #1 string list set zset hash stream ENCODING STREAMS GROUP MKSTREAM ENTRIESREAD NOMKSTREAM MINID ~ = > $ \
    1-1 1-2 2-* 3-1 5-5 0-0 g c FORCE JUSTID RETRYCOUNT LASTID TIME IDLE NOACK FULL ENTRIESADDED MAXDELETEDID BY DESC ALPHA # \
    string:* hash:*->a km m FROMMEMBER FROMLONLAT BYRADIUS BYBOX WITHDIST WITHCOORD WITHHASH ANY STOREDIST getreg decode FREQ IDLETIME REFCOUNT a b c (1 (a [a [b - + -inf \
    +inf inf nan ( [ * ? [a-z] \\ a* 0 1 -1 2 3 10 16 100 -100 0.5 1.5e3 -0 0x10 01 1e400 4294967295 2147483648 \
    -2147483649 9223372036854775807 -9223372036854775808 9223372036854775808 18446744073709551615 16777216 1.7e308";

/// One command of a session, and the milliseconds that pass before it.
struct Call {
    command: &'static Command,
    args: Vec<Vec<u8>>,
    wait: u64,
}

struct Session {
    calls: Vec<Call>,
    proto: Proto,
}

fn word(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => Vec::new(),
        1 => {
            let n = rng.below(12);
            rng.bytes(n)
        }
        2 => vec![b'v'; 1 + rng.below(150)],
        3 => rng.between(-20, 20).to_string().into_bytes(),
        4 => (rng.next() as i64 >> rng.below(64)).to_string().into_bytes(),
        _ => {
            let words: Vec<&str> = WORDS.split_ascii_whitespace().collect();
            let w = rng.pick(&words);
            if rng.one_in(4) { w.to_ascii_lowercase().into_bytes() } else { w.as_bytes().to_vec() }
        }
    }
}

/// Mostly a key that commands of the same family use.
fn key(rng: &mut Rng, group: Group) -> Vec<u8> {
    let any = ["string", "list", "set", "sorted-set", "hash", "stream", "hyperloglog"];
    let family = match group {
        Group::Bitmap => "string",
        Group::Geo => "sorted-set",
        Group::Generic | Group::Server => *rng.pick(&any),
        _ if rng.one_in(8) => *rng.pick(&any),
        g => g.name(),
    };
    format!("{family}:{}", rng.below(3)).into_bytes()
}

/// Where the number of elements stands for commands that make or reply with as
/// many as they are asked for, by design.
fn count_at(name: &str) -> Option<usize> {
    match name {
        "srandmember" | "hrandfield" | "zrandmember" | "debug|populate" => Some(2),
        _ => None,
    }
}

fn call(rng: &mut Rng, rows: &[&'static Command]) -> Call {
    let command = *rng.pick(rows);
    let spec = &command.spec;
    let least = spec.arity.unsigned_abs() as usize;
    let argc = if spec.arity >= 0 { least } else { least + rng.below(7) };
    let mut args: Vec<Vec<u8>> = (0..argc).map(|_| word(rng)).collect();
    let mut names = spec.name.split('|');
    for (a, name) in args.iter_mut().zip(&mut names) {
        *a = name.as_bytes().to_vec();
    }
    for k in spec.keys {
        let Begin::Index(at) = k.begin else { continue };
        let counted = matches!(k.find, coreslot::command::spec::Find::Count { .. });
        if counted && at < argc && !rng.one_in(4) {
            let n = 1 + rng.below(2);
            args[at] = n.to_string().into_bytes();
            (at + 1..(at + 1 + n).min(argc)).for_each(|i| args[i] = key(rng, spec.group));
        } else if !counted && at < argc && !rng.one_in(20) {
            args[at] = key(rng, spec.group);
        }
    }
    if let Some(at) = count_at(spec.name).filter(|at| *at < argc) {
        args[at] = rng.between(-100, 100).to_string().into_bytes();
    }
    if spec.name == "debug|populate" && argc > 4 {
        args[4] = rng.between(-1, 1000).to_string().into_bytes();
    }
    let wait = if rng.one_in(10) { rng.below(2000) as u64 } else { 0 };
    Call { command, args, wait }
}

fn session(rng: &mut Rng) -> Session {
    let mut rows: Vec<&'static Command> = families().into_iter().flatten().collect();
    // Commands of one family meet each other's values.
    if !rng.one_in(3) {
        let group = rng.pick(&rows).spec.group;
        rows.retain(|c| c.spec.group == group || c.spec.group == Group::Generic);
    }
    let proto = if rng.one_in(2) { Proto::Resp2 } else { Proto::Resp3 };
    Session { calls: (0..COMMANDS).map(|_| call(rng, &rows)).collect(), proto }
}

fn shown(s: &Session) -> String {
    let line = |c: &Call| {
        let words: Vec<String> = c.args.iter().map(|a| format!("\"{}\"", a.escape_ascii())).collect();
        format!("{} (after {} ms)", words.join(" "), c.wait)
    };
    s.calls.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Runs a session; the number of commands that were not refused.
fn run(session: &Session) -> usize {
    let mut accepted = 0;
    let mut store = Store::new(DATABASES);
    let options = Options {
        proto_max_bulk_len: STRING_MAX,
        hash_max_listpack_entries: 8,
        set_max_intset_entries: 8,
        set_max_listpack_entries: 8,
        zset_max_listpack_entries: 8,
        list_max_listpack_size: 8,
        ..Options::default()
    };
    let mut rng = coreslot::base::rng::Rng::new(1);
    let mut now = 1_700_000_000_000;
    for c in &session.calls {
        now += c.wait;
        let args: Vec<&[u8]> = c.args.iter().map(|a| &a[..]).collect();
        for p in places(&c.command.spec, &args).unwrap_or_default() {
            assert!(p.index < args.len(), "a key outside of the arguments");
        }
        let mut fx = Effect { wants_stream: true, wants_events: true, ..Effect::default() };
        let mut out = Vec::new();
        let mut cx = Cx {
            store: &mut store,
            db: 0,
            now,
            clock: now,
            reply: Reply::new(&mut out, session.proto),
            fx: &mut fx,
            options: &options,
            rng: &mut rng,
            touch: Touch::Lru(1),
            owns: &|_| true,
            hint: NO_HINT,
        };
        match (c.command.run)(&mut cx, &args) {
            Ok(()) => {
                accepted += 1;
                assert_eq!(value::skip(&out), Some(out.len()), "one whole reply of {}", c.command.spec.name);
            }
            Err(fault) => assert!(!fault.text().is_empty()),
        }
    }
    store.take_garbage();
    store.take_flushed();
    accepted
}

/// Whatever the arguments, a command gives one whole reply or an error.
#[test]
fn arguments() {
    fuzz("arguments", session, shown, |s| {
        run(s);
    });
}

/// The generator reaches every row, and much of what it makes is accepted:
/// arguments that are all refused would test little.
#[test]
fn every_command_is_reached() {
    let mut missing: Vec<&str> = families().into_iter().flatten().map(|c| c.spec.name).collect();
    let mut accepted = 0;
    for seed in 0..500 {
        let s = session(&mut Rng::new(seed));
        accepted += run(&s);
        missing.retain(|name| s.calls.iter().all(|c| c.command.spec.name != *name));
    }
    assert!(missing.is_empty(), "{missing:?}");
    let percent = accepted * 100 / (500 * COMMANDS);
    println!("{percent}% of the commands are accepted");
    assert!(percent >= 25, "only {percent}% of the commands are accepted");
}
