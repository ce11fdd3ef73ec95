//! The metrics' endpoint, by a plain HTTP client.

use super::support::{Server, eventually, int, ok, plain};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn start(cores: &str) -> (Server, u16) {
    let mut port = 0;
    let server = Server::start_with(|base| {
        port = base + 9;
        ["--cores", cores, "--metrics-port", &port.to_string()].map(str::to_owned).to_vec()
    });
    (server, port)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// What comes until the server closes.
fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn ask(port: u16, request: &str) -> String {
    let mut stream = connect(port);
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream)
}

fn scrape(port: u16) -> String {
    let text = ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    body.to_owned()
}

fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

/// Every line is a comment or a sample, and the samples of a metric stand
/// together behind its type.
fn check_format(page: &str) {
    let mut seen = Vec::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind) && !seen.contains(&name), "{line}");
            seen.push(name);
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(seen.last(), Some(&name), "{line}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(page.ends_with('\n') && seen.len() > 80, "{} metrics", seen.len());
}

#[test]
fn the_page_tells_what_info_tells() {
    if plain() {
        return;
    }
    for cores in ["1", "4"] {
        let (server, port) = start(cores);
        let mut c = server.wire();
        for i in 0..100 {
            assert_eq!(c.run(&format!("SET key:{i} v")), ok());
        }
        assert_eq!(c.run("EXPIRE key:1 1000"), int(1));
        c.run("LPUSH key:1 x");
        let page = scrape(port);
        check_format(&page);
        for (name, value) in [
            ("redis_up", 1.0),
            ("redis_connected_clients", 1.0),
            ("redis_db_keys{db=\"db0\"}", 100.0),
            ("redis_db_keys_expiring{db=\"db0\"}", 1.0),
            ("redis_commands_total{cmd=\"set\"}", 100.0),
            ("redis_commands_failed_calls_total{cmd=\"lpush\"}", 1.0),
            ("redis_errors_total{err=\"WRONGTYPE\"}", 1.0),
            ("coreslot_data_cores", cores.parse().unwrap()),
        ] {
            assert_eq!(sample(&page, name), value, "{name}");
        }
        assert!(sample(&page, "redis_memory_used_bytes") > 100_000.0);
        assert!(sample(&page, "redis_commands_duration_seconds_total{cmd=\"set\"}") > 0.0);
        let keys = |core: usize| sample(&page, &format!("coreslot_core_keys{{core=\"{core}\"}}"));
        assert_eq!((0..cores.parse().unwrap()).map(keys).sum::<f64>(), 100.0);
        // Scraping is no command, and is nobody's connection.
        let again = scrape(port);
        assert_eq!(sample(&again, "redis_commands_processed_total"), sample(&page, "redis_commands_processed_total"));
        assert_eq!(
            sample(&again, "redis_connections_received_total"),
            sample(&page, "redis_connections_received_total")
        );
    }
}

#[test]
fn other_requests_are_refused() {
    if plain() {
        return;
    }
    let (server, port) = start("2");
    let refused = |request: &str, status: &str| {
        let text = ask(port, request);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {text}");
        assert!(text.contains("Connection: close"));
    };
    refused("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "405 ");
    refused("PUT /metrics HTTP/1.1\r\n\r\n", "405 ");
    refused("GET / HTTP/1.1\r\n\r\n", "404 ");
    refused("GET /metrics/ HTTP/1.1\r\n\r\n", "404 ");
    refused("PING\r\n\r\n", "400 ");
    refused(&format!("GET /metrics HTTP/1.1\r\nX: {}\r\n", "x".repeat(9000)), "431 ");
    let text = ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    // Half a request, and then nothing.
    let mut half = connect(port);
    half.write_all(b"GET /met").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(answer(half), "");
    // Byte by byte.
    let mut slow = connect(port);
    for byte in b"GET /metrics HTTP/1.1\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
    }
    assert!(answer(slow).contains("redis_up 1\n"));
    drop(server);
}

/// Connections that ask nothing take nobody's place for long, and the data
/// cores notice nothing of them.
#[test]
fn idle_connections_are_bounded() {
    if plain() {
        return;
    }
    let (server, port) = start("2");
    let idle: Vec<TcpStream> = (0..16).map(|_| connect(port)).collect();
    eventually("a refusal", LIMIT, || ask(port, "GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
    let mut c = server.wire();
    assert_eq!(c.run("SET a b"), ok());
    assert!(c.run("INFO clients").as_text().contains("connected_clients:1"));
    // Beyond those that hear why, nobody is heard at all.
    let more: Vec<TcpStream> = (0..8).map(|_| connect(port)).collect();
    eventually("a closed door", LIMIT, || {
        let closed = |read: std::io::Result<usize>| match read {
            Ok(n) => n == 0,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        };
        closed(connect(port).read(&mut [0; 16]))
    });
    drop((idle, more));
    eventually("room again", LIMIT, || ask(port, "GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_taken_port_is_said_at_start() {
    if plain() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let block = super::support::ports::Block::claim();
    let args = ["--metrics-port", &port.to_string()];
    let (code, log) = super::support::server::run_to_end(&args, block.base);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
}
