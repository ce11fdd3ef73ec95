//! A file system in memory whose `fsync` can be made to fail, by FUSE: no other
//! way reaches a server that flushes through io_uring. It also shows what a loss
//! of power would leave ([`on_disk`]), and kills the server before any step of its
//! ([`crash_before`]).
//!
//! [`serve`] is no test but a process of its own, which [`start`] puts between
//! the test and the server: in a mount namespace of its own it mounts the file
//! system, starts the server and answers the kernel. The protocol is that of
//! `linux/fuse.h`, of which there is as much as the server needs.

use super::support::Server;
use super::support::process::own_mounts;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where the file system is to be mounted.
const MOUNT: &str = "FLAKY_MOUNT";
/// The server's command, a word per line.
const COMMAND: &str = "FLAKY_COMMAND";

/// Each failure to come is a byte in the file beside the mount point.
fn failures(mount: &Path) -> PathBuf {
    mount.with_extension("failures")
}

/// How often `fsync` is still to fail.
pub fn failures_left(mount: &Path) -> usize {
    std::fs::metadata(failures(mount)).map_or(0, |m| m.len() as usize)
}

pub fn fail_next(mount: &Path, times: usize) {
    std::fs::write(failures(mount), vec![b'x'; times]).expect("order failures");
}

fn slowness(mount: &Path) -> PathBuf {
    mount.with_extension("slow")
}

/// From now on an `fsync` takes this long; what comes after it waits.
pub fn slow_down(mount: &Path, time: Duration) {
    std::fs::write(slowness(mount), time.as_millis().to_string()).expect("order slowness");
}

/// What a successful `fsync` leaves lies there, a file for each.
fn disk(mount: &Path) -> PathBuf {
    mount.with_extension("disk")
}

/// Do these bytes stand in a file as it was at its last successful `fsync`?
pub fn on_disk(mount: &Path, bytes: &[u8]) -> bool {
    let files = std::fs::read_dir(disk(mount)).expect("the disk");
    let mut contents = files.map(|f| std::fs::read(f.expect("an entry").path()).expect("a file"));
    contents.any(|c| c.windows(bytes.len()).any(|w| w == bytes))
}

fn crash_order(mount: &Path) -> PathBuf {
    mount.with_extension("crash")
}

/// Kills the server before its `step`-th change from now on, from 1. What a kill
/// leaves then lies in [`Left::Killed`]'s directory, and what a loss of power
/// would in [`Left::Dark`]'s.
pub fn crash_before(mount: &Path, step: usize) {
    std::fs::write(crash_order(mount), step.to_string()).expect("order a crash");
}

/// What is left after a crash.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// By a kill: all that was done.
    Killed,
    /// By a loss of power: of a file what its last successful `fsync` found, and of
    /// a directory what its own found; nothing else.
    Dark,
}

impl Left {
    pub fn dir(self, mount: &Path) -> PathBuf {
        mount.with_extension(match self {
            Left::Killed => "killed",
            Left::Dark => "dark",
        })
    }
}

/// A server whose append-only files lie in the file system mounted at `mount`;
/// nothing where that may not be done.
pub fn start(mount: &Path, more: &[&str]) -> Option<Server> {
    std::fs::create_dir_all(mount).expect("make the mount point");
    let mut probe = Command::new("unshare");
    probe.args([own_mounts(), "sh", "-c", "exec 3<>/dev/fuse"]).stderr(std::process::Stdio::null());
    if !probe.status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: no mount namespaces, or no FUSE");
        return None;
    }
    std::fs::write(failures(mount), "").expect("no failures yet");
    std::fs::create_dir_all(disk(mount)).expect("an empty disk");
    let exe = std::env::current_exe().expect("the test's binary");
    let (text, exe) = (mount.to_str().expect("a plain path"), exe.to_str().expect("a plain path"));
    let script = format!(
        "export {MOUNT}={text} {COMMAND}=\"$(printf '%s\\n' \"$@\")\"; exec unshare {} {exe} --ignored --exact --nocapture flaky::serve",
        own_mounts()
    );
    let args = [&["--cores", "2", "--appendonly", "yes", "--dir", text], more].concat();
    Some(Server::start_under(&["sh", "-c", &script, "sh"], &args))
}

/// The process between test and server.
#[test]
#[ignore = "started by other tests"]
fn serve() {
    let (Ok(mount), Ok(command)) = (std::env::var(MOUNT), std::env::var(COMMAND)) else { return };
    let mount = PathBuf::from(mount);
    let device = File::options().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/fuse").expect("FUSE");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let text = |s: &str| CString::new(s).expect("no NUL");
    let (kind, at, options) = (text("fuse"), text(mount.to_str().expect("a plain path")), text(&options));
    // SAFETY: all pointers are to strings that live through the call.
    let done = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    assert_eq!(done, 0, "mount: {}", std::io::Error::last_os_error());
    let fuse = std::thread::spawn({
        let mount = mount.clone();
        move || Files::new(mount).answer(device)
    });
    let words: Vec<&str> = command.split('\n').collect();
    let mut server = Command::new(words[0]);
    server.args(&words[1..]);
    // SAFETY: prctl is async-signal-safe and gets only numbers.
    unsafe {
        server.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let mut server = server.spawn().expect("the server");
    SERVER.store(server.id(), Ordering::SeqCst);
    let status = server.wait().expect("the server's end");
    drop(fuse);
    std::process::exit(status.code().unwrap_or(99));
}

const ROOT: u64 = 1;

/// The server's process.
static SERVER: AtomicU32 = AtomicU32::new(0);

#[derive(Clone)]
enum Node {
    Dir(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
}

struct Files {
    mount: PathBuf,
    nodes: BTreeMap<u64, Node>,
    /// As they were at their last successful `fsync`.
    flushed: BTreeMap<u64, Node>,
    next: u64,
}

/// Requests by their number in `linux/fuse.h`.
mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RENAME: u32 = 12;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
    pub const RENAME2: u32 = 45;
}

/// Of a request for attributes to be set: the size is among them.
const SIZE: u32 = 1 << 3;

type Answer = Result<Vec<u8>, i32>;

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(b[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(b[at..at + 8].try_into().expect("eight bytes"))
}

/// Words of 32 bits, one after the other.
fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// The strings of a request, each with a NUL behind it.
fn names(b: &[u8]) -> Vec<&[u8]> {
    b.split(|c| *c == 0).collect()
}

impl Files {
    fn new(mount: PathBuf) -> Files {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(BTreeMap::new()))]);
        Files { mount, flushed: nodes.clone(), nodes, next: ROOT + 1 }
    }

    /// Serves until the kernel hangs up.
    fn answer(&mut self, mut device: File) {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(n) = device.read(&mut buffer) {
            // Length, operation, unique, node, uid, gid, pid, padding: 40 bytes.
            let (what, unique, node) = (u32_at(&buffer, 4), u64_at(&buffer, 8), u64_at(&buffer, 16));
            if matches!(what, op::FORGET | op::BATCH_FORGET | op::INTERRUPT) {
                continue;
            }
            let answer = self.take(what, node, &buffer[40..n]);
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(e) => (-e, Vec::new()),
            };
            let mut out = words(&[16 + body.len() as u32, error as u32]);
            out.extend_from_slice(&unique.to_ne_bytes());
            out.extend_from_slice(&body);
            if device.write_all(&out).is_err() {
                return;
            }
        }
    }

    /// A step that changes something: is it the one to die before?
    fn step(&self) {
        let order = crash_order(&self.mount);
        let Some(left) = std::fs::read_to_string(&order).ok().and_then(|s| s.parse::<usize>().ok()) else { return };
        match left {
            0 => {}
            1 => {
                self.write_down(&self.nodes, ROOT, &Left::Killed.dir(&self.mount));
                self.write_down(&self.flushed, ROOT, &Left::Dark.dir(&self.mount));
                // SAFETY: gets only numbers.
                unsafe { libc::kill(SERVER.load(Ordering::SeqCst) as i32, libc::SIGKILL) };
                std::fs::write(&order, "0").expect("the order is done");
            }
            n => std::fs::write(&order, (n - 1).to_string()).expect("the order"),
        }
    }

    /// Copies a tree out. What was never flushed is an empty file.
    fn write_down(&self, nodes: &BTreeMap<u64, Node>, id: u64, to: &Path) {
        use std::os::unix::ffi::OsStrExt;
        let whole = nodes.get(&id).cloned().or_else(|| match self.nodes.get(&id) {
            Some(Node::Dir(_)) => Some(Node::Dir(BTreeMap::new())),
            _ => None,
        });
        match whole {
            Some(Node::Dir(entries)) => {
                std::fs::create_dir_all(to).expect("a directory");
                for (name, child) in entries {
                    self.write_down(nodes, child, &to.join(std::ffi::OsStr::from_bytes(&name)));
                }
            }
            Some(Node::File(bytes)) => std::fs::write(to, bytes).expect("a file"),
            None => std::fs::write(to, "").expect("an empty file"),
        }
    }

    fn take(&mut self, what: u32, node: u64, b: &[u8]) -> Answer {
        let changes = [op::MKDIR, op::CREATE, op::UNLINK, op::RENAME, op::RENAME2, op::WRITE, op::FSYNC, op::FSYNCDIR];
        if changes.contains(&what) || what == op::SETATTR && u32_at(b, 0) & SIZE != 0 {
            self.step();
        }
        match what {
            // Version 7.31, no flags, pieces of up to 128 KiB.
            op::INIT => {
                let mut out = words(&[7, 31, 128 << 10, 0, 0, 128 << 10, 1, 1 << 16]);
                out.resize(64, 0);
                Ok(out)
            }
            op::LOOKUP => self.child(node, names(b)[0]).and_then(|id| self.entry(id)),
            op::GETATTR => self.attributes(node),
            op::SETATTR => self.resize(node, b),
            op::MKDIR => self.make(node, names(&b[8..])[0], Node::Dir(BTreeMap::new())),
            op::CREATE => {
                let mut out = self.make(node, names(&b[16..])[0], Node::File(Vec::new()))?;
                out.extend([0; 16]);
                Ok(out)
            }
            op::UNLINK => {
                let id = self.dir(node)?.remove(names(b)[0]).ok_or(libc::ENOENT)?;
                // An open file lives on: it is simply kept.
                let _ = id;
                Ok(Vec::new())
            }
            op::RENAME => self.rename(node, u64_at(b, 0), &names(&b[8..])),
            op::RENAME2 => self.rename(node, u64_at(b, 0), &names(&b[16..])),
            op::OPEN | op::OPENDIR => Ok(vec![0; 16]),
            op::READ => {
                let (at, n) = (u64_at(b, 8) as usize, u32_at(b, 16) as usize);
                let bytes = self.file(node)?;
                let at = at.min(bytes.len());
                Ok(bytes[at..(at + n).min(bytes.len())].to_vec())
            }
            op::WRITE => {
                let (at, n) = (u64_at(b, 8) as usize, u32_at(b, 16) as usize);
                let bytes = self.file(node)?;
                bytes.resize(bytes.len().max(at + n), 0);
                bytes[at..at + n].copy_from_slice(&b[40..40 + n]);
                Ok(words(&[n as u32, 0]))
            }
            op::STATFS => Ok(vec![0; 80]),
            op::READDIR => self.list(node, u64_at(b, 8)),
            op::FSYNC => self.sync(node),
            op::FSYNCDIR => {
                self.flushed.insert(node, self.nodes[&node].clone());
                Ok(Vec::new())
            }
            op::RELEASE | op::RELEASEDIR | op::FLUSH => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        }
    }

    /// Fails once for each failure ordered.
    fn sync(&mut self, node: u64) -> Answer {
        match failures_left(&self.mount) {
            0 => {
                // Who looks at it sees it whole.
                let (copy, whole) = (self.mount.with_extension("copy"), disk(&self.mount).join(node.to_string()));
                std::fs::write(&copy, self.file(node)?).expect("a copy");
                std::fs::rename(&copy, whole).expect("rename it");
                self.flushed.insert(node, self.nodes[&node].clone());
                let slow = std::fs::read_to_string(slowness(&self.mount)).ok().and_then(|ms| ms.parse().ok());
                std::thread::sleep(Duration::from_millis(slow.unwrap_or(0)));
                Ok(Vec::new())
            }
            n => {
                fail_next(&self.mount, n - 1);
                Err(libc::EIO)
            }
        }
    }

    fn dir(&mut self, id: u64) -> Result<&mut BTreeMap<Vec<u8>, u64>, i32> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(d)) => Ok(d),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn file(&mut self, id: u64) -> Result<&mut Vec<u8>, i32> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(f)) => Ok(f),
            _ => Err(libc::EISDIR),
        }
    }

    fn child(&mut self, dir: u64, name: &[u8]) -> Result<u64, i32> {
        self.dir(dir)?.get(name).copied().ok_or(libc::ENOENT)
    }

    fn make(&mut self, dir: u64, name: &[u8], node: Node) -> Answer {
        let id = self.next;
        self.dir(dir)?.insert(name.to_vec(), id);
        self.nodes.insert(id, node);
        self.next += 1;
        self.entry(id)
    }

    fn rename(&mut self, from: u64, to: u64, names: &[&[u8]]) -> Answer {
        let id = self.dir(from)?.remove(names[0]).ok_or(libc::ENOENT)?;
        self.dir(to)?.insert(names[1].to_vec(), id);
        Ok(Vec::new())
    }

    /// `fuse_attr`: 88 bytes.
    fn attr(&self, id: u64) -> Vec<u8> {
        let (size, mode, links) = match &self.nodes[&id] {
            Node::Dir(_) => (0, libc::S_IFDIR | 0o755, 2),
            Node::File(f) => (f.len() as u64, libc::S_IFREG | 0o644, 1),
        };
        let mut out: Vec<u8> = [id, size, size.div_ceil(512), 0, 0, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
        out.extend(words(&[0, 0, 0, mode, links, 0, 0, 0, 4096, 0]));
        out
    }

    /// `fuse_entry_out`, which nobody may remember.
    fn entry(&self, id: u64) -> Answer {
        let mut out: Vec<u8> = [id, 0, 0, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
        out.extend(words(&[0, 0]));
        out.extend(self.attr(id));
        Ok(out)
    }

    /// `fuse_attr_out`.
    fn attributes(&self, id: u64) -> Answer {
        let mut out = vec![0; 16];
        out.extend(self.attr(id));
        Ok(out)
    }

    fn resize(&mut self, id: u64, b: &[u8]) -> Answer {
        if u32_at(b, 0) & SIZE != 0 {
            let size = u64_at(b, 16) as usize;
            self.file(id)?.resize(size, 0);
        }
        self.attributes(id)
    }

    /// `fuse_dirent`s from an offset on.
    fn list(&mut self, id: u64, from: u64) -> Answer {
        let entries: Vec<(Vec<u8>, u64)> = self.dir(id)?.iter().map(|(n, id)| (n.clone(), *id)).collect();
        let mut out = Vec::new();
        for (i, (name, id)) in entries.iter().enumerate().skip(from as usize) {
            let kind = if matches!(self.nodes[id], Node::Dir(_)) { libc::DT_DIR } else { libc::DT_REG };
            out.extend(id.to_ne_bytes());
            out.extend((i as u64 + 1).to_ne_bytes());
            out.extend(words(&[name.len() as u32, u32::from(kind)]));
            out.extend(name);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        Ok(out)
    }
}
