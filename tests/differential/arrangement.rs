//! What surrounds the server under test: a stock replica, or files from which
//! it starts again.

use super::support::{Server, eventually};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// What both servers begin with: a busy machine makes any command slow, and
/// SLOWLOG is compared.
pub const NEVER_SLOW: [&str; 2] = ["--slowlog-log-slower-than", "60000000"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrangement {
    Alone,
    /// A stock server follows ours; its data is compared.
    Replica,
    /// Ours is killed now and then, and reads its append-only file.
    AppendOnly,
    /// Ours is stopped now and then, and reads its snapshot.
    Image,
}

/// The server under test, with what surrounds it.
pub struct Subject {
    arrangement: Arrangement,
    cores: String,
    dir: PathBuf,
    server: Option<Server>,
    pub replica: Option<Server>,
}

impl Subject {
    pub fn start(arrangement: Arrangement, cores: &str) -> Subject {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("coreslot-diff-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("make the directory");
        let mut subject = Subject { arrangement, cores: cores.into(), dir, server: None, replica: None };
        subject.start_server();
        if arrangement == Arrangement::Replica {
            let port = subject.server().port.to_string();
            let replica = Server::stock(&["--replicaof", "127.0.0.1", &port]);
            eventually("the replica's link", LIMIT, || {
                replica.wire().run("INFO replication").as_text().contains("master_link_status:up")
            });
            subject.replica = Some(replica);
        }
        subject
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn start_server(&mut self) {
        let append_only = if self.arrangement == Arrangement::AppendOnly { "yes" } else { "no" };
        let dir = self.dir.to_str().expect("a plain path").to_owned();
        let args = ["--cores", &self.cores, "--dir", &dir, "--appendonly", append_only, "--appendfsync", "always"];
        self.server = Some(Server::start(&[&args[..], &NEVER_SLOW].concat()));
    }

    /// Ends the server as its arrangement says and starts it again. Whether it
    /// did: the connections are new ones then.
    pub fn restart(&mut self) -> bool {
        match self.arrangement {
            Arrangement::Alone | Arrangement::Replica => return false,
            Arrangement::AppendOnly => self.server().signal(libc::SIGKILL),
            Arrangement::Image => self.server().wire().send("SHUTDOWN SAVE\r\n"),
        }
        let mut server = self.server.take().expect("it runs");
        server.wait_exit(LIMIT);
        drop(server);
        self.start_server();
        true
    }

    /// Waits until the replica has everything.
    pub fn settle(&self) {
        let Some(replica) = &self.replica else { return };
        eventually("the replica's offset", LIMIT, || offset(self.server()) == offset(replica));
    }
}

fn offset(server: &Server) -> String {
    let text = server.wire().run("INFO replication").as_text();
    let line = text.lines().find(|line| line.starts_with("master_repl_offset:"));
    line.expect("an offset").to_owned()
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.replica = None;
        self.server = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
