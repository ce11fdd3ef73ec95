//! Users, what they may do, and what becomes of their connections. Expected
//! replies are those of Redis 7.2, which words denials differently from 7.0.

use super::support::wire::{Wire, encode, encode_into};
use super::support::*;
use std::time::Duration;

const ALL: &str = "+@all ~* &*";
const LIMIT: Duration = Duration::from_secs(60);

/// A connection logged in as a user that may log in with any password.
fn as_user(server: &Server, name: &str) -> Wire {
    let mut c = server.wire();
    assert_eq!(c.run(&format!("AUTH {name} any")), ok());
    c
}

fn lines(value: &Value) -> Vec<String> {
    value.items().iter().map(Value::as_text).collect()
}

#[test]
fn users_are_denied_commands_keys_and_channels() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut admin = server.wire();
        let rules = "on nopass +@string +publish +subscribe +psubscribe +mset %R~r* %W~w* ~b* &news*";
        assert_eq!(admin.run(&format!("ACL SETUSER u {rules}")), ok());
        let mut c = as_user(server, "u");
        let command = |name: &str| error(&format!("NOPERM User u has no permissions to run the '{name}' command"));
        let (key, channel) =
            (error("NOPERM No permissions to access a key"), error("NOPERM No permissions to access a channel"));
        assert_eq!(c.run("LPUSH b 1"), command("lpush"));
        assert_eq!(c.run("CONFIG GET port"), command("config|get"));
        assert_eq!(c.run("GET r1"), nil());
        assert_eq!(c.run("SET r1 v"), key);
        assert_eq!(c.run("GET w1"), key);
        assert_eq!(c.run("SET w1 v"), ok());
        assert_eq!(c.run("SET w1 v GET"), key);
        assert_eq!(c.run("SET b1 v GET"), nil());
        assert_eq!(c.run("MSET b1 v b2 v w3 v"), ok());
        assert_eq!(c.run("MSET b1 v b2 v r3 v"), key);
        assert_eq!(c.run("PUBLISH news1 m"), int(0));
        assert_eq!(c.run("PUBLISH olds m"), channel);
        assert_eq!(c.run("PSUBSCRIBE new*"), channel);
        assert_eq!(c.run("ACL WHOAMI"), command("acl|whoami"));
        assert_eq!(admin.run("ACL WHOAMI"), bulk("default"));
    });
}

#[test]
fn a_user_is_shown_as_it_was_made() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut c = server.wire();
        let first = "user default on nopass sanitize-payload ~* &* +@all";
        assert_eq!(lines(&c.run("ACL LIST")), [first]);
        let rules = "on >p %R~r +@read -get +CONFIG|get (~x +set)";
        assert_eq!(c.run(&format!("ACL SETUSER u {rules}")), ok());
        let hash = "148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940";
        let line = format!(
            "user u on sanitize-payload #{hash} %R~r resetchannels -@all +@read -get +config|get (~x resetchannels \
             -@all +set)"
        );
        assert_eq!(lines(&c.run("ACL LIST")), [first, &line]);
        let shown = c.run("ACL GETUSER u");
        assert_eq!(lines(shown.field("flags")), ["on", "sanitize-payload"]);
        assert_eq!(lines(shown.field("passwords")), [hash]);
        assert_eq!(shown.field("commands").as_text(), "-@all +@read -get +config|get");
        assert_eq!(shown.field("keys").as_text(), "%R~r");
        assert_eq!(shown.field("channels").as_text(), "");
        let inner = &shown.field("selectors").items()[0];
        assert_eq!(inner.field("commands").as_text(), "-@all +set");
        assert_eq!(inner.field("keys").as_text(), "~x");
        assert_eq!(c.run("ACL GETUSER nobody"), nil());
        assert_eq!(c.run("ACL SETUSER u reset"), ok());
        assert_eq!(lines(&c.run("ACL LIST"))[1], "user u off sanitize-payload resetchannels -@all");
        assert_eq!(c.run("ACL USERS"), bulks("default u"));
        assert_eq!(c.run("ACL DELUSER u nobody"), int(1));
        assert_eq!(c.run("ACL USERS"), bulks("default"));
    });
}

#[test]
fn a_change_reaches_connections_of_all_cores_before_the_reply() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run(&format!("ACL SETUSER u on nopass {ALL}"));
        let mut users: Vec<Wire> = (0..8).map(|_| as_user(server, "u")).collect();
        for _ in 0..5 {
            assert_eq!(admin.run("ACL SETUSER u -get"), ok());
            for c in &mut users {
                assert!(c.run("GET k").is_error());
            }
            assert_eq!(admin.run("ACL SETUSER u +get"), ok());
            for c in &mut users {
                assert_eq!(c.run("GET k"), nil());
            }
        }
    });
}

#[test]
fn connections_of_a_deleted_user_are_closed() {
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run(&format!("ACL SETUSER u on nopass {ALL}"));
        let mut users: Vec<Wire> = (0..6).map(|_| as_user(server, "u")).collect();
        let mut waiting = as_user(server, "u");
        waiting.send_words("BLPOP nothing 0");
        assert_eq!(users[0].run("ACL DELUSER u"), int(1));
        users.iter_mut().for_each(Wire::expect_closed);
        waiting.expect_closed();
        assert_eq!(admin.run("PING"), simple("PONG"));
    });
}

/// What waits is looked at again when its user changes (Redis 7.2 does so once there
/// is something for it).
#[test]
fn a_command_that_waits_ends_when_it_is_forbidden() {
    each_cores(|server| {
        let mut admin = server.wire();
        for keys in ["a", "a b c d"] {
            admin.run(&format!("ACL SETUSER u on nopass {ALL}"));
            let (mut waiting, mut other) = (as_user(server, "u"), as_user(server, "u"));
            waiting.send_words(&format!("BLPOP {keys} 0"));
            other.send_words("BLPOP elsewhere 0");
            eventually("two blocked clients", LIMIT, || {
                admin.run("INFO clients").as_text().contains("blocked_clients:2")
            });
            assert_eq!(admin.run("ACL SETUSER u resetkeys ~elsewhere"), ok());
            assert_eq!(waiting.read().as_error(), "NOPERM No permissions to access a key");
            assert_eq!(admin.run("RPUSH a 1"), int(1));
            assert_eq!(admin.run("RPUSH elsewhere 1"), int(1));
            assert_eq!(other.read(), bulks("elsewhere 1"));
            assert_eq!(waiting.run("PING").as_text(), "PONG");
            assert_eq!(admin.run("LLEN a"), int(1));
            admin.run("DEL a");
        }
    });
}

/// One of the same name that is made at once is somebody else.
#[test]
fn connections_of_a_user_that_is_made_anew_are_closed() {
    each_cores(|server| {
        let mut admin = server.wire();
        for round in 0..20 {
            admin.run(&format!("ACL SETUSER u on nopass {ALL}"));
            let mut users: Vec<Wire> = (0..6).map(|_| as_user(server, "u")).collect();
            let mut request = encode(&["ACL", "DELUSER", "u"]);
            encode_into(&mut request, &["ACL", "SETUSER", "u", "on", "nopass", "+@all"]);
            if round % 2 == 0 {
                assert_eq!(admin.pipeline(&request, 2), [int(1), ok()]);
            } else {
                let request = [encode(&["MULTI"]), request, encode(&["EXEC"])].concat();
                assert_eq!(admin.pipeline(&request, 4)[3], array([int(1), ok()]));
            }
            users.iter_mut().for_each(Wire::expect_closed);
        }
    });
}

/// `reset` closed them, as if the user had been removed.
#[test]
fn connections_of_a_user_that_is_reset_go_on() {
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run(&format!("ACL SETUSER u on nopass {ALL}"));
        let mut users: Vec<Wire> = (0..6).map(|_| as_user(server, "u")).collect();
        assert_eq!(users[0].run("ACL SETUSER u reset on >pw ~s* +@string"), ok());
        for c in &mut users {
            assert_eq!(c.run("GET s"), nil());
            assert!(c.run("GET k").is_error());
        }
        assert_eq!(admin.run("ACL SETUSER u reset"), ok());
        users.iter_mut().for_each(|c| assert!(c.run("GET s").is_error()));
    });
}

#[test]
fn subscribers_that_lose_a_channel_are_closed() {
    each_cores(|server| {
        let mut admin = server.wire();
        for (kind, keep, lose) in [("SUBSCRIBE", "a1", "b"), ("PSUBSCRIBE", "a*", "b*"), ("SSUBSCRIBE", "a1", "b")] {
            admin.run("ACL SETUSER u reset on nopass +@all ~* &a* &b &b*");
            let mut stays: Vec<Wire> = (0..4).map(|_| as_user(server, "u")).collect();
            let mut goes: Vec<Wire> = (0..4).map(|_| as_user(server, "u")).collect();
            stays.iter_mut().for_each(|c| assert!(!c.run(&format!("{kind} {keep}")).is_error()));
            goes.iter_mut().for_each(|c| assert!(!c.run(&format!("{kind} {lose}")).is_error()));
            assert_eq!(admin.run("ACL SETUSER u resetchannels &a*"), ok());
            goes.iter_mut().for_each(Wire::expect_closed);
            let publish = if kind == "SSUBSCRIBE" { "SPUBLISH a1 m" } else { "PUBLISH a1 m" };
            assert_eq!(admin.run(publish), int(4));
            stays.iter_mut().for_each(|c| assert!(!c.read().is_error()));
        }
    });
}

#[test]
fn permissions_count_when_queueing_and_again_when_executing() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run("ACL SETUSER u reset on nopass +multi +exec +set +get ~*");
        let mut c = as_user(server, "u");
        c.run("MULTI");
        assert!(c.run("LPUSH l 1").is_error());
        assert!(c.run("EXEC").as_error().starts_with("EXECABORT"));
        c.run("MULTI");
        for command in ["SET a 1", "SET b 2", "GET a"] {
            assert_eq!(c.run(command), simple("QUEUED"));
        }
        admin.run("ACL SETUSER u -set");
        let reply = c.run("EXEC");
        assert!(reply.items()[0].as_error().starts_with("NOPERM ACLs rules changed between"));
        assert!(reply.items()[1].as_error().contains("no permission to execute the command or subcommand"));
        assert_eq!(reply.items()[2], nil());
        let log = admin.run("ACL LOG 1");
        let entry = &log.items()[0];
        assert_eq!(entry.field("context").as_text(), "multi");
        assert_eq!(entry.field("object").as_text(), "set");
        assert_eq!(entry.field("count").as_int(), 2);
        assert!(entry.field("client-info").as_text().contains(" cmd=exec "));
    });
}

#[test]
fn what_is_denied_is_logged_once_per_kind_over_all_cores() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run("ACL SETUSER u on >right +get +publish ~k*");
        for _ in 0..6 {
            let mut c = server.wire();
            assert!(c.run("AUTH u wrong").as_error().starts_with("WRONGPASS"));
            assert_eq!(c.run("AUTH u right"), ok());
            assert!(c.run("SET k v").is_error());
            assert!(c.run("GET x").is_error());
            assert!(c.run("PUBLISH news m").is_error());
        }
        let log = admin.run("ACL LOG");
        let shown: Vec<String> = log
            .items()
            .iter()
            .map(|e| {
                let text = |name| e.field(name).as_text();
                let count = e.field("count").as_int();
                format!("{} {} {} {count} {}", text("reason"), text("object"), text("username"), text("context"))
            })
            .collect();
        assert_eq!(
            shown,
            ["channel news u 6 toplevel", "key x u 6 toplevel", "command set u 6 toplevel", "auth AUTH u 6 toplevel"]
        );
        let info = admin.run("INFO stats").as_text();
        for kind in ["auth", "cmd", "key", "channel"] {
            assert!(info.contains(&format!("acl_access_denied_{kind}:6\r\n")), "{info}");
        }
        assert_eq!(admin.run("ACL LOG 2").items().len(), 2);
        assert_eq!(admin.run("ACL LOG -1").items().len(), 0);
        assert_eq!(admin.run("CONFIG SET acllog-max-len 1"), ok());
        assert!(as_known(server).run("LPUSH y v").is_error());
        assert_eq!(admin.run("ACL LOG").items().len(), 1);
        assert_eq!(admin.run("ACL LOG RESET"), ok());
        assert_eq!(admin.run("ACL LOG").items().len(), 0);
    });
}

/// A script that may only read still tells first what its user may not do.
#[test]
fn access_is_looked_at_before_what_a_script_may_do() {
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run("ACL SETUSER u on nopass ~mine* +@all");
        let mut c = as_user(server, "u");
        let script = "return redis.pcall('DEL', ARGV[1]).err";
        let read_only = "ERR Write commands are not allowed from read-only scripts.";
        assert_eq!(c.cmd(&["EVAL_RO", script, "0", "mine"]).as_text(), read_only);
        let denied = c.cmd(&["EVAL_RO", script, "0", "other"]).as_text();
        assert!(!denied.is_empty() && denied != read_only, "{denied}");
    });
}

/// What is logged tells where it was denied.
#[test]
fn denials_are_logged_with_their_context() {
    if plain() {
        return;
    }
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run("ACL SETUSER u on nopass ~* +get +eval +multi +exec +fcall");
        let library = "#!lua name=l\nredis.register_function('f',function(k) return redis.pcall('DEL',k[1]) end)";
        assert_eq!(admin.cmd(&["FUNCTION", "LOAD", library]), bulk("l"));
        for _ in 0..4 {
            let mut c = as_user(server, "u");
            assert!(c.run("SET k v").is_error());
            assert_eq!(c.run("MULTI"), ok());
            assert!(c.run("INCR k").is_error());
            assert!(c.run("EXEC").is_error());
            let denied = "NOPERM ACL failure in script: User u has no permissions to run the 'append' command";
            let script = "return redis.pcall('APPEND',KEYS[1],'x')";
            // Keys of several cores, and of one.
            for count in ["1", "2"] {
                assert_eq!(c.cmd(&["EVAL", script, count, "k", "other"]), error(denied));
            }
            assert!(c.run("FCALL f 1 k").as_error().contains("'del' command"));
            // To ask is not to be denied.
            assert_eq!(c.cmd(&["EVAL", "return redis.acl_check_cmd('SET',KEYS[1],'x')", "1", "k"]), nil());
        }
        let log = admin.run("ACL LOG");
        let mut shown: Vec<String> = log
            .items()
            .iter()
            .map(|e| {
                let text = |name| e.field(name).as_text();
                assert!(e.field("age-seconds").as_text().parse::<f64>().unwrap() >= 0.0);
                let client = text("client-info");
                assert!(client.contains(" user=u ") && client.contains(" addr=127.0.0.1:"), "{client}");
                let calls = [" cmd=eval ", " cmd=fcall "].iter().any(|cmd| client.contains(cmd));
                assert!(calls == (text("context") == "lua"), "{client}");
                format!("{} {} {} {}", text("context"), text("reason"), text("object"), e.field("count").as_int())
            })
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            ["lua command append 8", "lua command del 4", "multi command incr 4", "toplevel command set 4"]
        );
    });
}

/// The line about the client was made while its input was elsewhere, and what
/// was left of it was taken for less than nothing: the server stopped.
#[test]
fn a_denial_deep_in_a_pipeline_is_logged() {
    let server = Server::start(&["--cores", "4"]);
    for _ in 0..20 {
        let mut c = server.wire();
        let mut request = Vec::new();
        let mut replies = 0;
        for i in 0..30 {
            for words in [format!("MSET a{i} 1 b{i} 2 c{i} 3"), format!("GET a{i}"), "AUTH u wrong".to_owned()] {
                request.extend(super::support::encode(&words.split(' ').collect::<Vec<_>>()));
                replies += 1;
            }
        }
        let all = c.pipeline(&request, replies);
        assert!(all.iter().skip(2).step_by(3).all(|r| r.as_error().starts_with("WRONGPASS")));
    }
}

fn as_known(server: &Server) -> Wire {
    let mut c = server.wire();
    assert_eq!(c.run("AUTH u right"), ok());
    c
}

#[test]
fn the_default_user_decides_whether_one_must_log_in() {
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run(&format!("ACL SETUSER root on >r {ALL}"));
        assert_eq!(admin.run("AUTH root r"), ok());
        assert_eq!(admin.run("CONFIG SET requirepass secret"), ok());
        let mut c = server.wire();
        assert!(c.run("PING").as_error().starts_with("NOAUTH"));
        assert!(c.run("AUTH wrong").as_error().starts_with("WRONGPASS"));
        assert_eq!(c.run("AUTH secret"), ok());
        assert_eq!(c.run("PING"), simple("PONG"));
        assert_eq!(c.run("RESET"), simple("RESET"));
        assert!(c.run("PING").as_error().starts_with("NOAUTH"));
        assert_eq!(admin.run("ACL SETUSER default nopass"), ok());
        assert_eq!(c.run("PING"), simple("PONG"));
        assert_eq!(admin.run("ACL SETUSER default off"), ok());
        assert!(server.wire().run("PING").as_error().starts_with("NOAUTH"));
        assert!(c.run("PING").as_error().starts_with("NOAUTH"));
        assert!(!c.run("HELLO 3 AUTH root r SETNAME x").is_error());
        assert_eq!(c.run("ACL WHOAMI"), bulk("root"));
        assert_eq!(admin.run("ACL SETUSER default on"), ok());
        assert_eq!(admin.cmd(&["CONFIG", "SET", "requirepass", ""]), ok());
        assert_eq!(server.wire().run("PING"), simple("PONG"));
    });
}

#[test]
fn client_commands_know_users() {
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run(&format!("ACL SETUSER u on nopass {ALL}"));
        let mut users: Vec<Wire> = (0..5).map(|_| as_user(server, "u")).collect();
        let list = admin.run("CLIENT LIST").as_text();
        assert_eq!(list.matches(" user=u ").count(), 5);
        assert_eq!(admin.run("CLIENT KILL USER u"), int(5));
        users.iter_mut().for_each(Wire::expect_closed);
        assert_eq!(admin.run("CLIENT KILL USER nobody"), error("ERR No such user 'nobody'"));
    });
}

#[test]
fn sort_by_patterns_needs_leave_to_read_every_key() {
    each_cores(|server| {
        let mut admin = server.wire();
        admin.run("RPUSH l 1 2");
        admin.run("ACL SETUSER u on nopass +sort ~l");
        let mut c = as_user(server, "u");
        assert_eq!(c.run("SORT l"), bulks("1 2"));
        let denied =
            |option: &str| error(&format!("ERR {option} option of SORT denied due to insufficient ACL permissions."));
        assert_eq!(c.run("SORT l BY w*"), denied("BY"));
        assert_eq!(c.run("SORT l GET w*"), denied("GET"));
        admin.run("ACL SETUSER u %R~*");
        assert_eq!(c.run("SORT l BY w*"), bulks("1 2"));
    });
}

#[test]
fn users_live_in_the_configuration_file() {
    let dir = std::env::temp_dir().join(format!("coreslot-users-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("users.conf");
    std::fs::write(&path, "user alice on >secret +@all ~a* &*\nuser bob on nopass +get ~* (+set ~b)\n").unwrap();
    let path = path.to_string_lossy().into_owned();
    // It lives on, since the file names its working directory.
    let first = Server::start_with_file(&path, &[]);
    {
        let mut c = first.wire();
        assert_eq!(c.run("ACL USERS"), bulks("alice bob default"));
        assert_eq!(c.run("AUTH alice secret"), ok());
        assert_eq!(c.run("SET a 1"), ok());
        assert!(c.run("SET b 1").as_error().starts_with("NOPERM"));
        assert_eq!(c.run("AUTH bob x"), ok());
        assert_eq!(c.run("SET b 1"), ok());
        let mut admin = first.wire();
        assert_eq!(admin.run("ACL DELUSER bob"), int(1));
        assert_eq!(admin.run("ACL SETUSER carol on >c +ping"), ok());
        assert_eq!(admin.run("CONFIG REWRITE"), ok());
    }
    let server = Server::start_with_file(&path, &[]);
    let mut c = server.wire();
    assert_eq!(c.run("ACL USERS"), bulks("alice carol default"));
    assert_eq!(c.run("AUTH carol c"), ok());
    assert_eq!(c.run("PING"), simple("PONG"));
    drop(server);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn users_live_in_a_file_of_their_own() {
    if plain() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("coreslot-aclfile-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("users.acl");
    let file = "user alice on nopass +@all ~* &a* &b*\nuser default on nopass +@all ~* &*\n";
    std::fs::write(&path, file).unwrap();
    let path = path.to_string_lossy().into_owned();
    for cores in ["1", "4"] {
        std::fs::write(&path, file).unwrap();
        let server = &Server::start(&["--cores", cores, "--aclfile", &path]);
        let mut admin = server.wire();
        admin.run("ACL SETUSER gone on nopass +@all");
        let (mut stays, mut goes, mut deaf) =
            (as_user(server, "alice"), as_user(server, "gone"), as_user(server, "alice"));
        assert!(!stays.run("SUBSCRIBE a").is_error());
        assert!(!deaf.run("SUBSCRIBE b").is_error());
        assert_eq!(admin.run("ACL LOAD"), ok());
        goes.expect_closed();
        std::fs::write(&path, file.replace(" &b*", "")).unwrap();
        assert_eq!(admin.run("ACL LOAD"), ok());
        deaf.expect_closed();
        assert_eq!(admin.run("PUBLISH a m"), int(1));
        assert!(!stays.read().is_error());
        std::fs::write(&path, "user alice on\nuser alice off\nbogus\nuser x +nosuch\n").unwrap();
        let refused = admin.run("ACL LOAD");
        for part in
            [":2: Duplicate user 'alice'", ":3: line should start with user", ":4: Unknown command", "no change to"]
        {
            assert!(refused.as_error().contains(part), "{part}: {refused:?}");
        }
        assert_eq!(admin.run("ACL USERS"), bulks("alice default"));
        admin.cmd(&[&b"ACL"[..], b"SETUSER", b"eve", b"on", b">p", b"~\"odd\\\xff", b"+get", b"(+set ~x)"]);
        let before = admin.run("ACL LIST");
        assert_eq!(admin.run("ACL SAVE"), ok());
        admin.run("ACL SETUSER eve reset");
        assert_eq!(admin.run("ACL LOAD"), ok());
        assert_eq!(admin.run("ACL LIST"), before);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn without_a_file_there_is_nothing_to_load_or_save() {
    let server = Server::start(&[]);
    let mut c = server.wire();
    for command in ["ACL LOAD", "ACL SAVE"] {
        assert!(c.run(command).as_error().starts_with("ERR This Redis instance is not configured to use an ACL file."));
    }
}

#[test]
fn dryrun_tells_what_would_be_denied() {
    if plain() {
        return;
    }
    let server = Server::start(&[]);
    let mut c = server.wire();
    c.run("ACL SETUSER u +get +publish ~k &c");
    assert_eq!(c.run("ACL DRYRUN u GET k"), ok());
    assert_eq!(c.run("ACL DRYRUN u CONFIG"), error("ERR wrong number of arguments for 'config' command"));
    assert_eq!(c.run("ACL DRYRUN u CONFIG NOSUCH"), error("ERR Command 'CONFIG' not found"));
    assert_eq!(c.run("ACL DRYRUN u GET x"), bulk("User u has no permissions to access the 'x' key"));
    assert_eq!(c.run("ACL DRYRUN u PUBLISH x m"), bulk("User u has no permissions to access the 'x' channel"));
    assert_eq!(c.run("ACL DRYRUN u SET k v"), bulk("User u has no permissions to run the 'set' command"));
}

/// Nobody gets past the lock in time: a pipeline behind an AUTH that fails is
/// refused as a whole.
#[test]
fn a_pipeline_behind_a_failed_login_is_refused() {
    let server = Server::start(&["--requirepass", "secret", "--cores", "2"]);
    let mut c = server.wire();
    let replies = c.pipeline(b"AUTH wrong\r\nSET a 1\r\nGET a\r\nAUTH secret\r\nGET a\r\n", 5);
    assert!(replies[..3].iter().all(Value::is_error), "{replies:?}");
    assert_eq!(replies[3..], [ok(), nil()]);
    c.set_limit(Duration::from_secs(30));
}
