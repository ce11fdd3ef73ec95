//! `--check-system`: is this machine set up for the server? What is looked at is
//! the part of `tuning/host` that belongs to the machine, under the names of
//! `redis-server` where it looks at the same.

use std::io::Write;
use std::path::Path;

use super::kernel::check_kernel;
use super::limits::get_limit;
use crate::config::Settings;
use crate::server::start::RESERVED_FILES;

/// Sources of time that are read without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource", "arch_sys_counter"];

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// What is wrong, and how to mend it.
    Bad(String),
    /// This machine does not say.
    Unknown,
}

/// Prints what was found to `out`; whether nothing is wrong.
pub fn check_system(out: &mut impl Write) -> std::io::Result<bool> {
    let root = Path::new("/");
    let checks: [(&str, Verdict); 6] = [
        ("kernel", check_kernel().map_or_else(Verdict::Bad, |()| Verdict::Good)),
        ("slow-clocksource", clock(root)),
        ("overcommit", overcommit(root)),
        ("THP", huge_pages(root)),
        ("somaxconn", somaxconn(root)),
        ("open-files", open_files()),
    ];
    let mut good = true;
    for (name, verdict) in checks {
        match verdict {
            Verdict::Good => writeln!(out, "[{name}]...OK")?,
            Verdict::Unknown => writeln!(out, "[{name}]...skipped")?,
            Verdict::Bad(text) => {
                good = false;
                writeln!(out, "[{name}]...WARNING:\n{text}")?;
            }
        }
    }
    Ok(good)
}

/// Looks at the content of a file.
fn look(root: &Path, file: &str, verdict: impl FnOnce(&str) -> Verdict) -> Verdict {
    std::fs::read_to_string(root.join(file)).map_or(Verdict::Unknown, |text| verdict(text.trim()))
}

fn good_if(good: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if good { Verdict::Good } else { Verdict::Bad(otherwise()) }
}

fn clock(root: &Path) -> Verdict {
    look(root, "sys/devices/system/clocksource/clocksource0/current_clocksource", |clock| {
        good_if(FAST_CLOCKS.iter().any(|fast| clock.starts_with(fast)), || {
            format!(
                "The clock source '{clock}' costs a system call, and every turn reads the clock. If \
                 /sys/devices/system/clocksource/clocksource0/available_clocksource names 'tsc', choose it by writing \
                 it to current_clocksource beside that."
            )
        })
    })
}

fn overcommit(root: &Path) -> Verdict {
    look(root, "proc/sys/vm/overcommit_memory", |mode| {
        good_if(mode == "1", || {
            "Memory overcommit is off: large reservations may be refused while there is memory. Run 'sysctl \
             vm.overcommit_memory=1', and put 'vm.overcommit_memory = 1' into /etc/sysctl.conf for the next boot."
                .into()
        })
    })
}

fn huge_pages(root: &Path) -> Verdict {
    look(root, "sys/kernel/mm/transparent_hugepage/enabled", |modes| {
        good_if(!modes.contains("[always]"), || {
            "Transparent huge pages are 'always' used, which takes more memory than the data needs and stalls page \
             faults. Run 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled', at every boot."
                .into()
        })
    })
}

fn somaxconn(root: &Path) -> Verdict {
    let wanted = Settings::default().tcp_backlog;
    look(root, "proc/sys/net/core/somaxconn", |most| {
        good_if(most.parse::<i64>().is_ok_and(|most| most >= i64::from(wanted)), || {
            format!(
                "At most {most} new connections may wait to be accepted, fewer than the {wanted} of tcp-backlog: bursts \
                 of connects are dropped. Run 'sysctl net.core.somaxconn={wanted}'."
            )
        })
    })
}

fn open_files() -> Verdict {
    let wanted = u64::from(Settings::default().maxclients) + RESERVED_FILES;
    let Ok(limit) = get_limit(libc::RLIMIT_NOFILE) else { return Verdict::Unknown };
    good_if(limit.rlim_max >= wanted, || {
        format!(
            "{} files may be open at most, and the default of maxclients needs {wanted}. Raise the limit with 'ulimit -n' or \
             LimitNOFILE=.",
            limit.rlim_max
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_judged_by_what_its_files_say() {
        let root = std::env::temp_dir().join(format!("coreslot-system-{}", std::process::id()));
        let put = |file: &str, text: &str| {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let verdicts = || [clock(&root), overcommit(&root), huge_pages(&root), somaxconn(&root)];
        assert_eq!(verdicts(), [const { Verdict::Unknown }; 4], "nothing is known of it");
        put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        put("proc/sys/vm/overcommit_memory", "1\n");
        put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        put("proc/sys/net/core/somaxconn", "4096\n");
        assert_eq!(verdicts(), [const { Verdict::Good }; 4]);
        put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
        put("proc/sys/vm/overcommit_memory", "0\n");
        put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        put("proc/sys/net/core/somaxconn", "128\n");
        for verdict in verdicts() {
            assert!(matches!(verdict, Verdict::Bad(_)), "{verdict:?}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
