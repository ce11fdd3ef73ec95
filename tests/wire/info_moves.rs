//! Each field of INFO that counts or measures moves when it should, by what it
//! should: `data/info_moves.tsv` has what is done and what comes of it, or why
//! a field cannot be moved here.
//!
//! A move is `+` (more), `+N` (more by exactly N), `=X` (is X then) or `~`
//! (differs). Steps are separated by ` ; `; each is a command over connection
//! `a`, or after `@b ` over `b`, connected when it is first used. Within a word
//! a backtick is a space and `x*N` stands for N letters. Capital verbs are
//! explained at [`Scene::step`].

use super::support::{Server, Wire, ok, plain};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);

/// What rows may have left behind.
const DEFAULTS: &str = "CONFIG SET maxmemory 0 maxmemory-policy noeviction maxclients 1000 hz 10 \
    maxmemory-clients 0 appendonly no min-replicas-to-write 0 repl-backlog-size 1048576 \
    replica-read-only yes repl-diskless-sync-delay 0";

struct Row {
    field: &'static str,
    moves: &'static str,
    stock: &'static str,
    steps: &'static str,
    reason: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let f: Vec<&str> = line.split('\t').collect();
        assert_eq!(f.len(), 5, "{line}");
        Row { field: f[0], moves: f[1], stock: f[2], steps: f[3], reason: f[4] }
    };
    include_str!("../data/info_moves.tsv").lines().skip(1).map(row).collect()
}

type Fields = HashMap<String, String>;

fn fields(c: &mut Wire) -> Fields {
    let text = c.run("INFO everything").as_text();
    text.split("\r\n").filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Has `field` moved as it should?
fn moved(row: &Row, before: &Fields, now: &Fields) -> bool {
    let (was, is) = (before.get(row.field), now.get(row.field));
    let number = |v: Option<&String>| v.map_or(Some(0.0), |v| v.parse::<f64>().ok());
    let delta = number(is).zip(number(was)).map(|(is, was)| is - was);
    match row.moves.split_at(1) {
        ("~", _) => is != was,
        ("=", value) => is.is_some_and(|v| v == value),
        ("+", "") => delta.is_some_and(|d| d > 0.0),
        ("+", by) => delta == by.parse().ok(),
        _ => panic!("a move {:?}", row.moves),
    }
}

fn word(text: &str) -> String {
    let text = text.replace('`', " ").replace("\\n", "\n");
    match text.strip_prefix("x*").and_then(|n| n.parse().ok()) {
        Some(n) => "x".repeat(n),
        None => text,
    }
}

/// The connections of one group of rows.
struct Scene<'a> {
    server: &'a Server,
    wires: HashMap<String, Wire>,
    primary: Option<Server>,
    /// The history and the offset that a full copy began with.
    history: Option<(String, u64)>,
}

impl Scene<'_> {
    /// `WAIT ms`; `PIPE n` sends a command that often and reads nothing;
    /// `REFUSED` expects an error; `HALF n` sends half of a command; `COPIED`
    /// restores a key's dump as another; `REPLICA` asks for the stream, and
    /// `RESUME` for its rest; `PRIMARY` follows a server that runs the command.
    fn step(&mut self, step: &str) {
        let (name, step) = match step.strip_prefix('@') {
            Some(rest) => rest.split_once(' ').expect("a step"),
            None => ("a", step),
        };
        let words: Vec<String> = step.split_whitespace().map(word).collect();
        if words[0] == "WAIT" {
            return std::thread::sleep(Duration::from_millis(words[1].parse().unwrap()));
        }
        let port = self.server.port;
        let c = self.wires.entry(name.to_owned()).or_insert_with(|| Wire::connect(port));
        match words[0].as_str() {
            "PIPE" => (0..words[1].parse().unwrap()).for_each(|_| c.send_cmd(&words[2..])),
            "REFUSED" => assert!(c.cmd(&words[1..]).is_error(), "{step}"),
            "HALF" => {
                let n: usize = words[1].parse().unwrap();
                // It may be refused before it has all been sent.
                let _ = c.try_send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{}", 2 * n, "x".repeat(n)));
            }
            "COPIED" => {
                let dump = c.run(&format!("DUMP {}", words[1]));
                assert_eq!(c.cmd(&[b"RESTORE", b"copy".as_slice(), b"0", dump.as_bytes()]), ok());
            }
            "REPLICA" => {
                assert_eq!(c.run("REPLCONF capa psync2"), ok());
                let begun = c.run(&format!("PSYNC {} {}", words[1], words[2])).as_text();
                let begun: Vec<&str> = begun.split(' ').collect();
                self.history = Some((begun[1].to_owned(), begun[2].parse().unwrap()));
            }
            "RESUME" => {
                let (id, offset) = self.history.as_ref().expect("a copy has begun");
                assert_eq!(c.run("REPLCONF capa psync2"), ok());
                let line = c.run(&format!("PSYNC {id} {}", offset + 1)).as_text();
                assert!(line.starts_with("CONTINUE"), "{line}");
            }
            "PRIMARY" => {
                let primary = Server::stock(&["--repl-diskless-sync-delay", "0"]);
                assert!(!primary.wire().cmd(&words[1..]).is_error());
                assert_eq!(c.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), ok());
                self.primary = Some(primary);
            }
            _ => {
                let reply = c.cmd(&words);
                assert!(!reply.is_error(), "{step}: {reply:?}");
            }
        }
    }
}

/// Does the steps that the rows share and tells which fields did not move.
fn play(server: &Server, c: &mut Wire, rows: &[Row]) -> Vec<String> {
    assert_eq!(c.run("REPLICAOF NO ONE"), ok());
    assert_eq!(c.run(DEFAULTS), ok());
    assert_eq!(c.run("FLUSHALL"), ok());
    // Connections of the rows before are gone.
    let start = Instant::now();
    while fields(c)["connected_clients"] != "1" && start.elapsed() < LIMIT {}
    let before = fields(c);
    let mut scene = Scene { server, wires: HashMap::new(), primary: None, history: None };
    rows[0].steps.split(" ; ").for_each(|s| scene.step(s));
    let (mut left, start) = (rows.iter().collect::<Vec<_>>(), Instant::now());
    let mut first = true;
    loop {
        let now = fields(c);
        // Fields that INFO itself moves are right or wrong at the first look.
        left.retain(|row| !moved(row, &before, &now));
        if left.is_empty() || start.elapsed() > LIMIT {
            let told = |row: &&Row| {
                let (was, is) = (before.get(row.field), now.get(row.field));
                format!("{} {}: {was:?}, then {is:?} ({})", row.field, row.moves, row.steps)
            };
            return left.iter().map(told).collect();
        }
        if !std::mem::take(&mut first) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn all_move(server: &Server) {
    let rows: Vec<Row> = rows().into_iter().filter(|r| !r.moves.is_empty()).collect();
    let rows: Vec<Row> = rows.into_iter().filter(|r| !plain() || r.stock == "same").collect();
    let mut c = server.wire();
    let groups = rows.chunk_by(|a, b| a.steps == b.steps);
    let stuck: Vec<String> = groups.flat_map(|group| play(server, &mut c, group)).collect();
    assert!(stuck.is_empty(), "{}", stuck.join("\n"));
}

#[test]
fn each_field_of_info_moves_on_one_core() {
    all_move(&Server::start(&["--cores", "1"]));
}

#[test]
fn each_field_of_info_moves_on_four_cores() {
    if !plain() {
        all_move(&Server::start(&["--cores", "4"]));
    }
}

/// Each field that the table of fields has moves here, or says why not.
#[test]
fn each_field_of_info_is_moved_or_has_a_reason() {
    let table = include_str!("../data/info_fields.tsv").lines().skip(1);
    let rows = rows();
    for name in table.map(|l| l.split('\t').nth(1).expect("a name").replace("%d", "0")) {
        let row = rows.iter().find(|r| r.field == name).unwrap_or_else(|| panic!("{name} has no row"));
        assert_ne!(row.moves.is_empty(), row.reason.is_empty(), "{name}: a move or a reason");
        assert_eq!(row.moves.is_empty(), row.steps.is_empty(), "{name}");
    }
}
