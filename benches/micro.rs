//! Micro-benchmarks of the hot path's parts, one function per part.
//!
//! `cargo bench --bench micro` runs all; `-- slot` those whose name holds
//! `slot`. A part is added as a function that takes the `Criterion` and a line
//! in `criterion_group!`. Each bench goes through [`KEYS`] inputs in turn, so
//! that the branch predictor does not learn a single one.

use std::hint::black_box;

use coreslot::base::slot::{Key, hash_key, slot_of_hash};
use coreslot::resp::reply::{Proto, Reply};
use coreslot::resp::request::{self, Limits, Resume, Step};
use coreslot::server::registry::registry;
use coreslot::store::Store;
use coreslot::store::entry::Entry;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The server's own, so that entries lie as they do there.
#[global_allocator]
static ALLOCATOR: coreslot::base::memory::Counted = coreslot::base::memory::Counted;

/// Distinct inputs per bench: more than a branch predictor remembers, and
/// few enough to stay in the second-level cache.
const KEYS: usize = 4096;
/// The cluster's hash slots.
const SLOTS: u16 = 16_384;

/// Keys as redis-benchmark makes them.
fn keys(tag: &str) -> Vec<Vec<u8>> {
    (0..KEYS).map(|number| format!("key:{tag}{:012}", number * 7919 % KEYS).into_bytes()).collect()
}

/// Benches `work` over `inputs` in turn; the figure is per input.
fn each<T>(criterion: &mut Criterion, name: &str, inputs: &[T], mut work: impl FnMut(&T) -> u64) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(inputs.len() as u64));
    group.bench_function("all", |bencher| {
        bencher.iter(|| inputs.iter().map(|input| work(black_box(input))).fold(0, u64::wrapping_add));
    });
    group.finish();
}

/// Routing: the hash slot of a key without a tag, from the CRC alone.
fn slot(criterion: &mut Criterion) {
    each(criterion, "slot/crc16", &keys(""), |key| u64::from(crc16::State::<crc16::XMODEM>::calculate(key) % SLOTS));
}

/// The table's hash of a key.
fn key_hash(criterion: &mut Criterion) {
    use std::hash::{BuildHasher, Hasher};
    let state = foldhash::fast::FixedState::default();
    each(criterion, "key_hash/foldhash", &keys(""), |key| {
        let mut hasher = state.build_hasher();
        hasher.write(key);
        hasher.finish()
    });
}

/// What the server does with a key before it knows where the command runs: the
/// command by its name, hash and slot of the key.
fn routing(criterion: &mut Criterion) {
    let reg = registry();
    each(criterion, "routing/hash_key", &keys(""), |key| u64::from(slot_of_hash(hash_key(key))));
    each(criterion, "routing/hash_key_with_tag", &keys("{tag}"), |key| u64::from(slot_of_hash(hash_key(key))));
    let names: Vec<&[u8]> = [b"get".as_slice(), b"SET", b"zadd", b"HSET", b"expire", b"ZRANGEBYSCORE"].repeat(KEYS / 6);
    each(criterion, "routing/registry_find", &names, |name| reg.find(name).map_or(0, |e| e.index as u64));
}

/// A pipeline in one receive buffer, parsed in place.
fn parser(criterion: &mut Criterion) {
    let value = "v".repeat(64);
    let mut gets = Vec::new();
    let mut sets = Vec::new();
    for key in keys("") {
        let key = String::from_utf8_lossy(&key).into_owned();
        gets.extend_from_slice(format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).as_bytes());
        sets.extend_from_slice(format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$64\r\n{value}\r\n", key.len()).as_bytes());
    }
    let limits = Limits { bulk_max: 512 << 20, unauthenticated: false };
    for (name, input) in [("get", gets), ("set", sets)] {
        let mut group = criterion.benchmark_group("parser");
        group.throughput(Throughput::Elements(KEYS as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse_all(black_box(&input), &limits)));
        group.finish();
    }
}

/// Parses every request of `input`; the number of argument bytes.
fn parse_all(input: &[u8], limits: &Limits) -> usize {
    let mut resume = Resume::default();
    let mut args: Vec<&[u8]> = Vec::new();
    let (mut at, mut bytes) = (0, 0);
    while let Step::Request(n) = request::read(&input[at..], limits, &mut resume, &mut args) {
        at += n;
        bytes += args.drain(..).map(<[u8]>::len).sum::<usize>();
    }
    assert_eq!(at, input.len(), "the whole pipeline is parsed");
    bytes
}

/// Keys in the table that look-ups are made in, and look-ups per batch as in
/// the server.
const STORED: usize = 1_000_000;
const BATCH: usize = 32;

fn stored_key(number: usize) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Look-ups among a million keys, in an order that caches do not foresee, one
/// by one and with the passes of a batch: table headers, buckets, entries.
fn table(criterion: &mut Criterion) {
    let mut store = Store::new(1);
    for number in 0..STORED {
        store.put(0, Entry::string(&stored_key(number), &[b'v'; 32], None));
    }
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, prefetch) in [("get_1m", false), ("get_1m_prefetched", true)] {
        let mut number = 1;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let keys: [[u8; 16]; BATCH] = std::array::from_fn(|_| {
                    number = number * 48_271 % 2_147_483_647;
                    stored_key(number % STORED)
                });
                let keys: [Key; BATCH] = std::array::from_fn(|i| Key::new(&keys[i]));
                if prefetch {
                    keys.iter().for_each(|k| store.prefetch_table(0, k.hash));
                    keys.iter().for_each(|k| store.prefetch_bucket(0, k.hash));
                    keys.iter().for_each(|k| store.prefetch_entry(0, k.hash));
                }
                keys.iter().map(|k| store.get(0, k).and_then(Entry::as_str).map_or(0, |v| v[0] as usize)).sum::<usize>()
            });
        });
    }
    group.finish();
}

/// Replies into an output buffer that has the room.
fn reply(criterion: &mut Criterion) {
    let values: Vec<Vec<u8>> = (0..KEYS).map(|n| vec![b'v'; n % 128]).collect();
    let numbers: Vec<i64> = (0..KEYS as i64).map(|n| n * n).collect();
    let mut out = Vec::with_capacity(1024);
    let mut encode = |write: &dyn Fn(&mut Reply)| {
        out.clear();
        write(&mut Reply::new(&mut out, Proto::Resp2));
        black_box(&out).len() as u64
    };
    each(criterion, "reply/bulk", &values, |v| encode(&|r| r.bulk(v)));
    each(criterion, "reply/int", &numbers, |n| encode(&|r| r.int(*n)));
    each(criterion, "reply/ok", &numbers, |_| encode(&|r| r.ok()));
}

criterion_group!(benches, slot, key_hash, routing, parser, table, reply);
criterion_main!(benches);
