//! Tests of the commands over lists.

use super::testing::Bench;

fn check(b: &mut Bench, calls: &[(&str, &str)]) {
    for (line, want) in calls {
        assert_eq!(&b.run(line), want, "{line}");
    }
}

#[test]
fn elements_go_in_and_out_at_both_ends() {
    let mut b = Bench::default();
    check(
        &mut b,
        &[
            ("rpush l a b 3", ":3"),
            ("lpush l x -5", ":5"),
            ("lrange l 0 -1", "*5 $2 -5 $1 x $1 a $1 b $1 3"),
            ("lpop l", "$2 -5"),
            ("rpop l 2", "*2 $1 3 $1 b"),
            ("lpop l 0", "*0"),
            ("lpop l -1", "-ERR value is out of range, must be positive"),
            ("lpop l 1 2", "-ERR wrong number of arguments for 'lpop' command"),
            ("llen l", ":2"),
            ("lpushx none a", ":0"),
            ("rpushx l z", ":3"),
            ("lpop none", "$-1"),
            ("lpop none 3", "*-1"),
            ("lpop l 9223372036854775807", "*3 $1 x $1 a $1 z"),
            ("exists l", ":0"),
            ("set s v", "+OK"),
            ("lpush s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ],
    );
}

#[test]
fn effects_are_those_of_redis() {
    let mut b = Bench::default();
    b.run("rpush l a b c d");
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("rpush l a b c d".into(), vec!["rpush l".into()], 4));
    b.run("lmpop 2 none l left count 2");
    assert_eq!((b.stream.join("|"), b.events(), b.dirty), ("LPOP l 2".into(), vec!["lpop l".into()], 2));
    b.run("lmove l m right left");
    assert_eq!(b.events(), ["lpush m", "rpop l"]);
    assert_eq!((b.stream.join("|"), b.dirty), ("lmove l m right left".into(), 1));
    b.run("rpoplpush l m");
    assert_eq!(b.events(), ["lpush m", "rpop l", "del l"]);
    b.run("ltrim m 5 7");
    assert_eq!((b.events(), b.dirty), (vec!["ltrim m".into(), "del m".into()], 2));
    b.run("lrem m 0 a");
    assert_eq!((b.events().len(), b.stream.len(), b.dirty), (0, 0, 0));
}

#[test]
fn indices_may_be_absurd() {
    let mut b = Bench::default();
    b.run("rpush l a b c");
    check(
        &mut b,
        &[
            ("lindex l -1", "$1 c"),
            ("lindex l 3", "$-1"),
            ("lindex l -9223372036854775808", "$-1"),
            ("lrange l -9223372036854775808 9223372036854775807", "*3 $1 a $1 b $1 c"),
            ("lrange l 2 1", "*0"),
            ("lset l 5 x", "-ERR index out of range"),
            ("lset l -3 x", "+OK"),
            ("lset none 0 x", "-ERR no such key"),
            ("lset l x y", "-ERR value is not an integer or out of range"),
            ("linsert l before b n", ":4"),
            ("linsert l after none n", ":-1"),
            ("linsert l beside b n", "-ERR syntax error"),
            ("linsert none after b n", ":0"),
            ("lrange l 0 -1", "*4 $1 x $1 n $1 b $1 c"),
            ("lrem l -9223372036854775808 c", ":1"),
        ],
    );
}

#[test]
fn lpos_counts_from_either_end() {
    let mut b = Bench::default();
    b.run("rpush l a b 1 c a 1 a");
    check(
        &mut b,
        &[
            ("lpos l a", ":0"),
            ("lpos l 1 rank 2", ":5"),
            ("lpos l a rank -1", ":6"),
            ("lpos l a count 0", "*3 :0 :4 :6"),
            ("lpos l a rank -2 count 5", "*2 :4 :0"),
            ("lpos l a count 0 maxlen 5", "*2 :0 :4"),
            ("lpos l z", "$-1"),
            ("lpos l z count 1", "*0"),
            (
                "lpos l a rank 0",
                "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
             or use negative to start from the end of the list",
            ),
            (
                "lpos l a rank -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
            ("lpos l a count -1", "-ERR COUNT can't be negative"),
            ("lpos l a maxlen -1", "-ERR MAXLEN can't be negative"),
            ("lpos l a rank", "-ERR syntax error"),
        ],
    );
}

#[test]
fn a_list_moves_onto_itself() {
    let mut b = Bench::default();
    b.run("rpush l a b c");
    check(
        &mut b,
        &[
            ("rpoplpush l l", "$1 c"),
            ("lrange l 0 -1", "*3 $1 c $1 a $1 b"),
            ("lmove l l left left", "$1 c"),
            ("lmove l l up down", "-ERR syntax error"),
            ("lmove none l left left", "$-1"),
            ("rpush one x", ":1"),
            ("rpoplpush one one", "$1 x"),
            ("llen one", ":1"),
        ],
    );
    b.run("set s v");
    assert!(b.run("rpoplpush l s").starts_with("-WRONGTYPE"));
    assert_eq!((b.run("llen l"), b.stream.len()), (":3".into(), 0));
}

#[test]
fn a_list_becomes_a_quicklist_and_back() {
    let mut b = Bench::default();
    b.options.list_max_listpack_size = 4;
    b.run("rpush l a b c d");
    assert_eq!(b.run("object encoding l"), "$8 listpack");
    b.run("rpush l e");
    assert_eq!(b.run("object encoding l"), "$9 quicklist");
    b.run("lpop l 2");
    assert_eq!(b.run("object encoding l"), "$9 quicklist");
    b.run("lpop l 2");
    assert_eq!(b.run("object encoding l"), "$8 listpack", "half of the threshold, in one node");
    b.options.list_max_listpack_size = -1;
    let huge = vec![b'h'; 5000];
    b.raw(&[b"rpush", b"h", &huge]);
    assert_eq!(b.run("object encoding h"), "$9 quicklist");
    assert_eq!(b.run("lset h 0 small"), "+OK");
    assert_eq!((b.run("lrange h 0 -1"), b.run("object encoding h")), ("*1 $5 small".into(), "$8 listpack".into()));
}

#[test]
fn lmpop_refuses_what_redis_refuses() {
    let mut b = Bench::default();
    b.run("rpush l a");
    check(
        &mut b,
        &[
            ("lmpop 0 l left", "-ERR numkeys should be greater than 0"),
            ("lmpop x l left", "-ERR numkeys should be greater than 0"),
            ("lmpop 2 l left", "-ERR syntax error"),
            ("lmpop 9223372036854775807 l left", "-ERR syntax error"),
            ("lmpop 1 l up", "-ERR syntax error"),
            ("lmpop 1 l left count 0", "-ERR count should be greater than 0"),
            ("lmpop 1 l left count 1 count 1", "-ERR syntax error"),
            ("lmpop 1 none left", "*-1"),
            ("lmpop 1 l left count 10", "*2 $1 l *1 $1 a"),
        ],
    );
    assert_eq!((b.stream.join("|"), b.events()), ("LPOP l 1".into(), vec!["lpop l".into(), "del l".into()]));
}
