//! CLIENT LIST, INFO and KILL: describing connections and choosing among them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::{Fault, fault};
use crate::reactor::buffers;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::server::core::Core;
use crate::server::gather::Asking;
use crate::server::registry::{Outcome, registry};
use crate::server::replication::{Asker, LinkInfo};
use crate::session::conn::{Conn, REPLY_BUFFER, parse_id, socket_name};
use crate::session::pubsub::Kind;

/// What a connection is used for, as CLIENT LIST and KILL tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Normal,
    Replica,
    Master,
    Pubsub,
}

impl Class {
    fn parse(word: &[u8]) -> Result<Class, Fault> {
        match &word.to_ascii_lowercase()[..] {
            b"normal" => Ok(Class::Normal),
            b"slave" | b"replica" => Ok(Class::Replica),
            b"master" => Ok(Class::Master),
            b"pubsub" => Ok(Class::Pubsub),
            _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word)).into()),
        }
    }

    fn of(conn: &Conn) -> Class {
        if conn.subscribed() { Class::Pubsub } else { Class::Normal }
    }

    fn of_link(link: &LinkInfo) -> Class {
        if link.to_primary { Class::Master } else { Class::Replica }
    }
}

/// The peer's (or the local) address; that of a Unix socket is its path.
fn address(core: &Core, conn: &Conn, peer: bool) -> String {
    if conn.unix_socket {
        return format!("{}:0", core.settings.resolve(&core.settings.unixsocket).display());
    }
    socket_name(conn.fd, peer)
}

fn flags(core: &Core, conn: &Conn) -> String {
    let set = [
        (conn.monitor, 'O'),
        (conn.subscribed(), 'P'),
        (conn.in_multi(), 'x'),
        (conn.blocked().is_some() || core.waiting.contains_key(&conn.me), 'b'),
        (conn.tracking().is_some(), 't'),
        (conn.tracking().is_some_and(|t| t.broken), 'R'),
        (conn.tracking().is_some_and(|t| t.bcast), 'B'),
        (conn.close_after, 'c'),
        (conn.unix_socket, 'U'),
        (conn.no_evict, 'e'),
        (conn.no_touch, 'T'),
    ];
    let text: String = set.iter().filter(|(on, _)| *on).map(|(_, c)| c).collect();
    if text.is_empty() { "N".into() } else { text }
}

/// A connection's line: the fields of Redis 7.2, then those of our own.
#[derive(Default)]
struct Line<'a> {
    id: u64,
    addr: String,
    laddr: String,
    fd: i32,
    name: &'a [u8],
    age_s: u64,
    idle_s: u64,
    flags: String,
    db: usize,
    /// Subscriptions to channels, patterns and shard channels.
    sub: [usize; 3],
    /// Commands that MULTI has queued, and their bytes.
    multi: Option<(usize, usize)>,
    input: usize,
    input_free: usize,
    /// Complete arguments of a request that is not.
    arguments: usize,
    /// Size of the buffer for replies, what waits in it, and blocks and bytes
    /// that wait elsewhere.
    buffer: usize,
    output: usize,
    blocks: usize,
    elsewhere: u64,
    memory: u64,
    sending: bool,
    command: &'a str,
    user: &'a [u8],
    redirect: i64,
    resp3: bool,
    lib_name: &'a [u8],
    lib_ver: &'a [u8],
    /// -1: the service core.
    core: i64,
}

impl Line<'_> {
    fn print(&self) -> String {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut s = format!("id={} addr={} laddr={}", self.id, self.addr, self.laddr);
        let mut put = |name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(s, " {name}={value}");
        };
        put("fd", &self.fd);
        put("name", &text(self.name));
        put("age", &self.age_s);
        put("idle", &self.idle_s);
        put("flags", &self.flags);
        put("db", &self.db);
        put("sub", &self.sub[0]);
        put("psub", &self.sub[1]);
        put("ssub", &self.sub[2]);
        put("multi", &self.multi.map_or(-1, |(commands, _)| commands as i64));
        put("qbuf", &self.input);
        put("qbuf-free", &self.input_free);
        put("argv-mem", &self.arguments);
        put("multi-mem", &self.multi.map_or(0, |(_, bytes)| bytes));
        put("rbs", &self.buffer);
        put("rbp", &self.buffer);
        put("obl", &self.output);
        put("oll", &self.blocks);
        put("omem", &self.elsewhere);
        put("tot-mem", &self.memory);
        put("events", &if self.sending { "rw" } else { "r" });
        put("cmd", &self.command);
        put("user", &text(self.user));
        put("redir", &self.redirect);
        put("resp", &if self.resp3 { 3 } else { 2 });
        put("lib-name", &text(self.lib_name));
        put("lib-ver", &text(self.lib_ver));
        put("core", &self.core);
        s.push('\n');
        s
    }
}

/// Bytes of a request as clients send it.
fn request_bytes(args: Args) -> usize {
    let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let line = |n: usize| 1 + digits(n) + 2;
    line(args.len()) + args.iter().map(|a| line(a.len()) + a.len() + 2).sum::<usize>()
}

/// A client's line.
pub fn describe(core: &Core, c: &Conn) -> String {
    describe_running(core, c, 0)
}

/// A client's line while a request of it of so many bytes runs: as in Redis,
/// that lies in the query buffer until it has run.
fn describe_running(core: &Core, c: &Conn, running: usize) -> String {
    let x = c.extra.as_deref();
    let seconds = |since: u64| core.now.saturating_sub(since) / 1000;
    let beyond = c.output_beyond();
    let line = Line {
        id: c.id,
        addr: address(core, c, true),
        laddr: address(core, c, false),
        fd: c.fd,
        name: c.name(),
        age_s: seconds(c.created_ms),
        idle_s: seconds(c.active_ms),
        flags: flags(core, c),
        db: c.db,
        sub: [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| c.subscriptions(kind)),
        multi: x.and_then(|x| x.multi.as_ref()).map(|m| (m.queue.len(), m.bytes)),
        input: c.input_bytes() - c.argument_bytes() + running,
        input_free: if running == 0 {
            c.input.capacity() - c.input_bytes()
        } else {
            buffers::SIZE - running % buffers::SIZE
        },
        arguments: c.argument_bytes(),
        buffer: c.replies.out.capacity(),
        output: c.output_bytes() - beyond,
        blocks: beyond.div_ceil(REPLY_BUFFER),
        elsewhere: beyond as u64,
        memory: c.memory() as u64,
        sending: c.sending,
        command: c.last_command.map_or("NULL", |i| registry().entries[i].spec.name),
        user: c.user_name(),
        redirect: c.tracking().map_or(-1, |t| t.redirect.map_or(0, |(id, _)| id as i64)),
        resp3: c.proto == Proto::Resp3,
        lib_name: x.map_or(b"", |x| &x.lib_name),
        lib_ver: x.map_or(b"", |x| &x.lib_ver),
        core: core.id as i64,
    };
    line.print()
}

/// The line of a connection of replication. What a replica has not read lies in
/// the backlog, which replicas share: it counts for each, as in Redis.
fn describe_link(link: &LinkInfo) -> String {
    let role = if link.to_primary { 'M' } else { 'S' };
    let line = Line {
        id: link.id,
        addr: link.addr.clone(),
        laddr: link.laddr.clone(),
        fd: link.fd,
        name: &link.former.name,
        age_s: link.age_s,
        idle_s: link.idle_s,
        flags: if link.closing { format!("{role}c") } else { role.into() },
        db: link.db as usize,
        input: link.input,
        output: link.output,
        blocks: link.blocks,
        elsewhere: link.unread,
        memory: link.memory as u64 + link.unread,
        sending: link.writing,
        command: &link.command,
        user: &link.former.user,
        redirect: -1,
        resp3: link.former.resp3,
        lib_name: &link.former.lib_name,
        lib_ver: &link.former.lib_ver,
        core: -1,
        ..Line::default()
    };
    line.print()
}

pub fn info(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let line = describe_running(core, conn, request_bytes(args));
    conn.reply(|r| r.verbatim("txt", line.as_bytes()));
    Ok(Outcome::Done)
}

/// Which connections LIST shows.
enum Chosen {
    Class(Option<Class>),
    Ids(Vec<u64>),
}

impl Chosen {
    fn parse(args: Args) -> Result<Chosen, Fault> {
        match &args[2..] {
            [] => Ok(Chosen::Class(None)),
            [word, class] if word.eq_ignore_ascii_case(b"type") => Ok(Chosen::Class(Some(Class::parse(class)?))),
            [word, ids @ ..] if word.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
                // One that nobody can have is nobody's.
                let id = |a: &&[u8]| parse_i64(a).map(|id| u64::try_from(id).unwrap_or(0));
                let ids = ids.iter().map(|a| id(a).ok_or(Fault::Text("ERR Invalid client ID")));
                Ok(Chosen::Ids(ids.collect::<Result<_, _>>()?))
            }
            _ => Err(fault::SYNTAX),
        }
    }

    fn has(&self, c: &Conn) -> bool {
        match self {
            Chosen::Class(None) => true,
            Chosen::Class(Some(class)) => Class::of(c) == *class,
            Chosen::Ids(ids) => ids.contains(&c.id),
        }
    }

    fn has_link(&self, link: &LinkInfo) -> bool {
        match self {
            Chosen::Class(None) => true,
            Chosen::Class(Some(class)) => Class::of_link(link) == *class,
            Chosen::Ids(ids) => ids.contains(&link.id),
        }
    }
}

/// Connections by id: the order in which they came, or that of the request.
/// Those of replication are on the service core.
pub fn list(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let chosen = Arc::new(Chosen::parse(args)?);
    let (asking, me) = (core.begin_gather(conn), core.id);
    let own = (conn.id, request_bytes(args));
    core.tell_service(move |s| {
        let links = s.describe_links().into_iter().filter(|l| chosen.has_link(l));
        let lines = links.map(|l| (l.id, describe_link(&l))).collect();
        s.call(me, move |core| list_with(core, asking, (chosen, own), lines));
    });
    Ok(Outcome::Later)
}

/// The connections of all cores, with these of replication. `own` is the
/// asker's id, and how long its request is.
fn list_with(core: &mut Core, asking: Asking, (chosen, own): (Arc<Chosen>, (u64, usize)), links: Vec<(u64, String)>) {
    let asked = chosen.clone();
    core.go_on_gathering(
        asking,
        move |core| {
            core.close_over_limit();
            let open = core.conns.iter().filter(|c| !c.closing && chosen.has(c));
            let running = |c: &Conn| if c.id == own.0 { own.1 } else { 0 };
            open.map(|c| (c.id, describe_running(core, c, running(c)))).collect::<Vec<_>>()
        },
        move |_, parts, r| {
            let mut lines: HashMap<u64, String> = parts.into_iter().flatten().chain(links).collect();
            let order = match &*asked {
                Chosen::Ids(ids) => ids.clone(),
                Chosen::Class(_) => {
                    let mut ids: Vec<u64> = lines.keys().copied().collect();
                    ids.sort_unstable();
                    ids
                }
            };
            let text: String = order.iter().filter_map(|id| lines.remove(id)).collect();
            r.verbatim("txt", text.as_bytes());
        },
    );
}

/// Which connections KILL closes: those to which everything given applies.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    addr: Option<String>,
    laddr: Option<String>,
    class: Option<Class>,
    age_s: Option<u64>,
    user: Option<Vec<u8>>,
    /// Not this one.
    except: Option<u64>,
}

impl Filter {
    fn parse(core: &Core, args: Args, own: u64) -> Result<Filter, Fault> {
        let mut f = Filter { except: Some(own), ..Filter::default() };
        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
        for pair in args[2..].chunks(2) {
            let &[name, value] = pair else { return Err(fault::SYNTAX) };
            match &name.to_ascii_lowercase()[..] {
                b"id" => {
                    let id = parse_id(value).ok_or(Fault::Text("ERR client-id should be greater than 0"))?;
                    f.id = Some(id);
                }
                b"addr" => f.addr = Some(text(value)),
                b"laddr" => f.laddr = Some(text(value)),
                b"type" => f.class = Some(Class::parse(value)?),
                b"user" if core.users.get(value).is_some() => f.user = Some(value.to_vec()),
                b"user" => return Err(format!("ERR No such user '{}'", text(value)).into()),
                b"maxage" => {
                    let age = parse_i64(value).ok_or(Fault::Text("ERR maxage is not an integer or out of range"))?;
                    let age = u64::try_from(age).ok().filter(|n| *n > 0);
                    f.age_s = Some(age.ok_or(Fault::Text("ERR maxage should be greater than 0"))?);
                }
                b"skipme" => match &value.to_ascii_lowercase()[..] {
                    b"yes" => f.except = Some(own),
                    b"no" => f.except = None,
                    _ => return Err(fault::SYNTAX),
                },
                _ => return Err(fault::SYNTAX),
            }
        }
        Ok(f)
    }

    fn has(&self, core: &Core, c: &Conn) -> bool {
        let is = |wanted: &Option<String>, peer| wanted.as_ref().is_none_or(|a| *a == address(core, c, peer));
        !c.closing
            && self.except != Some(c.id)
            && self.id.is_none_or(|id| id == c.id)
            && self.class.is_none_or(|class| class == Class::of(c))
            && self.age_s.is_none_or(|age| core.now.saturating_sub(c.created_ms) / 1000 >= age)
            && self.user.as_ref().is_none_or(|user| user == c.user_name())
            && is(&self.addr, true)
            && is(&self.laddr, false)
    }
}

impl Filter {
    /// The same for the links of replication, which are on the service core.
    /// The connection to the primary has no user.
    fn has_link(&self, link: &LinkInfo) -> bool {
        self.id.is_none_or(|id| link.id == id)
            && self.class.is_none_or(|class| class == Class::of_link(link))
            && self.age_s.is_none_or(|age| link.age_s >= age)
            && self.user.as_ref().is_none_or(|user| !link.to_primary && *user == link.former.user)
            && self.addr.as_ref().is_none_or(|a| *a == link.addr)
            && self.laddr.as_ref().is_none_or(|a| *a == link.laddr)
    }
}

pub fn kill(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let own = conn.id;
    let old_form = args.len() == 3;
    let filter = match args {
        [_, _, addr] => Filter { addr: Some(String::from_utf8_lossy(addr).into_owned()), ..Filter::default() },
        _ => Filter::parse(core, args, own)?,
    };
    let asker = core.asker(conn);
    let me = core.id;
    core.tell_service(move |s| {
        let links = s.kill_links(&|link| filter.has_link(link));
        s.call(me, move |core| close_everywhere(core, filter, own, (asker, old_form, links)));
    });
    Ok(Outcome::Later)
}

/// Closes connections of all cores, and replies; `links` have been closed on
/// the service core.
fn close_everywhere(core: &mut Core, filter: Filter, own: u64, (asker, old_form, links): (Asker, bool, usize)) {
    core.gather_quietly(
        move |core| close_all(core, &filter, own),
        move |core, closed| {
            let mut out = Vec::new();
            let mut r = Reply::new(&mut out, asker.proto);
            match (closed.iter().sum::<usize>() + links, old_form) {
                (0, true) => {
                    core.stats.count_error(b"ERR");
                    r.error(b"ERR No such client");
                }
                (_, true) => r.ok(),
                (n, false) => r.int(n as i64),
            }
            core.finish_conn(asker.conn, asker.seq, &out);
        },
    );
}

/// Closes connections of this core; the asker's own only after the reply.
fn close_all(core: &mut Core, filter: &Filter, asker: u64) -> usize {
    let mut closed = 0;
    for place in core.conns.refs() {
        let Some(mut c) = core.take_conn(place) else { continue };
        if filter.has(core, &c) {
            closed += 1;
            if c.id == asker {
                c.close_after = true;
                core.mark_dirty(&mut c);
            } else {
                core.close(&mut c);
            }
        }
        core.put_conn(c);
    }
    closed
}
