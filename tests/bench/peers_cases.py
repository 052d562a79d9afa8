"""The cases of peers.py: each step takes one broker through something and yields `(case, figures)` for what was measured.

Figures of something else than that broker say of what, as `broker`. A step's topics are its own and gone when it ends. Sizes are those of a `Scale`.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import mmap
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time

import common
import peers_table as table
from common import GIGABYTE, TUNED, VALUE_BYTES, Failure
from harness import broker as brokers, install

ALL = ["acks=all"]
# How a measurement fails that is told, and ends no run.
NOT_MEASURED = (Failure, OSError, ValueError, subprocess.SubprocessError)
# What Apache Kafka does after a topic was created or deleted is done by then.
SETTLE_S = 2
SMALL_BYTES = 100
COLD_RATE = 10_000
HOT_READS = 3
START_BYTES = 4 * GIGABYTE
MEMORY_BYTES = 10 * GIGABYTE
MEMORY_PARTITIONS = 100
FDATASYNCS = 400
PROBE_BYTES, PROBE_PLACES, PROBE_PERIOD_S = 48 << 10, 100, 0.005
# Of which each of 1,000 partitions has 4 MiB, written over and over.
MANY_FILE_BYTES = 4 << 30
BLOCK_BYTES = 4096
# What each runtime appends.
APPEND_BYTES = 2 * GIGABYTE
TOOL_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True)
class Scale:
    produce_bytes: int
    small_bytes: int
    cold_bytes: int
    rate_seconds: int
    cold_seconds: int
    partition_seconds: int
    # Apache Kafka is busy with new partitions for so long.
    partition_warm_seconds: int


QUICK = Scale(GIGABYTE, GIGABYTE // 2, 2 * GIGABYTE, 12, 10, 8, 10)
FULL = Scale(2 * GIGABYTE, GIGABYTE, 4 * GIGABYTE, 60, 20, 15, 20)


class Bench:
    """The tools, and where data goes: that of the limits in `folder`."""

    def __init__(self, binary, kload, scale, folder, tools):
        self.tools = tools
        self.binary = pathlib.Path(binary).resolve()
        self.kload_binary = kload
        self.runtimes_binary = None
        self.scale = scale
        self.folder = folder

    def beside(self, name):
        return self.binary.parent / name

    def build_runtimes(self):
        """runtimes/ is outside the workspace, as are the runtimes that it compares."""
        target = self.kload_binary.parent / "runtimes-target"
        self.runtimes_binary = install.build_crate(common.HERE / "runtimes", target) / "bench-runtimes"

    def kload(self, mode, server, topic, *options, producer=(), consumer=()):
        return common.kload(self.kload_binary, mode, server.address, topic, *options, producer=producer, consumer=consumer)

    def topics(self, what, server, topic, *options):
        """Odradek's own tool speaks to either broker."""
        command = [self.binary, "topic", what, topic, "--bootstrap-server", server.address, *options]
        done = subprocess.run(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=TOOL_TIMEOUT_S, check=False,
        )
        if done.returncode != 0:
            raise Failure(f"{server.name}: topic {what} {topic}: {done.stdout.strip()}")

    @contextlib.contextmanager
    def topic(self, server, topic, partitions=1, settings=()):
        self.topics("create", server, topic, "--partitions", partitions, *(f"--config={setting}" for setting in settings))
        time.sleep(SETTLE_S)
        try:
            yield topic
        finally:
            # The case may have failed because the broker is gone.
            with contextlib.suppress(Failure):
                self.topics("delete", server, topic)


class Used:
    """The CPU that a broker uses inside of a `with`, and its memory at the end."""

    def __init__(self, server):
        self.server = server
        self.figures = {}

    def __enter__(self):
        subprocess.run(["sync", "--file-system", self.server.folder], check=True)
        self.before = common.cpu_split(self.server.process.pid)
        return self

    def __exit__(self, kind, _error, _trace):
        if kind is None:
            after = common.cpu_split(self.server.process.pid)
            self.user_s, self.system_s = after[0] - self.before[0], after[1] - self.before[1]
            self.figures = {"user_s": self.user_s, "system_s": self.system_s, **memory(self.server)}

    def of(self, measured):
        """What was measured, and what it cost."""
        gigabytes = max(measured["bytes"], 1) / GIGABYTE
        told = measured | self.figures | {
            "user_s_per_gb": self.user_s / gigabytes, "system_s_per_gb": self.system_s / gigabytes,
            "cpu_s_per_gb": (self.user_s + self.system_s) / gigabytes,
        }
        if "count" in measured:
            told["records_per_s"] = measured["count"] / measured["seconds"]
        return told


def memory(server):
    told = common.memory(server.process.pid)
    return {"rss_mb": told["Rss"], "pss_mb": told["Pss"]}


def volume(bytes_wanted, value_bytes):
    return ["-n", bytes_wanted // value_bytes, "-s", value_bytes]


def produced(bench, server, topic, settings, options):
    with Used(server) as used:
        measured = bench.kload("produce", server, topic, *options, producer=settings)
    return used.of(measured)


def consumed(bench, server, topic, options):
    """Reads a topic several times: CPU is counted in steps of 10 ms, and reading takes little of it."""
    return together([bench.kload("consume", server, topic, *options) for _ in range(HOT_READS)])


def together(reads):
    """What several reads, one after the other, did."""
    measured = {key: sum(read[key] for read in reads) for key in ("bytes", "count", "seconds")}
    return measured | {"mb_per_s": measured["bytes"] / measured["seconds"] / 1e6}


def produce_default(bench, server, number):
    with bench.topic(server, f"default-{number}") as topic:
        yield table.DEFAULT, produced(bench, server, topic, ALL, volume(bench.scale.produce_bytes, VALUE_BYTES))


def produce_tuned(bench, server, number):
    """And reads back what is still in memory."""
    options = volume(bench.scale.produce_bytes, VALUE_BYTES)
    with bench.topic(server, f"tuned-{number}") as topic:
        yield table.TUNED, produced(bench, server, topic, ALL + TUNED, options)
        with Used(server) as used:
            measured = consumed(bench, server, topic, options[:2])
        yield table.HOT, used.of(measured)


def produce_synced(bench, server, number):
    settings = ["flush.messages=1"] if server.name == table.KAFKA else []
    with bench.topic(server, f"synced-{number}", settings=settings) as topic:
        yield table.SYNCED, produced(bench, server, topic, ALL + TUNED, volume(bench.scale.produce_bytes // 4, VALUE_BYTES))


def produce_small(bench, server, number):
    with bench.topic(server, f"small-{number}") as topic:
        yield table.SMALL, produced(bench, server, topic, ALL, volume(bench.scale.small_bytes, SMALL_BYTES))


def drop_cache(server):
    """Takes the clean pages of the broker's files from memory; what is dirty stays, for a sync would disturb the producers."""
    for path in server.data_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def consume_cold(bench, server, number):
    """A consumer reads all of a topic that is on disk alone, again and again, while a producer writes to another at a rate."""
    filled = volume(bench.scale.cold_bytes, VALUE_BYTES)
    load = ["-n", COLD_RATE * bench.scale.cold_seconds, "-s", VALUE_BYTES, "-r", COLD_RATE]
    settings = {"producer": [*ALL, "linger.ms=5"], "consumer": ["fetch.wait.max.ms=100"]}
    with bench.topic(server, f"cold-{number}") as cold, bench.topic(server, f"beside-{number}") as beside, \
            bench.topic(server, f"alone-{number}") as alone:
        bench.kload("produce", server, cold, *filled, producer=ALL + TUNED)
        undisturbed = bench.kload("latency", server, alone, *load, **settings)
        with Used(server) as used:
            drop_cache(server)
            running = common.start_kload(bench.kload_binary, "latency", server.address, beside, *load, **settings)
            reads = []
            try:
                while running.poll() is None:
                    reads.append(bench.kload("consume", server, cold, *filled[:2]))
                    drop_cache(server)
                disturbed = common.finish_kload(running, "latency", beside)
            finally:
                running.kill()
                running.wait()
        # The last one ended without producers, if there was another.
        reads = reads[:-1] or reads
        measured = together(reads)
        latencies = {key: value for key, value in disturbed.items() if key.endswith("_ms")}
        yield table.COLD, {
            **used.figures, **measured, **latencies, "undisturbed_p99_ms": undisturbed["ack_p99_ms"], "reads": len(reads),
        }
        if server.name == table.ODRADEK:
            yield from probes(bench, server, cold, filled[:2])


def probes(bench, server, cold, volume_read):
    """What a write and its sync take that no broker is behind: alone, and while a consumer reads what is cold."""
    seconds = bench.scale.cold_seconds // 2
    yield table.PROBE, {"broker": table.DISK, **written_and_synced(bench.folder, seconds)}
    over = threading.Event()

    def read():
        while not over.is_set():
            drop_cache(server)
            bench.kload("consume", server, cold, *volume_read)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        try:
            beside = written_and_synced(bench.folder, seconds)
        finally:
            over.set()
        # Without its reads the figure would say nothing.
        reading.result()
    yield table.PROBE_BESIDE, {"broker": table.DISK, **beside}


def latency(bench, server, number):
    for rate in table.RATES:
        # As MEASURED: at a low rate each record is sent at once.
        linger = "linger.ms=0" if rate <= 1000 else "linger.ms=5"
        load = ["-n", rate * bench.scale.rate_seconds, "-s", VALUE_BYTES, "-r", rate]
        with bench.topic(server, f"rate-{rate}-{number}") as topic:
            with Used(server) as used:
                measured = bench.kload("latency", server, topic, *load, producer=[*ALL, linger], consumer=["fetch.wait.max.ms=100"])
            yield table.rate_case(rate), used.of(measured)


def partition_load(bench, server, topic, partitions, seconds, producers=64, batch_bytes=16384, acks=-1):
    command = [
        bench.beside("partition_load"), "--address", server.address, "--topic", topic, "--partitions", partitions,
        "--producers", producers, "--seconds", seconds, "--batch-bytes", batch_bytes, "--acks", acks,
    ]
    return told_by(command, f"{server.name}: the load on {partitions} partitions")


def told_by(command, what):
    """The line of JSON that a program prints; a `Failure` with its last words if it failed."""
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=common.LOAD_TIMEOUT_S, check=False,
    )
    if done.returncode != 0:
        raise Failure(f"{what} failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def many_partitions(bench, server, number):
    for case, partitions in ((table.ONE, 1), (table.MANY, 1000)):
        with bench.topic(server, f"many-{partitions}-{number}", partitions) as topic:
            warm = bench.scale.partition_warm_seconds if partitions > 1 else 3
            partition_load(bench, server, topic, partitions, warm)
            with Used(server) as used:
                measured = partition_load(bench, server, topic, partitions, bench.scale.partition_seconds)
            yield case, used.of(measured)


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def leads(server, topic):
    """Whether the broker answers, and leads the topic's first partition (no topic: whether it answers)."""
    names = struct.pack(">i", 1) + string(topic) if topic else struct.pack(">i", 0)
    body = struct.pack(">hhi", 3, 1, 1) + string("bench") + names
    try:
        with socket.create_connection((server.host, server.port), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            stream = connection.makefile("rb")
            (size,) = struct.unpack(">i", stream.read(4))
            answer = stream.read(size)
    except (OSError, struct.error):
        return False
    return leader_of(answer) >= 0 if topic else len(answer) == size


def leader_of(answer):
    """The leader of the one partition of the one topic in an answer to Metadata 1; -1 if there is none."""
    position = 4

    def take(form):
        nonlocal position
        values = struct.unpack_from(form, answer, position)
        position += struct.calcsize(form)
        return values

    def skip_string():
        nonlocal position
        (length,) = take(">h")
        position += max(length, 0)

    try:
        for _ in range(take(">i")[0]):
            take(">i")
            skip_string()
            take(">i")
            skip_string()
        take(">ii")
        (topic_error,) = take(">h")
        skip_string()
        take(">?i")
        error, _partition, leader = take(">hii")
    except struct.error:
        return -1
    return leader if (topic_error, error) == (0, 0) else -1


def started(server, topic=None):
    """Milliseconds from fork until it answers, and leads what it has."""
    server.prepare()
    began = time.monotonic()
    server.launch()
    while not leads(server, topic):
        if server.process.poll() is not None:
            raise Failure(f"{server.name} exited with {server.process.returncode}{server.log_tail()}")
        if time.monotonic() - began > ANSWER_TIMEOUT_S:
            raise Failure(f"{server.name} does not serve{server.log_tail()}")
        time.sleep(0.001)
    return (time.monotonic() - began) * 1000


def starts(bench, server, _number):
    """A broker of its own: started on nothing, with 4 GB after a clean stop, and after kill -9 under load."""
    fresh = server.sibling("starts")
    try:
        yield table.START, {"start_ms": started(fresh), **memory(fresh)}
        bench.topics("create", fresh, "filled", "--partitions", 1)
        time.sleep(SETTLE_S)
        bench.kload("produce", fresh, "filled", *volume(START_BYTES, VALUE_BYTES), producer=ALL + TUNED)
        fresh.stop()
        yield table.RESTART, {"start_ms": started(fresh, "filled"), **memory(fresh)}
        load = common.start_kload(
            bench.kload_binary, "produce", fresh.address, "filled", *volume(START_BYTES, VALUE_BYTES), producer=ALL + TUNED
        )
        try:
            time.sleep(0.5)
            fresh.process.send_signal(signal.SIGKILL)
            fresh.process.wait()
        finally:
            load.kill()
            load.wait()
        yield table.KILLED, {"start_ms": started(fresh, "filled"), **memory(fresh)}
        fresh.stop()
    finally:
        fresh.kill()
        shutil.rmtree(fresh.folder, ignore_errors=True)


def memory_after(bench, server, _number):
    fresh = server.sibling("memory")
    try:
        started(fresh)
        bench.topics("create", fresh, "spread", "--partitions", MEMORY_PARTITIONS)
        time.sleep(SETTLE_S)
        options = [*volume(MEMORY_BYTES, VALUE_BYTES), "-P", MEMORY_PARTITIONS]
        with Used(fresh) as used:
            measured = bench.kload("produce", fresh, "spread", *options, producer=ALL + TUNED)
        yield table.MEMORY, used.of(measured)
    finally:
        fresh.kill()
        shutil.rmtree(fresh.folder, ignore_errors=True)


class Limit(brokers.Broker):
    """tests/src/bin/limits.rs, as if it was a broker. A file makes it one that writes."""

    def __init__(self, folder, binary, name, mode):
        super().__init__(folder)
        self.binary, self.name, self.mode = binary, name, mode

    def start(self, file_bytes=0):
        path = None
        if self.mode == "write":
            path = self.folder / "log"
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, file_bytes)
        self._spawn(self.command(path), stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("ready"):
            raise Failure(f"{self.name}: it did not start{self.log_tail()}")

    def command(self, path):
        return [self.binary, "--listen", self.address, "--mode", self.mode, *(["--file", path] if path else [])]

    def kill(self):
        super().kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class ManyLimit(Limit):
    """manylimit.c: the same under many producers, over many partitions."""

    def __init__(self, folder, binary, name, mode, partitions):
        super().__init__(folder, binary, name, mode)
        self.partitions = partitions

    def command(self, path):
        return [self.binary, "-l", self.port, "-p", self.partitions, *(["-f", path] if path else [])]


def limits(bench, number):
    """Yields `(limit, case, figures)`: what the same load costs where nothing else is done."""
    options = volume(bench.scale.produce_bytes, VALUE_BYTES)
    folder, binary = bench.folder / "limit", bench.beside("limits")

    def produce(settings):
        return lambda limit: bench.kload("produce", limit, "limit", *options, producer=settings)

    def spread(seconds):
        return lambda limit: partition_load(bench, limit, "limit", limit.partitions, seconds)

    loads = (
        (table.CLIENT_LIMIT, "null", table.DEFAULT, produce(ALL)),
        (table.CLIENT_LIMIT, "null", table.TUNED, produce(ALL + TUNED)),
        (table.WRITE_LIMIT, "write", table.DEFAULT, produce(ALL)),
        (table.WRITE_LIMIT, "write", table.TUNED, produce(ALL + TUNED)),
        (table.SEND_LIMIT, "send", table.HOT, lambda limit: consumed(bench, limit, "limit", options[:2])),
    )
    for name, mode, case, load in loads:
        limit = Limit(folder, binary, name, mode)
        # Twice: the heads of the requests are written too, and the file ends at whole stretches.
        yield name, case, under_load(limit, bench.scale.produce_bytes * 2, load)
    binary, seconds = common.build(bench.kload_binary.parent, "manylimit"), bench.scale.partition_seconds
    for name, mode in ((table.CLIENT_LIMIT, "null"), (table.WRITE_LIMIT, "write")):
        for case, partitions in ((table.ONE, 1), (table.MANY, 1000)):
            limit = ManyLimit(folder, binary, name, mode, partitions)
            yield name, case, under_load(limit, MANY_FILE_BYTES, spread(seconds), warm=spread(seconds // 2))
    yield table.DISK, table.SYNC, fdatasync(bench.folder)
    yield from runtimes(bench, number)


def runtimes(bench, number):
    """runtimes/: the same appends on the project's runtime and on others, another one first in each round."""
    names = ("odradek", "glommio", "tokio-uring")
    first = number % len(names)
    for name in names[first:] + names[:first]:
        command = [bench.runtimes_binary, "--runtime", name, "--file", bench.folder / "appended", "--bytes", APPEND_BYTES]
        try:
            figures = told_by(command, "the appends")
        except NOT_MEASURED as error:
            figures = {"error": f"{error}"}
        yield f"the runtime {name}", table.APPEND, figures


def under_load(limit, file_bytes, load, warm=lambda _limit: None):
    """What a limit does and costs under a load, or why it did not."""
    try:
        limit.start(file_bytes)
        warm(limit)
        with Used(limit) as used:
            measured = load(limit)
        return used.of(measured)
    except NOT_MEASURED as error:
        return {"error": f"{error}"}
    finally:
        limit.kill()


def written_and_synced(folder, seconds):
    """A write of 48 KiB, O_DIRECT into space that was written before, and its fdatasync, 200 times a second: both together."""
    times = []
    with written_before(folder, PROBE_BYTES, PROBE_PLACES) as (handle, data):
        due = time.perf_counter()
        until = due + seconds
        while due < until:
            time.sleep(max(0, due - time.perf_counter()))
            os.pwrite(handle, data, len(times) % PROBE_PLACES * PROBE_BYTES)
            os.fdatasync(handle)
            # From when it was due, as the load's latencies.
            times.append(time.perf_counter() - due)
            due += PROBE_PERIOD_S
    return percentiles(times)


def fdatasync(folder):
    """What an fdatasync takes behind 4 KiB of O_DIRECT into space that was written before."""
    times = []
    with written_before(folder, BLOCK_BYTES, FDATASYNCS) as (handle, block):
        for index in range(FDATASYNCS):
            os.pwrite(handle, block, index * BLOCK_BYTES)
            began = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - began)
    return percentiles(times)


@contextlib.contextmanager
def written_before(folder, data_bytes, places):
    """A file that was written and synced so many times that long, opened O_DIRECT, and aligned memory of that length."""
    path = folder / "written"
    with mmap.mmap(-1, data_bytes) as data:
        with open(path, "wb") as file:
            file.write(bytes(data_bytes * places))
            file.flush()
            os.fsync(file.fileno())
        handle = os.open(path, os.O_WRONLY | os.O_DIRECT)
        try:
            yield handle, data
        finally:
            os.close(handle)
            path.unlink()


def percentiles(seconds):
    times = sorted(one * 1000 for one in seconds)
    return {"fdatasync_p50_ms": statistics.median(times), "fdatasync_p99_ms": times[len(times) * 99 // 100]}


# Name for --step, and the step.
HEADLINE = {
    "default": produce_default, "tuned": produce_tuned, "synced": produce_synced, "small": produce_small, "cold": consume_cold,
    "latency": latency, "partitions": many_partitions, "starts": starts,
}
# Taken in the first round alone: their figures do not differ much and they take long.
ONCE = {"memory": memory_after}
