//! GEOSEARCH, GEOSEARCHSTORE and the older GEORADIUS family.

use super::collect::{element, keyspec};
use super::effect::Class;
use super::fault::SYNTAX;
use super::geo::{point, reply_distance, reply_point, unit};
use super::parse::{int, is};
use super::spec::{Across, Begin, Command, Find, Group, KeySpec, Spec, flag, keyflag};
use super::{Cx, Done, Fault, zset};
use crate::base::Args;
use crate::base::geohash::{self, Point, Shape};
use crate::base::num::parse_f64;
use crate::store::listpack::Item;
use crate::store::object::Object;
use crate::store::zset::ZSet;

const ROW: Spec = Spec {
    group: Group::Geo,
    complexity: "O(n+log m) for n places in the area around the shape and m in the index",
    ..Spec::DEFAULT
};

const fn stored(word: &'static str, from: i32) -> KeySpec {
    KeySpec {
        flags: keyflag::OW | keyflag::UPDATE,
        begin: Begin::Keyword(word, from),
        find: Find::Range { last: 0, step: 1, limit: 0 },
    }
}

const READ: KeySpec = KeySpec::one(keyflag::RO | keyflag::ACCESS, 1);

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "georadius",
            syntax: "key#0 longitude:double latitude:double radius:double unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] \
                [WITHHASH] [count-block(COUNT count:int [ANY@6.2.0])] [order(ASC|DESC)] [store(STORE \
                storekey'key'#1|STOREDIST storedistkey'key'#2)]",
            arity: -6,
            flags: flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
            keys: &[READ, stored("STORE", 6), stored("STOREDIST", 6)],
            since: "3.2.0",
            summary: "Finds the places within a radius, and stores them if wanted.",
            ..ROW
        },
        run: |cx, args| radius(cx, args, Form { by_member: false, may_store: true }),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "georadius_ro",
            syntax: "key#0 longitude:double latitude:double radius:double unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] \
                [WITHHASH] [count-block(COUNT count:int [ANY@6.2.0])] [order(ASC|DESC)]",
            arity: -6,
            flags: flag::READONLY,
            keys: keyspec::READ,
            since: "3.2.10",
            summary: "Finds the places within a radius.",
            ..ROW
        },
        run: |cx, args| radius(cx, args, Form { by_member: false, may_store: false }),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "georadiusbymember",
            syntax: "key#0 member radius:double unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] \
                [count-block(COUNT count:int [ANY])] [order(ASC|DESC)] [store(STORE storekey'key'#1|STOREDIST \
                storedistkey'key'#2)]",
            arity: -5,
            flags: flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
            keys: &[READ, stored("STORE", 5), stored("STOREDIST", 5)],
            since: "3.2.0",
            summary: "Finds the places within a radius around a member, and stores them if wanted.",
            ..ROW
        },
        run: |cx, args| radius(cx, args, Form { by_member: true, may_store: true }),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "georadiusbymember_ro",
            syntax: "key#0 member radius:double unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] \
                [count-block(COUNT count:int [ANY])] [order(ASC|DESC)]",
            arity: -5,
            flags: flag::READONLY,
            keys: keyspec::READ,
            since: "3.2.10",
            summary: "Finds the places within a radius around a member.",
            ..ROW
        },
        run: |cx, args| radius(cx, args, Form { by_member: true, may_store: false }),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "geosearch",
            syntax: "key#0 from(FROMMEMBER member|FROMLONLAT fromlonlat(longitude:double latitude:double)) \
                by(circle(BYRADIUS radius:double unit(M|KM|FT|MI))|box(BYBOX width:double height:double \
                unit(M|KM|FT|MI))) [order(ASC|DESC)] [count-block(COUNT count:int [ANY])] [WITHCOORD] [WITHDIST] \
                [WITHHASH]",
            arity: -7,
            flags: flag::READONLY,
            keys: keyspec::READ,
            since: "6.2.0",
            summary: "Finds the places within a circle or a box.",
            ..ROW
        },
        run: |cx, args| search(cx, args, false),
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "geosearchstore",
            syntax: "destination#0 source#1 from(FROMMEMBER member|FROMLONLAT fromlonlat(longitude:double \
                latitude:double)) by(circle(BYRADIUS radius:double unit(M|KM|FT|MI))|box(BYBOX width:double \
                height:double unit(M|KM|FT|MI))) [order(ASC|DESC)] [count-block(COUNT count:int [ANY])] [STOREDIST]",
            arity: -8,
            flags: flag::WRITE | flag::DENYOOM,
            keys: keyspec::STORED_ONE,
            since: "6.2.0",
            summary: "Stores the places within a circle or a box.",
            ..ROW
        },
        run: |cx, args| search(cx, args, true),
        across: Across::Gather,
    },
];

/// Which of the GEORADIUS family.
#[derive(Clone, Copy)]
struct Form {
    by_member: bool,
    may_store: bool,
}

/// What is searched, and what becomes of the result.
#[derive(Default)]
struct Search<'a> {
    centre: Option<Point>,
    /// In metres, with the metres of the unit.
    shape: Option<(Shape, f64)>,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    /// Ascending (1) or descending (-1) by distance.
    order: i8,
    count: usize,
    any: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

fn metres(arg: &[u8], what: &'static str) -> Result<f64, Fault> {
    parse_f64(arg).ok_or_else(|| Fault::from(format!("ERR need numeric {what}")))
}

fn circle(radius: &[u8], of: &[u8]) -> Result<(Shape, f64), Fault> {
    let radius = metres(radius, "radius")?;
    if radius < 0.0 {
        return Err(Fault::Text("ERR radius cannot be negative"));
    }
    let unit = unit(of)?;
    Ok((Shape::Circle { radius: radius * unit }, unit))
}

fn rectangle(width: &[u8], height: &[u8], of: &[u8]) -> Result<(Shape, f64), Fault> {
    let (width, height) = (metres(width, "width")?, metres(height, "height")?);
    if width < 0.0 || height < 0.0 {
        return Err(Fault::Text("ERR height or width cannot be negative"));
    }
    let unit = unit(of)?;
    Ok((Shape::Box { width: width * unit, height: height * unit }, unit))
}

impl<'a> Search<'a> {
    /// Takes an option that all forms have; where the next one stands.
    fn common(&mut self, words: Args<'a>, at: usize) -> Result<Option<usize>, Fault> {
        let word = words[at];
        let flag = match word.to_ascii_lowercase().as_slice() {
            b"withdist" => &mut self.with_distance,
            b"withhash" => &mut self.with_hash,
            b"withcoord" => &mut self.with_place,
            b"any" => &mut self.any,
            b"asc" => {
                self.order = 1;
                return Ok(Some(at + 1));
            }
            b"desc" => {
                self.order = -1;
                return Ok(Some(at + 1));
            }
            b"count" if at + 1 < words.len() => {
                let n = int(words[at + 1])?;
                self.count = usize::try_from(n).ok().filter(|n| *n > 0).ok_or(Fault::Text("ERR COUNT must be > 0"))?;
                return Ok(Some(at + 2));
            }
            _ => return Ok(None),
        };
        *flag = true;
        Ok(Some(at + 1))
    }

    fn check(&self, storing: &str) -> Result<(), Fault> {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            let text = format!("ERR {storing} is not compatible with WITHDIST, WITHHASH and WITHCOORD options");
            return Err(Fault::from(text));
        }
        Ok(())
    }

    fn check_any(&self) -> Result<(), Fault> {
        if self.any && self.count == 0 {
            return Err(Fault::Text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

/// The place of a member; `None` when the key is missing.
fn member_place(cx: &mut Cx, key: &[u8], member: &[u8]) -> Result<Option<Point>, Fault> {
    const MISSING: Fault = Fault::Text("ERR could not decode requested zset member");
    let key = cx.key(key);
    let Some(zset) = cx.peek_collection::<ZSet>(&key)? else { return Ok(None) };
    zset.score(member).map(|s| Some(geohash::place(s))).ok_or(MISSING)
}

fn radius(cx: &mut Cx, args: Args, form: Form) -> Done {
    let key = cx.key(args[1]);
    let exists = cx.read_collection::<ZSet>(&key)?.is_some();
    let mut s = Search::default();
    let at = if form.by_member { 5 } else { 6 };
    if !form.by_member {
        s.centre = Some(point(args[2], args[3])?);
        s.shape = Some(circle(args[4], args[5])?);
    } else if exists {
        s.centre = member_place(cx, args[1], args[2])?;
        s.shape = Some(circle(args[3], args[4])?);
    }
    let words = &args[at..];
    let mut at = 0;
    while at < words.len() {
        at = match s.common(words, at)? {
            Some(next) => next,
            None if form.may_store
                && at + 1 < words.len()
                && (is(words[at], "store") || is(words[at], "storedist")) =>
            {
                s.store = Some(words[at + 1]);
                s.store_distance = is(words[at], "storedist");
                at + 2
            }
            None => return Err(SYNTAX),
        };
    }
    s.check("STORE option in GEORADIUS")?;
    s.check_any()?;
    run(cx, args[1], &s, "georadiusstore")
}

fn search(cx: &mut Cx, args: Args, store: bool) -> Done {
    let (from, at) = if store { (args[2], 3) } else { (args[1], 2) };
    let key = cx.key(from);
    let exists = cx.read_collection::<ZSet>(&key)?.is_some();
    let mut s = Search { store: store.then(|| args[1]), ..Search::default() };
    let (mut by_member, mut by_place) = (false, false);
    let words = &args[at..];
    let mut at = 0;
    while at < words.len() {
        let (word, left) = (words[at], words.len() - at - 1);
        at = if let Some(next) = s.common(words, at)? {
            next
        } else if is(word, "frommember") && left >= 1 && !by_place {
            by_member = true;
            if exists {
                s.centre = member_place(cx, from, words[at + 1])?;
            }
            at + 2
        } else if is(word, "fromlonlat") && left >= 2 && !by_member {
            by_place = true;
            s.centre = Some(point(words[at + 1], words[at + 2])?);
            at + 3
        } else if is(word, "byradius") && left >= 2 && !matches!(s.shape, Some((Shape::Box { .. }, _))) {
            s.shape = Some(circle(words[at + 1], words[at + 2])?);
            at + 3
        } else if is(word, "bybox") && left >= 3 && !matches!(s.shape, Some((Shape::Circle { .. }, _))) {
            s.shape = Some(rectangle(words[at + 1], words[at + 2], words[at + 3])?);
            at + 4
        } else if store && is(word, "storedist") {
            s.store_distance = true;
            at + 1
        } else {
            return Err(SYNTAX);
        };
    }
    s.check("GEOSEARCHSTORE")?;
    let name = String::from_utf8_lossy(args[0]);
    if !(by_member || by_place) {
        let text = format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}");
        return Err(Fault::from(text));
    }
    if s.shape.is_none() {
        return Err(Fault::from(format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")));
    }
    s.check_any()?;
    run(cx, from, &s, "geosearchstore")
}

/// A place that was found.
struct Found {
    member: Vec<u8>,
    score: f64,
    place: Point,
    /// In the unit of the search.
    distance: f64,
}

fn find(zset: &ZSet, s: &Search, centre: Point, (shape, unit): (Shape, f64)) -> Vec<Found> {
    let limit = if s.any { s.count } else { usize::MAX };
    let mut found: Vec<Found> = Vec::new();
    for cell in shape.cells(centre) {
        let (min, beyond) = cell.scores();
        let first = zset.partition(|score, _| score < min as f64);
        let end = zset.partition(|score, _| score < beyond as f64);
        zset.each(first, end.saturating_sub(first), false, |member, score| {
            if found.len() >= limit {
                return;
            }
            let place = geohash::place(score);
            if let Some(d) = shape.covers(centre, place) {
                found.push(Found { member: member.to_vec(), score, place, distance: d / unit });
            }
        });
    }
    // The closest ones are meant when a number is given.
    let order = if s.count > 0 && s.order == 0 && !s.any { 1 } else { s.order };
    match order {
        1 => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        -1 => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        _ => {}
    }
    if s.count > 0 {
        found.truncate(s.count);
    }
    found
}

fn run(cx: &mut Cx, from: &[u8], s: &Search, event: &'static str) -> Done {
    let key = cx.key(from);
    let zset = cx.peek_collection::<ZSet>(&key)?;
    let found = match (zset, s.centre, s.shape) {
        (Some(zset), Some(centre), Some(shape)) => find(zset, s, centre, shape),
        _ => Vec::new(),
    };
    match s.store {
        Some(to) => store(cx, to, s, &found, event),
        None => reply(cx, s, &found),
    }
    Ok(())
}

fn reply(cx: &mut Cx, s: &Search, found: &[Found]) {
    let r = &mut cx.reply;
    let options = [s.with_distance, s.with_hash, s.with_place].iter().filter(|o| **o).count();
    r.array(found.len());
    for f in found {
        if options > 0 {
            r.array(options + 1);
        }
        element(r, Item::Str(&f.member));
        if s.with_distance {
            reply_distance(r, f.distance);
        }
        if s.with_hash {
            r.int(f.score as i64);
        }
        if s.with_place {
            reply_point(r, f.place);
        }
    }
}

fn store(cx: &mut Cx, to: &[u8], s: &Search, found: &[Found], event: &'static str) {
    let limits = zset::limits(cx.options);
    let mut result = ZSet::default();
    let longest = found.iter().map(|f| f.member.len()).max().unwrap_or(0);
    result.expect(found.len(), longest, limits);
    for f in found {
        result.put(&f.member, if s.store_distance { f.distance } else { f.score }, limits);
    }
    super::collect::store_result(cx, to, Object::ZSet(result), Class::ZSet, event);
    cx.fx.dirty += (found.len() as u64).saturating_sub(1);
}
