//! The two protocol versions, inline commands, pipelines, and splitting of
//! requests at every byte.

use super::support::{
    Rng, Value, Wire, bulk, each_cores, encode, error, int, nil, ok, simple, wire::encode_into, with_cores,
};
use std::time::Duration;

#[test]
fn hello_switches_versions() {
    each_cores(|server| {
        let mut c = server.wire();
        let hello = c.run("HELLO");
        assert!(matches!(hello, Value::Array(_)));
        assert_eq!(hello.field("proto"), &int(2));
        let hello = c.run("HELLO 3");
        assert!(matches!(hello, Value::Map(_)));
        assert_eq!(hello.field("server"), &bulk("redis"));
        assert_eq!(hello.field("proto"), &int(3));
        assert_eq!(hello.field("mode"), &bulk("standalone"));
        assert_eq!(hello.field("role"), &bulk("master"));
        assert_eq!(hello.field("modules"), &Value::Array(vec![]));
        assert!(hello.field("id").as_int() > 0);
        assert_eq!(c.run("GET missing"), Value::Null);
        let hello = c.run("HELLO 2 SETNAME me");
        assert!(matches!(hello, Value::Array(_)));
        assert_eq!(c.run("GET missing"), nil());
        assert_eq!(c.run("CLIENT GETNAME"), bulk("me"));
    });
}

#[test]
fn hello_refuses_what_it_does_not_know() {
    each_cores(|server| {
        let mut c = server.wire();
        for (command, text) in [
            ("HELLO 1", "NOPROTO unsupported protocol version"),
            ("HELLO 4", "NOPROTO unsupported protocol version"),
            ("HELLO a", "ERR Protocol version is not an integer or out of range"),
            ("HELLO 3 foo", "ERR Syntax error in HELLO option 'foo'"),
            ("HELLO 2 AUTH a b", "WRONGPASS invalid username-password pair or user is disabled."),
            ("HELLO 2 AUTH a", "ERR Syntax error in HELLO option 'AUTH'"),
        ] {
            assert_eq!(c.run(command).as_error(), text, "{command}");
        }
        // A refused HELLO leaves the version as it was.
        assert_eq!(c.run("GET missing"), nil());
    });
}

/// A request that arrives in two parts, cut at every byte, and one byte at a
/// time, means the same.
#[test]
fn requests_split_at_every_byte() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut request = encode(&["SET", "key", "value\r\n*1\r\n"]);
        request.extend_from_slice(b"GET key\r\n");
        encode_into(&mut request, &["STRLEN", "key"]);
        let expected = [ok(), bulk("value\r\n*1\r\n"), int(11)];
        for cut in 0..=request.len() {
            c.send(&request[..cut]);
            std::thread::sleep(Duration::from_micros(300));
            c.send(&request[cut..]);
            for value in &expected {
                assert_eq!(&c.read(), value, "cut at {cut}");
            }
        }
        for byte in &request {
            c.send([*byte]);
            std::thread::sleep(Duration::from_micros(300));
        }
        for value in &expected {
            assert_eq!(&c.read(), value);
        }
    });
}

#[test]
fn inline_commands() {
    each_cores(|server| {
        let mut c = server.wire();
        for (line, reply) in [
            ("PING\r\n", simple("PONG")),
            ("PING\n", simple("PONG")),
            ("\r\n\r\n  \r\nPING\r\n", simple("PONG")),
            ("  PING   hello  \r\n", bulk("hello")),
            ("\"PING\"\r\n", simple("PONG")),
            ("ECHO \"\\x41\\n\\t\\\"\"\r\n", bulk("A\n\t\"")),
            ("ECHO 'it\\'s \\n'\r\n", bulk("it's \\n")),
            ("ECHO \"\"\r\n", bulk("")),
            ("SET inline \"a b\"\r\n", ok()),
            ("get inline\r\n", bulk("a b")),
            // These two separate words only where a word may not stand.
            ("\x0b\x0cECHO \x0b\"a\"\x0c\r\n", bulk("a")),
            ("ECHO a\x0bb\x0c\r\n", bulk("a\x0bb\x0c")),
            ("ECHO\x0ba\r\n", error("ERR unknown command 'ECHO\x0ba', with args beginning with: ")),
        ] {
            c.send(line);
            assert_eq!(c.read(), reply, "{line:?}");
        }
    });
}

/// The empty requests `*0` and `*-1` have no reply at all.
#[test]
fn empty_requests_are_skipped() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("*0\r\n*-1\r\n*-5\r\n\r\nPING\r\n*0\r\nPING again\r\n");
        assert_eq!(c.read(), simple("PONG"));
        assert_eq!(c.read(), bulk("again"));
    });
}

#[test]
fn a_pipeline_of_100k_commands_keeps_its_order() {
    each_cores(|server| {
        let mut c = server.wire();
        const COMMANDS: usize = 100_000;
        let mut request = Vec::new();
        for i in 0..COMMANDS / 2 {
            let (key, value) = (format!("key:{}", i % 5000), format!("value:{i}"));
            encode_into(&mut request, &["SET", &key, &value]);
            encode_into(&mut request, &["GET", &key]);
        }
        let replies = c.pipeline(&request, COMMANDS);
        for (i, pair) in replies.chunks_exact(2).enumerate() {
            assert_eq!(pair[0], ok());
            assert_eq!(pair[1], bulk(format!("value:{i}")));
        }
    });
}

/// A client that sends a whole pipeline before it reads anything.
#[test]
fn a_pipeline_may_be_sent_before_any_reply_is_read() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut request = Vec::new();
        for i in 0..20_000 {
            encode_into(&mut request, &["ECHO", &format!("echo-{i}")]);
        }
        c.send(&request);
        for i in 0..20_000 {
            assert_eq!(c.read(), bulk(format!("echo-{i}")));
        }
    });
}

#[test]
fn errors_inside_a_pipeline_stop_nothing() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("SET a 1\r\nNOSUCH\r\nGET\r\nINCR a\r\n");
        assert_eq!(c.read(), ok());
        assert_eq!(c.read().as_error(), "ERR unknown command 'NOSUCH', with args beginning with: ");
        assert_eq!(c.read().as_error(), "ERR wrong number of arguments for 'get' command");
        assert_eq!(c.read(), int(2));
    });
}

/// The text names at most 128 bytes of arguments.
#[test]
fn unknown_commands_name_their_arguments() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(
            c.run("foo bar baz").as_error(),
            "ERR unknown command 'foo', with args beginning with: 'bar' 'baz' "
        );
        let long = "a".repeat(300);
        assert_eq!(
            c.cmd(&["foo", &long, "b"]).as_error(),
            format!("ERR unknown command 'foo', with args beginning with: '{}' ", "a".repeat(128))
        );
        assert_eq!(
            c.cmd(&["fo\r\no", "b\nc"]).as_error(),
            "ERR unknown command 'fo  o', with args beginning with: 'b c' "
        );
    });
}

#[test]
fn quit_answers_and_closes() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("SET a 1\r\nQUIT\r\nSET a 2\r\n");
        assert_eq!(c.read(), ok());
        assert_eq!(c.read(), ok());
        c.expect_closed();
        assert_eq!(server.wire().run("GET a"), bulk("1"));
    });
}

fn round_trip(c: &mut Wire, key: &str, value: &[u8]) {
    let set = encode(&[b"SET", key.as_bytes(), value]);
    assert_eq!(c.pipeline(&set, 1), [ok()]);
    let got = c.run(&format!("GET {key}"));
    assert!(got.as_bytes() == value, "{} bytes came back changed", value.len());
}

#[test]
fn values_of_any_bytes_and_sizes() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut rng = Rng::new(1);
        for size in [
            0, 1, 2, 43, 44, 45, 1023, 1024, 4095, 4096, 16_383, 16_384, 16_385, 32_767, 32_768, 65_535, 65_536,
            1_000_000,
        ] {
            round_trip(&mut c, "sized", &rng.bytes(size));
            assert_eq!(c.run("STRLEN sized"), int(size as i64));
        }
    });
}

/// 64 MB, and small requests of another client are answered meanwhile.
#[test]
fn a_value_of_64_megabytes() {
    with_cores(1, |server| {
        let mut c = server.wire();
        let mut other = server.wire();
        let mut pattern = Rng::new(2).bytes(1 << 20);
        pattern = pattern.repeat(64);
        let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", pattern.len());
        c.send(&head);
        for (i, chunk) in pattern.chunks(1_000_003).enumerate() {
            c.send(chunk);
            if i % 8 == 0 {
                assert_eq!(other.run("PING"), simple("PONG"));
            }
        }
        c.send("\r\n");
        assert_eq!(c.read(), ok());
        assert_eq!(c.run("STRLEN big"), int(64 << 20));
        assert!(c.run("GET big").as_bytes() == pattern);
        assert_eq!(c.run("GETRANGE big 1048576 1048579"), bulk(&pattern[..4]));
    });
}

/// Random pipelines cut at random places.
#[test]
fn random_pipelines_in_random_chunks() {
    each_cores(|server| {
        let mut c = server.wire();
        let mut rng = Rng::new(3);
        for _ in 0..50 {
            let mut request = Vec::new();
            let mut expected = Vec::new();
            for _ in 0..rng.below(40) + 1 {
                let size = if rng.one_in(10) { rng.below(100_000) } else { rng.below(100) };
                let value = rng.bytes(size);
                encode_into(&mut request, &[b"ECHO".as_slice(), &value]);
                expected.push(bulk(value));
            }
            let mut out = c.stream().try_clone().expect("clone the socket");
            let mut cuts = rng.clone();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    use std::io::Write;
                    let mut rest = request.as_slice();
                    while !rest.is_empty() {
                        let n = (cuts.below(20_000) + 1).min(rest.len());
                        out.write_all(&rest[..n]).expect("send");
                        rest = &rest[n..];
                    }
                });
                for value in &expected {
                    assert!(&c.read() == value, "a changed echo");
                }
            });
        }
    });
}
