//! MONITOR at a replica shows what its primary sends.

use super::servers::*;
use super::support::{Server, Value, ok};

/// What monitors of a replica see of writes, as (database, sender, command).
fn seen(primary: &Server, replica: &Server) -> Vec<(String, String, String)> {
    replicate(replica, primary.port);
    wait_for_link(replica);
    let mut monitor = replica.wire();
    assert_eq!(monitor.run("MONITOR"), ok());
    let mut c = primary.wire();
    let commands = ["SET a 1", "SELECT 3", "INCR n", "SELECT 0", "HSET h f v", "DEL a h"];
    for command in commands {
        c.run(command);
        wait_until_equal(primary, &[replica]);
    }
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|(_, _, command): &(_, _, String)| command.starts_with("\"DEL\"")) {
        let line = monitor.read();
        let Value::Simple(text) = &line else { panic!("not a line: {line:?}") };
        let (head, command) = text.split_once("] ").expect("a line of MONITOR");
        let (_, from) = head.split_once(" [").expect("a sender");
        let (db, sender) = from.split_once(' ').expect("a database");
        // What concerns the link, and the clients that compare datasets.
        let of_link = ["\"PING\"", "\"ping\"", "\"SELECT\"", "\"REPLCONF\""].iter().any(|w| command.starts_with(w));
        if sender == format!("127.0.0.1:{}", primary.port) && !of_link {
            lines.push((db.into(), sender.into(), command.into()));
        }
    }
    lines
}

#[test]
fn a_replica_shows_what_it_is_sent() {
    let primary = ours(1, &[]);
    let wanted = seen(&primary, &stock(&[]));
    assert_eq!(wanted.len(), 4, "{wanted:?}");
    for cores in [1, 4] {
        let primary = ours(1, &[]);
        let shown = seen(&primary, &ours(cores, &[]));
        let plain = |lines: &[(String, String, String)]| -> Vec<_> {
            lines.iter().map(|(db, _, command)| (db.clone(), command.clone())).collect()
        };
        // The keys of DEL lie on two cores: each shows its own.
        let whole = if cores == 1 { 4 } else { 3 };
        assert_eq!(plain(&shown)[..whole], plain(&wanted)[..whole], "{cores} cores");
        assert!(shown[3].2.starts_with("\"DEL\""), "{shown:?}");
    }
}
