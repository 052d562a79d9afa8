#!/usr/bin/env python3
"""What transactions cost: commits a second and their latency, Odradek and Apache Kafka in turn, in one run.

    cargo build --release -p server && python3 tests/bench/transactions.py --broker target/release/odradek

Options:
    --broker BIN         the release binary
    --driver uring|sync  handed to it (default uring)
    --rounds N           of which medians are told (default 3)
    --seconds N          of load for a case (default 6)
    --case NAME          only this one, as in the table; can be repeated
    --only odradek|kafka one broker alone
    --cache DIR          where jars, the load generator and the data are (default target/compat)

transactions.c on librdkafka is the load: each producer sends the records of a transaction to a partition of its own, waits until they are
acknowledged, commits, and begins the next at once; a consumer of read_committed reads along. librdkafka 2.0 speaks the first generation of
transactions, and takes 11 ms for each of them by itself; TransactionLoad.java has one producer of Java's client, which speaks the second. Both brokers run all the time, only one is
under load. Odradek's commits are on disk when they are answered, Apache Kafka's are in the page cache. "Whole" is a transaction from its
begin to its answered commit; "visible" is from the call of the commit until the consumer has the transaction's last record: what a
consumer of read_uncommitted would not have waited for. Broker CPU is user and system time of the broker's process, load CPU that of the
load's, its consumer's too: they share the cores, so the cores divided by the sum of both is more than can be committed in a second.

Ends with a table of medians (least to most) in Markdown.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import subprocess
import sys
import time

import common
import peer
from common import Failure

# The harness is beside this folder; `common` has made its path known.
from harness import install  # noqa: E402

# A case and the last of what it has committed; only a hang reaches it.
LOAD_TIMEOUT_S = 180
# What a start leaves behind is done by then.
SETTLE_S = 3
WARM_S = 5


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    producers: int
    records: int
    value_bytes: int
    client: str = "librdkafka"


CASES = (
    Case("1 record of 1 KiB, Java", 1, 1, 1024, "java"),
    Case("100 records of 1 KiB, Java", 1, 100, 1024, "java"),
    Case("10,000 records of 100 B, Java", 1, 10_000, 100, "java"),
    Case("1 record of 1 KiB", 1, 1, 1024),
    Case("1 record of 1 KiB, 16 producers", 16, 1, 1024),
    Case("100 records of 1 KiB", 1, 100, 1024),
    Case("100 records of 1 KiB, 16 producers", 16, 100, 1024),
    Case("10,000 records of 100 B", 1, 10_000, 100),
)
FIGURES = (
    ("commits_per_s", "commits/s", 1), ("commit_p50_ms", "commit p50 ms", 2), ("commit_p99_ms", "commit p99 ms", 1),
    ("whole_p50_ms", "whole p50 ms", 2), ("visible_p50_ms", "visible p50 ms", 2), ("visible_p99_ms", "visible p99 ms", 1),
    ("cpu_us_per_commit", "broker CPU us a commit", 0), ("load_cpu_us_per_commit", "load CPU us a commit", 0),
)


def measure(tools, load, server, case, seconds, topic):
    subprocess.run(["sync", "--file-system", server.folder], check=True)
    created = [tools.python, install.CLIENTS / "topic_client.py", server.address, "create", topic, case.producers]
    subprocess.run([str(word) for word in created], check=True, timeout=LOAD_TIMEOUT_S)
    if case.client == "java":
        command = tools.java(
            "-cp", f"{tools.jars}/*:{load.parent}", "TransactionLoad", server.address, topic, topic, case.records, case.value_bytes, seconds,
            heap_mb=256,
        )
    else:
        command = [
            load, "-b", server.address, "-t", topic, "-p", case.producers, "-r", case.records, "-s", case.value_bytes,
            "-d", seconds, "-i", topic,
        ]
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if not process.stdout.readline():
            raise Failure(f"{server.name}: no producer came to its first transaction")
        before = common.cpu_seconds(server.process.pid)
        load_before = common.cpu_seconds(process.pid) + _cpu_of_ended()
        told, _ = process.communicate("go\n", timeout=LOAD_TIMEOUT_S)
        used = common.cpu_seconds(server.process.pid) - before
        load_used = _cpu_of_ended() - load_before
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise Failure(f"{server.name}: {case.name}: exit {process.returncode}: {told.strip()}")
    measured = json.loads(told)
    a_commit = 1e6 / max(measured["committed"], 1)
    cost = {"cpu_us_per_commit": used * a_commit, "load_cpu_us_per_commit": load_used * a_commit}
    return measured | {"case": case.name, "broker": server.name} | cost


def _cpu_of_ended():
    """User and system time of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build_java(tools, folder):
    source = common.HERE / "TransactionLoad.java"
    command = ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars}/*", "-d", folder, source]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"TransactionLoad.java does not compile: {done.stdout.strip()}")


def main():
    arguments = _arguments()
    arguments.cache = arguments.cache.resolve()
    print(common.machine(), flush=True)
    folder, runs = arguments.cache / "bench" / "transactions-data", []
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    try:
        tools = install.install(arguments.cache, {"python", "jars"})
        load = common.build(arguments.cache / "bench", "transactions")
        build_java(tools, load.parent)
        with peer.running(arguments, folder) as servers:
            time.sleep(SETTLE_S)
            for case in cases:
                for server in servers:
                    measure(tools, load, server, case, WARM_S, f"warm-{CASES.index(case)}")
            for number in range(arguments.rounds):
                print(f"round {number + 1}", flush=True)
                for case in cases:
                    for server in peer.in_turn(servers, number):
                        run = measure(tools, load, server, case, arguments.seconds, f"load-{CASES.index(case)}-{number}")
                        runs.append(run)
                        print(f"  {server.name}: {case.name}: {run['commits_per_s']} commits/s", flush=True)
            names = [server.name for server in servers]
    except Failure as failure:
        print(f"FAIL {failure}")
        return 1
    _tell(runs, cases, names)
    return 0


def _tell(runs, cases, names):
    print(f"\n| transactions of | figure | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for case in cases:
        for key, unit, digits in FIGURES:
            of = [[run[key] for run in runs if (run["broker"], run["case"]) == (name, case.name) and key in run] for name in names]
            # There is no consumer beside Java's producer.
            if not all(of):
                continue
            print(f"| {case.name} | {unit} | {' | '.join(common.spread(values, digits) for values in of)} |")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--case", choices=[case.name for case in CASES], action="append")
    parser.add_argument("--only", choices=["odradek", "kafka"])
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
