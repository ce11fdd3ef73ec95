//! Asking every core something, for commands about the whole server.

use std::any::Any;
use std::sync::Arc;

use hashbrown::HashMap;

use super::core::Core;
use super::exec::{Who, owned};
use super::msg::Msg;
use super::registry::{Entry, Outcome};
use crate::base::Args;
use crate::command::Fault;
use crate::command::spec::flag;
use crate::observe::ticks;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::session::conn::{Conn, ConnRef};

/// A question whose asking was put off.
#[derive(Clone, Copy, Debug)]
pub struct Asking(u64);

type Part = Box<dyn Any + Send>;
type Finish = Box<dyn FnOnce(&mut Core, Vec<Part>, &mut Reply)>;

struct Gather {
    /// Who waits for the reply, if anybody does.
    asker: Option<(ConnRef, u32, Proto)>,
    missing: usize,
    parts: Vec<Option<Part>>,
    finish: Finish,
    command: Option<Begun>,
}

/// A command that is accounted when its answers are in: after what it did to
/// the statistics, and not among what it tells of them.
struct Begun {
    entry: &'static Entry,
    args: Vec<Vec<u8>>,
    ticks: u64,
    /// Its number in the slow log, if everything is logged: that of its
    /// beginning, since what it let go ahead may be logged before its end.
    slow_id: Option<u64>,
}

/// Questions of one core that are not answered by all yet.
#[derive(Default)]
pub struct Gathers {
    next: u64,
    /// Opened by the command that runs, which is not accounted yet.
    fresh: Option<u64>,
    open: HashMap<u64, Gather, foldhash::fast::RandomState>,
}

impl Gathers {
    /// Takes the askers of commands for which `which` holds: nobody waits for
    /// those answers any more.
    pub fn withdraw(&mut self, which: impl Fn(&Entry) -> bool) -> Vec<((ConnRef, u32, Proto), &'static Entry)> {
        let asked = self.open.values_mut().filter_map(|g| {
            let entry = g.command.as_ref()?.entry;
            if which(entry) { g.asker.take().map(|asker| (asker, entry)) } else { None }
        });
        asked.collect()
    }
}

impl Core {
    /// Runs `each` on every core and then `finish` here with the answers, in
    /// the order of the cores; the reply goes to `conn`.
    pub fn gather<T: Send + 'static>(
        &mut self,
        conn: &mut Conn,
        each: impl Fn(&mut Core) -> T + Send + Sync + 'static,
        finish: impl FnOnce(&mut Core, Vec<T>, &mut Reply) + 'static,
    ) -> Result<Outcome, Fault> {
        let asking = self.begin_gather(conn);
        self.go_on_gathering(asking, each, finish);
        Ok(Outcome::Later)
    }

    /// Reserves the place of the reply; [`Core::go_on_gathering`] must follow.
    pub fn begin_gather(&mut self, conn: &mut Conn) -> Asking {
        let seq = self.origin(conn).seq;
        conn.barrier = true;
        let asking = self.open_gather(Some((conn.me, seq, conn.proto)));
        self.gathers.fresh = Some(asking.0);
        asking
    }

    /// Accounts a command whose reply comes later.
    pub fn account_later(&mut self, conn: &Conn, entry: &'static Entry, start: u64, args: Args) {
        let fresh = self.gathers.fresh.take();
        match fresh.and_then(|id| self.gathers.open.get_mut(&id)) {
            Some(g) => {
                self.last_tick = ticks::ticks();
                let spent = self.last_tick.saturating_sub(start);
                let logged = self.settings.slowlog_log_slower_than_us == 0 && !entry.spec.is(flag::SKIP_SLOWLOG);
                let slow_id = logged.then(|| self.shared.next_slow());
                g.command = Some(Begun { entry, args: owned(args), ticks: spent, slow_id });
            }
            None => self.account(entry, start, false, args, Who::Here(conn)),
        }
    }

    /// [`Core::gather`] on the server's own behalf.
    pub fn gather_quietly<T: Send + 'static>(
        &mut self,
        each: impl Fn(&mut Core) -> T + Send + Sync + 'static,
        finish: impl FnOnce(&mut Core, Vec<T>) + 'static,
    ) {
        let asking = self.open_gather(None);
        self.go_on_gathering(asking, each, |core, parts, _| finish(core, parts));
    }

    fn open_gather(&mut self, asker: Option<(ConnRef, u32, Proto)>) -> Asking {
        let id = self.gathers.next;
        self.gathers.next += 1;
        let cores = self.shared.cores;
        let parts = (0..cores).map(|_| None).collect();
        let finish: Finish = Box::new(|_, _, _| ());
        self.gathers.open.insert(id, Gather { asker, missing: cores, parts, finish, command: None });
        Asking(id)
    }

    /// Asks every core; see [`Core::gather`].
    pub fn go_on_gathering<T: Send + 'static>(
        &mut self,
        asking: Asking,
        each: impl Fn(&mut Core) -> T + Send + Sync + 'static,
        finish: impl FnOnce(&mut Core, Vec<T>, &mut Reply) + 'static,
    ) {
        let id = asking.0;
        let cores = self.shared.cores;
        let Some(gather) = self.gathers.open.get_mut(&id) else { return };
        gather.finish = Box::new(move |core, parts, reply| {
            let parts = parts.into_iter().filter_map(|p| p.downcast::<T>().ok().map(|b| *b)).collect();
            finish(core, parts, reply);
        });
        let each = Arc::new(each);
        let home = self.id;
        for core in 0..cores {
            let each = each.clone();
            let call = move |c: &mut Core| {
                let part: Part = Box::new(each(c));
                let me = c.id;
                c.send(home, Msg::Call(Box::new(move |h: &mut Core| h.answered(id, me, part))));
            };
            self.send(core, Msg::Call(Box::new(call)));
        }
    }

    fn answered(&mut self, id: u64, core: usize, part: Part) {
        let Some(g) = self.gathers.open.get_mut(&id) else { return };
        g.parts[core] = Some(part);
        g.missing -= 1;
        if g.missing > 0 {
            return;
        }
        let Some(g) = self.gathers.open.remove(&id) else { return };
        let mut out = Vec::new();
        let proto = g.asker.map_or(Proto::Resp2, |a| a.2);
        let parts = g.parts.into_iter().flatten().collect();
        let start = ticks::ticks();
        (g.finish)(self, parts, &mut Reply::new(&mut out, proto));
        let Some((conn, seq, _)) = g.asker else { return };
        if let Some(mut begun) = g.command {
            begun.ticks += ticks::ticks().saturating_sub(start);
            self.account_begun(conn, &begun);
        }
        self.deliver(conn, seq, &out);
    }

    fn account_begun(&mut self, conn: ConnRef, begun: &Begun) {
        let args: Vec<&[u8]> = begun.args.iter().map(|a| &a[..]).collect();
        let Some(c) = self.take_conn(conn) else { return };
        self.slow_id = begun.slow_id;
        self.account_spent(begun.entry, begun.ticks, false, &args, Who::Here(&c));
        self.slow_id = None;
        self.put_conn(c);
    }

    /// Runs something on every core, without an answer.
    pub fn broadcast(&mut self, each: impl Fn(&mut Core) + Send + Sync + 'static) {
        let each = Arc::new(each);
        for core in 0..self.shared.cores {
            let each = each.clone();
            self.send(core, Msg::Call(Box::new(move |c: &mut Core| each(c))));
        }
    }
}
