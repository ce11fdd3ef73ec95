//! A changed configuration at work: what the process does before it accepts the
//! change, and what every core does after it.

use std::sync::{Arc, PoisonError};

use super::bind;
use super::core::Core;
use super::io::Listener;
use super::process;
use super::service::aof::Place;
use super::shared::Shared;
use super::start::RESERVED_FILES;
use super::tls::{self, Tls};
use crate::base::os::os_reason;
use crate::command::cx::Options;
use crate::config::{Change, Settings};
use crate::observe::log;

/// Sockets that take the place of those of another port, one list per core.
#[derive(Clone)]
pub struct Listening {
    instead_of: u16,
    sockets: Arc<Vec<Vec<Listener>>>,
}

/// What was done to the process for a change that is not made yet.
#[derive(Default)]
pub struct Applied {
    listening: Vec<Listening>,
    /// New certificates and the like, if TLS was touched.
    tls: Option<Option<Tls>>,
}

/// A directive of TLS to blame.
fn changed_tls(change: &Change) -> &'static str {
    change.changed().iter().copied().find(|name| name.starts_with("tls-")).unwrap_or("tls-cert-file")
}

/// Does what can fail. `touched_tls` when a directive of TLS was given, also
/// to the same value: its files may have changed. The error is Redis's text without its code; nothing has
/// changed then.
pub fn process_wide(core: &Core, change: &Change, touched_tls: bool) -> Result<Applied, String> {
    try_process_wide(core, change, touched_tls).map_err(|(name, reason)| {
        // Redis enters a directory while it reads the values, before it applies any.
        if name != "dir" {
            log::warning(format_args!(
                "Failed applying new configuration. Possibly related to new {name} setting. Restoring previous settings."
            ));
        }
        Change::refusal(name, &reason)
    })
}

/// The directive that could not be applied, and why.
type Blamed = (&'static str, String);

fn try_process_wide(core: &Core, change: &Change, touched_tls: bool) -> Result<Applied, Blamed> {
    let new = change.settings();
    let changes = |name: &str| change.changed().contains(&name);
    if changes("maxclients") {
        let fitting = process::raise_open_files(new.maxclients, RESERVED_FILES);
        if fitting < new.maxclients {
            let reason = "The operating system is not able to handle the specified number of clients, try with";
            return Err(("maxclients", format!("{reason} {fitting}")));
        }
    }
    let mut applied = Applied::default();
    if touched_tls {
        let made = tls::make(new).map_err(|e| {
            log::warning(format_args!("Failed to configure TLS: {e}"));
            (changed_tls(change), "Unable to update TLS configuration. Check server logs.".to_string())
        })?;
        applied.tls = Some(made);
    }
    for (name, old_port, new_port) in
        [("port", core.settings.port, new.port), ("tls-port", core.settings.tls.port, new.tls.port)]
    {
        let moved = changes(name);
        if moved || (changes("bind") && new_port > 0) {
            match listen(core, new, (old_port, new_port)) {
                Ok(listening) => applied.listening.push(listening),
                Err(reason) => {
                    applied.undo();
                    return Err((if moved { name } else { "bind" }, reason));
                }
            }
        }
    }
    if changes("dir")
        && let Err(e) = std::env::set_current_dir(&new.dir)
    {
        applied.undo();
        return Err(("dir", os_reason(&e)));
    }
    if changes("appendonly") && new.persistence.appendonly {
        let place = Place::of(new);
        if let Err(e) = place.try_dir() {
            let dir = place.dir.display();
            log::warning(format_args!("Can't open or create append-only dir {dir}: {}", os_reason(&e)));
            applied.undo();
            return Err(("appendonly", "Unable to turn on AOF. Check server logs.".into()));
        }
    }
    if changes("loglevel") {
        log::set_level(new.loglevel);
    }
    log::set_format(new.log_format, new.log_timestamp_format);
    if changes("crash-log-enabled") {
        process::crash::report(new.internals.crash_log_enabled);
    }
    if changes("use-exit-on-panic") {
        process::crash::exit_on_panic(new.internals.use_exit_on_panic);
    }
    let used = crate::base::memory::used() as u64;
    if changes("maxmemory") && (1..used).contains(&new.maxmemory) {
        log::warning(format_args!(
            "WARNING: the new maxmemory value set via CONFIG SET ({}) is smaller than the current memory usage ({used}). \
             This will result in key eviction and/or the inability to accept new write commands depending on the \
             maxmemory-policy.",
            new.maxmemory
        ));
    }
    if changes("oom-score-adj") || changes("oom-score-adj-values") {
        let blamed = if changes("oom-score-adj") { "oom-score-adj" } else { "oom-score-adj-values" };
        if let Err(reason) = process::adjust_oom_score(new, core.role.replica) {
            applied.undo();
            return Err((blamed, reason));
        }
    }
    Ok(applied)
}

/// Binds the new addresses while the old ones are still open.
fn listen(core: &Core, new: &Settings, (old_port, new_port): (u16, u16)) -> Result<Listening, String> {
    let old = &core.settings;
    if old.core_endpoints && new.bind != old.bind {
        return Err("addresses cannot change while core-endpoints is on".into());
    }
    let cores = core.shared.cores;
    let sockets = if new_port == 0 {
        vec![Vec::new(); cores]
    } else {
        bind::tcp_beside(new, new_port, cores, new_port == old_port).map_err(|e| {
            log::warning(format_args!("Warning: {e}"));
            let moved = new_port != old_port;
            String::from(if moved {
                "Unable to listen on this port. Check server logs."
            } else {
                "Failed to bind to specified addresses."
            })
        })?
    };
    Ok(Listening { instead_of: old_port, sockets: Arc::new(sockets) })
}

impl Applied {
    /// Makes new certificates the process's; to be called with the commit.
    pub fn publish_tls(&mut self, shared: &Shared) {
        if let Some(tls) = self.tls.take() {
            *shared.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls.map(Arc::new);
        }
    }

    /// Takes back what another part of the change made futile.
    fn undo(self) {
        for l in self.listening.iter().flat_map(|l| l.sockets.iter().flatten()) {
            // SAFETY: the socket was made for this change and nobody else has it.
            unsafe { libc::close(l.fd) };
        }
    }

    /// What remains to be done, on every core, once the change is made.
    pub fn on_each_core(self) -> impl Fn(&mut Core) + Send + Sync + 'static {
        let listening = self.listening;
        move |core| {
            core.tls = core.shared.tls();
            core.take_settings();
            if core.id == 0 {
                core.tell_service(|s| s.settings_changed());
            }
            for l in &listening {
                let own = &l.sockets[core.id];
                core.replace_listeners(l.instead_of, own);
                core.shared.port.store(core.settings.port as usize, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
}

impl Core {
    /// Goes over to the current settings. Which change brought them does not
    /// matter: cores that hear of several in different orders end up equal.
    pub fn take_settings(&mut self) {
        let new = self.shared.config.settings();
        let old = std::mem::replace(&mut self.settings, new);
        // What DEBUG has set stays.
        let Options { list_node_max_bytes, skip_checksums, .. } = self.options;
        self.update_notifying();
        self.options = Options { list_node_max_bytes, skip_checksums, ..super::options(&self.settings) };
        self.update_gate();
        self.limit_tracking();
        self.stats.slowlog.truncate(self.settings.slowlog_max_len);
        self.take_users();
        if old.tcp_keepalive_s != self.settings.tcp_keepalive_s {
            for l in self.listeners.iter().filter(|l| !l.unix && l.fd >= 0) {
                // Only the keepalive of connections to come is at stake.
                let _ = bind::keepalive(l.fd, self.settings.tcp_keepalive_s);
            }
        }
    }
}
