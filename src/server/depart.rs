//! A connection leaves its core for the service core: it has become a replica.
//!
//! Its receive is cancelled and its sends run out; what arrives meanwhile is
//! kept. At the end of the turn in which the ring has let go, the descriptor
//! goes to the service core with everything that was received or not sent yet.

use std::os::fd::RawFd;

use super::core::Core;
use super::replication::Former;
use crate::replication::peer::Peer;
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ConnRef, Extra, socket_name};
use crate::session::tls::Session;

/// Stands for a wait that nobody keeps a list of.
const NO_TICKET: u64 = 0;

/// What the connection asked for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// PSYNC: the id as written, the next byte wanted, and whether this server
    /// is to become primary.
    Psync {
        id: Vec<u8>,
        next: i64,
        failover: bool,
    },
    Sync,
}

/// A connection that has left its core.
pub struct Departed {
    /// Client id; it names the replica's link from now on.
    pub id: u64,
    pub fd: RawFd,
    pub peer: Peer,
    pub wish: Wish,
    /// Received, not executed.
    pub input: Vec<u8>,
    /// To be sent before anything else, and before that what is encrypted already.
    pub output: Vec<u8>,
    pub sealed: Vec<u8>,
    pub tls: Option<Box<Session>>,
    /// What it has said of itself, and its age.
    pub former: Former,
    pub age_ms: u64,
}

fn former(conn: &Conn) -> Former {
    let of = |field: fn(&Extra) -> &Vec<u8>| conn.extra.as_deref().map(|x| field(x).clone()).unwrap_or_default();
    Former {
        name: conn.name().to_vec(),
        user: conn.user_name().to_vec(),
        lib_name: of(|x| &x.lib_name),
        lib_ver: of(|x| &x.lib_ver),
        resp3: conn.proto == Proto::Resp3,
    }
}

impl Core {
    /// Begins to hand a connection over. What follows its request waits.
    pub fn depart(&mut self, conn: &mut Conn, wish: Wish) {
        self.departing.insert(conn.me, wish);
        conn.departing = true;
        conn.closing = true;
        conn.throttled = true;
        self.shared.clients.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.forget_watches(conn);
        self.stop_monitor(conn);
        if conn.receiving {
            self.cancel_recv(conn);
        }
    }

    /// The ring refers to the connection no more. Data that it delivered in
    /// this turn may still be on its way to the input.
    pub fn depart_when_quiet(&mut self, conn: Box<Conn>) {
        let me = conn.me;
        self.conns.put(conn);
        if !self.departed.contains(&me) {
            self.departed.push(me);
        }
    }

    /// Sends off the connections that have become quiet.
    pub fn finish_departures(&mut self) {
        for me in std::mem::take(&mut self.departed) {
            let (Some(mut conn), Some(wish)) = (self.take_conn(me), self.departing.remove(&me)) else { continue };
            let mut peer = self.peers.remove(&conn.id).map(|p| *p).unwrap_or_default();
            let address = socket_name(conn.fd, true);
            peer.ip = address.rsplit_once(':').map_or(address.as_str(), |(ip, _)| ip).trim_matches(['[', ']']).into();
            let mut output = conn.inflight.split_off(conn.sent.min(conn.inflight.len()));
            let mut sealed = Vec::new();
            if let Some(tls) = &mut conn.tls {
                sealed = std::mem::replace(&mut output, tls.take_pending());
            }
            output.append(&mut conn.replies.take_all());
            let departed = Departed {
                id: conn.id,
                fd: conn.fd,
                peer,
                wish,
                input: conn.input.split_off(conn.input_at.min(conn.input.len())),
                output,
                sealed,
                tls: conn.tls.take(),
                former: former(&conn),
                age_ms: self.now.saturating_sub(conn.created_ms),
            };
            self.conns.free(me);
            self.tell_service(move |s| s.clone().adopt_replica(departed));
        }
    }

    /// The connection waits for replicas; when it closes, nobody does.
    pub fn note_waiting(&mut self, me: ConnRef, ticket: u64) {
        match self.take_conn(me) {
            Some(conn) => {
                if !conn.closing && conn.replies.outstanding() > 0 {
                    self.waiting.insert(me, ticket);
                }
                self.put_conn(conn);
            }
            None => self.tell_service(move |s| s.cancel_wait(ticket)),
        }
    }

    /// The connection waits for something else of the service core's; nothing
    /// has to be cancelled when it closes.
    pub fn note_blocked(&mut self, me: ConnRef) {
        self.waiting.insert(me, NO_TICKET);
    }

    /// A connection that closes takes with it what it said of itself.
    pub fn forget_replication(&mut self, conn: &Conn) {
        if !self.peers.is_empty() {
            self.peers.remove(&conn.id);
        }
        if !self.waiting.is_empty()
            && let Some(ticket) = self.waiting.remove(&conn.me)
        {
            self.tell_service(move |s| s.cancel_wait(ticket));
        }
    }
}
