//! What both roles say in the log: who watches replication there looks for the
//! lines of a stock server, in its order.

use std::os::unix::net::UnixDatagram;

use super::servers::*;
use super::support::{Server, eventually};

/// What comes to the log while something is done.
struct Watched<'a>(&'a Server, usize);

impl<'a> Watched<'a> {
    fn begin(server: &'a Server) -> Watched<'a> {
        Watched(server, server.log().len())
    }

    fn told(&self) -> String {
        self.0.log()[self.1..].to_string()
    }

    /// Waits until lines with these ends have come, one behind the other.
    fn tells(&self, expected: &[&str]) {
        let missing = || {
            let log = self.told();
            let mut lines = log.lines();
            expected.iter().find(|text| !lines.any(|l| l.contains(**text))).copied()
        };
        let limit = std::time::Instant::now() + LIMIT;
        while let Some(missing) = missing() {
            assert!(std::time::Instant::now() < limit, "not told in its place: {missing:?}\n{}", self.told());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// The replica said `Connecting` also when it restored a link, said nothing of the
/// start of a synchronization nor of the snapshot that came, and put the number of
/// an error behind its words; the primary did not say who asked.
#[test]
fn both_roles_tell_what_a_stock_server_tells() {
    for ours_follows in [true, false] {
        let (primary, replica) = match ours_follows {
            true => (stock(&[]), ours(2, &[])),
            false => (ours(2, &[]), stock(&[])),
        };
        primary.wire().run("SET a b");
        // The last of its block: a server listens on the first.
        let closed = primary.port + 9;
        let watched = Watched::begin(&replica);
        replicate(&replica, closed);
        watched.tells(&[
            &format!("* Connecting to MASTER 127.0.0.1:{closed}"),
            "* MASTER <-> REPLICA sync started",
            "# Error condition on socket for SYNC: Connection refused",
            &format!("* Connecting to MASTER 127.0.0.1:{closed}"),
        ]);
        assert!(!watched.told().contains("Reconnecting"), "{}", watched.told());
        first_link(&primary, &replica);
        second_link(&primary, &replica);
    }
}

fn first_link(primary: &Server, replica: &Server) {
    let (there, here) = (Watched::begin(primary), Watched::begin(replica));
    replicate(replica, primary.port);
    wait_for_link(replica);
    here.tells(&[
        &format!("* Connecting to MASTER 127.0.0.1:{}", primary.port),
        "* MASTER <-> REPLICA sync started",
        "* Non blocking connect for SYNC fired the event.",
        "* Full resync from master: ",
        "* MASTER <-> REPLICA sync: Loading DB in memory",
        "* Loading RDB produced by version 7.",
        "* RDB age ",
        "* RDB memory usage when created ",
        "* Done loading RDB, keys loaded: 1, keys expired: 0.",
        "* MASTER <-> REPLICA sync: Finished with success",
    ]);
    there.tells(&[
        &format!("* Replica 127.0.0.1:{} asks for synchronization", replica.port),
        "Starting BGSAVE for SYNC with target",
    ]);
}

fn second_link(primary: &Server, replica: &Server) {
    let (there, here) = (Watched::begin(primary), Watched::begin(replica));
    primary.wire().run("CLIENT KILL TYPE replica");
    here.tells(&[
        "# Connection with master lost",
        "* Caching the disconnected master state.",
        &format!("* Reconnecting to MASTER 127.0.0.1:{}", primary.port),
        "* MASTER <-> REPLICA sync started",
        "* MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.",
    ]);
    there.tells(&[
        &format!("* Replica 127.0.0.1:{} asks for synchronization", replica.port),
        "* Partial resynchronization request from",
    ]);
    eventually("a working link", LIMIT, || info(replica, "master_link_status").trim() == "up");
}

/// systemd saw only that the server was ready, however long it loaded and waited
/// for its primary.
#[test]
fn a_supervisor_is_told_how_far_a_replica_is() {
    let primary = stock(&[]);
    let [ours, theirs] = [true, false].map(|ours| told_to_systemd(&primary, ours));
    assert_eq!(ours[0], "STATUS=Coreslot is loading...\n");
    assert_eq!(theirs[0], "STATUS=Redis is loading...\n");
    assert_eq!(ours[1..], theirs[1..]);
}

/// What comes to the socket while a replica starts, loses its link and ends.
fn told_to_systemd(primary: &Server, ours: bool) -> Vec<String> {
    let path = std::env::temp_dir().join(format!("coreslot-told-{}-{ours}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let environment = format!("NOTIFY_SOCKET={}", path.display());
    let (wrapper, port) = (["env", &environment], format!("127.0.0.1 {}", primary.port));
    let args = ["--supervised", "systemd", "--replicaof", &port];
    let mut replica = match ours {
        true => Server::start_under(&wrapper, &args),
        false => Server::stock_under(&wrapper, &args),
    };
    let hear = |times: usize| -> Vec<String> {
        let one = || {
            let mut buffer = [0; 256];
            let n = socket.recv(&mut buffer).expect("a datagram");
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        (0..times).map(|_| one()).collect()
    };
    // Loading, ready twice, the copy.
    let mut told = hear(4);
    primary.wire().run("CLIENT KILL TYPE replica");
    told.extend(hear(1));
    replica.signal(libc::SIGTERM);
    replica.wait_exit(LIMIT);
    told.extend(hear(1));
    let _ = std::fs::remove_file(&path);
    told
}
