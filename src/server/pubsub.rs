//! Messages on their way to subscribers, and keyspace notification.
//!
//! Order: a publisher's messages reach each subscriber in the order in which
//! they were published, because they take the same queue of the mesh. Where one
//! publisher acts on another's reply, their messages are in order, too
//! ([`super::mail`]). Of what two cores publish at the same time, subscribers on
//! different cores may hear in different orders.

use std::sync::Arc;

use super::core::Core;
use super::msg::Msg;
use super::registry::Outcome;
use crate::command::Fault;
use crate::command::effect::{Class, Event};
use crate::config::KeyspaceEvents;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ReplyMode};
use crate::session::pubsub::{Kind, Place};

/// A published message.
pub struct Publication {
    pub kind: Kind,
    pub channel: Vec<u8>,
    pub message: Vec<u8>,
}

/// One message as bytes, by protocol; made when first needed.
#[derive(Default)]
struct Frames([Option<Vec<u8>>; 2]);

impl Frames {
    fn get(&mut self, proto: Proto, parts: &[&[u8]]) -> &[u8] {
        self.0[usize::from(proto == Proto::Resp3)].get_or_insert_with(|| {
            let mut out = Vec::with_capacity(32 + parts.iter().map(|p| p.len() + 16).sum::<usize>());
            let mut r = Reply::new(&mut out, proto);
            r.push(parts.len());
            parts.iter().for_each(|p| r.bulk(p));
            out
        })
    }
}

impl Core {
    /// Publishes a message; the number of subscribers that will receive it.
    pub fn publish(&mut self, kind: Kind, channel: &[u8], message: &[u8]) -> u64 {
        if self.audience.is_empty() {
            return 0;
        }
        let (count, cores) = self.audience.receivers(kind, channel);
        if count == 0 {
            return 0;
        }
        let publication = Arc::new(Publication { kind, channel: channel.to_vec(), message: message.to_vec() });
        for core in cores {
            if core == self.id {
                self.deliver_publication(&publication);
            } else {
                let publication = publication.clone();
                self.send(core, Msg::Call(Box::new(move |c: &mut Core| c.deliver_publication(&publication))));
            }
        }
        count
    }

    /// Gives a message to this core's subscribers: those of the channel, then
    /// those of the patterns that match it.
    fn deliver_publication(&mut self, p: &Publication) {
        let word: &[u8] = if p.kind == Kind::Shard { b"smessage" } else { b"message" };
        let mut frames = Frames::default();
        let places: Vec<Place> = self.subscribers.of(p.kind, &p.channel).collect();
        for place in places {
            self.push_frame(place, &mut frames, &[word, &p.channel, &p.message]);
        }
        if p.kind != Kind::Channel {
            return;
        }
        let matching = self.subscribers.matching(&p.channel);
        let patterns: Vec<(Vec<u8>, Vec<Place>)> =
            matching.map(|(pattern, places)| (pattern.to_vec(), places.iter().copied().collect())).collect();
        for (pattern, places) in patterns {
            let mut frames = Frames::default();
            for place in places {
                self.push_frame(place, &mut frames, &[b"pmessage", &pattern, &p.channel, &p.message]);
            }
        }
    }

    fn push_frame(&mut self, (index, generation): Place, frames: &mut Frames, parts: &[&[u8]]) {
        match self.conns.take(index, generation) {
            Some(mut c) => {
                let frame = frames.get(c.proto, parts);
                self.push_bytes(&mut c, frame);
                self.put_conn(c);
            }
            // The connection is being served: it gets the message once it has
            // the reply to its command.
            None => {
                let parts: Vec<Vec<u8>> = parts.iter().map(|p| p.to_vec()).collect();
                let later = move |core: &mut Core| {
                    let Some(mut c) = core.conns.take(index, generation) else { return };
                    let parts: Vec<&[u8]> = parts.iter().map(|p| &p[..]).collect();
                    let proto = c.proto;
                    core.push_bytes(&mut c, Frames::default().get(proto, &parts));
                    core.put_conn(c);
                };
                self.send(self.id, Msg::Call(Box::new(later)));
            }
        }
    }

    /// Puts a push message among the replies of a connection, behind what is
    /// outstanding. A peer that does not read is cut off at its class's limit.
    pub fn push_bytes(&mut self, conn: &mut Conn, frame: &[u8]) {
        if conn.closing || conn.close_after {
            return;
        }
        self.lend_buffer(conn);
        if conn.blocked().is_some() {
            conn.push_aside(frame);
        } else {
            let buffer = conn.replies.buffer();
            let start = buffer.len();
            buffer.extend_from_slice(frame);
            conn.replies.commit(start);
        }
        self.mark_dirty(conn);
        if conn.sending && self.over_limit(conn) {
            self.close(conn);
        }
    }

    /// Subscribes a connection; the confirmations leave when all cores know.
    pub fn subscribe(&mut self, conn: &mut Conn, kind: Kind, names: &[&[u8]]) -> Result<Outcome, Fault> {
        let word: &[u8] = match kind {
            Kind::Channel => b"subscribe",
            Kind::Pattern => b"psubscribe",
            Kind::Shard => b"ssubscribe",
        };
        let place = (conn.me.index, conn.me.generation);
        let mut out = Vec::new();
        let mut changed = Vec::new();
        for name in names {
            let subscriptions = conn.extra().subscriptions.get_or_insert_with(Box::default);
            if subscriptions.add(kind, name) {
                self.subscribers.add(kind, name, place);
                changed.push(name.to_vec());
            }
            let shown = subscriptions.shown(kind);
            confirm(&mut out, conn.proto, word, Some(name), shown);
        }
        conn.update_special();
        self.announce(conn, kind, changed, true, out)
    }

    /// Ends subscriptions, all of the kind if no names are given.
    pub fn unsubscribe(&mut self, conn: &mut Conn, kind: Kind, names: &[&[u8]]) -> Result<Outcome, Fault> {
        let word: &[u8] = match kind {
            Kind::Channel => b"unsubscribe",
            Kind::Pattern => b"punsubscribe",
            Kind::Shard => b"sunsubscribe",
        };
        let place = (conn.me.index, conn.me.generation);
        let proto = conn.proto;
        let mut out = Vec::new();
        let mut changed = Vec::new();
        let subscriptions = conn.extra().subscriptions.get_or_insert_with(Box::default);
        let names: Vec<Vec<u8>> =
            if names.is_empty() { subscriptions.names(kind) } else { names.iter().map(|n| n.to_vec()).collect() };
        if names.is_empty() {
            confirm(&mut out, proto, word, None, subscriptions.shown(kind));
        }
        for name in names {
            let known = subscriptions.remove(kind, &name);
            confirm(&mut out, proto, word, Some(&name), subscriptions.shown(kind));
            if known {
                self.subscribers.remove(kind, &name, place);
                changed.push(name);
            }
        }
        drop_empty(conn);
        self.announce(conn, kind, changed, false, out)
    }

    /// Tells all cores of changed subscriptions, and then the client.
    fn announce(
        &mut self,
        conn: &mut Conn,
        kind: Kind,
        changed: Vec<Vec<u8>>,
        more: bool,
        confirmations: Vec<u8>,
    ) -> Result<Outcome, Fault> {
        // Confirmations are pushes: CLIENT REPLY OFF does not suppress them.
        let mode = std::mem::replace(&mut conn.reply_mode, ReplyMode::On);
        let home = self.id;
        let outcome = if self.shared.cores == 1 || changed.is_empty() {
            self.adjust_audience(kind, &changed, home, more);
            conn.reply(|r| r.raw(&confirmations));
            Ok(Outcome::Done)
        } else {
            self.gather(
                conn,
                move |core| core.adjust_audience(kind, &changed, home, more),
                move |_, _, r| r.raw(&confirmations),
            )
        };
        conn.reply_mode = mode;
        outcome
    }

    fn adjust_audience(&mut self, kind: Kind, names: &[Vec<u8>], core: usize, more: bool) {
        for name in names {
            if more {
                self.audience.add(kind, name, core);
            } else {
                self.audience.remove(kind, name, core);
            }
        }
        self.update_notifying();
    }

    /// Ends all subscriptions of a connection that closes or is reset.
    pub fn forget_subscriptions(&mut self, conn: &mut Conn) {
        let Some(old) = conn.extra.as_mut().and_then(|x| x.subscriptions.take()) else { return };
        conn.update_special();
        let place = (conn.me.index, conn.me.generation);
        let home = self.id;
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            let names = old.names(kind);
            if names.is_empty() {
                continue;
            }
            names.iter().for_each(|name| self.subscribers.remove(kind, name, place));
            self.adjust_audience(kind, &names, home, false);
            let names = Arc::new(names);
            for core in (0..self.shared.cores).filter(|c| *c != home) {
                let names = names.clone();
                let call = move |c: &mut Core| c.adjust_audience(kind, &names, home, false);
                self.send(core, Msg::Call(Box::new(call)));
            }
        }
    }

    /// Keyspace events are made only while they are configured and anybody
    /// listens to anything.
    pub fn update_notifying(&mut self) {
        self.notifying = !self.settings.notify_keyspace_events.is_empty() && !self.audience.is_empty();
    }

    /// Does anyone read the events of commands?
    #[inline]
    pub fn wants_events(&self) -> bool {
        !self.watches.is_empty()
            || self.notifying
            || !self.blocking.is_empty()
            || self.tracker.listens()
            || self.local_deadlines.is_some()
    }

    /// Publishes what happened to keys.
    pub fn notify(&mut self, events: &[Event]) {
        let wanted = self.settings.notify_keyspace_events;
        for e in events {
            let Some(class) = class_of(e) else { continue };
            if !wanted.wants(class) {
                continue;
            }
            if wanted.contains(KeyspaceEvents::KEYSPACE) {
                let mut channel = format!("__keyspace@{}__:", e.db).into_bytes();
                channel.extend_from_slice(&e.key);
                self.publish(Kind::Channel, &channel, e.name.as_bytes());
            }
            if wanted.contains(KeyspaceEvents::KEYEVENT) {
                let channel = format!("__keyevent@{}__:{}", e.db, e.name);
                self.publish(Kind::Channel, channel.as_bytes(), &e.key);
            }
        }
    }
}

/// The configured class of an event; none for changes that are not notified.
fn class_of(e: &Event) -> Option<KeyspaceEvents> {
    Some(match e.class {
        Class::Generic => KeyspaceEvents::GENERIC,
        Class::String => KeyspaceEvents::STRING,
        Class::List => KeyspaceEvents::LIST,
        Class::Set => KeyspaceEvents::SET,
        Class::Hash => KeyspaceEvents::HASH,
        Class::ZSet => KeyspaceEvents::ZSET,
        Class::Stream => KeyspaceEvents::STREAM,
        Class::Expired => KeyspaceEvents::EXPIRED,
        Class::Evicted => KeyspaceEvents::EVICTED,
        Class::New => KeyspaceEvents::NEW,
        Class::Miss => KeyspaceEvents::KEY_MISS,
        Class::Silent => return None,
    })
}

/// Writes one confirmation: word, name, number of subscriptions.
fn confirm(out: &mut Vec<u8>, proto: Proto, word: &[u8], name: Option<&[u8]>, shown: usize) {
    let mut r = Reply::new(out, proto);
    r.push(3);
    r.bulk(word);
    match name {
        Some(name) => r.bulk(name),
        None => r.null(),
    }
    r.int(shown as i64);
}

/// A connection without subscriptions is an ordinary one again.
fn drop_empty(conn: &mut Conn) {
    if let Some(x) = conn.extra.as_mut()
        && x.subscriptions.as_ref().is_some_and(|s| s.is_empty())
    {
        x.subscriptions = None;
    }
    conn.update_special();
}
