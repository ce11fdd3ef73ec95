//! Primaries and replicas killed in the middle of a copy, at many places of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::proxy::Proxy;
use super::restart::again;
use super::servers::*;
use super::support::{Rng, Server, bulk, eventually, nil, ok};

const LOADS: [&str; 3] = ["disabled", "on-empty-db", "swapdb"];

/// Values that cannot be packed, so that a copy has about so many bytes.
fn fill(server: &Server, bytes: usize) {
    const EACH: usize = 20_000;
    let (mut wire, mut rng) = (server.wire(), Rng::new(5));
    for i in 0..bytes / EACH {
        let value: Vec<u8> = (0..EACH).map(|_| rng.below(256) as u8).collect();
        assert_eq!(wire.cmd(&[b"SET", format!("big{i}").as_bytes(), &value]), ok());
    }
}

fn kill(server: &mut Server) {
    server.signal(libc::SIGKILL);
    server.wait_exit(LIMIT);
}

fn digest(server: &Server) -> String {
    server.wire().run("DEBUG DIGEST").as_text()
}

fn link(server: &Server) -> String {
    info(server, "master_link_status").trim().to_string()
}

/// Bytes of a copy that a replica of this primary is sent.
fn copy_size(primary: &Server) -> i64 {
    let mut wire = primary.wire();
    assert_eq!(wire.run("SAVE"), ok());
    let size = std::fs::metadata(primary.dir().join("dump.rdb")).expect("a snapshot").len();
    size as i64
}

/// A primary that dies in the middle of a copy, in any framing: the replica has its
/// old data, or none if it had none; and copies from the next primary.
#[test]
fn the_primary_dies_while_it_is_copied() {
    for (round, load) in LOADS.iter().enumerate() {
        for diskless in ["yes", "no"] {
            let mut primary = ours(2, &["--repl-diskless-sync", diskless]);
            let other = ours(1, &[]);
            let replica = ours(2, &["--repl-diskless-load", load]);
            fill(&primary, 4 << 20);
            // With this mode there must not be any for the copy to go into memory.
            let old = if *load == "on-empty-db" { nil() } else { bulk("1") };
            if old != nil() {
                assert_eq!(replica.wire().run("SET old 1"), ok());
            }
            let size = copy_size(&primary);
            let proxy = Proxy::to(primary.port);
            proxy.hold_after(size * (20 + 30 * round as i64) / 100);
            replicate(&replica, proxy.port);
            eventually("a part of the copy", LIMIT, || proxy.is_held());
            eventually("it is there", LIMIT, || count(&replica, "master_sync_read_bytes") > 1 << 18);
            kill(&mut primary);
            proxy.refuse(true);
            proxy.cut();
            eventually("it gives up", LIMIT, || info(&replica, "master_sync_in_progress").trim() == "0");
            let what = format!("{load}, diskless {diskless}: {}", replica.log());
            eventually("it answers", LIMIT, || replica.wire().run("GET old") == old);
            assert_eq!(replica.wire().run("DBSIZE").as_int(), i64::from(old != nil()), "{what}");
            assert_eq!(link(&replica), "down", "{what}");
            other.wire().run("SET new 2");
            replicate(&replica, other.port);
            wait_for_link(&replica);
            wait_until_equal(&other, &[&replica]);
            assert_eq!(replica.wire().run("DBSIZE").as_int(), 1, "{what}");
        }
    }
}

/// Where a replica is killed in the middle of a copy, per cent.
const PLACES: [i64; 9] = [1, 8, 21, 37, 50, 64, 80, 93, 99];

/// A replica with data of its own, on disk, that follows this port.
fn replica(load: &str, port: u16, more: &[&str]) -> (Server, Vec<String>) {
    let of = format!("127.0.0.1 {port}");
    let args: Vec<String> =
        ["--repl-diskless-load", load, "--replicaof", &of].iter().chain(more).map(|s| s.to_string()).collect();
    let mut first = ours(2, &[]);
    assert_eq!(first.wire().run("MSET old 1 older 2"), ok());
    assert_eq!(first.wire().run("SAVE"), ok());
    kill(&mut first);
    (first, args)
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Killed at any place of a copy, in any way of taking it: started again it has
/// what it had on disk, and says that its link is down; then it copies anew.
#[test]
fn a_replica_dies_while_it_copies() {
    let primaries = [ours(2, &["--repl-diskless-sync", "yes"]), stock(&["--repl-diskless-sync", "no"])];
    primaries.iter().for_each(|p| fill(p, 4 << 20));
    let sizes = primaries.each_ref().map(copy_size);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(place), load) = (PLACES.get(n / LOADS.len()), LOADS[n % LOADS.len()]) else { return };
                    let which = n % primaries.len();
                    dies_at(&primaries[which], sizes[which] * place / 100, load);
                }
            });
        }
    });
}

fn dies_at(primary: &Server, bytes: i64, load: &str) {
    let proxy = Proxy::to(primary.port);
    let (place, args) = replica(load, proxy.port, &[]);
    proxy.hold_after(bytes);
    let mut first = again(&place, 2, &words(&args));
    eventually("that many bytes", LIMIT, || proxy.is_held());
    assert_eq!(link(&first), "down");
    kill(&mut first);
    proxy.refuse(true);
    proxy.cut();
    let second = again(&place, 3, &words(&args));
    let what = format!("{load} at {bytes}: {}", second.log());
    assert_eq!(second.wire().run("MGET old older").items(), [bulk("1"), bulk("2")], "{what}");
    assert_eq!((second.wire().run("DBSIZE").as_int(), &link(&second)[..]), (2, "down"), "{what}");
    proxy.refuse(false);
    follows_whole(primary, &second);
}

/// When its link is up, a replica has all there is.
fn follows_whole(primary: &Server, replica: &Server) {
    let all = primary.wire().run("DBSIZE");
    eventually("a link", LIMIT, || {
        let up = link(replica) == "up";
        assert!(!up || replica.wire().run("DBSIZE") == all, "half a dataset is served");
        up
    });
    assert_eq!(digest(replica), digest(primary));
}

/// Killed while it loads what it has received: nothing of it shows afterwards.
#[test]
fn a_replica_dies_while_it_loads() {
    let primary = ours(2, &[]);
    assert_eq!(primary.wire().run("DEBUG POPULATE 20000 key 20"), ok());
    std::thread::scope(|scope| {
        for (n, load) in LOADS.iter().enumerate() {
            for percent in [3, 40, 90] {
                let primary = &primary;
                scope.spawn(move || dies_loading(primary, load, percent, 1 + n));
            }
        }
    });
}

fn dies_loading(primary: &Server, load: &str, percent: u64, cores: usize) {
    let proxy = Proxy::to(primary.port);
    let (place, args) = replica(load, proxy.port, &["--key-load-delay", "100"]);
    let mut first = again(&place, cores, &words(&args));
    eventually("it loads", LIMIT, || {
        let text = first.wire().run("INFO everything").as_text();
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_string());
        let done = |name: &str| field(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        assert_ne!(field("master_link_status:").as_deref(), Some("up"), "it has loaded already");
        // What is loaded from the socket has no length.
        let size = done("loading_total_bytes:").max(1);
        match load {
            "disabled" => {
                field("loading:").as_deref() == Some("1") && done("loading_loaded_bytes:") * 100 / size >= percent
            }
            _ => done("master_sync_read_bytes:") > percent * 5000,
        }
    });
    kill(&mut first);
    proxy.refuse(true);
    proxy.cut();
    let second = again(&place, cores, &words(&args[..args.len() - 2]));
    let what = format!("{load}, {percent}%: {}", second.log());
    assert_eq!((second.wire().run("DBSIZE").as_int(), &link(&second)[..]), (2, "down"), "{what}");
    proxy.refuse(false);
    follows_whole(primary, &second);
}
