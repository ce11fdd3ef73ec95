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
