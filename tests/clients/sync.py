"""redis-py, blocking: types, pools, pipelines, transactions, publish and subscribe."""

import sys
import threading

import redis

port = int(sys.argv[1])
pool = redis.BlockingConnectionPool(host="127.0.0.1", port=port, max_connections=8, decode_responses=True)
r = redis.Redis(connection_pool=pool)

assert r.ping()
assert r.set("s", "v", ex=1000) and r.get("s") == "v" and 990 < r.ttl("s") <= 1000
assert r.set("s", "w", nx=True) is None and r.set("s", "w", get=True) == "v"
assert r.mset({f"m{i}": i for i in range(100)})
assert r.mget([f"m{i}" for i in range(100)]) == [str(i) for i in range(100)]
assert r.incrbyfloat("f", 1.5) == 1.5 and r.append("s", "x") == 2

assert r.hset("h", mapping={"a": 1, "b": 2}) == 2 and r.hgetall("h") == {"a": "1", "b": "2"}
assert r.rpush("l", *range(300)) == 300 and r.lrange("l", 298, -1) == ["298", "299"]
assert r.sadd("t", "a", "b", "c") == 3 and r.smembers("t") == {"a", "b", "c"}
assert r.zadd("z", {"x": 1, "y": 2.5}) == 2 and r.zrange("z", 0, -1, withscores=True) == [("x", 1.0), ("y", 2.5)]
assert r.geoadd("g", (13.361389, 38.115556, "Palermo")) == 1 and 13.3 < r.geopos("g", "Palermo")[0][0] < 13.4
assert r.pfadd("p", *range(1000)) == 1 and 950 < r.pfcount("p") < 1050
assert r.bitfield("b").set("u8", 0, 255).get("u4", 0).execute() == [0, 15]

first = r.xadd("x", {"k": "v"})
assert r.xgroup_create("x", "group", id="0")
[[name, [(entry, fields)]]] = r.xreadgroup("group", "me", {"x": ">"})
assert (name, entry, fields) == ("x", first, {"k": "v"})
assert r.xpending("x", "group")["pending"] == 1 and r.xack("x", "group", first) == 1
assert r.xinfo_stream("x")["length"] == 1

assert sorted(r.scan_iter(match="m*", count=7)) == sorted(f"m{i}" for i in range(100))
assert dict(r.hscan_iter("h")) == {"a": "1", "b": "2"}

with r.pipeline(transaction=False) as pipe:
    for i in range(5000):
        pipe.set(f"k{i}", i).get(f"k{i}")
    got = pipe.execute()
assert got[1::2] == [str(i) for i in range(5000)]


def deposit(times):
    """Adds to a counter by optimistic locking."""
    for _ in range(times):

        def add(pipe):
            value = int(pipe.get("account") or 0)
            pipe.multi()
            pipe.set("account", value + 1)
            pipe.incr("log{elsewhere}")

        r.transaction(add, "account")


threads = [threading.Thread(target=deposit, args=(50,)) for _ in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
assert r.get("account") == r.get("log{elsewhere}") == "300"

# Releasing a lock is a script.
lock = r.lock("lock", timeout=20)
assert lock.acquire() and not r.lock("lock").acquire(blocking=False)
lock.release()
assert r.lock("lock", timeout=20).acquire(blocking=False)

# Keys on one core and on several, and none that are named.
total = "local n = 0 for _, k in ipairs(KEYS) do n = n + redis.call('incrby', k, ARGV[1]) end return n"
assert r.eval(total, 2, "{e}1", "{e}2", 5) == 10 and r.eval(total, 3, "e1", "e2", "e3", 1) == 3
assert r.eval("return redis.call('get', 'e1')", 0) == "1" and r.eval_ro("return ARGV", 0, "x", "y") == ["x", "y"]
sha = r.script_load(total)
assert r.script_exists(sha, "0" * 40) == [True, False] and r.evalsha(sha, 3, "e1", "e2", "e3", 2) == 9
r.script_flush()
try:
    r.evalsha(sha, 0)
    raise AssertionError("a script that was flushed")
except redis.exceptions.NoScriptError:
    pass
script = r.register_script(total)  # Loads itself anew.
assert script(keys=["e1"], args=[7]) == 10 and r.script_exists(sha) == [True]
with r.pipeline(transaction=True) as pipe:
    script(keys=["e2", "e3"], args=[1], client=pipe)
    pipe.get("e2").eval("return redis.call('exists', 'e1', 'e2', 'none')", 0)
    assert pipe.execute() == [8, "4", 2]

library = """#!lua name=mine
redis.register_function('add', function(keys, args)
    local n = 0
    for _, k in ipairs(keys) do n = n + redis.call('incrby', k, args[1]) end
    return n
end)
redis.register_function{function_name='look', callback=function(keys) return redis.call('mget', unpack(keys)) end,
    flags={'no-writes'}}
"""
assert r.function_load(library) == "mine" and r.function_load(library, replace=True) == "mine"
assert r.fcall("add", 3, "f1", "f2", "f3", 4) == 12 and r.fcall_ro("look", 2, "f1", "f3") == ["4", "4"]
for name, wrong in ("add", "Can not execute a script with write flag"), ("none", "Function not found"):
    try:
        r.fcall_ro(name, 1, "f1", 1)
        raise AssertionError(name)
    except redis.ResponseError as e:
        assert wrong in str(e), e
dump = redis.Redis(port=port).function_dump()
assert r.function_delete("mine") and r.function_list() == [] and r.function_restore(dump)
assert r.fcall("add", 1, "f1", 1) == 5 and r.function_list(library="m*")[0][1] == "mine"

subscriber = r.pubsub()
subscriber.subscribe("news")
subscriber.psubscribe("sport.*")
assert [subscriber.get_message(timeout=20)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
assert r.publish("news", "a") == 1 and r.publish("sport.x", "b") == 1
messages = [subscriber.get_message(timeout=20) for _ in range(2)]
assert [(m["type"], m["channel"], m["data"]) for m in messages] == [
    ("message", "news", "a"),
    ("pmessage", "sport.x", "b"),
]
subscriber.close()

popped = []
popper = threading.Thread(target=lambda: popped.append(r.blpop(["q1", "q2", "q3"], timeout=60)))
popper.start()
r.rpush("q3", "job")
popper.join()
assert popped == [("q3", "job")] and r.blpop("q1", timeout=1) is None

try:
    r.lpush("s", "x")
    raise AssertionError("a string took an element")
except redis.ResponseError as e:
    assert str(e) == "WRONGTYPE Operation against a key holding the wrong kind of value", e

assert r.dump("h") and r.restore("h2", 0, redis.Redis(port=port).dump("h")) and r.hgetall("h2") == r.hgetall("h")
assert r.client_setname("me") and r.client_getname() == "me" and any(c["name"] == "me" for c in r.client_list())
assert r.config_get("maxclients")["maxclients"] and r.info("server")["redis_version"] and r.dbsize() > 5000
assert r.flushall() and r.dbsize() == 0
