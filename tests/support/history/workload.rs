//! Runs concurrent clients against a server and records their history.

use super::super::rng::Rng;
use super::super::wire::{Wire, encode_into};
use super::collections::{Queue, left_over};
use super::plan::{Keys, Mix, Plan, Planner, held, parse_number, token};
use super::{History, Op, Version};
use std::time::Instant;

/// How to load the server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub seed: u64,
    pub clients: usize,
    pub ops_per_client: usize,
    /// At most this many operations are sent before their replies are read.
    pub batch_max: usize,
    pub strict_pipelines: bool,
    pub mix: Mix,
}

/// Runs one load with fresh keys.
pub fn run(port: u16, load: Load) -> History {
    let mut rng = Rng::new(load.seed);
    let keys = Keys::new(&mut rng);
    let start = Instant::now();
    let mut history = History { ops: vec![prepare(port, &keys)], strict_pipelines: load.strict_pipelines };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..load.clients)
            .map(|client| {
                let planner = Planner::new(&keys, Rng::new(rng.next()), client as u32, load.mix);
                scope.spawn(move || {
                    Client { wire: Wire::connect(port), planner, load, start, batch: 0, ops: Vec::new() }.run()
                })
            })
            .collect();
        for client in clients {
            history.ops.extend(client.join().expect("a client"));
        }
    });
    let sent_ns = start.elapsed().as_nanos() as u64 + 1;
    history.ops.extend(look_at_queues(port, &keys).into_iter().map(|op| Op {
        client: u32::MAX,
        sent_ns,
        answered_ns: u64::MAX,
        ..op
    }));
    history
}

fn look_at_queues(port: u16, keys: &Keys) -> Vec<Op> {
    let mut wire = Wire::connect(port);
    let look = |queue: &Queue| {
        let pushed = wire.cmd(&["GET", &queue.counter]);
        let pushed = if pushed.is_nil() { 0 } else { parse_number(&pushed) };
        let left: Vec<Version> =
            wire.cmd(&["LRANGE", &queue.list, "0", "-1"]).items().iter().map(parse_number).collect();
        left_over(queue, pushed, &left)
    };
    keys.collections.queues.iter().map(look).collect()
}

/// Gives every key that is never absent its first version, 0.
fn prepare(port: u16, keys: &Keys) -> Op {
    const FIRST: Version = 0;
    let mut op = Op { client: u32::MAX, label: "the first versions".into(), ..Op::default() };
    let mut request = Vec::new();
    let mut set = |key: u32, value: &str| {
        encode_into(&mut request, &["SET", &keys.names[key as usize], value]);
    };
    for key in keys.registers.iter().chain(&keys.twins) {
        set(*key, &token(FIRST));
    }
    for key in keys.counters.iter().chain(&keys.copies) {
        set(*key, "0");
    }
    for key in &keys.logs {
        set(*key, "");
    }
    let kinds = [&keys.registers, &keys.twins, &keys.counters, &keys.logs];
    for key in kinds.into_iter().flatten() {
        op.writes.push((*key, FIRST));
    }
    let strings = op.writes.len();
    let (commands, first) = keys.collections.prepare(&keys.names);
    commands.iter().for_each(|words| encode_into(&mut request, words));
    op.writes.extend(first);
    let count = strings + keys.copies.len() + commands.len();
    for reply in Wire::connect(port).pipeline(&request, count) {
        assert!(!reply.is_error(), "{reply:?}");
    }
    op
}

struct Client<'a> {
    wire: Wire,
    planner: Planner<'a>,
    load: Load,
    start: Instant,
    batch: u32,
    ops: Vec<Op>,
}

impl Client<'_> {
    fn run(mut self) -> Vec<Op> {
        while self.ops.len() < self.load.ops_per_client {
            self.batch += 1;
            if self.planner.rng.one_in(8) {
                self.watched();
            } else if self.load.mix == Mix::Collections && self.planner.rng.one_in(6) {
                let plan = self.planner.waiting_pop();
                self.send_plans(&[plan]);
            } else {
                self.send_batch();
            }
        }
        self.ops
    }

    fn now_ns(&self) -> u64 {
        // One more than nothing, so that the first versions precede everything.
        self.start.elapsed().as_nanos() as u64 + 1
    }

    fn send_batch(&mut self) {
        let count = 1 + self.planner.rng.below(self.load.batch_max);
        let plans: Vec<Plan> = (0..count).map(|_| self.planner.plan()).collect();
        self.send_plans(&plans);
    }

    fn send_plans(&mut self, plans: &[Plan]) {
        let mut request = Vec::new();
        let replies: Vec<usize> = plans.iter().map(|plan| plan.encode(&mut request)).collect();
        let sent_ns = self.now_ns();
        self.wire.send(&request);
        for (plan, count) in plans.iter().zip(replies) {
            self.finish(plan, count, sent_ns);
        }
    }

    fn finish(&mut self, plan: &Plan, replies: usize, sent_ns: u64) -> Option<&mut Op> {
        let values: Vec<_> = (0..replies).map(|_| self.wire.read()).collect();
        let answered_ns = self.now_ns();
        let op = plan.interpret(self.planner.keys, &values)?;
        self.ops.push(Op { client: self.planner.client, batch: self.batch, sent_ns, answered_ns, ..op });
        self.ops.last_mut()
    }

    /// WATCH two registers, read them, write one. If EXEC runs, both still hold
    /// what was read, so the reads belong to the transaction.
    fn watched(&mut self) {
        let (watched, read, plan) = self.planner.watched();
        let [(a, a_name), (b, b_name)] = watched;
        self.wire.cmd(&["WATCH", a_name, b_name]);
        let mut request = Vec::new();
        for name in [a_name, b_name] {
            let words: Vec<&str> = read[..1].iter().chain(&[name]).chain(&read[1..]).copied().collect();
            encode_into(&mut request, &words);
        }
        self.wire.send(&request);
        let reads = [(a, held(&self.wire.read())), (b, held(&self.wire.read()))];
        let mut request = Vec::new();
        let replies = plan.encode(&mut request);
        let sent_ns = self.now_ns();
        self.wire.send(&request);
        if let Some(op) = self.finish(&plan, replies, sent_ns) {
            op.reads.extend(reads);
        }
    }
}
