//! A directed graph with labelled edges, reachability and a shortest cycle.

use std::collections::{HashMap, VecDeque};

/// Why one operation stands before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    RealTime,
    Connection,
    /// The second read what the first wrote.
    Read(u32),
    /// The second overwrote what the first wrote.
    Overwrote(u32),
    /// The second overwrote what the first read.
    OverwroteRead(u32),
    /// Inferred for a blind write.
    Inferred(u32),
}

/// A graph over `0..nodes`.
pub struct Graph {
    out: Vec<Vec<u32>>,
    why: HashMap<(u32, u32), Why>,
}

impl Graph {
    pub fn new(nodes: usize) -> Graph {
        Graph { out: vec![Vec::new(); nodes], why: HashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Adds an edge; tells whether it is new.
    pub fn add(&mut self, from: usize, to: usize, why: Why) -> bool {
        if from == to {
            return false;
        }
        let edge = (from as u32, to as u32);
        if self.why.contains_key(&edge) {
            return false;
        }
        self.why.insert(edge, why);
        self.out[from].push(to as u32);
        true
    }

    pub fn why(&self, from: usize, to: usize) -> Why {
        self.why[&(from as u32, to as u32)]
    }

    /// Nodes in an order in which every edge points forward, or some node that
    /// lies on a cycle.
    pub fn order(&self) -> Result<Vec<u32>, usize> {
        let mut incoming = vec![0u32; self.len()];
        for to in self.out.iter().flatten() {
            incoming[*to as usize] += 1;
        }
        let mut ready: Vec<u32> = (0..self.len() as u32).filter(|node| incoming[*node as usize] == 0).collect();
        let mut order = Vec::with_capacity(self.len());
        while let Some(node) = ready.pop() {
            order.push(node);
            for to in &self.out[node as usize] {
                incoming[*to as usize] -= 1;
                if incoming[*to as usize] == 0 {
                    ready.push(*to);
                }
            }
        }
        if order.len() == self.len() {
            return Ok(order);
        }
        let stuck = (0..self.len()).filter(|node| incoming[*node] > 0);
        let mut nodes = stuck.filter(|node| self.cycle_through(*node).is_some());
        Err(nodes.next().expect("a node on a cycle"))
    }

    /// The shortest cycle through a node.
    pub fn cycle_through(&self, start: usize) -> Option<Vec<usize>> {
        let mut from: HashMap<u32, u32> = HashMap::new();
        let mut queue = VecDeque::from([start as u32]);
        while let Some(node) = queue.pop_front() {
            for to in &self.out[node as usize] {
                if *to as usize == start {
                    let mut path = vec![node as usize];
                    while let Some(previous) = from.get(&(*path.last()? as u32)) {
                        path.push(*previous as usize);
                    }
                    path.reverse();
                    return Some(path);
                }
                if let std::collections::hash_map::Entry::Vacant(place) = from.entry(*to) {
                    place.insert(node);
                    queue.push_back(*to);
                }
            }
        }
        None
    }

    /// Which of the first `columns` nodes each node reaches.
    pub fn reach(&self, order: &[u32], columns: usize) -> Reach {
        let width = columns.div_ceil(64);
        let mut bits = vec![0u64; self.len() * width];
        for node in order.iter().rev() {
            let node = *node as usize;
            for to in &self.out[node] {
                let to = *to as usize;
                if to < columns {
                    bits[node * width + to / 64] |= 1 << (to % 64);
                }
                for word in 0..width {
                    bits[node * width + word] |= bits[to * width + word];
                }
            }
        }
        Reach { bits, width }
    }
}

/// The transitive closure.
pub struct Reach {
    bits: Vec<u64>,
    width: usize,
}

impl Reach {
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.bits[from * self.width + to / 64] >> (to % 64) & 1 == 1
    }
}
