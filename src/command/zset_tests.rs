//! Tests of the commands over sorted sets.

use super::testing::Bench;
use crate::resp::reply::Proto;

fn check(b: &mut Bench, calls: &[(&str, &str)]) {
    for (line, want) in calls {
        assert_eq!(&b.run(line), want, "{line}");
    }
}

/// A bench with `z` in either encoding.
fn both() -> [Bench; 2] {
    [128, 0].map(|entries| {
        let mut b = Bench::default();
        b.options.zset_max_listpack_entries = entries;
        b.run("zadd z 1 a 2 b 2 bb 3 c 4.5 d");
        b
    })
}

#[test]
fn zadd_obeys_its_options() {
    for mut b in both() {
        check(
            &mut b,
            &[
                ("zadd z 1 a 9 new", ":1"),
                ("zadd z ch 2 a 9 new", ":1"),
                ("zadd z nx 7 a 7 x", ":1"),
                ("zscore z a", "$1 2"),
                ("zadd z xx 7 a 7 y", ":0"),
                ("zscore z y", "$-1"),
                ("zadd z gt ch 6 a 8 b", ":1"),
                ("zadd z lt ch 6 a 1 b", ":2"),
                ("zadd z incr 0.5 b", "$3 1.5"),
                ("zadd z nx incr 1 b", "$-1"),
                ("zadd z gt incr -1 b", "$-1"),
                ("zincrby z 2 fresh", "$1 2"),
                ("zadd none xx 1 a", ":0"),
                ("zadd none xx incr 1 a", "$-1"),
                ("exists none", ":0"),
                ("zadd z inf i", ":1"),
                ("zincrby z -inf i", "-ERR resulting score is not a number (NaN)"),
                ("zadd z nx xx 1 a", "-ERR XX and NX options at the same time are not compatible"),
                ("zadd z gt lt 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
                ("zadd z incr 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
                ("zadd z 1 a 2", "-ERR syntax error"),
                ("zadd z ch nx", "-ERR syntax error"),
                ("zadd z 1 a x b", "-ERR value is not a valid float"),
                ("zadd z nan a", "-ERR value is not a valid float"),
            ],
        );
    }
}

#[test]
fn effects_are_those_of_redis() {
    for mut b in both() {
        b.run("zadd z 1 a 5 b 6 n");
        assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("zadd z 1 a 5 b 6 n".into(), vec!["zadd z".into()], 2));
        b.run("zadd z 1 a");
        assert_eq!((b.stream.len(), b.events.len(), b.dirty), (0, 0, 0));
        b.run("zincrby z 1 a");
        assert_eq!((b.stream.join("|"), b.events()), ("zincrby z 1 a".into(), vec!["zincr z".into()]));
        b.run("zmpop 2 none z min count 2");
        assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("ZPOPMIN z 2".into(), vec!["zpopmin z".into()], 2));
        b.run("zpopmax z 2");
        assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("zpopmax z 2".into(), vec!["zpopmax z".into()], 2));
        b.run("zremrangebyrank z 0 -1");
        assert_eq!((b.events(), b.dirty), (vec!["zremrangebyrank z".into(), "del z".into()], 2));
        b.run("zrem z a");
        assert_eq!((b.stream.len(), b.events.len(), b.dirty), (0, 0, 0));
    }
}

#[test]
fn members_have_ranks() {
    for mut b in both() {
        check(
            &mut b,
            &[
                ("zrank z a", ":0"),
                ("zrank z bb", ":2"),
                ("zrevrank z a", ":4"),
                ("zrank z none", "$-1"),
                ("zrank z bb withscore", "*2 :2 $1 2"),
                ("zrevrank z d withscore", "*2 :0 $3 4.5"),
                ("zrank z none withscore", "*-1"),
                ("zrank z a foo", "-ERR syntax error"),
                ("zrank z a withscore x", "-ERR wrong number of arguments for 'zrank' command"),
                ("zmscore z a none d", "*3 $1 1 $-1 $3 4.5"),
                ("zcard z", ":5"),
                ("zcount z (1 3", ":3"),
                ("zcount z -inf +inf", ":5"),
                ("zcount z x 1", "-ERR min or max is not a float"),
                ("zcount z ( 3", ":4"),
                ("zlexcount z - +", ":5"),
                ("zlexcount z x +", "-ERR min or max not valid string range item"),
            ],
        );
    }
}

#[test]
fn ranges_by_rank_score_and_member() {
    for mut b in both() {
        check(
            &mut b,
            &[
                ("zrange z 1 2", "*2 $1 b $2 bb"),
                ("zrange z -2 -1 rev withscores", "*4 $1 b $1 2 $1 a $1 1"),
                (
                    "zrange z 0 0 limit 0 1",
                    "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
                ),
                ("zrange z 2 3 byscore", "*3 $1 b $2 bb $1 c"),
                ("zrange z (3 -inf byscore rev limit 1 5", "*2 $1 b $1 a"),
                ("zrangebyscore z (1 +inf limit 1 2", "*2 $2 bb $1 c"),
                ("zrangebyscore z 1 2 limit -1 2", "*0"),
                ("zrangebyscore z 1 2 limit 1 -9", "*2 $1 b $2 bb"),
                ("zrevrangebyscore z +inf 3 withscores", "*4 $1 d $3 4.5 $1 c $1 3"),
                ("zrevrange z 0 0", "*1 $1 d"),
                ("zrange z 3 2 byscore", "*0"),
                ("zrange z 5 -1", "*0"),
                ("zrange z 0 1 bylex byscore", "-ERR syntax error"),
                (
                    "zrange z - + bylex withscores",
                    "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
                ),
                ("zrangestore d z 2 3 byscore limit 1 1", ":1"),
                ("zrange d 0 -1 withscores", "*2 $2 bb $1 2"),
                ("zrangestore d z 9 10", ":0"),
                ("exists d", ":0"),
                ("zadd lex 0 a 0 b 0 c 0 d", ":4"),
                ("zrangebylex lex [b (d", "*2 $1 b $1 c"),
                ("zrevrangebylex lex + (b limit 0 1", "*1 $1 d"),
                ("zrange lex + - bylex rev", "*4 $1 d $1 c $1 b $1 a"),
                ("zrangebylex lex + -", "*0"),
                ("zremrangebylex lex - (b", ":1"),
                ("zremrangebyscore z (1 2", ":2"),
                ("zremrangebyrank z -1 -1", ":1"),
                ("zrange z 0 -1", "*2 $1 a $1 c"),
            ],
        );
    }
}

#[test]
fn doubles_and_pairs_in_the_third_protocol() {
    for mut b in both() {
        b.proto = Proto::Resp3;
        check(
            &mut b,
            &[
                ("zscore z d", ",4.5"),
                ("zrange z 0 1 withscores", "*2 *2 $1 a ,1 *2 $1 b ,2"),
                ("zpopmin z", "*2 $1 a ,1"),
                ("zpopmin z 1", "*1 *2 $1 b ,2"),
                ("zmpop 1 z max", "*2 $1 z *1 *2 $1 d ,4.5"),
                ("zincrby z 0.1 c", ",3.1000000000000001"),
                ("zunion 1 z withscores", "*2 *2 $2 bb ,2 *2 $1 c ,3.1000000000000001"),
            ],
        );
        assert!(b.run("zrandmember z 2 withscores").starts_with("*2 *2 $"));
        assert_eq!((b.run("zrem z c"), b.run("zscan z 0")), (":1".into(), "*2 $1 0 *2 $2 bb $1 2".into()));
    }
}

#[test]
fn taking_from_the_ends() {
    for mut b in both() {
        check(
            &mut b,
            &[
                ("zpopmin z 0", "*0"),
                ("zpopmin z -1", "-ERR value is out of range, must be positive"),
                ("zpopmin z 1 2", "-ERR syntax error"),
                ("zpopmin none", "*0"),
                ("zpopmax z", "*2 $1 d $3 4.5"),
                ("zmpop 1 z up", "-ERR syntax error"),
                ("zmpop 1 none min", "*-1"),
                ("zmpop 1 z min count 9", "*2 $1 z *4 *2 $1 a $1 1 *2 $1 b $1 2 *2 $2 bb $1 2 *2 $1 c $1 3"),
                ("exists z", ":0"),
            ],
        );
    }
}

#[test]
fn sorted_sets_and_sets_are_joined() {
    for mut b in both() {
        b.run("zadd y 10 b 20 c 30 x");
        b.run("sadd s b x");
        check(
            &mut b,
            &[
                ("zunion 2 z y withscores", "*12 $1 a $1 1 $2 bb $1 2 $1 d $3 4.5 $1 b $2 12 $1 c $2 23 $1 x $2 30"),
                ("zinter 3 z y s withscores", "*2 $1 b $2 13"),
                ("zinter 2 z y weights 2 -1 aggregate max withscores", "*4 $1 b $1 4 $1 c $1 6"),
                ("zinter 2 z y aggregate min withscores", "*4 $1 b $1 2 $1 c $1 3"),
                ("zadd inf -inf m", ":1"),
                ("zinter 2 inf inf aggregate max weights 2 -0 withscores", "*2 $1 m $4 -inf"),
                ("zinter 2 inf inf aggregate max weights 0 1 withscores", "*2 $1 m $1 0"),
                ("zdiff 2 z y", "*3 $1 a $2 bb $1 d"),
                ("zdiff 2 s z withscores", "*2 $1 x $1 1"),
                ("zintercard 2 z y", ":2"),
                ("zintercard 2 z y limit 1", ":1"),
                ("zinterstore d 2 z none", ":0"),
                ("zunion 0 z", "-ERR at least 1 input key is needed for 'zunion' command"),
                ("zunionstore d 0 z", "-ERR at least 1 input key is needed for 'zunionstore' command"),
                ("zunion 3 z y", "-ERR syntax error"),
                ("zunion 2 z y weights 1 x", "-ERR weight value is not a float"),
                ("zunion 2 z y weights 1", "-ERR syntax error"),
                ("zdiff 2 z y weights 1 1", "-ERR syntax error"),
                ("zunionstore d 2 z y withscores", "-ERR syntax error"),
                ("zunionstore d 2 z y weights inf 0", ":6"),
            ],
        );
        assert_eq!((b.events(), b.dirty), (vec!["zunionstore d".into()], 1));
        assert_eq!(b.run("zadd inf -inf b inf c"), ":2");
        assert_eq!(b.run("zinter 2 d inf withscores"), "*4 $1 b $1 0 $1 c $3 inf");
        b.run("set str v");
        assert!(b.run("zunion 2 z str").starts_with("-WRONGTYPE"));
    }
}

#[test]
fn encodings_follow_the_thresholds() {
    let mut b = Bench::default();
    b.options.zset_max_listpack_entries = 3;
    b.options.zset_max_listpack_value = 8;
    for (line, key, want) in [
        ("zadd z 1 a 2 b 3 c", "z", "listpack"),
        ("zadd z 9 a", "z", "listpack"),
        ("zadd z 4 d", "z", "skiplist"),
        ("zadd v 1 12345678", "v", "listpack"),
        ("zadd v 1 123456789", "v", "skiplist"),
        ("zadd n 1 a 2 b 3 c 4 d", "n", "skiplist"),
        ("zrangestore r n 0 2", "r", "listpack"),
    ] {
        b.run(line);
        assert_eq!(b.run(&format!("object encoding {key}")), format!("${} {want}", want.len()), "{line}");
    }
    assert_eq!(b.run("zrange z 0 -1 withscores"), "*8 $1 b $1 2 $1 c $1 3 $1 d $1 4 $1 a $1 9");
}
