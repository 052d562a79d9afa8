#!/usr/bin/env python3
"""Odradek's command line against Odradek and Apache Kafka: it says and does the same with both.

    python3 tests/compat/command_line.py --broker target/release/odradek --driver uring

Options:
    --broker BIN         the binary whose commands are run, and which is one of the two brokers
    --driver uring|sync  handed to the broker (default uring)
    --shards N           handed to the broker (default 2)
    --cache DIR          where jars are installed and logs are kept (default target/compat)

Every call is made to both brokers, one after the other; exit code, stdout and the refusal have to be the same, and what the
table expects has to be in it.

Prints one line per call and at the end `N passed, N failed`; the exit code is 0 only if calls were made and none failed.
"""

import json
import subprocess
import sys
import time

from harness import broker, program, report

TIMEOUT_S = 60

# Words, stdin, and what stdout or the refusal has to contain.
CALLS = (
    ("topic create t --partitions 2 --config retention.ms=5000000", "", "created t"),
    ("topic produce t --partition 0", "one\ntwo\nthree\n", "3 records"),
    ("config describe topic t --altered retention.ms cleanup.policy", "", "5000000"),
    ("config set topic t cleanup.policy=compact --dry-run", "", "would alter t"),
    ("config set topic t cleanup.policy=compact,delete max.message.bytes=1000", "", "altered t"),
    ("config describe topic t cleanup.policy max.message.bytes retention.ms --format json", "", '"topic"'),
    ("config delete topic t cleanup.policy max.message.bytes", "", "altered t"),
    ("config describe topic t cleanup.policy max.message.bytes", "", "default"),
    ("config set topic t retention.ms=x", "", "InvalidConfig"),
    ("config describe topic none", "", "UnknownTopicOrPartition"),
    ("config describe broker 1 node.id --format json", "", '"node.id"'),
    ("config set group g consumer.session.timeout.ms=50000", "", "altered g"),
    ("config describe group g consumer.session.timeout.ms", "", "50000"),
    ("config set client-metrics m interval.ms=1000", "", "altered m"),
    ("config describe client-metrics m interval.ms", "", "1000"),
    ("config delete client-metrics m interval.ms", "", "altered m"),
    ("topic alter t --partitions 3 --config retention.ms=6000000", "", "altered t"),
    ("topic list", "", "3"),
    ("topic alter t --partitions 2", "", "InvalidPartitions"),
    ("topic alter none --partitions 2", "", "UnknownTopicOrPartition"),
    ("topic trim t --before 2 --partition 0 --format json", "", '"start_offset": 2'),
    ("topic consume t --partition 0", "", "three"),
    ("topic trim t --before 9 --partition 0", "", "OffsetOutOfRange"),
    ("topic trim t --before latest", "", "START OFFSET BEFORE"),
    ("group seek mine --topic t --to latest", "", "NEW OFFSET"),
    ("group describe mine", "", "COMMITTED OFFSET"),
    ("group seek mine --topic t --to latest --execute", "", "NEW OFFSET"),
    ("group describe mine --format json", "", '"committed_offset": 3'),
    ("group seek mine --to @0 --execute", "", "3"),
    ("group list", "", "mine"),
    ("group delete mine", "", "deleted mine"),
    ("group delete mine", "", "GroupIdNotFound"),
    ("txn list", "", "TRANSACTIONAL ID"),
    ("txn describe nobody", "", ""),
    ("txn find-hanging --minutes 0", "", "START OFFSET"),
    ("txn abort t --partition 0 --start-offset 0", "", ""),
    ("topic delete t", "", "deleted t"),
)


def main():
    arguments = program.parse(program.parser(__doc__))
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "command-line-runs")

    def brokers():
        odradek = broker.Odradek(folder / "odradek", arguments.broker, arguments.driver, arguments.shards, [])
        return broker.Kafka(folder / "kafka", tools), odradek

    program.with_servers(brokers, lambda *servers: _compare(arguments, servers, results), results)
    return results.close()


def _compare(arguments, servers, results):
    for words, given, expected in CALLS:
        started = time.monotonic()
        kafka, odradek = (_said(arguments.broker, words, given, server) for server in servers)
        problem = None
        if kafka != odradek:
            problem = f"Apache Kafka: {kafka}; Odradek: {odradek}"
        elif expected not in odradek[1] + odradek[2]:
            problem = f"{expected!r} is not in {odradek}"
        results.add("command", words, problem, time.monotonic() - started)
    started = time.monotonic()
    results.add("command", "status", _status(arguments.broker, *servers), time.monotonic() - started)


def _status(binary, kafka, odradek):
    """What is wrong with it: the same is told of both clusters, and that Apache Kafka has no admin port."""
    told = []
    for server in (kafka, odradek):
        cluster = json.loads(_run(binary, "status --format json", "", server).stdout)["cluster"]
        told.append({name: cluster[name] for name in ("topics", "partitions", "leaderless_partitions", "groups", "largest_lags")})
    if told[0] != told[1] or told[0]["partitions"] == 0:
        return f"Apache Kafka: {told[0]}; Odradek: {told[1]}"
    slow = _run(binary, "status --slow", "", kafka)
    if slow.returncode != 1 or "which only Odradek has" not in slow.stderr:
        return f"the slow requests of Apache Kafka: exit {slow.returncode}: {slow.stdout}{slow.stderr}"
    return None


def _run(binary, words, given, server):
    command = [binary, *words.split(), "--bootstrap-server", server.address]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def _said(binary, words, given, server):
    """The exit code, stdout, and the error that the broker answered, without its words."""
    done = _run(binary, words, given, server)
    refusal = done.stderr.partition("answered ")[2].split(":")[0].split(";")[0].strip()
    return done.returncode, done.stdout, refusal


if __name__ == "__main__":
    sys.exit(main())
