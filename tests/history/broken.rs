//! The checker must be able to fail: histories with known faults, each beside
//! its faultless twin.

use super::support::history::check::{Kind, check};
use super::support::history::collections::{self, Told, left_over};
use super::support::history::plan::Keys;
use super::support::history::{History, Key, Op, Version};
use super::support::{Rng, Value, array, bulk, int};

const X: Key = 0;
const Y: Key = 1;

/// An operation of a client between two times.
fn op(client: u32, from: u64, to: u64, reads: &[(Key, Version)], writes: &[(Key, Version)]) -> Op {
    Op {
        client,
        batch: from as u32,
        label: format!("op at {from}"),
        sent_ns: from,
        answered_ns: to,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
        ..Op::default()
    }
}

fn kinds(ops: Vec<Op>) -> Vec<Kind> {
    let mut all = vec![op(99, 0, 0, &[], &[(X, 0), (Y, 0)])];
    all.extend(ops);
    let history = History { ops: all, strict_pipelines: false };
    check(&history).iter().map(|violation| violation.kind).collect()
}

#[track_caller]
fn fine(ops: Vec<Op>) {
    assert_eq!(kinds(ops), []);
}

#[track_caller]
fn cycle(ops: Vec<Op>) {
    assert_eq!(kinds(ops), [Kind::Cycle]);
}

#[test]
fn stale_read() {
    let write = op(1, 1, 2, &[], &[(X, 1)]);
    cycle(vec![write.clone(), op(2, 3, 4, &[(X, 0)], &[])]);
    // While the write runs, both values are fine.
    fine(vec![write.clone(), op(2, 1, 4, &[(X, 0)], &[])]);
    fine(vec![write, op(2, 1, 4, &[(X, 1)], &[])]);
}

/// An old value after a newer one was seen, by two readers during one write.
#[test]
fn reads_going_back() {
    let write = op(1, 1, 10, &[], &[(X, 1)]);
    let newer = op(2, 2, 3, &[(X, 1)], &[]);
    cycle(vec![write.clone(), newer.clone(), op(3, 4, 5, &[(X, 0)], &[])]);
    fine(vec![write, newer, op(3, 4, 5, &[(X, 1)], &[])]);
}

#[test]
fn torn_read_of_a_multi_key_write() {
    let write = op(1, 1, 10, &[], &[(X, 1), (Y, 1)]);
    cycle(vec![write.clone(), op(2, 2, 3, &[(X, 1), (Y, 0)], &[])]);
    fine(vec![write.clone(), op(2, 2, 3, &[(X, 1), (Y, 1)], &[])]);
    // Two blind writes of both keys, each seen in part.
    let other = op(3, 1, 10, &[], &[(X, 2), (Y, 2)]);
    cycle(vec![write, other, op(2, 1, 10, &[(X, 1), (Y, 2)], &[])]);
}

#[test]
fn torn_read_found_by_the_client() {
    let mut read = op(1, 1, 2, &[], &[]);
    read.torn = Some("twins differ".into());
    assert_eq!(kinds(vec![read]), [Kind::Torn]);
}

#[test]
fn lost_update() {
    let first = op(1, 1, 10, &[(X, 0)], &[(X, 1)]);
    let lost = op(2, 1, 10, &[(X, 0)], &[(X, 2)]);
    assert_eq!(kinds(vec![first.clone(), lost]), [Kind::LostUpdate]);
    fine(vec![first, op(2, 1, 10, &[(X, 1)], &[(X, 2)])]);
}

#[test]
fn write_skew() {
    let one = op(1, 1, 10, &[(X, 0), (Y, 0)], &[(X, 1)]);
    let other = op(2, 1, 10, &[(X, 0), (Y, 0)], &[(Y, 1)]);
    cycle(vec![one.clone(), other]);
    fine(vec![one, op(2, 1, 10, &[(X, 1), (Y, 0)], &[(Y, 1)])]);
}

/// Two readers that saw two writes in opposite orders.
#[test]
fn long_fork() {
    let x = op(1, 1, 10, &[], &[(X, 1)]);
    let y = op(2, 1, 10, &[], &[(Y, 1)]);
    let one = op(3, 1, 10, &[(X, 1), (Y, 0)], &[]);
    cycle(vec![x.clone(), y.clone(), one.clone(), op(4, 1, 10, &[(X, 0), (Y, 1)], &[])]);
    fine(vec![x, y, one, op(4, 1, 10, &[(X, 1), (Y, 1)], &[])]);
}

/// The order of two writes in real time, contradicted over two keys.
#[test]
fn write_order_against_real_time() {
    let first = op(1, 1, 2, &[], &[(X, 1)]);
    let second = op(2, 3, 4, &[], &[(Y, 1)]);
    let read = op(3, 1, 10, &[(X, 0), (Y, 1)], &[]);
    cycle(vec![first.clone(), second.clone(), read]);
    fine(vec![first, second, op(3, 1, 10, &[(X, 1), (Y, 0)], &[])]);
}

#[test]
fn inside_of_a_transaction() {
    let mut write = op(1, 1, 10, &[], &[(X, 2)]);
    write.hidden.push((X, 1));
    assert_eq!(kinds(vec![write.clone(), op(2, 1, 10, &[(X, 1)], &[])]), [Kind::Inside]);
    fine(vec![write, op(2, 1, 10, &[(X, 2)], &[])]);
}

#[test]
fn values_from_nowhere() {
    assert_eq!(kinds(vec![op(1, 1, 2, &[(X, 7)], &[])]), [Kind::Garbage]);
}

/// A counter that answers the same number twice.
#[test]
fn a_number_given_twice() {
    let one = op(1, 1, 10, &[(X, 0)], &[(X, 1)]);
    let twice = op(2, 1, 10, &[(X, 0)], &[(X, 1)]);
    assert_eq!(kinds(vec![one, twice])[0], Kind::SameVersion);
}

#[test]
fn a_log_out_of_order() {
    let append = |client, element, length| {
        let mut op = op(client, 1, 10, &[(X, length - 1)], &[(X, length)]);
        op.appended.push((X, element));
        op
    };
    let read = |elements: &[u64]| {
        let mut op = op(3, 11, 12, &[(X, elements.len() as u64)], &[]);
        op.contents.push((X, elements.to_vec()));
        op
    };
    let ops = vec![append(1, 10, 1), append(2, 20, 2)];
    fine([ops.clone(), vec![read(&[10, 20])]].concat());
    let broken = kinds([ops, vec![read(&[20, 10])]].concat());
    assert_eq!(broken, [Kind::LogOrder]);
}

/// Commands of one connection on one key keep their order, in one batch too.
#[test]
fn a_batch_out_of_order() {
    let batch = |reads: &[(Key, Version)], writes: &[(Key, Version)]| {
        let mut op = op(1, 1, 10, reads, writes);
        op.batch = 5;
        op
    };
    cycle(vec![batch(&[], &[(X, 1)]), batch(&[(X, 0)], &[])]);
    fine(vec![batch(&[], &[(X, 1)]), batch(&[(X, 1)], &[])]);
    // Different keys are not ordered unless the server says so.
    let crossed = vec![batch(&[], &[(X, 1)]), batch(&[], &[(Y, 1)]), op(2, 1, 10, &[(X, 0), (Y, 1)], &[])];
    fine(crossed.clone());
    let mut all = vec![op(99, 0, 0, &[], &[(X, 0), (Y, 0)])];
    all.extend(crossed);
    let strict = History { ops: all, strict_pipelines: true };
    assert_eq!(check(&strict)[0].kind, Kind::Cycle);
}

/// What replies about collections say, as operations of one history.
struct Story {
    keys: Keys,
    ops: Vec<Op>,
}

impl Story {
    fn new() -> Story {
        let keys = Keys::new(&mut Rng::new(1));
        let mut first = op(99, 0, 0, &[], &[]);
        first.writes = keys.collections.prepare(&keys.names).1;
        Story { keys, ops: vec![first] }
    }

    fn say(mut self, (from, to): (u64, u64), told: &Told, reply: &Value) -> Story {
        let mut new = op(from as u32, from, to, &[], &[]);
        collections::note(&mut new, &self.keys, told, reply);
        self.ops.push(new);
        self
    }

    /// So many were pushed to the first queue, these are left.
    fn end(mut self, pushed: u64, left: &[u64]) -> Vec<Kind> {
        let last = left_over(&self.keys.collections.queues[0], pushed, left);
        self.ops.push(Op { sent_ns: 1000, answered_ns: 2000, ..last });
        self.kinds()
    }

    fn kinds(self) -> Vec<Kind> {
        let history = History { ops: self.ops, strict_pipelines: false };
        check(&history).iter().map(|violation| violation.kind).collect()
    }
}

/// Two elements were pushed to the first queue.
fn two_pushed() -> Story {
    Story::new().say((1, 2), &Told::Pushed(0), &int(1)).say((3, 4), &Told::Pushed(0), &int(2))
}

fn popped(h: &Story, n: &str) -> Value {
    array([bulk(&h.keys.collections.queues[0].list), bulk(n)])
}

#[test]
fn what_queues_promise() {
    let one = |h: Story, time, n| {
        let reply = popped(&h, n);
        h.say(time, &Told::PoppedFrom, &reply)
    };
    assert_eq!(two_pushed().end(2, &[1, 2]), []);
    assert_eq!(one(one(two_pushed(), (5, 6), "1"), (7, 8), "2").end(2, &[]), []);
    // Two that pop at the same time may get them in any order.
    assert_eq!(one(one(two_pushed(), (5, 9), "2"), (6, 8), "1").end(2, &[]), []);
    // Out of turn, twice, before it was pushed, lost, still there.
    assert_eq!(one(one(two_pushed(), (5, 6), "2"), (7, 8), "1").end(2, &[]), [Kind::Cycle]);
    assert_eq!(one(one(two_pushed(), (5, 6), "1"), (7, 8), "1").end(2, &[2])[0], Kind::SameVersion);
    let early = Story::new().say((5, 6), &Told::Pushed(0), &int(1));
    assert_eq!(one(early, (1, 2), "1").end(1, &[]), [Kind::Cycle]);
    assert_eq!(one(two_pushed(), (5, 6), "2").end(2, &[])[0], Kind::Garbage);
    assert_eq!(two_pushed().end(2, &[2])[0], Kind::Garbage);
    assert_eq!(two_pushed().end(2, &[1])[0], Kind::Torn);
    assert_eq!(one(two_pushed(), (5, 6), "1").end(2, &[1, 2]), [Kind::Cycle]);
    // Several at once follow one another.
    let some = |numbers: [&str; 2]| {
        let h = two_pushed();
        let reply = array([bulk(&h.keys.collections.queues[0].list), array(numbers.map(bulk))]);
        h.say((5, 6), &Told::PoppedSome, &reply).kinds()
    };
    assert_eq!(some(["1", "2"]), []);
    assert!(some(["2", "1"]).contains(&Kind::Torn));
}

#[test]
fn what_collections_promise() {
    let crowd = |list: &[&str]| array(list.iter().map(bulk));
    let h = || {
        let h = Story::new();
        let [first, second, ..] = h.keys.collections.crowds[..] else { panic!("crowds") };
        h.say((1, 2), &Told::Grown(first, 7), &int(1)).say((3, 4), &Told::Grown(second, 8), &int(1))
    };
    assert_eq!(h().say((5, 6), &Told::Crowds, &crowd(&["0:7", "1:8"])).kinds(), []);
    // The later one without the earlier.
    assert_eq!(h().say((1, 6), &Told::Crowds, &crowd(&["1:8"])).kinds(), [Kind::Cycle]);
    assert_eq!(h().say((1, 6), &Told::Crowds, &crowd(&["0:7"])).kinds(), []);
    assert_eq!(Story::new().say((1, 2), &Told::Ball, &crowd(&["ball"])).kinds(), []);
    for list in [&[][..], &["ball", "other"]] {
        assert_eq!(Story::new().say((1, 2), &Told::Ball, &crowd(list)).kinds(), [Kind::Torn]);
    }
    // A shelf whose elements stand in another order than they were put.
    let shelf = || {
        let h = Story::new();
        let key = h.keys.collections.shelves[0];
        (h.say((1, 9), &Told::Grown(key, 0xa), &int(1)).say((1, 9), &Told::Grown(key, 0xb), &int(2)), key)
    };
    let (h, key) = shelf();
    assert_eq!(h.say((10, 11), &Told::Shelf(key), &crowd(&["a", "b"])).kinds(), []);
    let (h, key) = shelf();
    assert_eq!(h.say((10, 11), &Told::Shelf(key), &crowd(&["b", "a"])).kinds(), [Kind::LogOrder]);
    // A tally that answers a number twice.
    let h = Story::new();
    let member = h.keys.collections.members[0][0];
    let h = h.say((1, 2), &Told::Tallied(member), &bulk("1")).say((3, 4), &Told::Tallied(member), &bulk("1"));
    assert_eq!(h.kinds()[0], Kind::SameVersion);
}
