//! Real client libraries against servers with one core and with four: redis-py
//! and node-redis, as Debian packages them, and the `redis` crate.
//!
//! Where one of Debian's is missing its tests are skipped, unless
//! `CORESLOT_CLIENTS=1` says that it must be there (`scripts/test` does, once it
//! has installed them).

mod redis_crate;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::certs::Certs;
use support::{Server, each_cores, env_number};

/// Debian's own: one of another origin does not see Debian's packages.
const PYTHON: &str = "/usr/bin/python3";
const NODE_PATH: &str = "/usr/share/nodejs:/usr/lib/nodejs";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Is the library there? Fails where it must be.
fn has(probe: &mut Command, library: &str) -> bool {
    let found = probe.output().is_ok_and(|o| o.status.success());
    assert!(found || env_number("CORESLOT_CLIENTS", 0) == 0, "{library} is missing");
    if !found {
        eprintln!("skipped: {library} is not installed");
    }
    found
}

fn has_python() -> bool {
    has(Command::new(PYTHON).args(["-c", "import redis, redis.asyncio, redis.cluster"]), "python3-redis")
}

fn has_node() -> bool {
    has(Command::new("node").env("NODE_PATH", NODE_PATH).args(["-e", "require('redis')"]), "node-redis")
}

/// Runs a script that is told where the server is; it ends with 0 if all is well.
fn passes(command: &mut Command, at: impl ToString) {
    let Output { status, stdout, stderr } = command.arg(at.to_string()).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{status}\n{}{}", text(&stdout), text(&stderr));
}

fn python(name: &str, at: impl ToString) {
    passes(Command::new("timeout").args(["240", PYTHON]).arg(script(name)), at);
}

fn node(name: &str, port: u16) {
    passes(Command::new("timeout").args(["120", "node"]).env("NODE_PATH", NODE_PATH).arg(script(name)), port);
}

/// A server whose cores look like the nodes of a cluster; the port of the first.
fn with_endpoints(body: impl FnOnce(u16)) {
    let mut first = 0;
    let server = Server::start_with(|port| {
        first = port + 1;
        let base = first.to_string();
        ["--cores", "4", "--core-endpoints", "yes", "--core-port-base", &base].map(str::to_owned).to_vec()
    });
    body(first);
    drop(server);
}

#[test]
fn redis_py() {
    if has_python() {
        each_cores(|server| python("sync.py", server.port));
    }
}

#[test]
fn redis_py_in_applications() {
    if has_python() {
        each_cores(|server| python("applications.py", server.port));
    }
}

#[test]
fn redis_py_in_applications_over_a_unix_socket() {
    if has_python() {
        let path = std::env::temp_dir().join(format!("coreslot-clients-{}.sock", std::process::id()));
        let path = path.to_string_lossy();
        let server = Server::start(&["--cores", "4", "--unixsocket", &path]);
        python("applications.py", format!("unix://{path}"));
        drop(server);
    }
}

#[test]
fn redis_py_in_applications_over_tls() {
    if has_python() {
        let certs = Certs::make("clients");
        let more = ["--cores", "4", "--tls-auth-clients", "no"];
        let server = Server::start_with(|port| certs.args(port + 1, &more));
        let (port, ca) = (server.port + 1, certs.path("ca.crt"));
        python("applications.py", format!("rediss://localhost:{port}?ssl_ca_certs={ca}"));
    }
}

#[test]
fn redis_py_asyncio() {
    if has_python() {
        each_cores(|server| python("asynchronous.py", server.port));
    }
}

#[test]
fn redis_py_cluster() {
    if has_python() {
        with_endpoints(|port| python("cluster.py", port));
    }
}

#[test]
fn node_redis() {
    if has_node() {
        each_cores(|server| node("single.js", server.port));
    }
}

#[test]
fn node_redis_cluster() {
    if has_node() {
        with_endpoints(|port| node("cluster.js", port));
    }
}
