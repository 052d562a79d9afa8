#!/usr/bin/env python3
"""Odradek and Apache Kafka under the same load, in one run: first one, then the other, in every round.

    cargo build --release -p server && python3 tests/bench/peer.py --broker target/release/odradek

Options:
    --broker BIN         the release binary
    --driver uring|sync  handed to it (default uring)
    --rounds N           of which medians are told (default 3)
    --gb N               volume of a produce or consume (default 1)
    --warm-gb N          volume that each broker takes before the first round, so that the JVM has compiled (default 3)
    --only odradek|kafka one broker alone
    --cache DIR          where jars, the load generator and the data are (default target/compat)

Both brokers run all the time, on one machine, with one partition a topic; only one of them is under load. Before each case
everything dirty on the data's file system is written, so that neither pays for the other's page cache. Apache Kafka runs with the JVM flags
and the heap of its own start script, and its shipped settings. Broker CPU is user and system time of the broker's process.

Ends with a table of medians (least to most) in Markdown; every measurement is in bench/runs.json in the cache.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import common
from common import GIGABYTE, TUNED, VALUE_BYTES, Failure

# The harness is beside this folder; `common` has made its path known.
from harness import broker as brokers, install  # noqa: E402

RATE = 1000
RATE_SECONDS = 10
ACKS_ALL = ["acks=all"]
PROMPT_PRODUCER = ["acks=all", "linger.ms=0"]
PROMPT_CONSUMER = ["fetch.wait.max.ms=100"]


@dataclasses.dataclass(frozen=True)
class JavaTools(install.Tools):
    """The JVM as kafka-server-start.sh runs it, not the small one of the compatibility tests."""

    def java(self, *arguments, heap_mb):
        del heap_mb
        return [
            "java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
            f"-Dlog4j2.configurationFile={install.CLIENTS / 'java' / 'log4j2.properties'}", *arguments,
        ]


class Kafka(brokers.Kafka):
    def settle(self, topic=None):
        """The load generator waits for a leader itself."""


class Bench:
    def __init__(self, arguments, kload):
        self.arguments = arguments
        self.kload = kload
        self.count = int(arguments.gb * GIGABYTE / VALUE_BYTES)
        self.runs = []

    def case(self, name, server, mode, topic, *options, producer=(), consumer=()):
        subprocess.run(["sync", "--file-system", server.folder], check=True)
        pid = server.process.pid
        before = common.cpu_seconds(pid)
        measured = common.kload(self.kload, mode, server.address, topic, *options, producer=producer, consumer=consumer)
        used = common.cpu_seconds(pid) - before
        bytes_done = measured.get("bytes", 0)
        measured |= {"case": name, "broker": server.name, "broker_cpu_s": used, "cpu_s_per_gb": used / (bytes_done / GIGABYTE)}
        self.runs.append(measured)
        shown = {key: measured[key] for key in ("mb_per_s", "cpu_s_per_gb") if key in measured}
        print(f"  {server.name}: {name}: " + ", ".join(f"{key} {value:.2f}" for key, value in shown.items()), flush=True)

    def warm(self, server):
        count = int(self.arguments.warm_gb * GIGABYTE / VALUE_BYTES)
        if count:
            volume = ["-n", count, "-s", VALUE_BYTES]
            common.kload(self.kload, "produce", server.address, "warm", *volume, producer=ACKS_ALL)
            common.kload(self.kload, "consume", server.address, "warm", "-n", count)

    def round(self, number, server):
        volume = ["-n", self.count, "-s", VALUE_BYTES]
        default, tuned, rated = f"default-{number}", f"tuned-{number}", f"rate-{number}"
        self.case("produce, default batching", server, "produce", default, *volume, producer=ACKS_ALL)
        self.case("produce, tuned", server, "produce", tuned, *volume, producer=ACKS_ALL + TUNED)
        self.case("consume, first time", server, "consume", tuned, "-n", self.count)
        self.case("consume, again", server, "consume", tuned, "-n", self.count)
        self.case(
            f"{RATE} records/s", server, "latency", rated, "-n", RATE * RATE_SECONDS, "-s", VALUE_BYTES, "-r", RATE,
            producer=PROMPT_PRODUCER, consumer=PROMPT_CONSUMER,
        )


def main():
    arguments = _arguments()
    arguments.cache = arguments.cache.resolve()
    head = common.machine()
    print(head, flush=True)
    work = arguments.cache / "bench"
    folder = work / "data"
    try:
        bench = Bench(arguments, common.build(work, "kload"))
        with running(arguments, folder) as servers:
            for server in servers:
                bench.warm(server)
            for number in range(arguments.rounds):
                print(f"round {number + 1}", flush=True)
                for server in in_turn(servers, number):
                    bench.round(number, server)
    except Failure as failure:
        print(f"FAIL {failure}")
        return 1
    (work / "runs.json").write_text(json.dumps({"machine": head, "runs": bench.runs}, indent=1), encoding="utf-8")
    _tell(bench.runs, [server.name for server in servers])
    return 0


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gb", type=float, default=1)
    parser.add_argument("--warm-gb", type=float, default=3)
    parser.add_argument("--only", choices=["odradek", "kafka"])
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    return parser.parse_args()


@contextlib.contextmanager
def running(arguments, folder):
    """The brokers, started; stopped cleanly at the end, and gone with their data in any case."""
    shutil.rmtree(folder, ignore_errors=True)
    servers = []
    try:
        servers = _servers(arguments, folder)
        for server in servers:
            server.start()
        yield servers
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def in_turn(servers, number):
    """The brokers in the order of a round: neither is always the one that comes second."""
    return servers if number % 2 == 0 else reversed(servers)


def _servers(arguments, folder):
    servers = []
    if arguments.only != "kafka":
        shards = os.cpu_count()
        servers.append(brokers.Odradek(folder / "odradek", arguments.broker, arguments.driver, shards))
    if arguments.only != "odradek":
        jars = install.install(arguments.cache, {"jars"}).cache
        servers.append(Kafka(folder / "kafka", JavaTools(jars)))
    return servers


def _tell(runs, names):
    """Medians, with the least and the most, a line for each case and figure."""
    figures = [
        ("mb_per_s", "MB/s", 0), ("cpu_s_per_gb", "broker CPU-s/GB", 2), ("ack_p50_ms", "ack p50 ms", 2),
        ("ack_p99_ms", "ack p99 ms", 1), ("end_to_end_p50_ms", "end to end p50 ms", 2),
        ("end_to_end_p99_ms", "end to end p99 ms", 1),
    ]
    print(f"\n| case | figure | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for case in dict.fromkeys(run["case"] for run in runs):
        for key, unit, digits in figures:
            of = {name: [r[key] for r in runs if r["case"] == case and r["broker"] == name and key in r] for name in names}
            # At a fixed rate neither says anything.
            if not all(of.values()) or (case.endswith("/s") and key in ("mb_per_s", "cpu_s_per_gb")):
                continue
            cells = [common.spread(values, digits) for values in of.values()]
            print(f"| {case} | {unit} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
