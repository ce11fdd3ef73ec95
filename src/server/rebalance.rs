//! The rebalancer: moves hot slots from busy cores to idle ones.
//!
//! Core 0 asks all cores for their load per slot, compares, and has the
//! busiest core give slots to the least busy one. It acts only on a clear and
//! substantial difference, and moves few slots at a time, so that it settles.

use super::core::Core;

/// A core is relieved when its load is above this multiple of the mean.
const TOO_BUSY: f64 = 1.25;
/// Commands in an interval below which loads mean nothing.
const LOAD_MIN: u64 = 20_000;
/// Slots moved in one interval at most.
const MOVES_MAX: usize = 64;

/// One core's loads since it was last asked: (slot, commands).
pub type Loads = Vec<(u16, u32)>;

/// Starts a round when one is due.
pub fn tick(core: &mut Core) {
    if core.id != 0 || core.shared.cores < 2 || !core.settings.rebalance || core.now < core.next_rebalance_ms {
        return;
    }
    core.next_rebalance_ms = core.now + core.settings.rebalance_interval_ms;
    core.gather_quietly(take_loads, |core, loads| {
        apply(core, loads);
    });
}

/// This core's loads; they are counted from zero again.
pub fn take_loads(core: &mut Core) -> Loads {
    let mut out = Vec::new();
    for slot in 0..core.slot_load.len() {
        let n = std::mem::take(&mut core.slot_load[slot]);
        if n > 0 && core.owns(slot as u16) {
            out.push((slot as u16, n));
        }
    }
    out
}

/// Has the busiest core move slots away; how many.
pub fn apply(core: &mut Core, loads: Vec<Loads>) -> usize {
    let moves = plan(&loads);
    let n = moves.len();
    for (from, slot, to) in moves {
        core.send(
            from,
            super::msg::Msg::Call(Box::new(move |c: &mut Core| {
                c.queue_moves(&[slot], to);
            })),
        );
    }
    n
}

/// Which slots to move: (from, slot, to).
pub fn plan(loads: &[Loads]) -> Vec<(usize, u16, usize)> {
    let mut totals: Vec<u64> = loads.iter().map(|l| l.iter().map(|x| u64::from(x.1)).sum()).collect();
    let all: u64 = totals.iter().sum();
    let mean = all as f64 / loads.len() as f64;
    let Some(from) = (0..loads.len()).max_by_key(|c| totals[*c]) else { return Vec::new() };
    if all < LOAD_MIN || (totals[from] as f64) < mean * TOO_BUSY {
        return Vec::new();
    }
    let mut slots = loads[from].clone();
    slots.sort_unstable_by_key(|s| std::cmp::Reverse(s.1));
    let mut moves = Vec::new();
    for (slot, n) in slots {
        let n = u64::from(n);
        let Some(to) = (0..loads.len()).min_by_key(|c| totals[*c]) else { break };
        // A move must make the pair more even, or it would come back.
        if moves.len() < MOVES_MAX && totals[from] as f64 > mean && totals[to] + n < totals[from] {
            totals[from] -= n;
            totals[to] += n;
            moves.push((from, slot, to));
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_core_gives_slots_away_and_an_even_load_stays() {
        let busy: Loads = (0..100).map(|s| (s, 1000)).collect();
        let idle: Loads = vec![(8000, 10)];
        let moves = plan(&[busy.clone(), idle]);
        assert!((40..=64).contains(&moves.len()), "{}", moves.len());
        assert!(moves.iter().all(|m| m.0 == 0 && m.2 == 1));
        assert!(plan(&[busy.clone(), busy]).is_empty());
    }

    #[test]
    fn one_hot_slot_is_not_passed_around() {
        assert!(plan(&[vec![(1, 1_000_000)], vec![]]).is_empty());
    }
}
