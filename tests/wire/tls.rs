//! TLS on client ports: who gets in, what is said, how it ends.

use super::support::certs::Certs;
use super::support::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// The TLS port of a server whose arguments were made with [`Certs::args`].
fn tls_port(plain: u16) -> u16 {
    plain + 1
}

fn start(certs: &Certs, more: &[&str]) -> Server {
    Server::start_with(|port| certs.args(tls_port(port), more))
}

struct Client<'a> {
    certs: &'a Certs,
    identity: Option<&'a str>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Client<'_> {
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certs.path("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        match self.identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let cert = CertificateDer::from_pem_file(self.certs.path(&format!("{name}.crt"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(self.certs.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        }
    }

    fn connect(&self, port: u16) -> Secure {
        let name = ServerName::try_from("localhost").unwrap();
        let link = ClientConnection::new(Arc::new(self.config()), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        StreamOwned::new(link, socket)
    }

    /// Does the server let it in?
    fn gets_in(&self, port: u16) -> bool {
        let mut c = self.connect(port);
        let mut reply = [0; 7];
        c.write_all(b"PING\r\n").is_ok() && c.read_exact(&mut reply).is_ok() && &reply == b"+PONG\r\n"
    }
}

fn client<'a>(certs: &'a Certs, identity: Option<&'a str>) -> Client<'a> {
    Client { certs, identity, versions: rustls::ALL_VERSIONS }
}

#[track_caller]
fn exchange(c: &mut Secure, request: &[u8], reply: &[u8]) {
    c.write_all(request).unwrap();
    let mut got = vec![0; reply.len()];
    c.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(reply));
}

#[test]
fn commands_pipelines_and_large_values() {
    if plain() {
        return;
    }
    let certs = Certs::make("commands");
    for cores in ["1", "4"] {
        let server = start(&certs, &["--cores", cores]);
        for version in [&TLS12, &TLS13] {
            let mut c = Client { certs: &certs, identity: Some("client"), versions: version }.connect(server.port + 1);
            exchange(
                &mut c,
                b"SET a 1\r\nGET a\r\nMSET x 1 y 2 z 3\r\nGET y\r\n",
                b"+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n",
            );
            let big = vec![b'v'; 5_000_000];
            let mut request = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", big.len()).into_bytes();
            request.extend_from_slice(&big);
            request.extend_from_slice(b"\r\n");
            exchange(&mut c, &request, b"+OK\r\n");
            let mut reply = format!("${}\r\n", big.len()).into_bytes();
            reply.extend_from_slice(&big);
            reply.extend_from_slice(b"\r\n+PONG\r\n");
            exchange(&mut c, b"GET big\r\nPING\r\n", &reply);
            // It hears what the plain port has set, and the other way round.
            assert_eq!(server.wire().run("GET a"), bulk("1"));
            exchange(&mut c, b"QUIT\r\n", b"+OK\r\n");
            assert_eq!(c.read(&mut [0; 1]).unwrap(), 0, "an orderly end");
        }
        let info = server.wire().run("INFO clients").as_text();
        assert!(info.contains("connected_clients:1\r\n"), "{info}");
    }
}

#[test]
fn clients_are_authenticated_as_configured() {
    if plain() {
        return;
    }
    let certs = Certs::make("clients");
    for (setting, nobody, stranger) in [("yes", false, false), ("optional", true, false), ("no", true, true)] {
        let server = start(&certs, &["--tls-auth-clients", setting]);
        let port = server.port + 1;
        assert!(client(&certs, Some("client")).gets_in(port), "{setting}");
        assert_eq!(client(&certs, None).gets_in(port), nobody, "{setting}");
        assert_eq!(client(&certs, Some("stranger")).gets_in(port), stranger, "{setting}");
        // Who does not speak TLS at all.
        let mut raw = Wire::connect(port);
        raw.send("PING\r\nPING\r\nPING\r\nPING\r\n");
        raw.drain_until_closed(Duration::from_secs(30));
        assert_eq!(server.wire().run("PING"), simple("PONG"));
    }
}

#[test]
fn protocols_and_ciphers_are_limited() {
    if plain() {
        return;
    }
    let certs = Certs::make("protocols");
    let server = start(&certs, &["--tls-protocols", "TLSv1.3"]);
    let old = Client { certs: &certs, identity: Some("client"), versions: &TLS12 };
    let new = Client { certs: &certs, identity: Some("client"), versions: &TLS13 };
    let port = server.port + 1;
    assert!(!old.gets_in(port) && new.gets_in(port));
    let mut c = server.wire();
    assert_eq!(c.run("CONFIG SET tls-protocols TLSv1.2"), ok());
    assert!(old.gets_in(port) && !new.gets_in(port));
    for (name, value) in [
        ("tls-protocols", "TLSv1.1"),
        ("tls-ciphers", "AES128-SHA256"),
        ("tls-ciphersuites", "TLS_AES_128_CCM_SHA256"),
        ("tls-cert-file", "/nonexistent"),
        ("tls-key-file", &certs.path("client.key")),
    ] {
        let refused = c.run(&format!("CONFIG SET {name} {value}"));
        assert!(refused.as_error().contains("Unable to update TLS configuration"), "{name}: {refused:?}");
    }
    assert!(old.gets_in(port));
}

#[test]
fn certificates_are_read_again() {
    if plain() {
        return;
    }
    let certs = Certs::make("again");
    let server = start(&certs, &["--tls-auth-clients", "no"]);
    let (port, mut c) = (server.port + 1, server.wire());
    let mut before = client(&certs, None).connect(port);
    exchange(&mut before, b"PING\r\n", b"+PONG\r\n");
    for kind in ["crt", "key"] {
        std::fs::copy(certs.path(&format!("stranger.{kind}")), certs.path(&format!("server.{kind}"))).unwrap();
    }
    assert!(client(&certs, None).gets_in(port), "files are read when they are set");
    let path = certs.path("server.crt");
    assert_eq!(c.run(&format!("CONFIG SET tls-cert-file {path}")), ok());
    assert!(!client(&certs, None).gets_in(port), "its authority is not known");
    exchange(&mut before, b"PING\r\n", b"+PONG\r\n");
}

#[test]
fn the_port_can_be_the_only_one_and_can_be_moved() {
    if plain() {
        return;
    }
    let certs = Certs::make("port");
    let server = start(&certs, &["--cores", "2"]);
    let mut c = client(&certs, Some("client")).connect(server.port + 1);
    exchange(&mut c, b"CONFIG SET port 0\r\nPING\r\n", b"+OK\r\n+PONG\r\n");
    assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err());
    assert!(client(&certs, Some("client")).gets_in(server.port + 1));
    let request = format!("CONFIG SET tls-port {}\r\n", server.port + 2);
    exchange(&mut c, request.as_bytes(), b"+OK\r\n");
    assert!(client(&certs, Some("client")).gets_in(server.port + 2));
    assert!(TcpStream::connect(("127.0.0.1", server.port + 1)).is_err());
    exchange(&mut c, b"CONFIG SET tls-port 0\r\nPING\r\n", b"+OK\r\n+PONG\r\n");
}

/// Cut at every byte, as the network may do.
#[test]
fn records_arrive_in_any_pieces() {
    if plain() {
        return;
    }
    let certs = Certs::make("pieces");
    let server = start(&certs, &[]);
    let name = ServerName::try_from("localhost").unwrap();
    let config = client(&certs, Some("client")).config();
    let mut link = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", server.port + 1)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    link.writer().write_all(b"SET a 1\r\nGET a\r\n").unwrap();
    let mut got = Vec::new();
    while got != b"+OK\r\n$1\r\n1\r\n" {
        while link.wants_write() {
            let mut out = Vec::new();
            link.write_tls(&mut out).unwrap();
            out.iter().for_each(|b| socket.write_all(&[*b]).unwrap());
        }
        assert!(link.read_tls(&mut socket).unwrap() > 0, "closed after {got:?}");
        let state = link.process_new_packets().unwrap();
        let mut piece = vec![0; state.plaintext_bytes_to_read()];
        link.reader().read_exact(&mut piece).unwrap();
        got.extend(piece);
    }
}

/// With `appendfsync always`, replies that waited for the disk came before those
/// that had been released with them, when a piece of earlier ones was yet to be sent.
#[test]
fn replies_that_waited_for_the_disk_keep_their_order() {
    const ROUNDS: usize = 150;
    let certs = Certs::make("held");
    let server = start(&certs, &["--cores", "2", "--appendonly", "yes", "--appendfsync", "always"]);
    let large = "x".repeat(300_000);
    server.wire().cmd(&["SET", "large", &large]);
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|i| {
            let (over, mut c) = (over.clone(), server.wire());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    c.run(&format!("SET other:{i} x"));
                }
            })
        })
        .collect();
    let mut c = client(&certs, Some("client")).connect(tls_port(server.port));
    let reply = |i: usize| format!(":{i}\r\n$300000\r\n{large}\r\n");
    let (mut next, mut sent) = (1, 0);
    while next <= ROUNDS {
        // Some are always on their way, each in a turn of its own.
        while sent < ROUNDS && sent < next + 20 {
            c.write_all(b"INCR n\r\nGET large\r\n").unwrap();
            sent += 1;
            std::thread::sleep(Duration::from_micros(300));
        }
        let want = reply(next);
        let mut got = vec![0; want.len()];
        c.read_exact(&mut got).unwrap();
        assert!(got == want.as_bytes(), "reply {next} begins with {:?}", String::from_utf8_lossy(&got[..20]));
        next += 1;
    }
    over.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|w| w.join().unwrap());
}

#[test]
fn what_is_missing_is_said_at_start() {
    if plain() {
        return;
    }
    let certs = Certs::make("missing");
    for (args, reason) in [
        (vec!["--tls-port", "1"], "No tls-cert-file configured!"),
        (vec!["--tls-port", "1", "--tls-cert-file", "x"], "No tls-key-file configured!"),
        (vec!["--tls-port", "1", "--tls-cert-file", "x", "--tls-key-file", "y"], "Either tls-ca-cert-file or"),
    ] {
        let mut server = Server::starting(&args);
        assert!(!server.wait_exit(Duration::from_secs(60)).success());
        assert!(server.log().contains(reason), "{}", server.log());
    }
    drop(certs);
}

/// Debian's client speaks OpenSSL.
#[test]
fn stock_tools_get_in() {
    if plain() {
        return;
    }
    let certs = Certs::make("tools");
    let server = start(&certs, &["--cores", "2"]);
    let port = (server.port + 1).to_string();
    let (ca, cert, key) = (certs.path("ca.crt"), certs.path("client.crt"), certs.path("client.key"));
    let tls = ["-p", &port, "--tls", "--cacert", &ca, "--cert", &cert, "--key", &key];
    let run = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(program).args(tls).args(args).output().expect("run a stock tool");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(run("redis-cli", &["SET", "k", "v"]).trim(), "OK");
    assert_eq!(run("redis-cli", &["GET", "k"]).trim(), "v");
    let report = run("redis-benchmark", &["-n", "2000", "-c", "10", "-P", "4", "-t", "set,get", "-q"]);
    assert!(report.contains("SET:") && report.contains("GET:"), "{report}");
}
