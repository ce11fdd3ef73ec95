//! Users at work: who a connection is, what it may do, and what becomes of it
//! when users change.
//!
//! The table of users is immutable and shared; a change publishes a new one
//! and then tells every core to take it ([`Core::take_users`]), before whoever
//! asked for it gets the reply. A connection whose user may do everything is
//! not `restricted` and costs the hot path nothing; the others go by way of
//! [`Core::forbidden`].

use std::sync::{Arc, PoisonError};

use super::commands::client_list;
use super::core::Core;
use super::msg::Msg;
use super::registry::{Entry, registry};
use crate::acl::log::{self, Origin, Reason};
use crate::acl::rules::Context;
use crate::acl::{Denied, User, Users, check};
use crate::base::Args;
use crate::command::Fault;
use crate::config::{AclPubsubDefault, Settings};
use crate::session::conn::{Conn, ConnRef};
use crate::session::pubsub::Kind;

/// What rules are read against, with these settings.
pub fn context(settings: &Settings) -> Context<'static> {
    let all_channels = settings.acl_pubsub_default == AclPubsubDefault::Allchannels;
    Context { catalog: &registry().catalog, all_channels }
}

/// Why a script of this user may not call a command, if so; and what denied
/// it, if that is to be logged.
pub fn refused_in_script(user: &User, entry: &Entry, args: Args) -> Option<(Fault, Option<Denied>)> {
    match check::check(user, &registry().catalog, entry.index, args) {
        Ok(()) => sort_beyond(user, entry, args).map(|fault| (fault, None)),
        Err(denied) => {
            let mut text = b"NOPERM ACL failure in script: ".to_vec();
            text.extend_from_slice(&denied.message(user, entry.spec)[b"NOPERM ".len()..]);
            Some((Fault::Composed(text), Some(denied)))
        }
    }
}

/// What ACL LOG says of it.
fn object_of<'a>(entry: &Entry, args: &[&'a [u8]], denied: Denied) -> (Reason, &'a [u8]) {
    match denied {
        Denied::Command => (Reason::Command, entry.spec.name.as_bytes()),
        Denied::Key(at) => (Reason::Key, args[at]),
        Denied::Channel(at) => (Reason::Channel, args[at]),
    }
}

impl Core {
    /// Why this connection may not run this command, if so: the error to
    /// reply. It is logged.
    pub fn forbidden(&mut self, conn: &mut Conn, entry: &Entry, args: Args) -> Option<Fault> {
        let user = conn.user.clone()?;
        match check::check(&user, &registry().catalog, entry.index, args) {
            Ok(()) if conn.in_multi() => None,
            Ok(()) => sort_beyond(&user, entry, args),
            Err(denied) => {
                let origin = if conn.in_multi() { Origin::Multi } else { Origin::TopLevel };
                conn.last_command = Some(entry.index);
                self.note_denied(conn, &user, entry, args, denied, origin);
                Some(Fault::Composed(denied.message(&user, entry.spec)))
            }
        }
    }

    /// [`Core::forbidden`] for a queued command whose turn has come.
    pub fn forbidden_in_exec(&mut self, conn: &mut Conn, entry: &Entry, args: Args) -> Option<Fault> {
        let user = conn.user.clone()?;
        match check::check(&user, &registry().catalog, entry.index, args) {
            Ok(()) => sort_beyond(&user, entry, args),
            Err(denied) => {
                self.note_denied(conn, &user, entry, args, denied, Origin::Multi);
                let reason = denied.since_queued();
                Some(
                    format!(
                        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC \
                         call. This command is no longer allowed for the following reason: {reason}"
                    )
                    .into(),
                )
            }
        }
    }

    /// Logs and counts what was denied.
    pub fn note_denied(&mut self, conn: &Conn, user: &User, entry: &Entry, args: Args, denied: Denied, origin: Origin) {
        let (reason, object) = object_of(entry, args, denied);
        self.log_denial(conn, reason, origin, object, &user.name);
    }

    /// What was denied to a script of this user, to be given to
    /// [`Core::log_script_denial`].
    pub fn script_denial(&self, user: &User, entry: &Entry, args: Args, denied: Denied) -> Box<log::Entry> {
        let (reason, object) = object_of(entry, args, denied);
        Box::new(self.denial(reason, Origin::Script, object, &user.name))
    }

    /// Logs and counts what was denied to a script. Only its connection's core
    /// can describe who called it.
    pub fn log_script_denial(&mut self, mut entry: Box<log::Entry>, caller: ConnRef) {
        self.stats.denied[entry.reason as usize] += 1;
        let told = move |home: &mut Core| {
            if let Some(conn) = home.take_conn(caller) {
                entry.client = client_list::describe(home, &conn).trim_end().to_string();
                home.put_conn(conn);
            }
            home.note_denial(*entry);
        };
        self.send(caller.core as usize, Msg::Call(Box::new(told)));
    }

    /// Puts an entry into ACL LOG.
    pub fn log_denial(&mut self, conn: &Conn, reason: Reason, origin: Origin, object: &[u8], user: &[u8]) {
        self.stats.denied[reason as usize] += 1;
        let mut entry = self.denial(reason, origin, object, user);
        entry.client = client_list::describe(self, conn).trim_end().to_string();
        self.note_denial(entry);
    }

    fn note_denial(&mut self, entry: log::Entry) {
        let shared = &self.shared;
        self.denials.push(entry, self.settings.acllog_max_len, || shared.next_denial());
    }

    /// An entry of ACL LOG, but for the connection.
    fn denial(&self, reason: Reason, origin: Origin, object: &[u8], user: &[u8]) -> log::Entry {
        log::Entry {
            id: 0,
            count: 1,
            reason,
            origin,
            object: object.to_vec(),
            user: user.to_vec(),
            client: String::new(),
            created_ms: self.now,
            updated_ms: self.now,
            stamp_ns: self.stamp,
        }
    }

    /// The connection has proved who it is.
    pub fn log_in(&mut self, conn: &mut Conn, user: Arc<User>) {
        conn.logged_in = true;
        self.become_user(conn, user);
    }

    /// As a connection is when it is made: the default user, logged in if
    /// nobody has to be.
    pub fn set_default_user(&mut self, conn: &mut Conn) {
        let user = self.users.default_user().clone();
        conn.logged_in = user.is_open();
        self.become_user(conn, user);
    }

    fn become_user(&mut self, conn: &mut Conn, user: Arc<User>) {
        conn.restricted = user.is_restricted();
        conn.user = Some(user);
        conn.authenticated = conn.logged_in || self.users.default_user().is_open();
        conn.update_special();
    }

    /// Changes the table of users for all cores; this one goes over to it at
    /// once, the others when [`Core::take_users`] runs there.
    pub fn change_users<T>(&mut self, change: impl FnOnce(&mut Users) -> Result<T, Fault>) -> Result<T, Fault> {
        let shared = self.shared.clone();
        let mut live = shared.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Users::clone(&live);
        let result = change(&mut next)?;
        let new = Arc::new(next);
        *live = new.clone();
        drop(live);
        self.take_users();
        self.tell_service(move |s| s.end_links_of_strangers(&new));
        Ok(result)
    }

    /// Goes over to the current users. Which change brought them does not
    /// matter: cores that hear of several in different orders end up equal.
    pub fn take_users(&mut self) {
        let new = self.shared.users();
        if Arc::ptr_eq(&new, &self.users) {
            return;
        }
        self.users = new;
        for place in self.conns.refs() {
            let Some(mut c) = self.take_conn(place) else { continue };
            let id = c.id;
            let mut denied = None;
            if !c.closing && !self.refresh_user(&mut c) {
                self.close(&mut c);
            } else if !c.closing {
                denied = self.forbidden_to_wait(&mut c);
            }
            self.put_conn(c);
            if let Some(fault) = denied {
                self.unblock_client(id, Some(fault.text()));
            }
        }
    }

    /// Why a blocked command may not run any more, if so. (Redis 7.2 says so once
    /// there would be something for it.)
    fn forbidden_to_wait(&mut self, conn: &mut Conn) -> Option<Fault> {
        if !conn.restricted {
            return None;
        }
        let blocked = conn.blocked()?;
        let (entry, words) = (&registry().entries[blocked.command], blocked.args.clone());
        let args: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
        (!args.is_empty()).then(|| self.forbidden(conn, entry, &args))?
    }

    /// The same for the connection that runs the command which changed them:
    /// it gets its reply before it is closed.
    pub fn refresh_own_user(&mut self, conn: &mut Conn) {
        if !self.refresh_user(conn) {
            conn.close_after = true;
        }
    }

    /// Brings a connection's user up to date. False when it must be closed:
    /// its user is gone, even if there is another of its name, or may no longer listen to what it listens to.
    fn refresh_user(&mut self, conn: &mut Conn) -> bool {
        let Some(old) = conn.user.clone() else { return true };
        let Some(new) = self.users.get(&old.name).filter(|new| new.is(&old)).cloned() else {
            self.set_default_user(conn);
            conn.logged_in = false;
            return false;
        };
        let changed = !Arc::ptr_eq(&old, &new);
        let deaf = changed && conn.subscribed() && !may_go_on_listening(conn, &new);
        self.become_user(conn, new);
        !deaf
    }
}

fn may_go_on_listening(conn: &Conn, user: &User) -> bool {
    let Some(subscriptions) = conn.extra.as_ref().and_then(|x| x.subscriptions.as_ref()) else { return true };
    [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().all(|kind| {
        let names = subscriptions.names(kind);
        names.iter().all(|name| check::may_listen(user, name, kind == Kind::Pattern))
    })
}

/// SORT with patterns reads keys that its arguments do not name.
fn sort_beyond(user: &User, entry: &Entry, args: Args) -> Option<Fault> {
    if !matches!(entry.spec.name, "sort" | "sort_ro") {
        return None;
    }
    let option = args.windows(2).skip(2).find_map(|w| match w {
        [by, pattern] if by.eq_ignore_ascii_case(b"by") && pattern.contains(&b'*') => Some("BY"),
        [get, _] if get.eq_ignore_ascii_case(b"get") => Some("GET"),
        _ => None,
    })?;
    let all = check::reads_everything(user, &registry().catalog, entry.index, args);
    (!all).then(|| format!("ERR {option} option of SORT denied due to insufficient ACL permissions.").into())
}
