//! The node's actions, carried out.

use std::rc::Rc;

use super::roles::Change;
use crate::journal::marks::Marks;
use crate::journal::stream::Selected;
use crate::observe::log;
use crate::replication::event::Action;
use crate::server::process::Supervisor;
use crate::server::service::Service;
use crate::server::service::streams::Replication;

impl Service {
    pub(super) fn carry_out(self: &Rc<Self>, action: Action) {
        match action {
            Action::Send { link, bytes } => self.send_to_replica(link, &bytes),
            Action::Close { link, reason } => self.close_replica(link, &reason),
            Action::SendFile { link } => self.send_snapshot_file(link),
            Action::Attach { link, from } => self.pin_replica(link, from),
            Action::Feed { link, from } => self.feed_replica(link, from),
            Action::StartSnapshot { target, wanted, links } => self.snapshot_for_replicas(target, wanted, links),
            Action::AbortSnapshot => self.abort_snapshot_for_replicas(),

            Action::StartLog => self.start_log(),
            Action::FreeLog => self.free_log(),
            Action::ResetLog { end } => self.reset_log(end),
            Action::Append(bytes) => self.append_to_stream(bytes),
            Action::Relay(bytes) => self.append_to_stream(&bytes),
            Action::ForceSelect => {
                if let Some(r) = &mut self.streams.borrow_mut().out.replication {
                    r.selected.forget();
                }
            }

            Action::Fence => self.change(Change::Fence),
            Action::Unfence => self.change(Change::Unfence),
            Action::PauseWrites => self.change(Change::Pause),
            Action::ResumeWrites => self.change(Change::Resume),
            // Answered when the change that came before is made.
            Action::RoleIsPrimary | Action::RoleIsReplica => {}

            Action::Connect { epoch, host, port } => self.connect_to_primary(epoch, host, port),
            Action::Disconnect { epoch } => self.disconnect_from_primary(epoch),
            Action::Tell { epoch, bytes } => self.tell_primary(epoch, &bytes),
            Action::BeginLoad { refuse_empty, same_history, .. } => self.begin_load(refuse_empty, same_history),
            Action::Load(bytes) => self.load_bytes(bytes),
            Action::EndLoad => self.end_load(),
            Action::AbortLoad => self.abort_load(),
            Action::Apply(batch) => self.enqueue_batch(batch),

            Action::WaitDone { ticket, local, replicas } => self.wait_is_done(ticket, local, replicas),
            Action::GoodReplicas(_) => {}
            Action::Configure(primary) => self.remember_primary(primary),
            Action::Notice(text) => log::notice(format_args!("{text}")),
            Action::Warning(text) => log::warning(format_args!("{text}")),
            Action::Status(text) => Supervisor::tell(text),
        }
    }

    /// A backlog from here on. On a primary the cores begin to publish; a
    /// snapshot waits for that before it makes its cut.
    fn start_log(self: &Rc<Self>) {
        let relays = self.repl.node.borrow().is_replica();
        let backlog = self.new_backlog(self.repl.end.get());
        self.streams.borrow_mut().out.replication =
            Some(Replication { written: Marks::new(backlog.end()), selected: Selected::default(), backlog, relays });
        if !relays {
            self.change(Change::KeepJournal);
        }
    }

    fn free_log(self: &Rc<Self>) {
        if let Some(r) = self.streams.borrow_mut().out.replication.take() {
            self.repl.end.set(r.backlog.end());
        }
        self.change(Change::DropJournal);
    }

    fn reset_log(&self, end: u64) {
        self.repl.end.set(end);
        let backlog = self.new_backlog(end);
        let fresh = Replication { written: Marks::new(end), selected: Selected::default(), backlog, relays: true };
        self.streams.borrow_mut().out.replication = Some(fresh);
    }

    /// Puts a command into the stream that this server has not executed (DEBUG
    /// REPLICATE).
    pub fn feed_replicas(&self, bytes: &[u8]) {
        let own = self.streams.borrow().out.replication.as_ref().is_some_and(|r| !r.relays);
        if own {
            self.append_to_stream(bytes);
        }
    }

    fn append_to_stream(&self, bytes: &[u8]) {
        match &mut self.streams.borrow_mut().out.replication {
            Some(r) => r.append(bytes),
            None => self.repl.end.set(self.repl.end.get() + bytes.len() as u64),
        }
        self.advanced.ring();
    }
}
