//! AUTH and CONFIG SET: what a change does to connections, on every core.

use super::support::{Wire, bulk, each_cores, error, int, nil, ok, simple};

/// A password holds for new connections; without one again, nobody needs it.
#[test]
fn a_password_is_asked_of_new_connections() {
    each_cores(|server| {
        let mut old = server.wire();
        assert_eq!(old.run("CONFIG SET requirepass secret"), ok());
        assert_eq!(old.run("GET a"), nil());
        let mut new: Vec<Wire> = (0..8).map(|_| server.wire()).collect();
        for c in &mut new {
            assert_eq!(c.run("GET a"), error("NOAUTH Authentication required."));
            assert!(c.run("AUTH wrong").as_error().starts_with("WRONGPASS "));
            assert!(c.run("HELLO 3").as_error().starts_with("NOAUTH HELLO must be called"));
        }
        assert_eq!(new[0].run("AUTH secret"), ok());
        assert!(!new[1].run("HELLO 2 AUTH default secret").is_error());
        assert_eq!(new[1].run("RESET"), simple("RESET"));
        assert_eq!(new[1].run("GET a"), error("NOAUTH Authentication required."));
        assert_eq!(old.cmd(&["CONFIG", "SET", "requirepass", ""]), ok());
        for c in &mut new {
            assert_eq!(c.run("GET a"), nil());
        }
    });
}

/// A pipeline may log in and go on: limits on strangers end with AUTH, even if
/// what follows came in the same packet.
#[test]
fn one_packet_logs_in_and_goes_on() {
    each_cores(|server| {
        server.wire().run("CONFIG SET requirepass secret");
        let mut c = server.wire();
        let big = "x".repeat(20_000);
        c.send(format!("*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$20000\r\n{big}\r\n"));
        assert_eq!(c.read(), ok());
        assert_eq!(c.read(), ok());
        assert_eq!(c.run("STRLEN a"), int(20_000));
    });
}

#[test]
fn a_new_port_takes_the_place_of_the_old() {
    each_cores(|server| {
        let mut c = server.wire();
        let port = server.port + 1;
        assert_eq!(c.run(&format!("CONFIG SET port {port}")), ok());
        for _ in 0..8 {
            assert_eq!(Wire::connect(port).run("PING"), simple("PONG"));
        }
        assert!(Wire::try_connect(server.port).is_err());
        assert_eq!(c.run(&format!("CONFIG SET port {}", server.port)), ok());
        assert_eq!(server.wire().run("PING"), simple("PONG"));
    });
}

/// CLIENT REPLY SKIP counts for whatever comes next, a refusal included.
#[test]
fn skipped_replies_of_refused_commands() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("CLIENT REPLY SKIP\r\nNOSUCH\r\nPING\r\n");
        assert_eq!(c.read(), simple("PONG"));
        c.send("CLIENT REPLY SKIP\r\nMULTI\r\nPING\r\nEXEC\r\n");
        assert_eq!(c.read(), simple("QUEUED"));
        assert_eq!(c.read().items(), [simple("PONG")]);
    });
}

/// A change made inside a transaction is seen by what follows in it.
#[test]
fn changes_within_a_transaction() {
    each_cores(|server| {
        let mut c = server.wire();
        c.send("MULTI\r\nCONFIG SET timeout 7\r\nCONFIG GET timeout\r\nCONFIG SET timeout 0\r\nEXEC\r\n");
        for _ in 0..4 {
            c.read();
        }
        let replies = c.read();
        assert_eq!(replies.items()[0], ok());
        assert_eq!(replies.items()[1].field("timeout"), &bulk("7"));
        assert_eq!(replies.items()[2], ok());
    });
}

#[test]
fn passwords_stay_out_of_the_slow_log() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("CONFIG SET slowlog-log-slower-than 0");
        c.run("AUTH default sesame");
        c.run("HELLO 2 AUTH default sesame");
        c.run("CONFIG SET requirepass sesame timeout 0");
        let log = format!("{:?}", c.run("SLOWLOG GET 100"));
        assert!(log.contains("(redacted)") && !log.contains("sesame"), "{log}");
    });
}
