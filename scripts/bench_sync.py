"""Cases of scripts/bench about full synchronizations, and how fast replicas apply."""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from bench_lib import BenchError, Server, fill, log, number, redis_benchmark, running, table
from bench_stream import (
    COST, SNAPSHOT_KEYS, SNAPSHOT_VALUE, command, extra_memory, info, kept, stalls, wait_for,
)

STALL_US = 2000
APPLY_REQUESTS = 6_000_000

# A replica that only reads, so that what is measured is the primary. It is a
# process of its own, and ends with the snapshot.
READER = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
# Redis refuses PSYNC while a reply is waiting.
s.sendall(b"REPLCONF capa eof capa psync2\\r\\n")
if s.recv(100) != b"+OK\\r\\n":
    sys.exit("the primary refuses REPLCONF")
s.sendall(b"PSYNC ? -1\\r\\n")
head = b""
while b"$" not in head or not head[head.index(b"$"):].count(b"\\n"):
    byte = s.recv(1)
    if not byte or head.endswith(b"-ERR"):
        sys.exit(f"the primary refuses PSYNC: {head}")
    head += byte
line = head[head.index(b"$"):].strip()
buffer, tail = bytearray(1 << 20), b""
left = None if line.startswith(b"$EOF:") else int(line[1:])
while left is None or left > 0:
    n = s.recv_into(buffer, len(buffer) if left is None else min(left, len(buffer)))
    if n == 0:
        sys.exit("the primary has hung up")
    if left is not None:
        left -= n
        continue
    tail = (tail + buffer[max(0, n - 40):n])[-40:]
    if tail == line[5:]:
        break
"""


@contextlib.contextmanager
def copying(bench, server):
    """While a replica takes its copy; gives what asks whether it still does."""
    argv = ["taskset", "-c", str(bench.args.load_core), sys.executable, "-c", READER, str(server.port)]
    with subprocess.Popen(argv) as reader:
        try:
            yield lambda: reader.poll() is None
            if reader.wait(600) != 0:
                raise BenchError(f"the copy from {server.name} did not come to its end")
        finally:
            if reader.poll() is None:
                reader.kill()


def stalls_and_events(bench, server):
    """The open loop's result, and what the server itself noticed meanwhile."""
    command(server, "CONFIG", "SET", "latency-monitor-threshold", str(STALL_US // 1000))
    command(server, "LATENCY", "RESET")
    result = stalls(bench, server, copying)
    events = command(server, "LATENCY", "LATEST")
    result["events"] = ", ".join(f"{e[0].decode()} {int(e[3])} ms" for e in events) or "none"
    return result


def case_fullsync(bench):
    keys = SNAPSHOT_KEYS // bench.scale
    rows = []
    header = [
        "server", "way", "throughput kept", "extra memory", "seconds", COST, "longest stall us", "p99.9 us",
        "max us", "generator's own max", f"events over {STALL_US // 1000} ms", "extra memory, open loop",
    ]
    for way in ("diskless", "by file"):
        for start in (bench.ours, bench.peer):
            with tempfile.TemporaryDirectory(prefix="coreslot-bench-") as folder:
                with running(lambda: start(folder, pinned=False)) as (server,):
                    rows.append([server.name, way] + fullsync(bench, server, way, keys))
                # Four of these take minutes each: what is known is told at once.
                log("fullsync: " + ", ".join(f"{name} {value}" for name, value in zip(header, rows[-1])))
    table(f"Full synchronization of {keys:,} values of {SNAPSHOT_VALUE} bytes under writes", header, rows)


def fullsync(bench, server, way, keys):
    settings = {
        "repl-diskless-sync": "yes" if way == "diskless" else "no", "repl-diskless-sync-delay": "0",
        # What is written meanwhile waits for a replica that reads only the copy.
        "client-output-buffer-limit": "replica 0 0 0",
    }
    for name, value in settings.items():
        command(server, "CONFIG", "SET", name, value)
    log(f"fullsync, {way}: filling {server.name}")
    fill(server, 0, keys, value=os.urandom(SNAPSHOT_VALUE // 2).hex().encode(), chunk=500)
    log(f"fullsync, {way}: {server.name} under load")
    share, extra, took, cost = kept(bench, server, copying)
    wait_for("the replica to go", lambda: info(server.port, "replication")["connected_slaves"] == "0")
    log(f"fullsync, {way}: {server.name} in an open loop")
    result = stalls_and_events(bench, server)
    # Once more, since looking at the memory stalls the server.
    with extra_memory(server) as extra_open:
        stalls(bench, server, copying)
    latency, lag = result["latency_us"], result["lag_us"]
    return (
        [f"{share:.0%}", f"{extra:.1%}", number(took, 0), cost, number(result["longest_stall_us"], 0)]
        + [number(latency["p99.9"], 0), number(latency["max"], 0), number(lag["max"], 0), result["events"], f"{extra_open():.1%}"]
    )


def replica_of(bench, server):
    """A replica of the same kind, on the generator's core."""
    port = bench.args.port + 6
    argv = [bench.args.peer if server.name == "redis" else bench.args.server, "--port", str(port), "--save", ""]
    if server.name != "redis" and not bench.args.plain:
        argv += ["--cores", "1"]
    argv += ["--replicaof", f"127.0.0.1 {server.port}", "--repl-timeout", "3600"]
    return Server("replica", argv, port, bench.args.load_core)


def catch_up(bench, server, replica):
    """Writes a second of the primary, and of the replica that was asleep
    meanwhile and has all of it before it in the backlog."""
    requests = APPLY_REQUESTS // bench.scale
    offset = lambda port: int(info(port, "replication")["master_repl_offset"])
    os.kill(replica.process.pid, signal.SIGSTOP)
    args = ["-t", "set", "-c", "50", "-P", "64", "-d", "64", "-r", "1000000"]
    written = redis_benchmark(server, requests, args, bench.args.load_core)["ops"]
    goal = offset(server.port)
    cpu, began = replica.cpu_seconds(), time.monotonic()
    os.kill(replica.process.pid, signal.SIGCONT)
    deadline = began + 600
    while offset(replica.port) < goal:
        if time.monotonic() > deadline:
            raise BenchError("the replica does not catch up")
        time.sleep(0.02)
    took = time.monotonic() - began
    return {"write": written, "apply": requests / took, "cpu_us": (replica.cpu_seconds() - cpu) / requests * 1e6}


def case_apply(bench):
    rows = []
    for start in (bench.ours, bench.peer):
        with running(start) as (server,):
            log(f"apply: {server.name}")
            for name, value in (("client-output-buffer-limit", "replica 0 0 0"), ("repl-timeout", "3600")):
                command(server, "CONFIG", "SET", name, value)
            fill(server, 0, 1_000_000 // bench.scale)
            with running(lambda: replica_of(bench, server)) as (replica,):
                up = lambda: info(replica.port, "replication").get("master_link_status") == "up"
                wait_for("the replica", up)
                runs = [catch_up(bench, server, replica) for _ in range(bench.args.rounds)]
        mid = lambda key: statistics.median(run[key] for run in runs)
        row = [server.name, number(mid("write"), 0), number(mid("apply"), 0)]
        rows.append(row + [f"{mid('apply') / mid('write'):.2f}x", number(mid("cpu_us"), 3)])
    header = ["server", "primary's writes a second, P=64", "applied a second", "over", "replica's CPU us per write"]
    table("How fast a replica of as many cores applies", header, rows)


CASES = {"fullsync": case_fullsync, "apply": case_apply}
