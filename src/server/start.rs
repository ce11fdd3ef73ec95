//! From the command line to running cores, and to the end of the process.

use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::core::Core;
use super::io::Listener;
use super::process::signals::{self, ShutdownSignal};
use super::process::{self, Program};
use super::service::shutdown::Order;
use super::shared::{Garbage, Shared};
use super::tls::{self, Tls};
use super::{bind, endpoints, registry, service, users_file};
use crate::acl::Users;
use crate::base::os::os_reason;
use crate::base::slot::SLOTS;
use crate::base::{clock, memory};
use crate::config::{Config, ConfigError, Cores, ServiceCore, Settings, StartMode, help_text};
use crate::observe::{log, ticks};
use crate::reactor::buffers::Buffers;
use crate::reactor::mesh::Mesh;
use crate::reactor::ring::Ring;
use crate::reactor::turn;
use crate::reactor::wake::Wake;
use crate::snapshot::check;

/// Descriptors that the server needs beside its clients'.
pub const RESERVED_FILES: u64 = 64;

/// Data cores at most.
pub const CORES_MAX: usize = 256;

/// Stack of a core's thread: scripts may return deeply nested tables.
const CORE_STACK: usize = 8 << 20;

/// Runs the program; its exit code.
pub fn main(args: Vec<String>) -> ExitCode {
    let program = Program::from_args(&args);
    if program == Program::CheckAof {
        return super::check_aof::main(&args);
    }
    if let Some(text) = program.refusal() {
        eprintln!("{text}");
        return ExitCode::FAILURE;
    }
    if program == Program::CheckRdb {
        return check_rdb(&args);
    }
    if program == Program::CheckSystem {
        return exit_code(process::check_system(&mut std::io::stdout().lock()));
    }
    match Config::from_args(&args) {
        Ok(StartMode::Version) => {
            println!("{}", process::version_line());
            ExitCode::SUCCESS
        }
        Ok(StartMode::Help) => {
            // To standard error and with code 1, as redis-server does.
            eprintln!("{}", help_text(process::program_name(&args[0])));
            ExitCode::FAILURE
        }
        Ok(StartMode::Serve(config)) => match prepare(&config) {
            Ok(users) => serve_to_the_end(config, users, &args[0]),
            Err(e) => refuse(&e),
        },
        Err(e) => refuse(&e),
    }
}

fn refuse(e: &ConfigError) -> ExitCode {
    eprintln!("{e}");
    ExitCode::FAILURE
}

/// Puts to use what only commands and users can tell whether it is right, while
/// there is somebody to tell.
fn prepare(config: &Config) -> Result<Users, ConfigError> {
    registry::init(&config.settings().rename_commands)
        .map_err(|(nth, reason)| config.refused("rename-command", nth, reason.to_owned()))?;
    users_file::of_config(config)
}

fn serve_to_the_end(config: Config, users: Users, program: &str) -> ExitCode {
    match serve(config, users, program) {
        Ok(code) => ExitCode::from(code as u8),
        Err(e) => {
            log::warning(format_args!("{e}"));
            ExitCode::FAILURE
        }
    }
}

/// Of a check: success only if nothing was wrong.
fn exit_code(good: std::io::Result<bool>) -> ExitCode {
    if good.unwrap_or(false) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The program that checks a snapshot file.
fn check_rdb(args: &[String]) -> ExitCode {
    let name = process::program_name(&args[0]);
    match args {
        [_, flag] if flag == "-v" || flag == "--version" => {
            println!("{}", process::version_line());
            ExitCode::SUCCESS
        }
        [_, file] => exit_code(check::check(file, &mut std::io::stdout().lock())),
        _ => {
            eprintln!("Usage: {name} <rdb-file-name>");
            ExitCode::FAILURE
        }
    }
}

/// Which CPU each thread runs on.
struct Layout {
    /// One per data core; `None` is left to the scheduler.
    data: Vec<Option<usize>>,
    service: Option<usize>,
}

fn layout(s: &Settings) -> Result<Layout, String> {
    let cpus: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    let n = cpus.len().max(1);
    let spare = n >= 4;
    let data: Vec<Option<usize>> = match &s.cores {
        Cores::Auto => cpus.iter().take(if spare { n - 1 } else { n }).copied().map(Some).collect(),
        // More cores than CPUs share them; pinning would only hinder that.
        Cores::Count(k) if *k > n => vec![None; *k],
        Cores::Count(k) => cpus.iter().take(*k).copied().map(Some).collect(),
        Cores::Cpus(list) => {
            if let Some(bad) = list.iter().find(|c| !cpus.contains(c)) {
                return Err(format!("CPU {bad} of the directive 'cores' is not usable by this process"));
            }
            list.iter().copied().map(Some).collect()
        }
    };
    if data.is_empty() || data.len() > CORES_MAX {
        return Err(format!("The number of data cores must be between 1 and {CORES_MAX}"));
    }
    let service = match s.service_core {
        ServiceCore::None => None,
        ServiceCore::Cpu(c) if cpus.contains(&c) => Some(c),
        ServiceCore::Cpu(c) => {
            return Err(format!("CPU {c} of the directive 'service-core' is not usable by this process"));
        }
        ServiceCore::Auto => cpus.iter().copied().find(|c| spare && !data.contains(&Some(*c))),
    };
    Ok(Layout { data, service })
}

/// The slots in equal contiguous ranges.
fn first_map(cores: usize) -> Vec<u16> {
    (0..SLOTS).map(|s| (s * cores / SLOTS) as u16).collect()
}

fn serve(config: Config, users: Users, program: &str) -> Result<usize, String> {
    let s = config.settings();
    process::enter_dir(&s)?;
    process::check_kernel()?;
    if s.daemonize {
        process::daemonize().map_err(|e| format!("Can't run in the background: {e}"))?;
    }
    process::title::begin(&config, program);
    log::configure(&s)?;
    process::crash::install(&s);
    log::notice(format_args!("oO0OoO0OoO0Oo Coreslot is starting oO0OoO0OoO0Oo"));
    log::notice(format_args!(
        "Coreslot version={}, bits=64, pid={}, just started",
        process::VERSION,
        std::process::id()
    ));
    if config.is_default() {
        log::warning(format_args!(
            "Warning: no config file specified, using the default config. In order to specify a config file use coreslot-server /path/to/coreslot.conf"
        ));
    } else {
        log::notice(format_args!("Configuration loaded"));
    }
    log::set_role(log::Role::of_server(s.replication.replicaof.is_some()));
    config.notices().iter().for_each(|n| log::notice(format_args!("{n}")));
    let users = users_file::at_start(users, &s)?;
    let tls = tls::make(&s).map_err(|e| format!("Failed to configure TLS. {e}"))?;
    let pid_file = process::PidFile::write(&s);
    let wake = signals::install().map_err(|e| format!("Can't install signal handlers: {e}"))?;
    let s = fit_clients(&config, s);
    process::disable_huge_pages(&s);
    // A score that cannot be set is logged, and no reason not to start.
    let _ = process::adjust_oom_score(&s, false);
    let code = run(config, (users, tls), &s, wake)?;
    if let Some(p) = pid_file {
        p.remove();
    }
    log::warning(format_args!("Coreslot is now ready to exit, bye bye..."));
    Ok(code)
}

/// Makes room for `maxclients`, or lowers it to those that fit.
fn fit_clients(config: &Config, s: Arc<Settings>) -> Arc<Settings> {
    let fitting = process::raise_open_files(s.maxclients, RESERVED_FILES);
    if fitting == s.maxclients {
        return s;
    }
    // A number that was accepted before, only smaller: it cannot be refused.
    let _ = config.set(&[("maxclients", &fitting.to_string())]);
    config.settings()
}

fn run(config: Config, access: (Users, Option<Tls>), s: &Settings, wake: RawFd) -> Result<usize, String> {
    clock::resync();
    ticks::per_us();
    let before = memory::used_here();
    let layout = layout(s)?;
    let cores = layout.data.len();
    let listeners = listeners(s, cores)?;
    let metrics = match s.metrics_port {
        0 => None,
        port => Some(bind::alone(s, &s.metrics_bind, port)?),
    };
    let wakes = (0..=cores)
        .map(|_| Wake::new())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("socketpair: {}", os_reason(&e)))?;
    memory::purge_on_request_only();
    let (garbage, reaper, counts) = start_reaper()?;
    let shared = Arc::new(Shared::new(
        cores,
        config,
        access,
        Arc::new(Mesh::new(wakes)),
        first_map(cores),
        garbage,
        (counts.0, counts.1, counts.2),
    ));
    shared.port.store(s.port as usize, Ordering::Relaxed);
    shared.endpoint_base.store(endpoints::base(s), Ordering::Relaxed);
    banner(s, cores);
    log::notice(format_args!("Server initialized"));
    let supervisor = process::Supervisor::greet(s);
    // Until the service core says otherwise.
    shared.persistence.loading.store(true, Ordering::SeqCst);
    let service = service::start(shared.clone(), layout.service, metrics)?;
    let threads = start_cores(&shared, &layout, listeners)?;
    leave_out_fixed(&shared, before);
    if wait_until_loaded(&shared, &service.loaded)? {
        announce(s);
        if let Some(sv) = &supervisor {
            sv.ready(s.replication.replicaof.is_some());
        }
    }
    wait(&shared, wake);
    if let Some(sv) = &supervisor {
        sv.stopping();
    }
    for t in threads {
        if t.join().is_err() {
            shared.exit_code.store(1, Ordering::SeqCst);
        }
    }
    shared.cores_ended.store(true, Ordering::SeqCst);
    shared.mesh.rouse(shared.service());
    let _ = service.thread.join();
    drop(reaper);
    if !s.unixsocket.is_empty() {
        log::notice(format_args!("Removing the unix socket file."));
        let _ = std::fs::remove_file(s.resolve(&s.unixsocket));
    }
    Ok(shared.exit_code.load(Ordering::SeqCst))
}

/// The memory of the threads' queues, tables and histograms, some MB for every
/// core, is there from the start and stays. It is left out of what is used, so
/// that `maxmemory` means data and clients, however many cores there are. About
/// as much as an empty Redis reports stays, or what is allocated with the first
/// requests would look like manifold growth.
fn leave_out_fixed(shared: &Shared, before: usize) {
    const KEPT: usize = 768 << 10;
    let fixed = memory::used_here().saturating_sub(before + KEPT);
    memory::leave_out(fixed);
    shared.startup_memory.store(memory::used_here(), Ordering::Relaxed);
    shared.peak_memory.store(memory::used_here(), Ordering::Relaxed);
    shared.measured.store(true, Ordering::SeqCst);
}

/// The line by which test harnesses learn the process id.
fn banner(s: &Settings, cores: usize) {
    let mode = if cores == 1 { "one data core".to_string() } else { format!("{cores} data cores") };
    let text = format!("Coreslot {} ({mode}) Port: {} PID: {}", process::VERSION, s.port, std::process::id());
    log::notice(format_args!("{text}"));
}

fn announce(s: &Settings) {
    if s.port > 0 {
        log::notice(format_args!("Ready to accept connections tcp"));
    }
    if s.tls.port > 0 {
        log::notice(format_args!("Ready to accept connections tls"));
    }
    if !s.unixsocket.is_empty() {
        log::notice(format_args!("Ready to accept connections unix"));
    }
}

fn listeners(s: &Settings, cores: usize) -> Result<Vec<Vec<Listener>>, String> {
    let mut all = if s.port == 0 {
        vec![Vec::new(); cores]
    } else {
        bind::tcp_at_start(s, s.port, cores).map_err(|e| {
            log::warning(format_args!("Warning: {e}"));
            format!("Failed listening on port {} (tcp), aborting.", s.port)
        })?
    };
    if s.tls.port > 0 {
        let encrypted = bind::tcp_at_start(s, s.tls.port, cores).map_err(|e| {
            log::warning(format_args!("Warning: {e}"));
            format!("Failed listening on port {} (tls), aborting.", s.tls.port)
        })?;
        all.iter_mut().zip(encrypted).for_each(|(all, more)| all.extend(more));
    }
    if let Some(fd) = bind::unix(s)? {
        all.iter_mut().for_each(|l| l.push(Listener { fd, unix: true, port: 0, endpoint: false, tls: false }));
    }
    if s.core_endpoints {
        for (c, list) in all.iter_mut().enumerate() {
            let port = endpoints::port(endpoints::base(s), c)?;
            let own =
                bind::tcp_at_start(s, port, 1).map_err(|e| format!("Failed listening on core port {port}: {e}"))?;
            list.extend(own.into_iter().flatten().map(|l| Listener { endpoint: true, tls: false, ..l }));
        }
    }
    if all.iter().all(Vec::is_empty) {
        return Err("Configured to not listen anywhere, exiting.".into());
    }
    Ok(all)
}

/// Values to be freed, values freed, whole databases to be freed.
type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>);

/// How often free memory is given back to the system.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread that frees what would take a data core long, and gives free
/// memory back to the system in the place of all others.
fn start_reaper() -> Result<(mpsc::Sender<Garbage>, JoinHandle<()>, Counts), String> {
    let (send, receive) = mpsc::channel::<Garbage>();
    let counts: Counts = Default::default();
    let (pending, freed, flushed) = counts.clone();
    let thread = std::thread::Builder::new().name("reaper".into()).spawn(move || {
        let mut purge_at = Instant::now() + PURGE_EVERY;
        loop {
            let g = receive.recv_timeout(purge_at.saturating_duration_since(Instant::now()));
            if Instant::now() >= purge_at {
                memory::purge();
                purge_at = Instant::now() + PURGE_EVERY;
            }
            let g = match g {
                Ok(g) => g,
                Err(mpsc::RecvTimeoutError::Timeout) => continue,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let (n, dbs) = match &g {
                Garbage::Objects(o) => (o.len(), 0),
                Garbage::Db(db) => (db.len(), 1),
            };
            drop(g);
            memory::settle();
            flushed.fetch_sub(dbs, Ordering::Relaxed);
            pending.fetch_sub(n, Ordering::Relaxed);
            freed.fetch_add(n, Ordering::Relaxed);
        }
    });
    let thread = thread.map_err(|e| format!("Can't start the reaper thread: {}", os_reason(&e)))?;
    Ok((send, thread, counts))
}

fn start_cores(
    shared: &Arc<Shared>,
    layout: &Layout,
    listeners: Vec<Vec<Listener>>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let (ready, is_ready) = mpsc::channel();
    let mut threads = Vec::new();
    for (id, (own, cpu)) in listeners.into_iter().zip(&layout.data).enumerate() {
        let (shared, ready, cpu) = (shared.clone(), ready.clone(), *cpu);
        let body = move || core_thread(id, shared, own, cpu, ready);
        let t = std::thread::Builder::new().name(format!("core-{id}")).stack_size(CORE_STACK).spawn(body);
        threads.push(t.map_err(|e| format!("Can't start data core {id}: {}", os_reason(&e)))?);
    }
    for _ in 0..threads.len() {
        match is_ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(e),
            Err(_) => return Err("A data core ended while starting".into()),
        }
    }
    Ok(threads)
}

fn core_thread(
    id: usize,
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    cpu: Option<usize>,
    ready: mpsc::Sender<Result<(), String>>,
) {
    if let Some(c) = cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id: c });
    }
    process::ask_for_short_slices();
    let made = Ring::new().and_then(|ring| Buffers::register(ring.submitter()).map(|b| (ring, b)));
    let (ring, buffers) = match made {
        Ok(x) => x,
        Err(e) => {
            let _ = ready.send(Err(format!("Can't make the io_uring ring of data core {id}: {}", os_reason(&e))));
            return;
        }
    };
    let guard = StopOnPanic(shared.clone());
    let mut core = Core::new(id, shared, ring, buffers, listeners);
    let _ = ready.send(Ok(()));
    turn::run(&mut core);
    core.leave_journal();
    core.stop_listening();
    // The rest is the process's to free: dropping millions of entries one by
    // one would only delay the exit.
    std::mem::forget(core);
    std::mem::forget(guard);
}

/// A data core that panics takes the process down, with a clear exit code.
struct StopOnPanic(Arc<Shared>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        log::warning(format_args!("A data core has failed; the server stops"));
        self.0.stop(1);
        std::process::exit(1);
    }
}

/// Waits for the dataset; false when an end by signal or command came first.
fn wait_until_loaded(shared: &Shared, loaded: &mpsc::Receiver<Result<(), String>>) -> Result<bool, String> {
    loop {
        match loaded.recv_timeout(Duration::from_millis(100)) {
            Ok(result) => return result.map(|()| !shared.stopping.load(Ordering::SeqCst)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err("The service core ended while loading".into()),
        }
        if shared.stopping.load(Ordering::SeqCst) {
            return Ok(false);
        }
        if let Some(signal) = signals::take_shutdown_request() {
            log::warning(format_args!("Received {} scheduling shutdown...", signal.name()));
            shared.stop(0);
            return Ok(false);
        }
    }
}

/// Stops the server as the configuration says for this signal, by way of the
/// service core: it knows what has to be waited for.
fn shut_down(shared: &Shared, signal: ShutdownSignal) {
    let s = shared.config.settings();
    let wish = match signal {
        ShutdownSignal::Terminate => s.shutdown_on_sigterm,
        ShutdownSignal::Interrupt => s.shutdown_on_sigint,
    };
    let save = wish.save || (!wish.nosave && !s.persistence.save.is_empty());
    shared.saves.ask_shutdown(Order { save, force: wish.force, now: wish.now });
    shared.mesh.rouse(shared.service());
}

/// Waits until a signal or a command stops the server.
fn wait(shared: &Arc<Shared>, wake: RawFd) {
    while !shared.stopping.load(Ordering::SeqCst) {
        let mut p = libc::pollfd { fd: wake, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&mut p, 1, 100) };
        // What is not read would wake this thread again at once, for as long as
        // the end takes.
        let mut count = 0_u64;
        // SAFETY: the buffer is a live local of eight bytes; the descriptor does
        // not block.
        unsafe { libc::read(wake, (&raw mut count).cast(), size_of::<u64>()) };
        if let Some(signal) = signals::take_shutdown_request() {
            log::warning(format_args!("Received {} scheduling shutdown...", signal.name()));
            log::warning(format_args!("User requested shutdown..."));
            shut_down(shared, signal);
        }
    }
    shared.peak_memory.fetch_max(memory::used(), Ordering::Relaxed);
}
