//! What the process asks of the kernel: open files, the out-of-memory score,
//! page sizes.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::base::os::os_reason;
use crate::config::{OomScoreAdj, Settings};
use crate::observe::log;

/// Makes room for `maxclients` connections next to `reserved` descriptors that
/// the server needs itself, by raising the limit on open files. Returns how
/// many clients fit: `maxclients`, or fewer if the limit cannot be raised that
/// far (at least one; the log says so).
pub fn raise_open_files(maxclients: u32, reserved: u64) -> u32 {
    let wanted = u64::from(maxclients) + reserved;
    let limit = match open_files_limit() {
        Ok(limit) => limit,
        Err(error) => {
            log::warning(format_args!(
                "The limit on open files is unknown ({}); it is taken to be 1024",
                os_reason(&error)
            ));
            return clients_within(1024, maxclients, reserved);
        }
    };
    if limit.rlim_cur >= wanted {
        return maxclients;
    }
    let reached = raise_towards(limit, wanted);
    if reached >= wanted {
        log::notice(format_args!(
            "Increased maximum number of open files to {wanted} (it was originally set to {}).",
            limit.rlim_cur
        ));
        return maxclients;
    }
    let fitting = clients_within(reached, maxclients, reserved);
    log::warning(format_args!(
        "maxclients {maxclients} needs {wanted} open files, but the limit cannot be raised \
         above {reached} (hard limit {}): maxclients is {fitting} now. Raise the limit with \
         'ulimit -n' or LimitNOFILE= for more.",
        limit.rlim_max
    ));
    fitting
}

/// Time that a data core asks to run at once where it shares its CPU: the least
/// that Linux grants. Who asks for less is run the sooner.
const SLICE_NS: u64 = 100_000;

/// Asks that the calling thread be run soon after it wakes, even if others (the
/// service core, which compresses and writes) have not had their slices. Linux
/// heeds it from 6.12 on; before, and under another policy than the normal one,
/// it changes nothing. CPU shares stay as they are.
pub fn ask_for_short_slices() {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: `sched_attr` is plain numbers, for which zeros are valid.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the live local of the size given.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) } == 0;
    if known && attr.sched_policy == libc::SCHED_OTHER as u32 {
        attr.sched_runtime = SLICE_NS;
        // SAFETY: the kernel reads the live local. Refused, nothing has changed.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    }
}

/// Raises the soft limit, beyond the hard one if that is permitted; the soft
/// limit reached.
fn raise_towards(limit: libc::rlimit, wanted: u64) -> u64 {
    let beyond = libc::rlimit { rlim_cur: wanted, rlim_max: limit.rlim_max.max(wanted) };
    if set_open_files_limit(beyond).is_ok() {
        return wanted;
    }
    let within = libc::rlimit { rlim_cur: limit.rlim_max.max(limit.rlim_cur), rlim_max: limit.rlim_max };
    match set_open_files_limit(within) {
        Ok(()) => within.rlim_cur,
        Err(_) => limit.rlim_cur,
    }
}

fn clients_within(limit: u64, maxclients: u32, reserved: u64) -> u32 {
    let room = limit.saturating_sub(reserved).max(1);
    u32::try_from(room).unwrap_or(u32::MAX).min(maxclients)
}

fn open_files_limit() -> io::Result<libc::rlimit> {
    get_limit(libc::RLIMIT_NOFILE)
}

/// A resource's limits.
pub(super) fn get_limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live local variable.
    match unsafe { libc::getrlimit(resource, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_open_files_limit(limit: libc::rlimit) -> io::Result<()> {
    set_limit(libc::RLIMIT_NOFILE, limit)
}

/// Changes a resource's limits.
pub(super) fn set_limit(resource: libc::__rlimit_resource_t, limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the pointer is to a live local variable.
    match unsafe { libc::setrlimit(resource, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the process's out-of-memory score as `oom-score-adj` says. Call it
/// again when the directive or the role changes: relative values refer to the
/// score that the process had when the directive was turned on, and that one
/// comes back when it is turned off. While it is off, the score is not touched.
pub fn adjust_oom_score(settings: &Settings, is_replica: bool) -> Result<(), String> {
    const PATH: &str = "/proc/self/oom_score_adj";
    static BASE: Mutex<Option<i32>> = Mutex::new(None);
    let mut known = BASE.lock().unwrap_or_else(PoisonError::into_inner);
    if settings.oom_score_adj == OomScoreAdj::No && known.is_none() {
        return Ok(());
    }
    let read = || std::fs::read_to_string(PATH).ok()?.trim().parse().ok();
    let base = *known.get_or_insert_with(|| read().unwrap_or(0));
    let value = settings.oom_score_adj_values[usize::from(is_replica)];
    let score = match settings.oom_score_adj {
        OomScoreAdj::No => base,
        OomScoreAdj::Absolute => value,
        OomScoreAdj::Yes | OomScoreAdj::Relative => base.saturating_add(value),
    };
    if settings.oom_score_adj == OomScoreAdj::No {
        *known = None;
    }
    std::fs::write(PATH, score.clamp(-1000, 1000).to_string()).map_err(|error| {
        log::warning(format_args!("Unable to write oom_score_adj: {}", os_reason(&error)));
        "Failed to set current oom_score_adj. Check server logs.".to_owned()
    })
}

/// Turns transparent huge pages off for this process if `disable-thp` says so:
/// they make small changes to copy much memory.
pub fn disable_huge_pages(settings: &Settings) {
    if !settings.disable_thp {
        return;
    }
    // SAFETY: this option of `prctl` takes plain numbers.
    let status = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if status != 0 {
        let error = io::Error::last_os_error();
        log::warning(format_args!("Transparent huge pages cannot be turned off: {}", os_reason(&error)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_fit() {
        assert_eq!(clients_within(1024, 10_000, 32), 992);
        assert_eq!(clients_within(1024, 100, 32), 100);
        assert_eq!(clients_within(16, 100, 32), 1);
    }

    #[test]
    fn a_modest_number_of_clients_always_fits() {
        assert_eq!(raise_open_files(16, 16), 16);
    }
}
