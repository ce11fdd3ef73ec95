//! INFO and ROLE in the states of both roles, beside a stock server that is brought
//! into the same ones.

use super::fake_primary::{FakePrimary, ID, Step, greeting};
use super::servers::*;
use super::support::{Server, eventually, ok};

/// Fields whose values follow from the state alone.
const DETERMINED: [&str; 28] = [
    "role",
    "connected_slaves",
    "master_failover_state",
    "master_replid2",
    "second_repl_offset",
    "repl_backlog_active",
    "repl_backlog_size",
    "repl_backlog_first_byte_offset",
    "master_host",
    "master_link_status",
    "master_sync_in_progress",
    "master_sync_total_bytes",
    "slave_read_only",
    "slave_priority",
    "replica_announced",
    "loading",
    "async_loading",
    "rdb_changes_since_last_save",
    "rdb_bgsave_in_progress",
    "rdb_last_bgsave_status",
    "rdb_last_load_keys_expired",
    "aof_enabled",
    "aof_rewrite_in_progress",
    "aof_rewrite_scheduled",
    "aof_last_bgrewrite_status",
    "aof_last_write_status",
    "aof_rewrites",
    "aof_pending_rewrite",
];

/// A replica of ours keeps a backlog from REPLICAOF on, a stock one from its first
/// link on (differences.md).
/// While a snapshot is loaded at the start, a stock server has one for a moment.
const BACKLOG_BEFORE_LINK: [&str; 2] = ["repl_backlog_active", "repl_backlog_first_byte_offset"];

/// What one server said in one state.
pub struct Seen {
    pub state: String,
    /// Of the two sections, in order.
    fields: Vec<(String, String)>,
    role: String,
}

#[derive(Default)]
pub struct Album(pub Vec<Seen>);

impl Album {
    pub fn note(&mut self, state: &str, server: &Server) {
        let mut wire = server.wire();
        let text = wire.run("INFO replication").as_text() + &wire.run("INFO persistence").as_text();
        let field = |l: &str| l.split_once(':').map(|(name, value)| (name.to_string(), shown(name, value)));
        let fields = text.lines().filter_map(field).collect();
        // Ports and offsets are each server's own.
        let mut role = format!("{:?}", wire.run("ROLE"));
        role.retain(|c| !c.is_ascii_digit());
        self.0.push(Seen { state: state.into(), fields, role });
    }

    /// In a state that the link is in but for the moment of each new attempt.
    fn note_between_attempts(&mut self, state: &str, server: &Server) {
        loop {
            link_is(server, "connect");
            self.note(state, server);
            match self.0.last() {
                Some(seen) if !seen.role.contains("\"connect\"") => self.0.pop(),
                _ => return,
            };
        }
    }
}

/// Of a former history it is only said whether there is one.
fn shown(name: &str, value: &str) -> String {
    match name {
        "second_repl_offset" if value != "-1" => "some".into(),
        "master_replid2" if value.bytes().any(|b| b != b'0') => "some".into(),
        _ => value.into(),
    }
}

pub fn says(server: &Server, words: &str) {
    let reply = server.wire().run(words);
    assert!(!reply.is_error(), "{words}: {reply:?}");
}

pub fn reaches(server: &Server, field: &str, value: &str) {
    eventually(&format!("{field} is {value}"), LIMIT, || info(server, field).trim() == value);
}

fn online(primary: &Server) {
    let state = || primary.wire().run("INFO replication").as_text();
    eventually("online", LIMIT, || state().lines().any(|l| l.starts_with("slave0:") && l.contains("state=online")));
}

fn link_is(server: &Server, state: &str) {
    let is = || matches!(server.wire().run("ROLE").items().get(3), Some(v) if v.as_text() == state);
    eventually(state, LIMIT, is);
}

/// A replica on its way to a copy.
fn joining(album: &mut Album, replica: &Server) {
    says(replica, "REPLICAOF 127.0.0.1 1");
    album.note_between_attempts("refused", replica);
    let header = format!("+FULLRESYNC {ID} 77\r\n");
    let scripts = [
        ("handshake", "handshake", vec![Step::Hear("PING\r\n")]),
        ("before the copy", "sync", [greeting(), vec![Step::say(&header)]].concat()),
        ("copying", "sync", [greeting(), vec![Step::say(&header), Step::say("$1000\r\nREDIS0010")]].concat()),
    ];
    for (state, link, steps) in scripts {
        let primary = FakePrimary::new();
        primary.play(steps);
        replicate(replica, primary.port);
        link_is(replica, link);
        if state == "copying" {
            reaches(replica, "master_sync_total_bytes", "1000");
        }
        album.note(state, replica);
        says(replica, "REPLICAOF NO ONE");
    }
}

/// Snapshots and rewrites, of which one waits for the other.
fn saving(album: &mut Album, server: &Server) {
    says(server, "CONFIG SET rdb-key-save-delay 3000000");
    says(server, "BGSAVE");
    reaches(server, "rdb_bgsave_in_progress", "1");
    album.note("saving", server);
    says(server, "BGREWRITEAOF");
    album.note("a rewrite waits", server);
    says(server, "CONFIG SET rdb-key-save-delay 0");
    eventually("both are done", LIMIT, || {
        ["rdb_bgsave_in_progress", "aof_rewrite_scheduled", "aof_rewrite_in_progress"]
            .iter()
            .all(|field| info(server, field).trim() == "0")
    });
    album.note("saved", server);
}

fn drive(start: fn(&[&str]) -> Server) -> Album {
    let mut album = Album::default();
    let (mut primary, replica, last) = (start(&[]), start(&[]), start(&[]));
    album.note("fresh", &primary);
    assert_eq!(primary.wire().run("SET a 1"), ok());
    album.note("changed", &primary);
    assert_eq!(primary.wire().run("SAVE"), ok());
    album.note("after SAVE", &primary);
    joining(&mut album, &replica);
    for (from, to) in [(&replica, &primary), (&last, &replica)] {
        replicate(from, to.port);
        wait_for_link(from);
        online(to);
    }
    album.note("with a replica", &primary);
    album.note("in the middle", &replica);
    album.note("at the end", &last);
    saving(&mut album, &primary);
    replica.signal(libc::SIGSTOP);
    assert_eq!(primary.wire().run("SET a 2"), ok());
    says(&primary, "FAILOVER TIMEOUT 60000");
    reaches(&primary, "master_failover_state", "waiting-for-sync");
    album.note("failing over", &primary);
    says(&primary, "FAILOVER ABORT");
    replica.signal(libc::SIGCONT);
    reaches(&primary, "master_failover_state", "no-failover");
    album.note("failed over", &primary);
    wait_until_equal(&primary, &[&replica, &last]);
    primary.signal(libc::SIGKILL);
    primary.wait_exit(LIMIT);
    reaches(&replica, "master_link_status", "down");
    album.note_between_attempts("link down", &replica);
    album.note("behind a link that is down", &last);
    says(&replica, "REPLICAOF NO ONE");
    // Its own replica comes again, and goes on.
    online(&replica);
    wait_for_link(&last);
    album.note("promoted", &replica);
    album.note("behind a promoted one", &last);
    says(&replica, "CONFIG SET appendonly yes");
    reaches(&replica, "aof_enabled", "1");
    reaches(&replica, "aof_rewrites", "1");
    reaches(&replica, "aof_rewrite_in_progress", "0");
    album.note("with an append-only file", &replica);
    album
}

/// What one server said otherwise than the other.
pub fn differences(is: &Seen, should: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let names = |s: &Seen| s.fields.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    if names(is) != names(should) {
        wrong.push(format!("{}: fields {:?}, not {:?}", is.state, names(is), names(should)));
    }
    if is.role != should.role {
        wrong.push(format!("{}: ROLE {}, not {}", is.state, is.role, should.role));
    }
    let early = ["refused", "handshake", "before the copy", "copying", "loading a snapshot"].contains(&&*is.state);
    // A stock server counts rewrites when they begin.
    let counts_later = is.state == "a snapshot waits for a rewrite";
    // A stock replica counts a copy from a socket as a change.
    let copied = is.state.ends_with("beside the data");
    for (name, value) in is.fields.iter().filter(|f| DETERMINED.contains(&&*f.0)) {
        let other = should.fields.iter().find(|f| f.0 == *name).map(|f| &f.1);
        let meant = early && BACKLOG_BEFORE_LINK.contains(&&**name)
            || counts_later && name == "aof_rewrites"
            || copied && name == "rdb_changes_since_last_save";
        if other != Some(value) && !meant {
            wrong.push(format!("{}: {name} {value}, not {other:?}", is.state));
        }
    }
    wrong
}

#[test]
fn info_and_role_say_what_a_stock_server_says() {
    let kinds: [fn(&[&str]) -> Server; 3] = [stock, |args| ours(1, args), |args| ours(4, args)];
    let [expected, one, four] = std::thread::scope(|scope| {
        kinds.map(|start| scope.spawn(move || drive(start))).map(|thread| thread.join().expect("all states"))
    });
    for (cores, seen) in [(1, one), (4, four)] {
        assert_eq!(seen.0.len(), expected.0.len());
        let wrong: Vec<String> = seen.0.iter().zip(&expected.0).flat_map(|(a, b)| differences(a, b)).collect();
        assert!(wrong.is_empty(), "{cores} cores:\n{}", wrong.join("\n"));
    }
}
