//! Plays commands on both servers, compares, and shrinks what differs.

use super::arrangement::{Arrangement, NEVER_SLOW, Subject};
use super::compare::Differences;
use super::generate::{Command, Generator, words};
use super::pair::{Mismatch, Pair, show};
use super::support::unbuilt::lacks_command;
use super::support::{Server, env_number, plain};
use std::cell::RefCell;
use std::time::{Duration, Instant};

const SHRINK_LIMIT: Duration = Duration::from_secs(90);
/// After how many commands the whole data is compared.
const DATA_STEP: usize = 1000;
/// After how many of these steps what is dumped is restored by the other
/// server, or the server is started again.
const RARE_STEP: usize = 4;

struct Case<'a> {
    subject: RefCell<Subject>,
    stock: &'a Server,
    resp3: bool,
    differences: &'a Differences,
}

impl Case<'_> {
    fn new<'a>(
        arrangement: Arrangement,
        cores: &str,
        stock: &'a Server,
        resp3: bool,
        differences: &'a Differences,
    ) -> Case<'a> {
        Case { subject: RefCell::new(Subject::start(arrangement, cores)), stock, resp3, differences }
    }

    fn connect(&self) -> Pair<'_> {
        Pair::connect(self.subject.borrow().server(), self.stock, self.resp3, self.differences)
    }

    /// Plays from nothing; what differed first, if anything.
    fn first_mismatch(&self, commands: &[Command], batch_max: usize) -> Option<Mismatch> {
        let mut control = self.connect();
        control.reset_server();
        control.flush();
        let mut pair = self.connect();
        let chunks = commands.chunks(DATA_STEP).count();
        for (part, chunk) in commands.chunks(DATA_STEP).enumerate() {
            let step = part * DATA_STEP + chunk.len() - 1;
            if let Some(mut mismatch) = pair.play(chunk, batch_max) {
                mismatch.step += part * DATA_STEP;
                return Some(mismatch);
            }
            let rare = part % RARE_STEP == RARE_STEP - 1 || part == chunks - 1;
            let mut text = control.compare_data();
            if rare && text.is_none() {
                text = control.compare_dumps();
            }
            if rare && text.is_none() && self.subject.borrow_mut().restart() {
                control = self.connect();
                control.reset_server();
                pair = self.connect();
                text = control.compare_data().map(|text| format!("after a restart: {text}"));
            }
            if text.is_none() {
                text = self.compare_replica();
            }
            if let Some(text) = text {
                return Some(Mismatch { step, text });
            }
        }
        None
    }

    fn compare_replica(&self) -> Option<String> {
        let subject = self.subject.borrow();
        let replica = subject.replica.as_ref()?;
        subject.settle();
        let mut pair = Pair::connect(replica, self.stock, self.resp3, self.differences);
        pair.compare_data().map(|text| format!("of the replica: {text}"))
    }

    /// Leaves out runs of commands as long as the same reply still differs.
    fn shrink(&self, mut commands: Vec<Command>, what: &Mismatch) -> Vec<Command> {
        let deadline = Instant::now() + SHRINK_LIMIT;
        let mut size = commands.len().div_ceil(2);
        while size > 0 && Instant::now() < deadline {
            let mut start = 0;
            let mut smaller = false;
            while start < commands.len() && Instant::now() < deadline {
                let end = (start + size).min(commands.len());
                let fewer = [&commands[..start], &commands[end..]].concat();
                match self.first_mismatch(&fewer, 1) {
                    Some(mismatch) if mismatch.is_like(what) => {
                        commands = fewer;
                        commands.truncate(mismatch.step + 1);
                        smaller = true;
                    }
                    _ => start = end,
                }
            }
            if !smaller || size > 1 {
                size /= 2;
            }
        }
        commands
    }
}

fn compare(arrangement: Arrangement, cores: &str, resp3: bool, first_seed: u64) {
    let stock = Server::stock(&NEVER_SLOW);
    let mut differences = Differences::read();
    // What is read from a file is encoded by its size alone, not its history.
    differences.encodings = matches!(arrangement, Arrangement::Alone | Arrangement::Replica);
    differences.groups_read = matches!(arrangement, Arrangement::Alone | Arrangement::Image);
    let case = Case::new(arrangement, cores, &stock, resp3, &differences);
    let mut without: Vec<String> = Generator::names().chain(["COMMAND"]).map(str::to_owned).collect();
    without.sort_unstable();
    without.dedup();
    let unwanted = std::env::var("DIFF_WITHOUT").unwrap_or_default();
    let unwanted: Vec<&str> = unwanted.split(',').collect();
    without.retain(|name| unwanted.contains(&&name[..]) || lacks_command(case.subject.borrow().server(), name));
    let count = env_number("DIFF_COMMANDS", 4000) as usize;
    let first = env_number("DIFF_SEED", first_seed);
    for seed in first..first + env_number("DIFF_SEEDS", 2) {
        let mut generator = Generator::new(seed).without(&without);
        let commands: Vec<Command> = (0..count).map(|_| generator.command()).collect();
        let Some(mismatch) = case.first_mismatch(&commands, 16) else {
            println!("{count} commands of seed {seed}: {arrangement:?}, --cores {cores}, RESP{}", 2 + u8::from(resp3));
            continue;
        };
        let mut tail = commands[..=mismatch.step].to_vec();
        let story = if case.first_mismatch(&tail, 1).is_some_and(|again| again.is_like(&mismatch)) {
            tail = case.shrink(tail, &mismatch);
            case.first_mismatch(&tail, 1)
        } else {
            tail.drain(..tail.len().saturating_sub(30));
            None
        };
        let shown: Vec<String> = tail.iter().map(show).collect();
        panic!(
            "DIFF_SEED={seed} step {}, {arrangement:?}, --cores {cores}, RESP{}:\n{}\nshrunk to {} commands:\n{}\n{}",
            mismatch.step,
            if resp3 { 3 } else { 2 },
            mismatch.text,
            tail.len(),
            shown.join("\n"),
            story.map_or("(the last ones only: sent one at a time, all agree)".into(), |m| m.text)
        );
    }
}

#[test]
fn one_core_resp2() {
    compare(Arrangement::Alone, "1", false, 10);
}

#[test]
fn one_core_resp3() {
    compare(Arrangement::Alone, "1", true, 20);
}

#[test]
fn four_cores_resp2() {
    compare(Arrangement::Alone, "4", false, 30);
}

#[test]
fn four_cores_resp3() {
    compare(Arrangement::Alone, "4", true, 40);
}

#[test]
fn with_a_stock_replica() {
    compare(Arrangement::Replica, "4", false, 50);
}

#[test]
fn with_a_stock_replica_of_one_core() {
    compare(Arrangement::Replica, "1", true, 60);
}

#[test]
fn through_append_only_files() {
    compare(Arrangement::AppendOnly, "4", false, 70);
}

#[test]
fn through_append_only_files_of_one_core() {
    compare(Arrangement::AppendOnly, "1", true, 80);
}

#[test]
fn through_snapshots() {
    compare(Arrangement::Image, "4", false, 90);
}

/// The comparison must be able to fail, and to shrink.
#[test]
fn a_difference_is_found_and_shrunk() {
    let stock = Server::stock(&NEVER_SLOW);
    let differences = Differences::read();
    let case = Case::new(Arrangement::Alone, "1", &stock, false, &differences);
    let mut generator = Generator::new(1);
    let mut commands: Vec<Command> = (0..100).map(|_| generator.command()).collect();
    // These stand for a fault: memory is counted differently.
    for line in ["DISCARD", "AUTH default x", "SELECT 0", "DEL t9", "SADD t9 1 2", "MEMORY USAGE t9"] {
        commands.push(words(line));
    }
    let mismatch = case.first_mismatch(&commands, 16).expect("a mismatch");
    let tail = case.shrink(commands[..=mismatch.step].to_vec(), &mismatch);
    if !plain() {
        assert_eq!(tail.len(), 2, "{:?}", tail.iter().map(show).collect::<Vec<_>>());
    }
}
