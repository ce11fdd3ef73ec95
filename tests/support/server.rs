//! Servers under test: spawned on ports of their own, watched, killed on drop.

use super::ports::Block;
use super::process;
use super::value::simple;
use super::wire::Wire;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOCK: &str = "/usr/bin/redis-server";
/// Directives that only Coreslot has; each takes one value.
const OUR_FLAGS: [&str; 4] = ["--cores", "--core-endpoints", "--core-port-base", "--pipeline-order"];

/// Whether the binary under test is a stock server.
pub fn plain() -> bool {
    std::env::var_os("CORESLOT_PLAIN").is_some_and(|value| value != "0")
}

/// The binary under test.
pub fn binary() -> PathBuf {
    match std::env::var_os("CORESLOT_SERVER") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_coreslot-server").into(),
    }
}

/// Runs a test body against a fresh server with 1 and one with 4 data cores
/// (once only against a stock server).
pub fn each_cores(body: impl Fn(&Server)) {
    for cores in if plain() { vec![1] } else { vec![1, 4] } {
        with_cores(cores, &body);
    }
}

/// Runs a test body against a fresh server with this many data cores.
pub fn with_cores(cores: usize, body: impl FnOnce(&Server)) {
    let server = Server::start(&["--cores", &cores.to_string()]);
    body(&server);
}

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
    dir: PathBuf,
    block: Option<Block>,
    may_crash: bool,
}

impl Server {
    /// From now on a crash is no failure of the test.
    pub fn may_crash(&mut self) {
        self.may_crash = true;
    }

    /// Starts the server under test with these arguments.
    #[track_caller]
    pub fn start(args: &[&str]) -> Server {
        Server::start_ready(&binary(), &our_args(args))
    }

    /// Starts Debian's redis-server.
    #[track_caller]
    pub fn stock(args: &[&str]) -> Server {
        Server::start_ready(Path::new(STOCK), &args.iter().map(|a| a.to_string()).collect::<Vec<_>>())
    }

    /// Starts another server of the family.
    #[track_caller]
    pub fn other(program: &Path, args: &[&str]) -> Server {
        Server::start_ready(program, &args.iter().map(|a| a.to_string()).collect::<Vec<_>>())
    }

    /// Starts the server under test with a wrapper such as `prlimit --nofile=64`.
    #[track_caller]
    pub fn start_under(wrapper: &[&str], args: &[&str]) -> Server {
        let mut all: Vec<String> = wrapper[1..].iter().map(|a| a.to_string()).collect();
        all.push(binary().to_string_lossy().into_owned());
        Server::start_wrapped(Path::new(wrapper[0]), &all, &our_args(args))
    }

    /// The same with Debian's redis-server.
    #[track_caller]
    pub fn stock_under(wrapper: &[&str], args: &[&str]) -> Server {
        let mut all: Vec<String> = wrapper[1..].iter().map(|a| a.to_string()).collect();
        all.push(STOCK.to_owned());
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        Server::start_wrapped(Path::new(wrapper[0]), &all, &args)
    }

    /// Starts the server under test with arguments that depend on its port.
    #[track_caller]
    pub fn start_with(args: impl FnOnce(u16) -> Vec<String>) -> Server {
        let block = Block::claim();
        let port = block.base;
        let args = args(port);
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut server = Server::spawn(&binary(), &[], &our_args(&words), port, Some(block));
        server.wait_until_ready();
        server
    }

    /// Starts the server under test where another was, whose ports stay claimed.
    #[track_caller]
    pub fn start_in_place_of(old: &Server, args: &[&str]) -> Server {
        let mut server = Server::spawn(&binary(), &[], &our_args(args), old.port, None);
        server.wait_until_ready();
        server
    }

    /// Starts the server under test with a configuration file before the other
    /// arguments.
    #[track_caller]
    pub fn start_with_file(path: &str, args: &[&str]) -> Server {
        Server::start_wrapped(&binary(), &[], &[vec![path.to_owned()], our_args(args)].concat())
    }

    /// Starts the server under test without waiting until it is ready.
    #[track_caller]
    pub fn starting(args: &[&str]) -> Server {
        let block = Block::claim();
        let port = block.base;
        Server::spawn(&binary(), &[], &our_args(args), port, Some(block))
    }

    /// The same with Debian's redis-server.
    #[track_caller]
    pub fn stock_starting(args: &[&str]) -> Server {
        let block = Block::claim();
        let port = block.base;
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        Server::spawn(Path::new(STOCK), &[], &args, port, Some(block))
    }

    #[track_caller]
    fn start_ready(program: &Path, args: &[String]) -> Server {
        Server::start_wrapped(program, &[], args)
    }

    #[track_caller]
    fn start_wrapped(program: &Path, before: &[String], args: &[String]) -> Server {
        let block = Block::claim();
        let port = block.base;
        let mut server = Server::spawn(program, before, args, port, Some(block));
        server.wait_until_ready();
        server
    }

    fn spawn(program: &Path, before: &[String], args: &[String], port: u16, block: Option<Block>) -> Server {
        let dir = fresh_dir();
        let log = File::create(dir.join("log")).expect("create the log file");
        let (file, args) = match args {
            [first, rest @ ..] if !first.starts_with("--") => (Some(first), rest),
            all => (None, all),
        };
        let mut command = Command::new(program);
        command
            .args(before)
            .args(file)
            .args(["--port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes", "--dir"])
            .arg(&dir)
            .args(args)
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("clone the log file"))
            .stdout(log)
            .current_dir(&dir);
        // SAFETY: prctl is async-signal-safe and gets only numbers.
        unsafe {
            command.pre_exec(|| {
                // The server ends with the test thread that started it, so a
                // killed test run leaves nothing behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("spawn {}: {e}", program.display()));
        Server { child, port, dir, block, may_crash: false }
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        while !self.log().contains("Ready to accept") {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("the server ended at start ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "not ready after {START_LIMIT:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut wire = self.wire();
        wire.send("PING\r\n");
        let reply = wire.read();
        assert!(reply == simple("PONG") || reply.is_error(), "an odd answer to PING: {reply:?}");
    }

    /// A new RESP2 connection.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::connect(self.port)
    }

    /// A new RESP3 connection.
    #[track_caller]
    pub fn wire3(&self) -> Wire {
        Wire::connect_resp3(self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The working directory, removed at the end.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Everything that the server has written to stdout and stderr.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn signal(&self, number: i32) {
        process::signal(self.pid(), number);
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the server is ready, or has ended: then with its status.
    #[track_caller]
    pub fn outcome(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.child.try_wait().expect("wait");
            if ended.is_some() || self.log().contains("Ready to accept") {
                return ended;
            }
            assert!(Instant::now() < deadline, "neither ready nor ended after {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn crash_line(&self) -> Option<String> {
        const SIGNS: [&str; 4] = ["panicked at", "BUG REPORT START", "memory allocation of", "crashed by signal"];
        self.log().lines().find(|line| SIGNS.iter().any(|sign| line.contains(sign))).map(str::to_owned)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let crash = self.crash_line();
        let log = self.log();
        let _ = fs::remove_dir_all(&self.dir);
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            eprintln!("server ended early: {ended:?}; end of its log:\n{}", tail.join("\n"));
        } else if let Some(line) = crash.filter(|_| !self.may_crash) {
            panic!("the server crashed: {line}");
        } else if let Some(line) = log.lines().find(|line| line.contains("(os error ")) {
            // Redis tells errors in words; `base::os` does so here.
            panic!("the number of an error in the log: {line}");
        }
        self.block = None;
    }
}

/// Runs the server under test expecting it to end by itself: (exit code, output).
pub fn run_to_end(args: &[&str], port: u16) -> (Option<i32>, String) {
    let mut server = Server::spawn(&binary(), &[], &our_args(args), port, None);
    let status = server.wait_exit(START_LIMIT);
    (status.code(), server.log())
}

/// The same with a configuration file.
pub fn run_file_to_end(path: &str, port: u16) -> (Option<i32>, String) {
    run_to_end(&[path], port)
}

fn our_args(args: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if plain() && OUR_FLAGS.contains(arg) {
            rest.next();
        } else {
            kept.push(arg.to_string());
        }
    }
    kept
}

fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("coreslot-test-{}-{n}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("create a working directory");
    dir
}
