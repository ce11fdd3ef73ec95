//! Links that break all the time, in chains that change their order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::servers::*;
use super::support::{Rng, Server};

/// Time between two breaks, each of one server's links to all its replicas.
const EVERY: Duration = Duration::from_millis(300);

/// Time between two changes of the order.
const ROUND: Duration = Duration::from_millis(3000);

/// How long in all: `FLAP_SECONDS`, by default two rounds.
fn length() -> Duration {
    let set = std::env::var("FLAP_SECONDS").ok().and_then(|s| s.parse().ok());
    set.map_or(ROUND * 2, Duration::from_secs)
}

/// Places all others in a random tree under the head, each behind the proxy of
/// the one above it.
fn lay_out(nodes: &[(Server, Proxy)], head: usize, rng: &mut Rng) {
    assert!(!nodes[head].0.wire().run("REPLICAOF NO ONE").is_error());
    let mut placed = vec![head];
    let mut others: Vec<usize> = (0..nodes.len()).filter(|n| *n != head).collect();
    while !others.is_empty() {
        let node = others.remove(rng.below(others.len()));
        let over = placed[rng.below(placed.len())];
        replicate(&nodes[node].0, nodes[over].1.port);
        placed.push(node);
    }
}

/// Five servers, ours and stock, replicate in trees that change, over links
/// that break every 300 ms while the head is written to. Nobody needs a second
/// copy, and in the end all have the same data at the same offset. Scenario 11;
/// `scripts/flaps` runs it for a minute.
#[test]
fn links_that_break_all_the_time_need_no_copies() {
    let args = ["--repl-backlog-size", "16mb"];
    let servers = [ours(2, &args), stock(&args), ours(1, &args), stock(&args), ours(3, &args)];
    let nodes: Vec<(Server, Proxy)> = servers
        .into_iter()
        .map(|s| {
            let proxy = Proxy::to(s.port);
            (s, proxy)
        })
        .collect();
    let seed = std::env::var("FLAP_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7);
    let mut rng = Rng::new(seed);
    let full = || nodes.iter().map(|(s, _)| count(s, "sync_full")).sum::<u64>();
    let (mut head, mut round) = (0, 0);
    let end = Instant::now() + length();
    let mut breaks = 0;
    while Instant::now() < end {
        lay_out(&nodes, head, &mut rng);
        for (server, _) in nodes.iter().enumerate().filter(|(n, _)| *n != head).map(|(_, n)| n) {
            wait_for_link(server);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = StopAtEnd(&stop);
            let writer = &nodes[head].0;
            scope.spawn(|| {
                let mut piece = 0;
                while !stop.load(Ordering::Relaxed) {
                    write_some(writer, seed * 1000 + round * 100 + piece, 50);
                    piece += 1;
                }
            });
            let over = Instant::now() + ROUND;
            while Instant::now() < over {
                std::thread::sleep(EVERY);
                nodes[rng.below(nodes.len())].1.cut();
                breaks += 1;
            }
        });
        let replicas: Vec<&Server> = (0..nodes.len()).filter(|n| *n != head).map(|n| &nodes[n].0).collect();
        wait_until_equal(&nodes[head].0, &replicas);
        assert_eq!(full(), 4, "a second copy in round {round} (FLAP_SEED={seed})");
        head = rng.below(nodes.len());
        round += 1;
    }
    let partial: u64 = nodes.iter().map(|(s, _)| count(s, "sync_partial_ok")).sum();
    assert!(partial >= round, "{breaks} breaks, and only {partial} links were made anew");
}
