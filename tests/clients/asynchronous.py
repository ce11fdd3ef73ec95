"""redis-py, asyncio: many tasks over one pool, pipelines, publish and subscribe."""

import asyncio
import sys

import redis.asyncio as redis


async def count(r, name, times):
    for _ in range(times):
        await r.incr(name)


async def listen(r, ready, wanted):
    got = []
    async with r.pubsub() as p:
        await p.subscribe("c")
        async for message in p.listen():
            if message["type"] == "subscribe":
                ready.set()
                continue
            got.append(message["data"])
            if len(got) == wanted:
                return got


async def main(port):
    r = redis.Redis(port=port, decode_responses=True)
    await asyncio.gather(*(count(r, f"n{i % 5}", 100) for i in range(50)))
    assert await r.mget([f"n{i}" for i in range(5)]) == ["1000"] * 5

    async with r.pipeline(transaction=True) as pipe:
        assert await pipe.set("a", 1).set("b", 2).mget("a", "b").execute() == [True, True, ["1", "2"]]

    # Scripts of many tasks over keys of all cores.
    move = r.register_script(
        "redis.call('decrby', KEYS[1], ARGV[1]) return redis.call('incrby', KEYS[2], ARGV[1])"
    )
    moves = [move(keys=[f"n{i % 5}", f"n{(i + 1) % 5}"], args=[i]) for i in range(200)]
    assert len(await asyncio.gather(*moves)) == 200
    assert sum(map(int, await r.mget([f"n{i}" for i in range(5)]))) == 5000
    assert await r.eval("return redis.call('mget', 'n0', 'a')", 0) == await r.mget("n0", "a")
    sha = await r.script_load("return {KEYS[1], ARGV[1]}")
    assert await r.script_exists(sha) == [True] and await r.evalsha(sha, 1, "k", "v") == ["k", "v"]
    code = "#!lua name=tasks\nredis.register_function('bump', function(k) return redis.call('incr', k[1]) end)"
    assert await r.function_load(code) == "tasks"
    bumped = await asyncio.gather(*(r.fcall("bump", 1, "bumped") for _ in range(100)))
    assert sorted(bumped) == list(range(1, 101))
    async with r.pipeline(transaction=True) as pipe:
        assert await pipe.fcall("bump", 1, "bumped").get("bumped").execute() == [101, "101"]
    assert await r.function_delete("tasks")

    ready = asyncio.Event()
    listener = asyncio.create_task(listen(r, ready, 100))
    await ready.wait()
    for i in range(100):
        assert await r.publish("c", i) == 1
    assert await listener == [str(i) for i in range(100)]

    waiters = [asyncio.create_task(r.blpop([f"q{i}", "all"], timeout=60)) for i in range(10)]
    while (await r.info("clients"))["blocked_clients"] < 10:
        await asyncio.sleep(0.01)
    await r.rpush("all", *range(10))
    assert sorted(await asyncio.gather(*waiters)) == [("all", str(i)) for i in range(10)]
    await r.flushall()
    await r.close()


asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 100))
