//! The service core: a glommio executor beside the data cores.
//!
//! It merges the cores' effects into one stream ([`pump`]) and feeds those who
//! read it ([`streams`]): the backlog with its replicas, and the append-only
//! file. It also keeps the shared clock in step with the host's and records
//! the memory peak. glommio stays behind this module, so that a successor can
//! take its place.
//!
//! The service core is a member of the mesh. Data cores send it
//! [`Msg::Service`]; it runs something on them with [`Service::call`] and asks
//! them with [`Service::ask`].

pub mod aof;
pub mod aof_file;
pub mod applier;
pub mod bell;
pub mod importing;
pub mod loading;
pub mod metrics;
pub mod metrics_page;
pub mod migrating;
pub mod pump;
pub mod reload;
pub mod rewrite;
pub mod shutdown;
pub mod snapshot;
pub mod snapshot_file;
pub mod streams;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{FromRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::timer::sleep;
use glommio::{CpuSet, LocalExecutorBuilder, Placement, PoolPlacement};
use hashbrown::HashMap;

use super::core::Core;
use super::msg::Msg;
use super::replication::Repl;
use super::shared::Shared;
use crate::base::os::os_reason;
use crate::base::{clock, memory};
use crate::reactor::mesh::Port;
use crate::reactor::wake;
use bell::Bell;
use streams::Streams;

/// Time between two looks at clock and memory.
const PERIOD: Duration = Duration::from_millis(100);

/// Threads for what blocks: files, names, connections to the primary. More than may
/// stand still for long (`replication::connect`), so that files never wait for a host.
const WORKERS: usize = 4;

/// Locked memory of the executor's rings; it does little I/O.
const IO_MEMORY: usize = 1 << 20;

/// What the service core owns. Only its own thread touches it; no borrow of
/// its cells is held across an await.
pub struct Service {
    pub shared: Arc<Shared>,
    port: RefCell<Port<Msg>>,
    /// Messages that wait for room in a core's queue.
    outbox: RefCell<Vec<VecDeque<Msg>>>,
    answers: RefCell<Answers>,
    /// Batches that are being applied: the last ticket, and whose they are.
    flights: RefCell<(u64, Flying)>,
    pub streams: RefCell<Streams>,
    /// The append-only file, while it is on.
    pub aof: RefCell<Option<aof::AofFiles>>,
    /// A task is turning the append-only file on or off.
    pub switching_aof: Cell<bool>,
    /// Replaced files are being deleted.
    pub collecting: Cell<bool>,
    /// Rung when the append-only file has been written to.
    pub written_aof: Bell,
    /// The snapshot under way.
    intake: RefCell<Option<Rc<snapshot::Intake>>>,
    pub repl: Repl,
    /// Connections of MIGRATE that are kept.
    targets: migrating::Targets,
    /// The end of the process, while it is being waited for.
    ending: shutdown::Ending,
    /// Rung when a core has woken the service core.
    pub woken: Bell,
    /// Rung when the stream has grown or the merge has come further in time.
    pub advanced: Bell,
}

type Flying = HashMap<u64, Rc<applier::Flights>, foldhash::fast::RandomState>;

#[derive(Default)]
struct Answers {
    next: u64,
    came: HashMap<u64, Box<dyn Any>, foldhash::fast::RandomState>,
}

/// The service core's thread, and the outcome of loading the dataset: if that
/// fails, the process ends with this as its last word.
pub struct Started {
    pub thread: JoinHandle<()>,
    pub loaded: Receiver<Result<(), String>>,
}

/// Starts the service core, pinned to `cpu` if one is given. It ends when the
/// process is told to stop. `metrics` is a listening socket for them.
pub fn start(shared: Arc<Shared>, cpu: Option<usize>, metrics: Option<RawFd>) -> Result<Started, String> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (tell_loaded, loaded) = std::sync::mpsc::channel();
    let thread =
        std::thread::Builder::new().name("service".into()).spawn(move || run(shared, cpu, metrics, ready, tell_loaded));
    let thread = thread.map_err(|e| format!("Can't start the service core: {}", os_reason(&e)))?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(Started { thread, loaded }),
        Ok(Err(e)) => Err(format!("Can't start the service core: {e}")),
        Err(_) => Err("Can't start the service core".into()),
    }
}

fn run(
    shared: Arc<Shared>,
    cpu: Option<usize>,
    metrics: Option<RawFd>,
    ready: Sender<Result<(), String>>,
    loaded: Sender<Result<(), String>>,
) {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let workers = match cpu {
        None => PoolPlacement::Unbound(WORKERS),
        // Where the CPUs cannot be told, as many as there are elsewhere, on any.
        Some(cpu) => CpuSet::online().map_or(PoolPlacement::Unbound(WORKERS), |all| {
            PoolPlacement::Fenced(WORKERS, all.filter(|x| x.cpu == cpu))
        }),
    };
    let builder = LocalExecutorBuilder::new(placement).blocking_thread_pool_placement(workers);
    let executor = match builder.io_memory(IO_MEMORY).make() {
        Ok(e) => e,
        Err(e) => {
            let _ = ready.send(Err(os_reason(&e)));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    executor.run(async move {
        let service = Rc::new(Service::new(shared));
        glommio::spawn_local(service.clone().hear()).detach();
        glommio::spawn_local(service.clone().look_after()).detach();
        glommio::spawn_local(service.clone().write_aof()).detach();
        if let Some(fd) = metrics {
            glommio::spawn_local(service.clone().serve_metrics(fd)).detach();
        }
        let loading = service.clone();
        glommio::spawn_local(async move {
            while !loading.shared.measured.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
            // Nobody listens when the start has been given up.
            let outcome = loading.load_dataset().await;
            if outcome.is_ok() {
                loading.start_replication();
            }
            let _ = loaded.send(outcome);
        })
        .detach();
        service.clone().pump().await;
        service.close_aof().await;
    });
}

impl Service {
    fn new(shared: Arc<Shared>) -> Service {
        let cores = shared.cores;
        Service {
            port: RefCell::new(Port::new(shared.mesh.clone(), shared.service())),
            outbox: RefCell::new((0..cores).map(|_| VecDeque::new()).collect()),
            answers: RefCell::default(),
            flights: RefCell::default(),
            aof: RefCell::default(),
            switching_aof: Cell::new(false),
            collecting: Cell::new(false),
            written_aof: Bell::default(),
            streams: RefCell::new(Streams::new(cores)),
            intake: RefCell::default(),
            repl: Repl::new(shared.config.settings()),
            targets: migrating::Targets::default(),
            ending: shutdown::Ending::default(),
            woken: Bell::default(),
            advanced: Bell::default(),
            shared,
        }
    }

    /// Listens to the socket by which others wake this core.
    async fn hear(self: Rc<Self>) {
        let fd = self.port.borrow().wake(self.shared.service()).sleeper;
        // SAFETY: duplicates a descriptor that stays open for the process's
        // life; the file owns the duplicate.
        let file = unsafe { glommio::io::BufferedFile::from_raw_fd(libc::dup(fd)) };
        while let Ok(read) = file.read_at(0, wake::READ_BYTES).await {
            if read.is_empty() {
                break;
            }
            self.woken.ring();
        }
    }

    /// Work that comes round.
    async fn look_after(self: Rc<Self>) {
        loop {
            clock::resync();
            self.shared.peak_memory.fetch_max(memory::used(), Ordering::Relaxed);
            if !self.shared.cron_paused.load(Ordering::SeqCst)
                && let Some(order) = self.shared.saves.take_shutdown()
            {
                self.shut_down(order, None);
            }
            self.repl.take_sample();
            self.shared.told.set_replication(self.described());
            self.consider_rewrite();
            sleep(PERIOD).await;
        }
    }

    /// The configuration has changed.
    pub fn settings_changed(self: &Rc<Self>) {
        let s = self.shared.config.settings();
        self.take_aof_policy(&s);
        self.follow_settings();
        self.publish_role();
        if self.shared.persistence.loading.load(Ordering::SeqCst) {
            return;
        }
        self.collect_history();
        let (want, is_on) = (s.persistence.appendonly, self.aof.borrow().is_some());
        if self.switching_aof.get() {
            // The snapshot for its base may be under way in vain.
            if !want && self.shared.persistence.aof.rewriting.load(Ordering::SeqCst) {
                self.abort_snapshot();
            }
        } else if want != is_on {
            self.switching_aof.set(true);
            glommio::spawn_local(self.clone().switch_aof()).detach();
        }
    }

    /// Runs something on a data core, in one of its next turns. What is called
    /// on one core runs in the order of the calls.
    pub fn call(&self, core: usize, f: impl FnOnce(&mut Core) + Send + 'static) {
        self.send(core, Msg::Call(Box::new(f)));
    }

    /// Sends a data core a message.
    pub fn send(&self, core: usize, msg: Msg) {
        self.outbox.borrow_mut()[core].push_back(msg);
        self.send_mail();
    }

    /// Messages that have not found room in a core's queue yet.
    pub fn unsent(&self, core: usize) -> usize {
        self.outbox.borrow()[core].len()
    }

    fn send_mail(&self) -> bool {
        let (port, mut outbox) = (self.port.borrow(), self.outbox.borrow_mut());
        let mut sent = false;
        let now = clock::mono_ns();
        for (core, queue) in outbox.iter_mut().enumerate() {
            let before = queue.len();
            while let Some(m) = queue.pop_front() {
                if let Err(m) = port.send(core, now, m) {
                    queue.push_front(m);
                    break;
                }
            }
            if queue.len() < before {
                sent = true;
                if port.must_wake(core) {
                    self.shared.mesh.rouse(core);
                }
            }
        }
        sent
    }

    /// Handles what the data cores said. Whether they said anything.
    fn take_mail(self: &Rc<Self>) -> bool {
        let mut any = false;
        for core in 0..self.shared.cores {
            loop {
                let m = self.port.borrow().receive(core);
                let Some(m) = m else { break };
                any = true;
                match m.message {
                    Msg::Service(f) => f(self),
                    _ => debug_assert!(false, "a message for a data core"),
                }
            }
        }
        any
    }

    /// Runs something on a data core and waits for its answer.
    pub async fn ask<T: Send + 'static>(
        self: &Rc<Self>,
        core: usize,
        f: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> T {
        let id = self.ask_later(core, f);
        self.answer(id).await
    }

    /// [`Service::ask`] for what a core cannot answer at once: it gets an
    /// [`Answer`] to give when it can.
    pub async fn ask_slowly<T: Send + 'static>(
        self: &Rc<Self>,
        core: usize,
        f: impl FnOnce(&mut Core, Answer) + Send + 'static,
    ) -> T {
        let id = self.next_answer();
        self.call(core, move |c| f(c, Answer(id)));
        self.answer(id).await
    }

    fn next_answer(&self) -> u64 {
        let mut answers = self.answers.borrow_mut();
        answers.next += 1;
        answers.next
    }

    /// Runs something on every data core and waits for all answers, in the
    /// order of the cores.
    pub async fn ask_all<T: Send + 'static>(
        self: &Rc<Self>,
        f: impl Fn(&mut Core) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let f = Arc::new(f);
        let mut ids = Vec::new();
        for core in 0..self.shared.cores {
            let f = f.clone();
            ids.push(self.ask_later(core, move |c| f(c)));
        }
        let mut all = Vec::new();
        for id in ids {
            all.push(self.answer(id).await);
        }
        all
    }

    /// The question of [`Service::ask`], in the order of the calls.
    pub fn ask_later<T: Send + 'static>(&self, core: usize, f: impl FnOnce(&mut Core) -> T + Send + 'static) -> u64 {
        let id = self.next_answer();
        self.call(core, move |c| {
            let answer = f(c);
            Answer(id).give(c, answer);
        });
        id
    }

    pub async fn answer<T: 'static>(&self, id: u64) -> T {
        loop {
            let came = self.answers.borrow_mut().came.remove(&id);
            match came.map(|a| a.downcast::<T>()) {
                Some(Ok(answer)) => return *answer,
                Some(Err(_)) => unreachable!("an answer has the type of its question"),
                None => self.woken.wait().await,
            }
        }
    }
}

/// An answer that the service core waits for.
pub struct Answer(u64);

impl Answer {
    pub fn give<T: Send + 'static>(self, core: &mut Core, answer: T) {
        core.tell_service(move |s| {
            s.answers.borrow_mut().came.insert(self.0, Box::new(answer));
            s.woken.ring();
        });
    }
}

impl Core {
    /// Runs something on the service core.
    pub fn tell_service(&mut self, f: impl FnOnce(&Rc<Service>) + Send + 'static) {
        let service = self.shared.service();
        self.send(service, Msg::Service(Box::new(f)));
    }
}
