//! The connections of replication as clients: CLIENT LIST and CLIENT KILL.

use std::os::fd::RawFd;
use std::rc::Rc;

use super::link::{Link, hang_up};
use super::now_ms;
use super::upstream::Upstream;
use crate::acl::Users;
use crate::replication::event::LinkId;
use crate::server::service::Service;
use crate::session::conn::socket_name;

/// What a connection said of itself before it became a replica's.
#[derive(Clone, Debug, Default)]
pub struct Former {
    pub name: Vec<u8>,
    pub user: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    pub resp3: bool,
}

/// A connection of replication, as clients see it.
#[derive(Clone, Debug, Default)]
pub struct LinkInfo {
    /// Client id.
    pub id: u64,
    pub fd: RawFd,
    pub addr: String,
    pub laddr: String,
    /// The connection to the primary; otherwise one of a replica.
    pub to_primary: bool,
    pub age_s: u64,
    pub idle_s: u64,
    /// What it said of itself; nothing of the connection to the primary.
    pub former: Former,
    pub db: u32,
    /// It is about to be closed.
    pub closing: bool,
    pub writing: bool,
    /// Bytes received and not understood yet.
    pub input: usize,
    /// Bytes that wait to be sent and lie in no buffer that is shared.
    pub output: usize,
    /// Blocks of the backlog, and bytes in them, that a replica has not read.
    pub blocks: usize,
    pub unread: u64,
    /// Bytes in all.
    pub memory: usize,
    /// The last command.
    pub command: String,
}

fn seconds(since: u64) -> u64 {
    now_ms().saturating_sub(since) / 1000
}

impl Service {
    /// All connections of replication, by client id.
    pub fn describe_links(&self) -> Vec<LinkInfo> {
        let links: Vec<Rc<Link>> = self.repl.links.borrow().values().cloned().collect();
        let mut all: Vec<LinkInfo> = links.iter().map(|l| self.describe_replica(l)).collect();
        let primary = self.repl.upstream.borrow().clone();
        all.extend(primary.map(|up| self.describe_primary(&up)));
        all.sort_by_key(|l| l.id);
        all
    }

    fn describe_replica(&self, link: &Link) -> LinkInfo {
        let (mut blocks, mut unread) = (0, 0);
        if let (Some(reader), Some(r)) = (link.reader.get(), &self.streams.borrow().out.replication) {
            (blocks, unread) = (r.backlog.blocks_ahead(reader), r.backlog.lag(reader));
        }
        let output = link.waiting_bytes() + link.bulk.borrow().as_ref().map_or(0, |b| b.queued());
        LinkInfo {
            id: link.id,
            fd: link.fd,
            addr: socket_name(link.fd, true),
            laddr: socket_name(link.fd, false),
            to_primary: false,
            age_s: seconds(link.made_at),
            idle_s: seconds(link.heard_at.get()),
            former: link.former.clone(),
            db: 0,
            closing: link.has_ended(),
            writing: link.is_writing(),
            input: link.input.get(),
            output,
            blocks,
            unread,
            memory: size_of::<Link>() + super::link::READ + link.input.get() + output,
            command: link.said.borrow().clone(),
        }
    }

    fn describe_primary(&self, up: &Upstream) -> LinkInfo {
        let node = self.repl.node.borrow();
        let (heard_at, pending) = match &node.upstream {
            Some(u) if u.epoch == up.epoch() => (u.heard_at, u.pending_bytes() as usize),
            _ => (up.made_at, 0),
        };
        LinkInfo {
            id: up.id,
            fd: up.fd(),
            addr: socket_name(up.fd(), true),
            laddr: socket_name(up.fd(), false),
            to_primary: true,
            age_s: seconds(up.made_at),
            idle_s: seconds(heard_at),
            former: Former { user: b"(superuser)".to_vec(), ..Former::default() },
            db: node.applied_db,
            input: pending + self.repl.batch_bytes.get(),
            output: up.waiting_bytes(),
            memory: size_of::<Upstream>() + super::upstream::READ + pending + self.repl.batch_bytes.get(),
            command: self.repl.last_applied.borrow().clone(),
            ..LinkInfo::default()
        }
    }

    /// Users have changed: replicas whose user there is no more are not served on.
    pub fn end_links_of_strangers(&self, users: &Users) {
        if !self.repl.links.borrow().is_empty() {
            self.kill_links(&|l| !l.to_primary && users.get(&l.former.user).is_none());
        }
    }

    /// Ends those connections to replicas and to the primary; how many.
    pub fn kill_links(&self, chosen: &dyn Fn(&LinkInfo) -> bool) -> usize {
        let doomed: Vec<LinkInfo> = self.describe_links().into_iter().filter(|l| !l.closing && chosen(l)).collect();
        for link in &doomed {
            match link.to_primary {
                true => hang_up(link.fd),
                false => self.close_replica(link.id as LinkId, "killed by a client"),
            }
        }
        doomed.len()
    }
}
