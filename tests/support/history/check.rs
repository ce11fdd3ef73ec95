//! Finds what no serial order in real time could have produced.

use super::graph::{Graph, Why};
use super::{History, Key, Op, Version};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that nobody wrote.
    Garbage,
    /// A value from inside a transaction.
    Inside,
    /// Parts of different states in one atomic read.
    Torn,
    /// Two writes replaced the same version.
    LostUpdate,
    /// Two operations claim the same version.
    SameVersion,
    /// A log's elements contradict the replies to their APPENDs.
    LogOrder,
    /// No serial order exists.
    Cycle,
}

/// One finding, with its story.
#[derive(Debug)]
pub struct Violation {
    pub kind: Kind,
    pub story: String,
}

/// Checks a history; an empty list means that nothing was found.
pub fn check(history: &History) -> Vec<Violation> {
    let mut checker = Checker { history, writers: HashMap::new(), found: Vec::new() };
    checker.collect_writers();
    checker.check_torn();
    checker.check_reads();
    checker.check_logs();
    checker.check_lost_updates();
    if checker.found.is_empty() {
        checker.check_order();
    }
    checker.found
}

struct Checker<'a> {
    history: &'a History,
    /// Who wrote a version.
    writers: HashMap<(Key, Version), usize>,
    found: Vec<Violation>,
}

impl Checker<'_> {
    fn ops(&self) -> &[Op] {
        &self.history.ops
    }

    fn report(&mut self, kind: Kind, story: String) {
        self.found.push(Violation { kind, story });
    }

    fn collect_writers(&mut self) {
        for index in 0..self.ops().len() {
            for write in self.history.ops[index].writes.iter() {
                if let Some(other) = self.writers.insert(*write, index) {
                    let story = format!(
                        "key {} version {} was written by both\n  {}\n  {}",
                        write.0,
                        write.1,
                        describe(&self.ops()[other]),
                        describe(&self.ops()[index])
                    );
                    self.report(Kind::SameVersion, story);
                }
            }
        }
    }

    fn check_torn(&mut self) {
        for op in &self.history.ops {
            if let Some(torn) = &op.torn {
                self.report(Kind::Torn, format!("{torn}\n  {}", describe(op)));
            }
        }
    }

    fn check_reads(&mut self) {
        let ops = &self.history.ops;
        let hidden: HashSet<(Key, Version)> = ops.iter().flat_map(|op| op.hidden.iter().copied()).collect();
        for op in ops {
            for read in &op.reads {
                if self.writers.contains_key(read) {
                    continue;
                }
                let kind = if hidden.contains(read) { Kind::Inside } else { Kind::Garbage };
                let story = format!("key {} version {}\n  {}", read.0, read.1, describe(op));
                self.report(kind, story);
            }
        }
    }

    /// Every APPEND told its place; every read of the log must show it there.
    fn check_logs(&mut self) {
        let mut elements: HashMap<(Key, usize), (u64, usize)> = HashMap::new();
        let ops = &self.history.ops;
        for (index, op) in ops.iter().enumerate() {
            for (key, element) in &op.appended {
                let length = op.writes.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
                let place = length.expect("an append is a write") as usize - 1;
                elements.insert((*key, place), (*element, index));
            }
        }
        for op in ops {
            for (key, content) in &op.contents {
                for (place, element) in content.iter().enumerate() {
                    let Some((expected, index)) = elements.get(&(*key, place)) else {
                        continue;
                    };
                    if expected != element {
                        let story = format!(
                            "log {key} has {element:x} at {place} where {expected:x} was put\n  {}\n  {}",
                            describe(&ops[*index]),
                            describe(op)
                        );
                        self.report(Kind::LogOrder, story);
                        break;
                    }
                }
            }
        }
    }

    fn check_lost_updates(&mut self) {
        let mut successor: HashMap<(Key, Version), usize> = HashMap::new();
        for (index, op) in self.history.ops.iter().enumerate() {
            for read in op.reads.iter().filter(|read| writes_key(op, read.0)) {
                if let Some(other) = successor.insert(*read, index) {
                    let story = format!(
                        "key {} version {} was replaced by both\n  {}\n  {}",
                        read.0,
                        read.1,
                        describe(&self.ops()[other]),
                        describe(op)
                    );
                    self.report(Kind::LostUpdate, story);
                }
            }
        }
    }

    fn check_order(&mut self) {
        let mut graph = Graph::new(self.ops().len() * 2);
        self.add_real_time(&mut graph);
        self.add_connections(&mut graph);
        self.add_versions(&mut graph);
        loop {
            match graph.order() {
                Err(node) => {
                    let story = self.tell_cycle(&graph, node);
                    self.report(Kind::Cycle, story);
                    return;
                }
                Ok(order) => {
                    if !self.add_inferred(&mut graph, &order) {
                        return;
                    }
                }
            }
        }
    }

    /// A chain of one node per answer, in time order, stands for the quadratic
    /// number of pairs: each operation enters the chain at its answer and
    /// leaves it at the last answer before its sending.
    fn add_real_time(&self, graph: &mut Graph) {
        let ops = self.ops();
        let mut by_answer: Vec<usize> = (0..ops.len()).collect();
        by_answer.sort_by_key(|index| ops[*index].answered_ns);
        let node = |place: usize| ops.len() + place;
        for (place, index) in by_answer.iter().enumerate() {
            graph.add(*index, node(place), Why::RealTime);
            if place > 0 {
                graph.add(node(place - 1), node(place), Why::RealTime);
            }
        }
        for (index, op) in ops.iter().enumerate() {
            let before = by_answer.partition_point(|other| ops[*other].answered_ns < op.sent_ns);
            if before > 0 {
                graph.add(node(before - 1), index, Why::RealTime);
            }
        }
    }

    /// Within a batch, commands that share a key keep their order (all do, if
    /// the server promises so).
    fn add_connections(&self, graph: &mut Graph) {
        let mut batches: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
        for (index, op) in self.ops().iter().enumerate() {
            batches.entry((op.client, op.batch)).or_default().push(index);
        }
        for batch in batches.values() {
            for (place, first) in batch.iter().enumerate() {
                for second in &batch[place + 1..] {
                    let (a, b) = (&self.ops()[*first], &self.ops()[*second]);
                    if self.history.strict_pipelines || share_key(a, b) {
                        graph.add(*first, *second, Why::Connection);
                    }
                }
            }
        }
    }

    fn add_versions(&self, graph: &mut Graph) {
        let mut readers: HashMap<(Key, Version), Vec<usize>> = HashMap::new();
        for (index, op) in self.ops().iter().enumerate() {
            for read in &op.reads {
                graph.add(self.writers[read], index, Why::Read(read.0));
                readers.entry(*read).or_default().push(index);
            }
        }
        for (index, op) in self.ops().iter().enumerate() {
            for read in op.reads.iter().filter(|read| writes_key(op, read.0)) {
                graph.add(self.writers[read], index, Why::Overwrote(read.0));
                for reader in &readers[read] {
                    graph.add(*reader, index, Why::OverwroteRead(read.0));
                }
            }
        }
    }

    /// Orders blind writes by what is known so far; true when that was new.
    fn add_inferred(&self, graph: &mut Graph, order: &[u32]) -> bool {
        let reach = graph.reach(order, self.ops().len());
        let mut key_writers: HashMap<Key, Vec<usize>> = HashMap::new();
        for ((key, _), writer) in &self.writers {
            key_writers.entry(*key).or_default().push(*writer);
        }
        let mut changed = false;
        for (reader, op) in self.ops().iter().enumerate() {
            for read in &op.reads {
                let seen = self.writers[read];
                for writer in &key_writers[&read.0] {
                    if *writer == seen || *writer == reader {
                        continue;
                    }
                    if reach.reaches(seen, *writer) && !reach.reaches(reader, *writer) {
                        changed |= graph.add(reader, *writer, Why::Inferred(read.0));
                    }
                    if reach.reaches(*writer, reader) && !reach.reaches(*writer, seen) {
                        changed |= graph.add(*writer, seen, Why::Inferred(read.0));
                    }
                }
            }
        }
        changed
    }

    fn tell_cycle(&self, graph: &Graph, node: usize) -> String {
        let cycle = graph.cycle_through(node).expect("a cycle");
        let mut story = String::from("no serial order:");
        for (place, node) in cycle.iter().enumerate() {
            let next = cycle[(place + 1) % cycle.len()];
            let why = graph.why(*node, next);
            if let Some(op) = self.ops().get(*node) {
                let _ = write!(story, "\n  {}\n    before, by {why:?}:", describe(op));
            }
        }
        story
    }
}

fn writes_key(op: &Op, key: Key) -> bool {
    op.writes.iter().any(|(written, _)| *written == key)
}

fn share_key(a: &Op, b: &Op) -> bool {
    let keys = |op: &Op| -> Vec<Key> {
        let all = op.reads.iter().chain(&op.writes);
        all.map(|(key, _)| *key).collect()
    };
    let of_a = keys(a);
    keys(b).iter().any(|key| of_a.contains(key))
}

fn describe(op: &Op) -> String {
    format!(
        "client {} [{}..{} us] {}: read {:?}, wrote {:?}",
        op.client,
        op.sent_ns / 1000,
        op.answered_ns / 1000,
        op.label,
        op.reads,
        op.writes
    )
}
