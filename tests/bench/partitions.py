#!/usr/bin/env python3
"""Many idle connections, then many small producers over 1 to 1,000 active partitions: Odradek and Apache Kafka in turn, in one run.

    cargo build --release -p server -p tests && python3 tests/bench/partitions.py --broker target/release/odradek

Options:
    --broker BIN         the release binary; `partition_load` is looked for beside it
    --driver uring|sync  handed to it (default uring)
    --rounds N           of which medians are told (default 3)
    --seconds N          of load for a case (default 6)
    --batch-bytes N      of each request (default 16384)
    --partitions LIST    (default 1,10,100,1000)
    --connections LIST   idle ones, measured once, before the load (default 1000,9000)
    --only odradek|kafka one broker alone
    --cache DIR          where jars and the data are (default target/compat)

64 producers, each with one request of one batch in flight, acks=all. Odradek answers when it is on disk, Apache Kafka when
it is in the page cache. An idle connection has had answers to ApiVersions and Metadata. Ends with a table of medians (least to most) in Markdown.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import common
import idle_connections
import peer
from common import GIGABYTE, Failure
from harness import install

LOAD_TIMEOUT_S = 180
# What a start leaves behind is done by then.
SETTLE_S = 3
FIGURES = [
    ("mb_per_s", "MB/s", 1), ("cpu_s_per_gb", "broker CPU-s/GB", 2), ("ack_p50_ms", "ack p50 ms", 2), ("ack_p99_ms", "ack p99 ms", 1),
]

IDLE_FIGURES = [("kib", "KiB of memory each", 1), ("handles", "file handles each", 2)]


def measure(arguments, server, partitions, topic):
    subprocess.run(["sync", "--file-system", server.folder], check=True)
    command = [
        pathlib.Path(arguments.broker).resolve().parent / "partition_load", "--address", server.address, "--topic", topic,
        "--partitions", partitions, "--seconds", arguments.seconds, "--batch-bytes", arguments.batch_bytes,
    ]
    before = common.cpu_seconds(server.process.pid)
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, timeout=LOAD_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Failure(f"{server.name}: the load on {partitions} partitions failed")
    measured = json.loads(done.stdout)
    used = common.cpu_seconds(server.process.pid) - before
    return measured | {"broker": server.name, "cpu_s_per_gb": used / (max(measured["bytes"], 1) / GIGABYTE)}


def main():
    arguments = _arguments()
    arguments.cache = arguments.cache.resolve()
    print(common.machine(), flush=True)
    folder = arguments.cache / "bench" / "partitions"
    runs, idle = [], []
    connection_counts = [int(count) for count in arguments.connections.split(",")]
    counts = [int(count) for count in arguments.partitions.split(",")]
    try:
        with peer.running(arguments, folder) as servers:
            names = [server.name for server in servers]
            time.sleep(SETTLE_S)
            for count in connection_counts:
                for server in servers:
                    idle.append({"broker": server.name} | idle_connections.measure(server, count))
            for server in servers:
                measure(arguments, server, 10, "warm")
            for number in range(arguments.rounds):
                for count in counts:
                    for server in peer.in_turn(servers, number):
                        run = measure(arguments, server, count, f"load-{count}-{number}")
                        runs.append(run)
                        print(f"  {run['broker']}: {count} partitions: {run['mb_per_s']} MB/s", flush=True)
    except Failure as failure:
        print(f"FAIL {failure}")
        return 1
    _tell(runs, counts, names)
    _tell_idle(idle, connection_counts, names)
    return 0


def _tell(runs, counts, names):
    print(f"\n| active partitions | figure | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for count in counts:
        for key, unit, digits in FIGURES:
            cells = []
            for name in names:
                values = [run[key] for run in runs if run["partitions"] == count and run["broker"] == name]
                cells.append(common.spread(values, digits))
            print(f"| {count} | {unit} | {' | '.join(cells)} |")


def _tell_idle(idle, counts, names):
    print(f"\n| idle connections | figure | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for count in counts:
        for key, unit, digits in IDLE_FIGURES:
            cells = [f"{run[key]:.{digits}f}" for name in names for run in idle if (run["broker"], run["connections"]) == (name, count)]
            print(f"| {count} | {unit} | {' | '.join(cells)} |")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--batch-bytes", type=int, default=16384)
    parser.add_argument("--partitions", default="1,10,100,1000")
    parser.add_argument("--connections", default="1000,9000")
    parser.add_argument("--only", choices=["odradek", "kafka"])
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
