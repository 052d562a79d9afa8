#!/usr/bin/env python3
"""What small requests and idle connections cost where there is much: Odradek and Apache Kafka in turn, in one run.

    cargo build --release -p server && python3 tests/bench/apis.py --broker target/release/odradek

Options:
    --broker BIN         the release binary
    --driver uring|sync  handed to it (default uring)
    --rounds N           of which medians are told (default 3)
    --requests N         of each kind in a round (default 300)
    --connections N      idle ones (default 10000, or a hundred less than half of the file handles that are allowed)
    --only odradek|kafka one broker alone
    --cache DIR          where jars and the data are (default target/compat)

Idle connections are measured first, for Apache Kafka's partitions take as many file handles as they do. Then each broker gets 100 topics of
100 partitions and 1,000 groups with a committed offset. A case asks one thing over and over on one connection and only receives the answer's bytes. CPU is user and system time of the broker's process. Ends with a table of
medians (least to most) in Markdown.
"""

import argparse
import pathlib
import resource
import socket
import statistics
import struct
import sys
import time

import common
import peer
from common import Failure
from harness import install

TOPICS, PARTITIONS, GROUPS = 100, 100, 1000
# A partition in an answer to Metadata takes at least so much, so a shorter answer leaves some out.
PARTITION_BYTES_MIN = 26
TIMEOUT_S = 120
IDLE_S = 5
HANDLES = 40_000
OTHER_HANDLES = 100
# Per round before anything is measured, for the JVM's sake.
WARM_REQUESTS = 500
API_VERSIONS, METADATA, CREATE_TOPICS, FIND_COORDINATOR, OFFSET_COMMIT, LIST_GROUPS = 18, 3, 19, 10, 8, 16
FIGURES = [
    ("p50_ms", "p50 ms", 3), ("p99_ms", "p99 ms", 2), ("cpu_us", "broker CPU us a request", 0), ("kib", "KiB a connection", 1),
    ("open_us", "broker CPU us to open one", 0), ("idle_ms", f"broker CPU ms in {IDLE_S} idle seconds", 0), ("rss_mb", "broker memory MB", 0),
]


def _string(text):
    return struct.pack(">h", len(text)) + text.encode()


def _request(key, version, body, flexible=False):
    head = struct.pack(">hhi", key, version, 1) + _string("bench") + (b"\0" if flexible else b"")
    return struct.pack(">i", len(head) + len(body)) + head + body


PING = _request(API_VERSIONS, 0, b"")
ALL_TOPICS = _request(METADATA, 12, b"\0\0\0\0", flexible=True)
# A compact array of one topic: no id, a compact name, no tagged fields.
ONE_TOPIC = _request(METADATA, 12, b"\2" + bytes(16) + b"\4t-7\0\0\0\0", flexible=True)
ALL_GROUPS = _request(LIST_GROUPS, 4, b"\1\0", flexible=True)


class Connection:
    def __init__(self, server):
        self.socket = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(4 << 20)

    def ask(self, request):
        """The answer behind its size."""
        self.socket.sendall(request)
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size):
        view, filled = memoryview(self.buffer), 0
        while filled < size:
            count = self.socket.recv_into(view[filled:size])
            if count == 0:
                raise Failure("a connection was closed")
            filled += count
        return view[:size]


def fill(server):
    """Topics and groups; returns when the broker has nothing more to do about them."""
    connection = Connection(server)
    for first in range(0, TOPICS, 50):
        topics = b"".join(_string(f"t-{index}") + struct.pack(">ihii", PARTITIONS, 1, 0, 0) for index in range(first, first + 50))
        connection.ask(_request(CREATE_TOPICS, 4, struct.pack(">i", 50) + topics + struct.pack(">i?", TIMEOUT_S * 1000, False)))
    deadline = time.monotonic() + TIMEOUT_S
    while len(connection.ask(ALL_TOPICS)) < TOPICS * PARTITIONS * PARTITION_BYTES_MIN:
        _wait(deadline, f"{server.name} does not have its partitions")
    deadline = time.monotonic() + TIMEOUT_S
    for index in range(GROUPS):
        while error := _commit(connection, f"group-{index}"):
            _wait(deadline, f"{server.name} takes no commit: error {error}")
    while True:
        before = common.cpu_seconds(server.process.pid)
        time.sleep(1)
        if common.cpu_seconds(server.process.pid) - before < 0.05:
            return
        _wait(deadline, f"{server.name} does not come to rest")


def _wait(deadline, what):
    if time.monotonic() > deadline:
        raise Failure(what)
    time.sleep(0.1)


def _commit(connection, group):
    connection.ask(_request(FIND_COORDINATOR, 1, _string(group) + b"\0"))
    topic = struct.pack(">i", 1) + _string("t-0") + struct.pack(">iiqih", 1, 0, 1, -1, -1)
    body = _string(group) + struct.pack(">i", -1) + _string("") + struct.pack(">h", -1) + topic
    answer = connection.ask(_request(OFFSET_COMMIT, 7, body))
    (error,) = struct.unpack(">h", answer[-2:])
    return error


def resident_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise Failure("no memory")


def asked(server, case, request, count, connection=None):
    connection = connection or Connection(server)
    for _ in range(min(count, WARM_REQUESTS)):
        connection.ask(request)
    before, times = common.cpu_seconds(server.process.pid), []
    for _ in range(count):
        began = time.perf_counter()
        connection.ask(request)
        times.append((time.perf_counter() - began) * 1000)
    used = common.cpu_seconds(server.process.pid) - before
    return {
        "case": case, "broker": server.name, "p50_ms": statistics.median(times), "p99_ms": sorted(times)[len(times) * 99 // 100],
        "cpu_us": used / count * 1e6, "rss_mb": resident_mb(server.process.pid),
    }


def idle(server, count, requests):
    """Opens connections that say one thing, and asks beside them."""
    pid = server.process.pid
    busy = Connection(server)
    busy.ask(PING)
    memory, cpu = resident_mb(pid), common.cpu_seconds(pid)
    connections = []
    for _ in range(count):
        opened = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
        opened.sendall(PING)
        if not opened.recv(65536):
            raise Failure(f"{server.name} closed one of {count} connections")
        connections.append(opened)
    open_us = (common.cpu_seconds(pid) - cpu) / count * 1e6
    kib = (resident_mb(pid) - memory) * 1000 / 1024 * 1000 / count
    time.sleep(1)
    cpu = common.cpu_seconds(pid)
    time.sleep(IDLE_S)
    idle_ms = (common.cpu_seconds(pid) - cpu) * 1000
    run = asked(server, f"ApiVersions beside {count} idle connections", PING, requests, busy)
    for opened in connections:
        opened.close()
    return run | {"kib": kib, "open_us": open_us, "idle_ms": idle_ms}


def round_of(server, arguments):
    yield asked(server, "Metadata of all 10,000 partitions", ALL_TOPICS, arguments.requests)
    yield asked(server, "Metadata of one topic of 100", ONE_TOPIC, arguments.requests * 10)
    yield asked(server, "ListGroups of 1,000 groups", ALL_GROUPS, arguments.requests)
    yield asked(server, "ApiVersions", PING, arguments.requests * 10)


def idle_round_of(server, arguments):
    yield idle(server, arguments.connections, arguments.requests * 10)


def main():
    arguments = _arguments()
    arguments.cache = arguments.cache.resolve()
    print(common.machine(), flush=True)
    arguments.connections = min(arguments.connections, _raise_handles() // 2 - OTHER_HANDLES)
    runs = []
    try:
        with peer.running(arguments, arguments.cache / "bench" / "apis") as servers:
            names = [server.name for server in servers]
            _rounds(servers, arguments, idle_round_of, runs)
            for server in servers:
                fill(server)
            _rounds(servers, arguments, round_of, runs)
    except Failure as failure:
        print(f"FAIL {failure}")
        return 1
    _tell(runs, names)
    return 0


def _rounds(servers, arguments, cases, runs):
    for number in range(arguments.rounds):
        for server in peer.in_turn(servers, number):
            for run in cases(server, arguments):
                runs.append(run)
                print(f"  {run['broker']}: {run['case']}: p50 {run['p50_ms']:.3f} ms, {run['cpu_us']:.0f} us", flush=True)


def _raise_handles():
    """How many there are then: both ends of the idle connections need them, and Odradek keeps half of its own for files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(HANDLES, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (ValueError, OSError):
            continue
    return hard


def _tell(runs, names):
    print(f"\n| case | figure | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for case in dict.fromkeys(run["case"] for run in runs):
        for key, unit, digits in FIGURES:
            of = {name: [r[key] for r in runs if r["case"] == case and r["broker"] == name and key in r] for name in names}
            if all(of.values()):
                print(f"| {case} | {unit} | {' | '.join(common.spread(values, digits) for values in of.values())} |")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--only", choices=["odradek", "kafka"])
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
