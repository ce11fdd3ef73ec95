//! CLIENT TRACKING and its kin: what concerns the own connection.

use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::{Fault, fault};
use crate::server::core::Core;
use crate::server::registry::Outcome;
use crate::session::conn::{Conn, ConnRef};
use crate::session::tracking::{Follower, Tracking, collision};

fn ok(conn: &mut Conn) -> Result<Outcome, Fault> {
    conn.reply(|r| r.ok());
    Ok(Outcome::Done)
}

/// The options of CLIENT TRACKING.
#[derive(Default)]
struct Wish<'a> {
    mode: Tracking,
    redirect: Option<i64>,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Wish<'a> {
    fn parse(args: Args<'a>) -> Result<Wish<'a>, Fault> {
        let mut w = Wish::default();
        let mut words = args[3..].iter();
        while let Some(word) = words.next() {
            match &word.to_ascii_lowercase()[..] {
                b"redirect" => {
                    let id = words.next().ok_or(fault::SYNTAX)?;
                    if w.redirect.is_some() {
                        return Err(Fault::Text("ERR A client can only redirect to a single other client"));
                    }
                    w.redirect = Some(parse_i64(id).ok_or(fault::NOT_AN_INTEGER)?);
                }
                b"prefix" => w.prefixes.push(words.next().ok_or(fault::SYNTAX)?),
                b"bcast" => w.mode.bcast = true,
                b"optin" => w.mode.optin = true,
                b"optout" => w.mode.optout = true,
                b"noloop" => w.mode.noloop = true,
                _ => return Err(fault::SYNTAX),
            }
        }
        Ok(w)
    }

    /// Do the options fit each other, and what is on already?
    fn check(&self, old: Option<&Tracking>) -> Result<(), Fault> {
        let new = &self.mode;
        if !new.bcast && !self.prefixes.is_empty() {
            return Err(Fault::Text("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        if old.is_some_and(|o| o.bcast != new.bcast) {
            return Err(Fault::Text(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ));
        }
        if new.bcast && (new.optin || new.optout) {
            return Err(Fault::Text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if new.optin && new.optout {
            return Err(Fault::Text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        if old.is_some_and(|o| (o.optin && new.optout) || (o.optout && new.optin)) {
            return Err(Fault::Text(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ));
        }
        let none = Default::default();
        match collision(old.map_or(&none, |o| &o.prefixes), &self.prefixes) {
            Some((new, other, before)) if self.mode.bcast => {
                let which = if before { "an existing" } else { "another provided" };
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                let (new, other) = (text(new), text(other));
                Err(format!(
                    "ERR Prefix '{new}' overlaps with {which} prefix '{other}'. Prefixes for a single client must not \
                     overlap."
                )
                .into())
            }
            _ => Ok(()),
        }
    }
}

pub fn tracking(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let wish = Wish::parse(args)?;
    match &args[2].to_ascii_lowercase()[..] {
        b"on" => {}
        b"off" => {
            core.forget_tracking(conn);
            return ok(conn);
        }
        _ => return Err(fault::SYNTAX),
    }
    wish.check(conn.tracking())?;
    let Wish { mut mode, redirect, prefixes } = wish;
    let mut names: Vec<Vec<u8>> = prefixes.iter().map(|p| p.to_vec()).collect();
    if mode.bcast && names.is_empty() {
        names.push(Vec::new());
    }
    mode.prefixes.extend(names.iter().cloned());
    let redirect = redirect.filter(|id| *id != 0);
    if redirect.is_none() && names.is_empty() {
        core.start_tracking(conn, mode);
        return ok(conn);
    }
    turn_on(core, conn, mode, names, redirect)
}

/// All cores get to know the prefixes, and one of them knows the connection
/// that messages are redirected to.
fn turn_on(
    core: &mut Core,
    conn: &mut Conn,
    mut mode: Tracking,
    names: Vec<Vec<u8>>,
    redirect: Option<i64>,
) -> Result<Outcome, Fault> {
    let me = conn.me;
    let follower = Follower { conn: me, except: mode.noloop.then_some(conn.id) };
    let wanted = redirect.map(|id| u64::try_from(id).unwrap_or(0));
    let followed = names.clone();
    core.gather(
        conn,
        move |c| {
            c.follow(&followed, follower);
            wanted.and_then(|id| c.place_of_client(id))
        },
        move |core, found: Vec<Option<ConnRef>>, r| {
            let target = found.into_iter().flatten().next();
            let lost = wanted.is_some() && target.is_none();
            mode.redirect = wanted.zip(target);
            let there = core.take_conn(me);
            if lost || there.as_ref().is_none_or(|c| c.closing) {
                core.leave_prefixes(me, names);
            } else if let Some(mut c) = there {
                core.start_tracking(&mut c, mode);
                core.put_conn(c);
                return r.ok();
            }
            if let Some(c) = there {
                core.put_conn(c);
            }
            core.stats.count_error(b"ERR");
            r.error(b"ERR The client ID you want redirect to does not exist");
        },
    )
}

pub fn caching(_: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let Some(t) = conn.extra.as_mut().and_then(|x| x.tracking.as_mut()) else {
        return Err(Fault::Text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
             enabled",
        ));
    };
    match &args[2].to_ascii_lowercase()[..] {
        b"yes" if t.optin => {}
        b"yes" => {
            return Err(Fault::Text("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."));
        }
        b"no" if t.optout => {}
        b"no" => {
            return Err(Fault::Text("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."));
        }
        _ => return Err(fault::SYNTAX),
    }
    t.caching = true;
    conn.update_special();
    ok(conn)
}

pub fn trackinginfo(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let t = conn.tracking().cloned();
    let on = t.is_some();
    let t = t.unwrap_or_default();
    let flags = [
        (true, if on { "on" } else { "off" }),
        (t.bcast, "bcast"),
        (t.optin, "optin"),
        (t.optin && t.caching, "caching-yes"),
        (t.optout, "optout"),
        (t.optout && t.caching, "caching-no"),
        (t.noloop, "noloop"),
        (t.broken, "broken_redirect"),
    ];
    conn.reply(|r| {
        r.map(3);
        r.bulk(b"flags");
        r.set(flags.iter().filter(|f| f.0).count());
        flags.iter().filter(|f| f.0).for_each(|f| r.bulk(f.1.as_bytes()));
        r.bulk(b"redirect");
        r.int(if on { t.redirect.map_or(0, |(id, _)| id as i64) } else { -1 });
        r.bulk(b"prefixes");
        r.array(t.prefixes.len());
        t.prefixes.iter().for_each(|p| r.bulk(p));
    });
    Ok(Outcome::Done)
}

pub fn getredir(_: &mut Core, conn: &mut Conn, _: Args) -> Result<Outcome, Fault> {
    let id = conn.tracking().map_or(-1, |t| t.redirect.map_or(0, |(id, _)| id as i64));
    conn.reply(|r| r.int(id));
    Ok(Outcome::Done)
}
