//! Random loads while the slots of their keys move from core to core.
//!
//! What can go wrong: a request that was sent by an old route overtakes or is
//! overtaken, a request over several keys finds one of its slots gone, a
//! transaction is ordered by one map and run by another, a watch stays behind.

use super::support::history::check::check;
use super::support::history::plan::{Keys, Mix};
use super::support::history::workload::{Load, run};
use super::support::{Rng, Server, env_number, int, plain};
use coreslot::base::slot::slot_of;
use std::sync::atomic::{AtomicBool, Ordering};

/// Moves slots of the load's keys until told to stop; how many.
fn keep_moving(server: &Server, seed: u64, cores: usize, stop: &AtomicBool) -> i64 {
    // The load makes the same keys of the same seed.
    let keys = Keys::new(&mut Rng::new(seed));
    let slots: Vec<u16> = keys.all_names().map(|name| slot_of(name.as_bytes())).collect();
    let mut rng = Rng::new(!seed);
    let mut wire = server.wire();
    let mut moved = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut words = vec!["CORE".to_owned(), "MOVE".to_owned(), rng.below(cores).to_string()];
        let count = 1 + rng.below(4);
        words.extend((0..count).map(|_| slots[rng.below(slots.len())].to_string()));
        moved += wire.cmd(&words).as_int();
    }
    moved
}

/// Ends the moves even where a client has failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn rounds(cores: usize, batch_max: usize, args: &[&str], mix: Mix) {
    if plain() {
        return;
    }
    let count = cores.to_string();
    let server = Server::start(&[&["--cores", &count], args].concat());
    let first = env_number("HISTORY_SEED", 100_000 + 1000 * batch_max as u64);
    for seed in first..first + env_number("HISTORY_ROUNDS", 4) {
        let load =
            Load { seed, clients: 6, ops_per_client: 500, batch_max, strict_pipelines: args.contains(&"strict"), mix };
        let stop = AtomicBool::new(false);
        let (history, moved) = std::thread::scope(|scope| {
            let mover = scope.spawn(|| keep_moving(&server, seed, cores, &stop));
            let _stop = StopAtEnd(&stop);
            let history = run(server.port, load);
            stop.store(true, Ordering::Relaxed);
            (history, mover.join().expect("the mover"))
        });
        assert!(moved > 20, "HISTORY_SEED={seed}: only {moved} moves");
        let violations = check(&history);
        let stories: Vec<String> =
            violations.iter().take(3).map(|violation| format!("{:?}: {}", violation.kind, violation.story)).collect();
        assert!(
            violations.is_empty(),
            "HISTORY_SEED={seed}, {load:?}, {moved} moves: {} violations\n{}",
            violations.len(),
            stories.join("\n")
        );
    }
}

#[test]
fn moving_slots_one_at_a_time_on_4_cores() {
    rounds(4, 1, &[], Mix::Strings);
}

#[test]
fn moving_slots_pipelined_on_4_cores() {
    rounds(4, 6, &[], Mix::Strings);
}

#[test]
fn moving_slots_pipelined_on_2_cores() {
    rounds(2, 16, &[], Mix::Strings);
}

#[test]
fn moving_slots_pipelined_strictly_on_4_cores() {
    rounds(4, 5, &["--pipeline-order", "strict"], Mix::Strings);
}

/// With blocked clients, which move with their slots.
#[test]
fn moving_collections_on_4_cores() {
    rounds(4, 3, &[], Mix::Collections);
}

/// Every key is still there, once, after all slots were moved about.
#[test]
fn moves_keep_every_key() {
    if plain() {
        return;
    }
    let server = Server::start(&["--cores", "4"]);
    let mut wire = server.wire();
    wire.run("DEBUG POPULATE 20000 key 30");
    wire.run("PEXPIRE key:7 100000");
    let digest = wire.run("DEBUG DIGEST");
    for core in [3, 0, 2] {
        let asked = wire.run(&format!("CORE MOVE {core} RANGE 0 16383")).as_int();
        assert!(asked >= 8192, "{asked}");
        // The moves go on behind the reply.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(180);
        while wire.run("CORE SLOTS").items().len() > 1 {
            assert!(std::time::Instant::now() < deadline, "the moves do not end");
            assert_eq!(wire.run("STRLEN key:4711"), int(30));
        }
        assert_eq!(wire.run("DBSIZE"), int(20000));
        assert_eq!(wire.run("DEBUG DIGEST"), digest);
    }
    assert!(wire.run("PTTL key:7").as_int() > 0);
}
