"""redis-py as applications use it: pools under many threads, transactions that are
tried again, locks, queues, consumer groups, channels of every kind, caches.

Its argument is where the server is: a port, or a URL (unix://, rediss://)."""

import itertools
import sys
import threading
import time

import redis

where = sys.argv[1] if "://" in sys.argv[1] else f"redis://127.0.0.1:{sys.argv[1]}"


def connect(**options):
    return redis.Redis.from_url(where, decode_responses=True, **options)


def together(work, *arguments):
    """Runs work(argument) in a thread each; what they returned, or the first failure."""
    results = [None] * len(arguments)

    def run(i):
        try:
            results[i] = (True, work(arguments[i]))
        except BaseException as e:  # For the main thread.
            results[i] = (False, e)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(arguments))]
    [t.start() for t in threads]
    [t.join(100) for t in threads]
    assert None not in results, "a thread did not end"
    for well, value in results:
        if not well:
            raise value
    return [value for _, value in results]


def eventually(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)


r = connect()
r.flushall()

# A pool of few connections for many threads: every thread reads what it wrote.
shared = redis.Redis(
    connection_pool=redis.BlockingConnectionPool.from_url(where, max_connections=6, timeout=60, decode_responses=True)
)


def session(name):
    for i in range(40):
        with shared.pipeline(transaction=i % 2 == 0) as pipe:
            pipe.hset(f"session:{name}", mapping={"visits": i, "who": name}).expire(f"session:{name}", 1000)
            pipe.incr("visits").sadd(f"day:{i % 7}", name).zincrby("rank", 1, name).hgetall(f"session:{name}")
            got = pipe.execute()
        assert got[1] is True and got[5] == {"visits": str(i), "who": str(name)}, got
        assert shared.hget(f"session:{name}", "visits") == str(i)


together(session, *range(20))
assert r.get("visits") == "800" and r.zcard("rank") == 20 and r.zscore("rank", 7) == 40
assert [r.scard(f"day:{d}") for d in range(7)] == [20] * 7
assert r.sinter([f"day:{d}" for d in range(7)]) == {str(i) for i in range(20)}
assert shared.connection_pool.max_connections == 6 and len(r.client_list(_type="normal")) <= 7


# Money moves between accounts on several cores; who was overtaken tries again.
accounts = [f"account:{i}" for i in range(6)]
r.mset({a: 100 for a in accounts})
overtaken = itertools.count()


def move(seed):
    c = connect()
    for i in range(25):
        a, b = accounts[(seed + i) % 6], accounts[(seed * 3 + i * 5 + 1) % 6]
        if a == b:
            continue
        while True:
            with c.pipeline() as pipe:
                try:
                    pipe.watch(a, b)
                    had, other = int(pipe.get(a)), int(pipe.get(b))
                    pipe.multi()
                    pipe.set(a, had - 1).set(b, other + 1).rpush("book", f"{a}>{b}")
                    assert pipe.execute()[:2] == [True, True]
                    break
                except redis.WatchError:
                    next(overtaken)


together(move, *range(6))
assert sum(map(int, r.mget(accounts))) == 600
moved = {a: 100 for a in accounts}
for line in r.lrange("book", 0, -1):
    source, target = line.split(">")
    moved[source] -= 1
    moved[target] += 1
assert moved == {a: int(v) for a, v in zip(accounts, r.mget(accounts))}
# A change by the watcher itself, a key that expires or is deleted, another database.
with r.pipeline() as pipe:
    pipe.watch("account:0")
    pipe.set("account:0", 1)
    pipe.multi()
    try:
        pipe.get("account:0").execute()
        raise AssertionError("a watched key had changed")
    except redis.WatchError:
        pass
with r.pipeline() as pipe:
    pipe.watch("account:0", "nothing")
    connect(db=3).set("account:0", 1)
    pipe.multi()
    assert pipe.get("account:0").execute() == ["1"]
# An error among the commands leaves the others done, and tells which it was.
with r.pipeline() as pipe:
    try:
        pipe.set("text", "t").incr("text").set("after{elsewhere}", 1).execute()
        raise AssertionError("INCR of a text")
    except redis.ResponseError as e:
        assert str(e).startswith("Command # 2 (INCRBY text 1) of pipeline caused error: value is not an integer"), e
assert r.get("after{elsewhere}") == "1"
with r.pipeline() as pipe:
    replies = pipe.set("text", "t").incr("text").get("text").execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] == "t"

# A lock of all threads: nobody is inside with another.
inside = []


def locked(name):
    c = connect()
    for _ in range(5):
        with c.lock("mutex", timeout=30, blocking_timeout=90, sleep=0.005):
            inside.append(name)
            value = int(c.get("guarded") or 0)
            assert inside == [name]
            c.set("guarded", value + 1)
            inside.remove(name)


together(locked, *range(8))
assert r.get("guarded") == "40" and not r.exists("mutex")
lock = r.lock("mutex", timeout=5)
assert lock.acquire() and lock.locked() and lock.owned() and lock.extend(20) and 20000 < r.pttl("mutex") <= 25000
assert lock.extend(10, replace_ttl=True) and r.pttl("mutex") <= 10000 and lock.reacquire() and r.pttl("mutex") <= 5000
assert not r.lock("mutex").acquire(blocking=False)
r.set("mutex", "taken by force")
try:
    lock.release()
    raise AssertionError("released what another has")
except redis.exceptions.LockNotOwnedError:
    pass
r.delete("mutex")

# Workers wait for jobs on several lists; each job goes to one of them, in order.
queues = [f"jobs:{i}" for i in range(4)]


def worker(_):
    c, done = connect(), []
    while True:
        got = c.blpop(queues + ["stop"], timeout=60)
        if got[0] == "stop":
            return done
        done.append(got[1])


def produce(_):
    eventually(lambda: r.info("clients")["blocked_clients"] == 10)
    c = connect()
    for i in range(200):
        c.rpush(queues[i % 4], i)
    eventually(lambda: not c.exists(*queues))
    c.rpush("stop", *range(10))
    return []


done = together(lambda i: produce(i) if i == 10 else worker(i), *range(11))
assert sorted(int(job) for jobs in done for job in jobs) == list(range(200))
# From list to list, the reliable way, and the best of a sorted set.
mover = together(
    lambda i: connect().blmove("in", f"taken:{i}", 60, "LEFT", "RIGHT") if i < 5 else r.rpush("in", *range(5)),
    *range(6),
)
assert sorted(mover[:5]) == list("01234") and sum(r.llen(f"taken:{i}") for i in range(5)) == 5
best = together(
    lambda i: connect().bzpopmax(["board:a", "board:b"], 60) if i < 3 else r.zadd("board:b", {"x": 1, "y": 2, "z": 3}),
    *range(4),
)
assert sorted(best[:3]) == [("board:b", "x", 1.0), ("board:b", "y", 2.0), ("board:b", "z", 3.0)]
begun = time.monotonic()
assert r.blpop(queues, timeout=1) is None and 0.9 < time.monotonic() - begun < 20

# A consumer group: one consumer reads and dies, others claim what it left.
events = ["events", "events{elsewhere}"]
for stream in events:
    assert r.xgroup_create(stream, "workers", id="0", mkstream=True)
    with r.pipeline(transaction=False) as pipe:
        [pipe.xadd(stream, {"n": i}) for i in range(60)]
        pipe.execute()
    [[_, left]] = r.xreadgroup("workers", "dead", {stream: ">"}, count=20)
    assert [fields["n"] for _, fields in left] == [str(i) for i in range(20)]


def consumer(name):
    c, got = connect(), []
    while True:
        reply = c.xreadgroup("workers", name, {stream: ">" for stream in events}, count=5, block=100)
        if not reply:
            return got
        for stream, entries in reply:
            got += [(stream, int(fields["n"])) for _, fields in entries]
            assert c.xack(stream, "workers", *(i for i, _ in entries)) == len(entries)


read = together(consumer, "one", "two", "three")
assert sorted(sum(read, [])) == [(s, n) for s in events for n in range(20, 60)]
for stream in events:
    assert r.xpending(stream, "workers")["consumers"] == [{"name": "dead", "pending": 20}]
    claimed, at = [], "0-0"
    while True:
        at, entries = r.xautoclaim(stream, "workers", "heir", 0, start_id=at, count=7)[:2]
        claimed += [int(fields["n"]) for _, fields in entries]
        if at == "0-0":
            break
    assert claimed == list(range(20))
    pending = r.xpending_range(stream, "workers", "-", "+", 100, consumername="heir")
    assert len(pending) == 20 and all(p["times_delivered"] == 2 for p in pending)
    assert r.xack(stream, "workers", *(p["message_id"] for p in pending)) == 20
    assert r.xinfo_groups(stream)[0]["pending"] == 0 and r.xgroup_delconsumer(stream, "workers", "dead") == 0
    assert r.xtrim(stream, maxlen=10, approximate=False) == 50 and r.xlen(stream) == 10

# Channels, patterns (their ends come in their order), and shard channels.
listener = r.pubsub(ignore_subscribe_messages=True)
heard = []
listener.subscribe(**{"plain": lambda m: heard.append(("plain", m["data"]))})
listener.psubscribe(**{"room.*": lambda m: heard.append((m["channel"], m["data"]))})
thread = listener.run_in_thread(sleep_time=0.01, daemon=True)
eventually(lambda: r.pubsub_numsub("plain") == [("plain", 1)] and r.pubsub_numpat() == 1)


def speak(name):
    c = connect()
    assert [c.publish("plain", f"{name}:{i}") for i in range(30)] == [1] * 30
    assert [c.publish(f"room.{name}", i) for i in range(30)] == [1] * 30


together(speak, *range(5))
eventually(lambda: len(heard) == 300)
for name in range(5):
    assert [d for c, d in heard if c == "plain" and d.startswith(f"{name}:")] == [f"{name}:{i}" for i in range(30)]
    assert [d for c, d in heard if c == f"room.{name}"] == [str(i) for i in range(30)]
thread.stop()
thread.join(30)
eventually(lambda: r.pubsub_channels() == [] and r.pubsub_numpat() == 0)
patterns = [f"p{i}*" for i in range(12)]
listener = r.pubsub()
listener.psubscribe(*patterns)
assert [listener.get_message(timeout=20)["channel"] for _ in patterns] == patterns
listener.punsubscribe()
assert [listener.get_message(timeout=20)["channel"] for _ in patterns] == patterns
listener.execute_command("SSUBSCRIBE", "{s}1", "{s}2")
assert [listener.connection.read_response() for _ in range(2)] == [["ssubscribe", "{s}1", 1], ["ssubscribe", "{s}2", 2]]
assert r.execute_command("SPUBLISH", "{s}2", "x") == 1 and r.publish("{s}2", "not to shards") == 0
assert listener.connection.read_response() == ["smessage", "{s}2", "x"]
listener.close()

# Scans while others write: what was there all the time is found, whatever comes and goes.
with r.pipeline(transaction=False) as pipe:
    [pipe.set(f"stay:{i}", i) for i in range(2000)]
    pipe.execute()
finished = threading.Event()


def churn(name):
    c = connect()
    for i in itertools.count():
        if finished.is_set():
            return
        c.mset({f"churn:{name}:{i}:{j}": j for j in range(20)})
        c.delete(*(f"churn:{name}:{i - 3}:{j}" for j in range(20)))


def scan(_):
    try:
        for count in (10, 300):
            assert set(r.scan_iter(match="stay:*", count=count)) == {f"stay:{i}" for i in range(2000)}
        assert len(set(r.scan_iter(match="events*", _type="stream"))) == 2
    finally:
        finished.set()


together(lambda i: churn(i) if i < 3 else scan(i), *range(4))

# A script of the application that works as a limiter, of many threads at once.
limiter = r.register_script("""
    local n = redis.call('INCR', KEYS[1])
    if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
    if n > tonumber(ARGV[1]) then redis.call('INCR', KEYS[2]) return 0 end
    return 1""")
r.script_flush()
allowed = together(lambda i: sum(limiter([f"limit:{i % 3}", "refused"], [10, 100000]) for _ in range(20)), *range(6))
assert sum(allowed) == 30 and r.get("refused") == "90" and 0 < r.pttl("limit:0") <= 100000

# A connection that the server closes is opened anew; one that was idle is tried first.
name = connect(client_name="victim", health_check_interval=1)
assert name.ping()
[victim] = [c for c in r.client_list() if c["name"] == "victim"]
assert r.client_kill_filter(_id=victim["id"]) == 1
time.sleep(1.1)
assert name.set("again", 1) and name.get("again") == "1"
assert victim["id"] not in [c["id"] for c in r.client_list()] and name.client_getname() == "victim"
# In a transaction it is not: what was watched is not known any more.
with name.pipeline() as pipe:
    pipe.watch("again")
    r.client_kill_filter(_id=pipe.client_id())
    try:
        pipe.multi()
        pipe.get("again").execute()
        raise AssertionError("executed after the watching connection was closed")
    except (redis.WatchError, redis.ConnectionError):
        pass
assert name.get("again") == "1"

# A cache kept true by the server: a connection hears of what others change.
hearer = connect().pubsub()
hearer.subscribe("__redis__:invalidate")
assert hearer.get_message(timeout=20)["type"] == "subscribe"
hearer.ping()
eventually(lambda: hearer.get_message(timeout=1)["type"] == "pong")
[own] = [c["id"] for c in r.client_list() if c["sub"] == "1"]
reader = connect()
assert reader.client_tracking_on(clientid=int(own))
for i in range(10):
    reader.get(f"stay:{i}")
together(lambda i: connect().set(f"stay:{i}", "new"), *range(10))
gone = set()
while len(gone) < 10:
    message = hearer.get_message(timeout=20)
    gone.update(message["data"])
assert gone == {f"stay:{i}" for i in range(10)}

assert r.flushall() and r.dbsize() == 0
