//! INFO: what every core contributes, and which sections are shown.

use std::sync::{Arc, Mutex, PoisonError};

use super::info_text::{self, View};
use crate::base::{Args, memory};
use crate::command::Fault;
use crate::command::spec::{Group, Spec, acl, flag};
use crate::server::blocking::Waits;
use crate::server::core::Core;
use crate::server::gather::Asking;
use crate::server::registry::{ConnCommand, Outcome};
use crate::server::replication::Described;
use crate::server::sampling::{self, RATES, Sizes};
use crate::server::shared::Usage;
use crate::server::stats::CoreStats;
use crate::session::conn::Conn;
use crate::store;

pub const ROWS: &[ConnCommand] = &[ConnCommand {
    spec: Spec {
        name: "info",
        syntax: "[section...]",
        arity: -1,
        flags: flag::LOADING | flag::STALE,
        acl: acl::DANGEROUS,
        group: Group::Server,
        summary: "Describes the server in sections.",
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..Spec::DEFAULT
    },
    run: Some(info),
    light: false,
}];

/// When a section is shown without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Default,
    All,
    Everything,
}

/// A section: its name in the request, when it is shown, and its text.
struct Section {
    name: &'static str,
    shown: Shown,
    write: fn(&View, &mut String),
}

const fn section(name: &'static str, shown: Shown, write: fn(&View, &mut String)) -> Section {
    Section { name, shown, write }
}

/// In the order in which they appear.
const SECTIONS: [Section; 14] = [
    section("server", Shown::Default, info_text::server),
    section("clients", Shown::Default, info_text::clients),
    section("memory", Shown::Default, info_text::memory),
    section("persistence", Shown::Default, info_text::persistence),
    section("stats", Shown::Default, info_text::stats),
    section("replication", Shown::Default, info_text::replication),
    section("cpu", Shown::Default, info_text::cpu),
    section("modules", Shown::Default, info_text::modules),
    section("commandstats", Shown::All, info_text::commandstats),
    section("errorstats", Shown::Default, info_text::errorstats),
    section("latencystats", Shown::All, info_text::latencystats),
    section("cluster", Shown::Default, info_text::cluster),
    section("keyspace", Shown::Default, info_text::keyspace),
    section("cores", Shown::All, info_text::cores),
];

/// Which of [`SECTIONS`] to show.
fn chosen(words: Args) -> [bool; SECTIONS.len()] {
    let mut out = [false; SECTIONS.len()];
    let mut choose = |which: &dyn Fn(&Section) -> bool| {
        out.iter_mut().zip(&SECTIONS).for_each(|(o, s)| *o |= which(s));
    };
    if words.is_empty() {
        choose(&|s| s.shown == Shown::Default);
    }
    for word in words {
        match &word.to_ascii_lowercase()[..] {
            b"default" => choose(&|s| s.shown == Shown::Default),
            b"all" => choose(&|s| s.shown != Shown::Everything),
            b"everything" => choose(&|_| true),
            name => choose(&|s| s.name.as_bytes() == name),
        }
    }
    out
}

/// Sections that tell of single commands.
const PER_COMMAND: [&str; 2] = ["commandstats", "latencystats"];

/// What one core contributes.
pub struct Part {
    /// Which one it is.
    pub core: usize,
    pub stats: CoreStats,
    pub store: store::Stats,
    pub rates: [u64; RATES],
    pub sizes: Sizes,
    /// Per database: keys, keys with a deadline, their mean time to live.
    pub databases: Vec<(usize, usize, u64)>,
    pub overhead: usize,
    /// Ticks in commands.
    pub command_ticks: u64,
    /// Keys and items tracked, prefixes followed.
    pub tracking: (usize, usize, usize),
    pub blocking: Waits,
    pub connections: usize,
    /// Bytes that the core had counted and not told when it was asked.
    pub unsettled: isize,
    /// Bytes of Lua's states: of scripts, and of functions.
    pub lua: (usize, usize),
    /// Percent of the core's time that goes into defragmentation, and microseconds
    /// since it has some to do.
    pub defrag: (u32, u64),
    /// Keys with deadlines that clients wrote to this replica.
    pub local_deadlines: usize,
    /// Connections that CLIENT PAUSE holds back.
    pub paused: usize,
    pub slots: usize,
    /// Time of the core's thread, microseconds: user, system.
    pub cpu_us: [u64; 2],
}

fn part(core: &mut Core, per_command: bool) -> Part {
    // What has been flushed is not counted, whether or not this core has noticed yet.
    core.scripts.tidy_up(&core.shared.scripts);
    let unsettled = memory::settle();
    let databases = (0..core.store.databases()).map(|i| match core.store.db(i) {
        Some(db) => (db.len(), db.volatile(), db.average_ttl_ms(core.now)),
        None => (0, 0, 0),
    });
    Part {
        core: core.id,
        unsettled,
        databases: databases.collect(),
        stats: core.stats.counters(per_command),
        store: core.store.stats,
        rates: core.rates.means(),
        sizes: Sizes { memory: sampling::client_memory(core), ..core.survey.sizes(core.now) },
        tracking: core.tracker.sizes(),
        command_ticks: core.stats.commands.iter().map(|c| c.ticks).sum(),
        overhead: core.store.overhead(),
        blocking: core.blocking.waits(),
        connections: core.conns.len(),
        lua: core.scripts.engine.as_ref().map_or((0, 0), |e| e.memory()),
        defrag: (core.defrag.percent, core.defrag.current_us(core.stamp / 1000)),
        local_deadlines: core.local_deadlines.as_ref().map_or(0, |l| l.count()),
        paused: core.paused.len() + core.blocking.len() + core.waiting.len(),
        slots: core.map.iter().filter(|owner| usize::from(**owner) == core.id).count(),
        cpu_us: info_text::cpu_us(libc::RUSAGE_THREAD),
    }
}

/// Replication is the service core's; what it says comes first.
fn info(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let chosen = chosen(&args[1..]);
    let is_chosen = |name: &str| SECTIONS.iter().zip(chosen).any(|(s, c)| c && s.name == name);
    let per_command = PER_COMMAND.iter().any(|name| is_chosen(name));
    let told = Arc::new(Mutex::new(Described::default()));
    // What the answer itself takes does not count.
    let usage = core.shared.usage();
    if ["replication", "stats", "memory"].iter().any(|name| is_chosen(name)) {
        let (id, stamp, told) = (core.id, core.stamp, told.clone());
        let asking = core.begin_gather(conn);
        core.tell_service(move |s| {
            s.describe_replication(id, stamp, move |core, described| {
                // Of the same time as what is said of replicas' buffers.
                let usage = described.usage;
                *told.lock().unwrap_or_else(PoisonError::into_inner) = described;
                gather(core, asking, chosen, per_command, (told, usage));
            });
        });
        return Ok(Outcome::Later);
    }
    let asking = core.begin_gather(conn);
    gather(core, asking, chosen, per_command, (told, usage));
    Ok(Outcome::Later)
}

fn gather(
    core: &mut Core,
    asking: Asking,
    chosen: [bool; SECTIONS.len()],
    per_command: bool,
    (told, usage): (Arc<Mutex<Described>>, Usage),
) {
    core.go_on_gathering(
        asking,
        move |core| part(core, per_command),
        move |core, parts, reply| {
            let replication = &*told.lock().unwrap_or_else(PoisonError::into_inner);
            let usage = usage.with(parts.iter().filter(|p| p.core != core.id).map(|p| p.unsettled).sum());
            let view = View { core, parts: &parts, replication, usage };
            let mut text = String::new();
            for (section, _) in SECTIONS.iter().zip(chosen).filter(|(_, c)| *c) {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                (section.write)(&view, &mut text);
            }
            reply.verbatim("txt", text.as_bytes());
        },
    );
}

/// What the cores and the service core last told of themselves, for scripts,
/// which cannot wait for an answer. They tell it with their work that comes
/// round, ten times a second; without what is counted per command.
pub struct Told {
    parts: Mutex<Vec<Option<Part>>>,
    replication: Mutex<Described>,
}

impl Told {
    pub fn new(cores: usize) -> Told {
        Told { parts: Mutex::new((0..cores).map(|_| None).collect()), replication: Mutex::default() }
    }

    pub fn set_replication(&self, described: Described) {
        *self.replication.lock().unwrap_or_else(PoisonError::into_inner) = described;
    }
}

/// Renews what this core has told. While somebody reads, the next time does.
pub fn tell(core: &mut Core) {
    if core.shared.cores == 1 {
        return;
    }
    let shared = core.shared.clone();
    let Ok(mut parts) = shared.told.parts.try_lock() else { return };
    parts[core.id] = Some(part(core, false));
}

/// What INFO says to a script: of this core what is (if the script runs on its
/// keys), of others what they have told. `None` for what is counted per command on several cores.
pub fn at_once(core: &mut Core, args: Args) -> Option<String> {
    let chosen = chosen(&args[1..]);
    let alone = core.shared.cores == 1;
    let sections: Vec<_> = SECTIONS.iter().zip(chosen).filter(|(_, c)| *c).map(|(s, _)| s).collect();
    if !alone && sections.iter().any(|s| PER_COMMAND.contains(&s.name)) {
        return None;
    }
    let shared = core.shared.clone();
    let mut told = shared.told.parts.lock().unwrap_or_else(PoisonError::into_inner);
    // Among gathered keys it would count those of others, and not its own.
    if !core.visiting {
        told[core.id] = Some(part(core, alone));
    }
    let parts: Vec<Part> = told.iter_mut().filter_map(Option::take).collect();
    let replication = shared.told.replication.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let usage = shared.usage();
    let view = View { core, parts: &parts, replication: &replication, usage };
    let mut text = String::new();
    for section in sections {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        (section.write)(&view, &mut text);
    }
    for part in parts {
        let place = part.core;
        told[place] = Some(part);
    }
    Some(text)
}

/// All sections, on the server's own behalf.
pub fn whole(core: &mut Core, replication: Described, then: impl FnOnce(&mut Core, String) + 'static) {
    let usage = replication.usage;
    core.gather_quietly(
        |core| part(core, true),
        move |core, parts| {
            let view = View { core, parts: &parts, replication: &replication, usage };
            let mut text = String::new();
            SECTIONS.iter().for_each(|section| (section.write)(&view, &mut text));
            then(core, text);
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        SECTIONS.iter().zip(chosen(&words)).filter(|(_, c)| *c).map(|(s, _)| s.name).collect()
    }

    #[test]
    fn sections_by_name_and_by_group() {
        assert_eq!(names(&["Keyspace", "server", "nosuch"]), ["server", "keyspace"]);
        assert_eq!(names(&["nosuch"]), [""; 0]);
        assert_eq!(names(&["everything"]).len(), SECTIONS.len());
        assert!(!names(&[]).contains(&"commandstats") && names(&["all"]).contains(&"commandstats"));
        assert_eq!(names(&[]), names(&["default"]));
    }
}
