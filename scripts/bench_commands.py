"""Cases of scripts/bench about single families of commands."""

import itertools
import random
import subprocess
import sys
import time

from bench_lib import CPU_HEADER, Client, cpu_rows, log, number, running, table, turns

MEMBERS = 1_000_000
SUBSCRIBERS = 100

# On collections of 1M elements each; the same element or a random one.
LARGE = [
    ("ZADD", ["ZADD", "bench:zset", "__rand_int__", "member:__rand_int__"]),
    ("ZINCRBY", ["ZINCRBY", "bench:zset", "1", "member:__rand_int__"]),
    ("ZSCORE", ["ZSCORE", "bench:zset", "member:__rand_int__"]),
    ("ZRANK", ["ZRANK", "bench:zset", "member:__rand_int__"]),
    ("HSET", ["HSET", "bench:hash", "field:__rand_int__", "v" * 32]),
    ("HGET", ["HGET", "bench:hash", "field:__rand_int__"]),
    ("SADD", ["SADD", "bench:set", "member:__rand_int__"]),
    ("SISMEMBER", ["SISMEMBER", "bench:set", "member:__rand_int__"]),
    ("LPUSH", ["LPUSH", "bench:list", "v" * 32]),
    ("RPUSH", ["RPUSH", "bench:list", "v" * 32]),
    ("XADD", ["XADD", "bench:stream", "*", "field", "v" * 32]),
]

HUNDRED = [
    ("LRANGE 0 99", ["LRANGE", "small:list", "0", "99"]),
    ("ZRANGE 0 99", ["ZRANGE", "small:zset", "0", "99"]),
    ("ZRANGE 0 99 WITHSCORES", ["ZRANGE", "small:zset", "0", "99", "WITHSCORES"]),
    ("HGETALL of 100", ["HGETALL", "small:hash"]),
    ("SMEMBERS of 100", ["SMEMBERS", "small:set"]),
]

SCRIPTS = [
    ("EVAL return 1", ["EVAL", "return 1", "0"]),
    ("EVAL one GET", ["EVAL", "return redis.call('get', KEYS[1])", "1", "key:__rand_int__"]),
]


def extend(client, head, each, count, chunk=1000):
    """Adds elements 0..count to a collection, some at a time."""
    for start in range(0, count, chunk):
        words = itertools.chain.from_iterable(each(i) for i in range(start, min(start + chunk, count)))
        client.command(*head, *words)


def fill_large(server, members):
    client = Client(server.port, 600)
    extend(client, ("ZADD", "bench:zset"), lambda i: (i * 7919 % members, "member:%012d" % i), members)
    extend(client, ("HSET", "bench:hash"), lambda i: ("field:%012d" % i, "v" * 32), members)
    extend(client, ("SADD", "bench:set"), lambda i: ("member:%012d" % i,), members)
    extend(client, ("RPUSH", "bench:list"), lambda i: ("v" * 32,), members)
    for start in range(0, members, 1000):
        request = b"*5\r\n$4\r\nXADD\r\n$12\r\nbench:stream\r\n$1\r\n*\r\n$5\r\nfield\r\n$32\r\n" + b"v" * 32 + b"\r\n"
        n = min(1000, members - start)
        client.socket.sendall(request * n)
        for _ in range(n):
            client.reply()
    client.close()


def fill_hundred(server):
    client = Client(server.port)
    extend(client, ("RPUSH", "small:list"), lambda i: ("element:%d" % i,), 100)
    extend(client, ("ZADD", "small:zset"), lambda i: (i, "member:%d" % i), 100)
    extend(client, ("HSET", "small:hash"), lambda i: ("field:%d" % i, "value:%d" % i), 100)
    extend(client, ("SADD", "small:set"), lambda i: ("member:%d" % i,), 100)
    client.close()


def measured(bench, servers, cases, weight, name):
    results = {}
    for case, args in cases:
        log(f"{name}: {case}")
        requests = bench.requests(16) // weight
        results[case] = turns(
            servers, bench.args.rounds, lambda server: bench.run(server, requests, 16, args)
        )
    return cpu_rows(results, results)


def case_large(bench):
    members = MEMBERS // bench.scale
    with running(bench.ours, bench.peer) as servers:
        for server in servers:
            log(f"large: filling {server.name}")
            fill_large(server, members)
        rows = measured(bench, servers, LARGE, 2, "large")
    table(f"Collections of {members:,} elements, P=16, 50 connections", CPU_HEADER, rows)


def case_hundred(bench):
    with running(bench.ours, bench.peer) as servers:
        for server in servers:
            fill_hundred(server)
        rows = measured(bench, servers, HUNDRED, 20, "hundred")
    table("Collections of 100 elements read whole, P=16, 50 connections", CPU_HEADER, rows)


def case_scripts(bench):
    with running(bench.ours, bench.peer) as servers:
        rows = measured(bench, servers, SCRIPTS, 4, "scripts")
    table("Scripts, P=16, 50 connections", CPU_HEADER, rows)


# Subscribes so many times, says so, and reads until its input ends.
READER = """
import selectors, socket, sys
select = selectors.DefaultSelector()
for _ in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"SUBSCRIBE bench\\r\\n")
    s.recv(4096)
    s.setblocking(False)
    select.register(s, selectors.EVENT_READ)
select.register(sys.stdin, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in select.select():
        if key.fileobj is sys.stdin or not key.fileobj.recv(1 << 20):
            sys.exit()
"""


def case_publish(bench):
    def publish(server):
        argv = ["taskset", "-c", str(bench.args.load_core), sys.executable, "-c", READER]
        argv += [str(server.port), str(SUBSCRIBERS)]
        readers = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            readers.stdout.readline()
            return bench.run(server, 200_000 // bench.scale, 16, ["PUBLISH", "bench", "v" * 32])
        finally:
            readers.stdin.close()
            readers.wait()

    results = {}
    with running(bench.ours, bench.peer) as servers:
        for server in servers:
            client = Client(server.port)
            client.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
            client.close()
        case = f"PUBLISH to {SUBSCRIBERS} subscribers"
        log(f"publish: {case}")
        results[case] = turns(servers, bench.args.rounds, publish)
    table("Publish, P=16, 50 connections", CPU_HEADER, cpu_rows(results, results))


ZIPF_KEYS = 1_000_000
EVICTING_MB = 64
# A third of the keys that are accessed at all fit.
ZIPF_MB = 24


def info(client, section, field):
    for line in client.command("INFO", section).decode().splitlines():
        if line.startswith(field + ":"):
            return int(line.split(":")[1])
    raise KeyError(field)


def limit(server, megabytes):
    client = Client(server.port)
    client.command("FLUSHALL")
    client.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    client.command("CONFIG", "SET", "maxmemory", f"{int(megabytes * 1024)}kb")
    client.close()


def zipf(accesses):
    """Numbers of keys by Zipf's law with exponent 1, the same in every run."""
    rng = random.Random(1)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(ZIPF_KEYS)))
    return rng.choices(range(ZIPF_KEYS), cum_weights=weights, k=accesses)


def hit_rate(server, accesses, batch=500):
    """GET, and SET after a miss; hits over the second half of the accesses."""
    client = Client(server.port)
    value = b"v" * 64
    hits = 0
    for start in range(0, len(accesses), batch):
        keys = [b"key:%012d" % n for n in accesses[start:start + batch]]
        client.socket.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n$16\r\n" + key + b"\r\n" for key in keys))
        found = [client.reply() is not None for _ in keys]
        missed = [key for key, hit in zip(keys, found) if not hit]
        head = b"*3\r\n$3\r\nSET\r\n$16\r\n"
        client.socket.sendall(b"".join(head + key + b"\r\n$64\r\n" + value + b"\r\n" for key in missed))
        for _ in missed:
            client.reply()
        if start >= len(accesses) // 2:
            hits += sum(found)
    keys = client.command("DBSIZE")
    client.close()
    return hits / (len(accesses) - len(accesses) // 2), int(keys)


def case_eviction(bench):
    results = {}
    case = f"SET of new keys, allkeys-lru, {EVICTING_MB} MB"
    with running(bench.ours, bench.peer) as servers:
        for server in servers:
            limit(server, EVICTING_MB)
            bench.run(server, bench.requests(16), 16, ["-t", "set", "-r", "100000000"])
        log(f"eviction: {case}")
        results[case] = turns(
            servers, bench.args.rounds,
            lambda server: bench.run(server, bench.requests(16), 16, ["-t", "set", "-r", "100000000"]),
        )
        table("Eviction at steady state, P=16, 50 connections", CPU_HEADER, cpu_rows(results, results))
        accesses = zipf(2_000_000 // bench.scale)
        rows = []
        for server in servers:
            log(f"eviction: hit rate of {server.name}")
            limit(server, ZIPF_MB)
            rows.append([server.name, f"{ZIPF_MB} MB", *hit_rate(server, accesses)])
        # The policies themselves: as many keys as the peer kept.
        ours = servers[0]
        client = Client(ours.port)
        client.command("FLUSHALL")
        time.sleep(1)
        base = info(client, "memory", "used_memory") / 2**20
        client.close()
        same = base + (ZIPF_MB - base) * rows[1][3] / rows[0][3]
        limit(ours, same)
        rows.append([ours.name, f"{same:.0f} MB", *hit_rate(ours, accesses)])
    for row in rows:
        row[2:] = [f"{row[2]:.2%}", number(row[3], 0)]
    table(f"Zipf, {ZIPF_KEYS:,} keys, 64-byte values", ["server", "maxmemory", "hits", "keys kept"], rows)


CASES = {
    "large": case_large,
    "hundred": case_hundred,
    "scripts": case_scripts,
    "publish": case_publish,
    "eviction": case_eviction,
}
