//! What clients ask about replication, and want of it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::now_ms;
use crate::observe::log;
use crate::replication::event::{Event, FailoverOrder, Ms, Ticket};
use crate::replication::report::{Role, Shown};
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::server::commands::replication::WAIT_AT_REPLICA;
use crate::server::core::Core;
use crate::server::service::Service;
use crate::server::shared::Usage;
use crate::session::conn::{Conn, ConnRef};

/// A client that waits for a reply from the service core.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub conn: ConnRef,
    pub seq: u32,
    pub proto: Proto,
}

/// What is not answered yet.
#[derive(Default)]
pub(super) struct Asks {
    next: Cell<Ticket>,
    waits: RefCell<HashMap<Ticket, Asker>>,
    /// Those of them that want WAITAOF's reply.
    pairs: RefCell<HashSet<Ticket>>,
    roles: RefCell<Vec<Asker>>,
}

impl Core {
    /// Reserves the place of a reply that the service core will send.
    pub fn asker(&mut self, conn: &mut Conn) -> Asker {
        let seq = self.origin(conn).seq;
        Asker { conn: conn.me, seq, proto: conn.proto }
    }
}

impl Service {
    pub fn answer_client(&self, asker: Asker, write: impl FnOnce(&mut Reply)) {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, asker.proto));
        self.call(asker.conn.core as usize, move |core| {
            core.waiting.remove(&asker.conn);
            core.finish_conn(asker.conn, asker.seq, &out);
        });
    }

    pub fn refuse_client(&self, asker: Asker, text: &str) {
        let text = text.as_bytes().to_vec();
        self.call(asker.conn.core as usize, move |core| {
            core.stats.count_error(text.split(|b| *b == b' ').next().unwrap_or(b"ERR"));
            let mut out = Vec::new();
            Reply::new(&mut out, asker.proto).error(&text);
            core.waiting.remove(&asker.conn);
            core.finish_conn(asker.conn, asker.seq, &out);
        });
    }

    /// REPLICAOF host port.
    pub fn replica_of(self: &Rc<Self>, asker: Asker, by: &str, host: String, port: u16) {
        let same = {
            let node = self.repl.node.borrow();
            if node.failover.underway() {
                return self.refuse_client(asker, "ERR REPLICAOF not allowed while failing over.");
            }
            node.upstream.as_ref().is_some_and(|u| u.host == host && u.port == port)
        };
        if same {
            return self.answer_client(asker, |r| r.simple("OK Already connected to specified master"));
        }
        log::notice(format_args!("REPLICAOF {host}:{port} enabled (user request from '{by}')"));
        // What waits for the end of CLIENT PAUSE is applied: the role is not to wait.
        self.pause_applying(0);
        self.replicate(Event::ReplicaOf { host, port });
        // Who was promised the role of primary does not get it any more.
        self.answer_role_askers();
        self.answer_when_changed(asker);
    }

    /// REPLICAOF NO ONE.
    pub fn replica_of_no_one(self: &Rc<Self>, asker: Asker, by: &str) {
        let (failing_over, replica) = {
            let node = self.repl.node.borrow();
            (node.failover.underway(), node.is_replica())
        };
        if failing_over {
            return self.refuse_client(asker, "ERR REPLICAOF not allowed while failing over.");
        }
        if !replica {
            return self.answer_client(asker, |r| r.ok());
        }
        log::notice(format_args!("MASTER MODE enabled (user request from '{by}')"));
        self.repl.asks.roles.borrow_mut().push(asker);
        // At once, whatever is in flight: who writes the file now means it.
        self.remember_primary(None);
        self.pause_applying(0);
        self.replicate(Event::NoOne);
    }

    /// Those who asked for the role of primary have it.
    pub(super) fn answer_role_askers(&self) {
        for asker in self.repl.asks.roles.take() {
            self.answer_client(asker, |r| r.ok());
        }
    }

    /// Answers when the cores obey the new role.
    fn answer_when_changed(self: &Rc<Self>, asker: Asker) {
        let service = self.clone();
        glommio::spawn_local(async move {
            while !service.changes_are_made() {
                service.repl.roles.made.wait().await;
            }
            service.disconnect_those_who_wait().await;
            service.answer_client(asker, |r| r.ok());
        })
        .detach();
    }

    /// CONFIG GET and CONFIG REWRITE tell the primary.
    pub(super) fn remember_primary(&self, primary: Option<(String, u16)>) {
        self.shared.config.set_replicaof(primary);
    }

    /// ROLE.
    pub fn tell_role(self: &Rc<Self>, asker: Asker, stamp: u64) {
        self.when_told(stamp, move |service| {
            let role = service.repl.node.borrow().role(service.stream_window());
            service.answer_client(asker, |r| write_role(r, &role));
        });
    }

    /// Runs something when everything up to this time is in the stream.
    fn when_merged(self: &Rc<Self>, stamp: u64, f: impl FnOnce(&Rc<Service>) + 'static) {
        if !self.streams.borrow().running {
            return f(self);
        }
        let service = self.clone();
        glommio::spawn_local(async move {
            service.merged_past(stamp).await;
            f(&service);
        })
        .detach();
    }

    /// The same for what is shown of the offset. On a replica, what can be seen
    /// of the primary's writes may not be counted yet: then after the round in
    /// which it is being applied.
    fn when_told(self: &Rc<Self>, stamp: u64, f: impl FnOnce(&Rc<Service>) + 'static) {
        if !self.repl.held.applying.get() {
            return self.when_merged(stamp, f);
        }
        let service = self.clone();
        glommio::spawn_local(async move {
            service.repl.applied.wait().await;
            service.when_merged(stamp, f);
        })
        .detach();
    }

    /// INFO's section, and counters for other sections, for a core to go on with.
    pub fn describe_replication(
        self: &Rc<Self>,
        core: usize,
        stamp: u64,
        then: impl FnOnce(&mut Core, Described) + Send + 'static,
    ) {
        self.when_told(stamp, move |service| {
            let described = service.described();
            service.call(core, move |c| then(c, described));
        });
    }

    /// What is known now.
    pub fn described(&self) -> Described {
        let settings = self.repl.settings.borrow();
        let r = &settings.replication;
        let shown =
            Shown { priority: r.replica_priority, read_only: r.replica_read_only, announced: r.replica_announced };
        let node = self.repl.node.borrow();
        let (memory, beyond) = self.stream_memory();
        let rates = self.repl.rates.borrow().means();
        Described {
            section: node.info(now_ms(), self.stream_window(), shown),
            full: node.counters.full,
            partial_ok: node.counters.partial_ok,
            partial_err: node.counters.partial_err,
            usage: self.shared.usage(),
            backlog_memory: memory,
            beyond_backlog: beyond,
            net: self.repl.net.get(),
            net_rates: [rates[0], rates[1]],
        }
    }

    /// Memory of the stream, and what of it is beyond the backlog's size, for
    /// replicas that lag.
    pub fn stream_memory(&self) -> (usize, usize) {
        let streams = self.streams.borrow();
        let Some(r) = &streams.out.replication else { return (0, 0) };
        (r.backlog.memory(), r.backlog.beyond())
    }

    /// WAIT, or the replicas' half of WAITAOF. `deadline` by [`now_ms`].
    /// `stamp`: of the connection's last write; 0 if it has written nothing.
    pub fn wait_for_replicas(self: &Rc<Self>, asker: Asker, stamp: u64, replicas: usize, timeout_ms: u64, waits: bool) {
        if self.repl.node.borrow().is_replica() {
            return self.refuse_client(asker, WAIT_AT_REPLICA);
        }
        let mut deadline: Option<Ms> = (timeout_ms > 0).then(|| now_ms().saturating_add(timeout_ms));
        if !waits {
            deadline = Some(0);
        }
        let ticket = self.new_ticket(asker);
        self.when_merged(stamp, move |service| {
            let offset = service.written_offset(stamp);
            service.replicate(Event::Wait { ticket, offset, local: None, replicas, fsynced: false, deadline });
        });
    }

    /// Replicas that do not have everything, and all that are online; only
    /// meaningful while nothing is written.
    pub fn replicas_lag(&self) -> (usize, usize) {
        let (node, end) = (self.repl.node.borrow(), self.stream_window().end);
        let online = node.replicas.values().filter(|r| r.online());
        online.fold((0, 0), |(lag, all), r| (lag + usize::from(r.acked != end), all + 1))
    }

    /// Says in the log how far replicas are as the server ends.
    pub fn report_lag(&self) {
        let (node, end) = (self.repl.node.borrow(), self.stream_window().end);
        for r in node.replicas.values().filter(|r| r.online() && r.acked != end) {
            log::notice(format_args!(
                "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
                r.peer.name(),
                end.saturating_sub(r.acked),
                r.lag_s(now_ms()),
                r.state_name()
            ));
        }
        let (lag, all) = self.replicas_lag();
        if all > 0 {
            log::notice(format_args!("{} of {all} replicas are in sync when shutting down.", all - lag));
        }
    }

    /// Asks all replicas how far they are.
    pub fn ask_for_acks(self: &Rc<Self>) {
        self.replicate(Event::AskForAcks);
    }

    pub(super) fn wait_is_done(&self, ticket: Ticket, local: bool, replicas: usize) {
        let asker = self.repl.asks.waits.borrow_mut().remove(&ticket);
        let pair = self.repl.asks.pairs.borrow_mut().remove(&ticket);
        if let Some(asker) = asker {
            self.answer_client(asker, |r| {
                if pair {
                    r.array(2);
                    r.int(i64::from(local));
                }
                r.int(replicas as i64);
            });
        }
    }

    /// WAITAOF: until this server, if `local`, has on disk what was written up to
    /// `stamp`, and so many replicas what the connection wrote, up to `written`.
    pub fn wait_for_disks(self: &Rc<Self>, asker: Asker, stamp: u64, written: u64, wanted: Durable) {
        if self.repl.node.borrow().is_replica() {
            return self.refuse_client(asker, "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.");
        }
        if wanted.local && self.aof.borrow().is_none() {
            return self
                .refuse_client(asker, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
        }
        let deadline = match (wanted.waits, wanted.timeout_ms) {
            (false, _) => Some(0),
            (true, 0) => None,
            (true, ms) => Some(now_ms().saturating_add(ms)),
        };
        let ticket = self.new_ticket(asker);
        self.repl.asks.pairs.borrow_mut().insert(ticket);
        self.when_merged(stamp, move |service| {
            let offset = service.written_offset(written);
            let local = wanted.local.then_some(stamp);
            service.note_if_all_is_durable(stamp);
            service.replicate(Event::Wait {
                ticket,
                offset,
                local,
                replicas: wanted.replicas,
                fsynced: true,
                deadline,
            });
        });
    }

    /// The append-only file is on disk so far.
    pub fn replicate_durable(self: &Rc<Self>, offset: u64, past: u64) {
        let waits = !self.repl.asks.pairs.borrow().is_empty();
        if waits || self.repl.node.borrow().fsynced != offset {
            self.replicate(Event::Fsynced { offset, past });
        }
    }

    /// Where the stream ended after a client's write at `stamp`, which is in it; 0 for
    /// no write at all.
    fn written_offset(&self, stamp: u64) -> u64 {
        if stamp == 0 {
            return 0;
        }
        self.streams.borrow().out.replication.as_ref().map_or(self.repl.end.get(), |r| r.written.end_at(stamp))
    }

    fn new_ticket(&self, asker: Asker) -> Ticket {
        let ticket = self.repl.asks.next.get() + 1;
        self.repl.asks.next.set(ticket);
        self.repl.asks.waits.borrow_mut().insert(ticket, asker);
        self.call(asker.conn.core as usize, move |core| core.note_waiting(asker.conn, ticket));
        ticket
    }

    /// The server is a replica now, or one of another primary: nobody's wait
    /// for keys or replicas makes sense any more.
    pub(super) async fn disconnect_those_who_wait(self: &Rc<Self>) {
        self.repl.asks.pairs.borrow_mut().clear();
        for (ticket, asker) in self.repl.asks.waits.take() {
            self.replicate(Event::WaitCancelled { ticket });
            self.call(asker.conn.core as usize, move |core| core.disconnect_waiting(asker.conn, asker.seq));
        }
        self.ask_all(Core::disconnect_blocked).await;
    }

    /// Whoever waited has gone.
    pub fn cancel_wait(self: &Rc<Self>, ticket: Ticket) {
        if self.repl.asks.waits.borrow_mut().remove(&ticket).is_some() {
            self.replicate(Event::WaitCancelled { ticket });
        }
    }

    /// FAILOVER.
    pub fn fail_over(self: &Rc<Self>, asker: Asker, order: FailoverOrder) {
        let verdict = self.repl.node.borrow().check_failover(&order);
        match verdict {
            Err(text) => self.refuse_client(asker, text),
            Ok(()) => {
                self.replicate(Event::Failover(order));
                self.answer_client(asker, |r| r.ok());
            }
        }
    }

    pub fn abort_failover(self: &Rc<Self>, asker: Asker) {
        if !self.repl.node.borrow().failover.underway() {
            return self.refuse_client(asker, "ERR No failover in progress.");
        }
        self.replicate(Event::FailoverAbort);
        self.answer_client(asker, |r| r.ok());
    }
}

/// What WAITAOF waits for.
#[derive(Clone, Copy, Debug)]
pub struct Durable {
    pub local: bool,
    pub replicas: usize,
    /// 0: for ever.
    pub timeout_ms: u64,
    /// False inside a transaction: the answer is what there is.
    pub waits: bool,
}

/// What INFO tells of replication.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// Memory in use, and what of it is the stream's way to disk and replicas.
    pub usage: Usage,
    pub section: String,
    pub full: u64,
    pub partial_ok: u64,
    pub partial_err: u64,
    /// Memory of backlog and replicas' buffers, which are one.
    pub backlog_memory: usize,
    /// What of it is kept only for replicas that lag.
    pub beyond_backlog: usize,
    /// Bytes received from the primary and sent to replicas; per second of late.
    pub net: [u64; 2],
    pub net_rates: [u64; 2],
}

fn write_role(r: &mut Reply, role: &Role) {
    match role {
        Role::Primary { offset, replicas } => {
            r.array(3);
            r.bulk(b"master");
            r.int(*offset as i64);
            r.array(replicas.len());
            for (ip, port, acked) in replicas {
                r.array(3);
                r.bulk(ip.as_bytes());
                r.bulk(port.to_string().as_bytes());
                r.bulk(acked.to_string().as_bytes());
            }
        }
        Role::Replica { host, port, state, offset } => {
            r.array(5);
            r.bulk(b"slave");
            r.bulk(host.as_bytes());
            r.int(i64::from(*port));
            r.bulk(state.as_bytes());
            r.int(*offset);
        }
    }
}
