//! Malformed requests of every kind, with the texts that Redis answers before
//! it closes, and input that must not be mistaken for malformed.

use super::support::{Rng, Server, Wire, each_cores, error, simple, with_cores};
use std::time::Duration;

const MULTIBULK_LENGTH: &str = "invalid multibulk length";
const BULK_LENGTH: &str = "invalid bulk length";
const QUOTES: &str = "unbalanced quotes in request";

#[test]
fn protocol_errors_have_their_texts_and_close() {
    let long = "1".repeat(70_000);
    let cases: &[(String, &str)] = &[
        ("*a\r\n".into(), MULTIBULK_LENGTH),
        ("*\r\n".into(), MULTIBULK_LENGTH),
        ("* 1\r\n".into(), MULTIBULK_LENGTH),
        ("*+1\r\n$4\r\nPING\r\n".into(), MULTIBULK_LENGTH),
        ("*00001\r\n$4\r\nPING\r\n".into(), MULTIBULK_LENGTH),
        ("*2147483648\r\n".into(), MULTIBULK_LENGTH),
        ("*9223372036854775807\r\n".into(), MULTIBULK_LENGTH),
        ("*99999999999999999999\r\n".into(), MULTIBULK_LENGTH),
        ("*-9223372036854775809\r\n".into(), MULTIBULK_LENGTH),
        ("*1\r\nPING\r\n".into(), "expected '$', got 'P'"),
        ("*1\r\n:4\r\n".into(), "expected '$', got ':'"),
        ("*1\r\n\r\n".into(), "expected '$', got ' '"),
        ("*2\r\n$4\r\nPING\r\n*1\r\n".into(), "expected '$', got '*'"),
        ("*1\r\n$a\r\n".into(), BULK_LENGTH),
        ("*1\r\n$\r\n".into(), BULK_LENGTH),
        ("*1\r\n$-1\r\n".into(), BULK_LENGTH),
        ("*1\r\n$-0\r\n".into(), BULK_LENGTH),
        ("*1\r\n$+4\r\nPING\r\n".into(), BULK_LENGTH),
        ("*1\r\n$04\r\nPING\r\n".into(), BULK_LENGTH),
        ("*1\r\n$536870913\r\n".into(), BULK_LENGTH),
        ("*1\r\n$9223372036854775807\r\n".into(), BULK_LENGTH),
        ("*1\r\n$99999999999999999999\r\n".into(), BULK_LENGTH),
        ("SET \"a b\r\n".into(), QUOTES),
        ("SET 'a b\r\n".into(), QUOTES),
        ("SET \"a\"b c\r\n".into(), QUOTES),
        ("SET 'a'b c\r\n".into(), QUOTES),
        ("x".repeat(70_000), "too big inline request"),
        (format!("*{long}"), "too big mbulk count string"),
        (format!("*1\r\n${long}"), "too big bulk count string"),
    ];
    each_cores(|server| {
        for (request, text) in cases {
            let mut c = server.wire();
            let shown: String = request.chars().take(60).collect();
            // The server may close before it has taken in everything.
            let _ = c.try_send(request);
            match c.try_read() {
                Ok(reply) => assert_eq!(reply, error(&format!("ERR Protocol error: {text}")), "{shown:?}"),
                Err(e) => panic!("{shown:?}: {e}"),
            }
            c.drain_until_closed(Duration::from_secs(5));
        }
        assert_eq!(server.wire().run("PING"), simple("PONG"));
    });
}

/// Commands before the malformed one are executed and answered.
#[test]
fn what_precedes_an_error_is_answered() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("SET a 1\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$x\r\nSET a 2\r\n");
        assert_eq!(c.read(), simple("OK"));
        assert_eq!(c.read().as_bytes(), b"1");
        assert_eq!(c.read().as_error(), "ERR Protocol error: invalid bulk length");
        c.expect_closed();
        assert_eq!(server.wire().run("GET a").as_bytes(), b"1");
    });
}

/// A web page must not be able to make a browser send commands.
#[test]
fn http_requests_are_cut_off() {
    each_cores(|server| {
        for request in [
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nSET a 1\r\n",
            "Host: localhost\r\nSET a 1\r\n",
            "*1\r\n$5\r\nHOST:\r\nSET a 1\r\n",
        ] {
            let mut c = server.wire();
            c.send(request);
            c.expect_closed();
        }
        assert!(server.wire().run("GET a").is_nil());
    });
}

/// The two bytes after a bulk string are not looked at, nor the second byte of
/// a line end; clients in the field rely on neither, but nothing may break.
#[test]
fn line_ends_are_skipped_unread() {
    each_cores(|server| {
        let mut c = server.wire();
        for request in ["*1\r\n$4\r\nPINGxx", "*1\r\n$4\rXPING\r\n", "*1\rX$4\r\nPING\r\n"] {
            c.send(request);
            assert_eq!(c.read(), simple("PONG"), "{request:?}");
        }
    });
}

#[test]
fn incomplete_requests_wait() {
    each_cores(|server| {
        for request in ["*1\n$4\nPING\n", "*", "*1", "*1\r", "*1024\r\n", "*1\r\n$", "PING"] {
            let mut c = server.wire();
            c.send(request);
            c.expect_silence(Duration::from_millis(30));
        }
    });
}

/// A client that may not do anything yet may not make us reserve memory.
#[test]
fn before_authentication_requests_are_small() {
    let server = Server::start(&["--requirepass", "secret"]);
    for (request, text) in [
        ("*11\r\n", "ERR Protocol error: unauthenticated multibulk length"),
        ("*1\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"),
    ] {
        let mut c = server.wire();
        c.send(request);
        assert_eq!(c.read().as_error(), text);
        c.expect_closed();
    }
    let mut c = server.wire();
    assert_eq!(c.run("GET a").as_error(), "NOAUTH Authentication required.");
    // The rest of the text differs between stock versions.
    let text = "NOAUTH HELLO must be called with the client already authenticated";
    assert!(c.run("HELLO 3").as_error().starts_with(text));
    assert!(c.run("AUTH wrong").as_error().starts_with("WRONGPASS"));
    assert_eq!(c.run("AUTH secret"), simple("OK"));
    c.send("*11\r\n$3\r\nDEL\r\n");
    for _ in 0..10 {
        c.send("$1\r\nk\r\n");
    }
    assert_eq!(c.read().as_int(), 0);
}

/// `client-query-buffer-limit` closes a client whose requests pile up.
#[test]
fn the_query_buffer_is_limited() {
    let server = Server::start(&["--client-query-buffer-limit", "1mb"]);
    let mut c = server.wire();
    let mut sent = 0;
    c.send("*2\r\n$4\r\nECHO\r\n$134217728\r\n");
    while sent < (64 << 20) && c.try_send([b'x'; 65_536]).is_ok() {
        sent += 65_536;
    }
    assert!(sent < (64 << 20), "took in 64 MB with a limit of 1 MB");
    assert_eq!(server.wire().run("PING"), simple("PONG"));
}

#[test]
fn proto_max_bulk_len_is_a_limit() {
    let server = Server::start(&["--proto-max-bulk-len", "1mb"]);
    let mut c = server.wire();
    c.send("*2\r\n$4\r\nECHO\r\n$1048577\r\n");
    assert_eq!(c.read().as_error(), "ERR Protocol error: invalid bulk length");
    c.expect_closed();
    let mut c = server.wire();
    c.run("SET a 1");
    assert_eq!(
        c.run("SETRANGE a 1048576 x").as_error(),
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    );
}

/// Huge announced lengths alone must not cost memory.
#[test]
fn announced_lengths_are_not_reserved() {
    with_cores(1, |server| {
        let before = super::support::process::resident_bytes(server.pid());
        let mut open: Vec<Wire> = Vec::new();
        for _ in 0..50 {
            let mut c = server.wire();
            c.send("*1048576\r\n$536870912\r\nabc");
            open.push(c);
        }
        assert_eq!(server.wire().run("PING"), simple("PONG"));
        let grown = super::support::process::resident_bytes(server.pid()).saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for 50 unfinished requests");
    });
}

/// Random bytes, and valid requests with bytes changed: never a crash, and
/// other clients go on.
#[test]
fn random_bytes_never_harm() {
    each_cores(|server| {
        let mut rng = Rng::new(11);
        let mut quiet = server.wire();
        for round in 0..400 {
            let mut bytes = if rng.one_in(3) {
                let size = rng.below(3000) + 1;
                rng.bytes(size)
            } else {
                mutated_request(&mut rng)
            };
            bytes.extend_from_slice(b"\r\n");
            let mut c = server.wire();
            let _ = c.try_send(&bytes);
            if round % 20 == 0 {
                assert_eq!(quiet.run("PING"), simple("PONG"));
            }
        }
        assert_eq!(quiet.run("PING"), simple("PONG"));
    });
}

fn mutated_request(rng: &mut Rng) -> Vec<u8> {
    const WORDS: [&str; 12] =
        ["SET", "GET", "MSET", "MULTI", "EXEC", "k1", "k2", "", "-1", "BITFIELD", "EX", "9223372036854775807"];
    let mut bytes = Vec::new();
    for _ in 0..rng.below(5) + 1 {
        let args: Vec<&str> = (0..rng.below(6) + 1).map(|_| *rng.pick(&WORDS)).collect();
        super::support::wire::encode_into(&mut bytes, &args);
    }
    for _ in 0..rng.below(4) + 1 {
        let at = rng.below(bytes.len());
        match rng.below(3) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes.insert(at, *rng.pick(b"*$\r\n0-+9 ")),
            _ => drop(bytes.remove(at)),
        }
        if bytes.is_empty() {
            bytes.push(b'*');
        }
    }
    bytes
}
