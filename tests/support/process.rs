//! What the kernel knows about a process: memory, CPU time, descriptors.

use std::fs;
use std::time::Duration;

/// Resident set size in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read /proc status");
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no {field} of process {pid}"))
}

/// User and system time consumed so far.
pub fn cpu_time(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read /proc stat");
    let after_name = text.rsplit_once(')').expect("a process name").1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a tick count")).sum();
    Duration::from_millis(ticks * 10)
}

/// Sends a signal.
pub fn signal(pid: u32, number: i32) {
    // SAFETY: kill takes two numbers and touches none of our memory.
    let result = unsafe { libc::kill(pid as i32, number) };
    assert_eq!(result, 0, "signal {number} to {pid}");
}

/// Raises this process's limit of open descriptors to its maximum and tells it.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a live rlimit.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    limit.rlim_cur
}

/// How `unshare` gives a process mounts of its own. Root needs no user namespace
/// for that, in which the rings of all servers together may lock but little memory.
pub fn own_mounts() -> &'static str {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 { "-m" } else { "-rm" }
}
