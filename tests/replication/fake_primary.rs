//! A primary that says what a test tells it to, over a plain socket.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

pub const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// What it does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits until the replica has sent this.
    Hear(&'static str),
    Say(Vec<u8>),
    /// So many times the bytes: what would be long to write down.
    Flood(Vec<u8>, usize),
    /// Closes the connection; else it stays open until the replica closes it.
    Close,
}

impl Step {
    pub fn say(text: impl AsRef<[u8]>) -> Step {
        Step::Say(text.as_ref().to_vec())
    }
}

/// All before the answer to PSYNC, as a stock primary has it.
pub fn greeting() -> Vec<Step> {
    vec![
        Step::Hear("PING\r\n"),
        Step::say("+PONG\r\n"),
        Step::Hear("listening-port"),
        Step::Hear("psync2\r\n"),
        Step::say("+OK\r\n+OK\r\n"),
        Step::Hear("PSYNC"),
    ]
}

/// The same with a copy and a stream behind it.
pub fn synced(rdb: &[u8], offset: i64, stream: &[u8]) -> Vec<Step> {
    let header = format!("+FULLRESYNC {ID} {offset}\r\n${}\r\n", rdb.len());
    let mut steps = greeting();
    steps.extend([Step::say(header), Step::say(rdb), Step::say(stream)]);
    steps
}

/// One connection of the past: what the replica sent.
#[derive(Clone, Debug)]
pub struct Visit {
    pub heard: Vec<u8>,
}

impl Visit {
    pub fn heard(&self, text: &str) -> bool {
        memchr::memmem::find(&self.heard, text.as_bytes()).is_some()
    }
}

/// See the module's description.
pub struct FakePrimary {
    pub port: u16,
    script: Arc<Mutex<Vec<Step>>>,
    ended: mpsc::Receiver<Visit>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakePrimary {
    pub fn new() -> FakePrimary {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("non-blocking");
        let (script, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (tell, ended) = mpsc::channel();
        let (its_script, its_stop) = (script.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !its_stop.load(Ordering::Relaxed) {
                let Ok((socket, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                socket.set_nonblocking(false).expect("blocking");
                let steps = its_script.lock().expect("a lock").clone();
                let visit = serve(socket, steps, &its_stop);
                if tell.send(visit).is_err() {
                    return;
                }
            }
        });
        FakePrimary { port, script, ended, stop, thread: Some(thread) }
    }

    /// What it does with the connections that come from now on.
    pub fn play(&self, steps: Vec<Step>) {
        *self.script.lock().expect("a lock") = steps;
        while self.ended.try_recv().is_ok() {}
    }

    /// The next connection that has ended.
    pub fn visit(&self, limit: Duration) -> Option<Visit> {
        self.ended.recv_timeout(limit).ok()
    }
}

impl Drop for FakePrimary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// Plays the steps; returns when the connection has ended.
fn serve(mut socket: TcpStream, steps: Vec<Step>, stop: &AtomicBool) -> Visit {
    let mut visit = Visit { heard: Vec::new() };
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    socket.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut from = 0;
    for step in steps {
        match step {
            Step::Hear(text) => loop {
                if let Some(at) = memchr::memmem::find(&visit.heard[from..], text.as_bytes()) {
                    from += at + text.len();
                    break;
                }
                if !hear(&mut socket, &mut visit, stop) {
                    return visit;
                }
            },
            Step::Say(bytes) => {
                if socket.write_all(&bytes).is_err() {
                    break;
                }
            }
            Step::Flood(bytes, n) => {
                for _ in 0..n {
                    if socket.write_all(&bytes).is_err() {
                        break;
                    }
                }
            }
            Step::Close => {
                let _ = socket.shutdown(Shutdown::Both);
                return visit;
            }
        }
    }
    while hear(&mut socket, &mut visit, stop) {}
    visit
}

/// Takes what has come; false when the connection has ended.
fn hear(socket: &mut TcpStream, visit: &mut Visit, stop: &AtomicBool) -> bool {
    let mut buffer = [0; 4096];
    let began = Instant::now();
    match socket.read(&mut buffer) {
        Ok(0) => false,
        Ok(n) => {
            visit.heard.extend_from_slice(&buffer[..n]);
            true
        }
        Err(_) if stop.load(Ordering::Relaxed) => false,
        // A timeout; anything else ends at once.
        Err(_) => began.elapsed() > Duration::from_millis(5),
    }
}
