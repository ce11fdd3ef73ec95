//! `appendfsync always`: no reply leaves before everything it may rest on is
//! on disk.
//!
//! A reply of a turn can rest on what this core has published, and on what
//! other cores had published before they sent it something. All of that is
//! stamped no later than the latest record in any lane, so output waits until
//! that stamp is durable. Whatever a connection says meanwhile waits for the
//! next flush; commits are made in groups.

use std::sync::atomic::Ordering;

use super::core::Core;
use crate::session::conn::Conn;

impl Core {
    /// Do replies have to wait for the disk, or do any?
    #[inline]
    pub fn holds_replies(&self) -> bool {
        !self.unsent.0.is_empty() || self.durable() != u64::MAX
    }

    fn durable(&self) -> u64 {
        self.shared.persistence.aof.durable.load(Ordering::SeqCst)
    }

    /// Can connections that were held go on?
    pub fn may_release(&self) -> bool {
        self.unsent.0.front().is_some_and(|(need, ..)| *need < self.durable())
    }

    /// Sends what may be sent, and holds the rest.
    pub fn flush_durable(&mut self) {
        let durable = self.durable();
        let need = self.shared.lanes.iter().map(|l| l.last()).max().unwrap_or(0);
        while let Some((due, index, generation)) = self.unsent.0.front().copied()
            && due < durable
        {
            self.unsent.0.pop_front();
            if let Some(mut conn) = self.conns.take(index, generation) {
                self.flush_held(&mut conn, durable, need);
                self.put_conn(conn);
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some(mut conn) = self.conns.take_at(index) else { continue };
            conn.listed_dirty = false;
            self.flush_held(&mut conn, durable, need);
            self.put_conn(conn);
        }
        self.dirty = dirty;
        let awaits = self.unsent.0.front().map_or(0, |(need, ..)| *need);
        if awaits != self.unsent.1 {
            self.unsent.1 = awaits;
            self.lane.set_awaits(awaits);
        }
    }

    fn flush_held(&mut self, conn: &mut Conn, durable: u64, need: u64) {
        // What has been released goes first, and takes nothing of what has not: over
        // TLS it is sealed and sent in pieces.
        let pending = conn.tls.as_ref().is_some_and(|t| !t.pending().is_empty());
        if conn.sending || !conn.inflight.is_empty() || pending || conn.replies.has_pieces() {
            return self.flush_one(conn);
        }
        match conn.held {
            Some((due, len)) if due < durable => {
                conn.held = None;
                let rest = conn.replies.out.split_off(len.min(conn.replies.out.len()));
                if need < durable {
                    conn.replies.out.extend_from_slice(&rest);
                    return self.flush_one(conn);
                }
                self.flush_one(conn);
                if !rest.is_empty() {
                    conn.replies.out.splice(0..0, rest);
                    self.hold(conn, need);
                }
            }
            Some(_) => {}
            None if need < durable || conn.replies.out.is_empty() => self.flush_one(conn),
            None => self.hold(conn, need),
        }
    }

    fn hold(&mut self, conn: &mut Conn, need: u64) {
        conn.held = Some((need, conn.replies.out.len()));
        self.unsent.0.push_back((need, conn.me.index, conn.me.generation));
    }
}
