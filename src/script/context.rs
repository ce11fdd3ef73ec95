//! What the natives of one Lua state share.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::time::Instant;

use super::api::ABORTED;
use super::host::{Abort, Host};
use super::library::Function;
use super::lua::{Memory, Stack};
use super::random::Rand48;
use crate::resp::reply::Proto;

/// Functions that a library registers while it is loaded, each with the place
/// where its callback is kept.
pub type Registered = Vec<(Function, std::ffi::c_int)>;

/// See the module's description. Stays at its address while the state is open.
pub struct Context {
    pub memory: Memory,
    /// The server, while a script runs.
    host: Cell<Option<NonNull<dyn Host>>>,
    /// The state's main thread; coroutines have others.
    pub main: Cell<Option<Stack>>,
    /// Why the running script must end.
    pub abort: Cell<Option<Abort>>,
    /// The protocol of replies to the script.
    pub proto: Cell<Proto>,
    pub random: Cell<Rand48>,
    /// Memory for replies to the script, and for numbers among its arguments.
    pub reply: RefCell<Vec<u8>>,
    /// A library is being loaded.
    pub loading: RefCell<Option<Registered>>,
    /// Until when it may go on.
    pub load_until: Cell<Option<Instant>>,
}

impl Context {
    pub fn new(memory_max: usize) -> Context {
        let memory = Memory::default();
        memory.limit.set(memory_max);
        memory.shield(true);
        Context {
            memory,
            host: Cell::new(None),
            main: Cell::new(None),
            abort: Cell::new(None),
            proto: Cell::new(Proto::Resp2),
            random: Cell::default(),
            reply: RefCell::default(),
            loading: RefCell::default(),
            load_until: Cell::new(None),
        }
    }

    /// Lends the server to the natives while `run` runs.
    pub fn with_host<R>(&self, host: &mut dyn Host, run: impl FnOnce() -> R) -> R {
        // SAFETY: only the lifetime changes; the pointer is gone again when
        // this function returns, and `host` is borrowed until then.
        let lent: NonNull<dyn Host> = unsafe { std::mem::transmute(NonNull::from(host)) };
        let outer = self.host.replace(Some(lent));
        let result = run();
        self.host.set(outer);
        result
    }

    /// The server; `None` while a library is loaded.
    pub fn host<R>(&self, use_it: impl FnOnce(&mut dyn Host) -> R) -> Option<R> {
        let mut host = self.host.get()?;
        // SAFETY: `with_host` holds the borrow; natives do not call each other
        // with the server in hand.
        Some(use_it(unsafe { host.as_mut() }))
    }

    /// The running script must end, and nothing it does can prevent that.
    pub fn stop(&self, s: Stack, why: Abort) {
        self.abort.set(Some(why));
        s.watch_closely(true);
        if let Some(main) = self.main.get() {
            main.watch_closely(true);
        }
    }

    /// The hook: must the running code end? The error is then on the stack.
    pub fn interrupted(&self, s: Stack) -> bool {
        if self.abort.get().is_none()
            && let Some(why) = self.host(|h| h.interrupt()).flatten()
        {
            self.stop(s, why);
        }
        if self.load_until.get().is_some_and(|until| Instant::now() > until) {
            self.stop(s, Abort::Killed);
        }
        let stop = self.abort.get().is_some();
        if stop && s.reserve(2) {
            s.push(ABORTED);
        }
        stop
    }
}
