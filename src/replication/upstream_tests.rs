//! What a replica tells its primary.

use bytes::Bytes;

use super::event::{Action, Epoch, Event, FailoverOrder, Moment, Ms, Psync};
use super::history::Window;
use super::id::ReplId;
use super::node::Node;
use super::peer::Peer;
use super::policy::Policy;
use super::primary::GETACK;
use crate::base::rng::Rng;
use crate::config::Settings;

/// What is told to the primary on this event.
fn told(node: &mut Node, now: Ms, end: u64, event: Event) -> String {
    let window = Window { active: true, first: 1, kept: 1, end };
    let mut out = Vec::new();
    for action in node.step(Moment { now, window }, event) {
        if let Action::Tell { bytes, .. } = action {
            out.extend_from_slice(&bytes);
        }
    }
    String::from_utf8(out).expect("text")
}

/// A replica that goes on with its primary at an offset.
fn linked(offset: u64) -> (Node, Epoch) {
    linked_with(Settings::default(), offset)
}

fn linked_with(settings: Settings, offset: u64) -> (Node, Epoch) {
    let mut node = Node::new(Policy::new(&settings), Rng::new(1), 0);
    let id = ReplId::parse(&[b'a'; 40]).expect("an id");
    node.restore_replica(id, offset, 0);
    told(&mut node, 0, offset, Event::ReplicaOf { host: "h".into(), port: 1 });
    told(&mut node, 0, offset, Event::Fenced);
    let epoch = node.upstream.as_ref().expect("a primary").epoch;
    assert!(told(&mut node, 0, offset, Event::Connected { epoch }).contains("PING"));
    for line in ["+PONG\r\n", "+OK\r\n+OK\r\n", "+CONTINUE\r\n"] {
        told(&mut node, 0, offset, Event::Received { epoch, bytes: Bytes::from_static(line.as_bytes()) });
    }
    assert!(node.upstream.as_ref().is_some_and(|up| up.connected()));
    (node, epoch)
}

fn ack(n: u64) -> String {
    format!("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n${}\r\n{n}\r\n", n.to_string().len())
}

const WRITE: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

/// A stock primary that hands over its role holds back writes until its replica
/// acknowledges, and does not ask: waiting for the second between two
/// acknowledgements made that a pause of almost a second.
#[test]
fn what_is_applied_is_acknowledged_as_soon_as_nothing_more_comes() {
    let (mut node, epoch) = linked(100);
    assert_eq!(told(&mut node, 1000, 100, Event::Tick), ack(100));
    let end = 100 + WRITE.len() as u64;
    told(&mut node, 1100, 100, Event::Received { epoch, bytes: Bytes::from_static(WRITE) });
    assert_eq!(told(&mut node, 1110, 100, Event::Applied { end }), "");
    assert_eq!(told(&mut node, 1120, end, Event::Tick), "", "more may come");
    assert_eq!(told(&mut node, 1200, end, Event::Tick), ack(end));
    assert_eq!(told(&mut node, 1300, end, Event::Tick), "", "that was said");
    assert_eq!(told(&mut node, 2200, end, Event::Tick), ack(end), "a second has passed");
}

/// WAIT and a planned failover rest on this: what was only received is lost if
/// this replica takes over before it has applied it.
#[test]
fn what_is_only_received_is_not_acknowledged() {
    let (mut node, epoch) = linked(100);
    let received = |bytes: &'static [u8]| Event::Received { epoch, bytes: Bytes::from_static(bytes) };
    let (written, asked) = (100 + WRITE.len() as u64, 100 + (WRITE.len() + GETACK.len()) as u64);
    assert_eq!(told(&mut node, 1000, 100, received(WRITE)), "");
    assert_eq!(told(&mut node, 1010, 100, received(GETACK)), "", "the request comes behind the write");
    assert_eq!(told(&mut node, 3000, 100, Event::Tick), ack(100), "what is due each second");
    assert_eq!(told(&mut node, 3010, 100, Event::Applied { end: written }), "");
    // The offset is that before the request, as with stock servers.
    let answer = told(&mut node, 3020, written, Event::Applied { end: asked });
    assert!(answer == ack(written) || answer == ack(asked), "{answer:?}");
}

/// WAITAOF rests on this one: the offset on disk trails what is applied.
#[test]
fn what_is_only_applied_is_not_called_durable() {
    let mut settings = Settings::default();
    settings.persistence.appendonly = true;
    let (mut node, epoch) = linked_with(settings, 100);
    let end = 100 + WRITE.len() as u64;
    let fack = |node: &mut Node, now: Ms, end: u64| {
        let text = told(node, now, end, Event::Tick);
        let words: Vec<&str> = text.split("\r\n").collect();
        assert!(words.contains(&"ACK") && words.contains(&"FACK"), "{text:?}");
        (words[6].parse::<u64>().expect("an offset"), words[10].parse::<u64>().expect("an offset"))
    };
    told(&mut node, 900, 100, Event::Fsynced { offset: 60, past: 1 });
    assert_eq!(fack(&mut node, 2000, 100), (100, 60));
    told(&mut node, 2010, 100, Event::Received { epoch, bytes: Bytes::from_static(WRITE) });
    told(&mut node, 2020, 100, Event::Applied { end });
    assert_eq!(fack(&mut node, 4000, end), (end, 60));
    told(&mut node, 4010, end, Event::Fsynced { offset: end, past: 2 });
    assert_eq!(fack(&mut node, 6000, end), (end, end));
}

/// What comes to a node, one event after the other.
fn goes_through(node: &mut Node, now: Ms, end: u64, events: Vec<Event>) {
    for event in events {
        told(node, now, end, event);
    }
}

/// The end of one link to the primary, and the beginning of the next, up to PSYNC.
fn linked_anew(node: &mut Node, now: Ms, end: u64) -> Epoch {
    let epoch = node.upstream.as_ref().expect("a primary").epoch;
    goes_through(node, now, end, vec![Event::Lost { epoch, reason: "gone".into() }]);
    told(node, now + 2000, end, Event::Tick);
    let epoch = node.upstream.as_ref().expect("a primary").epoch;
    goes_through(node, now + 2000, end, vec![Event::Connected { epoch }]);
    for line in ["+PONG\r\n", "+OK\r\n+OK\r\n"] {
        goes_through(node, now + 2000, end, vec![said(epoch, line)]);
    }
    epoch
}

fn said(epoch: Epoch, line: &'static str) -> Event {
    Event::Received { epoch, bytes: Bytes::from_static(line.as_bytes()) }
}

const FULL: &str = "+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 7\r\n$3\r\nabc";

/// Orders that follow each other before the first is carried out: the last counts.
#[test]
fn who_is_to_follow_again_is_not_promoted_behind_it() {
    let (mut node, epoch) = linked(100);
    let end = 100 + WRITE.len() as u64;
    told(&mut node, 1000, 100, Event::Received { epoch, bytes: Bytes::from_static(WRITE) });
    told(&mut node, 1010, 100, Event::NoOne);
    assert!(node.is_replica(), "what is in flight comes first");
    told(&mut node, 1020, 100, Event::ReplicaOf { host: "other".into(), port: 2 });
    told(&mut node, 1030, 100, Event::Applied { end });
    assert_eq!(node.upstream.as_ref().map(|up| up.host.as_str()), Some("other"));
}

/// The link went on to be dropped with the next primary, too.
#[test]
fn a_refused_failover_leaves_nothing_behind() {
    let mut node = Node::new(Policy::new(&Settings::default()), Rng::new(1), 0);
    let peer = Peer { ip: "h".into(), port: 1, ..Peer::default() };
    let psync = Psync { link: 1, peer, id: Some(node.history.id), next: 101, failover: false };
    goes_through(
        &mut node,
        10,
        100,
        vec![
            Event::Psync(psync),
            Event::Ack { link: 1, offset: 100, fsynced: None },
            Event::Failover(FailoverOrder::default()),
            Event::Paused,
            Event::Ack { link: 1, offset: 100, fsynced: None },
            Event::Fenced,
        ],
    );
    let epoch = node.upstream.as_ref().expect("it hands over").epoch;
    goes_through(&mut node, 20, 100, vec![Event::Connected { epoch }]);
    assert!(told_lines(&mut node, epoch, &["+PONG\r\n", "+OK\r\n+OK\r\n"]).contains("FAILOVER"));
    goes_through(&mut node, 30, 100, vec![said(epoch, "-ERR no\r\n")]);
    assert!(!node.is_replica() && !node.failover.underway());
    goes_through(&mut node, 40, 100, vec![Event::ReplicaOf { host: "h".into(), port: 2 }, Event::Fenced]);
    let epoch = node.upstream.as_ref().expect("a primary").epoch;
    goes_through(&mut node, 50, 100, vec![Event::Connected { epoch }]);
    assert!(!told_lines(&mut node, epoch, &["+PONG\r\n", "+OK\r\n+OK\r\n"]).contains("FAILOVER"));
    goes_through(&mut node, 60, 100, vec![said(epoch, "+CONTINUE\r\n")]);
    assert!(node.upstream.as_ref().is_some_and(|up| up.connected()));
}

fn told_lines(node: &mut Node, epoch: Epoch, lines: &[&'static str]) -> String {
    lines.iter().map(|line| told(node, 25, 100, said(epoch, line))).collect()
}

/// A primary that has hung up while its copy was loaded ends that link, not the
/// next one.
#[test]
fn the_end_of_a_link_is_not_that_of_the_next() {
    let (mut node, _) = linked(100);
    let epoch = linked_anew(&mut node, 1000, 100);
    goes_through(
        &mut node,
        4000,
        100,
        vec![
            said(epoch, FULL),
            Event::Lost { epoch, reason: "hung up".into() },
            Event::LoadFailed { reason: "bad".into() },
        ],
    );
    let epoch = linked_anew(&mut node, 5000, 100);
    goes_through(&mut node, 8000, 100, vec![said(epoch, FULL), Event::Loaded { db: 0 }]);
    assert!(node.upstream.as_ref().is_some_and(|up| up.connected()));
}

/// A primary that only knows SYNC is told nothing; the one that comes after it at
/// the same address is.
#[test]
fn who_knows_psync_is_told_offsets_whoever_came_before() {
    let (mut node, _) = linked(100);
    let epoch = linked_anew(&mut node, 1000, 100);
    goes_through(&mut node, 4000, 100, vec![said(epoch, "-ERR unknown command\r\n"), said(epoch, "$3\r\nabc")]);
    assert_eq!(told(&mut node, 4000, 100, Event::Loaded { db: 0 }), "");
    let epoch = linked_anew(&mut node, 5000, 0);
    goes_through(&mut node, 8000, 0, vec![said(epoch, FULL)]);
    assert_eq!(told(&mut node, 8000, 0, Event::Loaded { db: 0 }), ack(7));
}
