//! Geo commands that add places and look single ones up. Places are members of
//! a sorted set whose scores are geohashes. Searches are in `geo_search`.

use super::collect::keyspec;
use super::effect::Item;
use super::fault::{NOT_A_FLOAT, SYNTAX};
use super::parse::is;
use super::spec::{Across, Command, Group, Spec, flag};
use super::{Cx, Done, Fault, zset};
use crate::base::Args;
use crate::base::geohash::{self, LATITUDE_MAX, LONGITUDE_MAX, Point};
use crate::base::num::parse_f64;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::store::zset::ZSet;

const ROW: Spec =
    Spec { group: Group::Geo, keys: keyspec::READ, flags: flag::READONLY, since: "3.2.0", ..Spec::DEFAULT };

pub const ROWS: &[Command] = &[
    Command {
        spec: Spec {
            name: "geoadd",
            syntax: "key#0 [condition(NX|XX)@6.2.0] [change=CH@6.2.0] data(longitude:double latitude:double \
                member)...",
            arity: -5,
            flags: flag::WRITE | flag::DENYOOM,
            keys: keyspec::UPDATED,
            complexity: "O(log n) per place",
            summary: "Adds places to a geo index, made if missing.",
            ..ROW
        },
        run: geoadd,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "geodist",
            syntax: "key#0 member1 member2 [unit(M|KM|FT|MI)]",
            arity: -4,
            summary: "Returns the distance between two places.",
            ..ROW
        },
        run: geodist,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "geohash",
            syntax: "key#0 [member...]",
            arity: -2,
            complexity: "O(1) per place",
            summary: "Returns places as geohash texts.",
            ..ROW
        },
        run: geohash_text,
        across: Across::Gather,
    },
    Command {
        spec: Spec {
            name: "geopos",
            syntax: "key#0 [member...]",
            arity: -2,
            complexity: "O(1) per place",
            summary: "Returns the longitude and latitude of places.",
            ..ROW
        },
        run: geopos,
        across: Across::Gather,
    },
];

/// A longitude and a latitude.
pub(super) fn point(longitude: &[u8], latitude: &[u8]) -> Result<Point, Fault> {
    let longitude = parse_f64(longitude).ok_or(NOT_A_FLOAT)?;
    let latitude = parse_f64(latitude).ok_or(NOT_A_FLOAT)?;
    if longitude.abs() > LONGITUDE_MAX || latitude.abs() > LATITUDE_MAX {
        return Err(Fault::from(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")));
    }
    Ok(Point { longitude, latitude })
}

/// Metres of a unit.
pub(super) fn unit(arg: &[u8]) -> Result<f64, Fault> {
    [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)]
        .iter()
        .find(|(name, _)| is(arg, name))
        .map(|(_, metres)| *metres)
        .ok_or(Fault::Text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// A distance with four decimals.
pub(super) fn reply_distance(reply: &mut Reply, d: f64) {
    reply.bulk(format!("{d:.4}").as_bytes());
}

/// A coordinate: as many of 17 decimals as are not zero.
fn reply_coordinate(reply: &mut Reply, v: f64) {
    let text = format!("{v:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = if text == "-0" { "0" } else { text };
    if reply.proto == Proto::Resp3 {
        reply.raw(format!(",{text}\r\n").as_bytes());
    } else {
        reply.bulk(text.as_bytes());
    }
}

pub(super) fn reply_point(reply: &mut Reply, p: Point) {
    reply.array(2);
    reply_coordinate(reply, p.longitude);
    reply_coordinate(reply, p.latitude);
}

/// GEOADD is a ZADD with geohashes for scores, and is passed on as such.
fn geoadd(cx: &mut Cx, args: Args) -> Done {
    let options = args[2..].iter().take_while(|a| ["nx", "xx", "ch"].iter().any(|w| is(a, w)));
    let at = 2 + options.count();
    let places = &args[at..];
    let has = |word: &str| args[2..at].iter().any(|a| is(a, word));
    if !places.len().is_multiple_of(3) || (has("nx") && has("xx")) {
        return Err(SYNTAX);
    }
    let mut words: Vec<Vec<u8>> = vec![b"zadd".to_vec()];
    words.extend(args[1..at].iter().map(|a| a.to_vec()));
    for p in places.chunks_exact(3) {
        let score = geohash::score(point(p[0], p[1])?);
        words.push(score.to_string().into_bytes());
        words.push(p[2].to_vec());
    }
    let line: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
    zset::zadd_line(cx, &line)?;
    if let Some(Item::Verbatim) = cx.fx.stream.last() {
        cx.fx.stream.pop();
        cx.fx.rewrite(0, &line);
    }
    Ok(())
}

/// The places of members, of those that there are.
fn places(cx: &mut Cx, key: &[u8], members: Args) -> Result<Vec<Option<Point>>, Fault> {
    let key = cx.key(key);
    let zset = cx.read_collection::<ZSet>(&key)?;
    let place = |m: &&[u8]| zset.as_ref().and_then(|z| z.score(m)).map(geohash::place);
    Ok(members.iter().map(place).collect())
}

fn geodist(cx: &mut Cx, args: Args) -> Done {
    let metres = match args.get(4) {
        None => 1.0,
        Some(_) if args.len() > 5 => return Err(SYNTAX),
        Some(arg) => unit(arg)?,
    };
    match places(cx, args[1], &args[2..4])?[..] {
        [Some(a), Some(b)] => reply_distance(&mut cx.reply, geohash::distance(a, b) / metres),
        _ => cx.reply.null(),
    }
    Ok(())
}

fn geohash_text(cx: &mut Cx, args: Args) -> Done {
    let found = places(cx, args[1], &args[2..])?;
    cx.reply.array(found.len());
    for p in found {
        match p {
            Some(p) => cx.reply.bulk(&geohash::text(p)),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

fn geopos(cx: &mut Cx, args: Args) -> Done {
    let found = places(cx, args[1], &args[2..])?;
    cx.reply.array(found.len());
    for p in found {
        match p {
            Some(p) => reply_point(&mut cx.reply, p),
            None => cx.reply.null_array(),
        }
    }
    Ok(())
}
