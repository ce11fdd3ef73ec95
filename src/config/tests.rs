//! Tests of the table as a whole, and of CONFIG GET and SET.

mod defaults;

use proptest::prelude::*;

use super::directive::Origin;
use super::*;

fn config(text: &str) -> Config {
    Config::from_text(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

fn reason(text: &str) -> String {
    match Config::from_text(text.as_bytes()) {
        Err(ConfigError::Line { reason, .. }) => reason,
        other => panic!("{text}: {other:?}"),
    }
}

fn value(config: &Config, name: &str) -> String {
    let found = config.get(&[name]);
    assert_eq!(found.len(), 1, "{name}");
    found[0].1.clone()
}

#[test]
fn names_are_unique_and_lower_case() {
    let mut names: Vec<&str> = directives().flat_map(|d| std::iter::once(d.name).chain(d.alias)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.iter().all(|n| *n == n.to_ascii_lowercase()));
}

#[test]
fn every_value_survives_printing_and_reading() {
    let defaults = Settings::default();
    for directive in directives().filter(|d| !d.is_file_only()) {
        let printed = directive.print(&defaults);
        let mut again = Settings::default();
        if directive.name == "replicaof" {
            continue;
        }
        directive
            .set_words(&mut again, &[&printed], Origin::Runtime)
            .unwrap_or_else(|e| panic!("{}: {e}", directive.name));
        assert_eq!(again, defaults, "{}", directive.name);
    }
}

/// The narrowing conversions of the table lose nothing at either bound.
#[test]
fn numbers_hold_their_bounds() {
    let clamped = ["hz", "repl-backlog-size"];
    for directive in directives().filter(|d| !clamped.contains(&d.name)) {
        let Kind::Number { min, max, get, set, .. } = directive.kind else {
            continue;
        };
        let mut settings = Settings::default();
        for bound in [min, max] {
            set(&mut settings, bound);
            assert_eq!(get(&settings), bound, "{}", directive.name);
        }
    }
}

/// A row that stores into another row's field would pass the other tests.
#[test]
fn every_row_has_a_place_of_its_own() {
    for directive in directives() {
        let mut settings = Settings::default();
        match directive.kind {
            Kind::Flag { default, set, .. } => set(&mut settings, !default),
            Kind::Number { default, max, set, .. } => {
                set(&mut settings, if default == max { default - 1 } else { max })
            }
            Kind::Text { set, .. } => set(&mut settings, "elsewhere".to_owned()),
            Kind::Choice { default, set, .. } => set(&mut settings, usize::from(default == 0)),
            _ => continue,
        }
        let defaults = Settings::default();
        for other in directives().filter(|d| !d.is_file_only()) {
            let same = other.print(&settings) == other.print(&defaults);
            assert_eq!(same, other.name != directive.name, "{}", directive.name);
        }
    }
}

#[test]
fn defaults_are_those_of_redis_7_0_15() {
    let config = Config::default();
    for &(name, expected) in defaults::REDIS_7_0_15 {
        assert_eq!(value(&config, name), expected, "{name}");
    }
    let found = config.get(&["*"]);
    for (name, _) in found {
        let own = find(&name).is_some_and(|d| !d.help.is_empty());
        let known = defaults::REDIS_7_0_15.iter().any(|(n, _)| *n == name);
        let elsewhere = defaults::NOT_COMPARED.contains(&name.as_str());
        assert!(own || known || elsewhere, "{name} is nobody's directive");
    }
    assert_eq!(value(&config, "port"), "6379");
    assert_eq!(value(&config, "bind"), "* -::*");
    assert_eq!(value(&config, "save"), "3600 1 300 100 60 10000");
    assert_eq!(value(&config, "pidfile"), "");
}

/// Every directive of the family is kept, honoured or refused by its name.
#[test]
fn what_later_versions_have_is_known() {
    let config = Config::default();
    for &(name, expected) in defaults::NEWER {
        assert_eq!(value(&config, name), expected, "{name}");
        assert!(config.set(&[(name, "no such value")]).is_err() || is_text(name), "{name}");
    }
    let refused = |line: &str| reason(&format!("{line}\n"));
    assert!(refused("rdma-bind 10.0.0.1 10.0.0.2").contains("'rdma-bind' is not supported: connections are TCP"));
    assert!(refused("mptcp yes").contains("'mptcp' is not supported: connections are plain TCP"));
    assert!(refused("dual-channel-replication-enabled yes").contains("a full sync goes over one connection"));
    assert!(refused("rdma-rx-size 1").contains("argument must be between 65536 and 16777216 inclusive"));
    // By the later name it is the same directive.
    let c = self::config("primaryauth secret\ncommandlog-execution-slower-than 5\nserver-cpulist 0-3\nmptcp no\n");
    let found = ["masterauth", "slowlog-log-slower-than", "server_cpulist"].map(|name| value(&c, name));
    assert_eq!(found, ["secret", "5", "0-3"]);
    assert_eq!(c.get(&["primary*", "mptc*"]), []);
}

fn is_text(name: &str) -> bool {
    find(name).is_some_and(|d| matches!(d.kind, Kind::Text { .. }) && d.mutability == Mutability::Runtime)
}

#[test]
fn get_takes_patterns_aliases_and_hidden_names() {
    let config = Config::default();
    let names = |patterns: &[&str]| -> Vec<String> { config.get(patterns).into_iter().map(|(n, _)| n).collect() };
    assert_eq!(names(&["PORT", "m?xmemory", "port"]), ["PORT", "maxmemory"]);
    assert_eq!(names(&["slave-prio*"]), ["slave-priority"]);
    assert_eq!(names(&["watch*"]), Vec::<String>::new());
    assert_eq!(names(&["watchdog-period"]), ["watchdog-period"]);
    assert_eq!(names(&["user", "include", "nothing"]), Vec::<String>::new());
}

#[test]
fn set_is_all_or_nothing_with_the_texts_of_redis() {
    let config = config("enable-protected-configs no\n");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("foo", "bar")], "Unknown option or number of arguments for CONFIG SET - 'foo'"),
        (
            &[("timeout", "5"), ("port", "abc")],
            "CONFIG SET failed (possibly related to argument 'port') - argument couldn't be \
             parsed into an integer",
        ),
        (
            &[("port", "70000")],
            "CONFIG SET failed (possibly related to argument 'port') - argument must be between \
             0 and 65535 inclusive",
        ),
        (
            &[("daemonize", "yes")],
            "CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable \
             config",
        ),
        (&[("dir", "/tmp")], "CONFIG SET failed (possibly related to argument 'dir') - can't set protected config"),
        (
            &[("maxmemory", "1x")],
            "CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a \
             memory value",
        ),
        (
            &[("timeout", "1"), ("timeout", "2")],
            "CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter",
        ),
        (
            &[("slave-read-only", "maybe")],
            "CONFIG SET failed (possibly related to argument 'slave-read-only') - argument must \
             be 'yes' or 'no'",
        ),
        (
            &[("loglevel", "bad")],
            "CONFIG SET failed (possibly related to argument 'loglevel') - argument(s) must be \
             one of the following: debug, verbose, notice, warning, nothing",
        ),
        (
            &[("timeout", "7"), ("maxmemory-clients", "200%")],
            "CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage \
             argument must be less or equal to 100",
        ),
        (
            &[("tls-dh-params-file", "x")],
            "CONFIG SET failed (possibly related to argument 'tls-dh-params-file') - 'tls-dh-params-file' is not \
             supported: keys are exchanged over elliptic curves only",
        ),
    ];
    for (pairs, text) in cases {
        assert_eq!(config.set(pairs).unwrap_err(), *text);
    }
    assert_eq!(*config.settings(), Settings::default());
    let changed = config.set(&[("timeout", "5"), ("SLAVE-priority", "7"), ("databases-", "")]);
    assert!(changed.is_err());
    let changed = config.set(&[("TIMEOUT", "5"), ("slave-priority", "7"), ("port", "6379")]);
    assert_eq!(changed.unwrap(), ["timeout", "replica-priority"]);
    assert_eq!(config.settings().timeout_s, 5);
}

#[test]
fn special_values_are_read_and_printed_as_in_redis() {
    let config = config("");
    let cases = [
        ("save", "10 20 30 40", "10 20 30 40"),
        ("save", "", ""),
        (
            "client-output-buffer-limit",
            "normal 1 2 3 replica 1kb 5 6",
            "normal 1 2 3 slave 1024 5 6 pubsub 33554432 8388608 60",
        ),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("latency-tracking-info-percentiles", "50.5 0 100", "50.5 0 100"),
        ("latency-tracking-info-percentiles", "50.123456", "50.123456"),
        ("latency-tracking-info-percentiles", "", ""),
        ("shutdown-on-sigterm", "now SAVE", "save now"),
        ("oom-score-adj-values", "100 2 -3", "100 2 -3"),
        ("hz", "5000", "500"),
        ("hz", "0", "1"),
        ("repl-backlog-size", "1", "16384"),
        ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
        ("client-output-buffer-limit", "", "normal 1 2 3 slave 1024 5 6 pubsub 33554432 8388608 60"),
        ("bind", "", ""),
        ("list-max-ziplist-size", "-6", "-6"),
        ("proto-max-bulk-len", "1mb", "1048576"),
        ("replica-announced", "NO", "no"),
    ];
    for (name, given, printed) in cases {
        config.set(&[(name, given)]).unwrap();
        assert_eq!(value(&config, name), printed, "{name} {given}");
    }
}

#[test]
fn special_values_are_refused_as_in_redis() {
    let config = config("");
    let cases = [
        ("save", "10", "Invalid save parameters"),
        ("save", "0 1", "Invalid save parameters"),
        ("save", "10  20", "Invalid save parameters"),
        ("latency-tracking-info-percentiles", "nan", "Invalid latency-tracking-info-percentiles parameters"),
        ("client-output-buffer-limit", "normal 1 2", "Wrong number of arguments in buffer limit configuration."),
        ("client-output-buffer-limit", "master 1 2 3", "Invalid client class specified in buffer limit configuration."),
        (
            "client-output-buffer-limit",
            "normal 1 x 3",
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        ("notify-keyspace-events", "q", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        ("oom-score-adj-values", "1 2", "wrong number of arguments"),
        (
            "latency-tracking-info-percentiles",
            "101",
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        ("shutdown-on-sigint", "save nosave", "shutdown options SAVE and NOSAVE can't be used simultaneously"),
        ("proc-title-template", "{foo}", "template format is invalid or contains unknown variables"),
        ("proc-title-template", "{title} {server-mode}", "template format is invalid or contains unknown variables"),
        ("maxmemory-clients", "-5", "argument must be a memory or percent value"),
    ];
    for (name, given, reason) in cases {
        let text = config.set(&[(name, given)]).unwrap_err();
        assert_eq!(text, Change::refusal(name, reason));
    }
}

#[test]
fn protected_directives_ask_who_is_calling() {
    let pairs = [("dbfilename", "other.rdb")];
    let local = Caller { is_local: true };
    let remote = Caller { is_local: false };
    for (guard, for_local, for_remote) in [("no", false, false), ("local", true, false), ("yes", true, true)] {
        let config = config(&format!("enable-protected-configs {guard}\n"));
        assert_eq!(config.prepare(&pairs, local).is_ok(), for_local);
        assert_eq!(config.prepare(&pairs, remote).is_ok(), for_remote);
    }
    assert!(Config::denied_while_loading(&["timeout", "appendonly"]));
    assert!(!Config::denied_while_loading(&["timeout"]));
}

#[test]
fn lines_that_accumulate_and_lines_that_replace() {
    let save = |text| value(&config(text), "save");
    assert_eq!(save("save 10 20\nsave 30 40\n"), "10 20 30 40");
    assert_eq!(save("save 1 2\nsave \"\"\n"), "");
    assert_eq!(save("save \"\"\nsave 10 20\n"), "10 20");
    assert_eq!(save("save\n"), "");
    assert_eq!(value(&config("timeout 1\ntimeout 2"), "timeout"), "2");
    let limits = "client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit pubsub 4 5 6";
    assert_eq!(
        value(&config(limits), "client-output-buffer-limit"),
        "normal 1 2 3 slave 268435456 67108864 60 pubsub 4 5 6"
    );
    let renamed = config("rename-command KEYS \"\"\nrename-command GET get2\n").settings();
    let pairs = [("KEYS", ""), ("GET", "get2")];
    assert_eq!(renamed.rename_commands, pairs.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let threshold = config("busy-reply-threshold 1\nLUA-time-limit 3\n");
    assert_eq!(value(&threshold, "busy-reply-threshold"), "3");
    let events = "notify-keyspace-events\n";
    assert_eq!(reason(events), "wrong number of arguments");
}

/// As redis-server was seen to take them.
#[test]
fn rare_spaces_separate_only_where_no_word_stands() {
    let config = config("\x0b\x0cmaxmemory 100\nrequirepass \"x\"\x0b\nmasterauth a\x0bb\n");
    assert_eq!(value(&config, "maxmemory"), "100");
    assert_eq!(value(&config, "requirepass"), "x");
    assert_eq!(value(&config, "masterauth"), "a\x0bb");
    for line in ["save\x0b900 1", "maxmemory\x0c100"] {
        assert_eq!(reason(line), "Bad directive or wrong number of arguments");
    }
    assert_eq!(reason("maxmemory 100\x0b"), "argument must be a memory value");
}

#[test]
fn lines_are_refused_with_the_reasons_of_redis() {
    for (text, expected) in [
        ("port", "wrong number of arguments"),
        ("foo bar", "Bad directive or wrong number of arguments"),
        ("include", "Bad directive or wrong number of arguments"),
        ("rename-command a", "Bad directive or wrong number of arguments"),
        ("loadmodule", "Bad directive or wrong number of arguments"),
        ("timeout \"5\"x", "Unbalanced quotes in configuration line"),
        ("timeout 5 # hi", "wrong number of arguments"),
        ("unixsocketperm 999", "argument couldn't be parsed as an octal number"),
        ("unixsocketperm 7777", "argument must be between 0 and 777 inclusive"),
        ("replicaof a b", "Invalid master port"),
        ("replicaof a 65536", "Invalid master port"),
        ("replicaof a -1", "Invalid master port"),
        ("replicaof a", "wrong number of arguments"),
        ("replicaof", "wrong number of arguments"),
        ("dir /none", "No such file or directory"),
        ("dir \"\"", "No such file or directory"),
        ("dbfilename a/b", "dbfilename can't be a path, just a filename"),
        ("appendfilename \"\"", "appendfilename can't be empty"),
        ("appenddirname \"\"", "appenddirname can't be empty"),
        ("sentinel x y", "sentinel directive while not in sentinel mode"),
        ("bind a b c d e f g h i j k l m n o p q", "Too many bind addresses specified."),
    ] {
        assert_eq!(reason(text), expected, "{text}");
    }
    let error = Config::from_text(b"# c\n\n  port   x \n").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "\n*** FATAL CONFIG FILE ERROR (Coreslot {}) ***\nReading the configuration file, \
             at line 3\n>>> 'port   x'\nargument couldn't be parsed into an integer",
            env!("CARGO_PKG_VERSION")
        )
    );
}

/// The default.conf of Redis's own test suite has to be accepted.
#[test]
fn the_upstream_test_suite_can_start_the_server() {
    let text = "always-show-logo yes\nnotify-keyspace-events KEA\ndaemonize no\n\
        pidfile /var/run/redis.pid\nport 6379\ntimeout 0\nbind 127.0.0.1\nloglevel verbose\n\
        logfile ''\ndatabases 16\nlatency-monitor-threshold 1\nrepl-diskless-sync-delay 0\n\
        save 900 1\nsave 300 10\nsave ''\nrdbcompression yes\ndbfilename dump.rdb\ndir ./\n\
        slave-serve-stale-data yes\nappendonly no\nappendfsync everysec\n\
        no-appendfsync-on-rewrite no\nactiverehashing yes\nenable-protected-configs yes\n\
        enable-debug-command yes\nenable-module-command yes\npropagation-error-behavior panic\n\
        shutdown-on-sigterm force\nunixsocket /tmp/socket\ncluster-enabled no\n\
        cluster-ping-interval 100\ncluster-node-timeout 3000\nclient-default-resp 3\n";
    let config = config(text);
    assert!(config.settings().shutdown_on_sigterm.force);
    assert!(config.settings().persistence.save.is_empty());
    let notices = config.notices();
    assert!(notices.iter().any(|n| n.contains("'activerehashing' has no effect:")));
    assert!(notices.iter().any(|n| n.contains("'cluster-node-timeout' has no effect yet")));
    assert!(!notices.iter().any(|n| n.contains("'appendfsync'")));
}

#[test]
fn own_directives() {
    let config = config(
        "cores 0-2,5\nservice-core none\ncore-endpoints yes\ncore-port-base 7000\n\
         pipeline-order strict\ncore-spin-us 50\nrebalance yes\nrebalance-interval-ms 500\n",
    );
    let settings = config.settings();
    assert_eq!(settings.cores, Cores::Cpus(vec![0, 1, 2, 5]));
    assert_eq!(settings.service_core, ServiceCore::None);
    assert_eq!(settings.pipeline_order, PipelineOrder::Strict);
    assert_eq!(settings.core_port_base, 7000);
    assert_eq!(value(&config, "cores"), "0-2,5");
    for bad in ["cores 0", "cores x", "cores 1-0", "cores 99999", "service-core 3,"] {
        assert!(Config::from_text(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn files_include_files() {
    let dir = std::env::temp_dir().join(format!("coreslot-include-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    std::fs::write(dir.join("b1.inc"), "timeout 7\n").unwrap();
    std::fs::write(dir.join("b2.inc"), "tcp-keepalive 8\n").unwrap();
    std::fs::write(dir.join("loop.conf"), format!("include {}\n", at("loop.conf"))).unwrap();
    let main = format!("timeout 1\ninclude {}\ninclude {}\n", at("b*.inc"), at("none*"));
    let included = config(&main);
    assert_eq!(included.settings().timeout_s, 7);
    assert_eq!(included.settings().tcp_keepalive_s, 8);
    let missing = Config::from_text(format!("include {}\n", at("none")).as_bytes());
    assert!(matches!(missing, Err(ConfigError::Open { .. })));
    let looped = format!("include {}\n", at("loop.conf"));
    assert_eq!(reason(&looped), "files include each other too deeply");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Words that the random configurations below are made of.
fn fragment() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = directives().map(|d| d.name).collect();
    prop_oneof![
        prop::sample::select(names).prop_map(str::to_owned),
        "[ -~]{0,12}",
        Just("\"".to_owned()),
        Just("99999999999999999999999".to_owned()),
        Just("-1".to_owned()),
        Just("\n".to_owned()),
        Just("1gb".to_owned()),
    ]
}

proptest! {
    #[test]
    fn random_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Config::from_text(&text);
    }

    #[test]
    fn random_lines_never_panic(words in prop::collection::vec(fragment(), 0..40)) {
        let _ = Config::from_text(words.join(" ").as_bytes());
    }

    #[test]
    fn random_sets_and_patterns_never_panic(
        name in fragment(),
        text in ".{0,40}",
        pattern in "[*?\\[\\]a-c^\\\\-]{0,12}",
    ) {
        let config = Config::default();
        let _ = config.set(&[(&name, &text)]);
        let _ = config.get(&[&pattern, &text]);
    }

    /// Whatever CONFIG SET accepts, a start with the printed value accepts too.
    #[test]
    fn accepted_values_survive_a_rewrite(name in fragment(), text in fragment()) {
        let config = Config::default();
        if config.set(&[(&name, &text)]).is_ok() {
            let printed = value(&config, &name);
            let line = format!("{name} {}", line::quote(&printed));
            let again = Config::from_text(line.as_bytes()).unwrap();
            prop_assert_eq!(value(&again, &name), printed);
        }
    }

    #[test]
    fn random_command_lines_never_panic(args in prop::collection::vec("-?-?.{0,9}", 0..6)) {
        let mut all = vec!["x".to_owned()];
        all.extend(args);
        let _ = args::parse(&all);
    }
}

/// Redis starts with it, as a replica that finds no primary; upstream's suite
/// loads an append-only file so.
#[test]
fn a_primary_may_have_port_0() {
    let primary = config("replicaof 127.0.0.1 0").settings().replication.replicaof.clone();
    assert_eq!(primary, Some(("127.0.0.1".into(), 0)));
}
