//! Options and behaviours that commands got over the years, row by row:
//! `data/options.tsv` has for each an accepted use, where one can be wrong a
//! refused one too, or the reason why it has no meaning here.
//!
//! Uses are commands separated by ` ; `, of which the last one counts; `*` in a
//! reply stands for any text.

use super::support::transcript::split_words;
use super::support::*;

struct Row<'a> {
    command: &'a str,
    since: &'a str,
    uses: [(&'a str, &'a str); 2],
    reason: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let lines = include_str!("../data/options.tsv").lines().skip(1);
    lines
        .map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            let [command, since, accepted, reply, refused, error, reason] = f[..] else { panic!("{line}") };
            Row { command, since, uses: [(accepted, reply), (refused, error)], reason }
        })
        .collect()
}

/// Does `text` fit, with `*` for anything?
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pattern.contains('*').then(|| parts.next_back().unwrap_or_default()) else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The last reply of a use, on an empty server.
fn run(server: &Server, script: &str) -> Value {
    let mut c = server.wire();
    c.run("FLUSHALL");
    c.run("ACL DELUSER u");
    c.run("ACL LOG RESET");
    let replies = script.split(" ; ").map(|line| c.cmd(&split_words(line)));
    replies.last().expect("a command")
}

/// What does not answer as its row says.
fn wrong(server: &Server, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        for (script, want) in row.uses.iter().filter(|(script, _)| !script.is_empty()) {
            let got = match run(server, script) {
                // Not cut, however long.
                Value::Bulk(text) => format!("\"{}\"", text.escape_ascii()),
                other => format!("{other:?}"),
            };
            if !fits(want, &got) {
                wrong.push(format!("{} {}: {script}\n  expected {want}\n  got      {got}", row.command, row.since));
            }
        }
    }
    wrong
}

#[test]
fn every_option_of_every_version_is_there() {
    let rows = rows();
    for row in &rows {
        let [(accepted, reply), (_, error)] = row.uses;
        assert!(row.reason.is_empty() != accepted.is_empty(), "{} {}: a use or a reason", row.command, row.since);
        assert!(!reply.starts_with('-') && (error.is_empty() || error.starts_with('-')), "{}", row.command);
    }
    if !plain() {
        each_cores(|server| assert_eq!(wrong(server, &rows).join("\n"), ""));
    }
}

/// What is older than 7.2 answers as redis-server 7.0 does.
#[test]
fn the_table_is_that_of_redis() {
    let mut rows = rows();
    rows.retain(|row| row.since < "7.1");
    assert_eq!(wrong(&Server::stock(&["--save", ""]), &rows).join("\n"), "");
}

/// The table misses nothing that our own documentation tells.
#[test]
fn what_is_documented_is_in_the_table() {
    if plain() {
        return;
    }
    let rows = rows();
    let docs = Server::start(&["--cores", "1"]).wire().run("COMMAND DOCS");
    let mut missing = Vec::new();
    let mut todo: Vec<Value> = vec![docs];
    while let Some(list) = todo.pop() {
        for pair in list.items().chunks(2) {
            let name = pair[0].as_text();
            let field = |word: &str| pair[1].items().chunks(2).find(|p| p[0] == bulk(word)).map(|p| p[1].clone());
            todo.extend(field("subcommands"));
            for change in field("history").iter().flat_map(Value::items) {
                let since = change.items()[0].as_text();
                if !rows.iter().any(|row| row.command == name && row.since == since) {
                    missing.push(format!("{name} {since}"));
                }
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}
