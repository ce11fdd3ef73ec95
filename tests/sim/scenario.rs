//! What is done to a world, and what must hold afterwards.

use coreslot::replication::event::{Event, FailoverOrder};

use super::world::{World, policy};

/// Backlog that holds all that a scenario writes, and one that does not.
const LARGE: u64 = 10 << 20;
const SMALL: u64 = 3000;

/// Time for everything to heal: several timeouts.
const HEAL_MS: u64 = 60_000;

/// No PING comes within a scenario.
const NO_PING: u64 = u64::MAX;

/// Puts the servers into a random tree under `top`.
fn layout(w: &mut World, top: usize) {
    let n = w.servers.len();
    let mut order: Vec<usize> = (0..n).filter(|i| *i != top).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, w.rng.below(i + 1));
    }
    w.tell(top, Event::NoOne);
    let mut placed = vec![top];
    for i in order {
        let of = placed[w.rng.below(placed.len())];
        w.replicate(i, of);
        placed.push(i);
    }
}

fn settle(w: &mut World, top: usize) {
    let healed = w.run_until(HEAL_MS, |w| w.consistent(top));
    assert!(healed, "not consistent under {}:\n{}", top + 1, w.describe());
    w.check_equal(top);
}

pub fn relayout(seed: u64) {
    let n = 5;
    let mut w = World::new(seed, n, policy(LARGE, seed.is_multiple_of(2), NO_PING));
    let mut top = w.rng.below(n);
    layout(&mut w, top);
    settle(&mut w, top);
    assert_eq!(w.full_syncs(), n as u64 - 1, "first layout");
    for _ in 0..6 {
        for _ in 0..60 {
            w.run(10);
            w.write(top);
            if w.rng.below(20) == 0 {
                w.cut_one();
            }
        }
        settle(&mut w, top);
        top = w.rng.below(n);
        layout(&mut w, top);
        for _ in 0..10 {
            w.run(30);
            w.write(top);
            if w.rng.below(4) == 0 {
                w.cut_one();
            }
        }
        settle(&mut w, top);
    }
    assert_eq!(w.full_syncs(), n as u64 - 1, "a full synchronization too many\n{}", w.describe());
}

pub fn faults(seed: u64) {
    let n = 2 + (seed % 4) as usize;
    let backlog = if seed.is_multiple_of(3) { LARGE } else { SMALL };
    let mut w = World::new(seed, n, policy(backlog, seed.is_multiple_of(2), 1000));
    let top = 0;
    layout(&mut w, top);
    for _ in 0..400 {
        w.run(15);
        w.write(top);
        match w.rng.below(60) {
            0 | 1 => w.cut_one(),
            2 => w.hang_one(),
            3 => {
                let i = w.rng.below(n);
                w.servers[i].save();
            }
            4 => {
                let i = 1 + w.rng.below(n - 1);
                if w.servers[i].up {
                    w.crash(i);
                } else {
                    w.restart(i, Some(top));
                }
            }
            5 => {
                let i = 1 + w.rng.below(n - 1);
                let of = w.rng.below(n);
                if w.servers[i].up && !w.follows(of, i) {
                    w.replicate(i, of);
                }
            }
            _ => {}
        }
    }
    for i in 1..n {
        if !w.servers[i].up {
            w.restart(i, Some(top));
        }
    }
    let healed = w.run_until(HEAL_MS, |w| w.consistent(top));
    assert!(healed, "not consistent:\n{}", w.describe());
    w.check_equal(top);
}

pub fn failover(seed: u64) {
    let n = 3;
    let mut w = World::new(seed, n, policy(LARGE, seed.is_multiple_of(2), 1000));
    let mut top = 0;
    for i in 1..n {
        w.replicate(i, top);
    }
    settle(&mut w, top);
    let mut accepted = Vec::new();
    for _ in 0..4 {
        for _ in 0..30 {
            w.run(8);
            accepted.extend(w.write(top));
        }
        w.tell(top, Event::Failover(FailoverOrder::default()));
        for _ in 0..40 {
            w.run(8);
            accepted.extend(w.write(top));
        }
        let switched = w
            .run_until(HEAL_MS, |w| !w.servers[top].is_primary && w.servers[top].node.failover.name() == "no-failover");
        assert!(switched, "not switched:\n{}", w.describe());
        let new = w.servers.iter().position(|s| s.is_primary).expect("a primary");
        assert_ne!(new, top, "nobody took over:\n{}", w.describe());
        assert!(!w.servers.iter().any(|s| s.paused), "writes are still held back");
        for i in (0..n).filter(|i| *i != new && *i != top) {
            w.replicate(i, new);
        }
        top = new;
        settle(&mut w, top);
        for value in &accepted {
            assert!(w.servers[top].data.has(*value), "accepted write {value} is lost");
        }
    }
    assert_eq!(w.full_syncs(), n as u64 - 1, "a switchover needed a full synchronization");
}

pub fn restart(seed: u64) {
    let n = 3;
    let mut w = World::new(seed, n, policy(LARGE, seed.is_multiple_of(2), 1000));
    let top = 0;
    layout(&mut w, top);
    settle(&mut w, top);
    for round in 0..4 {
        for _ in 0..30 {
            w.run(10);
            w.write(top);
        }
        settle(&mut w, top);
        let i = if round == 3 { top } else { 1 + w.rng.below(n - 1) };
        w.servers[i].save();
        if i != top {
            for _ in 0..10 {
                w.run(10);
                w.write(top);
            }
        }
        w.crash(i);
        w.run(500);
        let of = w.servers[i].node.upstream.as_ref().map(|u| usize::from(u.port) - 1);
        w.restart(i, of);
        settle(&mut w, top);
    }
    let values = w.servers[top].data.values();
    assert!(values >= 100, "only {values} values");
}

/// Servers are promoted although others are ahead of them, former primaries go
/// on being written to, and backlogs are freed: nothing of a history that did
/// not prevail may survive under the new primary.
pub fn split(seed: u64) {
    let n = 2 + (seed % 3) as usize;
    let mut p = policy(LARGE, seed.is_multiple_of(2), 1000);
    p.backlog_ttl_ms = 1500;
    let mut w = World::new(seed, n, p);
    let mut top = 0;
    layout(&mut w, top);
    for _ in 0..6 {
        for _ in 0..w.rng.below(30) {
            w.run(10);
            w.write(top);
            if w.rng.below(8) == 0 {
                w.hang_one();
            }
        }
        let old = top;
        top = w.rng.below(n);
        w.tell(top, Event::NoOne);
        for _ in 0..w.rng.below(20) {
            w.run(8);
            w.write(old);
            w.write(top);
        }
        if w.rng.below(3) == 0 {
            // Everyone for himself, long enough for backlogs to be freed.
            (0..n).for_each(|i| w.tell(i, Event::NoOne));
            for _ in 0..w.rng.below(60) {
                w.run(60);
                let i = w.rng.below(n);
                w.write(i);
            }
        }
        layout(&mut w, top);
        for _ in 0..w.rng.below(20) {
            w.run(8);
            w.write(top);
        }
        if w.rng.below(2) == 0 {
            settle(&mut w, top);
        }
    }
    settle(&mut w, top);
}
