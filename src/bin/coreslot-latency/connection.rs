//! One socket: unsent bytes, and the groups that await replies.
//!
//! Invariant: `awaiting` holds, oldest first, every group of requests appended
//! and not fully answered; replies come in that order.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::Failure;
use crate::reply::Scanner;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that were due together.
struct Group {
    due_ns: u64,
    left: usize,
}

pub struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// The socket took no more; an event will tell when it does again.
    blocked: bool,
    awaiting: VecDeque<Group>,
    pub scanner: Scanner,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Connection, Failure> {
        let failed = |error: io::Error| Failure::run(format!("cannot connect to {address}: {error}"));
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        Ok(Connection {
            stream,
            out: Vec::new(),
            written: 0,
            blocked: false,
            awaiting: VecDeque::new(),
            scanner: Scanner::default(),
        })
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Adds a group of `count` requests, written into the buffer by `append`.
    pub fn add_group(&mut self, due_ns: u64, count: usize, append: impl FnOnce(&mut Vec<u8>)) {
        self.awaiting.push_back(Group { due_ns, left: count });
        append(&mut self.out);
    }

    /// Writes what has been added, unless the socket is known to be full.
    pub fn flush(&mut self) -> Result<(), Failure> {
        if self.blocked { Ok(()) } else { self.write() }
    }

    /// The poller reported the socket: it may take bytes again.
    pub fn writable(&mut self) -> Result<(), Failure> {
        self.blocked = false;
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(closed()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.drop_written();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Keeps a long backlog from growing at its written end; moving the rest
    /// only when it is the smaller half keeps the cost linear.
    fn drop_written(&mut self) {
        if self.written > self.out.len() / 2 {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// Reads once; `None` when there is nothing to read, else the bytes read
    /// and the replies that they completed.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<(usize, usize)>, Failure> {
        match self.stream.read(buffer) {
            Ok(0) => Err(closed()),
            Ok(bytes) => match self.scanner.scan(&buffer[..bytes]) {
                Ok(replies) => Ok(Some((bytes, replies))),
                Err(_) => Err(Failure::run("the server's reply is not RESP")),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some((buffer.len(), 0))),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Takes `replies` off the oldest groups; `each` sees a due time and how
    /// many replies belong to it.
    pub fn answered(&mut self, mut replies: usize, mut each: impl FnMut(u64, usize)) -> Result<(), Failure> {
        while replies > 0 {
            let Some(group) = self.awaiting.front_mut() else {
                return Err(Failure::run("the server sent a reply too many"));
            };
            let taken = replies.min(group.left);
            each(group.due_ns, taken);
            group.left -= taken;
            replies -= taken;
            if group.left == 0 {
                self.awaiting.pop_front();
            }
        }
        Ok(())
    }

    /// Gives up what was never answered.
    pub fn abandon(&mut self, mut each: impl FnMut(u64, usize)) {
        for group in self.awaiting.drain(..) {
            each(group.due_ns, group.left);
        }
    }
}

fn closed() -> Failure {
    Failure::run("the server closed a connection")
}

fn lost(error: &io::Error) -> Failure {
    Failure::run(format!("connection lost: {error}"))
}
