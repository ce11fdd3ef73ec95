//! Whether this kernel lets the server run: its version and io_uring.

use std::io;

use io_uring::{IoUring, cqueue, squeue};

use super::limits::{get_limit, set_limit};
use crate::base::os::os_reason;

/// The first kernel with everything that a data core's ring uses
/// (`SINGLE_ISSUER` with `DEFER_TASKRUN`, multishot receive).
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Locked memory that a glommio executor insists on.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Entries of the ring that is tried out.
const TRIAL_ENTRIES: u32 = 8;

/// Checks that the kernel is new enough and that io_uring can be used. The
/// error names one cause and how to mend it.
pub fn check_kernel() -> Result<(), String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    check_release(release.trim())?;
    let trial = IoUring::<squeue::Entry, cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(TRIAL_ENTRIES);
    if let Err(error) = trial {
        return Err(explain(&error, disabled_sysctl()));
    }
    ensure_locked_memory()
}

fn check_release(release: &str) -> Result<(), String> {
    let (major, minor) = KERNEL_MIN;
    // An unreadable release is left to the trial ring.
    match parse_release(release) {
        Some(version) if version < KERNEL_MIN => Err(format!(
            "Linux {release} is too old: Coreslot needs {major}.{minor} or later. \
             Boot a newer kernel."
        )),
        _ => Ok(()),
    }
}

/// The first two numbers of a release such as `6.12.4-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// The sysctl `kernel.io_uring_disabled`: 0 for everyone may use it, 1 for
/// members of a group only, 2 for nobody. Older kernels do not have it.
fn disabled_sysctl() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

/// Why a ring could not be set up, and what to do about it.
fn explain(error: &io::Error, disabled: Option<u32>) -> String {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(2)) => {
            "io_uring is switched off on this machine (sysctl kernel.io_uring_disabled is 2). \
             Switch it on with 'sysctl -w kernel.io_uring_disabled=0'."
                .to_owned()
        }
        (Some(libc::EPERM), Some(1)) => {
            "io_uring is reserved for a group (sysctl kernel.io_uring_disabled is 1). Run the \
             server as a member of the group in sysctl kernel.io_uring_group, or with \
             CAP_SYS_ADMIN, or set kernel.io_uring_disabled to 0."
                .to_owned()
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "io_uring is forbidden to this process, most likely by a seccomp filter such as a \
             container's default profile. Allow io_uring_setup, io_uring_enter and \
             io_uring_register in the profile (Docker and Podman: --security-opt \
             seccomp=PROFILE)."
                .to_owned()
        }
        (Some(libc::ENOSYS), _) => {
            "this kernel has no io_uring: it was built without it, or a sandbox hides it. Use a \
             kernel with CONFIG_IO_URING, or allow the io_uring system calls in the sandbox."
                .to_owned()
        }
        (Some(libc::ENOMEM), _) => "io_uring got no memory: the limit on locked memory is too low. Raise it with \
             'ulimit -l unlimited', LimitMEMLOCK=infinity (systemd) or --ulimit memlock=-1 \
             (containers)."
            .to_owned(),
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "io_uring got no file descriptor: too many files are open. Raise the limit with \
             'ulimit -n'."
                .to_owned()
        }
        (Some(libc::EINVAL), _) => "this kernel's io_uring lacks what Coreslot needs (SINGLE_ISSUER and DEFER_TASKRUN \
             rings, Linux 6.1). Boot a newer kernel, or leave the sandbox that imitates it."
            .to_owned(),
        _ => format!("io_uring cannot be set up: {}", os_reason(&error)),
    }
}

/// Raises the soft limit on locked memory if it is too low for an executor.
fn ensure_locked_memory() -> Result<(), String> {
    let Ok(limit) = get_limit(libc::RLIMIT_MEMLOCK) else {
        return Ok(());
    };
    if limit.rlim_cur >= MEMLOCK_BYTES_MIN {
        return Ok(());
    }
    let raised = libc::rlimit { rlim_cur: MEMLOCK_BYTES_MIN, rlim_max: limit.rlim_max.max(MEMLOCK_BYTES_MIN) };
    set_limit(libc::RLIMIT_MEMLOCK, raised).map_err(|_| {
        format!(
            "the limit on locked memory is {} bytes, but {MEMLOCK_BYTES_MIN} are needed. Raise \
             it with 'ulimit -l unlimited', LimitMEMLOCK=infinity (systemd) or --ulimit \
             memlock=-1 (containers).",
            limit.rlim_cur
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_release("5.10.0"), Some((5, 10)));
        assert_eq!(parse_release("x"), None);
        assert!(check_release("6.1.0-13-amd64").is_ok());
        assert!(check_release("7.0").is_ok());
        let refused = check_release("5.15.0").unwrap_err();
        assert!(refused.contains("5.15.0") && refused.contains("6.1"));
    }

    #[test]
    fn every_cause_has_its_mend() {
        let explain = |code, disabled| explain(&io::Error::from_raw_os_error(code), disabled);
        assert!(explain(libc::EPERM, Some(2)).contains("sysctl -w"));
        assert!(explain(libc::EPERM, Some(1)).contains("io_uring_group"));
        assert!(explain(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(explain(libc::EPERM, None).contains("seccomp"));
        assert!(explain(libc::ENOSYS, None).contains("CONFIG_IO_URING"));
        assert!(explain(libc::ENOMEM, None).contains("ulimit -l"));
        assert!(explain(libc::EINVAL, None).contains("DEFER_TASKRUN"));
        assert!(explain(libc::EIO, None).contains("cannot be set up"));
    }
}
