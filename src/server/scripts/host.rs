//! The server as a running script sees it.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::slow::Slow;
use super::undo::{Said, Undo};
use super::{Reach, Wanted};
use crate::acl::{Denied, User};
use crate::base::Args;
use crate::base::slot::Key;
use crate::command::Fault;
use crate::command::keys::{places, undeclared};
use crate::command::spec::flag;
use crate::observe::log;
use crate::resp::reply::Proto;
use crate::script::REPL_ALL;
use crate::script::host::{Abort, Called, Host};
use crate::server::access::refused_in_script;
use crate::server::commands::info;
use crate::server::commands::replication::replicas_now;
use crate::server::core::Core;
use crate::server::exec::Who;
use crate::server::msg::Origin;
use crate::server::registry::{Action, Entry, Outcome, Route, registry};
use crate::session::conn::Conn;
use crate::session::pubsub::Kind;

/// How often others are served beside a slow script.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A script that runs.
pub struct Running<'a> {
    pub core: &'a mut Core,
    pub origin: Origin,
    pub now: u64,
    pub reach: Reach,
    pub undo: Option<Undo>,
    pub wanted: Option<Wanted>,
    pub read_only: bool,
    pub allow_oom: bool,
    /// It has called a command that writes.
    pub wrote: bool,
    /// Its effects are passed on.
    pub propagate: bool,
    /// Whose script it is, and whether there is something that it may not do;
    /// nobody's may do everything.
    pub user: Option<(Option<Arc<User>>, bool)>,
    /// For commands over a connection.
    pub client: Option<Box<Conn>>,
    pub started: Instant,
    /// When others were last served beside it, once it is slow.
    pub looked: Instant,
    /// `busy-reply-threshold`; zero for none.
    pub patience: Duration,
    pub slow: Option<std::sync::Arc<Slow>>,
    /// What it is and what called it, for those who ask.
    pub function: bool,
    pub name: &'a [u8],
    pub command: Args<'a>,
}

/// Commands over a connection or the server that have their whole effect at
/// once. The others ask all cores, which a script cannot wait for.
fn runs_at_once(entry: &Entry) -> bool {
    let name = entry.spec.name;
    entry.spec.is(flag::NOSCRIPT)
        || name.ends_with("|help")
        || name.starts_with("command")
        || name.starts_with("pubsub|")
        || matches!(
            name,
            "ping"
                | "echo"
                | "select"
                | "publish"
                | "spublish"
                | "time"
                | "lastsave"
                | "role"
                | "lolwut"
                | "cluster|keyslot"
                | "cluster|info"
                | "cluster|myid"
                | "cluster|myshardid"
                | "readonly"
                | "readwrite"
                | "asking"
                | "acl|whoami"
        )
}

pub fn write_log(level: c_int, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match level {
        0 => log::debug(format_args!("{text}")),
        1 => log::verbose(format_args!("{text}")),
        2 => log::notice(format_args!("{text}")),
        _ => log::warning(format_args!("{text}")),
    }
}

impl Running<'_> {
    fn refused(&mut self, entry: &Entry, text: &str) -> Called {
        self.core.stats.commands[entry.index].rejected += 1;
        Called::Refused(text.as_bytes().to_vec())
    }

    /// Why a command may not run in any script now.
    fn unfit(&self, entry: &Entry) -> Option<Vec<u8>> {
        let spec = entry.spec;
        if (spec.is(flag::NOSCRIPT) && !self.core.shared.scripts_may_all.load(Ordering::Relaxed))
            || matches!(entry.action, Action::Script(_))
        {
            return Some(b"ERR This Redis command is not allowed from script".to_vec());
        }
        if self.core.is_stale() && !spec.is(flag::STALE) {
            return Some(b"ERR Can not execute the command on a stale replica".to_vec());
        }
        None
    }

    /// Why a command may not run in this script, whoever its user is.
    fn forbidden(&self, entry: &Entry) -> Option<Vec<u8>> {
        let spec = entry.spec;
        if self.read_only && spec.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0 {
            return Some(b"ERR Write commands are not allowed from read-only scripts.".to_vec());
        }
        if spec.is(flag::DENYOOM)
            && !self.wrote
            && !self.allow_oom
            && self.origin.client != 0
            && self.core.out_of_memory()
        {
            return Some(b"OOM command not allowed when used memory > 'maxmemory'.".to_vec());
        }
        if spec.is(flag::WRITE) && !self.wrote && self.origin.client != 0 {
            return self.core.write_refusal().map(|f| f.text().to_vec());
        }
        None
    }

    /// Why the script's user may not call a command; it is logged.
    fn denied(&mut self, entry: &Entry, args: Args) -> Option<Vec<u8>> {
        let (fault, denied) = self.refusal(entry, args)?;
        if let (Some(denied), Some((Some(user), _))) = (denied, &self.user) {
            let denial = self.core.script_denial(user, entry, args, denied);
            match &mut self.undo {
                Some(undo) => undo.said.push(Said::Denied(denial)),
                None => self.core.log_script_denial(denial, self.origin.conn),
            }
        }
        Some(fault.text().to_vec())
    }

    fn refusal(&self, entry: &Entry, args: Args) -> Option<(Fault, Option<Denied>)> {
        match self.user.as_ref()? {
            (_, false) => None,
            (None, true) => Some((Fault::Text("NOPERM The connection of this script is gone"), None)),
            (Some(user), true) => refused_in_script(user, entry, args),
        }
    }

    /// What the command needs and is not in reach.
    fn missing(&self, entry: &Entry, args: Args) -> Option<Wanted> {
        let several = match &self.reach {
            Reach::Everything => return None,
            Reach::Core => false,
            Reach::Keys(_) => true,
        };
        let keys = match entry.route {
            Route::Conn | Route::ConnLight => return None,
            Route::Key(_) | Route::Keys => places(entry.spec, args).unwrap_or_default(),
            _ => return Some(Wanted::Everything),
        };
        let elsewhere = matches!(entry.spec.name, "copy" | "move");
        if undeclared(entry.spec, args) || (elsewhere && (several || !self.core.locks.is_empty())) {
            return Some(Wanted::Everything);
        }
        let db = self.origin.db as usize;
        let absent = |key: &[u8]| !self.reaches(db, &Key::new(key));
        let absent: Vec<_> =
            keys.iter().map(|p| args[p.index]).filter(|k| absent(k)).map(|k| (db, k.to_vec())).collect();
        (!absent.is_empty()).then_some(Wanted::Keys(absent))
    }

    fn reaches(&self, db: usize, key: &Key) -> bool {
        match &self.reach {
            Reach::Everything => true,
            Reach::Core => self.core.owns(key.slot()) && self.core.is_free_for_script(db, key),
            Reach::Keys(all) => all.contains(&(db as u32, key.hash)),
        }
    }

    /// Keeps what the command may change; false when that is too much.
    fn keep(&mut self, entry: &Entry, args: Args) -> bool {
        let Some(undo) = &mut self.undo else { return true };
        let changes = entry.spec.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0;
        if matches!(entry.spec.name, "copy" | "move") && args.len() > 2 {
            // The other database may be any.
            let keys = if entry.spec.name == "copy" { &args[1..3] } else { &args[1..2] };
            return keys
                .iter()
                .map(|k| Key::new(k))
                .all(|key| (0..self.core.store.databases()).all(|db| undo.keep(&self.core.store, db, &key)));
        }
        let db = self.origin.db as usize;
        places(entry.spec, args).unwrap_or_default().iter().all(|p| {
            let key = Key::new(args[p.index]);
            let due = |e: &crate::store::entry::Entry| e.volatile();
            let touched = changes || self.core.store.get(db, &key).is_some_and(due);
            !touched || undo.keep(&self.core.store, db, &key)
        })
    }

    /// Shows a command to monitors: at once, or when the script has ended, so that
    /// what is taken back was not seen. False when there is too much to keep.
    fn show(&mut self, entry: &Entry, args: Args) -> bool {
        let Some(line) = self.core.script_line(self.origin.db as usize, entry, args) else { return true };
        match &mut self.undo {
            Some(undo) => undo.keep_line(line),
            None => {
                self.core.spread_line(line);
                true
            }
        }
    }

    fn run_keys(&mut self, entry: &'static Entry, args: Args, proto: Proto, out: &mut Vec<u8>) -> Called {
        if let Some(wanted) = self.missing(entry, args) {
            self.wanted = Some(wanted);
            return Called::Abort(Abort::Again);
        }
        if !self.keep(entry, args) {
            self.wanted = Some(Wanted::Everything);
            return Called::Abort(Abort::Again);
        }
        let origin = Origin { proto, ..self.origin };
        let streams = self.core.fx.wants_stream;
        self.core.fx.wants_stream &= self.propagate;
        // What a script gets is no client's output.
        let reply_bytes_max = std::mem::take(&mut self.core.options.reply_bytes_max);
        let outer = std::mem::replace(&mut self.core.options.in_script, true);
        self.core.start_clock();
        self.core.run_command(entry, args, &origin, self.now, (0, 0), out);
        self.core.options.in_script = outer;
        self.core.options.reply_bytes_max = reply_bytes_max;
        self.core.fx.wants_stream = streams;
        Called::Replied
    }

    fn run_conn(&mut self, entry: &'static Entry, args: Args, proto: Proto, out: &mut Vec<u8>) -> Called {
        let Action::Conn(run) = entry.action else { return Called::Replied };
        if let (Some(undo), "publish" | "spublish") = (&mut self.undo, entry.spec.name) {
            // Heard when the script has ended.
            let kind = if entry.spec.name == "publish" { Kind::Channel } else { Kind::Shard };
            let receivers = self.core.audience.receivers(kind, args[1]).0;
            undo.said.push(Said::Publish(kind, args[1].to_vec(), args[2].to_vec()));
            if self.propagate {
                self.core.journal_command(self.origin.db as usize, args);
            }
            crate::resp::Reply::new(out, proto).int(receivers as i64);
            return Called::Replied;
        }
        if entry.spec.name == "info"
            && let Some(text) = info::at_once(self.core, args)
        {
            crate::resp::Reply::new(out, proto).verbatim("txt", text.as_bytes());
            return Called::Replied;
        }
        if entry.spec.name == "wait" {
            let mut reply = crate::resp::Reply::new(out, proto);
            match replicas_now(self.core, args) {
                Ok(n) => reply.int(n),
                Err(f) => reply.error(f.text()),
            }
            return Called::Replied;
        }
        if !runs_at_once(entry) {
            return self.refused(entry, "ERR This command asks all cores and cannot run in a script");
        }
        let origin = self.origin;
        let conn = self.client.get_or_insert_with(|| Box::new(Conn::new(-1, origin.conn, origin.client, 0)));
        (conn.db, conn.proto) = (origin.db as usize, proto);
        if let Some((user, restricted)) = &self.user {
            (conn.user, conn.restricted) = (user.clone(), *restricted);
        }
        self.core.start_clock();
        let start = self.core.clock();
        let result = run(self.core, conn, args);
        let failed = result.is_err();
        match result {
            Ok(Outcome::Done) => out.append(conn.replies.buffer()),
            Ok(Outcome::Later) => {
                self.client = None;
                return self.refused(entry, "ERR This command asks all cores and cannot run in a script");
            }
            Err(f) => {
                self.core.stats.count_error(f.code());
                crate::resp::Reply::new(out, proto).error(f.text());
            }
        }
        self.origin.db = conn.db as u32;
        self.core.account(entry, start, failed, args, Who::Ref(origin.conn));
        Called::Replied
    }

    fn attempt(&mut self, args: &[&[u8]], proto: Proto, out: &mut Vec<u8>) -> Called {
        let reg = registry();
        let known = reg.find(args[0]);
        let entry = match known {
            Some(e) if e.subs.is_empty() => e,
            Some(e) if args.len() == 1 && matches!(e.action, Action::Container) => {
                return self.refused(e, "ERR Wrong number of args calling Redis command from script");
            }
            Some(_) => match reg.resolve(args) {
                Ok(e) => e,
                Err(_) => return Called::Refused(b"ERR Unknown Redis command called from script".to_vec()),
            },
            None => return Called::Refused(b"ERR Unknown Redis command called from script".to_vec()),
        };
        if !entry.spec.arity_fits(args.len()) {
            return self.refused(entry, "ERR Wrong number of args calling Redis command from script");
        }
        // Access is looked at before what the script may do, as in Redis.
        let no = self.unfit(entry).or_else(|| self.denied(entry, args)).or_else(|| self.forbidden(entry));
        if let Some(text) = no {
            self.core.stats.commands[entry.index].rejected += 1;
            return Called::Refused(text);
        }
        if !self.show(entry, args) {
            self.wanted = Some(Wanted::Everything);
            return Called::Abort(Abort::Again);
        }
        let called = match entry.action {
            Action::Keys(_) => self.run_keys(entry, args, proto, out),
            _ => self.run_conn(entry, args, proto, out),
        };
        if entry.writes() && called == Called::Replied && !self.wrote {
            self.wrote = true;
            if let Some(slow) = &self.slow {
                slow.wrote.store(true, Ordering::SeqCst);
            }
        }
        called
    }
}

impl Host for Running<'_> {
    /// Whether the script passes an error on or not, it counts.
    fn call(&mut self, args: &[&[u8]], proto: Proto, out: &mut Vec<u8>) -> Called {
        let called = self.attempt(args, proto, out);
        if let Called::Refused(text) = &called {
            self.core.stats.count_error(text.split(|b| *b == b' ').next().unwrap_or(text));
        }
        called
    }

    fn interrupt(&mut self) -> Option<Abort> {
        if self.core.shared.stopping.load(Ordering::Relaxed) {
            return Some(Abort::Stopping);
        }
        let (since, wait) = match self.slow {
            None if self.patience.is_zero() => return None,
            None => (self.started, self.patience),
            Some(_) => (self.looked, LOOK_EVERY),
        };
        let now = Instant::now();
        if now.duration_since(since) < wait {
            return None;
        }
        self.looked = now;
        self.is_slow()
    }

    fn log(&mut self, level: c_int, text: &[u8]) {
        match &mut self.undo {
            Some(undo) => undo.said.push(Said::Log(level, text.to_vec())),
            None => write_log(level, text),
        }
    }

    fn set_propagation(&mut self, flags: c_int) {
        self.propagate = flags & REPL_ALL != 0;
    }

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        let entry = registry().resolve(args).ok()?;
        Some(self.refusal(entry, args).is_none())
    }
}
