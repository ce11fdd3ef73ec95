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
# Every node tells of its own slots: each key is heard of once.
assert sorted(r.scan_iter(match="n*")) == sorted(f"n{i}" for i in range(50))
found = [key for node in r.get_primaries() for key in r.keys("n*", target_nodes=[node])]
assert sorted(found) == sorted(f"n{i}" for i in range(50))
sizes = [r.dbsize(target_nodes=[n]) for n in r.get_primaries()]
assert sum(sizes) == 551 and all(0 < n < 551 for n in sizes), sizes
for node in r.get_primaries():
    own = set(r.keys("*", target_nodes=[node]))
    assert all(r.get_node_from_key(key).port == node.port for key in own)
    assert r.randomkey(target_nodes=[node]) in own
assert r.cluster_keyslot("foo") == 12182 and r.keyslot("foo") == 12182

# Scripts and functions are loaded on every node, and run where their keys are.
script = "return {redis.call('incr', KEYS[1]), redis.call('incr', KEYS[2])}"
sha = r.script_load(script)
for i in range(50):
    assert r.eval(script, 2, f"{{s{i}}}a", f"{{s{i}}}b") == [1, 1]
    assert r.evalsha(sha, 2, f"{{s{i}}}a", f"{{s{i}}}b") == [2, 2]
assert r.script_exists(sha) == [True]
library = "#!lua name=lib\nredis.register_function('up', function(keys) return redis.call('incr', keys[1]) end)"
assert set(r.function_load(library, replace=True).values()) == {"lib"}
assert [r.fcall("up", 1, f"f{i}") for i in range(50)] == [1] * 50
assert all(r.get(f"f{i}") == "1" for i in range(50))
assert r.execute_command("FUNCTION DELETE", "lib", target_nodes=r.get_random_node())
assert all(libraries == [] for libraries in r.function_list().values())

# The client adds up what the nodes say of their subscribers.
subscribers = [r.pubsub() for _ in range(3)]
for p in subscribers:
    p.subscribe("news", "other")
    assert [p.get_message(timeout=20)["channel"] for _ in range(2)] == ["news", "other"]
assert r.pubsub_numsub("news", "none", target_nodes="all") == [("news", 3), ("none", 0)]
assert sorted(r.pubsub_channels(target_nodes="all")) == ["news", "other"]
assert r.publish("news", "hi") == 3 and all(p.get_message(timeout=20)["data"] == "hi" for p in subscribers)
subscribers[0].psubscribe("n*")
assert subscribers[0].get_message(timeout=20)["type"] == "psubscribe" and r.pubsub_numpat(target_nodes="all") == 1
