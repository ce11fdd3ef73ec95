//! Geo commands, with replies of redis-server 7.0.15.

use super::testing::Bench;
use crate::resp::reply::Proto;

fn bench() -> Bench {
    let mut b = Bench::default();
    b.run("geoadd g 13.361389 38.115556 palermo 15.087269 37.502669 catania");
    b
}

fn check(b: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(b.run(line), *want, "{line}");
    }
}

#[test]
fn places_are_kept() {
    let mut b = bench();
    assert_eq!(b.stream, ["zadd g 3479099956230698 palermo 3479447370796909 catania"]);
    assert_eq!(b.events(), ["zadd g"]);
    check(
        &mut b,
        &[
            ("geodist g palermo catania", "$11 166274.1516"),
            ("geodist g palermo catania km", "$8 166.2742"),
            ("geodist g palermo none", "$-1"),
            ("geodist g palermo catania parsec", "-ERR unsupported unit provided. please use M, KM, FT, MI"),
            ("geodist g palermo catania m x", "-ERR syntax error"),
            ("geohash g palermo none", "*2 $11 sqc8b49rny0 $-1"),
            ("geopos g palermo none", "*2 *2 $20 13.36138933897018433 $20 38.11555639549629859 *-1"),
            ("geoadd g nx 0 0 palermo", ":0"),
            ("geoadd g nx xx 0 0 palermo", "-ERR syntax error"),
            ("geoadd g 181 0 x", "-ERR invalid longitude,latitude pair 181.000000,0.000000"),
            ("geoadd g a 0 x", "-ERR value is not a valid float"),
            ("geoadd g xx ch 13.4 38.1 palermo 0 0 none", ":1"),
            ("zcard g", ":2"),
        ],
    );
    b.proto = Proto::Resp3;
    assert_eq!(b.run("geopos g catania"), "*1 *2 ,15.08726745843887329 ,37.50266842333162032");
}

#[test]
fn searches() {
    let mut b = bench();
    check(
        &mut b,
        &[
            ("geosearch g fromlonlat 15 37 byradius 200 km asc", "*2 $7 catania $7 palermo"),
            (
                "geosearch g fromlonlat 15 37 bybox 400 400 km desc withdist",
                "*2 *2 $7 palermo $8 190.4424 *2 $7 catania $7 56.4413",
            ),
            ("geosearch g frommember palermo byradius 1 m withhash", "*1 *2 $7 palermo :3479099956230698"),
            ("geosearch g frommember none byradius 1 m", "-ERR could not decode requested zset member"),
            ("geosearch none frommember none byradius 1 m", "*0"),
            (
                "geosearch g fromlonlat 15 37 asc asc asc",
                "-ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch",
            ),
            (
                "geosearch g byradius 1 m asc asc",
                "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for geosearch",
            ),
            ("geosearch g fromlonlat 15 37 byradius 200 km any", "-ERR the ANY argument requires COUNT argument"),
            ("geosearch g fromlonlat 15 37 byradius 200 km count 0", "-ERR COUNT must be > 0"),
            ("geosearch g fromlonlat 15 37 byradius 200 km count 1", "*1 $7 catania"),
            ("geosearch g fromlonlat 15 37 byradius -1 km", "-ERR radius cannot be negative"),
            ("geosearch g fromlonlat 15 37 bybox 1 x km", "-ERR need numeric height"),
            (
                "georadius g 15 37 200 km withdist store d",
                "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
            ("georadius_ro g 15 37 200 km store d", "-ERR syntax error"),
            ("georadiusbymember g palermo 200 km desc", "*2 $7 catania $7 palermo"),
            ("georadius g 15 37 200 km storedist d", ":2"),
            ("zrange d 0 0 withscores", "*2 $7 catania $18 56.441257870158204"),
        ],
    );
    assert_eq!(b.run("geosearchstore d g fromlonlat 15 37 byradius 100 km"), ":1");
    assert_eq!((b.stream.len(), b.events(), b.dirty), (1, vec!["geosearchstore d".to_string()], 1));
    check(&mut b, &[("geosearchstore d g fromlonlat 0 0 byradius 1 km", ":0"), ("exists d", ":0")]);
}
