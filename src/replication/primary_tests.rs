//! What becomes of a primary's history.

use super::event::{Action, Event, Moment, Ms, Psync};
use super::history::{History, Window};
use super::id::ReplId;
use super::node::Node;
use super::peer::Peer;
use super::policy::Policy;
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

/// WAIT counts those that have acknowledged, each once, and none that has less.
#[test]
fn only_replicas_that_have_it_are_counted() {
    let mut node = Node::new(Policy::new(&Settings::default()), Rng::new(4), 0);
    let window = Window { active: true, first: 1, kept: 1, end: 500 };
    let id = node.history.id;
    for link in [1, 2, 3] {
        resume(&mut node, link, window, id, 101);
    }
    assert_eq!(node.counters.partial_ok, 3);
    let outcome = |node: &mut Node, ticket, replicas, offset, deadline| {
        let wait = Event::Wait { ticket, offset, local: None, replicas, fsynced: false, deadline };
        step(node, 100, window, wait).into_iter().find_map(|action| match action {
            Action::WaitDone { replicas, .. } => Some(replicas),
            _ => None,
        })
    };
    for (link, offset) in [(1, 400), (2, 399), (2, 399), (3, 500)] {
        step(&mut node, 50, window, Event::Ack { link, offset, fsynced: None });
    }
    assert_eq!(outcome(&mut node, 1, 9, 399, Some(100)), Some(3));
    assert_eq!(outcome(&mut node, 2, 9, 400, Some(100)), Some(2));
    assert_eq!(outcome(&mut node, 3, 9, 401, Some(100)), Some(1));
    assert_eq!(outcome(&mut node, 4, 2, 401, None), None);
    assert_eq!(outcome(&mut node, 5, 1, 401, None), Some(1));
}
