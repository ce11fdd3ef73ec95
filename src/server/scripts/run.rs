//! EVAL, EVALSHA and FCALL on whatever keyspace is in place.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::host::Running;
use super::undo::Undo;
use super::{Reach, Wanted};
use crate::acl::User;
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::base::slot::Key;
use crate::command::Fault;
use crate::command::fault::NOT_AN_INTEGER;
use crate::resp::Reply;
use crate::script::cache::parse_sha;
use crate::script::engine::{Arguments, Ended, Engine, Loaded};
use crate::script::source::flag;
use crate::server::core::Core;
use crate::server::msg::Origin;
use crate::server::registry::Entry;
use crate::transaction::locks::{Mode, Need};

/// A script or a function that can be run.
enum Code {
    Script(usize),
    Function(Loaded),
}

const NOSCRIPT: Fault = Fault::Text("NOSCRIPT No matching script. Please use EVAL.");

/// Number of keys, from the third argument.
fn key_count(args: Args, not_a_number: Fault) -> Result<usize, Fault> {
    let n = parse_i64(args[2]).ok_or(not_a_number)?;
    if n < 0 {
        return Err(Fault::Text("ERR Number of keys can't be negative"));
    }
    if n as usize > args.len() - 3 {
        return Err(Fault::Text("ERR Number of keys can't be greater than number of args"));
    }
    Ok(n as usize)
}

impl Core {
    /// Handler of EVAL and its kin. Did it fail? If [`super::CoreScripts`] has
    /// something wanted afterwards, it is to run again, and nothing is written.
    pub fn run_script(&mut self, entry: &Entry, args: Args, origin: &Origin, now: u64, out: &mut Vec<u8>) -> bool {
        let reach = self.scripts.reach.take();
        let Some(mut engine) = self.scripts.engine.take() else {
            Reply::new(out, origin.proto).error(b"ERR This Redis command is not allowed from script");
            return true;
        };
        let result = self.find_and_run(&mut engine, reach, entry, args, origin, now, out);
        self.scripts.engine = Some(engine);
        let (text, counted) = match result {
            Ok(Ended::Done) => return false,
            Ok(Ended::Failed { text, counted }) => (text, counted),
            // The reply is not wanted any more.
            Ok(Ended::Aborted(_)) => return false,
            Err(f) => (f.text().to_vec(), false),
        };
        let f = Fault::Composed(text);
        Reply::new(out, origin.proto).error(f.text());
        if !counted {
            self.stats.count_error(f.code());
        }
        true
    }

    #[allow(clippy::too_many_arguments)]
    fn find_and_run(
        &mut self,
        engine: &mut Engine,
        reach: Option<Reach>,
        entry: &Entry,
        args: Args,
        origin: &Origin,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Result<Ended, Fault> {
        let shared = self.shared.clone();
        let name = entry.spec.name;
        let read_only = name.ends_with("_ro");
        let function = name.starts_with('f');
        let (code, keys, flags) = if function {
            let f = engine.function(&shared.scripts.libraries, args[1]).ok_or(Fault::Text("ERR Function not found"))?;
            let keys = key_count(args, Fault::Text("ERR Bad number of keys provided"))?;
            (Code::Function(f), keys, f.flags)
        } else {
            let sha = name.starts_with("evalsha");
            if sha && args[1].len() != 40 {
                return Err(NOSCRIPT);
            }
            let keys = key_count(args, NOT_AN_INTEGER)?;
            let found = if sha {
                let sha = parse_sha(args[1]).ok_or(NOSCRIPT)?;
                engine.by_sha(&shared.scripts.cache, &sha).ok_or(NOSCRIPT)?
            } else {
                engine.by_body(&shared.scripts.cache, args[1])
            };
            let at = found.map_err(Fault::Composed)?;
            (Code::Script(at), keys, engine.script(at).flags)
        };
        if let Some(f) = self.may_not_run(flags, origin) {
            // Redis looks at the flags of scripts that have some before it calls
            // the command, but for those in a transaction.
            self.scripts.refused = flags & flag::COMPAT == 0 && origin.client != 0 && !self.in_exec;
            return Err(f);
        }
        if read_only && flags & (flag::COMPAT | flag::NO_WRITES) == 0 {
            return Err(Fault::Text("ERR Can not execute a script with write flag using *_ro command."));
        }
        let given = Arguments { keys: &args[3..3 + keys], args: &args[3 + keys..] };
        let script = match code {
            Code::Script(at) => Some(engine.script(at).clone()),
            Code::Function(_) => None,
        };
        let shown: Cow<[u8]> = match (&code, &script) {
            (Code::Function(f), _) if engine.name_of(*f) != args[1] => Cow::Owned(engine.name_of(*f).to_vec()),
            (_, Some(script)) => Cow::Borrowed(&script.sha),
            _ => Cow::Borrowed(args[1]),
        };
        let reach = reach.unwrap_or_else(|| self.reach_here());
        let undo = (!matches!(reach, Reach::Everything)).then(|| self.begin_undo());
        self.journal.begin_unit();
        let outer_unit = std::mem::replace(&mut self.in_unit, true);
        let patience = self.settings.internals.busy_reply_threshold_ms;
        let started = Instant::now();
        let mut running = Running {
            core: self,
            origin: *origin,
            now,
            reach,
            undo,
            wanted: None,
            read_only: read_only || (flags & flag::COMPAT == 0 && flags & flag::NO_WRITES != 0),
            allow_oom: flags & flag::ALLOW_OOM != 0,
            wrote: false,
            propagate: true,
            user: None,
            client: None,
            started,
            looked: started,
            patience: Duration::from_millis(patience),
            slow: None,
            function,
            name: &shown,
            command: args,
        };
        running.user = running.core.script_user(origin);
        let mut reply = Reply::new(out, origin.proto);
        let ended = match code {
            Code::Script(at) => engine.eval(at, given, &mut running, &mut reply),
            Code::Function(f) => engine.fcall(f, &shown, given, &mut running, &mut reply),
        };
        running.finish();
        let (undo, wanted) = (running.undo.take(), running.wanted.take());
        drop(running);
        self.in_unit = outer_unit;
        self.end_script(undo, wanted, origin);
        Ok(ended)
    }

    fn end_script(&mut self, undo: Option<Undo>, wanted: Option<Wanted>, origin: &Origin) {
        match (undo, wanted) {
            (Some(undo), Some(wanted)) => {
                undo.take_back(self);
                self.scripts.wanted = Some(wanted);
            }
            (undo, _) => {
                self.journal.end_unit();
                self.journal.settle(&self.lane);
                if let Some(undo) = undo {
                    undo.release(self, origin.conn);
                }
            }
        }
    }

    /// Whose script it is. Those of restricted users run on the core of their
    /// connection only, where it is in use or in its place.
    fn script_user(&self, origin: &Origin) -> Option<(Option<Arc<User>>, bool)> {
        if origin.client == 0 || origin.conn.core as usize != self.id {
            return None;
        }
        if self.scripts.user.is_some() {
            return self.scripts.user.clone();
        }
        let conn = self.conns.get(origin.conn.index).filter(|c| c.me == origin.conn);
        // A connection that is gone may do nothing.
        Some(conn.map_or((None, true), |c| (c.user.clone(), c.restricted)))
    }

    /// What a script reaches that runs on its core.
    fn reach_here(&self) -> Reach {
        let alone = self.shared.cores == 1 && self.locks.is_empty();
        if alone || self.in_exec || self.gathering.is_some() { Reach::Everything } else { Reach::Core }
    }

    fn begin_undo(&mut self) -> Undo {
        let own_events = self.gathering.is_none();
        let events = self.gathering.get_or_insert_with(Vec::new).len();
        Undo::new((events, self.tracker.reads_away()), own_events, self.stats.dirty)
    }

    /// Does nobody stand in the way of a script that runs here?
    pub fn is_free_for_script(&self, db: usize, key: &Key) -> bool {
        if self.locks.is_empty() {
            return true;
        }
        let mut need = Need::default();
        need.keys.push(((db as u32, key.hash), Mode::Exclusive));
        !self.locks.conflicts(&need)
    }

    /// Why a script with these flags may not even begin.
    fn may_not_run(&self, flags: u32, origin: &Origin) -> Option<Fault> {
        let stale = self.is_stale() && flags & flag::ALLOW_STALE == 0;
        if stale {
            return Some(super::super::role::MASTERDOWN);
        }
        if flags & (flag::COMPAT | flag::NO_WRITES) != 0 {
            return None;
        }
        if flags & flag::ALLOW_OOM == 0 && origin.client != 0 && self.out_of_memory() {
            return Some(Fault::Text("OOM command not allowed when used memory > 'maxmemory'."));
        }
        if origin.client != 0 { self.write_refusal() } else { None }
    }
}
