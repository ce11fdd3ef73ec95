//! Blocks of loopback ports, each used by one server at a time.
//!
//! Our server listens with SO_REUSEPORT, so two servers given the same port
//! would share its connections without either noticing. A block is therefore
//! claimed by a lock on a file, across test processes, and the kernel drops
//! the lock with the process.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const FIRST: u16 = 7300;
const LAST: u16 = 7999;
/// The main port, and room for one endpoint per core.
pub const BLOCK: u16 = 10;
const CLAIM_LIMIT: Duration = Duration::from_secs(120);

/// A claimed block; freed on drop.
pub struct Block {
    pub base: u16,
    _lock: File,
}

impl Block {
    /// Claims a block of which every port can be bound.
    pub fn claim() -> Block {
        let dir = std::env::temp_dir().join("coreslot-test-ports");
        std::fs::create_dir_all(&dir).expect("create the lock directory");
        let blocks = (LAST - FIRST + 1) / BLOCK;
        let start = (std::process::id() % u32::from(blocks)) as u16;
        let deadline = Instant::now() + CLAIM_LIMIT;
        loop {
            for step in 0..blocks {
                let base = FIRST + (start + step) % blocks * BLOCK;
                let file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(dir.join(base.to_string()))
                    .expect("open a lock file");
                if try_lock(&file) && (base..base + BLOCK).all(is_free) {
                    return Block { base, _lock: file };
                }
            }
            assert!(Instant::now() < deadline, "no free block of ports");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn try_lock(file: &File) -> bool {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and no pointer.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}
