//! Random loads against the server under test.

use super::support::history::check::check;
use super::support::history::plan::Mix;
use super::support::history::workload::{Load, run};
use super::support::{Rng, Server, env_number, plain};

fn rounds(cores: &str, batch_max: usize, args: &[&str], mix: Mix) {
    let mut all = vec!["--cores", cores];
    all.extend(args);
    let server = Server::start(&all);
    let first = env_number("HISTORY_SEED", 1000 * batch_max as u64);
    let count = env_number("HISTORY_ROUNDS", 4);
    for seed in first..first + count {
        let load = Load {
            seed,
            clients: 6,
            ops_per_client: 500,
            batch_max,
            strict_pipelines: plain() || args.contains(&"strict"),
            mix,
        };
        let history = run(server.port, load);
        let violations = check(&history);
        let stories: Vec<String> =
            violations.iter().take(3).map(|violation| format!("{:?}: {}", violation.kind, violation.story)).collect();
        assert!(
            violations.is_empty(),
            "HISTORY_SEED={seed}, {load:?}: {} violations\n{}",
            violations.len(),
            stories.join("\n")
        );
    }
}

#[test]
fn one_at_a_time_on_4_cores() {
    rounds("4", 1, &[], Mix::Strings);
}

#[test]
fn pipelined_on_4_cores() {
    rounds("4", 6, &[], Mix::Strings);
}

#[test]
fn pipelined_strictly_on_4_cores() {
    rounds("4", 5, &["--pipeline-order", "strict"], Mix::Strings);
}

#[test]
fn pipelined_on_2_cores() {
    rounds("2", 16, &[], Mix::Strings);
}

#[test]
fn pipelined_on_1_core() {
    rounds("1", 8, &[], Mix::Strings);
}

#[test]
fn collections_one_at_a_time_on_4_cores() {
    rounds("4", 1, &[], Mix::Collections);
}

#[test]
fn collections_pipelined_on_4_cores() {
    rounds("4", 4, &[], Mix::Collections);
}

#[test]
fn collections_pipelined_strictly_on_4_cores() {
    rounds("4", 5, &["--pipeline-order", "strict"], Mix::Collections);
}

#[test]
fn collections_pipelined_on_1_core() {
    rounds("1", 4, &[], Mix::Collections);
}

#[test]
fn twins_one_at_a_time_on_4_cores() {
    rounds("4", 1, &[], Mix::Twins);
}

#[test]
fn twins_pipelined_on_4_cores() {
    rounds("4", 3, &[], Mix::Twins);
}

/// A recorded history in which one read is replaced by an older version, of
/// any kind of key, is rejected; so the loads do produce histories that can be
/// judged.
#[test]
fn one_stale_read_in_a_real_history_is_found() {
    stale_reads_are_found(Mix::Strings);
}

#[test]
fn one_stale_read_of_collections_is_found() {
    stale_reads_are_found(Mix::Collections);
}

fn stale_reads_are_found(mix: Mix) {
    let server = Server::start(&["--cores", "1"]);
    let load = Load { seed: 77, clients: 6, ops_per_client: 300, batch_max: 2, strict_pipelines: plain(), mix };
    let history = run(server.port, load);
    assert!(check(&history).is_empty());
    let mut rng = Rng::new(78);
    let mut tried = 0;
    while tried < 40 {
        let place = rng.below(history.ops.len());
        let op = &history.ops[place];
        let Some((key, version)) = op.reads.first().copied() else {
            continue;
        };
        let writer_of = |version| {
            let mut ops = history.ops.iter();
            ops.find(|op| op.writes.contains(&(key, version))).expect("a writer")
        };
        let writer = writer_of(version);
        let older = history.ops.iter().find_map(|other| {
            let before = other.answered_ns < writer.sent_ns;
            let write = other.writes.iter().find(|(k, _)| *k == key)?;
            before.then_some(write.1)
        });
        let (Some(older), true) = (older, writer.answered_ns < op.sent_ns) else {
            continue;
        };
        let mut broken = history.clone();
        broken.ops[place].reads[0] = (key, older);
        assert!(!check(&broken).is_empty(), "not found: {op:?} with {older}");
        tried += 1;
    }
}
