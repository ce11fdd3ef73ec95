//! MEMORY: where the server's memory is. MEMORY USAGE is a command over keys.

use std::sync::atomic::Ordering;

use crate::base::{Args, memory, sparse};
use crate::command::Fault;
use crate::command::spec::{Group, Spec, flag};
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const ROW: Spec = Spec { arity: 2, group: Group::Server, since: "4.0.0", ..Spec::DEFAULT };
const FROM_ALL: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

pub const ROWS: &[ConnCommand] = &[
    ConnCommand {
        spec: Spec {
            name: "memory",
            arity: -2,
            complexity: "Depends on the subcommand",
            summary: "Tells about memory.",
            ..ROW
        },
        run: None,
        light: true,
    },
    ConnCommand {
        spec: Spec { name: "memory|stats", summary: "Tells what memory is used for.", tips: FROM_ALL, ..ROW },
        run: Some(stats),
        light: false,
    },
    ConnCommand {
        spec: Spec { name: "memory|doctor", summary: "Names problems with memory.", tips: FROM_ALL, ..ROW },
        run: Some(doctor),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "memory|malloc-stats",
            complexity: "Depends on how much memory is in use",
            summary: "Tells about the allocator.",
            tips: FROM_ALL,
            ..ROW
        },
        run: Some(malloc_stats),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "memory|purge",
            complexity: "Depends on how much memory is free",
            summary: "Gives free memory back to the system.",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..ROW
        },
        run: Some(purge),
        light: false,
    },
    ConnCommand {
        spec: Spec {
            name: "memory|help",
            flags: flag::LOADING | flag::STALE,
            summary: "Lists the subcommands of MEMORY.",
            ..ROW
        },
        run: Some(help),
        light: true,
    },
];

/// One core's part.
struct Share {
    clients: usize,
    tables: usize,
    /// Keys, bytes of tables and bytes of indices by deadline, by database.
    dbs: Vec<[usize; 3]>,
}

fn share(c: &mut Core) -> Share {
    let dbs = 0..c.store.databases();
    Share {
        clients: c.conns.iter().map(Conn::memory).sum(),
        tables: c.store.overhead(),
        dbs: dbs.map(|d| c.store.db(d).map_or([0; 3], |d| [d.len(), d.table_bytes(), d.deadline_bytes()])).collect(),
    }
}

fn stats(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let used = memory::used_here();
    let (asking, me) = (core.begin_gather(conn), core.id);
    core.tell_service(move |s| {
        let stream = s.stream_memory();
        s.call(me, move |core| {
            core.go_on_gathering(asking, share, move |core, parts, r| write_stats(core, &parts, stream, used, r));
        });
    });
    Ok(Outcome::Later)
}

/// `stream`: memory of backlog and replicas, and what of it is the replicas'.
fn write_stats(core: &mut Core, parts: &[Share], stream: (usize, usize), used: usize, r: &mut Reply) {
    let peak = core.shared.peak_memory.fetch_max(used, Ordering::Relaxed).max(used);
    let resident = memory::resident();
    let clients: usize = parts.iter().map(|p| p.clients).sum();
    let tables: usize = parts.iter().map(|p| p.tables).sum();
    let sum = |db: usize| [0, 1, 2].map(|i| parts.iter().map(|p| p.dbs[db][i]).sum::<usize>());
    let dbs: Vec<(usize, [usize; 3])> =
        (0..core.store.databases()).map(|d| (d, sum(d))).filter(|(_, [keys, ..])| *keys > 0).collect();
    let keys: usize = dbs.iter().map(|d| d.1[0]).sum();
    let startup = core.shared.startup_memory.load(Ordering::Relaxed);
    let aof = core.shared.persistence.aof.buffer_bytes.load(Ordering::Relaxed) as usize;
    let scripts = &core.shared.scripts;
    let caches = scripts.cache.memory() + scripts.libraries.memory();
    let overhead = (startup + stream.0 + clients + aof + tables + caches).min(used);
    let dataset = used.saturating_sub(overhead);
    let ratio = |a: usize, b: usize| a as f64 / b.max(1) as f64;
    let mut w = Writer(r);
    w.0.map(27 + dbs.len());
    w.int("peak.allocated", peak);
    w.int("total.allocated", used);
    w.int("startup.allocated", startup);
    w.int("replication.backlog", stream.0 - stream.1);
    w.int("clients.slaves", stream.1);
    w.int("clients.normal", clients);
    w.int("cluster.links", 0);
    w.int("aof.buffer", aof);
    w.int("lua.caches", scripts.cache.memory());
    w.int("functions.caches", scripts.libraries.memory());
    for (db, [_, tables, deadlines]) in &dbs {
        w.0.bulk(format!("db.{db}").as_bytes());
        w.0.map(3);
        w.int("overhead.hashtable.main", *tables);
        w.int("overhead.hashtable.expires", *deadlines);
        w.int("overhead.hashtable.slot-to-keys", 0);
    }
    w.int("overhead.total", overhead);
    w.int("keys.count", keys);
    w.int("keys.bytes-per-key", dataset.checked_div(keys).unwrap_or(0));
    w.int("dataset.bytes", dataset);
    w.double("dataset.percentage", 100.0 * ratio(dataset, used.saturating_sub(startup)));
    w.double("peak.percentage", 100.0 * ratio(used, peak));
    let allocated = used + memory::left_out();
    w.int("allocator.allocated", allocated);
    let active = sparse::active().max(allocated);
    w.int("allocator.active", active);
    w.int("allocator.resident", resident);
    w.double("allocator-fragmentation.ratio", ratio(active, allocated));
    w.int("allocator-fragmentation.bytes", active - allocated);
    for name in ["allocator-rss", "rss-overhead"] {
        let (a, b) = if name == "allocator-rss" { (resident, active) } else { (resident, resident) };
        w.double(&format!("{name}.ratio"), ratio(a, b));
        w.int(&format!("{name}.bytes"), a.saturating_sub(b));
    }
    w.double("fragmentation", ratio(resident, allocated));
    w.int("fragmentation.bytes", resident.saturating_sub(allocated));
}

struct Writer<'a, 'b>(&'a mut Reply<'b>);

impl Writer<'_, '_> {
    fn int(&mut self, name: &str, n: usize) {
        self.0.bulk(name.as_bytes());
        self.0.int(n as i64);
    }

    fn double(&mut self, name: &str, v: f64) {
        self.0.bulk(name.as_bytes());
        self.0.double(v);
    }
}

fn doctor(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.gather(conn, share, |core, parts, r| {
        let peak = core.shared.peak_memory.load(Ordering::Relaxed);
        r.verbatim("txt", advice(memory::used(), peak, memory::resident(), &parts).as_bytes());
    })
}

fn advice(used: usize, peak: usize, resident: usize, parts: &[Share]) -> String {
    const LITTLE: usize = 5 << 20;
    const CLIENTS_MANY: usize = 64 << 20;
    if used < LITTLE {
        return "There is hardly any data yet, so there is nothing to say about memory.\n".into();
    }
    let mut out = String::new();
    if peak > used + used / 2 {
        out.push_str("- The peak was much higher than what is used now; the system may show memory that is free inside. MEMORY PURGE gives it back.\n");
    }
    if resident > used + used / 2 && resident - used > LITTLE {
        out.push_str("- Much more memory is resident than used. MEMORY PURGE may help.\n");
    }
    let clients: usize = parts.iter().map(|p| p.clients).sum();
    if clients > CLIENTS_MANY {
        out.push_str("- Clients' buffers take much memory: CLIENT LIST names those that do not read their replies.\n");
    }
    let keys: Vec<usize> = parts.iter().map(|p| p.dbs.iter().map(|d| d[0]).sum()).collect();
    let most = keys.iter().max().copied().unwrap_or(0);
    if keys.len() > 1 && most > 10_000 && most > 2 * keys.iter().sum::<usize>() / keys.len() {
        out.push_str("- One core holds more than twice its share of the keys: see CORE LIST and CORE MOVE.\n");
    }
    if out.is_empty() { "No problem with memory was found.\n".into() } else { out }
}

fn malloc_stats(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let text = format!(
        "allocator: {}\nbytes in use: {}\nbytes resident: {}\n",
        memory::allocator(),
        memory::used(),
        memory::resident()
    );
    conn.reply(|r| r.verbatim("txt", text.as_bytes()));
    Ok(Outcome::Done)
}

fn purge(core: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    core.gather(conn, |_| memory::purge(), |_, _, r| r.ok())
}

fn help(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    super::containers::help(
        conn,
        &[
            "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DOCTOR",
            "    Problems with memory, in words.",
            "MALLOC-STATS",
            "    Figures of the allocator.",
            "PURGE",
            "    Gives free memory back to the system.",
            "STATS",
            "    What memory is used for.",
            "USAGE <key> [SAMPLES <count>]",
            "    Bytes that a key and its value take; always exact, whatever the samples.",
            "HELP",
            "    Prints this help.",
        ],
    )
}
