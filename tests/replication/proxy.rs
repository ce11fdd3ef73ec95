//! A TCP proxy between a replica and its primary, whose connections can be cut,
//! frozen, or made to end after some bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct State {
    /// Both ends of every connection.
    open: Mutex<Vec<TcpStream>>,
    frozen: AtomicBool,
    /// How many connections there have been, and how many of these hang.
    served: AtomicUsize,
    hung: AtomicUsize,
    refuses: AtomicBool,
    /// Bytes from the primary until the next cut; negative for no cut.
    budget: AtomicI64,
    /// Instead of the cut everything stands still; it does.
    holds: AtomicBool,
    ended: AtomicBool,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let own = listener.local_addr().expect("an address").port();
        let state = Arc::new(State { budget: AtomicI64::new(-1), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                if shared.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                serve(&client, &server, &shared);
            }
        });
        Proxy { port: own, state }
    }

    /// Ends all connections.
    pub fn cut(&self) {
        if self.state.holds.swap(false, Ordering::SeqCst) {
            self.freeze(false);
        }
        for s in self.state.open.lock().expect("the list").drain(..) {
            let _ = s.shutdown(Shutdown::Both);
        }
    }

    /// Nothing gets through, and nobody is told.
    pub fn freeze(&self, frozen: bool) {
        self.state.frozen.store(frozen, Ordering::SeqCst);
    }

    /// The connections there are hang: nothing gets through, not even their end, and
    /// both sides' sockets stay open. Others can be made.
    pub fn hang(&self) {
        self.state.hung.store(self.state.served.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Everything stands still after so many bytes more from the primary, until
    /// [`Proxy::cut`].
    pub fn hold_after(&self, bytes: i64) {
        self.state.holds.store(true, Ordering::SeqCst);
        self.cut_after(bytes);
    }

    /// Does it stand still?
    pub fn is_held(&self) -> bool {
        self.state.frozen.load(Ordering::SeqCst)
    }

    /// Cuts everything after so many bytes more from the primary.
    pub fn cut_after(&self, bytes: i64) {
        self.state.budget.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    let copy = |s: &TcpStream| s.try_clone().expect("clone a socket");
    state.open.lock().expect("the list").extend([copy(client), copy(server)]);
    let number = state.served.fetch_add(1, Ordering::SeqCst);
    for (from, to, counts) in [(copy(client), copy(server), false), (copy(server), copy(client), true)] {
        let state = state.clone();
        std::thread::spawn(move || pass(from, to, (number, counts), &state));
    }
}

impl State {
    /// Must a connection stand still?
    fn stops(&self, number: usize) -> bool {
        let still = self.frozen.load(Ordering::SeqCst) || number < self.hung.load(Ordering::SeqCst);
        still && !self.ended.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, (number, counts): (usize, bool), state: &State) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = from.read(&mut buffer) {
        while state.stops(number) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut take = n;
        if counts {
            let left = state.budget.load(Ordering::SeqCst);
            if left >= 0 {
                take = n.min(left as usize);
                state.budget.store(left - take as i64, Ordering::SeqCst);
            }
        }
        if n == 0 || to.write_all(&buffer[..take]).is_err() {
            break;
        }
        if take < n {
            if state.holds.load(Ordering::SeqCst) {
                state.frozen.store(true, Ordering::SeqCst);
                while state.frozen.load(Ordering::SeqCst) && !state.ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            break;
        }
    }
    state.budget.store(-1, Ordering::SeqCst);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
