//! Whatever happens to a keyspace while a snapshot reads it, the snapshot is
//! the keyspace of its cut: random commands of all types run between random
//! steps of the reader, and what was recorded is compared with a picture taken
//! at the cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use crate::base::rng::Rng;
use crate::base::slot::{Key, SLOTS};
use crate::command::testing::Bench;
use crate::store::Store;
use crate::store::cut::{Chunk, Recorder};
use crate::store::entry::{Entry, Value};
use crate::store::listpack::Item;
use crate::store::object::Object;
use crate::store::undo::{Saving, omit};

/// Type, deadline, and elements in a canonical order.
type Picture = BTreeMap<(u32, Vec<u8>), (&'static str, u64, Vec<Vec<u8>>)>;

const DBS: usize = 3;

/// Writes words, each behind its length.
struct Words;

fn word(out: &mut Chunk, bytes: &[u8]) {
    out.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.bytes.extend_from_slice(bytes);
}

fn number(out: &mut Chunk, n: u64) {
    word(out, &n.to_le_bytes());
}

impl Recorder for Words {
    fn record(&mut self, out: &mut Chunk, entry: &Entry) {
        self.begin(out, entry);
        match entry.value() {
            Value::Str(s) => word(out, s),
            Value::Object(Object::List(x)) => x.iter().for_each(|e| self.element(out, e)),
            Value::Object(Object::Set(x)) => x.iter().for_each(|e| self.element(out, e)),
            Value::Object(Object::Hash(x)) => x.iter().for_each(|(f, v)| self.field(out, f, v)),
            Value::Object(Object::ZSet(x)) => x.iter().for_each(|(m, s)| self.scored(out, m, s)),
            Value::Object(Object::Stream(x)) => x.nodes().for_each(|(_, l)| word(out, l.as_bytes())),
        }
    }

    fn begin(&mut self, out: &mut Chunk, entry: &Entry) {
        word(out, entry.key());
        number(out, entry.deadline().unwrap_or(0));
        word(out, entry.as_object().map_or("string", Object::type_name).as_bytes());
        number(out, entry.as_object().map_or(1, Object::len) as u64);
    }

    fn element(&mut self, out: &mut Chunk, item: Item) {
        item.with(|s| word(out, s));
    }

    fn field(&mut self, out: &mut Chunk, field: Item, value: Item) {
        let mut both = field.to_vec();
        both.push(b'=');
        value.with(|v| both.extend_from_slice(v));
        word(out, &both);
    }

    fn scored(&mut self, out: &mut Chunk, member: Item, score: f64) {
        let mut both = member.to_vec();
        both.extend_from_slice(format!("={score}").as_bytes());
        word(out, &both);
    }
}

struct Reading<'a>(&'a [u8]);

impl Reading<'_> {
    fn word(&mut self) -> Vec<u8> {
        let n = u32::from_le_bytes(self.0[..4].try_into().unwrap()) as usize;
        let word = self.0[4..4 + n].to_vec();
        self.0 = &self.0[4 + n..];
        word
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.word().try_into().unwrap())
    }
}

fn type_name(name: &[u8]) -> &'static str {
    ["string", "list", "set", "hash", "zset"].into_iter().find(|n| n.as_bytes() == name).expect("a type")
}

/// Adds the records of one database to a picture; each key must be new.
fn read_records(db: u32, bytes: &[u8], picture: &mut Picture) -> u64 {
    let mut r = Reading(bytes);
    let mut n = 0;
    while !r.0.is_empty() {
        let (key, deadline, kind) = (r.word(), r.number(), type_name(&r.word()));
        let mut elements: Vec<Vec<u8>> = (0..r.number()).map(|_| r.word()).collect();
        if kind != "list" {
            elements.sort();
        }
        let shown = String::from_utf8_lossy(&key).into_owned();
        assert!(picture.insert((db, key), (kind, deadline, elements)).is_none(), "{shown} of {db} was recorded twice");
        n += 1;
    }
    n
}

fn picture_of(store: &Store) -> Picture {
    let mut picture = Picture::new();
    for db in 0..DBS {
        for e in store.db(db).into_iter().flat_map(|d| d.iter()) {
            let mut chunk = Chunk::default();
            Words.record(&mut chunk, e);
            read_records(db as u32, &chunk.bytes, &mut picture);
        }
    }
    picture
}

/// What a snapshot has recorded so far.
#[derive(Default)]
struct Taken {
    picture: Picture,
    /// The bytes of a record that goes on.
    open: Vec<u8>,
}

impl Taken {
    fn take(&mut self, store: &mut Store) {
        let cut = store.cut.as_mut().expect("a snapshot is being made");
        while let Some(chunk) = cut.take() {
            self.open.extend_from_slice(&chunk.bytes);
            if !chunk.open {
                let n = read_records(chunk.db, &self.open, &mut self.picture);
                assert_eq!(n, chunk.keys);
                self.open.clear();
            }
        }
    }
}

/// A run: a keyspace, commands on it, and perhaps a snapshot under way.
struct Run {
    bench: Bench,
    rng: Rng,
    lost: Arc<AtomicBool>,
    snapshot: Option<(Picture, Taken)>,
    snapshots: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut bench = Bench { store: Store::new(DBS), ..Bench::default() };
        bench.options.list_max_listpack_size = 8;
        let mut run = Run { bench, rng: Rng::new(seed), lost: Arc::default(), snapshot: None, snapshots: 0 };
        for db in 0..DBS {
            run.bench.db = db;
            (0..60).for_each(|_| run.command());
            (0..3).for_each(|i| run.fill(i));
        }
        run
    }

    /// Makes large collections.
    fn fill(&mut self, i: usize) {
        let n = 150 + self.rng.below(800);
        let all = |f: &dyn Fn(usize) -> String| (0..n).map(f).collect::<Vec<_>>().join(" ");
        self.bench.run(&format!("hset h{i} {}", all(&|j| format!("f{j} value{j}"))));
        self.bench.run(&format!("sadd s{i} {}", all(&|j| format!("m{j}"))));
        self.bench.run(&format!("zadd z{i} {}", all(&|j| format!("{} m{j}", j % 50))));
        self.bench.run(&format!("rpush l{i} {}", all(&|j| format!("e{}", j % 100))));
    }

    fn pick(&mut self, words: &[&str]) -> String {
        words[self.rng.below(words.len())].to_string()
    }

    fn key(&mut self, kind: char) -> String {
        let tagged = if self.rng.below(4) == 0 { "{tag}" } else { "" };
        format!("{tagged}{kind}{}", self.rng.below(if kind == 'k' { 40 } else { 5 }))
    }

    /// One random command, on a random database.
    fn command(&mut self) {
        self.bench.db = self.rng.below(DBS);
        let (n, m) = (self.rng.below(1000), self.rng.below(1000));
        let kind = ['k', 'h', 's', 'z', 'l'][self.rng.below(5)];
        let (a, b) = (self.key(kind), self.key(kind));
        let line = match (self.rng.below(10), kind) {
            (0, _) => self.generic(&a, &b),
            (_, 'k') => self.pick(&[
                "set {a} {n}",
                "append {a} x{n}",
                "setrange {a} {n} y",
                "incr {a}",
                "setex {a} {n} v",
                "getset {a} {m}",
                "set {a} {n} keepttl",
                "getdel {a}",
                "setbit {a} {n} 1",
                "mset {a} {n} {b} {m}",
                "bitop or {a} {a} {b}",
                "getex {a} persist",
                "get {a}",
            ]),
            (_, 'h') => self.pick(&[
                "hset {a} f{n} {m}",
                "hdel {a} f{n} f{m}",
                "hincrby {a} c{n} 1",
                "hget {a} f{n}",
                "hset {a} f{n} changed f{m} changed",
                "hsetnx {a} g{n} 1",
            ]),
            (_, 's') => self.pick(&[
                "sadd {a} m{n} n{m}",
                "srem {a} m{n} m{m}",
                "spop {a}",
                "smove {a} {b} m{n}",
                "sunionstore {a} {a} {b}",
                "sadd {a} {n}",
                "spop {a} 20",
                "sdiffstore {a} {a} {b}",
            ]),
            (_, 'z') => self.pick(&[
                "zadd {a} {n} m{m}",
                "zrem {a} m{n} m{m}",
                "zincrby {a} 5 m{n}",
                "zpopmin {a}",
                "zremrangebyrank {a} 3 9",
                "zunionstore {a} 2 {a} {b}",
                "zadd {a} {n} new{m}",
                "zpopmax {a} 30",
            ]),
            _ => self.pick(&[
                "lpush {a} x{n}",
                "rpush {a} y{n} y{m}",
                "lpop {a}",
                "rpop {a} 15",
                "lset {a} {n} changed",
                "linsert {a} before e{n} inserted",
                "lrem {a} 2 e{n}",
                "lrem {a} -1 e{m}",
                "ltrim {a} 5 -7",
                "lmove {a} {b} left right",
                "lpush {a} long{n}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                "lrem {a} 0 e7",
                "ltrim {a} 100 500",
            ]),
        };
        let fields = [("{a}", a), ("{b}", b), ("{n}", n.to_string()), ("{m}", m.to_string())];
        let line = fields.iter().fold(line, |l, (name, with)| l.replace(name, with));
        self.bench.run(&line);
    }

    fn generic(&mut self, a: &str, b: &str) -> String {
        match self.rng.below(40) {
            0..=5 => format!("del {a}"),
            6..=9 => format!("unlink {a} {b}"),
            10..=17 => format!("rename {a} {b}"),
            18..=21 => format!("copy {a} {b} replace"),
            22..=23 => format!("move {a} {}", self.rng.below(DBS)),
            24..=27 => format!("pexpire {a} {}", self.rng.below(2000)),
            28..=29 => format!("persist {a}"),
            30 => "flushdb".into(),
            31 => "flushall".into(),
            32..=33 => format!("swapdb {} {}", self.rng.below(DBS), self.rng.below(DBS)),
            34..=35 => format!("set {a} overwritten"),
            36 => format!("object freq {a}"),
            _ => {
                self.bench.now += self.rng.below(500) as u64;
                format!("exists {a} {b}")
            }
        }
    }

    /// What transactions over several cores do to a core's keyspace.
    fn transaction(&mut self) {
        let mut other = Store::new(DBS);
        if self.rng.below(4) == 0 {
            // Everything goes to the coordinator and comes back; not while a
            // collection is open.
            if self.bench.store.cut.as_ref().is_some_and(|c| c.has_open()) {
                return;
            }
            let packs = self.bench.store.take_all_slots();
            packs.into_iter().for_each(|p| other.install_slot(p));
            self.at_coordinator(&mut other);
            let packs = other.take_all_slots();
            packs.into_iter().for_each(|p| self.bench.store.install_slot(p));
        } else {
            let (db, kind) = (self.rng.below(DBS), ['k', 'h', 's', 'z', 'l'][self.rng.below(5)]);
            for name in [self.key(kind), self.key(kind)] {
                let key = Key::new(name.as_bytes());
                let large = self.bench.store.get(db, &key).and_then(Entry::as_object).is_some_and(Object::is_large);
                if !large && let Some(e) = self.bench.store.take(db, &key) {
                    other.put_hashed(db, key.hash, e);
                }
            }
            self.at_coordinator(&mut other);
            other.drain_entries().into_iter().for_each(|(db, hash, e)| self.bench.store.put_hashed(db, hash, e));
        }
        self.bench.store.absorb(&mut other);
    }

    fn at_coordinator(&mut self, other: &mut Store) {
        std::mem::swap(&mut self.bench.store, other);
        self.bench.store.visit_cut(other);
        (0..3).for_each(|_| self.command());
        self.bench.store.leave_cut(other);
        std::mem::swap(&mut self.bench.store, other);
    }

    fn begin(&mut self) {
        let picture = picture_of(&self.bench.store);
        self.snapshots += 1;
        self.bench.store.begin_cut(self.snapshots, Box::new(Words), self.lost.clone());
        self.snapshot = Some((picture, Taken::default()));
    }

    fn step(&mut self) {
        let Some((picture, mut taken)) = self.snapshot.take() else { return self.begin() };
        let more = self.bench.store.cut_step();
        if !more {
            self.bench.store.cut.as_mut().unwrap().flush();
        }
        taken.take(&mut self.bench.store);
        assert!(!self.lost.load(Ordering::Relaxed), "something owed was dropped");
        if more {
            self.snapshot = Some((picture, taken));
            return;
        }
        assert!(taken.open.is_empty());
        self.bench.store.end_cut(true);
        compare(&picture, &taken.picture);
    }

    fn give_up(&mut self) {
        self.bench.store.end_cut(false);
        self.snapshot = None;
    }
}

fn compare(want: &Picture, got: &Picture) {
    for (key, value) in want {
        let shown = || format!("{} of {}", String::from_utf8_lossy(&key.1), key.0);
        let found = got.get(key).unwrap_or_else(|| panic!("{} is missing", shown()));
        assert!(found == value, "{}: {found:?} is not {value:?}", shown());
    }
    if let Some((key, _)) = got.iter().find(|(k, _)| !want.contains_key(k)) {
        panic!("{} of {} was not there at the cut", String::from_utf8_lossy(&key.1), key.0);
    }
}

/// Commands, transactions and steps of snapshots, as the seed has it.
fn run_through(seed: u64, pace: usize) {
    let mut run = Run::new(seed);
    for _ in 0..600 {
        match run.rng.below(pace + 8) {
            0..8 => run.command(),
            _ => run.step(),
        }
        match run.rng.below(400) {
            0..20 => run.transaction(),
            20 => run.give_up(),
            21..25 => {
                let i = run.rng.below(5);
                run.fill(i);
            }
            _ => {}
        }
    }
    while run.snapshot.is_some() {
        run.step();
    }
    assert!(!run.lost.load(Ordering::Relaxed));
}

/// The test above would notice if any kind of saving were left out.
#[test]
fn whatever_is_not_saved_is_missed() {
    use Saving::*;
    for saving in [Entry, Mark, Element, Score, Node, GoneNode, Deleted] {
        omit(Some(saving));
        let noticed = (0..60).any(|seed| std::panic::catch_unwind(|| run_through(seed, 3)).is_err());
        omit(None);
        assert!(noticed, "{saving:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_snapshot_is_the_keyspace_of_its_cut(seed: u64, pace in 1usize..12) {
        run_through(seed, pace);
    }
}

/// Marks of snapshots that were given up mislead none of the next ones.
#[test]
fn snapshots_after_some_that_were_given_up_are_whole() {
    for given_up in 1..10 {
        let mut run = Run::new(given_up);
        for _ in 0..given_up {
            run.begin();
            (0..40).for_each(|_| run.command());
            run.step();
            run.give_up();
            run.transaction();
        }
        run.begin();
        while run.snapshot.is_some() {
            (0..5).for_each(|_| run.command());
            run.step();
        }
        assert!(!run.lost.load(Ordering::Relaxed));
    }
}

/// Nor do slots take them along to another core.
#[test]
fn slots_leave_marks_behind() {
    let mut run = Run::new(7);
    run.begin();
    (0..200).for_each(|_| run.command());
    run.give_up();
    let mut other = Store::new(DBS);
    (0..SLOTS as u16).for_each(|slot| other.install_slot(run.bench.store.give_slot(slot)));
    assert!(run.bench.store.is_empty() && !other.is_empty());
    run.bench.store = other;
    // The next snapshot with the same mark.
    run.snapshots += 2;
    run.begin();
    while run.snapshot.is_some() {
        run.step();
    }
}

/// Nothing is recorded that was made after the cut, nothing twice, and a
/// snapshot of an empty keyspace ends at once.
#[test]
fn an_empty_keyspace_makes_an_empty_snapshot() {
    let mut run = Run { bench: Bench::default(), ..Run::new(1) };
    run.begin();
    run.bench.run("set a 1");
    run.bench.run("del a");
    run.step();
    assert!(run.snapshot.is_none());
}
