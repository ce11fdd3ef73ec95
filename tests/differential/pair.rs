//! Connections to both servers: playing commands on them, and comparing data.

use super::compare::{Comparer, Differences};
use super::generate::{Command, words};
use super::support::value::quoted;
use super::support::wire::encode_into;
use super::support::{Rng, Server, Value, Wire};

/// Directives that commands change, with their defaults.
const SETTINGS: &str = "CONFIG SET hash-max-listpack-entries 128 hash-max-listpack-value 64 \
    zset-max-listpack-entries 128 zset-max-listpack-value 64 set-max-intset-entries 512 list-max-listpack-size -2 \
    list-compress-depth 0 stream-node-max-bytes 4096 stream-node-max-entries 100 hll-sparse-max-bytes 3000 \
    proto-max-bulk-len 512mb \
    maxmemory-samples 5";
/// The database into which dumped values are restored.
const SPARE: &str = "9";

/// Where two servers differed, in words.
pub struct Mismatch {
    pub step: usize,
    pub text: String,
}

impl Mismatch {
    /// Is it about the same command?
    pub fn is_like(&self, other: &Mismatch) -> bool {
        self.text.lines().next() == other.text.lines().next()
    }
}

pub struct Pair<'a> {
    ours: Wire,
    stock: Wire,
    comparer: Comparer<'a>,
}

impl<'a> Pair<'a> {
    pub fn connect(ours: &Server, stock: &Server, resp3: bool, differences: &'a Differences) -> Pair<'a> {
        let mut pair = Pair { ours: ours.wire(), stock: stock.wire(), comparer: Comparer::new(differences) };
        if resp3 {
            for wire in pair.wires() {
                assert!(!wire.run("HELLO 3").is_error());
            }
        }
        pair
    }

    fn wires(&mut self) -> [&mut Wire; 2] {
        [&mut self.ours, &mut self.stock]
    }

    /// Users, libraries, scripts and settings as in a server that just started.
    pub fn reset_server(&mut self) {
        for wire in self.wires() {
            // Where a key past its deadline is removed in the background is left
            // to chance, and DBSIZE counts it until then.
            for line in ["DEBUG SET-ACTIVE-EXPIRE 0", "SCRIPT FLUSH", SETTINGS] {
                let reply = wire.run(line);
                assert!(!reply.is_error(), "{line}: {reply:?}");
            }
            for user in wire.run("ACL USERS").items() {
                if user.as_bytes() != b"default" {
                    wire.cmd(&["ACL", "DELUSER", &user.as_text()]);
                }
            }
        }
    }

    pub fn flush(&mut self) {
        for wire in self.wires() {
            for line in ["FLUSHALL", "FUNCTION FLUSH"] {
                assert!(!wire.run(line).is_error());
            }
        }
    }

    /// Sends commands in batches and compares reply by reply.
    pub fn play(&mut self, commands: &[Command], batch_max: usize) -> Option<Mismatch> {
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
                let [stock, ours] = [&mut self.stock, &mut self.ours].map(|wire| match wire.try_read() {
                    Ok(value) => value,
                    Err(e) => Value::Error(format!("no reply: {e}")),
                });
                if !self.comparer.agree(command, &ours, &stock) {
                    let text = format!("{}\n  ours:  {ours:?}\n  stock: {stock:?}", show(command));
                    if survey() {
                        println!("DIFFERS {text}");
                        step += 1;
                        continue;
                    }
                    return Some(Mismatch { step, text });
                }
                step += 1;
            }
        }
        None
    }

    /// Reads everything of both databases.
    pub fn compare_data(&mut self) -> Option<String> {
        for db in ["0", "1"] {
            for wire in self.wires() {
                wire.cmd(&["SELECT", db]);
            }
            let mut commands = vec![words("DBSIZE"), words("KEYS *")];
            for key in self.keys() {
                commands.push([words("TYPE"), vec![key.clone()]].concat());
                commands.push([words("PTTL"), vec![key.clone()]].concat());
                commands.push(self.reading(&key));
            }
            if let Some(mismatch) = self.play(&commands, 16) {
                return Some(format!("the data differs (database {db}): {}", mismatch.text));
            }
            if let Some(text) = self.compare_scan() {
                return Some(format!("{text} (database {db})"));
            }
        }
        let libraries = self.play(&[words("FUNCTION LIST WITHCODE")], 1);
        libraries.map(|mismatch| format!("the libraries differ: {}", mismatch.text))
    }

    /// Gives each server what the other one dumped, and reads that.
    pub fn compare_dumps(&mut self) -> Option<String> {
        for wire in self.wires() {
            wire.run("SELECT 0");
        }
        let keys = self.keys();
        let mut commands = Vec::new();
        for wire in self.wires() {
            for line in [&format!("SELECT {SPARE}"), "FLUSHDB", "SELECT 0"] {
                wire.run(line);
            }
        }
        for key in keys {
            commands.push(self.reading(&key));
            let [ours, stock] = self.wires().map(|wire| wire.cmd(&[b"DUMP", key.as_slice()]));
            let (Value::Bulk(ours), Value::Bulk(stock)) = (ours, stock) else {
                return Some(format!("no DUMP of {}", quoted(&key)));
            };
            for (wire, payload) in [(&mut self.ours, stock), (&mut self.stock, ours)] {
                wire.cmd(&["SELECT", SPARE]);
                let reply = wire.cmd(&[b"RESTORE", &key[..], b"0", &payload]);
                wire.run("SELECT 0");
                if reply.is_error() {
                    return Some(format!("RESTORE {} {}: {reply:?}", quoted(&key), quoted(&payload)));
                }
            }
        }
        for wire in self.wires() {
            wire.cmd(&["SELECT", SPARE]);
        }
        let mismatch = self.play(&commands, 16);
        for wire in self.wires() {
            wire.run("FLUSHDB");
            wire.run("SELECT 0");
        }
        mismatch.map(|mismatch| format!("what the other server dumped differs: {}", mismatch.text))
    }

    fn keys(&mut self) -> Vec<Vec<u8>> {
        self.stock.run("KEYS *").items().iter().map(|key| key.as_bytes().to_vec()).collect()
    }

    /// The command that reads the whole value of a key.
    fn reading(&mut self, key: &[u8]) -> Command {
        let kind = self.stock.cmd(&[b"TYPE", key]).as_text();
        let (name, more) = match kind.as_str() {
            "string" => ("GET", ""),
            "list" => ("LRANGE", "0 -1"),
            "set" => ("SMEMBERS", ""),
            "hash" => ("HGETALL", ""),
            "stream" => ("XINFO STREAM", "FULL COUNT 0"),
            _ => ("ZRANGE", "0 -1 WITHSCORES"),
        };
        let more = if more.is_empty() { Vec::new() } else { words(more) };
        [words(name), vec![key.to_vec()], more].concat()
    }

    /// SCAN to its end gives the same keys.
    fn compare_scan(&mut self) -> Option<String> {
        let [ours, stock] = self.wires().map(|wire| {
            let mut keys = Vec::new();
            let mut cursor = "0".to_owned();
            loop {
                let reply = wire.cmd(&["SCAN", &cursor, "COUNT", "7"]);
                keys.extend(reply.items()[1].items().iter().map(|key| key.as_bytes().to_vec()));
                cursor = reply.items()[0].as_text();
                if cursor == "0" {
                    break;
                }
            }
            keys.sort();
            keys.dedup();
            keys
        });
        (ours != stock).then(|| format!("SCAN differs: {} keys of ours, {} of stock's", ours.len(), stock.len()))
    }
}

/// Whether differing replies are only listed (`DIFF_SURVEY=1`).
fn survey() -> bool {
    static ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("DIFF_SURVEY").is_some())
}

pub fn show(command: &Command) -> String {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}
