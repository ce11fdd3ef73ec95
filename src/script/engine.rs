//! One core's Lua: a state for scripts and one for functions, made when they
//! are first needed, and what is compiled in them.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::api;
use super::cache::{Script, Scripts, Sha, sha_of};
use super::context::{Context, Registered};
use super::convert::{Written, error_of, write_value};
use super::host::{Abort, Host};
use super::library::{Function, Libraries, Library};
use super::lua::{Stack, Status};
use super::sandbox;
use super::source;
use crate::resp::Reply;
use crate::resp::reply::Proto;

/// Scripts that one core keeps compiled at most; then it begins anew.
const COMPILED_MAX: usize = 10_000;

/// Time that a library's code may take while it is loaded. As in Redis.
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The reply is written.
    Done,
    /// The error, its code included; whether it was counted where it happened.
    Failed {
        text: Vec<u8>,
        counted: bool,
    },
    Aborted(Abort),
}

/// What is handed to a script.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    pub keys: &'a [&'a [u8]],
    pub args: &'a [&'a [u8]],
}

/// A Lua state.
struct Vm {
    s: Stack,
    cx: *mut Context,
    /// The table of globals, behind the frozen one; and the frozen one's
    /// metatable.
    globals: c_int,
    shown: c_int,
    handler: c_int,
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: the state is used only through this value, and the context
        // was made by `Vm::new` and is freed only here, after its state.
        unsafe {
            self.s.close();
            drop(Box::from_raw(self.cx));
        }
    }
}

impl Vm {
    fn new(memory_max: usize, functions: bool) -> Option<Vm> {
        let cx = Box::into_raw(Box::new(Context::new(memory_max)));
        let Some(s) = Stack::open(cx) else {
            // SAFETY: made above; no state refers to it.
            drop(unsafe { Box::from_raw(cx) });
            return None;
        };
        // SAFETY: the context lives until the state is closed.
        let context = unsafe { &*cx };
        context.main.set(Some(s));
        let (globals, shown) = sandbox::furnish(s, context, functions);
        s.native(context, api::on_error);
        let handler = s.keep();
        Some(Vm { s, cx, globals, shown, handler })
    }

    fn cx<'a>(&self) -> &'a Context {
        // SAFETY: lives as long as the state; nobody has it mutably.
        unsafe { &*self.cx }
    }

    fn memory(&self) -> usize {
        self.cx().memory.used.get() + size_of::<Context>()
    }

    /// Compiles code and keeps the function.
    fn compile(&self, code: &[u8], name: &std::ffi::CStr) -> Result<c_int, Vec<u8>> {
        // What begins so would be taken for bytecode.
        if code.first() == mlua_sys::LUA_SIGNATURE.first() {
            return Err(b"attempt to load bytecode".to_vec());
        }
        match self.s.compile(self.cx(), code, name) {
            Status::Ok => Ok(self.s.keep()),
            Status::Failed => {
                let text = self.s.text(-1).unwrap_or(b"not enough memory").to_vec();
                self.s.set_top(0);
                Err(text)
            }
        }
    }

    fn push_list(&self, list: &[&[u8]]) {
        self.s.push_table(list.len(), 0);
        for (i, item) in list.iter().enumerate() {
            self.s.push(item);
            self.s.set_index(-2, i + 1);
        }
    }

    /// Runs a kept function, with its arguments as globals or as parameters.
    fn run(
        &mut self,
        function: c_int,
        given: Arguments,
        as_globals: bool,
        name: &[u8],
        host: &mut dyn Host,
        reply: &mut Reply,
    ) -> Ended {
        let (s, cx) = (self.s, self.cx());
        s.push_kept(self.handler);
        if as_globals {
            s.push_kept(self.globals);
            self.push_list(given.keys);
            s.set_field(-2, b"KEYS");
            self.push_list(given.args);
            s.set_field(-2, b"ARGV");
            s.pop(1);
        }
        s.push_kept(function);
        if !as_globals {
            self.push_list(given.keys);
            self.push_list(given.args);
        }
        cx.proto.set(Proto::Resp2);
        let parameters = if as_globals { 0 } else { 2 };
        let status = cx.with_host(host, || s.call(cx, parameters, 1, 1));
        let ended = self.end(status, name, reply);
        s.set_top(0);
        ended
    }

    fn end(&self, status: Status, name: &[u8], reply: &mut Reply) -> Ended {
        let (s, cx) = (self.s, self.cx());
        let abort = cx.abort.take();
        if abort.is_some() {
            s.watch_closely(false);
        }
        match (abort, status) {
            (Some(Abort::Killed), Status::Ok) => failed_with(coded_abort(), name),
            (Some(Abort::Killed), Status::Failed) | (None, Status::Failed) => {
                let error = error_of(s);
                if error.text.ends_with(b"not enough memory") {
                    s.set_top(0);
                    s.collect();
                }
                let mut text = error.text;
                if let (Some(source), Some(line)) = (error.source, error.line) {
                    text = [&text[..], b" script: ", name, b", on ", &source, b":", &line, b"."].concat();
                }
                Ended::Failed { text, counted: error.counted }
            }
            (Some(other), _) => Ended::Aborted(other),
            (None, Status::Ok) => match write_value(s, cx.proto.get(), reply) {
                Written::Value => Ended::Done,
                Written::Error(e) => Ended::Failed { text: e.text, counted: e.counted },
            },
        }
    }

    /// Runs a library's code; what it registers.
    fn load(&mut self, code: &[u8]) -> Result<Registered, String> {
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let function =
            self.compile(code, c"@user_function").map_err(|why| format!("Error compiling function: {}", text(&why)))?;
        let (s, cx) = (self.s, self.cx());
        // Only what libraries may use while they are loaded is to be seen.
        s.push_kept(self.shown);
        s.push_table(0, 1);
        let visible = s.top();
        api::open_for_loading(s, cx);
        s.native(cx, sandbox::missing);
        sandbox::set_index_metatable(s, visible + 1);
        sandbox::freeze(s, cx);
        s.copy(-1);
        s.set_field(visible, b"redis");
        s.set_field(visible, b"server");
        s.native(cx, sandbox::missing);
        sandbox::set_index_metatable(s, visible);
        s.set_field(1, b"__index");
        *cx.loading.borrow_mut() = Some(Registered::new());
        s.push_kept(self.handler);
        s.push_kept(function);
        cx.load_until.set(Some(Instant::now() + LOAD_TIME_MAX));
        let status = s.call(cx, 0, 0, 2);
        cx.load_until.set(None);
        let timed_out = cx.abort.take().is_some();
        let registered = cx.loading.borrow_mut().take().unwrap_or_default();
        let mut failure = (status == Status::Failed).then(|| text(&error_of(s).text));
        if timed_out {
            s.watch_closely(false);
            failure = Some("ERR FUNCTION LOAD timeout".into());
        }
        s.set_top(1);
        s.push_kept(self.globals);
        s.set_field(1, b"__index");
        s.set_top(0);
        s.forget(function);
        if let Some(why) = failure {
            self.forget(&registered);
            return Err(format!("Error registering functions: {why}"));
        }
        if registered.is_empty() {
            return Err("No functions registered".into());
        }
        Ok(registered)
    }

    fn forget(&self, registered: &Registered) {
        registered.iter().for_each(|(_, kept)| self.s.forget(*kept));
    }
}

fn coded_abort() -> Vec<u8> {
    api::coded(api::ABORTED)
}

fn failed_with(text: Vec<u8>, name: &[u8]) -> Ended {
    Ended::Failed { text: [&text[..], b" script: ", name].concat(), counted: false }
}

/// A script compiled here.
pub struct Compiled {
    pub script: Arc<Script>,
    function: c_int,
}

/// A function loaded here.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    function: c_int,
    pub flags: u32,
    /// Place of its name, in the case in which it was registered.
    name: usize,
}

/// See the module's description.
#[derive(Default)]
pub struct Engine {
    memory_max: usize,
    scripts: Option<Vm>,
    functions: Option<Vm>,
    epoch: u64,
    compiled: Vec<Compiled>,
    by_sha: HashMap<Sha, usize, foldhash::fast::RandomState>,
    by_body: HashMap<Vec<u8>, usize, foldhash::fast::RandomState>,
    /// Version of the libraries that are loaded.
    version: u64,
    libraries: HashMap<Vec<u8>, (Arc<Library>, Registered), foldhash::fast::RandomState>,
    by_name: HashMap<Vec<u8>, Loaded, foldhash::fast::RandomState>,
    names: Vec<Vec<u8>>,
}

const NO_MEMORY: &str = "ERR not enough memory for a Lua state";

impl Engine {
    /// `memory_max` bytes are the most that each of its states may use.
    pub fn new(memory_max: usize) -> Engine {
        Engine { memory_max, ..Engine::default() }
    }

    fn forget_scripts(&mut self) {
        self.compiled.clear();
        self.by_sha.clear();
        self.by_body.clear();
        self.scripts = None;
    }

    /// Gives back what belongs to scripts and libraries that are gone, without
    /// waiting for the next one to run.
    pub fn tidy_up(&mut self, scripts: &Scripts, libraries: &Libraries) {
        self.keep_up(scripts);
        if libraries.version() != self.version && libraries.count().0 == 0 {
            self.load_changed(libraries);
        }
    }

    /// Forgets what has been flushed.
    #[inline]
    fn keep_up(&mut self, shared: &Scripts) {
        let epoch = shared.epoch();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.forget_scripts();
        }
    }

    /// The script with this text, compiled; the error, with its code.
    #[inline]
    pub fn by_body(&mut self, shared: &Scripts, body: &[u8]) -> Result<usize, Vec<u8>> {
        self.keep_up(shared);
        match self.by_body.get(body) {
            Some(at) => Ok(*at),
            None => self.add(shared, body),
        }
    }

    #[cold]
    fn add(&mut self, shared: &Scripts, body: &[u8]) -> Result<usize, Vec<u8>> {
        let (flags, _) = source::script(body).map_err(|why| format!("ERR {why}").into_bytes())?;
        let script = Arc::new(Script { sha: sha_of(body), body: body.to_vec(), flags });
        let at = self.compile(script.clone())?;
        self.compiled[at].script = shared.add(script);
        Ok(at)
    }

    /// The known script of this name, compiled.
    pub fn by_sha(&mut self, shared: &Scripts, sha: &Sha) -> Option<Result<usize, Vec<u8>>> {
        self.keep_up(shared);
        if let Some(at) = self.by_sha.get(sha) {
            return Some(Ok(*at));
        }
        Some(self.compile(shared.get(sha)?))
    }

    fn compile(&mut self, script: Arc<Script>) -> Result<usize, Vec<u8>> {
        if self.compiled.len() >= COMPILED_MAX {
            self.forget_scripts();
        }
        let code = source::script(&script.body).map_or(&script.body[..], |(_, code)| code);
        let vm = Engine::state(&mut self.scripts, self.memory_max, false)?;
        let function = vm
            .compile(code, c"@user_script")
            .map_err(|why| [b"ERR Error compiling script (new function): ", &why[..]].concat())?;
        let at = self.compiled.len();
        self.by_sha.insert(script.sha, at);
        self.by_body.insert(script.body.clone(), at);
        self.compiled.push(Compiled { script, function });
        Ok(at)
    }

    fn state(place: &mut Option<Vm>, memory_max: usize, functions: bool) -> Result<&mut Vm, Vec<u8>> {
        if place.is_none() {
            *place = Vm::new(memory_max, functions);
        }
        place.as_mut().ok_or_else(|| NO_MEMORY.as_bytes().to_vec())
    }

    pub fn script(&self, at: usize) -> &Arc<Script> {
        &self.compiled[at].script
    }

    /// Runs a compiled script.
    pub fn eval(&mut self, at: usize, given: Arguments, host: &mut dyn Host, reply: &mut Reply) -> Ended {
        let Compiled { script, function } = &self.compiled[at];
        let Some(vm) = &mut self.scripts else { return failed_with(NO_MEMORY.into(), &script.sha) };
        vm.run(*function, given, true, &script.sha, host, reply)
    }

    /// The function of this name, if any library has it.
    #[inline]
    pub fn function(&mut self, shared: &Libraries, name: &[u8]) -> Option<Loaded> {
        if shared.version() != self.version {
            self.load_changed(shared);
        }
        let found = self.by_name.get(name).copied();
        found.or_else(|| self.by_name.get(&name.to_ascii_lowercase()[..]).copied())
    }

    /// A function's name as it was registered.
    pub fn name_of(&self, f: Loaded) -> &[u8] {
        self.names.get(f.name).map_or(&[], |name| name)
    }

    /// Runs a function.
    pub fn fcall(&mut self, f: Loaded, name: &[u8], given: Arguments, host: &mut dyn Host, reply: &mut Reply) -> Ended {
        let Some(vm) = &mut self.functions else { return failed_with(NO_MEMORY.into(), name) };
        vm.run(f.function, given, false, name, host, reply)
    }

    #[cold]
    fn load_changed(&mut self, shared: &Libraries) {
        self.version = shared.version();
        let all = shared.all();
        let gone = |name: &Vec<u8>, l: &Arc<Library>| !all.iter().any(|a| a.name == *name && Arc::ptr_eq(a, l));
        let names: Vec<Vec<u8>> =
            self.libraries.iter().filter(|(n, (l, _))| gone(n, l)).map(|(n, _)| n.clone()).collect();
        for name in names {
            if let (Some((_, registered)), Some(vm)) = (self.libraries.remove(&name), &self.functions) {
                vm.forget(&registered);
            }
        }
        for library in all {
            if !self.libraries.contains_key(&library.name)
                && let Ok(registered) = self.run_library(&library.code)
            {
                self.libraries.insert(library.name.clone(), (library, registered));
            }
        }
        self.index_functions();
    }

    fn index_functions(&mut self) {
        let all = || self.libraries.values().flat_map(|(_, registered)| registered).enumerate();
        self.names = all().map(|(_, (f, _))| f.name.clone()).collect();
        let loaded = |name, kept: &c_int, flags| Loaded { function: *kept, flags, name };
        self.by_name = all().map(|(i, (f, kept))| (f.name.to_ascii_lowercase(), loaded(i, kept, f.flags))).collect();
        if self.libraries.is_empty() {
            self.functions = None;
        }
    }

    fn run_library(&mut self, code: &[u8]) -> Result<Registered, String> {
        let header = source::library(code)?;
        let vm = Engine::state(&mut self.functions, self.memory_max, true)
            .map_err(|why| String::from_utf8_lossy(&why).into_owned())?;
        vm.load(header.code)
    }

    /// Loads a library to see what it offers; it is not kept.
    pub fn try_library(&mut self, code: &[u8]) -> Result<Library, String> {
        let name = source::library(code)?.name;
        let registered = self.run_library(code)?;
        if let Some(vm) = &self.functions {
            vm.forget(&registered);
        }
        let functions: Vec<Function> = registered.into_iter().map(|(f, _)| f).collect();
        Ok(Library { name, code: code.to_vec(), functions })
    }

    /// Bytes of the state for scripts and of the state for functions.
    pub fn memory(&self) -> (usize, usize) {
        let of = |vm: &Option<Vm>| vm.as_ref().map_or(0, Vm::memory);
        (of(&self.scripts), of(&self.functions))
    }
}
