"""Servers, load generators and tables for scripts/bench.

A server is a child process pinned to a core. CPU time is utime + stime of the
whole process from /proc/PID/stat, so threads of any kind are counted. While one
server is measured the others are stopped (SIGSTOP): their timers cost nothing.
"""

import contextlib
import csv
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 20
# A load generator that used this share of its core was the bottleneck.
GENERATOR_BOUND = 0.95


class BenchError(Exception):
    """The run cannot go on; the text says why."""


def log(text):
    print(text, file=sys.stderr, flush=True)


class Client:
    """The few commands that the runs themselves need, over one connection."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def command(self, *args):
        request = b"*%d\r\n" % len(args)
        for arg in args:
            arg = arg if isinstance(arg, bytes) else str(arg).encode()
            request += b"$%d\r\n%s\r\n" % (len(arg), arg)
        self.socket.sendall(request)
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        if not line:
            raise BenchError("the server closed the connection")
        kind, rest = line[:1], line[1:].strip()
        if kind == b"-":
            raise BenchError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(max(int(rest), 0))]
        return rest

    def close(self):
        self.reader.close()
        self.socket.close()


class Server:
    """A server process. `core` None leaves it unpinned."""

    def __init__(self, name, argv, port, core):
        self.name, self.port = name, port
        if shutil.which(argv[0]) is None:
            raise BenchError(f"{argv[0]} is not there; build it or name another")
        with contextlib.suppress(OSError):
            Client(port, 1).close()
            raise BenchError(f"port {port} is taken; choose another --port")
        self.home = tempfile.mkdtemp(prefix="coreslot-bench-")
        self.log = open(os.path.join(self.home, "log"), "wb")
        argv = [os.path.abspath(shutil.which(argv[0]))] + argv[1:]
        pinned = argv if core is None else ["taskset", "-c", str(core)] + argv
        self.process = subprocess.Popen(
            pinned, cwd=self.home, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        try:
            self._wait_until_ready()
        except BenchError:
            self.stop()
            raise

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                with open(self.log.name, "rb") as text:
                    tail = text.read()[-500:].decode(errors="replace")
                raise BenchError(f"{self.name} ended at start:\n{tail}")
            try:
                client = Client(self.port, 1)
                client.command("PING")
                client.close()
                return
            except (OSError, BenchError):
                time.sleep(0.05)
        raise BenchError(f"{self.name} does not answer on port {self.port}")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as text:
            fields = text.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def core_seconds(self):
        """CPU time of the thread that runs the commands: data core 0, or the only
        one that does."""
        tasks = f"/proc/{self.process.pid}/task"
        thread = self.process.pid
        for task in os.listdir(tasks):
            with contextlib.suppress(OSError), open(f"{tasks}/{task}/comm", encoding="ascii") as text:
                if text.read().strip() == "core-0":
                    thread = task
        with open(f"{tasks}/{thread}/schedstat", encoding="ascii") as text:
            return int(text.read().split()[0]) / 1e9

    def live_seconds(self):
        """CPU time of the threads that there are, in nanoseconds' steps where
        cpu_seconds goes in clock ticks."""
        spent = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with contextlib.suppress(OSError):
                with open(f"/proc/{self.process.pid}/task/{task}/schedstat", encoding="ascii") as text:
                    spent += int(text.read().split()[0])
        return spent / 1e9

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as text:
            return int(re.search(r"VmRSS:\s+(\d+) kB", text.read()).group(1)) * 1024

    def version(self):
        try:
            client = Client(self.port)
            info = (client.command("INFO", "server") or b"").decode()
            client.close()
        except (BenchError, AttributeError):
            return ""
        found = re.search(r"(?:coreslot|valkey|redis)_version:(\S+)", info)
        return found.group(1) if found else ""

    def flush(self):
        client = Client(self.port)
        client.command("FLUSHALL")
        client.close()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            self.resume()
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def running(*starts):
    """Starts servers in order, yields them, and stops them whatever happens."""
    with contextlib.ExitStack() as stack:
        servers = []
        for start in starts:
            servers.append(start())
            stack.callback(servers[-1].stop)
        yield servers


def turns(servers, rounds, measure):
    """A B A B ...: `measure(server)` gives a dict; returns name -> list of dicts."""
    results = {server.name: [] for server in servers}
    for server in servers:
        server.pause()
    try:
        for _ in range(rounds):
            for server in servers:
                server.resume()
                results[server.name].append(measure(server))
                server.pause()
    finally:
        for server in servers:
            server.resume()
    return results


def median(rounds, key):
    values = [one[key] for one in rounds if one[key] is not None]
    return statistics.median(values) if values else None


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def redis_benchmark(server, requests, args, core):
    """One redis-benchmark run: CPU microseconds per operation of the server,
    throughput, latency in milliseconds, and how busy the generator was."""
    argv = ["redis-benchmark", "-p", str(server.port), "-n", str(requests), "--csv"] + args
    if core is not None:
        argv = ["taskset", "-c", str(core)] + argv
    cpu, generator, wall = server.cpu_seconds(), children_seconds(), time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    cpu = server.cpu_seconds() - cpu
    wall = time.monotonic() - wall
    busy = (children_seconds() - generator) / wall
    rows = [row for row in csv.reader(done.stdout.splitlines()) if len(row) == 8 and row[0] != "test"]
    if done.returncode != 0 or not rows:
        text = (done.stderr + done.stdout).strip()[-400:]
        raise BenchError(f"redis-benchmark {' '.join(args)} on {server.name}: {text}")
    return {
        "cpu_us": cpu / requests * 1e6,
        "ops": float(rows[-1][1]),
        "p99_ms": float(rows[-1][6]),
        "generator_busy": busy,
        "bound": busy >= GENERATOR_BOUND,
    }


def open_loop(binary, server, core, args):
    """One coreslot-latency run: its JSON result and the server's CPU."""
    argv = [binary, "--port", str(server.port), "--json", "--quiet"] + [str(a) for a in args]
    if core is not None:
        argv = ["taskset", "-c", str(core)] + argv
    cpu = server.cpu_seconds()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    cpu = server.cpu_seconds() - cpu
    # 3: the generator fell behind; the result is there and says so.
    if done.returncode not in (0, 3) or not done.stdout:
        raise BenchError(f"coreslot-latency on {server.name}: {done.stderr.strip()[-400:]}")
    result = json.loads(done.stdout)
    result["cpu_us"] = cpu / max(result["requests"], 1) * 1e6
    return result


def fill(server, first, count, key=b"key:%012d", value=b"x" * 64, chunk=5000):
    """Sets keys first..first+count in pipelines; gives the seconds per chunk.
    All requests are encoded before the first is sent, a slab at a time."""
    head = b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key % 0), key, len(value), value)
    client = Client(server.port)
    seconds = []
    slab = 200 * chunk
    for start in range(first, first + count, slab):
        end = min(start + slab, first + count)
        chunks = [
            (b"".join([head % number for number in range(low, min(low + chunk, end))]), min(chunk, end - low))
            for low in range(start, end, chunk)
        ]
        for request, replies in chunks:
            began = time.perf_counter()
            client.socket.sendall(request)
            if client.reader.read(5 * replies) != b"+OK\r\n" * replies:
                raise BenchError(f"{server.name} did not answer SET with OK")
            seconds.append(time.perf_counter() - began)
    client.close()
    return seconds


def fill_collections(server, count, command, elements, chunk=200):
    """Makes so many collections, each by one command with these elements."""
    tail = b"".join(b"$%d\r\n%s\r\n" % (len(e), e) for e in elements)
    head = b"*%d\r\n$%d\r\n%s\r\n" % (2 + len(elements), len(command), command.encode())
    client = Client(server.port)
    for start in range(0, count, chunk):
        keys = [b"key:%012d" % number for number in range(start, min(start + chunk, count))]
        client.socket.sendall(b"".join(head + b"$16\r\n" + key + b"\r\n" + tail for key in keys))
        for _ in keys:
            client.reply()
    client.close()


def table(title, header, rows):
    """Prints a markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("| --- |" + " ---: |" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    sys.stdout.flush()


def number(value, digits=2):
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(ours, theirs, digits=2):
    """How many times theirs is ours: above 1 is better where less is better."""
    return "-" if not ours or theirs is None else f"{theirs / ours:.{digits}f}x"


def cpu_rows(cases, results):
    """Rows of: case, CPU ours, theirs, ratio, throughput of both."""
    rows = []
    for case in cases:
        ours, theirs = results[case]["coreslot"], results[case]["redis"]
        row = [
            case,
            number(median(ours, "cpu_us")),
            number(median(theirs, "cpu_us")),
            ratio(median(ours, "cpu_us"), median(theirs, "cpu_us")),
        ]
        row += [throughput(ours), throughput(theirs)]
        row += [number(median(rounds, "p99_ms"), 2) for rounds in (ours, theirs)]
        rows.append(row)
    return rows


CPU_HEADER = [
    "case", "coreslot, us CPU/op", "redis", "ratio",
    "coreslot, op/s", "redis", "coreslot, p99 ms", "redis",
]


def throughput(rounds):
    bound = sum(one["bound"] for one in rounds) * 2 >= len(rounds)
    return number(median(rounds, "ops"), 0) + ("*" if bound else "")
