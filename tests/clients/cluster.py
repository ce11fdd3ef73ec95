"""redis-py's cluster client, each core of the server being a node to it."""

import sys

from redis.cluster import RedisCluster

r = RedisCluster(host="127.0.0.1", port=int(sys.argv[1]), decode_responses=True)
assert len(r.get_primaries()) == 4, r.get_nodes()
for i in range(500):
    assert r.set(f"k{i}", i)
assert all(r.get(f"k{i}") == str(i) for i in range(500))
assert r.mset_nonatomic({f"n{i}": i for i in range(50)}) and r.mget_nonatomic([f"n{i}" for i in range(50)]) == [
    str(i) for i in range(50)
]
with r.pipeline() as pipe:
    for i in range(500):
        pipe.incr(f"k{i}")
    assert pipe.execute() == [i + 1 for i in range(500)]
assert r.rename("{tag}a", "{tag}b") if r.set("{tag}a", 1) else False
# Every node tells of the whole server, for it is one database.
assert sorted(set(r.scan_iter(match="n*"))) == sorted(f"n{i}" for i in range(50))
assert set(r.dbsize(target_nodes=[n]) for n in r.get_primaries()) == {551}
assert r.cluster_keyslot("foo") == 12182 and r.keyslot("foo") == 12182
