//! A primary's host that answers nobody: attempts to connect take until
//! `repl-timeout`, and nothing else may wait for them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::servers::*;
use super::support::{Wire, bulk, eventually, ok};

/// A listener whose queue is full: the kernel drops what else comes.
struct Silent {
    port: u16,
    _kept: (Socket, Vec<Socket>),
}

impl Silent {
    fn new() -> Silent {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("to listen");
        let address = listener.local_addr().expect("an address");
        let queued = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("not to wait");
            // In progress, or refused by the full queue: both are meant.
            let _ = socket.connect(&address);
            socket
        });
        let queued = queued.collect();
        Silent { port: address.as_socket().expect("an address").port(), _kept: (listener, queued) }
    }
}

fn quickly(c: &mut Wire, line: &str) {
    let begin = Instant::now();
    assert_eq!(c.run(line), ok(), "{line}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{line} took {:?}", begin.elapsed());
}

#[test]
fn nothing_waits_for_a_host_that_is_silent() {
    let silent = Silent::new();
    let primary = ours(2, &[]);
    let replica = ours(2, &["--repl-timeout", "60", "--appendonly", "yes"]);
    let mut c = replica.wire();
    assert_eq!(primary.wire().run("SET k v"), ok());
    quickly(&mut c, &format!("REPLICAOF 127.0.0.1 {}", silent.port));
    std::thread::sleep(Duration::from_millis(300));
    quickly(&mut c, "SAVE");
    // More of them than there are threads.
    for _ in 0..4 {
        for host in ["localhost", "127.0.0.1"] {
            quickly(&mut c, &format!("REPLICAOF {host} {}", silent.port));
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    quickly(&mut c, &format!("REPLICAOF 127.0.0.1 {}", primary.port));
    eventually("the good one", Duration::from_secs(10), || c.run("GET k") == bulk("v"));
    // Promoted while it tries: its file is written as before.
    quickly(&mut c, &format!("REPLICAOF 127.0.0.1 {}", silent.port));
    std::thread::sleep(Duration::from_millis(300));
    quickly(&mut c, "REPLICAOF NO ONE");
    let value = vec![b'v'; 1 << 20];
    let begin = Instant::now();
    for i in 0..100 {
        assert_eq!(c.cmd(&[&b"SET"[..], format!("own{i}").as_bytes(), &value]), ok());
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    eventually("the file", LIMIT, || info(&replica, "aof_buffer_length").trim() == "0");
}
