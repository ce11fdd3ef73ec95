//! What becomes of a primary's history.

use super::event::{Action, Event, FailoverOrder, LinkId, Moment, Ms, Psync, Ticket};
use super::failover::Phase;
use super::history::{History, Window};
use super::id::ReplId;
use super::node::Node;
use super::peer::Peer;
use super::policy::Policy;
use super::primary::GETACK;
use crate::base::rng::Rng;
use crate::config::Settings;

fn step(node: &mut Node, now: Ms, window: Window, event: Event) -> Vec<Action> {
    node.step(Moment { now, window }, event)
}

fn resume(node: &mut Node, now: Ms, window: Window, id: ReplId, next: i64) -> Vec<Action> {
    let psync = Psync { link: now, peer: Peer::default(), id: Some(id), next, failover: false };
    step(node, now, window, Event::Psync(psync))
}

/// Nobody keeps what is written between the end of one backlog and the beginning
/// of the next. A replica that stood at the end of the first must not go on in the
/// second as if nothing were between.
#[test]
fn the_history_ends_with_an_idle_backlog() {
    let settings = Settings::default();
    let ttl = Policy::new(&settings).backlog_ttl_ms;
    let mut node = Node::new(Policy::new(&settings), Rng::new(3), 0);
    let window = Window { active: true, first: 1, kept: 1, end: 500 };
    let id = node.history.id;
    let frees = |actions: &[Action]| actions.contains(&Action::FreeLog);
    assert!(!frees(&step(&mut node, ttl, window, Event::Tick)), "there is time left");
    assert_eq!(node.history.accepts(Some(id), 501, &window), Ok(()));
    assert!(frees(&step(&mut node, ttl + 2000, window, Event::Tick)));
    assert_ne!(node.history.id, id);
    assert_eq!(node.history, History { id2: ReplId::NONE, second_offset: None, ..node.history });
    // The stream goes on from where it was, with what nobody kept behind it.
    let none = Window { active: false, ..window };
    resume(&mut node, ttl + 3000, none, id, 501);
    assert_eq!((node.counters.partial_ok, node.counters.partial_err), (0, 1));
    let later = Window { first: 501, kept: 501, end: 600, ..window };
    resume(&mut node, ttl + 4000, later, id, 501);
    assert_eq!((node.counters.partial_ok, node.counters.partial_err), (0, 2));
}

/// A primary with 500 bytes of stream, of which all are kept, and the link ids of
/// three replicas that go on in it.
fn with_three() -> (Node, Window) {
    let mut node = Node::new(Policy::new(&Settings::default()), Rng::new(4), 0);
    let window = Window { active: true, first: 1, kept: 1, end: 500 };
    let id = node.history.id;
    for link in [1, 2, 3] {
        resume(&mut node, link, window, id, 101);
    }
    assert_eq!(node.counters.partial_ok, 3);
    (node, window)
}

/// A replica comes that wants a copy.
fn asks_for_copy(node: &mut Node, link: LinkId, window: Window) {
    let psync = Psync { link, peer: Peer::default(), id: None, next: -1, failover: false };
    step(node, 10, window, Event::Psync(psync));
    assert!(!node.replicas[&link].online());
}

fn acked(node: &mut Node, window: Window, all: &[(LinkId, u64, Option<u64>)]) {
    for (link, offset, fsynced) in all {
        step(node, 50, window, Event::Ack { link: *link, offset: *offset, fsynced: *fsynced });
    }
}

/// The answer, if there is one, to a wait for so many replicas; `of` is the offset
/// waited for, and whether on disk.
fn counted(node: &mut Node, ticket: Ticket, replicas: usize, of: (u64, bool), deadline: Option<Ms>) -> Option<usize> {
    let window = Window { active: true, first: 1, kept: 1, end: 500 };
    let wait = Event::Wait { ticket, offset: of.0, local: None, replicas, fsynced: of.1, deadline };
    step(node, 100, window, wait).into_iter().find_map(|action| match action {
        Action::WaitDone { replicas, .. } => Some(replicas),
        _ => None,
    })
}

/// WAIT counts those that have acknowledged, each once, and none that has less.
#[test]
fn only_replicas_that_have_it_are_counted() {
    let (mut node, window) = with_three();
    acked(&mut node, window, &[(1, 400, None), (2, 399, None), (2, 399, None), (3, 500, None)]);
    assert_eq!(counted(&mut node, 1, 9, (399, false), Some(100)), Some(3));
    assert_eq!(counted(&mut node, 2, 9, (400, false), Some(100)), Some(2));
    assert_eq!(counted(&mut node, 3, 9, (401, false), Some(100)), Some(1));
    assert_eq!(counted(&mut node, 4, 2, (401, false), None), None);
    assert_eq!(counted(&mut node, 5, 1, (401, false), None), Some(1));
}

/// WAITAOF counts those that have it on disk: what else they have does not matter,
/// nor does one that says nothing of its disk.
#[test]
fn only_replicas_that_have_it_on_disk_are_counted_by_waitaof() {
    let (mut node, window) = with_three();
    acked(&mut node, window, &[(1, 500, Some(400)), (2, 500, Some(399)), (3, 500, None)]);
    assert_eq!(counted(&mut node, 1, 9, (399, true), Some(100)), Some(2));
    assert_eq!(counted(&mut node, 2, 9, (400, true), Some(100)), Some(1));
    assert_eq!(counted(&mut node, 3, 9, (401, true), Some(100)), Some(0));
    assert_eq!(counted(&mut node, 4, 1, (401, true), None), None);
}

/// One that has no copy yet has nothing, whatever it says: neither WAIT nor
/// `min-replicas-to-write` nor FAILOVER may build on it.
#[test]
fn who_is_not_online_does_not_count() {
    let (mut node, window) = with_three();
    asks_for_copy(&mut node, 4, window);
    acked(&mut node, window, &[(1, 400, None), (4, 500, Some(500))]);
    assert_eq!(counted(&mut node, 1, 9, (400, false), Some(100)), Some(1));
    assert_eq!(counted(&mut node, 2, 9, (400, true), Some(100)), Some(0));
    assert_eq!(node.good_replicas(), 3);
    step(&mut node, 100, window, Event::Failover(FailoverOrder::default()));
    step(&mut node, 100, window, Event::Paused);
    assert_eq!(node.failover.phase, Phase::WaitingForSync);
    acked(&mut node, window, &[(2, 500, None)]);
    assert_eq!(node.failover.phase, Phase::InProgress);
}

/// FAILOVER waits for all that was written before writes were held back.
#[test]
fn a_failover_waits_for_the_last_byte() {
    let (mut node, window) = with_three();
    acked(&mut node, window, &[(1, 499, None), (2, 400, None)]);
    step(&mut node, 100, window, Event::Failover(FailoverOrder::default()));
    acked(&mut node, window, &[(1, 500, None)]);
    assert_eq!(node.failover.phase, Phase::WaitingForSync, "writes may still be on their way");
    acked(&mut node, Window { end: 510, ..window }, &[(1, 509, None)]);
    step(&mut node, 110, Window { end: 510, ..window }, Event::Paused);
    step(&mut node, 120, Window { end: 547, ..window }, Event::Tick);
    assert_eq!(node.failover.phase, Phase::WaitingForSync, "the last byte is missing");
    acked(&mut node, Window { end: 547, ..window }, &[(1, 510, None)]);
    assert_eq!(node.failover.phase, Phase::InProgress);
}

/// The time for which a backlog is kept without replicas begins when the last has
/// gone, not when the server was started.
#[test]
fn the_backlog_stays_for_its_time_after_the_last_replica() {
    let (mut node, window) = with_three();
    let ttl = node.policy.backlog_ttl_ms;
    let frees = |actions: Vec<Action>| actions.contains(&Action::FreeLog);
    for link in [1, 2, 3] {
        step(&mut node, 2 * ttl, window, Event::Gone { link });
    }
    assert!(!frees(step(&mut node, 2 * ttl + 1000, window, Event::Tick)));
    assert!(!frees(step(&mut node, 3 * ttl, window, Event::Tick)));
    assert!(frees(step(&mut node, 3 * ttl + 2000, window, Event::Tick)));
}

/// A replica may leave much unread now and then, as long as it is not for long at
/// a time.
#[test]
fn the_soft_limit_counts_from_when_it_was_passed_last() {
    let (mut node, window) = with_three();
    (node.policy.output_soft_bytes, node.policy.output_soft_ms) = (1000, 5000);
    let sent = |node: &mut Node, now, offset| {
        for link in [1, 2, 3] {
            step(node, now, window, Event::Sent { link, offset });
        }
    };
    let at = |end| Window { end, ..window };
    step(&mut node, 1000, at(2000), Event::Tick);
    sent(&mut node, 2000, 2000);
    step(&mut node, 2000, at(2000), Event::Tick);
    step(&mut node, 6500, at(4000), Event::Tick);
    step(&mut node, 11_000, at(4000), Event::Tick);
    assert_eq!(node.replicas.len(), 3, "since 6500 only");
    step(&mut node, 12_000, at(4000), Event::Tick);
    assert_eq!((node.replicas.len(), node.counters_output_closes), (0, 3));
}

/// A request for acknowledgements that stands in another history is not in this
/// one: replicas are asked anew, or WAIT would take until the second is over.
#[test]
fn who_leads_anew_asks_anew() {
    let asks = |node: &mut Node, ticket, offset, end| {
        let wait = Event::Wait { ticket, offset, local: None, replicas: 9, fsynced: false, deadline: None };
        let window = Window { active: true, first: 1, kept: 1, end };
        step(node, 100, window, wait).contains(&Action::Append(GETACK))
    };
    let (mut node, window) = with_three();
    assert!(asks(&mut node, 1, 500, 500));
    assert!(!asks(&mut node, 2, 500, 537), "that stands there");
    step(&mut node, 200, window, Event::ReplicaOf { host: "h".into(), port: 1 });
    step(&mut node, 200, window, Event::Fenced);
    step(&mut node, 200, window, Event::NoOne);
    let id = node.history.id;
    resume(&mut node, 300, window, id, 501);
    assert!(asks(&mut node, 3, 500, 537));
}
