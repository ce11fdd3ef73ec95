"""Cases of scripts/bench about replication, the append-only file and snapshots."""

import contextlib
import os
import statistics
import tempfile
import threading
import time

from bench_lib import (
    TICK, BenchError, Client, Server, fill, log, number, ratio, redis_benchmark, running, table,
)

WAIT_SECONDS_MAX = 600
SNAPSHOT_KEYS = 5_000_000
SNAPSHOT_VALUE = 1024


def info(port, section):
    client = Client(port, WAIT_SECONDS_MAX)
    text = client.command("INFO", section).decode()
    client.close()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def command(server, *args):
    client = Client(server.port, WAIT_SECONDS_MAX)
    reply = client.command(*args)
    client.close()
    return reply


def wait_for(what, condition):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {WAIT_SECONDS_MAX} s for {what}")
        time.sleep(0.1)


def data_core_seconds(server):
    """CPU time of the threads that run commands (named core-N; the only
    thread of a peer that matters is its first)."""
    folder = f"/proc/{server.process.pid}/task"
    total = 0
    for task in os.listdir(folder):
        with open(f"{folder}/{task}/stat", encoding="ascii") as text:
            head, tail = text.read().rsplit(")", 1)
        if head.split("(", 1)[1].startswith("core-") or (server.name == "redis" and task == str(server.process.pid)):
            fields = tail.split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def writes(bench, server, requests, pipeline=16):
    """CPU of the data cores and of the process for one write, throughput."""
    cores = data_core_seconds(server)
    done = bench.run(server, requests, pipeline, ["-t", "set"])
    done["core_us"] = (data_core_seconds(server) - cores) / requests * 1e6
    return done


def over(with_it, without, key):
    ratios = [a[key] / b[key] for a, b in zip(with_it, without)]
    return f"{statistics.median(ratios):.2f}x"


def overhead(bench, title, switch_on, switch_off):
    """By turns with and without something that follows the writes."""
    rows = []
    requests = bench.requests(16)
    for start in (bench.ours, bench.peer):
        off, on = [], []
        with tempfile.TemporaryDirectory(prefix="coreslot-bench-") as folder, running(lambda: start(folder)) as (server,):
            log(f"{title}: {server.name}")
            fill(server, 0, 1_000_000 // bench.scale)
            for _ in range(bench.args.rounds):
                off.append(writes(bench, server, requests))
                with switch_on(server):
                    on.append(writes(bench, server, requests))
                switch_off(server)
        mid = lambda runs, key: number(statistics.median(one[key] for one in runs), 3)
        rows.append(
            [server.name, mid(off, "core_us"), mid(on, "core_us"), over(on, off, "core_us")]
            + [mid(off, "cpu_us"), mid(on, "cpu_us"), over(on, off, "cpu_us")]
        )
    header = ["server", "data core, us, without", "with", "over", "process, us, without", "with", "over"]
    table(f"SET P=16 with {title} over without", header, rows)


def case_replica(bench):
    port = bench.args.port + 5

    @contextlib.contextmanager
    def attached(server):
        argv = [bench.args.peer, "--port", str(port), "--save", "", "--replicaof", f"127.0.0.1 {server.port}"]
        with running(lambda: Server("replica", argv, port, bench.args.load_core)):
            wait_for("the replica", lambda: info(port, "replication").get("master_link_status") == "up")
            yield

    def detached(server):
        wait_for("the replica to go", lambda: info(server.port, "replication")["connected_slaves"] == "0")

    overhead(bench, "a replica", attached, detached)


def case_aof(bench):
    @contextlib.contextmanager
    def appending(server):
        # A rewrite is a cost of its own; see `snapshot`.
        command(server, "CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
        command(server, "CONFIG", "SET", "appendonly", "yes")
        done = lambda: info(server.port, "persistence")
        wait_for("the rewrite", lambda: (done()["aof_rewrite_in_progress"], done()["aof_rewrite_scheduled"]) == ("0", "0"))
        yield

    overhead(bench, "appendfsync everysec", appending, lambda server: command(server, "CONFIG", "SET", "appendonly", "no"))
    rows = []
    for start in (bench.ours, bench.peer):
        with tempfile.TemporaryDirectory(prefix="coreslot-bench-") as folder, running(lambda: start(folder)) as (server,):
            log(f"appendfsync always: {server.name}")
            command(server, "CONFIG", "SET", "appendfsync", "always")
            with appending(server):
                runs = [writes(bench, server, 30_000 // bench.scale, 1) for _ in range(bench.args.rounds)]
        rows.append([server.name, statistics.median(one["ops"] for one in runs), statistics.median(one["p99_ms"] for one in runs)])
    for row in rows:
        row.insert(2, ratio(rows[1][1], row[1]))
        row[1], row[3] = number(row[1], 0), number(row[3])
    table("SET P=1, 50 connections, appendfsync always", ["server", "op/s", "over redis", "p99 ms"], rows)


def resident(server):
    """Bytes resident for the process and its children, shared pages once."""
    pids, total = [server.process.pid], 0
    with contextlib.suppress(OSError), open(f"/proc/{pids[0]}/task/{pids[0]}/children", encoding="ascii") as text:
        pids += [int(pid) for pid in text.read().split()]
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as text:
            total += next(int(line.split()[1]) for line in text if line.startswith("Pss:")) * 1024
    return total


@contextlib.contextmanager
def saving(_, server):
    """While a snapshot is made; gives what asks whether it still is."""
    command(server, "BGSAVE")
    busy = lambda: info(server.port, "persistence")["rdb_bgsave_in_progress"] == "1"
    yield busy
    wait_for("the save", lambda: not busy())


def closed_loop(bench, server, until):
    """Short runs of writes, until something is over: operations a second, and
    microseconds of the data core's CPU time for one."""
    requests = 400_000
    args = ["-t", "set", "-c", "50", "-P", "16", "-d", str(SNAPSHOT_VALUE), "-r", str(SNAPSHOT_KEYS // bench.scale)]
    runs, costs = [], []
    while not runs or not until(len(runs)):
        cpu = server.core_seconds()
        runs.append(redis_benchmark(server, requests, args, bench.args.load_core)["ops"])
        costs.append((server.core_seconds() - cpu) / requests * 1e6)
    return statistics.median(runs), statistics.median(costs)


def watch_memory(server, stop, peak):
    while not stop.wait(1):
        peak[0] = max(peak[0], resident(server))


@contextlib.contextmanager
def extra_memory(server):
    """Watches a server's memory; gives what tells its peak over that of the
    beginning, minus 1."""
    memory, stop = resident(server), threading.Event()
    peak = [memory]
    watcher = threading.Thread(target=watch_memory, args=(server, stop, peak))
    watcher.start()
    try:
        yield lambda: peak[0] / memory - 1
    finally:
        stop.set()
        watcher.join()


COST = "data core, us a write: before, meanwhile"


def kept(bench, server, work):
    """Throughput during a work (see `saving`) over that before; extra memory
    over memory; the work's seconds; what a write costs the data core before and
    meanwhile, microseconds: on a machine with CPUs to spare, that decides."""
    before, cost = closed_loop(bench, server, lambda runs: runs == 5)
    with extra_memory(server) as extra:
        began = time.monotonic()
        with work(bench, server) as goes_on:
            during, cost_during = closed_loop(bench, server, lambda _: not goes_on())
            took = time.monotonic() - began
    return during / before, extra(), took, f"{cost:.2f}, {cost_during:.2f}"


def stalls(bench, server, work):
    """An open loop with a work from its second second on."""
    options = {
        "rate": 20_000, "pipeline": 1, "connections": 50, "keys": SNAPSHOT_KEYS // bench.scale,
        "value-size": SNAPSHOT_VALUE, "set-ratio": 1, "warmup": 1, "duration": 20, "stall-us": 500,
    }

    def run():
        with work(bench, server):
            pass

    timer = threading.Timer(3, run)
    timer.start()
    result = bench.open_loop(server, options)
    timer.join()
    return result


def case_snapshot(bench):
    rows = []
    keys = SNAPSHOT_KEYS // bench.scale
    for start in (bench.ours, bench.peer):
        # Not pinned: either has a second thread or process for the file.
        with tempfile.TemporaryDirectory(prefix="coreslot-bench-") as folder, running(lambda: start(folder, pinned=False)) as (server,):
            log(f"snapshot: filling {server.name}")
            fill(server, 0, keys, value=os.urandom(SNAPSHOT_VALUE // 2).hex().encode(), chunk=500)
            log(f"snapshot: {server.name} under load")
            share, extra, took, cost = kept(bench, server, saving)
            log(f"snapshot: {server.name} in an open loop")
            result = stalls(bench, server, saving)
        latency, lag = result["latency_us"], result["lag_us"]
        rows.append(
            [server.name, f"{share:.0%}", f"{extra:.1%}", number(took, 0), cost, number(result["longest_stall_us"], 0)]
            + [number(latency["p99.9"], 0), number(latency["max"], 0), number(lag["max"], 0)]
        )
    header = [
        "server", "throughput kept", "extra memory", "seconds", COST, "longest stall us",
        "p99.9 us", "max us", "generator's own max",
    ]
    table(f"BGSAVE of {keys:,} values of {SNAPSHOT_VALUE} bytes under writes", header, rows)


CASES = {"replica": case_replica, "aof": case_aof, "snapshot": case_snapshot}
