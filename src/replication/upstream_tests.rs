//! What a replica tells its primary.

use bytes::Bytes;

use super::event::{Action, Epoch, Event, Moment, Ms};
use super::history::Window;
use super::id::ReplId;
use super::node::Node;
use super::policy::Policy;
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
    let mut node = Node::new(Policy::new(&Settings::default()), Rng::new(1), 0);
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

/// A stock primary that hands over its role holds back writes until its replica
/// acknowledges, and does not ask: waiting for the second between two
/// acknowledgements made that a pause of almost a second.
#[test]
fn what_is_applied_is_acknowledged_as_soon_as_nothing_more_comes() {
    let (mut node, epoch) = linked(100);
    let ack = |n: u64| format!("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n${}\r\n{n}\r\n", n.to_string().len());
    assert_eq!(told(&mut node, 1000, 100, Event::Tick), ack(100));
    let write = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let end = 100 + write.len() as u64;
    told(&mut node, 1100, 100, Event::Received { epoch, bytes: Bytes::from_static(write) });
    assert_eq!(told(&mut node, 1110, 100, Event::Applied { end }), "");
    assert_eq!(told(&mut node, 1120, end, Event::Tick), "", "more may come");
    assert_eq!(told(&mut node, 1200, end, Event::Tick), ack(end));
    assert_eq!(told(&mut node, 1300, end, Event::Tick), "", "that was said");
    assert_eq!(told(&mut node, 2200, end, Event::Tick), ack(end), "a second has passed");
}
