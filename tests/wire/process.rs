//! Start and end of the process: arguments, configuration files, signals,
//! SHUTDOWN, exit codes and messages.

use super::support::ports::Block;
use super::support::{Server, bulks, each_cores, ok, server::run_to_end, simple, wire::encode_into};
use std::time::{Duration, Instant};

const EXIT_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn sigterm_and_sigint_end_with_code_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        for cores in ["1", "4"] {
            let mut server = Server::start(&["--cores", cores]);
            let mut c = server.wire();
            assert_eq!(c.run("SET a 1"), ok());
            server.signal(signal);
            assert_eq!(server.wait_exit(EXIT_LIMIT).code(), Some(0));
            c.expect_closed();
        }
    }
}

#[test]
fn sigterm_under_load_is_quick() {
    for cores in ["1", "4"] {
        let mut server = Server::start(&["--cores", cores]);
        let port = server.port;
        let load: Vec<_> = (0..4)
            .map(|id| {
                std::thread::spawn(move || {
                    let mut c = super::support::Wire::connect(port);
                    let mut request = Vec::new();
                    for i in 0..100 {
                        encode_into(&mut request, &["MSET", &format!("{id}:{i}"), "v", "b", "w"]);
                    }
                    while c.try_send(&request).is_ok() {
                        for _ in 0..100 {
                            if c.try_read().is_err() {
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(EXIT_LIMIT).code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        for thread in load {
            thread.join().expect("a load thread");
        }
    }
}

#[test]
fn shutdown_commands() {
    for command in ["SHUTDOWN", "SHUTDOWN NOSAVE", "SHUTDOWN NOW", "SHUTDOWN NOSAVE FORCE"] {
        let mut server = Server::start(&["--cores", "2"]);
        let mut c = server.wire();
        c.send_words(command);
        c.expect_closed();
        assert_eq!(server.wait_exit(EXIT_LIMIT).code(), Some(0), "{command}");
    }
    each_cores(|server| {
        let mut c = server.wire();
        for command in ["SHUTDOWN BOGUS", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW"] {
            assert_eq!(c.run(command).as_error(), "ERR syntax error", "{command}");
        }
        assert_eq!(c.run("SHUTDOWN ABORT").as_error(), "ERR No shutdown in progress.");
    });
}

#[test]
fn a_port_in_use_ends_with_code_1() {
    let server = Server::start(&[]);
    let (code, output) = run_to_end(&[], server.port);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("Failed listening on port {}", server.port)), "{output}");
    assert_eq!(server.wire().run("PING"), simple("PONG"));
}

#[test]
fn bad_directives_end_with_code_1() {
    let block = Block::claim();
    for (args, line, reason) in [
        (["--nosuch", "yes"], ">>> 'nosuch \"yes\"'", "Bad directive or wrong number of arguments"),
        (["--maxmemory", "lots"], ">>> 'maxmemory \"lots\"'", "argument must be a memory value"),
        (
            ["--maxmemory-policy", "nosuch"],
            ">>> 'maxmemory-policy \"nosuch\"'",
            "argument(s) must be one of the following",
        ),
        (["--databases", "0"], ">>> 'databases \"0\"'", "argument must be between 1 and 2147483647 inclusive"),
    ] {
        let (code, output) = run_to_end(&args, block.base);
        assert_eq!(code, Some(1), "{args:?}: {output}");
        assert!(output.contains("FATAL CONFIG FILE ERROR"), "{output}");
        assert!(output.contains("Reading the configuration file, at line"), "{output}");
        assert!(output.contains(line), "{output}");
        assert!(output.contains(reason), "{output}");
    }
}

/// Whether a command or a rule exists is known only to those who keep them; their
/// lines are named like all others.
#[test]
fn bad_commands_and_users_end_with_the_line_that_has_them() {
    let block = Block::claim();
    let dir = std::env::temp_dir().join(format!("coreslot-lines-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("create a directory");
    let file = dir.join("test.conf");
    for (lines, number, line, reason) in [
        (
            "rename-command GET g\nrename-command NOPE n",
            3,
            "rename-command NOPE n",
            "No such command in rename-command",
        ),
        ("rename-command GET SET", 2, "rename-command GET SET", "Target command name already exists"),
        (
            "user al on\n\nuser bob on ~* +@nonsense",
            4,
            "user bob on ~* +@nonsense",
            "Error in user declaration '+@nonsense': Unknown command or category name in ACL",
        ),
        ("user bob on\nuser bob off", 3, "user bob off", "Error in user declaration 'bob': Duplicate user 'bob' found"),
        ("user bob on (+get", 2, "user bob on (+get", "Error in user declaration '(+get': Unmatched parenthesis"),
    ] {
        std::fs::write(&file, format!("daemonize no\n{lines}\n")).expect("write the file");
        let (code, output) = run_to_end(&[&file.to_string_lossy()], block.base);
        assert_eq!(code, Some(1), "{output}");
        let place = format!("Reading the configuration file, at line {number}\n>>> '{line}'\n{reason}");
        assert!(output.contains("FATAL CONFIG FILE ERROR") && output.contains(&place), "{place}: {output}");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

/// Arguments stand for lines of a file; a file may come first.
#[test]
fn a_configuration_file_comes_first() {
    let dir = std::env::temp_dir().join(format!("coreslot-conf-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("create a directory");
    let file = dir.join("test.conf");
    std::fs::write(
        &file,
        "# A comment\n\nproto-max-bulk-len 100mb\nsave ''\nhz 50\nMAXMEMORY-POLICY allkeys-lru\n\
         client-output-buffer-limit normal 1mb 2mb 3\n",
    )
    .expect("write the file");
    let path = file.to_string_lossy().into_owned();
    let server = Server::start_with_file(&path, &["--hz", "60"]);
    let mut c = server.wire();
    assert_eq!(c.run("CONFIG GET proto-max-bulk-len"), bulks("proto-max-bulk-len 104857600"));
    assert_eq!(c.run("CONFIG GET hz"), bulks("hz 60"));
    assert_eq!(c.run("CONFIG GET maxmemory-policy"), bulks("maxmemory-policy allkeys-lru"));
    let limits = c.run("CONFIG GET client-output-buffer-limit");
    assert!(limits.items()[1].as_text().starts_with("normal 1048576 2097152 3 "));
    assert_eq!(c.run("CONFIG SET hz 70"), ok());
    assert_eq!(c.run("CONFIG REWRITE"), ok());
    let rewritten = std::fs::read_to_string(&file).expect("read the file");
    assert!(rewritten.starts_with("# A comment\n\nproto-max-bulk-len 100mb\n"), "{rewritten}");
    assert!(rewritten.contains("\nhz 70\n"), "{rewritten}");
    drop(server);
    std::fs::remove_dir_all(&dir).expect("remove the directory");
}

#[test]
fn a_missing_configuration_file_ends_with_code_1() {
    let block = Block::claim();
    let path = "no-such-file.conf";
    let (code, output) = super::support::server::run_file_to_end(path, block.base);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("can't open config file"), "{output}");
}

/// What Valkey has besides: formats of the log, the socket's group, the zone.
#[test]
fn directives_of_valkey_do_what_they_say() {
    use std::os::unix::fs::MetadataExt;
    if super::support::plain() {
        return;
    }
    let socket = std::env::temp_dir().join(format!("coreslot-group-{}.sock", std::process::id()));
    let path = socket.to_string_lossy().into_owned();
    // Another group than the process's own, if it may choose one.
    // SAFETY: a plain call.
    let (group, number) = if unsafe { libc::geteuid() } == 0 { ("daemon", 1) } else { ("", 0) };
    let args = ["--unixsocket", &path, "--unixsocketgroup", group, "--log-format", "logfmt"];
    let server =
        Server::start(&[&args[..], &["--availability-zone", "b 2", "--log-timestamp-format", "iso8601"]].concat());
    assert!(group.is_empty() || std::fs::metadata(&socket).expect("the socket").gid() == number);
    let line = |server: &Server, text: &str| {
        let log = server.log();
        log.lines().find(|l| l.contains(text)).unwrap_or_else(|| panic!("no {text} in {log}")).to_owned()
    };
    let first = line(&server, "Server initialized");
    assert!(first.starts_with(&format!("pid={} role=primary timestamp=\"20", server.pid())), "{first}");
    assert!(first.ends_with(" level=notice message=\"Server initialized\""), "{first}");
    assert_eq!(first.split('"').nth(1).map(str::len), Some("2023-11-14T22:13:20.123+00:00".len()), "{first}");
    let mut c = server.wire();
    assert_eq!(c.run("CONFIG SET log-format json log-timestamp-format milliseconds"), ok());
    c.run("CONFIG SET maxmemory 1");
    let second = line(&server, "WARNING: the new maxmemory value");
    assert!(second.starts_with('{') && second.contains("\"role\":\"primary\",\"timestamp\":\"1"), "{second}");
    assert!(c.run("INFO server").as_text().contains("\r\navailability_zone:b 2\r\n"));
    let zone = |c: &mut super::support::Wire| c.run("HELLO 3").field("availability_zone").as_text();
    assert_eq!(zone(&mut c), "b 2");
    assert_eq!(c.cmd(&["CONFIG", "SET", "availability-zone", ""]), ok());
    assert!(!c.run("INFO server").as_text().contains("availability_zone"));
    drop(server);
    let _ = std::fs::remove_file(&socket);
    let (code, output) =
        run_to_end(&["--unixsocket", &path, "--unixsocketgroup", "no such group"], Block::claim().base);
    assert!(code == Some(1) && output.contains("there is no group 'no such group'"), "{output}");
}

#[test]
fn the_log_announces_the_start() {
    let server = Server::start(&[]);
    let log = server.log();
    let initialized = log.find("Server initialized").expect("Server initialized");
    let ready = log.find("Ready to accept connections").expect("Ready to accept");
    assert!(initialized < ready);
}

/// Who misbehaves can be found by what the log says.
#[test]
fn the_log_names_clients() {
    let args = ["--loglevel", "verbose", "--client-query-buffer-limit", "1mb", "--client-output-buffer-limit"];
    let server = Server::start(&[&args[..], &["normal 100kb 0 0"]].concat());
    let mut c = server.wire();
    let named = |name: &str| {
        let mut n = server.wire();
        n.run(&format!("CLIENT SETNAME {name}"));
        n
    };
    let logged = |parts: &[&str]| {
        super::support::eventually(&format!("{parts:?}"), EXIT_LIMIT, || {
            server.log().lines().any(|l| parts.iter().all(|p| l.contains(p)))
        });
    };
    logged(&[" - Accepted 127.0.0.1:"]);
    drop(named("leaves"));
    logged(&[" - Client closed connection id=", "name=leaves"]);
    let mut garbled = named("garbled");
    garbled.send(b"*x\r\n");
    garbled.read();
    logged(&[
        " - Protocol error (invalid multibulk length) from client: id=",
        "name=garbled",
        "Query buffer: \"*x\\r\\n\"",
    ]);
    let mut flood = named("flood");
    let _ = flood.try_send([b"*2\r\n$3\r\nGET\r\n$2000000\r\n".to_vec(), vec![b'x'; 1_500_000]].concat());
    logged(&["# Closing client that reached max query buffer length: id=", "name=flood", "(qbuf initial bytes: \""]);
    assert_eq!(c.cmd(&["SET", "big", &"v".repeat(50_000)]), ok());
    let mut deaf = named("deaf");
    for _ in 0..200 {
        if deaf.try_send(b"GET big\r\n").is_err() {
            break;
        }
    }
    logged(&["# Client id=", "name=deaf", "overcoming of output buffer limits"]);
    c.run("CLIENT SETNAME operator");
    assert_eq!(c.run("REPLICAOF 127.0.0.1 1"), ok());
    logged(&["REPLICAOF 127.0.0.1:1 enabled (user request from 'id=", "name=operator"]);
    assert_eq!(c.run("REPLICAOF NO ONE"), ok());
    logged(&["MASTER MODE enabled (user request from 'id=", "name=operator"]);
}

/// Every line tells what the process is: starting, a primary, a replica.
#[test]
fn lines_of_the_log_tell_the_role() {
    let server = Server::start(&["--loglevel", "verbose"]);
    let mut c = server.wire();
    let letters = |text: &str| -> Vec<String> {
        let log = server.log();
        let of = |l: &str| l.split([':', ' ']).nth(1).unwrap_or_default().to_owned();
        log.lines().filter(|l| l.contains(text)).map(of).collect()
    };
    assert_eq!((letters("is starting"), letters("Server initialized")), (vec!["C".into()], vec!["M".into()]));
    let warning = "WARNING: the new maxmemory value";
    for (words, letter) in [("REPLICAOF 127.0.0.1 1", "S"), ("REPLICAOF NO ONE", "M")] {
        assert_eq!(c.run(words), ok());
        super::support::eventually("the role in the log", EXIT_LIMIT, || {
            c.run("CONFIG SET maxmemory 1");
            c.run("CONFIG SET maxmemory 0");
            letters(warning).last().is_some_and(|l| l == letter)
        });
    }
    drop(c);
    let replica = Server::start(&["--replicaof", "127.0.0.1 1"]);
    assert!(replica.log().lines().any(|l| l.contains(":S ") && l.contains("Server initialized")), "{}", replica.log());
}

/// What `ps` shows: the template, kept up to date, in the memory of the
/// arguments and of the environment behind them.
#[test]
fn the_process_title_follows_its_template() {
    let server = Server::start(&["--cores", "1"]);
    let title = || {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", server.pid())).expect("the title");
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    };
    assert!(title().ends_with(&format!(":{}", server.port)), "{}", title());
    let mut c = server.wire();
    let set = |c: &mut super::support::Wire, template: &str| c.cmd(&["CONFIG", "SET", "proc-title-template", template]);
    assert_eq!(set(&mut c, "T {port} {tls-port}|{unixsocket}|"), ok());
    assert_eq!(title(), format!("T {} 0||", server.port));
    // Longer than the arguments were.
    let long = "y".repeat(title().len() + 400);
    assert_eq!(set(&mut c, &long), ok());
    assert!(title().starts_with("yyyy") && long.starts_with(&title()), "{}", title());
    assert!(set(&mut c, "{nothing}").is_error());
    // Nothing that the process needs was overwritten.
    assert_eq!(c.run("CONFIG GET dir").items().len(), 2);
    assert!(c.run("INFO SERVER").as_text().contains("executable:"));
}

/// The score follows the directive and the role; while it is off, nobody's own
/// setting is touched.
#[test]
fn the_out_of_memory_score_follows_the_role() {
    let server = Server::start(&["--cores", "1"]);
    let path = format!("/proc/{}/oom_score_adj", server.pid());
    let score = || std::fs::read_to_string(&path).expect("a score").trim().parse::<i32>().expect("a number");
    let mut c = server.wire();
    let base = score();
    assert_eq!(c.cmd(&["CONFIG", "SET", "oom-score-adj", "yes", "oom-score-adj-values", "10 20 30"]), ok());
    assert_eq!(score(), base + 10);
    assert_eq!(c.run("REPLICAOF 127.0.0.1 1"), ok());
    super::support::eventually("a replica's score", Duration::from_secs(30), || score() == base + 20);
    assert_eq!(c.run("REPLICAOF NO ONE"), ok());
    super::support::eventually("a primary's score", Duration::from_secs(30), || score() == base + 10);
    assert_eq!(c.run("CONFIG SET oom-score-adj no"), ok());
    assert_eq!(score(), base);
    std::fs::write(&path, (base + 5).to_string()).expect("a higher score");
    assert_eq!(c.cmd(&["CONFIG", "SET", "oom-score-adj-values", "11 21 31"]), ok());
    assert_eq!(score(), base + 5, "off");
    assert_eq!(c.cmd(&["CONFIG", "SET", "oom-score-adj", "relative"]), ok());
    assert_eq!(score(), base + 16, "relative to what it was when it was turned on");
    assert_eq!(c.cmd(&["CONFIG", "SET", "oom-score-adj", "no"]), ok());
    assert_eq!(score(), base + 5);
}

/// A second SIGINT ends the process at once; what was written of a snapshot
/// goes with it.
#[test]
fn an_impatient_end_leaves_no_temporary_file() {
    let mut server = Server::start(&["--cores", "1", "--save", "3600 1"]);
    let mut c = server.wire();
    assert_eq!(c.run("DEBUG POPULATE 100"), ok());
    assert_eq!(c.run("CONFIG SET rdb-key-save-delay 1000000"), ok());
    let temporary = server.dir().join(format!("temp-{}.rdb", server.pid()));
    server.signal(libc::SIGINT);
    super::support::eventually("a file is being written", Duration::from_secs(30), || temporary.exists());
    server.signal(libc::SIGINT);
    assert_eq!(server.wait_exit(Duration::from_secs(30)).code(), Some(1));
    assert!(!temporary.exists());
    let last = server.log().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(last.starts_with(&format!("{}:signal-handler (", server.pid())), "{last}");
    assert!(last.ends_with(") You insist... exiting now."), "{last}");
}

/// A signal that has not been acted on yet can be taken back.
#[test]
fn shutdown_abort_takes_a_signal_back() {
    let server = Server::start(&["--cores", "1"]);
    let mut c = server.wire();
    assert_eq!(c.run("DEBUG PAUSE-CRON 1"), ok());
    server.signal(libc::SIGTERM);
    super::support::eventually("it is heard", Duration::from_secs(30), || server.log().contains("Received SIGTERM"));
    super::support::eventually("and taken back", Duration::from_secs(30), || c.run("SHUTDOWN ABORT") == ok());
    assert_eq!(c.run("DEBUG PAUSE-CRON 0"), ok());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(c.run("PING"), simple("PONG"));
    assert!(server.log().contains("Shutdown manually aborted"));
}

/// What is allocated for cores is no data: `used_memory` does not grow with
/// their number, and a small `maxmemory` holds as much with many.
#[test]
fn memory_of_the_cores_themselves_is_not_used_memory() {
    if super::support::plain() {
        return;
    }
    let used = |cores: &str| {
        let server = Server::start(&["--cores", cores]);
        let info = server.wire().run("INFO MEMORY").as_text();
        let line = info.lines().find_map(|l| l.strip_prefix("used_memory:")).expect("a field");
        line.trim().parse::<u64>().expect("a number")
    };
    let (one, eight) = (used("1"), used("8"));
    assert!(one < 1_500_000 && eight < 1_500_000, "{one} {eight}");
}
