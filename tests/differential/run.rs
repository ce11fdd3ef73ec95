//! Plays commands on both servers, compares, and shrinks what differs.

use super::compare::{Comparer, Differences};
use super::generate::{Command, Generator};
use super::support::unbuilt::lacks_command;
use super::support::value::quoted;
use super::support::wire::encode_into;
use super::support::{Rng, Server, Value, Wire, env_number, plain};
use std::time::{Duration, Instant};

const SHRINK_LIMIT: Duration = Duration::from_secs(60);
/// After how many commands the whole data is compared.
const DATA_STEP: usize = 1000;

struct Pair {
    ours: Wire,
    stock: Wire,
}

/// Where two servers differed, in words.
struct Mismatch {
    step: usize,
    text: String,
}

impl Pair {
    fn connect(ours: &Server, stock: &Server, resp3: bool) -> Pair {
        let mut pair = Pair { ours: ours.wire(), stock: stock.wire() };
        for wire in [&mut pair.ours, &mut pair.stock] {
            assert!(!wire.run("FLUSHALL").is_error());
            // When a key past its deadline is removed in the background is left
            // to chance, and DBSIZE counts it until then.
            assert!(!wire.run("DEBUG SET-ACTIVE-EXPIRE 0").is_error());
            if resp3 {
                assert!(!wire.run("HELLO 3").is_error());
            }
        }
        pair
    }

    /// Sends commands in batches and compares reply by reply.
    fn play(&mut self, commands: &[Command], batch_max: usize, differences: &Differences) -> Option<Mismatch> {
        let mut comparer = Comparer::new(differences);
        let mut rng = Rng::new(commands.len() as u64);
        let mut step = 0;
        while step < commands.len() {
            let end = (step + 1 + rng.below(batch_max)).min(commands.len());
            let mut request = Vec::new();
            for command in &commands[step..end] {
                encode_into(&mut request, command);
            }
            self.ours.send(&request);
            self.stock.send(&request);
            for command in &commands[step..end] {
                let stock = self.stock.read();
                let ours = match self.ours.try_read() {
                    Ok(value) => value,
                    Err(e) => Value::Error(format!("no reply: {e}")),
                };
                if !comparer.agree(command, &ours, &stock) {
                    let text = format!("{}\n  ours:  {ours:?}\n  stock: {stock:?}", show(command));
                    return Some(Mismatch { step, text });
                }
                step += 1;
            }
        }
        None
    }

    /// Leaves MULTI and reads everything of both databases.
    fn compare_data(&mut self, differences: &Differences) -> Option<String> {
        let word = |text: &str| text.as_bytes().to_vec();
        for wire in [&mut self.ours, &mut self.stock] {
            wire.run("DISCARD");
        }
        for db in ["0", "1"] {
            let mut commands = vec![vec![word("SELECT"), word(db)], vec![word("DBSIZE")]];
            self.stock.cmd(&["SELECT", db]);
            let keys = self.stock.run("KEYS *");
            commands.push(vec![word("KEYS"), word("*")]);
            for key in keys.items() {
                let key = key.as_bytes().to_vec();
                let kind = self.stock.cmd(&[b"TYPE", key.as_slice()]).as_text();
                for name in ["TYPE", "PTTL"] {
                    commands.push(vec![word(name), key.clone()]);
                }
                commands.push(match kind.as_str() {
                    "string" => vec![word("GET"), key],
                    "list" => vec![word("LRANGE"), key, word("0"), word("-1")],
                    "set" => vec![word("SMEMBERS"), key],
                    "hash" => vec![word("HGETALL"), key],
                    "stream" => vec![word("XINFO"), word("STREAM"), key, word("FULL"), word("COUNT"), word("0")],
                    _ => vec![word("ZRANGE"), key, word("0"), word("-1"), word("WITHSCORES")],
                });
            }
            if let Some(mismatch) = self.play(&commands, 1, differences) {
                return Some(format!("the data differs (database {db}): {}", mismatch.text));
            }
        }
        None
    }
}

fn show(command: &Command) -> String {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

struct Case<'a> {
    ours: &'a Server,
    stock: &'a Server,
    resp3: bool,
    differences: &'a Differences,
}

impl Case<'_> {
    /// Plays from nothing; what differed first, if anything.
    fn first_mismatch(&self, commands: &[Command], batch_max: usize) -> Option<Mismatch> {
        let mut pair = Pair::connect(self.ours, self.stock, self.resp3);
        for (part, chunk) in commands.chunks(DATA_STEP).enumerate() {
            if let Some(mut mismatch) = pair.play(chunk, batch_max, self.differences) {
                mismatch.step += part * DATA_STEP;
                return Some(mismatch);
            }
            if let Some(text) = pair.compare_data(self.differences) {
                let step = part * DATA_STEP + chunk.len() - 1;
                return Some(Mismatch { step, text });
            }
            for wire in [&mut pair.ours, &mut pair.stock] {
                wire.run("SELECT 0");
            }
        }
        None
    }

    /// Leaves out runs of commands as long as something still differs.
    fn shrink(&self, mut commands: Vec<Command>) -> Vec<Command> {
        let deadline = Instant::now() + SHRINK_LIMIT;
        let mut size = commands.len().div_ceil(2);
        while size > 0 && Instant::now() < deadline {
            let mut start = 0;
            let mut smaller = false;
            while start < commands.len() && Instant::now() < deadline {
                let end = (start + size).min(commands.len());
                let fewer = [&commands[..start], &commands[end..]].concat();
                match self.first_mismatch(&fewer, 1) {
                    Some(mismatch) => {
                        commands = fewer;
                        commands.truncate(mismatch.step + 1);
                        smaller = true;
                    }
                    None => start = end,
                }
            }
            if !smaller || size > 1 {
                size /= 2;
            }
        }
        commands
    }
}

fn compare(cores: &str, resp3: bool, first_seed: u64) {
    let ours = Server::start(&["--cores", cores]);
    let stock = Server::stock(&[]);
    let differences = Differences::read();
    let case = Case { ours: &ours, stock: &stock, resp3, differences: &differences };
    let mut without: Vec<String> = Generator::names().map(str::to_owned).collect();
    without.sort_unstable();
    without.dedup();
    without.retain(|name| lacks_command(&ours, name));
    let count = env_number("DIFF_COMMANDS", 4000) as usize;
    let first = env_number("DIFF_SEED", first_seed);
    for seed in first..first + env_number("DIFF_SEEDS", 2) {
        let mut generator = Generator::new(seed).without(&without);
        let commands: Vec<Command> = (0..count).map(|_| generator.command()).collect();
        let Some(mismatch) = case.first_mismatch(&commands, 16) else {
            continue;
        };
        let mut tail = commands[..=mismatch.step].to_vec();
        let story = if case.first_mismatch(&tail, 1).is_some() {
            tail = case.shrink(tail);
            case.first_mismatch(&tail, 1)
        } else {
            tail.drain(..tail.len().saturating_sub(30));
            None
        };
        let shown: Vec<String> = tail.iter().map(show).collect();
        panic!(
            "DIFF_SEED={seed} step {}, --cores {cores}, RESP{}:\n{}\nshrunk to {} commands:\n{}\n{}",
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
    compare("1", false, 10);
}

#[test]
fn one_core_resp3() {
    compare("1", true, 20);
}

#[test]
fn four_cores_resp2() {
    compare("4", false, 30);
}

#[test]
fn four_cores_resp3() {
    compare("4", true, 40);
}

/// The comparison must be able to fail, and to shrink.
#[test]
fn a_difference_is_found_and_shrunk() {
    if !plain() {
        return;
    }
    let (ours, stock) = (Server::stock(&[]), Server::stock(&["--set-max-intset-entries", "2"]));
    let differences = Differences::read();
    let case = Case { ours: &ours, stock: &stock, resp3: false, differences: &differences };
    let mut generator = Generator::new(1);
    let mut commands: Vec<Command> = (0..100).map(|_| generator.command()).collect();
    let words = |line: &str| -> Command { line.split(' ').map(|w| w.as_bytes().to_vec()).collect() };
    for line in ["DISCARD", "SELECT 0", "DEL t9", "SADD t9 1 2", "SADD t9 3", "OBJECT ENCODING t9"] {
        commands.push(words(line));
    }
    let mismatch = case.first_mismatch(&commands, 16).expect("a mismatch");
    let tail = case.shrink(commands[..=mismatch.step].to_vec());
    assert_eq!(tail.len(), 3, "{:?}", tail.iter().map(show).collect::<Vec<_>>());
}
