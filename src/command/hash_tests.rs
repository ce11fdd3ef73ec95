//! Tests of the commands over hashes.

use super::testing::Bench;
use crate::resp::reply::Proto;

fn check(b: &mut Bench, calls: &[(&str, &str)]) {
    for (line, want) in calls {
        assert_eq!(&b.run(line), want, "{line}");
    }
}

#[test]
fn fields_are_set_and_read() {
    let mut b = Bench::default();
    check(
        &mut b,
        &[
            ("hset h a 1 b two a 3", ":2"),
            ("hget h a", "$1 3"),
            ("hget h z", "$-1"),
            ("hmget h b z a", "*3 $3 two $-1 $1 3"),
            ("hmget none a", "*1 $-1"),
            ("hgetall h", "*4 $1 a $1 3 $1 b $3 two"),
            ("hkeys h", "*2 $1 a $1 b"),
            ("hvals h", "*2 $1 3 $3 two"),
            ("hlen h", ":2"),
            ("hexists h a", ":1"),
            ("hstrlen h b", ":3"),
            ("hstrlen h z", ":0"),
            ("hsetnx h a x", ":0"),
            ("hsetnx h c x", ":1"),
            ("hdel h a z", ":1"),
            ("hdel h b c", ":2"),
            ("exists h", ":0"),
            ("hset h a", "-ERR wrong number of arguments for 'hset' command"),
            ("hset h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
            ("hmset h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
            ("hmset h a 1 b 2", "+OK"),
            ("set s v", "+OK"),
            ("hget s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ],
    );
}

#[test]
fn maps_are_maps_in_the_third_protocol() {
    let mut b = Bench { proto: Proto::Resp3, ..Bench::default() };
    b.run("hset h a 1");
    check(
        &mut b,
        &[
            ("hgetall h", "%1 $1 a $1 1"),
            ("hgetall none", "%0"),
            ("hkeys none", "*0"),
            ("hget h z", "_"),
            ("hrandfield h 1 withvalues", "*1 *2 $1 a $1 1"),
            ("hrandfield h -2 withvalues", "*2 *2 $1 a $1 1 *2 $1 a $1 1"),
            ("hrandfield h 1", "*1 $1 a"),
        ],
    );
}

#[test]
fn effects_are_those_of_redis() {
    let mut b = Bench::default();
    b.run("hset h a 1 b 2");
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("hset h a 1 b 2".into(), vec!["hset h".into()], 2));
    b.run("hincrbyfloat h a 0.1");
    let want = ("HSET h a 1.1".to_string(), vec!["hincrbyfloat h".to_string()], 1);
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), want);
    b.run("hincrby h b 5");
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("hincrby h b 5".into(), vec!["hincrby h".into()], 1));
    b.run("hdel h a b c");
    assert_eq!((b.events(), b.dirty), (vec!["hdel h".into(), "del h".into()], 2));
    b.run("hdel h a");
    assert_eq!((b.events().len(), b.stream.len(), b.dirty), (0, 0, 0));
}

#[test]
fn numbers_in_fields_count() {
    let mut b = Bench::default();
    check(
        &mut b,
        &[
            ("hincrby h n 9223372036854775807", ":9223372036854775807"),
            ("hincrby h n 1", "-ERR increment or decrement would overflow"),
            ("hincrby h n x", "-ERR value is not an integer or out of range"),
            ("hset h t text", ":1"),
            ("hincrby h t 1", "-ERR hash value is not an integer"),
            ("hincrbyfloat h t 1", "-ERR hash value is not a float"),
            ("hincrbyfloat h f 0.1", "$3 0.1"),
            ("hincrbyfloat h f 0.2", "$3 0.3"),
            ("hincrbyfloat h f x", "-ERR value is not a valid float"),
            ("hincrbyfloat h f inf", "-ERR value is NaN or Infinity"),
            ("hincrbyfloat none f nan", "-ERR value is not a valid float"),
            ("exists none", ":0"),
        ],
    );
}

#[test]
fn encodings_follow_the_thresholds() {
    let mut b = Bench::default();
    b.options.hash_max_listpack_entries = 3;
    b.options.hash_max_listpack_value = 8;
    for (line, key, want) in [
        ("hset h a 12345678 b 2 c 3", "h", "listpack"),
        ("hset h a 1", "h", "listpack"),
        ("hset h d 4", "h", "hashtable"),
        ("hset v a 1", "v", "listpack"),
        ("hset v a 123456789", "v", "hashtable"),
        ("hset f long-field-name 1", "f", "hashtable"),
        ("hset n a 1 b 2 c 3 d 4", "n", "hashtable"),
    ] {
        b.run(line);
        assert_eq!(b.run(&format!("object encoding {key}")), format!("${} {want}", want.len()), "{line}");
    }
    assert_eq!(b.run("hget h a"), "$1 1");
}

#[test]
fn random_fields_are_distinct_unless_wanted_otherwise() {
    let mut b = Bench::default();
    for n in [10, 500] {
        (0..n).for_each(|i| {
            b.run(&format!("hset h{n} f{i} v{i}"));
        });
        for k in [1, n / 10, n / 2, n, n + 1] {
            let reply = b.run(&format!("hrandfield h{n} {k} withvalues"));
            let fields: std::collections::HashSet<&str> = reply.split(' ').filter(|w| w.starts_with('f')).collect();
            assert_eq!(fields.len(), k.min(n));
            assert!(reply.starts_with(&format!("*{} ", 2 * k.min(n))));
        }
    }
    check(
        &mut b,
        &[
            ("hrandfield none", "$-1"),
            ("hrandfield none 2", "*0"),
            ("hrandfield h10 1 foo", "-ERR syntax error"),
            ("hrandfield h10 x foo", "-ERR value is not an integer or out of range"),
            ("hrandfield h10 9223372036854775807 withvalues", "-ERR value is out of range"),
        ],
    );
}

#[test]
fn hscan_gives_pairs() {
    let mut b = Bench::default();
    b.run("hset h a 1 b 2");
    check(
        &mut b,
        &[
            ("hscan h 0", "*2 $1 0 *4 $1 a $1 1 $1 b $1 2"),
            ("hscan h 0 match b count 1", "*2 $1 0 *2 $1 b $1 2"),
            ("hscan none 0", "*2 $1 0 *0"),
            ("hscan h 0 novalues", "*2 $1 0 *2 $1 a $1 b"),
            ("hscan h 0 NOVALUES match b count 1", "*2 $1 0 *1 $1 b"),
            ("hscan h 0 match b novalues", "*2 $1 0 *1 $1 b"),
            ("hscan h 0 match", "-ERR syntax error"),
            ("sscan none 0 novalues", "*2 $1 0 *0"),
            ("hscan h -1", "*2 $1 0 *4 $1 a $1 1 $1 b $1 2"),
            ("hscan h -", "-ERR invalid cursor"),
        ],
    );
}
