//! What CLIENT LIST says of a client's buffers, and the limits on them.

use super::support::{Server, Wire, each_cores, error, eventually, ok};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// A field of the line of the client with this name; `None` if there is none.
fn field(c: &mut Wire, name: &str, field: &str) -> Option<u64> {
    let list = c.run("CLIENT LIST").as_text();
    let line = list.lines().find(|l| l.contains(&format!(" name={name} ")))?.to_owned();
    let value = line.split(' ').find_map(|w| w.strip_prefix(&format!("{field}=")).map(str::to_owned));
    Some(value.expect("the field").parse().expect("a number"))
}

fn named(server: &Server, name: &str) -> Wire {
    let mut c = server.wire();
    assert_eq!(c.run(&format!("CLIENT SETNAME {name}")), ok());
    c
}

/// Sends an argument of `n` bytes without its end.
fn send_open_argument(c: &mut Wire, n: usize) {
    c.send(format!("*2\r\n${n}\r\n"));
    c.send(vec![b'v'; n]);
}

/// The request that asks lies in the query buffer while it runs; of a request
/// that is not complete, what was understood of it does not.
#[test]
fn the_query_buffer_holds_what_is_not_done() {
    each_cores(|server| {
        let mut c = named(server, "asker");
        assert!(c.run("CLIENT INFO").as_text().contains(" qbuf=26 "));
        assert_eq!(field(&mut c, "asker", "qbuf"), Some(26));
        let mut other = named(server, "other");
        send_open_argument(&mut other, 100_000);
        eventually("the argument is there", LIMIT, || field(&mut c, "other", "qbuf") == Some(100_000));
        assert!(field(&mut c, "other", "tot-mem").unwrap() > 100_000);
        other.send("\r\n$3\r\nabc");
        eventually("it is complete", LIMIT, || field(&mut c, "other", "argv-mem").unwrap() > 100_000);
        assert!(field(&mut c, "other", "qbuf").unwrap() < 100);
    });
}

/// Replies that nobody reads wait while others are being sent; they count, and
/// they reach the limit.
#[test]
fn output_behind_a_send_counts() {
    each_cores(|server| {
        let mut c = named(server, "asker");
        let limit = "CONFIG|SET|client-output-buffer-limit|pubsub 400000 0 0";
        assert_eq!(c.cmd(&limit.split('|').collect::<Vec<_>>()), ok());
        let mut deaf = named(server, "deaf");
        assert!(!deaf.run("SUBSCRIBE ch").is_error());
        let text = "x".repeat(10_000);
        let mut most = 0;
        eventually("the subscriber is closed", LIMIT, || {
            c.cmd(&["PUBLISH", "ch", &text]);
            match field(&mut c, "deaf", "omem") {
                Some(bytes) => {
                    most = most.max(bytes);
                    false
                }
                None => true,
            }
        });
        assert!((200_000..=400_000).contains(&most), "{most}");
    });
}

/// A count that no memory could hold is refused, but where a limit ends the
/// reply: then the client is closed, as in Redis.
#[test]
fn endless_replies_end_at_the_limit() {
    each_cores(|server| {
        let mut c = server.wire();
        c.run("HSET h a b");
        c.run("SADD s a");
        c.run("ZADD z 1 a");
        let commands = ["HRANDFIELD h -999999999", "SRANDMEMBER s -999999999", "ZRANDMEMBER z -999999999"];
        for command in commands {
            assert_eq!(c.run(command), error("ERR value is out of range"), "{command}");
        }
        let limit = "CONFIG|SET|client-output-buffer-limit|normal 1000000 0 0";
        assert_eq!(c.cmd(&limit.split('|').collect::<Vec<_>>()), ok());
        let eval = ["EVAL", "return redis.pcall('HRANDFIELD', 'h', '-999999999').err", "0"];
        assert!(c.cmd(&eval).as_text().contains("out of range"), "no client's output is limited in a script");
        for command in commands {
            let mut victim = server.wire();
            victim.send_words(command);
            victim.drain_until_closed(LIMIT);
        }
        assert_eq!(c.run("HLEN h"), super::support::int(1));
    });
}

/// A core keeps buffers for output and lends them: one that another client has
/// made large does not make its next user so.
#[test]
fn a_lent_buffer_does_not_count() {
    each_cores(|server| {
        let mut c = named(server, "asker");
        assert_eq!(c.cmd(&["SET", "big", &"x".repeat(200_000)]), ok());
        for _ in 0..20 {
            assert!(!c.run("GET big").is_error());
        }
        assert_eq!(c.run("CONFIG SET maxmemory-clients 150000"), ok());
        assert_eq!(c.run("PING"), super::support::simple("PONG"));
        assert!(field(&mut c, "asker", "tot-mem").unwrap() < 50_000);
    });
}

/// Clients are evicted until their memory fits, and not one more: the asker's
/// own small reply changes nothing.
#[test]
fn clients_are_evicted_until_the_rest_fits() {
    if super::support::plain() {
        return;
    }
    super::support::with_cores(1, |server| {
        let mut c = named(server, "asker");
        assert_eq!(c.run("CLIENT NO-EVICT ON"), ok());
        let mut others: Vec<Wire> = (0..10).map(|i| named(server, &format!("c{i}"))).collect();
        for (i, o) in others.iter_mut().enumerate() {
            send_open_argument(o, 200_000);
            eventually("it is there", LIMIT, || field(&mut c, &format!("c{i}"), "qbuf") == Some(200_000));
        }
        let sizes: Vec<u64> = (0..10).map(|i| field(&mut c, &format!("c{i}"), "tot-mem").unwrap()).collect();
        let limit = 5 * sizes.iter().max().unwrap() + field(&mut c, "asker", "tot-mem").unwrap();
        assert_eq!(c.run(&format!("CONFIG SET maxmemory-clients {limit}")), ok());
        let left = (0..10).filter(|i| field(&mut c, &format!("c{i}"), "tot-mem").is_some()).count();
        assert_eq!(left, 5);
    });
}

/// With several cores as well the largest go first, whoever looks first.
#[test]
fn the_largest_clients_are_evicted_first() {
    each_cores(|server| {
        let mut c = named(server, "asker");
        assert_eq!(c.run("CLIENT NO-EVICT ON"), ok());
        let mut all: Vec<Wire> = Vec::new();
        for (i, size) in [50_000, 300_000, 50_000, 300_000, 50_000, 300_000, 50_000, 300_000].into_iter().enumerate() {
            let mut o = named(server, &format!("c{i}"));
            send_open_argument(&mut o, size);
            eventually("it is there", LIMIT, || field(&mut c, &format!("c{i}"), "qbuf") == Some(size as u64));
            all.push(o);
        }
        // They are gone when the reply is there, on whatever cores they are.
        assert_eq!(c.run("CONFIG SET maxmemory-clients 400000"), ok());
        let list = c.run("CLIENT LIST").as_text();
        let left: Vec<usize> = (0..8).filter(|i| list.contains(&format!(" name=c{i} "))).collect();
        assert_eq!(left, [0, 2, 4, 6]);
        // And by a share of `maxmemory`.
        assert_eq!(c.run("CONFIG SET maxmemory 100mb maxmemory-clients 0"), ok());
        assert_eq!(c.run("CONFIG SET maxmemory-clients 1%"), ok());
        let mut large = named(server, "large");
        send_open_argument(&mut large, 500_000);
        eventually("it is there", LIMIT, || field(&mut c, "large", "qbuf") == Some(500_000));
        assert_eq!(c.run("CONFIG SET maxmemory 50mb"), ok());
        assert_eq!(field(&mut c, "large", "tot-mem"), None);
    });
}

/// Replies that nobody reads took the process to `maxmemory` before clients were
/// held to their own limit, and keys went in their place: of a pipeline on one
/// core, and while a core made replies of which the others did not know whose
/// memory they were.
#[test]
fn clients_go_before_keys() {
    let stat = |info: &str, name: &str| -> u64 {
        let line = info.lines().find_map(|l| l.strip_prefix(name).map(str::to_owned)).expect("a field");
        line.trim().parse().expect("a number")
    };
    for (cores, pipelined) in [("1", 50), ("4", 1)] {
        let memory = ["--maxmemory", "11mb", "--maxmemory-policy", "allkeys-lru", "--maxmemory-clients", "3mb"];
        let server = Server::start(&[&["--cores", cores][..], &memory].concat());
        let mut c = server.wire();
        assert_eq!(c.run("CLIENT NO-EVICT on"), ok());
        for i in 0..50 {
            c.run(&format!("SETRANGE {i} 100000 x"));
        }
        let mut deaf: Vec<TcpStream> =
            (0..20).map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("a connection")).collect();
        let requests = "MGET 1\r\n".repeat(pipelined);
        eventually("a client is evicted", LIMIT, || {
            // One that is gone refuses.
            deaf.retain_mut(|d| d.write_all(requests.as_bytes()).is_ok());
            let info = c.run("INFO stats").as_text();
            assert_eq!(stat(&info, "evicted_keys:"), 0, "{cores} cores");
            stat(&info, "evicted_clients:") > 0
        });
        assert_eq!(c.run("DBSIZE").as_int(), 50);
    }
}

/// A limit that is too low for anybody is not taken at its word: who has set it
/// has to be able to take it back.
#[test]
fn the_least_limit_leaves_room_for_small_clients() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET maxmemory-clients 1"), ok());
        assert_eq!(c.run("PING"), super::support::simple("PONG"));
        assert_eq!(c.run("CONFIG SET maxmemory 10mb maxmemory-clients 1%"), ok());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(c.run("CONFIG SET maxmemory-clients 0 maxmemory 0"), ok());
    });
}

/// Buffers grow by doubling; what is counted is what waits in them.
#[test]
fn unread_output_counts_as_much_as_it_is() {
    each_cores(|server| {
        let mut c = server.wire();
        let used = |c: &mut Wire| {
            let text = c.run("INFO memory").as_text();
            let line = text.lines().find_map(|l| l.strip_prefix("used_memory:")).expect("the field");
            line.parse::<u64>().expect("a number")
        };
        assert_eq!(c.cmd(&[&b"SET"[..], b"k", &vec![b'v'; 3_000_000]]), ok());
        let before = used(&mut c);
        let mut deaf = named(server, "deaf");
        for n in [20, 5, 3] {
            deaf.send("GET k\r\n".repeat(n));
            std::thread::sleep(Duration::from_millis(50));
        }
        eventually("most of it waits", LIMIT, || field(&mut c, "deaf", "omem") > Some(75_000_000));
        eventually("it counts with what it is", LIMIT, || {
            // The kernel may still take some of it.
            let output = field(&mut c, "deaf", "omem").expect("the client");
            let near = |n: u64| n >= output && n < output + output / 50 + 1_000_000;
            near(field(&mut c, "deaf", "tot-mem").expect("the client")) && near(used(&mut c) - before)
        });
    });
}

/// A buffer that was large for a moment is told of for some seconds, as Redis does.
#[test]
fn a_large_query_is_remembered_for_seconds() {
    each_cores(|server| {
        let mut c = server.wire();
        let recent = |c: &mut Wire| {
            let text = c.run("INFO clients").as_text();
            let line = text.lines().find_map(|l| l.strip_prefix("client_recent_max_input_buffer:")).expect("the field");
            line.parse::<u64>().expect("a number")
        };
        assert!(recent(&mut c) < 1_000_000);
        let value = vec![b'v'; 3_000_000];
        assert_eq!(c.cmd(&[&b"SET"[..], b"k", &value]), ok());
        eventually("the peak is seen", LIMIT, || recent(&mut c) >= 2_000_000);
        eventually("the peak is forgotten", LIMIT, || recent(&mut c) < 1_000_000);
    });
}
