//! From one role to the other, one change after the other.
//!
//! A primary steps down in this order: no core takes writes of clients any
//! more; transactions that were under way end; what they wrote is merged. Then
//! its offset stands. A replica steps up the other way round: first the cores
//! publish what they write, then clients may write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::super::role::Role;
use crate::base::clock;
use crate::replication::event::Event;
use crate::server::image::Want;
use crate::server::pause::Purpose;
use crate::server::service::Service;
use crate::server::service::bell::Bell;
use crate::server::service::streams::FOR_REPLICATION;

/// A change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Fence,
    Unfence,
    Pause,
    Resume,
    KeepJournal,
    DropJournal,
}

/// Changes that wait for those before them.
#[derive(Default)]
pub(super) struct Roles {
    queue: RefCell<VecDeque<Change>>,
    rung: Bell,
    /// Rung when a change is made.
    pub made: Bell,
}

impl Service {
    pub(super) fn change(&self, change: Change) {
        self.repl.roles.queue.borrow_mut().push_back(change);
        self.repl.roles.rung.ring();
    }

    /// Are all changes made that were asked for?
    pub(super) fn changes_are_made(&self) -> bool {
        self.repl.roles.queue.borrow().is_empty()
    }

    pub(super) async fn change_roles(self: Rc<Self>) {
        loop {
            // It stays in the queue until it is made.
            let next = self.repl.roles.queue.borrow().front().copied();
            match next {
                None => self.repl.roles.rung.wait().await,
                Some(change) => {
                    self.make_change(change).await;
                    self.repl.roles.queue.borrow_mut().pop_front();
                    self.repl.roles.made.ring();
                    match change {
                        Change::Fence => self.replicate(Event::Fenced),
                        Change::Pause => self.replicate(Event::Paused),
                        Change::Unfence => self.answer_role_askers(),
                        _ => {}
                    }
                }
            }
        }
    }

    async fn make_change(self: &Rc<Self>, change: Change) {
        match change {
            Change::Fence => {
                self.set_role(Role { replica: true, fenced: true, link_up: false, ..self.repl.role.get() });
                self.quiesce().await;
                self.relay(true);
                self.drop_journal(FOR_REPLICATION).await;
                self.set_role(Role { fenced: false, ..self.repl.role.get() });
                self.disconnect_those_who_wait().await;
            }
            Change::Unfence => {
                if self.stream_window().active {
                    self.keep_journal(FOR_REPLICATION).await;
                }
                self.relay(false);
                self.set_role(Role { replica: false, fenced: false, link_up: true, ..self.repl.role.get() });
                self.ask_all(|_| ()).await;
            }
            Change::Pause => {
                self.ask_all(|core| core.start_pause(Purpose::Failover, u64::MAX, false)).await;
                self.quiesce().await;
            }
            Change::Resume => {
                self.ask_all(|core| core.unpause(Purpose::Failover)).await;
            }
            Change::KeepJournal => self.keep_journal(FOR_REPLICATION).await,
            Change::DropJournal => self.drop_journal(FOR_REPLICATION).await,
        }
    }

    fn relay(&self, relays: bool) {
        if let Some(r) = &mut self.streams.borrow_mut().out.replication {
            r.relays = relays;
        }
    }

    /// Waits until everything that cores had begun is in the stream. What they
    /// have not begun must be held up before.
    pub async fn quiesce(self: &Rc<Self>) {
        self.ask_all(|_| ()).await;
        let cut = self.next_cut();
        self.image(cut, Want::Nothing).await;
        self.merged_past(clock::mono_ns()).await;
    }
}
