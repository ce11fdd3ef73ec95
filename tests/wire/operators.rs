//! What an operator is told: by the log, by exit codes, by `ps`, by COMMAND.

use super::support::{Server, Value, eventually, ok, ports::Block, simple};
use std::net::TcpListener;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn last_lines(server: &Server, n: usize) -> Vec<String> {
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(n)..]
        .iter()
        .map(|l| l.splitn(7, ' ').skip(5).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The reply sends the operator to the log, where nothing said that the change was
/// taken back, nor that the line before was a warning.
#[test]
fn a_configuration_that_cannot_be_applied_is_in_the_log() {
    let server = Server::start(&["--cores", "2"]);
    let mut c = server.wire();
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("its number").port();
    let cases = [
        (format!("port {port}"), format!(":{port}: bind: Address already in use")),
        ("bind 192.0.2.1".into(), format!("192.0.2.1:{}: bind: Cannot assign requested address", server.port)),
        (format!("tls-port {port}"), "No tls-cert-file configured!".into()),
    ];
    for (change, why) in cases {
        assert!(c.run(&format!("CONFIG SET {change}")).is_error(), "{change}");
        let name = change.split(' ').next().expect("a name");
        let [first, second] = &last_lines(&server, 2)[..] else { panic!("{}", server.log()) };
        let prefix = if name == "tls-port" { "# " } else { "# Warning: Could not create server TCP listening socket " };
        assert!(first.starts_with(prefix) && first.ends_with(&why), "{first}");
        let expected = format!(
            "# Failed applying new configuration. Possibly related to new {name} setting. Restoring previous settings."
        );
        assert_eq!(*second, expected);
    }
    assert_eq!(c.run("PING"), simple("PONG"));
}

#[test]
fn help_goes_to_standard_error_with_code_1() {
    let (code, output) = run_to_end_bare(&["--help"]);
    assert_eq!(code, Some(1));
    assert!(output.contains("Usage: coreslot-server"), "{output}");
}

/// Whether all is well is for this machine to say; that each check has its line and
/// the code follows from them is not.
#[test]
fn the_machine_is_checked_on_request() {
    let (code, output) = run_to_end_bare(&["--check-system"]);
    for name in ["kernel", "slow-clocksource", "overcommit", "THP", "somaxconn", "open-files"] {
        let said = ["OK", "WARNING:", "skipped"].map(|verdict| format!("[{name}]...{verdict}"));
        assert!(output.lines().any(|l| said.iter().any(|s| s == l)), "{name}: {output}");
    }
    assert_eq!(code, Some(i32::from(output.contains("WARNING"))), "{output}");
}

/// Runs the program with nothing but these words.
fn run_to_end_bare(words: &[&str]) -> (Option<i32>, String) {
    let done = std::process::Command::new(super::support::server::binary()).args(words).output().expect("a run");
    let text = [done.stdout, done.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    (done.status.code(), text.concat())
}

/// A signal that nothing sends but timers of others.
#[test]
fn an_alarm_ends_nothing() {
    let server = Server::start(&["--cores", "1"]);
    server.signal(libc::SIGALRM);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.wire().run("PING"), simple("PONG"));
}

#[test]
fn the_title_of_a_server_without_ports_is_its_socket() {
    let block = Block::claim();
    let path = std::env::temp_dir().join(format!("coreslot-title-{}", block.base));
    let text = path.to_str().expect("text");
    let mut server = Server::starting(&["--cores", "1", "--port", "0", "--unixsocket", text]);
    assert_eq!(server.outcome(LIMIT), None, "{}", server.log());
    let title = || std::fs::read_to_string(format!("/proc/{}/cmdline", server.pid())).unwrap_or_default();
    eventually("the title", LIMIT, || title().trim_end_matches('\0').ends_with(&format!(" unixsocket:{text}")));
}

/// Descriptions were found by the old names only, although COMMAND GETKEYS and
/// clients went by the new ones; parts of a command that was taken away were listed.
#[test]
fn renamed_commands_are_described_by_their_new_names() {
    let renames = [["PING", "Pong"], ["CONFIG", "cfg"], ["SLOWLOG", ""]];
    let args: Vec<&str> = renames.iter().flat_map(|[from, to]| ["--rename-command", from, to]).collect();
    let server = Server::start(&[&["--cores", "1"], &args[..]].concat());
    let mut c = server.wire();
    for (asked, shown) in [("pong", "ping"), ("PONG", "ping"), ("cfg", "config"), ("cfg|get", "config|get")] {
        assert_eq!(c.run(&format!("COMMAND INFO {asked}")).items()[0].items()[0].as_text(), shown);
        assert_eq!(c.run(&format!("COMMAND DOCS {asked}")).items()[0].as_text(), shown);
    }
    for asked in ["ping", "config", "config|get", "slowlog", "slowlog|get", "cfg|get|x", "cfg|"] {
        assert!(c.run(&format!("COMMAND INFO {asked}")).items()[0].is_nil(), "{asked}");
        assert_eq!(c.run(&format!("COMMAND DOCS {asked}")).items().len(), 0, "{asked}");
    }
    let listed: Vec<String> = c.run("COMMAND LIST").items().iter().map(Value::as_text).collect();
    assert!(listed.iter().any(|n| n == "config|get") && !listed.iter().any(|n| n.starts_with("slowlog")));
    assert_eq!(c.run("pong"), simple("PONG"));
    assert_eq!(c.run("cfg resetstat"), ok());
    c.run("pong");
    assert_eq!(c.run("LATENCY HISTOGRAM pong").items()[0].as_text(), "ping");
    assert_eq!(c.run("LATENCY HISTOGRAM ping").items().len(), 0);
}
