//! The merge against a deterministic model of cores, clients and transactions.
//!
//! The model runs turns, mesh, inboxes, locks and sleeping as the data cores
//! do, in small steps; between any two readings of the merge any number of
//! steps may happen. Lanes, writers and the merge are the real ones. The
//! checks are those that matter to a reader of the stream:
//!
//! - nothing is lost, and the writes of a key stand in the order of execution;
//! - what was answered, or whose effect was read, before a command was sent
//!   stands before it: every prefix is a state somebody could have seen;
//! - transactions are whole;
//! - once the merge has passed the time of a reply, all that the reply rests
//!   on has gone out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::lane::Lane;
use super::merge::{Lanes, Merge, Sink};
use super::record::{Record, Run};
use super::writer::Writer;
use crate::base::rng::Rng;
use crate::resp::request::{self, Limits, Resume, Step};

const CORES: usize = 3;
const KEYS: usize = 6;
const CLIENTS: usize = 5;
const COMMANDS: usize = 40;

/// How a run departs from the rules, to show that the checks notice.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// As if the clock were read after the flags.
    ClockLate,
    /// A core raises its watermark before it publishes.
    WatermarkFirst,
    /// Parts go out as they come.
    EarlyCommit,
}

#[derive(Clone, Default)]
struct Op {
    client: usize,
    /// Keys written, or the one key read.
    keys: Vec<usize>,
    reads: bool,
    sent: usize,
    answered: Option<usize>,
    reply_stamp: u64,
    /// The write whose value was read; 0 for none.
    saw: usize,
}

enum Mail {
    Command(usize),
    Done(usize),
    Release(usize),
}

struct Place {
    op: usize,
    keys: Vec<usize>,
    part: bool,
    granted: bool,
}

#[derive(Default)]
struct ModelCore {
    writer: Writer,
    stage: usize,
    stamp: u64,
    asleep: bool,
    kicked: bool,
    mesh: VecDeque<Mail>,
    inbox: VecDeque<(usize, Vec<usize>)>,
    mail: VecDeque<Mail>,
    locks: Vec<Place>,
    out: Vec<(usize, Mail)>,
    done: Vec<usize>,
    /// A deletion in the background, to be published by the next turn.
    background: bool,
}

struct World {
    rng: Rng,
    now: u64,
    event: usize,
    cores: Vec<ModelCore>,
    lanes: Vec<Arc<Lane>>,
    store: [usize; KEYS],
    order: Vec<Vec<usize>>,
    ops: Vec<Op>,
    left: [usize; CLIENTS],
    /// Commands on their way to a core, and when they arrive.
    network: Vec<(u64, usize, usize)>,
    flaw: Flaw,
}

fn owner(key: usize) -> usize {
    key % CORES
}

impl World {
    fn new(seed: u64, lanes: &[Arc<Lane>], flaw: Flaw) -> World {
        let mut w = World {
            rng: Rng::new(seed),
            now: 1,
            event: 0,
            cores: (0..CORES).map(|_| ModelCore::default()).collect(),
            lanes: lanes.to_vec(),
            store: [0; KEYS],
            order: vec![Vec::new(); KEYS],
            ops: vec![Op::default()],
            left: [COMMANDS; CLIENTS],
            network: Vec::new(),
            flaw,
        };
        (0..CLIENTS).for_each(|c| w.send_next(c));
        w
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n)
    }

    fn send_next(&mut self, client: usize) {
        if self.left[client] == 0 {
            return;
        }
        self.left[client] -= 1;
        let reads = self.below(3) == 0;
        let n = if reads { 1 } else { [1, 1, 2, 3][self.below(4)] };
        let mut keys: Vec<usize> = Vec::new();
        while keys.len() < n {
            let k = self.below(KEYS);
            if !keys.contains(&k) {
                keys.push(k);
            }
        }
        self.event += 1;
        let to = if n == 1 { owner(keys[0]) } else { self.below(CORES) };
        let at = self.now + 1 + self.below(30) as u64;
        self.network.push((at, to, self.ops.len()));
        self.ops.push(Op { client, keys, reads, sent: self.event, ..Op::default() });
    }

    fn finished(&self) -> bool {
        self.left.iter().all(|n| *n == 0) && self.ops[1..].iter().all(|o| o.answered.is_some())
    }

    /// Time goes on, somebody does something.
    fn steps(&mut self) {
        let n = if self.below(10) == 0 { 40 } else { self.below(6) };
        for _ in 0..n {
            if self.below(3) > 0 {
                self.now += 1;
            }
            for i in (0..self.network.len()).rev() {
                let (at, core, op) = self.network[i];
                if at <= self.now {
                    self.network.swap_remove(i);
                    self.cores[core].mesh.push_back(Mail::Command(op));
                    self.cores[core].kicked = true;
                }
            }
            let c = self.below(CORES);
            self.step(c);
        }
    }

    fn runnable(&self, c: usize) -> bool {
        let core = &self.cores[c];
        core.writer.pending() || !core.mesh.is_empty() || !core.inbox.is_empty()
    }

    /// One step of a core's turn.
    fn step(&mut self, c: usize) {
        let lane = self.lanes[c].clone();
        match self.cores[c].stage {
            0 if self.runnable(c) => self.cores[c].stage = 3,
            0 => {
                lane.park();
                self.cores[c].stage = 1;
            }
            1 if self.runnable(c) => self.cores[c].stage = 2,
            1 => {
                self.cores[c].asleep = true;
                if std::mem::take(&mut self.cores[c].kicked) {
                    self.cores[c].asleep = false;
                    self.cores[c].stage = 2;
                }
            }
            2 => {
                lane.unpark();
                self.cores[c].stage = 3;
            }
            3 => {
                let core = &mut self.cores[c];
                core.kicked = false;
                core.mail = std::mem::take(&mut core.mesh);
                core.stage = 4;
            }
            4 => {
                let core = &mut self.cores[c];
                core.stamp = self.now.max(core.stamp + 1);
                core.writer.stamp(&lane, core.stamp);
                core.stage = 5;
            }
            5 => {
                while let Some((op, keys)) = self.cores[c].inbox.pop_front() {
                    self.cores[c].locks.push(Place { op, keys, part: true, granted: false });
                }
                self.pump(c);
                self.cores[c].stage = 6;
            }
            6 => match self.cores[c].mail.pop_front() {
                Some(m) => self.handle(c, m),
                None => self.cores[c].stage = 7,
            },
            7 if self.flaw == Flaw::WatermarkFirst && lane.watermark() <= self.cores[c].stamp => {
                lane.advance(self.cores[c].stamp + 1);
            }
            7 => {
                let core = &mut self.cores[c];
                core.writer.publish(&lane, core.stamp);
                core.stage = 8;
            }
            8 if self.now > self.cores[c].stamp => self.flush(c),
            8 => {}
            _ => unreachable!(),
        }
    }

    fn flush(&mut self, c: usize) {
        for (to, m) in std::mem::take(&mut self.cores[c].out) {
            self.cores[to].mesh.push_back(m);
            self.cores[to].kicked = true;
        }
        let stamp = self.cores[c].stamp;
        for op in std::mem::take(&mut self.cores[c].done) {
            self.event += 1;
            self.ops[op].answered = Some(self.event);
            self.ops[op].reply_stamp = stamp;
            let client = self.ops[op].client;
            self.send_next(client);
        }
        if self.cores[c].background {
            self.cores[c].background = false;
            self.cores[c].writer.command(0, &[b"DEL", b"old"]);
        }
        self.cores[c].stage = 0;
    }

    fn handle(&mut self, c: usize, m: Mail) {
        match m {
            Mail::Command(op) if self.ops[op].keys.len() > 1 => self.order(op, c),
            Mail::Command(op) => {
                let keys = self.ops[op].keys.clone();
                self.cores[c].locks.push(Place { op, keys, part: false, granted: false });
                self.pump(c);
            }
            Mail::Done(op) => {
                self.ops[op].saw += 1;
                let mut parts: Vec<usize> = self.ops[op].keys.iter().map(|k| owner(*k)).collect();
                parts.sort();
                parts.dedup();
                if self.ops[op].saw == parts.len() {
                    self.ops[op].saw = 0;
                    self.cores[c].writer.commit(op as u64);
                    self.cores[c].done.push(op);
                    for p in parts {
                        self.post(c, p, Mail::Release(op));
                    }
                }
            }
            Mail::Release(op) => {
                self.cores[c].locks.retain(|p| p.op != op);
                self.pump(c);
            }
        }
    }

    fn post(&mut self, from: usize, to: usize, m: Mail) {
        if from == to {
            self.cores[from].mail.push_back(m);
        } else {
            self.cores[from].out.push((to, m));
        }
    }

    /// The critical section: one place in all inboxes.
    fn order(&mut self, op: usize, coordinator: usize) {
        // The coordinator is remembered as the place of the reply.
        self.ops[op].reply_stamp = coordinator as u64;
        for c in 0..CORES {
            let keys: Vec<usize> = self.ops[op].keys.iter().copied().filter(|k| owner(*k) == c).collect();
            if !keys.is_empty() {
                self.cores[c].inbox.push_back((op, keys));
                self.cores[c].kicked = true;
            }
        }
    }

    fn pump(&mut self, c: usize) {
        loop {
            let locks = &self.cores[c].locks;
            let free = |i: usize| {
                !locks[i].granted && !locks[..i].iter().any(|p| p.keys.iter().any(|k| locks[i].keys.contains(k)))
            };
            let Some(i) = (0..locks.len()).find(|i| free(*i)) else { return };
            let (op, keys, part) = (locks[i].op, locks[i].keys.clone(), locks[i].part);
            if part {
                self.cores[c].locks[i].granted = true;
                self.cores[c].writer.begin_part();
            } else {
                self.cores[c].locks.remove(i);
            }
            for k in &keys {
                self.execute(c, op, *k);
            }
            if part {
                self.cores[c].writer.end_part(op as u64, false);
                if self.flaw == Flaw::EarlyCommit {
                    self.cores[c].writer.commit(op as u64);
                }
                let coordinator = self.ops[op].reply_stamp as usize;
                self.post(c, coordinator, Mail::Done(op));
            } else {
                self.cores[c].done.push(op);
            }
            self.cores[c].background |= op % 17 == 0;
        }
    }

    fn execute(&mut self, c: usize, op: usize, key: usize) {
        if self.ops[op].reads {
            self.ops[op].saw = self.store[key];
            return;
        }
        self.store[key] = op;
        self.order[key].push(op);
        let (k, v) = (key.to_string(), op.to_string());
        self.cores[c].writer.command((key % 2) as u32, &[b"SET", k.as_bytes(), v.as_bytes()]);
    }
}

struct Model {
    world: RefCell<World>,
    lanes: Vec<Arc<Lane>>,
}

impl Lanes for Model {
    fn count(&self) -> usize {
        CORES
    }

    fn clock(&self) -> u64 {
        let mut w = self.world.borrow_mut();
        w.steps();
        if w.flaw == Flaw::ClockLate { w.now + 30 } else { w.now }
    }

    fn is_parked(&self, core: usize) -> bool {
        self.world.borrow_mut().steps();
        self.lanes[core].is_parked()
    }

    fn watermark(&self, core: usize) -> u64 {
        self.world.borrow_mut().steps();
        self.lanes[core].watermark()
    }

    fn pop(&self, core: usize) -> Option<Record> {
        self.world.borrow_mut().steps();
        self.lanes[core].pop()
    }

    fn recycle(&self, core: usize, buffer: Vec<u8>) {
        self.lanes[core].give_spare(buffer);
    }
}

#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    db: Option<u32>,
}

impl Sink for Stream {
    fn run(&mut self, _: usize, run: &mut Run) {
        if self.db != Some(run.first_db) {
            crate::resp::encode::select(&mut self.bytes, run.first_db);
        }
        self.db = Some(run.last_db);
        self.bytes.extend_from_slice(&run.bytes);
    }

    fn cut(&mut self, _: u64) {}
}

/// Every write's first and last place among the stream's commands, and where
/// each command ends.
type Places = (Vec<(usize, usize)>, Vec<usize>);

/// Finds every write in the stream, and checks what the stream alone shows.
fn positions(bytes: &[u8], world: &World) -> Result<Places, String> {
    let mut at = 0;
    let mut places = vec![(usize::MAX, 0); world.ops.len()];
    let (mut order, mut unit): (Vec<Vec<usize>>, Option<Vec<usize>>) = (vec![Vec::new(); KEYS], None);
    let (mut n, mut ends, mut db) = (0, Vec::new(), 99);
    while at < bytes.len() {
        let (mut args, mut resume) = (Vec::new(), Resume::default());
        let limits = Limits { bulk_max: usize::MAX, unauthenticated: false };
        let Step::Request(len) = request::read(&bytes[at..], &limits, &mut resume, &mut args) else {
            return Err("not a command".into());
        };
        at += len;
        ends.push(at);
        let number = |i: usize| std::str::from_utf8(args[i]).unwrap().parse::<usize>().unwrap();
        match args[0] {
            b"SELECT" => db = number(1),
            b"MULTI" => unit = Some(Vec::new()),
            b"EXEC" => {
                let ops = unit.take().ok_or("EXEC without MULTI")?;
                let whole = ops.iter().all(|o| *o == ops[0]) && world.ops[ops[0]].keys.len() == ops.len();
                if !whole {
                    return Err(format!("a transaction is not whole: {ops:?}"));
                }
            }
            b"SET" => {
                let (key, op) = (number(1), number(2));
                if key % 2 != db {
                    return Err(format!("key {key} in database {db}"));
                }
                if unit.is_none() && world.ops[op].keys.len() > 1 {
                    return Err(format!("a part of {op} stands alone"));
                }
                unit.iter_mut().for_each(|u| u.push(op));
                order[key].push(op);
                let p = &mut places[op];
                *p = (p.0.min(n), n);
            }
            _ => {}
        }
        n += 1;
    }
    if order != world.order {
        return Err("a key's writes are lost or out of order".into());
    }
    Ok((places, ends))
}

/// Runs one seed; what is wrong with its stream.
fn run(seed: u64, flaw: Flaw) -> Result<(), String> {
    let lanes: Vec<Arc<Lane>> = (0..CORES).map(|_| Arc::default()).collect();
    let model = Model { world: RefCell::new(World::new(seed, &lanes, flaw)), lanes };
    let (mut merge, mut stream, mut log) = (Merge::new(CORES), Stream::default(), Vec::new());
    let mut rest = 400;
    for _ in 0..200_000 {
        model.world.borrow_mut().steps();
        merge.round(&model, &mut stream);
        log.push((merge.past(), stream.bytes.len()));
        if model.world.borrow().finished() {
            rest -= 1;
            if rest == 0 {
                break;
            }
        }
    }
    let world = model.world.borrow();
    if !world.finished() {
        return Err("no progress".into());
    }
    let (places, ends) = positions(&stream.bytes, &world)?;
    if merge.open_transactions() > 0 && flaw == Flaw::None {
        return Err("parts without a commit".into());
    }
    in_real_time(&world, &places)?;
    passed(&world, &places, &ends, &log)
}

/// What a client knew when it sent a write stands before that write.
fn in_real_time(world: &World, places: &[(usize, usize)]) -> Result<(), String> {
    let mut events: Vec<(usize, bool, usize)> = Vec::new();
    for (i, o) in world.ops.iter().enumerate().skip(1) {
        events.push((o.sent, false, i));
        events.push((o.answered.unwrap_or(usize::MAX), true, i));
    }
    events.sort();
    let mut known: Option<usize> = None;
    for (_, answered, i) in events {
        let o = &world.ops[i];
        let write = if o.reads { o.saw } else { i };
        if answered && write > 0 {
            known = known.max(Some(places[write].1));
        } else if !answered && !o.reads && known.is_some_and(|k| k > places[i].0) {
            return Err(format!("write {i} stands before what was known when it was sent"));
        }
    }
    Ok(())
}

/// Passing the time of a reply means that all it rests on has gone out.
fn passed(world: &World, places: &[(usize, usize)], ends: &[usize], log: &[(u64, usize)]) -> Result<(), String> {
    for (i, o) in world.ops.iter().enumerate().skip(1) {
        let write = if o.reads { o.saw } else { i };
        let Some((_, out)) = log.iter().find(|(past, _)| *past > o.reply_stamp) else {
            return Err(format!("the merge never passed the reply to {i}"));
        };
        if write > 0 && ends[places[write].1] > *out {
            return Err(format!("the merge passed the reply to {i} before its effect was out"));
        }
    }
    Ok(())
}

#[test]
fn every_prefix_is_a_state_somebody_could_have_seen() {
    for seed in 0..300 {
        if let Err(e) = run(seed, Flaw::None) {
            panic!("seed {seed}: {e}");
        }
    }
}

#[test]
fn the_checks_notice_every_flaw() {
    for (name, flaw) in [("clock", Flaw::ClockLate), ("watermark", Flaw::WatermarkFirst), ("commit", Flaw::EarlyCommit)]
    {
        assert!((0..300).any(|seed| run(seed, flaw).is_err()), "{name}");
    }
}
